/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/store.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "tests/lib/rig_unit.h"
#include "tests/lib/rig_verbs.h"

enum { STEPS = 60, SETTLED_STEPS = 200 };

static void
steps(struct rig *g, unsigned n)
{
	for (unsigned i = 0; i < n && !g->failed; i++)
		rig_step(g);
}

static bool
is_filled(const struct rig *g)
{
	const struct rig_state *st = &g->states[g->sent];

	return st->frontier[0] == g->blocks[0] && st->frontier[1] == g->blocks[1];
}

/* Step until both volumes are filled and everything is durable. */
static void
fill(struct rig *g)
{
	while (!is_filled(g) && g->fault[0] == '\0')
		rig_step(g);
	rig_settle(g);
	assert_string_equal(g->fault, "");
}

static void
power_cut(struct rig *g)
{
	rig_close(g);
	disk_sim_restart(g->disk, SIM_SURVIVE_NONE, 1);
	assert_int_equal(rig_open(g), 0);
	assert_true(rig_check_recovered(g));
	check(g);
}

/* ---- what is refused, and changes nothing ---- */

static int
send_extent(struct rig *g, uint32_t volume, uint32_t kind, uint64_t block, uint64_t count, uint64_t sequence)
{
	struct store_extent x = {.block = block, .count = count, .volume = volume, .kind = kind};
	void *payload;
	int r = store_frame_begin(g->store, sequence, 1, &x, 1, NULL, 0, &payload);

	store_frame_abort(g->store);
	return r;
}

static void
frames_that_break_the_rules_are_refused(void **state)
{
	struct rig *g = *state;
	uint64_t next;

	fill(g);
	next = g->sent + 1;
	assert_int_equal(send_extent(g, 99, 2, 0, 1, next), -HF_EVOLUME);
	assert_int_equal(send_extent(g, g->volume[0], 2, g->blocks[0], 1, next), -HF_EBEYOND);
	assert_int_equal(send_extent(g, g->volume[0], 2, g->blocks[0] - 1, 2, next), -HF_EBEYOND);
	assert_int_equal(send_extent(g, g->volume[0], 2, 1, UINT64_MAX, next), -HF_EBEYOND);
	assert_int_equal(send_extent(g, g->volume[0], 4, 0, 1, next), -HF_EFRONTIER);
	assert_int_equal(send_extent(g, g->volume[0], 2, 0, 1, next + 1), -HF_ESEQUENCE);
	assert_int_equal(send_extent(g, g->volume[0], 2, 0, 1, next - 1), -HF_ESEQUENCE);
	check(g);
	assert_int_equal(send_extent(g, g->volume[0], 2, 0, 1, next), 0);
}

static void
data_beyond_the_frontier_is_refused(void **state)
{
	struct rig *g = *state;

	assert_int_equal(send_extent(g, g->volume[0], 2, 0, 1, 1), -HF_EFRONTIER);
	assert_int_equal(send_extent(g, g->volume[0], 4, 1, 1, 1), -HF_EFRONTIER);
	assert_int_equal(send_extent(g, g->volume[0], 4, 0, 1, 1), 0);
}

/* A frame of zeros, or of one block of ones. */
static int
begin_block(struct rig *g, uint32_t kind, uint64_t block, uint64_t sequence, void **ret_payload)
{
	struct store_extent x = {.block = block, .count = 1, .volume = g->volume[0], .kind = kind};
	unsigned char ones[BLOCK_BYTES];
	uint64_t digest;

	memset(ones, 1, sizeof ones);
	digest = digest_block(store_digest_seed(g->store), ones);
	return store_frame_begin(g->store, sequence, sequence * 7, &x, 1, &digest, 1, ret_payload);
}

static void
drain(struct rig *g)
{
	do {
		store_flush(g->store);
		rig_run_jobs(g, 10);
		disk_submit(g->disk);
	} while (disk_drain(g->disk) > 0);
}

static void
a_frame_that_is_aborted_leaves_nothing_to_the_next(void **state)
{
	struct rig *g = *state;
	void *payload;
	size_t bad;

	assert_int_equal(send_extent(g, g->volume[0], 4, 0, 1, 1), 0); /* begun and aborted: a fill */
	assert_int_equal(begin_block(g, 3, 0, 1, &payload), 0);
	memset(payload, 1, BLOCK_BYTES);
	assert_int_equal(store_frame_end(g->store, &bad), 0);
	drain(g);
	assert_int_equal(g->acked, 1);
	assert_int_equal(begin_block(g, 3, 1, 2, &payload), 0);
	memset(payload, 2, BLOCK_BYTES);
	assert_int_equal(store_frame_end(g->store, &bad), -HF_EDIGEST); /* refused: a fill again */
	assert_int_equal(begin_block(g, 1, 0, 2, &payload), 0);
	memset(payload, 1, BLOCK_BYTES);
	assert_int_equal(store_frame_end(g->store, &bad), 0);
	drain(g);
	assert_int_equal(g->acked, 2);
}

static unsigned
count_free_slabs(struct slabs *p)
{
	struct slab *slab = slab_get(p);
	unsigned count = slab == NULL ? 0 : 1 + count_free_slabs(p);

	if (slab != NULL)
		slab_put(p, slab);
	return count;
}

static void
a_frame_that_is_aborted_gives_its_slab_back(void **state)
{
	struct rig *g = *state;
	unsigned before;

	fill(g);
	before = count_free_slabs(g->slabs);
	assert_int_equal(send_extent(g, g->volume[0], 2, 0, 1, g->sent + 1), 0);
	assert_int_equal(count_free_slabs(g->slabs), before);
}

static void
a_frame_aborted_on_the_old_stream_does_not_name_the_new_one(void **state)
{
	struct rig *g = *state;
	uint64_t stream, sequence, chain;

	fill(g);
	assert_int_equal(send_extent(g, g->volume[0], 2, 0, 1, g->sent + 1), 0);
	assert_int_equal(store_stream_start(g->store, 4711, false), 0);
	g->acked = 0;
	assert_int_equal(store_checkpoint(g->store, 1, 99, &(struct checkpoint){.consistency = CHECKPOINT_FUZZY}), 0);
	drain(g);
	assert_int_equal(g->acked, 1);
	store_get_stream(g->store, &stream, &sequence, &chain);
	assert_int_equal(stream, 4711);
	assert_int_equal(sequence, 1);
}

