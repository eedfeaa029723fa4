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

/* So many steps, or up to the first fault, of which there must be none; then everything in them durable. */
UNUSED_TOO static void
settled_steps(struct rig *g, unsigned n)
{
	for (unsigned i = 0; i < n && !g->failed && g->fault[0] == '\0'; i++)
		rig_step(g);
	rig_settle(g);
	assert_string_equal(g->fault, "");
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

UNUSED_TOO static uint64_t
size_of(struct rig *g, const char *path)
{
	struct disk_file *f;
	uint64_t bytes;

	assert_int_equal(disk_open(g->disk, path, DISK_READ, &f), 0);
	assert_int_equal(disk_size(g->disk, f, &bytes), 0);
	disk_close(g->disk, f);
	return bytes;
}

UNUSED_TOO static void
cut_file(struct rig *g, const char *path, uint64_t bytes)
{
	struct disk_file *f;

	assert_int_equal(disk_open(g->disk, path, DISK_WRITE, &f), 0);
	assert_int_equal(disk_truncate(g->disk, f, bytes), 0);
	assert_int_equal(disk_sync_now(g->disk, f), 0);
	disk_close(g->disk, f);
}

#endif
