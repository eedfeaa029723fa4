/* SPDX-License-Identifier: Apache-2.0 */
/* A source whose catalog is damaged or gone: it goes on with the copy, or with what the files prove, and every point it
 * lists then is still right. */
#include "storage/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sqlite3.h>

#include "proto/common/status.h"
#include "storage/catalog_vfs.h"
#include "storage/store_impl.h"
#include "tests/lib/rig_unit.h"

#define CATALOG RIG_DIR "/catalog.db"
#define COPY    CATALOG ".bak"

enum { KEPT_NAME_BYTES = 32 };

/* Until the base has moved that often. */
static void
live(struct rig *g, unsigned folds)
{
	for (unsigned i = 0; i < 400 && g->folds < folds; i++)
		rig_step(g);
	rig_settle(g);
	rig_run_jobs(g, 100);
	assert_true(g->folds >= folds);
}

static void
copy_catalog(struct rig *g)
{
	assert_int_equal(run(g, store_last_job(g->store)), 0);
}

/* The next checkpoint becomes a point with this name. */
static void
keep_next(struct rig *g, const char *name)
{
	const struct checkpoint *c = store_newest_consistent(g->store);
	uint64_t before = c != NULL ? c->lsn : 0;

	while ((c = store_newest_consistent(g->store)) == NULL || c->lsn == before) {
		assert_true(g->sent < RIG_FRAMES_MAX && !g->failed);
		settled_steps(g, 1);
	}
	assert_int_equal(run(g, store_pit_keep(g->store, c->lsn, name, true)), 0);
}

/* Is there a point of this name, held? */
static bool
has_point(struct rig *g, const char *name)
{
	struct pit *pits;
	size_t count;
	bool found = false;

	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	for (size_t i = 0; i < count; i++)
		found |= strcmp(pits[i].name, name) == 0 && pits[i].held;
	free(pits);
	return found;
}

static void
open_again(struct rig *g, int how)
{
	if (rig_open(g) < 0)
		fail_msg("seed %llu: %s", (unsigned long long)g->seed, g->fault);
	assert_int_equal(store_get_repair(g->store)->how, how);
	if (!rig_check_recovered(g) || !rig_check(g))
		fail_msg("seed %llu: %s", (unsigned long long)g->seed, g->fault);
}

/* ---- damage ---- */

static void
write_rubbish(struct rig *g, const char *path, uint64_t at)
{
	unsigned char *page = buffer_alloc(DISK_ALIGN);
	struct disk_file *f;

	memset(page, 0xa5, DISK_ALIGN);
	assert_int_equal(disk_open(g->disk, path, DISK_WRITE, &f), 0);
	assert_int_equal(disk_write_now(g->disk, f, page, DISK_ALIGN, at), 0);
	assert_int_equal(disk_sync_now(g->disk, f), 0);
	disk_close(g->disk, f);
	buffer_free(page, DISK_ALIGN);
}

static void
lose(struct rig *g, const char *path)
{
	assert_int_equal(disk_unlink(g->disk, path), 0);
	assert_int_equal(disk_sync_dir(g->disk, RIG_DIR), 0);
}

static void
empty(struct rig *g, const char *path)
{
	cut_file(g, path, 0);
}

static void
shorten(struct rig *g, const char *path)
{
	cut_file(g, path, size_of(g, path) / 2 / DISK_ALIGN * DISK_ALIGN);
}

static void
ruin_header(struct rig *g, const char *path)
{
	write_rubbish(g, path, 0);
}

static void
ruin_middle(struct rig *g, const char *path)
{
	write_rubbish(g, path, size_of(g, path) / 2 / DISK_ALIGN * DISK_ALIGN);
}

typedef void damage(struct rig *g, const char *path);

static damage *const damages[] = {lose, empty, shorten, ruin_header, ruin_middle};

enum { DAMAGES = sizeof damages / sizeof damages[0] };

static bool found_aside;

static void
each_name(void *arg, const char *name)
{
	found_aside |= strncmp(name, arg, strlen(arg)) == 0;
}

