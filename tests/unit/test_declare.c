/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations: volumes that come, grow, go and come back, while frames go on. */
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

static void
fill(struct rig *g)
{
	while (!rig_is_filled(g) && g->fault[0] == '\0')
		rig_step(g);
	rig_settle(g);
	assert_string_equal(g->fault, "");
}

/* ---- declarations of the tests' own ---- */

struct answer {
	uint32_t volume;
	int status;
};

static struct store_declaration
disk(unsigned number, uint64_t blocks)
{
	struct store_declaration d = {.size_bytes = blocks * BLOCK_BYTES, .ok = true};

	snprintf(d.name, sizeof d.name, "disk%u", number);
	snprintf(d.identity, sizeof d.identity, "serial:%u", number);
	return d;
}

static int
finish(struct rig *g, struct store_job *job, struct answer *ret_answers, size_t count)
{
	char text[256];
	int r;

	store_job_finish(g->store, job, true);
	r = store_job_status(job, NULL);
	for (size_t i = 0; i < count; i++)
		store_declare_result(job, i, &ret_answers[i].volume, &ret_answers[i].status, text, sizeof text);
	store_job_destroy(job);
	return r;
}

static int
declare(struct rig *g, const struct store_declaration *d, size_t count, struct answer *ret_answers)
{
	struct store_job *job = store_declare(g->store, d, count);

	assert_non_null(job);
	store_job_run(job, g->disk, g->cache);
	return finish(g, job, ret_answers, count);
}

static void
reopen(struct rig *g)
{
	rig_close(g);
	disk_sim_restart(g->disk, SIM_SURVIVE_NONE, 1);
	assert_int_equal(rig_open(g), 0);
	assert_true(rig_check_recovered(g));
}

static struct store_volume
find_listed(struct rig *g, uint32_t volume)
{
	struct store_volume list[STORE_VOLUMES_MAX];
	size_t n = store_list_volumes(g->store, list, STORE_VOLUMES_MAX);

	for (size_t i = 0; i < n; i++)
		if (list[i].volume == volume)
			return list[i];
	fail_msg("volume %u is not listed", volume);
	return list[0];
}

static void
send(struct rig *g, uint32_t volume, uint32_t kind, uint64_t block, uint64_t count)
{
	struct store_extent x = {.block = block, .count = count, .volume = volume, .kind = kind};
	struct rig_frame *f = &g->frames[++g->sent];
	void *payload;
	size_t bad;

	*f = (struct rig_frame){.kind = RIG_DATA, .chain = g->sent * 1000 + 3};
	g->states[g->sent] = g->states[g->sent - 1];
	assert_int_equal(store_frame_begin(g->store, g->sent, f->chain, &x, 1, NULL, 0, &payload), 0);
	assert_int_equal(store_frame_end(g->store, &bad), 0);
	rig_settle(g);
	assert_int_equal(g->acked, g->sent);
}

static void
checkpoint(struct rig *g)
{
	struct checkpoint c = {.consistency = CHECKPOINT_CRASH};
	struct rig_frame *f = &g->frames[++g->sent];

	g->now_ns += 100 * NS_PER_SECOND;
	c.clock_ns = c.received_ns = g->now_ns;
	*f = (struct rig_frame){.kind = RIG_CHECKPOINT, .chain = g->sent * 1000 + 3, .clock_ns = g->now_ns};
	g->states[g->sent] = g->states[g->sent - 1];
	assert_int_equal(store_checkpoint(g->store, g->sent, f->chain, &c), 0);
	rig_settle(g);
	assert_int_equal(g->acked, g->sent);
}

/* ---- making ---- */

static void
more_disks_than_can_be_kept_are_refused_one_by_one(void **state)
{
	struct rig *g = *state;
	struct store_declaration d[STORE_VOLUMES_MAX];
	struct answer a[STORE_VOLUMES_MAX];

	for (unsigned i = 0; i < STORE_VOLUMES_MAX; i++)
		d[i] = disk(100 + i, 4);
	assert_int_equal(declare(g, d, STORE_VOLUMES_MAX, a), 0); /* beside the two there are */
	assert_int_equal(a[STORE_VOLUMES_MAX - 3].status, 0);
	assert_int_equal(a[STORE_VOLUMES_MAX - 2].status, -HF_EFULL);
	assert_int_equal(a[STORE_VOLUMES_MAX - 1].volume, 0);
	checkpoint(g);
	assert_false(store_newest_checkpoint(g->store)->complete);
	reopen(g);
}

static void
a_size_that_cannot_be_is_refused(void **state)
{
	struct rig *g = *state;
	struct store_declaration d[2] = {disk(7, 0), disk(8, 0)};
	struct answer a[2];

	d[1].size_bytes = UINT64_MAX - 100;
	assert_int_equal(declare(g, d, 2, a), 0);
	assert_int_equal(a[0].status, -HF_ETOOLARGE);
	assert_int_equal(a[1].status, -HF_ETOOLARGE);
}

