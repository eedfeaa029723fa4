/* SPDX-License-Identifier: Apache-2.0 */
/* The routes that change something. prepare_x() checks all that was asked; the audit is written;
 * then the route's run() gives the command, and on_x() answers. */
#include "server/api_call.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/text.h"
#include "proto/common/units.h"
#include "server/api_json.h"
#include "server/reload.h"

enum {
	PIT_TIMEOUT_S = 60,
	PIT_TIMEOUT_S_MAX = 3600,
};

/* ---- what the body asks ---- */

/* Unpack the body, a JSON object; "" is an empty one. Unknown members are refused: a misspelt
 * option must not be ignored. */
static int
unpack_body(struct call *call, json_t **ret_body, struct hf_error *err, const char *format, ...)
{
	json_error_t problem;
	json_t *body;
	va_list ap;
	int r = call_body(call, &body, err);

	if (r < 0)
		return r;
	va_start(ap, format);
	r = json_vunpack_ex(body, &problem, JSON_STRICT, format, ap);
	va_end(ap);
	if (r < 0) {
		json_decref(body);
		return hf_error_say(err, -EINVAL, "body: %s", problem.text);
	}
	*ret_body = body; /* the unpacked texts point into it */
	return 0;
}

static int
take_source(struct call *call, const char *text, struct hf_error *err)
{
	if (text == NULL || id_parse("s", text, &call->source))
		return 0;
	return hf_error_say(err, -EINVAL, "sourceServerID \"%s\": s- and 17 hexadecimal digits are wanted", text);
}

/* Names are shown on terminals and typed on command lines. */
static int
take_name(struct call *call, const char *text, struct hf_error *err)
{
	if (text[0] == '\0' || strlen(text) >= sizeof call->name)
		return hf_error_say(err, -EINVAL, "name: 1 to %zu bytes are wanted", sizeof call->name - 1);
	if (!text_is_plain(text, strlen(text)))
		return hf_error_say(err, -EINVAL, "name: control characters are not allowed");
	memcpy(call->name, text, strlen(text) + 1);
	return 0;
}

/* "90m", or seconds as a number. */
static int
take_lifetime(struct call *call, const json_t *value, struct hf_error *err)
{
	int r = 0;

	call->lifetime_ns = server_token_lifetime_ns(call->api->sv);
	if (json_is_string(value))
		r = duration_parse(json_string_value(value), &call->lifetime_ns);
	else if (json_is_integer(value) && json_integer_value(value) > 0 &&
		 json_integer_value(value) <= TOKEN_LIFETIME_MAX_NS / NS_PER_SECOND)
		call->lifetime_ns = json_integer_value(value) * NS_PER_SECOND;
	else if (value != NULL)
		r = -EINVAL;
	if (r < 0 || call->lifetime_ns < TOKEN_LIFETIME_MIN_NS || call->lifetime_ns > TOKEN_LIFETIME_MAX_NS)
		return hf_error_say(err, -EINVAL, "lifetime: \"1s\" to \"365d\", or seconds, are wanted");
	return 0;
}

/* ---- answers ---- */

/* A command refused: in its own words, unless it is tried again. False: it did not. */
static bool
reply_refused(struct call *call, const struct command_answer *answer)
{
	if (call_try_again(call, answer->status))
		return true;
	call->outcome = answer->status;
	if (call->req == NULL) {
		call_free(call);
		return true;
	}
	if (answer->status < 0) {
		call_reply_error(call, answer->status, answer->text, NULL);
		return true;
	}
	return false;
}

/* ---- tokens ---- */

int
prepare_token_create(struct call *call, struct hf_error *err)
{
	const char *source = NULL;
	json_t *body, *lifetime = NULL;
	int r;

	r = unpack_body(call, &body, err, "{s?s, s?o}", "sourceServerID", &source, "lifetime", &lifetime);
	if (r < 0)
		return r;
	r = take_source(call, source, err);
	if (r == 0)
		r = take_lifetime(call, lifetime, err);
	json_decref(body);
	snprintf(call->object, sizeof call->object, "%s", call->source.text);
	return r;
}

