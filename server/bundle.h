/* SPDX-License-Identifier: Apache-2.0 */
/* bundle.h: named pieces of bytes, one behind the other: what `holdfastctl identity` takes out of a server and puts
 * into another (docs/format.md). In memory alone. */
#ifndef HF_SERVER_BUNDLE_H
#define HF_SERVER_BUNDLE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/common/error.h"

struct bundle {
	unsigned char *bytes;
	size_t len, room;
};
void bundle_fini(struct bundle *b); /* wipes it: there are keys in it */

enum { BUNDLE_NAME_BYTES = 64, BUNDLE_BYTES_MAX = 1 << 30 };

/* Copied. -ENOMEM; -HF_ETOOBIG: more than BUNDLE_BYTES_MAX in all. */
int bundle_add(struct bundle *b, const char *name, const void *bytes, size_t len);
/* Bytes of a bundle as they come, in order. The same. */
int bundle_append(struct bundle *b, const void *bytes, size_t len);
/* The whole of a file. Blocks. -ENOENT, -errno with err. */
int bundle_add_file(struct bundle *b, const char *name, const char *path, struct hf_error *err);

struct bundle_piece {
	char name[BUNDLE_NAME_BYTES];
	const unsigned char *bytes; /* borrowed from the bundle */
	size_t len;
};
/* The piece at *at, which then is where the next begins; 0 first. 1; 0: there is no more; -HF_ECORRUPT. */
int bundle_next(const struct bundle *b, size_t *at, struct bundle_piece *ret_piece);
/* The piece of this name. -ENOENT, -HF_ECORRUPT. */
int bundle_find(const struct bundle *b, const char *name, struct bundle_piece *ret_piece);

#endif
