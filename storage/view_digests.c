/* SPDX-License-Identifier: Apache-2.0 */
/* Digests of a view, and where its data may be, from stored digests and the index alone.
 *
 * Stored digests are right wherever nothing was written since the base. So they are read first, and one scan of the
 * runs marks the zones of 256 MiB where something was; only those are gone through again, each in a sum_zone: stored
 * leaves under the newest entries, parents recomputed. Of a zone that was wholly zeroed nothing older counts, stored or
 * not. */
#include "storage/view.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/view_impl.h"

static uint64_t
smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t
larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* What one call of view_digests() is about. */
struct digesting {
	struct view *v;
	struct disk *d;
	struct run_cache *cache;
	const struct view_volume *volume;
	int level;
	uint64_t first; /* node */
	size_t count;
	uint64_t *out;
	uint64_t from, to; /* their blocks, within the volume */
};

/* ---- stored digests ---- */

/* Nodes that begin beyond what is stored are zero; the one that the end of it lies in, if any, is made anew later. */
static int
read_stored(const struct digesting *g)
{
	uint64_t blocks = digest_level_blocks(g->level), stored = view_stored_blocks(g->volume);
	uint64_t nodes = stored / blocks + (stored % blocks != 0);
	size_t count = nodes > g->first ? (size_t)smaller(nodes - g->first, g->count) : 0;

	memset(g->out + count, 0, (g->count - count) * sizeof *g->out);
	return sum_read(g->d, g->volume->sum->file, g->level, g->first, count, g->out);
}

/* ---- leaves ---- */

static int
digest_leaves(const struct digesting *g)
{
	int r = read_stored(g);

	for (uint64_t at = g->from; r == 0 && at < g->to; at += VIEW_SLOTS) {
		size_t n = (size_t)smaller(g->to - at, VIEW_SLOTS);

		r = view_resolve(g->v, g->d, g->cache, g->volume->volume, at, n);
		for (size_t i = 0; r == 0 && i < n; i++)
			if (g->v->slots[i].lsn != 0)
				g->out[at - g->from + i] = g->v->slots[i].digest;
	}
	return r;
}

/* ---- which zones were touched ---- */

/* Of the part of a zone that was asked for: the newest entry that zeroes all of it, and the newest other one. */
struct zone_mark {
	uint64_t zeros_lsn, other_lsn;
};

struct marking {
	const struct digesting *g;
	struct zone_mark *marks;
	uint64_t first_zone;
};

static int
on_mark(void *arg, const struct entry *e)
{
	const struct marking *m = arg;
	uint64_t begin = larger(e->block, m->g->from), end = smaller(e->block + e->count, m->g->to);

	for (uint64_t z = begin / SUM_ZONE_BLOCKS; z * SUM_ZONE_BLOCKS < end; z++) {
		struct zone_mark *mark = &m->marks[z - m->first_zone];
		uint64_t zone_begin = larger(z * SUM_ZONE_BLOCKS, m->g->from);
		uint64_t zone_end = smaller((z + 1) * SUM_ZONE_BLOCKS, m->g->to);

		if (e->digest == 0 && begin <= zone_begin && end >= zone_end)
			mark->zeros_lsn = larger(mark->zeros_lsn, e->lsn);
		else
			mark->other_lsn = larger(mark->other_lsn, e->lsn);
	}
	return 0;
}

static int
mark_zones(struct marking *m)
{
	const struct digesting *g = m->g;
	int r = 0;

	for (size_t i = 0; r == 0 && i < g->v->run_count; i++)
		r = run_scan(g->v->runs[i], g->d, g->cache, g->volume->volume, g->from, g->to, g->v->base_lsn,
		    g->v->lsn, on_mark, m);
	return r;
}

/* ---- going through a zone ---- */

struct zone_entries {
	struct view *v;
	uint64_t from, to;
	uint64_t begin; /* of the zone */
};

