/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "storage/discard.h"
#include "storage/disk_sim.h"

enum { FILES = 70 }; /* more than one call removes */

static void
make_file(struct disk *d, const char *path, uint64_t bytes)
{
	struct disk_file *f;

	assert_int_equal(disk_open(d, path, DISK_WRITE | DISK_CREATE, &f), 0);
	assert_int_equal(disk_truncate(d, f, bytes), 0);
	assert_int_equal(disk_sync_now(d, f), 0);
	disk_close(d, f);
}

static void
make_folder(struct disk *d, const char *name, unsigned files)
{
	char path[64];

	snprintf(path, sizeof path, "/sources/%s", name);
	assert_int_equal(disk_mkdir(d, path), 0);
	snprintf(path, sizeof path, "/sources/%s/journal", name);
	assert_int_equal(disk_mkdir(d, path), 0);
	for (unsigned i = 0; i < files; i++) {
		snprintf(path, sizeof path, "/sources/%s/journal/%08u.seg", name, i);
		make_file(d, path, 4096);
	}
	snprintf(path, sizeof path, "/sources/%s/journal", name);
	assert_int_equal(disk_sync_dir(d, path), 0);
	snprintf(path, sizeof path, "/sources/%s/vol.img", name);
	make_file(d, path, UINT64_C(5) << 29);
	snprintf(path, sizeof path, "/sources/%s", name);
	assert_int_equal(disk_sync_dir(d, path), 0);
}

static struct disk *
make_disk(unsigned files)
{
	struct disk *d;

	assert_int_equal(disk_sim_create(1, &d), 0);
	assert_int_equal(disk_mkdir(d, "/sources"), 0);
	make_folder(d, "s-1", files);
	make_folder(d, "s-2", 3);
	assert_int_equal(disk_sync_dir(d, "/sources"), 0);
	assert_int_equal(disk_sync_dir(d, "/"), 0);
	return d;
}

static void
count_one(void *arg, const char *name)
{
	++*(unsigned *)arg;
}

/* Names in a folder; -1 if there is no such folder. */
static int
count_names(struct disk *d, const char *path)
{
	unsigned n = 0;

	return disk_list(d, path, count_one, &n) < 0 ? -1 : (int)n;
}

static void
a_folder_goes_with_all_that_is_in_it_and_its_neighbour_stays(void **state)
{
	struct disk *d = make_disk(FILES);
	uint64_t all, bytes, sum = 0;
	int r, calls = 0;

	assert_int_equal(discard_folder(d, "/sources", "s-1"), 0);
	assert_int_equal(count_names(d, "/sources/s-1"), -1);
	assert_int_equal(discard_size(d, "/sources", &all), 0);
	assert_int_equal(all, (UINT64_C(5) << 29) + FILES * 4096);
	while ((r = discard_some(d, "/sources", &bytes)) == 1) {
		assert_true(bytes <= (UINT64_C(64) << 20) + FILES * 4096);
		sum += bytes;
		calls++;
	}
	assert_int_equal(r, 0);
	assert_int_equal(sum, all);
	assert_true(calls > 40); /* by and by */
	assert_int_equal(count_names(d, "/sources"), 1);
	assert_int_equal(count_names(d, "/sources/s-2/journal"), 3);
	disk_destroy(d);
}

static void
what_is_not_there_cannot_be_discarded(void **state)
{
	struct disk *d = make_disk(1);

	assert_int_equal(discard_folder(d, "/sources", "s-9"), -ENOENT);
	assert_int_equal(discard_folder(d, "/sources", "s-1"), 0);
	assert_int_equal(discard_folder(d, "/sources", "s-1"), 0); /* again, after a cut */
	disk_destroy(d);
}

static void
a_file_of_a_folder_goes_and_the_folder_stays(void **state)
{
	struct disk *d = make_disk(3);
	uint64_t bytes;
	int r;

	assert_int_equal(discard_file(d, "/sources", "/sources/s-1", "vol.img"), 0);
	assert_int_equal(discard_file(d, "/sources", "/sources/s-1", "vol.img"), 0); /* again, after a cut */
	while ((r = discard_some(d, "/sources", &bytes)) == 1)
		;
	assert_int_equal(r, 0);
	assert_int_equal(count_names(d, "/sources"), 2);
	assert_int_equal(count_names(d, "/sources/s-1"), 1);
	assert_int_equal(count_names(d, "/sources/s-1/journal"), 3);
	disk_destroy(d);
}

/* Whole under its own name, or rubbish; once discard_folder() has said so, rubbish for ever. */
static void
check_after_cut(struct disk *d, bool discarded)
{
	int whole = count_names(d, "/sources/s-1/journal"), rubbish = count_names(d, "/sources/deleted-s-1");

	if (whole >= 0) {
		assert_false(discarded);
		assert_int_equal(whole, 3);
		assert_int_equal(count_names(d, "/sources/s-1"), 2);
		assert_int_equal(rubbish, -1);
	}
	assert_int_equal(count_names(d, "/sources/s-2/journal"), 3);
}

static void
finish(struct disk *d)
{
	uint64_t bytes;
	int r = discard_folder(d, "/sources", "s-1");

	assert_true(r == 0 || r == -ENOENT); /* the latter: nothing of it is left */
	while ((r = discard_some(d, "/sources", &bytes)) == 1)
		;
	assert_int_equal(r, 0);
	assert_int_equal(count_names(d, "/sources"), 1);
}

static bool
cut_at(uint64_t at, uint64_t seed)
{
	struct disk *d = make_disk(3);
	uint64_t bytes;
	bool discarded, cut;

	disk_sim_cut_at(d, at);
	discarded = discard_folder(d, "/sources", "s-1") == 0;
	while (discarded && discard_some(d, "/sources", &bytes) == 1)
		;
	cut = disk_sim_is_cut(d);
	disk_sim_restart(d, SIM_SURVIVE_RANDOM, seed);
	check_after_cut(d, discarded);
	finish(d);
	disk_destroy(d);
	return cut;
}

static void
cut_anywhere_it_is_whole_or_goes_on_going(void **state)
{
	for (uint64_t seed = 1; seed <= 16; seed++)
		for (uint64_t at = 1; cut_at(at, seed * 1000 + at); at++)
			assert_true(at < 1000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_folder_goes_with_all_that_is_in_it_and_its_neighbour_stays),
	    cmocka_unit_test(what_is_not_there_cannot_be_discarded),
	    cmocka_unit_test(a_file_of_a_folder_goes_and_the_folder_stays),
	    cmocka_unit_test(cut_anywhere_it_is_whole_or_goes_on_going),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
