/* SPDX-License-Identifier: Apache-2.0 */
/* sum.h: the digest tree of a staging file (vol-....sum): leaves and parents by zone of 256 MiB, so that a volume can
 * grow and a sparse volume's file stays sparse.
 *
 *	page 0                     header: magic "HFSUM001", version, source, volume number and id, digest seed, size,
 *	                           fold LSN, name, identity, checksum; all changing fields within the first 512 bytes
 *	zone z at 4096 + z * 137 * 4096:
 *	  pages 0..127   leaves (level 0), 512 per page
 *	  pages 128..135 level 1, 512 per page
 *	  page 136       level 2 (256 digests), then level 3 (one), then zeros
 *
 * A hole reads as zero digests: zero blocks. Nothing else is checksummed here: a parent that does not match its
 * children tells rot of digests from rot of data. Beyond the fill frontier a cut may leave digests of blocks that were
 * never acknowledged: readers take everything there as zero, and sum_cursor_load() clears it. */
#ifndef HF_STORAGE_SUM_H
#define HF_STORAGE_SUM_H

#include <stdbool.h>

#include "proto/common/id.h"
#include "storage/disk.h"
#include "storage/entry.h"

enum {
	SUM_ZONE_PAGES = 137,
	SUM_ZONE_BLOCKS = 65536,
	SUM_VERSION = 1,
};

struct sum_header {
	struct id source, volume_id;
	uint64_t digest_seed;
	uint32_t volume;
	uint64_t size_bytes;
	uint64_t fold_lsn; /* no point before it may be read: staging may hold newer blocks (see fold.h) */
	char name[128], identity[128];
};

/* Blocking. Write the header page and sync. 0 or -errno. */
int sum_header_write(struct disk *d, struct disk_file *f, const struct sum_header *h);
int sum_header_read(
    struct disk *d, struct disk_file *f, struct sum_header *ret_header); /* -HF_EFORMAT, -HF_ECORRUPT, -errno */

/* Blocking. Digests [first, first + count) of a level into ret (host order). Beyond the file: 0. */
int sum_read(struct disk *d, struct disk_file *f, int level, uint64_t first, size_t count, uint64_t *ret);

/* Byte offset of the page that holds digest `index` of a level, and its place in the page (0..511). */
uint64_t sum_page_offset(int level, uint64_t index);
unsigned sum_page_slot(int level, uint64_t index);

/* Blocking. Put one digest in its place, whatever is there, and sync: for a scrub that knows what is right. Nobody else
 * may write the file meanwhile. 0 or -errno. */
int sum_mend(struct disk *d, struct disk_file *f, int level, uint64_t index, uint64_t digest);

/* ---- changing a zone: name it, set leaves, recompute the parents over them, write back ----
 * Only pages that hold something touched are read or written. */
struct sum_zone; /* about 1 MiB; reusable; one thread */
int sum_zone_create(struct sum_zone **ret_zone);
void sum_zone_destroy(struct sum_zone *z);                                    /* NULL allowed */
void sum_zone_begin(struct sum_zone *z, uint64_t zone, uint64_t digest_seed); /* nothing touched */
/* Stored digests at and beyond this block (absolute) count as 0. At most once, before the first set. */
void sum_zone_limit(struct sum_zone *z, uint64_t block);
void sum_zone_set(struct sum_zone *z, uint64_t block, uint64_t digest); /* absolute block number within the zone */
int sum_zone_update(struct sum_zone *z, struct disk *d,
    struct disk_file *f); /* blocking: what is touched is read, parents recomputed; in memory */
int sum_zone_store(
    struct sum_zone *z, struct disk *d, struct disk_file *f); /* blocking: update, and write; not synced */
/* After an update: true and the digest of the node (absolute index) if it was recomputed; false: it is as stored in the
 * file. */
bool sum_zone_find(const struct sum_zone *z, int level, uint64_t index, uint64_t *ret_digest);

/* Blocking. Make whole zones [first, end) zero digests: a hole. Not synced. */
int sum_clear_zones(struct disk *d, struct disk_file *f, uint64_t first, uint64_t end);

/* ---- the fill frontier: digests appended in order, asynchronously ----
 * A cursor keeps the three pages at the frontier. Setting a range yields the pages to write. */
struct sum_cursor {
	uint64_t digest_seed;
	uint64_t frontier;                             /* next block */
	uint64_t leaf_offset, node_offset, top_offset; /* file offsets of the pages held; UINT64_MAX = none yet */
	uint64_t leaf[512], node[512], top[512];       /* little-endian on disk = host order here (asserted) */
};

struct sum_page {
	uint64_t offset; /* where it goes in the file */
	unsigned char bytes[4096] __attribute__((aligned(4096)));
};

enum { SUM_CURSOR_PAGES_MAX = 8 }; /* pages that one append of at most 512 blocks can touch */

/* Blocking: load the pages at the frontier, and clear in memory and in the file (not synced) what an unfinished fill
 * left beyond it. */
int sum_cursor_load(struct sum_cursor *c, struct disk *d, struct disk_file *f, uint64_t digest_seed, uint64_t frontier);

/* Append the digests of the next count (<= 512) blocks; zeros may be appended by sum_cursor_skip(). Parents over the
 * touched nodes are recomputed. Fills ret_pages with every page to write, returns how many. */
unsigned sum_cursor_append(struct sum_cursor *c, const uint64_t *digests, size_t count, struct sum_page *ret_pages);

/* Advance over count zero blocks: nothing to write, for what lies beyond the frontier is a hole. */
void sum_cursor_skip(struct sum_cursor *c, uint64_t count);

#endif
