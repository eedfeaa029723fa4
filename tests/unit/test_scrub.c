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
#include "storage/scrub.h"
#include "storage/sum.h"
#include "storage/view_impl.h"
#include "tests/lib/history.h"
#include "tests/lib/scratch.h"

enum { FOUND_MAX = 4096 };

/* One scrub, or mending, over a whole history. */
struct pass {
	struct history *h;
	struct view *view;
	struct scrub *scrub;
	struct damage found[FOUND_MAX];
	size_t count;
};

static void
on_found(void *arg, const struct damage *d)
{
	struct pass *p = arg;

	assert_true(p->count < FOUND_MAX);
	p->found[p->count++] = *d;
}

static struct pass *
pass_begin(struct history *h)
{
	struct pass *p = calloc(1, sizeof *p);

	p->h = h;
	p->view = history_view(h, h->lsn_last, 0);
	assert_int_equal(scrub_create(p->view, h->disk, h->cache, on_found, p, &p->scrub), 0);
	return p;
}

static void
pass_end(struct pass *p)
{
	scrub_destroy(p->scrub);
	view_destroy(p->view, p->h->disk);
	free(p);
}

static void
scrub_everything(struct pass *p)
{
	uint64_t number = 0, page = 0, group;

	while (number != UINT64_MAX)
		assert_int_equal(scrub_runs(p->scrub, &number, &page, 65536), 0);
	for (uint32_t i = 0; i < p->h->volume_count; i++) {
		const struct history_volume *hv = &p->h->volumes[i];

		for (uint64_t at = 0; at < hv->blocks; at = group + SCRUB_GROUP_BLOCKS) {
			assert_int_equal(scrub_next_group(p->scrub, hv->number, at, &group), 0);
			if (group >= hv->blocks)
				break;
			assert_int_equal(scrub_group(p->scrub, hv->number, group), 0);
		}
	}
	scrub_flush(p->scrub);
}

static struct pass *
scrub_history(struct history *h)
{
	struct pass *p = pass_begin(h);

	scrub_everything(p);
	return p;
}

static void
expect_clean(struct history *h)
{
	struct pass *p = scrub_history(h);

	if (p->count > 0)
		print_error("volume %u block %llu segment %u status %d\n", p->found[0].volume,
		    (unsigned long long)p->found[0].block, p->found[0].segment, p->found[0].status);
	assert_int_equal(p->count, 0);
	pass_end(p);
}

static bool
same_group(const struct damage *a, const struct damage *b)
{
	return a->volume == b->volume && a->block / SCRUB_GROUP_BLOCKS == b->block / SCRUB_GROUP_BLOCKS;
}

/* Mend the groups that a scrub found something in; what is left is in the pass that is given back. */
static struct pass *
mend(struct history *h, const struct scrub_offer *offer)
{
	struct pass *seen = scrub_history(h), *p = pass_begin(h);

	for (size_t i = 0; i < seen->count; i++) {
		const struct damage *d = &seen->found[i];

		if (d->volume != 0 && (i == 0 || !same_group(d, d - 1)))
			assert_int_equal(scrub_mend_group(p->scrub, d->volume, d->block, true, offer), 0);
	}
	pass_end(seen);
	return p;
}

static bool
holds_something(const struct history *h)
{
	for (uint32_t i = 0; i < h->volume_count; i++) {
		uint64_t stored = 0;

		for (uint64_t b = 0; b < h->volumes[i].frontier; b++)
			stored += h->volumes[i].base[b] != 0;
		if (stored < 4)
			return false;
	}
	return true;
}

/* Every volume of it holds something to damage. */
static struct history *
small_history(struct dice *dice)
{
	struct history_shape shape = {.volumes = 2, .blocks = 700, .records = 80, .snapshots = 3};
	struct history *h = history_create(&shape, dice);

	while (!holds_something(h)) {
		history_destroy(h);
		h = history_create(&shape, dice);
	}
	return h;
}

