/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/waiting.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* What wait_until_over() writes to stderr, as a program reads it. */
static const char *
shown_while_waiting(waiting_look *look, int *ret_code)
{
	static char text[4096];
	struct ctl ctl = {.values[OPT_PROGRESS] = "lines"};
	int ends[2], usual = dup(STDERR_FILENO), looks = 0;
	ssize_t n;

	assert_int_equal(pipe(ends), 0);
	dup2(ends[1], STDERR_FILENO);
	*ret_code = wait_until_over(&ctl, "copy", look, &looks);
	dup2(usual, STDERR_FILENO);
	close(usual);
	close(ends[1]);
	n = read(ends[0], text, sizeof text - 1);
	text[n > 0 ? n : 0] = '\0';
	close(ends[0]);
	return text;
}

static int
half_then_over(void *arg, struct ctl *ctl, struct waiting *w)
{
	int *looks = arg;

	w->total_bytes = 100;
	w->done_bytes = 50;
	w->is_over = ++*looks == 2;
	return EXIT_DONE;
}

static void
what_is_over_is_done(void **state)
{
	int code;

	assert_string_equal(shown_while_waiting(half_then_over, &code), "50/100\n100/100\n");
	assert_int_equal(code, EXIT_DONE);
}

/* As one that adds up several answers, and the second does not come. */
static int
half_then_silence(void *arg, struct ctl *ctl, struct waiting *w)
{
	int *looks = arg;

	w->total_bytes = 100;
	w->done_bytes = 50;
	if (++*looks < 2)
		return EXIT_DONE;
	w->done_bytes = 0;
	w->is_over = true;
	return EXIT_UNREACHABLE;
}

static void
what_is_known_no_longer_stays_where_it_was(void **state)
{
	int code;

	assert_string_equal(shown_while_waiting(half_then_silence, &code), "50/100\n");
	assert_int_equal(code, EXIT_UNREACHABLE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_over_is_done),
	    cmocka_unit_test(what_is_known_no_longer_stays_where_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
