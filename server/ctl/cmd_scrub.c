/* SPDX-License-Identifier: Apache-2.0 */
/* scrub ...: everything stored of a source read and compared with its digests, and what rotted. */
#include <inttypes.h>
#include <string.h>

#include "proto/common/units.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"
#include "server/ctl/waiting.h"

/* The sources that are meant: one, or all. Gives an array. */
static int
find_sources(struct ctl *ctl, bool all, json_t **ret_sources)
{
	json_t *source;
	int code;

	if (all)
		return client_list(ctl->client, ret_sources, "/v1/source-servers?");
	code = find_source(ctl, ctl->operands[0], &source);
	if (code == EXIT_DONE)
		*ret_sources = json_pack("[o]", source);
	return code;
}

/* ---- status ---- */

static const struct table_column columns[] = {
    {"id", "SOURCE", false, false, 7},
    {"name", "NAME", false, true, false},
    {"state", "SCRUB", false, false, false},
    {"progress", "PROGRESS", true, false, false},
    {"rate", "RATE", true, false, 5},
    {"last", "LAST COMPLETED", false, false, false},
    {"damaged", "DAMAGED", true, false, false},
    {"points", "POINTS HIT", true, false, false},
    {"healed", "HEALED", true, false, 3},
    {"mended", "DIGESTS MENDED", true, false, true},
    {"read", "READ", true, false, true},
};

static void
add_source(struct table *t, const json_t *source, int64_t now_ns)
{
	const json_t *progress = pick(source, "scrub.progressPercent");
	char text[32];

	table_add_row(t);
	cell_text(t, "id", source, "sourceServerID");
	cell_text(t, "name", source, "sourceProperties.identificationHints.hostname");
	cell_text(t, "state", source, "scrub.state");
	snprintf(text, sizeof text, "%.1f %%", json_number_value(progress));
	table_set(t, "progress", progress != NULL ? text : "-", progress != NULL ? NULL : "", MOOD_PLAIN);
	cell_rate(t, "rate", source, "scrub.bytesPerSecond");
	cell_relative(t, "last", source, "scrub.lastCompletedDateTime", now_ns);
	cell_number(t, "damaged", source, "scrub.damagedBlocks", MOOD_BAD);
	cell_number(t, "points", source, "scrub.pointsDamaged", MOOD_BAD);
	cell_number(t, "healed", source, "scrub.healedBlocks", MOOD_PLAIN);
	cell_number(t, "mended", source, "scrub.mendedDigests", MOOD_PLAIN);
	cell_bytes(t, "read", source, "scrub.readBytes");
}

/* Below the table, for people alone. */
static void
print_damage(const json_t *source)
{
	const json_t *scrub = pick(source, "scrub");
	json_t *item;
	size_t i;

	json_array_foreach (pick(scrub, "damage"), i, item) {
		const char *volume = pick_text(item, "volumeID");

		print_sentence(4, "%s: %s%s, offset %" PRId64 ": %s; %" PRId64 " %s it",
		    pick_text(source, "sourceServerID"), volume[0] != '\0' ? "volume " : "journal index", volume,
		    pick_integer(item, "offset"), pick_text(item, "error"), pick_integer(item, "points"),
		    pick_integer(item, "points") == 1 ? "point needs" : "points need");
	}
	json_array_foreach (pick(scrub, "pointsHit"), i, item) {
		print_sentence(4, "point %s of volume %s cannot be exported whole: %" PRId64 " block%s",
		    pick_text(item, "pointInTimeID"), pick_text(item, "volumeID"), pick_integer(item, "damagedBlocks"),
		    pick_integer(item, "damagedBlocks") == 1 ? "" : "s");
	}
}

