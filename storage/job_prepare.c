/* SPDX-License-Identifier: Apache-2.0 */
/* job_prepare.c: the next segment of the journal, made and preallocated before it is needed. */
#include "storage/job_impl.h"

#include <errno.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/plant.h"

static uint64_t
next_capacity(const struct store *s)
{
	uint64_t bytes = s->segments_tail != NULL ? s->segments_tail->capacity * 2 : s->config.segment_bytes_first;

	if (bytes < s->config.segment_bytes_first)
		bytes = s->config.segment_bytes_first;
	return bytes < s->config.segment_bytes_max ? bytes : s->config.segment_bytes_max;
}

/* Runs are built more slowly than zeros come: their entries are in memory until then. */
static bool
is_behind(const struct store *s)
{
	size_t entries = 0;

	for (const struct segment *g = s->segments; g != NULL; g = g->next)
		if (g->sealed && g->interval != NULL)
			entries += g->interval->count;
	return entries > UNBUILT_ENTRIES_MAX;
}

static bool
wants_segment(const struct store *s)
{
	const struct segment *tail = s->segments_tail;

	if (s->prepared != NULL || s->full || s->shutting_down || is_behind(s))
		return false;
	return s->want_segment || (tail != NULL && !tail->sealed && tail->bytes > tail->capacity / 2);
}

/* Near the end: small steps. 0: there is no room for any. */
static uint64_t
affordable_capacity(struct store *s)
{
	uint64_t capacity = next_capacity(s);

	if (store_take_room(s, capacity))
		return capacity;
	return store_take_room(s, s->config.segment_bytes_first) ? s->config.segment_bytes_first : 0;
}

static struct store_job *
make_prepare(struct store *s)
{
	uint64_t capacity = wants_segment(s) ? affordable_capacity(s) : 0;
	struct store_job *job;

	if (capacity == 0) {
		s->full |= wants_segment(s);
		return NULL;
	}
	job = job_create(s, JOB_PREPARE);
	if (job == NULL)
		return NULL;
	job->reserve_bytes = s->space.told.reserve_bytes;
	job->segment = segment_create(++s->segment_number_last); /* never given twice, whatever becomes of it */
	if (job->segment == NULL) {
		store_job_destroy(job);
		return NULL;
	}
	job->segment->capacity = capacity;
	return job;
}

/* Preallocated now, so that a full file system shows before an acknowledgement is owed. */
static int
run_prepare(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct store *s = job->store;
	struct segment *g = job->segment;
	char path[PATH_MAX_BYTES];
	uint64_t bytes_free;
	int r;

	(void)cache;
	segment_path(path, sizeof path, s->journal_dir, g->number);
	r = disk_free_bytes(d, s->journal_dir, &bytes_free);
	if (r == 0 && bytes_free < g->capacity + job->reserve_bytes && g->capacity > s->config.segment_bytes_first)
		g->capacity = s->config.segment_bytes_first;
	if (r == 0 && bytes_free < g->capacity + job->reserve_bytes)
		return job_say(job, -ENOSPC, "%s: no room for a segment of %llu bytes beside the reserve",
		    s->journal_dir, (unsigned long long)g->capacity);
	r = shared_file_open(d, path, DISK_WRITE | DISK_CREATE, g->number, &g->file);
	if (r == -EEXIST) { /* left by an attempt that was cut off */
		r = disk_unlink(d, path);
		if (r == 0)
			r = shared_file_open(d, path, DISK_WRITE | DISK_CREATE, g->number, &g->file);
	}
	if (r < 0)
		return job_say(job, r, "cannot make %s", path);
	r = disk_allocate(d, g->file->file, 0, g->capacity);
	if (r == 0)
		r = disk_sync_now(d, g->file->file);
	if (r == 0 && !PLANTED(5))
		r = disk_sync_dir(d, s->journal_dir);
	if (r < 0) {
		(void)disk_unlink(d, path); /* swept at the next start otherwise */
		return job_say(job, r, "cannot prepare %s", path);
	}
	return 0;
}

static void
finish_prepare(struct store *s, struct store_job *job)
{
	if (job->status < 0) {
		bool full = job->status == -ENOSPC || job->status == -EDQUOT;

		s->full |= full;
		s->retry_ns[JOB_PREPARE] = clock_monotonic_ns() + JOB_RETRY_NS;
		if (!full && ++s->prepare_failures >= PREPARE_FAILURES_MAX)
			store_fail(s, job->status, "%s (%s)", job->text, hf_status_text(job->status));
		return;
	}
	s->prepare_failures = 0;
	s->prepared = job->segment;
	job->segment = NULL;
	journal_pump(s);
	store_say_room(s);
	store_flush(s);
}

const struct job_class prepare_job = {
    .name = "prepare segment",
    .ingest = true,
    .make = make_prepare,
    .run = run_prepare,
    .finish = finish_prepare,
};
