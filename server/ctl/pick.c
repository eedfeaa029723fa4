/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/pick.h"

#include <inttypes.h>
#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/common/terminal.h"
#include "proto/common/units.h"
#include "proto/common/wrap.h"

const json_t *
pick(const json_t *json, const char *path)
{
	while (json != NULL && *path != '\0') {
		size_t len = strcspn(path, ".");

		json = json_object_getn(json, path, len);
		path += len + (path[len] == '.');
	}
	return json_is_null(json) ? NULL : json;
}

const char *
pick_text(const json_t *json, const char *path)
{
	const char *text = json_string_value(pick(json, path));

	return text == NULL ? "" : text;
}

int64_t
pick_integer(const json_t *json, const char *path)
{
	return json_integer_value(pick(json, path));
}

bool
pick_bool(const json_t *json, const char *path)
{
	return json_is_true(pick(json, path));
}

int64_t
pick_time_ns(const json_t *json, const char *path)
{
	int64_t ns;

	return time_parse(pick_text(json, path), 0, &ns) < 0 ? 0 : ns;
}

const char *
pick_source_name(const json_t *source)
{
	const char *name = pick_text(source, "sourceProperties.identificationHints.hostname");

	return name[0] != '\0' ? name : pick_text(source, "sourceServerID");
}

bool
name_is_shared(const json_t *sources, const char *name)
{
	size_t i, count = 0;
	json_t *source;

	json_array_foreach (sources, i, source) {
		count += strcmp(pick_source_name(source), name) == 0;
	}
	return count > 1;
}

const char *
format_source(const json_t *sources, const json_t *source, char *buf, size_t size)
{
	const char *name = pick_source_name(source);

	if (name_is_shared(sources, name))
		snprintf(buf, size, "%s (%s)", name, pick_text(source, "sourceServerID"));
	else
		snprintf(buf, size, "%s", name);
	return buf;
}

bool
pick_is_unopened(const json_t *source)
{
	return pick(source, "newestPointInTime") == NULL && pick(source, "lifeCycle.firstByteDateTime") != NULL &&
	       json_array_size(pick(source, "dataReplicationInfo.replicatedDisks")) == 0;
}

const char *
format_relative(int64_t ns, int64_t now_ns, char *buf, size_t size)
{
	char duration[UNITS_TEXT_BYTES];

	if (ns == 0)
		snprintf(buf, size, "never");
	else if (ns > now_ns + NS_PER_SECOND) /* the daemon's clock was read a moment after ours */
		snprintf(buf, size, "in %s", duration_format(ns - now_ns, duration));
	else
		snprintf(buf, size, "%s ago", duration_format(ns > now_ns ? 0 : now_ns - ns, duration));
	return buf;
}

/* ---- cells ---- */

static void
cell_absent(struct table *t, const char *column)
{
	table_set(t, column, "-", "", MOOD_PLAIN);
}

void
cell_text(struct table *t, const char *column, const json_t *json, const char *path)
{
	const char *text = pick_text(json, path);

	if (text[0] == '\0')
		cell_absent(t, column);
	else
		table_set(t, column, text, NULL, MOOD_PLAIN);
}

void
cell_host(struct table *t, const char *column, const json_t *json, const char *path, const json_t *names)
{
	const json_t *name = json_object_get(names, pick_text(json, path));

	if (name != NULL)
		table_set(t, column, json_string_value(name), NULL, MOOD_PLAIN);
	else
		cell_text(t, column, json, path);
}

void
cell_number(struct table *t, const char *column, const json_t *json, const char *path, enum table_mood mood)
{
	int64_t n = pick_integer(json, path);
	char text[32];

	if (pick(json, path) == NULL) {
		cell_absent(t, column);
		return;
	}
	snprintf(text, sizeof text, "%" PRId64, n);
	table_set(t, column, text, NULL, n != 0 ? mood : MOOD_PLAIN);
}

static void
cell_size(struct table *t, const char *column, const json_t *json, const char *path, const char *unit)
{
	char human[UNITS_TEXT_BYTES], exact[UNITS_TEXT_BYTES], text[UNITS_TEXT_BYTES + 8];
	int64_t bytes = pick_integer(json, path);

	if (pick(json, path) == NULL) {
		cell_absent(t, column);
		return;
	}
	snprintf(text, sizeof text, "%s%s", size_format((uint64_t)bytes, human), unit);
	snprintf(exact, sizeof exact, "%lld", (long long)bytes);
	table_set(t, column, text, exact, MOOD_PLAIN);
}

