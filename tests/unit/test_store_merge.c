/* SPDX-License-Identifier: Apache-2.0 */
/* Merges in a store: what can be read afterwards, what damage to a merged run means, and what a merge that fails, is
 * told to end, or is killed leaves. Cuts of whole lives are the crash test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "proto/common/status.h"
#include "storage/catalog_vfs.h"
#include "storage/punch.h"
#include "storage/run.h"
#include "storage/scrub.h"
#include "storage/segment.h"
#include "storage/store_impl.h"
#include "tests/lib/rig_unit.h"

#define JOURNAL RIG_DIR "/journal"

enum { STEPS = 240, SEED = 8 };

/* A life with merged runs in it, at rest. */
static struct rig *
live(uint64_t seed)
{
	struct rig *g = calloc(1, sizeof *g);

	assert_non_null(g);
	rig_create(g, seed, RIG_KEEPER);
	assert_int_equal(rig_open(g), 0);
	for (unsigned i = 0; i < STEPS && g->fault[0] == '\0'; i++)
		rig_step(g);
	rig_settle(g);
	while (g->view_count > 0)
		store_view_release(g->store, g->views[--g->view_count].view);
	rig_run_jobs(g, 100);
	assert_string_equal(g->fault, "");
	return g;
}

static const struct segment *
find_merged(const struct rig *g)
{
	const struct segment *s = g->store->segments;

	while (s != NULL && s->info.segment_first == s->info.number)
		s = s->next;
	return s;
}

/* One with a run of several segments. */
static struct rig *
live_with_range(void)
{
	struct rig *g = NULL;

	for (uint64_t seed = SEED; g == NULL; seed++) {
		assert_true(seed < SEED + 20);
		g = live(seed);
		if (find_merged(g) == NULL) {
			stop(g);
			g = NULL;
		}
	}
	return g;
}

static void
number_path(char *ret_path, size_t size, uint64_t number, const char *suffix)
{
	snprintf(ret_path, size, "%s/%08llu%s", JOURNAL, (unsigned long long)number, suffix);
}

/* ---- freeing ---- */

/* The last close of a file without a name takes long: not for the owner. */
static void
what_was_removed_is_freed_by_a_job_of_its_own(void **state)
{
	struct rig *g = live(SEED);

	assert_true(g->merges > 0 && g->folds > 0);
	assert_true(g->leaves > 0);
	assert_null(g->store->leaving.first);
	check(g);
	stop(g);
}

/* ---- reading ---- */

static bool
is_listed(const struct pit *pits, size_t count, uint64_t lsn)
{
	for (size_t i = 0; i < count; i++)
		if (pits[i].lsn == lsn)
			return true;
	return false;
}

static void
before_the_newest_merge_only_points_can_be_read(void **state)
{
	struct rig *g = live(SEED);
	struct pit *pits;
	unsigned refused = 0;
	size_t count;

	assert_true(g->store->merged_lsn > 0);
	for (int reopened = 0; reopened < 2; reopened++) {
		assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
		for (uint64_t lsn = 1; lsn < g->store->merged_lsn; lsn++) {
			struct view *v;
			int r = store_view(g->store, lsn, &v);

			if (r == 0)
				store_view_release(g->store, v);
			else
				assert_int_equal(r, -HF_ENOPIT);
			if (!is_listed(pits, count, lsn) && reopened == 0)
				assert_int_equal(r, -HF_ENOPIT);
			if (is_listed(pits, count, lsn))
				assert_int_equal(r, 0);
			refused += r < 0;
		}
		free(pits);
		assert_true(refused > 10);
		check(g);
		rig_close(g);
		assert_int_equal(rig_open(g), 0);
	}
	stop(g);
}

