/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/common/status.h"
#include "storage/disk_sim.h"
#include "storage/sum.h"
#include "tests/lib/history.h"
#include "tests/lib/scratch.h"

/* ---- against the reference ---- */

static void
check_all_snapshots(struct history *h, unsigned ranges)
{
	for (unsigned n = 0; n < h->snapshot_count; n++) {
		struct view *v = history_view(h, h->snapshot_lsns[n], 0);

		history_check(h, v, n, ranges);
		view_destroy(v, h->disk);
	}
}

static void
every_snapshot_of_small_volumes_is_as_it_was(void **state)
{
	struct dice dice = dice_from_environment();

	for (int round = 0; round < 12; round++) {
		struct history_shape shape = {
		    .volumes = 2, .blocks = 1 + dice_below(&dice, 1500), .records = 120, .snapshots = 5};
		struct history *h = history_create(&shape, &dice);

		check_all_snapshots(h, 4);
		history_destroy(h);
	}
}

static void
every_snapshot_of_volumes_of_several_zones_is_as_it_was(void **state)
{
	struct dice dice = dice_from_environment();
	struct history_shape shape = {
	    .volumes = 2, .blocks = 3 * SUM_ZONE_BLOCKS + 1234, .records = 150, .snapshots = 3};

	for (int round = 0; round < 2; round++) {
		struct history *h = history_create(&shape, &dice);

		check_all_snapshots(h, 6);
		history_destroy(h);
	}
}

static void
what_lies_beyond_the_fill_frontier_is_zero(void **state)
{
	struct dice dice = dice_from_environment();

	for (int round = 0; round < 6; round++) {
		struct history_shape shape = {.volumes = 1,
		    .blocks = 2 + dice_below(&dice, round % 2 ? 90000 : 2000),
		    .records = 60,
		    .snapshots = 2,
		    .partly_filled = true};
		struct history *h = history_create(&shape, &dice);
		struct history_volume *hv = &h->volumes[0];
		struct disk_file *sum;
		struct sum_zone *zone;

		/* what a fill that goes on leaves there must not be seen */
		assert_int_equal(disk_open(h->disk, "/vol1.sum", DISK_WRITE, &sum), 0);
		assert_int_equal(sum_zone_create(&zone), 0);
		sum_zone_begin(zone, hv->frontier / SUM_ZONE_BLOCKS, h->digest_seed);
		for (uint64_t b = hv->frontier;
		     b < hv->blocks && b < hv->frontier + 500 && b / SUM_ZONE_BLOCKS == hv->frontier / SUM_ZONE_BLOCKS;
		     b++)
			sum_zone_set(zone, b, 12345 + b);
		assert_int_equal(sum_zone_store(zone, h->disk, sum), 0);
		sum_zone_destroy(zone);
		disk_close(h->disk, sum);
		check_all_snapshots(h, 4);
		history_destroy(h);
	}
}

static void
growth_after_the_view_is_not_seen(void **state)
{
	struct dice dice = dice_from_environment();
	struct history_shape shape = {.volumes = 1, .blocks = 333, .records = 40, .snapshots = 2};
	struct history *h = history_create(&shape, &dice);
	struct sum_page *pages = buffer_alloc(SUM_CURSOR_PAGES_MAX * sizeof *pages);
	struct sum_cursor *cursor = malloc(sizeof *cursor);
	struct disk_file *sum;
	uint64_t digests[300];
	unsigned n;

	for (uint64_t i = 0; i < 300; i++)
		digests[i] = 1000 + i;
	assert_int_equal(disk_open(h->disk, "/vol1.sum", DISK_WRITE, &sum), 0);
	assert_int_equal(sum_cursor_load(cursor, h->disk, sum, h->digest_seed, 333), 0);
	n = sum_cursor_append(cursor, digests, 300, pages);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(disk_write_now(h->disk, sum, pages[i].bytes, 4096, pages[i].offset), 0);
	disk_close(h->disk, sum);
	h->volumes[0].frontier = 633; /* of today; the views are of the smaller volume */
	check_all_snapshots(h, 10);
	free(cursor);
	buffer_free(pages, SUM_CURSOR_PAGES_MAX * sizeof *pages);
	history_destroy(h);
}

/* ---- changes ---- */

