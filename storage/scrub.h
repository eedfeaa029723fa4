/* SPDX-License-Identifier: Apache-2.0 */
/* scrub.h: what is stored, read again and compared with its digests, so that rot is found while it can still be healed.
 *
 * A scrub goes through a source's volumes by groups of 256 blocks (1 MiB, a level-2 node of the digest tree). Of each
 * group it checks the staging file, its digests, and every version that the journal holds of these blocks; before all
 * volumes it checks the pages of the runs. So where it is can be told by one volume and one block, whatever is merged
 * or folded meanwhile.
 *
 * What the journal has written anew before the oldest point of a volume nobody reads from the staging file any more: a
 * fold that was cut off, or a fill whose files failed and that went through the journal, may have left anything there,
 * blocks and digests. It is passed over, and so are nodes of the tree above it.
 *
 * Rot of digests is told from rot of data by the tree: leaves that do not fit their parent, while with the digests of
 * the data they do, are wrong themselves; data that does not fit a leaf which its parent confirms is wrong. */
#ifndef HF_STORAGE_SCRUB_H
#define HF_STORAGE_SCRUB_H

#include "storage/view.h"

enum { SCRUB_GROUP_BLOCKS = 256 };

/* In the place of a page's number: the header of a segment. */
#define SCRUB_HEADER_BLOCK ((uint64_t)1 << 40)

/* One version of one block that cannot be read, or digests that cannot be trusted. */
struct damage {
	uint32_t volume;          /* 0: a page of a run */
	uint32_t segment, offset; /* where the bytes lie; segment 0 = in the staging file. Of a page: run and 0 */
	uint64_t block;           /* of a page: its number in the run */
	uint64_t lsn, lsn_next;   /* every point P of the volume with lsn <= P < lsn_next needs it */
	uint64_t digest;          /* of the bytes that should be there; 0 = digests, not data, are damaged */
	int status;               /* -HF_EDIGEST; -HF_ECORRUPT: digests or index; -errno of the read */
};

/* A point of this checkpoint needs it. */
bool damage_hits(const struct damage *d, const struct checkpoint *c);

struct scrub_stats {
	uint64_t bytes, blocks; /* read and compared */
	uint64_t digests_mended, blocks_healed;
};

/* Bytes of a block that may replace a version that rotted. */
struct scrub_offer {
	uint32_t volume;
	uint64_t block, digest;
	const void *bytes; /* aligned; borrowed */
};

/* Not from inside a read. It may be called for one block several times, once for each version. */
typedef void scrub_found(void *arg, const struct damage *d);

struct scrub;

/* v: of all volumes, and of the newest LSN. Borrows v, d and cache until scrub_destroy(). 0 or -ENOMEM. One thread. */
int scrub_create(
    struct view *v, struct disk *d, struct run_cache *cache, scrub_found *found, void *arg, struct scrub **ret_scrub);
void scrub_destroy(struct scrub *sc); /* NULL allowed */

/* The first group (its first block) at or after `from` that holds anything; the volume's block count if none. Blocks.
 * 0, -HF_EVOLUME. */
int scrub_next_group(struct scrub *sc, uint32_t volume, uint64_t from, uint64_t *ret_group);

/* Check one group; what is wrong is found(), at the latest in scrub_flush(). Blocks. 0, -HF_EVOLUME, -ENOMEM. */
int scrub_group(struct scrub *sc, uint32_t volume, uint64_t group);
void scrub_flush(struct scrub *sc);

/* The same, and mend what can be mended: digests from data that is confirmed, data from offer (NULL: none). digests:
 * may be written, for nobody fills the volume. Nobody else may write its files meanwhile. Blocks; what was mended is
 * durable. */
int scrub_mend_group(struct scrub *sc, uint32_t volume, uint64_t group, bool digests, const struct scrub_offer *offer);

/* Check pages of runs, about max_bytes of them, from page *page of run *number on, which are advanced; *number is
 * UINT64_MAX when all are done. Blocks. 0 or -ENOMEM. */
int scrub_runs(struct scrub *sc, uint64_t *number, uint64_t *page, uint64_t max_bytes);

/* Check the headers of all segments; recovery begins with them. Blocks. */
void scrub_headers(struct scrub *sc);

/* Must this node of the volume's tree, as stored, fit its children? Not where what is below is passed over, and not at
 * the frontier of a fill that goes on. Blocks. */
bool scrub_node_counts(
    struct view *v, struct disk *d, struct run_cache *cache, const struct view_volume *vv, int level, uint64_t index);

struct scrub_stats scrub_get_stats(const struct scrub *sc);

#endif
