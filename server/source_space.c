/* SPDX-License-Identifier: Apache-2.0 */
/* How short of room a source is: the staging area's file system is everybody's, a quota its own. Once a second its
 * store is told the worse of the two; what the source takes is counted on the catalog thread, the less often the longer
 * that takes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"
#include "server/area.h"
#include "server/source_impl.h"

/* ---- what it takes ---- */

struct usage_job {
	struct job job;
	struct source *source;
	struct usage usage;
	int status;
	uint64_t taken_bytes;
	int64_t begun_ns, ended_ns;
};

static void
run_usage(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct usage_job *u = (struct usage_job *)job;

	u->begun_ns = clock_monotonic_ns();
	u->status = usage_measure(u->source->dir, &u->usage);
	u->ended_ns = clock_monotonic_ns();
}

/* A hundredth of a thread is enough for counting. */
static void
on_usage(struct job *job)
{
	struct usage_job *u = (struct usage_job *)job;
	struct source *src = u->source;
	int64_t took_ns = u->ended_ns - u->begun_ns;

	src->jobs_out--;
	src->space.counting = false;
	if (u->status == 0) {
		src->space.usage = u->usage;
		src->space.counted_ns = u->begun_ns;
		src->space.taken_bytes = u->taken_bytes;
		src->dirty = true;
	}
	src->space.next_ns = u->ended_ns + 100 * took_ns;
	free(u);
	source_touch(src);
}

static void
count_usage(struct source *src, const struct store_stats *t, int64_t now_ns)
{
	int64_t interval = src->space.quota_bytes != 0 ? USAGE_QUOTA_INTERVAL_NS : USAGE_INTERVAL_NS;
	struct usage_job *u;

	if (src->space.counting || now_ns < src->space.next_ns)
		return;
	if (src->space.counted_ns != 0 && now_ns - src->space.counted_ns < interval)
		return;
	u = calloc(1, sizeof *u);
	if (u == NULL)
		return;
	u->job.run = run_usage;
	u->job.done = on_usage;
	u->job.home = src->worker->mailbox;
	u->source = src;
	u->taken_bytes = t->taken_bytes;
	src->space.counting = true;
	src->jobs_out++;
	jobs_post(src->server->catalog, &u->job);
}

/* ---- where it stands ---- */

static void
judge_quota(struct source *src, const struct store_stats *t)
{
	uint64_t used = usage_total(&src->space.usage) + t->taken_bytes - src->space.taken_bytes;
	enum space_level was = src->space.quota_level;
	enum when_full *when_full = &src->space.when_full;

	store_get_quota(src->store, &src->space.quota_bytes, when_full);
	src->space.thins = *when_full == WHEN_FULL_DEFAULT ? server_thins(src->server) : *when_full == WHEN_FULL_THIN;
	src->space.quota_level = SPACE_EASY;
	if (src->space.counted_ns != 0)
		src->space.quota_level =
		    space_judge_quota(used, src->space.quota_bytes, was, &src->space.quota_room_bytes);
}

static struct area *
journal_area(const struct source *src)
{
	struct area *journal = src->server->areas[AREA_JOURNAL];

	return journal != NULL && src->space.usage.journal_elsewhere ? journal : src->server->areas[AREA_DATA];
}

/* The worse of two; segments are prepared on the second, and leave its reserve. */
static struct space
worse(struct space a, const struct space *b)
{
	a.level = a.level > b->level ? a.level : b->level;
	a.room_bytes = a.room_bytes < b->room_bytes ? a.room_bytes : b->room_bytes;
	a.measured_ns = a.measured_ns < b->measured_ns ? a.measured_ns : b->measured_ns;
	a.reserve_bytes = b->reserve_bytes;
	return a;
}

/* What the file systems leave the source. */
static struct space
look_at_areas(const struct source *src)
{
	struct area_facts data, journal;
	struct space space;

	area_get(src->server->areas[AREA_DATA], &data);
	area_get(journal_area(src), &journal);
	space = area_space(&journal);
	return worse(area_space(&data), &space);
}

/* The store counts down what it was told until it is told of a later measurement. */
static void
note_what_store_knows(struct source *src, const struct store_stats *t, int64_t measured_ns)
{
	bool is_new = measured_ns != src->space.known_ns;

	src->space.known_ns = measured_ns;
	src->space.as_counted = (is_new || src->space.as_counted) && t->taken_bytes == src->space.taken_bytes;
}

