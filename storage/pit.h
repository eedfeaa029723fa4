/* SPDX-License-Identifier: Apache-2.0 */
/* pit.h: which checkpoints become points in time, and which go. Pure functions over arrays: no clock, no disk. */
#ifndef HF_STORAGE_PIT_H
#define HF_STORAGE_PIT_H

#include "storage/catalog.h"

/* True if the policy may keep this checkpoint by itself: complete, and crash-consistent or better. */
bool pit_eligible(const struct checkpoint *c);

/* Kept points are arrays in LSN order, here as everywhere. */

/* Which rules want the checkpoint kept: rule n is due when `time_ns` (the moment it describes, or until which it was
 * still true) is in a later interval (aligned to multiples of the interval since 1970 UTC) than that of the newest
 * point kept by that rule, or when the source has run for an interval since (the clock may have been set back:
 * running_ns is its running time at that moment); the very first eligible checkpoint is due for all. Returns a bit per
 * rule (0: none, *ret_planned_ns untouched); *ret_planned_ns = the start of the (shortest due rule's) interval, or
 * time_ns for the first. Rules that are disabled, or of no interval or unknown unit, are never due and keep nothing. */
uint32_t pit_rules_due(const struct policy *policy, const struct pit *kept, size_t count, int64_t time_ns,
    int64_t running_ns, int64_t *ret_planned_ns);

/* The policy is another one: which of its rules keep which of the points, as if it had always been this (kept[i].rules
 * is updated), and until when minRetention guards them, which only ever rises. */
void pit_assign(const struct policy *policy, struct pit *kept, size_t count);

/* Mark in ret_expired[i] which kept points go, at most max of them, oldest first: no rule, hold or hand keeps them any
 * more. Age counts back from running_ns, the source's running time at its newest complete point. A rule keeps a point
 * at least for its interval, however short its retention. The newest point to recover from never goes, nor the newest
 * such that was verified, nor held or named ones, nor those minRetention guards. Rules' bits of points are cleared as
 * they age out (kept[i].rules is updated). Returns how many go. */
size_t pit_expire(
    const struct policy *policy, struct pit *kept, size_t count, int64_t running_ns, size_t max, bool *ret_expired);

/* The point that goes next for want of room: the oldest of all but those that never go, whatever rule still keeps it.
 * NULL: none may. */
const struct pit *pit_oldest_that_may_go(const struct pit *kept, size_t count, int64_t running_ns);

/* Until which running time of its source minRetention guards a point made at running_ns; 0: it does not. */
int64_t pit_guarded_ns(const struct policy *policy, int64_t running_ns);

/* Our clock at the first moment the point shows (checkpoint filled in). While nothing changed, time_ns went on. */
int64_t pit_since_ns(const struct pit *pit);

#endif
