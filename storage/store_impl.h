/* SPDX-License-Identifier: Apache-2.0 */
/* store_impl.h: inside of a store, shared by store.c, journal.c, staging.c, store_job.c and recover.c, and nobody else. */
#ifndef HF_STORAGE_STORE_IMPL_H
#define HF_STORAGE_STORE_IMPL_H

#include "storage/interval.h"
#include "storage/mark.h"
#include "storage/segment.h"
#include "storage/store.h"
#include "storage/sum.h"

enum {
	GROUPS_MAX = 8,           /* closed groups of one store: more wait in the agent, under its credit */
	GROUP_ENTRIES_MAX = 128 * 1024, /* index entries of one group, 5 MiB: few bytes of zeroed ranges can ask for any number */
	GROUP_EARLY_BYTES = 1024 * 1024, /* a group this large goes out although others are in flight */
	PREPARE_FAILURES_MAX = 3, /* tries to make the next segment, a second apart, before the store is failed; a full disk is no failure */
	FAILOVERS_MAX = 1,        /* new segments tried after an error before the store is failed */
	VIEWS_MAX = 64,
	RECENT_RING = 2048,
	PATH_MAX_BYTES = 512,
};

/* ---- volumes ---- */
struct volume {
	struct store_volume info;      /* frontier_blocks = durable, frontier_received_blocks = with what is queued */
	struct shared_file *img, *sum;
	struct sum_cursor *cursor;     /* while the first fill goes on */
	bool growing;                  /* a declaration is out that makes it larger: the cursor stays */
	bool readable;                 /* the agent says it can read it */
	bool logged;                   /* its VOLUME record (this size) is queued or durable */
};

/* ---- segments of the journal, oldest first ---- */
struct segment {
	struct segment *next;
	uint64_t number;
	struct shared_file *file;
	uint64_t bytes;      /* next group goes here; once sealed, the valid length */
	uint64_t capacity;   /* preallocated */
	uint64_t lsn_first;  /* of its first record */
	uint64_t lsn_last;   /* durable */
	struct interval *interval; /* until it has a run */
	struct run *run;
	struct run_info info; /* its end state; valid once sealed */
	bool begun, sealed, building;
};

/* ---- groups: what is written and synced together ---- */
enum group_state {
	GROUP_OPEN,    /* frames are added */
	GROUP_STAGING, /* first fill: payload on its way into staging files */
	GROUP_STAGED,  /* may go into the journal, in its turn */
	GROUP_WRITING,
	GROUP_WRITTEN,
	GROUP_DURABLE,
};

struct piece { /* first fill: one contiguous write into a staging file */
	struct group *group;
	struct volume *volume;
	uint64_t block;
	uint32_t count;
	uint64_t payload_offset;
	struct disk_op op;
	bool full; /* staging file system had no room: again at the next tick */
};

struct sum_write { /* first fill: one page of a digest file */
	struct volume *volume;
	struct sum_page page;
};

struct group {
	struct group *next;
	struct store *store;
	enum group_state state;
	bool fill;
	struct slab *slab;
	size_t head_used, payload_used; /* descriptor bytes so far (group header included), payload bytes */
	uint64_t lsn_first;
	uint32_t record_count, entry_count, checkpoint_count;
	uint64_t stream_id, sequence; /* of its newest stream frame */
	struct group_header header;
	struct segment *segment;
	uint64_t file_offset, file_bytes; /* where, and how much, in the segment */
	struct disk_op op;
	bool synced;  /* part of the sync that is in flight */
	struct piece *pieces;
	size_t piece_count, piece_capacity, pieces_left;
	struct sum_write **sums;
	size_t sum_count, sum_capacity;
	int64_t begun_ns;
};

/* ---- one staging cycle: digests written, then staging and digest files synced, for all groups whose payload is there ---- */
struct staging {
	struct store *store;
	bool active;
	unsigned ops_left;
	int status;
	bool syncing;
	struct group *last; /* the newest group of the cycle */
	struct sum_write **sums;
	size_t sum_count, sum_capacity;
	struct disk_op *ops; /* one a digest page, or two a volume */
	size_t op_capacity;
};

enum job_kind { JOB_PREPARE, JOB_BUILD, JOB_POINTS, JOB_FOLD, JOB_DECLARE, JOB_PIT_KEEP, JOB_PIT_CHANGE, JOB_POLICY, JOB_KINDS };

struct store {
	struct store_config config;
	char dir[PATH_MAX_BYTES], journal_dir[PATH_MAX_BYTES];
	struct id source;
	uint64_t digest_seed;
	struct catalog *catalog;
	uint64_t base_lsn, fold_lsn;

