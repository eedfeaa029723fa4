/* SPDX-License-Identifier: Apache-2.0 */
/* job_merge.c: adjacent runs become one, without the versions that no point sees any more, and what nothing refers to
 * is freed: the cost of history follows what kept points see.
 *
 * 1. The index is read once: which blocks of which data segments are live.
 * 2. Segments that would hold less than a quarter of live blocks even after their holes are made are nearly dead: a
 *    packed segment is made for what is live in them.
 * 3. The index is read again, and written: the new run, aside. Live blocks of nearly dead segments are copied.
 * 4. The packed segment and its name are synced, then the run is synced and renamed over that of the newest segment.
 *    That is the commit point.
 * 5. The older runs and the segments without a live block are removed. Holes are job_punch.c's.
 *
 * A cut before 4 leaves files that recovery sweeps, one after it files that the new run supersedes. Points may change
 * meanwhile: they can only become fewer, for what is neither kept nor in the window is no point when a merge is made.
 */
#include "storage/job_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/merge.h"
#include "storage/pack.h"
#include "storage/plant.h"
#include "storage/punch.h"

enum {
	QUEUE_ENTRIES = PACK_BATCH_BLOCKS,
	MAP_BYTES_MAX = 16 * 1024 * 1024, /* of what is live where; segments beyond it are not packed */
	PACK_BLOCKS_MAX = 64 * 1024,      /* copied by one merge; the next one goes on */
	ROT_MAX = 64,                     /* places told of; those beyond are found by a scrub */
};

struct merge_file { /* a data segment */
	struct segment_data data;
	struct punch_map map; /* no bits: not looked at */
	bool pack;
};

struct merge_work {
	struct store_job *job;
	struct store *store;
	struct disk *d;
	struct run *runs[MERGE_RUNS_MAX];
	uint64_t numbers[MERGE_RUNS_MAX];
	size_t run_count;
	uint64_t *points;
	size_t point_count;
	struct run_info info;     /* of the run that is made */
	struct merge_file *files; /* by number */
	size_t file_count;
	uint64_t entries; /* measured, for the pause */
	/* writing */
	struct run_writer *writer;
	struct pack *pack;
	uint64_t packed_number;
	struct segment_data packed;
	struct entry queue[QUEUE_ENTRIES];
	size_t queue_count;
	struct run *run;           /* made: it has its name */
	struct segment_data *data; /* of the run that is made, for the owner */
	bool punch;                /* and its name is durable */
	bool removed;              /* and what it supersedes is gone, durably */
	uint64_t copied_bytes, freed_bytes;
	struct catalog_suspect rot[ROT_MAX]; /* blocks that did not match their digests */
	size_t rot_count;
};

/* ---- the owner's part: what is merged ---- */

/* Points that must stay restorable: kept ones, and what the window begins with. Views that are alive read by the runs
 * and files there are now, whatever becomes of their names; holes wait for them. */
static int
list_points(struct store *s, uint64_t window_lsn, uint64_t **ret_points, size_t *ret_count)
{
	uint64_t *points = calloc(s->pit_count + 1, sizeof *points);
	size_t n = 0, unique = 0;

	if (points == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < s->pit_count; i++)
		points[n++] = s->pits[i].lsn;
	points[n++] = window_lsn;
	qsort(points, n, sizeof *points, lsn_compare);
	for (size_t i = 0; i < n && points[i] <= window_lsn; i++)
		if (unique == 0 || points[unique - 1] != points[i])
			points[unique++] = points[i];
	*ret_points = points;
	*ret_count = unique;
	return 0;
}

/* Segments that no point of the window needs more than the newest state of, but never the newest of all. */
static size_t
count_old(const struct store *s, uint64_t window_lsn, uint64_t *ret_lsn_last)
{
	size_t n = 0;

	*ret_lsn_last = 0;
	for (const struct segment *g = s->segments; g != NULL && g->next != NULL; g = g->next) {
		if (g->run == NULL || g->info.lsn_last >= window_lsn)
			break;
		*ret_lsn_last = g->info.lsn_last;
		n++;
	}
	return n;
}

/* Of the last segment the header stays. One whose first write failed may have none: it holds nothing, and goes with
 * those behind it. */
static size_t
leave_out_empty(const struct segment *first, size_t count)
{
	const struct segment *g = first;
	size_t n = 0;

	for (size_t i = 1; i <= count; i++, g = g->next)
		if (g->info.lsn_last >= g->info.lsn_first)
			n = i;
	return n > 1 || count == 1 ? n : 0;
}

