/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite on the simulated disk: whatever was committed when the power failed is there afterwards,
 * whole. */
#include "storage/catalog_vfs.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "storage/disk_sim.h"

enum { TRANSACTIONS = 12, CUTS_MAX = 5000, SEEDS_PER_CUT = 3 };

static const char *const wal_mode = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL;"
				    "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=8;";
/* EXTRA: with FULL alone SQLite does not sync the directory after deleting the journal, which is
 * the commit. */
static const char *const rollback_mode = "PRAGMA journal_mode=DELETE; PRAGMA synchronous=EXTRA;";

struct machine {
	struct disk *disk;
	sqlite3 *db;
	const char *mode;
	int committed; /* transactions known to be durable */
};

static int
run_sql(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static int
open_database(struct machine *m)
{
	int r = sqlite3_open_v2("/data/catalog.db", &m->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "sim");

	return r == SQLITE_OK ? run_sql(m->db, m->mode) : r;
}

static void
close_database(struct machine *m)
{
	assert_int_equal(sqlite3_close(m->db), SQLITE_OK);
	m->db = NULL;
}

static void
boot(struct machine *m, uint64_t seed, const char *mode)
{
	*m = (struct machine){.mode = mode};
	assert_int_equal(disk_sim_create(seed, &m->disk), 0);
	assert_int_equal(disk_mkdir(m->disk, "/data"), 0);
	assert_int_equal(disk_sync_dir(m->disk, "/"), 0);
	assert_int_equal(catalog_vfs_register(m->disk, "sim"), 0);
}

static void
halt(struct machine *m)
{
	catalog_vfs_unregister("sim");
	disk_destroy(m->disk);
}

/* Transaction n: two rows, one of them larger than a page. Both or none must be found. */
static int
commit_rows(struct machine *m, int n)
{
	char sql[200];

	snprintf(sql, sizeof sql,
	    "BEGIN IMMEDIATE; INSERT INTO t VALUES(%d, 'a', zeroblob(%d));"
	    "INSERT INTO t VALUES(%d, 'b', randomblob(%d)); COMMIT",
	    n, n * 100, n, n * 700);
	return run_sql(m->db, sql);
}

/* Until the power fails, or the end. Returns whether it got there. */
static bool
run_scenario(struct machine *m)
{
	if (open_database(m) != SQLITE_OK)
		return false;
	if (run_sql(m->db, "CREATE TABLE t(n INTEGER, part TEXT, data BLOB, PRIMARY KEY(n, part))") != SQLITE_OK)
		return false;
	for (int n = 1; n <= TRANSACTIONS; n++) {
		if (commit_rows(m, n) != SQLITE_OK)
			return false;
		m->committed = n;
		if (n == 6 && run_sql(m->db, "DELETE FROM t WHERE n < 0; VACUUM") != SQLITE_OK)
			return false;
	}
	return true;
}

static int
on_text(void *arg, int columns, char **values, char **names)
{
	snprintf(arg, 100, "%s", values[0] != NULL ? values[0] : "");
	return 0;
}

static void
check_integrity(sqlite3 *db)
{
	char answer[100] = "";

	assert_int_equal(sqlite3_exec(db, "PRAGMA integrity_check", on_text, answer, NULL), SQLITE_OK);
	assert_string_equal(answer, "ok");
}

static int
ask_number(sqlite3 *db, const char *sql)
{
	char answer[100] = "";

	assert_int_equal(sqlite3_exec(db, sql, on_text, answer, NULL), SQLITE_OK);
	return atoi(answer);
}

/* What was acknowledged, and at most the transaction that was under way. */
static void
check_rows(struct machine *m)
{
	int rows, last;

	if (ask_number(m->db, "SELECT count(*) FROM sqlite_schema WHERE name = 't'") == 0) {
		assert_int_equal(m->committed, 0);
		return;
	}
	rows = ask_number(m->db, "SELECT count(*) FROM t");
	last = ask_number(m->db, "SELECT max(n) FROM t");
	assert_int_equal(rows, 2 * last);
	assert_true(last == m->committed || last == m->committed + 1);
	assert_int_equal(ask_number(m->db, "SELECT count(*) FROM t WHERE part = 'a' AND length(data) = n * 100"), last);
	assert_int_equal(ask_number(m->db, "SELECT count(*) FROM t WHERE part = 'b' AND length(data) = n * 700"), last);
}

static void
check_recovery(struct machine *m)
{
	assert_int_equal(open_database(m), SQLITE_OK);
	check_integrity(m->db);
	check_rows(m);
	assert_int_equal(run_sql(m->db, "CREATE TABLE again(n INTEGER); DROP TABLE again"), SQLITE_OK);
	close_database(m);
}

/* Cut at operation `cut`, cut the first recovery too, and see what the second one finds. Returns
 * whether the scenario ended before the cut. */
static bool
run_cut(const char *mode, uint64_t cut, uint64_t seed)
{
	struct machine m;
	bool ended;

	boot(&m, seed, mode);
	disk_sim_cut_at(m.disk, cut);
	ended = run_scenario(&m);
	close_database(&m);
	disk_sim_restart(m.disk, SIM_SURVIVE_RANDOM, seed * 31 + cut);
	disk_sim_cut_at(m.disk, 1 + cut % 11);
	(void)open_database(&m);
	close_database(&m);
	disk_sim_restart(m.disk, SIM_SURVIVE_RANDOM, seed * 37 + cut);
	check_recovery(&m);
	halt(&m);
	return ended;
}

static void
cut_everywhere(const char *mode)
{
	const char *given = getenv("SEED");
	uint64_t first = given != NULL ? strtoull(given, NULL, 0) : 1;

	for (uint64_t seed = first; seed < first + SEEDS_PER_CUT; seed++) {
		uint64_t cut = 1;

		while (cut < CUTS_MAX && !run_cut(mode, cut, seed))
			cut++;
		print_message("seed %llu: %llu cuts\n", (unsigned long long)seed, (unsigned long long)cut);
		assert_true(cut > 5 * TRANSACTIONS);
		assert_true(cut < CUTS_MAX);
	}
}

static void
committed_rows_survive_a_cut_at_every_operation_with_wal(void **state)
{
	cut_everywhere(wal_mode);
}

static void
committed_rows_survive_a_cut_at_every_operation_with_a_rollback_journal(void **state)
{
	cut_everywhere(rollback_mode);
}

static void
rows_are_found_after_a_clean_end(void **state)
{
	struct machine m;

	boot(&m, 1, wal_mode);
	assert_true(run_scenario(&m));
	check_rows(&m);
	close_database(&m);
	disk_sim_restart(m.disk, SIM_SURVIVE_NONE, 1);
	check_recovery(&m);
	halt(&m);
}

static void
a_full_disk_is_reported_as_full_and_rolls_back(void **state)
{
	struct machine m;
	uint64_t free_bytes = 0;

	boot(&m, 1, wal_mode);
	assert_true(run_scenario(&m));
	disk_sim_set_capacity(m.disk, 1 << 30);
	assert_int_equal(disk_free_bytes(m.disk, "/", &free_bytes), 0);
	disk_sim_set_capacity(m.disk, (1 << 30) - free_bytes);
	assert_int_equal(run_sql(m.db, "INSERT INTO t VALUES(99, 'a', zeroblob(1000000))"), SQLITE_FULL);
	disk_sim_set_capacity(m.disk, 0);
	check_integrity(m.db);
	check_rows(&m);
	close_database(&m);
	halt(&m);
}

static void
a_failed_sync_fails_the_commit(void **state)
{
	struct machine m;

	boot(&m, 1, wal_mode);
	assert_true(run_scenario(&m));
	disk_sim_fail(m.disk, 's', 1, false, SIM_FAULT_EIO);
	assert_int_equal(commit_rows(&m, TRANSACTIONS + 1), SQLITE_IOERR);
	close_database(&m);
	disk_sim_restart(m.disk, SIM_SURVIVE_RANDOM, 1);
	check_recovery(&m);
	halt(&m);
}

static void
a_second_connection_is_kept_out_by_locks(void **state)
{
	struct machine m, other;

	boot(&m, 1, wal_mode);
	assert_true(run_scenario(&m));
	other = m;
	assert_int_equal(open_database(&other), SQLITE_BUSY);
	close_database(&other);
	close_database(&m);
	halt(&m);
}

/* The way a catalogue is copied: SQLite's backup API to a second database, with a rollback journal.
 */
static void
a_backup_is_a_whole_database(void **state)
{
	struct machine m;
	sqlite3 *copy;
	sqlite3_backup *backup;

	boot(&m, 1, wal_mode);
	assert_true(run_scenario(&m));
	assert_int_equal(sqlite3_open_v2("/data/copy.db", &copy, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "sim"), 0);
	backup = sqlite3_backup_init(copy, "main", m.db, "main");
	assert_non_null(backup);
	assert_int_equal(sqlite3_backup_step(backup, -1), SQLITE_DONE);
	assert_int_equal(sqlite3_backup_finish(backup), SQLITE_OK);
	close_database(&m);
	m.db = copy;
	/* The copy says of itself that it is a WAL database; such a one opens here only in
	 * exclusive mode. */
	assert_int_equal(run_sql(copy, "PRAGMA locking_mode=EXCLUSIVE"), SQLITE_OK);
	check_integrity(copy);
	check_rows(&m);
	close_database(&m);
	halt(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rows_are_found_after_a_clean_end),
	    cmocka_unit_test(committed_rows_survive_a_cut_at_every_operation_with_wal),
	    cmocka_unit_test(committed_rows_survive_a_cut_at_every_operation_with_a_rollback_journal),
	    cmocka_unit_test(a_full_disk_is_reported_as_full_and_rolls_back),
	    cmocka_unit_test(a_failed_sync_fails_the_commit),
	    cmocka_unit_test(a_second_connection_is_kept_out_by_locks),
	    cmocka_unit_test(a_backup_is_a_whole_database),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
