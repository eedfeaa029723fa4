/* SPDX-License-Identifier: Apache-2.0 */
#include "server/stream_end.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { OLDEST = 11, OLDER = 12, LAST = 13, UNKNOWN = 14, NONE = 0 };

static const struct earlier_streams earlier = {.ids = {OLDER, OLDEST}, .count = 2};

/* The agent was told that frame 100 of stream LAST is durable. */
static bool
went_back(uint64_t stream_id, uint64_t sequence)
{
	const struct stream_end told = {LAST, 100}, ours = {stream_id, sequence};

	return stream_end_went_back(&told, &earlier, &ours);
}

static void
what_was_acknowledged_is_all_here(void **state)
{
	assert_false(went_back(LAST, 100));
	assert_false(went_back(LAST, 101)); /* the last acknowledgement was lost on its way */
}

static void
a_stream_that_is_shorter_than_it_was_went_back(void **state)
{
	assert_true(went_back(LAST, 99));
	assert_true(went_back(LAST, 0));
}

static void
a_stream_from_before_the_last_one_went_back(void **state)
{
	assert_true(went_back(OLDER, 5000));
	assert_true(went_back(OLDEST, 1));
}

static void
no_stream_at_all_went_back(void **state)
{
	assert_true(went_back(NONE, 0));
}

static void
a_stream_that_the_agent_does_not_know_proves_nothing(void **state)
{
	assert_false(went_back(UNKNOWN, 1));
}

static void
an_agent_to_which_nothing_was_acknowledged_misses_nothing(void **state)
{
	const struct stream_end told = {LAST, 0}, ours = {NONE, 0};

	assert_false(stream_end_went_back(&told, &earlier, &ours));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_was_acknowledged_is_all_here),
	    cmocka_unit_test(a_stream_that_is_shorter_than_it_was_went_back),
	    cmocka_unit_test(a_stream_from_before_the_last_one_went_back),
	    cmocka_unit_test(no_stream_at_all_went_back),
	    cmocka_unit_test(a_stream_that_the_agent_does_not_know_proves_nothing),
	    cmocka_unit_test(an_agent_to_which_nothing_was_acknowledged_misses_nothing),
	};

	return cmocka_run_group_tests_name("stream_end", tests, NULL, NULL);
}
