/* SPDX-License-Identifier: Apache-2.0 */
/* store.h: everything Holdfast keeps of one source: its journal, staging files, index and points in time.
 *
 * The path of a block through here:
 *
 *	store_frame_begin()   checks the extents, reserves room in a slab; the session decrypts payload straight into it
 *	store_frame_end()     verifies every digest, gives the frame an LSN
 *	store_flush()         closes the group: [descriptor | payload] becomes one write (journal.c),
 *	                      or payload -> staging file, sync, then its records (first fill)
 *	... write completions, one sync, ...
 *	events.durable()      everything up to a sequence is on disk: the session acknowledges
 *
 * Ownership: a store belongs to one thread, its worker, which alone calls the functions marked [owner]. Work that
 * blocks is taken from it as a store_job, run on any other thread, and handed back. Views are made by the owner
 * and read elsewhere.
 *
 * What broke a promise stays broken: after a failed journal write or sync the store goes on in a new segment with the
 * bytes it still has, and if that fails too it is failed: nothing more is acknowledged until it is opened again. */
#ifndef HF_STORAGE_STORE_H
#define HF_STORAGE_STORE_H

#include "proto/common/histogram.h"
#include "storage/catalog.h"
#include "storage/fold.h"
#include "storage/pit.h"
#include "storage/points.h"
#include "storage/retention.h"
#include "storage/scrub.h"
#include "storage/slab.h"
#include "storage/space.h"
#include "storage/view.h"

struct store;
struct store_job;

struct store_config {
	const char *dir;              /* <data>/sources/s-...; copied */
	const char *catalog_vfs;      /* NULL, or a SQLite VFS (tests) */
	uint64_t segment_bytes_max;   /* default 256 MiB */
	uint64_t segment_bytes_first; /* default 1 MiB, doubling */
	uint64_t reserve_bytes;       /* until store_set_space(): left free for maintenance; default 16 MiB */
	bool journal_elsewhere;       /* store_create(): the caller makes DIR/journal, a link to where it lies */
	int64_t copy_interval_ns;     /* the catalog is copied at most so often; default 60 s */
	void (*sleep_ns)(int64_t ns); /* for maintenance that waits for acknowledgements; NULL = nanosleep() */
	int64_t (*clock_ns)(void);    /* our clock; NULL = CLOCK_REALTIME */
	int64_t scrub_interval_ns;    /* from the end of one to the beginning of the next; 0 = only when asked for */
	uint64_t scrub_bytes;         /* read in a second by one that nobody asked for; default 32 MiB */
	int64_t (*passed_ns)(void);   /* what never jumps; NULL = clock_ns if that is given, else CLOCK_MONOTONIC */
};

/* ---- life ---- */

/* Make the folder and catalog of a new source. Blocking, any thread. -EEXIST. */
int store_create(struct disk *d, const struct store_config *config, const struct id *source, struct hf_error *err);

/* Delete a volume (id, or name among the retired) that is no longer declared, and with_points: all points that name it.
 * The store must be closed; it is opened for it, and closed. Blocking, any thread; *ret_points is how many went.
 * -ENOENT, -EINVAL (several of that name), -EBUSY (declared; points have it; one of them is held, guarded or the
 * newest): err says which; else as store_open(). */
int store_delete_volume(struct disk *d, const struct store_config *config, const char *volume, bool with_points,
    size_t *ret_points, struct hf_error *err);

/* Would it be refused? Asked of the open store, so that it is closed for nothing less than a deletion. [owner] 0 or
 * negative, as store_delete_volume(), which looks again. */
int store_check_delete_volume(struct store *s, const char *volume, bool with_points, struct hf_error *err);

/* Recover: read the catalog and the journal's tail, sync what is relied on. Blocking, any thread; the store then
 * belongs to the thread that calls store_attach(). A catalog that is damaged or gone is replaced: see
 * store_get_repair(). -HF_ECORRUPT, -HF_EFORMAT, -errno. */
int store_open(struct disk *d, const struct store_config *config, struct store **ret_store, struct hf_error *err);

