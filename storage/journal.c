/* SPDX-License-Identifier: Apache-2.0 */
/* journal.c: groups of records on their way into the journal.
 *
 *	OPEN --close--> STAGED --place, write--> WRITING --> WRITTEN --sync--> DURABLE
 *	  |               ^
 *	  +--> STAGING ---+   a first fill: its payload goes to the staging files, and they are synced
 *
 * One group is open and filled with frames while older ones are on their way: that is group commit. Groups are placed
 * strictly in order, because each descriptor carries the chain of the one before; a sync is submitted only after the
 * write completions of everything it is to cover, and covers all groups written by then. No links, no drains.
 *
 * When a write or a sync fails, nothing of that segment is trusted any further: once nothing is in flight, every group
 * that is not durable, its bytes still in its slab, is placed again in a new segment, whose header names the durable
 * state as its start; so recovery stops reading the failed segment there. If that fails too, the store is failed. */
#include "storage/store_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/plant.h"

enum { DESCRIPTOR_BYTES_MAX = SLAB_HEAD_BYTES - SEGMENT_HEADER_BYTES };

static void place_groups(struct store *s);
static void start_sync(struct store *s);

void
store_fail(struct store *s, int status, const char *format, ...)
{
	va_list ap;

	if (s->failed != 0)
		return;
	s->failed = status;
	va_start(ap, format);
	vsnprintf(s->failed_text, sizeof s->failed_text, format, ap);
	va_end(ap);
	if (s->events != NULL)
		s->events->failed(s->arg, status, s->failed_text);
}

/* ---- segments ---- */

struct segment *
segment_create(uint64_t number)
{
	struct segment *g = calloc(1, sizeof *g);

	if (g == NULL)
		return NULL;
	g->number = number;
	g->bytes = SEGMENT_HEADER_BYTES;
	g->interval = interval_create();
	if (g->interval == NULL) {
		free(g);
		return NULL;
	}
	return g;
}

void
segment_leave(struct segment *g, struct leaving *l)
{
	run_leave(g->run, l);
	for (size_t i = 0; i < segment_data_count(g); i++)
		segment_data_get(g, i).file->leaving = l;
}

void
segment_destroy(struct segment *g, struct disk *d)
{
	if (g == NULL)
		return;
	interval_destroy(g->interval);
	run_unref(g->run, d);
	shared_file_unref(g->file, d);
	segment_drop_data(g, d);
	free(g);
}

size_t
segment_data_count(const struct segment *g)
{
	return g->data != NULL ? g->data_count : 1;
}

struct segment_data
segment_data_get(const struct segment *g, size_t i)
{
	if (g->data != NULL)
		return g->data[i];
	return (struct segment_data){.file = g->file, .bytes = g->bytes, .held_bytes = g->bytes};
}

void
segment_drop_data(struct segment *g, struct disk *d)
{
	for (size_t i = 0; i < g->data_count; i++)
		shared_file_unref(g->data[i].file, d);
	free(g->data);
	g->data = NULL;
	g->data_count = 0;
}

void
store_append_segment(struct store *s, struct segment *g)
{
	if (s->segments_tail != NULL)
		s->segments_tail->next = g;
	else
		s->segments = g;
	s->segments_tail = g;
}

/* Nothing is added to g any more: note where the journal stands after it, so that its run can tell. */
void
segment_seal(struct store *s, struct segment *g)
{
	const struct journal_state *st = &s->durable;

	assert(!g->sealed);
	g->sealed = true;
	g->info = (struct run_info){
	    .source = s->source,
	    .digest_seed = s->digest_seed,
	    .number = g->number,
	    .segment_first = g->number,
	    .lsn_first = g->lsn_first,
	    .lsn_last = st->lsn_last,
	    .segment_bytes = g->bytes,
	    .chain = st->chain,
	    .stream_id = st->stream_id,
	    .sequence = st->sequence,
	    .stream_chain = st->stream_chain,
	    .volume_count = st->volume_count,
	};
	memcpy(g->info.volumes, st->volumes, sizeof g->info.volumes);
	g->lsn_last = st->lsn_last;
	store_wake_job(s);
}

/* ---- filling the open group ---- */

static struct group *
group_create(struct store *s, struct slab *slab, bool fill)
{
	struct group *g = s->free_group;

	if (g != NULL)
		s->free_group = NULL;
	else
		g = calloc(1, sizeof *g);
	if (g == NULL)
		return NULL;
	g->store = s;
	g->slab = slab;
	g->fill = fill;
	g->state = GROUP_OPEN;
	g->head_used = GROUP_HEADER_BYTES;
	g->lsn_first = s->lsn_next;
	g->stream_id = s->stream_id != 0 ? s->stream_id : s->placed.stream_id;
	return g;
}

