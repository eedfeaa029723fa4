/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/points.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct points *
points_create(const struct id *source)
{
	struct points *p = calloc(1, sizeof *p);

	if (p == NULL)
		return NULL;
	atomic_init(&p->refs, 1);
	p->source = *source;
	p->begin_ns = INT64_MIN;
	return p;
}

struct points *
points_ref(struct points *p)
{
	if (p != NULL)
		atomic_fetch_add(&p->refs, 1);
	return p;
}

void
points_unref(struct points *p)
{
	if (p == NULL || atomic_fetch_sub(&p->refs, 1) > 1)
		return;
	shared_unref(p->rows_shared);
	shared_unref(p->account_shared);
	marks_fini(&p->marks);
	free(p);
}

void
points_fill_account(const struct account *a, uint64_t window_lsn, struct pit *row)
{
	const struct account_point *p = a->count > 0 ? account_find(a, row->lsn) : NULL;
	bool in_window = window_lsn != 0 && row->lsn >= window_lsn;

	row->accounted = p != NULL || in_window;
	row->unique_bytes = p != NULL && !in_window ? p->unique_bytes : 0;
	row->freed_bytes = p != NULL && !in_window ? p->freed_bytes : 0;
}

/* ---- one after the other ---- */

/* Going back: so many rows, and so many marks, are older than what was told last. */
struct cursor {
	const struct points *points;
	size_t rows, marks;
};

static size_t
count_rows_before(const struct points *p, uint64_t lsn)
{
	size_t low = 0, high = p->row_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (p->rows[middle].lsn < lsn)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct cursor
cursor_before(const struct points *p, uint64_t lsn)
{
	struct cursor c = {.points = p, .rows = count_rows_before(p, lsn)};

	marks_find(&p->marks, lsn, &c.marks);
	return c;
}

static void
pit_from_mark(const struct points *points, size_t i, struct pit *ret_pit)
{
	struct pit p = {0};

	marks_get(&points->marks, i, &p.checkpoint);
	p.id = checkpoint_pit_id(&points->source, p.checkpoint.lsn, p.checkpoint.stream_id);
	p.lsn = p.checkpoint.lsn;
	p.time_ns = p.planned_ns = checkpoint_time_ns(&p.checkpoint);
	p.running_ns = p.checkpoint.running_ns;
	p.complete = p.checkpoint.complete;
	p.consistency = p.checkpoint.consistency;
	*ret_pit = p;
}

static bool
is_point(const struct points *p, const struct mark *m)
{
	return m->lsn >= p->fold_lsn && m->running_ns >= p->begin_ns;
}

/* A checkpoint that has a row is that one point. */
static void
take_row(struct cursor *c, const struct mark *beside, struct pit *ret_pit)
{
	const struct points *p = c->points;

	*ret_pit = p->rows[--c->rows];
	points_fill_account(&p->account, p->window_lsn, ret_pit);
	c->marks -= beside != NULL && beside->lsn == ret_pit->lsn;
}

/* The next older one. False: that was the oldest. */
static bool
step_back(struct cursor *c, struct pit *ret_pit)
{
	const struct points *p = c->points;

	for (;;) {
		const struct mark *m = c->marks > 0 ? marks_at(&p->marks, c->marks - 1) : NULL;

		if (c->rows > 0 && (m == NULL || p->rows[c->rows - 1].lsn >= m->lsn)) {
			take_row(c, m, ret_pit);
			return true;
		}
		if (m == NULL)
			return false;
		c->marks--;
		if (is_point(p, m)) {
			pit_from_mark(p, c->marks, ret_pit);
			return true;
		}
	}
}

int
points_list(
    const struct points *p, uint64_t before_lsn, size_t max, struct pit **ret_pits, size_t *ret_count, bool *ret_more)
{
	struct cursor c = cursor_before(p, before_lsn);
	size_t most = c.rows + c.marks < max ? c.rows + c.marks : max, free_slots = most;
	struct pit *list = malloc((most + 1) * sizeof *list), older;

	if (list == NULL)
		return -ENOMEM;
	while (free_slots > 0 && step_back(&c, &list[free_slots - 1]))
		free_slots--;
	if (free_slots > 0)
		memmove(list, &list[free_slots], (most - free_slots) * sizeof *list);
	*ret_pits = list;
	*ret_count = most - free_slots;
	*ret_more = free_slots == 0 && step_back(&c, &older);
	return 0;
}

bool
points_find(const struct points *p, uint64_t lsn, struct pit *ret_pit)
{
	struct cursor c = cursor_before(p, lsn + 1);
	struct pit found;

	if (!step_back(&c, &found) || found.lsn != lsn)
		return false;
	*ret_pit = found;
	return true;
}

bool
points_find_id(const struct points *p, const struct id *pit, struct pit *ret_pit)
{
	struct cursor c = cursor_before(p, UINT64_MAX);
	struct pit found;

	while (step_back(&c, &found))
		if (strcmp(found.id.text, pit->text) == 0) {
			*ret_pit = found;
			return true;
		}
	return false;
}
