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

#include "storage/catalog.h"
#include "storage/fold.h"
#include "storage/pit.h"
#include "storage/slab.h"
#include "storage/view.h"

struct store;
struct store_job;

struct store_config {
	const char *dir;              /* <data>/sources/s-...; copied */
	const char *catalog_vfs;      /* NULL, or a SQLite VFS (tests) */
	uint64_t segment_bytes_max;   /* default 256 MiB */
	uint64_t segment_bytes_first; /* default 1 MiB, doubling */
	uint64_t reserve_bytes;       /* left free for maintenance on the journal's file system; default 16 MiB */
	int64_t (*clock_ns)(void);    /* our clock; NULL = CLOCK_REALTIME */
};

/* ---- life ---- */

/* Make the folder and catalog of a new source. Blocking, any thread. -EEXIST. */
int store_create(struct disk *d, const struct store_config *config, const struct id *source, struct hf_error *err);

/* Recover: read the catalog and the journal's tail, sync what is relied on. Blocking, any thread; the store then
 * belongs to the thread that calls store_attach(). -HF_ECORRUPT, -HF_EFORMAT, -errno. */
int store_open(struct disk *d, const struct store_config *config, struct store **ret_store, struct hf_error *err);

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
};

/* [owner] Set the disk (ring) and slabs of the owning worker and who is told. events and arg are borrowed until
 * store_close(). */
void store_attach(struct store *s, struct disk *d, struct slabs *slabs, const struct store_events *events, void *arg);

/* [owner] Submit what is queued and refuse more. When nothing is in flight store_is_idle() becomes true. */
void store_shutdown(struct store *s);
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
	char name[128], identity[128], device_name[256];
};
size_t store_list_volumes(const struct store *s, struct store_volume *ret_volumes, size_t max); /* declared ones */
/* The retired ones too: disks that were replaced or taken away and live on in old points. Names may repeat. */
size_t store_list_all_volumes(const struct store *s, struct store_volume *ret_volumes, size_t max);

struct store_stats {
	uint64_t lsn_last, lsn_durable, base_lsn;
	uint64_t received_bytes, durable_bytes; /* payload since the store was opened */
	uint64_t journal_bytes;                 /* on disk, all segments and runs */
	uint64_t written_bytes;                 /* our own writes of every kind since opened */
	uint64_t groups, syncs, sync_ns_total, write_ns_total;
	uint64_t open_entries, run_count, segment_count;
	bool failed, folding, full; /* full: the last try to write found no space; tried again every second */
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

/* ---- the stream [owner] ---- */

/* A new stream begins (chain = stream_id, next sequence 1), or the newest is resumed. 0; -HF_ESTREAM: not what is
 * durable here. */
int store_stream_start(struct store *s, uint64_t stream_id, bool resume);

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

/* The newest checkpoint still described the volumes then (source's clock; not later than now). */
void store_extend_checkpoint(struct store *s, int64_t unchanged_until_ns);

/* Nothing more to read just now: let the open group go if nothing is in flight. Call at the end of each read burst. */
void store_flush(struct store *s);

/* ---- reading [owner makes, another thread reads] ---- */

/* View at lsn (UINT64_MAX: newest durable, of the volumes declared today). Counts as a reader: no fold passes it. 0,
 * -HF_ENOPIT (before the base or a begun fold), -ENOMEM. */
int store_view(struct store *s, uint64_t lsn, struct view **ret_view);
/* Give it back. [owner] (a reader thread posts it to the owner) */
void store_view_release(struct store *s, struct view *v);

/* 1 MiB nodes of a volume written lately, newest first. Returns their number. */
size_t store_recent(struct store *s, uint32_t volume, uint64_t *ret_nodes, size_t max);

/* ---- points in time ---- */

/* [owner] All points: kept ones and every checkpoint inside the journal window, in LSN order; an array the caller
 * frees. */
int store_list_pits(struct store *s, struct pit **ret_pits, size_t *ret_count);
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
struct store_job *store_set_policy(struct store *s, const struct policy *policy);
void store_get_policy(const struct store *s, struct policy *ret_policy); /* [owner] */

/* ---- work that blocks ---- */
/* Kinds: prepare the next segment, build a run, apply the policy (keep and expire points), fold, declare, change
 * points. The owner takes jobs (at most one of each kind is out), another thread runs them with its own disk, the owner
 * finishes them. */
struct store_job *store_job_next(struct store *s); /* [owner] NULL: nothing to do */
/* Fold and build are the maintenance thread's; the others the catalog thread's. */
bool store_job_is_slow(const struct store_job *job);
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
