/* SPDX-License-Identifier: Apache-2.0 */
/* wire.c: non-blocking TCP and TLS.
 *
 * How it fails: every failure becomes WIRE_DEAD with a sentence, and nothing is repaired here; the
 * link dials anew. A cut path must be noticed within seconds, even with data in flight, and a
 * handshake or a write must never hang: the callers have deadlines. TCP has none: its
 * TCP_USER_TIMEOUT also ends a connection that gets on, if it loses packets for so long. */
#include "agent/wire.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "agent/tls.h"
#include "proto/common/status.h"
#include "proto/common/units.h"

/* What the kernel takes beyond what is on its way. The less, the sooner a heartbeat goes, a hold counts, and a wait for
 * the network is seen as one; so much keeps a fast path busy until we are awake. */
enum { UNSENT_BYTES = 128 * 1024 };

#define KEY_UPDATE_BYTES (64ull << 30) /* the protocol allows at most 256 GiB under one key */

struct wire {
	int fd;
	SSL *ssl;
	bool connected, shaken, want_write, write_pending;
	uint64_t key_update_bytes, key_bytes; /* key_bytes: sent under the current key */
	struct frame_header header;
	bool have_header;
	size_t have;           /* bytes in `in`, from the frame's first */
	struct hf_error error; /* the first that happened */
	bool unreadable;       /* the error was met reading: nothing more will come */
	unsigned char in[FRAME_HEADER_BYTES + FRAME_MESSAGE_MAX + WIRE_PAYLOAD_MAX];
};

static int
make_socket(const struct address_resolved *to)
{
	int fd = socket(to->socket.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1, unsent = UNSENT_BYTES;

	if (fd < 0)
		return -errno;
	/* They only make things quicker; a kernel that refuses them still works. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
	if (connect(fd, (const struct sockaddr *)&to->socket, to->len) < 0 && errno != EINPROGRESS) {
		int r = -errno;

		(void)close(fd); /* never connected */
		return r;
	}
	return fd;
}

int
wire_open(const struct address_resolved *to, SSL_CTX *context, uint64_t key_update_bytes, struct wire **ret_wire,
    struct hf_error *err)
{
	struct wire *w = calloc(1, sizeof *w);

	if (w == NULL)
		return hf_error_set(err, -ENOMEM, "connect");
	w->key_update_bytes = key_update_bytes != 0 ? key_update_bytes : KEY_UPDATE_BYTES;
	w->fd = make_socket(to);
	w->ssl = SSL_new(context);
	if (w->fd < 0 || w->ssl == NULL || SSL_set_fd(w->ssl, w->fd) != 1) {
		int r = w->fd < 0 ? w->fd : -ENOMEM;

		wire_close(w);
		return hf_error_set(err, r, "connect");
	}
	SSL_set_connect_state(w->ssl);
	*ret_wire = w;
	return 0;
}

void
wire_close(struct wire *w)
{
	if (w == NULL)
		return;
	if (w->shaken && w->error.code == 0)
		(void)SSL_shutdown(w->ssl); /* best effort: the server needs no close_notify */
	SSL_free(w->ssl);
	ERR_clear_error();
	if (w->fd >= 0)
		(void)close(w->fd); /* what mattered was acknowledged or will be sent again */
	free(w);
}

static enum wire_step
die(struct wire *w, int code, const char *what)
{
	if (w->error.code == 0)
		hf_error_set(&w->error, code, "%s", what);
	return WIRE_DEAD;
}

static enum wire_step
die_saying(struct wire *w, int code, const char *what)
{
	if (w->error.code == 0)
		hf_error_say(&w->error, code, "%s", what);
	return WIRE_DEAD;
}

/* A server that turns us away inside TLS can only send an alert. */
static int
alert_status(int reason)
{
	switch (reason) {
	case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED: return -HF_EEXPIRED;
	case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
	case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
	case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
	case SSL_R_TLSV1_ALERT_ACCESS_DENIED: return -HF_EREVOKED;
	default: return 0;
	}
}

static enum wire_step
die_of_tls(struct wire *w)
{
	int reason = ERR_GET_REASON(ERR_peek_last_error());
	int status = alert_status(reason);
	char text[256];

	if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return die_saying(w, -ECONNRESET, "the server closed the connection without a goodbye");
	if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
		snprintf(text, sizeof text,
		    "this is not the server we enrolled at, or its certificate is bad (%s); "
		    "nothing was sent",
		    X509_verify_cert_error_string(SSL_get_verify_result(w->ssl)));
		return die_saying(w, -EACCES, text);
	}
	if (reason == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED) /* which only one that enrols has not */
		return die_saying(
		    w, -EPROTO, "this is the server's port for data; enrolment has another, usually 1501");
	if (status != 0)
		return die(w, status, "the server refused our certificate");
	snprintf(text, sizeof text, "TLS: %s", tls_error_text());
	return die_saying(w, -EPROTO, text);
}

/* What an OpenSSL call that returned r < 1 means for us. */
static enum wire_step
tls_outcome(struct wire *w, int r)
{
	int saved_errno = errno;

	switch (SSL_get_error(w->ssl, r)) {
	case SSL_ERROR_WANT_READ: return WIRE_WAIT;
	case SSL_ERROR_WANT_WRITE: w->want_write = true; return WIRE_WAIT;
	case SSL_ERROR_ZERO_RETURN: return die_saying(w, -ECONNRESET, "the server closed the connection");
	case SSL_ERROR_SYSCALL: return die(w, saved_errno != 0 ? -saved_errno : -ECONNRESET, "connection lost");
	default: return die_of_tls(w);
	}
}

