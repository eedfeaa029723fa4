/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of all runs come in one order (volume, block, LSN), wide ones among them, for they hide others. The versions
 * of one block follow one another; what else may hide them are ranges of zeros that begin before: those that reach as
 * far as the current block are remembered, as many as there is room for. One that is forgotten hides nothing, and what
 * it would have hidden stays: that costs a few bytes and never a version. */
#include "storage/merge.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "storage/plant.h"

/* ---- which ---- */

/* Number of the first point that is not before the LSN. */
static size_t
point_from(const uint64_t *points, size_t count, uint64_t lsn)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (points[middle] < lsn)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Number of the point behind a run. A run in which a point lies, be it its last record, goes with what is behind that
 * point: a fold to it must release what is before, and keeps its record. */
static size_t
next_point(const uint64_t *points, size_t count, const struct merge_run *r)
{
	return point_from(points, count, r->lsn_last + 1);
}

static uint64_t
sum_entries(const struct merge_run *runs, size_t from, size_t to)
{
	uint64_t sum = 0;

	for (size_t i = from; i < to; i++)
		sum += runs[i].entries;
	return sum;
}

/* Of runs [from, to), which lie between the same two points. */
static size_t
pick_group(const struct merge_run *runs, size_t from, size_t to, bool closed, size_t *ret_first)
{
	for (; to - from >= 2; from++)
		if (closed || sum_entries(runs, from + 1, to) >= runs[from].entries) {
			*ret_first = from;
			return to - from < MERGE_RUNS_MAX ? to - from : MERGE_RUNS_MAX;
		}
	return 0;
}

static bool
is_worth_rewriting(const struct merge_run *r, const uint64_t *points, size_t point_count)
{
	size_t inside =
	    point_from(points, point_count, r->lsn_last + 1) - point_from(points, point_count, r->lsn_first);

	return r->checkpoints > 0 && inside <= r->checkpoints / 2;
}

size_t
merge_pick(const struct merge_run *runs, size_t count, const uint64_t *points, size_t point_count, size_t *ret_first)
{
	size_t to;

	for (size_t from = 0; from < count; from = to) {
		size_t point = next_point(points, point_count, &runs[from]), n;

		assert(point < point_count);
		for (to = from + 1; to < count; to++)
			if (next_point(points, point_count, &runs[to]) != point)
				break;
		n = pick_group(runs, from, to, point + 1 < point_count, ret_first);
		if (n > 0)
			return n;
	}
	for (size_t i = 0; i < count; i++)
		if (is_worth_rewriting(&runs[i], points, point_count)) {
			*ret_first = i;
			return 1;
		}
	return 0;
}

/* ---- all entries in one order ---- */

struct input {
	struct run_cursor *cursor;
	struct entry entry; /* not taken yet */
};

enum {
	RANGES_MAX = 256,
	BUFFER_PAGES = 1024, /* of all inputs together, but each has one */
};

struct scan {
	struct input *inputs; /* a heap: none before its parent, (i - 1) / 2 */
	size_t input_count;
	size_t pages; /* each one's buffer */
	const uint64_t *points;
	size_t point_count;
	struct entry ranges[RANGES_MAX]; /* of zeros, that reach beyond the current block */
	size_t range_count;
	struct entry held; /* seen or not? The next entry tells */
	bool holding, wide;
	merge_each *each;
	void *arg;
};

static bool
is_before(const struct input *a, const struct input *b)
{
	return entry_compare(&a->entry, &b->entry) < 0;
}

/* Input i has its place in the heap above those below it. */
static void
sift_down(struct scan *s, size_t i)
{
	struct input *in = s->inputs, moved = in[i];

	for (size_t child; (child = 2 * i + 1) < s->input_count; i = child) {
		if (child + 1 < s->input_count && is_before(&in[child + 1], &in[child]))
			child++;
		if (!is_before(&in[child], &moved))
			break;
		in[i] = in[child];
	}
	in[i] = moved;
}

/* The first input's next entry; after its last one it goes. */
static int
advance(struct scan *s)
{
	struct input *in = &s->inputs[0];
	int r = run_cursor_next(in->cursor, &in->entry);

	if (r == 0) {
		run_cursor_close(in->cursor);
		*in = s->inputs[--s->input_count];
	}
	if (r >= 0 && s->input_count > 0)
		sift_down(s, 0);
	return r < 0 ? r : 0;
}

/* Not in its place yet; one without an entry is none. */
static int
open_input(struct scan *s, struct run *r, struct disk *d, bool wide)
{
	struct input *in = &s->inputs[s->input_count];
	int ret = run_cursor_open(r, d, wide, s->pages, &in->cursor);

	if (ret < 0)
		return ret;
	ret = run_cursor_next(in->cursor, &in->entry);
	if (ret > 0)
		s->input_count++;
	else
		run_cursor_close(in->cursor);
	return ret < 0 ? ret : 0;
}

