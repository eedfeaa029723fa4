/* SPDX-License-Identifier: Apache-2.0 */
/* volumes.h: the volumes of this machine, bound to the disks they are on, and to their numbers on
 * the server.
 *
 * A volume is bound again before every pass, by identity. While it is bound its disk is held open,
 * so that nothing can put other bytes behind the same name in mid-pass; between passes nothing is
 * held open, so that a disk can be detached. */
#ifndef HF_AGENT_VOLUMES_H
#define HF_AGENT_VOLUMES_H

#include "agent/disks.h"
#include "agent/link.h"
#include "agent/pass.h"
#include "agent/reader.h"
#include "proto/common/digest.h"

struct volume {
	size_t index; /* in pass_config.volumes */
	const char *name, *identity;
	struct disk_info disk;   /* where it was found last */
	uint64_t size_bytes;     /* as declared; grows only */
	enum volume_state state; /* as we see it */
	struct reader_file file; /* open while bound and state is VOLUME_OK */

	/* A read failed there: the volume is VOLUME_UNREADABLE until the same read succeeds. */
	bool has_bad_spot;
	uint64_t bad_offset;

	/* from the server */
	uint32_t number;
	enum volume_state server_state;
	uint64_t frontier_blocks; /* first fill: where to go on */

	bool read_once; /* every byte of it was read and compared or sent in this stream */
	uint64_t pass_bytes_read, pass_bytes_differing; /* in the pass under way, or the last one */
	bool equal; /* that pass proves that the disk was, when it began, what the server has */
};

struct volumes {
	struct link *link;
	const struct pass_config *config;
	size_t count;
	struct volume list[VOLUMES_MAX];
	bool declared; /* what was declared still holds */
	struct message_declare declare;
	struct message_volumes answer;
};

/* Blocks of a volume; its last one may be partial on disk and is padded with zeros. */
static inline uint64_t
volume_blocks(const struct volume *v)
{
	return (v->size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
}

/* True if data of it may be sent. */
static inline bool
volume_is_ok(const struct volume *v)
{
	return v->state == VOLUME_OK && v->server_state == VOLUME_OK;
}

/* Gives; NULL if there is no memory. Borrows both. config->volume_count is at most VOLUMES_MAX. */
struct volumes *volumes_create(struct link *l, const struct pass_config *config);
void volumes_destroy(struct volumes *vs);

/* One more volume, to be bound and declared. Borrows its texts. False: there is no room for it. */
bool volumes_add(struct volumes *vs, const struct pass_volume *volume);

/* The server is told of this disk, which is none of them; as far as there is room. */
void volumes_leave_out(struct volumes *vs, const struct pass_volume *disk);
void volumes_drop_gone(struct volumes *vs); /* those of them that are there no longer */

/* Find and open every volume's disk; tell the server, by notice, what moved or went. Clears
 * vs->declared if anything changed. */
void volumes_bind(struct volumes *vs);

/* Close what volumes_bind() opened. No read may be under way. */
void volumes_release(struct volumes *vs);

/* Declare them and take over the answers; waits for a connection. 0 or -ECANCELED. */
int volumes_declare(struct volumes *vs);

/* True if every volume may be sent: only then can a checkpoint say something about the source. */
bool volumes_are_ok(const struct volumes *vs);

/* A read of the volume failed at offset. */
void volume_failed(struct volumes *vs, struct volume *v, uint64_t offset, int error);

#endif
