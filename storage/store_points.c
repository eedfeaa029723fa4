/* SPDX-License-Identifier: Apache-2.0 */
/* store_points.c: points in time, listed, and how far the base may move. */
#include "storage/store_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/plant.h"

/* ---- running time ---- */

static int64_t
until_ns(const struct mark *m)
{
	return m->unchanged_until_ns - m->clock_offset_ns;
}

static bool
is_eligible(const struct mark *m)
{
	return m->complete && m->consistency >= CHECKPOINT_CRASH;
}

int64_t
store_run_to(struct store *s, const struct checkpoint *c)
{
	int64_t time_ns = c->unchanged_until_ns - c->clock_offset_ns;

	if (!pit_eligible(c))
		return retention_at(&s->retention, time_ns, store_passed(s));
	retention_move(&s->retention, time_ns, store_passed(s));
	return s->retention.running_ns;
}

/* Running times of a recovered history. Kept points have theirs in their rows; from one row to the next it is counted
 * again. */
struct recount {
	struct store *s;
	size_t next_pit;
	size_t marks, marks_at_row; /* counted so far, and by the row before */
	bool any_row;
};

/* What was counted on the way to a row was a guess. Before the first row it began anywhere: it is moved as a whole;
 * from one row to the next it may have gone on for too long. */
static void
correct_marks(struct recount *c, int64_t counted_ns, int64_t running_ns)
{
	for (size_t i = c->marks_at_row; i < c->marks; i++) {
		struct mark *m = marks_change(&c->s->marks, i);

		if (!c->any_row)
			m->running_ns -= counted_ns - running_ns;
		else if (m->running_ns > running_ns)
			m->running_ns = running_ns;
	}
	c->marks_at_row = c->marks;
	c->any_row = true;
}

/* The rows before lsn. */
static void
recall_before(struct recount *c, uint64_t lsn)
{
	struct retention *r = &c->s->retention;

	for (; c->next_pit < c->s->pit_count && c->s->pits[c->next_pit].lsn < lsn; c->next_pit++) {
		const struct pit *p = &c->s->pits[c->next_pit];

		if (!pit_eligible(&p->checkpoint))
			continue;
		retention_recount(r, p->time_ns);
		correct_marks(c, r->running_ns, p->running_ns);
		retention_recall(r, p->running_ns, p->time_ns);
	}
}

static void
recount_mark(struct recount *c, struct mark *m)
{
	struct retention then;

	recall_before(c, m->lsn);
	then = c->s->retention;
	retention_recount(&then, until_ns(m));
	m->running_ns = then.running_ns;
	if (is_eligible(m))
		c->s->retention = then;
	c->marks++;
	recall_before(c, m->lsn + 1); /* its own row may be of a later moment, when it was still true */
}

static void
recall_mark(const struct store *s, struct checkpoint *c)
{
	size_t i;

	if (marks_find(&s->marks, c->lsn, &i))
		c->running_ns = marks_at(&s->marks, i)->running_ns;
}

/* Our clock may not be what it was; but it was already what the newest checkpoint says. */
static int64_t
clock_at_least(const struct store *s)
{
	int64_t now_ns = store_clock(s);

	if (s->has_checkpoint && s->newest_checkpoint.received_ns > now_ns)
		return s->newest_checkpoint.received_ns;
	return now_ns;
}

void
store_begin_retention(struct store *s)
{
	struct recount c = {.s = s};

	s->retention = (struct retention){.frozen_ns = s->retention.frozen_ns};
	for (size_t i = 0; i < s->marks.count; i++)
		recount_mark(&c, marks_change(&s->marks, i));
	recall_before(&c, UINT64_MAX);
	recall_mark(s, &s->newest_checkpoint);
	recall_mark(s, &s->newest_consistent);
	s->window_end_ns = s->newest_consistent.running_ns;
	s->newest_consistent.running_ns = s->retention.running_ns;
	retention_believe(&s->retention, clock_at_least(s), store_passed(s));
	retention_watch(&s->retention, store_clock(s), store_passed(s));
}

const struct retention *
store_retention(const struct store *s)
{
	return &s->retention;
}

bool
store_newest_is_kept(const struct store *s)
{
	for (size_t i = s->pit_count; i > 0 && s->pits[i - 1].lsn >= s->newest_consistent.lsn; i--)
		if (s->pits[i - 1].lsn == s->newest_consistent.lsn)
			return true;
	return false;
}

/* The policy's window is counted back from the first moment of the newest point to recover from, and reaches forward
 * over all that came after it. For want of room that is shortened, too: back from the newest checkpoint of any kind,
 * over that point when it has a row. */
