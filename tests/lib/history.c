/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "storage/disk_sim.h"
#include "storage/sum.h"

enum { FILL_BLOCKS = 256 };

void
history_path(char *ret_path, size_t size, const char *kind, uint64_t number)
{
	bool volume = strcmp(kind, "img") == 0 || strcmp(kind, "sum") == 0;

	snprintf(ret_path, size, "/%s%llu.%s", volume ? "vol" : "", (unsigned long long)number, kind);
}

/* ---- values ---- */

void
history_bytes(uint32_t value, unsigned char *ret_block)
{
	struct dice d = {value};

	memset(ret_block, 0, BLOCK_BYTES);
	for (size_t i = 0; value != 0 && i < BLOCK_BYTES; i += 8) {
		uint64_t word = dice_next(&d);

		memcpy(ret_block + i, &word, sizeof word);
	}
}

static uint32_t
new_value(struct history *h)
{
	unsigned char block[BLOCK_BYTES];
	uint32_t value = ++h->values;

	if ((value & (value - 1)) == 0) { /* a power of two: room for as many again */
		h->digests = realloc(h->digests, 2 * (size_t)value * sizeof *h->digests);
		assert_non_null(h->digests);
		h->digests[0] = 0;
	}
	history_bytes(value, block);
	h->digests[value] = digest_block(h->digest_seed, block);
	return value;
}

/* ---- files ---- */

static struct disk_file *
open_file(struct history *h, const char *kind, uint64_t number, unsigned flags)
{
	char path[64];
	struct disk_file *f;

	history_path(path, sizeof path, kind, number);
	assert_int_equal(disk_open(h->disk, path, flags, &f), 0);
	return f;
}

static void
write_block(struct history *h, struct disk_file *f, uint32_t value, uint64_t block)
{
	unsigned char *bytes = buffer_alloc(BLOCK_BYTES);

	history_bytes(value, bytes);
	assert_int_equal(disk_write_now(h->disk, f, bytes, BLOCK_BYTES, block * BLOCK_BYTES), 0);
	buffer_free(bytes, BLOCK_BYTES);
}

/* ---- the first fill ---- */

static void
fill_range(struct history *h, struct history_volume *v, struct disk_file *img, struct disk_file *sum,
    struct sum_cursor *cursor, size_t count)
{
	static struct sum_page pages[SUM_CURSOR_PAGES_MAX];
	uint64_t digests[FILL_BLOCKS];
	unsigned n;

	for (size_t i = 0; i < count; i++) {
		uint64_t block = cursor->frontier + i;

		v->now[block] = dice_once_in(&h->dice, 4) ? 0 : new_value(h);
		digests[i] = h->digests[v->now[block]];
		if (v->now[block] != 0)
			write_block(h, img, v->now[block], block);
	}
	n = sum_cursor_append(cursor, digests, count, pages);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(disk_write_now(h->disk, sum, pages[i].bytes, 4096, pages[i].offset), 0);
}

static void
fill_volume(struct history *h, struct history_volume *v)
{
	struct disk_file *img = open_file(h, "img", v->number, DISK_WRITE | DISK_CREATE);
	struct disk_file *sum = open_file(h, "sum", v->number, DISK_WRITE | DISK_CREATE);
	struct sum_header header = {.digest_seed = h->digest_seed, .volume = v->number, .size_bytes = v->size_bytes};
	struct sum_cursor *cursor = malloc(sizeof *cursor);

	assert_int_equal(disk_truncate(h->disk, img, v->blocks * BLOCK_BYTES), 0);
	assert_int_equal(sum_header_write(h->disk, sum, &header), 0);
	new_value(h); /* digests exist from now on */
	assert_int_equal(sum_cursor_load(cursor, h->disk, sum, h->digest_seed, 0), 0);
	while (cursor->frontier < v->frontier) {
		uint64_t left = v->frontier - cursor->frontier;
		uint64_t count = 1 + dice_below(&h->dice, left < 20000 ? left : 20000);

		if (dice_once_in(&h->dice, 2))
			sum_cursor_skip(cursor, count);
		else
			fill_range(h, v, img, sum, cursor, count < FILL_BLOCKS ? count : FILL_BLOCKS);
	}
	free(cursor);
	assert_int_equal(disk_sync_now(h->disk, img), 0);
	assert_int_equal(disk_sync_now(h->disk, sum), 0);
	disk_close(h->disk, img);
	disk_close(h->disk, sum);
}

