/* SPDX-License-Identifier: Apache-2.0 */
#include "server/network.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "proto/common/status.h"

/* What ends a session that nobody wanted to end. FENCED: the agent was back before we had missed it. Not here: what
 * either side said or refused, and a close_notify (ESHUTDOWN). */
static const int cuts[] = {
    -ECONNRESET,
    -EPIPE,
    -ETIMEDOUT,
    -EHOSTUNREACH,
    -ENETUNREACH,
    -HF_ESILENT,
    -HF_EFENCED,
};

bool
network_cut_it(int status)
{
	for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++)
		if (cuts[i] == status)
			return true;
	return false;
}

void
network_begin(struct network *n, uint64_t incarnation, int64_t now_ns)
{
	if (n->cut && n->incarnation == incarnation) {
		memmove(n->lost_ns + 1, n->lost_ns, sizeof n->lost_ns - sizeof n->lost_ns[0]);
		n->lost_ns[0] = now_ns;
		n->lost++;
	}
	n->incarnation = incarnation;
	n->cut = false;
}

void
network_end(struct network *n, int status)
{
	n->cut = network_cut_it(status);
}

static bool
is_recent(int64_t lost_ns, int64_t now_ns)
{
	return lost_ns != 0 && now_ns - lost_ns < NETWORK_WINDOW_NS;
}

void
network_tick(struct network *n, int64_t now_ns)
{
	n->unstable = is_recent(n->lost_ns[n->unstable ? 0 : NETWORK_LOSSES - 1], now_ns);
}
