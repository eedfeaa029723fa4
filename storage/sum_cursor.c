/* SPDX-License-Identifier: Apache-2.0 */
/* The fill frontier. Below it all is digested, beyond it all is zero: so the three pages held here
 * (leaves, level 1, and the zone's top) are all there is to know, and whenever the frontier enters
 * a page, that page was empty. Load keeps this true after a cut: what an unfinished fill left
 * beyond the durable frontier is cleared. */
#include "storage/sum.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "storage/plant.h"
#include "storage/transfer.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "pages are held as they are on disk");

enum { PAGE_DIGESTS = 512, PAGE_BYTES = 4096, TOP_SLOT = 256 };

/* ---- parents ---- */

static void
update_node(struct sum_cursor *c, uint64_t index)
{
	c->node[sum_page_slot(1, index)] = digest_node(c->digest_seed, &c->leaf[sum_page_slot(0, index * 16)], 16);
}

static void
update_top(struct sum_cursor *c, uint64_t index)
{
	c->top[sum_page_slot(2, index)] = digest_node(c->digest_seed, &c->node[sum_page_slot(1, index * 16)], 16);
	c->top[TOP_SLOT] = digest_node(c->digest_seed, c->top, 256);
}

static void
update_parents(struct sum_cursor *c, uint64_t first_block, uint64_t last_block)
{
	for (uint64_t i = first_block / 16; i <= last_block / 16; i++)
		update_node(c, i);
	for (uint64_t i = first_block / 256; i <= last_block / 256; i++)
		update_top(c, i);
}

/* ---- loading ---- */

static void
clear_from(uint64_t *page, unsigned slot, unsigned end)
{
	memset(&page[slot], 0, (end - slot) * sizeof *page);
}

/* Forget digests at and beyond the frontier; its own parents, perhaps partly beyond, are made anew.
 */
static void
clear_beyond(struct sum_cursor *c)
{
	clear_from(c->leaf, sum_page_slot(0, c->frontier), PAGE_DIGESTS);
	clear_from(c->node, sum_page_slot(1, c->frontier / 16), PAGE_DIGESTS);
	clear_from(c->top, sum_page_slot(2, c->frontier / 256), TOP_SLOT);
	clear_from(c->top, TOP_SLOT + 1, PAGE_DIGESTS);
	update_parents(c, c->frontier, c->frontier);
}

static int
read_pages(struct sum_cursor *c, struct disk *d, struct disk_file *f, unsigned char *buffer)
{
	struct transfer t[3] = {
	    {.file = f, .buf = buffer, .len = PAGE_BYTES, .offset = c->leaf_offset},
	    {.file = f, .buf = buffer + PAGE_BYTES, .len = PAGE_BYTES, .offset = c->node_offset},
	    {.file = f, .buf = buffer + 2 * PAGE_BYTES, .len = PAGE_BYTES, .offset = c->top_offset},
	};
	int r = transfers_read(d, t, 3);

	if (r < 0)
		return r;
	for (int i = 0; i < 3; i++)
		memset((char *)t[i].buf + t[i].res, 0, PAGE_BYTES - (size_t)t[i].res);
	memcpy(c->leaf, t[0].buf, PAGE_BYTES);
	memcpy(c->node, t[1].buf, PAGE_BYTES);
	memcpy(c->top, t[2].buf, PAGE_BYTES);
	return 0;
}

static int
write_page(struct disk *d, struct disk_file *f, unsigned char *buffer, const uint64_t *page, uint64_t offset)
{
	memcpy(buffer, page, PAGE_BYTES);
	return disk_write_now(d, f, buffer, PAGE_BYTES, offset);
}

static int
write_cleared(struct sum_cursor *c, struct disk *d, struct disk_file *f, unsigned char *buffer)
{
	int r = write_page(d, f, buffer, c->leaf, c->leaf_offset);

	if (r == 0)
		r = write_page(d, f, buffer + PAGE_BYTES, c->node, c->node_offset);
	if (r == 0)
		r = write_page(d, f, buffer + 2 * PAGE_BYTES, c->top, c->top_offset);
	return r;
}

