/* SPDX-License-Identifier: Apache-2.0 */
/* The listener runs on this thread's loop, its jobs on a thread each, as in the server; every client is a thread
 * with a blocking socket. */
#include "server/enroll.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>
#include <openssl/ec.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/units.h"
#include "proto/frame.h"
#include "server/certificate.h"
#include "server/listen.h"
#include "server/tries.h"
#include "tests/lib/scratch.h"
#include "tests/lib/sqlite_faults.h"

enum { TOKEN_LIFE_S = 3600, CLIENTS_MAX = 64, TURN_MS = 5 };

struct fixture {
	char dir[64];
	struct event_base *base;
	struct event *tick, *job_done;
	int pipe[2]; /* jobs that have run */
	struct registry *registry;
	struct ledger *ledger;
	struct pki *pki;
	struct enroll *enroll;
	struct sockaddr_in to;
	struct hf_error err;

	/* of the hook */
	int hook_status, hook_calls;
	bool hook_is_new;
	struct id hook_source;
	char hook_hostname[NAME_BYTES];
	sem_t *gate; /* work waits here, unless NULL */
	int jobs_posted, jobs_done;
};

/* ---- the server's side ---- */

struct posted {
	struct fixture *f;
	pthread_t thread;
	void (*work)(void *job), (*done)(void *job);
	void *job;
};

static void *
run_job(void *arg)
{
	struct posted *p = arg;

	if (p->f->gate != NULL)
		sem_wait(p->f->gate);
	p->work(p->job);
	assert_int_equal(write(p->f->pipe[1], &p, sizeof p), sizeof p);
	return NULL;
}

static void
post(void *arg, void (*work)(void *job), void (*done)(void *job), void *job)
{
	struct posted *p = calloc(1, sizeof *p);

	((struct fixture *)arg)->jobs_posted++;
	*p = (struct posted){.f = arg, .work = work, .done = done, .job = job};
	assert_int_equal(pthread_create(&p->thread, NULL, run_job, p), 0);
}

static void
on_job_done(evutil_socket_t fd, short what, void *arg)
{
	struct posted *p;

	assert_int_equal(read(fd, &p, sizeof p), sizeof p);
	pthread_join(p->thread, NULL);
	p->done(p->job);
	p->f->jobs_done++;
	free(p);
}

static int
on_enrolled(void *arg, const struct id *source, bool is_new, const struct message_hints *hints, struct hf_error *err)
{
	struct fixture *f = arg;

	f->hook_calls++;
	f->hook_is_new = is_new;
	f->hook_source = *source;
	strcpy(f->hook_hostname, hints->hostname);
	return f->hook_status == 0 ? 0 : hf_error_say(err, f->hook_status, "no room for its store");
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
}

static int
open_port(struct fixture *f, unsigned deadline_ms)
{
	const struct enroll_config config = {
	    .base = f->base,
	    .listen = "127.0.0.1:0",
	    .pki = f->pki,
	    .registry = f->registry,
	    .ledger = f->ledger,
	    .certificate_lifetime_ns = 60 * NS_PER_SECOND,
	    .data_port = 4711,
	    .deadline_ms = deadline_ms,
	    .post = post,
	    .enrolled = on_enrolled,
	    .arg = f,
	};
	char host[ADDRESS_HOST_BYTES];
	unsigned port;
	int r = enroll_open(&config, &f->enroll, &f->err);

	if (r < 0)
		return r;
	assert_true(address_split(enroll_address(f->enroll), host, &port));
	assert_true(port != 0);
	f->to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	inet_pton(AF_INET, "127.0.0.1", &f->to.sin_addr);
	return 0;
}

