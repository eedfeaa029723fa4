/* SPDX-License-Identifier: Apache-2.0 */
/* audit: who asked for what, what came of it, and whether the list is as it was written. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"
#include "server/ctl/client.h"
#include "server/ctl/pick.h"

/* ---- the list ---- */

static const struct table_column columns[] = {
    {"number", "NUMBER", true, false, 7},
    {"time", "TIME", false, false, 0},
    {"uid", "UID", true, false, 0},
    {"pid", "PID", true, false, 6},
    {"verb", "VERB", false, false, 0},
    {"object", "OBJECT", false, true, 0},
    {"result", "RESULT", false, false, 0},
    {"request", "REQUEST", false, false, COLUMN_EXTRA},
    {"digest", "DIGEST", false, false, COLUMN_EXTRA},
};

static void
set_number(struct table *t, const char *column, const json_t *value)
{
	char text[24];

	snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
	table_set(t, column, text, NULL, MOOD_PLAIN);
}

/* A result is a row of its own; here it stands with its request. */
static const char *
find_result(const json_t *results, const json_t *row)
{
	const char *request = pick_text(row, "requestID");
	const char *result = request[0] != '\0' ? json_string_value(json_object_get(results, request)) : NULL;

	return result != NULL ? result : "-";
}

static void
add_row(struct table *t, const json_t *row, const json_t *results)
{
	const char *result = find_result(results, row);
	char time[UNITS_TEXT_BYTES];

	table_add_row(t);
	set_number(t, "number", pick(row, "number"));
	table_set(t, "time", time_format(pick_time_ns(row, "dateTime"), time), NULL, MOOD_PLAIN);
	set_number(t, "uid", pick(row, "uid"));
	set_number(t, "pid", pick(row, "pid"));
	cell_text(t, "verb", row, "verb");
	cell_text(t, "object", row, "object");
	table_set(
	    t, "result", result, NULL, strcmp(result, "OK") == 0 || strcmp(result, "-") == 0 ? MOOD_PLAIN : MOOD_WARN);
	cell_text(t, "request", row, "requestID");
	cell_text(t, "digest", row, "digest");
}

static bool
is_result(const json_t *row)
{
	return pick_text(row, "result")[0] != '\0';
}

static struct table *
make_table(const json_t *rows)
{
	struct table *t = table_create(columns, sizeof columns / sizeof columns[0]);
	json_t *results = json_object();
	const json_t *row;
	size_t i;

	json_array_foreach (rows, i, row)
		if (is_result(row))
			json_object_set_new(
			    results, pick_text(row, "requestID"), json_string(pick_text(row, "result")));
	json_array_foreach (rows, i, row)
		if (!is_result(row))
			add_row(t, row, results);
	json_decref(results);
	return t;
}

/* The newest `tail` requests, with their results; 0: all. */
static void
cut_to(json_t *rows, size_t tail)
{
	size_t begin = json_array_size(rows), left = tail;

	if (tail == 0)
		return;
	while (begin > 0 && left > 0)
		left -= !is_result(json_array_get(rows, --begin));
	while (begin-- > 0)
		json_array_remove(rows, 0);
}

static int
list(struct ctl *ctl)
{
	const char *tail = ctl_given(ctl, OPT_TAIL) ? ctl->values[OPT_TAIL] : "100";
	json_t *rows;
	int code;

	if (tail[0] == '\0' || strspn(tail, "0123456789") != strlen(tail) || strlen(tail) > 9)
		return ctl_fail(EXIT_USAGE, "--tail %s: a number is wanted; 0 for all", tail);
	code = client_list_confided(ctl->client, &rows, "/v1/audit?");
	if (code != EXIT_DONE)
		return code;
	cut_to(rows, (size_t)atol(tail));
	if (ctl_given(ctl, OPT_JSON))
		return print_json(json_pack("{s:o}", "items", rows));
	code = print_table(ctl, make_table(rows));
	json_decref(rows);
	return code;
}

/* ---- --verify ---- */

static void
print_report(const json_t *report)
{
	long long rows = json_integer_value(pick(report, "rows")),
		  newest = json_integer_value(pick(report, "newestNumber")),
		  unchained = json_integer_value(pick(report, "unchainedRows"));
	const json_t *fault;
	size_t i;

	json_array_foreach (pick(report, "faults"), i, fault) {
		print_sentence(4, "%s", pick_text(fault, "text"));
	}
	if (unchained > 0)
		print_sentence(4, "%lld row%s older than the chain: none is missing between them, no more can be said",
		    unchained, unchained == 1 ? " is" : "s are");
	if (json_is_true(pick(report, "intact")))
		print_sentence(4, "intact: %lld rows; the newest is %lld, digest %s", rows, newest,
		    pick_text(report, "newestDigest"));
	else
		print_sentence(4, "NOT INTACT: %" PRId64 " fault%s in %lld rows", pick_integer(report, "faultCount"),
		    pick_integer(report, "faultCount") == 1 ? "" : "s", rows);
}

static int
verify(struct ctl *ctl)
{
	json_t *report;
	bool intact;
	int code = client_change(ctl->client, "GET", NULL, &report, "/v1/audit/check");

	if (code != EXIT_DONE)
		return code;
	intact = json_is_true(pick(report, "intact"));
	if (ctl_given(ctl, OPT_JSON)) {
		code = print_json(report);
	} else {
		print_report(report);
		json_decref(report);
	}
	return code == EXIT_DONE && !intact ? EXIT_NOT_MET : code;
}

int
run_audit(struct ctl *ctl)
{
	return ctl_given(ctl, OPT_VERIFY) ? verify(ctl) : list(ctl);
}
