/* SPDX-License-Identifier: Apache-2.0 */
/* store_rig.h: a store on the simulated disk, an agent that knows every frame it sent, and a model that knows the
 * truth.
 *
 * Content of a block is made from a 64-bit tag (0 = zeros), so the model of a volume is an array of tags and a copy of
 * it per frame costs nothing. Every operation is drawn from a script seed, so a run can be cut at any disk operation
 * and gone through again exactly.
 *
 * A plain rig has two small volumes and does one thing after the other. A wild one has a third volume of three zones,
 * of which the model knows a few windows (the rest is zeros), and does all the things that may come between: jobs are
 * taken, run and finished steps apart, disks grow, go and come back, streams begin anew, points are kept and deleted,
 * views are held, writes and syncs fail. A keeper keeps and deletes points of any age and looks at old ones for long:
 * runs are merged under them. A tiny one is for scripts that say themselves what is done (rig_verbs.h): a
 * few blocks, and a third disk that is there when it is asked for. */
#ifndef HF_TESTS_STORE_RIG_H
#define HF_TESTS_STORE_RIG_H

#include "storage/disk_sim.h"
#include "storage/store.h"

#define RIG_DIR "/data/sources/s-00000000000000001"

enum {
	RIG_VOLUMES = 2,
	RIG_WILD_VOLUMES = 3,
	RIG_BLOCKS_MAX = 160, /* known to the model, of one volume */
	RIG_FRAMES_MAX = 400,
	RIG_VIEWS_MAX = 2,
	RIG_JOBS_MAX = 6,
	RIG_KEPT_MAX = 16,
};

enum rig_kind { RIG_PLAIN, RIG_WILD, RIG_TINY, RIG_KEEPER };

enum rig_frame_kind { RIG_FILL, RIG_DATA, RIG_CHECKPOINT };

struct rig_frame {
	enum rig_frame_kind kind;
	struct store_extent extents[16];
	size_t extent_count;
	uint64_t tags[64]; /* of the blocks with payload, in order */
	size_t tag_count;
	uint64_t chain;
	int64_t clock_ns; /* checkpoint: unique, so a point can be found again */
};

struct rig_state { /* what the volumes hold after a frame */
	uint64_t tags[RIG_WILD_VOLUMES][RIG_BLOCKS_MAX];
	uint64_t frontier[RIG_WILD_VOLUMES];
	uint64_t blocks[RIG_WILD_VOLUMES]; /* as declared when it was sent last; 0 = not declared */
	bool complete;                     /* a checkpoint, then, of filled volumes alone */
};

struct rig {
	struct disk *disk;
	struct slabs *slabs;
	struct store *store;
	struct run_cache *cache;
	char vfs[8]; /* its catalog's */
	enum rig_kind kind;
	uint64_t random; /* state of the script's generator */
	uint64_t stream_id, stream_before;
	uint64_t stream_base; /* frame before the first of the stream */
	uint64_t seed;
	int volumes;
	uint32_t volume[RIG_WILD_VOLUMES]; /* numbers the store gave */
	uint64_t bytes[RIG_WILD_VOLUMES];  /* of the disks */
	bool attached[RIG_WILD_VOLUMES];   /* the disks that are declared, next time */
	bool declared[RIG_WILD_VOLUMES];   /* by the last declaration that came through */
	bool usable[RIG_WILD_VOLUMES];     /* and not refused by it */
	uint64_t blocks[RIG_WILD_VOLUMES]; /* as the store knows */
	uint64_t sent;                     /* newest frame made */
	uint64_t acked;                    /* newest the store called durable */
	bool failed;
	bool pressed; /* it was short of room once: the journal window may have given way */
	bool brief;   /* points and the newest state are read, but not all levels of their digests */
	int64_t now_ns;
	int64_t clock_ahead_ns; /* what the store's clock shows beyond it */
	struct {
		struct store_job *job;
		bool run;
		int64_t clock_ns; /* of the point that it changes */
	} jobs[RIG_JOBS_MAX];     /* out */
	unsigned job_count;
	struct {
		struct view *view;
		struct rig_state state;
	} views[RIG_VIEWS_MAX];
	unsigned view_count;
	int64_t kept[RIG_KEPT_MAX]; /* clocks of points that must be there until they are deleted */
	unsigned kept_count;
	bool rotten;         /* a bit was flipped: blocks may be unreadable, but never wrong */
	uint64_t unreadable; /* blocks that were */
	/* how far the scenario went */
	unsigned jobs_run, folds, runs_built, merges, punches, leaves, streams, declarations, reopened;
	void (*on_wait)(struct rig *g);              /* called while nothing moves; NULL: time stands still */
	char fault[512];                             /* what was wrong, "" = nothing */
	struct rig_frame frames[RIG_FRAMES_MAX + 1]; /* by number, over all streams */
	struct rig_state states[RIG_FRAMES_MAX + 1];
};

