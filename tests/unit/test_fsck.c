/* SPDX-License-Identifier: Apache-2.0 */
/* One thing is damaged, and that is found; where nothing is, nothing is. */
#include "storage/fsck.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/status.h"
#include "tests/lib/rig_unit.h"

#define CATALOG RIG_DIR "/catalog.db"
#define JOURNAL RIG_DIR "/journal"

enum { FOUND_MAX = 64 };

struct findings {
	unsigned count;
	enum fsck_code codes[FOUND_MAX];
	char text[8000];
};

static void
on_found(void *arg, enum fsck_code code, const char *where, const char *what)
{
	struct findings *f = arg;
	size_t len = strlen(f->text);

	snprintf(f->text + len, sizeof f->text - len, "%s %s: %s\n", fsck_code_name(code), where, what);
	if (f->count < FOUND_MAX)
		f->codes[f->count++] = code;
}

static bool
exists(struct rig *g, const char *path)
{
	struct disk_file *f;

	if (disk_open(g->disk, path, DISK_READ, &f) < 0)
		return false;
	disk_close(g->disk, f);
	return true;
}

static struct findings
examine(struct rig *g, bool data, struct fsck_stats *ret_stats)
{
	struct fsck_options o = {.dir = RIG_DIR, .vfs = g->vfs, .data = data};
	struct findings f = {0};
	struct hf_error err;

	o.catalog = exists(g, CATALOG) ? CATALOG : NULL;
	o.catalog_bak = exists(g, CATALOG ".bak") ? CATALOG ".bak" : NULL;
	if (fsck_source(g->disk, g->cache, &o, on_found, &f, ret_stats, &err) < 0)
		fail_msg("%s", err.text);
	return f;
}

static void
expect(struct rig *g, enum fsck_code code)
{
	struct fsck_stats stats;
	struct findings f = examine(g, code == FSCK_BLOCK_ROTTEN, &stats);
	bool found = false;

	for (unsigned i = 0; i < f.count; i++)
		found |= f.codes[i] == code;
	if (!found)
		fail_msg("no %s, but:\n%s", fsck_code_name(code), f.text);
}

/* One that says so. */
static void
expect_words(struct rig *g, enum fsck_code code, const char *words)
{
	struct fsck_stats stats;
	struct findings f = examine(g, false, &stats);
	const char *name = fsck_code_name(code);
	bool found = false;

	for (char *line = strtok(f.text, "\n"); line != NULL; line = strtok(NULL, "\n"))
		found |= strncmp(line, name, strlen(name)) == 0 && strstr(line, words) != NULL;
	if (!found)
		fail_msg("no %s that says: %s", name, words);
}

static void
expect_clean(struct rig *g, struct fsck_stats *ret_stats)
{
	struct findings f = examine(g, true, ret_stats);

	if (f.count > 0)
		fail_msg("seed %llu: found\n%s", (unsigned long long)g->seed, f.text);
}

/* ---- a life ---- */

/* With folds, runs, a point of a name, and a copy of the catalog; closed. */
static void
live(struct rig *g)
{
	for (unsigned i = 0; i < 400 && g->folds == 0; i++)
		rig_step(g);
	for (unsigned i = 0; i < 10; i++)
		rig_step(g);
	rig_settle(g);
	rig_run_jobs(g, 100);
	assert_true(g->folds > 0);
	assert_int_equal(run(g, store_pit_keep(g->store, store_newest_consistent(g->store)->lsn, "kept", true)), 0);
	assert_int_equal(run(g, store_last_job(g->store)), 0);
	rig_close(g);
	assert_string_equal(g->fault, "");
}

static int
setup_lived(void **state)
{
	struct rig *g = *state = calloc(1, sizeof *g);

	assert_true(rig_start(g, 42));
	live(g);
	return 0;
}

/* ---- files ---- */

/* The nth file of a folder whose name ends so. */
static char *
file(struct rig *g, const char *dir, const char *suffix, size_t n)
{
	static char path[256];
	struct names names = list(g, dir, suffix);

	assert_true(n < names.count);
	snprintf(path, sizeof path, "%s/%s", dir, names.list[n]);
	return path;
}