/* Every point there is, by way of the merged runs, without the daemon and its catalog. */
static void
offline_every_point_can_be_read(void **state)
{
	struct rig *g = live(SEED);
	struct hf_error err;
	struct pit *pits, *offline;
	size_t count, offline_count;
	struct store *s;

	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	rig_close(g);
	assert_int_equal(store_open_offline(g->disk, RIG_DIR, &s, &err), 0);
	assert_int_equal(store_list_pits(s, &offline, &offline_count), 0);
	for (size_t i = 0; i < count; i++)
		assert_true(is_listed(offline, offline_count, pits[i].lsn));
	g->store = s;
	assert_true(rig_check_newest(g));
	g->store = NULL;
	store_close(s, g->disk);
	free(pits);
	free(offline);
	stop(g);
}

/* ---- damage ---- */

struct listing {
	char text[8192];
};

static void
add_name(void *arg, const char *name)
{
	struct listing *l = arg;

	assert_true(strlen(l->text) + strlen(name) + 2 < sizeof l->text);
	strcat(strcat(l->text, name), "\n");
}

/* The source is refused, the reason names the file, and no file goes. */
static void
refused(struct rig *g, const char *name)
{
	struct store_config config = {.dir = RIG_DIR, .catalog_vfs = g->vfs};
	struct listing before = {""}, after = {""};
	struct hf_error err;
	struct store *s;
	int r;

	assert_int_equal(disk_list(g->disk, JOURNAL, add_name, &before), 0);
	r = store_open(g->disk, &config, &s, &err);
	assert_int_equal(r, -HF_ECORRUPT);
	if (strstr(err.text, name) == NULL)
		fail_msg("\"%s\" does not name %s", err.text, name);
	assert_int_equal(disk_list(g->disk, JOURNAL, add_name, &after), 0);
	assert_string_equal(before.text, after.text);
}

static void
flip_page(struct rig *g, const char *path, uint64_t page)
{
	assert_int_equal(disk_sim_flip(g->disk, path, page * BLOCK_BYTES + 100, 3), 0);
}

static size_t
count_damage(const struct rig *g)
{
	struct scrub_status t;

	store_get_scrub(g->store, &t);
	return t.damaged;
}

static void
scrub(struct rig *g)
{
	struct scrub_status t = {.running = true};

	assert_int_equal(store_scrub_start(g->store), 0);
	for (int i = 0; i < 100 && t.running; i++) {
		rig_run_jobs(g, 1);
		store_get_scrub(g->store, &t);
	}
	assert_false(t.running);
}

/* Any page of it, found at the start or by a scrub, is made again of the others, and the file is whole again. */
static void
damaged_page_of_a_merged_run_is_mended(void **state)
{
	struct rig *g = live_with_range();
	uint64_t pages;
	char path[256];

	number_path(path, sizeof path, find_merged(g)->number, ".run");
	pages = size_of(g, path) / BLOCK_BYTES;
	assert_true(pages >= 5); /* header, entries, checkpoints, segments, parity */
	for (uint64_t page = 0; page < pages; page++) {
		struct scrub_status t;

		rig_close(g);
		flip_page(g, path, page);
		assert_int_equal(rig_open(g), 0);
		check(g);
		scrub(g);
		store_get_scrub(g->store, &t);
		assert_int_equal(t.digests_mended, 1);
		assert_int_equal(t.damaged, 0);
		check(g);
		assert_int_equal(run_mend_pages(g->disk, path, 0, pages), 0); /* nothing is left to do */
	}
	stop(g);
}

/* Recovery needs its header, its checkpoints and its segments; what was noticed there is not forgotten. */
static void
page_that_recovery_found_damaged_is_mended_without_a_scrub(void **state)
{
	struct rig *g = live_with_range();
	uint64_t last;
	char path[256];

	number_path(path, sizeof path, find_merged(g)->number, ".run");
	last = size_of(g, path) / BLOCK_BYTES - 2; /* of segments */
	for (int i = 0; i < 2; i++) {
		rig_close(g);
		flip_page(g, path, i * last);
		assert_int_equal(rig_open(g), 0);
		rig_run_jobs(g, 100);
		assert_int_equal(run_mend_pages(g->disk, path, 0, last + 2), 0);
		check(g);
	}
	stop(g);
}

