/* SPDX-License-Identifier: Apache-2.0 */
/* A newcomer's way, one state a step:
 *
 *	HANDSHAKE -> HEADER -> MESSAGE -> WAITING -> WORKING -> ANSWERING -> LINGERING -> gone
 *
 * and from each of the first four straight to ANSWERING with a GOODBYE when something is wrong. Newcomers are served
 * one at a time, in the order in which their messages were complete: the registry serves one at a time anyway, and so
 * the count of wrong tries is always right when the next one is looked at.
 *
 * A flood takes connections from itself: when there is no room the oldest goes, but never one whose token is being used
 * or whose certificate is on its way. LINGERING waits for the peer to close first, for closing over bytes not read
 * would reset the connection and lose our answer. */
#include "server/enroll.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/listener.h>
#include <openssl/ssl.h>
#include <utlist.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/text.h"
#include "proto/common/units.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "server/listen.h"
#include "server/tls_stream.h"
#include "server/tries.h"

enum {
	NEWCOMER_MAGIC = 0x6e657763,
	LINGER_MS = 2000,
	LINGER_BYTES = 64 * 1024, /* thrown away per turn */
	ACCEPT_PAUSE_MS = 1000,   /* when the process has no descriptors left */
};

enum newcomer_state { HANDSHAKE, HEADER, MESSAGE, WAITING, WORKING, ANSWERING, LINGERING };

struct newcomer {
	uint32_t magic;
	enum newcomer_state state;
	bool enrolled; /* the answer is a certificate */
	struct enroll *enroll;
	struct newcomer *prev, *next; /* in order of arrival */
	struct tls_stream *tls;
	struct event *deadline;
	struct tries_host host;
	char address[ADDRESS_TEXT_BYTES];

	unsigned char header_bytes[FRAME_HEADER_BYTES];
	struct frame_header header;
	unsigned char *message;
	size_t filled; /* bytes of header or message */
	struct enroll_job *job;
	uint64_t ready_number; /* WAITING: the lowest is served next */
};

/* What travels to the thread that may block and back. */
struct enroll_job {
	struct enroll *enroll;
	struct newcomer *newcomer; /* main thread; NULL: it is gone */
	struct tries_host host;
	char address[ADDRESS_TEXT_BYTES];
	struct message_enroll request;
	struct message_enrolled answer;
	struct id offered;
	int status;
	struct hf_error err;
};

struct enroll {
	struct enroll_config config;             /* listen is not kept */
	_Atomic int64_t certificate_lifetime_ns; /* read while an enrolment is worked on */
	char address[ADDRESS_TEXT_BYTES];
	SSL_CTX *ctx;
	struct evconnlistener *listener;
	struct event *accept_again;
	struct newcomer *newcomers;
	unsigned newcomer_count;
	uint64_t ready_count;
	struct enroll_job *job; /* under way */
	bool closed;
	struct tries tries;
	unsigned char frame[FRAME_HEADER_BYTES + FRAME_MESSAGE_MAX]; /* being encoded */
};

static void dispatch(struct enroll *e);

static struct newcomer *
newcomer_from_arg(void *arg)
{
	struct newcomer *n = arg;

	assert(n->magic == NEWCOMER_MAGIC);
	return n;
}

static void
start_deadline(struct newcomer *n, unsigned ms)
{
	const struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

	event_add(n->deadline, &tv);
}

static void
free_job(struct enroll_job *job)
{
	if (job != NULL)
		OPENSSL_cleanse(job->request.token_secret, TOKEN_SECRET_BYTES);
	free(job);
}

/* Knows every list a newcomer may be on. Accepts half-built ones. */
static void
destroy_newcomer(struct newcomer *n)
{
	struct enroll *e = n->enroll;

	DL_DELETE(e->newcomers, n);
	e->newcomer_count--;
	if (n->job != NULL && n->job == e->job)
		n->job->newcomer = NULL; /* done() frees it */
	else
		free_job(n->job);
	tls_stream_destroy(n->tls);
	if (n->deadline != NULL)
		event_free(n->deadline);
	free(n->message);
	n->magic = 0;
	free(n);
}

