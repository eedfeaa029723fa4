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
#include "storage/segment.h"
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
	tamper(f, "PRAGMA user_version = 2; PRAGMA application_id = 7");
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

	tamper(f, "DELETE FROM seal; INSERT INTO rule VALUES (9, 9, 'FORTNIGHTS', 1, 1, 1);"
		  "INSERT INTO volume VALUES (1, 'no id', 1, 0, 0, '', '', '', 0, 0);"
		  "INSERT INTO pit (id, lsn, time_ns, planned_ns, rules, held, by_hand, verified_ns, name, "
		  "unchanged_until_ns, "
		  "checkpoint) VALUES ('pit-0123456789abcdef0', 1, 1, 1, 0, 0, 0, 0, '', 1, x'00')");
	assert_int_equal(catalog_open(f->path, NULL, false, NULL, &f->c, NULL), 0);
	assert_int_equal(catalog_get_policy(f->c, &policy, NULL), -HF_ECORRUPT);
	assert_int_equal(catalog_list_volumes(f->c, volumes, 4, &count, NULL), -HF_ECORRUPT);
	assert_int_equal(catalog_list_pits(f->c, &pits, &count, NULL), -HF_ECORRUPT);
}

static void
rows_that_we_did_not_write_are_corruption(void **state)
{
	struct fixture *f = *state;
	struct hf_error err;

	assert_int_equal(catalog_set_frozen(f->c, 5, &err), 0); /* a change of its own renews the seal */
	reopen(f);
	tamper(f, "UPDATE source SET base_lsn = base_lsn + 1");
	assert_int_equal(catalog_open(f->path, NULL, false, NULL, &f->c, &err), -HF_ECORRUPT);
	assert_non_null(strstr(err.text, "not those that were written"));
	tamper(f, "DELETE FROM seal"); /* by hand, and meant so */
	reopen(f);
	assert_int_equal(catalog_set_frozen(f->c, 6, &err), 0);
	tamper(f, "UPDATE source SET base_lsn = base_lsn - 1");
	assert_int_equal(catalog_open(f->path, NULL, false, NULL, &f->c, &err), -HF_ECORRUPT);
	tamper(f, "ALTER TABLE seal RENAME TO sea");
	assert_int_equal(catalog_open(f->path, NULL, false, NULL, &f->c, &err), -HF_ECORRUPT);
	assert_non_null(strstr(err.text, "its seal is gone"));
}

