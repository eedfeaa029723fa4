/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint.h: a mark in a source's journal, over all its volumes together. */
#ifndef HF_STORAGE_CHECKPOINT_H
#define HF_STORAGE_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/common/id.h"

enum { STORE_VOLUMES_MAX = 64 };

/* Values as on the wire and on disk. */
enum checkpoint_consistency {
	CHECKPOINT_FUZZY = 1,
	CHECKPOINT_CRASH = 2,
	CHECKPOINT_FILESYSTEM = 3,
	CHECKPOINT_APPLICATION = 4,
};

struct checkpoint {
	uint64_t lsn;               /* its record; what the volumes held after every record before it */
	uint64_t stream_id;         /* of the stream it came in; 0: of version 1, which did not write it down */
	int64_t clock_ns;           /* source's clock, of the moment it describes */
	int64_t clock_offset_ns;    /* source's clock minus ours, measured; clock_ns - clock_offset_ns is our time */
	int64_t received_ns;        /* our clock when it arrived */
	int64_t unchanged_until_ns; /* source's clock: still true then (>= clock_ns); not on disk */
	int64_t running_ns;         /* the source's running time then, see retention.h; not on disk */
	enum checkpoint_consistency consistency;
	bool complete; /* every declared volume had finished its first fill */
	uint32_t volume_count;
	struct {
		uint32_t volume;
		uint64_t size_bytes;
	} volumes[STORE_VOLUMES_MAX];
};

/* Our clock at the moment the checkpoint describes. */
static inline int64_t
checkpoint_time_ns(const struct checkpoint *c)
{
	return c->clock_ns - c->clock_offset_ns;
}

/* Whether the volume is part of it; *ret_size (may be NULL) = its size then, bytes. */
bool checkpoint_has_volume(const struct checkpoint *c, uint32_t volume, uint64_t *ret_size);

/* The id of the point in time at this checkpoint: the same for ever, kept or not. Derived from what the journal says of
 * it. The stream tells it from the one that had this LSN before the data directory went back to an older state: an
 * agent whose acknowledged frames are gone never goes on with its stream. */
struct id checkpoint_pit_id(const struct id *source, uint64_t lsn, uint64_t stream_id);

/* "fuzzy", "crash", "filesystem", "application". */
const char *checkpoint_consistency_name(enum checkpoint_consistency c);

#endif
