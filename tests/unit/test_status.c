/* SPDX-License-Identifier: Apache-2.0 */
#include "server/status.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/units.h"

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

static struct source_status *
make_status(const char *id, size_t volumes, uint64_t mark)
{
	struct source_status *s = calloc(1, sizeof *s);

	snprintf(s->id.text, sizeof s->id.text, "%s", id);
	s->backlog_bytes = mark;
	s->volume_count = volumes;
	for (size_t i = 0; i < volumes; i++)
		s->volumes[i].total_bytes = mark + i;
	return s;
}

static void
publish(struct status_table *t, const char *id, size_t volumes, uint64_t mark)
{
	struct source_status *s = make_status(id, volumes, mark);

	status_publish(t, s, NULL);
	free(s);
}

static bool
get(struct status_table *t, const char *id, struct source_status *ret_status)
{
	struct id key = {{0}};

	snprintf(key.text, sizeof key.text, "%s", id);
	return status_get(t, &key, ret_status);
}

static void
a_snapshot_is_given_back_with_all_its_volumes(void **state)
{
	struct source_status *s = calloc(1, sizeof *s);

	publish(*state, "s-1", VOLUMES_MAX, 7);
	assert_true(get(*state, "s-1", s));
	assert_int_equal(s->backlog_bytes, 7);
	assert_int_equal(s->volume_count, VOLUMES_MAX);
	for (size_t i = 0; i < VOLUMES_MAX; i++)
		assert_int_equal(s->volumes[i].total_bytes, 7 + i);
	free(s);
}

static void
volumes_that_are_retired_come_after_those_declared(void **state)
{
	struct source_status *s = make_status("s-1", STORE_VOLUMES_MAX, 7);

	s->volume_count = 1;
	s->retired_count = STORE_VOLUMES_MAX - 1;
	status_publish(*state, s, NULL);
	memset(s->volumes, 0, sizeof s->volumes);
	assert_true(get(*state, "s-1", s));
	assert_int_equal(s->retired_count, STORE_VOLUMES_MAX - 1);
	for (size_t i = 0; i < STORE_VOLUMES_MAX; i++)
		assert_int_equal(s->volumes[i].total_bytes, 7 + i);
	free(s);
}

static void
texts_come_back_and_go_with_the_snapshot_that_had_them(void **state)
{
	struct source_status *s = make_status("s-1", 1, 1);

	memset(s->tags, 'x', sizeof s->tags - 1);
	memset(s->new_disks, 'y', sizeof s->new_disks - 1);
	status_publish(*state, s, NULL);
	memset(s->tags, 0, sizeof s->tags);
	memset(s->new_disks, 0, sizeof s->new_disks);
	assert_true(get(*state, "s-1", s));
	assert_int_equal(strlen(s->tags), sizeof s->tags - 1);
	assert_int_equal(strlen(s->new_disks), sizeof s->new_disks - 1);
	publish(*state, "s-1", 1, 2);
	assert_true(get(*state, "s-1", s));
	assert_string_equal(s->tags, "");
	assert_string_equal(s->new_disks, "");
	free(s);
}

static void
the_newest_snapshot_replaces_the_one_before(void **state)
{
	struct source_status *s = calloc(1, sizeof *s);

	publish(*state, "s-1", 3, 1);
	publish(*state, "s-1", 1, 2);
	assert_true(get(*state, "s-1", s));
	assert_int_equal(s->backlog_bytes, 2);
	assert_int_equal(s->volume_count, 1);
	free(s);
}

static void
all_are_listed_in_the_order_of_their_ids(void **state)
{
	static const char *const ids[] = {"s-3", "s-1", "s-9", "s-2", "s-0"};
	static const char *const ordered[] = {"s-0", "s-1", "s-2", "s-3", "s-9"};
	struct source_status *s = calloc(1, sizeof *s);

	assert_false(status_next(*state, &s->id, s));
	for (size_t i = 0; i < 5; i++)
		publish(*state, ids[i], 1, i);
	for (size_t i = 0; i < 5; i++) {
		assert_true(status_next(*state, &s->id, s));
		assert_string_equal(s->id.text, ordered[i]);
	}
	assert_false(status_next(*state, &s->id, s));
	free(s);
}

static void
a_list_goes_on_over_sources_that_come(void **state)
{
	struct source_status *s = calloc(1, sizeof *s);

	publish(*state, "s-1", 1, 1);
	publish(*state, "s-3", 1, 3);
	publish(*state, "s-7", 2, 7);
	assert_true(status_next(*state, &s->id, s));
	assert_true(status_next(*state, &s->id, s));
	assert_string_equal(s->id.text, "s-3");
	publish(*state, "s-5", 3, 5);
	assert_true(status_next(*state, &s->id, s));
	assert_string_equal(s->id.text, "s-5");
	assert_int_equal(s->volume_count, 3);
	assert_true(status_next(*state, &s->id, s));
	assert_string_equal(s->id.text, "s-7");
	assert_false(status_next(*state, &s->id, s));
	free(s);
}

/* ---- readers and writers at once ---- */

static atomic_bool ended;

static void *
keep_publishing(void *arg)
{
	for (uint64_t mark = 0; !atomic_load(&ended); mark += 1000)
		publish(arg, "s-1", 1 + mark / 1000 % VOLUMES_MAX, mark);
	return NULL;
}

