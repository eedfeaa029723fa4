/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the points of a source expire: watched once a second, told when it changes by itself. */
#include "proto/common/units.h"
#include "server/source_impl.h"

static void
say_drifted(struct source *src, int64_t drift_ns)
{
	char text[UNITS_TEXT_BYTES];

	server_event(src->server, &src->id, "retention_stopped",
	    "the clock of this machine has gone %s by %s: nothing expires until it is right again; if it is right now, "
	    "holdfastctl retention thaw --all",
	    drift_ns > 0 ? "ahead" : "back", duration_format(drift_ns > 0 ? drift_ns : -drift_ns, text));
}

void
source_watch_retention(struct source *src)
{
	const struct retention *r = store_retention(src->store);
	bool drifted = retention_drifted(r);

	if (drifted == src->clocks_disagree)
		return;
	src->clocks_disagree = drifted;
	src->dirty = true;
	if (drifted)
		say_drifted(src, r->drift_ns);
	else
		server_event(src->server, &src->id, "retention_resumed", "the clocks agree: points expire again");
}
