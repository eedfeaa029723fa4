/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/space.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/store_impl.h"
#include "tests/lib/rig_unit.h"

#define MINUTE_NS (60 * NS_PER_SECOND)

/* ---- levels ---- */

static const uint64_t limits[3] = {1000, 500, 100};

static void
a_level_begins_below_its_limit_and_ends_with_half_as_much_again(void **state)
{
	assert_int_equal(space_judge(1000, limits, SPACE_EASY), SPACE_EASY);
	assert_int_equal(space_judge(999, limits, SPACE_EASY), SPACE_SHORTEN);
	assert_int_equal(space_judge(499, limits, SPACE_EASY), SPACE_THIN);
	assert_int_equal(space_judge(99, limits, SPACE_EASY), SPACE_FULL);
	assert_int_equal(space_judge(-1, limits, SPACE_EASY), SPACE_FULL);
	assert_int_equal(space_judge(149, limits, SPACE_FULL), SPACE_FULL);
	assert_int_equal(space_judge(150, limits, SPACE_FULL), SPACE_THIN);
	assert_int_equal(space_judge(1499, limits, SPACE_SHORTEN), SPACE_SHORTEN);
	assert_int_equal(space_judge(1500, limits, SPACE_FULL), SPACE_EASY);
}

static void
a_quota_leaves_what_is_not_taken_of_it(void **state)
{
	uint64_t room;

	assert_int_equal(space_judge_quota(UINT64_MAX, 0, SPACE_EASY, &room), SPACE_EASY);
	assert_true(room == UINT64_MAX);
	assert_int_equal(space_judge_quota(899, 1000, SPACE_EASY, &room), SPACE_EASY);
	assert_int_equal(room, 101);
	assert_int_equal(space_judge_quota(901, 1000, SPACE_EASY, &room), SPACE_SHORTEN);
	assert_int_equal(space_judge_quota(951, 1000, SPACE_EASY, &room), SPACE_THIN);
	assert_int_equal(space_judge_quota(991, 1000, SPACE_EASY, &room), SPACE_FULL);
	assert_int_equal(space_judge_quota(5000, 1000, SPACE_EASY, &room), SPACE_FULL);
	assert_int_equal(room, 0);
}

static void
the_window_is_halved_to_nothing_but_not_below_min_retention(void **state)
{
	assert_true(space_shorter_window(60 * MINUTE_NS, 0) == 30 * MINUTE_NS);
	assert_true(space_shorter_window(NS_PER_SECOND, 0) == 0);
	assert_true(space_shorter_window(60 * MINUTE_NS, 40 * MINUTE_NS) == 40 * MINUTE_NS);
	assert_true(space_shorter_window(NS_PER_SECOND, 40 * MINUTE_NS) == NS_PER_SECOND);
}

/* ---- a store that is short of room ---- */

/* A point a minute for an hour, every checkpoint for an hour. */
static void
set_policy(struct rig *g, int64_t min_retention_ns)
{
	struct policy p = {.rule_count = 1, .journal_window_ns = 60 * MINUTE_NS, .min_retention_ns = min_retention_ns};

	p.rules[0] = (struct pit_rule){.rule_id = 1, .unit = "MINUTE", .interval = 1, .retention = 60, .enabled = true};
	assert_int_equal(run(g, store_set_policy(g->store, &p)), 0);
}

/* Filled, and a history of some minutes with several checkpoints in each. */
static void
make_history(struct rig *g)
{
	set_policy(g, 0);
	while (g->fault[0] == '\0' && g->sent < RIG_FRAMES_MAX * 3 / 4) {
		rig_step(g);
		if (rig_is_filled(g))
			g->now_ns += NS_PER_SECOND;
		rig_run_jobs(g, 10);
	}
	rig_settle(g);
	rig_run_jobs(g, 100);
	assert_string_equal(g->fault, "");
}

struct counts {
	size_t kept, all;
	uint64_t oldest_kept;
};

static struct counts
count_points(struct rig *g)
{
	struct counts c = {.oldest_kept = 0};
	struct pit *pits;

	assert_int_equal(store_list_pits(g->store, &pits, &c.all), 0);
	for (size_t i = 0; i < c.all; i++) {
		c.kept += pits[i].kept;
		if (pits[i].kept && c.oldest_kept == 0)
			c.oldest_kept = pits[i].lsn;
	}
	free(pits);
	return c;
}