static int
on_zone_entry(void *arg, const struct entry *e)
{
	const struct zone_entries *ze = arg;
	uint64_t end = smaller(e->block + e->count, ze->to);

	for (uint64_t block = larger(e->block, ze->from); block < end; block++) {
		uint64_t *lsn = &ze->v->zone_lsns[block - ze->begin];

		if (e->lsn > *lsn) {
			*lsn = e->lsn;
			sum_zone_set(ze->v->zone, block, e->digest);
		}
	}
	return 0;
}

static int
prepare_scratch(struct view *v)
{
	int r = v->zone != NULL ? 0 : sum_zone_create(&v->zone);

	if (r == 0 && v->zone_lsns == NULL)
		v->zone_lsns = malloc(SUM_ZONE_BLOCKS * sizeof *v->zone_lsns);
	if (r == 0 && v->zone_lsns == NULL)
		r = -ENOMEM;
	return r;
}

static int
load_zone(const struct digesting *g, uint64_t zone, const struct zone_mark *mark)
{
	struct view *v = g->v;
	uint64_t begin = zone * SUM_ZONE_BLOCKS;
	struct zone_entries ze = {v, larger(begin, g->from), smaller(begin + SUM_ZONE_BLOCKS, g->to), begin};
	int r = prepare_scratch(v);

	if (r < 0)
		return r;
	memset(v->zone_lsns + (ze.from - begin), 0, (ze.to - ze.from) * sizeof *v->zone_lsns);
	sum_zone_begin(v->zone, zone, v->digest_seed);
	sum_zone_limit(v->zone, mark->zeros_lsn != 0 ? begin : view_stored_blocks(g->volume));
	for (size_t i = 0; r == 0 && i < v->run_count; i++)
		r = run_scan(v->runs[i], g->d, g->cache, g->volume->volume, ze.from, ze.to,
		    larger(v->base_lsn, mark->zeros_lsn), v->lsn, on_zone_entry, &ze);
	return r == 0 ? sum_zone_update(v->zone, g->d, g->volume->sum->file) : r;
}

static bool
end_of_stored_lies_in(const struct digesting *g, uint64_t zone)
{
	uint64_t stored = view_stored_blocks(g->volume);

	return stored % digest_level_blocks(g->level) != 0 && stored / SUM_ZONE_BLOCKS == zone;
}

static int
digest_zone(const struct digesting *g, uint64_t zone, const struct zone_mark *mark)
{
	uint64_t per_zone = SUM_ZONE_BLOCKS / digest_level_blocks(g->level);
	uint64_t first = larger(zone * per_zone, g->first);
	uint64_t end = smaller((zone + 1) * per_zone, g->first + g->count);
	int r;

	if (mark->zeros_lsn > mark->other_lsn) {
		memset(g->out + (first - g->first), 0, (end - first) * sizeof *g->out);
		return 0;
	}
	if (mark->other_lsn == 0 && !end_of_stored_lies_in(g, zone))
		return 0;
	r = load_zone(g, zone, mark);
	for (uint64_t node = first; r == 0 && node < end; node++)
		(void)sum_zone_find(g->v->zone, g->level, node, &g->out[node - g->first]); /* else as stored */
	return r;
}

static int
digest_nodes(const struct digesting *g)
{
	uint64_t first_zone = g->from / SUM_ZONE_BLOCKS;
	uint64_t zones = (g->to - 1) / SUM_ZONE_BLOCKS - first_zone + 1;
	struct marking m = {g, calloc(zones, sizeof *m.marks), first_zone};
	int r;

	if (m.marks == NULL)
		return -ENOMEM;
	r = read_stored(g);
	if (r == 0)
		r = mark_zones(&m);
	for (uint64_t i = 0; r == 0 && i < zones; i++)
		r = digest_zone(g, first_zone + i, &m.marks[i]);
	free(m.marks);
	return r;
}