static void
tell_store(struct source *src, const struct store_stats *t)
{
	struct space space = look_at_areas(src);

	if (src->space.quota_bytes != 0 && src->space.counted_ns != 0) {
		struct space quota = {src->space.quota_level, false, src->space.quota_room_bytes, space.reserve_bytes,
		    src->space.counted_ns};

		space = worse(space, &quota);
	}
	space.thin = src->space.thins;
	src->space.level = space.level;
	note_what_store_knows(src, t, space.measured_ns);
	store_set_space(src->store, &space);
}

/* The staging files of a source grow by what a fold writes into their holes, and by no more than these are. */
static void
tell_need(struct source *src, const struct store_stats *t)
{
	struct store_volume *list = src->worker->volume_scratch;
	size_t n = store_list_all_volumes(src->store, list, VOLUMES_MAX);
	uint64_t size_bytes = 0, staging_bytes = src->space.usage.staging_bytes, holes;

	if (src->space.counted_ns == 0)
		return;
	for (size_t i = 0; i < n; i++)
		size_bytes += list[i].size_bytes;
	holes = size_bytes > staging_bytes ? size_bytes - staging_bytes : 0;
	area_tell_need(src->server->areas[AREA_DATA], t->fold_bytes < holes ? t->fold_bytes : holes);
	area_tell_need(journal_area(src), t->merge_bytes);
}

void
source_tick_space(struct source *src, int64_t now_ns)
{
	struct store_stats t;

	store_get_stats(src->store, &t);
	count_usage(src, &t, now_ns);
	judge_quota(src, &t);
	tell_need(src, &t);
	tell_store(src, &t);
}

bool
source_is_full(const struct source *src)
{
	return src->space.level == SPACE_FULL;
}

/* It is its quota, not the disk, that leaves no room. */
static bool
meets_quota(const struct source *src)
{
	struct space space = look_at_areas(src);

	return src->space.quota_bytes != 0 && space.level != SPACE_FULL &&
	       src->space.quota_room_bytes < space.room_bytes;
}

/* Between two counts a source is held to its quota by what it took, and that is more than what it takes: a segment that
 * is sealed gives back what it did not need. To wait for the next count is right, to tell it as the end of the quota is
 * not: it is when the store was told of that count and took nothing since (what it refused before, it has not tried
 * again), and stays so while the last of it is taken in small steps. */
bool
source_is_full_as_counted(const struct source *src, const struct store_stats *t)
{
	return src->space.at_quota || !meets_quota(src) ||
	       (src->space.as_counted && t->taken_bytes == src->space.taken_bytes);
}

static void
say_quota(struct source *src)
{
	char used[UNITS_TEXT_BYTES], quota[UNITS_TEXT_BYTES];
	bool at_quota = src->space.at_quota;

	server_event(src->server, &src->id, at_quota ? "quota_reached" : "quota_room",
	    "it takes %s of the %s it may: %s", size_format(usage_total(&src->space.usage), used),
	    src->space.quota_bytes != 0 ? size_format(src->space.quota_bytes, quota) : "staging area",
	    at_quota ? "nothing more is taken; other sources are not affected" : "replication goes on");
}

bool
source_watch_quota(struct source *src, bool is_full)
{
	bool was = src->space.at_quota;

	if (src->space.counted_ns == 0)
		return was; /* the store was just opened */
	src->space.at_quota = is_full && meets_quota(src);
	if (src->space.at_quota != was)
		say_quota(src);
	return src->space.at_quota;
}

void
source_tell_full(struct source *src)
{
	area_tell_full(src->server->areas[AREA_DATA]);
	area_tell_full(journal_area(src));
}

/* ---- what was given up ---- */

void
source_note_thinned(struct source *src, const struct pit *pit)
{
	char time[UNITS_TEXT_BYTES];

	source_publish(src); /* who hears of it, and looks, finds it gone */
	server_event(src->server, &src->id, "point_thinned",
	    "point %s of %s was given up for want of room, as when_full = thin says", pit->id.text,
	    time_format(pit->time_ns, time));
}

void
source_note_window(struct source *src, const struct source_status *s)
{
	bool is_short = s->store.window_ns < s->policy.journal_window_ns;
	char window[UNITS_TEXT_BYTES];

	if (is_short == src->space.window_short)
		return;
	src->space.window_short = is_short;
	if (is_short)
		server_event(src->server, &src->id, "window_shortened",
		    "there is little room: not every checkpoint of the last %s can be restored any more; kept points "
		    "can",
		    duration_format(s->policy.journal_window_ns, window));
	else
		server_event(src->server, &src->id, "window_restored", "every checkpoint is kept for %s again",
		    duration_format(s->policy.journal_window_ns, window));
}
