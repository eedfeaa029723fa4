/* SPDX-License-Identifier: Apache-2.0 */
/* job_punch.c: holes in the data segments of a merged run, where nothing is live: once after the merge, when no view
 * that was made before it is alive, and once after every start, for a cut may have prevented it. The run's name is
 * durable, so what its index does not refer to nobody will ever want again. */
#include "storage/job_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/plant.h"
#include "storage/punch.h"

enum { PASS_FILES = 512 }; /* looked at in one pass over the index: 4 MiB of bits, if they are large */

struct punch_work {
	struct run *run;
	struct segment_data *data; /* of the segment, by number; held_bytes: afterwards */
	size_t count;
	struct punch_map *maps; /* of the pass */
	uint64_t freed_bytes;
};

/* ---- the owner's part ---- */

/* Views that were made before the merge read by the old runs, which know blocks where they were then. */
static bool
has_older_view(const struct store *s, const struct segment *g)
{
	for (unsigned i = 0; i < s->view_count; i++)
		if (s->views[i].made < g->views_before)
			return !PLANTED(46);
	return false;
}

static struct punch_work *
create_work(struct segment *g)
{
	struct punch_work *w = calloc(1, sizeof *w);

	if (w == NULL)
		return NULL;
	w->data = calloc(g->data_count + 1, sizeof *w->data);
	w->maps = calloc(PASS_FILES, sizeof *w->maps);
	if (w->data == NULL || w->maps == NULL) {
		free(w->data);
		free(w->maps);
		free(w);
		return NULL;
	}
	w->run = run_ref(g->run);
	w->count = g->data_count;
	for (size_t i = 0; i < w->count; i++) {
		w->data[i] = g->data[i];
		shared_file_ref(w->data[i].file);
	}
	return w;
}

void
punch_work_destroy(struct punch_work *w, struct disk *d)
{
	if (w == NULL)
		return;
	run_unref(w->run, d);
	for (size_t i = 0; i < w->count; i++)
		shared_file_unref(w->data[i].file, d);
	free(w->data);
	free(w->maps);
	free(w);
}

static struct store_job *
make_punch(struct store *s)
{
	struct store_job *job;
	struct segment *g = s->segments;

	while (g != NULL && !(g->unpunched && !has_older_view(s, g)))
		g = g->next;
	if (g == NULL || s->shutting_down)
		return NULL;
	job = job_create(s, JOB_PUNCH);
	if (job == NULL)
		return NULL;
	job->segment = g;
	job->punch = create_work(g);
	if (job->punch == NULL) {
		store_job_destroy(job);
		return NULL;
	}
	return job;
}

/* ---- a pass: files [first, first + count) ---- */

static struct punch_map *
find_map(struct punch_work *w, size_t first, size_t count, uint32_t number)
{
	size_t low = first, high = first + count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (w->data[middle].file->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < first + count && w->data[low].file->number == number ? &w->maps[low - first] : NULL;
}

static int
mark_live(struct store_job *job, struct disk *d, size_t first, size_t count)
{
	struct punch_work *w = job->punch;
	struct run_cursor *c;
	struct entry e;
	uint64_t seen = 0;
	int r = run_cursor_open(w->run, d, false, RUN_CURSOR_PAGES, &c);

	if (r < 0)
		return r;
	while ((r = run_cursor_next(c, &e)) > 0) {
		struct punch_map *m = e.digest != 0 ? find_map(w, first, count, e.segment) : NULL;

		if (m != NULL && !punch_map_set(m, e.offset))
			r = -HF_ECORRUPT;
		if (r > 0 && ++seen % 16384 == 0)
			r = pace_pause(&job->store->pace) < 0 ? -ECANCELED : r;
		if (r < 0)
			break;
	}
	run_cursor_close(c);
	return r;
}

static int
punch_file(struct store_job *job, struct disk *d, struct segment_data *f, const struct punch_map *m)
{
	uint64_t bytes;
	int r = punch_holes(m, d, f->file->file, &bytes);

	if (r < 0)
		return r;
	f->held_bytes = punch_map_held(m) * BLOCK_BYTES;
	job->punch->freed_bytes += bytes;
	return pace_pause(&job->store->pace);
}

static int
punch_pass(struct store_job *job, struct disk *d, size_t first, size_t count)
{
	struct punch_work *w = job->punch;
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = punch_map_init(&w->maps[i], w->data[first + i].bytes);
	if (r == 0)
		r = mark_live(job, d, first, count);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = punch_file(job, d, &w->data[first + i], &w->maps[i]);
	for (size_t i = 0; i < count; i++)
		punch_map_fini(&w->maps[i]);
	return r;
}

static int
run_punch(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct punch_work *w = job->punch;
	int r = 0;

	(void)cache;
	pace_begin(&job->store->pace);
	for (size_t first = 0; r == 0 && first < w->count; first += PASS_FILES)
		r = punch_pass(job, d, first, w->count - first < PASS_FILES ? w->count - first : PASS_FILES);
	pace_end(&job->store->pace);
	return r < 0 ? job_say(job, r, "punching the segments of run %llu: %s",
			   (unsigned long long)job->segment->number, hf_status_text(r))
		     : 0;
}

static void
finish_punch(struct store *s, struct store_job *job)
{
	struct punch_work *w = job->punch;

	/* What is dead in the files of an index that cannot be read nobody knows: those of others do not wait for it.
	 */
	if (job->status == 0 || job->status == -HF_ECORRUPT)
		job->segment->unpunched = false;
	if (job->status < 0) {
		s->retry_ns[JOB_PUNCH] = clock_monotonic_ns() + 30 * JOB_RETRY_NS;
		return;
	}
	for (size_t i = 0; i < w->count; i++)
		job->segment->data[i].held_bytes = w->data[i].held_bytes;
	s->stats.merge_freed_bytes += w->freed_bytes;
}

const struct job_class punch_job = {
    .name = "punch segments",
    .slow = true,
    .frees = true,
    .alone = true,
    .make = make_punch,
    .run = run_punch,
    .finish = finish_punch,
};