static void
create_volume(struct history *h, const struct history_shape *shape, uint32_t i)
{
	struct history_volume *v = &h->volumes[i];

	v->number = i + 1;
	v->blocks = i == 0 ? shape->blocks : 1 + dice_below(&h->dice, shape->blocks);
	v->size_bytes = v->blocks * BLOCK_BYTES - BLOCK_BYTES / 2;
	v->frontier = v->blocks;
	if (i == 0 && shape->partly_filled)
		v->frontier = 1 + dice_below(&h->dice, v->blocks - 1);
	v->now = calloc(v->blocks, sizeof *v->now);
	v->base = calloc(v->blocks, sizeof *v->base);
	assert_true(v->now != NULL && v->base != NULL);
	fill_volume(h, v);
	memcpy(v->base, v->now, v->blocks * sizeof *v->now);
}

/* ---- records ---- */

struct journal {
	struct disk_file *file;
	uint32_t number, offset;
};

static void
add_entry(struct history *h, const struct entry *e)
{
	if (h->entry_count == h->entry_capacity) {
		h->entry_capacity = h->entry_capacity * 2 + 64;
		h->entries = realloc(h->entries, h->entry_capacity * sizeof *h->entries);
		assert_non_null(h->entries);
	}
	h->entries[h->entry_count++] = *e;
}

static void
add_data(struct history *h, struct history_volume *v, struct journal *j, uint64_t block, uint64_t count)
{
	for (uint64_t b = block; b < block + count; b++) {
		struct entry e = {.block = b, .lsn = h->lsn_last, .volume = v->number, .count = 1};

		v->now[b] = new_value(h);
		e.digest = h->digests[v->now[b]];
		e.segment = j->number;
		e.offset = j->offset++;
		write_block(h, j->file, v->now[b], e.offset);
		add_entry(h, &e);
	}
}

static void
add_zeros(struct history *h, struct history_volume *v, uint64_t block, uint64_t count)
{
	struct entry e = {.block = block, .lsn = h->lsn_last, .volume = v->number, .count = (uint32_t)count};

	memset(&v->now[block], 0, count * sizeof *v->now);
	add_entry(h, &e);
}

static void
add_record(struct history *h, struct journal *j)
{
	struct history_volume *v = &h->volumes[dice_below(&h->dice, h->volume_count)];
	uint64_t hot = v->frontier < 300 || dice_once_in(&h->dice, 3) ? v->frontier : 300;
	uint64_t block = dice_below(&h->dice, hot);
	uint64_t left = v->frontier - block, count = 1 + dice_below(&h->dice, 12);

	h->lsn_last += 1 + dice_below(&h->dice, 2); /* other records have LSNs too */
	if (dice_once_in(&h->dice, 4)) {
		uint64_t longest = dice_once_in(&h->dice, 4) ? left : 400;

		count = 1 + dice_below(&h->dice, longest < left ? longest : left);
		add_zeros(h, v, block, count);
		return;
	}
	add_data(h, v, j, block, count < left ? count : left);
}

static void
take_snapshot(struct history *h)
{
	unsigned n = h->snapshot_count++;

	h->snapshot_lsns[n] = ++h->lsn_last; /* the checkpoint's own record */
	for (uint32_t i = 0; i < h->volume_count; i++) {
		struct history_volume *v = &h->volumes[i];

		v->snapshots[n] = malloc(v->blocks * sizeof *v->now);
		assert_non_null(v->snapshots[n]);
		memcpy(v->snapshots[n], v->now, v->blocks * sizeof *v->now);
	}
}

/* ---- segments and their runs ---- */

static void
begin_segment(struct history *h, struct journal *j)
{
	h->segment_entries[h->segment_count] = h->entry_count;
	h->run_in_file[h->segment_count] = dice_once_in(&h->dice, 2);
	j->number = ++h->segment_count;
	j->offset = 1;
	j->file = open_file(h, "seg", j->number, DISK_WRITE | DISK_CREATE);
}

static void
end_segment(struct history *h, struct journal *j)
{
	size_t first = h->segment_entries[j->number - 1], count = h->entry_count - first;
	struct run_info info = {.digest_seed = h->digest_seed, .number = j->number};
	struct entry *entries = calloc(count + 1, sizeof *entries);
	char path[64];

	h->segment_entries[j->number] = h->entry_count;
	assert_int_equal(disk_sync_now(h->disk, j->file), 0);
	disk_close(h->disk, j->file);
	if (count > 0)
		memcpy(entries, &h->entries[first], count * sizeof *entries);
	history_path(path, sizeof path, "run", j->number);
	assert_int_equal(run_write(h->disk, "/", path, &info, entries, count, NULL, 0), 0);
	free(entries);
}

