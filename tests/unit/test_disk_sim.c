/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk is the judge of everything above it, so here it is judged: what it may lose,
 * what it must keep. */
#include "storage/disk_sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { MIB = 1024 * 1024, SECTORS = 8, SEEDS = 400 };

static char *buf; /* 1 MiB */

static int
setup(void **state)
{
	struct disk *d;

	assert_int_equal(disk_sim_create(1, &d), 0);
	*state = d;
	return 0;
}

static int
teardown(void **state)
{
	disk_destroy(*state);
	return 0;
}

static struct disk_file *
open_file(struct disk *d, const char *path, unsigned flags)
{
	struct disk_file *f;

	assert_int_equal(disk_open(d, path, flags, &f), 0);
	return f;
}

/* A file whose name is durable. */
static struct disk_file *
create_file(struct disk *d, const char *path)
{
	struct disk_file *f = open_file(d, path, DISK_WRITE | DISK_CREATE);

	assert_int_equal(disk_sync_dir(d, "/"), 0);
	return f;
}

static int
write_blocks(struct disk *d, struct disk_file *f, char byte, size_t blocks, uint64_t at_block)
{
	memset(buf, byte, blocks * DISK_ALIGN);
	return disk_write_now(d, f, buf, blocks * DISK_ALIGN, at_block * DISK_ALIGN);
}

static void
put_blocks(struct disk *d, struct disk_file *f, char byte, size_t blocks, uint64_t at_block)
{
	assert_int_equal(write_blocks(d, f, byte, blocks, at_block), 0);
}

/* The byte all of the block consists of; fails when it is mixed. */
static int
block_byte(struct disk *d, struct disk_file *f, uint64_t block)
{
	assert_int_equal(disk_read_now(d, f, buf, DISK_ALIGN, block * DISK_ALIGN), 0);
	for (int i = 0; i < DISK_ALIGN; i++)
		assert_int_equal(buf[i], buf[0]);
	return buf[0];
}

static uint64_t
size_of(struct disk *d, struct disk_file *f)
{
	uint64_t bytes = 0;

	assert_int_equal(disk_size(d, f, &bytes), 0);
	return bytes;
}

static struct disk_file *
restart_and_open(struct disk *d, struct disk_file *old, enum sim_survival survival, uint64_t seed)
{
	disk_sim_restart(d, survival, seed);
	disk_close(d, old);
	return open_file(d, "/f", DISK_WRITE);
}

static bool
exists(struct disk *d, const char *path)
{
	struct disk_file *f;
	int r = disk_open(d, path, DISK_READ, &f);

	if (r == 0)
		disk_close(d, f);
	assert_true(r == 0 || r == -ENOENT);
	return r == 0;
}

/* ---- power cuts: content ---- */

static void
unsynced_writes_are_lost_when_none_survive(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");

	put_blocks(d, f, 'a', 1, 0);
	assert_int_equal(disk_sync_now(d, f), 0);
	put_blocks(d, f, 'b', 2, 0);
	assert_int_equal(block_byte(d, f, 0), 'b');
	assert_int_equal(disk_sim_pending(d), 1);
	f = restart_and_open(d, f, SIM_SURVIVE_NONE, 1);
	assert_int_equal(block_byte(d, f, 0), 'a');
	assert_int_equal(size_of(d, f), DISK_ALIGN);
	assert_int_equal(disk_sim_pending(d), 0);
	disk_close(d, f);
}

static void
unsynced_writes_are_kept_when_all_survive(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");

	put_blocks(d, f, 'a', 2, 1);
	assert_int_equal(disk_truncate(d, f, 5 * DISK_ALIGN), 0);
	f = restart_and_open(d, f, SIM_SURVIVE_ALL, 1);
	assert_int_equal(block_byte(d, f, 0), 0);
	assert_int_equal(block_byte(d, f, 2), 'a');
	assert_int_equal(size_of(d, f), 5 * DISK_ALIGN);
	disk_close(d, f);
}

/* Count old and new sectors of the block, and new ones by their place; anything else fails. */
static void
count_sectors(const char *block, char old, char new, unsigned *olds, unsigned *news, unsigned *places)
{
	for (int s = 0; s < SECTORS; s++) {
		const char *sector = block + s * 512;

		for (int i = 1; i < 512; i++)
			assert_int_equal(sector[i], sector[0]);
		assert_true(sector[0] == old || sector[0] == new);
		*olds += sector[0] == old;
		*news += sector[0] == new;
		places[s] += sector[0] == new;
	}
}

