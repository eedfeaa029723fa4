/* SPDX-License-Identifier: Apache-2.0 */
#include "server/peer_clock.h"

#include <string.h>

#include "proto/common/units.h"

/* What two clocks may drift apart within the samples. */
#define PEER_CLOCK_DRIFT_NS (NS_PER_SECOND / 10)

/* The times come from outside: sums are made where they cannot overflow. */
#define BELIEVABLE_NS (NS_PER_SECOND * 3600 * 24 * 365 * 140)

static bool
believable(int64_t ns)
{
	return ns > -BELIEVABLE_NS && ns < BELIEVABLE_NS;
}

void
peer_clock_init(struct peer_clock *p, int64_t peer_ns, int64_t now_ns)
{
	memset(p, 0, sizeof *p);
	p->offset_ns = believable(peer_ns) ? peer_ns - now_ns : 0;
}

static void
believe_best(struct peer_clock *p)
{
	unsigned best = 0;

	for (unsigned i = 1; i < p->count; i++)
		if (p->samples[i].round_trip_ns < p->samples[best].round_trip_ns)
			best = i;
	p->offset_ns = p->samples[best].offset_ns;
	p->round_trip_ns = p->samples[best].round_trip_ns;
}

/* A sample is off by half its round trip at most, and clocks that are left alone keep together: one that differs from
 * what is believed by more than that says that a clock was set, and that nothing older holds. */
static void
forget_if_set(struct peer_clock *p, int64_t offset_ns, int64_t round_trip_ns)
{
	int64_t differs_ns = offset_ns > p->offset_ns ? offset_ns - p->offset_ns : p->offset_ns - offset_ns;

	if (differs_ns > (round_trip_ns + p->round_trip_ns) / 2 + PEER_CLOCK_DRIFT_NS)
		p->next = p->count = 0;
}

bool
peer_clock_add(struct peer_clock *p, int64_t now_ns, int64_t peer_ns, int64_t echo_ns, int64_t hold_ns)
{
	int64_t round_trip, offset;

	if (echo_ns == 0 || !believable(peer_ns) || !believable(echo_ns) || hold_ns < 0 || !believable(hold_ns))
		return false;
	round_trip = now_ns - echo_ns - hold_ns;
	if (round_trip < 0 || round_trip > 60 * NS_PER_SECOND)
		return false;
	offset = peer_ns - (now_ns - round_trip / 2);
	forget_if_set(p, offset, round_trip);
	p->samples[p->next].round_trip_ns = round_trip;
	p->samples[p->next].offset_ns = offset;
	p->next = (p->next + 1) % PEER_CLOCK_SAMPLES;
	if (p->count < PEER_CLOCK_SAMPLES)
		p->count++;
	believe_best(p);
	return true;
}