void
group_free(struct store *s, struct group *g)
{
	if (g->slab != NULL)
		slab_put(s->slabs, g->slab);
	for (size_t i = 0; i < g->sum_count; i++)
		free(g->sums[i]);
	free(g->sums);
	free(g->pieces);
	memset(g, 0, sizeof *g);
	if (s->free_group == NULL)
		s->free_group = g;
	else
		free(g);
}

static bool
group_has_room(const struct store *s, const struct group *g, bool fill, size_t record_bytes, size_t payload_bytes,
    uint32_t entry_count)
{
	return g->fill == fill && g->stream_id == s->stream_id && g->head_used + record_bytes <= DESCRIPTOR_BYTES_MAX &&
	       g->payload_used + payload_bytes <= SLAB_PAYLOAD_BYTES &&
	       g->entry_count + entry_count <= GROUP_ENTRIES_MAX;
}

static void
on_slab_free(void *arg)
{
	struct store *s = arg;

	store_say_room(s);
}

int
journal_open_group(struct store *s, bool fill, size_t record_bytes, size_t payload_bytes, uint32_t entry_count)
{
	struct slab *slab;

	if (s->failed != 0)
		return s->failed;
	if (s->open != NULL && !group_has_room(s, s->open, fill, record_bytes, payload_bytes, entry_count))
		journal_close_group(s);
	if (s->open != NULL) {
		assert(s->open->fill == fill && s->open->stream_id == s->stream_id);
		return 0;
	}
	if (s->group_count >= GROUPS_MAX) {
		s->room_wanted = true;
		return -EAGAIN;
	}
	slab = slab_get(s->slabs);
	if (slab == NULL) {
		s->room_wanted = true;
		s->waiter.wake = on_slab_free;
		s->waiter.arg = s;
		slabs_wait(s->slabs, &s->waiter);
		return -EAGAIN;
	}
	s->open = group_create(s, slab, fill);
	if (s->open == NULL) {
		slab_put(s->slabs, slab);
		return -ENOMEM;
	}
	return 0;
}

/* A group without a record would keep its slab, its kind and its stream, for a frame that may never come. */
void
journal_drop_empty_group(struct store *s)
{
	struct group *g = s->open;

	if (g == NULL || g->record_count > 0)
		return;
	s->open = NULL;
	group_free(s, g);
}

/* Its records are final: the descriptor moves to the end of the head room, right before the payload. */
void
journal_close_group(struct store *s)
{
	struct group *g = s->open;
	size_t bytes;

	if (g == NULL || g->record_count == 0 || s->frame_begun)
		return;
	s->open = NULL;
	g->begun_ns = clock_monotonic_ns();
	bytes = (g->head_used + BLOCK_BYTES - 1) & ~(size_t)(BLOCK_BYTES - 1);
	memset(g->slab->head + g->head_used, 0, bytes - g->head_used);
	memmove(g->slab->payload - bytes, g->slab->head, bytes);
	g->header = (struct group_header){
	    .lsn_first = g->lsn_first,
	    .record_count = g->record_count,
	    .descriptor_bytes = (uint32_t)bytes,
	    .payload_bytes = g->fill ? 0 : g->payload_used,
	    .stream_id = g->stream_id,
	};
	if (s->groups_tail != NULL)
		s->groups_tail->next = g;
	else
		s->groups = g;
	s->groups_tail = g;
	s->group_count++;
	s->stats.groups++;
	if (g->piece_count > 0) {
		g->state = GROUP_STAGING;
		staging_begin(s, g);
	} else {
		g->state = GROUP_STAGED;
		journal_pump(s);
	}
}

/* ---- placing and writing ---- */

/* Entries and checkpoints of groups that are placed in g but not yet in its index, and of one more. */
static int
reserve_interval(struct store *s, struct segment *g, const struct group *more)
{
	size_t entries = more->entry_count, checkpoints = more->checkpoint_count;

	for (const struct group *p = s->groups; p != NULL && p != more; p = p->next) {
		if (p->segment != g)
			continue;
		entries += p->entry_count;
		checkpoints += p->checkpoint_count;
	}
	return interval_reserve(g->interval, entries, checkpoints);
}

static bool
segment_has_room(const struct store *s, const struct group *g)
{
	const struct segment *tail = s->segments_tail;

	if (tail == NULL || s->roll || tail->sealed)
		return false;
	if (!tail->begun)
		return true;
	return tail->bytes + g->header.descriptor_bytes + g->header.payload_bytes <= tail->capacity &&
	       tail->interval->count < INTERVAL_ENTRIES_MAX &&
	       tail->interval->checkpoint_count < INTERVAL_CHECKPOINTS_MAX;
}