static void
check_changes(struct history *h, struct view *v, struct history_volume *hv, const uint32_t *model, size_t max)
{
	uint32_t *made = malloc(hv->blocks * sizeof *made);
	struct entry *entries = calloc(max, sizeof *entries);
	unsigned char *buf = buffer_alloc(BLOCK_BYTES), expected[BLOCK_BYTES];
	uint64_t from = 0, next = 0;

	memcpy(made, hv->base, hv->blocks * sizeof *made);
	while (from != UINT64_MAX) {
		ssize_t n = view_changes(v, h->disk, h->cache, hv->number, &from, entries, max);

		assert_in_range(n, 0, max);
		for (ssize_t i = 0; i < n; i++) {
			const struct entry *e = &entries[i];

			assert_true(e->block >= next); /* ascending, none twice */
			next = e->block + e->count;
			assert_true(next <= hv->blocks);
			for (uint64_t b = e->block; b < next; b++) {
				assert_int_equal(h->digests[model[b]], e->digest);
				made[b] = model[b];
			}
			if (e->digest == 0)
				continue;
			assert_int_equal(e->count, 1);
			assert_int_equal(view_read_entry(v, h->disk, e, buf), 0);
			history_bytes(model[e->block], expected);
			assert_memory_equal(buf, expected, BLOCK_BYTES);
		}
		if (from != UINT64_MAX)
			assert_true(from >= next);
	}
	assert_memory_equal(made, model, hv->blocks * sizeof *made);
	buffer_free(buf, BLOCK_BYTES);
	free(entries);
	free(made);
}

static void
changes_make_the_snapshot_of_the_base(void **state)
{
	struct dice dice = dice_from_environment();

	for (int round = 0; round < 8; round++) {
		struct history_shape shape = {
		    .volumes = 2, .blocks = round % 2 ? 900 : 100000, .records = 120, .snapshots = 3};
		struct history *h = history_create(&shape, &dice);

		for (unsigned n = 0; n < h->snapshot_count; n++) {
			struct view *v = history_view(h, h->snapshot_lsns[n], 0);

			for (uint32_t i = 0; i < h->volume_count; i++) {
				check_changes(h, v, &h->volumes[i], h->volumes[i].snapshots[n], 5000);
				check_changes(
				    h, v, &h->volumes[i], h->volumes[i].snapshots[n], 1 + dice_below(&dice, 9));
			}
			view_destroy(v, h->disk);
		}
		history_destroy(h);
	}
}

/* ---- a volume made by hand ---- */

struct bench {
	struct disk *disk;
	struct run_cache *cache;
	struct view_parts parts;
};

static void
bench_open(struct bench *b, struct disk *disk, const char *dir, uint64_t size_bytes)
{
	char path[128];
	struct view_volume *vv;

	memset(b, 0, sizeof *b);
	vv = &b->parts.volumes[0];
	b->disk = disk;
	assert_int_equal(run_cache_create(1 << 20, &b->cache), 0);
	b->parts.digest_seed = 99;
	b->parts.lsn = 1000;
	b->parts.runs = calloc(4, sizeof(struct run *));
	b->parts.segments = calloc(4, sizeof(struct shared_file *));
	b->parts.volume_count = 1;
	*vv = (struct view_volume){.volume = 1, .size_bytes = size_bytes, .frontier_blocks = size_bytes / BLOCK_BYTES};
	snprintf(path, sizeof path, "%s/1.img", dir);
	assert_int_equal(shared_file_open(disk, path, DISK_WRITE | DISK_CREATE, 1, &vv->img), 0);
	snprintf(path, sizeof path, "%s/1.sum", dir);
	assert_int_equal(shared_file_open(disk, path, DISK_WRITE | DISK_CREATE, 1, &vv->sum), 0);
}

static struct view *
bench_view(struct bench *b)
{
	struct view *v;

	assert_int_equal(view_create(&b->parts, b->disk, &v), 0);
	return v;
}

static void
bench_close(struct bench *b, struct view *v)
{
	view_destroy(v, b->disk);
	run_cache_destroy(b->cache);
}

/* A block of ones at `block` of the staging file, with its digest. */
static void
stage_block(struct bench *b, uint64_t block)
{
	struct view_volume *vv = &b->parts.volumes[0];
	unsigned char *bytes = buffer_alloc(BLOCK_BYTES);
	struct sum_zone *zone;

	memset(bytes, 1, BLOCK_BYTES);
	assert_int_equal(disk_write_now(b->disk, vv->img->file, bytes, BLOCK_BYTES, block * BLOCK_BYTES), 0);
	assert_int_equal(sum_zone_create(&zone), 0);
	sum_zone_begin(zone, block / SUM_ZONE_BLOCKS, b->parts.digest_seed);
	sum_zone_set(zone, block, digest_block(b->parts.digest_seed, bytes));
	assert_int_equal(sum_zone_store(zone, b->disk, vv->sum->file), 0);
	sum_zone_destroy(zone);
	buffer_free(bytes, BLOCK_BYTES);
}

