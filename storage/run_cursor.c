/* SPDX-License-Identifier: Apache-2.0 */
/* Reading one table of a file run from end to end: whole buffers of pages, past the cache, which others have better use
 * for. What it hands out is in order, or the run is corrupt: a merge relies on it. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proto/common/status.h"
#include "storage/run_parity.h"

struct run_cursor {
	struct run *run;
	struct disk *d;
	enum run_page_kind kind;
	size_t record_bytes;
	uint64_t left; /* records not handed out yet */
	unsigned char *buffer;
	size_t buffer_pages;
	uint64_t next;      /* page not read yet */
	size_t page, pages; /* in the buffer: the current one, and how many there are */
	int record, count;  /* in the current page */
	struct entry last;
	bool begun;
};

int
run_cursor_open(struct run *r, struct disk *d, bool wide, size_t pages, struct run_cursor **ret_cursor)
{
	struct run_cursor *c = calloc(1, sizeof *c);

	assert(r->file != NULL && pages > 0);
	if (c == NULL)
		return -ENOMEM;
	c->run = r;
	c->d = d;
	c->kind = wide ? RUN_PAGE_WIDE : RUN_PAGE_NARROW;
	c->record_bytes = wide ? RUN_WIDE_BYTES : ENTRY_BYTES;
	c->left = wide ? r->layout.wide_count : r->layout.narrow_count;
	c->next = run_first_page(r, c->kind);
	c->buffer_pages = pages;
	c->buffer = buffer_alloc(pages * RUN_PAGE_BYTES);
	if (c->buffer == NULL) {
		free(c);
		return -ENOMEM;
	}
	*ret_cursor = c;
	return 0;
}

void
run_cursor_close(struct run_cursor *c)
{
	if (c == NULL)
		return;
	buffer_free(c->buffer, c->buffer_pages * RUN_PAGE_BYTES);
	free(c);
}

static int
read_pages(struct run_cursor *c)
{
	uint64_t pages = run_end_page(c->run, c->kind) - c->next;
	int r;

	if (pages > c->buffer_pages)
		pages = c->buffer_pages;
	if (pages == 0)
		return -HF_ECORRUPT; /* fewer records than the header says */
	r = disk_read_now(c->d, c->run->file, c->buffer, pages * RUN_PAGE_BYTES, c->next * RUN_PAGE_BYTES);
	if (r < 0) { /* alone it may be read, or made again */
		r = run_read_page(c->run, c->d, c->next, c->kind, c->buffer);
		pages = 1;
	}
	if (r < 0)
		return r;
	c->next += pages;
	c->pages = (size_t)pages;
	c->page = 0;
	return 0;
}

/* The page with the next record is the current one, and checked. */
static int
enter_page(struct run_cursor *c)
{
	unsigned char *page;
	uint64_t index;

	if (c->page + 1 < c->pages) {
		c->page++;
	} else {
		int r = read_pages(c);

		if (r < 0)
			return r;
	}
	index = c->next - c->pages + c->page;
	page = c->buffer + c->page * RUN_PAGE_BYTES;
	c->count = run_page_check(page, c->run->digest_seed, c->run->number, index, c->kind);
	if (c->count < 0)
		c->count = run_read_page(c->run, c->d, index, c->kind, page);
	c->record = 0;
	if (c->count == 0 || c->count > (int)(RUN_PAGE_COUNT_AT / c->record_bytes))
		return -HF_ECORRUPT;
	return c->count < 0 ? c->count : 0;
}

int
run_cursor_next(struct run_cursor *c, struct entry *ret_entry)
{
	struct entry e;

	if (c->left == 0)
		return 0;
	if (c->record == c->count) {
		int r = enter_page(c);

		if (r < 0)
			return r;
	}
	run_entry_decode(c->buffer + c->page * RUN_PAGE_BYTES + (size_t)c->record * c->record_bytes, &e);
	if (!run_entry_sane(&e) || (c->begun && entry_compare(&c->last, &e) >= 0))
		return -HF_ECORRUPT;
	c->record++;
	c->left--;
	c->last = e;
	c->begun = true;
	*ret_entry = e;
	return 1;
}