/* Two of a group: of a merged run whose list of segments is damaged it is still known what it was. */
static void
merged_run_damaged_beyond_mending_is_refused_by_its_name(void **state)
{
	struct rig *g = live_with_range();
	uint64_t pages;
	char path[256];

	number_path(path, sizeof path, find_merged(g)->number, ".run");
	pages = size_of(g, path) / BLOCK_BYTES;
	rig_close(g);
	flip_page(g, path, pages - 2);
	flip_page(g, path, pages - 1);
	refused(g, strrchr(path, '/') + 1);
	flip_page(g, path, pages - 2);
	flip_page(g, path, pages - 1);
	assert_int_equal(rig_open(g), 0);
	check(g);
	stop(g);
}

static bool
has_point_before(struct rig *g, uint64_t lsn)
{
	struct pit *pits;
	size_t count;
	bool has;

	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	has = count > 0 && pits[0].lsn < lsn;
	free(pits);
	return has;
}

static struct rig *
live_with_points_before_a_range(void)
{
	for (uint64_t seed = SEED; seed < SEED + 50; seed++) {
		struct rig *g = live(seed);
		const struct segment *s = find_merged(g);

		if (s != NULL && has_point_before(g, run_lsn_first(s->run)))
			return g;
		stop(g);
	}
	fail_msg("no such life");
	return NULL;
}

/* Entries alone are damaged beyond mending: points before them are whole, the others are told of. */
static void
damaged_entries_of_a_merged_run_hit_no_point_before_them(void **state)
{
	struct rig *g = live_with_points_before_a_range();
	const struct segment *s = find_merged(g);
	uint64_t pages, lsn_first = run_lsn_first(s->run);
	static struct damage list[64];
	unsigned before = 0;
	size_t count, n;
	struct pit *pits;
	char path[256];

	number_path(path, sizeof path, s->number, ".run");
	pages = size_of(g, path) / BLOCK_BYTES;
	rig_close(g);
	flip_page(g, path, 1);
	flip_page(g, path, pages - 1);
	assert_int_equal(rig_open(g), 0);
	scrub(g);
	n = store_list_damage(g->store, list, 64);
	assert_true(n > 0);
	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	for (size_t i = 0; i < count; i++) {
		bool is_hit = false;

		for (size_t k = 0; k < n; k++)
			is_hit |= list[k].volume == 0 && damage_hits(&list[k], &pits[i].checkpoint);
		assert_int_equal(is_hit, pits[i].lsn >= lsn_first);
		before += pits[i].lsn < lsn_first;
	}
	assert_true(before > 0);
	free(pits);
	stop(g);
}

/* Nobody knows that it was merged. Its segments are read instead: that is either all of the history or refused. */
static void
merged_run_without_a_header_is_refused_unless_its_segments_hold_everything(void **state)
{
	unsigned refusals = 0;

	for (uint64_t seed = SEED; seed < SEED + 12; seed++) {
		struct rig *g = live(seed);
		const struct segment *s = find_merged(g);
		char path[256];

		if (s != NULL) {
			number_path(path, sizeof path, s->number, ".run");
			rig_close(g);
			flip_page(g, path, 0);
			flip_page(g, path, 1);
			if (rig_open(g) < 0) {
				g->fault[0] = '\0';
				refused(g, JOURNAL);
				refusals++;
			} else {
				check(g);
			}
		}
		stop(g);
	}
	assert_true(refusals > 2);
}

static void
missing_segment_of_a_merged_run_is_refused_by_its_name(void **state)
{
	struct rig *g = live_with_range();
	const struct segment *s = find_merged(g);
	size_t count = s->data_count;
	uint64_t *numbers = calloc(count, sizeof *numbers);
	char path[256], aside[256];

	for (size_t i = 0; i < count; i++)
		numbers[i] = s->data[i].file->number;
	rig_close(g);
	for (size_t i = 0; i < count; i++) {
		number_path(path, sizeof path, numbers[i], ".seg");
		number_path(aside, sizeof aside, numbers[i], ".aside");
		assert_int_equal(disk_rename(g->disk, path, aside), 0);
		refused(g, strrchr(path, '/') + 1);
		assert_int_equal(disk_rename(g->disk, aside, path), 0);
	}
	assert_int_equal(rig_open(g), 0);
	check(g);
	free(numbers);
	stop(g);
}

