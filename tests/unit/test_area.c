/* SPDX-License-Identifier: Apache-2.0 */
#include "server/area.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/usage.h"
#include "tests/lib/scratch.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/* ---- judging ---- */

static void
the_reserve_is_what_maintenance_needs_and_at_most_a_twentieth(void **state)
{
	struct area_settings s = {.segment_bytes = 256 * MIB};

	assert_int_equal(area_reserve(&s, 1024 * GIB), 64 * MIB + 256 * MIB + 4 * MIB);
	assert_int_equal(area_reserve(&s, 200 * MIB), 10 * MIB);
	s.reserve_bytes = 100 * MIB;
	assert_int_equal(area_reserve(&s, 1024 * GIB), 100 * MIB);
	assert_int_equal(area_reserve(&s, 200 * MIB), 10 * MIB);
}

/* A file system of 1000 MiB with a reserve of 40 and so much free beside it. */
static struct area_facts
facts_of(uint64_t free_mib, uint64_t held_mib)
{
	return (struct area_facts){.total_bytes = 1000 * MIB,
	    .free_bytes = free_mib * MIB,
	    .reserve_bytes = 40 * MIB,
	    .held_bytes = held_mib * MIB};
}

static void
levels_do_not_depend_on_whether_the_reserve_is_held(void **state)
{
	for (unsigned room = 0; room < 200; room++) {
		struct area_facts held = facts_of(room, 40), counted = facts_of(room + 40, 0);

		area_judge(&held, 15);
		area_judge(&counted, 15);
		assert_int_equal(held.room_bytes, room * MIB);
		assert_int_equal(counted.room_bytes, room * MIB);
		assert_int_equal(held.level, counted.level);
		assert_int_equal(held.low, counted.low);
	}
}

static void
levels_come_in_order_as_room_runs_out(void **state)
{
	static const struct {
		unsigned room_mib;
		bool low;
		enum space_level level;
	} steps[] = {{160, false, SPACE_EASY}, {149, true, SPACE_EASY}, {39, true, SPACE_SHORTEN},
	    {19, true, SPACE_THIN}, {4, true, SPACE_FULL}, {0, true, SPACE_FULL}};
	struct area_facts f = facts_of(1000, 40);

	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		f.free_bytes = steps[i].room_mib * MIB;
		area_judge(&f, 15);
		assert_int_equal(f.low, steps[i].low);
		assert_int_equal(f.level, steps[i].level);
	}
	f.free_bytes = 7 * MIB; /* back, but not at once */
	area_judge(&f, 15);
	assert_int_equal(f.level, SPACE_FULL);
	f.free_bytes = 8 * MIB;
	area_judge(&f, 15);
	assert_int_equal(f.level, SPACE_THIN);
}

static void
a_store_leaves_what_of_the_reserve_is_not_held(void **state)
{
	struct area_facts held = facts_of(100, 40), counted = facts_of(140, 0), eaten = facts_of(10, 0);

	area_judge(&held, 15);
	area_judge(&counted, 15);
	area_judge(&eaten, 15);
	assert_int_equal(area_space(&held).reserve_bytes, 5 * MIB);
	assert_int_equal(area_space(&counted).reserve_bytes, 45 * MIB);
	assert_int_equal(area_space(&held).room_bytes, 95 * MIB);
	assert_int_equal(area_space(&counted).room_bytes, 95 * MIB);
	assert_int_equal(area_space(&eaten).room_bytes, 0);
}

/* ---- growth ---- */

#define MINUTE_NS (60 * NS_PER_SECOND)

static void
growth_is_unknown_until_it_was_measured_for_ten_minutes(void **state)
{
	struct trend t = {0};
	int64_t per_day, measured;

	assert_false(trend_get(&t, 0, 0, &per_day, &measured));
	for (int64_t now = 0; now < 10 * MINUTE_NS; now += NS_PER_SECOND) {
		trend_add(&t, now, (uint64_t)now / NS_PER_SECOND * 1000);
		assert_false(trend_get(&t, now, 0, &per_day, &measured));
	}
	assert_true(trend_get(&t, 10 * MINUTE_NS, 600000, &per_day, &measured));
	assert_int_equal(per_day, 86400000);
	assert_int_equal(measured, 10 * MINUTE_NS);
}

static void
growth_forgets_what_is_older_than_six_hours(void **state)
{
	struct trend t = {0};
	int64_t per_day, measured, now;

	for (now = 0; now <= 12 * 60 * MINUTE_NS; now += 7 * NS_PER_SECOND)
		trend_add(&t, now, now < 5 * 60 * MINUTE_NS ? 1000000 * (uint64_t)now : 7 * GIB);
	assert_true(trend_get(&t, now, 7 * GIB, &per_day, &measured));
	assert_int_equal(per_day, 0);
	assert_true(measured > 359 * MINUTE_NS && measured < 450 * MINUTE_NS);
}

static void
days_to_full_are_told_only_when_it_grows(void **state)
{
	struct area_facts f = {.room_bytes = (int64_t)(10 * GIB)};

	assert_int_equal(area_full_in_ns(&f), -1);
	f.growth_known = true;
	assert_int_equal(area_full_in_ns(&f), -1);
	f.growth_bytes_per_day = -5;
	assert_int_equal(area_full_in_ns(&f), -1);
	f.growth_bytes_per_day = (int64_t)(4 * GIB);
	assert_int_equal(area_full_in_ns(&f), 60 * 3600 * NS_PER_SECOND);
	f.room_bytes = -1;
	assert_int_equal(area_full_in_ns(&f), 0);
}

/* ---- a real directory ---- */

