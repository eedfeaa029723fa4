/* SPDX-License-Identifier: Apache-2.0 */
#include "server/precedence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { NOW = 1000, LEFT = 1000 * 1000 };

static const char ann, bob, cid; /* their addresses are who they are */

static void
without_a_claim_nobody_gives_way(void **state)
{
	struct precedence p = {0};

	assert_false(precedence_yields(&p, &cid, INT64_MAX, NOW));
}

static void
who_is_due_later_gives_way_and_who_is_due_as_soon_does_not(void **state)
{
	struct precedence p = {0};

	precedence_claim(&p, &ann, 50, LEFT, NOW);
	assert_true(precedence_yields(&p, &cid, 51, NOW));
	assert_true(precedence_yields(&p, &cid, INT64_MAX, NOW));
	assert_false(precedence_yields(&p, &cid, 50, NOW));
	assert_false(precedence_yields(&p, &cid, 49, NOW));
}

static void
the_earliest_claim_stands_while_it_lasts(void **state)
{
	struct precedence p = {0};

	precedence_claim(&p, &ann, 50, LEFT, NOW);
	precedence_claim(&p, &bob, 70, LEFT, NOW);
	assert_true(precedence_yields(&p, &cid, 60, NOW));
	precedence_claim(&p, &bob, 40, LEFT, NOW);
	assert_true(precedence_yields(&p, &cid, 45, NOW));
	precedence_claim(&p, &bob, 70, LEFT, NOW + PRECEDENCE_NS);
	assert_false(precedence_yields(&p, &cid, 60, NOW + PRECEDENCE_NS));
	assert_true(precedence_yields(&p, &cid, 71, NOW + PRECEDENCE_NS));
}

static void
a_claimant_does_not_give_way_to_itself_and_moves_its_own_claim(void **state)
{
	struct precedence p = {0};

	precedence_claim(&p, &ann, 50, LEFT, NOW);
	assert_false(precedence_yields(&p, &ann, 60, NOW));
	precedence_claim(&p, &ann, 60, LEFT, NOW);
	assert_false(precedence_yields(&p, &cid, 55, NOW));
	assert_true(precedence_yields(&p, &cid, 65, NOW));
}

static void
a_claim_that_is_withdrawn_ends_and_no_other(void **state)
{
	struct precedence p = {0};

	precedence_claim(&p, &ann, 50, LEFT, NOW);
	precedence_withdraw(&p, &bob);
	assert_true(precedence_yields(&p, &cid, 51, NOW));
	precedence_withdraw(&p, &ann);
	assert_false(precedence_yields(&p, &cid, 51, NOW));
}

static void
a_claim_ends_unless_it_is_made_again(void **state)
{
	struct precedence p = {0};

	precedence_claim(&p, &ann, 50, LEFT, NOW);
	precedence_claim(&p, &ann, 50, LEFT, NOW + PRECEDENCE_NS - 1);
	assert_true(precedence_yields(&p, &cid, 51, NOW + PRECEDENCE_NS));
	assert_false(precedence_yields(&p, &cid, 51, NOW + 2 * PRECEDENCE_NS));
}

static void
however_many_give_way_together_they_may_bring_what_is_left_them(void **state)
{
	struct precedence p = {0};
	bool counted[20] = {false};

	precedence_claim(&p, &ann, 50, LEFT, NOW);
	for (unsigned n = 1; n <= 20; n++) {
		precedence_count(&p, &counted[n - 1], true);
		precedence_count(&p, &counted[n - 1], true); /* as each says every second */
		assert_int_equal(precedence_share(&p), LEFT / n);
	}
	for (unsigned n = 20; n > 1; n--) {
		precedence_count(&p, &counted[n - 1], false);
		precedence_count(&p, &counted[n - 1], false);
		assert_int_equal(precedence_share(&p), LEFT / (n - 1));
	}
}

static void
a_share_is_never_nothing(void **state)
{
	bool counted[20] = {false};
	struct precedence p = {0};

	precedence_claim(&p, &ann, 50, 0, NOW);
	assert_true(precedence_share(&p) > 0);
	for (int i = 0; i < 20; i++)
		precedence_count(&p, &counted[i], true);
	assert_true(precedence_share(&p) > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(without_a_claim_nobody_gives_way),
	    cmocka_unit_test(who_is_due_later_gives_way_and_who_is_due_as_soon_does_not),
	    cmocka_unit_test(the_earliest_claim_stands_while_it_lasts),
	    cmocka_unit_test(a_claimant_does_not_give_way_to_itself_and_moves_its_own_claim),
	    cmocka_unit_test(a_claim_that_is_withdrawn_ends_and_no_other),
	    cmocka_unit_test(a_claim_ends_unless_it_is_made_again),
	    cmocka_unit_test(however_many_give_way_together_they_may_bring_what_is_left_them),
	    cmocka_unit_test(a_share_is_never_nothing),
	};

	return cmocka_run_group_tests_name("precedence", tests, NULL, NULL);
}
