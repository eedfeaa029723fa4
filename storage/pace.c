/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/pace.h"

#include <errno.h>
#include <time.h>

#include "proto/common/units.h"

enum {
	SMOOTH = 8, /* a group counts for an eighth */
	ELAPSED_PER_LATE = 100,
	SLEEP_PER_WORK = 24, /* at most */
};

static const int64_t sleep_max_ns = 5 * NS_PER_SECOND;

static int64_t
smooth(int64_t old, int64_t new)
{
	return old == 0 ? new : old + (new - old) / SMOOTH;
}

void
pace_note_group(struct pace *p, int64_t waited_ns)
{
	int64_t calm = atomic_load(&p->calm_ns);

	if (!atomic_load(&p->busy) || waited_ns < calm)
		atomic_store(&p->calm_ns, smooth(calm, waited_ns));
	else if (calm > 0 && waited_ns > 2 * calm)
		atomic_fetch_add(&p->late_ns, waited_ns - 2 * calm);
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
	atomic_store(&p->late_ns, 0);
	atomic_store(&p->busy, true);
}

void
pace_end(struct pace *p)
{
	atomic_store(&p->busy, false);
}

static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t
wanted_sleep(int64_t late_ns, int64_t worked_ns)
{
	int64_t sleep = least(late_ns, NS_PER_SECOND) * ELAPSED_PER_LATE - worked_ns;

	return least(least(sleep, SLEEP_PER_WORK * worked_ns), sleep_max_ns);
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
	ns = wanted_sleep(atomic_exchange(&p->late_ns, 0), clock_monotonic_ns() - p->resumed_ns);
	if (ns > 0)
		sleep_for(p, ns);
	p->resumed_ns = clock_monotonic_ns();
	return 0;
}
