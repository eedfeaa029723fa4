/* SPDX-License-Identifier: Apache-2.0 */
/* sweep.h: a volume that was filled is read, compared with the server by digest tree, and what
 * differs is sent. */
#ifndef HF_AGENT_SWEEP_H
#define HF_AGENT_SWEEP_H

#include "agent/node_map.h"
#include "agent/walk.h"

/* All return 0; an errno with c->failed set if the disk cannot be read; -HF_E... or -ECANCELED as
 * the link's functions. Nothing sent for the volume may be unacknowledged before; what they send is
 * queued, not flushed, after. */

/* The whole volume. map (may be NULL): receives the digest of every node as it was read. */
int sweep_volume(struct copier *c, struct volume *v, struct node_map *map);

/* Some nodes, in any order; the array is sorted. */
int sweep_nodes(struct copier *c, struct volume *v, uint64_t *nodes, size_t count);

/* Nodes that have been read before: a list, which is taken. */
int sweep_pieces(struct copier *c, struct volume *v, struct piece *list);

#endif