/* ---- nothing is wrong ---- */

static void
what_is_whole_is_found_whole_whatever_its_history(void **state)
{
	struct dice dice = dice_from_environment();

	for (int round = 0; round < 12; round++) {
		struct history_shape shape = {.volumes = 1 + round % 3,
		    .blocks = 1 + dice_below(&dice, round % 4 == 3 ? 200000 : 2000),
		    .records = 90,
		    .snapshots = 2,
		    .partly_filled = round % 2 == 0};
		struct history *h = history_create(&shape, &dice);

		expect_clean(h);
		history_destroy(h);
	}
}

static void
every_stored_block_is_read(void **state)
{
	struct dice dice = dice_from_environment();
	struct history *h = small_history(&dice);
	struct pass *p = scrub_history(h);
	uint64_t stored = 0;

	for (uint32_t i = 0; i < h->volume_count; i++)
		for (uint64_t b = 0; b < h->volumes[i].frontier; b++)
			stored += h->volumes[i].base[b] != 0;
	for (size_t i = 0; i < h->entry_count; i++)
		stored += h->entries[i].digest != 0;
	assert_int_equal(scrub_get_stats(p->scrub).blocks, stored);
	pass_end(p);
	history_destroy(h);
}

/* ---- whom it concerns ---- */

static bool
hits(const struct damage *d, uint64_t lsn)
{
	struct checkpoint c = {.lsn = lsn,
	    .volume_count = 2,
	    .volumes = {
		{.volume = 3, .size_bytes = 10 * BLOCK_BYTES}, {.volume = 5, .size_bytes = 10 * BLOCK_BYTES + 1}}};

	return damage_hits(d, &c);
}

static void
damage_hits_the_points_that_see_that_version_of_the_block(void **state)
{
	struct damage d = {.volume = 3, .block = 9, .lsn = 20, .lsn_next = 30};

	assert_false(hits(&d, 19));
	assert_true(hits(&d, 20));
	assert_true(hits(&d, 29));
	assert_false(hits(&d, 30));
	d.block = 10; /* the disk was smaller then */
	assert_false(hits(&d, 20));
	d.volume = 5;
	assert_true(hits(&d, 20));
	d.volume = 4; /* or not there */
	assert_false(hits(&d, 20));
	d.volume = 0; /* of the index: of which volume nobody knows */
	assert_true(hits(&d, 20));
	assert_false(hits(&d, 30));
}

/* ---- data ---- */

static uint64_t
newer_lsn(const struct history *h, uint32_t volume, uint64_t block, uint64_t lsn)
{
	uint64_t newer = UINT64_MAX;

	for (size_t i = 0; i < h->entry_count; i++) {
		const struct entry *e = &h->entries[i];

		if (e->volume == volume && e->block <= block && block < e->block + e->count && e->lsn > lsn &&
		    e->lsn < newer)
			newer = e->lsn;
	}
	return newer;
}

static void
flip(struct history *h, const char *kind, uint64_t number, uint64_t offset)
{
	char path[64];

	history_path(path, sizeof path, kind, number);
	assert_int_equal(disk_sim_flip(h->disk, path, offset, (unsigned)dice_below(&h->dice, 8)), 0);
}

static uint64_t
pick_stored_block(struct history *h, const struct history_volume *hv)
{
	uint64_t block;

	do
		block = dice_below(&h->dice, hv->frontier);
	while (hv->base[block] == 0);
	return block;
}

