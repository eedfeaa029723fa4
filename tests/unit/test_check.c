/* SPDX-License-Identifier: Apache-2.0 */
/* check_holdfast: ranges, and what it makes of what the API says. */
#include "server/check/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- ranges ---- */

static bool
alarms(const char *text, double value)
{
	struct range r;

	assert_int_equal(range_parse(text, &r), 0);
	return range_alarms(&r, value);
}

static void
a_range_alarms_outside(void **state)
{
	assert_true(alarms("10", -1) && alarms("10", 10.001));
	assert_false(alarms("10", 0) || alarms("10", 10));
	assert_true(alarms("10:", 9.9));
	assert_false(alarms("10:", 10) || alarms("10:", 1e12));
	assert_true(alarms("~:10", 11));
	assert_false(alarms("~:10", -1e12) || alarms("~:10", 10));
	assert_true(alarms("10:20", 9) && alarms("10:20", 21));
	assert_false(alarms("10:20", 15));
	assert_true(alarms(":10", -1) && !alarms(":10", 5));
	assert_true(alarms("-5:-2.5", 0) && !alarms("-5:-2.5", -3));
}

static void
a_range_with_an_at_alarms_inside(void **state)
{
	assert_true(alarms("@10:20", 10) && alarms("@10:20", 20) && alarms("@5", 0));
	assert_false(alarms("@10:20", 9.9) || alarms("@10:20", 20.1) || alarms("@5", 6));
}

static void
what_is_no_range_is_refused(void **state)
{
	static const char *const wrong[] = {
	    "", "@", "x", "10x", "20:10", "~", "~10", "1:2:3", " 10", "nan", "inf", "10:~", "5m"};
	struct range r;

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		if (range_parse(wrong[i], &r) != -EINVAL)
			fail_msg("\"%s\" was taken", wrong[i]);
}

/* ---- verdicts ---- */

#define VERSION(state)                                      \
	"{\"program\": \"holdfastd\", \"draining\": false," \
	"\"stagingArea\": {\"state\": \"" state             \
	"\", \"freeBytes\": 1024, \"totalBytes\": 4096}, \"journalArea\": null}"
#define SOURCE(id, name, state, ready, lag)                                              \
	"{\"sourceServerID\": \"" id "\", \"ready\": " ready                             \
	", \"backlogBytes\": 512, \"lag\": {\"consistentSeconds\": " lag "},"            \
	"\"reasons\": [{\"text\": \"its | disk\\nburns\\u009b\"}],"                      \
	"\"sourceProperties\": {\"identificationHints\": {\"hostname\": \"" name "\"}}," \
	"\"dataReplicationInfo\": {\"dataReplicationState\": \"" state "\", \"stateReason\": \"why\"}}"
#define WELL(id, name) SOURCE(id, name, "CONTINUOUS", "true", "3.5")

static char *said;

static enum check_state
judge(const struct check *c, const char *version_text, const char *sources_text)
{
	json_t *version = json_loads(version_text, 0, NULL), *sources = json_loads(sources_text, 0, NULL);
	enum check_state state;
	size_t len;
	FILE *out;

	assert_true(version != NULL && sources != NULL);
	free(said);
	out = open_memstream(&said, &len);
	state = check_judge(c, version, sources, out);
	fclose(out);
	json_decref(version);
	json_decref(sources);
	return state;
}

static enum check_state
judge_sources(const char *sources_text)
{
	return judge(&(struct check){0}, VERSION("OK"), sources_text);
}

static void
assert_first_line(const char *line)
{
	assert_int_equal(strncmp(said, line, strlen(line)), 0);
}

static void
sources_that_are_well_are_ok(void **state)
{
	assert_int_equal(judge_sources("[" WELL("s-1", "db01") "," WELL("s-2", "db02") "]"), CHECK_OK);
	assert_string_equal(said, "HOLDFAST OK - 2 of 2 sources ready | 'staging_free'=1024B;;;0;4096 "
				  "'db01_lag'=3.500s;900;1800;0 'db01_backlog'=512B;;;0 "
				  "'db02_lag'=3.500s;900;1800;0 'db02_backlog'=512B;;;0\n");
}

static void
a_thread_that_hangs_is_critical_whatever_is_asked_and_says_what_to_do(void **state)
{
	static const char version[] = "{\"stagingArea\": {\"state\": \"OK\"}, \"silentThread\": {\"text\": \"worker0 "
				      "hangs\", \"cure\": \"this\"}}";
	const struct check all = {0}, one = {.source = "db01"};

	assert_int_equal(judge(&all, version, "[" WELL("s-1", "db01") "]"), CHECK_CRITICAL);
	assert_first_line("HOLDFAST CRITICAL - worker0 hangs |");
	assert_non_null(strstr(said, "\nCRITICAL: worker0 hangs; next: this\n"));
	assert_int_equal(judge(&one, version, "[" WELL("s-1", "db01") "]"), CHECK_CRITICAL);
	assert_first_line("HOLDFAST CRITICAL - worker0 hangs |");
}

