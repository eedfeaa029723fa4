/* SPDX-License-Identifier: Apache-2.0 */
#include "server/api_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/metrics_text.h"

enum { NOW_S = 1800000000 };

static const int64_t now_ns = NOW_S * NS_PER_SECOND;

static struct source_status *
new_status(void)
{
	struct source_status *s = calloc(1, sizeof *s);

	assert_non_null(s);
	s->id = (struct id){"s-0123456789abcdef0"};
	return s;
}

static const char *
text_at(const json_t *json, const char *first, const char *second)
{
	return json_string_value(json_object_get(json_object_get(json, first), second));
}

static void
source_that_was_never_seen_has_nulls_not_zeros(void **state)
{
	struct source_status *s = new_status();
	json_t *json = api_json_source(s, now_ns), *info;

	assert_non_null(json);
	info = json_object_get(json, "dataReplicationInfo");
	assert_true(json_is_null(json_object_get(info, "lagDuration")));
	assert_true(json_is_null(json_object_get(info, "etaDateTime")));
	assert_true(json_is_null(json_object_get(info, "dataReplicationError")));
	assert_true(json_is_null(json_object_get(json, "newestPointInTime")));
	assert_true(json_is_null(json_object_get(json, "bottleneck")));
	assert_true(json_is_null(json_object_get(json_object_get(json, "lag"), "consistentSeconds")));
	assert_true(json_is_null(json_object_get(json_object_get(json, "lifeCycle"), "lastSeenByServiceDateTime")));
	assert_true(json_is_null(json_object_get(json_object_get(json, "lifeCycle"), "elapsedReplicationDuration")));
	json_decref(json);
	free(s);
}

static void
no_number_of_an_agent_becomes_negative(void **state)
{
	struct source_status *s = new_status();
	json_t *json;

	s->backlog_bytes = UINT64_MAX;
	json = api_json_source(s, now_ns);
	assert_true(json_integer_value(json_object_get(json, "backlogBytes")) == INT64_MAX);
	json_decref(json);
	free(s);
}

static void
damage_names_place_and_points(void **state)
{
	struct source_status *s = new_status();
	json_t *json, *scrub, *damage, *hit;

	s->scrub =
	    (struct scrub_status){.running = true, .begun_ns = now_ns, .progress = 0.1234, .bytes = 5, .damaged = 2};
	s->damage.damage_count = 2;
	s->damage.damage[0].volume = (struct id){"vol-0123456789abcdef0"};
	s->damage.damage[0].offset = 28672;
	s->damage.damage[0].status = -HF_EDIGEST;
	s->damage.damage[0].points = 3;
	s->damage.damage[1].segment = 7; /* of the index: no volume */
	s->damage.hit_count = 1;
	s->damage.hits[0].pit = (struct id){"pit-0123456789abcdef0"};
	s->damage.hits[0].volume = s->damage.damage[0].volume;
	s->damage.hits[0].blocks = 1;
	json = api_json_source(s, now_ns);
	assert_non_null(json);
	scrub = json_object_get(json, "scrub");
	assert_string_equal(json_string_value(json_object_get(scrub, "state")), "RUNNING");
	assert_true(json_real_value(json_object_get(scrub, "progressPercent")) == 12.3);
	assert_true(json_is_null(json_object_get(scrub, "lastCompletedDateTime")));
	damage = json_array_get(json_object_get(scrub, "damage"), 0);
	assert_int_equal(json_integer_value(json_object_get(damage, "offset")), 28672);
	assert_true(json_is_null(json_object_get(damage, "segment")));
	assert_string_equal(json_string_value(json_object_get(damage, "error")), hf_status_text(-HF_EDIGEST));
	damage = json_array_get(json_object_get(scrub, "damage"), 1);
	assert_true(json_is_null(json_object_get(damage, "volumeID")));
	hit = json_array_get(json_object_get(scrub, "pointsHit"), 0);
	assert_string_equal(json_string_value(json_object_get(hit, "pointInTimeID")), "pit-0123456789abcdef0");
	assert_int_equal(json_integer_value(json_object_get(hit, "damagedBlocks")), 1);
	json_decref(json);
	free(s);
}

