/* SPDX-License-Identifier: Apache-2.0 */
/* disk_sim.h: a machine with one simulated disk, for tests. Files live in memory, twice: what a reader sees
 * now, and what would survive a power cut. Deterministic from its seed.
 *
 * Model: a write changes what readers see at once and joins the file's pending list; disk_sync() of the file makes
 * its pending writes, truncations, allocations and punches durable. Directory operations (create, rename, unlink, mkdir) are
 * pending until disk_sync_dir() of the parent; syncing a file does not make its name durable. At a power cut any subset of what is
 * pending survives, each write torn at 512-byte boundaries (any subset of its sectors); for one directory, pending operations survive as a
 * random prefix or subset that leaves a consistent tree. Operations in flight (submitted, callback not run) count as pending. */
#ifndef HF_STORAGE_DISK_SIM_H
#define HF_STORAGE_DISK_SIM_H

#include "storage/disk.h"

enum sim_fault { SIM_FAULT_NONE, SIM_FAULT_EIO, SIM_FAULT_ENOSPC, SIM_FAULT_SHORT, SIM_FAULT_EAGAIN };

int disk_sim_create(uint64_t seed, struct disk **ret_disk);

/* Operations so far, counting every read, write, sync, open, rename, ... as one: the crash points. */
uint64_t disk_sim_operations(struct disk *d);

/* From operation number n on (1 = the next one) the power is off: n itself and all later ones fail with -EIO and
 * change nothing durable. 0 = never. */
void disk_sim_cut_at(struct disk *d, uint64_t n);
bool disk_sim_is_cut(struct disk *d);

/* The machine comes back: pending changes survive or not, chosen by seed (survive_all / survive_none for the extremes), all
 * handles are stale (closing them stays legal), locks are gone. */
enum sim_survival { SIM_SURVIVE_RANDOM, SIM_SURVIVE_NONE, SIM_SURVIVE_ALL };
void disk_sim_restart(struct disk *d, enum sim_survival survival, uint64_t seed);

/* Number of pending (unsynced) writes and directory operations now. */
unsigned disk_sim_pending(struct disk *d);

/* Fail the nth operation of a kind from now (1 = next); sticky: and all after it. Kinds: 'r' read, 'w' write, 's' sync,
 * 'o' open, 'a' allocate, 't' truncate, 'p' punch, 'n' rename, 'u' unlink, 'd' sync_dir, 'm' mkdir, '*' any. */
void disk_sim_fail(struct disk *d, char kind, uint64_t nth, bool sticky, enum sim_fault fault);

/* A failed sync behaves as Linux does: the pending writes are marked clean and lost at a cut, the next sync returns 0. (Always on.) */

/* Capacity in bytes of data blocks; writes and allocations beyond fail with -ENOSPC. 0 = unlimited. */
void disk_sim_set_capacity(struct disk *d, uint64_t bytes);

/* Flip bit `bit` of the durable and visible byte at offset of the file at path. -ENOENT, -ERANGE (beyond data). */
int disk_sim_flip(struct disk *d, const char *path, uint64_t offset, unsigned bit);

/* With on: async operations complete in random (seeded) order, each disk_drain() completing a random part of what is in flight. */
void disk_sim_set_reorder(struct disk *d, bool on);

#endif
