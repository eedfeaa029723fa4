/* SPDX-License-Identifier: Apache-2.0 */
/* Steps 2 to 4 of recover.c: the journal, from what was found of it. */
#include "storage/recover_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/plant.h"

/* ---- the chain ---- */

/* It is part of the chain, or may be: a segment, or a merged run that stands for several. */
static bool
is_link(const struct found *f)
{
	return !f->superseded && (f->valid || found_stands_by_run(f));
}

/* LSN of the last record before it. */
static uint64_t
link_start(const struct found *f)
{
	return found_stands_by_run(f) ? f->info.lsn_first - 1 : f->header.start.lsn_last;
}

/* The first segment still needed: the last that begins before the base. Everything in those before is in the base, and
 * of the record at the base the checkpoint is still wanted. */
static size_t
first_needed(const struct recovery *v)
{
	size_t first = 0;

	for (size_t i = 0; i < v->count; i++)
		if (is_link(&v->found[i]) && link_start(&v->found[i]) < v->s->base_lsn)
			first = i;
	return first;
}

static void
set_limits(struct recovery *v)
{
	uint64_t limit = UINT64_MAX;

	for (size_t i = v->count; i-- > 0;) {
		struct found *f = &v->found[i];

		f->limit = limit;
		if (is_link(f) && link_start(f) < limit)
			limit = link_start(f);
	}
}

static void
add_entry(void *arg, const struct entry *e)
{
	struct recovery *v = arg;

	if (v->status < 0)
		return;
	v->status = interval_reserve(v->scanning->interval, 1, 0);
	if (v->status < 0)
		return;
	interval_add(v->scanning->interval, e);
	store_note_entry(v->s, e);
}

static int
on_record(void *arg, const struct segment_header *h, const struct group_header *g, const struct record *r,
    uint64_t payload_file_offset)
{
	struct recovery *v = arg;
	struct checkpoint c;

	if (r->header.type == RECORD_DATA)
		record_entries(r, h->number, payload_file_offset, add_entry, v);
	if (r->header.type != RECORD_CHECKPOINT || v->status < 0)
		return v->status;
	v->status = record_checkpoint_decode(r, &c);
	if (v->status == 0)
		v->status = interval_reserve(v->scanning->interval, 0, 1);
	if (v->status < 0)
		return v->status;
	interval_add_checkpoint(v->scanning->interval, &c);
	store_note_checkpoint(v->s, &c);
	return 0;
}

static int
scan(struct recovery *v, struct found *f, struct segment *g)
{
	const struct segment_scan_events events = {.record = on_record, .settle = !v->read_only && !PLANTED(19)};
	int r;

	v->scanning = g;
	r = segment_scan(v->d, g->file->file, &f->header, f->limit, &v->state, &g->bytes, &events, v);
	if (r == -HF_ECORRUPT)
		return hf_error_say(v->err, r,
		    "acknowledged records are missing from %s: it can be read up to LSN %llu, but more was durable",
		    g->file->path, (unsigned long long)v->state.lsn_last);
	if (r < 0)
		return hf_error_set(v->err, r, "%s", g->file->path);
	if (v->read_only || PLANTED(20))
		return 0;
	r = disk_sync_now(v->d, g->file->file); /* it may be relied on from now on */
	return r < 0 ? hf_error_set(v->err, r, "%s", g->file->path) : 0;
}

static int
note_checkpoints(struct recovery *v, struct run *run)
{
	struct checkpoint *checkpoints;
	size_t count;
	int r = run_checkpoints(run, v->d, &checkpoints, &count);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++)
		store_note_checkpoint(v->s, &checkpoints[i]);
	free(checkpoints);
	return 0;
}

static void
stand_after(struct recovery *v, const struct run_info *info)
{
	v->state = (struct journal_state){
	    .lsn_last = info->lsn_last,
	    .chain = info->chain,
	    .stream_id = info->stream_id,
	    .sequence = info->sequence,
	    .stream_chain = info->stream_chain,
	    .volume_count = info->volume_count,
	};
	memcpy(v->state.volumes, info->volumes, sizeof v->state.volumes);
}

