/* SPDX-License-Identifier: Apache-2.0 */
/* link.c: the caller's side of the link: queueing frames, waiting for what the thread (session.c)
 * achieves.
 *
 * Every call notes what it wants under the lock, wakes the thread, and waits for the condition it
 * needs. Nothing here knows whether a connection exists: a frame that is queued gets its sequence
 * number and its place in the chain at once, so a cut connection, seen from here, is only a wait.
 * What ends a wait early is the same everywhere: link_stop(), or, for calls that belong to the
 * stream, its loss. */
#include "agent/link.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "agent/link_impl.h"
#include "agent/tls.h"
#include "proto/common/digest.h"
#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/text.h"
#include "proto/common/units.h"

#define WINDOW_BYTES_DEFAULT (32ull << 20)

/* link_stop() may come from a signal handler, which must not touch the condition variable: waits
 * look up this often. */
#define STOP_LOOK_NS (NS_PER_SECOND / 5)

/* ---- life ---- */

static int
copy_servers(struct link *l, const struct link_config *config, struct hf_error *err)
{
	if (config->server_count < 1 || config->server_count > LINK_SERVERS_MAX)
		return hf_error_say(
		    err, -EINVAL, "%zu servers named; 1 to %d can be", config->server_count, LINK_SERVERS_MAX);
	for (size_t i = 0; i < config->server_count; i++) {
		int r = address_parse(config->servers[i], PORT_DATA, &l->servers[i], err);

		if (r < 0)
			return r;
	}
	l->server_count = config->server_count;
	return 0;
}

static int
copy_config(struct link *l, const struct link_config *config, struct hf_error *err)
{
	l->key_path = strdup(config->key_path);
	l->certificate_path = strdup(config->certificate_path);
	l->ca_path = strdup(config->ca_path);
	l->compares = calloc(LINK_COMPARES_MAX, sizeof *l->compares);
	l->notices = calloc(LINK_NOTICES_MAX, sizeof *l->notices);
	if (l->key_path == NULL || l->certificate_path == NULL || l->ca_path == NULL || l->compares == NULL ||
	    l->notices == NULL)
		return hf_error_set(err, -ENOMEM, "link");
	memcpy(l->nonce, config->installation_nonce, sizeof l->nonce);
	l->incarnation = config->incarnation;
	l->hints = config->hints;
	l->compressions = config->compressions;
	l->last_stream_id = config->last_stream_id;
	l->last_acked_sequence = config->last_acked_sequence;
	l->earlier = config->earlier;
	l->window_bytes_max = config->window_bytes_max != 0 ? config->window_bytes_max : WINDOW_BYTES_DEFAULT;
	l->key_update_bytes = config->key_update_bytes;
	return copy_servers(l, config, err);
}

void
earlier_streams_add(struct earlier_streams *e, uint64_t stream_id)
{
	if (e->count < EARLIER_STREAMS_MAX)
		e->count++;
	memmove(e->ids + 1, e->ids, (e->count - 1) * sizeof e->ids[0]);
	e->ids[0] = stream_id;
}

static void
init_lock(struct link *l)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&l->lock, NULL);
}

static void
free_link(struct link *l)
{
	retained_free_all(&l->stream.retained);
	retained_free_all(&l->trash);
	SSL_CTX_free(l->context);
	if (l->wake_fd >= 0)
		(void)close(l->wake_fd); /* an eventfd holds nothing */
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->changed);
	free(l->key_path);
	free(l->certificate_path);
	free(l->ca_path);
	free(l->compares);
	free(l->notices);
	free(l);
}

/* Signals belong to the program's main thread. */
static int
start_thread(struct link *l, struct hf_error *err)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&l->thread, NULL, link_thread, l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r == 0 ? 0 : hf_error_set(err, -r, "start the link's thread");
}

int
link_create(const struct link_config *config, struct link **ret_link, struct hf_error *err)
{
	struct link *l = calloc(1, sizeof *l);
	int r;

	if (l == NULL)
		return hf_error_set(err, -ENOMEM, "link");
	STAILQ_INIT(&l->stream.retained);
	STAILQ_INIT(&l->trash);
	init_lock(l);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = l->wake_fd < 0 ? hf_error_set(err, -errno, "eventfd") : copy_config(l, config, err);
	if (r == 0)
		r = tls_context_create(l->key_path, l->certificate_path, l->ca_path, &l->context, err);
	if (r == 0)
		r = start_thread(l, err);
	if (r < 0) {
		free_link(l);
		return r;
	}
	*ret_link = l;
	return 0;
}

