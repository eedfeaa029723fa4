/* SPDX-License-Identifier: Apache-2.0 */
/* The routes that only tell: answered from what is published of the sources, or from the registry (on the helper). */
#include "server/api_call.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/api_json.h"
#include "server/bundle.h"
#include "server/ca_change.h"
#include "server/cure.h"

void
get_version(struct call *call)
{
	struct server_facts facts;

	server_get_facts(call->api->sv, &facts);
	call_reply_json(call, 200, api_json_version(&facts));
}

void
get_health(struct call *call)
{
	struct source_status *s = calloc(1, sizeof *s);
	struct server_facts facts;
	json_t *reasons, *json;
	bool healthy = false;

	if (s == NULL) {
		call_reply_no_memory(call, "the status");
		return;
	}
	server_get_facts(call->api->sv, &facts);
	reasons = api_json_server_reasons(&facts);
	while (status_next(server_status(call->api->sv), &s->id, s))
		api_json_add_source_reasons(reasons, s);
	free(s);
	json = api_json_health(reasons, &healthy);
	call_reply_json(call, healthy ? 200 : 503, json);
}

void
get_status(struct call *call)
{
	struct source_status *scratch = malloc(sizeof *scratch);
	struct fleet fleet;

	if (scratch == NULL) {
		call_reply_no_memory(call, "the status");
		return;
	}
	fleet_count(server_status(call->api->sv), clock_real_ns(), scratch, &fleet);
	free(scratch);
	call_reply_json(call, 200, api_json_fleet(&fleet));
}

/* ---- lists: written item by item, so that a thousand sources are never one tree in memory ---- */

struct list {
	struct evbuffer *body;
	size_t count;
	bool failed;
};

static void
list_begin(struct list *l)
{
	*l = (struct list){.body = evbuffer_new()};
	l->failed = l->body == NULL || evbuffer_add_printf(l->body, "{\"items\":[") < 0;
}

/* item is taken. */
static void
list_add(struct list *l, json_t *item)
{
	if (!l->failed && l->count++ > 0)
		evbuffer_add(l->body, ",", 1);
	if (l->failed)
		json_decref(item);
	else
		l->failed = call_add_json(l->body, item) < 0;
}

static void
list_drop(struct list *l)
{
	if (l->body != NULL)
		evbuffer_free(l->body);
}

/* Ends the call. next_cursor: text, or NULL when the list is whole. */
static void
list_reply(struct list *l, struct call *call, const char *next_cursor)
{
	if (l->failed) {
		list_drop(l);
		call_reply_no_memory(call, "so long a list");
		return;
	}
	if (next_cursor != NULL)
		evbuffer_add_printf(l->body, "],\"nextCursor\":\"%s\"}\n", next_cursor);
	else
		evbuffer_add_printf(l->body, "],\"nextCursor\":null}\n");
	call_reply_body(call, 200, "application/json", l->body);
}

/* ---- sources and volumes ---- */

int
prepare_source(struct call *call, struct hf_error *err)
{
	int r = call_arg_id(call, 0, "s", &call->source, err);

	snprintf(call->object, sizeof call->object, "%s", call->source.text);
	return r;
}

int
prepare_source_filter(struct call *call, struct hf_error *err)
{
	return call_param_source(call, false, err);
}

/* In words, and ends the call. */
static void
reply_no_source(struct call *call)
{
	char text[128];

	snprintf(text, sizeof text, "no source server %s is known here", call->source.text);
	call_reply_error(call, -ENOENT, text, "holdfastctl source list shows them");
}

/* The sources the call asks for, the one or all, one after the other into s, whose id is "" at first. False: no more.
 */
static bool
next_asked(const struct call *call, struct source_status *s)
{
	struct status_table *table = server_status(call->api->sv);

	if (call->source.text[0] == '\0')
		return status_next(table, &s->id, s);
	return s->id.text[0] == '\0' && status_get(table, &call->source, s);
}

static void
reply_for_each(struct call *call, void (*add)(struct list *l, const struct source_status *s))
{
	struct source_status *s = calloc(1, sizeof *s);
	struct list list;

	if (s == NULL) {
		call_reply_no_memory(call, "the status");
		return;
	}
	list_begin(&list);
	while (next_asked(call, s))
		add(&list, s);
	if (call->source.text[0] != '\0' && s->id.text[0] == '\0') {
		list_drop(&list);
		reply_no_source(call);
	} else {
		list_reply(&list, call, NULL);
	}
	free(s);
}