/* Its end state and checkpoints from the run; -HF_ECORRUPT if that is damaged: the segment itself is read instead. */
static int
take_run(struct recovery *v, struct found *f, struct segment *g)
{
	int r;

	if (f->run == NULL || f->info.lsn_first != link_start(f) + 1)
		return -HF_ECORRUPT;
	r = note_checkpoints(v, f->run);
	if (r < 0)
		return r;
	g->run = run_ref(f->run);
	f->taken = true;
	g->info = f->info;
	interval_destroy(g->interval);
	g->interval = NULL;
	g->bytes = g->info.segment_bytes;
	g->sealed = true;
	g->lsn_last = g->info.lsn_last;
	stand_after(v, &g->info);
	return 0;
}

static int
say_no_header(struct recovery *v, const struct found *f)
{
	return hf_error_say(v->err, -HF_ECORRUPT,
	    "%s/%08llu.seg has no header, and %08llu.run cannot be read in its place", v->s->journal_dir,
	    (unsigned long long)f->number, (unsigned long long)f->number);
}

/* A segment with a run was durable to its end, so reading it must lead to where the next one begins. If it does not,
 * the run was a merged one, and what the segment had was given back. */
static int
scan_in_place_of_run(struct recovery *v, struct found *f, struct segment *g)
{
	int r = scan(v, f, g);

	if (r < 0 || f->limit == UINT64_MAX || v->state.lsn_last >= f->limit)
		return r;
	return hf_error_say(v->err, -HF_ECORRUPT,
	    "%s/%08llu.run is damaged, and the segments it was made of do not replace it: the journal can be read up "
	    "to "
	    "LSN %llu, and goes on only after %llu",
	    v->s->journal_dir, (unsigned long long)f->number, (unsigned long long)v->state.lsn_last,
	    (unsigned long long)f->limit);
}

static struct segment *
append_segment(struct recovery *v, struct found *f)
{
	struct segment *g = segment_create(f->number);

	if (g == NULL)
		return NULL;
	g->file = f->file;
	f->file = NULL;
	g->lsn_first = link_start(f) + 1;
	g->begun = true;
	store_append_segment(v->s, g);
	return g;
}

static int
take_segment(struct recovery *v, struct found *f)
{
	struct store *s = v->s;
	struct segment *g = append_segment(v, f);
	int r = -HF_ECORRUPT;

	if (g == NULL)
		return hf_error_set(v->err, -ENOMEM, "%s", s->journal_dir);
	if (f->has_run)
		r = take_run(v, f, g);
	if (r < 0 && !f->valid)
		return say_no_header(v, f);
	if (r < 0)
		r = f->has_run ? scan_in_place_of_run(v, f, g) : scan(v, f, g);
	if (r < 0)
		return r;
	g->capacity = g->bytes;
	s->durable = v->state;
	if (g->run == NULL)
		segment_seal(s, g);
	return 0;
}

/* ---- merged runs ---- */

static int
say_lost(struct recovery *v, const struct found *f, uint64_t number, const char *why)
{
	return hf_error_say(v->err, -HF_ECORRUPT,
	    "%s/%08llu.seg %s: %08llu.run needs it for the history from LSN %llu to %llu", v->s->journal_dir,
	    (unsigned long long)number, why, (unsigned long long)f->number, (unsigned long long)f->info.lsn_first,
	    (unsigned long long)f->info.lsn_last);
}

/* Nothing replaces it: what it leaves out may have been given back. */
static int
say_damaged(struct recovery *v, const struct found *f, int status)
{
	return hf_error_set(v->err, status, "%s/%08llu.run, which alone has the history from LSN %llu to %llu",
	    v->s->journal_dir, (unsigned long long)f->number, (unsigned long long)f->info.lsn_first,
	    (unsigned long long)f->info.lsn_last);
}

/* A file that it lists: a segment of its range, or a packed one. Its own is the segment's already. */
static int
take_data(struct recovery *v, const struct found *f, struct segment *g, const struct run_segment *row)
{
	struct found *file = recovery_find_number(v, row->number);
	struct segment_data *data = &g->data[g->data_count];
	uint64_t bytes;
	int r;

	if (file == NULL || !file->has_segment)
		return say_lost(v, f, row->number, "is missing");
	if (row->number != f->number && file->file == NULL)
		return say_lost(v, f, row->number, "is of another run as well");
	*data = (struct segment_data){.bytes = row->bytes, .live_blocks = row->live_blocks, .held_bytes = row->bytes};
	data->file = row->number == f->number ? shared_file_ref(g->file) : file->file;
	file->file = NULL;
	g->data_count++;
	r = disk_size(v->d, data->file->file, &bytes);
	if (r < 0)
		return hf_error_set(v->err, r, "%s", data->file->path);
	return bytes < row->bytes ? say_lost(v, f, row->number, "is too short") : 0;
}

