/* SPDX-License-Identifier: Apache-2.0 */
/* session.c: the life of one session with the server.
 *
 *	GREETING   TLS, HELLO -> WELCOME
 *	DECLARING  DECLARE -> VOLUMES, then START as soon as the caller has a stream
 *	STREAMING  data, checkpoints, compares; acknowledgements and credit come back
 *
 * After a cut the next session repeats the last DECLARE by itself, because the numbers in frames
 * that wait to be sent again must still mean the same volumes. Then it resumes the stream, if
 * Welcome names it at a point we have sent and whose chain hash is ours. Everything that was asked
 * and not answered is asked again. If any of it does not fit, the stream is lost: the session stays
 * in DECLARING, heartbeats go on, and the caller begins a new stream when it has noticed.
 *
 * Failures all end in finish_session() with a code and a sentence. What was not acknowledged is
 * still queued in the link, so nothing needs undoing; only how long to wait before the next try
 * depends on the code (dial.c). */
#include "agent/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/common/log.h"
#include "proto/common/status.h"

enum {
	TRANSMIT_BYTES = 1024 * 1024, /* written before the socket is read again */
	RECEIVE_FRAMES = 64,          /* read before it is written again */
};

/* A SYN goes out at 0 and at 1 s of a try, and the next try follows: no more than about a second
 * passes without one, so a path that comes back is noticed within two. A round trip must be
 * shorter. */
#define CONNECT_TIMEOUT_NS  (1500 * NS_PER_MS)
#define GREETING_TIMEOUT_NS (5000 * NS_PER_MS) /* doubles: a server may have much to recover */
#define SILENCE_NS_MIN      (5000 * NS_PER_MS)
#define LOOK_NS             (250 * NS_PER_MS)
#define STALL_NS            (2000 * NS_PER_MS)
#define GOODBYE_NS          (1000 * NS_PER_MS)
#define LIVED_NS            (10 * NS_PER_SECOND) /* a session that long was no failed try */

void
session_end(struct session *s, int code, const char *text)
{
	if (s->why.code != 0)
		return;
	hf_error_say(&s->why, code, "%s", text);
	s->own_end = true;
}

static void
end_with_wire(struct session *s)
{
	if (s->why.code == 0)
		s->why = *wire_error(s->wire);
}

/* ---- reading ---- */

/* True if there may be more to read at once; poll(2) would not tell what OpenSSL holds. */
static bool
receive(struct session *s)
{
	for (int i = 0; i < RECEIVE_FRAMES && s->why.code == 0; i++) {
		struct wire_frame f;

		switch (wire_read(s->wire, &f)) {
		case WIRE_WAIT: return false;
		case WIRE_DEAD: end_with_wire(s); return false;
		case WIRE_DONE: break;
		}
		pthread_mutex_lock(&s->l->lock);
		session_hear(s, &f);
		pthread_mutex_unlock(&s->l->lock);
	}
	return true;
}

/* ---- writing ---- */

static bool
next_control(struct session *s)
{
	struct buffer empty = s->writing;

	if (s->waiting.len == 0)
		return false;
	s->writing = s->waiting;
	s->waiting = empty;
	s->waiting.len = 0;
	s->piece = s->writing.bytes;
	s->piece_len = s->writing.len;
	return true;
}

/* The next stream frame, if there is one, none is held back, and the credit covers all of it. */
static bool
next_stream_frame(struct session *s)
{
	struct link *l = s->l;
	struct retained *f;

	pthread_mutex_lock(&l->lock);
	f = l->stream.id == s->stream_id ? l->stream.next_send : NULL;
	if (f != NULL && (s->held || s->stream_bytes + f->len > s->credit_bytes))
		f = NULL;
	if (f != NULL) {
		s->stream_bytes += f->len;
		s->frame = f;
		s->piece = f->bytes;
		s->piece_len = f->len;
		l->stream.next_send = STAILQ_NEXT(f, next);
	}
	pthread_mutex_unlock(&l->lock);
	return f != NULL;
}

static bool
next_piece(struct session *s)
{
	s->piece_written = 0;
	return next_control(s) || (s->state == SESSION_STREAMING && next_stream_frame(s));
}

static void
finish_piece(struct session *s)
{
	struct link *l = s->l;
	struct stream *st = &l->stream;

	s->piece = NULL;
	if (s->frame == NULL)
		return;
	pthread_mutex_lock(&l->lock);
	l->status.sent_bytes += s->frame->len;
	if (st->id == s->stream_id) {
		if (s->frame->sequence <= st->sent_sequence)
			l->status.resent_bytes += s->frame->len;
		else
			st->sent_sequence = s->frame->sequence;
		s->sent_sequence = s->frame->sequence;
	}
	retained_free_all(&l->trash); /* s->frame may be in it, and is done */
	pthread_mutex_unlock(&l->lock);
	s->frame = NULL;
}

