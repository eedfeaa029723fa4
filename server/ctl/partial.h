/* SPDX-License-Identifier: Apache-2.0 */
/* partial.h: a file while it is being written: FILE.partial, sparse, and FILE.partial.state, which says what it will be
 * and how far it is on disk. When it is complete it is renamed to FILE. A run that was cut is taken up again where the
 * state says. One writer at a time. Everything blocks. Errors are said on stderr; the exit code is returned. */
#ifndef HF_CTL_PARTIAL_H
#define HF_CTL_PARTIAL_H

#include <jansson.h>

#include "server/ctl/ctl.h"

struct partial;

/* Open or make FILE.partial for path, which must not exist unless force. EXIT_FAILED: another holdfastctl writes it, or
 * no right to. */
int partial_open(const char *path, bool force, struct partial **ret_partial);
void partial_close(struct partial *p); /* leaves the files as they are. NULL allowed */

/* What the state file says: an object with what partial_begin() was given, "offset" and "sizeBytes" among it. NULL:
 * nothing usable. Borrowed. */
const json_t *partial_state(const struct partial *p);

/* Start over (offset 0), or go on at offset, which the state must have confirmed. what is copied into the state. The
 * file gets its full size. */
int partial_begin(struct partial *p, const json_t *what, uint64_t offset, uint64_t size_bytes);

/* In order, without gaps, from the offset begun at. */
int partial_write(struct partial *p, const void *bytes, size_t len);
int partial_skip(struct partial *p, uint64_t len); /* zeros */
uint64_t partial_offset(const struct partial *p);

/* What is written is on disk, and the state says so. Done by itself every 256 MiB. */
int partial_sync(struct partial *p);

/* All of it is there: sync, rename, remove the state. suffix: "", or what its name gets because it is not whole. */
int partial_finish(struct partial *p, const char *suffix);

#endif
