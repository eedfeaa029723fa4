/* SPDX-License-Identifier: Apache-2.0 */
#include "server/catch_up.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define S             NS_PER_SECOND
#define NO_CHECKPOINT (-1)

/* So many seconds in which what is left changes by step a second; *bytes is what is left in the end. */
static int64_t
run(struct catch_up *c, int64_t now_ns, int seconds, enum activity activity, uint64_t *bytes, int64_t step)
{
	for (int i = 0; i < seconds; i++) {
		now_ns += S;
		*bytes = (uint64_t)((int64_t)*bytes + step);
		catch_up_note(c, now_ns, activity, 1, *bytes);
	}
	return now_ns;
}

static struct catch_up_status
get(const struct catch_up *c, int64_t now_ns, uint64_t bytes, int64_t lag_ns)
{
	struct catch_up_status s;

	catch_up_get(c, now_ns, bytes, lag_ns, 1000, &s);
	return s;
}

static void
nothing_is_known_of_a_source_that_said_nothing(void **state)
{
	const struct catch_up c = {0};

	assert_int_equal(get(&c, S, 0, NO_CHECKPOINT).state, CATCH_UP_UNKNOWN);
}

static void
a_steady_fill_ends_when_its_pace_says(void **state)
{
	struct catch_up c = {0};
	uint64_t bytes = 10000;
	int64_t now_ns = run(&c, S, 30, ACTIVITY_FILL, &bytes, -100);
	struct catch_up_status s = get(&c, now_ns, bytes, NO_CHECKPOINT);

	assert_int_equal(s.state, CATCH_UP_CONVERGING);
	assert_int_equal(s.left_bytes, 7000);
	assert_in_range(s.earliest_ns, 70 * S - S / 10, 70 * S + S / 10);
	assert_in_range(s.latest_ns, 70 * S - S / 10, 70 * S + S / 10);
	assert_int_equal(s.needed_rate, 0);
}

static void
a_fill_that_slows_down_has_a_range(void **state)
{
	struct catch_up c = {0};
	uint64_t bytes = 10000;
	int64_t now_ns = run(&c, S, 40, ACTIVITY_FILL, &bytes, -100);
	struct catch_up_status s;

	now_ns = run(&c, now_ns, 20, ACTIVITY_FILL, &bytes, -10);
	s = get(&c, now_ns, bytes, NO_CHECKPOINT);
	assert_int_equal(s.state, CATCH_UP_CONVERGING);
	assert_in_range(s.latest_ns, 579 * S, 581 * S); /* 5800 at 10 */
	assert_in_range(s.earliest_ns, 70 * S, 90 * S); /* at 4200 a minute */
}

static void
a_fill_that_stands_still_says_neither(void **state)
{
	struct catch_up c = {0};
	uint64_t bytes = 10000;
	int64_t now_ns = run(&c, S, 90, ACTIVITY_FILL, &bytes, 0);

	assert_int_equal(get(&c, now_ns, bytes, NO_CHECKPOINT).state, CATCH_UP_UNKNOWN);
}

/* What an agent tells comes once a second, in steps. */
static void
a_moment_is_no_pace(void **state)
{
	struct catch_up c = {0};

	catch_up_note(&c, S, ACTIVITY_FILL, 1, 10000);
	assert_int_equal(get(&c, S + S / 5, 9000, NO_CHECKPOINT).state, CATCH_UP_UNKNOWN);
	assert_int_equal(get(&c, 6 * S, 5000, NO_CHECKPOINT).state, CATCH_UP_CONVERGING);
}

static void
another_pass_begins_anew(void **state)
{
	struct catch_up c = {0};
	uint64_t bytes = 10000;
	int64_t now_ns = run(&c, S, 30, ACTIVITY_PASS, &bytes, -300);

	assert_int_equal(get(&c, now_ns, bytes, 40 * S).state, CATCH_UP_CONVERGING);
	catch_up_note(&c, now_ns + S, ACTIVITY_PASS, 2, 10000);
	assert_int_equal(get(&c, now_ns + S, 10000, 40 * S).state, CATCH_UP_UNKNOWN);
}

static void
a_pass_of_a_source_that_is_not_late_is_no_catching_up(void **state)
{
	struct catch_up c = {0};
	uint64_t bytes = 10000;
	int64_t now_ns = run(&c, S, 10, ACTIVITY_PASS, &bytes, -100);
	struct catch_up_status s = get(&c, now_ns, bytes, 5 * S);

	assert_int_equal(s.state, CATCH_UP_DONE);
	assert_int_equal(s.latest_ns, 0);
}