/* When the server refuses us and closes, our write fails first, but its goodbye lies there to be
 * read. */
static void
end_with_last_words(struct session *s)
{
	while (receive(s))
		;
	end_with_wire(s);
}

/* True if there is more to write at once. */
static bool
transmit(struct session *s)
{
	size_t written = 0, n;

	while (written < TRANSMIT_BYTES && s->why.code == 0) {
		if (s->piece == NULL && !next_piece(s))
			return false;
		switch (wire_write(s->wire, s->piece + s->piece_written, s->piece_len - s->piece_written, &n)) {
		case WIRE_WAIT: return false;
		case WIRE_DEAD: end_with_last_words(s); return false;
		case WIRE_DONE: break;
		}
		written += n;
		s->piece_written += n;
		if (s->piece_written == s->piece_len)
			finish_piece(s);
	}
	return true;
}

/* ---- what holds everything up ---- */

/* What the socket took long ago and the peer's TCP has not: more than a busy path ever has on its way for an instant.
 */
enum { UNDER_WAY_BYTES = 64 * 1024 };

/* What the thread is about to wait for: where that time is counted, or NULL if nothing waits to be sent. Lock held. */
static uint64_t *
weigh_wait(const struct session *s)
{
	struct link *l = s->l;
	bool starved = l->stream.next_send != NULL || (l->awaiting > 0 && l->stream.retained_bytes > 0);

	if (s->state != SESSION_STREAMING || (s->piece == NULL && !starved))
		return NULL;
	if (s->piece != NULL || wire_unacknowledged(s->wire) > UNDER_WAY_BYTES)
		return &l->waits.network_ns;
	return &l->waits.server_ns;
}

/* Sleep until there is something to do, and count the time before and meanwhile to what it went to. */
static void
rest(struct session *s, int64_t deadline_ns)
{
	struct link *l = s->l;
	int64_t begun_ns = clock_monotonic_ns(), ended_ns;
	uint64_t *waited;

	pthread_mutex_lock(&l->lock);
	waited = weigh_wait(s);
	pthread_mutex_unlock(&l->lock);
	wire_poll(s->wire, l->wake_fd, deadline_ns);
	ended_ns = clock_monotonic_ns();
	pthread_mutex_lock(&l->lock);
	l->waits.tls_ns += (uint64_t)(begun_ns - s->weighed_ns);
	if (waited != NULL)
		*waited += (uint64_t)(ended_ns - begun_ns);
	pthread_mutex_unlock(&l->lock);
	s->weighed_ns = ended_ns;
}

/* ---- the life of a session ---- */

static int64_t
silence_ns(const struct session *s)
{
	return 3 * s->heartbeat_ns > SILENCE_NS_MIN ? 3 * s->heartbeat_ns : SILENCE_NS_MIN;
}

static int64_t
session_deadline(struct session *s)
{
	int64_t deadline_ns = s->heard_ns + silence_ns(s);

	if (s->state == SESSION_GREETING)
		return s->deadline_ns;
	if (s->next_heartbeat_ns < deadline_ns)
		deadline_ns = s->next_heartbeat_ns;
	if (s->next_look_ns < deadline_ns)
		deadline_ns = s->next_look_ns;
	pthread_mutex_lock(&s->l->lock);
	if (s->state == SESSION_STREAMING && s->l->report_wanted && s->next_report_ns < deadline_ns)
		deadline_ns = s->next_report_ns;
	pthread_mutex_unlock(&s->l->lock);
	return deadline_ns;
}

/* TCP alone probes a cut path ever more seldom, at 0.2, 0.6, 1.4, 3, 6 s: with gaps in which its return
 * goes unnoticed for longer than our two seconds. So before the gap becomes too long we hang up and
 * dial, once a second (dial.c). Nothing is lost by it: we resume. */
static void
check_path(struct session *s, int64_t now_ns)
{
	if (now_ns < s->next_look_ns)
		return;
	s->next_look_ns = now_ns + LOOK_NS;
	if (!wire_is_stalled(s->wire))
		s->stalled_ns = 0;
	else if (s->stalled_ns == 0)
		s->stalled_ns = now_ns;
	else if (now_ns - s->stalled_ns >= STALL_NS)
		session_end(s, -ETIMEDOUT, "nothing we send arrives; the path to the server seems cut");
}