static void
drop(struct newcomer *n, const char *reason)
{
	log_info("enroll_dropped", "peer=%s reason=\"%s\"", n->address, reason);
	destroy_newcomer(n);
}

/* ---- answering ---- */

static void
linger(struct newcomer *n)
{
	if (tls_discard(n->tls, LINGER_BYTES) != -EAGAIN)
		destroy_newcomer(n); /* the peer has closed: all is said */
}

/* May destroy n. */
static void
finish_answer(struct newcomer *n)
{
	n->state = LINGERING;
	start_deadline(n, LINGER_MS);
	tls_shutdown(n->tls);
	tls_want_read(n->tls, true);
	linger(n);
}

/* Send the frame whose message lies encoded in e->frame. May destroy n. */
static void
send_frame(struct newcomer *n, enum frame_type type, size_t message_bytes)
{
	struct enroll *e = n->enroll;
	const struct frame_header h = {.type = type, .message_bytes = (uint32_t)message_bytes};
	int r;

	n->state = ANSWERING;
	tls_want_read(n->tls, false);
	start_deadline(n, e->config.deadline_ms);
	frame_header_encode(&h, e->frame);
	r = tls_write(n->tls, e->frame, FRAME_HEADER_BYTES + message_bytes);
	if (r == 0)
		r = tls_flush(n->tls);
	if (r == 0)
		finish_answer(n);
	else if (r != -EAGAIN)
		drop(n, "the connection broke while it was answered");
}

static const char *
cure_of(int status)
{
	switch (-status) {
	case HF_ETOKEN: return "holdfastctl token create";
	case HF_ERATE: return "wait a minute, then try again";
	case HF_EVERSION: return "install agent and server of the same release";
	default: return "";
	}
}

/* Say goodbye with a reason. May destroy n. */
static void
refuse(struct newcomer *n, int status, const char *text)
{
	struct enroll *e = n->enroll;
	struct message_goodbye goodbye = {
	    .status = status,
	    .server_version_min = PROTOCOL_VERSION_MIN,
	    .server_version_max = PROTOCOL_VERSION,
	};
	size_t len;

	log_notice("enroll_refused", "peer=%s status=%s msg=\"%s\"", n->address, hf_status_name(status), text);
	text_set(goodbye.text, sizeof goodbye.text, text);
	text_set(goodbye.cure, sizeof goodbye.cure, cure_of(status));
	len = message_goodbye_encode(&goodbye, e->frame + FRAME_HEADER_BYTES, FRAME_MESSAGE_MAX);
	send_frame(n, FRAME_GOODBYE, len);
}

/* May destroy n. */
static void
welcome(struct newcomer *n, const struct message_enrolled *answer)
{
	struct enroll *e = n->enroll;
	size_t len = message_enrolled_encode(answer, e->frame + FRAME_HEADER_BYTES, FRAME_MESSAGE_MAX);

	log_notice("source_enrolled", "source=%s peer=%s", answer->source_id.text, n->address);
	n->enrolled = true;
	send_frame(n, FRAME_ENROLLED, len);
}

/* ---- the job: on a thread that may block ---- */

/* Within the registry's transaction. */
static int
sign(void *arg, const struct id *source, struct registry_certificate *ret_certificate, struct hf_error *err)
{
	struct enroll_job *job = arg;
	const struct enroll_config *c = &job->enroll->config;
	bool is_new = strcmp(source->text, job->offered.text) == 0;
	int r = pki_sign(c->pki, &job->request.csr, source, false, atomic_load(&job->enroll->certificate_lifetime_ns),
	    clock_real_ns(), &job->answer.certificate, ret_certificate, err);

	return r < 0 ? r : c->enrolled(c->arg, source, is_new, &job->request.hints, err);
}

