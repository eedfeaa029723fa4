/* SPDX-License-Identifier: Apache-2.0 */
/* bench_load: many agents in one thread, cheap enough not to be what is measured.
 *
 * Each agent is an enrolled state directory (made by holdfast-agent enroll) and speaks the whole protocol over the
 * agent's own TLS; only the disk is made up. Content is drawn from a pool of random blocks whose digests are computed
 * once, before the load begins. What is sent:
 *
 *	fill   first fill of random blocks, 1 MiB frames: the volume grows by --mib and is filled from its frontier
 *	data   random 4 KiB writes below the frontier, --blocks of them per frame, as a frame is gathered by the agent
 *(256) or as captured writes come (1); the volume is first filled with zeros up to --volume-mib
 *	zeros  256 extents of one zero block each per frame, for --mib MiB of blocks: as many extents as data would
 *	       make, for a hundredth of its bytes; else as data
 *
 * When all agents stream and nothing is unacknowledged it prints "ready" and waits for a line on stdin; so the caller
 * can take the server's CPU time before and after. Then it sends --mib per agent, or for --seconds, as fast as credit
 * allows or at --rate writes per second in all; ends with a checkpoint per agent, waits until all of it is
 * acknowledged, and prints a line of JSON.
 *
 * Acknowledgement latency is counted from when a frame is due (--rate) or made, until the ACK that covers it is read.
 */
#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <openssl/ssl.h>

#include "agent/state.h"
#include "agent/tls.h"
#include "agent/wire.h"
#include "proto/common/digest.h"
#include "proto/common/status.h"
#include "proto/common/text.h"
#include "proto/common/units.h"
#include "proto/message.h"

enum {
	POOL_BLOCKS = 4096,          /* 16 MiB of content, the same for all agents */
	OUT_BYTES = 4 * 1024 * 1024, /* frames made but not yet taken by TLS: room for one of the largest */
	OUT_FULL_BYTES = 256 * 1024, /* no more are made beyond this */
	SENT_MAX = 1 << 16,          /* frames of one agent that wait for their acknowledgement */
	SAMPLES_MAX = 1 << 22,
	PATH_BYTES_MAX = 4096,
	PACE_NS = 200 * 1000, /* shortest sleep between two turns of a paced load */
	STALL_SECONDS = 20,   /* no byte acknowledged for so long: the run has failed */
};

enum mode { MODE_FILL, MODE_DATA, MODE_ZEROS };
enum phase { PHASE_SHAKE, PHASE_WELCOME, PHASE_VOLUMES, PHASE_ACK, PHASE_STREAM };

struct sent {
	uint64_t sequence;
	int64_t due_ns;
	uint64_t payload_bytes;
};

struct agent {
	const char *directory;
	struct state *state;
	SSL_CTX *context;
	struct wire *wire;
	enum phase phase;
	bool pending_write; /* the last wire_write() said wait */

	uint64_t seed;
	uint64_t *digests; /* of the pool, with our seed */
	uint32_t volume;
	uint64_t frontier, volume_blocks; /* blocks */

	uint64_t stream_id, chain, sequence, durable;
	uint64_t stream_bytes, credit_bytes;
	int64_t next_heartbeat_ns, heartbeat_ns, peer_clock_ns, peer_heard_ns;

	unsigned char *out;
	size_t out_begin, out_end;
	struct sent *sent; /* ring */
	unsigned sent_first, sent_count;

	bool loading; /* has load to send */
	bool ended;   /* and has sent its last checkpoint */
	uint64_t made_bytes, acked_bytes, acked_writes;
	int64_t next_due_ns, next_checkpoint_ns;
};

static struct {
	enum mode mode;
	uint64_t mib, volume_mib;
	double seconds, rate;
	unsigned blocks_per_frame;
	double checkpoint_seconds; /* 0: at the end alone */
} options = {.mode = MODE_FILL, .mib = 64, .volume_mib = 256, .blocks_per_frame = EXTENT_BLOCKS_MAX};

