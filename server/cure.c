/* SPDX-License-Identifier: Apache-2.0 */
#include "server/cure.h"

#include <stdio.h>
#include <string.h>

static const char word[] = "SOURCE";

void
cure_name_source(const char *text, const struct id *source, char *ret_text, size_t size)
{
	const char *name = source->text[0] != '\0' ? source->text : word, *at;
	size_t len = 0;

	while ((at = strstr(text, word)) != NULL && len < size) {
		len += (size_t)snprintf(ret_text + len, size - len, "%.*s%s", (int)(at - text), text, name);
		text = at + strlen(word);
	}
	if (len < size)
		snprintf(ret_text + len, size - len, "%s", text);
}