int
run_scrub_status(struct ctl *ctl)
{
	int64_t now_ns = clock_real_ns();
	json_t *sources, *source;
	struct table *t;
	size_t i;
	int code = find_sources(ctl, ctl->operand_count == 0, &sources);

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(json_pack("{s:o}", "items", sources));
	t = table_create(columns, sizeof columns / sizeof columns[0]);
	json_array_foreach (sources, i, source) {
		add_source(t, source, now_ns);
	}
	code = print_table(ctl, t);
	json_array_foreach (sources, i, source) {
		if (code == EXIT_DONE && !ctl_given(ctl, OPT_NO_HEADER))
			print_damage(source);
	}
	json_decref(sources);
	return code;
}

/* ---- start, cancel ---- */

static int
change_one(struct ctl *ctl, const char *method, const char *id, json_t *answers)
{
	json_t *answer;
	int code = client_change(ctl->client, method, NULL, &answer, "/v1/source-servers/%s/scrub", id);

	if (code != EXIT_DONE)
		return code;
	if (!ctl_given(ctl, OPT_JSON))
		print_sentence(4, "%s: %s", id, pick_text(answer, "text"));
	json_array_append_new(answers, answer);
	return EXIT_DONE;
}

/* All of them are tried; the worst code is told. */
static int
change(struct ctl *ctl, const char *method, json_t *sources)
{
	json_t *answers = json_array(), *source;
	int code = EXIT_DONE;
	size_t i;

	json_array_foreach (sources, i, source) {
		int one = change_one(ctl, method, pick_text(source, "sourceServerID"), answers);

		code = one > code ? one : code;
	}
	if (ctl_given(ctl, OPT_JSON))
		return print_json(json_pack("{s:o}", "items", answers)) == EXIT_DONE ? code : EXIT_FAILED;
	json_decref(answers);
	return code;
}

static int
check_operands(struct ctl *ctl)
{
	if ((ctl->operand_count == 1) == ctl_given(ctl, OPT_ALL))
		return ctl_fail(EXIT_USAGE, "a SOURCE or --all is wanted");
	return EXIT_DONE;
}

/* A scrub knows how far it is in the volumes, be there much to read in them or little: so that is what is shown. */
static uint64_t
volume_bytes(const json_t *source)
{
	uint64_t total = 0;
	json_t *disk;
	size_t i;

	json_array_foreach (pick(source, "dataReplicationInfo.replicatedDisks"), i, disk) {
		total += (uint64_t)pick_integer(disk, "totalStorageBytes");
	}
	return total;
}

static int
look_at_scrub(void *arg, struct ctl *ctl, struct waiting *w)
{
	json_t *source, *sources = arg;
	size_t i;

	w->total_bytes = w->done_bytes = 0;
	w->is_over = true;
	json_array_foreach (sources, i, source) {
		json_t *now;
		int code = client_get(ctl->client, &now, "/v1/source-servers/%s", pick_text(source, "sourceServerID"));

		if (code != EXIT_DONE)
			return code;
		w->total_bytes += volume_bytes(now);
		if (strcmp(pick_text(now, "scrub.state"), "RUNNING") == 0) {
			w->done_bytes += (uint64_t)((double)volume_bytes(now) *
						    json_number_value(pick(now, "scrub.progressPercent")) / 100);
			w->is_over = false;
		} else {
			w->done_bytes += volume_bytes(now);
		}
		json_decref(now);
	}
	return EXIT_DONE;
}

int
run_scrub_start(struct ctl *ctl)
{
	json_t *sources;
	int code = check_operands(ctl);

	if (code == EXIT_DONE)
		code = find_sources(ctl, ctl_given(ctl, OPT_ALL), &sources);
	if (code != EXIT_DONE)
		return code;
	code = change(ctl, "POST", sources);
	if (code == EXIT_DONE && ctl_given(ctl, OPT_WAIT))
		code = wait_until_over(ctl, "scrub", look_at_scrub, sources);
	json_decref(sources);
	return code;
}

int
run_scrub_cancel(struct ctl *ctl)
{
	json_t *sources;
	int code = check_operands(ctl);

	if (code == EXIT_DONE)
		code = find_sources(ctl, ctl_given(ctl, OPT_ALL), &sources);
	if (code != EXIT_DONE)
		return code;
	code = change(ctl, "DELETE", sources);
	json_decref(sources);
	return code;
}