/* What is measured once a second, and the work that follows. */
static void
tell(struct rig *g, enum space_level level, bool thin)
{
	struct space space = {
	    .level = level, .thin = thin, .room_bytes = UINT64_MAX, .measured_ns = clock_monotonic_ns()};

	store_set_space(g->store, &space);
	rig_run_jobs(g, 100);
}

static void
the_window_goes_step_by_step_and_no_kept_point(void **state)
{
	struct rig *g = *state;
	struct counts before, after;
	struct store_stats t;

	make_history(g);
	before = count_points(g);
	assert_true(before.kept > 2 && before.all > before.kept + 4);
	tell(g, SPACE_SHORTEN, true);
	after = count_points(g);
	assert_true(after.all < before.all && after.all > before.kept); /* not all at once */
	for (unsigned i = 0; i < 40; i++)
		tell(g, SPACE_SHORTEN, true);
	after = count_points(g);
	assert_int_equal(after.kept, before.kept);
	assert_true(after.all <= before.kept + 1); /* and the newest */
	store_get_stats(g->store, &t);
	assert_true(t.window_ns < MINUTE_NS);
	assert_int_equal(t.thinned, 0);
	check(g);
	tell(g, SPACE_EASY, true);
	store_get_stats(g->store, &t);
	assert_true(t.window_ns == 60 * MINUTE_NS);
	check(g);
}

static void
send_checkpoints(struct rig *g, unsigned n, enum checkpoint_consistency consistency, int64_t apart_ns)
{
	struct checkpoint c = {.consistency = consistency};

	for (unsigned i = 0; i < n; i++) {
		struct rig_frame *f = &g->frames[++g->sent];

		*f = (struct rig_frame){.kind = RIG_CHECKPOINT, .chain = g->sent * 1000 + 7};
		g->states[g->sent] = g->states[g->sent - 1];
		g->now_ns += apart_ns;
		f->clock_ns = c.clock_ns = c.received_ns = g->now_ns;
		assert_int_equal(store_checkpoint(g->store, g->sent - g->stream_base, f->chain, &c), 0);
		rig_settle(g);
	}
	assert_int_equal(g->acked, g->sent);
}

/* A disk that changes during every pass: checkpoints come, and none of them is one to recover from. */
static void
the_window_goes_too_when_nothing_consistent_comes(void **state)
{
	struct rig *g = *state;
	uint64_t newest;

	make_history(g);
	do {
		send_checkpoints(g, 1, CHECKPOINT_CRASH, NS_PER_SECOND);
		rig_run_jobs(g, 100);
		newest = store_newest_consistent(g->store)->lsn;
	} while (store_newest_kept(g->store, false)->lsn == newest);   /* not one that the policy keeps */
	send_checkpoints(g, 50, CHECKPOINT_FUZZY, 30 * NS_PER_SECOND); /* nearer ones the rig expects to be points */
	assert_true(count_points(g).all > 50);
	for (unsigned i = 0; i < 40; i++)
		tell(g, SPACE_SHORTEN, false);
	assert_true(count_points(g).all <= count_points(g).kept + 1);
	assert_int_equal(store_newest_consistent(g->store)->lsn, newest);
	assert_int_equal(
	    store_newest_kept(g->store, false)->lsn, newest); /* the window holds it no longer, its row does */
	check(g);
	rig_close(g);
	assert_int_equal(rig_open(g), 0);
	assert_int_equal(store_newest_consistent(g->store)->lsn, newest);
	check(g);
}

static bool
is_listed(struct rig *g, uint64_t lsn)
{
	struct pit *pits;
	size_t count;
	bool found = false;

	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	for (size_t i = 0; i < count; i++)
		found |= pits[i].lsn == lsn;
	free(pits);
	return found;
}

