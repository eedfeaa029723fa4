/* SPDX-License-Identifier: Apache-2.0 */
/* store_rig.h: a store on the simulated disk, an agent that knows every frame it sent, and a model that knows the truth.
 *
 * Content of a block is made from a 64-bit tag (0 = zeros), so the model of a volume is an array of tags and a copy of it
 * per frame costs nothing. Every operation is drawn from a script seed, so a run can be cut at any disk operation and
 * gone through again exactly. */
#ifndef HF_TESTS_STORE_RIG_H
#define HF_TESTS_STORE_RIG_H

#include "storage/disk_sim.h"
#include "storage/store.h"

#define RIG_DIR "/data/sources/s-00000000000000001"

enum { RIG_VOLUMES = 2, RIG_BLOCKS_MAX = 160, RIG_FRAMES_MAX = 400 };

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
	uint64_t tags[RIG_VOLUMES][RIG_BLOCKS_MAX];
	uint64_t frontier[RIG_VOLUMES];
};

struct rig {
	struct disk *disk;
	struct slabs *slabs;
	struct store *store;
	struct run_cache *cache;
	uint64_t random; /* state of the script's generator */
	uint64_t stream_id;
	uint64_t seed;
	uint32_t volume[RIG_VOLUMES]; /* numbers the store gave */
	uint64_t blocks[RIG_VOLUMES];
	struct rig_frame frames[RIG_FRAMES_MAX + 1]; /* index = sequence */
	struct rig_state states[RIG_FRAMES_MAX + 1];
	uint64_t sent;  /* newest frame made */
	uint64_t acked; /* newest the store called durable */
	bool failed;
	int64_t now_ns;
	unsigned jobs_run, folds, runs_built; /* how far the scenario went */
	char fault[512]; /* what was wrong, "" = nothing */
};

/* A fresh machine with an empty disk; the store is made and opened. False: cut before that was done. */
bool rig_start(struct rig *g, uint64_t seed);
/* Open (again) whatever is on the disk; declares the volumes and resumes or begins the stream. 0, or why not. */
int rig_open(struct rig *g);
void rig_close(struct rig *g); /* as a killed process: nothing is flushed */
void rig_stop(struct rig *g);  /* and the machine is gone */

/* One step of the script: makes and sends a frame, or lets jobs run, or waits. */
void rig_step(struct rig *g);
void rig_send(struct rig *g, uint64_t sequence); /* a frame made before (again) */
void rig_settle(struct rig *g);                  /* everything queued is durable (or the power is off) */
void rig_run_jobs(struct rig *g, unsigned max);

/* Everything that must be true of an open, settled store; fills g->fault and returns false if it is not. */
bool rig_check(struct rig *g);
bool rig_check_newest(struct rig *g); /* of that, only the newest state: for scripts that declare volumes their own way */

/* After a restart: what is durable is a prefix of what was sent, and nothing acknowledged is missing. Sets g->sent to it. */
bool rig_check_recovered(struct rig *g);

#endif
