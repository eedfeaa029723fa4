/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/bytes.h"
#include "proto/common/digest.h"
#include "proto/common/status.h"

/* ---- header ---- */

static int
decode(uint32_t magic, unsigned type, unsigned flags, uint32_t message, uint32_t payload, uint64_t sequence)
{
	unsigned char bytes[FRAME_HEADER_BYTES];
	struct frame_header h;

	put_le32(bytes, magic);
	put_le16(bytes + 4, (uint16_t)type);
	put_le16(bytes + 6, (uint16_t)flags);
	put_le32(bytes + 8, message);
	put_le32(bytes + 12, payload);
	put_le64(bytes + 16, sequence);
	return frame_header_decode(bytes, &h);
}

static void
header_survives_the_wire(void **state)
{
	const struct frame_header h = {
	    .type = FRAME_DATA,
	    .flags = FRAME_ZSTD,
	    .message_bytes = 40,
	    .payload_bytes = 777,
	    .sequence = UINT64_MAX,
	};
	unsigned char bytes[FRAME_HEADER_BYTES];
	struct frame_header back;

	frame_header_encode(&h, bytes);
	assert_memory_equal(bytes, "HFS1", 4);
	assert_int_equal(frame_header_decode(bytes, &back), 0);
	assert_int_equal(back.type, h.type);
	assert_int_equal(back.flags, h.flags);
	assert_int_equal(back.message_bytes, h.message_bytes);
	assert_int_equal(back.payload_bytes, h.payload_bytes);
	assert_true(back.sequence == h.sequence);
}

static void
foreign_magic_and_unknown_types_are_refused(void **state)
{
	assert_int_equal(decode(FRAME_MAGIC, FRAME_ACK, 0, 0, 0, 0), 0);
	assert_int_equal(decode(FRAME_MAGIC + 1, FRAME_ACK, 0, 0, 0, 0), -HF_EPROTOCOL);
	assert_int_equal(decode(FRAME_MAGIC, 0, 0, 0, 0, 0), -HF_EPROTOCOL);
	assert_int_equal(decode(FRAME_MAGIC, 6, 0, 0, 0, 0), -HF_EPROTOCOL);
	assert_int_equal(decode(FRAME_MAGIC, 66, 0, 0, 0, 0), -HF_EPROTOCOL);
	assert_int_equal(decode(FRAME_MAGIC, UINT16_MAX, 0, 0, 0, 0), -HF_EPROTOCOL);
}

static void
lengths_beyond_the_types_maximum_are_refused(void **state)
{
	assert_int_equal(decode(FRAME_MAGIC, FRAME_DATA, 0, 32, FRAME_PAYLOAD_MAX, 1), 0);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_DATA, 0, 32, FRAME_PAYLOAD_MAX + 1, 1), -HF_ETOOBIG);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_DATA, 0, FRAME_MESSAGE_MAX, 0, 1), -HF_ETOOBIG);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_DECLARE, 0, FRAME_MESSAGE_MAX, 0, 0), 0);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_DECLARE, 0, FRAME_MESSAGE_MAX + 1, 0, 0), -HF_ETOOBIG);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_HELLO, 0, UINT32_MAX, 0, 0), -HF_ETOOBIG);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_HELLO, 0, 1, 1, 0), -HF_ETOOBIG);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_COMPARED, 0, 1, 8192 * 8, 0), 0);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_COMPARED, 0, 1, 8192 * 8 + 1, 0), -HF_ETOOBIG);
}

static void
flags_belong_to_data_with_payload_one_at_a_time(void **state)
{
	assert_int_equal(decode(FRAME_MAGIC, FRAME_DATA, FRAME_LZ4, 40, 100, 1), 0);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_DATA, FRAME_LZ4 | FRAME_ZSTD, 40, 100, 1), -HF_EPROTOCOL);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_DATA, FRAME_LZ4, 32, 0, 1), -HF_EPROTOCOL);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_DATA, 4, 40, 100, 1), -HF_EPROTOCOL);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_COMPARED, FRAME_LZ4, 1, 8, 0), -HF_EPROTOCOL);
}

