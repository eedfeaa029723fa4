/* SPDX-License-Identifier: Apache-2.0 */
/* run_parity.h: the pages at the end of a run file of which any one of its pages can be made again, when it has rotted.
 * Nothing else could replace a page of a merged run: what its segments had of that may have been given back.
 *
 * With n parity pages, a power of two, page i of the others belongs to group i % n, so that neighbours, which a bad
 * place of the disk may hit together, are of different groups. Parity page k is the exclusive or of group k's pages: of
 * all but kind and checksum, which are the page's own. The number of pages tells n, so that it is known without the
 * header, which may be what has rotted. Included by run*.c alone. */
#ifndef HF_STORAGE_RUN_PARITY_H
#define HF_STORAGE_RUN_PARITY_H

#include "storage/run_impl.h"

enum {
	RUN_PARITY_PAGES_MAX = 256,  /* 1 MiB in memory while a run is written */
	RUN_PARITY_GROUP_PAGES = 16, /* in a group, unless there are more than 256 groups of so many */
};

/* How many parity pages go with so many others. */
uint64_t run_parity_pages(uint64_t pages);

/* Add a page to another, or take it away. */
void run_parity_xor(unsigned char *to, const unsigned char *page);

/* ---- writing: every page is added when it is sealed ---- */
struct run_parity;
struct run_parity *run_parity_create(void); /* NULL when out of memory */
void run_parity_add(struct run_parity *p, uint64_t index, const unsigned char *page);
/* Parity page k of n, not sealed yet. */
void run_parity_get(const struct run_parity *p, uint64_t n, uint64_t k, unsigned char *ret_page);
void run_parity_destroy(struct run_parity *p); /* NULL is allowed */

/* ---- reading (run_mend.c); blocks ---- */

/* Page `index`, which must be of that kind, into page (aligned): as it is, or made again. Number of records;
 * -HF_ECORRUPT, -errno: it cannot be read, and neither can another one of its group. */
int run_read_page(struct run *r, struct disk *d, uint64_t index, enum run_page_kind kind, unsigned char *page);

/* Page 0 of a run of which nothing is known yet but its file. 0, -HF_ECORRUPT, -errno. */
int run_remake_header(struct run *r, struct disk *d, unsigned char *page);

#endif