	/* the owner's */
	struct disk *disk;
	struct slabs *slabs;
	const struct store_events *events;
	void *arg;
	bool attached, shutting_down;
	int failed; /* 0, or why nothing is acknowledged any more */
	char failed_text[256];

	struct volume *volumes[STORE_VOLUMES_MAX]; /* every volume that has files here, retired ones too */
	uint32_t volume_count;
	uint32_t volume_last; /* highest number ever given: none is given twice */
	bool unmade;          /* a declared volume has no files here: no checkpoint is complete */

	/* journal */
	struct segment *segments, *segments_tail; /* the tail is the one written to */
	struct segment *prepared;                 /* next one, file ready */
	uint64_t segment_number_last;
	bool want_segment;                        /* groups wait for `prepared` */
	bool roll;                                /* the next group begins a new segment */
	bool full;                                /* the last try to prepare one found no space */
	struct journal_state placed, durable;     /* after every placed / durable group */
	uint64_t lsn_next;
	struct group *open;                       /* frames go here */
	struct group *groups, *groups_tail;       /* closed, in order */
	unsigned group_count;
	struct group *free_group;                 /* one kept for reuse */
	unsigned writes_inflight, pieces_inflight;
	bool sync_inflight;
	struct disk_op sync_op;
	int64_t sync_begun_ns;
	struct segment *sync_segment;
	int broken;                               /* a journal write or sync failed: fail over when nothing is in flight */
	unsigned failovers, prepare_failures;     /* without progress since */
	struct staging *staging;
	struct slab_waiter waiter;
	bool room_wanted;

	/* stream */
	uint64_t stream_id, sequence, chain; /* as accepted; 0 = none begun since open */
	bool frame_begun;
	struct {
		uint64_t sequence, chain;
		size_t record_bytes, extent_count, digest_count;
		bool fill;
		uint32_t entry_count;
	} frame;

	/* history */
	struct marks marks;
	struct pit *pits; /* kept, in LSN order */
	size_t pit_count;
	struct policy policy;
	int64_t points_due_ns; /* monotonic: when the policy is looked at again */
	bool points_wanted;
	struct checkpoint newest_checkpoint, newest_consistent;
	bool has_checkpoint, has_consistent;

	struct { struct view *view; uint64_t lsn; } views[VIEWS_MAX];
	unsigned view_count;
	struct { uint32_t volume; uint64_t node; } recent[RECENT_RING];
	unsigned recent_count, recent_next;

	struct store_job *out[JOB_KINDS]; /* at most one of each kind */
	unsigned asked_jobs;              /* declarations and changes of points that are out */
	int64_t retry_ns[JOB_KINDS];      /* clock_monotonic: not before, after a failed job of that kind */
	struct store_stats stats;
};

/* journal.c */
int journal_open_group(struct store *s, bool fill, size_t record_bytes, size_t payload_bytes,
    uint32_t entry_count); /* s->open has room; -EAGAIN, -EIO */
void journal_drop_empty_group(struct store *s);
void journal_close_group(struct store *s);
void journal_pump(struct store *s);
void journal_group_staged(struct store *s); /* staging.c: some groups became STAGED, or staging failed */
void store_fail(struct store *s, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
void group_free(struct store *s, struct group *g);
struct segment *segment_create(uint64_t number);
void segment_destroy(struct segment *g, struct disk *d);
void segment_seal(struct store *s, struct segment *g);
void store_append_segment(struct store *s, struct segment *g);

/* staging.c */
int staging_add(struct store *s, struct group *g, const struct record_extent *extents, size_t extent_count, const uint64_t *digests, uint64_t payload_offset);
void staging_begin(struct store *s, struct group *g); /* submit its pieces */
void staging_pump(struct store *s);
void staging_retry(struct store *s); /* tick: after a full file system */
bool staging_is_idle(const struct store *s);
void staging_free(struct store *s);

/* store.c */
struct volume *store_find_volume(const struct store *s, uint32_t volume);
uint64_t volume_blocks(const struct volume *v);
void store_note_checkpoint(struct store *s, const struct checkpoint *c); /* durable, or found by recovery */
void store_note_entry(struct store *s, const struct entry *e);
int64_t store_clock(const struct store *s);
int store_fold_view(struct store *s, uint64_t lsn, struct view **ret_view); /* of every volume that has files, declared or not */
void store_wake_job(struct store *s);
void store_say_room(struct store *s);
void store_refresh_stats(struct store *s);

/* volume files */
void volume_path(char *ret_path, const struct store *s, const struct id *volume, const char *suffix);
void volume_destroy(struct volume *v, struct disk *d);

/* recover.c */
int store_recover(struct store *s, struct disk *d, bool read_only, struct hf_error *err);

/* store_job.c: where the fold may go: 0 = nowhere */
uint64_t store_fold_target(const struct store *s);

#endif
