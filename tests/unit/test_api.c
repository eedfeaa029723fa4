/* SPDX-License-Identifier: Apache-2.0 */
/* The control sockets, driven through the sockets themselves, over a fake server (fake_commands.h).
 * `test_api serve DIR [FAILS_AT DELAY_MS]` serves them from DIR until SIGTERM, to try curl and holdfastctl by hand and
 * from tests/integration/test_holdfastctl.py; an export fails at that byte, and waits before each chunk. */
#include "server/api.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/common/log.h"
#include "server/api_call.h"
#include "server/api_json.h"
#include "server/export_stream.h"
#include "tests/lib/scratch.h"
#include "tests/lib/sqlite_faults.h"
#include "tests/unit/fake_commands.h"

enum { REPLY_BYTES_MAX = 16 << 20, WAIT_MS = 20000 };

struct world {
	char dir[64];
	struct server sv;
	struct config config;
	struct event *stop;
	pthread_t thread;
	int stop_pipe[2];
};

static void
on_stop(evutil_socket_t fd, short what, void *arg)
{
	event_base_loopbreak(arg);
}

static void *
run_loop(void *arg)
{
	struct world *w = arg;

	event_base_dispatch(w->sv.base);
	return NULL;
}

static void
start_loop(struct world *w)
{
	assert_int_equal(pthread_create(&w->thread, NULL, run_loop, w), 0);
}

static void
stop_loop(struct world *w)
{
	assert_int_equal(write(w->stop_pipe[1], "x", 1), 1);
	pthread_join(w->thread, NULL);
}

static int
set_up(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	struct hf_error err = {0};

	assert_non_null(w);
	scratch_make(w->dir, sizeof w->dir, "test_api");
	fake_server_init(&w->sv, w->dir);
	config_default(&w->config);
	snprintf(w->config.data_dir, sizeof w->config.data_dir, "%s", w->dir);
	snprintf(w->config.runtime_dir, sizeof w->config.runtime_dir, "%s/run", w->dir);
	assert_int_equal(pipe(w->stop_pipe), 0);
	w->stop = event_new(w->sv.base, w->stop_pipe[0], EV_READ | EV_PERSIST, on_stop, w->sv.base);
	event_add(w->stop, NULL);
	snprintf(w->config.metrics_listen, sizeof w->config.metrics_listen, "off");
	if (api_start(&w->sv, &w->config, &err) < 0)
		fail_msg("%s", err.text);
	start_loop(w);
	*state = w;
	return 0;
}

static int
tear_down(void **state)
{
	struct world *w = *state;

	sqlite_write_errno = 0;
	stop_loop(w);
	api_stop(&w->sv);
	event_free(w->stop);
	fake_server_fini(&w->sv);
	close(w->stop_pipe[0]);
	close(w->stop_pipe[1]);
	assert_int_equal(scratch_remove(w->dir), 0);
	free(w);
	return 0;
}

/* ---- a client of bytes ---- */

static int
dial(struct world *w, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = WAIT_MS / 1000};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof address.sun_path, "%s/run/%s", w->dir, name);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	return fd;
}

static void
say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Everything until the end of file; *ret_len bytes and a NUL. The caller frees. */
static char *
hear_all(int fd, size_t *ret_len)
{
	char *buf = malloc(REPLY_BYTES_MAX);
	size_t len = 0;
	ssize_t n;

	assert_non_null(buf);
	while ((n = recv(fd, buf + len, REPLY_BYTES_MAX - 1 - len, 0)) > 0)
		len += (size_t)n;
	assert_true(n == 0 || errno == ECONNRESET);
	buf[len] = '\0';
	if (ret_len != NULL)
		*ret_len = len;
	return buf;
}

static char *
ask_text(struct world *w, const char *socket_name, const char *request_line, const char *body)
{
	int fd = dial(w, socket_name);
	char head[1024];
	char *reply;

	snprintf(head, sizeof head,
	    "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", request_line,
	    strlen(body));
	say(fd, head);
	if (body[0] != '\0')
		say(fd, body);
	reply = hear_all(fd, NULL);
	close(fd);
	return reply;
}

/* The JSON of an answer that must have this status. */
static json_t *
ask(struct world *w, const char *socket_name, int status, const char *request_line, const char *body)
{
	char *reply = ask_text(w, socket_name, request_line, body);
	char expected[32];
	const char *json = strstr(reply, "\r\n\r\n");
	json_t *value;

	snprintf(expected, sizeof expected, "HTTP/1.1 %d ", status);
	if (json == NULL || strncmp(reply, expected, strlen(expected)) != 0)
		fail_msg("%s: wanted %s, got %s", request_line, expected, reply);
	value = json_loads(json, 0, NULL);
	if (value == NULL)
		fail_msg("%s: no JSON: %s", request_line, reply);
	free(reply);
	return value;
}

static const char *
text_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text == NULL ? "" : text;
}

static void
expect_problem(json_t *problem, int status, const char *code)
{
	assert_int_equal(json_integer_value(json_object_get(problem, "status")), status);
	assert_string_equal(text_of(problem, "code"), code);
	assert_true(strlen(text_of(problem, "title")) > 0 && strlen(text_of(problem, "detail")) > 0);
	json_decref(problem);
}

/* ---- what it tells ---- */

static void
sources_are_told_in_the_words_of_drs(void **state)
{
	json_t *list = ask(*state, "monitor.sock", 200, "GET /v1/source-servers", ""), *source, *info;

	assert_int_equal(json_array_size(json_object_get(list, "items")), 2);
	source = json_array_get(json_object_get(list, "items"), 0);
	info = json_object_get(source, "dataReplicationInfo");
	assert_string_equal(text_of(source, "sourceServerID"), FAKE_READY);
	assert_string_equal(text_of(info, "dataReplicationState"), "CONTINUOUS");
	assert_memory_equal(text_of(info, "lagDuration"), "PT10M", 5);
	assert_true(json_is_true(json_object_get(source, "ready")));
	assert_int_equal(json_array_size(json_object_get(source, "pitPolicy")), 1);
	json_decref(list);
}

static void
the_fleet_is_told_in_numbers(void **state)
{
	json_t *fleet = ask(*state, "monitor.sock", 200, "GET /v1/status", "");

	assert_int_equal(json_integer_value(json_object_get(fleet, "sourceServers")), 2);
	assert_int_equal(json_integer_value(json_object_get(fleet, "ready")), 1);
	assert_int_equal(json_integer_value(json_object_get(fleet, "notReady")), 1);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(fleet, "states"), "CONTINUOUS")), 1);
	assert_string_equal(text_of(json_object_get(fleet, "worstLag"), "sourceServerID"), FAKE_READY);
	json_decref(fleet);
}

