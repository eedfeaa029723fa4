/* SPDX-License-Identifier: Apache-2.0 */
/* pack.h: a packed segment: the few live blocks of segments that are nearly dead, copied together, so that those can be
 * freed. It lies among the segments and has a number like them, but no records and no place in the journal's chain: it
 * belongs to the merged run that lists it, and a packed segment that no run lists is swept.
 *
 *	header page (magic "HFPAK001", version, source, seed, number, checksum) | blocks
 *
 * Copying carries digests, never computes them: a block that cannot be read, or does not match its digest, stays where
 * it is, to be found by whoever asks for it. */
#ifndef HF_STORAGE_PACK_H
#define HF_STORAGE_PACK_H

#include "storage/run.h"
#include "storage/view.h"

enum { PACK_HEADER_BYTES = 4096, PACK_BATCH_BLOCKS = 1024 };

struct pack_header {
	struct id source;
	uint64_t digest_seed;
	uint64_t number;
};

void pack_header_encode(const struct pack_header *h, unsigned char *ret_page);
/* 0, -HF_EFORMAT, -HF_ECORRUPT: none of ours. */
int pack_header_decode(const unsigned char *page, struct pack_header *ret_header);

/* One being written. All calls block; 0 or -errno. */
struct pack;
int pack_create(struct disk *d, const char *path, const struct pack_header *h, struct pack **ret_pack);
/* Copy the blocks of `count` (at most PACK_BATCH_BLOCKS) data entries, out of files[i] each, and make the entries say
 * where they lie now; those of bad blocks stay as they are. */
int pack_move(struct pack *p, struct entry **entries, struct disk_file **files, size_t count);
/* Sync it. The directory is the caller's. Gives the file, opened, which must not be written to any more. */
int pack_finish(struct pack *p, struct shared_file **ret_file);
uint64_t pack_blocks(const struct pack *p); /* so far */
void pack_destroy(struct pack *p);          /* NULL is allowed; removes nothing */

#endif
