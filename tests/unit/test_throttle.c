/* SPDX-License-Identifier: Apache-2.0 */
#include "server/throttle.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "proto/common/units.h"

/* ---- the weekly plan ---- */

enum { MON, TUE, WED, THU, FRI, SAT, SUN };

static struct throttle
plan(unsigned mbps, const char *windows)
{
	struct throttle t = {.mbps = mbps};
	struct hf_error err;

	if (throttle_windows_parse(windows, &t, &err) < 0)
		fail_msg("%s", err.text);
	return t;
}

static unsigned
at(const struct throttle *t, unsigned day, unsigned hour, unsigned minute)
{
	return throttle_mbps_at(t, day, hour * 60 + minute);
}

static void
a_window_holds_from_its_first_minute_to_its_last(void **state)
{
	struct throttle t = plan(100, "Mon-Fri 08:00-18:00 20");

	assert_int_equal(at(&t, MON, 7, 59), 100);
	assert_int_equal(at(&t, MON, 8, 0), 20);
	assert_int_equal(at(&t, FRI, 17, 59), 20);
	assert_int_equal(at(&t, FRI, 18, 0), 100);
	assert_int_equal(at(&t, SAT, 12, 0), 100);
}

static void
a_window_over_midnight_belongs_to_the_day_it_begins(void **state)
{
	struct throttle t = plan(5, "Fri,Sun 22:00-06:00 0");

	assert_int_equal(at(&t, FRI, 21, 59), 5);
	assert_int_equal(at(&t, FRI, 22, 0), 0);
	assert_int_equal(at(&t, SAT, 5, 59), 0);
	assert_int_equal(at(&t, SAT, 6, 0), 5);
	assert_int_equal(at(&t, SAT, 23, 0), 5);
	assert_int_equal(at(&t, MON, 5, 59), 0);
	assert_int_equal(at(&t, FRI, 5, 59), 5);
}

static void
the_first_window_that_has_the_moment_decides(void **state)
{
	struct throttle t = plan(0, "Wed 12:00-13:00 1; Mon-Sun 00:00-24:00 2");

	assert_int_equal(at(&t, WED, 12, 30), 1);
	assert_int_equal(at(&t, WED, 13, 0), 2);
	assert_int_equal(at(&t, SUN, 23, 59), 2);
	assert_int_equal(at(&t, MON, 0, 0), 2);
}

static void
windows_are_written_as_they_are_read(void **state)
{
	static const char *const same[] = {"", "Mon 00:00-00:00 0", "Mon-Fri 08:00-18:00 20; Sat-Sun 00:00-24:00 0",
	    "Mon,Wed,Fri,Sun 23:59-00:01 100000"};
	char text[THROTTLE_TEXT_BYTES];
	struct throttle t;

	for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
		t = plan(0, same[i]);
		assert_string_equal(throttle_windows_format(&t, text), same[i]);
	}
	t = plan(0, " Sat-Tue 8:00-18:05  7 ;Tue,Mon 0:00-1:00 7");
	assert_string_equal(throttle_windows_format(&t, text), "Mon-Tue,Sat-Sun 08:00-18:05 7; Mon-Tue 00:00-01:00 7");
}

static void
what_is_no_window_is_refused(void **state)
{
	static const char *const wrong[] = {"Mon", "Mon 08:00-18:00", "08:00-18:00 20", "Mon- 08:00-18:00 20",
	    "Mon, 08:00-18:00 20", "Monday 08:00-18:00 20", "Mon 8-18 20", "Mon 08:60-18:00 20", "Mon 08:00-24:01 20",
	    "Mon 08:00-18:00 100001", "Mon 08:00-18:00 -1", "Mon 08:00-18:00 20 Mbps", "Mon -8:00-18:00 20",
	    "Mon 24:00-06:00 20", ";"};
	struct hf_error err;
	struct throttle t;

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		if (throttle_windows_parse(wrong[i], &t, &err) != -EINVAL)
			fail_msg("\"%s\" was taken", wrong[i]);
	assert_non_null(strstr(err.text, "Mon-Fri 08:00-18:00 20"));
}

