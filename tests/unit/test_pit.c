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
	struct pit p = {
	    .lsn = lsn,
	    .time_ns = time_ns,
	    .running_ns = time_ns,
	    .rules = rules,
	    .complete = true,
	    .consistency = CHECKPOINT_CRASH,
	};

	return p;
}

/* Of a source that has always run, under a clock that was never set. */
static uint32_t
rules_due(const struct policy *policy, const struct pit *kept, size_t count, int64_t time_ns, int64_t *ret_planned_ns)
{
	return pit_rules_due(policy, kept, count, time_ns, time_ns, ret_planned_ns);
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

	assert_int_equal(rules_due(&policy, NULL, 0, T0 + MINUTES(3), &planned), 7);
	assert_int_equal(planned, T0 + MINUTES(3));
}

static void
points_kept_by_hand_alone_do_not_count_as_the_first(void **state)
{
	struct policy policy = drs_policy();
	struct pit by_hand = point(1, T0, 0);
	int64_t planned = 0;

	by_hand.by_hand = true;
	assert_int_equal(rules_due(&policy, &by_hand, 1, T0 + MINUTES(3), &planned), 7);
	assert_int_equal(planned, T0 + MINUTES(3));
}

static void
rule_is_due_in_the_next_aligned_interval_and_not_before(void **state)
{
	struct policy policy = drs_policy();
	struct pit kept = point(1, T0 + MINUTES(9), 7);
	int64_t planned = -1;

	assert_int_equal(rules_due(&policy, &kept, 1, T0 + MINUTES(10) - 1, &planned), 0);
	assert_int_equal(planned, -1);
	assert_int_equal(rules_due(&policy, &kept, 1, T0 + MINUTES(10), &planned), 1);
	assert_int_equal(planned, T0 + MINUTES(10));
	assert_int_equal(rules_due(&policy, &kept, 1, T0 + MINUTES(67), &planned), 3);
	assert_int_equal(planned, T0 + MINUTES(60));
	assert_int_equal(rules_due(&policy, &kept, 1, T0 + DAYS(1), &planned), 7);
}

static void
rule_added_later_is_due_at_once(void **state)
{
	struct policy policy = drs_policy();
	struct pit kept = point(1, T0, 1);
	int64_t planned = 0;

	assert_int_equal(rules_due(&policy, &kept, 1, T0 + MINUTES(1), &planned), 6);
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
	assert_int_equal(rules_due(&policy, NULL, 0, T0, &planned), 0);
	assert_int_equal(pit_expire(&policy, pits, 2, T0, SIZE_MAX, expired), 1);
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

	assert_int_equal(rules_due(&policy, NULL, 0, T0, &planned), 1);
	assert_int_equal(pit_expire(&policy, kept, 2, INT64_MAX, SIZE_MAX, expired), 0);
}

