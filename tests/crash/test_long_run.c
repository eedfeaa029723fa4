/* SPDX-License-Identifier: Apache-2.0 */
/* Weeks of a source's life in a minute: the clock is passed in. Every five minutes a few blocks are written and a
 * checkpoint is made, so thousands of points come, and by the policy most of them go: runs are built and merged, holes
 * punched, the base is folded forward. In the middle the source is dead for days, and loses nothing by it; now and then
 * the power goes. At each sampled moment all points that are listed are what the volumes were then, block by block, and
 * those are listed that the policy promises.
 *
 * usage: test_long_run [--seed N] [--days N]     prints TAP */
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"
#include "storage/catalog_vfs.h"
#include "storage/disk_sim.h"
#include "storage/store.h"
#include "tests/lib/dice.h"
#include "tests/lib/steady.h"

#define DIR    "/data/sources/s-00000000000000001"
#define MINUTE (60 * NS_PER_SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

enum {
	VOLUMES = 2,
	BLOCKS = 64, /* of both volumes */
	FRAME_BLOCKS_MAX = 6,
	SAMPLE_EVERY = 19, /* checkpoints: a view is held for longer than the journal window */
	POWER_LOSS_EVERY = 23,
	JOB_OPERATIONS = 120, /* on the disk: as many as the jobs of one step may take */
	LISTED_MAX = 90,      /* window, rules, what is held, and what waits to go */
};

static const uint64_t volume_blocks[VOLUMES] = {48, 16};
static const int64_t STEP = 5 * MINUTE, DEAD = 5 * DAY, WINDOW = HOUR;
/* The policies it lives by, one after the other. In the second the window is longer than any rule's retention. */
static const struct pit_rule default_rules[] = {
    {.rule_id = 1, .unit = "MINUTE", .interval = 10, .retention = 60, .enabled = true},
    {.rule_id = 2, .unit = "HOUR", .interval = 1, .retention = 24, .enabled = true},
    {.rule_id = 3, .unit = "DAY", .interval = 1, .retention = 7, .enabled = true},
};
static const struct pit_rule short_rules[] = {
    {.rule_id = 4, .unit = "MINUTE", .interval = 10, .retention = 20, .enabled = true},
};

/* What the volumes held at a checkpoint: the tag of every block. */
struct version {
	int64_t time_ns, running_ns;
	uint32_t tags[BLOCKS];
};

static struct world {
	struct disk *disk;
	struct slabs *slabs;
	struct run_cache *cache;
	struct store *store;
	const struct pit_rule *rules;
	size_t rule_count;
	struct view *view; /* of the point at viewed, held for a while; NULL = none */
	const struct version *viewed;
	uint32_t volume[VOLUMES];
	int64_t now_ns, running_ns; /* the source's own time, which stops while it is dead */
	uint64_t stream_id, sequence, acked, chain;
	uint32_t tag;
	struct version now, *versions;
	size_t version_count;
	struct dice dice;
	int64_t held_ns; /* the checkpoint that is held; 0 = none */
	uint64_t points_read, merges, folds, punches, losses;
	size_t listed_most;
	char fault[256];
} w;

static bool __attribute__((format(printf, 1, 2))) fault(const char *format, ...)
{
	va_list ap;

	if (w.fault[0] != '\0')
		return false;
	va_start(ap, format);
	vsnprintf(w.fault, sizeof w.fault, format, ap);
	va_end(ap);
	return false;
}

static int64_t
clock_now(void)
{
	return w.now_ns;
}

static void
make_block(uint32_t tag, unsigned char *ret_block)
{
	uint64_t words[BLOCK_BYTES / 8];

	for (size_t i = 0; i < BLOCK_BYTES / 8; i++)
		words[i] = (uint64_t)tag * (i + 1);
	memcpy(ret_block, words, BLOCK_BYTES);
}

/* ---- the store's owner ---- */

static void
on_durable(void *arg, uint64_t sequence)
{
	w.acked = sequence;
}

static void
ignore(void *arg)
{
}

static void
on_checkpoint(void *arg, const struct checkpoint *c)
{
}

static void
on_failed(void *arg, int status, const char *text)
{
	fault("the store failed: %s", text);
}

static void
on_thinned(void *arg, const struct pit *pit)
{
	fault("a point was given up for want of room");
}

static const struct store_events events = {.durable = on_durable,
    .room = ignore,
    .checkpoint = on_checkpoint,
    .job_ready = ignore,
    .failed = on_failed,
    .thinned = on_thinned};

