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

/* Some syncs in calm, then as many while maintenance is under way; it works for at least so long, and pauses. */
static int64_t
sleep_after(int64_t calm_ns, int64_t busy_ns, int64_t work_ns)
{
	struct pace p = {.sleep_ns = count_sleep};
	int64_t begun_ns;

	slept_ns = 0;
	for (int i = 0; i < 100; i++)
		pace_note_sync(&p, calm_ns);
	pace_begin(&p);
	for (int i = 0; i < 100; i++)
		pace_note_sync(&p, busy_ns);
	begun_ns = clock_monotonic_ns();
	while (clock_monotonic_ns() - begun_ns < work_ns)
		;
	pace_note_sync(&p, busy_ns); /* a moment ago */
	assert_int_equal(pace_pause(&p), 0);
	pace_end(&p);
	return slept_ns;
}

static void
syncs_as_fast_as_in_calm_cost_no_wait(void **state)
{
	assert_int_equal(sleep_after(1000000, 1000000, 2000000), 0);
	assert_int_equal(sleep_after(1000000, 800000, 2000000), 0);
}

static void
syncs_that_take_longer_are_waited_for_in_proportion(void **state)
{
	int64_t half = sleep_after(1000000, 1500000, 2000000), twice = sleep_after(1000000, 2000000, 2000000);

	assert_true(half >= 2 * 1900000); /* what was worked, times four, times a half; worked longer, it is more */
	assert_true(twice >= 4 * 1900000);
}

static void
wait_has_a_bound(void **state)
{
	assert_true(sleep_after(1000000, 1000000000, 2000000) <= NS_PER_SECOND / 4);
	assert_true(sleep_after(1000000, 1000000000, 80000000) == NS_PER_SECOND / 4);
}

static void
what_is_calm_is_learnt_only_while_no_maintenance_is_under_way(void **state)
{
	struct pace p = {.sleep_ns = count_sleep};

	pace_note_sync(&p, 1000);
	pace_begin(&p);
	for (int i = 0; i < 1000; i++)
		pace_note_sync(&p, 1000000);
	assert_int_equal(p.calm_ns, 1000);
	pace_end(&p);
	for (int i = 0; i < 1000; i++)
		pace_note_sync(&p, 1000000);
	assert_true(p.calm_ns > 900000);
}

static void
without_any_sync_nobody_is_waited_for(void **state)
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
	    cmocka_unit_test(syncs_as_fast_as_in_calm_cost_no_wait),
	    cmocka_unit_test(syncs_that_take_longer_are_waited_for_in_proportion),
	    cmocka_unit_test(wait_has_a_bound),
	    cmocka_unit_test(what_is_calm_is_learnt_only_while_no_maintenance_is_under_way),
	    cmocka_unit_test(without_any_sync_nobody_is_waited_for),
	    cmocka_unit_test(maintenance_is_told_to_give_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
