/* SPDX-License-Identifier: Apache-2.0 */
/* Which runs are merged; what of them is seen, against the plainest way to tell; what is copied, and where holes are
 * made. Whole merges, with cuts, are the crash test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/disk_sim.h"
#include "storage/merge.h"
#include "storage/pack.h"
#include "storage/punch.h"
#include "tests/lib/dice.h"

enum { RUNS = 5, ENTRIES_MAX = 2000, BLOCKS = 400, VOLUMES = 2 };

struct fixture {
	struct disk *disk;
};

static int
setup(void **state)
{
	static struct fixture f;

	assert_int_equal(disk_sim_create(1, &f.disk), 0);
	*state = &f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	disk_destroy(f->disk);
	return 0;
}

/* ---- picking ---- */

/* Runs of ten records each, one after the other, of that many entries, without checkpoints. */
static void
some_runs(struct merge_run *runs, const uint64_t *entries, size_t count)
{
	for (size_t i = 0; i < count; i++)
		runs[i] = (struct merge_run){.lsn_first = i * 10 + 1, .lsn_last = i * 10 + 10, .entries = entries[i]};
}

static void
runs_between_two_points_are_merged(void **state)
{
	static const uint64_t entries[6] = {1, 1000, 1, 1, 1, 1}, points[] = {15, 48, 100};
	struct merge_run runs[6];
	size_t first = 99;

	some_runs(runs, entries, 6);
	assert_int_equal(merge_pick(runs, 6, points, 3, &first), 3); /* 15 is in run 1: it sees nothing newer */
	assert_int_equal(first, 1);
}

static void
run_that_ends_with_a_point_goes_with_what_is_behind_it(void **state)
{
	static const uint64_t entries[4] = {9, 9, 9, 9}, points[] = {20, 40, 100};
	struct merge_run runs[4];
	size_t first = 99;

	some_runs(runs, entries, 4);
	assert_int_equal(merge_pick(runs, 4, points, 3, &first), 2);
	assert_int_equal(first, 1); /* the first run alone is before 20: a fold to 20 releases it */
}

static void
newest_runs_wait_until_they_are_as_large_as_the_one_before(void **state)
{
	static const uint64_t small[3] = {100, 40, 50}, large[3] = {100, 40, 60}, points[] = {1000};
	struct merge_run runs[3];
	size_t first = 99;

	some_runs(runs, small, 3);
	assert_int_equal(merge_pick(runs, 3, points, 1, &first), 2);
	assert_int_equal(first, 1); /* 50 are as many as 40 */
	some_runs(runs, small, 2);
	assert_int_equal(merge_pick(runs, 2, points, 1, &first), 0);
	some_runs(runs, large, 3);
	assert_int_equal(merge_pick(runs, 3, points, 1, &first), 3);
	assert_int_equal(first, 0);
}

static void
no_more_runs_are_merged_than_can_be_read_at_once(void **state)
{
	static const uint64_t points[] = {5000, 6000};
	static uint64_t entries[100];
	struct merge_run runs[100];
	size_t first = 99;

	some_runs(runs, entries, 100);
	assert_int_equal(merge_pick(runs, 100, points, 2, &first), MERGE_RUNS_MAX);
	assert_int_equal(first, 0);
}

static void
single_run_is_written_anew_once_half_of_its_points_are_gone(void **state)
{
	static const uint64_t entries[1] = {100}, points[] = {2, 4, 100}, fewer[] = {4, 100};
	struct merge_run runs[1];
	size_t first = 99;

	some_runs(runs, entries, 1);
	assert_int_equal(merge_pick(runs, 1, points, 3, &first), 0); /* it never had any */
	runs[0].checkpoints = 3;
	assert_int_equal(merge_pick(runs, 1, points, 3, &first), 0);
	assert_int_equal(merge_pick(runs, 1, fewer, 2, &first), 1);
	assert_int_equal(first, 0);
	runs[0].checkpoints = 1; /* what was written then holds that one alone */
	assert_int_equal(merge_pick(runs, 1, fewer, 2, &first), 0);
}