static bool
is_aside(struct rig *g, const char *prefix)
{
	char copy[64];

	found_aside = false;
	snprintf(copy, sizeof copy, "%s", prefix);
	assert_int_equal(disk_list(g->disk, RIG_DIR, each_name, copy), 0);
	return found_aside;
}

/* ---- with a copy ---- */

static void
a_damaged_catalog_is_opened_from_its_copy(void **state)
{
	for (int i = 0; i < DAMAGES; i++) {
		struct rig *g = start(1 + (uint64_t)i);

		live(g, 1);
		keep_next(g, "before the damage");
		copy_catalog(g);
		rig_close(g);
		damages[i](g, CATALOG);
		open_again(g, STORE_CATALOG_COPY);
		assert_true(has_point(g, "before the damage"));
		assert_int_equal(is_aside(g, "catalog.db.damaged-"), damages[i] != lose);
		settled_steps(g, 60);
		rig_close(g);
		open_again(g, STORE_CATALOG_WHOLE);
		assert_true(has_point(g, "before the damage"));
		stop(g);
	}
}

/* Its checkpoint is far older than the journal window then. */
static void
a_point_that_only_its_hold_keeps_is_not_dropped(void **state)
{
	struct rig *g = *state;
	uint64_t lsn;

	keep_next(g, "held for long");
	lsn = store_newest_consistent(g->store)->lsn;
	copy_catalog(g);
	settled_steps(g, 300);
	rig_run_jobs(g, 100);
	assert_true(store_window_lsn(g->store) > lsn);
	rig_close(g);
	lose(g, CATALOG);
	open_again(g, STORE_CATALOG_COPY);
	assert_true(has_point(g, "held for long"));
}

/* Points that have rows. */
struct rows {
	struct pit *pits;
	size_t count;
};

static struct rows
list_rows(struct rig *g)
{
	struct rows rows = {0};
	size_t count;

	assert_int_equal(store_list_pits(g->store, &rows.pits, &count), 0);
	for (size_t i = 0; i < count; i++)
		if (rows.pits[i].kept)
			rows.pits[rows.count++] = rows.pits[i];
	return rows;
}

/* How many of these are not among the others? */
static unsigned
count_missing(const struct rows *these, const struct rows *others)
{
	unsigned missing = 0;

	for (size_t i = 0; i < these->count; i++) {
		bool found = false;

		for (size_t k = 0; k < others->count && !found; k++)
			found = others->pits[k].lsn == these->pits[i].lsn;
		missing += !found;
	}
	return missing;
}

/* What is said of the repair is what became of the rows that the copy had. */
static void
check_told(struct rig *g, const struct rows *copied)
{
	struct rows now = list_rows(g);
	unsigned dropped = count_missing(copied, &now), found = count_missing(&now, copied);
	char said[128];

	assert_true(dropped > 0 && found > 0);
	snprintf(said, sizeof said, "; its copy took its place: %u points of it had no data any more, %u were added",
	    dropped, found);
	if (strstr(store_get_repair(g->store)->text, said) == NULL)
		fail_msg("\"%s\" is not in: %s", said, store_get_repair(g->store)->text);
	free(now.pits);
}

/* Points expired and the base moved since it was written; points were kept that it does not know. */
static void
a_copy_older_than_a_fold_lists_no_point_whose_data_is_gone(void **state)
{
	struct rig *g = *state;
	struct store_stats before, after;
	struct rows copied;

	live(g, 1);
	copy_catalog(g);
	copied = list_rows(g);
	live(g, g->folds + 2);
	store_get_stats(g->store, &before);
	rig_close(g);
	lose(g, CATALOG);
	open_again(g, STORE_CATALOG_COPY);
	store_get_stats(g->store, &after);
	assert_true(after.base_lsn <= before.base_lsn);
	check_told(g, &copied);
	free(copied.pits);
	live(g, g->folds + 2);
	assert_true(rig_check(g));
}

static void
ruin_all(struct rig *g, const char *path)
{
	for (uint64_t at = 0, end = size_of(g, path); at + DISK_ALIGN <= end; at += DISK_ALIGN)
		write_rubbish(g, path, at);
}

