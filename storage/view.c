/* SPDX-License-Identifier: Apache-2.0 */
/* Reading blocks. First every block asked for gets a slot: its newest entry in any run, else the staging file's digest
 * of it. Then the slots are read, as few and as large reads as their places allow, all in flight at once. Then every
 * block is digested and compared with its slot; nothing is handed out before. */
#include "storage/view.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/leaving.h"
#include "storage/plant.h"
#include "storage/view_impl.h"

/* ---- shared files ---- */

int
shared_file_open(struct disk *d, const char *path, unsigned flags, uint64_t number, struct shared_file **ret_file)
{
	struct shared_file *f = calloc(1, sizeof *f);
	int r;

	if (f == NULL)
		return -ENOMEM;
	atomic_init(&f->refs, 1);
	f->number = number;
	if ((size_t)snprintf(f->path, sizeof f->path, "%s", path) >= sizeof f->path)
		r = -ENAMETOOLONG;
	else
		r = disk_open(d, path, flags, &f->file);
	if (r < 0) {
		free(f);
		return r;
	}
	*ret_file = f;
	return 0;
}

struct shared_file *
shared_file_ref(struct shared_file *f)
{
	unsigned before = atomic_fetch_add(&f->refs, 1);

	assert(before > 0);
	return f;
}

void
shared_file_unref(struct shared_file *f, struct disk *d)
{
	unsigned before;

	if (f == NULL)
		return;
	before = atomic_fetch_sub(&f->refs, 1);
	assert(before > 0);
	if (before > 1)
		return;
	if (f->leaving != NULL)
		leaving_add(f->leaving, d, f->file);
	else
		disk_close(d, f->file);
	free(f);
}

/* ---- life ---- */

static int
by_number(const void *a, const void *b)
{
	const struct shared_file *const *x = a, *const *y = b;

	return (*x)->number < (*y)->number ? -1 : (*x)->number > (*y)->number;
}

static void
release_parts(const struct view_parts *p, struct disk *d)
{
	for (size_t i = 0; i < p->run_count; i++)
		run_unref(p->runs[i], d);
	for (size_t i = 0; i < p->segment_count; i++)
		shared_file_unref(p->segments[i], d);
	for (uint32_t i = 0; i < p->volume_count; i++) {
		shared_file_unref(p->volumes[i].img, d);
		shared_file_unref(p->volumes[i].sum, d);
	}
	free(p->runs);
	free(p->segments);
}

int
view_create(const struct view_parts *parts, struct disk *d, struct view **ret_view)
{
	struct view *v = calloc(1, sizeof *v);

	assert(parts->volume_count <= STORE_VOLUMES_MAX);
	if (v == NULL) {
		release_parts(parts, d);
		return -ENOMEM;
	}
	v->digest_seed = parts->digest_seed;
	v->lsn = parts->lsn;
	v->base_lsn = parts->base_lsn;
	v->runs = parts->runs;
	v->run_count = parts->run_count;
	v->segments = parts->segments;
	v->segment_count = parts->segment_count;
	memcpy(v->volumes, parts->volumes, sizeof v->volumes);
	v->volume_count = parts->volume_count;
	if (v->segment_count > 0)
		qsort(v->segments, v->segment_count, sizeof *v->segments, by_number);
	*ret_view = v;
	return 0;
}

void
view_destroy(struct view *v, struct disk *d)
{
	struct view_parts parts;

	if (v == NULL)
		return;
	parts = (struct view_parts){.runs = v->runs,
	    .run_count = v->run_count,
	    .segments = v->segments,
	    .segment_count = v->segment_count,
	    .volume_count = v->volume_count};
	memcpy(parts.volumes, v->volumes, sizeof parts.volumes);
	release_parts(&parts, d);
	sum_zone_destroy(v->zone);
	free(v->zone_lsns);
	free(v);
}

void
view_know_damage(struct view *v, const struct damage *damage, size_t count)
{
	v->damage = damage;
	v->damage_count = count;
}

/* ---- facts ---- */

const struct view_volume *
view_find_volume(const struct view *v, uint32_t volume)
{
	for (uint32_t i = 0; i < v->volume_count; i++)
		if (v->volumes[i].volume == volume)
			return &v->volumes[i];
	return NULL;
}

uint64_t
view_volume_blocks(const struct view_volume *vv)
{
	return vv->size_bytes / BLOCK_BYTES + (vv->size_bytes % BLOCK_BYTES != 0);
}

