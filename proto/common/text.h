/* SPDX-License-Identifier: Apache-2.0 */
/* text.h: text, and what of it a person may be shown: well-formed UTF-8 without control characters (C0, DEL, C1), here
 * called plain. Anything else could command a terminal, forge a line, or be no JSON. Where a person chose it, it is
 * refused with text_is_plain(); what comes from a machine is copied with '?' in place of every byte that does not
 * belong to such a character. */
#ifndef HF_COMMON_TEXT_H
#define HF_COMMON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the character text begins with, if it may be shown; else 0. At most len are looked at: SIZE_MAX, where a NUL
 * ends text. */
size_t text_character(const char *text, size_t len);

bool text_is_plain(const char *text, size_t len);

/* Into an array of size bytes: cut to fit at the end of a character. */
void text_set(char *ret_text, size_t size, const char *text);

/* The caller's. Aborts when out of memory. */
char *text_copy(const char *text);

/* snprintf() that says -ENAMETOOLONG when it had to cut; else 0. For what is to be used as it is, like a path. */
int text_print(char *buf, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

bool text_has_prefix(const char *text, const char *prefix);

#endif
