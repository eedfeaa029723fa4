/* SPDX-License-Identifier: Apache-2.0 */
#include "server/state.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/status.h"
#include "proto/common/units.h"

/* A source for which all is well: each test spoils one thing. */
static struct state_facts
good_facts(void)
{
	return (struct state_facts){
	    .now_ns = 1000 * NS_PER_SECOND,
	    .connected = true,
	    .ever_connected = true,
	    .activity = ACTIVITY_IDLE,
	    .bottleneck = -1,
	    .volumes = 2,
	    .volumes_filled = 2,
	    .total_bytes = 200,
	    .replicated_bytes = 200,
	    .has_checkpoint = true,
	    .has_consistent = true,
	    .verified = true,
	    .lag_ns = NS_PER_SECOND,
	};
}

static bool
drs_knows(const char *error)
{
	static const char *const errors[] = {"AGENT_NOT_SEEN", "SNAPSHOTS_FAILURE", "NOT_CONVERGING",
	    "UNSTABLE_NETWORK", "FAILED_TO_AUTHENTICATE_WITH_SERVICE", "FAILED_TO_ATTACH_STAGING_DISKS",
	    "FAILED_TO_PAIR_REPLICATION_SERVER_WITH_AGENT"};

	for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
		if (strcmp(errors[i], error) == 0)
			return true;
	return false;
}

static struct state_verdict
judge(const struct state_facts *f)
{
	struct state_verdict v;

	state_evaluate(f, &v);
	/* What holds of every verdict. */
	assert_string_not_equal(v.reason, "");
	assert_int_equal(v.ready, v.reason_count == 0);
	for (size_t i = 0; i < v.reason_count; i++) {
		assert_string_not_equal(v.reasons[i].code, "");
		assert_string_not_equal(v.reasons[i].text, "");
	}
	if (v.error[0] != '\0') {
		assert_string_not_equal(v.raw_error, "");
		assert_true(drs_knows(state_drs_error(v.error)));
	}
	return v;
}

static void
rot_in_old_points_is_told_and_stops_nothing(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	snprintf(f.damage_text, sizeof f.damage_text, "damaged blocks: 1; points that cannot be exported whole: 2");
	v = judge(&f);
	assert_int_equal(v.state, STATE_CONTINUOUS);
	assert_string_equal(v.error, "INTEGRITY_ERROR");
	assert_string_equal(v.raw_error, f.damage_text);
	assert_string_not_equal(v.cure, "");
	assert_true(v.ready);
}

static void
rot_in_the_newest_point_is_not_ready(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	f.newest_damaged = true;
	snprintf(f.damage_text, sizeof f.damage_text, "damaged blocks: 1; points that cannot be exported whole: 2");
	v = judge(&f);
	assert_false(v.ready);
	assert_string_equal(v.reasons[0].code, "INTEGRITY_ERROR");
	assert_int_equal(v.state, STATE_CONTINUOUS);
}

static void
an_unstable_network_is_told_and_stops_nothing(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	f.network_unstable = true;
	v = judge(&f);
	assert_int_equal(v.state, STATE_CONTINUOUS);
	assert_string_equal(v.error, "UNSTABLE_NETWORK");
	assert_string_equal(state_drs_error(v.error), "UNSTABLE_NETWORK");
	assert_string_not_equal(v.cure, "");
	assert_true(v.ready);
	f.staging_full = true; /* what holds it up is told first */
	assert_string_equal(judge(&f).error, "STAGING_FULL");
}

static void
an_agent_gone_from_an_unstable_network_is_not_looked_for_on_the_source(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	f.network_unstable = true;
	f.connected = false;
	v = judge(&f);
	assert_int_equal(v.state, STATE_DISCONNECTED);
	assert_string_equal(v.error, "UNSTABLE_NETWORK");
	assert_non_null(strstr(v.reason, "not connected"));
	assert_non_null(strstr(v.cure, "path"));
	f.network_unstable = false;
	assert_string_equal(judge(&f).error, "AGENT_NOT_SEEN");
}

static void
all_is_well(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v = judge(&f);

	(void)state;
	assert_int_equal(v.state, STATE_CONTINUOUS);
	assert_string_equal(v.error, "");
	assert_true(v.ready);
}

static void
enrolled_and_never_seen_is_initiating(void **state)
{
	struct state_facts f = {.lag_ns = -1};
	struct state_verdict v = judge(&f);

	(void)state;
	assert_int_equal(v.state, STATE_INITIATING);
	assert_false(v.ready);
	assert_string_equal(v.reasons[v.reason_count - 1].code, "AGENT_NOT_SEEN");
}

