/* SPDX-License-Identifier: Apache-2.0 */
#include "server/tls_stream.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/limits.h"
#include "server/read_ahead.h"

enum {
	STREAM_MAGIC = 0x746c7373,
	OUTPUT_FIRST_BYTES = 1024,
	EXPECT_MAX_BYTES = 256 * 1024, /* the sender goes on filling the window while we read */
	EXPECT_MIN_BYTES = 32 * 1024,  /* less is not worth a system call */
};

struct tls_stream {
	uint32_t magic;
	int fd;
	SSL *ssl;
	struct event *read_event, *write_event, *later;
	tls_on_event *on_event;
	void *arg;
	bool want_read;        /* the owner wants TLS_READABLE */
	bool resting;          /* but not before `later` */
	bool read_needs_write; /* the last read (or handshake) waits until the socket is writable */
	bool write_needs_read;
	bool write_blocked;
	bool read_watched, write_watched;
	int status;                  /* what killed it */
	int expected_bytes;          /* the socket is readable from so many on */
	uint64_t rekey_bytes, bytes; /* bytes: both ways, since the last change of keys */
	unsigned char *out;          /* NULL when nothing waits: an idle session holds no buffer */
	size_t out_begin, out_end, out_size;
};

static _Thread_local char failure[160];

const char *
tls_failure(void)
{
	return failure;
}

static struct tls_stream *
stream_from_arg(void *arg)
{
	struct tls_stream *t = arg;

	assert(t->magic == STREAM_MAGIC);
	return t;
}

/* ---- readiness ---- */

static void
watch(struct event *event, bool want, bool *watched)
{
	if (event == NULL || want == *watched)
		return;
	if (want)
		event_add(event, NULL);
	else
		event_del(event);
	*watched = want;
}

static void
update_events(struct tls_stream *t)
{
	bool alive = t->status == 0;

	bool read = t->want_read && !t->resting;

	watch(t->read_event, alive && ((read && !t->read_needs_write) || t->write_needs_read), &t->read_watched);
	watch(t->write_event, alive && (t->write_blocked || (read && t->read_needs_write)), &t->write_watched);
}

static unsigned
retry_write(struct tls_stream *t)
{
	int r = tls_flush(t);

	if (r == 0)
		return TLS_DRAINED;
	return r == -EAGAIN ? 0 : TLS_BROKEN;
}

static void
on_socket(evutil_socket_t fd, short ready, void *arg)
{
	struct tls_stream *t = stream_from_arg(arg);
	unsigned what = 0;

	if (((ready & EV_WRITE) != 0 && t->write_blocked) || ((ready & EV_READ) != 0 && t->write_needs_read))
		what |= retry_write(t);
	if (t->want_read && !t->resting && ((ready & EV_WRITE) == 0) == !t->read_needs_write)
		what |= TLS_READABLE;
	if (what != 0)
		t->on_event(t->arg, what); /* last: the stream may be gone */
}

static void
on_later(evutil_socket_t fd, short ready, void *arg)
{
	struct tls_stream *t = stream_from_arg(arg);

	t->resting = false;
	update_events(t);
	if (t->want_read)
		t->on_event(t->arg, TLS_READABLE);
}

/* What was taken from the socket makes no event any more. */
static bool
holds_unread(struct tls_stream *t)
{
	return SSL_has_pending(t->ssl) || BIO_pending(SSL_get_rbio(t->ssl)) > 0;
}

/* ---- life ---- */

static bool
connect_socket(struct tls_stream *t)
{
	BIO *reader = read_ahead_create(t->fd), *writer = BIO_new_socket(t->fd, BIO_NOCLOSE);

	if (reader == NULL || writer == NULL) {
		BIO_free(reader);
		BIO_free(writer);
		return false;
	}
	SSL_set_bio(t->ssl, reader, writer);
	return true;
}

