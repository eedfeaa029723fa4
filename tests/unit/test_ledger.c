/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/status.h"
#include "tests/lib/registry_rig.h"
#include "tests/lib/sqlite_faults.h"

struct fixture {
	struct registry_rig rig;
	struct ledger *ledger;
};

static int
set_up(void **state)
{
	struct fixture *f = *state = calloc(1, sizeof *f);

	assert_int_equal(registry_rig_init(&f->rig, "test_ledger"), 0);
	return ledger_create(f->rig.registry, &f->ledger);
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	int removed;

	sqlite_write_errno = 0;
	ledger_destroy(f->ledger);
	removed = registry_rig_fini(&f->rig);
	free(f);
	return removed;
}

static int
add_event(struct fixture *f, int64_t time_ns)
{
	const struct registry_event event = {.time_ns = time_ns, .event = "happened", .text = "so it was"};

	return ledger_add_event(f->ledger, &event, &f->rig.err);
}

static int
add_audit(struct fixture *f, int64_t time_ns, bool may_wait)
{
	struct registry_audit audit = {.time_ns = time_ns, .uid = 7, .pid = 42, .verb = "export", .object = "it"};

	return ledger_add_audit(f->ledger, &audit, may_wait, &f->rig.err);
}

static int
append_time(void *arg, int columns, char **values, char **names)
{
	strcat(arg, values[0]);
	strcat(arg, " ");
	return 0;
}

/* The times of all rows of a table, in the order in which they were written. Closes the registry. */
static void
assert_rows(struct fixture *f, const char *table, const char *times)
{
	char query[128], all[4096] = "";
	sqlite3 *db;

	registry_close(f->rig.registry);
	f->rig.registry = NULL;
	snprintf(query, sizeof query, "SELECT time_ns FROM %s ORDER BY number", table);
	assert_int_equal(sqlite3_open(f->rig.path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, query, append_time, all, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	assert_string_equal(all, times);
}

static void
a_row_is_durable_at_once_where_there_is_room(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(add_event(f, 1), 0);
	assert_int_equal(add_audit(f, 2, false), 0);
	assert_int_equal(ledger_waiting(f->ledger), 0);
	assert_rows(f, "event", "1 ");
	assert_rows(f, "audit", "2 ");
}

static void
without_room_rows_wait_and_are_written_in_order_when_there_is_some(void **state)
{
	struct fixture *f = *state;

	sqlite_write_errno = ENOSPC;
	assert_int_equal(add_event(f, 1), 1);
	assert_int_equal(add_audit(f, 2, true), 1);
	assert_int_equal(add_event(f, 3), 1);
	assert_int_equal(ledger_waiting(f->ledger), 3);
	assert_int_equal(ledger_settle(f->ledger, &f->rig.err), -HF_EFULL);
	assert_int_equal(ledger_waiting(f->ledger), 3);
	sqlite_write_errno = 0;
	assert_int_equal(add_event(f, 4), 0); /* behind them */
	assert_int_equal(ledger_waiting(f->ledger), 0);
	assert_rows(f, "event", "1 3 4 ");
	assert_rows(f, "audit", "2 ");
}

static void
room_is_enough_for_what_waits_to_be_written(void **state)
{
	struct fixture *f = *state;

	sqlite_write_errno = ENOSPC;
	assert_int_equal(add_audit(f, 1, true), 1);
	sqlite_write_errno = 0;
	assert_int_equal(ledger_settle(f->ledger, &f->rig.err), 0);
	assert_int_equal(ledger_waiting(f->ledger), 0);
	assert_rows(f, "audit", "1 ");
}

/* How often it was told that events are missing, and the newest of these. */
static size_t
count_told(struct fixture *f, struct registry_event *ret_newest)
{
	struct registry_event *list;
	size_t n, told = 0;

	assert_int_equal(registry_list_events(f->rig.registry, 0, 1000, &list, &n, &f->rig.err), 0);
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i].event, "events_lost") == 0) {
			*ret_newest = list[i];
			told++;
		}
	free(list);
	return told;
}

