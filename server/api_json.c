/* SPDX-License-Identifier: Apache-2.0 */
#include "server/api_json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/common/hex.h"
#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/certificate.h"
#include "server/expiry.h"
#include "server/state.h"

/* ---- small values ---- */

json_t *
api_json_text(const char *text)
{
	char clean[4096];
	json_t *value = json_string(text);
	size_t i;

	if (value != NULL)
		return value;
	for (i = 0; i < sizeof clean - 1 && text[i] != '\0'; i++)
		clean[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
	clean[i] = '\0';
	return json_string(clean);
}

static json_t *
api_json_text_or_null(const char *text)
{
	return text[0] == '\0' ? json_null() : api_json_text(text);
}

json_t *
api_json_time(int64_t ns)
{
	char buf[UNITS_TEXT_BYTES];

	return ns == 0 ? json_null() : json_string(time_format(ns, buf));
}

static json_t *
api_json_bytes(uint64_t bytes)
{
	return json_integer(bytes < INT64_MAX ? (json_int_t)bytes : INT64_MAX); /* an agent may say what it likes */
}

static json_t *
api_json_lsn(uint64_t lsn)
{
	char buf[24];

	snprintf(buf, sizeof buf, "%" PRIu64, lsn);
	return json_string(buf);
}

/* Seconds with three decimals are all anybody measures; more digits only make diffs. */
static json_t *
api_json_seconds(double seconds)
{
	return seconds < 0 ? json_null() : json_real((double)(int64_t)(seconds * 1000 + 0.5) / 1000);
}

/* ---- the server ---- */

static const char *
space_state(const struct area_facts *f)
{
	return f->level == SPACE_FULL ? "FULL" : f->level >= SPACE_SHORTEN ? "SHORT" : f->low ? "LOW" : "OK";
}

static json_t *
json_growth(const struct area_facts *f)
{
	return f->growth_known ? json_integer((json_int_t)f->growth_bytes_per_day) : json_null();
}

static json_t *
json_days_to_full(const struct area_facts *f)
{
	int64_t ns = area_full_in_ns(f);

	return ns < 0 ? json_null() : json_real((double)(ns / (NS_PER_SECOND * 864)) / 100);
}

static json_t *
json_area(const struct area_facts *f)
{
	if (f->total_bytes == 0)
		return json_null();
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o}", "state", space_state(f), "totalBytes",
	    api_json_bytes(f->total_bytes), "freeBytes", api_json_bytes(f->free_bytes), "reserveBytes",
	    api_json_bytes(f->reserve_bytes + f->extra_bytes), "reserveHeldBytes", api_json_bytes(f->held_bytes),
	    "roomBytes", (json_int_t)f->room_bytes, "growthBytesPerDay", json_growth(f), "growthMeasuredSeconds",
	    f->growth_known ? json_integer(f->growth_measured_ns / NS_PER_SECOND) : json_null(), "daysToFull",
	    json_days_to_full(f));
}

static json_t *
json_staging_area(const struct server_facts *facts)
{
	json_t *area = json_area(&facts->areas[AREA_DATA]);

	json_object_set_new(area, "rubbishBytes", api_json_bytes(facts->rubbish_bytes));
	return area;
}

json_t *
api_json_keys(config_mask mask)
{
	json_t *names = json_array();
	size_t count;
	const struct config_key *keys = config_keys(&count);

	for (size_t i = 0; i < count; i++)
		if ((mask >> i & 1) != 0)
			json_array_append_new(names, json_sprintf("%s.%s", keys[i].section, keys[i].name));
	return names;
}

static json_t *
json_backup(const struct identity_backup *b)
{
	return json_pack("{s:o, s:o}", "takenDateTime", api_json_time(b->taken_ns), "unsavedSinceDateTime",
	    api_json_time(b->unsaved_ns));
}

