/* SPDX-License-Identifier: Apache-2.0 */
/* Rot in a store on the simulated disk, found, told, healed, and all of it cut at every disk operation: whatever a cut
 * leaves, the block is either right or an error, and it can be healed again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/segment.h"
#include "storage/sum.h"
#include "storage/view_impl.h"
#include "tests/lib/store_rig.h"

enum { STEPS = 70, JOBS_MAX = 60, CUTS_MAX = 400 };

enum place { IN_STAGING, IN_JOURNAL, IN_DIGESTS, PLACES };

struct target {
	uint32_t volume;
	uint64_t block;
	char path[256];
	uint64_t offset; /* of a byte to flip */
	unsigned char bytes[BLOCK_BYTES];
};

static unsigned char *buffer;

static int
make_buffer(void **state)
{
	buffer = buffer_alloc(BLOCK_BYTES);
	return buffer != NULL ? 0 : -1;
}

static int
free_buffer(void **state)
{
	buffer_free(buffer, BLOCK_BYTES);
	return 0;
}

/* ---- a store with something in it, and a block to rot ---- */

static void
begin(struct rig *g)
{
	assert_true(rig_start(g, 11));
	for (int i = 0; i < STEPS; i++)
		rig_step(g);
	rig_settle(g);
	rig_run_jobs(g, JOBS_MAX);
	rig_close(g); /* the journal's tail is sealed: of its last group rot and a torn tail cannot be told apart */
	assert_int_equal(rig_open(g), 0);
	rig_resend(g);
	rig_settle(g);
	rig_run_jobs(g, JOBS_MAX);
	assert_string_equal(g->fault, "");
}

static bool
lies_at(const struct view_slot *slot, enum place place)
{
	return slot->digest != 0 && (slot->segment != 0) == (place == IN_JOURNAL);
}

static void
set_path(struct rig *g, const struct store_volume *v, const struct view_slot *slot, enum place place, struct target *t)
{
	switch (place) {
	case IN_STAGING:
		snprintf(t->path, sizeof t->path, "%s/%s.img", RIG_DIR, v->id.text);
		t->offset = t->block * BLOCK_BYTES + 99;
		return;
	case IN_JOURNAL:
		segment_path(t->path, sizeof t->path, RIG_DIR "/journal", slot->segment);
		t->offset = (uint64_t)slot->offset * BLOCK_BYTES + 99;
		return;
	case IN_DIGESTS:
		snprintf(t->path, sizeof t->path, "%s/%s.sum", RIG_DIR, v->id.text);
		t->offset = sum_page_offset(0, t->block) + sum_page_slot(0, t->block) * 8ul + 3;
		return;
	case PLACES: break;
	}
	fail();
}

static bool
try_block(
    struct rig *g, struct view *v, const struct store_volume *sv, uint64_t block, enum place place, struct target *t)
{
	if (view_read(v, g->disk, g->cache, sv->volume, block, 1, buffer, NULL) < 0 || !lies_at(&v->slots[0], place))
		return false;
	t->volume = sv->volume;
	t->block = block;
	memcpy(t->bytes, buffer, BLOCK_BYTES);
	set_path(g, sv, &v->slots[0], place, t);
	return true;
}

static void
choose(struct rig *g, enum place place, struct target *t)
{
	static struct store_volume volumes[STORE_VOLUMES_MAX];
	size_t n = store_list_volumes(g->store, volumes, STORE_VOLUMES_MAX);
	struct view *v;
	bool found = false;

	assert_int_equal(store_view(g->store, UINT64_MAX, &v), 0);
	for (size_t i = 0; i < n && !found; i++)
		for (uint64_t b = 0; b < volumes[i].frontier_blocks && !found; b++)
			found = try_block(g, v, &volumes[i], b, place, t);
	store_view_release(g->store, v);
	assert_true(found);
}

static void
rot(struct rig *g, const struct target *t)
{
	assert_int_equal(disk_sim_flip(g->disk, t->path, t->offset, 5), 0);
}

/* ---- finding and healing ---- */

static size_t
damage_count(const struct rig *g)
{
	struct scrub_status t;

	store_get_scrub(g->store, &t);
	return t.damaged;
}

/* A scrub to its end; what it finds is damage then, or mended. False: the power went. */
static bool
scrub(struct rig *g)
{
	struct scrub_status t;

	(void)store_scrub_start(g->store);
	for (int i = 0; i < JOBS_MAX; i++) {
		store_get_scrub(g->store, &t);
		if (!t.running || disk_sim_is_cut(g->disk))
			break;
		rig_run_jobs(g, 1);
	}
	return !disk_sim_is_cut(g->disk);
}

