/* SPDX-License-Identifier: Apache-2.0 */
/* A disk that fails, and memory that ends: every disk operation and every allocation of a store's life fails once, or
 * from then on, with every error that it may give. Nothing that was acknowledged is lost, no listed point is wrong, and
 * the store goes on by itself, or after it was opened again as the server does.
 *
 * FAULT_STRIDE=1 tries every operation of the long life too; SEED=n another script. */
#include "storage/disk_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/units.h"
#include "storage/catalog_vfs.h"
#include "storage/disk_impl.h"
#include "tests/lib/store_rig.h"

enum { STEPS = 130, STEPS_GROWN = 60, OPENS_MAX = 3, TRIES_MAX = 6, JOBS_MAX = 100, WAITS_MAX = 40, TURNS_MAX = 50 };

/* ---- memory ---- */

/* Allocations of the store; what the simulated disk and the rig need is not theirs. */
static struct {
	uint64_t left; /* allocations until one fails; 0 = none will */
	bool sticky;
	unsigned exempt; /* depth of calls into the disk */
	uint64_t struck;
} memory;

static bool
memory_ends(void)
{
	if (memory.left == 0 || memory.exempt > 0)
		return false;
	if (memory.left > 1) {
		memory.left--;
		return false;
	}
	if (!memory.sticky)
		memory.left = 0;
	memory.struck++;
	return true;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t alignment, size_t n);
void *__real_buffer_alloc(size_t n);
void __real_disk_op_finish(struct disk_op *op);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
void *__wrap_buffer_alloc(size_t n);
void __wrap_disk_op_finish(struct disk_op *op);

void *
__wrap_malloc(size_t n)
{
	return memory_ends() ? NULL : __real_malloc(n);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return memory_ends() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *p, size_t n)
{
	return memory_ends() ? NULL : __real_realloc(p, n);
}

void *
__wrap_aligned_alloc(size_t alignment, size_t n)
{
	return memory_ends() ? NULL : __real_aligned_alloc(alignment, n);
}

void *
__wrap_buffer_alloc(size_t n)
{
	return memory_ends() ? NULL : __real_buffer_alloc(n);
}

/* ---- SQLite's memory ---- */

static sqlite3_mem_methods sqlite_methods;
static struct {
	uint64_t left; /* as above */
	bool sticky;
	uint64_t struck;
} sqlite_memory;

static bool
sqlite_memory_ends(void)
{
	if (sqlite_memory.left == 0)
		return false;
	if (sqlite_memory.left > 1) {
		sqlite_memory.left--;
		return false;
	}
	if (!sqlite_memory.sticky)
		sqlite_memory.left = 0;
	sqlite_memory.struck++;
	return true;
}

static void *
sqlite_malloc(int n)
{
	return sqlite_memory_ends() ? NULL : sqlite_methods.xMalloc(n);
}

static void *
sqlite_realloc(void *p, int n)
{
	return sqlite_memory_ends() ? NULL : sqlite_methods.xRealloc(p, n);
}

static void
watch_sqlite_memory(void)
{
	sqlite3_mem_methods methods;

	assert_int_equal(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_methods), SQLITE_OK);
	methods = sqlite_methods;
	methods.xMalloc = sqlite_malloc;
	methods.xRealloc = sqlite_realloc;
	assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &methods), SQLITE_OK);
}

/* ---- a disk whose own memory never ends ---- */

static const struct disk_ops *sim_ops;

/* clang-format off */
#define EXEMPT(name, parameters, ...)                    \
	static int exempt_##name parameters              \
	{                                                \
		int r;                                   \
		                                         \
		memory.exempt++;                         \
		r = sim_ops->name(__VA_ARGS__);          \
		memory.exempt--;                         \
		return r;                                \
	}
/* clang-format on */

