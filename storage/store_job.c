/* SPDX-License-Identifier: Apache-2.0 */
/* store_job.c: what a store needs done that blocks. The owner makes a job with everything it needs, another thread runs
 * it, the owner takes over the result. Jobs of one store change its catalog one after the other: those that do are all
 * run by the same thread (the catalog thread), except a fold's two commits, and no such job is made while a fold is out
 * for what it could contradict. */
#include "storage/store_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/plant.h"

#define RETRY_NS       NS_PER_SECOND
#define SIZE_BYTES_MAX ((uint64_t)1 << 60) /* of a volume: its blocks can be numbered in a run */

struct declared { /* one row of a declaration, and what became of it */
	struct store_declaration want;
	struct store_volume was; /* volume = 0: not known yet */
	bool filling;            /* it had a cursor then, which goes on meanwhile */
	bool grown, made;
	struct volume *files;      /* made */
	struct sum_cursor *cursor; /* loaded for a volume that was full and grew, or comes back half filled */
	uint32_t volume;
	int status;
	char text[256];
};

struct store_job {
	enum job_kind kind;
	bool finished;
	struct store *store; /* read only what never changes, or what no other thread changes while the job is out */
	int status;
	char text[512];

	struct segment *segment; /* PREPARE: made; BUILD: sealed, immutable */
	struct run *run;         /* BUILD: made */
	struct view *view;       /* FOLD */
	uint64_t lsn;            /* FOLD: target; PIT_KEEP: the checkpoint */
	uint64_t *numbers;       /* FOLD: segments to remove */
	size_t number_count;
	struct fold_stats fold;
	bool begun; /* FOLD: the catalog says fold to lsn */

	struct checkpoint checkpoint; /* POINTS, PIT_KEEP */
	struct policy policy;         /* POINTS, POLICY */
	struct id pit;                /* PIT_CHANGE */
	enum store_pit_verb verb;
	bool hold;
	char name[PIT_NAME_BYTES];
	struct pit *pits; /* what is kept afterwards */
	size_t pit_count;
	bool pits_valid;

	struct declared *declared; /* DECLARE: those declared, then those that no longer are */
	size_t declared_count, retired_count;
	uint32_t volume_last, volume_count;
	bool folding; /* DECLARE: a fold was out when it was made */
};

static const struct {
	const char *name;
	bool slow;
	bool points; /* changes kept points: not while a fold is out, and the other way round */
} kinds[JOB_KINDS] = {
    [JOB_PREPARE] = {"prepare segment", false, false},
    [JOB_BUILD] = {"build run", true, false},
    [JOB_POINTS] = {"apply policy", false, true},
    [JOB_FOLD] = {"fold", true, false},
    [JOB_DECLARE] = {"declare volumes", false, false},
    [JOB_PIT_KEEP] = {"keep point", false, true},
    [JOB_PIT_CHANGE] = {"change point", false, true},
    [JOB_POLICY] = {"set policy", false, false},
};

static bool
is_asked_for(enum job_kind kind)
{
	return kind == JOB_DECLARE || kind == JOB_PIT_KEEP || kind == JOB_PIT_CHANGE || kind == JOB_POLICY;
}

static struct store_job *
job_create(struct store *s, enum job_kind kind)
{
	struct store_job *job = calloc(1, sizeof *job);

	if (job == NULL)
		return NULL;
	if (is_asked_for(kind))
		s->asked_jobs++;
	job->kind = kind;
	job->store = s;
	return job;
}

static int __attribute__((format(printf, 3, 4))) job_say(struct store_job *job, int status, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(job->text, sizeof job->text, format, ap);
	va_end(ap);
	return status;
}

/* ---- prepare the next segment ---- */

static uint64_t
next_capacity(const struct store *s)
{
	uint64_t bytes = s->segments_tail != NULL ? s->segments_tail->capacity * 2 : s->config.segment_bytes_first;

	if (bytes < s->config.segment_bytes_first)
		bytes = s->config.segment_bytes_first;
	return bytes < s->config.segment_bytes_max ? bytes : s->config.segment_bytes_max;
}

static bool
wants_segment(const struct store *s)
{
	const struct segment *tail = s->segments_tail;

	if (s->prepared != NULL || s->full || s->shutting_down)
		return false;
	return s->want_segment || (tail != NULL && !tail->sealed && tail->bytes > tail->capacity / 2);
}

static struct store_job *
make_prepare(struct store *s)
{
	struct store_job *job = wants_segment(s) ? job_create(s, JOB_PREPARE) : NULL;

	if (job == NULL)
		return NULL;
	job->segment = segment_create(s->segment_number_last + 1);
	if (job->segment == NULL) {
		store_job_destroy(job);
		return NULL;
	}
	job->segment->capacity = next_capacity(s);
	return job;
}

