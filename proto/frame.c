/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/frame.h"

#include <assert.h>
#include <errno.h>
#include <lz4.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "proto/common/bytes.h"
#include "proto/common/digest.h"
#include "proto/common/status.h"

enum {
	DATA_HEAD_BYTES = 8,
	DATA_MESSAGE_MAX = DATA_HEAD_BYTES + EXTENTS_MAX * EXTENT_BYTES + EXTENT_BLOCKS_MAX * 8,
	SMALL_MAX = 1024,         /* a handful of numbers, and room for fields a later minor version adds */
	MEDIUM_MAX = 8 * 1024,    /* a few strings */
	COMPARED_MAX = 64 * 1024, /* 8,192 digests */
};

#define BLOCKS_END (UINT64_C(1) << 48)

_Static_assert((int)DATA_MESSAGE_MAX <= (int)FRAME_MESSAGE_MAX, "the largest extent table fits in a frame");
_Static_assert((int)EXTENT_BLOCKS_MAX *(int)BLOCK_BYTES == (int)FRAME_PAYLOAD_MAX, "payload is whole blocks");

/* What a header of each type may say. A type without a name does not exist. */
static const struct {
	const char *name;
	uint32_t message_bytes_max;
	uint32_t payload_bytes_max;
	unsigned flags;
	bool stream;
} rules[] = {
    [FRAME_HELLO] = {"HELLO", MEDIUM_MAX, 0, 0, false},
    [FRAME_WELCOME] = {"WELCOME", SMALL_MAX, 0, 0, false},
    [FRAME_DECLARE] = {"DECLARE", FRAME_MESSAGE_MAX, 0, 0, false},
    [FRAME_VOLUMES] = {"VOLUMES", FRAME_MESSAGE_MAX, 0, 0, false},
    [FRAME_START] = {"START", SMALL_MAX, 0, 0, false},
    [FRAME_DATA] = {"DATA", DATA_MESSAGE_MAX, FRAME_PAYLOAD_MAX, FRAME_LZ4 | FRAME_ZSTD, true},
    [FRAME_CHECKPOINT] = {"CHECKPOINT", SMALL_MAX, 0, 0, true},
    [FRAME_ACK] = {"ACK", SMALL_MAX, 0, 0, false},
    [FRAME_HEARTBEAT] = {"HEARTBEAT", SMALL_MAX, 0, 0, false},
    [FRAME_CHECKPOINT_REQUEST] = {"CHECKPOINT_REQUEST", SMALL_MAX, 0, 0, false},
    [FRAME_COMPARE] = {"COMPARE", SMALL_MAX, 0, 0, false},
    [FRAME_COMPARED] = {"COMPARED", SMALL_MAX, COMPARED_MAX, 0, false},
    [FRAME_RECENT] = {"RECENT", SMALL_MAX, 0, 0, false},
    [FRAME_RECENT_ANSWER] = {"RECENT_ANSWER", 2 * MEDIUM_MAX, 0, 0, false},
    [FRAME_RENEW_REQUEST] = {"RENEW_REQUEST", SMALL_MAX, 0, 0, false},
    [FRAME_RENEW] = {"RENEW", 2 * MEDIUM_MAX, 0, 0, false},
    [FRAME_RENEWED] = {"RENEWED", 4 * MEDIUM_MAX, 0, 0, false},
    [FRAME_REPORT] = {"REPORT", MEDIUM_MAX, 0, 0, false},
    [FRAME_NOTICE] = {"NOTICE", MEDIUM_MAX, 0, 0, false},
    [FRAME_GOODBYE] = {"GOODBYE", MEDIUM_MAX, 0, 0, false},
    [FRAME_FETCH] = {"FETCH", SMALL_MAX, 0, 0, false},
    [FRAME_FETCHED] = {"FETCHED", MEDIUM_MAX, 0, 0, false},
    [FRAME_ENROLL] = {"ENROLL", 2 * MEDIUM_MAX, 0, 0, false},
    [FRAME_ENROLLED] = {"ENROLLED", 3 * MEDIUM_MAX, 0, 0, false},
};