static int
open_inputs(struct scan *s, struct run *const *runs, size_t run_count, struct disk *d)
{
	int r = 0;

	s->inputs = calloc(2 * run_count + 1, sizeof *s->inputs);
	if (s->inputs == NULL)
		return -ENOMEM;
	s->pages = BUFFER_PAGES / (2 * run_count + 1);
	s->pages = s->pages < 1 ? 1 : s->pages > RUN_CURSOR_PAGES ? RUN_CURSOR_PAGES : s->pages;
	for (size_t i = 0; r == 0 && i < run_count; i++) {
		if (!s->wide) /* what is narrow hides nothing that is wide */
			r = open_input(s, runs[i], d, false);
		if (r == 0)
			r = open_input(s, runs[i], d, true);
	}
	for (size_t i = s->input_count / 2; i-- > 0;)
		sift_down(s, i);
	return r;
}

/* 1: *ret_entry is the next of all; 0: no more; negative. */
static int
next_entry(struct scan *s, struct entry *ret_entry)
{
	int r;

	if (s->input_count == 0)
		return 0;
	*ret_entry = s->inputs[0].entry;
	r = advance(s);
	return r < 0 ? r : 1;
}

/* ---- what is seen ---- */

/* Does any point lie between a version and the one that hides it? */
static bool
has_point_between(const struct scan *s, uint64_t lsn, uint64_t newer_lsn)
{
	size_t i = point_from(s->points, s->point_count, lsn) + (PLANTED(43) ? 1 : 0);

	return i < s->point_count && s->points[i] < newer_lsn;
}

static bool
covers(const struct entry *newer, const struct entry *e)
{
	return newer->lsn > e->lsn && newer->volume == e->volume && newer->block <= e->block &&
	       newer->block + newer->count >= e->block + e->count;
}

/* The LSN of the next newer version of all of it; next is the entry behind it, or NULL. */
static uint64_t
newer_lsn(const struct scan *s, const struct entry *e, const struct entry *next)
{
	uint64_t lsn = next != NULL && covers(next, e) ? next->lsn : UINT64_MAX;

	for (size_t i = 0; i < s->range_count; i++)
		if (covers(&s->ranges[i], e) && s->ranges[i].lsn < lsn)
			lsn = s->ranges[i].lsn;
	return lsn;
}

/* What ends before the current block hides nothing any more. */
static void
note_range(struct scan *s, const struct entry *e)
{
	if (e->count > 1 && s->range_count < RANGES_MAX)
		s->ranges[s->range_count++] = *e;
}

static void
forget_ranges(struct scan *s, const struct entry *now)
{
	size_t n = 0;

	for (size_t i = 0; i < s->range_count; i++) {
		const struct entry *z = &s->ranges[i];

		if (z->volume == now->volume && z->block + z->count > now->block)
			s->ranges[n++] = *z;
	}
	s->range_count = n;
}

/* The held entry is decided; next is the one behind it, or NULL. */
static int
decide(struct scan *s, const struct entry *next)
{
	struct entry e = s->held;
	uint64_t newer = newer_lsn(s, &e, next);

	s->holding = false;
	note_range(s, &e);
	if ((newer != UINT64_MAX && !has_point_between(s, e.lsn, newer)) || (e.count > ENTRY_WIDE_BLOCKS) != s->wide)
		return 0;
	return s->each(s->arg, &e, newer);
}

static int
scan_entries(struct scan *s)
{
	struct entry e;
	int r, d;

	while ((r = next_entry(s, &e)) > 0) {
		d = s->holding ? decide(s, &e) : 0;
		if (d != 0)
			return d;
		forget_ranges(s, &e);
		s->held = e;
		s->holding = true;
	}
	return r == 0 && s->holding ? decide(s, NULL) : r;
}

int
merge_scan(struct run *const *runs, size_t run_count, struct disk *d, const uint64_t *points, size_t point_count,
    bool wide, merge_each *each, void *arg)
{
	struct scan *s = calloc(1, sizeof *s);
	int r;

	if (s == NULL)
		return -ENOMEM;
	s->points = points;
	s->point_count = point_count;
	s->wide = wide;
	s->each = each;
	s->arg = arg;
	r = open_inputs(s, runs, run_count, d);
	if (r == 0)
		r = scan_entries(s);
	for (size_t i = 0; i < s->input_count; i++)
		run_cursor_close(s->inputs[i].cursor);
	free(s->inputs);
	free(s);
	return r;
}
