/* SPDX-License-Identifier: Apache-2.0 */
/* mark.h: the checkpoints since the base, compactly: a source that checkpoints every second for a day
 * costs 64 bytes each, because nearly all of them share their list of volumes. */
#ifndef HF_STORAGE_MARK_H
#define HF_STORAGE_MARK_H

#include "storage/checkpoint.h"

struct marks {
	struct mark {
		uint64_t lsn, stream_id;
		int64_t clock_ns, clock_offset_ns, received_ns, unchanged_until_ns;
		int64_t running_ns; /* at its first moment */
		uint32_t set;       /* index of its volume list */
		uint8_t consistency;
		bool complete;
	} * list; /* in LSN order */
	size_t count, capacity;
	struct mark_set {
		uint32_t volume_count;
		struct {
			uint32_t volume;
			uint64_t size_bytes;
		} volumes[STORE_VOLUMES_MAX];
	} * sets;
	size_t set_count, set_capacity;
};

void marks_fini(struct marks *m);
int marks_add(struct marks *m, const struct checkpoint *c); /* in LSN order; 0 or -ENOMEM */
void marks_drop_before(struct marks *m, uint64_t lsn);      /* forget those with a smaller LSN */
void marks_drop_volume(struct marks *m, uint32_t volume);   /* forget those that name it */
void marks_get(const struct marks *m, size_t i, struct checkpoint *ret_checkpoint);
bool marks_find(const struct marks *m, uint64_t lsn, size_t *ret_index); /* exactly that LSN */
/* LSN of the oldest complete one that names the volume; UINT64_MAX if there is none. */
uint64_t marks_first_with(const struct marks *m, uint32_t volume);

#endif
