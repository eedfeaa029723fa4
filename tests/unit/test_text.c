/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/text.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const unfit[] = {"\n", "\x1b", "\x7f", "\xc2\x80", "\xc2\x9b", "\xc2\x9f", "\xff", "\x80", "\xc3",
    "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80"};
static const char *const fit[] = {" ", "~", "\xc2\xa0", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x92\xbe"};

static void
no_control_character_is_plain(void **state)
{
	for (size_t i = 0; i < sizeof unfit / sizeof unfit[0]; i++) {
		assert_int_equal(text_character(unfit[i], SIZE_MAX), 0);
		assert_false(text_is_plain(unfit[i], strlen(unfit[i])));
	}
	assert_false(text_is_plain("a\0b", 3));
}

static void
other_characters_are_plain_if_they_are_whole(void **state)
{
	for (size_t i = 0; i < sizeof fit / sizeof fit[0]; i++) {
		assert_int_equal(text_character(fit[i], SIZE_MAX), strlen(fit[i]));
		assert_int_equal(text_character(fit[i], strlen(fit[i]) - 1), 0);
		assert_true(text_is_plain(fit[i], strlen(fit[i])));
	}
	assert_true(text_is_plain("", 0));
}

static void
text_from_outside_is_made_plain(void **state)
{
	char text[8], *copy;

	text_set(text, sizeof text, "short");
	assert_string_equal(text, "short");
	text_set(text, sizeof text,
	    "a\tb\xff"
	    "c");
	assert_string_equal(text, "a?b?c");
	copy = text_copy("caf\xc3\xa9 \xc2\x9b"
			 "2J caf\xe9");
	assert_string_equal(copy, "caf\xc3\xa9 ??2J caf?");
	free(copy);
}

static void
text_too_long_is_cut_between_characters(void **state)
{
	char text[8];

	text_set(text, sizeof text, "longer than that");
	assert_string_equal(text, "longer ");
	text_set(text, sizeof text, "123456\xc3\xa4");
	assert_string_equal(text, "123456");
	text_set(text, sizeof text, "");
	assert_string_equal(text, "");
}

static void
printing_says_when_it_had_to_cut(void **state)
{
	char text[8];

	assert_int_equal(text_print(text, sizeof text, "%s/%d", "abcd", 12), 0);
	assert_string_equal(text, "abcd/12");
	assert_int_equal(text_print(text, sizeof text, "%s/%d", "abcd", 123), -ENAMETOOLONG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(no_control_character_is_plain),
	    cmocka_unit_test(other_characters_are_plain_if_they_are_whole),
	    cmocka_unit_test(text_from_outside_is_made_plain),
	    cmocka_unit_test(text_too_long_is_cut_between_characters),
	    cmocka_unit_test(printing_says_when_it_had_to_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
