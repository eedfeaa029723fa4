/* SPDX-License-Identifier: Apache-2.0 */
/* file.h: small files that are replaced whole: a reader, and whoever comes after a power cut, finds
 * the old or the new. */
#ifndef HF_AGENT_FILE_H
#define HF_AGENT_FILE_H

#include <stddef.h>
#include <sys/types.h>

#include "proto/common/error.h"

enum { FILE_BYTES_MAX = 128 * 1024 }; /* nothing the agent keeps is larger */

/* Replace (or make) path with len bytes: written beside it, synced, renamed over it, directory
 * synced. Blocks. 0 or -errno, and then the old file stands. */
int file_replace(const char *path, mode_t mode, const void *bytes, size_t len, struct hf_error *err);

/* Read all of path into buf and end it with a NUL. Returns its length, -ENOENT without words when
 * there is none (the caller knows whether that is an error), -EFBIG if it does not fit, or -errno.
 */
ssize_t file_read(const char *path, char *buf, size_t size, struct hf_error *err);

#endif