static void
contiguous_blocks_are_read_in_one_piece(void **state)
{
	struct bench b;
	struct disk *disk;
	struct view *v;
	unsigned char *buf = buffer_alloc(256 * BLOCK_BYTES);
	uint64_t before;

	assert_int_equal(disk_sim_create(1, &disk), 0);
	bench_open(&b, disk, "", 1000 * BLOCK_BYTES);
	for (uint64_t i = 0; i < 256; i++)
		stage_block(&b, i);
	v = bench_view(&b);
	before = disk_sim_operations(disk);
	assert_int_equal(view_read(v, disk, b.cache, 1, 0, 256, buf, NULL), 0);
	assert_int_equal(disk_sim_operations(disk) - before, 2); /* a page of digests, and the data */
	before = disk_sim_operations(disk);
	assert_int_equal(view_read(v, disk, b.cache, 1, 300, 256, buf, NULL), 0);
	assert_int_equal(disk_sim_operations(disk) - before, 1); /* zeros: their digests alone */
	bench_close(&b, v);
	disk_destroy(disk);
	buffer_free(buf, 256 * BLOCK_BYTES);
}

static void
reads_beyond_the_volume_or_of_another_are_refused(void **state)
{
	struct bench b;
	struct disk *disk;
	struct view *v;
	uint64_t digest, block = 7, from = 0;
	struct entry e;
	unsigned char *buf = buffer_alloc(BLOCK_BYTES);

	assert_int_equal(disk_sim_create(1, &disk), 0);
	bench_open(&b, disk, "", 10 * BLOCK_BYTES + 1);
	v = bench_view(&b);
	assert_int_equal(view_read(v, disk, b.cache, 1, 10, 1, buf, NULL), 0);
	assert_int_equal(view_read(v, disk, b.cache, 1, 11, 1, buf, NULL), -HF_EBEYOND);
	assert_int_equal(view_read(v, disk, b.cache, 1, 10, 2, buf, NULL), -HF_EBEYOND);
	assert_int_equal(view_read(v, disk, b.cache, 1, UINT64_MAX, 1, buf, NULL), -HF_EBEYOND);
	assert_int_equal(view_read(v, disk, b.cache, 2, 0, 1, buf, NULL), -HF_EVOLUME);
	assert_int_equal(view_digests(v, disk, b.cache, 2, 0, 0, 1, &digest), -HF_EVOLUME);
	assert_int_equal(view_next_data(v, disk, b.cache, 2, 0, &block), -HF_EVOLUME);
	assert_int_equal(view_changes(v, disk, b.cache, 2, &from, &e, 1), -HF_EVOLUME);
	assert_int_equal(view_digests(v, disk, b.cache, 1, 0, 1000, 1, &digest), 0);
	assert_int_equal(digest, 0);
	assert_int_equal(view_next_data(v, disk, b.cache, 1, 0, &block), 0);
	assert_int_equal(block, 11); /* all zero: the volume's blocks */
	assert_null(view_find_volume(v, 2));
	bench_close(&b, v);
	disk_destroy(disk);
	buffer_free(buf, BLOCK_BYTES);
}

static void
rot_is_found_and_the_block_is_named(void **state)
{
	struct dice dice = dice_from_environment();
	struct history_shape shape = {.volumes = 1, .blocks = 200, .records = 60, .snapshots = 1};

	for (int round = 0; round < 20; round++) {
		struct history *h = history_create(&shape, &dice);
		struct view *v = history_view(h, h->lsn_last, 0);
		unsigned char *buf = buffer_alloc(200 * BLOCK_BYTES);
		struct view_fault fault = {0};
		uint64_t at = dice_below(&dice, 200);
		char path[32];
		int r;

		/* a bit of the staging file, or of a random block of the first segment */
		history_path(path, sizeof path, round % 2 ? "img" : "seg", 1);
		r = disk_sim_flip(h->disk, path, at * BLOCK_BYTES + dice_below(&dice, BLOCK_BYTES), 3);
		if (r == 0) {
			r = view_read(v, h->disk, h->cache, 1, 0, 200, buf, &fault);
			assert_true(r == 0 || r == -HF_EDIGEST); /* 0: a version nobody sees any more */
			if (r < 0) {
				assert_int_equal(fault.status, -HF_EDIGEST);
				assert_int_equal(fault.volume, 1);
				assert_int_equal(fault.segment, round % 2 ? 0 : 1);
				assert_true(fault.segment != 0 || fault.block == at);
				assert_int_equal(
				    view_read(v, h->disk, h->cache, 1, fault.block, 1, buf, NULL), -HF_EDIGEST);
			} else {
				history_check(h, v, 0, 3);
			}
		}
		buffer_free(buf, 200 * BLOCK_BYTES);
		view_destroy(v, h->disk);
		history_destroy(h);
	}
}