static bool
type_known(unsigned type)
{
	return type < sizeof rules / sizeof rules[0] && rules[type].name != NULL;
}

bool
frame_is_stream(enum frame_type type)
{
	return type_known(type) && rules[type].stream;
}

const char *
frame_type_name(enum frame_type type)
{
	return type_known(type) ? rules[type].name : "?";
}

void
frame_header_encode(const struct frame_header *h, unsigned char *ret_bytes)
{
	put_le32(ret_bytes, FRAME_MAGIC);
	put_le16(ret_bytes + 4, (uint16_t)h->type);
	put_le16(ret_bytes + 6, (uint16_t)h->flags);
	put_le32(ret_bytes + 8, h->message_bytes);
	put_le32(ret_bytes + 12, h->payload_bytes);
	put_le64(ret_bytes + 16, h->sequence);
}

/* Flags: known ones of this type, at most one, and only where there is a payload to speak of. */
static bool
flags_allowed(const struct frame_header *h)
{
	if ((h->flags & ~rules[h->type].flags) != 0 || (h->flags & (h->flags - 1)) != 0)
		return false;
	return h->flags == 0 || h->payload_bytes > 0;
}

int
frame_header_decode(const unsigned char *bytes, struct frame_header *ret_header)
{
	unsigned type = get_le16(bytes + 4);
	struct frame_header h = {
	    .type = (enum frame_type)type,
	    .flags = get_le16(bytes + 6),
	    .message_bytes = get_le32(bytes + 8),
	    .payload_bytes = get_le32(bytes + 12),
	    .sequence = get_le64(bytes + 16),
	};

	if (get_le32(bytes) != FRAME_MAGIC || !type_known(type))
		return -HF_EPROTOCOL;
	if (h.message_bytes > rules[type].message_bytes_max || h.payload_bytes > rules[type].payload_bytes_max)
		return -HF_ETOOBIG;
	if (!flags_allowed(&h) || (h.sequence != 0) != rules[type].stream)
		return -HF_EPROTOCOL;
	*ret_header = h;
	return 0;
}

/* ---- DATA message ---- */

size_t
data_message_bytes(const struct data_message *m)
{
	return DATA_HEAD_BYTES + m->extent_count * EXTENT_BYTES + m->digest_count * 8;
}

void
data_message_encode(const struct data_message *m, unsigned char *buf)
{
	assert(m->extent_count <= EXTENTS_MAX && m->digest_count <= EXTENT_BLOCKS_MAX);
	put_le32(buf, (uint32_t)m->extent_count);
	put_le32(buf + 4, (uint32_t)m->digest_count);
	buf += DATA_HEAD_BYTES;
	for (size_t i = 0; i < m->extent_count; i++, buf += EXTENT_BYTES) {
		put_le64(buf, m->extents[i].block);
		put_le64(buf + 8, m->extents[i].count);
		put_le32(buf + 16, m->extents[i].volume);
		put_le32(buf + 20, (uint32_t)m->extents[i].kind);
	}
	for (size_t i = 0; i < m->digest_count; i++, buf += 8)
		put_le64(buf, m->digests[i]);
}

static bool
kind_is_fill(uint32_t kind)
{
	return kind == EXTENT_FILL || kind == EXTENT_FILL_ZERO;
}

static bool
kind_has_payload(uint32_t kind)
{
	return kind == EXTENT_DATA || kind == EXTENT_FILL;
}

/* Read one extent that stands by itself: its kind exists and its range is within a volume's 2^48
 * blocks. */
