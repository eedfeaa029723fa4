/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const char *
meant_by(const char *typed)
{
	static const char *const words[] = {"pause", "resume", "status", "list", "show", "set", "identity"};
	static struct nearest n;

	nearest_begin(&n, typed);
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		nearest_offer(&n, words[i]);
	return n.word;
}

static void
a_letter_too_few_too_many_wrong_or_swapped_is_understood(void **state)
{
	assert_string_equal(meant_by("lst"), "list");
	assert_string_equal(meant_by("lists"), "list");
	assert_string_equal(meant_by("pauze"), "pause");
	assert_string_equal(meant_by("lsit"), "list");
	assert_string_equal(meant_by("list"), "list");
	assert_string_equal(meant_by("idnettity"), "identity");
}

static void
what_is_too_far_is_not_guessed_at(void **state)
{
	assert_string_equal(meant_by("db01"), "");
	assert_string_equal(meant_by(""), "");
	assert_string_equal(meant_by("lt"), "");
	assert_string_equal(meant_by("recovery"), "");
}

static void
of_equals_the_first_stays_and_a_nearer_one_takes_its_place(void **state)
{
	struct nearest n;

	nearest_begin(&n, "abcdef");
	nearest_offer(&n, "abcdxx");
	nearest_offer(&n, "abyyef");
	assert_string_equal(n.word, "abcdxx");
	nearest_offer(&n, "abcdeg");
	assert_string_equal(n.word, "abcdeg");
	nearest_offer(&n, "abcxxf");
	assert_string_equal(n.word, "abcdeg");
}

static void
words_of_any_length_are_borne(void **state)
{
	char longest[NEAREST_BYTES], too_long[4 * NEAREST_BYTES];
	struct nearest n;

	memset(longest, 'a', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	memset(too_long, 'a', sizeof too_long - 1);
	too_long[sizeof too_long - 1] = '\0';
	nearest_begin(&n, longest);
	nearest_offer(&n, too_long);
	assert_string_equal(n.word, "");
	nearest_offer(&n, longest);
	assert_string_equal(n.word, longest);
	nearest_begin(&n, too_long);
	nearest_offer(&n, too_long);
	assert_string_equal(n.word, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_letter_too_few_too_many_wrong_or_swapped_is_understood),
	    cmocka_unit_test(what_is_too_far_is_not_guessed_at),
	    cmocka_unit_test(of_equals_the_first_stays_and_a_nearer_one_takes_its_place),
	    cmocka_unit_test(words_of_any_length_are_borne),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