static struct agent *agents;
static unsigned agent_count;
static unsigned char *pool;
static uint32_t *samples_us;
static unsigned sample_count;
static bool measuring;
static int64_t load_ends_ns;
static uint64_t random_state;

static void
fail(const struct agent *a, const char *what, const char *why)
{
	fprintf(stderr, "bench_load: %s: %s: %s\n", a != NULL ? a->directory : "-", what, why);
	exit(1);
}

static void *
allocate(size_t count, size_t size)
{
	void *p = calloc(count, size);

	if (p == NULL)
		fail(NULL, "memory", strerror(ENOMEM));
	return p;
}

static uint64_t
next_random(void)
{
	random_state ^= random_state << 13; /* xorshift64 */
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* ---- frames out ---- */

static size_t
out_bytes(const struct agent *a)
{
	return a->out_end - a->out_begin;
}

static void
make_room(struct agent *a)
{
	if (a->out_begin == a->out_end)
		a->out_begin = a->out_end = 0;
	if (a->out_end < OUT_BYTES / 4)
		return;
	memmove(a->out, a->out + a->out_begin, out_bytes(a));
	a->out_end -= a->out_begin;
	a->out_begin = 0;
}

/* Where a frame's message is written; push_frame() then puts the header before it. */
static unsigned char *
message_place(struct agent *a)
{
	make_room(a);
	assert(a->out_end + FRAME_HEADER_BYTES + FRAME_MESSAGE_MAX + FRAME_PAYLOAD_MAX <= OUT_BYTES);
	return a->out + a->out_end + FRAME_HEADER_BYTES;
}

static void
push_frame(struct agent *a, enum frame_type type, size_t message_bytes)
{
	struct frame_header h = {.type = type, .message_bytes = (uint32_t)message_bytes};

	frame_header_encode(&h, a->out + a->out_end);
	a->out_end += FRAME_HEADER_BYTES + message_bytes;
}

/* A stream frame; its payload, if any, is appended by the caller. */
static void
push_stream_frame(struct agent *a, enum frame_type type, size_t message_bytes, size_t payload_bytes, int64_t due_ns)
{
	struct frame_header h = {
	    .type = type,
	    .message_bytes = (uint32_t)message_bytes,
	    .payload_bytes = (uint32_t)payload_bytes,
	    .sequence = ++a->sequence,
	};
	unsigned slot = (a->sent_first + a->sent_count++) % SENT_MAX;

	frame_header_encode(&h, a->out + a->out_end);
	a->chain = digest_chain(a->chain, a->out + a->out_end, FRAME_HEADER_BYTES + message_bytes);
	a->sent[slot] = (struct sent){a->sequence, due_ns, payload_bytes};
	a->out_end += FRAME_HEADER_BYTES + message_bytes;
	a->stream_bytes += FRAME_HEADER_BYTES + message_bytes + payload_bytes;
}

static bool
may_send(const struct agent *a, size_t message_bytes, size_t payload_bytes)
{
	return a->sent_count < SENT_MAX && out_bytes(a) < OUT_FULL_BYTES &&
	       a->stream_bytes + FRAME_HEADER_BYTES + message_bytes + payload_bytes <= a->credit_bytes;
}

static void
send_hello(struct agent *a)
{
	static struct message_hello m;

	memset(&m, 0, sizeof m);
	m.protocol_version = PROTOCOL_VERSION;
	m.protocol_version_min = PROTOCOL_VERSION_MIN;
	m.role = MESSAGE_ROLE_AGENT;
	memcpy(m.installation_nonce, a->state->nonce, NONCE_BYTES);
	m.incarnation = a->state->incarnation;
	text_set(m.hints.hostname, sizeof m.hints.hostname, "bench");
	m.clock_ns = clock_real_ns();
	push_frame(a, FRAME_HELLO, message_hello_encode(&m, message_place(a), FRAME_MESSAGE_MAX));
}

static void
send_declare(struct agent *a)
{
	static struct message_declare m;
	const struct state_volume *v = &a->state->volumes[0];
	struct message_declared_volume *d = &m.volumes[0];

	memset(&m, 0, sizeof m);
	m.count = 1;
	text_set(d->name, sizeof d->name, v->name);
	text_set(d->identity, sizeof d->identity, v->identity);
	text_set(d->device_name, sizeof d->device_name, v->path);
	d->size_bytes = v->size_bytes;
	d->state = VOLUME_OK;
	push_frame(a, FRAME_DECLARE, message_declare_encode(&m, message_place(a), FRAME_MESSAGE_MAX));
}

static void
send_start(struct agent *a)
{
	struct message_start m = {.resume = false};

	random_bytes(&m.stream_id, sizeof m.stream_id);
	a->stream_id = a->chain = m.stream_id |= 1;
	push_frame(a, FRAME_START, message_start_encode(&m, message_place(a), FRAME_MESSAGE_MAX));
}

static void
send_heartbeat(struct agent *a, int64_t now)
{
	struct message_heartbeat m = {.clock_ns = clock_real_ns()};

	if (a->peer_clock_ns != 0) {
		m.echo_clock_ns = a->peer_clock_ns;
		m.echo_hold_ns = now - a->peer_heard_ns;
	}
	a->next_heartbeat_ns = now + a->heartbeat_ns;
	push_frame(a, FRAME_HEARTBEAT, message_heartbeat_encode(&m, message_place(a), FRAME_MESSAGE_MAX));
}

static void
send_checkpoint(struct agent *a, int64_t now)
{
	struct message_checkpoint m = {.clock_ns = clock_real_ns(), .consistency = CONSISTENCY_CRASH};
	size_t len = message_checkpoint_encode(&m, message_place(a), FRAME_MESSAGE_MAX);

	push_stream_frame(a, FRAME_CHECKPOINT, len, 0, now);
}

/* ---- content ---- */

static const unsigned no_blocks; /* of the pool: zeros */

static void
push_data(struct agent *a, const struct data_message *m, const unsigned *pool_blocks, int64_t due_ns)
{
	unsigned char *place = message_place(a);
	size_t len = data_message_bytes(m);

	data_message_encode(m, place);
	push_stream_frame(a, FRAME_DATA, len, m->digest_count * BLOCK_BYTES, due_ns);
	for (size_t i = 0; i < m->digest_count; i++) {
		memcpy(a->out + a->out_end, pool + (size_t)pool_blocks[i] * BLOCK_BYTES, BLOCK_BYTES);
		a->out_end += BLOCK_BYTES;
	}
	a->made_bytes += m->digest_count * BLOCK_BYTES;
}

static void
add_block(struct agent *a, struct data_message *m, unsigned *pool_blocks)
{
	pool_blocks[m->digest_count] = (unsigned)(next_random() % POOL_BLOCKS);
	m->digests[m->digest_count] = a->digests[pool_blocks[m->digest_count]];
	m->digest_count++;
}

/* The next frame of a fill, up to 1 MiB. */
static bool
send_fill(struct agent *a, int64_t now)
{
	static struct data_message m;
	static unsigned pool_blocks[EXTENT_BLOCKS_MAX];
	uint64_t count = a->volume_blocks - a->frontier;

	count = count < EXTENT_BLOCKS_MAX ? count : EXTENT_BLOCKS_MAX;
	if (!may_send(a, 32 + 8 * count, count * BLOCK_BYTES))
		return false;
	m.extent_count = 1;
	m.digest_count = 0;
	m.fill = true;
	m.extents[0] = (struct extent){a->frontier, count, a->volume, EXTENT_FILL};
	for (uint64_t i = 0; i < count; i++)
		add_block(a, &m, pool_blocks);
	push_data(a, &m, pool_blocks, now);
	a->frontier += count;
	return true;
}

static bool
is_in_frame(const struct data_message *m, uint64_t block)
{
	for (size_t i = 0; i < m->extent_count; i++)
		if (m->extents[i].block == block)
			return true;
	return false;
}

/* Random blocks of the whole volume, none twice in a frame. */
static bool
send_writes(struct agent *a, int64_t due_ns)
{
	static struct data_message m;
	static unsigned pool_blocks[EXTENT_BLOCKS_MAX];
	size_t count = options.blocks_per_frame;

	if (!may_send(a, 8 + 32 * count, count * BLOCK_BYTES))
		return false;
	m.extent_count = m.digest_count = 0;
	m.fill = false;
	while (m.extent_count < count) {
		uint64_t block = next_random() % a->volume_blocks;

		if (is_in_frame(&m, block))
			continue;
		m.extents[m.extent_count++] = (struct extent){block, 1, a->volume, EXTENT_DATA};
		add_block(a, &m, pool_blocks);
	}
	push_data(a, &m, pool_blocks, due_ns);
	return true;
}

/* Blocks that lie apart, so that no two of them become one extent. */
static bool
send_zeros(struct agent *a, int64_t now)
{
	static struct data_message m;
	uint64_t first = next_random() % (a->volume_blocks - 2 * EXTENT_BLOCKS_MAX);

	if (!may_send(a, 8 + 32 * EXTENT_BLOCKS_MAX, 0))
		return false;
	m.digest_count = 0;
	m.fill = false;
	for (m.extent_count = 0; m.extent_count < EXTENT_BLOCKS_MAX; m.extent_count++)
		m.extents[m.extent_count] = (struct extent){first + 2 * m.extent_count, 1, a->volume, EXTENT_ZERO};
	push_data(a, &m, &no_blocks, now);
	a->made_bytes += EXTENT_BLOCKS_MAX * BLOCK_BYTES;
	return true;
}

static void
send_zero_fill(struct agent *a, int64_t now)
{
	static struct data_message m;

	m.extent_count = 1;
	m.digest_count = 0;
	m.fill = true;
	m.extents[0] = (struct extent){a->frontier, a->volume_blocks - a->frontier, a->volume, EXTENT_FILL_ZERO};
	push_data(a, &m, &no_blocks, now);
	a->frontier = a->volume_blocks;
}

/* Make what is due; false when this agent has made its last. */
static bool
make_load(struct agent *a, int64_t now)
{
	uint64_t frame_bytes =
	    (uint64_t)(options.mode == MODE_ZEROS ? EXTENT_BLOCKS_MAX : options.blocks_per_frame) * BLOCK_BYTES;

	if (options.mode == MODE_FILL) {
		while (a->frontier < a->volume_blocks && send_fill(a, now))
			;
		return a->frontier < a->volume_blocks;
	}
	if (options.checkpoint_seconds > 0 && now >= a->next_checkpoint_ns && may_send(a, 64, 0)) {
		send_checkpoint(a, now);
		a->next_checkpoint_ns = now + (int64_t)(options.checkpoint_seconds * NS_PER_SECOND);
	}
	while (load_ends_ns == 0 ? a->made_bytes + frame_bytes <= options.mib << 20 : now < load_ends_ns) {
		if (options.rate > 0 && a->next_due_ns > now)
			return true;
		if (options.mode == MODE_ZEROS ? !send_zeros(a, now)
					       : !send_writes(a, options.rate > 0 ? a->next_due_ns : now))
			return true;
		if (options.rate > 0)
			a->next_due_ns += (int64_t)(1e9 * agent_count * options.blocks_per_frame / options.rate);
	}
	return false;
}

/* ---- frames in ---- */

static void
note_ack(struct agent *a, const struct sent *s, int64_t now)
{
	if (!measuring)
		return;
	a->acked_bytes += s->payload_bytes;
	a->acked_writes += s->payload_bytes / BLOCK_BYTES;
	if (s->payload_bytes > 0 && sample_count < SAMPLES_MAX)
		samples_us[sample_count++] = (uint32_t)((now - s->due_ns) / 1000);
}

static void
on_ack(struct agent *a, const struct wire_frame *f)
{
	struct message_ack m;
	int64_t now = clock_monotonic_ns();

	if (message_ack_decode(f->message, f->header.message_bytes, &m) < 0 || m.durable_sequence > a->sequence)
		fail(a, "ACK", "malformed");
	a->credit_bytes = m.credit_bytes;
	a->durable = m.durable_sequence;
	while (a->sent_count > 0 && a->sent[a->sent_first].sequence <= m.durable_sequence) {
		note_ack(a, &a->sent[a->sent_first], now);
		a->sent_first = (a->sent_first + 1) % SENT_MAX;
		a->sent_count--;
	}
	if (a->phase == PHASE_ACK)
		a->phase = PHASE_STREAM;
}

static void
on_welcome(struct agent *a, const struct wire_frame *f)
{
	struct message_welcome m;

	if (message_welcome_decode(f->message, f->header.message_bytes, &m) < 0)
		fail(a, "WELCOME", "malformed");
	a->seed = m.digest_seed;
	a->heartbeat_ns = (int64_t)m.heartbeat_interval_ms * 1000000;
	a->next_heartbeat_ns = clock_monotonic_ns() + a->heartbeat_ns;
	for (unsigned i = 0; i < POOL_BLOCKS; i++)
		a->digests[i] = digest_block(a->seed, pool + (size_t)i * BLOCK_BYTES);
	a->phase = PHASE_VOLUMES;
	send_declare(a);
}

static void
on_volumes(struct agent *a, const struct wire_frame *f)
{
	static struct message_volumes m;

	if (message_volumes_decode(f->message, f->header.message_bytes, &m) < 0 || m.count != 1)
		fail(a, "VOLUMES", "malformed");
	if (m.volumes[0].state != VOLUME_OK)
		fail(a, "volume refused", m.volumes[0].text);
	a->volume = m.volumes[0].volume;
	a->frontier = m.volumes[0].frontier_blocks;
	a->volume_blocks = m.volumes[0].size_bytes / BLOCK_BYTES;
	a->phase = PHASE_ACK;
	send_start(a);
}

static void
on_heartbeat(struct agent *a, const struct wire_frame *f)
{
	struct message_heartbeat m;

	if (message_heartbeat_decode(f->message, f->header.message_bytes, &m) < 0)
		fail(a, "HEARTBEAT", "malformed");
	a->peer_clock_ns = m.clock_ns;
	a->peer_heard_ns = clock_monotonic_ns();
}

static void
on_goodbye(struct agent *a, const struct wire_frame *f)
{
	struct message_goodbye m;

	if (message_goodbye_decode(f->message, f->header.message_bytes, &m) < 0)
		fail(a, "GOODBYE", "malformed");
	fail(a, "the server said goodbye", m.text);
}

static void
on_frame(struct agent *a, const struct wire_frame *f)
{
	switch ((unsigned)f->header.type) {
	case FRAME_WELCOME: on_welcome(a, f); return;
	case FRAME_VOLUMES: on_volumes(a, f); return;
	case FRAME_ACK: on_ack(a, f); return;
	case FRAME_HEARTBEAT: on_heartbeat(a, f); return;
	case FRAME_GOODBYE: on_goodbye(a, f); return;
	default: return; /* requests this agent has no answer to */
	}
}

/* ---- the loop ---- */

static void
shake(struct agent *a)
{
	switch (wire_shake(a->wire)) {
	case WIRE_WAIT: return;
	case WIRE_DEAD: fail(a, "connect", wire_error(a->wire)->text); return;
	case WIRE_DONE: break;
	}
	a->phase = PHASE_WELCOME;
	send_hello(a);
}

static void
read_all(struct agent *a)
{
	struct wire_frame f;
	enum wire_step step;

	while ((step = wire_read(a->wire, &f)) == WIRE_DONE)
		on_frame(a, &f);
	if (step == WIRE_DEAD)
		fail(a, "connection", wire_error(a->wire)->text);
}

static void
write_some(struct agent *a)
{
	a->pending_write = false;
	while (a->out_begin < a->out_end) {
		size_t n;
		enum wire_step step = wire_write(a->wire, a->out + a->out_begin, out_bytes(a), &n);

		if (step == WIRE_DEAD) {
			read_all(a); /* the server's last words */
			fail(a, "connection", wire_error(a->wire)->text);
		}
		if (step == WIRE_WAIT) {
			a->pending_write = true;
			return;
		}
		a->out_begin += n;
	}
}

static void
turn(struct agent *a)
{
	int64_t now;

	if (a->phase == PHASE_SHAKE)
		shake(a);
	if (a->phase == PHASE_SHAKE)
		return;
	read_all(a);
	now = clock_monotonic_ns();
	if (a->heartbeat_ns != 0 && now >= a->next_heartbeat_ns && out_bytes(a) < OUT_FULL_BYTES)
		send_heartbeat(a, now);
	if (a->loading && !make_load(a, now)) {
		a->loading = false;
		send_checkpoint(a, now);
		a->ended = true;
	}
	write_some(a);
}

/* At least a moment while the load is paced: waking for every single write would cost the server the CPU it is measured
 * on. */
static struct timespec
next_timeout(int64_t now)
{
	int64_t least = now + 100 * 1000 * 1000;

	for (unsigned i = 0; i < agent_count; i++)
		if (agents[i].loading && options.rate > 0 && agents[i].next_due_ns < least)
			least = agents[i].next_due_ns;
	if (least < now + PACE_NS)
		least = now + PACE_NS;
	return (struct timespec){.tv_nsec = least - now};
}

static void
sleep_ns(long ns)
{
	struct timespec t = {.tv_nsec = ns};

	nanosleep(&t, NULL);
}

/* One turn for whoever has something to do; after a wait without news, for all: heartbeats and what is due. */
static void
loop_once(struct pollfd *fds)
{
	int64_t now = clock_monotonic_ns();
	struct timespec timeout;
	int n;

	for (unsigned i = 0; i < agent_count; i++) {
		fds[i].fd = wire_fd(agents[i].wire);
		fds[i].events = (short)(wire_events(agents[i].wire) | (agents[i].pending_write ? POLLOUT : 0));
		if (agents[i].phase == PHASE_SHAKE && !wire_connected(agents[i].wire))
			fds[i].events = POLLOUT;
	}
	if (options.rate > 0 && measuring)
		sleep_ns(PACE_NS);
	timeout = next_timeout(now);
	n = ppoll(fds, agent_count, &timeout, NULL);
	if (n < 0 && errno != EINTR)
		fail(NULL, "poll", strerror(errno));
	now = clock_monotonic_ns();
	for (unsigned i = 0; i < agent_count; i++) {
		const struct agent *a = &agents[i];

		if (fds[i].revents != 0 || (a->heartbeat_ns != 0 && now >= a->next_heartbeat_ns) ||
		    (a->loading && options.rate > 0 && now >= a->next_due_ns))
			turn(&agents[i]);
	}
}

static uint64_t
total_durable(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < agent_count; i++)
		sum += agents[i].durable + agents[i].phase;
	return sum;
}