static int
set_up(void **state)
{
	static const struct timeval turn = {.tv_usec = TURN_MS * 1000};
	struct fixture *f = *state = calloc(1, sizeof *f);
	char path[128];

	log_level_max = LOG_LEVEL_ERR;
	scratch_make(f->dir, sizeof f->dir, "test_enroll");
	if (pipe(f->pipe) < 0)
		return -1;
	f->base = event_base_new();
	f->tick = event_new(f->base, -1, EV_PERSIST, on_tick, NULL);
	f->job_done = event_new(f->base, f->pipe[0], EV_READ | EV_PERSIST, on_job_done, f);
	event_add(f->tick, &turn);
	event_add(f->job_done, NULL);
	snprintf(path, sizeof path, "%s/holdfast.db", f->dir);
	if (registry_open(path, true, &f->registry, &f->err) < 0 || ledger_create(f->registry, &f->ledger) < 0)
		return -1;
	snprintf(path, sizeof path, "%s/pki", f->dir);
	return pki_open(path, clock_real_ns(), &f->pki, &f->err) < 0 ? -1 : open_port(f, 0);
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	int removed;

	enroll_close(f->enroll);
	sqlite_write_errno = 0;
	pki_close(f->pki);
	ledger_destroy(f->ledger);
	registry_close(f->registry);
	event_free(f->tick);
	event_free(f->job_done);
	event_base_free(f->base);
	close(f->pipe[0]);
	close(f->pipe[1]);
	removed = scratch_remove(f->dir);
	free(f);
	return removed;
}

static void
turn(struct fixture *f)
{
	assert_int_equal(event_base_loop(f->base, EVLOOP_ONCE), 0);
}

/* ---- the agent's side ---- */

struct client {
	pthread_t thread;
	const struct fixture *f;
	struct message_enroll request;
	EVP_PKEY *key;
	int tls_version_max;
	const unsigned char *raw; /* sent instead of the request */
	size_t raw_bytes;
	bool leave; /* right after sending */
	atomic_bool finished;

	/* what came of it */
	bool connected;             /* through the handshake */
	int64_t server_expires_ns;  /* of its certificate */
	struct frame_header header; /* type 0: no answer */
	unsigned char message[FRAME_MESSAGE_MAX];
	struct message_enrolled enrolled;
	struct message_goodbye goodbye;
};

static bool
read_all(SSL *ssl, unsigned char *buf, size_t size)
{
	size_t done = 0, n;

	while (done < size && SSL_read_ex(ssl, buf + done, size - done, &n) == 1)
		done += n;
	return done == size;
}

static void
read_answer(struct client *c, SSL *ssl)
{
	unsigned char bytes[FRAME_HEADER_BYTES];

	if (!read_all(ssl, bytes, sizeof bytes))
		return;
	assert_int_equal(frame_header_decode(bytes, &c->header), 0);
	assert_true(read_all(ssl, c->message, c->header.message_bytes));
	if (c->header.type == FRAME_ENROLLED)
		assert_int_equal(message_enrolled_decode(c->message, c->header.message_bytes, &c->enrolled), 0);
	else
		assert_int_equal(message_goodbye_decode(c->message, c->header.message_bytes, &c->goodbye), 0);
}

static void
send_request(struct client *c, SSL *ssl)
{
	static _Thread_local unsigned char frame[FRAME_HEADER_BYTES + FRAME_MESSAGE_MAX];
	struct frame_header h = {.type = FRAME_ENROLL};
	size_t n;

	if (c->raw != NULL) {
		if (c->raw_bytes > 0)
			(void)SSL_write_ex(ssl, c->raw, c->raw_bytes, &n);
		return;
	}
	h.message_bytes = (uint32_t)message_enroll_encode(&c->request, frame + FRAME_HEADER_BYTES, FRAME_MESSAGE_MAX);
	frame_header_encode(&h, frame);
	(void)SSL_write_ex(ssl, frame, FRAME_HEADER_BYTES + h.message_bytes, &n);
}

