/* SPDX-License-Identifier: Apache-2.0 */
/* state.h: all that the agent keeps on disk: a directory (0700) with key.pem, cert.pem, ca.pem and
 * agent.json.
 *
 * None of it grows with the disks that are replicated, and agent.json is rewritten only when its
 * text changes. Besides these: `lock` (one agent per directory), `agent.sock` while it runs, and
 * perhaps `launched-copy`: the marker that this machine was booted from a point in time. An agent
 * that finds it refuses to run: a copy must never go on with the stream of its original. */
#ifndef HF_AGENT_STATE_H
#define HF_AGENT_STATE_H

#include <stdbool.h>

#include "agent/address.h"
#include "proto/common/error.h"
#include "proto/message.h"

#define STATE_DIRECTORY_DEFAULT "/var/lib/holdfast-agent"

enum {
	STATE_SERVERS_MAX = 16,
	STATE_DIRECTORY_BYTES = 4000,
	STATE_KNOWN_MAX = 256,
	STATE_BYTES_MAX = 128 * 1024, /* agent.json is smaller */
};

struct state_volume {
	char name[NAME_BYTES];
	char identity[NAME_BYTES];
	char path[PATH_BYTES]; /* a hint: where it was last */
	uint64_t size_bytes;
};

struct state {
	char directory[STATE_DIRECTORY_BYTES];
	int lock_fd;
	bool enrolled; /* agent.json was there; else the rest is empty */

	struct id source_id;
	char servers[STATE_SERVERS_MAX][ADDRESS_TEXT_BYTES]; /* of the data port */
	size_t server_count;
	unsigned char nonce[NONCE_BYTES];
	uint64_t incarnation;
	uint64_t last_stream_id, last_acked_sequence;
	struct earlier_streams earlier;
	struct state_volume volumes[VOLUMES_MAX];
	size_t volume_count;
	bool knows_disks;                        /* `known` was taken: at the first start */
	char known[STATE_KNOWN_MAX][NAME_BYTES]; /* identities of the disks that were there then */
	size_t known_count;

	char *written; /* agent.json as it is on disk; NULL = not there */
};

enum state_open_mode {
	STATE_EXISTING, /* the directory must be there */
	STATE_CREATE,   /* make it if it is not */
	STATE_REPLACE,  /* the same, and a damaged agent.json counts as none */
};

/* Open and lock the directory and read agent.json. Gives the state. 0, -ENOENT (no directory),
 * -EBUSY (another agent runs on it), -EPERM (launched copy), -HF_EFORMAT, -EBADMSG (damaged),
 * -errno. */
int state_open(const char *directory, enum state_open_mode mode, struct state **ret_state, struct hf_error *err);

/* Unlock and free. Writes nothing. NULL is allowed. */
void state_close(struct state *st);

/* Write agent.json, atomically, if it differs from what is on disk. Blocks. */
int state_save(struct state *st, struct hf_error *err);

/* Path of a file of the directory, into buf (PATH_MAX bytes); returns buf. */
const char *state_path(const char *directory, const char *name, char *buf);

#endif
