/* SPDX-License-Identifier: Apache-2.0 */
/* What recovery must refuse, and what it must not rely on. Cuts are the crash test's; here files are lost, bits rot,
 * syncs fail. */
#include "storage/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/status.h"
#include "tests/lib/rig_unit.h"

#define JOURNAL RIG_DIR "/journal"

enum { STEPS = 120 };

/* ---- files ---- */

/* The one that is written to: there may be another, prepared and still empty. */
static void
last_segment(struct rig *g, char *ret_path, size_t size)
{
	struct names n = list(g, JOURNAL, ".seg");
	struct disk_file *f;
	uint64_t bytes, data;

	do {
		assert_true(n.count > 0);
		snprintf(ret_path, size, "%s/%s", JOURNAL, n.list[--n.count]);
		assert_int_equal(disk_open(g->disk, ret_path, DISK_READ, &f), 0);
		assert_int_equal(disk_size(g->disk, f, &bytes), 0);
		assert_int_equal(disk_next_data(g->disk, f, 0, &data), 0);
		disk_close(g->disk, f);
	} while (data == bytes);
}

static void
unlink_name(struct rig *g, const char *dir, const char *name)
{
	char path[256];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	assert_int_equal(disk_unlink(g->disk, path), 0);
}

/* Content of all staging files, to see that a refusal changes nothing. */
static uint64_t
staging_digest(struct rig *g)
{
	struct names n = list(g, RIG_DIR, ".img");
	unsigned char *buf = buffer_alloc(BLOCK_BYTES);
	uint64_t chain = 0;

	for (size_t i = 0; i < n.count; i++) {
		struct disk_file *f;
		uint64_t bytes;
		char path[256];

		snprintf(path, sizeof path, "%s/%s", RIG_DIR, n.list[i]);
		assert_int_equal(disk_open(g->disk, path, DISK_READ, &f), 0);
		assert_int_equal(disk_size(g->disk, f, &bytes), 0);
		for (uint64_t at = 0; at + BLOCK_BYTES <= bytes; at += BLOCK_BYTES) {
			assert_int_equal(disk_read_now(g->disk, f, buf, BLOCK_BYTES, at), 0);
			chain = digest_chain(chain, buf, BLOCK_BYTES);
		}
		disk_close(g->disk, f);
	}
	buffer_free(buf, BLOCK_BYTES);
	return chain;
}

static void
assert_refused(struct rig *g)
{
	uint64_t before = staging_digest(g);
	size_t segments = list(g, JOURNAL, ".seg").count;

	assert_int_equal(rig_open(g), -HF_ECORRUPT);
	assert_null(g->store);
	assert_true(staging_digest(g) == before);
	assert_int_equal(list(g, JOURNAL, ".seg").count, segments);
}

/* A life with points and folds; closed, everything in it durable. */
static void
live(struct rig *g)
{
	for (unsigned i = 0; i < 400 && g->folds == 0; i++)
		rig_step(g);
	settled_steps(g, 10);
	rig_run_jobs(g, 100);
	assert_true(g->folds > 0);
	rig_close(g);
}

/* ---- what is lost ---- */

static void
an_empty_journal_is_not_a_new_one(void **state)
{
	struct rig *g = *state;
	struct names n;

	live(g);
	n = list(g, JOURNAL, "");
	for (size_t i = 0; i < n.count; i++)
		unlink_name(g, JOURNAL, n.list[i]);
	assert_refused(g);
}

static void
a_journal_that_begins_too_late_is_refused(void **state)
{
	struct rig *g = *state;

	live(g);
	for (int i = 0; i < 2; i++) /* the first may be there for the record at the base alone */
		unlink_name(g, JOURNAL, list(g, JOURNAL, ".seg").list[0]);
	assert_refused(g);
}

static void
a_journal_that_ends_before_a_kept_point_is_refused(void **state)
{
	struct rig *g = *state;
	char path[256];

	while (store_newest_consistent(g->store) == NULL)
		settled_steps(g, 1);
	rig_run_jobs(g, 100); /* the policy keeps it */
	rig_close(g);
	last_segment(g, path, sizeof path);
	assert_int_equal(disk_unlink(g->disk, path), 0);
	assert_refused(g);
}

