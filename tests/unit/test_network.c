/* SPDX-License-Identifier: Apache-2.0 */
#include "server/network.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/common/status.h"

#define NOW    (1000000 * NS_PER_SECOND)
#define MINUTE (60 * NS_PER_SECOND)

enum { AGENT = 77 }; /* its incarnation */

/* A session that ends with this status, and the next one at now_ns. */
static void
lose(struct network *n, int status, uint64_t incarnation, int64_t now_ns)
{
	network_end(n, status);
	network_begin(n, incarnation, now_ns);
	network_tick(n, now_ns);
}

/* An agent that came at NOW, and lost its session this often, a minute each. */
static struct network
lossy(unsigned losses)
{
	struct network n = {0};

	network_begin(&n, AGENT, NOW);
	for (unsigned i = 1; i <= losses; i++)
		lose(&n, -ECONNRESET, AGENT, NOW + i * MINUTE);
	return n;
}

static void
the_third_loss_within_ten_minutes_is_too_many(void **state)
{
	assert_false(lossy(0).unstable);
	assert_false(lossy(NETWORK_LOSSES - 1).unstable);
	assert_true(lossy(NETWORK_LOSSES).unstable);
	assert_int_equal(lossy(7).lost, 7);
}

static void
losses_far_apart_are_chance(void **state)
{
	struct network n = lossy(0);

	for (int i = 1; i < 20; i++) {
		lose(&n, -ECONNRESET, AGENT, NOW + i * NETWORK_WINDOW_NS / 2);
		assert_false(n.unstable);
	}
}

static void
it_is_steady_when_none_was_lost_for_the_whole_window(void **state)
{
	struct network n = lossy(NETWORK_LOSSES);
	int64_t last_ns = NOW + NETWORK_LOSSES * MINUTE;

	network_tick(&n, last_ns + NETWORK_WINDOW_NS - 1);
	assert_true(n.unstable);
	lose(&n, -HF_ESILENT, AGENT, last_ns + NETWORK_WINDOW_NS - 1); /* one is enough to go on */
	network_tick(&n, last_ns + NETWORK_WINDOW_NS);
	assert_true(n.unstable);
	network_tick(&n, last_ns + 2 * NETWORK_WINDOW_NS);
	assert_false(n.unstable);
	lose(&n, -ECONNRESET, AGENT, last_ns + 2 * NETWORK_WINDOW_NS); /* and too few to begin */
	assert_false(n.unstable);
}

static void
an_agent_that_was_killed_is_no_loss(void **state)
{
	struct network n = lossy(0);

	for (uint64_t i = 1; i < 10; i++)
		lose(&n, -ECONNRESET, AGENT + i, NOW + (int64_t)i);
	assert_int_equal(n.lost, 0);
	assert_false(n.unstable);
}

static void
an_end_that_one_side_wanted_is_no_loss(void **state)
{
	static const int wanted[] = {0, -ESHUTDOWN, -HF_ESHUTDOWN, -HF_EPROTOCOL, -HF_EREVOKED, -HF_ESTOPPED, -ENOMEM};
	struct network n = lossy(0);

	for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
		lose(&n, wanted[i], AGENT, NOW + (int64_t)i);
	assert_int_equal(n.lost, 0);
}

static void
an_end_that_neither_side_wanted_is_a_loss(void **state)
{
	static const int cuts[] = {
	    -ECONNRESET, -EPIPE, -ETIMEDOUT, -EHOSTUNREACH, -ENETUNREACH, -HF_ESILENT, -HF_EFENCED};
	struct network n = lossy(0);

	for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
		lose(&n, cuts[i], AGENT, NOW + (int64_t)i);
		assert_int_equal(n.lost, i + 1);
	}
}

/* Then what never was is not long ago. */
static void
none_is_lost_soon_after_the_machine_was_started(void **state)
{
	struct network n = {0};

	network_begin(&n, AGENT, MINUTE);
	network_tick(&n, MINUTE);
	assert_false(n.unstable);
	for (int i = 1; i < NETWORK_LOSSES; i++)
		lose(&n, -ECONNRESET, AGENT, (i + 1) * MINUTE);
	assert_false(n.unstable);
}

static void
a_session_lost_once_is_counted_once(void **state)
{
	struct network n = lossy(1);

	lose(&n, 0, AGENT, NOW + 2 * MINUTE);
	assert_int_equal(n.lost, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_third_loss_within_ten_minutes_is_too_many),
	    cmocka_unit_test(losses_far_apart_are_chance),
	    cmocka_unit_test(it_is_steady_when_none_was_lost_for_the_whole_window),
	    cmocka_unit_test(an_agent_that_was_killed_is_no_loss),
	    cmocka_unit_test(an_end_that_one_side_wanted_is_no_loss),
	    cmocka_unit_test(an_end_that_neither_side_wanted_is_a_loss),
	    cmocka_unit_test(none_is_lost_soon_after_the_machine_was_started),
	    cmocka_unit_test(a_session_lost_once_is_counted_once),
	};

	return cmocka_run_group_tests_name("network", tests, NULL, NULL);
}
