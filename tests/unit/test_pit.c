/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"
#include "storage/pit.h"

#define MINUTES(n) ((int64_t)(n)*60 * NS_PER_SECOND)
#define HOURS(n)   MINUTES((n)*60)
#define DAYS(n)    HOURS((n)*24)

/* A moment at the start of a day, an hour and ten minutes. */
static const int64_t T0 = DAYS(20000);

static uint64_t seed;

static uint64_t
next_random(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return seed >> 33;
}

static uint64_t
random_below(uint64_t n)
{
	return next_random() % n;
}

static void
start_seed(void)
{
	const char *text = getenv("SEED");

	random_bytes(&seed, sizeof seed);
	if (text != NULL)
		seed = strtoull(text, NULL, 0);
	print_message("SEED=%llu\n", (unsigned long long)seed);
}

static struct policy
drs_policy(void)
{
	static const struct policy p = {
	    .rules = {{1, "MINUTE", 10, 60, true}, {2, "HOUR", 1, 24, true}, {3, "DAY", 1, 7, true}},
	    .rule_count = 3,
	    .journal_window_ns = HOURS(1),
	};

	return p;
}

static struct pit
point(uint64_t lsn, int64_t time_ns, uint32_t rules)
{
	struct pit p = {.lsn = lsn, .time_ns = time_ns, .rules = rules, .complete = true};

	return p;
}

static void
only_complete_and_consistent_checkpoints_are_eligible(void **state)
{
	struct checkpoint c = {.complete = true, .consistency = CHECKPOINT_CRASH};

	assert_true(pit_eligible(&c));
	c.consistency = CHECKPOINT_APPLICATION;
	assert_true(pit_eligible(&c));
	c.consistency = CHECKPOINT_FUZZY;
	assert_false(pit_eligible(&c));
	c.consistency = CHECKPOINT_FILESYSTEM;
	c.complete = false;
	assert_false(pit_eligible(&c));
}

static void
first_checkpoint_is_due_for_every_rule_at_once(void **state)
{
	struct policy policy = drs_policy();
	int64_t planned = 0;

	assert_int_equal(pit_rules_due(&policy, NULL, 0, T0 + MINUTES(3), &planned), 7);
	assert_int_equal(planned, T0 + MINUTES(3));
}

static void
points_kept_by_hand_alone_do_not_count_as_the_first(void **state)
{
	struct policy policy = drs_policy();
	struct pit by_hand = point(1, T0, 0);
	int64_t planned = 0;

	by_hand.by_hand = true;
	assert_int_equal(pit_rules_due(&policy, &by_hand, 1, T0 + MINUTES(3), &planned), 7);
	assert_int_equal(planned, T0 + MINUTES(3));
}

static void
rule_is_due_in_the_next_aligned_interval_and_not_before(void **state)
{
	struct policy policy = drs_policy();
	struct pit kept = point(1, T0 + MINUTES(9), 7);
	int64_t planned = -1;

	assert_int_equal(pit_rules_due(&policy, &kept, 1, T0 + MINUTES(10) - 1, &planned), 0);
	assert_int_equal(planned, -1);
	assert_int_equal(pit_rules_due(&policy, &kept, 1, T0 + MINUTES(10), &planned), 1);
	assert_int_equal(planned, T0 + MINUTES(10));
	assert_int_equal(pit_rules_due(&policy, &kept, 1, T0 + MINUTES(67), &planned), 3);
	assert_int_equal(planned, T0 + MINUTES(60));
	assert_int_equal(pit_rules_due(&policy, &kept, 1, T0 + DAYS(1), &planned), 7);
}

static void
rule_added_later_is_due_at_once(void **state)
{
	struct policy policy = drs_policy();
	struct pit kept = point(1, T0, 1);
	int64_t planned = 0;

	assert_int_equal(pit_rules_due(&policy, &kept, 1, T0 + MINUTES(1), &planned), 6);
	assert_int_equal(planned, T0);
}

static void
rules_without_sense_keep_nothing(void **state)
{
	struct policy policy = drs_policy();
	struct pit kept = point(1, T0, 7);
	struct pit newer = point(2, T0, 0);
	struct pit pits[2] = {kept, newer};
	bool expired[2];
	int64_t planned = 0;

	policy.rules[0].enabled = false;
	policy.rules[1].interval = 0;
	memcpy(policy.rules[2].unit, "WEEK", 5);
	assert_int_equal(pit_rules_due(&policy, NULL, 0, T0, &planned), 0);
	assert_int_equal(pit_expire(&policy, pits, 2, T0, expired), 1);
	assert_true(expired[0]);
	assert_int_equal(pits[0].rules, 0);
}

