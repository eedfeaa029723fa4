/* SPDX-License-Identifier: Apache-2.0 */
/* kept.h: the names, holds and rules of a source's points, out of the catalog in its folder, if that can be read.
 * Opening a database changes it, so a copy in a temporary directory is opened instead; it is gone when this returns.
 * Blocks. */
#ifndef HF_CTL_KEPT_H
#define HF_CTL_KEPT_H

#include "storage/catalog.h"

/* The kept points in LSN order, an array the caller frees. -errno or what catalog_open() says; err tells more. */
int kept_read(const char *source_dir, struct pit **ret_pits, size_t *ret_count, struct hf_error *err);

#endif