static void
random_survival_tears_between_sectors_and_invents_nothing(void **state)
{
	unsigned olds = 0, news = 0, torn = 0, places[SECTORS] = {0};

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct disk *d;
		struct disk_file *f;
		unsigned o = 0, n = 0;

		assert_int_equal(disk_sim_create(seed, &d), 0);
		f = create_file(d, "/f");
		put_blocks(d, f, 'o', 3, 0);
		assert_int_equal(disk_sync_now(d, f), 0);
		put_blocks(d, f, 'n', 1, 1);
		f = restart_and_open(d, f, SIM_SURVIVE_RANDOM, seed);
		assert_int_equal(block_byte(d, f, 0), 'o');
		assert_int_equal(block_byte(d, f, 2), 'o');
		assert_int_equal(disk_read_now(d, f, buf, DISK_ALIGN, DISK_ALIGN), 0);
		count_sectors(buf, 'o', 'n', &o, &n, places);
		olds += o == SECTORS;
		news += n == SECTORS;
		torn += o > 0 && n > 0;
		disk_close(d, f);
		disk_destroy(d);
	}
	assert_true(olds > SEEDS / 20);
	assert_true(news > SEEDS / 20);
	assert_true(torn > SEEDS / 20);
	for (int i = 0; i < SECTORS; i++)
		assert_true(places[i] > news);
}

static void
later_writes_may_survive_without_earlier_ones(void **state)
{
	unsigned seen[4] = {0};

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct disk *d;
		struct disk_file *f;
		int first, second;

		assert_int_equal(disk_sim_create(seed, &d), 0);
		f = create_file(d, "/f");
		put_blocks(d, f, 'o', 2, 0);
		assert_int_equal(disk_sync_now(d, f), 0);
		put_blocks(d, f, 'n', 1, 0);
		put_blocks(d, f, 'n', 1, 1);
		f = restart_and_open(d, f, SIM_SURVIVE_RANDOM, seed);
		assert_int_equal(disk_read_now(d, f, buf, 2 * DISK_ALIGN, 0), 0);
		first = buf[0] == 'n';
		second = buf[DISK_ALIGN] == 'n';
		seen[2 * first + second]++;
		disk_close(d, f);
		disk_destroy(d);
	}
	for (int i = 0; i < 4; i++)
		assert_true(seen[i] > 10);
}

static void
synced_writes_survive_every_cut(void **state)
{
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct disk *d;
		struct disk_file *f;

		assert_int_equal(disk_sim_create(seed, &d), 0);
		f = create_file(d, "/f");
		put_blocks(d, f, 's', 4, 0);
		assert_int_equal(disk_punch(d, f, DISK_ALIGN, DISK_ALIGN), 0);
		assert_int_equal(disk_truncate(d, f, 3 * DISK_ALIGN), 0);
		assert_int_equal(disk_allocate(d, f, 0, 8 * DISK_ALIGN), 0);
		assert_int_equal(disk_sync_now(d, f), 0);
		f = restart_and_open(d, f, SIM_SURVIVE_RANDOM, seed);
		assert_int_equal(size_of(d, f), 8 * DISK_ALIGN);
		assert_int_equal(block_byte(d, f, 0), 's');
		assert_int_equal(block_byte(d, f, 1), 0);
		assert_int_equal(block_byte(d, f, 2), 's');
		assert_int_equal(block_byte(d, f, 3), 0);
		disk_close(d, f);
		disk_destroy(d);
	}
}

static void
a_write_completed_after_the_sync_began_is_not_covered_by_it(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");
	struct disk_op write = {0}, sync = {0};

	memset(buf, 'a', DISK_ALIGN);
	disk_write(d, &write, f, buf, DISK_ALIGN, 0);
	disk_sync(d, &sync, f);
	assert_int_equal(disk_wait(d, &write), 0);
	assert_int_equal(disk_wait(d, &sync), 0);
	assert_int_equal(disk_sim_pending(d), 1);
	f = restart_and_open(d, f, SIM_SURVIVE_NONE, 1);
	assert_int_equal(size_of(d, f), 0);
	disk_close(d, f);
}

static void
a_failed_sync_loses_what_the_next_one_pretends_to_keep(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");

	put_blocks(d, f, 'a', 1, 0);
	disk_sim_fail(d, 's', 1, false, SIM_FAULT_EIO);
	assert_int_equal(disk_sync_now(d, f), -EIO);
	assert_int_equal(disk_sync_now(d, f), 0);
	put_blocks(d, f, 'b', 1, 1);
	assert_int_equal(disk_sync_now(d, f), 0);
	assert_int_equal(block_byte(d, f, 0), 'a');
	f = restart_and_open(d, f, SIM_SURVIVE_ALL, 1);
	assert_int_equal(block_byte(d, f, 0), 0);
	assert_int_equal(block_byte(d, f, 1), 'b');
	disk_close(d, f);
}

/* ---- power cuts: names ---- */

static void
a_synced_file_loses_its_name_without_a_sync_of_the_directory(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = open_file(d, "/f", DISK_WRITE | DISK_CREATE);

	put_blocks(d, f, 'a', 1, 0);
	assert_int_equal(disk_sync_now(d, f), 0);
	disk_sim_restart(d, SIM_SURVIVE_NONE, 1);
	disk_close(d, f);
	assert_false(exists(d, "/f"));
}

