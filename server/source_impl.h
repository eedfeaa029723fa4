/* SPDX-License-Identifier: Apache-2.0 */
/* source_impl.h: inside of a source, for source*.c; worker.c keeps the lists. */
#ifndef HF_SERVER_SOURCE_IMPL_H
#define HF_SERVER_SOURCE_IMPL_H

#include <uthash.h>

#include "proto/message.h"
#include "server/catch_up.h"
#include "server/limits.h"
#include "server/network.h"
#include "server/rate.h"
#include "server/source.h"
#include "server/stages.h"
#include "server/state.h"
#include "server/throttle.h"
#include "server/trial.h"
#include "server/usage.h"
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
	uint64_t unreadable; /* the first block whose digests cannot be read, if so */
	bool disk_failed;    /* it cannot be read, and nothing can be synced */
	uint64_t digests[];  /* question.count */
};

/* Is what is staged what is on the source's disks? See source_proof.c. */
struct proof {
	enum proof_state state;
	int64_t started_ns, ended_ns;
	char asked[PIT_NAME_BYTES]; /* volume; "" = all */
	char text[SENTENCE_BYTES];
	unsigned passes;
	uint64_t request_id; /* of the pass that is waited for */
	int64_t received_ns; /* of the checkpoint that names it; 0 = none yet */
	size_t compared_count;
	struct message_compared_volume compared[VOLUMES_MAX]; /* as that one says */
	size_t volume_count;
	struct proof_volume {
		uint32_t volume;
		char name[NAME_BYTES];
		bool equal;
		uint64_t differing_bytes; /* in the first pass */
	} volumes[VOLUMES_MAX];           /* asked for */
};

enum source_life {
	SOURCE_OPENING, /* a reader opens the store */
	SOURCE_OPEN,
	SOURCE_BROKEN,  /* could not be opened, or failed: again at retry_ns */
	SOURCE_CLOSING, /* waits for what is out: jobs, views, writes */
	SOURCE_GOING,   /* its folder and rows are being removed */
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
	struct source_settings settings;
	int64_t target_missed_ns; /* monotonic: its RPO target was missed last, as was told; 0: told that it is met */
	char *tags;               /* a JSON object; NULL = none */
	char *new_disks;          /* a JSON array, as declared; NULL = none */
	enum source_life life;
	struct store *store;  /* NULL while OPENING and BROKEN */
	struct mail *waiting; /* for the store to be opened, oldest first */
	char dir[512];
	int store_status; /* why it is BROKEN */
	char store_text[SENTENCE_BYTES];
	struct store_repair
	    repair; /* of the catalog, when the store was opened last in this process and it needed one */
	int64_t retry_ns, retry_delay_ns;
	bool shutting_down;                      /* the process ends: do not open again */
	bool deleting;                           /* it is to go: nothing new is begun with it */
	struct volume_deletion *volume_deletion; /* to be done while the store is closed; NULL: none */
	source_deleted_done *deleted;            /* who waits for that; NULL: nobody */
	void *deleted_arg;
	bool failed;     /* the store said so; looked at when the turn ends */
	int64_t full_ns; /* the store last said that it is full; 0 = something was written since */
	int job_status;  /* of the last job that failed, as logged at job_logged_ns */
	int64_t job_logged_ns;
	unsigned jobs_out; /* of any kind that uses the store */
	unsigned views_out, exports_out;

	/* session */
	struct session *session, *newcomer;
	bool declaring;
	bool setting;         /* a change of policy or quota is being written */
	struct mail *setters; /* those that wait for it, oldest first */
	bool planning; /* a plan of another policy is being made: one at a time, for folds and merges wait for it */
	bool room;     /* the store has room: a held frame may go on */
	uint64_t received_sequence, durable_sequence; /* of the stream begun by the newest session */
	uint64_t stream_id, highest_sequence; /* received ever, of this stream: what comes again was sent again */
	uint64_t revoked_until;               /* admissions up to this number are void */
	int refused;
	char refused_text[SENTENCE_BYTES], refused_cure[SENTENCE_BYTES];
	char peer[64];
	bool ever_connected;
	int64_t seen_ns;  /* real clock: a byte of its session, to the precision of a tick */
	int64_t heard_ns; /* monotonic: the same; or when this process began */
	int64_t gone_ns;  /* monotonic: when the last session ended; 0 = one is there */
	int64_t grace_ns; /* how long after that it still counts as connected */
	int64_t certificate_expires_ns;
	struct network network;
	bool network_told; /* as unstable */