static void
every_field_of_drs_is_there(void **state)
{
	static const char *const fields[][3] = {{"lifeCycle", "addedToServiceDateTime"},
	    {"lifeCycle", "firstByteDateTime"}, {"lifeCycle", "elapsedReplicationDuration"},
	    {"lifeCycle", "lastSeenByServiceDateTime"}, {"dataReplicationInfo", "dataReplicationState"},
	    {"dataReplicationInfo", "lagDuration"}, {"dataReplicationInfo", "etaDateTime"},
	    {"dataReplicationInfo", "replicatedDisks"}, {"dataReplicationInfo", "dataReplicationError"},
	    {"dataReplicationInfo", "dataReplicationInitiation"}, {"sourceProperties", "identificationHints"},
	    {"sourceProperties", "networkInterfaces"}, {"sourceProperties", "disks"}, {"sourceProperties", "cpus"},
	    {"sourceProperties", "ramBytes"}, {"sourceProperties", "os"}, {"sourceProperties", "lastUpdatedDateTime"}};
	struct source_status *s = new_status();
	json_t *json = api_json_source(s, now_ns);

	for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
		if (json_object_get(json_object_get(json, fields[i][0]), fields[i][1]) == NULL)
			fail_msg("%s.%s is missing", fields[i][0], fields[i][1]);
	json_decref(json);
	free(s);
}

static void
lag_grows_with_the_clock_and_rounds_up_as_iso(void **state)
{
	struct source_status *s = new_status();
	json_t *json;

	s->consistent_at_ns = now_ns - 11 * NS_PER_SECOND - 1;
	json = api_json_source(s, now_ns);
	assert_string_equal(text_at(json, "dataReplicationInfo", "lagDuration"), "PT12S");
	json_decref(json);
	json = api_json_source(s, now_ns + 60 * NS_PER_SECOND);
	assert_string_equal(text_at(json, "dataReplicationInfo", "lagDuration"), "PT1M12S");
	json_decref(json);
	free(s);
}

static void
an_agent_was_seen_when_it_was_last_heard_connected_or_not(void **state)
{
	struct source_status *s = new_status();
	json_t *json;

	s->last_seen_ns = now_ns - 60 * NS_PER_SECOND;
	s->first_byte_ns = now_ns - 3600 * NS_PER_SECOND;
	json = api_json_source(s, now_ns);
	assert_string_equal(text_at(json, "lifeCycle", "lastSeenByServiceDateTime"), "2027-01-15T07:59:00.000Z");
	assert_string_equal(text_at(json, "lifeCycle", "elapsedReplicationDuration"), "PT1H");
	json_decref(json);
	s->connected = true;
	json = api_json_source(s, now_ns);
	assert_string_equal(text_at(json, "lifeCycle", "lastSeenByServiceDateTime"), "2027-01-15T07:59:00.000Z");
	json_decref(json);
	free(s);
}

static bool
target_met_is(struct source_status *s, json_type type)
{
	json_t *json = api_json_source(s, now_ns);
	bool is = json_typeof(json_object_get(json, "rpoTargetMet")) == type;

	json_decref(json);
	return is;
}

static void
a_target_is_met_or_not_or_there_is_nothing_to_meet(void **state)
{
	struct source_status *s = new_status();

	s->consistent_at_ns = now_ns - 60 * NS_PER_SECOND;
	assert_true(target_met_is(s, JSON_NULL));
	s->settings.rpo_target_ns = 60 * NS_PER_SECOND;
	assert_true(target_met_is(s, JSON_TRUE));
	s->settings.rpo_target_ns--;
	assert_true(target_met_is(s, JSON_FALSE));
	s->consistent_at_ns = 0;
	assert_true(target_met_is(s, JSON_NULL));
	free(s);
}

static void
what_holds_nothing_up_is_no_bottleneck(void **state)
{
	struct source_status *s = new_status();
	json_t *json;

	s->waits_known = true;
	s->bottleneck = -1;
	json = api_json_source(s, now_ns);
	assert_null(text_at(json, "bottleneck", "stage"));
	assert_non_null(json_object_get(json_object_get(json, "bottleneck"), "shares"));
	json_decref(json);
	s->bottleneck = STAGE_SYNC;
	json = api_json_source(s, now_ns);
	assert_string_equal(text_at(json, "bottleneck", "stage"), "SYNC");
	json_decref(json);
	free(s);
}