static void
what_is_not_kept_is_counted_and_the_count_is_an_event(void **state)
{
	struct fixture *f = *state;
	struct registry_event newest;

	sqlite_write_errno = ENOSPC;
	for (int i = 0; i < LEDGER_ROWS_MAX / 2; i++)
		assert_int_equal(add_event(f, i), 1);
	assert_int_equal(add_event(f, 1000), -HF_EFULL);
	ledger_lose_event(f->ledger);
	assert_int_equal(ledger_settle(f->ledger, &f->rig.err), -HF_EFULL);
	sqlite_write_errno = 0;
	assert_int_equal(ledger_settle(f->ledger, &f->rig.err), 0);
	assert_int_equal(count_told(f, &newest), 1);
	assert_non_null(strstr(newest.text, "2 events before this one"));
	assert_int_equal(add_event(f, 1001), 0);
	assert_int_equal(count_told(f, &newest), 1);
	ledger_lose_event(f->ledger);
	assert_int_equal(add_event(f, 1002), 0);
	assert_int_equal(count_told(f, &newest), 2);
	assert_non_null(strstr(newest.text, "1 event before this one"));
}

static void
a_count_that_cannot_be_told_yet_is_told_later(void **state)
{
	struct fixture *f = *state;
	struct registry_event newest;

	ledger_lose_event(f->ledger);
	sqlite_write_errno = ENOSPC;
	assert_int_equal(ledger_settle(f->ledger, &f->rig.err), -HF_EFULL);
	ledger_lose_event(f->ledger);
	sqlite_write_errno = 0;
	assert_int_equal(ledger_settle(f->ledger, &f->rig.err), 0);
	assert_int_equal(count_told(f, &newest), 1);
	assert_non_null(strstr(newest.text, "2 events before this one"));
}

/* A quota of the file system is full in another word. */
static void
a_row_that_may_not_wait_is_refused(void **state)
{
	static const int errors[] = {ENOSPC, EDQUOT};
	struct fixture *f = *state;

	for (size_t i = 0; i < 2; i++) {
		sqlite_write_errno = errors[i];
		assert_int_equal(add_audit(f, 1, false), -HF_EFULL);
		assert_int_equal(ledger_waiting(f->ledger), 0);
	}
	sqlite_write_errno = 0;
	assert_int_equal(ledger_settle(f->ledger, &f->rig.err), 0);
	assert_rows(f, "audit", "");
}

static void
only_for_room_is_waited(void **state)
{
	struct fixture *f = *state;

	sqlite_write_errno = EIO;
	assert_int_equal(add_event(f, 1), -EIO);
	assert_int_equal(add_audit(f, 2, true), -EIO);
	assert_int_equal(ledger_waiting(f->ledger), 0);
}

static void
memory_is_bounded_and_events_leave_half_of_it_to_the_audit(void **state)
{
	struct fixture *f = *state;
	int i;

	sqlite_write_errno = ENOSPC;
	for (i = 0; i < LEDGER_ROWS_MAX / 2; i++)
		assert_int_equal(add_event(f, i), 1);
	assert_int_equal(add_event(f, i), -HF_EFULL);
	for (; i < LEDGER_ROWS_MAX; i++)
		assert_int_equal(add_audit(f, i, true), 1);
	assert_int_equal(add_audit(f, i, true), -HF_EFULL);
	assert_int_equal(ledger_waiting(f->ledger), LEDGER_ROWS_MAX);
	sqlite_write_errno = 0;
	assert_int_equal(ledger_settle(f->ledger, &f->rig.err), 0);
	assert_int_equal(ledger_waiting(f->ledger), 0);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    T(a_row_is_durable_at_once_where_there_is_room),
	    T(without_room_rows_wait_and_are_written_in_order_when_there_is_some),
	    T(room_is_enough_for_what_waits_to_be_written),
	    T(what_is_not_kept_is_counted_and_the_count_is_an_event),
	    T(a_count_that_cannot_be_told_yet_is_told_later),
	    T(a_row_that_may_not_wait_is_refused),
	    T(only_for_room_is_waited),
	    T(memory_is_bounded_and_events_leave_half_of_it_to_the_audit),
	};

	sqlite_faults_install();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
