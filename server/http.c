/* SPDX-License-Identifier: Apache-2.0 */
#include "server/http.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include "proto/common/log.h"
#include "server/listen.h"

enum {
	INPUT_BYTES_MAX = HTTP_HEAD_BYTES_MAX + HTTP_BODY_BYTES_MAX, /* one request, whole */
	LINGER_MS = 2000,       /* for a refused peer to read why before the connection is cut */
	ACCEPT_PAUSE_MS = 1000, /* after EMFILE and the like */
	BACKLOG = 1024,         /* one who connects all at once, again and again, must not turn others away */
};

enum connection_state {
	CONNECTION_IDLE,      /* between requests, or in the middle of receiving one */
	CONNECTION_ASKED,     /* the handler has it */
	CONNECTION_STREAMING, /* answering in pieces */
	CONNECTION_LINGERING, /* said all; waits until the peer has it */
	CONNECTION_DEAD,
};

struct http_request {
	unsigned magic;
	struct connection *connection;
	struct http_head head;
	char *body;
	bool head_done, chunked;
	bool lasts; /* counted in lasting_count */
	void (*gone)(void *arg);
	void *gone_arg;
	void (*room)(void *arg);
	void *room_arg;
};

#define REQUEST_MAGIC 0x48545251u

struct connection {
	LIST_ENTRY(connection) link; /* longest idle last */
	struct http_server *server;
	struct bufferevent *bev;
	struct event *deadline;
	struct http_peer peer;
	enum connection_state state;
	bool half_closed; /* the peer sends no more, but still listens */
	unsigned holds;   /* dispatches under way: a dead connection is freed when the last one returns */
	struct http_request request;
};

struct http_server {
	struct event_base *base;
	struct evconnlistener *listener;
	struct event *accept_again;
	struct http_config config;
	char name[sizeof((struct sockaddr_un *)NULL)->sun_path];
	struct sockaddr_un address; /* unless it is TCP */
	dev_t device;               /* of our socket file: another's is not removed */
	ino_t inode;
	LIST_HEAD(connection_list, connection) connections;
	unsigned connection_count, lasting_count;
};

/* ---- connections ---- */

static void
free_connection(struct connection *c)
{
	LIST_REMOVE(c, link);
	c->server->connection_count--;
	bufferevent_free(c->bev);
	event_free(c->deadline);
	free(c->request.body);
	free(c);
}

static void
end_lasting(struct connection *c)
{
	c->server->lasting_count -= c->request.lasts;
	c->request.lasts = false;
}

/* Cut. The request, if the handler has it, is told. */
static void
kill_connection(struct connection *c)
{
	bool asked = c->state == CONNECTION_ASKED || c->state == CONNECTION_STREAMING;

	if (c->state == CONNECTION_DEAD)
		return;
	c->state = CONNECTION_DEAD;
	bufferevent_disable(c->bev, EV_READ | EV_WRITE);
	bufferevent_setcb(c->bev, NULL, NULL, NULL, NULL);
	event_del(c->deadline);
	end_lasting(c);
	if (asked && c->request.gone != NULL)
		c->request.gone(c->request.gone_arg);
}

static void
hold(struct connection *c)
{
	c->holds++;
}

static void
release(struct connection *c)
{
	assert(c->holds > 0);
	if (--c->holds == 0 && c->state == CONNECTION_DEAD)
		free_connection(c);
}

