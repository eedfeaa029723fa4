/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/policy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/common/units.h"

#define MINUTE_NS     (60 * NS_PER_SECOND)
#define HOUR_NS       (60 * MINUTE_NS)
#define DAY_NS        (24 * HOUR_NS)
#define WINDOW_MAX_NS (30 * DAY_NS)
#define SPAN_MAX_NS   (36525 * DAY_NS) /* a hundred years */

static const struct unit {
	const char *name;
	char letter;
	int64_t ns;
} units[] = {
    /* the largest first */
    {"DAY", 'd', DAY_NS},
    {"HOUR", 'h', HOUR_NS},
    {"MINUTE", 'm', MINUTE_NS},
};

enum { UNITS = sizeof units / sizeof units[0], RULE_TEXT_BYTES = 64 };

void
policy_default(struct policy *ret_policy)
{
	*ret_policy = (struct policy){
	    .rules =
		{
		    {.rule_id = 1, .unit = "MINUTE", .interval = 10, .retention = 60, .enabled = true},
		    {.rule_id = 2, .unit = "HOUR", .interval = 1, .retention = 24, .enabled = true},
		    {.rule_id = 3, .unit = "DAY", .interval = 1, .retention = 7, .enabled = true},
		},
	    .rule_count = 3,
	    .journal_window_ns = HOUR_NS,
	};
}

static const struct unit *
find_unit(const char *name)
{
	for (size_t i = 0; i < UNITS; i++)
		if (strcmp(units[i].name, name) == 0)
			return &units[i];
	return NULL;
}

int64_t
policy_unit_ns(const char *name)
{
	const struct unit *unit = find_unit(name);

	return unit != NULL ? unit->ns : 0;
}

/* ---- rules as text ---- */

/* The largest unit that both are whole numbers of. */
static const struct unit *
common_unit(int64_t a_ns, int64_t b_ns)
{
	for (size_t i = 0; i < UNITS; i++)
		if (a_ns % units[i].ns == 0 && b_ns % units[i].ns == 0)
			return &units[i];
	return NULL;
}

static int
parse_rule(const char *text, struct pit_rule *ret_rule, struct hf_error *err)
{
	char interval[RULE_TEXT_BYTES];
	const char *slash = strchr(text, '/');
	const struct unit *unit;
	int64_t interval_ns, retention_ns;

	snprintf(interval, sizeof interval, "%.*s", slash != NULL ? (int)(slash - text) : 0, text);
	if (slash == NULL || duration_parse(interval, &interval_ns) < 0 || duration_parse(slash + 1, &retention_ns) < 0)
		return hf_error_say(
		    err, -EINVAL, "rule \"%s\": INTERVAL/RETENTION is wanted, as in 10m/60m or 1d/7d", text);
	unit = common_unit(interval_ns, retention_ns);
	if (unit == NULL)
		return hf_error_say(err, -EINVAL, "rule \"%s\": whole minutes, hours or days are wanted", text);
	if (interval_ns <= 0 || interval_ns > SPAN_MAX_NS || retention_ns > SPAN_MAX_NS)
		return hf_error_say(err, -EINVAL, "rule \"%s\": one minute to a hundred years are wanted", text);
	*ret_rule = (struct pit_rule){
	    .interval = (uint32_t)(interval_ns / unit->ns),
	    .retention = (uint32_t)(retention_ns / unit->ns),
	    .enabled = true,
	};
	snprintf(ret_rule->unit, sizeof ret_rule->unit, "%s", unit->name);
	return 0;
}

static int
add_rule(const char *text, struct policy *policy, struct hf_error *err)
{
	struct pit_rule *rule = &policy->rules[policy->rule_count];
	int r;

	if (policy->rule_count == PIT_RULES_MAX)
		return hf_error_say(err, -EINVAL, "rule \"%s\": a policy has at most %d rules", text, PIT_RULES_MAX);
	r = parse_rule(text, rule, err);
	if (r == 0)
		rule->rule_id = (uint32_t)++policy->rule_count;
	return r;
}

