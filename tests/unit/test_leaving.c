/* SPDX-License-Identifier: Apache-2.0 */
/* Files without a name, given back step by step. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "storage/disk_sim.h"
#include "storage/leaving.h"

#define MIB (UINT64_C(1) << 20)

/* Looks at the file while it is on its way, through a descriptor of its own. */
struct watcher {
	struct disk *d;
	struct disk_file *file;
	unsigned pauses, give_up_at;
	uint64_t largest_step, bytes;
};

static int
watch(void *arg)
{
	struct watcher *w = arg;
	uint64_t bytes;

	assert_int_equal(disk_size(w->d, w->file, &bytes), 0);
	if (w->bytes - bytes > w->largest_step)
		w->largest_step = w->bytes - bytes;
	w->bytes = bytes;
	return ++w->pauses == w->give_up_at ? -ECANCELED : 0;
}

static struct watcher
set_up(struct leaving *l, uint64_t bytes)
{
	struct watcher w = {.bytes = bytes};
	struct disk_file *f;

	assert_int_equal(disk_sim_create(1, &w.d), 0);
	for (int i = 0; i < 2; i++) { /* the one that is watched goes first */
		assert_int_equal(disk_open(w.d, "/f", DISK_WRITE | DISK_CREATE, &f), 0);
		assert_int_equal(disk_truncate(w.d, f, bytes), 0);
		if (i == 1)
			assert_int_equal(disk_open(w.d, "/f", DISK_READ, &w.file), 0);
		assert_int_equal(disk_unlink(w.d, "/f"), 0);
		leaving_add(l, w.d, f);
	}
	return w;
}

static void
tear_down(struct watcher *w)
{
	disk_close(w->d, w->file);
	disk_destroy(w->d);
}

static void
a_large_file_goes_in_small_steps(void **state)
{
	struct leaving l = {0};
	struct watcher w = set_up(&l, 21 * MIB);

	assert_int_equal(leaving_free(&l, w.d, watch, &w), 0);
	assert_null(l.first);
	assert_true(w.largest_step == 8 * MIB);
	assert_true(w.bytes <= 8 * MIB);
	assert_int_equal(w.pauses, 2 * 3);
	tear_down(&w);
}

static void
who_gives_up_leaves_the_rest(void **state)
{
	struct leaving l = {0}, taken;
	struct watcher w = set_up(&l, 21 * MIB);

	w.give_up_at = 4; /* in the second file */
	assert_int_equal(leaving_free(&l, w.d, watch, &w), -ECANCELED);
	assert_non_null(l.first);
	taken = leaving_take(&l);
	assert_null(l.first);
	leaving_close(&taken, w.d);
	assert_null(taken.first);
	tear_down(&w);
}

static void
a_file_that_cannot_be_shortened_is_closed(void **state)
{
	struct leaving l = {0};
	struct watcher w = set_up(&l, 21 * MIB);

	disk_sim_fail(w.d, 't', 1, true, SIM_FAULT_EIO);
	assert_int_equal(leaving_free(&l, w.d, watch, &w), 0);
	assert_null(l.first);
	assert_true(w.bytes == 21 * MIB);
	tear_down(&w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_large_file_goes_in_small_steps),
	    cmocka_unit_test(who_gives_up_leaves_the_rest),
	    cmocka_unit_test(a_file_that_cannot_be_shortened_is_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
