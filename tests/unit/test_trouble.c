/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/trouble.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/ctl/pick.h"

#define SOURCE(name, state, ready, lag, more)                                                                         \
	"{\"sourceServerID\": \"s-" name "\", \"sourceProperties\": {\"identificationHints\": {\"hostname\": \"" name \
	"\"}}, \"ready\": " ready ", \"lag\": {\"consistentSeconds\": " lag                                           \
	"}, \"dataReplicationInfo\": {\"dataReplicationState\": \"" state "\"" more "}}"
#define WELL(name) SOURCE(name, "CONTINUOUS", "true", "3", "")

/* Order of the names, with blanks between. */
static const char *
sorted(const char *text)
{
	static char names[256];
	json_t *sources = json_loads(text, 0, NULL), *list, *source;
	size_t i;

	assert_non_null(sources);
	names[0] = '\0';
	list = sort_by_trouble(sources);
	json_array_foreach (list, i, source) {
		strcat(names, i > 0 ? " " : "");
		strcat(names, pick_source_name(source));
	}
	json_decref(list);
	json_decref(sources);
	return names;
}

static size_t
troubled(const char *text)
{
	json_t *sources = json_loads(text, 0, NULL);
	size_t count;

	assert_non_null(sources);
	count = count_troubled(sources);
	json_decref(sources);
	return count;
}

static void
who_needs_somebody_is_in_trouble_and_who_is_on_its_way_is_not(void **state)
{
	assert_int_equal(troubled("[]"), 0);
	assert_int_equal(troubled("[" WELL("a") "," SOURCE("b", "INITIAL_SYNC", "false", "null", "") "," SOURCE(
			     "c", "STOPPED", "true", "9", "") "," SOURCE("d", "PAUSED", "true", "9", "") "]"),
	    0);
	assert_int_equal(troubled("[" SOURCE("a", "STALLED", "true", "3", "") "]"), 1);
	assert_int_equal(troubled("[" SOURCE("a", "DISCONNECTED", "true", "3", "") "]"), 1);
	assert_int_equal(troubled("[" SOURCE("a", "CONTINUOUS", "true", "3",
			     ", \"dataReplicationError\": {\"code\": \"INTEGRITY_ERROR\"}") "]"),
	    1);
}

static void
a_missed_target_is_trouble_whatever_the_state_is(void **state)
{
	static const char missed[] = "[{\"sourceServerID\": \"s-1\", \"ready\": true, \"rpoTargetMet\": false, "
				     "\"dataReplicationInfo\": {\"dataReplicationState\": \"CONTINUOUS\"}}]";

	assert_int_equal(troubled(missed), 1);
}

static void
the_worst_come_first_and_of_those_the_furthest_behind(void **state)
{
	assert_string_equal(sorted("[" WELL("b") "," WELL("a") "," SOURCE("way", "INITIAL_SYNC", "false", "null",
				"") "," SOURCE("near", "STALLED", "true", "9", "") "," SOURCE("far", "DISCONNECTED",
				"true", "900", "") "," SOURCE("none", "STALLED", "false", "null", "") "]"),
	    "none far near way a b");
}

/* What print_trouble() writes to stdout. Gives. */
static char *
told(const char *text)
{
	json_t *sources = json_loads(text, 0, NULL);
	int saved = dup(STDOUT_FILENO);
	FILE *file = tmpfile();
	char *said = calloc(1, 4096);
	struct ctl ctl = {0};

	assert_true(sources != NULL && saved >= 0 && file != NULL && said != NULL);
	fflush(stdout);
	dup2(fileno(file), STDOUT_FILENO);
	print_trouble(&ctl, sources, 0);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	assert_true(pread(fileno(file), said, 4095, 0) > 0);
	fclose(file);
	json_decref(sources);
	return said;
}

static void
who_shares_a_name_is_told_by_id_too(void **state)
{
	char *said = told("[" SOURCE("a", "STALLED", "true", "3", "") "," SOURCE("b", "STALLED", "true", "3", "") "]");

	assert_non_null(strstr(said, "a is STALLED"));
	assert_null(strstr(said, "(s-"));
	free(said);
	said = told("[" SOURCE("a", "STALLED", "true", "3",
	    "") ", {\"sourceServerID\": \"s-other\", "
		"\"sourceProperties\": {\"identificationHints\": {\"hostname\": \"a\"}}}]");
	assert_non_null(strstr(said, "a (s-a) is STALLED"));
	assert_non_null(strstr(said, "a (s-other) is "));
	free(said);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(who_needs_somebody_is_in_trouble_and_who_is_on_its_way_is_not),
	    cmocka_unit_test(a_missed_target_is_trouble_whatever_the_state_is),
	    cmocka_unit_test(the_worst_come_first_and_of_those_the_furthest_behind),
	    cmocka_unit_test(who_shares_a_name_is_told_by_id_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
