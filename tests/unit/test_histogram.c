/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void
bounds_rise(void **state)
{
	for (int i = 1; i < HISTOGRAM_BOUNDS; i++)
		assert_true(histogram_bounds_ns[i - 1] < histogram_bounds_ns[i]);
}

static void
a_time_is_counted_up_to_its_bound(void **state)
{
	struct histogram h = {0};

	histogram_add(&h, 0);
	histogram_add(&h, histogram_bounds_ns[0]);
	histogram_add(&h, histogram_bounds_ns[0] + 1);
	histogram_add(&h, histogram_bounds_ns[HISTOGRAM_BOUNDS - 1]);
	histogram_add(&h, histogram_bounds_ns[HISTOGRAM_BOUNDS - 1] + 1);
	assert_int_equal(h.counts[0], 2);
	assert_int_equal(h.counts[1], 1);
	assert_int_equal(h.counts[HISTOGRAM_BOUNDS - 1], 1);
	assert_int_equal(h.counts[HISTOGRAM_BOUNDS], 1);
	assert_int_equal(histogram_count(&h), 5);
	assert_int_equal(h.sum_ns, 2 * histogram_bounds_ns[0] + 2 * histogram_bounds_ns[HISTOGRAM_BOUNDS - 1] + 2);
}

static void
a_clock_that_stood_still_or_worse_takes_nothing_from_the_sum(void **state)
{
	struct histogram h = {0};

	histogram_add(&h, -5);
	assert_int_equal(histogram_count(&h), 1);
	assert_int_equal(h.sum_ns, 0);
}

static void
what_is_shared_counts_alike(void **state)
{
	struct shared_histogram shared = {0};
	struct histogram h = {0}, copy;

	for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
		histogram_add(&h, histogram_bounds_ns[i] + 1);
		shared_histogram_add(&shared, histogram_bounds_ns[i] + 1);
	}
	histogram_add(&h, -5);
	shared_histogram_add(&shared, -5);
	shared_histogram_get(&shared, &copy);
	assert_memory_equal(&copy, &h, sizeof h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(bounds_rise),
	    cmocka_unit_test(a_time_is_counted_up_to_its_bound),
	    cmocka_unit_test(a_clock_that_stood_still_or_worse_takes_nothing_from_the_sum),
	    cmocka_unit_test(what_is_shared_counts_alike),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
