/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/pace.h"

#include <errno.h>
#include <time.h>

#include "proto/common/units.h"

enum {
	SMOOTH = 8,         /* a sync counts for an eighth */
	SLEEP_PER_WORK = 4, /* at most: a fifth of the time is work */
};

static const int64_t sleep_max_ns = NS_PER_SECOND / 4;
static const int64_t quiet_ns = NS_PER_SECOND; /* without a sync for so long nobody waits for one */

static int64_t
smooth(int64_t old, int64_t new)
{
	return old == 0 ? new : old + (new - old) / SMOOTH;
}

void
pace_note_sync(struct pace *p, int64_t ns)
{
	atomic_store(&p->sync_ns, smooth(atomic_load(&p->sync_ns), ns));
	atomic_store(&p->noted_ns, clock_monotonic_ns());
	if (!atomic_load(&p->busy))
		atomic_store(&p->calm_ns, smooth(atomic_load(&p->calm_ns), ns));
}

void
pace_stop(struct pace *p)
{
	atomic_store(&p->ending, true);
}

void
pace_begin(struct pace *p)
{
	p->resumed_ns = clock_monotonic_ns();
	atomic_store(&p->busy, true);
}

void
pace_end(struct pace *p)
{
	atomic_store(&p->busy, false);
}

/* When syncs take twice as long as when it is calm, four times as long as was worked; less in proportion. */
static int64_t
wanted_sleep(struct pace *p, int64_t worked_ns)
{
	int64_t calm = atomic_load(&p->calm_ns), now = atomic_load(&p->sync_ns), sleep;

	if (calm == 0 || now <= calm || clock_monotonic_ns() - atomic_load(&p->noted_ns) > quiet_ns)
		return 0;
	if (now > 2 * calm)
		now = 2 * calm;
	sleep = (int64_t)((double)worked_ns * SLEEP_PER_WORK * (double)(now - calm) / (double)calm);
	return sleep < sleep_max_ns ? sleep : sleep_max_ns;
}

static void
sleep_for(struct pace *p, int64_t ns)
{
	struct timespec t = {ns / NS_PER_SECOND, ns % NS_PER_SECOND};

	atomic_fetch_add(&p->slept_ns, (uint64_t)ns);
	if (p->sleep_ns != NULL)
		p->sleep_ns(ns);
	else
		(void)nanosleep(&t, NULL); /* a shorter sleep is no harm */
}

int
pace_pause(struct pace *p)
{
	int64_t ns;

	if (atomic_load(&p->ending))
		return -ECANCELED;
	ns = wanted_sleep(p, clock_monotonic_ns() - p->resumed_ns);
	if (ns > 0)
		sleep_for(p, ns);
	p->resumed_ns = clock_monotonic_ns();
	return 0;
}