static size_t
pick(const struct store *s, size_t count, const uint64_t *points, size_t point_count, struct segment **ret_first)
{
	struct merge_run *runs = calloc(count, sizeof *runs);
	struct segment *g = s->segments;
	size_t first = 0, n = 0;

	if (runs == NULL)
		return 0;
	for (size_t i = 0; i < count; i++, g = g->next)
		runs[i] = (struct merge_run){
		    g->info.lsn_first, g->info.lsn_last, run_entry_count(g->run), run_checkpoint_count(g->run)};
	n = merge_pick(runs, count, points, point_count, &first);
	free(runs);
	for (g = s->segments; first > 0; first--)
		g = g->next;
	*ret_first = g;
	return leave_out_empty(g, n);
}

static int
by_number(const void *a, const void *b)
{
	const struct merge_file *x = a, *y = b;

	return x->data.file->number < y->data.file->number ? -1 : x->data.file->number > y->data.file->number;
}

static void
add_file(struct merge_work *w, const struct segment_data *from)
{
	struct merge_file *f = &w->files[w->file_count++];

	f->data = *from;
	shared_file_ref(f->data.file);
}

static int
list_files(struct merge_work *w, const struct segment *first, size_t count)
{
	const struct segment *g = first;
	size_t n = 0;

	for (size_t i = 0; i < count; i++, g = g->next)
		n += segment_data_count(g);
	w->files = calloc(n, sizeof *w->files);
	w->data = calloc(n + 1, sizeof *w->data);
	if (w->files == NULL || w->data == NULL)
		return -ENOMEM;
	for (g = first; count-- > 0; g = g->next)
		for (size_t i = 0; i < segment_data_count(g); i++) {
			struct segment_data data = segment_data_get(g, i);

			add_file(w, &data);
		}
	qsort(w->files, w->file_count, sizeof *w->files, by_number);
	return 0;
}

static int
fill_work(struct merge_work *w, const struct segment *first, size_t count)
{
	const struct segment *g = first;
	int r = list_files(w, first, count);

	for (size_t i = 0; i < count; i++, g = g->next) {
		w->numbers[i] = g->number;
		w->runs[w->run_count++] = run_ref(g->run);
		w->info = g->info;
	}
	w->info.merged = true;
	w->info.segment_first = first->info.segment_first;
	w->info.lsn_first = first->info.lsn_first;
	return r;
}

void
merge_work_destroy(struct merge_work *w, struct disk *d)
{
	if (w == NULL)
		return;
	for (size_t i = 0; i < w->run_count; i++)
		run_unref(w->runs[i], d);
	for (size_t i = 0; i < w->file_count; i++) {
		shared_file_unref(w->files[i].data.file, d);
		punch_map_fini(&w->files[i].map);
	}
	shared_file_unref(w->packed.file, d);
	run_unref(w->run, d);
	free(w->files);
	free(w->data);
	free(w->points);
	free(w);
}

static struct store_job *
create_job(struct store *s, struct segment *first, size_t count, uint64_t *points, size_t point_count)
{
	struct store_job *job = job_create(s, JOB_MERGE);
	struct merge_work *w = calloc(1, sizeof *w);

	if (job != NULL)
		job->merge = w;
	if (job == NULL || w == NULL || fill_work(w, first, count) < 0) {
		if (job == NULL)
			merge_work_destroy(w, s->disk);
		store_job_destroy(job);
		free(points);
		return NULL;
	}
	w->job = job;
	w->store = s;
	w->points = points;
	w->point_count = point_count;
	w->packed_number = ++s->segment_number_last;
	job->segment = first;
	if (w->info.lsn_last > s->merged_lsn)
		s->merged_lsn = w->info.lsn_last;
	return job;
}

static struct store_job *
make_merge(struct store *s)
{
	uint64_t window_lsn = store_window_lsn(s), lsn_last, *points;
	size_t old = count_old(s, window_lsn, &lsn_last), point_count, count;
	struct segment *first;

	if (s->shutting_down || s->asked_jobs > 0 || s->out[JOB_POINTS] != NULL || s->pits_doubted)
		return NULL; /* what is about to be kept, or may be, must not be dropped */
	if (retention_stopped(&s->retention))
		return NULL;
	if (old == 0 || (!s->merge_wanted && lsn_last == s->merge_looked_lsn))
		return NULL;
	if (list_points(s, window_lsn, &points, &point_count) < 0)
		return NULL;
	count = pick(s, old, points, point_count, &first);
	if (count == 0) {
		s->merge_wanted = false;
		s->merge_looked_lsn = lsn_last;
		free(points);
		return NULL;
	}
	marks_drop_before(&s->marks, window_lsn);
	return create_job(s, first, count, points, point_count);
}