/* What opening did about the catalog. [owner] */
struct store_repair {
	enum { STORE_CATALOG_WHOLE, STORE_CATALOG_COPY, STORE_CATALOG_REBUILT } how;
	int64_t time_ns; /* our clock; 0: it was whole */
	char text[512];  /* for people: what was wrong, and what is lost */
};
const struct store_repair *store_get_repair(const struct store *s); /* borrowed */

/* Open for reading alone, with the daemon stopped and without the catalog: only what the journal and the staging files
 * say themselves. Nothing is changed. Points are all checkpoints there are, without the names and holds of the catalog:
 * who has a copy of it adds them. store_list_volumes(), store_list_pits(), store_view() and store_close() are all that
 * may be called. Blocking. */
int store_open_offline(struct disk *d, const char *dir, struct store **ret_store, struct hf_error *err);

/* Told to the owner, never from inside a store_ call but store_on_completions (the disk's callbacks) and
 * store_job_finish(). */
struct store_events {
	void (*durable)(void *arg, uint64_t sequence);             /* cumulative; of the current stream */
	void (*room)(void *arg);                                   /* store_frame_begin() said -EAGAIN: try again */
	void (*checkpoint)(void *arg, const struct checkpoint *c); /* durable */
	void (*job_ready)(void *arg);                              /* store_job_next() has something */
	void (*failed)(void *arg, int status, const char *text);   /* the store acknowledges nothing any more */
	void (*thinned)(void *arg, const struct pit *pit);         /* it was given up for want of room */

	/* May be NULL: a point is kept from now on. pit is borrowed. */
	void (*taken)(void *arg, const struct pit *pit);

	/* May be NULL. Rot was found, or is there no more: healed, or no point needs it. d is borrowed. */
	void (*damaged)(void *arg, const struct damage *d);
	void (*mended)(void *arg, const struct damage *d, bool healed);
	void (*scrubbed)(void *arg); /* a scrub came to its end; store_get_scrub() */
};

/* [owner] Set the disk (ring) and slabs of the owning worker and who is told. events and arg are borrowed until
 * store_close(). */
void store_attach(struct store *s, struct disk *d, struct slabs *slabs, const struct store_events *events, void *arg);

/* [owner] Submit what is queued and refuse more. When nothing is in flight store_is_idle() becomes true. */
void store_shutdown(struct store *s);
/* After that: the last thing to run before it is closed (the catalog's copy), as any job; NULL: nothing. */
struct store_job *store_last_job(struct store *s);
bool store_is_idle(const struct store *s);

/* Idle stores only; no job out, no view alive. d: any disk of the implementation. NULL allowed. */
void store_close(struct store *s, struct disk *d);

/* ---- facts [owner] ---- */
const struct id *store_source(const struct store *s);
uint64_t store_digest_seed(const struct store *s);

/* Newest stream with anything durable (0 = none), its last durable sequence and chain there. */
void store_get_stream(const struct store *s, uint64_t *ret_stream_id, uint64_t *ret_sequence, uint64_t *ret_chain);

struct store_volume {
	uint32_t volume;
	struct id id;
	uint64_t size_bytes;
	uint64_t frontier_blocks;          /* durable */
	uint64_t frontier_received_blocks; /* including what is in flight */
	bool declared;                     /* by the session now, or by the last one */
	bool boot_disk;
	int64_t equal_ns; /* our time: it was proved then to hold what the source's disk held; 0 = never */
	char name[128], identity[128], device_name[256];
};
size_t store_list_volumes(const struct store *s, struct store_volume *ret_volumes, size_t max); /* declared ones */
/* The retired ones too: disks that were replaced or taken away and live on in old points. Names may repeat. */
size_t store_list_all_volumes(const struct store *s, struct store_volume *ret_volumes, size_t max);

