/* SPDX-License-Identifier: Apache-2.0 */
/* network.h: does the network to a source's agent hold? Told from the sessions that broke off. A session was lost to
 * the network if neither end let go of it (network_cut_it()) and the same process of the agent then came back: an agent
 * that was killed comes with a higher incarnation, and one that found no path at all does not come.
 *
 * Unstable is a network that lost NETWORK_LOSSES sessions within NETWORK_WINDOW_NS, until it has lost none for that
 * long: one rule to begin and a quieter one to end, so that it does not go to and fro. What is lost within a session
 * TCP sends again, and that shows as time waited for the network (stages.h). Pure. */
#ifndef HF_SERVER_NETWORK_H
#define HF_SERVER_NETWORK_H

#include <stdbool.h>
#include <stdint.h>

#include "server/limits.h"

struct network {
	uint64_t incarnation;            /* of the session there is, or was last */
	bool cut;                        /* that one broke off */
	int64_t lost_ns[NETWORK_LOSSES]; /* monotonic: when the agent was back; the newest first, 0 = none */
	uint64_t lost;                   /* since the start */
	bool unstable;
};

/* Does a session that ended with this status (0 or negative) count as cut? */
bool network_cut_it(int status);

/* The agent was welcomed; its session ended. */
void network_begin(struct network *n, uint64_t incarnation, int64_t now_ns);
void network_end(struct network *n, int status);

/* After either, and as time goes on: sets `unstable`. */
void network_tick(struct network *n, int64_t now_ns);

#endif
