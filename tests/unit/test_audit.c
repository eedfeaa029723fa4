/* SPDX-License-Identifier: Apache-2.0 */
#include "server/audit.h"

#include <pthread.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/registry_rig.h"

struct fixture {
	struct registry_rig rig;
	struct audit_report report;
};

static int
set_up(void **state)
{
	struct fixture *f = *state = calloc(1, sizeof *f);

	return registry_rig_init(&f->rig, "test_audit");
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	int removed;

	removed = registry_rig_fini(&f->rig);
	free(f);
	return removed;
}

static void
add_rows(struct fixture *f, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct registry_audit a = {
		    .time_ns = 1000 + i, .uid = 7, .pid = 42, .request = i, .verb = "pit.delete"};

		snprintf(a.object, sizeof a.object, "pit-%u", i);
		assert_int_equal(registry_add_audit(f->rig.registry, &a, &f->rig.err), 0);
	}
}

/* Somebody with a database editor. */
static void
tamper(struct fixture *f, const char *statement)
{
	sqlite3 *db;

	registry_close(f->rig.registry);
	f->rig.registry = NULL;
	assert_int_equal(sqlite3_open(f->rig.path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, statement, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	assert_int_equal(registry_open(f->rig.path, false, &f->rig.registry, &f->rig.err), 0);
}

static void
check(struct fixture *f)
{
	assert_int_equal(audit_check(f->rig.registry, &f->report, &f->rig.err), 0);
}

static void
assert_fault(struct fixture *f, const char *text)
{
	check(f);
	for (uint64_t i = 0; i < f->report.fault_count && i < AUDIT_FAULTS_MAX; i++)
		if (strcmp(f->report.faults[i].text, text) == 0)
			return;
	fail_msg("not found: %s (%llu others: %s)", text, (unsigned long long)f->report.fault_count,
	    f->report.faults[0].text);
}

static void
an_empty_audit_is_intact(void **state)
{
	struct fixture *f = *state;

	check(f);
	assert_int_equal(f->report.newest, 0);
	assert_int_equal(f->report.fault_count, 0);
}

static void
rows_as_they_were_written_are_intact(void **state)
{
	struct fixture *f = *state;

	add_rows(f, 1203); /* more than two pages */
	check(f);
	assert_int_equal(f->report.rows, 1203);
	assert_int_equal(f->report.newest, 1203);
	assert_int_equal(f->report.unchained, 0);
	assert_int_equal(f->report.fault_count, 0);
}

static void
a_row_that_was_changed_is_named_whichever_column_it_was(void **state)
{
	static const char *const changes[] = {"time_ns = 5", "uid = 0", "pid = 1", "request = 99", "verb = 'status'",
	    "object = 'pit-9'", "result = 'OK'", "digest = zeroblob(32)", "digest = NULL"};
	struct fixture *f = *state;
	char statement[128];

	add_rows(f, 5);
	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
		tamper(f, "CREATE TABLE before AS SELECT * FROM audit");
		snprintf(statement, sizeof statement, "UPDATE audit SET %s WHERE number = 3", changes[i]);
		tamper(f, statement);
		assert_fault(f, "row 3 is not what was written, or not in its place");
		tamper(f, "DELETE FROM audit; INSERT INTO audit (number, time_ns, uid, pid, verb, object, request, "
			  "result, digest) SELECT number, time_ns, uid, pid, verb, object, request, result, digest "
			  "FROM before; DROP TABLE before");
		check(f);
		assert_int_equal(f->report.fault_count, 0);
	}
}

static void
a_row_that_was_removed_is_named(void **state)
{
	struct fixture *f = *state;

	add_rows(f, 7);
	tamper(f, "DELETE FROM audit WHERE number IN (1, 3, 4, 7)");
	assert_fault(f, "row 1 is missing");
	assert_fault(f, "rows 3 to 4 are missing");
	assert_fault(f, "row 7 is missing");
	assert_int_equal(f->report.fault_count, 3);
}

static void
rows_that_changed_places_are_named(void **state)
{
	struct fixture *f = *state;

	add_rows(f, 5);
	tamper(f, "UPDATE audit SET number = 99 WHERE number = 2; UPDATE audit SET number = 2 WHERE number = 3;"
		  "UPDATE audit SET number = 3 WHERE number = 99");
	assert_fault(f, "row 2 is not what was written, or not in its place");
	assert_fault(f, "row 3 is not what was written, or not in its place");
}

/* Numbers close up, so that none seems to be missing. */
static void
a_removed_row_shows_although_the_others_moved_up(void **state)
{
	struct fixture *f = *state;

	add_rows(f, 5);
	tamper(f, "DELETE FROM audit WHERE number = 2; UPDATE audit SET number = number - 1 WHERE number > 2;"
		  "UPDATE audit_head SET number = 4");
	assert_fault(f, "row 2 is not what was written, or not in its place");
}

static void
the_newest_rows_cannot_be_taken_away_without_a_trace(void **state)
{
	struct fixture *f = *state;

	add_rows(f, 5);
	tamper(f, "DELETE FROM audit WHERE number = 5; UPDATE audit_head SET number = 4");
	assert_fault(f, "row 4, the newest, is not the one that was written");
}

static void
a_row_put_behind_the_newest_is_named(void **state)
{
	struct fixture *f = *state;

	add_rows(f, 5);
	tamper(f, "INSERT INTO audit (number, time_ns, uid, pid, verb, object, digest) VALUES (7000, 1, 0, 1, "
		  "'source.delete', '', zeroblob(32))");
	assert_fault(f, "row 7000 stands behind the newest: it is not of this server");
	assert_int_equal(f->report.fault_count, 1);
}

struct adding {
	struct fixture *f;
	_Atomic bool over;
};

static void *
go_on_adding(void *arg)
{
	struct adding *a = arg;

	while (!a->over)
		add_rows(a->f, 1);
	return NULL;
}

static void
rows_that_are_added_while_it_is_checked_are_no_fault(void **state)
{
	struct fixture *f = *state;
	struct adding a = {.f = f};
	unsigned grown = 0;
	pthread_t thread;

	add_rows(f, 700); /* more than a page */
	assert_int_equal(pthread_create(&thread, NULL, go_on_adding, &a), 0);
	for (uint64_t before = 0; grown < 30; before = f->report.newest) {
		check(f);
		if (f->report.fault_count > 0)
			break;
		grown += f->report.newest > before;
	}
	a.over = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	if (f->report.fault_count > 0)
		fail_msg("%s", f->report.faults[0].text);
}

static void
rows_from_before_the_chain_are_counted_and_followed_by_it(void **state)
{
	struct fixture *f = *state;

	add_rows(f, 3);
	tamper(f, "UPDATE audit SET digest = NULL; DELETE FROM audit_head");
	add_rows(f, 2);
	check(f);
	assert_int_equal(f->report.rows, 5);
	assert_int_equal(f->report.unchained, 3);
	assert_int_equal(f->report.fault_count, 0);
}

static void
the_list_gives_the_newest_of_a_range_in_order(void **state)
{
	struct fixture *f = *state;
	struct registry_audit *rows;
	size_t count;

	add_rows(f, 9);
	assert_int_equal(registry_list_audit(f->rig.registry, 1, 8, 3, &rows, &count, &f->rig.err), 0);
	assert_int_equal(count, 3);
	assert_int_equal(rows[0].number, 5);
	assert_int_equal(rows[2].number, 7);
	assert_string_equal(rows[2].object, "pit-6");
	assert_int_equal(rows[2].request, 6);
	free(rows);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(an_empty_audit_is_intact),
	    T(rows_as_they_were_written_are_intact),
	    T(a_row_that_was_changed_is_named_whichever_column_it_was),
	    T(a_row_that_was_removed_is_named),
	    T(rows_that_changed_places_are_named),
	    T(a_removed_row_shows_although_the_others_moved_up),
	    T(the_newest_rows_cannot_be_taken_away_without_a_trace),
	    T(a_row_put_behind_the_newest_is_named),
	    T(rows_that_are_added_while_it_is_checked_are_no_fault),
	    T(rows_from_before_the_chain_are_counted_and_followed_by_it),
	    T(the_list_gives_the_newest_of_a_range_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
