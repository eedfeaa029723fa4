/* SPDX-License-Identifier: Apache-2.0 */
/* A stream over TCP on the loopback, and a client that is plain OpenSSL, both in this thread: step by step, the loop
 * never waits. */
#include "server/tls_stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>
#include <event2/util.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "proto/common/units.h"
#include "server/limits.h"

struct fixture {
	struct event_base *base;
	SSL_CTX *server_ctx, *client_ctx;
	struct tls_stream *stream;
	SSL *client;
	int client_fd;

	/* what the stream's owner has seen */
	bool shaken, reads;
	int status; /* of the step that failed */
	unsigned readable, drained;
	unsigned char *in;
	size_t in_len;
	unsigned key_updates; /* seen by the client */
};

enum { IN_BYTES = 8 * 1024 * 1024 };

/* ---- a certificate nobody needs to trust ---- */

static void
use_certificate(SSL_CTX *ctx)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -60);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_set_pubkey(x, key);
	X509_sign(x, key, EVP_sha256());
	assert_int_equal(SSL_CTX_use_certificate(ctx, x), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
	X509_free(x);
	EVP_PKEY_free(key);
}

static int
make_pair(int *ret_server, int *ret_client)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(listener, 1) < 0)
		return -1;
	getsockname(listener, (struct sockaddr *)&a, &len);
	*ret_client = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(*ret_client, (struct sockaddr *)&a, sizeof a) < 0)
		return -1;
	*ret_server = accept(listener, NULL, NULL);
	close(listener);
	return *ret_server < 0 ? -1 : 0;
}

static void
on_message(int write, int version, int type, const void *buf, size_t len, SSL *ssl, void *arg)
{
	struct fixture *f = arg;

	if (!write && type == SSL3_RT_HANDSHAKE && len > 0 && *(const unsigned char *)buf == SSL3_MT_KEY_UPDATE)
		f->key_updates++;
}

/* ---- the owner of the stream ---- */

static void
read_all(struct fixture *f)
{
	size_t n;
	int r = 0;

	while (r == 0 && f->in_len < IN_BYTES) {
		r = tls_read(f->stream, f->in + f->in_len, IN_BYTES - f->in_len, &n);
		if (r == 0)
			f->in_len += n;
	}
	if (r < 0 && r != -EAGAIN)
		f->status = r;
}

static void
on_event(void *arg, unsigned what)
{
	struct fixture *f = arg;
	int r;

	f->readable += (what & TLS_READABLE) != 0;
	f->drained += (what & TLS_DRAINED) != 0;
	if ((what & TLS_BROKEN) != 0)
		f->status = tls_status(f->stream);
	if (!f->shaken && (what & TLS_READABLE) != 0) {
		r = tls_handshake(f->stream);
		f->shaken = r == 0;
		if (r < 0 && r != -EAGAIN)
			f->status = r;
	}
	if (f->shaken && f->reads && (what & TLS_READABLE) != 0)
		read_all(f);
}

