/* SPDX-License-Identifier: Apache-2.0 */
/* session_hear.c: what each frame of the server means. A frame that breaks the protocol ends the
 * session; nothing it says is believed beyond what we sent and asked for on this session. */
#include "agent/session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "agent/tls.h"
#include "proto/common/bytes.h"
#include "proto/common/log.h"
#include "proto/common/status.h"

static bool
decoded(struct session *s, int r, const char *what)
{
	struct hf_error err;

	if (r < 0) {
		hf_error_set(&err, r, "the server sent a bad %s", what);
		session_end(s, r, err.text);
	}
	return r == 0;
}

static void
on_welcome(struct session *s, const struct wire_frame *f)
{
	struct link *l = s->l;
	struct message_welcome *w = &s->welcome;
	int64_t now_ns = clock_monotonic_ns();

	if (s->state != SESSION_GREETING) {
		session_end(s, -HF_EPROTOCOL, "a second Welcome");
		return;
	}
	if (!decoded(s, message_welcome_decode(f->message, f->header.message_bytes, w), "Welcome"))
		return;
	if (w->protocol_version < PROTOCOL_VERSION_MIN || w->protocol_version > PROTOCOL_VERSION) {
		session_end(
		    s, -HF_EVERSION, "the server speaks a protocol version this agent does not; upgrade the agent");
		return;
	}
	s->state = SESSION_DECLARING;
	s->welcomed_ns = now_ns;
	s->heartbeat_ns = w->heartbeat_interval_ms * NS_PER_MS;
	if (s->heartbeat_ns < 100 * NS_PER_MS || s->heartbeat_ns > 600 * NS_PER_SECOND)
		s->heartbeat_ns = NS_PER_SECOND; /* nonsense would make us spin, or fall silent */
	s->next_heartbeat_ns = now_ns;
	l->digest_seed = w->digest_seed;
	l->compression = w->compression & l->compressions;
	l->status.connected = true;
	l->status.connected_since_ns = clock_real_ns();
	l->status.disconnected_since_ns = 0;
	l->status.last_error[0] = '\0';
	l->status.last_code = 0;
	memcpy(l->status.source_id, w->source_id.text, sizeof l->status.source_id);
	log_notice("connected", "source=%s server=%s session=%llx", w->source_id.text, l->status.server,
	    (unsigned long long)w->session_id);
}

static bool
same_volumes(const struct message_volumes *a, const struct message_volumes *b, bool frontiers_too)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		const struct message_volume_answer *x = &a->volumes[i], *y = &b->volumes[i];

		if (strcmp(x->identity, y->identity) != 0 || x->volume != y->volume || x->state != y->state ||
		    (frontiers_too && x->frontier_blocks != y->frontier_blocks))
			return false;
	}
	return true;
}

static void
accept_volumes(struct session *s)
{
	struct link *l = s->l;

	if (s->declare_checks) {
		bool fresh = !session_can_resume(s);

		if (!same_volumes(&s->answer, &l->volumes, fresh))
			stream_lose(l, "the server numbers the volumes otherwise, or is further, than before");
		return;
	}
	if (!l->declare_wanted)
		return; /* the caller was stopped meanwhile */
	l->declared = l->wanted;
	l->have_declared = true;
	l->volumes = s->answer;
	l->declare_wanted = false;
	link_changed(l);
}

static void
on_volumes(struct session *s, const struct wire_frame *f)
{
	const struct message_declare *asked = s->declare_checks ? &s->l->declared : &s->l->wanted;

	if (!s->declare_asked) {
		session_end(s, -HF_EPROTOCOL, "Volumes that nobody asked for");
		return;
	}
	if (!decoded(s, message_volumes_decode(f->message, f->header.message_bytes, &s->answer), "Volumes"))
		return;
	if (s->answer.count != asked->count) {
		session_end(s, -HF_EPROTOCOL, "the server answered for another number of volumes");
		return;
	}
	s->declare_asked = false;
	s->declared = true;
	accept_volumes(s);
}

static void
on_ack(struct session *s, const struct wire_frame *f)
{
	struct link *l = s->l;
	struct message_ack m;

	if (!decoded(s, message_ack_decode(f->message, f->header.message_bytes, &m), "Ack"))
		return;
	if (s->state != SESSION_STREAMING || l->stream.id != s->stream_id)
		return; /* of the stream that was just given up */
	if (m.durable_sequence > s->sent_sequence) {
		session_end(s, -HF_EPROTOCOL, "the server acknowledged what was not sent");
		return;
	}
	s->held = m.hold;
	if (m.credit_bytes > s->credit_bytes)
		s->credit_bytes = m.credit_bytes;
	if (m.durable_sequence <= l->stream.acked_sequence)
		return;
	stream_acknowledge(&l->stream, m.durable_sequence);
	if (l->last_stream_id != 0 && l->last_stream_id != l->stream.id)
		earlier_streams_add(&l->earlier, l->last_stream_id);
	l->last_stream_id = l->stream.id;
	l->last_acked_sequence = m.durable_sequence;
	s->progressed = true;
	link_changed(l);
}

