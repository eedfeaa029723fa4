/* SPDX-License-Identifier: Apache-2.0 */
/* job_scrub.c: scrubbing in slices, mending what slices (and others) found suspect, and telling the catalog.
 *
 * A slice only reads, beside anybody who writes: what it finds may be a digest that was just about to be written, and
 * is therefore no more than suspect. A mending runs while no fold is out and nobody declares volumes, sees every
 * suspect place as it is, and writes. */
#include "storage/job_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/plant.h"

enum {
	PLACES_MAX = 64,           /* of one job */
	FOUND_MAX = 512,           /* in them */
	BY_HAND_BYTES = 16 << 20,  /* of one slice */
	SLICES_PER_SECOND = 4,     /* of one that nobody asked for */
	GROUPS_MAX_OF_SLICE = 4096 /* most of them may be empty */
};

#define NOTE_INTERVAL_NS (60 * NS_PER_SECOND)

struct scrub_work {
	struct catalog_scrub at;
	uint64_t page, max_bytes;
	bool ended;
	struct scrub_stats stats;
	uint64_t pages_mended; /* MEND: of runs */
	struct catalog_suspect places[PLACES_MAX];
	bool writable[PLACES_MAX];       /* MEND: digests of the volume */
	size_t place_count, whole_count; /* MEND: of the first so many places all that was found is in the list */
	struct scrub_offer offer;        /* MEND; ours */
	struct damage *found;            /* MEND, SCRUB_NOTE: FOUND_MAX of them */
	size_t found_count;
	bool more;
	bool complete;                    /* SCRUB_NOTE: a scrub has ended */
	struct catalog_suspect *suspects; /* SCRUB_NOTE */
	size_t suspect_count;
};

void
scrub_work_destroy(struct scrub_work *w)
{
	if (w == NULL)
		return;
	buffer_free((void *)(uintptr_t)w->offer.bytes, BLOCK_BYTES);
	free(w->found);
	free(w->suspects);
	free(w);
}

/* A job with a view of everything. NULL: not now. */
static struct store_job *
make_scrub_job(struct store *s, enum job_kind kind, bool view)
{
	struct store_job *job = job_create(s, kind);

	if (job == NULL)
		return NULL;
	job->scrub = calloc(1, sizeof *job->scrub);
	if (job->scrub != NULL)
		job->scrub->found = calloc(FOUND_MAX, sizeof *job->scrub->found);
	if (job->scrub == NULL || job->scrub->found == NULL ||
	    (view && store_fold_view(s, s->durable.lsn_last, &job->view) < 0)) {
		store_job_destroy(job);
		return NULL;
	}
	job->scrub->at = s->scrub.at;
	job->scrub->page = s->scrub.page;
	return job;
}

static void
release_view(struct store *s, struct store_job *job)
{
	store_view_release(s, job->view);
	job->view = NULL;
}

/* ---- a slice ---- */

static bool
is_known_place(const struct scrub_work *w, const struct catalog_suspect *p)
{
	for (size_t i = 0; i < w->place_count; i++) {
		const struct catalog_suspect *q = &w->places[i];

		if (q->volume == p->volume && q->run == p->run &&
		    q->block / SCRUB_GROUP_BLOCKS == p->block / SCRUB_GROUP_BLOCKS)
			return true;
	}
	return false;
}

static void
on_suspect(void *arg, const struct damage *d)
{
	struct scrub_work *w = arg;
	struct catalog_suspect p = {.volume = d->volume, .run = d->volume == 0 ? d->segment : 0, .block = d->block};

	if (w->place_count < PLACES_MAX && !is_known_place(w, &p))
		w->places[w->place_count++] = p;
}

/* The volume of the next higher number; false: there is none. */
static bool
next_volume(const struct store_job *job, uint32_t *volume)
{
	uint32_t next = UINT32_MAX;

	for (uint32_t number = *volume + 1; number <= job->volume_last; number++)
		if (next == UINT32_MAX && view_find_volume(job->view, number) != NULL)
			next = number;
	*volume = next;
	return next != UINT32_MAX;
}

static void
enter_next_volume(struct store_job *job)
{
	struct scrub_work *w = job->scrub;

	w->at.position = 0;
	w->ended = !next_volume(job, &w->at.volume);
}

