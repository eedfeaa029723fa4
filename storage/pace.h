/* SPDX-License-Identifier: Apache-2.0 */
/* pace.h: how fast maintenance (fold, merge, punch) may go, so that acknowledgements do not wait for it. The owner
 * tells how long its groups wait, from their writes' submission until they are durable; maintenance calls pace_pause()
 * between pieces of work, and sleeps until the time by which groups were late is a hundredth of what went by: late is
 * what a group waited beyond twice the time usual without maintenance. It always goes on at a twenty-fifth of its speed
 * or more, so it ends; while nothing is late it does not wait at all. */
#ifndef HF_STORAGE_PACE_H
#define HF_STORAGE_PACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct pace {
	/* What a group waits when no maintenance is under way, smoothed; 0 = not known. It falls while there is some,
	 * too: what was learnt from a burst says nothing of the time after it. */
	_Atomic int64_t calm_ns;
	_Atomic int64_t late_ns; /* since the last pause, all groups together */
	atomic_bool busy, ending;
	int64_t resumed_ns;           /* maintenance's: the end of its last pause */
	void (*sleep_ns)(int64_t ns); /* NULL = nanosleep() */
	_Atomic uint64_t slept_ns;    /* in all */
};

void pace_note_group(struct pace *p, int64_t waited_ns); /* [owner] a group became durable */
void pace_stop(struct pace *p);                          /* [owner] maintenance gives up at its next pause */

void pace_begin(struct pace *p); /* [maintenance] one thread at a time */
int pace_pause(struct pace *p);  /* 0, or -ECANCELED: give up */
void pace_end(struct pace *p);

#endif
