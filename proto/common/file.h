/* SPDX-License-Identifier: Apache-2.0 */
/* file.h: small files that are replaced whole: a reader, and whoever comes after a power cut, finds the old or the new.
 * Not for what the storage engine keeps: see storage/disk.h. */
#ifndef HF_COMMON_FILE_H
#define HF_COMMON_FILE_H

#include <stddef.h>
#include <sys/types.h>

#include "proto/common/error.h"

/* Replace (or make) path with len bytes: written beside it (path.new), synced, renamed over it, directory
 * synced. Blocks. 0 or -errno, and then the old file stands; or the new one, if it was only the directory that could
 * not be synced. */
int file_replace(const char *path, mode_t mode, const void *bytes, size_t len, struct hf_error *err);

/* Read all of path into buf and end it with a NUL. Returns its length, -ENOENT without words when
 * there is none (the caller knows whether that is an error), -EFBIG if it does not fit, or -errno.
 */
ssize_t file_read(const char *path, char *buf, size_t size, struct hf_error *err);

/* Steps of it, for files that take their place in another way. Both block, and return 0 or -errno. */
int file_write(int fd, const void *bytes, size_t len); /* all of them, and synced */
int file_sync_dir(const char *path);                   /* the names in it are durable */

#endif