static void
a_rename_is_seen_before_or_after_and_the_data_follows(void **state)
{
	unsigned before = 0, after = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct disk *d;
		struct disk_file *f, *g;

		assert_int_equal(disk_sim_create(seed, &d), 0);
		f = create_file(d, "/f");
		put_blocks(d, f, 'o', 1, 0);
		assert_int_equal(disk_sync_now(d, f), 0);
		g = create_file(d, "/g");
		put_blocks(d, g, 'n', 1, 0);
		assert_int_equal(disk_sync_now(d, g), 0);
		assert_int_equal(disk_rename(d, "/g", "/f"), 0);
		disk_close(d, g);
		f = restart_and_open(d, f, SIM_SURVIVE_RANDOM, seed);
		before += block_byte(d, f, 0) == 'o' && exists(d, "/g");
		after += block_byte(d, f, 0) == 'n' && !exists(d, "/g");
		disk_close(d, f);
		disk_destroy(d);
	}
	assert_int_equal(before + after, SEEDS);
	assert_true(before > SEEDS / 20);
	assert_true(after > SEEDS / 20);
}

static void
an_unlink_is_durable_only_with_the_directory(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");

	put_blocks(d, f, 'a', 1, 0);
	assert_int_equal(disk_sync_now(d, f), 0);
	disk_close(d, f);
	assert_int_equal(disk_unlink(d, "/f"), 0);
	assert_false(exists(d, "/f"));
	disk_sim_restart(d, SIM_SURVIVE_NONE, 1);
	f = open_file(d, "/f", DISK_READ);
	assert_int_equal(block_byte(d, f, 0), 'a');
	disk_close(d, f);
	assert_int_equal(disk_unlink(d, "/f"), 0);
	assert_int_equal(disk_sync_dir(d, "/"), 0);
	disk_sim_restart(d, SIM_SURVIVE_NONE, 1);
	assert_false(exists(d, "/f"));
}

static void
a_synced_directory_is_lost_with_the_name_of_its_parent(void **state)
{
	struct disk *d = *state;

	assert_int_equal(disk_mkdir(d, "/a"), 0);
	assert_int_equal(disk_mkdir(d, "/a/b"), 0);
	disk_close(d, open_file(d, "/a/b/f", DISK_WRITE | DISK_CREATE));
	assert_int_equal(disk_sync_dir(d, "/a/b"), 0);
	assert_int_equal(disk_sync_dir(d, "/a"), 0);
	assert_int_equal(disk_sim_pending(d), 1);
	disk_sim_restart(d, SIM_SURVIVE_NONE, 1);
	assert_int_equal(disk_mkdir(d, "/a"), 0);
	assert_false(exists(d, "/a/b"));
	assert_int_equal(disk_sync_dir(d, "/"), 0);
}

static void
a_rename_between_directories_is_one_change(void **state)
{
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct disk *d;

		assert_int_equal(disk_sim_create(seed, &d), 0);
		assert_int_equal(disk_mkdir(d, "/a"), 0);
		assert_int_equal(disk_mkdir(d, "/b"), 0);
		disk_close(d, open_file(d, "/a/f", DISK_WRITE | DISK_CREATE));
		assert_int_equal(disk_sync_dir(d, "/"), 0);
		if (seed % 2 == 0)
			assert_int_equal(disk_sync_dir(d, "/a"), 0);
		assert_int_equal(disk_rename(d, "/a/f", "/b/f"), 0);
		if (seed % 4 == 1)
			assert_int_equal(disk_sync_dir(d, "/b"), 0);
		disk_sim_restart(d, SIM_SURVIVE_RANDOM, seed);
		if (seed % 2 == 0)
			assert_true(exists(d, "/a/f") != exists(d, "/b/f"));
		else if (seed % 4 == 1)
			assert_true(exists(d, "/b/f") && !exists(d, "/a/f"));
		else
			assert_false(exists(d, "/a/f") && exists(d, "/b/f"));
		disk_destroy(d);
	}
}

static void
a_file_renamed_twice_has_exactly_one_of_its_names(void **state)
{
	unsigned seen[3] = {0};

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct disk *d;
		bool f, g, h;

		assert_int_equal(disk_sim_create(seed, &d), 0);
		disk_close(d, create_file(d, "/f"));
		assert_int_equal(disk_rename(d, "/f", "/g"), 0);
		assert_int_equal(disk_rename(d, "/g", "/h"), 0);
		disk_sim_restart(d, SIM_SURVIVE_RANDOM, seed);
		f = exists(d, "/f");
		g = exists(d, "/g");
		h = exists(d, "/h");
		assert_int_equal(f + g + h, 1);
		seen[f ? 0 : g ? 1 : 2]++;
		disk_destroy(d);
	}
	for (int i = 0; i < 3; i++)
		assert_true(seen[i] > 10);
}

static void
a_file_without_a_name_is_readable_until_closed(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");

	put_blocks(d, f, 'a', 1, 0);
	assert_int_equal(disk_unlink(d, "/f"), 0);
	assert_int_equal(block_byte(d, f, 0), 'a');
	disk_close(d, f);
}

/* ---- the cut itself ---- */

