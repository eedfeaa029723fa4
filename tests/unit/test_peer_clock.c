/* SPDX-License-Identifier: Apache-2.0 */
#include "server/peer_clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/common/units.h"
#include "server/rate.h"

#define MS   (NS_PER_SECOND / 1000)
#define HOUR (3600 * NS_PER_SECOND)
#define NOW  (1000000 * NS_PER_SECOND)

/* One exchange: ours left at NOW, took `there`, was held, came back in `back`; the peer's clock is ahead by offset. */
static bool
exchange(struct peer_clock *p, int64_t offset, int64_t there, int64_t hold, int64_t back)
{
	return peer_clock_add(p, NOW + there + hold + back, NOW + there + hold + offset, NOW, hold);
}

static void
an_hour_of_difference_is_measured(void **state)
{
	struct peer_clock p;

	(void)state;
	peer_clock_init(&p, NOW - HOUR - 30 * MS, NOW);
	assert_true(exchange(&p, -HOUR, 5 * MS, 400 * MS, 5 * MS));
	assert_int_equal(p.offset_ns, -HOUR);
	assert_int_equal(p.round_trip_ns, 10 * MS);
}

static void
the_shortest_round_trip_of_the_last_eight_is_believed(void **state)
{
	struct peer_clock p;

	(void)state;
	peer_clock_init(&p, NOW, NOW);
	exchange(&p, HOUR, 1 * MS, 0, 1 * MS);
	for (int i = 0; i < 7; i++) {
		exchange(&p, HOUR, 1 * MS, 0, 900 * MS); /* a queue on the way back */
		assert_int_equal(p.offset_ns, HOUR);
	}
	exchange(&p, HOUR, 1 * MS, 0, 900 * MS); /* the good one is the ninth last now */
	assert_int_not_equal(p.offset_ns, HOUR);
}

static void
when_a_clock_was_set_nothing_older_is_believed(void **state)
{
	struct peer_clock p;

	(void)state;
	peer_clock_init(&p, NOW, NOW);
	exchange(&p, 0, 1 * MS, 0, 1 * MS);
	exchange(&p, HOUR, 20 * MS, 0, 20 * MS); /* a worse round trip, and another clock */
	assert_in_range(p.offset_ns, HOUR - 20 * MS, HOUR + 20 * MS);
	exchange(&p, -HOUR, 300 * MS, 0, 1 * MS);
	assert_true(p.offset_ns < -HOUR + NS_PER_SECOND);
	exchange(&p, -HOUR, 1 * MS, 0, 1 * MS);
	assert_int_equal(p.offset_ns, -HOUR);
}

static void
impossible_samples_are_dropped(void **state)
{
	struct peer_clock p;

	(void)state;
	peer_clock_init(&p, NOW, NOW);
	assert_false(peer_clock_add(&p, NOW, NOW, 0, 0));          /* it has not heard of us yet */
	assert_false(peer_clock_add(&p, NOW, NOW, NOW + MS, 0));   /* answer before the question */
	assert_false(peer_clock_add(&p, NOW, NOW, NOW - HOUR, 0)); /* our clock was set */
	assert_false(peer_clock_add(&p, NOW, NOW, NOW, -1));
	assert_false(peer_clock_add(&p, NOW, NOW, INT64_MIN + 1, INT64_MAX));
	assert_false(peer_clock_add(&p, NOW, INT64_MAX, NOW, 0));
	assert_int_equal(p.count, 0);
	assert_int_equal(p.offset_ns, 0);
}

/* ---- rates ---- */

static void
a_steady_stream_shows_its_rate_in_every_window(void **state)
{
	struct rate r;
	int64_t now = NOW;

	(void)state;
	rate_init(&r, now);
	for (int i = 0; i < 4000; i++, now += 100 * MS)
		rate_add(&r, now, 100000); /* 1,000,000 a second */
	assert_in_range(rate_get(&r, now, 10), 950000, 1050000);
	assert_in_range(rate_get(&r, now, 60), 950000, 1050000);
	assert_in_range(rate_get(&r, now, 300), 950000, 1050000);
}

static void
rates_fall_when_nothing_comes(void **state)
{
	struct rate r;

	(void)state;
	rate_init(&r, NOW);
	rate_add(&r, NOW, 60 << 20);
	assert_true(rate_get(&r, NOW + 5 * NS_PER_SECOND, 10) > 0);
	assert_int_equal(rate_get(&r, NOW + 11 * NS_PER_SECOND, 10), 0);
	assert_true(rate_get(&r, NOW + 11 * NS_PER_SECOND, 60) > 0);
	assert_int_equal(rate_get(&r, NOW + 75 * NS_PER_SECOND, 60), 0);
	assert_true(rate_get(&r, NOW + 75 * NS_PER_SECOND, 300) > 0);
	assert_int_equal(rate_get(&r, NOW + 400 * NS_PER_SECOND, 300), 0);
}

static void
a_young_stream_is_not_averaged_over_time_before_it(void **state)
{
	struct rate r;

	(void)state;
	rate_init(&r, NOW);
	rate_add(&r, NOW + 1 * NS_PER_SECOND, 1000000);
	rate_add(&r, NOW + 2 * NS_PER_SECOND, 1000000);
	assert_in_range(rate_get(&r, NOW + 2 * NS_PER_SECOND, 300), 900000, 1100000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_hour_of_difference_is_measured),
	    cmocka_unit_test(the_shortest_round_trip_of_the_last_eight_is_believed),
	    cmocka_unit_test(when_a_clock_was_set_nothing_older_is_believed),
	    cmocka_unit_test(impossible_samples_are_dropped),
	    cmocka_unit_test(a_steady_stream_shows_its_rate_in_every_window),
	    cmocka_unit_test(rates_fall_when_nothing_comes),
	    cmocka_unit_test(a_young_stream_is_not_averaged_over_time_before_it),
	};

	return cmocka_run_group_tests_name("peer_clock", tests, NULL, NULL);
}