void
cell_bytes(struct table *t, const char *column, const json_t *json, const char *path)
{
	cell_size(t, column, json, path, "");
}

void
cell_rate(struct table *t, const char *column, const json_t *json, const char *path)
{
	cell_size(t, column, json, path, "/s");
}

void
cell_seconds(struct table *t, const char *column, const json_t *json, const char *path)
{
	double seconds = json_number_value(pick(json, path));
	char human[UNITS_TEXT_BYTES], exact[UNITS_TEXT_BYTES];

	if (pick(json, path) == NULL) {
		cell_absent(t, column);
		return;
	}
	duration_format((int64_t)(seconds * 1e9), human);
	snprintf(exact, sizeof exact, "%.3f", seconds);
	table_set(t, column, human, exact, MOOD_PLAIN);
}

void
cell_bool(struct table *t, const char *column, const json_t *json, const char *path)
{
	table_set(t, column, pick_bool(json, path) ? "yes" : "no", NULL, MOOD_PLAIN);
}

void
cell_relative(struct table *t, const char *column, const json_t *json, const char *path, int64_t now_ns)
{
	char human[UNITS_TEXT_BYTES + 8];

	format_relative(pick_time_ns(json, path), now_ns, human, sizeof human);
	table_set(t, column, human, pick_text(json, path), MOOD_PLAIN);
}

void
cell_time(struct table *t, const char *column, const json_t *json, const char *path)
{
	cell_text(t, column, json, path);
}

void
cell_state(struct table *t, const char *column, const json_t *source)
{
	const char *state = pick_text(source, "dataReplicationInfo.dataReplicationState");
	enum table_mood mood = MOOD_WARN;

	if (strcmp(state, "CONTINUOUS") == 0)
		mood = MOOD_GOOD;
	else if (strcmp(state, "STALLED") == 0 || strcmp(state, "DISCONNECTED") == 0)
		mood = MOOD_BAD;
	table_set(t, column, state, NULL, mood);
}

/* ---- output ---- */

/* As --color, NO_COLOR, TERM and the terminal say. */
static bool
use_color(const struct ctl *ctl)
{
	const char *when = ctl->values[OPT_COLOR], *no_color = getenv("NO_COLOR");

	if (when != NULL && strcmp(when, "always") == 0)
		return true;
	if ((when != NULL && strcmp(when, "never") == 0) || (no_color != NULL && no_color[0] != '\0'))
		return false;
	return terminal_obeys(STDOUT_FILENO);
}

/* COLUMNS is obeyed elsewhere, too: a table that is sent by mail may be told how wide it is. */
static int
table_width(void)
{
	const char *columns = getenv("COLUMNS");

	return columns != NULL && atoi(columns) > 0 ? atoi(columns) : terminal_width(STDOUT_FILENO);
}

int
print_table(const struct ctl *ctl, struct table *t)
{
	struct table_style style = {
	    .header = !ctl_given(ctl, OPT_NO_HEADER),
	    .tabs = ctl_given(ctl, OPT_NO_HEADER),
	    .exact = ctl_given(ctl, OPT_EXACT),
	    .color = use_color(ctl) && !ctl_given(ctl, OPT_NO_HEADER),
	    .utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0,
	    .width = table_width(),
	    .columns = ctl->values[OPT_COLUMNS],
	};
	const char *bad;
	char *names;
	int code = EXIT_DONE;

	if (table_print(t, &style, stdout, &bad) < 0) {
		names = table_names(t);
		code =
		    ctl_fail(EXIT_USAGE, "-o %.*s: no such column; there are: %s", (int)strcspn(bad, ","), bad, names);
		free(names);
	}
	table_destroy(t);
	return code;
}

void
print_wrapped(const struct ctl *ctl, const char *text, int indent, enum table_mood mood)
{
	wrap_print(stdout, text, terminal_width(STDOUT_FILENO), indent, use_color(ctl) ? mood_color(mood) : "");
}

void
print_sentence(int indent, const char *format, ...)
{
	va_list ap;
	char *text;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		abort();
	va_end(ap);
	wrap_print(stdout, text, terminal_width(STDOUT_FILENO), indent, "");
	free(text);
}

int
print_json(json_t *json)
{
	int r = json_dumpf(json, stdout, JSON_INDENT(2));

	json_decref(json);
	putchar('\n');
	if (r < 0 && !ferror(stdout)) /* which is told at the end, of all that is printed */
		return ctl_fail(EXIT_FAILED, "the answer cannot be written as JSON");
	return EXIT_DONE;
}
