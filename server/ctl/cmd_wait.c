/* SPDX-License-Identifier: Apache-2.0 */
/* wait: until something is true of a source, for scripts. */
#include <string.h>

#include "proto/common/units.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"
#include "server/ctl/waiting.h"

struct awaited {
	const struct goal *goal;
	const char *state;     /* of state=... */
	const char *source_id; /* borrowed */
	int64_t begun_ns;      /* real clock */
	int64_t deadline_ns;   /* monotonic; 0 = none */
	json_t *source;        /* as seen last */
	bool is_told;          /* why it is not so yet */
};

/* What may be waited for. */
struct goal {
	const char *word;
	bool (*is_met)(const struct awaited *a);
};

static bool
is_ready(const struct awaited *a)
{
	return pick_bool(a->source, "ready");
}

static bool
is_in_state(const struct awaited *a)
{
	return strcmp(pick_text(a->source, "dataReplicationInfo.dataReplicationState"), a->state) == 0;
}

/* A point to recover from that shows a moment after the waiting began. */
static bool
has_new_point(const struct awaited *a)
{
	return pick_time_ns(a->source, "newestPointInTime.timestamp") > a->begun_ns;
}

/* How much of the volumes is here. */
static void
measure(const json_t *source, uint64_t *ret_done, uint64_t *ret_total)
{
	json_t *disk;
	size_t i;

	*ret_done = *ret_total = 0;
	json_array_foreach (pick(source, "dataReplicationInfo.replicatedDisks"), i, disk) {
		*ret_total += (uint64_t)pick_integer(disk, "totalStorageBytes");
		*ret_done += (uint64_t)pick_integer(disk, "replicatedStorageBytes");
	}
}

/* The first copy of all volumes is here, and nothing waits at the source. */
static bool
is_synced(const struct awaited *a)
{
	uint64_t done, total;

	measure(a->source, &done, &total);
	return total > 0 && done == total && pick_integer(a->source, "backlogBytes") == 0 &&
	       pick_bool(a->source, "agent.connected");
}

static const struct goal goals[] = {
    {"ready", is_ready},
    {"point", has_new_point},
    {"synced", is_synced},
    {"state=", is_in_state},
};

static const char *const states[] = {"STOPPED", "INITIATING", "INITIAL_SYNC", "BACKLOG", "CREATING_SNAPSHOT",
    "CONTINUOUS", "PAUSED", "RESCAN", "STALLED", "DISCONNECTED"};

static bool
is_state(const char *text)
{
	for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
		if (strcmp(states[i], text) == 0)
			return true;
	return false;
}

static int
parse_goal(const struct ctl *ctl, struct awaited *a)
{
	const char *text = ctl_given(ctl, OPT_FOR) ? ctl->values[OPT_FOR] : "ready";

	if (strncmp(text, "state=", 6) == 0)
		a->state = text + 6;
	for (size_t i = 0; i < sizeof goals / sizeof goals[0]; i++)
		if (strcmp(goals[i].word, a->state != NULL ? "state=" : text) == 0)
			a->goal = &goals[i];
	if (a->goal == NULL || (a->state != NULL && !is_state(a->state)))
		return ctl_fail(EXIT_USAGE,
		    "--for %s: ready, point, synced, or state= and one of DRS's states, CONTINUOUS say, is wanted",
		    text);
	return EXIT_DONE;
}

/* The timeout was checked when the client was made. */
static int64_t
find_deadline(const struct ctl *ctl)
{
	int64_t ns;

	if (!ctl_given(ctl, OPT_TIMEOUT) || duration_parse(ctl->values[OPT_TIMEOUT], &ns) < 0)
		return 0;
	return clock_monotonic_ns() + ns;
}

static void
say_why_not(const struct awaited *a, const char *what)
{
	const json_t *why = json_array_get(pick(a->source, "reasons"), 0);

	ctl_note("%s: %s is %s: %s", what, a->source_id,
	    pick_text(a->source, "dataReplicationInfo.dataReplicationState"),
	    why != NULL ? pick_text(why, "text") : pick_text(a->source, "dataReplicationInfo.stateReason"));
}

/* How far the first copy is, as long as that is what it waits for. */
static void
measure_first_copy(const struct awaited *a, struct waiting *w)
{
	measure(a->source, &w->done_bytes, &w->total_bytes);
	if (w->done_bytes == w->total_bytes)
		w->total_bytes = 0;
}

static int
look(void *arg, struct ctl *ctl, struct waiting *ret_waiting)
{
	struct awaited *a = arg;
	int code;

	json_decref(a->source);
	a->source = NULL;
	code = client_get(ctl->client, &a->source, "/v1/source-servers/%s", a->source_id);
	if (code != EXIT_DONE)
		return code;
	if (a->goal->is_met == is_synced)
		measure_first_copy(a, ret_waiting);
	ret_waiting->is_over = a->goal->is_met(a);
	if (ret_waiting->is_over)
		return EXIT_DONE;
	if (!a->is_told)
		say_why_not(a, "waiting");
	a->is_told = true;
	return a->deadline_ns != 0 && clock_monotonic_ns() >= a->deadline_ns ? EXIT_NOT_MET : EXIT_DONE;
}

static void
print_source(const struct ctl *ctl, const struct awaited *a)
{
	if (ctl_given(ctl, OPT_JSON))
		(void)print_json(json_incref(a->source)); /* what was not written is noticed at the end */
	else
		print_sentence(4, "%s: %s, %s", a->source_id,
		    pick_text(a->source, "dataReplicationInfo.dataReplicationState"),
		    pick_bool(a->source, "ready") ? "Ready" : "not ready");
}

int
run_wait(struct ctl *ctl)
{
	struct awaited a = {.begun_ns = clock_real_ns(), .deadline_ns = find_deadline(ctl)};
	json_t *source;
	int code = parse_goal(ctl, &a);

	if (code == EXIT_DONE)
		code = find_source(ctl, ctl->operands[0], &source);
	if (code != EXIT_DONE)
		return code;
	a.source_id = pick_text(source, "sourceServerID");
	code = wait_until_over(ctl, "waiting", look, &a);
	if (code == EXIT_NOT_MET)
		say_why_not(&a, "not in time");
	if (code == EXIT_DONE || (code == EXIT_NOT_MET && ctl_given(ctl, OPT_JSON)))
		print_source(ctl, &a);
	json_decref(a.source);
	json_decref(source);
	return code;
}
