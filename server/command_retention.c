/* SPDX-License-Identifier: Apache-2.0 */
#include "server/command_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "proto/common/units.h"
#include "server/server.h"
#include "server/source.h"
#include "server/source_impl.h"
#include "server/worker.h"

/* ---- what a command does not say stays as it is, so they are carried out one after the other ---- */

/* True: another change is being written; c is back when it is over. */
static bool
wait_turn(struct command *c, struct source *src)
{
	if (!src->setting)
		return false;
	c->mail.next = NULL;
	LL_APPEND(src->setters, &c->mail);
	return true;
}

static void
end_turn(struct command *c)
{
	struct source *src = worker_find_source(c->worker, &c->source); /* it is there: a job of it was out */
	struct mail *waiting = src->setters, *next;

	src->setting = false;
	src->setters = NULL; /* first: all but one wait again */
	for (; waiting != NULL; waiting = next) {
		next = waiting->next;
		waiting->deliver(waiting);
	}
}

/* ---- quota ---- */

static void
on_quota_set(void *arg, struct store_job *job)
{
	struct command *c = arg;
	struct source *src = worker_find_source(c->worker, &c->source);
	char quota[UNITS_TEXT_BYTES], said[128];
	const char *text;

	end_turn(c);
	if (command_job_failed(c, job))
		return;
	snprintf(said, sizeof said, "it may take %s of the staging area; when there is no room: %s",
	    c->quota.quota_bytes != 0 ? size_format(c->quota.quota_bytes, quota) : "as much as there is",
	    when_full_name(c->quota.when_full));
	if (src != NULL && source_status(src, &text) == 0)
		source_tick_space(src, clock_monotonic_ns()); /* at once */
	command_publish_source(c);
	server_event(c->server, &c->source, "quota_set", "%s", said);
	command_finish_ok(c, said);
}

static void
set_quota(struct command *c, struct source *src)
{
	enum when_full when_full;
	uint64_t quota_bytes;
	int r;

	if (command_check_store(c, src) < 0)
		return;
	if (wait_turn(c, src))
		return;
	store_get_quota(source_store(src), &quota_bytes, &when_full);
	if (!c->quota.has_quota)
		c->quota.quota_bytes = quota_bytes;
	if (!c->quota.has_when_full)
		c->quota.when_full = when_full;
	r = source_run_job(
	    src, store_set_quota(source_store(src), c->quota.quota_bytes, c->quota.when_full), on_quota_set, c);
	src->setting = r == 0;
	if (r < 0)
		command_finish(c, r, NULL);
}

void
command_set_quota(
    struct server *sv, const struct id *source, const struct quota_change *change, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->quota = *change;
	command_send_to_source(c, set_quota);
}

/* ---- policy ---- */

static void
on_policy_set(void *arg, struct store_job *job)
{
	struct command *c = arg;
	char rules[POLICY_TEXT_BYTES], window[UNITS_TEXT_BYTES], least[UNITS_TEXT_BYTES + 32] = "",
											  said[SENTENCE_BYTES];
	const struct policy *p = &c->policy.policy;

	end_turn(c);
	if (command_job_failed(c, job))
		return;
	if (p->min_retention_ns > 0)
		snprintf(least, sizeof least, "; none goes that is younger than %s",
		    duration_format(p->min_retention_ns, (char[UNITS_TEXT_BYTES]){0}));
	snprintf(said, sizeof said, "%s%s, every checkpoint for %s%s",
	    p->rule_count > 0 ? "points are kept as " : "points are kept by hand alone",
	    p->rule_count > 0 ? policy_format_rules(p, rules) : "", duration_format(p->journal_window_ns, window),
	    least);
	command_publish_source(c);
	server_event(c->server, &c->source, "policy_set", "%s", said);
	command_finish_ok(c, said);
}