static void
from_the_cut_on_everything_fails_and_nothing_becomes_durable(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f"), *g;
	uint64_t operations, bytes;

	put_blocks(d, f, 'a', 1, 0);
	operations = disk_sim_operations(d);
	disk_sim_cut_at(d, 2);
	put_blocks(d, f, 'b', 1, 1);
	assert_false(disk_sim_is_cut(d));
	assert_int_equal(disk_sync_now(d, f), -EIO);
	assert_true(disk_sim_is_cut(d));
	assert_int_equal(disk_sim_operations(d), operations + 2);
	assert_int_equal(write_blocks(d, f, 'c', 1, 0), -EIO);
	assert_int_equal(disk_read_now(d, f, buf, DISK_ALIGN, 0), -EIO);
	assert_int_equal(disk_open(d, "/g", DISK_WRITE | DISK_CREATE, &g), -EIO);
	assert_int_equal(disk_unlink(d, "/f"), -EIO);
	assert_int_equal(disk_size(d, f, &bytes), -EIO);
	f = restart_and_open(d, f, SIM_SURVIVE_NONE, 1);
	assert_false(disk_sim_is_cut(d));
	assert_int_equal(size_of(d, f), 0);
	disk_close(d, f);
}

static void
what_is_in_flight_at_the_cut_fails_and_counts_as_pending(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");
	struct disk_op write = {0};

	memset(buf, 'a', DISK_ALIGN);
	disk_write(d, &write, f, buf, DISK_ALIGN, 0);
	disk_submit(d);
	disk_sim_cut_at(d, 1);
	assert_int_equal(disk_sync_now(d, f), -EIO);
	assert_int_equal(disk_wait(d, &write), -EIO);
	f = restart_and_open(d, f, SIM_SURVIVE_ALL, 1);
	assert_int_equal(block_byte(d, f, 0), 'a');
	disk_close(d, f);
}

static void
after_a_restart_old_handles_are_stale(void **state)
{
	struct disk *d = *state;
	struct disk_file *old = create_file(d, "/f"), *f;
	uint64_t bytes;

	disk_sim_restart(d, SIM_SURVIVE_ALL, 1);
	f = open_file(d, "/f", DISK_WRITE);
	assert_int_equal(write_blocks(d, old, 'x', 1, 0), -ESTALE);
	assert_int_equal(disk_size(d, old, &bytes), -ESTALE);
	disk_close(d, old);
	assert_int_equal(write_blocks(d, f, 'y', 1, 0), 0);
	disk_close(d, f);
}

/* ---- faults ---- */

static void
the_nth_operation_of_a_kind_fails_once_or_for_ever(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");

	disk_sim_fail(d, 'w', 2, false, SIM_FAULT_EIO);
	put_blocks(d, f, 'a', 1, 0);
	assert_int_equal(disk_sync_now(d, f), 0);
	assert_int_equal(write_blocks(d, f, 'b', 1, 0), -EIO);
	assert_int_equal(block_byte(d, f, 0), 'a');
	put_blocks(d, f, 'c', 1, 0);
	disk_sim_fail(d, 'u', 1, true, SIM_FAULT_ENOSPC);
	assert_int_equal(disk_unlink(d, "/f"), -ENOSPC);
	assert_int_equal(disk_unlink(d, "/f"), -ENOSPC);
	disk_sim_fail(d, 'u', 0, false, SIM_FAULT_NONE);
	disk_close(d, f);
	assert_int_equal(disk_unlink(d, "/f"), 0);
}

static void
a_short_write_leaves_its_first_half_and_an_error(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");
	struct disk_op op = {0};

	disk_sim_fail(d, 'w', 1, false, SIM_FAULT_SHORT);
	assert_int_equal(write_blocks(d, f, 'a', 4, 0), -EIO);
	assert_int_equal(size_of(d, f), 2 * DISK_ALIGN);
	disk_sim_fail(d, 'r', 1, false, SIM_FAULT_SHORT);
	disk_read(d, &op, f, buf, 2 * DISK_ALIGN, 0);
	assert_int_equal(disk_wait(d, &op), DISK_ALIGN);
	disk_close(d, f);
}

static void
a_full_disk_refuses_new_blocks_only(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");
	uint64_t bytes = 0;

	disk_sim_set_capacity(d, 4 * DISK_ALIGN);
	assert_int_equal(disk_allocate(d, f, 0, 3 * DISK_ALIGN), 0);
	put_blocks(d, f, 'a', 3, 0); /* allocated: costs nothing more */
	assert_int_equal(disk_free_bytes(d, "/", &bytes), 0);
	assert_int_equal(bytes, DISK_ALIGN);
	assert_int_equal(write_blocks(d, f, 'b', 2, 3), -ENOSPC);
	assert_int_equal(disk_allocate(d, f, 0, 5 * DISK_ALIGN), -ENOSPC);
	put_blocks(d, f, 'b', 1, 3);
	put_blocks(d, f, 'c', 4, 0);
	assert_int_equal(disk_punch(d, f, 0, 2 * DISK_ALIGN), 0);
	assert_int_equal(disk_free_bytes(d, "/", &bytes), 0);
	assert_int_equal(bytes, 2 * DISK_ALIGN);
	assert_int_equal(disk_unlink(d, "/f"), 0);
	disk_close(d, f);
	assert_int_equal(disk_free_bytes(d, "/", &bytes), 0);
	assert_int_equal(bytes, 4 * DISK_ALIGN);
}

