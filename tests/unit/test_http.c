/* SPDX-License-Identifier: Apache-2.0 */
/* The bounds of the HTTP server: who says nothing, takes nothing, or comes in numbers. What it answers is test_api's.
 */
#include "server/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "tests/lib/scratch.h"

enum { TURN_MS = 5, TURNS_MAX = 4000, CONNECTIONS_MAX = 4, LARGE_BYTES = 4 << 20 };

struct fixture {
	char dir[64];
	struct event_base *base;
	struct event *tick;
	struct http_config config;
	struct http_server *server;
	struct sockaddr_un address;

	/* of the handler */
	size_t answer_bytes;
	bool wait, lasts; /* not answered at once; asks to */
	unsigned refused; /* may not last */
	unsigned asked, gone;
	struct http_request *waiting[CONNECTIONS_MAX];
};

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
}

static void
on_gone(void *arg)
{
	((struct fixture *)arg)->gone++;
}

static void
answer(struct fixture *f, struct http_request *req)
{
	struct evbuffer *body = evbuffer_new();
	char *bytes = calloc(1, f->answer_bytes + 1);

	assert_int_equal(evbuffer_add(body, bytes, f->answer_bytes), 0);
	http_reply(req, 200, "text/plain", body);
	evbuffer_free(body);
	free(bytes);
}

static void
handle(void *arg, struct http_request *req)
{
	struct fixture *f = arg;

	http_request_watch(req, on_gone, f);
	if (f->lasts && !http_request_lasts(req)) {
		f->refused++;
		answer(f, req);
	} else if (f->wait) {
		f->waiting[f->asked++] = req;
	} else {
		answer(f, req);
	}
}

static int
set_up(void **state)
{
	static const struct timeval turn = {.tv_usec = TURN_MS * 1000};
	struct fixture *f = *state = calloc(1, sizeof *f);

	scratch_make(f->dir, sizeof f->dir, "test_http");
	f->base = event_base_new();
	f->tick = event_new(f->base, -1, EV_PERSIST, on_tick, NULL);
	event_add(f->tick, &turn);
	f->address.sun_family = AF_UNIX;
	snprintf(f->address.sun_path, sizeof f->address.sun_path, "%s/sock", f->dir);
	f->config = (struct http_config){
	    .path = f->address.sun_path,
	    .mode = 0600,
	    .group = (gid_t)-1,
	    .connections_max = CONNECTIONS_MAX,
	    .request_timeout_ms = 60000,
	    .stall_timeout_ms = 60000,
	    .handler = handle,
	    .arg = f,
	};
	return 0;
}

static void
start(struct fixture *f)
{
	struct hf_error err;

	if (http_server_open(f->base, &f->config, &f->server, &err) < 0)
		fail_msg("%s", err.text);
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	int removed;

	http_server_close(f->server);
	event_free(f->tick);
	event_base_free(f->base);
	removed = scratch_remove(f->dir);
	free(f);
	return removed;
}

static void
turn(struct fixture *f, int *turns)
{
	if (++*turns > TURNS_MAX)
		fail_msg("in vain");
	assert_int_equal(event_base_loop(f->base, EVLOOP_ONCE), 0);
}

static int
dial(struct fixture *f, const char *text)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&f->address, sizeof f->address), 0);
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	return fd;
}

static bool
is_cut(int fd)
{
	struct pollfd p = {.fd = fd};

	return poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0;
}

static void
wait_until_cut(struct fixture *f, int fd)
{
	int turns = 0;

	while (!is_cut(fd))
		turn(f, &turns);
	close(fd);
}

/* The first line of the answer. */
static void
wait_for_answer(struct fixture *f, int fd, const char *line)
{
	char text[64];
	int turns = 0;

	while (recv(fd, text, strlen(line), MSG_DONTWAIT | MSG_PEEK) < (ssize_t)strlen(line))
		turn(f, &turns);
	assert_memory_equal(text, line, strlen(line));
}

static void
wait_until_asked(struct fixture *f, unsigned count)
{
	int turns = 0;

	while (f->asked < count)
		turn(f, &turns);
}

static const char request[] = "GET / HTTP/1.1\r\n\r\n";

static void
request_that_is_never_whole_is_cut(void **state)
{
	struct fixture *f = *state;

	f->config.request_timeout_ms = 30;
	start(f);
	wait_until_cut(f, dial(f, ""));
	wait_until_cut(f, dial(f, "GET / HTT"));
	wait_until_cut(f, dial(f, "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n{"));
}

static void
who_asks_no_more_after_an_answer_is_cut(void **state)
{
	struct fixture *f = *state;
	int fd;

	f->config.request_timeout_ms = 30;
	start(f);
	fd = dial(f, request);
	wait_for_answer(f, fd, "HTTP/1.1 200 ");
	wait_until_cut(f, fd);
}

