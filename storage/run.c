/* SPDX-License-Identifier: Apache-2.0 */
/* Reading runs. A run is two sorted tables. Narrow entries are at most ENTRY_WIDE_BLOCKS long, so
 * all that may reach into a range begin at most that far before it. Wide ones carry the largest end
 * so far, which only grows within a volume, so the first that may reach into a range is found by
 * halving too. Both tables are read by record number, from arrays (a run in memory) or from checked
 * pages in the cache (a run in a file): what is above does not know which. */
#include "storage/run.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/bytes.h"
#include "proto/common/status.h"
#include "storage/leaving.h"
#include "storage/run_cache.h"
#include "storage/run_parity.h"
#include "storage/segment.h"
#include "storage/transfer.h"

/* ---- life ---- */

static uint64_t
next_run_id(void)
{
	static atomic_uint_fast64_t last;

	return atomic_fetch_add(&last, 1) + 1;
}

static struct run *
run_alloc(void)
{
	struct run *r = calloc(1, sizeof *r);

	if (r == NULL)
		return NULL;
	atomic_init(&r->refs, 1);
	r->layout.lsn_first = 1;
	return r;
}

struct run *
run_ref(struct run *r)
{
	unsigned before = atomic_fetch_add(&r->refs, 1);

	assert(before > 0);
	return r;
}

void
run_unref(struct run *r, struct disk *d)
{
	unsigned before;

	if (r == NULL)
		return;
	before = atomic_fetch_sub(&r->refs, 1);
	assert(before > 0);
	if (before > 1)
		return;
	if (r->leaving != NULL)
		leaving_add(r->leaving, d, r->file);
	else if (r->file != NULL)
		disk_close(d, r->file);
	free(r->narrow);
	free(r->wide);
	free(r);
}

void
run_leave(struct run *r, struct leaving *l)
{
	assert(r->file != NULL);
	r->leaving = l;
}

/* ---- a run in memory ---- */

static int
by_index_order(const void *a, const void *b)
{
	return entry_compare(a, b);
}

static void
note_lsn(struct run_layout *l, uint64_t lsn)
{
	if (l->lsn_last == 0 || lsn < l->lsn_first)
		l->lsn_first = lsn;
	if (lsn > l->lsn_last)
		l->lsn_last = lsn;
}

/* Split sorted entries into the two tables. */
static void
fill_tables(struct run *r, const struct entry *entries, size_t count)
{
	struct run_layout *l = &r->layout;

	for (size_t i = 0; i < count; i++) {
		const struct entry *e = &entries[i];

		assert(run_entry_sane(e));
		note_lsn(l, e->lsn);
		if (e->count > ENTRY_WIDE_BLOCKS) {
			struct wide_entry *w = &r->wide[l->wide_count];

			w->entry = *e;
			w->end_max = run_end_max(l->wide_count > 0 ? w - 1 : NULL, e);
			l->wide_count++;
		} else {
			r->narrow[l->narrow_count++] = *e;
		}
	}
}

static size_t
count_wide(const struct entry *entries, size_t count)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		n += entries[i].count > ENTRY_WIDE_BLOCKS;
	return n;
}

/* Room for all of them and one more: malloc(0) may be NULL, which would look like a failure. */
static bool
allocate_tables(struct run *r, size_t count, size_t wide)
{
	r->narrow = malloc((count - wide + 1) * sizeof *r->narrow);
	r->wide = malloc((wide + 1) * sizeof *r->wide);
	return r->narrow != NULL && r->wide != NULL;
}

struct run *
run_from_entries(const struct entry *entries, size_t count)
{
	struct entry *sorted = malloc((count + 1) * sizeof *sorted);
	struct run *r = run_alloc();

	if (r == NULL || sorted == NULL || !allocate_tables(r, count, count_wide(entries, count))) {
		free(sorted);
		run_unref(r, NULL);
		return NULL;
	}
	if (count > 0) {
		memcpy(sorted, entries, count * sizeof *sorted);
		qsort(sorted, count, sizeof *sorted, by_index_order);
	}
	fill_tables(r, sorted, count);
	free(sorted);
	return r;
}

/* ---- pages ---- */