static void
age_counts_from_the_newest_point_so_a_dead_source_loses_nothing(void **state)
{
	struct policy policy = drs_policy();
	struct pit kept[2] = {point(1, T0, 1), point(2, T0 + MINUTES(60), 1)};
	bool expired[2];

	assert_int_equal(pit_expire(&policy, kept, 2, T0 + MINUTES(60), SIZE_MAX, expired), 0);
	assert_int_equal(kept[0].rules, 1);
	assert_int_equal(pit_expire(&policy, kept, 2, T0 + MINUTES(60) + 1, SIZE_MAX, expired), 1);
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
	kept[2].verified_ns = 1;
	kept[5].complete = false;
	assert_int_equal(pit_expire(&policy, kept, 6, T0 + DAYS(1000), SIZE_MAX, expired), 2);
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

	assert_int_equal(pit_expire(&policy, kept, 2, T0 + HOURS(2), SIZE_MAX, expired), 0);
	assert_int_equal(kept[0].rules, 2);
	assert_int_equal(pit_expire(&policy, kept, 2, T0 + HOURS(25), SIZE_MAX, expired), 1);
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

static void
fuzzy_and_incomplete_points_never_stand_in_for_a_complete_one(void **state)
{
	struct policy policy = drs_policy();
	struct pit kept[3] = {point(1, T0, 1), point(2, T0 + HOURS(30), 0), point(3, T0 + HOURS(30), 0)};
	bool expired[3];

	kept[1].consistency = CHECKPOINT_FUZZY;
	kept[1].verified_ns = 1;
	kept[2].complete = false;
	assert_int_equal(pit_expire(&policy, kept, 3, T0 + HOURS(30), SIZE_MAX, expired), 2);
	assert_false(expired[0]);
	pit_assign(&policy, kept, 3);
	assert_int_equal(kept[0].rules, 7);
	assert_int_equal(kept[1].rules | kept[2].rules, 0);
}

static void
for_want_of_room_the_oldest_goes_that_only_rules_keep(void **state)
{
	struct pit kept[6];

	for (unsigned i = 0; i < 6; i++)
		kept[i] = point(i + 1, T0 + MINUTES((int)i), 7);
	assert_ptr_equal(pit_oldest_that_may_go(kept, 6, T0 + MINUTES(5)), &kept[0]);
	kept[0].held = true;
	kept[1].by_hand = true;
	snprintf(kept[2].name, sizeof kept[2].name, "named");
	assert_ptr_equal(pit_oldest_that_may_go(kept, 6, T0 + MINUTES(5)), &kept[3]);
	kept[3].guarded_ns = T0 + MINUTES(5) + 1;
	assert_ptr_equal(pit_oldest_that_may_go(kept, 6, T0 + MINUTES(5)), &kept[4]);
	kept[4].verified_ns = 1;
	assert_null(pit_oldest_that_may_go(kept, 6, T0 + MINUTES(5)));
	assert_null(pit_oldest_that_may_go(kept, 0, T0));
}

static void
for_want_of_room_the_last_good_point_stays_though_there_are_newer_fuzzy_ones(void **state)
{
	struct pit kept[3] = {point(1, T0, 7), point(2, T0 + 1, 7), point(3, T0 + 2, 0)};

	kept[2].consistency = CHECKPOINT_FUZZY;
	kept[2].by_hand = true;
	kept[2].verified_ns = 1;
	assert_ptr_equal(pit_oldest_that_may_go(kept, 3, T0 + 2), &kept[0]);
	assert_null(pit_oldest_that_may_go(kept + 1, 2, T0 + 2));
}

static void
clock_that_was_set_back_does_not_end_the_history(void **state)
{
	struct policy policy = drs_policy();
	struct pit kept = point(1, T0 + DAYS(365), 7);
	int64_t planned;

	kept.running_ns = T0;
	assert_int_equal(pit_rules_due(&policy, &kept, 1, T0 + 1, T0 + 1, &planned), 0);
	assert_int_equal(pit_rules_due(&policy, &kept, 1, T0 + MINUTES(10), T0 + MINUTES(10), &planned), 1);
	assert_int_equal(planned, T0 + MINUTES(10));
	assert_int_equal(pit_rules_due(&policy, &kept, 1, T0 + DAYS(1), T0 + DAYS(1), &planned), 7);
}

static void
clock_that_jumps_ahead_expires_nothing(void **state)
{
	struct policy policy = drs_policy();
	struct pit kept[3] = {point(1, T0, 1), point(2, T0 + MINUTES(10), 1), point(3, T0 + DAYS(3650), 7)};
	bool expired[3];

	kept[2].running_ns = T0 + MINUTES(20);
	assert_int_equal(pit_expire(&policy, kept, 3, T0 + MINUTES(20), SIZE_MAX, expired), 0);
}

static void
what_one_run_may_expire_is_bounded_and_the_oldest_go_first(void **state)
{
	struct policy policy = drs_policy();
	struct pit kept[5];
	bool expired[5];

	for (unsigned i = 0; i < 5; i++)
		kept[i] = point(i + 1, T0, 1);
	assert_int_equal(pit_expire(&policy, kept, 5, T0 + DAYS(1), 2, expired), 2);
	assert_true(expired[0] && expired[1] && !expired[2] && !expired[3] && !expired[4]);
	assert_int_equal(pit_expire(&policy, kept, 5, T0 + DAYS(1), SIZE_MAX, expired), 4);
}

static void
min_retention_guards_points_and_cannot_be_taken_back(void **state)
{
	struct policy policy = drs_policy();
	struct pit kept[2] = {point(1, T0, 0), point(2, T0 + DAYS(1), 7)};
	bool flags[2];

	assert_int_equal(pit_guarded_ns(&policy, T0), 0);
	policy.min_retention_ns = DAYS(3);
	assert_int_equal(pit_guarded_ns(&policy, T0), T0 + DAYS(3));
	pit_assign(&policy, kept, 2);
	policy.min_retention_ns = 0;
	pit_assign(&policy, kept, 2);
	memset(policy.rules, 0, sizeof policy.rules); /* nothing else keeps them */
	assert_int_equal(pit_expire(&policy, kept, 2, T0 + DAYS(3) - 1, SIZE_MAX, flags), 0);
	assert_null(pit_oldest_that_may_go(kept, 2, T0 + DAYS(3) - 1));
	assert_ptr_equal(pit_oldest_that_may_go(kept, 2, T0 + DAYS(3)), &kept[0]);
	assert_int_equal(pit_expire(&policy, kept, 2, T0 + DAYS(3), SIZE_MAX, flags), 1);
	assert_true(flags[0]);
}

/* A point of every ten minutes; each rule takes those it would have taken. */
static void
another_policy_keeps_what_it_would_have_kept(void **state)
{
	struct policy policy = {
	    .rules = {{1, "DAY", 1, 7, true}, {2, "MINUTE", 30, 600, true}},
	    .rule_count = 2,
	};
	static struct pit kept[300];

	for (unsigned i = 0; i < 300; i++)
		kept[i] = point(i + 1, T0 + MINUTES(10) * i + 1, 0xffff);
	pit_assign(&policy, kept, 300);
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(kept[i].rules, (i % 144 == 0 ? 1 : 0) + (i % 3 == 0 ? 2 : 0));
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
		newer_verified |= before[k].verified_ns != 0;
	}
	return p->held || p->by_hand || p->name[0] != '\0' || (p->complete && !newer_complete) ||
	       (p->verified_ns != 0 && !newer_verified);
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
	due = rules_due(&l->policy, l->kept, l->count, l->now_ns, &planned);
	assert_int_equal(due, expected);
	l->lsn += 1 + random_below(5);
	if (due == 0 && random_below(50) != 0)
		return;
	p = &l->kept[l->count++];
	*p = point(l->lsn, l->now_ns, due);
	p->by_hand = due == 0;
	p->held = random_below(100) == 0;
	p->verified_ns = random_below(3) == 0;
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
	going = pit_expire(&l->policy, l->kept, count, l->now_ns, SIZE_MAX, expired);
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

/* ---- whatever happens to clocks, sources and policies ---- */

struct trouble {
	struct life life;
	int64_t running_ns;
};

static bool
eligible(const struct pit *p)
{
	return p->complete && p->consistency >= CHECKPOINT_CRASH;
}

static void
add_point(struct trouble *w)
{
	struct life *l = &w->life;
	struct pit p = point(++l->lsn, l->now_ns, 0);
	int64_t planned;

	p.running_ns = w->running_ns;
	p.guarded_ns = pit_guarded_ns(&l->policy, w->running_ns);
	p.complete = random_below(10) != 0;
	p.consistency = random_below(10) != 0 ? CHECKPOINT_CRASH : CHECKPOINT_FUZZY;
	p.by_hand = random_below(30) == 0;
	if (eligible(&p))
		p.rules = pit_rules_due(&l->policy, l->kept, l->count, l->now_ns, w->running_ns, &planned);
	if (p.rules != 0 || p.by_hand)
		l->kept[l->count++] = p;
}

static void
change_a_point(struct life *l)
{
	struct pit *p = &l->kept[l->count > 0 ? random_below(l->count) : 0];

	switch (l->count > 0 ? random_below(5) : 5) {
	case 0: p->held = true; break;
	case 1: p->held = false; break;
	case 2: p->verified_ns = 1; break;
	case 3: p->verified_ns = 0; break;
	case 4: snprintf(p->name, sizeof p->name, "%s", random_below(2) == 0 ? "named" : ""); break;
	}
}

/* What no policy, clock or outage may take. */
static void
check_expired(const struct trouble *w, const struct pit *before, size_t count, const bool *expired, size_t max)
{
	const struct pit *complete = NULL, *verified = NULL;
	size_t going = 0;

	for (size_t i = 0; i < count; i++) {
		const struct pit *p = &before[i];

		if (eligible(p))
			complete = p;
		if (eligible(p) && p->verified_ns != 0)
			verified = p;
		going += expired[i];
		assert_false(expired[i] && (p->held || p->by_hand || p->name[0] != '\0'));
		assert_false(expired[i] && w->running_ns < p->guarded_ns);
	}
	assert_true(going <= max);
	for (size_t i = 0; i < count; i++)
		assert_false(expired[i] && (&before[i] == complete || &before[i] == verified));
}

static size_t
expire_some(struct trouble *w)
{
	static struct pit before[LIFE_POINTS_MAX];
	static bool expired[LIFE_POINTS_MAX];
	struct life *l = &w->life;
	size_t count = l->count, max = random_below(4) == 0 ? 1 + random_below(3) : SIZE_MAX;
	size_t going;

	memcpy(before, l->kept, count * sizeof *before);
	going = pit_expire(&l->policy, l->kept, count, w->running_ns, max, expired);
	check_expired(w, before, count, expired, max);
	l->count = 0;
	for (size_t i = 0; i < count; i++)
		if (!expired[i])
			l->kept[l->count++] = l->kept[i];
	return going;
}

static void
expire_all(struct trouble *w)
{
	while (expire_some(w) > 0)
		;
}

/* The clock jumps, or the source is dead and the daemon off for days: the running time stands still. */
static void
stand_still(struct trouble *w)
{
	expire_all(w);
	w->life.now_ns += (int64_t)random_below((uint64_t)DAYS(100)) - (random_below(3) == 0 ? DAYS(100) : 0);
	assert_int_equal(expire_some(w), 0);
}

static void
trouble_step(struct trouble *w)
{
	int64_t passed = (int64_t)random_below((uint64_t)MINUTES(1 + random_below(90)));

	w->life.now_ns += passed;
	w->running_ns += passed;
	add_point(w);
	if (random_below(3) == 0)
		change_a_point(&w->life);
	if (random_below(3) == 0)
		(void)expire_some(w);
	if (random_below(20) == 0)
		stand_still(w);
	if (random_below(60) != 0)
		return;
	random_policy(&w->life.policy);
	w->life.policy.min_retention_ns = (int64_t)random_below((uint64_t)DAYS(2));
	pit_assign(&w->life.policy, w->life.kept, w->life.count);
}

static void
random_trouble_never_takes_what_must_stay(void **state)
{
	static struct trouble w;

	start_seed();
	for (int run = 0; run < 40; run++) {
		w.life.count = 0;
		w.life.lsn = 0;
		w.life.now_ns = w.running_ns = T0;
		random_policy(&w.life.policy);
		for (int step = 0; step < 500; step++)
			trouble_step(&w);
	}
}

/* A rule of interval I and retention R promises a point in each aligned interval that begins within R. */
static void
check_promise(const struct life *l, size_t n)
{
	const struct pit_rule *r = &l->policy.rules[n];
	int64_t interval = r->interval * model_unit_ns(r), retention = r->retention * model_unit_ns(r);

	for (int64_t start = l->now_ns / interval * interval; start >= T0 && start >= l->now_ns - retention;
	     start -= interval) {
		bool found = false;

		for (size_t i = 0; i < l->count && !found; i++)
			found = l->kept[i].time_ns >= start && l->kept[i].time_ns < start + interval;
		if (!found)
			fail_msg(
			    "rule %zu has no point of %lld s ago", n, (long long)((l->now_ns - start) / NS_PER_SECOND));
	}
}

/* The grid of each reaches back retention / interval steps, and one. */
static void
five_rules_together_keep_what_each_promises_and_no_more(void **state)
{
	static const struct policy policy = {
	    .rules = {{1, "MINUTE", 5, 15, true}, {2, "MINUTE", 10, 60, true}, {3, "HOUR", 1, 24, true},
		{4, "HOUR", 4, 48, true}, {5, "DAY", 1, 7, true}},
	    .rule_count = 5,
	};
	static struct trouble w;

	w.life.policy = policy;
	w.life.now_ns = w.running_ns = T0;
	for (int minute = 0; minute < 10 * 24 * 60; minute++) {
		int64_t planned;
		struct pit p = point(++w.life.lsn, w.life.now_ns, 0);

		p.rules = rules_due(&policy, w.life.kept, w.life.count, w.life.now_ns, &planned);
		if (p.rules != 0)
			w.life.kept[w.life.count++] = p;
		expire_all(&w);
		for (size_t n = 0; n < 5 && minute % 7 == 0; n++)
			check_promise(&w.life, n);
		assert_true(w.life.count <= 4 + 7 + 25 + 13 + 8);
		w.life.now_ns += MINUTES(1);
		w.running_ns += MINUTES(1);
	}
}

static void
id_of_a_point_is_for_ever(void **state)
{
	struct id source = {"s-0123456789abcdef0"};
	struct id other = {"s-0123456789abcdef1"};
	struct id a = checkpoint_pit_id(&source, 42, 0);
	struct id b = checkpoint_pit_id(&source, 43, 0);
	struct id c = checkpoint_pit_id(&other, 42, 0);
	struct id d = checkpoint_pit_id(&source, 42, 0x1122334455667788);
	struct id e = checkpoint_pit_id(&source, 42, 0x1122334455667789);

	assert_true(id_valid("pit", a.text));
	assert_string_equal(a.text, "pit-c9082a031255bf834");
	assert_string_equal(d.text, "pit-11f81d6e82667fbb8");
	assert_string_not_equal(a.text, b.text);
	assert_string_not_equal(a.text, c.text);
	assert_string_not_equal(a.text, d.text);
	assert_string_not_equal(d.text, e.text);
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
	    cmocka_unit_test(fuzzy_and_incomplete_points_never_stand_in_for_a_complete_one),
	    cmocka_unit_test(for_want_of_room_the_oldest_goes_that_only_rules_keep),
	    cmocka_unit_test(for_want_of_room_the_last_good_point_stays_though_there_are_newer_fuzzy_ones),
	    cmocka_unit_test(clock_that_was_set_back_does_not_end_the_history),
	    cmocka_unit_test(clock_that_jumps_ahead_expires_nothing),
	    cmocka_unit_test(what_one_run_may_expire_is_bounded_and_the_oldest_go_first),
	    cmocka_unit_test(min_retention_guards_points_and_cannot_be_taken_back),
	    cmocka_unit_test(another_policy_keeps_what_it_would_have_kept),
	    cmocka_unit_test(random_trouble_never_takes_what_must_stay),
	    cmocka_unit_test(five_rules_together_keep_what_each_promises_and_no_more),
	    cmocka_unit_test(random_lives_keep_and_expire_as_the_model_says),
	    cmocka_unit_test(id_of_a_point_is_for_ever),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