static bool
heal(struct rig *g, const struct target *t)
{
	if (!scrub(g))
		return false;
	if (damage_count(g) > 0 && store_heal(g->store, t->volume, t->block, t->bytes) == 0)
		rig_run_jobs(g, 4);
	return !disk_sim_is_cut(g->disk);
}

/* Its bytes, or an error. */
static int
read_target(struct rig *g, const struct target *t)
{
	struct view *v;
	int r;

	assert_int_equal(store_view(g->store, UINT64_MAX, &v), 0);
	r = view_read(v, g->disk, g->cache, t->volume, t->block, 1, buffer, NULL);
	store_view_release(g->store, v);
	if (r == 0)
		assert_memory_equal(buffer, t->bytes, BLOCK_BYTES);
	return r;
}

static void
expect_healed(struct rig *g, const struct target *t)
{
	assert_int_equal(damage_count(g), 0);
	assert_int_equal(read_target(g, t), 0);
	if (!rig_check(g))
		print_error("%s\n", g->fault);
	assert_string_equal(g->fault, "");
}

/* ---- the tests ---- */

static void
rot_is_found_and_healed_wherever_it_is(void **state)
{
	for (enum place place = IN_STAGING; place < PLACES; place++) {
		static struct rig g;
		struct target t;

		begin(&g);
		choose(&g, place, &t);
		rot(&g, &t);
		assert_true(read_target(&g, &t) < 0);
		assert_true(scrub(&g));
		assert_int_equal(damage_count(&g), place == IN_DIGESTS ? 0 : 1);
		assert_true(heal(&g, &t));
		expect_healed(&g, &t);
		rig_stop(&g);
	}
}

static void
bytes_that_are_not_the_right_ones_heal_nothing(void **state)
{
	for (enum place place = IN_STAGING; place <= IN_JOURNAL; place++) {
		static struct rig g;
		struct target t, wrong;

		begin(&g);
		choose(&g, place, &t);
		rot(&g, &t);
		wrong = t;
		wrong.bytes[0] ^= 1;
		assert_true(heal(&g, &wrong));
		assert_int_equal(damage_count(&g), 1);
		assert_true(read_target(&g, &t) < 0);
		assert_true(heal(&g, &t));
		expect_healed(&g, &t);
		rig_stop(&g);
	}
}

static void
damage_is_known_after_a_restart(void **state)
{
	static struct rig g;
	struct target t;

	begin(&g);
	choose(&g, IN_STAGING, &t);
	rot(&g, &t);
	assert_true(scrub(&g));
	rig_close(&g);
	disk_sim_restart(g.disk, SIM_SURVIVE_NONE, 1);
	assert_int_equal(rig_open(&g), 0);
	rig_run_jobs(&g, JOBS_MAX);
	assert_int_equal(damage_count(&g), 1);
	assert_true(heal(&g, &t));
	rig_stop(&g);
}

/* False: everything was done before operation n. */
static bool
cut_at(enum place place, uint64_t n, enum sim_survival survival)
{
	static struct rig g;
	struct target t;
	bool done;

	begin(&g);
	choose(&g, place, &t);
	rot(&g, &t);
	disk_sim_cut_at(g.disk, n);
	done = heal(&g, &t);
	rig_close(&g);
	disk_sim_restart(g.disk, survival, n);
	assert_int_equal(rig_open(&g), 0);
	if (read_target(&g, &t) < 0)
		assert_false(done); /* what was healed is durable */
	rig_resend(&g);
	rig_settle(&g);
	assert_true(heal(&g, &t));
	expect_healed(&g, &t);
	rig_stop(&g);
	return !done;
}

static void
mending_may_be_cut_anywhere(void **state)
{
	for (enum place place = IN_STAGING; place < PLACES; place++) {
		uint64_t n = 1;

		while (n < CUTS_MAX && cut_at(place, n, n % 3 == 0 ? SIM_SURVIVE_NONE : SIM_SURVIVE_RANDOM))
			n++;
		assert_in_range(n, 20, CUTS_MAX - 1);
		assert_false(cut_at(place, CUTS_MAX, SIM_SURVIVE_NONE));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rot_is_found_and_healed_wherever_it_is),
	    cmocka_unit_test(bytes_that_are_not_the_right_ones_heal_nothing),
	    cmocka_unit_test(damage_is_known_after_a_restart),
	    cmocka_unit_test(mending_may_be_cut_anywhere),
	};

	return cmocka_run_group_tests_name("mend", tests, make_buffer, free_buffer);
}
