/* SPDX-License-Identifier: Apache-2.0 */
/* status, ready: the two questions that are asked all day. */
#include <stdlib.h>
#include <inttypes.h>
#include <string.h>

#include "proto/common/units.h"
#include "server/ctl/advice.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"
#include "server/ctl/trouble.h"

static const struct table_column status_columns[] = {
    {"id", "SOURCE", false, false, 6},
    {"name", "NAME", false, true, 0},
    {"state", "STATE", false, false, 0},
    {"ready", "READY", false, false, 0},
    {"lag", "LAG", true, false, 0},
    {"durable", "DURABLE LAG", true, false, COLUMN_EXTRA},
    {"received", "RECEIVED LAG", true, false, COLUMN_EXTRA},
    {"backlog", "BACKLOG", true, false, 2},
    {"rate", "RATE", true, false, 3},
    {"done", "DONE", true, false, COLUMN_EXTRA},
    {"point", "NEWEST POINT", false, false, 4},
    {"pit", "POINT ID", false, false, COLUMN_EXTRA},
    {"eta", "CAUGHT UP", false, false, 5},
    {"error", "ERROR", false, false, COLUMN_EXTRA},
    {"reason", "REASON", false, true, COLUMN_EXTRA},
};

/* How much of the volumes is here: what a first fill is asked about. */
static void
cell_done(struct table *t, const json_t *source)
{
	int64_t total = 0, done = 0;
	char human[32], exact[32];
	json_t *disk;
	size_t i;

	json_array_foreach (pick(source, "dataReplicationInfo.replicatedDisks"), i, disk) {
		total += pick_integer(disk, "totalStorageBytes");
		done += pick_integer(disk, "replicatedStorageBytes");
	}
	snprintf(human, sizeof human, "%.1f %%", total == 0 ? 0 : 100.0 * (double)done / (double)total);
	snprintf(exact, sizeof exact, "%lld", (long long)done);
	table_set(t, "done", human, exact, MOOD_PLAIN);
}

/* Unknown, or nothing to catch up with: not "never". */
static void
cell_eta(struct table *t, const json_t *source, int64_t now_ns)
{
	if (strcmp(pick_text(source, "catchUp.state"), "NOT_CONVERGING") == 0)
		table_set(t, "eta", "not converging", "", MOOD_BAD);
	else if (pick(source, "dataReplicationInfo.etaDateTime") != NULL)
		cell_relative(t, "eta", source, "dataReplicationInfo.etaDateTime", now_ns);
	else
		table_set(t, "eta", "-", "", MOOD_PLAIN);
}

static void
cell_point(struct table *t, const json_t *source, int64_t now_ns)
{
	if (pick_is_unopened(source))
		table_set(t, "point", "unknown", "", MOOD_PLAIN);
	else
		cell_relative(t, "point", source, "newestPointInTime.timestamp", now_ns);
}

/* Not ready: why. Else the state's own reason. */
static void
cell_reason(struct table *t, const json_t *source)
{
	const json_t *why = json_array_get(pick(source, "reasons"), 0);

	if (why != NULL)
		table_set(t, "reason", pick_text(why, "text"), NULL, MOOD_PLAIN);
	else
		cell_text(t, "reason", source, "dataReplicationInfo.stateReason");
}

static void
add_status(struct table *t, const json_t *source, int64_t now_ns)
{
	bool ready = pick_bool(source, "ready");

	table_add_row(t);
	cell_text(t, "id", source, "sourceServerID");
	cell_text(t, "name", source, "sourceProperties.identificationHints.hostname");
	cell_state(t, "state", source);
	table_set(t, "ready", ready ? "Ready" : "not ready", ready ? "yes" : "no", ready ? MOOD_GOOD : MOOD_BAD);
	cell_seconds(t, "lag", source, "lag.consistentSeconds");
	cell_seconds(t, "durable", source, "lag.durableSeconds");
	cell_seconds(t, "received", source, "lag.receivedSeconds");
	cell_bytes(t, "backlog", source, "backlogBytes");
	cell_rate(t, "rate", source, "rates.bytesPerSecond10s");
	cell_done(t, source);
	cell_point(t, source, now_ns);
	cell_text(t, "pit", source, "newestPointInTime.pointInTimeID");
	cell_eta(t, source, now_ns);
	cell_text(t, "error", source, "dataReplicationInfo.dataReplicationError.code");
	cell_reason(t, source);
}

