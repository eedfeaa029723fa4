/* SPDX-License-Identifier: Apache-2.0 */
/* data_dir.h: the data directory as such: whose it is, that nobody else has it open, that it is whole.
 *
 *	LOCK      flock()ed for the life of the daemon; holds its pid
 *	IDENTITY  format and UUID of this directory
 *	README    why not to touch it
 *
 * A directory that is missing, foreign, or only half there (a file system not mounted) is refused, never initialised.
 */
#ifndef HF_SERVER_DATA_DIR_H
#define HF_SERVER_DATA_DIR_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/common/error.h"

struct data_dir;

enum { DATA_DIR_FORMAT = 1, UUID_TEXT_BYTES = 37 };

/* Take the directory, or make it ours if it is empty. make: it may also be made, 0700, with its parents (the default
 * path). journal: where new journals are to lie, an absolute path; "" = where they did, else in the directory itself.
 * It must be there, and is used once it is empty; from then on it must be ours. Blocks. -EBUSY (the text names the
 * pid), -ENOENT, -EACCES (another user's), -ENOTEMPTY (not ours), -HF_ECORRUPT (half there), -HF_EFORMAT (newer),
 * -errno. */
int data_dir_open(const char *path, bool make, const char *journal, struct data_dir **ret_dir, struct hf_error *err);
void data_dir_close(struct data_dir *d); /* NULL allowed */

/* Would data_dir_open() have it, and can this user write into it? Makes nothing and takes no lock: a daemon may have it
 * open. Blocks. As data_dir_open(), but for -EBUSY; -EACCES, -EROFS. */
int data_dir_check(const char *path, bool make, const char *journal, struct hf_error *err);

/* Nothing was ever served from it: neither keys nor sources are there. */
bool data_dir_is_new(const struct data_dir *d);

const char *data_dir_path(const struct data_dir *d);
const char *data_dir_uuid(const struct data_dir *d);

/* The journal root: a directory on another disk, with an IDENTITY of its own; "" = there is none. */
const char *data_dir_journal(const struct data_dir *d);

/* path/name into ret_path. False if it is too long. */
bool data_dir_join(const struct data_dir *d, const char *name, char *ret_path, size_t size);

#endif