static void
unreadable_block_is_named_and_a_passing_error_is_not_one(void **state)
{
	struct bench b;
	struct disk *disk;
	struct view *v;
	struct view_fault fault = {0};
	unsigned char *buf = buffer_alloc(20 * BLOCK_BYTES);

	assert_int_equal(disk_sim_create(1, &disk), 0);
	bench_open(&b, disk, "", 1000 * BLOCK_BYTES);
	for (uint64_t i = 0; i < 20; i++)
		stage_block(&b, i);
	v = bench_view(&b);
	disk_sim_fail(disk, 'r', 2, false, SIM_FAULT_EIO);
	assert_int_equal(view_read(v, disk, b.cache, 1, 0, 20, buf, &fault), 0);
	assert_int_equal(disk_truncate(disk, b.parts.volumes[0].img->file, 7 * BLOCK_BYTES), 0);
	assert_int_equal(view_read(v, disk, b.cache, 1, 0, 20, buf, &fault), -EIO);
	assert_int_equal(fault.block, 7);
	assert_int_equal(fault.segment, 0);
	assert_int_equal(fault.status, -EIO);
	assert_int_equal(view_read(v, disk, b.cache, 1, 0, 7, buf, NULL), 0);
	bench_close(&b, v);
	disk_destroy(disk);
	buffer_free(buf, 20 * BLOCK_BYTES);
}

static void
entry_in_a_segment_that_is_gone_is_corruption(void **state)
{
	struct bench b;
	struct disk *disk;
	struct view *v;
	struct view_fault fault = {0};
	struct entry e = {.block = 3, .lsn = 5, .digest = 1, .segment = 44, .offset = 1, .volume = 1, .count = 1};
	unsigned char *buf = buffer_alloc(8 * BLOCK_BYTES);

	assert_int_equal(disk_sim_create(1, &disk), 0);
	bench_open(&b, disk, "", 1000 * BLOCK_BYTES);
	b.parts.runs[b.parts.run_count++] = run_from_entries(&e, 1);
	v = bench_view(&b);
	assert_int_equal(view_read(v, disk, b.cache, 1, 0, 8, buf, &fault), -HF_ECORRUPT);
	assert_int_equal(fault.block, 3);
	assert_int_equal(fault.segment, 44);
	assert_int_equal(view_read_entry(v, disk, &e, buf), -HF_ECORRUPT);
	bench_close(&b, v);
	disk_destroy(disk);
	buffer_free(buf, 8 * BLOCK_BYTES);
}

/* ---- 16 TiB ---- */

static const uint64_t huge_blocks = (uint64_t)1 << 32;

/* Every kind of question about a sparse volume of 16 TiB, counted in operations, which is what time would be made of.
 */
static void
ask_huge(struct bench *b, struct view *v, const uint64_t *data, size_t count)
{
	enum { ZONES = 65536 };
	uint64_t *digests = calloc(ZONES, sizeof *digests);
	uint64_t at = 0, found;

	for (size_t i = 0; i <= count; i++) {
		assert_int_equal(view_next_data(v, b->disk, b->cache, 1, at, &found), 0);
		if (i == count) {
			assert_int_equal(found, huge_blocks);
			break;
		}
		assert_true(found <= data[i] && data[i] - found < 256);
		at = (data[i] / 256 + 1) * 256;
	}
	assert_int_equal(view_digests(v, b->disk, b->cache, 1, 3, 0, ZONES, digests), 0);
	for (size_t z = 0; z < ZONES; z++) {
		bool expected = false;

		for (size_t i = 0; i < count; i++)
			expected |= data[i] / SUM_ZONE_BLOCKS == z;
		assert_int_equal(digests[z] != 0, expected);
	}
	free(digests);
}

static void
huge_sparse_volume_costs_what_is_in_it(void **state)
{
	static const uint64_t data[] = {5, 70000, 1234567890, 3000000000, 4294967295};
	struct entry e = {
	    .block = 1234567890, .lsn = 5, .digest = 1, .segment = 1, .offset = 1, .volume = 1, .count = 1};
	struct bench b;
	struct disk *disk;
	struct view *v;
	uint64_t before;

	assert_int_equal(disk_sim_create(1, &disk), 0);
	bench_open(&b, disk, "", huge_blocks * BLOCK_BYTES);
	stage_block(&b, data[0]);
	stage_block(&b, data[1]);
	stage_block(&b, data[3]);
	stage_block(&b, data[4]);
	b.parts.runs[b.parts.run_count++] = run_from_entries(&e, 1);
	v = bench_view(&b);
	before = disk_sim_operations(disk);
	ask_huge(&b, v, data, 5);
	assert_true(disk_sim_operations(disk) - before < 200);
	bench_close(&b, v);
	disk_destroy(disk);
}

