/* SPDX-License-Identifier: Apache-2.0 */
/* tls_stream.h: one TLS connection of the server's side: a non-blocking socket, an SSL, and the bytes that wait to be
 * written.
 *
 * libevent tells readiness, nothing more: tls_read() decrypts straight into the caller's memory. Reading that must
 * write first (a key update) and writing that must read first are sorted out in here. A stream belongs to one loop at a
 * time; detached, it may be carried to another thread's. I/O steps say done (0), wait (-EAGAIN) or dead (anything
 * else). */
#ifndef HF_SERVER_TLS_STREAM_H
#define HF_SERVER_TLS_STREAM_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct tls_stream;

enum tls_event {
	TLS_READABLE = 1 << 0, /* tls_handshake(), tls_read() or tls_discard() may get further */
	TLS_DRAINED = 1 << 1,  /* everything written has gone to the kernel */
	TLS_BROKEN = 1 << 2,   /* writing failed: see tls_status() */
};

/* what: bits of enum tls_event. May destroy the stream as its last act. */
typedef void tls_on_event(void *arg, unsigned what);

/* Takes fd (connected; made non-blocking here), also on failure. -ENOMEM. */
int tls_stream_create(SSL_CTX *ctx, int fd, struct tls_stream **ret_stream);

/* Close the socket as it is. NULL is allowed. */
void tls_stream_destroy(struct tls_stream *t);

/* Let base's loop watch it. on_event runs from the loop alone, never inside a call of this header. -ENOMEM. */
int tls_stream_attach(struct tls_stream *t, struct event_base *base, tls_on_event *on_event, void *arg);
void tls_stream_detach(struct tls_stream *t);

SSL *tls_stream_ssl(struct tls_stream *t); /* borrowed */

/* Server's side of the handshake. 0, -EAGAIN, -ECONNRESET (peer vanished), -EPROTO (see tls_failure()). */
int tls_handshake(struct tls_stream *t);

/* Up to size bytes, at most one record. 0 and *ret_len > 0; -EAGAIN; -ESHUTDOWN (peer said close_notify), -ECONNRESET
 * (peer vanished without: never to be taken for the end of data), -EPROTO. */
int tls_read(struct tls_stream *t, void *buf, size_t size, size_t *ret_len);

/* Bytes that came from the peer, in all: those of a record that is not whole yet, too. */
uint64_t tls_received_bytes(const struct tls_stream *t);

/* At least `bytes` more of plaintext are on their way and nothing can be done before they are here: TLS_READABLE may
 * come for many at a time. Until called again; 0 takes it back, and tells of what has arrived meanwhile. */
void tls_expect(struct tls_stream *t, size_t bytes);

/* Queue len bytes (copied); tls_flush() sends them. -ENOBUFS beyond OUTPUT_HARD_BYTES, -ENOMEM. */
int tls_write(struct tls_stream *t, const void *bytes, size_t len);

/* Send what is queued as far as the socket takes it; the loop goes on with the rest. 0 (all gone), -EAGAIN, or dead. */
int tls_flush(struct tls_stream *t);
size_t tls_output_bytes(const struct tls_stream *t);

/* Whether TLS_READABLE is wanted. False is how reading is paused; true at first. */
void tls_want_read(struct tls_stream *t, bool want);

/* The caller's turn is over though there may be more to read: TLS_READABLE comes in the next turn of the loop. */
void tls_read_later(struct tls_stream *t);

/* Nothing is read for so long; then TLS_READABLE comes, if it is wanted. */
void tls_read_after(struct tls_stream *t, int64_t delay_ns);

/* 0, or what killed it. */
int tls_status(const struct tls_stream *t);

/* What OpenSSL said about the last -EPROTO on this thread. Static memory of the thread. */
const char *tls_failure(void);

/* ---- closing in good order: flush, tls_shutdown(), tls_discard() until it is dead, destroy ---- */

/* Say close_notify and end our direction. */
void tls_shutdown(struct tls_stream *t);

/* Throw away, unread, up to `budget` bytes that arrived: a socket closed over unread bytes resets the connection, and
 * the peer would never see our last frame. -EAGAIN, or dead (the peer closed too). */
int tls_discard(struct tls_stream *t, size_t budget);

/* Wire bytes after which keys are changed; for tests. */
void tls_set_rekey_bytes(struct tls_stream *t, uint64_t bytes);

#endif