static void
flip(struct rig *g, const char *path, uint64_t at)
{
	assert_int_equal(disk_sim_flip(g->disk, path, at, 3), 0);
}

static struct catalog *
open_catalog(struct rig *g)
{
	struct hf_error err;
	struct catalog *c;

	assert_int_equal(catalog_open(CATALOG, g->vfs, false, NULL, &c, &err), 0);
	return c;
}

/* ---- nothing ---- */

static void
a_whole_source_has_no_findings(void **state)
{
	uint64_t runs = 0, entries = 0;

	for (uint64_t seed = 1; seed <= 12; seed++) {
		struct rig *g = calloc(1, sizeof *g);
		struct fsck_stats stats;

		assert_true(rig_start(g, seed));
		live(g);
		expect_clean(g, &stats);
		assert_true(stats.segments > 0 && stats.volumes == 2 && stats.points > 0 && stats.blocks > 0);
		runs += stats.runs;
		entries += stats.entries;
		rig_stop(g);
		free(g);
	}
	assert_true(runs > 0 && entries > 0);
}

/* Cut at every 17th operation of a life: what that leaves is no damage, neither before nor after it was recovered from.
 */
static void
what_a_cut_leaves_has_no_findings(void **state)
{
	bool more = true;

	for (uint64_t at = 1; more; at += 17) {
		struct rig *g = calloc(1, sizeof *g);
		struct fsck_stats stats;

		rig_create(g, at, RIG_WILD);
		disk_sim_cut_at(g->disk, at * 2);
		(void)rig_open(g);
		for (unsigned i = 0; i < 150 && !disk_sim_is_cut(g->disk); i++)
			rig_step(g);
		more = disk_sim_is_cut(g->disk) && at < 3000;
		rig_close(g);
		g->fault[0] = '\0';
		disk_sim_restart(g->disk, SIM_SURVIVE_RANDOM, at);
		expect_clean(g, &stats);
		assert_int_equal(rig_open(g), 0);
		rig_close(g);
		expect_clean(g, &stats);
		rig_stop(g);
		free(g);
	}
}

/* ---- the catalog ---- */

static void
a_missing_catalog(void **state)
{
	struct rig *g = *state;

	assert_int_equal(disk_unlink(g->disk, CATALOG), 0);
	expect(g, FSCK_CATALOG_MISSING);
}

static void
a_damaged_catalog(void **state)
{
	flip(*state, CATALOG, 2);
	expect(*state, FSCK_CATALOG_DAMAGED);
}

static void
a_damaged_copy(void **state)
{
	flip(*state, CATALOG ".bak", 2);
	expect(*state, FSCK_COPY_DAMAGED);
}

/* What the catalog says of its source. */
static struct catalog_source
facts_of(struct rig *g)
{
	struct catalog *c = open_catalog(g);
	struct catalog_source facts;
	struct hf_error err;

	assert_int_equal(catalog_get_source(c, &facts, &err), 0);
	catalog_close(c);
	return facts;
}

/* An empty one in its place. */
static void
replace_catalog(struct rig *g, const struct catalog_source *facts)
{
	struct hf_error err;
	struct catalog *c;

	assert_int_equal(disk_unlink(g->disk, CATALOG), 0);
	assert_int_equal(catalog_open(CATALOG, g->vfs, true, facts, &c, &err), 0);
	catalog_close(c);
}

static void
a_foreign_catalog(void **state)
{
	struct rig *g = *state;
	struct catalog_source facts = facts_of(g);

	facts.digest_seed++;
	replace_catalog(g, &facts);
	expect_words(g, FSCK_CATALOG_FOREIGN, "digest seed");
	(void)id_parse("s", "s-00000000000000002", &facts.source);
	replace_catalog(g, &facts);
	expect_words(g, FSCK_CATALOG_FOREIGN, "it is of s-00000000000000002");
}

