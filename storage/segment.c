/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/segment.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/bytes.h"
#include "proto/common/status.h"
#include "storage/plant.h"
#include "storage/slab.h"

#define SEGMENT_MAGIC 0x544e4d4745534648ull /* "HFSEGMNT" */
#define GROUP_MAGIC   0x3150554f52474648ull /* "HFGROUP1" */

enum {
	HEADER_STATE_OFFSET = 72, /* journal state behind the segment header's fixed fields */
	HEADER_VOLUME_BYTES = 48, /* one row of its volume table */
	HEADER_CHECKSUM_OFFSET = SEGMENT_HEADER_BYTES - 8,
	GROUP_CHECKSUM_OFFSET = GROUP_HEADER_BYTES - 8,
	EXTENTS_FIXED_BYTES = 8, /* the two counts before extents and digests */
	CHECKPOINT_FIXED_BYTES = 56,
	CHECKPOINT_VOLUME_BYTES = 16,
};

_Static_assert(HEADER_STATE_OFFSET + 48 + STORE_VOLUMES_MAX * HEADER_VOLUME_BYTES <= HEADER_CHECKSUM_OFFSET,
    "the volume table fits the header page");
_Static_assert(
    CHECKPOINT_BYTES_MAX == CHECKPOINT_FIXED_BYTES + CHECKPOINT_VOLUME_BYTES * STORE_VOLUMES_MAX, "checkpoint size");

