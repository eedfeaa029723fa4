/* SPDX-License-Identifier: Apache-2.0 */
/* session_say.c: from what is noted in the link to control frames. Everything is decided anew at
 * each round of the loop from the state of link and session, so no event can be missed and no order
 * of events is special. */
#include "agent/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/fetch.h"
#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/text.h"

#define REPORT_NS NS_PER_SECOND

/* Make room for one more frame; NULL when there is no memory, and then the session ends. */
static unsigned char *
buffer_room(struct session *s, size_t need)
{
	struct buffer *b = &s->waiting;
	unsigned char *bytes;

	if (b->len + need <= b->capacity)
		return b->bytes + b->len;
	bytes = realloc(b->bytes, b->len + need);
	if (bytes == NULL) {
		session_end(s, -ENOMEM, "no memory for a control frame");
		return NULL;
	}
	b->bytes = bytes;
	b->capacity = b->len + need;
	return b->bytes + b->len;
}

static void
put_frame(struct session *s, enum frame_type type, size_t message_bytes)
{
	struct frame_header h = {.type = type, .message_bytes = (uint32_t)message_bytes};

	frame_header_encode(&h, s->waiting.bytes + s->waiting.len);
	s->waiting.len += FRAME_HEADER_BYTES + message_bytes;
}

