/* SPDX-License-Identifier: Apache-2.0 */
/* How a volume is compared without waiting for every answer.
 *
 * The volume is cut into regions: up to 4,096 nodes of 1 MiB that hold data, or a hole of whole chunks of 256 MiB. The
 * digests of two regions are asked ahead. For a region of data the disk is read, a few pieces ahead, and each node's
 * digest compared with the server's; for one that differs the digests of its blocks are asked, the piece is kept, and
 * when the answer comes, the blocks that differ are sent as they were read. For a hole the server is asked at the level
 * of chunks; all zero is the end of it, so a 16 TiB disk with nothing on it costs eight questions.
 *
 *	ask region --> answer --> read node, compare --same--> next
 *	                               +--differs--> ask its blocks, keep piece --> answer --> send what differs
 *
 * The link answers in the order asked and keeps at most 16 questions, so there is one queue of questions here, and
 * "wait for this region" means settling everything asked before it. Sends only ever concern nodes whose region was
 * answered before, so no answer can be older than what was sent for it. On any error reads and questions under way are
 * waited for and forgotten; what was already sent stays right, for the next pass compares again. */
#include "agent/sweep.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"

enum {
	QUESTIONS_MAX = 16, /* the link's limit */
	REGION_NODES_MAX = 4096,
	REGION_CHUNKS_MAX = COMPARE_COUNT_MAX,
	REGIONS_AHEAD = 2,
};

struct region {
	uint64_t first, count; /* nodes; of a hole: whole chunks, but for the volume's last */
	bool is_hole, is_answered;
	uint64_t digests[COMPARE_COUNT_MAX]; /* the server's: of nodes, or of a hole's chunks */
};

struct question {
	struct region *region; /* one of the two */
	struct piece *piece;
	size_t count;
};

struct sweep {
	struct copier *copier;
	struct volume *volume;
	struct node_map *map;

	uint64_t cursor, end; /* nodes for which no region was asked yet */
	struct region regions[REGIONS_AHEAD];
	size_t region_first, region_count;
	struct region narrow; /* the part of a hole that is not zero on the server */

	struct question questions[QUESTIONS_MAX];
	size_t question_first, question_count;
	uint64_t leaves[NODE_BLOCKS];
};

/* ---- sending ---- */

static void
note_differing(struct sweep *s, uint64_t blocks)
{
	struct volume *v = s->volume;

	s->copier->bytes_differing += blocks * BLOCK_BYTES;
	v->pass_bytes_differing += blocks * BLOCK_BYTES;
	link_set_backlog(s->copier->link, v->number, v->pass_bytes_differing);
}

static int
send_zeros(struct sweep *s, uint64_t block, uint64_t count)
{
	note_differing(s, count);
	return sender_add(s->copier->sender, s->volume->number, EXTENT_ZERO, block, count, NULL, NULL);
}

static int
send_blocks(struct sweep *s, const struct piece *p, size_t at, size_t count)
{
	uint64_t block = p->node * NODE_BLOCKS + at;

	if (p->leaves[at] == 0)
		return send_zeros(s, block, count);
	note_differing(s, count);
	return sender_add(s->copier->sender, s->volume->number, EXTENT_DATA, block, count, p->data + at * BLOCK_BYTES,
	    p->leaves + at);
}