static void
no_more_windows_are_taken_than_are_kept(void **state)
{
	char text[THROTTLE_TEXT_BYTES + 64] = "";
	struct hf_error err;
	struct throttle t;

	for (int i = 0; i < THROTTLE_WINDOWS_MAX; i++)
		strcat(text, i > 0 ? ";Mon 08:00-18:00 20" : "Mon 08:00-18:00 20");
	assert_int_equal(throttle_windows_parse(text, &t, &err), 0);
	assert_int_equal(t.window_count, THROTTLE_WINDOWS_MAX);
	strcat(text, ";Mon 08:00-18:00 20");
	assert_int_equal(throttle_windows_parse(text, &t, &err), -EINVAL);
}

/* ---- the gate, against a clock of the test's own ---- */

enum { RECORD_BYTES = 16 * 1024, BURST_BYTES = 1024 * 1024 };

/* A saturated source: it is read whenever it may be, whole records, and timers come up to late_ns late. */
static uint64_t
read_for(struct throttle_gate *g, int64_t *now_ns, int64_t duration_ns, int64_t late_ns)
{
	int64_t end_ns = *now_ns + duration_ns;
	uint64_t bytes = 0;

	while (*now_ns < end_ns) {
		int64_t wait_ns = throttle_gate_wait(g, *now_ns);
		size_t room = throttle_gate_room(g, BURST_BYTES), done = 0;

		*now_ns += wait_ns;
		if (wait_ns > 0 && late_ns > 0)
			*now_ns += rand() % late_ns;
		if (wait_ns > 0)
			continue;
		for (; done < room; done += RECORD_BYTES)
			throttle_gate_take(g, RECORD_BYTES);
		bytes += done;
		*now_ns += 1000;
	}
	return bytes;
}

static void
bytes_read_agree_with_the_rate(void **state)
{
	static const unsigned rates[] = {1, 8, 50, 400, 10000};
	const char *text = getenv("SEED");
	unsigned seed = text != NULL ? (unsigned)atoi(text) : (unsigned)time(NULL);

	printf("SEED=%u\n", seed);
	srand(seed);
	for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
		struct throttle_gate g = {0};
		int64_t now_ns = 1000 * NS_PER_SECOND;
		double right = rates[i] * 1e6 / 8 * 10, bytes;

		throttle_gate_set(&g, rates[i], now_ns);
		bytes = (double)read_for(&g, &now_ns, 10 * NS_PER_SECOND, NS_PER_SECOND / 25);
		assert_true(bytes < right * 1.02 + 2 * 64 * 1024);
		assert_true(bytes > right * 0.98 - 2 * 64 * 1024);
		assert_true(throttle_gate_waited_ns(&g, now_ns) > (uint64_t)(9 * NS_PER_SECOND));
	}
}

/* Asked every microsecond, of which 8 make a byte. */
static void
however_often_one_asks_no_byte_is_lost(void **state)
{
	struct throttle_gate g = {0};
	int64_t now_ns = NS_PER_SECOND, end_ns = now_ns + NS_PER_SECOND / 4;

	throttle_gate_set(&g, 1, now_ns);
	for (; now_ns < end_ns; now_ns += 1000)
		(void)throttle_gate_wait(&g, now_ns);
	assert_in_range(throttle_gate_room(&g, BURST_BYTES), 31000, 31250);
}

static void
no_more_may_be_read_at_once_than_was_asked_for(void **state)
{
	struct throttle_gate g = {0};
	int64_t now_ns = NS_PER_SECOND;

	throttle_gate_set(&g, 1000, now_ns);
	assert_int_equal(throttle_gate_wait(&g, now_ns + NS_PER_SECOND), 0);
	assert_int_equal(throttle_gate_room(&g, 1000), 1000);
}

static void
what_was_not_read_in_time_is_not_saved_up(void **state)
{
	struct throttle_gate g = {0};
	int64_t now_ns = NS_PER_SECOND;

	throttle_gate_set(&g, 8, now_ns);
	now_ns += 3600 * NS_PER_SECOND;
	assert_true(read_for(&g, &now_ns, NS_PER_SECOND, 0) < 1000 * 1000 * 12 / 10);
}