static void
only_stream_frames_carry_a_sequence(void **state)
{
	assert_int_equal(decode(FRAME_MAGIC, FRAME_DATA, 0, 32, 0, 0), -HF_EPROTOCOL);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_CHECKPOINT, 0, 2, 0, 0), -HF_EPROTOCOL);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_CHECKPOINT, 0, 2, 0, 1), 0);
	assert_int_equal(decode(FRAME_MAGIC, FRAME_ACK, 0, 0, 0, 1), -HF_EPROTOCOL);
	assert_true(frame_is_stream(FRAME_DATA));
	assert_true(frame_is_stream(FRAME_CHECKPOINT));
	assert_false(frame_is_stream(FRAME_HEARTBEAT));
	assert_false(frame_is_stream((enum frame_type)9999));
}

static void
types_have_names_for_the_log(void **state)
{
	assert_string_equal(frame_type_name(FRAME_HELLO), "HELLO");
	assert_string_equal(frame_type_name(FRAME_ENROLLED), "ENROLLED");
	assert_string_equal(frame_type_name((enum frame_type)7), "?");
}

/* ---- DATA message ---- */

struct fixture {
	struct data_message m;
	struct data_message back;
	unsigned char bytes[FRAME_MESSAGE_MAX];
};

static int
setup(void **state)
{
	*state = calloc(1, sizeof(struct fixture));
	return *state == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	free(*state);
	return 0;
}

static void
add(struct data_message *m, enum extent_kind kind, uint32_t volume, uint64_t block, uint64_t count)
{
	m->extents[m->extent_count++] = (struct extent){block, count, volume, kind};
	if (kind != EXTENT_DATA && kind != EXTENT_FILL)
		return;
	for (uint64_t i = 0; i < count && m->digest_count < EXTENT_BLOCKS_MAX; i++, m->digest_count++)
		m->digests[m->digest_count] = 1000 + block + i;
}

/* Encode f->m and decode it as a frame of flags and payload_bytes. */
static int
through(struct fixture *f, unsigned flags, size_t payload_bytes)
{
	size_t len = data_message_bytes(&f->m);
	struct frame_header h = {
	    .type = FRAME_DATA,
	    .flags = flags,
	    .message_bytes = (uint32_t)len,
	    .payload_bytes = (uint32_t)payload_bytes,
	    .sequence = 1,
	};

	data_message_encode(&f->m, f->bytes);
	return data_message_decode(&h, f->bytes, len, &f->back);
}

static int
through_raw(struct fixture *f)
{
	return through(f, 0, f->m.digest_count * BLOCK_BYTES);
}

static void
many_extents_of_many_volumes_survive_the_wire(void **state)
{
	struct fixture *f = *state;

	add(&f->m, EXTENT_DATA, 3, 7, 2);
	add(&f->m, EXTENT_ZERO, 9, 0, UINT64_C(1) << 40);
	add(&f->m, EXTENT_DATA, 1, (UINT64_C(1) << 48) - 1, 1);
	assert_int_equal(through_raw(f), 0);
	assert_int_equal(f->back.extent_count, 3);
	assert_int_equal(f->back.digest_count, 3);
	assert_false(f->back.fill);
	assert_memory_equal(f->back.digests, f->m.digests, 3 * sizeof f->m.digests[0]);
	for (size_t i = 0; i < 3; i++) {
		assert_true(f->back.extents[i].block == f->m.extents[i].block);
		assert_true(f->back.extents[i].count == f->m.extents[i].count);
		assert_int_equal(f->back.extents[i].volume, f->m.extents[i].volume);
		assert_int_equal(f->back.extents[i].kind, f->m.extents[i].kind);
	}
}

static void
a_full_frame_of_single_blocks_fits(void **state)
{
	struct fixture *f = *state;

	for (uint64_t i = 0; i < EXTENT_BLOCKS_MAX; i++)
		add(&f->m, EXTENT_DATA, 1, i * 2, 1);
	for (uint64_t i = EXTENT_BLOCKS_MAX; i < EXTENTS_MAX; i++)
		add(&f->m, EXTENT_ZERO, 1, i * 2, 1);
	assert_int_equal(through_raw(f), 0);
	assert_int_equal(f->back.digest_count, EXTENT_BLOCKS_MAX);
	assert_int_equal(f->back.extent_count, EXTENTS_MAX);
}