int
view_digests(struct view *v, struct disk *d, struct run_cache *cache, uint32_t volume, int level, uint64_t first,
    size_t count, uint64_t *ret)
{
	struct digesting g = {.v = v,
	    .d = d,
	    .cache = cache,
	    .volume = view_find_volume(v, volume),
	    .level = level,
	    .first = first,
	    .count = count,
	    .out = ret};
	uint64_t blocks, nodes;

	assert(level >= 0 && level < DIGEST_LEVELS);
	if (g.volume == NULL)
		return -HF_EVOLUME;
	blocks = view_volume_blocks(g.volume);
	nodes = (blocks + digest_level_blocks(level) - 1) / digest_level_blocks(level);
	if (first >= nodes || count > nodes - first) { /* what lies beyond the end is zero */
		g.count = first < nodes ? (size_t)(nodes - first) : 0;
		memset(ret + g.count, 0, (count - g.count) * sizeof *ret);
	}
	if (g.count == 0)
		return 0;
	g.from = first * digest_level_blocks(level);
	g.to = smaller((first + g.count) * digest_level_blocks(level), blocks);
	return level == 0 ? digest_leaves(&g) : digest_nodes(&g);
}

/* ---- where data may be ---- */

/* First block >= from whose leaf page is not a hole; UINT64_MAX if none. Holes are skipped by the file system. */
static int
next_leaf_page(struct disk *d, struct disk_file *sum, uint64_t from, uint64_t *ret_block)
{
	static const uint64_t leaf_pages = 128, leaves_per_page = 512;
	uint64_t at = sum_page_offset(0, from), data, page, block;
	int r = disk_next_data(d, sum, at, &data);

	if (r < 0)
		return r;
	if (data < at) {
		*ret_block = UINT64_MAX; /* beyond the end of the file */
		return 0;
	}
	page = data / BLOCK_BYTES - 1;
	block = page / SUM_ZONE_PAGES * SUM_ZONE_BLOCKS;
	if (page % SUM_ZONE_PAGES < leaf_pages)
		block += page % SUM_ZONE_PAGES * leaves_per_page;
	else
		block += SUM_ZONE_BLOCKS; /* only parents are left in that zone */
	*ret_block = larger(block, from);
	return 0;
}

/* First block >= from under a 1 MiB node of its zone that is not zero; the zone's end if none. */
static int
next_node_in_zone(struct disk *d, struct disk_file *sum, uint64_t from, uint64_t *ret_block)
{
	uint64_t digests[256], zone = from / SUM_ZONE_BLOCKS, first = from / 256;
	uint64_t end = (zone + 1) * 256;
	int r = sum_read(d, sum, 2, first, (size_t)(end - first), digests);

	if (r < 0)
		return r;
	while (first < end && digests[first - (from / 256)] == 0)
		first++;
	*ret_block = larger(first * 256, from);
	return 0;
}

static int
next_stored_data(const struct view_volume *vv, struct disk *d, uint64_t from, uint64_t until, uint64_t *ret_block)
{
	uint64_t end = smaller(view_stored_blocks(vv), until);

	while (from < end) {
		uint64_t block, zone_end;
		int r = next_leaf_page(d, vv->sum->file, from, &block);

		if (r < 0)
			return r;
		if (block >= end)
			break;
		zone_end = (block / SUM_ZONE_BLOCKS + 1) * SUM_ZONE_BLOCKS;
		r = next_node_in_zone(d, vv->sum->file, block, &from);
		if (r < 0)
			return r;
		if (from < zone_end && from < end) {
			*ret_block = from;
			return 0;
		}
	}
	*ret_block = UINT64_MAX;
	return 0;
}

int
view_next_data(
    struct view *v, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t from, uint64_t *ret_block)
{
	const struct view_volume *vv = view_find_volume(v, volume);
	uint64_t written, stored, blocks;
	int r;

	if (vv == NULL)
		return -HF_EVOLUME;
	blocks = view_volume_blocks(vv);
	r = view_next_entry(v, d, cache, volume, from, true, &written);
	if (r == 0)
		r = next_stored_data(vv, d, from, smaller(written, blocks), &stored);
	if (r == 0)
		*ret_block = smaller(smaller(written, stored), blocks);
	return r;
}
