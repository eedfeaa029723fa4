/* SPDX-License-Identifier: Apache-2.0 */
#include "server/catch_up.h"

#include <string.h>

#define SAMPLE_INTERVAL_NS (5 * NS_PER_SECOND)
#define SHORT_NS           (10 * NS_PER_SECOND)
#define LONG_NS            (60 * NS_PER_SECOND)
#define ETA_MAX_NS         (NS_PER_SECOND * 86400 * 36525) /* an agent may say what it likes: not known beyond */

enum { LONGER_MAX = 3 };

const char *
catch_up_state_name(enum catch_up_state s)
{
	switch (s) {
	case CATCH_UP_UNKNOWN: return "UNKNOWN";
	case CATCH_UP_DONE: return "CAUGHT_UP";
	case CATCH_UP_CONVERGING: return "CONVERGING";
	case CATCH_UP_NEVER: return "NOT_CONVERGING";
	}
	return "?";
}

static void
push(struct catch_up *c, int64_t now_ns, uint64_t bytes)
{
	if (c->count == CATCH_UP_SAMPLES)
		memmove(&c->samples[0], &c->samples[1], (size_t)--c->count * sizeof c->samples[0]);
	c->samples[c->count].at_ns = now_ns;
	c->samples[c->count++].bytes = bytes;
}

void
catch_up_note(struct catch_up *c, int64_t now_ns, enum activity activity, uint64_t pass, uint64_t bytes)
{
	if (activity != c->activity || pass != c->pass) {
		c->activity = activity;
		c->pass = pass;
		c->count = 0;
	}
	if (c->count == 0 || now_ns - c->samples[c->count - 1].at_ns >= SAMPLE_INTERVAL_NS)
		push(c, now_ns, bytes);
}

void
catch_up_checkpoint(struct catch_up *c, int64_t clock_ns, int64_t lag_ns, uint64_t differing_bytes)
{
	bool later = lag_ns > CATCH_UP_LATE_NS && c->lag_ns > 0 && lag_ns > c->lag_ns + c->lag_ns / 10;

	if (c->clock_ns != 0 && clock_ns > c->clock_ns)
		c->needed_rate = (uint64_t)((double)differing_bytes * NS_PER_SECOND / (double)(clock_ns - c->clock_ns));
	c->longer = later ? c->longer + 1 : 0;
	c->clock_ns = clock_ns;
	c->lag_ns = lag_ns;
}

/* Of every block, once: what is left can only become less. */
static bool
goes_through_all(const struct catch_up *c)
{
	return c->activity == ACTIVITY_FILL || c->activity == ACTIVITY_RESCAN || c->activity == ACTIVITY_PASS;
}

/* Bytes a nanosecond by which it has become less since sample i; 0 if it has not. */
static double
pace_since(const struct catch_up *c, unsigned i, int64_t now_ns, uint64_t bytes)
{
	int64_t span_ns = now_ns - c->samples[i].at_ns;

	if (span_ns <= 0 || bytes >= c->samples[i].bytes)
		return 0;
	return (double)(c->samples[i].bytes - bytes) / (double)span_ns;
}

/* The newest sample that is ten seconds old; the oldest if none is. */
static unsigned
short_sample(const struct catch_up *c, int64_t now_ns)
{
	unsigned i = c->count - 1;

	while (i > 0 && now_ns - c->samples[i].at_ns < SHORT_NS)
		i--;
	return i;
}

static bool
set_range(const struct catch_up *c, int64_t now_ns, uint64_t bytes, struct catch_up_status *s)
{
	double a = pace_since(c, 0, now_ns, bytes), b = pace_since(c, short_sample(c, now_ns), now_ns, bytes);
	double fast = a > b ? a : b, slow = a > b ? b : a;

	if (now_ns - c->samples[0].at_ns < SAMPLE_INTERVAL_NS)
		return false; /* what an agent tells moves in steps of a second: a shorter while says anything */
	if (slow <= 0 || (double)bytes / slow >= (double)ETA_MAX_NS)
		return false;
	s->earliest_ns = (int64_t)((double)bytes / fast);
	s->latest_ns = (int64_t)((double)bytes / slow);
	return true;
}

static bool
grows(const struct catch_up *c, int64_t now_ns, uint64_t bytes)
{
	return !goes_through_all(c) && now_ns - c->samples[0].at_ns >= LONG_NS && bytes >= c->samples[0].bytes;
}

/* What is written there is what arrives and what is left more than before. */
static uint64_t
needed_rate(const struct catch_up *c, int64_t now_ns, uint64_t bytes, uint64_t rate)
{
	int64_t span_ns = now_ns - c->samples[0].at_ns;
	double growth;

	if (goes_through_all(c) || c->needed_rate > 0 || span_ns <= 0)
		return c->needed_rate;
	growth = ((double)bytes - (double)c->samples[0].bytes) * NS_PER_SECOND / (double)span_ns;
	return (double)rate + growth > 0 ? (uint64_t)((double)rate + growth) : 0;
}

void
catch_up_get(const struct catch_up *c, int64_t now_ns, uint64_t bytes, int64_t lag_ns, uint64_t rate,
    struct catch_up_status *ret_status)
{
	bool late = lag_ns < 0 || lag_ns > CATCH_UP_LATE_NS;

	*ret_status = (struct catch_up_status){.left_bytes = bytes, .achieved_rate = rate};
	if (c->count == 0)
		return;
	ret_status->needed_rate = needed_rate(c, now_ns, bytes, rate);
	if (!late && c->activity != ACTIVITY_FILL && c->activity != ACTIVITY_RESCAN)
		ret_status->state = CATCH_UP_DONE;
	else if (c->longer >= LONGER_MAX || (bytes > 0 && grows(c, now_ns, bytes)))
		ret_status->state = CATCH_UP_NEVER;
	else if (bytes > 0 && set_range(c, now_ns, bytes, ret_status))
		ret_status->state = CATCH_UP_CONVERGING;
}
