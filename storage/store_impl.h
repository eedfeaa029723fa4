/* SPDX-License-Identifier: Apache-2.0 */
/* store_impl.h: inside of a store, shared by the files that make it up, and nobody else. */
#ifndef HF_STORAGE_STORE_IMPL_H
#define HF_STORAGE_STORE_IMPL_H

#include "storage/account.h"
#include "storage/interval.h"
#include "storage/leaving.h"
#include "storage/mark.h"
#include "storage/pace.h"
#include "storage/segment.h"
#include "storage/store.h"
#include "storage/sum.h"

enum {
	GROUPS_MAX = 8, /* closed groups of one store: more wait in the agent, under its credit */
	GROUP_ENTRIES_MAX =
	    128 * 1024, /* index entries of one group, 5 MiB: few bytes of zeroed ranges can ask for any number */
	GROUP_EARLY_BYTES = 1024 * 1024, /* a group this large goes out although others are in flight */
	PREPARE_FAILURES_MAX = 3, /* tries to make the next segment, a second apart, before the store is failed; a full
				     disk is no failure */
	/* Entries of sealed segments that have no run yet, 80 MiB: beyond that no segment is begun. Writes of data
	 * never come near; zeros cost their sender nothing. */
	UNBUILT_ENTRIES_MAX = 2 * 1024 * 1024,
	FAILOVERS_MAX = 1, /* new segments tried after an error before the store is failed */
	VIEWS_MAX = 64,
	RECENT_RING = 2048,
	PATH_MAX_BYTES = 512,
};

/* ---- volumes ---- */
struct volume {
	struct store_volume info; /* frontier_blocks = durable, frontier_received_blocks = with what is queued */
	struct shared_file *img, *sum;
	struct sum_cursor *cursor; /* while the first fill goes on */
	bool has_row;              /* in the catalog, when it was opened */
	bool growing;              /* a declaration is out that makes it larger: the cursor stays */
	bool readable;             /* the agent says it can read it */
	bool logged;               /* its VOLUME record (this size) is queued or durable */
};

/* ---- segments of the journal, oldest first ---- */
struct segment {
	struct segment *next;
	uint64_t number;
	struct shared_file *file;
	uint64_t bytes;            /* next group goes here; once sealed, the valid length */
	uint64_t capacity;         /* preallocated */
	uint64_t lsn_first;        /* of its first record */
	uint64_t lsn_last;         /* durable */
	struct interval *interval; /* until it has a run */
	struct run *run;
	struct run_info info; /* its end state; valid once sealed */
	bool begun, sealed, building;
	struct segment_data
	    *data; /* of a merged run: the files its entries lie in, by number; NULL: they lie in file */
	size_t data_count;
	bool unpunched;        /* what is dead in them may not be given back yet */
	uint64_t views_before; /* a view with a smaller number was made before the merge */
};

/* A file that entries lie in: a segment, or a packed one. */
struct segment_data {
	struct shared_file *file;
	uint64_t bytes;       /* valid length */
	uint64_t live_blocks; /* that entries refer to; not known before the first merge */
	uint64_t held_bytes;  /* without its holes */
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
	bool diverted; /* of a fill: its blocks go into the journal after all, for the staging files failed */
	struct slab *slab;
	size_t head_used, payload_used; /* descriptor bytes so far (group header included), payload bytes */
	uint64_t lsn_first;
	uint32_t record_count, entry_count, checkpoint_count;
	uint64_t stream_id, sequence; /* of its newest stream frame */
	struct group_header header;
	struct segment *segment;
	uint64_t file_offset, file_bytes; /* where, and how much, in the segment */
	struct disk_op op;
	bool synced; /* part of the sync that is in flight */
	struct piece *pieces;
	size_t piece_count, piece_capacity, pieces_left;
	struct sum_write **sums;
	size_t sum_count, sum_capacity;
	int64_t begun_ns, write_begun_ns;
};

/* ---- one staging cycle: digests written, then staging and digest files synced, for all groups with payload there ----
 */
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

