/* SPDX-License-Identifier: Apache-2.0 */
/* peer_clock.h: how far a source's clock is from ours, from the times its heartbeats echo, as NTP does it. Of the last
 * eight samples the one with the shortest round trip is believed: queues only ever make a sample worse. When either
 * clock was set, only what came since. Pure. */
#ifndef HF_SERVER_PEER_CLOCK_H
#define HF_SERVER_PEER_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

enum { PEER_CLOCK_SAMPLES = 8 };

struct peer_clock {
	int64_t offset_ns;     /* source's clock minus ours */
	int64_t round_trip_ns; /* of the sample believed; 0 = only guessed from HELLO */
	unsigned next, count;
	struct {
		int64_t offset_ns, round_trip_ns;
	} samples[PEER_CLOCK_SAMPLES];
};

/* From the one time in HELLO: too low by the way of the message, until a heartbeat comes. */
void peer_clock_init(struct peer_clock *p, int64_t peer_ns, int64_t now_ns);

/* A heartbeat came at now_ns: the peer sent it at peer_ns, hold_ns after it had received ours, which left here at
 * echo_ns. A sample that cannot be (one of the clocks was set meanwhile) is dropped: returns false. */
bool peer_clock_add(struct peer_clock *p, int64_t now_ns, int64_t peer_ns, int64_t echo_ns, int64_t hold_ns);

#endif