void
link_destroy(struct link *l)
{
	if (l == NULL)
		return;
	link_stop(l);
	pthread_join(l->thread, NULL);
	free_link(l);
}

static void
wake_thread(struct link *l)
{
	const uint64_t one = 1;

	(void)!write(l->wake_fd, &one, sizeof one); /* fails only when the counter is full: then it is awake */
}

void
link_stop(struct link *l)
{
	int saved_errno = errno;

	atomic_store(&l->stopping, true);
	wake_thread(l);
	errno = saved_errno;
}

void
link_note_failure(struct link *l, const struct hf_error *why, bool was_connected)
{
	bool news;

	pthread_mutex_lock(&l->lock);
	news = was_connected || strcmp(l->status.last_error, why->text) != 0;
	snprintf(l->status.last_error, sizeof l->status.last_error, "%s", why->text);
	l->status.last_code = why->code;
	l->status.connected = false;
	l->status.connected_since_ns = 0;
	if (l->status.disconnected_since_ns == 0)
		l->status.disconnected_since_ns = clock_real_ns();
	l->status.reconnects += was_connected;
	if (news && why->code != -ECANCELED)
		log_warning(was_connected ? "disconnected" : "connect_failed", "server=%s close=%s msg=\"%s\"",
		    l->status.server, hf_status_name(why->code), why->text);
	pthread_mutex_unlock(&l->lock);
}

/* ---- waiting ---- */

void
link_changed(struct link *l)
{
	pthread_cond_broadcast(&l->changed);
}

/* Sleep until something changed or deadline_ns (monotonic) passed; returns early now and then. Lock
 * held. */
static void
wait_until(struct link *l, int64_t deadline_ns)
{
	int64_t until_ns = clock_monotonic_ns() + STOP_LOOK_NS;
	struct timespec t;

	if (deadline_ns < until_ns)
		until_ns = deadline_ns;
	t.tv_sec = until_ns / NS_PER_SECOND;
	t.tv_nsec = until_ns % NS_PER_SECOND;
	pthread_cond_timedwait(&l->changed, &l->lock, &t);
}

/* 0 to go on waiting, or why the stream's calls must return. Lock held. */
static int
stream_trouble(struct link *l)
{
	if (atomic_load(&l->stopping))
		return -ECANCELED;
	return l->stream.state == STREAM_LOST ? -HF_ESTREAM : 0;
}

/* Wait until condition, evaluated under the lock, holds; r becomes 0 or what stream_trouble() says.
 */
#define WAIT_FOR(l, condition, r)                              \
	while (((r) = stream_trouble(l)) == 0 && !(condition)) \
	wait_until((l), INT64_MAX)

/* The same, for what the server has to take: see session.c's weigh_wait(). */
#define AWAIT_SERVER(l, condition, r)      \
	do {                               \
		(l)->awaiting++;           \
		WAIT_FOR(l, condition, r); \
		(l)->awaiting--;           \
	} while (0)

/* ---- the stream's queue ---- */

void
retained_free_all(struct retained_list *list)
{
	struct retained *f;

	while ((f = STAILQ_FIRST(list)) != NULL) {
		STAILQ_REMOVE_HEAD(list, next);
		free(f);
	}
}

void
stream_acknowledge(struct stream *st, uint64_t sequence)
{
	struct retained *f;

	while ((f = STAILQ_FIRST(&st->retained)) != NULL && f->sequence <= sequence) {
		assert(f != st->next_send);
		STAILQ_REMOVE_HEAD(&st->retained, next);
		st->retained_bytes -= f->len;
		st->acked_sequence = f->sequence;
		st->acked_chain = f->chain;
		free(f);
	}
}

void
stream_lose(struct link *l, const char *why)
{
	if (l->stream.state != STREAM_ACTIVE)
		return;
	log_notice("stream_lost", "stream=%016llx acked=%llu queued=%llu msg=\"%s\"", (unsigned long long)l->stream.id,
	    (unsigned long long)l->stream.acked_sequence, (unsigned long long)l->stream.queued_sequence, why);
	l->stream.state = STREAM_LOST;
	link_changed(l);
}

