/* SPDX-License-Identifier: Apache-2.0 */
/* digest.h: the digest of a block, of a tree node, and the chain hash of a stream.
 *
 * A block's digest is XXH3-64 (https://github.com/Cyan4973/xxHash, format fixed since 0.8.0) of its
 * 4,096 bytes, seeded with the source's random digest seed. 0 is reserved for a block of zeros; a
 * digest that happens to be 0 is stored as 1. A node's digest is the same hash over its children's
 * digests as little-endian 64-bit numbers, and 0 exactly if all children are 0.
 *
 * Levels: 0 = 4 KiB block, 1 = 64 KiB (16 children), 2 = 1 MiB (16), 3 = 256 MiB (256). The root is
 * the node over all level-3 digests of the volume. Children beyond the volume's end are 0. */
#ifndef HF_COMMON_DIGEST_H
#define HF_COMMON_DIGEST_H

#include <stddef.h>
#include <stdint.h>

enum {
	BLOCK_BYTES = 4096,
	BLOCK_SHIFT = 12,
	DIGEST_LEVELS = 4, /* 0..3 */
};

/* Blocks under one node of a level (level 0: 1, 1: 16, 2: 256, 3: 65,536). */
static inline uint64_t
digest_level_blocks(int level)
{
	static const uint64_t blocks[DIGEST_LEVELS] = {1, 16, 256, 65536};

	return blocks[level];
}

/* Digest of one block of BLOCK_BYTES bytes. Pure; does not block. */
uint64_t digest_block(uint64_t seed, const void *block);

/* Digest of a node over n children (1..65,536 or, for the root, any number). */
uint64_t digest_node(uint64_t seed, const uint64_t *children, size_t n);

/* Chain hash after a stream frame: XXH3-64 of its header and message bytes, seeded with the chain
 * before it. A stream's chain begins with its stream id. */
uint64_t digest_chain(uint64_t chain, const void *bytes, size_t len);

#endif
