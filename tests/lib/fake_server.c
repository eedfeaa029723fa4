/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/fake_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "proto/common/bytes.h"
#include "proto/common/digest.h"
#include "proto/common/units.h"

#define TICK_MS 20

struct visit {
	struct fake_server *s;
	SSL *ssl;
	struct fake_connection *c;
	bool over;
	bool dirty; /* an ACK is due */
	uint64_t acked, granted;
	int64_t next_heartbeat_ns;
	int64_t peer_clock_ns;
	size_t stammered; /* bytes of a record */
	unsigned char in[FRAME_HEADER_BYTES + FRAME_MESSAGE_MAX + FRAME_PAYLOAD_MAX];
	size_t have;
};

void
fake_server_lock(struct fake_server *s)
{
	pthread_mutex_lock(&s->lock);
}

void
fake_server_unlock(struct fake_server *s)
{
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

bool
fake_server_wait(struct fake_server *s, bool (*condition)(const struct fake_server *s, uint64_t arg), uint64_t arg)
{
	struct timespec t;
	bool ok;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += 20;
	pthread_mutex_lock(&s->lock);
	while (!(ok = condition(s, arg)) && pthread_cond_timedwait(&s->changed, &s->lock, &t) == 0)
		;
	pthread_mutex_unlock(&s->lock);
	return ok;
}

static void trouble(struct visit *v, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
trouble(struct visit *v, const char *format, ...)
{
	va_list ap;

	v->over = true;
	if (v->s->trouble[0] != '\0')
		return;
	va_start(ap, format);
	vsnprintf(v->s->trouble, sizeof v->s->trouble, format, ap);
	va_end(ap);
}

/* ---- sending ---- */

static void
send_frame(struct visit *v, enum frame_type type, const unsigned char *message, size_t len, const void *payload,
    size_t payload_len)
{
	static unsigned char out[FRAME_HEADER_BYTES + FRAME_MESSAGE_MAX + FRAME_PAYLOAD_MAX];
	struct frame_header h = {.type = type, .message_bytes = (uint32_t)len, .payload_bytes = (uint32_t)payload_len};
	size_t total = FRAME_HEADER_BYTES + len + payload_len, done = 0, n;

	frame_header_encode(&h, out);
	if (len > 0)
		memcpy(out + FRAME_HEADER_BYTES, message, len);
	if (payload_len > 0)
		memcpy(out + FRAME_HEADER_BYTES + len, payload, payload_len);
	while (done < total && SSL_write_ex(v->ssl, out + done, total - done, &n) == 1)
		done += n;
	v->over |= done < total;
}

#define SEND(v, TYPE, name, m)                                                                                  \
	do {                                                                                                    \
		static unsigned char bytes[FRAME_MESSAGE_MAX];                                                  \
                                                                                                                \
		send_frame(v, FRAME_##TYPE, bytes, message_##name##_encode((m), bytes, sizeof bytes), NULL, 0); \
	} while (0)

static void
send_ack(struct visit *v)
{
	struct fake_server *s = v->s;
	struct message_ack m = {
	    .durable_sequence = s->durable < s->ack_max ? s->durable : s->ack_max,
	    .credit_bytes = v->c->stream_bytes + s->credit_window,
	};

	if (m.credit_bytes < v->granted) /* the window was made smaller: what was granted stands */
		m.credit_bytes = v->granted;
	if (m.durable_sequence == v->acked && m.credit_bytes == v->granted && !v->dirty)
		return;
	v->acked = m.durable_sequence;
	v->granted = m.credit_bytes;
	v->dirty = false;
	SEND(v, ACK, ack, &m);
}

static void
send_heartbeat(struct visit *v)
{
	struct message_heartbeat m = {.clock_ns = clock_real_ns(), .echo_clock_ns = v->peer_clock_ns};

	if (clock_monotonic_ns() < v->next_heartbeat_ns)
		return;
	v->next_heartbeat_ns = clock_monotonic_ns() + v->s->heartbeat_interval_ms * 1000000ll;
	SEND(v, HEARTBEAT, heartbeat, &m);
}

static void
stammer(struct visit *v)
{
	static const unsigned char header[] = {SSL3_RT_APPLICATION_DATA, 3, 3, 0x40, 0}; /* 16 KiB follow */
	unsigned char byte = v->stammered < sizeof header ? header[v->stammered] : 0;

	v->stammered++;
	v->over |= write(SSL_get_fd(v->ssl), &byte, 1) != 1;
}

/* Whatever the knobs ask for. */
static void
send_due(struct visit *v)
{
	struct fake_server *s = v->s;

	if (s->mute || !v->c->greeted)
		return;
	if (s->stammers) {
		stammer(v);
		return;
	}
	send_heartbeat(v);
	if (!v->c->started)
		return;
	send_ack(v);
	if (s->request_id != 0) {
		struct message_checkpoint_request m = {.request_id = s->request_id};

		s->request_id = 0;
		SEND(v, CHECKPOINT_REQUEST, checkpoint_request, &m);
	}
	if (s->renew) {
		s->renew = false;
		send_frame(v, FRAME_RENEW_REQUEST, NULL, 0, NULL, 0);
	}
	if (s->break_protocol) {
		struct message_hello hello = {0};

		s->break_protocol = false;
		SEND(v, HELLO, hello, &hello);
	}
}

/* ---- frames ---- */

static void
on_hello(struct visit *v, const unsigned char *message, size_t len)
{
	struct fake_server *s = v->s;
	struct message_welcome w = {
	    .protocol_version = PROTOCOL_VERSION,
	    .session_id = s->connection_count,
	    .digest_seed = 42,
	    .heartbeat_interval_ms = s->heartbeat_interval_ms,
	    .compression = s->compression,
	    .stream_id = s->durable > 0 ? s->stream_id : 0,
	    .durable_sequence = s->durable,
	    .chain = s->durable > 0 ? s->durable_chain + s->chain_lie : 0,
	    .clock_ns = clock_real_ns(),
	    .volumes_max = VOLUMES_MAX,
	};

	if (message_hello_decode(message, len, &v->c->hello) < 0) {
		trouble(v, "bad Hello");
		return;
	}
	if (s->goodbye != 0) {
		struct message_goodbye g = {.status = s->goodbye, .text = "go away", .cure = "type something"};

		SEND(v, GOODBYE, goodbye, &g);
		v->over = true;
		return;
	}
	snprintf(w.source_id.text, sizeof w.source_id.text, "s-0123456789abcdef0");
	snprintf(w.server_version, sizeof w.server_version, "fake");
	SEND(v, WELCOME, welcome, &w);
	v->c->greeted = true;
}

static void
on_declare(struct visit *v, const unsigned char *message, size_t len)
{
	static struct message_declare m;
	static struct message_volumes a;

	if (message_declare_decode(message, len, &m) < 0) {
		trouble(v, "bad Declare");
		return;
	}
	memset(&a, 0, sizeof a);
	a.count = m.count;
	for (size_t i = 0; i < m.count; i++) {
		memcpy(a.volumes[i].identity, m.volumes[i].identity, sizeof a.volumes[i].identity);
		a.volumes[i].volume_id = id_from_bits("vol", 0, i);
		a.volumes[i].volume = v->s->first_volume + (uint32_t)i;
		a.volumes[i].size_bytes = m.volumes[i].size_bytes;
		a.volumes[i].state = VOLUME_OK;
	}
	SEND(v, VOLUMES, volumes, &a);
	v->c->declares++;
}

static void
on_start(struct visit *v, const unsigned char *message, size_t len)
{
	struct fake_server *s = v->s;
	struct message_start m;

	if (message_start_decode(message, len, &m) < 0 || v->c->started || v->c->declares == 0) {
		trouble(v, "bad Start");
		return;
	}
	if (m.resume && (s->durable == 0 || m.stream_id != s->stream_id)) {
		trouble(v, "resumes a stream that is not durable");
		return;
	}
	if (!m.resume)
		s->durable = 0;
	s->stream_id = m.stream_id;
	s->received = s->durable;
	s->chain = m.resume ? s->durable_chain : m.stream_id;
	v->c->started = true;
	v->c->resumed = m.resume;
	v->c->start_stream_id = m.stream_id;
	v->dirty = true;
}

static void
check_payload(struct visit *v, const struct frame_header *h, const unsigned char *message)
{
	static unsigned char blocks[FRAME_PAYLOAD_MAX];
	static struct data_message m;
	const unsigned char *payload = message + h->message_bytes;

	if (data_message_decode(h, message, h->message_bytes, &m) < 0) {
		trouble(v, "bad Data");
		return;
	}
	if (h->flags != 0 && payload_decompress(h->flags, payload, h->payload_bytes, blocks, m.digest_count * 4096) < 0)
		trouble(v, "bad compression");
	if (h->flags != 0)
		payload = blocks;
	for (size_t i = 0; i < m.digest_count; i++)
		if (digest_block(42, payload + i * 4096) != m.digests[i])
			trouble(v, "digest %zu of frame %llu", i, (unsigned long long)h->sequence);
	v->s->sum += m.digest_count;
}

static void
on_stream_frame(struct visit *v, const struct frame_header *h)
{
	struct fake_server *s = v->s;
	size_t described = FRAME_HEADER_BYTES + h->message_bytes;
	const unsigned char *message = v->in + FRAME_HEADER_BYTES;

	v->c->stream_bytes += described + h->payload_bytes;
	if (v->c->stream_bytes > v->granted)
		trouble(v, "%llu bytes sent, %llu granted", (unsigned long long)v->c->stream_bytes,
		    (unsigned long long)v->granted);
	if (!v->c->started || h->sequence != s->received + 1 || h->sequence >= FAKE_FRAMES_MAX) {
		trouble(
		    v, "sequence %llu after %llu", (unsigned long long)h->sequence, (unsigned long long)s->received);
		return;
	}
	s->received = h->sequence;
	s->chain = digest_chain(s->chain, v->in, described);
	s->chains[h->sequence] = s->chain;
	if (v->c->first_sequence == 0)
		v->c->first_sequence = h->sequence;
	v->c->last_sequence = h->sequence;
	if (h->type == FRAME_DATA)
		check_payload(v, h, message);
	else if (message_checkpoint_decode(message, h->message_bytes, &s->checkpoint) < 0)
		trouble(v, "bad Checkpoint");
	v->over |= h->sequence == s->cut_at;
	if (h->sequence == s->cut_at)
		s->cut_at = 0;
}

static void
on_compare(struct visit *v, const unsigned char *message, size_t len)
{
	struct fake_server *s = v->s;
	static unsigned char bytes[FRAME_MESSAGE_MAX], digests[COMPARE_COUNT_MAX * 8];
	struct message_compare m;
	struct message_compared a;

	if (message_compare_decode(message, len, &m) < 0) {
		trouble(v, "bad Compare");
		return;
	}
	v->c->compares++;
	if (s->cut_at_compare) {
		s->cut_at_compare = false;
		v->over = true;
		return;
	}
	a = (struct message_compared){m.request_id, m.volume, m.level, m.first, m.count, m.first == 1000, 0};
	for (uint32_t i = 0; i < m.count; i++)
		put_le64(digests + 8 * i, m.first + i);
	send_frame(v, FRAME_COMPARED, bytes, message_compared_encode(&a, bytes, sizeof bytes), digests,
	    a.all_zero ? 0 : m.count * 8);
}

static void
on_recent(struct visit *v, const unsigned char *message, size_t len)
{
	static struct message_recent_answer a;
	struct message_recent m;

	if (message_recent_decode(message, len, &m) < 0) {
		trouble(v, "bad Recent");
		return;
	}
	a = (struct message_recent_answer){.volume = m.volume, .count = 2, .nodes = {7, 3}};
	SEND(v, RECENT_ANSWER, recent_answer, &a);
}

static void
on_renew(struct visit *v, const unsigned char *message, size_t len)
{
	static struct message_renew m;
	static struct message_renewed a;
	const struct fake_server *s = v->s;
	X509 *x;

	if (message_renew_decode(message, len, &m) < 0) {
		trouble(v, "bad Renew");
		return;
	}
	x = fake_pki_sign_request(s->next_ca != NULL ? s->next_ca : &s->ca, &m.csr, "s-0123456789abcdef0");
	fake_pki_to_blob(x, &a.certificate);
	fake_pki_to_blob(s->named_ca != NULL ? s->named_ca->certificate : s->ca.certificate, &a.ca_certificate);
	a.next_ca_certificate.len = 0;
	if (s->next_ca != NULL)
		fake_pki_to_blob(s->next_ca->certificate, &a.next_ca_certificate);
	X509_free(x);
	SEND(v, RENEWED, renewed, &a);
}

static void
on_frame(struct visit *v, const struct frame_header *h)
{
	const unsigned char *message = v->in + FRAME_HEADER_BYTES;
	struct message_heartbeat heartbeat;

	switch ((int)h->type) {
	case FRAME_HELLO: on_hello(v, message, h->message_bytes); return;
	case FRAME_DECLARE: on_declare(v, message, h->message_bytes); return;
	case FRAME_START: on_start(v, message, h->message_bytes); return;
	case FRAME_DATA:
	case FRAME_CHECKPOINT: on_stream_frame(v, h); return;
	case FRAME_COMPARE: on_compare(v, message, h->message_bytes); return;
	case FRAME_RECENT: on_recent(v, message, h->message_bytes); return;
	case FRAME_RENEW: on_renew(v, message, h->message_bytes); return;
	case FRAME_HEARTBEAT:
		v->c->heartbeats++;
		if (message_heartbeat_decode(message, h->message_bytes, &heartbeat) == 0)
			v->peer_clock_ns = heartbeat.clock_ns;
		return;
	case FRAME_NOTICE:
		if (message_notice_decode(message, h->message_bytes, &v->s->notice) < 0)
			trouble(v, "bad Notice");
		return;
	case FRAME_REPORT: return;
	case FRAME_GOODBYE:
		v->over = true;
		v->c->left = true;
		if (message_goodbye_decode(message, h->message_bytes, &v->c->goodbye) < 0)
			trouble(v, "bad Goodbye");
		return;
	default: trouble(v, "frame of type %d", h->type);
	}
}

/* ---- one connection ---- */

/* Read one frame. 1 = done, 0 = a tick passed, -1 = the connection is gone. */
static int
read_frame(struct visit *v, struct frame_header *ret_header)
{
	size_t need = FRAME_HEADER_BYTES, n;

	for (;;) {
		if (v->have >= FRAME_HEADER_BYTES) {
			if (frame_header_decode(v->in, ret_header) < 0)
				return -1;
			need = FRAME_HEADER_BYTES + ret_header->message_bytes + ret_header->payload_bytes;
		}
		if (v->have >= need)
			break;
		ERR_clear_error();
		if (SSL_read_ex(v->ssl, v->in + v->have, need - v->have, &n) != 1)
			return SSL_get_error(v->ssl, 0) == SSL_ERROR_WANT_READ ? 0 : -1;
		v->have += n;
	}
	v->have = 0;
	return 1;
}

static void
make_durable(struct fake_server *s)
{
	uint64_t durable = s->received < s->durable_max ? s->received : s->durable_max;

	if (durable > s->durable) {
		s->durable = durable;
		s->durable_chain = s->chains[durable];
	}
}

static void
on_message(int writing, int version, int content_type, const void *bytes, size_t len, SSL *ssl, void *arg)
{
	struct visit *v = arg;

	if (!writing && content_type == SSL3_RT_HANDSHAKE && len > 0 &&
	    *(const unsigned char *)bytes == SSL3_MT_KEY_UPDATE)
		v->c->key_updates++;
}

static bool
is_deaf(struct fake_server *s)
{
	bool deaf;

	fake_server_lock(s);
	deaf = s->deaf;
	fake_server_unlock(s);
	return deaf;
}

static void
converse(struct visit *v)
{
	struct fake_server *s = v->s;

	while (!v->over && !atomic_load(&s->stopping)) {
		struct frame_header h;
		int r = 0;

		if (is_deaf(s))
			poll(NULL, 0, TICK_MS);
		else
			r = read_frame(v, &h);
		if (r < 0)
			return;
		fake_server_lock(s);
		if (r > 0)
			on_frame(v, &h);
		v->over |= s->cut_now;
		s->cut_now = false;
		make_durable(s);
		if (!v->over)
			send_due(v);
		fake_server_unlock(s);
	}
}

/* As pulling the plug does: no close_notify, and a reset when the socket is closed. */
static void
drop(SSL *ssl, int fd)
{
	const struct linger hard = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
	SSL_free(ssl);
	close(fd);
}

static void
serve_connection(struct fake_server *s, int fd)
{
	struct visit *v = calloc(1, sizeof *v);
	const struct timeval tick = {.tv_usec = TICK_MS * 1000};
	X509 *peer;

	v->s = s;
	v->ssl = SSL_new(s->context);
	SSL_set_fd(v->ssl, fd);
	fake_server_lock(s);
	v->c = &s->connections[s->connection_count++ % FAKE_CONNECTIONS_MAX];
	memset(v->c, 0, sizeof *v->c);
	fake_server_unlock(s);
	if (SSL_accept(v->ssl) == 1) {
		peer = SSL_get0_peer_certificate(v->ssl);
		v->c->certificate_serial = peer != NULL ? ASN1_INTEGER_get(X509_get0_serialNumber(peer)) : 0;
		SSL_set_msg_callback(v->ssl, on_message);
		SSL_set_msg_callback_arg(v->ssl, v);
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof tick);
		converse(v);
	}
	drop(v->ssl, fd);
	ERR_clear_error();
	free(v);
}

static void *
serve(void *arg)
{
	struct fake_server *s = arg;

	while (!atomic_load(&s->stopping)) {
		struct pollfd p = {.fd = s->listen_fd, .events = POLLIN};
		int fd;

		if (poll(&p, 1, TICK_MS) < 1)
			continue;
		fd = accept(s->listen_fd, NULL, NULL);
		if (fd >= 0) {
			const int one = 1;

			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
			serve_connection(s, fd);
		}
	}
	return NULL;
}

/* ---- life ---- */

void
fake_server_init(struct fake_server *s)
{
	memset(s, 0, sizeof *s);
	s->ca = fake_identity_make(NULL, "test CA", FAKE_CA, 10);
	s->identity = fake_identity_make(&s->ca, "test server", FAKE_SERVER, 10);
	s->heartbeat_interval_ms = 100;
	s->credit_window = UINT64_MAX / 4;
	s->durable_max = s->ack_max = UINT64_MAX;
	s->first_volume = 1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
}

static void
die(const char *what)
{
	fprintf(stderr, "fake_server: %s: %s\n", what, strerror(errno));
	abort();
}

static void
make_context(struct fake_server *s)
{
	s->context = SSL_CTX_new(TLS_server_method());
	if (s->context == NULL || SSL_CTX_use_certificate(s->context, s->identity.certificate) != 1 ||
	    SSL_CTX_use_PrivateKey(s->context, s->identity.key) != 1 ||
	    SSL_CTX_add1_chain_cert(s->context, s->ca.certificate) != 1 ||
	    X509_STORE_add_cert(SSL_CTX_get_cert_store(s->context), s->ca.certificate) != 1)
		die("TLS context");
	SSL_CTX_set_min_proto_version(s->context, TLS1_3_VERSION);
	SSL_CTX_set_verify(s->context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_num_tickets(s->context, 0);
	SSL_CTX_clear_mode(s->context, SSL_MODE_AUTO_RETRY);
}

void
fake_server_start(struct fake_server *s)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;

	(void)signal(SIGPIPE, SIG_IGN); /* the agent hangs up as it likes */
	make_context(s);
	s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->listen_fd < 0 || bind(s->listen_fd, (struct sockaddr *)&a, sizeof a) < 0 ||
	    listen(s->listen_fd, 8) < 0 || getsockname(s->listen_fd, (struct sockaddr *)&a, &len) < 0)
		die("listen");
	s->port = ntohs(a.sin_port);
	if (pthread_create(&s->thread, NULL, serve, s) != 0)
		die("thread");
}

void
fake_server_stop(struct fake_server *s)
{
	atomic_store(&s->stopping, true);
	pthread_join(s->thread, NULL);
	close(s->listen_fd);
	SSL_CTX_free(s->context);
	fake_identity_free(&s->ca);
	fake_identity_free(&s->identity);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
}
