/* SPDX-License-Identifier: Apache-2.0 */
/* run_cache.h: checked pages of runs, as many as fit a bound. Included by run*.c alone. One thread.
 */
#ifndef HF_STORAGE_RUN_CACHE_H
#define HF_STORAGE_RUN_CACHE_H

#include <stddef.h>
#include <stdint.h>

struct run_cache;

/* Pages that are read in one piece by a scan. */
enum { RUN_AHEAD_PAGES = 16 };

/* The page, or NULL. Valid until the next run_cache_put(). run_id is unique in the process: pages
 * of a closed run are never found again. */
const unsigned char *run_cache_find(struct run_cache *c, uint64_t run_id, uint64_t page);

/* Keep a copy of a checked page in place of the one in its set that was not used for the longest
 * time. */
const unsigned char *run_cache_put(struct run_cache *c, uint64_t run_id, uint64_t page, const unsigned char *bytes);

/* RUN_AHEAD_PAGES pages of aligned memory to read into. */
unsigned char *run_cache_room(struct run_cache *c);

#endif
