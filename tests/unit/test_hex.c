/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/hex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void
bytes_come_back_from_their_text(void **state)
{
	unsigned char bytes[256], back[256];
	char text[513];

	for (int i = 0; i < 256; i++)
		bytes[i] = (unsigned char)i;
	hex_format(bytes, sizeof bytes, text);
	assert_memory_equal(text, "000102", 6);
	assert_string_equal(text + 506, "fdfeff");
	assert_true(hex_parse(text, back, sizeof back));
	assert_memory_equal(back, bytes, sizeof bytes);
	hex_format(bytes, 0, text);
	assert_string_equal(text, "");
}

static void
anything_but_so_many_digits_is_refused(void **state)
{
	static const char *const others[] = {"", "0", "0a0", "0a0b0", "0a0b0c", "0A0b", "0a0g", " a0b", "0x0b", "+a0b"};
	unsigned char bytes[2] = {7, 7};

	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		assert_false(hex_parse(others[i], bytes, sizeof bytes));
	assert_int_equal(bytes[0], 7);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(bytes_come_back_from_their_text),
	    cmocka_unit_test(anything_but_so_many_digits_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