/* Its row was all that it had: what it saw may be merged away. */
static void
the_newest_point_that_was_deleted_by_hand_is_not_kept_again(void **state)
{
	struct rig *g = *state;
	struct id newest;
	uint64_t lsn;

	make_history(g);
	send_checkpoints(g, 1, CHECKPOINT_CRASH, 2 * MINUTE_NS);
	rig_run_jobs(g, 100);
	send_checkpoints(g, 50, CHECKPOINT_FUZZY, 30 * NS_PER_SECOND);
	for (unsigned i = 0; i < 40; i++)
		tell(g, SPACE_SHORTEN, false);
	newest = store_newest_kept(g->store, false)->id;
	lsn = store_newest_consistent(g->store)->lsn;
	assert_int_equal(store_newest_kept(g->store, false)->lsn, lsn);
	assert_int_equal(run(g, store_pit_change(g->store, &newest, STORE_PIT_DELETE)), 0);
	assert_false(is_listed(g, lsn));
	for (unsigned i = 0; i < 10; i++) {
		store_tick(g->store);
		tell(g, SPACE_SHORTEN, false);
	}
	assert_false(is_listed(g, lsn));
	check(g);
}

static void
nothing_goes_while_retention_is_frozen(void **state)
{
	struct rig *g = *state;
	struct counts before;

	make_history(g);
	before = count_points(g);
	assert_int_equal(run(g, store_set_frozen(g->store, true)), 0);
	for (unsigned i = 0; i < 40; i++)
		tell(g, SPACE_FULL, true);
	assert_int_equal(count_points(g).kept, before.kept);
	assert_true(count_points(g).all >= before.all);
	check(g);
	assert_int_equal(run(g, store_set_frozen(g->store, false)), 0);
	for (unsigned i = 0; i < 100; i++)
		tell(g, SPACE_FULL, true);
	assert_int_equal(count_points(g).kept, 1);
}

static void
what_was_to_go_when_retention_is_frozen_stays(void **state)
{
	struct rig *g = *state;
	struct space space = {.level = SPACE_THIN, .thin = true, .room_bytes = UINT64_MAX};
	struct store_stats t;
	struct counts before;

	make_history(g);
	do {
		tell(g, SPACE_THIN, true);
		store_get_stats(g->store, &t);
	} while (t.thinned == 0); /* from here on it is a point each time */
	before = count_points(g);
	assert_true(before.kept > 1);
	space.measured_ns = clock_monotonic_ns();
	store_set_space(g->store, &space);
	assert_int_equal(run(g, store_set_frozen(g->store, true)), 0);
	rig_run_jobs(g, 100);
	assert_int_equal(count_points(g).kept, before.kept);
}

/* Takes jobs, runs those that free nothing, and gives back the first that does, not run; NULL: there is none. */
static struct store_job *
next_that_frees(struct rig *g)
{
	static const char *const names[] = {"give up a point", "fold", "merge runs"};
	struct store_job *job;

	while ((job = store_job_next(g->store)) != NULL) {
		for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
			if (strcmp(store_job_name(job), names[i]) == 0)
				return job;
		store_job_run(job, g->disk, g->cache);
		store_job_finish(g->store, job, false);
	}
	return NULL;
}

/* What was asked for is not known to the catalog yet: nothing is begun that could contradict it. */
static void
nothing_goes_while_somebody_keeps_a_point(void **state)
{
	struct space space = {.level = SPACE_THIN, .thin = true, .room_bytes = UINT64_MAX};
	struct rig *g = *state;
	struct policy none = {.rule_count = 0};
	struct store_job *asked, *job;

	make_history(g);
	assert_int_equal(run(g, store_set_policy(g->store, &none)), 0);
	space.measured_ns = clock_monotonic_ns();
	store_set_space(g->store, &space);
	asked = store_pit_keep(g->store, store_newest_consistent(g->store)->lsn, "", false);
	assert_non_null(asked);
	assert_null(next_that_frees(g));
	store_job_run(asked, g->disk, g->cache);
	store_job_finish(g->store, asked, false);
	for (unsigned i = 0; i < 3; i++) { /* and then each of them */
		job = next_that_frees(g);
		assert_non_null(job);
		store_job_run(job, g->disk, g->cache);
		store_job_finish(g->store, job, false);
	}
	check(g);
}

