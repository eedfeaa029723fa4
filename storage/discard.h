/* SPDX-License-Identifier: Apache-2.0 */
/* discard.h: folders and files that nobody needs any more, on their way out.
 *
 * Each is renamed first, and the rename made durable: from then on it is rubbish, whole in one step. What is in it
 * goes piece by piece, whenever there is time, after a restart too; nothing refers to it. Blocking, any thread. */
#ifndef HF_STORAGE_DISCARD_H
#define HF_STORAGE_DISCARD_H

#include "storage/disk.h"

/* parent/name becomes rubbish. 0, also if it is already; -ENOENT: there is no such folder, nor rubbish of it; -errno.
 * It may be repeated. */
int discard_folder(struct disk *d, const char *parent, const char *name);

/* dir/name, a file in a folder of parent's, becomes rubbish in parent. 0, also if it is not there; -errno. Its going is
 * durable when both folders are synced, which is left to the caller. */
int discard_file(struct disk *d, const char *parent, const char *dir, const char *name);

/* Remove some of the rubbish in parent: at most 64 files, or about 64 MiB. 1: there may be more; 0: there is none left;
 * -errno. *ret_bytes: how much smaller the files have become, holes included. */
int discard_some(struct disk *d, const char *parent, uint64_t *ret_bytes);

/* Bytes of all files in the rubbish of parent, holes included. 0 or -errno. */
int discard_size(struct disk *d, const char *parent, uint64_t *ret_bytes);

#endif