static void
an_answer_may_take_longer_than_a_request(void **state)
{
	struct fixture *f = *state;
	int fd, turns = 0;

	f->config.request_timeout_ms = 30;
	f->wait = true;
	start(f);
	fd = dial(f, request);
	wait_until_asked(f, 1);
	while (turns < 100 / TURN_MS)
		turn(f, &turns);
	assert_false(is_cut(fd));
	answer(f, f->waiting[0]);
	wait_for_answer(f, fd, "HTTP/1.1 200 ");
	close(fd);
}

static void
who_takes_nothing_of_an_answer_is_cut(void **state)
{
	struct fixture *f = *state;

	f->config.stall_timeout_ms = 30;
	f->answer_bytes = LARGE_BYTES;
	start(f);
	wait_until_cut(f, dial(f, request));
}

static void
the_one_longest_idle_goes_for_a_new_one(void **state)
{
	struct fixture *f = *state;
	int fds[CONNECTIONS_MAX], more;

	start(f);
	fds[0] = dial(f, request);
	for (int i = 1; i < CONNECTIONS_MAX; i++)
		fds[i] = dial(f, "");
	wait_for_answer(f, fds[0], "HTTP/1.1 200 ");
	more = dial(f, request);
	wait_for_answer(f, more, "HTTP/1.1 200 ");
	wait_until_cut(f, fds[1]);
	fds[1] = more;
	for (int i = 0; i < CONNECTIONS_MAX; i++) {
		assert_false(is_cut(fds[i]));
		close(fds[i]);
	}
}

/* They come before the loop looks: none has been read when the next wants a place. */
static void
those_who_ask_all_at_once_are_all_answered(void **state)
{
	struct fixture *f = *state;
	int fds[3 * CONNECTIONS_MAX];

	start(f);
	for (int i = 0; i < 3 * CONNECTIONS_MAX; i++)
		fds[i] = dial(f, request);
	for (int i = 0; i < 3 * CONNECTIONS_MAX; i++) {
		wait_for_answer(f, fds[i], "HTTP/1.1 200 ");
		close(fds[i]);
	}
}

static void
nobody_who_waits_for_an_answer_goes_for_a_new_one(void **state)
{
	struct fixture *f = *state;
	int fds[CONNECTIONS_MAX], more;

	f->wait = true;
	start(f);
	for (int i = 0; i < CONNECTIONS_MAX; i++)
		fds[i] = dial(f, request);
	wait_until_asked(f, CONNECTIONS_MAX);
	more = dial(f, "");
	wait_for_answer(f, more, "HTTP/1.1 503 ");
	for (int i = 0; i < CONNECTIONS_MAX; i++) {
		assert_false(is_cut(fds[i]));
		close(fds[i]);
	}
	close(more);
}

static void
one_that_lasted_makes_room_for_another_when_it_ends_or_goes(void **state)
{
	struct fixture *f = *state;
	int fds[CONNECTIONS_MAX], turns = 0;

	f->wait = f->lasts = true;
	start(f);
	for (int i = 0; i < CONNECTIONS_MAX / 2; i++)
		fds[i] = dial(f, request);
	wait_until_asked(f, CONNECTIONS_MAX / 2);
	fds[2] = dial(f, request);
	wait_for_answer(f, fds[2], "HTTP/1.1 200 ");
	assert_int_equal(f->refused, 1);
	answer(f, f->waiting[0]);
	fds[3] = dial(f, request);
	wait_until_asked(f, 3);
	close(fds[1]);
	while (f->gone < 1)
		turn(f, &turns);
	assert_int_equal(send(fds[2], request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
	wait_until_asked(f, 4);
	assert_int_equal(f->refused, 1);
	close(fds[0]);
	close(fds[2]);
	close(fds[3]);
}

static void
a_socket_that_somebody_put_there_since_stays(void **state)
{
	struct fixture *f = *state;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stat st;

	start(f);
	assert_int_equal(unlink(f->address.sun_path), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&f->address, sizeof f->address), 0);
	http_server_close(f->server);
	f->server = NULL;
	assert_int_equal(lstat(f->address.sun_path, &st), 0);
	close(fd);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(request_that_is_never_whole_is_cut),
	    T(who_asks_no_more_after_an_answer_is_cut),
	    T(an_answer_may_take_longer_than_a_request),
	    T(who_takes_nothing_of_an_answer_is_cut),
	    T(the_one_longest_idle_goes_for_a_new_one),
	    T(those_who_ask_all_at_once_are_all_answered),
	    T(nobody_who_waits_for_an_answer_goes_for_a_new_one),
	    T(one_that_lasted_makes_room_for_another_when_it_ends_or_goes),
	    T(a_socket_that_somebody_put_there_since_stays),
	};

	signal(SIGPIPE, SIG_IGN); /* as holdfastd does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
