/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/digest.h"

#include <stdbool.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "proto/common/digest_impl.h"

_Static_assert(
    __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "node digests are hashed over little-endian numbers in place");

static bool
all_zero(const void *p, size_t len)
{
	const unsigned char *b = p;

	/* The first word, then the block against itself shifted by it: memcmp is the fastest scan there is. */
	if (len < 8)
		return true;
	for (size_t i = 0; i < 8; i++)
		if (b[i] != 0)
			return false;
	return memcmp(b, b + 8, len - 8) == 0;
}

static uint64_t
hash(uint64_t seed, const void *bytes, size_t len)
{
#ifdef DIGEST_HAS_AVX2
	if (__builtin_cpu_supports("avx2"))
		return digest_hash_avx2(seed, bytes, len);
#endif
	return XXH3_64bits_withSeed(bytes, len, seed);
}

uint64_t
digest_block(uint64_t seed, const void *block)
{
	uint64_t d;

	if (all_zero(block, BLOCK_BYTES))
		return 0;
	d = hash(seed, block, BLOCK_BYTES);
	return d != 0 ? d : 1;
}

uint64_t
digest_node(uint64_t seed, const uint64_t *children, size_t n)
{
	uint64_t d;

	if (all_zero(children, n * sizeof *children))
		return 0;
	d = hash(seed, children, n * sizeof *children);
	return d != 0 ? d : 1;
}

uint64_t
digest_chain(uint64_t chain, const void *bytes, size_t len)
{
	return hash(chain, bytes, len);
}
