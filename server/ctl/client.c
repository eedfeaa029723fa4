/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/client.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#include "proto/common/units.h"

enum {
	TIMEOUT_S = 30,
	CONNECT_TIMEOUT_S = 5,
	REPLY_BYTES_MAX = 256 << 20, /* a list of very many sources */
	PATH_BYTES_MAX = 2048,
};

#define MOMENT_NS (NS_PER_SECOND / 10)

struct client {
	CURL *curl;
	char monitor[256], admin[256];
	long timeout_s;
	bool patient; /* asks again when it is told to, until the timeout */
	char problem[CURL_ERROR_SIZE];

	/* the answer under way */
	char *body;
	size_t body_len;
	const struct client_stream *stream; /* NULL: it is collected in body */
	bool begun;
	int stream_code;
};

/* ---- where the sockets are ---- */

static bool
is_socket(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static void
set_directory(struct client *c, const char *dir)
{
	snprintf(c->monitor, sizeof c->monitor, "%s/monitor.sock", dir);
	snprintf(c->admin, sizeof c->admin, "%s/admin.sock", dir);
}

/* True if holdfastd has a socket there. */
static bool
try_directory(struct client *c, const char *base, const char *rest)
{
	char dir[200];

	if (base == NULL || snprintf(dir, sizeof dir, "%s%s", base, rest) >= (int)sizeof dir)
		return false;
	set_directory(c, dir);
	return is_socket(c->monitor);
}

/* An ordinary user's own daemon first (admin.runtime_dir's defaults, see holdfastd.conf(5)), then the machine's. */
static void
find_sockets(struct client *c)
{
	if (geteuid() != 0) {
		if (try_directory(c, getenv("XDG_RUNTIME_DIR"), "/holdfast") ||
		    try_directory(c, getenv("XDG_STATE_HOME"), "/holdfast/run") ||
		    try_directory(c, getenv("HOME"), "/.local/state/holdfast/run"))
			return;
	}
	set_directory(c, "/run/holdfast");
}

static void
choose_sockets(struct client *c, const char *given)
{
	struct stat st;

	if (given == NULL || given[0] == '\0') {
		find_sockets(c);
	} else if (stat(given, &st) == 0 && S_ISDIR(st.st_mode)) {
		set_directory(c, given);
	} else {
		snprintf(c->monitor, sizeof c->monitor, "%s", given);
		snprintf(c->admin, sizeof c->admin, "%s", given);
	}
	/* A member of holdfast-admin alone may ask there as well. */
	if (access(c->monitor, W_OK) < 0 && errno == EACCES && access(c->admin, W_OK) == 0)
		snprintf(c->monitor, sizeof c->monitor, "%s", c->admin);
}

/* ---- life ---- */

static int
parse_timeout(const struct ctl *ctl, long *ret_seconds)
{
	const char *text = ctl->values[OPT_TIMEOUT];
	int64_t ns = TIMEOUT_S * NS_PER_SECOND;

	if (text != NULL && (duration_parse(text, &ns) < 0 || ns <= 0 || ns > 86400 * NS_PER_SECOND))
		return ctl_fail(EXIT_USAGE, "--timeout %s: 1s to 24h is wanted", text);
	*ret_seconds = (long)((ns + NS_PER_SECOND - 1) / NS_PER_SECOND);
	return EXIT_DONE;
}

int
client_create(const struct ctl *ctl, struct client **ret_client)
{
	const char *given = ctl->values[OPT_SOCKET];
	struct client *c = calloc(1, sizeof *c);
	int code;

	if (c == NULL || curl_global_init(CURL_GLOBAL_NOTHING) != 0 || (c->curl = curl_easy_init()) == NULL) {
		free(c);
		return ctl_fail(EXIT_FAILED, "out of memory");
	}
	code = parse_timeout(ctl, &c->timeout_s);
	if (code != EXIT_DONE) {
		client_destroy(c);
		return code;
	}
	choose_sockets(c, given != NULL ? given : getenv("HOLDFAST_SOCKET"));
	*ret_client = c;
	return EXIT_DONE;
}

void
client_destroy(struct client *c)
{
	if (c == NULL)
		return;
	curl_easy_cleanup(c->curl);
	curl_global_cleanup();
	free(c->body);
	free(c);
}

void
client_extend_timeout(struct client *c, int seconds)
{
	if (c->timeout_s < seconds)
		c->timeout_s = seconds;
}

char *
client_escape(struct client *c, const char *text)
{
	char *escaped = curl_easy_escape(c->curl, text, 0);
	char *copy = escaped == NULL ? NULL : strdup(escaped);

	curl_free(escaped);
	if (copy == NULL)
		abort(); /* a few bytes */
	return copy;
}

/* ---- one request ---- */

static long
http_status(struct client *c)
{
	long status = 0;

	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

static bool
collect(struct client *c, const char *bytes, size_t len)
{
	char *body;

	if (c->body_len + len > REPLY_BYTES_MAX)
		return false;
	body = realloc(c->body, c->body_len + len + 1);
	if (body == NULL)
		return false;
	c->body = body;
	memcpy(c->body + c->body_len, bytes, len);
	c->body_len += len;
	c->body[c->body_len] = '\0';
	return true;
}

/* A stream's own callbacks see only what a good answer brings; a refusal is collected like any other. */
static size_t
on_bytes(char *bytes, size_t size, size_t count, void *arg)
{
	struct client *c = arg;
	size_t len = size * count;

	if (c->stream == NULL || http_status(c) != 200)
		return collect(c, bytes, len) ? len : 0;
	if (!c->begun && c->stream->begin != NULL)
		c->stream_code = c->stream->begin(c->stream->arg, c);
	c->begun = true;
	if (c->stream_code == EXIT_DONE)
		c->stream_code = c->stream->bytes(c->stream->arg, (const unsigned char *)bytes, len);
	return c->stream_code == EXIT_DONE ? len : 0;
}

static int
on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t d, curl_off_t e)
{
	return ctl_interrupted(); /* not 0 ends the transfer */
}

/* The connection failed: whose turn is it to do what? */
static int
explain_no_connection(struct client *c, const char *path)
{
	struct stat st;
	long os_errno = 0;

	curl_easy_getinfo(c->curl, CURLINFO_OS_ERRNO, &os_errno);
	if (os_errno == EACCES || (os_errno == 0 && stat(path, &st) == 0 && access(path, W_OK) < 0))
		return ctl_fail(EXIT_NOT_ALLOWED, "cannot reach %s: permission denied (join group %s, or become root)",
		    path, strcmp(path, c->admin) == 0 ? "holdfast-admin" : "holdfast-monitor");
	if (stat(path, &st) < 0)
		return ctl_fail(EXIT_UNREACHABLE,
		    "cannot reach %s: there is no such socket (start holdfastd, or give --socket)", path);
	return ctl_fail(
	    EXIT_UNREACHABLE, "cannot reach %s: holdfastd is not running (systemctl start holdfastd)", path);
}

static int
explain_failure(struct client *c, CURLcode r, const char *socket_path)
{
	if (ctl_interrupted())
		return ctl_fail(EXIT_INTERRUPTED, "interrupted");
	if (c->stream_code != EXIT_DONE)
		return c->stream_code;
	if (r == CURLE_COULDNT_CONNECT)
		return explain_no_connection(c, socket_path);
	if (r == CURLE_OPERATION_TIMEDOUT)
		return ctl_fail(EXIT_UNREACHABLE,
		    "no answer from %s within %lds (longer: --timeout; what it does: journalctl -u holdfastd)",
		    socket_path, c->timeout_s);
	if (r == CURLE_PARTIAL_FILE || r == CURLE_GOT_NOTHING || r == CURLE_RECV_ERROR)
		return ctl_fail(EXIT_UNREACHABLE,
		    "%s: holdfastd went away before its answer was whole (journalctl -u holdfastd may tell why)",
		    socket_path);
	return ctl_fail(EXIT_UNREACHABLE, "%s: %s (journalctl -u holdfastd may tell why)", socket_path,
	    c->problem[0] != '\0' ? c->problem : curl_easy_strerror(r));
}

static int
code_of_status(long status)
{
	switch (status) {
	case 400: return EXIT_USAGE;
	case 403: return EXIT_NOT_ALLOWED;
	case 404: return EXIT_NOT_FOUND;
	default: return EXIT_FAILED;
	}
}

/* We send none that a daemon of our version does not know. */
static bool
is_unknown_request(const json_t *problem, long status)
{
	const char *code = json_string_value(json_object_get(problem, "code"));

	return status == 405 || (code != NULL && strcmp(code, "ENOSYS") == 0);
}

/* application/problem+json in one line: what, and what next. */
static int
explain_refusal(struct client *c, long status)
{
	json_t *problem = json_loadb(c->body == NULL ? "" : c->body, c->body_len, 0, NULL);
	const char *detail = json_string_value(json_object_get(problem, "detail"));
	const char *title = json_string_value(json_object_get(problem, "title"));
	const char *hint = json_string_value(json_object_get(problem, "hint"));
	int code = code_of_status(status);

	if (detail == NULL || detail[0] == '\0')
		detail = title != NULL ? title : "refused without a reason";
	if (is_unknown_request(problem, status))
		code = ctl_fail(EXIT_FAILED, "holdfastd knows no such request: it is of another version than this "
					     "program, which is " HOLDFAST_VERSION " (holdfastctl status shows its)");
	else if (hint != NULL)
		ctl_note("%s (%s)", detail, hint);
	else
		ctl_note("%s", detail);
	json_decref(problem);
	return code;
}

static void
set_up_request(struct client *c, const char *socket_path, const char *method, const char *url)
{
	CURL *curl = c->curl;

	curl_easy_reset(curl);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
	curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, c->stream != NULL ? 0L : c->timeout_s);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, c->problem);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 512L * 1024);
	c->problem[0] = '\0';
	c->body_len = 0;
	c->begun = false;
	c->stream_code = EXIT_DONE;
}