int
tls_stream_create(SSL_CTX *ctx, int fd, struct tls_stream **ret_stream)
{
	struct tls_stream *t = calloc(1, sizeof *t);

	if (t == NULL) {
		close(fd);
		return -ENOMEM;
	}
	t->magic = STREAM_MAGIC;
	t->fd = fd;
	t->want_read = true;
	t->expected_bytes = 1;
	t->rekey_bytes = REKEY_BYTES;
	t->ssl = SSL_new(ctx);
	if (t->ssl == NULL || evutil_make_socket_nonblocking(fd) < 0 || !connect_socket(t)) {
		tls_stream_destroy(t);
		return -ENOMEM;
	}
	/* What is queued may move and grow between two attempts to write it. */
	SSL_set_mode(t->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_set_accept_state(t->ssl);
	*ret_stream = t;
	return 0;
}

void
tls_stream_destroy(struct tls_stream *t)
{
	if (t == NULL)
		return;
	tls_stream_detach(t);
	SSL_free(t->ssl);
	close(t->fd);
	free(t->out);
	t->magic = 0;
	free(t);
}

int
tls_stream_attach(struct tls_stream *t, struct event_base *base, tls_on_event *on_event, void *arg)
{
	assert(t->read_event == NULL);
	t->on_event = on_event;
	t->arg = arg;
	t->read_event = event_new(base, t->fd, EV_READ | EV_PERSIST, on_socket, t);
	t->write_event = event_new(base, t->fd, EV_WRITE | EV_PERSIST, on_socket, t);
	t->later = event_new(base, -1, 0, on_later, t);
	if (t->read_event == NULL || t->write_event == NULL || t->later == NULL) {
		tls_stream_detach(t);
		return -ENOMEM;
	}
	update_events(t);
	if (holds_unread(t))
		tls_read_later(t);
	return 0;
}

static void
free_event(struct event **event)
{
	if (*event != NULL)
		event_free(*event);
	*event = NULL;
}

void
tls_stream_detach(struct tls_stream *t)
{
	free_event(&t->read_event);
	free_event(&t->write_event);
	free_event(&t->later);
	t->read_watched = t->write_watched = t->resting = false;
}

SSL *
tls_stream_ssl(struct tls_stream *t)
{
	return t->ssl;
}

int
tls_status(const struct tls_stream *t)
{
	return t->status;
}

void
tls_set_rekey_bytes(struct tls_stream *t, uint64_t bytes)
{
	t->rekey_bytes = bytes;
}

/* ---- I/O steps ---- */

/* Of a certificate OpenSSL only says that it did not pass: what was wrong with it is kept elsewhere. */
static void
note_failure(const SSL *ssl)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = ERR_reason_error_string(code);
	bool about_certificate = ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED;

	snprintf(failure, sizeof failure, "%s%s%s", reason != NULL ? reason : "TLS failed",
	    about_certificate ? ": " : "",
	    about_certificate ? X509_verify_cert_error_string(SSL_get_verify_result(ssl)) : "");
}

/* What a failed OpenSSL call means; saved_errno: as the call left it. */
static int
status_from_ssl(struct tls_stream *t, int ssl_ret, int saved_errno, bool *needs_read, bool *needs_write)
{
	switch (SSL_get_error(t->ssl, ssl_ret)) {
	case SSL_ERROR_WANT_READ: *needs_read = true; return -EAGAIN;
	case SSL_ERROR_WANT_WRITE: *needs_write = true; return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN: return -ESHUTDOWN;
	case SSL_ERROR_SYSCALL: return saved_errno > 0 ? -saved_errno : -ECONNRESET;
	default: break;
	}
	if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return -ECONNRESET;
	note_failure(t->ssl);
	return -EPROTO;
}

/* So that status_from_ssl() sees what the next call left alone. Looking first is far cheaper than clearing. */
static void
forget_errors(void)
{
	if (ERR_peek_error() != 0)
		ERR_clear_error();
	errno = 0;
}

static int
finish_step(struct tls_stream *t, int r)
{
	if (r < 0 && r != -EAGAIN)
		t->status = r;
	update_events(t);
	return r;
}

int
tls_handshake(struct tls_stream *t)
{
	bool needs_read = false;
	int ret, r = 0;

	t->read_needs_write = false;
	forget_errors();
	ret = SSL_do_handshake(t->ssl);
	if (ret != 1)
		r = status_from_ssl(t, ret, errno, &needs_read, &t->read_needs_write);
	return finish_step(t, r);
}

/* A change of keys goes out with the next write. Refused while a write is half done: then it is tried again at the next
 * read. */
static void
count_bytes(struct tls_stream *t, size_t n)
{
	t->bytes += n;
	if (t->bytes >= t->rekey_bytes && SSL_key_update(t->ssl, SSL_KEY_UPDATE_REQUESTED))
		t->bytes = 0;
}

int
tls_read(struct tls_stream *t, void *buf, size_t size, size_t *ret_len)
{
	bool needs_read = false;
	int ret, r;

	if (t->status < 0)
		return t->status;
	t->read_needs_write = false;
	forget_errors();
	ret = SSL_read_ex(t->ssl, buf, size, ret_len);
	if (ret == 1) {
		count_bytes(t, *ret_len);
		return 0;
	}
	r = status_from_ssl(t, ret, errno, &needs_read, &t->read_needs_write);
	return finish_step(t, r);
}