/* Every round merges something until nothing is left to merge, whatever is drawn: no merge without an end. */
static void
merging_comes_to_an_end(void **state)
{
	struct dice dice = dice_from_environment();

	for (int round = 0; round < 200; round++) {
		struct merge_run runs[60];
		uint64_t points[20], lsn = 0;
		size_t count = 1 + dice_below(&dice, 60), point_count = 1 + dice_below(&dice, 20), first, n, merges = 0;

		for (size_t i = 0; i < count; i++)
			runs[i] = (struct merge_run){.lsn_first = i * 10 + 1,
			    .lsn_last = i * 10 + 10,
			    .entries = dice_below(&dice, 1000),
			    .checkpoints = dice_below(&dice, 12)};
		for (size_t i = 0; i < point_count; i++)
			points[i] = lsn += 1 + dice_below(&dice, 60);
		points[point_count - 1] = 10000;
		while ((n = merge_pick(runs, count, points, point_count, &first)) > 0) {
			struct merge_run *to = &runs[first], *last = &runs[first + n - 1];

			assert_true(first + n <= count && n <= MERGE_RUNS_MAX);
			assert_true(++merges < 200);
			to->checkpoints = 0;
			for (size_t i = 0; i < point_count; i++)
				to->checkpoints += points[i] >= to->lsn_first && points[i] <= last->lsn_last;
			for (size_t i = 1; i < n; i++)
				to->entries += to[i].entries;
			to->lsn_last = last->lsn_last;
			memmove(to + 1, last + 1, (size_t)(runs + count - (last + 1)) * sizeof *runs);
			count -= n - 1;
		}
	}
}

/* ---- what is seen ---- */

struct model {
	struct entry entries[ENTRIES_MAX]; /* entry i has LSN 2 * i + 2: points lie between */
	size_t count;
	bool seen[ENTRIES_MAX]; /* called for */
	struct run *runs[RUNS];
	uint64_t points[8];
	size_t point_count;
};

static void
draw_entries(struct dice *dice, struct model *m)
{
	m->count = 1 + dice_below(dice, ENTRIES_MAX);
	for (size_t i = 0; i < m->count; i++) {
		struct entry *e = &m->entries[i];

		*e = (struct entry){.volume = 1 + (uint32_t)dice_below(dice, VOLUMES),
		    .block = dice_below(dice, BLOCKS),
		    .lsn = 2 * i + 2,
		    .count = 1};
		if (dice_once_in(dice, 6)) { /* the same ranges again and again, as discards are */
			e->count = dice_once_in(dice, 3) ? 257 + (uint32_t)dice_below(dice, 200)
							 : 1 + (uint32_t)dice_below(dice, 100);
			e->block = e->block / 50 * 50;
			continue;
		}
		e->digest = i + 1;
		e->segment = 1;
		e->offset = (uint32_t)i + 1;
	}
}

static void
draw_points(struct dice *dice, struct model *m)
{
	uint64_t lsn = 1;

	m->point_count = 1 + dice_below(dice, 8);
	for (size_t i = 0; i < m->point_count; i++) {
		lsn += 1 + dice_below(dice, m->count);
		m->points[i] = lsn;
	}
	m->points[m->point_count - 1] = 4 * ENTRIES_MAX;
}

/* Adjacent runs of about the same size. */
static void
write_runs(struct fixture *f, struct model *m)
{
	size_t from = 0;

	for (unsigned i = 0; i < RUNS; i++) {
		struct run_info info = {.source = {"s-0123456789abcdef0"}, .digest_seed = 7, .number = i + 1}, got;
		size_t to = m->count * (i + 1) / RUNS;
		static struct entry copy[ENTRIES_MAX];
		char path[32];

		snprintf(path, sizeof path, "/%u.run", i);
		memcpy(copy, m->entries + from, (to - from) * sizeof *copy);
		assert_int_equal(run_write(f->disk, "/", path, &info, copy, to - from, NULL, 0), 0);
		assert_int_equal(run_open(f->disk, path, &m->runs[i], &got, NULL), 0);
		from = to;
	}
}

struct seen {
	struct model *m;
	struct entry last;
	bool any, wide;
};

static int
on_seen(void *arg, const struct entry *e, uint64_t newer_lsn)
{
	struct seen *s = arg;
	size_t i = (e->lsn - 2) / 2;

	assert_memory_equal(e, &s->m->entries[i], sizeof *e);
	assert_false(s->m->seen[i]);
	assert_int_equal(e->count > ENTRY_WIDE_BLOCKS, s->wide);
	assert_true(!s->any || entry_compare(&s->last, e) < 0);
	s->m->seen[i] = true;
	s->last = *e;
	s->any = true;
	return 0;
}

/* Of every block at every point, and at the end: the newest version, which must be among those called for. Returns how
 * many of the data versions called for nobody sees. */
