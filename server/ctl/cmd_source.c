/* SPDX-License-Identifier: Apache-2.0 */
/* source ..., volume list. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"
#include "server/ctl/change.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"
#include "server/ctl/waiting.h"
#include "server/settings.h"

/* ---- source list ---- */

static const struct table_column source_columns[] = {
    {"id", "SOURCE", false, false, 7},
    {"name", "NAME", false, true, 0},
    {"address", "ADDRESS", false, true, 5},
    {"state", "STATE", false, false, 0},
    {"volumes", "VOLUMES", true, false, 0},
    {"size", "SIZE", true, false, 0},
    {"added", "ADDED", false, false, 4},
    {"seen", "LAST SEEN", false, false, 0},
    {"expires", "CERTIFICATE EXPIRES", false, false, COLUMN_EXTRA},
    {"os", "OS", false, true, COLUMN_EXTRA},
    {"agent", "AGENT", false, false, 6},
};

static void
add_source(struct table *t, const json_t *source, int64_t now_ns)
{
	const json_t *disks = pick(source, "dataReplicationInfo.replicatedDisks");
	char text[UNITS_TEXT_BYTES], exact[32];
	int64_t total = 0;
	json_t *disk;
	size_t i;

	json_array_foreach (disks, i, disk) {
		total += pick_integer(disk, "totalStorageBytes");
	}
	table_add_row(t);
	cell_text(t, "id", source, "sourceServerID");
	cell_text(t, "name", source, "sourceProperties.identificationHints.hostname");
	cell_text(t, "address", source, "agent.address");
	cell_state(t, "state", source);
	snprintf(text, sizeof text, "%zu", json_array_size(disks));
	table_set(t, "volumes", text, NULL, MOOD_PLAIN);
	snprintf(exact, sizeof exact, "%" PRId64, total);
	table_set(t, "size", size_format((uint64_t)total, text), exact, MOOD_PLAIN);
	cell_relative(t, "added", source, "lifeCycle.addedToServiceDateTime", now_ns);
	cell_relative(t, "seen", source, "lifeCycle.lastSeenByServiceDateTime", now_ns);
	cell_relative(t, "expires", source, "agent.certificateExpiresDateTime", now_ns);
	cell_text(t, "os", source, "sourceProperties.os.fullString");
	cell_text(t, "agent", source, "agent.version");
}

int
run_source_list(struct ctl *ctl)
{
	json_t *sources;
	int code = find_sources(ctl, &sources);

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(json_pack("{s:o}", "items", sources));
	code =
	    print_sources(ctl, sources, source_columns, sizeof source_columns / sizeof source_columns[0], add_source);
	json_decref(sources);
	return code;
}

/* ---- source show ---- */

static void
show(const char *label, const char *text)
{
	print_sentence(20, "  %-18s%s", label, text[0] == '\0' ? "-" : text);
}

static void
show_text(const char *label, const json_t *source, const char *path)
{
	show(label, pick_text(source, path));
}

static void
show_time(const char *label, const json_t *source, const char *path, int64_t now_ns)
{
	char relative[UNITS_TEXT_BYTES + 8], text[160];

	format_relative(pick_time_ns(source, path), now_ns, relative, sizeof relative);
	snprintf(text, sizeof text, "%s%s%s%s", relative, pick(source, path) != NULL ? " (" : "",
	    pick_text(source, path), pick(source, path) != NULL ? ")" : "");
	show(label, text);
}

static void
show_lag(const char *label, const json_t *source, const char *path)
{
	const json_t *lag = pick(source, path);
	char text[UNITS_TEXT_BYTES];

	show(
	    label, lag == NULL ? "no such moment yet" : duration_format((int64_t)(json_number_value(lag) * 1e9), text));
}

static void
show_bytes(const char *label, const json_t *source, const char *path)
{
	char text[UNITS_TEXT_BYTES];

	show(label, size_format((uint64_t)pick_integer(source, path), text));
}

static void
show_reasons(const json_t *source)
{
	json_t *reason;
	size_t i;

	show("ready", pick_bool(source, "ready") ? "yes" : "no");
	json_array_foreach (pick(source, "reasons"), i, reason) {
		show("  because", pick_text(reason, "text"));
		if (pick(reason, "cure") != NULL)
			show("  cure", pick_text(reason, "cure"));
	}
}

static void
show_error(const json_t *source)
{
	const json_t *error = pick(source, "dataReplicationInfo.dataReplicationError");

	if (error == NULL)
		return;
	show_text("error", error, "code");
	show_text("  because", error, "rawError");
}

