/* SPDX-License-Identifier: Apache-2.0 */
/* How much of a source is taken, and how fast. Two things decide:
 *
 *	credit	what its agent may have on its way (source_window()): nothing while there is no room, or it is paused;
 *in that case it is also told to hold what it was granted before gate	what is read of it (server/throttle.h): TCP then
 *holds the agent back, so a throttle counts at once, also for what was granted before. With less credit than ever
 *without one, heartbeats are not stuck for long behind data that waits in the network. */
#include <time.h>

#include "proto/common/units.h"
#include "server/source_impl.h"

uint64_t
source_window(const struct source *src, uint64_t most)
{
	return source_is_full(src) || source_is_paused(src) ? 0 : throttle_gate_window(&src->gate, most);
}

bool
source_is_paused(const struct source *src)
{
	return src->facts.phase == PHASE_PAUSED;
}

int64_t
source_read_wait(struct source *src, size_t *bytes)
{
	int64_t wait_ns;

	if (src->gate.bytes_per_second == 0)
		return 0;
	wait_ns = throttle_gate_wait(&src->gate, clock_monotonic_ns());
	*bytes = throttle_gate_room(&src->gate, *bytes);
	return wait_ns;
}

void
source_read(struct source *src, size_t bytes)
{
	throttle_gate_take(&src->gate, bytes);
}

static unsigned
mbps_now(const struct throttle *t)
{
	time_t now = time(NULL);
	struct tm tm;

	if (t->window_count == 0)
		return t->mbps;
	localtime_r(&now, &tm);
	return throttle_mbps_at(t, (unsigned)(tm.tm_wday + 6) % 7, (unsigned)(tm.tm_hour * 60 + tm.tm_min));
}

void
source_tick_pace(struct source *src)
{
	throttle_gate_set(&src->gate, mbps_now(&src->facts.throttle), clock_monotonic_ns());
}

void
source_set_throttle(struct source *src, const struct throttle *t)
{
	src->facts.throttle = *t;
	source_tick_pace(src);
	src->dirty = true;
	source_touch(src);
}