static void
digest_files_that_changed_places_are_refused(void **state)
{
	struct rig *g = *state;
	struct names n;
	char a[256], b[256];

	settled_steps(g, STEPS);
	rig_close(g);
	n = list(g, RIG_DIR, ".sum");
	assert_int_equal(n.count, g->volumes);
	snprintf(a, sizeof a, "%s/%s", RIG_DIR, n.list[0]);
	snprintf(b, sizeof b, "%s/%s", RIG_DIR, n.list[1]);
	assert_int_equal(disk_rename(g->disk, a, RIG_DIR "/x"), 0);
	assert_int_equal(disk_rename(g->disk, b, a), 0);
	assert_int_equal(disk_rename(g->disk, RIG_DIR "/x", b), 0);
	assert_refused(g);
}

/* ---- what rots ---- */

/* Every frame is a group of its own. Without runs, so that the segments are read. */
static void
live_by_single_frames(struct rig *g)
{
	struct names n;

	while (g->sent < 10) {
		rig_step(g);
		rig_settle(g);
	}
	assert_int_equal(g->acked, g->sent);
	rig_close(g);
	n = list(g, JOURNAL, ".run");
	for (size_t i = 0; i < n.count; i++)
		unlink_name(g, JOURNAL, n.list[i]);
}

/* The last group may be lost to a flipped bit, for it looks like a torn one; everything before it was known to be
 * durable when it was written. */
static void
a_flipped_bit_never_shortens_the_journal_silently(void **state)
{
	unsigned refused = 0, opened = 0;

	for (uint64_t at = 0; at < 64 * 1024; at += 509) {
		struct rig *g = start(7);
		uint64_t stream, sequence, chain;
		char path[256];

		live_by_single_frames(g);
		last_segment(g, path, sizeof path);
		if (disk_sim_flip(g->disk, path, at, (unsigned)(at % 8)) == 0) {
			int r = rig_open(g);

			assert_true(r == 0 || r == -HF_ECORRUPT || r == -HF_EFORMAT);
			if (r == 0) {
				store_get_stream(g->store, &stream, &sequence, &chain);
				if (sequence + 1 < g->acked)
					fail_msg("a bit flipped at %llu: %llu frames were acknowledged, %llu came back",
					    (unsigned long long)at, (unsigned long long)g->acked,
					    (unsigned long long)sequence);
			}
			refused += r < 0;
			opened += r == 0;
		}
		rig_stop(g);
		free(g);
	}
	assert_true(refused > 10 && opened > 10);
}

/* ---- what fails ---- */

/* Pages that a failed sync marked clean look well, and the next sync says so too. */
static void
what_a_failed_sync_left_is_not_relied_on(void **state)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct rig *g = start(seed);

		while (store_newest_consistent(g->store) == NULL)
			settled_steps(g, 1);
		disk_sim_fail(g->disk, 's', 1, true, SIM_FAULT_EIO);
		for (unsigned i = 0; i < 200 && !g->failed; i++)
			rig_step(g);
		rig_settle(g);
		assert_true(g->failed);
		disk_sim_fail(g->disk, 's', 1, true, SIM_FAULT_NONE);
		g->fault[0] = '\0';
		rig_close(g);
		assert_int_equal(rig_open(g), 0); /* the machine was not restarted */
		assert_true(rig_check_recovered(g));
		check(g);
		g->sent = g->acked;
		settled_steps(g, 30);
		rig_close(g);
		disk_sim_restart(g->disk, SIM_SURVIVE_NONE, seed);
		assert_int_equal(rig_open(g), 0);
		if (!rig_check_recovered(g))
			fail_msg("seed %llu: %s", (unsigned long long)seed, g->fault);
		check(g);
		rig_stop(g);
		free(g);
	}
}