static uint64_t
allocated(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

static void
the_reserve_is_really_allocated_and_counts_as_held(void **state)
{
	struct area_settings s = {.reserve_bytes = MIB, .segment_bytes = MIB, .warning_percent = 0};
	char path[300];
	struct area *a;
	struct area_facts f;
	struct hf_error err;

	assert_int_equal(area_create(*state, &s, &a, &err), 0);
	area_get(a, &f);
	assert_int_not_equal(f.level, SPACE_FULL); /* whoever runs this has a few MiB */
	snprintf(path, sizeof path, "%s/reserve", (char *)*state);
	assert_true(allocated(path) >= MIB);
	assert_int_equal(f.held_bytes, allocated(path));
	assert_true(f.total_bytes > f.free_bytes);
	area_destroy(a);
}

static void
what_the_largest_fold_would_take_is_counted_as_taken_while_it_is_told(void **state)
{
	static const uint64_t expected[] = {5 * MIB, 5 * MIB, 0};
	struct area_settings s = {.reserve_bytes = MIB, .segment_bytes = MIB};
	struct area *a;
	struct area_facts f;
	struct hf_error err;

	assert_int_equal(area_create(*state, &s, &a, &err), 0);
	area_tell_need(a, 6 * MIB);
	area_tell_need(a, 2 * MIB); /* of another source: one at a time is folded */
	for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
		assert_int_equal(area_measure(a, (int64_t)i), 0);
		area_get(a, &f);
		assert_int_equal(f.extra_bytes, expected[i]);
		assert_true(f.room_bytes == (int64_t)(f.free_bytes + f.held_bytes - MIB - f.extra_bytes));
	}
	area_destroy(a);
}

static void
the_reserve_is_given_out_by_quarters_when_maintenance_finds_no_space(void **state)
{
	struct area_settings s = {.reserve_bytes = 4 * MIB, .segment_bytes = MIB};
	struct area *a;
	struct area_facts f;
	struct hf_error err;

	assert_int_equal(area_create(*state, &s, &a, &err), 0);
	for (uint64_t left = 3; left < 4; left--) {
		area_tell_full(a);
		assert_int_equal(area_measure(a, 1), 0);
		area_get(a, &f);
		assert_int_equal(f.held_bytes / MIB, left);
		assert_int_equal(f.level, SPACE_FULL); /* whatever statfs says */
	}
	assert_int_equal(area_measure(a, 31 * NS_PER_SECOND), 0);
	area_get(a, &f);
	assert_true(f.held_bytes >= 4 * MIB); /* nobody complains any more */
	area_destroy(a);
}

static void
a_change_that_asks_is_given_the_reserve_at_once_until_there_is_none(void **state)
{
	struct area_settings s = {.reserve_bytes = 4 * MIB, .segment_bytes = MIB};
	struct area *a;
	struct area_facts f;
	struct hf_error err;

	assert_int_equal(area_create(*state, &s, &a, &err), 0);
	for (uint64_t left = 3; left < 4; left--) {
		assert_true(area_make_room(a, 1));
		area_get(a, &f);
		assert_int_equal(f.held_bytes / MIB, left);
	}
	assert_false(area_make_room(a, 1));
	area_destroy(a);
}

static void
usage_counts_blocks_and_not_sizes(void **state)
{
	char path[300];
	struct usage u;
	FILE *f;

	snprintf(path, sizeof path, "%s/journal", (char *)*state);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof path, "%s/vol-0123456789abcdef0.img", (char *)*state);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), (off_t)GIB), 0);
	fclose(f);
	snprintf(path, sizeof path, "%s/journal/00000001.seg", (char *)*state);
	f = fopen(path, "w");
	assert_non_null(f);
	for (unsigned i = 0; i < 100000; i++)
		fputc('x', f);
	fflush(f);
	assert_int_equal(fsync(fileno(f)), 0);
	fclose(f);
	assert_int_equal(usage_measure(*state, &u), 0);
	assert_true(u.staging_bytes < MIB);
	assert_true(u.journal_bytes >= 98304 && u.journal_bytes < MIB);
	assert_true(usage_measure("/nowhere", &u) < 0);
}

static char scratch[300];

static int
make_scratch(void **state)
{
	scratch_make(scratch, sizeof scratch, "test_area");
	*state = scratch;
	return 0;
}

static int
remove_scratch(void **state)
{
	return scratch_remove(scratch);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_reserve_is_what_maintenance_needs_and_at_most_a_twentieth),
	    cmocka_unit_test(levels_do_not_depend_on_whether_the_reserve_is_held),
	    cmocka_unit_test(levels_come_in_order_as_room_runs_out),
	    cmocka_unit_test(a_store_leaves_what_of_the_reserve_is_not_held),
	    cmocka_unit_test(growth_is_unknown_until_it_was_measured_for_ten_minutes),
	    cmocka_unit_test(growth_forgets_what_is_older_than_six_hours),
	    cmocka_unit_test(days_to_full_are_told_only_when_it_grows),
	    cmocka_unit_test_setup_teardown(
		the_reserve_is_really_allocated_and_counts_as_held, make_scratch, remove_scratch),
	    cmocka_unit_test_setup_teardown(
		what_the_largest_fold_would_take_is_counted_as_taken_while_it_is_told, make_scratch, remove_scratch),
	    cmocka_unit_test_setup_teardown(
		the_reserve_is_given_out_by_quarters_when_maintenance_finds_no_space, make_scratch, remove_scratch),
	    cmocka_unit_test_setup_teardown(
		a_change_that_asks_is_given_the_reserve_at_once_until_there_is_none, make_scratch, remove_scratch),
	    cmocka_unit_test_setup_teardown(usage_counts_blocks_and_not_sizes, make_scratch, remove_scratch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