/* Their headers say nothing that the run does not: of a segment that is its own, as well. */
static void
segment_without_a_header_stands_by_its_run(void **state)
{
	struct rig *g = live_with_range();
	uint64_t numbers[16];
	size_t count = 0;
	char path[256];

	for (const struct segment *s = g->store->segments; s->next != NULL; s = s->next)
		for (size_t i = 0; s->run != NULL && i < segment_data_count(s) && count < 16; i++)
			numbers[count++] = segment_data_get(s, i).file->number;
	assert_true(count > 3);
	for (size_t i = 0; i < count; i++) {
		struct damage d;

		rig_close(g);
		number_path(path, sizeof path, numbers[i], ".seg");
		flip_page(g, path, 0);
		if (rig_open(g) < 0)
			fail_msg("segment %llu: %s", (unsigned long long)numbers[i], g->fault);
		check(g);
		scrub(g);
		assert_int_equal(store_list_damage(g->store, &d, 1), 1);
		assert_true(d.volume == 0 && d.segment == numbers[i] && d.block == SCRUB_HEADER_BLOCK);
		assert_int_equal(store_damage_points(g->store, &d, NULL, 0), 0);
		flip_page(g, path, 0);
	}
	stop(g);
}

/* ---- rot that a merge meets ---- */

static struct store_job *next_merge(struct rig *g);

static uint64_t
copied_bytes(const struct rig *g)
{
	struct store_stats t;

	store_get_stats(g->store, &t);
	return t.merge_copied_bytes;
}

static void
run_to_end(struct rig *g, struct store_job *job)
{
	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, false);
}

/* An entry of the run of a segment: the one of that place and version, or, of volume 0, the first that lies in a packed
 * segment. */
static bool
find_entry(struct rig *g, const struct segment *s, const struct entry *wanted, struct entry *ret_entry)
{
	struct run_cursor *c;
	bool found = false;
	struct entry e;

	assert_int_equal(run_cursor_open(s->run, g->disk, false, RUN_CURSOR_PAGES, &c), 0);
	while (!found && run_cursor_next(c, &e) > 0)
		found = wanted->volume == 0
			    ? e.digest != 0 && e.segment == wanted->segment
			    : e.volume == wanted->volume && e.block == wanted->block && e.lsn == wanted->lsn;
	run_cursor_close(c);
	if (found)
		*ret_entry = e;
	return found;
}

/* A block that the n-th merge of the life copies; false: it copies none. */
static bool
find_copied(uint64_t seed, unsigned n, struct entry *ret_entry)
{
	struct rig *g = live(seed);
	struct store_job *job = NULL;
	bool found = false;

	for (unsigned i = 0; i < n && (job = next_merge(g)) != NULL; i++) {
		uint64_t before = copied_bytes(g), packed = g->store->segment_number_last;

		run_to_end(g, job);
		found = i + 1 == n && copied_bytes(g) > before;
		for (const struct segment *s = g->store->segments; found && s->run != NULL; s = s->next)
			if (find_entry(g, s, &(struct entry){.segment = (uint32_t)packed}, ret_entry))
				break;
	}
	stop(g);
	return found;
}

/* Its bytes are taken, and then one of them is not what it was. */
static void
rot(struct rig *g, const struct entry *wanted, unsigned char *ret_bytes)
{
	struct disk_file *f;
	char path[256];
	struct entry e = {0};

	for (const struct segment *s = g->store->segments; e.count == 0 && s->run != NULL; s = s->next)
		(void)find_entry(g, s, wanted, &e);
	assert_int_equal(e.count, 1);
	number_path(path, sizeof path, e.segment, ".seg");
	assert_int_equal(disk_open(g->disk, path, DISK_READ, &f), 0);
	assert_int_equal(disk_read_now(g->disk, f, ret_bytes, BLOCK_BYTES, (uint64_t)e.offset * BLOCK_BYTES), 0);
	disk_close(g->disk, f);
	assert_int_equal(disk_sim_flip(g->disk, path, (uint64_t)e.offset * BLOCK_BYTES + 9, 2), 0);
}

