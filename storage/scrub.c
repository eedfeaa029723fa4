/* SPDX-License-Identifier: Apache-2.0 */
/* A group of the staging file goes like this: digests are read, then every block that has one, then the tree is gone
 * through from below. A node of level 1 that does not fit its 16 leaves is the interesting case: either it is wrong or
 * some of them are, and the data decides. If all data fits its leaves, the node is wrong, unless its own parent
 * confirms it; then data and leaves are both older than the tree, and nobody can tell what should be there. If with the
 * digests of the data in the place of some leaves the node fits, these leaves were wrong.
 *
 * Versions in the journal are gathered over several groups and read in the order they lie there. Their digests are in
 * the run, whose pages have checksums, so there is nothing to tell apart. */
#include "storage/scrub.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/pack.h"
#include "storage/plant.h"
#include "storage/segment.h"
#include "storage/view_impl.h"

enum {
	GROUP = SCRUB_GROUP_BLOCKS,
	CHILDREN = 16,
	NODES = GROUP / CHILDREN, /* of level 1 in a group */
	TOPS = 256,               /* of level 2 in a zone */
	BATCH = 256,              /* versions read together */
	ZONE_NODES = TOPS * NODES,
	LEAVES = 512, /* in a page */
};

struct scrub {
	struct view *v;
	struct disk *d;
	struct run_cache *cache;
	uint64_t fold_lsn;
	scrub_found *found;
	void *arg;
	struct scrub_stats stats;

	/* how much may be written */
	bool mend_digests;
	const struct scrub_offer *offer;
	bool mending;

	/* the zone at hand */
	const struct view_volume *volume;
	uint64_t zone; /* UINT64_MAX: none */
	uint64_t tops[TOPS], root;

	/* the group at hand */
	uint64_t group;
	unsigned count; /* blocks of it that are stored */
	uint64_t leaves[GROUP], nodes[NODES];
	uint64_t data[GROUP];  /* digests of what was read */
	uint64_t newer[GROUP]; /* LSN of the block's oldest version in the journal; UINT64_MAX = none */
	bool read[GROUP];
	int status[GROUP]; /* of its read */
	bool contradiction;
	unsigned char *buf; /* GROUP blocks */

	/* versions in the journal */
	struct entry batch[BATCH];
	size_t batch_count;
	unsigned char *batch_buf;
	unsigned char *scratch; /* one block: what was written, read again */
	struct transfer transfers[GROUP];
	unsigned first[GROUP]; /* block of the group, or number in the batch, that a transfer begins with */
};

/* ---- life ---- */

int
scrub_create(struct view *v, struct disk *d, struct run_cache *cache, uint64_t fold_lsn, scrub_found *found, void *arg,
    struct scrub **ret_scrub)
{
	struct scrub *sc = calloc(1, sizeof *sc);

	if (sc == NULL)
		return -ENOMEM;
	sc->v = v;
	sc->d = d;
	sc->cache = cache;
	sc->fold_lsn = fold_lsn;
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
	if (c->lsn < d->lsn || c->lsn >= d->lsn_next)
		return false;
	for (uint32_t i = 0; i < c->volume_count; i++)
		if (d->volume == c->volumes[i].volume)
			return d->block * BLOCK_BYTES < c->volumes[i].size_bytes;
	return d->volume == 0; /* a page of the index: nobody knows which */
}

static void
report_block(struct scrub *sc, unsigned i, uint64_t digest, int status)
{
	struct damage d = {.volume = sc->volume->volume,
	    .block = sc->group + i,
	    .lsn = sc->v->base_lsn,
	    .lsn_next = sc->newer[i],
	    .digest = digest,
	    .status = status};

	sc->found(sc->arg, &d);
}

/* The index cannot be read here: any point may need what it would say. */
static void
report_group(struct scrub *sc, int status)
{
	struct damage d = {.volume = sc->volume->volume,
	    .block = sc->group,
	    .lsn = sc->v->base_lsn,
	    .lsn_next = UINT64_MAX,
	    .status = status};

	sc->found(sc->arg, &d);
}

struct newer_version {
	uint64_t lsn;
};

static int
on_newer_version(void *arg, const struct entry *e)
{
	struct newer_version *n = arg;

	if (e->lsn < n->lsn)
		n->lsn = e->lsn;
	return 0;
}

