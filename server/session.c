/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a session and its reading.
 *
 * Reading goes in steps: 24 bytes of header, the message behind it, the payload. The message is read into scratch
 * memory of the worker; only a frame that does not come whole within a turn gets memory of its own, so ten thousand
 * idle sessions hold none. Payload is decrypted straight into the slab that store_frame_begin() gave. A frame that
 * cannot be taken now (no slab, no space) is *held*: nothing more is read until session_resume(), and because that is
 * our doing, the peer is not called silent meanwhile. */
#include "server/session.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/text.h"
#include "server/limits.h"
#include "server/session_impl.h"
#include "server/source.h"

enum { SESSION_MAGIC = 0x73657373 };

const char *
session_state_name(enum session_state s)
{
	switch (s) {
	case SESSION_HANDSHAKE: return "handshake";
	case SESSION_AUTHORISE: return "authorise";
	case SESSION_HELLO: return "hello";
	case SESSION_ADMIT: return "admit";
	case SESSION_QUEUED: return "queued";
	case SESSION_DECLARE: return "declare";
	case SESSION_DECLARING: return "declaring";
	case SESSION_START: return "start";
	case SESSION_STREAMING: return "streaming";
	case SESSION_CLOSING: return "closing";
	case SESSION_DEAD: return "dead";
	}
	return "?";
}

static struct session *
session_from_arg(void *arg)
{
	struct session *s = arg;

	assert(s->magic == SESSION_MAGIC);
	return s;
}

struct session *
session_from_mail(struct mail *mail)
{
	return session_from_arg((char *)mail - offsetof(struct session, mail));
}

/* Which state may follow which. Every live state may also end: see may_end(). */
static bool
step_allowed(enum session_state from, enum session_state to)
{
	switch (to) {
	case SESSION_HANDSHAKE: return false;
	case SESSION_AUTHORISE: return from == SESSION_HANDSHAKE;
	case SESSION_HELLO: return from == SESSION_AUTHORISE;
	case SESSION_ADMIT: return from == SESSION_HELLO;
	case SESSION_QUEUED: return from == SESSION_ADMIT;
	case SESSION_DECLARE: return from == SESSION_QUEUED;
	case SESSION_DECLARING: return from == SESSION_DECLARE || from == SESSION_START;
	case SESSION_START: return from == SESSION_DECLARING;
	case SESSION_STREAMING: return from == SESSION_START;
	case SESSION_CLOSING: return from < SESSION_CLOSING;
	case SESSION_DEAD: return from != SESSION_DEAD;
	}
	return false;
}

void
session_enter(struct session *s, enum session_state next)
{
	assert(step_allowed(s->state, next));
	log_debug("session_state", "session=%" PRIu64 " from=%s to=%s", s->number, session_state_name(s->state),
	    session_state_name(next));
	s->state = next;
}

/* ---- life ---- */

struct session *
session_create(struct server *server, int fd, const char *peer)
{
	struct session *s = calloc(1, sizeof *s);

	if (s == NULL) {
		close(fd);
		return NULL;
	}
	s->magic = SESSION_MAGIC;
	s->server = server;
	s->number = atomic_fetch_add(&server->session_number, 1) + 1;
	snprintf(s->peer, sizeof s->peer, "%s", peer);
	s->fd = fd;
	atomic_fetch_add(&server->session_count, 1);
	return s;
}

void
session_free(struct session *s)
{
	assert(s->state == SESSION_DEAD && s->jobs_out == 0 && !s->touched && s->source == NULL);
	tls_stream_destroy(s->tls);
	free(s->own);
	s->magic = 0;
	free(s);
}

static void
unlist(struct session *s)
{
	if (!s->listed)
		return;
	DL_DELETE(s->worker->sessions, s);
	s->listed = false;
}

/* Its last state. Freed by the worker when the turn ends. */
static void
bury(struct session *s)
{
	if (s->state == SESSION_HANDSHAKE && s->listed)
		s->worker->handshake_count--;
	session_enter(s, SESSION_DEAD);
	unlist(s);
	if (s->tls != NULL)
		tls_stream_detach(s->tls);
	if (s->touched) {
		LL_DELETE2(s->worker->touched_sessions, s, next_touched);
		s->touched = false;
	}
	atomic_fetch_sub(&s->server->session_count, 1);
	LL_PREPEND2(s->worker->dead_sessions, s, next_dead);
	worker_touch(s->worker);
}