static int
extent_decode(const unsigned char *bytes, struct extent *ret_extent)
{
	uint32_t kind = get_le32(bytes + 20);
	struct extent e = {
	    .block = get_le64(bytes),
	    .count = get_le64(bytes + 8),
	    .volume = get_le32(bytes + 16),
	    .kind = (enum extent_kind)kind,
	};

	if (kind < EXTENT_DATA || kind > EXTENT_FILL_ZERO)
		return -HF_EPROTOCOL;
	if (e.block >= BLOCKS_END || e.count == 0 || e.count > BLOCKS_END - e.block)
		return -HF_EPROTOCOL;
	*ret_extent = e;
	return 0;
}

/* A fill is one scan: an extent of it goes on where the one before ended, and nothing else stands
 * between. */
static bool
extent_follows(const struct extent *previous, const struct extent *e)
{
	if (!kind_is_fill(previous->kind) && !kind_is_fill(e->kind))
		return true;
	return kind_is_fill(previous->kind) && kind_is_fill(e->kind) && e->volume == previous->volume &&
	       e->block == previous->block + previous->count;
}

/* Order of volume, then of block. */
static int
extent_compare(const void *a, const void *b)
{
	const struct extent *x = a, *y = b;

	if (x->volume != y->volume)
		return x->volume < y->volume ? -1 : 1;
	return x->block < y->block ? -1 : x->block > y->block;
}

static bool
extent_is_before(const struct extent *a, const struct extent *b)
{
	return a->volume < b->volume || (a->volume == b->volume && a->block + a->count <= b->block);
}

static bool
extents_ascend(const struct extent *extents, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (!extent_is_before(&extents[i - 1], &extents[i]))
			return false;
	return true;
}

/* A frame is one step of the journal: it may say only one thing of a block. Agents send extents in
 * ascending order as a rule; only a frame that does not is sorted to find out. */
static bool
extents_disjoint(const struct data_message *m)
{
	struct extent sorted[EXTENTS_MAX];

	if (extents_ascend(m->extents, m->extent_count))
		return true;
	memcpy(sorted, m->extents, m->extent_count * sizeof *sorted);
	qsort(sorted, m->extent_count, sizeof *sorted, extent_compare);
	return extents_ascend(sorted, m->extent_count);
}

/* Decode the table, and see that it speaks of exactly digest_count blocks of payload. */
static int
extents_decode(const unsigned char *bytes, struct data_message *m)
{
	uint64_t blocks = 0;
	int r;

	for (size_t i = 0; i < m->extent_count; i++, bytes += EXTENT_BYTES) {
		struct extent *e = &m->extents[i];

		r = extent_decode(bytes, e);
		if (r < 0)
			return r;
		if (i > 0 && !extent_follows(e - 1, e))
			return -HF_EPROTOCOL;
		if (!kind_has_payload(e->kind))
			continue;
		if (e->count > EXTENT_BLOCKS_MAX - blocks)
			return -HF_ETOOBIG;
		blocks += e->count;
	}
	m->fill = kind_is_fill(m->extents[0].kind);
	return blocks == m->digest_count && extents_disjoint(m) ? 0 : -HF_EPROTOCOL;
}

static int
digests_decode(const unsigned char *bytes, struct data_message *m)
{
	for (size_t i = 0; i < m->digest_count; i++) {
		m->digests[i] = get_le64(bytes + i * 8);
		if (m->digests[i] == 0)
			return -HF_EPROTOCOL; /* 0 says "zeros", and zeros are sent as an extent of
						 zeros */
	}
	return 0;
}

static bool
payload_bytes_fit(const struct frame_header *h, size_t digest_count)
{
	if (h->flags != 0)
		return h->payload_bytes < digest_count * BLOCK_BYTES;
	return h->payload_bytes == digest_count * BLOCK_BYTES;
}

