/* SPDX-License-Identifier: Apache-2.0 */
/* scrub ...: everything stored of a source read and compared with its digests, and what rotted. */
#include <inttypes.h>
#include <string.h>

#include "proto/common/units.h"
#include "server/ctl/change.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"
#include "server/ctl/waiting.h"

/* ---- status ---- */

static const struct table_column columns[] = {
    {"id", "SOURCE", false, false, 7},
    {"name", "NAME", false, true, 0},
    {"state", "SCRUB", false, false, 0},
    {"progress", "PROGRESS", true, false, 0},
    {"rate", "RATE", true, false, 5},
    {"last", "LAST COMPLETED", false, false, 0},
    {"damaged", "DAMAGED", true, false, 0},
    {"points", "POINTS HIT", true, false, 0},
    {"healed", "HEALED", true, false, 3},
    {"mended", "DIGESTS MENDED", true, false, COLUMN_EXTRA},
    {"read", "READ", true, false, COLUMN_EXTRA},
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
	json_t *sources, *source;
	size_t i;
	int code = find_named_or_all(ctl, &sources);

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(json_pack("{s:o}", "items", sources));
	code = print_sources(ctl, sources, columns, sizeof columns / sizeof columns[0], add_source);
	json_array_foreach (sources, i, source) {
		if (code == EXIT_DONE && !ctl_given(ctl, OPT_NO_HEADER))
			print_damage(source);
	}
	json_decref(sources);
	return code;
}

/* ---- start, cancel ---- */

static int
find_wanted(struct ctl *ctl, json_t **ret_sources)
{
	if ((ctl->operand_count == 1) == ctl_given(ctl, OPT_ALL))
		return ctl_fail(EXIT_USAGE, "a SOURCE or --all is wanted");
	return find_named_or_all(ctl, ret_sources);
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

/* What came of it: of one that was cancelled the last is still the one before. */
static void
print_outcome(const json_t *before, const json_t *now)
{
	const char *id = pick_text(now, "sourceServerID"), *last = "scrub.lastCompletedDateTime";
	int64_t damaged = pick_integer(now, "scrub.damagedBlocks");

	if (strcmp(pick_text(before, last), pick_text(now, last)) == 0)
		print_sentence(4, "%s: the scrub was cancelled before its end", id);
	else if (damaged == 0)
		print_sentence(4, "%s: all that is stored was read, and is whole", id);
	else
		print_sentence(4, "%s: %" PRId64 " %s damaged: holdfastctl scrub status %s", id, damaged,
		    damaged == 1 ? "block is" : "blocks are", id);
}

static int
wait_for_scrub(struct ctl *ctl, json_t *sources)
{
	int code = wait_until_over(ctl, "scrub", look_at_scrub, sources);
	json_t *before, *now;
	size_t i;

	json_array_foreach (sources, i, before) {
		if (code == EXIT_DONE)
			code =
			    client_get(ctl->client, &now, "/v1/source-servers/%s", pick_text(before, "sourceServerID"));
		if (code != EXIT_DONE)
			break;
		if (!ctl_given(ctl, OPT_JSON))
			print_outcome(before, now);
		json_decref(now);
	}
	return code;
}

int
run_scrub_start(struct ctl *ctl)
{
	json_t *sources;
	int code = find_wanted(ctl, &sources);

	if (code != EXIT_DONE)
		return code;
	code = change_each(ctl, "POST", "scrub", sources);
	if (code == EXIT_DONE && ctl_given(ctl, OPT_WAIT))
		code = wait_for_scrub(ctl, sources);
	json_decref(sources);
	return code;
}

/* Of all those that have one. */
static void
keep_running(json_t *sources)
{
	for (size_t i = json_array_size(sources); i > 0; i--)
		if (strcmp(pick_text(json_array_get(sources, i - 1), "scrub.state"), "RUNNING") != 0)
			json_array_remove(sources, i - 1);
}

int
run_scrub_cancel(struct ctl *ctl)
{
	json_t *sources;
	int code = find_wanted(ctl, &sources);

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_ALL))
		keep_running(sources);
	if (json_array_size(sources) == 0)
		code = ctl_fail(EXIT_NOT_FOUND, "no scrub is under way");
	else
		code = change_each(ctl, "DELETE", "scrub", sources);
	json_decref(sources);
	return code;
}