static void
another_rate_holds_from_the_moment_it_is_set(void **state)
{
	struct throttle_gate g = {0};
	int64_t now_ns = NS_PER_SECOND;

	throttle_gate_set(&g, 4000, now_ns);
	read_for(&g, &now_ns, NS_PER_SECOND, 0);
	throttle_gate_set(&g, 8, now_ns);
	assert_true(read_for(&g, &now_ns, NS_PER_SECOND, 0) < 1000 * 1000 * 12 / 10);
	throttle_gate_take(&g, 1000 * 1000);
	throttle_gate_set(&g, 16, now_ns); /* half a second of it is owed */
	assert_true(throttle_gate_wait(&g, now_ns + NS_PER_SECOND / 3) > 0);
	throttle_gate_set(&g, 0, now_ns);
	assert_int_equal(throttle_gate_wait(&g, now_ns), 0);
	assert_int_equal(throttle_gate_room(&g, BURST_BYTES), BURST_BYTES);
}

static void
without_a_throttle_nothing_waits(void **state)
{
	struct throttle_gate g = {0};

	throttle_gate_take(&g, 1 << 30);
	assert_int_equal(throttle_gate_wait(&g, NS_PER_SECOND), 0);
	assert_int_equal(throttle_gate_room(&g, BURST_BYTES), BURST_BYTES);
	assert_int_equal(throttle_gate_window(&g, 8 << 20), 8 << 20);
	assert_int_equal(throttle_gate_waited_ns(&g, NS_PER_SECOND), 0);
}

static void
waiting_ends_with_the_session(void **state)
{
	struct throttle_gate g = {0};
	int64_t now_ns = NS_PER_SECOND;

	throttle_gate_set(&g, 1, now_ns);
	assert_true(throttle_gate_wait(&g, now_ns) > 0);
	assert_true(throttle_gate_wait(&g, now_ns + 3) > 0);
	assert_int_equal(throttle_gate_waited_ns(&g, now_ns + 5), 5);
	throttle_gate_leave(&g, now_ns + 7);
	assert_int_equal(throttle_gate_waited_ns(&g, now_ns + 1000), 7);
}

static void
less_is_on_its_way_the_slower_it_goes_but_never_less_than_a_frame(void **state)
{
	struct throttle_gate g = {0};

	throttle_gate_set(&g, 1, 1);
	assert_int_equal(throttle_gate_window(&g, 8 << 20), 2 << 20);
	throttle_gate_set(&g, 16, 1);
	assert_int_equal(throttle_gate_window(&g, 8 << 20), 4000000);
	throttle_gate_set(&g, 400, 1);
	assert_int_equal(throttle_gate_window(&g, 8 << 20), 8 << 20);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_window_holds_from_its_first_minute_to_its_last),
	    cmocka_unit_test(a_window_over_midnight_belongs_to_the_day_it_begins),
	    cmocka_unit_test(the_first_window_that_has_the_moment_decides),
	    cmocka_unit_test(windows_are_written_as_they_are_read),
	    cmocka_unit_test(what_is_no_window_is_refused),
	    cmocka_unit_test(no_more_windows_are_taken_than_are_kept),
	    cmocka_unit_test(bytes_read_agree_with_the_rate),
	    cmocka_unit_test(however_often_one_asks_no_byte_is_lost),
	    cmocka_unit_test(no_more_may_be_read_at_once_than_was_asked_for),
	    cmocka_unit_test(what_was_not_read_in_time_is_not_saved_up),
	    cmocka_unit_test(another_rate_holds_from_the_moment_it_is_set),
	    cmocka_unit_test(without_a_throttle_nothing_waits),
	    cmocka_unit_test(waiting_ends_with_the_session),
	    cmocka_unit_test(less_is_on_its_way_the_slower_it_goes_but_never_less_than_a_frame),
	};

	return cmocka_run_group_tests_name("throttle", tests, NULL, NULL);
}
