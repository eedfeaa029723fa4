/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/disk_sim.h"
#include "storage/fold.h"
#include "storage/sum.h"
#include "tests/lib/history.h"

static int
fold_to(struct history *h, uint64_t lsn, struct fold_stats *stats, struct view_fault *fault)
{
	struct view *v = history_view(h, lsn, 0);
	int r = fold_run(v, h->disk, h->cache, NULL, NULL, stats, fault);

	view_destroy(v, h->disk);
	return r;
}

/* Snapshots from `first` on, read over a base. */
static void
check_from(struct history *h, unsigned first, uint64_t base_lsn, unsigned ranges)
{
	for (unsigned n = first; n < h->snapshot_count; n++) {
		struct view *v = history_view(h, h->snapshot_lsns[n], base_lsn);

		history_check(h, v, n, ranges);
		view_destroy(v, h->disk);
	}
}

/* ---- folding ---- */

static void
points_at_and_after_the_fold_stay_as_they_were(void **state)
{
	struct dice dice = dice_from_environment();

	for (int round = 0; round < 10; round++) {
		struct history_shape shape = {
		    .volumes = 2, .blocks = 2 + dice_below(&dice, 1200), .records = 100, .snapshots = 4};
		struct history *h = history_create(&shape, &dice);
		unsigned n = (unsigned)dice_below(&dice, h->snapshot_count);
		struct fold_stats stats;

		assert_int_equal(fold_to(h, h->snapshot_lsns[n], &stats, NULL), 0);
		check_from(h, n, 0, 3); /* the catalog does not know yet */
		check_from(h, n, h->snapshot_lsns[n], 3);
		history_destroy(h);
	}
}

static void
volumes_of_several_zones_are_folded(void **state)
{
	struct dice dice = dice_from_environment();
	struct history_shape shape = {
	    .volumes = 2, .blocks = 3 * SUM_ZONE_BLOCKS + 777, .records = 120, .snapshots = 2};
	struct history *h = history_create(&shape, &dice);
	struct fold_stats stats;

	assert_int_equal(fold_to(h, h->snapshot_lsns[0], &stats, NULL), 0);
	check_from(h, 0, h->snapshot_lsns[0], 8);
	history_destroy(h);
}

static void
folds_follow_one_another(void **state)
{
	struct dice dice = dice_from_environment();
	struct history_shape shape = {.volumes = 1, .blocks = 700, .records = 150, .snapshots = 6};
	struct history *h = history_create(&shape, &dice);
	uint64_t base = 0;

	for (unsigned n = 0; n < h->snapshot_count; n++) {
		struct view *v = history_view(h, h->snapshot_lsns[n], base);
		struct fold_stats stats;

		assert_int_equal(fold_run(v, h->disk, h->cache, NULL, NULL, &stats, NULL), 0);
		view_destroy(v, h->disk);
		base = h->snapshot_lsns[n];
		check_from(h, n, base, 3);
	}
	history_destroy(h);
}

static void
header_says_what_was_folded_and_never_less(void **state)
{
	struct dice dice = dice_from_environment();
	struct history_shape shape = {.volumes = 1, .blocks = 300, .records = 60, .snapshots = 3};
	struct history *h = history_create(&shape, &dice);
	struct fold_stats stats;
	struct sum_header header;
	struct disk_file *sum;

	assert_int_equal(fold_to(h, h->lsn_last, &stats, NULL), 0);
	assert_int_equal(fold_to(h, h->snapshot_lsns[0], &stats, NULL), 0);
	assert_int_equal(disk_open(h->disk, "/vol1.sum", DISK_READ, &sum), 0);
	assert_int_equal(sum_header_read(h->disk, sum, &header), 0);
	assert_int_equal(header.fold_lsn, h->lsn_last);
	disk_close(h->disk, sum);
	history_destroy(h);
}

/* Their headers say how far the fold went all the same: without a catalog it is all that proves it. */
static void
volumes_without_changes_are_left_alone_but_for_the_header(void **state)
{
	struct dice dice = dice_from_environment();
	struct history_shape shape = {.volumes = 2, .blocks = 300, .records = 60, .snapshots = 1};
	struct history *h = history_create(&shape, &dice);
	struct view *v = history_view(h, h->lsn_last, h->lsn_last); /* folded already, so to speak */
	struct fold_stats stats;
	struct sum_header header;

	assert_int_equal(fold_run(v, h->disk, h->cache, NULL, NULL, &stats, NULL), 0);
	for (uint32_t i = 1; i <= 2; i++) {
		assert_int_equal(sum_header_read(h->disk, view_find_volume(v, i)->sum->file, &header), 0);
		assert_int_equal(header.fold_lsn, h->lsn_last);
	}
	assert_int_equal(stats.batches, 0);
	assert_int_equal(stats.blocks_written, 0);
	view_destroy(v, h->disk);
	history_destroy(h);
}

