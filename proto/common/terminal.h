/* SPDX-License-Identifier: Apache-2.0 */
/* terminal.h: where a person reads: how wide it is, what it can do, and how a program speaks there. */
#ifndef HF_COMMON_TERMINAL_H
#define HF_COMMON_TERMINAL_H

#include <stdbool.h>
#include <stdio.h>

/* Columns of the terminal that fd is, as it is now, or fewer if $COLUMNS says so; 0: it is none. */
int terminal_width(int fd);

/* Is fd a terminal that can erase a line, and has colours? TERM=dumb has not. */
bool terminal_obeys(int fd);

/* What a program has to tell besides its results: prefix and text on lines of their own, behind what was printed, even
 * while a bar is drawn (progress.h); broken between words where the terminal ends. out is mostly stderr. */
void terminal_say(FILE *out, const char *prefix, const char *text);

#endif
