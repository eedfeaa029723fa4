/* SPDX-License-Identifier: Apache-2.0 */
/* pit.h: which checkpoints become points in time, and which go. Pure functions over arrays: no clock, no disk. */
#ifndef HF_STORAGE_PIT_H
#define HF_STORAGE_PIT_H

#include "storage/catalog.h"

/* True if the policy may keep this checkpoint by itself: complete, and crash-consistent or better. */
bool pit_eligible(const struct checkpoint *c);

/* Which rules want the checkpoint kept: rule n is due when `time_ns` (the moment it describes, or until which it was
 * still true) is in a later interval (aligned to multiples of the interval since 1970 UTC) than that of the newest
 * point kept by that rule; the very first eligible checkpoint is due for all. Returns a bit per rule (0: none,
 * *ret_planned_ns untouched); *ret_planned_ns = the start of the (shortest due rule's) interval, or time_ns for the
 * first. Rules that are disabled, or of no interval or unknown unit, are never due and keep nothing. */
uint32_t pit_rules_due(
    const struct policy *policy, const struct pit *kept, size_t count, int64_t time_ns, int64_t *ret_planned_ns);

/* Mark in ret_expired[i] which kept points go: no rule, hold or hand keeps them any more. Age counts back from
 * newest_ns, the time of the newest complete point. A rule keeps a point at least for its interval, however short its
 * retention. The newest complete point never goes, nor the newest verified one, nor held or named ones. Rules' bits of
 * points are cleared as they age out (kept[i].rules is updated). Returns how many go. */
size_t pit_expire(const struct policy *policy, struct pit *kept, size_t count, int64_t newest_ns, bool *ret_expired);

/* Our clock at the first moment the point shows (checkpoint filled in). While nothing changed, time_ns went on. */
int64_t pit_since_ns(const struct pit *pit);

#endif
