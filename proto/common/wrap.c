/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/wrap.h"

#include <stdlib.h>
#include <string.h>

#include "proto/common/table.h"
#include "proto/common/text.h"

/* Bytes of text that go on this line: up to the last blank that fits, or a whole word if even that is too long. */
static size_t
line_length(const char *text, int width)
{
	size_t end;

	if (table_text_width(text) <= width)
		return strlen(text);
	for (end = table_bytes_that_fit(text, width); end > 0 && text[end] != ' '; end--)
		;
	return end > 0 ? end : strcspn(text, " ");
}

void
wrap_print(FILE *out, const char *text, int width, int indent, const char *color)
{
	char *copy = text_copy(text);
	const char *p = copy;
	int used = 0;

	do {
		size_t lead = strspn(p, " "), len = strlen(p);

		if (width > 0)
			len = lead + line_length(p + lead, width - used - (int)lead);
		fprintf(out, "%*s%s%.*s%s\n", used, "", color, (int)len, p, color[0] != '\0' ? "\033[0m" : "");
		p += len;
		p += strspn(p, " ");
		used = indent;
	} while (*p != '\0');
	free(copy);
}
