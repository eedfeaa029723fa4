/* SPDX-License-Identifier: Apache-2.0 */
/* worker.h: a thread with a loop, a ring and slabs. It owns its share of the sources for the life of the process, and
 * with them the only right to append to their journals; and it runs sessions: any while they shake hands, later those
 * of its own sources.
 *
 * A turn of the loop: sockets are read, completions drained, mail delivered; whoever has something to finish is
 * *touched*, and when everybody had his turn, on_turn_end() finishes for all: jobs are fetched, acknowledgements sent,
 * the ring submitted once. */
#ifndef HF_SERVER_WORKER_H
#define HF_SERVER_WORKER_H

#include <pthread.h>
#include <semaphore.h>

#include "proto/frame.h"
#include "server/server.h"
#include "server/status.h"
#include "storage/slab.h"

struct session;
struct source;

struct worker {
	struct server *server;
	unsigned index;
	pthread_t thread;
	sem_t started;
	int status; /* of its start, known once started is posted */
	struct hf_error err;

	struct event_base *base;
	struct mailbox *mailbox;
	struct disk *disk;
	struct slabs *slabs;
	unsigned slab_count;
	SSL_CTX *ctx;
	struct event *disk_event, *tick, *turn_end;
	bool turn_end_pending, draining;
	struct mail *drained;   /* to be posted when nothing is left; NULL: not draining, or posted */
	int64_t stood_still_ns; /* monotonic: when it went on after standing still; 0 = it never did */
	int64_t now_ns;         /* monotonic; of the last tick: for what need not be exact */
	_Atomic unsigned ticks; /* read by others: see worker_ticks() */
	char name[16];

	struct source *sources;   /* uthash by id */
	struct session *sessions; /* utlist, oldest first */
	unsigned handshake_count;
	struct source *touched_sources;
	struct session *touched_sessions;
	struct session *dead_sessions; /* freed when the turn ends: somebody up the stack may still hold them */

	/* Scratch, for the time of one call: a frame's header and message; a compressed payload; and what is too large
	 * for a stack. */
	unsigned char *frame;      /* FRAME_HEADER_BYTES + FRAME_MESSAGE_MAX */
	unsigned char *compressed; /* FRAME_PAYLOAD_MAX */
	unsigned char *out;        /* as frame, for what is sent */
	struct data_message *data;
	struct source_status *status_scratch;
	struct store_volume *volume_scratch; /* STORE_VOLUMES_MAX */
};

/* Start a worker and wait until its loop runs, or why not. */
int worker_create(
    struct server *server, unsigned index, unsigned slab_count, struct worker **ret_worker, struct hf_error *err);

/* Main thread. Take a connection that was just accepted: it shakes hands on this worker. Takes fd. */
void worker_accept(struct worker *w, int fd, const char *peer);

/* Main thread. Say goodbye to all sessions, close all stores; posts `drained` to the main thread's mailbox when all of
 * it is done. */
void worker_drain(struct worker *w, struct mail *drained);

/* Main thread. The server's certificate is another one: handshakes from now on use ctx (of pki_data_ctx()). Takes it.
 */
void worker_use_ctx(struct worker *w, SSL_CTX *ctx);

/* It stands still, or did until a moment ago: what broke off is not to be blamed on others. Worker thread. */
bool worker_stood_still(const struct worker *w);

/* Grows four times a second, for as long as its loop goes on. Any thread. */
unsigned worker_ticks(const struct worker *w);
const char *worker_name(const struct worker *w); /* of its thread */

/* Main thread, after it has drained or failed to start: end the thread, free. NULL is allowed. */
void worker_destroy(struct worker *w);

/* ---- its own thread's ---- */
void worker_touch(struct worker *w); /* on_turn_end() runs at the end of this turn */
struct source *worker_find_source(struct worker *w, const struct id *id);
void worker_check_drained(struct worker *w); /* a session or a source is gone */

#endif
