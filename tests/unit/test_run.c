/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/disk_sim.h"
#include "storage/run.h"
#include "storage/run_parity.h"
#include "tests/lib/dice.h"

static const char dir[] = "/journal";
static const char path[] = "/journal/00000007.run";

struct fixture {
	struct disk *disk;
	struct run_cache *cache;
};

static int
setup(void **state)
{
	static struct fixture f;

	assert_int_equal(disk_sim_create(1, &f.disk), 0);
	assert_int_equal(disk_mkdir(f.disk, dir), 0);
	assert_int_equal(disk_sync_dir(f.disk, "/"), 0);
	assert_int_equal(run_cache_create(0, &f.cache), 0);
	*state = &f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	run_cache_destroy(f->cache);
	disk_destroy(f->disk);
	return 0;
}

static struct run_info
some_info(void)
{
	struct run_info info = {
	    .source = {"s-0123456789abcdef0"},
	    .digest_seed = 0x1122334455667788,
	    .number = 7,
	    .lsn_first = 100,
	    .lsn_last = 900,
	    .segment_bytes = 1 << 20,
	    .chain = 0xfedcba9876543210,
	    .stream_id = 11,
	    .sequence = 12,
	    .stream_chain = 13,
	    .volume_count = STORE_VOLUMES_MAX,
	};

	for (uint32_t i = 0; i < STORE_VOLUMES_MAX; i++) {
		info.volumes[i].volume = i + 1;
		info.volumes[i].size_bytes = 4096u * (i + 1);
		info.volumes[i].frontier_blocks = i;
		info.volumes[i].id = id_from_bits("vol", 0, i);
	}
	return info;
}

static struct entry
data(uint32_t volume, uint64_t block, uint64_t lsn)
{
	struct entry e = {.block = block,
	    .lsn = lsn,
	    .digest = block * 31 + lsn + 1,
	    .segment = 7,
	    .offset = (uint32_t)lsn,
	    .volume = volume,
	    .count = 1};

	return e;
}

static struct entry
zeros(uint32_t volume, uint64_t block, uint32_t count, uint64_t lsn)
{
	struct entry e = {.block = block, .lsn = lsn, .volume = volume, .count = count};

	return e;
}

static void
write_run(struct fixture *f, struct entry *entries, size_t count)
{
	struct run_info info = some_info();

	assert_int_equal(run_write(f->disk, dir, path, &info, entries, count, NULL, 0), 0);
}

static struct run *
open_run(struct fixture *f)
{
	struct run_info info;
	struct run *r;

	assert_int_equal(run_open(f->disk, path, &r, &info, NULL), 0);
	return r;
}

static int
count_entries(void *arg, const struct entry *e)
{
	(*(size_t *)arg)++;
	return 0;
}

/* The entries of volumes 1 and 2, the only ones here. */
static size_t
count_all(struct fixture *f, struct run *r)
{
	size_t count = 0;

	for (uint32_t volume = 1; volume <= 2; volume++)
		assert_int_equal(
		    run_scan(r, f->disk, f->cache, volume, 0, UINT64_MAX, 0, UINT64_MAX, count_entries, &count), 0);
	return count;
}

/* ---- files ---- */

static void
what_was_written_is_read_back(void **state)
{
	struct fixture *f = *state;
	struct run_info info = some_info(), got;
	struct entry entries[] = {data(2, 5, 7), data(1, 9, 3), zeros(1, 0, 100000, 8)};
	struct run *r;

	assert_int_equal(run_write(f->disk, dir, path, &info, entries, 3, NULL, 0), 0);
	memset(&got, 0, sizeof got);
	assert_int_equal(run_open(f->disk, path, &r, &got, NULL), 0);
	assert_string_equal(got.source.text, info.source.text);
	assert_int_equal(got.digest_seed, info.digest_seed);
	assert_int_equal(got.number, 7);
	assert_int_equal(got.lsn_first, 100);
	assert_int_equal(got.lsn_last, 900);
	assert_int_equal(got.segment_bytes, info.segment_bytes);
	assert_true(got.chain == info.chain);
	assert_int_equal(got.stream_id, 11);
	assert_int_equal(got.sequence, 12);
	assert_int_equal(got.stream_chain, 13);
	assert_int_equal(got.volume_count, STORE_VOLUMES_MAX);
	for (uint32_t i = 0; i < STORE_VOLUMES_MAX; i++) {
		assert_int_equal(got.volumes[i].volume, info.volumes[i].volume);
		assert_int_equal(got.volumes[i].size_bytes, info.volumes[i].size_bytes);
		assert_int_equal(got.volumes[i].frontier_blocks, i);
		assert_string_equal(got.volumes[i].id.text, info.volumes[i].id.text);
	}
	assert_int_equal(count_all(f, r), 3);
	run_unref(r, f->disk);
}

