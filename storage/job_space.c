/* SPDX-License-Identifier: Apache-2.0 */
/* job_space.c: a point given up for want of room, and what a source may take. */
#include "storage/job_impl.h"

#include <stdlib.h>

#include "storage/plant.h"

/* ---- thin ---- */

static struct store_job *
make_thin(struct store *s)
{
	const struct pit *p;
	struct store_job *job;

	if (!s->space.thin_wanted || (s->asked_jobs > 0 && !PLANTED(53)) || s->out[JOB_POINTS] != NULL)
		return NULL;
	s->space.thin_wanted = false;
	if (retention_stopped(&s->retention))
		return NULL; /* since it was wanted */
	p = pit_oldest_that_may_go(s->pits, s->pit_count, s->retention.running_ns);
	job = p != NULL ? job_create(s, JOB_THIN) : NULL;
	if (job != NULL)
		job->thinned = *p;
	return job;
}

static int
run_thin(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct catalog *c = job->store->catalog;
	struct hf_error err;
	int r = catalog_delete_pits(c, &job->thinned.id, 1, &err);

	(void)d;
	(void)cache;
	if (r == 0)
		r = catalog_list_pits(c, &job->pits, &job->pit_count, &err);
	if (r < 0)
		return job_say(job, r, "%s", err.text);
	job->pits_valid = true;
	return 0;
}

static void
finish_thin(struct store *s, struct store_job *job)
{
	job_take_pits(s, job);
	if (job->status < 0)
		return;
	s->stats.thinned++;
	s->events->thinned(s->arg, &job->thinned);
}

const struct job_class thin_job = {
    .name = "give up a point",
    .points = true,
    .frees = true,
    .make = make_thin,
    .run = run_thin,
    .finish = finish_thin,
};

/* ---- quota ---- */

void
store_get_quota(const struct store *s, uint64_t *ret_quota_bytes, enum when_full *ret_when_full)
{
	*ret_quota_bytes = s->quota_bytes;
	*ret_when_full = s->when_full;
}

struct store_job *
store_set_quota(struct store *s, uint64_t quota_bytes, enum when_full when_full)
{
	struct store_job *job = job_create(s, JOB_QUOTA);

	if (job == NULL)
		return NULL;
	job->quota_bytes = quota_bytes;
	job->when_full = when_full;
	return job;
}

static int
run_quota(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct hf_error err;
	int r = catalog_set_space(job->store->catalog, job->quota_bytes, job->when_full, &err);

	(void)d;
	(void)cache;
	return r < 0 ? job_say(job, r, "%s", err.text) : 0;
}

static void
finish_quota(struct store *s, struct store_job *job)
{
	if (job->status < 0)
		return;
	s->quota_bytes = job->quota_bytes;
	s->when_full = job->when_full;
}

const struct job_class quota_job = {
    .name = "set quota",
    .asked = true,
    .run = run_quota,
    .finish = finish_quota,
};
