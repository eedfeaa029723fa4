/* SPDX-License-Identifier: Apache-2.0 */
/* message.h: control messages as plain structs, checked on the way in. protobuf-c types stop behind this header.
 *
 * Strings are NUL-terminated, cut nowhere: a string longer than its array is refused, as is one that
 * is not plain (text.h). Every encode makes them plain as text_set() does, so what we hold may be as it
 * came: a path can still be opened. Every decode first scans the bytes (no groups, depth <= 3, <= 1,024
 * fields) and unpacks into a 256 KiB arena of the thread, so hostile bytes cost no memory. */
#ifndef HF_PROTO_MESSAGE_H
#define HF_PROTO_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/common/id.h"
#include "proto/frame.h"

enum {
	PROTOCOL_VERSION = 1,
	PROTOCOL_VERSION_MIN = 1,
	VOLUMES_MAX = 60, /* declared by one source at a time: as many disks as DRS's answer may list */
	NONCE_BYTES = 16,
	TOKEN_SECRET_BYTES = 20,
	CERTIFICATE_BYTES_MAX = 8192,
	COMPARE_COUNT_MAX = 8192,
	RECENT_MAX = 1024,
	REQUEST_IDS_MAX = 64,
	NAME_BYTES = 128,     /* names and identities, with NUL */
	PATH_BYTES = 256,     /* device names */
	SENTENCE_BYTES = 512, /* texts for people */
	EARLIER_STREAMS_MAX = 8,
};

struct message_hints {
	char hostname[NAME_BYTES];
	char machine_id[NAME_BYTES];
	char mac_addresses[8][18];
	size_t mac_count;
	char os[NAME_BYTES];
	char kernel[NAME_BYTES];
	uint32_t cpus;
	uint64_t ram_bytes;
	char agent_version[NAME_BYTES];
};

struct message_blob { /* DER */
	size_t len;
	unsigned char bytes[CERTIFICATE_BYTES_MAX];
};

struct message_enroll {
	uint32_t protocol_version, protocol_version_min;
	unsigned char token_secret[TOKEN_SECRET_BYTES];
	unsigned char installation_nonce[NONCE_BYTES];
	struct message_blob csr;
	struct message_hints hints;
};

struct message_enrolled {
	struct id source_id;
	struct message_blob certificate, ca_certificate;
	uint32_t data_port;
};

enum message_role { MESSAGE_ROLE_AGENT = 1, MESSAGE_ROLE_BULK = 2 };

/* Streams in which something was acknowledged before the newest one, newest first. */
struct earlier_streams {
	uint64_t ids[EARLIER_STREAMS_MAX];
	size_t count;
};

enum message_feature { MESSAGE_FETCH = 1 << 0, MESSAGE_CA_CHANGE = 1 << 1 };

struct message_hello {
	uint32_t protocol_version, protocol_version_min;
	enum message_role role;
	uint32_t stream_index;
	unsigned char installation_nonce[NONCE_BYTES];
	uint64_t incarnation;
	struct message_hints hints;
	unsigned compressions; /* bits of enum frame_flag */
	int64_t clock_ns;
	uint64_t last_stream_id, last_acked_sequence;
	struct earlier_streams earlier;
	unsigned features; /* bits of enum message_feature */
};

struct message_welcome {
	uint32_t protocol_version;
	struct id source_id;
	uint64_t session_id;
	uint64_t digest_seed;
	uint32_t heartbeat_interval_ms;
	unsigned compression; /* 0 or one bit of enum frame_flag */
	uint64_t stream_id, durable_sequence, chain;
	int64_t clock_ns;
	uint32_t volumes_max;
	char server_version[NAME_BYTES];
};

enum volume_state {
	VOLUME_OK = 1,
	VOLUME_IDENTITY_MISSING = 2,
	VOLUME_IDENTITY_AMBIGUOUS = 3,
	VOLUME_SHRUNK = 4,
	VOLUME_UNREADABLE = 5,
	VOLUME_REFUSED = 6,
};

struct message_declared_volume {
	char name[NAME_BYTES];
	char identity[NAME_BYTES];
	char device_name[PATH_BYTES];
	uint64_t size_bytes; /* 1..2^58 - 1 when state is OK */
	enum volume_state state;
	bool boot_disk;
};

enum { NEW_DISKS_MAX = 16 };

struct message_new_disk {
	char device_name[PATH_BYTES];
	char identity[NAME_BYTES];
	uint64_t size_bytes;
};

struct message_declare {
	size_t count;
	struct message_declared_volume volumes[VOLUMES_MAX];
	size_t new_disk_count;
	struct message_new_disk new_disks[NEW_DISKS_MAX]; /* not replicated: for people */
};

struct message_volume_answer {
	char identity[NAME_BYTES];
	struct id volume_id; /* empty text if REFUSED */
	uint32_t volume;
	uint64_t size_bytes, frontier_blocks;
	enum volume_state state;
	int status; /* negative hf_status or errno, or 0 */
	char text[SENTENCE_BYTES];
};

struct message_volumes {
	size_t count;
	struct message_volume_answer volumes[VOLUMES_MAX];
};

struct message_start {
	bool resume;
	uint64_t stream_id;
};

enum consistency {
	CONSISTENCY_FUZZY = 1,
	CONSISTENCY_CRASH = 2,
	CONSISTENCY_FILESYSTEM = 3,
	CONSISTENCY_APPLICATION = 4,
};