json_t *
api_json_version(const struct server_facts *facts)
{
	return json_pack("{s:s, s:i, s:s, s:s, s:i, s:o, s:o, s:s, s:s, s:s, s:b, s:i, s:o, s:o, s:o, s:o, s:o}",
	    "program", "holdfastd", "processID", facts->pid, "version", facts->version, "apiVersion", "v1",
	    "protocolVersion", PROTOCOL_VERSION, "startedDateTime", api_json_time(facts->started_ns), "dataDirectory",
	    api_json_text(facts->data_dir), "listen", facts->listen, "enrollListen", facts->enroll_listen,
	    "caFingerprint", facts->ca_fingerprint, "draining", facts->draining, "workers", (int)facts->workers,
	    "stagingArea", json_staging_area(facts), "journalArea", json_area(&facts->areas[AREA_JOURNAL]),
	    "rowsWaiting", api_json_bytes(facts->rows_waiting), "restartRequired",
	    api_json_keys(facts->restart_required), "identityBackup", json_backup(&facts->backup));
}

static void
add_reason(json_t *reasons, const char *code, const char *text, const char *source)
{
	json_array_append_new(reasons, json_pack("{s:s, s:o, s:o}", "code", code, "text", api_json_text(text),
					   "sourceServerID", api_json_text_or_null(source)));
}

/* Errors of a source that are the staging server's own fault. */
static bool
is_our_fault(const char *error)
{
	static const char *const ours[] = {"STAGING_FULL", "STAGING_IO_ERROR", "INTEGRITY_ERROR"};

	for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
		if (strcmp(error, ours[i]) == 0)
			return true;
	return false;
}

json_t *
api_json_server_reasons(const struct server_facts *facts)
{
	json_t *reasons = json_array();

	if (facts->draining)
		add_reason(reasons, "DRAINING", "the server is shutting down", "");
	for (int i = 0; i < AREAS; i++)
		if (facts->areas[i].level >= SPACE_SHORTEN)
			add_reason(reasons,
			    facts->areas[i].level == SPACE_FULL ? "STAGING_FULL" : "STAGING_NEARLY_FULL",
			    i == AREA_DATA ? "there is hardly any room left in the data directory"
					   : "there is hardly any room left where the journals are",
			    "");
	return reasons;
}

void
api_json_add_source_reasons(json_t *reasons, const struct source_status *s)
{
	if (is_our_fault(s->error))
		add_reason(reasons, s->error, s->raw_error, s->id.text);
	else if (s->store.failed)
		add_reason(
		    reasons, "STORE_FAILED", "the store of this source acknowledges nothing any more", s->id.text);
}

json_t *
api_json_health(json_t *reasons, bool *ret_healthy)
{
	*ret_healthy = json_array_size(reasons) == 0;
	return json_pack("{s:s, s:o}", "status", *ret_healthy ? "ok" : "failing", "reasons", reasons);
}

/* ---- a source ---- */

static json_t *
json_interfaces(const struct message_hints *h)
{
	json_t *list = json_array();

	for (size_t i = 0; i < h->mac_count; i++)
		json_array_append_new(list, json_pack("{s:o, s:[], s:b}", "macAddress",
						api_json_text(h->mac_addresses[i]), "ips", "isPrimary", i == 0));
	return list;
}

static json_t *
json_disks(const struct source_status *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->volume_count; i++)
		json_array_append_new(
		    list, json_pack("{s:o, s:o}", "deviceName", api_json_text(s->volumes[i].device_name), "bytes",
			      api_json_bytes(s->volumes[i].total_bytes)));
	return list;
}

/* What AWS and VMware would know of it is null, as DRS has it for a machine of neither. */
static json_t *
json_identification(const struct message_hints *h)
{
	bool qualified = strchr(h->hostname, '.') != NULL;

	return json_pack("{s:o, s:o, s:o, s:n, s:n}", "hostname", api_json_text(h->hostname), "fqdn",
	    api_json_text_or_null(qualified ? h->hostname : ""), "machineID", api_json_text_or_null(h->machine_id),
	    "awsInstanceID", "vmWareUuid");
}

static json_t *
json_properties(const struct source_status *s)
{
	const struct message_hints *h = &s->hints;

	return json_pack("{s:o, s:o, s:o, s:[{s:i, s:n}], s:o, s:{s:o}, s:o, s:n, s:o}", "identificationHints",
	    json_identification(h), "networkInterfaces", json_interfaces(h), "disks", json_disks(s), "cpus", "cores",
	    (int)h->cpus, "modelName", "ramBytes", api_json_bytes(h->ram_bytes), "os", "fullString",
	    api_json_text_or_null(h->os), "kernel", api_json_text_or_null(h->kernel), "recommendedInstanceType",
	    "lastUpdatedDateTime", api_json_time(s->last_seen_ns));
}