/* Nobody scrubs. */
static void
rot_that_a_merge_meets_is_told_and_healed(void **state)
{
	unsigned char *bytes = buffer_alloc(BLOCK_BYTES);
	uint64_t seed = SEED;
	unsigned n = 1;
	struct entry e;
	struct damage d;
	struct store_job *job;
	struct rig *g;

	while (!find_copied(seed, n, &e)) {
		n = n % 4 + 1;
		seed += n == 1;
		assert_true(seed < SEED + 50);
	}
	g = live(seed);
	for (unsigned i = 1; i < n; i++)
		run_to_end(g, next_merge(g));
	job = next_merge(g);
	rot(g, &e, bytes);
	run_to_end(g, job);
	assert_int_equal(g->store->scrub.suspect_count, 1);
	rig_run_jobs(g, 10);
	assert_int_equal(store_list_damage(g->store, &d, 1), 1);
	assert_true(d.volume == e.volume && d.block == e.block && d.lsn == e.lsn && d.status == -HF_EDIGEST);
	assert_true(store_damage_points(g->store, &d, NULL, 0) > 0 || d.lsn_next == UINT64_MAX);
	assert_int_equal(store_heal(g->store, d.volume, d.block, bytes), 0);
	rig_run_jobs(g, 10);
	assert_int_equal(count_damage(g), 0);
	check(g);
	stop(g);
	buffer_free(bytes, BLOCK_BYTES);
}

/* ---- holes ---- */

static const struct segment *
next_unpunched(const struct segment *s)
{
	while (s != NULL && !s->unpunched)
		s = s->next;
	return s;
}

/* Just opened, with two runs or more whose segments are to get holes. */
static struct rig *
live_with_two_unpunched(void)
{
	for (uint64_t seed = SEED; seed < SEED + 50; seed++) {
		struct rig *g = live(seed);
		const struct segment *first;

		rig_close(g);
		assert_int_equal(rig_open(g), 0);
		first = next_unpunched(g->store->segments);
		if (first != NULL && run_entry_count(first->run) > 0 && next_unpunched(first->next) != NULL)
			return g;
		stop(g);
	}
	fail_msg("no such life");
	return NULL;
}

static void
holes_are_made_beside_a_run_that_cannot_be_read(void **state)
{
	struct rig *g = live_with_two_unpunched();
	char path[256];

	number_path(path, sizeof path, next_unpunched(g->store->segments)->number, ".run");
	flip_page(g, path, 1);
	flip_page(g, path, size_of(g, path) / BLOCK_BYTES - 1); /* the only one it could be made again of */
	for (int i = 0; i < 3; i++) {
		memset(g->store->retry_ns, 0, sizeof g->store->retry_ns);
		rig_run_jobs(g, 100);
	}
	assert_null(next_unpunched(g->store->segments));
	stop(g);
}

/* ---- merges that do not come to their end ---- */

/* The next job of that name, taken and not run; others before it are. NULL: the life came to its end without. */
static struct store_job *
next_job(struct rig *g, const char *name)
{
	for (unsigned i = 0; i < 400; i++) {
		struct store_job *job = store_job_next(g->store);

		if (job == NULL) {
			rig_step(g);
			rig_settle(g);
			continue;
		}
		if (strcmp(store_job_name(job), name) == 0)
			return job;
		store_job_run(job, g->disk, g->cache);
		store_job_finish(g->store, job, false);
	}
	return NULL;
}

static struct store_job *
next_merge(struct rig *g)
{
	return next_job(g, "merge runs");
}

