/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/sim_content.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/digest.h"

/* Blocks are found through sorted chunks of 64, so that a sequential file costs one entry per 256
 * KiB and a scattered one an entry per block. Ranges are few: allocation happens a segment at a
 * time. */
enum { CHUNK_BLOCKS = 64 };

struct sim_chunk {
	uint64_t number; /* block / CHUNK_BLOCKS */
	unsigned used;   /* pages that are not NULL; never 0 in a list */
	struct sim_page *pages[CHUNK_BLOCKS];
};

static const uint64_t BLOCKS_MAX = UINT64_MAX / SIM_BLOCK_BYTES;

static uint64_t
blocks_up(uint64_t bytes)
{
	return bytes / SIM_BLOCK_BYTES + (bytes % SIM_BLOCK_BYTES != 0);
}

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

/* ---- pages ---- */

/* A crash test makes and drops a million pages, and malloc would give them back to the kernel each
 * time: five sixths of the test's time. The sanitizers see every page go. */
#ifdef __SANITIZE_ADDRESS__
enum { SPARE_PAGES_MAX = 0 };
#else
enum { SPARE_PAGES_MAX = 4096 };
#endif
static _Thread_local struct {
	struct sim_page *pages[SPARE_PAGES_MAX + 1];
	int count;
} spare;

static struct sim_page *
page_alloc(void)
{
	struct sim_page *p = spare.count > 0 ? spare.pages[--spare.count] : malloc(sizeof *p);

	assert(p != NULL);
	return p;
}

static void
page_free(struct sim_page *p)
{
	if (spare.count < SPARE_PAGES_MAX)
		spare.pages[spare.count++] = p;
	else
		free(p);
}

struct sim_page *
sim_page_create(const void *bytes)
{
	struct sim_page *p = page_alloc();

	p->refs = 1;
	p->digest = 0;
	if (bytes != NULL)
		memcpy(p->bytes, bytes, sizeof p->bytes);
	else
		memset(p->bytes, 0, sizeof p->bytes);
	return p;
}

struct sim_page *
sim_page_ref(struct sim_page *p)
{
	p->refs++;
	return p;
}

void
sim_page_unref(struct sim_page *p)
{
	if (p != NULL && --p->refs == 0)
		page_free(p);
}

/* ---- chunks ---- */