static const struct store_config config = {
    .dir = DIR,
    .catalog_vfs = "long",
    .segment_bytes_first = 64 * 1024,
    .segment_bytes_max = 256 * 1024,
    .reserve_bytes = 4096,
    .clock_ns = clock_now,
    .passed_ns = clock_now,
};

static int
run_job(struct store_job *job)
{
	const char *name = store_job_name(job);
	int r;

	store_job_run(job, w.disk, w.cache);
	store_job_finish(w.store, job, true);
	r = store_job_status(job, NULL);
	if (r < 0 && !disk_sim_is_cut(w.disk))
		fault("%s: %d", name, r);
	w.folds += strcmp(name, "fold") == 0;
	w.merges += strcmp(name, "merge runs") == 0;
	w.punches += strcmp(name, "punch segments") == 0;
	store_job_destroy(job);
	return r;
}

static void
run_jobs(void)
{
	struct store_job *job;

	while (w.fault[0] == '\0' && !disk_sim_is_cut(w.disk) && (job = store_job_next(w.store)) != NULL)
		(void)run_job(job);
}

/* Everything sent is durable. */
static void
settle(void)
{
	while (w.acked < w.sequence && w.fault[0] == '\0') {
		store_flush(w.store);
		disk_submit(w.disk);
		if (disk_drain(w.disk) == 0)
			run_jobs();
	}
}

static void
declare(void)
{
	struct store_declaration d[VOLUMES];
	struct store_job *job;
	char text[256];
	int status;

	memset(d, 0, sizeof d);
	for (int i = 0; i < VOLUMES; i++) {
		snprintf(d[i].name, sizeof d[i].name, "disk%d", i);
		snprintf(d[i].identity, sizeof d[i].identity, "serial:%d", i);
		d[i].size_bytes = volume_blocks[i] * BLOCK_BYTES;
		d[i].ok = true;
	}
	job = store_declare(w.store, d, VOLUMES);
	store_job_run(job, w.disk, w.cache);
	store_job_finish(w.store, job, true);
	for (size_t i = 0; i < VOLUMES; i++) {
		store_declare_result(job, i, &w.volume[i], &status, text, sizeof text);
		if (status < 0)
			fault("declared: %s", text);
	}
	store_job_destroy(job);
}

static void
set_policy(const struct pit_rule *rules, size_t count)
{
	struct policy p = {.rule_count = count, .journal_window_ns = WINDOW};

	memcpy(p.rules, rules, count * sizeof *rules);
	(void)run_job(store_set_policy(w.store, &p));
	w.rules = rules;
	w.rule_count = count;
}

/* Opened, at first or once more; a new stream, or the one that was. */
static void
open_store(void)
{
	struct hf_error err;
	uint64_t stream, sequence, chain;

	if (store_open(w.disk, &config, &w.store, &err) < 0) {
		fault("cannot open: %s", err.text);
		return;
	}
	store_attach(w.store, w.disk, w.slabs, &events, NULL);
	declare();
	store_get_stream(w.store, &stream, &sequence, &chain);
	if (stream == w.stream_id && (sequence != w.sequence || chain != w.chain))
		fault("the stream came back at %" PRIu64 " instead of %" PRIu64, sequence, w.sequence);
	if (store_stream_start(w.store, w.stream_id, stream == w.stream_id) < 0)
		fault("the stream cannot go on");
}

static void
close_store(void)
{
	if (w.view != NULL)
		store_view_release(w.store, w.view);
	w.view = NULL;
	store_shutdown(w.store);
	while (!store_is_idle(w.store)) {
		disk_submit(w.disk);
		(void)disk_drain(w.disk);
	}
	store_close(w.store, w.disk);
	w.store = NULL;
}

/* ---- the source ---- */

static void
end_frame(void)
{
	w.sequence++;
	w.chain = w.chain * 3 + w.sequence;
}

static void
send(uint32_t kind, int volume, uint64_t block, uint64_t count)
{
	struct store_extent x = {.block = block, .count = count, .volume = w.volume[volume], .kind = kind};
	uint64_t digests[BLOCKS] = {0}, data = kind == 1 || kind == 3 ? count : 0;
	unsigned char bytes[BLOCK_BYTES];
	uint32_t *tags = &w.now.tags[volume == 0 ? block : volume_blocks[0] + block];
	void *payload;
	size_t bad;

	for (uint64_t i = 0; i < count; i++)
		tags[i] = data > 0 ? ++w.tag : 0;
	for (uint64_t i = 0; i < data; i++) {
		make_block(tags[i], bytes);
		digests[i] = digest_block(store_digest_seed(w.store), bytes);
	}
	if (store_frame_begin(w.store, w.sequence + 1, w.chain * 3 + w.sequence + 1, &x, 1, digests, data, &payload) <
	    0) {
		fault("a frame was refused");
		return;
	}
	for (uint64_t i = 0; i < data; i++)
		make_block(tags[i], (unsigned char *)payload + i * BLOCK_BYTES);
	if (store_frame_end(w.store, &bad) < 0)
		fault("a payload was refused");
	end_frame();
}