/* Loop until done() holds for every agent. */
static void
loop_until(bool (*done)(const struct agent *a))
{
	struct pollfd *fds = allocate(agent_count, sizeof *fds);
	int64_t stalled_ns = clock_monotonic_ns();
	uint64_t durable = total_durable();

	for (;;) {
		unsigned left = 0;

		for (unsigned i = 0; i < agent_count; i++)
			left += !done(&agents[i]);
		if (left == 0)
			break;
		loop_once(fds);
		if (total_durable() != durable) {
			durable = total_durable();
			stalled_ns = clock_monotonic_ns();
		}
		if (clock_monotonic_ns() - stalled_ns > STALL_SECONDS * NS_PER_SECOND)
			fail(NULL, "stalled", "nothing was acknowledged for 20 s");
	}
	free(fds);
}

static bool
is_streaming(const struct agent *a)
{
	return a->phase == PHASE_STREAM && a->credit_bytes >= FRAME_PAYLOAD_MAX;
}

static bool
is_quiet(const struct agent *a)
{
	return a->durable == a->sequence;
}

static bool
has_ended(const struct agent *a)
{
	return a->ended && a->durable == a->sequence;
}

/* ---- life ---- */

static uint64_t
wanted_size(const struct state_volume *v)
{
	uint64_t size = v->size_bytes & ~(uint64_t)(BLOCK_BYTES - 1), volume = options.volume_mib << 20;

	if (options.mode == MODE_FILL)
		return size + (options.mib << 20);
	return size > volume ? size : volume;
}

