/* SPDX-License-Identifier: Apache-2.0 */
/* bench_layout: a journal for each source, or one for each worker? Measured with the disk interface, the group
 * commit and the ring that holdfastd uses, and nothing of TLS, digests or catalogs around them.
 *
 * Every source keeps `depth` writes under way (a closed loop): when one is acknowledged it brings the next. A
 * journal lives as journal.c's does:
 *
 *	waiting writes --close--> group: [descriptor | payload], one disk write --> written --sync--> acknowledged
 *
 * A group closes when none of its journal is under way, or when it is large; a sync covers every group of its
 * journal that is written by then. What differs is how many journals the sources share, what their files were
 * made of, and how many syncs a worker allows itself at a time.
 *
 * The disk of the machine that measures may answer a flush out of its write-back cache in no time. So there is
 * also a disk with an honest flush: the real sync, and then the wait for a flush that takes a millisecond, of which
 * one runs at a time and the next one serves all who came meanwhile, as the block layer does it.
 *
 * Payload is not filled in: the kernel does not look at it, and the groups of a worker share their memory.
 *
 *	bench_layout [--dir DIR] [--seconds S] [--rounds N]
 *
 * About 110 s and 2.6 GiB in DIR (default: here). */
#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/common/units.h"
#include "storage/disk.h"

enum {
	PAGE_BYTES = 4096,
	GROUP_BYTES_MAX = 2 * 1024 * 1024, /* payload of a group, as a slab has it */
	GROUP_BYTES_EARLY = 1024 * 1024,   /* a group this large goes out although others are on their way */
	GROUPS_PER_JOURNAL = 8,
	ARENA_BYTES = 64 * 1024 * 1024, /* what the groups of a worker are written from */
	RING_DEPTH = 512,
	SOURCES_MAX = 1000,
	WORKERS_MAX = 2,
	SAMPLES_MAX = 1 << 20, /* acknowledgements timed per worker and run */
	ROUNDS_MAX = 9,
};

/* Small files, one each for up to 1,000 sources, and large ones for a journal that few or all share. */
static const uint64_t SMALL_FILE_BYTES = 1 << 20, LARGE_FILE_BYTES = 512 << 20, FRESH_BYTES = 512 << 20;
static const int64_t WARM_UP_NS = 60 * 1000 * 1000;

enum file_kind { FILES_RECYCLED, FILES_ZEROED, FILES_ALLOCATED };
static const char *const file_kind_names[] = {"recycled", "zeros written ahead", "fallocate"};

struct scenario {
	unsigned table; /* which table of the report it is a row of */
	unsigned sources, workers;
	bool each; /* a journal for each source; else one for each worker */
	unsigned write_bytes, depth;
	enum file_kind kind;
	unsigned syncs_max; /* under way per worker; 0 = no limit */
	bool one_flush;     /* one sync of one file stands for all files of the worker */
	int64_t flush_ns;   /* of the honest flush; 0 = the disk as it is */
};

struct figures {
	double writes_per_s, syncs_per_s, p50_ms, p99_ms, cpu_s_per_gib, bytes_ratio, writes_per_group;
};

/* ---- the honest flush, shared by all workers ---- */

static struct {
	pthread_mutex_t lock;
	int64_t duration_ns;        /* 0 = none */
	int64_t begins_ns, ends_ns; /* the newest one, running or still to begin */
} flush = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* When a sync asked for now is done. Never decreases. */
static int64_t
flush_due(int64_t now)
{
	int64_t due;

	if (flush.duration_ns == 0)
		return now;
	pthread_mutex_lock(&flush.lock);
	if (now >= flush.begins_ns) { /* it began before our writes were there: the next one is ours */
		flush.begins_ns = now > flush.ends_ns ? now : flush.ends_ns;
		flush.ends_ns = flush.begins_ns + flush.duration_ns;
	}
	due = flush.ends_ns;
	pthread_mutex_unlock(&flush.lock);
	return due;
}

/* ---- what is measured ---- */

struct request {
	int64_t begun_ns;
};

enum group_state { GROUP_WRITING, GROUP_WRITTEN };

