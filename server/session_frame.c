/* SPDX-License-Identifier: Apache-2.0 */
/* What each frame does. One function a type; the table says in which states it may come. A handler answers 0, -EAGAIN
 * (the frame is held and handled again later), or -ECANCELED after it has ended the session. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/digest.h"
#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/text.h"
#include "server/limits.h"
#include "server/session_impl.h"
#include "server/source.h"
#include "storage/store.h"

typedef int frame_handler(struct session *s, const unsigned char *message, size_t len);

static frame_handler on_hello, on_declare, on_start, on_data, on_checkpoint, on_heartbeat, on_compare, on_recent,
    on_renew, on_report, on_notice, on_fetched, on_goodbye;

#define IN(state) (1u << (SESSION_##state))
#define WELCOMED  (IN(DECLARE) | IN(DECLARING) | IN(START) | IN(STREAMING))

static const struct {
	unsigned states;
	frame_handler *handle;
} rules[] = {
    [FRAME_HELLO] = {IN(HELLO), on_hello},
    [FRAME_DECLARE] = {IN(DECLARE) | IN(START) | IN(STREAMING), on_declare},
    [FRAME_START] = {IN(START), on_start},
    [FRAME_DATA] = {WELCOMED, on_data}, /* before START it is beyond the credit, which is none */
    [FRAME_CHECKPOINT] = {WELCOMED, on_checkpoint},
    [FRAME_HEARTBEAT] = {WELCOMED, on_heartbeat},
    [FRAME_COMPARE] = {IN(STREAMING), on_compare},
    [FRAME_RECENT] = {IN(STREAMING), on_recent},
    [FRAME_RENEW] = {IN(STREAMING), on_renew},
    [FRAME_REPORT] = {IN(STREAMING), on_report},
    [FRAME_NOTICE] = {WELCOMED, on_notice},
    [FRAME_FETCHED] = {IN(STREAMING), on_fetched},
    [FRAME_GOODBYE] = {IN(HELLO) | WELCOMED, on_goodbye},
};

static unsigned char *
out_message(const struct session *s)
{
	return s->worker->out + FRAME_HEADER_BYTES;
}

int
session_check_frame(struct session *s)
{
	const struct frame_header *h = &s->header;
	uint64_t bytes = (uint64_t)FRAME_HEADER_BYTES + h->message_bytes + h->payload_bytes;

	if (h->type >= sizeof rules / sizeof rules[0] || (rules[h->type].states & (1u << s->state)) == 0)
		return session_refuse(s, -HF_EPROTOCOL, "%s may not come now (session is in state %s)",
		    frame_type_name(h->type), session_state_name(s->state));
	if (frame_is_stream(h->type) && !credit_take(&s->credit, h->sequence, bytes))
		return session_refuse(s, -HF_ECREDIT,
		    "a frame of %" PRIu64 " bytes goes beyond the credit of %" PRIu64 " (sent so far: %" PRIu64 ")",
		    bytes, s->credit.granted_bytes, s->credit.received_bytes);
	return 0;
}

int
session_handle_frame(struct session *s)
{
	const unsigned char *message = session_frame_bytes(s) + FRAME_HEADER_BYTES;

	return rules[s->header.type].handle(s, message, s->header.message_bytes);
}

static int
refuse_message(struct session *s, int r)
{
	return session_refuse(s, r, "%s: the message is not what the protocol allows", frame_type_name(s->header.type));
}

/* ---- session start ---- */

static int
on_hello(struct session *s, const unsigned char *message, size_t len)
{
	struct message_hello m;
	int r = message_hello_decode(message, len, &m);

	return r < 0 ? refuse_message(s, r) : session_admit(s, &m);
}

/* LZ4 costs the server least. */
static unsigned
choose_compression(unsigned offered)
{
	if ((offered & FRAME_LZ4) != 0)
		return FRAME_LZ4;
	return offered & FRAME_ZSTD;
}

