/* SPDX-License-Identifier: Apache-2.0 */
/* state.h: from what is known of a source to its replication state, its error and whether it is Ready: one pure
 * function over facts, and one table of states. Never a state without a reason. Since when is the caller's to remember
 * (see status.h).
 *
 * BACKLOG means: bytes are waiting at the source, and the newest checkpoint here is older than CATCH_UP_LATE_NS. An
 * agent that compares a large disk by passes is in BACKLOG whenever a pass takes longer than that: it is as far behind.
 */
#ifndef HF_SERVER_STATE_H
#define HF_SERVER_STATE_H

#include "server/status.h"

struct state_facts {
	struct id source;
	int64_t now_ns;

	/* what an administrator did */
	bool stopped, paused, deleting;

	/* the store: 0; or why it could not be opened, or failed; and in words */
	bool opening;
	int store_status;
	char store_text[SENTENCE_BYTES];
	bool staging_full; /* too little room: credit is withheld, or writes wait */
	bool disk_silent;  /* our disk owes it an answer, and has given none for DISK_SILENT_NS */
	bool over_quota;   /* and that is for the source's own quota, not for the disk */
	int verify_status; /* 0, or how the last read-back ended */
	char verify_text[SENTENCE_BYTES];

	char damage_text[SENTENCE_BYTES]; /* what rotted; "" = nothing */
	bool newest_damaged;              /* and the newest point is hit by it */

	/* the agent */
	bool connected; /* a session is there, or was until less than three heartbeats ago */
	bool ever_connected;
	int refused; /* the last attempt to connect was refused: negative status; 0 = it was not */
	char refused_text[SENTENCE_BYTES], refused_cure[SENTENCE_BYTES];
	enum activity activity; /* 0 = not reported */
	bool network_unstable;  /* sessions were lost again and again: network.h */
	bool went_back; /* the staging area is older than what was acknowledged once, and the agent has not compared
			   since */
	uint64_t backlog_bytes;
	bool never_converges; /* it falls behind further and further */
	int bottleneck;       /* enum stage: what is waited for most; -1 = nothing, or not known */

	/* volumes as declared */
	size_t volumes, volumes_filled;
	char bad_volume[SENTENCE_BYTES]; /* a sentence on one that cannot be replicated; "" = none */
	uint64_t total_bytes, replicated_bytes;

	/* points in time */
	bool has_checkpoint;           /* any, complete */
	bool has_consistent;           /* complete, and crash-consistent or better */
	bool verified;                 /* such a one was read back */
	int64_t lag_ns;                /* age of the newest checkpoint of any consistency; -1 = none */
	int64_t heartbeat_interval_ns; /* between two the age grows, whatever the next will say */
};

struct state_verdict {
	enum replication_state state;
	char reason[SENTENCE_BYTES];
	char error[40]; /* "" = none */
	char raw_error[SENTENCE_BYTES], cure[SENTENCE_BYTES];
	bool ready;
	struct status_reason reasons[STATUS_REASONS_MAX];
	size_t reason_count;
};

void state_evaluate(const struct state_facts *f, struct state_verdict *ret_verdict);

/* The value of DRS's dataReplicationError.error that comes nearest to an error of ours: tools that know its enumeration
 * find no other there. "" for "". */
const char *state_drs_error(const char *error);

#endif