/* Files that were made are there whatever became of the catalog: the next declaration must find them, not make others
 * of the same number. */
static void
a_declaration_that_fails_half_way_makes_no_volume_twice(void **state)
{
	unsigned failed = 0;

	(void)state;
	for (uint64_t at = 1; at < 120; at++) {
		struct rig *g = calloc(1, sizeof *g);
		struct store_declaration d[3] = {disk(0, 96), disk(7, 8), disk(8, 8)};
		struct answer a[3];

		assert_true(rig_start(g, 5));
		d[0].size_bytes = g->bytes[0];
		disk_sim_fail(g->disk, '*', at, true, SIM_FAULT_EIO);
		failed += declare(g, d, 3, a) < 0;
		disk_sim_fail(g->disk, '*', at, true, SIM_FAULT_NONE);
		assert_int_equal(declare(g, d, 3, a), 0);
		assert_true(a[1].status == 0 && a[2].status == 0 && a[1].volume != a[2].volume);
		send(g, a[2].volume, 4, 0, 8);
		reopen(g);
		assert_int_equal(declare(g, d, 3, a), 0);
		assert_int_equal(find_listed(g, a[2].volume).frontier_blocks, 8);
		assert_int_equal(find_listed(g, a[1].volume).frontier_blocks, 0);
		rig_stop(g);
		free(g);
	}
	assert_true(failed > 3);
}

static void
a_checkpoint_without_a_declared_disk_is_not_complete(void **state)
{
	struct rig *g = *state;
	struct store_declaration d[3] = {disk(0, 96), disk(1, 40), disk(2, 1)};
	struct answer a[3];

	fill(g);
	d[0].size_bytes = g->bytes[0];
	d[2].size_bytes = 0;
	assert_int_equal(declare(g, d, 3, a), 0);
	checkpoint(g);
	assert_false(store_newest_checkpoint(g->store)->complete);
	assert_int_equal(declare(g, d, 2, a), 0);
	checkpoint(g);
	assert_true(store_newest_checkpoint(g->store)->complete);
}

/* ---- growing ---- */

static void
a_disk_may_grow_while_it_is_filled(void **state)
{
	struct rig *g = *state;
	struct store_declaration d = disk(0, 130);
	struct store_job *job;
	struct answer a;

	send(g, g->volume[0], 4, 0, 50);
	job = store_declare(g->store, &d, 1);
	send(g, g->volume[0], 4, 50, 10); /* before it has run */
	store_job_run(job, g->disk, g->cache);
	send(g, g->volume[0], 4, 60, 10); /* and after */
	assert_int_equal(finish(g, job, &a, 1), 0);
	assert_int_equal(a.status, 0);
	assert_int_equal(find_listed(g, a.volume).frontier_blocks, 70);
	send(g, g->volume[0], 4, 70, 60);
	assert_int_equal(find_listed(g, a.volume).frontier_blocks, 130);
}

static void
a_disk_may_grow_while_its_fill_is_finished(void **state)
{
	struct rig *g = *state;
	struct store_declaration d = disk(0, 130);
	struct store_job *job;
	struct answer a;

	send(g, g->volume[0], 4, 0, 50);
	job = store_declare(g->store, &d, 1);
	store_job_run(job, g->disk, g->cache);
	send(g, g->volume[0], 4, 50, 46); /* it is full, as far as anybody knows */
	assert_int_equal(finish(g, job, &a, 1), 0);
	assert_int_equal(a.status, 0);
	send(g, g->volume[0], 4, 96, 34);
	g->bytes[0] = d.size_bytes;
	assert_int_equal(find_listed(g, a.volume).frontier_blocks, 130);
	reopen(g);
}

/* ---- going, and coming back ---- */

static void
disks_that_are_gone_are_not_listed_after_a_restart(void **state)
{
	struct rig *g = *state;
	struct store_config config = {.dir = RIG_DIR, .catalog_vfs = g->vfs};
	struct store_declaration d = disk(1, 40);
	struct store_volume list[STORE_VOLUMES_MAX];
	struct hf_error err;
	struct answer a;

	fill(g);
	assert_int_equal(declare(g, &d, 1, &a), 0);
	rig_close(g);
	disk_sim_restart(g->disk, SIM_SURVIVE_NONE, 1);
	assert_int_equal(store_open(g->disk, &config, &g->store, &err), 0);
	assert_int_equal(store_list_volumes(g->store, list, STORE_VOLUMES_MAX), 1);
	assert_int_equal(list[0].volume, a.volume);
}

