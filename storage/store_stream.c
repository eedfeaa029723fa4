/* SPDX-License-Identifier: Apache-2.0 */
/* store_stream.c: the stream of frames: checked against the volumes, turned into records of the open group. */
#include "storage/store_impl.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/plant.h"

int
store_stream_start(struct store *s, uint64_t stream_id, bool resume)
{
	if (s->failed != 0)
		return s->failed;
	if (!store_is_idle(s) || s->groups != NULL)
		return -EBUSY;
	if (resume && stream_id != s->durable.stream_id)
		return -HF_ESTREAM;
	if (!resume && (stream_id == 0 || stream_id == s->durable.stream_id))
		return -HF_ESTREAM;
	s->stream_id = stream_id;
	s->sequence = resume ? s->durable.sequence : 0;
	s->chain = resume ? s->durable.stream_chain : stream_id;
	retention_connect(&s->retention, store_passed(s));
	return 0;
}

void
store_stream_stop(struct store *s)
{
	store_frame_abort(s);
	retention_disconnect(&s->retention, store_passed(s));
}

/* Where the fill of a volume stands while the extents of one frame are checked one after the other. */
static int
check_fill(const struct volume *v, const struct record_extent *x, uint64_t *frontier)
{
	if (x->block != *frontier || v->cursor == NULL)
		return -HF_EFRONTIER;
	*frontier += x->count;
	return 0;
}

static int
check_extent(const struct volume *v, const struct record_extent *x, uint64_t *frontier)
{
	uint64_t blocks;

	if (v == NULL || !v->info.declared)
		return -HF_EVOLUME;
	blocks = volume_blocks(v);
	if (x->count == 0 || x->block >= blocks || x->count > blocks - x->block)
		return -HF_EBEYOND;
	if (x->kind == 3 || x->kind == 4)
		return check_fill(v, x, frontier);
	return x->block + x->count <= v->info.frontier_received_blocks ? 0 : -HF_EFRONTIER;
}

/* Check the extents against the volumes, and count what they become in the index. */
static int
check_extents(struct store *s, const struct record_extent *extents, size_t count, size_t digest_count)
{
	uint64_t frontier = 0;
	uint32_t entries = 0;
	size_t digests = 0;

	s->frame.fill = extents[0].kind == 3 || extents[0].kind == 4;
	for (size_t i = 0; i < count; i++) {
		const struct record_extent *x = &extents[i];
		const struct volume *v = store_find_volume(s, x->volume);
		int r;

		if (s->frame.fill != (x->kind == 3 || x->kind == 4) ||
		    x->volume != (s->frame.fill ? extents[0].volume : x->volume))
			return -HF_EPROTOCOL;
		if (i == 0 && v != NULL)
			frontier = v->info.frontier_received_blocks;
		r = check_extent(v, x, &frontier);
		if (r < 0)
			return r;
		if (x->kind == 1 || x->kind == 3)
			digests += x->count;
		entries += x->kind == 1 ? (uint32_t)x->count : 1 + (uint32_t)(x->count >> 32);
		if (digests > digest_count)
			return -HF_EPROTOCOL;
	}
	s->frame.entry_count = s->frame.fill ? 0 : entries;
	if (s->frame.entry_count > GROUP_ENTRIES_MAX)
		return -HF_EPROTOCOL;
	return digests == digest_count ? 0 : -HF_EPROTOCOL;
}

/* Where the next record of the open group goes. */
static unsigned char *
record_place(const struct store *s)
{
	return s->open->slab->head + s->open->head_used;
}

/* The record encoded at record_place() belongs to the group now. */
static void
commit_record(struct store *s, size_t bytes)
{
	struct group *g = s->open;

	g->head_used += bytes;
	g->record_count++;
	s->lsn_next++;
}

/* A stream frame was accepted: it is part of the stream from here on. */
static void
advance_stream(struct store *s, uint64_t sequence, uint64_t chain)
{
	s->sequence = sequence;
	s->chain = chain;
	s->open->sequence = sequence;
}

