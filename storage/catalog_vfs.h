/* SPDX-License-Identifier: Apache-2.0 */
/* catalog_vfs.h: SQLite on a disk of ours, so that a catalogue can live on the simulated disk and
 * lose power with the rest. Any implementation will do; production catalogues use SQLite's own VFS.
 *
 * Made for what catalog.h does: rollback journals, or WAL with locking_mode=EXCLUSIVE (there is no
 * shared memory). All connections belong to the disk's thread. Locks hold between connections of
 * one registration only. Temporary files, which no crash must survive, go to SQLite's default VFS.
 */
#ifndef HF_STORAGE_CATALOG_VFS_H
#define HF_STORAGE_CATALOG_VFS_H

#include "storage/disk.h"

/* Offer d to sqlite3_open_v2() under name, which must be free. Borrows d until unregistered. 0 or
 * -ENOMEM. */
int catalog_vfs_register(struct disk *d, const char *name);

/* For tests: the nth call of SQLite for any file from now on, and with sticky all after it, get this answer of SQLite's
 * own: SQLITE_BUSY those that lock, any other those that read, write, sync or truncate. nth 0: none does. */
void catalog_vfs_fail(const char *name, int result, uint64_t nth, bool sticky);
uint64_t catalog_vfs_struck(const char *name); /* how many calls have since */

/* No connection may be open. */
void catalog_vfs_unregister(const char *name);

#endif