enum job_kind {
	JOB_PREPARE,
	JOB_BUILD,
	JOB_POINTS,
	JOB_THIN,
	JOB_FOLD,
	JOB_MERGE,
	JOB_PUNCH,
	JOB_LEAVE,
	JOB_COPY,
	JOB_MEND,
	JOB_SCRUB,
	JOB_SCRUB_NOTE,
	JOB_DECLARE,
	JOB_PIT_KEEP,
	JOB_PIT_CHANGE,
	JOB_POLICY,
	JOB_QUOTA,
	JOB_EQUAL,
	JOB_FREEZE,
	JOB_ACCOUNT,
	JOB_PLAN,
	JOB_KINDS
};

/* ---- scrub ---- */
struct known_damage {
	struct damage d;
	int64_t asked_ns; /* monotonic: when its bytes were last asked for; 0 = not yet */
};

struct store_scrub {
	struct catalog_scrub at; /* as in the catalog, or newer */
	uint64_t page;           /* at.volume = 0: next page of the run */
	int64_t first_ns;        /* when the first one of all is due */
	bool ended;              /* everything was read; what was found is still looked at */
	bool changed;            /* the catalog does not know all of the damage yet */
	int64_t noted_ns;        /* monotonic: the catalog was told last */
	int64_t rechecked_ns;    /* monotonic: all damage was made suspect again */
	/* Places to look at, then what was found there; made when first needed. */
	struct catalog_suspect *suspects;
	struct known_damage *damage;
	size_t suspect_count, damage_count;
	bool more_damaged;
	struct scrub_offer offer; /* bytes NULL: none; else from buffer_alloc() */
	uint64_t blocks_healed, digests_mended;
	uint64_t rate, rate_bytes; /* bytes a second; bytes since rate_ns */
	int64_t rate_ns;
};

enum {
	SUSPECTS_MAX = 512, /* those beyond are found by a later scrub */
	DAMAGE_MAX = 512,
};

struct store {
	struct store_config config;
	char dir[PATH_MAX_BYTES], journal_dir[PATH_MAX_BYTES];
	struct id source;
	uint64_t digest_seed;
	struct catalog *catalog;
	uint64_t base_lsn, fold_lsn;
	bool base_unknown; /* while it is opened without its own catalog: see prove_base() in recover.c */
	struct store_repair repair;
	uint64_t copied_commits; /* of the catalog, that its copy has */
	int64_t copy_due_ns;     /* monotonic: no copy of it before */

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
	struct leaving leaving;               /* of removed segments and runs */
	bool want_segment;                    /* groups wait for `prepared` */
	bool roll;                            /* the next group begins a new segment */
	bool full;                            /* the last try to prepare one found no space */
	struct journal_state placed, durable; /* after every placed / durable group */
	uint64_t lsn_next;
	struct group *open;                 /* frames go here */
	struct group *groups, *groups_tail; /* closed, in order */
	unsigned group_count;
	struct group *free_group; /* one kept for reuse */
	unsigned writes_inflight, pieces_inflight;
	bool sync_inflight;
	struct disk_op sync_op;
	int64_t sync_begun_ns;
	struct segment *sync_segment;
	int broken;                           /* a journal write or sync failed: fail over when nothing is in flight */
	unsigned failovers, prepare_failures; /* without progress since */
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
	struct pit *pits; /* kept, in LSN order; another array when they change */
	struct shared *pits_shared;
	size_t pit_count;
	bool pits_doubted; /* a change of them failed: the catalog may have rows that pits lacks, now or after a cut */
	struct policy policy;
	struct {
		struct space told;
		int64_t
		    window_ns;    /* the journal window reaches back no further; INT64_MAX: as far as the policy says */
		int64_t acted_ns; /* monotonic: what was given up, or freed, since then is not measured yet */
		bool keep_wanted; /* the newest point to recover from is to get a row: the window will not hold it */
		bool thin_wanted; /* the oldest point that may go is to go */
	} space;
	uint64_t quota_bytes; /* 0 = none */
	enum when_full when_full;
	struct retention retention;
	int64_t window_end_ns;  /* running time at the first moment of the newest complete checkpoint */
	struct account account; /* what points cost, at accounted_ns (our clock; 0 = not counted yet) */
	struct shared *account_shared;
	uint64_t account_state;
	int64_t accounted_ns, account_due_ns; /* due: monotonic */
	int64_t points_due_ns;                /* monotonic: when the policy is looked at again */
	bool points_wanted;
	struct checkpoint newest_checkpoint, newest_consistent;
	bool has_checkpoint, has_consistent;

