/* SPDX-License-Identifier: Apache-2.0 */
/* pit ...: points in time. */
#include <stdlib.h>
#include <string.h>

#include "proto/common/id.h"
#include "proto/common/units.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/offline.h"
#include "server/ctl/pick.h"

enum {
	CREATE_TIMEOUT_S = 60, /* a pass of the agent over large disks may take a while: --timeout */
	PLAN_TIMEOUT_S = 300,  /* the index is read once, after what is being folded or merged */
};

/* ---- list ---- */

static const struct table_column columns[] = {
    {"id", "POINT", false, false, 0},
    {"source", "SOURCE", false, false, 0},
    {"host", "HOST", false, true, 0},
    {"time", "TIME", false, false, 0},
    {"age", "AGE", false, false, 7},
    {"name", "NAME", false, true, 0},
    {"consistency", "CONSISTENCY", false, false, 4},
    {"complete", "COMPLETE", false, false, 5},
    {"verified", "VERIFIED", false, false, 2},
    {"last-verified", "LAST VERIFIED", false, false, COLUMN_EXTRA},
    {"kept", "KEPT BY", false, false, 6},
    {"planned", "PLANNED", false, false, COLUMN_EXTRA},
    {"size", "SIZE", true, false, COLUMN_EXTRA},
    {"unique", "UNIQUE", true, false, COLUMN_EXTRA},
    {"frees", "FREES", true, false, 3},
    {"lsn", "LSN", true, false, COLUMN_EXTRA},
};

/* Why it is still there: "held", "hand", "rule 1,2", or only the journal window. Without the catalog nobody knows. */
static void
cell_kept(struct table *t, const json_t *pit)
{
	char text[128] = "";
	json_t *rule;
	size_t i;

	if (pick(pit, "held") == NULL) {
		table_set(t, "kept", "-", "", MOOD_PLAIN);
		return;
	}
	if (pick_bool(pit, "held"))
		strcat(text, "held ");
	if (pick_bool(pit, "byHand"))
		strcat(text, "hand ");
	json_array_foreach (pick(pit, "ruleIDs"), i, rule) {
		size_t n = strlen(text);

		snprintf(text + n, sizeof text - n, i == 0 ? "rule %d" : ",%d", (int)json_integer_value(rule));
	}
	if (text[0] == '\0')
		strcat(text, "window");
	else if (text[strlen(text) - 1] == ' ')
		text[strlen(text) - 1] = '\0';
	table_set(t, "kept", text, NULL, MOOD_PLAIN);
}

static void
cell_pit_size(struct table *t, const json_t *pit)
{
	char human[UNITS_TEXT_BYTES], exact[32];
	int64_t total = 0;
	json_t *volume;
	size_t i;

	json_array_foreach (pick(pit, "volumes"), i, volume) {
		total += pick_integer(volume, "sizeBytes");
	}
	snprintf(exact, sizeof exact, "%lld", (long long)total);
	table_set(t, "size", size_format((uint64_t)total, human), exact, MOOD_PLAIN);
}

static void
add_pit(struct table *t, const json_t *pit, const json_t *names, int64_t now_ns)
{
	const char *consistency = pick_text(pit, "consistency");

	table_add_row(t);
	cell_text(t, "id", pit, "pointInTimeID");
	cell_text(t, "source", pit, "sourceServerID");
	cell_host(t, "host", pit, "sourceServerID", names);
	cell_time(t, "time", pit, "timestamp");
	cell_relative(t, "age", pit, "timestamp", now_ns);
	cell_text(t, "name", pit, "name");
	table_set(t, "consistency", consistency, NULL, strcmp(consistency, "fuzzy") == 0 ? MOOD_WARN : MOOD_PLAIN);
	cell_bool(t, "complete", pit, "complete");
	if (pick(pit, "verified") != NULL)
		cell_bool(t, "verified", pit, "verified");
	else
		table_set(t, "verified", "-", "", MOOD_PLAIN);
	cell_relative(t, "last-verified", pit, "lastVerified", now_ns);
	cell_kept(t, pit);
	cell_time(t, "planned", pit, "expectedTimestamp");
	cell_pit_size(t, pit);
	cell_bytes(t, "unique", pit, "uniqueBytes");
	cell_bytes(t, "frees", pit, "freedBytesIfDeleted");
	cell_text(t, "lsn", pit, "lsn");
}

/* What is said of it names the source: it may be one of many. */
static int
list_of_source(struct ctl *ctl, const json_t *source, json_t *all)
{
	const char *id = pick_text(source, "sourceServerID");
	char prefix[64];
	json_t *pits;
	int code;

	snprintf(prefix, sizeof prefix, "holdfastctl: %s: ", id);
	ctl_say_to(NULL, prefix);
	code = find_pits(ctl, id, &pits);
	ctl_say_to(NULL, NULL);
	if (code != EXIT_DONE)
		return code;
	json_array_extend(all, pits);
	json_decref(pits);
	return EXIT_DONE;
}

