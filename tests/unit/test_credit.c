/* SPDX-License-Identifier: Apache-2.0 */
#include "server/credit.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum { WINDOW = 8 << 20, FRAME_MAX = 1075232 };

static void
nothing_may_be_sent_before_the_first_grant(void **state)
{
	struct credit c;

	(void)state;
	credit_init(&c, WINDOW, 0);
	assert_false(credit_take(&c, 1, 1));
	assert_int_equal(credit_grant(&c, WINDOW), WINDOW);
	assert_true(credit_take(&c, 1, WINDOW));
	assert_false(credit_take(&c, 2, 1));
}

static void
a_frame_beyond_the_grant_is_not_counted(void **state)
{
	struct credit c;

	(void)state;
	credit_init(&c, WINDOW, 0);
	credit_grant(&c, WINDOW);
	assert_false(credit_take(&c, 1, WINDOW + 1));
	assert_int_equal(c.received_bytes, 0);
	assert_true(credit_take(&c, 1, 100));
}

static void
an_acknowledgement_of_all_gives_the_whole_window_again(void **state)
{
	struct credit c;

	(void)state;
	credit_init(&c, WINDOW, 41);
	credit_grant(&c, WINDOW);
	for (uint64_t s = 42; s < 50; s++)
		assert_true(credit_take(&c, s, 1000));
	credit_acked(&c, 49);
	assert_int_equal(credit_grant(&c, WINDOW), WINDOW + 8000);
}

static void
withheld_credit_stays_where_it_is_and_comes_later(void **state)
{
	struct credit c;

	(void)state;
	credit_init(&c, WINDOW, 0);
	assert_int_equal(credit_grant(&c, 0), 0);
	assert_int_equal(credit_grant(&c, WINDOW), WINDOW);
	assert_true(credit_take(&c, 1, 5000));
	credit_acked(&c, 1);
	assert_int_equal(credit_grant(&c, 0), WINDOW);
	assert_int_equal(credit_grant(&c, WINDOW), WINDOW + 5000);
}

static void
a_smaller_window_takes_nothing_back_and_holds_from_then_on(void **state)
{
	struct credit c;

	(void)state;
	credit_init(&c, WINDOW, 0);
	assert_int_equal(credit_grant(&c, WINDOW), WINDOW);
	assert_int_equal(credit_grant(&c, WINDOW / 4), WINDOW);
	assert_true(credit_take(&c, 1, WINDOW));
	credit_acked(&c, 1);
	assert_int_equal(credit_grant(&c, WINDOW / 4), WINDOW + WINDOW / 4);
}

/* Against a model that remembers every frame: the grant is never above what is right, never more than a 32nd of the
 * window below it, and never falls; and the agent that respects it is never stuck. */
static void
random_streams_agree_with_the_model(void **state)
{
	const char *text = getenv("SEED");
	unsigned seed = text != NULL ? (unsigned)atoi(text) : (unsigned)time(NULL);
	static uint64_t ends[200001]; /* bytes up to and with frame i */
	uint64_t sent = 0, acked = 0, granted, before = 0;
	struct credit c;

	(void)state;
	printf("SEED=%u\n", seed);
	srand(seed);
	credit_init(&c, WINDOW, 0);
	for (unsigned step = 0; step < 400000 && sent < 200000; step++) {
		granted = credit_grant(&c, WINDOW);
		assert_true(granted >= before);
		assert_true(granted <= ends[acked] + WINDOW);
		assert_true(granted + WINDOW / 32 + FRAME_MAX >= ends[acked] + WINDOW);
		if (acked == sent)
			assert_int_equal(granted, ends[acked] + WINDOW);
		before = granted;
		if (rand() % 3 != 0) {
			uint64_t bytes =
			    rand() % 4 == 0 ? 1 + (uint64_t)rand() % FRAME_MAX : 1 + (uint64_t)rand() % 5000;

			if (ends[sent] + bytes > granted) {
				assert_false(credit_take(&c, sent + 1, bytes));
				continue;
			}
			assert_true(credit_take(&c, sent + 1, bytes));
			ends[sent + 1] = ends[sent] + bytes;
			sent++;
		} else if (acked < sent) {
			acked += 1 + (uint64_t)rand() % (sent - acked);
			credit_acked(&c, acked);
		}
	}
	assert_true(sent > 1000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(nothing_may_be_sent_before_the_first_grant),
	    cmocka_unit_test(a_frame_beyond_the_grant_is_not_counted),
	    cmocka_unit_test(an_acknowledgement_of_all_gives_the_whole_window_again),
	    cmocka_unit_test(withheld_credit_stays_where_it_is_and_comes_later),
	    cmocka_unit_test(a_smaller_window_takes_nothing_back_and_holds_from_then_on),
	    cmocka_unit_test(random_streams_agree_with_the_model),
	};

	return cmocka_run_group_tests_name("credit", tests, NULL, NULL);
}
