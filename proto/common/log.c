/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

_Atomic enum log_level log_level_max = LOG_LEVEL_INFO;

static const char *const names[] = {"err", "warning", "notice", "info", "debug"};
static const int priorities[] = {3, 4, 5, 6, 7}; /* syslog(3) */

int
log_level_parse(const char *text)
{
	for (int i = 0; i <= LOG_LEVEL_DEBUG; i++)
		if (strcmp(text, names[i]) == 0)
			return i;
	return -1;
}

void
log_line(enum log_level level, const char *event, const char *format, ...)
{
	char line[2048];
	int saved_errno = errno;
	va_list ap;
	int n;

	if (level > log_level_max)
		return;
	n = snprintf(line, sizeof line - 1, "<%d>event=%s level=%s ", priorities[level], event, names[level]);
	va_start(ap, format);
	n += vsnprintf(line + n, sizeof line - 1 - (size_t)n, format, ap);
	va_end(ap);
	if (n > (int)sizeof line - 2)
		n = (int)sizeof line - 2;
	for (int i = 0; i < n; i++) /* a name from outside must not forge a line */
		if ((unsigned char)line[i] < ' ')
			line[i] = ' ';
	line[n++] = '\n';
	(void)!write(STDERR_FILENO, line, (size_t)n); /* nowhere left to report it */
	errno = saved_errno;
}
