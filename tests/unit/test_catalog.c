/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/common/status.h"
#include "storage/catalog.h"
#include "storage/catalog_vfs.h"
#include "storage/disk_sim.h"
#include "tests/lib/scratch.h"

struct fixture {
	char dir[64], path[96];
	struct catalog *c;
};

static struct catalog_source
some_source(void)
{
	struct catalog_source s = {
	    .source = {"s-0123456789abcdef0"},
	    .digest_seed = 0xfedcba9876543210,
	    .created_ns = 1234567890123456789,
	};

	return s;
}

static int
setup(void **state)
{
	static struct fixture f;
	struct catalog_source s = some_source();

	scratch_make(f.dir, sizeof f.dir, "test_catalog");
	snprintf(f.path, sizeof f.path, "%s/catalog.db", f.dir);
	assert_int_equal(catalog_open(f.path, NULL, true, &s, &f.c, NULL), 0);
	*state = &f;
	return 0;
}

static int
teardown(void **state)
{
	static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
	struct fixture *f = *state;
	char path[128];

	catalog_close(f->c);
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof path, "%s%s", f->path, suffixes[i]);
		(void)unlink(path); /* most are not there */
	}
	assert_int_equal(rmdir(f->dir), 0);
	return 0;
}

static void
reopen(struct fixture *f)
{
	catalog_close(f->c);
	f->c = NULL;
	assert_int_equal(catalog_open(f->path, NULL, false, NULL, &f->c, NULL), 0);
}

