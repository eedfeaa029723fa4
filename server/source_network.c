/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the network to a source's agent holds: watched once a second and when it is back, told when it changes. It
 * stops nothing, and says nothing about Ready: what was lost is sent again. */
#include "server/source_impl.h"

void
source_watch_network(struct source *src, int64_t now_ns)
{
	struct network *n = &src->network;

	network_tick(n, now_ns);
	if (n->unstable == src->network_told)
		return;
	src->network_told = n->unstable;
	src->dirty = true;
	if (n->unstable)
		server_event(src->server, &src->id, "network_unstable",
		    "%d sessions with the agent at %s were lost within ten minutes, though it and this server ran on: "
		    "look at the path between them",
		    NETWORK_LOSSES, src->peer);
	else
		server_event(src->server, &src->id, "network_steady", "no session was lost for ten minutes");
}
