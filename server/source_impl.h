/* SPDX-License-Identifier: Apache-2.0 */
/* source_impl.h: inside of a source, for source*.c; worker.c keeps the lists. */
#ifndef HF_SERVER_SOURCE_IMPL_H
#define HF_SERVER_SOURCE_IMPL_H

#include <uthash.h>

#include "proto/message.h"
#include "server/limits.h"
#include "server/rate.h"
#include "server/source.h"
#include "server/state.h"
#include "server/worker.h"
#include "storage/store.h"

/* A point by hand: waits for its checkpoint, then for being kept. */
struct pit_request {
	uint64_t id;         /* 0 = free slot */
	int64_t deadline_ns; /* monotonic */
	int64_t received_ns; /* of the checkpoint that names it: checkpoints of a source differ in it; 0 = none yet */
	bool keeping;        /* its job is out */
	char name[PIT_NAME_BYTES];
	source_pit_done *done;
	void *arg;
	struct source *source;
	uint64_t lsn;
};

struct compare { /* a question and its answer */
	struct job job;
	struct compare *next;
	struct source *source;
	uint64_t session_number; /* who asked: may be gone */
	struct message_compare question;
	struct view *view; /* borrowed from source->compare_view while the job is out */
	int status;
	uint64_t digests[]; /* question.count */
};

enum source_life {
	SOURCE_OPENING, /* a reader opens the store */
	SOURCE_OPEN,
	SOURCE_BROKEN,  /* could not be opened, or failed: again at retry_ns */
	SOURCE_CLOSING, /* waits for what is out: jobs, views, writes */
};

struct source {
	uint32_t magic;
	struct id id;
	UT_hash_handle hh;
	struct server *server;
	struct worker *worker;
	struct mail mail;
	struct source *next_touched;
	bool touched;

	struct registry_source facts;
	enum source_life life;
	struct store *store;  /* NULL while OPENING and BROKEN */
	struct mail *waiting; /* for the store to be opened, oldest first */
	char dir[512];
	int store_status; /* why it is BROKEN */
	char store_text[SENTENCE_BYTES];
	int64_t retry_ns, retry_delay_ns;
	bool shutting_down; /* the process ends: do not open again */
	bool failed;        /* the store said so; looked at when the turn ends */
	int64_t full_ns;    /* the store last said that it is full; 0 = something was written since */
	int job_status;     /* of the last job that failed, as logged at job_logged_ns */
	int64_t job_logged_ns;
	unsigned jobs_out; /* of any kind that uses the store */
	unsigned views_out;

	/* session */
	struct session *session, *newcomer;
	bool declaring;
	bool room;                                    /* the store has room: a held frame may go on */
	uint64_t received_sequence, durable_sequence; /* of the stream begun by the newest session */
	uint64_t stream_id, highest_sequence; /* received ever, of this stream: what comes again was sent again */
	uint64_t revoked_until;               /* admissions up to this number are void */
	int refused;
	char refused_text[SENTENCE_BYTES], refused_cure[SENTENCE_BYTES];
	char peer[64];
	bool ever_connected;
	int64_t seen_ns;  /* real clock: a byte of its session, to the precision of a tick */
	int64_t gone_ns;  /* monotonic: when the last session ended; 0 = one is there */
	int64_t grace_ns; /* how long after that it still counts as connected */
	int64_t certificate_expires_ns;

	/* agent's news */
	enum activity activity;
	uint64_t pass, backlog_bytes;
	bool went_back;
	int64_t clock_offset_ns, round_trip_ns;
	int64_t received_at_ns; /* our time of the newest moment received */
	int64_t checkpoint_received_ns;
	struct { /* as declared: kept for status and for what is not OK */
		char identity[NAME_BYTES], name[NAME_BYTES];
		enum volume_state state;
		uint32_t volume;
		uint64_t rescanned_bytes, rescan_total_bytes;
		char text[SENTENCE_BYTES];
	} * declared;
	size_t declared_count;

	/* compares */
	struct compare *compares; /* waiting, oldest first */
	bool compare_running;
	struct view *compare_view;
	uint64_t compare_view_lsn;
	int64_t compare_used_ns;

	/* points */
	struct pit_request requests[PIT_REQUESTS_MAX];
	uint64_t next_request_id;
	uint64_t verified_lsn; /* read back last, and good; 0 = none */
	uint64_t marked_lsn;   /* its row was told, or that was tried */
	int64_t verified_ns;   /* the last read-back ended; 0 = none since the store was opened */
	bool verifying;
	int verify_status;
	char verify_text[SENTENCE_BYTES];

	/* status */
	struct rate rate;
	uint64_t resent_frames;
	int64_t first_byte_ns;
	uint64_t backlog_minute_ago;
	int64_t backlog_minute_ns;
	bool dirty; /* something to publish */
	int64_t published_ns, active_ns;
	enum replication_state state;
	int64_t state_since_ns;
	bool was_ready, evaluated;
};

struct source *source_from_arg(void *arg);

/* source.c */
void source_open(struct source *src);

/* source_session.c */
void source_welcome_newcomer(struct source *src); /* if it may be */

/* source_compare.c */
void source_pump_compares(struct source *src);
void source_drop_compares(struct source *src);
void source_drop_compare_view(struct source *src);

/* source_points.c */
void source_point_durable(struct source *src, const struct checkpoint *c);
void source_send_requests(struct source *src); /* to a session that begins to stream */
void source_expire_requests(struct source *src, int64_t now_ns);
void source_end_requests(struct source *src, int status, const char *text);
void source_begin_verify(struct source *src); /* the store was opened */
void source_pump_verify(struct source *src, int64_t now_ns);

/* source_status.c */
void source_publish(struct source *src);
/* Any thread. Until its worker knows more: a source that is enrolled is never unknown to the control sockets. -ENOMEM.
 */
int source_publish_first(struct server *sv, const struct registry_source *facts);

#endif