static void
a_catalog_that_knows_less_than_the_files(void **state)
{
	struct rig *g = *state;
	struct catalog_source facts = facts_of(g);

	facts.base_lsn = facts.fold_lsn = 0;
	replace_catalog(g, &facts);
	expect_words(g, FSCK_BOUNDS, "the digest files know a fold");
	expect_words(g, FSCK_BOUNDS, "but is needed from 1 on");
	expect_words(g, FSCK_VOLUME_MISMATCH, "the journal knows volume");
	facts.base_lsn = facts.fold_lsn + 1;
	replace_catalog(g, &facts);
	expect_words(g, FSCK_BOUNDS, "is beyond the fold");
}

static void
a_fold_beyond_the_journal(void **state)
{
	struct rig *g = *state;
	struct catalog *c = open_catalog(g);
	struct pit *pits;
	struct hf_error err;
	size_t count;

	assert_int_equal(catalog_list_pits(c, &pits, &count, &err), 0);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(catalog_delete_pits(c, &pits[i].id, 1, &err), 0);
	free(pits);
	assert_int_equal(catalog_set_fold(c, 1000000, &err), 0);
	catalog_close(c);
	expect(g, FSCK_BOUNDS);
}

static void
a_volume_without_files(void **state)
{
	struct rig *g = *state;
	struct catalog_volume row = {.volume = 9, .size_bytes = 4096};
	struct catalog *c = open_catalog(g);
	struct hf_error err;

	row.id = id_random("vol");
	assert_int_equal(catalog_put_volume(c, &row, &err), 0);
	catalog_close(c);
	expect(g, FSCK_VOLUME_MISSING);
}

static void
a_volume_of_another_size(void **state)
{
	struct rig *g = *state;
	struct catalog_volume rows[STORE_VOLUMES_MAX];
	struct catalog *c = open_catalog(g);
	struct hf_error err;
	size_t count;

	assert_int_equal(catalog_list_volumes(c, rows, STORE_VOLUMES_MAX, &count, &err), 0);
	rows[0].size_bytes += 4096;
	assert_int_equal(catalog_put_volume(c, &rows[0], &err), 0);
	catalog_close(c);
	expect(g, FSCK_VOLUME_MISMATCH);
}

/* The newest point, changed. */
static void
change_point(struct rig *g, int64_t lsn, int64_t clock_ns, bool keep_id)
{
	struct catalog *c = open_catalog(g);
	struct hf_error err;
	struct pit *pits, *p;
	struct id source;
	size_t count;

	(void)id_parse("s", "s-00000000000000001", &source);
	assert_int_equal(catalog_list_pits(c, &pits, &count, &err), 0);
	p = &pits[count - 1];
	assert_int_equal(catalog_delete_pits(c, &p->id, 1, &err), 0);
	p->lsn = p->checkpoint.lsn = p->lsn + (uint64_t)lsn;
	p->checkpoint.clock_ns += clock_ns;
	if (!keep_id)
		p->id = checkpoint_pit_id(&source, p->lsn, p->checkpoint.stream_id);
	assert_int_equal(catalog_put_pit(c, p, &err), 0);
	free(pits);
	catalog_close(c);
}

