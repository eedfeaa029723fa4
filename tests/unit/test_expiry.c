/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/expiry.h"
#include "server/pki.h"

#define DAY (86400 * NS_PER_SECOND)

/* As they are made: dated back by the leeway, which is no part of their life. */
static const int64_t issued = 1000 * DAY, begin = 1000 * DAY - PKI_CLOCK_LEEWAY_NS, end = 1090 * DAY;

static void
a_certificate_is_near_its_end_when_a_fifth_of_its_life_is_left(void **state)
{
	int64_t since;

	assert_int_equal(expiry_of(begin, end, issued, &since), EXPIRY_FAR);
	assert_int_equal(since, begin);
	assert_int_equal(expiry_of(begin, end, issued + 72 * DAY - 1, NULL), EXPIRY_FAR);
	assert_int_equal(expiry_of(begin, end, issued + 72 * DAY, &since), EXPIRY_NEAR);
	assert_int_equal(since, issued + 72 * DAY);
	assert_int_equal(expiry_of(begin, end, end - 1, NULL), EXPIRY_NEAR);
	assert_int_equal(expiry_of(begin, end, end, &since), EXPIRY_OVER);
	assert_int_equal(since, end);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_certificate_is_near_its_end_when_a_fifth_of_its_life_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
