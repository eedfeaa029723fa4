/* SPDX-License-Identifier: Apache-2.0 */
/* A store at rest, and one bit of one of its files flipped: it is refused, or a block of it, with a reason; or the bit
 * did not matter. No block ever comes back wrong, and nothing that was acknowledged goes without being missed.
 *
 * The codecs of the small structures are tried with every bit flipped beside this, where they are tested
 * (test_segment.c, test_run.c, test_sum.c). SEED=n flips other bits, FLIPS=n so many of every file. */
#include "storage/disk_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "tests/lib/dice.h"
#include "tests/lib/store_rig.h"

enum { STEPS = 150, JOBS_MAX = 100, FILES_MAX = 128, FLIPS = 100, TRIES = 200, HEAD_BYTES = 512 };

struct files {
	const char *dir;
	char paths[FILES_MAX][256];
	size_t count;
};

struct tally {
	unsigned refused, unreadable, harmless;
};

static void
add_file(void *arg, const char *name)
{
	struct files *files = arg;

	if (strchr(name, '.') == NULL)
		return; /* a directory */
	assert_true(files->count < FILES_MAX);
	snprintf(files->paths[files->count++], sizeof files->paths[0], "%s/%s", files->dir, name);
}

static struct files *
list_files(struct rig *g)
{
	struct files *files = calloc(1, sizeof *files);

	assert_non_null(files);
	files->dir = RIG_DIR;
	assert_int_equal(disk_list(g->disk, files->dir, add_file, files), 0);
	files->dir = RIG_DIR "/journal";
	assert_int_equal(disk_list(g->disk, files->dir, add_file, files), 0);
	return files;
}

static void
step(struct rig *g)
{
	rig_step(g);
	assert_string_equal(g->fault, "");
}

/* No fold passes it. */
static void
keep_newest(struct rig *g)
{
	struct pit *pits;
	size_t count;

	rig_settle(g);
	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	assert_true(count > 0);
	assert_int_equal(rig_keep(g, &pits[count - 1]), 0);
	free(pits);
}

/* Filled, folded, with points of every kind; opened once more, so that every segment has its run: of a tail the last
 * group may go, for it looks like a torn one (test_recover.c). */
static struct rig *
grow_old(uint64_t seed)
{
	struct rig *g = calloc(1, sizeof *g);

	assert_non_null(g);
	rig_create(g, seed, RIG_PLAIN);
	assert_int_equal(rig_open(g), 0);
	while (g->folds == 0 || !rig_is_filled(g))
		step(g);
	keep_newest(g);
	for (unsigned i = 0; i < STEPS; i++)
		step(g);
	rig_settle(g);
	rig_run_jobs(g, JOBS_MAX);
	rig_close(g);
	assert_int_equal(rig_open(g), 0);
	rig_run_jobs(g, JOBS_MAX);
	if (!rig_check_recovered(g) || !rig_check(g))
		fail_msg("%s", g->fault);
	rig_close(g);
	return g;
}

/* ---- one bit ---- */

static void
try_flip(const struct rig *base, const char *path, uint64_t at, unsigned bit, struct tally *tally)
{
	static struct rig g;
	int r;

	rig_fork(&g, base);
	g.rotten = true;
	assert_int_equal(disk_sim_flip(g.disk, path, at, bit), 0);
	r = rig_open(&g);
	if (r < 0) {
		if (r != -HF_ECORRUPT && r != -HF_EFORMAT) /* nothing else is said to be damage, and repaired */
			fail_msg("SEED=%llu: bit %u of byte %llu of %s: %s", (unsigned long long)base->seed, bit,
			    (unsigned long long)at, path, g.fault);
		tally->refused++;
	} else {
		if (!rig_check_recovered(&g) || !rig_check(&g))
			fail_msg("SEED=%llu: bit %u of byte %llu of %s: %s", (unsigned long long)base->seed, bit,
			    (unsigned long long)at, path, g.fault);
		tally->unreadable += g.unreadable > 0;
		tally->harmless += g.unreadable == 0;
	}
	rig_stop(&g);
}

