/* SPDX-License-Identifier: Apache-2.0 */
#include "server/worker.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/util.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uthash.h>
#include <utlist.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/limits.h"
#include "server/read_ahead.h"
#include "server/session.h"
#include "server/session_impl.h"
#include "server/source.h"
#include "server/source_impl.h"

/* ---- the turn ---- */

void
worker_touch(struct worker *w)
{
	if (w->turn_end_pending)
		return;
	w->turn_end_pending = true;
	/* Activated events run after all that are active already: at the end of this turn. */
	event_active(w->turn_end, EV_TIMEOUT, 0);
}

static void
free_dead_sessions(struct worker *w)
{
	struct session *s, *next;

	for (s = w->dead_sessions; s != NULL; s = next) {
		next = s->next_dead;
		if (s->jobs_out > 0)
			continue; /* a job still points to it: its end touches the worker again */
		LL_DELETE2(w->dead_sessions, s, next_dead);
		session_free(s);
	}
}

static void
on_turn_end(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	w->turn_end_pending = false;
	while (w->touched_sources != NULL) {
		struct source *src = w->touched_sources;

		LL_DELETE2(w->touched_sources, src, next_touched);
		src->touched = false;
		source_turn_end(src);
	}
	while (w->touched_sessions != NULL) {
		struct session *s = w->touched_sessions;

		LL_DELETE2(w->touched_sessions, s, next_touched);
		s->touched = false;
		session_turn_end(s);
	}
	free_dead_sessions(w);
	disk_submit(w->disk);
	worker_check_drained(w);
}

static void
on_disk(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	disk_drain(w->disk);
	worker_touch(w); /* callbacks may have queued more */
}

bool
worker_stood_still(const struct worker *w)
{
	int64_t now_ns = clock_monotonic_ns();

	return now_ns - w->now_ns > STOOD_STILL_NS || /* the first of what waited may be a session that ends */
	       (w->stood_still_ns != 0 && now_ns - w->stood_still_ns < STOOD_STILL_FOR_NS);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	struct session *s, *next;
	bool second = (atomic_fetch_add(&w->ticks, 1) + 1) % (NS_PER_SECOND / TICK_NS) == 0;

	if (clock_monotonic_ns() - w->now_ns > STOOD_STILL_NS)
		w->stood_still_ns = clock_monotonic_ns();
	w->now_ns = clock_monotonic_ns();
	for (s = w->sessions; s != NULL; s = next) {
		next = s->next; /* it may be buried meanwhile, but it is not freed before the turn ends */
		session_tick(s, w->now_ns);
	}
	for (struct source *src = w->sources; src != NULL; src = src->hh.next)
		source_tick(src, w->now_ns, second);
	worker_touch(w);
}

unsigned
worker_ticks(const struct worker *w)
{
	return atomic_load(&w->ticks);
}

const char *
worker_name(const struct worker *w)
{
	return w->name;
}

/* ---- sessions that arrive ---- */

static void
on_accepted(struct mail *mail)
{
	struct session *s = session_from_mail(mail);

	session_begin(s, s->worker);
}

void
worker_accept(struct worker *w, int fd, const char *peer)
{
	struct session *s = session_create(w->server, fd, peer);

	if (s == NULL)
		return; /* no memory: fd is closed, the agent comes again */
	s->worker = w;
	s->mail.deliver = on_accepted;
	mailbox_post(w->mailbox, &s->mail);
}

struct source *
worker_find_source(struct worker *w, const struct id *id)
{
	struct source *src;

	HASH_FIND(hh, w->sources, id->text, ID_BYTES, src);
	return src;
}

/* ---- a new server certificate ---- */

struct ctx_mail {
	struct mail mail;
	struct worker *worker;
	SSL_CTX *ctx;
};

static void
on_ctx(struct mail *mail)
{
	struct ctx_mail *m = (struct ctx_mail *)mail;

	SSL_CTX_free(m->worker->ctx); /* sessions that use it hold it */
	m->worker->ctx = m->ctx;
	free(m);
}

void
worker_use_ctx(struct worker *w, SSL_CTX *ctx)
{
	struct ctx_mail *m = calloc(1, sizeof *m);

	if (m == NULL)
		abort(); /* not even this much memory: what is acknowledged is on disk, so leave at once */
	m->worker = w;
	m->ctx = ctx;
	m->mail.deliver = on_ctx;
	mailbox_post(w->mailbox, &m->mail);
}

/* ---- the end ---- */

struct drain_mail {
	struct mail mail;
	struct worker *worker;
	struct mail *drained;
};

void
worker_check_drained(struct worker *w)
{
	struct mail *drained = w->drained;

	if (!w->draining || drained == NULL || w->dead_sessions != NULL || w->sources != NULL)
		return;
	/* Of all workers: one may be on its way to us from another. */
	if (atomic_load(&w->server->session_count) > 0)
		return;
	w->drained = NULL;
	mailbox_post(w->server->mailbox, drained);
}

static void
on_drain(struct mail *mail)
{
	struct drain_mail *m = (struct drain_mail *)mail;
	struct worker *w = m->worker;
	struct session *s, *next;
	struct source *src, *next_source;

	w->drained = m->drained;
	free(m);
	w->draining = true;
	for (s = w->sessions; s != NULL; s = next) {
		next = s->next;
		session_end(s, -HF_ESHUTDOWN, "the server is shutting down", "");
	}
	for (src = w->sources; src != NULL; src = next_source) {
		next_source = src->hh.next;
		source_shutdown(src);
	}
	worker_touch(w);
}