static void
a_flipped_bit_shows_at_once_and_after_the_cut(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");

	put_blocks(d, f, 'a', 1, 0);
	assert_int_equal(disk_sync_now(d, f), 0);
	assert_int_equal(disk_sim_flip(d, "/nothing", 0, 0), -ENOENT);
	assert_int_equal(disk_sim_flip(d, "/f", DISK_ALIGN, 0), -ERANGE);
	assert_int_equal(disk_sim_flip(d, "/f", 100, 1), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(disk_read_now(d, f, buf, DISK_ALIGN, 0), 0);
		assert_int_equal(buf[100], 'a' ^ 2);
		assert_int_equal(buf[99], 'a');
		f = restart_and_open(d, f, SIM_SURVIVE_NONE, 1);
	}
	disk_close(d, f);
}

/* ---- as a file system ---- */

static void
huge_sparse_files_cost_nothing(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");
	uint64_t far = (uint64_t)1 << 60, at = 0;

	assert_int_equal(disk_truncate(d, f, far), 0);
	put_blocks(d, f, 'z', 1, far / DISK_ALIGN - 1);
	put_blocks(d, f, 'y', 1, 1 << 20);
	assert_int_equal(disk_next_data(d, f, 0, &at), 0);
	assert_int_equal(at, (uint64_t)DISK_ALIGN << 20);
	assert_int_equal(disk_next_data(d, f, at + 100, &at), 0);
	assert_int_equal(at, ((uint64_t)DISK_ALIGN << 20) + 100);
	assert_int_equal(disk_next_data(d, f, at + DISK_ALIGN, &at), 0);
	assert_int_equal(at, far - DISK_ALIGN);
	assert_int_equal(disk_punch(d, f, 0, far), 0);
	assert_int_equal(disk_next_data(d, f, 0, &at), 0);
	assert_int_equal(at, far);
	assert_int_equal(disk_allocate(d, f, 0, far), 0);
	assert_int_equal(disk_sync_now(d, f), 0);
	f = restart_and_open(d, f, SIM_SURVIVE_NONE, 1);
	assert_int_equal(size_of(d, f), far);
	disk_close(d, f);
}

static void
cut_off_and_punched_bytes_read_as_zeros(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");
	struct disk_op op = {0};

	put_blocks(d, f, 'a', 3, 0);
	assert_int_equal(disk_truncate(d, f, DISK_ALIGN + 100), 0);
	disk_read(d, &op, f, buf, 2 * DISK_ALIGN, 0);
	assert_int_equal(disk_wait(d, &op), DISK_ALIGN + 100);
	assert_int_equal(disk_truncate(d, f, 3 * DISK_ALIGN), 0);
	assert_int_equal(disk_read_now(d, f, buf, 2 * DISK_ALIGN, DISK_ALIGN), 0);
	assert_int_equal(buf[99], 'a');
	for (int i = 100; i < 2 * DISK_ALIGN; i++)
		assert_int_equal(buf[i], 0);
	put_blocks(d, f, 'b', 3, 0);
	assert_int_equal(disk_punch(d, f, 10, 2 * DISK_ALIGN), 0);
	assert_int_equal(disk_read_now(d, f, buf, 3 * DISK_ALIGN, 0), 0);
	for (int i = 0; i < 3 * DISK_ALIGN; i++)
		assert_int_equal(buf[i], i < 10 || i >= 10 + 2 * DISK_ALIGN ? 'b' : 0);
	disk_close(d, f);
}

static void
add_name(void *arg, const char *name)
{
	strcat(strcat(arg, name), " ");
}

static void
names_behave_as_posix_says(void **state)
{
	struct disk *d = *state;
	struct disk_file *f;
	char names[100] = "";

	assert_int_equal(disk_mkdir(d, "d"), 0);
	assert_int_equal(disk_mkdir(d, "/d/"), -EEXIST);
	assert_int_equal(disk_mkdir(d, "/e"), 0);
	disk_close(d, open_file(d, "/d/b", DISK_WRITE | DISK_CREATE));
	disk_close(d, open_file(d, "//d/./a", DISK_WRITE | DISK_CREATE));
	disk_close(d, open_file(d, "d/Z", DISK_WRITE | DISK_CREATE));
	assert_int_equal(disk_open(d, "/d/a", DISK_WRITE | DISK_CREATE, &f), -EEXIST);
	assert_int_equal(disk_open(d, "/d", DISK_WRITE, &f), -EISDIR);
	assert_int_equal(disk_open(d, "/d/a/x", DISK_READ, &f), -ENOTDIR);
	assert_int_equal(disk_open(d, "/x/y", DISK_WRITE | DISK_CREATE, &f), -ENOENT);
	assert_int_equal(disk_list(d, "/d", add_name, names), 0);
	assert_string_equal(names, "Z a b ");
	assert_int_equal(disk_list(d, "/d/a", add_name, names), -ENOTDIR);
	assert_int_equal(disk_unlink(d, "/d"), -EISDIR);
	assert_int_equal(disk_rmdir(d, "/d"), -ENOTEMPTY);
	assert_int_equal(disk_rmdir(d, "/d/a"), -ENOTDIR);
	assert_int_equal(disk_rmdir(d, "/x"), -ENOENT);
	assert_int_equal(disk_unlink(d, "/d/x"), -ENOENT);
	assert_int_equal(disk_rename(d, "/d/a", "/e"), -EISDIR);
	assert_int_equal(disk_rename(d, "/e", "/d/a"), -ENOTDIR);
	assert_int_equal(disk_rename(d, "/e", "/d"), -ENOTEMPTY);
	assert_int_equal(disk_rename(d, "/d", "/d/e"), -EINVAL);
	assert_int_equal(disk_rename(d, "/x", "/y"), -ENOENT);
	assert_int_equal(disk_rename(d, "/d/a", "/d/a"), 0);
	assert_int_equal(disk_rename(d, "/d/a", "/d/b"), 0);
	assert_int_equal(disk_rename(d, "/d", "/e"), 0);
	names[0] = '\0';
	assert_int_equal(disk_list(d, "/e", add_name, names), 0);
	assert_string_equal(names, "Z b ");
	assert_int_equal(disk_sync_dir(d, "/d"), -ENOENT);
	assert_int_equal(disk_sync_dir(d, "/e/b"), -ENOTDIR);
}

