/* SPDX-License-Identifier: Apache-2.0 */
/* session.h: one TLS connection of one agent, from accept to close. It runs on one worker at a time: the one it was
 * accepted for while it shakes hands and is authorised, then the one that owns its source.
 *
 *	HANDSHAKE   TLS                                        worker that accepted it
 *	AUTHORISE   is this certificate ours? (catalog thread)
 *	HELLO       first byte of the protocol is read
 *	ADMIT       nonce, incarnation (catalog thread)
 *	QUEUED      handed over; waits for the store to open,  owner of the source
 *	            and for an older session's last frames
 *	DECLARE     WELCOME sent
 *	DECLARING   volumes' files are made (catalog thread)
 *	START
 *	STREAMING   credit given
 *	CLOSING     GOODBYE on its way, input thrown away
 *	DEAD        freed when nobody can hold it any more
 *
 * Everything that ends a session goes through session_end() (we end it) or session_vanished() (the peer did). */
#ifndef HF_SERVER_SESSION_H
#define HF_SERVER_SESSION_H

#include <stdint.h>

#include "server/mailbox.h"

struct server;
struct session;
struct worker;

enum session_state {
	SESSION_HANDSHAKE,
	SESSION_AUTHORISE,
	SESSION_HELLO,
	SESSION_ADMIT,
	SESSION_QUEUED,
	SESSION_DECLARE,
	SESSION_DECLARING,
	SESSION_START,
	SESSION_STREAMING,
	SESSION_CLOSING,
	SESSION_DEAD,
};

const char *session_state_name(enum session_state s);

/* A connection just accepted; peer: its address, copied. Takes fd, also on failure. NULL when out of memory. */
struct session *session_create(struct server *server, int fd, const char *peer);
void session_free(struct session *s); /* worker.c alone: when it is DEAD and no job is out */

/* Everything below on the thread of the session's worker. */

/* The handshake begins on w. */
void session_begin(struct session *s, struct worker *w);

/* It was handed over to its source's worker. The source calls session_welcome() when its store is ready. */
void session_welcome(struct session *s);

/* Say GOODBYE (if the peer can hear it) and close. status: 0 or negative; cure: what the peer's admin should type, or
 * "". Logged once; refusals are kept as events. May be called at any time; does nothing if it ends already. */
void session_end(struct session *s, int status, const char *text, const char *cure);

/* Something that held up reading is over: a frame that waited is tried again. */
void session_resume(struct session *s);

/* An acknowledgement or an answer may be due: session_turn_end() runs when the turn ends. */
void session_touch(struct session *s);
void session_turn_end(struct session *s);

/* Heartbeats, deadlines, renewal. now_ns: monotonic. */
void session_tick(struct session *s, int64_t now_ns);

/* ---- what a source has its session say ---- */
void session_send_checkpoint_request(struct session *s, uint64_t request_id, bool compare);
/* The agent can be asked for a block now: it knows how, and none is on its way. */
bool session_can_fetch(const struct session *s);
void session_send_fetch(struct session *s, uint64_t request_id, uint32_t volume, uint64_t block);

#endif