static void
a_flipped_bit_of_a_staging_file_is_found_and_healed_by_the_right_bytes_alone(void **state)
{
	struct dice dice = dice_from_environment();
	struct history *h = small_history(&dice);
	unsigned char *bytes = buffer_alloc(BLOCK_BYTES);

	for (int round = 0; round < 40; round++) {
		const struct history_volume *hv = &h->volumes[dice_below(&dice, h->volume_count)];
		uint64_t block = pick_stored_block(h, hv);
		struct scrub_offer offer = {.volume = hv->number, .block = block, .bytes = bytes};
		struct pass *p;

		flip(h, "img", hv->number, block * BLOCK_BYTES + dice_below(&dice, BLOCK_BYTES));
		p = scrub_history(h);
		assert_int_equal(p->count, 1);
		assert_int_equal(p->found[0].volume, hv->number);
		assert_int_equal(p->found[0].block, block);
		assert_int_equal(p->found[0].segment, 0);
		assert_int_equal(p->found[0].status, -HF_EDIGEST);
		assert_int_equal(p->found[0].lsn, 0);
		assert_true(p->found[0].lsn_next == newer_lsn(h, hv->number, block, 0));
		assert_true(p->found[0].digest == h->digests[hv->base[block]]);
		pass_end(p);

		history_bytes(hv->base[block] + 1, bytes); /* something else */
		offer.digest = digest_block(h->digest_seed, bytes);
		p = mend(h, &offer);
		assert_int_equal(p->count, 1);
		pass_end(p);

		history_bytes(hv->base[block], bytes);
		offer.digest = digest_block(h->digest_seed, bytes);
		p = mend(h, &offer);
		assert_int_equal(p->count, 0);
		assert_int_equal(scrub_get_stats(p->scrub).blocks_healed, 1);
		assert_int_equal(scrub_get_stats(p->scrub).digests_mended, 0);
		pass_end(p);
		disk_sim_restart(h->disk, SIM_SURVIVE_NONE, 1); /* what was healed is durable */
		expect_clean(h);
	}
	buffer_free(bytes, BLOCK_BYTES);
	history_destroy(h);
}

/* Its digest is the right one, and the bytes are others. */
static void
what_was_written_is_read_back_before_it_counts_as_healed(void **state)
{
	struct dice dice = dice_from_environment();
	struct history *h = small_history(&dice);
	const struct history_volume *hv = &h->volumes[0];
	uint64_t block = pick_stored_block(h, hv);
	unsigned char *bytes = buffer_alloc(BLOCK_BYTES);
	struct scrub_offer offer = {hv->number, block, h->digests[hv->base[block]], bytes};
	struct pass *p;

	history_bytes(hv->base[block] + 1, bytes);
	flip(h, "img", hv->number, block * BLOCK_BYTES);
	p = mend(h, &offer);
	assert_int_equal(p->count, 1);
	assert_int_equal(p->found[0].status, -HF_EDIGEST);
	assert_int_equal(scrub_get_stats(p->scrub).blocks_healed, 0);
	pass_end(p);
	buffer_free(bytes, BLOCK_BYTES);
	history_destroy(h);
}

static void
every_version_in_the_journal_is_checked_and_the_points_that_need_it_are_known(void **state)
{
	struct dice dice = dice_from_environment();
	struct history *h = small_history(&dice);
	unsigned char *bytes = buffer_alloc(BLOCK_BYTES);
	unsigned rounds = 0;

	for (size_t i = 0; i < h->entry_count; i += 1 + dice_below(&dice, h->entry_count / 30 + 1)) {
		struct entry e = h->entries[i];
		struct scrub_offer offer = {.volume = e.volume, .block = e.block, .digest = e.digest, .bytes = bytes};
		struct pass *p;

		if (e.digest == 0)
			continue;
		rounds++;
		flip(h, "seg", e.segment, (uint64_t)e.offset * BLOCK_BYTES + dice_below(&dice, BLOCK_BYTES));
		p = scrub_history(h);
		assert_int_equal(p->count, 1);
		assert_int_equal(p->found[0].segment, e.segment);
		assert_int_equal(p->found[0].offset, e.offset);
		assert_int_equal(p->found[0].block, e.block);
		assert_true(p->found[0].lsn == e.lsn);
		assert_true(p->found[0].lsn_next == newer_lsn(h, e.volume, e.block, e.lsn));
		pass_end(p);
		for (uint32_t value = 1; value <= h->values; value++)
			if (h->digests[value] == e.digest)
				history_bytes(value, bytes);
		p = mend(h, &offer);
		assert_int_equal(p->count, 0);
		pass_end(p);
		disk_sim_restart(h->disk, SIM_SURVIVE_NONE, 1);
		expect_clean(h);
	}
	assert_true(rounds > 5);
	buffer_free(bytes, BLOCK_BYTES);
	history_destroy(h);
}