static void
huge_discard_costs_little(void **state)
{
	struct entry e[3] = {
	    {.block = 0, .lsn = 5, .volume = 1, .count = UINT32_MAX},
	    {.block = 1234567890, .lsn = 6, .digest = 1, .segment = 1, .offset = 1, .volume = 1, .count = 1},
	    {.block = UINT32_MAX, .lsn = 7, .volume = 1, .count = 1},
	};
	static const uint64_t data[] = {1234567890};
	struct entry changes[8];
	struct bench b;
	struct disk *disk;
	struct view *v;
	uint64_t before, from = 0, *digests = calloc(65536, sizeof *digests);

	assert_int_equal(disk_sim_create(1, &disk), 0);
	bench_open(&b, disk, "", huge_blocks * BLOCK_BYTES);
	stage_block(&b, 70000);
	b.parts.runs[b.parts.run_count++] = run_from_entries(e, 3);
	v = bench_view(&b);
	before = disk_sim_operations(disk);
	assert_int_equal(view_digests(v, disk, b.cache, 1, 3, 0, 65536, digests), 0);
	for (size_t z = 0; z < 65536; z++)
		assert_int_equal(digests[z] != 0, z == data[0] / SUM_ZONE_BLOCKS);
	assert_int_equal(view_changes(v, disk, b.cache, 1, &from, changes, 8), 4);
	assert_true(from == UINT64_MAX);
	assert_int_equal(changes[0].block, 0);
	assert_int_equal(changes[0].count, data[0]);
	assert_int_equal(changes[1].digest, 1);
	assert_int_equal(changes[2].block, data[0] + 1);
	assert_int_equal(changes[3].block + changes[3].count, huge_blocks);
	assert_true(disk_sim_operations(disk) - before < 100);
	bench_close(&b, v);
	disk_destroy(disk);
	free(digests);
}

/* The same on a real file system, where holes are its business. */
static void
huge_sparse_volume_on_a_real_disk(void **state)
{
	static const uint64_t data[] = {70000, 3000000000};
	char dir[64], path[96];
	struct hf_error err;
	struct bench b;
	struct disk *disk;
	struct view *v;
	int r = disk_ring_create(32, &disk, &err);

	if (r < 0) {
		print_message("%s\n", err.text);
		skip();
	}
	scratch_make(dir, sizeof dir, "test_view");
	bench_open(&b, disk, dir, huge_blocks * BLOCK_BYTES);
	for (size_t i = 0; i < 2; i++) { /* digests alone: the file system may not have room for such an image */
		struct sum_zone *zone;

		assert_int_equal(sum_zone_create(&zone), 0);
		sum_zone_begin(zone, data[i] / SUM_ZONE_BLOCKS, b.parts.digest_seed);
		sum_zone_set(zone, data[i], 1);
		assert_int_equal(sum_zone_store(zone, disk, b.parts.volumes[0].sum->file), 0);
		sum_zone_destroy(zone);
	}
	v = bench_view(&b);
	ask_huge(&b, v, data, 2);
	bench_close(&b, v);
	disk_destroy(disk);
	snprintf(path, sizeof path, "%s/1.img", dir);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof path, "%s/1.sum", dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_snapshot_of_small_volumes_is_as_it_was),
	    cmocka_unit_test(every_snapshot_of_volumes_of_several_zones_is_as_it_was),
	    cmocka_unit_test(what_lies_beyond_the_fill_frontier_is_zero),
	    cmocka_unit_test(growth_after_the_view_is_not_seen),
	    cmocka_unit_test(changes_make_the_snapshot_of_the_base),
	    cmocka_unit_test(contiguous_blocks_are_read_in_one_piece),
	    cmocka_unit_test(reads_beyond_the_volume_or_of_another_are_refused),
	    cmocka_unit_test(rot_is_found_and_the_block_is_named),
	    cmocka_unit_test(unreadable_block_is_named_and_a_passing_error_is_not_one),
	    cmocka_unit_test(entry_in_a_segment_that_is_gone_is_corruption),
	    cmocka_unit_test(huge_sparse_volume_costs_what_is_in_it),
	    cmocka_unit_test(huge_discard_costs_little),
	    cmocka_unit_test(huge_sparse_volume_on_a_real_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
