/* SPDX-License-Identifier: Apache-2.0 */
/* A batch goes up to FOLD_BATCH_BLOCKS changes of one volume, in block order: read from the segments in the order they
 * lie there, all digests compared, and only then written, synced, and their digests written and synced.
 *
 * What fails to be written or synced is written once more, to other places, and read back. A cut, or an error, anywhere
 * leaves the base where it was, and with it every one of these blocks is still read from the journal: whatever a
 * staging or digest file holds in their places is not looked at. The next fold writes all of them again. */
#include "storage/fold.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/plant.h"
#include "storage/scrub.h"
#include "storage/view_impl.h"

enum {
	IN_FLIGHT = 16,                   /* transfers; a group of the journal waits behind them */
	TRANSFER_BYTES_MAX = 1024 * 1024, /* larger ones are split by the kernel, and may come back short */
};

/* A data entry of the batch, by where it lies in the journal. */
struct source {
	uint32_t segment, offset;
	uint32_t entry; /* number in the batch */
	uint32_t place; /* block of the buffer it goes to */
};

struct fold {
	struct view *v;
	struct disk *d;
	struct run_cache *cache;
	const struct view_volume *volume;
	struct entry *entries; /* FOLD_BATCH_BLOCKS */
	size_t count;
	struct source *sources; /* FOLD_BATCH_BLOCKS */
	size_t source_count;
	unsigned char *buffer; /* data of the batch, in block order */
	size_t buffer_bytes;
	struct sum_zone *zone;
	int (*pause)(void *arg); /* or NULL */
	void *pause_arg;
	struct transfer transfers[IN_FLIGHT];
	uint32_t first_source[IN_FLIGHT]; /* of a transfer */
	struct fold_stats stats;
	struct view_fault fault;
};

static int
blame(struct fold *fo, const struct entry *e, int status)
{
	fo->fault = (struct view_fault){e->volume, e->block, e->segment, status};
	return status;
}

static int
call_pause(const struct fold *fo)
{
	int r = fo->pause != NULL ? fo->pause(fo->pause_arg) : 0;

	return r > 0 ? -ECANCELED : r;
}

/* ---- checking a batch ---- */

static int
check_entries(struct fold *fo)
{
	uint64_t blocks = view_volume_blocks(fo->volume);

	for (size_t i = 0; i < fo->count; i++) {
		const struct entry *e = &fo->entries[i];

		if (e->block >= blocks || e->count > blocks - e->block)
			return blame(fo, e, -HF_ECORRUPT);
		if (e->block + e->count > fo->volume->frontier_blocks)
			return blame(fo, e, -HF_EINCOMPLETE);
	}
	return 0;
}

/* ---- reading ---- */