static void
leave_source(struct session *s, int status)
{
	struct source *src = s->source;

	if (src == NULL)
		return;
	s->source = NULL;
	s->payload = NULL; /* the frame begun is aborted: its slab is not ours any more */
	source_leave(src, s, status);
}

void
session_vanished(struct session *s, int status)
{
	if (s->state == SESSION_DEAD)
		return;
	if (s->state == SESSION_HANDSHAKE)
		tally_count(&s->server->tally.handshakes_failed);
	if (s->state == SESSION_HANDSHAKE && status == -EPROTO)
		log_notice(
		    "handshake_failed", "session=%" PRIu64 " peer=%s msg=\"%s\"", s->number, s->peer, tls_failure());
	else if (s->state != SESSION_CLOSING)
		log_info("session_lost", "session=%" PRIu64 " source=%s peer=%s state=%s reason=%s", s->number,
		    s->certificate.source.text[0] != '\0' ? s->certificate.source.text : "-", s->peer,
		    session_state_name(s->state), hf_status_name(status));
	leave_source(s, status);
	bury(s);
}

/* ---- sending ---- */

const unsigned char *
session_frame_bytes(const struct session *s)
{
	return s->own != NULL ? s->own : s->worker->frame;
}

void
session_send(struct session *s, enum frame_type type, size_t len, const void *payload, size_t payload_len)
{
	struct frame_header h = {.type = type, .message_bytes = (uint32_t)len, .payload_bytes = (uint32_t)payload_len};
	int r;

	if (s->state == SESSION_DEAD)
		return;
	frame_header_encode(&h, s->worker->out);
	r = tls_write(s->tls, s->worker->out, FRAME_HEADER_BYTES + len);
	if (r == 0 && payload_len > 0)
		r = tls_write(s->tls, payload, payload_len);
	if (r < 0)
		session_vanished(s, r); /* it takes nothing any more: a goodbye would not arrive either */
	else
		session_touch(s);
}

static void
send_goodbye(struct session *s, int status, const char *text, const char *cure)
{
	struct message_goodbye m = {
	    .status = status, .server_version_min = PROTOCOL_VERSION_MIN, .server_version_max = PROTOCOL_VERSION};
	size_t len;

	if (status != -HF_EVERSION)
		m.server_version_min = m.server_version_max = 0;
	text_set(m.text, sizeof m.text, text);
	text_set(m.cure, sizeof m.cure, cure);
	len = message_goodbye_encode(&m, s->worker->out + FRAME_HEADER_BYTES, FRAME_MESSAGE_MAX);
	session_send(s, FRAME_GOODBYE, len, NULL, 0);
}

/* ---- ending ---- */

/* What an administrator should find later, beside the log line. An old session that makes way is no event. */
static void
note_end(struct session *s, int status, const char *text, const char *cure)
{
	const struct id *source = s->certificate.source.text[0] != '\0' ? &s->certificate.source : NULL;

	tally_count_end(&s->server->tally, status);
	if (status == 0 || status == -HF_EFENCED || status == -HF_ESHUTDOWN)
		log_info("session_closed", "session=%" PRIu64 " source=%s peer=%s reason=%s msg=\"%s\"", s->number,
		    source != NULL ? source->text : "-", s->peer, status == 0 ? "GOODBYE" : hf_status_name(status),
		    text);
	else
		server_event(s->server, source, "session_refused", "%s (status %s, session %" PRIu64 " from %s)%s%s",
		    text, hf_status_name(status), s->number, s->peer, cure[0] != '\0' ? "; cure: " : "", cure);
}

void
session_end(struct session *s, int status, const char *text, const char *cure)
{
	if (s->state >= SESSION_CLOSING)
		return;
	note_end(s, status, text, cure);
	leave_source(s, status);
	if (s->state == SESSION_HANDSHAKE) {
		bury(s); /* it cannot hear us */
		return;
	}
	session_enter(s, SESSION_CLOSING);
	s->deadline_ns = clock_monotonic_ns() + CLOSE_DEADLINE_NS;
	free(s->own);
	s->own = NULL;
	send_goodbye(s, status, text, cure);
	if (s->state == SESSION_DEAD)
		return;
	tls_expect(s->tls, 0);
	tls_want_read(s->tls, true);
}