static void
no_point_is_given_up_while_somebody_holds_it(void **state)
{
	struct space space = {.level = SPACE_THIN, .thin = true, .room_bytes = UINT64_MAX};
	struct rig *g = *state;
	struct store_job *asked, *job;
	struct store_stats t;
	struct id oldest;
	struct pit *pits;
	size_t count;

	make_history(g);
	do {
		tell(g, SPACE_THIN, true);
		store_get_stats(g->store, &t);
	} while (t.thinned == 0); /* from here on it is a point each time */
	space.measured_ns = clock_monotonic_ns();
	store_set_space(g->store, &space);
	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	oldest = pits[0].id;
	asked = store_pit_change(g->store, &oldest, STORE_PIT_HOLD);
	assert_null(next_that_frees(g));
	store_job_run(asked, g->disk, g->cache);
	store_job_finish(g->store, asked, false);
	job = next_that_frees(g);
	assert_string_equal(store_job_name(job), "give up a point");
	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, false);
	free(pits);
	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	assert_string_equal(pits[0].id.text, oldest.text);
	free(pits);
}

static void
count_costs(struct rig *g)
{
	make_history(g);
	tell(g, SPACE_SHORTEN, false); /* out of the window, where nothing is counted */
	g->store->account_due_ns = 0;
	rig_run_jobs(g, 100);
}

/* As the one that frees most. */
static void
no_point_is_named_that_cannot_be_deleted(void **state)
{
	struct rig *g = *state;
	const struct pit *p;
	uint64_t bytes;
	unsigned named = 0;

	count_costs(g);
	for (; (p = store_costliest(g->store, &bytes)) != NULL; named++) {
		struct id id = p->id;

		assert_true(bytes > 0 && !p->held);
		assert_int_equal(run(g, store_pit_change(g->store, &id, STORE_PIT_HOLD)), 0);
	}
	assert_true(named > 1);
}

static void
no_point_is_named_that_min_retention_guards(void **state)
{
	struct rig *g = *state;
	uint64_t bytes;

	count_costs(g);
	assert_non_null(store_costliest(g->store, &bytes));
	set_policy(g, 600 * MINUTE_NS);
	assert_null(store_costliest(g->store, &bytes));
}

static void
nothing_is_given_up_once_there_is_room_again(void **state)
{
	struct space space = {.level = SPACE_THIN, .thin = true, .room_bytes = UINT64_MAX};
	struct rig *g = *state;
	struct store_stats t;
	uint64_t thinned;

	make_history(g);
	do {
		tell(g, SPACE_THIN, true);
		store_get_stats(g->store, &t);
	} while (t.thinned == 0); /* from here on it is a point each time */
	thinned = t.thinned;
	space.measured_ns = clock_monotonic_ns();
	store_set_space(g->store, &space);
	tell(g, SPACE_EASY, true);
	store_get_stats(g->store, &t);
	assert_int_equal(t.thinned, thinned);
}

static void
nothing_more_goes_while_what_went_is_being_freed(void **state)
{
	struct space space = {.level = SPACE_SHORTEN, .room_bytes = UINT64_MAX};
	struct rig *g = *state;
	struct store_job *job = NULL;
	struct store_stats before, after;

	make_history(g);
	for (unsigned i = 0; i < 40 && job == NULL; i++) {
		space.measured_ns = clock_monotonic_ns();
		store_set_space(g->store, &space);
		job = next_that_frees(g);
	}
	assert_non_null(job);
	store_get_stats(g->store, &before);
	space.measured_ns = clock_monotonic_ns();
	store_set_space(g->store, &space);
	store_get_stats(g->store, &after);
	assert_true(after.window_ns == before.window_ns);
	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, false);
	check(g);
}

static void
nothing_more_goes_before_the_last_step_was_measured(void **state)
{
	struct rig *g = *state;
	struct space space = {.level = SPACE_SHORTEN, .room_bytes = UINT64_MAX};
	struct counts first;

	make_history(g);
	space.measured_ns = clock_monotonic_ns();
	store_set_space(g->store, &space);
	first = count_points(g);
	for (unsigned i = 0; i < 40; i++)
		store_set_space(g->store, &space);
	assert_int_equal(count_points(g).all, first.all);
}

static void
the_window_is_not_shortened_below_min_retention(void **state)
{
	struct rig *g = *state;
	struct store_stats t;

	make_history(g);
	set_policy(g, 2 * MINUTE_NS);
	for (unsigned i = 0; i < 40; i++)
		tell(g, SPACE_SHORTEN, true);
	store_get_stats(g->store, &t);
	assert_true(t.window_ns == 2 * MINUTE_NS);
}

