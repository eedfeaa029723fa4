/* SPDX-License-Identifier: Apache-2.0 */
/* A zone in memory as it lies in the file: leaves, level 1, level 2 and the top one behind another,
 * so that a digest is found by adding the level's first place to its number. What is touched is
 * marked per node; only pages with a mark are read. */
#include "storage/sum.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/transfer.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "pages are held as they are on disk");

enum {
	PAGE_DIGESTS = 512,
	PAGE_BYTES = 4096,
	NODES = SUM_ZONE_BLOCKS / 16, /* of level 1 */
	TOPS = NODES / 16,            /* of level 2 */
	NODES_AT = SUM_ZONE_BLOCKS,
	TOPS_AT = NODES_AT + NODES,
	ROOT_AT = TOPS_AT + TOPS,
	NODE_PAGE = NODES_AT / PAGE_DIGESTS,
	TOP_PAGE = TOPS_AT / PAGE_DIGESTS,
	MARKS_PER_PAGE = PAGE_DIGESTS / 16, /* parents over one page of children */
	SCRATCH_PAGES = 32,
};

_Static_assert(TOP_PAGE == SUM_ZONE_PAGES - 1, "the zone's layout");

struct sum_zone {
	uint64_t zone, digest_seed;
	uint64_t limit; /* blocks of the zone from this one on count as 0 where they are not set */
	bool touched;
	uint64_t *digests; /* SUM_ZONE_PAGES pages */
	unsigned char *scratch;
	uint64_t set[SUM_ZONE_BLOCKS / 64]; /* bits: leaves given by sum_zone_set() */
	uint64_t nodes[NODES / 64];         /* bits: to be recomputed */
	uint64_t tops[TOPS / 64];
	struct transfer transfers[SUM_ZONE_PAGES];
};

static bool
bit_get(const uint64_t *bits, uint64_t i)
{
	return (bits[i / 64] >> i % 64 & 1) != 0;
}

static void
bit_set(uint64_t *bits, uint64_t i)
{
	bits[i / 64] |= (uint64_t)1 << i % 64;
}

/* ---- life ---- */

int
sum_zone_create(struct sum_zone **ret_zone)
{
	struct sum_zone *z = calloc(1, sizeof *z);

	if (z == NULL)
		return -ENOMEM;
	z->digests = buffer_alloc(SUM_ZONE_PAGES * PAGE_BYTES);
	z->scratch = buffer_alloc(SCRATCH_PAGES * PAGE_BYTES);
	if (z->digests == NULL || z->scratch == NULL) {
		sum_zone_destroy(z);
		return -ENOMEM;
	}
	*ret_zone = z;
	return 0;
}

void
sum_zone_destroy(struct sum_zone *z)
{
	if (z == NULL)
		return;
	buffer_free(z->digests, SUM_ZONE_PAGES * PAGE_BYTES);
	buffer_free(z->scratch, SCRATCH_PAGES * PAGE_BYTES);
	free(z);
}

/* ---- marking ---- */

void
sum_zone_begin(struct sum_zone *z, uint64_t zone, uint64_t digest_seed)
{
	z->zone = zone;
	z->digest_seed = digest_seed;
	z->limit = SUM_ZONE_BLOCKS;
	z->touched = false;
	memset(z->set, 0, sizeof z->set);
	memset(z->nodes, 0, sizeof z->nodes);
	memset(z->tops, 0, sizeof z->tops);
}

void
sum_zone_limit(struct sum_zone *z, uint64_t block)
{
	uint64_t begin = z->zone * SUM_ZONE_BLOCKS;

	assert(!z->touched);
	if (block >= begin + SUM_ZONE_BLOCKS)
		return;
	z->limit = block > begin ? block - begin : 0;
	z->touched = true;
	if (z->limit % 16 != 0)
		bit_set(z->nodes, z->limit / 16);
	if (z->limit % 256 != 0)
		bit_set(z->tops, z->limit / 256);
}

void
sum_zone_set(struct sum_zone *z, uint64_t block, uint64_t digest)
{
	uint64_t i = block - z->zone * SUM_ZONE_BLOCKS;

	assert(i < SUM_ZONE_BLOCKS);
	z->digests[i] = digest;
	z->touched = true;
	bit_set(z->set, i);
	bit_set(z->nodes, i / 16);
	bit_set(z->tops, i / 256);
}

/* ---- reading ---- */

/* MARKS_PER_PAGE is 32: the marks over one page are half a word. */
static bool
half_word(const uint64_t *bits, unsigned i)
{
	return (uint32_t)(bits[i / 2] >> i % 2 * MARKS_PER_PAGE) != 0;
}

static bool
page_touched(const struct sum_zone *z, unsigned page)
{
	if (page < NODE_PAGE)
		return half_word(z->nodes, page);
	if (page < TOP_PAGE)
		return half_word(z->tops, page - NODE_PAGE);
	return z->touched;
}

static uint64_t
page_offset(const struct sum_zone *z, unsigned page)
{
	return PAGE_BYTES + (z->zone * SUM_ZONE_PAGES + page) * PAGE_BYTES;
}

/* The first block under place i of the zone. */
static uint64_t
first_block(unsigned i)
{
	if (i < NODES_AT)
		return i;
	if (i < TOPS_AT)
		return (i - NODES_AT) * 16;
	if (i < ROOT_AT)
		return (i - TOPS_AT) * 256;
	return 0;
}