static json_t *
json_elapsed(int64_t since_ns, int64_t now_ns)
{
	char buf[UNITS_TEXT_BYTES];

	return since_ns == 0 ? json_null() : json_string(duration_format_iso(now_ns - since_ns, buf));
}

static json_t *
json_life_cycle(const struct source_status *s, int64_t now_ns)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:n}", "addedToServiceDateTime", api_json_time(s->added_ns),
	    "firstByteDateTime", api_json_time(s->first_byte_ns), "elapsedReplicationDuration",
	    json_elapsed(s->first_byte_ns, now_ns), "lastSeenByServiceDateTime",
	    api_json_time(s->last_seen_ns), "lastLaunch");
}

static const char *
volume_state_name(enum volume_state state)
{
	switch (state) {
	case VOLUME_OK: return "OK";
	case VOLUME_IDENTITY_MISSING: return "IDENTITY_MISSING";
	case VOLUME_IDENTITY_AMBIGUOUS: return "IDENTITY_AMBIGUOUS";
	case VOLUME_SHRUNK: return "SHRUNK";
	case VOLUME_UNREADABLE: return "UNREADABLE";
	case VOLUME_REFUSED: return "REFUSED";
	}
	return "UNKNOWN"; /* 0: not declared since the start */
}

json_t *
api_json_volume(const struct source_status *s, const struct volume_status *v)
{
	return json_pack("{s:s, s:s, s:i, s:o, s:o, s:o, s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "volumeID",
	    v->id.text, "sourceServerID", s->id.text, "volumeNumber", (int)v->volume, "name", api_json_text(v->name),
	    "identity", api_json_text(v->identity), "deviceName", api_json_text(v->device_name), "volumeStatus",
	    v->retired ? "RETIRED" : "REGULAR", "volumeState", volume_state_name(v->state), "isBootDisk", v->boot_disk,
	    "totalStorageBytes", api_json_bytes(v->total_bytes), "replicatedStorageBytes",
	    api_json_bytes(v->replicated_bytes), "rescannedStorageBytes", api_json_bytes(v->rescanned_bytes),
	    "backloggedStorageBytes", s->backlog_unsplit ? json_null() : api_json_bytes(v->backlogged_bytes),
	    "provedEqualDateTime", api_json_time(v->equal_ns), "verificationDifferingBytes",
	    v->proof_asked ? api_json_bytes(v->differing_bytes) : json_null());
}

static json_t *
json_replicated_disks(const struct source_status *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->volume_count; i++)
		json_array_append_new(list, api_json_volume(s, &s->volumes[i]));
	return list;
}

/* DRS's checklist. The steps that make machines and networks do not exist on one box; their names
 * stay for tools that look for them. */
enum step { STEP_NONE_HERE, STEP_NOTHING_TO_DO, STEP_SEEN, STEP_DISKS, STEP_DATA };

static const struct {
	const char *name;
	enum step step; /* what must have happened for it to be done */
} steps[] = {
    {"WAIT", STEP_NOTHING_TO_DO},
    {"CREATE_SECURITY_GROUP", STEP_NONE_HERE},
    {"LAUNCH_REPLICATION_SERVER", STEP_NONE_HERE},
    {"BOOT_REPLICATION_SERVER", STEP_NONE_HERE},
    {"AUTHENTICATE_WITH_SERVICE", STEP_SEEN},
    {"DOWNLOAD_REPLICATION_SOFTWARE", STEP_NONE_HERE},
    {"CREATE_STAGING_DISKS", STEP_DISKS},
    {"ATTACH_STAGING_DISKS", STEP_DISKS},
    {"PAIR_REPLICATION_SERVER_WITH_AGENT", STEP_SEEN},
    {"CONNECT_AGENT_TO_REPLICATION_SERVER", STEP_SEEN},
    {"START_DATA_TRANSFER", STEP_DATA},
};

static bool
step_is_done(const struct source_status *s, enum step step)
{
	switch (step) {
	case STEP_NONE_HERE:
	case STEP_NOTHING_TO_DO: return true;
	case STEP_SEEN: return s->last_seen_ns != 0 || s->connected;
	case STEP_DISKS: return s->volume_count > 0;
	case STEP_DATA: return s->first_byte_ns != 0;
	}
	return false;
}

