/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_impl.h: inside of a check, for fsck*.c alone. */
#ifndef HF_STORAGE_FSCK_IMPL_H
#define HF_STORAGE_FSCK_IMPL_H

#include "storage/fsck.h"
#include "storage/store_impl.h"

struct fsck {
	struct disk *d;
	struct run_cache *cache;
	const struct fsck_options *o;
	fsck_found *found;
	void *arg;
	struct hf_error *err;
	struct fsck_stats stats;
	char journal_dir[PATH_MAX_BYTES];

	struct store *store; /* as an offline export sees it; NULL: it cannot be opened */
	struct view *view;   /* of it, all volumes, newest; NULL with it */
	bool has_catalog;    /* then the next are valid */
	struct catalog_source facts;
	struct catalog_volume *rows; /* STORE_VOLUMES_MAX */
	size_t row_count;
	struct pit *pits;
	size_t pit_count;
};

void fsck_say(struct fsck *k, enum fsck_code code, const char *where, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
int fsck_go_on(struct fsck *k); /* 0, or -ECANCELED */

/* Each looks at its part, and says what it finds. 0, or why it cannot go on. */
int fsck_journal(struct fsck *k); /* fsck_journal.c: each segment and each run */
int fsck_volumes(struct fsck *k); /* fsck_volume.c: each staging and digest file */

#endif