static void
one_source_is_found_by_id(void **state)
{
	json_t *source = ask(*state, "monitor.sock", 200, "GET /v1/source-servers/" FAKE_BROKEN, ""), *info;

	info = json_object_get(source, "dataReplicationInfo");
	assert_true(json_is_null(json_object_get(info, "lagDuration")));
	assert_string_equal(text_of(json_object_get(info, "dataReplicationError"), "error"), "AGENT_NOT_SEEN");
	assert_string_equal(
	    text_of(json_array_get(json_object_get(source, "reasons"), 0), "code"), "NO_CONSISTENT_POINT");
	json_decref(source);
	expect_problem(
	    ask(*state, "monitor.sock", 404, "GET /v1/source-servers/s-00000000000000009", ""), 404, "ENOENT");
	expect_problem(ask(*state, "monitor.sock", 400, "GET /v1/source-servers/db01", ""), 400, "EINVAL");
}

static void
version_health_volumes_ca_are_told(void **state)
{
	json_t *json = ask(*state, "monitor.sock", 200, "GET /v1/version", "");

	assert_string_equal(text_of(json, "version"), HOLDFAST_VERSION);
	json_decref(json);
	json = ask(*state, "monitor.sock", 200, "GET /v1/health", "");
	assert_string_equal(text_of(json, "status"), "ok");
	json_decref(json);
	json = ask(*state, "monitor.sock", 200, "GET /v1/volumes?sourceServerID=" FAKE_READY, "");
	assert_string_equal(text_of(json_array_get(json_object_get(json, "items"), 0), "volumeID"), FAKE_VOLUME);
	assert_int_equal(json_array_size(json_object_get(json, "items")), 2);
	assert_string_equal(text_of(json_array_get(json_object_get(json, "items"), 0), "volumeStatus"), "REGULAR");
	assert_string_equal(text_of(json_array_get(json_object_get(json, "items"), 1), "volumeStatus"), "RETIRED");
	json_decref(json);
	json = ask(*state, "monitor.sock", 200, "GET /v1/ca", "");
	assert_memory_equal(text_of(json, "certificate"), "-----BEGIN", 10);
	json_decref(json);
}

static void
draining_server_is_not_healthy(void **state)
{
	struct world *w = *state;
	json_t *json, *reason;

	stop_loop(w);
	w->sv.facts.draining = true;
	assert_int_equal(read(w->stop_pipe[0], &(char){0}, 1), 1);
	start_loop(w);
	json = ask(w, "monitor.sock", 503, "GET /v1/health", "");
	reason = json_array_get(json_object_get(json, "reasons"), 0);
	assert_string_equal(text_of(reason, "code"), "DRAINING");
	json_decref(json);
}

/* The Makefile puts ours in front of points_list(); the API's thread asks it. */
static atomic_bool memory_is_gone;
int __real_points_list(
    const struct points *p, uint64_t before_lsn, size_t max, struct pit **ret_pits, size_t *ret_count, bool *ret_more);
int __wrap_points_list(
    const struct points *p, uint64_t before_lsn, size_t max, struct pit **ret_pits, size_t *ret_count, bool *ret_more);

int
__wrap_points_list(
    const struct points *p, uint64_t before_lsn, size_t max, struct pit **ret_pits, size_t *ret_count, bool *ret_more)
{
	return memory_is_gone ? -ENOMEM : __real_points_list(p, before_lsn, max, ret_pits, ret_count, ret_more);
}

static void
without_memory_the_answer_is_a_sentence(void **state)
{
	static const char line[] = "GET /v1/points-in-time?sourceServerID=" FAKE_READY;
	json_t *problem;

	memory_is_gone = true;
	problem = ask(*state, "monitor.sock", api_http_status(-ENOMEM), line, "");
	memory_is_gone = false;
	assert_string_equal(text_of(problem, "detail"), "the server has no memory left for the list of points in time");
	assert_true(strlen(text_of(problem, "hint")) > 0);
	expect_problem(problem, api_http_status(-ENOMEM), "ENOMEM");
	json_decref(ask(*state, "monitor.sock", 200, line, ""));
}

static void
points_come_in_pages_that_join_up(void **state)
{
	json_t *page =
	    ask(*state, "monitor.sock", 200, "GET /v1/points-in-time?limit=2&sourceServerID=" FAKE_READY, "");
	char line[160];

	assert_int_equal(json_array_size(json_object_get(page, "items")), 2);
	assert_string_equal(text_of(json_array_get(json_object_get(page, "items"), 0), "lsn"), "2000");
	snprintf(line, sizeof line, "GET /v1/points-in-time?limit=2&sourceServerID=" FAKE_READY "&cursor=%s",
	    text_of(page, "nextCursor"));
	json_decref(page);
	page = ask(*state, "monitor.sock", 200, line, "");
	assert_int_equal(json_array_size(json_object_get(page, "items")), 1);
	assert_string_equal(text_of(json_array_get(json_object_get(page, "items"), 0), "lsn"), "1000");
	assert_true(json_is_null(json_object_get(page, "nextCursor")));
	json_decref(page);
	expect_problem(ask(*state, "monitor.sock", 400, "GET /v1/points-in-time", ""), 400, "EINVAL");
}

/* Publish it so that its points cannot be told. */
static void
publish_unusable(struct world *w, int status, const char *text)
{
	struct source_status *s = calloc(1, sizeof *s);

	assert_true(status_get(w->sv.status, &(struct id){FAKE_READY}, s));
	s->store_status = status;
	snprintf(s->store_text, sizeof s->store_text, "%s", text);
	status_publish(w->sv.status, s, NULL);
	free(s);
}

static void
points_of_a_store_that_cannot_be_used_are_not_none(void **state)
{
	static const char line[] = "GET /v1/points-in-time?sourceServerID=" FAKE_READY;
	json_t *problem;

	publish_unusable(*state, -EAGAIN, "the server is opening this source's data: try again in a moment");
	expect_problem(ask(*state, "monitor.sock", 503, line, ""), 503, "EAGAIN");
	publish_unusable(*state, -HF_ECORRUPT, "run 7 is damaged: holdfastctl fsck SOURCE");
	problem = ask(*state, "monitor.sock", 500, line, "");
	assert_string_equal(text_of(problem, "detail"), "run 7 is damaged: holdfastctl fsck " FAKE_READY);
	expect_problem(problem, 500, "CORRUPT");
	expect_problem(
	    ask(*state, "monitor.sock", 404, "GET /v1/points-in-time?sourceServerID=s-00000000000000009", ""), 404,
	    "ENOENT");
}

static void
a_page_of_nothing_is_refused(void **state)
{
	static const char *const lines[] = {
	    "GET /v1/points-in-time?limit=0&sourceServerID=" FAKE_READY,
	    "GET /v1/audit?limit=0",
	    "GET /v1/audit?limit=1001",
	    "GET /v1/audit?cursor=-1",
	};

	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
		expect_problem(ask(*state, "admin.sock", 400, lines[i], ""), 400, "EINVAL");
}

