/* SPDX-License-Identifier: Apache-2.0 */
/* api_call.h: one request on its way through the API, for the api_*.c files alone.
 *
 * A call is made when its request is whole, and ends with exactly one of call_reply_*(),
 * call_reply_error() or call_free(). In between it waits for one thing: the helper thread, or a
 * command. When the peer goes away meanwhile, req becomes NULL; whoever is called back then just
 * ends the call. */
#ifndef HF_SERVER_API_CALL_H
#define HF_SERVER_API_CALL_H

#include <jansson.h>

#include "server/api_helper.h"
#include "server/api_kept.h"
#include "server/command.h"
#include "server/http.h"
#include "server/server_facts.h"

struct evbuffer;

struct api {
	struct server *sv;
	struct kept kept;
	struct helper *helper;
	struct http_server *monitor, *admin, *metrics; /* metrics: NULL, unless it is configured */
	bool admin_group;      /* admin.sock belongs to group holdfast-admin: its mode lets only the
				  right ones in */
	uint64_t newest_event; /* a number that had been given out; a hint where to look on */
};

struct call;

enum route_kind {
	ROUTE_SHOWS,    /* on either socket, and not audited; whoever asks within a moment gets the same answer */
	ROUTE_TELLS,    /* the same, but every answer is written anew */
	ROUTE_CONFIDES, /* on admin.sock, and not audited */
	ROUTE_CHANGES,  /* on admin.sock, and only if the audit has it */
	ROUTE_GOES_ON,  /* on admin.sock, and also where the audit finds no room: it only reads, or it makes room */
};

struct route {
	enum http_method method;
	const char *path; /* '*' stands for one segment: call->args */
	const char *verb; /* as audited; NULL: it is not */
	enum route_kind kind;
	int (*prepare)(struct call *call, struct hf_error *err); /* check all that was asked; may be NULL */
	void (*run)(struct call *call);
	const char *summary;
};

/* Every route there is. Static memory. */
const struct route *api_routes(size_t *ret_count);

enum { CALL_ARGS_MAX = 3 };

struct call {
	unsigned magic;
	struct server *sv;
	struct api *api;          /* not when the peer is gone: it may be, too */
	struct http_request *req; /* NULL: the peer is gone */
	const struct route *route;
	const char *args[CALL_ARGS_MAX]; /* borrowed from the request */
	struct http_peer peer;
	struct kept_moment begun;        /* of one whose answer will be kept; never: it will not */
	char object[AUDIT_OBJECT_BYTES]; /* what is changed, for the audit */
	struct registry_audit audit;     /* its row; request 0: it has none */
	int outcome;                     /* what comes of it, for the audit */
	bool tried;                      /* it found no room once, and was given some */
	bool body_read;                  /* prepare() knows what it says */

	/* what prepare() found in arguments and body */
	struct id source, pit, token; /* "" = not given */
	char name[PIT_NAME_BYTES];
	bool newest, with_points, force;
	enum store_pit_verb pit_verb;
	int64_t timeout_ns, lifetime_ns;
	uint64_t before,
	    limit; /* of a page: the number it ends before, UINT64_MAX = at the newest; items, at least 1 */
	struct quota_change quota;
	struct policy_change policy;
	struct throttle throttle;
	json_t *patch; /* of settings */

	/* the helper's work and its result */
	struct helper_job job;
	void (*finish)(struct call *call);
	int status;
	struct hf_error err;
	void *result; /* freed with the call */
	size_t result_count;
};

struct call *call_create(struct api *api, struct http_request *req); /* NULL: out of memory */
struct call *call_from_command(void *arg);
void call_free(struct call *call); /* the request, if still there, has been answered */

/* A change that was refused so for want of room (or anything else: false) is given more of the reserve and run again,
 * once. Then the call is not over. */
bool call_try_again(struct call *call, int status);

/* Each ends the call. json and body are taken. */
void call_reply_json(struct call *call, int http_status, json_t *json);
void call_reply_body(struct call *call, int http_status, const char *content_type, struct evbuffer *body);

/* Answer with what is kept, and end the call. False: nothing is; the answer that call_reply_body() is given will be. */
bool call_reply_kept(struct call *call);

/* Append json's text, or nothing. Takes json (NULL: out of memory). 0 or -ENOMEM. */
int call_add_json(struct evbuffer *body, json_t *json);

/* hint may be NULL. */
void call_reply_error(struct call *call, int code, const char *detail, const char *hint);

/* No memory is left for "the status". */
void call_reply_no_memory(struct call *call, const char *what);