/* Of the source's data being opened, or too much else being asked for. */
static bool
is_soon_over(struct client *c)
{
	json_t *problem =
	    http_status(c) == 503 ? json_loadb(c->body == NULL ? "" : c->body, c->body_len, 0, NULL) : NULL;
	const char *code = json_string_value(json_object_get(problem, "code"));
	bool again = code != NULL && strcmp(code, "EAGAIN") == 0;

	json_decref(problem);
	return again;
}

static CURLcode
transfer(struct client *c, const char *socket_path, const char *method, const char *path, const char *body)
{
	struct curl_slist *headers = NULL;
	char url[PATH_BYTES_MAX + 32];
	CURLcode r;

	snprintf(url, sizeof url, "http://localhost%s", path);
	set_up_request(c, socket_path, method, url);
	if (body != NULL) {
		headers = curl_slist_append(NULL, "Content-Type: application/json");
		curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body);
	}
	r = curl_easy_perform(c->curl);
	curl_slist_free_all(headers);
	return r;
}

/* The answer's body is in c->body unless a stream took it. */
static int
perform(struct client *c, const char *socket_path, const char *method, const char *path, const char *body)
{
	const struct timespec moment = {.tv_nsec = MOMENT_NS};
	int64_t deadline_ns = clock_monotonic_ns() + c->timeout_s * NS_PER_SECOND;
	CURLcode r = transfer(c, socket_path, method, path, body);

	while (r == CURLE_OK && c->patient && is_soon_over(c) && clock_monotonic_ns() < deadline_ns) {
		nanosleep(&moment, NULL);
		r = transfer(c, socket_path, method, path, body);
	}
	if (r != CURLE_OK)
		return explain_failure(c, r, socket_path);
	if (http_status(c) < 200 || http_status(c) > 299)
		return explain_refusal(c, http_status(c));
	return EXIT_DONE;
}

