/* SPDX-License-Identifier: Apache-2.0 */
/* job_fold.c: the base moves forward to the oldest point that is kept, and the journal before it is released. */
#include "storage/job_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/plant.h"

static int
list_released(struct store_job *job, const struct store *s)
{
	size_t n = 0;

	for (const struct segment *g = s->segments; g != NULL; g = g->next)
		n += 1 + segment_data_count(g);
	job->numbers = calloc(n + 1, sizeof *job->numbers);
	if (job->numbers == NULL)
		return -ENOMEM;
	/* The newest segment stays whatever happens: LSN, chain and stream go on from it. So does the one with the
	 * record at the target, for its checkpoint may be a point that only the journal knows. */
	for (const struct segment *g = s->segments;
	     g->next != NULL && g->run != NULL && g->info.lsn_last < job->lsn + PLANTED(32); g = g->next) {
		for (size_t i = 0; i < segment_data_count(g); i++)
			job->numbers[job->number_count++] = segment_data_get(g, i).file->number;
		job->released++;
	}
	return 0;
}

/* Nobody fills a disk that is not declared; when it comes back, its cursor is loaded again. */
static void
drop_idle_cursors(struct store *s)
{
	if (s->frame_begun && s->frame.fill)
		return; /* it was declared when the frame began */
	for (uint32_t i = 0; i < s->volume_count; i++)
		if (!s->volumes[i]->info.declared) {
			free(s->volumes[i]->cursor);
			s->volumes[i]->cursor = NULL;
		}
}

/* What is known to be rotten must not hold the base back for ever: the journal would grow without end. */
static void
take_rot_along(struct store_job *job, struct store *s)
{
	if (s->scrub.damage_count == 0)
		return;
	job->rot = calloc(s->scrub.damage_count, sizeof *job->rot);
	if (job->rot == NULL)
		return; /* then the fold ends there, and is tried again */
	job->rot_count = store_list_damage(s, job->rot, s->scrub.damage_count);
	view_know_damage(job->view, job->rot, job->rot_count);
}

static struct store_job *
make_fold(struct store *s)
{
	struct store_job *job;
	uint64_t target;

	if (s->asked_jobs == 0)
		drop_idle_cursors(s);
	target = store_fold_step(s, store_fold_target(s));
	if (target == 0 || s->shutting_down || s->asked_jobs > 0 || s->out[JOB_POINTS] != NULL)
		return NULL; /* what is about to be kept must not be folded away */
	if (s->out[JOB_MEND] != NULL || s->out[JOB_SCRUB_NOTE] != NULL)
		return NULL;
	job = job_create(s, JOB_FOLD);
	if (job == NULL)
		return NULL;
	job->lsn = target;
	if (list_released(job, s) < 0 || store_fold_view(s, target, &job->view) < 0) {
		store_job_destroy(job);
		return NULL;
	}
	take_rot_along(job, s);
	s->fold_lsn = target;
	marks_drop_before(&s->marks, target);
	return job;
}

static int
remove_files(struct store_job *job, struct disk *d,
    void (*make_path)(char *ret_path, size_t size, const char *dir, uint64_t number))
{
	const char *dir = job->store->journal_dir;
	char path[PATH_MAX_BYTES];
	int r = 0;

	for (size_t i = 0; i < job->number_count && r == 0; i++) {
		make_path(path, sizeof path, dir, job->numbers[i]);
		r = disk_unlink(d, path);
		if (r == -ENOENT)
			r = 0;
	}
	return r < 0 ? r : disk_sync_dir(d, dir);
}

/* Step 5: the catalog no longer needs them. Views that still do hold them open. A run goes after its segments: without
 * it nobody could tell that holes were made in them. */
static int
remove_segments(struct store_job *job, struct disk *d)
{
	int r = remove_files(job, d, segment_path);

	return r < 0 ? r : remove_files(job, d, run_path);
}

static int
run_fold(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct catalog *c = job->store->catalog;
	struct view_fault fault = {0};
	struct hf_error err;
	int r = catalog_set_fold(c, job->lsn, &err);

	if (r < 0)
		return job_say(job, r, "%s", err.text);
	job->begun = true;
	if (PLANTED(16))
		(void)catalog_set_base(c, job->lsn, &err);
	pace_begin(&job->store->pace);
	r = fold_run(job->view, d, cache, job_pause, &job->store->pace, &job->fold, &fault);
	pace_end(&job->store->pace);
	job->fault = fault;
	if (r == -HF_EDIGEST)
		return job_say(job, r, "fold: volume %u block %llu in segment %u does not match its digest",
		    fault.volume, (unsigned long long)fault.block, fault.segment);
	if (r < 0)
		return job_say(job, r, "fold: %s", hf_status_text(r));
	if (PLANTED(9))
		(void)remove_segments(job, d);
	r = catalog_set_base(c, job->lsn, &err);
	if (r < 0)
		return job_say(job, r, "%s", err.text);
	/* The base has moved: whatever happens to the files now is swept at the next start. */
	job->removed = remove_segments(job, d) == 0;
	if (!job->removed)
		job_say(job, 0, "folded, but old segments could not be removed; the next start does it");
	return 0;
}

static void
drop_released(struct store *s, const struct store_job *job)
{
	for (size_t i = 0; i < job->released; i++) {
		struct segment *g = s->segments;

		assert(g != NULL && g->run != NULL && g->info.lsn_last < job->lsn);
		s->segments = g->next;
		if (s->segments == NULL)
			s->segments_tail = NULL;
		if (job->removed)
			segment_leave(g, &s->leaving);
		segment_destroy(g, s->disk);
	}
}

static void
finish_fold(struct store *s, struct store_job *job)
{
	store_view_release(s, job->view);
	job->view = NULL;
	if (job->status < 0) {
		if (job->fault.status < 0)
			store_suspect(s, job->fault.volume, job->fault.block);
		s->retry_ns[JOB_FOLD] = clock_monotonic_ns() + 30 * JOB_RETRY_NS;
		return;
	}
	for (size_t i = 0; i < job->rot_count; i++) /* it may lie elsewhere now */
		store_suspect(s, job->rot[i].volume, job->rot[i].block);
	s->base_lsn = job->lsn;
	s->stats.written_bytes += job->fold.blocks_written * BLOCK_BYTES;
	drop_released(s, job);
}

const struct job_class fold_job = {
    .name = "fold",
    .slow = true,
    .frees = true,
    .points = true,
    .alone = true,
    .make = make_fold,
    .run = run_fold,
    .finish = finish_fold,
};