static void
one_that_is_not_ready_is_critical(void **state)
{
	assert_int_equal(
	    judge_sources("[" WELL("s-1", "db01") "," SOURCE("s-2", "db02", "CONTINUOUS", "false", "3") "]"),
	    CHECK_CRITICAL);
	assert_first_line("HOLDFAST CRITICAL - db02 (s-2): not ready: its   disk burns   | 'staging_free'");
	assert_non_null(strstr(said, "\nCRITICAL: db02 (s-2): not ready"));
}

static void
a_point_older_than_the_target_warns_then_is_critical(void **state)
{
	assert_int_equal(judge_sources("[" SOURCE("s-1", "a", "CONTINUOUS", "true", "900") "]"), CHECK_OK);
	assert_int_equal(judge_sources("[" SOURCE("s-1", "a", "CONTINUOUS", "true", "901") "]"), CHECK_WARNING);
	assert_int_equal(judge_sources("[" SOURCE("s-1", "a", "CONTINUOUS", "true", "1801") "]"), CHECK_CRITICAL);
	assert_first_line("HOLDFAST CRITICAL - a (s-1): the newest point is 30m01s old");
}

static void
a_source_may_have_its_own_target(void **state)
{
	static const char source[] = "[{\"sourceServerID\": \"s-1\", \"ready\": true, \"rpoTargetSeconds\": 10, "
				     "\"lag\": {\"consistentSeconds\": 15}}]";

	assert_int_equal(judge_sources(source), CHECK_WARNING);
	assert_non_null(strstr(said, "'s-1_lag'=15.000s;10;20;0"));
}

static void
thresholds_given_stand_before_the_target(void **state)
{
	struct check c = {
	    .warning_text = "5", .warning = {0, 5, false}, .critical_text = "1:9", .critical = {1, 9, false}};

	assert_int_equal(judge(&c, VERSION("OK"), "[" SOURCE("s-1", "a", "CONTINUOUS", "true", "4") "]"), CHECK_OK);
	assert_int_equal(
	    judge(&c, VERSION("OK"), "[" SOURCE("s-1", "a", "CONTINUOUS", "true", "6") "]"), CHECK_WARNING);
	assert_int_equal(
	    judge(&c, VERSION("OK"), "[" SOURCE("s-1", "a", "CONTINUOUS", "true", "10") "]"), CHECK_CRITICAL);
	assert_non_null(strstr(said, "'a_lag'=10.000s;5;1:9;0"));
}

static void
what_cannot_go_on_by_itself_warns(void **state)
{
	assert_int_equal(judge_sources("[" SOURCE("s-1", "a", "STALLED", "true", "3") "]"), CHECK_WARNING);
	assert_first_line("HOLDFAST WARNING - a (s-1): STALLED for 0.0s: why");
	assert_int_equal(judge_sources("[" SOURCE("s-1", "a", "DISCONNECTED", "true", "3") "]"), CHECK_WARNING);
	assert_int_equal(judge_sources("[" SOURCE("s-1", "a", "DISCONNECTED", "true", "9999") "]"), CHECK_CRITICAL);
}

static void
a_fault_tells_since_when_and_what_to_type_next(void **state)
{
	const struct check c = {.now_ns = 1000 * INT64_C(1000000000)};

	assert_int_equal(
	    judge(&c, VERSION("OK"),
		"[{\"sourceServerID\": \"s-1\", \"ready\": true, \"lag\": {\"consistentSeconds\": 3}, "
		"\"dataReplicationInfo\": "
		"{\"dataReplicationState\": \"STALLED\", \"stateReason\": \"why\", \"stateSinceDateTime\": "
		"\"1970-01-01T00:10:00.000Z\", \"cure\": \"holdfastctl | status\"}}]"),
	    CHECK_WARNING);
	assert_first_line("HOLDFAST WARNING - s-1 (s-1): STALLED for 6m40s: why | ");
	assert_non_null(strstr(said, "\nWARNING: s-1 (s-1): STALLED for 6m40s: why; next: holdfastctl   status\n"));
}

static void
what_is_wrong_beside_the_state_warns(void **state)
{
	static const char rot[] =
	    "[{\"sourceServerID\": \"s-1\", \"ready\": true, \"lag\": {\"consistentSeconds\": 3}, "
	    "\"dataReplicationInfo\": {\"dataReplicationState\": \"CONTINUOUS\", \"stateReason\": "
	    "\"well\", \"dataReplicationError\": {\"code\": \"INTEGRITY_ERROR\", \"rawError\": "
	    "\"damaged blocks: 1\"}}}]";

	assert_int_equal(judge_sources(rot), CHECK_WARNING);
	assert_first_line("HOLDFAST WARNING - s-1 (s-1): damaged blocks: 1");
}

