/* SPDX-License-Identifier: Apache-2.0 */
/* interval.h: the index of one segment that has no run yet: its entries and checkpoints, in memory, in LSN order,
 * and sorted chunks of them that views can share. Owner's thread; once sealed it does not change and may be read
 * anywhere. */
#ifndef HF_STORAGE_INTERVAL_H
#define HF_STORAGE_INTERVAL_H

#include "storage/run.h"

enum {
	INTERVAL_ENTRIES_MAX = 256 * 1024, /* 10 MiB of entries: a segment is closed when it has more */
	INTERVAL_CHECKPOINTS_MAX = 4096,   /* 5 MiB of checkpoints: the same */
	INTERVAL_CHUNKS_MAX = 32,          /* sizes at least double, so 2^32 entries fit */
};

struct interval {
	struct entry *entries; /* in LSN order */
	size_t count, capacity;
	struct checkpoint *checkpoints;
	size_t checkpoint_count, checkpoint_capacity;
	struct interval_chunk {
		struct run *run;
		size_t from, to; /* of entries */
	} chunks[INTERVAL_CHUNKS_MAX];
	unsigned chunk_count;
};

struct interval *interval_create(void);    /* NULL when out of memory */
void interval_destroy(struct interval *v); /* NULL allowed; chunks still shared by views live on */

/* Room for so many more, so that interval_add() cannot fail. 0 or -ENOMEM. */
int interval_reserve(struct interval *v, size_t entries, size_t checkpoints);
void interval_add(struct interval *v, const struct entry *e);
void interval_add_checkpoint(struct interval *v, const struct checkpoint *c);

/* Sort what came since the last call into chunks: afterwards chunks cover every entry. O(n log n) over the new ones,
 * amortised. 0 or -ENOMEM. */
int interval_sort(struct interval *v);

#endif
