/* SPDX-License-Identifier: Apache-2.0 */
/* A volume that is no longer declared is deleted, and the power is cut at every disk operation of that. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "tests/lib/store_rig.h"

enum { THIRD = 2, BLOCKS = 4 };

static void
fill(struct rig *g, int volume)
{
	rig_frame_begin(g);
	rig_frame_extent(g, volume, 0, g->bytes[volume] / 4096, true, false);
	rig_frame_end(g);
}

static void
checkpoint(struct rig *g)
{
	rig_frame_begin(g); /* without extents */
	rig_frame_end(g);
	rig_settle(g);
}

/* Three disks, a point; then the third is taken away. */
static struct rig *
make_rig_with_third(void)
{
	struct rig *g = calloc(1, sizeof *g);

	assert_non_null(g);
	rig_create(g, 7, RIG_TINY);
	g->attached[THIRD] = true;
	assert_int_equal(rig_open(g), 0);
	for (int v = 0; v <= THIRD; v++)
		fill(g, v);
	rig_frame_begin(g); /* the journal has some of it, too */
	rig_frame_extent(g, THIRD, 1, 1, false, false);
	rig_frame_end(g);
	checkpoint(g);
	g->attached[THIRD] = false;
	assert_int_equal(rig_declare(g), 0);
	return g;
}

/* And there is a point without it. */
static struct rig *
make_rig(void)
{
	struct rig *g = make_rig_with_third();

	rig_frame_begin(g);
	rig_frame_extent(g, 0, 1, 1, false, false);
	rig_frame_end(g);
	checkpoint(g);
	assert_string_equal(g->fault, "");
	return g;
}

static void
free_rig(struct rig *g)
{
	rig_stop(g);
	free(g);
}

static struct store_config
config_of(const struct rig *g)
{
	return (struct store_config){.dir = RIG_DIR, .catalog_vfs = g->vfs};
}

static int
delete_third(struct rig *g, bool with_points, struct hf_error *err)
{
	struct store_config config = config_of(g);
	struct store_volume list[STORE_VOLUMES_MAX];
	char id[ID_BYTES] = "";
	size_t points, n = store_list_all_volumes(g->store, list, STORE_VOLUMES_MAX);

	for (size_t i = 0; i < n; i++)
		if (list[i].volume == g->volume[THIRD])
			snprintf(id, sizeof id, "%s", list[i].id.text);
	rig_close(g);
	return store_delete_volume(g->disk, &config, id, with_points, &points, err);
}

static bool
has_third(const struct rig *g)
{
	struct store_volume list[STORE_VOLUMES_MAX];
	size_t n = store_list_all_volumes(g->store, list, STORE_VOLUMES_MAX);

	for (size_t i = 0; i < n; i++)
		if (list[i].volume == g->volume[THIRD])
			return true;
	return false;
}

/* Points that name it. */
static size_t
count_points(struct rig *g)
{
	struct pit *list;
	size_t n, found = 0;

	assert_int_equal(store_list_pits(g->store, &list, &n), 0);
	for (size_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < list[i].checkpoint.volume_count; k++)
			found += list[i].checkpoint.volumes[k].volume == g->volume[THIRD];
	free(list);
	return found;
}

static void
count_file(void *arg, const char *name)
{
	size_t len = strlen(name);

	if (strncmp(name, "vol-", 4) == 0 &&
	    (strcmp(name + len - 4, ".img") == 0 || strcmp(name + len - 4, ".sum") == 0))
		++*(unsigned *)arg;
}

static unsigned
count_files(struct rig *g)
{
	unsigned n = 0;

	assert_int_equal(disk_list(g->disk, RIG_DIR, count_file, &n), 0);
	return n;
}

static void
a_volume_that_points_have_goes_only_with_them(void **state)
{
	struct rig *g = make_rig();
	struct hf_error err;

	assert_int_equal(delete_third(g, false, &err), -EBUSY);
	assert_non_null(strstr(err.text, "points in time have it"));
	assert_int_equal(rig_open(g), 0);
	assert_true(has_third(g));
	assert_int_equal(count_points(g), 1);
	assert_int_equal(delete_third(g, true, &err), 0);
	assert_int_equal(rig_open(g), 0);
	assert_false(has_third(g));
	assert_int_equal(count_points(g), 0);
	assert_int_equal(count_files(g), 4);
	assert_true(rig_check_recovered(g) && rig_check_newest(g));
	free_rig(g);
}