int
data_message_decode(
    const struct frame_header *h, const unsigned char *bytes, size_t len, struct data_message *ret_message)
{
	struct data_message *m = ret_message;
	int r;

	assert(h->type == FRAME_DATA);
	if (len < DATA_HEAD_BYTES)
		return -HF_EPROTOCOL;
	m->extent_count = get_le32(bytes);
	m->digest_count = get_le32(bytes + 4);
	if (m->extent_count > EXTENTS_MAX || m->digest_count > EXTENT_BLOCKS_MAX)
		return -HF_ETOOBIG;
	if (m->extent_count == 0 || len != data_message_bytes(m) || !payload_bytes_fit(h, m->digest_count))
		return -HF_EPROTOCOL;
	r = extents_decode(bytes + DATA_HEAD_BYTES, m);
	if (r < 0)
		return r;
	return digests_decode(bytes + DATA_HEAD_BYTES + m->extent_count * EXTENT_BYTES, m);
}

/* ---- compression ----
 *
 * zstd contexts cost more to make than a small payload costs to handle: each thread keeps its two.
 */
struct contexts {
	ZSTD_CCtx *compress;
	ZSTD_DCtx *decompress;
};

static pthread_key_t contexts_key;
static pthread_once_t contexts_once = PTHREAD_ONCE_INIT;

static void
contexts_destroy(void *arg)
{
	struct contexts *c = arg;

	ZSTD_freeCCtx(c->compress);
	ZSTD_freeDCtx(c->decompress);
	free(c);
}

static void
contexts_start(void)
{
	if (pthread_key_create(&contexts_key, contexts_destroy) != 0)
		abort();
}

/* This thread's contexts; NULL when there is no memory for them. */
static struct contexts *
contexts_find(void)
{
	struct contexts *c;

	pthread_once(&contexts_once, contexts_start);
	c = pthread_getspecific(contexts_key);
	if (c != NULL)
		return c;
	c = calloc(1, sizeof *c);
	if (c == NULL)
		return NULL;
	c->compress = ZSTD_createCCtx();
	c->decompress = ZSTD_createDCtx();
	if (c->compress == NULL || c->decompress == NULL || pthread_setspecific(contexts_key, c) != 0) {
		contexts_destroy(c);
		return NULL;
	}
	return c;
}

static size_t
zstd_compress(const void *blocks, size_t len, void *out)
{
	struct contexts *c = contexts_find();
	size_t n;

	if (c == NULL)
		return 0;
	n = ZSTD_compressCCtx(c->compress, out, len - 1, blocks, len, 1);
	return ZSTD_isError(n) ? 0 : n;
}

/* One frame and nothing after it. Decompressing in one go needs no window memory, whatever window
 * the frame asks for: the output is the window, and it is as large as the caller made it. */
static int
zstd_decompress(const void *in, size_t in_len, void *ret_blocks, size_t len)
{
	struct contexts *c = contexts_find();

	if (c == NULL)
		return -ENOMEM;
	if (ZSTD_findFrameCompressedSize(in, in_len) != in_len)
		return -HF_EPROTOCOL;
	return ZSTD_decompressDCtx(c->decompress, ret_blocks, len, in, in_len) == len ? 0 : -HF_EPROTOCOL;
}

size_t
payload_compress(enum frame_flag flag, const void *blocks, size_t len, void *out)
{
	assert(len > 0 && len <= FRAME_PAYLOAD_MAX);
	if (flag == FRAME_ZSTD)
		return zstd_compress(blocks, len, out);
	assert(flag == FRAME_LZ4);
	return (size_t)LZ4_compress_default(blocks, out, (int)len, (int)len - 1); /* 0 if it does not fit */
}

int
payload_decompress(enum frame_flag flag, const void *in, size_t in_len, void *ret_blocks, size_t len)
{
	assert(len <= FRAME_PAYLOAD_MAX && in_len <= FRAME_PAYLOAD_MAX);
	if (flag == FRAME_ZSTD)
		return zstd_decompress(in, in_len, ret_blocks, len);
	assert(flag == FRAME_LZ4);
	return LZ4_decompress_safe(in, ret_blocks, (int)in_len, (int)len) == (int)len ? 0 : -HF_EPROTOCOL;
}
