/* SPDX-License-Identifier: Apache-2.0 */
/* node_map.h: the level-2 digest of every node of a volume, in 8 bytes per MiB that is not zero. */
#ifndef HF_AGENT_NODE_MAP_H
#define HF_AGENT_NODE_MAP_H

#include <stddef.h>
#include <stdint.h>

struct node_map {
	size_t chunk_count;
	uint64_t **chunks; /* of 256 digests each; NULL: all zero */
};

/* An empty (all zero) map for node_count nodes. 0 or -ENOMEM. */
int node_map_init(struct node_map *m, uint64_t node_count);
void node_map_fini(struct node_map *m);

uint64_t node_map_get(const struct node_map *m, uint64_t node);

/* 0 or -ENOMEM. */
int node_map_set(struct node_map *m, uint64_t node, uint64_t digest);

/* The first node in [node, end) whose digest is not 0, or end. */
uint64_t node_map_next(const struct node_map *m, uint64_t node, uint64_t end);

#endif
