/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a run file. It appears whole or not at all: everything goes to path.tmp, which is synced before it gets its
 * name, and the name is made durable before we return. What a cut leaves is a .tmp, which nobody reads and the next
 * attempt replaces. */
#include "storage/run_parity.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/bytes.h"
#include "storage/plant.h"
#include "storage/segment.h"

enum { BUFFER_PAGES = 64 };

struct run_writer {
	struct disk *d;
	struct disk_file *file;
	const char *dir, *path;
	char tmp[PATH_MAX];
	bool named; /* the name, if there is one, is the new run's */
	const struct run_info *info;
	struct run_layout layout;
	unsigned char *buffer; /* BUFFER_PAGES pages, and one for the header */
	size_t used;           /* whole pages in it */
	uint64_t flushed;      /* whole pages in the file */
	enum run_page_kind kind;
	size_t count, fill; /* records and bytes in the page being filled */
	struct wide_entry wide_last;
	struct run_parity *parity; /* of all pages so far */
};

/* ---- pages ---- */

static int
flush(struct run_writer *w)
{
	size_t used = w->used;

	if (used == 0)
		return 0;
	w->used = 0;
	w->flushed += used;
	return disk_write_now(w->d, w->file, w->buffer, used * RUN_PAGE_BYTES, (w->flushed - used) * RUN_PAGE_BYTES);
}

/* Where the next page goes: in the buffer, and in the file. */
static unsigned char *
next_page(const struct run_writer *w, uint64_t *ret_index)
{
	*ret_index = w->flushed + w->used;
	return w->buffer + w->used * RUN_PAGE_BYTES;
}

static int
take_page(struct run_writer *w)
{
	w->used++;
	return w->used == BUFFER_PAGES ? flush(w) : 0;
}

static int
end_page(struct run_writer *w)
{
	uint64_t index;
	unsigned char *page = next_page(w, &index);

	if (w->count == 0)
		return 0;
	run_page_seal(page, w->info->digest_seed, w->info->number, index, w->kind, w->count);
	run_parity_add(w->parity, index, page);
	w->count = w->fill = 0;
	if (w->kind == RUN_PAGE_CHECKPOINTS)
		w->layout.checkpoint_pages++;
	return take_page(w);
}

/* Room for one record of len bytes, in the current page or a new one. */
static int
add_record(struct run_writer *w, enum run_page_kind kind, size_t len, unsigned char **ret_room)
{
	unsigned char *page;
	int r = 0;

	assert(kind >= w->kind);
	if (w->count > 0 && (w->kind != kind || w->fill + len > RUN_PAGE_COUNT_AT))
		r = end_page(w);
	if (r < 0)
		return r;
	page = w->buffer + w->used * RUN_PAGE_BYTES;
	if (w->count == 0)
		memset(page, 0, RUN_PAGE_BYTES);
	*ret_room = page + w->fill;
	w->kind = kind;
	w->count++;
	w->fill += len;
	return 0;
}

/* ---- contents ---- */

static void
note_entry(struct run_layout *l, const struct entry *e)
{
	assert(run_entry_sane(e));
	if (l->lsn_last == 0 || e->lsn < l->lsn_first)
		l->lsn_first = e->lsn;
	if (e->lsn > l->lsn_last)
		l->lsn_last = e->lsn;
}

static int
add_narrow(struct run_writer *w, const struct entry *e)
{
	unsigned char *room;
	int r = add_record(w, RUN_PAGE_NARROW, ENTRY_BYTES, &room);

	if (r < 0)
		return r;
	run_entry_encode(room, e);
	w->layout.narrow_count++;
	return 0;
}

static int
add_wide(struct run_writer *w, const struct entry *e)
{
	unsigned char *room;
	int r = add_record(w, RUN_PAGE_WIDE, RUN_WIDE_BYTES, &room);

	if (r < 0)
		return r;
	w->wide_last.end_max = run_end_max(w->layout.wide_count > 0 ? &w->wide_last : NULL, e);
	w->wide_last.entry = *e;
	run_entry_encode(room, e);
	put_le64(room + ENTRY_BYTES, w->wide_last.end_max);
	w->layout.wide_count++;
	return 0;
}

int
run_writer_add(struct run_writer *w, const struct entry *e)
{
	note_entry(&w->layout, e);
	return e->count > ENTRY_WIDE_BLOCKS ? add_wide(w, e) : add_narrow(w, e);
}

int
run_writer_add_checkpoint(struct run_writer *w, const struct checkpoint *c)
{
	unsigned char bytes[CHECKPOINT_BYTES_MAX], *room;
	size_t len = checkpoint_encode(bytes, c);
	int r = add_record(w, RUN_PAGE_CHECKPOINTS, len, &room);

	if (r < 0)
		return r;
	memcpy(room, bytes, len);
	w->layout.checkpoint_count++;
	return 0;
}

int
run_writer_add_segment(struct run_writer *w, const struct run_segment *g)
{
	unsigned char *room;
	int r = add_record(w, RUN_PAGE_SEGMENTS, RUN_SEGMENT_BYTES, &room);

	if (r < 0)
		return r;
	run_segment_encode(room, g);
	w->layout.segment_count++;
	return 0;
}