/* ---- cuts and faults ---- */

static void
reboot(struct history *h, uint64_t seed)
{
	disk_sim_cut_at(h->disk, 0);
	disk_sim_restart(h->disk, SIM_SURVIVE_RANDOM, seed);
}

/* Cut at operation `at` of a fold, see that nothing was lost, fold again. False if the fold was over before. */
static bool
cut_fold_at(struct history_shape shape, uint64_t seed, uint64_t at)
{
	struct dice dice = {seed};
	struct history *h = history_create(&shape, &dice);
	unsigned n = h->snapshot_count / 2;
	struct view *v = history_view(h, h->snapshot_lsns[n], 0);
	struct fold_stats stats;
	bool cut;

	disk_sim_cut_at(h->disk, at);
	(void)fold_run(v, h->disk, h->cache, NULL, NULL, &stats, NULL);
	cut = disk_sim_is_cut(h->disk);
	view_destroy(v, h->disk);
	reboot(h, seed + at);
	check_from(h, n, 0, 2);
	assert_int_equal(fold_to(h, h->snapshot_lsns[n], &stats, NULL), 0);
	reboot(h, seed - at); /* what fold_run() returned from is durable */
	check_from(h, n, h->snapshot_lsns[n], 2);
	history_destroy(h);
	return cut;
}

static void
cut_at_every_operation_loses_nothing_and_the_fold_is_done_again(void **state)
{
	struct dice dice = dice_from_environment();
	struct history_shape shape = {.volumes = 2, .blocks = 420, .records = 25, .snapshots = 3};
	uint64_t cuts = 0;

	while (cuts < 40) { /* some histories have little to fold */
		uint64_t at = 1, seed = dice_next(&dice);

		while (cut_fold_at(shape, seed, at))
			at++;
		cuts += at;
	}
}

/* Fail each operation of a kind in turn: the fold says so, and everything is still there. */
static void
fail_each(char kind, struct dice *dice)
{
	struct history_shape shape = {.volumes = 1, .blocks = 400, .records = 30, .snapshots = 2};
	uint64_t seed = dice_next(dice);

	for (uint64_t nth = 1;; nth++) {
		struct dice d = {seed};
		struct history *h = history_create(&shape, &d);
		struct view *v = history_view(h, h->snapshot_lsns[0], 0);
		struct fold_stats stats;
		int r;

		disk_sim_fail(h->disk, kind, nth, false, SIM_FAULT_EIO);
		r = fold_run(v, h->disk, h->cache, NULL, NULL, &stats, NULL);
		disk_sim_fail(h->disk, kind, 0, false, SIM_FAULT_NONE);
		view_destroy(v, h->disk);
		if (kind != 'r') /* a read of data that fails once is tried again */
			assert_true(r == 0 || r == -EIO);
		check_from(h, 0, 0, 2);
		assert_int_equal(fold_to(h, h->snapshot_lsns[0], &stats, NULL), 0);
		check_from(h, 0, h->snapshot_lsns[0], 2);
		history_destroy(h);
		if (r == 0 && nth > 8)
			return;
	}
}

static void
failed_operation_fails_the_fold_and_harms_nothing(void **state)
{
	struct dice dice = dice_from_environment();

	fail_each('w', &dice);
	fail_each('s', &dice);
	fail_each('r', &dice);
}

enum { SYNC_HEADER = 1, SYNC_IMAGE, SYNC_DIGESTS };

static void
a_header_whose_sync_failed_is_written_again_by_the_next_fold(void **state)
{
	struct dice dice = dice_from_environment();
	struct history_shape shape = {.volumes = 1, .blocks = 200, .records = 30, .snapshots = 1};
	struct history *h = history_create(&shape, &dice);
	struct fold_stats stats;
	struct sum_header header;
	struct disk_file *sum;

	disk_sim_fail(h->disk, 's', SYNC_HEADER, false, SIM_FAULT_EIO);
	assert_int_equal(fold_to(h, h->lsn_last, &stats, NULL), -EIO);
	assert_int_equal(stats.batches, 0);
	assert_int_equal(fold_to(h, h->lsn_last, &stats, NULL), 0);
	disk_sim_restart(h->disk, SIM_SURVIVE_NONE, 1);
	assert_int_equal(disk_open(h->disk, "/vol1.sum", DISK_READ, &sum), 0);
	assert_int_equal(sum_header_read(h->disk, sum, &header), 0);
	assert_int_equal(header.fold_lsn, h->lsn_last);
	disk_close(h->disk, sum);
	history_destroy(h);
}