static void
on_token_created(void *arg, const struct command_answer *answer)
{
	struct call *call = call_from_command(arg);
	struct server_facts facts;

	if (reply_refused(call, answer))
		return;
	server_get_facts(call->api->sv, &facts);
	call_reply_json(call, 201,
	    json_pack("{s:s, s:s, s:o, s:s?, s:s, s:s}", "tokenID", answer->token_id.text, "token", answer->token,
		"expiresDateTime", api_json_time(answer->expires_ns), "sourceServerID",
		call->source.text[0] == '\0' ? NULL : call->source.text, "enrollListen", facts.enroll_listen,
		"caFingerprint", facts.ca_fingerprint));
}

void
post_token(struct call *call)
{
	const struct id *bound = call->source.text[0] == '\0' ? NULL : &call->source;

	command_create_token(call->api->sv, bound, call->lifetime_ns, on_token_created, call);
}

int
prepare_token(struct call *call, struct hf_error *err)
{
	int r = call_arg_id(call, 0, "tok", &call->token, err);

	snprintf(call->object, sizeof call->object, "%s", call->token.text);
	return r;
}

static void
on_token_revoked(void *arg, const struct command_answer *answer)
{
	struct call *call = call_from_command(arg);

	if (!reply_refused(call, answer))
		call_reply_json(call, 200, json_pack("{s:s, s:s}", "tokenID", call->token.text, "state", "REVOKED"));
}

void
delete_token(struct call *call)
{
	command_revoke_token(call->api->sv, &call->token, on_token_revoked, call);
}

/* ---- points in time ---- */

int
prepare_pit_create(struct call *call, struct hf_error *err)
{
	json_int_t timeout_s = PIT_TIMEOUT_S;
	const char *source = NULL, *name = NULL;
	int newest = 0, r;
	json_t *body;

	r = unpack_body(call, &body, err, "{s:s, s:s, s?b, s?I}", "sourceServerID", &source, "name", &name, "newest",
	    &newest, "timeoutSeconds", &timeout_s);
	if (r < 0)
		return r;
	r = take_source(call, source, err);
	if (r == 0)
		r = take_name(call, name, err);
	json_decref(body);
	if (r == 0 && (timeout_s < 1 || timeout_s > PIT_TIMEOUT_S_MAX))
		r = hf_error_say(err, -EINVAL, "timeoutSeconds: 1 to %d are wanted", PIT_TIMEOUT_S_MAX);
	if (r < 0)
		return r;
	call->newest = newest != 0;
	call->timeout_ns = timeout_s * NS_PER_SECOND;
	snprintf(call->object, sizeof call->object, "%s name=%s", call->source.text, call->name);
	return 0;
}

static json_t *
json_answered_pit(struct call *call, const struct command_answer *answer)
{
	struct source_status *s = malloc(sizeof *s);
	bool named = s != NULL && status_get(server_status(call->api->sv), &call->source, s);
	json_t *pit = answer->pit_count > 0 ? api_json_pit(&call->source, &answer->pits[0], named ? s : NULL)
					    : json_pack("{s:s}", "pointInTimeID", call->pit.text);

	free(s);
	return pit;
}

static void
on_pit_created(void *arg, const struct command_answer *answer)
{
	struct call *call = call_from_command(arg);

	if (!reply_refused(call, answer))
		call_reply_json(call, 201, json_answered_pit(call, answer));
}

void
post_pit(struct call *call)
{
	command_create_pit(
	    call->api->sv, &call->source, call->name, call->newest, call->timeout_ns, on_pit_created, call);
}

static int
prepare_pit_change(struct call *call, enum store_pit_verb verb, struct hf_error *err)
{
	int r = call_arg_id(call, 0, "pit", &call->pit, err);

	call->pit_verb = verb;
	snprintf(call->object, sizeof call->object, "%s", call->pit.text);
	return r;
}

int
prepare_pit_hold(struct call *call, struct hf_error *err)
{
	return prepare_pit_change(call, STORE_PIT_HOLD, err);
}

int
prepare_pit_release(struct call *call, struct hf_error *err)
{
	return prepare_pit_change(call, STORE_PIT_RELEASE, err);
}

int
prepare_pit_delete(struct call *call, struct hf_error *err)
{
	return prepare_pit_change(call, STORE_PIT_DELETE, err);
}

