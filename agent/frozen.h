/* SPDX-License-Identifier: Apache-2.0 */
/* frozen.h: a volume read once more while its file systems stand still. Nothing is sent: what
 * differs from the last pass is kept. */
#ifndef HF_AGENT_FROZEN_H
#define HF_AGENT_FROZEN_H

#include "agent/node_map.h"
#include "agent/walk.h"

enum { FROZEN_KEEP_MAX = 256 }; /* pieces, over all volumes: 256 MiB */

/* Read all of v and gather the nodes that are not what map says. kept counts pieces over all calls
 * of one freeze. 0 if everything was read; -ETIME if deadline_ns (monotonic) came first; -ENOBUFS
 * if more differs than may be kept; else as walk_next(). ret_list is added to in every case; its
 * pieces belong to the caller. */
int frozen_read(struct copier *c, struct volume *v, const struct node_map *map, int64_t deadline_ns, size_t *kept,
    struct piece **ret_list);

#endif