static void
open_agent(struct agent *a, const char *directory)
{
	struct address_resolved to[ADDRESS_RESOLVED_MAX];
	char key[PATH_BYTES_MAX], certificate[PATH_BYTES_MAX], ca[PATH_BYTES_MAX];
	struct address address;
	struct hf_error err = {0};
	int r;

	a->directory = directory;
	r = state_open(directory, STATE_EXISTING, &a->state, &err);
	if (r == 0 && (!a->state->enrolled || a->state->volume_count != 1))
		r = hf_error_say(&err, -EINVAL, "not enrolled with exactly one volume");
	if (r < 0)
		fail(a, "state", err.text);
	a->state->incarnation++;
	a->state->volumes[0].size_bytes = wanted_size(&a->state->volumes[0]);
	r = state_save(a->state, &err);
	if (r == 0)
		r = tls_context_create(state_path(directory, "key.pem", key),
		    state_path(directory, "cert.pem", certificate), state_path(directory, "ca.pem", ca), &a->context,
		    &err);
	if (r == 0)
		r = address_parse(a->state->servers[0], PORT_DATA, &address, &err);
	if (r == 0)
		r = address_resolve(&address, to, &err);
	if (r >= 0)
		r = wire_open(&to[0], a->context, 0, &a->wire, &err);
	if (r < 0)
		fail(a, "connect", err.text);
	a->digests = allocate(POOL_BLOCKS, sizeof *a->digests);
	a->out = allocate(1, OUT_BYTES);
	a->sent = allocate(SENT_MAX, sizeof *a->sent);
}

