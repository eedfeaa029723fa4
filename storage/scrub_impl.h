/* SPDX-License-Identifier: Apache-2.0 */
/* scrub_impl.h: inside of a scrub, for scrub*.c and nobody else. */
#ifndef HF_STORAGE_SCRUB_IMPL_H
#define HF_STORAGE_SCRUB_IMPL_H

#include "storage/scrub.h"
#include "storage/view_impl.h"

enum {
	GROUP = SCRUB_GROUP_BLOCKS,
	CHILDREN = 16,
	NODES = GROUP / CHILDREN, /* of level 1 in a group */
	TOPS = 256,               /* of level 2 in a zone */
	BATCH = 256,              /* versions read together */
	ZONE_NODES = TOPS * NODES,
	LEAVES = 512, /* in a page */
};

struct scrub {
	struct view *v;
	struct disk *d;
	struct run_cache *cache;
	scrub_found *found;
	void *arg;
	struct scrub_stats stats;

	/* how much may be written */
	bool mend_digests;
	const struct scrub_offer *offer;
	bool mending;

	/* the zone at hand */
	const struct view_volume *volume;
	uint64_t zone; /* UINT64_MAX: none */
	uint64_t tops[TOPS], root;

	/* the group at hand */
	uint64_t group;
	unsigned count; /* blocks of it that are stored */
	uint64_t leaves[GROUP], nodes[NODES];
	uint64_t data[GROUP];  /* digests of what was read */
	uint64_t newer[GROUP]; /* LSN of the block's oldest version in the journal; UINT64_MAX = none */
	bool read[GROUP];
	int status[GROUP];   /* of its read */
	bool misfits[NODES]; /* of level 1: it counts, and does not fit its leaves */
	bool contradiction;
	unsigned char *buf; /* GROUP blocks */

	/* versions in the journal */
	struct entry batch[BATCH];
	size_t batch_count;
	unsigned char *batch_buf;
	unsigned char *scratch; /* one block: what was written, read again */
	struct transfer transfers[GROUP];
	unsigned first[GROUP]; /* block of the group, or number in the batch, that a transfer begins with */
};

/* scrub.c */
bool scrub_is_offered(const struct scrub *sc, uint32_t volume, uint64_t block, uint64_t digest);
/* The bytes offered to this place. 0, -HF_EDIGEST (they are not there when they are read back), -errno. */
int scrub_rewrite(struct scrub *sc, struct disk_file *f, uint64_t offset);
/* Of the group at hand as a whole: any point may need what cannot be read there. */
void scrub_report_group(struct scrub *sc, int status);

/* scrub_stored.c: the group in the staging file, and its digests. 0 or -errno */
int scrub_check_stored(struct scrub *sc);

/* scrub_journal.c: versions of the group's blocks; what is gathered is read by scrub_flush(). 0, -HF_ECORRUPT, -errno
 */
int scrub_check_versions(struct scrub *sc);

#endif