static void
add_source(struct list *l, const struct source_status *s)
{
	list_add(l, api_json_source(s, clock_real_ns()));
}

void
get_sources(struct call *call)
{
	reply_for_each(call, add_source);
}

void
get_source(struct call *call)
{
	struct source_status *s = malloc(sizeof *s);

	if (s == NULL)
		call_reply_no_memory(call, "the status");
	else if (status_get(server_status(call->api->sv), &call->source, s))
		call_reply_json(call, 200, api_json_source(s, clock_real_ns()));
	else
		reply_no_source(call);
	free(s);
}

static void
add_volumes(struct list *l, const struct source_status *s)
{
	for (size_t i = 0; i < s->volume_count + s->retired_count; i++)
		list_add(l, api_json_volume(s, &s->volumes[i]));
}

void
get_volumes(struct call *call)
{
	reply_for_each(call, add_volumes);
}

/* ---- points in time ---- */

int
prepare_pits(struct call *call, struct hf_error *err)
{
	int r = call_param_source(call, true, err);

	return r < 0 ? r : call_param_page(call, err);
}

/* A page ends at the newest point, or before the LSN the cursor names. */
static void
reply_pits(struct call *call, const struct points *points, const struct source_status *status)
{
	struct pit *pits;
	size_t count;
	bool more;
	char cursor[24];
	struct list list;

	if (points_list(points, call->before, (size_t)call->limit, &pits, &count, &more) < 0) {
		call_reply_no_memory(call, "the list of points in time");
		return;
	}
	list_begin(&list);
	for (size_t i = 0; i < count; i++)
		list_add(&list, api_json_pit(&call->source, &pits[i], status));
	if (more)
		snprintf(cursor, sizeof cursor, "%" PRIu64, pits[0].lsn);
	free(pits);
	list_reply(&list, call, more ? cursor : NULL);
}

static void
reply_unusable(struct call *call, const struct source_status *status)
{
	char text[SENTENCE_BYTES];

	cure_name_source(status->store_text[0] != '\0' ? status->store_text : hf_status_text(status->store_status),
	    &call->source, text, sizeof text);
	call_reply_error(call, status->store_status, text, NULL);
}

void
get_pits(struct call *call)
{
	struct source_status *status = malloc(sizeof *status);
	struct points *points = NULL;

	if (status == NULL)
		call_reply_no_memory(call, "the status");
	else if (!status_get_points(server_status(call->api->sv), &call->source, status, &points))
		reply_no_source(call);
	else if (points == NULL)
		reply_unusable(call, status);
	else
		reply_pits(call, points, status);
	points_unref(points);
	free(status);
}

/* ---- what another policy would keep ---- */

int
prepare_plan(struct call *call, struct hf_error *err)
{
	const char *rules = http_head_param(http_request_head(call->req), "policy");
	int r = prepare_source(call, err);

	if (r == 0 && rules == NULL)
		r = hf_error_say(err, -EINVAL, "?policy=10m/60m%%201h/24h is missing");
	return r == 0 ? policy_parse_rules(rules, &call->policy.policy, err) : r;
}

static json_t *
json_plan(struct call *call, const struct command_answer *answer)
{
	json_t *items = json_array(), *pit;

	for (size_t i = 0; i < answer->pit_count; i++) {
		pit = api_json_pit(&call->source, &answer->pits[i], NULL);
		json_object_set_new(pit, "goes", json_boolean(answer->going[i]));
		json_array_append_new(items, pit);
	}
	return json_pack("{s:s, s:o, s:o, s:o}", "sourceServerID", call->source.text, "items", items, "keptBytes",
	    json_integer((json_int_t)(answer->total_bytes - answer->freed_bytes)), "freedBytes",
	    json_integer((json_int_t)answer->freed_bytes));
}

static void
on_plan(void *arg, const struct command_answer *answer)
{
	struct call *call = call_from_command(arg);

	if (call->req == NULL)
		call_free(call);
	else if (answer->status < 0)
		call_reply_error(call, answer->status, answer->text, NULL);
	else
		call_reply_json(call, 200, json_plan(call, answer));
}