static void
a_checkpoint_that_makes_no_sense_is_refused(void **state)
{
	struct rig *g = *state;
	struct checkpoint c = {.consistency = 0};

	assert_int_equal(store_checkpoint(g->store, 1, 1, &c), -HF_EPROTOCOL);
	c.consistency = 5;
	assert_int_equal(store_checkpoint(g->store, 1, 1, &c), -HF_EPROTOCOL);
}

static void
a_stream_that_is_not_the_newest_cannot_be_resumed(void **state)
{
	struct rig *g = *state;

	fill(g);
	assert_int_equal(store_stream_start(g->store, 12345, true), -HF_ESTREAM);
	assert_int_equal(store_stream_start(g->store, g->stream_id, false), -HF_ESTREAM);
	assert_int_equal(store_stream_start(g->store, 0, false), -HF_ESTREAM);
	assert_int_equal(store_stream_start(g->store, g->stream_id, true), 0);
}

/* ---- disks that fail ---- */

static uint64_t
count_io_errors(const struct rig *g)
{
	struct store_stats t;

	store_get_stats(g->store, &t);
	return t.io_errors;
}

static void
one_failed_sync_costs_a_segment_and_nothing_else(void **state)
{
	struct rig *g = *state;

	fill(g);
	disk_sim_fail(g->disk, 's', 1, false, SIM_FAULT_EIO);
	steps(g, STEPS);
	rig_settle(g);
	assert_false(g->failed);
	assert_int_equal(count_io_errors(g), 1);
	check(g);
	power_cut(g); /* what was called durable after the failure really is */
}

static void
one_failed_write_costs_a_segment_and_nothing_else(void **state)
{
	struct rig *g = *state;

	fill(g);
	disk_sim_fail(g->disk, 'w', 1, false, SIM_FAULT_EIO);
	steps(g, STEPS);
	rig_settle(g);
	assert_false(g->failed);
	assert_int_equal(count_io_errors(g), 1);
	check(g);
	power_cut(g);
}

static void
syncs_that_keep_failing_stop_all_acknowledgements(void **state)
{
	struct rig *g = *state;
	uint64_t acked;

	fill(g);
	acked = g->acked;
	disk_sim_fail(g->disk, 's', 1, true, SIM_FAULT_EIO);
	for (unsigned i = 0; i < SETTLED_STEPS && !g->failed; i++)
		rig_step(g);
	rig_settle(g);
	assert_true(g->failed);
	assert_int_equal(g->acked, acked);
	disk_sim_fail(g->disk, 's', 1, true, SIM_FAULT_NONE);
	g->fault[0] = '\0';
	power_cut(g);
}

static void
a_failed_sync_of_a_staging_file_stops_the_fill(void **state)
{
	struct rig *g = *state;

	disk_sim_fail(g->disk, 's', 1, true, SIM_FAULT_EIO);
	for (unsigned i = 0; i < SETTLED_STEPS && !g->failed; i++)
		rig_step(g);
	rig_settle(g);
	assert_true(g->failed);
	assert_int_equal(g->acked, 0);
}

static void
a_write_that_ends_short_costs_a_segment_and_nothing_else(void **state)
{
	struct rig *g = *state;

	fill(g);
	disk_sim_fail(g->disk, 'w', 2, false, SIM_FAULT_SHORT);
	disk_sim_fail(g->disk, 'w', 12, false, SIM_FAULT_EAGAIN);
	steps(g, STEPS);
	rig_settle(g);
	assert_false(g->failed);
	check(g);
	power_cut(g);
}

/* ---- space ---- */

static void
a_full_disk_stalls_and_goes_on_by_itself(void **state)
{
	struct rig *g = *state;
	struct store_stats t;
	uint64_t acked;

	disk_sim_set_capacity(g->disk, 400 * 1024);
	for (unsigned i = 0; i < SETTLED_STEPS; i++) {
		store_get_stats(g->store, &t);
		if (t.full)
			break;
		rig_step(g);
		if (g->fault[0] != '\0')
			break;
	}
	assert_true(t.full);
	assert_false(g->failed);
	acked = g->acked;
	disk_sim_set_capacity(g->disk, 0);
	while (g->acked < g->sent) {
		store_tick(g->store);
		store_flush(g->store);
		rig_run_jobs(g, 1);
		disk_submit(g->disk);
		(void)disk_drain(g->disk);
	}
	assert_true(g->acked >= acked);
	check(g);
}

/* Every slab is held by others before this store's first frame. */
static void
a_first_frame_waits_for_a_slab(void **state)
{
	struct rig *g = *state;
	struct slab *held[16], *s;
	size_t n = 0;

	while ((s = slab_get(g->slabs)) != NULL)
		held[n++] = s;
	assert_int_equal(send_extent(g, g->volume[0], 4, 0, 1, 1), -EAGAIN);
	while (n > 0)
		slab_put(g->slabs, held[--n]);
	assert_int_equal(send_extent(g, g->volume[0], 4, 0, 1, 1), 0);
}

/* ---- points ---- */

static struct pit
newest_pit(struct rig *g)
{
	struct pit *pits, p;
	size_t count;

	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	assert_true(count > 0);
	p = pits[count - 1];
	free(pits);
	return p;
}

/* A frame made here, so that the model knows it. */
static struct rig_frame *
next_frame(struct rig *g, enum rig_frame_kind kind)
{
	struct rig_frame *f = &g->frames[++g->sent];

	*f = (struct rig_frame){.kind = kind, .chain = g->sent * 1000 + 7};
	g->states[g->sent] = g->states[g->sent - 1];
	return f;
}

static void
checkpoint_of(struct rig *g, int64_t clock_ns, int64_t clock_offset_ns)
{
	struct checkpoint c = {.clock_ns = clock_ns,
	    .clock_offset_ns = clock_offset_ns,
	    .received_ns = g->now_ns,
	    .consistency = CHECKPOINT_CRASH};
	struct rig_frame *f = next_frame(g, RIG_CHECKPOINT);

	f->clock_ns = clock_ns;
	assert_int_equal(store_checkpoint(g->store, g->sent, f->chain, &c), 0);
	rig_settle(g);
	assert_int_equal(g->acked, g->sent);
}

