/* SPDX-License-Identifier: Apache-2.0 */
/* store_space.c: short of room: what a store gives up, and in which order (see space.h). */
#include "storage/store_impl.h"

#include <string.h>

#include "proto/common/units.h"
#include "storage/plant.h"

/* Running time from the oldest checkpoint there is to the newest. */
static int64_t
span_ns(const struct store *s)
{
	const struct marks *m = &s->marks;

	return s->has_consistent && m->count > 0 ? m->newest.running_ns - marks_at(m, 0)->running_ns : 0;
}

int64_t
store_window_ns(const struct store *s)
{
	int64_t window = s->policy.journal_window_ns;

	return window < s->space.window_ns ? window : s->space.window_ns;
}

/* Nothing that was begun is under way, and what it brought was measured since. */
static bool
may_step(const struct store *s)
{
	return !store_is_freeing(s) && s->asked_jobs == 0 &&
	       (s->space.told.measured_ns > s->space.acted_ns || PLANTED(52));
}

/* The window reaches back only as far as there are checkpoints: half of that is what can go. */
static void
shorten_window(struct store *s)
{
	int64_t window = store_window_ns(s), span = span_ns(s);

	s->space.window_ns = space_shorter_window(window < span ? window : span, s->policy.min_retention_ns);
	s->space.acted_ns = clock_monotonic_ns();
	s->space.keep_wanted = !store_newest_is_kept(s);
	s->points_wanted = true;
	store_wake_job(s);
}

void
store_set_space(struct store *s, const struct space *space)
{
	struct space was = s->space.told;

	s->space.told = *space;
	if (space->measured_ns == was.measured_ns && was.room_bytes < space->room_bytes)
		s->space.told.room_bytes = was.room_bytes; /* what was taken since is not in there yet */
	if (space->level < SPACE_SHORTEN) {
		s->space.window_ns = INT64_MAX;
		s->space.thin_wanted = false;
		return;
	}
	if (was.level < SPACE_SHORTEN)
		store_wake_job(s); /* folds take smaller steps from now on */
	if (retention_stopped(&s->retention) || !may_step(s))
		return;
	if (store_window_ns(s) > s->policy.min_retention_ns && span_ns(s) > s->policy.min_retention_ns)
		shorten_window(s);
	else if (space->level >= SPACE_THIN && (space->thin || PLANTED(51)))
		s->space.thin_wanted = true;
}

bool
store_take_room(struct store *s, uint64_t bytes)
{
	struct space *told = &s->space.told;

	if (told->level == SPACE_FULL || told->room_bytes < bytes)
		return false;
	if (told->room_bytes != UINT64_MAX)
		told->room_bytes -= bytes;
	s->stats.taken_bytes += bytes;
	return true;
}

/* A fold writes before it frees: when there is little room, one run's worth at a time, which the reserve has room for.
 */
uint64_t
store_fold_step(const struct store *s, uint64_t target)
{
	const struct segment *oldest = s->segments;

	if (s->space.told.level < SPACE_SHORTEN || target == 0 || oldest->info.lsn_last + 1 >= target)
		return target;
	return oldest->info.lsn_last + 1;
}