/* How many reads a scrub does of the staging file for a group. */
static unsigned
count_ranges(const struct history_volume *hv, uint64_t group, uint64_t *ret_first)
{
	unsigned n = 0;

	for (uint64_t b = group; b < group + SCRUB_GROUP_BLOCKS && b < hv->frontier; b++)
		if (hv->base[b] != 0 && (b == group || hv->base[b - 1] == 0) && n++ == 0)
			*ret_first = b;
	return n;
}

static void
a_block_that_cannot_be_read_is_found_without_its_neighbours(void **state)
{
	struct dice dice = dice_from_environment();
	struct history *h = small_history(&dice);
	const struct history_volume *hv = &h->volumes[0];
	uint64_t group = pick_stored_block(h, hv) / SCRUB_GROUP_BLOCKS * SCRUB_GROUP_BLOCKS, first = 0;
	unsigned ranges = count_ranges(hv, group, &first);
	struct pass *p = pass_begin(h);

	disk_sim_confine_faults(h->disk, ".img");
	disk_sim_fail(h->disk, 'r', 1, false, SIM_FAULT_EIO);          /* a range of blocks */
	disk_sim_fail(h->disk, 'r', ranges + 1, false, SIM_FAULT_EIO); /* and its first one, read alone */
	assert_int_equal(scrub_group(p->scrub, hv->number, group), 0);
	assert_int_equal(disk_sim_struck(h->disk), 2);
	assert_int_equal(p->count, 1);
	assert_int_equal(p->found[0].block, first);
	assert_int_equal(p->found[0].status, -EIO);
	pass_end(p);
	expect_clean(h);
	history_destroy(h);
}

static void
a_read_of_the_journal_that_failed_once_is_no_damage(void **state)
{
	struct dice dice = dice_from_environment();
	struct history *h = small_history(&dice);

	disk_sim_confine_faults(h->disk, ".seg");
	disk_sim_fail(h->disk, 'r', 1, false, SIM_FAULT_EIO);
	expect_clean(h);
	assert_int_equal(disk_sim_struck(h->disk), 1);
	history_destroy(h);
}

/* ---- digests ---- */

static void
digests_that_cannot_be_read_are_damage_that_hits_every_point(void **state)
{
	struct dice dice = dice_from_environment();
	struct history *h = small_history(&dice);
	const struct history_volume *hv = &h->volumes[0];
	struct pass *p = pass_begin(h);

	disk_sim_confine_faults(h->disk, ".sum");
	disk_sim_fail(h->disk, 'r', 1, true, SIM_FAULT_EIO);
	assert_int_equal(scrub_group(p->scrub, hv->number, 0), 0);
	assert_int_equal(p->count, 1);
	assert_int_equal(p->found[0].status, -EIO);
	assert_int_equal(p->found[0].lsn, 0);
	assert_true(p->found[0].lsn_next == UINT64_MAX);
	pass_end(p);
	history_destroy(h);
}

