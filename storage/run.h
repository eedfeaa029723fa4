/* SPDX-License-Identifier: Apache-2.0 */
/* run.h: the immutable sorted index of a sealed interval of the journal (one segment, or several that were merged):
 * entries (volume, block, LSN, digest, location) and the checkpoints in it. Either a file (NNNNNNNN.run, read by page
 * through a bounded cache) or a chunk in memory (part of the open interval); readers see no difference. Shared:
 * counted, any thread may ref/unref.
 *
 * docs/format.md has the bytes: header page (magic "HFRUN001", version, ids, seed, ranges, end state of the journal,
 * volume table, checksum), pages of entries sorted by entry_compare(), pages of wide entries, checkpoint records, and
 * of a merged run the segments that its entries lie in. Every page has a checksum (XXH3-64, seeded with the digest seed
 * and the page's place), and can be made again of others when it has rotted (run_parity.h): readers see that it was
 * slower, and run_take_damaged() tells.
 *
 * Within one LSN no block of a volume may occur twice: which of the two is the newer could not be told. */
#ifndef HF_STORAGE_RUN_H
#define HF_STORAGE_RUN_H

#include "storage/checkpoint.h"
#include "storage/disk.h"
#include "storage/entry.h"

struct run;
struct run_cache;

/* What the journal was like at the end of the interval: enough to go on without reading the segment. */
struct run_info {
	struct id source;
	uint64_t digest_seed;
	uint64_t number;        /* = number of the segment it indexes, the last of several */
	uint64_t segment_first; /* the first of several; = number if there is but one */
	bool merged;            /* versions that no point sees were dropped; run_segments() has the files it needs */
	uint64_t lsn_first, lsn_last;               /* of the segment's records */
	uint64_t segment_bytes;                     /* valid length of the segment */
	uint64_t chain;                             /* journal chain after the segment */
	uint64_t stream_id, sequence, stream_chain; /* newest durable stream frame, 0 if none yet */
	uint32_t volume_count;
	struct run_volume {
		uint32_t volume;
		uint64_t size_bytes, frontier_blocks;
		struct id id;
	} volumes[STORE_VOLUMES_MAX];
};

/* A file that a merged run's entries lie in. */
struct run_segment {
	uint64_t number;
	uint64_t bytes;       /* valid length of the file */
	uint64_t live_blocks; /* that entries refer to */
};

/* Sort entries (in place; borrowed) and write the file at path: path.tmp, sync, rename, directory sync. Overwrites a
 * left-over path.tmp. Blocks: for maintenance only. 0 or -errno. dir is the directory to sync. */
int run_write(struct disk *d, const char *dir, const char *path, const struct run_info *info, struct entry *entries,
    size_t entry_count, const struct checkpoint *checkpoints, size_t checkpoint_count);

/* The same in a stream, of any length: entries in order of the index, those of at most ENTRY_WIDE_BLOCKS first, then
 * the longer ones, then checkpoints, then segments. Blocks. What was added is kept aside (path.tmp, an old one
 * replaced) until run_writer_commit() syncs and renames it: a run appears whole or not at all. info, path and dir are
 * borrowed until run_writer_close(). 0 or -errno. */
struct run_writer;
int run_writer_open(
    struct disk *d, const char *dir, const char *path, const struct run_info *info, struct run_writer **ret_writer);
int run_writer_add(struct run_writer *w, const struct entry *e);
int run_writer_add_checkpoint(struct run_writer *w, const struct checkpoint *c);
int run_writer_add_segment(struct run_writer *w, const struct run_segment *g);
/* *ret_run is the run, opened: one reference. It may be set although an error is returned: then the run has its name,
 * but the directory's sync failed, and nobody knows which of the two will be there after a cut. */
int run_writer_commit(struct run_writer *w, struct run **ret_run);
void run_writer_close(struct run_writer *w); /* what was not committed is removed; NULL is allowed */

/* Open and check the header. Gives one reference. -HF_EFORMAT (newer), -HF_ECORRUPT, -errno. */
int run_open(struct disk *d, const char *path, struct run **ret_run, struct run_info *ret_info, struct hf_error *err);