/* Send the blocks of p that are not what the server has. */
static int
send_differences(struct sweep *s, const struct piece *p, const uint64_t *server)
{
	for (size_t at = 0, n; at < p->block_count; at += n) {
		int r;

		n = 1;
		if (p->leaves[at] == server[at])
			continue;
		while (at + n < p->block_count && p->leaves[at + n] != server[at + n] &&
		       (p->leaves[at + n] == 0) == (p->leaves[at] == 0))
			n++;
		r = send_blocks(s, p, at, n);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- questions ---- */

static struct question
pop_question(struct sweep *s)
{
	struct question q = s->questions[s->question_first];

	assert(s->question_count > 0);
	s->question_first = (s->question_first + 1) % QUESTIONS_MAX;
	s->question_count--;
	return q;
}

/* Wait for the oldest answer and act on it. */
static int
settle_oldest(struct sweep *s)
{
	struct question q = pop_question(s);
	int r = link_compare_end(s->copier->link, q.region != NULL ? q.region->digests : s->leaves, q.count);

	if (q.region != NULL) {
		q.region->is_answered = r == 0;
		return r;
	}
	if (r == 0)
		r = send_differences(s, q.piece, s->leaves);
	piece_put(s->copier, q.piece);
	return r;
}

static int
settle_all(struct sweep *s)
{
	int r = 0;

	while (r == 0 && s->question_count > 0)
		r = settle_oldest(s);
	return r;
}

/* After an error. What the link still owes us it must hand over, or the next sweep would take it
 * for its own; unless the stream is gone: then link_restart() drops the questions. */
static void
abandon_questions(struct sweep *s, int error)
{
	bool owed = error != -HF_ESTREAM && error != -ECANCELED;

	while (s->question_count > 0) {
		struct question q = pop_question(s);
		int r = owed ? link_compare_end(s->copier->link, s->narrow.digests, q.count) : 0;

		if (r == -HF_ESTREAM || r == -ECANCELED)
			owed = false;
		piece_put(s->copier, q.piece);
	}
}

static int
ask(struct sweep *s, struct question q, int level, uint64_t first)
{
	struct message_compare m = {
	    .volume = s->volume->number, .level = (uint32_t)level, .first = first, .count = (uint32_t)q.count};
	int r = 0;

	if (s->question_count == QUESTIONS_MAX)
		r = settle_oldest(s);
	if (r == 0)
		r = link_compare_begin(s->copier->link, &m);
	if (r < 0) {
		piece_put(s->copier, q.piece);
		return r;
	}
	s->questions[(s->question_first + s->question_count++) % QUESTIONS_MAX] = q;
	return 0;
}

/* Takes p. */
static int
ask_leaves(struct sweep *s, struct piece *p)
{
	struct question q = {.piece = p, .count = p->block_count};

	return ask(s, q, 0, p->node * NODE_BLOCKS);
}

static int
ask_region(struct sweep *s, struct region *g)
{
	struct question q = {.region = g, .count = (size_t)g->count};

	g->is_answered = false;
	if (!g->is_hole)
		return ask(s, q, NODE_LEVEL, g->first);
	q.count = (size_t)((g->count + CHUNK_NODES - 1) / CHUNK_NODES);
	return ask(s, q, CHUNK_LEVEL, g->first / CHUNK_NODES);
}

static int
settle_region(struct sweep *s, const struct region *g)
{
	int r = 0;

	while (r == 0 && !g->is_answered)
		r = settle_oldest(s);
	return r;
}

/* ---- regions ---- */

static uint64_t
chunk_end(uint64_t node)
{
	return (node / CHUNK_NODES + 1) * CHUNK_NODES;
}

/* The hole that begins at the cursor, in whole chunks; 0 if there is none worth a question of its
 * own. */
static uint64_t
hole_nodes(struct sweep *s)
{
	uint64_t data = volume_next_data_node(s->volume, s->cursor);
	uint64_t most = s->cursor + (uint64_t)REGION_CHUNKS_MAX * CHUNK_NODES;

	if (s->cursor % CHUNK_NODES != 0)
		return 0;
	if (data < volume_nodes(s->volume) || s->end < volume_nodes(s->volume))
		data = (data < s->end ? data : s->end) / CHUNK_NODES * CHUNK_NODES;
	if (data > most)
		data = most;
	return data - s->cursor;
}

/* Nodes from the cursor on, up to the first chunk that is a hole. */
static uint64_t
data_nodes(struct sweep *s)
{
	uint64_t end = chunk_end(s->cursor);

	while (end < s->end && end - s->cursor + CHUNK_NODES <= REGION_NODES_MAX &&
	       volume_next_data_node(s->volume, end) < chunk_end(end))
		end += CHUNK_NODES;
	return (end < s->end ? end : s->end) - s->cursor;
}

static int
ask_ahead(struct sweep *s)
{
	while (s->region_count < REGIONS_AHEAD && s->cursor < s->end) {
		struct region *g = &s->regions[(s->region_first + s->region_count) % REGIONS_AHEAD];
		int r;

		g->first = s->cursor;
		g->count = hole_nodes(s);
		g->is_hole = g->count > 0;
		if (!g->is_hole)
			g->count = data_nodes(s);
		r = ask_region(s, g);
		if (r < 0)
			return r;
		s->cursor += g->count;
		s->region_count++;
	}
	return 0;
}

static void
tell_progress(struct sweep *s, uint64_t node)
{
	uint64_t done = node * PIECE_BYTES;

	if (s->copier->on_progress != NULL)
		s->copier->on_progress(
		    s->copier->arg, s->volume, done < s->volume->size_bytes ? done : s->volume->size_bytes);
}

/* ---- comparing ---- */

static int
note_node(struct sweep *s, uint64_t node, uint64_t digest)
{
	return s->map != NULL ? node_map_set(s->map, node, digest) : 0;
}

/* Holes need no reading to be known as zeros: what is not zero on the server becomes so, as long
 * runs. */
static int
compare_hole(struct sweep *s, const struct region *g, const struct step *step)
{
	uint64_t blocks = volume_blocks(s->volume);

	for (uint64_t node = step->node; node < step->node + step->count; node++) {
		uint64_t block = node * NODE_BLOCKS;
		uint64_t count = blocks - block < NODE_BLOCKS ? blocks - block : NODE_BLOCKS;
		int r = note_node(s, node, 0);

		if (r == 0 && g->digests[node - g->first] != 0)
			r = send_zeros(s, block, count);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Takes p. */
static int
compare_piece(struct sweep *s, const struct region *g, struct piece *p)
{
	int r = note_node(s, p->node, p->digest);

	if (r == 0 && p->digest != g->digests[p->node - g->first])
		return ask_leaves(s, p);
	piece_put(s->copier, p);
	return r;
}

static int
compare_steps(struct sweep *s, const struct region *g, struct walk *w)
{
	struct step step;
	int r;

	while ((r = walk_next(w, &step)) > 0) {
		r = step.piece != NULL ? compare_piece(s, g, step.piece) : compare_hole(s, g, &step);
		if (r < 0)
			return r;
		tell_progress(s, step.node + step.count);
	}
	return r;
}

static int
compare_data(struct sweep *s, const struct region *g)
{
	struct walk w;
	int r;

	walk_begin(&w, s->copier, s->volume, g->first, g->first + g->count);
	r = compare_steps(s, g, &w);
	walk_end(&w);
	return r;
}

/* One chunk that is a hole here and not zero there. (If it has been written since, the walk reads
 * it: just as well.) */
static int
narrow_chunk(struct sweep *s, uint64_t first, uint64_t end)
{
	struct region *g = &s->narrow;
	int r;

	g->first = first;
	g->count = (end < chunk_end(first) ? end : chunk_end(first)) - first;
	g->is_hole = false;
	r = ask_region(s, g);
	if (r == 0)
		r = settle_region(s, g);
	return r < 0 ? r : compare_data(s, g);
}

static int
compare_chunks(struct sweep *s, const struct region *g)
{
	uint64_t end = g->first + g->count;

	for (uint64_t first = g->first; first < end; first += CHUNK_NODES) {
		int r = g->digests[(first - g->first) / CHUNK_NODES] != 0 ? narrow_chunk(s, first, end) : 0;

		if (r < 0)
			return r;
	}
	tell_progress(s, end);
	return 0;
}

static int
compare_next_region(struct sweep *s)
{
	struct region *g = &s->regions[s->region_first];
	int r = settle_region(s, g);

	if (r == 0)
		r = g->is_hole ? compare_chunks(s, g) : compare_data(s, g);
	s->region_first = (s->region_first + 1) % REGIONS_AHEAD;
	s->region_count--;
	return r;
}

static int
sweep_range(struct sweep *s, uint64_t first, uint64_t end)
{
	int r;

	s->cursor = first;
	s->end = end;
	r = ask_ahead(s);
	while (r == 0 && s->region_count > 0) {
		r = compare_next_region(s);
		if (r == 0)
			r = ask_ahead(s);
	}
	return r;
}

/* ---- what is offered ---- */

static struct sweep *
sweep_begin(struct copier *c, struct volume *v, struct node_map *map)
{
	struct sweep *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->copier = c;
	s->volume = v;
	s->map = map;
	return s;
}

/* Takes s. Returns r, or what went wrong at the end. */
static int
sweep_finish(struct sweep *s, int r)
{
	if (r == 0)
		r = settle_all(s);
	if (r < 0)
		abandon_questions(s, r);
	free(s);
	return r;
}

int
sweep_volume(struct copier *c, struct volume *v, struct node_map *map)
{
	struct sweep *s = sweep_begin(c, v, map);

	if (s == NULL)
		return -ENOMEM;
	return sweep_finish(s, sweep_range(s, 0, volume_nodes(v)));
}

static int
compare_numbers(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

int
sweep_nodes(struct copier *c, struct volume *v, uint64_t *nodes, size_t count)
{
	struct sweep *s = sweep_begin(c, v, NULL);
	int r = 0;

	if (s == NULL)
		return -ENOMEM;
	qsort(nodes, count, sizeof *nodes, compare_numbers);
	while (count > 0 && nodes[count - 1] >= volume_nodes(v))
		count--; /* from before the server knew the volume's size, or made up */
	for (size_t at = 0, n; r == 0 && at < count; at += n) {
		for (n = 1; at + n < count && nodes[at + n] <= nodes[at + n - 1] + 1;)
			n++;
		r = sweep_range(s, nodes[at], nodes[at + n - 1] + 1);
	}
	return sweep_finish(s, r);
}

int
sweep_pieces(struct copier *c, struct volume *v, struct piece *list)
{
	struct sweep *s = sweep_begin(c, v, NULL);
	int r = s == NULL ? -ENOMEM : 0;

	while (list != NULL) {
		struct piece *p = list;

		list = p->next;
		if (r == 0)
			r = ask_leaves(s, p);
		else
			piece_put(c, p);
	}
	return s == NULL ? r : sweep_finish(s, r);
}