/* Volumes declared since: their records go before the first frame that can name them. */
static int
log_volumes(struct store *s)
{
	for (uint32_t i = 0; i < s->volume_count; i++) {
		struct volume *v = s->volumes[i];
		struct run_volume rv = {.volume = v->info.volume, .size_bytes = v->info.size_bytes, .id = v->info.id};
		int r;

		if (v->logged)
			continue;
		r = journal_open_group(s, false, RECORD_VOLUME_BYTES, 0, 0);
		if (r < 0)
			return r;
		record_volume_encode(record_place(s), s->sequence, s->chain, &rv);
		commit_record(s, RECORD_VOLUME_BYTES);
		v->logged = true;
	}
	return 0;
}

static int
check_stream(const struct store *s, uint64_t sequence)
{
	if (s->failed != 0)
		return s->failed;
	if (s->shutting_down)
		return -HF_ESHUTDOWN;
	if (s->stream_id == 0 || sequence != s->sequence + 1)
		return -HF_ESEQUENCE;
	return 0;
}

int
store_frame_begin(struct store *s, uint64_t sequence, uint64_t chain, const struct store_extent *extents,
    size_t extent_count, const uint64_t *digests, size_t digest_count, void **ret_payload)
{
	struct record_extent x[RECORD_EXTENTS_MAX];
	size_t bytes = record_extents_bytes(extent_count, digest_count);
	int r = check_stream(s, sequence);

	assert(!s->frame_begun);
	if (r < 0)
		return r;
	if (extent_count == 0 || extent_count > RECORD_EXTENTS_MAX || digest_count > RECORD_DIGESTS_MAX)
		return -HF_EPROTOCOL;
	for (size_t i = 0; i < extent_count; i++)
		x[i] = (struct record_extent){extents[i].block, extents[i].count, extents[i].volume, extents[i].kind};
	r = check_extents(s, x, extent_count, digest_count);
	if (r == 0)
		r = log_volumes(s);
	if (r == 0)
		r = journal_open_group(s, s->frame.fill, bytes, digest_count * BLOCK_BYTES, s->frame.entry_count);
	if (r < 0)
		return r;
	record_extents_encode(record_place(s), s->frame.fill ? RECORD_FILL : RECORD_DATA, sequence, chain, x,
	    extent_count, digests, digest_count);
	s->frame.sequence = sequence;
	s->frame.chain = chain;
	s->frame.record_bytes = bytes;
	s->frame.extent_count = extent_count;
	s->frame.digest_count = digest_count;
	s->frame_begun = true;
	*ret_payload = digest_count > 0 ? s->open->slab->payload + s->open->payload_used : NULL;
	return 0;
}

/* Does every block of the begun frame match the digest the agent took when it read the disk? */
static int
verify_payload(struct store *s, const struct record *r, size_t *ret_bad)
{
	const unsigned char *payload = s->open->slab->payload + s->open->payload_used;

	if (PLANTED(6))
		return 0;
	for (size_t i = 0; i < s->frame.digest_count; i++)
		if (digest_block(s->digest_seed, payload + i * BLOCK_BYTES) != record_digest_get(r, i)) {
			*ret_bad = i;
			return -HF_EDIGEST;
		}
	return 0;
}