/* Queue a control frame: X(HELLO, hello) gives send_hello(s, &m). */
#define SENDER(TYPE, name)                                                                             \
	static void send_##name(struct session *s, const struct message_##name *m)                     \
	{                                                                                              \
		unsigned char *room = buffer_room(s, FRAME_HEADER_BYTES + FRAME_MESSAGE_MAX);          \
                                                                                                       \
		if (room != NULL)                                                                      \
			put_frame(s, FRAME_##TYPE,                                                     \
			    message_##name##_encode(m, room + FRAME_HEADER_BYTES, FRAME_MESSAGE_MAX)); \
	}
SENDER(HELLO, hello)
SENDER(DECLARE, declare)
SENDER(START, start)
SENDER(HEARTBEAT, heartbeat)
SENDER(COMPARE, compare)
SENDER(RECENT, recent)
SENDER(RENEW, renew)
SENDER(REPORT, report)
SENDER(NOTICE, notice)
SENDER(GOODBYE, goodbye)
SENDER(FETCHED, fetched)
#undef SENDER

void
session_say_hello(struct session *s)
{
	struct link *l = s->l;
	struct message_hello m = {
	    .protocol_version = PROTOCOL_VERSION,
	    .protocol_version_min = PROTOCOL_VERSION_MIN,
	    .role = MESSAGE_ROLE_AGENT,
	    .incarnation = l->incarnation,
	    .hints = l->hints,
	    .compressions = l->compressions,
	    .clock_ns = clock_real_ns(),
	    .features = MESSAGE_FETCH | MESSAGE_CA_CHANGE,
	};

	memcpy(m.installation_nonce, l->nonce, sizeof m.installation_nonce);
	pthread_mutex_lock(&l->lock);
	m.last_stream_id = l->last_stream_id;
	m.last_acked_sequence = l->last_acked_sequence;
	m.earlier = l->earlier;
	pthread_mutex_unlock(&l->lock);
	send_hello(s, &m);
}

/* ---- what there is to say; lock held ---- */

static void
declare(struct session *s, const struct message_declare *m, bool checks)
{
	send_declare(s, m);
	s->declare_asked = true;
	s->declare_checks = checks;
}

/* A new Declare waits until all before it is durable: a frame must not be read against volumes
 * declared after it. */
static void
declare_if_due(struct session *s)
{
	struct link *l = s->l;
	bool active = l->stream.state == STREAM_ACTIVE;

	if (s->declare_asked)
		return;
	if (s->state == SESSION_STREAMING) {
		if (l->declare_wanted && l->stream.retained_bytes == 0)
			declare(s, &l->wanted, false);
		return;
	}
	if (l->declare_wanted && (!active || !l->stream.begun))
		declare(s, &l->wanted, false);
	else if (!s->declared && active && l->have_declared)
		declare(s, &l->declared, true);
}

bool
session_can_resume(const struct session *s)
{
	const struct stream *st = &s->l->stream;
	const struct message_welcome *w = &s->welcome;
	const struct retained *f;

	if (!st->begun || w->stream_id != st->id || w->durable_sequence < st->acked_sequence ||
	    w->durable_sequence > st->sent_sequence)
		return false;
	if (w->durable_sequence == st->acked_sequence)
		return w->chain == st->acked_chain;
	for (f = STAILQ_FIRST(&st->retained); f != NULL; f = STAILQ_NEXT(f, next))
		if (f->sequence == w->durable_sequence)
			return w->chain == f->chain;
	return false;
}

/* Whether the stream may begin here: it never began, or nothing of it, and of nobody else since,
 * became durable. */
static bool
can_begin(const struct stream *st, const struct message_welcome *w)
{
	return !st->begun ||
	       (st->acked_sequence == 0 && w->stream_id == st->prior_id && w->durable_sequence == st->prior_sequence);
}

/* Frames are sent again byte for byte: a compression that this session did not negotiate cannot be.
 */
static bool
frames_allowed(const struct stream *st, const struct message_welcome *w)
{
	const struct retained *f;

	for (f = STAILQ_FIRST(&st->retained); f != NULL; f = STAILQ_NEXT(f, next))
		if ((f->flags & ~w->compression) != 0)
			return false;
	return true;
}

static void
start(struct session *s, bool resume)
{
	struct link *l = s->l;
	struct stream *st = &l->stream;
	struct message_start m = {.resume = resume, .stream_id = st->id};

	st->next_send = NULL; /* stream_acknowledge() may free any frame now */
	s->progressed = resume && s->welcome.durable_sequence > st->acked_sequence;
	if (resume)
		stream_acknowledge(st, s->welcome.durable_sequence);
	else if (!st->begun) {
		st->prior_id = s->welcome.stream_id;
		st->prior_sequence = s->welcome.durable_sequence;
	}
	st->next_send = STAILQ_FIRST(&st->retained);
	st->begun = true;
	s->sent_sequence = st->acked_sequence;
	s->stream_id = st->id;
	s->state = SESSION_STREAMING;
	send_start(s, &m);
	log_info("stream_started", "stream=%016llx resume=%d sequence=%llu", (unsigned long long)st->id, resume,
	    (unsigned long long)st->acked_sequence);
	link_changed(l);
}

static void
start_if_due(struct session *s)
{
	struct link *l = s->l;
	struct stream *st = &l->stream;

	if (s->state == SESSION_STREAMING && st->id != s->stream_id)
		session_end(s, -ECONNABORTED, "reconnecting, to begin a new stream");
	if (s->state != SESSION_DECLARING || !s->declared || s->declare_asked || st->state != STREAM_ACTIVE)
		return;
	if (!frames_allowed(st, &s->welcome))
		stream_lose(l, "the server no longer takes the compression of what waits to be sent");
	else if (session_can_resume(s))
		start(s, true);
	else if (can_begin(st, &s->welcome))
		start(s, false);
	else
		stream_lose(l, "the server does not hold what we sent, or another session went on");
}

static void
ask_if_due(struct session *s)
{
	struct link *l = s->l;

	if (s->state != SESSION_STREAMING || s->why.code != 0)
		return;
	for (; l->compare_asked < l->compare_count; l->compare_asked++)
		send_compare(s, &l->compares[(l->compare_first + l->compare_asked) % LINK_COMPARES_MAX].request);
	if (l->recent_state == RECENT_WANTED) {
		send_recent(s, &l->recent);
		l->recent_state = RECENT_ASKED;
	}
}

static void
report_if_due(struct session *s, int64_t now_ns)
{
	struct link *l = s->l;

	for (; l->notice_count > 0; l->notice_count--) {
		send_notice(s, &l->notices[l->notice_first]);
		l->notice_first = (l->notice_first + 1) % LINK_NOTICES_MAX;
	}
	if (s->state == SESSION_STREAMING && l->report_wanted && now_ns >= s->next_report_ns) {
		send_report(s, &l->report);
		l->report_wanted = false;
		s->next_report_ns = now_ns + REPORT_NS;
	}
}

static void
heartbeat_if_due(struct session *s, int64_t now_ns)
{
	struct link *l = s->l;
	struct message_heartbeat m = {
	    .clock_ns = clock_real_ns(),
	    .echo_clock_ns = s->peer_clock_ns,
	    .echo_hold_ns = s->peer_clock_ns != 0 ? now_ns - s->peer_clock_heard_ns : 0,
	    .backlog_bytes = link_backlog(l),
	    .unchanged_until_ns = l->unchanged_until_ns,
	    .waits = l->waits,
	    .backlog_count = l->backlog_count,
	};

	if (now_ns < s->next_heartbeat_ns)
		return;
	if (l->source_wait_ns != 0)
		m.waits.source_ns += (uint64_t)(clock_monotonic_ns() - l->source_wait_ns);
	memcpy(m.backlogs, l->backlogs, l->backlog_count * sizeof *l->backlogs);
	send_heartbeat(s, &m);
	s->next_heartbeat_ns = now_ns + s->heartbeat_ns;
}

/* Where the disk of a volume is today; false if it is none of ours. Lock held. */
static bool
find_device(const struct link *l, uint32_t volume, struct message_declared_volume *ret_device)
{
	for (size_t i = 0; l->have_declared && i < l->volumes.count; i++)
		if (l->volumes.volumes[i].volume == volume && l->volumes.volumes[i].state == VOLUME_OK) {
			*ret_device = l->declared.volumes[i];
			return true;
		}
	return false;
}

/* A block the server asked for. It is read without the lock, for a disk may take its time. */
static void
fetch_if_asked(struct session *s)
{
	struct message_fetched m = {.request_id = s->fetch.request_id};
	struct message_declared_volume device;
	bool known;

	if (!s->fetch_asked)
		return;
	s->fetch_asked = false;
	pthread_mutex_lock(&s->l->lock);
	known = find_device(s->l, s->fetch.volume, &device);
	pthread_mutex_unlock(&s->l->lock);
	m.status = known ? fetch_block(device.device_name, device.size_bytes, s->fetch.block, m.block) : -HF_EVOLUME;
	send_fetched(s, &m);
}

/* Turn everything noted in the link into control frames. */
void
session_say(struct session *s)
{
	int64_t now_ns = clock_monotonic_ns();

	if (s->state == SESSION_GREETING)
		return;
	fetch_if_asked(s);
	pthread_mutex_lock(&s->l->lock);
	declare_if_due(s);
	start_if_due(s);
	ask_if_due(s);
	report_if_due(s, now_ns);
	heartbeat_if_due(s, now_ns);
	pthread_mutex_unlock(&s->l->lock);
}

void
session_say_renew(struct session *s, const struct message_renew *m)
{
	send_renew(s, m);
}

void
session_say_goodbye(struct session *s, const struct hf_error *why)
{
	struct message_goodbye m = {.text = "the agent was stopped"};

	if (why->code != -ECANCELED) {
		m.status = why->code;
		text_set(m.text, sizeof m.text, why->text);
	}
	send_goodbye(s, &m);
}