/* FAILED_TO_X crosses step X out, whenever it happens: a stall shows the checklist again. */
static bool
step_has_failed(const struct source_status *s, const char *name)
{
	const char *error = state_drs_error(s->error);

	return strncmp(error, "FAILED_TO_", 10) == 0 && strcmp(error + 10, name) == 0;
}

static json_t *
json_steps(const struct source_status *s)
{
	json_t *list = json_array();
	bool under_way = s->connected; /* the first step that is not done is */

	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		const char *status = "SUCCEEDED";

		if (steps[i].step == STEP_NONE_HERE) {
			status = "SKIPPED";
		} else if (step_has_failed(s, steps[i].name)) {
			status = "FAILED";
			under_way = false;
		} else if (!step_is_done(s, steps[i].step)) {
			status = under_way ? "IN_PROGRESS" : "NOT_STARTED";
			under_way = false;
		}
		json_array_append_new(list, json_pack("{s:s, s:s}", "name", steps[i].name, "status", status));
	}
	return list;
}

static json_t *
json_initiation(const struct source_status *s)
{
	return json_pack("{s:o, s:o, s:o}", "startDateTime", api_json_time(s->added_ns), "nextAttemptDateTime",
	    api_json_time(s->next_attempt_ns), "steps", json_steps(s));
}

static json_t *
json_error(const struct source_status *s)
{
	if (s->error[0] == '\0')
		return json_null();
	return json_pack("{s:s, s:o, s:s, s:o}", "error", state_drs_error(s->error), "rawError",
	    api_json_text(s->raw_error), "code", s->error, "cure", api_json_text_or_null(s->cure));
}

static json_t *
json_lag_duration(const struct source_status *s, int64_t now_ns)
{
	char buf[UNITS_TEXT_BYTES];
	double seconds = status_lag_seconds(s->consistent_at_ns, now_ns);

	return seconds < 0 ? json_null() : json_string(duration_format_iso((int64_t)(seconds * 1e9), buf));
}