struct group {
	struct group *next;
	struct journal *journal;
	struct disk_op op;
	enum group_state state;
	bool synced; /* the sync under way covers it */
	unsigned count;
	struct request *requests; /* room for GROUP_BYTES_MAX / write_bytes, or all the journal ever has */
};

struct journal {
	struct worker *worker;
	struct journal *next_sync;
	struct disk_file *file;
	uint64_t at, capacity;
	struct request *waiting; /* ring of waiting_max */
	unsigned waiting_first, waiting_count, waiting_max;
	struct group *groups, *groups_tail; /* under way, oldest first */
	unsigned group_count;
	bool sync_wanted; /* in the worker's list, or its sync is under way */
	struct disk_op sync_op;
	int64_t due_ns;
};

struct worker {
	const struct scenario *scenario;
	pthread_t thread;
	struct disk *disk;
	char *arena;
	size_t arena_at;
	struct journal *journals;
	unsigned journal_count, source_count;
	struct group *free_groups;
	struct journal *sync_first, *sync_last; /* waiting for their turn to sync */
	struct journal *due_first, *due_last;   /* synced, waiting for the honest flush */
	unsigned syncs_under_way, busy;
	uint32_t *samples_us;
	/* counted between begin and end of the measured time */
	unsigned sample_count;
	uint64_t acked, syncs, groups, written_bytes;
};

static atomic_bool stopping, measuring, out_of_room;
static volatile sig_atomic_t interrupted;

static void
fail(const char *what, int code)
{
	fprintf(stderr, "bench_layout: %s: %s\n", what, strerror(-code));
	exit(1);
}

static void *
allocate(size_t count, size_t size)
{
	void *p = calloc(count > 0 ? count : 1, size);

	if (p == NULL)
		fail("memory", -ENOMEM);
	return p;
}

/* ---- a journal's life ---- */

static void flush_journal(struct journal *j);

static void
push_request(struct journal *j, int64_t now)
{
	assert(j->waiting_count < j->waiting_max);
	j->waiting[(j->waiting_first + j->waiting_count++) % j->waiting_max] = (struct request){now};
}

static struct group *
take_group(struct journal *j, unsigned count)
{
	struct worker *w = j->worker;
	struct group *g = w->free_groups;

	assert(g != NULL);
	w->free_groups = g->next;
	g->next = NULL;
	g->journal = j;
	g->state = GROUP_WRITING;
	g->synced = false;
	g->count = count;
	for (unsigned i = 0; i < count; i++)
		g->requests[i] = j->waiting[(j->waiting_first + i) % j->waiting_max];
	j->waiting_first = (j->waiting_first + count) % j->waiting_max;
	j->waiting_count -= count;
	if (j->groups_tail != NULL)
		j->groups_tail->next = g;
	else
		j->groups = g;
	j->groups_tail = g;
	j->group_count++;
	return g;
}

