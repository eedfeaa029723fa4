/* SPDX-License-Identifier: Apache-2.0 */
/* What is published of a source: gathered from its store, its session and what the agent said, judged by state.c,
 * copied into the table that the control sockets read. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/session_impl.h"
#include "server/source_impl.h"

static bool
counts_as_connected(const struct source *src, int64_t now_ns)
{
	if (src->session != NULL)
		return true;
	if (src->refused == -HF_EREVOKED || src->refused == -HF_EEXPIRED || src->refused == -HF_ESTOPPED)
		return false; /* it will not be back in a moment */
	return src->gone_ns != 0 && now_ns - src->gone_ns < src->grace_ns;
}

/* ---- volumes ---- */

static uint64_t
at_most(uint64_t bytes, uint64_t most)
{
	return bytes < most ? bytes : most;
}

static uint64_t
replicated_bytes(const struct store_volume *v)
{
	return at_most(v->frontier_blocks * BLOCK_BYTES, v->size_bytes);
}

/* What a first fill has still to bring we know better than the agent, which tells it once a second, and may say what it
 * likes. */
static void
add_declaration(const struct source *src, struct volume_status *v)
{
	for (size_t i = 0; i < src->declared_count; i++) {
		if (src->declared[i].volume != v->volume)
			continue;
		v->state = src->declared[i].state;
		v->rescanned_bytes = src->activity == ACTIVITY_RESCAN ? src->declared[i].rescanned_bytes : 0;
		if (v->backlogged_bytes == 0 && src->activity != ACTIVITY_FILL)
			v->backlogged_bytes = at_most(src->declared[i].backlog_bytes, v->total_bytes);
	}
}

static void
add_proof(const struct proof *p, struct volume_status *v)
{
	for (size_t i = 0; p != NULL && i < p->volume_count; i++)
		if (p->volumes[i].volume == v->volume) {
			v->proof_asked = true;
			v->differing_bytes = p->volumes[i].differing_bytes;
		}
}

/* How far its pass is: the agent reports it once a second. */
static void
gather_proof(const struct source *src, struct source_status *s)
{
	const struct proof *p = src->proof;

	s->proof = (struct proof_status){0};
	if (p == NULL)
		return;
	s->proof.state = p->state;
	s->proof.started_ns = p->started_ns;
	s->proof.ended_ns = p->ended_ns;
	s->proof.passes = p->passes;
	memcpy(s->proof.text, p->text, sizeof s->proof.text);
	if (p->state == PROOF_RUNNING)
		s->proof.done_bytes = source_progress(src, &s->proof.total_bytes);
}

static void
fill_volume(const struct source *src, const struct store_volume *from, struct volume_status *v)
{
	memset(v, 0, sizeof *v);
	v->id = from->id;
	v->volume = from->volume;
	memcpy(v->name, from->name, sizeof v->name);
	memcpy(v->identity, from->identity, sizeof v->identity);
	memcpy(v->device_name, from->device_name, sizeof v->device_name);
	v->state = VOLUME_OK;
	v->boot_disk = from->boot_disk;
	v->retired = !from->declared;
	v->total_bytes = from->size_bytes;
	v->replicated_bytes = replicated_bytes(from);
	v->backlogged_bytes = v->retired ? 0 : from->size_bytes - v->replicated_bytes;
	v->equal_ns = from->equal_ns;
	add_declaration(src, v);
	add_proof(src->proof, v);
}

static void
list_volumes(struct source *src, struct source_status *s)
{
	struct store_volume *list = src->worker->volume_scratch;
	size_t n = store_list_all_volumes(src->store, list, STORE_VOLUMES_MAX);

	for (size_t i = 0; i < n; i++)
		if (list[i].declared)
			fill_volume(src, &list[i], &s->volumes[s->volume_count++]);
	for (size_t i = 0; i < n; i++)
		if (!list[i].declared)
			fill_volume(src, &list[i], &s->volumes[s->volume_count + s->retired_count++]);
}

