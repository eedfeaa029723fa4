/* SPDX-License-Identifier: Apache-2.0 */
/* http_parse.h: the head of an HTTP/1.x request, from bytes to words. Pure: no socket, no clock, no
 * allocation.
 *
 * Stricter than the RFC allows on purpose: lines end in CRLF, no folding, no transfer coding, one
 * Content-Length, no control characters, origin-form targets. What two readers could understand
 * differently is refused. */
#ifndef HF_SERVER_HTTP_PARSE_H
#define HF_SERVER_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>

enum {
	HTTP_HEAD_BYTES_MAX = 8192,
	HTTP_BODY_BYTES_MAX = 65536,
	HTTP_SEGMENTS_MAX = 8,
	HTTP_PARAMS_MAX = 8,
};

enum http_method { HTTP_GET = 1, HTTP_POST, HTTP_PATCH, HTTP_DELETE };

struct http_head {
	enum http_method method;
	int minor; /* of HTTP/1.x: 0 or 1 */
	bool keep_alive;
	size_t body_bytes;  /* at most HTTP_BODY_BYTES_MAX */
	const char *accept; /* what it would like to get; "" = it did not say. Points into text */

	/* The target's path, percent-decoded, and its query. They point into text. A path of "/"
	 * has no segment. */
	const char *segments[HTTP_SEGMENTS_MAX];
	size_t segment_count;
	struct {
		const char *name, *value;
	} params[HTTP_PARAMS_MAX];
	size_t param_count;

	char text[HTTP_HEAD_BYTES_MAX + 1];
};

/* Parse a whole head: len bytes (at most HTTP_HEAD_BYTES_MAX) that end in the empty line. Returns
 * 0, or the HTTP status to refuse it with, negative: -400, -405, -413, -414, -501, -505; *ret_head
 * is then undefined. */
int http_head_parse(const char *bytes, size_t len, struct http_head *ret_head);

/* Value of a query parameter, or NULL. Borrowed from the head. */
const char *http_head_param(const struct http_head *h, const char *name);

/* "GET", ... Static memory. */
const char *http_method_name(enum http_method method);

#endif
