/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/terminal.h"

#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/common/log.h"
#include "proto/common/progress.h"
#include "proto/common/units.h"

struct screen {
	int master, slave;
};

static struct screen
screen_open(unsigned short columns)
{
	struct winsize size = {.ws_row = 24, .ws_col = columns};
	struct screen s;

	assert_int_equal(openpty(&s.master, &s.slave, NULL, NULL, &size), 0);
	return s;
}

/* What was written there: all of it, up to the end that the last writer leaves. */
static const char *
screen_close(struct screen s)
{
	static char text[4096];
	size_t len = 0;
	ssize_t n;

	close(s.slave);
	while ((n = read(s.master, text + len, sizeof text - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	close(s.master);
	return text;
}

static void
its_width_is_its_own_or_less_if_columns_says_so(void **state)
{
	struct screen s = screen_open(90);

	assert_int_equal(terminal_width(s.slave), 90);
	setenv("COLUMNS", "40", 1);
	assert_int_equal(terminal_width(s.slave), 40);
	setenv("COLUMNS", "200", 1); /* of before it was resized */
	assert_int_equal(terminal_width(s.slave), 90);
	unsetenv("COLUMNS");
	(void)screen_close(s);
}

static void
what_is_no_terminal_has_no_width_and_obeys_nothing(void **state)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	setenv("COLUMNS", "40", 1);
	assert_int_equal(terminal_width(ends[1]), 0);
	assert_int_equal(terminal_width(-1), 0);
	assert_false(terminal_obeys(ends[1]));
	unsetenv("COLUMNS");
	close(ends[0]);
	close(ends[1]);
}

static void
a_dumb_one_obeys_nothing(void **state)
{
	struct screen s = screen_open(80);

	assert_true(terminal_obeys(s.slave));
	setenv("TERM", "dumb", 1);
	assert_false(terminal_obeys(s.slave));
	setenv("TERM", "xterm", 1);
	(void)screen_close(s);
}

/* What stands there when a bar was drawn and f said something. */
static const char *
said_over_a_bar(void (*f)(FILE *out))
{
	struct screen s = screen_open(40);
	struct progress p;
	FILE *out = fdopen(dup(s.slave), "w");

	setbuf(out, NULL);
	progress_begin(&p, PROGRESS_AUTO, s.slave, "copy", 0, 1000, 0);
	progress_update(&p, 500, NS_PER_SECOND);
	f(out);
	fclose(out);
	return screen_close(s);
}

static void
complain(FILE *out)
{
	terminal_say(out, "program: ", "the server is not there, and it was there a moment ago");
	terminal_say(out, "program: ", "no");
}

static void
what_is_said_begins_where_the_bar_was_and_is_broken_at_the_edge(void **state)
{
	const char *text = said_over_a_bar(complain);

	assert_non_null(strstr(text, "\033[K\r\033[Kprogram: the server is not there, and it\r\n"
				     "    was there a moment ago\r\nprogram: no\r\n"));
}

static void
log_to(FILE *out)
{
	int usual = dup(STDERR_FILENO);

	dup2(fileno(out), STDERR_FILENO);
	log_notice("something", "a=1");
	dup2(usual, STDERR_FILENO);
	close(usual);
}

static void
a_line_of_the_log_begins_where_the_bar_was(void **state)
{
	assert_non_null(strstr(said_over_a_bar(log_to), "\r\033[Kevent=something level=notice a=1\r\n"));
}

static void
finish_nothing(FILE *out)
{
	struct progress p;

	progress_begin(&p, PROGRESS_BAR, fileno(out), "copy", 0, 1000, 0);
	progress_end(&p, 1000, NS_PER_SECOND);
	terminal_say(out, "program: ", "done");
}

static void
a_bar_that_has_ended_stays(void **state)
{
	assert_non_null(strstr(said_over_a_bar(finish_nothing), "\033[K\r\nprogram: done\r\n"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(its_width_is_its_own_or_less_if_columns_says_so),
	    cmocka_unit_test(what_is_no_terminal_has_no_width_and_obeys_nothing),
	    cmocka_unit_test(a_dumb_one_obeys_nothing),
	    cmocka_unit_test(what_is_said_begins_where_the_bar_was_and_is_broken_at_the_edge),
	    cmocka_unit_test(a_line_of_the_log_begins_where_the_bar_was),
	    cmocka_unit_test(a_bar_that_has_ended_stays),
	};

	setenv("TERM", "xterm", 1);
	unsetenv("COLUMNS");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