static void
checkpoint_at(struct rig *g, int64_t clock_ns)
{
	checkpoint_of(g, clock_ns, 0);
}

static void
zero_block(struct rig *g, uint64_t block)
{
	struct rig_frame *f = next_frame(g, RIG_DATA);
	void *payload;
	size_t bad;

	f->extents[f->extent_count++] =
	    (struct store_extent){.block = block, .count = 1, .volume = g->volume[0], .kind = 2};
	g->states[g->sent].tags[0][block] = 0;
	assert_int_equal(store_frame_begin(g->store, g->sent, f->chain, f->extents, 1, NULL, 0, &payload), 0);
	assert_int_equal(store_frame_end(g->store, &bad), 0);
	drain(g);
	assert_int_equal(g->acked, g->sent);
}

static bool
is_listed(struct rig *g, uint64_t lsn, bool *ret_kept)
{
	struct pit *pits;
	size_t count;
	bool found = false;

	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	for (size_t i = 0; i < count; i++)
		if (pits[i].lsn == lsn) {
			found = true;
			*ret_kept = pits[i].kept;
		}
	free(pits);
	return found;
}

/* Step until there is a complete point. */
static struct pit
complete_pit(struct rig *g)
{
	fill(g);
	while (store_newest_consistent(g->store) == NULL) {
		rig_step(g);
		rig_settle(g);
	}
	return newest_pit(g);
}

static void
a_point_kept_by_hand_has_its_name_after_a_restart(void **state)
{
	struct rig *g = *state;
	struct pit p = complete_pit(g), again;

	assert_int_equal(run(g, store_pit_keep(g->store, p.lsn, "before-upgrade", false)), 0);
	power_cut(g);
	again = newest_pit(g);
	assert_string_equal(again.id.text, p.id.text);
	assert_string_equal(again.name, "before-upgrade");
	assert_true(again.kept && again.by_hand);
}

/* The same LSN is given again; the agent, which knows better, has begun a new stream. */
static void
a_point_made_after_the_directory_went_back_has_an_id_of_its_own(void **state)
{
	struct rig *g = *state, *old = calloc(1, sizeof *old);
	struct pit lost, made;

	fill(g);
	assert_non_null(old);
	rig_fork(old, g);
	checkpoint_at(g, g->now_ns);
	lost = newest_pit(g);
	assert_int_equal(rig_open(old), 0);
	assert_true(rig_begin_anew(old));
	do {
		rig_frame_begin(old);
		rig_frame_end(old);
		rig_settle(old);
		made = newest_pit(old);
	} while (made.lsn < lost.lsn);
	assert_int_equal(made.lsn, lost.lsn);
	assert_string_not_equal(made.id.text, lost.id.text);
	rig_stop(old);
	free(old);
}

static void
set_policy(struct rig *g, size_t rule_count, int64_t window_ns)
{
	struct policy p = {.rule_count = rule_count, .journal_window_ns = window_ns};

	p.rules[0] = (struct pit_rule){.rule_id = 1, .unit = "MINUTE", .interval = 1, .retention = 60, .enabled = true};
	assert_int_equal(run(g, store_set_policy(g->store, &p)), 0);
}

/* A checkpoint of now, kept by hand. */
static struct pit
keep_now(struct rig *g, enum checkpoint_consistency consistency)
{
	struct checkpoint c = {.consistency = consistency};
	struct rig_frame *f = next_frame(g, RIG_CHECKPOINT);

	g->now_ns += NS_PER_SECOND;
	f->clock_ns = c.clock_ns = c.received_ns = g->now_ns;
	assert_int_equal(store_checkpoint(g->store, g->sent, f->chain, &c), 0);
	rig_settle(g);
	assert_int_equal(run(g, store_pit_keep(g->store, store_newest_checkpoint(g->store)->lsn, "", false)), 0);
	return newest_pit(g);
}

static void
a_held_point_is_not_deleted_until_it_is_released(void **state)
{
	struct rig *g = *state;
	struct pit p = complete_pit(g);

	assert_int_equal(run(g, store_pit_change(g->store, &p.id, STORE_PIT_HOLD)), 0);
	(void)keep_now(g, CHECKPOINT_CRASH); /* it is not the only one: nothing but the hold keeps it */
	assert_int_equal(run(g, store_pit_change(g->store, &p.id, STORE_PIT_DELETE)), -EBUSY);
	assert_int_equal(run(g, store_pit_change(g->store, &p.id, STORE_PIT_RELEASE)), 0);
	assert_int_equal(run(g, store_pit_change(g->store, &p.id, STORE_PIT_DELETE)), 0);
}

static void
a_point_of_the_window_alone_is_neither_deleted_nor_unknown(void **state)
{
	struct rig *g = *state;
	struct pit p = complete_pit(g);

	assert_false(p.kept);
	assert_int_equal(run(g, store_pit_change(g->store, &p.id, STORE_PIT_DELETE)), -EBUSY);
	assert_int_equal(run(g, store_pit_change(g->store, &p.id, STORE_PIT_HOLD)), 0);
}

static void
the_only_complete_point_is_not_deleted(void **state)
{
	struct rig *g = *state;
	struct pit p = complete_pit(g);

	assert_int_equal(run(g, store_pit_keep(g->store, p.lsn, "", false)), 0);
	assert_int_equal(run(g, store_pit_change(g->store, &p.id, STORE_PIT_DELETE)), -EBUSY);
}

static void
a_fuzzy_point_does_not_stand_in_for_one_to_recover_from(void **state)
{
	struct rig *g = *state;
	struct pit p, fuzzy;

	complete_pit(g);
	p = keep_now(g, CHECKPOINT_CRASH);
	fuzzy = keep_now(g, CHECKPOINT_FUZZY);
	assert_int_equal(fuzzy.consistency, CHECKPOINT_FUZZY);
	assert_string_equal(store_newest_kept(g->store, false)->id.text, p.id.text);
	assert_int_equal(run(g, store_pit_change(g->store, &p.id, STORE_PIT_DELETE)), -EBUSY);
	assert_int_equal(run(g, store_pit_change(g->store, &fuzzy.id, STORE_PIT_DELETE)), 0);
}