/* Whole pages: a header, and for each write a record with one extent and a digest per block. */
static size_t
descriptor_bytes(const struct scenario *sc, unsigned writes)
{
	size_t bytes = 96 + (size_t)writes * (24 + 24 + 8 * (sc->write_bytes / PAGE_BYTES));

	return (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
}

/* A descriptor is made; the payload stands for what TLS would have put there. */
static char *
group_memory(struct worker *w, size_t descriptor, size_t payload)
{
	char *p;

	if (w->arena_at + descriptor + payload > ARENA_BYTES)
		w->arena_at = 0;
	p = w->arena + w->arena_at;
	w->arena_at += descriptor + payload;
	memset(p, (int)w->arena_at, descriptor);
	return p;
}

static bool
all_written(const struct journal *j)
{
	return j->groups != NULL && j->groups->state == GROUP_WRITTEN;
}

static void
want_sync(struct journal *j)
{
	struct worker *w = j->worker;

	if (j->sync_wanted || !all_written(j))
		return;
	j->sync_wanted = true;
	j->next_sync = NULL;
	if (w->sync_last != NULL)
		w->sync_last->next_sync = j;
	else
		w->sync_first = j;
	w->sync_last = j;
}

static void
on_written(void *arg, int res)
{
	struct group *g = arg;

	if (res < 0)
		fail("write", res);
	g->journal->worker->busy--;
	g->state = GROUP_WRITTEN;
	want_sync(g->journal);
}

static void
write_group(struct group *g)
{
	struct journal *j = g->journal;
	struct worker *w = j->worker;
	size_t descriptor = descriptor_bytes(w->scenario, g->count);
	size_t payload = (size_t)g->count * w->scenario->write_bytes;
	size_t bytes = descriptor + payload;

	if (j->at + bytes > j->capacity) {
		if (w->scenario->kind != FILES_RECYCLED) /* going round would recycle it */
			atomic_store(&out_of_room, true);
		j->at = 0;
	}
	g->op.cb = on_written;
	g->op.arg = g;
	disk_write(w->disk, &g->op, j->file, group_memory(w, descriptor, payload), bytes, j->at);
	j->at += bytes;
	w->busy++;
	if (atomic_load_explicit(&measuring, memory_order_relaxed)) {
		w->written_bytes += bytes;
		w->groups++;
	}
}

static void
flush_journal(struct journal *j)
{
	unsigned most = GROUP_BYTES_MAX / j->worker->scenario->write_bytes;
	unsigned early = GROUP_BYTES_EARLY / j->worker->scenario->write_bytes;

	while (j->waiting_count > 0 && j->group_count < GROUPS_PER_JOURNAL &&
	       (j->group_count == 0 || j->waiting_count >= early))
		write_group(take_group(j, j->waiting_count < most ? j->waiting_count : most));
}

static void
note_ack(struct worker *w, const struct request *r, int64_t now)
{
	if (!atomic_load_explicit(&measuring, memory_order_relaxed))
		return;
	w->acked++;
	if (w->sample_count < SAMPLES_MAX)
		w->samples_us[w->sample_count++] = (uint32_t)((now - r->begun_ns) / 1000);
}

/* All groups the sync covered are durable: acknowledge them; every source brings its next write. */
static void
acknowledge(struct journal *j)
{
	struct worker *w = j->worker;
	int64_t now = clock_monotonic_ns();
	bool more = !atomic_load_explicit(&stopping, memory_order_relaxed);

	j->sync_wanted = false;
	while (j->groups != NULL && j->groups->synced) {
		struct group *g = j->groups;

		j->groups = g->next;
		if (j->groups == NULL)
			j->groups_tail = NULL;
		j->group_count--;
		for (unsigned i = 0; i < g->count; i++) {
			note_ack(w, &g->requests[i], now);
			if (more)
				push_request(j, now);
		}
		g->next = w->free_groups;
		w->free_groups = g;
	}
	if (more)
		flush_journal(j);
	want_sync(j);
}

static void
wait_for_flush(struct journal *j, int64_t due)
{
	struct worker *w = j->worker;

	j->due_ns = due;
	j->next_sync = NULL;
	if (w->due_last != NULL)
		w->due_last->next_sync = j;
	else
		w->due_first = j;
	w->due_last = j;
}

static void
take_due(struct worker *w, int64_t now)
{
	while (w->due_first != NULL && w->due_first->due_ns <= now) {
		struct journal *j = w->due_first;

		w->due_first = j->next_sync;
		if (w->due_first == NULL)
			w->due_last = NULL;
		w->syncs_under_way--;
		acknowledge(j);
	}
}

static void
on_synced(void *arg, int res)
{
	struct journal *j = arg;
	struct worker *w = j->worker;

	if (res < 0)
		fail("sync", res);
	w->busy--;
	if (atomic_load_explicit(&measuring, memory_order_relaxed))
		w->syncs++;
	wait_for_flush(j, flush_due(clock_monotonic_ns()));
}

static void
mark_synced(struct journal *j)
{
	for (struct group *g = j->groups; g != NULL && g->state == GROUP_WRITTEN; g = g->next)
		g->synced = true;
}

static struct journal *
take_sync(struct worker *w)
{
	struct journal *j = w->sync_first;

	w->sync_first = j->next_sync;
	if (w->sync_first == NULL)
		w->sync_last = NULL;
	mark_synced(j);
	w->syncs_under_way++;
	return j;
}

static void
submit_sync(struct journal *j, disk_cb *cb)
{
	j->sync_op.cb = cb;
	j->sync_op.arg = j;
	j->worker->busy++;
	disk_sync(j->worker->disk, &j->sync_op, j->file);
}

/* One flush for all: its journal is synced, and the others it was taken for hang behind it. */
static void
on_flushed(void *arg, int res)
{
	struct journal *j = arg, *rest = j->next_sync;
	int64_t due;

	on_synced(j, res);
	due = j->due_ns;
	while (rest != NULL) {
		struct journal *next = rest->next_sync;

		wait_for_flush(rest, due);
		rest = next;
	}
}

static void
start_one_flush(struct worker *w)
{
	struct journal *first = NULL, **end = &first;

	if (w->syncs_under_way > 0 || w->sync_first == NULL)
		return;
	while (w->sync_first != NULL) {
		struct journal *j = take_sync(w);

		j->next_sync = NULL;
		*end = j;
		end = &j->next_sync;
	}
	submit_sync(first, on_flushed);
}

static void
start_syncs(struct worker *w)
{
	unsigned most = w->scenario->syncs_max;

	if (w->scenario->one_flush) {
		start_one_flush(w);
		return;
	}
	while (w->sync_first != NULL && (most == 0 || w->syncs_under_way < most))
		submit_sync(take_sync(w), on_synced);
}

/* ---- a worker ---- */

static void
wait_for_something(struct worker *w)
{
	struct pollfd p = {.fd = disk_fd(w->disk), .events = POLLIN};
	struct timespec t, *timeout = NULL;
	int64_t left;

	if (w->due_first != NULL) {
		left = w->due_first->due_ns - clock_monotonic_ns();
		left = left > 0 ? left : 0;
		t = (struct timespec){.tv_sec = left / NS_PER_SECOND, .tv_nsec = left % NS_PER_SECOND};
		timeout = &t;
	}
	(void)ppoll(&p, 1, timeout, NULL); /* a hint: the loop looks for itself */
}

static void *
worker_main(void *arg)
{
	struct worker *w = arg;
	int64_t now = clock_monotonic_ns();
	unsigned depth = w->scenario->depth;

	for (unsigned i = 0; i < w->source_count * depth; i++)
		push_request(&w->journals[i % w->journal_count], now);
	for (unsigned i = 0; i < w->journal_count; i++)
		flush_journal(&w->journals[i]);
	for (;;) {
		start_syncs(w);
		disk_submit(w->disk);
		if (w->busy == 0 && w->due_first == NULL)
			break;
		wait_for_something(w);
		disk_drain(w->disk);
		take_due(w, clock_monotonic_ns());
	}
	return NULL;
}

static void
add_group(struct worker *w, unsigned requests)
{
	struct group *g = allocate(1, sizeof *g);

	g->requests = allocate(requests, sizeof *g->requests);
	g->next = w->free_groups;
	w->free_groups = g;
}

static void
init_worker(struct worker *w, const struct scenario *sc, unsigned index, struct disk_file **files, uint64_t file_bytes)
{
	struct hf_error err;
	unsigned most = GROUP_BYTES_MAX / sc->write_bytes;
	unsigned outstanding;

	w->scenario = sc;
	w->source_count = sc->sources / sc->workers + (index < sc->sources % sc->workers);
	w->journal_count = sc->each ? w->source_count : 1;
	outstanding = w->source_count / w->journal_count * sc->depth;
	w->journals = allocate(w->journal_count, sizeof *w->journals);
	w->samples_us = allocate(SAMPLES_MAX, sizeof *w->samples_us);
	w->arena = buffer_alloc(ARENA_BYTES);
	if (w->arena == NULL)
		fail("memory", -ENOMEM);
	if (disk_ring_create(RING_DEPTH, &w->disk, &err) < 0) {
		fprintf(stderr, "bench_layout: %s\n", err.text);
		exit(1);
	}
	(void)disk_register_buffers(
	    w->disk, &(struct iovec){w->arena, ARENA_BYTES}, 1); /* unregistered is slower, not wrong */
	for (unsigned i = 0; i < w->journal_count; i++) {
		struct journal *j = &w->journals[i];

		j->worker = w;
		j->file = files[i];
		j->capacity = file_bytes;
		j->waiting_max = outstanding;
		j->waiting = allocate(outstanding, sizeof *j->waiting);
		for (unsigned g = 0; g < GROUPS_PER_JOURNAL; g++)
			add_group(w, outstanding < most ? outstanding : most);
	}
}

static void
fini_worker(struct worker *w)
{
	while (w->free_groups != NULL) {
		struct group *g = w->free_groups;

		w->free_groups = g->next;
		free(g->requests);
		free(g);
	}
	for (unsigned i = 0; i < w->journal_count; i++)
		free(w->journals[i].waiting);
	free(w->journals);
	free(w->samples_us);
	disk_destroy(w->disk);
	buffer_free(w->arena, ARENA_BYTES);
}

/* ---- files ---- */

static char bench_dir[3000];
static struct disk *main_disk;
static struct disk_file *small_files[SOURCES_MAX], *large_files[WORKERS_MAX];

static struct disk_file *
open_fresh(const char *kind, unsigned i)
{
	struct disk_file *f;
	char path[3100];
	int r;

	snprintf(path, sizeof path, "%s/%s-%04u", bench_dir, kind, i);
	r = disk_open(main_disk, path, DISK_WRITE | DISK_CREATE, &f);
	if (r < 0)
		fail(path, r);
	return f;
}

static void
write_zeros(struct disk_file *f, uint64_t bytes)
{
	static char *zeros;
	uint64_t step = 1 << 20;
	int r = 0;

	if (zeros == NULL)
		zeros = buffer_alloc(step);
	if (zeros == NULL)
		fail("memory", -ENOMEM);
	for (uint64_t at = 0; at < bytes && r == 0; at += step)
		r = disk_write_now(main_disk, f, zeros, bytes - at < step ? bytes - at : step, at);
	if (r < 0)
		fail("write zeros", r);
}

static struct disk_file *
make_file(const char *name, unsigned i, uint64_t bytes, enum file_kind kind)
{
	struct disk_file *f = open_fresh(name, i);
	int r = disk_allocate(main_disk, f, 0, bytes);

	if (r < 0)
		fail("fallocate", r);
	if (kind != FILES_ALLOCATED)
		write_zeros(f, bytes);
	r = disk_sync_now(main_disk, f);
	if (r < 0)
		fail("sync", r);
	return f;
}

static void
make_lasting_files(void)
{
	for (unsigned i = 0; i < SOURCES_MAX; i++)
		small_files[i] = make_file("small", i, SMALL_FILE_BYTES, FILES_RECYCLED);
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		large_files[i] = make_file("large", i, LARGE_FILE_BYTES, FILES_RECYCLED);
}

static void
remove_file(void *arg, const char *name)
{
	char path[3300];

	snprintf(path, sizeof path, "%s/%s", bench_dir, name);
	(void)disk_unlink(main_disk, path); /* cleaning up: there is nobody left to tell */
}

static void
remove_everything(void)
{
	(void)disk_list(main_disk, bench_dir, remove_file, NULL);
	(void)rmdir(bench_dir);
}

/* Files for one run, with the bytes each may take; fresh ones are made for it. */
static unsigned
files_for(const struct scenario *sc, struct disk_file **ret_files, uint64_t *ret_bytes)
{
	unsigned count = sc->each ? sc->sources : sc->workers;
	bool few = count <= WORKERS_MAX;

	if (sc->kind == FILES_RECYCLED) {
		memcpy(ret_files, few ? large_files : small_files, count * sizeof *ret_files);
		*ret_bytes = few ? LARGE_FILE_BYTES : SMALL_FILE_BYTES;
		return count;
	}
	*ret_bytes = FRESH_BYTES / count & ~(uint64_t)(PAGE_BYTES - 1);
	for (unsigned i = 0; i < count; i++)
		ret_files[i] = make_file("fresh", i, *ret_bytes, sc->kind);
	return count;
}

static void
drop_fresh_files(const struct scenario *sc, struct disk_file **files, unsigned count)
{
	if (sc->kind == FILES_RECYCLED)
		return;
	for (unsigned i = 0; i < count; i++) {
		char name[32];

		disk_close(main_disk, files[i]);
		snprintf(name, sizeof name, "fresh-%04u", i);
		remove_file(NULL, name);
	}
}

/* ---- one run ---- */

static double
cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u); /* the kernel's io_uring workers are threads of ours, so they are in it */
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void
sleep_ns(int64_t ns)
{
	int64_t until = clock_monotonic_ns() + ns;

	while (clock_monotonic_ns() < until && !atomic_load(&out_of_room) && !interrupted)
		usleep(1000);
}