static void
converse(struct client *c, SSL *ssl)
{
	c->connected = SSL_connect(ssl) == 1;
	if (!c->connected)
		return;
	c->server_expires_ns = certificate_time_ns(X509_get0_notAfter(SSL_get0_peer_certificate(ssl)));
	send_request(c, ssl);
	if (!c->leave)
		read_answer(c, ssl);
	SSL_shutdown(ssl);
}

static void *
run_client(void *arg)
{
	struct client *c = arg;
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	SSL *ssl;

	SSL_CTX_set_max_proto_version(ctx, c->tls_version_max);
	ssl = SSL_new(ctx);
	if (connect(fd, (const struct sockaddr *)&c->f->to, sizeof c->f->to) == 0 && SSL_set_fd(ssl, fd) == 1)
		converse(c, ssl);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	close(fd);
	c->finished = true;
	return NULL;
}

static struct message_blob
make_request(EVP_PKEY *key)
{
	struct message_blob blob;
	unsigned char *p = blob.bytes;
	X509_REQ *request = X509_REQ_new();

	X509_REQ_set_pubkey(request, key);
	assert_true(X509_REQ_sign(request, key, EVP_sha256()) > 0);
	blob.len = (size_t)i2d_X509_REQ(request, &p);
	X509_REQ_free(request);
	return blob;
}

static void
put_token(struct fixture *f, unsigned char secret, const struct id *source)
{
	struct registry_token token = {.id = id_random("tok"), .created_ns = clock_real_ns()};
	unsigned char bytes[TOKEN_SECRET_BYTES];

	memset(bytes, secret, sizeof bytes);
	pki_hash_token(bytes, token.hash);
	token.expires_ns = token.created_ns + TOKEN_LIFE_S * NS_PER_SECOND;
	if (source != NULL)
		token.source = *source;
	assert_int_equal(registry_put_token(f->registry, &token, &f->err), 0);
}

static struct client *
make_client(const struct fixture *f, unsigned char secret)
{
	struct client *c = calloc(1, sizeof *c);

	c->f = f;
	c->key = EVP_EC_gen("P-256");
	c->request = (struct message_enroll){
	    .protocol_version = PROTOCOL_VERSION,
	    .protocol_version_min = PROTOCOL_VERSION_MIN,
	    .csr = make_request(c->key),
	    .hints = {.hostname = "db01"},
	};
	memset(c->request.token_secret, secret, TOKEN_SECRET_BYTES);
	memset(c->request.installation_nonce, secret ^ 0xff, NONCE_BYTES);
	return c;
}

static void
free_client(struct client *c)
{
	EVP_PKEY_free(c->key);
	free(c);
}

static void
start_client(struct client *c)
{
	assert_int_equal(pthread_create(&c->thread, NULL, run_client, c), 0);
}

static void
finish_client(struct fixture *f, struct client *c)
{
	while (!c->finished)
		turn(f);
	pthread_join(c->thread, NULL);
}

static void
run(struct fixture *f, struct client *c)
{
	start_client(c);
	finish_client(f, c);
}

/* Status of an enrolment with this secret: 0, or that of the goodbye. */
static int
try(struct fixture *f, unsigned char secret)
{
	struct client *c = make_client(f, secret);
	int status;

	run(f, c);
	assert_true(c->header.type == FRAME_ENROLLED || c->header.type == FRAME_GOODBYE);
	status = c->header.type == FRAME_ENROLLED ? 0 : c->goodbye.status;
	free_client(c);
	return status;
}

static void
check_goodbye(const struct client *c, int status, const char *text, const char *cure)
{
	assert_int_equal(c->header.type, FRAME_GOODBYE);
	if (strstr(c->goodbye.text, text) == NULL || strstr(c->goodbye.cure, cure) == NULL)
		fail_msg("said \"%s\", cure \"%s\"", c->goodbye.text, c->goodbye.cure);
	assert_int_equal(c->goodbye.status, status);
}