/* One row for a checkpoint, whoever keeps it. */
static void
a_point_that_a_rule_keeps_too_stays_named_and_held(void **state)
{
	struct rig *g = *state;
	struct pit p = complete_pit(g);

	assert_int_equal(run(g, store_pit_keep(g->store, p.lsn, "before-upgrade", true)), 0);
	set_policy(g, 1, NS_PER_SECOND);
	rig_run_jobs(g, 100);
	p = newest_pit(g);
	assert_true(p.rules != 0);
	assert_true(p.held && p.by_hand);
	assert_string_equal(p.name, "before-upgrade");
	assert_int_equal(run(g, store_pit_keep(g->store, p.lsn, "again", false)), 0);
	p = newest_pit(g);
	assert_true(p.rules != 0 && p.held);
	assert_string_equal(p.name, "again");
}

static void
a_kept_point_that_was_read_back_is_verified_after_a_restart_until_that_fails(void **state)
{
	struct rig *g = *state;
	struct pit p = complete_pit(g);

	assert_int_equal(run(g, store_pit_keep(g->store, p.lsn, "", false)), 0);
	assert_string_equal(store_newest_kept(g->store, false)->id.text, p.id.text);
	assert_null(store_newest_kept(g->store, true));
	assert_int_equal(run(g, store_pit_change(g->store, &p.id, STORE_PIT_VERIFIED)), 0);
	assert_true(newest_pit(g).verified_ns != 0);
	power_cut(g);
	assert_true(newest_pit(g).verified_ns != 0 && newest_pit(g).kept);
	assert_string_equal(store_newest_kept(g->store, true)->id.text, p.id.text);
	assert_int_equal(run(g, store_pit_change(g->store, &p.id, STORE_PIT_UNVERIFIED)), 0);
	assert_int_equal(newest_pit(g).verified_ns, 0);
	assert_null(store_newest_kept(g->store, true));
}

static void
the_last_kept_point_is_gone_when_it_is_deleted(void **state)
{
	struct rig *g = *state;
	const struct checkpoint *c;
	struct pit p;
	bool kept;

	checkpoint_at(g, g->now_ns); /* nothing is filled: it is not complete, so it may go */
	c = store_newest_checkpoint(g->store);
	p.id = checkpoint_pit_id(store_source(g->store), c->lsn, c->stream_id);
	assert_int_equal(run(g, store_pit_keep(g->store, c->lsn, "early", false)), 0);
	assert_true(is_listed(g, c->lsn, &kept) && kept);
	assert_int_equal(run(g, store_pit_change(g->store, &p.id, STORE_PIT_DELETE)), 0);
	assert_true(is_listed(g, c->lsn, &kept) && !kept); /* the journal window still has it */
}

/* No row keeps it, only the journal window does, and its record is the last of a segment. */
static void
the_point_a_fold_goes_to_is_still_a_point_after_a_restart(void **state)
{
	struct rig *g = *state;
	uint64_t lsn;
	bool kept;

	fill(g);
	power_cut(g); /* seals a segment that can go */
	set_policy(g, 0, NS_PER_SECOND);
	g->now_ns += 100 * NS_PER_SECOND;
	checkpoint_at(g, g->now_ns);
	lsn = store_newest_checkpoint(g->store)->lsn;
	power_cut(g); /* seals the one that ends with the checkpoint */
	set_policy(g, 0, NS_PER_SECOND);
	g->folds = 0;
	zero_block(g, 0);
	rig_run_jobs(g, 100);
	assert_true(g->folds > 0);
	assert_true(is_listed(g, lsn, &kept) && !kept);
	power_cut(g);
	set_policy(g, 0, NS_PER_SECOND);
	assert_true(is_listed(g, lsn, &kept) && !kept);
	assert_int_equal(store_newest_consistent(g->store)->lsn, lsn);
}

static size_t
count_pits(struct rig *g)
{
	struct pit *pits;
	size_t count;

	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	free(pits);
	return count;
}

static void
a_clock_far_ahead_expires_nothing(void **state)
{
	static const int64_t year_ns = 365ll * 86400 * NS_PER_SECOND;
	struct rig *g = *state;
	size_t before;

	complete_pit(g);
	set_policy(g, 1, 60 * NS_PER_SECOND);
	for (unsigned i = 0; i < 5; i++) {
		g->now_ns += 61 * NS_PER_SECOND;
		checkpoint_at(g, g->now_ns);
		rig_run_jobs(g, 100);
	}
	before = count_pits(g);
	checkpoint_at(g, g->now_ns + 10 * year_ns);
	rig_run_jobs(g, 100);
	assert_true(count_pits(g) >= before);
	store_extend_checkpoint(g->store, g->now_ns + 20 * year_ns);
	rig_run_jobs(g, 100);
	assert_true(count_pits(g) >= before);
}

/* Data of one block, and a checkpoint. */
static void
write_block(struct rig *g, uint64_t block)
{
	rig_frame_begin(g);
	rig_frame_extent(g, 0, block, 1, false, false);
	rig_frame_end(g);
	rig_frame_begin(g);
	rig_frame_end(g);
	rig_settle(g);
	assert_int_equal(g->acked, g->sent);
	rig_run_jobs(g, 100);
}

/* The catalog's n-th sync from now on fails, and all after it; when it is well again, is what it lists there? Returns
 * the merges made meanwhile. */
static unsigned
keep_with_failing_syncs(const struct rig *base, uint64_t nth)
{
	struct policy p = {
	    .rules = {{1, "MINUTE", 2, 2, true}, {2, "MINUTE", 4, 600, true}},
	    .rule_count = 2,
	}; /* most runs of it keep one point, which stays, and let another go */
	struct rig *g = calloc(1, sizeof *g);
	unsigned merges;

	assert_non_null(g);
	rig_fork(g, base);
	assert_int_equal(rig_open(g), 0);
	assert_int_equal(run(g, store_set_policy(g->store, &p)), 0);
	disk_sim_confine_faults(g->disk, "catalog");
	disk_sim_fail(g->disk, 's', nth, true, SIM_FAULT_EIO);
	for (uint64_t i = 0; i < 80; i++)
		write_block(g, i % 3);
	assert_true(disk_sim_struck(g->disk) > 0);
	merges = g->merges;
	disk_sim_fail(g->disk, 's', 1, false, SIM_FAULT_NONE);
	store_tick(g->store);
	rig_run_jobs(g, 100);
	check(g);
	power_cut(g);
	rig_stop(g);
	free(g);
	return merges;
}

