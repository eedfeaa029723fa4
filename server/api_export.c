/* SPDX-License-Identifier: Apache-2.0 */
/* GET .../volumes/VOLUME/data: a volume at a point in time as a stream of verified ranges
 * (export_stream.h). The next chunk is read when the peer has taken most of the last one, so a slow
 * reader costs two chunks of memory and nothing else. */
#include "server/api_call.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/export.h"
#include "server/export_stream.h"

enum { EXPORT_LOW_BYTES = EXPORT_BODY_MAX }; /* read one chunk ahead of the socket */

enum export_state {
	SENDING_OPENS, /* export_open() has not answered */
	SENDING_READS, /* a chunk is asked for */
	SENDING_WAITS, /* for the peer */
};

struct sending {
	struct call *call;
	enum export_state state;
	struct export *export;
	uint64_t from, salvage;
	char volume[PATH_BYTES];
};

/* The request has ended. */
static void
free_sending(struct sending *s)
{
	if (s->export != NULL)
		export_close(s->export);
	call_free(s->call);
	free(s);
}

static void
on_sending_gone(void *arg)
{
	struct sending *s = arg;

	s->call->req = NULL;
	if (s->state != SENDING_OPENS)
		free_sending(s);
}

static void
send_chunk(struct http_request *req, const struct export_chunk *chunk)
{
	struct export_record record = {.kind = (uint32_t)chunk->kind, .offset = chunk->offset, .length = chunk->length};
	unsigned char header[EXPORT_RECORD_BYTES];
	const void *body = NULL;

	if (chunk->kind == EXPORT_DATA) {
		assert(chunk->length <= EXPORT_BODY_MAX);
		record.body_bytes = (uint32_t)chunk->length;
		body = chunk->data;
	} else if (chunk->kind == EXPORT_ERROR) {
		record.body_bytes = (uint32_t)strlen(chunk->text);
		body = chunk->text;
	}
	export_record_encode(&record, header);
	http_stream_add(req, header, sizeof header);
	if (record.body_bytes > 0)
		http_stream_add(req, body, record.body_bytes);
}

static void ask_next(void *arg);

static void
on_chunk(void *arg, const struct export_chunk *chunk)
{
	struct sending *s = arg;

	assert(s->state == SENDING_READS);
	send_chunk(s->call->req, chunk);
	if (chunk->kind == EXPORT_END || chunk->kind == EXPORT_ERROR) {
		http_stream_end(s->call->req);
		s->call->outcome = chunk->kind == EXPORT_END ? 0 : chunk->status;
		free_sending(s);
		return;
	}
	s->state = SENDING_WAITS;
	http_stream_wait(s->call->req, EXPORT_LOW_BYTES, ask_next, s);
}

static void
ask_next(void *arg)
{
	struct sending *s = arg;

	s->state = SENDING_READS;
	export_next(s->export, on_chunk, s);
}

static void
begin_stream(struct sending *s, const struct export_facts *facts)
{
	char headers[1024], time[UNITS_TEXT_BYTES];

	snprintf(headers, sizeof headers,
	    "X-Holdfast-Source-Server: %s\r\nX-Holdfast-Point-In-Time: %s\r\nX-Holdfast-Timestamp: "
	    "%s\r\nX-Holdfast-Volume: %s\r\n"
	    "X-Holdfast-Volume-Bytes: %" PRIu64 "\r\nX-Holdfast-Data-Bytes: %" PRIu64
	    "\r\nX-Holdfast-Root-Digest: %016" PRIx64 "\r\n",
	    facts->source.text, facts->pit.id.text, time_format(facts->pit.time_ns, time), facts->volume.text,
	    facts->size_bytes, facts->data_bytes, facts->root_digest);
	http_stream_begin(s->call->req, 200, "application/vnd.holdfast.extents", headers);
}

static void
on_opened(void *arg, int status, const char *text, struct export *e, const struct export_facts *facts)
{
	struct sending *s = arg;

	s->export = status < 0 ? NULL : e;
	if (s->call->req == NULL) {
		free_sending(s);
		return;
	}
	if (status < 0) {
		call_reply_error(s->call, status, text,
		    status == -HF_EVOLUME ? "holdfastctl volume list shows them; at an older point there may be others"
					  : NULL);
		free(s);
		return;
	}
	begin_stream(s, facts);
	ask_next(s);
}

int
prepare_export(struct call *call, struct hf_error *err)
{
	uint64_t from, salvage;
	int r = call_arg_id(call, 0, "pit", &call->pit, err);

	if (r == 0)
		r = call_param_source(call, true, err);
	if (r == 0)
		r = call_param_number(call, "from", INT64_MAX, 0, &from, err);
	if (r == 0)
		r = call_param_number(call, "salvage", 1, 0, &salvage, err);
	snprintf(call->object, sizeof call->object, "%s %s %s", call->source.text, call->pit.text, call->args[1]);
	return r;
}

void
get_export(struct call *call)
{
	struct sending *s = calloc(1, sizeof *s);

	if (s == NULL) {
		call_reply_no_memory(call, "an export");
		return;
	}
	s->call = call;
	snprintf(s->volume, sizeof s->volume, "%s", call->args[1]);
	(void)call_param_number(call, "from", INT64_MAX, 0, &s->from, NULL); /* prepare_export() has checked it */
	(void)call_param_number(call, "salvage", 1, 0, &s->salvage, NULL);
	http_request_watch(call->req, on_sending_gone, s);
	export_open(call->api->sv, &call->source, &call->pit, s->volume, s->from, s->salvage != 0, on_opened, s);
}