static void
metrics_are_one_block_a_family(void **state)
{
	char *text = ask_text(*state, "monitor.sock", "GET /metrics", "");

	assert_non_null(strstr(text, "\nholdfast_source_ready{source=\"" FAKE_READY "\"} 1\n"));
	assert_non_null(strstr(text, "\nholdfast_source_state{source=\"" FAKE_BROKEN "\",state=\"DISCONNECTED\"} 1\n"));
	assert_non_null(strstr(text, "\nholdfast_source_merge_freed_bytes_total{source=\"" FAKE_READY "\"} 3000\n"));
	assert_null(strstr(text, "holdfast_source_lag_seconds{source=\"" FAKE_BROKEN));
	for (const char *p = text; (p = strstr(p, "# TYPE ")) != NULL; p++) {
		char type[128] = {0};

		sscanf(p, "%127[^\n]", type);
		assert_null(strstr(p + 1, type));
	}
	free(text);
}

/* What is answered to it twice in a row is the same, to the last digit of what grows with the clock. */
static bool
is_kept(struct world *w, const char *request_line)
{
	bool same = false;

	for (int i = 0; i < 50 && !same; i++) { /* the moment may end between the two */
		char *one = ask_text(w, "monitor.sock", request_line, ""), *two;

		usleep(5000); /* lags have three digits */
		two = ask_text(w, "monitor.sock", request_line, "");
		same = strcmp(one, two) == 0;
		free(one);
		free(two);
	}
	return same;
}

static void
an_answer_serves_all_who_ask_within_a_moment(void **state)
{
	assert_true(is_kept(*state, "GET /metrics"));
	assert_true(is_kept(*state, "GET /v1/source-servers"));
	assert_true(is_kept(*state, "GET /v1/source-servers/" FAKE_READY));
}

/* Each question has its own answer, whichever was asked before. */
static void
kept_answers_are_not_mixed_up(void **state)
{
	for (int i = 0; i < 3; i++) {
		json_t *one = ask(*state, "monitor.sock", 200, "GET /v1/source-servers/" FAKE_READY, ""),
		       *other = ask(*state, "monitor.sock", 200, "GET /v1/source-servers/" FAKE_BROKEN, "");

		assert_string_equal(text_of(one, "sourceServerID"), FAKE_READY);
		assert_string_equal(text_of(other, "sourceServerID"), FAKE_BROKEN);
		json_decref(one);
		json_decref(other);
	}
}

static void
whoever_changed_something_finds_it(void **state)
{
	struct world *w = *state;
	struct source_status *s = calloc(1, sizeof *s);

	assert_true(status_get(w->sv.status, &(struct id){FAKE_READY}, s));
	for (unsigned i = 1; i < 20; i++) {
		char wanted[96], *text;

		s->received_frames = i;
		status_publish(w->sv.status, s, NULL);
		json_decref(ask(w, "admin.sock", 200, "POST /v1/source-servers/" FAKE_READY "/freeze-retention", ""));
		snprintf(
		    wanted, sizeof wanted, "holdfast_source_received_frames_total{source=\"" FAKE_READY "\"} %u\n", i);
		text = ask_text(w, "monitor.sock", "GET /metrics", "");
		assert_non_null(strstr(text, wanted));
		free(text);
	}
	free(s);
}

static void
metrics_never_tell_what_is_not_known(void **state)
{
	char *text = ask_text(*state, "monitor.sock", "GET /metrics", "");

	assert_null(strstr(text, " nan\n"));
	assert_null(strstr(text, "\nholdfast_source_quota_bytes{source=\"" FAKE_BROKEN));
	assert_non_null(strstr(text, "\nholdfast_sessions_ended_total{reason=\"OTHER\"} 0\n"));
	free(text);
}

/* ---- what it changes ---- */

static void
point_is_made_held_and_deleted(void **state)
{
	json_t *pit = ask(*state, "admin.sock", 201, "POST /v1/points-in-time",
	    "{\"sourceServerID\": \"" FAKE_READY "\", \"name\": \"by hand\"}");
	char hold[96], delete[96];

	assert_string_equal(text_of(pit, "name"), "by hand");
	snprintf(hold, sizeof hold, "POST /v1/points-in-time/%s/hold", text_of(pit, "pointInTimeID"));
	snprintf(delete, sizeof delete, "DELETE /v1/points-in-time/%s", text_of(pit, "pointInTimeID"));
	json_decref(pit);
	json_decref(ask(*state, "admin.sock", 200, hold, ""));
	expect_problem(ask(*state, "admin.sock", 409, delete, ""), 409, "EBUSY");
	snprintf(strrchr(hold, '/'), 9, "/release");
	json_decref(ask(*state, "admin.sock", 200, hold, ""));
	json_decref(ask(*state, "admin.sock", 200, delete, ""));
	expect_problem(ask(*state, "admin.sock", 404, delete, ""), 404, "NOPIT");
}

static int64_t
rows_waiting(struct world *w)
{
	json_t *json = ask(w, "monitor.sock", 200, "GET /v1/version", "");
	int64_t n = json_integer_value(json_object_get(json, "rowsWaiting"));

	json_decref(json);
	return n;
}

static void
on_a_full_disk_what_reads_and_what_makes_room_goes_on_and_is_audited_later(void **state)
{
	struct registry_audit more = {.verb = "more"};
	struct world *w = *state;
	char line[160], *export;
	struct hf_error err;

	w->sv.reserve_left = 2;
	sqlite_write_errno = ENOSPC;
	expect_problem(ask(w, "admin.sock", 507, "POST /v1/tokens", "{}"), 507, "FULL");
	assert_int_equal(w->sv.commands, 0);
	assert_int_equal(w->sv.reserve_left, 0); /* it was tried with all there is */
	snprintf(line, sizeof line, "GET /v1/points-in-time/%s/volumes/sda/data?sourceServerID=" FAKE_READY,
	    w->sv.pits[0].id.text);
	export = ask_text(w, "admin.sock", line, "");
	assert_memory_equal(export, "HTTP/1.1 200 ", 13);
	free(export);
	snprintf(line, sizeof line, "DELETE /v1/points-in-time/%s", w->sv.pits[0].id.text);
	json_decref(ask(w, "admin.sock", 200, line, ""));
	assert_int_equal(rows_waiting(w), 4); /* what was asked, and what came of it */
	while (ledger_add_audit(w->sv.ledger, &more, true, &err) == 1)
		;
	snprintf(line, sizeof line, "DELETE /v1/points-in-time/%s", w->sv.pits[0].id.text);
	json_decref(ask(w, "admin.sock", 200, line, "")); /* the log alone has it */
	sqlite_write_errno = 0;
	json_decref(ask(w, "admin.sock", 201, "POST /v1/tokens", "{}")); /* behind the others */
	assert_int_equal(rows_waiting(w), 0);
}

