/* SPDX-License-Identifier: Apache-2.0 */
/* job_copy.c: the catalog's copy, after changes, at most once a minute, and when the store is closed. A copy may lack
 * what changed since: repair.c, which falls back on it, asks the files. */
#include "storage/job_impl.h"

#include "proto/common/units.h"

static struct store_job *
create(struct store *s)
{
	uint64_t commits = catalog_commits(s->catalog);
	struct store_job *job = commits != s->copied_commits ? job_create(s, JOB_COPY) : NULL;

	if (job != NULL)
		job->commits = commits;
	return job;
}

static struct store_job *
make_copy(struct store *s)
{
	return s->shutting_down || clock_monotonic_ns() < s->copy_due_ns ? NULL : create(s);
}

static int
run_copy(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct hf_error err;
	int r = catalog_write_copy(job->store->catalog, d, &err);

	(void)cache;
	return r < 0 ? job_say(job, r, "%s", err.text) : 0;
}

static void
finish_copy(struct store *s, struct store_job *job)
{
	s->copy_due_ns = clock_monotonic_ns() + s->config.copy_interval_ns;
	if (job->status == 0)
		s->copied_commits = job->commits;
}

struct store_job *
store_last_job(struct store *s)
{
	return s->failed != 0 || s->out[JOB_COPY] != NULL ? NULL : create(s);
}

const struct job_class copy_job = {
    .name = "copy catalog",
    .slow = true,
    .make = make_copy,
    .run = run_copy,
    .finish = finish_copy,
};
