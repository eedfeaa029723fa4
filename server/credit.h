/* SPDX-License-Identifier: Apache-2.0 */
/* credit.h: how many bytes an agent may have sent. Counts the wire bytes of stream frames since the session began and
 * remembers, in a bounded number of marks, up to which sequence they had come, so that an acknowledged sequence can be
 * turned back into bytes. Pure. */
#ifndef HF_SERVER_CREDIT_H
#define HF_SERVER_CREDIT_H

#include <stdbool.h>
#include <stdint.h>

enum { CREDIT_MARKS = 64 };

struct credit {
	uint64_t window_bytes;   /* most that may ever be unacknowledged */
	uint64_t received_bytes; /* since the session began */
	uint64_t acked_bytes;    /* of them; never too high, too low by at most a 32nd of the window */
	uint64_t granted_bytes;  /* told to the agent: received_bytes never gets beyond it. It never falls */
	uint64_t sequence;       /* of the newest frame received */
	uint32_t first, count;
	struct {
		uint64_t sequence, bytes;
	} marks[CREDIT_MARKS]; /* ring: after this sequence so many bytes had come */
};

/* sequence: of the last frame before the session's first. Nothing is granted yet. */
void credit_init(struct credit *c, uint64_t window_bytes, uint64_t sequence);

/* A frame of `bytes` wire bytes (header, message, payload) begins. False, and nothing is counted: it is beyond the
 * grant. */
bool credit_take(struct credit *c, uint64_t sequence, uint64_t bytes);

/* Everything up to sequence is durable. */
void credit_acked(struct credit *c, uint64_t sequence);

/* Grant what a window of so many bytes allows; 0: nothing more. Returns the total granted, as ACK carries it. */
uint64_t credit_grant(struct credit *c, uint64_t window_bytes);

#endif
