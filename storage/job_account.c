/* SPDX-License-Identifier: Apache-2.0 */
/* job_account.c: what points cost: counted now and then by itself, and for a policy that somebody thinks of. */
#include "storage/job_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"
#include "storage/account.h"
#include "storage/merge.h"

#define ACCOUNT_INTERVAL_NS (10 * NS_PER_SECOND)

/* Reading the index may take one part in so many of the time. */
enum { ACCOUNT_SHARE = 100 };

/* Between two points there is one run, once they are merged. More than this, and merging is far behind. */
enum { RUNS_MAX = 2 * POLICY_POINTS_MAX };

struct account_work {
	struct run **runs;
	size_t run_count;
	struct account account;
	uint64_t window_lsn;
	uint64_t end_lsn; /* what is newer is counted as one point */
	uint64_t state;   /* of what is counted: see state_of() */
	int64_t took_ns;
};

void
account_work_destroy(struct account_work *w, struct disk *d)
{
	if (w == NULL)
		return;
	for (size_t i = 0; i < w->run_count; i++)
		run_unref(w->runs[i], d);
	free(w->runs);
	free(w->account.points);
	free(w);
}

/* The journal window is one point here: nothing of it goes by itself. So is what has no run yet, the open segment: what
 * points in there cost is not known. */
static uint64_t
find_end(const struct store *s)
{
	uint64_t end = store_window_lsn(s);

	for (const struct segment *g = s->segments; g != NULL; g = g->next)
		if (g->run == NULL && g->lsn_first < end)
			return g->lsn_first;
	return end;
}

static bool
is_counted(const struct segment *g, const struct account_work *w)
{
	return g->run != NULL && g->info.lsn_first < w->end_lsn;
}

/* The runs that hold anything older than that. -E2BIG: merges are due first. */
static int
take_runs(const struct store *s, struct account_work *w)
{
	size_t n = 0;

	for (const struct segment *g = s->segments; g != NULL; g = g->next)
		n += is_counted(g, w);
	if (n > RUNS_MAX)
		return -E2BIG;
	w->runs = calloc(n + 1, sizeof *w->runs);
	if (w->runs == NULL)
		return -ENOMEM;
	for (const struct segment *g = s->segments; g != NULL; g = g->next)
		if (is_counted(g, w))
			w->runs[w->run_count++] = run_ref(g->run);
	return 0;
}

static struct store_job *
create_job(struct store *s, enum job_kind kind)
{
	struct store_job *job = job_create(s, kind);

	if (job == NULL)
		return NULL;
	job->account = calloc(1, sizeof *job->account);
	if (job->account == NULL) {
		store_job_destroy(job);
		return NULL;
	}
	job->account->window_lsn = store_window_lsn(s);
	job->account->end_lsn = find_end(s);
	job->status = take_runs(s, job->account);
	return job;
}

static int
set_points(struct account_work *w, const struct pit *pits, const bool *going, size_t count)
{
	struct account *a = &w->account;

	a->points = calloc(count + 1, sizeof *a->points);
	if (a->points == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < count && pits[i].lsn < w->end_lsn; i++)
		a->points[a->count++] = (struct account_point){.lsn = pits[i].lsn, .going = going != NULL && going[i]};
	a->points[a->count++].lsn = w->end_lsn;
	return 0;
}

static int
run_account(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct account_work *w = job->account;
	struct pace *pace = &job->store->pace;
	int64_t begun = clock_monotonic_ns();
	int r = job->status;

	(void)cache;
	if (r < 0)
		return r == -E2BIG ? job_say(job, -EAGAIN, "the history is being merged: try again in a while") : r;
	pace_begin(pace);
	r = account_scan(&w->account, w->runs, w->run_count, d, job_pause, pace);
	pace_end(pace);
	w->took_ns = clock_monotonic_ns() - begun;
	return r;
}

/* ---- by itself ---- */

/* Changes with whatever changes what points cost. */
static uint64_t
state_of(const struct store *s)
{
	uint64_t facts[] = {find_end(s), s->base_lsn, s->stats.merges, s->pit_count};
	uint64_t state = digest_chain(0, facts, sizeof facts);

	for (size_t i = 0; i < s->pit_count; i++)
		state = digest_chain(state, &s->pits[i].lsn, sizeof s->pits[i].lsn);
	return state;
}

