/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/scrub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/plant.h"
#include "storage/scrub_impl.h"

/* ---- life ---- */

int
scrub_create(
    struct view *v, struct disk *d, struct run_cache *cache, scrub_found *found, void *arg, struct scrub **ret_scrub)
{
	struct scrub *sc = calloc(1, sizeof *sc);

	if (sc == NULL)
		return -ENOMEM;
	sc->v = v;
	sc->d = d;
	sc->cache = cache;
	sc->found = found;
	sc->arg = arg;
	sc->zone = UINT64_MAX;
	sc->buf = buffer_alloc(GROUP * BLOCK_BYTES);
	sc->batch_buf = buffer_alloc(BATCH * BLOCK_BYTES);
	sc->scratch = buffer_alloc(BLOCK_BYTES);
	if (sc->buf == NULL || sc->batch_buf == NULL || sc->scratch == NULL) {
		scrub_destroy(sc);
		return -ENOMEM;
	}
	*ret_scrub = sc;
	return 0;
}

void
scrub_destroy(struct scrub *sc)
{
	if (sc == NULL)
		return;
	buffer_free(sc->buf, GROUP * BLOCK_BYTES);
	buffer_free(sc->batch_buf, BATCH * BLOCK_BYTES);
	buffer_free(sc->scratch, BLOCK_BYTES);
	free(sc);
}

struct scrub_stats
scrub_get_stats(const struct scrub *sc)
{
	return sc->stats;
}

/* ---- what was found ---- */

bool
damage_hits(const struct damage *d, const struct checkpoint *c)
{
	uint64_t size;

	if (c->lsn < d->lsn || (c->lsn >= d->lsn_next && !PLANTED(87)))
		return false;
	if (checkpoint_has_volume(c, d->volume, &size))
		return d->block * BLOCK_BYTES < size;
	return d->volume == 0; /* a page of the index: nobody knows which */
}

/* The index cannot be read here: any point may need what it would say. */
void
scrub_report_group(struct scrub *sc, int status)
{
	struct damage d = {.volume = sc->volume->volume,
	    .block = sc->group,
	    .lsn = sc->v->base_lsn,
	    .lsn_next = UINT64_MAX,
	    .status = status};

	sc->found(sc->arg, &d);
}

/* ---- healing ---- */

/* The same bytes to the same place, but, where the file system can, to other sectors of the disk: that is what the hole
 * is for. A cut leaves the old rot, a hole, or parts of the right bytes: none of them matches the digest. */
int
scrub_rewrite(struct scrub *sc, struct disk_file *f, uint64_t offset)
{
	const struct scrub_offer *o = sc->offer;
	int r = disk_punch(sc->d, f, offset, BLOCK_BYTES);

	if (r == 0 || r == -EOPNOTSUPP)
		r = disk_write_now(sc->d, f, o->bytes, BLOCK_BYTES, offset);
	if (r == 0 && !PLANTED(80))
		r = disk_sync_now(sc->d, f);
	if (r == 0)
		r = disk_read_now(sc->d, f, sc->scratch, BLOCK_BYTES, offset);
	if (r == 0 && digest_block(sc->v->digest_seed, sc->scratch) != o->digest)
		r = -HF_EDIGEST;
	sc->stats.blocks_healed += r == 0;
	return r;
}

bool
scrub_is_offered(const struct scrub *sc, uint32_t volume, uint64_t block, uint64_t digest)
{
	const struct scrub_offer *o = sc->offer;

	return o != NULL && o->volume == volume && o->block == block && (o->digest == digest || PLANTED(81));
}

/* ---- what counts ---- */

static int
on_shadow(void *arg, const struct entry *e)
{
	return 1;
}

/* Has the journal written any of these blocks anew before the volume's oldest point? What cannot be read has not: it is
 * reported by itself. */
static bool
is_shadowed(struct view *v, struct disk *d, struct run_cache *cache, const struct view_volume *vv, uint64_t first,
    uint64_t blocks)
{
	for (size_t i = 0; i < v->run_count; i++)
		if (run_scan(v->runs[i], d, cache, vv->volume, first, first + blocks, v->base_lsn, vv->first_point_lsn,
			on_shadow, NULL) > 0)
			return true;
	return false;
}