/* LSN of the next version of a block; UINT64_MAX if it is the newest (or that cannot be told). */
static uint64_t
find_newer(struct scrub *sc, uint32_t volume, uint64_t block, uint64_t lsn)
{
	struct newer_version n = {UINT64_MAX};

	for (size_t i = 0; i < sc->v->run_count; i++)
		(void)run_scan(sc->v->runs[i], sc->d, sc->cache, volume, block, block + 1, lsn, UINT64_MAX,
		    on_newer_version, &n); /* what cannot be read hides no damage: it is reported by itself */
	return n.lsn;
}

static void
report_entry(struct scrub *sc, const struct entry *e, int status)
{
	struct damage d = {.volume = e->volume,
	    .block = e->block,
	    .segment = e->segment,
	    .offset = e->offset,
	    .lsn = e->lsn,
	    .lsn_next = find_newer(sc, e->volume, e->block, e->lsn),
	    .digest = e->digest,
	    .status = status};

	sc->found(sc->arg, &d);
}

/* ---- healing ---- */

/* The same bytes to the same place, but, where the file system can, to other sectors of the disk: that is what the hole
 * is for. A cut leaves the old rot, a hole, or parts of the right bytes: none of them matches the digest. */
static int
rewrite(struct scrub *sc, struct disk_file *f, uint64_t offset, const struct scrub_offer *o)
{
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

static bool
is_offered(const struct scrub *sc, uint32_t volume, uint64_t block, uint64_t digest)
{
	const struct scrub_offer *o = sc->offer;

	return o != NULL && o->volume == volume && o->block == block && (o->digest == digest || PLANTED(81));
}

/* ---- digests that were wrong ---- */

/* False: it could not be mended. */
static bool
mend_digest(struct scrub *sc, int level, uint64_t index, uint64_t digest)
{
	int r;

	if (!sc->mend_digests)
		return false;
	r = sum_mend(sc->d, sc->volume->sum->file, level, index, digest);
	sc->stats.digests_mended += r == 0;
	return r == 0;
}

/* A fold that was cut may have left digests new or old, and a fill that goes on changes the nodes at its frontier. */
static bool
is_settled(const struct scrub *sc, int level, uint64_t index)
{
	uint64_t end = (index + 1) * digest_level_blocks(level);

	return sc->fold_lsn <= sc->v->base_lsn &&
	       (end <= sc->volume->frontier_blocks || sc->volume->frontier_blocks >= view_volume_blocks(sc->volume));
}

static bool
fits(const struct scrub *sc, const uint64_t *children, size_t n, uint64_t parent)
{
	return digest_node(sc->v->digest_seed, children, n) == parent;
}

/* Of a zone's root alone: it is wrong if everything under it agrees. */
static int
check_root(struct scrub *sc)
{
	uint64_t *nodes, root = digest_node(sc->v->digest_seed, sc->tops, TOPS);
	bool agree = true;
	int r;

	if (!is_settled(sc, 3, sc->zone) || root == sc->root)
		return 0;
	nodes = malloc(ZONE_NODES * sizeof *nodes);
	if (nodes == NULL)
		return -ENOMEM;
	r = sum_read(sc->d, sc->volume->sum->file, 1, sc->zone * ZONE_NODES, ZONE_NODES, nodes);
	for (unsigned i = 0; r == 0 && i < TOPS; i++)
		agree &= fits(sc, nodes + i * NODES, NODES, sc->tops[i]);
	free(nodes);
	if (r == 0 && agree && !mend_digest(sc, 3, sc->zone, root))
		report_group(sc, -HF_ECORRUPT);
	return r;
}

static int
enter_zone(struct scrub *sc)
{
	uint64_t zone = sc->group / SUM_ZONE_BLOCKS;
	struct disk_file *sum = sc->volume->sum->file;
	int r;

	if (sc->zone == zone)
		return 0;
	sc->zone = UINT64_MAX;
	r = sum_read(sc->d, sum, 2, zone * TOPS, TOPS, sc->tops);
	if (r == 0)
		r = sum_read(sc->d, sum, 3, zone, 1, &sc->root);
	if (r < 0)
		return r;
	sc->zone = zone;
	return check_root(sc);
}

/* ---- a group: loading ---- */

static int
on_older_bound(void *arg, const struct entry *e)
{
	struct scrub *sc = arg;
	uint64_t begin = e->block > sc->group ? e->block : sc->group;
	uint64_t end = e->block + e->count < sc->group + GROUP ? e->block + e->count : sc->group + GROUP;

	for (uint64_t block = begin; block < end; block++)
		if (e->lsn < sc->newer[block - sc->group])
			sc->newer[block - sc->group] = e->lsn;
	return 0;
}

static int
load_newer(struct scrub *sc)
{
	int r = 0;

	for (unsigned i = 0; i < GROUP; i++)
		sc->newer[i] = UINT64_MAX;
	for (size_t i = 0; r == 0 && i < sc->v->run_count; i++)
		r = run_scan(sc->v->runs[i], sc->d, sc->cache, sc->volume->volume, sc->group, sc->group + GROUP,
		    sc->v->base_lsn, UINT64_MAX, on_older_bound, sc);
	return r;
}

static int
load_digests(struct scrub *sc)
{
	uint64_t stored = view_stored_blocks(sc->volume);
	struct disk_file *sum = sc->volume->sum->file;
	int r;

	sc->count = 0;
	if (stored > sc->group)
		sc->count = stored - sc->group < GROUP ? (unsigned)(stored - sc->group) : GROUP;
	memset(sc->leaves, 0, sizeof sc->leaves);
	r = sum_read(sc->d, sum, 0, sc->group, sc->count, sc->leaves);
	if (r == 0)
		r = sum_read(sc->d, sum, 1, sc->group / CHILDREN, NODES, sc->nodes);
	return r;
}

/* A fold that has not ended may have written it, or a part of it: everybody reads it from the journal. */
static bool
is_shadowed(const struct scrub *sc, unsigned i)
{
	return sc->newer[i] <= sc->fold_lsn;
}

static bool
node_is_settled(const struct scrub *sc, unsigned n)
{
	uint64_t end = sc->group + (n + 1) * CHILDREN;

	for (unsigned i = n * CHILDREN; i < (n + 1) * CHILDREN; i++)
		if (is_shadowed(sc, i))
			return false;
	return end <= sc->volume->frontier_blocks || sc->volume->frontier_blocks >= view_volume_blocks(sc->volume);
}

static bool
node_fits(const struct scrub *sc, unsigned n)
{
	return fits(sc, sc->leaves + n * CHILDREN, CHILDREN, sc->nodes[n]);
}

/* Zeros are not read, unless their leaf may be what rotted. */
static bool
is_wanted(const struct scrub *sc, unsigned i)
{
	unsigned n = i / CHILDREN;

	if (is_shadowed(sc, i))
		return false;
	return sc->leaves[i] != 0 || (node_is_settled(sc, n) && !node_fits(sc, n));
}

/* ---- a group: reading ---- */

static void
digest_transfer(struct scrub *sc, const struct transfer *t, unsigned i)
{
	for (size_t at = 0; at < t->len; at += BLOCK_BYTES, i++) {
		unsigned char *block = (unsigned char *)t->buf + at;

		sc->read[i] = true;
		sc->status[i] = 0;
		if (t->res != (int)t->len) /* one bad sector is not to cost the others */
			sc->status[i] =
			    disk_read_now(sc->d, t->file, block, BLOCK_BYTES, (sc->group + i) * BLOCK_BYTES);
		sc->data[i] = sc->status[i] == 0 ? digest_block(sc->v->digest_seed, block) : 0;
		sc->stats.blocks++;
		sc->stats.bytes += BLOCK_BYTES;
	}
}

static void
read_group(struct scrub *sc)
{
	struct transfer *t = sc->transfers;
	size_t n = 0;

	memset(sc->read, 0, sizeof sc->read);
	for (unsigned i = 0; i < sc->count; i++) {
		if (!is_wanted(sc, i))
			continue;
		if (n > 0 && sc->first[n - 1] + t[n - 1].len / BLOCK_BYTES == i) {
			t[n - 1].len += BLOCK_BYTES;
			continue;
		}
		sc->first[n] = i;
		t[n++] = (struct transfer){.file = sc->volume->img->file,
		    .buf = sc->buf + (size_t)i * BLOCK_BYTES,
		    .len = BLOCK_BYTES,
		    .offset = (sc->group + i) * BLOCK_BYTES};
	}
	(void)transfers_read(sc->d, t, n); /* each one's result is looked at */
	for (size_t k = 0; k < n; k++)
		digest_transfer(sc, &t[k], sc->first[k]);
}

/* ---- a group: judging its digests ---- */

/* With the data's digests in the place of some leaves, and of no more than must be, does the node fit? Bit k of what it
 * returns: leaf k is wrong. 0: it cannot be told. */
static unsigned
find_wrong_leaves(const struct scrub *sc, unsigned n)
{
	const uint64_t *leaves = sc->leaves + n * CHILDREN;
	uint64_t tried[CHILDREN];
	unsigned differ = 0;

	for (unsigned k = 0; k < CHILDREN; k++) {
		unsigned i = n * CHILDREN + k;

		if (sc->read[i] && sc->status[i] == 0 && sc->data[i] != leaves[k])
			differ |= 1u << k;
	}
	for (unsigned wrong = differ; wrong != 0; wrong = (wrong - 1) & differ) { /* every part of it */
		for (unsigned k = 0; k < CHILDREN; k++)
			tried[k] = (wrong >> k & 1) != 0 ? sc->data[n * CHILDREN + k] : leaves[k];
		if (fits(sc, tried, CHILDREN, sc->nodes[n]))
			return wrong;
	}
	return 0;
}

static bool
data_fits(const struct scrub *sc, unsigned n)
{
	for (unsigned i = n * CHILDREN; i < (n + 1) * CHILDREN; i++)
		if (sc->read[i] && (sc->status[i] < 0 || sc->data[i] != sc->leaves[i]))
			return false;
	return true;
}

static void
mend_leaves(struct scrub *sc, unsigned n, unsigned wrong)
{
	for (unsigned k = 0; k < CHILDREN; k++) {
		unsigned i = n * CHILDREN + k;

		if ((wrong >> k & 1) == 0)
			continue;
		if (mend_digest(sc, 0, sc->group + i, sc->data[i]))
			sc->leaves[i] = sc->data[i];
		else
			report_block(sc, i, 0, -HF_ECORRUPT);
		sc->read[i] = false; /* judged: it is not the data */
	}
}

static void
contradict(struct scrub *sc, unsigned n)
{
	report_block(sc, n * CHILDREN, 0, -HF_ECORRUPT);
	sc->contradiction = true;
}

/* confirmed: the parent of the nodes fits them as they are. */
static void
judge_node(struct scrub *sc, unsigned n, bool confirmed)
{
	uint64_t right = digest_node(sc->v->digest_seed, sc->leaves + n * CHILDREN, CHILDREN);
	unsigned wrong;

	if (right == sc->nodes[n])
		return;
	wrong = find_wrong_leaves(sc, n);
	if (wrong != 0)
		mend_leaves(sc, n, wrong);
	else if (data_fits(sc, n) && !confirmed && mend_digest(sc, 1, sc->group / CHILDREN + n, right))
		sc->nodes[n] = right;
	else
		contradict(sc, n);
}

/* Of the node above: the same, with what it confirms and is confirmed by. */
static void
judge_top(struct scrub *sc)
{
	uint64_t index = sc->group / GROUP, right = digest_node(sc->v->digest_seed, sc->nodes, NODES);
	uint64_t *top = &sc->tops[index % TOPS];

	if (sc->contradiction || right == *top || !is_settled(sc, 2, index))
		return;
	if (!fits(sc, sc->tops, TOPS, sc->root) && mend_digest(sc, 2, index, right))
		*top = right;
	else
		contradict(sc, 0);
}

static void
judge_digests(struct scrub *sc)
{
	bool confirmed = fits(sc, sc->nodes, NODES, sc->tops[sc->group / GROUP % TOPS]);

	sc->contradiction = false;
	for (unsigned n = 0; n * CHILDREN < sc->count; n++)
		if (node_is_settled(sc, n))
			judge_node(sc, n, confirmed);
		else
			sc->contradiction = true; /* nor can what is above be judged */
	judge_top(sc);
}

/* ---- a group: judging its data ---- */

static void
judge_block(struct scrub *sc, unsigned i)
{
	uint64_t digest = sc->leaves[i];
	int status = sc->status[i] < 0 ? sc->status[i] : -HF_EDIGEST;

	if (digest == 0 || (sc->status[i] == 0 && sc->data[i] == digest))
		return;
	if (is_offered(sc, sc->volume->volume, sc->group + i, digest))
		status = rewrite(sc, sc->volume->img->file, (sc->group + i) * BLOCK_BYTES, sc->offer);
	if (status < 0)
		report_block(sc, i, digest, status);
}

static int
check_stored(struct scrub *sc)
{
	int r = load_digests(sc);

	if (r == 0)
		r = enter_zone(sc);
	if (r < 0)
		return r;
	read_group(sc);
	judge_digests(sc);
	for (unsigned i = 0; i < sc->count; i++)
		if (sc->read[i])
			judge_block(sc, i);
	return 0;
}

/* ---- versions in the journal ---- */

static int
by_place(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static size_t
plan_batch(struct scrub *sc)
{
	struct transfer *t = sc->transfers;
	size_t n = 0;

	for (unsigned i = 0; i < sc->batch_count; i++) {
		const struct entry *e = &sc->batch[i];

		if (n > 0 && e->segment == e[-1].segment && e->offset == e[-1].offset + 1) {
			t[n - 1].len += BLOCK_BYTES;
			continue;
		}
		sc->first[n] = i;
		t[n++] = (struct transfer){.file = view_find_segment(sc->v, e->segment),
		    .buf = sc->batch_buf + (size_t)i * BLOCK_BYTES,
		    .len = BLOCK_BYTES,
		    .offset = (uint64_t)e->offset * BLOCK_BYTES};
	}
	return n;
}

static void
judge_entry(struct scrub *sc, const struct transfer *t, const struct entry *e, const void *block)
{
	uint64_t offset = (uint64_t)e->offset * BLOCK_BYTES;
	int r = 0;

	if (t->res != (int)t->len)
		r = disk_read_now(sc->d, t->file, sc->scratch, BLOCK_BYTES, offset);
	if (r == 0 && digest_block(sc->v->digest_seed, t->res != (int)t->len ? sc->scratch : block) != e->digest)
		r = -HF_EDIGEST;
	sc->stats.blocks++;
	sc->stats.bytes += BLOCK_BYTES;
	if (r < 0 && is_offered(sc, e->volume, e->block, e->digest))
		r = rewrite(sc, t->file, offset, sc->offer);
	if (r < 0)
		report_entry(sc, e, r);
}

/* Entries whose segment is missing come first, for segments are sorted out before anything is read. */
static void
drop_missing(struct scrub *sc)
{
	size_t n = 0;

	for (size_t i = 0; i < sc->batch_count; i++) {
		if (view_find_segment(sc->v, sc->batch[i].segment) != NULL)
			sc->batch[n++] = sc->batch[i];
		else
			report_entry(sc, &sc->batch[i], -HF_ECORRUPT);
	}
	sc->batch_count = n;
}

static void
read_batch(struct scrub *sc)
{
	size_t n;

	drop_missing(sc);
	if (sc->batch_count > 0)
		qsort(sc->batch, sc->batch_count, sizeof *sc->batch, by_place);
	n = plan_batch(sc);
	(void)transfers_read(sc->d, sc->transfers, n); /* each one's result is looked at */
	for (size_t k = 0; k < n; k++) {
		const struct transfer *t = &sc->transfers[k];

		for (size_t i = 0; i < t->len / BLOCK_BYTES; i++)
			judge_entry(
			    sc, t, &sc->batch[sc->first[k] + i], (const unsigned char *)t->buf + i * BLOCK_BYTES);
	}
	sc->batch_count = 0;
}

struct gather {
	struct scrub *sc;
	uint64_t block; /* from here on: it was full before */
	uint64_t lsn;   /* and of that block after this one */
	bool full;
};

/* Entries come in order of block, then of LSN. */
static int
on_version(void *arg, const struct entry *e)
{
	struct gather *g = arg;
	struct scrub *sc = g->sc;

	if (e->digest == 0 || e->block < g->block || (e->block == g->block && e->lsn <= g->lsn))
		return 0;
	if (sc->batch_count == BATCH)
		return 1;
	sc->batch[sc->batch_count++] = *e;
	g->block = e->block;
	g->lsn = e->lsn;
	return 0;
}

/* Full batches are read between two scans, for the scan's page must stay where it is meanwhile. */
static int
check_run(struct scrub *sc, struct run *run)
{
	struct gather g = {.sc = sc, .block = sc->group};
	int r;

	do {
		r = run_scan(run, sc->d, sc->cache, sc->volume->volume, g.block, sc->group + GROUP, sc->v->base_lsn,
		    sc->v->lsn, on_version, &g);
		if (r > 0)
			read_batch(sc);
	} while (r > 0);
	return r;
}

static int
check_versions(struct scrub *sc)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < sc->v->run_count && !PLANTED(82); i++)
		r = check_run(sc, sc->v->runs[i]);
	return r;
}

