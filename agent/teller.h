/* SPDX-License-Identifier: Apache-2.0 */
/* teller.h: says how far the agent is: to the server, to whoever runs it, and to the person who watches. */
#ifndef HF_AGENT_TELLER_H
#define HF_AGENT_TELLER_H

#include "agent/pass.h"
#include "agent/volumes.h"
#include "agent/walk.h"

struct teller {
	struct link *link;
	const struct pass_config *config;
	const struct volumes *volumes;
	struct message_report report;
	size_t slots[VOLUMES_MAX]; /* by index of volume: where in the report it is */
	int64_t reported_ns;
	struct progress progress;
};

/* An activity begins. title: of a progress bar, or NULL. */
void teller_begin(struct teller *t, enum activity activity, uint64_t pass, const char *title);

/* v is done up to done_bytes; for copier.on_progress. Reports at most once a second. */
void teller_progress(void *arg, struct volume *v, uint64_t done_bytes);

/* The activity is over, or was broken off. */
void teller_end(struct teller *t);

/* Nothing is being done. */
void teller_idle(struct teller *t);

#endif
