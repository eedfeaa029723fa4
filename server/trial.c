/* SPDX-License-Identifier: Apache-2.0 */
#include "server/trial.h"

#include "proto/common/units.h"

#define GAIN     1.25                /* what happens by chance is less */
#define EARLY_NS (NS_PER_SECOND / 4) /* by which a tick may come before its second */

static const struct {
	int64_t lasts_ns;
	unsigned turns; /* at most, one after the other */
	bool gives;     /* the others give way */
} phases[] = {
    [TRIAL_NONE] = {0, 0, false},
    [TRIAL_BEFORE] = {4 * NS_PER_SECOND, 1, false},
    [TRIAL_DURING] = {5 * NS_PER_SECOND, 2, true},
    [TRIAL_HELPED] = {10 * NS_PER_SECOND, 12, true},
    [TRIAL_RELEASED] = {3 * NS_PER_SECOND, 1, false},
    [TRIAL_VAIN] = {300 * NS_PER_SECOND, 1, false},
};

static void
enter(struct trial *t, enum trial_phase phase, uint64_t bytes, int64_t now_ns)
{
	t->turn = phase == t->phase ? t->turn + 1 : 1;
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
phase_after(const struct trial *t, bool gains)
{
	bool again = t->turn < phases[t->phase].turns;

	switch (t->phase) {
	case TRIAL_BEFORE: return TRIAL_DURING;
	case TRIAL_DURING: return gains ? TRIAL_HELPED : again ? TRIAL_DURING : TRIAL_VAIN;
	case TRIAL_HELPED: return gains && again ? TRIAL_HELPED : TRIAL_RELEASED;
	case TRIAL_NONE:
	case TRIAL_RELEASED:
	case TRIAL_VAIN: break;
	}
	return TRIAL_BEFORE;
}

/* Needed no longer. It may be again in a moment, and what is measured then must be of a time when nobody gave way. */
static enum trial_phase
phase_unneeded(const struct trial *t)
{
	if (phases[t->phase].gives)
		return TRIAL_RELEASED;
	return t->phase == TRIAL_BEFORE ? TRIAL_NONE : t->phase;
}

static void
end_phase(struct trial *t, uint64_t bytes, int64_t now_ns)
{
	double rate = rate_since(t, bytes, now_ns);

	if (t->phase == TRIAL_BEFORE)
		t->rate_before = rate;
	enter(t, phase_after(t, rate > GAIN * t->rate_before), bytes, now_ns);
}

bool
trial_tick(struct trial *t, bool needed, uint64_t bytes, int64_t now_ns)
{
	bool over = now_ns - t->since_ns + EARLY_NS >= phases[t->phase].lasts_ns;

	if (!needed && phase_unneeded(t) != t->phase)
		enter(t, phase_unneeded(t), bytes, now_ns);
	else if (needed && over)
		end_phase(t, bytes, now_ns);
	return phases[t->phase].gives;
}
