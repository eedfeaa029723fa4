/* SPDX-License-Identifier: Apache-2.0 */
/* What is said to people and asked of them, and when they interrupt: without the commands, so that another program can
 * be made of the client alone. */
#include "server/ctl/ctl.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/common/table.h"
#include "proto/common/terminal.h"
#include "proto/common/text.h"

/* ---- words to people ---- */

static const char *say_prefix; /* NULL: "holdfastctl: " */
static FILE *say_out;          /* NULL: stderr */

void
ctl_say_to(FILE *out, const char *prefix)
{
	say_out = out;
	say_prefix = prefix;
}

static void
say(const char *format, va_list ap)
{
	char *text;

	if (vasprintf(&text, format, ap) < 0)
		abort();
	terminal_say(say_out != NULL ? say_out : stderr, say_prefix != NULL ? say_prefix : "holdfastctl: ", text);
	free(text);
}

int
ctl_fail(int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(format, ap);
	va_end(ap);
	return code;
}

void
ctl_note(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(format, ap);
	va_end(ap);
}

bool
ctl_is_hopeless(int code)
{
	return code == EXIT_UNREACHABLE || code == EXIT_NOT_ALLOWED || code == EXIT_INTERRUPTED;
}

/* Show what will be done, and read a line; "" without a terminal, and said. */
static void
ask(char *ret_answer, size_t size, const char *question, const char *format, va_list ap)
{
	char *text;

	ret_answer[0] = '\0';
	if (vasprintf(&text, format, ap) < 0)
		abort();
	terminal_say(stderr, "", text);
	free(text);
	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
		ctl_note("nothing was done: without a terminal this needs --yes");
		return;
	}
	fprintf(stderr, "%s ", question);
	if (fgets(ret_answer, (int)size, stdin) == NULL) {
		ret_answer[0] = '\0';
		fputc('\n', stderr); /* behind the question */
	}
	ret_answer[strcspn(ret_answer, "\n")] = '\0';
}

static bool
confirmed(bool yes)
{
	if (!yes && isatty(STDIN_FILENO) && isatty(STDERR_FILENO))
		ctl_note("nothing was done");
	return yes;
}

bool
ctl_confirm(const struct ctl *ctl, const char *format, ...)
{
	char answer[16];
	va_list ap;

	if (ctl_given(ctl, OPT_YES))
		return true;
	va_start(ap, format);
	ask(answer, sizeof answer, "Go on? [y/N]", format, ap);
	va_end(ap);
	return confirmed(strcmp(answer, "y") == 0 || strcmp(answer, "yes") == 0);
}

bool
ctl_confirm_name(const struct ctl *ctl, const char *name, const char *format, ...)
{
	char answer[256], question[300], *shown;
	va_list ap;

	if (ctl_given(ctl, OPT_YES))
		return true;
	shown = text_copy(name);
	snprintf(question, sizeof question, "To go on, type %s:", shown);
	free(shown);
	va_start(ap, format);
	ask(answer, sizeof answer, question, format, ap);
	va_end(ap);
	return confirmed(strcmp(answer, name) == 0);
}

/* ---- signals ---- */

static volatile sig_atomic_t interrupted;

bool
ctl_interrupted(void)
{
	return interrupted != 0;
}

static void
on_signal(int number)
{
	interrupted = 1;
}

void
ctl_catch_signals(void)
{
	struct sigaction catch = {
	    .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}; /* a second one ends us at once */

	sigaction(SIGINT, &catch, NULL);
	sigaction(SIGTERM, &catch, NULL);
	signal(SIGPIPE, SIG_IGN); /* a write says EPIPE */
}
