/* SPDX-License-Identifier: Apache-2.0 */
/* mark.h: the checkpoints since the base, compactly: a source that checkpoints every second for a day
 * costs 64 bytes each, because nearly all of them share their list of volumes.
 *
 *	chunks[0]          chunks[1]             newest
 *	| dropped | marks | marks | not yet |    | mark |
 *
 * Only the newest one still changes (it may be found to hold for longer). The others are never touched again, so that a
 * copy of all shares them, and is read by whoever has it while new ones are added behind what it sees. */
#ifndef HF_STORAGE_MARK_H
#define HF_STORAGE_MARK_H

#include "storage/checkpoint.h"

struct mark {
	uint64_t lsn, stream_id;
	int64_t clock_ns, clock_offset_ns, received_ns, unchanged_until_ns;
	int64_t running_ns; /* at its first moment */
	uint32_t set;       /* index of its volume list */
	uint8_t consistency;
	bool complete;
};

struct marks {
	size_t count;       /* in LSN order */
	struct mark newest; /* if there is any */
	struct mark_chunk **chunks;
	size_t chunk_count, chunk_capacity;
	size_t dropped; /* marks at the front of chunks[0] */
	struct mark_sets *sets;
};

void marks_fini(struct marks *m);
int marks_add(struct marks *m, const struct checkpoint *c); /* in LSN order; 0 or -ENOMEM */
void marks_drop_before(struct marks *m, uint64_t lsn);      /* forget those with a smaller LSN */
const struct mark *marks_at(const struct marks *m, size_t i);
void marks_get(const struct marks *m, size_t i, struct checkpoint *ret_checkpoint);
bool marks_find(const struct marks *m, uint64_t lsn, size_t *ret_index); /* exactly that LSN; else the one behind it */
/* LSN of the oldest complete one that names the volume; UINT64_MAX if there is none. */
uint64_t marks_first_with(const struct marks *m, uint32_t volume);

/* A copy that stays as it is, for any thread; it may outlive this one. 0 or -ENOMEM. */
int marks_share(const struct marks *m, struct marks *ret_copy);

/* As long as nothing is shared: while a store is opened. */
struct mark *marks_change(struct marks *m, size_t i);
void marks_drop_volume(struct marks *m, uint32_t volume); /* forget those that name it */

#endif
