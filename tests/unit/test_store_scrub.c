/* SPDX-License-Identifier: Apache-2.0 */
/* A scrub of a store as its jobs come and go: what is written down of it, and what may come between. */
#include "storage/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/units.h"
#include "storage/store_impl.h"
#include "storage/view_impl.h"
#include "tests/lib/rig_unit.h"

enum { STEPS = 70, JOBS_MAX = 100 };

static int
setup_lived(void **state)
{
	struct rig *g = calloc(1, sizeof *g);

	if (g == NULL || !rig_start(g, 7))
		return -1;
	for (int i = 0; i < STEPS; i++)
		rig_step(g);
	rig_settle(g);
	rig_run_jobs(g, JOBS_MAX);
	*state = g;
	return g->fault[0] == '\0' ? 0 : -1;
}

static struct scrub_status
status(const struct rig *g)
{
	struct scrub_status t;

	store_get_scrub(g->store, &t);
	return t;
}

static void
finish(struct rig *g, struct store_job *job)
{
	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, false);
}

/* The next job of this name, taken and not run yet; those before it are done. */
static struct store_job *
take(struct rig *g, const char *name)
{
	struct store_job *job;

	while ((job = store_job_next(g->store)) != NULL && strcmp(store_job_name(job), name) != 0)
		finish(g, job);
	assert_non_null(job);
	return job;
}

/* A checkpoint of now becomes a point. */
static uint64_t
keep_newest(struct rig *g)
{
	const struct checkpoint *c = store_newest_consistent(g->store);
	uint64_t before = c != NULL ? c->lsn : 0;
	struct pit p = {0};

	while ((c = store_newest_consistent(g->store)) == NULL || c->lsn == before) {
		rig_step(g);
		rig_settle(g);
	}
	p.lsn = c->lsn;
	p.checkpoint = *c;
	assert_int_equal(rig_keep(g, &p), 0);
	return p.lsn;
}

static bool
is_verified(struct rig *g, uint64_t lsn)
{
	struct pit *pits;
	size_t count;
	bool verified = false;

	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	for (size_t i = 0; i < count; i++)
		verified |= pits[i].lsn == lsn && pits[i].verified_ns != 0;
	free(pits);
	return verified;
}

static void
a_whole_scrub_verifies_the_points_of_its_time_and_no_newer_ones(void **state)
{
	struct rig *g = *state;
	uint64_t older = keep_newest(g), newer;

	assert_int_equal(store_scrub_start(g->store), 0);
	newer = keep_newest(g);
	rig_run_jobs(g, JOBS_MAX);
	assert_false(status(g).running);
	assert_true(status(g).done_ns != 0);
	assert_true(is_verified(g, older));
	assert_false(is_verified(g, newer));
}

static void
a_scrub_that_was_cancelled_does_not_come_back_with_a_slice_of_it(void **state)
{
	struct rig *g = *state;
	struct store_job *slice;

	assert_int_equal(store_scrub_start(g->store), 0);
	slice = take(g, "scrub");
	assert_int_equal(store_scrub_cancel(g->store), 0);
	finish(g, slice);
	assert_false(status(g).running);
	rig_run_jobs(g, JOBS_MAX);
	assert_int_equal(status(g).done_ns, 0);
}

/* Started anew while what the one before has found is written down. */
static void
the_end_of_one_scrub_does_not_end_the_next(void **state)
{
	struct rig *g = *state;
	struct store_job *note;

	assert_int_equal(store_scrub_start(g->store), 0);
	while (!status(g).running || status(g).progress < 1)
		finish(g, take(g, "scrub"));
	note = take(g, "note scrub");
	assert_int_equal(store_scrub_cancel(g->store), 0);
	g->now_ns += NS_PER_SECOND;
	assert_int_equal(store_scrub_start(g->store), 0);
	finish(g, note);
	assert_true(status(g).running);
	rig_run_jobs(g, JOBS_MAX);
	assert_false(status(g).running);
}

/* ---- rot ---- */

/* A version of a block, as a view of then shows it. */
struct version {
	uint32_t volume;
	uint64_t block;
	char path[256];
	uint64_t offset;
};

static struct version
find_version(struct rig *g, uint64_t lsn, int volume, uint64_t block)
{
	struct version x = {.volume = g->volume[volume], .block = block};
	void *buf = buffer_alloc(BLOCK_BYTES);
	struct view *v;

	assert_int_equal(store_view(g->store, lsn, &v), 0);
	assert_int_equal(view_read(v, g->disk, g->cache, x.volume, block, 1, buf, NULL), 0);
	assert_true(v->slots[0].digest != 0 && v->slots[0].segment != 0);
	segment_path(x.path, sizeof x.path, RIG_DIR "/journal", v->slots[0].segment);
	x.offset = (uint64_t)v->slots[0].offset * BLOCK_BYTES + 99;
	store_view_release(g->store, v);
	buffer_free(buf, BLOCK_BYTES);
	return x;
}

static void
flip(struct rig *g, const struct version *x)
{
	assert_int_equal(disk_sim_flip(g->disk, x->path, x->offset, 5), 0);
}

