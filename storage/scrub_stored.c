/* SPDX-License-Identifier: Apache-2.0 */
/* A group of the staging file goes like this: digests are read, then every block that has one, then the tree is gone
 * through from below. A node of level 1 that does not fit its 16 leaves is the interesting case: either it is wrong or
 * some of them are, and the data decides. If all data fits its leaves, the node is wrong, unless its own parent
 * confirms it; then data and leaves are both older than the tree, and nobody can tell what should be there. If with the
 * digests of the data in the place of some leaves the node fits, these leaves were wrong. */
#include "storage/scrub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/plant.h"
#include "storage/scrub_impl.h"

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

static bool
counts(const struct scrub *sc, int level, uint64_t index)
{
	return scrub_node_counts(sc->v, sc->d, sc->cache, sc->volume, level, index);
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

	if (root == sc->root || !counts(sc, 3, sc->zone))
		return 0;
	nodes = malloc(ZONE_NODES * sizeof *nodes);
	if (nodes == NULL)
		return -ENOMEM;
	r = sum_read(sc->d, sc->volume->sum->file, 1, sc->zone * ZONE_NODES, ZONE_NODES, nodes);
	for (unsigned i = 0; r == 0 && i < TOPS; i++)
		agree &= fits(sc, nodes + i * NODES, NODES, sc->tops[i]);
	free(nodes);
	if (r == 0 && agree && !mend_digest(sc, 3, sc->zone, root))
		scrub_report_group(sc, -HF_ECORRUPT);
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

/* Everybody reads it from the journal. */
static bool
is_shadowed(const struct scrub *sc, unsigned i)
{
	return sc->newer[i] <= sc->volume->first_point_lsn && sc->newer[i] != UINT64_MAX && !PLANTED(84);
}

static bool
node_fits(const struct scrub *sc, unsigned n)
{
	return fits(sc, sc->leaves + n * CHILDREN, CHILDREN, sc->nodes[n]);
}

static void
find_misfits(struct scrub *sc)
{
	for (unsigned n = 0; n < NODES; n++)
		sc->misfits[n] =
		    n * CHILDREN < sc->count && !node_fits(sc, n) && counts(sc, 1, sc->group / CHILDREN + n);
}

/* Zeros are not read, unless their leaf may be what rotted. */
static bool
is_wanted(const struct scrub *sc, unsigned i)
{
	if (is_shadowed(sc, i))
		return false;
	return sc->leaves[i] != 0 || sc->misfits[i / CHILDREN];
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
		if (PLANTED(83) || fits(sc, tried, CHILDREN, sc->nodes[n]))
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
	unsigned wrong = find_wrong_leaves(sc, n);

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

	if (sc->contradiction || right == *top || !counts(sc, 2, index))
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
		if (sc->misfits[n])
			judge_node(sc, n, confirmed);
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
	if (scrub_is_offered(sc, sc->volume->volume, sc->group + i, digest))
		status = scrub_rewrite(sc, sc->volume->img->file, (sc->group + i) * BLOCK_BYTES);
	if (status < 0)
		report_block(sc, i, digest, status);
}

int
scrub_check_stored(struct scrub *sc)
{
	int r = load_newer(sc);

	if (r == 0)
		r = load_digests(sc);
	if (r == 0)
		r = enter_zone(sc);
	if (r < 0)
		return r;
	find_misfits(sc);
	read_group(sc);
	judge_digests(sc);
	for (unsigned i = 0; i < sc->count; i++)
		if (sc->read[i])
			judge_block(sc, i);
	return 0;
}