static int
scrub_one_group(struct store_job *job, struct scrub *sc)
{
	struct scrub_work *w = job->scrub;
	const struct view_volume *vv = view_find_volume(job->view, w->at.volume);
	uint64_t group = 0;
	int r = vv == NULL ? 0 : scrub_next_group(sc, w->at.volume, w->at.position, &group);

	if (r < 0)
		return r;
	if (vv == NULL || group * BLOCK_BYTES >= vv->size_bytes) {
		enter_next_volume(job);
		return 0;
	}
	w->at.position = group + SCRUB_GROUP_BLOCKS;
	return scrub_group(sc, w->at.volume, group);
}

static int
scrub_slice(struct store_job *job, struct scrub *sc)
{
	struct scrub_work *w = job->scrub;
	int r = 0;

	if (w->at.volume == 0) {
		r = scrub_runs(sc, &w->at.position, &w->page, w->max_bytes);
		if (w->at.position == UINT64_MAX) {
			scrub_headers(sc);
			enter_next_volume(job);
		}
		return r;
	}
	for (int i = 0; r == 0 && !w->ended && i < GROUPS_MAX_OF_SLICE; i++) {
		if (scrub_get_stats(sc).bytes >= w->max_bytes || w->place_count == PLACES_MAX)
			break;
		r = scrub_one_group(job, sc);
		if (r == 0)
			r = pace_pause(&job->store->pace);
	}
	scrub_flush(sc);
	return r == -ECANCELED ? 0 : r; /* what was done counts */
}

static int
run_scrub(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct scrub_work *w = job->scrub;
	struct scrub *sc;
	int r = scrub_create(job->view, d, cache, on_suspect, w, &sc);

	if (r < 0)
		return r;
	pace_begin(&job->store->pace);
	r = scrub_slice(job, sc);
	pace_end(&job->store->pace);
	w->stats = scrub_get_stats(sc);
	w->at.bytes += w->stats.bytes;
	scrub_destroy(sc);
	return r;
}

static struct store_job *
make_scrub(struct store *s)
{
	struct store_scrub *sb = &s->scrub;
	struct store_job *job;

	if (s->shutting_down)
		return NULL;
	if (scrub_is_due(s))
		scrub_begin(s, false);
	if (sb->at.begun_ns == 0 || sb->ended || sb->suspect_count > SUSPECTS_MAX / 2)
		return NULL;
	job = make_scrub_job(s, JOB_SCRUB, true);
	if (job == NULL)
		return NULL;
	job->volume_last = s->volume_last;
	job->scrub->max_bytes = sb->at.by_hand ? BY_HAND_BYTES : s->config.scrub_bytes / SLICES_PER_SECOND;
	return job;
}

static void
note_rate(struct store_scrub *sb, uint64_t bytes)
{
	int64_t now = clock_monotonic_ns(), elapsed = now - sb->rate_ns;

	sb->rate_bytes += bytes;
	if (elapsed < NS_PER_SECOND)
		return;
	sb->rate = (uint64_t)((double)sb->rate_bytes * NS_PER_SECOND / (double)elapsed);
	sb->rate_bytes = 0;
	sb->rate_ns = now;
}

static void
finish_scrub(struct store *s, struct store_job *job)
{
	struct store_scrub *sb = &s->scrub;
	const struct scrub_work *w = job->scrub;
	bool by_hand = sb->at.by_hand;

	release_view(s, job);
	for (size_t i = 0; i < w->place_count; i++)
		scrub_suspect(s, &w->places[i]);
	if (job->status < 0)
		s->retry_ns[JOB_SCRUB] = clock_monotonic_ns() + 30 * JOB_RETRY_NS;
	else if (!by_hand)
		s->retry_ns[JOB_SCRUB] = clock_monotonic_ns() + NS_PER_SECOND / SLICES_PER_SECOND;
	if (job->status < 0 || sb->at.begun_ns != w->at.begun_ns)
		return; /* cancelled meanwhile, or begun anew */
	sb->at = w->at;
	sb->at.by_hand = by_hand;
	sb->page = w->page;
	sb->ended = w->ended;
	note_rate(sb, w->stats.bytes);
}

const struct job_class scrub_job = {
    .name = "scrub",
    .slow = true,
    .make = make_scrub,
    .run = run_scrub,
    .finish = finish_scrub,
};

/* ---- mending ---- */

