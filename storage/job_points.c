/* SPDX-License-Identifier: Apache-2.0 */
/* job_points.c: which points in time are kept: by the policy, and by hand. */
#include "storage/job_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/plant.h"

/* What one run of the policy may let go: a mistake is noticed while most of the history is still there. */
enum { EXPIRE_MAX = 16 };

int
job_reload_pits(struct store_job *job)
{
	struct hf_error err;
	int r = catalog_list_pits(job->store->catalog, &job->pits, &job->pit_count, &err);

	if (r < 0)
		return job_say(job, r, "%s", err.text);
	job->pits_valid = true;
	return 0;
}

/* They are changed now: read again before the owner may have them. */
void
job_drop_pits(struct store_job *job)
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

static int64_t
larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* A row for the checkpoint: the one there is, or a new one. Its time is the newest moment the checkpoint is known to
 * describe. */
static struct pit
pit_for_checkpoint(struct store_job *job, const struct checkpoint *c)
{
	struct pit p = {.id = checkpoint_pit_id(&job->store->source, c->lsn, c->stream_id)};
	const struct pit *old = PLANTED(59) ? NULL : find_pit(job, &p.id);

	if (old != NULL)
		p = *old;
	p.lsn = c->lsn;
	p.time_ns = c->unchanged_until_ns - c->clock_offset_ns;
	if (old == NULL)
		p.planned_ns = p.time_ns;
	p.running_ns = c->running_ns;
	p.guarded_ns = larger(p.guarded_ns, pit_guarded_ns(&job->policy, p.running_ns));
	p.complete = c->complete;
	p.consistency = c->consistency;
	p.checkpoint = *c;
	p.kept = true;
	return p;
}

int
job_put_pit(struct store_job *job, const struct pit *p)
{
	struct hf_error err;
	int r = catalog_put_pit(job->store->catalog, p, &err);

	return r < 0 ? job_say(job, r, "%s", err.text) : 0;
}

/* A row for it, and news if it had none. */
static int
keep_pit(struct store_job *job, const struct pit *p)
{
	if (find_pit(job, &p->id) == NULL)
		job->taken = *p;
	return job_put_pit(job, p);
}

static void
tell_taken(struct store *s, const struct store_job *job)
{
	if (job->status == 0 && job->taken.id.text[0] != '\0' && s->events != NULL && s->events->taken != NULL)
		s->events->taken(s->arg, &job->taken);
}

