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
#include "tests/lib/store_rig.h"

enum { STEPS = 70, JOBS_MAX = 100 };

static int
setup(void **state)
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

static int
teardown(void **state)
{
	rig_stop(*state);
	free(*state);
	return 0;
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		a_whole_scrub_verifies_the_points_of_its_time_and_no_newer_ones, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		a_scrub_that_was_cancelled_does_not_come_back_with_a_slice_of_it, setup, teardown),
	    cmocka_unit_test_setup_teardown(the_end_of_one_scrub_does_not_end_the_next, setup, teardown),
	};

	return cmocka_run_group_tests_name("store_scrub", tests, NULL, NULL);
}
