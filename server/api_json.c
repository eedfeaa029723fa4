/* SPDX-License-Identifier: Apache-2.0 */
#include "server/api_json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/hex.h"
#include "proto/common/status.h"
#include "proto/common/text.h"
#include "proto/common/units.h"
#include "server/api_json_impl.h"
#include "server/expiry.h"

/* ---- small values ---- */

json_t *
api_json_text(const char *text)
{
	char *plain = text_copy(text);
	json_t *value = json_string(plain);

	free(plain);
	return value;
}

json_t *
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

json_t *
api_json_bytes(uint64_t bytes)
{
	return json_integer(bytes < INT64_MAX ? (json_int_t)bytes : INT64_MAX); /* an agent may say what it likes */
}

json_t *
api_json_lsn(uint64_t lsn)
{
	char buf[24];

	snprintf(buf, sizeof buf, "%" PRIu64, lsn);
	return json_string(buf);
}

/* Seconds with three decimals are all anybody measures; more digits only make diffs. */
json_t *
api_json_seconds(double seconds)
{
	return seconds < 0 ? json_null() : json_real((double)(int64_t)(seconds * 1000 + 0.5) / 1000);
}

json_t *
api_json_after(int64_t now_ns, int64_t ns)
{
	return ns <= 0 ? json_null() : api_json_time(now_ns + ns);
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

static const char *
say_silence(const struct server_facts *facts, char *buf, size_t size)
{
	char since[UNITS_TEXT_BYTES];

	snprintf(buf, size, "thread %s of holdfastd has not gone on since %s", facts->silent_thread,
	    time_format(facts->silent_since_ns, since));
	return buf;
}

static json_t *
json_silence(const struct server_facts *facts)
{
	char text[SENTENCE_BYTES];

	if (facts->silent_thread == NULL)
		return json_null();
	return json_pack("{s:s, s:o, s:s, s:s}", "name", facts->silent_thread, "silentSinceDateTime",
	    api_json_time(facts->silent_since_ns), "text", say_silence(facts, text, sizeof text), "cure",
	    "systemctl restart holdfastd; before it, dmesg tells whether a disk does not answer");
}

json_t *
api_json_version(const struct server_facts *facts)
{
	return json_pack("{s:s, s:i, s:s, s:s, s:i, s:o, s:o, s:s, s:s, s:s, s:b, s:i, s:o, s:o, s:o, s:o, s:o, s:o}",
	    "program", "holdfastd", "processID", facts->pid, "version", facts->version, "apiVersion", "v1",
	    "protocolVersion", PROTOCOL_VERSION, "startedDateTime", api_json_time(facts->started_ns), "dataDirectory",
	    api_json_text(facts->data_dir), "listen", facts->listen, "enrollListen", facts->enroll_listen,
	    "caFingerprint", facts->ca_fingerprint, "draining", facts->draining, "workers", (int)facts->workers,
	    "stagingArea", json_staging_area(facts), "journalArea", json_area(&facts->areas[AREA_JOURNAL]),
	    "rowsWaiting", api_json_bytes(facts->rows_waiting), "restartRequired",
	    api_json_keys(facts->restart_required), "identityBackup", json_backup(&facts->backup), "silentThread",
	    json_silence(facts));
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
	char text[SENTENCE_BYTES];

	if (facts->draining)
		add_reason(reasons, "DRAINING", "the server is shutting down", "");
	if (facts->silent_thread != NULL)
		add_reason(reasons, "THREAD_SILENT", say_silence(facts, text, sizeof text), "");
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

/* ---- all sources together ---- */

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

/* The one that was read back last is, even if it has no row that says so. */
static int64_t
verified_ns(const struct pit *pit, const struct source_status *status)
{
	if (pit->verified_ns != 0 || status == NULL || strcmp(pit->id.text, status->verified_pit.text) != 0)
		return pit->verified_ns;
	return status->verified_ns;
}

json_t *
api_json_pit(const struct id *source, const struct pit *pit, const struct source_status *status)
{
	return json_pack(
	    "{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:b, s:b, s:o, s:b, s:o, s:b, s:b, s:o, s:o, s:o, s:o}",
	    "pointInTimeID", pit->id.text, "sourceServerID", source->text, "timestamp", api_json_time(pit->time_ns),
	    "unchangedSince", api_json_time(pit_since_ns(pit)), "expectedTimestamp", api_json_time(pit->planned_ns),
	    "name", api_json_text_or_null(pit->name), "lsn", api_json_lsn(pit->lsn), "consistency",
	    checkpoint_consistency_name(pit->consistency), "complete", pit->complete, "verified",
	    verified_ns(pit, status) != 0, "lastVerified", api_json_time(verified_ns(pit, status)), "held", pit->held,
	    "guarded", json_guarded(pit, status), "byHand", pit->by_hand, "kept", pit->kept, "ruleIDs",
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
	case ENOSYS:
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