static void
on_damage(void *arg, const struct damage *d)
{
	struct scrub_work *w = arg;

	if (w->found_count < FOUND_MAX)
		w->found[w->found_count++] = *d;
	else
		w->more = true;
}

/* Pages of a run that cannot be mended are found damaged by what comes next. */
static void
mend_run(struct store_job *job, struct disk *d, uint64_t number, uint64_t page)
{
	char path[PATH_MAX_BYTES];
	int mended;

	run_path(path, sizeof path, job->store->journal_dir, number);
	mended = run_mend_pages(d, path, page, SCRUB_GROUP_BLOCKS);
	if (mended > 0)
		job->scrub->pages_mended += (uint64_t)mended;
}

static int
mend_place(struct store_job *job, struct disk *d, struct scrub *sc, size_t i)
{
	struct scrub_work *w = job->scrub;
	const struct catalog_suspect *p = &w->places[i];
	uint64_t run = p->run, page = p->block / SCRUB_GROUP_BLOCKS * SCRUB_GROUP_BLOCKS;
	int r;

	if (p->block == SCRUB_HEADER_BLOCK) {
		scrub_headers(sc);
		return 0;
	}
	if (p->volume == 0) {
		mend_run(job, d, run, page);
		return scrub_runs(sc, &run, &page, 1);
	}
	r = scrub_mend_group(sc, p->volume, p->block, w->writable[i], w->offer.bytes != NULL ? &w->offer : NULL);
	return r == -HF_EVOLUME ? 0 : r; /* it went with its volume */
}

static int
run_mend(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct scrub_work *w = job->scrub;
	struct scrub *sc;
	int r = scrub_create(job->view, d, cache, on_damage, w, &sc);

	for (size_t i = 0; r == 0 && i < w->place_count; i++) {
		r = mend_place(job, d, sc, i);
		w->whole_count += !w->more;
	}
	if (r == 0)
		w->stats = scrub_get_stats(sc);
	scrub_destroy(sc);
	return r;
}

/* A fill has the digest pages at its frontier in memory, and writes them. */
static bool
is_writable(const struct store *s, uint32_t volume)
{
	const struct volume *v = store_find_volume(s, volume);

	return v != NULL && v->cursor == NULL && !v->growing &&
	       v->info.frontier_received_blocks == v->info.frontier_blocks;
}

static void
add_place(struct store *s, struct scrub_work *w, const struct catalog_suspect *p)
{
	w->places[w->place_count] = *p;
	w->writable[w->place_count] = is_writable(s, p->volume);
	w->place_count++;
}

/* The block that is offered comes first: its bytes are there for this once. */
static void
take_places(struct store *s, struct scrub_work *w)
{
	struct store_scrub *sb = &s->scrub;

	w->offer = sb->offer;
	sb->offer.bytes = NULL;
	if (w->offer.bytes != NULL)
		add_place(s, w, &(struct catalog_suspect){.volume = w->offer.volume, .block = w->offer.block});
	while (w->place_count < PLACES_MAX && sb->suspect_count > 0)
		add_place(s, w, &sb->suspects[--sb->suspect_count]);
}

static struct store_job *
make_mend(struct store *s)
{
	struct store_job *job;

	scrub_recheck(s, clock_monotonic_ns());
	if (s->scrub.suspect_count == 0 || s->shutting_down || s->asked_jobs > 0 || s->out[JOB_FOLD] != NULL)
		return NULL;
	job = make_scrub_job(s, JOB_MEND, true);
	if (job != NULL)
		take_places(s, job->scrub);
	return job;
}

static void
finish_mend(struct store *s, struct store_job *job)
{
	struct store_scrub *sb = &s->scrub;
	const struct scrub_work *w = job->scrub;

	release_view(s, job);
	if (job->status < 0) {
		for (size_t i = 0; i < w->place_count; i++)
			scrub_suspect(s, &w->places[i]);
		s->retry_ns[JOB_MEND] = clock_monotonic_ns() + 30 * JOB_RETRY_NS;
		return;
	}
	sb->blocks_healed += w->stats.blocks_healed;
	sb->digests_mended += w->stats.digests_mended + w->pages_mended;
	sb->more_damaged |= w->more;
	scrub_take_findings(s, w->places, w->whole_count, w->found, w->found_count, w->stats.blocks_healed > 0);
}

const struct job_class mend_job = {
    .name = "mend",
    .slow = true,
    .make = make_mend,
    .run = run_mend,
    .finish = finish_mend,
};