static void
a_contiguous_fill_of_one_volume_is_a_fill(void **state)
{
	struct fixture *f = *state;

	add(&f->m, EXTENT_FILL, 2, 10, 5);
	add(&f->m, EXTENT_FILL_ZERO, 2, 15, 1000);
	add(&f->m, EXTENT_FILL, 2, 1015, 1);
	assert_int_equal(through_raw(f), 0);
	assert_true(f->back.fill);
}

static void
a_fill_with_a_gap_another_volume_or_other_kinds_is_refused(void **state)
{
	static const struct extent second[] = {
	    {16, 1, 2, EXTENT_FILL},
	    {14, 1, 2, EXTENT_FILL_ZERO},
	    {15, 1, 3, EXTENT_FILL},
	    {15, 1, 2, EXTENT_DATA},
	    {15, 1, 2, EXTENT_ZERO},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof second / sizeof second[0]; i++) {
		memset(&f->m, 0, sizeof f->m);
		add(&f->m, EXTENT_FILL, 2, 10, 5);
		add(&f->m, second[i].kind, second[i].volume, second[i].block, second[i].count);
		assert_int_equal(through_raw(f), -HF_EPROTOCOL);
	}
	memset(&f->m, 0, sizeof f->m);
	add(&f->m, EXTENT_ZERO, 2, 10, 5);
	add(&f->m, EXTENT_FILL, 2, 15, 1);
	assert_int_equal(through_raw(f), -HF_EPROTOCOL);
}

static void
a_frame_says_one_thing_of_a_block(void **state)
{
	static const struct {
		struct extent a, b;
		int expected;
	} cases[] = {
	    {{5, 5, 1, EXTENT_ZERO}, {9, 1, 1, EXTENT_ZERO}, -HF_EPROTOCOL},
	    {{9, 1, 1, EXTENT_ZERO}, {5, 5, 1, EXTENT_ZERO}, -HF_EPROTOCOL},
	    {{5, 5, 1, EXTENT_ZERO}, {5, 5, 1, EXTENT_ZERO}, -HF_EPROTOCOL},
	    {{5, 5, 1, EXTENT_ZERO}, {0, 1000, 1, EXTENT_ZERO}, -HF_EPROTOCOL},
	    {{5, 5, 1, EXTENT_ZERO}, {10, 1, 1, EXTENT_ZERO}, 0},
	    {{10, 1, 1, EXTENT_ZERO}, {5, 5, 1, EXTENT_ZERO}, 0}, /* any order */
	    {{5, 5, 2, EXTENT_ZERO}, {5, 5, 1, EXTENT_ZERO}, 0},  /* another volume */
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		f->m.extent_count = 2;
		f->m.extents[0] = cases[i].a;
		f->m.extents[1] = cases[i].b;
		assert_int_equal(through_raw(f), cases[i].expected);
	}
}

static void
an_overlap_far_apart_in_the_table_is_found(void **state)
{
	struct fixture *f = *state;

	for (uint64_t i = 0; i < EXTENTS_MAX; i++)
		add(&f->m, EXTENT_ZERO, 1, (EXTENTS_MAX - i) * 2, 1);
	assert_int_equal(through_raw(f), 0);
	f->m.extents[EXTENTS_MAX - 1] = f->m.extents[0];
	assert_int_equal(through_raw(f), -HF_EPROTOCOL);
}

static void
unknown_and_reserved_kinds_are_refused(void **state)
{
	static const unsigned kinds[] = {0, EXTENT_FRAGMENT, 6, UINT32_MAX};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		memset(&f->m, 0, sizeof f->m);
		add(&f->m, EXTENT_ZERO, 1, 0, 1);
		f->m.extents[0].kind = (enum extent_kind)kinds[i];
		assert_int_equal(through_raw(f), -HF_EPROTOCOL);
	}
}

static void
ranges_that_are_empty_or_overflow_are_refused(void **state)
{
	static const struct {
		uint64_t block, count;
	} bad[] = {
	    {0, 0},
	    {UINT64_C(1) << 48, 1},
	    {1, UINT64_C(1) << 48},
	    {UINT64_MAX, 1},
	    {UINT64_MAX, UINT64_MAX},
	    {1, UINT64_MAX},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		memset(&f->m, 0, sizeof f->m);
		add(&f->m, EXTENT_ZERO, 1, bad[i].block, bad[i].count);
		assert_int_equal(through_raw(f), -HF_EPROTOCOL);
	}
}

