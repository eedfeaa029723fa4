/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/advice.h"

#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"

static bool
is_at_quota(const json_t *source)
{
	return strcmp(pick_text(source, "dataReplicationInfo.dataReplicationError.code"), "QUOTA_REACHED") == 0;
}

/* Has it a point that gives more back, or, while that is not known, a longer history? */
static bool
gives_more(const json_t *source, const json_t *than)
{
	static const char freed[] = "space.costliestPointInTime.freedBytesIfDeleted",
			  journal[] = "space.usage.journalBytes";
	int64_t more = pick_integer(source, freed) - pick_integer(than, freed);

	return more > 0 || (more == 0 && pick_integer(source, journal) > pick_integer(than, journal));
}

/* The source to look at: one that stalls at its quota; or, when it is the disk, the one that gives most. */
static const json_t *
pick_source(const json_t *version, const json_t *sources)
{
	bool low = strcmp(pick_text(version, "stagingArea.state"), "OK") != 0 ||
		   (pick(version, "journalArea") != NULL && strcmp(pick_text(version, "journalArea.state"), "OK") != 0);
	const json_t *most = NULL;
	json_t *source;
	size_t i;

	json_array_foreach (sources, i, source) {
		if (is_at_quota(source))
			return source;
		if (low && (most == NULL || gives_more(source, most)))
			most = source;
	}
	return most;
}

/* A row that can be deleted: neither held nor guarded, nor the newest, for that is what replication has come to. */
static bool
may_go(const json_t *pits, size_t i)
{
	const json_t *pit = json_array_get(pits, i);

	return pick_bool(pit, "kept") && !pick_bool(pit, "held") && !pick_bool(pit, "guarded") &&
	       i + 1 < json_array_size(pits);
}

static int64_t
freed_bytes(const json_t *pits, size_t i)
{
	return may_go(pits, i) ? pick_integer(json_array_get(pits, i), "freedBytesIfDeleted") : -1;
}

/* The one that gives most; of equals, and when that is not known, the oldest. -1: there is none (left). */
static int
pick_point(const json_t *pits, const bool *told)
{
	int best = -1;

	for (size_t i = 0; i < json_array_size(pits); i++)
		if (may_go(pits, i) && !told[i] && (best < 0 || freed_bytes(pits, i) > freed_bytes(pits, (size_t)best)))
			best = (int)i;
	return best;
}

static void
print_point(const json_t *pit)
{
	const json_t *freed = pick(pit, "freedBytesIfDeleted");
	char bytes[UNITS_TEXT_BYTES];

	printf("  holdfastctl pit delete %s    # of %s: %s%s\n", pick_text(pit, "pointInTimeID"),
	    pick_text(pit, "timestamp"), freed != NULL ? "frees " : "not known yet how much it frees",
	    freed != NULL ? size_format((uint64_t)json_integer_value(freed), bytes) : "");
}

size_t
advice_points(const json_t *pits, const json_t *ret_points[ADVICE_POINTS_MAX])
{
	bool *told = calloc(json_array_size(pits) + 1, sizeof *told);
	size_t n = 0;

	for (int i; told != NULL && n < ADVICE_POINTS_MAX && (i = pick_point(pits, told)) >= 0; n++) {
		told[i] = true;
		ret_points[n] = json_array_get(pits, (size_t)i);
	}
	free(told);
	return n;
}

static void
print_points(const json_t *pits)
{
	const json_t *points[ADVICE_POINTS_MAX];
	size_t n = advice_points(pits, points);

	for (size_t i = 0; i < n; i++)
		print_point(points[i]);
}

void
print_advice(struct ctl *ctl, const json_t *version, const json_t *sources)
{
	const json_t *source = pick_source(version, sources);
	const char *id = source != NULL ? pick_text(source, "sourceServerID") : "";
	char total[UNITS_TEXT_BYTES], journal[UNITS_TEXT_BYTES];
	json_t *pits;

	if (source == NULL || find_pits(ctl, id, &pits) != EXIT_DONE)
		return;
	putchar('\n');
	print_sentence(4, "to make room: %s takes %s, %s of it history%s", id,
	    size_format((uint64_t)pick_integer(source, "space.usage.totalBytes"), total),
	    size_format((uint64_t)pick_integer(source, "space.usage.journalBytes"), journal),
	    is_at_quota(source) ? ", which is its quota" : "");
	print_points(pits);
	if (is_at_quota(source))
		printf("  holdfastctl quota set %s SIZE\n", id);
	printf("  holdfastctl policy set %s RULE...    # keep less: holdfastctl policy show %s\n", id, id);
	json_decref(pits);
}