	struct {
		struct view *view;
		uint64_t lsn;
		uint64_t made; /* its number */
	} views[VIEWS_MAX];
	unsigned view_count;
	uint64_t views_made;
	uint64_t merged_lsn;       /* before it only points can be read: versions between them are gone */
	bool merge_wanted;         /* something has changed since the last look for runs to merge */
	uint64_t merge_looked_lsn; /* the newest that was old enough then */
	struct pace pace;
	struct {
		uint32_t volume;
		uint64_t node;
	} recent[RECENT_RING];
	unsigned recent_count, recent_next;

	struct store_scrub scrub;
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
void segment_leave(struct segment *g, struct leaving *l); /* its files, and its run's, have no names any more */
void segment_destroy(struct segment *g, struct disk *d);
void segment_seal(struct store *s, struct segment *g);
size_t segment_data_count(const struct segment *g);
struct segment_data segment_data_get(const struct segment *g, size_t i); /* its file is borrowed */
void segment_drop_data(struct segment *g, struct disk *d);
void store_append_segment(struct store *s, struct segment *g);

/* staging.c */
int staging_add(struct store *s, struct group *g, const struct record_extent *extents, size_t extent_count,
    const uint64_t *digests, uint64_t payload_offset);
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
int64_t store_passed(const struct store *s); /* monotonic */
int store_fold_view(
    struct store *s, uint64_t lsn, struct view **ret_view); /* of every volume that has files, declared or not */
void store_wake_job(struct store *s);
void store_say_room(struct store *s);

/* store_scrub.c */
int scrub_load(struct store *s, const struct catalog_source *facts, struct hf_error *err); /* from the catalog */
void scrub_unload(struct store *s);
bool scrub_is_due(const struct store *s);
void scrub_begin(struct store *s, bool by_hand);
void scrub_suspect(struct store *s, const struct catalog_suspect *suspect);
void scrub_look_at_runs(struct store *s);            /* pages that readers found damaged become suspect */
void scrub_recheck(struct store *s, int64_t now_ns); /* every ten minutes, what is damaged */
/* In the places of a mending these are damaged now, and nothing else. */
void scrub_take_findings(struct store *s, const struct catalog_suspect *places, size_t place_count,
    const struct damage *found, size_t count, bool healed);

/* volume files */
void volume_path(char *ret_path, const struct store *s, const struct id *volume, const char *suffix);
void volume_destroy(struct volume *v, struct disk *d);

/* store_open.c: open the catalog at path and take over what it says; nothing is left open after a failure. */
int store_load_catalog(struct store *s, const char *path, struct hf_error *err);
void store_unload_catalog(struct store *s);

/* store_views.c: kept, or still among the marks: whatever merges there were, it reads as it was */
bool store_is_point(const struct store *s, uint64_t lsn);

/* recover.c */
int store_recover(struct store *s, struct disk *d, bool read_only, struct hf_error *err);

/* store_points.c: where the fold may go: 0 = nowhere */
uint64_t store_fold_target(const struct store *s);
/* the oldest checkpoint inside the journal window; 0 = there is none */
uint64_t store_window_lsn(const struct store *s);
int lsn_compare(const void *a, const void *b); /* for qsort() and bsearch() */
/* Where the journal window begins, in running time: marks before it are points only if they are kept. INT64_MIN while
 * nothing expires. */
bool store_newest_is_kept(const struct store *s); /* the newest point to recover from has a row */
int64_t store_window_begin(const struct store *s);
/* After recovery, the points known: what running time each mark has, and from where it goes on. */
void store_begin_retention(struct store *s);
/* The running time that goes with a checkpoint, and if it is one to recover from, the source's from now on. */
int64_t store_run_to(struct store *s, const struct checkpoint *c);

/* store_job.c: a job is out that gives room back */
bool store_is_freeing(const struct store *s);

/* store_space.c */
int64_t store_window_ns(const struct store *s);        /* the journal window, as far as there is room for it */
bool store_take_room(struct store *s, uint64_t bytes); /* before something new is written; false: there is none */
uint64_t store_fold_step(const struct store *s, uint64_t target); /* how far of the way to target in one fold */

#endif
