/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the newest point of a source is as young as its RPO target wants: watched once a second, told when it
 * changes. It says nothing about Ready: a source that burnt down misses its target, and can be recovered all the same.
 */
#include "proto/common/units.h"
#include "server/source_impl.h"

static void
say_missed(struct source *src, int64_t lag_ns)
{
	char lag[UNITS_TEXT_BYTES], target[UNITS_TEXT_BYTES];

	server_event(src->server, &src->id, "rpo_missed",
	    "the newest point is %s old, and its RPO target is %s: holdfastctl source show %s",
	    duration_format(lag_ns, lag), duration_format(src->settings.rpo_target_ns, target), src->id.text);
}

void
source_watch_target(struct source *src)
{
	const struct checkpoint *newest = store_newest_consistent(src->store);
	int64_t target_ns = src->settings.rpo_target_ns;
	int64_t lag_ns = newest != NULL ? clock_real_ns() - source_until_ns(newest) : 0;
	bool missed = target_ns != 0 && lag_ns > target_ns;

	if (missed == src->target_missed)
		return;
	src->target_missed = missed;
	src->dirty = true;
	if (missed)
		say_missed(src, lag_ns);
	else
		server_event(src->server, &src->id, "rpo_met", "%s",
		    target_ns != 0 ? "the newest point is as young as its RPO target wants" : "it has no RPO target");
}
