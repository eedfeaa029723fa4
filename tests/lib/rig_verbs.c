/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/rig_verbs.h"

#include <stdlib.h>

#include "proto/common/units.h"

enum { GROWN_BLOCKS = 3, GROWN_MAX = 24, SEAL_FRAMES = 12, SYNC_TURNS = 4 };

/* ---- frames ---- */

static bool
is_open(const struct rig *g, int volume)
{
	return g->usable[volume] && g->states[g->sent].frontier[volume] > 0;
}

/* count blocks of a volume, wherever they fit before the frontier. */
static void
add_somewhere(struct rig *g, int volume, uint64_t count, bool zero)
{
	uint64_t frontier = g->states[g->sent].frontier[volume];

	if (count > frontier)
		count = frontier;
	rig_frame_extent(g, volume, rig_pick(g, frontier - count + 1), count, false, zero);
}

static void
send_blocks(struct rig *g, uint64_t count, bool zero)
{
	rig_frame_begin(g);
	for (int v = 0; v < g->volumes; v++)
		if (is_open(g, v))
			add_somewhere(g, v, count, zero);
	rig_frame_end(g);
}

static bool
anything_open(const struct rig *g)
{
	return is_open(g, 0) || is_open(g, 1) || is_open(g, 2);
}

static bool
act_write(struct rig *g)
{
	if (anything_open(g))
		send_blocks(g, 1, false);
	return anything_open(g);
}

static bool
act_checkpoint(struct rig *g)
{
	rig_frame_begin(g);
	rig_frame_end(g);
	return true;
}

/* One group of many frames, with checkpoints between them: its descriptor is longer than a sector. */
static bool
send_batch(struct rig *g, uint64_t blocks, bool zero)
{
	if (!anything_open(g))
		return false;
	for (int i = 0; i < 3; i++) {
		send_blocks(g, blocks, zero || i == 1);
		(void)act_checkpoint(g);
	}
	return true;
}

static bool
act_batch(struct rig *g)
{
	return send_batch(g, 2, false);
}

/* Without any payload. */
static bool
act_zero(struct rig *g)
{
	return send_batch(g, 3, true);
}

static int
find_unfilled(const struct rig *g)
{
	for (int v = 0; v < g->volumes; v++)
		if (g->usable[v] && g->states[g->sent].frontier[v] < g->blocks[v])
			return v;
	return -1;
}

static bool
act_fill(struct rig *g)
{
	int v = find_unfilled(g);
	uint64_t frontier = v < 0 ? 0 : g->states[g->sent].frontier[v], left = v < 0 ? 0 : g->blocks[v] - frontier;

	if (v < 0)
		return false;
	rig_frame_begin(g);
	rig_frame_extent(g, v, frontier, left < 2 ? left : 2, true, false);
	if (left > 2)
		rig_frame_extent(g, v, frontier + 2, 1, true, true);
	rig_frame_end(g);
	return true;
}

/* Several groups, sent, and nobody waits for them: fills and writes share none. */
static bool
act_queue(struct rig *g)
{
	bool any = act_write(g);

	store_flush(g->store);
	while (any && rig_pick(g, 4) > 0 && act_fill(g))
		(void)act_write(g);
	(void)act_checkpoint(g);
	store_flush(g->store);
	return any;
}

/* The same, and the first sync after it fails. */
static bool
act_fail(struct rig *g)
{
	disk_sim_fail(g->disk, 's', 1, false, SIM_FAULT_EIO);
	act_queue(g);
	rig_wait(g, SYNC_TURNS);
	disk_sim_fail(g->disk, 's', 1, false, SIM_FAULT_NONE);
	return true;
}

bool
rig_fill_zeros(struct rig *g)
{
	int v = find_unfilled(g);

	if (v < 0)
		return false;
	rig_frame_begin(g);
	rig_frame_extent(
	    g, v, g->states[g->sent].frontier[v], g->blocks[v] - g->states[g->sent].frontier[v], true, true);
	rig_frame_end(g);
	return true;
}

/* The segment is full, and the next one is begun. */
static bool
act_seal(struct rig *g)
{
	struct store_stats before, now;

	store_get_stats(g->store, &before);
	for (int i = 0; i < SEAL_FRAMES && is_open(g, 0); i++) {
		send_blocks(g, 6, false);
		rig_settle(g);
		store_get_stats(g->store, &now);
		if (now.segment_count > before.segment_count || g->failed)
			return true;
	}
	return false;
}

/* ---- points ---- */

/* The i-th point that answers to the test; by value, for the list goes. */
static bool
find_point(struct rig *g, bool newest, bool (*is)(const struct pit *p), struct pit *ret_pit)
{
	struct pit *list;
	size_t count;
	bool found = false;

	if (store_list_pits(g->store, &list, &count) < 0)
		return false;
	for (size_t i = 0; i < count && (newest || !found); i++)
		if (is(&list[i])) {
			*ret_pit = list[i];
			found = true;
		}
	free(list);
	return found;
}