	/* agent's news */
	enum activity activity;
	uint64_t pass, backlog_bytes;
	bool backlog_unsplit; /* it says what all volumes have, not what each has: an older agent */
	bool went_back;
	unsigned events; /* that it caused lately: see AGENT_EVENTS_MAX */
	int64_t clock_offset_ns, round_trip_ns;
	int64_t disk_answered_ns; /* monotonic: our disk owed it nothing then, or answered */
	int64_t received_at_ns;   /* our time of the newest moment received */
	int64_t checkpoint_received_ns;
	struct throttle_gate gate;  /* of its throttle: see source_pace.c */
	uint64_t read_bytes;        /* of its sessions, ever */
	struct throttle_gate share; /* what it may bring while it gives way; else open */
	bool shares;                /* it counts among those that give way and have something to bring */
	struct trial trial;         /* does it help that others do? */
	bool goes_first;            /* as that says */
	uint64_t left;              /* bytes a second that it then leaves all others together */
	bool frame_is_slow;         /* for a second; the rest is what was so when that was looked at */
	struct {
		uint64_t frames, waited_ns;
	} looked;
	int64_t due_ns; /* real clock: when its newest point is older than its RPO target; INT64_MAX: never */
	struct {        /* as declared: kept for status and for what is not OK */
		char identity[NAME_BYTES], name[NAME_BYTES];
		enum volume_state state;
		uint32_t volume;
		uint64_t rescanned_bytes, rescan_total_bytes, backlog_bytes;
		char text[SENTENCE_BYTES];
	} * declared;
	size_t declared_count;

	/* compares */
	struct compare *compares; /* waiting, oldest first */
	bool compare_running;
	struct view *compare_view;
	uint64_t compare_view_lsn;
	int64_t compare_used_ns;
	struct {
		uint32_t volume;
		int status;
	} compare_failed; /* as told last; status 0: there was a checkpoint since */

	struct proof *proof; /* NULL: none since the start */

	/* points */
	struct pit_request requests[PIT_REQUESTS_MAX];
	uint64_t next_request_id;
	uint64_t verified_lsn;     /* read back last, and good; 0 = none */
	struct id verified_pit;    /* the same; "" = none */
	uint64_t marked_lsn;       /* its row was told, or that was tried */
	int64_t verified_ns;       /* the last read-back ended; 0 = none since the store was opened */
	int64_t verified_clock_ns; /* our clock when that point was read back */
	bool clocks_disagree;      /* that was told */
	bool verifying;
	int verify_status;
	char verify_text[SENTENCE_BYTES];

	/* rot */
	struct damage_report *damage; /* NULL: none */
	int64_t damage_told_ns;       /* monotonic: it was gathered */
	size_t damage_events;         /* since the last second */
	uint64_t fetch_id;
	uint32_t fetch_volume;
	uint64_t fetch_block;

	/* room */
	struct {
		enum space_level level, quota_level; /* the worse of the two kinds; of its quota alone */
		uint64_t quota_bytes, quota_room_bytes;
		enum when_full when_full;
		bool thins;
		struct usage usage;
		uint64_t taken_bytes;        /* of the store when that was counted: what it took since is not in it */
		int64_t counted_ns, next_ns; /* monotonic; 0 = never */
		int64_t known_ns;            /* when what the store knows of was measured */
		bool counting;
		bool as_counted;             /* when the store was told, it had taken nothing since the count */
		bool window_short, at_quota; /* as told */
	} space;