static size_t
count_ready(const json_t *sources)
{
	size_t i, ready = 0;
	json_t *source;

	json_array_foreach (sources, i, source) {
		ready += pick_bool(source, "ready");
	}
	return ready;
}

/* How fast it fills is told only when it was measured. */
static void
say_growth(FILE *line, const json_t *area)
{
	const json_t *growth = pick(area, "growthBytesPerDay"), *days = pick(area, "daysToFull");
	int64_t per_day = growth != NULL ? json_integer_value(growth) : 0;
	char bytes[UNITS_TEXT_BYTES], span[UNITS_TEXT_BYTES];

	if (growth == NULL) {
		fprintf(line, "growth not known yet");
		return;
	}
	fprintf(line, "%s %s a day (measured over %s)", per_day < 0 ? "shrinks by" : "grows by",
	    size_format((uint64_t)(per_day < 0 ? -per_day : per_day), bytes),
	    duration_format(pick_integer(area, "growthMeasuredSeconds") * NS_PER_SECOND, span));
	if (days != NULL)
		fprintf(line, ", full in %.1f days", json_number_value(days));
}

static void
print_area(const struct ctl *ctl, const char *what, const json_t *area)
{
	const char *state = pick_text(area, "state");
	char total[UNITS_TEXT_BYTES], left[UNITS_TEXT_BYTES], *text;
	size_t len;
	FILE *line = open_memstream(&text, &len);

	if (line == NULL)
		abort();
	fprintf(line, "%s ", what);
	if (strcmp(state, "OK") != 0)
		fprintf(line, "is %s%s: ", state, strcmp(state, "FULL") == 0 ? ", nothing more is taken" : "");
	fprintf(line, "%s free of %s; ", size_format((uint64_t)pick_integer(area, "freeBytes"), left),
	    size_format((uint64_t)pick_integer(area, "totalBytes"), total));
	say_growth(line, area);
	fclose(line);
	print_wrapped(ctl, text, 4, strcmp(state, "OK") != 0 ? MOOD_BAD : MOOD_PLAIN);
	free(text);
}

/* What it serves stands still, however well its sources look. */
static bool
print_silence(const json_t *version)
{
	if (pick(version, "silentThread") == NULL)
		return false;
	print_sentence(4, "%s: what it serves stands still", pick_text(version, "silentThread.text"));
	print_sentence(10, "    next: %s", pick_text(version, "silentThread.cure"));
	return true;
}

/* Where nothing expires, the staging area fills. */
static bool
print_stopped(const json_t *sources, int64_t now_ns)
{
	size_t i, frozen = 0, drifted = 0, count = json_array_size(sources);
	int64_t since_ns = now_ns, ns;
	char span[UNITS_TEXT_BYTES];
	json_t *source;

	json_array_foreach (sources, i, source) {
		ns = pick_time_ns(source, "retention.frozenSinceDateTime");
		frozen += ns != 0;
		since_ns = ns != 0 && ns < since_ns ? ns : since_ns;
		drifted += pick_bool(source, "retention.clocksDisagree");
	}
	if (frozen > 0)
		print_sentence(4, "retention is frozen, for %s now: nothing expires of %zu of %zu sources",
		    duration_format(now_ns - since_ns, span), frozen, count);
	if (drifted > 0)
		print_sentence(
		    4, "the clock of the server jumped: nothing expires of %zu of %zu sources", drifted, count);
	if (frozen + drifted > 0)
		print_sentence(10, "    next: when %s: holdfastctl retention thaw --all",
		    frozen > 0 ? "all is well" : "the clock is right");
	return frozen + drifted > 0;
}