/* The segment g goes into, NULL while the next one is being prepared. */
static struct segment *
segment_for_group(struct store *s, const struct group *g)
{
	struct segment *next = s->prepared;

	if (segment_has_room(s, g))
		return s->segments_tail;
	if (next == NULL) {
		s->want_segment = true;
		store_wake_job(s);
		return NULL;
	}
	s->prepared = NULL;
	s->want_segment = false;
	s->roll = false;
	next->lsn_first = g->lsn_first;
	next->lsn_last = g->lsn_first - 1;
	store_append_segment(s, next);
	return next;
}

static void
apply_placed(struct store *s, const struct group *g, const unsigned char *descriptor)
{
	struct record_walk w;
	struct record r;
	int e;

	record_walk_begin(&w, &g->header, descriptor);
	while ((e = record_walk_next(&w, &r)) > 0)
		if (journal_state_apply(&s->placed, &g->header, &r) < 0)
			break;
	assert(e == 0); /* we encoded it after checking it */
	s->placed.chain = g->header.chain;
}

static void
on_write_done(void *arg, int res)
{
	struct group *g = arg;
	struct store *s = g->store;

	assert(g->state == GROUP_WRITING);
	s->writes_inflight--;
	g->state = GROUP_WRITTEN;
	histogram_add(&s->stats.write_times, clock_monotonic_ns() - g->write_begun_ns);
	s->stats.io_errors += res < 0;
	if (res < 0)
		s->broken = res;
	else if (PLANTED(1) && g->sequence != 0)
		s->events->durable(s->arg, g->sequence);
	journal_pump(s);
}

/* Of the segment before; numbers may be left out between. */
static uint64_t
previous_number(const struct store *s, const struct segment *seg)
{
	uint64_t number = 0;

	for (const struct segment *p = s->segments; p != seg; p = p->next)
		number = p->number;
	return number;
}

/* Encode g as the next group of segment and submit its write: [segment header |] descriptor | payload. */
static void
write_group(struct store *s, struct group *g, struct segment *seg)
{
	unsigned char *descriptor = g->slab->payload - g->header.descriptor_bytes;
	unsigned char *start = descriptor;
	uint64_t offset = seg->bytes;

	g->segment = seg;
	g->header.segment = seg->number;
	g->header.digest_seed = s->digest_seed;
	g->header.lsn_durable = s->durable.lsn_last;
	g->header.chain_before = s->placed.chain;
	group_header_encode(&g->header, descriptor);
	if (!seg->begun) {
		struct segment_header h = {
		    .source = s->source,
		    .digest_seed = s->digest_seed,
		    .number = seg->number,
		    .previous = previous_number(s, seg),
		    .start = s->placed,
		};

		assert(offset == SEGMENT_HEADER_BYTES);
		start -= SEGMENT_HEADER_BYTES;
		segment_header_encode(&h, start);
		offset = 0;
		seg->begun = true;
	}
	g->file_offset = seg->bytes;
	g->file_bytes = g->header.descriptor_bytes + g->header.payload_bytes;
	seg->bytes += g->file_bytes;
	apply_placed(s, g, descriptor);
	g->state = GROUP_WRITING;
	s->writes_inflight++;
	g->op.cb = on_write_done;
	g->op.arg = g;
	g->write_begun_ns = clock_monotonic_ns();
	s->stats.written_bytes += seg->bytes - offset;
	disk_write(s->disk, &g->op, seg->file->file, start, seg->bytes - offset, offset);
}

static void
place_groups(struct store *s)
{
	for (struct group *g = s->groups; g != NULL && g->state != GROUP_STAGING; g = g->next) {
		struct segment *seg;

		if (g->state != GROUP_STAGED)
			continue;
		seg = segment_for_group(s, g);
		if (seg == NULL)
			return;
		if (reserve_interval(s, seg, g) < 0) {
			store_fail(
			    s, -ENOMEM, "no memory for the index of segment %llu", (unsigned long long)seg->number);
			return;
		}
		write_group(s, g, seg);
	}
}

/* ---- syncing ---- */

static void
note_entry(void *arg, const struct entry *e)
{
	struct group *g = arg;

	interval_add(g->segment->interval, e);
	store_note_entry(g->store, e);
}

static void
note_record(struct store *s, struct group *g, const struct record *r)
{
	struct checkpoint c;

	switch (r->header.type) {
	case RECORD_DATA:
		record_entries(r, g->segment->number, g->file_offset + g->header.descriptor_bytes, note_entry, g);
		return;
	case RECORD_CHECKPOINT:
		if (record_checkpoint_decode(r, &c) < 0)
			return; /* cannot be: it was encoded here */
		interval_add_checkpoint(g->segment->interval, &c);
		store_note_checkpoint(s, &c);
		return;
	case RECORD_FILL:
	case RECORD_VOLUME: return; /* journal_state_apply() has done it */
	}
}

