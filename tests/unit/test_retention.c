/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/common/units.h"
#include "storage/retention.h"
#include "tests/lib/dice.h"

#define MINUTES(n) ((int64_t)(n)*60 * NS_PER_SECOND)
#define HOURS(n)   MINUTES((n)*60)
#define DAYS(n)    HOURS((n)*24)

static const int64_t T0 = DAYS(20000);

/* A source and the daemon, and two clocks that begin apart. */
struct world {
	struct retention r;
	int64_t clock_ns, monotonic_ns;
};

static int
setup(void **state)
{
	static struct world w;

	w = (struct world){.clock_ns = T0, .monotonic_ns = 5000};
	retention_believe(&w.r, w.clock_ns, w.monotonic_ns);
	retention_connect(&w.r, w.monotonic_ns);
	retention_move(&w.r, w.clock_ns, w.monotonic_ns);
	*state = &w;
	return 0;
}

static void
pass(struct world *w, int64_t ns)
{
	w->clock_ns += ns;
	w->monotonic_ns += ns;
	retention_watch(&w->r, w->clock_ns, w->monotonic_ns);
}

/* Points of now, as often as that. Returns what the running time gained. */
static int64_t
run_for(struct world *w, int64_t ns, int64_t every_ns)
{
	int64_t before = w->r.running_ns;

	for (int64_t t = 0; t < ns; t += every_ns) {
		pass(w, every_ns);
		retention_move(&w->r, w->clock_ns, w->monotonic_ns);
	}
	return w->r.running_ns - before;
}

static void
a_source_that_makes_points_runs_as_the_clock_does(void **state)
{
	struct world *w = *state;

	assert_int_equal(run_for(w, HOURS(5), NS_PER_SECOND), HOURS(5));
	assert_int_equal(run_for(w, HOURS(5), MINUTES(50)), HOURS(5));
	assert_false(retention_stopped(&w->r));
}

static void
a_dead_source_ages_nothing(void **state)
{
	struct world *w = *state;
	int64_t before = w->r.running_ns;

	pass(w, 5 * NS_PER_SECOND); /* until its silence is noticed */
	retention_disconnect(&w->r, w->monotonic_ns);
	pass(w, DAYS(90));
	retention_disconnect(&w->r, w->monotonic_ns);
	assert_int_equal(retention_at(&w->r, w->clock_ns, w->monotonic_ns) - before, 5 * NS_PER_SECOND);
	retention_connect(&w->r, w->monotonic_ns);
	assert_int_equal(run_for(w, MINUTES(1), MINUTES(1)), MINUTES(1) + 5 * NS_PER_SECOND);
	assert_int_equal(run_for(w, HOURS(2), MINUTES(1)), HOURS(2));
}

static void
a_source_that_is_there_and_makes_no_points_ages_an_hour_at_most(void **state)
{
	struct world *w = *state;

	pass(w, DAYS(90));
	assert_int_equal(run_for(w, MINUTES(1), MINUTES(1)), HOURS(1));
	assert_int_equal(run_for(w, HOURS(2), MINUTES(1)), HOURS(2));
}

static void
a_daemon_that_was_off_ages_nothing(void **state)
{
	struct world *w = *state;
	struct retention later = {0};

	retention_recall(&later, w->r.running_ns, w->r.point_ns);
	w->clock_ns += DAYS(90);
	w->monotonic_ns = 77; /* the machine was started anew, too */
	retention_believe(&later, w->clock_ns, w->monotonic_ns);
	retention_connect(&later, w->monotonic_ns);
	retention_move(&later, w->clock_ns, w->monotonic_ns);
	assert_int_equal(later.running_ns, w->r.running_ns);
	w->r = later;
	assert_int_equal(run_for(w, HOURS(1), MINUTES(1)), HOURS(1));
	assert_false(retention_stopped(&w->r));
}

static void
a_clock_that_jumps_ages_nothing(void **state)
{
	static const int64_t jumps[] = {DAYS(365), -DAYS(365), -DAYS(4000), MINUTES(3), -MINUTES(3)};
	struct world *w = *state;

	for (unsigned i = 0; i < sizeof jumps / sizeof jumps[0]; i++) {
		int64_t before = w->r.running_ns;

		w->clock_ns += jumps[i];
		retention_move(&w->r, w->clock_ns, w->monotonic_ns);
		assert_int_equal(w->r.running_ns, before);
		assert_true(run_for(w, HOURS(1), MINUTES(1)) <= HOURS(1));
	}
}