static size_t
count_sources(struct fixture *f)
{
	struct registry_source *sources;
	size_t count;

	assert_int_equal(registry_list_sources(f->registry, &sources, &count, &f->err), 0);
	free(sources);
	return count;
}

/* ---- tests ---- */

static void
good_token_gets_a_certificate_for_its_key(void **state)
{
	struct fixture *f = *state;
	struct client *c = make_client(f, 1);
	const unsigned char *p = c->enrolled.certificate.bytes, *q = c->enrolled.ca_certificate.bytes;
	struct registry_certificate found;
	struct registry_source source;
	struct registry_event *events;
	unsigned char fingerprint[FINGERPRINT_BYTES];
	struct message_blob ca_blob = {.len = 0};
	X509 *x, *ca;
	size_t count;

	put_token(f, 1, NULL);
	run(f, c);
	assert_int_equal(c->header.type, FRAME_ENROLLED);
	x = d2i_X509(NULL, &p, (long)c->enrolled.certificate.len);
	ca = d2i_X509(NULL, &q, (long)c->enrolled.ca_certificate.len);
	assert_int_equal(X509_verify(x, X509_get0_pubkey(ca)), 1);
	assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(x), c->key), 1);
	pki_get_ca(f->pki, &ca_blob);
	assert_int_equal(c->enrolled.ca_certificate.len, ca_blob.len);
	assert_memory_equal(c->enrolled.ca_certificate.bytes, ca_blob.bytes, ca_blob.len);
	assert_int_equal(c->enrolled.data_port, 4711);
	assert_int_equal(registry_get_source(f->registry, &c->enrolled.source_id, &source, &f->err), 0);
	assert_string_equal(source.hints.hostname, "db01");
	assert_memory_equal(source.installation_nonce, c->request.installation_nonce, NONCE_BYTES);
	X509_digest(x, EVP_sha256(), fingerprint, NULL);
	assert_int_equal(registry_find_certificate(f->registry, fingerprint, &found, &f->err), 0);
	assert_string_equal(found.source.text, c->enrolled.source_id.text);
	assert_int_equal(f->hook_calls, 1);
	assert_true(f->hook_is_new);
	assert_string_equal(f->hook_source.text, c->enrolled.source_id.text);
	assert_string_equal(f->hook_hostname, "db01");
	assert_int_equal(registry_list_events(f->registry, 0, 10, &events, &count, &f->err), 0);
	assert_int_equal(count, 1);
	assert_string_equal(events[0].event, "source_enrolled");
	assert_string_equal(events[0].source.text, c->enrolled.source_id.text);
	free(events);
	X509_free(x);
	X509_free(ca);
	free_client(c);
}

static void
used_token_is_refused_with_the_cure(void **state)
{
	struct fixture *f = *state;
	struct client *c = make_client(f, 1);

	put_token(f, 1, NULL);
	assert_int_equal(try(f, 1), 0);
	run(f, c);
	check_goodbye(c, -HF_ETOKEN, "was used", "holdfastctl token create");
	assert_int_equal(count_sources(f), 1);
	free_client(c);
}

static void
refusal_that_finds_no_room_is_told_of_when_there_is_some(void **state)
{
	struct fixture *f = *state;
	struct client *c = make_client(f, 1);
	struct registry_event *events;
	size_t count;

	sqlite_write_errno = ENOSPC;
	run(f, c);
	assert_int_equal(c->header.type, FRAME_GOODBYE);
	assert_int_equal(ledger_waiting(f->ledger), 1);
	sqlite_write_errno = 0;
	assert_int_equal(ledger_settle(f->ledger, &f->err), 0);
	assert_int_equal(registry_list_events(f->registry, 0, 10, &events, &count, &f->err), 0);
	assert_int_equal(count, 1);
	assert_string_equal(events[0].event, "enroll_refused");
	free(events);
	free_client(c);
}