/* A row may be in the catalog though the job that put it there has failed. */
static void
what_a_point_sees_is_not_merged_away_when_keeping_it_failed_half_way(void **state)
{
	struct rig *g = *state;
	unsigned merges = 0;

	complete_pit(g);
	for (uint64_t nth = 1; nth <= 30; nth++)
		merges += keep_with_failing_syncs(g, nth);
	assert_true(merges > 0);
}

/* ---- retention ---- */

/* A checkpoint of every minute; returns how many points there are. */
static size_t
run_minutes(struct rig *g, unsigned minutes)
{
	for (unsigned i = 0; i < minutes; i++) {
		g->now_ns += 60 * NS_PER_SECOND;
		checkpoint_at(g, g->now_ns);
		store_tick(g->store);
		rig_run_jobs(g, 100);
	}
	return count_pits(g);
}

static size_t
count_kept(struct rig *g)
{
	struct pit *pits;
	size_t count, kept = 0;

	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	for (size_t i = 0; i < count; i++)
		kept += pits[i].kept;
	free(pits);
	return kept;
}

/* A point of every minute for twenty, and every checkpoint of the last two. */
static void
keep_minutes(struct rig *g)
{
	struct policy p = {
	    .rules = {{1, "MINUTE", 1, 20, true}}, .rule_count = 1, .journal_window_ns = 120 * NS_PER_SECOND};

	assert_int_equal(run(g, store_set_policy(g->store, &p)), 0);
}

static void
begin_history(struct rig *g)
{
	complete_pit(g);
	keep_minutes(g);
	(void)run_minutes(g, 30);
	assert_in_range(count_kept(g), 21, 22);
}

/* Both disks, and a third that the agent cannot read. */
static void
declare_unreadable(struct rig *g)
{
	struct store_declaration d[3] = {0};

	for (unsigned i = 0; i < 3; i++) {
		snprintf(d[i].name, sizeof d[i].name, "disk%u", i);
		snprintf(d[i].identity, sizeof d[i].identity, "serial:%u", i);
		d[i].size_bytes = i < 2 ? g->bytes[i] : BLOCK_BYTES;
		d[i].ok = i < 2;
	}
	assert_int_equal(run(g, store_declare(g->store, d, 3)), 0);
}

static void
a_dead_source_keeps_its_history_when_it_comes_back(void **state)
{
	struct rig *g = *state;
	size_t points, kept;

	begin_history(g);
	points = count_pits(g);
	kept = count_kept(g);
	store_stream_stop(g->store);
	g->now_ns += 90 * 86400ll * NS_PER_SECOND;
	assert_int_equal(store_stream_start(g->store, g->stream_id, true), 0);
	checkpoint_at(g, g->now_ns);
	rig_run_jobs(g, 100);
	assert_int_equal(count_pits(g), points + 1); /* nothing is older than before */
	assert_int_equal(count_kept(g), kept + 1);
	(void)run_minutes(g, 30);
	assert_in_range(count_kept(g), 21, 23);
}

static void
a_daemon_that_was_off_keeps_the_history(void **state)
{
	struct rig *g = *state;
	size_t points, kept;

	begin_history(g);
	points = count_pits(g);
	kept = count_kept(g);
	rig_close(g);
	g->now_ns += 90 * 86400ll * NS_PER_SECOND;
	assert_int_equal(rig_open(g), 0);
	keep_minutes(g);
	assert_int_equal(count_pits(g), points);
	assert_int_equal(run_minutes(g, 1), points); /* one more, and one grew too old */
	assert_in_range(count_kept(g), kept, kept + 1);
}

/* A fuzzy one is no older than it was, though nothing to recover from came for a while before it. */
static void
a_fuzzy_checkpoint_of_the_window_is_in_it_after_a_restart(void **state)
{
	struct checkpoint fuzzy = {.consistency = CHECKPOINT_FUZZY};
	struct rig *g = *state;
	uint64_t lsn;
	bool kept;

	complete_pit(g);
	set_policy(g, 0, 120 * NS_PER_SECOND);
	checkpoint_at(g, g->now_ns);
	g->now_ns += 300 * NS_PER_SECOND;
	fuzzy.clock_ns = fuzzy.received_ns = next_frame(g, RIG_CHECKPOINT)->clock_ns = g->now_ns;
	assert_int_equal(store_checkpoint(g->store, g->sent, g->frames[g->sent].chain, &fuzzy), 0);
	rig_settle(g);
	lsn = store_newest_checkpoint(g->store)->lsn;
	g->now_ns += 60 * NS_PER_SECOND;
	checkpoint_at(g, g->now_ns);
	assert_true(is_listed(g, lsn, &kept));
	power_cut(g);
	set_policy(g, 0, 120 * NS_PER_SECOND);
	assert_true(is_listed(g, lsn, &kept));
}

static void
what_is_frozen_neither_expires_nor_is_folded_until_it_is_thawed(void **state)
{
	struct rig *g = *state;
	size_t points;

	begin_history(g);
	points = count_pits(g);
	assert_int_equal(run(g, store_set_frozen(g->store, true)), 0);
	g->folds = 0;
	assert_in_range(run_minutes(g, 30), points + 30, points + 31); /* the window is open behind */
	power_cut(g);
	keep_minutes(g);
	assert_true(store_retention(g->store)->frozen_ns != 0);
	assert_true(run_minutes(g, 30) >= points + 60);
	assert_int_equal(g->folds, 0);
	assert_int_equal(run(g, store_set_frozen(g->store, false)), 0);
	assert_in_range(run_minutes(g, 20), 21, 24);
	assert_true(g->folds > 0);
	check(g);
}

static void
freezing_stops_at_once_and_a_thaw_only_when_it_is_durable(void **state)
{
	struct rig *g = *state;
	struct store_job *job = store_set_frozen(g->store, true);

	assert_true(retention_stopped(store_retention(g->store)));
	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, false);
	job = store_set_frozen(g->store, false);
	store_job_run(job, g->disk, g->cache);
	assert_true(retention_stopped(store_retention(g->store)));
	store_job_finish(g->store, job, false);
	assert_false(retention_stopped(store_retention(g->store)));
}

