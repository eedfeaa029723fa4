/* SPDX-License-Identifier: Apache-2.0 */
/* throttle ...: how fast sources may be read. */
#include <stdlib.h>
#include <string.h>

#include "server/ctl/change.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"

/* ---- throttle show ---- */

static const struct table_column columns[] = {
    {"id", "SOURCE", false, false, 7},
    {"name", "NAME", false, true, 0},
    {"mbps", "MBPS", true, false, 0},
    {"now", "NOW", true, false, 0},
    {"rate", "RATE", true, false, 0},
    {"waited", "WAITED", true, false, 5},
    {"windows", "WINDOWS", false, true, COLUMN_BELOW},
};

static void
cell_mbps(struct table *t, const char *column, const json_t *source, const char *path)
{
	int64_t mbps = pick_integer(source, path);
	char text[32];

	snprintf(text, sizeof text, "%lld", (long long)mbps);
	table_set(t, column, mbps > 0 ? text : "none", text, MOOD_PLAIN);
}

static void
cell_windows(struct table *t, const json_t *source)
{
	char text[1024] = "";
	const json_t *window;
	size_t i, len = 0;

	json_array_foreach (pick(source, "throttle.windows"), i, window) {
		len += (size_t)snprintf(
		    text + len, sizeof text - len, "%s%.47s", i > 0 ? "; " : "", json_string_value(window));
	}
	table_set(t, "windows", text[0] != '\0' ? text : "-", text, MOOD_PLAIN);
}

static void
add_source(struct table *t, const json_t *source, int64_t now_ns)
{
	table_add_row(t);
	cell_text(t, "id", source, "sourceServerID");
	cell_text(t, "name", source, "sourceProperties.identificationHints.hostname");
	cell_mbps(t, "mbps", source, "throttle.bandwidthThrottling");
	cell_mbps(t, "now", source, "throttle.bandwidthThrottlingNow");
	cell_rate(t, "rate", source, "rates.bytesPerSecond10s");
	cell_seconds(t, "waited", source, "throttle.waitedSeconds");
	cell_windows(t, source);
}

static json_t *
throttles_of(const json_t *sources)
{
	json_t *items = json_array();
	const json_t *source;
	size_t i;

	json_array_foreach (sources, i, source) {
		json_array_append_new(items, json_pack("{s:O, s:O}", "sourceServerID", pick(source, "sourceServerID"),
						 "throttle", pick(source, "throttle")));
	}
	return json_pack("{s:o}", "items", items);
}

int
run_throttle_show(struct ctl *ctl)
{
	json_t *sources, *throttles;
	int code = find_named_or_all(ctl, &sources);

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON)) {
		throttles = throttles_of(sources);
		json_decref(sources);
		return print_json(throttles);
	}
	code = print_sources(ctl, sources, columns, sizeof columns / sizeof columns[0], add_source);
	json_decref(sources);
	return code;
}

/* ---- throttle set ---- */

/* Of windows the server says what is wrong with them. Gives. */
static int
make_change(const struct ctl *ctl, json_t **ret_body)
{
	const char *text = ctl->operands[1];
	json_t *windows = json_array();
	char *end;
	long mbps = strtol(text, &end, 10);

	if (strcmp(text, "none") != 0 && (end == text || *end != '\0' || mbps < 0)) {
		json_decref(windows);
		return ctl_fail(
		    EXIT_USAGE, "throttle %s: a whole number of Mbps (1,000,000 bit/s), or none, is wanted", text);
	}
	for (int i = 2; i < ctl->operand_count; i++)
		json_array_append_new(windows, json_string(ctl->operands[i]));
	*ret_body = json_pack("{s:I, s:o}", "bandwidthThrottling", (json_int_t)mbps, "windows", windows);
	return EXIT_DONE;
}

int
run_throttle_set(struct ctl *ctl)
{
	json_t *body = NULL;
	int code = make_change(ctl, &body);

	return code == EXIT_DONE ? change_source(ctl, "throttle", body) : code;
}
