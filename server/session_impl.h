/* SPDX-License-Identifier: Apache-2.0 */
/* session_impl.h: inside of a session, for session*.c; worker.c and source*.c look at what is said to be theirs. */
#ifndef HF_SERVER_SESSION_IMPL_H
#define HF_SERVER_SESSION_IMPL_H

#include "proto/message.h"
#include "server/credit.h"
#include "server/jobs.h"
#include "server/peer_clock.h"
#include "server/pki.h"
#include "server/session.h"
#include "server/tls_stream.h"
#include "server/worker.h"

struct source;

/* Where reading is: a frame is read in steps, each of which may have to wait for more bytes. */
enum read_step {
	READ_HEADER,
	READ_MESSAGE,
	READ_PAYLOAD,
	READ_HELD, /* frame is whole, and waits for a slab, for space, or for another answer: see session_resume() */
};

struct session {
	uint32_t magic;
	struct server *server;
	struct worker *worker;
	struct session *prev, *next; /* worker's sessions */
	struct session *next_touched, *next_dead;
	bool touched, listed;
	struct mail mail; /* on its way to a worker */

	int fd; /* until session_begin(): then tls has it */
	struct tls_stream *tls;
	enum session_state state;
	uint64_t number; /* for logs; a later connection has a higher one */
	char peer[64];
	unsigned jobs_out;    /* jobs that point to it */
	int64_t deadline_ns;  /* until HELLO, and of the goodbye; 0 = none */
	int64_t heard_ns;     /* when the last byte came */
	uint64_t heard_bytes; /* up to which one */
	bool shut;            /* CLOSING: our direction is ended */
	bool renew_asked;
	unsigned ca_generation; /* up to which its agent knows the CAs: see pki_generation() */

	struct pki_peer certificate;
	struct source *source; /* QUEUED..STREAMING; NULL once it has left it */
	uint64_t admit_number; /* order of admission: the highest of a source is the rightful one */
	int64_t interval_ns, next_heartbeat_ns, renew_ns;
	unsigned compression; /* of enum frame_flag, negotiated; 0 = none */
	struct {              /* of HELLO */
		unsigned char nonce[NONCE_BYTES];
		uint64_t incarnation, last_stream_id, last_acked_sequence;
		struct earlier_streams earlier;
		uint32_t protocol_version;
		int64_t clock_ns, received_ns;
		unsigned compressions, features;
	} hello;

	/* reading */
	enum read_step step;
	unsigned char header_bytes[FRAME_HEADER_BYTES];
	size_t header_done, message_done, payload_done;
	struct frame_header header;
	unsigned char *own; /* header and message, when they must outlive the turn; else they are in worker->frame */
	unsigned char *payload; /* in a slab, from store_frame_begin() */
	size_t payload_blocks;
	size_t budget; /* bytes left in this turn */

	/* stream */
	uint64_t welcome_stream_id, welcome_sequence, welcome_chain;
	uint64_t next_sequence, chain;
	uint64_t acked_sequence, acked_credit; /* as last told */
	bool acked_hold;
	struct credit credit;
	uint32_t volumes[VOLUMES_MAX]; /* numbers of those that are OK in the newest VOLUMES */
	size_t volume_count;
	unsigned compares_out;
	uint64_t fetch_id; /* of the block asked for; 0 = none */

	/* clocks */
	struct peer_clock clock;
	int64_t echo_clock_ns, echo_received_ns; /* peer's newest heartbeat: its clock, our monotonic clock then */
};

struct session *session_from_mail(struct mail *mail);

/* ---- session.c ---- */
const unsigned char *session_frame_bytes(const struct session *s); /* header and message of the frame being handled */
int session_keep_frame(struct session *s);                         /* it must outlive the turn. -ENOMEM */
void session_enter(struct session *s, enum session_state next);
void session_vanished(struct session *s, int status);
int64_t session_silence_ns(const struct session *s); /* it ends when nothing was heard for so long */

/* End it with a text made from format; returns -ECANCELED, for a frame's handler to return. */
int session_refuse(struct session *s, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Queue a frame; it goes out when the turn ends. message is len bytes at worker->out + FRAME_HEADER_BYTES. */
void session_send(struct session *s, enum frame_type type, size_t len, const void *payload, size_t payload_len);

/* ---- session_admit.c: who it is ---- */
void session_authorise(struct session *s);
int session_admit(struct session *s, const struct message_hello *hello); /* as a frame's handler */
void session_hand_over(struct session *s);

/* ---- session_frame.c: what each frame does ---- */
int session_check_frame(struct session *s); /* its header was read: is it allowed now? 0 or -ECANCELED */
int session_handle_frame(
    struct session *s); /* its message was read. 0; -EAGAIN: hold it; -ECANCELED: the session ended */
int session_finish_payload(struct session *s);
void session_send_ack(struct session *s);
void session_send_heartbeat(struct session *s);
void session_send_volumes(struct session *s, const struct message_volumes *volumes);
void session_send_compared(
    struct session *s, const struct message_compare *question, int status, const uint64_t *digests);
void session_ask_renewal(struct session *s); /* if it is due */
void session_request_renewal(struct session *s);

#endif
