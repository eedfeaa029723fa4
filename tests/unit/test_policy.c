/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/common/units.h"
#include "storage/policy.h"

/* Parsed and written again. */
static void
reads_as(const char *text, const char *expected)
{
	struct policy p = {.journal_window_ns = 7, .min_retention_ns = 8};
	char again[POLICY_TEXT_BYTES];

	assert_int_equal(policy_parse_rules(text, &p, NULL), 0);
	assert_string_equal(policy_format_rules(&p, again), expected);
	for (size_t i = 0; i < p.rule_count; i++)
		assert_true(p.rules[i].enabled && p.rules[i].rule_id == i + 1);
	assert_true(p.journal_window_ns == 7 && p.min_retention_ns == 8);
}

static void
rules_are_read_in_the_largest_unit_that_fits(void **state)
{
	reads_as("10m/60m 1h/24h 1d/7d", "10m/60m 1h/24h 1d/7d");
	reads_as("  30m/12h\t90m/3h ", "30m/720m 90m/180m");
	reads_as("2h/7d", "2h/168h");
	reads_as("3600s/48h", "1h/48h");
	reads_as("none", "none");
	reads_as(" none ", "none");
}

static void
default_policy_is_that_of_drs(void **state)
{
	struct policy p;
	char text[POLICY_TEXT_BYTES];

	policy_default(&p);
	assert_string_equal(policy_format_rules(&p, text), "10m/60m 1h/24h 1d/7d");
	assert_int_equal(p.journal_window_ns, 3600 * NS_PER_SECOND);
	assert_int_equal(policy_check(&p, NULL), 0);
}

static void
is_refused(const char *text, const char *word)
{
	struct policy p, before;
	struct hf_error err;

	policy_default(&p);
	before = p;
	assert_int_equal(policy_parse_rules(text, &p, &err), -EINVAL);
	if (strstr(err.text, word) == NULL)
		fail_msg("%s: \"%s\" does not name \"%s\"", text, err.text, word);
	assert_memory_equal(&p, &before, sizeof p);
}

static void
mistakes_are_named(void **state)
{
	is_refused("", "none");
	is_refused("10m", "\"10m\"");
	is_refused("none 10m/60m", "\"none\"");
	is_refused("1h/24h tomorrow/7d", "\"tomorrow/7d\"");
	is_refused("10m/", "\"10m/\"");
	is_refused("/60m", "\"/60m\"");
	is_refused("90s/60m", "whole minutes");
	is_refused("0m/60m", "\"0m/60m\"");
	is_refused("1d/40000d", "hundred years");
	is_refused("1h/24h 60m/10m", "rule 2");
	is_refused("1m/7d", "10080 points");
	is_refused(
	    "1h/2h 1h/2h 1h/2h 1h/2h 1h/2h 1h/2h 1h/2h 1h/2h 1h/2h 1h/2h 1h/2h 1h/2h 1h/2h 1h/2h 1h/2h 1h/2h 1h/2h",
	    "at most 16");
	is_refused("11111111111111111111111111111111111111111111111111111111111111111111111m/7d", "too long");
}

static void
policies_from_elsewhere_are_checked(void **state)
{
	struct hf_error err;
	struct policy p;

	policy_default(&p);
	p.rules[1].rule_id = 3;
	assert_int_equal(policy_check(&p, &err), -EINVAL);
	assert_non_null(strstr(err.text, "ruleID 3"));
	policy_default(&p);
	strcpy(p.rules[1].unit, "WEEK");
	assert_int_equal(policy_check(&p, &err), -EINVAL);
	assert_non_null(strstr(err.text, "rule 2"));
	policy_default(&p);
	p.rules[0].interval = 0;
	assert_int_equal(policy_check(&p, &err), -EINVAL);
	policy_default(&p);
	p.rules[0].rule_id = 0;
	assert_int_equal(policy_check(&p, &err), -EINVAL);
	policy_default(&p);
	p.journal_window_ns = -1;
	assert_int_equal(policy_check(&p, &err), -EINVAL);
	policy_default(&p);
	p.journal_window_ns = INT64_C(31) * 86400 * NS_PER_SECOND;
	assert_int_equal(policy_check(&p, &err), -EINVAL);
	policy_default(&p);
	p.min_retention_ns = INT64_MAX;
	assert_int_equal(policy_check(&p, &err), -EINVAL);
	policy_default(&p);
	p.min_retention_ns = -1;
	assert_int_equal(policy_check(&p, &err), -EINVAL);
	policy_default(&p);
	p.rule_count = 0;
	assert_int_equal(policy_check(&p, &err), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rules_are_read_in_the_largest_unit_that_fits),
	    cmocka_unit_test(default_policy_is_that_of_drs),
	    cmocka_unit_test(mistakes_are_named),
	    cmocka_unit_test(policies_from_elsewhere_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
