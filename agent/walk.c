/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/walk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- pieces ---- */

static void
piece_free(struct piece *p)
{
	piece_destroy(p->data);
	free(p);
}

void
copier_fini(struct copier *c)
{
	while (c->spare != NULL) {
		struct piece *p = c->spare;

		c->spare = p->next;
		piece_free(p);
	}
	c->spare_count = 0;
}

void
piece_put(struct copier *c, struct piece *p)
{
	if (p == NULL)
		return;
	if (p->data == NULL || c->spare_count == SPARE_MAX) {
		piece_free(p);
		return;
	}
	p->next = c->spare;
	c->spare = p;
	c->spare_count++;
}

static struct piece *
piece_get(struct copier *c)
{
	struct piece *p = c->spare;

	if (p != NULL) {
		c->spare = p->next;
		c->spare_count--;
		return p;
	}
	p = calloc(1, sizeof *p);
	if (p == NULL)
		return NULL;
	p->data = piece_create();
	if (p->data == NULL) {
		free(p);
		return NULL;
	}
	return p;
}

static size_t
blocks_in_node(const struct volume *v, uint64_t node)
{
	uint64_t left = volume_blocks(v) - node * NODE_BLOCKS;

	return left < NODE_BLOCKS ? (size_t)left : NODE_BLOCKS;
}

struct piece *
piece_get_zero(struct copier *c, const struct volume *v, uint64_t node)
{
	struct piece *p = calloc(1, sizeof *p);

	if (p == NULL)
		return NULL;
	p->node = node;
	p->block_count = blocks_in_node(v, node);
	return p;
}

/* The tree over the piece: 256 blocks, 16 nodes of 64 KiB, one of 1 MiB. What lies beyond the
 * volume's end counts as zeros. */
static void
digest_piece(struct piece *p, uint64_t seed)
{
	enum { FAN = 16 };
	uint64_t middle[NODE_BLOCKS / FAN];

	for (size_t i = 0; i < NODE_BLOCKS; i++)
		p->leaves[i] = i < p->block_count ? digest_block(seed, p->data + i * BLOCK_BYTES) : 0;
	for (size_t i = 0; i < NODE_BLOCKS / FAN; i++)
		middle[i] = digest_node(seed, p->leaves + i * FAN, FAN);
	p->digest = digest_node(seed, middle, NODE_BLOCKS / FAN);
}

/* ---- walking ---- */

uint64_t
volume_nodes(const struct volume *v)
{
	return (v->size_bytes + PIECE_BYTES - 1) / PIECE_BYTES;
}

uint64_t
volume_next_data_node(struct volume *v, uint64_t node)
{
	uint64_t offset = reader_file_next_data(&v->file, node * PIECE_BYTES);

	return offset >= v->size_bytes ? volume_nodes(v) : offset / PIECE_BYTES;
}

void
walk_begin(struct walk *w, struct copier *c, struct volume *v, uint64_t first, uint64_t end)
{
	assert(first <= end && end <= volume_nodes(v));
	memset(w, 0, sizeof *w);
	w->copier = c;
	w->volume = v;
	w->cursor = first;
	w->end = end;
}

static int
begin_piece(struct walk *w, struct step *step)
{
	struct piece *p = piece_get(w->copier);

	if (p == NULL)
		return -ENOMEM;
	p->node = w->cursor;
	p->block_count = blocks_in_node(w->volume, p->node);
	p->job = (struct read_job){.file = &w->volume->file,
	    .offset = p->node * PIECE_BYTES,
	    .len = p->block_count * BLOCK_BYTES,
	    .buf = p->data};
	reader_submit(w->copier->reader, &p->job);
	*step = (struct step){.node = p->node, .count = 1, .piece = p};
	return 0;
}

/* Plan the step at the cursor: a hole as long as it is, or one piece whose read begins now. */
static int
plan_step(struct walk *w)
{
	struct step *step = &w->ahead[(w->first + w->count) % WALK_AHEAD];
	uint64_t data = volume_next_data_node(w->volume, w->cursor);
	int r = 0;

	if (data > w->end)
		data = w->end;
	if (data > w->cursor)
		*step = (struct step){.node = w->cursor, .count = data - w->cursor};
	else
		r = begin_piece(w, step);
	if (r < 0)
		return r;
	w->cursor += step->count;
	w->count++;
	return 0;
}

static int
finish_piece(struct walk *w, struct piece *p)
{
	struct copier *c = w->copier;
	int r;

	link_begin_source_wait(c->link);
	r = reader_wait(c->reader, &p->job);
	link_end_source_wait(c->link);
	if (r < 0) {
		if (r != -ECANCELED) {
			c->failed = w->volume;
			c->failed_offset = p->job.offset;
		}
		piece_put(c, p);
		return r;
	}
	c->bytes_read += p->job.len;
	digest_piece(p, c->seed);
	return 1;
}

int
walk_next(struct walk *w, struct step *ret_step)
{
	struct step step;
	int r;

	while (w->count < WALK_AHEAD && w->cursor < w->end) {
		r = plan_step(w);
		if (r < 0)
			return r;
	}
	if (w->count == 0)
		return 0;
	step = w->ahead[w->first];
	w->first = (w->first + 1) % WALK_AHEAD;
	w->count--;
	if (step.piece != NULL) {
		r = finish_piece(w, step.piece);
		if (r < 0)
			return r;
	}
	*ret_step = step;
	return 1;
}

void
walk_end(struct walk *w)
{
	for (; w->count > 0; w->count--) {
		struct piece *p = w->ahead[w->first].piece;

		if (p != NULL)
			(void)reader_wait(w->copier->reader, &p->job); /* nobody wants it any more */
		piece_put(w->copier, p);
		w->first = (w->first + 1) % WALK_AHEAD;
	}
	w->cursor = w->end;
}
