/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/pit.h"

#include <assert.h>
#include <string.h>

#include "proto/common/units.h"
#include "storage/plant.h"

bool
pit_eligible(const struct checkpoint *c)
{
	return c->complete && c->consistency >= CHECKPOINT_CRASH;
}

/* ---- rules ---- */

static int64_t
span_ns(const struct pit_rule *rule, uint32_t units)
{
	int64_t ns;

	if (__builtin_mul_overflow((int64_t)units, policy_unit_ns(rule->unit), &ns))
		return INT64_MAX; /* longer than any history */
	return ns;
}

static int64_t
interval_ns(const struct pit_rule *rule)
{
	return span_ns(rule, rule->interval);
}

/* A point is kept at least until the next one is due: else a rule whose retention is the shorter
 * would find no point of its own, and keep every checkpoint. */
static int64_t
retention_ns(const struct pit_rule *rule)
{
	int64_t retention = span_ns(rule, rule->retention);
	int64_t interval = interval_ns(rule);

	return retention > interval ? retention : interval;
}

static bool
rule_works(const struct pit_rule *rule)
{
	return rule->enabled && interval_ns(rule) > 0;
}

int64_t
pit_guarded_ns(const struct policy *policy, int64_t running_ns)
{
	int64_t until;

	if (policy->min_retention_ns <= 0)
		return 0;
	return __builtin_add_overflow(running_ns, policy->min_retention_ns, &until) ? INT64_MAX : until;
}

/* ---- keeping ---- */

/* The start of the interval that holds time_ns; rounds down before 1970 too. */
static int64_t
interval_start(int64_t time_ns, int64_t interval)
{
	int64_t past = time_ns % interval;

	return time_ns - (past < 0 ? past + interval : past);
}

/* The newest point that rule n of the policy keeps, or NULL. Newest by LSN: clocks may have been
 * set back. */
static const struct pit *
newest_of_rule(const struct pit *kept, size_t count, size_t n)
{
	for (size_t i = count; i > 0; i--)
		if ((kept[i - 1].rules >> n & 1) != 0)
			return &kept[i - 1];
	return NULL;
}

static bool
kept_by_policy(const struct pit *kept, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (kept[i].rules != 0)
			return true;
	return false;
}

static int64_t
age_at(const struct pit *pit, int64_t running_ns)
{
	int64_t age;

	if (__builtin_sub_overflow(running_ns, pit->running_ns, &age))
		return running_ns > pit->running_ns ? INT64_MAX : INT64_MIN;
	return age;
}

static bool
rule_due(const struct pit_rule *rule, const struct pit *newest, int64_t time_ns, int64_t running_ns)
{
	int64_t interval = interval_ns(rule);

	return newest == NULL || interval_start(time_ns, interval) > interval_start(newest->time_ns, interval) ||
	       age_at(newest, running_ns) >= interval;
}

uint32_t
pit_rules_due(const struct policy *policy, const struct pit *kept, size_t count, int64_t time_ns, int64_t running_ns,
    int64_t *ret_planned_ns)
{
	bool first = !kept_by_policy(kept, count);
	int64_t shortest = INT64_MAX;
	uint32_t due = 0;

	assert(policy->rule_count <= PIT_RULES_MAX);
	for (size_t n = 0; n < policy->rule_count; n++) {
		const struct pit_rule *rule = &policy->rules[n];

		if (!rule_works(rule) || !rule_due(rule, newest_of_rule(kept, count, n), time_ns, running_ns))
			continue;
		due |= (uint32_t)1 << n;
		if (interval_ns(rule) < shortest)
			shortest = interval_ns(rule);
	}
	if (due != 0)
		*ret_planned_ns = first ? time_ns : interval_start(time_ns, shortest);
	return due;
}

static bool
is_eligible(const struct pit *pit)
{
	return pit->complete && pit->consistency >= CHECKPOINT_CRASH;
}

void
pit_assign(const struct policy *policy, struct pit *kept, size_t count)
{
	int64_t planned_ns;

	for (size_t i = 0; i < count; i++) {
		struct pit *pit = &kept[i];
		int64_t guarded_ns = pit_guarded_ns(policy, pit->running_ns);

		pit->rules = 0;
		if (is_eligible(pit))
			pit->rules = pit_rules_due(policy, kept, i, pit->time_ns, pit->running_ns, &planned_ns);
		if (guarded_ns > pit->guarded_ns)
			pit->guarded_ns = guarded_ns;
	}
}

/* ---- expiring ---- */

/* The rules that still keep a point of this age. */
static uint32_t
rules_left(const struct policy *policy, const struct pit *pit, int64_t running_ns)
{
	int64_t age = age_at(pit, running_ns);
	uint32_t left = 0;

	for (size_t n = 0; n < policy->rule_count; n++) {
		const struct pit_rule *rule = &policy->rules[n];

		if ((pit->rules >> n & 1) != 0 && rule_works(rule) && age <= retention_ns(rule))
			left |= (uint32_t)1 << n;
	}
	return left;
}

struct newest {
	const struct pit *complete, *verified;
};

/* To recover from. */
static struct newest
find_newest(const struct pit *kept, size_t count)
{
	struct newest newest = {NULL, NULL};

	for (size_t i = 0; i < count; i++) {
		const struct pit *pit = &kept[i];

		if (is_eligible(pit))
			newest.complete = pit;
		if (is_eligible(pit) && pit->verified_ns != 0)
			newest.verified = pit;
	}
	return newest;
}

static bool
kept_by_people(const struct pit *pit)
{
	return (pit->held && !PLANTED(37)) || pit->by_hand || pit->name[0] != '\0';
}

/* Whatever rule still keeps it. */
static bool
may_go(const struct pit *pit, const struct newest *newest, int64_t running_ns)
{
	return !kept_by_people(pit) && (pit != newest->complete || PLANTED(22)) && pit != newest->verified &&
	       running_ns >= pit->guarded_ns;
}

const struct pit *
pit_oldest_that_may_go(const struct pit *kept, size_t count, int64_t running_ns)
{
	struct newest newest = find_newest(kept, count);

	for (size_t i = 0; i < count; i++)
		if (may_go(&kept[i], &newest, running_ns))
			return &kept[i];
	return NULL;
}

size_t
pit_expire(
    const struct policy *policy, struct pit *kept, size_t count, int64_t running_ns, size_t max, bool *ret_expired)
{
	struct newest newest = find_newest(kept, count);
	size_t going = 0;

	assert(policy->rule_count <= PIT_RULES_MAX);
	for (size_t i = 0; i < count; i++) {
		kept[i].rules = rules_left(policy, &kept[i], running_ns);
		ret_expired[i] = kept[i].rules == 0 && going < max && may_go(&kept[i], &newest, running_ns);
		going += ret_expired[i];
	}
	return going;
}

int64_t
pit_since_ns(const struct pit *pit)
{
	int64_t since;

	if (pit->checkpoint.lsn == 0)
		return pit->time_ns;
	since = checkpoint_time_ns(&pit->checkpoint);
	return since < pit->time_ns ? since : pit->time_ns;
}