/* So long from now; null: not known, or nothing is left. */
static json_t *
api_json_after(int64_t now_ns, int64_t ns)
{
	return ns <= 0 ? json_null() : api_json_time(now_ns + ns);
}

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
json_replication_info(const struct source_status *s, int64_t now_ns)
{
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "dataReplicationState",
	    replication_state_name(s->state), "stateReason", api_json_text(s->state_reason), "stateSinceDateTime",
	    api_json_time(s->state_since_ns), "cure", api_json_text_or_null(s->cure), "lagDuration",
	    json_lag_duration(s, now_ns), "etaDateTime", api_json_after(now_ns, s->catch_up.latest_ns),
	    "replicatedDisks", json_replicated_disks(s), "dataReplicationError", json_error(s),
	    "dataReplicationInitiation", json_initiation(s));
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
json_tags(const struct source_status *s)
{
	json_t *tags = s->tags[0] != '\0' ? json_loads(s->tags, 0, NULL) : NULL;

	return tags != NULL ? tags : json_object();
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

static const char *
activity_name(enum activity a)
{
	switch (a) {
	case ACTIVITY_FILL: return "FILL";
	case ACTIVITY_RESCAN: return "RESCAN";
	case ACTIVITY_PASS: return "PASS";
	case ACTIVITY_IDLE: return "IDLE";
	}
	return NULL; /* 0: not reported; null in JSON */
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

/* What DRS has: of all that is null or constant there is none on one's own server. */
static json_t *
api_json_drs_source(const struct source_status *s, int64_t now_ns)
{
	return json_pack("{s:s, s:s+, s:o, s:o, s:o, s:o, s:s, s:s, s:n, s:n, s:n, s:{s:s, s:n, s:n, s:n}}",
	    "sourceServerID", s->id.text, "arn", "arn:holdfast:drs:local:000000000000:source-server/", s->id.text,
	    "tags", json_tags(s), "sourceProperties", json_properties(s), "lifeCycle", json_life_cycle(s, now_ns),
	    "dataReplicationInfo", json_replication_info(s, now_ns), "lastLaunchResult", "NOT_STARTED",
	    "replicationDirection", "FAILOVER", "recoveryInstanceId", "reversedDirectionSourceServerArn",
	    "sourceCloudProperties", "stagingArea", "status", "NOT_EXTENDED", "errorMessage", "stagingAccountID",
	    "stagingSourceServerArn");
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

static json_t *
json_states(const struct fleet *f)
{
	json_t *states = json_object();

	for (int i = STATE_STOPPED; i <= STATE_DISCONNECTED; i++)
		json_object_set_new(
		    states, replication_state_name((enum replication_state)i), json_integer(f->states[i]));
	return states;
}

static json_t *
json_worst_lag(const struct fleet *f)
{
	if (f->worst_lag_seconds < 0)
		return json_null();
	return json_pack("{s:s, s:o, s:o}", "sourceServerID", f->worst.text, "hostname", api_json_text(f->worst_name),
	    "consistentSeconds", api_json_seconds(f->worst_lag_seconds));
}

json_t *
api_json_fleet(const struct fleet *f)
{
	return json_pack("{s:i, s:i, s:i, s:i, s:o, s:o, s:o, s:o}", "sourceServers", (int)f->sources, "ready",
	    (int)f->ready, "notReady", (int)(f->sources - f->ready), "connected", (int)f->connected, "states",
	    json_states(f), "worstLag", json_worst_lag(f), "backlogBytes", api_json_bytes(f->backlog_bytes),
	    "bytesPerSecond10s", api_json_bytes(f->rate_10s));
}

/* ---- points, tokens, events ---- */

static const struct volume_status *
find_volume(const struct source_status *s, uint32_t volume)
{
	for (size_t i = 0; s != NULL && i < s->volume_count + s->retired_count; i++)
		if (s->volumes[i].volume == volume)
			return &s->volumes[i];
	return NULL;
}

static json_t *
json_pit_volumes(const struct checkpoint *c, const struct source_status *s)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < c->volume_count; i++) {
		const struct volume_status *v = find_volume(s, c->volumes[i].volume);

		json_array_append_new(
		    list, json_pack("{s:i, s:s?, s:o, s:o}", "volumeNumber", (int)c->volumes[i].volume, "volumeID",
			      v == NULL ? NULL : v->id.text, "name", v == NULL ? json_null() : api_json_text(v->name),
			      "sizeBytes", api_json_bytes(c->volumes[i].size_bytes)));
	}
	return list;
}

static json_t *
json_rule_ids(uint32_t rules, const struct policy *policy)
{
	json_t *list = json_array();

	for (size_t i = 0; i < PIT_RULES_MAX; i++)
		if (rules & 1u << i)
			json_array_append_new(list,
			    json_integer(policy != NULL && i < policy->rule_count ? (json_int_t)policy->rules[i].rule_id
										  : (json_int_t)i + 1));
	return list;
}

/* By minRetention, still. null: how long the source has run is not at hand. */
static json_t *
json_guarded(const struct pit *pit, const struct source_status *status)
{
	return status != NULL ? json_boolean(status->retention.running_ns < pit->guarded_ns) : json_null();
}

json_t *
api_json_pit(const struct id *source, const struct pit *pit, const struct source_status *status)
{
	return json_pack(
	    "{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:b, s:b, s:o, s:b, s:o, s:b, s:b, s:o, s:o, s:o, s:o}",
	    "pointInTimeID", pit->id.text, "sourceServerID", source->text, "timestamp", api_json_time(pit->time_ns),
	    "unchangedSince", api_json_time(pit_since_ns(pit)), "expectedTimestamp", api_json_time(pit->planned_ns),
	    "name", api_json_text_or_null(pit->name), "lsn", api_json_lsn(pit->lsn), "consistency",
	    checkpoint_consistency_name(pit->consistency), "complete", pit->complete, "verified", pit->verified_ns != 0,
	    "lastVerified", api_json_time(pit->verified_ns), "held", pit->held, "guarded", json_guarded(pit, status),
	    "byHand", pit->by_hand, "kept", pit->kept, "ruleIDs",
	    json_rule_ids(pit->rules, status != NULL ? &status->policy : NULL), "volumes",
	    json_pit_volumes(&pit->checkpoint, status), "uniqueBytes",
	    pit->accounted ? api_json_bytes(pit->unique_bytes) : json_null(), "freedBytesIfDeleted",
	    pit->accounted ? api_json_bytes(pit->freed_bytes) : json_null());
}

static const char *
token_state(const struct registry_token *t, int64_t now_ns)
{
	if (t->used_ns != 0)
		return "USED";
	if (t->revoked)
		return "REVOKED";
	return t->expires_ns <= now_ns ? "EXPIRED" : "OPEN";
}

json_t *
api_json_token(const struct registry_token *t, int64_t now_ns)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "tokenID", t->id.text, "state", token_state(t, now_ns),
	    "createdDateTime", api_json_time(t->created_ns), "expiresDateTime", api_json_time(t->expires_ns),
	    "usedDateTime", api_json_time(t->used_ns), "sourceServerID", api_json_text_or_null(t->source.text));
}

