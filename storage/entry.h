/* SPDX-License-Identifier: Apache-2.0 */
/* entry.h: where a version of some blocks lies: the unit of the index (runs, open interval, views). */
#ifndef HF_STORAGE_ENTRY_H
#define HF_STORAGE_ENTRY_H

#include <stdint.h>

#include "proto/common/digest.h"

/* One block of data (count 1, digest not 0) or a run of zero blocks (digest 0, nothing stored). */
struct entry {
	uint64_t block;   /* first, in 4 KiB units from the volume's start */
	uint64_t lsn;     /* journal record that wrote it */
	uint64_t digest;  /* 0 = zeros */
	uint32_t segment; /* journal segment the bytes are in; 0 with zeros */
	uint32_t offset;  /* in that segment, in 4 KiB units; 0 with zeros */
	uint32_t volume;
	uint32_t count; /* blocks; longer zero ranges are several entries */
};

enum {
	ENTRY_BYTES = 40,        /* on disk: the fields above, in this order, little-endian */
	ENTRY_WIDE_BLOCKS = 256, /* an entry of more blocks than this is "wide" and is kept apart */
};

/* Order of the index: volume, block, lsn. <0, 0, >0. */
static inline int
entry_compare(const struct entry *a, const struct entry *b)
{
	if (a->volume != b->volume)
		return a->volume < b->volume ? -1 : 1;
	if (a->block != b->block)
		return a->block < b->block ? -1 : 1;
	if (a->lsn != b->lsn)
		return a->lsn < b->lsn ? -1 : 1;
	return 0;
}

#endif
