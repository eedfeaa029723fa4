/* SPDX-License-Identifier: Apache-2.0 */
/* tally.h: what becomes of connections, counted by whichever thread sees it, since the server was started. */
#ifndef HF_SERVER_TALLY_H
#define HF_SERVER_TALLY_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "proto/common/status.h"

struct tally {
	_Atomic uint64_t handshakes, handshakes_failed; /* of TLS, on the data port */
	_Atomic uint64_t ends[HF_STATUSES + 1];         /* sessions that we ended, by status; the last: by an errno */
};

static inline void
tally_count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* status: negative, as for session_end(); 0: the peer took its leave, and there is nothing to count. */
static inline void
tally_count_end(struct tally *t, int status)
{
	int i = abs(status) - HF_STATUS_FIRST;

	if (status != 0)
		tally_count(&t->ends[i >= 0 && i < HF_STATUSES ? i : HF_STATUSES]);
}

#endif
