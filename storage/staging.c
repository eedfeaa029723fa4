/* SPDX-License-Identifier: Apache-2.0 */
/* staging.c: the first fill: payload straight into the staging files, at its natural offset.
 *
 * A group of fill frames is written piece by piece as soon as it is closed. Then a cycle takes all groups, in order,
 * whose pieces are written: their digest pages are written (of several versions of one page only the newest), and when
 * those are complete, the staging and digest files of every volume touched are synced. Only then may the groups'
 * records go into the journal: the frontier they move is the truth of what is in the staging files, and what lies
 * beyond it is swept away by recovery.
 *
 * One cycle is under way at a time, so two versions of a digest page are never in flight together.
 *
 * A full file system is not an error: the write waits for the next tick. After any other failure the group is diverted:
 * its fill records become data records, and its blocks, still in the slab, go into the journal with them and shadow the
 * staging file until a fold writes them there. A failed sync diverts every group on its way, for it may have lost
 * whatever was written before it. The groups after them are staged again, by writes and syncs of their own. */
#include "storage/store_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/plant.h"

static void on_op_done(void *arg, int res);
static void divert(struct store *s, struct group *g);

static bool
is_full(int status)
{
	return status == -ENOSPC || status == -EDQUOT;
}

/* ---- collecting ---- */

static int
add_piece(struct group *g, struct volume *v, const struct record_extent *x, uint64_t payload_offset)
{
	struct piece *p = g->piece_count > 0 ? &g->pieces[g->piece_count - 1] : NULL;

	if (p != NULL && p->volume == v && p->block + p->count == x->block &&
	    p->payload_offset + (uint64_t)p->count * BLOCK_BYTES == payload_offset) {
		p->count += (uint32_t)x->count;
		return 0;
	}
	if (g->piece_count == g->piece_capacity) {
		size_t wanted = g->piece_capacity > 0 ? g->piece_capacity * 2 : 8;

		p = realloc(g->pieces, wanted * sizeof *p);
		if (p == NULL)
			return -ENOMEM;
		g->pieces = p;
		g->piece_capacity = wanted;
	}
	g->pieces[g->piece_count++] = (struct piece){
	    .group = g, .volume = v, .block = x->block, .count = (uint32_t)x->count, .payload_offset = payload_offset};
	return 0;
}

/* Put a page into a list of pages to write; a newer version of the same page takes its place. */
static int
put_page(struct sum_write ***list, size_t *count, size_t *capacity, struct volume *v, const struct sum_page *page)
{
	struct sum_write *w;

	for (size_t i = *count; i-- > 0;)
		if ((*list)[i]->volume == v && (*list)[i]->page.offset == page->offset) {
			(*list)[i]->page = *page;
			return 0;
		}
	if (*count == *capacity) {
		size_t wanted = *capacity > 0 ? *capacity * 2 : 16;
		struct sum_write **p = realloc(*list, wanted * sizeof *p);

		if (p == NULL)
			return -ENOMEM;
		*list = p;
		*capacity = wanted;
	}
	w = aligned_alloc(BLOCK_BYTES, sizeof *w);
	if (w == NULL)
		return -ENOMEM;
	w->volume = v;
	w->page = *page;
	(*list)[(*count)++] = w;
	return 0;
}

static int
add_digests(struct group *g, struct volume *v, const uint64_t *digests, size_t count)
{
	static _Thread_local struct sum_page pages[SUM_CURSOR_PAGES_MAX];
	unsigned n = sum_cursor_append(v->cursor, digests, count, pages);

	for (unsigned i = 0; i < n; i++)
		if (put_page(&g->sums, &g->sum_count, &g->sum_capacity, v, &pages[i]) < 0)
			return -ENOMEM;
	return 0;
}

int
staging_add(struct store *s, struct group *g, const struct record_extent *extents, size_t extent_count,
    const uint64_t *digests, uint64_t payload_offset)
{
	for (size_t i = 0; i < extent_count; i++) {
		const struct record_extent *x = &extents[i];
		struct volume *v = store_find_volume(s, x->volume);

		assert(v != NULL && v->cursor != NULL && v->info.frontier_received_blocks == x->block);
		v->info.frontier_received_blocks += x->count;
		if (x->kind == 4) {
			sum_cursor_skip(v->cursor, x->count);
			continue;
		}
		if (add_piece(g, v, x, payload_offset) < 0 || add_digests(g, v, digests, x->count) < 0)
			return -ENOMEM;
		payload_offset += x->count * BLOCK_BYTES;
		digests += x->count;
	}
	return 0;
}