static void
merge_that_finds_no_room_changes_nothing_and_is_made_later(void **state)
{
	static const char kinds[] = {'w', 's', 'n', 'o'}; /* writes, syncs, renames, new files */

	for (size_t i = 0; i < sizeof kinds; i++) {
		struct rig *g = live(SEED);
		struct store_job *job = next_merge(g);
		struct listing before = {""}, after = {""};

		assert_non_null(job);
		assert_int_equal(disk_list(g->disk, JOURNAL, add_name, &before), 0);
		disk_sim_fail(g->disk, kinds[i], 1, true, SIM_FAULT_ENOSPC);
		store_job_run(job, g->disk, g->cache);
		disk_sim_fail(g->disk, kinds[i], 1, true, SIM_FAULT_NONE);
		store_job_finish(g->store, job, true);
		assert_true(store_job_status(job, NULL) < 0);
		store_job_destroy(job);
		assert_int_equal(disk_list(g->disk, JOURNAL, add_name, &after), 0);
		assert_string_equal(before.text, after.text);
		check(g);
		memset(g->store->retry_ns, 0, sizeof g->store->retry_ns);
		rig_run_jobs(g, 100);
		check(g);
		rig_close(g);
		assert_int_equal(rig_open(g), 0);
		check(g);
		stop(g);
	}
}

/* The run has its name, but whether that would outlast a cut nobody knows: either state must be whole. */
static void
merge_whose_name_could_not_be_synced_leaves_both_states_whole(void **state)
{
	for (int survival = SIM_SURVIVE_RANDOM; survival <= SIM_SURVIVE_ALL; survival++) {
		struct rig *g = live(SEED);
		struct store_job *job = next_merge(g);

		assert_non_null(job);
		disk_sim_fail(g->disk, 'd', 1, true, SIM_FAULT_EIO);
		store_job_run(job, g->disk, g->cache);
		disk_sim_fail(g->disk, 'd', 1, true, SIM_FAULT_NONE);
		store_job_finish(g->store, job, false);
		check(g);
		rig_close(g);
		disk_sim_restart(g->disk, (enum sim_survival)survival, 5);
		assert_int_equal(rig_open(g), 0);
		assert_true(rig_check_recovered(g));
		check(g);
		stop(g);
	}
}

static void
merge_gives_up_when_the_store_shuts_down(void **state)
{
	struct rig *g = live(SEED);
	struct store_job *job = next_merge(g);

	assert_non_null(job);
	store_shutdown(g->store);
	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, true);
	assert_int_equal(store_job_status(job, NULL), -ECANCELED);
	store_job_destroy(job);
	rig_close(g);
	assert_int_equal(rig_open(g), 0);
	check(g);
	stop(g);
}

/* ---- killed, and cut off while the next process recovers ---- */

/* A life whose next merge makes one of three runs or more, and leaves segments without a live block: runs can be made
 * anew from their segments, but these cannot. */
static uint64_t
seed_with_several(void)
{
	for (uint64_t seed = SEED; seed < SEED + 100; seed++) {
		struct rig *g = live(seed);
		struct store_job *job = next_merge(g);
		struct store_stats before, after;

		assert_non_null(job);
		store_get_stats(g->store, &before);
		store_job_run(job, g->disk, g->cache);
		store_job_finish(g->store, job, false);
		store_get_stats(g->store, &after);
		stop(g);
		if (after.segment_count + 2 <= before.segment_count &&
		    after.merge_freed_bytes > before.merge_freed_bytes)
			return seed;
	}
	fail_msg("no such life");
	return 0;
}

/* Killed at operation `at` of a merge; false: it had no such operation. */
static bool
kill_in_merge(struct rig *g, uint64_t at)
{
	struct store_job *job = next_merge(g);
	bool was_cut;

	assert_non_null(job);
	disk_sim_cut_at(g->disk, at);
	store_job_run(job, g->disk, g->cache);
	was_cut = disk_sim_is_cut(g->disk);
	store_job_finish(g->store, job, false);
	rig_close(g);
	g->fault[0] = '\0';
	disk_sim_revive(g->disk);
	return was_cut;
}