/* A run in memory over entries (copied and sorted). Gives one reference. NULL when out of memory. */
struct run *run_from_entries(const struct entry *entries, size_t count);

struct run *run_ref(struct run *r);
/* The last unref closes the file through d (any disk of the implementation); d may be NULL for memory runs. NULL run is
 * allowed. */
void run_unref(struct run *r, struct disk *d);

/* Its file has no name any more: it goes to l when the last reference does, which the caller's thread must drop. */
struct leaving;
void run_leave(struct run *r, struct leaving *l);

/* A page that did not match its checksum, or could not be read, since this was last asked; whoever met it had it made
 * again of others, or failed. Any thread. */
bool run_take_damaged(struct run *r, uint64_t *ret_page);

/* Write anew, where they are, those of pages [first, first + count) of the run at path that have rotted and can be made
 * of others. Nobody else may write it meanwhile. What was mended is durable. Their number, or negative. Blocks. */
int run_mend_pages(struct disk *d, const char *path, uint64_t first, uint64_t count);

/* LSN of the oldest entry: points before it need nothing of the run. */
uint64_t run_lsn_first(const struct run *r);

/* Of a run in a file: its number, its pages, and the file, for who reads them all; 0, 0 and NULL in memory. */
uint64_t run_number(const struct run *r);
uint64_t run_pages(const struct run *r);
struct disk_file *run_file(const struct run *r);
/* Is this page `index` of the run? 0 or -HF_ECORRUPT. */
int run_check_page(const struct run *r, const unsigned char *page, uint64_t index);

/* Read all checkpoints of a file run, in LSN order, into an array the caller frees. */
int run_checkpoints(struct run *r, struct disk *d, struct checkpoint **ret_checkpoints, size_t *ret_count);

/* Read the segments of a file run (none, unless it is merged), into an array the caller frees. */
int run_segments(struct run *r, struct disk *d, struct run_segment **ret_segments, size_t *ret_count);

/* How much there is in it. */
uint64_t run_entry_count(const struct run *r);
uint64_t run_checkpoint_count(const struct run *r);

/* All entries of one of a file run's two tables (those longer than ENTRY_WIDE_BLOCKS, or the others), in order, read
 * ahead through a buffer of its own, of so many pages. One thread; r and d are borrowed. next: 1: *ret_entry is the
 * next; 0: no more; -HF_ECORRUPT, -errno. Blocks. */
struct run_cursor;
enum { RUN_CURSOR_PAGES = 16 }; /* where nothing speaks for fewer */
int run_cursor_open(struct run *r, struct disk *d, bool wide, size_t pages, struct run_cursor **ret_cursor);
int run_cursor_next(struct run_cursor *c, struct entry *ret_entry);
void run_cursor_close(struct run_cursor *c); /* NULL is allowed */

/* Call each() for every entry that overlaps blocks [from, to) of volume with lsn_after < lsn <= lsn_until, in index
 * order, wide ones first. Stops when each() returns non-zero and returns that. -HF_ECORRUPT names nothing: the caller
 * knows the run. Blocks (reads pages through the cache; each thread has its own cache, NULL will do for memory runs).
 * each() must not use the cache. */
typedef int run_each(void *arg, const struct entry *e);
int run_scan(struct run *r, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t from, uint64_t to,
    uint64_t lsn_after, uint64_t lsn_until, run_each *each, void *arg);

/* The first block >= from of volume that an entry of those LSNs covers (with data_only: an entry that is not zeros);
 * UINT64_MAX if none. Blocks, as run_scan(). 0 or negative. */
int run_next(struct run *r, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t from, uint64_t lsn_after,
    uint64_t lsn_until, bool data_only, uint64_t *ret_block);

/* A page cache of at most `bytes` (but at least 256 KiB), for one thread. */
int run_cache_create(size_t bytes, struct run_cache **ret_cache);
void run_cache_destroy(struct run_cache *c);

#endif
