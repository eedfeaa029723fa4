/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_journal.c: every run, page by page and entry by entry; every segment, descriptor by descriptor, unless a merged
 * run stands for it: then what is dead in it may be holes. Runs first, for they say which segments those are. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/fsck_impl.h"
#include "storage/pack.h"

enum { PAGE_BYTES = 4096, RANGES_MAX = 256 };

struct known_run {
	uint64_t number;
	bool whole;
	struct run_info info;
};

struct journal {
	struct fsck *k;
	uint64_t *runs, *segments; /* numbers, ascending */
	size_t run_count, segment_count;
	struct known_run *known; /* of runs */
};

/* ---- what there is ---- */

struct numbers {
	const char *suffix;
	uint64_t *list;
	size_t count;
	int status;
};

static void
each_name(void *arg, const char *name)
{
	struct numbers *n = arg;
	char *end;
	uint64_t number = name[0] >= '0' && name[0] <= '9' ? strtoull(name, &end, 10) : 0;
	uint64_t *more;

	if (number == 0 || strcmp(end, n->suffix) != 0 || n->status < 0)
		return;
	more = realloc(n->list, (n->count + 1) * sizeof *more);
	if (more == NULL) {
		n->status = -ENOMEM;
		return;
	}
	n->list = more;
	n->list[n->count++] = number;
}

static int
by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int
list_numbers(struct fsck *k, const char *suffix, uint64_t **ret_list, size_t *ret_count)
{
	struct numbers n = {.suffix = suffix};
	int r = disk_list(k->d, k->journal_dir, each_name, &n);

	if (r == 0)
		r = n.status;
	if (n.count > 1)
		qsort(n.list, n.count, sizeof *n.list, by_number);
	*ret_list = n.list;
	*ret_count = n.count;
	return r < 0 ? hf_error_set(k->err, r, "cannot list %s", k->journal_dir) : 0;
}

static bool
has_number(const uint64_t *list, size_t count, uint64_t number)
{
	return count > 0 && bsearch(&number, list, count, sizeof *list, by_number) != NULL;
}

/* ---- runs ---- */

/* Ranges of zeros that may cover what comes next: nothing within one LSN may. */
struct ranges {
	struct entry list[RANGES_MAX];
	unsigned count;
};

struct entry_check {
	struct fsck *k;
	const char *path;
	const struct run_info *info;
	const struct run_segment *segments;
	size_t segment_count;
	uint64_t *live; /* of segments: blocks seen */
	uint64_t blocks_of[STORE_VOLUMES_MAX];
	struct entry last;
	struct ranges ranges;
	unsigned told; /* one of a kind is enough */
};

static void
tell(struct entry_check *c, const struct entry *e, const char *what)
{
	if (c->told++ < 8)
		fsck_say(c->k, FSCK_RUN_ENTRIES, c->path, "volume %u block %" PRIu64 " LSN %" PRIu64 ": %s", e->volume,
		    e->block, e->lsn, what);
}

static bool
covers(const struct entry *range, const struct entry *e)
{
	return range->volume == e->volume && range->lsn == e->lsn && e->block < range->block + range->count;
}

/* Forget those that end before this one; keep it if it is a range. A full list forgets the oldest: then this check sees
 * less, and nothing else. */
static void
check_overlap(struct entry_check *c, const struct entry *e)
{
	struct ranges *g = &c->ranges;
	unsigned kept = 0;

	for (unsigned i = 0; i < g->count; i++) {
		if (covers(&g->list[i], e))
			tell(c, e, "the same block twice within one LSN");
		if (g->list[i].volume == e->volume && g->list[i].block + g->list[i].count > e->block)
			g->list[kept++] = g->list[i];
	}
	g->count = kept;
	if (e->count <= 1)
		return;
	if (g->count == RANGES_MAX)
		memmove(g->list, g->list + 1, --g->count * sizeof g->list[0]);
	g->list[g->count++] = *e;
}

