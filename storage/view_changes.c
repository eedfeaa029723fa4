/* SPDX-License-Identifier: Apache-2.0 */
/* What was written since the base, newest version of each block. From any place the next entry of any run is found
 * without visiting what lies between; from there a window is resolved. A window that is zeros from end to end is likely
 * part of a large discard: then its end is looked for, instead of going through it window by window. */
#include "storage/view.h"

#include <assert.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/view_impl.h"

struct changes {
	struct view *v;
	struct disk *d;
	struct run_cache *cache;
	uint32_t volume;
	uint64_t from; /* next block to look at */
	struct entry *out;
	size_t count, max;
};

/* ---- zeros ---- */

static bool
all_zeros(const struct view *v)
{
	for (size_t i = 0; i < VIEW_SLOTS; i++)
		if (v->slots[i].lsn == 0 || v->slots[i].digest != 0)
			return false;
	return true;
}

static int
on_cover(void *arg, const struct entry *e)
{
	uint64_t *end = arg;

	if (e->block + e->count > *end)
		*end = e->block + e->count;
	return 0;
}

/* Blocks from `block` on, which is zero, are zeros as far as the longest entry over it reaches, or the next data entry
 * begins: what lies over them is zeros, whichever is the newest. */
static int
find_zeros_end(struct changes *c, uint64_t block, uint64_t *ret_end)
{
	uint64_t end = block + 1, data;
	int r = view_next_entry(c->v, c->d, c->cache, c->volume, block + 1, true, &data);

	for (size_t i = 0; r == 0 && i < c->v->run_count; i++)
		r = run_scan(c->v->runs[i], c->d, c->cache, c->volume, block, block + 1, c->v->base_lsn, c->v->lsn,
		    on_cover, &end);
	if (r < 0)
		return r;
	*ret_end = data < end ? data : end;
	return 0;
}

/* ---- output ---- */

static bool
extends_last(const struct changes *c, uint64_t block)
{
	const struct entry *last;

	if (c->count == 0)
		return false;
	last = &c->out[c->count - 1];
	return last->digest == 0 && last->block + last->count == block && last->count < UINT32_MAX;
}

/* False if the output is full. */
static bool
put_block(struct changes *c, uint64_t block, const struct view_slot *slot)
{
	if (slot->digest == 0 && extends_last(c, block)) {
		struct entry *last = &c->out[c->count - 1];

		last->count++;
		if (slot->lsn > last->lsn)
			last->lsn = slot->lsn;
		return true;
	}
	if (c->count == c->max)
		return false;
	c->out[c->count++] = (struct entry){.block = block,
	    .lsn = slot->lsn,
	    .digest = slot->digest,
	    .segment = slot->segment,
	    .offset = slot->offset,
	    .volume = c->volume,
	    .count = 1};
	return true;
}

static void
put_window(struct changes *c, uint64_t begin)
{
	for (size_t i = 0; i < VIEW_SLOTS; i++) {
		const struct view_slot *slot = &c->v->slots[i];

		if (slot->lsn != 0 && !put_block(c, begin + i, slot)) {
			c->from = begin + i;
			return;
		}
	}
	c->from = begin + VIEW_SLOTS;
}

static int
put_long_zeros(struct changes *c, uint64_t begin)
{
	uint64_t end;
	int r = find_zeros_end(c, begin + VIEW_SLOTS - 1, &end);

	if (r < 0)
		return r;
	if (end - begin > UINT32_MAX)
		end = begin + UINT32_MAX;
	assert(c->count < c->max);
	c->out[c->count++] = (struct entry){
	    .block = begin, .lsn = c->v->slots[0].lsn, .volume = c->volume, .count = (uint32_t)(end - begin)};
	c->from = end;
	return 0;
}

static int
next_window(struct changes *c)
{
	uint64_t begin;
	int r = view_next_entry(c->v, c->d, c->cache, c->volume, c->from, false, &begin);

	if (r < 0)
		return r;
	if (begin == UINT64_MAX) {
		c->from = UINT64_MAX;
		return 0;
	}
	r = view_resolve(c->v, c->d, c->cache, c->volume, begin, VIEW_SLOTS);
	if (r < 0)
		return r;
	if (all_zeros(c->v))
		return put_long_zeros(c, begin);
	put_window(c, begin);
	return 0;
}

ssize_t
view_changes(struct view *v, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t *from,
    struct entry *ret_entries, size_t max)
{
	struct changes c = {
	    .v = v, .d = d, .cache = cache, .volume = volume, .from = *from, .out = ret_entries, .max = max};
	int r = 0;

	assert(max > 0);
	if (view_find_volume(v, volume) == NULL)
		return -HF_EVOLUME;
	while (r == 0 && c.count < c.max && c.from != UINT64_MAX)
		r = next_window(&c);
	if (r < 0)
		return r;
	*from = c.from;
	return (ssize_t)c.count;
}