static void
on_pit_changed(void *arg, const struct command_answer *answer)
{
	static const char *const results[] = {
	    [STORE_PIT_HOLD] = "HELD", [STORE_PIT_RELEASE] = "RELEASED", [STORE_PIT_DELETE] = "DELETED"};
	struct call *call = call_from_command(arg);

	if (reply_refused(call, answer))
		return;
	call_reply_json(
	    call, 200, json_pack("{s:s, s:s}", "pointInTimeID", call->pit.text, "result", results[call->pit_verb]));
}

void
change_pit(struct call *call)
{
	command_change_pit(call->api->sv, &call->pit, call->pit_verb, on_pit_changed, call);
}

/* ---- sources ---- */

static void
on_source_changed(void *arg, const struct command_answer *answer)
{
	struct call *call = call_from_command(arg);

	if (reply_refused(call, answer))
		return;
	call_reply_json(call, 200,
	    json_pack("{s:s, s:o}", "sourceServerID", call->source.text, "text", api_json_text(answer->text)));
}

void
post_adopt(struct call *call)
{
	command_adopt(call->api->sv, &call->source, on_source_changed, call);
}

void
post_revoke(struct call *call)
{
	command_revoke_source(call->api->sv, &call->source, on_source_changed, call);
}

static void
on_server_renewed(void *arg, const struct command_answer *answer)
{
	struct call *call = call_from_command(arg);
	struct server_facts facts;

	if (reply_refused(call, answer))
		return;
	server_get_facts(call->api->sv, &facts);
	call_reply_json(
	    call, 200, api_json_own_certificate(PKI_SERVER, &facts.certificates[PKI_SERVER], clock_real_ns()));
}

static void
on_reloaded(void *arg, const struct command_answer *answer)
{
	struct call *call = call_from_command(arg);

	if (answer->status < 0) {
		call_reply_error(call, answer->status, answer->text, "everything stays as it was");
		return;
	}
	call_reply_json(call, 200,
	    json_pack("{s:o, s:o, s:b}", "changed", api_json_keys(answer->changed), "restartRequired",
		api_json_keys(answer->restart_required), "certificateChanged", answer->certificate_changed));
}

void
post_reload(struct call *call)
{
	reload_start(call->api->sv, on_reloaded, call);
}

static void
on_ca_changed(void *arg, const struct command_answer *answer)
{
	struct call *call = call_from_command(arg);
	struct server_facts facts;

	if (reply_refused(call, answer))
		return;
	server_get_facts(call->api->sv, &facts);
	call_reply_json(call, 200,
	    json_pack("{s:s, s:o}", "fingerprint", facts.ca_fingerprint, "nextFingerprint",
		facts.certificates[PKI_NEXT_CA].fingerprint[0] != '\0'
		    ? json_string(facts.certificates[PKI_NEXT_CA].fingerprint)
		    : json_null()));
}

void
post_rotate_ca(struct call *call)
{
	command_rotate_ca(call->api->sv, on_ca_changed, call);
}

int
prepare_retire_ca(struct call *call, struct hf_error *err)
{
	int force = 0, r;
	json_t *body;

	r = unpack_body(call, &body, err, "{s?b}", "force", &force);
	if (r < 0)
		return r;
	json_decref(body);
	call->force = force != 0;
	snprintf(call->object, sizeof call->object, "%s", call->force ? "force" : "");
	return 0;
}

void
post_retire_ca(struct call *call)
{
	command_retire_ca(call->api->sv, call->force, on_ca_changed, call);
}

void
post_renew_server(struct call *call)
{
	command_renew_server(call->api->sv, on_server_renewed, call);
}

void
post_renew_source(struct call *call)
{
	command_renew_source(call->api->sv, &call->source, on_source_changed, call);
}

void
post_scrub(struct call *call)
{
	command_scrub(call->api->sv, &call->source, false, on_source_changed, call);
}

void
delete_scrub(struct call *call)
{
	command_scrub(call->api->sv, &call->source, true, on_source_changed, call);
}

void
post_pause(struct call *call)
{
	command_pause_source(call->api->sv, &call->source, true, on_source_changed, call);
}

void
post_resume(struct call *call)
{
	command_pause_source(call->api->sv, &call->source, false, on_source_changed, call);
}