static void
what_failed_to_be_written_or_synced_is_written_once_more_and_really_there(void **state)
{
	static const struct {
		char kind;
		uint64_t nth;
		bool always; /* so many there are in any history */
	} faults[] = {{'s', SYNC_IMAGE, true}, {'s', SYNC_DIGESTS, true}, {'w', 2, true}, {'w', 3, false},
	    {'w', 6, false}, {'p', 1, false}};
	unsigned struck = 0;
	struct dice dice = dice_from_environment();

	for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
		struct history_shape shape = {.volumes = 1, .blocks = 400, .records = 200, .snapshots = 1};
		struct history *h = history_create(&shape, &dice);
		struct fold_stats stats;

		disk_sim_fail(h->disk, faults[i].kind, faults[i].nth, false, SIM_FAULT_EIO);
		assert_int_equal(fold_to(h, h->snapshot_lsns[0], &stats, NULL), 0);
		struck += (unsigned)disk_sim_struck(h->disk);
		assert_true(disk_sim_struck(h->disk) == 1 || !faults[i].always);
		assert_int_equal(stats.batches_rewritten, disk_sim_struck(h->disk));
		disk_sim_restart(h->disk, SIM_SURVIVE_NONE, 1);
		check_from(h, 0, h->snapshot_lsns[0], 4);
		history_destroy(h);
	}
	assert_true(struck >= 4);
}

static void
a_sync_that_fails_twice_is_never_success(void **state)
{
	struct dice dice = dice_from_environment();

	for (uint64_t nth = SYNC_HEADER; nth <= SYNC_DIGESTS; nth++) {
		struct history_shape shape = {.volumes = 1, .blocks = 200, .records = 30, .snapshots = 1};
		struct history *h = history_create(&shape, &dice);
		struct fold_stats stats;

		disk_sim_fail(h->disk, 's', nth, true, SIM_FAULT_EIO);
		assert_int_equal(fold_to(h, h->lsn_last, &stats, NULL), -EIO);
		assert_int_equal(stats.batches, 0);
		history_destroy(h);
	}
}

static void
a_full_disk_ends_the_fold_without_a_second_try(void **state)
{
	struct dice dice = dice_from_environment();
	struct history_shape shape = {.volumes = 1, .blocks = 200, .records = 30, .snapshots = 1};
	struct history *h = history_create(&shape, &dice);
	struct fold_stats stats;

	disk_sim_fail(h->disk, 'w', 2, false, SIM_FAULT_ENOSPC);
	assert_int_equal(fold_to(h, h->lsn_last, &stats, NULL), -ENOSPC);
	assert_int_equal(stats.batches_rewritten, 0);
	check_from(h, 0, 0, 2);
	history_destroy(h);
}

static const struct entry *
newest_data_entry(const struct history *h)
{
	for (size_t i = h->entry_count; i-- > 0;) {
		const struct entry *e = &h->entries[i];

		if (e->digest != 0 && h->digests[h->volumes[0].now[e->block]] == e->digest)
			return e;
	}
	return NULL;
}

static void
rot_in_the_journal_stops_the_fold_before_it_writes_the_batch(void **state)
{
	struct dice dice = dice_from_environment();
	struct history_shape shape = {.volumes = 1, .blocks = 200, .records = 40, .snapshots = 1};
	struct history *h = history_create(&shape, &dice);
	const struct entry *e = newest_data_entry(h);
	unsigned char *before = buffer_alloc(200 * BLOCK_BYTES), *after = buffer_alloc(200 * BLOCK_BYTES);
	struct fold_stats stats;
	struct view_fault fault;
	struct disk_file *img;
	char path[64];

	assert_non_null(e);
	history_path(path, sizeof path, "seg", e->segment);
	assert_int_equal(disk_sim_flip(h->disk, path, (uint64_t)e->offset * BLOCK_BYTES + 77, 5), 0);
	assert_int_equal(disk_open(h->disk, "/vol1.img", DISK_READ, &img), 0);
	assert_int_equal(disk_read_now(h->disk, img, before, 200 * BLOCK_BYTES, 0), 0);
	assert_int_equal(fold_to(h, h->lsn_last, &stats, &fault), -HF_EDIGEST);
	assert_int_equal(fault.volume, 1);
	assert_int_equal(fault.block, e->block);
	assert_int_equal(fault.segment, e->segment);
	assert_int_equal(disk_read_now(h->disk, img, after, 200 * BLOCK_BYTES, 0), 0);
	assert_memory_equal(before, after, 200 * BLOCK_BYTES);
	disk_close(h->disk, img);
	buffer_free(before, 200 * BLOCK_BYTES);
	buffer_free(after, 200 * BLOCK_BYTES);
	history_destroy(h);
}