static void
what_is_set_of_a_source_is_told(void **state)
{
	struct source_status *s = new_status();
	json_t *json;

	s->settings.rpo_target_ns = 60 * NS_PER_SECOND;
	strcpy(s->tags, "{\"team\":\"db\"}");
	strcpy(s->new_disks, "[{\"deviceName\":\"/dev/sdz\"}]");
	strcpy(s->hints.hostname, "db01");
	json = api_json_source(s, now_ns);
	assert_true(json_number_value(json_object_get(json, "rpoTargetSeconds")) == 60);
	assert_string_equal(text_at(json, "tags", "team"), "db");
	assert_int_equal(json_array_size(json_object_get(json, "newDisks")), 1);
	assert_null(text_at(json_object_get(json, "sourceProperties"), "identificationHints", "fqdn"));
	json_decref(json);
	strcpy(s->hints.hostname, "db01.example.org");
	json = api_json_source(s, now_ns);
	assert_string_equal(
	    text_at(json_object_get(json, "sourceProperties"), "identificationHints", "fqdn"), "db01.example.org");
	json_decref(json);
	free(s);
}

static void
a_stall_and_its_end_bear_what_drs_calls_them(void **state)
{
	static const struct {
		const char *event, *state;
	} events[] = {{"stalled", "STALLED"}, {"stall_ended", "NOT_STALLED"}, {"ready", NULL}};

	for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
		struct registry_event e = {.number = 1, .text = "text"};
		json_t *json, *drs;

		strcpy(e.event, events[i].event);
		json = api_json_event(&e);
		drs = json_object_get(json, "drs");
		assert_int_equal(json_is_null(drs), events[i].state == NULL);
		if (events[i].state != NULL)
			assert_string_equal(text_at(drs, "detail", "state"), events[i].state);
		json_decref(json);
	}
}

static void
a_fleet_without_a_point_has_no_worst_lag(void **state)
{
	struct fleet f = {.sources = 1, .worst_lag_seconds = -1};
	json_t *json = api_json_fleet(&f);

	assert_true(json_is_null(json_object_get(json, "worstLag")));
	json_decref(json);
	f.worst_lag_seconds = 0;
	json = api_json_fleet(&f);
	assert_true(json_is_object(json_object_get(json, "worstLag")));
	json_decref(json);
}

static void
large_lsns_survive_as_text_and_large_sizes_as_numbers(void **state)
{
	struct source_status *s = new_status();
	json_t *json;

	s->store.lsn_last = UINT64_MAX;
	s->volume_count = 1;
	s->volumes[0].total_bytes = 1ull << 60;
	json = api_json_source(s, now_ns);
	assert_string_equal(text_at(json, "counters", "lastLSN"), "18446744073709551615");
	json_decref(json);
	json = api_json_volume(s, &s->volumes[0]);
	assert_true(json_integer_value(json_object_get(json, "totalStorageBytes")) == 1ll << 60);
	json_decref(json);
	free(s);
}

static void
text_that_is_not_utf8_is_still_json(void **state)
{
	struct source_status *s = new_status();
	json_t *json;

	strcpy(s->hints.hostname, "caf\xe9");
	json = api_json_source(s, now_ns);
	assert_non_null(json);
	json_decref(json);
	json = api_json_text("caf\xe9");
	assert_string_equal(json_string_value(json), "caf?");
	json_decref(json);
	free(s);
}

static void
text_that_could_command_a_terminal_is_not_passed_on(void **state)
{
	char name[64], *text = malloc(10001);
	json_t *json = api_json_text("a\xc2\x9b"
				     "b\x7f\n\xc3\xa9");

	assert_string_equal(json_string_value(json), "a??b??\xc3\xa9");
	json_decref(json);
	memset(text, 'x', 10000);
	text[10000] = '\0';
	json = api_json_text(text);
	assert_string_equal(json_string_value(json), text);
	json_decref(json);
	free(text);
	assert_string_equal(
	    metrics_escape("a\xc2\x9b\x7f\n\xff\"\\\xc3\xa9", name, sizeof name), "a?????\\\"\\\\\xc3\xa9");
}

static void
a_label_is_cut_at_the_end_of_a_character(void **state)
{
	static const char *const cut[] = {"", "", "a", "a\\\"", "a\\\"", "a\\\"", "a\\\"\xc3\xa9"};
	char name[16];

	for (size_t i = 0; i < sizeof cut / sizeof cut[0]; i++)
		assert_string_equal(metrics_escape("a\"\xc3\xa9", name, i + 1), cut[i]);
}

static const char *
step_status(const json_t *json, const char *name)
{
	json_t *steps = json_object_get(
	    json_object_get(json_object_get(json, "dataReplicationInfo"), "dataReplicationInitiation"), "steps");
	json_t *step;
	size_t i;

	json_array_foreach (steps, i, step) {
		if (strcmp(json_string_value(json_object_get(step, "name")), name) == 0)
			return json_string_value(json_object_get(step, "status"));
	}
	return "";
}