static void
on_heartbeat(struct session *s, const struct wire_frame *f)
{
	struct message_heartbeat m;

	if (!decoded(s, message_heartbeat_decode(f->message, f->header.message_bytes, &m), "Heartbeat"))
		return;
	s->l->new_disks = m.new_disks;
	s->peer_clock_ns = m.clock_ns;
	s->peer_clock_heard_ns = clock_monotonic_ns();
}

static void
on_checkpoint_request(struct session *s, const struct wire_frame *f)
{
	struct link *l = s->l;
	struct message_checkpoint_request m;

	if (!decoded(
		s, message_checkpoint_request_decode(f->message, f->header.message_bytes, &m), "CheckpointRequest"))
		return;
	l->compare_requested |= m.compare;
	for (size_t i = 0; i < l->request_count; i++)
		if (l->requests[i] == m.request_id)
			return; /* asked again after a reconnect */
	if (l->request_count == LINK_REQUESTS_MAX)
		return; /* the server asks again while nobody answered */
	l->requests[l->request_count++] = m.request_id;
	link_changed(l);
}

static void
store_digests(struct compare_slot *slot, const struct message_compared *m, const unsigned char *payload)
{
	slot->status = m->status;
	if (m->status != 0)
		return;
	for (size_t i = 0; i < m->count; i++)
		slot->digests[i] = m->all_zero ? 0 : get_le64(payload + i * 8);
}

static bool
answers(const struct message_compared *m, const struct message_compare *q, size_t payload_bytes)
{
	size_t expected = m->status != 0 || m->all_zero ? 0 : (size_t)q->count * 8;

	return m->request_id == q->request_id && m->volume == q->volume && m->level == q->level &&
	       m->first == q->first && m->count == q->count && m->status <= 0 && payload_bytes == expected;
}

static void
on_compared(struct session *s, const struct wire_frame *f)
{
	struct link *l = s->l;
	struct compare_slot *slot;
	struct message_compared m;

	if (!decoded(s, message_compared_decode(f->message, f->header.message_bytes, &m), "Compared"))
		return;
	if (l->stream.id != s->stream_id)
		return; /* link_restart() has forgotten the question */
	slot = &l->compares[(l->compare_first + l->compare_answered) % LINK_COMPARES_MAX];
	if (l->compare_answered >= l->compare_asked || !answers(&m, &slot->request, f->header.payload_bytes)) {
		session_end(s, -HF_EPROTOCOL, "an answer that is not the one to our oldest Compare");
		return;
	}
	store_digests(slot, &m, f->payload);
	l->compare_answered++;
	link_changed(l);
}

static void
on_recent_answer(struct session *s, const struct wire_frame *f)
{
	struct link *l = s->l;

	if (l->recent_state != RECENT_ASKED)
		return;
	if (!decoded(s, message_recent_answer_decode(f->message, f->header.message_bytes, &l->recent_answer),
		"RecentAnswer"))
		return;
	if (l->recent_answer.volume != l->recent.volume) {
		session_end(s, -HF_EPROTOCOL, "a RecentAnswer of another volume");
		return;
	}
	l->recent_state = RECENT_ANSWERED;
	link_changed(l);
}

/* Read when something is said next: see session_say(). */
static void
on_fetch(struct session *s, const struct wire_frame *f)
{
	if (!decoded(s, message_fetch_decode(f->message, f->header.message_bytes, &s->fetch), "Fetch"))
		return;
	if (s->fetch_asked)
		session_end(s, -HF_EPROTOCOL, "a Fetch before the one before was answered");
	s->fetch_asked = true;
}

/* The key stays: its certificate is what ages. */
static void
on_renew_request(struct session *s)
{
	static _Thread_local struct message_renew m;
	struct hf_error err = {0};
	EVP_PKEY *key;

	if (tls_key_load(s->l->key_path, &key, &err) == 0) {
		if (tls_csr_make(key, s->welcome.source_id.text, &m.csr, &err) == 0)
			session_say_renew(s, &m);
		EVP_PKEY_free(key);
	}
	if (err.code != 0)
		link_add_notice(s->l, "renew_failed", err.text);
}