static void
payload_and_digests_must_agree_with_the_extents(void **state)
{
	struct fixture *f = *state;

	add(&f->m, EXTENT_DATA, 1, 0, 2);
	assert_int_equal(through(f, 0, BLOCK_BYTES), -HF_EPROTOCOL);
	assert_int_equal(through(f, 0, 3 * BLOCK_BYTES), -HF_EPROTOCOL);
	assert_int_equal(through(f, FRAME_LZ4, 2 * BLOCK_BYTES), -HF_EPROTOCOL);
	assert_int_equal(through(f, FRAME_LZ4, 2 * BLOCK_BYTES - 1), 0);
	f->m.digest_count = 1;
	assert_int_equal(through_raw(f), -HF_EPROTOCOL);
	f->m.digest_count = 3;
	f->m.digests[2] = 5;
	assert_int_equal(through_raw(f), -HF_EPROTOCOL);
}

static void
a_digest_of_zero_is_refused(void **state)
{
	struct fixture *f = *state;

	add(&f->m, EXTENT_DATA, 1, 0, 2);
	f->m.digests[1] = 0;
	assert_int_equal(through_raw(f), -HF_EPROTOCOL);
}

static void
more_blocks_or_extents_than_a_frame_holds_are_too_big(void **state)
{
	struct fixture *f = *state;
	struct frame_header h = {.type = FRAME_DATA, .message_bytes = 32, .sequence = 1};

	add(&f->m, EXTENT_DATA, 1, 0, EXTENT_BLOCKS_MAX);
	add(&f->m, EXTENT_DATA, 1, 1000, UINT64_C(1) << 40);
	assert_int_equal(through_raw(f), -HF_ETOOBIG);
	memset(f->bytes, 0, 32);
	put_le32(f->bytes, EXTENTS_MAX + 1);
	assert_int_equal(data_message_decode(&h, f->bytes, 32, &f->back), -HF_ETOOBIG);
	put_le32(f->bytes, 1);
	put_le32(f->bytes + 4, UINT32_MAX);
	assert_int_equal(data_message_decode(&h, f->bytes, 32, &f->back), -HF_ETOOBIG);
}

static void
every_other_length_is_refused(void **state)
{
	struct fixture *f = *state;
	struct frame_header h = {.type = FRAME_DATA, .payload_bytes = BLOCK_BYTES, .sequence = 1};
	size_t len;

	add(&f->m, EXTENT_DATA, 1, 0, 1);
	add(&f->m, EXTENT_ZERO, 1, 5, 1);
	len = data_message_bytes(&f->m);
	data_message_encode(&f->m, f->bytes);
	for (size_t n = 0; n < len + 32; n++) {
		/* A copy of exactly n bytes, so that the address sanitizer sees one byte too many.
		 */
		unsigned char *exact = malloc(n + 1);
		int r;

		assert_non_null(exact);
		memcpy(exact + 1, f->bytes, n);
		h.message_bytes = (uint32_t)n;
		r = data_message_decode(&h, exact + 1, n, &f->back);
		free(exact);
		assert_int_equal(r, n == len ? 0 : -HF_EPROTOCOL);
	}
}

static void
a_table_without_extents_is_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(through_raw(f), -HF_EPROTOCOL);
}

/* ---- compression ---- */

enum { SAMPLE_BYTES = 8 * BLOCK_BYTES };

struct sample {
	unsigned char blocks[SAMPLE_BYTES];
	unsigned char packed[SAMPLE_BYTES];
	unsigned char back[SAMPLE_BYTES + 1];
};

static const enum frame_flag algorithms[] = {FRAME_LZ4, FRAME_ZSTD};

static struct sample *
sample_create(void)
{
	struct sample *s = calloc(1, sizeof *s);

	assert_non_null(s);
	for (size_t i = 0; i < SAMPLE_BYTES; i++)
		s->blocks[i] = (unsigned char)(i / 64 * 7);
	s->back[SAMPLE_BYTES] = 0xa5;
	return s;
}

