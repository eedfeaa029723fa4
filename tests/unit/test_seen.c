/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/seen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/lib/dice.h"

enum { MANY = 100000 };

static void
each_is_new_once_however_many_there_are(void **state)
{
	struct dice dice = {1}, again = dice;
	struct seen s = {0};

	for (int i = 0; i < MANY; i++)
		assert_false(seen_before(&s, dice_next(&dice)));
	for (int i = 0; i < MANY; i++)
		assert_true(seen_before(&s, dice_next(&again)));
	assert_false(seen_before(&s, dice_next(&dice)));
	seen_fini(&s);
}

/* They begin their search at the same place, and at the end of the table. */
static void
those_that_share_low_bits_are_told_apart(void **state)
{
	struct seen s = {0};

	for (uint64_t i = 0; i < 64; i++)
		assert_false(seen_before(&s, i << 40 | 0xfff));
	for (uint64_t i = 0; i < 64; i++)
		assert_true(seen_before(&s, i << 40 | 0xfff));
	seen_fini(&s);
}

static void
zero_is_a_fingerprint_too(void **state)
{
	struct seen s = {0};

	assert_false(seen_before(&s, 0));
	assert_true(seen_before(&s, 0));
	seen_fini(&s);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_is_new_once_however_many_there_are),
	    cmocka_unit_test(those_that_share_low_bits_are_told_apart),
	    cmocka_unit_test(zero_is_a_fingerprint_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