struct store_stats {
	uint64_t lsn_last, lsn_durable, base_lsn;
	uint64_t received_bytes, durable_bytes;                 /* payload since the store was opened */
	uint64_t journal_bytes;                                 /* on disk, all segments and runs */
	uint64_t written_bytes;                                 /* our own writes of every kind since opened */
	uint64_t merges, merge_copied_bytes, merge_freed_bytes; /* freed: segments removed, and holes made */
	uint64_t groups, io_errors;               /* io_errors: writes and syncs of the data path that failed */
	struct histogram write_times, sync_times; /* of the journal, each from its submission to its completion */
	uint64_t diverted_groups;                 /* of a first fill, that the staging files failed to take */
	uint64_t open_entries, run_count, segment_count, pit_count;
	int64_t window_ns; /* how far back every checkpoint is kept: less than the policy says for want of room */
	uint64_t fold_bytes, merge_bytes; /* the most one fold, one merge may write before it frees anything */
	uint64_t taken_bytes;             /* room, since opened: segments prepared, fills written */
	uint64_t thinned;                 /* points given up for want of room since opened */
	bool failed, folding, full;       /* full: the last try to write found no space; tried again every second */
};
void store_get_stats(const struct store *s, struct store_stats *ret_stats);

/* ---- volumes ---- */

/* Bring the volumes in line with a declaration: a job, because files are made; finish it like any other, then ask
 * store_list_volumes(). One at a time: until it is finished or destroyed no other may be made. Frames may go on
 * meanwhile. Statuses per volume: 0, -HF_ETOOLARGE, -HF_EIDENTITY (shrunk), -HF_EFULL (more disks than one source may
 * ever have), -EAGAIN (history is being folded: declare again later), -errno. While a declared volume has no files
 * here, or cannot be read, no checkpoint is complete. [owner] NULL when out of memory. */
struct store_declaration {
	char name[128], identity[128], device_name[256];
	uint64_t size_bytes;
	bool ok; /* false: declared, but the agent cannot read it: it stays as it is */
	bool boot_disk;
};
struct store_job *store_declare(struct store *s, const struct store_declaration *volumes, size_t count);
/* After store_job_finish() was called on it with keep = true: per declared volume the number (0 = none) and status.
 * Then store_job_destroy(). */
void store_declare_result(
    const struct store_job *job, size_t index, uint32_t *ret_volume, int *ret_status, char *ret_text, size_t text_size);

/* These volumes were proved at equal_ns (our time) to hold what the source's disks held: a job. [owner] NULL when out
 * of memory. */
struct store_job *store_note_equal(struct store *s, const uint32_t *volumes, size_t count, int64_t equal_ns);

/* ---- the stream [owner] ---- */

/* A new stream begins (chain = stream_id, next sequence 1), or the newest is resumed. 0; -HF_ESTREAM: not what is
 * durable here. */
int store_stream_start(struct store *s, uint64_t stream_id, bool resume);
/* The session is gone: half a frame was never queued, and time passes without the source (retention.h). */
void store_stream_stop(struct store *s);

struct store_extent { /* as on the wire, see proto/frame.h; kind has the same values */
	uint64_t block, count;
	uint32_t volume;
	uint32_t kind; /* 1 data, 2 zero, 3 fill, 4 fill zero */
};

/* A data frame begins: check it against the volumes, reserve digest_count * 4096 bytes. *ret_payload is where they go
 * (valid until end or abort; NULL if digest_count is 0). 0; -EAGAIN: no slab now, events.room() follows; -HF_EVOLUME,
 * -HF_EBEYOND, -HF_EFRONTIER, -HF_ESEQUENCE, -HF_EFULL, -EIO (failed). At most one frame is begun at a time. extents
 * and digests are copied. */
int store_frame_begin(struct store *s, uint64_t sequence, uint64_t chain, const struct store_extent *extents,
    size_t extent_count, const uint64_t *digests, size_t digest_count, void **ret_payload);

/* Its payload is complete: verify and queue. 0, or -HF_EDIGEST (*ret_bad = index of the block in the payload; the frame
 * is dropped). */
int store_frame_end(struct store *s, size_t *ret_bad);
void store_frame_abort(struct store *s); /* the session died in the middle; legal when none is begun */

/* Queue a checkpoint (lsn, complete and volumes are filled in here; a moment after received_ns is taken for
 * received_ns). 0, -EAGAIN, -HF_ESEQUENCE, -HF_EPROTOCOL (no such consistency), -HF_ESHUTDOWN, -EIO. */