static void
write_states(FILE *line, const json_t *sources)
{
	json_t *counts = json_object(), *source, *count;
	const char *state, *separator = "";
	size_t i;

	json_array_foreach (sources, i, source) {
		state = pick_text(source, "dataReplicationInfo.dataReplicationState");
		json_object_set_new(counts, state, json_integer(pick_integer(counts, state) + 1));
	}
	json_object_foreach(counts, state, count)
	{
		fprintf(line, "%s%" PRId64 " %s", separator, (int64_t)json_integer_value(count), state);
		separator = ", ";
	}
	json_decref(counts);
}

/* As GET /v1/status has it: what is stopped is not late. NULL: none has a point. */
static const json_t *
find_worst(const json_t *sources)
{
	const json_t *worst = NULL, *lag;
	json_t *source;
	size_t i;

	json_array_foreach (sources, i, source) {
		lag = pick(source, "lag.consistentSeconds");
		if (lag == NULL ||
		    strcmp(pick_text(source, "dataReplicationInfo.dataReplicationState"), "STOPPED") == 0)
			continue;
		if (worst == NULL || json_number_value(lag) > json_number_value(pick(worst, "lag.consistentSeconds")))
			worst = source;
	}
	return worst;
}

/* Of one source the table says it all. */
static void
print_fleet(const json_t *sources)
{
	const json_t *worst = find_worst(sources);
	char lag[UNITS_TEXT_BYTES], name[SOURCE_TEXT_BYTES], *text;
	size_t len;
	FILE *line = open_memstream(&text, &len);

	if (line == NULL)
		abort();
	write_states(line, sources);
	if (worst != NULL)
		fprintf(line, "; worst lag %s, of %s",
		    duration_format((int64_t)(json_number_value(pick(worst, "lag.consistentSeconds")) * 1e9), lag),
		    format_source(sources, worst, name, sizeof name));
	fclose(line);
	if (json_array_size(sources) > 1)
		print_sentence(4, "%s", text);
	free(text);
}

static void
print_summary(const struct ctl *ctl, const json_t *version, const json_t *sources, int64_t now_ns)
{
	size_t troubled = count_troubled(sources);
	char up[UNITS_TEXT_BYTES];

	printf("holdfastd %s%s, up %s; %zu of %zu sources ready", pick_text(version, "version"),
	    pick_bool(version, "draining") ? " (shutting down)" : "",
	    duration_format(now_ns - pick_time_ns(version, "startedDateTime"), up), count_ready(sources),
	    json_array_size(sources));
	if (troubled > 0)
		printf(", %zu in trouble", troubled);
	putchar('\n');
	print_fleet(sources);
	print_area(ctl, "staging area", pick(version, "stagingArea"));
	if (pick(version, "journalArea") != NULL)
		print_area(ctl, "journals", pick(version, "journalArea"));
}

static int
print_status(struct ctl *ctl, const json_t *version, const json_t *sources)
{
	struct table *t = table_create(status_columns, sizeof status_columns / sizeof status_columns[0]);
	int64_t now_ns = clock_real_ns();
	json_t *source;
	bool told;
	size_t i;
	int code;

	json_array_foreach (sources, i, source) {
		add_status(t, source, now_ns);
	}
	if (!ctl_given(ctl, OPT_NO_HEADER) && !ctl_given(ctl, OPT_COLUMNS)) {
		print_summary(ctl, version, sources, now_ns);
		told = print_silence(version);
		told = print_stopped(sources, now_ns) || told;
		told = print_trouble(ctl, sources, now_ns) || told;
		if (told)
			putchar('\n');
	}
	if (json_array_size(sources) == 0 && !ctl_given(ctl, OPT_NO_HEADER)) {
		table_destroy(t);
		print_if_none(ctl, sources);
		return EXIT_DONE;
	}
	code = print_table(ctl, t);
	if (code == EXIT_DONE && !ctl_given(ctl, OPT_NO_HEADER) && !ctl_given(ctl, OPT_COLUMNS))
		print_advice(ctl, version, sources);
	return code;
}

