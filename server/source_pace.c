/* SPDX-License-Identifier: Apache-2.0 */
/* How much of a source is taken, and how fast.
 *
 * Credit is what its agent may have on its way. There is none while there is no room, or while it is paused; then the
 * agent is also told to hold what it was granted before. All have the same, and so, where many wait for one disk, the
 * same share of it.
 *
 * But one that is late, and waits for our disk or for its line, goes first (server/precedence.h), as long as that is
 * seen to help it (server/trial.h): the line may be its own. Those with more time have shares then, together a part of
 * what the late one brings, and more as long as that one waits no more: its throttle or its own disks hold it up then,
 * and the rest of the line is nobody's. Whatever came beyond a share is made up for by holding. Whoever would miss its
 * own target gives way no longer: that one is late already, and no reason to make another so.
 *
 * The gate is a throttle (server/throttle.h): what is read of the socket. TCP then holds the agent back, so a throttle
 * counts at once, also for what was granted before. There is less credit than without one, so that heartbeats are not
 * stuck for long behind data that waits in the network. */
#include <stdint.h>
#include <time.h>

#include "proto/common/log.h"
#include "proto/common/units.h"
#include "server/session_impl.h"
#include "server/source_impl.h"

#define LEFT_MAX_BYTES UINT32_MAX /* a second: more than a line has */
#define MUCH           0.2        /* of its time: then a source is held up by what it waits for */

enum {
	LATE_PART = 2,   /* of its RPO target: then a source may claim to go first */
	LEFT_PART = 8,   /* of what it brings: so much it leaves the others while it waits */
	SPARE_PART = 10, /* of its RPO target: whoever has no more time than that to spare gives way to nobody */
};

bool
source_gives_way(const struct source *src)
{
	return src->share.bytes_per_second != 0;
}

uint64_t
source_window(const struct source *src, uint64_t most)
{
	if (source_is_full(src) || source_is_paused(src))
		return 0;
	if (source_gives_way(src) && most > CREDIT_MIN_BYTES)
		most = CREDIT_MIN_BYTES;
	return throttle_gate_window(&src->gate, most);
}

bool
source_is_paused(const struct source *src)
{
	return src->facts.phase == PHASE_PAUSED;
}