/* An event that cannot be kept is not worth refusing a machine for. */
static void
add_event(struct enroll_job *job)
{
	struct registry_event event = {.time_ns = clock_real_ns()};
	struct hf_error err;
	char text[SENTENCE_BYTES];

	if (job->status == 0) {
		event.source = job->answer.source_id;
		snprintf(event.event, sizeof event.event, "source_enrolled");
		snprintf(text, sizeof text, "%s enrolled from %s", job->request.hints.hostname, job->address);
	} else {
		snprintf(event.event, sizeof event.event, "enroll_refused");
		snprintf(
		    text, sizeof text, "%s (%s): %.300s", job->address, job->request.hints.hostname, job->err.text);
	}
	text_set(event.text, sizeof event.text, text);
	if (ledger_add_event(job->enroll->config.ledger, &event, &err) < 0)
		log_warning("event_not_kept", "kept_event=%s msg=\"%s\"", event.event, err.text);
}

static void
work(void *arg)
{
	struct enroll_job *job = arg;
	const struct enroll_config *c = &job->enroll->config;
	unsigned char hash[TOKEN_HASH_BYTES];

	job->offered = id_random("s");
	pki_hash_token(job->request.token_secret, hash);
	job->status = registry_enroll(c->registry, hash, clock_real_ns(), &job->offered,
	    job->request.installation_nonce, &job->request.hints, sign, job, &job->answer.source_id, &job->err);
	pki_get_ca(c->pki, &job->answer.ca_certificate);
	job->answer.data_port = c->data_port;
	add_event(job);
}

/* ---- the job: on the main thread ---- */

/* What makes a guess: a wrong token, or a good one spoilt by its request. */
static bool
was_wrong(int status)
{
	return status == -HF_ETOKEN || status == -HF_EPROTOCOL;
}

/* May destroy n. */
static void
answer(struct newcomer *n, const struct enroll_job *job)
{
	assert(n->state == WORKING);
	n->job = NULL;
	if (job->status == 0)
		welcome(n, &job->answer);
	else
		refuse(n, job->status, job->err.text);
}

static void
done(void *arg)
{
	struct enroll_job *job = arg;
	struct enroll *e = job->enroll;
	struct newcomer *n = job->newcomer;

	assert(e->job == job);
	e->job = NULL;
	if (e->closed) {
		free_job(job);
		free(e);
		return;
	}
	if (was_wrong(job->status))
		tries_add_wrong(&e->tries, &job->host, clock_monotonic_ns());
	if (n != NULL)
		answer(n, job);
	free_job(job);
	dispatch(e);
}

static struct newcomer *
next_waiting(const struct enroll *e)
{
	struct newcomer *n, *first = NULL;

	DL_FOREACH (e->newcomers, n)
		if (n->state == WAITING && (first == NULL || n->ready_number < first->ready_number))
			first = n;
	return first;
}

static void
start_job(struct newcomer *n)
{
	struct enroll *e = n->enroll;

	n->state = WORKING;
	event_del(n->deadline);
	e->job = n->job;
	e->config.post(e->config.arg, work, done, n->job);
}

/* Serve whoever is next, if nobody is being served. */
static void
dispatch(struct enroll *e)
{
	struct newcomer *n;

	while (e->job == NULL && (n = next_waiting(e)) != NULL) {
		if (tries_allowed(&e->tries, &n->host, clock_monotonic_ns()))
			start_job(n);
		else
			refuse(n, -HF_ERATE, "too many wrong tokens came from your address within a minute");
	}
}

/* ---- reading ---- */

static bool
version_in_common(const struct message_enroll *m)
{
	return m->protocol_version >= PROTOCOL_VERSION_MIN && m->protocol_version_min <= PROTOCOL_VERSION;
}

static void
refuse_version(struct newcomer *n, const struct message_enroll *m)
{
	char text[SENTENCE_BYTES];

	snprintf(text, sizeof text, "the agent speaks protocol versions %u to %u, this server %d to %d",
	    m->protocol_version_min, m->protocol_version, PROTOCOL_VERSION_MIN, PROTOCOL_VERSION);
	refuse(n, -HF_EVERSION, text);
}