/* Killed at every operation of a life; the next process is cut off in the middle of its recovery. */
static void
nothing_is_lost_to_a_kill_and_then_a_cut(void **state)
{
	bool more = true;

	for (uint64_t at = 1; more; at += 7) {
		struct rig *g = start(3);

		disk_sim_cut_at(g->disk, at);
		for (unsigned i = 0; i < 150 && !disk_sim_is_cut(g->disk); i++)
			rig_step(g);
		more = disk_sim_is_cut(g->disk);
		rig_close(g);
		g->fault[0] = '\0';
		disk_sim_revive(g->disk);
		disk_sim_cut_at(g->disk, 1 + at % 40);
		(void)rig_open(g);
		rig_close(g);
		g->fault[0] = '\0';
		disk_sim_restart(g->disk, (enum sim_survival)(at % 2), at);
		assert_int_equal(rig_open(g), 0);
		if (!rig_check_recovered(g))
			fail_msg("killed at %llu: %s", (unsigned long long)at, g->fault);
		check(g);
		rig_stop(g);
		free(g);
	}
}

static uint64_t
read_fold_lsn(struct catalog *c)
{
	struct catalog_source facts;
	struct hf_error err;

	assert_int_equal(catalog_get_source(c, &facts, &err), 0);
	return facts.fold_lsn;
}

/* A killed process may leave a commit in SQLite's log that was never synced. Who has seen it acts on it: it must stay.
 */
static void
a_commit_that_was_seen_is_not_lost_to_a_cut(void **state)
{
	static const char path[] = RIG_DIR "/catalog.db";
	struct rig *g = *state;
	struct hf_error err;
	unsigned seen = 0;

	settled_steps(g, 30);
	rig_close(g);
	for (uint64_t at = 1; at < 24; at++) {
		struct catalog *c;
		uint64_t lsn;

		assert_int_equal(catalog_open(path, g->vfs, false, NULL, &c, &err), 0);
		disk_sim_cut_at(g->disk, at);
		(void)catalog_set_fold(c, at, &err);
		disk_sim_cut_at(g->disk, 1);
		catalog_close(c);
		disk_sim_revive(g->disk);
		assert_int_equal(catalog_open(path, g->vfs, false, NULL, &c, &err), 0);
		lsn = read_fold_lsn(c);
		seen += lsn == at;
		disk_sim_cut_at(g->disk, 1);
		catalog_close(c);
		disk_sim_restart(g->disk, SIM_SURVIVE_NONE, at);
		assert_int_equal(catalog_open(path, g->vfs, false, NULL, &c, &err), 0);
		assert_int_equal(read_fold_lsn(c), lsn);
		catalog_close(c);
	}
	assert_true(seen > 0);
}

/* ---- offline ---- */

/* A fold had removed some of the segments when the power went, not in order. */
static void
offline_a_gap_before_the_fold_is_no_damage(void **state)
{
	struct rig *g = *state;
	struct store_job *job;
	struct hf_error err;
	struct store *s;
	struct names n;
	struct view *v;

	assert_int_equal(store_view(g->store, UINT64_MAX, &v), 0); /* no fold before there is much to fold */
	settled_steps(g, 250);
	rig_run_jobs(g, 100);
	store_view_release(g->store, v);
	job = store_job_next(g->store);
	assert_string_equal(store_job_name(job), "fold");
	n = list(g, JOURNAL, ".seg");
	disk_sim_fail(g->disk, 'u', 1, true, SIM_FAULT_EIO); /* folded, nothing removed */
	store_job_run(job, g->disk, g->cache);
	disk_sim_fail(g->disk, 'u', 1, true, SIM_FAULT_NONE);
	store_job_finish(g->store, job, false);
	rig_close(g);
	unlink_name(g, JOURNAL, n.list[1]);
	if (store_open_offline(g->disk, RIG_DIR, &s, &err) < 0)
		fail_msg("%s", err.text);
	g->store = s;
	if (!rig_check_newest(g))
		fail_msg("%s", g->fault);
	g->store = NULL;
	store_close(s, g->disk);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(an_empty_journal_is_not_a_new_one),
	    TEST(a_journal_that_begins_too_late_is_refused),
	    TEST(a_journal_that_ends_before_a_kept_point_is_refused),
	    TEST(digest_files_that_changed_places_are_refused),
	    cmocka_unit_test(a_flipped_bit_never_shortens_the_journal_silently),
	    cmocka_unit_test(what_a_failed_sync_left_is_not_relied_on),
	    cmocka_unit_test(nothing_is_lost_to_a_kill_and_then_a_cut),
	    TEST(a_commit_that_was_seen_is_not_lost_to_a_cut),
	    TEST(offline_a_gap_before_the_fold_is_no_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
