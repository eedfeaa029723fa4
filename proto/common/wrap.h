/* SPDX-License-Identifier: Apache-2.0 */
/* wrap.h: sentences for people: a line is broken between words where the terminal ends, and not at all elsewhere, so
 * that scripts see what they always saw. What may not be shown is '?', as text.h says. */
#ifndef HF_COMMON_WRAP_H
#define HF_COMMON_WRAP_H

#include <stdio.h>

/* Text as lines of at most width columns (0: one line); those behind the first are indented by so many. Each line
 * begins with color and is plain again at its end; "" for none. A word longer than a line stays whole. */
void wrap_print(FILE *out, const char *text, int width, int indent, const char *color);

#endif