/* ---- 1 and 2: what is live, and what is nearly dead ---- */

static struct merge_file *
find_file(struct merge_work *w, uint32_t number)
{
	size_t low = 0, high = w->file_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (w->files[middle].data.file->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < w->file_count && w->files[low].data.file->number == number ? &w->files[low] : NULL;
}

static int
measure_entry(void *arg, const struct entry *e, uint64_t newer_lsn)
{
	struct merge_work *w = arg;
	struct merge_file *f;

	if (e->digest == 0)
		return 0;
	f = find_file(w, e->segment);
	if (f == NULL)
		return -HF_ECORRUPT;
	f->data.live_blocks++;
	if (f->map.bits != NULL && !punch_map_set(&f->map, e->offset))
		return -HF_ECORRUPT;
	return ++w->entries % (16 * QUEUE_ENTRIES) == 0 ? pace_pause(&w->store->pace) : 0;
}

static int
measure(struct merge_work *w)
{
	uint64_t map_bytes = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < w->file_count; i++) {
		struct merge_file *f = &w->files[i];

		f->data.live_blocks = 0;
		map_bytes += f->data.bytes / BLOCK_BYTES / 8;
		if (map_bytes <= MAP_BYTES_MAX)
			r = punch_map_init(&f->map, f->data.bytes);
	}
	return r < 0 ? r : merge_scan(w->runs, w->run_count, w->d, w->points, w->point_count, false, measure_entry, w);
}

static bool
is_nearly_dead(const struct merge_work *w, const struct merge_file *f)
{
	if (f->map.bits == NULL || f->map.live == 0)
		return false;
	if (f->data.file->number == w->info.number && f->map.blocks <= PUNCH_BLOCKS_MIN)
		return false; /* it stays, and is too short for a hole */
	return f->map.live * 4 < punch_map_held(&f->map) - 1;
}

/* Nothing is copied when there is no room for it: it would be given back, but only afterwards. */
static bool
has_room(struct merge_work *w, uint64_t blocks)
{
	const struct store *s = w->store;
	uint64_t bytes_free;

	return disk_free_bytes(w->d, s->journal_dir, &bytes_free) == 0 &&
	       bytes_free >= s->config.reserve_bytes / 2 + blocks * BLOCK_BYTES;
}

static int
begin_pack(struct merge_work *w)
{
	const struct store *s = w->store;
	struct pack_header h = {.source = s->source, .digest_seed = s->digest_seed, .number = w->packed_number};
	char path[PATH_MAX_BYTES];
	uint64_t blocks = 0;

	for (size_t i = 0; i < w->file_count; i++) {
		struct merge_file *f = &w->files[i];

		f->pack = is_nearly_dead(w, f) && blocks + f->map.live <= PACK_BLOCKS_MAX;
		blocks += f->pack ? f->map.live : 0;
	}
	if (blocks == 0)
		return 0;
	if (!has_room(w, blocks)) {
		for (size_t i = 0; i < w->file_count; i++)
			w->files[i].pack = false;
		return 0;
	}
	segment_path(path, sizeof path, s->journal_dir, w->packed_number);
	return pack_create(w->d, path, &h, &w->pack);
}

/* ---- 3: writing ---- */

static void
count_live(struct merge_work *w, const struct entry *e)
{
	if (e->digest == 0)
		return;
	if (e->segment == w->packed_number)
		w->packed.live_blocks++;
	else
		find_file(w, e->segment)->data.live_blocks++;
}

/* A block that could not be moved is rotten where it is. */
static void
note_rot(struct merge_work *w, const struct entry *e)
{
	if (e->segment != w->packed_number && w->rot_count < ROT_MAX)
		w->rot[w->rot_count++] = (struct catalog_suspect){.volume = e->volume, .block = e->block};
}

static int
move_queued(struct merge_work *w)
{
	struct entry *entries[QUEUE_ENTRIES];
	struct disk_file *files[QUEUE_ENTRIES];
	size_t n = 0;
	int r;

	for (size_t i = 0; w->pack != NULL && i < w->queue_count; i++) {
		struct entry *e = &w->queue[i];
		struct merge_file *f = e->digest != 0 ? find_file(w, e->segment) : NULL;

		if (f == NULL || !f->pack)
			continue;
		entries[n] = e;
		files[n++] = f->data.file->file;
	}
	r = n > 0 ? pack_move(w->pack, entries, files, n) : 0;
	for (size_t i = 0; r == 0 && i < n; i++)
		note_rot(w, entries[i]);
	return r;
}

