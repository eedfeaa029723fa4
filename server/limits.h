/* SPDX-License-Identifier: Apache-2.0 */
/* limits.h: every bound of the running server, with its reason. What an administrator may want to change is in config.h
 * instead. */
#ifndef HF_SERVER_LIMITS_H
#define HF_SERVER_LIMITS_H

#include <stdint.h>

#include "proto/common/units.h"

enum {
	/* Connections that have not shown a certificate yet, per worker: what a flood may hold. The oldest goes first,
	 * so a flood cannot keep an honest agent out for longer than its own handshake takes. */
	HANDSHAKES_MAX = 256,

	/* Bytes one session may read per turn of the loop: large enough that a turn's fixed cost vanishes, small enough
	 * that 64 busy sessions all get their turn within some milliseconds. */
	READ_BUDGET_BYTES = 1024 * 1024,

	/* Sessions lost within NETWORK_WINDOW_NS that make a network unstable: one is a cable, two are chance. */
	NETWORK_LOSSES = 3,

	/* Least that an agent may have on its way: one frame of the largest size fits, as docs/protocol.md promises. */
	CREDIT_MIN_BYTES = 2 * 1024 * 1024,

	/* Answers waiting for a slow reader. Above HIGH nothing more is computed for the session until it is below LOW;
	 * HARD is never reached by what we send unasked (acks, heartbeats), so reaching it is a fault of the peer. */
	OUTPUT_LOW_BYTES = 64 * 1024,
	OUTPUT_HIGH_BYTES = 256 * 1024,
	OUTPUT_HARD_BYTES = 1024 * 1024,

	/* Compares a session may have asked and not been answered, as the protocol says. */
	COMPARES_MAX = 16,

	/* Requests for a point by hand that wait for their checkpoint, per source: each is an administrator at a
	   prompt. */
	PIT_REQUESTS_MAX = 16,

	/* Heartbeats get rarer by one interval for so many sessions: 10,000 agents then cost as much as 1,000. */
	SESSIONS_PER_INTERVAL = 1000,

	/* Events waiting for the catalog thread. Beyond it they are only logged, and counted (events_lost): a storm of
	   refusals must not fill memory. */
	EVENTS_PENDING_MAX = 1024,

	/* Events that a source's agent causes by what it says: so many at once, then one a second. The thread that
	   keeps them, and the room for them, are everybody's. */
	AGENT_EVENTS_MAX = 128,

	/* Operations in flight on a worker's ring, and on that of a thread that works one thing at a time. */
	WORKER_RING_DEPTH = 512,
	JOB_RING_DEPTH = 64,

	/* Two threads read for exports and compares: one slow disk read does not stop the other reader. */
	READER_THREADS = 2,
	RUN_CACHE_BYTES = 8 * 1024 * 1024, /* of each thread that reads runs */

	/* Blocks read back per volume before a point counts as verified. */
	VERIFY_SAMPLES = 16,

	/* Bytes thrown away per turn of a session that is being closed: the peer may have sent its whole credit. */
	DISCARD_BUDGET_BYTES = 4 * 1024 * 1024,

	/* A worker needs at least this many slabs to overlap reading with writing. */
	SLABS_MIN = 8,

	/* How old the newest point of a source without a target may be, before monitoring says so. */
	RPO_TARGET_DEFAULT_S = 900,

	/* Descriptors asked of the kernel at start: a session, and a few files a source. */
	DESCRIPTORS_WANTED = 65536,
};

/* Whole handshake, certificate to HELLO included: absolute, so a byte a second buys nothing. */
#define HANDSHAKE_DEADLINE_NS (10 * NS_PER_SECOND)

/* Who has not ticked for so long stood still: stopped, its machine paused or moved, or without a processor. Sessions
 * that end soon after that were not lost on the way. */
#define STOOD_STILL_NS     (2 * NS_PER_SECOND)
#define STOOD_STILL_FOR_NS (10 * NS_PER_SECOND)

/* A session is silent after three intervals, but never sooner than this. */
#define SILENCE_MIN_NS (5 * NS_PER_SECOND)

/* An unstable network has become steady when no session was lost for so long. */
#define NETWORK_WINDOW_NS (600 * NS_PER_SECOND)

/* How long a closing session may take to read our goodbye. */
#define CLOSE_DEADLINE_NS (2 * NS_PER_SECOND)

/* The worker's clock: heartbeats, deadlines, published status. */
#define TICK_NS (NS_PER_SECOND / 4)

/* A cached view keeps folds waiting: it goes when nobody compared for so long. */
#define VIEW_IDLE_NS (5 * NS_PER_SECOND)

/* A point already verified: the next one is read back after this. */
#define VERIFY_INTERVAL_NS (60 * NS_PER_SECOND)

/* A store that failed is opened again after this, then after twice as long, up to a minute. */
#define REOPEN_DELAY_NS     (1 * NS_PER_SECOND)
#define REOPEN_DELAY_MAX_NS (60 * NS_PER_SECOND)

/* A store says "full" only until it tries again, every second: it counts as full for so long after it last said so. */
#define FULL_HOLD_NS (3 * NS_PER_SECOND)

/* A staging disk that says nothing for so long holds its source up: longer than a cache flush behind a full queue
 * takes, and no longer than an operator would want to wait for the word. */
#define DISK_SILENT_NS (20 * NS_PER_SECOND)

/* So long an RPO target was met before it is said so: points of the age of the target miss it at every turn, and events
 * are kept in a bounded number. */
#define TARGET_HOLD_NS (60 * NS_PER_SECOND)

/* A job of a store that fails in the same way again and again is logged no more often. */
#define JOB_LOG_INTERVAL_NS (60 * NS_PER_SECOND)

/* How often a renewal is asked for again if the agent does not answer. */
#define RENEW_RETRY_NS (600 * NS_PER_SECOND)

/* AES-GCM's margin: keys are changed after so many bytes each way. */
#define REKEY_BYTES (UINT64_C(256) << 30)

/* How often it is counted what a source takes: for people; and where a quota must be kept. */
#define USAGE_INTERVAL_NS       (10 * NS_PER_SECOND)
#define USAGE_QUOTA_INTERVAL_NS (1 * NS_PER_SECOND)

#endif