/* One whose data is damaged does not hide the others. Returns the first failure. */
static int
list_pits(struct ctl *ctl, const json_t *sources, json_t *all)
{
	int first = EXIT_DONE, code = EXIT_DONE;

	for (size_t i = 0; i < json_array_size(sources) && !ctl_is_hopeless(code); i++) {
		code = list_of_source(ctl, json_array_get(sources, i), all);
		first = first == EXIT_DONE ? code : first;
	}
	return first;
}

static int
list_of_folder(struct offline *o, const char *source, json_t *all)
{
	json_t *pits;
	int code = offline_open_source(o, source);

	if (code != EXIT_DONE)
		return code;
	pits = offline_list_pits(o);
	json_array_extend(all, pits);
	json_decref(pits);
	return EXIT_DONE;
}

/* The same with the daemon stopped. */
static int
list_pits_offline(struct ctl *ctl, json_t *all)
{
	struct offline *o;
	int code = offline_open(ctl->values[OPT_DATA_DIR], &o);
	json_t *id;
	size_t i;

	if (code != EXIT_DONE)
		return code;
	if (ctl->operand_count > 0)
		code = list_of_folder(o, ctl->operands[0], all);
	json_array_foreach (ctl->operand_count > 0 ? NULL : offline_sources(o), i, id) {
		int r = list_of_folder(o, json_string_value(id), all);

		code = code == EXIT_DONE ? r : code;
	}
	offline_close(o);
	return code;
}

static int
print_pits(const struct ctl *ctl, const json_t *pits, const json_t *sources)
{
	struct table *t = table_create(columns, sizeof columns / sizeof columns[0]);
	bool offline = ctl_given(ctl, OPT_DATA_DIR); /* then nobody knows host names */
	json_t *names = find_names(sources);
	int64_t now_ns = clock_real_ns();
	const json_t *pit;
	size_t i;
	int code;

	if (ctl->operand_count > 0 || offline)
		table_hide(t, "host");
	if (ctl->operand_count > 0 || !offline)
		table_hide(t, "source");
	json_array_foreach (pits, i, pit) {
		add_pit(t, pit, names, now_ns);
	}
	json_decref(names);
	code = print_table(ctl, t);
	if (!offline)
		print_if_none(ctl, sources);
	return code;
}

int
run_pit_list(struct ctl *ctl)
{
	json_t *pits = json_array(), *sources = NULL;
	bool offline = ctl_given(ctl, OPT_DATA_DIR);
	int code = offline ? list_pits_offline(ctl, pits) : find_named_or_all(ctl, &sources), printed = EXIT_DONE;

	if (code == EXIT_DONE && !offline)
		code = list_pits(ctl, sources, pits);
	if (code != EXIT_DONE && json_array_size(pits) == 0)
		printed = code; /* and nothing is */
	else if (ctl_given(ctl, OPT_JSON))
		printed = print_json(json_pack("{s:O}", "items", pits));
	else
		printed = print_pits(ctl, pits, sources);
	json_decref(sources);
	json_decref(pits);
	return code != EXIT_DONE ? code : printed;
}

/* ---- plan ---- */

static const struct table_column plan_columns[] = {
    {"id", "POINT", false, false, 0},
    {"time", "TIME", false, false, 0},
    {"name", "NAME", false, true, 0},
    {"goes", "STAYS", false, false, 0},
    {"kept", "KEPT BY", false, false, 4},
    {"unique", "UNIQUE", true, false, 3},
    {"frees", "FREES ALONE", true, false, 0},
};

static int
print_plan(const struct ctl *ctl, const json_t *plan)
{
	struct table *t = table_create(plan_columns, sizeof plan_columns / sizeof plan_columns[0]);
	char frees[UNITS_TEXT_BYTES], keeps[UNITS_TEXT_BYTES];
	size_t i, going = 0;
	json_t *pit;

	json_array_foreach (pick(plan, "items"), i, pit) {
		bool goes = pick_bool(pit, "goes");

		going += goes;
		table_add_row(t);
		cell_text(t, "id", pit, "pointInTimeID");
		cell_time(t, "time", pit, "timestamp");
		cell_text(t, "name", pit, "name");
		table_set(t, "goes", goes ? "goes" : "stays", NULL, goes ? MOOD_WARN : MOOD_PLAIN);
		cell_kept(t, pit);
		cell_bytes(t, "unique", pit, "uniqueBytes");
		cell_bytes(t, "frees", pit, "freedBytesIfDeleted");
	}
	if (!ctl_given(ctl, OPT_NO_HEADER))
		print_sentence(4, "%zu of %zu kept points would go, and free %s; %s of history would stay", going,
		    json_array_size(pick(plan, "items")),
		    size_format((uint64_t)pick_integer(plan, "freedBytes"), frees),
		    size_format((uint64_t)pick_integer(plan, "keptBytes"), keeps));
	return print_table(ctl, t);
}