static void
close_agent(struct agent *a)
{
	struct message_goodbye m = {0};

	push_frame(a, FRAME_GOODBYE, message_goodbye_encode(&m, message_place(a), FRAME_MESSAGE_MAX));
	write_some(a);
	wire_close(a->wire);
	SSL_CTX_free(a->context);
	state_close(a->state);
	free(a->digests);
	free(a->out);
	free(a->sent);
}

static void
make_pool(void)
{
	pool = allocate(POOL_BLOCKS, BLOCK_BYTES);
	samples_us = allocate(SAMPLES_MAX, sizeof *samples_us);
	for (size_t i = 0; i < (size_t)POOL_BLOCKS * BLOCK_BYTES / 8; i++) {
		uint64_t r = next_random();

		memcpy(pool + i * 8, &r, 8);
	}
}

/* The checkpoint makes a point of the zeros: writes that follow are kept in the journal, as they would be from day to
 * day, and not folded at once because no point needs what was before them. */
static void
prepare_volumes(void)
{
	int64_t now = clock_monotonic_ns();

	if (options.mode == MODE_FILL)
		return;
	for (unsigned i = 0; i < agent_count; i++)
		if (agents[i].frontier < agents[i].volume_blocks) {
			send_zero_fill(&agents[i], now);
			send_checkpoint(&agents[i], now);
			write_some(&agents[i]);
		}
	loop_until(is_quiet);
}