static void
huge_spans_do_not_overflow(void **state)
{
	struct policy policy = {.rules = {{1, "DAY", UINT32_MAX, UINT32_MAX, true}}, .rule_count = 1};
	struct pit kept[2] = {point(1, INT64_MIN / 2, 1), point(2, T0, 1)};
	bool expired[2];
	int64_t planned;

	assert_int_equal(pit_rules_due(&policy, NULL, 0, T0, &planned), 1);
	assert_int_equal(pit_expire(&policy, kept, 2, INT64_MAX, expired), 0);
}

static void
age_counts_from_the_newest_point_so_a_dead_source_loses_nothing(void **state)
{
	struct policy policy = drs_policy();
	struct pit kept[2] = {point(1, T0, 1), point(2, T0 + MINUTES(60), 1)};
	bool expired[2];

	assert_int_equal(pit_expire(&policy, kept, 2, T0 + MINUTES(60), expired), 0);
	assert_int_equal(kept[0].rules, 1);
	assert_int_equal(pit_expire(&policy, kept, 2, T0 + MINUTES(60) + 1, expired), 1);
	assert_true(expired[0]);
	assert_false(expired[1]);
}

static void
held_named_newest_complete_and_newest_verified_points_never_go(void **state)
{
	struct policy policy = drs_policy();
	struct pit kept[6];
	bool expired[6];

	for (unsigned i = 0; i < 6; i++)
		kept[i] = point(i + 1, T0, 1);
	kept[0].held = true;
	memcpy(kept[1].name, "before", 7);
	kept[2].verified = true;
	kept[5].complete = false;
	assert_int_equal(pit_expire(&policy, kept, 6, T0 + DAYS(1000), expired), 2);
	assert_true(expired[3]);
	assert_true(expired[5]);
	assert_false(expired[4]); /* the newest complete one */
}

static void
point_kept_by_two_rules_goes_with_the_longer(void **state)
{
	struct policy policy = drs_policy();
	struct pit kept[2] = {point(1, T0, 3), point(2, T0 + DAYS(9), 1)};
	bool expired[2];

	assert_int_equal(pit_expire(&policy, kept, 2, T0 + HOURS(2), expired), 0);
	assert_int_equal(kept[0].rules, 2);
	assert_int_equal(pit_expire(&policy, kept, 2, T0 + HOURS(25), expired), 1);
	assert_true(expired[0]);
}

static void
a_point_shows_all_moments_since_its_checkpoints(void **state)
{
	struct pit unchanged = point(2, 900, 0), row_alone = point(1, 100, 0);

	unchanged.checkpoint = (struct checkpoint){.lsn = 2, .clock_ns = 1200, .clock_offset_ns = 1000};
	assert_int_equal(pit_since_ns(&unchanged), 200);
	unchanged.time_ns = 150; /* our clock was set back: it cannot be newer than itself */
	assert_int_equal(pit_since_ns(&unchanged), 150);
	assert_int_equal(pit_since_ns(&row_alone), 100);
}

/* ---- a long random life, against rules told another way ---- */

enum { LIFE_POINTS_MAX = 4096 };

struct life {
	struct policy policy;
	struct pit kept[LIFE_POINTS_MAX];
	size_t count;
	uint64_t lsn;
	int64_t now_ns;
};

static const int64_t unit_seconds[3] = {60, 3600, 86400};
static const char *const unit_names[3] = {"MINUTE", "HOUR", "DAY"};

static void
random_policy(struct policy *p)
{
	memset(p, 0, sizeof *p);
	p->rule_count = 1 + random_below(4);
	for (size_t i = 0; i < p->rule_count; i++) {
		struct pit_rule *r = &p->rules[i];

		r->rule_id = (uint32_t)i + 1;
		snprintf(r->unit, sizeof r->unit, "%s", unit_names[random_below(3)]);
		r->interval = 1 + (uint32_t)random_below(12);
		r->retention = 1 + (uint32_t)random_below(60);
		r->enabled = random_below(8) != 0;
	}
}

static int64_t
model_unit_ns(const struct pit_rule *r)
{
	for (int i = 0; i < 3; i++)
		if (strcmp(r->unit, unit_names[i]) == 0)
			return unit_seconds[i] * NS_PER_SECOND;
	return 0;
}

/* Due: no point of the rule lies at or after the start of the interval that holds now. */
static bool
model_due(const struct life *l, size_t n)
{
	const struct pit_rule *r = &l->policy.rules[n];
	int64_t interval = r->interval * model_unit_ns(r);
	int64_t start = l->now_ns / interval * interval;

	if (!r->enabled)
		return false;
	for (size_t i = 0; i < l->count; i++)
		if ((l->kept[i].rules & 1u << n) != 0 && l->kept[i].time_ns >= start)
			return false;
	return true;
}

