/* SPDX-License-Identifier: Apache-2.0 */
/* Pages of a run that have rotted, made again of the others of their group. That it is the page that was there is
 * proved by the others: each of them has its checksum, and must match it. */
#include <errno.h>
#include <string.h>

#include "proto/common/bytes.h"
#include "proto/common/status.h"
#include "storage/run_parity.h"

struct group {
	uint64_t pages, parity; /* of the file: without parity pages, and those */
	bool unchecked;         /* seed and number are not known yet */
};

static void
note_damaged(struct run *r, uint64_t index)
{
	atomic_store(&r->damaged, index + 1);
}

bool
run_take_damaged(struct run *r, uint64_t *ret_page)
{
	uint64_t page = atomic_exchange(&r->damaged, 0);

	*ret_page = page - 1;
	return page != 0;
}

static enum run_page_kind
kind_of(const struct run *r, uint64_t index)
{
	enum run_page_kind kind = RUN_PAGE_HEADER;

	while (kind < RUN_PAGE_PARITY && index >= run_end_page(r, kind))
		kind++;
	return kind;
}

/* ---- making one again ---- */

static int
add_other(
    struct run *r, struct disk *d, const struct group *g, uint64_t index, unsigned char *page, unsigned char *scratch)
{
	int ret = disk_read_now(d, r->file, scratch, RUN_PAGE_BYTES, index * RUN_PAGE_BYTES);

	if (ret == 0 && !g->unchecked)
		ret = run_check_page(r, scratch, index);
	if (ret == 0)
		run_parity_xor(page, scratch);
	return ret;
}

/* What page `index` holds, but for kind and checksum. */
static int
gather(struct run *r, struct disk *d, const struct group *g, uint64_t index, unsigned char *page)
{
	uint64_t k = index < g->pages ? index % g->parity : index - g->pages;
	unsigned char *scratch = buffer_alloc(RUN_PAGE_BYTES);
	int ret = scratch == NULL ? -ENOMEM : 0;

	memset(page, 0, RUN_PAGE_BYTES);
	for (uint64_t i = k; ret == 0 && i < g->pages; i += g->parity)
		if (i != index)
			ret = add_other(r, d, g, i, page, scratch);
	if (ret == 0 && index != g->pages + k)
		ret = add_other(r, d, g, g->pages + k, page, scratch);
	buffer_free(scratch, RUN_PAGE_BYTES);
	return ret;
}

static int
remake(struct run *r, struct disk *d, uint64_t index, unsigned char *page)
{
	struct group g = {.pages = run_content_pages(&r->layout), .parity = r->layout.parity_pages};
	int ret = g.parity == 0 ? -HF_ECORRUPT : gather(r, d, &g, index, page);

	if (ret == 0)
		run_page_seal(
		    page, r->digest_seed, r->number, index, kind_of(r, index), get_le32(page + RUN_PAGE_COUNT_AT));
	return ret;
}

/* ---- reading ---- */

static int
read_as_it_is(const struct run *r, struct disk *d, uint64_t index, enum run_page_kind kind, unsigned char *page)
{
	int ret = disk_read_now(d, r->file, page, RUN_PAGE_BYTES, index * RUN_PAGE_BYTES);

	return ret < 0 ? ret : run_page_check(page, r->digest_seed, r->number, index, kind);
}

int
run_read_page(struct run *r, struct disk *d, uint64_t index, enum run_page_kind kind, unsigned char *page)
{
	int ret = read_as_it_is(r, d, index, kind, page);

	if (ret != -HF_ECORRUPT && ret != -EIO)
		return ret;
	note_damaged(r, index);
	if (remake(r, d, index, page) < 0)
		return ret;
	return run_page_check(page, r->digest_seed, r->number, index, kind);
}

/* Pages of each kind are told from the number of all of them. */
static bool
guess_group(uint64_t pages, struct group *ret_group)
{
	for (uint64_t n = 1; n <= RUN_PARITY_PAGES_MAX && n < pages; n *= 2)
		if (run_parity_pages(pages - n) == n) {
			*ret_group = (struct group){.pages = pages - n, .parity = n};
			return true;
		}
	return false;
}

/* First what it would say if all others were right, then, with its seed and number, whether they are. */
int
run_remake_header(struct run *r, struct disk *d, unsigned char *page)
{
	struct group g;
	uint64_t bytes;
	int ret = disk_size(d, r->file, &bytes);

	if (ret < 0)
		return ret;
	if (!guess_group(bytes / RUN_PAGE_BYTES, &g))
		return -HF_ECORRUPT;
	g.unchecked = true;
	ret = gather(r, d, &g, 0, page);
	if (ret == 0 && memcmp(page, run_magic, sizeof run_magic) != 0)
		ret = -HF_ECORRUPT;
	if (ret < 0)
		return ret;
	run_header_keys(page, &r->digest_seed, &r->number);
	g.unchecked = false;
	ret = gather(r, d, &g, 0, page);
	if (ret < 0)
		return ret;
	run_page_seal(page, r->digest_seed, r->number, 0, RUN_PAGE_HEADER, 0);
	note_damaged(r, 0);
	return 0;
}

/* ---- mending ---- */

/* A hole first: then the file system can give the page another place on the disk. A cut leaves rot, a hole, or a part
 * of the page, of which it can be made again as of the rot that was there. */
static int
put_page(struct run *r, struct disk *d, uint64_t index, unsigned char *page)
{
	uint64_t offset = index * RUN_PAGE_BYTES;
	int ret = disk_punch(d, r->file, offset, RUN_PAGE_BYTES);

	if (ret == 0 || ret == -EOPNOTSUPP)
		ret = disk_write_now(d, r->file, page, RUN_PAGE_BYTES, offset);
	if (ret == 0)
		ret = disk_sync_now(d, r->file);
	if (ret == 0)
		ret = disk_read_now(d, r->file, page, RUN_PAGE_BYTES, offset);
	return ret == 0 ? run_check_page(r, page, index) : ret;
}

static bool
mend_page(struct run *r, struct disk *d, uint64_t index, unsigned char *page)
{
	if (read_as_it_is(r, d, index, kind_of(r, index), page) >= 0)
		return false;
	return remake(r, d, index, page) == 0 && put_page(r, d, index, page) == 0;
}

int
run_mend_pages(struct disk *d, const char *path, uint64_t first, uint64_t count)
{
	unsigned char *page = buffer_alloc(RUN_PAGE_BYTES);
	struct run *r = NULL;
	struct run_info info;
	int mended = 0, ret = page == NULL ? -ENOMEM : run_open_for(d, path, DISK_WRITE, &r, &info, NULL);

	for (uint64_t i = first; ret == 0 && i < first + count && i < run_pages(r); i++)
		mended += mend_page(r, d, i, page);
	run_unref(r, d);
	buffer_free(page, RUN_PAGE_BYTES);
	return ret < 0 ? ret : mended;
}
