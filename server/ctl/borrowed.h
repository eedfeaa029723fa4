/* SPDX-License-Identifier: Apache-2.0 */
/* borrowed.h: a database of a staging area, copied aside into a folder of its own, because opening one changes it. */
#ifndef HF_CTL_BORROWED_H
#define HF_CTL_BORROWED_H

#include "proto/common/error.h"

struct borrowed {
	char dir[256], path[300]; /* path: what to open */
};

/* Copy DIR/NAME and its log. Blocks. 0, -ENOENT (there is no such database), -errno. */
int borrowed_take(const char *dir, const char *name, struct borrowed *ret_borrowed, struct hf_error *err);
/* The copy is closed and not needed any more. */
void borrowed_drop(const struct borrowed *b);

#endif