static void
write_records(struct history *h, const struct history_shape *shape)
{
	struct journal j;

	begin_segment(h, &j);
	for (unsigned i = 0; i < shape->records; i++) {
		add_record(h, &j);
		if (h->snapshot_count + 1 < shape->snapshots &&
		    dice_once_in(&h->dice, shape->records / shape->snapshots + 1))
			take_snapshot(h);
		if (h->segment_count < HISTORY_SEGMENTS_MAX && dice_once_in(&h->dice, shape->records / 6 + 1)) {
			end_segment(h, &j);
			begin_segment(h, &j);
		}
	}
	take_snapshot(h);
	end_segment(h, &j);
}

/* ---- life ---- */

struct history *
history_create(const struct history_shape *shape, struct dice *dice)
{
	struct history *h = calloc(1, sizeof *h);

	assert_non_null(h);
	h->dice.state = dice_next(dice);
	h->digest_seed = dice_next(&h->dice);
	assert_int_equal(disk_sim_create(dice_next(&h->dice), &h->disk), 0);
	assert_int_equal(run_cache_create(1 << 20, &h->cache), 0);
	for (; h->volume_count < shape->volumes; h->volume_count++)
		create_volume(h, shape, h->volume_count);
	write_records(h, shape);
	assert_int_equal(disk_sync_dir(h->disk, "/"), 0);
	return h;
}

void
history_destroy(struct history *h)
{
	for (uint32_t i = 0; i < h->volume_count; i++) {
		free(h->volumes[i].now);
		free(h->volumes[i].base);
		for (unsigned n = 0; n < h->snapshot_count; n++)
			free(h->volumes[i].snapshots[n]);
	}
	free(h->entries);
	free(h->digests);
	run_cache_destroy(h->cache);
	disk_destroy(h->disk);
	free(h);
}

/* ---- views ---- */

static struct shared_file *
share(struct history *h, const char *kind, uint64_t number, unsigned flags)
{
	char path[64];
	struct shared_file *f;

	history_path(path, sizeof path, kind, number);
	assert_int_equal(shared_file_open(h->disk, path, flags, number, &f), 0);
	return f;
}

static struct run *
open_run(struct history *h, uint64_t number)
{
	struct run_info info;
	struct run *r;
	char path[64];

	history_path(path, sizeof path, "run", number);
	assert_int_equal(run_open(h->disk, path, &r, &info, NULL), 0);
	return r;
}

/* As the open interval is: a few runs in memory, one behind the other. */
static void
add_memory_runs(struct history *h, struct view_parts *p, unsigned segment)
{
	size_t at = h->segment_entries[segment], end = h->segment_entries[segment + 1];

	while (at < end) {
		size_t n = 1 + (end - at) / 2;

		p->runs[p->run_count] = run_from_entries(&h->entries[at], n);
		assert_non_null(p->runs[p->run_count++]);
		at += n;
	}
}

struct view *
history_view(struct history *h, uint64_t lsn, uint64_t base_lsn)
{
	struct view_parts p = {.digest_seed = h->digest_seed, .lsn = lsn, .base_lsn = base_lsn};
	struct view *v;

	p.runs = calloc(HISTORY_SEGMENTS_MAX * 32, sizeof(struct run *));
	p.segments = calloc(HISTORY_SEGMENTS_MAX, sizeof(struct shared_file *));
	for (unsigned i = h->segment_count; i-- > 0;) { /* newest first: the order must not matter */
		p.segments[p.segment_count++] = share(h, "seg", i + 1, DISK_WRITE);
		if (h->run_in_file[i])
			p.runs[p.run_count++] = open_run(h, i + 1);
		else
			add_memory_runs(h, &p, i);
	}
	for (uint32_t i = 0; i < h->volume_count; i++) {
		const struct history_volume *hv = &h->volumes[i];

		p.volumes[p.volume_count++] = (struct view_volume){.volume = hv->number,
		    .size_bytes = hv->size_bytes,
		    .frontier_blocks = hv->frontier,
		    .img = share(h, "img", hv->number, DISK_WRITE),
		    .sum = share(h, "sum", hv->number, DISK_WRITE)};
	}
	assert_int_equal(view_create(&p, h->disk, &v), 0);
	return v;
}

/* ---- comparing ---- */

