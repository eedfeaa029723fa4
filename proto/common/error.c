/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/error.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/common/status.h"

int
hf_error_set(struct hf_error *err, int code, const char *format, ...)
{
	va_list ap;
	size_t n;

	assert(code < 0);
	if (err == NULL)
		return code;
	err->code = code;
	va_start(ap, format);
	vsnprintf(err->text, sizeof err->text, format, ap);
	va_end(ap);
	n = strlen(err->text);
	snprintf(err->text + n, sizeof err->text - n, ": %s", hf_status_text(code));
	return code;
}

int
hf_error_say(struct hf_error *err, int code, const char *format, ...)
{
	va_list ap;

	assert(code < 0);
	if (err == NULL)
		return code;
	err->code = code;
	va_start(ap, format);
	vsnprintf(err->text, sizeof err->text, format, ap);
	va_end(ap);
	return code;
}

int
hf_error_prefix(struct hf_error *err, const char *format, ...)
{
	char said[sizeof err->text];
	va_list ap;
	size_t n;

	if (err == NULL)
		return -EIO;
	memcpy(said, err->text, sizeof said);
	va_start(ap, format);
	vsnprintf(err->text, sizeof err->text, format, ap);
	va_end(ap);
	n = strlen(err->text);
	snprintf(err->text + n, sizeof err->text - n, ": %s", said);
	return err->code < 0 ? err->code : -EIO;
}
