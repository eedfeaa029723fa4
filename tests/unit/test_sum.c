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
#include "storage/sum.h"
#include "tests/lib/dice.h"

static const uint64_t digest_seed = 0x5eed5eed5eed5eed;
static const char path[] = "/v.sum";

struct fixture {
	struct disk *disk;
	struct disk_file *file;
	struct sum_zone *zone;
};

static int
setup(void **state)
{
	static struct fixture f;

	assert_int_equal(disk_sim_create(1, &f.disk), 0);
	assert_int_equal(disk_open(f.disk, path, DISK_WRITE | DISK_CREATE, &f.file), 0);
	assert_int_equal(disk_sync_dir(f.disk, "/"), 0);
	assert_int_equal(sum_zone_create(&f.zone), 0);
	*state = &f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	sum_zone_destroy(f->zone);
	disk_close(f->disk, f->file);
	disk_destroy(f->disk);
	return 0;
}

/* ---- header ---- */

static struct sum_header
some_header(void)
{
	struct sum_header h = {
	    .source = {"s-0123456789abcdef0"},
	    .volume_id = {"vol-0123456789abcdef0"},
	    .digest_seed = digest_seed,
	    .volume = 3,
	    .size_bytes = 123456789,
	    .fold_lsn = 42,
	    .name = "sda",
	    .identity = "wwn:5000",
	};

	return h;
}

static void
header_is_read_back_and_durable(void **state)
{
	struct fixture *f = *state;
	struct sum_header h = some_header(), got;

	assert_int_equal(sum_header_write(f->disk, f->file, &h), 0);
	disk_close(f->disk, f->file);
	disk_sim_restart(f->disk, SIM_SURVIVE_NONE, 1);
	assert_int_equal(disk_open(f->disk, path, DISK_WRITE, &f->file), 0);
	memset(&got, 0xff, sizeof got);
	assert_int_equal(sum_header_read(f->disk, f->file, &got), 0);
	assert_string_equal(got.source.text, h.source.text);
	assert_string_equal(got.volume_id.text, h.volume_id.text);
	assert_int_equal(got.digest_seed, digest_seed);
	assert_int_equal(got.volume, 3);
	assert_int_equal(got.size_bytes, h.size_bytes);
	assert_int_equal(got.fold_lsn, 42);
	assert_string_equal(got.name, h.name);
	assert_string_equal(got.identity, h.identity);
}

static void
damaged_or_foreign_header_is_refused(void **state)
{
	struct fixture *f = *state;
	struct sum_header h = some_header();

	assert_int_equal(sum_header_read(f->disk, f->file, &h), -HF_ECORRUPT); /* empty file */
	for (uint64_t at = 0; at < 512; at++) {
		assert_int_equal(sum_header_write(f->disk, f->file, &h), 0);
		assert_int_equal(disk_sim_flip(f->disk, path, at, (unsigned)at % 8), 0);
		assert_int_equal(sum_header_read(f->disk, f->file, &h), -HF_ECORRUPT);
	}
}

static void
cut_while_the_header_is_rewritten_leaves_the_old_or_the_new(void **state)
{
	struct fixture *f = *state;
	bool seen[2] = {false, false};

	for (uint64_t i = 0; i < 64; i++) {
		struct sum_header h = some_header(), got;

		assert_int_equal(sum_header_write(f->disk, f->file, &h), 0);
		h.fold_lsn = 43;
		h.size_bytes += 4096;
		disk_sim_cut_at(f->disk, 2); /* the sync */
		assert_int_equal(sum_header_write(f->disk, f->file, &h), -EIO);
		disk_sim_cut_at(f->disk, 0);
		disk_close(f->disk, f->file);
		disk_sim_restart(f->disk, SIM_SURVIVE_RANDOM, i);
		assert_int_equal(disk_open(f->disk, path, DISK_WRITE, &f->file), 0);
		assert_int_equal(sum_header_read(f->disk, f->file, &got), 0);
		assert_true(got.fold_lsn == 42 || got.fold_lsn == 43);
		assert_int_equal(got.size_bytes - some_header().size_bytes, got.fold_lsn == 43 ? 4096 : 0);
		seen[got.fold_lsn - 42] = true;
	}
	assert_true(seen[0] && seen[1]);
}

/* ---- the tree against one made of a flat array ---- */

enum { ZONES = 3, BLOCKS = ZONES * SUM_ZONE_BLOCKS };

static uint64_t model[BLOCKS];