static void
checkpoints_are_read_back_in_order(void **state)
{
	enum { COUNT = 300 };
	struct fixture *f = *state;
	static struct checkpoint written[COUNT];
	struct checkpoint *read;
	struct run_info info = some_info();
	struct entry e = data(1, 1, 1);
	size_t count;
	struct run *r;

	for (unsigned i = 0; i < COUNT; i++) {
		struct checkpoint *c = &written[i];

		c->lsn = i + 1;
		c->clock_ns = c->unchanged_until_ns = 1000 - (int64_t)i;
		c->clock_offset_ns = -5;
		c->received_ns = 77;
		c->consistency = CHECKPOINT_FUZZY + i % 4;
		c->complete = i % 2 != 0;
		c->volume_count = i % (STORE_VOLUMES_MAX + 1);
		for (uint32_t v = 0; v < c->volume_count; v++) {
			c->volumes[v].volume = v + 1;
			c->volumes[v].size_bytes = i * 4096;
		}
	}
	assert_int_equal(run_write(f->disk, dir, path, &info, &e, 1, written, COUNT), 0);
	r = open_run(f);
	assert_int_equal(run_checkpoints(r, f->disk, &read, &count), 0);
	assert_int_equal(count, COUNT);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(read[i].lsn, written[i].lsn);
		assert_int_equal(read[i].clock_ns, written[i].clock_ns);
		assert_int_equal(read[i].unchanged_until_ns, written[i].clock_ns);
		assert_int_equal(read[i].consistency, written[i].consistency);
		assert_int_equal(read[i].complete, written[i].complete);
		assert_int_equal(read[i].volume_count, written[i].volume_count);
		assert_memory_equal(read[i].volumes, written[i].volumes, sizeof written[i].volumes);
	}
	free(read);
	run_unref(r, f->disk);
}

static void
run_of_nothing_is_a_run(void **state)
{
	struct fixture *f = *state;
	struct checkpoint *checkpoints;
	uint64_t next;
	size_t count;
	struct run *r, *memory = run_from_entries(NULL, 0);

	write_run(f, NULL, 0);
	r = open_run(f);
	assert_int_equal(count_all(f, r), 0);
	assert_int_equal(count_all(f, memory), 0);
	assert_int_equal(run_next(r, f->disk, f->cache, 1, 0, 0, UINT64_MAX, false, &next), 0);
	assert_true(next == UINT64_MAX);
	assert_int_equal(run_checkpoints(r, f->disk, &checkpoints, &count), 0);
	assert_int_equal(count, 0);
	free(checkpoints);
	run_unref(r, f->disk);
	run_unref(memory, NULL);
}

static void
run_survives_a_power_cut_once_written(void **state)
{
	struct fixture *f = *state;
	struct entry e = data(1, 1, 1);
	struct run *r;

	write_run(f, &e, 1);
	disk_sim_restart(f->disk, SIM_SURVIVE_NONE, 1);
	r = open_run(f);
	assert_int_equal(count_all(f, r), 1);
	run_unref(r, f->disk);
}

static void
cut_anywhere_leaves_the_old_or_the_new_run(void **state)
{
	struct fixture *f = *state;
	struct entry old = data(1, 1, 1), new[] = {data(1, 1, 1), data(1, 2, 2)};
	struct run_info info = some_info();
	bool cut = true;

	for (uint64_t n = 1; cut; n++) {
		struct run *r;
		size_t count;

		write_run(f, &old, 1);
		disk_sim_cut_at(f->disk, n);
		(void)run_write(f->disk, dir, path, &info, new, 2, NULL, 0);
		cut = disk_sim_is_cut(f->disk);
		disk_sim_cut_at(f->disk, 0);
		disk_sim_restart(f->disk, SIM_SURVIVE_RANDOM, n);
		r = open_run(f);
		count = count_all(f, r);
		assert_true(count == (cut ? 1 : 2) || count == 2);
		run_unref(r, f->disk);
	}
}

static void
failed_write_or_sync_is_told_and_leaves_no_run(void **state)
{
	static const char kinds[] = {'w', 's', 'n', 'd', 'o'};
	struct fixture *f = *state;
	struct entry e = data(1, 1, 1);
	struct run_info info = some_info();
	struct disk_file *file;

	for (size_t i = 0; i < sizeof kinds; i++) {
		disk_sim_fail(f->disk, kinds[i], 1, false, SIM_FAULT_EIO);
		assert_int_equal(run_write(f->disk, dir, path, &info, &e, 1, NULL, 0), -EIO);
		if (kinds[i] != 'd') /* only its durability is unknown then */
			assert_int_equal(disk_open(f->disk, path, DISK_READ, &file), -ENOENT);
		(void)disk_unlink(f->disk, path);
	}
	write_run(f, &e, 1);
}