static void
merge_policy(struct policy_change *change, const struct policy *now)
{
	struct policy merged = *now;

	if (change->has_rules) {
		memcpy(merged.rules, change->policy.rules, sizeof merged.rules);
		merged.rule_count = change->policy.rule_count;
	}
	if (change->has_window)
		merged.journal_window_ns = change->policy.journal_window_ns;
	if (change->has_min_retention)
		merged.min_retention_ns = change->policy.min_retention_ns;
	change->policy = merged;
}

static void
set_policy(struct command *c, struct source *src)
{
	struct policy now;
	int r;

	if (command_check_store(c, src) < 0)
		return;
	if (wait_turn(c, src))
		return;
	store_get_policy(source_store(src), &now);
	merge_policy(&c->policy, &now);
	r = policy_check(&c->policy.policy, &c->err);
	if (r < 0) {
		command_finish(c, r, c->err.text);
		return;
	}
	r = source_run_job(src, store_set_policy(source_store(src), &c->policy.policy), on_policy_set, c);
	src->setting = r == 0;
	if (r < 0)
		command_finish(c, r, NULL);
}

void
command_set_policy(
    struct server *sv, const struct id *source, const struct policy_change *change, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->policy = *change;
	command_send_to_source(c, set_policy);
}

static int
copy_plan(struct command *c, const struct store_plan *plan)
{
	c->pits = calloc(plan->count + 1, sizeof *c->pits);
	c->going = calloc(plan->count + 1, sizeof *c->going);
	if (c->pits == NULL || c->going == NULL)
		return -ENOMEM;
	if (plan->count > 0) {
		memcpy(c->pits, plan->pits, plan->count * sizeof *c->pits);
		memcpy(c->going, plan->going, plan->count * sizeof *c->going);
	}
	c->answer.pits = c->pits;
	c->answer.going = c->going;
	c->answer.pit_count = plan->count;
	c->answer.total_bytes = plan->total_bytes;
	c->answer.freed_bytes = plan->freed_bytes;
	return 0;
}

static void
on_planned(void *arg, struct store_job *job)
{
	struct command *c = arg;
	struct store_plan plan;
	const char *text = NULL;
	int r = store_job_status(job, &text);

	worker_find_source(c->worker, &c->source)->planning = false; /* it is there: a job of it was out */
	if (r == 0) {
		store_plan_result(job, &plan);
		r = copy_plan(c, &plan);
		text = "";
	}
	command_finish(c, r, text);
}

static void
make_plan(struct command *c, struct source *src)
{
	struct policy now;
	int r;

	if (command_check_store(c, src) < 0)
		return;
	if (src->planning) {
		command_finish(c, -EAGAIN, "another plan of this source is being made: try again in a moment");
		return;
	}
	store_get_policy(source_store(src), &now);
	merge_policy(&c->policy, &now);
	r = policy_check(&c->policy.policy, &c->err);
	if (r == 0)
		r = source_run_job(src, store_plan(source_store(src), &c->policy.policy), on_planned, c);
	src->planning = r == 0;
	if (r < 0)
		command_finish(c, r, r == -EINVAL ? c->err.text : NULL);
}

void
command_plan(struct server *sv, const struct id *source, const struct policy *rules, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->policy = (struct policy_change){.has_rules = true, .policy = *rules};
	command_send_to_source(c, make_plan);
}

/* ---- freeze ---- */

static void
on_frozen_set(void *arg, struct store_job *job)
{
	struct command *c = arg;
	const char *text;

	if (command_job_failed(c, job))
		return;
	text = c->frozen ? "nothing expires until it is thawed" : "points expire again as the policy says";
	command_publish_source(c);
	server_event(c->server, &c->source, c->frozen ? "retention_frozen" : "retention_thawed", "%s", text);
	command_finish_ok(c, text);
}

static void
set_frozen(struct command *c, struct source *src)
{
	int r;

	if (command_check_store(c, src) < 0)
		return;
	r = source_run_job(src, store_set_frozen(source_store(src), c->frozen), on_frozen_set, c);
	if (r < 0)
		command_finish(c, r, NULL);
}

void
command_set_frozen(struct server *sv, const struct id *source, bool frozen, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->frozen = frozen;
	command_send_to_source(c, set_frozen);
}