/* Position of the first chunk whose number is at least `number`. */
static size_t
find_position(const struct sim_content *c, uint64_t number)
{
	size_t low = 0, high = c->chunks_count;

	/* Files grow at their end: look there first. */
	if (high > 0 && c->chunks[high - 1]->number < number)
		return high;
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (c->chunks[mid]->number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool
is_chunk_at(const struct sim_content *c, size_t i, uint64_t number)
{
	return i < c->chunks_count && c->chunks[i]->number == number;
}

static void
insert_chunk(struct sim_content *c, size_t i, uint64_t number)
{
	struct sim_chunk *chunk = calloc(1, sizeof *chunk);

	assert(chunk != NULL);
	chunk->number = number;
	if (c->chunks_count == c->chunks_capacity) {
		c->chunks_capacity = c->chunks_capacity > 0 ? 2 * c->chunks_capacity : 4;
		c->chunks = realloc(c->chunks, c->chunks_capacity * sizeof *c->chunks);
		assert(c->chunks != NULL);
	}
	memmove(&c->chunks[i + 1], &c->chunks[i], (c->chunks_count - i) * sizeof *c->chunks);
	c->chunks[i] = chunk;
	c->chunks_count++;
}

/* Free emptied chunks among [from, to) and close the gap. */
static void
drop_empty_chunks(struct sim_content *c, size_t from, size_t to)
{
	size_t kept = from;

	for (size_t i = from; i < to; i++) {
		if (c->chunks[i]->used == 0)
			free(c->chunks[i]);
		else
			c->chunks[kept++] = c->chunks[i];
	}
	memmove(&c->chunks[kept], &c->chunks[to], (c->chunks_count - to) * sizeof *c->chunks);
	c->chunks_count -= to - kept;
}

static void
drop_pages_of_chunk(struct sim_chunk *chunk, uint64_t begin, uint64_t end)
{
	uint64_t base = chunk->number * CHUNK_BLOCKS;
	uint64_t from = larger(begin, base) - base;
	uint64_t to = smaller(end - base, CHUNK_BLOCKS);

	for (uint64_t i = from; i < to; i++) {
		if (chunk->pages[i] == NULL)
			continue;
		sim_page_unref(chunk->pages[i]);
		chunk->pages[i] = NULL;
		chunk->used--;
	}
}

static void
drop_pages(struct sim_content *c, uint64_t begin, uint64_t end)
{
	size_t first = find_position(c, begin / CHUNK_BLOCKS);
	size_t i = first;

	for (; i < c->chunks_count && c->chunks[i]->number * CHUNK_BLOCKS < end; i++)
		drop_pages_of_chunk(c->chunks[i], begin, end);
	if (i > first)
		drop_empty_chunks(c, first, i);
}

struct sim_page *
sim_content_page(const struct sim_content *c, uint64_t block)
{
	size_t i = find_position(c, block / CHUNK_BLOCKS);

	return is_chunk_at(c, i, block / CHUNK_BLOCKS) ? c->chunks[i]->pages[block % CHUNK_BLOCKS] : NULL;
}

/* ---- allocated ranges ---- */

static bool
is_allocated(const struct sim_content *c, uint64_t block)
{
	for (size_t i = 0; i < c->ranges_count; i++) {
		if (c->ranges[i].begin <= block && block < c->ranges[i].end)
			return true;
	}
	return false;
}

static uint64_t
count_allocated(const struct sim_content *c, uint64_t begin, uint64_t end)
{
	uint64_t n = 0;

	for (size_t i = 0; i < c->ranges_count; i++) {
		uint64_t b = larger(begin, c->ranges[i].begin), e = smaller(end, c->ranges[i].end);

		if (b < e)
			n += e - b;
	}
	return n;
}

static void
append_range(struct sim_content *c, uint64_t begin, uint64_t end)
{
	if (c->ranges_count == c->ranges_capacity) {
		c->ranges_capacity = c->ranges_capacity > 0 ? 2 * c->ranges_capacity : 4;
		c->ranges = realloc(c->ranges, c->ranges_capacity * sizeof *c->ranges);
		assert(c->ranges != NULL);
	}
	c->ranges[c->ranges_count++] = (struct sim_range){begin, end};
}

/* Rebuild the list without begin..end; what was cut off on either side stays. Order does not
 * matter. */
static void
drop_ranges(struct sim_content *c, uint64_t begin, uint64_t end)
{
	size_t before = c->ranges_count;

	for (size_t i = 0; i < before; i++) {
		struct sim_range r = c->ranges[i];

		if (r.end <= begin || end <= r.begin)
			continue;
		c->ranges[i] = (struct sim_range){r.begin, larger(r.begin, begin)};
		if (end < r.end)
			append_range(c, end, r.end);
	}
	for (size_t i = 0; i < c->ranges_count;) {
		if (c->ranges[i].begin < c->ranges[i].end)
			i++;
		else
			c->ranges[i] = c->ranges[--c->ranges_count];
	}
}

/* ---- content ---- */

void
sim_content_fini(struct sim_content *c)
{
	for (size_t i = 0; i < c->chunks_count; i++) {
		for (size_t j = 0; j < CHUNK_BLOCKS; j++)
			sim_page_unref(c->chunks[i]->pages[j]);
		free(c->chunks[i]);
	}
	free(c->chunks);
	free(c->ranges);
	memset(c, 0, sizeof *c);
}

static struct sim_chunk *
copy_chunk(const struct sim_chunk *from)
{
	struct sim_chunk *to = malloc(sizeof *to);

	assert(to != NULL);
	*to = *from;
	for (size_t j = 0; j < CHUNK_BLOCKS; j++) {
		if (to->pages[j] != NULL)
			sim_page_ref(to->pages[j]);
	}
	return to;
}

void
sim_content_copy(struct sim_content *to, const struct sim_content *from)
{
	struct sim_content c = {.size = from->size, .blocks = from->blocks};

	for (size_t i = 0; i < from->ranges_count; i++)
		append_range(&c, from->ranges[i].begin, from->ranges[i].end);
	if (from->chunks_count > 0) {
		c.chunks = calloc(from->chunks_count, sizeof *c.chunks);
		assert(c.chunks != NULL);
		c.chunks_capacity = from->chunks_count;
	}
	for (size_t i = 0; i < from->chunks_count; i++)
		c.chunks[c.chunks_count++] = copy_chunk(from->chunks[i]);
	sim_content_fini(to);
	*to = c;
}

static uint64_t
count_pages_apart(const struct sim_content *c, const struct sim_chunk *chunk, uint64_t begin, uint64_t end)
{
	uint64_t base = chunk->number * CHUNK_BLOCKS, n = 0;

	for (uint64_t i = 0; i < CHUNK_BLOCKS; i++) {
		uint64_t block = base + i;

		if (chunk->pages[i] != NULL && begin <= block && block < end && !is_allocated(c, block))
			n++;
	}
	return n;
}

uint64_t
sim_content_new_blocks(const struct sim_content *c, uint64_t begin, uint64_t end)
{
	uint64_t n = end - begin - count_allocated(c, begin, end);
	size_t i = find_position(c, begin / CHUNK_BLOCKS);

	for (; i < c->chunks_count && c->chunks[i]->number * CHUNK_BLOCKS < end; i++)
		n -= count_pages_apart(c, c->chunks[i], begin, end);
	return n;
}

void
sim_content_put(struct sim_content *c, uint64_t block, struct sim_page *p)
{
	size_t i = find_position(c, block / CHUNK_BLOCKS);
	struct sim_page **slot;

	if (!is_chunk_at(c, i, block / CHUNK_BLOCKS))
		insert_chunk(c, i, block / CHUNK_BLOCKS);
	slot = &c->chunks[i]->pages[block % CHUNK_BLOCKS];
	if (*slot == NULL) {
		c->chunks[i]->used++;
		c->blocks += !is_allocated(c, block);
	}
	sim_page_ref(p);
	sim_page_unref(*slot);
	*slot = p;
}

/* Zero bytes from..to of one block, if it holds any. */
static void
zero_part(struct sim_content *c, uint64_t block, size_t from, size_t to)
{
	struct sim_page *old = sim_content_page(c, block), *p;

	if (old == NULL || from >= to)
		return;
	p = sim_page_create(old->bytes);
	memset(p->bytes + from, 0, to - from);
	sim_content_put(c, block, p);
	sim_page_unref(p);
}

static void
free_blocks(struct sim_content *c, uint64_t begin, uint64_t end)
{
	if (begin >= end)
		return;
	c->blocks -= end - begin - sim_content_new_blocks(c, begin, end);
	drop_ranges(c, begin, end);
	drop_pages(c, begin, end);
}

void
sim_content_truncate(struct sim_content *c, uint64_t size)
{
	if (size < c->size) {
		free_blocks(c, blocks_up(size), BLOCKS_MAX);
		if (size % SIM_BLOCK_BYTES != 0)
			zero_part(c, size / SIM_BLOCK_BYTES, size % SIM_BLOCK_BYTES, SIM_BLOCK_BYTES);
	}
	c->size = size;
}

void
sim_content_allocate(struct sim_content *c, uint64_t offset, uint64_t len)
{
	uint64_t begin = offset / SIM_BLOCK_BYTES, end = blocks_up(offset + len);

	c->blocks += sim_content_new_blocks(c, begin, end);
	drop_ranges(c, begin, end);
	if (c->ranges_count > 0 && c->ranges[c->ranges_count - 1].end == begin)
		c->ranges[c->ranges_count - 1].end = end; /* a file allocated step by step */
	else
		append_range(c, begin, end);
	c->size = larger(c->size, offset + len);
}

void
sim_content_punch(struct sim_content *c, uint64_t offset, uint64_t len)
{
	uint64_t begin = blocks_up(offset), end = (offset + len) / SIM_BLOCK_BYTES;
	size_t head = offset % SIM_BLOCK_BYTES, tail = (offset + len) % SIM_BLOCK_BYTES;

	if (begin > end) { /* inside one block */
		zero_part(c, end, head, tail);
		return;
	}
	if (head != 0)
		zero_part(c, begin - 1, head, SIM_BLOCK_BYTES);
	zero_part(c, end, 0, tail);
	free_blocks(c, begin, end);
}

static void
read_part(const struct sim_content *c, unsigned char *buf, size_t len, uint64_t offset)
{
	const struct sim_page *p = sim_content_page(c, offset / SIM_BLOCK_BYTES);

	if (p != NULL)
		memcpy(buf, p->bytes + offset % SIM_BLOCK_BYTES, len);
	else
		memset(buf, 0, len);
}

size_t
sim_content_read(const struct sim_content *c, void *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	if (offset >= c->size)
		return 0;
	len = (size_t)smaller(len, c->size - offset);
	while (done < len) {
		uint64_t at = offset + done;
		size_t n = (size_t)smaller(SIM_BLOCK_BYTES - at % SIM_BLOCK_BYTES, len - done);

		read_part(c, (unsigned char *)buf + done, n, at);
		done += n;
	}
	return len;
}

uint64_t
sim_content_next_data(const struct sim_content *c, uint64_t from)
{
	uint64_t block = from / SIM_BLOCK_BYTES;

	for (size_t i = find_position(c, block / CHUNK_BLOCKS); i < c->chunks_count; i++) {
		uint64_t base = c->chunks[i]->number * CHUNK_BLOCKS;

		for (uint64_t j = 0; j < CHUNK_BLOCKS; j++) {
			if (c->chunks[i]->pages[j] != NULL && base + j >= block)
				return smaller(larger(from, (base + j) * SIM_BLOCK_BYTES), c->size);
		}
	}
	return c->size;
}

static uint64_t
mix(uint64_t h, uint64_t value)
{
	h = (h ^ value) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 29;
}

/* Nobody changes a page that is somewhere. */
static uint64_t
page_digest(struct sim_page *p)
{
	if (p->digest == 0)
		p->digest = digest_block(0, p->bytes) | 1;
	return p->digest;
}

uint64_t
sim_content_hash(const struct sim_content *c, uint64_t seed)
{
	uint64_t h = mix(mix(seed, c->size), c->blocks);

	for (size_t i = 0; i < c->chunks_count; i++)
		for (size_t j = 0; j < CHUNK_BLOCKS; j++)
			if (c->chunks[i]->pages[j] != NULL)
				h = mix(mix(h, c->chunks[i]->number * CHUNK_BLOCKS + j),
				    page_digest(c->chunks[i]->pages[j]));
	return h;
}
