/* SPDX-License-Identifier: Apache-2.0 */
#include "server/api_call.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/api_json.h"
#include "server/metrics_text.h"

enum {
	CALL_MAGIC = 0x43414c4c,
	ITEMS_PER_PAGE_MAX = 1000, /* less than a KiB each */
};

struct call *
call_from_command(void *arg)
{
	struct call *call = arg;

	assert(call->magic == CALL_MAGIC);
	return call;
}

static void
on_gone(void *arg)
{
	call_from_command(arg)->req = NULL;
}

struct call *
call_create(struct api *api, struct http_request *req)
{
	struct call *call = calloc(1, sizeof *call);

	if (call == NULL)
		return NULL;
	call->magic = CALL_MAGIC;
	call->sv = api->sv;
	call->api = api;
	call->req = req;
	call->peer = *http_request_peer(req);
	http_request_watch(req, on_gone, call);
	return call;
}

struct call *
call_from_job(struct helper_job *job)
{
	return call_from_command((char *)job - offsetof(struct call, job));
}

void
call_free(struct call *call)
{
	call_audit_outcome(call);
	free(call->result);
	json_decref(call->patch);
	call->magic = 0;
	free(call);
}

/* ---- answers ---- */

/* Which question it is: the header says in which of its two languages /metrics is wanted. */
static const char *
name_question(const struct call *call, char *buf)
{
	snprintf(buf, KEPT_QUESTION_BYTES, "%s %s %d", call->route->path, call->args[0] != NULL ? call->args[0] : "",
	    metrics_are_open(http_request_head(call->req)->accept));
	return buf;
}

static struct kept_moment
moment(const struct call *call)
{
	return (struct kept_moment){clock_monotonic_ns(), clock_thread_ns(), status_turns(server_status(call->sv))};
}

bool
call_reply_kept(struct call *call)
{
	char question[KEPT_QUESTION_BYTES];
	struct kept_moment now = moment(call);
	const char *content_type;
	struct evbuffer *body;
	int http_status;

	if (http_request_head(call->req)->param_count > 0)
		return false; /* that is another question */
	body = kept_find(&call->api->kept, name_question(call, question), &now, &http_status, &content_type);
	if (body != NULL)
		call_reply_body(call, http_status, content_type, body);
	else
		call->begun = now;
	return body != NULL;
}

static void
keep(struct call *call, int http_status, const char *content_type, struct evbuffer **body)
{
	char question[KEPT_QUESTION_BYTES];

	kept_add(&call->api->kept, name_question(call, question), &call->begun,
	    clock_thread_ns() - call->begun.worked_ns, http_status, content_type, body);
}

void
call_reply_body(struct call *call, int http_status, const char *content_type, struct evbuffer *body)
{
	if (call->begun.at_ns != 0 && call->req != NULL && call->outcome == 0 && body != NULL)
		keep(call, http_status, content_type, &body);
	if (call->req != NULL && call->route != NULL && call->route->kind >= ROUTE_CHANGES)
		kept_drop(&call->api->kept, clock_monotonic_ns()); /* whoever changed something, and looks, finds it */
	if (call->req != NULL)
		http_reply(call->req, http_status, content_type, body);
	if (body != NULL)
		evbuffer_free(body);
	call_free(call);
}

/* Whole, and then at once: jansson would hand out every comma by itself. */
int
call_add_json(struct evbuffer *body, json_t *json)
{
	char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
	int r = text == NULL ? -ENOMEM : 0;

	if (r == 0 && evbuffer_add(body, text, strlen(text)) < 0)
		r = -ENOMEM;
	free(text);
	json_decref(json);
	return r;
}

static void
reply_json(struct call *call, int http_status, const char *content_type, json_t *json)
{
	struct evbuffer *body = evbuffer_new();

	if (body == NULL)
		json_decref(json);
	else if (call_add_json(body, json) < 0)
		http_status = 500; /* out of memory: say at least that */
	if (body != NULL)
		evbuffer_add(body, "\n", 1);
	call_reply_body(call, http_status, content_type, body);
}

void
call_reply_json(struct call *call, int http_status, json_t *json)
{
	call->outcome = 0;
	reply_json(call, http_status, "application/json", json);
}

void
call_reply_error(struct call *call, int code, const char *detail, const char *hint)
{
	int status = api_http_status(code);

	call->outcome = code;
	reply_json(call, status, "application/problem+json", api_json_problem(status, code, detail, hint));
}