/* The digest of a node, from the leaves up, the plain way. */
static uint64_t
model_node(int level, uint64_t index)
{
	static const int fanout[DIGEST_LEVELS] = {0, 16, 16, 256};
	uint64_t children[256];

	if (level == 0)
		return model[index];
	for (int i = 0; i < fanout[level]; i++)
		children[i] = model_node(level - 1, index * (uint64_t)fanout[level] + (uint64_t)i);
	return digest_node(digest_seed, children, (size_t)fanout[level]);
}

static void
check_tree(struct fixture *f)
{
	static uint64_t got[BLOCKS];

	for (int level = 0; level < DIGEST_LEVELS; level++) {
		size_t n = BLOCKS / digest_level_blocks(level);

		memset(got, 0xff, sizeof got);
		assert_int_equal(sum_read(f->disk, f->file, level, 0, n, got), 0);
		for (uint64_t i = 0; i < n; i++)
			assert_int_equal(got[i], model_node(level, i));
	}
}

static void
check_parts(struct fixture *f, struct dice *dice)
{
	static uint64_t got[BLOCKS];

	for (int i = 0; i < 40; i++) {
		int level = (int)dice_below(dice, DIGEST_LEVELS);
		size_t n = BLOCKS / digest_level_blocks(level);
		uint64_t first = dice_below(dice, n);
		size_t count = 1 + dice_below(dice, dice_once_in(dice, 3) ? n : 20);

		assert_int_equal(sum_read(f->disk, f->file, level, first, count, got), 0);
		for (size_t k = 0; k < count && k < 300; k++)
			assert_int_equal(got[k], first + k < n ? model_node(level, first + k) : 0);
	}
}

static void
empty_file_reads_as_zeros(void **state)
{
	struct fixture *f = *state;

	memset(model, 0, sizeof model);
	check_tree(f);
	assert_int_equal(disk_truncate(f->disk, f->file, sum_page_offset(0, BLOCKS)), 0);
	check_tree(f);
}

static void
zones_changed_at_random_match_the_model(void **state)
{
	struct fixture *f = *state;
	struct dice dice = dice_from_environment();

	memset(model, 0, sizeof model);
	for (int round = 0; round < 12; round++) {
		uint64_t zone = dice_below(&dice, ZONES), begin = zone * SUM_ZONE_BLOCKS;

		sum_zone_begin(f->zone, zone, digest_seed);
		for (uint64_t n = dice_below(&dice, 2000); n > 0; n--) {
			uint64_t block = begin + dice_below(&dice, round % 2 ? SUM_ZONE_BLOCKS : 700);

			model[block] = dice_once_in(&dice, 3) ? 0 : dice_next(&dice);
			sum_zone_set(f->zone, block, model[block]);
		}
		assert_int_equal(sum_zone_store(f->zone, f->disk, f->file), 0);
		check_parts(f, &dice);
	}
	check_tree(f);
}

static void
update_answers_for_what_was_touched_and_writes_nothing(void **state)
{
	struct fixture *f = *state;
	uint64_t d, stored = 7;

	memset(model, 0, sizeof model);
	model[5] = 55;
	model[70000] = 77;
	for (uint64_t z = 0; z < 2; z++) {
		sum_zone_begin(f->zone, z, digest_seed);
		sum_zone_set(f->zone, z ? 70000 : 5, z ? 77 : 55);
		assert_int_equal(sum_zone_store(f->zone, f->disk, f->file), 0);
	}
	model[70001] = 78;
	sum_zone_begin(f->zone, 1, digest_seed);
	assert_false(sum_zone_find(f->zone, 3, 1, &d));
	sum_zone_set(f->zone, 70001, 78);
	assert_int_equal(sum_zone_update(f->zone, f->disk, f->file), 0);
	for (int level = 0; level < DIGEST_LEVELS; level++) {
		assert_true(sum_zone_find(f->zone, level, 70001 / digest_level_blocks(level), &d));
		assert_int_equal(d, model_node(level, 70001 / digest_level_blocks(level)));
	}
	assert_false(sum_zone_find(f->zone, 0, 70000, &d));
	assert_false(sum_zone_find(f->zone, 1, 70001 / 16 + 1, &d));
	assert_int_equal(sum_read(f->disk, f->file, 0, 70001, 1, &stored), 0);
	assert_int_equal(stored, 0);
}