/* The caller looks at the server meanwhile; agents must not fall silent. */
static void
wait_for_go(void)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};
	struct pollfd *fds = allocate(agent_count, sizeof *fds);
	char line[64];

	printf("ready\n");
	fflush(stdout);
	while (poll(&input, 1, 0) == 0)
		loop_once(fds);
	if (fgets(line, sizeof line, stdin) == NULL)
		fail(NULL, "stdin", "closed before the load began");
	free(fds);
}

static int
compare_samples(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double
cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double
percentile_ms(unsigned percent)
{
	return sample_count > 0 ? samples_us[(uint64_t)(sample_count - 1) * percent / 100] / 1e3 : 0;
}

static void
load_and_report(void)
{
	int64_t begun = clock_monotonic_ns();
	uint64_t bytes = 0, writes = 0;
	double seconds, cpu = cpu_seconds();

	if (options.seconds > 0)
		load_ends_ns = begun + (int64_t)(options.seconds * NS_PER_SECOND);
	measuring = true;
	for (unsigned i = 0; i < agent_count; i++) {
		agents[i].made_bytes = 0;
		agents[i].loading = true;
		/* Spread over one interval, so that agents do not all write at the same moment. */
		agents[i].next_due_ns =
		    options.rate > 0 ? begun + (int64_t)(1e9 * i * options.blocks_per_frame / options.rate) : begun;
		agents[i].next_checkpoint_ns = begun + (int64_t)(options.checkpoint_seconds * NS_PER_SECOND);
		turn(&agents[i]);
	}
	loop_until(has_ended);
	seconds = (double)(clock_monotonic_ns() - begun) / NS_PER_SECOND;
	for (unsigned i = 0; i < agent_count; i++) {
		bytes += agents[i].acked_bytes;
		writes += agents[i].acked_writes;
	}
	qsort(samples_us, sample_count, sizeof *samples_us, compare_samples);
	printf("{\"agents\": %u, \"bytes\": %llu, \"writes\": %llu, \"seconds\": %.4f, \"writes_per_second\": %.1f, "
	       "\"gib_per_second\": %.4f, \"ack_p50_ms\": %.3f, \"ack_p99_ms\": %.3f, \"acks_timed\": %u, "
	       "\"own_cpu_seconds\": %.3f}\n",
	    agent_count, (unsigned long long)bytes, (unsigned long long)writes, seconds, (double)writes / seconds,
	    (double)bytes / (1 << 30) / seconds, percentile_ms(50), percentile_ms(99), sample_count,
	    cpu_seconds() - cpu);
	fflush(stdout);
}

static void
usage(void)
{
	fprintf(stderr,
	    "usage: bench_load [--mode fill|data|zeros] [--mib N] [--volume-mib N] [--seconds S] [--rate WRITES_PER_S] "
	    "[--blocks 1..256] [--checkpoint-seconds S] [--seed N] STATE_DIRECTORY...\n");
	exit(64);
}

static void
parse_options(int argc, char **argv)
{
	static const struct option known[] = {{"mode", 1, NULL, 'm'}, {"mib", 1, NULL, 'n'},
	    {"volume-mib", 1, NULL, 'v'}, {"seconds", 1, NULL, 's'}, {"rate", 1, NULL, 'r'}, {"blocks", 1, NULL, 'b'},
	    {"seed", 1, NULL, 'd'}, {"checkpoint-seconds", 1, NULL, 'c'}, {0}};
	int c;

	random_bytes(&random_state, sizeof random_state);
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'm':
			options.mode = strcmp(optarg, "data") == 0    ? MODE_DATA
				       : strcmp(optarg, "zeros") == 0 ? MODE_ZEROS
								      : MODE_FILL;
			break;
		case 'c': options.checkpoint_seconds = atof(optarg); break;
		case 'n': options.mib = strtoull(optarg, NULL, 10); break;
		case 'v': options.volume_mib = strtoull(optarg, NULL, 10); break;
		case 's': options.seconds = atof(optarg); break;
		case 'r': options.rate = atof(optarg); break;
		case 'b': options.blocks_per_frame = (unsigned)atoi(optarg); break;
		case 'd': random_state = strtoull(optarg, NULL, 10); break;
		default: usage();
		}
	}
	if (optind == argc || options.mib == 0 || options.volume_mib == 0 || options.blocks_per_frame < 1 ||
	    options.blocks_per_frame > EXTENT_BLOCKS_MAX)
		usage();
	random_state |= 1; /* xorshift stays at 0 for ever */
	fprintf(stderr, "bench_load: seed %llu\n", (unsigned long long)random_state);
}

int
main(int argc, char **argv)
{
	parse_options(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	make_pool();
	agent_count = (unsigned)(argc - optind);
	agents = allocate(agent_count, sizeof *agents);
	for (unsigned i = 0; i < agent_count; i++)
		open_agent(&agents[i], argv[optind + (int)i]);
	loop_until(is_streaming);
	prepare_volumes();
	wait_for_go();
	load_and_report();
	for (unsigned i = 0; i < agent_count; i++)
		close_agent(&agents[i]);
	free(agents);
	free(samples_us);
	free(pool);
	return 0;
}