static void
points_go_oldest_first_one_at_a_time_down_to_the_newest_complete_one(void **state)
{
	struct rig *g = *state;
	struct counts before, after;
	struct store_stats t;
	unsigned rounds = 0;

	make_history(g);
	before = count_points(g);
	do {
		after = count_points(g);
		tell(g, SPACE_THIN, true);
		store_get_stats(g->store, &t);
		assert_true(count_points(g).kept + 1 >= after.kept);
		assert_true(
		    t.thinned == 0 || count_points(g).all <= count_points(g).kept + 1); /* the window goes first */
		assert_true(count_points(g).oldest_kept >= after.oldest_kept);
		check(g);
	} while (++rounds < 100);
	after = count_points(g);
	assert_int_equal(after.kept, 1);
	assert_int_equal(t.thinned, before.kept - 1);
	assert_true(g->folds > 0);
}

static void
points_stay_when_the_source_is_to_stall(void **state)
{
	struct rig *g = *state;
	struct counts before;

	make_history(g);
	before = count_points(g);
	for (unsigned i = 0; i < 40; i++)
		tell(g, SPACE_FULL, false);
	assert_int_equal(count_points(g).kept, before.kept);
	check(g);
}

static void
tell_room(struct rig *g, enum space_level level, uint64_t room_bytes)
{
	struct space space = {.level = level, .room_bytes = room_bytes, .measured_ns = clock_monotonic_ns()};

	store_set_space(g->store, &space);
}

static void
go_on(struct rig *g, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++) {
		store_tick(g->store);
		store_flush(g->store);
		rig_run_jobs(g, 1);
		disk_submit(g->disk);
		(void)disk_drain(g->disk);
	}
}

static uint64_t
used_bytes(struct rig *g)
{
	uint64_t free_bytes, all = UINT64_C(1) << 40;

	disk_sim_set_capacity(g->disk, all);
	assert_int_equal(disk_free_bytes(g->disk, "/", &free_bytes), 0);
	disk_sim_set_capacity(g->disk, 0);
	return all - free_bytes;
}

static void
a_fill_and_a_journal_take_no_more_than_the_room_they_were_told(void **state)
{
	struct rig *g = *state;
	enum { ROOM = 200 * 1024, BESIDE = 64 * 1024 }; /* digests, runs, the catalog: maintenance */
	uint64_t before = used_bytes(g), acked;
	struct space space = {.level = SPACE_EASY, .room_bytes = ROOM, .measured_ns = 1};
	struct store_stats t = {0};

	for (unsigned i = 0; i < 400 && !t.full; i++) {
		store_set_space(g->store, &space); /* the same measurement, and again: that makes no room */
		rig_step(g);
		store_get_stats(g->store, &t);
	}
	assert_true(t.full);
	go_on(g, 50);
	acked = g->acked;
	assert_true(acked < g->sent);
	assert_true(used_bytes(g) <= before + ROOM + BESIDE);
	check(g);
	tell_room(g, SPACE_FULL, UINT64_MAX);
	go_on(g, 50);
	assert_int_equal(g->acked, acked);
	tell_room(g, SPACE_EASY, UINT64_MAX);
	go_on(g, 200);
	assert_int_equal(g->acked, g->sent);
	assert_false(g->failed);
	check(g);
}

static void
a_fold_under_pressure_goes_in_steps(void **state)
{
	struct rig *g = *state;
	struct space space = {.level = SPACE_SHORTEN, .room_bytes = UINT64_MAX}; /* never measured: no step */
	struct policy none = {.rule_count = 0};
	unsigned folds;

	make_history(g);
	folds = g->folds;
	store_set_space(g->store, &space);
	assert_int_equal(run(g, store_set_policy(g->store, &none)), 0);
	rig_run_jobs(g, 100);
	assert_true(g->folds > folds + 1);
	check(g);
}

static void
quota_and_what_goes_when_full_survive_a_restart(void **state)
{
	struct rig *g = *state;
	enum when_full when_full;
	uint64_t quota;

	assert_int_equal(run(g, store_set_quota(g->store, 12345678, WHEN_FULL_THIN)), 0);
	store_get_quota(g->store, &quota, &when_full);
	assert_int_equal(quota, 12345678);
	rig_close(g);
	disk_sim_restart(g->disk, SIM_SURVIVE_NONE, 1);
	assert_int_equal(rig_open(g), 0);
	store_get_quota(g->store, &quota, &when_full);
	assert_int_equal(quota, 12345678);
	assert_int_equal(when_full, WHEN_FULL_THIN);
}

