/* SPDX-License-Identifier: Apache-2.0 */
/* Versions in the journal are gathered over several groups and read in the order they lie there. Their digests are in
 * the runs, whose pages have checksums, so there is nothing to tell apart. */
#include "storage/scrub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/pack.h"
#include "storage/plant.h"
#include "storage/scrub_impl.h"
#include "storage/segment.h"

/* ---- what was found ---- */

struct newer_version {
	uint64_t lsn;
};

static int
on_newer_version(void *arg, const struct entry *e)
{
	struct newer_version *n = arg;

	if (e->lsn < n->lsn)
		n->lsn = e->lsn;
	return 0;
}

/* LSN of the next version of a block; UINT64_MAX if it is the newest (or that cannot be told). */
static uint64_t
find_newer(struct scrub *sc, uint32_t volume, uint64_t block, uint64_t lsn)
{
	struct newer_version n = {UINT64_MAX};

	for (size_t i = 0; i < sc->v->run_count; i++)
		(void)run_scan(sc->v->runs[i], sc->d, sc->cache, volume, block, block + 1, lsn, UINT64_MAX,
		    on_newer_version, &n); /* what cannot be read hides no damage: it is reported by itself */
	return n.lsn;
}

static void
report_entry(struct scrub *sc, const struct entry *e, int status)
{
	struct damage d = {.volume = e->volume,
	    .block = e->block,
	    .segment = e->segment,
	    .offset = e->offset,
	    .lsn = e->lsn,
	    .lsn_next = find_newer(sc, e->volume, e->block, e->lsn),
	    .digest = e->digest,
	    .status = status};

	sc->found(sc->arg, &d);
}

/* ---- versions in the journal ---- */

static int
by_place(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static size_t
plan_batch(struct scrub *sc)
{
	struct transfer *t = sc->transfers;
	size_t n = 0;

	for (unsigned i = 0; i < sc->batch_count; i++) {
		const struct entry *e = &sc->batch[i];

		if (n > 0 && e->segment == e[-1].segment && e->offset == e[-1].offset + 1) {
			t[n - 1].len += BLOCK_BYTES;
			continue;
		}
		sc->first[n] = i;
		t[n++] = (struct transfer){.file = view_find_segment(sc->v, e->segment),
		    .buf = sc->batch_buf + (size_t)i * BLOCK_BYTES,
		    .len = BLOCK_BYTES,
		    .offset = (uint64_t)e->offset * BLOCK_BYTES};
	}
	return n;
}

static void
judge_entry(struct scrub *sc, const struct transfer *t, const struct entry *e, const void *block)
{
	uint64_t offset = (uint64_t)e->offset * BLOCK_BYTES;
	int r = 0;

	if (t->res != (int)t->len)
		r = disk_read_now(sc->d, t->file, sc->scratch, BLOCK_BYTES, offset);
	if (r == 0 && digest_block(sc->v->digest_seed, t->res != (int)t->len ? sc->scratch : block) != e->digest)
		r = -HF_EDIGEST;
	sc->stats.blocks++;
	sc->stats.bytes += BLOCK_BYTES;
	if (r < 0 && scrub_is_offered(sc, e->volume, e->block, e->digest))
		r = scrub_rewrite(sc, t->file, offset);
	if (r < 0)
		report_entry(sc, e, r);
}

/* Entries whose segment is missing come first, for segments are sorted out before anything is read. */
static void
drop_missing(struct scrub *sc)
{
	size_t n = 0;

	for (size_t i = 0; i < sc->batch_count; i++) {
		if (view_find_segment(sc->v, sc->batch[i].segment) != NULL)
			sc->batch[n++] = sc->batch[i];
		else
			report_entry(sc, &sc->batch[i], -HF_ECORRUPT);
	}
	sc->batch_count = n;
}

static void
read_batch(struct scrub *sc)
{
	size_t n;

	drop_missing(sc);
	if (sc->batch_count > 0)
		qsort(sc->batch, sc->batch_count, sizeof *sc->batch, by_place);
	n = plan_batch(sc);
	(void)transfers_read(sc->d, sc->transfers, n); /* each one's result is looked at */
	for (size_t k = 0; k < n; k++) {
		const struct transfer *t = &sc->transfers[k];

		for (size_t i = 0; i < t->len / BLOCK_BYTES; i++)
			judge_entry(
			    sc, t, &sc->batch[sc->first[k] + i], (const unsigned char *)t->buf + i * BLOCK_BYTES);
	}
	sc->batch_count = 0;
}

struct gather {
	struct scrub *sc;
	uint64_t block; /* from here on: it was full before */
	uint64_t lsn;   /* and of that block after this one */
	bool full;
};

/* Entries come in order of block, then of LSN. */
static int
on_version(void *arg, const struct entry *e)
{
	struct gather *g = arg;
	struct scrub *sc = g->sc;

	if (e->digest == 0 || e->block < g->block || (e->block == g->block && e->lsn <= g->lsn))
		return 0;
	if (sc->batch_count == BATCH)
		return 1;
	sc->batch[sc->batch_count++] = *e;
	g->block = e->block;
	g->lsn = e->lsn;
	return 0;
}

/* Full batches are read between two scans, for the scan's page must stay where it is meanwhile. */
static int
check_run(struct scrub *sc, struct run *run)
{
	struct gather g = {.sc = sc, .block = sc->group};
	int r;

	do {
		r = run_scan(run, sc->d, sc->cache, sc->volume->volume, g.block, sc->group + GROUP, sc->v->base_lsn,
		    sc->v->lsn, on_version, &g);
		if (r > 0)
			read_batch(sc);
	} while (r > 0);
	return r;
}

int
scrub_check_versions(struct scrub *sc)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < sc->v->run_count && !PLANTED(82); i++)
		r = check_run(sc, sc->v->runs[i]);
	return r;
}

