/* SPDX-License-Identifier: Apache-2.0 */
/* catch_up.h: when a source will have caught up: a range, or the honest answer that it will not. Pure; small, for every
 * source has one.
 *
 * What is left is sampled every five seconds, for a minute. The pace since the oldest sample and that of the last ten
 * seconds give the range; before there are five seconds to judge by there is none. It does not converge when
 *	- an agent that captures writes has more left than a minute ago, or
 *	- of one that compares in passes, three checkpoints in a row were older at their arrival than the one before:
 *	  while a pass is sent so much changes that the next one takes longer still. */
#ifndef HF_SERVER_CATCH_UP_H
#define HF_SERVER_CATCH_UP_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/common/units.h"
#include "proto/message.h"

enum { CATCH_UP_SAMPLES = 13 };

/* A source whose newest checkpoint is younger than this is not behind. */
#define CATCH_UP_LATE_NS (30 * NS_PER_SECOND)

struct catch_up { /* all zero: nothing known */
	enum activity activity;
	uint64_t pass;
	struct {
		int64_t at_ns; /* monotonic */
		uint64_t bytes;
	} samples[CATCH_UP_SAMPLES]; /* oldest first */
	unsigned count;

	int64_t clock_ns, lag_ns; /* of the newest checkpoint: its moment; how old it was when it came */
	uint64_t needed_rate;     /* bytes a second that were found to have changed before it */
	unsigned longer;          /* so many in a row came later than the one before */
};

enum catch_up_state { CATCH_UP_UNKNOWN, CATCH_UP_DONE, CATCH_UP_CONVERGING, CATCH_UP_NEVER };

/* "UNKNOWN", "CAUGHT_UP", "CONVERGING", "NOT_CONVERGING". */
const char *catch_up_state_name(enum catch_up_state s);

struct catch_up_status { /* all zero: not known */
	enum catch_up_state state;
	uint64_t left_bytes;
	uint64_t needed_rate, achieved_rate; /* bytes a second: that are written at the source; that arrive */
	int64_t earliest_ns, latest_ns;      /* from now on, while CONVERGING */
};

/* bytes: left to be filled or compared in this activity, or the backlog of an agent that does neither. Another activity
 * or pass begins anew. As often as one likes. */
void catch_up_note(struct catch_up *c, int64_t now_ns, enum activity activity, uint64_t pass, uint64_t bytes);

/* A checkpoint came: its moment by the source's clock, its age, and what was found to differ before it. */
void catch_up_checkpoint(struct catch_up *c, int64_t clock_ns, int64_t lag_ns, uint64_t differing_bytes);

/* bytes: left now, as for catch_up_note(). lag_ns: age of the newest checkpoint, -1 = there is none. rate: bytes a
 * second that arrive. */
void catch_up_get(const struct catch_up *c, int64_t now_ns, uint64_t bytes, int64_t lag_ns, uint64_t rate,
    struct catch_up_status *ret_status);

#endif
