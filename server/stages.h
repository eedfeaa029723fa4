/* SPDX-License-Identifier: Apache-2.0 */
/* stages.h: which stage holds a source's stream up, from how long each was waited for in the last ten seconds. Pure;
 * small, for every source has one.
 *
 * The agent measures what waits there: for its disks, for encryption, for the network, for the server. What it takes
 * for the network or for us may be our throttle, which reads nothing meanwhile, or that it gives way; and what it waits
 * for us is a sync while one is in flight, else everything before it: writing. */
#ifndef HF_SERVER_STAGES_H
#define HF_SERVER_STAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/message.h"

enum stage { STAGE_SOURCE, STAGE_TLS, STAGE_NETWORK, STAGE_THROTTLE, STAGE_WRITE, STAGE_SYNC };
enum { STAGES = STAGE_SYNC + 1, STAGE_SAMPLES = 6 };

/* "SOURCE_READ", "TLS", "NETWORK", "THROTTLE", "WRITE", "SYNC". */
const char *stage_name(enum stage s);

struct stage_sample { /* since each began to count; at a moment of the monotonic clock */
	int64_t at_ns;
	struct message_waits agent;
	uint64_t throttle_ns, sync_ns;
};

struct stages {                                     /* all zero: nothing known */
	struct stage_sample samples[STAGE_SAMPLES]; /* oldest first, two seconds apart */
	unsigned count;
};

/* As often as one likes; what is not two seconds newer than the last is not kept. Counters that fall begin anew. */
void stages_add(struct stages *s, const struct stage_sample *sample);

/* Share of the time since the oldest sample that each stage was waited for, 0..1. False: not known yet. */
bool stages_get(const struct stages *s, double ret_shares[STAGES]);
/* The same of the newest two samples. */
bool stages_get_newest(const struct stages *s, double ret_shares[STAGES]);

/* The one waited for longest; -1: none for a fifth of the time. */
int stages_bottleneck(const double shares[STAGES]);

#endif