int
link_restart(struct link *l)
{
	struct stream *st = &l->stream;

	pthread_mutex_lock(&l->lock);
	STAILQ_CONCAT(&l->trash, &st->retained);
	memset(st, 0, sizeof *st);
	STAILQ_INIT(&st->retained);
	do
		random_bytes(&st->id, sizeof st->id);
	while (st->id == 0);
	st->queued_chain = st->acked_chain = st->id;
	st->state = STREAM_ACTIVE;
	l->compare_first = l->compare_count = l->compare_asked = l->compare_answered = 0;
	pthread_mutex_unlock(&l->lock);
	wake_thread(l);
	return 0;
}

/* A frame with room for message and payload; the lengths are final only in seal_frame(). */
static struct retained *
make_frame(size_t message_bytes, size_t payload_bytes)
{
	return malloc(sizeof(struct retained) + FRAME_HEADER_BYTES + message_bytes + payload_bytes);
}

/* Give the frame its header, its sequence number and its place in the chain. Only the caller's
 * thread queues, so what it reads here cannot move; the chain covers header and message, not the
 * payload. */
static void
seal_frame(struct link *l, struct retained *f, struct frame_header *h)
{
	h->sequence = l->stream.queued_sequence + 1;
	frame_header_encode(h, f->bytes);
	f->sequence = h->sequence;
	f->flags = h->flags;
	f->chain = digest_chain(l->stream.queued_chain, f->bytes, FRAME_HEADER_BYTES + h->message_bytes);
	f->len = FRAME_HEADER_BYTES + (size_t)h->message_bytes + h->payload_bytes;
}

static bool
window_has_room(const struct link *l, size_t len)
{
	return l->stream.retained_bytes == 0 || l->stream.retained_bytes + len <= l->window_bytes_max;
}

/* Takes f. Waits for room in the window. */
static int
queue_frame(struct link *l, struct retained *f)
{
	struct stream *st = &l->stream;
	int r;

	pthread_mutex_lock(&l->lock);
	assert(st->state != STREAM_NONE); /* link_restart() comes first */
	AWAIT_SERVER(l, window_has_room(l, f->len), r);
	if (r == 0) {
		STAILQ_INSERT_TAIL(&st->retained, f, next);
		st->retained_bytes += f->len;
		st->queued_sequence = f->sequence;
		st->queued_chain = f->chain;
		if (st->next_send == NULL)
			st->next_send = f;
	}
	pthread_mutex_unlock(&l->lock);
	if (r < 0)
		free(f);
	else
		wake_thread(l);
	return r;
}

/* Put the blocks behind the message, compressed if the server wished so and it helps. */
static void
add_payload(struct link *l, struct frame_header *h, unsigned char *at, const void *blocks, size_t len)
{
	size_t smaller = 0;
	unsigned flag;

	pthread_mutex_lock(&l->lock);
	flag = l->compression;
	pthread_mutex_unlock(&l->lock);
	if (flag != 0 && len > 0)
		smaller = payload_compress(flag, blocks, len, at);
	if (smaller > 0) {
		h->flags = flag;
		h->payload_bytes = (uint32_t)smaller;
		return;
	}
	memcpy(at, blocks, len);
	h->payload_bytes = (uint32_t)len;
}

int
link_send_data(struct link *l, const struct data_message *m, const void *blocks)
{
	size_t message_bytes = data_message_bytes(m), payload_bytes = m->digest_count * BLOCK_BYTES;
	struct frame_header h = {.type = FRAME_DATA, .message_bytes = (uint32_t)message_bytes};
	struct retained *f = make_frame(message_bytes, payload_bytes);

	if (f == NULL)
		return -ENOMEM;
	data_message_encode(m, f->bytes + FRAME_HEADER_BYTES);
	if (payload_bytes > 0)
		add_payload(l, &h, f->bytes + FRAME_HEADER_BYTES + message_bytes, blocks, payload_bytes);
	seal_frame(l, f, &h);
	return queue_frame(l, f);
}

static int
wait_durable(struct link *l, uint64_t sequence)
{
	int r;

	pthread_mutex_lock(&l->lock);
	AWAIT_SERVER(l, l->stream.acked_sequence >= sequence, r);
	pthread_mutex_unlock(&l->lock);
	return r;
}