/* The message is whole. May destroy n. */
static void
take_message(struct newcomer *n)
{
	struct enroll *e = n->enroll;
	struct enroll_job *job = calloc(1, sizeof *job);
	int r;

	tls_want_read(n->tls, false);
	if (job == NULL) {
		drop(n, "out of memory");
		return;
	}
	n->job = job;
	r = message_enroll_decode(n->message, n->header.message_bytes, &job->request);
	OPENSSL_cleanse(n->message, n->header.message_bytes);
	if (r < 0) {
		refuse(n, r, "the enrolment message cannot be read");
		return;
	}
	if (!version_in_common(&job->request)) {
		refuse_version(n, &job->request);
		return;
	}
	job->enroll = e;
	job->newcomer = n;
	job->host = n->host;
	memcpy(job->address, n->address, sizeof job->address);
	n->state = WAITING;
	n->ready_number = ++e->ready_count;
	dispatch(e);
}

/* 0, or what is wrong with the header. */
static int
take_header(struct newcomer *n)
{
	int r = frame_header_decode(n->header_bytes, &n->header);

	if (r < 0)
		return r;
	if (n->header.type != FRAME_ENROLL)
		return -HF_EPROTOCOL;
	n->message = malloc(n->header.message_bytes + 1); /* + 1: never of 0 bytes */
	if (n->message == NULL)
		return -ENOMEM;
	n->state = MESSAGE;
	n->filled = 0;
	return 0;
}

/* Read until buf holds size bytes. 0 when it does, -EAGAIN, or dead. */
static int
read_up_to(struct newcomer *n, unsigned char *buf, size_t size)
{
	while (n->filled < size) {
		size_t len;
		int r = tls_read(n->tls, buf + n->filled, size - n->filled, &len);

		if (r < 0)
			return r;
		n->filled += len;
	}
	return 0;
}

/* May destroy n. */
static void
read_message(struct newcomer *n)
{
	int r = read_up_to(n, n->message, n->header.message_bytes);

	if (r == 0)
		take_message(n);
	else if (r != -EAGAIN)
		drop(n, "the peer left in the middle of its message");
}

/* May destroy n. */
static void
read_header(struct newcomer *n)
{
	int r = read_up_to(n, n->header_bytes, sizeof n->header_bytes);

	if (r == -EAGAIN)
		return;
	if (r < 0) {
		drop(n, "the peer left without a message");
		return;
	}
	r = take_header(n);
	if (r < 0)
		refuse(n, r, "this port takes one ENROLL frame and nothing else");
	else
		read_message(n);
}

/* May destroy n. */
static void
shake(struct newcomer *n)
{
	int r = tls_handshake(n->tls);

	if (r == -EAGAIN)
		return;
	if (r < 0) {
		drop(n, r == -EPROTO ? tls_failure() : "the peer left during the handshake");
		return;
	}
	n->state = HEADER;
	read_header(n);
}

static void
on_stream(void *arg, unsigned what)
{
	struct newcomer *n = newcomer_from_arg(arg);

	if ((what & TLS_BROKEN) != 0) {
		drop(n, "the connection broke");
		return;
	}
	switch (n->state) {
	case HANDSHAKE: shake(n); return;
	case HEADER: read_header(n); return;
	case MESSAGE: read_message(n); return;
	case WAITING:
	case WORKING: return; /* reading is paused */
	case ANSWERING:
		if ((what & TLS_DRAINED) != 0)
			finish_answer(n);
		return;
	case LINGERING: linger(n); return;
	}
}

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct newcomer *n = newcomer_from_arg(arg);

	assert(n->state != WORKING);
	if (n->state == LINGERING)
		destroy_newcomer(n);
	else
		drop(n, "it took too long");
}

/* ---- accepting ---- */

static bool
may_go(const struct newcomer *n)
{
	return n->state != WORKING && !n->enrolled;
}

/* At most one is WORKING, and those with a certificate on its way had a good token: there is nearly always one that may
 * go. */
static bool
make_room(struct enroll *e)
{
	if (e->newcomer_count < ENROLL_PENDING_MAX)
		return true;
	for (struct newcomer *n = e->newcomers; n != NULL; n = n->next) {
		if (may_go(n)) {
			drop(n, "too many connections at a time; this was the oldest");
			return true;
		}
	}
	return false;
}

