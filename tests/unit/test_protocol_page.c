/* SPDX-License-Identifier: Apache-2.0 */
/* docs/protocol.md is written for people who will never see this code; here the code is held
 * against it. Run from the top of the source tree, like every test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/digest.h"
#include "proto/common/status.h"
#include "proto/frame.h"
#include "proto/message.h"

static char *page;

static int
read_page(void **state)
{
	FILE *f = fopen("docs/protocol.md", "re");
	size_t n;

	page = calloc(1, 1 << 20);
	if (f == NULL || page == NULL)
		return -1;
	n = fread(page, 1, (1 << 20) - 1, f);
	fclose(f);
	return n > 0 ? 0 : -1;
}

static int
free_page(void **state)
{
	free(page);
	return 0;
}

/* The bytes of the fenced block "```hex NAME"; what follows a '#' is comment. */
static size_t
hex_read(const char *name, unsigned char *ret_bytes, size_t max)
{
	char fence[64];
	const char *p;
	size_t n = 0;
	unsigned byte;

	snprintf(fence, sizeof fence, "```hex %s\n", name);
	p = strstr(page, fence);
	assert_non_null(p);
	for (p += strlen(fence); *p != '`'; p++) {
		if (*p == '#')
			p += strcspn(p, "\n");
		if (*p == ' ' || *p == '\n')
			continue;
		assert_int_equal(sscanf(p, "%2x", &byte), 1);
		assert_true(n < max);
		ret_bytes[n++] = (unsigned char)byte;
		p++;
	}
	return n;
}

static uint64_t
value_read(const char *label)
{
	char row[128];
	const char *p;

	snprintf(row, sizeof row, "| %s | `", label);
	p = strstr(page, row);
	assert_non_null(p);
	return strtoull(p + strlen(row), NULL, 16);
}

static int
header_of(unsigned type, uint32_t message_bytes, uint32_t payload_bytes)
{
	unsigned char bytes[FRAME_HEADER_BYTES];
	struct frame_header h = {
	    .type = (enum frame_type)type,
	    .message_bytes = message_bytes,
	    .payload_bytes = payload_bytes,
	    .sequence = frame_is_stream((enum frame_type)type) ? 1 : 0,
	};

	frame_header_encode(&h, bytes);
	return frame_header_decode(bytes, &h);
}

static void
the_table_of_frames_is_the_one_in_force(void **state)
{
	const char *row = strstr(page, "| 1 | HELLO |");
	unsigned type, message_max, payload_max, rows = 0;
	char name[32];

	for (;
	     row != NULL && sscanf(row, "| %u | %31s | %*s | %u | %u |", &type, name, &message_max, &payload_max) == 4;
	     row = strchr(row, '\n') + 1, rows++) {
		assert_string_equal(frame_type_name((enum frame_type)type), name);
		assert_int_equal(header_of(type, message_max, payload_max), 0);
		assert_int_equal(header_of(type, message_max + 1, payload_max), -HF_ETOOBIG);
		assert_int_equal(header_of(type, message_max, payload_max + 1), -HF_ETOOBIG);
	}
	assert_int_equal(rows, 24);
}

static void
the_data_frame_of_the_example_is_read(void **state)
{
	static struct data_message m;
	static unsigned char bytes[256], again[256];
	size_t len = hex_read("data", bytes, sizeof bytes);
	struct frame_header h;

	assert_int_equal(frame_header_decode(bytes, &h), 0);
	assert_int_equal(h.type, FRAME_DATA);
	assert_int_equal(h.sequence, 1);
	assert_int_equal(FRAME_HEADER_BYTES + h.message_bytes, len);
	assert_int_equal(data_message_decode(&h, bytes + FRAME_HEADER_BYTES, h.message_bytes, &m), 0);
	assert_int_equal(m.extent_count, 2);
	assert_true(m.digests[0] == value_read("digest of the sample block"));
	frame_header_encode(&h, again);
	data_message_encode(&m, again + FRAME_HEADER_BYTES);
	assert_memory_equal(bytes, again, len);
}

static void
the_digests_of_the_example_are_ours(void **state)
{
	const uint64_t seed = 0x0123456789abcdef;
	unsigned char block[BLOCK_BYTES];
	uint64_t level0[16] = {0}, level1[16] = {0}, level2[256] = {0};

	for (size_t i = 0; i < sizeof block; i++)
		block[i] = (unsigned char)(i % 251);
	level0[2] = digest_block(seed, block);
	assert_true(level0[2] == value_read("digest of the sample block"));
	level1[0] = digest_node(seed, level0, 16);
	assert_true(level1[0] == value_read("level 1 node whose child 2 is the sample block, all others zero"));
	level2[0] = digest_node(seed, level1, 16);
	assert_true(level2[0] == value_read("level 2 node whose child 0 is that node, all others zero"));
	assert_true(
	    digest_node(seed, level2, 256) == value_read("level 3 node whose child 0 is that node, all others zero"));
}

static void
the_chain_of_the_example_is_ours(void **state)
{
	unsigned char bytes[256];
	size_t len = hex_read("data", bytes, sizeof bytes);
	uint64_t chain = digest_chain(0x1122334455667788, bytes, len);

	assert_true(chain == value_read("chain after the DATA frame"));
	len = hex_read("checkpoint", bytes, sizeof bytes);
	assert_true(digest_chain(chain, bytes, len) == value_read("chain after the CHECKPOINT frame"));
}

static void
the_messages_of_the_example_are_read(void **state)
{
	static struct message_checkpoint checkpoint;
	struct message_ack ack;
	struct frame_header h;
	unsigned char bytes[256];

	hex_read("checkpoint", bytes, sizeof bytes);
	assert_int_equal(frame_header_decode(bytes, &h), 0);
	assert_int_equal(message_checkpoint_decode(bytes + FRAME_HEADER_BYTES, h.message_bytes, &checkpoint), 0);
	assert_true(checkpoint.clock_ns == 1795333442113000000);
	assert_int_equal(checkpoint.consistency, CONSISTENCY_CRASH);
	assert_int_equal(checkpoint.request_id_count, 1);
	assert_int_equal(checkpoint.request_ids[0], 7);

	hex_read("ack", bytes, sizeof bytes);
	assert_int_equal(frame_header_decode(bytes, &h), 0);
	assert_int_equal(message_ack_decode(bytes + FRAME_HEADER_BYTES, h.message_bytes, &ack), 0);
	assert_true(ack.durable_sequence == 2 && ack.credit_bytes == 64 << 20);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_table_of_frames_is_the_one_in_force),
	    cmocka_unit_test(the_data_frame_of_the_example_is_read),
	    cmocka_unit_test(the_digests_of_the_example_are_ours),
	    cmocka_unit_test(the_chain_of_the_example_is_ours),
	    cmocka_unit_test(the_messages_of_the_example_are_read),
	};

	return cmocka_run_group_tests_name("protocol_page", tests, read_page, free_page);
}