uint64_t
tls_received_bytes(const struct tls_stream *t)
{
	return BIO_number_read(SSL_get_rbio(t->ssl));
}

void
tls_expect(struct tls_stream *t, size_t bytes)
{
	/* A part of the first record may be in here already; with that taken off, so much is sure to come. */
	size_t sure = bytes > SSL3_RT_MAX_PLAIN_LENGTH ? bytes - SSL3_RT_MAX_PLAIN_LENGTH : 0;
	int wanted = sure > EXPECT_MAX_BYTES ? EXPECT_MAX_BYTES : (int)sure;

	if (wanted < EXPECT_MIN_BYTES)
		wanted = 1;
	if (wanted == t->expected_bytes)
		return;
	if (setsockopt(t->fd, SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof wanted) == 0)
		t->expected_bytes = wanted;
}

static int
make_room(struct tls_stream *t, size_t len)
{
	size_t used = t->out_end - t->out_begin, size = t->out_size ? t->out_size : OUTPUT_FIRST_BYTES;
	unsigned char *out;

	if (used + len > OUTPUT_HARD_BYTES)
		return -ENOBUFS;
	if (t->out_begin > 0 && used + len <= t->out_size) {
		memmove(t->out, t->out + t->out_begin, used);
		t->out_begin = 0;
		t->out_end = used;
		return 0;
	}
	while (size < t->out_end + len)
		size *= 2;
	out = realloc(t->out, size);
	if (out == NULL)
		return -ENOMEM;
	t->out = out;
	t->out_size = size;
	return 0;
}

int
tls_write(struct tls_stream *t, const void *bytes, size_t len)
{
	int r = 0;

	if (t->status < 0)
		return t->status;
	if (t->out_end + len > t->out_size)
		r = make_room(t, len);
	if (r < 0)
		return r;
	memcpy(t->out + t->out_end, bytes, len);
	t->out_end += len;
	return 0;
}

static void
drop_output(struct tls_stream *t)
{
	free(t->out);
	t->out = NULL;
	t->out_begin = t->out_end = t->out_size = 0;
}

static int
write_some(struct tls_stream *t)
{
	size_t n = 0;
	int ret;

	forget_errors();
	ret = SSL_write_ex(t->ssl, t->out + t->out_begin, t->out_end - t->out_begin, &n);
	if (ret != 1)
		return status_from_ssl(t, ret, errno, &t->write_needs_read, &t->write_blocked);
	t->out_begin += n;
	count_bytes(t, n);
	return 0;
}

int
tls_flush(struct tls_stream *t)
{
	int r = t->status;

	t->write_needs_read = t->write_blocked = false;
	while (r == 0 && t->out_begin < t->out_end)
		r = write_some(t);
	if (r == 0)
		drop_output(t);
	return finish_step(t, r);
}

size_t
tls_output_bytes(const struct tls_stream *t)
{
	return t->out_end - t->out_begin;
}

void
tls_want_read(struct tls_stream *t, bool want)
{
	bool woken = want && !t->want_read;

	t->want_read = want;
	update_events(t);
	if (woken && t->later != NULL && holds_unread(t))
		tls_read_later(t);
}

void
tls_read_later(struct tls_stream *t)
{
	static const struct timeval now = {0, 0};

	/* A timer, not event_active(): the loop looks at everybody else's sockets before it. */
	if (t->later != NULL && !t->resting)
		event_add(t->later, &now);
}

void
tls_read_after(struct tls_stream *t, int64_t delay_ns)
{
	struct timeval delay = {delay_ns / NS_PER_SECOND, delay_ns % NS_PER_SECOND / 1000 + 1};

	if (t->later == NULL)
		return;
	t->resting = event_add(t->later, &delay) == 0;
	update_events(t);
}

/* ---- closing ---- */

void
tls_shutdown(struct tls_stream *t)
{
	if (t->status == 0 && SSL_is_init_finished(t->ssl)) {
		forget_errors();
		(void)SSL_shutdown(t->ssl); /* best effort: the peer must cope without */
	}
	shutdown(t->fd, SHUT_WR);
}

int
tls_discard(struct tls_stream *t, size_t budget)
{
	char scratch[16384];
	ssize_t n = 1;

	for (size_t done = 0; done < budget; done += (size_t)n) {
		n = recv(t->fd, scratch, sizeof scratch, 0);
		if (n <= 0)
			break;
	}
	if (n > 0) {
		tls_read_later(t);
		return -EAGAIN;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	return n == 0 ? -ESHUTDOWN : -errno;
}
