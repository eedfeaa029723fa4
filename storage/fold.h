/* SPDX-License-Identifier: Apache-2.0 */
/* fold.h: move the base forward: the newest version <= F of every block written since the base goes into the staging
 * files. docs/crash.md has each step; all of it can be cut anywhere and done again, because until the catalog says
 * base = F every folded block is still read from the journal.
 *
 * 1. Catalog: fold to F, earlier points gone (caller).
 * 2. Headers of .sum: fold LSN = F, synced.
 * 3. By batches of at most 64 MiB: blocks read, verified, written in place, .img synced; leaves and parents of .sum,
 *    synced.
 * 4. Catalog: base = F (caller).
 * 5. Release runs and segments <= F (caller). */
#ifndef HF_STORAGE_FOLD_H
#define HF_STORAGE_FOLD_H

#include "storage/view.h"

struct fold_stats {
	uint64_t blocks_written, zero_blocks, batches;
	uint64_t batches_rewritten; /* after a failed write or sync */
};

enum { FOLD_BATCH_BLOCKS = 16384 }; /* 64 MiB */

/* Steps 2 and 3 for the view at F. Blocking; maintenance thread; takes a batch's memory. pause(arg) is called after
 * every few transfers and every batch (rate limit; may be NULL) and may return non-zero to give up: that if it is
 * negative, else -ECANCELED, is returned. 0, -HF_EDIGEST, -errno (ret_fault, may be NULL, says which block; nothing of
 * that batch written). -HF_ECORRUPT: an entry beyond the end of its volume, or damaged files; -HF_EINCOMPLETE: one
 * beyond the fill frontier. A write or sync of a staging file that failed twice is an error: the caller must not
 * advance the base.
 *
 * Staging and digest files of volumes with changes are written, of the others the digest files' headers: no first fill
 * of them may be going on meanwhile. */
int fold_run(struct view *v, struct disk *d, struct run_cache *cache, int (*pause)(void *arg), void *arg,
    struct fold_stats *ret_stats, struct view_fault *ret_fault);

#endif