static void
a_flipped_bit_of_any_digest_is_mended_from_the_data(void **state)
{
	struct dice dice = dice_from_environment();
	struct history *h = small_history(&dice);

	for (int round = 0; round < 120; round++) {
		const struct history_volume *hv = &h->volumes[dice_below(&dice, h->volume_count)];
		int level = round % 4;
		uint64_t index = pick_stored_block(h, hv) / digest_level_blocks(level);
		struct pass *p;

		flip(h, "sum", hv->number,
		    sum_page_offset(level, index) + sum_page_slot(level, index) * 8 + dice_below(&dice, 8));
		p = scrub_history(h);
		assert_true(p->count > 0);
		pass_end(p);
		p = mend(h, NULL);
		assert_int_equal(p->count, 0);
		assert_int_equal(scrub_get_stats(p->scrub).digests_mended, 1);
		pass_end(p);
		disk_sim_restart(h->disk, SIM_SURVIVE_NONE, 1);
		expect_clean(h);
	}
	history_destroy(h);
}

/* A block of data would read as zeros. */
static void
a_digest_that_became_zero_is_no_hole(void **state)
{
	struct dice dice = dice_from_environment();
	struct history *h = small_history(&dice);

	for (int round = 0; round < 20; round++) {
		const struct history_volume *hv = &h->volumes[dice_below(&dice, h->volume_count)];
		uint64_t block = pick_stored_block(h, hv);
		struct disk_file *sum;
		struct pass *p;
		char path[64];

		history_path(path, sizeof path, "sum", hv->number);
		assert_int_equal(disk_open(h->disk, path, DISK_WRITE, &sum), 0);
		assert_int_equal(sum_mend(h->disk, sum, 0, block, 0), 0);
		disk_close(h->disk, sum);
		p = mend(h, NULL);
		assert_int_equal(p->count, 0);
		assert_int_equal(scrub_get_stats(p->scrub).digests_mended, 1);
		pass_end(p);
		expect_clean(h);
	}
	history_destroy(h);
}

static void
rot_of_a_digest_and_of_a_neighbours_data_are_told_apart(void **state)
{
	struct dice dice = dice_from_environment();
	struct history *h = small_history(&dice);

	for (int round = 0; round < 30; round++) {
		const struct history_volume *hv = &h->volumes[dice_below(&dice, h->volume_count)];
		uint64_t block = pick_stored_block(h, hv), other = block ^ 1;
		unsigned char *bytes = buffer_alloc(BLOCK_BYTES);
		struct scrub_offer offer = {.volume = hv->number, .block = other, .bytes = bytes};
		struct pass *p;

		if (other < hv->frontier && hv->base[other] != 0) {
			flip(h, "sum", hv->number, sum_page_offset(0, block) + sum_page_slot(0, block) * 8);
			flip(h, "img", hv->number, other * BLOCK_BYTES + dice_below(&dice, BLOCK_BYTES));
			p = mend(h, NULL);
			assert_int_equal(p->count, 1);
			assert_int_equal(p->found[0].block, other);
			assert_true(p->found[0].digest == h->digests[hv->base[other]]);
			assert_int_equal(scrub_get_stats(p->scrub).digests_mended, 1);
			pass_end(p);
			history_bytes(hv->base[other], bytes);
			offer.digest = h->digests[hv->base[other]];
			p = mend(h, &offer);
			assert_int_equal(p->count, 0);
			pass_end(p);
			expect_clean(h);
		}
		buffer_free(bytes, BLOCK_BYTES);
	}
	history_destroy(h);
}

static void
digests_are_left_alone_while_their_volume_is_filled(void **state)
{
	struct dice dice = dice_from_environment();
	struct history *h = small_history(&dice);
	const struct history_volume *hv = &h->volumes[0];
	uint64_t block = pick_stored_block(h, hv);
	struct pass *p = pass_begin(h);

	flip(h, "sum", hv->number, sum_page_offset(0, block) + sum_page_slot(0, block) * 8);
	assert_int_equal(scrub_mend_group(p->scrub, hv->number, block, false, NULL), 0);
	assert_int_equal(p->count, 1);
	assert_int_equal(p->found[0].status, -HF_ECORRUPT);
	assert_int_equal(scrub_get_stats(p->scrub).digests_mended, 0);
	pass_end(p);
	history_destroy(h);
}

