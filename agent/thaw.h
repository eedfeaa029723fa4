/* SPDX-License-Identifier: Apache-2.0 */
/* thaw.h: what was left frozen by an agent that was killed together with its guard, and 'holdfast-agent thaw'. */
#ifndef HF_AGENT_THAW_H
#define HF_AGENT_THAW_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/common/error.h"

struct options;

enum thaw_result {
	THAW_DONE,
	THAW_NOT_FROZEN,  /* by now, or not yet when it was to be */
	THAW_NOT_MOUNTED, /* the file system is nowhere that we can see */
	THAW_HELD,        /* by an agent that lives, or by the kernel, which has not frozen it yet */
	THAW_FAILED,
};

struct thaw {
	const char *path; /* the mount point; of a record that cannot be read, the record */
	enum thaw_result result;
	const char *text; /* the result for a person */
};

typedef void thaw_cb(void *arg, const struct thaw *t);

/* Thaw what the records in directory name, but for those that somebody holds for longer than patience_ns; no directory
 * is no record. cb is called for each mount point. 0 if nothing is left to do, -EBUSY if something is (it stays written
 * down), or -errno. Blocks, for patience_ns at most and for what thawing takes. */
int thaw_left(const char *directory, int64_t patience_ns, thaw_cb *cb, void *arg, struct hf_error *err);

/* The same, patiently, and told in the log. */
void thaw_left_logged(const char *directory);

int thaw_run(const struct options *o);

#endif
