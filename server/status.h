/* SPDX-License-Identifier: Apache-2.0 */
/* status.h: the published snapshot: what is true of every source, copied out by its owner when it changes (and four
 * times a second), read by the control sockets without ever waiting for a worker. Names and meaning as in the DRS API.
 */
#ifndef HF_SERVER_STATUS_H
#define HF_SERVER_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/message.h"
#include "server/catch_up.h"
#include "server/settings.h"
#include "server/stages.h"
#include "server/throttle.h"
#include "server/usage.h"
#include "storage/store.h"

enum replication_state {
	STATE_STOPPED,
	STATE_INITIATING,
	STATE_INITIAL_SYNC,
	STATE_BACKLOG,
	STATE_CREATING_SNAPSHOT,
	STATE_CONTINUOUS,
	STATE_PAUSED,
	STATE_RESCAN,
	STATE_STALLED,
	STATE_DISCONNECTED,
};

/* "INITIAL_SYNC", ... as in dataReplicationState. */
const char *replication_state_name(enum replication_state s);

/* `holdfastctl verify`: source and staging compared. */
enum proof_state {
	PROOF_NONE, /* since the server was started */
	PROOF_RUNNING,
	PROOF_EQUAL,    /* every volume asked for was proved equal */
	PROOF_CHANGING, /* some changed in every pass */
	PROOF_FAILED,   /* text says why */
};

/* "RUNNING", ...; NULL for PROOF_NONE. */
const char *proof_state_name(enum proof_state s);

struct proof_status {
	enum proof_state state;
	int64_t started_ns, ended_ns;     /* 0 = not yet */
	unsigned passes;                  /* that have ended */
	uint64_t done_bytes, total_bytes; /* of the pass under way, while RUNNING */
	char text[SENTENCE_BYTES];
};

struct volume_status {
	struct id id;
	uint32_t volume;
	char name[NAME_BYTES], identity[NAME_BYTES], device_name[PATH_BYTES];
	enum volume_state state;
	bool boot_disk, retired; /* retired: no longer declared; it lives on in old points */
	uint64_t total_bytes, replicated_bytes, rescanned_bytes, backlogged_bytes;
	int64_t equal_ns;         /* when it was proved equal to the source's disk; 0 = never */
	bool proof_asked;         /* by the verification that runs, or ran last */
	uint64_t differing_bytes; /* that its first pass found; they were sent */
};

enum { STATUS_REASONS_MAX = 8 };

struct status_reason {
	char code[32]; /* "NO_CONSISTENT_POINT", "INITIAL_SYNC", ... */
	char text[SENTENCE_BYTES];
	char cure[SENTENCE_BYTES]; /* the one command or act that cures it; "" = none */
};

enum { STATUS_DAMAGE_MAX = 16, STATUS_HITS_MAX = 32 };

struct damage_report { /* what is damaged now, as far as there is room, and whom it hits */
	struct {
		struct id volume; /* "" = the journal's index */
		char volume_name[NAME_BYTES];
		uint64_t offset;  /* bytes, of the volume (index: of run `segment`) */
		uint32_t segment; /* 0 = in the staging file */
		int status;
		size_t points; /* that need it */
	} damage[STATUS_DAMAGE_MAX];
	size_t damage_count;
	struct { /* points that cannot be exported whole */
		struct id pit, volume;
		uint64_t blocks;
	} hits[STATUS_HITS_MAX];
	size_t hit_count;
	size_t points; /* all of them */
	bool newest;   /* the newest to recover from is one */
};

enum { NEW_DISKS_TEXT_BYTES = 16 * 1024 }; /* NEW_DISKS_MAX of them as JSON */

struct source_status {
	struct id id;
	struct message_hints hints;
	char peer[64]; /* address of the live or last session */
	enum replication_state state;
	int64_t state_since_ns;
	char state_reason[SENTENCE_BYTES];
	char error[40]; /* dataReplicationError.code: "" or AGENT_NOT_SEEN, STAGING_FULL, IDENTITY_CLONE, ... */
	char raw_error[SENTENCE_BYTES];
	char cure[SENTENCE_BYTES]; /* the command that cures the error */