/* ---- no space, at every place there is ---- */

static void
go_on_until_acked(struct rig *g)
{
	int64_t deadline = clock_monotonic_ns() + 60 * NS_PER_SECOND; /* jobs that failed wait for a second */

	while (g->acked < g->sent && clock_monotonic_ns() < deadline)
		go_on(g, 1);
	assert_int_equal(g->acked, g->sent);
}

/* From the nth operation of a kind on there is no space, for a while. */
static void
no_space_from(char kind, uint64_t nth)
{
	struct rig *g = calloc(1, sizeof *g);

	assert_non_null(g);
	assert_true(rig_start(g, nth));
	disk_sim_fail(g->disk, kind, nth, true, SIM_FAULT_ENOSPC);
	for (unsigned i = 0; i < 150; i++) {
		if (g->sent - g->acked < 3)
			rig_step(g);
		else
			go_on(g, 1);
	}
	if (g->failed)
		fail_msg("no space for '%c' from %" PRIu64 " on: the store failed", kind, nth);
	check(g);
	disk_sim_fail(g->disk, kind, 1, true, SIM_FAULT_NONE);
	go_on_until_acked(g);
	check(g);
	rig_close(g);
	disk_sim_restart(g->disk, SIM_SURVIVE_NONE, nth);
	assert_int_equal(rig_open(g), 0);
	assert_true(rig_check_recovered(g));
	check(g);
	rig_stop(g);
	free(g);
}

static void
no_space_anywhere_loses_nothing_and_passes(void **state)
{
	static const uint64_t at[] = {1, 2, 3, 5, 8, 13, 21, 34};

	for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
		no_space_from('w', at[i]);
		if (i < 4)
			no_space_from('a', at[i]);
	}
	no_space_from('p', 1);
	no_space_from('t', 1);
	no_space_from('o', 5);
	no_space_from('n', 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_level_begins_below_its_limit_and_ends_with_half_as_much_again),
	    cmocka_unit_test(a_quota_leaves_what_is_not_taken_of_it),
	    cmocka_unit_test(the_window_is_halved_to_nothing_but_not_below_min_retention),
	    cmocka_unit_test_setup_teardown(the_window_goes_step_by_step_and_no_kept_point, setup, teardown),
	    cmocka_unit_test_setup_teardown(the_window_goes_too_when_nothing_consistent_comes, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		the_newest_point_that_was_deleted_by_hand_is_not_kept_again, setup, teardown),
	    cmocka_unit_test_setup_teardown(nothing_goes_while_retention_is_frozen, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_was_to_go_when_retention_is_frozen_stays, setup, teardown),
	    cmocka_unit_test_setup_teardown(nothing_more_goes_before_the_last_step_was_measured, setup, teardown),
	    cmocka_unit_test_setup_teardown(nothing_goes_while_somebody_keeps_a_point, setup, teardown),
	    cmocka_unit_test_setup_teardown(no_point_is_given_up_while_somebody_holds_it, setup, teardown),
	    cmocka_unit_test_setup_teardown(no_point_is_named_that_cannot_be_deleted, setup, teardown),
	    cmocka_unit_test_setup_teardown(no_point_is_named_that_min_retention_guards, setup, teardown),
	    cmocka_unit_test_setup_teardown(nothing_is_given_up_once_there_is_room_again, setup, teardown),
	    cmocka_unit_test_setup_teardown(nothing_more_goes_while_what_went_is_being_freed, setup, teardown),
	    cmocka_unit_test_setup_teardown(the_window_is_not_shortened_below_min_retention, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		points_go_oldest_first_one_at_a_time_down_to_the_newest_complete_one, setup, teardown),
	    cmocka_unit_test_setup_teardown(points_stay_when_the_source_is_to_stall, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		a_fill_and_a_journal_take_no_more_than_the_room_they_were_told, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_fold_under_pressure_goes_in_steps, setup, teardown),
	    cmocka_unit_test_setup_teardown(quota_and_what_goes_when_full_survive_a_restart, setup, teardown),
	    cmocka_unit_test(no_space_anywhere_loses_nothing_and_passes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
