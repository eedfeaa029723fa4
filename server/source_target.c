/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the newest point of a source is as young as its RPO target wants: watched once a second, told when it
 * changes; of points that come too late time and again, once. It says nothing about Ready: a source that burnt down
 * misses its target, and can be recovered all the same. */
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

/* Age of its newest point. 0: it has none, and misses nothing. */
static int64_t
newest_age_ns(const struct source *src)
{
	const struct checkpoint *newest = store_newest_consistent(src->store);

	return newest != NULL ? clock_real_ns() - source_until_ns(src, newest) : 0;
}

void
source_watch_target(struct source *src)
{
	int64_t target_ns = src->settings.rpo_target_ns, age_ns = newest_age_ns(src), now_ns = src->worker->now_ns;

	if (target_ns != 0 && age_ns > target_ns) {
		if (src->target_missed_ns == 0)
			say_missed(src, age_ns);
		src->target_missed_ns = now_ns;
	} else if (src->target_missed_ns != 0 && (target_ns == 0 || now_ns - src->target_missed_ns >= TARGET_HOLD_NS)) {
		src->target_missed_ns = 0;
		server_event(src->server, &src->id, "rpo_met", "%s",
		    target_ns != 0 ? "for a minute the newest point has been as young as its RPO target wants"
				   : "it has no RPO target");
	}
}
