/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/json_text.h"

#include <stdlib.h>

#include "proto/common/text.h"

json_t *
json_text(const char *text)
{
	json_t *value = json_string(text);
	char *plain;

	if (value != NULL)
		return value;
	plain = text_copy(text);
	value = json_string(plain);
	free(plain);
	return value;
}