static void
a_stopped_source_says_so_and_stays_ready(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.connected = false;
	f.stopped = true;
	v = judge(&f);
	assert_int_equal(v.state, STATE_STOPPED);
	assert_string_equal(v.error, "");
	assert_non_null(strstr(v.cure, "source start"));
	assert_true(v.ready);
	f.store_status = -HF_ECORRUPT; /* that is worse */
	snprintf(f.store_text, sizeof f.store_text, "a segment is missing");
	assert_int_equal(judge(&f).state, STATE_STALLED);
}

static void
a_paused_source_says_so_unless_its_agent_is_gone(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	f.paused = f.staging_full = true;
	v = judge(&f);
	assert_int_equal(v.state, STATE_PAUSED);
	assert_non_null(strstr(v.reason, "paused by an administrator"));
	assert_true(v.ready);
	f.connected = false;
	assert_int_equal(judge(&f).state, STATE_DISCONNECTED);
	f.connected = true;
	f.paused = false;
	assert_int_equal(judge(&f).state, STATE_STALLED);
}

static void
a_source_that_is_being_deleted_is_not_ready(void **state)
{
	struct state_facts f = good_facts();

	(void)state;
	f.deleting = true;
	assert_int_equal(judge(&f).state, STATE_STOPPED);
	assert_false(judge(&f).ready);
}

static void
filling_is_initial_sync_and_says_how_far(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.volumes_filled = 1;
	f.replicated_bytes = 50;
	f.has_consistent = f.has_checkpoint = f.verified = false;
	v = judge(&f);
	assert_int_equal(v.state, STATE_INITIAL_SYNC);
	assert_false(v.ready);
	assert_string_equal(v.reasons[0].code, "INITIAL_SYNC");
	assert_non_null(strstr(v.reasons[0].text, "25 %"));
	assert_non_null(strstr(v.reasons[0].text, "1 of 2"));
}

static void
a_new_volume_is_filled_while_the_old_point_keeps_the_source_ready(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.volumes = 3;
	v = judge(&f);
	assert_int_equal(v.state, STATE_INITIAL_SYNC);
	assert_true(v.ready);
}

static void
filled_without_a_point_is_creating_snapshot(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.has_consistent = f.has_checkpoint = f.verified = false;
	v = judge(&f);
	assert_int_equal(v.state, STATE_CREATING_SNAPSHOT);
	assert_string_equal(v.error, "");
	assert_string_equal(v.reasons[0].code, "NO_CONSISTENT_POINT");
}

static void
only_fuzzy_points_are_not_enough_and_the_cure_is_told(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.has_consistent = f.verified = false;
	v = judge(&f);
	assert_int_equal(v.state, STATE_CREATING_SNAPSHOT);
	assert_string_equal(v.error, "NO_CONSISTENT_POINT");
	assert_false(v.ready);
	assert_non_null(strstr(v.reasons[0].cure, "--freeze MOUNTPOINT"));
	assert_non_null(strstr(v.reasons[0].cure, "--freeze-timeout"));
}

static void
a_point_counts_only_when_it_was_read_back(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.verified = false;
	v = judge(&f);
	assert_int_equal(v.state, STATE_CONTINUOUS);
	assert_false(v.ready);
	assert_string_equal(v.reasons[0].code, "NOT_VERIFIED");
}

static void
a_failed_read_back_is_an_integrity_error(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.verify_status = -HF_EDIGEST;
	strcpy(f.verify_text, "pit-1, volume 2, offset 4096");
	v = judge(&f);
	assert_int_equal(v.state, STATE_STALLED);
	assert_string_equal(v.error, "INTEGRITY_ERROR");
	assert_non_null(strstr(v.raw_error, "offset 4096"));
	assert_false(v.ready);
}

static void
disconnected_is_still_ready_if_there_is_a_point(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.connected = false;
	v = judge(&f);
	assert_int_equal(v.state, STATE_DISCONNECTED);
	assert_string_equal(v.error, "AGENT_NOT_SEEN");
	assert_true(v.ready);
}

static void
a_clone_stalls_a_source_without_its_agent(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.connected = false;
	f.refused = -HF_ECLONE;
	strcpy(f.refused_text, "another installation");
	strcpy(f.refused_cure, "holdfastctl source adopt s-1");
	v = judge(&f);
	assert_int_equal(v.state, STATE_STALLED);
	assert_string_equal(v.error, "IDENTITY_CLONE");
	assert_string_equal(v.cure, "holdfastctl source adopt s-1");
}