static int
ask(struct client *c, const char *socket_path, const char *method, const char *path, const char *body,
    json_t **ret_json)
{
	json_error_t problem;
	int code;

	c->stream = NULL;
	code = perform(c, socket_path, method, path, body);
	if (code != EXIT_DONE)
		return code;
	*ret_json = json_loadb(c->body == NULL ? "" : c->body, c->body_len, 0, &problem);
	if (*ret_json == NULL)
		return ctl_fail(EXIT_FAILED, "%s: the answer is no JSON: %s (is this holdfastd's socket?)", socket_path,
		    problem.text);
	return EXIT_DONE;
}

static int
format_path(char *path, const char *format, va_list ap)
{
	int n = vsnprintf(path, PATH_BYTES_MAX, format, ap);

	return n < 0 || n >= PATH_BYTES_MAX ? ctl_fail(EXIT_USAGE, "a name is too long") : EXIT_DONE;
}

int
client_get(struct client *c, json_t **ret_json, const char *format, ...)
{
	char path[PATH_BYTES_MAX];
	va_list ap;
	int code;

	va_start(ap, format);
	code = format_path(path, format, ap);
	va_end(ap);
	return code != EXIT_DONE ? code : ask(c, c->monitor, "GET", path, NULL, ret_json);
}

int
client_change(struct client *c, const char *method, json_t *body, json_t **ret_json, const char *format, ...)
{
	char *text = body == NULL ? NULL : json_dumps(body, JSON_COMPACT);
	char path[PATH_BYTES_MAX];
	va_list ap;
	int code;

	json_decref(body);
	va_start(ap, format);
	code = format_path(path, format, ap);
	va_end(ap);
	if (code == EXIT_DONE)
		code = ask(c, c->admin, method, path, text, ret_json);
	free(text);
	return code;
}