static void
fill(void)
{
	for (int v = 0; v < VOLUMES; v++)
		for (uint64_t block = 0; block < volume_blocks[v]; block += 16)
			send(3, v, block, 16);
	settle();
}

static void
write_some(void)
{
	for (uint64_t n = 1 + dice_below(&w.dice, 2); n > 0; n--) {
		int v = dice_once_in(&w.dice, 4);
		uint64_t hot = dice_once_in(&w.dice, 3) ? volume_blocks[v] : volume_blocks[v] / 4;
		uint64_t block = dice_below(&w.dice, hot), count = 1 + dice_below(&w.dice, FRAME_BLOCKS_MAX);

		if (count > volume_blocks[v] - block)
			count = volume_blocks[v] - block;
		send(dice_once_in(&w.dice, 6) ? 2 : 1, v, block, count);
	}
}

static void
make_checkpoint(void)
{
	struct checkpoint c = {.clock_ns = w.now_ns,
	    .received_ns = w.now_ns,
	    .unchanged_until_ns = w.now_ns,
	    .consistency = CHECKPOINT_CRASH};

	w.now.time_ns = w.now_ns;
	w.now.running_ns = w.running_ns;
	w.versions[w.version_count++] = w.now;
	if (store_checkpoint(w.store, w.sequence + 1, w.chain * 3 + w.sequence + 1, &c) < 0)
		fault("a checkpoint was refused");
	end_frame();
	settle();
}

static void
pass(int64_t ns)
{
	w.now_ns += ns;
	store_tick(w.store);
	run_jobs();
}

/* ---- what must be ---- */

static const struct version *
find_version(int64_t time_ns)
{
	size_t low = 0, high = w.version_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (w.versions[middle].time_ns < time_ns)
			low = middle + 1;
		else
			high = middle;
	}
	return low < w.version_count && w.versions[low].time_ns == time_ns ? &w.versions[low] : NULL;
}

static bool
check_volume(struct view *view, int volume, const struct version *v)
{
	static unsigned char *buf;
	const uint32_t *tags = &v->tags[volume == 0 ? 0 : volume_blocks[0]];
	unsigned char want[BLOCK_BYTES];
	struct view_fault bad;

	if (buf == NULL && (buf = buffer_alloc(BLOCKS * BLOCK_BYTES)) == NULL)
		abort();
	if (view_read(view, w.disk, w.cache, w.volume[volume], 0, (uint32_t)volume_blocks[volume], buf, &bad) < 0)
		return fault("disk%d block %" PRIu64 " of a point cannot be read", volume, bad.block);
	for (uint64_t b = 0; b < volume_blocks[volume]; b++) {
		make_block(tags[b], want);
		if (memcmp(buf + b * BLOCK_BYTES, want, BLOCK_BYTES) != 0)
			return fault("disk%d block %" PRIu64 " is not what it was", volume, b);
	}
	return true;
}

static bool
check_view(struct view *view, const struct version *v)
{
	bool ok = true;

	for (int i = 0; i < VOLUMES && ok; i++)
		ok = check_volume(view, i, v);
	return ok;
}

static bool
check_point(const struct pit *p)
{
	const struct version *v = find_version(p->checkpoint.clock_ns);
	struct view *view;
	bool ok;

	if (v == NULL || !p->complete)
		return fault("a point that was never made is listed");
	if (store_view(w.store, p->lsn, &view) < 0)
		return fault("a listed point cannot be opened");
	ok = check_view(view, v);
	store_view_release(w.store, view);
	w.points_read++;
	return ok;
}

static bool
is_listed_between(const struct pit *list, size_t count, int64_t from_ns, int64_t until_ns)
{
	for (size_t i = 0; i < count; i++)
		if (list[i].checkpoint.clock_ns >= from_ns && list[i].checkpoint.clock_ns < until_ns)
			return true;
	return false;
}

/* In every interval in which there was a checkpoint, and whose beginning is well within the rule, there is a point. (It
 * may be younger than that: each power loss costs it some minutes of age.) */