static int
take_files(struct recovery *v, const struct found *f, struct segment *g)
{
	struct run_segment *rows;
	size_t count;
	int r = run_segments(g->run, v->d, &rows, &count);

	if (r < 0)
		return say_damaged(v, f, r);
	g->data = calloc(count + 1, sizeof *g->data);
	if (g->data == NULL)
		r = hf_error_set(v->err, -ENOMEM, "%s", v->s->journal_dir);
	for (size_t i = 0; i < count && r == 0; i++)
		r = take_data(v, f, g, &rows[i]);
	free(rows);
	return r;
}

static bool
has_all_files(struct recovery *v, const struct found *f)
{
	struct run_segment *rows;
	size_t count, there = 0;

	if (run_segments(f->run, v->d, &rows, &count) < 0)
		return true; /* damaged: take_merged() tells */
	for (size_t i = 0; i < count; i++) {
		const struct found *file = recovery_find_number(v, rows[i].number);

		there += file != NULL && file->has_segment;
	}
	free(rows);
	return there == count;
}

/* Without the catalog nobody tells the base. A fold that was cut off while it removed what it had folded leaves a run
 * longer than its segments. */
static bool
was_folded(struct recovery *v, const struct found *f)
{
	return (v->read_only || v->s->base_unknown) && f->info.lsn_last < v->s->fold_lsn && !has_all_files(v, f);
}

static int
take_merged(struct recovery *v, struct found *f)
{
	struct store *s = v->s;
	struct segment *g;
	int r;

	if (!f->has_segment)
		return say_lost(v, f, f->number, "is missing");
	g = append_segment(v, f);
	if (g == NULL)
		return hf_error_set(v->err, -ENOMEM, "%s", s->journal_dir);
	r = take_run(v, f, g);
	if (r < 0)
		return say_damaged(v, f, r);
	r = take_files(v, f, g);
	if (r < 0)
		return r;
	g->capacity = g->bytes;
	g->unpunched = true;
	s->durable = v->state;
	if (g->info.lsn_last > s->merged_lsn)
		s->merged_lsn = g->info.lsn_last;
	return 0;
}

/* ---- 3 and 4: what is missing, and what is off the chain ---- */

static int
say_missing(struct recovery *v, uint64_t lsn, const char *who)
{
	return hf_error_say(v->err, -HF_ECORRUPT,
	    "acknowledged records are missing from %s: the journal can be read up to LSN %llu, but %s shows that %llu "
	    "was durable",
	    v->s->journal_dir, (unsigned long long)v->state.lsn_last, who, (unsigned long long)lsn);
}

/* Does any group of a segment that is not part of the journal say that more was durable than we have found? */
static int
check_dropped(struct recovery *v, const struct found *f)
{
	uint64_t lsn = 0;
	int r = segment_claim(v->d, f->file->file, f->number, v->s->digest_seed, SEGMENT_HEADER_BYTES, &lsn);

	if (r < 0)
		return hf_error_set(v->err, r, "%s", f->file->path);
	return lsn > v->state.lsn_last ? say_missing(v, lsn, f->file->path) : 0;
}

/* Without the catalog nothing but the journal tells how far a volume is filled: a journal that is not there (another
 * disk, not mounted) must not be taken for one that was never begun. */
static int
check_begun(struct recovery *v)
{
	struct store *s = v->s;

	for (uint32_t i = 0; s->segments == NULL && i < s->volume_count; i++)
		if (!recovery_holds_nothing(v, s->volumes[i]))
			return hf_error_say(v->err, -HF_ECORRUPT,
			    "%s holds data, but the journal in %s has no segment that can be read",
			    s->volumes[i]->img->path, s->journal_dir);
	return 0;
}

/* The catalog is lost, or a copy that may be older than the last fold: the base is taken to be where the journal
 * begins. It may have been later: then what lies between is read from the journal and not from the staging files, which
 * hold the same; and the next fold writes it once more. It cannot have been earlier: a fold releases only what is
 * folded, and the digest files' fold LSN is raised before. */