/* Preallocated now, so that a full file system shows before an acknowledgement is owed. */
static int
run_prepare(struct store_job *job, struct disk *d)
{
	struct store *s = job->store;
	struct segment *g = job->segment;
	char path[PATH_MAX_BYTES];
	uint64_t bytes_free;
	int r;

	segment_path(path, sizeof path, s->journal_dir, g->number);
	r = disk_free_bytes(d, s->journal_dir, &bytes_free);
	if (r == 0 && bytes_free < g->capacity + s->config.reserve_bytes && g->capacity > s->config.segment_bytes_first)
		g->capacity = s->config.segment_bytes_first; /* near the end: small steps */
	if (r == 0 && bytes_free < g->capacity + s->config.reserve_bytes)
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
		s->retry_ns[JOB_PREPARE] = clock_monotonic_ns() + RETRY_NS;
		if (!full && ++s->prepare_failures >= PREPARE_FAILURES_MAX)
			store_fail(s, job->status, "%s (%s)", job->text, hf_status_text(job->status));
		return;
	}
	s->prepare_failures = 0;
	s->segment_number_last = job->segment->number;
	s->prepared = job->segment;
	job->segment = NULL;
	journal_pump(s);
	store_say_room(s);
	store_flush(s);
}

/* ---- build the run of a sealed segment ---- */

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
run_build(struct store_job *job, struct disk *d)
{
	struct store *s = job->store;
	struct segment *g = job->segment;
	struct interval *v = g->interval;
	struct entry *copy = calloc(v->count > 0 ? v->count : 1, sizeof *copy);
	struct run_info info;
	struct hf_error err;
	char path[PATH_MAX_BYTES];
	int r;

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
	(void)disk_truncate(d, g->file->file, g->bytes);
	return 0;
}

static void
finish_build(struct store *s, struct store_job *job)
{
	struct segment *g = job->segment;

	job->segment = NULL;
	g->building = false;
	if (job->status < 0) {
		s->retry_ns[JOB_BUILD] = clock_monotonic_ns() + RETRY_NS;
		return;
	}
	g->run = job->run;
	job->run = NULL;
	interval_destroy(g->interval);
	g->interval = NULL;
}

/* ---- points ---- */

static int
reload_pits(struct store_job *job)
{
	struct hf_error err;
	int r = catalog_list_pits(job->store->catalog, &job->pits, &job->pit_count, &err);

	if (r < 0)
		return job_say(job, r, "%s", err.text);
	job->pits_valid = true;
	return 0;
}

/* They are changed now: read again before the owner may have them. */
static void
drop_pits(struct store_job *job)
{
	free(job->pits);
	job->pits = NULL;
	job->pit_count = 0;
	job->pits_valid = false;
}

static struct pit *
find_pit(struct store_job *job, const struct id *id)
{
	for (size_t i = 0; i < job->pit_count; i++)
		if (strcmp(job->pits[i].id.text, id->text) == 0)
			return &job->pits[i];
	return NULL;
}

/* A row for the checkpoint: the one there is, or a new one. Its time is the newest moment the checkpoint is known to
 * describe. */
static struct pit
pit_for_checkpoint(struct store_job *job, const struct checkpoint *c)
{
	struct pit p = {.id = checkpoint_pit_id(&job->store->source, c->lsn)};
	const struct pit *old = find_pit(job, &p.id);

	if (old != NULL)
		p = *old;
	p.lsn = c->lsn;
	p.time_ns = c->unchanged_until_ns - c->clock_offset_ns;
	if (old == NULL)
		p.planned_ns = p.time_ns;
	p.complete = c->complete;
	p.consistency = c->consistency;
	p.checkpoint = *c;
	p.kept = true;
	return p;
}

static int
put_pit(struct store_job *job, const struct pit *p)
{
	struct hf_error err;
	int r = catalog_put_pit(job->store->catalog, p, &err);

	return r < 0 ? job_say(job, r, "%s", err.text) : 0;
}

static int
expire_pits(struct store_job *job, int64_t newest_ns)
{
	bool *expired = calloc(job->pit_count + 1, sizeof *expired);
	struct id *ids = calloc(job->pit_count + 1, sizeof *ids);
	struct hf_error err;
	size_t n = 0;
	int r = expired == NULL || ids == NULL ? -ENOMEM : 0;

	if (r == 0 && pit_expire(&job->policy, job->pits, job->pit_count, newest_ns, expired) > 0) {
		for (size_t i = 0; i < job->pit_count; i++)
			if (expired[i])
				ids[n++] = job->pits[i].id;
		r = catalog_delete_pits(job->store->catalog, ids, n, &err);
		if (r < 0)
			job_say(job, r, "%s", err.text);
	}
	free(expired);
	free(ids);
	return r;
}