static void
a_backlog_that_grows_for_a_minute_does_not_converge(void **state)
{
	struct catch_up c = {0};
	uint64_t bytes = 10000;
	int64_t now_ns = run(&c, S, 50, (enum activity)0, &bytes, 500);
	struct catch_up_status s;

	assert_int_equal(get(&c, now_ns, bytes, 50 * S).state, CATCH_UP_UNKNOWN);
	now_ns = run(&c, now_ns, 20, (enum activity)0, &bytes, 500);
	s = get(&c, now_ns, bytes, 70 * S);
	assert_int_equal(s.state, CATCH_UP_NEVER);
	assert_int_equal(s.achieved_rate, 1000);
	assert_int_equal(s.needed_rate, 1500);
	assert_int_equal(get(&c, now_ns, bytes, 20 * S).state, CATCH_UP_DONE); /* not late: a burst */
}

static void
a_backlog_that_shrinks_converges(void **state)
{
	struct catch_up c = {0};
	uint64_t bytes = 10000;
	int64_t now_ns = run(&c, S, 70, (enum activity)0, &bytes, -100);
	struct catch_up_status s = get(&c, now_ns, bytes, 70 * S);

	assert_int_equal(s.state, CATCH_UP_CONVERGING);
	assert_int_equal(s.needed_rate, 900);
	assert_in_range(s.latest_ns, 29 * S, 31 * S);
}

static void
passes_that_take_longer_and_longer_do_not_converge(void **state)
{
	struct catch_up c = {0};
	uint64_t bytes = 10000;
	int64_t now_ns = run(&c, S, 30, ACTIVITY_PASS, &bytes, -100);

	for (int i = 0; i < 3; i++)
		catch_up_checkpoint(&c, (i + 1) * 100 * S, (40 + 10 * i) * S, 5000);
	assert_int_equal(get(&c, now_ns, bytes, 70 * S).state, CATCH_UP_CONVERGING);
	catch_up_checkpoint(&c, 400 * S, 70 * S, 5000);
	assert_int_equal(get(&c, now_ns, bytes, 70 * S).state, CATCH_UP_NEVER);
	assert_int_equal(get(&c, now_ns, bytes, 70 * S).needed_rate, 50);
	catch_up_checkpoint(&c, 500 * S, 65 * S, 5000);
	assert_int_equal(get(&c, now_ns, bytes, 70 * S).state, CATCH_UP_CONVERGING);
}

static void
quick_passes_may_differ_as_they_like(void **state)
{
	struct catch_up c = {0};
	uint64_t bytes = 10000;
	int64_t now_ns = run(&c, S, 30, ACTIVITY_PASS, &bytes, -100);

	for (int i = 0; i < 5; i++)
		catch_up_checkpoint(&c, (i + 1) * 100 * S, (i + 1) * 5 * S, 5000);
	assert_int_equal(get(&c, now_ns, bytes, 31 * S).state, CATCH_UP_CONVERGING);
}

static void
what_an_agent_makes_up_is_not_believed_for_ever(void **state)
{
	struct catch_up c = {0};
	uint64_t bytes = UINT64_MAX / 2;
	int64_t now_ns = run(&c, S, 30, ACTIVITY_FILL, &bytes, -1);

	assert_int_equal(get(&c, now_ns, bytes, NO_CHECKPOINT).state, CATCH_UP_UNKNOWN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(nothing_is_known_of_a_source_that_said_nothing),
	    cmocka_unit_test(a_steady_fill_ends_when_its_pace_says),
	    cmocka_unit_test(a_fill_that_slows_down_has_a_range),
	    cmocka_unit_test(a_fill_that_stands_still_says_neither),
	    cmocka_unit_test(a_moment_is_no_pace),
	    cmocka_unit_test(another_pass_begins_anew),
	    cmocka_unit_test(a_pass_of_a_source_that_is_not_late_is_no_catching_up),
	    cmocka_unit_test(a_backlog_that_grows_for_a_minute_does_not_converge),
	    cmocka_unit_test(a_backlog_that_shrinks_converges),
	    cmocka_unit_test(passes_that_take_longer_and_longer_do_not_converge),
	    cmocka_unit_test(quick_passes_may_differ_as_they_like),
	    cmocka_unit_test(what_an_agent_makes_up_is_not_believed_for_ever),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