/* The last record is a checkpoint without the disk; the newest state has it all the same. */
static void
a_disk_that_comes_back_can_be_compared_at_once(void **state)
{
	struct rig *g = *state;
	struct store_declaration d[2] = {disk(0, 96), disk(1, 40)};
	struct answer a[2];
	struct view *v;

	fill(g);
	d[0].size_bytes = g->bytes[0];
	assert_int_equal(declare(g, &d[1], 1, a), 0);
	checkpoint(g);
	assert_int_equal(declare(g, d, 2, a), 0);
	assert_int_equal(a[0].volume, g->volume[0]);
	assert_int_equal(store_view(g->store, UINT64_MAX, &v), 0);
	assert_non_null(view_find_volume(v, g->volume[0]));
	store_view_release(g->store, v);
	assert_true(rig_check_newest(g));
}

/* Folds that went over the time it was gone have taken its history along. */
static void
a_disk_that_comes_back_holds_what_was_acknowledged(void **state)
{
	struct rig *g = *state;
	struct store_declaration d[2] = {disk(0, 96), disk(1, 40)};
	struct answer a[2];

	fill(g);
	for (unsigned i = 0; i < 20; i++)
		rig_step(g);
	rig_settle(g);
	d[0].size_bytes = g->bytes[0];
	assert_int_equal(declare(g, &d[1], 1, a), 0);
	g->folds = 0;
	for (unsigned i = 0; i < 60; i++) {
		send(g, g->volume[1], 2, 0, 1);
		g->states[g->sent].tags[1][0] = 0;
		if (i % 10 == 0)
			checkpoint(g);
		rig_run_jobs(g, 10);
	}
	assert_true(g->folds > 0);
	assert_int_equal(declare(g, d, 2, a), 0);
	if (!rig_check_newest(g))
		fail_msg("%s", g->fault);
	reopen(g);
	if (!rig_check_newest(g))
		fail_msg("%s", g->fault);
}

static void
a_disk_that_went_half_filled_holds_up_no_fold_and_is_filled_on(void **state)
{
	struct rig *g = *state;
	struct store_declaration d[2] = {disk(1, 40), disk(9, 100)};
	struct answer a[2];

	fill(g);
	assert_int_equal(declare(g, d, 2, a), 0);
	send(g, a[1].volume, 4, 0, 50);
	send(g, a[1].volume, 2, 0, 10); /* of its history, too, a fold takes care */
	assert_int_equal(declare(g, d, 1, a), 0);
	g->folds = 0;
	for (unsigned i = 0; i < 60; i++) {
		send(g, a[0].volume, 2, 0, 1);
		if (i % 10 == 0)
			checkpoint(g);
		rig_run_jobs(g, 10);
	}
	assert_true(g->folds > 0);
	assert_int_equal(declare(g, d, 2, a), 0);
	assert_int_equal(a[1].status, 0);
	assert_int_equal(find_listed(g, a[1].volume).frontier_blocks, 50);
	send(g, a[1].volume, 4, 50, 50);
	checkpoint(g);
	assert_true(store_newest_checkpoint(g->store)->complete);
}

/* A number is given once, and there are not many: what was never there has none. */
static void
disks_that_could_not_be_made_do_not_count(void **state)
{
	struct rig *g = *state;
	struct store_declaration d[1] = {disk(7, 8)};
	struct answer a[1];

	disk_sim_confine_faults(g->disk, "/vol-");
	for (unsigned i = 0; i < STORE_VOLUMES_MAX; i++) {
		disk_sim_fail(g->disk, i % 2 ? 't' : 'w', 1, true, SIM_FAULT_ENOSPC);
		assert_int_equal(declare(g, d, 1, a), 0);
		disk_sim_fail(g->disk, i % 2 ? 't' : 'w', 1, true, SIM_FAULT_NONE);
		assert_int_equal(a[0].status, -ENOSPC);
	}
	assert_int_equal(declare(g, d, 1, a), 0);
	assert_int_equal(a[0].status, 0);
	reopen(g);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(more_disks_than_can_be_kept_are_refused_one_by_one),
	    TEST(a_size_that_cannot_be_is_refused),
	    TEST(disks_that_could_not_be_made_do_not_count),
	    cmocka_unit_test(a_declaration_that_fails_half_way_makes_no_volume_twice),
	    TEST(a_checkpoint_without_a_declared_disk_is_not_complete),
	    TEST(a_disk_may_grow_while_it_is_filled),
	    TEST(a_disk_may_grow_while_its_fill_is_finished),
	    TEST(disks_that_are_gone_are_not_listed_after_a_restart),
	    TEST(a_disk_that_comes_back_can_be_compared_at_once),
	    TEST(a_disk_that_comes_back_holds_what_was_acknowledged),
	    TEST(a_disk_that_went_half_filled_holds_up_no_fold_and_is_filled_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
