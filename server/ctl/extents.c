/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/extents.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void
extents_init(struct extents *e, uint64_t offset, uint64_t size_bytes, const struct extents_sink *sink)
{
	*e = (struct extents){.offset = offset, .size_bytes = size_bytes, .sink = *sink};
}

static int
fail(struct extents *e, const char *what)
{
	e->state = EXTENTS_FAILED;
	snprintf(
	    e->error, sizeof e->error, "the stream is damaged at byte %" PRIu64 " of the volume: %s", e->offset, what);
	return -EPROTO;
}

static int
begin_range(struct extents *e)
{
	const struct export_record *r = &e->record;

	if (r->offset != e->offset)
		return fail(e, "a range is missing or comes twice");
	if (r->length == 0 || r->length > e->size_bytes - e->offset)
		return fail(e, "a range goes beyond the end");
	if (r->kind == RECORD_HOLE && r->body_bytes == 0) {
		e->offset += r->length;
		return e->sink.hole(e->sink.arg, r->length);
	}
	if (r->kind == RECORD_BAD && r->body_bytes == 0 && e->sink.bad != NULL) {
		e->offset += r->length;
		return e->sink.bad(e->sink.arg, r->length);
	}
	if (r->kind != RECORD_DATA || r->body_bytes != r->length)
		return fail(e, "a range and its bytes disagree");
	e->state = EXTENTS_BODY;
	return 0;
}

static int
end_stream(struct extents *e)
{
	if (e->offset != e->size_bytes || e->record.length != e->size_bytes || e->record.body_bytes != 0)
		return fail(e, "it ends too early");
	e->state = EXTENTS_ENDED;
	return 0;
}

static int
begin_record(struct extents *e)
{
	export_record_decode(e->header, &e->record);
	e->header_len = 0;
	e->body_left = e->record.body_bytes;
	if (e->record.body_bytes > EXPORT_BODY_MAX)
		return fail(e, "a record is too large");
	switch (e->record.kind) {
	case RECORD_DATA:
	case RECORD_BAD:
	case RECORD_HOLE: return begin_range(e);
	case RECORD_END: return end_stream(e);
	case RECORD_ERROR:
		e->state = e->body_left > 0 ? EXTENTS_BODY : EXTENTS_FAILED;
		return e->body_left > 0 ? 0 : -EPROTO;
	default: return fail(e, "a record of unknown kind");
	}
}

static size_t
feed_header(struct extents *e, const unsigned char *bytes, size_t len, int *ret_status)
{
	size_t n = EXPORT_RECORD_BYTES - e->header_len;

	n = n < len ? n : len;
	memcpy(e->header + e->header_len, bytes, n);
	e->header_len += n;
	if (e->header_len == EXPORT_RECORD_BYTES)
		*ret_status = begin_record(e);
	return n;
}

static int
take_error_text(struct extents *e, const unsigned char *bytes, size_t len)
{
	size_t room = sizeof e->error - 1 - e->error_len;
	size_t n = len < room ? len : room;

	memcpy(e->error + e->error_len, bytes, n);
	e->error_len += n;
	if (e->body_left > 0)
		return 0;
	e->state = EXTENTS_FAILED;
	return -EPROTO;
}

static size_t
feed_body(struct extents *e, const unsigned char *bytes, size_t len, int *ret_status)
{
	size_t n = e->body_left < len ? e->body_left : len;

	e->body_left -= n;
	if (e->record.kind == RECORD_ERROR) {
		*ret_status = take_error_text(e, bytes, n);
		return n;
	}
	e->offset += n;
	if (e->body_left == 0)
		e->state = EXTENTS_HEADER;
	*ret_status = e->sink.data(e->sink.arg, bytes, n);
	return n;
}

int
extents_feed(struct extents *e, const unsigned char *bytes, size_t len)
{
	int status = 0;

	while (len > 0 && status == 0) {
		size_t n = 0;

		switch (e->state) {
		case EXTENTS_HEADER: n = feed_header(e, bytes, len, &status); break;
		case EXTENTS_BODY: n = feed_body(e, bytes, len, &status); break;
		case EXTENTS_ENDED: return fail(e, "it goes on after its end");
		case EXTENTS_FAILED: return -EPROTO;
		}
		bytes += n;
		len -= n;
	}
	return status;
}

bool
extents_complete(const struct extents *e)
{
	return e->state == EXTENTS_ENDED;
}