/* Takes fd. */
static void
add_newcomer(struct enroll *e, int fd, const struct sockaddr *address, socklen_t len)
{
	struct newcomer *n = calloc(1, sizeof *n);

	if (n == NULL) {
		close(fd);
		return;
	}
	n->magic = NEWCOMER_MAGIC;
	n->enroll = e;
	n->host = tries_host_of(address);
	sockaddr_format(address, len, n->address);
	DL_APPEND(e->newcomers, n);
	e->newcomer_count++;
	n->deadline = evtimer_new(e->config.base, on_deadline, n);
	if (tls_stream_create(e->ctx, fd, &n->tls) < 0 || n->deadline == NULL ||
	    tls_stream_attach(n->tls, e->config.base, on_stream, n) < 0) {
		drop(n, "out of memory");
		return;
	}
	start_deadline(n, e->config.deadline_ms);
}

static void
on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int len, void *arg)
{
	struct enroll *e = arg;

	if (make_room(e))
		add_newcomer(e, fd, address, (socklen_t)len);
	else
		close(fd);
}

/* No descriptors left, say: look again in a moment instead of spinning. */
static void
on_accept_error(struct evconnlistener *listener, void *arg)
{
	static const struct timeval pause = {.tv_sec = ACCEPT_PAUSE_MS / 1000};
	struct enroll *e = arg;

	log_warning("accept_failed", "listen=%s msg=\"%s\"", e->address, strerror(EVUTIL_SOCKET_ERROR()));
	evconnlistener_disable(listener);
	event_add(e->accept_again, &pause);
}

static void
on_accept_again(evutil_socket_t fd, short what, void *arg)
{
	struct enroll *e = arg;

	evconnlistener_enable(e->listener);
}

/* ---- life ---- */

static int
start_listening(struct enroll *e, struct hf_error *err)
{
	int fd, r = listen_open(e->config.listen, &fd, e->address, err);

	if (r < 0)
		return r;
	e->accept_again = evtimer_new(e->config.base, on_accept_again, e);
	e->listener = evconnlistener_new(
	    e->config.base, on_accept, e, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0 /* it listens */, fd);
	if (e->listener == NULL)
		close(fd);
	if (e->listener == NULL || e->accept_again == NULL)
		return hf_error_set(err, -ENOMEM, "listen on %s", e->address);
	evconnlistener_set_error_cb(e->listener, on_accept_error);
	return 0;
}

int
enroll_open(const struct enroll_config *config, struct enroll **ret_enroll, struct hf_error *err)
{
	struct enroll *e = calloc(1, sizeof *e);
	int r;

	if (e == NULL)
		return hf_error_set(err, -ENOMEM, "enrolment port");
	e->config = *config;
	e->certificate_lifetime_ns = config->certificate_lifetime_ns;
	if (e->config.deadline_ms == 0)
		e->config.deadline_ms = ENROLL_DEADLINE_MS;
	r = pki_enroll_ctx(config->pki, &e->ctx, err);
	if (r == 0)
		r = start_listening(e, err);
	e->config.listen = NULL;
	if (r < 0) {
		enroll_close(e);
		return r;
	}
	*ret_enroll = e;
	return 0;
}

const char *
enroll_address(const struct enroll *e)
{
	return e->address;
}

void
enroll_use_ctx(struct enroll *e, SSL_CTX *ctx)
{
	SSL_CTX_free(e->ctx); /* handshakes under way hold it */
	e->ctx = ctx;
}

void
enroll_set_lifetime(struct enroll *e, int64_t certificate_lifetime_ns)
{
	atomic_store(&e->certificate_lifetime_ns, certificate_lifetime_ns);
}

void
enroll_close(struct enroll *e)
{
	if (e == NULL)
		return;
	e->closed = true;
	while (e->newcomers != NULL)
		destroy_newcomer(e->newcomers);
	if (e->listener != NULL)
		evconnlistener_free(e->listener);
	if (e->accept_again != NULL)
		event_free(e->accept_again);
	SSL_CTX_free(e->ctx);
	if (e->job == NULL)
		free(e);
}
