/* SPDX-License-Identifier: Apache-2.0 */
/* run_format.h: the bytes of a run file. Included by run*.c alone; docs/format.md tells the same in
 * words.
 *
 *	page 0          header
 *	narrow pages    entries of at most ENTRY_WIDE_BLOCKS blocks
 *	wide pages      longer ones, each with the largest end so far: then a search need not look back
 *	checkpoint pages
 *	segment pages   of a merged run: the files its entries are in
 *	parity pages    any one page of the above can be made again of them: see run_parity.h
 *
 * The last 16 bytes of every page: number of records, kind, checksum. The checksum is seeded with
 * the place of the page too, so that a page of another run, or of another place, is not taken for
 * this one. */
#ifndef HF_STORAGE_RUN_FORMAT_H
#define HF_STORAGE_RUN_FORMAT_H

#include "storage/run.h"

enum {
	RUN_VERSION = 2, /* 1 had neither merged runs nor segment and parity pages */
	RUN_PAGE_BYTES = 4096,
	RUN_PAGE_COUNT_AT = 4080,
	RUN_PAGE_KIND_AT = 4084,
	RUN_PAGE_CHECKSUM_AT = 4088,
	RUN_WIDE_BYTES = ENTRY_BYTES + 8,
	RUN_NARROW_PER_PAGE = RUN_PAGE_COUNT_AT / ENTRY_BYTES,
	RUN_WIDE_PER_PAGE = RUN_PAGE_COUNT_AT / RUN_WIDE_BYTES,
	RUN_SEGMENT_BYTES = 24,
	RUN_SEGMENTS_PER_PAGE = RUN_PAGE_COUNT_AT / RUN_SEGMENT_BYTES,
	RUN_VOLUMES_AT = 256,
	RUN_VOLUME_BYTES = 48,
};

_Static_assert(RUN_NARROW_PER_PAGE == 102, "on disk");
_Static_assert(RUN_WIDE_PER_PAGE == 85, "on disk");
_Static_assert(RUN_SEGMENTS_PER_PAGE == 170, "on disk");
_Static_assert(RUN_VOLUMES_AT + STORE_VOLUMES_MAX * RUN_VOLUME_BYTES <= RUN_PAGE_COUNT_AT, "fits");

/* Blocks of a volume are numbered below this, so that sums of them never overflow. */
#define RUN_BLOCK_LIMIT ((uint64_t)1 << 48)

enum run_page_kind {
	RUN_PAGE_HEADER = 1,
	RUN_PAGE_NARROW = 2,
	RUN_PAGE_WIDE = 3,
	RUN_PAGE_CHECKPOINTS = 4,
	RUN_PAGE_SEGMENTS = 5,
	RUN_PAGE_PARITY = 6,
};

static const unsigned char run_magic[8] = {'H', 'F', 'R', 'U', 'N', '0', '0', '1'};

/* What the header says of the pages behind it. */
struct run_layout {
	uint64_t narrow_count, wide_count;
	uint64_t checkpoint_count, checkpoint_pages;
	uint64_t segment_count;
	uint64_t parity_pages;
	uint64_t lsn_first, lsn_last; /* of the entries */
};

/* A wide entry as kept: with the largest end of its volume's wide entries up to and including it.
 */
struct wide_entry {
	struct entry entry;
	uint64_t end_max;
};

uint64_t run_narrow_pages(const struct run_layout *l);
uint64_t run_wide_pages(const struct run_layout *l);
uint64_t run_segment_pages(const struct run_layout *l);
/* All but the parity pages: the header, and what is behind it. */
uint64_t run_content_pages(const struct run_layout *l);

/* Running maximum of ends within a volume, for the next wide entry in order. */
uint64_t run_end_max(const struct wide_entry *before, const struct entry *e);

void run_page_seal(
    unsigned char *page, uint64_t seed, uint64_t number, uint64_t index, enum run_page_kind kind, size_t count);
/* Number of records, or -HF_ECORRUPT. */
int run_page_check(const unsigned char *page, uint64_t seed, uint64_t number, uint64_t index, enum run_page_kind kind);

void run_entry_encode(unsigned char *p, const struct entry *e);
void run_entry_decode(const unsigned char *p, struct entry *ret_entry);
/* False for what no writer of ours would have written. */
bool run_entry_sane(const struct entry *e);

void run_segment_encode(unsigned char *p, const struct run_segment *g);
void run_segment_decode(const unsigned char *p, struct run_segment *ret_segment);

void run_header_encode(unsigned char *page, const struct run_info *info, const struct run_layout *l);
/* What the checksums of all pages are seeded with. */
void run_header_keys(const unsigned char *page, uint64_t *ret_seed, uint64_t *ret_number);
/* 0, -HF_EFORMAT, -HF_ECORRUPT. */
int run_header_decode(const unsigned char *page, struct run_info *ret_info, struct run_layout *ret_layout);

#endif