static void
a_clone_at_the_door_is_told_while_the_rightful_agent_streams(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.refused = -HF_ECLONE;
	strcpy(f.refused_text, "another installation");
	strcpy(f.refused_cure, "holdfastctl source adopt s-1");
	v = judge(&f);
	assert_int_equal(v.state, STATE_CONTINUOUS);
	assert_string_equal(v.error, "IDENTITY_CLONE");
	assert_string_equal(v.cure, "holdfastctl source adopt s-1");
	assert_true(v.ready);
}

static void
an_expired_certificate_names_its_cure(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.connected = false;
	f.refused = -HF_EEXPIRED;
	strcpy(f.refused_text, "the certificate has expired");
	strcpy(f.refused_cure, "holdfastctl token create --source s-1");
	v = judge(&f);
	assert_int_equal(v.state, STATE_DISCONNECTED);
	assert_string_equal(v.error, "CERTIFICATE_EXPIRED");
	assert_string_equal(v.cure, "holdfastctl token create --source s-1");
}

static void
a_revoked_certificate_is_not_an_expired_one(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	f.connected = false;
	f.refused = -HF_EREVOKED;
	strcpy(f.refused_text, "the agent's certificate was revoked"); /* as the reason says it */
	v = judge(&f);
	assert_int_equal(v.state, STATE_DISCONNECTED);
	assert_string_equal(v.error, "CERTIFICATE_REVOKED");
	assert_string_equal(v.reason, f.refused_text); /* once */
}

static void
what_stalls_a_source_is_told_before_what_does_not(void **state)
{
	struct state_facts f = good_facts();

	f.staging_full = true;
	f.refused = -HF_ECLONE;
	strcpy(f.refused_text, "another installation");
	strcpy(f.damage_text, "damaged blocks: 1");
	assert_string_equal(judge(&f).error, "STAGING_FULL");
	f.staging_full = false;
	assert_string_equal(judge(&f).error, "IDENTITY_CLONE");
	f.refused = 0;
	assert_string_equal(judge(&f).error, "INTEGRITY_ERROR");
}

static void
a_disk_without_identity_stalls(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	strcpy(f.bad_volume, "volume data (wwn:1): its disk was not found on the source");
	v = judge(&f);
	assert_int_equal(v.state, STATE_STALLED);
	assert_string_equal(v.error, "DISK_IDENTITY");
	assert_non_null(strstr(v.reason, "wwn:1"));
	assert_true(v.ready);
}

static void
a_full_staging_area_stalls_but_points_stay(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.staging_full = true;
	v = judge(&f);
	assert_int_equal(v.state, STATE_STALLED);
	assert_string_equal(v.error, "STAGING_FULL");
	assert_true(v.ready);
	f.over_quota = true;
	v = judge(&f);
	assert_int_equal(v.state, STATE_STALLED);
	assert_string_equal(v.error, "QUOTA_REACHED");
	assert_non_null(strstr(v.cure, "quota set"));
	f.staging_full = false;
	assert_int_equal(judge(&f).state, STATE_CONTINUOUS);
}

static void
what_keeps_the_first_point_from_coming_is_a_reason_not_to_be_ready(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	f.has_checkpoint = f.has_consistent = f.verified = false;
	f.staging_full = true;
	v = judge(&f);
	assert_false(v.ready);
	assert_int_equal(v.reason_count, 2);
	assert_string_equal(v.reasons[0].code, "NO_CONSISTENT_POINT");
	assert_string_equal(v.reasons[1].code, "STAGING_FULL");
	assert_string_not_equal(v.reasons[1].cure, "");
}

static void
a_store_that_cannot_be_used_is_not_ready(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.store_status = -EIO;
	strcpy(f.store_text, "journal: Input/output error");
	v = judge(&f);
	assert_int_equal(v.state, STATE_STALLED);
	assert_string_equal(v.error, "STAGING_IO_ERROR");
	assert_false(v.ready);
	f.store_status = -HF_ECORRUPT;
	assert_string_equal(judge(&f).error, "INTEGRITY_ERROR");
}

