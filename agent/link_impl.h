/* SPDX-License-Identifier: Apache-2.0 */
/* link_impl.h: what link.c (the caller's side) and session.c (the link's own thread) share.
 *
 * One lock guards everything here but what is written once before the thread starts. The thread
 * holds it only to look and to note, never while it reads or writes the network. A retained frame
 * is immutable once queued, and freed by the thread alone, so that it may write one without the
 * lock. */
#ifndef HF_AGENT_LINK_IMPL_H
#define HF_AGENT_LINK_IMPL_H

#include <openssl/types.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "agent/address.h"
#include "agent/link.h"

enum {
	LINK_SERVERS_MAX = 16,
	LINK_COMPARES_MAX = 16, /* the protocol's limit */
	LINK_NOTICES_MAX = 64,
	LINK_REQUESTS_MAX = REQUEST_IDS_MAX,
};

/* A stream frame as it goes over the wire, kept until it is acknowledged. */
struct retained {
	STAILQ_ENTRY(retained) next;
	uint64_t sequence;
	uint64_t chain; /* after this frame */
	unsigned flags; /* compression, if any */
	size_t len;
	unsigned char bytes[]; /* header, message, payload */
};
STAILQ_HEAD(retained_list, retained);

enum stream_state {
	STREAM_NONE,   /* before the first link_restart() */
	STREAM_ACTIVE, /* frames may be queued; the session starts or resumes it when it can */
	STREAM_LOST,   /* the server cannot continue it: -HF_ESTREAM until link_restart() */
};

struct stream {
	enum stream_state state;
	uint64_t id;
	uint64_t queued_sequence, queued_chain; /* of the newest frame in `retained`, or acked_... */
	uint64_t acked_sequence, acked_chain;
	uint64_t sent_sequence; /* highest ever sent whole */
	struct retained_list retained;
	size_t retained_bytes;
	struct retained *next_send; /* first not begun on this session; NULL = none */
	bool begun;                 /* a START for it was sent once */
	/* What Welcome named when it was begun: if it names the same again, nothing of ours, and of
	 * nobody else, became durable, and the stream may begin again with the frames we have. */
	uint64_t prior_id, prior_sequence;
};

struct compare_slot {
	struct message_compare request;
	int status;
	uint64_t digests[COMPARE_COUNT_MAX]; /* host order */
};

enum recent_state { RECENT_NONE, RECENT_WANTED, RECENT_ASKED, RECENT_ANSWERED };

struct link {
	/* set before the thread starts */
	struct address servers[LINK_SERVERS_MAX];
	size_t server_count;
	char *key_path, *certificate_path, *ca_path;
	unsigned char nonce[NONCE_BYTES];
	uint64_t incarnation;
	struct message_hints hints;
	unsigned compressions;
	uint64_t window_bytes_max, key_update_bytes;
	int wake_fd; /* eventfd: something was noted for the thread */
	pthread_t thread;
	atomic_bool stopping;

	/* the thread's alone */
	SSL_CTX *context;
	bool context_stale; /* a renewed certificate lies in the files */
	bool cas_changed;   /* other CAs do, and the server was shown no certificate since */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* anything a caller may wait for */

	struct stream stream;
	struct retained_list trash; /* dropped by link_restart(), freed by the thread */
	uint64_t last_stream_id, last_acked_sequence;
	struct earlier_streams earlier;
	uint64_t digest_seed;
	unsigned compression; /* the newest Welcome's */

	struct message_declare wanted;   /* to be declared; valid while declare_wanted */
	struct message_declare declared; /* as answered last; valid if have_declared */
	struct message_volumes volumes;  /* that answer */
	bool declare_wanted, have_declared;

	struct compare_slot *compares; /* ring of LINK_COMPARES_MAX: answered, asked on this
					  session, not yet asked */
	size_t compare_first, compare_count, compare_asked, compare_answered;
	uint64_t request_id;

	enum recent_state recent_state;
	struct message_recent recent;
	struct message_recent_answer recent_answer;

	uint64_t requests[LINK_REQUESTS_MAX]; /* checkpoint requests not yet taken */
	size_t request_count;
	bool compare_requested; /* by one of them */

	enum new_disks_wish new_disks; /* as the server said last */
	struct message_backlog backlogs[VOLUMES_MAX];
	size_t backlog_count;
	int64_t unchanged_until_ns;
	struct message_waits waits;
	int64_t source_wait_ns; /* monotonic: since when a disk is waited for; 0 = none is */
	unsigned awaiting;      /* a caller waits for room in the window, or for what it queued to be durable */
	struct message_report report;
	bool report_wanted;
	struct message_notice *notices; /* ring of LINK_NOTICES_MAX */
	size_t notice_first, notice_count;

	struct link_status status; /* the parts not computed on demand */
};

/* The link's thread; arg is the link. */
void *link_thread(void *arg);

/* Free what the server has, up to and with sequence. Lock held. */
void stream_acknowledge(struct stream *st, uint64_t sequence);

/* Free every frame of a list and leave it empty. */
void retained_free_all(struct retained_list *list);

/* The caller's functions return -HF_ESTREAM from now on. Lock held. */
void stream_lose(struct link *l, const char *why);

/* Remember for link_get_status(), and log if it is news, why there is no connection (any more). */
void link_note_failure(struct link *l, const struct hf_error *why, bool was_connected);

/* As link_notice(). Lock held. */
void link_add_notice(struct link *l, const char *event, const char *text);

/* Bytes, of all volumes. Lock held. */
uint64_t link_backlog(const struct link *l);

/* Wake everybody who waits for a change. Lock held. */
void link_changed(struct link *l);

#endif