void
get_plan(struct call *call)
{
	command_plan(call->api->sv, &call->source, &call->policy.policy, on_plan, call);
}

/* ---- tokens, CA ---- */

static void
tokens_work(struct helper_job *job)
{
	struct call *call = call_from_job(job);
	struct registry_token *tokens = NULL;

	call->status = registry_list_tokens(server_registry(call->api->sv), &tokens, &call->result_count, &call->err);
	if (call->status == 0)
		call->result = tokens;
}

static void
finish_tokens(struct call *call)
{
	const struct registry_token *tokens = call->result;
	int64_t now_ns = clock_real_ns();
	struct list list;

	if (call->status < 0) {
		call_reply_error(call, call->status, call->err.text, NULL);
		return;
	}
	list_begin(&list);
	for (size_t i = 0; i < call->result_count; i++)
		list_add(&list, api_json_token(&tokens[i], now_ns));
	list_reply(&list, call, NULL);
}

void
get_tokens(struct call *call)
{
	call_work(call, tokens_work, finish_tokens);
}

/* ---- what new sources begin with ---- */

/* What is kept under the key into the object, if that can be read. */
static void
add_kept(struct call *call, const char *key, json_t *object)
{
	char *text = malloc(SETTINGS_TEXT_BYTES);
	int r = text == NULL ? -ENOMEM
			     : registry_get_setting(server_registry(call->api->sv), key, text, SETTINGS_TEXT_BYTES);
	json_t *kept = r == 0 ? settings_load(text) : NULL;

	if (r < 0 && r != -ENOENT)
		call->status = hf_error_set(&call->err, r, "settings");
	if (kept != NULL)
		json_object_update(object, kept);
	json_decref(kept);
	free(text);
}

static void
settings_work(struct helper_job *job)
{
	struct call *call = call_from_job(job);

	call->status = 0;
	call->patch = json_object();
	add_kept(call, REGISTRY_NEW_SOURCE, call->patch);
	add_kept(call, REGISTRY_NEW_STORE, call->patch);
}

static json_t *
json_keys(json_t *object)
{
	json_t *keys = json_array(), *value;
	const char *key;

	json_object_foreach(object, key, value)
	{
		json_array_append_new(keys, json_string(key));
	}
	return keys;
}

void
reply_settings(struct call *call)
{
	json_t *tags = json_object_get(call->patch, "tags"), *all;
	struct settings settings;

	server_default_settings(call->api->sv, &settings);
	if (call->status == 0)
		call->status = settings_read(call->patch, SETTINGS_ALL, &settings, &call->err);
	if (call->status < 0) {
		call_reply_error(call, call->status, call->err.text, NULL);
		return;
	}
	all = settings_json(&settings, SETTINGS_ALL);
	json_object_set_new(all, "tags", tags != NULL ? json_incref(tags) : json_object());
	json_object_set_new(all, "set", json_keys(call->patch));
	call_reply_json(call, 200, all);
}

void
get_settings(struct call *call)
{
	call_work(call, settings_work, reply_settings);
}

static void
certificates_work(struct helper_job *job)
{
	struct call *call = call_from_job(job);
	struct registry_certificate *list = NULL;

	call->status = registry_list_certificates(
	    server_registry(call->api->sv), clock_real_ns(), &list, &call->result_count, &call->err);
	call->result = list;
}

static void
finish_certificates(struct call *call)
{
	const struct registry_certificate *c = call->result;
	int64_t now_ns = clock_real_ns();
	size_t n = call->result_count;
	struct server_facts facts;
	struct list list;

	if (call->status < 0) {
		call_reply_error(call, call->status, call->err.text, NULL);
		return;
	}
	server_get_facts(call->api->sv, &facts);
	list_begin(&list);
	for (int i = 0; i < PKI_ROLES; i++)
		if (facts.certificates[i].fingerprint[0] != '\0')
			list_add(&list, api_json_own_certificate((enum pki_role)i, &facts.certificates[i], now_ns));
	for (size_t i = 0; i < n; i++) /* of each source the newest is the last */
		list_add(&list, api_json_certificate(
				    &c[i], i + 1 < n && strcmp(c[i].source.text, c[i + 1].source.text) == 0, now_ns));
	list_reply(&list, call, NULL);
}

