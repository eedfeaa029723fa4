/* SPDX-License-Identifier: Apache-2.0 */
/* fleet.h: what all sources come to, counted from their published snapshots. */
#ifndef HF_SERVER_FLEET_H
#define HF_SERVER_FLEET_H

#include "server/status.h"

struct fleet {
	unsigned sources, ready, connected;
	unsigned states[STATE_DISCONNECTED + 1]; /* by enum replication_state */
	double worst_lag_seconds; /* of the consistent lags of those that are not stopped; -1 = none has a point */
	struct id worst;          /* whose that is, and its host name */
	char worst_name[NAME_BYTES];
	uint64_t backlog_bytes;
	uint64_t rate_10s; /* payload bytes per second */
};

/* now_ns: our clock. scratch: used for each in turn. Any thread; copies one snapshot after the other. */
void fleet_count(struct status_table *t, int64_t now_ns, struct source_status *scratch, struct fleet *ret_fleet);

#endif