static void
left_over_temporary_file_is_replaced(void **state)
{
	struct fixture *f = *state;
	struct entry e = data(1, 1, 1);
	struct disk_file *file;

	assert_int_equal(disk_open(f->disk, "/journal/00000007.run.tmp", DISK_WRITE | DISK_CREATE, &file), 0);
	disk_close(f->disk, file);
	write_run(f, &e, 1);
	run_unref(open_run(f), f->disk);
}

/* ---- damage ---- */

static int
scan_all(struct fixture *f, struct run *r, size_t *ret_count)
{
	*ret_count = 0;
	return run_scan(r, f->disk, f->cache, 1, 0, UINT64_MAX, 0, UINT64_MAX, count_entries, ret_count);
}

/* Five pages (header, three of narrow entries, one of wide ones), and one of parity. */
enum { FEW = 301, FEW_PAGES = 5 };

static void
write_few(struct fixture *f, struct entry *entries)
{
	for (unsigned i = 0; i < 300; i++)
		entries[i] = data(1, i * 3, i + 1);
	entries[300] = zeros(1, 7, 5000, 400);
	write_run(f, entries, FEW);
}

static void
flip(struct fixture *f, struct dice *dice, uint64_t page)
{
	assert_int_equal(
	    disk_sim_flip(f->disk, path, page * 4096 + dice_below(dice, 4096), (unsigned)dice_below(dice, 8)), 0);
}

/* Opened and read, with the cursor too; what was found damaged, or UINT64_MAX. */
static int
read_all(struct fixture *f, size_t entries, uint64_t *ret_damaged)
{
	struct run_info info;
	struct run *r;
	size_t count;
	int ret = run_open(f->disk, path, &r, &info, NULL);

	if (ret < 0)
		return ret;
	ret = scan_all(f, r, &count);
	if (ret == 0)
		assert_int_equal(count, entries);
	if (!run_take_damaged(r, ret_damaged))
		*ret_damaged = UINT64_MAX;
	run_unref(r, f->disk);
	return ret;
}

static void
any_flipped_bit_is_found_and_does_no_harm(void **state)
{
	struct fixture *f = *state;
	struct dice dice = dice_from_environment();
	struct entry entries[FEW];

	for (int round = 0; round < 300; round++) {
		uint64_t page = dice_below(&dice, FEW_PAGES), damaged;

		write_few(f, entries);
		flip(f, &dice, page);
		assert_int_equal(read_all(f, FEW, &damaged), 0);
		assert_int_equal(damaged, page);
	}
}

static void
two_damaged_pages_of_a_group_are_an_error(void **state)
{
	struct fixture *f = *state;
	struct dice dice = dice_from_environment();
	struct entry entries[FEW];
	uint64_t damaged;

	for (uint64_t first = 0; first < FEW_PAGES; first++)
		for (uint64_t second = first + 1; second <= FEW_PAGES; second++) {
			write_few(f, entries);
			flip(f, &dice, first);
			flip(f, &dice, second);
			assert_int_equal(read_all(f, FEW, &damaged), -HF_ECORRUPT);
		}
}

static void
read_file(struct fixture *f, unsigned char *ret_bytes, size_t len)
{
	struct disk_file *file;

	assert_int_equal(disk_open(f->disk, path, DISK_READ, &file), 0);
	assert_int_equal(disk_read_now(f->disk, file, ret_bytes, len, 0), 0);
	disk_close(f->disk, file);
}

static void
mended_run_is_what_it_was(void **state)
{
	enum { BYTES = (FEW_PAGES + 1) * 4096 };
	struct fixture *f = *state;
	struct dice dice = dice_from_environment();
	unsigned char *before = buffer_alloc(BYTES), *after = buffer_alloc(BYTES);
	struct entry entries[FEW];

	write_few(f, entries);
	read_file(f, before, BYTES);
	for (uint64_t page = 0; page <= FEW_PAGES; page++) {
		flip(f, &dice, page);
		assert_int_equal(run_mend_pages(f->disk, path, 0, UINT32_MAX), 1);
		disk_sim_restart(f->disk, SIM_SURVIVE_NONE, 1);
		read_file(f, after, BYTES);
		assert_memory_equal(before, after, BYTES);
	}
	assert_int_equal(run_mend_pages(f->disk, path, 0, UINT32_MAX), 0);
	buffer_free(before, BYTES);
	buffer_free(after, BYTES);
}

