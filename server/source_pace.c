/* SPDX-License-Identifier: Apache-2.0 */
/* How much of a source is taken, and how fast.
 *
 * Credit is what its agent may have on its way. There is none while there is no room, or while it is paused; then the
 * agent is also told to hold what it was granted before. All have the same, and so, where many wait for one disk, the
 * same share of it; but while one that is late is held up by the server, those with more time have as little as the
 * protocol allows (server/precedence.h).
 *
 * The gate is a throttle (server/throttle.h): what is read of the socket. TCP then holds the agent back, so a throttle
 * counts at once, also for what was granted before. There is less credit than without one, so that heartbeats are not
 * stuck for long behind data that waits in the network. */
#include <stdint.h>
#include <time.h>

#include "proto/common/units.h"
#include "server/source_impl.h"

enum {
	LATE_PART = 2,   /* of its RPO target: then a source may claim to go first */
	ALIKE_PART = 10, /* of it: sources whose lateness differs by less are as late as each other */
};

uint64_t
source_window(const struct source *src, uint64_t most)
{
	if (source_is_full(src) || source_is_paused(src))
		return 0;
	if (precedence_yields(&src->server->precedence, src->due_ns, src->worker->now_ns) && most > CREDIT_MIN_BYTES)
		most = CREDIT_MIN_BYTES;
	return throttle_gate_window(&src->gate, most);
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
source_note_credit(struct source *src, uint64_t left_bytes)
{
	if (left_bytes < CREDIT_MIN_BYTES && source_window(src, CREDIT_MIN_BYTES) > 0)
		src->held_up_ns = src->worker->now_ns;
}

/* What it sent lately waited here for the disk until its agent had no credit left. */
static bool
is_held_up(const struct source *src)
{
	return src->session != NULL && src->worker->now_ns - src->held_up_ns < NS_PER_SECOND;
}

/* A source without a target, or without a point, is never late. */
static int64_t
due_ns(const struct source *src)
{
	const struct checkpoint *newest = src->life == SOURCE_OPEN ? store_newest_consistent(src->store) : NULL;

	if (newest == NULL || src->settings.rpo_target_ns == 0)
		return INT64_MAX;
	return source_until_ns(newest) + src->settings.rpo_target_ns;
}

static void
claim_precedence(struct source *src)
{
	int64_t target_ns = src->settings.rpo_target_ns;

	src->due_ns = due_ns(src);
	if (src->due_ns < clock_real_ns() + target_ns / LATE_PART && is_held_up(src))
		precedence_claim(&src->server->precedence, src->due_ns + target_ns / ALIKE_PART, src->worker->now_ns);
}

void
source_tick_pace(struct source *src)
{
	throttle_gate_set(&src->gate, mbps_now(&src->facts.throttle), clock_monotonic_ns());
	claim_precedence(src);
}

void
source_set_throttle(struct source *src, const struct throttle *t)
{
	src->facts.throttle = *t;
	source_tick_pace(src);
	src->dirty = true;
	source_touch(src);
}