static bool
check_rule(const struct pit *list, size_t count, const struct pit_rule *rule)
{
	int64_t unit = rule->unit[0] == 'M' ? MINUTE : rule->unit[0] == 'H' ? HOUR : DAY;
	int64_t interval = rule->interval * unit, retention = rule->retention * unit;
	int64_t slack = 2 * STEP;

	for (size_t i = w.version_count; i-- > 0;) {
		const struct version *v = &w.versions[i];
		int64_t slot = v->time_ns - v->time_ns % interval;

		if (w.running_ns - v->running_ns + v->time_ns - slot > retention - slack)
			return true;
		if (!is_listed_between(list, count, slot, slot + interval))
			return fault("rule %zu has no point in the interval %lld minutes ago", (size_t)rule->rule_id,
			    (long long)((w.now_ns - slot) / MINUTE));
	}
	return true;
}

/* All of the journal window, and what is held. */
static bool
check_window(const struct pit *list, size_t count)
{
	for (size_t i = w.version_count; i-- > 0 && w.running_ns - w.versions[i].running_ns <= WINDOW - STEP;)
		if (!is_listed_between(list, count, w.versions[i].time_ns, w.versions[i].time_ns + 1))
			return fault("a checkpoint of the journal window is not listed");
	if (w.held_ns != 0 && !is_listed_between(list, count, w.held_ns, w.held_ns + 1))
		return fault("the point that is held is gone");
	return true;
}

/* The view that was held since the last sample is what it was, whatever went meanwhile; another is taken. */
static void
hold_view(const struct pit *list, size_t count)
{
	const struct pit *p = count > 0 ? &list[dice_below(&w.dice, count)] : NULL;

	if (w.view != NULL) {
		(void)check_view(w.view, w.viewed);
		store_view_release(w.store, w.view);
		w.view = NULL;
	}
	if (p == NULL || dice_once_in(&w.dice, 2) || store_view(w.store, p->lsn, &w.view) < 0)
		return;
	w.viewed = find_version(p->checkpoint.clock_ns);
}

static void
sample(void)
{
	struct pit *list;
	size_t count;
	bool ok;

	if (w.fault[0] != '\0')
		return;
	if (store_list_pits(w.store, &list, &count) < 0) {
		fault("points cannot be listed");
		return;
	}
	if (count > w.listed_most)
		w.listed_most = count;
	ok = count <= LISTED_MAX || fault("%zu points are listed: they do not go", count);
	for (size_t i = 0; i < count && ok; i++)
		ok = check_point(&list[i]);
	for (size_t i = 0; i < w.rule_count && ok; i++)
		ok = check_rule(list, count, &w.rules[i]);
	if (ok)
		(void)check_window(list, count);
	hold_view(list, count);
	free(list);
}

/* ---- a life ---- */

/* In the middle of what the store does by itself, or a little later. Everything sent is durable. */
static void
lose_power(void)
{
	disk_sim_cut_at(w.disk, 1 + dice_below(&w.dice, JOB_OPERATIONS));
	run_jobs();
	disk_sim_restart(w.disk, dice_once_in(&w.dice, 2) ? SIM_SURVIVE_NONE : SIM_SURVIVE_RANDOM, dice_next(&w.dice));
	close_store();
	w.losses++;
	open_store();
}

/* The oldest point is held for the first half, and then it goes. */
static void
hold_oldest(enum store_pit_verb verb)
{
	struct pit *list;
	size_t count, i = 0;

	if (w.fault[0] != '\0' || store_list_pits(w.store, &list, &count) < 0)
		return;
	while (i < count && verb == STORE_PIT_RELEASE && list[i].checkpoint.clock_ns != w.held_ns)
		i++;
	if (i < count && run_job(store_pit_change(w.store, &list[i].id, verb)) == 0)
		w.held_ns = verb == STORE_PIT_HOLD ? list[i].checkpoint.clock_ns : 0;
	free(list);
}

static void
run_days(unsigned days)
{
	int64_t until_ns = w.now_ns + days * DAY;

	for (unsigned n = 1; w.now_ns < until_ns && w.fault[0] == '\0'; n++) {
		write_some();
		make_checkpoint();
		if (n % POWER_LOSS_EVERY == 0 && w.view == NULL)
			lose_power();
		if (w.fault[0] != '\0')
			return;
		run_jobs();
		if (n % SAMPLE_EVERY == 0)
			sample();
		w.running_ns += STEP;
		pass(STEP);
	}
}