/* And what the declared ones come to. */
static void
gather_volumes(struct source *src, struct source_status *s, struct state_facts *f)
{
	list_volumes(src, s);
	s->backlog_unsplit = src->backlog_unsplit && src->activity != ACTIVITY_FILL;
	for (size_t i = 0; i < s->volume_count; i++) {
		f->volumes++;
		s->backlog_bytes += s->volumes[i].backlogged_bytes;
		f->volumes_filled += s->volumes[i].replicated_bytes == s->volumes[i].total_bytes;
		f->total_bytes += s->volumes[i].total_bytes;
		f->replicated_bytes += s->volumes[i].replicated_bytes;
	}
	if (s->backlog_unsplit)
		s->backlog_bytes = at_most(src->backlog_bytes, f->total_bytes);
}

static void
gather_bad_volume(const struct source *src, struct state_facts *f)
{
	for (size_t i = 0; i < src->declared_count; i++) {
		if (src->declared[i].state == VOLUME_OK)
			continue;
		snprintf(f->bad_volume, sizeof f->bad_volume, "volume %s (%s): %s", src->declared[i].name,
		    src->declared[i].identity,
		    src->declared[i].state == VOLUME_REFUSED ? src->declared[i].text
							     : volume_state_text(src->declared[i].state));
		return;
	}
}

/* ---- points and lag ---- */

/* Nothing is known of the source after it was last heard of. A later moment is one of a clock that was set, and would
 * hold the lag at 0 until it has come. */
static int64_t
not_after_heard(const struct source *src, int64_t moment_ns)
{
	int64_t heard_ns = clock_real_ns() - (clock_monotonic_ns() - src->heard_ns);

	return moment_ns < heard_ns ? moment_ns : heard_ns;
}

int64_t
source_until_ns(const struct source *src, const struct checkpoint *c)
{
	int64_t clock = c->unchanged_until_ns > c->clock_ns ? c->unchanged_until_ns : c->clock_ns;

	return not_after_heard(src, clock - c->clock_offset_ns);
}

void
source_note_heard(struct source *src)
{
	src->heard_ns = src->session->heard_ns;
	src->seen_ns = clock_real_ns() - (clock_monotonic_ns() - src->heard_ns);
}

static void
gather_points(struct source *src, struct source_status *s, struct state_facts *f)
{
	const struct checkpoint *newest = store_newest_checkpoint(src->store);
	const struct checkpoint *consistent;

	if (newest != NULL) {
		s->durable_at_ns = source_until_ns(src, newest);
		f->has_checkpoint = newest->complete;
		f->lag_ns = s->taken_ns - s->durable_at_ns;
	}
	s->received_at_ns = not_after_heard(src, src->received_at_ns);
	if (s->received_at_ns < s->durable_at_ns)
		s->received_at_ns = s->durable_at_ns;
	consistent = store_newest_consistent(src->store);
	if (consistent == NULL)
		return;
	s->has_newest = f->has_consistent = true;
	s->consistent_at_ns = source_until_ns(src, consistent);
	s->newest_pit = checkpoint_pit_id(&src->id, consistent->lsn, consistent->stream_id);
	s->newest_pit_ns = checkpoint_time_ns(consistent);
	s->newest_consistency = consistent->consistency;
	s->newest_lsn = consistent->lsn;
	f->verified = src->verified_lsn != 0;
	s->verified_pit = src->verified_pit;
	s->verified_ns = src->verified_clock_ns;
}

/* ---- rates ---- */

/* Left to be filled or compared; or, of an agent that does neither, what it says. */
static uint64_t
left_bytes(const struct source *src)
{
	uint64_t total, done = source_progress(src, &total);

	switch (src->activity) {
	case ACTIVITY_FILL:
	case ACTIVITY_RESCAN:
	case ACTIVITY_PASS: return done < total ? total - done : 0;
	case ACTIVITY_IDLE: break;
	}
	return src->backlog_bytes;
}