/* ---- what the catalog is told ---- */

static bool
is_hit(const struct scrub_work *w, const struct pit *p)
{
	for (size_t i = 0; i < w->found_count; i++)
		if (damage_hits(&w->found[i], &p->checkpoint))
			return true;
	return w->more;
}

/* A point of which any block is damaged counts as never read back; after a whole scrub the others of that time were. */
static int
mark_pits(struct store_job *job)
{
	const struct scrub_work *w = job->scrub;
	int r = job_reload_pits(job);

	for (size_t i = 0; r == 0 && i < job->pit_count; i++) {
		struct pit p = job->pits[i];

		if (is_hit(w, &p) && !PLANTED(86))
			p.verified_ns = 0;
		else if (w->complete && (p.lsn <= w->at.lsn || PLANTED(85)))
			p.verified_ns = w->at.done_ns;
		if (p.verified_ns != job->pits[i].verified_ns)
			r = job_put_pit(job, &p);
	}
	job_drop_pits(job);
	return r == 0 ? job_reload_pits(job) : r;
}

static int
run_note(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct scrub_work *w = job->scrub;
	struct catalog_scrub at = w->at;
	struct hf_error err;
	int r = mark_pits(job);

	(void)d;
	(void)cache;
	if (r < 0)
		return r;
	if (w->complete)
		at = (struct catalog_scrub){.done_ns = w->at.done_ns};
	r = catalog_set_scrub(job->store->catalog, &at, w->suspects, w->suspect_count, &err);
	return r < 0 ? job_say(job, r, "%s", err.text) : 0;
}

/* Damage that is known, and what was not looked at yet: after a restart all of it is suspect. */
static bool
list_suspects(const struct store *s, struct scrub_work *w)
{
	const struct store_scrub *sb = &s->scrub;

	w->suspects = calloc(sb->damage_count + sb->suspect_count + 1, sizeof *w->suspects);
	if (w->suspects == NULL)
		return false;
	for (size_t i = 0; i < sb->damage_count; i++) {
		const struct damage *d = &sb->damage[i].d;

		w->found[w->found_count++] = *d;
		w->suspects[w->suspect_count++] = (struct catalog_suspect){
		    .volume = d->volume, .run = d->volume == 0 ? d->segment : 0, .block = d->block};
	}
	for (size_t i = 0; i < sb->suspect_count; i++)
		w->suspects[w->suspect_count++] = sb->suspects[i];
	w->more = sb->more_damaged;
	return true;
}

static struct store_job *
make_note(struct store *s)
{
	struct store_scrub *sb = &s->scrub;
	bool complete = sb->ended && sb->suspect_count == 0 && s->out[JOB_MEND] == NULL && s->out[JOB_SCRUB] == NULL;
	bool due = sb->at.begun_ns != 0 && clock_monotonic_ns() - sb->noted_ns > NOTE_INTERVAL_NS;
	struct store_job *job;

	if (!complete && !sb->changed && !due)
		return NULL;
	job = make_scrub_job(s, JOB_SCRUB_NOTE, false);
	if (job == NULL || !list_suspects(s, job->scrub)) {
		store_job_destroy(job);
		return NULL;
	}
	job->scrub->complete = complete;
	if (complete)
		job->scrub->at.done_ns = store_clock(s);
	sb->changed = false;
	sb->noted_ns = clock_monotonic_ns();
	return job;
}

static void
finish_note(struct store *s, struct store_job *job)
{
	struct store_scrub *sb = &s->scrub;
	const struct scrub_work *w = job->scrub;

	job_take_pits(s, job);
	if (job->status < 0) {
		sb->changed = true;
		s->retry_ns[JOB_SCRUB_NOTE] = clock_monotonic_ns() + 30 * JOB_RETRY_NS;
		return;
	}
	if (!w->complete || sb->at.begun_ns != w->at.begun_ns)
		return;
	sb->at = (struct catalog_scrub){.bytes = w->at.bytes, .done_ns = w->at.done_ns};
	sb->ended = false;
	if (s->events != NULL && s->events->scrubbed != NULL)
		s->events->scrubbed(s->arg);
}

const struct job_class scrub_note_job = {
    .name = "note scrub",
    .points = true,
    .make = make_note,
    .run = run_note,
    .finish = finish_note,
};