/* One block is written, and a checkpoint of it becomes a point. */
static struct pit
write_and_keep(struct rig *g, uint64_t block)
{
	const struct checkpoint *c;
	struct pit p = {0};

	rig_frame_begin(g);
	rig_frame_extent(g, 0, block, 1, false, false);
	rig_frame_end(g);
	rig_frame_begin(g);
	rig_frame_end(g);
	rig_settle(g);
	c = store_newest_checkpoint(g->store);
	p.id = checkpoint_pit_id(&g->store->source, c->lsn, c->stream_id);
	p.lsn = c->lsn;
	p.checkpoint = *c;
	assert_int_equal(rig_keep(g, &p), 0);
	return p;
}

static void
scrub(struct rig *g)
{
	assert_int_equal(store_scrub_start(g->store), 0);
	rig_run_jobs(g, JOBS_MAX);
	assert_false(status(g).running);
}

/* What is known to be damaged is looked at every ten minutes: these are over. */
static void
look_again(struct rig *g)
{
	g->store->scrub.rechecked_ns = clock_monotonic_ns() - 601 * NS_PER_SECOND;
	rig_run_jobs(g, JOBS_MAX);
}

static void
a_point_that_is_hit_counts_as_never_read_back(void **state)
{
	struct rig *g = *state;
	struct pit hit = write_and_keep(g, 3), other = write_and_keep(g, 3);
	struct version x = find_version(g, hit.lsn, 0, 3);

	assert_int_equal(rig_change(g, &hit, STORE_PIT_VERIFIED), 0);
	flip(g, &x);
	scrub(g);
	assert_int_equal(status(g).damaged, 1);
	assert_false(is_verified(g, hit.lsn));
	assert_true(is_verified(g, other.lsn));
}

/* Nor is it asked of the agent twice within an hour, and what has no digest never. */
static void
damage_that_is_gone_is_known_to_be_gone(void **state)
{
	struct rig *g = *state;
	struct pit p = write_and_keep(g, 3);
	struct version x = find_version(g, p.lsn, 0, 3);
	uint32_t volume;
	uint64_t block;

	flip(g, &x);
	scrub(g);
	assert_int_equal(status(g).damaged, 1);
	assert_true(store_next_to_heal(g->store, &volume, &block));
	assert_int_equal(block, 3);
	assert_false(store_next_to_heal(g->store, &volume, &block));
	look_again(g);
	assert_int_equal(status(g).damaged, 1);
	flip(g, &x); /* the disk has thought better of it */
	look_again(g);
	assert_int_equal(status(g).damaged, 0);
	x.offset = 72; /* the header of the segment */
	flip(g, &x);
	scrub(g);
	assert_int_equal(status(g).damaged, 1);
	assert_false(store_next_to_heal(g->store, &volume, &block));
}

static void
a_scrub_is_not_over_while_a_suspect_is_looked_at(void **state)
{
	struct rig *g = *state;
	struct pit p = write_and_keep(g, 3);
	struct version x = find_version(g, p.lsn, 0, 3);
	struct store_job *mend, *job;

	flip(g, &x);
	assert_int_equal(store_scrub_start(g->store), 0);
	mend = take(g, "mend");
	while ((job = store_job_next(g->store)) != NULL)
		finish(g, job);
	assert_true(status(g).running);
	finish(g, mend);
	rig_run_jobs(g, JOBS_MAX);
	assert_false(status(g).running);
	assert_int_equal(status(g).damaged, 1);
}

/* ---- when ---- */

static void
one_is_due_an_interval_after_the_last_whatever_was_restarted(void **state)
{
	struct rig *g = *state;
	int64_t done_ns;

	scrub(g);
	done_ns = status(g).done_ns;
	rig_close(g);
	disk_sim_restart(g->disk, SIM_SURVIVE_NONE, 1);
	assert_int_equal(rig_open(g), 0);
	g->store->config.scrub_interval_ns = 3600 * NS_PER_SECOND;
	g->now_ns += 3500 * NS_PER_SECOND;
	rig_run_jobs(g, JOBS_MAX);
	assert_true(status(g).done_ns == done_ns);
	g->now_ns += 200 * NS_PER_SECOND;
	g->store->config.scrub_bytes = 1 << 30;
	rig_run_jobs(g, 1);
	assert_true(status(g).running);
	assert_false(status(g).by_hand);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		a_whole_scrub_verifies_the_points_of_its_time_and_no_newer_ones, setup_lived, teardown),
	    cmocka_unit_test_setup_teardown(
		a_scrub_that_was_cancelled_does_not_come_back_with_a_slice_of_it, setup_lived, teardown),
	    cmocka_unit_test_setup_teardown(the_end_of_one_scrub_does_not_end_the_next, setup_lived, teardown),
	    cmocka_unit_test_setup_teardown(a_point_that_is_hit_counts_as_never_read_back, setup_lived, teardown),
	    cmocka_unit_test_setup_teardown(damage_that_is_gone_is_known_to_be_gone, setup_lived, teardown),
	    cmocka_unit_test_setup_teardown(a_scrub_is_not_over_while_a_suspect_is_looked_at, setup_lived, teardown),
	    cmocka_unit_test_setup_teardown(
		one_is_due_an_interval_after_the_last_whatever_was_restarted, setup_lived, teardown),
	};

	return cmocka_run_group_tests_name("store_scrub", tests, NULL, NULL);
}