static void
bound_token_returns_to_its_source(void **state)
{
	struct fixture *f = *state;
	struct client *c = make_client(f, 2);
	struct id source;

	put_token(f, 1, NULL);
	assert_int_equal(try(f, 1), 0);
	source = f->hook_source;
	put_token(f, 2, &source);
	run(f, c);
	assert_int_equal(c->header.type, FRAME_ENROLLED);
	assert_string_equal(c->enrolled.source_id.text, source.text);
	assert_false(f->hook_is_new);
	assert_int_equal(count_sources(f), 1);
	free_client(c);
}

static void
failing_hook_refuses_and_leaves_the_token_good(void **state)
{
	struct fixture *f = *state;
	struct client *c = make_client(f, 1);

	put_token(f, 1, NULL);
	f->hook_status = -HF_EFULL;
	run(f, c);
	check_goodbye(c, -HF_EFULL, "no room for its store", "");
	assert_int_equal(count_sources(f), 0);
	f->hook_status = 0;
	assert_int_equal(try(f, 1), 0);
	free_client(c);
}

static void
bad_request_is_refused_and_leaves_the_token_good(void **state)
{
	struct fixture *f = *state;
	struct client *c = make_client(f, 1);

	put_token(f, 1, NULL);
	c->request.csr.bytes[c->request.csr.len - 1] ^= 1;
	run(f, c);
	check_goodbye(c, -HF_EPROTOCOL, "certificate request", "");
	assert_int_equal(f->hook_calls, 0);
	assert_int_equal(try(f, 1), 0);
	free_client(c);
}

static void
address_that_guesses_wrong_waits(void **state)
{
	struct fixture *f = *state;
	struct client *c = make_client(f, 1);

	for (int i = 0; i < TRIES_MAX; i++)
		assert_int_equal(try(f, 99), -HF_ETOKEN);
	put_token(f, 1, NULL);
	run(f, c);
	check_goodbye(c, -HF_ERATE, "too many wrong tokens", "wait a minute");
	assert_int_equal(count_sources(f), 0);
	free_client(c);
}

static void
many_good_tokens_from_one_address_are_fine(void **state)
{
	struct fixture *f = *state;

	for (unsigned char i = 1; i <= 3 * TRIES_MAX; i++) {
		put_token(f, i, NULL);
		assert_int_equal(try(f, i), 0);
	}
	assert_int_equal(count_sources(f), 3 * TRIES_MAX);
}

static void
one_of_many_racing_uses_of_a_token_wins(void **state)
{
	enum { RACERS = 24 };
	struct fixture *f = *state;
	struct client *racers[RACERS];
	int winners = 0;

	put_token(f, 1, NULL);
	for (int i = 0; i < RACERS; i++)
		start_client(racers[i] = make_client(f, 1));
	for (int i = 0; i < RACERS; i++) {
		finish_client(f, racers[i]);
		winners += racers[i]->header.type == FRAME_ENROLLED;
		assert_true(racers[i]->header.type == FRAME_ENROLLED || racers[i]->goodbye.status == -HF_ETOKEN ||
			    racers[i]->goodbye.status == -HF_ERATE);
		free_client(racers[i]);
	}
	assert_int_equal(winners, 1);
	assert_int_equal(count_sources(f), 1);
	assert_int_equal(f->hook_calls, 1);
}

static void
other_version_is_refused_with_both_ranges(void **state)
{
	struct fixture *f = *state;
	struct client *c = make_client(f, 1);

	put_token(f, 1, NULL);
	c->request.protocol_version = PROTOCOL_VERSION + 2;
	c->request.protocol_version_min = PROTOCOL_VERSION + 1;
	run(f, c);
	check_goodbye(c, -HF_EVERSION, "this server", "same release");
	assert_int_equal(c->goodbye.server_version_max, PROTOCOL_VERSION);
	assert_int_equal(c->goodbye.server_version_min, PROTOCOL_VERSION_MIN);
	assert_int_equal(count_sources(f), 0);
	free_client(c);
}

