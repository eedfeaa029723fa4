/* SPDX-License-Identifier: Apache-2.0 */
/* repair.h: inside of a store: opening it when its catalog is damaged or gone. For store_open.c alone. */
#ifndef HF_STORAGE_REPAIR_H
#define HF_STORAGE_REPAIR_H

#include "storage/store_impl.h"

/* In place of loading the catalog and store_recover(): from the catalog's copy, or else from the journal, the runs and
 * the digest files alone, a new catalog that takes the place of the old one, which is kept aside. why: what was wrong
 * with it. Fills s->repair. Blocking. Errors as of store_open(); then the catalog is as it was. */
int store_repair(struct store *s, struct disk *d, const char *why, struct hf_error *err);

#endif