void
worker_drain(struct worker *w, struct mail *drained)
{
	struct drain_mail *m = calloc(1, sizeof *m);

	if (m == NULL)
		abort(); /* not even this much memory: what is acknowledged is on disk, so leave at once */
	m->worker = w;
	m->drained = drained;
	m->mail.deliver = on_drain;
	mailbox_post(w->mailbox, &m->mail);
}

/* ---- life ---- */

static int
make_scratch(struct worker *w)
{
	w->frame = malloc(FRAME_HEADER_BYTES + FRAME_MESSAGE_MAX);
	w->out = malloc(FRAME_HEADER_BYTES + FRAME_MESSAGE_MAX);
	w->compressed = malloc(FRAME_PAYLOAD_MAX);
	w->data = calloc(1, sizeof *w->data);
	w->status_scratch = calloc(1, sizeof *w->status_scratch);
	w->volume_scratch = calloc(STORE_VOLUMES_MAX, sizeof *w->volume_scratch);
	if (w->frame == NULL || w->out == NULL || w->compressed == NULL || w->data == NULL ||
	    w->status_scratch == NULL || w->volume_scratch == NULL)
		return -ENOMEM;
	return 0;
}

static struct event_base *
make_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config == NULL)
		return NULL;
	/* One thread uses it; everybody else goes through the mailbox. */
	if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0)
		base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

static int
make_events(struct worker *w)
{
	static const struct timeval tick = {0, TICK_NS / 1000};

	w->disk_event = event_new(w->base, disk_fd(w->disk), EV_READ | EV_PERSIST, on_disk, w);
	w->tick = event_new(w->base, -1, EV_PERSIST, on_tick, w);
	w->turn_end = event_new(w->base, -1, 0, on_turn_end, w);
	if (w->disk_event == NULL || w->tick == NULL || w->turn_end == NULL)
		return -ENOMEM;
	if (event_add(w->disk_event, NULL) < 0 || event_add(w->tick, &tick) < 0)
		return -ENOMEM;
	return 0;
}

static int
make_memory(struct worker *w)
{
	bool registered;
	int r = slabs_create(w->disk, w->slab_count, &w->slabs, &registered);

	if (r < 0)
		return hf_error_set(&w->err, r, "%u slabs of 2 MiB (ingest.memory_bytes)", w->slab_count);
	if (!registered && w->index == 0)
		log_notice("buffers_unregistered",
		    "msg=\"I/O goes without registered buffers, a little slower: raise LimitMEMLOCK (ulimit -l)\"");
	r = make_scratch(w);
	return r < 0 ? hf_error_set(&w->err, r, "buffers of a worker") : 0;
}

/* All in its own thread: a ring is used by the thread that made it, and memory lies near its core. */
static int
set_up(struct worker *w)
{
	int r = disk_ring_create(WORKER_RING_DEPTH, &w->disk, &w->err);

	if (r == 0)
		r = make_memory(w);
	if (r < 0)
		return r;
	w->base = make_base();
	if (w->base == NULL)
		return hf_error_set(&w->err, -ENOMEM, "the loop of a worker");
	r = mailbox_create(w->base, &w->mailbox);
	if (r == 0)
		r = make_events(w);
	if (r < 0)
		return hf_error_set(&w->err, r, "the loop of a worker");
	return pki_data_ctx(w->server->pki, &w->ctx, &w->err);
}

static void
free_event(struct event *event)
{
	if (event != NULL)
		event_free(event);
}

static void
tear_down(struct worker *w)
{
	SSL_CTX_free(w->ctx);
	free_event(w->disk_event);
	free_event(w->tick);
	free_event(w->turn_end);
	mailbox_destroy(w->mailbox);
	if (w->base != NULL)
		event_base_free(w->base);
	slabs_destroy(w->slabs);
	disk_destroy(w->disk);
	free(w->frame);
	free(w->out);
	free(w->compressed);
	free(w->data);
	free(w->status_scratch);
	free(w->volume_scratch);
	read_ahead_end_thread();
}

static void *
run_worker(void *arg)
{
	struct worker *w = arg;

	w->status = set_up(w);
	w->now_ns = clock_monotonic_ns();
	sem_post(&w->started);
	if (w->status == 0)
		event_base_loop(w->base, EVLOOP_NO_EXIT_ON_EMPTY);
	tear_down(w);
	return NULL;
}

int
worker_create(
    struct server *server, unsigned index, unsigned slab_count, struct worker **ret_worker, struct hf_error *err)
{
	struct worker *w = calloc(1, sizeof *w);
	int r;

	if (w == NULL)
		return hf_error_set(err, -ENOMEM, "worker %u", index);
	w->server = server;
	w->index = index;
	w->slab_count = slab_count;
	sem_init(&w->started, 0, 0);
	r = -pthread_create(&w->thread, NULL, run_worker, w);
	if (r < 0) {
		free(w);
		return hf_error_set(err, r, "worker %u", index);
	}
	snprintf(w->name, sizeof w->name, "worker%u", index);
	pthread_setname_np(w->thread, w->name);
	sem_wait(&w->started);
	if (w->status < 0) {
		r = w->status;
		if (err != NULL)
			*err = w->err;
		pthread_join(w->thread, NULL);
		free(w);
		return r;
	}
	*ret_worker = w;
	return 0;
}

struct stop_mail {
	struct mail mail;
	struct worker *worker;
};

static void
on_stop(struct mail *mail)
{
	struct stop_mail *m = (struct stop_mail *)mail;

	event_base_loopbreak(m->worker->base);
}

void
worker_destroy(struct worker *w)
{
	struct stop_mail stop = {.mail.deliver = on_stop, .worker = w};

	if (w == NULL)
		return;
	mailbox_post(w->mailbox, &stop.mail);
	pthread_join(w->thread, NULL);
	sem_destroy(&w->started);
	free(w);
}
