/* SPDX-License-Identifier: Apache-2.0 */
#include "server/http_parse.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "proto/common/text.h"

static const struct {
	const char *name;
	enum http_method method;
} methods[] = {{"GET", HTTP_GET}, {"POST", HTTP_POST}, {"PATCH", HTTP_PATCH}, {"DELETE", HTTP_DELETE}};

const char *
http_method_name(enum http_method method)
{
	for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
		if (methods[i].method == method)
			return methods[i].name;
	return "";
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Undo percent-encoding in place. What may not be shown is refused in whatever way it is written. */
static int
decode_percent(char *text)
{
	char *to = text;

	for (const char *from = text; *from != '\0'; from++) {
		char c = *from;

		if (c == '%') {
			int high = hex_digit(from[1]);
			int low = high < 0 ? -1 : hex_digit(from[2]);

			if (low < 0)
				return -400;
			c = (char)(high << 4 | low);
			from += 2;
		}
		*to++ = c;
	}
	*to = '\0';
	return text_is_plain(text, (size_t)(to - text)) ? 0 : -400;
}

static int
parse_path(struct http_head *h, char *path)
{
	char *save, *segment;

	if (path[0] != '/')
		return -400;
	for (segment = strtok_r(path, "/", &save); segment != NULL; segment = strtok_r(NULL, "/", &save)) {
		if (h->segment_count == HTTP_SEGMENTS_MAX)
			return -414;
		if (decode_percent(segment) < 0)
			return -400;
		h->segments[h->segment_count++] = segment;
	}
	return 0;
}

static int
parse_query(struct http_head *h, char *query)
{
	char *save, *param;

	for (param = strtok_r(query, "&", &save); param != NULL; param = strtok_r(NULL, "&", &save)) {
		char *value = strchr(param, '=');

		if (h->param_count == HTTP_PARAMS_MAX)
			return -414;
		if (value != NULL)
			*value++ = '\0';
		else
			value = param + strlen(param);
		if (decode_percent(param) < 0 || decode_percent(value) < 0)
			return -400;
		h->params[h->param_count].name = param;
		h->params[h->param_count++].value = value;
	}
	return 0;
}

static int
parse_target(struct http_head *h, char *target)
{
	char *query = strchr(target, '?');
	int r;

	if (query != NULL)
		*query++ = '\0';
	r = parse_path(h, target);
	if (r == 0 && query != NULL)
		r = parse_query(h, query);
	return r;
}

static int
parse_method(struct http_head *h, const char *name)
{
	for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
		if (strcmp(methods[i].name, name) == 0) {
			h->method = methods[i].method;
			return 0;
		}
	}
	return -405;
}

static int
parse_version(struct http_head *h, const char *version)
{
	if (strncmp(version, "HTTP/", 5) != 0)
		return -400;
	if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
		return -505;
	h->minor = version[7] - '0';
	h->keep_alive = h->minor == 1;
	return 0;
}

/* "GET /v1/x?y=z HTTP/1.1": exactly two spaces. */
static int
parse_request_line(struct http_head *h, char *line)
{
	char *target = strchr(line, ' ');
	char *version = target == NULL ? NULL : strchr(target + 1, ' ');
	int r;

	if (version == NULL)
		return -400;
	*target++ = '\0';
	*version++ = '\0';
	r = parse_version(h, version);
	if (r == 0)
		r = parse_method(h, line);
	if (r == 0)
		r = parse_target(h, target);
	return r;
}

static int
parse_content_length(struct http_head *h, const char *value, bool *seen)
{
	size_t n = 0;

	if (*seen || value[0] == '\0')
		return -400;
	*seen = true;
	for (; *value != '\0'; value++) {
		if (*value < '0' || *value > '9')
			return -400;
		n = n * 10 + (size_t)(*value - '0');
		if (n > HTTP_BODY_BYTES_MAX)
			return -413;
	}
	h->body_bytes = n;
	return 0;
}

static void
parse_connection(struct http_head *h, char *value)
{
	char *save;

	for (char *word = strtok_r(value, ", \t", &save); word != NULL; word = strtok_r(NULL, ", \t", &save)) {
		if (strcasecmp(word, "close") == 0)
			h->keep_alive = false;
		else if (strcasecmp(word, "keep-alive") == 0)
			h->keep_alive = true;
	}
}

/* "Name:value"; of all headers only four concern us. */
static int
parse_header(struct http_head *h, char *line, bool *length_seen)
{
	static const char name_chars[] = "!#$%&'*+-.^_`|~0123456789"
					 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	size_t name_len = strspn(line, name_chars);
	char *value = line + name_len + 1, *end;

	if (name_len == 0 || line[name_len] != ':')
		return -400;
	line[name_len] = '\0';
	value += strspn(value, " \t");
	for (end = value + strlen(value); end > value && (end[-1] == ' ' || end[-1] == '\t'); end--)
		end[-1] = '\0';
	if (strcasecmp(line, "content-length") == 0)
		return parse_content_length(h, value, length_seen);
	if (strcasecmp(line, "transfer-encoding") == 0)
		return -501;
	if (strcasecmp(line, "connection") == 0)
		parse_connection(h, value);
	if (strcasecmp(line, "accept") == 0)
		h->accept = value;
	return 0;
}

/* Text of the head: printable, tabs, and CRLF where a line ends. */
static bool
text_is_clean(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '\r' ? text[i + 1] != '\n' : c == '\n' && (i == 0 || text[i - 1] != '\r'))
			return false;
		if ((c < ' ' && c != '\r' && c != '\n' && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

int
http_head_parse(const char *bytes, size_t len, struct http_head *ret_head)
{
	struct http_head *h = ret_head;
	bool length_seen = false;
	char *line, *next;
	int r = 0;

	assert(len <= HTTP_HEAD_BYTES_MAX);
	memset(h, 0, offsetof(struct http_head, text));
	memcpy(h->text, bytes, len);
	h->text[len] = '\0';
	h->accept = "";
	if (len < 4 || memcmp(bytes + len - 4, "\r\n\r\n", 4) != 0 || !text_is_clean(h->text, len))
		return -400;
	for (line = h->text; r == 0 && line[0] != '\r'; line = next) {
		next = strchr(line, '\r');
		*next = '\0';
		next += 2;
		r = line == h->text ? parse_request_line(h, line) : parse_header(h, line, &length_seen);
	}
	if (r == 0 && h->method == 0)
		r = -400;
	return r;
}

const char *
http_head_param(const struct http_head *h, const char *name)
{
	for (size_t i = 0; i < h->param_count; i++)
		if (strcmp(h->params[i].name, name) == 0)
			return h->params[i].value;
	return NULL;
}