int
link_checkpoint(struct link *l, const struct message_checkpoint *m)
{
	struct frame_header h = {.type = FRAME_CHECKPOINT};
	struct retained *f = make_frame(FRAME_MESSAGE_MAX, 0);
	uint64_t sequence;
	int r;

	if (f == NULL)
		return -ENOMEM;
	h.message_bytes = (uint32_t)message_checkpoint_encode(m, f->bytes + FRAME_HEADER_BYTES, FRAME_MESSAGE_MAX);
	seal_frame(l, f, &h);
	sequence = f->sequence;
	r = queue_frame(l, f);
	return r < 0 ? r : wait_durable(l, sequence);
}

int
link_flush(struct link *l)
{
	return wait_durable(l, l->stream.queued_sequence);
}

/* ---- declare ---- */

int
link_declare(
    struct link *l, const struct message_declare *volumes, struct message_volumes *ret_volumes, struct hf_error *err)
{
	int r = 0;

	pthread_mutex_lock(&l->lock);
	l->wanted = *volumes;
	l->declare_wanted = true;
	wake_thread(l);
	while (l->declare_wanted && !atomic_load(&l->stopping))
		wait_until(l, INT64_MAX);
	if (l->declare_wanted)
		r = hf_error_say(err, -ECANCELED, "stopped while declaring the volumes");
	else
		*ret_volumes = l->volumes;
	l->declare_wanted = false;
	pthread_mutex_unlock(&l->lock);
	return r;
}

uint64_t
link_digest_seed(struct link *l)
{
	uint64_t seed;

	pthread_mutex_lock(&l->lock);
	seed = l->digest_seed;
	pthread_mutex_unlock(&l->lock);
	return seed;
}

/* ---- questions ---- */

int
link_compare_begin(struct link *l, const struct message_compare *request)
{
	int r;

	assert(request->count >= 1 && request->count <= COMPARE_COUNT_MAX);
	pthread_mutex_lock(&l->lock);
	WAIT_FOR(l, l->compare_count < LINK_COMPARES_MAX, r);
	if (r == 0) {
		struct compare_slot *slot = &l->compares[(l->compare_first + l->compare_count) % LINK_COMPARES_MAX];

		slot->request = *request;
		slot->request.request_id = ++l->request_id;
		l->compare_count++;
	}
	pthread_mutex_unlock(&l->lock);
	wake_thread(l);
	return r;
}

int
link_compare_end(struct link *l, uint64_t *ret_digests, size_t count)
{
	struct compare_slot *slot;
	int r;

	pthread_mutex_lock(&l->lock);
	assert(l->compare_count > 0); /* else it would wait for ever */
	WAIT_FOR(l, l->compare_answered > 0, r);
	if (r == 0) {
		slot = &l->compares[l->compare_first];
		assert(slot->request.count == count);
		r = slot->status;
		if (r == 0)
			memcpy(ret_digests, slot->digests, count * sizeof *ret_digests);
		l->compare_first = (l->compare_first + 1) % LINK_COMPARES_MAX;
		l->compare_count--;
		l->compare_asked--;
		l->compare_answered--;
	}
	pthread_mutex_unlock(&l->lock);
	return r;
}

int
link_recent(struct link *l, uint32_t volume, struct message_recent_answer *ret_answer)
{
	int r;

	pthread_mutex_lock(&l->lock);
	l->recent.volume = volume;
	l->recent_state = RECENT_WANTED;
	wake_thread(l);
	WAIT_FOR(l, l->recent_state == RECENT_ANSWERED, r);
	if (r == 0)
		*ret_answer = l->recent_answer;
	l->recent_state = RECENT_NONE;
	pthread_mutex_unlock(&l->lock);
	return r;
}

size_t
link_take_requests(struct link *l, uint64_t *ret_ids, size_t max, bool *ret_compare)
{
	size_t n;

	pthread_mutex_lock(&l->lock);
	n = l->request_count < max ? l->request_count : max;
	memcpy(ret_ids, l->requests, n * sizeof *ret_ids);
	l->request_count -= n;
	*ret_compare = l->compare_requested;
	l->compare_requested = false;
	memmove(l->requests, l->requests + n, l->request_count * sizeof *l->requests);
	pthread_mutex_unlock(&l->lock);
	return n;
}