static bool
model_kept(const struct life *l, const struct pit *before, size_t count, size_t i, int64_t newest_ns)
{
	const struct pit *p = &before[i];
	bool newer_complete = false, newer_verified = false;

	for (size_t n = 0; n < l->policy.rule_count; n++) {
		const struct pit_rule *r = &l->policy.rules[n];
		int64_t span = r->retention > r->interval ? r->retention : r->interval;

		if (r->enabled && (p->rules & 1u << n) != 0 && newest_ns - p->time_ns <= span * model_unit_ns(r))
			return true;
	}
	for (size_t k = i + 1; k < count; k++) {
		newer_complete |= before[k].complete;
		newer_verified |= before[k].verified;
	}
	return p->held || p->by_hand || p->name[0] != '\0' || (p->complete && !newer_complete) ||
	       (p->verified && !newer_verified);
}

static void
keep_if_due(struct life *l)
{
	uint32_t due, expected = 0;
	int64_t planned = 0;
	struct pit *p;

	for (size_t n = 0; n < l->policy.rule_count; n++)
		if (model_due(l, n))
			expected |= 1u << n;
	due = pit_rules_due(&l->policy, l->kept, l->count, l->now_ns, &planned);
	assert_int_equal(due, expected);
	l->lsn += 1 + random_below(5);
	if (due == 0 && random_below(50) != 0)
		return;
	p = &l->kept[l->count++];
	*p = point(l->lsn, l->now_ns, due);
	p->by_hand = due == 0;
	p->held = random_below(100) == 0;
	p->verified = random_below(3) == 0;
	if (due != 0) {
		assert_true(planned <= l->now_ns);
		p->planned_ns = planned;
	}
}

static void
drop_expired(struct life *l)
{
	static struct pit before[LIFE_POINTS_MAX];
	static bool expired[LIFE_POINTS_MAX];
	size_t count = l->count, going, left = 0;

	memcpy(before, l->kept, count * sizeof *before);
	going = pit_expire(&l->policy, l->kept, count, l->now_ns, expired);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(!expired[i], model_kept(l, before, count, i, l->now_ns));
		if (!expired[i])
			l->kept[left++] = l->kept[i];
	}
	assert_int_equal(count - left, going);
	l->count = left;
}

static void
random_lives_keep_and_expire_as_the_model_says(void **state)
{
	static struct life l;

	start_seed();
	for (int run = 0; run < 40; run++) {
		random_policy(&l.policy);
		l.count = 0;
		l.lsn = 0;
		l.now_ns = T0;
		for (int step = 0; step < 400 && l.count < LIFE_POINTS_MAX; step++) {
			l.now_ns += (int64_t)random_below((uint64_t)MINUTES(1 + random_below(90)));
			keep_if_due(&l);
			if (random_below(3) == 0)
				drop_expired(&l);
		}
	}
}

static void
id_of_a_point_is_for_ever(void **state)
{
	struct id source = {"s-0123456789abcdef0"};
	struct id other = {"s-0123456789abcdef1"};
	struct id a = checkpoint_pit_id(&source, 42);
	struct id b = checkpoint_pit_id(&source, 43);
	struct id c = checkpoint_pit_id(&other, 42);

	assert_true(id_valid("pit", a.text));
	assert_string_equal(a.text, "pit-c9082a031255bf834");
	assert_string_not_equal(a.text, b.text);
	assert_string_not_equal(a.text, c.text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(only_complete_and_consistent_checkpoints_are_eligible),
	    cmocka_unit_test(first_checkpoint_is_due_for_every_rule_at_once),
	    cmocka_unit_test(points_kept_by_hand_alone_do_not_count_as_the_first),
	    cmocka_unit_test(rule_is_due_in_the_next_aligned_interval_and_not_before),
	    cmocka_unit_test(rule_added_later_is_due_at_once),
	    cmocka_unit_test(rules_without_sense_keep_nothing),
	    cmocka_unit_test(huge_spans_do_not_overflow),
	    cmocka_unit_test(age_counts_from_the_newest_point_so_a_dead_source_loses_nothing),
	    cmocka_unit_test(held_named_newest_complete_and_newest_verified_points_never_go),
	    cmocka_unit_test(point_kept_by_two_rules_goes_with_the_longer),
	    cmocka_unit_test(a_point_shows_all_moments_since_its_checkpoints),
	    cmocka_unit_test(random_lives_keep_and_expire_as_the_model_says),
	    cmocka_unit_test(id_of_a_point_is_for_ever),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
