/* SPDX-License-Identifier: Apache-2.0 */
/* How long maintenance waits for acknowledgements. Its clock is the real one, its sleep is counted. */
#include "storage/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>

#include "proto/common/units.h"

static int64_t slept_ns;

static void
count_sleep(int64_t ns)
{
	assert_true(ns > 0);
	slept_ns += ns;
}

/* Some groups in calm, then as many while maintenance is under way; it works for at least so long, and pauses. */
static int64_t
sleep_after(int64_t calm_ns, int64_t busy_ns, int64_t work_ns)
{
	struct pace p = {.sleep_ns = count_sleep};
	int64_t begun_ns;

	slept_ns = 0;
	for (int i = 0; i < 100; i++)
		pace_note_group(&p, calm_ns);
	pace_begin(&p);
	begun_ns = clock_monotonic_ns();
	for (int i = 0; i < 100; i++)
		pace_note_group(&p, busy_ns);
	while (clock_monotonic_ns() - begun_ns < work_ns)
		;
	assert_int_equal(pace_pause(&p), 0);
	pace_end(&p);
	return slept_ns;
}

static void
groups_that_are_not_late_cost_no_wait(void **state)
{
	assert_int_equal(sleep_after(1000000, 1000000, 2000000), 0);
	assert_int_equal(sleep_after(1000000, 2000000, 2000000), 0);
}

static void
what_groups_were_late_is_a_hundredth_of_the_time(void **state)
{
	int64_t begun_ns, slept;

	/* 100 of them, 3 us each: a hundredth of 30 ms, and so long was worked */
	assert_int_equal(sleep_after(1000000, 2003000, 30000000), 0);
	begun_ns = clock_monotonic_ns();
	slept = sleep_after(1000000, 2030000, 40000000); /* 300 ms, less what was worked */
	assert_true(slept <= 260000000);
	assert_true(slept + clock_monotonic_ns() - begun_ns >= 300000000);
}

static void
a_twenty_fifth_of_the_time_is_work_whatever_is_late(void **state)
{
	int64_t begun_ns = clock_monotonic_ns(), slept = sleep_after(1000000, 1000000000, 2000000);

	assert_true(slept >= 24 * 2000000);
	assert_true(slept <= 24 * (clock_monotonic_ns() - begun_ns));
	assert_true(sleep_after(1000000, 1000000000, 600000000) == 5 * NS_PER_SECOND);
}

static void
what_was_late_before_a_pause_counts_once(void **state)
{
	struct pace p = {.sleep_ns = count_sleep};

	pace_note_group(&p, 1000);
	pace_begin(&p);
	pace_note_group(&p, 1000000);
	assert_int_equal(pace_pause(&p), 0);
	slept_ns = 0;
	assert_int_equal(pace_pause(&p), 0);
	assert_int_equal(slept_ns, 0);
	pace_end(&p);
}

static void
what_is_calm_is_learnt_only_while_no_maintenance_is_under_way(void **state)
{
	struct pace p = {.sleep_ns = count_sleep};

	pace_note_group(&p, 1000);
	pace_begin(&p);
	for (int i = 0; i < 1000; i++)
		pace_note_group(&p, 1000000);
	assert_int_equal(p.calm_ns, 1000);
	pace_end(&p);
	for (int i = 0; i < 1000; i++)
		pace_note_group(&p, 1000000);
	assert_true(p.calm_ns > 900000);
}

static void
what_was_calm_in_a_burst_is_forgotten_after_it(void **state)
{
	struct pace p = {.sleep_ns = count_sleep};

	for (int i = 0; i < 100; i++)
		pace_note_group(&p, 1000000);
	pace_begin(&p);
	for (int i = 0; i < 100; i++)
		pace_note_group(&p, 1000);
	assert_true(p.calm_ns < 10000);
	pace_note_group(&p, 1000000);
	assert_true(p.late_ns > 900000);
	pace_end(&p);
}

static void
without_any_group_nobody_is_waited_for(void **state)
{
	struct pace p = {.sleep_ns = count_sleep};

	slept_ns = 0;
	pace_begin(&p);
	assert_int_equal(pace_pause(&p), 0);
	pace_end(&p);
	assert_int_equal(slept_ns, 0);
}

static void
maintenance_is_told_to_give_up(void **state)
{
	struct pace p = {.sleep_ns = count_sleep};

	pace_begin(&p);
	pace_stop(&p);
	assert_int_equal(pace_pause(&p), -ECANCELED);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(groups_that_are_not_late_cost_no_wait),
	    cmocka_unit_test(what_groups_were_late_is_a_hundredth_of_the_time),
	    cmocka_unit_test(a_twenty_fifth_of_the_time_is_work_whatever_is_late),
	    cmocka_unit_test(what_was_late_before_a_pause_counts_once),
	    cmocka_unit_test(what_is_calm_is_learnt_only_while_no_maintenance_is_under_way),
	    cmocka_unit_test(what_was_calm_in_a_burst_is_forgotten_after_it),
	    cmocka_unit_test(without_any_group_nobody_is_waited_for),
	    cmocka_unit_test(maintenance_is_told_to_give_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
