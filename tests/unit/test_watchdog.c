/* SPDX-License-Identifier: Apache-2.0 */
#include "server/watchdog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static uint64_t
count_of(const void *thread)
{
	return *(const uint64_t *)thread;
}

static int
set_up(void **state)
{
	*state = watchdog_create();
	return *state == NULL;
}

static int
tear_down(void **state)
{
	watchdog_destroy(*state);
	return 0;
}

static void
is_content_when_every_thread_has_gone_on(void **state)
{
	uint64_t a = 1, b = 7;

	assert_true(watchdog_add(*state, "a", count_of, &a));
	assert_true(watchdog_add(*state, "b", count_of, &b));
	a++;
	assert_false(watchdog_look(*state));
	assert_string_equal(watchdog_silent(*state), "b");
	b++; /* not at the same time as the other */
	assert_true(watchdog_look(*state));
}

static void
wants_each_to_go_on_again(void **state)
{
	uint64_t a = 0, b = 0;

	assert_true(watchdog_add(*state, "a", count_of, &a));
	assert_true(watchdog_add(*state, "b", count_of, &b));
	a++;
	b++;
	assert_true(watchdog_look(*state));
	assert_false(watchdog_look(*state));
	b += 1000;
	assert_false(watchdog_look(*state));
	assert_string_equal(watchdog_silent(*state), "a");
	a++;
	assert_true(watchdog_look(*state));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(is_content_when_every_thread_has_gone_on, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(wants_each_to_go_on_again, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