/* ---- certificates ---- */

static const char *
expiry_name(int64_t not_before_ns, int64_t not_after_ns, int64_t now_ns)
{
	static const char *const names[] = {
	    [EXPIRY_FAR] = "VALID", [EXPIRY_NEAR] = "EXPIRING", [EXPIRY_OVER] = "EXPIRED"};

	return names[expiry_of(not_before_ns, not_after_ns, now_ns, NULL)];
}

static json_t *
certificate_json(
    const char *role, const char *source, const char *state, const struct pki_certificate *c, int64_t now_ns)
{
	return json_pack("{s:s, s:o, s:s, s:s, s:o, s:s, s:o, s:o, s:o, s:o}", "role", role, "sourceServerID",
	    api_json_text_or_null(source), "subject", c->subject, "state", state, "serialNumber",
	    api_json_text_or_null(c->serial), "fingerprint", c->fingerprint, "issuerFingerprint",
	    api_json_text_or_null(c->issuer), "notBeforeDateTime", api_json_time(c->not_before_ns), "notAfterDateTime",
	    api_json_time(c->not_after_ns), "daysLeft",
	    json_real((double)(c->not_after_ns - now_ns) / (86400.0 * NS_PER_SECOND)));
}

json_t *
api_json_certificate(const struct registry_certificate *c, bool replaced, int64_t now_ns)
{
	struct pki_certificate shown = {.not_before_ns = c->not_before_ns, .not_after_ns = c->not_after_ns};
	const char *state = expiry_name(c->not_before_ns, c->not_after_ns, now_ns);

	hex_format(c->fingerprint, FINGERPRINT_BYTES, shown.fingerprint);
	memcpy(shown.subject, c->source.text, sizeof c->source.text);
	memcpy(shown.serial, c->serial, sizeof shown.serial);
	memcpy(shown.issuer, c->issuer, sizeof shown.issuer);
	if (c->revoked)
		state = "REVOKED";
	else if (replaced && c->not_after_ns > now_ns)
		state = "REPLACED";
	return certificate_json("AGENT", c->source.text, state, &shown, now_ns);
}

json_t *
api_json_own_certificate(enum pki_role role, const struct pki_certificate *c, int64_t now_ns)
{
	static const char *const names[PKI_ROLES] = {
	    [PKI_CA] = "CA", [PKI_NEXT_CA] = "NEXT_CA", [PKI_SERVER] = "SERVER"};

	return certificate_json(names[role], "", expiry_name(c->not_before_ns, c->not_after_ns, now_ns), c, now_ns);
}

/* What DRS would send to EventBridge, beside each point taken; it has no more that we have something like. */
static const struct {
	const char *event, *detail_type, *state;
} drs_events[] = {
    {"stalled", "DRS Source Server Data Replication Stalled Change", "STALLED"},
    {"stall_ended", "DRS Source Server Data Replication Stalled Change", "NOT_STALLED"},
};

static json_t *
json_drs_event(const char *event)
{
	for (size_t i = 0; i < sizeof drs_events / sizeof drs_events[0]; i++)
		if (strcmp(drs_events[i].event, event) == 0)
			return json_pack("{s:s, s:{s:s}}", "detail-type", drs_events[i].detail_type, "detail", "state",
			    drs_events[i].state);
	return json_null();
}

