/* SPDX-License-Identifier: Apache-2.0 */
/* punch.h: which blocks of a data segment are live, and holes where enough of them are not. */
#ifndef HF_STORAGE_PUNCH_H
#define HF_STORAGE_PUNCH_H

#include "storage/disk.h"
#include "storage/run.h"

/* Holes are made of whole dead ranges of at least so many blocks: smaller ones cost the file system more than they
 * give. */
enum { PUNCH_BLOCKS_MIN = 16 };

/* One bit a block of a file. The header page is always live. */
struct punch_map {
	uint64_t blocks; /* valid length of the file */
	uint64_t live;   /* of them, without the header */
	uint64_t *bits;
};

int punch_map_init(struct punch_map *m, uint64_t file_bytes); /* 0 or -ENOMEM */
void punch_map_fini(struct punch_map *m);
bool punch_map_set(struct punch_map *m, uint64_t block); /* false: beyond the file */

/* Blocks that are left when all holes are made. */
uint64_t punch_map_held(const struct punch_map *m);

/* Make them; where there is a hole already nothing is done. Not synced: a hole that is lost is made again. Blocks.
 * *ret_bytes: what was not a hole before. 0 or -errno. */
int punch_holes(const struct punch_map *m, struct disk *d, struct disk_file *f, uint64_t *ret_bytes);

#endif
