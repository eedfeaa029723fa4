/* SPDX-License-Identifier: Apache-2.0 */
/* Why everything is read again, and not only what the last pass saw changing.
 *
 * The pass before read every block at a moment of its own. That a block did not change between two
 * earlier passes says nothing about whether it changed after it was read: a write may have gone to
 * any place on the disk since, and a copy that has the new block of one place and the old of
 * another is what this is meant to exclude. Without a tracker of writes in the kernel only reading
 * proves that a block is still the same. So the time a freeze takes is the time to read the volumes
 * once; file systems that cannot be read within the timeout are not frozen time and again (pass.c
 * spaces the attempts).
 *
 * What a node held in the pass is remembered as its digest, 8 bytes per MiB that is not zero. A
 * node that differs now is kept as it is; its blocks are compared with the server's after the thaw.
 */
#include "agent/frozen.h"

#include <errno.h>

#include "proto/common/units.h"

/* Takes p, which differs. */
static int
keep(struct copier *c, struct piece *p, size_t *kept, struct piece **list)
{
	if (p == NULL)
		return -ENOMEM;
	if (*kept == FROZEN_KEEP_MAX) {
		piece_put(c, p);
		return -ENOBUFS;
	}
	(*kept)++;
	p->next = *list;
	*list = p;
	return 0;
}

/* Nodes that held something in the pass and are a hole now: they were discarded or punched. */
static int
keep_hole(struct copier *c, struct volume *v, const struct node_map *map, const struct step *step, size_t *kept,
    struct piece **list)
{
	uint64_t end = step->node + step->count;
	int r = 0;

	for (uint64_t n = node_map_next(map, step->node, end); r == 0 && n < end; n = node_map_next(map, n + 1, end))
		r = keep(c, piece_get_zero(c, v, n), kept, list);
	return r;
}

static int
check_step(struct copier *c, struct volume *v, const struct node_map *map, const struct step *step, size_t *kept,
    struct piece **list)
{
	if (step->piece == NULL)
		return keep_hole(c, v, map, step, kept, list);
	if (step->piece->digest != node_map_get(map, step->node))
		return keep(c, step->piece, kept, list);
	piece_put(c, step->piece);
	return 0;
}

int
frozen_read(struct copier *c, struct volume *v, const struct node_map *map, int64_t deadline_ns, size_t *kept,
    struct piece **ret_list)
{
	struct step step;
	struct walk w;
	int r;

	walk_begin(&w, c, v, 0, volume_nodes(v));
	while ((r = walk_next(&w, &step)) > 0) {
		r = check_step(c, v, map, &step, kept, ret_list);
		if (r == 0 && clock_monotonic_ns() > deadline_ns)
			r = -ETIME;
		if (r < 0)
			break;
	}
	walk_end(&w);
	return r;
}
