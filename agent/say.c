/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/say.h"

#include <stdarg.h>
#include <stdio.h>

#include "proto/common/terminal.h"

enum { TEXT_BYTES = 2048 };

void
say(const char *format, ...)
{
	char text[TEXT_BYTES];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	terminal_say(stderr, "holdfast-agent: ", text);
}