int
session_refuse(struct session *s, int status, const char *format, ...)
{
	char text[SENTENCE_BYTES];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	session_end(s, status, text, "");
	return -ECANCELED;
}

/* The goodbye is out: end our direction, and throw away what still comes until the peer ends its own. */
static void
step_closing(struct session *s)
{
	int r;

	if (!s->shut && tls_output_bytes(s->tls) == 0) {
		tls_shutdown(s->tls);
		s->shut = true;
	}
	r = tls_discard(s->tls, DISCARD_BUDGET_BYTES);
	if (r != -EAGAIN)
		bury(s);
}

/* ---- reading ---- */

int
session_keep_frame(struct session *s)
{
	size_t len = FRAME_HEADER_BYTES + s->header.message_bytes;

	if (s->own != NULL)
		return 0;
	s->own = malloc(len);
	if (s->own == NULL)
		return -ENOMEM;
	memcpy(s->own, s->worker->frame, FRAME_HEADER_BYTES + s->message_done);
	return 0;
}

/* Part of a record is a sign of life, too: on a crowded line, a whole one may take longer than silence may last. */
static void
note_heard(struct session *s)
{
	uint64_t bytes = tls_received_bytes(s->tls);

	if (bytes != s->heard_bytes)
		s->heard_ns = s->worker->now_ns;
	s->heard_bytes = bytes;
}

static int
read_some(struct session *s, void *buf, size_t size, size_t *done)
{
	size_t n;
	int r = tls_read(s->tls, buf, size, &n);

	note_heard(s);
	if (r < 0)
		return r;
	*done += n;
	s->budget -= n < s->budget ? n : s->budget;
	if (s->source != NULL)
		source_read(s->source, n);
	return 0;
}

static void
next_frame(struct session *s)
{
	free(s->own);
	s->own = NULL;
	s->payload = NULL;
	s->header_done = s->message_done = s->payload_done = 0;
	s->step = READ_HEADER;
}

static int
read_header(struct session *s)
{
	int r = 0;

	while (r == 0 && s->header_done < FRAME_HEADER_BYTES)
		r = read_some(
		    s, s->header_bytes + s->header_done, FRAME_HEADER_BYTES - s->header_done, &s->header_done);
	if (r < 0)
		return r;
	r = frame_header_decode(s->header_bytes, &s->header);
	if (r < 0)
		return session_refuse(s, r, "a frame's header is not one of this protocol");
	r = session_check_frame(s);
	if (r < 0)
		return r;
	memcpy(s->worker->frame, s->header_bytes, FRAME_HEADER_BYTES);
	s->step = READ_MESSAGE;
	return 0;
}

/* The frame is whole but for its payload: do what it says, or hold it. */
static int
handle(struct session *s)
{
	int r = session_handle_frame(s);

	if (r == -EAGAIN) {
		if (session_keep_frame(s) < 0)
			return session_refuse(s, -ENOMEM, "no memory for a frame");
		s->step = READ_HELD;
		tls_want_read(s->tls, false);
		return -EAGAIN;
	}
	if (r < 0 || s->state >= SESSION_CLOSING)
		return -ECANCELED;
	if (s->header.payload_bytes > 0)
		s->step = READ_PAYLOAD;
	else
		next_frame(s);
	return 0;
}

static int
read_message(struct session *s)
{
	int r = 0;

	while (r == 0 && s->message_done < s->header.message_bytes) {
		unsigned char *frame = s->own != NULL ? s->own : s->worker->frame;

		r = read_some(s, frame + FRAME_HEADER_BYTES + s->message_done,
		    s->header.message_bytes - s->message_done, &s->message_done);
	}
	if (r == -EAGAIN && session_keep_frame(s) < 0)
		return session_refuse(s, -ENOMEM, "no memory for a frame");
	return r < 0 ? r : handle(s);
}

