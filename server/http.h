/* SPDX-License-Identifier: Apache-2.0 */
/* http.h: HTTP/1.1 over a unix socket, or a port of TCP, bounded in everything a client can make grow. One event
 * loop's thread only.
 *
 * Not evhttp, because of what it cannot say or do: that the peer of an unanswered request is gone
 * (it stops reading), who the peer is, how many connections there are and which is idle
 * longest, and that a chunk has left so that the next may be read.
 *
 * A request lives from the handler's call to its single end: http_reply(), http_stream_end(),
 * http_stream_abort(), or the watch's gone(). After that it must not be touched. Pipelined requests
 * wait for each other, and for the answer before them to be taken. */
#ifndef HF_SERVER_HTTP_H
#define HF_SERVER_HTTP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/common/error.h"
#include "server/http_parse.h"

struct evbuffer;
struct event_base;
struct http_server;
struct http_request;

struct http_peer { /* SO_PEERCRED: as the kernel says, of the moment of connect(2); TCP: pid 0, the others -1 */
	uid_t uid;
	gid_t gid;
	pid_t pid;
};

typedef void http_handler(void *arg, struct http_request *req);

struct http_config {
	const char *path; /* of the socket; copied. NULL: address */
	mode_t mode;
	gid_t group;         /* (gid_t)-1: as it comes */
	const char *address; /* "HOST:PORT"; copied */
	unsigned connections_max;
	unsigned request_timeout_ms; /* from the connection, or the last answer, to the whole request */
	unsigned stall_timeout_ms;   /* a peer that takes nothing of an answer for so long is cut off */
	http_handler *handler;
	void *arg;
};

/* Listen. A socket file nobody listens on is replaced. Blocking but short. -EADDRINUSE: somebody
 * listens there; -ENAMETOOLONG, -EINVAL, -errno. */
int http_server_open(
    struct event_base *base, const struct http_config *config, struct http_server **ret_server, struct hf_error *err);

/* Where it listens: the path, or the address with the port that was chosen. Borrowed. */
const char *http_server_name(const struct http_server *s);

/* Cut every connection (gone() is told) and remove the socket file. NULL allowed. */
void http_server_close(struct http_server *s);

/* Borrowed until the request's end. */
const struct http_head *http_request_head(const struct http_request *req);
const char *http_request_body(const struct http_request *req); /* head.body_bytes bytes and a NUL */
const struct http_peer *http_request_peer(const struct http_request *req);

/* It will take long, by its nature: events that go on. False: half of the connections are taken by such requests, and
 * the rest is for those that are soon over; refuse it. */
bool http_request_lasts(struct http_request *req);

/* gone(arg): the peer went away, or the server closes; that was the request's end. */
void http_request_watch(struct http_request *req, void (*gone)(void *arg), void *arg);

/* The whole answer at once. body (NULL: none) is emptied, and stays the caller's. */
void http_reply(struct http_request *req, int status, const char *content_type, struct evbuffer *body);

/* An answer in pieces: begin once, add any number (len > 0; copied), end or abort (cut without a
 * proper end, so the peer knows that something is missing). headers: "Name: value\r\n"..., or "".
 */
void http_stream_begin(struct http_request *req, int status, const char *content_type, const char *headers);
void http_stream_add(struct http_request *req, const void *bytes, size_t len);
void http_stream_end(struct http_request *req);
void http_stream_abort(struct http_request *req);

/* Call room(arg) once, from the loop, as soon as less than low_bytes wait to be taken by the peer.
 */
void http_stream_wait(struct http_request *req, size_t low_bytes, void (*room)(void *arg), void *arg);

#endif