static void
put_bytes(struct history *h, uint32_t volume, uint64_t block, const unsigned char *bytes)
{
	struct disk_file *f;
	char path[64];

	history_path(path, sizeof path, "img", volume);
	assert_int_equal(disk_open(h->disk, path, DISK_WRITE, &f), 0);
	assert_int_equal(disk_write_now(h->disk, f, bytes, BLOCK_BYTES, block * BLOCK_BYTES), 0);
	disk_close(h->disk, f);
}

static void
put_digest(struct history *h, uint32_t volume, int level, uint64_t index, uint64_t digest)
{
	struct disk_file *f;
	char path[64];

	history_path(path, sizeof path, "sum", volume);
	assert_int_equal(disk_open(h->disk, path, DISK_WRITE, &f), 0);
	assert_int_equal(sum_mend(h->disk, f, level, index, digest), 0);
	disk_close(h->disk, f);
}

static uint64_t
node_of_leaves(struct history *h, uint32_t volume, uint64_t block)
{
	uint64_t leaves[16];
	struct disk_file *f;
	char path[64];

	history_path(path, sizeof path, "sum", volume);
	assert_int_equal(disk_open(h->disk, path, DISK_READ, &f), 0);
	assert_int_equal(sum_read(h->disk, f, 0, block / 16 * 16, 16, leaves), 0);
	disk_close(h->disk, f);
	return digest_node(h->digest_seed, leaves, 16);
}

/* Data and leaf of before, but parents of after, from the first level on or from the second: the newer ones were lost
 * by the disk. Nobody can tell what should be there. */
static void
data_and_digest_that_are_older_than_the_tree_are_damage(void **state)
{
	struct dice dice = dice_from_environment();
	unsigned char *bytes = buffer_alloc(BLOCK_BYTES);

	for (int levels = 1; levels <= 2; levels++) {
		struct history *h = small_history(&dice);
		const struct history_volume *hv = &h->volumes[0];
		uint64_t block = pick_stored_block(h, hv);
		struct pass *p;

		history_bytes(hv->base[block] + 1, bytes);
		put_bytes(h, hv->number, block, bytes);
		put_digest(h, hv->number, 0, block, digest_block(h->digest_seed, bytes));
		if (levels == 2)
			put_digest(h, hv->number, 1, block / 16, node_of_leaves(h, hv->number, block));
		p = mend(h, NULL);
		assert_int_equal(p->count, 1);
		assert_int_equal(p->found[0].status, -HF_ECORRUPT);
		assert_int_equal(scrub_get_stats(p->scrub).digests_mended, 0);
		pass_end(p);
		history_destroy(h);
	}
	buffer_free(bytes, BLOCK_BYTES);
}

static void
a_node_is_not_made_anew_of_leaves_that_the_data_contradicts(void **state)
{
	struct dice dice = dice_from_environment();
	struct history *h = small_history(&dice);
	const struct history_volume *hv = &h->volumes[0];
	uint64_t block = pick_stored_block(h, hv);
	struct pass *p;

	flip(h, "sum", hv->number, sum_page_offset(1, block / 16) + sum_page_slot(1, block / 16) * 8);
	flip(h, "img", hv->number, block * BLOCK_BYTES);
	p = mend(h, NULL);
	assert_int_equal(p->count, 2); /* the digests, and the data */
	assert_int_equal(scrub_get_stats(p->scrub).digests_mended, 0);
	pass_end(p);
	history_destroy(h);
}