/* Until holdfastd is started again. */
static void
show_repair(const json_t *source)
{
	const json_t *repair = pick(source, "catalogRepair");

	if (repair != NULL)
		show_text("catalog repaired", repair, "text");
}

static const char *
short_unit(const char *units)
{
	return strcmp(units, "MINUTE") == 0 ? "min"
	       : strcmp(units, "HOUR") == 0 ? "h"
	       : strcmp(units, "DAY") == 0  ? "d"
					    : units;
}

static void
show_policy(const json_t *source)
{
	char text[128];
	json_t *rule;
	size_t i;

	json_array_foreach (pick(source, "pitPolicy"), i, rule) {
		const char *units = short_unit(pick_text(rule, "units"));

		snprintf(text, sizeof text, "every %" PRId64 " %s for %" PRId64 " %s%s", pick_integer(rule, "interval"),
		    units, pick_integer(rule, "retentionDuration"), units, pick_bool(rule, "enabled") ? "" : " (off)");
		show(i == 0 ? "points kept" : "", text);
	}
	snprintf(text, sizeof text, "every checkpoint for %s",
	    duration_format(
		(int64_t)(json_number_value(pick(source, "journalWindowSeconds")) * 1e9), (char[UNITS_TEXT_BYTES]){0}));
	show("", text);
	if (json_number_value(pick(source, "retention.minRetentionSeconds")) > 0) {
		snprintf(text, sizeof text, "none goes that is younger than %s",
		    duration_format((int64_t)(json_number_value(pick(source, "retention.minRetentionSeconds")) * 1e9),
			(char[UNITS_TEXT_BYTES]){0}));
		show("", text);
	}
}

static void
show_retention(const json_t *source, int64_t now_ns)
{
	char text[96];

	if (!pick_bool(source, "retention.stopped"))
		return;
	show("retention", pick_bool(source, "retention.clocksDisagree") ? "stopped: the clock of the server jumped"
									: "frozen: nothing expires");
	if (pick(source, "retention.frozenSinceDateTime") != NULL)
		show_time("  since", source, "retention.frozenSinceDateTime", now_ns);
	snprintf(text, sizeof text, "holdfastctl retention thaw %s", pick_text(source, "sourceServerID"));
	show("  to end it", text);
}

/* What it takes of the staging area; and whether there is so little room that something goes. */
static void
show_space(const json_t *source)
{
	const json_t *quota = pick(source, "space.quotaBytes");
	char used[UNITS_TEXT_BYTES], most[UNITS_TEXT_BYTES], text[160];

	snprintf(text, sizeof text, "%s%s%s; when there is no room: %s",
	    size_format((uint64_t)pick_integer(source, "space.usage.totalBytes"), used),
	    quota != NULL ? " of " : ", no quota",
	    quota != NULL ? size_format((uint64_t)json_integer_value(quota), most) : "",
	    pick_text(source, "space.whenFull"));
	show("takes", text);
	if (json_number_value(pick(source, "space.journalWindowSeconds")) <
	    json_number_value(pick(source, "journalWindowSeconds")))
		show("  short of room", "not every checkpoint of the journal window can be kept");
}

static void
show_rot(const json_t *source, int64_t now_ns)
{
	char text[160];

	show_time("last scrub", source, "scrub.lastCompletedDateTime", now_ns);
	if (strcmp(pick_text(source, "scrub.state"), "RUNNING") == 0) {
		snprintf(text, sizeof text, "%.1f %%", json_number_value(pick(source, "scrub.progressPercent")));
		show("  under way", text);
	}
	if (pick_integer(source, "scrub.damagedBlocks") == 0)
		return;
	snprintf(text, sizeof text, "%" PRId64 " of its blocks, %" PRId64 " of its points: holdfastctl scrub status",
	    pick_integer(source, "scrub.damagedBlocks"), pick_integer(source, "scrub.pointsDamaged"));
	show("  damaged", text);
}

static const struct table_column show_volume_columns[] = {
    {"name", "  VOLUME", false, true, 0},
    {"device", "DEVICE", false, true, 5},
    {"size", "SIZE", true, false, 0},
    {"replicated", "REPLICATED", true, false, 0},
    {"backlog", "BACKLOG", true, false, 0},
    {"state", "STATE", false, false, 0},
    {"equal", "PROVED EQUAL", false, false, 0},
    {"id", "ID", false, false, 7},
};

