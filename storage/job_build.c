/* SPDX-License-Identifier: Apache-2.0 */
/* job_build.c: the run of a sealed segment: its index, from memory to disk. */
#include "storage/job_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"
#include "storage/plant.h"

static struct store_job *
make_build(struct store *s)
{
	struct store_job *job;
	struct segment *g = s->segments;

	while (g != NULL && !(g->sealed && g->run == NULL))
		g = g->next;
	if (g == NULL)
		return NULL;
	job = job_create(s, JOB_BUILD);
	if (job != NULL) {
		job->segment = g;
		g->building = true;
	}
	return job;
}

/* run_write() sorts in place, and views may sort the interval's new entries at the same time: it gets a copy. */
static int
run_build(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct store *s = job->store;
	struct segment *g = job->segment;
	struct interval *v = g->interval;
	struct entry *copy = calloc(v->count > 0 ? v->count : 1, sizeof *copy);
	struct run_info info;
	struct hf_error err;
	char path[PATH_MAX_BYTES];
	int r;

	(void)cache;
	if (copy == NULL)
		return -ENOMEM;
	if (v->count > 0)
		memcpy(copy, v->entries, v->count * sizeof *copy);
	run_path(path, sizeof path, s->journal_dir, g->number);
	r = run_write(d, s->journal_dir, path, &g->info, copy, v->count, v->checkpoints, v->checkpoint_count);
	free(copy);
	if (r < 0)
		return job_say(job, r, "cannot write %s", path);
	r = run_open(d, path, &job->run, &info, &err);
	if (r < 0)
		return job_say(job, r, "%s", err.text);
	/* What was preallocated and not used goes back; the run says how long the segment is. */
	(void)disk_truncate(d, g->file->file, g->bytes - (PLANTED(36) ? BLOCK_BYTES : 0));
	return 0;
}

static void
finish_build(struct store *s, struct store_job *job)
{
	struct segment *g = job->segment;

	job->segment = NULL;
	g->building = false;
	if (job->status < 0) {
		s->retry_ns[JOB_BUILD] = clock_monotonic_ns() + JOB_RETRY_NS;
		return;
	}
	g->run = job->run;
	job->run = NULL;
	interval_destroy(g->interval);
	g->interval = NULL;
}

const struct job_class build_job = {
    .name = "build run",
    .slow = true,
    .frees = true,
    .make = make_build,
    .run = run_build,
    .finish = finish_build,
};
