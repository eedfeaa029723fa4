/* SPDX-License-Identifier: Apache-2.0 */
/* fake_server.h: a server for tests of the agent's link: it speaks the protocol over real TLS,
 * keeps the books of one stream, and misbehaves on request. It stores no data; what is durable is
 * what the test says.
 *
 * A thread serves one connection at a time. Tests set the knobs and read the books under the lock.
 */
#ifndef HF_TESTS_FAKE_SERVER_H
#define HF_TESTS_FAKE_SERVER_H

#include <pthread.h>
#include <stdatomic.h>

#include "proto/message.h"
#include "tests/lib/fake_pki.h"

enum {
	FAKE_FRAMES_MAX = 4096,
	FAKE_CONNECTIONS_MAX = 64,
};

struct fake_connection { /* what one connection brought */
	bool greeted, started, resumed;
	unsigned declares;
	uint64_t start_stream_id;
	uint64_t first_sequence, last_sequence;  /* of stream frames; 0 = none */
	uint64_t stream_bytes, stream_bytes_max; /* sent by the agent, and the credit it had then */
	uint64_t compares, heartbeats, key_updates;
	long certificate_serial;
	bool left; /* it said goodbye */
	struct message_goodbye goodbye;
	struct message_hello hello;
};

struct fake_server {
	/* set before fake_server_start() */
	struct fake_identity ca, identity;
	uint32_t heartbeat_interval_ms;
	unsigned compression;

	/* knobs, under the lock */
	uint64_t credit_window;               /* credit = stream bytes received on the connection + this */
	uint64_t durable_max;                 /* frames up to it become durable as they arrive */
	uint64_t ack_max;                     /* ... and up to it the agent is told */
	uint64_t cut_at;                      /* drop the connection when this sequence arrived, once; 0 = never */
	uint32_t first_volume;                /* number of the first volume declared */
	uint64_t chain_lie;                   /* added to the chain in Welcome */
	bool mute;                            /* send nothing */
	bool stammers;                        /* send a TLS record byte by byte, and nothing else: it never ends */
	bool deaf;                            /* read nothing */
	bool cut_at_compare;                  /* drop the connection at the next COMPARE, once */
	bool cut_now;                         /* drop the connection, once */
	int goodbye;                          /* answer HELLO with this status */
	uint64_t request_id;                  /* send a CHECKPOINT_REQUEST, once */
	bool renew;                           /* send a RENEW_REQUEST, once */
	bool break_protocol;                  /* send a frame that only an agent may send, once */
	const struct fake_identity *named_ca; /* RENEWED names this CA; NULL = ours */
	const struct fake_identity *next_ca;  /* RENEWED brings this one, and a certificate of it; NULL = none */

	/* books, under the lock */
	uint64_t stream_id, received, durable, chain, durable_chain;
	uint64_t chains[FAKE_FRAMES_MAX]; /* after each sequence */
	char trouble[256];                /* the first thing the agent did wrong; "" = nothing */
	struct fake_connection connections[FAKE_CONNECTIONS_MAX];
	unsigned connection_count;
	struct message_checkpoint checkpoint; /* the newest */
	struct message_notice notice;
	uint64_t sum; /* of all payload bytes of frames that were new */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	int listen_fd, port;
	SSL_CTX *context;
	pthread_t thread;
	atomic_bool stopping;
};

/* Defaults: endless credit, everything durable and told at once, 100 ms heartbeats, volumes from 1.
 */
void fake_server_init(struct fake_server *s);
void fake_server_start(struct fake_server *s);
void fake_server_stop(struct fake_server *s); /* and free what it holds */

/* Wait until condition(s, arg) holds, at most 20 s; false if it never did. Takes the lock around
 * the condition. */
bool fake_server_wait(
    struct fake_server *s, bool (*condition)(const struct fake_server *s, uint64_t arg), uint64_t arg);

/* Change knobs or read books: fake_server_lock(s); ...; fake_server_unlock(s), which also wakes the
 * server. */
void fake_server_lock(struct fake_server *s);
void fake_server_unlock(struct fake_server *s);

#endif