static int
show_volumes(const struct ctl *ctl, const json_t *source, int64_t now_ns)
{
	struct table *t = table_create(show_volume_columns, sizeof show_volume_columns / sizeof show_volume_columns[0]);
	json_t *disk;
	size_t i;

	json_array_foreach (pick(source, "dataReplicationInfo.replicatedDisks"), i, disk) {
		char name[256];

		snprintf(name, sizeof name, "  %s", pick_text(disk, "name"));
		table_add_row(t);
		table_set(t, "name", name, NULL, MOOD_PLAIN);
		cell_text(t, "device", disk, "deviceName");
		cell_bytes(t, "size", disk, "totalStorageBytes");
		cell_bytes(t, "replicated", disk, "replicatedStorageBytes");
		cell_bytes(t, "backlog", disk, "backloggedStorageBytes");
		cell_text(t, "state", disk, "volumeState");
		cell_relative(t, "equal", disk, "provedEqualDateTime", now_ns);
		cell_text(t, "id", disk, "volumeID");
	}
	return print_table(ctl, t);
}

/* Both ends of the range, if they are told apart; or that there will be no end. */
static void
show_catch_up(const json_t *source, int64_t now_ns)
{
	int64_t earliest_ns = pick_time_ns(source, "catchUp.earliestDateTime");
	int64_t latest_ns = pick_time_ns(source, "catchUp.latestDateTime");
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES], text[2 * UNITS_TEXT_BYTES + 64];

	if (strcmp(pick_text(source, "catchUp.state"), "NOT_CONVERGING") == 0) {
		snprintf(text, sizeof text, "not converging: %s a second are written, %s arrive",
		    size_format((uint64_t)pick_integer(source, "catchUp.requiredBytesPerSecond"), a),
		    size_format((uint64_t)pick_integer(source, "catchUp.achievedBytesPerSecond"), b));
		show("caught up", text);
	} else if (latest_ns != 0 && latest_ns - earliest_ns > NS_PER_SECOND) {
		snprintf(text, sizeof text, "in %s to %s", duration_format(earliest_ns - now_ns, a),
		    duration_format(latest_ns - now_ns, b));
		show("caught up", text);
	} else if (latest_ns != 0) {
		show_time("caught up", source, "catchUp.latestDateTime", now_ns);
	}
}

static void
show_bottleneck(const json_t *source)
{
	const char *stage = pick_text(source, "bottleneck.stage");
	char text[64];

	if (stage[0] == '\0')
		return;
	snprintf(text, sizeof text, "%s, %.0f %% of the time", stage,
	    100 * json_number_value(json_object_get(pick(source, "bottleneck.shares"), stage)));
	show("  held up by", text);
}

static void
show_verification(const json_t *source)
{
	if (pick(source, "verification") == NULL)
		return;
	show_text("verification", source, "verification.state");
	if (pick(source, "verification.text") != NULL)
		show_text("  result", source, "verification.text");
}

static void
show_new_disks(const json_t *source)
{
	char size[UNITS_TEXT_BYTES], text[512];
	json_t *disk;
	size_t i;

	json_array_foreach (pick(source, "newDisks"), i, disk) {
		snprintf(text, sizeof text,
		    "%s, %s, not replicated; to take it: holdfastctl source set %s auto-replicate-new-disks=on",
		    pick_text(disk, "deviceName"), size_format((uint64_t)pick_integer(disk, "bytes"), size),
		    pick_text(source, "sourceServerID"));
		show("new disk", text);
	}
}

static void
show_throttle(const json_t *source)
{
	int64_t mbps = pick_integer(source, "throttle.bandwidthThrottlingNow");
	char text[96];

	if (json_is_true(pick(source, "throttle.givesWay")))
		show("gives way", "to a source that is late: it may send an eighth of what that one does");
	if (mbps == 0 && json_array_size(pick(source, "throttle.windows")) == 0)
		return;
	snprintf(text, sizeof text, "%" PRId64 " Mbps at this hour; see holdfastctl throttle show", mbps);
	show("throttle", mbps > 0 ? text : "none at this hour; see holdfastctl throttle show");
}