bool
source_is_held(struct source *src)
{
	return source_is_paused(src) || throttle_gate_wait(&src->share, clock_monotonic_ns()) > 0;
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
	throttle_gate_take(&src->share, bytes);
	src->read_bytes += bytes;
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

/* A source without a target, or without a point, is never late. */
static int64_t
due_ns(const struct source *src)
{
	const struct checkpoint *newest = src->life == SOURCE_OPEN ? store_newest_consistent(src->store) : NULL;

	if (newest == NULL || src->settings.rpo_target_ns == 0)
		return INT64_MAX;
	return source_until_ns(src, newest) + src->settings.rpo_target_ns;
}

/* A second went by within one frame, which its agent had whole, and which we would have read: that is its line. The
 * agent's own word comes after the frame. */
static void
watch_frame(struct source *src, int64_t now_ns)
{
	uint64_t waited_ns = throttle_gate_waited_ns(&src->gate, now_ns);

	src->frame_is_slow = src->session != NULL && src->session->step == READ_PAYLOAD &&
			     src->received_frames == src->looked.frames && waited_ns == src->looked.waited_ns;
	src->looked.frames = src->received_frames;
	src->looked.waited_ns = waited_ns;
}

/* What others may have the use of, too: not its own disks, processor and throttle. */
static bool
waits_for_shared(const struct source *src)
{
	double waits[STAGES];

	return src->frame_is_slow || (stages_get(&src->stages, waits) &&
					 waits[STAGE_NETWORK] + waits[STAGE_WRITE] + waits[STAGE_SYNC] > MUCH);
}

/* Neither does it have what it wants, nor do its own disks, processor and throttle hold it up, as far as is known. */
static bool
is_short(const struct source *src)
{
	double waits[STAGES];
	int worst;

	if (src->frame_is_slow || !stages_get_newest(&src->stages, waits))
		return true;
	worst = stages_bottleneck(waits);
	return worst == STAGE_NETWORK || worst == STAGE_WRITE || worst == STAGE_SYNC;
}

static bool
is_late(const struct source *src)
{
	return src->due_ns < clock_real_ns() + src->settings.rpo_target_ns / LATE_PART;
}

static void
log_trial(const struct source *src)
{
	if (src->trial.phase == TRIAL_HELPED || src->trial.phase == TRIAL_VAIN)
		log_info("trial", "source=%s msg=\"it is late, and that the others give way %s\"", src->id.text,
		    src->trial.phase == TRIAL_HELPED ? "helps" : "does not help: they no longer do");
}

/* Neither paused, nor full. */
static bool
is_taken(const struct source *src)
{
	return src->session != NULL && source_window(src, CREDIT_MIN_BYTES) > 0;
}

/* Or has what it could. */
static bool
is_bringing(struct source *src, int64_t now_ns)
{
	return src->session->step == READ_PAYLOAD || src->backlog_bytes > 0 || rate_get(&src->rate, now_ns, 2) > 0;
}

/* While the others give way it need not wait: what counts then is that this goes on helping, and is made use of. */
static bool
needs_precedence(struct source *src, int64_t now_ns)
{
	return is_taken(src) && is_late(src) && is_bringing(src, now_ns) && (src->goes_first || waits_for_shared(src));
}

/* As a sender of TCP seeks what a line has room for: a little more each second, and half when it was too much. */
static uint64_t
leave_others(struct source *src, int64_t now_ns)
{
	uint64_t least = rate_get(&src->rate, now_ns, RATE_SECONDS) / LEFT_PART;
	bool spare = src->trial.phase == TRIAL_HELPED && !is_short(src) && src->left < LEFT_MAX_BYTES;
	uint64_t more = spare ? src->left + src->left / 8 : src->left / 2;

	return more > least ? more : least;
}

static void
claim_precedence(struct source *src, int64_t now_ns)
{
	struct precedence *p = &src->server->precedence;
	enum trial_phase before = src->trial.phase;

	src->goes_first = trial_tick(&src->trial, needs_precedence(src, now_ns), src->read_bytes, now_ns);
	if (src->trial.phase != before)
		log_trial(src);
	src->left = src->goes_first ? leave_others(src, now_ns) : 0;
	if (src->goes_first)
		precedence_claim(p, src, src->due_ns, src->left, now_ns);
	else
		precedence_withdraw(p, src);
}

/* Or it brought more than its share, and that is still made up for. */
static bool
has_more(struct source *src, int64_t now_ns)
{
	return src->backlog_bytes > 0 || throttle_gate_wait(&src->share, now_ns) > 0;
}

static void
give_way(struct source *src, int64_t now_ns)
{
	struct precedence *p = &src->server->precedence;
	int64_t spare_until_ns = src->due_ns - src->settings.rpo_target_ns / SPARE_PART;
	bool yields = spare_until_ns > clock_real_ns() && precedence_yields(p, src, spare_until_ns, now_ns);

	precedence_count(p, &src->shares, yields && is_taken(src) && has_more(src, now_ns));
	throttle_gate_set_rate(&src->share, yields ? precedence_share(p) : 0, now_ns);
}

void
source_tick_pace(struct source *src)
{
	int64_t now_ns = clock_monotonic_ns();

	throttle_gate_set(&src->gate, mbps_now(&src->facts.throttle), now_ns);
	src->due_ns = due_ns(src);
	watch_frame(src, now_ns);
	claim_precedence(src, now_ns);
	give_way(src, now_ns);
}

void
source_set_throttle(struct source *src, const struct throttle *t)
{
	src->facts.throttle = *t;
	source_tick_pace(src);
	src->dirty = true;
	source_touch(src);
}