int store_checkpoint(struct store *s, uint64_t sequence, uint64_t chain, const struct checkpoint *c);

/* The newest checkpoint still described the volumes at until_ns (our clock: the source's may have been set since; not
 * later than now). */
void store_extend_checkpoint(struct store *s, int64_t until_ns);

/* Nothing more to read just now: let the open group go if nothing is in flight. Call at the end of each read burst. */
void store_flush(struct store *s);

/* ---- reading [owner makes, another thread reads] ---- */

/* View at lsn (UINT64_MAX: newest durable, of the volumes declared today). Counts as a reader: no fold passes it. 0,
 * -HF_ENOPIT (before the base or a begun fold, or no point and so old that merges have dropped what lay between
 * points), -ENOMEM. */
int store_view(struct store *s, uint64_t lsn, struct view **ret_view);
/* Give it back. [owner] (a reader thread posts it to the owner) */
void store_view_release(struct store *s, struct view *v);

/* 1 MiB nodes of a volume written lately, newest first. Returns their number. */
size_t store_recent(struct store *s, uint32_t volume, uint64_t *ret_nodes, size_t max);

/* ---- points in time ---- */

/* [owner] All points: kept ones and every checkpoint inside the journal window, in LSN order; an array the caller
 * frees. */
int store_list_pits(struct store *s, struct pit **ret_pits, size_t *ret_count);
/* [owner] The same, as they are now, for any thread; nothing is copied but a pointer for every hundred or so. Shares;
 * NULL: no memory. */
struct points *store_points(struct store *s);
/* [owner] One of them, by its LSN or its id. 0, -HF_ENOPIT, -ENOMEM. */
int store_find_pit_at(struct store *s, uint64_t lsn, struct pit *ret_pit);
int store_find_pit(struct store *s, const struct id *pit, struct pit *ret_pit);
/* [owner] The newest checkpoint, or NULL; the newest complete one of consistency crash or better, or NULL. Borrowed
 * until the next call. */
const struct checkpoint *store_newest_checkpoint(const struct store *s);
const struct checkpoint *store_newest_consistent(const struct store *s);
/* [owner] The newest kept point to recover from (complete, crash or better; verified: such a one that was read back),
 * or NULL. Borrowed until the next store_job_finish(). */
const struct pit *store_newest_kept(const struct store *s, bool verified);

/* Changes of points are jobs. [owner] NULL when out of memory.
 * keep: the checkpoint at lsn becomes a kept point with this name (may be ""). hold/release/delete by id.
 * store_job_status() after finish: 0, -HF_ENOPIT, -EBUSY (delete of the only complete point, or of a held one). */
struct store_job *store_pit_keep(struct store *s, uint64_t lsn, const char *name, bool hold);
enum store_pit_verb {
	STORE_PIT_HOLD,
	STORE_PIT_RELEASE,
	STORE_PIT_DELETE,
	STORE_PIT_VERIFIED,   /* it was read back; of kept points alone, as the next */
	STORE_PIT_UNVERIFIED, /* reading it back failed */
};
struct store_job *store_pit_change(struct store *s, const struct id *pit, enum store_pit_verb verb);
/* [owner] From the next point on, and the points there are: see pit_assign(). */
struct store_job *store_set_policy(struct store *s, const struct policy *policy);
/* [owner] While it is frozen nothing expires, is folded or thinned. At once; when the job has ended, over a restart
 * too. A thaw also believes the clocks again. NULL when out of memory (then nothing has changed). */
struct store_job *store_set_frozen(struct store *s, bool frozen);
/* [owner] The kept point that frees most when it is deleted by hand, of those that can be; NULL: none would free
 * anything, as far as was counted. Borrowed until the next store_job_finish(). */
const struct pit *store_costliest(const struct store *s, uint64_t *ret_freed_bytes);

/* [owner] What another policy would make of the kept points, and what that frees. Nothing is changed. NULL when out of
 * memory. */
