/* SPDX-License-Identifier: Apache-2.0 */
/* cure.h: what an administrator is told to type next. Texts say SOURCE where the command takes one; what is shown has
 * the id there, so that it can be copied. */
#ifndef HF_SERVER_CURE_H
#define HF_SERVER_CURE_H

#include <stddef.h>

#include "proto/common/id.h"

/* The text with the id for each SOURCE into ret_text, cut if it is too long. Without an id ("") as it is. text and
 * ret_text do not overlap. */
void cure_name_source(const char *text, const struct id *source, char *ret_text, size_t size);

#endif