static int64_t
heartbeat_interval(const struct server *sv)
{
	return sv->config->heartbeat_interval_ns * (1 + atomic_load(&sv->session_count) / SESSIONS_PER_INTERVAL);
}

void
session_welcome(struct session *s)
{
	struct message_welcome m = {
	    .protocol_version = s->hello.protocol_version,
	    .source_id = s->certificate.source,
	    .session_id = s->number,
	    .digest_seed = store_digest_seed(source_store(s->source)),
	    .compression = choose_compression(s->hello.compressions),
	    .stream_id = s->welcome_stream_id,
	    .durable_sequence = s->welcome_sequence,
	    .chain = s->welcome_chain,
	    .clock_ns = clock_real_ns(),
	    .volumes_max = VOLUMES_MAX,
	};
	int64_t now = clock_monotonic_ns();

	s->interval_ns = heartbeat_interval(s->server);
	m.heartbeat_interval_ms = (uint32_t)(s->interval_ns / 1000000);
	text_set(m.server_version, sizeof m.server_version, HOLDFAST_VERSION);
	s->compression = m.compression;
	peer_clock_init(&s->clock, s->hello.clock_ns, s->hello.received_ns);
	s->heard_ns = now;
	s->next_heartbeat_ns = now;
	session_enter(s, SESSION_DECLARE);
	log_info("session_welcome", "session=%" PRIu64 " source=%s peer=%s sequence=%" PRIu64, s->number,
	    s->certificate.source.text, s->peer, s->welcome_sequence);
	session_send(s, FRAME_WELCOME, message_welcome_encode(&m, out_message(s), FRAME_MESSAGE_MAX), NULL, 0);
	if (s->state != SESSION_DEAD)
		tls_want_read(s->tls, true);
}

static int
on_declare(struct session *s, const unsigned char *message, size_t len)
{
	struct message_declare *m = malloc(sizeof *m);
	int r = m != NULL ? message_declare_decode(message, len, m) : -ENOMEM;

	if (r < 0) {
		free(m);
		return refuse_message(s, r);
	}
	r = source_declare(s->source, m);
	free(m);
	if (r == -EAGAIN)
		return r;
	if (r < 0)
		return session_refuse(s, r, "the volumes could not be declared");
	if (s->state != SESSION_STREAMING)
		session_enter(s, SESSION_DECLARING);
	return 0;
}

void
session_send_volumes(struct session *s, const struct message_volumes *m)
{
	s->volume_count = 0;
	for (size_t i = 0; i < m->count; i++)
		if (m->volumes[i].state == VOLUME_OK)
			s->volumes[s->volume_count++] = m->volumes[i].volume;
	if (s->state == SESSION_DECLARING)
		session_enter(s, SESSION_START);
	session_send(s, FRAME_VOLUMES, message_volumes_encode(m, out_message(s), FRAME_MESSAGE_MAX), NULL, 0);
}

static int
on_start(struct session *s, const unsigned char *message, size_t len)
{
	struct message_start m;
	int r = message_start_decode(message, len, &m);
	uint64_t durable;

	if (r < 0)
		return refuse_message(s, r);
	if (m.resume && m.stream_id != s->welcome_stream_id)
		return session_refuse(s, -HF_ESTREAM, "stream %016" PRIx64 " is not the newest one here", m.stream_id);
	r = source_start_stream(s->source, m.stream_id, m.resume);
	if (r == -EAGAIN)
		return r;
	if (r < 0)
		return session_refuse(s, r, "stream %016" PRIx64 " cannot begin", m.stream_id);
	durable = m.resume ? s->welcome_sequence : 0;
	s->next_sequence = durable + 1;
	s->chain = m.resume ? s->welcome_chain : m.stream_id;
	s->acked_sequence = UINT64_MAX; /* so that the first ACK is sent whatever it says */
	credit_init(&s->credit, s->server->config->credit_bytes, durable);
	session_enter(s, SESSION_STREAMING);
	session_touch(s);
	return 0;
}

/* ---- the stream ---- */