EXEMPT(drain, (struct disk * d), d)
EXEMPT(wait, (struct disk * d, struct disk_op *op), d, op)
EXEMPT(open, (struct disk * d, const char *path, unsigned flags, struct disk_file **f), d, path, flags, f)
EXEMPT(truncate, (struct disk * d, struct disk_file *f, uint64_t bytes), d, f, bytes)
EXEMPT(allocate, (struct disk * d, struct disk_file *f, uint64_t offset, uint64_t len), d, f, offset, len)
EXEMPT(punch, (struct disk * d, struct disk_file *f, uint64_t offset, uint64_t len), d, f, offset, len)
EXEMPT(mkdir, (struct disk * d, const char *path), d, path)
EXEMPT(rename, (struct disk * d, const char *from, const char *to), d, from, to)
EXEMPT(unlink, (struct disk * d, const char *path), d, path)
EXEMPT(rmdir, (struct disk * d, const char *path), d, path)
EXEMPT(sync_dir, (struct disk * d, const char *path), d, path)

static void
exempt_start(struct disk *d, struct disk_op *op)
{
	memory.exempt++;
	sim_ops->start(d, op);
	memory.exempt--;
}

/* The store's callback is the store again. */
void
__wrap_disk_op_finish(struct disk_op *op)
{
	unsigned exempt = memory.exempt;

	memory.exempt = 0;
	__real_disk_op_finish(op);
	memory.exempt = exempt;
}

struct listing {
	void (*each)(void *arg, const char *name);
	void *arg;
};

static void
each_name(void *arg, const char *name)
{
	const struct listing *l = arg;
	unsigned exempt = memory.exempt;

	memory.exempt = 0;
	l->each(l->arg, name);
	memory.exempt = exempt;
}

static int
exempt_list(struct disk *d, const char *path, void (*each)(void *arg, const char *name), void *arg)
{
	struct listing l = {each, arg};
	int r;

	memory.exempt++;
	r = sim_ops->list(d, path, each_name, &l);
	memory.exempt--;
	return r;
}

static void
exempt_disk(struct disk *d)
{
	static struct disk_ops exempt_ops;

	sim_ops = d->ops;
	exempt_ops = *sim_ops;
	exempt_ops.drain = exempt_drain;
	exempt_ops.wait = exempt_wait;
	exempt_ops.start = exempt_start;
	exempt_ops.open = exempt_open;
	exempt_ops.truncate = exempt_truncate;
	exempt_ops.allocate = exempt_allocate;
	exempt_ops.punch = exempt_punch;
	exempt_ops.mkdir = exempt_mkdir;
	exempt_ops.rename = exempt_rename;
	exempt_ops.unlink = exempt_unlink;
	exempt_ops.rmdir = exempt_rmdir;
	exempt_ops.sync_dir = exempt_sync_dir;
	exempt_ops.list = exempt_list;
	d->ops = &exempt_ops;
}

/* ---- time ---- */

static int64_t now_ns = NS_PER_SECOND;
static unsigned waits;

int64_t __wrap_clock_monotonic_ns(void);

int64_t
__wrap_clock_monotonic_ns(void)
{
	return now_ns;
}

/* What fails, and how. */
struct failure {
	const char *path; /* a part of the paths it is confined to, or NULL */
	char kind; /* of operation: see disk_sim.h; 'M': memory; of SQLite, 'S': memory, 'B': busy, 'C': damage */
	enum sim_fault fault;
	bool sticky;
	uint64_t nth;
};

