/* SPDX-License-Identifier: Apache-2.0 */
/* view.h: a source's volumes as they were at one LSN: an immutable list of runs over the staging files.
 *
 * A view is made by the store's owner in O(runs) and read, blocking, by any one thread at a time with its own disk and
 * cache. While it lives nothing it can see is freed or folded over.
 *
 * Read of a block: the newest entry with base < LSN <= the view's, else the staging file; always verified against its
 * digest before a byte is handed out. */
#ifndef HF_STORAGE_VIEW_H
#define HF_STORAGE_VIEW_H

#include "storage/run.h"

struct view;

/* A file shared by views and the store (segment, staging or digest file). Counted; closes at the last unref. */
struct shared_file {
	_Atomic unsigned refs;
	struct disk_file *file;
	struct leaving
	    *leaving;    /* goes there instead, for it has no name any more; set by the owner, who unrefs it then */
	uint64_t number; /* segments: their number */
	char path[512];
};
/* Gives one reference. flags: enum disk_open_flag. 0, -ENAMETOOLONG or what disk_open() says. */
int shared_file_open(struct disk *d, const char *path, unsigned flags, uint64_t number, struct shared_file **ret_file);
struct shared_file *shared_file_ref(struct shared_file *f);
void shared_file_unref(struct shared_file *f, struct disk *d); /* NULL file allowed */

struct view_volume {
	uint32_t volume;
	uint64_t size_bytes;      /* at the view's LSN */
	uint64_t frontier_blocks; /* durable first fill (of today, may lie beyond size_bytes); beyond it blocks read as
				     zeros */
	uint64_t first_point_lsn; /* of the oldest complete point it is part of, UINT64_MAX = none; 0 = not asked for */
	struct shared_file *img, *sum; /* referenced by the view */
};

struct view_parts { /* all references are taken over by view_create() */
	uint64_t digest_seed;
	uint64_t lsn, base_lsn;
	struct run **runs; /* malloc()ed array, newest LSNs need not be ordered; taken */
	size_t run_count;
	struct shared_file **segments; /* malloc()ed array; taken */
	size_t segment_count;
	struct view_volume volumes[STORE_VOLUMES_MAX];
	uint32_t volume_count;
};

/* Takes everything in parts, also on failure. */
int view_create(const struct view_parts *parts, struct disk *d, struct view **ret_view);
void view_destroy(struct view *v, struct disk *d); /* NULL allowed */

/* Versions that are known to be damaged. A fold does not end at them: it takes them along as they are, with their
 * digests, which they match there as little as here. Borrowed until the view is destroyed. */
struct damage;
void view_know_damage(struct view *v, const struct damage *damage, size_t count);

const struct view_volume *view_find_volume(
    const struct view *v, uint32_t volume); /* NULL if it is not part of the view */

/* What went wrong with one block; where a bad block is shown to people. */
struct view_fault {
	uint32_t volume;
	uint64_t block;
	uint32_t segment; /* 0 = staging file */
	int status;       /* -HF_EDIGEST, -EIO, ... */
};

enum { VIEW_READ_BLOCKS_MAX = 256 };

/* Blocks [block, block + count), count <= VIEW_READ_BLOCKS_MAX, verified, into buf (aligned). On -HF_EDIGEST or an I/O
 * error *ret_fault (may be NULL) says which block is the first bad one, and nothing in buf may be used. -HF_EVOLUME,
 * -HF_EBEYOND; -HF_ECORRUPT and others from the index or the digest file: *ret_fault has that status and the first
 * block asked for. */
int view_read(struct view *v, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t block, uint32_t count,
    void *buf, struct view_fault *ret_fault);

/* The same for who takes what there is: the first *ret_count of them are good, and in buf: 0; or none of them is: the
 * status of the first. */
int view_salvage(struct view *v, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t block,
    uint32_t count, void *buf, uint32_t *ret_count);

/* Digests of nodes [first, first + count) of a level at the view's LSN, from stored digests alone; 0 beyond the
 * volume's end. Costs little more than reading that many digests where nothing was written since the base. */
int view_digests(struct view *v, struct disk *d, struct run_cache *cache, uint32_t volume, int level, uint64_t first,
    size_t count, uint64_t *ret);

/* The first block >= from that may hold data, skipping zeros by whole nodes where that is cheap; the volume's block
 * count if none. */
int view_next_data(
    struct view *v, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t from, uint64_t *ret_block);

/* Every block of a volume written after base_lsn and up to the view's LSN, newest version only, ascending, in batches
 * of at most max entries beginning at *from (advanced; UINT64_MAX when done). Zero ranges come as entries with digest 0
 * and count, whatever entries they were made of. Returns the number of entries or negative. For fold. */
ssize_t view_changes(struct view *v, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t *from,
    struct entry *ret_entries, size_t max);

/* Read the bytes of one data entry, verified. -HF_EDIGEST; -HF_ECORRUPT: the view has no such segment. */
int view_read_entry(struct view *v, struct disk *d, const struct entry *e, void *buf);

#endif
