/* SPDX-License-Identifier: Apache-2.0 */
/* job_leave.c: the bytes of files that a fold or a merge removed are given back, when nobody reads them any more. */
#include "storage/job_impl.h"

#include "storage/leaving.h"

static struct store_job *
make_leave(struct store *s)
{
	struct store_job *job;

	if (s->leaving.first == NULL || s->shutting_down)
		return NULL;
	job = job_create(s, JOB_LEAVE);
	if (job != NULL)
		job->leaving = leaving_take(&s->leaving);
	return job;
}

static int
run_leave_job(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct pace *pace = &job->store->pace;

	(void)cache;
	pace_begin(pace);
	(void)leaving_free(&job->leaving, d, job_pause, pace); /* the store ends: the rest is closed with the job */
	pace_end(pace);
	return 0;
}

const struct job_class leave_job = {
    .name = "free removed files",
    .slow = true,
    .frees = true,
    .make = make_leave,
    .run = run_leave_job,
};