static void
a_backlog_that_arrives_at_once_counts_as_the_time_it_was_made_in(void **state)
{
	struct world *w = *state;
	int64_t before = w->r.running_ns, begun_ns = w->clock_ns;

	pass(w, MINUTES(50)); /* nothing came; then a checkpoint of every minute */
	for (int i = 1; i <= 50; i++)
		retention_move(&w->r, begun_ns + MINUTES(i), w->monotonic_ns);
	assert_int_equal(w->r.running_ns - before, MINUTES(50));
}

static void
earlier_points_are_counted_again_from_what_was_written_down(void **state)
{
	struct retention r = {0};

	retention_recall(&r, 1000, T0);
	retention_recount(&r, T0 + MINUTES(10));
	assert_int_equal(r.running_ns, 1000 + MINUTES(10));
	retention_recount(&r, T0 + DAYS(3)); /* dead or off in between */
	assert_int_equal(r.running_ns, 1000 + MINUTES(20));
	retention_recount(&r, T0); /* the clock was set back */
	assert_int_equal(r.running_ns, 1000 + MINUTES(20));
	retention_recall(&r, 2000, T0 + DAYS(3));
	assert_int_equal(r.running_ns, 2000);
}

static void
clocks_that_disagree_stop_it_until_they_agree_or_are_believed(void **state)
{
	struct world *w = *state;

	for (int sign = -1; sign <= 1; sign += 2) {
		pass(w, HOURS(3));
		w->clock_ns += sign * MINUTES(10);
		pass(w, 0);
		assert_false(retention_stopped(&w->r));
		w->clock_ns += sign;
		pass(w, HOURS(1));
		assert_true(retention_stopped(&w->r) && retention_drifted(&w->r));
		w->clock_ns -= sign;
		pass(w, 0);
		assert_false(retention_stopped(&w->r));
		w->clock_ns += sign * DAYS(1);
		pass(w, 0);
		assert_true(retention_stopped(&w->r));
		retention_believe(&w->r, w->clock_ns, w->monotonic_ns);
		assert_false(retention_stopped(&w->r));
	}
}

static void
what_is_frozen_stays_so_whatever_the_clocks_say(void **state)
{
	struct world *w = *state;

	w->r.frozen_ns = T0;
	pass(w, DAYS(1));
	assert_true(retention_stopped(&w->r) && !retention_drifted(&w->r));
	retention_believe(&w->r, w->clock_ns, w->monotonic_ns);
	assert_true(retention_stopped(&w->r));
}

/* Whatever the clocks and the source do, a point never looks older than the daemon has watched the source, and an hour.
 */
static void
nothing_makes_it_run_faster_than_time_passes(void **state)
{
	struct world *w = *state;
	struct dice dice = dice_from_environment();

	for (int run = 0; run < 200; run++) {
		int64_t first = w->r.running_ns, begun = w->monotonic_ns;

		for (int step = 0; step < 200; step++) {
			int64_t before = w->r.running_ns;

			pass(w, (int64_t)dice_below(&dice, (uint64_t)HOURS(1 + dice_below(&dice, 4))));
			if (dice_below(&dice, 10) == 0)
				w->clock_ns += (int64_t)dice_below(&dice, (uint64_t)DAYS(20)) - DAYS(10);
			if (dice_below(&dice, 3) > 0)
				retention_move(&w->r, w->clock_ns, w->monotonic_ns);
			assert_true(w->r.running_ns >= before);
			assert_true(w->r.running_ns - before <= RETENTION_STEP_MAX_NS);
			assert_true(w->r.running_ns - first <= w->monotonic_ns - begun + RETENTION_STEP_MAX_NS);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(a_source_that_makes_points_runs_as_the_clock_does, setup),
	    cmocka_unit_test_setup(a_dead_source_ages_nothing, setup),
	    cmocka_unit_test_setup(a_source_that_is_there_and_makes_no_points_ages_an_hour_at_most, setup),
	    cmocka_unit_test_setup(a_daemon_that_was_off_ages_nothing, setup),
	    cmocka_unit_test_setup(a_clock_that_jumps_ages_nothing, setup),
	    cmocka_unit_test_setup(a_backlog_that_arrives_at_once_counts_as_the_time_it_was_made_in, setup),
	    cmocka_unit_test(earlier_points_are_counted_again_from_what_was_written_down),
	    cmocka_unit_test_setup(clocks_that_disagree_stop_it_until_they_agree_or_are_believed, setup),
	    cmocka_unit_test_setup(what_is_frozen_stays_so_whatever_the_clocks_say, setup),
	    cmocka_unit_test_setup(nothing_makes_it_run_faster_than_time_passes, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