static void
a_thaw_that_cannot_be_written_is_none(void **state)
{
	struct rig *g = *state;

	assert_int_equal(run(g, store_set_frozen(g->store, true)), 0);
	disk_sim_confine_faults(g->disk, "catalog.db");
	disk_sim_fail(g->disk, '*', 1, true, SIM_FAULT_EIO);
	assert_true(run(g, store_set_frozen(g->store, false)) < 0);
	disk_sim_fail(g->disk, '*', 1, true, SIM_FAULT_NONE);
	disk_sim_confine_faults(g->disk, NULL);
	assert_true(retention_stopped(store_retention(g->store)));
	power_cut(g);
	assert_true(retention_stopped(store_retention(g->store)));
}

static void
clocks_that_disagree_expire_nothing_until_a_thaw(void **state)
{
	struct rig *g = *state;
	size_t points;

	begin_history(g);
	points = count_pits(g);
	g->clock_ahead_ns = 86400 * NS_PER_SECOND;
	g->folds = 0;
	store_tick(g->store);
	assert_in_range(run_minutes(g, 30), points + 30, points + 31);
	assert_int_equal(g->folds, 0);
	assert_true(retention_drifted(store_retention(g->store)));
	assert_int_equal(run(g, store_set_frozen(g->store, false)), 0);
	assert_in_range(run_minutes(g, 20), 21, 24);
	g->clock_ahead_ns = 0;
}

/* The machine came up with a clock of long ago. */
static void
a_clock_older_than_the_newest_point_expires_nothing(void **state)
{
	struct rig *g = *state;

	begin_history(g);
	rig_close(g);
	g->clock_ahead_ns = -86400 * NS_PER_SECOND;
	assert_int_equal(rig_open(g), 0);
	assert_true(retention_drifted(store_retention(g->store)));
	g->clock_ahead_ns = 0;
	store_tick(g->store);
	assert_false(retention_drifted(store_retention(g->store)));
}

static void
minimum_retention_guards_points_from_rules_and_hands(void **state)
{
	struct policy p = {.journal_window_ns = NS_PER_SECOND, .min_retention_ns = 3600 * NS_PER_SECOND};
	struct rig *g = *state;
	struct pit old;

	complete_pit(g);
	set_policy(g, 1, NS_PER_SECOND);
	(void)run_minutes(g, 10);
	old = newest_pit(g);
	assert_true(old.kept);
	(void)run_minutes(g, 10);
	assert_int_equal(run(g, store_set_policy(g->store, &p)), 0);
	assert_int_equal(run(g, store_pit_change(g->store, &old.id, STORE_PIT_DELETE)), -EBUSY);
	p.min_retention_ns = 0;
	assert_int_equal(run(g, store_set_policy(g->store, &p)), 0);               /* it does not lower what is there */
	assert_int_equal(run(g, store_pit_keep(g->store, old.lsn, "", false)), 0); /* nor does keeping it once more */
	power_cut(g);
	assert_int_equal(run(g, store_set_policy(g->store, &p)), 0);
	assert_int_equal(run(g, store_pit_change(g->store, &old.id, STORE_PIT_DELETE)), -EBUSY);
	assert_in_range(run_minutes(g, 30), 20, 23);
	assert_in_range(run_minutes(g, 31), 1, 3);
}

static void
another_policy_takes_over_the_points_there_are(void **state)
{
	struct policy p = {
	    .rules = {{7, "MINUTE", 10, 150, true}}, .rule_count = 1, .journal_window_ns = NS_PER_SECOND};
	struct rig *g = *state;

	begin_history(g);
	assert_int_equal(run(g, store_set_policy(g->store, &p)), 0);
	rig_run_jobs(g, 100);
	assert_in_range(count_kept(g), 2, 4);
	(void)run_minutes(g, 200);
	assert_in_range(count_kept(g), 15, 17);
}

static void
a_run_of_the_policy_lets_go_a_few_points_and_the_next_the_rest(void **state)
{
	struct policy none = {.journal_window_ns = NS_PER_SECOND};
	struct rig *g = *state;

	begin_history(g);
	assert_int_equal(run(g, store_set_policy(g->store, &none)), 0);
	for (size_t before = count_kept(g); before > 1; before = count_kept(g)) {
		rig_run_jobs(g, 1);
		assert_true(before - count_kept(g) <= 16);
	}
	assert_int_equal(store_newest_kept(g->store, false)->lsn, newest_pit(g).lsn);
}

static void
an_incomplete_point_is_said_to_be_and_never_displaces_a_complete_one(void **state)
{
	struct rig *g = *state;
	struct pit complete = complete_pit(g), incomplete;

	assert_int_equal(run(g, store_pit_keep(g->store, complete.lsn, "", false)), 0);
	set_policy(g, 0, NS_PER_SECOND);
	declare_unreadable(g);
	g->now_ns += 10 * 86400ll * NS_PER_SECOND;
	checkpoint_at(g, g->now_ns);
	incomplete = newest_pit(g);
	assert_false(incomplete.complete);
	assert_int_equal(run(g, store_pit_keep(g->store, incomplete.lsn, "half", false)), 0);
	rig_run_jobs(g, 100);
	assert_int_equal(store_newest_consistent(g->store)->lsn, complete.lsn);
	assert_int_equal(run(g, store_pit_change(g->store, &complete.id, STORE_PIT_DELETE)), -EBUSY);
	assert_int_equal(run(g, store_pit_change(g->store, &incomplete.id, STORE_PIT_DELETE)), 0);
}

/* Steps until the next job is of that name; the caller runs it. */
static struct store_job *
wait_for_job(struct rig *g, const char *name)
{
	for (unsigned i = 0; i < 100; i++) {
		struct store_job *job = store_job_next(g->store);

		if (job == NULL) {
			g->now_ns += 30 * NS_PER_SECOND;
			checkpoint_at(g, g->now_ns);
			continue;
		}
		if (strcmp(store_job_name(job), name) == 0)
			return job;
		store_job_run(job, g->disk, g->cache);
		store_job_finish(g->store, job, false);
	}
	fail_msg("no job \"%s\" came", name);
	return NULL;
}

