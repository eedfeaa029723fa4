/* SPDX-License-Identifier: Apache-2.0 */
/* The audit: a change is on record before it happens, and what came of it after; and the routes that tell of it. */
#include "server/api_call.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/hex.h"
#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/api_json.h"
#include "server/audit.h"
#include "server/ledger.h"

/* ---- before ---- */

static void
make_row(struct call *call)
{
	struct registry_audit *a = &call->audit;

	*a = (struct registry_audit){.time_ns = clock_real_ns(), .uid = call->peer.uid, .pid = call->peer.pid};
	do
		random_bytes(&a->request, sizeof a->request);
	while (a->request == 0);
	snprintf(a->verb, sizeof a->verb, "%s", call->route->verb);
	memcpy(a->object, call->object, sizeof a->object);
}

static void
audit_work(struct helper_job *job)
{
	struct call *call = call_from_job(job);
	bool goes_on = call->route->kind == ROUTE_GOES_ON;

	do
		call->status = ledger_add_audit(server_ledger(call->sv), &call->audit, goes_on, &call->err);
	while (call->status == -HF_EFULL && !goes_on && server_make_room(call->sv));
}

/* Where there is no room for the row this line is the audit, until there is. Who has the digest of a row from here can
 * tell that all rows up to it are those that were written. */
static void
log_control(const struct call *call)
{
	char digest[2 * AUDIT_DIGEST_BYTES + 1];

	hex_format(call->audit.digest, AUDIT_DIGEST_BYTES, digest);
	if (call->status == 0)
		log_notice("control", "verb=%s object=\"%s\" uid=%u pid=%d audit=%" PRIu64 " digest=%s",
		    call->audit.verb, call->object, call->peer.uid, (int)call->peer.pid, call->audit.number, digest);
	else
		log_warning("control",
		    "verb=%s object=\"%s\" uid=%u pid=%d msg=\"there is no room for its row in the audit: this line "
		    "stands "
		    "for it\"",
		    call->audit.verb, call->object, call->peer.uid, (int)call->peer.pid);
}

static void
finish_audit(struct call *call)
{
	if (call->status < 0 && !(call->status == -HF_EFULL && call->route->kind == ROUTE_GOES_ON)) {
		call->audit.request = 0; /* it has no row, so nothing comes of it */
		call_reply_error(
		    call, call->status, call->err.text, "nothing was changed: the audit cannot be written");
		return;
	}
	log_control(call);
	call->route->run(call);
}

void
call_run_audited(struct call *call)
{
	make_row(call);
	call->outcome = -ECANCELED; /* until somebody knows better */
	call_work(call, audit_work, finish_audit);
}

/* ---- after ---- */

void
call_audit_outcome(struct call *call)
{
	struct registry_audit result = call->audit;

	if (result.request == 0)
		return;
	result.time_ns = clock_real_ns();
	snprintf(result.result, sizeof result.result, "%s", call->outcome == 0 ? "OK" : hf_status_name(call->outcome));
	server_add_audit(call->sv, &result);
}

/* ---- GET /v1/audit ---- */

int
prepare_audit(struct call *call, struct hf_error *err)
{
	return call_param_page(call, err);
}

static void
list_work(struct helper_job *job)
{
	struct call *call = call_from_job(job);
	struct registry_audit *rows = NULL;

	call->status = registry_list_audit(
	    server_registry(call->sv), 0, call->before, (size_t)call->limit, &rows, &call->result_count, &call->err);
	if (call->status == 0)
		call->result = rows;
}

static void
finish_list(struct call *call)
{
	const struct registry_audit *rows = call->result;
	json_t *items = json_array();
	char cursor[24] = "";

	if (call->status < 0) {
		json_decref(items);
		call_reply_error(call, call->status, call->err.text, NULL);
		return;
	}
	for (size_t i = 0; i < call->result_count; i++)
		json_array_append_new(items, api_json_audit(&rows[i]));
	if (call->result_count > 0 && rows[0].number > 1)
		snprintf(cursor, sizeof cursor, "%" PRIu64, rows[0].number);
	call_reply_json(
	    call, 200, json_pack("{s:o, s:s?}", "items", items, "nextCursor", cursor[0] != '\0' ? cursor : NULL));
}

void
get_audit(struct call *call)
{
	call_work(call, list_work, finish_list);
}

/* ---- GET /v1/audit/check ---- */

static void
check_work(struct helper_job *job)
{
	struct call *call = call_from_job(job);
	struct audit_report *report = malloc(sizeof *report);

	call->result = report; /* freed with the call */
	call->status = report != NULL
			   ? audit_check(server_registry(call->sv), report, &call->err)
			   : hf_error_say(&call->err, -ENOMEM, "the server has no memory left for the audit");
}

static void
finish_check(struct call *call)
{
	if (call->status < 0)
		call_reply_error(call, call->status, call->err.text, NULL);
	else
		call_reply_json(call, 200, api_json_audit_report(call->result));
}

void
get_audit_check(struct call *call)
{
	call_work(call, check_work, finish_check);
}
