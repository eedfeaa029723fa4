/* SPDX-License-Identifier: Apache-2.0 */
#include "server/fleet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/common/units.h"

static const int64_t now_ns = 1800000000 * NS_PER_SECOND;

static int
set_up(void **state)
{
	struct status_table *t;

	if (status_table_create(&t) < 0)
		return -1;
	*state = t;
	return 0;
}

static int
tear_down(void **state)
{
	status_table_destroy(*state);
	return 0;
}

static void
publish(struct status_table *t, const char *id, enum replication_state state, bool ready, int64_t lag_seconds)
{
	struct source_status *s = calloc(1, sizeof *s);

	assert_non_null(s);
	snprintf(s->id.text, sizeof s->id.text, "%s", id);
	snprintf(s->hints.hostname, sizeof s->hints.hostname, "host of %s", id);
	s->state = state;
	s->ready = ready;
	s->connected = state == STATE_CONTINUOUS;
	s->consistent_at_ns = lag_seconds < 0 ? 0 : now_ns - lag_seconds * NS_PER_SECOND;
	s->backlog_bytes = 10;
	s->rate_10s = 3;
	status_publish(t, s, NULL);
	free(s);
}

static struct fleet
count(struct status_table *t)
{
	struct source_status *scratch = malloc(sizeof *scratch);
	struct fleet f;

	assert_non_null(scratch);
	fleet_count(t, now_ns, scratch, &f);
	free(scratch);
	return f;
}

static void
no_source_or_none_with_a_point_has_no_worst_lag(void **state)
{
	struct fleet f = count(*state);

	assert_int_equal(f.sources, 0);
	assert_true(f.worst_lag_seconds == -1);
	assert_string_equal(f.worst.text, "");
	publish(*state, "s-1", STATE_INITIAL_SYNC, false, -1);
	f = count(*state);
	assert_true(f.worst_lag_seconds == -1);
	assert_string_equal(f.worst.text, "");
}

static void
each_is_counted_by_state_and_ready(void **state)
{
	struct fleet f;

	publish(*state, "s-1", STATE_CONTINUOUS, true, 1);
	publish(*state, "s-2", STATE_CONTINUOUS, false, 2);
	publish(*state, "s-3", STATE_STALLED, true, 3);
	f = count(*state);
	assert_int_equal(f.sources, 3);
	assert_int_equal(f.ready, 2);
	assert_int_equal(f.connected, 2);
	assert_int_equal(f.states[STATE_CONTINUOUS], 2);
	assert_int_equal(f.states[STATE_STALLED], 1);
	assert_int_equal(f.states[STATE_DISCONNECTED], 0);
	assert_int_equal(f.backlog_bytes, 30);
	assert_int_equal(f.rate_10s, 9);
}

static void
the_worst_lag_is_named_and_not_that_of_a_stopped_one(void **state)
{
	struct fleet f;

	publish(*state, "s-1", STATE_CONTINUOUS, true, 1);
	publish(*state, "s-2", STATE_DISCONNECTED, true, 60);
	publish(*state, "s-3", STATE_STOPPED, true, 3600);
	publish(*state, "s-4", STATE_INITIATING, false, -1);
	f = count(*state);
	assert_true(f.worst_lag_seconds == 60);
	assert_string_equal(f.worst.text, "s-2");
	assert_string_equal(f.worst_name, "host of s-2");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(no_source_or_none_with_a_point_has_no_worst_lag, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(each_is_counted_by_state_and_ready, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(the_worst_lag_is_named_and_not_that_of_a_stopped_one, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