json_t *
api_json_event(const struct registry_event *e)
{
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "type", "event", "number", api_json_bytes(e->number),
	    "dateTime", api_json_time(e->time_ns), "sourceServerID", api_json_text_or_null(e->source.text), "event",
	    api_json_text(e->event), "text", api_json_text(e->text), "drs", json_drs_event(e->event));
}

json_t *
api_json_point_taken(const struct id *source, const struct pit *pit, int64_t now_ns)
{
	char time[UNITS_TEXT_BYTES], text[SENTENCE_BYTES];

	snprintf(text, sizeof text, "point %s of %s is kept: %s", pit->id.text, time_format(pit->time_ns, time),
	    pit->by_hand ? "it was asked for" : "by its policy");
	return json_pack("{s:s, s:n, s:o, s:s, s:s, s:o, s:{s:s, s:{s:s}}}", "type", "event", "number", "dateTime",
	    api_json_time(now_ns), "sourceServerID", source->text, "event", "point_taken", "text", api_json_text(text),
	    "drs", "detail-type", "DRS PIT Snapshot Taken", "detail", "DrsSnapshotID", pit->id.text);
}

char *
api_json_line(json_t *json)
{
	char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
	size_t len = text == NULL ? 0 : strlen(text);
	char *line = text == NULL ? NULL : realloc(text, len + 2);

	json_decref(json);
	if (line == NULL) {
		free(text);
		return NULL;
	}
	memcpy(line + len, "\n", 2);
	return line;
}

/* ---- audit ---- */

static json_t *
json_digest(const unsigned char *digest)
{
	char text[2 * AUDIT_DIGEST_BYTES + 1];

	hex_format(digest, AUDIT_DIGEST_BYTES, text);
	return json_string(text);
}

json_t *
api_json_audit(const struct registry_audit *a)
{
	json_t *request = a->request != 0 ? json_sprintf("%016" PRIx64, a->request) : json_null();

	return json_pack("{s:o, s:o, s:I, s:i, s:s, s:o, s:o, s:o, s:o}", "number", api_json_bytes(a->number),
	    "dateTime", api_json_time(a->time_ns), "uid", (json_int_t)a->uid, "pid", a->pid, "verb", a->verb, "object",
	    api_json_text(a->object), "requestID", request, "result", api_json_text_or_null(a->result), "digest",
	    a->chained ? json_digest(a->digest) : json_null());
}

json_t *
api_json_audit_report(const struct audit_report *report)
{
	json_t *faults = json_array();

	for (uint64_t i = 0; i < report->fault_count && i < AUDIT_FAULTS_MAX; i++)
		json_array_append_new(
		    faults, json_pack("{s:o, s:s}", "number", api_json_bytes(report->faults[i].number), "text",
				report->faults[i].text));
	return json_pack("{s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "intact", report->fault_count == 0, "rows",
	    api_json_bytes(report->rows), "unchainedRows", api_json_bytes(report->unchained), "newestNumber",
	    api_json_bytes(report->newest), "newestDigest", json_digest(report->newest_digest), "faultCount",
	    api_json_bytes(report->fault_count), "faults", faults);
}

/* ---- refusals ---- */

int
api_http_status(int code)
{
	switch (-code) {
	case EINVAL:
	case HF_ETOOBIG:
	case HF_EFRONTIER: return 400;
	case EPERM:
	case EACCES: return 403;
	case ENOENT:
	case HF_ENOPIT:
	case HF_EVOLUME: return 404;
	case EOPNOTSUPP: return 405;
	case EALREADY:
	case EBUSY:
	case EEXIST:
	case ENOTCONN:
	case HF_EINCOMPLETE:
	case HF_EIDENTITY:
	case HF_ESTOPPED: return 409;
	case EAGAIN:
	case HF_ESHUTDOWN:
	case ECANCELED: return 503;
	case ETIMEDOUT: return 504;
	case EDQUOT:
	case ENOSPC:
	case HF_EFULL: return 507;
	default: return 500;
	}
}

json_t *
api_json_problem(int http_status, int code, const char *detail, const char *hint)
{
	return json_pack("{s:i, s:s, s:o, s:s, s:o}", "status", http_status, "title", hf_status_text(code), "detail",
	    api_json_text(detail), "code", hf_status_name(code), "hint",
	    api_json_text_or_null(hint == NULL ? "" : hint));
}