static void
a_point_that_cannot_be_restored(void **state)
{
	static const struct {
		int64_t lsn, clock_ns; /* by so much */
		bool keep_id;
		const char *why;
	} cases[] = {
	    {-1, 0, true, "its id is not that of its checkpoint"},
	    {1000000, 0, false, "beyond the journal's end"},
	    {-1, 0, false, "not in the journal any more"},
	    {0, 1, false, "something else of its checkpoint"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		if (i > 0) {
			teardown(state);
			setup_lived(state);
		}
		change_point(*state, cases[i].lsn, cases[i].clock_ns, cases[i].keep_id);
		expect_words(*state, FSCK_POINT_LOST, cases[i].why);
	}
}

static void
a_point_before_the_fold(void **state)
{
	struct rig *g = *state;
	struct catalog *c = open_catalog(g);
	struct hf_error err;
	struct pit *pits;
	struct id source;
	size_t count;

	(void)id_parse("s", "s-00000000000000001", &source);
	assert_int_equal(catalog_list_pits(c, &pits, &count, &err), 0);
	pits[0].lsn = pits[0].checkpoint.lsn = 1;
	pits[0].id = checkpoint_pit_id(&source, 1, pits[0].checkpoint.stream_id);
	assert_int_equal(catalog_put_pit(c, &pits[0], &err), 0);
	free(pits);
	catalog_close(c);
	expect_words(g, FSCK_POINT_LOST, "before the fold");
}

/* ---- the journal ---- */

static void
a_missing_segment(void **state)
{
	struct rig *g = *state;

	assert_int_equal(disk_unlink(g->disk, file(g, JOURNAL, ".seg", 1)), 0);
	expect(g, FSCK_JOURNAL);
	expect(g, FSCK_RUN_MISMATCH);
}

static void
a_damaged_segment_header(void **state)
{
	struct rig *g = *state;

	flip(g, file(g, JOURNAL, ".seg", 0), 20);
	expect(g, FSCK_SEGMENT_HEADER);
}

static void
a_damaged_descriptor(void **state)
{
	struct rig *g = *state;

	flip(g, file(g, JOURNAL, ".seg", 0), 4096 + 100);
	expect(g, FSCK_SEGMENT_GROUPS);
}

static void
a_damaged_run(void **state)
{
	struct rig *g = *state;

	flip(g, file(g, JOURNAL, ".run", 0), 4096 + 10);
	expect(g, FSCK_RUN_DAMAGED);
}

static void
a_damaged_run_header(void **state)
{
	struct rig *g = *state;

	flip(g, file(g, JOURNAL, ".run", 0), 50);
	expect(g, FSCK_RUN_DAMAGED);
}

static void
runs_that_changed_places(void **state)
{
	struct rig *g = *state;
	char first[256], second[256];

	snprintf(first, sizeof first, "%s", file(g, JOURNAL, ".run", 0));
	snprintf(second, sizeof second, "%s", file(g, JOURNAL, ".run", 1));
	assert_int_equal(disk_rename(g->disk, first, second), 0);
	expect(g, FSCK_RUN_MISMATCH);
}

/* ---- runs that say what cannot be: written on purpose, with checksums that are right ---- */

static void
write_run(struct rig *g, struct entry *entries, size_t count)
{
	char path[256];
	struct run_info info;
	struct hf_error err;
	struct run *run;

	snprintf(path, sizeof path, "%s", file(g, JOURNAL, ".run", 0));
	assert_int_equal(run_open(g->disk, path, &run, &info, &err), 0);
	run_unref(run, g->disk);
	assert_false(info.merged);
	for (size_t i = 0; i < count; i++) {
		entries[i].lsn += info.lsn_first;
		entries[i].segment = entries[i].digest != 0 ? (uint32_t)info.number : 0;
		entries[i].volume = entries[i].volume != 0 ? entries[i].volume : info.volumes[0].volume;
	}
	assert_int_equal(run_write(g->disk, JOURNAL, path, &info, entries, count, NULL, 0), 0);
}

static void
an_entry_beyond_its_volume(void **state)
{
	struct entry e = {.block = 100000, .count = 1};

	write_run(*state, &e, 1);
	expect(*state, FSCK_RUN_ENTRIES);
}

static void
an_entry_of_an_unknown_volume(void **state)
{
	struct entry e = {.volume = 77, .count = 1};

	write_run(*state, &e, 1);
	expect(*state, FSCK_RUN_ENTRIES);
}

static void
an_entry_beyond_its_segment(void **state)
{
	struct entry e = {.digest = 5, .offset = 1000000, .count = 1};

	write_run(*state, &e, 1);
	expect(*state, FSCK_RUN_ENTRIES);
}

static void
an_entry_of_another_lsn(void **state)
{
	struct entry e = {.lsn = 1000000, .count = 1};

	write_run(*state, &e, 1);
	expect(*state, FSCK_RUN_ENTRIES);
}

static void
a_block_twice_within_one_lsn(void **state)
{
	struct entry e[2] = {{.block = 2, .count = 6}, {.block = 5, .digest = 7, .offset = 1, .count = 1}};

	write_run(*state, e, 2);
	expect(*state, FSCK_RUN_ENTRIES);
}

/* ---- volumes ---- */

static void
a_missing_digest_file(void **state)
{
	struct rig *g = *state;

	assert_int_equal(disk_unlink(g->disk, file(g, RIG_DIR, ".sum", 0)), 0);
	expect(g, FSCK_STAGING_MISSING);
}

static void
a_short_staging_file(void **state)
{
	struct rig *g = *state;

	cut_file(g, file(g, RIG_DIR, ".img", 0), 4096);
	expect(g, FSCK_STAGING_SIZE);
}

static void
a_damaged_digest_header(void **state)
{
	struct rig *g = *state;

	flip(g, file(g, RIG_DIR, ".sum", 0), 100);
	expect(g, FSCK_DIGEST_HEADER);
}

/* Of nodes that the journal shadows nothing can be said: in one of these lives some are not. */
static void
a_damaged_digest(void **state)
{
	bool found = false;

	for (uint64_t seed = 1; seed <= 12 && !found; seed++) {
		struct rig *g = calloc(1, sizeof *g);
		struct fsck_stats stats;
		struct findings f;

		assert_true(rig_start(g, seed));
		live(g);
		for (uint64_t block = 3; block < 96; block += 16)
			flip(g, file(g, RIG_DIR, ".sum", 0), 4096 + block * 8);
		f = examine(g, false, &stats);
		found = f.count > 0 && f.codes[0] == FSCK_DIGEST_TREE;
		rig_stop(g);
		free(g);
	}
	assert_true(found);
}

static void
a_rotten_block(void **state)
{
	struct rig *g = *state;
	unsigned found = 0;

	for (uint64_t block = 0; block < 20; block++) { /* some of them are shadowed by the journal, and not read */
		struct fsck_stats stats;

		flip(g, file(g, RIG_DIR, ".img", 0), block * 4096 + 17);
		found += examine(g, true, &stats).count > 0;
		flip(g, file(g, RIG_DIR, ".img", 0), block * 4096 + 17);
	}
	assert_true(found > 0);
	for (uint64_t block = 0; block < 20; block++)
		flip(g, file(g, RIG_DIR, ".img", 0), block * 4096 + 17);
	expect(g, FSCK_BLOCK_ROTTEN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_lived, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_whole_source_has_no_findings),
	    cmocka_unit_test(what_a_cut_leaves_has_no_findings),
	    TEST(a_missing_catalog),
	    TEST(a_damaged_catalog),
	    TEST(a_damaged_copy),
	    TEST(a_foreign_catalog),
	    TEST(a_catalog_that_knows_less_than_the_files),
	    TEST(a_fold_beyond_the_journal),
	    TEST(a_volume_without_files),
	    TEST(a_volume_of_another_size),
	    TEST(a_point_that_cannot_be_restored),
	    TEST(a_point_before_the_fold),
	    TEST(a_missing_segment),
	    TEST(a_damaged_segment_header),
	    TEST(a_damaged_descriptor),
	    TEST(a_damaged_run),
	    TEST(a_damaged_run_header),
	    TEST(runs_that_changed_places),
	    TEST(an_entry_beyond_its_volume),
	    TEST(an_entry_of_an_unknown_volume),
	    TEST(an_entry_beyond_its_segment),
	    TEST(an_entry_of_another_lsn),
	    TEST(a_block_twice_within_one_lsn),
	    TEST(a_missing_digest_file),
	    TEST(a_short_staging_file),
	    TEST(a_damaged_digest_header),
	    cmocka_unit_test(a_damaged_digest),
	    TEST(a_rotten_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