struct store_job *store_plan(struct store *s, const struct policy *policy);
struct store_plan {
	const struct pit
	    *pits; /* in LSN order, with the rules that would keep them and what they cost; borrowed from the job */
	const bool *going; /* of each: the policy would let it go */
	size_t count;
	uint64_t total_bytes; /* of the journal, that points older than the window see */
	uint64_t freed_bytes; /* of those */
};
void store_plan_result(const struct store_job *job, struct store_plan *ret_plan); /* after a good end, job kept */
const struct retention *store_retention(const struct store *s);                   /* [owner] */
void store_get_policy(const struct store *s, struct policy *ret_policy);          /* [owner] */

/* ---- room ---- */

/* [owner] About once a second, each time it was measured: how short of room this source is. */
void store_set_space(struct store *s, const struct space *space);
/* [owner] What the catalog says: the most it may take of the staging area (0 = no limit), and what goes when that, or
 * the staging area, is full. Changing it is a job as above. */
void store_get_quota(const struct store *s, uint64_t *ret_quota_bytes, enum when_full *ret_when_full);
struct store_job *store_set_quota(struct store *s, uint64_t quota_bytes, enum when_full when_full);

/* ---- scrub [owner] ---- */

/* One is begun by itself when it is due (store_config), goes on over restarts, and gives way to everything else; one
 * that was asked for does not spare the disk. */
struct scrub_status {
	bool running, by_hand;
	int64_t begun_ns, done_ns; /* our clock: of the one under way; when the last whole one ended. 0 = none */
	double progress;           /* 0 to 1, of the one under way, by the volumes' sizes */
	uint64_t bytes, bytes_per_second;
	uint64_t blocks_healed;
	uint64_t digests_mended; /* and pages of the index; both since the store was opened */
	size_t damaged;          /* versions of blocks that are damaged now */
	bool more_damaged;       /* than there is room to remember */
};
void store_get_scrub(const struct store *s, struct scrub_status *ret_status);
bool store_is_scrubbing(const struct store *s);

/* 0; -EBUSY: one is under way that was asked for. One that began by itself goes on as one that was asked for. */
int store_scrub_start(struct store *s);
int store_scrub_cancel(struct store *s); /* -ENOENT: none is under way */

/* A read somewhere found this block wrong: it is looked at soon, and from then on is damage, or is not. */
void store_suspect(struct store *s, uint32_t volume, uint64_t block);

/* What is damaged now, at most max; then how many points need it (the ids of the first max of them). */
size_t store_list_damage(const struct store *s, struct damage *ret_damage, size_t max);
size_t store_damage_points(struct store *s, const struct damage *d, struct id *ret_pits, size_t max);

/* A block that its source might still have, and which was not asked of it in the last hour; false if there is none.
 * Then its bytes (BLOCK_BYTES; copied): they take the place of the damaged version if its digest is theirs. -ENOMEM,
 * -EBUSY (the block before is not done with). */
bool store_next_to_heal(struct store *s, uint32_t *ret_volume, uint64_t *ret_block);
int store_heal(struct store *s, uint32_t volume, uint64_t block, const void *bytes);

/* ---- work that blocks ---- */
/* Kinds: prepare the next segment, build a run, apply the policy (keep and expire points), fold, merge runs, punch
 * segments, copy the catalog, declare, change points. The owner takes jobs (at most one of each kind is out), another
 * thread runs them with its own disk, the owner finishes them. */
struct store_job *store_job_next(struct store *s); /* [owner] NULL: nothing to do */
/* Build, fold, merge, punch and copy are the maintenance thread's; the others the catalog thread's. */
bool store_job_is_slow(const struct store_job *job);
bool store_job_is_ingest(const struct store_job *job); /* when it finds no space the reserve is not for it */
const char *store_job_name(const struct store_job *job);
void store_job_run(struct store_job *job, struct disk *d, struct run_cache *cache); /* any thread; blocks */
/* [owner] Take over its results. Frees it unless keep. */
void store_job_finish(struct store *s, struct store_job *job, bool keep);
/* After finish with keep, and in run's thread. */
int store_job_status(const struct store_job *job, const char **ret_text);
void store_job_destroy(struct store_job *job);

/* Call about once a second: window expiry, policy. [owner] */
void store_tick(struct store *s);

#endif