static struct timeval
timeval_of(unsigned ms)
{
	return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

static void
set_deadline(struct connection *c, unsigned ms)
{
	const struct timeval tv = timeval_of(ms);

	event_add(c->deadline, &tv);
}

/* ---- requests in ---- */

static void
reset_request(struct connection *c)
{
	struct http_request *req = &c->request;

	end_lasting(c);
	free(req->body);
	req->body = NULL;
	req->head_done = req->chunked = false;
	req->gone = req->room = NULL;
}

/* Nothing more will be asked or said; on_write() waits until the last byte has left. */
static void
linger(struct connection *c)
{
	c->state = CONNECTION_LINGERING;
	bufferevent_trigger(c->bev, EV_WRITE, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
}

/* The answer is complete: what next on this connection? */
static void
finish_request(struct connection *c)
{
	bool keep = c->request.head.keep_alive;

	reset_request(c);
	LIST_REMOVE(c, link);
	LIST_INSERT_HEAD(&c->server->connections, c, link);
	if (keep)
		c->state = CONNECTION_IDLE; /* see on_write() for what comes next */
	else
		linger(c);
}

static const char *
reason_phrase(int status)
{
	static const struct {
		int status;
		const char *phrase;
	} phrases[] = {
	    {200, "OK"},
	    {201, "Created"},
	    {400, "Bad Request"},
	    {403, "Forbidden"},
	    {404, "Not Found"},
	    {405, "Method Not Allowed"},
	    {409, "Conflict"},
	    {413, "Content Too Large"},
	    {414, "URI Too Long"},
	    {431, "Request Header Fields Too Large"},
	    {500, "Internal Server Error"},
	    {501, "Not Implemented"},
	    {503, "Service Unavailable"},
	    {504, "Gateway Timeout"},
	    {505, "HTTP Version Not Supported"},
	    {507, "Insufficient Storage"},
	};

	for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Answer";
}

/* What is wrong with a request that is refused here. */
static const char *
refusal_detail(int status)
{
	switch (status) {
	case 405: return "GET, POST, PATCH and DELETE are the methods";
	case 413: return "a body is 64 KiB at most";
	case 414: return "the path or its query has too many parts";
	case 431: return "a head is 8 KiB at most";
	case 501: return "a body comes as it is, with its Content-Length";
	case 503: return "there is no memory for it";
	case 505: return "HTTP/1.1 and HTTP/1.0 are the versions";
	default: return "this is no HTTP request";
	}
}

/* What cannot be parsed is answered here, and the connection ends: its bytes can no longer be told
 * apart. */
static void
refuse(struct connection *c, int status)
{
	struct evbuffer *body = evbuffer_new();

	if (body == NULL) {
		kill_connection(c);
		return;
	}
	c->state = CONNECTION_ASKED;
	c->request.head.keep_alive = false;
	c->request.head.minor = 1;
	evbuffer_add_printf(body,
	    "{\"status\": %d, \"title\": \"%s\", \"detail\": \"%s\", \"code\": \"HTTP\", \"hint\": null}\n", status,
	    reason_phrase(status), refusal_detail(status));
	http_reply(&c->request, status, "application/problem+json", body);
	evbuffer_free(body);
}

/* 1: the head is there; 0: not yet; negative: the status to refuse it with. */
static int
take_head(struct connection *c, struct evbuffer *input)
{
	struct evbuffer_ptr end = evbuffer_search(input, "\r\n\r\n", 4, NULL);
	size_t len = end.pos < 0 ? 0 : (size_t)end.pos + 4;
	int r;

	if (end.pos < 0)
		return evbuffer_get_length(input) >= HTTP_HEAD_BYTES_MAX ? -431 : 0;
	if (len > HTTP_HEAD_BYTES_MAX)
		return -431;
	r = http_head_parse((const char *)evbuffer_pullup(input, (ssize_t)len), len, &c->request.head);
	if (r < 0)
		return r;
	evbuffer_drain(input, len);
	c->request.head_done = true;
	return 1;
}

static int
take_body(struct connection *c, struct evbuffer *input)
{
	size_t len = c->request.head.body_bytes;

	if (evbuffer_get_length(input) < len)
		return 0;
	c->request.body = malloc(len + 1);
	if (c->request.body == NULL)
		return -503;
	evbuffer_remove(input, c->request.body, len);
	c->request.body[len] = '\0';
	return 1;
}

static int
take_request(struct connection *c)
{
	struct evbuffer *input = bufferevent_get_input(c->bev);
	int r = 1;

	if (!c->request.head_done)
		r = take_head(c, input);
	if (r == 1)
		r = take_body(c, input);
	return r;
}

static void
ask_handler(struct connection *c)
{
	c->state = CONNECTION_ASKED;
	event_del(c->deadline);
	c->server->config.handler(c->server->config.arg, &c->request);
}

static bool
has_output(const struct connection *c)
{
	return evbuffer_get_length(bufferevent_get_output(c->bev)) > 0;
}

static void
on_read(struct bufferevent *bev, void *arg)
{
	struct connection *c = arg;
	int r;

	hold(c);
	switch (c->state) {
	case CONNECTION_IDLE:
		if (has_output(c))
			break; /* who does not take answers gets no more of them: they would fill our memory */
		r = take_request(c);
		if (r == 1)
			ask_handler(c);
		else if (r < 0)
			refuse(c, -r);
		else if (c->half_closed)
			linger(c);
		break;
	case CONNECTION_LINGERING: evbuffer_drain(bufferevent_get_input(bev), (size_t)-1); break;
	case CONNECTION_ASKED: /* pipelined: waits, and the read watermark bounds it */
	case CONNECTION_STREAMING: break;
	case CONNECTION_DEAD: break; /* a callback deferred before */
	}
	release(c);
}

/* The peer took enough of what was written (see the write watermark). */
static void
on_write(struct bufferevent *bev, void *arg)
{
	struct connection *c = arg;
	void (*room)(void *) = c->request.room;

	hold(c);
	if (c->state == CONNECTION_STREAMING && room != NULL) {
		c->request.room = NULL;
		room(c->request.room_arg);
	} else if (c->state == CONNECTION_IDLE && !has_output(c)) {
		set_deadline(c, c->server->config.request_timeout_ms);
		on_read(bev, arg); /* pipelined requests may already be here */
	} else if (c->state == CONNECTION_LINGERING && !has_output(c)) {
		shutdown(bufferevent_getfd(bev), SHUT_WR);
		set_deadline(c, LINGER_MS);
		if (c->half_closed)
			kill_connection(c);
	}
	release(c);
}

/* After end of file: does the peer (printf ... | socat) still want its answer, or has it closed
 * both ways? */
static bool
peer_listens(struct connection *c)
{
	struct pollfd p = {.fd = bufferevent_getfd(c->bev)};

	return poll(&p, 1, 0) == 0 || (p.revents & (POLLHUP | POLLERR)) == 0;
}

static void
on_event(struct bufferevent *bev, short what, void *arg)
{
	struct connection *c = arg;
	bool said_all = c->state == CONNECTION_LINGERING && !has_output(c);

	hold(c);
	if ((what & BEV_EVENT_EOF) && !said_all && peer_listens(c)) {
		c->half_closed = true;
		bufferevent_trigger(bev, EV_READ, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
	} else {
		kill_connection(c); /* gone, or it takes nothing of its answer */
	}
	release(c);
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct connection *c = arg;

	hold(c);
	kill_connection(c);
	release(c);
}

/* ---- answers out ---- */

static struct connection *
connection_of(const struct http_request *req, enum connection_state state)
{
	assert(req->magic == REQUEST_MAGIC);
	assert(req->connection->state == state);
	return req->connection;
}

static void
write_head(struct http_request *req, int status, const char *content_type, const char *headers)
{
	struct evbuffer *out = bufferevent_get_output(req->connection->bev);

	evbuffer_add_printf(out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nCache-Control: no-store\r\n%s", status,
	    reason_phrase(status), content_type, headers);
	if (!req->head.keep_alive)
		evbuffer_add_printf(out, "Connection: close\r\n");
}

void
http_reply(struct http_request *req, int status, const char *content_type, struct evbuffer *body)
{
	struct connection *c = connection_of(req, CONNECTION_ASKED);
	struct evbuffer *out = bufferevent_get_output(c->bev);

	hold(c);
	write_head(req, status, content_type, "");
	evbuffer_add_printf(out, "Content-Length: %zu\r\n\r\n", body == NULL ? 0 : evbuffer_get_length(body));
	if (body != NULL)
		evbuffer_add_buffer(out, body);
	finish_request(c);
	release(c);
}

void
http_stream_begin(struct http_request *req, int status, const char *content_type, const char *headers)
{
	struct connection *c = connection_of(req, CONNECTION_ASKED);

	req->chunked = req->head.minor == 1;
	if (!req->chunked)
		req->head.keep_alive = false; /* the end of an HTTP/1.0 stream is the end of the connection */
	write_head(req, status, content_type, headers);
	evbuffer_add_printf(
	    bufferevent_get_output(c->bev), req->chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
	c->state = CONNECTION_STREAMING;
}

void
http_stream_add(struct http_request *req, const void *bytes, size_t len)
{
	struct connection *c = connection_of(req, CONNECTION_STREAMING);
	struct evbuffer *out = bufferevent_get_output(c->bev);

	assert(len > 0); /* an empty chunk would end the stream */
	if (req->chunked)
		evbuffer_add_printf(out, "%zx\r\n", len);
	evbuffer_add(out, bytes, len);
	if (req->chunked)
		evbuffer_add(out, "\r\n", 2);
}

void
http_stream_end(struct http_request *req)
{
	struct connection *c = connection_of(req, CONNECTION_STREAMING);

	hold(c);
	if (req->chunked)
		evbuffer_add(bufferevent_get_output(c->bev), "0\r\n\r\n", 5);
	finish_request(c);
	release(c);
}

void
http_stream_abort(struct http_request *req)
{
	struct connection *c = connection_of(req, CONNECTION_STREAMING);

	hold(c);
	req->gone = NULL; /* the caller knows */
	kill_connection(c);
	release(c);
}

void
http_stream_wait(struct http_request *req, size_t low_bytes, void (*room)(void *arg), void *arg)
{
	struct connection *c = connection_of(req, CONNECTION_STREAMING);

	req->room = room;
	req->room_arg = arg;
	bufferevent_setwatermark(c->bev, EV_WRITE, low_bytes, 0);
	if (evbuffer_get_length(bufferevent_get_output(c->bev)) <= low_bytes)
		bufferevent_trigger(c->bev, EV_WRITE, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
}

bool
http_request_lasts(struct http_request *req)
{
	struct http_server *s = req->connection->server;

	assert(req->magic == REQUEST_MAGIC && !req->lasts);
	if (s->lasting_count >= s->config.connections_max / 2)
		return false;
	s->lasting_count++;
	req->lasts = true;
	return true;
}

void
http_request_watch(struct http_request *req, void (*gone)(void *arg), void *arg)
{
	assert(req->magic == REQUEST_MAGIC);
	req->gone = gone;
	req->gone_arg = arg;
}

const struct http_head *
http_request_head(const struct http_request *req)
{
	return &req->head;
}

const char *
http_request_body(const struct http_request *req)
{
	return req->body;
}

const struct http_peer *
http_request_peer(const struct http_request *req)
{
	return &req->connection->peer;
}

/* ---- the listener ---- */

static struct connection *
longest_idle(struct http_server *s)
{
	struct connection *c, *longest = NULL;

	LIST_FOREACH (c, &s->connections, link)
		if (c->state == CONNECTION_IDLE || c->state == CONNECTION_LINGERING)
			longest = c;
	return longest;
}

/* Room for one more: true, or every connection is at work. */
static bool
make_room(struct http_server *s)
{
	struct connection *c;

	if (s->connection_count < s->config.connections_max)
		return true;
	c = longest_idle(s);
	if (c == NULL)
		return false;
	hold(c);
	kill_connection(c);
	release(c);
	return true;
}

static int
get_peer(int fd, struct http_peer *ret_peer)
{
	struct ucred cred;
	socklen_t len = sizeof cred;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	ret_peer->uid = cred.uid;
	ret_peer->gid = cred.gid;
	ret_peer->pid = cred.pid;
	return 0;
}

/* fd is taken when it succeeds. */
static int
open_connection(struct http_server *s, int fd)
{
	const struct timeval stall = timeval_of(s->config.stall_timeout_ms);
	struct connection *c = calloc(1, sizeof *c);

	if (c == NULL)
		return -ENOMEM;
	c->server = s;
	c->request.magic = REQUEST_MAGIC;
	c->request.connection = c;
	c->deadline = evtimer_new(s->base, on_deadline, c);
	c->bev = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (c->deadline == NULL || c->bev == NULL || get_peer(fd, &c->peer) < 0) {
		if (c->bev != NULL)
			bufferevent_setfd(c->bev, -1), bufferevent_free(c->bev);
		if (c->deadline != NULL)
			event_free(c->deadline);
		free(c);
		return -ENOMEM;
	}
	LIST_INSERT_HEAD(&s->connections, c, link);
	s->connection_count++;
	bufferevent_setcb(c->bev, on_read, on_write, on_event, c);
	bufferevent_setwatermark(c->bev, EV_READ, 0, INPUT_BYTES_MAX);
	bufferevent_set_timeouts(c->bev, NULL, &stall);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
	set_deadline(c, s->config.request_timeout_ms);
	return 0;
}

static void
pause_accepting(struct http_server *s, unsigned ms)
{
	const struct timeval pause = timeval_of(ms);

	evconnlistener_disable(s->listener);
	event_add(s->accept_again, &pause);
}

/* While there is no place left, one at a time, and the loop goes round in between: of many who came at once, those who
 * have asked are not taken for idle, which they are only until their question is read. */
static void
on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *sa, int len, void *arg)
{
	static const char busy[] = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
	struct http_server *s = arg;

	if (!make_room(s) || open_connection(s, fd) < 0) {
		(void)!send(fd, busy, sizeof busy - 1, MSG_NOSIGNAL | MSG_DONTWAIT); /* a courtesy */
		close(fd);
	}
	if (s->connection_count >= s->config.connections_max)
		pause_accepting(s, 0);
}

/* Out of descriptors: do not spin on a listener that stays readable. */
static void
on_accept_error(struct evconnlistener *listener, void *arg)
{
	struct http_server *s = arg;

	log_warning("control_accept_failed", "socket=%s msg=\"%s\"", s->name, strerror(errno));
	pause_accepting(s, ACCEPT_PAUSE_MS);
}

static void
on_accept_again(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *s = arg;

	evconnlistener_enable(s->listener);
}

/* A file left behind by a daemon that died goes; one with a listener, or no socket at all, stays.
 */
static int
remove_stale(const struct sockaddr_un *address, struct hf_error *err)
{
	const char *path = address->sun_path;
	struct stat st;
	int fd, r;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : hf_error_set(err, -errno, "%s", path);
	if (!S_ISSOCK(st.st_mode))
		return hf_error_say(err, -EEXIST, "%s is in the way and is no socket: remove it", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return hf_error_set(err, -errno, "%s", path);
	r = connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 ? errno : 0;
	close(fd);
	if (r != ECONNREFUSED)
		return hf_error_say(err, -EADDRINUSE,
		    "%s: another holdfastd is listening there; stop it, or set admin.runtime_dir", path);
	return unlink(path) < 0 && errno != ENOENT ? hf_error_set(err, -errno, "%s", path) : 0;
}

/* Bound so that nobody can connect before mode and group are right. */
static int
bind_socket(int fd, const struct http_config *config, const struct sockaddr_un *address)
{
	mode_t old = umask(0177);
	int r = bind(fd, (const struct sockaddr *)address, sizeof *address) < 0 ? -errno : 0;

	umask(old);
	if (r == 0 && config->group != (gid_t)-1 && chown(config->path, (uid_t)-1, config->group) < 0)
		r = -errno;
	if (r == 0 && chmod(config->path, config->mode) < 0)
		r = -errno;
	return r;
}

static int
listen_unix(struct http_server *s, int *ret_fd, struct hf_error *err)
{
	struct stat st;
	int fd, r;

	if (strlen(s->config.path) >= sizeof s->address.sun_path)
		return hf_error_say(err, -ENAMETOOLONG,
		    "%s: longer than the %zu bytes a socket's path may have; set admin.runtime_dir", s->config.path,
		    sizeof s->address.sun_path - 1);
	s->address.sun_family = AF_UNIX;
	memcpy(s->address.sun_path, s->config.path, strlen(s->config.path));
	memcpy(s->name, s->address.sun_path, sizeof s->name);
	s->config.path = s->name;
	r = remove_stale(&s->address, err);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return hf_error_set(err, -errno, "%s", s->name);
	r = bind_socket(fd, &s->config, &s->address);
	if (r == 0 && lstat(s->name, &st) < 0)
		r = -errno;
	if (r < 0) {
		close(fd);
		return hf_error_set(err, r, "%s", s->name);
	}
	s->device = st.st_dev;
	s->inode = st.st_ino;
	*ret_fd = fd;
	return 0;
}

static int
start_accepting(struct http_server *s, struct hf_error *err)
{
	int fd, r;

	r = s->config.path != NULL ? listen_unix(s, &fd, err) : listen_open(s->config.address, &fd, s->name, err);
	if (r < 0)
		return r;
	s->listener = evconnlistener_new(s->base, on_accept, s, LEV_OPT_CLOSE_ON_FREE, BACKLOG, fd);
	if (s->listener == NULL) {
		close(fd);
		return hf_error_set(err, -ENOMEM, "%s", s->name);
	}
	evconnlistener_set_error_cb(s->listener, on_accept_error);
	return 0;
}

int
http_server_open(
    struct event_base *base, const struct http_config *config, struct http_server **ret_server, struct hf_error *err)
{
	struct http_server *s = calloc(1, sizeof *s);
	int r;

	if (s == NULL)
		return hf_error_set(err, -ENOMEM, "control socket");
	s->base = base;
	s->config = *config;
	s->accept_again = evtimer_new(base, on_accept_again, s);
	r = s->accept_again == NULL ? hf_error_set(err, -ENOMEM, "control socket") : start_accepting(s, err);
	if (r < 0) {
		http_server_close(s);
		return r;
	}
	*ret_server = s;
	return 0;
}

const char *
http_server_name(const struct http_server *s)
{
	return s->name;
}

static void
remove_own_socket(struct http_server *s)
{
	struct stat st;

	if (s->config.path != NULL && lstat(s->config.path, &st) == 0 && st.st_dev == s->device &&
	    st.st_ino == s->inode)
		(void)unlink(s->config.path); /* the next start replaces it as well */
}

void
http_server_close(struct http_server *s)
{
	struct connection *c, *next;

	if (s == NULL)
		return;
	for (c = LIST_FIRST(&s->connections); c != NULL; c = next) {
		next = LIST_NEXT(c, link);
		hold(c);
		kill_connection(c);
		release(c);
	}
	if (s->listener != NULL) {
		evconnlistener_free(s->listener);
		remove_own_socket(s);
	}
	if (s->accept_again != NULL)
		event_free(s->accept_again);
	free(s);
}
