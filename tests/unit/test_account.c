/* SPDX-License-Identifier: Apache-2.0 */
/* What points cost, counted from runs in one pass, against looking at every block at every point. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/account.h"
#include "storage/disk_sim.h"
#include "tests/lib/dice.h"

enum { RUNS = 4, RUNS_MAX = 150, ENTRIES_MAX = 800, BLOCKS = 60, POINTS_MAX = 100 };

struct model {
	struct disk *disk;
	struct entry entries[ENTRIES_MAX]; /* entry i has LSN 2 * i + 2: points lie between */
	size_t count;
	struct run *runs[RUNS_MAX];
	size_t run_count;
	struct account_point points[POINTS_MAX];
	size_t point_count;
};

static int
setup(void **state)
{
	struct model *m = calloc(1, sizeof *m);

	assert_non_null(m);
	assert_int_equal(disk_sim_create(1, &m->disk), 0);
	m->run_count = RUNS;
	*state = m;
	return 0;
}

static int
teardown(void **state)
{
	struct model *m = *state;

	disk_destroy(m->disk);
	free(m);
	return 0;
}

static void
add_data(struct model *m, uint64_t block)
{
	size_t i = m->count++;

	m->entries[i] = (struct entry){.volume = 1,
	    .block = block,
	    .lsn = 2 * i + 2,
	    .count = 1,
	    .digest = i + 1,
	    .segment = 1,
	    .offset = (uint32_t)i + 1};
}

static void
add_zeros(struct model *m, uint64_t block, uint32_t count)
{
	size_t i = m->count++;

	m->entries[i] = (struct entry){.volume = 1, .block = block, .lsn = 2 * i + 2, .count = count};
}

/* After so many entries. */
static void
add_point(struct model *m, bool going)
{
	m->points[m->point_count++] = (struct account_point){.lsn = 2 * m->count + 1, .going = going};
}

static void
write_runs(struct model *m)
{
	size_t from = 0;

	for (unsigned i = 0; i < m->run_count; i++) {
		struct run_info info = {.source = {"s-0123456789abcdef0"}, .digest_seed = 7, .number = i + 1}, got;
		size_t to = m->count * (i + 1) / m->run_count;
		static struct entry copy[ENTRIES_MAX];
		char path[32];

		snprintf(path, sizeof path, "/%u.run", i);
		memcpy(copy, m->entries + from, (to - from) * sizeof *copy);
		assert_int_equal(run_write(m->disk, "/", path, &info, copy, to - from, NULL, 0), 0);
		assert_int_equal(run_open(m->disk, path, &m->runs[i], &got, NULL), 0);
		from = to;
	}
}

static int
never_paused(void *arg)
{
	(void)arg;
	return 0;
}

static struct account
count_all(struct model *m)
{
	struct account a = {.points = m->points, .count = m->point_count};

	write_runs(m);
	assert_int_equal(account_scan(&a, m->runs, m->run_count, m->disk, never_paused, NULL), 0);
	for (unsigned i = 0; i < m->run_count; i++)
		run_unref(m->runs[i], m->disk);
	return a;
}

/* Without those points: is the version seen by any that stay? A fold to the oldest that stays takes along what was
 * written until then. */
static bool
is_freed(const struct model *m, const struct entry *e, uint64_t newer, const bool *gone)
{
	size_t oldest = 0;

	while (oldest < m->point_count && gone[oldest])
		oldest++;
	if (oldest > 0 && e->lsn <= m->points[oldest].lsn)
		return true;
	for (size_t i = 0; i < m->point_count; i++)
		if (!gone[i] && m->points[i].lsn >= e->lsn && m->points[i].lsn < newer)
			return false;
	return true;
}

static uint64_t
newer_version(const struct model *m, size_t i)
{
	const struct entry *e = &m->entries[i];

	for (size_t k = i + 1; k < m->count; k++)
		if (m->entries[k].block <= e->block && m->entries[k].block + m->entries[k].count > e->block)
			return m->entries[k].lsn;
	return UINT64_MAX;
}

static size_t
count_seers(const struct model *m, const struct entry *e, uint64_t newer, size_t *ret_last)
{
	size_t n = 0;

	for (size_t p = 0; p < m->point_count; p++)
		if (m->points[p].lsn >= e->lsn && m->points[p].lsn < newer) {
			*ret_last = p;
			n++;
		}
	return n;
}

static void
check(const struct model *m, const struct account *a)
{
	uint64_t unique[POINTS_MAX] = {0}, freed[POINTS_MAX] = {0}, total = 0, going = 0;
	bool gone[POINTS_MAX];

	for (size_t i = 0; i < m->count; i++) {
		const struct entry *e = &m->entries[i];
		uint64_t newer = newer_version(m, i);
		size_t last, seers;

		if (e->digest == 0)
			continue;
		seers = count_seers(m, e, newer, &last);
		if (seers == 0)
			continue;
		total += BLOCK_BYTES;
		unique[last] += seers == 1 ? BLOCK_BYTES : 0;
		for (size_t p = 0; p + 1 < m->point_count; p++) {
			memset(gone, 0, sizeof gone);
			gone[p] = true;
			freed[p] += is_freed(m, e, newer, gone) ? BLOCK_BYTES : 0;
			gone[p] = false;
		}
		for (size_t p = 0; p < m->point_count; p++)
			gone[p] = m->points[p].going;
		going += is_freed(m, e, newer, gone) ? BLOCK_BYTES : 0;
	}
	assert_int_equal(a->total_bytes, total);
	assert_int_equal(a->going_bytes, going);
	for (size_t p = 0; p < m->point_count; p++)
		assert_int_equal(a->points[p].unique_bytes, unique[p]);
	for (size_t p = 0; p + 1 < m->point_count; p++)
		assert_int_equal(a->points[p].freed_bytes, freed[p]);
}

