/* SPDX-License-Identifier: Apache-2.0 */
#include "server/trial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/common/units.h"

enum { START = 1000, SLOW = 1000, FAST = 3000 }; /* seconds; bytes a second */

struct rig {
	struct trial trial;
	int64_t now_s;
	uint64_t bytes;
};

/* How many of so many seconds the others gave way in. */
static int
pass(struct rig *rig, int seconds, bool needed, uint64_t alone_rate, uint64_t shared_rate)
{
	int given = 0;

	for (int i = 0; i < seconds; i++) {
		bool gives = trial_tick(&rig->trial, needed, rig->bytes, rig->now_s++ * NS_PER_SECOND);

		rig->bytes += gives ? alone_rate : shared_rate;
		given += gives;
	}
	return given;
}

static void
nobody_gives_way_unless_it_is_needed(void **state)
{
	struct rig rig = {.now_s = START};

	assert_int_equal(pass(&rig, 600, false, FAST, SLOW), 0);
}

static void
what_it_brings_beside_the_others_is_known_before_they_give_way(void **state)
{
	struct rig rig = {.now_s = START};

	assert_int_equal(pass(&rig, 4, true, FAST, SLOW), 0);
	assert_int_equal(pass(&rig, 1, true, FAST, SLOW), 1);
}

static void
where_it_helps_they_go_on_giving_way_and_it_is_tried_again_after_two_minutes(void **state)
{
	struct rig rig = {.now_s = START};

	assert_int_equal(pass(&rig, 4 + 5 + 120, true, FAST, SLOW), 5 + 120);
	assert_int_equal(pass(&rig, 3 + 4, true, FAST, SLOW), 0);
	assert_int_equal(pass(&rig, 5 + 120, true, FAST, SLOW), 5 + 120);
}

static void
that_it_helps_may_be_seen_late_for_what_is_on_its_way_comes_first(void **state)
{
	struct rig rig = {.now_s = START};

	assert_int_equal(pass(&rig, 4 + 5, true, SLOW, SLOW), 5);
	assert_int_equal(pass(&rig, 5 + 120, true, FAST, SLOW), 5 + 120);
}

static void
where_it_helps_no_longer_it_is_tried_again_at_once(void **state)
{
	struct rig rig = {.now_s = START};

	assert_int_equal(pass(&rig, 4 + 5 + 20, true, FAST, SLOW), 25);
	assert_int_equal(pass(&rig, 10, true, SLOW, SLOW), 10);
	assert_int_equal(pass(&rig, 3 + 4, true, SLOW, SLOW), 0);
	assert_int_equal(pass(&rig, 1, true, SLOW, SLOW), 1);
}

static void
what_it_still_brings_alone_is_not_taken_for_what_it_brings_beside_the_others(void **state)
{
	struct rig rig = {.now_s = START};

	assert_int_equal(pass(&rig, 4 + 5 + 120, true, FAST, SLOW), 5 + 120);
	assert_int_equal(pass(&rig, 3, true, SLOW, FAST), 0); /* until they are back */
	assert_int_equal(pass(&rig, 4, true, FAST, SLOW), 0);
	assert_int_equal(pass(&rig, 5 + 120, true, FAST, SLOW), 5 + 120);
}

static void
where_it_does_not_help_they_are_left_in_peace_for_five_minutes(void **state)
{
	struct rig rig = {.now_s = START};

	assert_int_equal(pass(&rig, 4 + 10, true, SLOW + SLOW / 5, SLOW), 10);
	assert_int_equal(pass(&rig, 300 + 4, true, SLOW, SLOW), 0);
	assert_int_equal(pass(&rig, 1, true, SLOW, SLOW), 1);
}

static void
a_quarter_more_is_help_enough(void **state)
{
	struct rig rig = {.now_s = START};

	assert_int_equal(pass(&rig, 4 + 5 + 120, true, SLOW + SLOW * 3 / 10, SLOW), 5 + 120);
}

static void
who_brings_nothing_either_way_is_not_helped(void **state)
{
	struct rig rig = {.now_s = START};

	assert_int_equal(pass(&rig, 4 + 10 + 60, true, 0, 0), 10);
}

/* The processor was not ours for a while: they gave way for longer, and it brought more, but not faster. */
static void
it_is_the_rate_that_counts(void **state)
{
	struct rig rig = {.now_s = START};

	pass(&rig, 4 + 1, true, SLOW, SLOW);
	rig.now_s += 30;
	rig.bytes += 30 * SLOW;
	assert_int_equal(pass(&rig, 60, true, SLOW, SLOW), 5);
}

static void
what_was_in_vain_is_so_although_it_was_not_needed_for_a_moment(void **state)
{
	struct rig rig = {.now_s = START};

	pass(&rig, 4 + 10 + 1, true, SLOW, SLOW);
	assert_int_equal(pass(&rig, 10, false, SLOW, SLOW), 0);
	assert_int_equal(pass(&rig, 280, true, SLOW, SLOW), 0);
}

static void
it_ends_at_once_when_it_is_needed_no_longer(void **state)
{
	struct rig rig = {.now_s = START};

	pass(&rig, 20, true, FAST, SLOW);
	assert_int_equal(pass(&rig, 1, false, FAST, SLOW), 0);
}

static void
needed_again_it_is_tried_when_the_others_are_back(void **state)
{
	struct rig rig = {.now_s = START};

	pass(&rig, 20, true, FAST, SLOW);
	assert_int_equal(pass(&rig, 1, false, FAST, SLOW), 0);
	assert_int_equal(pass(&rig, 4 + 2, true, SLOW, SLOW), 0);
	assert_int_equal(pass(&rig, 1, true, FAST, SLOW), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(nobody_gives_way_unless_it_is_needed),
	    cmocka_unit_test(what_it_brings_beside_the_others_is_known_before_they_give_way),
	    cmocka_unit_test(where_it_helps_they_go_on_giving_way_and_it_is_tried_again_after_two_minutes),
	    cmocka_unit_test(that_it_helps_may_be_seen_late_for_what_is_on_its_way_comes_first),
	    cmocka_unit_test(where_it_helps_no_longer_it_is_tried_again_at_once),
	    cmocka_unit_test(what_it_still_brings_alone_is_not_taken_for_what_it_brings_beside_the_others),
	    cmocka_unit_test(where_it_does_not_help_they_are_left_in_peace_for_five_minutes),
	    cmocka_unit_test(a_quarter_more_is_help_enough),
	    cmocka_unit_test(who_brings_nothing_either_way_is_not_helped),
	    cmocka_unit_test(it_is_the_rate_that_counts),
	    cmocka_unit_test(what_was_in_vain_is_so_although_it_was_not_needed_for_a_moment),
	    cmocka_unit_test(it_ends_at_once_when_it_is_needed_no_longer),
	    cmocka_unit_test(needed_again_it_is_tried_when_the_others_are_back),
	};

	return cmocka_run_group_tests_name("trial", tests, NULL, NULL);
}
