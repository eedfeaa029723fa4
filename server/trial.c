/* SPDX-License-Identifier: Apache-2.0 */
#include "server/trial.h"

#include "proto/common/units.h"

#define GAIN 1.25 /* what happens by chance is less */

static const int64_t lasts_ns[] = {
    [TRIAL_NONE] = 0,
    [TRIAL_BEFORE] = 5 * NS_PER_SECOND,
    [TRIAL_DURING] = 5 * NS_PER_SECOND,
    [TRIAL_HELPED] = 60 * NS_PER_SECOND,
    [TRIAL_VAIN] = 300 * NS_PER_SECOND,
};

static void
enter(struct trial *t, enum trial_phase phase, uint64_t bytes, int64_t now_ns)
{
	t->phase = phase;
	t->since_ns = now_ns;
	t->since_bytes = bytes;
}

static double
rate_since(const struct trial *t, uint64_t bytes, int64_t now_ns)
{
	return (double)(bytes - t->since_bytes) / (double)(now_ns - t->since_ns);
}

static enum trial_phase
next_phase(struct trial *t, uint64_t bytes, int64_t now_ns)
{
	switch (t->phase) {
	case TRIAL_BEFORE: t->rate_before = rate_since(t, bytes, now_ns); return TRIAL_DURING;
	case TRIAL_DURING: return rate_since(t, bytes, now_ns) > GAIN * t->rate_before ? TRIAL_HELPED : TRIAL_VAIN;
	case TRIAL_NONE:
	case TRIAL_HELPED:
	case TRIAL_VAIN: break;
	}
	return TRIAL_BEFORE;
}

bool
trial_tick(struct trial *t, bool needed, uint64_t bytes, int64_t now_ns)
{
	bool over = now_ns - t->since_ns >= lasts_ns[t->phase];

	if (!needed && t->phase != TRIAL_VAIN)
		t->phase = TRIAL_NONE;
	else if (needed && over)
		enter(t, next_phase(t, bytes, now_ns), bytes, now_ns);
	return t->phase == TRIAL_DURING || t->phase == TRIAL_HELPED;
}