/* A place in the file: mostly one that holds something. */
static uint64_t
pick_place(struct rig *g, struct disk_file *f, uint64_t bytes, struct dice *dice)
{
	unsigned char *page = buffer_alloc(BLOCK_BYTES);
	uint64_t at = 0;

	for (int i = 0; i < TRIES; i++) {
		uint64_t block = dice_below(dice, bytes) / BLOCK_BYTES * BLOCK_BYTES;
		struct disk_op op = {0};

		at = block + dice_below(dice, bytes - block < BLOCK_BYTES ? bytes - block : BLOCK_BYTES);
		disk_read(g->disk, &op, f, page, BLOCK_BYTES, block);
		assert_true(disk_wait(g->disk, &op) >= 0);
		if (page[at - block] != 0)
			break;
	}
	buffer_free(page, BLOCK_BYTES);
	return at;
}

static void
flip_file(struct rig *base, const char *path, unsigned flips, struct dice *dice, struct tally *tally)
{
	struct disk_file *f;
	uint64_t bytes, at[1024];
	unsigned n = flips < 1024 ? flips : 1024;

	assert_int_equal(disk_open(base->disk, path, DISK_READ, &f), 0);
	assert_int_equal(disk_size(base->disk, f, &bytes), 0);
	for (unsigned i = 0; i < n && bytes > 0; i++)
		at[i] = i % 4 == 0 ? i * 4 % HEAD_BYTES % bytes : pick_place(base, f, bytes, dice);
	disk_close(base->disk, f);
	for (unsigned i = 0; i < n && bytes > 0; i++)
		try_flip(base, path, at[i], (unsigned)dice_below(dice, 8), tally);
}

static void
flip_all(const char *kind, struct tally *tally)
{
	const char *text = getenv("FLIPS");
	unsigned flips = text != NULL ? (unsigned)strtoul(text, NULL, 0) : FLIPS;
	struct dice dice = dice_from_environment();
	struct rig *base = grow_old(2);
	struct files *files = list_files(base);

	*tally = (struct tally){0};
	for (size_t i = 0; i < files->count; i++)
		if (strstr(files->paths[i], kind) != NULL)
			flip_file(base, files->paths[i], flips, &dice, tally);
	print_message("%s: %u refused, %u with blocks that cannot be read, %u harmless\n", kind, tally->refused,
	    tally->unreadable, tally->harmless);
	rig_stop(base);
	free(base);
	free(files);
}

static void
a_flipped_bit_of_a_segment_is_found_or_harmless(void **state)
{
	struct tally tally;

	flip_all(".seg", &tally);
	assert_true(tally.unreadable > 0);
}

static void
a_flipped_bit_of_a_run_is_found_or_harmless(void **state)
{
	struct tally tally;

	flip_all(".run", &tally);
	assert_true(tally.harmless > 0); /* read from its segment instead */
}

static void
a_flipped_bit_of_a_staging_file_is_found(void **state)
{
	struct tally tally;

	flip_all(".img", &tally);
	assert_true(tally.unreadable > 0);
}

static void
a_flipped_bit_of_a_digest_file_is_found_or_harmless(void **state)
{
	struct tally tally;

	flip_all(".sum", &tally);
	assert_true(tally.unreadable > 0);
	assert_true(tally.refused > 0);
}

static void
a_flipped_bit_of_the_catalog_is_found_or_harmless(void **state)
{
	struct tally tally;

	flip_all("catalog", &tally);
	assert_true(tally.harmless > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_flipped_bit_of_a_segment_is_found_or_harmless),
	    cmocka_unit_test(a_flipped_bit_of_a_run_is_found_or_harmless),
	    cmocka_unit_test(a_flipped_bit_of_a_staging_file_is_found),
	    cmocka_unit_test(a_flipped_bit_of_a_digest_file_is_found_or_harmless),
	    cmocka_unit_test(a_flipped_bit_of_the_catalog_is_found_or_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