static void
initiation_shows_the_step_it_is_at(void **state)
{
	struct source_status *s = new_status();
	json_t *json;

	s->connected = true;
	json = api_json_source(s, now_ns);
	assert_string_equal(step_status(json, "BOOT_REPLICATION_SERVER"), "SKIPPED");
	assert_string_equal(step_status(json, "AUTHENTICATE_WITH_SERVICE"), "SUCCEEDED");
	assert_string_equal(step_status(json, "CREATE_STAGING_DISKS"), "IN_PROGRESS");
	assert_string_equal(step_status(json, "START_DATA_TRANSFER"), "NOT_STARTED");
	json_decref(json);
	s->connected = false; /* gone again: nothing is in progress */
	s->last_seen_ns = now_ns;
	json = api_json_source(s, now_ns);
	assert_string_equal(step_status(json, "AUTHENTICATE_WITH_SERVICE"), "SUCCEEDED");
	assert_string_equal(step_status(json, "CREATE_STAGING_DISKS"), "NOT_STARTED");
	json_decref(json);
	free(s);
}

static void
a_stall_crosses_out_the_step_that_fails(void **state)
{
	struct source_status *s = new_status();
	json_t *json, *info;

	s->connected = true;
	s->first_byte_ns = s->last_seen_ns = now_ns;
	s->next_attempt_ns = now_ns + NS_PER_SECOND;
	strcpy(s->error, "CERTIFICATE_EXPIRED");
	json = api_json_source(s, now_ns);
	info = json_object_get(json, "dataReplicationInfo");
	assert_string_equal(step_status(json, "AUTHENTICATE_WITH_SERVICE"), "FAILED");
	assert_string_equal(step_status(json, "WAIT"), "SUCCEEDED");
	assert_string_equal(step_status(json, "CREATE_STAGING_DISKS"), "NOT_STARTED");
	assert_string_equal(text_at(info, "dataReplicationError", "error"), "FAILED_TO_AUTHENTICATE_WITH_SERVICE");
	assert_string_equal(text_at(info, "dataReplicationError", "code"), "CERTIFICATE_EXPIRED");
	assert_non_null(text_at(info, "dataReplicationInitiation", "nextAttemptDateTime"));
	json_decref(json);
	free(s);
}

static void
ready_rests_on_a_point_that_was_read_back(void **state)
{
	struct source_status *s = new_status();
	json_t *json;

	s->has_newest = true;
	s->newest_pit = (struct id){"pit-0123456789abcdef1"};
	s->verified_ns = now_ns; /* that one failed */
	json = api_json_source(s, now_ns);
	assert_string_equal(text_at(json, "readyEvidence", "newestPointInTimeID"), "pit-0123456789abcdef1");
	assert_null(text_at(json, "readyEvidence", "lastVerifiedDateTime"));
	json_decref(json);
	s->verified_pit = (struct id){"pit-0123456789abcdef0"};
	s->verified_ns = now_ns;
	json = api_json_source(s, now_ns);
	assert_string_equal(text_at(json, "readyEvidence", "verifiedPointInTimeID"), "pit-0123456789abcdef0");
	assert_string_equal(text_at(json, "readyEvidence", "lastVerifiedDateTime"), "2027-01-15T08:00:00.000Z");
	json_decref(json);
	free(s);
}

static void
point_names_volumes_it_can_and_numbers_the_rest(void **state)
{
	struct source_status *s = new_status();
	struct pit pit = {.id = {"pit-0123456789abcdef0"}, .lsn = 7, .rules = 5, .consistency = CHECKPOINT_CRASH};
	json_t *json, *volumes;

	s->volume_count = 1;
	s->volumes[0] = (struct volume_status){.volume = 2, .id = {"vol-0123456789abcdef0"}, .name = "root"};
	pit.checkpoint.volume_count = 2;
	pit.checkpoint.volumes[0].volume = 1;
	pit.checkpoint.volumes[1].volume = 2;
	json = api_json_pit(&s->id, &pit, s);
	volumes = json_object_get(json, "volumes");
	assert_true(json_is_null(json_object_get(json_array_get(volumes, 0), "name")));
	assert_string_equal(json_string_value(json_object_get(json_array_get(volumes, 1), "name")), "root");
	assert_int_equal(json_integer_value(json_array_get(json_object_get(json, "ruleIDs"), 1)), 3);
	json_decref(json);
	free(s);
}