static bool
is_zero(const unsigned char *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* ---- volume rows, shared by the segment header and VOLUME records ---- */

static void
volume_encode(unsigned char *p, const struct run_volume *v)
{
	put_le32(p, v->volume);
	put_le32(p + 4, 0);
	put_le64(p + 8, v->size_bytes);
	memcpy(p + 16, v->id.text, ID_BYTES);
}

static int
volume_decode(const unsigned char *p, struct run_volume *ret_volume)
{
	struct run_volume v = {.volume = get_le32(p), .size_bytes = get_le64(p + 8)};
	char text[ID_BYTES + 1] = {0};

	memcpy(text, p + 16, ID_BYTES);
	if (!id_parse("vol", text, &v.id) || v.volume == 0 || v.size_bytes == 0)
		return -HF_ECORRUPT;
	*ret_volume = v;
	return 0;
}

/* ---- segment header ---- */

void
segment_header_encode(const struct segment_header *h, unsigned char *page)
{
	unsigned char *p = page + HEADER_STATE_OFFSET;

	assert(h->start.volume_count <= STORE_VOLUMES_MAX);
	memset(page, 0, SEGMENT_HEADER_BYTES);
	put_le64(page, SEGMENT_MAGIC);
	put_le32(page + 8, SEGMENT_VERSION);
	put_le32(page + 12, SEGMENT_HEADER_BYTES);
	memcpy(page + 16, h->source.text, ID_BYTES);
	put_le64(page + 40, h->digest_seed);
	put_le64(page + 48, h->number);
	put_le64(page + 56, h->previous);
	put_le32(page + 64, h->start.volume_count);
	put_le64(p, h->start.lsn_last);
	put_le64(p + 8, h->start.chain);
	put_le64(p + 16, h->start.stream_id);
	put_le64(p + 24, h->start.sequence);
	put_le64(p + 32, h->start.stream_chain);
	p += 48;
	for (uint32_t i = 0; i < h->start.volume_count; i++, p += HEADER_VOLUME_BYTES) {
		volume_encode(p, &h->start.volumes[i]);
		put_le64(p + 40, h->start.volumes[i].frontier_blocks);
	}
	put_le64(page + HEADER_CHECKSUM_OFFSET, digest_chain(0, page, HEADER_CHECKSUM_OFFSET));
}

int
segment_header_decode(const unsigned char *page, struct segment_header *ret_header)
{
	struct segment_header h = {0};
	const unsigned char *p = page + HEADER_STATE_OFFSET;
	char source[ID_BYTES + 1] = {0};

	if (is_zero(page, SEGMENT_HEADER_BYTES))
		return -ENODATA;
	if (get_le64(page) != SEGMENT_MAGIC ||
	    get_le64(page + HEADER_CHECKSUM_OFFSET) != digest_chain(0, page, HEADER_CHECKSUM_OFFSET))
		return -HF_ECORRUPT;
	if (get_le32(page + 8) < 1 || get_le32(page + 8) > SEGMENT_VERSION)
		return -HF_EFORMAT;
	memcpy(source, page + 16, ID_BYTES);
	h.start.volume_count = get_le32(page + 64);
	if (!id_parse("s", source, &h.source) || h.start.volume_count > STORE_VOLUMES_MAX)
		return -HF_ECORRUPT;
	h.digest_seed = get_le64(page + 40);
	h.number = get_le64(page + 48);
	h.previous = get_le64(page + 56);
	h.start.lsn_last = get_le64(p);
	h.start.chain = get_le64(p + 8);
	h.start.stream_id = get_le64(p + 16);
	h.start.sequence = get_le64(p + 24);
	h.start.stream_chain = get_le64(p + 32);
	p += 48;
	for (uint32_t i = 0; i < h.start.volume_count; i++, p += HEADER_VOLUME_BYTES) {
		if (volume_decode(p, &h.start.volumes[i]) < 0)
			return -HF_ECORRUPT;
		h.start.volumes[i].frontier_blocks = get_le64(p + 40);
	}
	*ret_header = h;
	return 0;
}

/* ---- groups ---- */

void
group_header_encode(struct group_header *h, unsigned char *descriptor)
{
	assert(h->descriptor_bytes % BLOCK_BYTES == 0 && h->payload_bytes % BLOCK_BYTES == 0);
	memset(descriptor, 0, GROUP_HEADER_BYTES);
	put_le64(descriptor, GROUP_MAGIC);
	put_le64(descriptor + 8, h->segment);
	put_le64(descriptor + 16, h->lsn_first);
	put_le64(descriptor + 24, h->lsn_durable);
	put_le32(descriptor + 32, h->record_count);
	put_le32(descriptor + 36, h->descriptor_bytes);
	put_le64(descriptor + 40, h->payload_bytes);
	put_le64(descriptor + 48, h->chain_before);
	put_le64(descriptor + 56, h->stream_id);
	put_le64(descriptor + 64, h->digest_seed);
	h->chain = digest_chain(h->chain_before, descriptor, h->descriptor_bytes);
	put_le64(descriptor + GROUP_CHECKSUM_OFFSET, h->chain);
}

int
group_header_decode(const unsigned char *page, struct group_header *ret_header)
{
	struct group_header h = {
	    .segment = get_le64(page + 8),
	    .lsn_first = get_le64(page + 16),
	    .lsn_durable = get_le64(page + 24),
	    .record_count = get_le32(page + 32),
	    .descriptor_bytes = get_le32(page + 36),
	    .payload_bytes = get_le64(page + 40),
	    .chain_before = get_le64(page + 48),
	    .stream_id = get_le64(page + 56),
	    .digest_seed = get_le64(page + 64),
	    .chain = get_le64(page + GROUP_CHECKSUM_OFFSET),
	};

	if (get_le64(page) != GROUP_MAGIC || h.record_count == 0)
		return -HF_ECORRUPT;
	if (h.descriptor_bytes == 0 || h.descriptor_bytes % BLOCK_BYTES != 0 || h.descriptor_bytes > SLAB_HEAD_BYTES)
		return -HF_ECORRUPT;
	if (h.payload_bytes % BLOCK_BYTES != 0 || h.payload_bytes > SLAB_PAYLOAD_BYTES)
		return -HF_ECORRUPT;
	if (h.record_count > h.descriptor_bytes / RECORD_HEADER_BYTES)
		return -HF_ECORRUPT;
	*ret_header = h;
	return 0;
}

int
group_check(const struct group_header *h, const unsigned char *descriptor)
{
	unsigned char header[GROUP_HEADER_BYTES];
	struct group_header again = *h;
	unsigned char *copy;
	int r = 0;

	/* The checksum is taken with its own field zero, exactly as group_header_encode() does. */
	copy = malloc(h->descriptor_bytes);
	if (copy == NULL)
		return -ENOMEM;
	memcpy(copy, descriptor, h->descriptor_bytes);
	group_header_encode(&again, copy);
	memcpy(header, copy, GROUP_HEADER_BYTES);
	if (again.chain != h->chain || memcmp(header, descriptor, GROUP_HEADER_BYTES) != 0)
		r = -HF_ECORRUPT;
	free(copy);
	return r;
}

/* ---- records ---- */

static void
record_header_encode(unsigned char *p, enum record_type type, size_t bytes, uint64_t sequence, uint64_t stream_chain)
{
	assert(bytes % 8 == 0);
	put_le16(p, (uint16_t)type);
	put_le16(p + 2, 0);
	put_le32(p + 4, (uint32_t)bytes);
	put_le64(p + 8, sequence);
	put_le64(p + 16, stream_chain);
}

size_t
record_extents_bytes(size_t extent_count, size_t digest_count)
{
	return RECORD_HEADER_BYTES + EXTENTS_FIXED_BYTES + extent_count * RECORD_EXTENT_BYTES + digest_count * 8;
}

void
record_extents_encode(unsigned char *p, enum record_type type, uint64_t sequence, uint64_t stream_chain,
    const struct record_extent *extents, size_t extent_count, const uint64_t *digests, size_t digest_count)
{
	record_header_encode(p, type, record_extents_bytes(extent_count, digest_count), sequence, stream_chain);
	p += RECORD_HEADER_BYTES;
	put_le32(p, (uint32_t)extent_count);
	put_le32(p + 4, (uint32_t)digest_count);
	p += EXTENTS_FIXED_BYTES;
	for (size_t i = 0; i < extent_count; i++, p += RECORD_EXTENT_BYTES) {
		put_le64(p, extents[i].block);
		put_le64(p + 8, extents[i].count);
		put_le32(p + 16, extents[i].volume);
		put_le32(p + 20, extents[i].kind);
	}
	for (size_t i = 0; i < digest_count; i++, p += 8)
		put_le64(p, digests[i]);
}

size_t
checkpoint_encode(unsigned char *p, const struct checkpoint *c)
{
	assert(c->volume_count <= STORE_VOLUMES_MAX);
	put_le64(p, c->lsn);
	put_le64(p + 8, (uint64_t)c->clock_ns);
	put_le64(p + 16, (uint64_t)c->clock_offset_ns);
	put_le64(p + 24, (uint64_t)c->received_ns);
	put_le32(p + 32, (uint32_t)c->consistency);
	put_le32(p + 36, c->complete ? 1 : 0);
	put_le32(p + 40, c->volume_count);
	put_le32(p + 44, 0);
	put_le64(p + 48, c->stream_id);
	p += CHECKPOINT_FIXED_BYTES;
	for (uint32_t i = 0; i < c->volume_count; i++, p += CHECKPOINT_VOLUME_BYTES) {
		put_le32(p, c->volumes[i].volume);
		put_le32(p + 4, 0);
		put_le64(p + 8, c->volumes[i].size_bytes);
	}
	return CHECKPOINT_FIXED_BYTES + c->volume_count * CHECKPOINT_VOLUME_BYTES;
}

int
checkpoint_decode(const unsigned char *p, size_t len, struct checkpoint *ret_checkpoint, size_t *ret_used)
{
	struct checkpoint c = {0};

	if (len < CHECKPOINT_FIXED_BYTES)
		return -HF_ECORRUPT;
	c.lsn = get_le64(p);
	c.clock_ns = c.unchanged_until_ns = (int64_t)get_le64(p + 8);
	c.clock_offset_ns = (int64_t)get_le64(p + 16);
	c.received_ns = (int64_t)get_le64(p + 24);
	c.consistency = (enum checkpoint_consistency)get_le32(p + 32);
	c.complete = get_le32(p + 36) != 0;
	c.volume_count = get_le32(p + 40);
	c.stream_id = get_le64(p + 48);
	if (c.consistency < CHECKPOINT_FUZZY || c.consistency > CHECKPOINT_APPLICATION)
		return -HF_ECORRUPT;
	if (c.volume_count > STORE_VOLUMES_MAX ||
	    len < CHECKPOINT_FIXED_BYTES + c.volume_count * CHECKPOINT_VOLUME_BYTES)
		return -HF_ECORRUPT;
	p += CHECKPOINT_FIXED_BYTES;
	for (uint32_t i = 0; i < c.volume_count; i++, p += CHECKPOINT_VOLUME_BYTES) {
		c.volumes[i].volume = get_le32(p);
		c.volumes[i].size_bytes = get_le64(p + 8);
	}
	*ret_checkpoint = c;
	*ret_used = CHECKPOINT_FIXED_BYTES + c.volume_count * CHECKPOINT_VOLUME_BYTES;
	return 0;
}

size_t
record_checkpoint_bytes(uint32_t volume_count)
{
	return RECORD_HEADER_BYTES + CHECKPOINT_FIXED_BYTES + volume_count * CHECKPOINT_VOLUME_BYTES;
}

void
record_checkpoint_encode(unsigned char *p, uint64_t sequence, uint64_t stream_chain, const struct checkpoint *c)
{
	record_header_encode(p, RECORD_CHECKPOINT, record_checkpoint_bytes(c->volume_count), sequence, stream_chain);
	checkpoint_encode(p + RECORD_HEADER_BYTES, c);
}

void
record_volume_encode(unsigned char *p, uint64_t sequence, uint64_t stream_chain, const struct run_volume *v)
{
	record_header_encode(p, RECORD_VOLUME, RECORD_VOLUME_BYTES, sequence, stream_chain);
	volume_encode(p + RECORD_HEADER_BYTES, v);
}

void
record_fill_to_data(unsigned char *p)
{
	assert(get_le16(p) == RECORD_FILL);
	put_le16(p, RECORD_DATA);
}

/* ---- walking ---- */

void
record_walk_begin(struct record_walk *w, const struct group_header *h, const unsigned char *descriptor)
{
	*w = (struct record_walk){
	    .next = descriptor + GROUP_HEADER_BYTES,
	    .end = descriptor + h->descriptor_bytes,
	    .lsn = h->lsn_first,
	    .payload_bytes = h->payload_bytes,
	    .left = h->record_count,
	};
}

/* The counts of an extents record agree with its length, and its payload lies within the group's. */
static int
check_extents(const struct record_walk *w, const struct record *r)
{
	size_t extents, digests;

	if (r->header.bytes < RECORD_HEADER_BYTES + EXTENTS_FIXED_BYTES)
		return -HF_ECORRUPT;
	extents = record_extent_count(r);
	digests = record_digest_count(r);
	if (extents > RECORD_EXTENTS_MAX || digests > RECORD_DIGESTS_MAX)
		return -HF_ECORRUPT;
	if (r->header.bytes != record_extents_bytes(extents, digests))
		return -HF_ECORRUPT;
	if (r->header.type == RECORD_DATA && w->payload_bytes - w->payload_offset < digests * BLOCK_BYTES)
		return -HF_ECORRUPT;
	return 0;
}

int
record_walk_next(struct record_walk *w, struct record *ret_record)
{
	struct record r = {0};

	if (w->left == 0)
		return 0;
	if (w->end - w->next < RECORD_HEADER_BYTES)
		return -HF_ECORRUPT;
	r.header.type = (enum record_type)get_le16(w->next);
	r.header.bytes = get_le32(w->next + 4);
	r.header.sequence = get_le64(w->next + 8);
	r.header.stream_chain = get_le64(w->next + 16);
	if (r.header.bytes < RECORD_HEADER_BYTES || r.header.bytes % 8 != 0 ||
	    (size_t)(w->end - w->next) < r.header.bytes)
		return -HF_ECORRUPT;
	r.lsn = w->lsn;
	r.body = w->next + RECORD_HEADER_BYTES;
	r.payload_offset = w->payload_offset;
	if ((r.header.type == RECORD_DATA || r.header.type == RECORD_FILL) && check_extents(w, &r) < 0)
		return -HF_ECORRUPT;
	if (r.header.type == RECORD_DATA)
		w->payload_offset += record_digest_count(&r) * BLOCK_BYTES;
	w->next += r.header.bytes;
	w->lsn++;
	w->left--;
	*ret_record = r;
	return 1;
}

size_t
record_extent_count(const struct record *r)
{
	return get_le32(r->body);
}

size_t
record_digest_count(const struct record *r)
{
	return get_le32(r->body + 4);
}

struct record_extent
record_extent_get(const struct record *r, size_t i)
{
	const unsigned char *p = r->body + EXTENTS_FIXED_BYTES + i * RECORD_EXTENT_BYTES;

	return (struct record_extent){
	    .block = get_le64(p), .count = get_le64(p + 8), .volume = get_le32(p + 16), .kind = get_le32(p + 20)};
}

uint64_t
record_digest_get(const struct record *r, size_t i)
{
	return get_le64(r->body + EXTENTS_FIXED_BYTES + record_extent_count(r) * RECORD_EXTENT_BYTES + i * 8);
}

int
record_checkpoint_decode(const struct record *r, struct checkpoint *ret_checkpoint)
{
	size_t used;
	int e = checkpoint_decode(r->body, r->header.bytes - RECORD_HEADER_BYTES, ret_checkpoint, &used);

	if (e == 0)
		ret_checkpoint->lsn = r->lsn;
	return e;
}

int
record_volume_decode(const struct record *r, struct run_volume *ret_volume)
{
	if (r->header.bytes != RECORD_VOLUME_BYTES)
		return -HF_ECORRUPT;
	return volume_decode(r->body, ret_volume);
}

void
record_entries(const struct record *r, uint64_t segment, uint64_t payload_file_offset,
    void (*each)(void *arg, const struct entry *e), void *arg)
{
	uint64_t offset = (payload_file_offset + r->payload_offset) / BLOCK_BYTES;
	size_t digest = 0;

	for (size_t i = 0; i < record_extent_count(r); i++) {
		struct record_extent x = record_extent_get(r, i);
		struct entry e = {.lsn = r->lsn, .volume = x.volume, .block = x.block};

		if (x.kind == 1 || x.kind == 3) {
			e.segment = (uint32_t)segment;
			e.count = 1;
			for (uint64_t n = 0; n < x.count; n++, e.block++, offset++, digest++) {
				e.digest = record_digest_get(r, digest);
				e.offset = (uint32_t)offset;
				each(arg, &e);
			}
			continue;
		}
		while (x.count > 0) { /* zeros: as long as an entry can count */
			e.count = x.count > UINT32_MAX ? UINT32_MAX : (uint32_t)x.count;
			each(arg, &e);
			e.block += e.count;
			x.count -= e.count;
		}
	}
}

/* ---- state ---- */

struct run_volume *
journal_state_volume(struct journal_state *st, uint32_t volume)
{
	for (uint32_t i = 0; i < st->volume_count; i++)
		if (st->volumes[i].volume == volume)
			return &st->volumes[i];
	return NULL;
}

/* Extents that fill move the frontier, wherever their blocks are. */
static int
apply_extents(struct journal_state *st, const struct record *r)
{
	for (size_t i = 0; i < record_extent_count(r); i++) {
		struct record_extent x = record_extent_get(r, i);
		struct run_volume *v = journal_state_volume(st, x.volume);

		if (x.kind < 3)
			continue;
		if (v == NULL || x.block != v->frontier_blocks)
			return -HF_ECORRUPT;
		v->frontier_blocks += x.count;
	}
	return 0;
}

static int
apply_volume(struct journal_state *st, const struct record *r)
{
	struct run_volume v, *old;

	if (record_volume_decode(r, &v) < 0)
		return -HF_ECORRUPT;
	old = journal_state_volume(st, v.volume);
	if (old != NULL) {
		old->size_bytes = v.size_bytes;
		return 0;
	}
	if (st->volume_count == STORE_VOLUMES_MAX)
		return -HF_ECORRUPT;
	st->volumes[st->volume_count++] = v;
	return 0;
}

int
journal_state_apply(struct journal_state *st, const struct group_header *g, const struct record *r)
{
	int e = 0;

	switch (r->header.type) {
	case RECORD_CHECKPOINT: break;
	case RECORD_DATA:
	case RECORD_FILL: e = apply_extents(st, r); break;
	case RECORD_VOLUME: e = apply_volume(st, r); break;
	default: return -HF_ECORRUPT;
	}
	if (e < 0)
		return e;
	st->lsn_last = r->lsn;
	if (g->stream_id != 0) {
		st->stream_id = g->stream_id;
		st->sequence = r->header.sequence;
		st->stream_chain = PLANTED(14) ? st->stream_chain : r->header.stream_chain;
	}
	return 0;
}

/* ---- scanning ---- */

struct scan {
	struct disk *d;
	struct disk_file *f;
	const struct segment_header *header;
	uint64_t offset; /* of the group looked at */
	uint64_t file_bytes;
	unsigned char *descriptor;
	unsigned char *payload; /* made when it is first needed */
};

/* Is there a whole group at s->offset that continues the state? 1, 0 (the journal ends here), -errno. */
static int
scan_group(struct scan *s, const struct journal_state *state, struct group_header *ret_group)
{
	int r;

	if (s->offset + BLOCK_BYTES > s->file_bytes)
		return 0;
	r = disk_read_now(s->d, s->f, s->descriptor, BLOCK_BYTES, s->offset);
	if (r < 0)
		return r;
	if (group_header_decode(s->descriptor, ret_group) < 0)
		return 0;
	if (ret_group->segment != s->header->number || ret_group->lsn_first != state->lsn_last + 1 ||
	    ret_group->chain_before != state->chain)
		return 0;
	if (s->offset + ret_group->descriptor_bytes + ret_group->payload_bytes > s->file_bytes)
		return 0;
	if (ret_group->descriptor_bytes > BLOCK_BYTES) {
		r = disk_read_now(s->d, s->f, s->descriptor + BLOCK_BYTES, ret_group->descriptor_bytes - BLOCK_BYTES,
		    s->offset + BLOCK_BYTES);
		if (r < 0)
			return r;
	}
	r = PLANTED(10) ? 0 : group_check(ret_group, s->descriptor);
	return r == -HF_ECORRUPT ? 0 : r < 0 ? r : 1;
}

/* Do the bytes behind a checked descriptor match its digests? 1, 0 (torn), -errno. */
static int
scan_payload(struct scan *s, const struct group_header *g)
{
	struct record_walk w;
	struct record rec;
	int r;

	if (g->payload_bytes == 0)
		return 1;
	if (s->payload == NULL && (s->payload = buffer_alloc(SLAB_PAYLOAD_BYTES)) == NULL)
		return -ENOMEM;
	r = disk_read_now(s->d, s->f, s->payload, g->payload_bytes, s->offset + g->descriptor_bytes);
	if (r < 0)
		return r;
	record_walk_begin(&w, g, s->descriptor);
	while ((r = record_walk_next(&w, &rec)) > 0) {
		if (rec.header.type != RECORD_DATA)
			continue;
		for (size_t i = 0; i < record_digest_count(&rec); i++)
			if (digest_block(s->header->digest_seed, s->payload + rec.payload_offset + i * BLOCK_BYTES) !=
			    record_digest_get(&rec, i))
				return 0;
	}
	return r < 0 ? 0 : 1;
}

static int
scan_records(struct scan *s, const struct group_header *g, struct journal_state *state,
    const struct segment_scan_events *events, void *arg)
{
	struct record_walk w;
	struct record rec;
	int r;

	record_walk_begin(&w, g, s->descriptor);
	while ((r = record_walk_next(&w, &rec)) > 0) {
		r = journal_state_apply(state, g, &rec);
		if (r == 0)
			r = events->record(arg, s->header, g, &rec, s->offset + g->descriptor_bytes);
		if (r != 0)
			return r;
	}
	state->chain = g->chain;
	return r;
}

/* Not known to have been durable: a sync before the restart may have failed and marked it clean. */
static int
settle_group(struct scan *s, const struct group_header *g)
{
	int r = disk_write_now(s->d, s->f, s->descriptor, g->descriptor_bytes, s->offset);

	if (r == 0 && g->payload_bytes > 0)
		r = disk_write_now(s->d, s->f, s->payload, g->payload_bytes, s->offset + g->descriptor_bytes);
	return r;
}

static int
settle_header(struct scan *s)
{
	int r = disk_read_now(s->d, s->f, s->descriptor, SEGMENT_HEADER_BYTES, 0);

	return r < 0 ? r : disk_write_now(s->d, s->f, s->descriptor, SEGMENT_HEADER_BYTES, 0);
}

/* The newest durable LSN that any group of the file, from here on, claims: payload up to it need not be read. */
static int
find_durable_lsn(struct scan *s, struct journal_state state, uint64_t *ret_lsn)
{
	uint64_t offset = s->offset;
	struct group_header g;
	int r;

	*ret_lsn = state.lsn_last;
	while ((r = scan_group(s, &state, &g)) > 0) {
		if (g.lsn_durable > *ret_lsn)
			*ret_lsn = g.lsn_durable;
		state.lsn_last = g.lsn_first + g.record_count - 1;
		state.chain = g.chain;
		s->offset += g.descriptor_bytes + g.payload_bytes;
	}
	s->offset = offset;
	return r;
}

/* The next group, if it is whole: 1; 0: the journal ends here; 2: it goes on in a later segment; -errno. */
static int
scan_next(struct scan *s, uint64_t lsn_until, uint64_t lsn_durable, bool settle, const struct journal_state *state,
    struct group_header *ret_group)
{
	int r = scan_group(s, state, ret_group);

	if (r <= 0)
		return r;
	if (ret_group->lsn_first > lsn_until && !PLANTED(24))
		return 2;
	if (ret_group->lsn_first + ret_group->record_count - 1 <= lsn_durable || PLANTED(7))
		return 1;
	r = scan_payload(s, ret_group);
	if (r <= 0 || !settle)
		return r;
	r = settle_group(s, ret_group);
	return r < 0 ? r : 1;
}

/* A torn tail and damage in the middle look alike, but behind the damage lie groups that were written when more was
 * durable. */
static int
check_tail(const struct scan *s, const struct journal_state *state)
{
	uint64_t lsn = 0;
	int r = segment_claim(s->d, s->f, s->header->number, s->header->digest_seed, s->offset, &lsn);

	return r == 0 && lsn > state->lsn_last && !PLANTED(25) ? -HF_ECORRUPT : r;
}

static int
scan_groups(struct scan *s, uint64_t lsn_until, struct journal_state *state, const struct segment_scan_events *events,
    void *arg)
{
	struct group_header g;
	uint64_t lsn_durable;
	int r = find_durable_lsn(s, *state, &lsn_durable);

	while (r >= 0 && (r = scan_next(s, lsn_until, lsn_durable, events->settle, state, &g)) == 1) {
		r = scan_records(s, &g, state, events, arg);
		if (r != 0)
			return r;
		s->offset += g.descriptor_bytes + g.payload_bytes;
	}
	if (r == 0)
		return check_tail(s, state);
	return r < 0 ? r : 0;
}

int
segment_scan(struct disk *d, struct disk_file *f, const struct segment_header *h, uint64_t lsn_until,
    struct journal_state *state, uint64_t *ret_bytes, const struct segment_scan_events *events, void *arg)
{
	struct scan s = {.d = d, .f = f, .header = h, .offset = SEGMENT_HEADER_BYTES};
	int r = disk_size(d, f, &s.file_bytes);

	if (r < 0)
		return r;
	*state = h->start;
	s.descriptor = buffer_alloc(SLAB_HEAD_BYTES);
	if (s.descriptor == NULL)
		r = -ENOMEM;
	if (r == 0 && events->settle)
		r = settle_header(&s);
	if (r == 0)
		r = scan_groups(&s, lsn_until, state, events, arg);
	*ret_bytes = s.offset;
	buffer_free(s.descriptor, SLAB_HEAD_BYTES);
	buffer_free(s.payload, SLAB_PAYLOAD_BYTES);
	return r;
}

/* ---- what a file claims ---- */

struct claim {
	struct scan scan;
	uint64_t number, digest_seed;
	uint64_t lsn;
};

/* Is there a group of this journal at the offset, whole as far as its descriptor goes? 1, 0, -errno. */
static int
read_claim(struct claim *c, struct group_header *ret_group)
{
	struct scan *s = &c->scan;
	int r = disk_read_now(s->d, s->f, s->descriptor, BLOCK_BYTES, s->offset);

	if (r < 0)
		return r;
	if (group_header_decode(s->descriptor, ret_group) < 0 || ret_group->segment != c->number ||
	    ret_group->digest_seed != c->digest_seed || s->offset + ret_group->descriptor_bytes > s->file_bytes)
		return 0;
	if (ret_group->descriptor_bytes > BLOCK_BYTES)
		r = disk_read_now(s->d, s->f, s->descriptor + BLOCK_BYTES, ret_group->descriptor_bytes - BLOCK_BYTES,
		    s->offset + BLOCK_BYTES);
	if (r == 0)
		r = group_check(ret_group, s->descriptor);
	return r == 0 ? 1 : r == -HF_ECORRUPT ? 0 : r;
}

static int
find_claims(struct claim *c)
{
	struct scan *s = &c->scan;
	struct group_header g;
	uint64_t data;
	int r = 0;

	while (s->offset + BLOCK_BYTES <= s->file_bytes) {
		r = disk_next_data(s->d, s->f, s->offset, &data);
		if (r < 0 || data < s->offset)
			return r;
		s->offset = data / BLOCK_BYTES * BLOCK_BYTES;
		if (s->offset + BLOCK_BYTES > s->file_bytes)
			return 0;
		r = read_claim(c, &g);
		if (r < 0)
			return r;
		if (r > 0 && g.lsn_durable > c->lsn)
			c->lsn = g.lsn_durable;
		s->offset += r > 0 ? g.descriptor_bytes + g.payload_bytes : BLOCK_BYTES;
	}
	return 0;
}

int
segment_claim(
    struct disk *d, struct disk_file *f, uint64_t number, uint64_t digest_seed, uint64_t offset, uint64_t *ret_lsn)
{
	struct claim c = {.scan = {.d = d, .f = f, .offset = offset}, .number = number, .digest_seed = digest_seed};
	int r = disk_size(d, f, &c.scan.file_bytes);

	if (r < 0)
		return r;
	c.scan.descriptor = buffer_alloc(SLAB_HEAD_BYTES);
	if (c.scan.descriptor == NULL)
		return -ENOMEM;
	r = find_claims(&c);
	buffer_free(c.scan.descriptor, SLAB_HEAD_BYTES);
	if (r == 0)
		*ret_lsn = c.lsn;
	return r;
}

void
segment_path(char *ret_path, size_t size, const char *dir, uint64_t number)
{
	snprintf(ret_path, size, "%s/%08llu.seg", dir, (unsigned long long)number);
}

void
run_path(char *ret_path, size_t size, const char *dir, uint64_t number)
{
	snprintf(ret_path, size, "%s/%08llu.run", dir, (unsigned long long)number);
}