static size_t
check_seen(const struct model *m)
{
	static bool needed[ENTRIES_MAX];
	size_t idle = 0;

	memset(needed, 0, sizeof needed);
	for (size_t p = 0; p < m->point_count; p++)
		for (uint32_t volume = 1; volume <= VOLUMES; volume++)
			for (uint64_t block = 0; block < 2 * BLOCKS; block++) {
				size_t newest = SIZE_MAX;

				for (size_t i = 0; i < m->count && m->entries[i].lsn <= m->points[p]; i++)
					if (m->entries[i].volume == volume && m->entries[i].block <= block &&
					    m->entries[i].block + m->entries[i].count > block)
						newest = i;
				if (newest == SIZE_MAX)
					continue;
				assert_true(m->seen[newest]);
				needed[newest] = true;
			}
	for (size_t i = 0; i < m->count; i++)
		idle += m->seen[i] && !needed[i] && m->entries[i].digest != 0;
	return idle;
}

static void
every_version_that_a_point_sees_is_kept_and_no_other_data(void **state)
{
	struct fixture *f = *state;
	struct dice dice = dice_from_environment();
	static struct model m;

	for (int round = 0; round < 25; round++) {
		memset(&m, 0, sizeof m);
		draw_entries(&dice, &m);
		draw_points(&dice, &m);
		write_runs(f, &m);
		for (int wide = 0; wide < 2; wide++) {
			struct seen seen = {.m = &m, .wide = wide};

			assert_int_equal(
			    merge_scan(m.runs, RUNS, f->disk, m.points, m.point_count, wide, on_seen, &seen), 0);
		}
		assert_int_equal(check_seen(&m), 0);
		for (unsigned i = 0; i < RUNS; i++)
			run_unref(m.runs[i], f->disk);
	}
}

static int
count_one(void *arg, const struct entry *e, uint64_t newer_lsn)
{
	++*(size_t *)arg;
	return 0;
}

/* More ranges reach over one block than are remembered: nothing that is seen may be lost for that. */
static void
more_ranges_than_are_remembered_lose_nothing(void **state)
{
	enum { COUNT = 600 };
	struct fixture *f = *state;
	struct run_info info = {.source = {"s-0123456789abcdef0"}, .digest_seed = 7, .number = 1};
	static struct entry entries[COUNT + 1];
	static const uint64_t points[] = {100000};
	struct run *r;
	size_t count = 0;

	for (uint32_t i = 0; i < COUNT; i++) /* each begins later and ends later, and is newer, than the one before */
		entries[i] = (struct entry){.block = i, .count = 100000, .lsn = i + 1, .volume = 1};
	entries[COUNT] = (struct entry){
	    .block = COUNT + 5, .count = 1, .lsn = 5000, .volume = 1, .digest = 1, .segment = 1, .offset = 1};
	assert_int_equal(run_write(f->disk, "/", "/a.run", &info, entries, COUNT + 1, NULL, 0), 0);
	assert_int_equal(run_open(f->disk, "/a.run", &r, &info, NULL), 0);
	assert_int_equal(merge_scan(&r, 1, f->disk, points, 1, true, count_one, &count), 0);
	assert_int_equal(count, COUNT);
	count = 0;
	assert_int_equal(merge_scan(&r, 1, f->disk, points, 1, false, count_one, &count), 0);
	assert_int_equal(count, 1);
	run_unref(r, f->disk);
}

static void
damaged_run_ends_the_merge(void **state)
{
	struct fixture *f = *state;
	struct dice dice = {3};
	static struct model m;
	size_t count = 0;

	memset(&m, 0, sizeof m);
	draw_entries(&dice, &m);
	draw_points(&dice, &m);
	write_runs(f, &m);
	for (uint64_t page = 0; page < run_pages(m.runs[2]); page++) /* one alone would be mended */
		assert_int_equal(disk_sim_flip(f->disk, "/2.run", page * 4096 + 100, 3), 0);
	assert_int_equal(
	    merge_scan(m.runs, RUNS, f->disk, m.points, m.point_count, false, count_one, &count), -HF_ECORRUPT);
	for (unsigned i = 0; i < RUNS; i++)
		run_unref(m.runs[i], f->disk);
}

/* ---- packed segments ---- */

enum { PACK_BLOCKS = 40, SEED = 99 };