uint64_t
run_first_page(const struct run *r, enum run_page_kind kind)
{
	const struct run_layout *l = &r->layout;
	uint64_t page = 1;

	switch (kind) {
	case RUN_PAGE_HEADER: return 0;
	case RUN_PAGE_PARITY: page += run_segment_pages(l);   /* fall through */
	case RUN_PAGE_SEGMENTS: page += l->checkpoint_pages;  /* fall through */
	case RUN_PAGE_CHECKPOINTS: page += run_wide_pages(l); /* fall through */
	case RUN_PAGE_WIDE: page += run_narrow_pages(l);      /* fall through */
	case RUN_PAGE_NARROW: break;
	}
	return page;
}

uint64_t
run_end_page(const struct run *r, enum run_page_kind kind)
{
	if (kind == RUN_PAGE_PARITY)
		return run_first_page(r, kind) + r->layout.parity_pages;
	return run_first_page(r, (enum run_page_kind)(kind + 1));
}

uint64_t
run_entry_count(const struct run *r)
{
	return r->layout.narrow_count + r->layout.wide_count;
}

uint64_t
run_lsn_first(const struct run *r)
{
	return r->layout.lsn_first;
}

uint64_t
run_checkpoint_count(const struct run *r)
{
	return r->layout.checkpoint_count;
}

/* ---- a run in a file ---- */

/* The file must hold all pages the header tells of; the sums cannot overflow once each is below the
 * file's size. */
static int
check_size(struct run *r, struct disk *d)
{
	const struct run_layout *l = &r->layout;
	uint64_t bytes, pages;
	int ret = disk_size(d, r->file, &bytes);

	if (ret < 0)
		return ret;
	pages = bytes / RUN_PAGE_BYTES;
	if (l->narrow_count / RUN_NARROW_PER_PAGE > pages || l->wide_count / RUN_WIDE_PER_PAGE > pages ||
	    l->checkpoint_pages > pages || l->segment_count / RUN_SEGMENTS_PER_PAGE > pages)
		return -HF_ECORRUPT;
	if (l->parity_pages != 0 && l->parity_pages != run_parity_pages(run_content_pages(l)))
		return -HF_ECORRUPT;
	return run_pages(r) > pages ? -HF_ECORRUPT : 0;
}

static int
read_header(struct run *r, struct disk *d, struct run_info *ret_info)
{
	unsigned char *page = buffer_alloc(RUN_PAGE_BYTES);
	struct transfer t;
	int ret;

	if (page == NULL)
		return -ENOMEM;
	t = (struct transfer){.file = r->file, .buf = page, .len = RUN_PAGE_BYTES};
	ret = transfers_read(d, &t, 1);
	if (ret == 0 && t.res < RUN_PAGE_BYTES)
		ret = -HF_ECORRUPT;
	if (ret == 0)
		ret = run_header_decode(page, ret_info, &r->layout);
	if ((ret == -HF_ECORRUPT || ret == -EIO) && run_remake_header(r, d, page) == 0)
		ret = run_header_decode(page, ret_info, &r->layout);
	buffer_free(page, RUN_PAGE_BYTES);
	return ret;
}

int
run_open(struct disk *d, const char *path, struct run **ret_run, struct run_info *ret_info, struct hf_error *err)
{
	return run_open_for(d, path, DISK_READ, ret_run, ret_info, err);
}

int
run_open_for(struct disk *d, const char *path, unsigned flags, struct run **ret_run, struct run_info *ret_info,
    struct hf_error *err)
{
	struct run *r = run_alloc();
	struct run_info info;
	int ret;

	if (r == NULL)
		return hf_error_set(err, -ENOMEM, "run %s", path);
	r->id = next_run_id();
	ret = disk_open(d, path, flags, &r->file);
	if (ret == 0)
		ret = read_header(r, d, &info);
	if (ret == 0)
		ret = check_size(r, d);
	if (ret < 0) {
		run_unref(r, d);
		return hf_error_set(err, ret, "run %s", path);
	}
	r->digest_seed = info.digest_seed;
	r->number = info.number;
	*ret_run = r;
	*ret_info = info;
	return 0;
}

/* ---- pages through the cache ---- */

struct reader {
	struct run *run;
	struct disk *d;
	struct run_cache *cache;
	const unsigned char *page; /* of index page_index; NULL = none yet */
	uint64_t page_index;
	enum run_page_kind kind;
	int count; /* its records */
};