static void
a_fold_that_fails_does_not_hold_up_the_journal(void **state)
{
	struct rig *g = *state;
	struct store_job *job;

	fill(g);
	set_policy(g, 0, NS_PER_SECOND);
	job = wait_for_job(g, "fold");
	disk_sim_fail(g->disk, '*', 1, true, SIM_FAULT_EIO);
	store_job_run(job, g->disk, g->cache);
	disk_sim_fail(g->disk, '*', 1, true, SIM_FAULT_NONE);
	assert_true(store_job_status(job, NULL) < 0);
	store_job_finish(g->store, job, false);
	for (unsigned i = 0; i < 100; i++) /* more than one segment of them */
		zero_block(g, 0);
	check(g);
}

static void
a_change_that_was_never_run_is_forgotten(void **state)
{
	struct rig *g = *state;
	struct pit p = complete_pit(g);

	store_job_destroy(store_pit_keep(g->store, p.lsn, "never", false));
	for (unsigned i = 0; i < SETTLED_STEPS; i++)
		rig_step(g);
	rig_settle(g);
	rig_run_jobs(g, 100);
	assert_true(g->folds > 0);
	check(g);
}

static void
a_flood_of_checkpoints_is_spread_over_segments(void **state)
{
	struct rig *g = *state;
	struct store_stats t;
	struct checkpoint c = {.consistency = CHECKPOINT_FUZZY};

	for (uint64_t i = 1; i <= 10000; i++) {
		while (store_checkpoint(g->store, i, i, &c) == -EAGAIN)
			drain(g);
		if (i % 100 == 0)
			drain(g);
	}
	drain(g);
	assert_int_equal(g->acked, 10000);
	store_get_stats(g->store, &t);
	assert_true(t.segment_count > 2);
}

static void
an_unknown_point_is_not_found(void **state)
{
	struct rig *g = *state;
	struct id id = id_random("pit");

	assert_int_equal(run(g, store_pit_change(g->store, &id, STORE_PIT_DELETE)), -HF_ENOPIT);
	assert_int_equal(run(g, store_pit_change(g->store, &id, STORE_PIT_VERIFIED)), -HF_ENOPIT);
	assert_int_equal(run(g, store_pit_keep(g->store, 999999, "x", false)), -HF_ENOPIT);
}

static void
no_fold_passes_a_view(void **state)
{
	struct rig *g = *state;
	struct pit p = complete_pit(g);
	struct store_stats t;
	struct view *v;

	assert_int_equal(store_view(g->store, p.lsn, &v), 0);
	for (unsigned i = 0; i < SETTLED_STEPS; i++)
		rig_step(g);
	rig_settle(g);
	rig_run_jobs(g, 100);
	store_get_stats(g->store, &t);
	assert_true(t.base_lsn <= p.lsn);
	store_view_release(g->store, v);
	for (unsigned i = 0; i < SETTLED_STEPS / 2 && t.base_lsn <= p.lsn; i++) {
		rig_step(g);
		rig_settle(g);
		rig_run_jobs(g, 100);
		store_get_stats(g->store, &t);
	}
	assert_true(g->folds > 0 && t.base_lsn > p.lsn);
	assert_int_equal(store_view(g->store, p.lsn, &v), -HF_ENOPIT);
	check(g);
}

static void
an_unchanged_checkpoint_is_extended_until_something_is_written(void **state)
{
	struct rig *g = *state;
	struct pit p = complete_pit(g);
	int64_t until = p.checkpoint.clock_ns + 5 * NS_PER_SECOND;

	g->now_ns += 10 * NS_PER_SECOND;
	store_extend_checkpoint(g->store, until);
	assert_int_equal(store_newest_consistent(g->store)->unchanged_until_ns, until);
	while (g->frames[g->sent].kind == RIG_CHECKPOINT)
		rig_step(g);
	rig_settle(g);
	store_extend_checkpoint(g->store, until + NS_PER_SECOND);
	assert_int_equal(store_newest_consistent(g->store)->unchanged_until_ns, until);
}

static void
an_unchanged_checkpoint_is_extended_by_our_clock_whatever_the_sources_said(void **state)
{
	struct rig *g = *state;
	int64_t offset = 3600 * NS_PER_SECOND, until;

	complete_pit(g);
	g->now_ns += 1 * NS_PER_SECOND;
	until = g->now_ns + 5 * NS_PER_SECOND;
	checkpoint_of(g, g->now_ns + offset, offset);
	g->now_ns += 10 * NS_PER_SECOND;
	store_extend_checkpoint(g->store, until);
	assert_int_equal(store_newest_consistent(g->store)->unchanged_until_ns, until + offset);
}

/* ---- volumes ---- */

static int
declare_first(struct rig *g, uint64_t size_bytes, uint32_t *ret_volume)
{
	struct store_declaration d = {.name = "disk0", .identity = "serial:0", .size_bytes = size_bytes, .ok = true};
	struct store_job *job = store_declare(g->store, &d, 1);
	char text[256];
	int status;

	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, true);
	assert_int_equal(store_job_status(job, NULL), 0);
	store_declare_result(job, 0, ret_volume, &status, text, sizeof text);
	store_job_destroy(job);
	return status;
}

static void
a_replaced_disk_lives_on_in_the_points_that_have_it(void **state)
{
	struct rig *g = *state;
	struct pit p = complete_pit(g);
	struct store_declaration d = {
	    .name = "disk0", .identity = "serial:new", .size_bytes = 8 * BLOCK_BYTES, .ok = true};
	struct store_volume v[STORE_VOLUMES_MAX];
	struct view *view;

	assert_int_equal(run(g, store_declare(g->store, &d, 1)), 0);
	assert_int_equal(store_list_volumes(g->store, v, STORE_VOLUMES_MAX), 1);
	assert_int_not_equal(v[0].volume, g->volume[0]);
	assert_int_equal(store_list_all_volumes(g->store, v, STORE_VOLUMES_MAX), RIG_VOLUMES + 1);
	assert_int_equal(store_view(g->store, p.lsn, &view), 0);
	assert_non_null(view_find_volume(view, g->volume[0]));
	assert_null(view_find_volume(view, v[RIG_VOLUMES].volume));
	store_view_release(g->store, view);
}