static void
of_disks_that_nobody_came_through_it_is_not_said_that_their_changes_arrive(void **state)
{
	struct state_facts f = good_facts();

	(void)state;
	assert_non_null(strstr(judge(&f).reason, "arrive"));
	f.lag_ns = CATCH_UP_LATE_NS + 1;
	f.heartbeat_interval_ns = 1;
	f.bottleneck = STAGE_SOURCE;
	assert_non_null(strstr(judge(&f).reason, "arrive")); /* it had no turn to say anything since */
	f.heartbeat_interval_ns = 0;
	assert_int_equal(judge(&f).state, STATE_CONTINUOUS);
	assert_null(strstr(judge(&f).reason, "arrive"));
	assert_non_null(strstr(judge(&f).reason, "its disks to be read"));
}

static void
a_limit_of_open_files_is_not_cured_at_the_disk(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.store_status = -EMFILE;
	strcpy(f.store_text, "cannot make 4.seg (Too many open files)");
	v = judge(&f);
	assert_int_equal(v.state, STATE_STALLED);
	assert_non_null(strstr(v.cure, "LimitNOFILE"));
	assert_non_null(strstr(v.reasons[0].cure, "LimitNOFILE"));
}

static void
a_staging_disk_that_does_not_answer_stalls_and_a_full_one_is_told_as_that(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	(void)state;
	f.disk_silent = true;
	v = judge(&f);
	assert_int_equal(v.state, STATE_STALLED);
	assert_string_equal(v.error, "STAGING_IO_ERROR");
	assert_true(v.ready);
	f.staging_full = true;
	assert_string_equal(judge(&f).error, "STAGING_FULL");
}

static void
comparing_everything_is_rescan_and_leaves_points_ready(void **state)
{
	struct state_facts f = good_facts();

	(void)state;
	f.activity = ACTIVITY_RESCAN;
	assert_int_equal(judge(&f).state, STATE_RESCAN);
	f.activity = ACTIVITY_PASS;
	assert_int_equal(judge(&f).state, STATE_CONTINUOUS);
	f.went_back = true;
	assert_int_equal(judge(&f).state, STATE_RESCAN);
	assert_string_equal(judge(&f).error, "STAGING_WENT_BACK");
	assert_true(judge(&f).ready);
}

static void
who_falls_behind_for_good_is_told_what_holds_it_up(void **state)
{
	struct state_facts f = good_facts();
	struct state_verdict v;

	f.backlog_bytes = 1;
	f.never_converges = true;
	assert_int_equal(judge(&f).state, STATE_CONTINUOUS); /* not late */
	f.lag_ns = CATCH_UP_LATE_NS + 1;
	v = judge(&f);
	assert_int_equal(v.state, STATE_BACKLOG);
	assert_string_equal(v.error, "NOT_CONVERGING");
	assert_string_not_equal(v.cure, "");
	assert_true(v.ready);
	f.bottleneck = STAGE_NETWORK;
	assert_non_null(strstr(judge(&f).reason, "network"));
	f.never_converges = false;
	assert_string_equal(judge(&f).error, "");
	assert_non_null(strstr(judge(&f).reason, "network"));
}

static void
backlog_needs_waiting_bytes_and_an_old_checkpoint(void **state)
{
	struct state_facts f = good_facts();

	(void)state;
	f.backlog_bytes = 1;
	assert_int_equal(judge(&f).state, STATE_CONTINUOUS);
	f.lag_ns = CATCH_UP_LATE_NS + 1;
	assert_int_equal(judge(&f).state, STATE_BACKLOG);
	f.backlog_bytes = 0;
	assert_int_equal(judge(&f).state, STATE_CONTINUOUS);
}

/* DRS's ten, each from a source for which all is well but for one thing. */
static void
every_state_of_drs_is_reached(void **state)
{
	struct state_facts facts[STATE_DISCONNECTED + 1];

	for (int s = STATE_STOPPED; s <= STATE_DISCONNECTED; s++)
		facts[s] = good_facts();
	facts[STATE_STOPPED].stopped = true;
	facts[STATE_INITIATING].opening = true;
	facts[STATE_INITIAL_SYNC].volumes_filled = 1;
	facts[STATE_BACKLOG].backlog_bytes = 1;
	facts[STATE_BACKLOG].lag_ns = CATCH_UP_LATE_NS + 1;
	facts[STATE_CREATING_SNAPSHOT].has_checkpoint = facts[STATE_CREATING_SNAPSHOT].has_consistent = false;
	facts[STATE_PAUSED].paused = true;
	facts[STATE_RESCAN].activity = ACTIVITY_RESCAN;
	facts[STATE_STALLED].staging_full = true;
	facts[STATE_DISCONNECTED].connected = false;
	for (int s = STATE_STOPPED; s <= STATE_DISCONNECTED; s++)
		assert_string_equal(
		    replication_state_name(judge(&facts[s]).state), replication_state_name((enum replication_state)s));
}