/* ---- writing the pieces ---- */

static void
on_piece_done(void *arg, int res)
{
	struct piece *p = arg;
	struct group *g = p->group;
	struct store *s = g->store;

	s->pieces_inflight--;
	if (is_full(res) && !g->diverted) {
		p->full = true;
		s->full = true;
		return; /* staging_retry() submits it again */
	}
	g->pieces_left--;
	if (res < 0)
		g->diverted = true;
	if (g->diverted && g->pieces_left == 0) {
		divert(s, g);
		journal_pump(s);
	}
	staging_pump(s);
}

static void
write_piece(struct store *s, struct piece *p)
{
	p->full = !store_take_room(s, (uint64_t)p->count * BLOCK_BYTES);
	if (p->full) {
		s->full = true; /* staging_retry() tries again */
		return;
	}
	s->pieces_inflight++;
	p->op.cb = on_piece_done;
	p->op.arg = p;
	s->stats.written_bytes += (uint64_t)p->count * BLOCK_BYTES;
	disk_write(s->disk, &p->op, p->volume->img->file, p->group->slab->payload + p->payload_offset,
	    (size_t)p->count * BLOCK_BYTES, p->block * BLOCK_BYTES);
}

static void
count_entry(void *arg, const struct entry *e)
{
	struct group *g = arg;

	g->entry_count++;
}

/* Nothing of it is in flight: from here on it is a group like any other. */
static void
divert(struct store *s, struct group *g)
{
	unsigned char *descriptor = g->slab->payload - g->header.descriptor_bytes;
	struct record_walk w;
	struct record r;
	int e;

	record_walk_begin(&w, &g->header, descriptor);
	w.payload_bytes = g->header.payload_bytes = PLANTED(60) ? 0 : g->payload_used;
	while ((e = record_walk_next(&w, &r)) > 0) {
		if (r.header.type != RECORD_FILL || PLANTED(60))
			continue;
		record_fill_to_data((unsigned char *)(uintptr_t)r.body - RECORD_HEADER_BYTES);
		record_entries(&r, 0, 0, count_entry, g);
	}
	assert(e == 0); /* we encoded it after checking it */
	g->state = GROUP_STAGED;
	s->stats.diverted_groups++;
}

/* Pieces that wait for room need not be written any more. */
static void
drop_full_pieces(struct group *g)
{
	for (size_t i = 0; i < g->piece_count; i++)
		if (g->pieces[i].full) {
			g->pieces[i].full = false;
			g->pieces_left--;
		}
}

/* A sync failed, or a write that it was to cover: every group that is on its way. */
static void
divert_staging(struct store *s)
{
	for (struct group *g = s->groups; g != NULL; g = g->next) {
		if (g->state != GROUP_STAGING || g->diverted)
			continue;
		g->diverted = true;
		drop_full_pieces(g);
		if (g->pieces_left == 0)
			divert(s, g);
	}
	journal_pump(s);
}

void
staging_begin(struct store *s, struct group *g)
{
	g->pieces_left = g->piece_count;
	for (size_t i = 0; i < g->piece_count; i++)
		write_piece(s, &g->pieces[i]);
}

void
staging_retry(struct store *s)
{
	for (struct group *g = s->groups; g != NULL; g = g->next)
		for (size_t i = 0; i < g->piece_count; i++)
			if (g->pieces[i].full)
				write_piece(s, &g->pieces[i]);
	staging_pump(s);
}

/* ---- the cycle ---- */

static void
clear_sums(struct staging *t)
{
	for (size_t i = 0; i < t->sum_count; i++)
		free(t->sums[i]);
	t->sum_count = 0;
}

/* Move the group's pages into the cycle's list. */
static int
take_sums(struct staging *t, const struct group *g)
{
	for (size_t i = 0; i < g->sum_count; i++)
		if (put_page(&t->sums, &t->sum_count, &t->sum_capacity, g->sums[i]->volume, &g->sums[i]->page) < 0)
			return -ENOMEM;
	return 0;
}

static int
reserve_ops(struct staging *t, size_t n)
{
	struct disk_op *ops;

	if (n <= t->op_capacity)
		return 0;
	ops = calloc(n, sizeof *ops);
	if (ops == NULL)
		return -ENOMEM;
	free(t->ops);
	t->ops = ops;
	t->op_capacity = n;
	return 0;
}