static void
a_shrunk_disk_is_refused_by_identity(void **state)
{
	struct rig *g = *state;
	uint32_t volume;

	fill(g);
	assert_int_equal(declare_first(g, 10 * BLOCK_BYTES, &volume), -HF_EIDENTITY);
}

static void
a_grown_disk_is_filled_from_its_old_end(void **state)
{
	struct rig *g = *state;
	struct store_volume v[STORE_VOLUMES_MAX];
	uint32_t volume;

	fill(g);
	assert_int_equal(declare_first(g, 200 * BLOCK_BYTES, &volume), 0);
	assert_int_equal(volume, g->volume[0]);
	assert_int_equal(store_list_volumes(g->store, v, STORE_VOLUMES_MAX), 1);
	assert_int_equal(v[0].size_bytes, 200 * BLOCK_BYTES);
	assert_int_equal(v[0].frontier_blocks, g->blocks[0]);
	assert_int_equal(send_extent(g, volume, 4, g->blocks[0], 200 - g->blocks[0], g->sent + 1), 0);
}

static void
lately_written_nodes_are_known(void **state)
{
	struct rig *g = *state;
	uint64_t nodes[16];

	fill(g);
	steps(g, STEPS);
	rig_settle(g);
	assert_int_equal(store_recent(g->store, g->volume[0], nodes, 16), 1);
	assert_int_equal(nodes[0], 0);
}

/* ---- offline ---- */

static void
an_offline_store_lists_and_reads_every_point(void **state)
{
	struct rig *g = *state;
	struct pit p = complete_pit(g), *pits;
	unsigned char *buf = buffer_alloc(BLOCK_BYTES);
	struct hf_error err;
	struct store *s;
	struct view *v;
	size_t count;
	char dir[64];

	snprintf(dir, sizeof dir, "/data/sources/%s", store_source(g->store)->text);
	rig_run_jobs(g, 100);
	store_close(g->store, g->disk);
	g->store = NULL;
	assert_int_equal(store_open_offline(g->disk, dir, &s, &err), 0);
	assert_int_equal(store_list_pits(s, &pits, &count), 0);
	assert_string_equal(pits[count - 1].id.text, p.id.text);
	free(pits);
	assert_int_equal(store_view(s, p.lsn, &v), 0);
	assert_int_equal(view_read(v, g->disk, g->cache, g->volume[0], 0, 1, buf, NULL), 0);
	store_view_release(s, v);
	store_close(s, g->disk);
	buffer_free(buf, BLOCK_BYTES);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(frames_that_break_the_rules_are_refused),
	    TEST(data_beyond_the_frontier_is_refused),
	    TEST(a_stream_that_is_not_the_newest_cannot_be_resumed),
	    TEST(a_frame_that_is_aborted_leaves_nothing_to_the_next),
	    TEST(a_frame_that_is_aborted_gives_its_slab_back),
	    TEST(a_frame_aborted_on_the_old_stream_does_not_name_the_new_one),
	    TEST(a_checkpoint_that_makes_no_sense_is_refused),
	    TEST(one_failed_sync_costs_a_segment_and_nothing_else),
	    TEST(one_failed_write_costs_a_segment_and_nothing_else),
	    TEST(syncs_that_keep_failing_stop_all_acknowledgements),
	    TEST(a_failed_sync_of_a_staging_file_stops_the_fill),
	    TEST(a_write_that_ends_short_costs_a_segment_and_nothing_else),
	    TEST(a_full_disk_stalls_and_goes_on_by_itself),
	    TEST(a_first_frame_waits_for_a_slab),
	    TEST(a_point_kept_by_hand_has_its_name_after_a_restart),
	    TEST(a_held_point_is_not_deleted_until_it_is_released),
	    TEST(a_point_of_the_window_alone_is_neither_deleted_nor_unknown),
	    TEST(a_point_made_after_the_directory_went_back_has_an_id_of_its_own),
	    TEST(the_only_complete_point_is_not_deleted),
	    TEST(a_fuzzy_point_does_not_stand_in_for_one_to_recover_from),
	    TEST(a_point_that_a_rule_keeps_too_stays_named_and_held),
	    TEST(a_kept_point_that_was_read_back_is_verified_after_a_restart_until_that_fails),
	    TEST(the_last_kept_point_is_gone_when_it_is_deleted),
	    TEST(the_point_a_fold_goes_to_is_still_a_point_after_a_restart),
	    TEST(a_clock_far_ahead_expires_nothing),
	    TEST(what_a_point_sees_is_not_merged_away_when_keeping_it_failed_half_way),
	    TEST(a_dead_source_keeps_its_history_when_it_comes_back),
	    TEST(a_daemon_that_was_off_keeps_the_history),
	    TEST(a_fuzzy_checkpoint_of_the_window_is_in_it_after_a_restart),
	    TEST(what_is_frozen_neither_expires_nor_is_folded_until_it_is_thawed),
	    TEST(freezing_stops_at_once_and_a_thaw_only_when_it_is_durable),
	    TEST(a_thaw_that_cannot_be_written_is_none),
	    TEST(clocks_that_disagree_expire_nothing_until_a_thaw),
	    TEST(a_clock_older_than_the_newest_point_expires_nothing),
	    TEST(minimum_retention_guards_points_from_rules_and_hands),
	    TEST(another_policy_takes_over_the_points_there_are),
	    TEST(a_run_of_the_policy_lets_go_a_few_points_and_the_next_the_rest),
	    TEST(an_incomplete_point_is_said_to_be_and_never_displaces_a_complete_one),
	    TEST(a_fold_that_fails_does_not_hold_up_the_journal),
	    TEST(a_change_that_was_never_run_is_forgotten),
	    TEST(a_flood_of_checkpoints_is_spread_over_segments),
	    TEST(an_unknown_point_is_not_found),
	    TEST(no_fold_passes_a_view),
	    TEST(an_unchanged_checkpoint_is_extended_until_something_is_written),
	    TEST(an_unchanged_checkpoint_is_extended_by_our_clock_whatever_the_sources_said),
	    TEST(a_replaced_disk_lives_on_in_the_points_that_have_it),
	    TEST(a_shrunk_disk_is_refused_by_identity),
	    TEST(a_grown_disk_is_filled_from_its_old_end),
	    TEST(lately_written_nodes_are_known),
	    TEST(an_offline_store_lists_and_reads_every_point),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