static uint64_t
volume_blocks_of(const struct run_info *info, uint32_t volume)
{
	for (uint32_t i = 0; i < info->volume_count; i++)
		if (info->volumes[i].volume == volume)
			return (info->volumes[i].size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
	return 0;
}

/* Where its bytes should be. */
static void
check_place(struct entry_check *c, const struct entry *e)
{
	uint64_t end = ((uint64_t)e->offset + 1) * BLOCK_BYTES;

	if (!c->info->merged) {
		if (e->segment != c->info->number || end > c->info->segment_bytes || e->offset == 0)
			tell(c, e, "its bytes lie outside of the segment");
		return;
	}
	for (size_t i = 0; i < c->segment_count; i++) {
		if (c->segments[i].number != e->segment)
			continue;
		c->live[i]++;
		if (end > c->segments[i].bytes || e->offset == 0)
			tell(c, e, "its bytes lie outside of the segment");
		return;
	}
	tell(c, e, "its bytes lie in a segment that the run does not list");
}

static void
check_entry(struct entry_check *c, const struct entry *e)
{
	uint64_t blocks = volume_blocks_of(c->info, e->volume);

	if (blocks == 0)
		tell(c, e, "the volume is not known");
	else if (e->block >= blocks || e->count > blocks - e->block)
		tell(c, e, "it reaches beyond the volume's end");
	if (e->lsn < c->info->lsn_first || e->lsn > c->info->lsn_last)
		tell(c, e, "its LSN is not of this run");
	if (c->last.count > 0 && entry_compare(&c->last, e) >= 0)
		tell(c, e, "it is not in order");
	if (e->digest != 0)
		check_place(c, e);
	check_overlap(c, e);
	c->last = *e;
	c->k->stats.entries++;
}

static int
check_table(struct entry_check *c, struct run *run, bool wide)
{
	struct run_cursor *cursor;
	struct entry e;
	int r = run_cursor_open(run, c->k->d, wide, RUN_CURSOR_PAGES, &cursor);

	if (r < 0)
		return r;
	c->last.count = c->ranges.count = 0;
	while ((r = run_cursor_next(cursor, &e)) > 0)
		check_entry(c, &e);
	run_cursor_close(cursor);
	return r;
}

static void
check_live(struct entry_check *c)
{
	for (size_t i = 0; i < c->segment_count; i++)
		if (c->live[i] != c->segments[i].live_blocks)
			fsck_say(c->k, FSCK_RUN_ENTRIES, c->path,
			    "segment %" PRIu64 ": %" PRIu64 " blocks are said to be live, entries refer to %" PRIu64,
			    c->segments[i].number, c->segments[i].live_blocks, c->live[i]);
}

static int
check_entries(struct fsck *k, const char *path, struct run *run, const struct run_info *info)
{
	struct entry_check *c = calloc(1, sizeof *c);
	struct run_segment *segments = NULL;
	int r = c == NULL ? -ENOMEM : 0;

	if (r == 0) {
		*c = (struct entry_check){.k = k, .path = path, .info = info};
		r = run_segments(run, k->d, &segments, &c->segment_count);
	}
	if (r == 0) {
		c->segments = segments;
		c->live = calloc(c->segment_count + 1, sizeof *c->live);
		r = c->live == NULL ? -ENOMEM : check_table(c, run, false);
	}
	if (r == 0)
		r = check_table(c, run, true);
	if (r == 0 && info->merged)
		check_live(c);
	free(segments);
	free(c != NULL ? c->live : NULL);
	free(c);
	return r;
}

static int
check_pages(struct fsck *k, const char *path, struct run *run)
{
	unsigned char *page = buffer_alloc(PAGE_BYTES);
	int r = page == NULL ? -ENOMEM : 0;

	for (uint64_t i = 0; r == 0 && i < run_pages(run); i++) {
		r = disk_read_now(k->d, run_file(run), page, PAGE_BYTES, i * PAGE_BYTES);
		if (r == 0 && run_check_page(run, page, i) < 0)
			fsck_say(k, FSCK_RUN_DAMAGED, path, "page %" PRIu64 " does not match its checksum", i);
		if (r == 0)
			r = fsck_go_on(k);
	}
	buffer_free(page, PAGE_BYTES);
	return r;
}

static int
check_run(struct fsck *k, uint64_t number, struct known_run *ret_known)
{
	char path[PATH_MAX_BYTES];
	struct run *run = NULL;
	int r;

	run_path(path, sizeof path, k->journal_dir, number);
	ret_known->number = number;
	r = run_open(k->d, path, &run, &ret_known->info, k->err);
	if (r == -HF_ECORRUPT)
		fsck_say(k, FSCK_RUN_DAMAGED, path, "%s", k->err->text);
	else if (r == 0 && ret_known->info.number != number)
		fsck_say(k, FSCK_RUN_MISMATCH, path, "it is run %" PRIu64, ret_known->info.number);
	else if (r == 0) {
		k->stats.runs++;
		r = check_pages(k, path, run);
		if (r == 0)
			r = check_entries(k, path, run, &ret_known->info);
		if (r == -HF_ECORRUPT)
			fsck_say(k, FSCK_RUN_DAMAGED, path, "what is damaged cannot be made again of other pages");
		ret_known->whole = r == 0;
	}
	run_unref(run, k->d);
	return r == -HF_ECORRUPT ? 0 : r;
}

static int
check_runs(struct journal *j)
{
	int r = 0;

	j->known = calloc(j->run_count + 1, sizeof *j->known);
	if (j->known == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < j->run_count && r == 0; i++)
		r = check_run(j->k, j->runs[i], &j->known[i]);
	return r;
}

/* ---- segments ---- */

/* The merged run that stands for it, or its own run; NULL: neither can be read. */
static const struct known_run *
find_run(const struct journal *j, uint64_t number)
{
	for (size_t i = 0; i < j->run_count; i++) {
		const struct known_run *n = &j->known[i];

		if (n->whole && n->info.segment_first <= number && number <= n->number)
			return n;
	}
	return NULL;
}

static bool
is_prepared(const unsigned char *page)
{
	return page[0] == 0 && memcmp(page, page + 1, SEGMENT_HEADER_BYTES - 1) == 0;
}

static bool
is_pack(struct fsck *k, const char *path, const unsigned char *page, uint64_t number)
{
	struct pack_header h;

	if (pack_header_decode(page, &h) < 0)
		return false;
	if (h.number != number)
		fsck_say(k, FSCK_SEGMENT_HEADER, path, "it is packed segment %" PRIu64, h.number);
	return true;
}

static void
compare_with_run(
    struct fsck *k, const char *path, const struct journal_state *st, uint64_t bytes, const struct known_run *n)
{
	if (st->lsn_last < n->info.lsn_last)
		fsck_say(k, FSCK_SEGMENT_GROUPS, path,
		    "its descriptors can be read up to LSN %" PRIu64 ", its run knows %" PRIu64, st->lsn_last,
		    n->info.lsn_last);
	else if (st->chain != n->info.chain || bytes != n->info.segment_bytes || st->lsn_last != n->info.lsn_last)
		fsck_say(k, FSCK_RUN_MISMATCH, path,
		    "it ends at LSN %" PRIu64 ", and its run at %" PRIu64 " or with another chain", st->lsn_last,
		    n->info.lsn_last);
}

static int
on_record(void *arg, const struct segment_header *s, const struct group_header *g, const struct record *r,
    uint64_t payload_file_offset)
{
	return fsck_go_on(arg);
}

/* A tail that was cut off is no damage, unless its run, or a later group, knows more. */
static int
check_groups(
    struct fsck *k, const char *path, struct disk_file *f, const struct segment_header *h, const struct known_run *run)
{
	const struct segment_scan_events events = {.record = on_record};
	struct journal_state *st = calloc(1, sizeof *st);
	uint64_t bytes;
	int r = st == NULL
		    ? -ENOMEM
		    : segment_scan(k->d, f, h, run != NULL ? run->info.lsn_last : UINT64_MAX, st, &bytes, &events, k);

	if (r == -HF_ECORRUPT)
		fsck_say(k, FSCK_SEGMENT_GROUPS, path, "they can be read up to LSN %" PRIu64 ", but more was durable",
		    st->lsn_last);
	else if (r == 0 && run != NULL)
		compare_with_run(k, path, st, bytes, run);
	free(st);
	return r == -HF_ECORRUPT ? 0 : r;
}

/* A torn header of a segment that holds nothing is no damage: its first write failed, or was cut off. What was
 * acknowledged of a segment without a run, recovery finds out. */
static bool
holds_records(const struct known_run *run)
{
	return run != NULL && run->info.lsn_last >= run->info.lsn_first;
}

static int
check_opened(struct journal *j, const char *path, struct disk_file *f, uint64_t number, unsigned char *page)
{
	const struct known_run *run = find_run(j, number);
	struct fsck *k = j->k;
	struct segment_header h;
	int r = disk_read_now(k->d, f, page, SEGMENT_HEADER_BYTES, 0);

	if (r < 0)
		return r == -EIO ? 0 : r; /* shorter than a page: prepared, and cut */
	if (is_prepared(page) || is_pack(k, path, page, number))
		return 0;
	k->stats.segments++;
	r = segment_header_decode(page, &h);
	if ((r == -HF_ECORRUPT || (r == 0 && h.number != number)) && holds_records(run))
		fsck_say(k, FSCK_SEGMENT_HEADER, path, "%s",
		    r == 0 ? "it is of another segment" : "its checksum does not match");
	else if (r == 0 && h.number == number && (run == NULL || !run->info.merged))
		return check_groups(k, path, f, &h, run);
	return r == -HF_ECORRUPT ? 0 : r;
}

static int
check_segment(struct journal *j, uint64_t number)
{
	unsigned char *page = buffer_alloc(SEGMENT_HEADER_BYTES);
	struct fsck *k = j->k;
	struct disk_file *f = NULL;
	char path[PATH_MAX_BYTES];
	int r;

	segment_path(path, sizeof path, k->journal_dir, number);
	r = page == NULL ? -ENOMEM : disk_open(k->d, path, DISK_READ, &f);
	if (r == 0)
		r = check_opened(j, path, f, number, page);
	disk_close(k->d, f);
	buffer_free(page, SEGMENT_HEADER_BYTES);
	return r < 0 ? hf_error_set(k->err, r, "%s", path) : 0;
}

/* A run of one segment needs that; those of a merged one recovery asks for by name. */
static void
check_pairs(struct journal *j)
{
	char path[PATH_MAX_BYTES];

	for (size_t i = 0; i < j->run_count; i++) {
		const struct known_run *n = &j->known[i];

		run_path(path, sizeof path, j->k->journal_dir, n->number);
		if (n->whole && !has_number(j->segments, j->segment_count, n->number))
			fsck_say(j->k, FSCK_RUN_MISMATCH, path, "its segment is not there");
	}
}

int
fsck_journal(struct fsck *k)
{
	struct journal j = {.k = k};
	int r = list_numbers(k, ".run", &j.runs, &j.run_count);

	if (r == -ENOENT) {
		fsck_say(k, FSCK_JOURNAL, k->journal_dir, "it is not there");
		return 0;
	}
	if (r == 0)
		r = list_numbers(k, ".seg", &j.segments, &j.segment_count);
	if (r == 0)
		r = check_runs(&j);
	for (size_t i = 0; i < j.segment_count && r == 0; i++)
		r = check_segment(&j, j.segments[i]);
	if (r == 0)
		check_pairs(&j);
	free(j.runs);
	free(j.segments);
	free(j.known);
	return r;
}
