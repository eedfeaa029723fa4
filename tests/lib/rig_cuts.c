/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/rig_cuts.h"

#include <stdlib.h>

static struct {
	struct rig_cut list[RIG_CUTS_MAX];
	unsigned count, stride, seen;
	uint64_t changes, acked;
	unsigned kept_count;
} cuts;

static void
add_cut(const struct rig *g, uint64_t fresh, bool owes)
{
	struct rig_cut *c = &cuts.list[cuts.count++];

	if (c->rig == NULL && (c->rig = calloc(1, sizeof *c->rig)) == NULL)
		abort();
	rig_fork(c->rig, g);
	c->fresh = fresh;
	c->owes = owes;
}

static void
on_operation(void *arg)
{
	const struct rig *g = arg;
	bool owes = g->acked != cuts.acked || g->kept_count != cuts.kept_count;
	uint64_t fresh = disk_sim_pending_since(g->disk, cuts.changes, &cuts.changes);

	if (fresh == 0 && !owes)
		return;
	cuts.acked = g->acked;
	cuts.kept_count = g->kept_count;
	if (cuts.seen++ % cuts.stride == 0 && cuts.count < RIG_CUTS_MAX)
		add_cut(g, fresh, owes);
}

void
rig_cuts_begin(struct rig *g, unsigned stride)
{
	cuts.count = cuts.seen = 0;
	cuts.stride = stride;
	cuts.acked = g->acked;
	cuts.kept_count = g->kept_count;
	(void)disk_sim_pending_since(g->disk, 0, &cuts.changes);
	disk_sim_watch(g->disk, on_operation, g);
}

unsigned
rig_cuts_end(struct rig *g, const struct rig_cut **ret_cuts)
{
	disk_sim_watch(g->disk, NULL, NULL);
	on_operation(g);
	*ret_cuts = cuts.list;
	return cuts.count;
}

void
rig_cuts_free(void)
{
	while (cuts.count > 0)
		rig_stop(cuts.list[--cuts.count].rig);
}
