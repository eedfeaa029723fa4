/* SPDX-License-Identifier: Apache-2.0 */
/* merge.h: which runs are worth making one, and what of their entries the points that are kept still see. Decides and
 * reads; job_merge.c writes.
 *
 * A version of a block is seen by a point P if it is the newest with an LSN <= P. Points newer than the merged runs see
 * the newest version there, or none. So a version may go if the next newer one of the same block was written before the
 * next point: nobody can tell that it was ever there. */
#ifndef HF_STORAGE_MERGE_H
#define HF_STORAGE_MERGE_H

#include "storage/run.h"

enum { MERGE_RUNS_MAX = 32 }; /* made one at a time */

/* What picking needs to know of a run. */
struct merge_run {
	uint64_t lsn_first, lsn_last;
	uint64_t entries, checkpoints; /* in it */
};

/* Which adjacent runs to merge next: *ret_first, and their number; 0: none, it would gain nothing. runs: those old
 * enough, oldest first. points: LSNs that must stay restorable, ascending; the last one is newer than all runs. Runs
 * between the same two points are merged; those behind the last but one, to which others will yet be added, only when
 * the newer ones are together as large as the oldest: each entry is then written a logarithmic number of times. A
 * single run is written anew when at most half of its checkpoints are points still. */
size_t merge_pick(
    const struct merge_run *runs, size_t count, const uint64_t *points, size_t point_count, size_t *ret_first);

/* Call each() for every entry of file runs (any number) that some point sees, or may see: of their narrow
 * entries, or of their wide ones, in index order. points as above. A range of zeros counts as seen unless one newer
 * range covers all of it. newer_lsn: of the next newer version of all of it, UINT64_MAX if there is none. Stops when
 * each() returns non-zero, and returns that. Takes 4 MiB, or two pages a run. Blocks. */
typedef int merge_each(void *arg, const struct entry *e, uint64_t newer_lsn);
int merge_scan(struct run *const *runs, size_t run_count, struct disk *d, const uint64_t *points, size_t point_count,
    bool wide, merge_each *each, void *arg);

#endif
