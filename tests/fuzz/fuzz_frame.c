/* SPDX-License-Identifier: Apache-2.0 */
/* Hostile bytes as a frame: header, DATA message, compressed payload. What is accepted must encode
 * to the very bytes it was decoded from, so that a chain hash over either is the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/bytes.h"
#include "proto/common/digest.h"
#include "proto/frame.h"

/* Decompress into exactly as much room as the digests allow; the sanitizer watches its end. */
static void
payload_try(const struct frame_header *h, const unsigned char *bytes, size_t len, size_t digest_count)
{
	unsigned char *blocks;

	if (h->flags == 0 || digest_count == 0)
		return;
	blocks = malloc(digest_count * BLOCK_BYTES);
	if (blocks == NULL)
		return;
	(void)payload_decompress((enum frame_flag)h->flags, bytes, len, blocks, digest_count * BLOCK_BYTES);
	free(blocks);
}

static void
require_same_header(const struct frame_header *h, const unsigned char *bytes)
{
	unsigned char again[FRAME_HEADER_BYTES];

	frame_header_encode(h, again);
	if (memcmp(again, bytes, sizeof again) != 0)
		abort();
}

static void
require_same_message(const struct data_message *m, const unsigned char *bytes, size_t len)
{
	static unsigned char again[FRAME_MESSAGE_MAX];

	if (data_message_bytes(m) != len)
		abort();
	data_message_encode(m, again);
	if (memcmp(again, bytes, len) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t len, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t max, unsigned seed);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static struct data_message m;
	struct frame_header h;

	if (len < FRAME_HEADER_BYTES || frame_header_decode(bytes, &h) < 0)
		return 0;
	require_same_header(&h, bytes);
	bytes += FRAME_HEADER_BYTES;
	len -= FRAME_HEADER_BYTES;
	if (h.type != FRAME_DATA || h.message_bytes > len)
		return 0;
	if (data_message_decode(&h, bytes, h.message_bytes, &m) < 0)
		return 0;
	require_same_message(&m, bytes, h.message_bytes);
	len -= h.message_bytes;
	payload_try(&h, bytes + h.message_bytes, len < h.payload_bytes ? len : h.payload_bytes, m.digest_count);
	return 0;
}

/* Kinds 1 and 3 have a block of payload for each block of the extent. */
static uint64_t
payload_blocks(const uint8_t *extents, size_t n)
{
	uint64_t blocks = 0;

	for (size_t i = 0; i < n; i++)
		if (get_le32(extents + i * EXTENT_BYTES + 20) % 2 == 1)
			blocks += get_le64(extents + i * EXTENT_BYTES + 8) % 1024;
	return blocks;
}

/* Make the first len bytes a DATA frame whose counts and lengths agree, as far as there is room for
 * its digests. Limits are overstepped now and then. */
static size_t
frame_repair(uint8_t *bytes, size_t len, size_t max)
{
	uint8_t *message = bytes + FRAME_HEADER_BYTES;
	size_t extents, bytes_needed;
	uint64_t digests;

	if (len < FRAME_HEADER_BYTES + 8 + EXTENT_BYTES)
		return len;
	extents = 1 + get_le32(message) % (EXTENTS_MAX + 64);
	if (extents > (len - FRAME_HEADER_BYTES - 8) / EXTENT_BYTES)
		extents = (len - FRAME_HEADER_BYTES - 8) / EXTENT_BYTES;
	for (size_t i = 0; i < extents; i++)
		put_le64(message + 8 + i * EXTENT_BYTES + 8, get_le64(message + 8 + i * EXTENT_BYTES + 8) % 1024);
	digests = payload_blocks(message + 8, extents);
	bytes_needed = FRAME_HEADER_BYTES + 8 + extents * EXTENT_BYTES + digests * 8;
	if (bytes_needed > max)
		return len;
	if (bytes_needed > len)
		memset(bytes + len, 0x11, bytes_needed - len);
	put_le32(bytes, FRAME_MAGIC);
	put_le16(bytes + 4, FRAME_DATA);
	put_le32(bytes + 8, (uint32_t)(bytes_needed - FRAME_HEADER_BYTES));
	if (get_le16(bytes + 6) == 0)
		put_le32(bytes + 12, (uint32_t)(digests * BLOCK_BYTES));
	put_le32(message, (uint32_t)extents);
	put_le32(message + 4, (uint32_t)digests);
	return bytes_needed > len ? bytes_needed : len;
}

size_t
LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t max, unsigned seed)
{
	len = LLVMFuzzerMutate(bytes, len, max);
	return seed % 2 == 0 ? len : frame_repair(bytes, len, max);
}
