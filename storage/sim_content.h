/* SPDX-License-Identifier: Apache-2.0 */
/* sim_content.h: what one file of the simulated disk holds: a size, the 4 KiB blocks that were
 * written, and the ranges that were allocated. Blocks are immutable pages shared by reference, so
 * the visible and the durable content of a file, and the writes between them, hold the same bytes
 * once. Costs follow the blocks written, never the size.
 *
 * Part of a test tool: when memory runs out it aborts. */
#ifndef HF_STORAGE_SIM_CONTENT_H
#define HF_STORAGE_SIM_CONTENT_H

#include <stddef.h>
#include <stdint.h>

enum { SIM_BLOCK_BYTES = 4096, SIM_SECTOR_BYTES = 512, SIM_SECTORS_PER_BLOCK = 8 };

struct sim_page {
	unsigned refs;
	uint64_t digest; /* of its bytes, 0 = nobody has asked yet */
	unsigned char bytes[SIM_BLOCK_BYTES];
};

/* Gives one reference; bytes are copied, NULL: zeros. */
struct sim_page *sim_page_create(const void *bytes);
struct sim_page *sim_page_ref(struct sim_page *p);
void sim_page_unref(struct sim_page *p); /* NULL allowed */

struct sim_chunk;
struct sim_range {
	uint64_t begin, end; /* blocks */
};

/* All zero is an empty file. */
struct sim_content {
	uint64_t size;   /* bytes; what lies beyond it in its last block is zero */
	uint64_t blocks; /* written or allocated: what the file costs on the disk */
	struct sim_chunk **chunks;
	size_t chunks_count, chunks_capacity;
	struct sim_range *ranges; /* allocated, apart, in no order */
	size_t ranges_count, ranges_capacity;
};

void sim_content_fini(struct sim_content *c); /* leaves an empty file */
void sim_content_copy(struct sim_content *to, const struct sim_content *from);

/* The page of a block, borrowed; NULL if it was never written. */
struct sim_page *sim_content_page(const struct sim_content *c, uint64_t block);

/* How many of the blocks begin..end cost nothing yet. */
uint64_t sim_content_new_blocks(const struct sim_content *c, uint64_t begin, uint64_t end);

/* Put a page (shared: takes a reference of its own) at a block. Does not grow the size. */
void sim_content_put(struct sim_content *c, uint64_t block, struct sim_page *p);

void sim_content_truncate(struct sim_content *c, uint64_t size);
void sim_content_allocate(struct sim_content *c, uint64_t offset, uint64_t len); /* grows the size */
void sim_content_punch(struct sim_content *c, uint64_t offset, uint64_t len);

/* Copies what lies before the end of the file. Returns the number of bytes. */
size_t sim_content_read(const struct sim_content *c, void *buf, size_t len, uint64_t offset);

/* A fingerprint: the same for the same bytes in the same blocks, whoever wrote them. */
uint64_t sim_content_hash(const struct sim_content *c, uint64_t seed);

/* First byte >= from that lies in a written block; the size if there is none. */
uint64_t sim_content_next_data(const struct sim_content *c, uint64_t from);

#endif
