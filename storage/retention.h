/* SPDX-License-Identifier: Apache-2.0 */
/* retention.h: what the ages of a source's points are counted in, and when nothing expires at all. Neither clock nor
 * disk: times are passed in, in nanoseconds; "clock" is ours (CLOCK_REALTIME), "monotonic" passes while we run.
 *
 * A source's running time goes on while its agent is connected and it makes points to recover from. From one such point
 * to the next it goes on by the time between them, but by no more than its agent was connected meanwhile, and never by
 * more than RETENTION_STEP_MAX_NS at once. So a source that is dead, or compares for days, ages nothing; neither does a
 * daemon that was off, nor a clock that jumps. Its zero means nothing: only differences do.
 *
 * Nothing expires, is folded or thinned while somebody has frozen it, and while our clock and the monotonic one have
 * gone apart by more than RETENTION_DRIFT_MAX_NS since they were last believed (at the start, or at a thaw): then one
 * of them is wrong, and so may be the times that points carry. */
#ifndef HF_STORAGE_RETENTION_H
#define HF_STORAGE_RETENTION_H

#include <stdbool.h>
#include <stdint.h>

#define RETENTION_STEP_MAX_NS    (3600 * 1000000000LL)
#define RETENTION_RECOUNT_MAX_NS (600 * 1000000000LL)
#define RETENTION_DRIFT_MAX_NS   (600 * 1000000000LL)

struct retention {
	bool begun;           /* there is a point */
	bool connected;       /* the agent is */
	int64_t running_ns;   /* the source's running time at its newest point */
	int64_t point_ns;     /* our clock then */
	int64_t credit_ns;    /* time connected that is not in the running time yet, until... */
	int64_t counted_ns;   /* ... then, monotonic */
	int64_t frozen_ns;    /* our clock: since then somebody wants nothing to expire; 0 = nobody does */
	int64_t clock_ns;     /* both clocks, when they were believed */
	int64_t monotonic_ns; /* */
	int64_t drift_ns;     /* what our clock has gained since */
};

/* The running time at a point, as it was written down. */
void retention_recall(struct retention *r, int64_t running_ns, int64_t point_ns);

/* A point of an earlier run, of which nobody wrote it down: nor is it known how long the agent was connected before, so
 * a gap counts for RETENTION_RECOUNT_MAX_NS at most. */
void retention_recount(struct retention *r, int64_t point_ns);

/* From now on the clocks are believed. clock_ns: not before anything that is known to have happened. */
void retention_believe(struct retention *r, int64_t clock_ns, int64_t monotonic_ns);

/* The agent is there; it is gone. Either may be told twice. */
void retention_connect(struct retention *r, int64_t monotonic_ns);
void retention_disconnect(struct retention *r, int64_t monotonic_ns);

/* The running time at a moment not before the newest point. */
int64_t retention_at(const struct retention *r, int64_t time_ns, int64_t monotonic_ns);

/* A new point, or the newest was still true. */
void retention_move(struct retention *r, int64_t point_ns, int64_t monotonic_ns);

/* Now and then: have the clocks gone apart? */
void retention_watch(struct retention *r, int64_t clock_ns, int64_t monotonic_ns);

bool retention_drifted(const struct retention *r);
bool retention_stopped(const struct retention *r); /* frozen, or drifted */

#endif