static int
compare_samples(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void
collect(struct worker *workers, unsigned count, double seconds, double cpu_s, struct figures *ret)
{
	uint64_t acked = 0, syncs = 0, groups = 0, written = 0;
	unsigned n = 0, samples = 0;
	uint32_t *all;
	double received;

	for (unsigned i = 0; i < count; i++)
		samples += workers[i].sample_count;
	all = allocate(samples, sizeof *all);
	for (unsigned i = 0; i < count; i++) {
		memcpy(all + n, workers[i].samples_us, workers[i].sample_count * sizeof *all);
		n += workers[i].sample_count;
		acked += workers[i].acked;
		syncs += workers[i].syncs;
		groups += workers[i].groups;
		written += workers[i].written_bytes;
	}
	if (n == 0 || groups == 0)
		fail("nothing was acknowledged in the measured time; --seconds is too short", -ETIME);
	qsort(all, n, sizeof *all, compare_samples);
	received = (double)acked * workers[0].scenario->write_bytes;
	*ret = (struct figures){
	    .writes_per_s = (double)acked / seconds,
	    .syncs_per_s = (double)syncs / seconds,
	    .p50_ms = all[n / 2] / 1e3,
	    .p99_ms = all[(uint64_t)n * 99 / 100] / 1e3,
	    .cpu_s_per_gib = cpu_s / (received / (1 << 30)),
	    .bytes_ratio = (double)written / received,
	    .writes_per_group = (double)acked / (double)groups,
	};
	free(all);
}

static void
run_scenario(const struct scenario *sc, double seconds, struct figures *ret)
{
	static struct disk_file *files[SOURCES_MAX];
	struct worker workers[WORKERS_MAX] = {0};
	unsigned file_count, used = 0;
	uint64_t file_bytes;
	int64_t begun;
	double cpu, took;

	file_count = files_for(sc, files, &file_bytes);
	flush.duration_ns = sc->flush_ns;
	flush.begins_ns = flush.ends_ns = 0;
	atomic_store(&stopping, false);
	atomic_store(&measuring, false);
	atomic_store(&out_of_room, false);
	for (unsigned i = 0; i < sc->workers; i++) {
		init_worker(&workers[i], sc, i, files + used, file_bytes);
		used += workers[i].journal_count;
	}
	for (unsigned i = 0; i < sc->workers; i++)
		pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
	sleep_ns(WARM_UP_NS);
	cpu = cpu_seconds();
	begun = clock_monotonic_ns();
	atomic_store(&measuring, true);
	sleep_ns((int64_t)(seconds * NS_PER_SECOND));
	atomic_store(&measuring, false);
	took = (double)(clock_monotonic_ns() - begun) / NS_PER_SECOND;
	cpu = cpu_seconds() - cpu;
	atomic_store(&stopping, true);
	for (unsigned i = 0; i < sc->workers; i++)
		pthread_join(workers[i].thread, NULL);
	if (!interrupted)
		collect(workers, sc->workers, took, cpu, ret);
	for (unsigned i = 0; i < sc->workers; i++)
		fini_worker(&workers[i]);
	drop_fresh_files(sc, files, file_count);
}

/* ---- which runs, and the report ---- */

enum { TABLE_LAYOUT, TABLE_FLUSH, TABLE_SYNCS, TABLE_FILES, TABLE_COUNT };
static const char *const table_titles[TABLE_COUNT] = {
    "Layouts, on this disk as it is (recycled files, syncs not limited)",
    "The same with a flush that takes 1 ms (4 KiB writes, as many syncs at a time as the ring has kernel threads)",
    "A journal each, 512 sources, 1 worker, 4 KiB x 16: syncs under way at a time",
    "What the files are made of (4 KiB x 16, 1 worker)",
};

enum { SCENARIOS_MAX = 128 };
static struct scenario scenarios[SCENARIOS_MAX];
static unsigned scenario_count;
static struct figures results[SCENARIOS_MAX][ROUNDS_MAX];

static struct scenario *
add(unsigned table, unsigned sources, unsigned workers, bool each, unsigned write_bytes, unsigned depth)
{
	struct scenario *sc = &scenarios[scenario_count++];

	assert(scenario_count <= SCENARIOS_MAX);
	*sc = (struct scenario){
	    .table = table,
	    .sources = sources,
	    .workers = workers,
	    .each = each,
	    .write_bytes = write_bytes,
	    .depth = depth,
	};
	return sc;
}

/* Syncs run in the ring's kernel threads, of which there are so many for files. The honest flush does not hold one of
 * them, as a real one would; so the limit must be kept here. */
static unsigned
kernel_syncs_max(void)
{
	return 4 * (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
}

static void
add_layouts(unsigned table, unsigned write_bytes, unsigned depth, int64_t flush_ns)
{
	static const unsigned sources[] = {1, 64, 512, 1000};

	for (unsigned i = 0; i < sizeof sources / sizeof *sources; i++)
		for (unsigned workers = 1; workers <= WORKERS_MAX && workers <= sources[i]; workers++)
			for (int each = 1; each >= 0; each--) {
				struct scenario *sc = add(table, sources[i], workers, each, write_bytes, depth);

				sc->flush_ns = flush_ns;
				sc->syncs_max = flush_ns != 0 ? kernel_syncs_max() : 0;
			}
}

static void
add_scenarios(void)
{
	static const unsigned limits[] = {1, 2, 4, 8, 64, 0};

	add_layouts(TABLE_LAYOUT, 4096, 1, 0);
	add_layouts(TABLE_LAYOUT, 4096, 16, 0);
	add_layouts(TABLE_LAYOUT, 65536, 4, 0);
	add_layouts(TABLE_FLUSH, 4096, 16, 1000 * 1000);
	for (int honest = 0; honest < 2; honest++) {
		for (unsigned i = 0; i < sizeof limits / sizeof *limits; i++) {
			struct scenario *sc = add(TABLE_SYNCS, 512, 1, true, 4096, 16);

			sc->syncs_max = limits[i];
			sc->flush_ns = honest * 1000 * 1000;
		}
		add(TABLE_SYNCS, 512, 1, true, 4096, 16)->one_flush = true;
		scenarios[scenario_count - 1].flush_ns = honest * 1000 * 1000;
	}
	for (unsigned kind = 0; kind <= FILES_ALLOCATED; kind++) {
		add(TABLE_FILES, 1, 1, true, 4096, 16)->kind = kind;
		add(TABLE_FILES, 64, 1, true, 4096, 16)->kind = kind;
		add(TABLE_FILES, 64, 1, false, 4096, 16)->kind = kind;
	}
}

static int
compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of the rounds' values at this offset of struct figures. */
static double
median(const struct figures *rounds, unsigned count, size_t offset)
{
	double v[ROUNDS_MAX] = {0};

	for (unsigned i = 0; i < count; i++)
		memcpy(&v[i], (const char *)&rounds[i] + offset, sizeof v[i]);
	qsort(v, count, sizeof *v, compare_doubles);
	return v[count / 2];
}

static void
describe(const struct scenario *sc, char *ret_text, size_t size)
{
	const char *journals = sc->each ? "a source" : "a worker";

	switch (sc->table) {
	case TABLE_SYNCS:
		if (sc->one_flush)
			snprintf(ret_text, size, "%s | one for all files", sc->flush_ns != 0 ? "1 ms" : "as it is");
		else if (sc->syncs_max == 0)
			snprintf(ret_text, size, "%s | no limit", sc->flush_ns != 0 ? "1 ms" : "as it is");
		else
			snprintf(ret_text, size, "%s | %u", sc->flush_ns != 0 ? "1 ms" : "as it is", sc->syncs_max);
		return;
	case TABLE_FILES:
		snprintf(ret_text, size, "%s | %u | %s", file_kind_names[sc->kind], sc->sources, journals);
		return;
	default:
		snprintf(ret_text, size, "%u KiB x %u | %u | %u | %s", sc->write_bytes / 1024, sc->depth, sc->sources,
		    sc->workers, journals);
	}
}

static const char *
heading(unsigned table)
{
	switch (table) {
	case TABLE_SYNCS: return "flush | syncs at a time";
	case TABLE_FILES: return "files | sources | a journal for";
	default: return "writes x under way | sources | workers | a journal for";
	}
}

static void
print_row(unsigned i, unsigned rounds)
{
	const struct figures *f = results[i];
	char text[200];

#define MEDIAN(field) median(f, rounds, offsetof(struct figures, field))
	describe(&scenarios[i], text, sizeof text);
	printf("| %s | %.0f | %.0f | %.1f | %.2f | %.2f | %.2f | %.3f |\n", text, MEDIAN(writes_per_s),
	    MEDIAN(syncs_per_s), MEDIAN(writes_per_group), MEDIAN(p50_ms), MEDIAN(p99_ms), MEDIAN(cpu_s_per_gib),
	    MEDIAN(bytes_ratio));
#undef MEDIAN
}

static void
print_table(unsigned table, unsigned rounds)
{
	printf("\n%s\n\n| %s | durable writes/s | syncs/s | writes a group | ack p50 ms | ack p99 ms | CPU s/GiB | "
	       "bytes written "
	       "per byte |\n|",
	    table_titles[table], heading(table));
	for (const char *p = heading(table); p != NULL; p = strchr(p + 1, '|'))
		printf("---|");
	printf("---:|---:|---:|---:|---:|---:|---:|\n");
	for (unsigned i = 0; i < scenario_count; i++)
		if (scenarios[i].table == table)
			print_row(i, rounds);
}

static void
on_signal(int number)
{
	interrupted = 1;
}

static void
measure(double seconds, unsigned rounds)
{
	for (unsigned round = 0; round < rounds && !interrupted; round++) {
		for (unsigned i = 0; i < scenario_count && !interrupted; i++)
			run_scenario(&scenarios[i], seconds, &results[i][round]);
		fprintf(stderr, "bench_layout: round %u of %u\n", round + 1, rounds);
	}
}

static void
usage(void)
{
	fprintf(stderr, "usage: bench_layout [--dir DIR] [--seconds S] [--rounds 1..9]\n");
	exit(64);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
	    {"dir", 1, NULL, 'd'}, {"seconds", 1, NULL, 's'}, {"rounds", 1, NULL, 'r'}, {0}};
	const char *dir = ".";
	double seconds = 0.3;
	unsigned rounds = 3;
	struct hf_error err;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'd': dir = optarg; break;
		case 's': seconds = atof(optarg); break;
		case 'r': rounds = (unsigned)atoi(optarg); break;
		default: usage();
		}
	}
	if (optind < argc || seconds <= 0 || rounds < 1 || rounds > ROUNDS_MAX)
		usage();
	snprintf(bench_dir, sizeof bench_dir, "%s/bench-layout.%d", dir, (int)getpid());
	if (mkdir(bench_dir, 0700) < 0)
		fail(bench_dir, -errno);
	if (disk_ring_create(RING_DEPTH, &main_disk, &err) < 0) {
		(void)rmdir(bench_dir);
		fprintf(stderr, "bench_layout: %s\n", err.text);
		return 1;
	}
	atexit(remove_everything);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	add_scenarios();
	make_lasting_files();
	measure(seconds, rounds);
	for (unsigned table = 0; table < TABLE_COUNT && !interrupted; table++)
		print_table(table, rounds);
	for (unsigned i = 0; i < SOURCES_MAX; i++)
		disk_close(main_disk, small_files[i]);
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		disk_close(main_disk, large_files[i]);
	return interrupted ? 1 : 0;
}
