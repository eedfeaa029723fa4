/* SPDX-License-Identifier: Apache-2.0 */
/* account.h: what points in time cost: how much of the journal only one of them sees, and how much would be freed
 * without it. Counted from the index alone: blocks of data, as far as runs tell. Not counted: the staging files, which
 * no point can give back, and that room is freed by 64 KiB at least. */
#ifndef HF_STORAGE_ACCOUNT_H
#define HF_STORAGE_ACCOUNT_H

#include "storage/run.h"

struct account_point {
	uint64_t lsn;
	bool going;            /* is to go, or might: see struct account */
	uint64_t unique_bytes; /* only this point sees them */
	uint64_t freed_bytes;  /* if it alone went: the same, or what a fold past it releases */
};

struct account {
	struct account_point *points; /* ascending; what is newer than the last one sees what that sees */
	size_t count;
	uint64_t total_bytes; /* that any point sees */
	uint64_t going_bytes; /* freed if all that are going went */
};

/* Fill in the byte counts. runs: all that have an LSN before the last point's. pause(arg): called now and then;
 * negative ends it. 0 or negative. Blocks; takes what merge_scan() does. */
int account_scan(
    struct account *a, struct run *const *runs, size_t run_count, struct disk *d, int (*pause)(void *arg), void *arg);

/* The point at this LSN, or NULL. */
const struct account_point *account_find(const struct account *a, uint64_t lsn);

#endif
