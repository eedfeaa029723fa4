/* SPDX-License-Identifier: Apache-2.0 */
/* session.h: one session with the server, while it lasts. The link's thread alone touches it.
 *Inside the link only.
 *
 *	session.c       its life: greeting, reading, writing, deadlines, end
 *	session_say.c   turns what the caller noted in the link into control frames
 *	session_hear.c  what each frame of the server means
 *	dial.c          makes one session after the other */
#ifndef HF_AGENT_SESSION_H
#define HF_AGENT_SESSION_H

#include "agent/link_impl.h"
#include "agent/wire.h"
#include "proto/common/units.h"

#define NS_PER_MS (NS_PER_SECOND / 1000)

enum session_state { SESSION_GREETING, SESSION_DECLARING, SESSION_STREAMING };

struct buffer {
	unsigned char *bytes;
	size_t len, capacity;
};

struct session {
	struct link *l;
	struct wire *wire;
	enum session_state state;
	struct message_welcome welcome;
	int64_t deadline_ns; /* of the greeting */
	int64_t welcomed_ns; /* monotonic; 0 = not yet */

	struct message_fetch fetch; /* the block asked for */
	bool fetch_asked;

	struct message_volumes answer; /* scratch for VOLUMES */
	bool declare_asked, declare_checks, declared;
	uint64_t stream_id; /* of the START sent here; 0 = none */
	uint64_t credit_bytes, stream_bytes, sent_sequence;
	bool held;       /* the source is paused: no stream frame is begun */
	bool progressed; /* something new was acknowledged */

	int64_t heartbeat_ns, next_heartbeat_ns, next_report_ns;
	uint64_t received_bytes; /* as of the last look; when it moved is heard_ns */
	int64_t heard_ns;
	int64_t next_look_ns; /* at the path; see check_path() */
	int64_t stalled_ns;   /* since when it seems cut; 0 = it does not */
	int64_t peer_clock_ns, peer_clock_heard_ns;

	struct buffer waiting, writing; /* control frames; `writing` is on the wire */
	const struct retained *frame;   /* stream frame on the wire; NULL = none */
	const unsigned char *piece;     /* what is being written: `writing` or `frame` */
	size_t piece_len, piece_written;

	int64_t weighed_ns; /* up to when waits are counted */

	struct hf_error why; /* code 0 = alive */
	bool own_end;        /* it was us who ended it */
};

/* How a session went, for whoever decides when to try again. */
struct session_outcome {
	int code;        /* negative errno or -HF_E... */
	bool welcomed;   /* the address is good: try it again first */
	bool progressed; /* the session was of use: the next failure is a new one */
	bool answered;   /* somebody accepted our connection: no hurry to disturb them again */
};

/* Connect, speak, until the session ends or the link is stopped. failures: tries in vain before
 * this one. */
struct session_outcome session_run(struct link *l, const struct address_resolved *to, int failures);

/* End the session, for a reason of our own: the server is told, if it can be. The first reason stands. */
void session_end(struct session *s, int code, const char *text);

/* Act on one frame of the server. Lock held. */
void session_hear(struct session *s, const struct wire_frame *f);

/* Queue control frames for everything that is due. Takes the lock. */
void session_say(struct session *s);
void session_say_hello(struct session *s);
void session_say_renew(struct session *s, const struct message_renew *m);
void session_say_goodbye(struct session *s, const struct hf_error *why); /* -ECANCELED: in good order */

/* Whether the stream can go on where Welcome says; its frames up to there are then durable. Lock
 * held. */
bool session_can_resume(const struct session *s);

#endif