static void
compressed_blocks_come_back_exactly(void **state)
{
	for (size_t a = 0; a < 2; a++) {
		struct sample *s = sample_create();
		size_t n = payload_compress(algorithms[a], s->blocks, SAMPLE_BYTES, s->packed);

		assert_in_range(n, 1, SAMPLE_BYTES - 1);
		assert_int_equal(payload_decompress(algorithms[a], s->packed, n, s->back, SAMPLE_BYTES), 0);
		assert_memory_equal(s->back, s->blocks, SAMPLE_BYTES);
		assert_int_equal(s->back[SAMPLE_BYTES], 0xa5);
		free(s);
	}
}

static void
incompressible_blocks_are_left_alone(void **state)
{
	struct sample *s = sample_create();
	uint64_t x = 88172645463325252;

	for (size_t i = 0; i < SAMPLE_BYTES; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		s->blocks[i] = (unsigned char)x;
	}
	for (size_t a = 0; a < 2; a++)
		assert_int_equal(payload_compress(algorithms[a], s->blocks, SAMPLE_BYTES, s->packed), 0);
	free(s);
}

static void
any_other_size_than_announced_is_refused(void **state)
{
	for (size_t a = 0; a < 2; a++) {
		struct sample *s = sample_create();
		size_t n = payload_compress(algorithms[a], s->blocks, SAMPLE_BYTES, s->packed);
		enum frame_flag flag = algorithms[a];

		assert_int_equal(payload_decompress(flag, s->packed, n, s->back, SAMPLE_BYTES - 1), -HF_EPROTOCOL);
		assert_int_equal(s->back[SAMPLE_BYTES - 1], 0);
		assert_int_equal(payload_decompress(flag, s->packed, n, s->back, SAMPLE_BYTES + 1), -HF_EPROTOCOL);
		assert_int_equal(payload_decompress(flag, s->packed, n - 1, s->back, SAMPLE_BYTES), -HF_EPROTOCOL);
		assert_int_equal(payload_decompress(flag, s->packed, n + 1, s->back, SAMPLE_BYTES), -HF_EPROTOCOL);
		assert_int_equal(payload_decompress(flag, s->packed, 0, s->back, SAMPLE_BYTES), -HF_EPROTOCOL);
		free(s);
	}
}

static void
two_zstd_frames_in_one_payload_are_refused(void **state)
{
	struct sample *s = sample_create();
	size_t half = SAMPLE_BYTES / 2;
	size_t n = payload_compress(FRAME_ZSTD, s->blocks, half, s->packed);

	assert_int_not_equal(n, 0);
	memcpy(s->packed + n, s->packed, n);
	assert_int_equal(payload_decompress(FRAME_ZSTD, s->packed, 2 * n, s->back, SAMPLE_BYTES), -HF_EPROTOCOL);
	free(s);
}

#define with_fixture(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(header_survives_the_wire),
	    cmocka_unit_test(foreign_magic_and_unknown_types_are_refused),
	    cmocka_unit_test(lengths_beyond_the_types_maximum_are_refused),
	    cmocka_unit_test(flags_belong_to_data_with_payload_one_at_a_time),
	    cmocka_unit_test(only_stream_frames_carry_a_sequence),
	    cmocka_unit_test(types_have_names_for_the_log),
	    with_fixture(many_extents_of_many_volumes_survive_the_wire),
	    with_fixture(a_full_frame_of_single_blocks_fits),
	    with_fixture(a_contiguous_fill_of_one_volume_is_a_fill),
	    with_fixture(a_fill_with_a_gap_another_volume_or_other_kinds_is_refused),
	    with_fixture(a_frame_says_one_thing_of_a_block),
	    with_fixture(an_overlap_far_apart_in_the_table_is_found),
	    with_fixture(unknown_and_reserved_kinds_are_refused),
	    with_fixture(ranges_that_are_empty_or_overflow_are_refused),
	    with_fixture(payload_and_digests_must_agree_with_the_extents),
	    with_fixture(a_digest_of_zero_is_refused),
	    with_fixture(more_blocks_or_extents_than_a_frame_holds_are_too_big),
	    with_fixture(every_other_length_is_refused),
	    with_fixture(a_table_without_extents_is_refused),
	    cmocka_unit_test(compressed_blocks_come_back_exactly),
	    cmocka_unit_test(incompressible_blocks_are_left_alone),
	    cmocka_unit_test(any_other_size_than_announced_is_refused),
	    cmocka_unit_test(two_zstd_frames_in_one_payload_are_refused),
	};

	return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