static void
mending_may_be_cut_anywhere(void **state)
{
	struct fixture *f = *state;
	struct dice dice = dice_from_environment();
	struct entry entries[FEW];
	bool cut = true;
	uint64_t n;

	for (n = 1; cut; n++) {
		uint64_t damaged;

		write_few(f, entries);
		flip(f, &dice, n % (FEW_PAGES + 1));
		disk_sim_cut_at(f->disk, n);
		(void)run_mend_pages(f->disk, path, 0, UINT32_MAX);
		cut = disk_sim_is_cut(f->disk);
		disk_sim_cut_at(f->disk, 0);
		disk_sim_restart(f->disk, SIM_SURVIVE_RANDOM, n);
		assert_int_equal(read_all(f, FEW, &damaged), 0);
		assert_true(run_mend_pages(f->disk, path, 0, UINT32_MAX) >= 0);
		assert_int_equal(read_all(f, FEW, &damaged), 0);
		assert_true(damaged == UINT64_MAX);
	}
	assert_true(n > 4);
}

/* Neighbours are of different groups: a bad place as long as there are groups costs nothing. */
static void
bad_place_of_many_pages_of_a_large_run_does_no_harm(void **state)
{
	enum { COUNT = 200000, CONTENT = 1 + (COUNT + 101) / 102, GROUPS = 128 };
	struct fixture *f = *state;
	struct dice dice = dice_from_environment();
	struct entry *entries = calloc(COUNT, sizeof *entries);
	uint64_t first = dice_below(&dice, CONTENT - GROUPS), damaged;

	assert_int_equal(run_parity_pages(CONTENT), GROUPS);
	for (unsigned i = 0; i < COUNT; i++)
		entries[i] = data(1, i, i + 1);
	write_run(f, entries, COUNT);
	for (uint64_t page = first; page < first + GROUPS; page++)
		flip(f, &dice, page);
	assert_int_equal(read_all(f, COUNT, &damaged), 0);
	assert_true(damaged >= first && damaged < first + GROUPS);
	assert_int_equal(run_mend_pages(f->disk, path, first, GROUPS), GROUPS);
	flip(f, &dice, CONTENT + 5); /* of parity */
	assert_int_equal(run_mend_pages(f->disk, path, 0, UINT32_MAX), 1);
	assert_int_equal(read_all(f, COUNT, &damaged), 0);
	assert_true(damaged == UINT64_MAX);
	flip(f, &dice, first);
	flip(f, &dice, first + GROUPS);
	assert_int_equal(read_all(f, COUNT, &damaged), -HF_ECORRUPT);
	free(entries);
}

static void
parity_grows_with_the_run_up_to_a_bound(void **state)
{
	assert_int_equal(run_parity_pages(2), 1);
	assert_int_equal(run_parity_pages(16), 1);
	assert_int_equal(run_parity_pages(17), 2);
	assert_int_equal(run_parity_pages(4096), 256);
	assert_int_equal(run_parity_pages(1000000), 256);
}

static void
page_in_the_wrong_place_is_found(void **state)
{
	struct fixture *f = *state;
	struct entry entries[300];
	unsigned char *page = buffer_alloc(4096);
	struct disk_file *file;
	struct run *r;
	uint64_t damaged;
	size_t count;

	for (unsigned i = 0; i < 300; i++)
		entries[i] = data(1, i, i + 1);
	write_run(f, entries, 300);
	assert_int_equal(disk_open(f->disk, path, DISK_WRITE, &file), 0);
	assert_int_equal(disk_read_now(f->disk, file, page, 4096, 4096), 0);
	assert_int_equal(disk_write_now(f->disk, file, page, 4096, 8192), 0);
	disk_close(f->disk, file);
	r = open_run(f);
	assert_int_equal(scan_all(f, r, &count), 0);
	assert_int_equal(count, 300);
	assert_true(run_take_damaged(r, &damaged));
	assert_int_equal(damaged, 2);
	run_unref(r, f->disk);
	buffer_free(page, 4096);
}

/* Damage is read around, by way of the segment; what a newer program wrote must be left to it. */
static void
header_of_another_version_is_no_damage(void **state)
{
	static unsigned char page[4096] __attribute__((aligned(4096)));
	struct fixture *f = *state;
	struct entry e = data(1, 1, 1);
	struct run_info info;
	struct hf_error err;
	struct disk_file *file;
	struct run_layout layout;
	struct run *r;

	write_run(f, &e, 1);
	assert_int_equal(disk_open(f->disk, path, DISK_WRITE, &file), 0);
	assert_int_equal(disk_read_now(f->disk, file, page, sizeof page, 0), 0);
	assert_int_equal(run_header_decode(page, &info, &layout), 0);
	page[8]++;
	assert_int_equal(run_header_decode(page, &info, &layout), -HF_ECORRUPT);
	run_page_seal(page, info.digest_seed, info.number, 0, RUN_PAGE_HEADER, 0);
	assert_int_equal(disk_write_now(f->disk, file, page, sizeof page, 0), 0);
	assert_int_equal(run_open(f->disk, path, &r, &info, &err), -HF_EFORMAT);
	assert_non_null(strstr(err.text, path));
	assert_non_null(strstr(err.text, "newer"));
	disk_close(f->disk, file);
}