int
run_status(struct ctl *ctl)
{
	json_t *version, *sources, *sorted;
	int code = client_get(ctl->client, &version, "/v1/version");

	if (code != EXIT_DONE)
		return code;
	code = find_sources(ctl, &sources);
	if (code != EXIT_DONE) {
		json_decref(version);
		return code;
	}
	if (ctl_given(ctl, OPT_JSON))
		return print_json(json_pack("{s:o, s:o}", "server", version, "items", sources));
	sorted = sort_by_trouble(sources);
	code = print_status(ctl, version, sorted);
	json_decref(version);
	json_decref(sorted);
	json_decref(sources);
	return code;
}

/* ---- ready ---- */

static int
parse_max_lag(const struct ctl *ctl, int64_t *ret_ns)
{
	const char *text = ctl->values[OPT_MAX_LAG];

	*ret_ns = -1;
	if (text != NULL && duration_parse(text, ret_ns) < 0)
		return ctl_fail(EXIT_USAGE, "--max-lag %s: a time like 60s or 10m is wanted", text);
	return EXIT_DONE;
}

static void
print_reasons(const json_t *source)
{
	json_t *reason;
	size_t i;

	json_array_foreach (pick(source, "reasons"), i, reason) {
		print_sentence(4, "%s: %s", pick_text(reason, "code"), pick_text(reason, "text"));
		if (pick(reason, "cure") != NULL)
			print_sentence(4, "  cure: %s", pick_text(reason, "cure"));
	}
}

/* Ready may come from an old point: the answer says how old. */
static void
print_ready(const json_t *source, double lag)
{
	char age[UNITS_TEXT_BYTES];

	print_sentence(4, "Ready: %s (%s), newest point %s, %s old", pick_text(source, "sourceServerID"),
	    pick_text(source, "sourceProperties.identificationHints.hostname"),
	    pick_text(source, "newestPointInTime.pointInTimeID"), duration_format((int64_t)(lag * 1e9), age));
}

static bool
lag_is_within(const json_t *source, int64_t max_lag_ns)
{
	const json_t *lag = pick(source, "lag.consistentSeconds");

	return max_lag_ns < 0 || (lag != NULL && json_number_value(lag) * 1e9 <= (double)max_lag_ns);
}

static void
print_verdict(const json_t *source, int64_t max_lag_ns)
{
	double lag = json_number_value(pick(source, "lag.consistentSeconds"));
	char is[UNITS_TEXT_BYTES], may[UNITS_TEXT_BYTES];

	if (!pick_bool(source, "ready"))
		print_reasons(source);
	else if (!lag_is_within(source, max_lag_ns))
		print_sentence(4, "LAG_ABOVE_LIMIT: the newest point is %s old, more than %s",
		    duration_format((int64_t)(lag * 1e9), is), duration_format(max_lag_ns, may));
	else
		print_ready(source, lag);
}

int
run_ready(struct ctl *ctl)
{
	int64_t max_lag_ns;
	json_t *source;
	int code = parse_max_lag(ctl, &max_lag_ns);

	if (code == EXIT_DONE)
		code = find_source(ctl, ctl->operands[0], &source);
	if (code != EXIT_DONE)
		return code;
	code = pick_bool(source, "ready") && lag_is_within(source, max_lag_ns) ? EXIT_DONE : EXIT_NOT_MET;
	if (ctl_given(ctl, OPT_JSON)) {
		print_json(source);
		return code;
	}
	print_verdict(source, max_lag_ns);
	json_decref(source);
	return code;
}