static bool
volume_is_ok(const struct session *s, uint32_t volume)
{
	for (size_t i = 0; i < s->volume_count; i++)
		if (s->volumes[i] == volume)
			return true;
	return false;
}

static int
check_volumes(struct session *s, const struct data_message *m)
{
	uint32_t last = 0;

	for (size_t i = 0; i < m->extent_count; i++) {
		uint32_t volume = m->extents[i].volume;

		if (i > 0 && volume == last)
			continue;
		if (!volume_is_ok(s, volume))
			return session_refuse(
			    s, -HF_EVOLUME, "volume %u is not one that this session may write", volume);
		last = volume;
	}
	return 0;
}

static int
check_data(struct session *s, const unsigned char *message, size_t len)
{
	int r;

	if (s->header.sequence != s->next_sequence)
		return session_refuse(s, -HF_ESEQUENCE, "frame %" PRIu64 " came where %" PRIu64 " was due",
		    s->header.sequence, s->next_sequence);
	if (s->header.flags != 0 && s->header.flags != s->compression)
		return session_refuse(s, -HF_EPROTOCOL, "a payload is compressed in a way that was not agreed");
	r = data_message_decode(&s->header, message, len, s->worker->data);
	return r < 0 ? refuse_message(s, r) : check_volumes(s, s->worker->data);
}

/* Not now, but soon: a slab comes back, or space does. */
static bool
must_wait(int r)
{
	return r == -EAGAIN || r == -HF_EFULL;
}

static uint64_t
chain_after(const struct session *s)
{
	return digest_chain(s->chain, session_frame_bytes(s), FRAME_HEADER_BYTES + s->header.message_bytes);
}

static void
advance(struct session *s, uint64_t chain)
{
	s->chain = chain;
	s->next_sequence++;
}

_Static_assert(sizeof(struct extent) == sizeof(struct store_extent) && offsetof(struct extent, count) == 8 &&
		   offsetof(struct store_extent, count) == 8 &&
		   offsetof(struct extent, volume) == offsetof(struct store_extent, volume) &&
		   offsetof(struct extent, kind) == offsetof(struct store_extent, kind) &&
		   sizeof(enum extent_kind) == 4,
    "the wire's extents are handed to the store as they are");

static int
end_frame(struct session *s)
{
	size_t bad = 0;
	int r = store_frame_end(source_store(s->source), &bad);

	s->payload = NULL;
	if (r == -HF_EDIGEST)
		return session_refuse(s, r, "block %zu of the payload of frame %" PRIu64 " does not match its digest",
		    bad, s->header.sequence);
	if (r < 0)
		return session_refuse(s, r, "frame %" PRIu64 " could not be queued", s->header.sequence);
	source_received(s->source, s->header.sequence, s->payload_blocks * BLOCK_BYTES);
	return 0;
}

static int
on_data(struct session *s, const unsigned char *message, size_t len)
{
	const struct data_message *m = s->worker->data;
	uint64_t chain;
	void *payload;
	int r = check_data(s, message, len);

	if (r < 0)
		return r;
	chain = chain_after(s);
	r = store_frame_begin(source_store(s->source), s->header.sequence, chain,
	    (const struct store_extent *)(const void *)m->extents, m->extent_count, m->digests, m->digest_count,
	    &payload);
	if (must_wait(r))
		return -EAGAIN;
	if (r < 0)
		return session_refuse(s, r, "frame %" PRIu64 " (volume %u, block %" PRIu64 ") is refused",
		    s->header.sequence, m->extents[0].volume, m->extents[0].block);
	advance(s, chain);
	s->payload = payload;
	s->payload_blocks = m->digest_count;
	return s->header.payload_bytes == 0 ? end_frame(s) : 0;
}

/* Compressed bytes were read to where the blocks go: they step aside, and come back larger. */
static int
decompress(struct session *s)
{
	memcpy(s->worker->compressed, s->payload, s->header.payload_bytes);
	return payload_decompress((enum frame_flag)s->header.flags, s->worker->compressed, s->header.payload_bytes,
	    s->payload, s->payload_blocks * BLOCK_BYTES);
}

