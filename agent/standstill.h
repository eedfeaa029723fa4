/* SPDX-License-Identifier: Apache-2.0 */
/* standstill.h: after a pass, one moment of all volumes with their file systems frozen. */
#ifndef HF_AGENT_STANDSTILL_H
#define HF_AGENT_STANDSTILL_H

#include "agent/node_map.h"
#include "agent/pass.h"
#include "agent/volumes.h"
#include "agent/walk.h"

struct standstill;

/* What came of one attempt. */
struct cut {
	bool is_clean;    /* all volumes are on the server as they were at clock_ns */
	bool has_sent;    /* something was sent after the pass, clean or not */
	int64_t clock_ns; /* CLOCK_REALTIME, just after the last file system was frozen */
};

/* Checks the mount points and starts the guard. Borrows all. 0, or what forbids it. */
int standstill_create(const struct pass_config *config, struct link *l, struct volumes *vs, struct copier *c,
    struct standstill **ret_standstill, struct hf_error *err);
void standstill_destroy(struct standstill *s);

/* Before a pass: forget what the last one read. 0 or -ENOMEM. */
int standstill_prepare(struct standstill *s);

/* Where the pass notes what it reads of v; NULL if s is NULL. */
struct node_map *standstill_map(struct standstill *s, const struct volume *v);

/* After a pass that read pass_bytes: is it worth trying? No, for a number of passes that doubles
 * each time, after reading could not be done within the timeout, or could not be by the rate
 * measured. */
bool standstill_is_due(struct standstill *s, uint64_t pass_bytes);

/* Freeze, read all, thaw, send what differs from the pass, and wait until it is durable. 0,
 * whatever came of it; negative as sweep_volume(). */
int standstill_cut(struct standstill *s, struct cut *ret_cut);

#endif
