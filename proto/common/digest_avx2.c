/* SPDX-License-Identifier: Apache-2.0 */
/* digest_avx2.c: XXH3 compiled for AVX2, twice as fast as what every x86-64 processor can run. libxxhash has the like
 * (xxh_x86dispatch.h), but returns with the upper halves of the registers dirty, and then everybody else's SSE code
 * runs at a third of its speed. */
#include "proto/common/digest_impl.h"

#ifdef DIGEST_HAS_AVX2

#pragma GCC target("avx2")
#include <immintrin.h>

#define XXH_INLINE_ALL
#define XXH_VECTOR XXH_AVX2
#include <xxhash.h>

uint64_t
digest_hash_avx2(uint64_t seed, const void *bytes, size_t len)
{
	uint64_t d = XXH3_64bits_withSeed(bytes, len, seed);

	_mm256_zeroupper(); /* the compiler does not, under a pragma */
	return d;
}

#endif
