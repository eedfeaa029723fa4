/* SPDX-License-Identifier: Apache-2.0 */
/* Every version of a block is seen by the points from its own LSN up to the next newer version's. A version that one
 * point sees is unique to it. The oldest points are special: while they stand no fold can pass them; when they go, one
 * moves all that was written up to the oldest that is left into the staging files, and releases it from the journal. */
#include "storage/account.h"

#include <errno.h>
#include <stdlib.h>

#include "storage/merge.h"

enum { PAUSE_ENTRIES = 32 * 1024 };

struct scan {
	struct account *a;
	uint64_t *lsns;      /* of the points, for merge_scan() */
	size_t going_prefix; /* so many of the oldest go: a fold passes them */
	uint64_t entries;
	int (*pause)(void *arg);
	void *arg;
};

/* Number of the first point that is not before the LSN. */
static size_t
point_from(const struct account *a, uint64_t lsn)
{
	size_t low = 0, high = a->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (a->points[middle].lsn < lsn)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Points [first, last) see it. Do they all go? */
static bool
all_go(const struct account *a, size_t first, size_t last)
{
	for (size_t i = first; i < last; i++)
		if (!a->points[i].going)
			return false;
	return true;
}

static int
count_version(void *arg, const struct entry *e, uint64_t newer_lsn)
{
	struct scan *s = arg;
	struct account *a = s->a;
	size_t first, last;

	if (e->digest == 0)
		return 0;
	first = point_from(a, e->lsn);
	last = point_from(a, newer_lsn);
	if (first == a->count || first == last)
		return 0; /* newer than what is counted here, or seen by nobody: a merge drops it anyway */
	a->total_bytes += BLOCK_BYTES;
	if (last == first + 1)
		a->points[first].unique_bytes += BLOCK_BYTES;
	if (first <= 1 && a->count > 1) /* a fold to the second point takes it along */
		a->points[0].freed_bytes += BLOCK_BYTES;
	if (last == first + 1 && first > 0)
		a->points[first].freed_bytes += BLOCK_BYTES;
	if (first <= s->going_prefix && s->going_prefix > 0)
		a->going_bytes += BLOCK_BYTES;
	else if (all_go(a, first, last))
		a->going_bytes += BLOCK_BYTES;
	return ++s->entries % PAUSE_ENTRIES == 0 ? s->pause(s->arg) : 0;
}

int
account_scan(
    struct account *a, struct run *const *runs, size_t run_count, struct disk *d, int (*pause)(void *arg), void *arg)
{
	struct scan s = {.a = a, .pause = pause, .arg = arg, .lsns = calloc(a->count + 1, sizeof *s.lsns)};
	int r;

	if (s.lsns == NULL)
		return -ENOMEM;
	a->total_bytes = a->going_bytes = 0;
	for (size_t i = 0; i < a->count; i++) {
		s.lsns[i] = a->points[i].lsn;
		a->points[i].unique_bytes = a->points[i].freed_bytes = 0;
	}
	while (s.going_prefix + 1 < a->count && a->points[s.going_prefix].going)
		s.going_prefix++;
	r = merge_scan(runs, run_count, d, s.lsns, a->count, false, count_version, &s);
	free(s.lsns);
	return r;
}

const struct account_point *
account_find(const struct account *a, uint64_t lsn)
{
	size_t i = point_from(a, lsn);

	return i < a->count && a->points[i].lsn == lsn ? &a->points[i] : NULL;
}