/* A fresh machine with an empty disk; the store is made and opened. False: cut before that was done. */
bool rig_start(struct rig *g, uint64_t seed);
/* The same in two steps, to cut the second: a machine with a source that was never opened; then rig_open(). */
void rig_create(struct rig *g, uint64_t seed, enum rig_kind kind);
/* Open (again) whatever is on the disk; declares the volumes and resumes or begins the stream. 0, or why not. */
int rig_open(struct rig *g);
void rig_close(struct rig *g); /* as a killed process: nothing is flushed */
void rig_stop(struct rig *g);  /* and the machine is gone */

/* What is left of `from` when its process is killed now, as another machine and another agent that remembers the same:
 * at rest, to be opened: two rigs may be open at a time. `to` is overwritten; rig_stop() is due for it. */
void rig_fork(struct rig *to, const struct rig *from);

/* A fingerprint of what the store owes and of what the agent will do next, its luck apart: rigs that agree in it and in
 * disk_sim_hash() are in the same state. */
uint64_t rig_hash(const struct rig *g);

/* One step of the script: makes and sends a frame, or lets jobs run, or waits, or (wild) any of the other things. */
void rig_step(struct rig *g);
void rig_send(struct rig *g, uint64_t frame); /* a frame made before (again) */
void rig_settle(struct rig *g);               /* everything queued is durable (or the power is off) */
void rig_run_jobs(struct rig *g, unsigned max);
void rig_wait(struct rig *g, unsigned turns); /* of the loop */
void rig_resend(struct rig *g); /* what was sent and not acknowledged, as an agent does after it was welcomed */

/* For verbs. The frame begun here is g->frames[g->sent]; its extents (count and kind as in store.h; tags are made up)
 * go with rig_frame_extent(). One without any becomes a checkpoint. */
void rig_frame_begin(struct rig *g);
void rig_frame_extent(struct rig *g, int volume, uint64_t block, uint64_t count, bool fill, bool zero);
void rig_frame_end(struct rig *g); /* and it is sent */
uint64_t rig_pick(struct rig *g, uint64_t n);
bool rig_run_until(struct rig *g, const char *name); /* jobs, until one of that name was finished well */
int rig_declare(struct rig *g);                      /* what is attached, now */
int rig_keep(struct rig *g, const struct pit *p);
int rig_change(struct rig *g, const struct pit *p, enum store_pit_verb verb);
int rig_start_stream(struct rig *g);

/* All attached disks are filled, by the newest frame made. */
bool rig_is_filled(const struct rig *g);

/* Everything that must be true of an open, settled store; fills g->fault and returns false if it is not. */
bool rig_check(struct rig *g);
bool rig_check_newest(
    struct rig *g); /* of that, only the newest state: for scripts that declare volumes their own way */

/* After a restart: what is durable is a prefix of what was sent, and nothing acknowledged is missing. Sets g->acked to
 * it. */
bool rig_check_recovered(struct rig *g);

#endif