/* The certificate is for our key and comes from a CA we trust, or one that it vouches for; or nothing changes. The CAs
 * first: a certificate of the next one is of use only to who trusts it. */
static int
keep_renewed(struct link *l, const struct message_renewed *m, struct hf_error *err)
{
	EVP_PKEY *key;
	int r = tls_check_ca(l->ca_path, &m->ca_certificate, err);

	if (r == 0)
		r = tls_key_load(l->key_path, &key, err);
	if (r < 0)
		return r;
	r = tls_ca_save(l->ca_path, &m->ca_certificate, &m->next_ca_certificate, err);
	if (r == 1)
		l->cas_changed = l->context_stale = true;
	if (r >= 0)
		r = tls_certificate_save(l->certificate_path, &m->certificate, key, err);
	EVP_PKEY_free(key);
	return r;
}

static void
on_renewed(struct session *s, const struct wire_frame *f)
{
	static _Thread_local struct message_renewed m;
	struct hf_error err = {0};

	if (!decoded(s, message_renewed_decode(f->message, f->header.message_bytes, &m), "Renewed"))
		return;
	if (keep_renewed(s->l, &m, &err) < 0) {
		link_add_notice(s->l, "renew_failed", err.text);
		return;
	}
	s->l->context_stale = true; /* used from the next connection on */
	log_notice("renewed", "source=%s", s->welcome.source_id.text);
	if (s->l->cas_changed) /* that it works shall be known before the old CA goes */
		session_end(s, -ECONNABORTED, "reconnecting, to show a certificate of the new CA");
	s->l->cas_changed = false;
}

/* Sent again, the same frames would be refused for the same reason: the stream must begin anew,
 * after a compare. */
static bool
condemns_stream(int status)
{
	static const int list[] = {HF_ESTREAM, HF_EPROTOCOL, HF_ETOOBIG, HF_EDIGEST, HF_ECREDIT, HF_EBEYOND,
	    HF_EFRONTIER, HF_EVOLUME, HF_ESEQUENCE};

	for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
		if (status == -list[i])
			return true;
	return false;
}

static void
on_goodbye(struct session *s, const struct wire_frame *f)
{
	struct message_goodbye m;
	int code;

	if (!decoded(s, message_goodbye_decode(f->message, f->header.message_bytes, &m), "Goodbye"))
		return;
	code = m.status < 0 ? m.status : -HF_ESHUTDOWN;
	if (s->state == SESSION_STREAMING && condemns_stream(code))
		stream_lose(s->l, m.text);
	hf_error_say(&s->why, code, "the server ended the session: %s%s%s",
	    m.text[0] != '\0' ? m.text : hf_status_text(code), m.cure[0] != '\0' ? "; to cure it: " : "", m.cure);
}

void
session_hear(struct session *s, const struct wire_frame *f)
{
	if (s->state == SESSION_GREETING && f->header.type != FRAME_WELCOME && f->header.type != FRAME_GOODBYE) {
		session_end(s, -HF_EPROTOCOL, "the server did not begin with Welcome");
		return;
	}
	switch (f->header.type) {
	case FRAME_WELCOME: on_welcome(s, f); return;
	case FRAME_VOLUMES: on_volumes(s, f); return;
	case FRAME_ACK: on_ack(s, f); return;
	case FRAME_HEARTBEAT: on_heartbeat(s, f); return;
	case FRAME_CHECKPOINT_REQUEST: on_checkpoint_request(s, f); return;
	case FRAME_COMPARED: on_compared(s, f); return;
	case FRAME_RECENT_ANSWER: on_recent_answer(s, f); return;
	case FRAME_RENEW_REQUEST: on_renew_request(s); return;
	case FRAME_RENEWED: on_renewed(s, f); return;
	case FRAME_FETCH: on_fetch(s, f); return;
	case FRAME_GOODBYE: on_goodbye(s, f); return;
	case FRAME_HELLO:
	case FRAME_DECLARE:
	case FRAME_START:
	case FRAME_DATA:
	case FRAME_CHECKPOINT:
	case FRAME_COMPARE:
	case FRAME_RECENT:
	case FRAME_RENEW:
	case FRAME_REPORT:
	case FRAME_NOTICE:
	case FRAME_FETCHED:
	case FRAME_ENROLL:
	case FRAME_ENROLLED: break;
	}
	session_end(s, -HF_EPROTOCOL, "a frame that only an agent may send");
}