static void
file_cut_short_is_corrupt_and_a_foreign_one_no_run(void **state)
{
	struct fixture *f = *state;
	struct entry entries[300];
	struct run_info info;
	struct hf_error err;
	struct disk_file *file;
	struct run *r;

	for (unsigned i = 0; i < 300; i++)
		entries[i] = data(1, i, i + 1);
	write_run(f, entries, 300);
	assert_int_equal(disk_open(f->disk, path, DISK_WRITE, &file), 0);
	assert_int_equal(disk_truncate(f->disk, file, 3 * 4096), 0);
	assert_int_equal(run_open(f->disk, path, &r, &info, &err), -HF_ECORRUPT);
	assert_non_null(strstr(err.text, path));
	assert_int_equal(disk_truncate(f->disk, file, 0), 0);
	assert_int_equal(run_open(f->disk, path, &r, &info, &err), -HF_ECORRUPT);
	assert_int_equal(disk_truncate(f->disk, file, 8192), 0);
	assert_int_equal(run_open(f->disk, path, &r, &info, &err), -HF_ECORRUPT);
	disk_close(f->disk, file);
	assert_int_equal(run_open(f->disk, "/journal/none.run", &r, &info, &err), -ENOENT);
}

static void
read_error_is_told(void **state)
{
	struct fixture *f = *state;
	struct entry e = data(1, 1, 1);
	struct run *r;
	size_t count;

	write_run(f, &e, 1);
	r = open_run(f);
	disk_sim_fail(f->disk, 'r', 1, true, SIM_FAULT_EIO);
	assert_int_equal(scan_all(f, r, &count), -EIO);
	disk_sim_fail(f->disk, 'r', 1, true, SIM_FAULT_NONE);
	disk_sim_fail(f->disk, 'r', 1, false, SIM_FAULT_EIO);
	assert_int_equal(scan_all(f, r, &count), 0); /* read again */
	assert_int_equal(count, 1);
	run_unref(r, f->disk);
}

/* ---- scans against the plainest way to do it ---- */

enum { MODEL_MAX = 3000 };

struct model {
	struct entry entries[MODEL_MAX];
	size_t count;
};

static void
random_entries(struct dice *dice, struct model *m, size_t count)
{
	uint64_t blocks = 1 + dice_below(dice, 4000);

	m->count = count;
	for (size_t i = 0; i < count; i++) {
		uint32_t volume = 1 + (uint32_t)dice_below(dice, 3);
		uint64_t block = dice_below(dice, blocks), lsn = i + 1;

		switch (dice_below(dice, 12)) {
		case 0: m->entries[i] = zeros(volume, block, 257 + (uint32_t)dice_below(dice, 2000), lsn); break;
		case 1: m->entries[i] = zeros(volume, block, 1 + (uint32_t)dice_below(dice, 256), lsn); break;
		default: m->entries[i] = data(volume, block, lsn);
		}
	}
}

struct query {
	uint32_t volume;
	uint64_t from, to, after, until;
};

static bool
model_wants(const struct entry *e, const struct query *q)
{
	return e->volume == q->volume && e->block < q->to && e->block + e->count > q->from && e->lsn > q->after &&
	       e->lsn <= q->until;
}

struct seen {
	const struct model *model;
	const struct query *query;
	bool seen[MODEL_MAX];
	size_t count;
	struct entry last;
};

static int
on_seen(void *arg, const struct entry *e)
{
	struct seen *s = arg;
	const struct entry *original = &s->model->entries[e->lsn - 1];
	bool same_table = (s->last.count > 256) == (e->count > 256);

	assert_true(model_wants(e, s->query));
	assert_memory_equal(e, original, sizeof *e);
	assert_false(s->seen[e->lsn - 1]);
	if (s->count > 0)
		assert_true(same_table ? entry_compare(&s->last, e) < 0 : e->count <= 256);
	s->seen[e->lsn - 1] = true;
	s->last = *e;
	s->count++;
	return 0;
}

static void
check_scan(struct fixture *f, struct run *r, const struct model *m, const struct query *q)
{
	static struct seen seen;
	size_t expected = 0;

	memset(&seen, 0, sizeof seen);
	seen.model = m;
	seen.query = q;
	assert_int_equal(
	    run_scan(r, f->disk, f->cache, q->volume, q->from, q->to, q->after, q->until, on_seen, &seen), 0);
	for (size_t i = 0; i < m->count; i++)
		expected += model_wants(&m->entries[i], q);
	assert_int_equal(seen.count, expected);
}