static void
a_change_that_finds_no_room_is_given_some_of_the_reserve_and_tried_again_once(void **state)
{
	struct world *w = *state;
	char line[160];

	w->sv.full_answers = 1;
	snprintf(line, sizeof line, "POST /v1/points-in-time/%s/hold", w->sv.pits[0].id.text);
	json_decref(ask(w, "admin.sock", 200, line, ""));
	assert_int_equal(w->sv.rooms_made, 1);
	w->sv.full_answers = 3;
	expect_problem(ask(w, "admin.sock", 507, line, ""), 507, "FULL");
	assert_int_equal(w->sv.rooms_made, 2);
	assert_int_equal(w->sv.full_answers, 1);
	w->sv.full_answers = 2;
	expect_problem(ask(w, "admin.sock", 507, "POST /v1/settings", "{\"rpoTargetSeconds\": 900}"), 507, "FULL");
}

static void
the_next_ca_is_told_as_soon_as_there_is_one(void **state)
{
	json_t *answer = ask(*state, "admin.sock", 200, "POST /v1/ca/retire", "{\"force\": true}");

	assert_int_equal(text_of(answer, "fingerprint")[0], 'a');
	assert_true(json_is_null(json_object_get(answer, "nextFingerprint")));
	json_decref(answer);
	answer = ask(*state, "admin.sock", 200, "POST /v1/ca/rotate", "");
	assert_int_equal(text_of(answer, "fingerprint")[0], 'a');
	assert_int_equal(text_of(answer, "nextFingerprint")[0], 'b');
	json_decref(answer);
}

static void
token_is_shown_once_and_revoked(void **state)
{
	json_t *token = ask(*state, "admin.sock", 201, "POST /v1/tokens", "{\"lifetime\": \"90m\"}"), *list;
	char line[96];

	assert_true(strlen(text_of(token, "token")) > 0);
	snprintf(line, sizeof line, "DELETE /v1/tokens/%s", text_of(token, "tokenID"));
	json_decref(token);
	json_decref(ask(*state, "admin.sock", 200, line, ""));
	list = ask(*state, "monitor.sock", 200, "GET /v1/tokens", "");
	token = json_array_get(json_object_get(list, "items"), 0);
	assert_string_equal(text_of(token, "state"), "REVOKED");
	assert_null(json_object_get(token, "token"));
	json_decref(list);
}

static void
token_lives_as_long_as_the_configuration_may_say(void **state)
{
	struct world *w = *state;
	json_t *token;

	w->sv.token_lifetime_ns = TOKEN_LIFETIME_MAX_NS;
	token = ask(w, "admin.sock", 201, "POST /v1/tokens", "{}");
	assert_true(strlen(text_of(token, "token")) > 0);
	json_decref(token);
	json_decref(ask(w, "admin.sock", 201, "POST /v1/tokens", "{\"lifetime\": 31536000}"));
}

static void
policy_is_set_and_retention_frozen(void **state)
{
	json_t *answer = ask(*state, "admin.sock", 200, "POST /v1/source-servers/" FAKE_READY "/policy",
	    "{\"pitPolicy\": [{\"units\": \"HOUR\", \"interval\": 2, \"retentionDuration\": 48}, {\"ruleID\": 9, "
	    "\"units\": "
	    "\"DAY\", \"interval\": 1, \"retentionDuration\": 7, \"enabled\": false}]}");

	assert_string_equal(text_of(answer, "text"), "rules 2h/48h, window -1, least -1");
	json_decref(answer);
	answer = ask(*state, "admin.sock", 200, "POST /v1/source-servers/" FAKE_READY "/freeze-retention", "");
	assert_string_equal(text_of(answer, "text"), "frozen");
	json_decref(answer);
	answer = ask(*state, "admin.sock", 200, "POST /v1/source-servers/" FAKE_READY "/thaw-retention", "");
	assert_string_equal(text_of(answer, "text"), "thawed");
	json_decref(answer);
	expect_problem(ask(*state, "monitor.sock", 403, "POST /v1/source-servers/" FAKE_READY "/freeze-retention", ""),
	    403, "EPERM");
}

static void
plan_tells_what_goes(void **state)
{
	json_t *plan = ask(*state, "monitor.sock", 200,
	    "GET /v1/source-servers/" FAKE_READY "/pit-plan?policy=10m%2F60m%201h/24h", "");
	const json_t *items = json_object_get(plan, "items");

	assert_true(json_is_true(json_object_get(json_array_get(items, 0), "goes")));
	assert_true(json_is_false(json_object_get(json_array_get(items, 1), "goes")));
	assert_int_equal(json_integer_value(json_object_get(plan, "freedBytes")), 4096);
	assert_int_equal(json_integer_value(json_object_get(plan, "keptBytes")), 4096);
	json_decref(plan);
	expect_problem(
	    ask(*state, "monitor.sock", 400, "GET /v1/source-servers/" FAKE_READY "/pit-plan", ""), 400, "EINVAL");
	expect_problem(
	    ask(*state, "monitor.sock", 400, "GET /v1/source-servers/" FAKE_READY "/pit-plan?policy=10m", ""), 400,
	    "EINVAL");
}

static void
bad_bodies_change_nothing(void **state)
{
	static const char *const bodies[] = {"{", "[]", "{\"lifetime\": \"soon\"}", "{\"lifetime\": 0}",
	    "{\"lifetime\": \"366d\"}", "{\"lifetime\": 31536001}", "{\"lifetime\": \"10ms\"}",
	    "{\"sourceServerID\": \"db01\"}", "{\"lifetme\": \"1h\"}", "{\"lifetime\": \"1h\", \"lifetime\": \"2h\"}",
	    "\xff\xfe"};
	struct world *w = *state;

	for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
		expect_problem(ask(w, "admin.sock", 400, "POST /v1/tokens", bodies[i]), 400, "EINVAL");
	expect_problem(ask(w, "admin.sock", 400, "POST /v1/points-in-time",
			   "{\"sourceServerID\": \"" FAKE_READY "\", \"name\": \"\"}"),
	    400, "EINVAL");
	expect_problem(ask(w, "admin.sock", 400, "POST /v1/points-in-time",
			   "{\"sourceServerID\": \"" FAKE_READY "\", \"name\": \"\\u009b2J\"}"),
	    400, "EINVAL");
	expect_problem(ask(w, "admin.sock", 400, "POST /v1/points-in-time",
			   "{\"sourceServerID\": \"" FAKE_READY "\", \"name\": \"a\", \"timeoutSeconds\": 4294967297}"),
	    400, "EINVAL");
	expect_problem(
	    ask(w, "admin.sock", 400, "POST /v1/points-in-time",
		"{\"sourceServerID\": \"" FAKE_READY "\", \"name\": \"a\", \"timeoutSeconds\": 9223372036854775807}"),
	    400, "EINVAL");
	expect_problem(ask(w, "admin.sock", 400, "POST /v1/source-servers/" FAKE_READY "/policy",
			   "{\"pitPolicy\": [{\"units\": \"HOUR\", \"interval\": 4294967297, \"retentionDuration\": "
			   "4294967320}]}"),
	    400, "EINVAL");
	assert_int_equal(w->sv.commands, 0);
}

/* ---- what a body says reaches the command, and the audit has it in words ---- */

