/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/progress.h"

#include <errno.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/common/units.h"

#define MIB (1024ull * 1024)
#define S   NS_PER_SECOND

/* What was written to a pipe by f. */
static const char *
output_of(void (*f)(int fd))
{
	static char text[65536];
	int ends[2];
	ssize_t n;

	assert_int_equal(pipe(ends), 0);
	f(ends[1]);
	close(ends[1]);
	n = read(ends[0], text, sizeof text - 1);
	assert_true(n >= 0);
	text[n] = '\0';
	close(ends[0]);
	return text;
}

static void
run_lines(int fd)
{
	struct progress p;

	progress_begin(&p, PROGRESS_LINES, fd, "copy", 0, 200 * MIB, 0);
	for (int i = 0; i <= 4; i++)
		progress_update(&p, (uint64_t)i * MIB, i);
	progress_end(&p, 200 * MIB, S);
}

static void
lines_tell_every_new_percentage_once(void **state)
{
	assert_string_equal(output_of(run_lines), "0/100\n1/100\n2/100\n100/100\n");
}

static void
run_plain(int fd)
{
	struct progress p;

	progress_begin(&p, PROGRESS_AUTO, fd, "copy", 0, 400 * MIB, 0);
	assert_int_equal(p.mode, PROGRESS_PLAIN); /* a pipe is no terminal */
	for (int s = 1; s <= 25; s++)
		progress_update(&p, (uint64_t)s * 10 * MIB, s * S);
	progress_end(&p, 400 * MIB, 40 * S);
}

static void
sentences_come_every_ten_seconds_with_rate_and_time_left(void **state)
{
	assert_string_equal(output_of(run_plain), "copy:  25 %  100.0 MiB of 400.0 MiB  10.0 MiB/s  30.0s left\n"
						  "copy:  50 %  200.0 MiB of 400.0 MiB  10.0 MiB/s  20.0s left\n"
						  "copy: 100 %  400.0 MiB of 400.0 MiB  10.0 MiB/s  0.0s left\n");
}

static void
run_bar(int fd)
{
	struct progress p;

	progress_begin(&p, PROGRESS_BAR, fd, "copy", 0, 100 * MIB, 0);
	progress_update(&p, 50 * MIB, S / 10); /* too soon */
	progress_update(&p, 50 * MIB, S);
	progress_end(&p, 100 * MIB, 2 * S);
}

static void
a_bar_is_redrawn_in_place(void **state)
{
	const char *text = output_of(run_bar);

	assert_int_equal(text[0], '\r');
	assert_non_null(strstr(text, "[############............]"));
	assert_non_null(strstr(text, "\rcopy [########################]"));
	assert_int_equal(text[strlen(text) - 1], '\n');
}

static void
run_nearly_done(int fd)
{
	struct progress p;

	progress_begin(&p, PROGRESS_BAR, fd, "copy", 0, 100 * MIB, 0);
	progress_update(&p, 90 * MIB, 2 * S);
	progress_update(&p, 99 * MIB, 3 * S);
}

static void
while_something_is_to_be_done_time_is_left(void **state)
{
	const char *text = output_of(run_nearly_done);

	assert_null(strstr(text, " 0.0s left"));
	assert_non_null(strstr(text, " 1.0s left"));
}