/* The rest of the zone's leaf and node pages, and all later zones. */
static int
clear_file_beyond(const struct sum_cursor *c, struct disk *d, struct disk_file *f)
{
	uint64_t zone = c->frontier / SUM_ZONE_BLOCKS;
	uint64_t begin = PAGE_BYTES + zone * SUM_ZONE_PAGES * PAGE_BYTES;
	int r = range_clear(d, f, c->leaf_offset + PAGE_BYTES, begin + 128 * PAGE_BYTES);

	if (r == 0)
		r = range_clear(d, f, c->node_offset + PAGE_BYTES, begin + 136 * PAGE_BYTES);
	if (r == 0)
		r = range_clear(d, f, begin + SUM_ZONE_PAGES * PAGE_BYTES, UINT64_MAX / PAGE_BYTES * PAGE_BYTES);
	return r;
}

int
sum_cursor_load(struct sum_cursor *c, struct disk *d, struct disk_file *f, uint64_t digest_seed, uint64_t frontier)
{
	unsigned char *buffer = buffer_alloc(3 * PAGE_BYTES);
	int r;

	if (buffer == NULL)
		return -ENOMEM;
	c->digest_seed = digest_seed;
	c->frontier = frontier;
	c->leaf_offset = sum_page_offset(0, frontier);
	c->node_offset = sum_page_offset(1, frontier / 16);
	c->top_offset = sum_page_offset(2, frontier / 256);
	r = read_pages(c, d, f, buffer);
	if (r == 0 && !PLANTED(23)) {
		clear_beyond(c);
		r = write_cleared(c, d, f, buffer);
	}
	if (r == 0 && !PLANTED(23))
		r = clear_file_beyond(c, d, f);
	buffer_free(buffer, 3 * PAGE_BYTES);
	return r;
}

/* ---- moving on ---- */

/* Hold the page at `offset`: the one we have, or a new one, which is empty. */
static void
enter_page(uint64_t *held_offset, uint64_t *page, uint64_t offset)
{
	if (*held_offset == offset)
		return;
	*held_offset = offset;
	memset(page, 0, PAGE_BYTES);
}

static unsigned
put_page(struct sum_page *pages, unsigned n, uint64_t offset, const uint64_t *page)
{
	unsigned i = 0;

	while (i < n && pages[i].offset != offset)
		i++;
	assert(i < SUM_CURSOR_PAGES_MAX);
	pages[i].offset = offset;
	memcpy(pages[i].bytes, page, PAGE_BYTES);
	return i < n ? n : n + 1;
}

/* Digests that all go into one leaf page. */
static void
append_in_page(struct sum_cursor *c, const uint64_t *digests, size_t count)
{
	uint64_t first = c->frontier, last = first + count - 1;

	enter_page(&c->leaf_offset, c->leaf, sum_page_offset(0, first));
	enter_page(&c->node_offset, c->node, sum_page_offset(1, first / 16));
	enter_page(&c->top_offset, c->top, sum_page_offset(2, first / 256));
	memcpy(&c->leaf[sum_page_slot(0, first)], digests, count * sizeof *digests);
	update_parents(c, first, last);
	c->frontier += count;
}

unsigned
sum_cursor_append(struct sum_cursor *c, const uint64_t *digests, size_t count, struct sum_page *ret_pages)
{
	unsigned n = 0;

	assert(count <= PAGE_DIGESTS);
	while (count > 0) {
		size_t room = PAGE_DIGESTS - sum_page_slot(0, c->frontier);
		size_t now = count < room ? count : room;

		append_in_page(c, digests, now);
		digests += now;
		count -= now;
		n = put_page(ret_pages, n, c->leaf_offset, c->leaf);
		n = put_page(ret_pages, n, c->node_offset, c->node);
		n = put_page(ret_pages, n, c->top_offset, c->top);
	}
	return n;
}

void
sum_cursor_skip(struct sum_cursor *c, uint64_t count)
{
	c->frontier += count;
}