static int
flush_queue(struct merge_work *w)
{
	int r = move_queued(w);

	for (size_t i = 0; r == 0 && i < w->queue_count; i++) {
		count_live(w, &w->queue[i]);
		r = run_writer_add(w->writer, &w->queue[i]);
	}
	w->queue_count = 0;
	return r < 0 ? r : pace_pause(&w->store->pace);
}

static int
write_entry(void *arg, const struct entry *e, uint64_t newer_lsn)
{
	struct merge_work *w = arg;

	w->queue[w->queue_count++] = *e;
	return w->queue_count == QUEUE_ENTRIES ? flush_queue(w) : 0;
}

static int
write_entries(struct merge_work *w)
{
	int r = 0;

	for (size_t i = 0; i < w->file_count; i++)
		w->files[i].data.live_blocks = 0; /* counted again, where they are now */
	for (int wide = 0; r == 0 && wide < 2; wide++) {
		r = merge_scan(w->runs, w->run_count, w->d, w->points, w->point_count, wide, write_entry, w);
		if (r == 0)
			r = flush_queue(w);
	}
	return r;
}

static bool
is_point(const struct merge_work *w, uint64_t lsn)
{
	return bsearch(&lsn, w->points, w->point_count, sizeof lsn, lsn_compare) != NULL;
}

static int
write_checkpoints(struct merge_work *w, struct run *run)
{
	struct checkpoint *checkpoints;
	size_t count;
	int r = run_checkpoints(run, w->d, &checkpoints, &count);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < count; i++)
		if (is_point(w, checkpoints[i].lsn))
			r = run_writer_add_checkpoint(w->writer, &checkpoints[i]);
	free(checkpoints);
	return r;
}

/* The newest segment stays even without a live block: the journal's chain goes on from its header. */
static bool
is_needed(const struct merge_work *w, const struct segment_data *f)
{
	return f->live_blocks > 0 || f->file->number == w->info.number;
}

static int
write_segment(struct merge_work *w, const struct segment_data *f)
{
	struct run_segment row = {f->file->number, f->bytes, f->live_blocks};

	return run_writer_add_segment(w->writer, &row);
}

static int
write_segments(struct merge_work *w)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < w->file_count; i++)
		if (is_needed(w, &w->files[i].data))
			r = write_segment(w, &w->files[i].data);
	return r == 0 && w->packed.file != NULL ? write_segment(w, &w->packed) : r;
}

/* ---- 4: the commit ---- */

static int
end_pack(struct merge_work *w)
{
	int r;

	if (w->pack == NULL || pack_blocks(w->pack) == 0)
		return 0; /* every block of it was bad: the file is swept at the next start */
	w->packed.bytes = w->packed.held_bytes = PACK_HEADER_BYTES + pack_blocks(w->pack) * BLOCK_BYTES;
	w->copied_bytes = w->packed.bytes;
	r = pack_finish(w->pack, &w->packed.file);
	return r < 0 ? r : disk_sync_dir(w->d, w->store->journal_dir);
}

static int
write_run(struct merge_work *w)
{
	int r = write_entries(w);

	for (size_t i = 0; r == 0 && i < w->run_count; i++)
		r = write_checkpoints(w, w->runs[i]);
	if (r == 0)
		r = end_pack(w);
	if (r == 0)
		r = write_segments(w);
	return r;
}

/* ---- 5: what nobody needs ---- */

static int
unlink_there(struct disk *d, const char *path)
{
	int r = disk_unlink(d, path);

	return r == -ENOENT ? 0 : r;
}

static int
remove_superseded(struct merge_work *w)
{
	const char *dir = w->store->journal_dir;
	char path[PATH_MAX_BYTES];
	int r = 0;

	for (size_t i = 0; r == 0 && i + 1 < w->run_count; i++) {
		run_path(path, sizeof path, dir, w->numbers[i]);
		r = unlink_there(w->d, path);
	}
	for (size_t i = 0; r == 0 && i < w->file_count; i++) {
		const struct segment_data *f = &w->files[i].data;

		if (is_needed(w, f))
			continue;
		segment_path(path, sizeof path, dir, f->file->number);
		r = unlink_there(w->d, path);
		w->freed_bytes += f->held_bytes;
	}
	return r < 0 ? r : disk_sync_dir(w->d, dir);
}

static int
commit(struct merge_work *w)
{
	if (PLANTED(40))
		(void)remove_superseded(w);
	return run_writer_commit(w->writer, &w->run);
}