static int
read_payload(struct session *s)
{
	int r = 0;

	while (r == 0 && s->payload_done < s->header.payload_bytes && s->budget > 0)
		r = read_some(
		    s, s->payload + s->payload_done, s->header.payload_bytes - s->payload_done, &s->payload_done);
	if (r < 0 || s->payload_done < s->header.payload_bytes)
		return r;
	r = session_finish_payload(s);
	if (r == 0)
		next_frame(s);
	return r;
}

static int
read_step(struct session *s)
{
	switch (s->step) {
	case READ_HEADER: return read_header(s);
	case READ_MESSAGE: return read_message(s);
	case READ_PAYLOAD: return read_payload(s);
	case READ_HELD: return -EAGAIN;
	}
	return -EAGAIN;
}

/* States in which the protocol is read. */
static bool
is_reading(const struct session *s)
{
	return s->state == SESSION_HELLO || (s->state >= SESSION_DECLARE && s->state <= SESSION_STREAMING);
}

/* Of a payload, a little is as good as nothing; of anything else, every byte may matter. */
static void
expect_more(struct session *s)
{
	tls_expect(s->tls, s->step == READ_PAYLOAD ? s->header.payload_bytes - s->payload_done : 0);
}

/* Its throttle says: not now. */
static bool
must_rest(struct session *s)
{
	int64_t wait_ns = s->source != NULL ? source_read_wait(s->source, &s->budget) : 0;

	if (wait_ns > 0)
		tls_read_after(s->tls, wait_ns);
	return wait_ns > 0;
}

static void
read_burst(struct session *s)
{
	int r = 0;

	s->budget = READ_BUDGET_BYTES;
	if (must_rest(s)) {
		source_flush(s->source); /* a frame that was held may be whole now */
		return;
	}
	while (r == 0 && s->budget > 0 && is_reading(s))
		r = read_step(s);
	if (s->source != NULL)
		source_flush(s->source);
	if (s->state == SESSION_CLOSING || s->state == SESSION_DEAD || !is_reading(s))
		return;
	if (r == 0)
		tls_read_later(s->tls);
	else if (r == -EAGAIN)
		expect_more(s);
	else if (r == -EPROTO)
		session_refuse(s, -HF_EPROTOCOL, "TLS failed: %s", tls_failure());
	else if (r != -ECANCELED)
		session_vanished(s, r);
}

void
session_resume(struct session *s)
{
	int r;

	if (s->step != READ_HELD || !is_reading(s))
		return;
	r = handle(s);
	if (r < 0)
		return;
	tls_want_read(s->tls, true);
	read_burst(s);
}

/* ---- events ---- */

static void
step_handshake(struct session *s)
{
	int r = tls_handshake(s->tls);

	if (r == -EAGAIN)
		return;
	if (r < 0) {
		session_vanished(s, r);
		return;
	}
	s->worker->handshake_count--;
	tally_count(&s->server->tally.handshakes);
	tls_want_read(s->tls, false); /* not a byte of the protocol before we know who it is */
	session_enter(s, SESSION_AUTHORISE);
	session_authorise(s);
}

static void
on_stream(void *arg, unsigned what)
{
	struct session *s = session_from_arg(arg);

	if ((what & TLS_BROKEN) != 0) {
		session_vanished(s, tls_status(s->tls));
		return;
	}
	if ((what & TLS_DRAINED) != 0 && s->source != NULL)
		source_output_drained(s->source);
	if (s->state == SESSION_HANDSHAKE)
		step_handshake(s);
	else if (s->state == SESSION_CLOSING)
		step_closing(s);
	else if ((what & TLS_READABLE) != 0)
		read_burst(s);
}