	bool connected;
	int64_t added_ns, first_byte_ns, last_seen_ns; /* 0 = never */
	int64_t certificate_expires_ns;
	uint64_t lost_sessions;  /* to the network, since the start: see network.h */
	int64_t next_attempt_ns; /* the server tries again what failed, by our clock; 0 = nothing is waited for */
	int store_status;        /* 0: its data can be used; else why not */
	char store_text[SENTENCE_BYTES];

	/* lag: at `taken_ns` our clock said so; readers add the time since (lag grows with the clock). -1 = no such
	 * moment yet */
	int64_t taken_ns;
	int64_t received_at_ns, durable_at_ns,
	    consistent_at_ns; /* our time of the newest moment received / durable / restorable; 0 = none */
	int64_t clock_offset_ns, round_trip_ns;

	uint64_t backlog_bytes;
	bool backlog_unsplit;                /* an older agent: what of it each volume has is not known */
	uint64_t rate_10s, rate_1m, rate_5m; /* payload bytes per second */
	uint64_t received_bytes, durable_bytes, received_frames, resent_frames;
	bool waits_known;
	double waits[STAGES]; /* shares of the last ten seconds */
	int bottleneck;       /* enum stage; -1 = none, or not known */
	struct catch_up_status catch_up;

	bool ready;
	struct status_reason reasons[STATUS_REASONS_MAX]; /* why not ready */
	size_t reason_count;

	bool has_newest; /* newest complete point of consistency crash or better */
	struct id newest_pit;
	int64_t newest_pit_ns; /* our time it describes */
	enum checkpoint_consistency newest_consistency;
	uint64_t newest_lsn;

	struct id verified_pit; /* read back last, and good; "" = none */
	int64_t verified_ns;    /* when, by our clock */

	enum activity activity; /* of the agent, 0 = not reported */
	uint64_t pass;

	struct proof_status proof;
	struct store_stats store;
	struct store_repair repair; /* of its catalog, in this process */
	struct scrub_status scrub;
	struct damage_report damage;
	struct usage usage;
	bool usage_known;
	enum space_level space_level;
	struct {
		struct throttle set;
		unsigned mbps;      /* now, as the hour says; 0 = none */
		uint64_t waited_ns; /* nothing was read because of it, since the start */
		bool gives_way;     /* to one that is late: it is to send less */
	} throttle;
	uint64_t quota_bytes;     /* 0 = none */
	enum when_full when_full; /* as set; default: the configuration's */
	bool thins;               /* points are given up when room runs out */
	struct id costliest_pit;  /* "": none is known */
	uint64_t costliest_bytes; /* freed when it is deleted */
	struct policy policy;
	struct retention retention;
	struct source_settings settings;
	size_t volume_count, retired_count;
	struct volume_status volumes[STORE_VOLUMES_MAX]; /* those declared, then those retired */
	char tags[SETTINGS_TEXT_BYTES];                  /* a JSON object; "" = none */
	char new_disks[NEW_DISKS_TEXT_BYTES];            /* a JSON array; "" = none */
};

/* Seconds of lag at now_ns for one of the *_at_ns fields; -1 if the field is 0. Never negative otherwise. */
double status_lag_seconds(int64_t at_ns, int64_t now_ns);

struct status_table;
int status_table_create(struct status_table **ret_table);
void status_table_destroy(struct status_table *t);

/* Replace the source's snapshot (copied), and its points (taken; NULL: they cannot be told now). Any thread; holds a
 * lock for the copy alone. */
void status_publish(struct status_table *t, const struct source_status *s, struct points *points);

/* How often a source came, went, or turned: it has another state, error, activity or proof, is connected or Ready, or
 * is no longer. What was read before still holds, but for its figures, while this is the same. Any thread. */
uint64_t status_turns(struct status_table *t);

/* It is gone. Any thread. */
void status_forget(struct status_table *t, const struct id *source);

/* Copy one out. False: unknown. */
bool status_get(struct status_table *t, const struct id *source, struct source_status *ret_status);

/* And with it its points at that moment (shared), or NULL: store_status and store_text say why. */
bool status_get_points(
    struct status_table *t, const struct id *source, struct source_status *ret_status, struct points **ret_points);

/* Copy out the one that follows `after` in order of id; "" is before all, and after may be ret_status->id. False: it
 * was the last. The way through all of them in the memory of one; those that come meanwhile disturb nothing. */
bool status_next(struct status_table *t, const struct id *after, struct source_status *ret_status);

#endif