/* The seal is of rows: of the words that name them SQLite alone knows. */
static void
columns_that_go_by_other_names_are_corruption(void **state)
{
	struct fixture *f = *state;
	struct catalog_source source;
	struct hf_error err;

	tamper(f, "ALTER TABLE source RENAME COLUMN base_lsn TO base_lsm");
	assert_int_equal(catalog_open(f->path, NULL, false, NULL, &f->c, &err), 0);
	assert_int_equal(catalog_get_source(f->c, &source, &err), -HF_ECORRUPT);
	assert_non_null(strstr(err.text, "base_lsn"));
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
	    .id = checkpoint_pit_id(&source, lsn, 0),
	    .lsn = lsn,
	    .time_ns = 1000000000000000000 + (int64_t)lsn,
	    .planned_ns = 999999999999999999,
	    .rules = (uint32_t)lsn % 8,
	    .by_hand = lsn % 2 == 0,
	    .held = lsn % 3 == 0,
	    .verified_ns = lsn % 4 == 0 ? 1111111111111111111 : 0,
	    .running_ns = 5000 + (int64_t)lsn,
	    .guarded_ns = 6000 + (int64_t)lsn,
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
	assert_int_equal(a->verified_ns, b->verified_ns);
	assert_int_equal(a->running_ns, b->running_ns);
	assert_int_equal(a->guarded_ns, b->guarded_ns);
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
a_deleted_volume_keeps_its_row_and_takes_its_points(void **state)
{
	struct fixture *f = *state;
	struct catalog_volume v[2] = {some_volume(1), some_volume(2)}, got[4];
	struct pit a = some_pit(10), b = some_pit(20), *left;
	const uint64_t first = 1;
	size_t count;

	v[0].retired = true;
	v[1].retired = false;
	assert_int_equal(catalog_put_volume(f->c, &v[0], NULL), 0);
	assert_int_equal(catalog_put_volume(f->c, &v[1], NULL), 0);
	assert_int_equal(catalog_set_equal(f->c, &first, 1, 77, NULL), 0);
	assert_int_equal(catalog_put_pit(f->c, &a, NULL), 0);
	assert_int_equal(catalog_put_pit(f->c, &b, NULL), 0);
	assert_int_equal(catalog_delete_volume(f->c, 2, &b.id, 1, NULL), -ENOENT); /* declared: nothing is changed */
	assert_int_equal(catalog_delete_volume(f->c, 1, &a.id, 1, NULL), 0);
	reopen(f);
	assert_int_equal(catalog_list_volumes(f->c, got, 4, &count, NULL), 0);
	assert_int_equal(count, 2);
	assert_true(got[0].deleted && !got[1].deleted);
	assert_true(got[0].equal_ns == 77 && got[1].equal_ns == 0);
	assert_int_equal(catalog_list_pits(f->c, &left, &count, NULL), 0);
	assert_int_equal(count, 1);
	assert_int_equal(left[0].lsn, 20);
	free(left);
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
freeze_and_limits_of_space_are_remembered(void **state)
{
	struct fixture *f = *state;
	struct catalog_source s;

	assert_int_equal(catalog_get_source(f->c, &s, NULL), 0);
	assert_true(s.frozen_ns == 0 && s.quota_bytes == 0 && s.when_full == WHEN_FULL_DEFAULT);
	assert_int_equal(catalog_set_frozen(f->c, 1234567890123456789, NULL), 0);
	assert_int_equal(catalog_set_space(f->c, (uint64_t)5 << 40, WHEN_FULL_THIN, NULL), 0);
	reopen(f);
	assert_int_equal(catalog_get_source(f->c, &s, NULL), 0);
	assert_int_equal(s.frozen_ns, 1234567890123456789);
	assert_int_equal(s.quota_bytes, (uint64_t)5 << 40);
	assert_int_equal(s.when_full, WHEN_FULL_THIN);
}

static void
policy_is_replaced_as_a_whole(void **state)
{
	struct fixture *f = *state;
	struct policy p = {.rule_count = PIT_RULES_MAX, .journal_window_ns = 5, .min_retention_ns = 7}, got;

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

/* ---- earlier versions ---- */

/* As version 1 made it: a policy, a volume and two points, the newer one of which was read back. */
static const char version_1[] =
    "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
    "PRAGMA application_id = 1212564289; PRAGMA user_version = 1;"
    "CREATE TABLE source (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, digest_seed INTEGER NOT NULL,"
    " base_lsn INTEGER NOT NULL, fold_lsn INTEGER NOT NULL, created_ns INTEGER NOT NULL, window_ns INTEGER NOT NULL)"
    " STRICT;"
    "CREATE TABLE rule (position INTEGER PRIMARY KEY, rule_id INTEGER NOT NULL, unit TEXT NOT NULL, interval INTEGER"
    " NOT NULL, retention INTEGER NOT NULL, enabled INTEGER NOT NULL) STRICT;"
    "CREATE TABLE volume (volume INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, size_bytes INTEGER NOT NULL, boot_disk"
    " INTEGER NOT NULL, retired INTEGER NOT NULL, identity TEXT NOT NULL, name TEXT NOT NULL, device_name TEXT NOT"
    " NULL) STRICT;"
    "CREATE TABLE pit (id TEXT PRIMARY KEY, lsn INTEGER NOT NULL, time_ns INTEGER NOT NULL, planned_ns INTEGER NOT"
    " NULL, rules INTEGER NOT NULL, held INTEGER NOT NULL, by_hand INTEGER NOT NULL, verified INTEGER NOT NULL, name"
    " TEXT NOT NULL, unchanged_until_ns INTEGER NOT NULL, checkpoint BLOB NOT NULL) STRICT;"
    "CREATE INDEX pit_by_lsn ON pit (lsn);"
    "INSERT INTO source VALUES (1, 's-0123456789abcdef0', 99, 5, 6, 7, 3600);"
    "INSERT INTO rule VALUES (0, 4, 'DAY', 1, 7, 1);";

/* Points as today's code encodes the checkpoint, in rows of version 1. */
static void
put_version_1_pit(sqlite3 *db, const struct pit *p, bool verified)
{
	unsigned char blob[CHECKPOINT_BYTES_MAX];
	size_t len = checkpoint_encode(blob, &p->checkpoint);
	sqlite3_stmt *q;

	assert_int_equal(
	    sqlite3_prepare_v2(db, "INSERT INTO pit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", -1, &q, NULL),
	    SQLITE_OK);
	sqlite3_bind_text(q, 1, p->id.text, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 2, (int64_t)p->lsn);
	sqlite3_bind_int64(q, 3, p->time_ns);
	sqlite3_bind_int64(q, 4, p->planned_ns);
	sqlite3_bind_int64(q, 5, p->rules);
	sqlite3_bind_int64(q, 6, p->held);
	sqlite3_bind_int64(q, 7, p->by_hand);
	sqlite3_bind_int64(q, 8, verified);
	sqlite3_bind_text(q, 9, p->name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 10, p->checkpoint.unchanged_until_ns);
	sqlite3_bind_blob(q, 11, blob, (int)len, SQLITE_STATIC);
	assert_int_equal(sqlite3_step(q), SQLITE_DONE);
	sqlite3_finalize(q);
}

static void
make_version_1(const char *path, const char *vfs)
{
	struct pit older = some_pit(12), newer = some_pit(14);
	sqlite3 *db;

	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, vfs), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, version_1, NULL, NULL, NULL), SQLITE_OK);
	put_version_1_pit(db, &older, false);
	put_version_1_pit(db, &newer, true);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Everything is there, and what version 1 did not know is as the page about formats says. */
static void
check_converted(struct catalog *c)
{
	struct pit expected[2] = {some_pit(12), some_pit(14)}, *got;
	struct catalog_source s;
	struct policy policy;
	size_t count;

	assert_int_equal(catalog_get_source(c, &s, NULL), 0);
	assert_true(s.digest_seed == 99 && s.base_lsn == 5 && s.fold_lsn == 6 && s.created_ns == 7);
	assert_true(s.frozen_ns == 0 && s.quota_bytes == 0 && s.when_full == WHEN_FULL_DEFAULT);
	assert_int_equal(catalog_get_policy(c, &policy, NULL), 0);
	assert_true(policy.rule_count == 1 && policy.rules[0].rule_id == 4 && policy.journal_window_ns == 3600);
	assert_int_equal(policy.min_retention_ns, 0);
	assert_int_equal(catalog_list_pits(c, &got, &count, NULL), 0);
	assert_int_equal(count, 2);
	for (size_t i = 0; i < 2; i++) {
		expected[i].running_ns = expected[i].time_ns;
		expected[i].guarded_ns = 0;
		expected[i].verified_ns = i == 1 ? expected[i].time_ns : 0;
		assert_pit(&got[i], &expected[i]);
	}
	free(got);
}

static void
catalog_of_version_1_is_converted_once(void **state)
{
	struct fixture *f = *state;

	catalog_close(f->c);
	f->c = NULL;
	assert_int_equal(unlink(f->path), 0);
	make_version_1(f->path, NULL);
	for (int i = 0; i < 2; i++) {
		reopen(f);
		check_converted(f->c);
	}
}

/* Cut the conversion at operation n of a simulated disk: whatever is left, opening it again ends well. */
static bool
conversion_cut_at(uint64_t n)
{
	struct catalog *c = NULL;
	struct disk *disk;
	bool cut;
	int r;

	assert_int_equal(disk_sim_create(n, &disk), 0);
	assert_int_equal(catalog_vfs_register(disk, "cut"), 0);
	make_version_1("/catalog.db", "cut");
	assert_int_equal(disk_sync_dir(disk, "/"), 0);
	disk_sim_cut_at(disk, n);
	r = catalog_open("/catalog.db", "cut", false, NULL, &c, NULL);
	cut = disk_sim_is_cut(disk);
	assert_true(r == 0 || cut);
	if (r == 0)
		catalog_close(c);
	disk_sim_cut_at(disk, 0);
	disk_sim_restart(disk, SIM_SURVIVE_RANDOM, n);
	assert_int_equal(catalog_open("/catalog.db", "cut", false, NULL, &c, NULL), 0);
	check_converted(c);
	catalog_close(c);
	catalog_vfs_unregister("cut");
	disk_destroy(disk);
	return cut;
}

static void
conversion_that_was_cut_anywhere_is_done_again(void **state)
{
	uint64_t n = 1;

	(void)state;
	while (conversion_cut_at(n))
		n++;
	assert_true(n > 10);
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

/* ---- what SQLite may answer ---- */

static struct disk *
begin_on_simulated_disk(struct catalog **ret_catalog)
{
	struct catalog_source s = some_source();
	struct disk *disk;

	assert_int_equal(disk_sim_create(1, &disk), 0);
	assert_int_equal(catalog_vfs_register(disk, "sim"), 0);
	assert_int_equal(catalog_open("/catalog.db", "sim", true, &s, ret_catalog, NULL), 0);
	assert_int_equal(disk_sync_dir(disk, "/"), 0);
	return disk;
}

static void
end_on_simulated_disk(struct disk *disk, struct catalog *c)
{
	catalog_close(c);
	catalog_vfs_unregister("sim");
	disk_destroy(disk);
}

static size_t
count_points(struct catalog *c)
{
	struct pit *pits;
	size_t count;

	assert_int_equal(catalog_list_pits(c, &pits, &count, NULL), 0);
	free(pits);
	return count;
}

/* The nth call of two changes is answered so: each change is done and told, or refused and not done, and the next one
 * is made; of one that is damaged when it was opened again. False: there were fewer calls. */
static bool
answered(int answer, uint64_t n, int status)
{
	struct pit first = some_pit(4), second = some_pit(5), third = some_pit(6);
	struct catalog *c;
	struct disk *disk = begin_on_simulated_disk(&c);
	bool struck;
	int r, r2;

	catalog_vfs_fail("sim", answer, n, false);
	r = catalog_put_pit(c, &first, NULL);
	r2 = catalog_put_pit(c, &second, NULL);
	struck = catalog_vfs_struck("sim") > 0;
	catalog_vfs_fail("sim", SQLITE_OK, 0, false);
	assert_true(r == 0 || r == status);
	assert_true(r2 == 0 || r2 == status);
	assert_int_equal(count_points(c), (r == 0) + (r2 == 0));
	assert_int_equal(catalog_is_damaged(c), (r < 0 || r2 < 0) && status == -HF_ECORRUPT);
	if (!catalog_is_damaged(c))
		assert_int_equal(catalog_put_pit(c, &third, NULL), 0);
	catalog_close(c);
	assert_int_equal(catalog_open("/catalog.db", "sim", false, NULL, &c, NULL), 0);
	assert_int_equal(catalog_put_pit(c, &third, NULL), 0);
	assert_int_equal(count_points(c), 1 + (r == 0) + (r2 == 0));
	end_on_simulated_disk(disk, c);
	return struck;
}

static void
any_answer_of_sqlite_is_told_and_leaves_each_change_done_or_not(void **state)
{
	static const struct {
		int answer, status;
	} answers[] = {{SQLITE_CORRUPT, -HF_ECORRUPT}, {SQLITE_NOMEM, -ENOMEM}};

	(void)state;
	for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
		uint64_t n = 1;

		while (answered(answers[i].answer, n, answers[i].status))
			n++;
		assert_true(n > 10);
	}
}

/* In WAL mode, and exclusive, locks are taken when it is opened, and never again. */
static void
catalog_that_is_busy_is_told_as_such_and_opened_later(void **state)
{
	struct catalog *c;
	struct disk *disk = begin_on_simulated_disk(&c);
	uint64_t n = 1;
	int r = -EBUSY;

	(void)state;
	for (; r < 0; n++) {
		catalog_close(c);
		c = NULL;
		catalog_vfs_fail("sim", SQLITE_BUSY, n, false);
		r = catalog_open("/catalog.db", "sim", false, NULL, &c, NULL);
		assert_true(r == -EBUSY || catalog_vfs_struck("sim") == 0);
	}
	assert_true(n > 2);
	end_on_simulated_disk(disk, c);
}

/* More of them than SQLite's own cache would hold. */
static void
add_many_points(void)
{
	static const char sql[] =
	    "PRAGMA locking_mode = EXCLUSIVE; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < "
	    "3000)"
	    " INSERT INTO pit (id, lsn, time_ns, planned_ns, rules, held, by_hand, verified_ns, name,"
	    " unchanged_until_ns, checkpoint, running_ns, guarded_ns)"
	    " SELECT printf('pit-%017d', i), i, 0, 0, 0, 0, 0, 0, 'needle', 0, zeroblob(1000), 0, 0 FROM n;"
	    "DELETE FROM seal";
	sqlite3 *db;

	assert_int_equal(sqlite3_open_v2("/catalog.db", &db, SQLITE_OPEN_READWRITE, "sim"), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* In every page that has one. */
static unsigned
flip_needles(struct disk *disk)
{
	unsigned char *page = buffer_alloc(DISK_ALIGN);
	struct disk_file *f;
	unsigned flipped = 0;
	uint64_t bytes;

	assert_int_equal(disk_open(disk, "/catalog.db", DISK_READ, &f), 0);
	assert_int_equal(disk_size(disk, f, &bytes), 0);
	for (uint64_t at = 0; at + DISK_ALIGN <= bytes; at += DISK_ALIGN) {
		const unsigned char *needle;

		assert_int_equal(disk_read_now(disk, f, page, DISK_ALIGN, at), 0);
		needle = memmem(page, DISK_ALIGN, "needle", 6);
		if (needle == NULL)
			continue;
		assert_int_equal(disk_sim_flip(disk, "/catalog.db", at + (uint64_t)(needle - page), 1), 0);
		flipped++;
	}
	disk_close(disk, f);
	buffer_free(page, DISK_ALIGN);
	return flipped;
}

static void
rot_under_an_open_catalog_gets_no_new_seal(void **state)
{
	struct catalog *c;
	struct disk *disk = begin_on_simulated_disk(&c);

	(void)state;
	catalog_close(c);
	add_many_points();
	assert_int_equal(catalog_open("/catalog.db", "sim", false, NULL, &c, NULL), 0);
	assert_int_equal(catalog_set_frozen(c, 5, NULL), 0); /* seals it */
	catalog_close(c);
	assert_int_equal(catalog_open("/catalog.db", "sim", false, NULL, &c, NULL), 0);
	assert_true(flip_needles(disk) > 500);
	assert_int_equal(catalog_set_frozen(c, 6, NULL), 0);
	catalog_close(c);
	assert_int_equal(catalog_open("/catalog.db", "sim", false, NULL, &c, NULL), -HF_ECORRUPT);
	end_on_simulated_disk(disk, NULL);
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
	    cmocka_unit_test_setup_teardown(rows_that_we_did_not_write_are_corruption, setup, teardown),
	    cmocka_unit_test_setup_teardown(columns_that_go_by_other_names_are_corruption, setup, teardown),
	    cmocka_unit_test_setup_teardown(volumes_are_kept_by_number, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_deleted_volume_keeps_its_row_and_takes_its_points, setup, teardown),
	    cmocka_unit_test_setup_teardown(points_are_listed_in_order_and_replaced_by_id, setup, teardown),
	    cmocka_unit_test_setup_teardown(deleted_points_are_gone_and_missing_ones_no_error, setup, teardown),
	    cmocka_unit_test_setup_teardown(freeze_and_limits_of_space_are_remembered, setup, teardown),
	    cmocka_unit_test_setup_teardown(policy_is_replaced_as_a_whole, setup, teardown),
	    cmocka_unit_test_setup_teardown(fold_takes_the_points_before_it_in_the_same_transaction, setup, teardown),
	    cmocka_unit_test_setup_teardown(fold_past_a_held_point_is_refused_and_changes_nothing, setup, teardown),
	    cmocka_unit_test_setup_teardown(base_moves_forward_and_only_where_a_fold_has_begun, setup, teardown),
	    cmocka_unit_test_setup_teardown(threads_share_it, setup, teardown),
	    cmocka_unit_test_setup_teardown(catalog_of_version_1_is_converted_once, setup, teardown),
	    cmocka_unit_test(conversion_that_was_cut_anywhere_is_done_again),
	    cmocka_unit_test(cut_anywhere_leaves_each_change_done_or_not),
	    cmocka_unit_test(any_answer_of_sqlite_is_told_and_leaves_each_change_done_or_not),
	    cmocka_unit_test(catalog_that_is_busy_is_told_as_such_and_opened_later),
	    cmocka_unit_test(rot_under_an_open_catalog_gets_no_new_seal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
