/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/text.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The character a lead byte begins: its length, and the bits of its value held in the lead byte. */
static size_t
character_begin(unsigned char lead, uint32_t *ret_value)
{
	static const struct {
		unsigned char mask, lead;
	} forms[] = {{0x80, 0x00}, {0xe0, 0xc0}, {0xf0, 0xe0}, {0xf8, 0xf0}};

	for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
		if ((lead & forms[i].mask) == forms[i].lead) {
			*ret_value = lead & (unsigned char)~forms[i].mask;
			return i + 1;
		}
	}
	return 0;
}

static bool
character_allowed(uint32_t value, size_t len)
{
	static const uint32_t first[] = {0, 0, 0x80, 0x800, 0x10000}; /* by length: shorter forms are required */

	if (value < 0x20 || (value >= 0x7f && value < 0xa0))
		return false;
	if (value >= 0xd800 && value < 0xe000)
		return false; /* half of a UTF-16 pair */
	return value >= first[len] && value <= 0x10ffff;
}

size_t
text_character(const char *text, size_t len)
{
	uint32_t value;
	size_t n;

	if (len == 0)
		return 0;
	n = character_begin((unsigned char)text[0], &value);
	if (n == 0 || n > len)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (text[i] & 0x3f);
	}
	return character_allowed(value, n) ? n : 0;
}

bool
text_is_plain(const char *text, size_t len)
{
	while (len > 0) {
		size_t n = text_character(text, len);

		if (n == 0)
			return false;
		text += n;
		len -= n;
	}
	return true;
}

void
text_set(char *ret_text, size_t size, const char *text)
{
	size_t used = 0;

	assert(size > 0);
	while (*text != '\0') {
		size_t n = text_character(text, SIZE_MAX), take = n > 0 ? n : 1;

		if (used + take >= size)
			break;
		memcpy(ret_text + used, n > 0 ? text : "?", take);
		used += take;
		text += take;
	}
	ret_text[used] = '\0';
}

char *
text_copy(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = malloc(size);

	if (copy == NULL)
		abort(); /* there is nothing better to do */
	text_set(copy, size, text);
	return copy;
}

int
text_print(char *buf, size_t size, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(buf, size, format, ap);
	va_end(ap);
	return n >= 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

bool
text_has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}