static int
by_place_in_journal(const void *a, const void *b)
{
	const struct source *x = a, *y = b;

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static void
list_sources(struct fold *fo)
{
	uint32_t n = 0;

	for (size_t i = 0; i < fo->count; i++) {
		const struct entry *e = &fo->entries[i];

		if (e->digest == 0)
			continue;
		fo->sources[n] = (struct source){e->segment, e->offset, (uint32_t)i, n};
		n++;
	}
	fo->source_count = n;
	if (n > 0)
		qsort(fo->sources, n, sizeof *fo->sources, by_place_in_journal);
}

static int
make_room(struct fold *fo)
{
	size_t bytes = fo->source_count * BLOCK_BYTES;

	if (bytes <= fo->buffer_bytes)
		return 0;
	buffer_free(fo->buffer, fo->buffer_bytes);
	fo->buffer_bytes = 0;
	fo->buffer = buffer_alloc(bytes);
	if (fo->buffer == NULL)
		return -ENOMEM;
	fo->buffer_bytes = bytes;
	return 0;
}

static bool
follows(const struct source *s, const struct source *before)
{
	return s->segment == before->segment && s->offset == before->offset + 1 && s->place == before->place + 1;
}

/* Sources [*i, ...) as transfers, at most IN_FLIGHT; *i = the first source not in them, *ret_transfers = their number.
 * 0, or -HF_ECORRUPT: there is no such segment. */
static int
plan_reads(struct fold *fo, size_t *i, size_t *ret_transfers)
{
	struct transfer *t = fo->transfers;
	size_t n = 0;

	for (; *i < fo->source_count; (*i)++) {
		const struct source *s = &fo->sources[*i];

		if (n > 0 && follows(s, s - 1) && t[n - 1].len < TRANSFER_BYTES_MAX) {
			t[n - 1].len += BLOCK_BYTES;
			continue;
		}
		if (n == IN_FLIGHT)
			break;
		fo->first_source[n] = (uint32_t)*i;
		t[n] = (struct transfer){.file = view_find_segment(fo->v, s->segment),
		    .buf = fo->buffer + (size_t)s->place * BLOCK_BYTES,
		    .len = BLOCK_BYTES,
		    .offset = (uint64_t)s->offset * BLOCK_BYTES};
		if (t[n].file == NULL)
			return blame(fo, &fo->entries[s->entry], -HF_ECORRUPT);
		n++;
	}
	*ret_transfers = n;
	return 0;
}

/* It rotted, and that is known: it goes with what can be read of it. */
static bool
is_given_up(const struct fold *fo, const struct entry *e)
{
	for (size_t i = 0; i < fo->v->damage_count; i++) {
		const struct damage *d = &fo->v->damage[i];

		if (d->volume == e->volume && d->block == e->block && d->segment == e->segment &&
		    d->offset == e->offset && d->digest == e->digest)
			return true;
	}
	return false;
}

/* A read failed: once more block by block, for most of it may be readable, and to know which is not. */
static int
read_singly(struct fold *fo, const struct transfer *t, const struct source *s)
{
	for (size_t at = 0; at < t->len; at += BLOCK_BYTES, s++) {
		const struct entry *e = &fo->entries[s->entry];
		int r = view_read_entry(fo->v, fo->d, e, (unsigned char *)t->buf + at);

		if (r < 0 && !is_given_up(fo, e))
			return blame(fo, e, r);
		if (r < 0 && r != -HF_EDIGEST)
			memset((unsigned char *)t->buf + at, 0, BLOCK_BYTES);
	}
	return 0;
}

static int
read_sources(struct fold *fo)
{
	size_t i = 0, n;
	int r = 0;

	while (r == 0 && i < fo->source_count) {
		r = plan_reads(fo, &i, &n);
		if (r < 0)
			return r;
		(void)transfers_read(fo->d, fo->transfers, n); /* each one's result is looked at */
		for (size_t k = 0; r == 0 && k < n; k++)
			if (fo->transfers[k].res != (int)fo->transfers[k].len)
				r = read_singly(fo, &fo->transfers[k], &fo->sources[fo->first_source[k]]);
		if (r == 0)
			r = call_pause(fo);
	}
	return r;
}

static int
verify_sources(struct fold *fo)
{
	for (size_t i = 0; i < fo->source_count; i++) {
		const struct source *s = &fo->sources[i];
		const struct entry *e = &fo->entries[s->entry];
		const unsigned char *block = fo->buffer + (size_t)s->place * BLOCK_BYTES;

		if (digest_block(fo->v->digest_seed, block) != e->digest && !PLANTED(35) && !is_given_up(fo, e))
			return blame(fo, e, -HF_EDIGEST);
	}
	return 0;
}

/* ---- writing ---- */

static const struct entry *
next_data_entry(const struct fold *fo, size_t *i)
{
	while (*i < fo->count && fo->entries[*i].digest == 0)
		(*i)++;
	return *i < fo->count ? &fo->entries[(*i)++] : NULL;
}

typedef int move_fn(struct disk *d, struct transfer *transfers, size_t n);

/* Data entries lie in the buffer as they lie in the volume: where blocks follow one another, so do their bytes. */
static int
move_data(struct fold *fo, move_fn *move)
{
	struct transfer *t = fo->transfers;
	unsigned char *bytes = fo->buffer;
	const struct entry *e;
	size_t i = 0, n = 0;
	int r = 0;

	while (r == 0 && (e = next_data_entry(fo, &i)) != NULL) {
		uint64_t offset = e->block * BLOCK_BYTES;

		if (n > 0 && t[n - 1].offset + t[n - 1].len == offset && t[n - 1].len < TRANSFER_BYTES_MAX) {
			t[n - 1].len += BLOCK_BYTES;
		} else {
			if (n == IN_FLIGHT) {
				r = move(fo->d, t, n);
				n = 0;
				if (r == 0)
					r = call_pause(fo);
			}
			t[n++] = (struct transfer){
			    .file = fo->volume->img->file, .buf = bytes, .len = BLOCK_BYTES, .offset = offset};
		}
		bytes += BLOCK_BYTES;
	}
	return r == 0 ? move(fo->d, t, n) : r;
}

static int
write_zeros(struct fold *fo)
{
	for (size_t i = 0; i < fo->count; i++) {
		const struct entry *e = &fo->entries[i];
		int r;

		if (e->digest != 0)
			continue;
		r = range_clear(
		    fo->d, fo->volume->img->file, e->block * BLOCK_BYTES, (e->block + e->count) * BLOCK_BYTES);
		if (r < 0)
			return r;
	}
	return 0;
}

static int
write_staging(struct fold *fo)
{
	int r = move_data(fo, transfers_write);

	if (r == 0)
		r = write_zeros(fo);
	if (r == 0)
		r = PLANTED(8) ? 0 : disk_sync_now(fo->d, fo->volume->img->file);
	return r;
}

/* ---- writing again ---- */

static int
transfers_punch(struct disk *d, struct transfer *transfers, size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = disk_punch(d, transfers[i].file, transfers[i].offset, transfers[i].len);
	return r == -EOPNOTSUPP ? 0 : r;
}

static int
transfers_read_whole(struct disk *d, struct transfer *transfers, size_t n)
{
	int r = transfers_read(d, transfers, n);

	for (size_t i = 0; r == 0 && i < n; i++)
		r = transfers[i].res == (int)transfers[i].len ? 0 : -EIO;
	return r;
}

/* What a failed write or sync left is not trusted: Linux has marked it clean, and would call it synced the next time.
 * The blocks get new places on the disk, are written and synced there, and are read back from it before they count. */
static int
rewrite_staging(struct fold *fo)
{
	int r = move_data(fo, transfers_punch);

	fo->stats.batches_rewritten++;
	if (r == 0)
		r = write_staging(fo);
	if (r == 0)
		r = move_data(fo, transfers_read_whole);
	if (r == 0 && verify_sources(fo) < 0)
		r = -EIO;
	return r;
}

/* A full disk is not a failed one: the fold ends, and is tried again when there may be room. Nor is one that gives up.
 */
static bool
is_worth_another_try(int status)
{
	return status < 0 && status != -ENOSPC && status != -EDQUOT && status != -ECANCELED;
}

static int
store_data(struct fold *fo)
{
	int r = write_staging(fo);

	if (is_worth_another_try(r))
		r = PLANTED(61) ? disk_sync_now(fo->d, fo->volume->img->file) : rewrite_staging(fo);
	for (size_t i = 0; r == 0 && i < fo->count; i++) {
		const struct entry *e = &fo->entries[i];

		*(e->digest != 0 ? &fo->stats.blocks_written : &fo->stats.zero_blocks) += e->count;
	}
	return r;
}

/* ---- digests ---- */

static const uint64_t no_zone = UINT64_MAX;

static int
enter_zone(struct fold *fo, uint64_t *zone, uint64_t next)
{
	int r = 0;

	if (*zone == next)
		return 0;
	if (*zone != no_zone)
		r = sum_zone_store(fo->zone, fo->d, fo->volume->sum->file);
	if (r == 0 && next != no_zone)
		sum_zone_begin(fo->zone, next, fo->v->digest_seed);
	*zone = next;
	return r;
}

/* Blocks of one entry: whole zones of zeros are made holes, the rest goes leaf by leaf. Zones are entered in ascending
 * order, so a zone that is cleared is not one that is held. */
static int
set_entry(struct fold *fo, const struct entry *e, uint64_t *zone)
{
	uint64_t block = e->block, end = e->block + e->count;
	int r = 0;

	while (r == 0 && block < end) {
		uint64_t here = block / SUM_ZONE_BLOCKS, zones = (end - block) / SUM_ZONE_BLOCKS;

		if (block % SUM_ZONE_BLOCKS == 0 && zones > 0) {
			r = sum_clear_zones(fo->d, fo->volume->sum->file, here, here + zones);
			block += zones * SUM_ZONE_BLOCKS;
			continue;
		}
		r = enter_zone(fo, zone, here);
		for (; r == 0 && block < end && block / SUM_ZONE_BLOCKS == here; block++)
			sum_zone_set(fo->zone, block, e->digest);
	}
	return r;
}

static int
write_digests(struct fold *fo)
{
	uint64_t zone = no_zone;
	int r = 0;

	for (size_t i = 0; r == 0 && i < fo->count; i++)
		r = set_entry(fo, &fo->entries[i], &zone);
	if (r == 0)
		r = enter_zone(fo, &zone, no_zone);
	if (r == 0 && !PLANTED(15))
		r = disk_sync_now(fo->d, fo->volume->sum->file);
	return r;
}

static int
check_digests(struct fold *fo)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < fo->count; i++) {
		const struct entry *e = &fo->entries[i];
		uint64_t digest = 0;

		if (e->digest == 0)
			continue;
		r = sum_read(fo->d, fo->volume->sum->file, 0, e->block, 1, &digest);
		if (r == 0 && digest != e->digest)
			r = -EIO;
	}
	return r;
}

