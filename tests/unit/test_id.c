/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void
random_ids_are_valid_and_differ(void **state)
{
	static const char *const prefixes[] = {"s", "vol", "pit", "tok"};

	for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
		struct id a = id_random(prefixes[i]), b = id_random(prefixes[i]);

		assert_true(id_valid(prefixes[i], a.text));
		assert_string_not_equal(a.text, b.text);
	}
}

static void
the_same_bits_give_the_same_id(void **state)
{
	struct id a = id_from_bits("pit", 0xabc, 0x0123456789abcdef);

	assert_string_equal(a.text, "pit-c0123456789abcdef");
	assert_string_equal(id_from_bits("pit", 0, 0).text, "pit-00000000000000000");
}

static void
only_prefix_dash_and_17_lower_case_digits_are_valid(void **state)
{
	static const char *const bad[] = {
	    "",
	    "s",
	    "s-",
	    "-00123456789abcdef",
	    "s-00123456789abcde",
	    "s-00123456789abcdef0",
	    "s-00123456789abcdeF",
	    "s-00123456789abcdeg",
	    "S-00123456789abcdef",
	    "s_00123456789abcdef",
	    " s-00123456789abcdef",
	    "s-00123456789abcdef ",
	    "s-00123456789abcdef\n",
	    "vol-00123456789abcdef",
	};

	assert_true(id_valid("s", "s-00123456789abcdef"));
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(id_valid("s", bad[i]));
	assert_false(id_valid("s", NULL));
	assert_false(id_valid("vol", "vol00123456789abcdef"));
}

static void
parsing_copies_a_valid_id_and_leaves_the_rest_zero(void **state)
{
	const unsigned char zeros[ID_BYTES] = {0};
	struct id id;

	memset(&id, 0xff, sizeof id);
	assert_true(id_parse("s", "s-00123456789abcdef", &id));
	assert_string_equal(id.text, "s-00123456789abcdef");
	assert_memory_equal(id.text + 19, zeros, ID_BYTES - 19);
}

static void
parsing_an_invalid_id_leaves_the_output_untouched(void **state)
{
	struct id id = {"before"};

	assert_false(id_parse("s", "vol-00123456789abcdef", &id));
	assert_false(id_parse("s", NULL, &id));
	assert_string_equal(id.text, "before");
}

static void
random_bytes_fill_the_whole_buffer_and_no_more(void **state)
{
	unsigned char a[1000] = {0}, b[1000] = {0};

	random_bytes(a, sizeof a - 1);
	random_bytes(b, sizeof b - 1);
	assert_memory_not_equal(a, b, sizeof a - 1);
	assert_memory_not_equal(a + 990, b + 990, 9);
	assert_int_equal(a[999], 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(random_ids_are_valid_and_differ),
	    cmocka_unit_test(the_same_bits_give_the_same_id),
	    cmocka_unit_test(only_prefix_dash_and_17_lower_case_digits_are_valid),
	    cmocka_unit_test(parsing_copies_a_valid_id_and_leaves_the_rest_zero),
	    cmocka_unit_test(parsing_an_invalid_id_leaves_the_output_untouched),
	    cmocka_unit_test(random_bytes_fill_the_whole_buffer_and_no_more),
	};

	return cmocka_run_group_tests_name("id", tests, NULL, NULL);
}
