/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a run file. It appears whole or not at all: everything goes to path.tmp, which is synced
 * before it gets its name, and the name is made durable before we return. What a cut leaves is a
 * .tmp, which nobody reads and the next attempt replaces. */
#include "storage/run_format.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/bytes.h"
#include "storage/segment.h"
#include "storage/plant.h"

enum { BUFFER_PAGES = 64 };

struct writer {
	struct disk *d;
	struct disk_file *file;
	const struct run_info *info;
	unsigned char *buffer; /* BUFFER_PAGES pages */
	size_t used;           /* whole pages in it */
	uint64_t flushed;      /* whole pages in the file */
	enum run_page_kind kind;
	size_t count, fill; /* records and bytes in the page being filled */
};

/* ---- pages ---- */

static int
flush(struct writer *w)
{
	size_t used = w->used;

	if (used == 0)
		return 0;
	w->used = 0;
	w->flushed += used;
	return disk_write_now(w->d, w->file, w->buffer, used * RUN_PAGE_BYTES, (w->flushed - used) * RUN_PAGE_BYTES);
}

static int
end_page(struct writer *w)
{
	if (w->count == 0)
		return 0;
	run_page_seal(w->buffer + w->used * RUN_PAGE_BYTES, w->info, w->flushed + w->used, w->kind, w->count);
	w->count = w->fill = 0;
	w->used++;
	return w->used == BUFFER_PAGES ? flush(w) : 0;
}

/* Room for one record of len bytes, in the current page or a new one. */
static int
add_record(struct writer *w, enum run_page_kind kind, size_t len, unsigned char **ret_room)
{
	unsigned char *page;
	int r = 0;

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

static int
add_narrow(struct writer *w, const struct entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		unsigned char *room;
		int r;

		if (entries[i].count > ENTRY_WIDE_BLOCKS)
			continue;
		r = add_record(w, RUN_PAGE_NARROW, ENTRY_BYTES, &room);
		if (r < 0)
			return r;
		run_entry_encode(room, &entries[i]);
	}
	return end_page(w);
}

static int
add_wide(struct writer *w, const struct entry *entries, size_t count)
{
	struct wide_entry last, *before = NULL;

	for (size_t i = 0; i < count; i++) {
		unsigned char *room;
		int r;

		if (entries[i].count <= ENTRY_WIDE_BLOCKS)
			continue;
		r = add_record(w, RUN_PAGE_WIDE, RUN_WIDE_BYTES, &room);
		if (r < 0)
			return r;
		last.end_max = run_end_max(before, &entries[i]);
		last.entry = entries[i];
		before = &last;
		run_entry_encode(room, &last.entry);
		put_le64(room + ENTRY_BYTES, last.end_max);
	}
	return end_page(w);
}

static int
add_checkpoints(struct writer *w, const struct checkpoint *checkpoints, size_t count)
{
	unsigned char bytes[CHECKPOINT_BYTES_MAX];

	for (size_t i = 0; i < count; i++) {
		size_t len = checkpoint_encode(bytes, &checkpoints[i]);
		unsigned char *room;
		int r = add_record(w, RUN_PAGE_CHECKPOINTS, len, &room);

		if (r < 0)
			return r;
		memcpy(room, bytes, len);
	}
	return end_page(w);
}

static void
measure_entries(const struct entry *entries, size_t count, struct run_layout *l)
{
	l->lsn_first = 1;
	l->lsn_last = 0;
	for (size_t i = 0; i < count; i++) {
		const struct entry *e = &entries[i];

		assert(run_entry_sane(e));
		if (e->count > ENTRY_WIDE_BLOCKS)
			l->wide_count++;
		else
			l->narrow_count++;
		if (l->lsn_last == 0 || e->lsn < l->lsn_first)
			l->lsn_first = e->lsn;
		if (e->lsn > l->lsn_last)
			l->lsn_last = e->lsn;
	}
}

/* The header comes last: only then is the number of checkpoint pages known. */
static int
write_header(struct writer *w, struct run_layout *l)
{
	l->checkpoint_pages = w->flushed - 1 - run_narrow_pages(l) - run_wide_pages(l);
	run_header_encode(w->buffer, w->info, l);
	return disk_write_now(w->d, w->file, w->buffer, RUN_PAGE_BYTES, 0);
}

static int
write_pages(struct writer *w, const struct entry *entries, size_t entry_count, const struct checkpoint *checkpoints,
    size_t checkpoint_count)
{
	struct run_layout l = {.checkpoint_count = checkpoint_count};
	int r;

	measure_entries(entries, entry_count, &l);
	w->flushed = 1;
	r = add_narrow(w, entries, entry_count);
	if (r == 0)
		r = add_wide(w, entries, entry_count);
	if (r == 0)
		r = add_checkpoints(w, checkpoints, checkpoint_count);
	if (r == 0)
		r = flush(w);
	if (r == 0)
		r = write_header(w, &l);
	if (r == 0)
		r = PLANTED(11) ? 0 : disk_sync_now(w->d, w->file);
	return r;
}

/* ---- the file ---- */

static int
by_index_order(const void *a, const void *b)
{
	return entry_compare(a, b);
}

static int
create_empty(struct disk *d, const char *path, struct disk_file **ret_file)
{
	int r = disk_unlink(d, path);

	if (r < 0 && r != -ENOENT)
		return r;
	return disk_open(d, path, DISK_WRITE | DISK_CREATE, ret_file);
}

int
run_write(struct disk *d, const char *dir, const char *path, const struct run_info *info, struct entry *entries,
    size_t entry_count, const struct checkpoint *checkpoints, size_t checkpoint_count)
{
	struct writer w = {.d = d, .info = info};
	char tmp[PATH_MAX];
	int r = snprintf(tmp, sizeof tmp, "%s.tmp", path);

	assert(r > 0 && (size_t)r < sizeof tmp);
	if (entry_count > 0)
		qsort(entries, entry_count, sizeof *entries, by_index_order);
	w.buffer = buffer_alloc(BUFFER_PAGES * RUN_PAGE_BYTES);
	if (w.buffer == NULL)
		return -ENOMEM;
	r = create_empty(d, tmp, &w.file);
	if (r == 0) {
		r = write_pages(&w, entries, entry_count, checkpoints, checkpoint_count);
		disk_close(d, w.file);
	}
	buffer_free(w.buffer, BUFFER_PAGES * RUN_PAGE_BYTES);
	if (r == 0)
		r = disk_rename(d, tmp, path);
	if (r < 0) {
		(void)disk_unlink(d, tmp); /* best effort: the next attempt replaces it */
		return r;
	}
	return disk_sync_dir(d, dir);
}