static void
a_file_opened_for_reading_refuses_changes(void **state)
{
	struct disk *d = *state;
	struct disk_file *f;

	disk_close(d, create_file(d, "/f"));
	f = open_file(d, "/f", DISK_READ);
	assert_int_equal(write_blocks(d, f, 'a', 1, 0), -EBADF);
	assert_int_equal(disk_truncate(d, f, 1), -EINVAL);
	assert_int_equal(disk_punch(d, f, 0, 1), -EBADF);
	disk_close(d, f);
}

/* ---- asynchronous ---- */

struct order {
	char text[64];
	unsigned count;
};

struct one {
	struct order *order;
	struct disk_op op;
	char *buf;
	char name;
};

static void
on_one(void *arg, int res)
{
	struct one *o = arg;

	assert_int_equal(res, 0);
	o->order->text[o->order->count++] = o->name;
}

static void
start_eight(struct disk *d, struct disk_file *f, struct order *order, struct one *ones)
{
	for (int i = 0; i < 8; i++) {
		ones[i] = (struct one){.order = order, .name = (char)('0' + i), .buf = buf + i * DISK_ALIGN};
		ones[i].op = (struct disk_op){.cb = on_one, .arg = &ones[i]};
		memset(ones[i].buf, ones[i].name, DISK_ALIGN);
		disk_write(d, &ones[i].op, f, ones[i].buf, DISK_ALIGN, (uint64_t)i * DISK_ALIGN);
	}
}

static void
callbacks_run_from_drain_after_submit_in_order(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");
	struct order order = {0};
	struct one ones[8];

	start_eight(d, f, &order, ones);
	assert_int_equal(disk_drain(d), 0); /* nobody submitted */
	disk_submit(d);
	assert_int_equal(order.count, 0);
	assert_int_equal(disk_drain(d), 8);
	assert_string_equal(order.text, "01234567");
	assert_int_equal(disk_drain(d), 0);
	disk_close(d, f);
}

static void
reordering_mixes_completions_and_loses_none(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");
	struct order order = {0};
	struct one ones[8];
	int drains = 0;

	disk_sim_set_reorder(d, true);
	start_eight(d, f, &order, ones);
	disk_submit(d);
	for (; order.count < 8; drains++)
		assert_true(disk_drain(d) > 0);
	assert_true(drains > 1);
	assert_string_not_equal(order.text, "01234567");
	for (int i = 0; i < 8; i++)
		assert_non_null(strchr(order.text, '0' + i));
	disk_close(d, f);
}

static void
what_is_in_flight_at_a_restart_never_calls_back(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");
	struct order order = {0};
	struct one ones[8];

	start_eight(d, f, &order, ones);
	disk_submit(d);
	f = restart_and_open(d, f, SIM_SURVIVE_ALL, 1);
	assert_int_equal(disk_drain(d), 0);
	assert_int_equal(order.count, 0);
	assert_int_equal(block_byte(d, f, 7), '7');
	disk_close(d, f);
}

/* ---- determinism ---- */

/* A scenario of random operations; returns a digest of every result and of the state after a random
 * cut. */
static uint64_t
mix(uint64_t sum, uint64_t value)
{
	return (sum ^ value) * 0x100000001b3u;
}

static uint64_t
random_operation(struct disk *d, struct disk_file *f, unsigned dice)
{
	uint64_t at = dice >> 8 & 15;

	switch (dice % 8) {
	case 0: return (uint64_t)disk_sync_now(d, f);
	case 1: return (uint64_t)disk_punch(d, f, at * 1000, 5000);
	case 2: return (uint64_t)disk_truncate(d, f, at * 3000);
	case 3: return (uint64_t)disk_allocate(d, f, at * DISK_ALIGN, DISK_ALIGN);
	case 4: return (uint64_t)disk_rename(d, dice & 256 ? "/f" : "/g", dice & 256 ? "/g" : "/f");
	case 5: return (uint64_t)disk_sync_dir(d, "/");
	default: return (uint64_t)write_blocks(d, f, (char)(dice >> 12), 1 + dice % 3, at);
	}
}