/* Whoever meets it: frames are acknowledged, the change is refused, and the store asks to be opened again. */
static void
damage_found_while_it_is_open_leads_to_the_copy(void **state)
{
	struct rig *g = *state;
	const struct checkpoint *c;

	keep_next(g, "before the damage");
	copy_catalog(g);
	ruin_all(g, CATALOG);
	settled_steps(g, 20);
	assert_int_equal(g->acked, g->sent);
	c = store_newest_consistent(g->store);
	assert_non_null(c);
	catalog_vfs_fail(g->vfs, SQLITE_CORRUPT, 1, false); /* its cache has not noticed */
	assert_int_equal(run(g, store_pit_keep(g->store, c->lsn, "too late", true)), -HF_ECORRUPT);
	assert_true(g->failed);
	rig_close(g);
	open_again(g, STORE_CATALOG_COPY);
	assert_true(has_point(g, "before the damage"));
	assert_false(has_point(g, "too late"));
	settled_steps(g, 20);
}

static void
an_unchanged_catalog_is_not_copied_again(void **state)
{
	struct rig *g = *state;

	settled_steps(g, 30);
	copy_catalog(g);
	assert_null(store_last_job(g->store));
	keep_next(g, "a change");
	copy_catalog(g);
	assert_null(store_last_job(g->store));
}

/* The copy is of the moment the source was enrolled. */
static void
volumes_the_copy_does_not_know_are_not_lost(void **state)
{
	struct rig *g = calloc(1, sizeof *g);
	struct store_volume volumes[STORE_VOLUMES_MAX];
	struct hf_error err;
	struct catalog *c;

	rig_create(g, 5, RIG_PLAIN);
	assert_int_equal(catalog_open(CATALOG, g->vfs, false, NULL, &c, &err), 0);
	assert_int_equal(catalog_write_copy(c, g->disk, &err), 0);
	catalog_close(c);
	if (rig_open(g) < 0)
		fail_msg("%s", g->fault);
	live(g, 1);
	rig_close(g);
	lose(g, CATALOG);
	open_again(g, STORE_CATALOG_COPY);
	assert_int_equal(store_list_volumes(g->store, volumes, STORE_VOLUMES_MAX), g->volumes);
	stop(g);
}

/* ---- without ---- */

static void
without_a_copy_the_catalog_is_made_anew_of_what_the_files_prove(void **state)
{
	for (uint64_t seed = 1; seed <= 10; seed++) {
		struct rig *g = start(seed);

		live(g, 1 + (unsigned)(seed % 3));
		rig_close(g);
		damages[seed % DAMAGES](g, CATALOG);
		open_again(g, STORE_CATALOG_REBUILT);
		assert_true(retention_stopped(store_retention(g->store))); /* nobody knows what was held */
		assert_int_equal(run(g, store_set_frozen(g->store, false)), 0);
		live(g, g->folds + 1);
		assert_true(rig_check(g));
		rig_close(g);
		open_again(g, STORE_CATALOG_WHOLE);
		stop(g);
	}
}

static void
a_damaged_copy_is_kept_aside_and_not_believed(void **state)
{
	for (int i = 1; i < DAMAGES; i++) {
		struct rig *g = start(1 + (uint64_t)i);

		live(g, 1);
		copy_catalog(g);
		rig_close(g);
		ruin_header(g, CATALOG);
		damages[i](g, COPY);
		open_again(g, STORE_CATALOG_REBUILT);
		assert_true(is_aside(g, "catalog.db.damaged-") && is_aside(g, "catalog.db.bak.damaged-"));
		stop(g);
	}
}

static void
a_source_that_never_declared_a_disk_is_made_anew_too(void **state)
{
	struct rig *g = calloc(1, sizeof *g);

	rig_create(g, 5, RIG_PLAIN);
	lose(g, CATALOG);
	open_again(g, STORE_CATALOG_REBUILT);
	settled_steps(g, 60);
	assert_true(rig_check(g));
	stop(g);
}

