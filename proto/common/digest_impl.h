/* SPDX-License-Identifier: Apache-2.0 */
/* digest_impl.h: inside of digest*.c, and for their test. */
#ifndef HF_COMMON_DIGEST_IMPL_H
#define HF_COMMON_DIGEST_IMPL_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && !defined(__clang__) /* clang has another pragma for it */
#define DIGEST_HAS_AVX2 1

/* XXH3-64 of any bytes. Only where __builtin_cpu_supports("avx2"). */
uint64_t digest_hash_avx2(uint64_t seed, const void *bytes, size_t len);
#endif

#endif
