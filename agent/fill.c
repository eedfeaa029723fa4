/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fill.h"

/* Length of the run of blocks from at on that are all zero, or all not. */
static size_t
run_length(const struct piece *p, size_t at)
{
	size_t end = at + 1;

	while (end < p->block_count && (p->leaves[end] == 0) == (p->leaves[at] == 0))
		end++;
	return end - at;
}

static int
fill_piece(struct copier *c, struct volume *v, const struct piece *p, size_t from)
{
	for (size_t at = from, n; at < p->block_count; at += n) {
		enum extent_kind kind = p->leaves[at] == 0 ? EXTENT_FILL_ZERO : EXTENT_FILL;
		int r;

		n = run_length(p, at);
		r = sender_add(c->sender, v->number, kind, p->node * NODE_BLOCKS + at, n, p->data + at * BLOCK_BYTES,
		    p->leaves + at);
		if (r < 0)
			return r;
	}
	return 0;
}

static int
fill_hole(struct copier *c, struct volume *v, uint64_t block, uint64_t end)
{
	if (end > volume_blocks(v))
		end = volume_blocks(v);
	return sender_add(c->sender, v->number, EXTENT_FILL_ZERO, block, end - block, NULL, NULL);
}

/* Send what a step holds beyond the frontier, which may lie within its first node (a volume that
 * has grown). */
static int
fill_step(struct copier *c, struct volume *v, const struct step *step, uint64_t *frontier)
{
	uint64_t first = step->node * NODE_BLOCKS, end = (step->node + step->count) * NODE_BLOCKS;
	int r = step->piece != NULL ? fill_piece(c, v, step->piece, (size_t)(*frontier - first))
				    : fill_hole(c, v, *frontier, end);

	piece_put(c, step->piece);
	*frontier = end;
	return r;
}

static int
fill_steps(struct copier *c, struct volume *v, struct walk *w)
{
	uint64_t frontier = v->frontier_blocks;
	struct step step;
	int r;

	while ((r = walk_next(w, &step)) > 0) {
		r = fill_step(c, v, &step, &frontier);
		if (r < 0)
			return r;
		if (c->on_progress != NULL)
			c->on_progress(c->arg, v, frontier * BLOCK_BYTES);
	}
	return r;
}

int
fill_volume(struct copier *c, struct volume *v)
{
	struct walk w;
	int r;

	walk_begin(&w, c, v, v->frontier_blocks / NODE_BLOCKS, volume_nodes(v));
	r = fill_steps(c, v, &w);
	walk_end(&w);
	if (r == 0)
		r = sender_flush(c->sender);
	if (r == 0)
		r = link_flush(c->link);
	if (r == 0)
		v->frontier_blocks = volume_blocks(v);
	return r;
}