uint64_t
view_stored_blocks(const struct view_volume *vv)
{
	uint64_t blocks = view_volume_blocks(vv);

	return vv->frontier_blocks < blocks ? vv->frontier_blocks : blocks;
}

/* ---- newest versions ---- */

struct resolve {
	struct view_slot *slots;
	uint64_t from, to;
};

static int
on_entry(void *arg, const struct entry *e)
{
	const struct resolve *rs = arg;
	uint64_t begin = e->block > rs->from ? e->block : rs->from;
	uint64_t end = e->block + e->count < rs->to ? e->block + e->count : rs->to;

	for (uint64_t block = begin; block < end; block++) {
		struct view_slot *slot = &rs->slots[block - rs->from];

		if (e->lsn > slot->lsn)
			*slot = (struct view_slot){e->lsn, e->digest, e->segment, e->offset};
	}
	return 0;
}

int
view_resolve(struct view *v, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t from, size_t count)
{
	struct resolve rs = {v->slots, from, from + count};

	assert(count <= VIEW_SLOTS);
	memset(v->slots, 0, count * sizeof *v->slots);
	for (size_t i = 0; i < v->run_count; i++) {
		int r = run_scan(v->runs[i], d, cache, volume, rs.from, rs.to, v->base_lsn, v->lsn, on_entry, &rs);

		if (r < 0)
			return r;
	}
	return 0;
}

int
view_next_entry(struct view *v, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t from, bool data_only,
    uint64_t *ret_block)
{
	uint64_t first = UINT64_MAX;

	for (size_t i = 0; i < v->run_count; i++) {
		uint64_t block;
		int r = run_next(v->runs[i], d, cache, volume, from, v->base_lsn, v->lsn, data_only, &block);

		if (r < 0)
			return r;
		if (block < first)
			first = block;
	}
	*ret_block = first;
	return 0;
}

/* Slots of blocks that no entry covers take the staging file's digest; their segment stays 0. */
static int
resolve_stored(struct view *v, struct disk *d, const struct view_volume *vv, uint64_t block, size_t count)
{
	uint64_t digests[VIEW_READ_BLOCKS_MAX], stored = view_stored_blocks(vv);
	size_t first = 0, end = stored > block ? (size_t)(stored - block) : 0;
	int r;

	if (end > count)
		end = count;
	while (first < end && v->slots[first].lsn != 0)
		first++;
	while (end > first && v->slots[end - 1].lsn != 0)
		end--;
	if (first == end)
		return 0;
	r = sum_read(d, vv->sum->file, 0, block + first, end - first, digests);
	if (r < 0)
		return r;
	for (size_t i = first; i < end; i++)
		if (v->slots[i].lsn == 0)
			v->slots[i].digest = digests[i - first];
	return 0;
}

/* ---- reading what the slots say ---- */

/* What one call of view_read() is about. */
struct reading {
	struct view *v;
	struct disk *d;
	const struct view_volume *volume;
	uint64_t block;
	uint32_t count;
	unsigned char *buf;
	size_t transfer_count;
	struct view_fault fault;
};

static int
blame(struct reading *rd, uint32_t i, int status)
{
	rd->fault = (struct view_fault){rd->volume->volume, rd->block + i, rd->v->slots[i].segment, status};
	return status;
}