/* Statements that the catalog itself would never make. */
static void
tamper(struct fixture *f, const char *sql)
{
	sqlite3 *db;

	catalog_close(f->c);
	f->c = NULL;
	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* ---- opening ---- */

static void
new_catalog_knows_its_source_and_the_default_policy(void **state)
{
	struct fixture *f = *state;
	struct catalog_source s = some_source(), got;
	struct policy expected, policy;
	struct pit *pits;
	struct stat st;
	size_t count;

	reopen(f);
	assert_int_equal(catalog_get_source(f->c, &got, NULL), 0);
	assert_string_equal(got.source.text, s.source.text);
	assert_true(got.digest_seed == s.digest_seed);
	assert_int_equal(got.created_ns, s.created_ns);
	assert_int_equal(got.base_lsn, 0);
	assert_int_equal(got.fold_lsn, 0);
	policy_default(&expected);
	assert_int_equal(catalog_get_policy(f->c, &policy, NULL), 0);
	assert_int_equal(policy.rule_count, 3);
	assert_int_equal(policy.journal_window_ns, expected.journal_window_ns);
	assert_memory_equal(policy.rules, expected.rules, sizeof policy.rules);
	assert_int_equal(catalog_list_pits(f->c, &pits, &count, NULL), 0);
	assert_int_equal(count, 0);
	free(pits);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void
catalog_that_is_there_is_not_created_again(void **state)
{
	struct fixture *f = *state;
	struct catalog_source other = some_source(), got;
	struct catalog *c;
	struct hf_error err;

	other.digest_seed = 1;
	catalog_close(f->c);
	f->c = NULL;
	assert_int_equal(catalog_open(f->path, NULL, true, &other, &c, &err), -EEXIST);
	reopen(f);
	assert_int_equal(catalog_get_source(f->c, &got, NULL), 0);
	assert_true(got.digest_seed == some_source().digest_seed);
}

static void
catalog_is_open_once_at_a_time(void **state)
{
	struct fixture *f = *state;
	struct catalog *c;
	struct hf_error err;

	assert_int_equal(catalog_open(f->path, NULL, false, NULL, &c, &err), -EBUSY);
	assert_non_null(strstr(err.text, f->path));
}

static void
missing_catalog_is_not_made_by_opening_it(void **state)
{
	struct fixture *f = *state;
	struct catalog *c;
	struct hf_error err;
	char path[128];

	snprintf(path, sizeof path, "%s/none.db", f->dir);
	assert_true(catalog_open(path, NULL, false, NULL, &c, &err) < 0);
	assert_int_equal(access(path, F_OK), -1);
}

static void
newer_or_foreign_or_damaged_catalog_is_refused(void **state)
{
	struct fixture *f = *state;
	struct catalog *c;
	struct hf_error err;
	FILE *file;

	tamper(f, "PRAGMA user_version = 99");
	assert_int_equal(catalog_open(f->path, NULL, false, NULL, &c, &err), -HF_EFORMAT);
	tamper(f, "PRAGMA user_version = 1; PRAGMA application_id = 7");
	assert_int_equal(catalog_open(f->path, NULL, false, NULL, &c, &err), -HF_EFORMAT);
	file = fopen(f->path, "w");
	assert_non_null(file);
	for (int i = 0; i < 1000; i++)
		assert_true(fputs("this is no database. ", file) >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(catalog_open(f->path, NULL, false, NULL, &c, &err), -HF_ECORRUPT);
	assert_non_null(strstr(err.text, f->path));
}

static void
rows_that_make_no_sense_are_corruption(void **state)
{
	struct fixture *f = *state;
	struct catalog_volume volumes[4];
	struct policy policy;
	struct pit *pits;
	size_t count;

	tamper(f, "INSERT INTO rule VALUES (9, 9, 'FORTNIGHTS', 1, 1, 1);"
		  "INSERT INTO volume VALUES (1, 'no id', 1, 0, 0, '', '', '');"
		  "INSERT INTO pit VALUES ('pit-0123456789abcdef0', 1, 1, 1, 0, 0, 0, 0, '', 1, x'00')");
	assert_int_equal(catalog_open(f->path, NULL, false, NULL, &f->c, NULL), 0);
	assert_int_equal(catalog_get_policy(f->c, &policy, NULL), -HF_ECORRUPT);
	assert_int_equal(catalog_list_volumes(f->c, volumes, 4, &count, NULL), -HF_ECORRUPT);
	assert_int_equal(catalog_list_pits(f->c, &pits, &count, NULL), -HF_ECORRUPT);
}

/* ---- content ---- */

static struct catalog_volume
some_volume(uint32_t number)
{
	struct catalog_volume v = {
	    .volume = number,
	    .id = id_from_bits("vol", 1, number),
	    .size_bytes = 4096u * number + 512,
	    .boot_disk = number == 1,
	    .retired = number == 2,
	    .identity = "wwn:0x5000c500a1b2c3d4",
	    .device_name = "/dev/disk/by-id/\xc3\xa9t\xc3\xa9",
	};

	snprintf(v.name, sizeof v.name, "disk %u", number);
	return v;
}

static void
assert_volume(const struct catalog_volume *a, const struct catalog_volume *b)
{
	assert_int_equal(a->volume, b->volume);
	assert_string_equal(a->id.text, b->id.text);
	assert_int_equal(a->size_bytes, b->size_bytes);
	assert_int_equal(a->boot_disk, b->boot_disk);
	assert_int_equal(a->retired, b->retired);
	assert_string_equal(a->identity, b->identity);
	assert_string_equal(a->name, b->name);
	assert_string_equal(a->device_name, b->device_name);
}

static void
volumes_are_kept_by_number(void **state)
{
	struct fixture *f = *state;
	struct catalog_volume v[3] = {some_volume(1), some_volume(2), some_volume(3)}, got[4];
	size_t count;

	for (int i = 2; i >= 0; i--)
		assert_int_equal(catalog_put_volume(f->c, &v[i], NULL), 0);
	v[1].size_bytes *= 2;
	v[1].retired = false;
	strcpy(v[1].name, "grown");
	assert_int_equal(catalog_put_volume(f->c, &v[1], NULL), 0);
	reopen(f);
	assert_int_equal(catalog_list_volumes(f->c, got, 4, &count, NULL), 0);
	assert_int_equal(count, 3);
	for (int i = 0; i < 3; i++)
		assert_volume(&got[i], &v[i]);
	assert_int_equal(catalog_list_volumes(f->c, got, 2, &count, NULL), -HF_ECORRUPT); /* more than can be */
	v[2].volume = 4;                                                                  /* the id is the third's */
	assert_int_equal(catalog_put_volume(f->c, &v[2], NULL), -EEXIST);
}

static struct pit
some_pit(uint64_t lsn)
{
	struct id source = some_source().source;
	struct pit p = {
	    .id = checkpoint_pit_id(&source, lsn),
	    .lsn = lsn,
	    .time_ns = 1000000000000000000 + (int64_t)lsn,
	    .planned_ns = 999999999999999999,
	    .rules = (uint32_t)lsn % 8,
	    .by_hand = lsn % 2 == 0,
	    .held = lsn % 3 == 0,
	    .verified = lsn % 4 == 0,
	    .complete = lsn % 5 != 0,
	    .consistency = CHECKPOINT_FILESYSTEM,
	    .kept = true,
	    .checkpoint = {.lsn = lsn,
		.clock_ns = -5,
		.clock_offset_ns = -3600,
		.received_ns = 77,
		.unchanged_until_ns = 88,
		.consistency = CHECKPOINT_FILESYSTEM,
		.complete = lsn % 5 != 0,
		.volume_count = 2},
	};

	snprintf(p.name, sizeof p.name, "before '%u'; DROP TABLE pit", (unsigned)lsn);
	p.checkpoint.volumes[0].volume = 1;
	p.checkpoint.volumes[0].size_bytes = 1 << 20;
	p.checkpoint.volumes[1].volume = 7;
	p.checkpoint.volumes[1].size_bytes = (uint64_t)1 << 44;
	return p;
}

static void
assert_pit(const struct pit *a, const struct pit *b)
{
	assert_string_equal(a->id.text, b->id.text);
	assert_int_equal(a->lsn, b->lsn);
	assert_int_equal(a->time_ns, b->time_ns);
	assert_int_equal(a->planned_ns, b->planned_ns);
	assert_int_equal(a->rules, b->rules);
	assert_int_equal(a->held, b->held);
	assert_int_equal(a->by_hand, b->by_hand);
	assert_int_equal(a->complete, b->complete);
	assert_int_equal(a->verified, b->verified);
	assert_int_equal(a->consistency, b->consistency);
	assert_string_equal(a->name, b->name);
	assert_int_equal(a->kept, b->kept);
	assert_int_equal(a->checkpoint.lsn, b->checkpoint.lsn);
	assert_int_equal(a->checkpoint.clock_ns, b->checkpoint.clock_ns);
	assert_int_equal(a->checkpoint.clock_offset_ns, b->checkpoint.clock_offset_ns);
	assert_int_equal(a->checkpoint.received_ns, b->checkpoint.received_ns);
	assert_int_equal(a->checkpoint.unchanged_until_ns, b->checkpoint.unchanged_until_ns);
	assert_int_equal(a->checkpoint.consistency, b->checkpoint.consistency);
	assert_int_equal(a->checkpoint.complete, b->checkpoint.complete);
	assert_int_equal(a->checkpoint.volume_count, b->checkpoint.volume_count);
	for (uint32_t i = 0; i < a->checkpoint.volume_count; i++) {
		assert_int_equal(a->checkpoint.volumes[i].volume, b->checkpoint.volumes[i].volume);
		assert_int_equal(a->checkpoint.volumes[i].size_bytes, b->checkpoint.volumes[i].size_bytes);
	}
}

static void
assert_pits(struct fixture *f, const uint64_t *lsns, size_t n)
{
	struct pit *got;
	size_t count;

	assert_int_equal(catalog_list_pits(f->c, &got, &count, NULL), 0);
	assert_int_equal(count, n);
	for (size_t i = 0; i < n; i++) {
		struct pit expected = some_pit(lsns[i]);

		assert_pit(&got[i], &expected);
	}
	free(got);
}

static void
points_are_listed_in_order_and_replaced_by_id(void **state)
{
	static const uint64_t lsns[] = {1, 2, 5, 12, 60, 1000};
	struct fixture *f = *state;
	struct pit *got, p;
	size_t count;

	for (int i = 5; i >= 0; i--) {
		p = some_pit(lsns[i]);
		assert_int_equal(catalog_put_pit(f->c, &p, NULL), 0);
	}
	reopen(f);
	assert_pits(f, lsns, 6);
	p.held = !p.held;
	strcpy(p.name, "renamed");
	p.checkpoint.volume_count = 1;
	assert_int_equal(catalog_put_pit(f->c, &p, NULL), 0);
	assert_int_equal(catalog_list_pits(f->c, &got, &count, NULL), 0);
	assert_int_equal(count, 6);
	assert_pit(&got[0], &p);
	free(got);
}

static void
deleted_points_are_gone_and_missing_ones_no_error(void **state)
{
	static const uint64_t left[] = {2};
	struct fixture *f = *state;
	struct id ids[3];

	for (uint64_t lsn = 1; lsn <= 3; lsn++) {
		struct pit p = some_pit(lsn);

		assert_int_equal(catalog_put_pit(f->c, &p, NULL), 0);
	}
	ids[0] = some_pit(1).id;
	ids[1] = some_pit(99).id;
	ids[2] = some_pit(3).id;
	assert_int_equal(catalog_delete_pits(f->c, ids, 3, NULL), 0);
	assert_int_equal(catalog_delete_pits(f->c, NULL, 0, NULL), 0);
	reopen(f);
	assert_pits(f, left, 1);
}

static void
policy_is_replaced_as_a_whole(void **state)
{
	struct fixture *f = *state;
	struct policy p = {.rule_count = PIT_RULES_MAX, .journal_window_ns = 5}, got;

	for (uint32_t i = 0; i < PIT_RULES_MAX; i++)
		p.rules[i] = (struct pit_rule){i + 1, "HOUR", i, 2 * i, i % 2 == 0};
	assert_int_equal(catalog_set_policy(f->c, &p, NULL), 0);
	reopen(f);
	assert_int_equal(catalog_get_policy(f->c, &got, NULL), 0);
	assert_memory_equal(&got, &p, sizeof p);
	p = (struct policy){.rules = {{1, "DAY", 1, 2, true}}, .rule_count = 1, .journal_window_ns = 6};
	assert_int_equal(catalog_set_policy(f->c, &p, NULL), 0);
	assert_int_equal(catalog_get_policy(f->c, &got, NULL), 0);
	assert_memory_equal(&got, &p, sizeof p);
}

/* ---- fold and base ---- */

static void
fold_takes_the_points_before_it_in_the_same_transaction(void **state)
{
	static const uint64_t left[] = {7, 8};
	struct fixture *f = *state;
	struct catalog_source s;

	for (uint64_t lsn = 4; lsn <= 8; lsn++) {
		struct pit p = some_pit(lsn);

		if (lsn != 6) /* it would be held */
			assert_int_equal(catalog_put_pit(f->c, &p, NULL), 0);
	}
	assert_int_equal(catalog_set_fold(f->c, 7, NULL), 0);
	assert_int_equal(catalog_set_fold(f->c, 3, NULL), 0); /* never less */
	reopen(f);
	assert_pits(f, left, 2);
	assert_int_equal(catalog_get_source(f->c, &s, NULL), 0);
	assert_int_equal(s.fold_lsn, 7);
	assert_int_equal(s.base_lsn, 0);
}

static void
fold_past_a_held_point_is_refused_and_changes_nothing(void **state)
{
	static const uint64_t all[] = {2, 3};
	struct fixture *f = *state;
	struct catalog_source s;
	struct hf_error err;

	for (uint64_t lsn = 2; lsn <= 3; lsn++) { /* 3 is held */
		struct pit p = some_pit(lsn);

		assert_int_equal(catalog_put_pit(f->c, &p, NULL), 0);
	}
	assert_int_equal(catalog_set_fold(f->c, 4, &err), -EBUSY);
	assert_pits(f, all, 2);
	assert_int_equal(catalog_get_source(f->c, &s, NULL), 0);
	assert_int_equal(s.fold_lsn, 0);
	assert_int_equal(catalog_set_fold(f->c, 3, NULL), 0);
}

static void
base_moves_forward_and_only_where_a_fold_has_begun(void **state)
{
	struct fixture *f = *state;
	struct catalog_source s;
	struct hf_error err;

	assert_int_equal(catalog_set_base(f->c, 10, &err), -EINVAL);
	assert_int_equal(catalog_set_fold(f->c, 10, NULL), 0);
	assert_int_equal(catalog_set_base(f->c, 10, NULL), 0);
	assert_int_equal(catalog_set_base(f->c, 10, NULL), 0);
	assert_int_equal(catalog_set_base(f->c, 9, &err), -EINVAL);
	reopen(f);
	assert_int_equal(catalog_get_source(f->c, &s, NULL), 0);
	assert_int_equal(s.base_lsn, 10);
}

/* ---- threads ---- */

struct writer {
	struct catalog *c;
	uint64_t first;
};

static void *
write_points(void *arg)
{
	struct writer *w = arg;

	for (uint64_t lsn = w->first; lsn < w->first + 20; lsn++) {
		struct pit p = some_pit(lsn);

		if (catalog_put_pit(w->c, &p, NULL) != 0)
			return w;
	}
	return NULL;
}

static void
threads_share_it(void **state)
{
	struct fixture *f = *state;
	struct writer w[4];
	pthread_t threads[4];
	uint64_t lsns[80];

	for (uint64_t i = 0; i < 4; i++) {
		w[i] = (struct writer){f->c, 1 + 20 * i};
		assert_int_equal(pthread_create(&threads[i], NULL, write_points, &w[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		void *failed;

		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	for (uint64_t i = 0; i < 80; i++)
		lsns[i] = i + 1;
	assert_pits(f, lsns, 80);
}

/* ---- power ---- */

/* Cut a fold's two transactions at operation n of a simulated disk: each is done or not, and in order. False if nothing
 * was cut. */
static bool
cut_at(uint64_t n)
{
	struct catalog_source s = some_source();
	struct pit p = some_pit(4), *pits = NULL;
	struct catalog *c = NULL;
	struct disk *disk;
	bool cut, begun = false, moved = false;
	size_t count;

	assert_int_equal(disk_sim_create(n, &disk), 0);
	assert_int_equal(catalog_vfs_register(disk, "cut"), 0);
	assert_int_equal(catalog_open("/catalog.db", "cut", true, &s, &c, NULL), 0);
	assert_int_equal(disk_sync_dir(disk, "/"), 0);
	assert_int_equal(catalog_put_pit(c, &p, NULL), 0);
	disk_sim_cut_at(disk, n);
	begun = catalog_set_fold(c, 5, NULL) == 0;
	moved = begun && catalog_set_base(c, 5, NULL) == 0;
	cut = disk_sim_is_cut(disk);
	catalog_close(c);
	disk_sim_cut_at(disk, 0);
	disk_sim_restart(disk, SIM_SURVIVE_RANDOM, n);
	assert_int_equal(catalog_open("/catalog.db", "cut", false, NULL, &c, NULL), 0);
	assert_int_equal(catalog_get_source(c, &s, NULL), 0);
	assert_int_equal(catalog_list_pits(c, &pits, &count, NULL), 0);
	assert_true(s.fold_lsn == 5 || (!begun && s.fold_lsn == 0));
	assert_int_equal(count, s.fold_lsn == 5 ? 0 : 1);
	assert_true(s.base_lsn == 5 || (!moved && s.base_lsn == 0));
	assert_true(s.base_lsn <= s.fold_lsn);
	free(pits);
	catalog_close(c);
	catalog_vfs_unregister("cut");
	disk_destroy(disk);
	return cut;
}

static void
cut_anywhere_leaves_each_change_done_or_not(void **state)
{
	uint64_t n = 1;

	while (cut_at(n))
		n++;
	assert_true(n > 4);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(new_catalog_knows_its_source_and_the_default_policy, setup, teardown),
	    cmocka_unit_test_setup_teardown(catalog_that_is_there_is_not_created_again, setup, teardown),
	    cmocka_unit_test_setup_teardown(catalog_is_open_once_at_a_time, setup, teardown),
	    cmocka_unit_test_setup_teardown(missing_catalog_is_not_made_by_opening_it, setup, teardown),
	    cmocka_unit_test_setup_teardown(newer_or_foreign_or_damaged_catalog_is_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(rows_that_make_no_sense_are_corruption, setup, teardown),
	    cmocka_unit_test_setup_teardown(volumes_are_kept_by_number, setup, teardown),
	    cmocka_unit_test_setup_teardown(points_are_listed_in_order_and_replaced_by_id, setup, teardown),
	    cmocka_unit_test_setup_teardown(deleted_points_are_gone_and_missing_ones_no_error, setup, teardown),
	    cmocka_unit_test_setup_teardown(policy_is_replaced_as_a_whole, setup, teardown),
	    cmocka_unit_test_setup_teardown(fold_takes_the_points_before_it_in_the_same_transaction, setup, teardown),
	    cmocka_unit_test_setup_teardown(fold_past_a_held_point_is_refused_and_changes_nothing, setup, teardown),
	    cmocka_unit_test_setup_teardown(base_moves_forward_and_only_where_a_fold_has_begun, setup, teardown),
	    cmocka_unit_test_setup_teardown(threads_share_it, setup, teardown),
	    cmocka_unit_test(cut_anywhere_leaves_each_change_done_or_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