static void
check_deadlines(struct session *s)
{
	int64_t now_ns = clock_monotonic_ns();

	if (s->received_bytes != wire_received(s->wire))
		s->heard_ns = now_ns;
	s->received_bytes = wire_received(s->wire);
	if (s->state == SESSION_GREETING && now_ns >= s->deadline_ns)
		session_end(s, -ETIMEDOUT, "the server accepted the connection but did not say Welcome in time");
	if (s->state != SESSION_GREETING && now_ns >= s->heard_ns + silence_ns(s))
		session_end(s, -HF_ESILENT, "the server was silent for too long");
	check_path(s, now_ns);
}

static void
drain_wake(struct link *l)
{
	uint64_t count;

	(void)!read(l->wake_fd, &count, sizeof count); /* EAGAIN: nothing was noted */
}

/* A peer that does not hear us, or is not heard, is told nothing: were it to come late, the server would take the cut
 * for good order. */
static bool
can_take_leave(const struct session *s)
{
	return s->own_end && s->welcomed_ns != 0 && s->why.code != -ETIMEDOUT && s->why.code != -HF_ESILENT;
}

/* Write what is queued and a goodbye: for as long as a second when we stop, else as far as it goes at once. */
static void
take_leave(struct session *s)
{
	const struct hf_error why = s->why; /* whatever becomes of the goodbye */
	int64_t deadline_ns = clock_monotonic_ns() + (why.code == -ECANCELED ? GOODBYE_NS : 0);

	s->why.code = 0;
	s->stream_id = 0; /* no further data frames */
	s->state = SESSION_DECLARING;
	session_say_goodbye(s, &why);
	do {
		(void)transmit(s);
		if (s->piece == NULL && s->waiting.len == 0)
			break;
		wire_poll(s->wire, -1, deadline_ns);
	} while (s->why.code == 0 && clock_monotonic_ns() < deadline_ns);
	s->why = why;
}

static void
converse(struct session *s)
{
	s->heard_ns = s->weighed_ns = clock_monotonic_ns();
	session_say_hello(s);
	while (s->why.code == 0 && !atomic_load(&s->l->stopping)) {
		bool more;

		/* Heard before said: what came may be credit, or an answer to act on. */
		more = receive(s);
		if (s->why.code == 0)
			session_say(s);
		more |= transmit(s);
		check_deadlines(s);
		if (s->why.code == 0)
			rest(s, more ? 0 : session_deadline(s));
		drain_wake(s->l);
	}
	session_end(s, -ECANCELED, "stopped");
	if (can_take_leave(s))
		take_leave(s);
}

/* TCP and TLS. True if the session can begin. */
static bool
shake(struct session *s)
{
	int64_t tcp_deadline_ns = clock_monotonic_ns() + CONNECT_TIMEOUT_NS;

	while (!atomic_load(&s->l->stopping)) {
		int64_t deadline_ns = wire_connected(s->wire) ? s->deadline_ns : tcp_deadline_ns;

		switch (wire_shake(s->wire)) {
		case WIRE_DONE: return true;
		case WIRE_DEAD: end_with_wire(s); return false;
		case WIRE_WAIT: break;
		}
		if (clock_monotonic_ns() >= deadline_ns) {
			session_end(
			    s, -ETIMEDOUT, wire_connected(s->wire) ? "TLS handshake: timed out" : "connect: timed out");
			return false;
		}
		wire_poll(s->wire, s->l->wake_fd, deadline_ns);
		drain_wake(s->l);
	}
	session_end(s, -ECANCELED, "stopped");
	return false;
}

/* What was asked here and not answered is asked again by the next session. */
static void
finish_session(struct session *s)
{
	struct link *l = s->l;

	link_note_failure(l, &s->why, s->welcomed_ns != 0);
	pthread_mutex_lock(&l->lock);
	l->compare_asked = l->compare_answered;
	if (l->recent_state == RECENT_ASKED)
		l->recent_state = RECENT_WANTED;
	retained_free_all(&l->trash);
	link_changed(l);
	pthread_mutex_unlock(&l->lock);
	wire_close(s->wire);
	free(s->waiting.bytes);
	free(s->writing.bytes);
}

struct session_outcome
session_run(struct link *l, const struct address_resolved *to, int failures)
{
	struct session *s = calloc(1, sizeof *s);
	struct session_outcome o = {.code = -ENOMEM};

	if (s == NULL)
		return o;
	s->l = l;
	s->deadline_ns = clock_monotonic_ns() + (GREETING_TIMEOUT_NS << (failures < 3 ? failures : 3));
	if (wire_open(to, l->context, l->key_update_bytes, &s->wire, &s->why) == 0 && shake(s))
		converse(s);
	o.code = s->why.code;
	o.welcomed = s->welcomed_ns != 0;
	o.progressed = s->progressed || (o.welcomed && clock_monotonic_ns() - s->welcomed_ns >= LIVED_NS);
	o.answered = s->wire != NULL && wire_connected(s->wire);
	finish_session(s);
	free(s);
	return o;
}