struct disk_file *
view_find_segment(const struct view *v, uint64_t number)
{
	size_t low = 0, high = v->segment_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (v->segments[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < v->segment_count && v->segments[low]->number == number)
		return v->segments[low]->file;
	return NULL;
}

static bool
continues(const struct transfer *last, const struct disk_file *file, const void *buf, uint64_t offset)
{
	return last->file == file && last->offset + last->len == offset &&
	       (unsigned char *)last->buf + last->len == buf;
}

/* Go on with the last transfer if this block lies right behind its end, on the disk and in memory; else begin another.
 */
static void
add_transfer(struct reading *rd, struct disk_file *file, void *buf, uint64_t offset)
{
	struct transfer *t = rd->v->transfers;
	size_t n = rd->transfer_count;

	if (n > 0 && continues(&t[n - 1], file, buf, offset)) {
		t[n - 1].len += BLOCK_BYTES;
		return;
	}
	t[n] = (struct transfer){.file = file, .buf = buf, .len = BLOCK_BYTES, .offset = offset};
	rd->transfer_count++;
}

static int
plan_block(struct reading *rd, uint32_t i)
{
	const struct view_slot *slot = &rd->v->slots[i];
	unsigned char *buf = rd->buf + (size_t)i * BLOCK_BYTES;
	struct disk_file *file;

	if (slot->digest == 0) {
		memset(buf, 0, BLOCK_BYTES);
		return 0;
	}
	if (slot->segment == 0) {
		add_transfer(rd, rd->volume->img->file, buf, (rd->block + i) * BLOCK_BYTES);
		return 0;
	}
	file = view_find_segment(rd->v, slot->segment);
	if (file == NULL)
		return blame(rd, i, -HF_ECORRUPT);
	add_transfer(rd, file, buf, (uint64_t)slot->offset * BLOCK_BYTES);
	return 0;
}

/* A large read failed: which block of it is the bad one? Those that can be read are. */
static int
read_singly(struct reading *rd, const struct transfer *t)
{
	uint32_t first = (uint32_t)(((unsigned char *)t->buf - rd->buf) / BLOCK_BYTES);

	for (size_t at = 0; at < t->len; at += BLOCK_BYTES) {
		int r = disk_read_now(rd->d, t->file, (unsigned char *)t->buf + at, BLOCK_BYTES, t->offset + at);

		if (r < 0)
			return blame(rd, first + (uint32_t)(at / BLOCK_BYTES), r);
	}
	return 0;
}

static int
read_planned(struct reading *rd)
{
	struct transfer *t = rd->v->transfers;

	(void)transfers_read(rd->d, t, rd->transfer_count); /* each one's result is looked at */
	for (size_t i = 0; i < rd->transfer_count; i++) {
		int r = t[i].res == (int)t[i].len ? 0 : read_singly(rd, &t[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int
verify(struct reading *rd)
{
	for (uint32_t i = 0; i < rd->count; i++) {
		uint64_t digest = rd->v->slots[i].digest;

		if (digest != 0 && !PLANTED(34) &&
		    digest_block(rd->v->digest_seed, rd->buf + (size_t)i * BLOCK_BYTES) != digest)
			return blame(rd, i, -HF_EDIGEST);
	}
	return 0;
}

static int
resolve_all(struct reading *rd, struct run_cache *cache)
{
	int r = view_resolve(rd->v, rd->d, cache, rd->volume->volume, rd->block, rd->count);

	if (r == 0)
		r = resolve_stored(rd->v, rd->d, rd->volume, rd->block, rd->count);
	if (r < 0) {
		rd->fault = (struct view_fault){rd->volume->volume, rd->block, 0, r};
		return r;
	}
	return 0;
}

int
view_read(struct view *v, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t block, uint32_t count,
    void *buf, struct view_fault *ret_fault)
{
	struct reading rd = {.v = v, .d = d, .block = block, .count = count, .buf = buf};
	int r;

	assert(count > 0 && count <= VIEW_READ_BLOCKS_MAX);
	rd.volume = view_find_volume(v, volume);
	if (rd.volume == NULL)
		return -HF_EVOLUME;
	if (block >= view_volume_blocks(rd.volume) || count > view_volume_blocks(rd.volume) - block)
		return -HF_EBEYOND;
	r = resolve_all(&rd, cache);
	for (uint32_t i = 0; r == 0 && i < count; i++)
		r = plan_block(&rd, i);
	if (r == 0)
		r = read_planned(&rd);
	if (r == 0)
		r = verify(&rd);
	if (r < 0 && ret_fault != NULL)
		*ret_fault = rd.fault;
	return r;
}

int
view_salvage(struct view *v, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t block, uint32_t count,
    void *buf, uint32_t *ret_count)
{
	uint32_t n = 1;
	int r = view_read(v, d, cache, volume, block, count, buf, NULL);

	if (r == 0) {
		*ret_count = count;
		return 0;
	}
	r = view_read(v, d, cache, volume, block, 1, buf, NULL);
	while (n < count) {
		void *place = (unsigned char *)buf + (size_t)n * BLOCK_BYTES;

		if ((view_read(v, d, cache, volume, block + n, 1, place, NULL) < 0) != (r < 0))
			break;
		n++;
	}
	*ret_count = n;
	return r;
}

int
view_read_entry(struct view *v, struct disk *d, const struct entry *e, void *buf)
{
	struct disk_file *file = view_find_segment(v, e->segment);
	int r;

	assert(e->digest != 0 && e->count == 1);
	if (file == NULL)
		return -HF_ECORRUPT;
	r = disk_read_now(d, file, buf, BLOCK_BYTES, (uint64_t)e->offset * BLOCK_BYTES);
	if (r < 0)
		return r;
	return digest_block(v->digest_seed, buf) == e->digest ? 0 : -HF_EDIGEST;
}