/* Not punched before they are written again: their pages hold the digests of other blocks too. */
static int
store_digests(struct fold *fo)
{
	int r = write_digests(fo);

	if (!is_worth_another_try(r))
		return r;
	fo->stats.batches_rewritten++;
	r = write_digests(fo);
	return r == 0 ? check_digests(fo) : r;
}

/* ---- batches and volumes ---- */

static int
fold_batch(struct fold *fo)
{
	int r = check_entries(fo);

	list_sources(fo);
	if (r == 0)
		r = make_room(fo);
	if (r == 0)
		r = read_sources(fo);
	if (r == 0)
		r = verify_sources(fo);
	if (r == 0)
		r = store_data(fo);
	if (r == 0)
		r = store_digests(fo);
	if (r == 0)
		fo->stats.batches++;
	return r;
}

static int
fold_volume(struct fold *fo)
{
	uint64_t from = 0;
	int r = 0;

	while (r == 0 && from != UINT64_MAX) {
		ssize_t n =
		    view_changes(fo->v, fo->d, fo->cache, fo->volume->volume, &from, fo->entries, FOLD_BATCH_BLOCKS);

		if (n <= 0)
			return (int)n;
		fo->count = (size_t)n;
		r = fold_batch(fo);
		if (r == 0)
			r = call_pause(fo);
	}
	return r;
}