static uint64_t
run_scenario(uint64_t seed)
{
	unsigned dice = (unsigned)seed * 2654435761u + 1;
	uint64_t sum = seed;
	struct disk_op op = {0};
	struct disk *d;
	struct disk_file *f;

	assert_int_equal(disk_sim_create(seed, &d), 0);
	f = create_file(d, "/f");
	disk_sim_cut_at(d, 20 + seed % 20);
	for (int i = 0; i < 40; i++) {
		dice = dice * 1664525u + 1013904223u;
		sum = mix(sum, random_operation(d, f, dice >> 8));
	}
	disk_sim_restart(d, SIM_SURVIVE_RANDOM, seed);
	disk_close(d, f);
	if (disk_open(d, "/f", DISK_READ, &f) < 0)
		f = open_file(d, "/g", DISK_READ);
	sum = mix(sum, size_of(d, f));
	disk_read(d, &op, f, buf, 64 * DISK_ALIGN, 0);
	for (int i = 0, n = disk_wait(d, &op); i < n; i++)
		sum = mix(sum, (unsigned char)buf[i]);
	disk_close(d, f);
	disk_destroy(d);
	return sum;
}

static void
the_same_seed_gives_the_same_history(void **state)
{
	unsigned same = 0;

	for (uint64_t seed = 1; seed <= 100; seed++) {
		assert_int_equal(run_scenario(seed), run_scenario(seed));
		same += run_scenario(seed) == run_scenario(seed + 1);
	}
	assert_int_equal(same, 0);
}

/* ---- copies, and what is chosen to survive ---- */

static void
exactly_the_chosen_changes_survive(void **state)
{
	for (uint64_t set = 0; set < 8; set++) {
		struct disk *copy;
		struct disk_file *f;

		assert_int_equal(disk_sim_clone(*state, &copy), 0);
		f = create_file(copy, "/f");
		put_blocks(copy, f, 'a', 1, 0);
		assert_int_equal(disk_truncate(copy, f, 3 * DISK_ALIGN), 0);
		disk_close(copy, open_file(copy, "/g", DISK_WRITE | DISK_CREATE));
		assert_int_equal(disk_sim_pending(copy), 3);
		f = restart_and_open(copy, f, SIM_SURVIVE_CHOSEN, set);
		assert_int_equal(size_of(copy, f), set & 2 ? 3 * DISK_ALIGN : set & 1 ? DISK_ALIGN : 0);
		if (set & 3)
			assert_int_equal(block_byte(copy, f, 0), set & 1 ? 'a' : 0);
		assert_int_equal(exists(copy, "/g"), (set & 4) != 0);
		disk_close(copy, f);
		disk_destroy(copy);
	}
}

static void
the_head_of_the_newest_write_survives_and_all_before_it(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");

	put_blocks(d, f, 'a', 2, 0);
	assert_int_equal(disk_sync_now(d, f), 0);
	put_blocks(d, f, 'b', 1, 0);
	put_blocks(d, f, 'c', 2, 1);
	assert_int_equal(disk_sim_newest_sectors(d), 2 * SECTORS);
	f = restart_and_open(d, f, SIM_SURVIVE_HEAD, 3);
	assert_int_equal(block_byte(d, f, 0), 'b');
	assert_int_equal(disk_read_now(d, f, buf, DISK_ALIGN, DISK_ALIGN), 0);
	assert_true(buf[3 * 512 - 1] == 'c' && buf[3 * 512] == 'a');
	assert_int_equal(size_of(d, f), 2 * DISK_ALIGN);
	disk_close(d, f);
}

static void
a_clone_goes_its_own_way(void **state)
{
	struct disk *d = *state, *copy;
	struct disk_file *f = create_file(d, "/f"), *of_copy;
	uint64_t changes;

	put_blocks(d, f, 'a', 1, 0);
	assert_int_equal(disk_sync_now(d, f), 0);
	put_blocks(d, f, 'b', 1, 0);
	assert_int_equal(disk_sim_clone(d, &copy), 0);
	assert_int_equal(disk_sim_pending(copy), 1);
	assert_int_equal(disk_sim_pending_since(copy, 0, &changes), 1);
	assert_int_equal(disk_sim_pending_since(copy, changes, &changes), 0);
	of_copy = open_file(copy, "/f", DISK_WRITE);
	assert_int_equal(block_byte(copy, of_copy, 0), 'b');
	put_blocks(copy, of_copy, 'c', 2, 0);
	assert_int_equal(block_byte(d, f, 0), 'b');
	of_copy = restart_and_open(copy, of_copy, SIM_SURVIVE_NONE, 0);
	assert_int_equal(block_byte(copy, of_copy, 0), 'a');
	disk_close(copy, of_copy);
	disk_destroy(copy);
	f = restart_and_open(d, f, SIM_SURVIVE_ALL, 0);
	assert_int_equal(block_byte(d, f, 0), 'b');
	assert_int_equal(size_of(d, f), DISK_ALIGN);
	disk_close(d, f);
}