uint64_t
run_number(const struct run *r)
{
	return r->file != NULL ? r->number : 0;
}

uint64_t
run_pages(const struct run *r)
{
	return r->file != NULL ? run_end_page(r, RUN_PAGE_PARITY) : 0;
}

struct disk_file *
run_file(const struct run *r)
{
	return r->file;
}

/* The checksum covers the kind, whichever it is. */
int
run_check_page(const struct run *r, const unsigned char *page, uint64_t index)
{
	enum run_page_kind kind = (enum run_page_kind)get_le32(page + RUN_PAGE_KIND_AT);
	int n = run_page_check(page, r->digest_seed, r->number, index, kind);

	return n < 0 ? n : 0;
}

static int
check_page(const struct reader *rd, const unsigned char *page, uint64_t index)
{
	return run_page_check(page, rd->run->digest_seed, rd->run->number, index, rd->kind);
}

/* A scan that came from the page before goes on to the pages behind: read them too. A search jumps
 * about. */
static size_t
pages_to_read(const struct reader *rd, uint64_t index)
{
	uint64_t left = run_end_page(rd->run, rd->kind) - index;

	if (rd->page == NULL || rd->page_index + 1 != index)
		return 1;
	return left < RUN_AHEAD_PAGES ? left : RUN_AHEAD_PAGES;
}

/* Read page `index` and perhaps some behind it into the cache. A damaged page behind is left for
 * whoever asks for it; if nothing can be read in one piece, the one asked for is read alone. */
static int
read_pages(struct reader *rd, uint64_t index)
{
	unsigned char *room = run_cache_room(rd->cache);
	size_t n = pages_to_read(rd, index);
	struct transfer t = {
	    .file = rd->run->file, .buf = room, .len = n * RUN_PAGE_BYTES, .offset = index * RUN_PAGE_BYTES};
	int r = transfers_read(rd->d, &t, 1);

	n = r < 0 ? 0 : (size_t)t.res / RUN_PAGE_BYTES;
	if (n == 0 || check_page(rd, room, index) < 0) {
		r = run_read_page(rd->run, rd->d, index, rd->kind, room);
		if (r < 0)
			return r;
		n = n > 0 ? n : 1;
	}
	for (size_t i = n; i-- > 0;) /* the one asked for last: it must be in the cache afterwards */
		if (check_page(rd, room + i * RUN_PAGE_BYTES, index + i) >= 0)
			run_cache_put(rd->cache, rd->run->id, index + i, room + i * RUN_PAGE_BYTES);
	return 0;
}

static int
load_page(struct reader *rd, uint64_t index)
{
	const unsigned char *page;
	int r;

	if (rd->page != NULL && rd->page_index == index)
		return 0;
	page = run_cache_find(rd->cache, rd->run->id, index);
	if (page == NULL) {
		r = read_pages(rd, index);
		if (r < 0)
			return r;
		page = run_cache_find(rd->cache, rd->run->id, index);
		assert(page != NULL);
	}
	rd->page = page;
	rd->page_index = index;
	rd->count = (int)get_le32(page + RUN_PAGE_COUNT_AT);
	return 0;
}

/* ---- records by number ---- */

static uint64_t
table_count(const struct reader *rd)
{
	return rd->kind == RUN_PAGE_WIDE ? rd->run->layout.wide_count : rd->run->layout.narrow_count;
}

static int
record_from_file(struct reader *rd, uint64_t i, struct wide_entry *ret)
{
	bool wide = rd->kind == RUN_PAGE_WIDE;
	uint64_t per_page = wide ? RUN_WIDE_PER_PAGE : RUN_NARROW_PER_PAGE;
	const unsigned char *p;
	int r = load_page(rd, run_first_page(rd->run, rd->kind) + i / per_page);

	if (r < 0)
		return r;
	if ((int)(i % per_page) >= rd->count)
		return -HF_ECORRUPT;
	p = rd->page + i % per_page * (wide ? RUN_WIDE_BYTES : ENTRY_BYTES);
	run_entry_decode(p, &ret->entry);
	ret->end_max = wide ? get_le64(p + ENTRY_BYTES) : 0;
	return run_entry_sane(&ret->entry) ? 0 : -HF_ECORRUPT;
}

