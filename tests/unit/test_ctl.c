/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of holdfastctl, its man page, and what people may type for a source or a point. */
#include "server/ctl/ctl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"
#include "server/ctl/find.h"
#include "server/ctl/options.h"
#include "server/ctl/pick.h"

/* ---- tables and page ---- */

static char *
read_page(void)
{
	FILE *f = fopen("docs/man/holdfastctl.1.scd", "r");
	char *text = calloc(1, 1 << 18);

	if (f == NULL || text == NULL)
		skip(); /* not run from the top of the tree */
	assert_true(fread(text, 1, (1 << 18) - 1, f) > 0);
	fclose(f);
	return text;
}

static void
man_page_tells_of_every_command_and_option(void **state)
{
	const struct option_spec *specs = option_specs();
	char *page = read_page(), wanted[64];
	size_t count;
	const struct command *commands = ctl_commands(&count);

	for (size_t i = 0; i < count; i++) {
		snprintf(wanted, sizeof wanted, "*%s%s%s*", commands[i].noun, commands[i].verb ? " " : "",
		    commands[i].verb ? commands[i].verb : "");
		if (strstr(page, wanted) == NULL)
			fail_msg("%s is not in holdfastctl(1)", wanted);
	}
	for (int id = 0; id < OPTIONS; id++) {
		snprintf(wanted, sizeof wanted, "*--%s*", specs[id].name);
		if (strstr(page, wanted) == NULL)
			fail_msg("%s is not in holdfastctl(1)", wanted);
		snprintf(wanted, sizeof wanted, "*-%c*", specs[id].letter);
		if (specs[id].letter != 0 && strstr(page, wanted) == NULL)
			fail_msg("%s is not in holdfastctl(1)", wanted);
	}
	free(page);
}

static void
every_option_is_of_some_use(void **state)
{
	size_t count;
	const struct command *commands = ctl_commands(&count);
	uint64_t used = 0;

	for (size_t i = 0; i < count; i++) {
		assert_true(commands[i].operands_min <= commands[i].operands_max);
		assert_true((commands[i].operands[0] == '\0') == (commands[i].operands_max == 0));
		used |= commands[i].options;
	}
	for (int id = 0; id < OPTIONS; id++)
		assert_true(option_specs()[id].global != ((used & OPT_BIT(id)) != 0));
}

static void
options_may_stand_anywhere(void **state)
{
	char *argv[] = {(char[]){"ctl"}, (char[]){"--json"}, (char[]){"export"}, (char[]){"-o"}, (char[]){"x"},
	    (char[]){"file"}, (char[]){"db01"}, (char[]){"--at"}, (char[]){"-15m"}, NULL};
	struct ctl ctl = {0};

	assert_int_equal(options_parse(&ctl, 9, argv), -1);
	assert_ptr_equal(ctl.command->run, run_export_file);
	assert_string_equal(ctl.values[OPT_OUTPUT], "x");
	assert_null(ctl.values[OPT_COLUMNS]);
	assert_string_equal(ctl.values[OPT_AT], "-15m");
	assert_int_equal(ctl.operand_count, 1);
	assert_string_equal(ctl.operands[0], "db01");
}

/* ---- sources ---- */

static json_t *
parse(const char *text)
{
	json_t *json = json_loads(text, 0, NULL);

	assert_non_null(json);
	return json;
}

#define SOURCE(id, host)                                                                                          \
	"{\"sourceServerID\": \"" id "\", \"sourceProperties\": {\"identificationHints\": {\"hostname\": \"" host \
	"\"}}}"

static void
expect_source(const json_t *sources, const char *text, const char *id, int code)
{
	int got = EXIT_DONE;
	const json_t *source = match_source(sources, text, &got);

	if (strcmp(pick_text(source, "sourceServerID"), id) != 0 || got != code)
		fail_msg("%s: got \"%s\", exit %d", text, pick_text(source, "sourceServerID"), got);
}

static void
source_is_an_id_its_beginning_or_a_host(void **state)
{
	json_t *sources = parse("[" SOURCE("s-aa000000000000001", "db") "," SOURCE("s-aa000000000000002",
	    "web") "," SOURCE("s-bb000000000000003", "web") "," SOURCE("s-cc000000000000004", "s-aa") "]");

	expect_source(sources, "db", "s-aa000000000000001", EXIT_DONE);
	expect_source(sources, "s-b", "s-bb000000000000003", EXIT_DONE);
	expect_source(sources, "s-aa000000000000002", "s-aa000000000000002", EXIT_DONE);
	expect_source(sources, "s-aa", "s-cc000000000000004", EXIT_DONE); /* a whole name goes before a beginning */
	expect_source(sources, "s-aa0", "", EXIT_USAGE);
	expect_source(sources, "web", "", EXIT_USAGE);
	expect_source(sources, "s-", "", EXIT_USAGE); /* also if there is but one: "s-$UNSET" means none */
	expect_source(sources, "we", "", EXIT_NOT_FOUND);
	expect_source(sources, "", "", EXIT_NOT_FOUND);
	json_decref(sources);
}

/* ---- points ---- */

#define PIT(n, minute, name, complete, consistency)                                                 \
	"{\"pointInTimeID\": \"pit-0000000000000000" n "\", \"timestamp\": \"2026-11-22T10:" minute \
	":00.000Z\", \"name\": " name ", \"complete\": " complete ", \"consistency\": \"" consistency "\"}"