/* Opened, and cut off at that operation (0: not at all). Returns how many there were. */
static uint64_t
open_and_cut(struct rig *g, uint64_t at)
{
	struct store_config config = {.dir = RIG_DIR, .catalog_vfs = g->vfs};
	uint64_t before = disk_sim_operations(g->disk);
	struct store *s = NULL;
	struct hf_error err;

	disk_sim_cut_at(g->disk, at);
	(void)store_open(g->disk, &config, &s, &err);
	store_close(s, g->disk);
	return disk_sim_operations(g->disk) - before;
}

/* What the killed process left, in a machine of its own: recovered from, with a cut at that operation. */
static struct rig *
recover_and_cut(const struct rig *killed, uint64_t at, uint64_t *ret_operations)
{
	struct rig *g = calloc(1, sizeof *g);

	assert_non_null(g);
	rig_fork(g, killed);
	snprintf(g->vfs, sizeof g->vfs, "cut");
	assert_int_equal(catalog_vfs_register(g->disk, g->vfs), 0);
	*ret_operations = open_and_cut(g, at);
	catalog_vfs_unregister(g->vfs);
	return g;
}

/* Every cut after which something new is pending, and some of what may survive of it. */
static void
cut_recovery(const struct rig *killed, uint64_t killed_at)
{
	enum { TRIES = 12 };
	uint64_t operations, left, pending = 0;

	stop(recover_and_cut(killed, 0, &operations));
	for (uint64_t at = 1; at <= operations; at++) {
		struct rig *g = recover_and_cut(killed, at, &left);
		bool news = disk_sim_pending(g->disk) != pending;

		pending = disk_sim_pending(g->disk);
		stop(g);
		for (uint64_t luck = 0; news && luck < TRIES; luck++) {
			g = recover_and_cut(killed, at, &left);
			disk_sim_restart(g->disk, SIM_SURVIVE_RANDOM, killed_at * 100000 + at * 100 + luck);
			if (rig_open(g) < 0 || !rig_check_recovered(g) || !rig_check(g))
				fail_msg("killed at operation %llu of the merge, cut at %llu of the recovery: %s",
				    (unsigned long long)killed_at, (unsigned long long)at, g->fault);
			stop(g);
		}
	}
}

/* The name of a run that a killed process gave it is not yet durable: what the run supersedes must stay until it is. */
static void
nothing_is_lost_to_a_kill_in_a_merge_and_a_cut_in_its_recovery(void **state)
{
	enum { LAST_OPERATIONS = 10 }; /* of the merge: the commit, and what is removed afterwards */
	uint64_t seed = seed_with_several(), at, last = 1;

	for (bool more = true; more; last++) {
		struct rig *g = live(seed);

		more = kill_in_merge(g, last);
		stop(g);
	}
	for (at = last > LAST_OPERATIONS ? last - LAST_OPERATIONS : 1; at < last; at++) {
		struct rig *g = live(seed);

		(void)kill_in_merge(g, at);
		cut_recovery(g, at);
		stop(g);
	}
}

/* ---- what was folded, on its way out ---- */

static void
send(struct rig *g, uint64_t block, uint64_t count, bool zero)
{
	rig_frame_begin(g);
	if (count > 0)
		rig_frame_extent(g, 0, block, count, false, zero);
	rig_frame_end(g);
	rig_settle(g);
	assert_int_equal(g->acked, g->sent);
}

/* The journal goes on in a new segment. */
static void
next_segment(struct rig *g)
{
	struct policy p = {.rule_count = 0};
	struct store_job *job;

	rig_close(g);
	assert_int_equal(rig_open(g), 0);
	job = store_set_policy(g->store, &p);
	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, false);
}

static struct pit
keep_newest(struct rig *g)
{
	struct pit *pits, p;
	size_t count;

	send(g, 0, 0, false); /* a checkpoint */
	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	p = pits[count - 1];
	free(pits);
	assert_int_equal(rig_keep(g, &p), 0);
	next_segment(g);
	return p;
}

/* At rest, killed before it removed what it had folded: a merged run, and a hole in its own segment where a group was,
 * with another group behind it that says what was durable. */
