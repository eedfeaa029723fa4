/* SPDX-License-Identifier: Apache-2.0 */
/* store_job.c: what a store needs done that blocks. The owner makes a job with everything it needs, another thread runs
 * it, the owner takes over the result. Jobs of one store change its catalog one after the other: those that do are all
 * run by the same thread (the catalog thread), except a fold's two commits, and no such job is made while a fold is out
 * for what it could contradict. */
#include "storage/job_impl.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"

static const struct job_class *const classes[JOB_KINDS] = {
    [JOB_PREPARE] = &prepare_job,
    [JOB_BUILD] = &build_job,
    [JOB_POINTS] = &points_job,
    [JOB_FOLD] = &fold_job,
    [JOB_MERGE] = &merge_job,
    [JOB_PUNCH] = &punch_job,
    [JOB_LEAVE] = &leave_job,
    [JOB_COPY] = &copy_job,
    [JOB_MEND] = &mend_job,
    [JOB_SCRUB] = &scrub_job,
    [JOB_SCRUB_NOTE] = &scrub_note_job,
    [JOB_DECLARE] = &declare_job,
    [JOB_PIT_KEEP] = &pit_keep_job,
    [JOB_PIT_CHANGE] = &pit_change_job,
    [JOB_POLICY] = &policy_job,
    [JOB_THIN] = &thin_job,
    [JOB_QUOTA] = &quota_job,
    [JOB_EQUAL] = &equal_job,
    [JOB_FREEZE] = &freeze_job,
    [JOB_ACCOUNT] = &account_job,
    [JOB_PLAN] = &plan_job,
};

struct store_job *
job_create(struct store *s, enum job_kind kind)
{
	struct store_job *job = calloc(1, sizeof *job);

	if (job == NULL)
		return NULL;
	if (classes[kind]->asked)
		s->asked_jobs++;
	job->kind = kind;
	job->store = s;
	return job;
}

int
job_pause(void *pace)
{
	return pace_pause(pace);
}

int
job_say(struct store_job *job, int status, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(job->text, sizeof job->text, format, ap);
	va_end(ap);
	return status;
}

static bool
is_another_alone(const struct store *s)
{
	for (int kind = 0; kind < JOB_KINDS; kind++)
		if (s->out[kind] != NULL && classes[kind]->alone)
			return true;
	return false;
}

/* One that nobody asks for, of this kind, if it is time for it. */
static struct store_job *
make_job(struct store *s, enum job_kind kind, int64_t now_ns)
{
	const struct job_class *class = classes[kind];

	if (class->make == NULL || s->out[kind] != NULL || now_ns < s->retry_ns[kind])
		return NULL;
	if (class->points && s->out[JOB_FOLD] != NULL)
		return NULL;
	if (class->alone && is_another_alone(s))
		return NULL;
	return s->out[kind] = class->make(s);
}

struct store_job *
store_job_next(struct store *s)
{
	int64_t now_ns = clock_monotonic_ns();
	struct store_job *job = NULL;

	if (s->failed != 0 || !s->attached)
		return NULL;
	for (int kind = 0; kind < JOB_KINDS && job == NULL; kind++)
		job = make_job(s, (enum job_kind)kind, now_ns);
	return job;
}

bool
store_is_freeing(const struct store *s)
{
	for (int kind = 0; kind < JOB_KINDS; kind++)
		if (s->out[kind] != NULL && classes[kind]->frees)
			return true;
	return false;
}

bool
store_job_is_slow(const struct store_job *job)
{
	return classes[job->kind]->slow;
}

bool
store_job_is_ingest(const struct store_job *job)
{
	return classes[job->kind]->ingest;
}

const char *
store_job_name(const struct store_job *job)
{
	return classes[job->kind]->name;
}

void
store_job_run(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	job->status = classes[job->kind]->run(job, d, cache);
}

/* It is out no longer. */
static void
job_ended(struct store *s, struct store_job *job)
{
	assert(!job->finished);
	job->finished = true;
	if (s->out[job->kind] == job)
		s->out[job->kind] = NULL;
	if (classes[job->kind]->asked)
		s->asked_jobs--;
}

/* Only when it is opened is it compared with its seal, and replaced by its copy. */
static void
check_catalog(struct store *s)
{
	if (catalog_is_damaged(s->catalog))
		store_fail(s, -HF_ECORRUPT, "the catalog is damaged, and must be opened again");
}

void
store_job_finish(struct store *s, struct store_job *job, bool keep)
{
	job_ended(s, job);
	if (classes[job->kind]->finish != NULL)
		classes[job->kind]->finish(s, job);
	check_catalog(s);
	scrub_look_at_runs(s);
	s->merge_wanted = true;
	if (classes[job->kind]->frees)
		s->space.acted_ns = clock_monotonic_ns();
	if (!keep)
		store_job_destroy(job);
	store_wake_job(s);
}

int
store_job_status(const struct store_job *job, const char **ret_text)
{
	if (ret_text != NULL)
		*ret_text = job->text[0] != '\0' ? job->text : hf_status_text(job->status);
	return job->status;
}

void
store_job_destroy(struct store_job *job)
{
	if (job == NULL)
		return;
	if (!job->finished) { /* it was never run */
		job_ended(job->store, job);
		if (job->kind == JOB_DECLARE)
			declare_end_growing(job->store);
	}
	if (job->kind == JOB_PREPARE)
		segment_destroy(job->segment, job->store->disk);
	for (size_t i = 0; i < job->declared_count; i++) {
		volume_destroy(job->declared[i].files, job->store->disk);
		free(job->declared[i].cursor);
	}
	free(job->declared);
	merge_work_destroy(job->merge, job->store->disk);
	punch_work_destroy(job->punch, job->store->disk);
	scrub_work_destroy(job->scrub);
	leaving_close(&job->leaving, job->store->disk);
	free(job->rot);
	free(job->numbers);
	account_work_destroy(job->account, job->store->disk);
	free(job->going);
	free(job->pits);
	free(job);
}