static void
gather_catch_up(struct source *src, struct source_status *s, struct state_facts *f, int64_t now_ns)
{
	uint64_t left = left_bytes(src);

	s->catch_up = (struct catch_up_status){0};
	if (src->session == NULL) {
		src->catch_up = (struct catch_up){0};
		return;
	}
	catch_up_note(&src->catch_up, now_ns, src->activity, src->pass, left);
	catch_up_get(&src->catch_up, now_ns, left, f->lag_ns, s->rate_1m, &s->catch_up);
	f->never_converges = s->catch_up.state == CATCH_UP_NEVER;
}

static void
gather_rates(struct source *src, struct source_status *s, struct state_facts *f, int64_t now_ns)
{
	s->rate_10s = rate_get(&src->rate, now_ns, 10);
	s->rate_1m = rate_get(&src->rate, now_ns, 60);
	s->rate_5m = rate_get(&src->rate, now_ns, 300);
	s->received_frames = src->received_frames;
	s->resent_frames = src->resent_frames;
	s->waits_known = src->session != NULL && stages_get(&src->stages, s->waits);
	s->bottleneck = s->waits_known ? stages_bottleneck(s->waits) : -1;
	f->bottleneck = s->bottleneck;
	gather_catch_up(src, s, f, now_ns);
}

static void
gather_throttle(const struct source *src, struct source_status *s)
{
	s->throttle.set = src->facts.throttle;
	s->throttle.mbps = throttle_gate_mbps(&src->gate);
	s->throttle.waited_ns = throttle_gate_waited_ns(&src->gate, clock_monotonic_ns());
	s->throttle.gives_way = src->session != NULL && source_gives_way(src);
}

/* ---- room ---- */

static void
gather_space(struct source *src, struct source_status *s)
{
	const struct pit *costliest;

	s->usage = src->space.usage;
	s->usage_known = src->space.counted_ns != 0;
	s->space_level = src->space.level;
	s->quota_bytes = src->space.quota_bytes;
	s->when_full = src->space.when_full;
	s->thins = src->space.thins;
	costliest = store_costliest(src->store, &s->costliest_bytes);
	if (costliest != NULL)
		s->costliest_pit = costliest->id;
	source_note_window(src, s);
}

/* ---- the whole ---- */

static void
note_usability(const struct source *src, struct source_status *s)
{
	const char *text = "";

	s->store_status = source_status(src, &text);
	snprintf(s->store_text, sizeof s->store_text, "%s", text);
}

/* Gives its points, unless its store cannot be used. */
static struct points *
gather_usability(struct source *src, struct source_status *s)
{
	struct points *points;

	note_usability(src, s);
	if (s->store_status < 0)
		return NULL;
	points = store_points(src->store);
	if (points == NULL)
		s->store_status = -ENOMEM;
	return points;
}

static void
gather_settings(const struct source *src, struct source_status *s)
{
	s->settings = src->settings;
	snprintf(s->tags, sizeof s->tags, "%s", src->tags != NULL ? src->tags : "");
	snprintf(s->new_disks, sizeof s->new_disks, "%s", src->new_disks != NULL ? src->new_disks : "");
}

/* As it is to be told. */
static bool
is_full(struct source *src, const struct store_stats *t)
{
	bool is_sure = source_is_full_as_counted(src, t);

	if (t->full && is_sure)
		src->full_ns = src->worker->now_ns;
	return (source_is_full(src) && is_sure) ||
	       (src->full_ns != 0 && src->worker->now_ns - src->full_ns < FULL_HOLD_NS);
}

static bool
awaits_disk(const struct source *src)
{
	return src->received_sequence != src->durable_sequence || src->compare_running;
}

void
source_watch_disk(struct source *src, int64_t now_ns)
{
	if (!awaits_disk(src))
		src->disk_answered_ns = now_ns;
}

/* And we did hear what it says. */
static bool
is_disk_silent(const struct source *src)
{
	return awaits_disk(src) && src->worker->now_ns - src->disk_answered_ns > DISK_SILENT_NS &&
	       !worker_stood_still(src->worker);
}

