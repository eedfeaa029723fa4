/* SPDX-License-Identifier: Apache-2.0 */
/* Hostile bytes as a frame: header, DATA message, compressed payload. What is accepted must encode
 * to the very bytes it was decoded from, so that a chain hash over either is the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/digest.h"
#include "proto/frame.h"

/* Decompress into exactly as much room as the digests allow; the sanitizer watches its end. */
static void
payload_try(
    const struct frame_header *h, const unsigned char *bytes, size_t len, size_t digest_count)
{
	unsigned char *blocks;

	if (h->flags == 0 || digest_count == 0)
		return;
	blocks = malloc(digest_count * BLOCK_BYTES);
	if (blocks == NULL)
		return;
	(void)payload_decompress(
	    (enum frame_flag)h->flags, bytes, len, blocks, digest_count * BLOCK_BYTES);
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
	payload_try(&h, bytes + h.message_bytes, len < h.payload_bytes ? len : h.payload_bytes,
	    m.digest_count);
	return 0;
}