#define SOURCE     "/v1/source-servers/" FAKE_READY
#define WINDOW     "\"Mon 08:00-18:00 20\""
#define WINDOWS_4  WINDOW ", " WINDOW ", " WINDOW ", " WINDOW
#define WINDOWS_16 WINDOWS_4 ", " WINDOWS_4 ", " WINDOWS_4 ", " WINDOWS_4
#define BYTES_64   "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define RULES      "[{\"units\": \"HOUR\", \"interval\": 2, \"retentionDuration\": 48}]"

/* Of the newest request. */
static void
expect_audited(struct world *w, const char *object)
{
	json_t *rows = ask(w, "admin.sock", 200, "GET /v1/audit?limit=4", ""), *row;
	const char *told = "none";
	size_t i;

	json_array_foreach (json_object_get(rows, "items"), i, row)
		if (json_is_null(json_object_get(row, "result")))
			told = text_of(row, "object");
	assert_string_equal(told, object);
	json_decref(rows);
}

static void
what_is_asked_reaches_the_command_and_the_audit(void **state)
{
	static const struct {
		int status;
		const char *line, *body, *text, *object;
	} asked[] = {
	    {200, "POST " SOURCE "/quota", "{\"quotaBytes\": 1073741824}", "quota 1073741824, when full -1",
		FAKE_READY " quota=1GiB"},
	    {200, "POST " SOURCE "/quota", "{\"quotaBytes\": null}", "quota 0, when full -1",
		FAKE_READY " quota=default"},
	    {200, "POST " SOURCE "/quota", "{\"whenFull\": \"thin\"}", "quota -, when full 2",
		FAKE_READY " when-full=thin"},
	    {200, "POST " SOURCE "/policy", "{\"pitPolicy\": " RULES "}", "rules 2h/48h, window -1, least -1",
		FAKE_READY " pit-policy=2h/48h"},
	    {200, "POST " SOURCE "/policy", "{\"journalWindowSeconds\": 60}", "rules -, window 60, least -1",
		FAKE_READY " journal-window=1m"},
	    {200, "POST " SOURCE "/policy", "{\"minRetentionSeconds\": 0}", "rules -, window -1, least 0",
		FAKE_READY " min-retention=0"},
	    {200, "POST " SOURCE "/settings", "{\"rpoTargetSeconds\": 900}", "rpo-target=15m",
		FAKE_READY " rpo-target=15m"},
	    {200, "POST " SOURCE "/throttle", "{\"bandwidthThrottling\": 100000}",
		"it is read at no more than 100000 Mbps", FAKE_READY " 100000 Mbps"},
	    {200, "POST " SOURCE "/throttle",
		"{\"bandwidthThrottling\": 5, \"windows\": [" WINDOW ", \"Tue 1:00-2:00 0\"]}",
		"it is read at no more than 5 Mbps; but Mon 08:00-18:00 20; Tue 01:00-02:00 0",
		FAKE_READY " 5 Mbps; Mon 08:00-18:00 20; Tue 01:00-02:00 0"},
	    {200, "DELETE " SOURCE "/volumes/sdb?withPoints=1", "", "sdb", FAKE_READY " volume=sdb with points"},
	    {409, "DELETE " SOURCE "/volumes/sdb?withPoints=0", "", "", FAKE_READY " volume=sdb"},
	    {409, "DELETE " SOURCE "/volumes/sdb", "", "", FAKE_READY " volume=sdb"},
	    {202, "POST " SOURCE "/verify", "{\"volume\": \"sda\"}", "sda", FAKE_READY " volume=sda"},
	    {202, "POST " SOURCE "/verify", "", "all", FAKE_READY},
	    {404, "POST " SOURCE "/verify", "{\"volume\": \"sdz\"}", "", FAKE_READY " volume=sdz"},
	    {200, "POST /v1/ca/retire", "{\"force\": true}", "", "force"},
	    {409, "POST /v1/ca/retire", "{\"force\": false}", "", ""},
	    {409, "POST /v1/ca/retire", "", "", ""},
	};

	for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
		json_t *answer = ask(*state, "admin.sock", asked[i].status, asked[i].line, asked[i].body);

		assert_string_equal(text_of(answer, "text"), asked[i].text);
		json_decref(answer);
		expect_audited(*state, asked[i].object);
	}
}

static void
what_is_beyond_a_limit_or_unclear_reaches_no_command(void **state)
{
	static const struct {
		const char *line, *body;
	} asked[] = {
	    {"POST " SOURCE "/quota", "{}"},
	    {"POST " SOURCE "/quota", "{\"quotaBytes\": 0}"},
	    {"POST " SOURCE "/quota", "{\"quotaBytes\": 1, \"whenFull\": \"burst\"}"},
	    {"POST " SOURCE "/policy", "{}"},
	    {"POST " SOURCE "/policy", "{\"pitPolicy\": " RULES ", \"journalWindowSeconds\": -1}"},
	    {"POST " SOURCE "/settings", "{}"},
	    {"POST " SOURCE "/settings", "{\"rpoTargetSeconds\": -1}"},
	    {"POST " SOURCE "/settings", "{\"quotaBytes\": 1073741824}"}, /* that has a path of its own */
	    {"POST /v1/source-servers/db01/settings", "{\"rpoTargetSeconds\": 900}"},
	    {"POST /v1/settings", "{}"},
	    {"POST " SOURCE "/throttle", "{}"},
	    {"POST " SOURCE "/throttle", "{\"bandwidthThrottling\": -1}"},
	    {"POST " SOURCE "/throttle", "{\"bandwidthThrottling\": 100001}"},
	    {"POST " SOURCE "/throttle", "{\"bandwidthThrottling\": 8, \"windows\": " WINDOW "}"},
	    {"POST " SOURCE "/throttle", "{\"bandwidthThrottling\": 8, \"windows\": [20]}"},
	    {"POST " SOURCE "/throttle", "{\"bandwidthThrottling\": 8, \"windows\": [\"Mon 8-18\", " WINDOW "]}"},
	    {"POST " SOURCE "/throttle", "{\"bandwidthThrottling\": 8, \"windows\": [" WINDOWS_16 ", " WINDOW "]}"},
	    {"DELETE " SOURCE "/volumes/" BYTES_64 BYTES_64 "?withPoints=1", ""},
	    {"DELETE " SOURCE "/volumes/sdb?withPoints=2", ""},
	    {"POST " SOURCE "/verify", "{\"volume\": \"\"}"},
	    {"POST " SOURCE "/verify", "{\"volume\": \"sda\\u001b[31m\"}"},
	};
	struct world *w = *state;

	for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++)
		expect_problem(ask(w, "admin.sock", 400, asked[i].line, asked[i].body), 400, "EINVAL");
	assert_int_equal(w->sv.commands, 0);
	json_decref(ask(w, "admin.sock", 200, "POST " SOURCE "/throttle",
	    "{\"bandwidthThrottling\": 8, \"windows\": [" WINDOWS_16 "]}"));
}