int
run_pit_plan(struct ctl *ctl)
{
	json_t *source, *plan;
	char *rules;
	int code;

	if (!ctl_given(ctl, OPT_POLICY))
		return ctl_fail(EXIT_USAGE, "which policy? --policy \"10m/60m 1h/24h 1d/7d\"");
	code = find_source(ctl, ctl->operands[0], &source);
	if (code != EXIT_DONE)
		return code;
	rules = client_escape(ctl->client, ctl->values[OPT_POLICY]);
	client_extend_timeout(ctl->client, PLAN_TIMEOUT_S);
	code = client_get(
	    ctl->client, &plan, "/v1/source-servers/%s/pit-plan?policy=%s", pick_text(source, "sourceServerID"), rules);
	free(rules);
	json_decref(source);
	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(plan);
	code = print_plan(ctl, plan);
	json_decref(plan);
	return code;
}

/* ---- create ---- */

static int
print_created(const struct ctl *ctl, json_t *pit)
{
	if (ctl_given(ctl, OPT_JSON))
		return print_json(pit);
	printf("%s\n", pick_text(pit, "pointInTimeID"));
	ctl_note("point \"%s\" of %s, %s", pick_text(pit, "name"), pick_text(pit, "timestamp"),
	    pick_text(pit, "consistency"));
	json_decref(pit);
	return EXIT_DONE;
}

static int
create_timeout(const struct ctl *ctl)
{
	int64_t ns;

	if (ctl->values[OPT_TIMEOUT] == NULL || duration_parse(ctl->values[OPT_TIMEOUT], &ns) < 0 || ns < NS_PER_SECOND)
		return CREATE_TIMEOUT_S;
	return ns / NS_PER_SECOND > 3600 ? 3600 : (int)(ns / NS_PER_SECOND);
}

int
run_pit_create(struct ctl *ctl)
{
	int timeout_s = create_timeout(ctl), code;
	json_t *source, *body, *pit;

	if (!ctl_given(ctl, OPT_NAME))
		return ctl_fail(EXIT_USAGE, "a point made by hand needs a name: --name NAME");
	code = find_source(ctl, ctl->operands[0], &source);
	if (code != EXIT_DONE)
		return code;
	body = json_pack("{s:s, s:s, s:b, s:i}", "sourceServerID", pick_text(source, "sourceServerID"), "name",
	    ctl->values[OPT_NAME], "newest", ctl_given(ctl, OPT_NEWEST), "timeoutSeconds", timeout_s);
	json_decref(source);
	if (body == NULL)
		return ctl_fail(EXIT_USAGE, "--name: it must be UTF-8");
	client_extend_timeout(ctl->client, timeout_s + 5); /* the server answers first, and knows why */
	code = client_change(ctl->client, "POST", body, &pit, "/v1/points-in-time");
	return code != EXIT_DONE ? code : print_created(ctl, pit);
}

/* ---- hold, release, delete ---- */

static int
check_pit_id(const char *text)
{
	if (id_valid("pit", text))
		return EXIT_DONE;
	return ctl_fail(
	    EXIT_USAGE, "\"%s\": the id of a point is wanted, pit-...; holdfastctl pit list shows them", text);
}

static int
change_pit(struct ctl *ctl, const char *method, const char *verb)
{
	json_t *answer;
	int code = client_change(ctl->client, method, NULL, &answer, "/v1/points-in-time/%s%s", ctl->operands[0], verb);

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(answer);
	printf("%s: %s\n", pick_text(answer, "pointInTimeID"), pick_text(answer, "result"));
	json_decref(answer);
	return EXIT_DONE;
}

int
run_pit_hold(struct ctl *ctl)
{
	int code = check_pit_id(ctl->operands[0]);

	return code != EXIT_DONE ? code : change_pit(ctl, "POST", "/hold");
}

int
run_pit_release(struct ctl *ctl)
{
	int code = check_pit_id(ctl->operands[0]);

	return code != EXIT_DONE ? code : change_pit(ctl, "POST", "/release");
}

int
run_pit_delete(struct ctl *ctl)
{
	int code = check_pit_id(ctl->operands[0]);

	if (code != EXIT_DONE)
		return code;
	if (!ctl_confirm(ctl, "%s will be gone for good.", ctl->operands[0]))
		return EXIT_USAGE;
	return change_pit(ctl, "DELETE", "");
}