int
session_finish_payload(struct session *s)
{
	int r = s->header.flags != 0 ? decompress(s) : 0;

	if (r < 0)
		return session_refuse(s, r, "the payload of frame %" PRIu64 " does not decompress", s->header.sequence);
	return end_frame(s);
}

static int
on_checkpoint(struct session *s, const unsigned char *message, size_t len)
{
	struct message_checkpoint m;
	uint64_t chain;
	int r = message_checkpoint_decode(message, len, &m);

	if (r < 0)
		return refuse_message(s, r);
	if (s->header.sequence != s->next_sequence)
		return session_refuse(s, -HF_ESEQUENCE, "frame %" PRIu64 " came where %" PRIu64 " was due",
		    s->header.sequence, s->next_sequence);
	chain = chain_after(s);
	r = source_checkpoint(s->source, s->header.sequence, chain, &m);
	if (must_wait(r))
		return -EAGAIN;
	if (r < 0)
		return session_refuse(s, r, "checkpoint %" PRIu64 " is refused", s->header.sequence);
	advance(s, chain);
	return 0;
}

void
session_send_ack(struct session *s)
{
	struct message_ack m = {
	    .durable_sequence = source_durable_sequence(s->source), .hold = source_is_held(s->source)};

	credit_acked(&s->credit, m.durable_sequence);
	m.credit_bytes = credit_grant(&s->credit, source_window(s->source, s->credit.window_bytes));
	if (m.durable_sequence == s->acked_sequence && m.credit_bytes == s->acked_credit && m.hold == s->acked_hold)
		return;
	s->acked_hold = m.hold;
	s->acked_sequence = m.durable_sequence;
	s->acked_credit = m.credit_bytes;
	session_send(s, FRAME_ACK, message_ack_encode(&m, out_message(s), FRAME_MESSAGE_MAX), NULL, 0);
}

/* ---- heartbeats ---- */

void
session_send_heartbeat(struct session *s)
{
	struct message_heartbeat m = {.clock_ns = clock_real_ns(), .new_disks = source_new_disks(s->source)};

	if (s->echo_clock_ns != 0) {
		m.echo_clock_ns = s->echo_clock_ns;
		m.echo_hold_ns = clock_monotonic_ns() - s->echo_received_ns;
	}
	session_send(s, FRAME_HEARTBEAT, message_heartbeat_encode(&m, out_message(s), FRAME_MESSAGE_MAX), NULL, 0);
}

static int
on_heartbeat(struct session *s, const unsigned char *message, size_t len)
{
	struct message_heartbeat m;
	int r = message_heartbeat_decode(message, len, &m);

	if (r < 0)
		return refuse_message(s, r);
	s->echo_clock_ns = m.clock_ns;
	s->echo_received_ns = clock_monotonic_ns();
	peer_clock_add(&s->clock, clock_real_ns(), m.clock_ns, m.echo_clock_ns, m.echo_hold_ns);
	source_heartbeat(s->source, &m);
	return 0;
}

/* ---- compares ---- */

static int
on_compare(struct session *s, const unsigned char *message, size_t len)
{
	struct message_compare m;
	int r = message_compare_decode(message, len, &m);

	if (r < 0)
		return refuse_message(s, r);
	if (s->compares_out == COMPARES_MAX)
		return session_refuse(s, -HF_EPROTOCOL, "more than %d questions are open", COMPARES_MAX);
	r = source_compare(s->source, &m);
	if (r < 0)
		return session_refuse(s, r, "no memory for a question");
	s->compares_out++;
	return 0;
}

static bool
all_zero(const uint64_t *digests, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (digests[i] != 0)
			return false;
	return true;
}

