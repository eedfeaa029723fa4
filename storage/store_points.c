/* SPDX-License-Identifier: Apache-2.0 */
/* store_points.c: points in time, listed, and how far the base may move. */
#include "storage/store_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/common/units.h"
#include "storage/plant.h"

static void
pit_from_mark(const struct store *s, size_t i, struct pit *ret_pit)
{
	struct pit p = {0};

	marks_get(&s->marks, i, &p.checkpoint);
	p.id = checkpoint_pit_id(&s->source, p.checkpoint.lsn);
	p.lsn = p.checkpoint.lsn;
	p.time_ns = p.planned_ns = checkpoint_time_ns(&p.checkpoint);
	p.complete = p.checkpoint.complete;
	p.consistency = p.checkpoint.consistency;
	*ret_pit = p;
}

/* The oldest moment (our time) of the journal window: counted back from the newest complete point, never from now. */
static int64_t
window_begin_ns(const struct store *s)
{
	const struct checkpoint *c = store_newest_consistent(s);

	return c == NULL ? INT64_MIN : checkpoint_time_ns(c) - store_window_ns(s);
}

int
store_list_pits(struct store *s, struct pit **ret_pits, size_t *ret_count)
{
	int64_t begin = window_begin_ns(s);
	struct pit *list = calloc(s->pit_count + s->marks.count + 1, sizeof *list);
	size_t n = 0, k = 0;

	if (list == NULL)
		return -ENOMEM;
	for (size_t i = 0; i <= s->marks.count; i++) {
		uint64_t lsn = i < s->marks.count ? s->marks.list[i].lsn : UINT64_MAX;
		bool kept = false;

		for (; k < s->pit_count && s->pits[k].lsn <= lsn; k++) {
			kept |= s->pits[k].lsn == lsn;
			list[n++] = s->pits[k];
		}
		if (i == s->marks.count || kept || lsn < s->fold_lsn)
			continue;
		if (s->marks.list[i].clock_ns - s->marks.list[i].clock_offset_ns < begin)
			continue;
		pit_from_mark(s, i, &list[n++]);
	}
	*ret_pits = list;
	*ret_count = n;
	return 0;
}

void
store_get_policy(const struct store *s, struct policy *ret_policy)
{
	*ret_policy = s->policy;
}

uint64_t
store_window_lsn(const struct store *s)
{
	int64_t begin = window_begin_ns(s);

	for (size_t i = 0; s->has_consistent && i < s->marks.count; i++)
		if (s->marks.list[i].lsn >= s->newest_consistent.lsn ||
		    s->marks.list[i].clock_ns - s->marks.list[i].clock_offset_ns >= begin)
			return s->marks.list[i].lsn;
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
	int64_t begin = window_begin_ns(s);
	const struct segment *oldest = s->segments;
	uint64_t target = UINT64_MAX;

	if (!s->has_consistent || oldest == NULL || oldest->run == NULL || is_filling(s))
		return 0;
	if (s->pit_count > 0)
		target = s->pits[0].lsn;
	for (size_t i = 0; i < s->marks.count; i++) {
		if (s->marks.list[i].clock_ns - s->marks.list[i].clock_offset_ns < begin)
			continue;
		if (s->marks.list[i].lsn < target)
			target = s->marks.list[i].lsn;
		break;
	}
	if (PLANTED(12))
		target = s->newest_consistent.lsn;
	if (s->newest_consistent.lsn < target)
		target = s->newest_consistent.lsn;
	for (unsigned i = 0; i < s->view_count; i++)
		if (s->views[i].lsn < target)
			target = s->views[i].lsn;
	if (target <= s->base_lsn || oldest->info.lsn_last >= target || oldest->next == NULL)
		return 0; /* nothing would be freed: the record at the target stays, it may be a point that no row keeps
			   */
	return target;
}
