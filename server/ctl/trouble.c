/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/trouble.h"

#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"
#include "server/ctl/pick.h"

enum { TOLD_MAX = 5, LINE_BYTES = 2048 };

/* The lower the worse. */
enum place { NEEDS_SOMEBODY, ON_ITS_WAY, WELL };

static bool
misses_target(const json_t *source)
{
	return json_is_false(pick(source, "rpoTargetMet"));
}

static enum place
place_of(const json_t *source)
{
	const char *state = pick_text(source, "dataReplicationInfo.dataReplicationState");

	if (misses_target(source) || strcmp(state, "STALLED") == 0 || strcmp(state, "DISCONNECTED") == 0 ||
	    pick_text(source, "dataReplicationInfo.dataReplicationError.code")[0] != '\0')
		return NEEDS_SOMEBODY;
	return strcmp(state, "CONTINUOUS") == 0 && pick_bool(source, "ready") ? WELL : ON_ITS_WAY;
}

size_t
count_troubled(const json_t *sources)
{
	size_t i, count = 0;
	json_t *source;

	json_array_foreach (sources, i, source) {
		count += place_of(source) == NEEDS_SOMEBODY;
	}
	return count;
}

/* No point at all is the furthest behind one can be. */
static double
lag_of(const json_t *source)
{
	const json_t *lag = pick(source, "lag.consistentSeconds");

	return lag == NULL ? 1e18 : json_number_value(lag);
}

static int
by_trouble(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	enum place px = place_of(x), py = place_of(y);

	if (px != py)
		return px < py ? -1 : 1;
	if (px != WELL && lag_of(x) != lag_of(y))
		return lag_of(x) > lag_of(y) ? -1 : 1;
	return strcmp(pick_text(x, "sourceProperties.identificationHints.hostname"),
	    pick_text(y, "sourceProperties.identificationHints.hostname"));
}

json_t *
sort_by_trouble(const json_t *sources)
{
	size_t count = json_array_size(sources);
	json_t **list = calloc(count + 1, sizeof *list), *sorted = json_array();

	if (list == NULL || sorted == NULL)
		abort();
	for (size_t i = 0; i < count; i++)
		list[i] = json_array_get(sources, i);
	qsort(list, count, sizeof *list, by_trouble);
	for (size_t i = 0; i < count; i++)
		json_array_append(sorted, list[i]);
	free(list);
	return sorted;
}

/* ---- sentences ---- */

/* "; its newest point is 23m old, and its RPO target 15m": "" if it is met. */
static const char *
target_text(const json_t *source, char *buf, size_t size)
{
	char lag[UNITS_TEXT_BYTES], target[UNITS_TEXT_BYTES];

	buf[0] = '\0';
	if (misses_target(source))
		snprintf(buf, size, "; its newest point is %s old, and its RPO target %s",
		    duration_format((int64_t)(lag_of(source) * 1e9), lag),
		    duration_format((int64_t)(json_number_value(pick(source, "rpoTargetSeconds")) * 1e9), target));
	return buf;
}

/* "; but rot was found": an error that goes on beside the state, which does not tell it. "" = there is none. */
static const char *
beside_text(const json_t *source, char *buf, size_t size)
{
	const char *error = pick_text(source, "dataReplicationInfo.dataReplicationError.rawError");

	buf[0] = '\0';
	if (error[0] != '\0' && strstr(pick_text(source, "dataReplicationInfo.stateReason"), error) == NULL)
		snprintf(buf, size, "; but %s", error);
	return buf;
}

/* The state's, or that of the first reason why it is not ready; or where to look. */
static void
find_cure(const json_t *source, char *ret_text, size_t size)
{
	const char *cure = pick_text(source, "dataReplicationInfo.cure");
	json_t *reason;
	size_t i;

	json_array_foreach (pick(source, "reasons"), i, reason) {
		if (cure[0] == '\0')
			cure = pick_text(reason, "cure");
	}
	if (cure[0] != '\0')
		snprintf(ret_text, size, "%s", cure);
	else
		snprintf(ret_text, size, "holdfastctl source show %s", pick_text(source, "sourceServerID"));
}

static void
print_one(const struct ctl *ctl, const json_t *sources, const json_t *source, int64_t now_ns)
{
	const json_t *why = json_array_get(pick(source, "reasons"), 0);
	const char *reason = why != NULL && !pick_bool(source, "ready") && place_of(source) != NEEDS_SOMEBODY
				 ? pick_text(why, "text")
				 : pick_text(source, "dataReplicationInfo.stateReason");
	int64_t since_ns = pick_time_ns(source, "dataReplicationInfo.stateSinceDateTime");
	char line[LINE_BYTES], cure[LINE_BYTES], span[UNITS_TEXT_BYTES], target[160], beside[600],
	    name[SOURCE_TEXT_BYTES];

	snprintf(line, sizeof line, "%s is %s, for %s now: %s%s%s", format_source(sources, source, name, sizeof name),
	    pick_text(source, "dataReplicationInfo.dataReplicationState"), duration_format(now_ns - since_ns, span),
	    reason, beside_text(source, beside, sizeof beside), target_text(source, target, sizeof target));
	print_wrapped(ctl, line, 4, place_of(source) == NEEDS_SOMEBODY ? MOOD_BAD : MOOD_WARN);
	find_cure(source, cure, sizeof cure);
	snprintf(line, sizeof line, "    next: %s", cure);
	print_wrapped(ctl, line, 10, MOOD_PLAIN);
}

bool
print_trouble(const struct ctl *ctl, const json_t *sources, int64_t now_ns)
{
	size_t i, count = 0;
	json_t *source;

	json_array_foreach (sources, i, source) {
		if (place_of(source) != WELL && count++ < TOLD_MAX)
			print_one(ctl, sources, source, now_ns);
	}
	if (count > TOLD_MAX)
		printf("and %zu more: holdfastctl status -o name,state,reason\n", count - TOLD_MAX);
	return count > 0;
}
