/* SPDX-License-Identifier: Apache-2.0 */
#include "server/cure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct id db01 = {"s-6f2c1b7f0d9a4e358"};

static char shown[256];

static const char *
named(const char *text, const struct id *source, size_t size)
{
	memset(shown, 'x', sizeof shown);
	cure_name_source(text, source, shown, size);
	return shown;
}

static void
each_source_becomes_the_id(void **state)
{
	assert_string_equal(
	    named("holdfastctl source start SOURCE", &db01, 256), "holdfastctl source start s-6f2c1b7f0d9a4e358");
	assert_string_equal(
	    named("SOURCE or SOURCE, then", &db01, 256), "s-6f2c1b7f0d9a4e358 or s-6f2c1b7f0d9a4e358, then");
	assert_string_equal(named("look at the disk: dmesg", &db01, 256), "look at the disk: dmesg");
	assert_string_equal(named("", &db01, 256), "");
}

static void
without_an_id_it_stays(void **state)
{
	assert_string_equal(named("source start SOURCE", &(struct id){0}, 256), "source start SOURCE");
}

/* Nothing behind the room it has is written. */
static const char *
cut(const char *text, size_t size)
{
	(void)named(text, &db01, size);
	for (size_t i = size; i < sizeof shown; i++)
		assert_int_equal(shown[i], 'x');
	return shown;
}

static void
what_is_too_long_is_cut(void **state)
{
	assert_string_equal(cut("start SOURCE SOURCE now", 12), "start s-6f2");
	assert_string_equal(cut("start SOURCE now", 12), "start s-6f2");
	assert_string_equal(cut("start it", 4), "sta");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_source_becomes_the_id),
	    cmocka_unit_test(without_an_id_it_stays),
	    cmocka_unit_test(what_is_too_long_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