void
link_wait(struct link *l, int64_t timeout_ns)
{
	int64_t deadline_ns = clock_monotonic_ns() + timeout_ns;

	pthread_mutex_lock(&l->lock);
	while (stream_trouble(l) == 0 && l->request_count == 0 && clock_monotonic_ns() < deadline_ns)
		wait_until(l, deadline_ns);
	pthread_mutex_unlock(&l->lock);
}

/* ---- what is told, without waiting ---- */

void
link_begin_source_wait(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->source_wait_ns = clock_monotonic_ns();
	pthread_mutex_unlock(&l->lock);
}

void
link_end_source_wait(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->waits.source_ns += (uint64_t)(clock_monotonic_ns() - l->source_wait_ns);
	l->source_wait_ns = 0;
	pthread_mutex_unlock(&l->lock);
}

/* NULL: there is no room for one more. Lock held. */
static struct message_backlog *
backlog_of(struct link *l, uint32_t volume)
{
	for (size_t i = 0; i < l->backlog_count; i++)
		if (l->backlogs[i].volume == volume)
			return &l->backlogs[i];
	if (l->backlog_count == VOLUMES_MAX)
		return NULL;
	l->backlogs[l->backlog_count] = (struct message_backlog){.volume = volume};
	return &l->backlogs[l->backlog_count++];
}

void
link_set_backlog(struct link *l, uint32_t volume, uint64_t bytes)
{
	struct message_backlog *b;

	pthread_mutex_lock(&l->lock);
	b = backlog_of(l, volume);
	if (b != NULL)
		b->bytes = bytes;
	pthread_mutex_unlock(&l->lock);
}

void
link_clear_backlog(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->backlog_count = 0;
	pthread_mutex_unlock(&l->lock);
}

uint64_t
link_backlog(const struct link *l)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < l->backlog_count; i++)
		bytes += l->backlogs[i].bytes;
	return bytes;
}

enum new_disks_wish
link_new_disks(struct link *l)
{
	enum new_disks_wish wish;

	pthread_mutex_lock(&l->lock);
	wish = l->new_disks;
	pthread_mutex_unlock(&l->lock);
	return wish;
}

void
link_set_unchanged_until(struct link *l, int64_t clock_ns)
{
	pthread_mutex_lock(&l->lock);
	l->unchanged_until_ns = clock_ns;
	pthread_mutex_unlock(&l->lock);
}

void
link_report(struct link *l, const struct message_report *report)
{
	pthread_mutex_lock(&l->lock);
	l->report = *report;
	l->report_wanted = true;
	pthread_mutex_unlock(&l->lock);
	wake_thread(l);
}

/* When the ring is full the oldest goes: what happened last explains most. Lock held. */
static struct message_notice *
notice_room(struct link *l)
{
	if (l->notice_count == LINK_NOTICES_MAX) {
		l->notice_first = (l->notice_first + 1) % LINK_NOTICES_MAX;
		l->notice_count--;
	}
	return &l->notices[(l->notice_first + l->notice_count++) % LINK_NOTICES_MAX];
}

void
link_add_notice(struct link *l, const char *event, const char *text)
{
	struct message_notice *n = notice_room(l);

	snprintf(n->event, sizeof n->event, "%s", event);
	text_set(n->text, sizeof n->text, text);
	log_notice(event, "msg=\"%s\"", n->text);
}

void
link_notice(struct link *l, const char *event, const char *format, ...)
{
	char text[SENTENCE_BYTES];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	pthread_mutex_lock(&l->lock);
	link_add_notice(l, event, text);
	pthread_mutex_unlock(&l->lock);
	wake_thread(l);
}

void
link_get_status(struct link *l, struct link_status *ret_status)
{
	pthread_mutex_lock(&l->lock);
	*ret_status = l->status;
	ret_status->stream_id = l->stream.id;
	ret_status->acked_sequence = l->stream.acked_sequence;
	ret_status->sent_sequence = l->stream.sent_sequence;
	ret_status->unacked_bytes = l->stream.retained_bytes;
	ret_status->backlog_bytes = link_backlog(l);
	ret_status->report = l->report;
	ret_status->volumes = l->volumes;
	pthread_mutex_unlock(&l->lock);
}
