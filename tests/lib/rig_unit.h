/* SPDX-License-Identifier: Apache-2.0 */
/* rig_unit.h: a store rig as a unit test's fixture. Included by one .c of a test program, after <cmocka.h>. */
#ifndef HF_TESTS_RIG_UNIT_H
#define HF_TESTS_RIG_UNIT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/store_rig.h"

#define UNUSED_TOO __attribute__((unused))

enum { RIG_NAMES_MAX = 256 };

UNUSED_TOO static struct rig *
start(uint64_t seed)
{
	struct rig *g = calloc(1, sizeof *g);

	assert_non_null(g);
	assert_true(rig_start(g, seed));
	return g;
}

UNUSED_TOO static void
stop(struct rig *g)
{
	rig_stop(g);
	free(g);
}

UNUSED_TOO static int
setup(void **state)
{
	*state = start(42);
	return 0;
}

UNUSED_TOO static int
teardown(void **state)
{
	stop(*state);
	return 0;
}

/* Every point and the newest state, against the model. */
UNUSED_TOO static void
check(struct rig *g)
{
	if (!rig_check(g))
		fail_msg("seed %llu: %s", (unsigned long long)g->seed, g->fault);
}

/* Runs a job to its end at once, and frees it. Its status. */
UNUSED_TOO static int
run(struct rig *g, struct store_job *job)
{
	int r;

	assert_non_null(job);
	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, true);
	r = store_job_status(job, NULL);
	store_job_destroy(job);
	return r;
}

/* ---- files ---- */

struct names {
	const char *suffix;
	char list[RIG_NAMES_MAX][64];
	size_t count;
};

static void
take_name(void *arg, const char *name)
{
	struct names *n = arg;
	size_t len = strlen(name), suffix = strlen(n->suffix);

	if (len < suffix || strcmp(name + len - suffix, n->suffix) != 0)
		return;
	assert_true(n->count < RIG_NAMES_MAX);
	snprintf(n->list[n->count++], sizeof n->list[0], "%s", name);
}

/* Files of a folder whose names end so, in byte order: segments come oldest first. */
UNUSED_TOO static struct names
list(struct rig *g, const char *dir, const char *suffix)
{
	struct names n = {.suffix = suffix};

	assert_int_equal(disk_list(g->disk, dir, take_name, &n), 0);
	return n;
}

#endif
