/* SPDX-License-Identifier: Apache-2.0 */
/* freeze.h: file systems that stand still for a moment, and the guard that lets them go whatever
 * happens to us. */
#ifndef HF_AGENT_FREEZE_H
#define HF_AGENT_FREEZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/disks.h"
#include "agent/freeze_record.h"
#include "proto/common/error.h"

struct freeze;

/* Start the guard, a process of its own, which keeps a record of what it freezes in directory. Borrows mountpoints and
 * directory for the life of f. 0 or -errno. */
int freeze_create(const char *const *mountpoints, size_t count, const char *directory, struct freeze **ret_freeze,
    struct hf_error *err);

/* Thaws what is frozen, ends the guard. NULL is allowed. */
void freeze_destroy(struct freeze *f);

/* Freeze all, in order. Blocks until they stand, at most timeout_ns: after that time, counted from
 * the call, the guard thaws them in any case. 0; -EBUSY (one is frozen already, by somebody else:
 * it is left so), -ETIME, -errno: then none of ours is frozen. */
int freeze_begin(struct freeze *f, int64_t timeout_ns, struct hf_error *err);

/* Thaw all. 0: they stood frozen from freeze_begin()'s return until now; -ETIME: the guard had
 * thawed them before; -EPIPE: it is gone, and what it left frozen was thawed. */
int freeze_end(struct freeze *f);

/* True if everything mounted for writing from this disk is among the mount points, and something
 * is. */
bool freeze_covers(const struct freeze *f, const struct disk_info *disk);

/* The guard's process id, for tests. */
int freeze_guard_pid(const struct freeze *f);

#endif