static bool
is_not_by_hand(const struct pit *p)
{
	return !p->by_hand;
}

static bool
is_kept(const struct pit *p)
{
	return p->kept;
}

static bool
is_free(const struct pit *p)
{
	return p->kept && !p->held;
}

static bool
act_keep(struct rig *g)
{
	struct pit p;

	return find_point(g, true, is_not_by_hand, &p) && rig_keep(g, &p) == 0;
}

static bool
act_hold(struct rig *g)
{
	struct pit p;

	return find_point(g, false, is_kept, &p) && rig_change(g, &p, p.held ? STORE_PIT_RELEASE : STORE_PIT_HOLD) == 0;
}

static bool
act_delete(struct rig *g)
{
	struct pit p;

	return find_point(g, false, is_free, &p) && rig_change(g, &p, STORE_PIT_DELETE) == 0;
}

/* ---- what the store does by itself ---- */

static bool
act_policy(struct rig *g)
{
	return rig_run_until(g, "apply policy");
}

static bool
act_build(struct rig *g)
{
	return rig_run_until(g, "build run");
}

static bool
act_merge(struct rig *g)
{
	return rig_run_until(g, "merge runs");
}

static bool
act_punch(struct rig *g)
{
	return rig_run_until(g, "punch segments");
}

static bool
act_fold(struct rig *g)
{
	return rig_run_until(g, "fold");
}

/* ---- disks and streams ---- */

static bool
act_new_disk(struct rig *g)
{
	if (g->attached[2])
		return false;
	g->attached[2] = true;
	return rig_declare(g) == 0;
}

static bool
act_grow(struct rig *g)
{
	g->bytes[0] += GROWN_BLOCKS * BLOCK_BYTES;
	return g->bytes[0] / BLOCK_BYTES < GROWN_MAX && rig_declare(g) == 0;
}

/* A disk goes, or comes back. */
static bool
act_retire(struct rig *g)
{
	g->attached[1] = !g->attached[1];
	return rig_declare(g) == 0;
}

static bool
act_stream(struct rig *g)
{
	rig_settle(g);
	return g->acked == g->sent && rig_begin_anew(g);
}

bool
rig_begin_anew(struct rig *g)
{
	g->sent = g->acked;
	if (g->sent == g->stream_base)
		return false;
	g->stream_before = g->stream_id;
	g->stream_id = g->stream_id * 5 + 2;
	g->stream_base = g->sent;
	return rig_start_stream(g) == 0;
}

/* ---- ends ---- */

bool
rig_come_back(struct rig *g)
{
	if (rig_open(g) < 0 || !rig_check_recovered(g))
		return false;
	rig_resend(g);
	return g->fault[0] == '\0';
}

/* The process is gone at once: what was in flight arrives, and its callbacks do not. */
static bool
act_kill(struct rig *g)
{
	disk_sim_revive(g->disk);
	rig_close(g);
	(void)rig_come_back(g);
	return true;
}

static bool
act_power(struct rig *g)
{
	disk_sim_restart(g->disk, SIM_SURVIVE_RANDOM, rig_pick(g, UINT64_MAX));
	rig_close(g);
	(void)rig_come_back(g);
	return true;
}

const struct rig_verb rig_verbs[] = {
    {'w', "write", act_write},
    {'q', "write, not waited for", act_queue},
    {'v', "write, and the sync fails", act_fail},
    {'b', "batch", act_batch},
    {'z', "zero", act_zero},
    {'i', "fill", act_fill},
    {'c', "checkpoint", act_checkpoint},
    {'s', "seal", act_seal},
    {'k', "keep a point", act_keep},
    {'h', "hold or release a point", act_hold},
    {'d', "delete a point", act_delete},
    {'p', "apply the policy", act_policy},
    {'r', "build a run", act_build},
    {'e', "merge runs", act_merge},
    {'u', "punch segments", act_punch},
    {'f', "fold", act_fold},
    {'n', "new disk", act_new_disk},
    {'g', "disk grows", act_grow},
    {'t', "disk retires or returns", act_retire},
    {'m', "new stream", act_stream},
    {'o', "killed and opened", act_kill},
    {'x', "power lost and opened", act_power},
};
const unsigned rig_verb_count = sizeof rig_verbs / sizeof rig_verbs[0];

const struct rig_verb *
rig_verb_find(char letter)
{
	for (unsigned i = 0; i < rig_verb_count; i++)
		if (rig_verbs[i].letter == letter)
			return &rig_verbs[i];
	return NULL;
}

bool
rig_act(struct rig *g, const struct rig_verb *verb)
{
	bool done = verb->act(g);

	if (verb->act != act_queue && verb->act != act_fail && g->store != NULL)
		rig_settle(g);
	return done;
}