/* The staging files of volumes whose first fill moved. */
static void
note_frontiers(struct store *s)
{
	for (uint32_t i = 0; i < s->durable.volume_count; i++) {
		const struct run_volume *d = &s->durable.volumes[i];
		struct volume *v = store_find_volume(s, d->volume);

		if (v == NULL)
			continue;
		v->info.frontier_blocks = d->frontier_blocks;
		if (d->frontier_blocks == volume_blocks(v) && !v->growing) {
			free(v->cursor);
			v->cursor = NULL;
		}
	}
}

/* Every segment before the one this group is in has all its groups durable now. */
static void
seal_before(struct store *s, const struct segment *seg)
{
	for (struct segment *p = s->segments; p != seg; p = p->next)
		if (!p->sealed)
			segment_seal(s, p);
}

static void
finish_group(struct store *s, struct group *g)
{
	int64_t waited_ns = clock_monotonic_ns() - g->begun_ns;
	struct record_walk w;
	struct record r;
	int e;

	seal_before(s, g->segment);
	record_walk_begin(&w, &g->header, g->slab->payload - g->header.descriptor_bytes);
	while ((e = record_walk_next(&w, &r)) > 0) {
		e = journal_state_apply(&s->durable, &g->header, &r);
		assert(e == 0);
		note_record(s, g, &r);
	}
	assert(e == 0);
	s->durable.chain = g->header.chain;
	g->segment->lsn_last = s->durable.lsn_last;
	if (g->fill)
		note_frontiers(s);
	s->stats.durable_bytes += g->payload_used;
	pace_note_group(&s->pace, waited_ns);
	s->group_count--;
	s->groups = g->next;
	if (s->groups == NULL)
		s->groups_tail = NULL;
	group_free(s, g);
}

static void
on_sync_done(void *arg, int res)
{
	struct store *s = arg;
	uint64_t sequence = 0;

	s->sync_inflight = false;
	histogram_add(&s->stats.sync_times, clock_monotonic_ns() - s->sync_begun_ns);
	s->stats.io_errors += res < 0;
	if (res < 0) {
		s->broken = PLANTED(26) ? 0 : res;
		for (struct group *g = s->groups; g != NULL; g = g->next)
			g->synced = false;
	}
	while (s->groups != NULL && (s->groups->synced || (PLANTED(27) && s->groups->state == GROUP_WRITTEN))) {
		if (s->groups->stream_id == s->stream_id && s->groups->sequence != 0)
			sequence = s->groups->sequence;
		s->failovers = 0;
		finish_group(s, s->groups);
	}
	if (sequence != 0 && s->events != NULL)
		s->events->durable(s->arg, sequence);
	journal_pump(s);
	store_say_room(s);
	store_flush(s);
}

static void
start_sync(struct store *s)
{
	struct group *g = s->groups;

	if (s->sync_inflight || s->broken != 0 || g == NULL || g->state != GROUP_WRITTEN)
		return;
	s->sync_segment = g->segment;
	for (; g != NULL && g->state == GROUP_WRITTEN && g->segment == s->sync_segment; g = g->next)
		g->synced = true;
	s->sync_inflight = true;
	s->sync_begun_ns = clock_monotonic_ns();
	s->sync_op.cb = on_sync_done;
	s->sync_op.arg = s;
	if (PLANTED(2)) {
		static unsigned char page[BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES)));

		disk_read(s->disk, &s->sync_op, s->sync_segment->file->file, page, sizeof page, 0);
		return;
	}
	disk_sync(s->disk, &s->sync_op, s->sync_segment->file->file);
}

/* ---- failing over ---- */

/* Where the durable part of a segment ends: before its first group that is not durable. */
static void
cut_back_segments(struct store *s)
{
	for (struct group *g = s->groups; g != NULL; g = g->next) {
		if (g->segment != NULL && g->file_offset < g->segment->bytes)
			g->segment->bytes = g->file_offset;
		if (g->state > GROUP_STAGED)
			g->state = GROUP_STAGED;
		g->segment = NULL;
		g->synced = false;
	}
}

static void
fail_over(struct store *s)
{
	if (s->broken == -ENOSPC || s->broken == -EDQUOT)
		s->full = true; /* no fault of the segment: the next one is made when there is room */
	else if (s->failovers++ >= FAILOVERS_MAX) {
		store_fail(s, s->broken, "writing the journal failed in two segments in a row (%s)",
		    hf_status_text(s->broken));
		return;
	}
	cut_back_segments(s);
	if (!PLANTED(28))
		s->placed = s->durable;
	s->roll = true;
	s->broken = 0;
}

void
journal_pump(struct store *s)
{
	if (s->failed != 0)
		return;
	if (s->broken != 0) {
		if (s->writes_inflight > 0 || s->sync_inflight)
			return;
		fail_over(s);
		if (s->failed != 0)
			return;
	}
	place_groups(s);
	start_sync(s);
}

void
journal_group_staged(struct store *s)
{
	journal_pump(s);
}