/* The fill that goes on makes it anew. */
static void
the_node_at_the_fill_frontier_is_not_judged(void **state)
{
	struct dice dice = dice_from_environment();
	struct history_shape shape = {
	    .volumes = 1, .blocks = 700, .records = 20, .snapshots = 1, .partly_filled = true};
	struct history *h = history_create(&shape, &dice);
	const struct history_volume *hv = &h->volumes[0];

	while (hv->frontier % 16 == 0) {
		history_destroy(h);
		h = history_create(&shape, &dice);
		hv = &h->volumes[0];
	}
	for (int level = 1; level <= 3; level++)
		put_digest(h, hv->number, level, hv->frontier / digest_level_blocks(level), 0x1122334455667788);
	expect_clean(h);
	history_destroy(h);
}

/* ---- folds ---- */

static struct entry *
newest_entry_of_data(struct history *h)
{
	for (size_t i = h->entry_count; i-- > 0;)
		if (h->entries[i].digest != 0 &&
		    newer_lsn(h, h->entries[i].volume, h->entries[i].block, h->entries[i].lsn) == UINT64_MAX)
			return &h->entries[i];
	fail();
	return NULL;
}

static int
fold_all(struct history *h, const struct damage *known, size_t count)
{
	struct view *v = history_view(h, h->lsn_last, 0);
	struct fold_stats stats;
	int r;

	view_know_damage(v, known, count);
	r = fold_run(v, h->disk, h->cache, NULL, NULL, &stats, NULL);
	view_destroy(v, h->disk);
	return r;
}

static void
a_fold_ends_at_rot_that_nobody_knows_and_takes_along_what_is_known(void **state)
{
	struct dice dice = dice_from_environment();
	struct history *h = small_history(&dice);
	const struct entry e = *newest_entry_of_data(h);
	unsigned char *bytes = buffer_alloc(BLOCK_BYTES);
	struct view_fault fault = {0};
	struct pass *p;
	struct view *v;

	flip(h, "seg", e.segment, (uint64_t)e.offset * BLOCK_BYTES);
	assert_int_equal(fold_all(h, NULL, 0), -HF_EDIGEST);
	p = scrub_history(h);
	assert_int_equal(p->count, 1);
	assert_int_equal(fold_all(h, p->found, 1), 0);
	pass_end(p);
	v = history_view(h, h->lsn_last, h->lsn_last); /* the base has moved: nothing is read from the journal */
	assert_int_equal(view_read(v, h->disk, h->cache, e.volume, e.block, 1, bytes, &fault), -HF_EDIGEST);
	assert_int_equal(fault.segment, 0);
	for (uint32_t value = 1; value <= h->values; value++)
		if (h->digests[value] == e.digest)
			history_bytes(value, bytes);
	p = pass_begin(h);
	view_destroy(p->view, h->disk);
	scrub_destroy(p->scrub);
	p->view = v;
	assert_int_equal(scrub_create(v, h->disk, h->cache, on_found, p, &p->scrub), 0);
	assert_int_equal(scrub_mend_group(p->scrub, e.volume, e.block, true,
			     &(struct scrub_offer){e.volume, e.block, e.digest, bytes}),
	    0);
	assert_int_equal(p->count, 0);
	assert_int_equal(scrub_get_stats(p->scrub).blocks_healed, 1);
	history_check(h, v, h->snapshot_count - 1, 10);
	pass_end(p);
	buffer_free(bytes, BLOCK_BYTES);
	history_destroy(h);
}

/* What it has written, or half of it, is read from the journal until it is done again. */
static void
what_a_fold_that_was_cut_has_left_is_no_damage(void **state)
{
	struct dice dice = dice_from_environment();

	for (unsigned dirty = 0, round = 0; dirty < 2; round++) {
		struct history *h = small_history(&dice);
		struct pass *p;

		assert_true(round < 100);
		disk_sim_fail(h->disk, 'w', 1 + dice_below(&dice, 6), true, SIM_FAULT_EIO);
		(void)fold_all(h, NULL, 0);
		disk_sim_restart(h->disk, SIM_SURVIVE_RANDOM, round);
		p = scrub_history(h); /* as if no fold had begun */
		dirty += p->count > 0;
		p->count = 0;
		scrub_destroy(p->scrub);
		for (uint32_t i = 0; i < p->view->volume_count; i++)
			p->view->volumes[i].first_point_lsn = h->lsn_last; /* the fold's target */
		assert_int_equal(scrub_create(p->view, h->disk, h->cache, on_found, p, &p->scrub), 0);
		scrub_everything(p);
		assert_int_equal(p->count, 0);
		pass_end(p);
		history_destroy(h);
	}
}