static void
show_settings(const json_t *source)
{
	const char *key;
	json_t *value;
	char text[TAG_KEY_BYTES + TAG_VALUE_BYTES + 2];

	if (pick(source, "rpoTargetSeconds") != NULL)
		show_lag("RPO target", source, "rpoTargetSeconds");
	if (json_is_false(pick(source, "rpoTargetMet")))
		show("  missed", "the newest point is older");
	json_object_foreach(json_object_get(source, "tags"), key, value)
	{
		snprintf(text, sizeof text, "%s=%s", key, json_string_value(value));
		show("tag", text);
	}
}

static void
show_replication(const json_t *source, int64_t now_ns)
{
	show_text("state", source, "dataReplicationInfo.dataReplicationState");
	show_text("  because", source, "dataReplicationInfo.stateReason");
	show_time("  since", source, "dataReplicationInfo.stateSinceDateTime", now_ns);
	show_error(source);
	if (pick(source, "dataReplicationInfo.cure") != NULL)
		show_text("  cure", source, "dataReplicationInfo.cure");
	show_repair(source);
	show_reasons(source);
	if (pick_is_unopened(source))
		show("newest point", "unknown: its data has not been opened since the server was started");
	else
		show_time("newest point", source, "newestPointInTime.timestamp", now_ns);
	show_text("  id", source, "newestPointInTime.pointInTimeID");
	show_time("  last verified", source, "readyEvidence.lastVerifiedDateTime", now_ns);
	show_text("  consistency", source, "newestPointInTime.consistency");
	show_lag("lag (consistent)", source, "lag.consistentSeconds");
	show_lag("lag (durable)", source, "lag.durableSeconds");
	show_lag("lag (received)", source, "lag.receivedSeconds");
	show_bytes("backlog", source, "backlogBytes");
	show_catch_up(source, now_ns);
	show_bytes("rate per second", source, "rates.bytesPerSecond10s");
	show_bottleneck(source);
	show_throttle(source);
	show_bytes("journal", source, "counters.journalBytes");
	show_policy(source);
	show_retention(source, now_ns);
	show_space(source);
	show_rot(source, now_ns);
	show_settings(source);
	show_new_disks(source);
	show_verification(source);
}

/* Lag is corrected by it; less than half a second is what a busy network makes of the same time. */
static void
show_clock(const json_t *source)
{
	double offset = json_number_value(pick(source, "agent.clockOffsetSeconds"));
	double off = offset < 0 ? -offset : offset;
	char by[UNITS_TEXT_BYTES], text[UNITS_TEXT_BYTES + 32];

	snprintf(text, sizeof text, "%s %s ours", duration_format((int64_t)(off * 1e9), by),
	    offset < 0 ? "behind" : "ahead of");
	show("  clock", off < 0.5 ? "as ours" : text);
}

static void
show_machine(const json_t *source, int64_t now_ns)
{
	show_text("host name", source, "sourceProperties.identificationHints.hostname");
	show_text("os", source, "sourceProperties.os.fullString");
	show_text("kernel", source, "sourceProperties.kernel");
	show_text("address", source, "agent.address");
	show_text("agent", source, "agent.version");
	show_text("  doing", source, "agent.activity");
	show_clock(source);
	show_time("added", source, "lifeCycle.addedToServiceDateTime", now_ns);
	show_time("first byte", source, "lifeCycle.firstByteDateTime", now_ns);
	show_time("last seen", source, "lifeCycle.lastSeenByServiceDateTime", now_ns);
	show_time("certificate until", source, "agent.certificateExpiresDateTime", now_ns);
}

int
run_source_show(struct ctl *ctl)
{
	int64_t now_ns = clock_real_ns();
	json_t *source;
	int code = find_source(ctl, ctl->operands[0], &source);

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(source);
	printf("%s\n", pick_text(source, "sourceServerID"));
	show_replication(source, now_ns);
	show_machine(source, now_ns);
	code = show_volumes(ctl, source, now_ns);
	json_decref(source);
	return code;
}

/* ---- source adopt, revoke ---- */

static const char *
host_name(const json_t *source)
{
	return pick_text(source, "sourceProperties.identificationHints.hostname");
}

/* Once warning, what it comes to, is confirmed. */
static int
confirm_change(struct ctl *ctl, const char *verb, const char *warning)
{
	const char *id;
	json_t *source, *answer = NULL;
	int code = find_source(ctl, ctl->operands[0], &source);

	if (code != EXIT_DONE)
		return code;
	id = pick_text(source, "sourceServerID");
	if (!ctl_confirm(ctl, "%s (%s): %s.", id, host_name(source), warning))
		code = EXIT_USAGE;
	else
		code = client_change(ctl->client, "POST", NULL, &answer, "/v1/source-servers/%s/%s", id, verb);
	json_decref(source);
	return code == EXIT_DONE ? print_change(ctl, answer) : code;
}