/* A catalog gone and a journal not mounted: nothing of what is there may be taken for new. */
static void
without_catalog_and_journal_nothing_is_guessed(void **state)
{
	struct rig *g = *state;
	struct store_stats t;
	char path[128];

	while (g->acked < 3)
		settled_steps(g, 1);
	store_get_stats(g->store, &t);
	assert_int_equal(t.base_lsn, 0);
	rig_close(g);
	lose(g, CATALOG);
	for (int n = 1; n < 10; n++) {
		snprintf(path, sizeof path, RIG_DIR "/journal/%08d.seg", n);
		(void)disk_unlink(g->disk, path);
	}
	assert_int_equal(rig_open(g), -HF_ECORRUPT);
	g->fault[0] = '\0';
	assert_true(is_aside(g, "vol-"));
}

/* ---- whatever happened since ---- */

/* Points are kept and deleted, runs merged, disks come and go; the copy is of some moment of it. Who kept what only the
 * catalog knew, but whatever is listed is right. */
static void
lose_in_a_wild_life(uint64_t seed, bool with_copy, unsigned *merges)
{
	struct rig *g = calloc(1, sizeof *g);
	unsigned copy_at = (unsigned)(seed * 37 % 250);
	struct store_stats stats;

	rig_create(g, seed, RIG_WILD);
	assert_int_equal(rig_open(g), 0);
	for (unsigned i = 0; i < 300 && g->fault[0] == '\0'; i++) {
		if (with_copy && i == copy_at && g->store != NULL && !g->failed) {
			struct store_job *job = store_last_job(g->store);

			if (job != NULL)
				(void)run(g, job);
		}
		rig_step(g);
	}
	if (!g->failed)
		rig_settle(g);
	store_get_stats(g->store, &stats);
	*merges += (unsigned)stats.merges;
	rig_close(g);
	assert_string_equal(g->fault, "");
	lose(g, CATALOG);
	g->kept_count = 0;
	if (rig_open(g) < 0 || !rig_check_recovered(g) || !rig_check(g))
		fail_msg("seed %llu: %s", (unsigned long long)seed, g->fault);
	for (unsigned i = 0; i < 60; i++)
		rig_step(g);
	if (!g->failed)
		rig_settle(g);
	if (!g->failed && !rig_check(g))
		fail_msg("seed %llu, later: %s", (unsigned long long)seed, g->fault);
	stop(g);
}

static void
whatever_happened_since_the_copy_every_point_is_right(void **state)
{
	unsigned merges = 0;

	for (uint64_t seed = 1; seed <= 25; seed++)
		lose_in_a_wild_life(seed, true, &merges);
	assert_true(merges > 0);
	lose_in_a_wild_life(69, true, &merges); /* the last of the merged segments had never got its header */
}

static void
whatever_happened_every_point_is_right_without_a_copy(void **state)
{
	unsigned merges = 0;

	for (uint64_t seed = 101; seed <= 125; seed++)
		lose_in_a_wild_life(seed, false, &merges);
	assert_true(merges > 0);
}

/* ---- what is no damage ---- */

static void
an_io_error_is_no_damage(void **state)
{
	struct rig *g = *state;

	settled_steps(g, 30);
	copy_catalog(g);
	rig_close(g);
	disk_sim_fail(g->disk, 'r', 1, true, SIM_FAULT_EIO);
	assert_true(rig_open(g) < 0);
	disk_sim_fail(g->disk, 'r', 1, true, SIM_FAULT_NONE);
	g->fault[0] = '\0';
	open_again(g, STORE_CATALOG_WHOLE);
	assert_false(is_aside(g, "catalog.db.damaged-"));
}

/* ---- cuts ---- */

/* Copying is cut at every operation: the catalog is whole, and then lost; the copy is the old one or the new one. */
static void
a_cut_while_copying_leaves_one_copy_or_the_other(void **state)
{
	bool more = true;

	for (uint64_t at = 1; more; at++) {
		struct rig *g = start(9);
		struct store_job *job;

		keep_next(g, "in both");
		copy_catalog(g);
		keep_next(g, "in the new one");
		job = store_last_job(g->store);
		disk_sim_cut_at(g->disk, at);
		store_job_run(job, g->disk, g->cache);
		more = disk_sim_is_cut(g->disk);
		store_job_finish(g->store, job, false);
		rig_close(g);
		disk_sim_restart(g->disk, SIM_SURVIVE_RANDOM, at);
		open_again(g, STORE_CATALOG_WHOLE);
		assert_true(has_point(g, "in the new one"));
		rig_close(g);
		lose(g, CATALOG);
		open_again(g, STORE_CATALOG_COPY);
		assert_true(has_point(g, "in both"));
		stop(g);
	}
}