	/* status */
	struct rate rate;
	uint64_t received_frames, resent_frames; /* of its stream */
	struct stages stages;
	int64_t first_byte_ns;
	struct catch_up catch_up;
	bool dirty; /* something to publish */
	int64_t published_ns, active_ns;
	enum replication_state state;
	int64_t state_since_ns;
	bool was_ready, evaluated;
};

struct source *source_from_arg(void *arg);

/* source.c */
void source_open(struct source *src);

struct store_config source_store_config(const struct source *src);        /* borrows from src */
void source_set_broken(struct source *src, int status, const char *text); /* again at retry_ns */
void source_fail(struct source *src, int status, const char *text);       /* its store is to be opened again */
void source_begin_close(struct source *src, const char *text);
void source_bury(struct source *src);

/* source_delete.c */
void source_remove(struct source *src); /* closed, or never opened: its folder and rows go */

/* source_volume.c */
void source_run_volume_deletion(struct source *src); /* the store is closed */

/* source_session.c */
void source_welcome_newcomer(struct source *src); /* if it may be */

/* Bytes the agent has filled or compared in its present activity, of how many, over all volumes. */
uint64_t source_progress(const struct source *src, uint64_t *ret_total_bytes);

/* source_compare.c */
void source_pump_compares(struct source *src);
void source_drop_compares(struct source *src);
void source_drop_compare_view(struct source *src);

/* source_points.c */
void source_point_durable(struct source *src, const struct checkpoint *c);
void source_note_taken(struct source *src, const struct pit *pit);
void source_send_requests(struct source *src); /* to a session that begins to stream */
void source_expire_requests(struct source *src, int64_t now_ns);
void source_end_requests(struct source *src, int status, const char *text);
void source_begin_verify(struct source *src); /* the store was opened */
void source_pump_verify(struct source *src, int64_t now_ns);

/* source_scrub.c */
void source_note_damaged(struct source *src, const struct damage *d);
void source_note_mended(struct source *src, const struct damage *d, bool healed);
void source_note_scrubbed(struct source *src);
void source_pump_heal(struct source *src);
void source_tick_scrub(struct source *src, int64_t now_ns); /* once a second */
void source_gather_scrub(const struct source *src, struct source_status *s, struct state_facts *f);

/* source_retention.c */
void source_watch_retention(struct source *src); /* once a second */

/* source_pace.c */
void source_tick_pace(struct source *src); /* once a second: the hour, and how late it is, may say something else */

/* source_network.c */
void source_watch_network(struct source *src, int64_t now_ns); /* once a second, and when its agent is back */

/* source_target.c */
void source_watch_target(struct source *src); /* once a second */

/* source_space.c */
bool source_is_full(const struct source *src);              /* nothing more may be asked of its agent */
void source_tick_space(struct source *src, int64_t now_ns); /* once a second */
bool source_is_full_as_counted(const struct source *src, const struct store_stats *t); /* and not as estimated */
bool source_watch_quota(struct source *src, bool is_full); /* is it at its quota? Tells when that changes */
void source_tell_full(struct source *src);                 /* maintenance of it found no space */
void source_note_thinned(struct source *src, const struct pit *pit);
void source_note_window(struct source *src, const struct source_status *s);

/* source_proof.c */
void source_ask_proof(struct source *src); /* a session begins to stream: ask for what is waited for */
void source_note_compared(struct source *src, const struct message_checkpoint *m, int64_t received_ns);
void source_prove_durable(struct source *src, const struct checkpoint *c);
void source_end_proof(struct source *src, const char *text); /* if one runs: it cannot go on */
void source_tick_proof(struct source *src);

/* source_status.c */
int64_t source_until_ns(
    const struct source *src, const struct checkpoint *c);  /* our clock at the newest moment it shows */
void source_watch_disk(struct source *src, int64_t now_ns); /* once a second */
void source_note_heard(struct source *src);                 /* a session is there: when its last byte came */
void source_publish(struct source *src);
/* Any thread. Until its worker knows more: a source that is enrolled is never unknown to the control sockets. -ENOMEM.
 */
int source_publish_first(const struct source *src);

#endif