/* Take over a page as stored; what was set, or lies beyond the limit, is not overwritten with it.
 */
static void
merge_page(struct sum_zone *z, unsigned page, const uint64_t *stored)
{
	for (unsigned i = page * PAGE_DIGESTS; i < (page + 1) * PAGE_DIGESTS; i++) {
		if (i < NODES_AT && bit_get(z->set, i))
			continue;
		z->digests[i] = first_block(i) < z->limit ? stored[i % PAGE_DIGESTS] : 0;
	}
}

static bool
all_set(const uint64_t *words, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (words[i] != UINT64_MAX)
			return false;
	return true;
}

/* Nothing of the stored page counts: it lies beyond the limit, or every digest in it is set or will be recomputed. */
static bool
page_superseded(const struct sum_zone *z, unsigned page)
{
	enum { WORDS = PAGE_DIGESTS / 64 };

	if (first_block(page * PAGE_DIGESTS) >= z->limit)
		return true;
	if (page < NODE_PAGE)
		return all_set(z->set + page * WORDS, WORDS);
	if (page < TOP_PAGE)
		return all_set(z->nodes + (page - NODE_PAGE) * WORDS, WORDS);
	return all_set(z->tops, TOPS / 64);
}

static int
read_scratch(struct sum_zone *z, struct disk *d, const unsigned *pages, unsigned n)
{
	struct transfer *t = z->transfers;
	int r = transfers_read(d, t, n);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < n; i++) {
		memset((char *)t[i].buf + t[i].res, 0, PAGE_BYTES - (size_t)t[i].res); /* end of file */
		merge_page(z, pages[i], t[i].buf);
	}
	return 0;
}

static int
read_touched(struct sum_zone *z, struct disk *d, struct disk_file *f)
{
	static const uint64_t nothing[PAGE_DIGESTS];
	unsigned pages[SCRATCH_PAGES], n = 0;
	int r = 0;

	for (unsigned page = 0; r == 0 && page < SUM_ZONE_PAGES; page++) {
		if (!page_touched(z, page))
			continue;
		if (page_superseded(z, page)) {
			merge_page(z, page, nothing);
			continue;
		}
		pages[n] = page;
		z->transfers[n] = (struct transfer){
		    .file = f, .buf = z->scratch + n * PAGE_BYTES, .len = PAGE_BYTES, .offset = page_offset(z, page)};
		if (++n == SCRATCH_PAGES) {
			r = read_scratch(z, d, pages, n);
			n = 0;
		}
	}
	return r == 0 ? read_scratch(z, d, pages, n) : r;
}

/* ---- recomputing ---- */

static void
recompute(struct sum_zone *z)
{
	for (unsigned i = 0; i < NODES; i++)
		if (bit_get(z->nodes, i))
			z->digests[NODES_AT + i] = digest_node(z->digest_seed, &z->digests[i * 16], 16);
	for (unsigned i = 0; i < TOPS; i++)
		if (bit_get(z->tops, i))
			z->digests[TOPS_AT + i] = digest_node(z->digest_seed, &z->digests[NODES_AT + i * 16], 16);
	z->digests[ROOT_AT] = digest_node(z->digest_seed, &z->digests[TOPS_AT], TOPS);
}

int
sum_zone_update(struct sum_zone *z, struct disk *d, struct disk_file *f)
{
	int r;

	if (!z->touched)
		return 0;
	r = read_touched(z, d, f);
	if (r == 0)
		recompute(z);
	return r;
}

/* Adjacent touched pages go in one write. */
static unsigned
gather_writes(struct sum_zone *z, struct disk_file *f)
{
	struct transfer *t = z->transfers;
	unsigned n = 0;

	for (unsigned page = 0; page < SUM_ZONE_PAGES; page++) {
		if (!page_touched(z, page))
			continue;
		if (n > 0 && t[n - 1].offset + t[n - 1].len == page_offset(z, page))
			t[n - 1].len += PAGE_BYTES;
		else
			t[n++] = (struct transfer){.file = f,
			    .buf = z->digests + page * PAGE_DIGESTS,
			    .len = PAGE_BYTES,
			    .offset = page_offset(z, page)};
	}
	return n;
}

int
sum_zone_store(struct sum_zone *z, struct disk *d, struct disk_file *f)
{
	int r = sum_zone_update(z, d, f);

	if (r < 0)
		return r;
	return transfers_write(d, z->transfers, gather_writes(z, f));
}

/* ---- finding ---- */

static bool
recomputed(const struct sum_zone *z, int level, uint64_t i)
{
	switch (level) {
	case 0: return bit_get(z->set, i);
	case 1: return bit_get(z->nodes, i);
	case 2: return bit_get(z->tops, i);
	default: return z->touched;
	}
}

bool
sum_zone_find(const struct sum_zone *z, int level, uint64_t index, uint64_t *ret_digest)
{
	static const unsigned level_at[DIGEST_LEVELS] = {0, NODES_AT, TOPS_AT, ROOT_AT};
	uint64_t i;

	assert(level >= 0 && level < DIGEST_LEVELS);
	i = index - z->zone * (SUM_ZONE_BLOCKS / digest_level_blocks(level));
	assert(i < SUM_ZONE_BLOCKS / digest_level_blocks(level));
	if (recomputed(z, level, i))
		*ret_digest = z->digests[level_at[level] + i];
	else if (i * digest_level_blocks(level) >= z->limit)
		*ret_digest = 0;
	else
		return false;
	return true;
}