static int64_t
checkpoint_until_ns(const struct checkpoint *c)
{
	return c->unchanged_until_ns - c->clock_offset_ns;
}

static int
run_points(struct store_job *job)
{
	const struct checkpoint *c = &job->checkpoint;
	int64_t until_ns = checkpoint_until_ns(c), planned_ns;
	uint32_t due;
	int r = reload_pits(job);

	if (r < 0)
		return r;
	due = pit_rules_due(&job->policy, job->pits, job->pit_count, until_ns, &planned_ns);
	if (due != 0) {
		struct pit p = pit_for_checkpoint(job, c);

		if (p.rules == 0)
			p.planned_ns = planned_ns;
		p.rules |= due;
		r = put_pit(job, &p);
		drop_pits(job);
		if (r == 0)
			r = reload_pits(job);
	}
	if (r == 0)
		r = expire_pits(job, until_ns);
	drop_pits(job);
	return r < 0 ? r : reload_pits(job);
}

/* Is there anything for the policy to do? On the owner's copies, without touching the catalog. */
static bool
points_due(struct store *s)
{
	int64_t until_ns = checkpoint_until_ns(&s->newest_consistent), planned_ns;
	struct pit *copy;
	bool *expired;
	bool due;

	if (pit_rules_due(&s->policy, s->pits, s->pit_count, until_ns, &planned_ns) != 0)
		return true;
	copy = calloc(s->pit_count + 1, sizeof *copy);
	expired = calloc(s->pit_count + 1, sizeof *expired);
	due = false;
	if (copy != NULL && expired != NULL) {
		if (s->pit_count > 0)
			memcpy(copy, s->pits, s->pit_count * sizeof *copy);
		due = pit_expire(&s->policy, copy, s->pit_count, until_ns, expired) > 0;
	}
	free(copy);
	free(expired);
	return due;
}

/* Checkpoints that are neither kept nor inside the window any more are not points: forget them. */
static void
forget_marks(struct store *s)
{
	int64_t begin = checkpoint_time_ns(&s->newest_consistent) - s->policy.journal_window_ns;
	size_t n = 0;

	while (n < s->marks.count && s->marks.list[n].lsn < s->newest_consistent.lsn &&
	       s->marks.list[n].clock_ns - s->marks.list[n].clock_offset_ns < begin)
		n++;
	if (n > 0 && n < s->marks.count)
		marks_drop_before(&s->marks, s->marks.list[n].lsn);
}

static struct store_job *
make_points(struct store *s)
{
	struct store_job *job;

	if (!s->points_wanted || !s->has_consistent)
		return NULL;
	s->points_wanted = false;
	forget_marks(s);
	if (!points_due(s))
		return NULL;
	job = job_create(s, JOB_POINTS);
	if (job == NULL)
		return NULL;
	job->checkpoint = s->newest_consistent;
	job->policy = s->policy;
	return job;
}

static int
run_pit_keep(struct store_job *job)
{
	struct pit p;
	int r;

	if (job->status < 0)
		return job->status; /* refused by the owner */
	r = reload_pits(job);
	if (r < 0)
		return r;
	p = pit_for_checkpoint(job, &job->checkpoint);
	p.by_hand = true;
	p.held |= job->hold;
	snprintf(p.name, sizeof p.name, "%s", job->name);
	r = put_pit(job, &p);
	drop_pits(job);
	return r < 0 ? r : reload_pits(job);
}

/* The last complete point is all that is left to recover from. */
static bool
is_only_complete(const struct store_job *job, const struct pit *p)
{
	if (!p->complete)
		return false;
	for (size_t i = 0; i < job->pit_count; i++)
		if (&job->pits[i] != p && job->pits[i].complete)
			return false;
	return true;
}

static int
change_pit(struct store_job *job, struct pit *p)
{
	struct hf_error err;
	int r;

	switch (job->verb) {
	case STORE_PIT_HOLD: p->held = true; return put_pit(job, p);
	case STORE_PIT_RELEASE: p->held = false; return put_pit(job, p);
	case STORE_PIT_DELETE:
		if (p->held)
			return job_say(job, -EBUSY, "%s is held: release it first", p->id.text);
		if (is_only_complete(job, p))
			return job_say(job, -EBUSY, "%s is the only complete point of this source", p->id.text);
		r = catalog_delete_pits(job->store->catalog, &p->id, 1, &err);
		return r < 0 ? job_say(job, r, "%s", err.text) : 0;
	case STORE_PIT_VERIFIED:
	case STORE_PIT_UNVERIFIED: p->verified = job->verb == STORE_PIT_VERIFIED; return put_pit(job, p);
	}
	return -EINVAL;
}