static void
check_read(struct history *h, struct view *v, const struct history_volume *hv, const uint32_t *model, uint64_t block,
    uint32_t count)
{
	static unsigned char expected[BLOCK_BYTES];
	unsigned char *buf = buffer_alloc((size_t)count * BLOCK_BYTES);

	memset(buf, 0xee, (size_t)count * BLOCK_BYTES);
	assert_int_equal(view_read(v, h->disk, h->cache, hv->number, block, count, buf, NULL), 0);
	for (uint32_t i = 0; i < count; i++) {
		history_bytes(model[block + i], expected);
		assert_memory_equal(buf + (size_t)i * BLOCK_BYTES, expected, BLOCK_BYTES);
	}
	buffer_free(buf, (size_t)count * BLOCK_BYTES);
}

static void
check_reads(struct history *h, struct view *v, const struct history_volume *hv, const uint32_t *model, unsigned ranges)
{
	for (uint64_t at = 0; hv->blocks <= 4096 && at < hv->blocks; at += VIEW_READ_BLOCKS_MAX) {
		uint64_t left = hv->blocks - at;

		check_read(h, v, hv, model, at, left < VIEW_READ_BLOCKS_MAX ? (uint32_t)left : VIEW_READ_BLOCKS_MAX);
	}
	for (unsigned i = 0; i < ranges; i++) {
		uint64_t block = dice_below(&h->dice, hv->blocks), left = hv->blocks - block;
		uint64_t count = 1 + dice_below(&h->dice, VIEW_READ_BLOCKS_MAX);

		check_read(h, v, hv, model, block, (uint32_t)(count < left ? count : left));
	}
}

/* All digests of a level, from the ones below: the plain way. */
static uint64_t *
model_level(struct history *h, const struct history_volume *hv, const uint32_t *model, int level, size_t *ret_count)
{
	static const size_t fanout[DIGEST_LEVELS] = {1, 16, 16, 256};
	size_t n, below;
	uint64_t *leaves, *padded, *nodes;

	if (level == 0) {
		leaves = calloc(hv->blocks, sizeof *leaves);
		for (uint64_t i = 0; i < hv->blocks; i++)
			leaves[i] = h->digests[model[i]];
		*ret_count = hv->blocks;
		return leaves;
	}
	leaves = model_level(h, hv, model, level - 1, &below);
	n = (below + fanout[level] - 1) / fanout[level];
	padded = realloc(leaves, n * fanout[level] * sizeof *padded);
	assert_non_null(padded);
	memset(padded + below, 0, (n * fanout[level] - below) * sizeof *padded);
	nodes = calloc(n, sizeof *nodes);
	for (size_t i = 0; i < n; i++)
		nodes[i] = digest_node(h->digest_seed, padded + i * fanout[level], fanout[level]);
	free(padded);
	*ret_count = n;
	return nodes;
}

static void
check_level(struct history *h, struct view *v, const struct history_volume *hv, const uint32_t *model, int level,
    unsigned ranges)
{
	size_t count;
	uint64_t *expected = model_level(h, hv, model, level, &count);
	uint64_t *got = malloc((count + 10) * sizeof *got);

	for (unsigned i = 0; i <= ranges; i++) { /* the first time all, and some beyond the end */
		size_t first = i == 0 ? 0 : dice_below(&h->dice, count);
		size_t n = i == 0 ? count + 10 : 1 + dice_below(&h->dice, count - first);

		memset(got, 0xee, (count + 10) * sizeof *got);
		assert_int_equal(view_digests(v, h->disk, h->cache, hv->number, level, first, n, got), 0);
		for (size_t k = 0; k < n; k++)
			assert_int_equal(got[k], first + k < count ? expected[first + k] : 0);
	}
	free(expected);
	free(got);
}

/* Nothing but zeros may lie between where the search began and what it found; and it must get on. */
static void
check_search(struct history *h, struct view *v, const struct history_volume *hv, const uint32_t *model)
{
	uint64_t at = 0, found;

	while (at < hv->blocks) {
		assert_int_equal(view_next_data(v, h->disk, h->cache, hv->number, at, &found), 0);
		assert_in_range(found, at, hv->blocks);
		for (uint64_t b = at; b < found; b++)
			assert_int_equal(model[b], 0);
		at = found + 1 + dice_below(&h->dice, 300);
	}
}

void
history_check(struct history *h, struct view *v, unsigned snapshot, unsigned ranges)
{
	for (uint32_t i = 0; i < h->volume_count; i++) {
		const struct history_volume *hv = &h->volumes[i];

		check_reads(h, v, hv, hv->snapshots[snapshot], ranges);
		for (int level = 0; level < DIGEST_LEVELS; level++)
			check_level(h, v, hv, hv->snapshots[snapshot], level, ranges);
		check_search(h, v, hv, hv->snapshots[snapshot]);
	}
}