/* A file of blocks, each of its own number, and entries of them in an order of their own. */
static struct disk_file *
make_blocks(struct fixture *f, struct entry *entries)
{
	unsigned char *block = buffer_alloc(BLOCK_BYTES);
	struct disk_file *file;

	assert_int_equal(disk_open(f->disk, "/3.seg", DISK_WRITE | DISK_CREATE, &file), 0);
	for (uint32_t i = 0; i < PACK_BLOCKS; i++) {
		struct entry *e = &entries[(i * 7) % PACK_BLOCKS];

		memset(block, (int)i + 1, BLOCK_BYTES);
		assert_int_equal(disk_write_now(f->disk, file, block, BLOCK_BYTES, (uint64_t)i * BLOCK_BYTES), 0);
		*e = (struct entry){.block = i,
		    .lsn = 1,
		    .volume = 1,
		    .count = 1,
		    .segment = 3,
		    .offset = i,
		    .digest = digest_block(SEED, block)};
	}
	buffer_free(block, BLOCK_BYTES);
	return file;
}

static struct shared_file *
pack_all(struct fixture *f, struct entry *entries, struct disk_file *file)
{
	struct pack_header h = {.source = {"s-0123456789abcdef0"}, .digest_seed = SEED, .number = 12}, got;
	struct entry *list[PACK_BLOCKS];
	struct disk_file *files[PACK_BLOCKS];
	struct shared_file *packed;
	unsigned char *page = buffer_alloc(BLOCK_BYTES);
	struct pack *p;

	for (unsigned i = 0; i < PACK_BLOCKS; i++) {
		list[i] = &entries[i];
		files[i] = file;
	}
	assert_int_equal(pack_create(f->disk, "/12.seg", &h, &p), 0);
	assert_int_equal(pack_move(p, list, files, PACK_BLOCKS / 2), 0);
	assert_int_equal(pack_move(p, list + PACK_BLOCKS / 2, files, PACK_BLOCKS / 2), 0);
	assert_int_equal(pack_finish(p, &packed), 0);
	pack_destroy(p);
	assert_int_equal(disk_read_now(f->disk, packed->file, page, BLOCK_BYTES, 0), 0);
	assert_int_equal(pack_header_decode(page, &got), 0);
	assert_int_equal(got.number, 12);
	assert_string_equal(got.source.text, h.source.text);
	for (size_t bit = 0; bit < 8 * BLOCK_BYTES; bit++) {
		page[bit / 8] ^= (unsigned char)(1 << bit % 8);
		assert_int_equal(pack_header_decode(page, &got), -HF_ECORRUPT);
		page[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
	buffer_free(page, BLOCK_BYTES);
	return packed;
}

static bool
matches(struct fixture *f, const struct entry *e, struct disk_file *file)
{
	unsigned char *block = buffer_alloc(BLOCK_BYTES);
	bool ok;

	assert_int_equal(disk_read_now(f->disk, file, block, BLOCK_BYTES, (uint64_t)e->offset * BLOCK_BYTES), 0);
	ok = digest_block(SEED, block) == e->digest;
	buffer_free(block, BLOCK_BYTES);
	return ok;
}

static void
blocks_are_copied_and_found_where_their_entries_say(void **state)
{
	struct fixture *f = *state;
	struct entry entries[PACK_BLOCKS];
	struct disk_file *file = make_blocks(f, entries);
	struct shared_file *packed = pack_all(f, entries, file);

	for (unsigned i = 0; i < PACK_BLOCKS; i++) {
		assert_int_equal(entries[i].segment, 12);
		assert_true(matches(f, &entries[i], packed->file));
	}
	shared_file_unref(packed, f->disk);
	disk_close(f->disk, file);
}

/* Its digest is carried: made anew, it would make rot look sound. */
static void
rotten_block_stays_where_it_is(void **state)
{
	struct fixture *f = *state;
	struct entry entries[PACK_BLOCKS];
	struct disk_file *file = make_blocks(f, entries);
	struct shared_file *packed;
	unsigned moved = 0;

	assert_int_equal(disk_sim_flip(f->disk, "/3.seg", 17 * BLOCK_BYTES + 5, 1), 0);
	packed = pack_all(f, entries, file);
	for (unsigned i = 0; i < PACK_BLOCKS; i++) {
		moved += entries[i].segment == 12;
		if (entries[i].block == 17) {
			assert_int_equal(entries[i].segment, 3);
			assert_int_equal(entries[i].offset, 17);
			assert_false(matches(f, &entries[i], file));
		} else {
			assert_true(matches(f, &entries[i], packed->file));
		}
	}
	assert_int_equal(moved, PACK_BLOCKS - 1);
	shared_file_unref(packed, f->disk);
	disk_close(f->disk, file);
}

static void
block_that_cannot_be_read_stays_where_it_is(void **state)
{
	struct fixture *f = *state;
	struct entry entries[PACK_BLOCKS];
	struct disk_file *file = make_blocks(f, entries);
	struct pack_header h = {.source = {"s-0123456789abcdef0"}, .digest_seed = SEED, .number = 12};
	struct entry *list[1] = {&entries[0]};
	struct pack *p;

	assert_int_equal(pack_create(f->disk, "/12.seg", &h, &p), 0);
	disk_sim_fail(f->disk, 'r', 1, true, SIM_FAULT_EIO);
	assert_int_equal(pack_move(p, list, &file, 1), 0);
	disk_sim_fail(f->disk, 'r', 1, true, SIM_FAULT_NONE);
	assert_int_equal(entries[0].segment, 3);
	assert_int_equal(pack_blocks(p), 0);
	pack_destroy(p);
	disk_close(f->disk, file);
}

/* ---- holes ---- */

static void
holes_are_made_of_dead_ranges_that_are_worth_it_and_of_nothing_else(void **state)
{
	enum { FILE_BLOCKS = 300 };
	struct fixture *f = *state;
	struct dice dice = dice_from_environment();
	unsigned char *block = buffer_alloc(BLOCK_BYTES);

	for (int round = 0; round < 60; round++) {
		bool live[FILE_BLOCKS] = {true};
		struct punch_map m;
		struct disk_file *file;
		uint64_t bytes, again, dead = 0;
		unsigned dense = 2 + (unsigned)dice_below(&dice, 60);

		(void)disk_unlink(f->disk, "/a.seg");
		assert_int_equal(disk_open(f->disk, "/a.seg", DISK_WRITE | DISK_CREATE, &file), 0);
		assert_int_equal(punch_map_init(&m, FILE_BLOCKS * BLOCK_BYTES), 0);
		memset(block, 1, BLOCK_BYTES);
		for (unsigned i = 0; i < FILE_BLOCKS; i++) {
			assert_int_equal(
			    disk_write_now(f->disk, file, block, BLOCK_BYTES, (uint64_t)i * BLOCK_BYTES), 0);
			if (i > 0 && dice_once_in(&dice, dense)) {
				live[i] = true;
				assert_true(punch_map_set(&m, i));
			}
		}
		assert_false(punch_map_set(&m, 0));
		assert_false(punch_map_set(&m, FILE_BLOCKS));
		assert_int_equal(punch_holes(&m, f->disk, file, &bytes), 0);
		for (unsigned i = 0, end; i < FILE_BLOCKS; i = end) {
			for (end = i + 1; end < FILE_BLOCKS && live[end] == live[i]; end++)
				;
			for (unsigned k = i; k < end; k++) {
				bool hole = !live[i] && end - i >= PUNCH_BLOCKS_MIN;

				dead += hole;
				assert_int_equal(
				    disk_read_now(f->disk, file, block, BLOCK_BYTES, (uint64_t)k * BLOCK_BYTES), 0);
				assert_int_equal(block[0], hole ? 0 : 1);
				assert_int_equal(block[BLOCK_BYTES - 1], hole ? 0 : 1);
			}
		}
		assert_int_equal(bytes, dead * BLOCK_BYTES);
		assert_int_equal(punch_map_held(&m), FILE_BLOCKS - dead);
		assert_int_equal(punch_holes(&m, f->disk, file, &again), 0);
		assert_int_equal(again, 0);
		punch_map_fini(&m);
		disk_close(f->disk, file);
	}
	buffer_free(block, BLOCK_BYTES);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(runs_between_two_points_are_merged),
	    TEST(run_that_ends_with_a_point_goes_with_what_is_behind_it),
	    TEST(newest_runs_wait_until_they_are_as_large_as_the_one_before),
	    TEST(no_more_runs_are_merged_than_can_be_read_at_once),
	    TEST(single_run_is_written_anew_once_half_of_its_points_are_gone),
	    TEST(merging_comes_to_an_end),
	    TEST(every_version_that_a_point_sees_is_kept_and_no_other_data),
	    TEST(more_ranges_than_are_remembered_lose_nothing),
	    TEST(damaged_run_ends_the_merge),
	    TEST(blocks_are_copied_and_found_where_their_entries_say),
	    TEST(rotten_block_stays_where_it_is),
	    TEST(block_that_cannot_be_read_stays_where_it_is),
	    TEST(holes_are_made_of_dead_ranges_that_are_worth_it_and_of_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