int
policy_parse_rules(const char *text, struct policy *policy, struct hf_error *err)
{
	static const char blanks[] = " \t";
	struct policy p = *policy;
	int r = 0;

	memset(p.rules, 0, sizeof p.rules);
	p.rule_count = 0;
	text += strspn(text, blanks);
	if (strncmp(text, "none", 4) == 0 && text[4 + strspn(text + 4, blanks)] == '\0')
		text += strlen(text);
	else if (*text == '\0')
		return hf_error_say(err, -EINVAL, "rules as in 10m/60m 1h/24h, or none, are wanted");
	while (*text != '\0' && r == 0) {
		char one[RULE_TEXT_BYTES];
		size_t len = strcspn(text, blanks);

		snprintf(one, sizeof one, "%.*s", (int)len, text);
		r = len < sizeof one ? add_rule(one, &p, err)
				     : hf_error_say(err, -EINVAL, "rule \"%s...\" is too long", one);
		text += len;
		text += strspn(text, blanks);
	}
	if (r == 0)
		r = policy_check(&p, err);
	if (r == 0)
		*policy = p;
	return r;
}

const char *
policy_format_rules(const struct policy *policy, char *buf)
{
	size_t n = 0;

	snprintf(buf, POLICY_TEXT_BYTES, "none");
	for (size_t i = 0; i < policy->rule_count; i++) {
		const struct pit_rule *rule = &policy->rules[i];
		const struct unit *unit = find_unit(rule->unit);

		if (rule->enabled && unit != NULL)
			n += (size_t)snprintf(buf + n, POLICY_TEXT_BYTES - n, "%s%" PRIu32 "%c/%" PRIu32 "%c",
			    n > 0 ? " " : "", rule->interval, unit->letter, rule->retention, unit->letter);
	}
	return buf;
}

/* ---- what can be kept ---- */

static int
check_rule(const struct pit_rule *rule, struct hf_error *err)
{
	int64_t unit = policy_unit_ns(rule->unit);

	if (rule->rule_id == 0)
		return hf_error_say(err, -EINVAL, "ruleID: numbers from 1 on are wanted");
	if (unit == 0)
		return hf_error_say(
		    err, -EINVAL, "rule %" PRIu32 ": units: MINUTE, HOUR or DAY is wanted", rule->rule_id);
	if (rule->interval == 0 || rule->interval > SPAN_MAX_NS / unit)
		return hf_error_say(err, -EINVAL, "rule %" PRIu32 ": interval: 1 to %lld are wanted", rule->rule_id,
		    SPAN_MAX_NS / unit);
	if (rule->retention < rule->interval || rule->retention > SPAN_MAX_NS / unit)
		return hf_error_say(err, -EINVAL,
		    "rule %" PRIu32 ": the retention (%" PRIu32 " %s) may not be shorter than the interval (%" PRIu32
		    " %s), nor longer than a hundred years",
		    rule->rule_id, rule->retention, rule->unit, rule->interval, rule->unit);
	return 0;
}

static int
check_rules(const struct policy *policy, struct hf_error *err)
{
	uint64_t points = 0;
	int r = 0;

	for (size_t i = 0; i < policy->rule_count && r == 0; i++) {
		const struct pit_rule *rule = &policy->rules[i];

		r = check_rule(rule, err);
		for (size_t k = 0; k < i && r == 0; k++)
			if (policy->rules[k].rule_id == rule->rule_id)
				r = hf_error_say(err, -EINVAL, "ruleID %" PRIu32 " is there twice", rule->rule_id);
		if (r == 0 && rule->enabled)
			points += rule->retention / rule->interval;
	}
	if (r == 0 && points > POLICY_POINTS_MAX)
		r = hf_error_say(err, -EINVAL, "the rules would keep %" PRIu64 " points together, more than %d", points,
		    POLICY_POINTS_MAX);
	return r;
}

int
policy_check(const struct policy *policy, struct hf_error *err)
{
	if (policy->rule_count > PIT_RULES_MAX)
		return hf_error_say(err, -EINVAL, "a policy has at most %d rules", PIT_RULES_MAX);
	if (policy->journal_window_ns < 0 || policy->journal_window_ns > WINDOW_MAX_NS)
		return hf_error_say(err, -EINVAL, "the journal window may be 0 to 30 days");
	if (policy->min_retention_ns < 0 || policy->min_retention_ns > SPAN_MAX_NS)
		return hf_error_say(err, -EINVAL, "minRetention may be 0 to a hundred years");
	return check_rules(policy, err);
}