static void
digests_beyond_a_limit_count_as_zero(void **state)
{
	static const uint64_t limits[] = {0, 1, 15, 16, 100, 256, 5000, 65535, 65536};
	struct fixture *f = *state;

	for (size_t n = 0; n < sizeof limits / sizeof *limits; n++) {
		memset(model, 0, sizeof model);
		sum_zone_begin(f->zone, 1, digest_seed);
		for (uint64_t i = 0; i < SUM_ZONE_BLOCKS; i++)
			sum_zone_set(f->zone, SUM_ZONE_BLOCKS + i, i + 1);
		assert_int_equal(sum_zone_store(f->zone, f->disk, f->file), 0);
		for (uint64_t i = 0; i < limits[n]; i++)
			model[SUM_ZONE_BLOCKS + i] = i + 1;
		model[SUM_ZONE_BLOCKS + 40000] = 4;
		sum_zone_begin(f->zone, 1, digest_seed);
		sum_zone_limit(f->zone, SUM_ZONE_BLOCKS + limits[n]);
		sum_zone_set(f->zone, SUM_ZONE_BLOCKS + 40000, 4);
		assert_int_equal(sum_zone_update(f->zone, f->disk, f->file), 0);
		for (int level = 0; level < DIGEST_LEVELS; level++) {
			uint64_t nodes = SUM_ZONE_BLOCKS / digest_level_blocks(level), d;

			for (uint64_t i = nodes; i < 2 * nodes; i++) {
				if (!sum_zone_find(f->zone, level, i, &d))
					assert_int_equal(sum_read(f->disk, f->file, level, i, 1, &d), 0);
				if (level > 0 || i % 97 == 0)
					assert_int_equal(d, model_node(level, i));
			}
		}
	}
}

static void
cleared_zones_are_zero_and_a_hole(void **state)
{
	struct fixture *f = *state;
	uint64_t data;

	memset(model, 0, sizeof model);
	for (uint64_t z = 0; z < ZONES; z++) {
		sum_zone_begin(f->zone, z, digest_seed);
		sum_zone_set(f->zone, z * SUM_ZONE_BLOCKS + 9, 9);
		assert_int_equal(sum_zone_store(f->zone, f->disk, f->file), 0);
	}
	model[2 * SUM_ZONE_BLOCKS + 9] = 9;
	assert_int_equal(sum_clear_zones(f->disk, f->file, 0, 2), 0);
	check_tree(f);
	assert_int_equal(disk_next_data(f->disk, f->file, 4096, &data), 0);
	assert_true(data >= sum_page_offset(0, 2 * SUM_ZONE_BLOCKS));
	disk_sim_fail(f->disk, 'p', 1, true, SIM_FAULT_EIO);
	assert_int_equal(sum_clear_zones(f->disk, f->file, 2, 3), -EIO);
}

static void
failed_read_or_write_is_told(void **state)
{
	struct fixture *f = *state;
	uint64_t d;

	sum_zone_begin(f->zone, 0, digest_seed);
	sum_zone_set(f->zone, 9, 9);
	disk_sim_fail(f->disk, 'w', 1, false, SIM_FAULT_EIO);
	assert_int_equal(sum_zone_store(f->zone, f->disk, f->file), -EIO);
	assert_int_equal(sum_zone_store(f->zone, f->disk, f->file), 0);
	disk_sim_fail(f->disk, 'r', 1, false, SIM_FAULT_EIO);
	assert_int_equal(sum_read(f->disk, f->file, 0, 9, 1, &d), -EIO);
	disk_sim_fail(f->disk, 'r', 1, false, SIM_FAULT_EIO);
	assert_int_equal(sum_zone_update(f->zone, f->disk, f->file), -EIO);
}

static void
digests_of_a_huge_sparse_volume_are_read_fast(void **state)
{
	enum { HUGE_ZONES = 65536 }; /* 16 TiB */
	struct fixture *f = *state;
	uint64_t *got = calloc(HUGE_ZONES, sizeof *got);
	uint64_t before;

	assert_int_equal(disk_truncate(f->disk, f->file, sum_page_offset(3, HUGE_ZONES)), 0);
	sum_zone_begin(f->zone, 50000, digest_seed);
	sum_zone_set(f->zone, (uint64_t)50000 * SUM_ZONE_BLOCKS, 1);
	assert_int_equal(sum_zone_store(f->zone, f->disk, f->file), 0);
	before = disk_sim_operations(f->disk);
	assert_int_equal(sum_read(f->disk, f->file, 3, 0, HUGE_ZONES, got), 0);
	assert_true(disk_sim_operations(f->disk) - before < 10);
	for (uint64_t i = 0; i < HUGE_ZONES; i++)
		assert_true((got[i] != 0) == (i == 50000));
	free(got);
}

