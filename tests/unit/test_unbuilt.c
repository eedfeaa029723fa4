/* SPDX-License-Identifier: Apache-2.0 */
/* Zeros cost their sender nothing, but each is an entry in memory until its segment has a run: a store that is far
 * behind with its runs takes no more. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "storage/segment.h"
#include "storage/store_impl.h"
#include "tests/lib/store_rig.h"

enum { EXTENTS = 1000, FRAMES_ENOUGH = 2 * UNBUILT_ENTRIES_MAX / EXTENTS };

struct fixture {
	struct rig rig;
	struct store_job *build; /* taken, and not run */
	uint64_t chain;
	bool building;
};

/* Everything the store wants done, but for runs. */
static void
run_jobs(struct fixture *f)
{
	struct rig *g = &f->rig;
	struct store_job *job;

	while ((job = store_job_next(g->store)) != NULL) {
		if (!f->building && strcmp(store_job_name(job), "build run") == 0) {
			assert_null(f->build); /* one of a kind is out */
			f->build = job;
			continue;
		}
		store_job_run(job, g->disk, g->cache);
		store_job_finish(g->store, job, false);
	}
}

static void
settle(struct fixture *f)
{
	struct rig *g = &f->rig;

	for (int i = 0; i < 50; i++) {
		store_flush(g->store);
		run_jobs(f);
		disk_submit(g->disk);
		disk_drain(g->disk);
	}
}

/* A frame of zeros that lie apart. What store_frame_begin() says. */
static int
send_zeros(struct fixture *f, uint32_t volume, uint64_t sequence)
{
	static struct store_extent x[EXTENTS];
	size_t bad;
	void *payload;
	int r;

	for (unsigned i = 0; i < EXTENTS; i++)
		x[i] = (struct store_extent){.block = 2 * i, .count = 1, .volume = volume, .kind = 2};
	r = store_frame_begin(f->rig.store, sequence, f->chain + 1, x, EXTENTS, NULL, 0, &payload);
	if (r < 0)
		return r;
	f->chain++;
	assert_int_equal(store_frame_end(f->rig.store, &bad), 0);
	return 0;
}

static uint32_t
make_volume(struct fixture *f)
{
	struct store_declaration d = {
	    .name = "zeros", .identity = "serial:z", .size_bytes = 4096ull * 2 * EXTENTS, .ok = true};
	struct store_extent all = {.count = 2 * EXTENTS, .kind = 4};
	struct rig *g = &f->rig;
	struct store_job *job = store_declare(g->store, &d, 1);
	char text[256];
	void *payload;
	size_t bad;
	int status;

	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, true);
	store_declare_result(job, 0, &all.volume, &status, text, sizeof text);
	store_job_destroy(job);
	assert_int_equal(status, 0);
	assert_int_equal(store_frame_begin(g->store, 1, ++f->chain, &all, 1, NULL, 0, &payload), 0);
	assert_int_equal(store_frame_end(g->store, &bad), 0);
	settle(f);
	return all.volume;
}

static void
a_store_far_behind_with_its_runs_takes_no_more_until_they_are_built(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	uint64_t sequence = 2;
	struct store_stats stats;
	uint32_t volume;
	int r = 0;

	assert_true(rig_start(&f->rig, 42));
	f->chain = 1000;
	volume = make_volume(f);
	while (r == 0 && sequence < FRAMES_ENOUGH) {
		r = send_zeros(f, volume, sequence);
		if (r == 0)
			sequence++;
		settle(f);
	}
	assert_int_equal(r, -EAGAIN);
	store_get_stats(f->rig.store, &stats);
	assert_true(stats.open_entries < UNBUILT_ENTRIES_MAX * 3 / 2);
	f->building = true;
	assert_non_null(f->build);
	store_job_run(f->build, f->rig.disk, f->rig.cache);
	store_job_finish(f->rig.store, f->build, false);
	f->build = NULL;
	settle(f);
	assert_int_equal(send_zeros(f, volume, sequence), 0);
	settle(f);
	rig_stop(&f->rig);
	free(f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_store_far_behind_with_its_runs_takes_no_more_until_they_are_built),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
