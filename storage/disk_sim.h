/* SPDX-License-Identifier: Apache-2.0 */
/* disk_sim.h: a machine with one simulated disk, for tests. Files live in memory, twice: what a reader sees
 * now, and what would survive a power cut. Deterministic from its seed.
 *
 * Model: a write changes what readers see at once and joins the file's pending list; disk_sync() of the file makes
 * its pending writes, truncations, allocations and punches durable. Directory operations (create, rename, unlink,
 * mkdir) are pending until disk_sync_dir() of the parent; syncing a file does not make its name durable. At a power cut
 * any subset of what is pending survives, each write torn at 512-byte boundaries (any subset of its sectors); for one
 * directory, pending operations survive as a random prefix or subset that leaves a consistent tree. Operations in
 * flight (submitted, callback not run) count as pending.
 *
 * As with the ring, an operation completes only after disk_submit() or disk_wait(). A write's bytes are captured when
 * it starts and compared with the buffer when it completes: changing a borrowed buffer is an assertion. Paths are
 * absolute or relative to the root, without "..". */
#ifndef HF_STORAGE_DISK_SIM_H
#define HF_STORAGE_DISK_SIM_H

#include "storage/disk.h"

enum sim_fault { SIM_FAULT_NONE, SIM_FAULT_EIO, SIM_FAULT_ENOSPC, SIM_FAULT_SHORT, SIM_FAULT_EAGAIN };

int disk_sim_create(uint64_t seed, struct disk **ret_disk);

/* Operations so far, counting every read, write, sync, open, rename, ... (every kind of disk_sim_fail()) as one: the
 * crash points. What only looks (size, next_data, list, free_bytes) or closes is not counted. */
uint64_t disk_sim_operations(struct disk *d);

/* From operation number n from now on (1 = the next one) the power is off: n itself and all later ones fail with -EIO
 * and change nothing durable; so do those in flight that did not complete before. 0 = never. */
void disk_sim_cut_at(struct disk *d, uint64_t n);
bool disk_sim_is_cut(struct disk *d);

/* The machine comes back: pending changes survive or not, chosen by seed (survive_all / survive_none for the extremes),
 * all handles are stale (-ESTALE; closing them stays legal, but is not required), faults and the cut are forgotten,
 * callbacks of what was in flight never run. Works without a cut, too. */
enum sim_survival {
	SIM_SURVIVE_RANDOM, /* some, some of them torn */
	SIM_SURVIVE_NONE,
	SIM_SURVIVE_ALL,
	SIM_SURVIVE_CHOSEN, /* seed is a set: bit n is the n-th oldest pending change, at most 64 */
	SIM_SURVIVE_HEAD,   /* all of it, but of the newest change, a write, only the first seed sectors of 512 bytes */
};
void disk_sim_restart(struct disk *d, enum sim_survival survival, uint64_t seed);

/* After a cut: it was the process alone that died, at that operation. The machine goes on: what it had submitted
 * completes, readers see all of it, and what was pending is pending still. Handles are stale, as after a restart. */
void disk_sim_revive(struct disk *d);

/* Number of pending (unsynced) writes and directory operations now. */
unsigned disk_sim_pending(struct disk *d);

/* The pending changes that were made after the `since`-th change, as a set for SIM_SURVIVE_CHOSEN; *ret_changes: how
 * many were ever made. */
uint64_t disk_sim_pending_since(struct disk *d, uint64_t since, uint64_t *ret_changes);

/* Sectors of the newest pending change, if it is a write; else 0. */
uint64_t disk_sim_newest_sectors(struct disk *d);

/* A fingerprint of what is to be seen: machines with the same names and contents have the same. */
uint64_t disk_sim_hash(struct disk *d);

/* Another machine in the state this one would be left in by a killed process: no handles, no faults, nothing in flight,
 * and what is pending is pending. */
int disk_sim_clone(struct disk *d, struct disk **ret_disk);

/* before() is called at every crash point from now on, when the operation has changed nothing yet. It may look and
 * clone. NULL: no longer. */
void disk_sim_watch(struct disk *d, void (*before)(void *arg), void *arg);

/* Fail the nth operation of a kind from now (1 = next); sticky: and all after it. Kinds: 'r' read, 'w' write, 's' sync,
 * 'o' open, 'a' allocate, 't' truncate, 'p' punch, 'n' rename, 'u' unlink and rmdir, 'd' sync_dir, 'm' mkdir, '*' any.
 * Up to 8 at a time; SIM_FAULT_NONE disarms those of the kind. SIM_FAULT_SHORT: a read ends after half its blocks, as
 * at the end of the file; a write stores half of them and fails with -EIO; elsewhere the same as SIM_FAULT_EIO.
 * SIM_FAULT_EAGAIN: -EAGAIN after all retries. */
void disk_sim_fail(struct disk *d, char kind, uint64_t nth, bool sticky, enum sim_fault fault);

/* From now on only operations on files (or names, with a rename the new one) whose path contains this count for faults
 * and fail. NULL: any. Borrowed. */
void disk_sim_confine_faults(struct disk *d, const char *part);
uint64_t disk_sim_struck(struct disk *d); /* operations that failed so, ever */

/* A failed sync behaves as Linux does: the pending writes are marked clean and lost at a cut, the next sync returns 0.
 * (Always on.) */

/* Capacity in bytes of data blocks; writes and allocations beyond fail with -ENOSPC. 0 = unlimited. */
void disk_sim_set_capacity(struct disk *d, uint64_t bytes);

/* Flip bit `bit` of the durable and visible byte at offset of the file at path, with no write in flight. -ENOENT,
 * -ERANGE (beyond the end). */
int disk_sim_flip(struct disk *d, const char *path, uint64_t offset, unsigned bit);

/* With on: async operations complete in random (seeded) order, each disk_drain() completing a random part of what is in
 * flight. */
void disk_sim_set_reorder(struct disk *d, bool on);

#endif
