/* SPDX-License-Identifier: Apache-2.0 */
/* What we know of a source beside what DRS has: members of the same object. */
#include "server/api_json.h"

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/api_json_impl.h"

static json_t *
json_catch_up(const struct source_status *s, int64_t now_ns)
{
	const struct catch_up_status *c = &s->catch_up;

	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "state", catch_up_state_name(c->state), "remainingBytes",
	    api_json_bytes(c->left_bytes), "requiredBytesPerSecond", api_json_bytes(c->needed_rate),
	    "achievedBytesPerSecond", api_json_bytes(c->achieved_rate), "earliestDateTime",
	    api_json_after(now_ns, c->earliest_ns), "latestDateTime", api_json_after(now_ns, c->latest_ns));
}

static json_t *
json_lag(const struct source_status *s, int64_t now_ns)
{
	return json_pack("{s:o, s:o, s:o}", "receivedSeconds",
	    api_json_seconds(status_lag_seconds(s->received_at_ns, now_ns)), "durableSeconds",
	    api_json_seconds(status_lag_seconds(s->durable_at_ns, now_ns)), "consistentSeconds",
	    api_json_seconds(status_lag_seconds(s->consistent_at_ns, now_ns)));
}

static json_t *
json_rates(const struct source_status *s)
{
	return json_pack("{s:o, s:o, s:o}", "bytesPerSecond10s", api_json_bytes(s->rate_10s), "bytesPerSecond1m",
	    api_json_bytes(s->rate_1m), "bytesPerSecond5m", api_json_bytes(s->rate_5m));
}

/* Which stage is waited for, as share of the time; null: nobody measured it. */
static json_t *
json_bottleneck(const struct source_status *s)
{
	json_t *shares;

	if (!s->waits_known)
		return json_null();
	shares = json_object();
	for (int i = 0; i < STAGES; i++)
		json_object_set_new(shares, stage_name((enum stage)i), api_json_seconds(s->waits[i]));
	return json_pack(
	    "{s:s?, s:o}", "stage", s->bottleneck < 0 ? NULL : stage_name((enum stage)s->bottleneck), "shares", shares);
}

static json_t *
json_reasons(const struct source_status *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->reason_count; i++)
		json_array_append_new(
		    list, json_pack("{s:s, s:o, s:o}", "code", s->reasons[i].code, "text",
			      api_json_text(s->reasons[i].text), "cure", api_json_text_or_null(s->reasons[i].cure)));
	return list;
}

static json_t *
json_newest(const struct source_status *s)
{
	if (!s->has_newest)
		return json_null();
	return json_pack("{s:s, s:o, s:s, s:o}", "pointInTimeID", s->newest_pit.text, "timestamp",
	    api_json_time(s->newest_pit_ns), "consistency", checkpoint_consistency_name(s->newest_consistency), "lsn",
	    api_json_lsn(s->newest_lsn));
}

/* What Ready rests on. There are no drills yet. */
static json_t *
json_evidence(const struct source_status *s)
{
	bool verified = s->verified_pit.text[0] != '\0';

	return json_pack("{s:o, s:o, s:o, s:o, s:n}", "newestPointInTimeID",
	    api_json_text_or_null(s->has_newest ? s->newest_pit.text : ""), "newestPointDateTime",
	    api_json_time(s->newest_pit_ns), "verifiedPointInTimeID", api_json_text_or_null(s->verified_pit.text),
	    "lastVerifiedDateTime", api_json_time(verified ? s->verified_ns : 0), "lastDrillDateTime");
}

static json_t *
json_counters(const struct source_status *s)
{
	const struct store_stats *t = &s->store;

	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "receivedBytes",
	    api_json_bytes(s->received_bytes), "durableBytes", api_json_bytes(s->durable_bytes), "resentFrames",
	    api_json_bytes(s->resent_frames), "lostSessions", api_json_bytes(s->lost_sessions), "writtenBytes",
	    api_json_bytes(t->written_bytes), "journalBytes", api_json_bytes(t->journal_bytes), "syncs",
	    api_json_bytes(histogram_count(&t->sync_times)), "runs", api_json_bytes(t->run_count), "segments",
	    api_json_bytes(t->segment_count), "lastLSN", api_json_lsn(t->lsn_last), "baseLSN",
	    api_json_lsn(t->base_lsn), "merges", api_json_bytes(t->merges), "mergeCopiedBytes",
	    api_json_bytes(t->merge_copied_bytes), "mergeFreedBytes", api_json_bytes(t->merge_freed_bytes));
}