static int
run_pit_change(struct store_job *job)
{
	struct pit *p;
	int r = reload_pits(job);

	if (r < 0)
		return r;
	p = find_pit(job, &job->pit);
	r = p == NULL ? -HF_ENOPIT : change_pit(job, p);
	drop_pits(job);
	return r < 0 ? r : reload_pits(job);
}

static void
finish_points(struct store *s, struct store_job *job)
{
	if (!job->pits_valid)
		return;
	free(s->pits);
	s->pits = job->pits;
	s->pit_count = job->pit_count;
	job->pits = NULL;
}

struct store_job *
store_pit_keep(struct store *s, uint64_t lsn, const char *name, bool hold)
{
	struct store_job *job = job_create(s, JOB_PIT_KEEP);
	size_t i;

	if (job == NULL)
		return NULL;
	job->lsn = lsn;
	job->hold = hold;
	snprintf(job->name, sizeof job->name, "%s", name);
	if (lsn >= s->fold_lsn && marks_find(&s->marks, lsn, &i)) {
		marks_get(&s->marks, i, &job->checkpoint);
		return job;
	}
	for (size_t p = 0; p < s->pit_count; p++)
		if (s->pits[p].lsn == lsn) {
			job->checkpoint = s->pits[p].checkpoint;
			return job;
		}
	job->status = job_say(job, -HF_ENOPIT, "no checkpoint at LSN %llu", (unsigned long long)lsn);
	return job;
}

/* The checkpoint of an id inside the journal window: a point that no row speaks of yet. */
static bool
find_mark_by_pit(const struct store *s, const struct id *pit, struct checkpoint *ret_checkpoint)
{
	for (size_t i = 0; i < s->marks.count; i++) {
		struct id id = checkpoint_pit_id(&s->source, s->marks.list[i].lsn);

		if (strcmp(id.text, pit->text) != 0 || s->marks.list[i].lsn < s->fold_lsn)
			continue;
		marks_get(&s->marks, i, ret_checkpoint);
		return true;
	}
	return false;
}

const struct pit *
store_newest_kept(const struct store *s, bool verified)
{
	for (size_t i = s->pit_count; i > 0; i--) {
		const struct pit *p = &s->pits[i - 1];

		if (pit_eligible(&p->checkpoint) && (p->verified || !verified))
			return p;
	}
	return NULL;
}

struct store_job *
store_pit_change(struct store *s, const struct id *pit, enum store_pit_verb verb)
{
	struct checkpoint c;
	struct store_job *job;
	bool kept = false;

	for (size_t i = 0; i < s->pit_count; i++)
		kept |= strcmp(s->pits[i].id.text, pit->text) == 0;
	if (!kept && verb == STORE_PIT_HOLD && find_mark_by_pit(s, pit, &c))
		return store_pit_keep(s, c.lsn, "", true);
	job = job_create(s, JOB_PIT_CHANGE);
	if (job == NULL)
		return NULL;
	job->pit = *pit;
	job->verb = verb;
	return job;
}

/* ---- policy ---- */

struct store_job *
store_set_policy(struct store *s, const struct policy *policy)
{
	struct store_job *job = job_create(s, JOB_POLICY);

	if (job != NULL)
		job->policy = *policy;
	return job;
}

static int
run_policy(struct store_job *job)
{
	struct hf_error err;
	int r = catalog_set_policy(job->store->catalog, &job->policy, &err);

	return r < 0 ? job_say(job, r, "%s", err.text) : 0;
}

static void
finish_policy(struct store *s, struct store_job *job)
{
	if (job->status < 0)
		return;
	s->policy = job->policy;
	s->points_wanted = true;
}

/* ---- fold ---- */