static int
set_up(void **state)
{
	struct fixture *f = *state = calloc(1, sizeof *f);
	int fd;

	f->base = event_base_new();
	f->server_ctx = SSL_CTX_new(TLS_server_method());
	f->client_ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_min_proto_version(f->server_ctx, TLS1_3_VERSION);
	SSL_CTX_set_num_tickets(f->server_ctx, 0);
	use_certificate(f->server_ctx);
	if (make_pair(&fd, &f->client_fd) < 0)
		return -1;
	evutil_make_socket_nonblocking(f->client_fd);
	f->client = SSL_new(f->client_ctx);
	SSL_set_fd(f->client, f->client_fd);
	SSL_set_connect_state(f->client);
	SSL_set_mode(f->client, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_set_msg_callback(f->client, on_message);
	SSL_set_msg_callback_arg(f->client, f);
	f->in = malloc(IN_BYTES);
	f->reads = true;
	if (tls_stream_create(f->server_ctx, fd, &f->stream) < 0)
		return -1;
	return tls_stream_attach(f->stream, f->base, on_event, f);
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	tls_stream_destroy(f->stream);
	SSL_free(f->client);
	if (f->client_fd >= 0)
		close(f->client_fd);
	SSL_CTX_free(f->server_ctx);
	SSL_CTX_free(f->client_ctx);
	event_base_free(f->base);
	free(f->in);
	free(f);
	return 0;
}

/* ---- stepping ---- */

static void
turn(struct fixture *f)
{
	event_base_loop(f->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

#define WAIT_FOR(f, condition)                                           \
	do {                                                             \
		int64_t end = clock_monotonic_ns() + 10 * NS_PER_SECOND; \
		while (!(condition)) {                                   \
			turn(f);                                         \
			assert_true(clock_monotonic_ns() < end);         \
		}                                                        \
	} while (0)

/* Client's step: bytes read or written, 0 if it would wait, -1 if the connection is over. */
static ssize_t
client_result(struct fixture *f, int ret, size_t n)
{
	int e;

	if (ret == 1)
		return (ssize_t)n;
	e = SSL_get_error(f->client, ret);
	return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static ssize_t
client_read(struct fixture *f, void *buf, size_t size)
{
	size_t n = 0;
	int ret = SSL_read_ex(f->client, buf, size, &n);

	return client_result(f, ret, n);
}

static ssize_t
client_write(struct fixture *f, const void *buf, size_t size)
{
	size_t n = 0;
	int ret = SSL_write_ex(f->client, buf, size, &n);

	return client_result(f, ret, n);
}

static void
shake_hands(struct fixture *f)
{
	WAIT_FOR(f, SSL_do_handshake(f->client) == 1 && f->shaken);
}

static void
fill_pattern(unsigned char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)(i * 31 + i / 251);
}

/* Send all of it from the client while the stream's owner reads. */
static void
client_send(struct fixture *f, const unsigned char *p, size_t len)
{
	int64_t end = clock_monotonic_ns() + 30 * NS_PER_SECOND;

	for (size_t done = 0; done < len;) {
		ssize_t n = client_write(f, p + done, len - done);

		assert_true(n >= 0 && clock_monotonic_ns() < end);
		done += (size_t)n;
		turn(f);
	}
}

static void
client_receive(struct fixture *f, unsigned char *p, size_t len)
{
	int64_t end = clock_monotonic_ns() + 30 * NS_PER_SECOND;

	for (size_t done = 0; done < len;) {
		ssize_t n = client_read(f, p + done, len - done);

		assert_true(n >= 0 && clock_monotonic_ns() < end);
		done += (size_t)n;
		turn(f);
	}
}

/* ---- tests ---- */

static void
bytes_arrive_as_they_were_sent_both_ways(void **state)
{
	struct fixture *f = *state;
	size_t len = 3 * 1024 * 1024 + 7;
	unsigned char *out = malloc(len), *back = malloc(len);

	fill_pattern(out, len);
	shake_hands(f);
	client_send(f, out, len);
	WAIT_FOR(f, f->in_len == len);
	assert_memory_equal(f->in, out, len);
	assert_int_equal(tls_write(f->stream, out, 70000), 0);
	tls_flush(f->stream);
	client_receive(f, back, 70000);
	assert_memory_equal(back, out, 70000);
	free(out);
	free(back);
}

static void
a_peer_that_vanishes_is_told_from_one_that_ends(void **state)
{
	struct fixture *f = *state;

	shake_hands(f);
	shutdown(f->client_fd, SHUT_RDWR);
	WAIT_FOR(f, f->status != 0);
	assert_int_equal(f->status, -ECONNRESET);
}

static void
close_notify_is_an_end_in_good_order(void **state)
{
	struct fixture *f = *state;

	shake_hands(f);
	SSL_shutdown(f->client);
	WAIT_FOR(f, f->status != 0);
	assert_int_equal(f->status, -ESHUTDOWN);
}

static void
bytes_of_a_record_that_is_not_whole_count_as_received(void **state)
{
	static const unsigned char record[100] = {SSL3_RT_APPLICATION_DATA, 3, 3, 0x40, 0}; /* of 16 KiB */
	struct fixture *f = *state;
	uint64_t before;

	shake_hands(f);
	before = tls_received_bytes(f->stream);
	for (size_t sent = 0; sent < sizeof record; sent += 10) {
		assert_int_equal(write(f->client_fd, record + sent, 10), 10);
		WAIT_FOR(f, tls_received_bytes(f->stream) == before + sent + 10);
	}
	assert_int_equal(f->in_len, 0);
	assert_int_equal(f->status, 0);
}

static void
garbage_instead_of_a_handshake_is_a_protocol_error_with_a_reason(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(write(f->client_fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
	WAIT_FOR(f, f->status != 0);
	assert_int_equal(f->status, -EPROTO);
	assert_string_not_equal(tls_failure(), "");
}

/* What libevent reads the time from: a timer begins up to so much before now. */
static int64_t
loop_clock_tick_ns(void)
{
	struct timespec tick;

	assert_int_equal(clock_getres(CLOCK_MONOTONIC_COARSE, &tick), 0);
	return tick.tv_nsec;
}

static void
nothing_is_told_before_a_rest_is_over_and_then_all_is_there(void **state)
{
	int64_t rest_ns = NS_PER_SECOND / 10, begun_ns;
	struct fixture *f = *state;
	unsigned char out[1000];
	unsigned before;

	fill_pattern(out, sizeof out);
	shake_hands(f);
	before = f->readable;
	begun_ns = clock_monotonic_ns();
	tls_read_after(f->stream, rest_ns);
	client_send(f, out, sizeof out);
	tls_want_read(f->stream, false);
	tls_want_read(f->stream, true); /* does not end it, nor does the next */
	tls_read_later(f->stream);
	WAIT_FOR(f, f->readable > before);
	assert_true(clock_monotonic_ns() - begun_ns >= rest_ns - loop_clock_tick_ns());
	WAIT_FOR(f, f->in_len == sizeof out);
	assert_memory_equal(f->in, out, sizeof out);
}

static void
while_reading_is_paused_nothing_is_told_and_nothing_is_lost(void **state)
{
	struct fixture *f = *state;
	unsigned char out[100000];
	unsigned before;

	fill_pattern(out, sizeof out);
	shake_hands(f);
	f->reads = false; /* first event finds everything, and reads one byte of it */
	client_send(f, out, sizeof out);
	WAIT_FOR(f, f->readable > 0);
	f->in_len = 0;
	assert_int_equal(tls_read(f->stream, f->in, 1, &f->in_len), 0);
	tls_want_read(f->stream, false);
	before = f->readable;
	for (int i = 0; i < 20; i++)
		turn(f);
	assert_int_equal(f->readable, before);
	f->reads = true;
	tls_want_read(f->stream, true); /* the rest was taken from the socket: no socket event would come */
	WAIT_FOR(f, f->in_len == sizeof out);
	assert_memory_equal(f->in, out, sizeof out);
}

static void
of_an_expected_payload_a_little_wakes_nobody_until_the_expectation_is_taken_back(void **state)
{
	struct fixture *f = *state;
	unsigned char bytes[20000];
	unsigned before;

	fill_pattern(bytes, sizeof bytes);
	shake_hands(f);
	f->reads = true;
	tls_expect(f->stream, 1000000);
	before = f->readable;
	client_send(f, bytes, sizeof bytes);
	for (int i = 0; i < 20; i++)
		turn(f);
	assert_int_equal(f->readable, before);
	tls_expect(f->stream, 0);
	WAIT_FOR(f, f->in_len == sizeof bytes);
	assert_memory_equal(f->in, bytes, sizeof bytes);
}

static void
output_that_the_peer_does_not_take_waits_and_reading_goes_on(void **state)
{
	struct fixture *f = *state;
	size_t len = OUTPUT_HARD_BYTES;
	unsigned char *out = malloc(len), *back = malloc(len);
	size_t sent = 0;

	fill_pattern(out, len);
	shake_hands(f);
	while (tls_flush(f->stream) == 0 && sent < 64 * len) { /* until the kernel's buffers are full */
		assert_int_equal(tls_write(f->stream, out, len), 0);
		sent += len;
	}
	assert_true(tls_output_bytes(f->stream) > 0);
	f->drained = 0;
	client_send(f, out, 50000);
	WAIT_FOR(f, f->in_len == 50000);
	assert_true(tls_output_bytes(f->stream) > 0);
	for (size_t done = 0; done < sent; done += len) {
		client_receive(f, back, len);
		assert_memory_equal(back, out, len);
	}
	WAIT_FOR(f, f->drained == 1);
	assert_int_equal(tls_output_bytes(f->stream), 0);
	free(out);
	free(back);
}

static void
output_beyond_the_limit_is_refused(void **state)
{
	struct fixture *f = *state;
	char *bytes = calloc(1, OUTPUT_HARD_BYTES);

	shake_hands(f);
	assert_int_equal(tls_write(f->stream, bytes, OUTPUT_HARD_BYTES), 0);
	assert_int_equal(tls_write(f->stream, bytes, 1), -ENOBUFS);
	assert_int_equal(tls_output_bytes(f->stream), OUTPUT_HARD_BYTES);
	free(bytes);
}

static void
keys_change_and_no_byte_is_lost(void **state)
{
	struct fixture *f = *state;
	size_t len = 2 * 1024 * 1024;
	unsigned char *out = malloc(len), back[100];

	fill_pattern(out, len);
	shake_hands(f);
	tls_set_rekey_bytes(f->stream, 100000);
	for (size_t done = 0; done < len; done += len / 16) {
		client_send(f, out + done, len / 16);
		WAIT_FOR(f, f->in_len == done + len / 16);
		assert_int_equal(tls_write(f->stream, out, sizeof back), 0);
		tls_flush(f->stream);
		client_receive(f, back, sizeof back);
		assert_memory_equal(back, out, sizeof back);
	}
	assert_memory_equal(f->in, out, len);
	assert_in_range(f->key_updates, 12, 22); /* 2 MiB in steps of 100,000 */
	free(out);
}

static void
a_stream_can_be_carried_to_another_loop(void **state)
{
	struct fixture *f = *state;
	unsigned char out[40000];
	struct event_base *old = f->base;

	fill_pattern(out, sizeof out);
	shake_hands(f);
	client_send(f, out, sizeof out);
	WAIT_FOR(f, f->in_len == sizeof out);
	tls_stream_detach(f->stream);
	f->base = event_base_new();
	f->in_len = 0;
	assert_int_equal(tls_stream_attach(f->stream, f->base, on_event, f), 0);
	client_send(f, out, sizeof out);
	WAIT_FOR(f, f->in_len == sizeof out);
	assert_memory_equal(f->in, out, sizeof out);
	event_base_free(old);
}

/* Without tls_discard() the close would reset the connection, and the client's kernel would throw the goodbye away. */
static void
the_last_words_arrive_although_the_peer_went_on_sending(void **state)
{
	struct fixture *f = *state;
	unsigned char out[200000], last[9];
	ssize_t n;
	int r = -EAGAIN;

	fill_pattern(out, sizeof out);
	shake_hands(f);
	f->reads = false;
	for (size_t done = 0; done < sizeof out; done += (size_t)n) {
		n = client_write(f, out + done, sizeof out - done);
		assert_true(n >= 0);
		turn(f);
	}
	assert_int_equal(tls_write(f->stream, "goodbye!", 9), 0);
	assert_int_equal(tls_flush(f->stream), 0);
	tls_shutdown(f->stream);
	assert_int_equal(tls_discard(f->stream, 1 << 20), -EAGAIN);
	client_receive(f, last, sizeof last);
	assert_memory_equal(last, "goodbye!", 9);
	assert_int_equal(client_read(f, last, 1), -1); /* close_notify */
	close(f->client_fd);
	f->client_fd = -1;
	for (int i = 0; i < 1000 && r == -EAGAIN; i++) {
		r = tls_discard(f->stream, 1 << 20);
		usleep(100);
	}
	assert_int_not_equal(r, -EAGAIN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(bytes_arrive_as_they_were_sent_both_ways, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_peer_that_vanishes_is_told_from_one_that_ends, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(close_notify_is_an_end_in_good_order, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(bytes_of_a_record_that_is_not_whole_count_as_received, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		garbage_instead_of_a_handshake_is_a_protocol_error_with_a_reason, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		nothing_is_told_before_a_rest_is_over_and_then_all_is_there, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		while_reading_is_paused_nothing_is_told_and_nothing_is_lost, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		of_an_expected_payload_a_little_wakes_nobody_until_the_expectation_is_taken_back, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		output_that_the_peer_does_not_take_waits_and_reading_goes_on, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(output_beyond_the_limit_is_refused, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(keys_change_and_no_byte_is_lost, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_stream_can_be_carried_to_another_loop, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(the_last_words_arrive_although_the_peer_went_on_sending, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("tls_stream", tests, NULL, NULL);
}