static void
entries_that_cannot_be_are_refused(void **state)
{
	struct dice dice = dice_from_environment();
	struct history_shape shape = {.volumes = 1, .blocks = 200, .records = 60, .snapshots = 1};
	struct history *h = history_create(&shape, &dice);
	struct fold_stats stats;
	uint64_t last = 0;

	for (size_t i = 0; i < h->entry_count; i++)
		if (h->entries[i].block + h->entries[i].count > last)
			last = h->entries[i].block + h->entries[i].count;
	h->volumes[0].frontier = last - 1;
	assert_int_equal(fold_to(h, h->lsn_last, &stats, NULL), -HF_EINCOMPLETE);
	h->volumes[0].size_bytes = (last - 1) * BLOCK_BYTES;
	assert_int_equal(fold_to(h, h->lsn_last, &stats, NULL), -HF_ECORRUPT);
	assert_int_equal(stats.batches, 0);
	history_destroy(h);
}

/* ---- more than one batch, and zeros without end ---- */

struct large {
	struct disk *disk;
	struct run_cache *cache;
	struct view *view;
};

/* A volume of `blocks` blocks, of which the first data_count are written, every second one, and `zeros` behind them
 * zeroed. */
static struct large
large_create(uint64_t blocks, size_t data_count, uint32_t zeros)
{
	struct view_parts p = {.digest_seed = 5, .lsn = 10, .volume_count = 1};
	struct entry *entries = calloc(data_count + 1, sizeof *entries);
	unsigned char *block = buffer_alloc(BLOCK_BYTES);
	struct sum_header header = {.digest_seed = 5, .volume = 1};
	struct large l;

	assert_int_equal(disk_sim_create(1, &l.disk), 0);
	assert_int_equal(run_cache_create(1 << 20, &l.cache), 0);
	p.runs = calloc(1, sizeof(struct run *));
	p.segments = calloc(1, sizeof(struct shared_file *));
	p.volumes[0] = (struct view_volume){.volume = 1, .size_bytes = blocks * BLOCK_BYTES, .frontier_blocks = blocks};
	assert_int_equal(shared_file_open(l.disk, "/img", DISK_WRITE | DISK_CREATE, 1, &p.volumes[0].img), 0);
	assert_int_equal(shared_file_open(l.disk, "/sum", DISK_WRITE | DISK_CREATE, 1, &p.volumes[0].sum), 0);
	assert_int_equal(
	    shared_file_open(l.disk, "/seg", DISK_WRITE | DISK_CREATE, 1, &p.segments[p.segment_count++]), 0);
	assert_int_equal(sum_header_write(l.disk, p.volumes[0].sum->file, &header), 0);
	memset(block, 7, BLOCK_BYTES);
	assert_int_equal(disk_write_now(l.disk, p.segments[0]->file, block, BLOCK_BYTES, BLOCK_BYTES), 0);
	for (size_t i = 0; i < data_count; i++) /* all of them the same bytes */
		entries[i] = (struct entry){2 * i, 1, digest_block(5, block), 1, 1, 1, 1};
	entries[data_count] = (struct entry){.block = 2 * data_count, .lsn = 2, .volume = 1, .count = zeros};
	p.runs[p.run_count++] = run_from_entries(entries, data_count + 1);
	assert_int_equal(view_create(&p, l.disk, &l.view), 0);
	buffer_free(block, BLOCK_BYTES);
	free(entries);
	return l;
}

static void
large_destroy(struct large *l)
{
	view_destroy(l->view, l->disk);
	run_cache_destroy(l->cache);
	disk_destroy(l->disk);
}

static int
count_pause(void *arg)
{
	++*(unsigned *)arg;
	return 0;
}

static int
give_up_later(void *arg)
{
	return (*(unsigned *)arg)-- == 0;
}

static void
many_changes_go_in_batches_with_pauses_in_them(void **state)
{
	enum { DATA = 2 * FOLD_BATCH_BLOCKS + 100 };
	struct large l = large_create(4 * DATA, DATA, 50);
	struct fold_stats stats;
	unsigned pauses = 0;

	assert_int_equal(fold_run(l.view, l.disk, l.cache, count_pause, &pauses, &stats, NULL), 0);
	assert_int_equal(stats.batches, 3);
	assert_true(pauses > 10 * stats.batches);
	assert_int_equal(stats.blocks_written, DATA);
	assert_int_equal(stats.zero_blocks, 50);
	large_destroy(&l);
}