static void
what_one_point_alone_sees_is_its_own(void **state)
{
	struct model *m = *state;
	struct account a;

	add_data(m, 1);
	add_data(m, 2);
	add_point(m, false);
	add_data(m, 1);
	add_point(m, false);
	add_data(m, 1);
	add_data(m, 1); /* nobody sees the one before */
	add_point(m, false);
	a = count_all(m);
	check(m, &a);
	assert_int_equal(a.points[0].unique_bytes, 1 * BLOCK_BYTES);
	assert_int_equal(a.points[0].freed_bytes, 3 * BLOCK_BYTES); /* a fold takes the rest along */
	assert_int_equal(a.points[1].unique_bytes, 1 * BLOCK_BYTES);
	assert_int_equal(a.points[1].freed_bytes, 1 * BLOCK_BYTES);
	assert_int_equal(a.total_bytes, 4 * BLOCK_BYTES);
}

static void
zeros_hide_what_they_cover(void **state)
{
	struct model *m = *state;
	struct account a;

	add_data(m, 10);
	add_data(m, 20);
	add_point(m, false);
	add_data(m, 10);
	add_point(m, false);
	add_zeros(m, 0, 300);
	add_point(m, false);
	a = count_all(m);
	check(m, &a);
	assert_int_equal(a.points[1].unique_bytes, 1 * BLOCK_BYTES); /* 20 is the first's too */
	assert_int_equal(a.points[2].unique_bytes, 0);
}

static void
points_that_go_together_free_what_they_share(void **state)
{
	struct model *m = *state;
	struct account a;

	add_point(m, false);
	add_data(m, 1);
	add_point(m, true);
	add_point(m, true);
	add_data(m, 1);
	add_point(m, false);
	a = count_all(m);
	check(m, &a);
	assert_int_equal(a.points[1].unique_bytes, 0);
	assert_int_equal(a.points[2].unique_bytes, 0);
	assert_int_equal(a.going_bytes, 1 * BLOCK_BYTES);
}

static void
random_histories_cost_what_looking_at_every_block_says(void **state)
{
	struct dice dice = dice_from_environment();
	struct model *m = *state;

	for (int round = 0; round < 60; round++) {
		size_t count = 1 + dice_below(&dice, ENTRIES_MAX - 1), points = 1 + dice_below(&dice, POINTS_MAX - 1);
		struct account a;

		m->count = m->point_count = 0;
		m->run_count =
		    1 + dice_below(&dice, round % 2 ? RUNS_MAX : RUNS); /* as many as there are points, or more */
		while (m->count < count) {
			if (dice_once_in(&dice, 10))
				add_zeros(m, dice_below(&dice, BLOCKS),
				    1 + (uint32_t)dice_below(&dice, dice_once_in(&dice, 3) ? 400 : 20));
			else
				add_data(m, dice_below(&dice, BLOCKS));
			if (m->point_count < points && dice_once_in(&dice, count / points + 1))
				add_point(m, dice_once_in(&dice, 2));
		}
		add_point(m, false);
		a = count_all(m);
		check(m, &a);
	}
}

static int
cancelled(void *arg)
{
	++*(int *)arg;
	return -ECANCELED;
}

static void
a_pause_may_end_it(void **state)
{
	struct model *m = *state;
	struct account a = {.points = m->points};
	struct run_info info = {.source = {"s-0123456789abcdef0"}, .digest_seed = 7, .number = 1}, got;
	size_t many = 40000;
	struct entry *entries = calloc(many, sizeof *entries);
	struct run *run;
	int calls = 0;

	assert_non_null(entries);
	for (size_t i = 0; i < many; i++)
		entries[i] = (struct entry){
		    .volume = 1, .block = i, .lsn = i + 1, .count = 1, .digest = 1, .segment = 1, .offset = 1};
	m->count = many;
	add_point(m, false);
	m->count = 0;
	a.count = m->point_count;
	assert_int_equal(run_write(m->disk, "/", "/1.run", &info, entries, many, NULL, 0), 0);
	assert_int_equal(run_open(m->disk, "/1.run", &run, &got, NULL), 0);
	assert_int_equal(account_scan(&a, &run, 1, m->disk, cancelled, &calls), -ECANCELED);
	assert_int_equal(calls, 1);
	run_unref(run, m->disk);
	free(entries);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(what_one_point_alone_sees_is_its_own),
	    TEST(zeros_hide_what_they_cover),
	    TEST(points_that_go_together_free_what_they_share),
	    TEST(random_histories_cost_what_looking_at_every_block_says),
	    TEST(a_pause_may_end_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