void
post_stop(struct call *call)
{
	command_stop_source(call->api->sv, &call->source, on_source_changed, call);
}

void
post_start(struct call *call)
{
	command_start_source(call->api->sv, &call->source, on_source_changed, call);
}

void
delete_source(struct call *call)
{
	command_delete_source(call->api->sv, &call->source, on_source_changed, call);
}

/* ---- quota ---- */

/* The object of the audit also has in words what is changed, as far as there is room. */
static void
describe_patch(struct call *call, const json_t *patch)
{
	size_t n = strlen(call->object);

	n += (size_t)snprintf(call->object + n, sizeof call->object - n, "%s", n > 0 ? " " : "");
	settings_describe(patch, NULL, call->object + n, sizeof call->object - n);
}

int
prepare_quota(struct call *call, struct hf_error *err)
{
	json_t *body, *quota = NULL, *when_full = NULL;
	struct settings settings;
	int r = prepare_source(call, err);

	settings_default(&settings);
	if (r == 0)
		r = unpack_body(call, &body, err, "{s?o, s?o}", "quotaBytes", &quota, "whenFull", &when_full);
	if (r < 0)
		return r;
	r = settings_read(body, SETTINGS_OF_STORE, &settings, err);
	if (r == 0 && quota == NULL && when_full == NULL)
		r = hf_error_say(err, -EINVAL, "body: quotaBytes or whenFull is wanted");
	call->quota = (struct quota_change){
	    .has_quota = quota != NULL,
	    .has_when_full = when_full != NULL,
	    .quota_bytes = settings.quota_bytes,
	    .when_full = settings.when_full,
	};
	if (r == 0)
		describe_patch(call, body);
	json_decref(body);
	return r;
}

void
post_quota(struct call *call)
{
	command_set_quota(call->api->sv, &call->source, &call->quota, on_source_changed, call);
}

/* ---- throttle ---- */

static int
take_windows(struct throttle *t, const json_t *list, struct hf_error *err)
{
	json_t *window;
	size_t i;
	int r = 0;

	if (list != NULL && (!json_is_array(list) || json_array_size(list) > THROTTLE_WINDOWS_MAX))
		return hf_error_say(err, -EINVAL, "windows: a list of at most %d is wanted", THROTTLE_WINDOWS_MAX);
	json_array_foreach (list, i, window) {
		const char *text = json_string_value(window);

		if (r == 0)
			r = throttle_window_parse(text != NULL ? text : "", &t->windows[i], err);
	}
	t->window_count = json_array_size(list);
	return r;
}

int
prepare_throttle(struct call *call, struct hf_error *err)
{
	json_t *body, *windows = NULL;
	json_int_t mbps = 0;
	char text[THROTTLE_TEXT_BYTES];
	int r = prepare_source(call, err);

	if (r == 0)
		r = unpack_body(call, &body, err, "{s:I, s?o}", "bandwidthThrottling", &mbps, "windows", &windows);
	if (r < 0)
		return r;
	r = take_windows(&call->throttle, windows, err);
	json_decref(body);
	if (r == 0 && (mbps < 0 || mbps > THROTTLE_MBPS_MAX))
		r = hf_error_say(
		    err, -EINVAL, "bandwidthThrottling: 0 (none) to %d Mbps are wanted", THROTTLE_MBPS_MAX);
	call->throttle.mbps = (unsigned)mbps;
	snprintf(call->object, sizeof call->object, "%s %u Mbps%s%.200s", call->source.text, (unsigned)mbps,
	    call->throttle.window_count > 0 ? "; " : "", throttle_windows_format(&call->throttle, text));
	return r;
}

void
post_throttle(struct call *call)
{
	command_set_throttle(call->api->sv, &call->source, &call->throttle, on_source_changed, call);
}

int
prepare_volume_delete(struct call *call, struct hf_error *err)
{
	uint64_t with_points;
	int r = prepare_source(call, err);

	if (r == 0)
		r = take_name(call, call->args[1], err);
	if (r == 0)
		r = call_param_number(call, "withPoints", 1, 0, &with_points, err);
	if (r < 0)
		return r;
	call->with_points = with_points != 0;
	snprintf(call->object, sizeof call->object, "%s volume=%s%s", call->source.text, call->name,
	    call->with_points ? " with points" : "");
	return 0;
}