static void
gather_store(struct source *src, struct source_status *s, struct state_facts *f)
{
	store_get_stats(src->store, &s->store);
	store_get_policy(src->store, &s->policy);
	s->retention = *store_retention(src->store);
	s->received_bytes = s->store.received_bytes;
	s->durable_bytes = s->store.durable_bytes;
	gather_volumes(src, s, f);
	gather_points(src, s, f);
	f->staging_full = is_full(src, &s->store);
	f->disk_silent = is_disk_silent(src);
	f->over_quota = source_watch_quota(src, f->staging_full);
	gather_space(src, s);
	source_gather_scrub(src, s, f);
	f->verify_status = src->verify_status;
	snprintf(f->verify_text, sizeof f->verify_text, "%s", src->verify_text);
}

static void
gather_agent(const struct source *src, struct source_status *s, struct state_facts *f)
{
	s->hints = src->facts.hints;
	snprintf(s->peer, sizeof s->peer, "%s", src->peer);
	s->connected = src->session != NULL;
	s->added_ns = src->facts.created_ns;
	s->first_byte_ns = src->first_byte_ns;
	s->last_seen_ns = src->seen_ns;
	s->certificate_expires_ns = src->certificate_expires_ns;
	s->lost_sessions = src->network.lost;
	s->clock_offset_ns = src->clock_offset_ns;
	s->round_trip_ns = src->round_trip_ns;
	s->activity = src->activity;
	s->pass = src->pass;
	f->ever_connected = src->ever_connected;
	f->refused = src->refused;
	snprintf(f->refused_text, sizeof f->refused_text, "%s", src->refused_text);
	snprintf(f->refused_cure, sizeof f->refused_cure, "%s", src->refused_cure);
	f->activity = s->connected ? src->activity : 0;
	f->heartbeat_interval_ns = s->connected ? src->session->interval_ns : 0;
	f->went_back = src->went_back;
	f->backlog_bytes = src->backlog_bytes;
	f->network_unstable = src->network.unstable;
	gather_bad_volume(src, f);
}

/* What an administrator did lasts over restarts, and so does the absence of an agent; and with them since when. 0:
 * since now. */
static int64_t
lasting_ns(const struct source *src, enum replication_state state)
{
	if (state == STATE_PAUSED || (state == STATE_STOPPED && !src->deleting))
		return src->facts.phase_ns;
	if (state == STATE_DISCONNECTED && src->gone_ns == 0) /* it was not here since the start */
		return src->seen_ns;
	return state == STATE_INITIATING && !src->ever_connected ? src->facts.created_ns : 0;
}

static int64_t
since_ns(const struct source *src, enum replication_state state)
{
	int64_t since = lasting_ns(src, state);

	return since != 0 ? since : clock_real_ns();
}

static void
note_change(struct source *src, const struct state_verdict *v)
{
	if (!src->evaluated || v->state != src->state) {
		src->state_since_ns = since_ns(src, v->state);
		log_info("state", "source=%s state=%s msg=\"%s\"", src->id.text, replication_state_name(v->state),
		    v->reason);
	}
	if (src->evaluated && v->state != src->state && v->state == STATE_STALLED)
		server_event(src->server, &src->id, "stalled", "%s", v->reason);
	if (src->evaluated && v->state != src->state && src->state == STATE_STALLED)
		server_event(src->server, &src->id, "stall_ended", "it is %s now: %s", replication_state_name(v->state),
		    v->reason);
	if (src->evaluated && v->ready != src->was_ready)
		server_event(src->server, &src->id, v->ready ? "ready" : "not_ready", "%s",
		    v->ready ? "a point in time was read back: all volumes can be restored" : v->reasons[0].text);
	src->state = v->state;
	src->was_ready = v->ready;
	src->evaluated = true;
}