static bool
is_building(const struct store *s)
{
	for (const struct segment *g = s->segments; g != NULL; g = g->next)
		if (g->sealed && g->run == NULL)
			return true;
	return false;
}

static struct store_job *
make_account(struct store *s)
{
	struct store_job *job;

	if (s->pit_count == 0 || s->shutting_down || is_building(s) || clock_monotonic_ns() < s->account_due_ns ||
	    store_window_lsn(s) == 0 || state_of(s) == s->account_state)
		return NULL;
	s->account_due_ns = clock_monotonic_ns() + ACCOUNT_INTERVAL_NS;
	job = create_job(s, JOB_ACCOUNT);
	if (job == NULL)
		return NULL;
	job->account->state = state_of(s);
	if (job->status == 0)
		job->status = set_points(job->account, s->pits, NULL, s->pit_count);
	if (job->status == 0)
		return job;
	store_job_destroy(job);
	return NULL;
}

static void
finish_account(struct store *s, struct store_job *job)
{
	struct account_work *w = job->account;

	s->account_due_ns = clock_monotonic_ns() + ACCOUNT_INTERVAL_NS + w->took_ns * ACCOUNT_SHARE;
	if (job->status < 0)
		return;
	shared_drop(&s->account_shared, s->account.points);
	s->account = w->account;
	s->account_state = w->state;
	s->accounted_ns = store_clock(s);
	w->account.points = NULL;
}

const struct job_class account_job = {
    .name = "count what points cost",
    .slow = true,
    .make = make_account,
    .run = run_account,
    .finish = finish_account,
};

/* ---- for a policy that is not there yet ---- */

struct store_job *
store_plan(struct store *s, const struct policy *policy)
{
	struct store_job *job = create_job(s, JOB_PLAN);

	if (job == NULL)
		return NULL;
	job->policy = *policy;
	job->running_ns = s->retention.running_ns;
	return job;
}

/* As if the policy had always been this, and everything it does not keep were gone already. */
static int
plan_points(struct store_job *job, bool *going)
{
	pit_assign(&job->policy, job->pits, job->pit_count);
	(void)pit_expire(&job->policy, job->pits, job->pit_count, job->running_ns, SIZE_MAX, going);
	return set_points(job->account, job->pits, going, job->pit_count);
}

static int
run_plan(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	int r = job_reload_pits(job);

	if (r < 0)
		return r;
	job->going = calloc(job->pit_count + 1, sizeof *job->going);
	r = job->going == NULL ? -ENOMEM : plan_points(job, job->going);
	return r < 0 ? r : run_account(job, d, cache);
}

static void
finish_plan(struct store *s, struct store_job *job)
{
	(void)s;
	(void)job;
}

void
store_plan_result(const struct store_job *job, struct store_plan *ret_plan)
{
	const struct account *a = &job->account->account;

	*ret_plan = (struct store_plan){
	    .pits = job->pits,
	    .going = job->going,
	    .count = job->pit_count,
	    .total_bytes = a->total_bytes,
	    .freed_bytes = a->going_bytes,
	};
	for (size_t i = 0; i < job->pit_count; i++)
		points_fill_account(a, job->account->window_lsn, &job->pits[i]);
}

const struct job_class plan_job = {
    .name = "plan a policy",
    .slow = true,
    .asked = true,
    .run = run_plan,
    .finish = finish_plan,
};

const struct pit *
store_costliest(const struct store *s, uint64_t *ret_freed_bytes)
{
	const struct pit *costliest = NULL;

	*ret_freed_bytes = 0;
	for (size_t i = 0; i < s->pit_count; i++) {
		struct pit pit = s->pits[i];

		points_fill_account(&s->account, 0, &pit);
		if (pit.held || s->retention.running_ns < pit.guarded_ns ||
		    &s->pits[i] == store_newest_kept(s, false) || pit.freed_bytes <= *ret_freed_bytes)
			continue;
		*ret_freed_bytes = pit.freed_bytes;
		costliest = &s->pits[i];
	}
	return costliest;
}