static void
check_next(struct fixture *f, struct run *r, const struct model *m, const struct query *q, bool data_only)
{
	uint64_t expected = UINT64_MAX, next = 0;

	for (size_t i = 0; i < m->count; i++) {
		const struct entry *e = &m->entries[i];
		uint64_t at = e->block > q->from ? e->block : q->from;

		if (e->volume == q->volume && e->block + e->count > q->from && e->lsn > q->after &&
		    e->lsn <= q->until && (!data_only || e->digest != 0) && at < expected)
			expected = at;
	}
	assert_int_equal(run_next(r, f->disk, f->cache, q->volume, q->from, q->after, q->until, data_only, &next), 0);
	assert_int_equal(next, expected);
}

static struct query
random_query(struct dice *dice, const struct model *m)
{
	struct query q = {.volume = (uint32_t)dice_below(dice, 5)};

	q.from = dice_below(dice, 6000);
	q.to = q.from + 1 + dice_below(dice, dice_once_in(dice, 2) ? 20 : 4000);
	q.until = UINT64_MAX;
	if (dice_once_in(dice, 2)) {
		q.after = dice_below(dice, m->count + 1);
		q.until = q.after + dice_below(dice, m->count + 1);
	}
	return q;
}

static void
scans_find_exactly_what_a_search_of_everything_finds(void **state)
{
	struct fixture *f = *state;
	struct dice dice = dice_from_environment();
	static struct model m;
	static struct entry shuffled[MODEL_MAX];

	for (int round = 0; round < 30; round++) {
		struct run *file, *memory;

		random_entries(&dice, &m, 1 + dice_below(&dice, MODEL_MAX));
		memcpy(shuffled, m.entries, sizeof shuffled);
		memory = run_from_entries(shuffled, m.count);
		assert_non_null(memory);
		write_run(f, shuffled, m.count);
		file = open_run(f);
		for (int i = 0; i < 60; i++) {
			struct query q = random_query(&dice, &m);

			check_scan(f, file, &m, &q);
			check_scan(f, memory, &m, &q);
			check_next(f, file, &m, &q, i % 2 != 0);
			check_next(f, memory, &m, &q, i % 2 != 0);
		}
		run_unref(file, f->disk);
		run_unref(memory, NULL);
	}
}