static int
list_released(struct store_job *job, const struct store *s)
{
	size_t n = 0;

	for (const struct segment *g = s->segments; g != NULL; g = g->next)
		n++;
	job->numbers = calloc(n + 1, sizeof *job->numbers);
	if (job->numbers == NULL)
		return -ENOMEM;
	/* The newest segment stays whatever happens: LSN, chain and stream go on from it. So does the one with the
	 * record at the target, for its checkpoint may be a point that only the journal knows. */
	for (const struct segment *g = s->segments; g->next != NULL && g->run != NULL && g->info.lsn_last < job->lsn;
	     g = g->next)
		job->numbers[job->number_count++] = g->number;
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

static struct store_job *
make_fold(struct store *s)
{
	struct store_job *job;
	uint64_t target;

	if (s->asked_jobs == 0)
		drop_idle_cursors(s);
	target = store_fold_target(s);
	if (target == 0 || s->shutting_down || s->asked_jobs > 0 || s->out[JOB_POINTS] != NULL)
		return NULL; /* what is about to be kept must not be folded away */
	job = job_create(s, JOB_FOLD);
	if (job == NULL)
		return NULL;
	job->lsn = target;
	if (list_released(job, s) < 0 || store_fold_view(s, target, &job->view) < 0) {
		store_job_destroy(job);
		return NULL;
	}
	s->fold_lsn = target;
	marks_drop_before(&s->marks, target);
	return job;
}

/* Step 5: the catalog no longer needs them. Views that still do hold them open. */
static int
remove_segments(struct store_job *job, struct disk *d)
{
	struct store *s = job->store;
	char path[PATH_MAX_BYTES];
	int r = 0;

	for (size_t i = 0; i < job->number_count && r == 0; i++) {
		run_path(path, sizeof path, s->journal_dir, job->numbers[i]);
		r = disk_unlink(d, path);
		segment_path(path, sizeof path, s->journal_dir, job->numbers[i]);
		if (r == 0 || r == -ENOENT)
			r = disk_unlink(d, path);
		if (r == -ENOENT)
			r = 0;
	}
	return r < 0 ? r : disk_sync_dir(d, s->journal_dir);
}

static int
run_fold(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct catalog *c = job->store->catalog;
	struct view_fault fault;
	struct hf_error err;
	int r = catalog_set_fold(c, job->lsn, &err);

	if (r < 0)
		return job_say(job, r, "%s", err.text);
	job->begun = true;
	r = fold_run(job->view, d, cache, NULL, NULL, &job->fold, &fault);
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
	if (remove_segments(job, d) < 0)
		job_say(job, 0, "folded, but old segments could not be removed; the next start does it");
	return 0;
}

static void
drop_released(struct store *s, const struct store_job *job)
{
	for (size_t i = 0; i < job->number_count; i++) {
		struct segment *g = s->segments;

		assert(g != NULL && g->number == job->numbers[i]);
		s->segments = g->next;
		if (s->segments == NULL)
			s->segments_tail = NULL;
		segment_destroy(g, s->disk);
	}
}

static void
finish_fold(struct store *s, struct store_job *job)
{
	store_view_release(s, job->view);
	job->view = NULL;
	if (job->status < 0) {
		s->retry_ns[JOB_FOLD] = clock_monotonic_ns() + 30 * RETRY_NS;
		return;
	}
	s->base_lsn = job->lsn;
	s->stats.written_bytes += job->fold.blocks_written * BLOCK_BYTES;
	drop_released(s, job);
}

/* ---- declare ---- */

static struct volume *
find_by_identity(const struct store *s, const char *identity)
{
	for (uint32_t i = 0; i < s->volume_count; i++)
		if (strcmp(s->volumes[i]->info.identity, identity) == 0)
			return s->volumes[i];
	return NULL;
}

/* What is known of it now. While the job is out the fill may go on: the cursor of one that grows is kept for it. */
static void
look_up(const struct store *s, struct declared *x)
{
	struct volume *v = find_by_identity(s, x->want.identity);

	if (v == NULL)
		return;
	x->was = v->info;
	x->filling = v->cursor != NULL;
	v->growing = x->want.ok && x->want.size_bytes > v->info.size_bytes;
}

static bool
is_declared(const struct store_declaration *volumes, size_t count, const char *identity)
{
	for (size_t k = 0; k < count; k++)
		if (strcmp(volumes[k].identity, identity) == 0)
			return true;
	return false;
}

static void
list_retired(const struct store *s, struct store_job *job, const struct store_declaration *volumes, size_t count)
{
	for (uint32_t i = 0; i < s->volume_count; i++) {
		const struct store_volume *v = &s->volumes[i]->info;
		struct declared *x = &job->declared[count + job->retired_count];

		if (!v->declared || is_declared(volumes, count, v->identity))
			continue;
		x->was = *v;
		x->volume = v->volume;
		snprintf(x->want.name, sizeof x->want.name, "%s", v->name);
		snprintf(x->want.identity, sizeof x->want.identity, "%s", v->identity);
		snprintf(x->want.device_name, sizeof x->want.device_name, "%s", v->device_name);
		x->want.boot_disk = v->boot_disk;
		job->retired_count++;
	}
}

struct store_job *
store_declare(struct store *s, const struct store_declaration *volumes, size_t count)
{
	struct store_job *job;

	assert(s->out[JOB_DECLARE] == NULL && count <= STORE_VOLUMES_MAX);
	job = job_create(s, JOB_DECLARE);
	if (job == NULL)
		return NULL;
	s->out[JOB_DECLARE] = job;
	job->declared = calloc(count + s->volume_count + 1, sizeof *job->declared);
	if (job->declared == NULL) {
		store_job_destroy(job);
		return NULL;
	}
	job->declared_count = count;
	job->folding = s->out[JOB_FOLD] != NULL;
	job->volume_last = s->volume_last;
	job->volume_count = s->volume_count;
	for (size_t k = 0; k < count; k++) {
		job->declared[k].want = volumes[k];
		look_up(s, &job->declared[k]);
	}
	list_retired(s, job, volumes, count);
	return job;
}

static int __attribute__((format(printf, 3, 4))) declared_say(struct declared *x, int status, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(x->text, sizeof x->text, format, ap);
	va_end(ap);
	return status;
}

static uint64_t
file_bytes(uint64_t size_bytes)
{
	return (size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
}

static struct sum_header
header_for(
    const struct store *s, const struct declared *x, const struct id *volume_id, uint32_t volume, uint64_t fold_lsn)
{
	struct sum_header h = {
	    .source = s->source,
	    .volume_id = *volume_id,
	    .digest_seed = s->digest_seed,
	    .volume = volume,
	    .size_bytes = x->want.size_bytes,
	    .fold_lsn = fold_lsn,
	};

	snprintf(h.name, sizeof h.name, "%s", x->want.name);
	snprintf(h.identity, sizeof h.identity, "%s", x->want.identity);
	return h;
}

static int
size_refused(struct declared *x, int r, const char *dir)
{
	char text[UNITS_TEXT_BYTES];

	if (r == -EFBIG || r == -EINVAL || r == -EOVERFLOW)
		return declared_say(x, -HF_ETOOLARGE, "a file of %s is more than the file system of %s can hold",
		    size_format(x->want.size_bytes, text), dir);
	return declared_say(x, r, "cannot make its staging file in %s: %s", dir, hf_status_text(r));
}

static int
open_volume_files(struct store *s, struct disk *d, struct volume *v, unsigned flags)
{
	char path[PATH_MAX_BYTES];
	int r;

	volume_path(path, s, &v->info.id, "img");
	r = shared_file_open(d, path, flags, v->info.volume, &v->img);
	if (r < 0)
		return r;
	volume_path(path, s, &v->info.id, "sum");
	return shared_file_open(d, path, flags, v->info.volume, &v->sum);
}

static void
remove_volume_files(struct store *s, struct disk *d, const struct volume *v)
{
	char path[PATH_MAX_BYTES];

	volume_path(path, s, &v->info.id, "img");
	(void)disk_unlink(d, path);
	volume_path(path, s, &v->info.id, "sum");
	(void)disk_unlink(d, path);
}

/* Files of a new volume, durable with their names. */
static int
make_volume(struct store_job *job, struct declared *x, struct disk *d)
{
	struct store *s = job->store;
	struct volume *v;
	struct sum_header h;
	int r;

	if (job->volume_count == STORE_VOLUMES_MAX)
		return declared_say(x, -HF_EFULL,
		    "this source has had %d disks already, and no more can be kept of one source", STORE_VOLUMES_MAX);
	v = calloc(1, sizeof *v);
	if (v == NULL)
		return -ENOMEM;
	v->info.id = id_random("vol");
	v->info.volume = ++job->volume_last;
	h = header_for(s, x, &v->info.id, v->info.volume, 0);
	r = open_volume_files(s, d, v, DISK_WRITE | DISK_CREATE);
	if (r == 0)
		r = disk_truncate(d, v->img->file, file_bytes(x->want.size_bytes));
	if (r == 0)
		r = disk_sync_now(d, v->img->file);
	if (r == 0)
		r = sum_header_write(d, v->sum->file, &h);
	if (r == 0)
		r = disk_sync_dir(d, s->dir);
	if (r == 0 && (v->cursor = calloc(1, sizeof *v->cursor)) == NULL)
		r = -ENOMEM;
	if (r == 0)
		r = sum_cursor_load(v->cursor, d, v->sum->file, s->digest_seed, 0);
	if (r < 0) {
		remove_volume_files(s, d, v);
		volume_destroy(v, d);
		return size_refused(x, r, s->dir);
	}
	job->volume_count++;
	x->files = v;
	x->volume = v->info.volume;
	x->made = true;
	return 0;
}

/* The store's own volume: its file handles never change while it lives, and only this job changes their size. */
static int
grow_volume(struct store_job *job, struct declared *x, struct disk *d)
{
	struct store *s = job->store;
	struct volume *v = store_find_volume(s, x->was.volume);
	struct sum_header h;
	int r = sum_header_read(d, v->sum->file, &h);

	if (r == 0)
		r = disk_truncate(d, v->img->file, file_bytes(x->want.size_bytes));
	if (r == 0)
		r = disk_sync_now(d, v->img->file);
	if (r == 0) {
		h.size_bytes = x->want.size_bytes;
		r = sum_header_write(d, v->sum->file, &h);
	}
	if (r < 0)
		return size_refused(x, r, s->dir);
	x->grown = true;
	return 0;
}

static bool
needs_cursor(const struct declared *x)
{
	return !x->filling && x->was.frontier_blocks < file_bytes(x->want.size_bytes) / BLOCK_BYTES;
}

static int
load_cursor(struct store_job *job, struct declared *x, struct disk *d)
{
	struct store *s = job->store;
	struct volume *v = store_find_volume(s, x->was.volume);
	int r;

	x->cursor = calloc(1, sizeof *x->cursor);
	if (x->cursor == NULL)
		return -ENOMEM;
	r = sum_cursor_load(x->cursor, d, v->sum->file, s->digest_seed, x->was.frontier_blocks);
	if (r < 0) {
		free(x->cursor);
		x->cursor = NULL;
	}
	return r;
}

/* The cursor first: once the volume has grown nothing may fail any more. */
static int
run_known(struct store_job *job, struct declared *x, struct disk *d)
{
	bool grows = x->want.size_bytes > x->was.size_bytes;
	int r;

	if (x->want.size_bytes < x->was.size_bytes)
		return declared_say(x, -HF_EIDENTITY,
		    "it has shrunk from %llu to %llu bytes: a smaller disk is another disk",
		    (unsigned long long)x->was.size_bytes, (unsigned long long)x->want.size_bytes);
	if (job->folding && (grows || needs_cursor(x)))
		return declared_say(x, -EAGAIN, "it grows, or comes back, while history is being folded");
	if (needs_cursor(x)) {
		if (x->was.frontier_blocks != x->was.frontier_received_blocks)
			return declared_say(x, -EAGAIN, "it comes back while its last frames are being written");
		r = load_cursor(job, x, d);
		if (r < 0)
			return declared_say(x, r, "%s", hf_status_text(r));
	}
	return grows ? grow_volume(job, x, d) : 0;
}

static int
run_declared(struct store_job *job, struct declared *x, struct disk *d)
{
	x->volume = x->was.volume;
	if (!x->want.ok)
		return 0; /* as it was; nothing is known of it today */
	if (x->want.size_bytes == 0 || x->want.size_bytes > SIZE_BYTES_MAX)
		return declared_say(x, -HF_ETOOLARGE, "a disk of %llu bytes", (unsigned long long)x->want.size_bytes);
	return x->volume == 0 ? make_volume(job, x, d) : run_known(job, x, d);
}

static int
put_row(struct store_job *job, const struct declared *x, bool retired)
{
	struct catalog_volume row = {
	    .volume = x->volume, .size_bytes = x->want.ok ? x->want.size_bytes : x->was.size_bytes, .retired = retired};
	struct hf_error err;
	int r;

	row.id = x->made ? x->files->info.id : x->was.id;
	row.boot_disk = x->want.boot_disk;
	snprintf(row.identity, sizeof row.identity, "%s", x->want.identity);
	snprintf(row.name, sizeof row.name, "%s", x->want.name);
	snprintf(row.device_name, sizeof row.device_name, "%s", x->want.device_name);
	r = catalog_put_volume(job->store->catalog, &row, &err);
	return r < 0 ? job_say(job, r, "%s", err.text) : 0;
}

static bool
same_row(const struct declared *x)
{
	return !x->made && !x->grown && x->was.declared && strcmp(x->was.name, x->want.name) == 0 &&
	       strcmp(x->was.device_name, x->want.device_name) == 0 && x->was.boot_disk == x->want.boot_disk;
}

static int
run_declare(struct store_job *job, struct disk *d)
{
	for (size_t i = 0; i < job->declared_count; i++) {
		struct declared *x = &job->declared[i];
		int r;

		x->status = run_declared(job, x, d);
		if (x->status < 0 || x->volume == 0 || same_row(x))
			continue;
		r = put_row(job, x, false);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < job->retired_count; i++) {
		int r = put_row(job, &job->declared[job->declared_count + i], true);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Whatever became of the rest of the job: these files are there, and the next start would find them. */
static void
take_files(struct store *s, struct declared *x)
{
	struct volume *v = x->made ? x->files : store_find_volume(s, x->volume);

	if (x->made) {
		assert(s->volume_count < STORE_VOLUMES_MAX);
		s->volumes[s->volume_count++] = v;
		x->files = NULL;
		snprintf(v->info.identity, sizeof v->info.identity, "%s", x->want.identity);
	}
	if (x->made || x->grown) {
		v->info.size_bytes = x->want.size_bytes;
		v->logged = false;
	}
	if (x->cursor != NULL && x->status == 0) {
		assert(v->cursor == NULL);
		v->cursor = x->cursor;
		x->cursor = NULL;
	}
}

static void
apply_declared(struct store *s, const struct declared *x)
{
	struct volume *v = store_find_volume(s, x->volume);

	if (v == NULL) {
		s->unmade = true;
		return;
	}
	v->info.declared = true;
	v->readable = x->want.ok && x->status == 0;
	v->info.boot_disk = x->want.boot_disk;
	snprintf(v->info.name, sizeof v->info.name, "%s", x->want.name);
	snprintf(v->info.device_name, sizeof v->info.device_name, "%s", x->want.device_name);
}

/* A cursor that was kept for a volume that did not grow after all. */
static void
end_growing(struct store *s)
{
	for (uint32_t i = 0; i < s->volume_count; i++) {
		struct volume *v = s->volumes[i];

		if (v->growing && v->info.frontier_blocks == volume_blocks(v)) {
			free(v->cursor);
			v->cursor = NULL;
		}
		v->growing = false;
	}
}

static void
finish_declare(struct store *s, struct store_job *job)
{
	s->volume_last = job->volume_last;
	for (size_t i = 0; i < job->declared_count; i++)
		take_files(s, &job->declared[i]);
	end_growing(s);
	if (job->status < 0)
		return;
	s->unmade = false;
	for (uint32_t i = 0; i < s->volume_count; i++)
		s->volumes[i]->info.declared = false;
	for (size_t i = 0; i < job->declared_count; i++)
		apply_declared(s, &job->declared[i]);
}

void
store_declare_result(
    const struct store_job *job, size_t index, uint32_t *ret_volume, int *ret_status, char *ret_text, size_t text_size)
{
	const struct declared *x = &job->declared[index];

	assert(job->kind == JOB_DECLARE && index < job->declared_count);
	*ret_volume = x->volume;
	*ret_status = job->status < 0 ? job->status : x->status;
	snprintf(ret_text, text_size, "%s", job->status < 0 ? job->text : x->text);
}

/* ---- taking, running, finishing ---- */

struct store_job *
store_job_next(struct store *s)
{
	static struct store_job *(*const makers[])(struct store * s) = {
	    make_prepare, make_build, make_points, make_fold};
	static const enum job_kind order[] = {JOB_PREPARE, JOB_BUILD, JOB_POINTS, JOB_FOLD};
	int64_t now = clock_monotonic_ns();

	if (s->failed != 0 || !s->attached)
		return NULL;
	for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
		struct store_job *job;

		if (s->out[order[i]] != NULL || (kinds[order[i]].points && s->out[JOB_FOLD] != NULL) ||
		    now < s->retry_ns[order[i]])
			continue;
		job = makers[i](s);
		if (job != NULL) {
			s->out[order[i]] = job;
			return job;
		}
	}
	return NULL;
}

bool
store_job_is_slow(const struct store_job *job)
{
	return kinds[job->kind].slow;
}

const char *
store_job_name(const struct store_job *job)
{
	return kinds[job->kind].name;
}

void
store_job_run(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	switch (job->kind) {
	case JOB_PREPARE: job->status = run_prepare(job, d); return;
	case JOB_BUILD: job->status = run_build(job, d); return;
	case JOB_POINTS: job->status = run_points(job); return;
	case JOB_FOLD: job->status = run_fold(job, d, cache); return;
	case JOB_DECLARE: job->status = run_declare(job, d); return;
	case JOB_PIT_KEEP: job->status = run_pit_keep(job); return;
	case JOB_PIT_CHANGE: job->status = run_pit_change(job); return;
	case JOB_POLICY: job->status = run_policy(job); return;
	case JOB_KINDS: break;
	}
	assert(!"a job kind");
}

/* It is out no longer. */
static void
job_ended(struct store *s, struct store_job *job)
{
	assert(!job->finished);
	job->finished = true;
	if (s->out[job->kind] == job)
		s->out[job->kind] = NULL;
	if (is_asked_for(job->kind))
		s->asked_jobs--;
}

void
store_job_finish(struct store *s, struct store_job *job, bool keep)
{
	job_ended(s, job);
	switch (job->kind) {
	case JOB_PREPARE: finish_prepare(s, job); break;
	case JOB_BUILD: finish_build(s, job); break;
	case JOB_POINTS:
	case JOB_PIT_KEEP:
	case JOB_PIT_CHANGE: finish_points(s, job); break;
	case JOB_FOLD: finish_fold(s, job); break;
	case JOB_DECLARE: finish_declare(s, job); break;
	case JOB_POLICY: finish_policy(s, job); break;
	case JOB_KINDS: break;
	}
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
			end_growing(job->store);
	}
	if (job->kind == JOB_PREPARE)
		segment_destroy(job->segment, job->store->disk);
	for (size_t i = 0; i < job->declared_count; i++) {
		volume_destroy(job->declared[i].files, job->store->disk);
		free(job->declared[i].cursor);
	}
	free(job->declared);
	free(job->numbers);
	free(job->pits);
	free(job);
}