static struct disk_op *
next_op(struct staging *t)
{
	struct disk_op *op = &t->ops[t->ops_left++];

	op->cb = on_op_done;
	op->arg = t;
	return op;
}

static bool
volume_in_cycle(const struct staging *t, const struct volume *v)
{
	for (size_t i = 0; i < t->sum_count; i++)
		if (t->sums[i]->volume == v)
			return true;
	return false;
}

/* Every group of the cycle may go into the journal. */
static void
finish_cycle(struct staging *t)
{
	struct store *s = t->store;

	t->active = false;
	clear_sums(t);
	for (struct group *g = s->groups; g != NULL; g = g->next) {
		if (g->state == GROUP_STAGING)
			g->state = GROUP_STAGED;
		if (PLANTED(18) && g->fill)
			s->events->durable(s->arg, g->sequence);
		if (g == t->last)
			break;
	}
	journal_group_staged(s);
	staging_pump(s);
}

static void
begin_syncs(struct staging *t)
{
	struct store *s = t->store;
	struct disk_op *ops[2 * STORE_VOLUMES_MAX];
	struct disk_file *files[2 * STORE_VOLUMES_MAX];
	unsigned n = 0;

	t->syncing = true;
	for (uint32_t i = 0; i < s->volume_count; i++) {
		struct volume *v = s->volumes[i];

		if (!volume_in_cycle(t, v))
			continue;
		files[n++] = PLANTED(3) ? v->sum->file : v->img->file;
		files[n++] = PLANTED(4) ? v->img->file : v->sum->file;
	}
	for (unsigned i = 0; i < n; i++)
		ops[i] = next_op(t);
	for (unsigned i = 0; i < n; i++)
		disk_sync(s->disk, ops[i], files[i]);
}

static void
on_op_done(void *arg, int res)
{
	struct staging *t = arg;
	struct store *s = t->store;

	if (res < 0 && t->status == 0)
		t->status = res;
	if (--t->ops_left > 0)
		return;
	if (!t->syncing && is_full(t->status)) {
		s->full = true;
		t->active = false; /* the next tick begins the cycle again */
		clear_sums(t);
		return;
	}
	if (t->status < 0) {
		t->active = false;
		clear_sums(t);
		divert_staging(s);
		staging_pump(s);
		return;
	}
	if (!t->syncing && !PLANTED(17))
		begin_syncs(t);
	else
		finish_cycle(t);
}

static void
begin_cycle(struct staging *t)
{
	struct store *s = t->store;

	t->active = true;
	t->syncing = false;
	t->status = 0;
	t->ops_left = 0;
	if (reserve_ops(t, t->sum_count + 2 * (size_t)s->volume_count) < 0) {
		t->active = false;
		store_fail(s, -ENOMEM, "no memory to write digests");
		return;
	}
	for (size_t i = 0; i < t->sum_count; i++)
		(void)next_op(t);
	for (size_t i = 0; i < t->sum_count; i++) {
		s->stats.written_bytes += BLOCK_BYTES;
		disk_write(s->disk, &t->ops[i], t->sums[i]->volume->sum->file, t->sums[i]->page.bytes, BLOCK_BYTES,
		    t->sums[i]->page.offset);
	}
}

void
staging_pump(struct store *s)
{
	struct staging *t = s->staging;
	bool any = false;

	if (s->failed != 0 || (t != NULL && t->active))
		return;
	if (t == NULL) {
		t = s->staging = calloc(1, sizeof *t);
		if (t == NULL) {
			store_fail(s, -ENOMEM, "no memory to stage");
			return;
		}
		t->store = s;
	}
	for (struct group *g = s->groups; g != NULL; g = g->next) {
		if (g->state != GROUP_STAGING)
			continue;
		if (g->pieces_left > 0 || g->diverted)
			break;
		if (take_sums(t, g) < 0) {
			store_fail(s, -ENOMEM, "no memory to write digests");
			return;
		}
		t->last = g;
		any = true;
	}
	if (any)
		begin_cycle(t);
}

bool
staging_is_idle(const struct store *s)
{
	return s->pieces_inflight == 0 && (s->staging == NULL || s->staging->ops_left == 0);
}

void
staging_free(struct store *s)
{
	if (s->staging == NULL)
		return;
	clear_sums(s->staging);
	free(s->staging->sums);
	free(s->staging->ops);
	free(s->staging);
	s->staging = NULL;
}
