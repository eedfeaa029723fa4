/* SPDX-License-Identifier: Apache-2.0 */
/* link.h: the agent's connection to holdfastd, and the stream it carries.
 *
 * A thread of the link's own dials the servers in turn (with jitter), speaks the session, keeps
 * every stream frame until it is acknowledged, and after a cut or a server restart resumes exactly
 * after the last durable one: the caller notices nothing but waiting. When the server cannot
 * continue our stream (it lost it, or another session went on), calls return -HF_ESTREAM until the
 * caller has begun a new one with link_restart().
 *
 * All functions may be called from one other thread, the one that reads the disks. */
#ifndef HF_AGENT_LINK_H
#define HF_AGENT_LINK_H

#include "proto/common/error.h"
#include "proto/message.h"

struct link;

struct link_config {
	const char *const *servers; /* "HOST[:PORT]", tried in turn; borrowed */
	size_t server_count;
	const char *key_path, *ca_path; /* PEM; borrowed */
	const char *certificate_path;   /* the same; a renewed certificate replaces the file */
	unsigned char installation_nonce[NONCE_BYTES];
	uint64_t incarnation;
	struct message_hints hints;
	/* The newest acknowledgement that an earlier process remembered; 0 = none. */
	uint64_t last_stream_id, last_acked_sequence;
	struct earlier_streams earlier;
	unsigned compressions;     /* bits of enum frame_flag the server may choose from */
	uint64_t window_bytes_max; /* unacknowledged bytes kept in memory; 0 = 32 MiB */
	uint64_t key_update_bytes; /* new TLS keys after so many bytes sent; 0 = 64 GiB */
};

/* The newest stream is no longer this one. */
void earlier_streams_add(struct earlier_streams *e, uint64_t stream_id);

/* Start dialling. -ENOMEM, or what is wrong with key, certificate or CA. */
int link_create(const struct link_config *config, struct link **ret_link, struct hf_error *err);

/* Say goodbye if connected, stop the thread, free. NULL is allowed. */
void link_destroy(struct link *l);

/* Declare all volumes (and again whenever anything about them changes) and wait for the answer:
 * ret_volumes in the same order. Waits for a connection, for ever unless link_stop() is called
 * (-ECANCELED). */
int link_declare(
    struct link *l, const struct message_declare *volumes, struct message_volumes *ret_volumes, struct hf_error *err);

/* Begin a new stream, after link_declare(); and again after -HF_ESTREAM. Drops what was
 * unacknowledged. */
int link_restart(struct link *l);

/* The digest seed of the source; valid after the first link_declare(). */
uint64_t link_digest_seed(struct link *l);

/* Queue one data frame: copies m and its blocks (m->digest_count * 4096 bytes). Waits for credit
 * and window. 0, -HF_ESTREAM, -ECANCELED. */
int link_send_data(struct link *l, const struct data_message *m, const void *blocks);

/* Queue a checkpoint and wait until it, and with it everything before, is durable. 0, -HF_ESTREAM,
 * -ECANCELED. */
int link_checkpoint(struct link *l, const struct message_checkpoint *m);

/* Wait until everything queued is durable. 0, -HF_ESTREAM, -ECANCELED. */
int link_flush(struct link *l);

/* Ask for count digests of a level; link_compare_begin() keeps up to 16 requests under way (it
 * waits when there are more), link_compare_end() gives the oldest's digests (count of them, host
 * order) and waits for it. Requests survive reconnects. The caller must not have anything
 * unacknowledged for the region (see docs/protocol.md). 0, -HF_E..., -ECANCELED. */
int link_compare_begin(struct link *l, const struct message_compare *request); /* the link fills in the request_id */
int link_compare_end(struct link *l, uint64_t *ret_digests, size_t count);

/* 1 MiB nodes of a volume written lately, newest first. 0, -HF_ESTREAM, -ECANCELED. */
int link_recent(struct link *l, uint32_t volume, struct message_recent_answer *ret_answer);

/* Requests for a checkpoint now that arrived since the last call; their ids go into the next
 * link_checkpoint(). Returns how many were stored (at most max); *ret_compare: one of them wants to
 * know what the comparing found. */
size_t link_take_requests(struct link *l, uint64_t *ret_ids, size_t max, bool *ret_compare);

/* Sleep until timeout_ns passed, a checkpoint request is waiting, the stream must be restarted, or
 * link_stop(). */
void link_wait(struct link *l, int64_t timeout_ns);

/* What heartbeats tell: what of a volume (its number) is still to be sent for the first time, or was found to differ
 * since the last checkpoint; no volume has any more. unchanged_until_ns as in protocol Heartbeat; 0 = not known. Never
 * block. */
void link_set_backlog(struct link *l, uint32_t volume, uint64_t bytes);
void link_clear_backlog(struct link *l);
void link_set_unchanged_until(struct link *l, int64_t clock_ns);

/* The caller begins to wait for a disk, and has waited. It counts while it lasts: a disk may hang. Neither blocks. */
void link_begin_source_wait(struct link *l);
void link_end_source_wait(struct link *l);

/* What is to be done with a disk that appears here, as the server said last; 0: nothing yet. Never blocks. */
enum new_disks_wish link_new_disks(struct link *l);

/* Never block; sent at the next chance, reports at most once a second. Notices queued while offline
 * are kept, up to 64. */
void link_report(struct link *l, const struct message_report *report);
void link_notice(struct link *l, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Make every waiting call return -ECANCELED soon. Async-signal-safe. */
void link_stop(struct link *l);

/* For `holdfast-agent status` and progress lines; copied under a lock. */
struct link_status {
	bool connected;
	char server[NAME_BYTES]; /* the one in use or tried last */
	char source_id[ID_BYTES];
	/* Why not connected, with the cure if the server named one, and its code (negative errno or
	 * -HF_E..., the server's if it said goodbye); "" and 0 = none. */
	char last_error[2 * SENTENCE_BYTES];
	int last_code;
	int64_t connected_since_ns;    /* CLOCK_REALTIME; 0 = not connected */
	int64_t disconnected_since_ns; /* the same; 0 = connected, or not tried yet */
	uint64_t stream_id;            /* 0 = none begun */
	uint64_t sent_bytes, resent_bytes, acked_sequence, sent_sequence, unacked_bytes, reconnects;
	uint64_t backlog_bytes;
	struct message_report report;   /* the newest of link_report(); activity 0 = none yet */
	struct message_volumes volumes; /* the newest answer to link_declare() */
};
void link_get_status(struct link *l, struct link_status *ret_status);

#endif
