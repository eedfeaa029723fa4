/* SPDX-License-Identifier: Apache-2.0 */
#include "server/api_kept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <event2/buffer.h>

#include "proto/common/units.h"

#define T0    (1000 * NS_PER_SECOND)
#define TURNS 5
#define MS(n) ((n) * (NS_PER_SECOND / 1000))

static int
set_up(void **state)
{
	*state = calloc(1, sizeof(struct kept));
	return *state == NULL;
}

static int
tear_down(void **state)
{
	kept_drop(*state, 0);
	free(*state);
	return 0;
}

static void
expect_text(struct evbuffer *body, const char *text)
{
	assert_int_equal(evbuffer_get_length(body), strlen(text));
	assert_memory_equal(evbuffer_pullup(body, -1), text, strlen(text));
	evbuffer_free(body);
}

/* Written in pieces, as lists are. */
static void
add(struct kept *k, const char *question, int64_t worked_ns, const char *text)
{
	const struct kept_moment begun = {.at_ns = T0, .turns = TURNS};
	struct evbuffer *body = evbuffer_new();

	evbuffer_add_reference(body, text, 1, NULL, NULL);
	evbuffer_add_reference(body, text + 1, strlen(text + 1), NULL, NULL);
	kept_add(k, question, &begun, worked_ns, 503, "text/plain", &body);
	expect_text(body, text); /* it can still be sent */
}

/* When sources have turned so often since. NULL: none. */
static struct evbuffer *
find_turned(struct kept *k, const char *question, int64_t after_ns, uint64_t turns)
{
	const struct kept_moment now = {.at_ns = T0 + after_ns, .turns = TURNS + turns};
	const char *content_type;
	int http_status;
	struct evbuffer *body = kept_find(k, question, &now, &http_status, &content_type);

	if (body != NULL) {
		assert_int_equal(http_status, 503);
		assert_string_equal(content_type, "text/plain");
	}
	return body;
}

static struct evbuffer *
find(struct kept *k, const char *question, int64_t after_ns)
{
	return find_turned(k, question, after_ns, 0);
}

static void
an_answer_serves_many_and_not_for_long(void **state)
{
	add(*state, "q", MS(1), "answer");
	expect_text(find(*state, "q", MS(1)), "answer");
	expect_text(find(*state, "q", MS(249)), "answer");
	assert_null(find(*state, "q", MS(250)));
	assert_null(find(*state, "other", MS(1)));
}

static void
what_took_long_to_write_is_kept_for_longer_but_a_second_at_most(void **state)
{
	add(*state, "slow", MS(30), "answer");
	expect_text(find(*state, "slow", MS(599)), "answer");
	assert_null(find(*state, "slow", MS(600)));
	add(*state, "slower", MS(3000), "answer");
	expect_text(find(*state, "slower", MS(999)), "answer");
	assert_null(find(*state, "slower", MS(1000)));
}

static void
an_answer_from_before_a_source_turned_serves_nobody(void **state)
{
	add(*state, "q", 0, "answer");
	assert_null(find_turned(*state, "q", MS(1), 1));
	expect_text(find(*state, "q", MS(1)), "answer");
}

static void
sources_that_turn_all_the_time_have_it_written_no_more_often_than_it_is_worth(void **state)
{
	add(*state, "q", MS(2), "answer");
	expect_text(find_turned(*state, "q", MS(39), 7), "answer");
	assert_null(find_turned(*state, "q", MS(40), 7));
}

static void
a_newer_answer_takes_the_place_of_the_older(void **state)
{
	struct kept *k = *state;

	add(k, "q", 0, "old");
	add(k, "q", 0, "new");
	expect_text(find(k, "q", 0), "new");
	assert_int_equal(k->next, 1);
}

static void
when_there_are_too_many_the_oldest_gives_way(void **state)
{
	char question[16];

	for (int i = 0; i <= KEPT_ANSWERS; i++) {
		snprintf(question, sizeof question, "q%d", i);
		add(*state, question, 0, question);
	}
	assert_null(find(*state, "q0", 0));
	expect_text(find(*state, "q1", 0), "q1");
	expect_text(find(*state, question, 0), question);
}

static void
dropped_answers_are_gone(void **state)
{
	add(*state, "q", 0, "answer");
	add(*state, "other", 0, "answer");
	kept_drop(*state, T0);
	assert_null(find(*state, "q", 0));
	assert_null(find(*state, "other", 0));
}

static void
an_answer_that_was_being_written_when_all_were_dropped_is_not_kept(void **state)
{
	kept_drop(*state, T0 + 1);
	add(*state, "q", 0, "answer");
	assert_null(find(*state, "q", 0));
	kept_drop(*state, T0);
	add(*state, "q", 0, "answer");
	expect_text(find(*state, "q", 0), "answer");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(an_answer_serves_many_and_not_for_long, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		what_took_long_to_write_is_kept_for_longer_but_a_second_at_most, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(an_answer_from_before_a_source_turned_serves_nobody, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		sources_that_turn_all_the_time_have_it_written_no_more_often_than_it_is_worth, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_newer_answer_takes_the_place_of_the_older, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(when_there_are_too_many_the_oldest_gives_way, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(dropped_answers_are_gone, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		an_answer_that_was_being_written_when_all_were_dropped_is_not_kept, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
