/* SPDX-License-Identifier: Apache-2.0 */
/* journal_link.h: journals on a disk of their own. <data>/sources/s-.../journal is then a symbolic link to
 * <journal root>/s-..., so that whoever reads a source's folder, with or without a daemon, goes one way.
 *
 * Without a journal root, and for sources that have their journal in the folder, none of this does anything. Blocks. */
#ifndef HF_SERVER_JOURNAL_LINK_H
#define HF_SERVER_JOURNAL_LINK_H

#include "proto/common/id.h"
#include "server/data_dir.h"
#include "storage/disk.h"

/* The journal of a new source, whose folder is there: durable when this returns. */
int journal_link_make(const struct data_dir *dir, const struct id *source, struct hf_error *err);

/* At the start: the root may have moved. */
int journal_link_renew(const struct data_dir *dir, struct hf_error *err);

/* The source is to be deleted: its journal becomes rubbish in the root (storage/discard.h), the link goes. It may be
 * repeated. 0 or -errno. */
int journal_link_discard(const struct data_dir *dir, struct disk *d, const struct id *source);

#endif