static void
a_reader_never_sees_two_snapshots_mixed(void **state)
{
	struct source_status *s = calloc(1, sizeof *s);
	pthread_t writer;

	publish(*state, "s-1", 1, 0);
	atomic_store(&ended, false);
	assert_int_equal(pthread_create(&writer, NULL, keep_publishing, *state), 0);
	for (int i = 0; i < 20000; i++) {
		assert_true(get(*state, "s-1", s));
		assert_int_equal(s->volume_count, 1 + s->backlog_bytes / 1000 % VOLUMES_MAX);
		assert_int_equal(s->volumes[s->volume_count - 1].total_bytes, s->backlog_bytes + s->volume_count - 1);
	}
	atomic_store(&ended, true);
	pthread_join(writer, NULL);
	free(s);
}

static void
what_is_forgotten_is_not_there_and_its_neighbours_are(void **state)
{
	struct source_status *s = calloc(1, sizeof *s);
	struct id two = {"s-2"}, none = {"s-9"};

	publish(*state, "s-1", 1, 10);
	publish(*state, "s-2", 1, 20);
	publish(*state, "s-3", 1, 30);
	status_forget(*state, &two);
	status_forget(*state, &none);
	assert_false(get(*state, "s-2", s));
	assert_true(get(*state, "s-1", s));
	assert_int_equal(s->backlog_bytes, 10);
	assert_true(get(*state, "s-3", s));
	assert_int_equal(s->backlog_bytes, 30);
	free(s);
}

static void
points_are_those_of_the_snapshot_and_stay_with_who_got_them(void **state)
{
	struct id one = {"s-1"}, none = {"s-9"};
	struct source_status *s = make_status("s-1", 1, 7);
	struct points *first = points_create(&one), *got, *later;

	status_publish(*state, s, points_ref(first));
	assert_true(status_get_points(*state, &one, s, &got));
	assert_ptr_equal(got, first);
	points_unref(first);
	s->store_status = -1;
	status_publish(*state, s, NULL);
	assert_true(status_get_points(*state, &one, s, &later));
	assert_null(later);
	assert_int_equal(s->store_status, -1);
	assert_string_equal(got->source.text, "s-1"); /* the last of them: it is freed here */
	points_unref(got);
	assert_false(status_get_points(*state, &none, s, &got));
	free(s);
}

/* How many turns it makes when this is published of the source next. */
static uint64_t
turns_of(struct status_table *t, const struct source_status *s)
{
	uint64_t before = status_turns(t);

	status_publish(t, s, NULL);
	return status_turns(t) - before;
}

static void
a_source_turns_when_it_stands_otherwise_and_not_when_figures_grow(void **state)
{
	struct source_status *s = make_status("s-1", 1, 7);
	uint64_t before;

	assert_int_equal(turns_of(*state, s), 1); /* it came */
	s->backlog_bytes = 8;
	assert_int_equal(turns_of(*state, s), 0);
	s->state = STATE_STALLED;
	assert_int_equal(turns_of(*state, s), 1);
	snprintf(s->error, sizeof s->error, "STAGING_FULL");
	assert_int_equal(turns_of(*state, s), 1);
	s->connected = true;
	assert_int_equal(turns_of(*state, s), 1);
	s->ready = true;
	assert_int_equal(turns_of(*state, s), 1);
	s->activity = ACTIVITY_IDLE;
	assert_int_equal(turns_of(*state, s), 1);
	s->proof.state = PROOF_RUNNING;
	assert_int_equal(turns_of(*state, s), 1);
	before = status_turns(*state);
	status_forget(*state, &s->id);
	assert_int_equal(status_turns(*state), before + 1);
	free(s);
}

static void
lag_grows_with_the_clock_and_is_never_negative(void **state)
{
	(void)state;
	assert_true(status_lag_seconds(0, 5 * NS_PER_SECOND) == -1);
	assert_true(status_lag_seconds(2 * NS_PER_SECOND, 5 * NS_PER_SECOND) == 3);
	assert_true(status_lag_seconds(6 * NS_PER_SECOND, 5 * NS_PER_SECOND) == 0);
}

static void
every_state_has_the_name_the_drs_api_gives_it(void **state)
{
	(void)state;
	assert_string_equal(replication_state_name(STATE_INITIAL_SYNC), "INITIAL_SYNC");
	assert_string_equal(replication_state_name(STATE_CREATING_SNAPSHOT), "CREATING_SNAPSHOT");
	for (int s = STATE_STOPPED; s <= STATE_DISCONNECTED; s++)
		assert_string_not_equal(replication_state_name((enum replication_state)s), "?");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_snapshot_is_given_back_with_all_its_volumes, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(volumes_that_are_retired_come_after_those_declared, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(texts_come_back_and_go_with_the_snapshot_that_had_them, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(the_newest_snapshot_replaces_the_one_before, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(all_are_listed_in_the_order_of_their_ids, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_list_goes_on_over_sources_that_come, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_reader_never_sees_two_snapshots_mixed, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(what_is_forgotten_is_not_there_and_its_neighbours_are, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		points_are_those_of_the_snapshot_and_stay_with_who_got_them, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		a_source_turns_when_it_stands_otherwise_and_not_when_figures_grow, set_up, tear_down),
	    cmocka_unit_test(lag_grows_with_the_clock_and_is_never_negative),
	    cmocka_unit_test(every_state_has_the_name_the_drs_api_gives_it),
	};

	return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