static json_t *
json_agent(const struct source_status *s)
{
	return json_pack("{s:b, s:o, s:o, s:s?, s:o, s:o, s:o, s:o}", "connected", s->connected, "address",
	    api_json_text_or_null(s->peer), "version", api_json_text_or_null(s->hints.agent_version), "activity",
	    activity_name(s->activity), "pass", api_json_bytes(s->pass), "clockOffsetSeconds",
	    json_real((double)s->clock_offset_ns / NS_PER_SECOND), "roundTripSeconds",
	    json_real((double)s->round_trip_ns / NS_PER_SECOND), "certificateExpiresDateTime",
	    api_json_time(s->certificate_expires_ns));
}

static json_t *
json_throttle(const struct source_status *s)
{
	const struct throttle *t = &s->throttle.set;
	char text[THROTTLE_WINDOW_TEXT_BYTES];
	json_t *windows = json_array();

	for (size_t i = 0; i < t->window_count; i++)
		json_array_append_new(windows, json_string(throttle_window_format(&t->windows[i], text)));
	return json_pack("{s:i, s:o, s:i, s:f, s:b}", "bandwidthThrottling", (int)t->mbps, "windows", windows,
	    "bandwidthThrottlingNow", (int)s->throttle.mbps, "waitedSeconds",
	    (double)s->throttle.waited_ns / NS_PER_SECOND, "givesWay", s->throttle.gives_way);
}

static json_t *
json_usage(const struct source_status *s)
{
	const struct usage *u = &s->usage;

	if (!s->usage_known)
		return json_null();
	return json_pack("{s:o, s:o, s:o}", "totalBytes", api_json_bytes(usage_total(u)), "stagingBytes",
	    api_json_bytes(u->staging_bytes), "journalBytes", api_json_bytes(u->journal_bytes));
}

static json_t *
json_costliest(const struct source_status *s)
{
	if (s->costliest_pit.text[0] == '\0')
		return json_null();
	return json_pack("{s:s, s:o}", "pointInTimeID", s->costliest_pit.text, "freedBytesIfDeleted",
	    api_json_bytes(s->costliest_bytes));
}

/* What the source takes of the staging area, what it may, and what goes when there is no room. */
static json_t *
json_space(const struct source_status *s)
{
	return json_pack("{s:o, s:o, s:s, s:b, s:s, s:f, s:o, s:o}", "usage", json_usage(s), "quotaBytes",
	    s->quota_bytes != 0 ? api_json_bytes(s->quota_bytes) : json_null(), "whenFull", s->thins ? "thin" : "stall",
	    "whenFullIsDefault", s->when_full == WHEN_FULL_DEFAULT, "level", space_level_name(s->space_level),
	    "journalWindowSeconds", (double)s->store.window_ns / NS_PER_SECOND, "pointsGivenUp",
	    api_json_bytes(s->store.thinned), "costliestPointInTime", json_costliest(s));
}

/* Whether points expire, and why not. */
static json_t *
json_retention(const struct source_status *s)
{
	const struct retention *r = &s->retention;

	return json_pack("{s:f, s:b, s:o, s:b, s:I}", "minRetentionSeconds",
	    (double)s->policy.min_retention_ns / NS_PER_SECOND, "stopped", retention_stopped(r), "frozenSinceDateTime",
	    api_json_time(r->frozen_ns), "clocksDisagree", retention_drifted(r), "clockDriftSeconds",
	    (json_int_t)(r->drift_ns / NS_PER_SECOND));
}

static json_t *
json_proof(const struct source_status *s)
{
	const struct proof_status *p = &s->proof;

	if (p->state == PROOF_NONE)
		return json_null();
	return json_pack("{s:s, s:o, s:o, s:i, s:o, s:o, s:o}", "state", proof_state_name(p->state), "startedDateTime",
	    api_json_time(p->started_ns), "endedDateTime", api_json_time(p->ended_ns), "passes", (int)p->passes,
	    "doneBytes", api_json_bytes(p->done_bytes), "totalBytes", api_json_bytes(p->total_bytes), "text",
	    api_json_text_or_null(p->text));
}