/* Whatever is the case, there is a state, a reason, and an answer to "Ready?" that agrees with its reasons: see
 * judge(). */
static void
every_combination_has_a_state_and_a_reason(void **state)
{
	(void)state;
	for (unsigned bits = 0; bits < 1u << 14; bits++) {
		struct state_facts f = good_facts();

		f.opening = bits & 1;
		f.store_status = bits & 2 ? -EIO : 0;
		f.staging_full = bits & 4;
		f.verify_status = bits & 8 ? -HF_EDIGEST : 0;
		f.connected = bits & 16;
		f.ever_connected = bits & 32;
		f.refused = bits & 64 ? -HF_ECLONE : bits & 128 ? -HF_EVERSION : 0;
		f.went_back = bits & 256;
		f.volumes = bits & 512 ? 2 : 0;
		f.volumes_filled = bits & 1024 && f.volumes ? 1 : f.volumes;
		f.has_checkpoint = bits & 2048;
		f.has_consistent = bits & 4096;
		f.verified = bits & 8192;
		strcpy(f.store_text, "store");
		strcpy(f.verify_text, "verify");
		strcpy(f.refused_text, "refused");
		judge(&f);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_unstable_network_is_told_and_stops_nothing),
	    cmocka_unit_test(an_agent_gone_from_an_unstable_network_is_not_looked_for_on_the_source),
	    cmocka_unit_test(all_is_well),
	    cmocka_unit_test(rot_in_old_points_is_told_and_stops_nothing),
	    cmocka_unit_test(rot_in_the_newest_point_is_not_ready),
	    cmocka_unit_test(enrolled_and_never_seen_is_initiating),
	    cmocka_unit_test(a_stopped_source_says_so_and_stays_ready),
	    cmocka_unit_test(a_paused_source_says_so_unless_its_agent_is_gone),
	    cmocka_unit_test(a_source_that_is_being_deleted_is_not_ready),
	    cmocka_unit_test(filling_is_initial_sync_and_says_how_far),
	    cmocka_unit_test(a_new_volume_is_filled_while_the_old_point_keeps_the_source_ready),
	    cmocka_unit_test(filled_without_a_point_is_creating_snapshot),
	    cmocka_unit_test(only_fuzzy_points_are_not_enough_and_the_cure_is_told),
	    cmocka_unit_test(a_point_counts_only_when_it_was_read_back),
	    cmocka_unit_test(a_failed_read_back_is_an_integrity_error),
	    cmocka_unit_test(disconnected_is_still_ready_if_there_is_a_point),
	    cmocka_unit_test(a_clone_stalls_a_source_without_its_agent),
	    cmocka_unit_test(a_clone_at_the_door_is_told_while_the_rightful_agent_streams),
	    cmocka_unit_test(an_expired_certificate_names_its_cure),
	    cmocka_unit_test(a_revoked_certificate_is_not_an_expired_one),
	    cmocka_unit_test(what_stalls_a_source_is_told_before_what_does_not),
	    cmocka_unit_test(a_disk_without_identity_stalls),
	    cmocka_unit_test(a_full_staging_area_stalls_but_points_stay),
	    cmocka_unit_test(what_keeps_the_first_point_from_coming_is_a_reason_not_to_be_ready),
	    cmocka_unit_test(a_store_that_cannot_be_used_is_not_ready),
	    cmocka_unit_test(of_disks_that_nobody_came_through_it_is_not_said_that_their_changes_arrive),
	    cmocka_unit_test(a_limit_of_open_files_is_not_cured_at_the_disk),
	    cmocka_unit_test(a_staging_disk_that_does_not_answer_stalls_and_a_full_one_is_told_as_that),
	    cmocka_unit_test(comparing_everything_is_rescan_and_leaves_points_ready),
	    cmocka_unit_test(who_falls_behind_for_good_is_told_what_holds_it_up),
	    cmocka_unit_test(backlog_needs_waiting_bytes_and_an_old_checkpoint),
	    cmocka_unit_test(every_state_of_drs_is_reached),
	    cmocka_unit_test(every_combination_has_a_state_and_a_reason),
	};

	return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