static void
copy_verdict(const struct state_verdict *v, struct source_status *s)
{
	s->state = v->state;
	memcpy(s->state_reason, v->reason, sizeof s->state_reason);
	memcpy(s->error, v->error, sizeof s->error);
	memcpy(s->raw_error, v->raw_error, sizeof s->raw_error);
	memcpy(s->cure, v->cure, sizeof s->cure);
	s->ready = v->ready;
	memcpy(s->reasons, v->reasons, sizeof s->reasons);
	s->reason_count = v->reason_count;
}

/* While its store is closed, or broken, what was known of it stays: its newest point grows older, and is not unknown.
 */
static void
begin_status(struct source *src, struct source_status *s)
{
	if (src->life == SOURCE_OPEN || !status_get(src->server->status, &src->id, s))
		memset(s, 0, offsetof(struct source_status, tags));
	s->id = src->id;
}

void
source_publish(struct source *src)
{
	struct source_status *s = src->worker->status_scratch;
	struct state_facts f = {.source = src->id, .lag_ns = -1, .bottleneck = -1};
	struct state_verdict v;
	struct points *points;
	int64_t now = src->worker->now_ns;

	if (src->shutting_down)
		return; /* that its store is closed at the end of the process is no news of the source */
	begin_status(src, s);
	points = gather_usability(src, s);
	gather_settings(src, s);
	s->taken_ns = f.now_ns = clock_real_ns();
	f.connected = counts_as_connected(src, now);
	f.stopped = src->facts.phase == PHASE_STOPPED;
	f.paused = source_is_paused(src);
	f.deleting = src->deleting;
	f.opening = (src->life == SOURCE_OPENING && src->store_status == 0) || src->volume_deletion != NULL;
	f.store_status = src->life == SOURCE_OPEN || src->volume_deletion != NULL ? 0 : src->store_status;
	snprintf(f.store_text, sizeof f.store_text, "%s", src->store_text);
	s->next_attempt_ns =
	    src->life == SOURCE_BROKEN && src->store_status < 0 ? s->taken_ns + src->retry_ns - now : 0;
	gather_agent(src, s, &f);
	gather_proof(src, s);
	if (src->life == SOURCE_OPEN)
		gather_store(src, s, &f);
	s->repair = src->repair;
	gather_rates(src, s, &f, now);
	gather_throttle(src, s);
	state_evaluate(&f, &v);
	note_change(src, &v);
	copy_verdict(&v, s);
	if (src->state_since_ns > s->taken_ns)
		src->state_since_ns = s->taken_ns; /* the clock was ahead then: at least since now */
	s->state_since_ns = src->state_since_ns;
	status_publish(src->server->status, s, points);
	src->dirty = false;
	src->published_ns = now;
}

int
source_publish_first(const struct source *src)
{
	const struct registry_source *facts = &src->facts;
	struct status_table *table = src->server->status;
	struct source_status *s = calloc(1, sizeof *s);
	struct state_facts f = {.source = facts->id, .lag_ns = -1, .bottleneck = -1, .opening = true};
	struct state_verdict v;

	if (s == NULL)
		return -ENOMEM;
	if (status_get(table, &facts->id, s)) {
		free(s); /* it runs: it publishes itself */
		return 0;
	}
	s->id = facts->id;
	s->hints = facts->hints;
	s->throttle.set = facts->throttle;
	s->added_ns = facts->created_ns;
	s->last_seen_ns = facts->last_seen_ns;
	s->first_byte_ns = facts->first_byte_ns;
	s->certificate_expires_ns = facts->certificate_expires_ns;
	s->taken_ns = f.now_ns = clock_real_ns();
	s->bottleneck = -1;
	note_usability(src, s);
	f.ever_connected = facts->last_seen_ns != 0;
	s->state_since_ns = f.ever_connected ? s->taken_ns : facts->created_ns;
	f.deleting = facts->phase == PHASE_DELETING;
	state_evaluate(&f, &v);
	copy_verdict(&v, s);
	gather_settings(src, s);
	status_publish(table, s, NULL);
	free(s);
	return 0;
}