struct message_compared_volume {
	uint32_t volume;
	uint64_t bytes_read, bytes_differing;
	bool equal;
};

struct message_checkpoint {
	int64_t clock_ns;
	enum consistency consistency;
	size_t request_id_count;
	uint64_t request_ids[REQUEST_IDS_MAX];
	uint64_t pass, bytes_read, bytes_differing;
	size_t compared_count;
	struct message_compared_volume compared[VOLUMES_MAX];
};

struct message_ack {
	uint64_t durable_sequence, credit_bytes;
	bool hold; /* begin no stream frame until one comes without it */
};

struct message_waits {       /* of an agent, since its process began: how long what was to be sent ... */
	uint64_t source_ns;  /* waited for disks to be read */
	uint64_t tls_ns;     /* was being encrypted and given to the socket */
	uint64_t network_ns; /* waited for the socket to take it, or to arrive */
	uint64_t server_ns;  /* waited for credit or acknowledgement, while nothing of it was on its way */
};

enum new_disks_wish { NEW_DISKS_REPORT = 1, NEW_DISKS_REPLICATE = 2 }; /* 0: the server did not say */

struct message_backlog {
	uint32_t volume;
	uint64_t bytes;
};

struct message_heartbeat {
	int64_t clock_ns, echo_clock_ns, echo_hold_ns;
	uint64_t backlog_bytes;
	int64_t unchanged_until_ns;
	struct message_waits waits;
	enum new_disks_wish new_disks;
	size_t backlog_count;
	struct message_backlog
	    backlogs[VOLUMES_MAX]; /* an agent that tells them tells all that make up backlog_bytes */
};

struct message_checkpoint_request {
	uint64_t request_id;
	bool compare;
};

struct message_compare {
	uint64_t request_id;
	uint32_t volume;
	uint32_t level;
	uint64_t first;
	uint32_t count;
};

struct message_compared { /* digests travel as the frame's payload */
	uint64_t request_id;
	uint32_t volume;
	uint32_t level;
	uint64_t first;
	uint32_t count;
	bool all_zero;
	int status;
};

struct message_recent {
	uint32_t volume;
};

struct message_recent_answer {
	uint32_t volume;
	size_t count;
	uint64_t nodes[RECENT_MAX];
};

struct message_fetch {
	uint64_t request_id;
	uint32_t volume;
	uint64_t block;
};

struct message_fetched {
	uint64_t request_id;
	int status; /* 0, or negative: then there are no bytes */
	unsigned char block[4096];
};

struct message_renew {
	struct message_blob csr;
};

struct message_renewed {
	struct message_blob certificate, ca_certificate;
	struct message_blob next_ca_certificate; /* of no bytes: there is none */
};

enum activity { ACTIVITY_FILL = 1, ACTIVITY_RESCAN = 2, ACTIVITY_PASS = 3, ACTIVITY_IDLE = 4 };

struct message_report {
	enum activity activity;
	uint64_t pass;
	size_t count;
	struct {
		uint32_t volume;
		uint64_t done_bytes, total_bytes;
	} volumes[VOLUMES_MAX];
};

struct message_notice {
	char event[NAME_BYTES];
	char text[SENTENCE_BYTES];
};

struct message_goodbye {
	int status; /* 0, or negative */
	char text[SENTENCE_BYTES];
	char cure[SENTENCE_BYTES];
	uint32_t server_version_min, server_version_max;
};

/* For every control message X of type FRAME_X:
 *
 *	size_t message_x_encode(const struct message_x *m, unsigned char *buf, size_t size);
 * writes the protobuf bytes into buf and returns their number, which may be 0: a message of which every
 * field has its default has no bytes. buf must be large enough; FRAME_MESSAGE_MAX always is.
 *
 *	int message_x_decode(const unsigned char *bytes, size_t len, struct message_x *ret_message);
 * 0, -HF_EPROTOCOL or -HF_ETOOBIG; the output is written on success only.
 *
 * Neither blocks nor allocates; any thread. Statuses are negative in these structs and positive on the wire. */
#define MESSAGE_TABLE(X)      \
	X(enroll)             \
	X(enrolled)           \
	X(hello)              \
	X(welcome)            \
	X(declare)            \
	X(volumes)            \
	X(start)              \
	X(checkpoint)         \
	X(ack)                \
	X(heartbeat)          \
	X(checkpoint_request) \
	X(compare)            \
	X(compared)           \
	X(recent)             \
	X(recent_answer)      \
	X(renew)              \
	X(renewed)            \
	X(report)             \
	X(notice)             \
	X(goodbye)            \
	X(fetch)              \
	X(fetched)

#define X(name)                                                                                          \
	struct message_##name;                                                                           \
	size_t message_##name##_encode(const struct message_##name *m, unsigned char *buf, size_t size); \
	int message_##name##_decode(const unsigned char *bytes, size_t len, struct message_##name *ret_message);
MESSAGE_TABLE(X)
#undef X

/* Names as the API and the catalog write them: "fuzzy", "crash", "filesystem", "application". */
const char *consistency_name(enum consistency c);
/* "OK", "SHRUNK" and so on; "FILL", "IDLE" and so on. NULL: none of them, as 0 is: not known yet. */
const char *volume_state_name(enum volume_state state);
const char *activity_name(enum activity a);

/* What is the matter with a volume, for people: "" of one that is well, or of a state that is not known. */
const char *volume_state_text(enum volume_state state);

#endif