/* Whoever says more than a path takes means something else than what would be done. */
static void
a_body_that_nobody_reads_must_be_empty(void **state)
{
	static const char *const requests[] = {"DELETE /v1/source-servers/" FAKE_READY,
	    "POST /v1/source-servers/" FAKE_READY "/pause", "POST /v1/ca/rotate", "GET /v1/version"};
	struct world *w = *state;

	for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
		expect_problem(ask(w, "admin.sock", 400, requests[i], "{\"dryRun\": true}"), 400, "EINVAL");
		expect_problem(ask(w, "admin.sock", 400, requests[i], "[]"), 400, "EINVAL");
		expect_problem(ask(w, "admin.sock", 400, requests[i], "{"), 400, "EINVAL");
		assert_int_equal(w->sv.commands, 0);
	}
	json_decref(ask(w, "admin.sock", 200, "POST /v1/ca/rotate", "{}"));
}

static void
monitor_socket_changes_nothing(void **state)
{
	struct world *w = *state;

	expect_problem(ask(w, "monitor.sock", 403, "POST /v1/tokens", "{}"), 403, "EPERM");
	expect_problem(
	    ask(w, "monitor.sock", 403,
		"GET /v1/points-in-time/pit-00000000000000001/volumes/sda/data?sourceServerID=" FAKE_READY, ""),
	    403, "EPERM");
	assert_int_equal(w->sv.commands, 0);
}

static void
every_changing_route_is_closed_to_the_monitor(void **state)
{
	size_t count;
	const struct route *routes = api_routes(&count);

	for (size_t i = 0; i < count; i++)
		if (routes[i].method != HTTP_GET || routes[i].verb != NULL)
			assert_true(routes[i].kind > ROUTE_TELLS && routes[i].verb != NULL);
}

static void
unknown_paths_and_methods_are_refused(void **state)
{
	expect_problem(ask(*state, "admin.sock", 404, "GET /v2/version", ""), 404, "ENOSYS");
	expect_problem(ask(*state, "admin.sock", 404, "GET /", ""), 404, "ENOSYS");
	expect_problem(ask(*state, "admin.sock", 404, "GET /v1/version/more", ""), 404, "ENOSYS");
	expect_problem(ask(*state, "admin.sock", 405, "DELETE /v1/version", ""), 405, "EOPNOTSUPP");
}

/* ---- events ---- */

static void
add_event(struct world *w, const char *name)
{
	struct registry_event e = {.time_ns = clock_real_ns(), .source = {FAKE_READY}};

	snprintf(e.event, sizeof e.event, "%s", name);
	assert_int_equal(registry_add_event(w->sv.registry, &e, NULL), 0);
}

static void
events_are_lines_and_tail_takes_the_last(void **state)
{
	char *text;

	for (int i = 0; i < 1200; i++)
		add_event(*state, i < 1199 ? "old" : "last");
	text = ask_text(*state, "monitor.sock", "GET /v1/events?tail=2", "");
	assert_non_null(strstr(text, "\"number\":1199,"));
	assert_non_null(strstr(text, "\"event\":\"last\""));
	assert_null(strstr(text, "\"number\":1198,"));
	free(text);
	text = ask_text(*state, "monitor.sock", "GET /v1/events", "");
	assert_non_null(strstr(text, "\"number\":1,"));
	assert_non_null(strstr(text, "\"number\":1200,"));
	free(text);
	text = ask_text(*state, "monitor.sock", "GET /v1/events?sourceServerID=" FAKE_BROKEN, "");
	assert_null(strstr(text, "number"));
	free(text);
}

/* Read until the text has come. */
static const char *
hear_until(int fd, const char *wanted)
{
	static char buf[8192]; /* what was heard */
	size_t len = 0;

	do {
		ssize_t n = recv(fd, buf + len, sizeof buf - 1 - len, 0);

		if (n <= 0)
			fail_msg("\"%s\" never came", wanted);
		len += (size_t)n;
		buf[len] = '\0';
	} while (strstr(buf, wanted) == NULL);
	return buf;
}

static void
followers_see_what_happens_later(void **state)
{
	int fd = dial(*state, "monitor.sock");

	add_event(*state, "before");
	say(fd, "GET /v1/events?follow=1 HTTP/1.1\r\n\r\n");
	hear_until(fd, "\"event\":\"before\"");
	add_event(*state, "later");
	hear_until(fd, "\"event\":\"later\"");
	close(fd);
}

static void
add_news(struct world *w, const char *source, const char *text)
{
	struct id id = {""};
	char *line = malloc(100);

	assert_non_null(line);
	snprintf(line, 100, "{\"news\":\"%s\"}\n", text);
	snprintf(id.text, sizeof id.text, "%s", source);
	news_add(w->sv.news, &id, line);
}

static void
followers_hear_news_of_their_source_and_nobody_later(void **state)
{
	int fd = dial(*state, "monitor.sock"), late;
	const char *text;

	add_news(*state, FAKE_READY, "before");
	say(fd, "GET /v1/events?follow=1&sourceServerID=" FAKE_READY " HTTP/1.1\r\n\r\n");
	hear_until(fd, "\r\n\r\n");
	add_news(*state, "s-00000000000000000", "another");
	add_news(*state, FAKE_READY, "later");
	text = hear_until(fd, "\"news\":\"later\"");
	assert_null(strstr(text, "before"));
	assert_null(strstr(text, "another"));
	close(fd);
	late = dial(*state, "monitor.sock");
	say(late, "GET /v1/events HTTP/1.1\r\nConnection: close\r\n\r\n");
	assert_null(strstr(hear_until(late, "0\r\n\r\n"), "news"));
	close(late);
}

/* ---- export ---- */

static void
undo_chunks(unsigned char *bytes, size_t *len)
{
	size_t from = 0, to = 0;

	for (;;) {
		char *end;
		size_t chunk = strtoul((char *)bytes + from, &end, 16);

		assert_memory_equal(end, "\r\n", 2);
		from = (size_t)((unsigned char *)end + 2 - bytes);
		if (chunk == 0)
			break;
		assert_true(from + chunk <= *len);
		memmove(bytes + to, bytes + from, chunk);
		to += chunk;
		from += chunk + 2;
	}
	*len = to;
}

/* Check a stream from byte `offset` on; the kind it ends with. */
static uint32_t
check_records(const unsigned char *p, size_t len, uint64_t offset)
{
	struct export_record r;

	for (size_t at = 0;; at += EXPORT_RECORD_BYTES + r.body_bytes) {
		assert_true(at + EXPORT_RECORD_BYTES <= len);
		export_record_decode(p + at, &r);
		if (r.kind == RECORD_END || r.kind == RECORD_ERROR)
			return r.kind;
		assert_int_equal(r.offset, offset);
		assert_int_equal(r.body_bytes, r.kind == RECORD_DATA ? r.length : 0);
		for (uint64_t i = 0; i < r.length; i++)
			if ((r.kind == RECORD_DATA ? p[at + EXPORT_RECORD_BYTES + i] : 0) != fake_byte(offset + i))
				fail_msg("byte %llu differs", (unsigned long long)(offset + i));
		offset += r.length;
	}
}