static enum wire_step
finish_connect(struct wire *w)
{
	struct pollfd p = {.fd = w->fd, .events = POLLOUT};
	socklen_t len = sizeof(int);
	int error = 0;

	if (poll(&p, 1, 0) < 1) {
		w->want_write = true;
		return WIRE_WAIT;
	}
	if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error == ECONNREFUSED)
		return die_saying(w, -error, "connect: Connection refused (is holdfastd running there?)");
	if (error != 0)
		return die(w, -error, "connect");
	w->connected = true;
	return WIRE_DONE;
}

enum wire_step
wire_shake(struct wire *w)
{
	int r;

	assert(w->error.code == 0);
	w->want_write = false;
	if (!w->connected) {
		enum wire_step step = finish_connect(w);

		if (step != WIRE_DONE)
			return step;
	}
	ERR_clear_error();
	errno = 0;
	r = SSL_do_handshake(w->ssl);
	if (r != 1)
		return tls_outcome(w, r);
	if (tls_check_server(w->ssl, &w->error) < 0)
		return WIRE_DEAD;
	w->shaken = true;
	return WIRE_DONE;
}

bool
wire_connected(const struct wire *w)
{
	return w->connected;
}

/* ---- reading ---- */

/* Bring `in` to need bytes. */
static enum wire_step
fill(struct wire *w, size_t need)
{
	while (w->have < need) {
		size_t n;

		ERR_clear_error();
		errno = 0;
		if (SSL_read_ex(w->ssl, w->in + w->have, need - w->have, &n) != 1)
			return tls_outcome(w, 0);
		w->have += n;
	}
	return WIRE_DONE;
}

static enum wire_step
read_header(struct wire *w)
{
	enum wire_step step = fill(w, FRAME_HEADER_BYTES);
	int r;

	if (step != WIRE_DONE)
		return step;
	r = frame_header_decode(w->in, &w->header);
	if (r == 0 && w->header.payload_bytes > WIRE_PAYLOAD_MAX)
		r = -HF_ETOOBIG;
	if (r < 0)
		return die(w, r, "bad frame from the server");
	w->have_header = true;
	return WIRE_DONE;
}

enum wire_step
wire_read(struct wire *w, struct wire_frame *ret_frame)
{
	enum wire_step step = WIRE_DONE;

	assert(w->shaken && !w->unreadable);
	if (!w->have_header)
		step = read_header(w);
	if (step == WIRE_DONE)
		step = fill(w, FRAME_HEADER_BYTES + (size_t)w->header.message_bytes + w->header.payload_bytes);
	w->unreadable = step == WIRE_DEAD;
	if (step != WIRE_DONE)
		return step;
	ret_frame->header = w->header;
	ret_frame->message = w->in + FRAME_HEADER_BYTES;
	ret_frame->payload = ret_frame->message + w->header.message_bytes;
	w->have = 0;
	w->have_header = false;
	return WIRE_DONE;
}

/* ---- writing ---- */

/* New keys for our direction. Not in the middle of a write: OpenSSL would refuse. */
static enum wire_step
update_key(struct wire *w)
{
	if (w->key_bytes < w->key_update_bytes || w->write_pending)
		return WIRE_DONE;
	if (SSL_key_update(w->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
		return die_of_tls(w);
	w->key_bytes = 0;
	return WIRE_DONE;
}

enum wire_step
wire_write(struct wire *w, const unsigned char *bytes, size_t len, size_t *ret_written)
{
	assert(w->shaken && w->error.code == 0);
	w->want_write = false;
	ERR_clear_error();
	errno = 0;
	if (update_key(w) != WIRE_DONE)
		return WIRE_DEAD;
	if (SSL_write_ex(w->ssl, bytes, len, ret_written) != 1) {
		w->write_pending = true;
		return tls_outcome(w, 0);
	}
	w->write_pending = false;
	w->key_bytes += *ret_written;
	return WIRE_DONE;
}

/* ---- waiting ---- */

bool
wire_is_stalled(const struct wire *w)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof info;

	return getsockopt(w->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_retransmits > 0;
}

size_t
wire_unacknowledged(const struct wire *w)
{
	int bytes = 0;

	return ioctl(w->fd, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? (size_t)bytes : 0;
}

uint64_t
wire_received(const struct wire *w)
{
	return BIO_number_read(SSL_get_rbio(w->ssl));
}

int
wire_fd(const struct wire *w)
{
	return w->fd;
}

short
wire_events(const struct wire *w)
{
	return (short)(POLLIN | (w->want_write ? POLLOUT : 0));
}

const struct hf_error *
wire_error(const struct wire *w)
{
	return &w->error;
}

void
wire_poll(const struct wire *w, int wake_fd, int64_t deadline_ns)
{
	/* While TCP connects, POLLIN would report the socket's idle hang-up at once, and spin. */
	struct pollfd p[2] = {
	    {.fd = w->fd, .events = (short)(w->connected ? wire_events(w) : POLLOUT)},
	    {.fd = wake_fd, .events = POLLIN},
	};
	int64_t left_ns = deadline_ns - clock_monotonic_ns();
	struct timespec left = {0};

	if (left_ns > 0) {
		left.tv_sec = left_ns / NS_PER_SECOND;
		left.tv_nsec = left_ns % NS_PER_SECOND;
	}
	(void)ppoll(p, 2, &left, NULL); /* whatever woke us, the caller looks at everything */
}
