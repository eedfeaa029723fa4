/* SPDX-License-Identifier: Apache-2.0 */
/* points.h: the points in time of a source as they were at one moment: those that are kept, and every checkpoint inside
 * the journal window. Never changed, and read on any thread, while its store goes on, or after it was closed. It costs
 * its store next to nothing, for it is made of what the store has: rows, costs and marks are shared, not copied. */
#ifndef HF_STORAGE_POINTS_H
#define HF_STORAGE_POINTS_H

#include <stdatomic.h>

#include "storage/account.h"
#include "storage/catalog.h"
#include "storage/mark.h"
#include "storage/shared.h"

struct points {
	atomic_uint refs;
	struct id source;
	const struct pit *rows; /* kept, in LSN order */
	size_t row_count;
	struct shared *rows_shared;
	struct account account; /* what they cost, as far as it is known */
	struct shared *account_shared;
	uint64_t window_lsn; /* newer rows cost nothing of their own; 0: none does */
	struct marks marks;
	uint64_t fold_lsn; /* older marks are no points any more, */
	int64_t begin_ns;  /* nor those before this running time */
};

/* Shares. There is none in it yet; until it is shown to anybody its maker fills it in. NULL: no memory. */
struct points *points_create(const struct id *source);
struct points *points_ref(struct points *p);
void points_unref(struct points *p); /* NULL allowed */

/* The newest of those before an LSN (UINT64_MAX: of all), at most max, in LSN order. Gives an array. *ret_more: there
 * are older ones. 0 or -ENOMEM. */
int points_list(
    const struct points *p, uint64_t before_lsn, size_t max, struct pit **ret_pits, size_t *ret_count, bool *ret_more);

/* The one at exactly that LSN, or of that id. False: there is none. */
bool points_find(const struct points *p, uint64_t lsn, struct pit *ret_pit);
bool points_find_id(const struct points *p, const struct id *pit, struct pit *ret_pit);

/* What the row costs, into it. */
void points_fill_account(const struct account *a, uint64_t window_lsn, struct pit *row);

#endif
