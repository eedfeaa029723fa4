/* SPDX-License-Identifier: Apache-2.0 */
#include "server/stages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/units.h"

/* Ten seconds of a source, sampled once a second, in which each second brings so much of `each`. */
static struct stages
ten_seconds(const struct stage_sample *each)
{
	struct stage_sample sample = {0};
	struct stages s = {0};

	for (int i = 0; i <= 10; i++) {
		stages_add(&s, &sample);
		sample.at_ns += NS_PER_SECOND;
		sample.agent.source_ns += each->agent.source_ns;
		sample.agent.tls_ns += each->agent.tls_ns;
		sample.agent.network_ns += each->agent.network_ns;
		sample.agent.server_ns += each->agent.server_ns;
		sample.throttle_ns += each->throttle_ns;
		sample.sync_ns += each->sync_ns;
	}
	return s;
}

static const char *
bottleneck_of(const struct stage_sample *each, double ret_shares[STAGES])
{
	struct stages s = ten_seconds(each);
	int stage;

	assert_true(stages_get(&s, ret_shares));
	stage = stages_bottleneck(ret_shares);
	return stage < 0 ? "" : stage_name((enum stage)stage);
}

#define S NS_PER_SECOND

static void
each_stage_is_named_when_it_is_waited_for(void **state)
{
	static const struct {
		struct stage_sample each;
		const char *name;
	} cases[] = {
	    {{.agent = {.source_ns = S / 2, .tls_ns = S / 4}}, "SOURCE_READ"},
	    {{.agent = {.source_ns = S / 8, .tls_ns = S / 2}}, "TLS"},
	    {{.agent = {.network_ns = S - S / 8, .tls_ns = S / 8}}, "NETWORK"},
	    {{.agent = {.network_ns = S}, .throttle_ns = S - S / 4}, "THROTTLE"},
	    {{.agent = {.server_ns = S}, .throttle_ns = S}, "THROTTLE"},
	    {{.agent = {.server_ns = S}, .sync_ns = S / 8}, "WRITE"},
	    {{.agent = {.server_ns = S}, .sync_ns = S}, "SYNC"},
	    {{.agent = {.source_ns = S / 8}, .sync_ns = S, .throttle_ns = S}, ""}, /* nobody waited */
	};
	double shares[STAGES];

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_string_equal(bottleneck_of(&cases[i].each, shares), cases[i].name);
}

static void
shares_are_of_the_time_that_passed(void **state)
{
	const struct stage_sample each = {.agent = {.network_ns = S / 2, .server_ns = S / 4}, .sync_ns = S / 8};
	double shares[STAGES];

	assert_string_equal(bottleneck_of(&each, shares), "NETWORK");
	assert_true(shares[STAGE_NETWORK] == 0.5);
	assert_true(shares[STAGE_SYNC] == 0.125);
	assert_true(shares[STAGE_WRITE] == 0.125);
	assert_true(shares[STAGE_SOURCE] == 0);
}

static void
what_an_agent_makes_up_is_no_more_than_the_time(void **state)
{
	const struct stage_sample each = {.agent = {.network_ns = UINT64_MAX / 16}};
	double shares[STAGES];

	assert_string_equal(bottleneck_of(&each, shares), "NETWORK");
	assert_true(shares[STAGE_NETWORK] == 1);
}

static void
an_agent_that_does_not_measure_is_not_known(void **state)
{
	const struct stage_sample each = {.throttle_ns = S, .sync_ns = S};
	struct stages s = ten_seconds(&each);
	double shares[STAGES];

	assert_false(stages_get(&s, shares));
}

static void
what_was_ten_seconds_ago_is_forgotten(void **state)
{
	const struct stage_sample each = {.agent = {.network_ns = S}};
	struct stages s = ten_seconds(&each);
	struct stage_sample sample = s.samples[s.count - 1];
	double shares[STAGES];

	for (int i = 0; i < STAGE_SAMPLES; i++) {
		sample.at_ns += 2 * S;
		sample.agent.source_ns += 2 * S;
		stages_add(&s, &sample);
	}
	assert_true(stages_get(&s, shares));
	assert_true(shares[STAGE_NETWORK] == 0);
	assert_true(shares[STAGE_SOURCE] == 1);
}

static void
what_is_so_now_is_told_before_ten_seconds_say_so(void **state)
{
	const struct stage_sample each = {.agent = {.network_ns = S}};
	struct stages s = ten_seconds(&each);
	struct stage_sample sample = s.samples[s.count - 1];
	double shares[STAGES];

	assert_true(stages_get_newest(&s, shares));
	assert_true(shares[STAGE_NETWORK] == 1);
	sample.at_ns += 2 * S;
	stages_add(&s, &sample);
	assert_true(stages_get_newest(&s, shares));
	assert_true(shares[STAGE_NETWORK] == 0);
	assert_true(stages_get(&s, shares));
	assert_true(shares[STAGE_NETWORK] > 0.5);
}

static void
an_agent_that_was_started_again_begins_anew(void **state)
{
	const struct stage_sample each = {.agent = {.network_ns = S}};
	struct stages s = ten_seconds(&each);
	struct stage_sample sample = {.at_ns = s.samples[s.count - 1].at_ns + S, .agent = {.tls_ns = 1}};
	double shares[STAGES];

	stages_add(&s, &sample);
	assert_false(stages_get(&s, shares));
	sample.at_ns += 2 * S;
	stages_add(&s, &sample);
	assert_true(stages_get(&s, shares));
	assert_int_equal(stages_bottleneck(shares), -1);
	sample.at_ns += 3600 * S; /* it was away */
	stages_add(&s, &sample);
	assert_false(stages_get(&s, shares));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_stage_is_named_when_it_is_waited_for),
	    cmocka_unit_test(shares_are_of_the_time_that_passed),
	    cmocka_unit_test(what_an_agent_makes_up_is_no_more_than_the_time),
	    cmocka_unit_test(an_agent_that_does_not_measure_is_not_known),
	    cmocka_unit_test(what_was_ten_seconds_ago_is_forgotten),
	    cmocka_unit_test(what_is_so_now_is_told_before_ten_seconds_say_so),
	    cmocka_unit_test(an_agent_that_was_started_again_begins_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