static int
prove_base(struct recovery *v)
{
	struct store *s = v->s;
	uint64_t begin = s->segments != NULL ? s->segments->lsn_first - 1 : v->state.lsn_last;

	if (begin > s->fold_lsn)
		return hf_error_say(v->err, -HF_ECORRUPT,
		    "the journal in %s begins at LSN %llu, but the staging files prove nothing beyond LSN %llu",
		    s->journal_dir, (unsigned long long)begin + 1, (unsigned long long)s->fold_lsn);
	if (begin > s->base_lsn)
		s->base_lsn = begin;
	return 0;
}

/* What the catalog and the digest files say was durable, and how far back the journal must reach. */
static int
check_reach(struct recovery *v)
{
	struct store *s = v->s;
	uint64_t lsn = s->base_lsn > s->fold_lsn ? s->base_lsn : s->fold_lsn;

	if (s->pit_count > 0 && s->pits[s->pit_count - 1].lsn > lsn)
		lsn = s->pits[s->pit_count - 1].lsn;
	if (lsn > v->state.lsn_last)
		return say_missing(v, lsn, "what is kept of it");
	if (s->base_unknown) {
		int r = check_begun(v);

		return r == 0 ? prove_base(v) : r;
	}
	if (s->segments != NULL && s->catalog != NULL && s->segments->lsn_first > s->base_lsn + 1)
		return hf_error_say(v->err, -HF_ECORRUPT,
		    "the journal in %s begins at LSN %llu, but it is needed from %llu on", s->journal_dir,
		    (unsigned long long)s->segments->lsn_first, (unsigned long long)s->base_lsn + 1);
	return 0;
}

static bool
fits(const struct recovery *v, const struct found *f)
{
	if (!is_link(f) || link_start(f) != v->state.lsn_last)
		return false;
	return found_stands_by_run(f) || f->header.start.chain == v->state.chain;
}

/* Without the catalog nobody tells the base. Segments before it may be gone, any of them: what lies before a gap is in
 * the staging files, and points before the fold LSN are gone. */
static bool
follows_a_gap(const struct recovery *v, const struct found *f)
{
	return (v->read_only || v->s->base_unknown) && is_link(f) && link_start(f) > v->state.lsn_last &&
	       link_start(f) < v->s->fold_lsn;
}

static void
forget_segments(struct recovery *v)
{
	struct store *s = v->s;

	while (s->segments != NULL) {
		struct segment *g = s->segments;

		s->segments = g->next;
		segment_destroy(g, v->d);
	}
	s->segments_tail = NULL;
	marks_fini(&s->marks);
	s->has_checkpoint = s->has_consistent = false;
}

static void
begin_at(struct recovery *v, const struct found *f)
{
	if (found_stands_by_run(f)) /* its run knows the rest, at its end */
		v->state = (struct journal_state){.lsn_last = link_start(f)};
	else
		v->state = f->header.start;
}

/* Follow the chain from the first segment that is needed. */
static int
take_segments(struct recovery *v, size_t first)
{
	int r = 0;

	v->first = true;
	for (size_t i = first; i < v->count && r == 0; i++) {
		struct found *f = &v->found[i];

		if (found_is_merged(f) && was_folded(v, f))
			continue;
		if (follows_a_gap(v, f)) {
			forget_segments(v);
			v->first = true;
		}
		if (v->first && is_link(f)) {
			begin_at(v, f);
			v->first = false;
		}
		if (fits(v, f))
			r = found_is_merged(f) ? take_merged(v, f) : take_segment(v, f);
	}
	return r;
}

int
recovery_read_journal(struct recovery *v)
{
	size_t first;
	int r = recovery_find_segments(v);

	if (r < 0)
		return r;
	set_limits(v);
	first = first_needed(v);
	r = take_segments(v, first);
	for (size_t i = first; i < v->count && r == 0; i++)
		if (v->found[i].file != NULL && !v->found[i].superseded && !v->found[i].packed)
			r = check_dropped(v, &v->found[i]);
	if (r == 0)
		r = check_reach(v);
	if (r == 0 && !PLANTED(47))
		r = recovery_sync_journal_dir(v); /* a merged run that was renamed before a kill is relied on now */
	return r == 0 ? recovery_remove_untaken(v) : r;
}