static void
check_raw(struct fixture *f, const unsigned char *bytes, size_t len, int status)
{
	struct client *c = make_client(f, 1);

	c->raw = bytes;
	c->raw_bytes = len;
	run(f, c);
	check_goodbye(c, status, "", "");
	free_client(c);
}

static void
anything_but_one_bounded_frame_is_refused(void **state)
{
	struct fixture *f = *state;
	struct frame_header h = {.type = FRAME_ENROLL};
	unsigned char bytes[FRAME_HEADER_BYTES + 100];

	memset(bytes, 0xa5, sizeof bytes);
	check_raw(f, bytes, sizeof bytes, -HF_EPROTOCOL); /* garbage */
	frame_header_encode(&h, bytes);
	check_raw(f, bytes, FRAME_HEADER_BYTES, -HF_EPROTOCOL); /* an empty message */
	h.message_bytes = 100;
	frame_header_encode(&h, bytes);
	check_raw(f, bytes, sizeof bytes, -HF_EPROTOCOL); /* a message of garbage */
	h.message_bytes = 1 << 20;
	frame_header_encode(&h, bytes);
	check_raw(f, bytes, sizeof bytes, -HF_ETOOBIG);
	h = (struct frame_header){.type = FRAME_HEARTBEAT, .message_bytes = 100};
	frame_header_encode(&h, bytes);
	check_raw(f, bytes, sizeof bytes, -HF_EPROTOCOL); /* a frame of the other port */
}

static void
tls_1_2_is_refused(void **state)
{
	struct fixture *f = *state;
	struct client *c = make_client(f, 1);

	put_token(f, 1, NULL);
	c->tls_version_max = TLS1_2_VERSION;
	run(f, c);
	assert_false(c->connected);
	assert_int_equal(count_sources(f), 0);
	free_client(c);
}

static void
message_cut_anywhere_uses_no_token(void **state)
{
	struct fixture *f = *state;
	struct client *whole = make_client(f, 1);
	static unsigned char frame[FRAME_HEADER_BYTES + FRAME_MESSAGE_MAX];
	struct frame_header h = {.type = FRAME_ENROLL};

	put_token(f, 1, NULL);
	h.message_bytes =
	    (uint32_t)message_enroll_encode(&whole->request, frame + FRAME_HEADER_BYTES, FRAME_MESSAGE_MAX);
	frame_header_encode(&h, frame);
	for (size_t len = 0; len < FRAME_HEADER_BYTES + h.message_bytes; len += 13) {
		struct client *c = make_client(f, 1);

		c->raw = frame;
		c->raw_bytes = len;
		c->leave = true;
		run(f, c);
		free_client(c);
	}
	assert_int_equal(count_sources(f), 0);
	assert_int_equal(try(f, 1), 0);
	free_client(whole);
}

static void
silent_peer_is_dropped_at_the_deadline(void **state)
{
	static const unsigned char nothing[1];
	struct fixture *f = *state;
	struct client *c = make_client(f, 1);
	int64_t begin;

	enroll_close(f->enroll);
	assert_int_equal(open_port(f, 200), 0);
	c->raw = nothing;
	begin = clock_monotonic_ns();
	run(f, c);
	assert_true(c->connected);
	assert_int_equal(c->header.type, 0);
	assert_true(clock_monotonic_ns() - begin >= NS_PER_SECOND / 10); /* libevent's clock is a coarse one */
	free_client(c);
}

static bool
closed_by_peer(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno != EAGAIN);
}