/* ---- the index ---- */

/* The newest segment whose run is a file; 0: there is none. */
static unsigned
last_run_in_file(const struct history *h)
{
	for (unsigned n = h->segment_count; n > 0; n--)
		if (h->run_in_file[n - 1])
			return n;
	return 0;
}

static void
a_flipped_bit_of_any_page_of_a_run_is_found(void **state)
{
	struct dice dice = dice_from_environment();

	for (int rounds = 0; rounds < 6;) {
		struct history *h = small_history(&dice);
		unsigned number = last_run_in_file(h);
		struct disk_file *f;
		uint64_t bytes;
		char path[64];
		struct pass *p;

		if (number == 0) {
			history_destroy(h);
			continue;
		}
		history_path(path, sizeof path, "run", number);
		assert_int_equal(disk_open(h->disk, path, DISK_READ, &f), 0);
		assert_int_equal(disk_size(h->disk, f, &bytes), 0);
		disk_close(h->disk, f);
		p = pass_begin(h); /* opened before: of a damaged header the store hears when it opens the run */
		flip(h, "run", number, dice_below(&dice, bytes));
		scrub_everything(p);
		assert_true(p->count >= 1);
		assert_int_equal(p->found[0].volume, 0);
		assert_int_equal(p->found[0].segment, number);
		assert_int_equal(p->found[0].status, -HF_ECORRUPT);
		pass_end(p);
		history_destroy(h);
		rounds++;
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_whole_is_found_whole_whatever_its_history),
	    cmocka_unit_test(every_stored_block_is_read),
	    cmocka_unit_test(damage_hits_the_points_that_see_that_version_of_the_block),
	    cmocka_unit_test(a_flipped_bit_of_a_staging_file_is_found_and_healed_by_the_right_bytes_alone),
	    cmocka_unit_test(what_was_written_is_read_back_before_it_counts_as_healed),
	    cmocka_unit_test(every_version_in_the_journal_is_checked_and_the_points_that_need_it_are_known),
	    cmocka_unit_test(a_block_that_cannot_be_read_is_found_without_its_neighbours),
	    cmocka_unit_test(a_read_of_the_journal_that_failed_once_is_no_damage),
	    cmocka_unit_test(digests_that_cannot_be_read_are_damage_that_hits_every_point),
	    cmocka_unit_test(a_flipped_bit_of_any_digest_is_mended_from_the_data),
	    cmocka_unit_test(a_digest_that_became_zero_is_no_hole),
	    cmocka_unit_test(rot_of_a_digest_and_of_a_neighbours_data_are_told_apart),
	    cmocka_unit_test(digests_are_left_alone_while_their_volume_is_filled),
	    cmocka_unit_test(data_and_digest_that_are_older_than_the_tree_are_damage),
	    cmocka_unit_test(a_node_is_not_made_anew_of_leaves_that_the_data_contradicts),
	    cmocka_unit_test(the_node_at_the_fill_frontier_is_not_judged),
	    cmocka_unit_test(a_fold_ends_at_rot_that_nobody_knows_and_takes_along_what_is_known),
	    cmocka_unit_test(what_a_fold_that_was_cut_has_left_is_no_damage),
	    cmocka_unit_test(a_flipped_bit_of_any_page_of_a_run_is_found),
	};

	return cmocka_run_group_tests_name("scrub", tests, NULL, NULL);
}