void
call_reply_no_memory(struct call *call, const char *what)
{
	char detail[96];

	snprintf(detail, sizeof detail, "the server has no memory left for %s", what);
	call_reply_error(call, -ENOMEM, detail, "try again; see what takes the memory of that machine");
}

static void
finish_work(struct helper_job *job)
{
	struct call *call = call_from_job(job);

	if (call->req == NULL)
		call_free(call);
	else if (job->cancelled)
		call_reply_error(call, -ECANCELED, "the server is shutting down", NULL);
	else
		call->finish(call);
}

void
call_work(struct call *call, void (*work)(struct helper_job *job), void (*finish)(struct call *call))
{
	call->job.work = work;
	call->job.done = finish_work;
	call->finish = finish;
	if (helper_post(call->api->helper, &call->job) < 0)
		call_reply_error(call, -EAGAIN, "too many requests wait for the registry", "try again in a second");
}

static void
make_room_work(struct helper_job *job)
{
	(void)server_make_room(call_from_job(job)->api->sv); /* without any left, the database's log may have some */
}

static void
run_again(struct call *call)
{
	call->route->run(call);
}

bool
call_try_again(struct call *call, int status)
{
	if (call->tried || call->req == NULL || (status != -HF_EFULL && status != -ENOSPC && status != -EDQUOT))
		return false;
	call->tried = true;
	call_work(call, make_room_work, run_again);
	return true;
}

int
call_body(struct call *call, json_t **ret_body, struct hf_error *err)
{
	size_t len = http_request_head(call->req)->body_bytes;
	json_error_t problem;

	call->body_read = true;
	*ret_body =
	    len == 0 ? json_object() : json_loadb(http_request_body(call->req), len, JSON_REJECT_DUPLICATES, &problem);
	if (*ret_body == NULL)
		return hf_error_say(err, -EINVAL, "body, line %d: %s", problem.line, problem.text);
	return 0;
}

int
call_check_body(struct call *call, struct hf_error *err)
{
	json_t *body;
	int r;

	if (call->body_read)
		return 0;
	r = call_body(call, &body, err);
	if (r < 0)
		return r;
	if (!json_is_object(body) || json_object_size(body) > 0)
		r = hf_error_say(err, -EINVAL, "body: there is nothing to say to this path");
	json_decref(body);
	return r;
}

int
call_param_number(const struct call *call, const char *name, uint64_t max, uint64_t fallback, uint64_t *ret_value,
    struct hf_error *err)
{
	const char *text = http_head_param(http_request_head(call->req), name);
	unsigned long long value;
	char *end;

	if (text == NULL) {
		*ret_value = fallback;
		return 0;
	}
	errno = 0;
	value = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value > max)
		return hf_error_say(err, -EINVAL, "%s=%s: a number from 0 to %" PRIu64 " is wanted", name, text, max);
	*ret_value = value;
	return 0;
}

int
call_param_page(struct call *call, struct hf_error *err)
{
	int r = call_param_number(call, "cursor", UINT64_MAX, UINT64_MAX, &call->before, err);

	if (r == 0)
		r = call_param_number(call, "limit", ITEMS_PER_PAGE_MAX, ITEMS_PER_PAGE_MAX, &call->limit, err);
	if (r == 0 && call->limit == 0)
		r = hf_error_say(err, -EINVAL, "limit=0: at least 1 is wanted");
	return r;
}

int
call_param_source(struct call *call, bool required, struct hf_error *err)
{
	const char *text = http_head_param(http_request_head(call->req), "sourceServerID");

	if (text == NULL)
		return required ? hf_error_say(err, -EINVAL, "?sourceServerID=s-... is missing") : 0;
	if (!id_parse("s", text, &call->source))
		return hf_error_say(err, -EINVAL, "sourceServerID=%s: s- and 17 hexadecimal digits are wanted", text);
	return 0;
}

int
call_arg_id(const struct call *call, size_t index, const char *prefix, struct id *ret_id, struct hf_error *err)
{
	if (id_parse(prefix, call->args[index], ret_id))
		return 0;
	return hf_error_say(
	    err, -EINVAL, "\"%s\" is no id: %s- and 17 hexadecimal digits are wanted", call->args[index], prefix);
}
