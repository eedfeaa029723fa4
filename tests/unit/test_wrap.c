/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/wrap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void
check(const char *text, int width, int indent, const char *color, const char *expected)
{
	size_t len;
	char *said;
	FILE *out = open_memstream(&said, &len);

	wrap_print(out, text, width, indent, color);
	fclose(out);
	assert_string_equal(said, expected);
	free(said);
}

static void
a_line_is_broken_between_words_where_the_width_ends(void **state)
{
	check("one two three", 7, 2, "", "one two\n  three\n");
	check("one two three", 6, 2, "", "one\n  two\n  three\n");
	check("one two three", 13, 2, "", "one two three\n");
	check("  one two three", 9, 4, "", "  one two\n    three\n");
}

static void
without_a_width_it_is_one_line(void **state)
{
	check("one two three", 0, 2, "", "one two three\n");
	check("", 0, 2, "", "\n");
	check("", 5, 2, "", "\n");
}

static void
a_word_longer_than_a_line_stays_whole(void **state)
{
	check("a pit-daaba69b404c934c7 b", 6, 4, "", "a\n    pit-daaba69b404c934c7\n    b\n");
}

static void
each_line_has_its_colour_and_no_colour_goes_on_behind_it(void **state)
{
	check("one two", 4, 1, "\033[31m", "\033[31mone\033[0m\n \033[31mtwo\033[0m\n");
}

static void
a_terminal_is_not_commanded(void **state)
{
	check("evil\033[2Jhost\nname", 0, 0, "", "evil?[2Jhost?name\n");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_line_is_broken_between_words_where_the_width_ends),
	    cmocka_unit_test(without_a_width_it_is_one_line),
	    cmocka_unit_test(a_word_longer_than_a_line_stays_whole),
	    cmocka_unit_test(each_line_has_its_colour_and_no_colour_goes_on_behind_it),
	    cmocka_unit_test(a_terminal_is_not_commanded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