static void
one_that_was_stopped_by_hand_wakes_nobody(void **state)
{
	assert_int_equal(judge_sources("[" SOURCE("s-1", "a", "STOPPED", "false", "99999") "]"), CHECK_WARNING);
}

static void
without_a_point_there_is_no_figure(void **state)
{
	assert_int_equal(judge_sources("[" SOURCE("s-1", "a", "INITIAL_SYNC", "false", "null") "]"), CHECK_CRITICAL);
	assert_non_null(strstr(said, "'a_lag'=U 'a_backlog'"));
	assert_int_equal(judge_sources("[{\"sourceServerID\": \"s-1\", \"ready\": true}]"), CHECK_CRITICAL);
}

static void
no_source_at_all_warns(void **state)
{
	assert_int_equal(judge_sources("[]"), CHECK_WARNING);
	assert_first_line("HOLDFAST WARNING - no source is enrolled |");
}

static void
room_running_out_is_told_unless_one_source_is_asked_for(void **state)
{
	struct check all = {0}, one = {.source = "a"};

	assert_int_equal(judge(&all, VERSION("LOW"), "[" WELL("s-1", "a") "]"), CHECK_WARNING);
	assert_first_line("HOLDFAST WARNING - the staging area has 1.0 KiB left");
	assert_int_equal(judge(&all, VERSION("FULL"), "[" WELL("s-1", "a") "]"), CHECK_CRITICAL);
	assert_int_equal(judge(&one, VERSION("FULL"), "[" WELL("s-1", "a") "]"), CHECK_OK);
	assert_first_line("HOLDFAST OK - 1 of 1 sources ready | 'a_lag'=3.500s");
}

static void
journals_elsewhere_and_a_server_that_leaves_are_told(void **state)
{
	static const char elsewhere[] =
	    "{\"stagingArea\": {\"state\": \"OK\"}, \"journalArea\": {\"state\": \"FULL\"}}",
			  leaving[] = "{\"stagingArea\": {\"state\": \"OK\"}, \"draining\": true}";

	assert_int_equal(judge(&(struct check){0}, elsewhere, "[" WELL("s-1", "a") "]"), CHECK_CRITICAL);
	assert_first_line("HOLDFAST CRITICAL - the journal area is full");
	assert_int_equal(judge(&(struct check){0}, leaving, "[" WELL("s-1", "a") "]"), CHECK_WARNING);
	assert_first_line("HOLDFAST WARNING - holdfastd is shutting down");
}

static void
machines_of_the_same_name_have_figures_of_their_own(void **state)
{
	judge_sources("[" WELL("s-1", "it's=db") "," WELL("s-2", "db") "," WELL("s-3", "db") "]");
	assert_non_null(strstr(said, "'it_s_db_lag'="));
	assert_non_null(strstr(said, "'s-2_lag'="));
	assert_non_null(strstr(said, "'s-3_lag'="));
}

static void
the_worst_comes_first_and_the_others_are_counted(void **state)
{
	judge_sources(
	    "[" SOURCE("s-1", "a", "STALLED", "true", "3") "," SOURCE("s-2", "b", "CONTINUOUS", "true", "5000") "]");
	assert_first_line("HOLDFAST CRITICAL - b (s-2): the newest point is 1h23m old (and 1 more) |");
	assert_non_null(strstr(said, "\nWARNING: a (s-1): STALLED for 0.0s: why\nCRITICAL: b (s-2): "));
}

static int
forget(void **state)
{
	free(said);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_range_alarms_outside),
	    cmocka_unit_test(a_range_with_an_at_alarms_inside),
	    cmocka_unit_test(what_is_no_range_is_refused),
	    cmocka_unit_test(sources_that_are_well_are_ok),
	    cmocka_unit_test(a_thread_that_hangs_is_critical_whatever_is_asked_and_says_what_to_do),
	    cmocka_unit_test(one_that_is_not_ready_is_critical),
	    cmocka_unit_test(a_point_older_than_the_target_warns_then_is_critical),
	    cmocka_unit_test(a_source_may_have_its_own_target),
	    cmocka_unit_test(thresholds_given_stand_before_the_target),
	    cmocka_unit_test(what_cannot_go_on_by_itself_warns),
	    cmocka_unit_test(a_fault_tells_since_when_and_what_to_type_next),
	    cmocka_unit_test(what_is_wrong_beside_the_state_warns),
	    cmocka_unit_test(one_that_was_stopped_by_hand_wakes_nobody),
	    cmocka_unit_test(without_a_point_there_is_no_figure),
	    cmocka_unit_test(no_source_at_all_warns),
	    cmocka_unit_test(room_running_out_is_told_unless_one_source_is_asked_for),
	    cmocka_unit_test(journals_elsewhere_and_a_server_that_leaves_are_told),
	    cmocka_unit_test(machines_of_the_same_name_have_figures_of_their_own),
	    cmocka_unit_test(the_worst_comes_first_and_the_others_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, forget);
}