void
get_certificates(struct call *call)
{
	call_work(call, certificates_work, finish_certificates);
}

/* ---- identity ---- */

static void
on_identity(void *arg, const struct command_answer *answer)
{
	struct call *call = call_from_command(arg);
	struct http_request *req = call->req;
	char headers[64];

	if (answer->status < 0) {
		call_reply_error(call, answer->status, answer->text, NULL);
		return;
	}
	snprintf(headers, sizeof headers, "Holdfast-Unknown-Settings: %u\r\n", answer->unknown);
	if (req != NULL) {
		http_stream_begin(req, 200, "application/octet-stream", headers);
		http_stream_add(req, answer->bundle->bytes, answer->bundle->len);
		http_stream_end(req);
		call->outcome = 0;
	}
	call_free(call);
}

void
get_identity(struct call *call)
{
	command_take_identity(call->api->sv, on_identity, call);
}

/* ---- the CA ---- */

enum { PEM_BYTES = 16384 };

struct ca_look {
	struct server_facts facts;
	char certificate[PEM_BYTES], next_certificate[PEM_BYTES];
	struct ca_change change;
};

static int
read_pem(const char *data_dir, const char *name, char ret_text[PEM_BYTES], struct hf_error *err)
{
	char path[600];
	FILE *f;
	int r = 0;

	snprintf(path, sizeof path, "%s/pki/%s", data_dir, name);
	f = fopen(path, "re");
	if (f == NULL)
		return hf_error_set(err, -errno, "%s", path);
	if (fread(ret_text, 1, PEM_BYTES - 1, f) == 0)
		r = hf_error_set(err, -EIO, "%s", path);
	fclose(f);
	return r;
}

static const char *
next_fingerprint(const struct ca_look *l)
{
	return l->facts.certificates[PKI_NEXT_CA].fingerprint;
}

static void
ca_work(struct helper_job *job)
{
	struct call *call = call_from_job(job);
	struct ca_look *l = call->result;
	const char *dir = l->facts.data_dir;

	call->status = read_pem(dir, "ca.pem", l->certificate, &call->err);
	if (call->status == 0 && next_fingerprint(l)[0] != '\0')
		call->status = read_pem(dir, "ca-next.pem", l->next_certificate, &call->err);
	if (call->status == 0 && next_fingerprint(l)[0] != '\0')
		call->status = ca_change_look(
		    server_registry(call->api->sv), next_fingerprint(l), clock_real_ns(), &l->change, &call->err);
}

static json_t *
next_json(const struct ca_look *l)
{
	json_t *waiting = json_array();

	if (next_fingerprint(l)[0] == '\0') {
		json_decref(waiting);
		return json_null();
	}
	for (size_t i = 0; i < l->change.waiting && i < CA_WAITING_MAX; i++)
		json_array_append_new(waiting, json_pack("{s:s, s:o}", "sourceServerID", l->change.list[i].source.text,
						   "hostname", api_json_text(l->change.list[i].hostname)));
	return json_pack("{s:s, s:o, s:I, s:I, s:o}", "fingerprint", next_fingerprint(l), "certificate",
	    json_string(l->next_certificate), "agentsMoved", (json_int_t)l->change.moved, "agentsWaiting",
	    (json_int_t)l->change.waiting, "waiting", waiting);
}

static void
finish_ca(struct call *call)
{
	const struct ca_look *l = call->result;

	if (call->status < 0)
		call_reply_error(call, call->status, call->err.text, NULL);
	else
		call_reply_json(call, 200,
		    json_pack("{s:s, s:o, s:o}", "fingerprint", l->facts.ca_fingerprint, "certificate",
			json_string(l->certificate), "next", next_json(l)));
}

void
get_ca(struct call *call)
{
	struct ca_look *l = calloc(1, sizeof *l);

	if (l == NULL) {
		call_reply_no_memory(call, "the CA");
		return;
	}
	server_get_facts(call->api->sv, &l->facts);
	call->result = l;
	call_work(call, ca_work, finish_ca);
}