/* What is drawn on a terminal of so many columns; the longest line. */
static size_t
longest_on_terminal(unsigned short columns, char **ret_text)
{
	struct winsize size = {.ws_row = 24, .ws_col = columns};
	static char text[4096];
	int master, slave;
	size_t longest = 0, len = 0;
	char *line, *rest = text;
	struct progress p;
	ssize_t n;

	assert_int_equal(openpty(&master, &slave, NULL, NULL, &size), 0);
	progress_begin(&p, PROGRESS_AUTO, slave, "removing files", 0, 1000 * MIB, 0);
	progress_update(&p, 0, S);
	progress_update(&p, 500 * MIB, 2 * S);
	close(slave); /* then reading ends behind the last byte */
	while ((n = read(master, text + len, sizeof text - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	close(master);
	*ret_text = strdup(text);
	while ((line = strsep(&rest, "\r\n")) != NULL) {
		line[strcspn(line, "\033")] = '\0';
		longest = strlen(line) > longest ? strlen(line) : longest;
	}
	return longest;
}

static void
a_bar_fits_the_terminal_or_goes(void **state)
{
	char *text;

	assert_in_range(longest_on_terminal(200, &text), 80, 199);
	assert_non_null(strstr(text, "[############............]"));
	free(text);
	assert_in_range(longest_on_terminal(90, &text), 60, 89);
	assert_non_null(strchr(text, '['));
	free(text);
	assert_in_range(longest_on_terminal(70, &text), 50, 69);
	assert_null(strchr(text, '#'));
	free(text);
	assert_in_range(longest_on_terminal(30, &text), 29, 29);
	free(text);
}

static void
a_terminal_that_cannot_erase_is_given_sentences(void **state)
{
	char *text;

	setenv("TERM", "dumb", 1);
	(void)longest_on_terminal(90, &text);
	setenv("TERM", "xterm", 1);
	assert_string_equal(text, "");
	free(text);
}

static void
the_rate_does_not_count_what_was_done_before(void **state)
{
	struct progress p;

	progress_begin(&p, PROGRESS_NONE, -1, "copy", 900 * MIB, 1000 * MIB, 0);
	assert_int_equal(progress_left_ns(&p, 0), -1);
	progress_update(&p, 910 * MIB, 2 * S);
	assert_int_equal(progress_rate(&p, 2 * S), 5 * MIB);
	assert_int_equal(progress_left_ns(&p, 2 * S), 18 * S);
}

static void
nothing_is_left_at_the_end_however_slow_it_was(void **state)
{
	struct progress p;

	progress_begin(&p, PROGRESS_NONE, -1, "copy", 1000 * MIB, 1000 * MIB, 0);
	assert_int_equal(progress_left_ns(&p, 2 * S), 0);
}

static void
the_rate_is_that_of_late(void **state)
{
	struct progress p;

	progress_begin(&p, PROGRESS_NONE, -1, "copy", 0, 10000 * MIB, 0);
	for (int s = 1; s <= 60; s++) /* 100 MiB/s, then 1 MiB/s */
		progress_update(&p, (s < 30 ? (uint64_t)s * 100 : 2900 + (uint64_t)(s - 29)) * MIB, s * S);
	assert_in_range(progress_rate(&p, 60 * S), MIB, 2 * MIB);
}

static void
modes_have_names(void **state)
{
	assert_int_equal(progress_mode_parse("auto"), PROGRESS_AUTO);
	assert_int_equal(progress_mode_parse("lines"), PROGRESS_LINES);
	assert_int_equal(progress_mode_parse("none"), PROGRESS_NONE);
	assert_int_equal(progress_mode_parse("noisy"), -EINVAL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(lines_tell_every_new_percentage_once),
	    cmocka_unit_test(sentences_come_every_ten_seconds_with_rate_and_time_left),
	    cmocka_unit_test(a_bar_is_redrawn_in_place),
	    cmocka_unit_test(while_something_is_to_be_done_time_is_left),
	    cmocka_unit_test(a_bar_fits_the_terminal_or_goes),
	    cmocka_unit_test(a_terminal_that_cannot_erase_is_given_sentences),
	    cmocka_unit_test(nothing_is_left_at_the_end_however_slow_it_was),
	    cmocka_unit_test(the_rate_does_not_count_what_was_done_before),
	    cmocka_unit_test(the_rate_is_that_of_late),
	    cmocka_unit_test(modes_have_names),
	};

	setenv("TERM", "xterm", 1);
	unsetenv("COLUMNS");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