int
run_source_adopt(struct ctl *ctl)
{
	return confirm_change(
	    ctl, "adopt", "the next machine that connects with its certificate takes its place, once");
}

int
run_source_revoke(struct ctl *ctl)
{
	return confirm_change(
	    ctl, "revoke", "all its certificates are revoked and its session is cut; its points stay");
}

/* ---- source pause, resume, stop, start, delete ---- */

int
run_source_pause(struct ctl *ctl)
{
	return change_source(ctl, "pause", NULL);
}

int
run_source_resume(struct ctl *ctl)
{
	return change_source(ctl, "resume", NULL);
}

int
run_source_stop(struct ctl *ctl)
{
	return confirm_change(ctl, "stop",
	    "its agent is sent away and let in no longer; nothing new arrives until source start; its points stay");
}

int
run_source_start(struct ctl *ctl)
{
	return change_source(ctl, "start", NULL);
}

static int
look_at_rubbish(void *arg, struct ctl *ctl, struct waiting *w)
{
	json_t *version;
	uint64_t left;
	int code = client_get(ctl->client, &version, "/v1/version");

	if (code != EXIT_DONE)
		return code;
	left = (uint64_t)pick_integer(version, "stagingArea.rubbishBytes");
	json_decref(version);
	if (left > w->total_bytes)
		w->total_bytes = left;
	w->done_bytes = w->total_bytes - left;
	w->is_over = left == 0;
	return EXIT_DONE;
}

/* How many points there are. A source whose data is damaged, or gone, cannot say, and can be deleted all the same. */
static int
describe_points(struct ctl *ctl, const json_t *source, char *ret_text, size_t size)
{
	json_t *pits;
	int code = find_pits(ctl, pick_text(source, "sourceServerID"), &pits);

	snprintf(ret_text, size, "all its points in time");
	if (code != EXIT_DONE)
		return code == EXIT_FAILED ? EXIT_DONE : code;
	snprintf(ret_text, size, "%zu point%s in time", json_array_size(pits), json_array_size(pits) == 1 ? "" : "s");
	json_decref(pits);
	return EXIT_DONE;
}

/* What goes with it, in words. */
static int
describe_loss(struct ctl *ctl, const json_t *source, char *ret_text, size_t size)
{
	const json_t *taken = pick(source, "space.usage.totalBytes");
	char bytes[UNITS_TEXT_BYTES], points[64];
	int code = describe_points(ctl, source, points, sizeof points);

	if (code != EXIT_DONE)
		return code;
	snprintf(ret_text, size, "%s and %s on disk go, for ever; its certificates are revoked", points,
	    taken != NULL ? size_format((uint64_t)json_integer_value(taken), bytes) : "what they take");
	return EXIT_DONE;
}

static int
delete_source(struct ctl *ctl, const json_t *source, json_t **ret_answer)
{
	const char *id = pick_text(source, "sourceServerID"), *name = host_name(source);
	char loss[256];
	int code = describe_loss(ctl, source, loss, sizeof loss);

	if (code != EXIT_DONE)
		return code;
	if (!ctl_confirm_name(ctl, name[0] != '\0' ? name : id, "%s (%s): %s.", id, name, loss))
		return EXIT_USAGE;
	return client_change(ctl->client, "DELETE", NULL, ret_answer, "/v1/source-servers/%s", id);
}

int
run_source_delete(struct ctl *ctl)
{
	json_t *source, *answer = NULL;
	int code = find_source(ctl, ctl->operands[0], &source);

	if (code != EXIT_DONE)
		return code;
	code = delete_source(ctl, source, &answer);
	json_decref(source);
	if (code == EXIT_DONE)
		code = print_change(ctl, answer);
	if (code == EXIT_DONE && ctl_given(ctl, OPT_WAIT))
		code = wait_until_over(ctl, "removing files", look_at_rubbish, NULL);
	return code;
}

/* ---- volume list ---- */

static const struct table_column volume_columns[] = {
    {"id", "VOLUME", false, false, 7},
    {"source", "SOURCE", false, false, 6},
    {"host", "HOST", false, true, 0},
    {"name", "NAME", false, true, 0},
    {"device", "DEVICE", false, true, 0},
    {"identity", "IDENTITY", false, true, COLUMN_EXTRA},
    {"state", "STATE", false, false, 0},
    {"size", "SIZE", true, false, 0},
    {"replicated", "REPLICATED", true, false, 0},
    {"rescanned", "RESCANNED", true, false, COLUMN_EXTRA},
    {"backlog", "BACKLOG", true, false, 3},
    {"boot", "BOOT", false, false, COLUMN_EXTRA},
};

