/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sender.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/digest.h"

struct sender {
	struct link *link;
	unsigned char *payload; /* the blocks of message, in order */
	struct data_message message;
};

struct sender *
sender_create(struct link *l)
{
	struct sender *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->link = l;
	s->payload = malloc(FRAME_PAYLOAD_MAX);
	if (s->payload == NULL) {
		free(s);
		return NULL;
	}
	return s;
}

void
sender_destroy(struct sender *s)
{
	if (s == NULL)
		return;
	free(s->payload);
	free(s);
}

void
sender_reset(struct sender *s)
{
	s->message.extent_count = 0;
	s->message.digest_count = 0;
	s->message.fill = false;
}

static int
send_message(struct sender *s, const void *blocks)
{
	int r = link_send_data(s->link, &s->message, blocks);

	sender_reset(s);
	return r;
}

int
sender_flush(struct sender *s)
{
	return s->message.extent_count == 0 ? 0 : send_message(s, s->payload);
}

static bool
has_payload(enum extent_kind kind)
{
	return kind == EXTENT_DATA || kind == EXTENT_FILL;
}

static bool
is_fill(enum extent_kind kind)
{
	return kind == EXTENT_FILL || kind == EXTENT_FILL_ZERO;
}

/* A frame is all fill, of one volume, or has no fill at all. */
static bool
goes_with(const struct sender *s, uint32_t volume, enum extent_kind kind)
{
	const struct data_message *m = &s->message;

	if (m->extent_count == 0)
		return true;
	if (m->fill != is_fill(kind) || (m->fill && m->extents[0].volume != volume))
		return false;
	return m->extent_count < EXTENTS_MAX && (!has_payload(kind) || m->digest_count < EXTENT_BLOCKS_MAX);
}

/* True if the extent continues the last one and has been merged into it. */
static bool
merge(struct data_message *m, uint32_t volume, enum extent_kind kind, uint64_t block, uint64_t count)
{
	struct extent *last;

	if (m->extent_count == 0)
		return false;
	last = &m->extents[m->extent_count - 1];
	if (last->volume != volume || last->kind != kind || last->block + last->count != block)
		return false;
	last->count += count;
	return true;
}

static void
append(struct data_message *m, uint32_t volume, enum extent_kind kind, uint64_t block, uint64_t count)
{
	assert(!is_fill(kind) || m->extent_count == 0 ||
	       m->extents[m->extent_count - 1].block + m->extents[m->extent_count - 1].count == block);
	m->fill = is_fill(kind);
	if (!merge(m, volume, kind, block, count))
		m->extents[m->extent_count++] =
		    (struct extent){.block = block, .count = count, .volume = volume, .kind = kind};
}

static void
append_digests(struct data_message *m, const uint64_t *digests, uint64_t count)
{
	memcpy(m->digests + m->digest_count, digests, count * sizeof *digests);
	m->digest_count += count;
}

/* A full frame in one extent needs no gathering: it goes out from the caller's memory. */
static int
send_whole(struct sender *s, uint32_t volume, enum extent_kind kind, uint64_t block, const void *blocks,
    const uint64_t *digests)
{
	append(&s->message, volume, kind, block, EXTENT_BLOCKS_MAX);
	append_digests(&s->message, digests, EXTENT_BLOCKS_MAX);
	return send_message(s, blocks);
}

/* Gather as many of the blocks as the frame still takes. Returns how many. */
static uint64_t
gather_blocks(struct sender *s, uint32_t volume, enum extent_kind kind, uint64_t block, uint64_t count,
    const void *blocks, const uint64_t *digests)
{
	struct data_message *m = &s->message;

	if (count > EXTENT_BLOCKS_MAX - m->digest_count)
		count = EXTENT_BLOCKS_MAX - m->digest_count;
	append(m, volume, kind, block, count);
	memcpy(s->payload + m->digest_count * BLOCK_BYTES, blocks, count * BLOCK_BYTES);
	append_digests(m, digests, count);
	return count;
}

static int
add_blocks(struct sender *s, uint32_t volume, enum extent_kind kind, uint64_t block, uint64_t count, const void *blocks,
    const uint64_t *digests)
{
	for (uint64_t done = 0, n = 0; done < count; done += n) {
		const unsigned char *bytes = (const unsigned char *)blocks + done * BLOCK_BYTES;
		int r = goes_with(s, volume, kind) ? 0 : sender_flush(s);

		if (r == 0 && s->message.extent_count == 0 && count - done >= EXTENT_BLOCKS_MAX) {
			n = EXTENT_BLOCKS_MAX;
			r = send_whole(s, volume, kind, block + done, bytes, digests + done);
		} else if (r == 0) {
			n = gather_blocks(s, volume, kind, block + done, count - done, bytes, digests + done);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int
sender_add(struct sender *s, uint32_t volume, enum extent_kind kind, uint64_t block, uint64_t count, const void *blocks,
    const uint64_t *digests)
{
	int r;

	assert(count > 0);
	if (has_payload(kind))
		return add_blocks(s, volume, kind, block, count, blocks, digests);
	r = goes_with(s, volume, kind) ? 0 : sender_flush(s);
	if (r == 0)
		append(&s->message, volume, kind, block, count);
	return r;
}
