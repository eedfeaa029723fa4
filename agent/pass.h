/* SPDX-License-Identifier: Apache-2.0 */
/* pass.h: what the agent does all day: find its disks, fill the server's copies, then read,
 * compare, send, mark, and wait.
 *
 * pass.c opens with the whole story: activities, what makes a checkpoint consistent, and how it all
 * fails. */
#ifndef HF_AGENT_PASS_H
#define HF_AGENT_PASS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/link.h"
#include "proto/common/error.h"
#include "proto/common/progress.h"

struct pass_volume {
	const char *name;     /* for people, unique */
	const char *identity; /* as of disks.h; what the volume is known by */
	const char *path;     /* where it was last: a hint */
	uint64_t size_bytes;  /* as last known; a disk smaller than this is refused */
};

struct pass_config {
	const struct pass_volume *volumes;
	size_t volume_count;
	int64_t interval_ns;       /* from the start of a pass to the start of the next; 0 = without pause */
	bool once;                 /* return when a checkpoint after the fill is durable */
	uint64_t read_limit_bytes; /* per second, over all disks; 0 = none */

	/* Mount points to freeze for checkpoints of consistency filesystem, in this order; none =
	 * never. */
	const char *const *freeze_mountpoints;
	size_t freeze_count;
	int64_t freeze_timeout_ns;
	const char *state_directory, *record_directory; /* must not lie on a file system to be frozen */

	enum progress_mode progress;

	/* Set by the signal handler beside link_stop(): link_stop() ends waiting for the server,
	 * this ends reading. NULL is allowed. */
	const atomic_bool *stop;

	/* Called from within pass_run(), on its thread; each may be NULL.
	 * A disk was found elsewhere, or has grown: remember path and size. */
	void (*on_volume_changed)(void *arg, size_t volume, const char *path, uint64_t size_bytes);
	/* A disk appeared. ret_take: it is to be a volume from now on, and is remembered as one; else it is only told
	 * of. False: there is none (more). */
	bool (*next_new_disk)(void *arg, struct pass_volume *ret_disk, bool *ret_take);
	/* One that was only told of is still there. Not NULL if the one above is not. */
	bool (*disk_is_there)(void *arg, const char *identity);
	/* A checkpoint is durable on the server. */
	void (*on_checkpoint)(void *arg, const struct message_checkpoint *checkpoint);
	/* What it is doing now, at most once a second and at every change of activity. */
	void (*on_report)(void *arg, const struct message_report *report);
	void *arg;
};

/* Replicate until link_stop() (returns -ECANCELED) or, with config->once, until a checkpoint is
 * durable (returns 0). Borrows all. Any other return is something no retry cures (a mount point
 * that may not be frozen, no memory), told in err. Blocks throughout. */
int pass_run(struct link *l, const struct pass_config *config, struct hf_error *err);

#endif
