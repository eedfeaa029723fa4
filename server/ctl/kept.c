/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/kept.h"

#include "server/ctl/borrowed.h"

int
kept_read(const char *source_dir, struct pit **ret_pits, size_t *ret_count, struct hf_error *err)
{
	struct borrowed b;
	struct catalog *c;
	int r = borrowed_take(source_dir, "catalog.db", &b, err);

	if (r < 0)
		return r;
	r = catalog_open(b.path, NULL, false, NULL, &c, err);
	if (r == 0) {
		r = catalog_list_pits(c, ret_pits, ret_count, err);
		catalog_close(c);
	}
	borrowed_drop(&b);
	return r;
}