static int
expire_pits(struct store_job *job)
{
	bool *expired = calloc(job->pit_count + 1, sizeof *expired);
	struct id *ids = calloc(job->pit_count + 1, sizeof *ids);
	struct hf_error err;
	size_t n = 0;
	int r = expired == NULL || ids == NULL ? -ENOMEM : 0;

	if (r == 0 &&
	    pit_expire(&job->policy, job->pits, job->pit_count, job->checkpoint.running_ns, EXPIRE_MAX, expired) > 0) {
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
settle_pits(struct store_job *job)
{
	struct hf_error err;
	int r = catalog_settle(job->store->catalog, &err);

	return r < 0 ? job_say(job, r, "%s", err.text) : job_reload_pits(job);
}

static int
run_points(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	const struct checkpoint *c = &job->checkpoint;
	int64_t until_ns = checkpoint_until_ns(c), planned_ns;
	uint32_t due = 0;
	int r = job->settle ? settle_pits(job) : job_reload_pits(job);

	(void)d;
	(void)cache;
	if (r < 0)
		return r;
	if (!job->gone)
		due = pit_rules_due(&job->policy, job->pits, job->pit_count, until_ns, c->running_ns, &planned_ns);
	if (due != 0 || job->keep) {
		struct pit p = pit_for_checkpoint(job, c);

		if (p.rules == 0 && due != 0)
			p.planned_ns = planned_ns;
		p.rules |= due;
		r = keep_pit(job, &p);
		job_drop_pits(job);
		if (r == 0)
			r = job_reload_pits(job);
	}
	if (r == 0 && job->expire)
		r = expire_pits(job);
	job_drop_pits(job);
	return r < 0 ? r : job_reload_pits(job);
}

static bool
any_expired(const struct store *s)
{
	struct pit *copy = calloc(s->pit_count + 1, sizeof *copy);
	bool *expired = calloc(s->pit_count + 1, sizeof *expired);
	bool any = false;

	if (copy != NULL && expired != NULL) {
		if (s->pit_count > 0)
			memcpy(copy, s->pits, s->pit_count * sizeof *copy);
		any = pit_expire(&s->policy, copy, s->pit_count, s->retention.running_ns, 1, expired) > 0;
	}
	free(copy);
	free(expired);
	return any;
}

/* Is there anything for the policy to do? On the owner's copies, without touching the catalog. */
static bool
points_due(struct store *s)
{
	const struct checkpoint *c = &s->newest_consistent;
	int64_t planned_ns;

	if (store_is_point(s, c->lsn) &&
	    pit_rules_due(&s->policy, s->pits, s->pit_count, checkpoint_until_ns(c), c->running_ns, &planned_ns) != 0)
		return true;
	return !retention_stopped(&s->retention) && any_expired(s);
}

/* Checkpoints that are neither kept nor inside the window any more are not points: forget them. */
static void
forget_marks(struct store *s)
{
	int64_t begin = store_window_begin(s);
	bool kept = store_newest_is_kept(s);
	size_t n = 0;

	while (n < s->marks.count && (kept || marks_at(&s->marks, n)->lsn < s->newest_consistent.lsn) &&
	       marks_at(&s->marks, n)->running_ns < begin)
		n++;
	if (n > 0 && n < s->marks.count)
		marks_drop_before(&s->marks, marks_at(&s->marks, n)->lsn);
}

static struct store_job *
make_points(struct store *s)
{
	struct store_job *job;

	if (!s->points_wanted || !s->has_consistent)
		return NULL;
	s->points_wanted = false;
	forget_marks(s);
	if (!points_due(s) && !s->space.keep_wanted && !s->pits_doubted)
		return NULL;
	job = job_create(s, JOB_POINTS);
	if (job == NULL)
		return NULL;
	job->checkpoint = s->newest_consistent;
	job->policy = s->policy;
	job->expire = !retention_stopped(&s->retention);
	job->gone = !store_is_point(s, job->checkpoint.lsn); /* its row was deleted, and the window had given it up */
	job->keep = s->space.keep_wanted && !job->gone;
	job->settle = s->pits_doubted;
	s->space.keep_wanted = false;
	return job;
}

static int
run_pit_keep(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct pit p;
	int r;

	(void)d;
	(void)cache;
	if (job->status < 0)
		return job->status; /* refused by the owner */
	r = job_reload_pits(job);
	if (r < 0)
		return r;
	p = pit_for_checkpoint(job, &job->checkpoint);
	p.by_hand = true;
	p.held |= job->hold;
	snprintf(p.name, sizeof p.name, "%s", job->name);
	r = keep_pit(job, &p);
	job_drop_pits(job);
	return r < 0 ? r : job_reload_pits(job);
}

/* The last complete point is all that is left to recover from; a fuzzy one does not stand in for a consistent one. */
static bool
is_only_complete(const struct store_job *job, const struct pit *p)
{
	if (!p->complete)
		return false;
	for (size_t i = 0; i < job->pit_count; i++) {
		const struct pit *other = &job->pits[i];

		if (other != p && other->complete &&
		    (pit_eligible(&other->checkpoint) || !pit_eligible(&p->checkpoint)))
			return false;
	}
	return true;
}

static int
delete_pit(struct store_job *job, struct pit *p)
{
	char left[UNITS_TEXT_BYTES];
	struct hf_error err;
	int r;

	if (p->held && !PLANTED(58))
		return job_say(job, -EBUSY, "%s is held: release it first", p->id.text);
	if (is_only_complete(job, p))
		return job_say(job, -EBUSY, "%s is the only complete point of this source", p->id.text);
	if (job->running_ns < p->guarded_ns)
		return job_say(job, -EBUSY, "minRetention guards %s until the source has run for another %s",
		    p->id.text, duration_format(p->guarded_ns - job->running_ns, left));
	r = catalog_delete_pits(job->store->catalog, &p->id, 1, &err);
	return r < 0 ? job_say(job, r, "%s", err.text) : 0;
}

static int
change_pit(struct store_job *job, struct pit *p)
{
	switch (job->verb) {
	case STORE_PIT_HOLD: p->held = true; return job_put_pit(job, p);
	case STORE_PIT_RELEASE: p->held = false; return job_put_pit(job, p);
	case STORE_PIT_DELETE: return delete_pit(job, p);
	case STORE_PIT_VERIFIED: p->verified_ns = store_clock(job->store); return job_put_pit(job, p);
	case STORE_PIT_UNVERIFIED: p->verified_ns = 0; return job_put_pit(job, p);
	}
	return -EINVAL;
}

static int
run_pit_change(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct pit *p;
	int r = job_reload_pits(job);

	(void)d;
	(void)cache;
	if (r < 0)
		return r;
	p = find_pit(job, &job->pit);
	if (p != NULL)
		r = change_pit(job, p);
	else
		r = job->lsn == 0
			? -HF_ENOPIT
			: job_say(job, -EBUSY, "%s is only in the journal window: it goes by itself", job->pit.text);
	job_drop_pits(job);
	return r < 0 ? r : job_reload_pits(job);
}

/* A change that failed may have put a row into the catalog all the same, or come back with the log after a cut. What
 * the point in it sees must not go before the rows are known again. */
void
job_take_pits(struct store *s, struct store_job *job)
{
	s->pits_doubted |= job->status < 0;
	if (!job->pits_valid)
		return;
	shared_drop(&s->pits_shared, s->pits);
	s->pits = job->pits;
	s->pit_count = job->pit_count;
	job->pits = NULL;
}

/* What one run left over is for the next. */
static void
finish_policy_run(struct store *s, struct store_job *job)
{
	if (job->status == 0 && job->settle)
		s->pits_doubted = false;
	job_take_pits(s, job);
	tell_taken(s, job);
	s->points_wanted |= job->status == 0;
}

static void
finish_pit_keep(struct store *s, struct store_job *job)
{
	job_take_pits(s, job);
	tell_taken(s, job);
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
	job->policy = s->policy;
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
		const struct mark *m = marks_at(&s->marks, i);
		struct id id = checkpoint_pit_id(&s->source, m->lsn, m->stream_id);

		if (strcmp(id.text, pit->text) != 0 || m->lsn < s->fold_lsn)
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

		if (pit_eligible(&p->checkpoint) && (p->verified_ns != 0 || !verified))
			return p;
	}
	return NULL;
}

struct store_job *
store_pit_change(struct store *s, const struct id *pit, enum store_pit_verb verb)
{
	struct checkpoint c = {0};
	struct store_job *job;
	bool kept = false;

	for (size_t i = 0; i < s->pit_count; i++)
		kept |= strcmp(s->pits[i].id.text, pit->text) == 0;
	if (!kept && find_mark_by_pit(s, pit, &c) && verb == STORE_PIT_HOLD)
		return store_pit_keep(s, c.lsn, "", true);
	job = job_create(s, JOB_PIT_CHANGE);
	if (job == NULL)
		return NULL;
	job->pit = *pit;
	job->lsn = c.lsn;
	job->verb = verb;
	job->running_ns = s->retention.running_ns;
	return job;
}

struct store_job *
store_set_policy(struct store *s, const struct policy *policy)
{
	struct store_job *job = job_create(s, JOB_POLICY);

	if (job != NULL)
		job->policy = *policy;
	return job;
}

static int
run_policy(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct hf_error err;
	int r = job_reload_pits(job);

	(void)d;
	(void)cache;
	if (r < 0)
		return r;
	pit_assign(&job->policy, job->pits, job->pit_count);
	r = catalog_change_policy(job->store->catalog, &job->policy, job->pits, job->pit_count, &err);
	return r < 0 ? job_say(job, r, "%s", err.text) : 0;
}

static void
finish_policy(struct store *s, struct store_job *job)
{
	if (job->status < 0)
		return;
	job_take_pits(s, job);
	s->policy = job->policy;
	s->points_wanted = true;
}

struct store_job *
store_set_frozen(struct store *s, bool frozen)
{
	struct store_job *job = job_create(s, JOB_FREEZE);

	if (job == NULL)
		return NULL;
	if (frozen && s->retention.frozen_ns == 0)
		s->retention.frozen_ns = store_clock(s);
	job->frozen_ns = frozen ? s->retention.frozen_ns : 0;
	return job;
}

static int
run_freeze(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct hf_error err;
	int r = catalog_set_frozen(job->store->catalog, job->frozen_ns, &err);

	(void)d;
	(void)cache;
	return r < 0 ? job_say(job, r, "%s", err.text) : 0;
}

static void
finish_freeze(struct store *s, struct store_job *job)
{
	if (job->status < 0 || job->frozen_ns != 0)
		return; /* what is frozen stays so until the catalog knows that it is not */
	s->retention.frozen_ns = 0;
	retention_believe(&s->retention, store_clock(s), store_passed(s));
	s->points_wanted = true;
}

const struct job_class points_job = {
    .name = "apply policy",
    .points = true,
    .make = make_points,
    .run = run_points,
    .finish = finish_policy_run,
};

const struct job_class pit_keep_job = {
    .name = "keep point",
    .points = true,
    .asked = true,
    .run = run_pit_keep,
    .finish = finish_pit_keep,
};

const struct job_class pit_change_job = {
    .name = "change point",
    .points = true,
    .asked = true,
    .run = run_pit_change,
    .finish = job_take_pits,
};

const struct job_class policy_job = {
    .name = "set policy",
    .points = true,
    .asked = true,
    .run = run_policy,
    .finish = finish_policy,
};

const struct job_class freeze_job = {
    .name = "freeze retention",
    .asked = true,
    .run = run_freeze,
    .finish = finish_freeze,
};
