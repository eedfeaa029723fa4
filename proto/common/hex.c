/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/hex.h"

#include <string.h>

static const char digits[] = "0123456789abcdef";

void
hex_format(const unsigned char *bytes, size_t len, char *ret_text)
{
	for (size_t i = 0; i < len; i++) {
		*ret_text++ = digits[bytes[i] >> 4];
		*ret_text++ = digits[bytes[i] & 15];
	}
	*ret_text = '\0';
}

static unsigned
digit(char c)
{
	return (unsigned)(strchr(digits, c) - digits);
}

bool
hex_parse(const char *text, unsigned char *ret_bytes, size_t len)
{
	if (strlen(text) != 2 * len || strspn(text, digits) != 2 * len)
		return false;
	for (size_t i = 0; i < len; i++)
		ret_bytes[i] = (unsigned char)(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
	return true;
}
