/* SPDX-License-Identifier: Apache-2.0 */
/* walk.h: goes over a volume once, in ascending order, and gives holes and pieces: nodes of 1 MiB,
 * read and digested. Filling, comparing and the read under a freeze are all such walks. */
#ifndef HF_AGENT_WALK_H
#define HF_AGENT_WALK_H

#include "agent/reader.h"
#include "agent/sender.h"
#include "agent/volumes.h"

enum {
	NODE_BLOCKS = PIECE_BYTES / BLOCK_BYTES, /* a level-2 node: one piece */
	NODE_LEVEL = 2,
	CHUNK_NODES = 256, /* a level-3 node: 256 MiB */
	CHUNK_LEVEL = 3,
	WALK_AHEAD = READER_THREADS + 1, /* pieces being read before they are asked for */
	SPARE_MAX = 32,                  /* what a pass uses; more were kept under a freeze */
};

/* One node as it was read. */
struct piece {
	uint64_t node;
	size_t block_count; /* 256 but for a volume's last node */
	uint64_t digest;    /* of level 2 */
	uint64_t leaves[NODE_BLOCKS];
	unsigned char *data; /* NULL: all zeros */
	struct read_job job;
	struct piece *next;
};

/* What every walk needs, and what it counts. */
struct copier {
	struct link *link;
	struct reader *reader;
	struct sender *sender;
	uint64_t seed;

	/* Called now and then with how far the volume is; may be NULL. */
	void (*on_progress)(void *arg, struct volume *v, uint64_t done_bytes);
	void *arg;

	uint64_t bytes_read, bytes_differing;
	struct volume *failed; /* not NULL: a function failed because this volume could not be read
				  at failed_offset */
	uint64_t failed_offset;

	struct piece *spare; /* pieces not in use, a few */
	size_t spare_count;
};

/* Free the spare pieces. */
void copier_fini(struct copier *c);

/* Hand a piece back. NULL is allowed. */
void piece_put(struct copier *c, struct piece *p);

/* A piece of zeros without data, for a node that has become a hole. Gives; NULL if there is no
 * memory. */
struct piece *piece_get_zero(struct copier *c, const struct volume *v, uint64_t node);

uint64_t volume_nodes(const struct volume *v);

/* Nodes before the first that may hold data, from node on; volume_nodes() if there is none. */
uint64_t volume_next_data_node(struct volume *v, uint64_t node);

/* A hole of count nodes from node on, or (count = 1) a piece, which belongs to the caller until
 * piece_put(). */
struct step {
	uint64_t node, count;
	struct piece *piece;
};

struct walk {
	struct copier *copier;
	struct volume *volume;
	uint64_t cursor, end; /* nodes not yet planned */
	struct step ahead[WALK_AHEAD];
	size_t first, count;
};

/* Nodes [first, end) of v. Pair with walk_end(). */
void walk_begin(struct walk *w, struct copier *c, struct volume *v, uint64_t first, uint64_t end);

/* 1 and a step, 0 at the end, or a negative errno (copier->failed then names the volume unless it
 * is -ENOMEM or -ECANCELED). */
int walk_next(struct walk *w, struct step *ret_step);

/* Waits for reads under way, and forgets them. */
void walk_end(struct walk *w);

#endif