/* What it committed last is in its log alone. */
static void
kill_process(struct rig *g, uint64_t seed)
{
	disk_sim_cut_at(g->disk, 1);
	rig_close(g);
	g->fault[0] = '\0';
	disk_sim_restart(g->disk, SIM_SURVIVE_ALL, seed);
	assert_true(size_of(g, CATALOG "-wal") > 0);
}

/* The whole way back is cut at every operation, and gone again. The catalog has left its log, which must not
 * be taken for that of the new one. */
static void
cut_change_over(enum sim_survival survival, bool with_copy, unsigned stride)
{
	bool more = true;

	for (uint64_t at = 1; more; at += stride) {
		struct rig *g = start(11);
		int how = with_copy ? STORE_CATALOG_COPY : STORE_CATALOG_REBUILT;

		keep_next(g, "kept");
		if (with_copy)
			copy_catalog(g);
		settled_steps(g, 3);
		kill_process(g, at);
		(at % 2 == 0 ? lose : ruin_header)(g, CATALOG);
		disk_sim_cut_at(g->disk, at);
		(void)rig_open(g);
		more = disk_sim_is_cut(g->disk);
		rig_close(g);
		g->fault[0] = '\0';
		disk_sim_restart(g->disk, survival, at);
		if (rig_open(g) < 0)
			fail_msg("cut at %llu: %s", (unsigned long long)at, g->fault);
		if (store_get_repair(g->store)->how != STORE_CATALOG_WHOLE)
			assert_int_equal(store_get_repair(g->store)->how, how);
		if (!rig_check_recovered(g) || !rig_check(g))
			fail_msg("cut at %llu: %s", (unsigned long long)at, g->fault);
		assert_true(!with_copy || has_point(g, "kept"));
		assert_true(is_aside(g, "catalog.db.damaged-"));
		stop(g);
	}
}

static void
a_cut_while_the_copy_takes_its_place_is_gone_through_again(void **state)
{
	cut_change_over(SIM_SURVIVE_RANDOM, true, 1);
	cut_change_over(SIM_SURVIVE_NONE, true, 5);
	cut_change_over(SIM_SURVIVE_ALL, true, 7);
}

static void
a_cut_while_it_is_made_anew_is_gone_through_again(void **state)
{
	cut_change_over(SIM_SURVIVE_RANDOM, false, 1);
	cut_change_over(SIM_SURVIVE_NONE, false, 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_damaged_catalog_is_opened_from_its_copy),
	    TEST(a_point_that_only_its_hold_keeps_is_not_dropped),
	    TEST(a_copy_older_than_a_fold_lists_no_point_whose_data_is_gone),
	    TEST(damage_found_while_it_is_open_leads_to_the_copy),
	    TEST(an_unchanged_catalog_is_not_copied_again),
	    cmocka_unit_test(volumes_the_copy_does_not_know_are_not_lost),
	    cmocka_unit_test(without_a_copy_the_catalog_is_made_anew_of_what_the_files_prove),
	    cmocka_unit_test(a_damaged_copy_is_kept_aside_and_not_believed),
	    cmocka_unit_test(a_source_that_never_declared_a_disk_is_made_anew_too),
	    TEST(without_catalog_and_journal_nothing_is_guessed),
	    cmocka_unit_test(whatever_happened_since_the_copy_every_point_is_right),
	    cmocka_unit_test(whatever_happened_every_point_is_right_without_a_copy),
	    TEST(an_io_error_is_no_damage),
	    cmocka_unit_test(a_cut_while_copying_leaves_one_copy_or_the_other),
	    cmocka_unit_test(a_cut_while_the_copy_takes_its_place_is_gone_through_again),
	    cmocka_unit_test(a_cut_while_it_is_made_anew_is_gone_through_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