static int
record_get(struct reader *rd, uint64_t i, struct wide_entry *ret)
{
	if (rd->run->file != NULL)
		return record_from_file(rd, i, ret);
	if (rd->kind == RUN_PAGE_WIDE)
		*ret = rd->run->wide[i];
	else
		ret->entry = rd->run->narrow[i];
	return 0;
}

/* ---- scanning one table ---- */

struct query {
	uint32_t volume;
	uint64_t from, to;
	uint64_t lsn_after, lsn_until;
};

/* True if neither this record nor any before it reaches into the query's range. */
static bool
lies_before(enum run_page_kind kind, const struct wide_entry *w, const struct query *q)
{
	if (w->entry.volume != q->volume)
		return w->entry.volume < q->volume;
	if (kind == RUN_PAGE_WIDE)
		return w->end_max <= q->from;
	return w->entry.block + (ENTRY_WIDE_BLOCKS - 1) < q->from;
}

/* Number of the first record that may reach into the range. */
static int
find_first(struct reader *rd, const struct query *q, uint64_t *ret_index)
{
	uint64_t low = 0, high = table_count(rd);
	struct wide_entry w;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		int r = record_get(rd, middle, &w);

		if (r < 0)
			return r;
		if (lies_before(rd->kind, &w, q))
			low = middle + 1;
		else
			high = middle;
	}
	*ret_index = low;
	return 0;
}

static bool
wanted(const struct entry *e, const struct query *q)
{
	return e->block + e->count > q->from && e->lsn > q->lsn_after && e->lsn <= q->lsn_until;
}

static int
scan_table(struct reader *rd, enum run_page_kind kind, const struct query *q, run_each *each, void *arg)
{
	uint64_t i;
	int r;

	rd->kind = kind;
	rd->page = NULL;
	r = find_first(rd, q, &i);
	for (; r == 0 && i < table_count(rd); i++) {
		struct wide_entry w;

		r = record_get(rd, i, &w);
		if (r < 0)
			return r;
		if (w.entry.volume != q->volume || w.entry.block >= q->to)
			break;
		if (wanted(&w.entry, q))
			r = each(arg, &w.entry);
	}
	return r;
}

static bool
no_such_lsn(const struct run *r, const struct query *q)
{
	return r->layout.lsn_last <= q->lsn_after || r->layout.lsn_first > q->lsn_until;
}

int
run_scan(struct run *r, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t from, uint64_t to,
    uint64_t lsn_after, uint64_t lsn_until, run_each *each, void *arg)
{
	struct query q = {volume, from, to, lsn_after, lsn_until};
	struct reader rd = {.run = r, .d = d, .cache = cache};
	int ret;

	assert(r->file == NULL || cache != NULL);
	if (from >= to || no_such_lsn(r, &q))
		return 0;
	ret = scan_table(&rd, RUN_PAGE_WIDE, &q, each, arg);
	if (ret != 0)
		return ret;
	return scan_table(&rd, RUN_PAGE_NARROW, &q, each, arg);
}

/* ---- the next entry ---- */

struct next {
	uint64_t from, block;
	bool data_only;
};

static int
on_next(void *arg, const struct entry *e)
{
	struct next *n = arg;

	if (n->data_only && e->digest == 0)
		return 0;
	n->block = e->block > n->from ? e->block : n->from;
	return 1; /* the table is sorted: no later one begins earlier */
}

static int
next_in_table(struct reader *rd, enum run_page_kind kind, struct query *q, struct next *n)
{
	int r = scan_table(rd, kind, q, on_next, n);

	if (r < 0)
		return r;
	q->to = n->block; /* the other table matters only if it begins before */
	return 0;
}

int
run_next(struct run *r, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t from, uint64_t lsn_after,
    uint64_t lsn_until, bool data_only, uint64_t *ret_block)
{
	struct query q = {volume, from, UINT64_MAX, lsn_after, lsn_until};
	struct reader rd = {.run = r, .d = d, .cache = cache};
	struct next n = {from, UINT64_MAX, data_only};
	int ret = 0;

	assert(r->file == NULL || cache != NULL);
	if (!no_such_lsn(r, &q)) {
		if (!data_only) /* wide entries are zeros */
			ret = next_in_table(&rd, RUN_PAGE_WIDE, &q, &n);
		if (ret == 0)
			ret = next_in_table(&rd, RUN_PAGE_NARROW, &q, &n);
	}
	if (ret == 0)
		*ret_block = n.block;
	return ret;
}

