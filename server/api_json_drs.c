/* SPDX-License-Identifier: Apache-2.0 */
/* A source as DRS describes it. What AWS alone has is null, or a constant. */
#include "server/api_json.h"

#include <string.h>

#include "proto/common/units.h"
#include "server/api_json_impl.h"
#include "server/state.h"

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
	    json_elapsed(s->first_byte_ns, now_ns), "lastSeenByServiceDateTime", api_json_time(s->last_seen_ns),
	    "lastLaunch");
}

json_t *
api_json_volume(const struct source_status *s, const struct volume_status *v)
{
	const char *state = volume_state_name(v->state); /* NULL: not declared since the start */

	return json_pack("{s:s, s:s, s:i, s:o, s:o, s:o, s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "volumeID",
	    v->id.text, "sourceServerID", s->id.text, "volumeNumber", (int)v->volume, "name", api_json_text(v->name),
	    "identity", api_json_text(v->identity), "deviceName", api_json_text(v->device_name), "volumeStatus",
	    v->retired ? "RETIRED" : "REGULAR", "volumeState", state != NULL ? state : "UNKNOWN", "isBootDisk",
	    v->boot_disk, "totalStorageBytes", api_json_bytes(v->total_bytes), "replicatedStorageBytes",
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
json_tags(const struct source_status *s)
{
	json_t *tags = s->tags[0] != '\0' ? json_loads(s->tags, 0, NULL) : NULL;

	return tags != NULL ? tags : json_object();
}

/* What DRS has: of all that is null or constant there is none on one's own server. */
json_t *
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