int
store_frame_end(struct store *s, size_t *ret_bad)
{
	struct record r = {.body = record_place(s) + RECORD_HEADER_BYTES};
	struct record_extent x[RECORD_EXTENTS_MAX];
	uint64_t digests[RECORD_DIGESTS_MAX];
	struct group *g = s->open;
	int e;

	assert(s->frame_begun && g != NULL);
	s->frame_begun = false;
	e = verify_payload(s, &r, ret_bad);
	if (e < 0) {
		journal_drop_empty_group(s);
		return e;
	}
	if (s->frame.fill) {
		for (size_t i = 0; i < s->frame.extent_count; i++)
			x[i] = record_extent_get(&r, i);
		for (size_t i = 0; i < s->frame.digest_count; i++)
			digests[i] = record_digest_get(&r, i);
		e = staging_add(s, g, x, s->frame.extent_count, digests, g->payload_used);
		if (e < 0) { /* the cursor may have moved: it cannot be taken back */
			store_fail(s, e, "no memory to stage a frame");
			return e;
		}
	}
	g->payload_used += s->frame.digest_count * BLOCK_BYTES;
	g->entry_count += s->frame.entry_count;
	s->stats.received_bytes += s->frame.digest_count * BLOCK_BYTES;
	commit_record(s, s->frame.record_bytes);
	advance_stream(s, s->frame.sequence, s->frame.chain);
	return 0;
}

void
store_frame_abort(struct store *s)
{
	s->frame_begun = false; /* nothing of it was committed: its room is used again */
	journal_drop_empty_group(s);
}

/* The checkpoint as it stands at this place in the stream. */
static void
describe_volumes(const struct store *s, struct checkpoint *c)
{
	c->complete = !s->unmade;
	c->volume_count = 0;
	for (uint32_t i = 0; i < s->volume_count; i++) {
		const struct volume *v = s->volumes[i];

		if (!v->info.declared)
			continue;
		c->volumes[c->volume_count].volume = v->info.volume;
		c->volumes[c->volume_count].size_bytes = v->info.size_bytes;
		c->volume_count++;
		if (!v->readable || (v->info.frontier_received_blocks < volume_blocks(v) && !PLANTED(29)))
			c->complete = false;
	}
	if (c->volume_count == 0)
		c->complete = false;
}

/* A moment after the checkpoint's arrival cannot be what it describes: the source's clock was stepped and we have not
 * measured it yet. Left so, it would age every point by that step, and expire them. */
static void
settle_clock(struct checkpoint *c)
{
	if (checkpoint_time_ns(c) > c->received_ns)
		c->clock_offset_ns = c->clock_ns - c->received_ns;
}

int
store_checkpoint(struct store *s, uint64_t sequence, uint64_t chain, const struct checkpoint *checkpoint)
{
	struct checkpoint c = *checkpoint;
	size_t bytes;
	int r = check_stream(s, sequence);

	assert(!s->frame_begun);
	if (r < 0)
		return r;
	if (c.consistency < CHECKPOINT_FUZZY || c.consistency > CHECKPOINT_APPLICATION)
		return -HF_EPROTOCOL; /* recovery would call the journal damaged */
	settle_clock(&c);
	describe_volumes(s, &c);
	c.stream_id = s->stream_id;
	bytes = record_checkpoint_bytes(c.volume_count);
	r = log_volumes(s);
	if (r == 0)
		r = journal_open_group(s, s->open != NULL && s->open->fill, bytes, 0, 0);
	if (r < 0)
		return r;
	c.lsn = s->lsn_next;
	record_checkpoint_encode(record_place(s), sequence, chain, &c);
	commit_record(s, bytes);
	s->open->checkpoint_count++;
	if (PLANTED(21))
		store_note_checkpoint(s, &c);
	advance_stream(s, sequence, chain);
	return 0;
}

void
store_flush(struct store *s)
{
	if (s->open == NULL || s->frame_begun || s->failed != 0)
		return;
	if (s->group_count == 0 || s->open->payload_used >= GROUP_EARLY_BYTES)
		journal_close_group(s);
}

void
store_tick(struct store *s)
{
	int64_t now = clock_monotonic_ns();

	if (s->failed != 0)
		return;
	if (s->full) {
		s->full = false; /* set again by whoever finds no room */
		staging_retry(s);
		store_wake_job(s);
	}
	retention_watch(&s->retention, store_clock(s), store_passed(s));
	if (now >= s->points_due_ns) {
		s->points_due_ns = now + 10 * NS_PER_SECOND;
		s->points_wanted = true;
		store_wake_job(s);
	}
	store_say_room(s);
}