/* ---- checkpoints ---- */

static int
decode_checkpoints(const unsigned char *page, int count, struct checkpoint *ret_checkpoints)
{
	size_t at = 0, used;

	for (int i = 0; i < count; i++) {
		int r = checkpoint_decode(page + at, RUN_PAGE_COUNT_AT - at, &ret_checkpoints[i], &used);

		if (r < 0)
			return r;
		at += used;
	}
	return 0;
}

static int
read_checkpoints(struct run *r, struct disk *d, unsigned char *page, struct checkpoint *checkpoints)
{
	uint64_t index = run_first_page(r, RUN_PAGE_CHECKPOINTS), read = 0;

	for (uint64_t i = 0; i < r->layout.checkpoint_pages; i++, index++) {
		int ret, count = run_read_page(r, d, index, RUN_PAGE_CHECKPOINTS, page);

		if (count < 0)
			return count;
		if (read + (uint64_t)count > r->layout.checkpoint_count)
			return -HF_ECORRUPT;
		ret = decode_checkpoints(page, count, checkpoints + read);
		if (ret < 0)
			return ret;
		read += (uint64_t)count;
	}
	return read == r->layout.checkpoint_count ? 0 : -HF_ECORRUPT;
}

/* Fewer than one byte each would be nonsense: bounds what a damaged count can make us allocate. */
static bool
count_plausible(const struct run_layout *l)
{
	return l->checkpoint_count <= l->checkpoint_pages * RUN_PAGE_BYTES;
}

int
run_checkpoints(struct run *r, struct disk *d, struct checkpoint **ret_checkpoints, size_t *ret_count)
{
	struct checkpoint *checkpoints;
	unsigned char *page;
	int ret = -ENOMEM;

	assert(r->file != NULL);
	if (!count_plausible(&r->layout))
		return -HF_ECORRUPT;
	checkpoints = calloc(r->layout.checkpoint_count + 1, sizeof *checkpoints);
	page = buffer_alloc(RUN_PAGE_BYTES);
	if (checkpoints != NULL && page != NULL)
		ret = read_checkpoints(r, d, page, checkpoints);
	buffer_free(page, RUN_PAGE_BYTES);
	if (ret < 0) {
		free(checkpoints);
		return ret;
	}
	*ret_checkpoints = checkpoints;
	*ret_count = r->layout.checkpoint_count;
	return 0;
}

/* ---- segments ---- */

static int
read_segments(struct run *r, struct disk *d, unsigned char *page, struct run_segment *segments)
{
	uint64_t index = run_first_page(r, RUN_PAGE_SEGMENTS), end = run_end_page(r, RUN_PAGE_SEGMENTS), read = 0;

	for (; index < end; index++) {
		int count = run_read_page(r, d, index, RUN_PAGE_SEGMENTS, page);

		if (count < 0)
			return count;
		if (count > RUN_SEGMENTS_PER_PAGE || read + (uint64_t)count > r->layout.segment_count)
			return -HF_ECORRUPT;
		for (int i = 0; i < count; i++)
			run_segment_decode(page + i * RUN_SEGMENT_BYTES, &segments[read++]);
	}
	return read == r->layout.segment_count ? 0 : -HF_ECORRUPT;
}

int
run_segments(struct run *r, struct disk *d, struct run_segment **ret_segments, size_t *ret_count)
{
	struct run_segment *segments;
	unsigned char *page;
	int ret = -ENOMEM;

	assert(r->file != NULL);
	segments = calloc(r->layout.segment_count + 1, sizeof *segments); /* bounded by check_size() */
	page = buffer_alloc(RUN_PAGE_BYTES);
	if (segments != NULL && page != NULL)
		ret = read_segments(r, d, page, segments);
	buffer_free(page, RUN_PAGE_BYTES);
	if (ret < 0) {
		free(segments);
		return ret;
	}
	*ret_segments = segments;
	*ret_count = r->layout.segment_count;
	return 0;
}
