/* SPDX-License-Identifier: Apache-2.0 */
/* policy ...: which points a source keeps; retention ...: whether they expire at all. */
#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"
#include "server/ctl/change.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"
#include "server/settings.h"
#include "storage/policy.h"

/* ---- show ---- */

static const struct table_column columns[] = {
    {"rule", "RULE", true, false, 0},
    {"interval", "EVERY", true, false, 0},
    {"retention", "FOR", true, false, 0},
    {"enabled", "ENABLED", false, false, 0},
};

static void
cell_span(struct table *t, const char *column, const json_t *rule, const char *key)
{
	int64_t ns = pick_integer(rule, key) * policy_unit_ns(pick_text(rule, "units"));
	char human[UNITS_TEXT_BYTES], exact[64];

	snprintf(exact, sizeof exact, "%lld", (long long)(ns / NS_PER_SECOND));
	table_set(t, column, duration_format(ns, human), exact, MOOD_PLAIN);
}

static json_t *
policy_of(const json_t *source)
{
	return json_pack("{s:O, s:O, s:O, s:O, s:O}", "sourceServerID", pick(source, "sourceServerID"), "pitPolicy",
	    pick(source, "pitPolicy"), "journalWindowSeconds", pick(source, "journalWindowSeconds"),
	    "minRetentionSeconds", pick(source, "retention.minRetentionSeconds"), "retention",
	    pick(source, "retention"));
}

static void
print_rest(const json_t *source)
{
	int64_t window_ns = (int64_t)(json_number_value(pick(source, "journalWindowSeconds")) * NS_PER_SECOND);
	int64_t least_ns = (int64_t)(json_number_value(pick(source, "retention.minRetentionSeconds")) * NS_PER_SECOND);
	char text[UNITS_TEXT_BYTES];

	if (json_array_size(pick(source, "pitPolicy")) == 0)
		print_sentence(4, "no rule: only points made by hand are kept");
	print_sentence(4, "every checkpoint for %s", duration_format(window_ns, text));
	if (least_ns > 0)
		print_sentence(4, "no point goes that is younger than %s", duration_format(least_ns, text));
	if (pick(source, "retention.frozenSinceDateTime") != NULL)
		print_sentence(4, "frozen since %s: nothing expires until holdfastctl retention thaw %s",
		    pick_text(source, "retention.frozenSinceDateTime"), pick_text(source, "sourceServerID"));
	if (pick_bool(source, "retention.clocksDisagree"))
		print_sentence(4,
		    "the clock of the server jumped: nothing expires until it is right, or holdfastctl retention thaw "
		    "%s",
		    pick_text(source, "sourceServerID"));
}

static int
print_policy(const struct ctl *ctl, const json_t *source)
{
	struct table *t = table_create(columns, sizeof columns / sizeof columns[0]);
	json_t *rule;
	size_t i;
	int code;

	json_array_foreach (pick(source, "pitPolicy"), i, rule) {
		table_add_row(t);
		cell_number(t, "rule", rule, "ruleID", MOOD_PLAIN);
		cell_span(t, "interval", rule, "interval");
		cell_span(t, "retention", rule, "retentionDuration");
		cell_bool(t, "enabled", rule, "enabled");
	}
	code = print_table(ctl, t);
	if (code == EXIT_DONE && !ctl_given(ctl, OPT_NO_HEADER))
		print_rest(source);
	return code;
}

int
run_policy_show(struct ctl *ctl)
{
	json_t *source, *policy;
	int code = find_source(ctl, ctl->operands[0], &source);

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON)) {
		policy = policy_of(source);
		json_decref(source);
		return print_json(policy);
	}
	code = print_policy(ctl, source);
	json_decref(source);
	return code;
}

/* ---- set ---- */

/* The words behind SOURCE. */
static int
add_rules(const struct ctl *ctl, json_t *body)
{
	struct policy policy = {0};
	struct hf_error err;
	char text[2048] = "";
	size_t n = 0;

	for (int i = 1; i < ctl->operand_count && n < sizeof text; i++)
		n += (size_t)snprintf(text + n, sizeof text - n, "%s ", ctl->operands[i]);
	if (n >= sizeof text)
		return ctl_fail(EXIT_USAGE, "these are too many rules");
	if (policy_parse_rules(text, &policy, &err) < 0)
		return ctl_fail(EXIT_USAGE, "%s", err.text);
	json_object_set_new(body, "pitPolicy", settings_rules_json(&policy));
	return EXIT_DONE;
}

static int
add_duration(const struct ctl *ctl, enum option_id option, const char *name, const char *key, json_t *body)
{
	int64_t ns;

	if (!ctl_given(ctl, option))
		return EXIT_DONE;
	if (duration_parse(ctl->values[option], &ns) < 0)
		return ctl_fail(
		    EXIT_USAGE, "%s %s: a time like 90s, 10m, 24h or 7d is wanted", name, ctl->values[option]);
	json_object_set_new(body, key, json_real((double)ns / NS_PER_SECOND));
	return EXIT_DONE;
}

/* What the command line says; what it does not say stays as it is. Gives. */
static int
make_change(const struct ctl *ctl, json_t **ret_body)
{
	json_t *body = json_object();
	int code = ctl->operand_count > 1 ? add_rules(ctl, body) : EXIT_DONE;

	if (code == EXIT_DONE)
		code = add_duration(ctl, OPT_JOURNAL_WINDOW, "--journal-window", "journalWindowSeconds", body);
	if (code == EXIT_DONE)
		code = add_duration(ctl, OPT_MIN_RETENTION, "--min-retention", "minRetentionSeconds", body);
	if (code == EXIT_DONE && json_object_size(body) == 0)
		code = ctl_fail(
		    EXIT_USAGE, "rules like 10m/60m 1h/24h (or none), --journal-window or --min-retention are wanted");
	if (code != EXIT_DONE) {
		json_decref(body);
		return code;
	}
	*ret_body = body;
	return EXIT_DONE;
}

int
run_policy_set(struct ctl *ctl)
{
	json_t *body = NULL;
	int code = make_change(ctl, &body);

	return code == EXIT_DONE ? change_source(ctl, "policy", body) : code;
}

/* ---- retention ---- */

static int
change_all(struct ctl *ctl, const char *verb)
{
	json_t *sources;
	int code = find_sources(ctl, &sources);

	if (code != EXIT_DONE)
		return code;
	code = change_each(ctl, "POST", verb, sources);
	json_decref(sources);
	return code;
}

static int
change_retention(struct ctl *ctl, const char *verb)
{
	if (ctl_given(ctl, OPT_ALL) == (ctl->operand_count > 0))
		return ctl_fail(EXIT_USAGE, "a SOURCE, or --all, is wanted");
	if (ctl_given(ctl, OPT_ALL))
		return change_all(ctl, verb);
	return change_source(ctl, verb, NULL);
}

int
run_retention_freeze(struct ctl *ctl)
{
	return change_retention(ctl, "freeze-retention");
}

int
run_retention_thaw(struct ctl *ctl)
{
	return change_retention(ctl, "thaw-retention");
}
