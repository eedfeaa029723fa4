/* SPDX-License-Identifier: Apache-2.0 */
/* quota ...: what sources take of the staging area, and what they may. */
#include <string.h>

#include "proto/common/units.h"
#include "server/ctl/change.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"

static const struct table_column columns[] = {
    {"id", "SOURCE", false, false, 7},
    {"name", "NAME", false, true, 0},
    {"total", "TAKES", true, false, 0},
    {"staging", "STAGING", true, false, 2},
    {"journal", "JOURNAL", true, false, 0},
    {"quota", "QUOTA", true, false, 0},
    {"full", "WHEN FULL", false, false, 0},
    {"window", "JOURNAL WINDOW", true, false, 3},
    {"level", "SPACE", false, false, COLUMN_EXTRA},
    {"thinned", "GIVEN UP", true, false, COLUMN_EXTRA},
};

static void
add_source(struct table *t, const json_t *source, int64_t now_ns)
{
	table_add_row(t);
	cell_text(t, "id", source, "sourceServerID");
	cell_text(t, "name", source, "sourceProperties.identificationHints.hostname");
	cell_bytes(t, "total", source, "space.usage.totalBytes");
	cell_bytes(t, "staging", source, "space.usage.stagingBytes");
	cell_bytes(t, "journal", source, "space.usage.journalBytes");
	cell_bytes(t, "quota", source, "space.quotaBytes");
	cell_text(t, "full", source, "space.whenFull");
	cell_seconds(t, "window", source, "space.journalWindowSeconds");
	cell_text(t, "level", source, "space.level");
	cell_number(t, "thinned", source, "space.pointsGivenUp", MOOD_WARN);
}

int
run_quota_list(struct ctl *ctl)
{
	json_t *sources;
	int code = find_sources(ctl, &sources);

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(json_pack("{s:o}", "items", sources));
	code = print_sources(ctl, sources, columns, sizeof columns / sizeof columns[0], add_source);
	json_decref(sources);
	return code;
}

/* ---- quota set ---- */

/* What the command line says; what it does not say stays as it is. Gives. */
static int
make_change(const struct ctl *ctl, json_t **ret_body)
{
	const char *size = ctl->operand_count > 1 ? ctl->operands[1] : NULL;
	const char *when_full = ctl->values[OPT_WHEN_FULL];
	uint64_t bytes = 0;

	if (size == NULL && when_full == NULL)
		return ctl_fail(EXIT_USAGE, "quota set: a size like 200GiB, none, or --when-full is wanted");
	if (size != NULL && strcmp(size, "none") != 0 && (size_parse(size, &bytes) < 0 || bytes == 0))
		return ctl_fail(EXIT_USAGE, "quota %s: a size like 200GiB, or none, is wanted", size);
	*ret_body = json_object();
	if (size != NULL)
		json_object_set_new(*ret_body, "quotaBytes", bytes > 0 ? json_integer((json_int_t)bytes) : json_null());
	if (when_full != NULL)
		json_object_set_new(*ret_body, "whenFull", json_string(when_full));
	return EXIT_DONE;
}

int
run_quota_set(struct ctl *ctl)
{
	json_t *body = NULL;
	int code = make_change(ctl, &body);

	return code == EXIT_DONE ? change_source(ctl, "quota", body) : code;
}
