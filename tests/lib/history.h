/* SPDX-License-Identifier: Apache-2.0 */
/* history.h: a source's history made up at random on a simulated disk (staging files, digest files, segments, runs),
 * beside a flat array of what every block held at each snapshot: the reference that views and folds are compared with.
 * cmocka asserts inside. */
#ifndef HF_TESTS_LIB_HISTORY_H
#define HF_TESTS_LIB_HISTORY_H

#include "storage/view.h"
#include "tests/lib/dice.h"

enum {
	HISTORY_VOLUMES_MAX = 3,
	HISTORY_SNAPSHOTS_MAX = 16,
	HISTORY_SEGMENTS_MAX = 16,
	HISTORY_RUNS_MAX = 64,
};

struct history_shape {
	uint32_t volumes;
	uint64_t blocks;    /* of each volume, at most; the last one is half used */
	unsigned records;   /* journal records after the first fill */
	unsigned snapshots; /* taken at random moments, and at the end */
	bool partly_filled; /* the first volume's fill is not finished */
};

/* What a block holds is told by one number: 0 is zeros, any other the seed of its bytes. */
struct history_volume {
	uint32_t number;
	uint64_t size_bytes, blocks, frontier;
	uint32_t *now;  /* per block */
	uint32_t *base; /* as first filled */
	uint32_t *snapshots[HISTORY_SNAPSHOTS_MAX];
};

struct history {
	struct dice dice;
	struct disk *disk; /* simulated; owned */
	struct run_cache *cache;
	uint64_t digest_seed;
	struct history_volume volumes[HISTORY_VOLUMES_MAX];
	uint32_t volume_count;
	uint64_t snapshot_lsns[HISTORY_SNAPSHOTS_MAX];
	unsigned snapshot_count;
	uint64_t lsn_last;
	struct entry *entries; /* all that were ever written, in LSN order */
	size_t entry_count, entry_capacity;
	/* segment n is open in segment_entries[n] ... [n + 1]; its run is a file, or some in memory */
	unsigned segment_count;
	size_t segment_entries[HISTORY_SEGMENTS_MAX + 1];
	bool run_in_file[HISTORY_SEGMENTS_MAX];
	uint32_t values;   /* given so far */
	uint64_t *digests; /* of each value */
};

/* A history of its own on a disk of its own; everything synced. */
struct history *history_create(const struct history_shape *shape, struct dice *dice);
void history_destroy(struct history *h);

/* A view at lsn over all files as they are now, opened anew. */
struct view *history_view(struct history *h, uint64_t lsn, uint64_t base_lsn);

/* The bytes and the digest of a value. */
void history_bytes(uint32_t value, unsigned char *ret_block);

/* Compare reads, digests of all levels and the search for data of every volume at snapshot n with the reference:
 * everything (small volumes), or as many ranges at random. */
void history_check(struct history *h, struct view *v, unsigned snapshot, unsigned ranges);

/* "/vol1.img", "/vol1.sum", "/3.seg", "/3.run" */
void history_path(char *ret_path, size_t size, const char *kind, uint64_t number);

#endif