/* ---- the cursor ---- */

static struct sum_cursor cursor;
static struct sum_page pages[SUM_CURSOR_PAGES_MAX];

static void
append(struct fixture *f, const uint64_t *digests, size_t count)
{
	unsigned n = sum_cursor_append(&cursor, digests, count, pages);

	assert_in_range(n, 3, SUM_CURSOR_PAGES_MAX);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(disk_write_now(f->disk, f->file, pages[i].bytes, 4096, pages[i].offset), 0);
}

static void
step_at_random(struct fixture *f, struct dice *dice)
{
	uint64_t digests[512], left = BLOCKS - cursor.frontier, count;

	if (dice_once_in(dice, 3)) {
		count = 1 + dice_below(dice, dice_once_in(dice, 4) ? SUM_ZONE_BLOCKS : 600);
		sum_cursor_skip(&cursor, count < left ? count : left);
		return;
	}
	count = 1 + dice_below(dice, 512);
	if (count > left)
		count = left;
	for (uint64_t i = 0; i < count; i++) {
		digests[i] = dice_once_in(dice, 4) ? 0 : dice_next(dice);
		model[cursor.frontier + i] = digests[i];
	}
	append(f, digests, count);
}

static void
cursor_makes_the_tree_of_what_it_was_given(void **state)
{
	struct fixture *f = *state;
	struct dice dice = dice_from_environment();

	memset(model, 0, sizeof model);
	assert_int_equal(sum_cursor_load(&cursor, f->disk, f->file, digest_seed, 0), 0);
	while (cursor.frontier < BLOCKS) {
		step_at_random(f, &dice);
		if (dice_once_in(&dice, 20)) /* a restart changes nothing */
			assert_int_equal(sum_cursor_load(&cursor, f->disk, f->file, digest_seed, cursor.frontier), 0);
		if (dice_once_in(&dice, 100))
			check_tree(f);
	}
	check_tree(f);
}

static void
load_clears_what_a_cut_left_beyond_the_frontier(void **state)
{
	struct fixture *f = *state;
	struct dice dice = dice_from_environment();

	for (int round = 0; round < 8; round++) {
		uint64_t frontier;

		memset(model, 0, sizeof model);
		assert_int_equal(sum_clear_zones(f->disk, f->file, 0, ZONES), 0);
		assert_int_equal(sum_cursor_load(&cursor, f->disk, f->file, digest_seed, 0), 0);
		while (cursor.frontier < BLOCKS)
			step_at_random(f, &dice);
		frontier = dice_below(&dice, BLOCKS);
		memset(&model[frontier], 0, (BLOCKS - frontier) * sizeof *model);
		assert_int_equal(sum_cursor_load(&cursor, f->disk, f->file, digest_seed, frontier), 0);
		check_tree(f);
		while (cursor.frontier < BLOCKS)
			step_at_random(f, &dice);
		check_tree(f);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(header_is_read_back_and_durable, setup, teardown),
	    cmocka_unit_test_setup_teardown(damaged_or_foreign_header_is_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		cut_while_the_header_is_rewritten_leaves_the_old_or_the_new, setup, teardown),
	    cmocka_unit_test_setup_teardown(empty_file_reads_as_zeros, setup, teardown),
	    cmocka_unit_test_setup_teardown(zones_changed_at_random_match_the_model, setup, teardown),
	    cmocka_unit_test_setup_teardown(update_answers_for_what_was_touched_and_writes_nothing, setup, teardown),
	    cmocka_unit_test_setup_teardown(digests_beyond_a_limit_count_as_zero, setup, teardown),
	    cmocka_unit_test_setup_teardown(cleared_zones_are_zero_and_a_hole, setup, teardown),
	    cmocka_unit_test_setup_teardown(failed_read_or_write_is_told, setup, teardown),
	    cmocka_unit_test_setup_teardown(digests_of_a_huge_sparse_volume_are_read_fast, setup, teardown),
	    cmocka_unit_test_setup_teardown(cursor_makes_the_tree_of_what_it_was_given, setup, teardown),
	    cmocka_unit_test_setup_teardown(load_clears_what_a_cut_left_beyond_the_frontier, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