/* ---- the file ---- */

static int
create_empty(struct disk *d, const char *path, struct disk_file **ret_file)
{
	int r = disk_unlink(d, path);

	if (r < 0 && r != -ENOENT)
		return r;
	return disk_open(d, path, DISK_WRITE | DISK_CREATE, ret_file);
}

int
run_writer_open(
    struct disk *d, const char *dir, const char *path, const struct run_info *info, struct run_writer **ret_writer)
{
	struct run_writer *w = calloc(1, sizeof *w);
	int r;

	if (w == NULL)
		return -ENOMEM;
	w->d = d;
	w->dir = dir;
	w->path = path;
	w->info = info;
	w->layout.lsn_first = 1;
	w->flushed = 1; /* the header comes last */
	r = snprintf(w->tmp, sizeof w->tmp, "%s.tmp", path);
	assert(r > 0 && (size_t)r < sizeof w->tmp);
	w->buffer = buffer_alloc((BUFFER_PAGES + 1) * RUN_PAGE_BYTES);
	w->parity = run_parity_create();
	r = w->buffer == NULL || w->parity == NULL ? -ENOMEM : create_empty(d, w->tmp, &w->file);
	if (r < 0) {
		run_writer_close(w);
		return r;
	}
	*ret_writer = w;
	return 0;
}

static int
add_parity(struct run_writer *w)
{
	uint64_t n = w->layout.parity_pages, index;
	int r = 0;

	for (uint64_t k = 0; r == 0 && k < n; k++) {
		unsigned char *page = next_page(w, &index);

		run_parity_get(w->parity, n, k, page);
		run_page_seal(page, w->info->digest_seed, w->info->number, index, RUN_PAGE_PARITY,
		    get_le32(page + RUN_PAGE_COUNT_AT));
		r = take_page(w);
	}
	return r;
}

/* The header comes last, but belongs to a group like the others. */
static int
end_file(struct run_writer *w)
{
	unsigned char *header = w->buffer + BUFFER_PAGES * RUN_PAGE_BYTES;
	int r = end_page(w);

	w->layout.parity_pages = run_parity_pages(run_content_pages(&w->layout));
	run_header_encode(header, w->info, &w->layout);
	run_parity_add(w->parity, 0, header);
	if (r == 0)
		r = add_parity(w);
	if (r == 0)
		r = flush(w);
	if (r == 0)
		r = disk_write_now(w->d, w->file, header, RUN_PAGE_BYTES, 0);
	if (r == 0)
		r = PLANTED(11) ? 0 : disk_sync_now(w->d, w->file);
	return r;
}

/* It is opened before it gets its name: afterwards nothing may fail but the directory's sync. */
int
run_writer_commit(struct run_writer *w, struct run **ret_run)
{
	struct run_info info;
	struct run *run;
	int r = end_file(w);

	if (r == 0)
		r = run_open(w->d, w->tmp, &run, &info, NULL);
	if (r < 0)
		return r;
	r = disk_rename(w->d, w->tmp, w->path);
	if (r < 0) {
		run_unref(run, w->d);
		return r;
	}
	w->named = true;
	*ret_run = run;
	return disk_sync_dir(w->d, w->dir);
}

void
run_writer_close(struct run_writer *w)
{
	if (w == NULL)
		return;
	disk_close(w->d, w->file);
	if (w->file != NULL && !w->named)
		(void)disk_unlink(w->d, w->tmp); /* best effort: the next attempt replaces it */
	buffer_free(w->buffer, (BUFFER_PAGES + 1) * RUN_PAGE_BYTES);
	run_parity_destroy(w->parity);
	free(w);
}

/* ---- a run of entries in memory ---- */

static int
by_index_order(const void *a, const void *b)
{
	return entry_compare(a, b);
}

static int
add_table(struct run_writer *w, const struct entry *entries, size_t count, bool wide)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		if ((entries[i].count > ENTRY_WIDE_BLOCKS) == wide)
			r = run_writer_add(w, &entries[i]);
	return r;
}

int
run_write(struct disk *d, const char *dir, const char *path, const struct run_info *info, struct entry *entries,
    size_t entry_count, const struct checkpoint *checkpoints, size_t checkpoint_count)
{
	struct run_writer *w;
	struct run *run = NULL;
	int r = run_writer_open(d, dir, path, info, &w);

	if (r < 0)
		return r;
	if (entry_count > 0)
		qsort(entries, entry_count, sizeof *entries, by_index_order);
	r = add_table(w, entries, entry_count, false);
	if (r == 0)
		r = add_table(w, entries, entry_count, true);
	for (size_t i = 0; r == 0 && i < checkpoint_count; i++)
		r = run_writer_add_checkpoint(w, &checkpoints[i]);
	if (r == 0)
		r = run_writer_commit(w, &run);
	run_unref(run, d);
	run_writer_close(w);
	return r;
}