void
session_send_compared(struct session *s, const struct message_compare *q, int status, const uint64_t *digests)
{
	struct message_compared m = {.request_id = q->request_id,
	    .volume = q->volume,
	    .level = q->level,
	    .first = q->first,
	    .count = q->count,
	    .status = status};
	size_t len;

	m.all_zero = status == 0 && all_zero(digests, q->count);
	len = message_compared_encode(&m, out_message(s), FRAME_MESSAGE_MAX);
	s->compares_out--;
	/* Digests lie in memory as they travel: little-endian. */
	session_send(s, FRAME_COMPARED, len, digests, status < 0 || m.all_zero ? 0 : q->count * sizeof *digests);
}

static int
on_recent(struct session *s, const unsigned char *message, size_t len)
{
	struct message_recent m;
	struct message_recent_answer *a;
	int r = message_recent_decode(message, len, &m);

	if (r < 0)
		return refuse_message(s, r);
	a = calloc(1, sizeof *a);
	if (a == NULL)
		return session_refuse(s, -ENOMEM, "no memory for an answer");
	a->volume = m.volume;
	a->count = store_recent(source_store(s->source), m.volume, a->nodes, RECENT_MAX);
	session_send(
	    s, FRAME_RECENT_ANSWER, message_recent_answer_encode(a, out_message(s), FRAME_MESSAGE_MAX), NULL, 0);
	free(a);
	return 0;
}

/* ---- certificates ---- */

/* Between 2/3 and 3/4 of its life, by its own fingerprint, so that not all of them come at once. */
static int64_t
renewal_due_ns(const struct session *s)
{
	int64_t issued = s->certificate.not_before_ns + PKI_CLOCK_LEEWAY_NS;
	int64_t life = s->certificate.not_after_ns - issued;
	int64_t jitter = life / 12 / 256 * s->certificate.fingerprint[0];

	return issued + life / 3 * 2 + jitter;
}

void
session_request_renewal(struct session *s)
{
	s->renew_ns = s->worker->now_ns + RENEW_RETRY_NS;
	s->renew_asked = true;
	session_send(s, FRAME_RENEW_REQUEST, 0, NULL, 0);
}

/* The CAs are others than those its agent was told of. */
static bool
knows_old_cas(const struct session *s)
{
	return (s->hello.features & MESSAGE_CA_CHANGE) != 0 && s->ca_generation != pki_generation(s->server->pki);
}

void
session_ask_renewal(struct session *s)
{
	if (s->worker->now_ns >= s->renew_ns && (knows_old_cas(s) || clock_real_ns() >= renewal_due_ns(s)))
		session_request_renewal(s);
}

struct renewal {
	struct job job;
	struct session *session;
	struct id source;
	struct message_blob csr;
	struct message_renewed answer;
	struct registry_certificate record;
	bool takes_next;
	unsigned ca_generation;
	int status;
	struct hf_error err;
};

static void
run_renewal(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct renewal *n = (struct renewal *)job;
	struct server *sv = n->session->server;

	n->ca_generation = pki_generation(sv->pki);
	n->status = pki_sign(sv->pki, &n->csr, &n->source, n->takes_next, sv->config->certificate_lifetime_ns,
	    clock_real_ns(), &n->answer.certificate, &n->record, &n->err);
	if (n->status == 0)
		n->status = registry_put_certificate(sv->registry, &n->record, &n->err);
	pki_get_ca(sv->pki, &n->answer.ca_certificate);
	if (n->takes_next)
		pki_get_next_ca(sv->pki, &n->answer.next_ca_certificate);
}

/* The session goes on under the old certificate; that it was renewed is known to it, so that it does not ask again. */
static void
on_renewed(struct job *job)
{
	struct renewal *n = (struct renewal *)job;
	struct session *s = n->session;

	s->jobs_out--;
	if (s->state == SESSION_STREAMING && n->status == 0) {
		s->certificate.not_before_ns = n->record.not_before_ns;
		s->certificate.not_after_ns = n->record.not_after_ns;
		s->ca_generation = n->ca_generation;
		source_renewed(s->source, n->record.not_after_ns);
		server_event(s->server, &n->source, "certificate_renewed", "the agent's certificate was renewed");
		session_send(
		    s, FRAME_RENEWED, message_renewed_encode(&n->answer, out_message(s), FRAME_MESSAGE_MAX), NULL, 0);
	} else if (s->state == SESSION_STREAMING) {
		session_refuse(s, n->status, "%s", n->err.text);
	}
	worker_touch(s->worker); /* a dead session may be freed now */
	free(n);
}

