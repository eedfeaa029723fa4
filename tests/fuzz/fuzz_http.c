/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a request on the control sockets: whatever comes, the words lie inside the head, end in a NUL and hold no
 * control character. */
#include "server/http_parse.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_word(const struct http_head *h, const char *word)
{
	if (word < h->text || word > h->text + HTTP_HEAD_BYTES_MAX)
		abort();
	for (; *word != '\0'; word++)
		if ((unsigned char)*word < ' ' || *word == 0x7f)
			abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct http_head h;

	if (size > HTTP_HEAD_BYTES_MAX || http_head_parse((const char *)data, size, &h) < 0)
		return 0;
	if (h.body_bytes > HTTP_BODY_BYTES_MAX || http_method_name(h.method)[0] == '\0')
		abort();
	for (size_t i = 0; i < h.segment_count; i++)
		check_word(&h, h.segments[i]);
	for (size_t i = 0; i < h.param_count; i++) {
		check_word(&h, h.params[i].name);
		check_word(&h, h.params[i].value);
		if (http_head_param(&h, h.params[i].name) == NULL)
			abort();
	}
	return 0;
}
