/* SPDX-License-Identifier: Apache-2.0 */
/* frame.h: the unit of the wire: fixed header, message, raw payload. Parsing is fed bytes and knows no socket.
 *
 *	 0  u32 magic "HFS1"     12  u32 payload bytes
 *	 4  u16 type             16  u64 sequence (stream frames: 1, 2, 3, ...; all others 0)
 *	 6  u16 flags            24  message, then payload
 *	 8  u32 message bytes
 *
 * All integers little-endian. Lengths are checked against the maxima of the frame's type before a
 * byte is allocated. docs/protocol.md is the whole story. */
#ifndef HF_PROTO_FRAME_H
#define HF_PROTO_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FRAME_HEADER_BYTES = 24,
	FRAME_MESSAGE_MAX = 64 * 1024,
	FRAME_PAYLOAD_MAX = 1024 * 1024,
};

#define FRAME_MAGIC 0x31534648u /* "HFS1" read little-endian */

enum frame_type {
	FRAME_HELLO = 1,
	FRAME_WELCOME = 2,
	FRAME_DECLARE = 3,
	FRAME_VOLUMES = 4,
	FRAME_START = 5,
	FRAME_DATA = 16,       /* stream frame */
	FRAME_CHECKPOINT = 17, /* stream frame */
	FRAME_ACK = 32,
	FRAME_HEARTBEAT = 33,
	FRAME_CHECKPOINT_REQUEST = 34,
	FRAME_COMPARE = 35,
	FRAME_COMPARED = 36,
	FRAME_RECENT = 37,
	FRAME_RECENT_ANSWER = 38,
	FRAME_RENEW_REQUEST = 39,
	FRAME_RENEW = 40,
	FRAME_RENEWED = 41,
	FRAME_REPORT = 42,
	FRAME_NOTICE = 43,
	FRAME_GOODBYE = 44,
	FRAME_FETCH = 45,
	FRAME_FETCHED = 46,
	FRAME_ENROLL = 64,
	FRAME_ENROLLED = 65,
};

enum frame_flag {
	FRAME_LZ4 = 1 << 0,  /* DATA: the payload is one LZ4 block */
	FRAME_ZSTD = 1 << 1, /* DATA: the payload is one zstd frame */
};

struct frame_header {
	enum frame_type type;
	unsigned flags;
	uint32_t message_bytes;
	uint32_t payload_bytes;
	uint64_t sequence;
};

/* True for the types that carry a sequence number and are chained. */
bool frame_is_stream(enum frame_type type);

/* Name for logs, "?" if unknown. */
const char *frame_type_name(enum frame_type type);

/* Write h as FRAME_HEADER_BYTES bytes. */
void frame_header_encode(const struct frame_header *h, unsigned char *ret_bytes);

/* Read and check FRAME_HEADER_BYTES bytes: magic, known type, flags and lengths allowed for that type,
 * sequence zero exactly for non-stream frames. 0, -HF_EPROTOCOL or -HF_ETOOBIG. */
int frame_header_decode(const unsigned char *bytes, struct frame_header *ret_header);

/* ---- DATA message: a packed table of extents and the digests of their blocks ----
 *
 *	 0  u32 extent count (1..EXTENTS_MAX)    8  extents, 24 bytes each, then digests, u64 each
 *	 4  u32 digest count
 *	extent: 0 u64 block, 8 u64 count, 16 u32 volume, 20 u32 kind
 *
 * Payload (after decompression): the blocks of DATA and FILL extents, concatenated; one digest each, never 0.
 * Extents in any order, but none overlaps another: a frame says one thing of a block. */
enum extent_kind {
	EXTENT_DATA = 1,
	EXTENT_ZERO = 2,      /* no payload, no digest, any length */
	EXTENT_FILL = 3,      /* first fill; begins at the frontier */
	EXTENT_FILL_ZERO = 4, /* first fill; zeros or a hole */
	EXTENT_FRAGMENT = 5,  /* reserved: refused */
};

enum {
	EXTENTS_MAX = 1024,
	EXTENT_BYTES = 24,
	EXTENT_BLOCKS_MAX = FRAME_PAYLOAD_MAX / 4096, /* blocks with payload in one frame */
};

struct extent {
	uint64_t block; /* 4 KiB units from the volume's start */
	uint64_t count; /* blocks, at least 1; block + count never overflows 2^48 */
	uint32_t volume;
	enum extent_kind kind;
};

/* A decoded DATA message. Arrays are owned by the caller's struct; nothing is allocated. */
struct data_message {
	size_t extent_count;
	size_t digest_count; /* = blocks of payload */
	bool fill;           /* all extents are FILL or FILL_ZERO, of one volume, contiguous; else none is */
	struct extent extents[EXTENTS_MAX];
	uint64_t digests[EXTENT_BLOCKS_MAX];
};

/* Bytes of the message that data_message_encode() would write. */
size_t data_message_bytes(const struct data_message *m);

/* Write m into buf (at least data_message_bytes(m)). */
void data_message_encode(const struct data_message *m, unsigned char *buf);

/* Read and check a DATA message (header already checked): counts, kinds, lengths, no overlap, fill rule,
 * digests not zero, and, unless compressed, payload_bytes = digest_count * 4096. What only the receiver can know
 * (volume exists, within its size, at the frontier) is not checked. 0, -HF_EPROTOCOL or -HF_ETOOBIG; on failure the
 * output holds nothing of use. */
int data_message_decode(
    const struct frame_header *h, const unsigned char *bytes, size_t len, struct data_message *ret_message);

/* Compress len bytes of blocks with the algorithm of flag (FRAME_LZ4 or FRAME_ZSTD) into out (at least len
 * bytes). Returns the compressed size, or 0 if it would not be smaller: then send it raw. */
size_t payload_compress(enum frame_flag flag, const void *blocks, size_t len, void *out);

/* Decompress into exactly len bytes at ret_blocks. 0, -HF_EPROTOCOL or -ENOMEM; never writes beyond len. */
int payload_decompress(enum frame_flag flag, const void *in, size_t in_len, void *ret_blocks, size_t len);

#endif