/* Its row says so only if it has one, and only by and by. */
static void
point_that_was_read_back_last_is_verified(void **state)
{
	struct source_status *s = new_status();
	struct pit pit = {.id = {"pit-0123456789abcdef0"}, .consistency = CHECKPOINT_CRASH};
	json_t *json;

	s->verified_pit = pit.id;
	s->verified_ns = 1000000000000000000;
	json = api_json_pit(&s->id, &pit, s);
	assert_true(json_is_true(json_object_get(json, "verified")));
	assert_string_equal(json_string_value(json_object_get(json, "lastVerified")), "2001-09-09T01:46:40.000Z");
	json_decref(json);
	pit.id.text[4] = '1';
	json = api_json_pit(&s->id, &pit, s);
	assert_true(json_is_false(json_object_get(json, "verified")));
	assert_true(json_is_null(json_object_get(json, "lastVerified")));
	json_decref(json);
	free(s);
}

static void
point_is_guarded_until_its_source_has_run_so_long(void **state)
{
	struct source_status *s = new_status();
	struct pit pit = {.consistency = CHECKPOINT_CRASH, .guarded_ns = 100};
	json_t *before, *after, *unknown;

	s->retention.running_ns = 99;
	before = api_json_pit(&s->id, &pit, s);
	s->retention.running_ns = 100;
	after = api_json_pit(&s->id, &pit, s);
	unknown = api_json_pit(&s->id, &pit, NULL);
	assert_true(json_is_true(json_object_get(before, "guarded")));
	assert_true(json_is_false(json_object_get(after, "guarded")));
	assert_true(json_is_null(json_object_get(unknown, "guarded")));
	json_decref(before);
	json_decref(after);
	json_decref(unknown);
	free(s);
}

static void
token_state_tells_what_matters_most(void **state)
{
	static const struct {
		struct registry_token token;
		const char *state;
	} cases[] = {
	    {{.expires_ns = INT64_MAX}, "OPEN"},
	    {{.expires_ns = 1}, "EXPIRED"},
	    {{.expires_ns = INT64_MAX, .revoked = true}, "REVOKED"},
	    {{.expires_ns = 1, .used_ns = 1}, "USED"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		json_t *json = api_json_token(&cases[i].token, now_ns);

		assert_string_equal(json_string_value(json_object_get(json, "state")), cases[i].state);
		json_decref(json);
	}
}

static bool
is_healthy(const struct server_facts *facts, const struct source_status *s)
{
	json_t *reasons = api_json_server_reasons(facts), *json;
	bool healthy;

	if (s != NULL)
		api_json_add_source_reasons(reasons, s);
	json = api_json_health(reasons, &healthy);
	assert_string_equal(json_string_value(json_object_get(json, "status")), healthy ? "ok" : "failing");
	json_decref(json);
	return healthy;
}

static void
health_blames_the_server_only_for_its_own_faults(void **state)
{
	static const char *const ours[] = {"STAGING_FULL", "STAGING_IO_ERROR", "INTEGRITY_ERROR"};
	struct server_facts facts = {.areas = {{.total_bytes = 1000, .free_bytes = 500}}};
	struct source_status *s = new_status();
	json_t *reasons;

	strcpy(s->error, "AGENT_NOT_SEEN");
	assert_true(is_healthy(&facts, s));
	for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
		strcpy(s->error, ours[i]);
		assert_false(is_healthy(&facts, s));
	}
	strcpy(s->error, "QUOTA_REACHED"); /* somebody wanted it so */
	assert_true(is_healthy(&facts, s));
	s->store.failed = true;
	assert_false(is_healthy(&facts, s));
	strcpy(s->error, "STAGING_IO_ERROR"); /* says more */
	reasons = json_array();
	api_json_add_source_reasons(reasons, s);
	assert_string_equal(json_string_value(json_object_get(json_array_get(reasons, 0), "code")), "STAGING_IO_ERROR");
	json_decref(reasons);
	facts.areas[AREA_JOURNAL].level = SPACE_SHORTEN;
	assert_false(is_healthy(&facts, NULL));
	facts.areas[AREA_JOURNAL].level = SPACE_EASY;
	assert_true(is_healthy(&facts, NULL));
	facts.silent_thread = "worker0";
	assert_false(is_healthy(&facts, NULL));
	free(s);
}