static void
ask_export(struct world *w, int fd, const char *volume, uint64_t from)
{
	char line[256];

	snprintf(line, sizeof line,
	    "GET /v1/points-in-time/%s/volumes/%s/data?sourceServerID=" FAKE_READY
	    "&from=%llu HTTP/1.1\r\nConnection: close\r\n\r\n",
	    w->sv.pits[0].id.text, volume, (unsigned long long)from);
	say(fd, line);
}

static uint32_t
export_and_check(struct world *w, uint64_t from)
{
	int fd = dial(w, "admin.sock");
	char *reply, *body;
	uint32_t kind;
	size_t len;

	ask_export(w, fd, "sda", from);
	reply = hear_all(fd, &len);
	close(fd);
	body = strstr(reply, "\r\n\r\n") + 4;
	assert_non_null(strstr(reply, "X-Holdfast-Root-Digest: 0000000000001234\r\n"));
	len -= (size_t)(body - reply);
	undo_chunks((unsigned char *)body, &len);
	kind = check_records((unsigned char *)body, len, from);
	free(reply);
	return kind;
}

static void
export_streams_every_byte(void **state)
{
	assert_int_equal(export_and_check(*state, 0), RECORD_END);
	assert_int_equal(export_and_check(*state, 3 * FAKE_CHUNK_BYTES + 4096), RECORD_END);
}

static void
export_that_fails_ends_with_its_reason(void **state)
{
	struct world *w = *state;

	w->sv.export_fails_at = 2 * 1024 * 1024;
	assert_int_equal(export_and_check(w, 0), RECORD_ERROR);
}

static void
export_of_an_unknown_volume_is_refused(void **state)
{
	int fd = dial(*state, "admin.sock");
	char *reply;

	ask_export(*state, fd, "sdz", 0);
	reply = hear_all(fd, NULL);
	assert_memory_equal(reply, "HTTP/1.1 404 ", 13);
	assert_non_null(strstr(reply, "\"code\":\"VOLUME\""));
	free(reply);
	close(fd);
}

static void
reader_that_goes_away_closes_its_export(void **state)
{
	struct world *w = *state;
	int fd = dial(w, "admin.sock");

	ask_export(w, fd, "sda", 0);
	hear_until(fd, "HTTP/1.1 200");
	close(fd);
	for (int i = 0; w->sv.exports_open > 0; i++) {
		assert_true(i < WAIT_MS);
		usleep(1000);
	}
}

/* ---- bounds ---- */

static void
expect_refusal(struct world *w, const char *bytes, const char *status)
{
	int fd = dial(w, "monitor.sock");
	char *reply;

	say(fd, bytes);
	reply = hear_all(fd, NULL);
	if (strncmp(reply, status, strlen(status)) != 0)
		fail_msg("wanted %s, got %s", status, reply);
	expect_problem(json_loads(strstr(reply, "\r\n\r\n"), 0, NULL), atoi(status + strlen("HTTP/1.1 ")), "HTTP");
	free(reply);
	close(fd);
}

static void
malformed_requests_are_refused_and_cut(void **state)
{
	static char long_head[10000];

	expect_refusal(*state, "\r\n\r\n", "HTTP/1.1 400 ");
	expect_refusal(*state, "GET /v1/version\r\n\r\n", "HTTP/1.1 400 ");
	expect_refusal(*state, "GET /v1/version HTTP/2\r\n\r\n", "HTTP/1.1 505 ");
	expect_refusal(*state, "BREW /v1/version HTTP/1.1\r\n\r\n", "HTTP/1.1 405 ");
	expect_refusal(*state, "GET /v1/%00 HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ");
	expect_refusal(*state, "GET /v1/%c2%9b HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ");
	expect_refusal(*state, "POST /v1/tokens HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", "HTTP/1.1 413 ");
	expect_refusal(
	    *state, "POST /v1/tokens HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 400 ");
	expect_refusal(*state, "POST /v1/tokens HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 501 ");
	memset(long_head, 'a', sizeof long_head - 1);
	expect_refusal(*state, long_head, "HTTP/1.1 431 ");
}

static void
pipelined_requests_are_answered_in_order(void **state)
{
	int fd = dial(*state, "admin.sock");
	char *reply, *first, *second;

	say(fd, "GET /v1/tokens HTTP/1.1\r\n\r\nGET /v1/version HTTP/1.1\r\nConnection: close\r\n\r\n");
	reply = hear_all(fd, NULL);
	first = strstr(reply, "nextCursor");
	second = strstr(reply, "apiVersion");
	assert_true(first != NULL && second != NULL && first < second);
	free(reply);
	close(fd);
}

static void
half_closed_peer_still_gets_its_answer(void **state)
{
	int fd = dial(*state, "admin.sock");
	char *reply;

	say(fd, "GET /v1/tokens HTTP/1.0\r\n\r\n");
	shutdown(fd, SHUT_WR);
	reply = hear_all(fd, NULL);
	assert_non_null(strstr(reply, "nextCursor"));
	free(reply);
	close(fd);
}

static void
idle_connections_make_room_for_new_ones(void **state)
{
	int fds[80];
	json_t *json;

	for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
		fds[i] = dial(*state, "monitor.sock");
	json = ask(*state, "monitor.sock", 200, "GET /v1/version", "");
	json_decref(json);
	for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
		close(fds[i]);
}

/* Requests that go into fd before nobody takes any more, the last of them perhaps in part. */
static size_t
ask_without_listening(int fd, const char *request, size_t max)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	size_t len = strlen(request), sent = 0;

	while (sent < max * len && poll(&p, 1, 500) == 1) {
		ssize_t n = send(fd, request + sent % len, len - sent % len, MSG_DONTWAIT | MSG_NOSIGNAL);

		assert_true(n > 0 || errno == EAGAIN);
		sent += n > 0 ? (size_t)n : 0;
	}
	return sent;
}

static void
who_takes_no_answers_gets_no_more_of_them_but_all_in_the_end(void **state)
{
	static const char request[] = "GET /v1/version HTTP/1.1\r\n\r\n";
	enum { MANY = 200000 };
	int fd = dial(*state, "monitor.sock");
	size_t sent = ask_without_listening(fd, request, MANY), whole = sent / strlen(request), answers = 0;
	char *reply;

	assert_true(whole > 0 && whole < MANY); /* what they would all take: hundreds of megabytes */
	shutdown(fd, SHUT_WR);
	reply = hear_all(fd, NULL);
	for (const char *p = reply; (p = strstr(p, "HTTP/1.1 200 ")) != NULL; p++)
		answers++;
	assert_int_equal(answers, whole);
	free(reply);
	close(fd);
}