static json_t *
json_repair(const struct source_status *s)
{
	if (s->repair.how == STORE_CATALOG_WHOLE)
		return json_null();
	return json_pack("{s:s, s:o, s:o}", "how", s->repair.how == STORE_CATALOG_COPY ? "COPY" : "REBUILT", "dateTime",
	    api_json_time(s->repair.time_ns), "text", api_json_text(s->repair.text));
}

static json_t *
json_damage(const struct damage_report *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->damage_count; i++)
		json_array_append_new(list,
		    json_pack("{s:o, s:o, s:o, s:o, s:s, s:i}", "volumeID",
			api_json_text_or_null(r->damage[i].volume.text), "volumeName",
			api_json_text_or_null(r->damage[i].volume_name), "offset", api_json_bytes(r->damage[i].offset),
			"segment", r->damage[i].segment == 0 ? json_null() : json_integer(r->damage[i].segment),
			"error", hf_status_text(r->damage[i].status), "points", (int)r->damage[i].points));
	return list;
}

static json_t *
json_hits(const struct damage_report *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->hit_count; i++)
		json_array_append_new(
		    list, json_pack("{s:s, s:s, s:o}", "pointInTimeID", r->hits[i].pit.text, "volumeID",
			      r->hits[i].volume.text, "damagedBlocks", api_json_bytes(r->hits[i].blocks)));
	return list;
}

static json_t *
json_scrub(const struct source_status *s)
{
	const struct scrub_status *t = &s->scrub;

	return json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:i, s:o, s:o}", "state",
	    t->running ? "RUNNING" : "IDLE", "byHand", t->by_hand, "startedDateTime", api_json_time(t->begun_ns),
	    "lastCompletedDateTime", api_json_time(t->done_ns), "progressPercent",
	    t->running ? json_real((double)(int)(t->progress * 1000) / 10) : json_null(), "readBytes",
	    api_json_bytes(t->bytes), "bytesPerSecond", api_json_bytes(t->running ? t->bytes_per_second : 0),
	    "healedBlocks", api_json_bytes(t->blocks_healed), "mendedDigests", api_json_bytes(t->digests_mended),
	    "damagedBlocks", api_json_bytes(t->damaged), "moreDamaged", t->more_damaged, "pointsDamaged",
	    (int)s->damage.points, "damage", json_damage(&s->damage), "pointsHit", json_hits(&s->damage));
}

static json_t *
json_own_source(const struct source_status *s, int64_t now_ns)
{
	return json_pack(
	    "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:f, s:o, s:o, s:o, s:o, s:o, s:o}",
	    "throttle", json_throttle(s), "readyEvidence", json_evidence(s), "catalogRepair", json_repair(s), "lag",
	    json_lag(s, now_ns), "backlogBytes", api_json_bytes(s->backlog_bytes), "rates", json_rates(s), "bottleneck",
	    json_bottleneck(s), "catchUp", json_catch_up(s, now_ns), "ready", s->ready, "reasons", json_reasons(s),
	    "newestPointInTime", json_newest(s), "pitPolicy", settings_rules_json(&s->policy), "journalWindowSeconds",
	    (double)s->policy.journal_window_ns / NS_PER_SECOND, "agent", json_agent(s), "counters", json_counters(s),
	    "space", json_space(s), "verification", json_proof(s), "scrub", json_scrub(s), "retention",
	    json_retention(s));
}

static json_t *
json_new_disks(const struct source_status *s)
{
	json_t *list = s->new_disks[0] != '\0' ? json_loads(s->new_disks, 0, NULL) : NULL;

	return list != NULL ? list : json_array();
}

/* null: there is no target, or no point yet. */
static json_t *
json_target_met(const struct source_status *s, int64_t now_ns)
{
	if (s->settings.rpo_target_ns == 0 || s->consistent_at_ns == 0)
		return json_null();
	return json_boolean(now_ns - s->consistent_at_ns <= s->settings.rpo_target_ns);
}

json_t *
api_json_source(const struct source_status *s, int64_t now_ns)
{
	json_t *source = api_json_drs_source(s, now_ns), *own = json_own_source(s, now_ns);
	struct settings settings = {.source = s->settings};

	json_object_update_new(own, settings_json(&settings, SETTINGS_OF_SOURCE));
	json_object_set_new(own, "newDisks", json_new_disks(s));
	json_object_set_new(own, "rpoTargetMet", json_target_met(s, now_ns));
	if (json_object_update_missing(source, own) < 0) {
		json_decref(source);
		source = NULL;
	}
	json_decref(own);
	return source;
}
