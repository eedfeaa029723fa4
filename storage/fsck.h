/* SPDX-License-Identifier: Apache-2.0 */
/* fsck.h: everything that must be true of a source's folder while nobody writes to it, looked at file by file and then
 * one against the other. Changes nothing. */
#ifndef HF_STORAGE_FSCK_H
#define HF_STORAGE_FSCK_H

#include "storage/run.h"

/* X(code, what it means, what to do). Interface: scripts read the codes. */
#define FSCK_TABLE(X)                                                                                                  \
	X(CATALOG_MISSING, "the catalog is gone", "start holdfastd: it takes the copy, or makes a new one")            \
	X(CATALOG_DAMAGED, "the catalog cannot be read", "start holdfastd: it takes the copy, or makes a new one")     \
	X(CATALOG_FOREIGN, "the catalog is of another source", "put the right one back, or move this one away")        \
	X(COPY_DAMAGED, "a damaged catalog could not be replaced by its copy",                                         \
	    "remove the copy: holdfastd writes a new one within a minute")                                             \
	X(BOUNDS, "base, fold and journal contradict each other: holdfastd refuses the source",                        \
	    "put the missing files back; every point in time that can be read: holdfastctl export file --data-dir")    \
	X(VOLUME_MISSING, "a disk that the catalog knows has no files: holdfastd refuses the source",                  \
	    "put its .img and .sum back, from a backup of the same moment")                                            \
	X(VOLUME_MISMATCH, "catalog and digest file say different things of a disk",                                   \
	    "start holdfastd and let the agent declare its disks again")                                               \
	X(POINT_LOST, "a kept point in time cannot be restored", "delete it: holdfastctl pit delete")                  \
	X(JOURNAL, "the journal does not hold together: holdfastd refuses the source",                                 \
	    "put the missing files back; what can be read: holdfastctl export file --data-dir")                        \
	X(SEGMENT_HEADER, "a segment's header is damaged",                                                             \
	    "nothing, while its run is whole: that stands in its place; look at the disk")                             \
	X(SEGMENT_GROUPS, "descriptors of a segment are damaged",                                                      \
	    "nothing, while its run is whole: that is read in their place; look at the disk")                          \
	X(RUN_DAMAGED, "an index is damaged",                                                                          \
	    "nothing, unless it also says that pages cannot be made again: holdfastd mends it; else, if it is merged," \
	    " put it back from a backup")                                                                              \
	X(RUN_ENTRIES, "an index says what cannot be", "report it: this is a bug of holdfastd, or a very lucky bit")   \
	X(RUN_MISMATCH, "an index does not belong to its segment", "put both back from one backup")                    \
	X(STAGING_MISSING, "the files of a disk are not both there", "put them back from a backup of the same moment") \
	X(STAGING_SIZE, "a staging file has not the size of its disk", "put it back from a backup")                    \
	X(DIGEST_HEADER, "a digest file cannot be read", "put it back from a backup of the same moment")               \
	X(DIGEST_TREE, "digests of a staging file contradict each other",                                              \
	    "start holdfastd and run: holdfastctl scrub start; it mends digests whose data is whole")                  \
	X(BLOCK_ROTTEN, "stored bytes do not match their digest: points that need them cannot be exported whole",      \
	    "start holdfastd and run: holdfastctl scrub start; a connected agent may still have them")

enum fsck_code {
#define X(code, means, cure) FSCK_##code,
	FSCK_TABLE(X)
#undef X
};

/* "CATALOG_MISSING", and the two sentences. Static memory. */
const char *fsck_code_name(enum fsck_code code);
const char *fsck_code_means(enum fsck_code code);
const char *fsck_code_cure(enum fsck_code code);

/* where: a file. what: the detail, for people. Borrowed. */
typedef void fsck_found(void *arg, enum fsck_code code, const char *where, const char *what);

struct fsck_options {
	const char *dir;         /* <data>/sources/s-... */
	const char *catalog;     /* a copy of its catalog.db, which opening may change; NULL: there is none */
	const char *catalog_bak; /* the same of catalog.db.bak */
	const char *vfs;         /* of these two; NULL, or a SQLite VFS (tests) */
	bool data;               /* read every block too */
	bool (*stop)(void);      /* asked now and then: true ends it (-ECANCELED); may be NULL */
};

struct fsck_stats {
	uint64_t segments, runs, entries, volumes, points, blocks; /* looked at */
};

/* Blocking; d and cache are the caller's. 0, whatever was found; or why it could not be checked to the end: -HF_EFORMAT
 * (newer), -ECANCELED, -errno. */
int fsck_source(struct disk *d, struct run_cache *cache, const struct fsck_options *options, fsck_found *found,
    void *arg, struct fsck_stats *ret_stats, struct hf_error *err);

#endif