void
scrub_flush(struct scrub *sc)
{
	read_batch(sc);
}

/* ---- runs ---- */

static struct run *
find_run(const struct scrub *sc, uint64_t from)
{
	struct run *found = NULL;

	for (size_t i = 0; i < sc->v->run_count; i++) {
		struct run *run = sc->v->runs[i];

		if (run_number(run) >= from && run_number(run) != 0 &&
		    (found == NULL || run_number(run) < run_number(found)))
			found = run;
	}
	return found;
}

static void
report_page(struct scrub *sc, const struct run *run, uint64_t page, int status)
{
	struct damage d = {.segment = (uint32_t)run_number(run),
	    .block = page,
	    .lsn = run_lsn_first(run),
	    .lsn_next = UINT64_MAX,
	    .status = status};

	sc->found(sc->arg, &d);
}

static void
check_pages(struct scrub *sc, struct run *run, uint64_t first, size_t n)
{
	struct transfer t = {
	    .file = run_file(run), .buf = sc->buf, .len = n * BLOCK_BYTES, .offset = first * BLOCK_BYTES};
	int r = transfers_read(sc->d, &t, 1);

	for (size_t i = 0; i < n; i++) {
		int status = r < 0 ? r : run_check_page(run, sc->buf + i * BLOCK_BYTES, first + i);

		if (r == 0 && (size_t)t.res < (i + 1) * BLOCK_BYTES)
			status = -HF_ECORRUPT;
		if (status < 0)
			report_page(sc, run, first + i, status);
	}
	sc->stats.bytes += n * BLOCK_BYTES;
}

int
scrub_runs(struct scrub *sc, uint64_t *number, uint64_t *page, uint64_t max_bytes)
{
	uint64_t begun = sc->stats.bytes;

	while (sc->stats.bytes - begun < max_bytes) {
		struct run *run = find_run(sc, *number);
		uint64_t left;

		if (run == NULL) {
			*number = UINT64_MAX;
			return 0;
		}
		if (run_number(run) != *number)
			*page = 0;
		*number = run_number(run);
		left = run_pages(run) > *page ? run_pages(run) - *page : 0;
		check_pages(sc, run, *page, left < GROUP ? (size_t)left : GROUP);
		*page += GROUP;
		if (left <= GROUP) {
			(*number)++;
			*page = 0;
		}
	}
	return 0;
}

/* ---- headers of segments ---- */

static int
check_header(const unsigned char *page, uint64_t number)
{
	struct segment_header h;
	struct pack_header p;
	int r = segment_header_decode(page, &h);

	if (r == 0)
		return h.number == number ? 0 : -HF_ECORRUPT;
	if (r == -ENODATA) /* prepared, and not begun */
		return 0;
	return pack_header_decode(page, &p) == 0 && p.number == number ? 0 : -HF_ECORRUPT;
}

/* Of a segment that has a run nobody needs the header. The tail has none, and is the newest. */
static uint64_t
header_lsn(const struct scrub *sc, uint64_t number)
{
	for (size_t i = 0; i < sc->v->run_count; i++)
		if (run_number(sc->v->runs[i]) >= number)
			return UINT64_MAX;
	return sc->v->base_lsn;
}

void
scrub_headers(struct scrub *sc)
{
	for (size_t i = 0; i < sc->v->segment_count; i++) {
		const struct shared_file *f = sc->v->segments[i];
		struct damage d = {.segment = (uint32_t)f->number,
		    .block = SCRUB_HEADER_BLOCK,
		    .lsn = header_lsn(sc, f->number),
		    .lsn_next = UINT64_MAX};

		d.status = disk_read_now(sc->d, f->file, sc->scratch, BLOCK_BYTES, 0);
		if (d.status == 0)
			d.status = check_header(sc->scratch, f->number);
		sc->stats.bytes += BLOCK_BYTES;
		if (d.status < 0)
			sc->found(sc->arg, &d);
	}
}
