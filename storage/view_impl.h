/* SPDX-License-Identifier: Apache-2.0 */
/* view_impl.h: inside of a view, shared by view*.c and fold.c, and nobody else. */
#ifndef HF_STORAGE_VIEW_IMPL_H
#define HF_STORAGE_VIEW_IMPL_H

#include "storage/sum.h"
#include "storage/transfer.h"
#include "storage/view.h"

enum {
	VIEW_SLOTS = 4096, /* blocks resolved at a time */
};

/* The newest version of one block. */
struct view_slot {
	uint64_t lsn; /* 0: not written since the base */
	uint64_t digest;
	uint32_t segment, offset; /* as in struct entry */
};

struct view {
	uint64_t digest_seed;
	uint64_t lsn, base_lsn;
	struct run **runs;
	size_t run_count;
	struct shared_file **segments; /* by number, ascending */
	size_t segment_count;
	struct view_volume volumes[STORE_VOLUMES_MAX];
	uint32_t volume_count;
	const struct damage *damage; /* that is known */
	size_t damage_count;
	/* scratch of whoever reads */
	struct view_slot slots[VIEW_SLOTS];
	struct transfer transfers[VIEW_READ_BLOCKS_MAX];
	struct sum_zone *zone; /* made when first needed */
	uint64_t *zone_lsns;   /* SUM_ZONE_BLOCKS of them; with zone */
};

/* Blocks of the volume, the last perhaps partly used; those of them that the staging file holds. */
uint64_t view_volume_blocks(const struct view_volume *vv);
uint64_t view_stored_blocks(const struct view_volume *vv);

/* Borrowed; NULL if the view has no such segment. */
struct disk_file *view_find_segment(const struct view *v, uint64_t number);

/* Newest versions of blocks [from, from + count), count <= VIEW_SLOTS, into v->slots. */
int view_resolve(struct view *v, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t from, size_t count);

/* run_next() over all runs. */
int view_next_entry(struct view *v, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t from,
    bool data_only, uint64_t *ret_block);

#endif
