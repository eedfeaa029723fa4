/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/id.h"

#include <stdio.h>
#include <string.h>

struct id
id_from_bits(const char *prefix, uint64_t high, uint64_t low)
{
	struct id id = {{0}};

	snprintf(id.text, sizeof id.text, "%s-%x%016llx", prefix, (unsigned)(high & 0xf), (unsigned long long)low);
	return id;
}

struct id
id_random(const char *prefix)
{
	uint64_t bits[2];

	random_bytes(bits, sizeof bits);
	return id_from_bits(prefix, bits[0], bits[1]);
}

bool
id_valid(const char *prefix, const char *text)
{
	size_t n = strlen(prefix);

	if (text == NULL || strncmp(text, prefix, n) != 0 || text[n] != '-')
		return false;
	text += n + 1;
	return strlen(text) == ID_DIGITS && strspn(text, "0123456789abcdef") == ID_DIGITS;
}

bool
id_parse(const char *prefix, const char *text, struct id *ret_id)
{
	struct id id = {{0}};

	if (!id_valid(prefix, text))
		return false;
	snprintf(id.text, sizeof id.text, "%s", text);
	*ret_id = id;
	return true;
}
