/* SPDX-License-Identifier: Apache-2.0 */
#include "server/fleet.h"

#include <string.h>

/* What is stopped is not late: somebody wanted it so. */
static void
note_lag(struct fleet *f, const struct source_status *s, int64_t now_ns)
{
	double lag = status_lag_seconds(s->consistent_at_ns, now_ns);

	if (s->state == STATE_STOPPED || lag <= f->worst_lag_seconds)
		return;
	f->worst_lag_seconds = lag;
	f->worst = s->id;
	memcpy(f->worst_name, s->hints.hostname, sizeof f->worst_name);
}

void
fleet_count(struct status_table *t, int64_t now_ns, struct source_status *scratch, struct fleet *ret_fleet)
{
	struct fleet f = {.worst_lag_seconds = -1};

	scratch->id = (struct id){{0}};
	while (status_next(t, &scratch->id, scratch)) {
		f.sources++;
		f.ready += scratch->ready;
		f.connected += scratch->connected;
		f.states[scratch->state]++;
		f.backlog_bytes += scratch->backlog_bytes;
		f.rate_10s += scratch->rate_10s;
		note_lag(&f, scratch, now_ns);
	}
	*ret_fleet = f;
}