static void
followers_leave_room_for_questions(void **state)
{
	enum { FOLLOWERS = 100, ROOM = 32 };
	int fds[FOLLOWERS], followed = 0;
	char head[16] = {0};

	for (int i = 0; i < FOLLOWERS; i++) {
		fds[i] = dial(*state, "monitor.sock");
		say(fds[i], "GET /v1/events?follow=1 HTTP/1.1\r\n\r\n");
		assert_int_equal(recv(fds[i], head, 12, MSG_WAITALL), 12);
		followed += strcmp(head, "HTTP/1.1 200") == 0;
		assert_true(followed == i + 1 || strcmp(head, "HTTP/1.1 503") == 0);
	}
	assert_int_equal(followed, ROOM);
	json_decref(ask(*state, "monitor.sock", 200, "GET /v1/version", ""));
	for (int i = 0; i < ROOM; i++)
		assert_int_equal(recv(fds[i], head, 1, MSG_PEEK | MSG_DONTWAIT) == 0, false); /* nobody was cut */
	for (int i = 0; i < FOLLOWERS; i++)
		close(fds[i]);
}

static void
stale_socket_is_replaced_but_a_live_one_is_not(void **state)
{
	struct world *w = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct hf_error err = {0};
	struct http_server *s = NULL;
	struct http_config config = {.path = address.sun_path, .mode = 0600, .group = (gid_t)-1};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof address.sun_path, "%s/stale.sock", w->dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	listen(fd, 1);
	assert_int_equal(http_server_open(w->sv.base, &config, &s, &err), -EADDRINUSE);
	close(fd);
	stop_loop(w);
	assert_int_equal(http_server_open(w->sv.base, &config, &s, &err), 0);
	http_server_close(s);
	assert_int_equal(access(address.sun_path, F_OK), -1);
	assert_int_equal(read(w->stop_pipe[0], &(char){0}, 1), 1);
	start_loop(w);
}

/* ---- the page ---- */

/* Does the page, where {id} and the like stand for a segment, name this route in bold? */
static bool
page_has_route(const char *page, const struct route *r)
{
	char method[16];
	size_t n = (size_t)snprintf(method, sizeof method, "*%s ", http_method_name(r->method));

	for (const char *p = page; (p = strstr(p, method)) != NULL; p++) {
		const char *at = p + n, *path = r->path;

		while (*path != '\0' && (*path == '*' ? *at == '{' : *path == *at)) {
			at += *path == '*' ? strcspn(at, "}") + 1 : 1;
			path++;
		}
		if (*path == '\0' && *at == '*')
			return true;
	}
	return false;
}

static void
man_page_tells_of_every_route(void **state)
{
	FILE *f = fopen("docs/man/holdfast-api.7.scd", "r");
	char *page = calloc(1, 1 << 18);
	size_t count;
	const struct route *routes = api_routes(&count);

	if (f == NULL || page == NULL)
		skip(); /* not run from the top of the tree */
	assert_true(fread(page, 1, (1 << 18) - 1, f) > 0);
	fclose(f);
	for (size_t i = 0; i < count; i++)
		if (!page_has_route(page, &routes[i]))
			fail_msg("%s %s is not in holdfast-api(7)", http_method_name(routes[i].method), routes[i].path);
	free(page);
}

/* ---- by hand ---- */

static void
on_signal(evutil_socket_t fd, short what, void *arg)
{
	event_base_loopbreak(arg);
}

static int
serve(const char *dir, uint64_t export_fails_at, int export_delay_ms)
{
	struct server sv;
	struct config config;
	struct hf_error err = {0};
	struct event *term;

	fake_server_init(&sv, dir);
	sv.export_fails_at = export_fails_at;
	sv.export_delay_ms = export_delay_ms;
	config_default(&config);
	snprintf(config.data_dir, sizeof config.data_dir, "%s", dir);
	snprintf(config.runtime_dir, sizeof config.runtime_dir, "%s/run", dir);
	snprintf(config.metrics_listen, sizeof config.metrics_listen, "off");
	term = evsignal_new(sv.base, SIGTERM, on_signal, sv.base);
	event_add(term, NULL); /* before anybody can see that it is there, and end it */
	if (api_start(&sv, &config, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	event_base_dispatch(sv.base);
	api_stop(&sv);
	event_free(term);
	fake_server_fini(&sv);
	return 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    T(sources_are_told_in_the_words_of_drs),
	    T(the_fleet_is_told_in_numbers),
	    T(one_source_is_found_by_id),
	    T(version_health_volumes_ca_are_told),
	    T(draining_server_is_not_healthy),
	    T(without_memory_the_answer_is_a_sentence),
	    T(points_come_in_pages_that_join_up),
	    T(points_of_a_store_that_cannot_be_used_are_not_none),
	    T(a_page_of_nothing_is_refused),
	    T(metrics_are_one_block_a_family),
	    T(metrics_never_tell_what_is_not_known),
	    T(an_answer_serves_all_who_ask_within_a_moment),
	    T(kept_answers_are_not_mixed_up),
	    T(whoever_changed_something_finds_it),
	    T(point_is_made_held_and_deleted),
	    T(on_a_full_disk_what_reads_and_what_makes_room_goes_on_and_is_audited_later),
	    T(a_change_that_finds_no_room_is_given_some_of_the_reserve_and_tried_again_once),
	    T(the_next_ca_is_told_as_soon_as_there_is_one),
	    T(token_is_shown_once_and_revoked),
	    T(token_lives_as_long_as_the_configuration_may_say),
	    T(policy_is_set_and_retention_frozen),
	    T(plan_tells_what_goes),
	    T(bad_bodies_change_nothing),
	    T(what_is_asked_reaches_the_command_and_the_audit),
	    T(what_is_beyond_a_limit_or_unclear_reaches_no_command),
	    T(a_body_that_nobody_reads_must_be_empty),
	    T(monitor_socket_changes_nothing),
	    T(every_changing_route_is_closed_to_the_monitor),
	    T(unknown_paths_and_methods_are_refused),
	    T(events_are_lines_and_tail_takes_the_last),
	    T(followers_see_what_happens_later),
	    T(followers_hear_news_of_their_source_and_nobody_later),
	    T(export_streams_every_byte),
	    T(export_that_fails_ends_with_its_reason),
	    T(export_of_an_unknown_volume_is_refused),
	    T(reader_that_goes_away_closes_its_export),
	    T(malformed_requests_are_refused_and_cut),
	    T(pipelined_requests_are_answered_in_order),
	    T(half_closed_peer_still_gets_its_answer),
	    T(idle_connections_make_room_for_new_ones),
	    T(who_takes_no_answers_gets_no_more_of_them_but_all_in_the_end),
	    T(followers_leave_room_for_questions),
	    T(stale_socket_is_replaced_but_a_live_one_is_not),
	    cmocka_unit_test(man_page_tells_of_every_route),
	};

	signal(SIGPIPE, SIG_IGN); /* as holdfastd does */
	log_level_max = LOG_LEVEL_WARNING;
	sqlite_faults_install();
	if (argc >= 3 && strcmp(argv[1], "serve") == 0)
		return serve(argv[2], argc > 3 ? strtoull(argv[3], NULL, 10) : 0, argc > 4 ? atoi(argv[4]) : 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