static void
oldest_goes_when_there_are_too_many(void **state)
{
	struct fixture *f = *state;
	int fds[ENROLL_PENDING_MAX + 1];

	for (int i = 0; i <= ENROLL_PENDING_MAX; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fds[i], (struct sockaddr *)&f->to, sizeof f->to), 0);
	}
	while (!closed_by_peer(fds[0]))
		turn(f);
	put_token(f, 1, NULL);
	assert_int_equal(try(f, 1), 0); /* and an honest one still gets through */
	assert_true(closed_by_peer(fds[1]));
	for (int i = 2; i <= ENROLL_PENDING_MAX; i++)
		assert_false(closed_by_peer(fds[i]));
	for (int i = 0; i <= ENROLL_PENDING_MAX; i++)
		close(fds[i]);
}

static void
newcomer_being_served_is_not_the_one_to_go(void **state)
{
	struct fixture *f = *state;
	struct client *c = make_client(f, 1);
	int fds[2 * ENROLL_PENDING_MAX];
	sem_t gate;

	sem_init(&gate, 0, 0);
	f->gate = &gate;
	put_token(f, 1, NULL);
	start_client(c);
	while (f->jobs_posted == 0)
		turn(f);
	for (int i = 0; i < 2 * ENROLL_PENDING_MAX; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fds[i], (struct sockaddr *)&f->to, sizeof f->to), 0);
	}
	while (!closed_by_peer(fds[ENROLL_PENDING_MAX - 1]))
		turn(f);
	sem_post(&gate);
	finish_client(f, c);
	assert_int_equal(c->header.type, FRAME_ENROLLED);
	for (int i = 0; i < 2 * ENROLL_PENDING_MAX; i++)
		close(fds[i]);
	sem_destroy(&gate);
	free_client(c);
}

static void
closing_the_port_leaves_a_job_under_way_alone(void **state)
{
	struct fixture *f = *state;
	struct client *c = make_client(f, 1);
	sem_t gate;

	sem_init(&gate, 0, 0);
	f->gate = &gate;
	put_token(f, 1, NULL);
	start_client(c);
	while (f->jobs_posted == 0)
		turn(f);
	enroll_close(f->enroll);
	f->enroll = NULL;
	finish_client(f, c); /* cut off: it need not wait for the job */
	assert_int_equal(c->header.type, 0);
	sem_post(&gate);
	while (f->jobs_done == 0)
		turn(f);
	assert_int_equal(count_sources(f), 1);
	sem_destroy(&gate);
	free_client(c);
}

static void
renewed_certificate_is_shown_after_reload(void **state)
{
	const int64_t day = 86400 * NS_PER_SECOND;
	struct fixture *f = *state;
	struct client *before = make_client(f, 1), *after = make_client(f, 1);
	SSL_CTX *ctx;

	run(f, before);
	assert_int_equal(pki_renew(f->pki, false, clock_real_ns() + 61 * day, &f->err), 1);
	assert_int_equal(pki_enroll_ctx(f->pki, &ctx, &f->err), 0);
	enroll_use_ctx(f->enroll, ctx);
	run(f, after);
	assert_true(after->server_expires_ns > before->server_expires_ns + 60 * day);
	free_client(before);
	free_client(after);
}

static void
port_in_use_is_refused_by_name(void **state)
{
	struct fixture *f = *state;
	struct enroll_config config = {.base = f->base, .listen = enroll_address(f->enroll), .pki = f->pki};
	struct enroll *second = NULL;

	assert_int_equal(enroll_open(&config, &second, &f->err), -EADDRINUSE);
	assert_non_null(strstr(f->err.text, enroll_address(f->enroll)));
	assert_null(second);
}

/* ---- tries ---- */

static void
tries_count_within_the_window_and_per_host(void **state)
{
	struct tries *t = calloc(1, sizeof *t);
	struct tries_host a = {{1}}, b = {{2}};
	int64_t now = 1000 * NS_PER_SECOND;

	for (int i = 0; i < TRIES_MAX; i++) {
		assert_true(tries_allowed(t, &a, now + i));
		tries_add_wrong(t, &a, now + i);
	}
	assert_false(tries_allowed(t, &a, now + TRIES_MAX));
	assert_true(tries_allowed(t, &b, now + TRIES_MAX));
	assert_false(tries_allowed(t, &a, now + TRIES_WINDOW_NS - 1));
	assert_true(tries_allowed(t, &a, now + TRIES_WINDOW_NS));
	tries_add_wrong(t, &a, now + TRIES_WINDOW_NS);
	assert_false(tries_allowed(t, &a, now + TRIES_WINDOW_NS)); /* the second of the five is still too young */
	free(t);
}

