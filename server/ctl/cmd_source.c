/* SPDX-License-Identifier: Apache-2.0 */
/* source ..., volume list. */
#include <inttypes.h>
#include <string.h>

#include "proto/common/units.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"

/* ---- source list ---- */

static const struct table_column source_columns[] = {
    {"id", "SOURCE", false, false, false},
    {"name", "NAME", false, true, false},
    {"address", "ADDRESS", false, true, false},
    {"state", "STATE", false, false, false},
    {"volumes", "VOLUMES", true, false, false},
    {"size", "SIZE", true, false, false},
    {"added", "ADDED", false, false, false},
    {"seen", "LAST SEEN", false, false, false},
    {"expires", "CERTIFICATE EXPIRES", false, false, true},
    {"os", "OS", false, true, true},
    {"agent", "AGENT", false, false, false},
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
	int64_t now_ns = clock_real_ns();
	struct table *t;
	json_t *sources, *source;
	size_t i;
	int code = client_list(ctl->client, &sources, "/v1/source-servers?");

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(json_pack("{s:o}", "items", sources));
	t = table_create(source_columns, sizeof source_columns / sizeof source_columns[0]);
	json_array_foreach (sources, i, source) {
		add_source(t, source, now_ns);
	}
	json_decref(sources);
	return print_table(ctl, t);
}

/* ---- source show ---- */

static void
show(const char *label, const char *text)
{
	struct table_column column = {"text", "", false, false, false};
	struct table_style style = {0};
	struct table *t = table_create(&column, 1);

	printf("  %-18s", label); /* the rest through a table, which makes it harmless to the terminal */
	table_add_row(t);
	table_set(t, "text", text[0] == '\0' ? "-" : text, NULL, MOOD_PLAIN);
	table_print(t, &style, stdout, NULL);
	table_destroy(t);
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
	show_text("error", error, "error");
	show_text("  because", error, "rawError");
	if (pick(error, "cure") != NULL)
		show_text("  cure", error, "cure");
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
}

static const struct table_column show_volume_columns[] = {
    {"name", "  VOLUME", false, false, false},
    {"device", "DEVICE", false, true, false},
    {"size", "SIZE", true, false, false},
    {"replicated", "REPLICATED", true, false, false},
    {"backlog", "BACKLOG", true, false, false},
    {"state", "STATE", false, false, false},
    {"id", "ID", false, false, false},
};

static int
show_volumes(const struct ctl *ctl, const json_t *source)
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
		cell_text(t, "id", disk, "volumeID");
	}
	return print_table(ctl, t);
}

static void
show_replication(const json_t *source, int64_t now_ns)
{
	show_text("state", source, "dataReplicationInfo.dataReplicationState");
	show_text("  because", source, "dataReplicationInfo.stateReason");
	show_time("  since", source, "dataReplicationInfo.stateSinceDateTime", now_ns);
	show_error(source);
	show_reasons(source);
	show_time("newest point", source, "newestPointInTime.timestamp", now_ns);
	show_text("  id", source, "newestPointInTime.pointInTimeID");
	show_text("  consistency", source, "newestPointInTime.consistency");
	show_lag("lag (consistent)", source, "lag.consistentSeconds");
	show_lag("lag (durable)", source, "lag.durableSeconds");
	show_lag("lag (received)", source, "lag.receivedSeconds");
	show_bytes("backlog", source, "backlogBytes");
	show_bytes("rate per second", source, "rates.bytesPerSecond10s");
	show_bytes("journal", source, "counters.journalBytes");
	show_policy(source);
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
	code = show_volumes(ctl, source);
	json_decref(source);
	return code;
}

/* ---- source adopt, revoke ---- */

static int
change_source(struct ctl *ctl, const char *verb, const char *warning)
{
	const char *id;
	json_t *source, *answer;
	int code = find_source(ctl, ctl->operands[0], &source);

	if (code != EXIT_DONE)
		return code;
	id = pick_text(source, "sourceServerID");
	if (!ctl_confirm(
		ctl, "%s (%s): %s.", id, pick_text(source, "sourceProperties.identificationHints.hostname"), warning))
		code = EXIT_USAGE;
	else
		code = client_change(ctl->client, "POST", NULL, &answer, "/v1/source-servers/%s/%s", id, verb);
	json_decref(source);
	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(answer);
	printf("%s: %s\n", pick_text(answer, "sourceServerID"), pick_text(answer, "text"));
	json_decref(answer);
	return EXIT_DONE;
}

int
run_source_adopt(struct ctl *ctl)
{
	return change_source(ctl, "adopt", "the next machine that connects with its certificate takes its place, once");
}

int
run_source_revoke(struct ctl *ctl)
{
	return change_source(ctl, "revoke", "all its certificates are revoked and its session is cut; its points stay");
}

/* ---- volume list ---- */

static const struct table_column volume_columns[] = {
    {"id", "VOLUME", false, false, false},
    {"source", "SOURCE", false, false, false},
    {"name", "NAME", false, true, false},
    {"device", "DEVICE", false, true, false},
    {"identity", "IDENTITY", false, true, true},
    {"state", "STATE", false, false, false},
    {"size", "SIZE", true, false, false},
    {"replicated", "REPLICATED", true, false, false},
    {"rescanned", "RESCANNED", true, false, true},
    {"backlog", "BACKLOG", true, false, false},
    {"boot", "BOOT", false, false, true},
};

static void
add_volume(struct table *t, const json_t *volume)
{
	bool ok = strcmp(pick_text(volume, "volumeState"), "OK") == 0;

	table_add_row(t);
	cell_text(t, "id", volume, "volumeID");
	cell_text(t, "source", volume, "sourceServerID");
	cell_text(t, "name", volume, "name");
	cell_text(t, "device", volume, "deviceName");
	cell_text(t, "identity", volume, "identity");
	table_set(t, "state", pick_text(volume, "volumeState"), NULL, ok ? MOOD_GOOD : MOOD_BAD);
	cell_bytes(t, "size", volume, "totalStorageBytes");
	cell_bytes(t, "replicated", volume, "replicatedStorageBytes");
	cell_bytes(t, "rescanned", volume, "rescannedStorageBytes");
	cell_bytes(t, "backlog", volume, "backloggedStorageBytes");
	cell_bool(t, "boot", volume, "isBootDisk");
}

static int
list_volumes(struct ctl *ctl, json_t **ret_volumes)
{
	char path[96] = "/v1/volumes?";
	json_t *source;
	int code = EXIT_DONE;

	if (ctl->operand_count > 0) {
		code = find_source(ctl, ctl->operands[0], &source);
		if (code != EXIT_DONE)
			return code;
		snprintf(path, sizeof path, "/v1/volumes?sourceServerID=%s", pick_text(source, "sourceServerID"));
		json_decref(source);
	}
	return client_list(ctl->client, ret_volumes, path);
}

int
run_volume_list(struct ctl *ctl)
{
	json_t *volumes, *volume;
	struct table *t;
	size_t i;
	int code = list_volumes(ctl, &volumes);

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(json_pack("{s:o}", "items", volumes));
	t = table_create(volume_columns, sizeof volume_columns / sizeof volume_columns[0]);
	json_array_foreach (volumes, i, volume) {
		add_volume(t, volume);
	}
	json_decref(volumes);
	return print_table(ctl, t);
}