/* 1 if anything of the volume was written since the base. */
static int
has_changes(struct fold *fo, const struct view_volume *vv)
{
	uint64_t from = 0;

	return (int)view_changes(fo->v, fo->d, fo->cache, vv->volume, &from, fo->entries, 1);
}

static int
raise_fold_lsn(struct fold *fo, const struct view_volume *vv)
{
	struct sum_header h;
	int r = sum_header_read(fo->d, vv->sum->file, &h);

	if (r < 0 || h.fold_lsn > fo->v->lsn)
		return r; /* not if it is there already: perhaps it can be read only because its sync failed */
	h.fold_lsn = fo->v->lsn;
	return sum_header_write(fo->d, vv->sum->file, &h);
}

/* Step 2 for all volumes, changed or not, then step 3: no staging file is newer than its header says, and the headers
 * prove how far the journal may have been released. */
static int
fold_volumes(struct fold *fo)
{
	bool changed[STORE_VOLUMES_MAX];
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < fo->v->volume_count; i++) {
		r = has_changes(fo, &fo->v->volumes[i]);
		changed[i] = r > 0;
		if (r >= 0)
			r = raise_fold_lsn(fo, &fo->v->volumes[i]);
	}
	for (uint32_t i = 0; r >= 0 && i < fo->v->volume_count; i++) {
		fo->volume = &fo->v->volumes[i];
		if (changed[i])
			r = fold_volume(fo);
	}
	return r;
}

static void
fold_free(struct fold *fo)
{
	buffer_free(fo->buffer, fo->buffer_bytes);
	sum_zone_destroy(fo->zone);
	free(fo->entries);
	free(fo->sources);
	free(fo);
}

static struct fold *
fold_alloc(struct view *v, struct disk *d, struct run_cache *cache)
{
	struct fold *fo = calloc(1, sizeof *fo);

	if (fo == NULL)
		return NULL;
	fo->v = v;
	fo->d = d;
	fo->cache = cache;
	fo->entries = malloc(FOLD_BATCH_BLOCKS * sizeof *fo->entries);
	fo->sources = malloc(FOLD_BATCH_BLOCKS * sizeof *fo->sources);
	if (fo->entries == NULL || fo->sources == NULL || sum_zone_create(&fo->zone) < 0) {
		fold_free(fo);
		return NULL;
	}
	return fo;
}

int
fold_run(struct view *v, struct disk *d, struct run_cache *cache, int (*pause)(void *arg), void *arg,
    struct fold_stats *ret_stats, struct view_fault *ret_fault)
{
	struct fold *fo = fold_alloc(v, d, cache);
	int r;

	if (fo == NULL)
		return -ENOMEM;
	fo->pause = pause;
	fo->pause_arg = arg;
	r = fold_volumes(fo);
	*ret_stats = fo->stats;
	if (r < 0 && ret_fault != NULL)
		*ret_fault = fo->fault;
	fold_free(fo);
	return r;
}