/* While it reads and while it writes; what it leaves undone is no failed write, to be tried again in other places. */
static void
it_gives_up_at_any_pause(void **state)
{
	enum { DATA = 1000 };
	struct large l = large_create(4 * DATA, DATA, 1);
	struct fold_stats stats;
	unsigned pauses = 0, left;

	assert_int_equal(fold_run(l.view, l.disk, l.cache, count_pause, &pauses, &stats, NULL), 0);
	assert_true(pauses > DATA / 10); /* each phase alone makes one of sixteen scattered blocks */
	for (unsigned i = 0; i < pauses; i++) {
		left = i;
		assert_int_equal(fold_run(l.view, l.disk, l.cache, give_up_later, &left, &stats, NULL), -ECANCELED);
		assert_int_equal(stats.batches, i == pauses - 1);
		assert_int_equal(stats.batches_rewritten, 0);
	}
	large_destroy(&l);
}

static void
huge_discard_is_folded_in_few_operations(void **state)
{
	struct large l = large_create((uint64_t)1 << 32, 3, UINT32_MAX - 6);
	struct view_volume vv = *view_find_volume(l.view, 1);
	uint64_t before, digests[2] = {1, 1}, data;
	unsigned char *block = buffer_alloc(BLOCK_BYTES);
	struct fold_stats stats;
	struct sum_zone *zone;

	assert_int_equal(sum_zone_create(&zone), 0);
	sum_zone_begin(zone, 0, 5);
	sum_zone_set(zone, 5, 77); /* before the zeros, between the data: not touched by anything */
	sum_zone_set(zone, 600, 78);
	assert_int_equal(sum_zone_store(zone, l.disk, vv.sum->file), 0);
	sum_zone_destroy(zone);
	memset(block, 9, BLOCK_BYTES);
	assert_int_equal(
	    disk_write_now(l.disk, vv.img->file, block, BLOCK_BYTES, (uint64_t)3000000000 * BLOCK_BYTES), 0);
	before = disk_sim_operations(l.disk);
	assert_int_equal(fold_run(l.view, l.disk, l.cache, NULL, NULL, &stats, NULL), 0);
	assert_true(disk_sim_operations(l.disk) - before < 100);
	assert_int_equal(stats.zero_blocks, UINT32_MAX - 6);
	assert_int_equal(disk_next_data(l.disk, vv.img->file, 6 * BLOCK_BYTES, &data), 0);
	assert_true(data >= (uint64_t)3000000001 * BLOCK_BYTES); /* a hole, and the size kept */
	assert_int_equal(sum_read(l.disk, vv.sum->file, 3, 0, 2, digests), 0);
	assert_true(digests[0] != 0);
	assert_int_equal(digests[1], 0);
	assert_int_equal(sum_read(l.disk, vv.sum->file, 0, 5, 2, digests), 0);
	assert_int_equal(digests[0], 77);
	assert_int_equal(digests[1], 0);
	assert_int_equal(sum_read(l.disk, vv.sum->file, 0, 600, 1, digests), 0);
	assert_int_equal(digests[0], 0);
	buffer_free(block, BLOCK_BYTES);
	large_destroy(&l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(points_at_and_after_the_fold_stay_as_they_were),
	    cmocka_unit_test(volumes_of_several_zones_are_folded),
	    cmocka_unit_test(folds_follow_one_another),
	    cmocka_unit_test(header_says_what_was_folded_and_never_less),
	    cmocka_unit_test(volumes_without_changes_are_left_alone_but_for_the_header),
	    cmocka_unit_test(cut_at_every_operation_loses_nothing_and_the_fold_is_done_again),
	    cmocka_unit_test(failed_operation_fails_the_fold_and_harms_nothing),
	    cmocka_unit_test(a_header_whose_sync_failed_is_written_again_by_the_next_fold),
	    cmocka_unit_test(what_failed_to_be_written_or_synced_is_written_once_more_and_really_there),
	    cmocka_unit_test(a_sync_that_fails_twice_is_never_success),
	    cmocka_unit_test(a_full_disk_ends_the_fold_without_a_second_try),
	    cmocka_unit_test(rot_in_the_journal_stops_the_fold_before_it_writes_the_batch),
	    cmocka_unit_test(entries_that_cannot_be_are_refused),
	    cmocka_unit_test(many_changes_go_in_batches_with_pauses_in_them),
	    cmocka_unit_test(it_gives_up_at_any_pause),
	    cmocka_unit_test(huge_discard_is_folded_in_few_operations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