static void
longest_narrow_and_shortest_wide_entry_are_found_at_their_last_block(void **state)
{
	struct fixture *f = *state;
	struct entry entries[2] = {zeros(1, 1000, 256, 1), zeros(1, 5000, 257, 2)};
	uint64_t next = 0;
	size_t count = 0;
	struct run *r;

	write_run(f, entries, 2);
	r = open_run(f);
	assert_int_equal(run_scan(r, f->disk, f->cache, 1, 1255, 1256, 0, UINT64_MAX, count_entries, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(run_scan(r, f->disk, f->cache, 1, 5256, 5257, 0, UINT64_MAX, count_entries, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(run_next(r, f->disk, f->cache, 1, 1256, 0, UINT64_MAX, false, &next), 0);
	assert_int_equal(next, 5000);
	assert_int_equal(run_next(r, f->disk, f->cache, 1, 5257, 0, UINT64_MAX, false, &next), 0);
	assert_true(next == UINT64_MAX);
	run_unref(r, f->disk);
}

/* ---- merged runs, and runs read in a stream ---- */

static void
segments_of_a_merged_run_are_read_back(void **state)
{
	enum { COUNT = 400 }; /* more than two pages of them */
	struct fixture *f = *state;
	struct run_info info = some_info(), got;
	struct run_segment *read;
	struct run_writer *w;
	size_t count;
	struct run *r, *opened = NULL;

	info.segment_first = 3;
	info.merged = true;
	assert_int_equal(run_writer_open(f->disk, dir, path, &info, &w), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		struct run_segment g = {.number = i + 1, .bytes = 4096u * i, .live_blocks = i / 2};

		assert_int_equal(run_writer_add_segment(w, &g), 0);
	}
	assert_int_equal(run_writer_commit(w, &opened), 0);
	run_writer_close(w);
	assert_non_null(opened);
	run_unref(opened, f->disk);
	assert_int_equal(run_open(f->disk, path, &r, &got, NULL), 0);
	assert_int_equal(got.segment_first, 3);
	assert_true(got.merged);
	assert_int_equal(run_segments(r, f->disk, &read, &count), 0);
	assert_int_equal(count, COUNT);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(read[i].number, i + 1);
		assert_int_equal(read[i].bytes, 4096u * i);
		assert_int_equal(read[i].live_blocks, i / 2);
	}
	free(read);
	run_unref(r, f->disk);
}

/* As the first version wrote it: nothing of what the second added. */
static void
run_of_the_first_version_is_of_one_segment_and_whole(void **state)
{
	static unsigned char page[4096] __attribute__((aligned(4096)));
	struct fixture *f = *state;
	struct entry e = data(1, 1, 1);
	struct run_info info;
	struct run_layout layout;
	struct disk_file *file;
	struct run_segment *segments;
	struct run *r;
	size_t count;

	write_run(f, &e, 1);
	assert_int_equal(disk_open(f->disk, path, DISK_WRITE, &file), 0);
	assert_int_equal(disk_read_now(f->disk, file, page, sizeof page, 0), 0);
	assert_int_equal(run_header_decode(page, &info, &layout), 0);
	page[8] = 1;
	memset(page + 160, 0, 24);
	run_page_seal(page, info.digest_seed, info.number, 0, RUN_PAGE_HEADER, 0);
	assert_int_equal(disk_write_now(f->disk, file, page, sizeof page, 0), 0);
	disk_close(f->disk, file);
	assert_int_equal(run_open(f->disk, path, &r, &info, NULL), 0);
	assert_int_equal(info.segment_first, info.number);
	assert_false(info.merged);
	assert_int_equal(count_all(f, r), 1);
	assert_int_equal(run_segments(r, f->disk, &segments, &count), 0);
	assert_int_equal(count, 0);
	free(segments);
	run_unref(r, f->disk);
}

static void
writer_that_is_closed_before_its_commit_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct run_info info = some_info();
	struct entry e = data(1, 1, 1);
	struct disk_file *file;
	struct run_writer *w;

	assert_int_equal(run_writer_open(f->disk, dir, path, &info, &w), 0);
	assert_int_equal(run_writer_add(w, &e), 0);
	run_writer_close(w);
	assert_int_equal(disk_open(f->disk, path, DISK_READ, &file), -ENOENT);
	assert_int_equal(disk_open(f->disk, "/journal/00000007.run.tmp", DISK_READ, &file), -ENOENT);
}

static int
compare_entries(const void *a, const void *b)
{
	return entry_compare(a, b);
}

static void
cursor_hands_out_a_whole_table_in_order(void **state)
{
	struct fixture *f = *state;
	struct dice dice = dice_from_environment();
	static struct model m;

	for (int round = 0; round < 20; round++) {
		struct run *r;

		random_entries(&dice, &m, dice_below(&dice, MODEL_MAX));
		qsort(m.entries, m.count, sizeof *m.entries, compare_entries);
		write_run(f, m.entries, m.count);
		r = open_run(f);
		for (int wide = 0; wide < 2; wide++) {
			struct run_cursor *c;
			struct entry e;

			assert_int_equal(run_cursor_open(r, f->disk, wide, 1 + wide, &c), 0);
			for (size_t i = 0; i < m.count; i++) {
				if ((m.entries[i].count > ENTRY_WIDE_BLOCKS) != wide)
					continue;
				assert_int_equal(run_cursor_next(c, &e), 1);
				assert_memory_equal(&e, &m.entries[i], sizeof e);
			}
			assert_int_equal(run_cursor_next(c, &e), 0);
			run_cursor_close(c);
		}
		run_unref(r, f->disk);
	}
}

static int
count_narrow(struct fixture *f, struct run *r, size_t *ret_count)
{
	struct run_cursor *c;
	struct entry e;
	int ret;

	assert_int_equal(run_cursor_open(r, f->disk, false, RUN_CURSOR_PAGES, &c), 0);
	for (*ret_count = 0; (ret = run_cursor_next(c, &e)) > 0; ++*ret_count)
		;
	run_cursor_close(c);
	return ret;
}

static void
cursor_finds_any_flipped_bit(void **state)
{
	struct fixture *f = *state;
	struct dice dice = dice_from_environment();
	struct entry entries[FEW];

	for (int round = 0; round < 100; round++) {
		uint64_t page = 1 + dice_below(&dice, 3), damaged;
		struct run *r;
		size_t count;

		write_few(f, entries);
		flip(f, &dice, page);
		r = open_run(f);
		assert_int_equal(count_narrow(f, r, &count), 0);
		assert_int_equal(count, 300);
		assert_true(run_take_damaged(r, &damaged));
		assert_int_equal(damaged, page);
		assert_false(run_take_damaged(r, &damaged));
		flip(f, &dice, 1 + page % 3);
		assert_int_equal(count_narrow(f, r, &count), -HF_ECORRUPT);
		run_unref(r, f->disk);
	}
}

static int
stop_at_third(void *arg, const struct entry *e)
{
	return ++*(int *)arg == 3 ? 42 : 0;
}

static void
scan_stops_when_it_is_told_to(void **state)
{
	struct fixture *f = *state;
	struct entry entries[10];
	struct run *r;
	int calls = 0;

	for (unsigned i = 0; i < 10; i++)
		entries[i] = data(1, i, i + 1);
	r = run_from_entries(entries, 10);
	assert_int_equal(run_scan(r, f->disk, NULL, 1, 0, 10, 0, UINT64_MAX, stop_at_third, &calls), 42);
	assert_int_equal(calls, 3);
	run_unref(r, NULL);
}

static void
search_reads_few_pages_of_a_large_run(void **state)
{
	enum { COUNT = 200000 };
	struct fixture *f = *state;
	struct entry *entries = calloc(COUNT, sizeof *entries);
	struct run_cache *cache;
	uint64_t before;
	size_t count = 0;
	struct run *r;

	for (unsigned i = 0; i < COUNT; i++)
		entries[i] = data(1, i * 7, i + 1);
	write_run(f, entries, COUNT);
	r = open_run(f);
	assert_int_equal(run_cache_create(1 << 20, &cache), 0);
	before = disk_sim_operations(f->disk);
	assert_int_equal(run_scan(r, f->disk, cache, 1, 700000, 700001, 0, UINT64_MAX, count_entries, &count), 0);
	assert_int_equal(count, 1);
	assert_true(disk_sim_operations(f->disk) - before <= 16); /* log2 of 1,961 pages, and the scan */
	before = disk_sim_operations(f->disk);
	assert_int_equal(run_scan(r, f->disk, cache, 1, 700000, 700001, 0, UINT64_MAX, count_entries, &count), 0);
	assert_int_equal(disk_sim_operations(f->disk) - before, 0);
	before = disk_sim_operations(f->disk);
	assert_int_equal(run_scan(r, f->disk, cache, 1, 0, UINT64_MAX, 0, UINT64_MAX, count_entries, &count), 0);
	assert_int_equal(count, COUNT + 2);
	assert_true(disk_sim_operations(f->disk) - before < 160); /* read ahead in pieces of 16 */
	run_cache_destroy(cache);
	run_unref(r, f->disk);
	free(entries);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(what_was_written_is_read_back, setup, teardown),
	    cmocka_unit_test_setup_teardown(checkpoints_are_read_back_in_order, setup, teardown),
	    cmocka_unit_test_setup_teardown(run_of_nothing_is_a_run, setup, teardown),
	    cmocka_unit_test_setup_teardown(run_survives_a_power_cut_once_written, setup, teardown),
	    cmocka_unit_test_setup_teardown(cut_anywhere_leaves_the_old_or_the_new_run, setup, teardown),
	    cmocka_unit_test_setup_teardown(failed_write_or_sync_is_told_and_leaves_no_run, setup, teardown),
	    cmocka_unit_test_setup_teardown(left_over_temporary_file_is_replaced, setup, teardown),
	    cmocka_unit_test_setup_teardown(any_flipped_bit_is_found_and_does_no_harm, setup, teardown),
	    cmocka_unit_test_setup_teardown(two_damaged_pages_of_a_group_are_an_error, setup, teardown),
	    cmocka_unit_test_setup_teardown(mended_run_is_what_it_was, setup, teardown),
	    cmocka_unit_test_setup_teardown(mending_may_be_cut_anywhere, setup, teardown),
	    cmocka_unit_test_setup_teardown(bad_place_of_many_pages_of_a_large_run_does_no_harm, setup, teardown),
	    cmocka_unit_test(parity_grows_with_the_run_up_to_a_bound),
	    cmocka_unit_test_setup_teardown(page_in_the_wrong_place_is_found, setup, teardown),
	    cmocka_unit_test_setup_teardown(header_of_another_version_is_no_damage, setup, teardown),
	    cmocka_unit_test_setup_teardown(file_cut_short_is_corrupt_and_a_foreign_one_no_run, setup, teardown),
	    cmocka_unit_test_setup_teardown(read_error_is_told, setup, teardown),
	    cmocka_unit_test_setup_teardown(scans_find_exactly_what_a_search_of_everything_finds, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		longest_narrow_and_shortest_wide_entry_are_found_at_their_last_block, setup, teardown),
	    cmocka_unit_test_setup_teardown(scan_stops_when_it_is_told_to, setup, teardown),
	    cmocka_unit_test_setup_teardown(search_reads_few_pages_of_a_large_run, setup, teardown),
	    cmocka_unit_test_setup_teardown(segments_of_a_merged_run_are_read_back, setup, teardown),
	    cmocka_unit_test_setup_teardown(run_of_the_first_version_is_of_one_segment_and_whole, setup, teardown),
	    cmocka_unit_test_setup_teardown(writer_that_is_closed_before_its_commit_leaves_nothing, setup, teardown),
	    cmocka_unit_test_setup_teardown(cursor_hands_out_a_whole_table_in_order, setup, teardown),
	    cmocka_unit_test_setup_teardown(cursor_finds_any_flipped_bit, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