static int
on_renew(struct session *s, const unsigned char *message, size_t len)
{
	struct message_renew m;
	struct renewal *n;
	int r = message_renew_decode(message, len, &m);

	if (r < 0)
		return refuse_message(s, r);
	if (!s->renew_asked)
		return session_refuse(s, -HF_EPROTOCOL, "a renewal that nobody asked for");
	n = calloc(1, sizeof *n);
	if (n == NULL)
		return session_refuse(s, -ENOMEM, "no memory for a renewal");
	s->renew_asked = false;
	n->job.run = run_renewal;
	n->job.done = on_renewed;
	n->job.home = s->worker->mailbox;
	n->session = s;
	n->source = s->certificate.source;
	n->csr = m.csr;
	n->takes_next = (s->hello.features & MESSAGE_CA_CHANGE) != 0;
	s->jobs_out++;
	jobs_post(s->server->catalog, &n->job);
	return 0;
}

/* ---- news ---- */

static int
on_report(struct session *s, const unsigned char *message, size_t len)
{
	struct message_report m;
	int r = message_report_decode(message, len, &m);

	if (r < 0)
		return refuse_message(s, r);
	source_report(s->source, &m);
	return 0;
}

static int
on_notice(struct session *s, const unsigned char *message, size_t len)
{
	struct message_notice m;
	int r = message_notice_decode(message, len, &m);

	if (r < 0)
		return refuse_message(s, r);
	source_notice(s->source, m.event, m.text);
	return 0;
}

static int
on_fetched(struct session *s, const unsigned char *message, size_t len)
{
	struct message_fetched m;
	int r = message_fetched_decode(message, len, &m);

	if (r < 0)
		return refuse_message(s, r);
	if (m.request_id != s->fetch_id || s->fetch_id == 0)
		return session_refuse(s, -HF_EPROTOCOL, "a block that nobody asked for");
	s->fetch_id = 0;
	source_fetched(s->source, m.status, m.block);
	return 0;
}

static int
on_goodbye(struct session *s, const unsigned char *message, size_t len)
{
	struct message_goodbye m;
	char text[SENTENCE_BYTES];
	int r = message_goodbye_decode(message, len, &m);

	if (r < 0)
		return refuse_message(s, r);
	snprintf(text, sizeof text, "%.400s", m.text[0] != '\0' ? m.text : "the agent said goodbye");
	if (m.status < 0)
		snprintf(
		    text + strlen(text), sizeof text - strlen(text), " (%s, says the agent)", hf_status_name(m.status));
	session_end(s, 0, text, "");
	return -ECANCELED;
}

/* ---- asked by the source ---- */

void
session_send_checkpoint_request(struct session *s, uint64_t request_id, bool compare)
{
	struct message_checkpoint_request m = {.request_id = request_id, .compare = compare};

	session_send(s, FRAME_CHECKPOINT_REQUEST,
	    message_checkpoint_request_encode(&m, out_message(s), FRAME_MESSAGE_MAX), NULL, 0);
}

bool
session_can_fetch(const struct session *s)
{
	return s->state == SESSION_STREAMING && (s->hello.features & MESSAGE_FETCH) != 0 && s->fetch_id == 0;
}

void
session_send_fetch(struct session *s, uint64_t request_id, uint32_t volume, uint64_t block)
{
	struct message_fetch m = {.request_id = request_id, .volume = volume, .block = block};

	s->fetch_id = request_id;
	session_send(s, FRAME_FETCH, message_fetch_encode(&m, out_message(s), FRAME_MESSAGE_MAX), NULL, 0);
}