bool
scrub_node_counts(
    struct view *v, struct disk *d, struct run_cache *cache, const struct view_volume *vv, int level, uint64_t index)
{
	uint64_t blocks = digest_level_blocks(level), first = index * blocks, frontier = vv->frontier_blocks;

	if (first >= frontier || (first + blocks > frontier && frontier < view_volume_blocks(vv)))
		return false;
	return !is_shadowed(v, d, cache, vv, first, blocks);
}

/* ---- groups ---- */

static int
check_group(struct scrub *sc, uint32_t volume, uint64_t group)
{
	const struct view_volume *vv = view_find_volume(sc->v, volume);
	int r;

	if (vv == NULL)
		return -HF_EVOLUME;
	if (sc->volume != vv || sc->mending)
		sc->zone = UINT64_MAX; /* read again */
	sc->volume = vv;
	sc->group = group / GROUP * GROUP;
	r = scrub_check_stored(sc);
	if (r == 0)
		r = scrub_check_versions(sc);
	if (r == 0 || r == -ENOMEM)
		return r;
	scrub_report_group(sc, r);
	return 0;
}

int
scrub_group(struct scrub *sc, uint32_t volume, uint64_t group)
{
	sc->mending = sc->mend_digests = false;
	sc->offer = NULL;
	return check_group(sc, volume, group);
}

int
scrub_mend_group(struct scrub *sc, uint32_t volume, uint64_t group, bool digests, const struct scrub_offer *offer)
{
	int r;

	sc->mending = true;
	sc->mend_digests = digests;
	sc->offer = offer;
	r = check_group(sc, volume, group);
	scrub_flush(sc);
	return r;
}

/* The first block of the zone, from this one on, whose leaves are on disk, or whose node of level 2 is not zero; the
 * zone's end if none. */
static uint64_t
next_in_zone(struct scrub *sc, const struct view_volume *vv, uint64_t from)
{
	uint64_t zone = from / SUM_ZONE_BLOCKS, at = sum_page_offset(0, from), tops[TOPS], data, leaf;
	uint64_t top = from / GROUP;

	if (sum_read(sc->d, vv->sum->file, 2, zone * TOPS, TOPS, tops) < 0 ||
	    disk_next_data(sc->d, vv->sum->file, at, &data) < 0)
		return from; /* who goes on reading will be told */
	leaf = data < at ? UINT64_MAX : from / LEAVES + (data - at) / BLOCK_BYTES;
	while (top < (zone + 1) * TOPS && tops[top % TOPS] == 0 && top * GROUP / LEAVES < leaf)
		top++;
	return top * GROUP > from ? top * GROUP : from;
}

/* First block at or after `from` whose digests, leaves or parents, are no hole of the digest file. */
static uint64_t
next_stored(struct scrub *sc, const struct view_volume *vv, uint64_t from)
{
	uint64_t zone = from / SUM_ZONE_BLOCKS, stored = view_stored_blocks(vv), data, page;
	uint64_t zone_at = sum_page_offset(0, zone * SUM_ZONE_BLOCKS);

	if (from >= stored)
		return UINT64_MAX;
	if (disk_next_data(sc->d, vv->sum->file, zone_at, &data) < 0 || data < zone_at)
		return data < zone_at ? UINT64_MAX : from;
	page = data / BLOCK_BYTES - 1;
	if (page / SUM_ZONE_PAGES > zone)
		from = page / SUM_ZONE_PAGES * SUM_ZONE_BLOCKS;
	from = next_in_zone(sc, vv, from);
	return from < stored ? from : UINT64_MAX;
}

int
scrub_next_group(struct scrub *sc, uint32_t volume, uint64_t from, uint64_t *ret_group)
{
	const struct view_volume *vv = view_find_volume(sc->v, volume);
	uint64_t written, stored, blocks;

	if (vv == NULL)
		return -HF_EVOLUME;
	blocks = view_volume_blocks(vv);
	if (view_next_entry(sc->v, sc->d, sc->cache, volume, from, true, &written) < 0)
		written = from; /* the index is damaged: group by group */
	stored = next_stored(sc, vv, from);
	if (stored < written)
		written = stored;
	*ret_group = written < blocks ? written / GROUP * GROUP : blocks;
	return 0;
}