/* Two writes of one block: whether the older one survived shows only without the newer. */
static void
clones_that_came_back_alike_are_told_alike(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");
	uint64_t hashes[4];

	put_blocks(d, f, 'a', 1, 0);
	put_blocks(d, f, 'b', 1, 0);
	for (uint64_t set = 0; set < 4; set++) {
		struct disk *copy;

		assert_int_equal(disk_sim_clone(d, &copy), 0);
		disk_sim_restart(copy, SIM_SURVIVE_CHOSEN, set);
		hashes[set] = disk_sim_hash(copy);
		disk_destroy(copy);
	}
	assert_true(hashes[2] == hashes[3]);
	assert_true(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
	disk_close(d, f);
}

/* Who wrote it, and in how many steps, makes no difference. */
static void
machines_that_hold_the_same_are_told_alike(void **state)
{
	struct disk *d = *state, *other;
	struct disk_file *f = create_file(d, "/f"), *of_other;

	assert_int_equal(disk_sim_create(2, &other), 0);
	of_other = create_file(other, "/f");
	put_blocks(d, f, 'a', 2, 0);
	put_blocks(other, of_other, 'b', 1, 0);
	put_blocks(other, of_other, 'a', 1, 1);
	assert_true(disk_sim_hash(d) != disk_sim_hash(other));
	put_blocks(other, of_other, 'a', 1, 0);
	assert_true(disk_sim_hash(d) == disk_sim_hash(other));
	disk_close(other, of_other);
	assert_int_equal(disk_rename(other, "/f", "/g"), 0);
	assert_true(disk_sim_hash(d) != disk_sim_hash(other));
	disk_destroy(other);
	disk_close(d, f);
}

static void
count_call(void *arg)
{
	++*(unsigned *)arg;
}

static void
who_watches_is_told_before_every_operation(void **state)
{
	struct disk *d = *state;
	struct disk_file *f = create_file(d, "/f");
	uint64_t before = disk_sim_operations(d);
	unsigned calls = 0;

	disk_sim_watch(d, count_call, &calls);
	put_blocks(d, f, 'a', 1, 0);
	assert_int_equal(disk_sync_now(d, f), 0);
	assert_int_equal(disk_unlink(d, "/f"), 0);
	assert_int_equal(calls, disk_sim_operations(d) - before);
	disk_sim_watch(d, NULL, NULL);
	assert_int_equal(disk_sync_dir(d, "/"), 0);
	assert_int_equal(calls, 3);
	disk_close(d, f);
}

#define ON_DISK(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    ON_DISK(unsynced_writes_are_lost_when_none_survive),
	    ON_DISK(unsynced_writes_are_kept_when_all_survive),
	    cmocka_unit_test(random_survival_tears_between_sectors_and_invents_nothing),
	    cmocka_unit_test(later_writes_may_survive_without_earlier_ones),
	    cmocka_unit_test(synced_writes_survive_every_cut),
	    ON_DISK(a_write_completed_after_the_sync_began_is_not_covered_by_it),
	    ON_DISK(a_failed_sync_loses_what_the_next_one_pretends_to_keep),
	    ON_DISK(a_synced_file_loses_its_name_without_a_sync_of_the_directory),
	    cmocka_unit_test(a_rename_is_seen_before_or_after_and_the_data_follows),
	    ON_DISK(an_unlink_is_durable_only_with_the_directory),
	    ON_DISK(a_synced_directory_is_lost_with_the_name_of_its_parent),
	    cmocka_unit_test(a_rename_between_directories_is_one_change),
	    cmocka_unit_test(a_file_renamed_twice_has_exactly_one_of_its_names),
	    ON_DISK(a_file_without_a_name_is_readable_until_closed),
	    ON_DISK(from_the_cut_on_everything_fails_and_nothing_becomes_durable),
	    ON_DISK(what_is_in_flight_at_the_cut_fails_and_counts_as_pending),
	    ON_DISK(after_a_restart_old_handles_are_stale),
	    ON_DISK(the_nth_operation_of_a_kind_fails_once_or_for_ever),
	    ON_DISK(a_short_write_leaves_its_first_half_and_an_error),
	    ON_DISK(a_full_disk_refuses_new_blocks_only),
	    ON_DISK(a_flipped_bit_shows_at_once_and_after_the_cut),
	    ON_DISK(huge_sparse_files_cost_nothing),
	    ON_DISK(cut_off_and_punched_bytes_read_as_zeros),
	    ON_DISK(names_behave_as_posix_says),
	    ON_DISK(a_file_opened_for_reading_refuses_changes),
	    ON_DISK(callbacks_run_from_drain_after_submit_in_order),
	    ON_DISK(reordering_mixes_completions_and_loses_none),
	    ON_DISK(what_is_in_flight_at_a_restart_never_calls_back),
	    cmocka_unit_test(the_same_seed_gives_the_same_history),
	    ON_DISK(exactly_the_chosen_changes_survive),
	    ON_DISK(the_head_of_the_newest_write_survives_and_all_before_it),
	    ON_DISK(a_clone_goes_its_own_way),
	    ON_DISK(clones_that_came_back_alike_are_told_alike),
	    ON_DISK(machines_that_hold_the_same_are_told_alike),
	    ON_DISK(who_watches_is_told_before_every_operation),
	};
	int failed;

	buf = buffer_alloc(MIB);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	buffer_free(buf, MIB);
	return failed;
}