/* Pages come newest first, each in order; put the older one in front. */
static void
prepend(json_t **items, json_t *older)
{
	json_array_extend(older, *items);
	json_decref(*items);
	*items = json_incref(older);
}

static int
list(struct client *c, const char *socket, json_t **ret_items, const char *path)
{
	char with_cursor[PATH_BYTES_MAX];
	json_t *items = json_array(), *page = NULL;
	char cursor[64] = "";
	int code;

	c->patient = true;
	do {
		const char *next;

		snprintf(with_cursor, sizeof with_cursor, "%s%s%s", path, cursor[0] == '\0' ? "" : "&cursor=", cursor);
		code = ask(c, socket, "GET", with_cursor, NULL, &page);
		if (code == EXIT_DONE && !json_is_array(json_object_get(page, "items"))) {
			json_decref(page);
			code = ctl_fail(EXIT_FAILED, "%s: the answer is no list (is this holdfastd's socket?)", socket);
		}
		if (code != EXIT_DONE)
			break;
		prepend(&items, json_object_get(page, "items"));
		next = json_string_value(json_object_get(page, "nextCursor"));
		snprintf(cursor, sizeof cursor, "%s", next == NULL ? "" : next);
		json_decref(page);
	} while (cursor[0] != '\0');
	c->patient = false;
	if (code == EXIT_DONE)
		*ret_items = items;
	else
		json_decref(items);
	return code;
}

int
client_list(struct client *c, json_t **ret_items, const char *path)
{
	return list(c, c->monitor, ret_items, path);
}

int
client_list_confided(struct client *c, json_t **ret_items, const char *path)
{
	return list(c, c->admin, ret_items, path);
}

int
client_stream(struct client *c, const struct client_stream *s, const char *path)
{
	c->stream = s;
	return perform(c, s->admin ? c->admin : c->monitor, "GET", path, NULL);
}

const char *
client_header(struct client *c, const char *name)
{
	struct curl_header *header;

	return curl_easy_header(c->curl, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? header->value : NULL;
}
