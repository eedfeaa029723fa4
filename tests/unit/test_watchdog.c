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

static const char *
slowest(const struct watchdog *w, int64_t since_ns)
{
	int64_t told_ns;
	const char *name = watchdog_slowest(w, &told_ns);

	if (name != NULL)
		assert_int_equal(told_ns, since_ns);
	return name;
}

static void
is_content_when_every_thread_has_gone_on(void **state)
{
	uint64_t a = 1, b = 7;

	assert_true(watchdog_add(*state, "a", count_of, &a, 0));
	assert_true(watchdog_add(*state, "b", count_of, &b, 0));
	a++;
	assert_false(watchdog_look(*state, 1));
	b++; /* not at the same time as the other */
	assert_true(watchdog_look(*state, 2));
}

static void
wants_each_to_go_on_again(void **state)
{
	uint64_t a = 0, b = 0;

	assert_true(watchdog_add(*state, "a", count_of, &a, 0));
	assert_true(watchdog_add(*state, "b", count_of, &b, 0));
	a++;
	b++;
	assert_true(watchdog_look(*state, 1));
	assert_false(watchdog_look(*state, 2));
	b += 1000;
	assert_false(watchdog_look(*state, 3));
	a++;
	assert_true(watchdog_look(*state, 4));
}

static void
says_which_has_been_silent_for_longest_and_since_when(void **state)
{
	uint64_t a = 0, b = 0;

	assert_null(slowest(*state, 0));
	assert_true(watchdog_add(*state, "a", count_of, &a, 10));
	assert_true(watchdog_add(*state, "b", count_of, &b, 10));
	a++;
	watchdog_look(*state, 11);
	assert_string_equal(slowest(*state, 10), "b");
	b++;
	watchdog_look(*state, 12);
	assert_string_equal(slowest(*state, 11), "a");
	watchdog_look(*state, 30); /* both are silent now */
	assert_string_equal(slowest(*state, 11), "a");
	a++;
	watchdog_look(*state, 31);
	assert_string_equal(slowest(*state, 12), "b");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(is_content_when_every_thread_has_gone_on, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(wants_each_to_go_on_again, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(says_which_has_been_silent_for_longest_and_since_when, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