static json_t *
sample_pits(void)
{
	return parse("[" PIT("1", "00", "\"a\"", "false", "crash") "," PIT("2", "10", "\"a\"", "true", "crash") "," PIT(
	    "3", "20", "null", "true", "filesystem") "," PIT("4", "30", "\"b\"", "true", "fuzzy") "]");
}

static void
expect_pit(const json_t *pits, const char *at, bool fuzzy, const char *number, int64_t gap_s, int code)
{
	int64_t now_ns, gap_ns;
	int got = EXIT_DONE;
	const json_t *pit;
	const char *id;

	assert_int_equal(time_parse("2026-11-22T10:35:00Z", 0, &now_ns), 0);
	pit = match_pit(pits, at, fuzzy, now_ns, &gap_ns, &got);
	id = pick_text(pit, "pointInTimeID");
	if (got != code || strcmp(id[0] == '\0' ? "" : id + strlen(id) - 1, number) != 0 ||
	    (pit && gap_ns != gap_s * NS_PER_SECOND))
		fail_msg("%s: got \"%s\", exit %d, gap %lld ns", at, id, got, (long long)gap_ns);
}

static void
at_means_the_newest_restorable_point_not_later(void **state)
{
	json_t *pits = sample_pits();

	expect_pit(pits, "latest", false, "3", 900, EXIT_DONE);
	expect_pit(pits, "latest", true, "4", 300, EXIT_DONE);
	expect_pit(pits, "2026-11-22T10:19:59Z", false, "2", 599, EXIT_DONE);
	expect_pit(pits, "2026-11-22T10:20:00Z", false, "3", 0, EXIT_DONE);
	expect_pit(pits, "-20m", false, "2", 300, EXIT_DONE);
	expect_pit(pits, "-26m", false, "", 0, EXIT_NOT_FOUND); /* the first one is not complete */
	json_decref(pits);
}

static void
at_finds_a_point_at_every_moment_it_shows(void **state)
{
	json_t *pits =
	    parse("[" PIT("1", "00", "null", "true", "crash") "," PIT("2", "30", "null", "true", "crash") "]");

	json_object_set_new(json_array_get(pits, 1), "unchangedSince", json_string("2026-11-22T10:10:00.000Z"));
	expect_pit(pits, "2026-11-22T10:09:59Z", false, "1", 599, EXIT_DONE);
	expect_pit(pits, "2026-11-22T10:10:00Z", false, "2", 0, EXIT_DONE);
	expect_pit(pits, "2026-11-22T10:29:00Z", false, "2", 0, EXIT_DONE);
	expect_pit(pits, "2026-11-22T10:31:00Z", false, "2", 60, EXIT_DONE);
	json_decref(pits);
}

static void
at_goes_by_order_not_by_clock_when_clocks_went_back(void **state)
{
	json_t *pits = parse("[" PIT("1", "10", "null", "true", "crash") "," PIT(
	    "2", "20", "null", "true", "crash") "," PIT("3", "15", "null", "true", "crash") "]");

	expect_pit(pits, "2026-11-22T10:25:00Z", false, "3", 600, EXIT_DONE);
	expect_pit(pits, "2026-11-22T10:12:00Z", false, "1", 120, EXIT_DONE);
	json_decref(pits);
}

static void
at_takes_ids_and_names_whatever_they_are(void **state)
{
	json_t *pits = sample_pits(), *none = json_array();

	expect_pit(pits, "pit-00000000000000001", false, "1", 0, EXIT_DONE);
	expect_pit(pits, "b", false, "4", 0, EXIT_DONE);
	expect_pit(pits, "a", false, "", 0, EXIT_USAGE);
	expect_pit(pits, "c", false, "", 0, EXIT_NOT_FOUND);
	expect_pit(none, "latest", true, "", 0, EXIT_NOT_FOUND);
	json_decref(pits);
	json_decref(none);
}

static void
relative_times_bear_a_clock_a_moment_behind(void **state)
{
	char buf[64];

	assert_string_equal(format_relative(0, 100 * NS_PER_SECOND, buf, sizeof buf), "never");
	assert_string_equal(format_relative(90 * NS_PER_SECOND, 100 * NS_PER_SECOND, buf, sizeof buf), "10.0s ago");
	assert_string_equal(format_relative(100 * NS_PER_SECOND + 1, 100 * NS_PER_SECOND, buf, sizeof buf), "0.0s ago");
	assert_string_equal(format_relative(160 * NS_PER_SECOND, 100 * NS_PER_SECOND, buf, sizeof buf), "in 1m00s");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(man_page_tells_of_every_command_and_option),
	    cmocka_unit_test(every_option_is_of_some_use),
	    cmocka_unit_test(options_may_stand_anywhere),
	    cmocka_unit_test(source_is_an_id_its_beginning_or_a_host),
	    cmocka_unit_test(at_means_the_newest_restorable_point_not_later),
	    cmocka_unit_test(at_finds_a_point_at_every_moment_it_shows),
	    cmocka_unit_test(at_goes_by_order_not_by_clock_when_clocks_went_back),
	    cmocka_unit_test(at_takes_ids_and_names_whatever_they_are),
	    cmocka_unit_test(relative_times_bear_a_clock_a_moment_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