/* Run work(job) on the helper thread, then finish(call) on the loop; a dead or cancelled call ends
 * without it. */
void call_work(struct call *call, void (*work)(struct helper_job *job), void (*finish)(struct call *call));
struct call *call_from_job(struct helper_job *job);

/* The body, a JSON object; "" is an empty one. A new reference. 0 or -EINVAL. */
int call_body(struct call *call, json_t **ret_body, struct hf_error *err);
/* A body that nobody asked for must be empty: what it says would be ignored. 0 or -EINVAL. */
int call_check_body(struct call *call, struct hf_error *err);

/* A query parameter as a number up to max, or fallback if it is not given. 0 or -EINVAL with err.
 */
int call_param_number(const struct call *call, const char *name, uint64_t max, uint64_t fallback, uint64_t *ret_value,
    struct hf_error *err);
/* cursor and limit of a page into call->before and call->limit. 0 or -EINVAL. */
int call_param_page(struct call *call, struct hf_error *err);
/* sourceServerID from the query into call->source. */
int call_param_source(struct call *call, bool required, struct hf_error *err);
/* args[index] as an id into *ret_id. */
int call_arg_id(const struct call *call, size_t index, const char *prefix, struct id *ret_id, struct hf_error *err);

/* api_audit.c: put it on record, then run its route. Ends the call if it cannot be put on record. */
void call_run_audited(struct call *call);
/* Put on record what came of it. */
void call_audit_outcome(struct call *call);

/* ---- the routes' two halves, by file ---- */

/* api_audit.c */
int prepare_audit(struct call *call, struct hf_error *err);
void get_audit(struct call *call);
void get_audit_check(struct call *call);

/* api_read.c */
void get_version(struct call *call);
void get_health(struct call *call);
void get_status(struct call *call);
void get_sources(struct call *call);
int prepare_source(struct call *call, struct hf_error *err);
void get_source(struct call *call);
int prepare_source_filter(struct call *call, struct hf_error *err);
void get_volumes(struct call *call);
int prepare_pits(struct call *call, struct hf_error *err);
void get_pits(struct call *call);
int prepare_plan(struct call *call, struct hf_error *err);
void get_plan(struct call *call);
void get_tokens(struct call *call);
void get_ca(struct call *call);
void get_certificates(struct call *call);
void get_settings(struct call *call);
void reply_settings(struct call *call); /* with what is set: call->patch */
void get_identity(struct call *call);
void get_metrics(struct call *call); /* api_metrics.c */

/* api_change.c */
int prepare_token_create(struct call *call, struct hf_error *err);
void post_token(struct call *call);
int prepare_token(struct call *call, struct hf_error *err);
void delete_token(struct call *call);
int prepare_pit_create(struct call *call, struct hf_error *err);
void post_pit(struct call *call);
int prepare_pit_hold(struct call *call, struct hf_error *err);
int prepare_pit_release(struct call *call, struct hf_error *err);
int prepare_pit_delete(struct call *call, struct hf_error *err);
void change_pit(struct call *call);
void post_adopt(struct call *call);
void post_reload(struct call *call);
void post_revoke(struct call *call);
void post_rotate_ca(struct call *call);
int prepare_retire_ca(struct call *call, struct hf_error *err);
void post_retire_ca(struct call *call);
void post_renew_server(struct call *call);
void post_renew_source(struct call *call);
int prepare_quota(struct call *call, struct hf_error *err);
void post_quota(struct call *call);
int prepare_throttle(struct call *call, struct hf_error *err);
void post_throttle(struct call *call);
void post_scrub(struct call *call);
void delete_scrub(struct call *call);
int prepare_policy(struct call *call, struct hf_error *err);
void post_policy(struct call *call);
int prepare_settings(struct call *call, struct hf_error *err);
void post_settings(struct call *call);
int prepare_source_settings(struct call *call, struct hf_error *err);
void post_source_settings(struct call *call);
void post_freeze(struct call *call);
void post_thaw(struct call *call);
void post_stop(struct call *call);
void post_pause(struct call *call);
void post_resume(struct call *call);
void post_start(struct call *call);
void delete_source(struct call *call);
int prepare_volume_delete(struct call *call, struct hf_error *err);
void delete_volume(struct call *call);
int prepare_verify(struct call *call, struct hf_error *err);
void post_verify(struct call *call);

/* api_events.c */
int prepare_events(struct call *call, struct hf_error *err);
void get_events(struct call *call);

/* api_export.c */
int prepare_export(struct call *call, struct hf_error *err);
void get_export(struct call *call);

#endif