static struct rig *
killed_after_a_fold(void)
{
	enum { HOLE = PUNCH_BLOCKS_MIN - 1 }; /* and the descriptor of the group */
	struct rig *g = calloc(1, sizeof *g);
	struct pit before;
	struct store_job *job;

	assert_true(g != NULL && rig_start(g, SEED));
	while (!rig_is_filled(g))
		rig_step(g);
	before = keep_newest(g);
	send(g, 50, HOLE, false); /* the next segment is twice as long */
	next_segment(g);
	send(g, 0, HOLE, false);
	send(g, 0, HOLE, true);
	send(g, 40, 1, false);
	send(g, 42, 1, false);
	next_segment(g);
	(void)keep_newest(g);
	send(g, 0, 0, false);
	rig_run_jobs(g, 100);
	assert_true(g->merges > 0 && g->punches > 0);
	assert_int_equal(rig_change(g, &before, STORE_PIT_DELETE), 0);
	job = next_job(g, "fold");
	assert_non_null(job);
	disk_sim_confine_faults(g->disk, JOURNAL);
	disk_sim_fail(g->disk, 'u', 1, true, SIM_FAULT_EIO);
	store_job_run(job, g->disk, g->cache);
	disk_sim_fail(g->disk, 'u', 1, true, SIM_FAULT_NONE);
	disk_sim_confine_faults(g->disk, NULL);
	store_job_finish(g->store, job, true);
	assert_int_equal(store_job_status(job, NULL), 0);
	store_job_destroy(job);
	rig_close(g);
	return g;
}

/* The next start removes them, and is cut off; then somebody wants his data without a daemon. */
static void
offline_nothing_is_missed_when_the_removal_of_what_was_folded_was_cut_off(void **state)
{
	struct rig *killed = killed_after_a_fold();
	uint64_t operations, left;

	stop(recover_and_cut(killed, 0, &operations));
	for (uint64_t at = 1; at <= operations; at++) {
		struct rig *g = recover_and_cut(killed, at, &left);
		struct hf_error err;

		disk_sim_restart(g->disk, SIM_SURVIVE_ALL, 1);
		if (store_open_offline(g->disk, RIG_DIR, &g->store, &err) < 0)
			fail_msg("cut off at operation %llu of %llu: %s", (unsigned long long)at,
			    (unsigned long long)operations, err.text);
		assert_true(rig_check_newest(g));
		store_close(g->store, g->disk);
		g->store = NULL;
		stop(g);
	}
	stop(killed);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_was_removed_is_freed_by_a_job_of_its_own),
	    cmocka_unit_test(before_the_newest_merge_only_points_can_be_read),
	    cmocka_unit_test(offline_every_point_can_be_read),
	    cmocka_unit_test(damaged_page_of_a_merged_run_is_mended),
	    cmocka_unit_test(page_that_recovery_found_damaged_is_mended_without_a_scrub),
	    cmocka_unit_test(merged_run_damaged_beyond_mending_is_refused_by_its_name),
	    cmocka_unit_test(damaged_entries_of_a_merged_run_hit_no_point_before_them),
	    cmocka_unit_test(merged_run_without_a_header_is_refused_unless_its_segments_hold_everything),
	    cmocka_unit_test(missing_segment_of_a_merged_run_is_refused_by_its_name),
	    cmocka_unit_test(segment_without_a_header_stands_by_its_run),
	    cmocka_unit_test(rot_that_a_merge_meets_is_told_and_healed),
	    cmocka_unit_test(holes_are_made_beside_a_run_that_cannot_be_read),
	    cmocka_unit_test(merge_that_finds_no_room_changes_nothing_and_is_made_later),
	    cmocka_unit_test(merge_whose_name_could_not_be_synced_leaves_both_states_whole),
	    cmocka_unit_test(merge_gives_up_when_the_store_shuts_down),
	    cmocka_unit_test(nothing_is_lost_to_a_kill_in_a_merge_and_a_cut_in_its_recovery),
	    cmocka_unit_test(offline_nothing_is_missed_when_the_removal_of_what_was_folded_was_cut_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
