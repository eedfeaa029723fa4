/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <cmocka.h>
#include <xxhash.h>

#include "proto/common/bytes.h"
#include "proto/common/digest_impl.h"

static const uint64_t seed = 0x0123456789abcdef;

/* Values from another implementation (python3-xxhash): the format must never move, for digests lie
 * on disks. */
static void
digests_are_xxh3_with_the_seed(void **state)
{
	unsigned char block[BLOCK_BYTES];
	uint64_t children[2] = {1, 2};

	for (size_t i = 0; i < sizeof block; i++)
		block[i] = (unsigned char)(i % 251);
	assert_true(digest_block(seed, block) == 0x1d9c372ee81ca59c);
	assert_true(digest_block(0, block) == 0x7135ffa504f1bc71);
	assert_true(digest_node(seed, children, 2) == 0x3e3cbd3ac88a9e5f);
	assert_true(digest_chain(seed, "holdfast", 8) == 0x4e95e4b731fa8466);
}

static void
every_processor_computes_the_same(void **state)
{
	unsigned char bytes[BLOCK_BYTES + 512];

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (unsigned char)(i * i % 253 + 1);
	for (size_t len = 0; len < sizeof bytes; len++) {
		uint64_t expected = XXH3_64bits_withSeed(bytes, len, seed);

		assert_true(digest_chain(seed, bytes, len) == expected);
#ifdef DIGEST_HAS_AVX2
		if (__builtin_cpu_supports("avx2"))
			assert_true(digest_hash_avx2(seed, bytes, len) == expected);
#endif
	}
}

static void
a_block_of_zeros_has_digest_zero(void **state)
{
	static const unsigned char zeros[BLOCK_BYTES];

	assert_true(digest_block(0, zeros) == 0);
	assert_true(digest_block(seed, zeros) == 0);
}

static void
one_bit_anywhere_makes_a_block_not_zero(void **state)
{
	unsigned char block[BLOCK_BYTES] = {0};

	for (size_t bit = 0; bit < sizeof block * 8; bit++) {
		block[bit / 8] = (unsigned char)(1 << bit % 8);
		assert_true(digest_block(seed, block) != 0);
		block[bit / 8] = 0;
	}
}

static void
a_block_of_one_repeated_byte_is_not_taken_for_zeros(void **state)
{
	unsigned char block[BLOCK_BYTES];

	for (int b = 1; b < 256; b++) {
		memset(block, b, sizeof block);
		assert_true(digest_block(seed, block) != 0);
	}
}

static void
a_node_is_zero_exactly_if_all_children_are(void **state)
{
	uint64_t children[256] = {0};

	assert_true(digest_node(seed, children, 0) == 0);
	for (size_t n = 1; n <= 256; n++) {
		assert_true(digest_node(seed, children, n) == 0);
		children[n - 1] = 1;
		assert_true(digest_node(seed, children, n) != 0);
		children[n - 1] = 0;
	}
}

static void
a_node_depends_on_order_and_number_of_children(void **state)
{
	const uint64_t ab[3] = {1, 2, 0}, ba[2] = {2, 1};

	assert_true(digest_node(seed, ab, 2) != digest_node(seed, ba, 2));
	assert_true(digest_node(seed, ab, 2) != digest_node(seed, ab, 3));
}

static void
the_chain_depends_on_everything_before(void **state)
{
	uint64_t ab = digest_chain(digest_chain(7, "a", 1), "b", 1);

	assert_true(ab != digest_chain(digest_chain(7, "b", 1), "a", 1));
	assert_true(ab != digest_chain(digest_chain(8, "a", 1), "b", 1));
	assert_true(ab == digest_chain(digest_chain(7, "a", 1), "b", 1));
}

static void
levels_cover_16_256_and_65536_blocks(void **state)
{
	assert_int_equal(digest_level_blocks(0) * BLOCK_BYTES, 4096);
	assert_int_equal(digest_level_blocks(1) * BLOCK_BYTES, 64 * 1024);
	assert_int_equal(digest_level_blocks(2) * BLOCK_BYTES, 1024 * 1024);
	assert_int_equal(digest_level_blocks(3) * BLOCK_BYTES, 256 * 1024 * 1024);
}

static void
numbers_are_little_endian(void **state)
{
	unsigned char b[8];

	put_le16(b, 0x0102);
	assert_memory_equal(b, "\x02\x01", 2);
	assert_int_equal(get_le16(b), 0x0102);
	put_le32(b, 0x01020304);
	assert_memory_equal(b, "\x04\x03\x02\x01", 4);
	assert_int_equal(get_le32(b), 0x01020304);
	put_le64(b, 0x0102030405060708);
	assert_memory_equal(b, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
	assert_true(get_le64(b) == 0x0102030405060708);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(digests_are_xxh3_with_the_seed),
	    cmocka_unit_test(every_processor_computes_the_same),
	    cmocka_unit_test(a_block_of_zeros_has_digest_zero),
	    cmocka_unit_test(one_bit_anywhere_makes_a_block_not_zero),
	    cmocka_unit_test(a_block_of_one_repeated_byte_is_not_taken_for_zeros),
	    cmocka_unit_test(a_node_is_zero_exactly_if_all_children_are),
	    cmocka_unit_test(a_node_depends_on_order_and_number_of_children),
	    cmocka_unit_test(the_chain_depends_on_everything_before),
	    cmocka_unit_test(levels_cover_16_256_and_65536_blocks),
	    cmocka_unit_test(numbers_are_little_endian),
	};

	return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