void
scrub_flush(struct scrub *sc)
{
	read_batch(sc);
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
	r = load_newer(sc);
	if (r == 0)
		r = check_stored(sc);
	if (r == 0)
		r = check_versions(sc);
	if (r == 0 || r == -ENOMEM)
		return r;
	report_group(sc, r);
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

/* ---- runs ---- */

static struct run *
find_run(const struct scrub *sc, uint64_t from)
{
	struct run *found = NULL;

	for (size_t i = 0; i < sc->v->run_count; i++) {
		struct run *run = sc->v->runs[i];

		if (run_number(run) >= from && run_number(run) != 0 &&
		    (found == NULL || run_number(run) < run_number(found)))
			found = run;
	}
	return found;
}

static void
report_page(struct scrub *sc, const struct run *run, uint64_t page, int status)
{
	struct damage d = {.segment = (uint32_t)run_number(run),
	    .block = page,
	    .lsn = sc->v->base_lsn,
	    .lsn_next = UINT64_MAX,
	    .status = status};

	sc->found(sc->arg, &d);
}

static void
check_pages(struct scrub *sc, struct run *run, uint64_t first, size_t n)
{
	struct transfer t = {
	    .file = run_file(run), .buf = sc->buf, .len = n * BLOCK_BYTES, .offset = first * BLOCK_BYTES};
	int r = transfers_read(sc->d, &t, 1);

	for (size_t i = 0; i < n; i++) {
		int status = r < 0 ? r : run_check_page(run, sc->buf + i * BLOCK_BYTES, first + i);

		if (r == 0 && (size_t)t.res < (i + 1) * BLOCK_BYTES)
			status = -HF_ECORRUPT;
		if (status < 0)
			report_page(sc, run, first + i, status);
	}
	sc->stats.bytes += n * BLOCK_BYTES;
}

int
scrub_runs(struct scrub *sc, uint64_t *number, uint64_t *page, uint64_t max_bytes)
{
	uint64_t begun = sc->stats.bytes;

	while (sc->stats.bytes - begun < max_bytes) {
		struct run *run = find_run(sc, *number);
		uint64_t left;

		if (run == NULL) {
			*number = UINT64_MAX;
			return 0;
		}
		if (run_number(run) != *number)
			*page = 0;
		*number = run_number(run);
		left = run_pages(run) > *page ? run_pages(run) - *page : 0;
		check_pages(sc, run, *page, left < GROUP ? (size_t)left : GROUP);
		*page += GROUP;
		if (left <= GROUP) {
			(*number)++;
			*page = 0;
		}
	}
	return 0;
}

/* ---- headers of segments ---- */

static int
check_header(const unsigned char *page, uint64_t number)
{
	struct segment_header h;
	struct pack_header p;
	int r = segment_header_decode(page, &h);

	if (r == 0)
		return h.number == number ? 0 : -HF_ECORRUPT;
	if (r == -ENODATA) /* prepared, and not begun */
		return 0;
	return pack_header_decode(page, &p) == 0 && p.number == number ? 0 : -HF_ECORRUPT;
}

void
scrub_headers(struct scrub *sc)
{
	for (size_t i = 0; i < sc->v->segment_count; i++) {
		const struct shared_file *f = sc->v->segments[i];
		struct damage d = {.segment = (uint32_t)f->number,
		    .block = SCRUB_HEADER_BLOCK,
		    .lsn = sc->v->base_lsn,
		    .lsn_next = UINT64_MAX};

		d.status = disk_read_now(sc->d, f->file, sc->scratch, BLOCK_BYTES, 0);
		if (d.status == 0)
			d.status = check_header(sc->scratch, f->number);
		sc->stats.bytes += BLOCK_BYTES;
		if (d.status < 0)
			sc->found(sc->arg, &d);
	}
}