void
delete_volume(struct call *call)
{
	command_delete_volume(call->api->sv, &call->source, call->name, call->with_points, on_source_changed, call);
}

/* ---- policy and retention ---- */

int
prepare_policy(struct call *call, struct hf_error *err)
{
	json_t *body, *rules = NULL, *window = NULL, *least = NULL;
	struct settings settings;
	int r = prepare_source(call, err);

	settings_default(&settings);
	if (r == 0)
		r = unpack_body(call, &body, err, "{s?o, s?o, s?o}", "pitPolicy", &rules, "journalWindowSeconds",
		    &window, "minRetentionSeconds", &least);
	if (r < 0)
		return r;
	r = settings_read(body, SETTINGS_OF_STORE, &settings, err);
	if (r == 0 && rules == NULL && window == NULL && least == NULL)
		r = hf_error_say(
		    err, -EINVAL, "body: pitPolicy, journalWindowSeconds or minRetentionSeconds is wanted");
	call->policy = (struct policy_change){
	    .has_rules = rules != NULL,
	    .has_window = window != NULL,
	    .has_min_retention = least != NULL,
	    .policy = settings.policy,
	};
	if (r == 0)
		describe_patch(call, body);
	json_decref(body);
	return r;
}

void
post_policy(struct call *call)
{
	command_set_policy(call->api->sv, &call->source, &call->policy, on_source_changed, call);
}

void
post_freeze(struct call *call)
{
	command_set_frozen(call->api->sv, &call->source, true, on_source_changed, call);
}

void
post_thaw(struct call *call)
{
	command_set_frozen(call->api->sv, &call->source, false, on_source_changed, call);
}

/* ---- settings ---- */

/* What is changed is the whole body. */
static int
take_patch(struct call *call, enum settings_scope scope, struct hf_error *err)
{
	struct settings settings;
	int r = call_body(call, &call->patch, err);

	settings_default(&settings);
	if (r == 0)
		r = settings_read(call->patch, scope, &settings, err);
	if (r == 0 && json_object_size(call->patch) == 0)
		r = hf_error_say(err, -EINVAL, "body: a setting is wanted");
	if (r == 0)
		describe_patch(call, call->patch);
	return r;
}

int
prepare_source_settings(struct call *call, struct hf_error *err)
{
	int r = prepare_source(call, err);

	return r < 0 ? r : take_patch(call, SETTINGS_OF_SOURCE, err);
}

void
post_source_settings(struct call *call)
{
	command_set_settings(call->api->sv, &call->source, call->patch, on_source_changed, call);
}

int
prepare_settings(struct call *call, struct hf_error *err)
{
	return take_patch(call, SETTINGS_ALL, err);
}

static void
on_template_set(void *arg, const struct command_answer *answer)
{
	struct call *call = call_from_command(arg);

	if (reply_refused(call, answer))
		return;
	json_decref(call->patch);
	call->patch = json_incref(answer->kept);
	reply_settings(call);
}

void
post_settings(struct call *call)
{
	command_set_template(call->api->sv, call->patch, on_template_set, call);
}

/* ---- verifying ---- */

int
prepare_verify(struct call *call, struct hf_error *err)
{
	const char *volume = NULL;
	json_t *body;
	int r = prepare_source(call, err);

	if (r == 0)
		r = unpack_body(call, &body, err, "{s?s}", "volume", &volume);
	if (r < 0)
		return r;
	if (volume != NULL)
		r = take_name(call, volume, err);
	json_decref(body);
	snprintf(call->object, sizeof call->object, "%s%s%s", call->source.text,
	    call->name[0] != '\0' ? " volume=" : "", call->name);
	return r;
}

static void
on_verifying(void *arg, const struct command_answer *answer)
{
	struct call *call = call_from_command(arg);

	if (!reply_refused(call, answer))
		call_reply_json(
		    call, 202, json_pack("{s:s, s:s}", "sourceServerID", call->source.text, "text", answer->text));
}

void
post_verify(struct call *call)
{
	command_verify(call->api->sv, &call->source, call->name, on_verifying, call);
}