static void
every_code_has_an_http_status_and_a_name(void **state)
{
	static const int codes[] = {-EINVAL, -ENOENT, -ENOSYS, -EPERM, -EBUSY, -ENOTCONN, -ETIMEDOUT, -EIO, -ENOMEM,
#define X(name, value, text) -name,
	    HF_STATUS_TABLE(X)
#undef X
	};

	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
		json_t *json = api_json_problem(api_http_status(codes[i]), codes[i], "detail", NULL);

		assert_in_range(json_integer_value(json_object_get(json, "status")), 400, 599);
		assert_string_not_equal(json_string_value(json_object_get(json, "code")), "UNKNOWN");
		assert_true(json_is_null(json_object_get(json, "hint")));
		json_decref(json);
	}
	assert_int_equal(api_http_status(-HF_ENOPIT), 404);
	assert_int_equal(api_http_status(-HF_EFULL), 507);
	assert_int_equal(api_http_status(-HF_ESTOPPED), 409);
	assert_int_equal(api_http_status(-EDQUOT), 507);
	assert_int_equal(api_http_status(-EALREADY), 409);     /* ca rotate: there is a next one */
	assert_int_equal(api_http_status(-HF_EIDENTITY), 409); /* verify: a disk cannot be read */
}

/* Negative; 0: no code has this name. */
static int
code_of(const char *name)
{
	for (int code = 1; code < 1100; code++)
		if (strcmp(hf_status_name(code), name) == 0)
			return -code;
	return 0;
}

/* "409 EBUSY" or "503 (EAGAIN)"; 0 if text begins with something else. */
static unsigned
check_code(const char *text)
{
	char name[32];
	int status;

	if (sscanf(text, "%3d%*[ (]%31[A-Z]", &status, name) < 2 || status < 400 || strlen(name) < 4)
		return 0;
	if (code_of(name) == 0 || api_http_status(code_of(name)) != status)
		fail_msg("%d %s: there is no such code, or it is %d", status, name, api_http_status(code_of(name)));
	return 1;
}

static void
the_page_names_codes_with_their_http_status(void **state)
{
	FILE *f = fopen("docs/man/holdfast-api.7.scd", "r");
	unsigned checked = 0;
	char line[1024];

	if (f == NULL)
		skip(); /* not run from the top of the tree */
	while (fgets(line, sizeof line, f) != NULL)
		for (const char *p = line; *p != '\0'; p += strcspn(p, " "), p += strspn(p, " "))
			checked += check_code(p);
	fclose(f);
	assert_true(checked >= 8);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(source_that_was_never_seen_has_nulls_not_zeros),
	    cmocka_unit_test(no_number_of_an_agent_becomes_negative),
	    cmocka_unit_test(damage_names_place_and_points),
	    cmocka_unit_test(every_field_of_drs_is_there),
	    cmocka_unit_test(lag_grows_with_the_clock_and_rounds_up_as_iso),
	    cmocka_unit_test(an_agent_was_seen_when_it_was_last_heard_connected_or_not),
	    cmocka_unit_test(a_target_is_met_or_not_or_there_is_nothing_to_meet),
	    cmocka_unit_test(what_holds_nothing_up_is_no_bottleneck),
	    cmocka_unit_test(what_is_set_of_a_source_is_told),
	    cmocka_unit_test(a_stall_and_its_end_bear_what_drs_calls_them),
	    cmocka_unit_test(a_fleet_without_a_point_has_no_worst_lag),
	    cmocka_unit_test(large_lsns_survive_as_text_and_large_sizes_as_numbers),
	    cmocka_unit_test(text_that_is_not_utf8_is_still_json),
	    cmocka_unit_test(text_that_could_command_a_terminal_is_not_passed_on),
	    cmocka_unit_test(a_label_is_cut_at_the_end_of_a_character),
	    cmocka_unit_test(initiation_shows_the_step_it_is_at),
	    cmocka_unit_test(a_stall_crosses_out_the_step_that_fails),
	    cmocka_unit_test(ready_rests_on_a_point_that_was_read_back),
	    cmocka_unit_test(point_names_volumes_it_can_and_numbers_the_rest),
	    cmocka_unit_test(point_that_was_read_back_last_is_verified),
	    cmocka_unit_test(point_is_guarded_until_its_source_has_run_so_long),
	    cmocka_unit_test(token_state_tells_what_matters_most),
	    cmocka_unit_test(health_blames_the_server_only_for_its_own_faults),
	    cmocka_unit_test(every_code_has_an_http_status_and_a_name),
	    cmocka_unit_test(the_page_names_codes_with_their_http_status),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
