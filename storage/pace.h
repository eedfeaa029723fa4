/* SPDX-License-Identifier: Apache-2.0 */
/* pace.h: how fast maintenance (fold, merge, punch) may go, so that acknowledgements do not wait for it. The owner
 * tells how long its syncs take; maintenance calls pace_pause() between batches of bounded size, and sleeps the longer
 * the more those times have risen against what they are without it. It always goes on at a fifth of its speed or more,
 * so it ends; without any syncs it does not wait at all. */
#ifndef HF_STORAGE_PACE_H
#define HF_STORAGE_PACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct pace {
	_Atomic int64_t calm_ns;  /* time of a sync when no maintenance is under way, smoothed; 0 = not known */
	_Atomic int64_t sync_ns;  /* the same, whatever is under way */
	_Atomic int64_t noted_ns; /* clock_monotonic: when the last sync ended */
	atomic_bool busy, ending;
	int64_t resumed_ns;           /* maintenance's: the end of its last pause */
	void (*sleep_ns)(int64_t ns); /* NULL = nanosleep() */
	_Atomic uint64_t slept_ns;    /* in all */
};

void pace_note_sync(struct pace *p, int64_t ns); /* [owner] a sync of the journal took so long */
void pace_stop(struct pace *p);                  /* [owner] maintenance gives up at its next pause */

void pace_begin(struct pace *p); /* [maintenance] one thread at a time */
int pace_pause(struct pace *p);  /* 0, or -ECANCELED: give up */
void pace_end(struct pace *p);

#endif