static int
merge(struct merge_work *w, const char *path)
{
	int r = measure(w);

	if (r == 0)
		r = begin_pack(w);
	if (r == 0)
		r = run_writer_open(w->d, w->store->journal_dir, path, &w->info, &w->writer);
	if (r == 0)
		r = write_run(w);
	if (r == 0)
		r = commit(w);
	run_writer_close(w->writer);
	w->writer = NULL;
	return r;
}

/* The packed segment stays if the run that lists it has its name. */
static void
drop_pack(struct merge_work *w)
{
	char path[PATH_MAX_BYTES];

	if (w->pack == NULL)
		return;
	pack_destroy(w->pack);
	w->pack = NULL;
	segment_path(path, sizeof path, w->store->journal_dir, w->packed_number);
	if (w->run == NULL || w->packed.file == NULL)
		(void)disk_unlink(w->d, path); /* swept at the next start otherwise */
}

/* The run has its name. Unless the name is durable, the others must stay: after a cut they may be what is there. Then
 * the next start, or the next merge, removes them. */
static void
release(struct merge_work *w, int synced)
{
	w->punch = synced == 0;
	if (synced < 0)
		job_say(w->job, 0, "merged, but the directory could not be synced");
	else if (remove_superseded(w) < 0)
		job_say(w->job, 0, "merged, but old segments could not be removed; the next start does it");
	else
		w->removed = true;
}

static int
run_merge(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct merge_work *w = job->merge;
	char path[PATH_MAX_BYTES];
	int r;

	(void)cache;
	w->d = d;
	run_path(path, sizeof path, w->store->journal_dir, w->info.number);
	pace_begin(&w->store->pace);
	r = merge(w, path);
	drop_pack(w);
	pace_end(&w->store->pace);
	if (w->run == NULL)
		return job_say(job, r, "merge of segments %llu to %llu: %s", (unsigned long long)w->info.segment_first,
		    (unsigned long long)w->info.number, hf_status_text(r));
	release(w, r);
	return 0;
}

/* ---- the owner takes over ---- */

static void
take_data(struct store *s, struct segment *g, struct merge_work *w)
{
	size_t n = 0;

	for (size_t i = 0; i < w->file_count; i++)
		if (is_needed(w, &w->files[i].data)) {
			w->data[n++] = w->files[i].data;
			shared_file_ref(w->files[i].data.file);
		}
	if (w->packed.file != NULL) {
		w->data[n++] = w->packed;
		w->packed.file = NULL;
	}
	segment_drop_data(g, s->disk);
	g->data = w->data;
	g->data_count = n;
	w->data = NULL;
}

/* The last segment of the range stands for all of them from now on; the others leave the list. Returns it. */
static struct segment *
unlink_range(struct store *s, struct segment *first, size_t count)
{
	struct segment **at = &s->segments, *g;

	while (*at != first)
		at = &(*at)->next;
	for (; count > 1; count--) {
		g = *at;
		*at = g->next;
		segment_destroy(g, s->disk);
	}
	return *at;
}

static void
take_run(struct store *s, struct segment *g, struct merge_work *w)
{
	assert(g->number == w->info.number && g->next != NULL);
	run_unref(g->run, s->disk);
	g->run = w->run;
	w->run = NULL;
	g->info = w->info;
	g->lsn_first = w->info.lsn_first;
	g->unpunched = w->punch;
	g->views_before = s->views_made;
}

/* What has no name any more. The new run has the name of the last old one. */
static void
leave(struct store *s, struct merge_work *w)
{
	for (size_t i = 0; i < w->run_count; i++)
		run_leave(w->runs[i], &s->leaving);
	for (size_t i = 0; i < w->file_count; i++)
		if (!is_needed(w, &w->files[i].data))
			w->files[i].data.file->leaving = &s->leaving;
}

static void
finish_merge(struct store *s, struct store_job *job)
{
	struct merge_work *w = job->merge;
	struct segment *g;

	for (size_t i = 0; i < w->rot_count; i++)
		scrub_suspect(s, &w->rot[i]);
	if (job->status < 0) {
		s->retry_ns[JOB_MERGE] = clock_monotonic_ns() + 30 * JOB_RETRY_NS;
		return;
	}
	if (w->removed)
		leave(s, w);
	g = unlink_range(s, job->segment, w->run_count);
	take_data(s, g, w);
	take_run(s, g, w);
	s->stats.merges++;
	s->stats.merge_copied_bytes += w->copied_bytes;
	s->stats.merge_freed_bytes += w->freed_bytes;
	s->stats.written_bytes += w->copied_bytes;
}

const struct job_class merge_job = {
    .name = "merge runs",
    .slow = true,
    .frees = true,
    .points = true,
    .alone = true,
    .make = make_merge,
    .run = run_merge,
    .finish = finish_merge,
};