static uint64_t
seed_from_environment(uint64_t otherwise)
{
	const char *text = getenv("SEED");

	return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

static void
arm(struct rig *g, const struct failure *f)
{
	memory.struck = 0;
	sqlite_memory.struck = 0;
	switch (f->kind) {
	case 'M':
		memory.left = f->nth;
		memory.sticky = f->sticky;
		return;
	case 'S':
		sqlite_memory.left = f->nth;
		sqlite_memory.sticky = f->sticky;
		return;
	case 'B': catalog_vfs_fail(g->vfs, SQLITE_BUSY, f->nth, f->sticky); return;
	case 'C': catalog_vfs_fail(g->vfs, SQLITE_CORRUPT, f->nth, f->sticky); return;
	default: break;
	}
	disk_sim_confine_faults(g->disk, f->path);
	disk_sim_fail(g->disk, f->kind, f->nth, f->sticky, f->fault);
}

static uint64_t
count_struck(const struct rig *g)
{
	return disk_sim_struck(g->disk) + memory.struck + sqlite_memory.struck + catalog_vfs_struck(g->vfs);
}

static void
disarm(struct rig *g)
{
	memory.left = sqlite_memory.left = 0;
	catalog_vfs_fail(g->vfs, SQLITE_OK, 0, false);
	disk_sim_fail(g->disk, '*', 1, false, SIM_FAULT_NONE);
}

/* Nothing moves: time passes, and in the end somebody mends the disk. */
static void
on_wait(struct rig *g)
{
	now_ns += NS_PER_SECOND / 2;
	store_tick(g->store);
	if (++waits == WAITS_MAX)
		disarm(g);
}

/* Refused for want of memory; or the stream must wait for what is on its way. */
static bool
must_reconnect(const struct rig *g)
{
	return memory.struck > 0 && waits <= 2 * WAITS_MAX &&
	       (strstr(g->fault, "refused") != NULL || strstr(g->fault, "the stream cannot go on") != NULL);
}

static void
turn_over(struct rig *g)
{
	for (int i = 0; i < TURNS_MAX && !g->failed; i++) {
		store_flush(g->store);
		disk_submit(g->disk);
		if (disk_drain(g->disk) == 0)
			rig_run_jobs(g, 1);
	}
}

/* The agent connects again, and sends again what was not acknowledged. */
static void
reconnect(struct rig *g)
{
	while (g->store != NULL && must_reconnect(g)) {
		g->fault[0] = '\0';
		store_frame_abort(g->store);
		on_wait(g);
		turn_over(g);
		if (!g->failed && rig_start_stream(g) == 0 && rig_check_recovered(g))
			rig_resend(g);
	}
}

/* ---- a life among failures ---- */

/* As the server does: a store that cannot be opened, or whose disks cannot be declared, is tried again later. */
static bool
open_again(struct rig *g)
{
	for (int i = 0; i < OPENS_MAX; i++) {
		rig_close(g);
		g->fault[0] = '\0';
		if (rig_open(g) == 0)
			return true;
	}
	rig_close(g);
	g->fault[0] = '\0';
	return false;
}

/* And one that failed is opened again. What came back is checked, and the rest sent again. */
static bool
keep_open(struct rig *g)
{
	while (g->store == NULL || g->failed) {
		if (!open_again(g))
			return false;
		if (!rig_check_recovered(g))
			return false;
		rig_resend(g);
		reconnect(g);
	}
	return true;
}

static void
live(struct rig *g, unsigned steps)
{
	for (unsigned i = 0; i < steps && g->fault[0] == '\0' && keep_open(g); i++) {
		now_ns += NS_PER_SECOND / 20;
		rig_step(g);
		reconnect(g);
	}
}

/* Stop, and start with a larger disk. */
static void
grow(struct rig *g)
{
	rig_close(g);
	g->bytes[0] += 20 * BLOCK_BYTES;
	(void)keep_open(g);
}

static void
age(struct rig *g)
{
	g->now_ns += 300 * NS_PER_SECOND;
	now_ns += 60 * NS_PER_SECOND;
	if (g->store != NULL && !g->failed) {
		rig_run_jobs(g, JOBS_MAX);
		rig_settle(g);
	}
}

static void
whole_life(struct rig *g)
{
	live(g, STEPS);
	if (g->fault[0] == '\0')
		grow(g);
	live(g, STEPS_GROWN);
	if (g->fault[0] == '\0')
		age(g);
}

/* ---- what must be true at the end ---- */

/* With nothing failing any more all of it comes to its end. */
static void
settle_all(struct rig *g)
{
	for (int i = 0; i < TRIES_MAX && g->fault[0] == '\0' && keep_open(g); i++) {
		now_ns += 60 * NS_PER_SECOND;
		store_tick(g->store);
		reconnect(g);
		rig_settle(g);
		if (!g->failed && g->acked == g->sent)
			break;
	}
	if (g->store != NULL && !g->failed)
		rig_run_jobs(g, JOBS_MAX);
}

static void
end_with(struct rig *g, const struct failure *f, const char *when)
{
	if (g->fault[0] == '\0' && g->store != NULL && !g->failed && g->acked == g->sent && rig_check(g))
		return;
	fail_msg("seed %llu, %c number %llu of %s fails with %d%s, %s: %s", (unsigned long long)g->seed, f->kind,
	    (unsigned long long)f->nth, f->path != NULL ? f->path : "any file", (int)f->fault,
	    f->sticky ? ", and all after it" : "", when, g->fault[0] != '\0' ? g->fault : "it does not go on");
}

/* One life, in which something fails; false if it was over before. */
static bool
survive(uint64_t seed, bool wild, const struct failure *f, void life(struct rig *g))
{
	struct rig *g = calloc(1, sizeof *g);
	bool reached;

	assert_non_null(g);
	rig_create(g, seed, wild ? RIG_WILD : RIG_PLAIN);
	g->on_wait = on_wait;
	waits = 0;
	exempt_disk(g->disk);
	arm(g, f);
	life(g);
	reached = count_struck(g) > 0;
	disarm(g);
	settle_all(g);
	end_with(g, f, "when it was over");
	rig_close(g);
	disk_sim_restart(g->disk, SIM_SURVIVE_NONE, 1);
	settle_all(g);
	end_with(g, f, "after a power cut");
	rig_stop(g);
	free(g);
	return reached;
}

/* ---- any operation may fail ---- */

static uint64_t
stride_from_environment(uint64_t otherwise)
{
	const char *text = getenv("FAULT_STRIDE");

	return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

/* A life in which nothing fails reaches what may fail. */
static void
check_life(uint64_t seed, void life(struct rig *g))
{
	struct rig *g = calloc(1, sizeof *g);

	assert_non_null(g);
	rig_create(g, seed, RIG_PLAIN);
	life(g);
	settle_all(g);
	assert_string_equal(g->fault, "");
	assert_true(rig_is_filled(g) && g->runs_built > 1 && g->folds > 0);
	rig_stop(g);
	free(g);
}

/* Every stride-th operation of a kind, on such files: other ones for every way to fail. */
static void
survive_each(const char *path, char kind, enum sim_fault fault, bool sticky, uint64_t stride)
{
	uint64_t seed = seed_from_environment(2), lives = 0;
	struct failure f = {path, kind, fault, sticky, 0};

	stride = stride_from_environment(stride);
	f.nth = 1 + (2 * (uint64_t)fault + sticky) % stride;
	print_message("SEED=%llu\n", (unsigned long long)seed);
	check_life(seed, whole_life);
	for (; survive(seed, false, &f, whole_life); f.nth += stride)
		lives++;
	print_message("%llu lives\n", (unsigned long long)lives);
	assert_true(f.nth > 50);
}

static void
any_operation_may_fail_once(void **state)
{
	survive_each(NULL, '*', SIM_FAULT_EIO, false, 3);
}

static void
any_operation_may_fail_and_all_after_it(void **state)
{
	survive_each(NULL, '*', SIM_FAULT_EIO, true, 5);
}

static void
the_disk_may_be_full_at_any_operation(void **state)
{
	survive_each(NULL, '*', SIM_FAULT_ENOSPC, false, 5);
}

static void
the_disk_may_be_full_from_any_operation_on(void **state)
{
	survive_each(NULL, '*', SIM_FAULT_ENOSPC, true, 9);
}

static void
any_write_may_end_short(void **state)
{
	survive_each(NULL, 'w', SIM_FAULT_SHORT, false, 3);
}

static void
any_operation_may_be_refused_for_now(void **state)
{
	survive_each(NULL, '*', SIM_FAULT_EAGAIN, false, 9);
}

static void
the_catalog_may_fail_from_any_operation_on(void **state)
{
	survive_each("catalog.db", '*', SIM_FAULT_EIO, true, 5);
}

static void
the_catalog_may_find_no_room_from_any_operation_on(void **state)
{
	survive_each("catalog.db", '*', SIM_FAULT_ENOSPC, true, 5);
}

static void
staging_files_may_fail_from_any_operation_on(void **state)
{
	survive_each("vol-", '*', SIM_FAULT_EIO, true, 3);
}

static void
staging_files_may_find_no_room_from_any_operation_on(void **state)
{
	survive_each("vol-", '*', SIM_FAULT_ENOSPC, true, 3);
}

static void
the_journal_may_fail_from_any_operation_on(void **state)
{
	survive_each("journal", '*', SIM_FAULT_EIO, true, 3);
}

static void
the_journal_may_find_no_room_from_any_operation_on(void **state)
{
	survive_each("journal", '*', SIM_FAULT_ENOSPC, true, 3);
}

static void
any_allocation_may_fail_once(void **state)
{
	survive_each(NULL, 'M', SIM_FAULT_NONE, false, 3);
}

static void
any_allocation_may_fail_and_all_after_it(void **state)
{
	survive_each(NULL, 'M', SIM_FAULT_NONE, true, 5);
}

/* Locks are taken when a catalog is opened, or copied: few of them in a life. */
static void
a_lock_of_sqlite_may_be_busy(void **state)
{
	for (int sticky = 0; sticky < 2; sticky++) {
		struct failure f = {NULL, 'B', SIM_FAULT_NONE, sticky != 0, 1};

		while (survive(seed_from_environment(2), false, &f, whole_life))
			f.nth++;
		assert_true(f.nth > 4);
	}
}

static void
sqlite_may_find_damage_at_any_call(void **state)
{
	survive_each(NULL, 'C', SIM_FAULT_NONE, false, 4);
}

static void
any_allocation_of_sqlite_may_fail_once(void **state)
{
	survive_each(NULL, 'S', SIM_FAULT_NONE, false, 211);
}

static void
any_allocation_of_sqlite_may_fail_and_all_after_it(void **state)
{
	survive_each(NULL, 'S', SIM_FAULT_NONE, true, 401);
}

/* ---- what goes on without the catalog ---- */

static uint64_t
newest_kept(const struct rig *g)
{
	struct pit *pits;
	uint64_t lsn = 0;
	size_t count;

	assert_int_equal(store_list_pits(g->store, &pits, &count), 0);
	for (size_t i = 0; i < count; i++)
		if (pits[i].kept)
			lsn = pits[i].lsn;
	free(pits);
	return lsn;
}

/* Points are due all the while. */
static void
live_for_minutes(struct rig *g)
{
	for (int i = 0; i < 5; i++) {
		live(g, 20);
		age(g);
		assert_string_equal(g->fault, "");
		assert_false(g->failed);
	}
}

static void
frames_are_acknowledged_and_points_wait_while_sqlite_has_no_memory(void **state)
{
	struct rig *g = calloc(1, sizeof *g);
	uint64_t kept, sent;

	assert_non_null(g);
	rig_create(g, seed_from_environment(2), RIG_PLAIN);
	g->on_wait = on_wait;
	waits = 0;
	assert_int_equal(rig_open(g), 0);
	live_for_minutes(g);
	kept = newest_kept(g);
	sent = g->sent;
	assert_true(kept > 0);
	arm(g, &(struct failure){NULL, 'S', SIM_FAULT_NONE, true, 1});
	live_for_minutes(g);
	assert_true(g->sent > sent);
	assert_int_equal(g->acked, g->sent);
	assert_int_equal(newest_kept(g), kept);
	assert_true(count_struck(g) > 0);
	disarm(g);
	live_for_minutes(g);
	assert_true(newest_kept(g) > kept);
	assert_true(rig_check(g));
	rig_stop(g);
	free(g);
}

/* ---- the first fill, when its files fail ---- */

static uint64_t
count_diverted(const struct rig *g)
{
	struct store_stats t;

	store_get_stats(g->store, &t);
	return t.diverted_groups;
}

static void
cut_and_check(struct rig *g)
{
	rig_close(g);
	disk_sim_restart(g->disk, SIM_SURVIVE_NONE, 1);
	assert_int_equal(rig_open(g), 0);
	assert_true(rig_check_recovered(g));
	if (!rig_check(g))
		fail_msg("seed %llu: %s", (unsigned long long)g->seed, g->fault);
}

/* What such a fill left there nobody reads: it is no damage. */
static void
scrub_without_findings(struct rig *g)
{
	struct scrub_status t = {.running = true};

	assert_int_equal(store_scrub_start(g->store), 0);
	for (int i = 0; i < JOBS_MAX && t.running; i++) {
		rig_run_jobs(g, 1);
		store_get_scrub(g->store, &t);
	}
	assert_false(t.running);
	assert_int_equal(t.damaged, 0);
}

/* The store goes on as it is; whatever the files hold then is shadowed, until a fold has put it right. */
static void
fill_among_failures(const struct failure *f)
{
	struct rig *g = calloc(1, sizeof *g);

	assert_non_null(g);
	rig_create(g, seed_from_environment(2), RIG_PLAIN);
	g->on_wait = on_wait;
	waits = 0;
	assert_int_equal(rig_open(g), 0);
	arm(g, f);
	while ((!rig_is_filled(g) || g->sent == 0) && g->fault[0] == '\0')
		rig_step(g);
	rig_settle(g);
	assert_false(g->failed);
	assert_string_equal(g->fault, "");
	assert_true(count_diverted(g) > 0);
	disarm(g);
	scrub_without_findings(g);
	cut_and_check(g);
	scrub_without_findings(g);
	live(g, STEPS);
	age(g);
	assert_true(g->folds > 0);
	cut_and_check(g);
	rig_stop(g);
	free(g);
}

static void
a_fill_whose_staging_files_fail_once_goes_through_the_journal(void **state)
{
	for (uint64_t nth = 1; nth < 6; nth++) {
		fill_among_failures(&(struct failure){"vol-", 's', SIM_FAULT_EIO, false, nth});
		fill_among_failures(&(struct failure){"vol-", 'w', SIM_FAULT_EIO, false, nth});
		fill_among_failures(&(struct failure){"vol-", 'w', SIM_FAULT_SHORT, false, nth});
	}
}

static void
a_fill_whose_staging_files_go_on_failing_goes_on_through_the_journal(void **state)
{
	fill_among_failures(&(struct failure){"vol-", 's', SIM_FAULT_EIO, true, 1});
	fill_among_failures(&(struct failure){"vol-", 's', SIM_FAULT_EIO, true, 4});
	fill_among_failures(&(struct failure){"vol-", 'w', SIM_FAULT_EIO, true, 1});
	fill_among_failures(&(struct failure){".sum", 's', SIM_FAULT_EIO, true, 1});
	fill_among_failures(&(struct failure){".sum", 'w', SIM_FAULT_EIO, true, 2});
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_fill_whose_staging_files_fail_once_goes_through_the_journal),
	    cmocka_unit_test(a_fill_whose_staging_files_go_on_failing_goes_on_through_the_journal),
	    cmocka_unit_test(any_operation_may_fail_once),
	    cmocka_unit_test(any_operation_may_fail_and_all_after_it),
	    cmocka_unit_test(the_disk_may_be_full_at_any_operation),
	    cmocka_unit_test(the_disk_may_be_full_from_any_operation_on),
	    cmocka_unit_test(any_write_may_end_short),
	    cmocka_unit_test(any_operation_may_be_refused_for_now),
	    cmocka_unit_test(the_catalog_may_fail_from_any_operation_on),
	    cmocka_unit_test(the_catalog_may_find_no_room_from_any_operation_on),
	    cmocka_unit_test(staging_files_may_fail_from_any_operation_on),
	    cmocka_unit_test(staging_files_may_find_no_room_from_any_operation_on),
	    cmocka_unit_test(the_journal_may_fail_from_any_operation_on),
	    cmocka_unit_test(the_journal_may_find_no_room_from_any_operation_on),
	    cmocka_unit_test(frames_are_acknowledged_and_points_wait_while_sqlite_has_no_memory),
	    cmocka_unit_test(a_lock_of_sqlite_may_be_busy),
	    cmocka_unit_test(sqlite_may_find_damage_at_any_call),
	    cmocka_unit_test(any_allocation_of_sqlite_may_fail_once),
	    cmocka_unit_test(any_allocation_of_sqlite_may_fail_and_all_after_it),
	    cmocka_unit_test(any_allocation_may_fail_once),
	    cmocka_unit_test(any_allocation_may_fail_and_all_after_it),
	};

	watch_sqlite_memory();
	cmocka_set_test_filter(getenv("TESTS")); /* one of them alone */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