static void
tries_forget_the_host_longest_quiet(void **state)
{
	struct tries *t = calloc(1, sizeof *t);
	struct tries_host a = {{0, 0, 1}}, b = {{0, 0, 2}};

	for (int i = 0; i < TRIES_MAX; i++) {
		tries_add_wrong(t, &a, 1 + i);
		tries_add_wrong(t, &b, 10 + i);
	}
	for (int i = 0; i < TRIES_ADDRESSES_MAX - 1; i++) {
		struct tries_host other = {{1, (unsigned char)(i >> 8), (unsigned char)i}};

		tries_add_wrong(t, &other, 100 + i);
	}
	assert_true(tries_allowed(t, &a, 1000));
	assert_false(tries_allowed(t, &b, 1000));
	free(t);
}

static struct tries_host
host_of(int family, const char *text)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	if (family == AF_INET) {
		assert_int_equal(inet_pton(AF_INET, text, &v4.sin_addr), 1);
		return tries_host_of((struct sockaddr *)&v4);
	}
	assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
	return tries_host_of((struct sockaddr *)&v6);
}

static void
host_is_an_ipv4_address_or_an_ipv6_network(void **state)
{
	struct tries_host v4 = host_of(AF_INET, "192.0.2.7"), mapped = host_of(AF_INET6, "::ffff:192.0.2.7");
	struct tries_host other = host_of(AF_INET, "192.0.2.8"), a = host_of(AF_INET6, "2001:db8:1:2::1");
	struct tries_host same = host_of(AF_INET6, "2001:db8:1:2:ffff::9"), b = host_of(AF_INET6, "2001:db8:1:3::1");

	assert_memory_equal(&v4, &mapped, sizeof v4);
	assert_memory_not_equal(&v4, &other, sizeof v4);
	assert_memory_equal(&a, &same, sizeof a);
	assert_memory_not_equal(&a, &b, sizeof a);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(good_token_gets_a_certificate_for_its_key),
	    T(used_token_is_refused_with_the_cure),
	    T(refusal_that_finds_no_room_is_told_of_when_there_is_some),
	    T(bound_token_returns_to_its_source),
	    T(failing_hook_refuses_and_leaves_the_token_good),
	    T(bad_request_is_refused_and_leaves_the_token_good),
	    T(address_that_guesses_wrong_waits),
	    T(many_good_tokens_from_one_address_are_fine),
	    T(one_of_many_racing_uses_of_a_token_wins),
	    T(other_version_is_refused_with_both_ranges),
	    T(anything_but_one_bounded_frame_is_refused),
	    T(tls_1_2_is_refused),
	    T(message_cut_anywhere_uses_no_token),
	    T(silent_peer_is_dropped_at_the_deadline),
	    T(oldest_goes_when_there_are_too_many),
	    T(newcomer_being_served_is_not_the_one_to_go),
	    T(closing_the_port_leaves_a_job_under_way_alone),
	    T(renewed_certificate_is_shown_after_reload),
	    T(port_in_use_is_refused_by_name),
	    cmocka_unit_test(tries_count_within_the_window_and_per_host),
	    cmocka_unit_test(tries_forget_the_host_longest_quiet),
	    cmocka_unit_test(host_is_an_ipv4_address_or_an_ipv6_network),
	};

	sqlite_faults_install();
	signal(SIGPIPE, SIG_IGN); /* as in the server: a peer may leave while it is written to */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
