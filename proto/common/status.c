/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/status.h"

#include <stdlib.h>
#include <string.h>

static const struct {
	int code;
	const char *name;
	const char *text;
} table[] = {
#define X(name, value, text) {value, #name, text},
    HF_STATUS_TABLE(X)
#undef X
};

const char *
hf_status_text(int code)
{
	code = abs(code);
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (table[i].code == code)
			return table[i].text;
	return strerror(code);
}

const char *
hf_status_name(int code)
{
	const char *name;

	code = abs(code);
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (table[i].code == code)
			return table[i].name + strlen("HF_E");
	name = strerrorname_np(code);
	return name != NULL ? name : "UNKNOWN";
}