static size_t
count_points(void)
{
	struct pit *list = NULL;
	size_t count = 0;

	(void)store_list_pits(w.store, &list, &count);
	free(list);
	return count;
}

/* Nobody writes, nobody checkpoints; the daemon goes on. */
static void
be_dead(void)
{
	size_t before = count_points();

	if (w.fault[0] != '\0')
		return;
	store_stream_stop(w.store);
	for (int64_t t = 0; t < DEAD && w.fault[0] == '\0'; t += HOUR)
		pass(HOUR);
	if (count_points() != before)
		fault("a dead source lost points: %zu of %zu are left", count_points(), before);
	sample();
	if (store_stream_start(w.store, w.stream_id, true) < 0)
		fault("the source cannot come back");
}

static void
begin(uint64_t seed, unsigned days)
{
	struct id source;
	struct hf_error err;

	steady_seed(seed);
	w.dice.state = seed;
	w.now_ns = 20000 * DAY;
	w.stream_id = w.chain = seed | 1;
	w.versions = calloc((size_t)(days * DAY / STEP) + 16, sizeof *w.versions);
	(void)id_parse("s", "s-00000000000000001", &source);
	if (w.versions == NULL || disk_sim_create(seed, &w.disk) < 0 || slabs_create(w.disk, 4, &w.slabs, NULL) < 0 ||
	    run_cache_create(1 << 20, &w.cache) < 0 || catalog_vfs_register(w.disk, "long") < 0 ||
	    disk_mkdir(w.disk, "/data") < 0 || disk_mkdir(w.disk, "/data/sources") < 0 ||
	    disk_sync_dir(w.disk, "/data") < 0 || disk_sync_dir(w.disk, "/") < 0 ||
	    store_create(w.disk, &config, &source, &err) < 0)
		abort();
	open_store();
	set_policy(default_rules, 3);
	fill();
}

static bool
report(int test, const char *what)
{
	struct store_stats t = {0};

	if (w.store != NULL)
		store_get_stats(w.store, &t);
	printf("# %zu checkpoints, at most %zu points at a time, %" PRIu64 " read; %" PRIu64 " merges, %" PRIu64
	       " punches, %" PRIu64 " folds, %" PRIu64 " power losses; %" PRIu64 " runs, %" PRIu64 " KiB of journal\n",
	    w.version_count, w.listed_most, w.points_read, w.merges, w.punches, w.folds, w.losses, t.run_count,
	    t.journal_bytes / 1024);
	if (w.fault[0] != '\0')
		printf("# VIOLATION after %zu checkpoints: %s\n", w.version_count, w.fault);
	printf("%s %d - %s\n", w.fault[0] == '\0' ? "ok" : "not ok", test, what);
	return w.fault[0] == '\0';
}

static bool
live(unsigned days)
{
	run_days(1);
	hold_oldest(STORE_PIT_HOLD);
	run_days(days / 2);
	sample();
	if (!report(1, "points are made and go by the policy, and what is listed is what it was"))
		return false;
	be_dead();
	if (!report(2, "a dead source loses nothing"))
		return false;
	hold_oldest(STORE_PIT_RELEASE);
	run_days(days - days / 2);
	sample();
	if (!report(3, "it comes back, and its history goes on"))
		return false;
	set_policy(short_rules, 1);
	run_days(2);
	if (w.folds == 0 || w.merges == 0)
		fault("nothing was folded, or nothing merged: it proves too little");
	return report(4, "another policy, of less than the journal window");
}

int
main(int argc, char **argv)
{
	static const struct option names[] = {
	    {"seed", required_argument, NULL, 's'}, {"days", required_argument, NULL, 'd'}, {0}};
	uint64_t seed = 1;
	unsigned days = 60;
	int c;
	bool ok;

	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1)
		switch (c) {
		case 's': seed = strtoull(optarg, NULL, 0); break;
		case 'd': days = (unsigned)strtoul(optarg, NULL, 0); break;
		default: fprintf(stderr, "usage: test_long_run [--seed N] [--days N]\n"); return 2;
		}
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("# seed %" PRIu64 ", %u days\n", seed, days);
	steady_alone();
	begin(seed, days + 3);
	ok = live(days);
	printf("1..4\n");
	if (w.store != NULL)
		close_store();
	catalog_vfs_unregister("long");
	disk_sim_restart(w.disk, SIM_SURVIVE_ALL, 0);
	disk_destroy(w.disk);
	run_cache_destroy(w.cache);
	slabs_destroy(w.slabs);
	free(w.versions);
	return ok ? 0 : 1;
}