static void
set_socket_options(int fd)
{
	int on = 1;

	/* Acknowledgements are small and wanted now. A peer whose network went away is found by heartbeats. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Too many strangers at the door: the one that has stood there longest goes. */
static void
drop_oldest_handshake(struct worker *w)
{
	struct session *s;

	for (s = w->sessions; s != NULL; s = s->next)
		if (s->state == SESSION_HANDSHAKE) {
			log_notice("handshake_dropped",
			    "session=%" PRIu64 " peer=%s msg=\"too many connections shake hands\"", s->number, s->peer);
			bury(s);
			return;
		}
}

void
session_begin(struct session *s, struct worker *w)
{
	int r;

	s->worker = w;
	s->heard_ns = w->now_ns;
	s->deadline_ns = clock_monotonic_ns() + HANDSHAKE_DEADLINE_NS;
	if (w->handshake_count >= HANDSHAKES_MAX)
		drop_oldest_handshake(w);
	DL_APPEND(w->sessions, s);
	s->listed = true;
	w->handshake_count++;
	set_socket_options(s->fd);
	r = tls_stream_create(w->ctx, s->fd, &s->tls);
	if (r == 0)
		r = tls_stream_attach(s->tls, w->base, on_stream, s);
	if (r < 0 || w->draining)
		session_vanished(s, r < 0 ? r : -HF_ESHUTDOWN);
}

/* ---- handing over ---- */

static void
on_handed_over(struct mail *mail)
{
	struct session *s = session_from_mail(mail);
	struct worker *w = s->worker;
	struct source *src = worker_find_source(w, &s->certificate.source);

	DL_APPEND(w->sessions, s);
	s->listed = true;
	s->heard_ns = w->now_ns;
	if (tls_stream_attach(s->tls, w->base, on_stream, s) < 0)
		session_vanished(s, -ENOMEM);
	else if (w->draining)
		session_end(s, -HF_ESHUTDOWN, "the server is shutting down", "");
	else if (src == NULL)
		session_end(s, -HF_EREVOKED, "this server does not know the source", "");
	else
		source_queue_session(src, s);
}

void
session_hand_over(struct session *s)
{
	session_enter(s, SESSION_QUEUED);
	tls_stream_detach(s->tls);
	unlist(s);
	if (s->touched) {
		LL_DELETE2(s->worker->touched_sessions, s, next_touched);
		s->touched = false;
	}
	s->worker = server_owner(s->server, &s->certificate.source);
	s->mail.deliver = on_handed_over;
	mailbox_post(s->worker->mailbox, &s->mail);
}

/* ---- turn and tick ---- */

void
session_touch(struct session *s)
{
	if (s->touched || s->state == SESSION_DEAD)
		return;
	s->touched = true;
	LL_PREPEND2(s->worker->touched_sessions, s, next_touched);
	worker_touch(s->worker);
}

void
session_turn_end(struct session *s)
{
	int r;

	if (s->state == SESSION_STREAMING)
		session_send_ack(s);
	if (s->state == SESSION_DEAD)
		return;
	r = tls_flush(s->tls);
	if (r < 0 && r != -EAGAIN)
		session_vanished(s, r);
	else if (s->state == SESSION_CLOSING && r == 0)
		step_closing(s);
}

int64_t
session_silence_ns(const struct session *s)
{
	return 3 * s->interval_ns > SILENCE_MIN_NS ? 3 * s->interval_ns : SILENCE_MIN_NS;
}

static void
tick_live(struct session *s, int64_t now_ns)
{
	if (now_ns >= s->next_heartbeat_ns) {
		s->next_heartbeat_ns = now_ns + s->interval_ns;
		session_send_heartbeat(s);
	}
	if (s->state == SESSION_DEAD)
		return;
	if (s->step == READ_HELD)
		s->heard_ns = now_ns; /* we do not listen: that is not the peer's silence */
	if (now_ns - s->heard_ns > TICK_NS)
		tls_expect(s->tls, 0); /* slow, but not silent: what trickles in counts as heard */
	if (now_ns - s->heard_ns > session_silence_ns(s) &&
	    !worker_stood_still(s->worker)) /* it may be us who did not listen */
		session_refuse(s, -HF_ESILENT, "nothing was heard of the agent for %.1f s",
		    (double)(now_ns - s->heard_ns) / (double)NS_PER_SECOND);
	else if (s->state == SESSION_STREAMING)
		session_ask_renewal(s);
}

void
session_tick(struct session *s, int64_t now_ns)
{
	if (s->state >= SESSION_DECLARE && s->state <= SESSION_STREAMING)
		tick_live(s, now_ns);
	else if (s->deadline_ns != 0 && now_ns > s->deadline_ns && s->state <= SESSION_HELLO)
		session_vanished(s, -ETIMEDOUT);
	else if (s->state == SESSION_CLOSING && now_ns > s->deadline_ns)
		bury(s);
}