int64_t
store_window_begin(const struct store *s)
{
	int64_t begin, shortened;

	if (!s->retention.begun || retention_stopped(&s->retention) ||
	    __builtin_sub_overflow(s->window_end_ns, s->policy.journal_window_ns, &begin))
		return INT64_MIN;
	if (s->space.window_ns == INT64_MAX || s->marks.count == 0)
		return begin;
	shortened = s->marks.newest.running_ns - s->space.window_ns;
	if (s->has_consistent && shortened > s->window_end_ns && !store_newest_is_kept(s))
		shortened = s->window_end_ns;
	return shortened > begin ? shortened : begin;
}

/* ---- lists ---- */

struct points *
store_points(struct store *s)
{
	struct points *p = points_create(&s->source);

	if (p == NULL)
		return NULL;
	p->rows = s->pits;
	p->row_count = s->pit_count;
	p->rows_shared = shared_show(&s->pits_shared, s->pits);
	p->account = s->account;
	p->account_shared = shared_show(&s->account_shared, s->account.points);
	p->window_lsn = store_window_lsn(s);
	p->fold_lsn = s->fold_lsn;
	p->begin_ns = store_window_begin(s);
	if (p->rows_shared != NULL && p->account_shared != NULL && marks_share(&s->marks, &p->marks) == 0)
		return p;
	points_unref(p);
	return NULL;
}

int
store_list_pits(struct store *s, struct pit **ret_pits, size_t *ret_count)
{
	struct points *p = store_points(s);
	bool more;
	int r = p != NULL ? points_list(p, UINT64_MAX, SIZE_MAX, ret_pits, ret_count, &more) : -ENOMEM;

	points_unref(p);
	return r;
}

int
store_find_pit_at(struct store *s, uint64_t lsn, struct pit *ret_pit)
{
	struct points *p = store_points(s);
	int r = p == NULL ? -ENOMEM : points_find(p, lsn, ret_pit) ? 0 : -HF_ENOPIT;

	points_unref(p);
	return r;
}

int
store_find_pit(struct store *s, const struct id *pit, struct pit *ret_pit)
{
	struct points *p = store_points(s);
	int r = p == NULL ? -ENOMEM : points_find_id(p, pit, ret_pit) ? 0 : -HF_ENOPIT;

	points_unref(p);
	return r;
}

void
store_get_policy(const struct store *s, struct policy *ret_policy)
{
	*ret_policy = s->policy;
}

uint64_t
store_window_lsn(const struct store *s)
{
	int64_t begin = store_window_begin(s);
	bool kept = store_newest_is_kept(s);

	for (size_t i = 0; s->has_consistent && i < s->marks.count; i++)
		if (marks_at(&s->marks, i)->running_ns >= begin ||
		    (!kept && marks_at(&s->marks, i)->lsn >= s->newest_consistent.lsn))
			return marks_at(&s->marks, i)->lsn;
	return 0;
}

int
lsn_compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* A volume is partly filled and may be filled on: the cursor holds digest pages that a fold would change under it. */
static bool
is_filling(const struct store *s)
{
	for (uint32_t i = 0; i < s->volume_count; i++) {
		const struct volume *v = s->volumes[i];

		if (v->cursor != NULL && v->cursor->frontier > 0)
			return true;
		if (v->info.frontier_received_blocks != v->info.frontier_blocks)
			return true; /* taken away meanwhile, its last frames still on their way */
	}
	return false;
}

uint64_t
store_fold_target(const struct store *s)
{
	int64_t begin = store_window_begin(s);
	const struct segment *oldest = s->segments;
	uint64_t target = UINT64_MAX;

	if (!s->has_consistent || oldest == NULL || oldest->run == NULL || is_filling(s) ||
	    retention_stopped(&s->retention) || s->pits_doubted)
		return 0;
	if (s->pit_count > 0)
		target = s->pits[0].lsn;
	for (size_t i = 0; i < s->marks.count && !PLANTED(30); i++) {
		if (marks_at(&s->marks, i)->running_ns < begin)
			continue;
		if (marks_at(&s->marks, i)->lsn < target)
			target = marks_at(&s->marks, i)->lsn;
		break;
	}
	if (PLANTED(12))
		target = s->newest_consistent.lsn;
	if (s->newest_consistent.lsn < target)
		target = s->newest_consistent.lsn;
	for (unsigned i = 0; i < s->view_count && !PLANTED(31); i++)
		if (s->views[i].lsn < target)
			target = s->views[i].lsn;
	if (target <= s->base_lsn || oldest->info.lsn_last >= target || oldest->next == NULL)
		return 0; /* nothing would be freed: the record at the target stays, it may be a point that no row keeps
			   */
	return target;
}