static void
expect_refusal(struct rig *g, const char *words)
{
	struct hf_error err;

	assert_int_equal(delete_third(g, true, &err), -EBUSY);
	if (strstr(err.text, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
	assert_int_equal(rig_open(g), 0);
	assert_true(has_third(g));
	assert_int_equal(count_points(g), 1);
	free_rig(g);
}

/* The point that has it, kept by hand. */
static struct pit
keep_its_point(struct rig *g)
{
	struct pit *list, p;
	size_t n;

	assert_int_equal(store_list_pits(g->store, &list, &n), 0);
	p = list[0];
	free(list);
	assert_int_equal(rig_keep(g, &p), 0);
	return p;
}

static void
a_volume_that_a_point_which_must_stay_has_stays_with_it(void **state)
{
	struct policy guarding = {.min_retention_ns = 3600 * NS_PER_SECOND};
	struct store_job *job;
	struct rig *g = make_rig();
	struct pit p = keep_its_point(g);

	assert_int_equal(rig_change(g, &p, STORE_PIT_HOLD), 0);
	expect_refusal(g, "is held");

	g = make_rig();
	job = store_set_policy(g->store, &guarding);
	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, false);
	(void)keep_its_point(g);
	expect_refusal(g, "minRetention guards");

	expect_refusal(make_rig_with_third(), "the newest point");
}

static void
a_volume_that_is_declared_stays(void **state)
{
	struct rig *g = make_rig();

	g->attached[THIRD] = true;
	assert_int_equal(rig_declare(g), 0);
	expect_refusal(g, "replicated today");
}

static void
the_number_of_a_deleted_volume_is_never_used_again(void **state)
{
	struct rig *g = make_rig();
	uint32_t old = g->volume[THIRD];
	struct hf_error err;

	assert_int_equal(delete_third(g, true, &err), 0);
	g->attached[THIRD] = true; /* the same disk is back */
	assert_int_equal(rig_open(g), 0);
	assert_int_equal(g->volume[THIRD], old + 1);
	free_rig(g);
}

static void
check_after_cut(struct rig *g, bool done)
{
	assert_int_equal(rig_open(g), 0);
	assert_string_equal(g->fault, "");
	if (has_third(g)) {
		assert_false(done);
		assert_int_equal(count_points(g), 1);
		assert_int_equal(count_files(g), 6);
	} else {
		assert_int_equal(count_points(g), 0);
		assert_int_equal(count_files(g), 4); /* recovery has removed what was left */
	}
	assert_true(rig_check_recovered(g) && rig_check_newest(g));
}

static bool
cut_at(uint64_t at, uint64_t seed, unsigned *gone)
{
	struct rig *g = make_rig();
	struct hf_error err;
	bool done, cut;

	disk_sim_cut_at(g->disk, at);
	done = delete_third(g, true, &err) == 0;
	cut = disk_sim_is_cut(g->disk);
	disk_sim_restart(g->disk, SIM_SURVIVE_RANDOM, seed);
	check_after_cut(g, done);
	*gone += !has_third(g);
	free_rig(g);
	return cut;
}

static void
cut_anywhere_it_is_there_whole_or_gone_with_its_points(void **state)
{
	unsigned gone = 0, cuts = 0;

	for (uint64_t at = 1; cut_at(at, 1000 + at, &gone); at++)
		cuts++;
	print_message("%u cuts, gone after %u of them\n", cuts, gone);
	assert_true(cuts > 20 && gone > 3 && gone < cuts);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_volume_that_points_have_goes_only_with_them),
	    cmocka_unit_test(a_volume_that_a_point_which_must_stay_has_stays_with_it),
	    cmocka_unit_test(a_volume_that_is_declared_stays),
	    cmocka_unit_test(the_number_of_a_deleted_volume_is_never_used_again),
	    cmocka_unit_test(cut_anywhere_it_is_there_whole_or_gone_with_its_points),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
