/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "proto/common/progress.h"
#include "proto/common/wrap.h"

enum { SAY_INDENT = 4 };

int
terminal_width(int fd)
{
	const char *columns = getenv("COLUMNS");
	int wanted = columns != NULL ? atoi(columns) : 0;
	struct winsize size = {0};

	if (fd < 0 || !isatty(fd))
		return 0;
	(void)ioctl(fd, TIOCGWINSZ, &size); /* 0: not known */
	return wanted > 0 && (size.ws_col == 0 || wanted < size.ws_col) ? wanted : size.ws_col;
}

bool
terminal_obeys(int fd)
{
	const char *term = getenv("TERM");

	return isatty(fd) && term != NULL && strcmp(term, "dumb") != 0;
}

void
terminal_say(FILE *out, const char *prefix, const char *text)
{
	char *line;

	if (asprintf(&line, "%s%s", prefix, text) < 0)
		abort(); /* there is nothing better to do */
	fflush(stdout);
	progress_step_aside();
	wrap_print(out, line, terminal_width(fileno(out)), SAY_INDENT, "");
	free(line);
}