/* One that is retired may be deleted; else how its disk is. */
static void
cell_volume_state(struct table *t, const json_t *volume)
{
	const char *state = pick_text(volume, "volumeState"), *status = pick_text(volume, "volumeStatus");

	if (strcmp(status, "RETIRED") == 0)
		table_set(t, "state", status, NULL, MOOD_PLAIN);
	else
		table_set(t, "state", state, NULL, strcmp(state, "OK") == 0 ? MOOD_GOOD : MOOD_BAD);
}

static void
add_volume(struct table *t, const json_t *volume, const json_t *names)
{
	table_add_row(t);
	cell_text(t, "id", volume, "volumeID");
	cell_text(t, "source", volume, "sourceServerID");
	cell_host(t, "host", volume, "sourceServerID", names);
	cell_text(t, "name", volume, "name");
	cell_text(t, "device", volume, "deviceName");
	cell_text(t, "identity", volume, "identity");
	cell_volume_state(t, volume);
	cell_bytes(t, "size", volume, "totalStorageBytes");
	cell_bytes(t, "replicated", volume, "replicatedStorageBytes");
	cell_bytes(t, "rescanned", volume, "rescannedStorageBytes");
	cell_bytes(t, "backlog", volume, "backloggedStorageBytes");
	cell_bool(t, "boot", volume, "isBootDisk");
}

static int
print_volumes(const struct ctl *ctl, const json_t *volumes, const json_t *sources)
{
	struct table *t = table_create(volume_columns, sizeof volume_columns / sizeof volume_columns[0]);
	json_t *names = find_names(sources);
	const json_t *volume;
	size_t i;
	int code;

	if (ctl->operand_count > 0)
		table_hide(t, "host");
	json_array_foreach (volumes, i, volume) {
		add_volume(t, volume, names);
	}
	json_decref(names);
	code = print_table(ctl, t);
	print_if_none(ctl, sources);
	return code;
}

static int
list_volumes(struct ctl *ctl, const json_t *sources, json_t **ret_volumes)
{
	char path[96] = "/v1/volumes?";

	if (ctl->operand_count > 0)
		snprintf(path, sizeof path, "/v1/volumes?sourceServerID=%s",
		    pick_text(json_array_get(sources, 0), "sourceServerID"));
	return client_list(ctl->client, ret_volumes, path);
}

int
run_volume_list(struct ctl *ctl)
{
	json_t *sources = NULL, *volumes = NULL;
	int code = find_named_or_all(ctl, &sources);

	if (code == EXIT_DONE)
		code = list_volumes(ctl, sources, &volumes);
	if (code == EXIT_DONE && ctl_given(ctl, OPT_JSON))
		code = print_json(json_pack("{s:O}", "items", volumes));
	else if (code == EXIT_DONE)
		code = print_volumes(ctl, volumes, sources);
	json_decref(volumes);
	json_decref(sources);
	return code;
}

/* ---- volume delete ---- */

static int
delete_volume(struct ctl *ctl, const json_t *source, json_t **ret_answer)
{
	const char *id = pick_text(source, "sourceServerID"), *volume = ctl->operands[1];
	bool with_points = ctl_given(ctl, OPT_WITH_POINTS);
	char *escaped;
	int code;

	if (!ctl_confirm_name(ctl, volume, "%s (%s): volume %s goes, for ever%s.", id, host_name(source), volume,
		with_points ? ", and with it every point in time that has it" : ""))
		return EXIT_USAGE;
	escaped = client_escape(ctl->client, volume);
	code = client_change(ctl->client, "DELETE", NULL, ret_answer, "/v1/source-servers/%s/volumes/%s%s", id, escaped,
	    with_points ? "?withPoints=1" : "");
	free(escaped);
	return code;
}

int
run_volume_delete(struct ctl *ctl)
{
	json_t *source, *answer = NULL;
	int code = find_source(ctl, ctl->operands[0], &source);

	if (code != EXIT_DONE)
		return code;
	code = delete_volume(ctl, source, &answer);
	json_decref(source);
	return code == EXIT_DONE ? print_change(ctl, answer) : code;
}
