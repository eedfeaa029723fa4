/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/store_rig.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/catalog_vfs.h"

static const int64_t RIG_WINDOW_NS = 20 * NS_PER_SECOND;

enum {
	SLOTS = 2, /* rigs that may be open at a time */
	RUN_CACHE_BYTES =
	    16 << 20, /* all they ever read: what is evicted depends on how many runs the process has had */
};

/* Made once: pre-faulting slabs for every crash state would cost more than all the rest. */
static struct slot {
	struct rig *rig;
	struct slabs *slabs;
	struct run_cache *cache; /* of its own: what one rig reads does not change what another finds */
} slots[SLOTS];
static struct rig *clock_rig; /* the store asks for the time without an argument */

static int64_t
rig_clock(void)
{
	return clock_rig->now_ns + clock_rig->clock_ahead_ns;
}

static int64_t
rig_passed(void)
{
	return clock_rig->now_ns;
}

static uint64_t
next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull); /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

uint64_t
rig_pick(struct rig *g, uint64_t n)
{
	return next_random(&g->random) % n;
}

static uint64_t
pick(struct rig *g, uint64_t n)
{
	return rig_pick(g, n);
}

/* As the loop does once a turn: hand over what was submitted, then run what completed. */
static int
turn(struct rig *g)
{
	disk_submit(g->disk);
	return disk_drain(g->disk);
}

static bool __attribute__((format(printf, 2, 3))) fault(struct rig *g, const char *format, ...)
{
	va_list ap;

	if (g->fault[0] != '\0')
		return false;
	va_start(ap, format);
	vsnprintf(g->fault, sizeof g->fault, format, ap);
	va_end(ap);
	return false;
}

/* ---- content ---- */

enum { KNOWN_DIGESTS = 4096 };

static void
make_block(uint64_t tag, unsigned char *ret_block)
{
	uint64_t *words = (uint64_t *)ret_block;

	for (size_t i = 0; i < BLOCK_BYTES / 8; i++)
		words[i] = tag * (i + 1);
}

static bool
is_block(const unsigned char *block, uint64_t tag)
{
	const uint64_t *words = (const uint64_t *)block;
	uint64_t differs = 0;

	for (size_t i = 0; i < BLOCK_BYTES / 8; i++)
		differs |= words[i] ^ tag * (i + 1);
	return differs == 0;
}

/* The same few blocks are looked at from every crash state. */
static uint64_t
tag_digest(const struct rig *g, uint64_t tag)
{
	static struct {
		uint64_t seed, tag, digest;
	} known[KNOWN_DIGESTS];
	uint64_t seed = store_digest_seed(g->store);
	unsigned char block[BLOCK_BYTES] __attribute__((aligned(8)));
	size_t i = (tag ^ tag >> 32 ^ seed) % KNOWN_DIGESTS;

	if (known[i].seed != seed || known[i].tag != tag) {
		make_block(tag, block);
		known[i].seed = seed;
		known[i].tag = tag;
		known[i].digest = digest_block(seed, block);
	}
	return known[i].digest;
}

/* ---- which blocks the model knows ---- */

struct window {
	uint64_t block;
	unsigned index, count;
};

enum { ZONE_BLOCKS = 65536, WINDOWS_MAX = 3 };

static const struct window large[WINDOWS_MAX] = {{0, 0, 12}, {ZONE_BLOCKS - 8, 12, 20}, {2 * ZONE_BLOCKS, 32, 12}};
static const struct {
	int volumes, attached; /* at first */
	uint64_t bytes[RIG_WILD_VOLUMES];
} shapes[] = {
    [RIG_PLAIN] = {2, 2, {96 * BLOCK_BYTES - 512, 40 * BLOCK_BYTES}},
    [RIG_WILD] = {3, 3, {36 * BLOCK_BYTES - 512, 20 * BLOCK_BYTES, (2 * ZONE_BLOCKS + 12ull) * BLOCK_BYTES}},
    [RIG_TINY] = {3, 2, {10 * BLOCK_BYTES - 512, 6 * BLOCK_BYTES, 12 * BLOCK_BYTES}},
    [RIG_KEEPER] = {2, 2, {96 * BLOCK_BYTES - 512, 40 * BLOCK_BYTES}},
};

static unsigned
list_windows(int volume, struct window *ret_windows)
{
	if (volume == 2) {
		memcpy(ret_windows, large, sizeof large);
		return WINDOWS_MAX;
	}
	ret_windows[0] = (struct window){0, 0, RIG_BLOCKS_MAX};
	return 1;
}

/* The window that holds the block, or the first behind it; count 0: there is none. */
static struct window
find_window(int volume, uint64_t block)
{
	struct window w[WINDOWS_MAX];
	unsigned n = list_windows(volume, w);

	for (unsigned i = 0; i < n; i++)
		if (block < w[i].block + w[i].count)
			return w[i];
	return (struct window){0};
}

static uint64_t
tag_of(const struct rig_state *st, int volume, uint64_t block)
{
	struct window w = find_window(volume, block);

	if (block >= st->frontier[volume] || w.count == 0 || block < w.block)
		return 0;
	return st->tags[volume][w.index + (block - w.block)];
}

/* The same content for known blocks of a range. */
static void
set_tag(struct rig_state *st, int volume, uint64_t from, uint64_t to, uint64_t tag)
{
	struct window w[WINDOWS_MAX];
	unsigned n = list_windows(volume, w);

	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < w[i].count; k++)
			if (w[i].block + k >= from && w[i].block + k < to)
				st->tags[volume][w[i].index + k] = tag;
}

/* ---- the store's owner ---- */

static void
on_durable(void *arg, uint64_t sequence)
{
	struct rig *g = arg;

	assert(g->stream_base + sequence >= g->acked);
	g->acked = g->stream_base + sequence;
}

static void
on_room(void *arg)
{
}

static void
on_checkpoint(void *arg, const struct checkpoint *c)
{
}

static void
on_job_ready(void *arg)
{
}

static void
on_failed(void *arg, int status, const char *text)
{
	struct rig *g = arg;

	g->failed = true;
}

static void
on_thinned(void *arg, const struct pit *pit)
{
}

static const struct store_events events = {
    .thinned = on_thinned,
    .durable = on_durable,
    .room = on_room,
    .checkpoint = on_checkpoint,
    .job_ready = on_job_ready,
    .failed = on_failed,
};

static struct store_config
rig_config(const struct rig *g)
{
	return (struct store_config){
	    .dir = RIG_DIR,
	    .catalog_vfs = g->vfs,
	    .segment_bytes_first = 64 * 1024,
	    .segment_bytes_max = 128 * 1024,
	    .reserve_bytes = 4096,
	    .clock_ns = rig_clock,
	    .passed_ns = rig_passed,
	};
}

static int
set_policy(struct rig *g)
{
	struct policy p = {.rule_count = 1, .journal_window_ns = RIG_WINDOW_NS}, now;
	struct store_job *job;
	int r;

	store_get_policy(g->store, &now);
	if (now.journal_window_ns == p.journal_window_ns)
		return 0;
	p.rules[0] = (struct pit_rule){.rule_id = 1, .unit = "MINUTE", .interval = 1, .retention = 1, .enabled = true};
	job = store_set_policy(g->store, &p);
	if (job == NULL)
		return -ENOMEM;
	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, true);
	r = store_job_status(job, NULL);
	store_job_destroy(job);
	return r;
}

/* ---- declaring ---- */

static uint64_t
blocks_of(uint64_t bytes)
{
	return (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
}

static struct store_job *
make_declare(struct rig *g)
{
	struct store_declaration d[RIG_WILD_VOLUMES];
	size_t n = 0;

	memset(d, 0, sizeof d);
	for (int i = 0; i < g->volumes; i++) {
		if (!g->attached[i])
			continue;
		snprintf(d[n].name, sizeof d[n].name, "disk%d", i);
		snprintf(d[n].identity, sizeof d[n].identity, "serial:%d", i);
		d[n].size_bytes = g->bytes[i];
		d[n].ok = true;
		n++;
	}
	return store_declare(g->store, d, n);
}

/* What became of it. The disks may have changed since it was made, but only by growing: those are declared again. */
static int
take_declared(struct rig *g, const struct store_job *job)
{
	struct store_volume list[STORE_VOLUMES_MAX];
	size_t count = store_list_volumes(g->store, list, STORE_VOLUMES_MAX), n = 0;
	int r = store_job_status(job, NULL), first = r;
	char text[256];

	for (int i = 0; i < g->volumes && r == 0; i++) {
		uint32_t number;
		int status;

		g->declared[i] = g->usable[i] = false;
		if (!g->attached[i])
			continue;
		store_declare_result(job, n++, &number, &status, text, sizeof text);
		if (status < 0 && first == 0)
			first = status;
		g->declared[i] = number != 0;
		g->usable[i] = status == 0;
		for (size_t k = 0; k < count; k++)
			if (list[k].volume == number) {
				g->volume[i] = number;
				g->blocks[i] = blocks_of(list[k].size_bytes);
			}
	}
	g->declarations++;
	return first;
}

int
rig_declare(struct rig *g)
{
	struct store_job *job = make_declare(g);
	int r;

	if (job == NULL)
		return -ENOMEM;
	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, true);
	r = take_declared(g, job);
	store_job_destroy(job);
	return r;
}

/* ---- life ---- */

/* The stream that is durable: the newest, or none of its frames made it. */
int
rig_start_stream(struct rig *g)
{
	uint64_t stream, sequence, chain;
	int r;

	store_get_stream(g->store, &stream, &sequence, &chain);
	r = store_stream_start(g->store, g->stream_id, stream == g->stream_id);
	if (r < 0)
		fault(g, "the stream cannot go on: %s", hf_status_text(r));
	return r;
}

/* Its disk is there: a place of its own among the rigs that may be open. */
static void
take_slot(struct rig *g)
{
	int i = 0;

	while (i < SLOTS && slots[i].rig != NULL)
		i++;
	assert(i < SLOTS);
	snprintf(g->vfs, sizeof g->vfs, "rig%d", i);
	if ((slots[i].slabs == NULL && slabs_create(g->disk, 4, &slots[i].slabs, NULL) < 0) ||
	    (slots[i].cache == NULL && run_cache_create(RUN_CACHE_BYTES, &slots[i].cache) < 0) ||
	    catalog_vfs_register(g->disk, g->vfs) < 0)
		abort();
	slots[i].rig = g;
	g->slabs = slots[i].slabs;
	g->cache = slots[i].cache;
}

/* Time is again that of the rig that is left. */
static void
leave_slot(struct rig *g)
{
	for (int i = 0; i < SLOTS; i++)
		if (slots[i].rig == g) {
			catalog_vfs_unregister(g->vfs);
			slots[i].rig = NULL;
		} else if (slots[i].rig != NULL) {
			clock_rig = slots[i].rig;
		}
}

/* What is sent again may be of a disk that was taken away meanwhile. */
static void
attach_unacknowledged(struct rig *g)
{
	for (uint64_t i = g->acked + 1; i <= g->sent; i++)
		for (size_t k = 0; k < g->frames[i].extent_count; k++)
			for (int v = 0; v < g->volumes; v++)
				g->attached[v] |= g->volume[v] == g->frames[i].extents[k].volume;
}

int
rig_open(struct rig *g)
{
	struct store_config config;
	struct hf_error err;
	int r;

	clock_rig = g;
	if (g->slabs == NULL)
		take_slot(g);
	config = rig_config(g);
	r = store_open(g->disk, &config, &g->store, &err);
	if (r < 0) {
		g->store = NULL;
		if (!disk_sim_is_cut(g->disk))
			fault(g, "cannot open: %s", err.text);
		return r;
	}
	store_attach(g->store, g->disk, g->slabs, &events, g);
	attach_unacknowledged(g);
	r = rig_declare(g);
	if (r == 0)
		r = set_policy(g);
	if (r < 0 && !disk_sim_is_cut(g->disk))
		fault(g, "the volumes cannot be declared: %s", hf_status_text(r));
	return r < 0 ? r : rig_start_stream(g);
}

void
rig_create(struct rig *g, uint64_t seed, enum rig_kind kind)
{
	struct store_config config;
	struct id source;
	struct hf_error err;

	memset(g, 0, sizeof *g);
	g->seed = g->random = seed;
	g->kind = kind;
	g->volumes = shapes[kind].volumes;
	g->stream_id = seed | 1;
	g->now_ns = 1000000 * NS_PER_SECOND;
	g->frames[0].chain = g->stream_id;
	for (int i = 0; i < g->volumes; i++) {
		g->attached[i] = i < shapes[kind].attached;
		g->bytes[i] = shapes[kind].bytes[i];
	}
	clock_rig = g;
	if (disk_sim_create(seed, &g->disk) < 0)
		abort();
	take_slot(g);
	config = rig_config(g);
	disk_sim_set_reorder(g->disk, true);
	(void)id_parse("s", "s-00000000000000001", &source);
	if (disk_mkdir(g->disk, "/data") < 0 || disk_mkdir(g->disk, "/data/sources") < 0 ||
	    disk_sync_dir(g->disk, "/data") < 0 || disk_sync_dir(g->disk, "/") < 0)
		abort();
	if (store_create(g->disk, &config, &source, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

bool
rig_start(struct rig *g, uint64_t seed)
{
	rig_create(g, seed, RIG_PLAIN);
	return rig_open(g) == 0;
}

static int finish_job(struct rig *g, unsigned i);

/* Jobs that are out end as they can: their threads are part of the process. */
void
rig_close(struct rig *g)
{
	if (g->store == NULL)
		return;
	while (g->job_count > 0)
		finish_job(g, 0);
	while (g->view_count > 0)
		store_view_release(g->store, g->views[--g->view_count].view);
	while (!store_is_idle(g->store) && turn(g) > 0)
		;
	store_close(g->store, g->disk);
	g->store = NULL;
	g->failed = false;
}

void
rig_stop(struct rig *g)
{
	rig_close(g);
	leave_slot(g);
	disk_destroy(g->disk);
}

void
rig_fork(struct rig *to, const struct rig *from)
{
	memcpy(to, from, offsetof(struct rig, frames));
	memcpy(to->frames, from->frames, (from->sent + 1) * sizeof from->frames[0]);
	memcpy(to->states, from->states, (from->sent + 1) * sizeof from->states[0]);
	to->store = NULL;
	to->slabs = NULL;
	to->job_count = to->view_count = 0;
	to->failed = false;
	if (disk_sim_clone(from->disk, &to->disk) < 0)
		abort();
}

uint64_t
rig_hash(const struct rig *g)
{
	uint64_t h = g->pressed;

#define HASH(member) (h = digest_chain(h, &g->member, sizeof g->member))
	HASH(stream_id);
	HASH(stream_before);
	HASH(stream_base);
	HASH(volume);
	HASH(bytes);
	HASH(attached);
	HASH(declared);
	HASH(usable);
	HASH(blocks);
	HASH(sent);
	HASH(acked);
	HASH(now_ns);
	HASH(clock_ahead_ns);
	HASH(kept_count);
#undef HASH
	h = digest_chain(h, g->kept, g->kept_count * sizeof g->kept[0]);
	h = digest_chain(h, g->frames, (g->sent + 1) * sizeof g->frames[0]);
	return digest_chain(h, g->states, (g->sent + 1) * sizeof g->states[0]);
}

/* ---- the agent ---- */

void
rig_frame_extent(struct rig *g, int volume, uint64_t block, uint64_t count, bool fill, bool zero)
{
	struct rig_frame *f = &g->frames[g->sent];
	struct rig_state *st = &g->states[g->sent];
	struct store_extent *x = &f->extents[f->extent_count++];

	*x = (struct store_extent){.block = block, .count = count, .volume = g->volume[volume]};
	x->kind = fill ? (zero ? 4 : 3) : zero ? 2 : 1;
	f->kind = fill ? RIG_FILL : RIG_DATA;
	if (zero)
		set_tag(st, volume, block, block + count, 0);
	for (uint64_t b = block; !zero && b < block + count; b++) {
		uint64_t tag = next_random(&g->random) | 1;

		f->tags[f->tag_count++] = tag;
		set_tag(st, volume, b, b + 1, tag);
	}
	if (fill)
		st->frontier[volume] = block + count;
}

static uint64_t
smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Windows are filled bit by bit, what lies between them in one extent of zeros. */
static void
make_fill(struct rig *g, int volume)
{
	const struct rig_state *st = &g->states[g->sent];

	for (int i = 0; i < 3 && st->frontier[volume] < g->blocks[volume]; i++) {
		uint64_t from = st->frontier[volume], left = g->blocks[volume] - from;
		struct window w = find_window(volume, from);

		if (w.count > 0 && from >= w.block)
			rig_frame_extent(g, volume, from,
			    smaller(1 + pick(g, 12), smaller(left, w.block + w.count - from)), true, pick(g, 4) == 0);
		else
			rig_frame_extent(g, volume, from, w.count > 0 ? w.block - from : left, true, true);
	}
}

/* One frame says one thing about a block: the protocol refuses more. */
static bool
overlaps(const struct rig *g, const struct rig_frame *f, int volume, uint64_t block, uint64_t count)
{
	for (size_t i = 0; i < f->extent_count; i++)
		if (f->extents[i].volume == g->volume[volume] && block < f->extents[i].block + f->extents[i].count &&
		    f->extents[i].block < block + count)
			return true;
	return false;
}

/* A known block before the frontier. */
static uint64_t
pick_block(struct rig *g, int volume, uint64_t frontier)
{
	struct window w[WINDOWS_MAX];
	unsigned n = list_windows(volume, w), i;

	do
		i = (unsigned)pick(g, n);
	while (w[i].block >= frontier);
	return w[i].block + pick(g, smaller(w[i].count, frontier - w[i].block));
}

static void
make_data(struct rig *g)
{
	const struct rig_frame *f = &g->frames[g->sent];
	const struct rig_state *st = &g->states[g->sent];

	for (uint64_t i = 0, n = 1 + pick(g, 4); i < n; i++) {
		int volume = (int)pick(g, (uint64_t)g->volumes);
		uint64_t frontier = st->frontier[volume], block, count;
		bool zero = pick(g, 4) == 0;
		struct window w;

		if (frontier == 0 || !g->usable[volume])
			continue;
		block = pick_block(g, volume, frontier);
		w = find_window(volume, block);
		count = smaller(1 + pick(g, 6), smaller(frontier, w.block + w.count) - block);
		if (zero && volume == 2 && pick(g, 3) == 0)
			count = 1 + pick(g, frontier - block); /* over windows and zones */
		if (!overlaps(g, f, volume, block, count))
			rig_frame_extent(g, volume, block, count, false, zero);
	}
}

static int
pick_unfilled(struct rig *g, const struct rig_state *st)
{
	int unfilled = -1;

	for (int v = 0; v < g->volumes; v++)
		if (g->usable[v] && st->frontier[v] < g->blocks[v] && (unfilled < 0 || pick(g, 2) == 0))
			unfilled = v;
	return unfilled;
}

void
rig_frame_begin(struct rig *g)
{
	assert(g->sent < RIG_FRAMES_MAX);
	g->sent++;
	memset(&g->frames[g->sent], 0, sizeof g->frames[0]);
	g->states[g->sent] = g->states[g->sent - 1];
}

static void
finish_frame(struct rig *g)
{
	struct rig_frame *f = &g->frames[g->sent];

	if (f->extent_count == 0) {
		f->kind = RIG_CHECKPOINT;
		g->now_ns += (1 + (int64_t)pick(g, 60)) * NS_PER_SECOND;
		f->clock_ns = g->now_ns;
	}
	f->chain = (g->sent == g->stream_base + 1 ? g->stream_id : g->frames[g->sent - 1].chain) * 3 + g->sent;
}

void
rig_frame_end(struct rig *g)
{
	finish_frame(g);
	rig_send(g, g->sent);
}

static void
make_frame(struct rig *g)
{
	uint64_t what = pick(g, 10);
	int unfilled = pick_unfilled(g, &g->states[g->sent]);

	rig_frame_begin(g);
	if (unfilled >= 0 && what < (g->kind == RIG_WILD ? 8 : 6))
		make_fill(g, unfilled);
	else if (what < 8)
		make_data(g);
	finish_frame(g);
}

/* Nothing moves but by a job, or by time. */
static void
wait_for_jobs(struct rig *g)
{
	rig_run_jobs(g, 1);
	if (g->on_wait != NULL)
		g->on_wait(g);
}

static int
send_data(struct rig *g, const struct rig_frame *f, uint64_t sequence, bool damage)
{
	uint64_t digests[64];
	void *payload;
	size_t bad;
	int r;

	for (size_t i = 0; i < f->tag_count; i++)
		digests[i] = tag_digest(g, f->tags[i]);
	while ((r = store_frame_begin(g->store, sequence, f->chain, f->extents, f->extent_count, digests, f->tag_count,
		    &payload)) == -EAGAIN) {
		store_flush(g->store);
		if (turn(g) == 0)
			wait_for_jobs(g);
		if (g->failed || disk_sim_is_cut(g->disk))
			return -EIO;
	}
	if (r < 0)
		return r;
	for (size_t i = 0; i < f->tag_count; i++)
		make_block(f->tags[i], (unsigned char *)payload + i * BLOCK_BYTES);
	if (damage && f->tag_count > 0)
		((unsigned char *)payload)[f->tag_count * BLOCK_BYTES / 2] ^= 1;
	return store_frame_end(g->store, &bad);
}

static int
send_checkpoint(struct rig *g, const struct rig_frame *f, uint64_t sequence)
{
	struct checkpoint c = {.clock_ns = f->clock_ns, .received_ns = f->clock_ns, .consistency = CHECKPOINT_CRASH};
	int r;

	while ((r = store_checkpoint(g->store, sequence, f->chain, &c)) == -EAGAIN) {
		store_flush(g->store);
		if (turn(g) == 0)
			wait_for_jobs(g);
		if (g->failed || disk_sim_is_cut(g->disk))
			return -EIO;
	}
	return r;
}

/* A frame describes the volumes as they are declared when it is sent, be it again. */
static void
note_declared(const struct rig *g, struct rig_state *st)
{
	bool any = false;

	st->complete = true;
	for (int i = 0; i < g->volumes; i++) {
		st->blocks[i] = g->declared[i] ? g->blocks[i] : 0;
		any |= g->declared[i];
		if (g->declared[i] && (!g->usable[i] || st->frontier[i] < g->blocks[i]))
			st->complete = false;
	}
	st->complete &= any;
}

void
rig_send(struct rig *g, uint64_t frame)
{
	const struct rig_frame *f = &g->frames[frame];
	uint64_t sequence = frame - g->stream_base;
	int r;

	note_declared(g, &g->states[frame]);

	if (sequence % 8 == 3 && f->tag_count > 0) { /* damaged on the way: refused, and the stream has not moved */
		r = send_data(g, f, sequence, true);
		if (r != -HF_EDIGEST && !g->failed && !disk_sim_is_cut(g->disk))
			fault(g, "frame %llu was damaged and not refused", (unsigned long long)sequence);
	}
	r = f->kind == RIG_CHECKPOINT ? send_checkpoint(g, f, sequence) : send_data(g, f, sequence, false);

	if (r < 0 && !g->failed && !disk_sim_is_cut(g->disk))
		fault(g, "frame %llu was refused: %s", (unsigned long long)sequence, hf_status_text(r));
}

/* ---- jobs: taken, run, finished ---- */

static void
add_job(struct rig *g, struct store_job *job, int64_t clock_ns)
{
	assert(g->job_count < RIG_JOBS_MAX);
	g->jobs[g->job_count].job = job;
	g->jobs[g->job_count].run = false;
	g->jobs[g->job_count].clock_ns = clock_ns;
	g->job_count++;
}

static void
run_job(struct rig *g, unsigned i)
{
	store_job_run(g->jobs[i].job, g->disk, g->cache);
	g->jobs[i].run = true;
}

static void
keep_in_mind(struct rig *g, int64_t clock_ns)
{
	for (unsigned i = 0; i < g->kept_count; i++)
		if (g->kept[i] == clock_ns)
			return;
	if (g->kept_count < RIG_KEPT_MAX)
		g->kept[g->kept_count++] = clock_ns;
}

static int
finish_job(struct rig *g, unsigned i)
{
	struct store_job *job = g->jobs[i].job;
	const char *name = store_job_name(job);
	int64_t clock_ns = g->jobs[i].clock_ns;
	int status;
	bool ok;

	if (!g->jobs[i].run)
		run_job(g, i);
	g->job_count--;
	memmove(&g->jobs[i], &g->jobs[i + 1], (g->job_count - i) * sizeof g->jobs[0]);
	store_job_finish(g->store, job, true);
	status = store_job_status(job, NULL);
	ok = status == 0;
	g->folds += ok && strcmp(name, "fold") == 0;
	g->merges += ok && strcmp(name, "merge runs") == 0;
	g->punches += ok && strcmp(name, "punch segments") == 0;
	g->leaves += ok && strcmp(name, "free removed files") == 0;
	g->runs_built += ok && strcmp(name, "build run") == 0;
	if (strcmp(name, "declare volumes") == 0)
		(void)take_declared(g, job); /* refused for now: declared again at some later step */
	if (ok && strcmp(name, "keep point") == 0)
		keep_in_mind(g, clock_ns);
	store_job_destroy(job);
	g->jobs_run++;
	return status;
}

static bool
take_job(struct rig *g)
{
	struct store_job *job = g->job_count < RIG_JOBS_MAX - 2 ? store_job_next(g->store) : NULL;

	if (job != NULL)
		add_job(g, job, 0);
	return job != NULL;
}

/* Those that are out first, the oldest of them first. */
void
rig_run_jobs(struct rig *g, unsigned max)
{
	for (; max > 0; max--) {
		if (g->job_count == 0 && !take_job(g))
			return;
		finish_job(g, 0);
	}
}

static bool
is_out(const struct rig *g, const char *name)
{
	for (unsigned i = 0; i < g->job_count; i++)
		if (strcmp(store_job_name(g->jobs[i].job), name) == 0)
			return true;
	return false;
}

/* The quick ones are one thread's, one after the other. */
static bool
is_behind(const struct rig *g, unsigned i)
{
	if (store_job_is_slow(g->jobs[i].job))
		return false;
	while (i-- > 0)
		if (!store_job_is_slow(g->jobs[i].job))
			return true;
	return false;
}

/* Any of them goes on by one step, or another is taken. */
static void
job_step(struct rig *g)
{
	unsigned i;

	if (g->job_count == 0 || pick(g, 3) == 0) {
		(void)take_job(g);
		return;
	}
	do
		i = (unsigned)pick(g, g->job_count);
	while (is_behind(g, i));
	if (g->jobs[i].run)
		finish_job(g, i);
	else
		run_job(g, i);
}

/* ---- the other things ---- */

static void
declare_step(struct rig *g)
{
	int v = (int)pick(g, (uint64_t)g->volumes), attached = 0;

	if (is_out(g, "declare volumes") || g->job_count >= RIG_JOBS_MAX - 1)
		return;
	for (int i = 0; i < g->volumes; i++)
		attached += g->attached[i];
	if (pick(g, 3) == 0 && v < 2 && blocks_of(g->bytes[v]) + 8 < RIG_BLOCKS_MAX)
		g->bytes[v] += 1 + pick(g, 8 * BLOCK_BYTES);
	else if (g->attached[v] && attached > 1)
		g->attached[v] = pick(g, 2) == 0;
	else
		g->attached[v] = true;
	add_job(g, make_declare(g), 0);
}

static void
stream_step(struct rig *g)
{
	rig_settle(g);
	if (g->failed || disk_sim_is_cut(g->disk) || g->acked < g->sent || g->sent == g->stream_base)
		return;
	g->stream_before = g->stream_id;
	g->stream_id = next_random(&g->random) | 1;
	g->stream_base = g->sent;
	g->streams++;
	(void)rig_start_stream(g);
}

static void
forget_kept(struct rig *g, int64_t clock_ns)
{
	for (unsigned i = 0; i < g->kept_count; i++)
		if (g->kept[i] == clock_ns)
			g->kept[i] = g->kept[--g->kept_count];
}

static void
point_step(struct rig *g)
{
	struct pit *pits, p;
	size_t count;

	if (is_out(g, "keep point") || is_out(g, "change point") || g->job_count >= RIG_JOBS_MAX - 1 ||
	    store_list_pits(g->store, &pits, &count) < 0)
		return;
	if (count > 0) {
		p = pits[0];
		if (!p.kept || !(p.by_hand || p.held)) {
			p = pits[pick(g, count)];
			add_job(g, store_pit_keep(g->store, p.lsn, "by hand", pick(g, 3) == 0), p.checkpoint.clock_ns);
		} else { /* the oldest goes again, or no fold would ever come */
			forget_kept(g, p.checkpoint.clock_ns);
			add_job(g, store_pit_change(g->store, &p.id, p.held ? STORE_PIT_RELEASE : STORE_PIT_DELETE), 0);
		}
	}
	free(pits);
}

static bool check_view(struct rig *g, struct view *v, const struct rig_state *st, const char *what);
static uint64_t find_checkpoint(const struct rig *g, int64_t clock_ns);
static void current_state(const struct rig *g, struct rig_state *ret_state);

/* A view is what it was when it was made, whatever was folded since. */
static void
view_step(struct rig *g)
{
	unsigned n = g->view_count;

	if (n < RIG_VIEWS_MAX && pick(g, 3) == 0) {
		current_state(g, &g->views[n].state);
		if (store_view(g->store, UINT64_MAX, &g->views[n].view) == 0)
			g->view_count++;
	} else if (n > 0) {
		n = (unsigned)pick(g, n);
		if (!disk_sim_is_cut(g->disk))
			check_view(g, g->views[n].view, &g->views[n].state, "a view held for a while");
		store_view_release(g->store, g->views[n].view);
		g->views[n] = g->views[--g->view_count];
	}
}

/* ---- a keeper: many points, which come and go at any age, and views of old ones ---- */

static bool
draw_point(struct rig *g, bool kept, struct pit *ret_pit)
{
	struct pit *pits;
	size_t count, n = 0;

	if (store_list_pits(g->store, &pits, &count) < 0)
		return false;
	for (size_t i = 0; i < count; i++)
		if (pits[i].kept == kept)
			pits[n++] = pits[i];
	if (n > 0)
		*ret_pit = pits[pick(g, n)];
	free(pits);
	return n > 0;
}

static void
old_view_step(struct rig *g)
{
	unsigned n = g->view_count;
	struct pit p;

	if (n == RIG_VIEWS_MAX || pick(g, 2) == 0) {
		view_step(g);
		return;
	}
	if (!draw_point(g, true, &p) || !p.complete || store_view(g->store, p.lsn, &g->views[n].view) < 0)
		return;
	g->views[n].state = g->states[find_checkpoint(g, p.checkpoint.clock_ns)];
	g->view_count++;
}

static bool
keeper_step(struct rig *g)
{
	struct pit p;

	switch (pick(g, 16)) {
	case 0:
	case 1:
		if (g->kept_count < RIG_KEPT_MAX / 2 && draw_point(g, false, &p))
			(void)rig_keep(g, &p);
		return true;
	case 2:
		if (draw_point(g, true, &p) && !p.held)
			(void)rig_change(g, &p, STORE_PIT_DELETE);
		return true;
	case 3:
	case 4: old_view_step(g); return true;
	case 5: rig_run_jobs(g, 20); return true;
	default: return false;
	}
}

/* One of what is in flight fails. */
static void
fault_step(struct rig *g)
{
	char kind = pick(g, 2) == 0 ? 'w' : 's';

	store_flush(g->store);
	disk_sim_fail(g->disk, kind, 1 + pick(g, 2), false, pick(g, 3) == 0 ? SIM_FAULT_SHORT : SIM_FAULT_EIO);
	for (int i = 0; i < 3; i++)
		(void)turn(g);
	disk_sim_fail(g->disk, kind, 1, false, SIM_FAULT_NONE);
}

/* The store has failed: it is opened again in the same process, as the server does. */
static void
reopen_step(struct rig *g)
{
	g->reopened++;
	rig_close(g);
	if (rig_open(g) == 0 && rig_check_recovered(g))
		rig_resend(g);
}

/* Room runs out, or is there again: the window gives way, then points of the policy, and nothing new is taken while it
 * is full. */
static void
space_step(struct rig *g)
{
	struct space space = {.level = (enum space_level)pick(g, 3), .thin = pick(g, 2) == 0, .room_bytes = UINT64_MAX};

	space.measured_ns = INT64_MAX;
	store_set_space(g->store, &space);
	g->pressed |= space.level != SPACE_EASY;
}

static bool
wild_step(struct rig *g)
{
	switch (pick(g, 40)) {
	case 0:
	case 1: declare_step(g); return true;
	case 2: stream_step(g); return true;
	case 3:
	case 4: point_step(g); return true;
	case 5:
	case 6: view_step(g); return true;
	case 7: fault_step(g); return true;
	case 8: space_step(g); return true;
	default: return false;
	}
}

void
rig_step(struct rig *g)
{
	if (g->failed && g->kind == RIG_WILD)
		reopen_step(g);
	if (g->store == NULL || (g->kind == RIG_WILD && (g->failed || wild_step(g))))
		return;
	if (g->kind == RIG_KEEPER && keeper_step(g))
		return;
	switch (pick(g, 8)) {
	case 0:
		for (unsigned i = 0; g->kind == RIG_WILD && i < 6; i++)
			job_step(g);
		if (g->kind != RIG_WILD)
			rig_run_jobs(g, 1 + (unsigned)pick(g, 10));
		return;
	case 1:
		for (unsigned i = 0; i < 3; i++)
			(void)turn(g);
		return;
	case 2: store_flush(g->store); return;
	default: break;
	}
	if (g->sent == RIG_FRAMES_MAX)
		return;
	make_frame(g);
	rig_send(g, g->sent);
	if (pick(g, 2) == 0)
		store_flush(g->store);
}

void
rig_resend(struct rig *g)
{
	uint64_t sent = g->sent;

	for (uint64_t i = g->acked + 1; i <= sent && g->fault[0] == '\0' && !g->failed; i++)
		rig_send(g, i);
}

void
rig_settle(struct rig *g)
{
	while (g->acked < g->sent && !g->failed && !disk_sim_is_cut(g->disk) && g->fault[0] == '\0') {
		store_flush(g->store);
		if (turn(g) == 0)
			wait_for_jobs(g);
	}
	while (!g->failed && !disk_sim_is_cut(g->disk) && turn(g) > 0)
		;
}

/* ---- the truth ---- */

static bool
check_block(struct rig *g, const unsigned char *have, uint64_t tag, const char *what, int volume, uint64_t block)
{
	return is_block(have, tag) ||
	       fault(g, "%s: disk%d block %llu is not what the source had", what, volume, (unsigned long long)block);
}

/* Digest of a node from the model; most of a large volume is zeros. */
static uint64_t
node_digest(const struct rig *g, const struct rig_state *st, int volume, int level, uint64_t index)
{
	uint64_t blocks = digest_level_blocks(level), first = index * blocks, children[256], n = level == 3 ? 256 : 16;
	struct window w = find_window(volume, first);

	if (level == 0)
		return tag_of(st, volume, first) != 0 ? tag_digest(g, tag_of(st, volume, first)) : 0;
	if (w.count == 0 || w.block >= first + blocks)
		return 0;
	for (uint64_t i = 0; i < n; i++)
		children[i] = node_digest(g, st, volume, level - 1, index * n + i);
	return digest_node(store_digest_seed(g->store), children, n);
}

static bool
check_digests_at(struct rig *g, struct view *v, int volume, const struct rig_state *st, int level, uint64_t first,
    size_t count, const char *what)
{
	uint64_t have[64];
	int r = view_digests(v, g->disk, g->cache, g->volume[volume], level, first, count, have);

	assert(count <= 64);
	if (g->rotten)
		return true; /* only what they lead to counts */
	if (r < 0)
		return fault(g, "%s: digests of disk%d: %s", what, volume, hf_status_text(r));
	for (size_t i = 0; i < count; i++)
		if (have[i] != node_digest(g, st, volume, level, first + i))
			return fault(g, "%s: digest %llu of level %d of disk%d does not match", what,
			    (unsigned long long)(first + i), level, volume);
	return true;
}

static bool
check_digests(struct rig *g, struct view *v, int volume, const struct rig_state *st, const char *what)
{
	struct window w[WINDOWS_MAX];
	unsigned n = list_windows(volume, w);
	bool ok = true;

	for (unsigned i = 0; i < n && ok && w[i].block < st->blocks[volume]; i++) {
		uint64_t last = smaller(w[i].block + w[i].count, st->blocks[volume]) - 1;

		if (g->brief) {
			ok =
			    check_digests_at(g, v, volume, st, 0, w[i].block, smaller(last - w[i].block + 1, 64), what);
			continue;
		}
		ok = check_digests_at(g, v, volume, st, 1, w[i].block / 16, last / 16 - w[i].block / 16 + 1, what) &&
		     check_digests_at(g, v, volume, st, 2, w[i].block / 256, last / 256 - w[i].block / 256 + 1, what);
	}
	if (!ok || g->brief)
		return ok;
	return check_digests_at(g, v, volume, st, 3, 0, (st->blocks[volume] + ZONE_BLOCKS - 1) / ZONE_BLOCKS, what);
}

/* Of what is rotten every block comes back right, or not at all. */
static bool
check_rotten_window(
    struct rig *g, struct view *v, int volume, const struct rig_state *st, uint64_t from, uint64_t to, const char *what)
{
	static unsigned char block[BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES)));
	bool ok = true;

	for (uint64_t b = from; b < to && ok; b++) {
		if (view_read(v, g->disk, g->cache, g->volume[volume], b, 1, block, NULL) < 0)
			g->unreadable++;
		else
			ok = check_block(g, block, tag_of(st, volume, b), what, volume, b);
	}
	return ok;
}

static bool
check_window(
    struct rig *g, struct view *v, int volume, const struct rig_state *st, uint64_t from, uint64_t to, const char *what)
{
	static unsigned char *buf;
	struct view_fault bad = {0};
	bool ok = true;
	int r;

	if (buf == NULL && (buf = buffer_alloc(VIEW_READ_BLOCKS_MAX * BLOCK_BYTES)) == NULL)
		abort();
	r = view_read(v, g->disk, g->cache, g->volume[volume], from, (uint32_t)(to - from), buf, &bad);
	if (r < 0 && g->rotten)
		return check_rotten_window(g, v, volume, st, from, to, what);
	if (r < 0)
		return fault(g, "%s: disk%d cannot be read (block %llu, segment %u): %s", what, volume,
		    (unsigned long long)bad.block, bad.segment, hf_status_text(r));
	for (uint64_t b = from; b < to && ok; b++)
		ok = check_block(g, buf + (b - from) * BLOCK_BYTES, tag_of(st, volume, b), what, volume, b);
	return ok;
}

static bool
check_volume(struct rig *g, struct view *v, int volume, const struct rig_state *st, const char *what)
{
	struct window w[WINDOWS_MAX];
	unsigned n = list_windows(volume, w);
	bool ok = true;

	for (unsigned i = 0; i < n && ok; i++)
		if (w[i].block < st->blocks[volume])
			ok = check_window(
			    g, v, volume, st, w[i].block, smaller(w[i].block + w[i].count, st->blocks[volume]), what);
	return ok && check_digests(g, v, volume, st, what);
}

static bool
check_view(struct rig *g, struct view *v, const struct rig_state *st, const char *what)
{
	bool ok = true;

	for (int i = 0; i < g->volumes && ok; i++)
		if (st->blocks[i] > 0)
			ok = check_volume(g, v, i, st, what);
	return ok;
}

static bool
check_at(struct rig *g, uint64_t lsn, const struct rig_state *st, const char *what)
{
	struct view *v;
	int r = store_view(g->store, lsn, &v);
	bool ok;

	if (r < 0)
		return fault(g, "%s: no view: %s", what, hf_status_text(r));
	ok = check_view(g, v, st, what);
	store_view_release(g->store, v);
	return ok;
}

/* The frame whose checkpoint carried this clock; 0 = none. */
static uint64_t
find_checkpoint(const struct rig *g, int64_t clock_ns)
{
	for (uint64_t i = 1; i <= g->sent; i++)
		if (g->frames[i].kind == RIG_CHECKPOINT && g->frames[i].clock_ns == clock_ns)
			return i;
	return 0;
}

void
rig_wait(struct rig *g, unsigned turns)
{
	while (turns-- > 0)
		(void)turn(g);
}

bool
rig_run_until(struct rig *g, const char *name)
{
	while (g->job_count > 0 || take_job(g)) {
		bool found = strcmp(store_job_name(g->jobs[0].job), name) == 0;

		if (finish_job(g, 0) == 0 && found)
			return true;
		if (g->failed || disk_sim_is_cut(g->disk))
			break;
	}
	return false;
}

int
rig_keep(struct rig *g, const struct pit *p)
{
	add_job(g, store_pit_keep(g->store, p->lsn, "by hand", false), p->checkpoint.clock_ns);
	return finish_job(g, g->job_count - 1);
}

int
rig_change(struct rig *g, const struct pit *p, enum store_pit_verb verb)
{
	int r;

	if (verb == STORE_PIT_DELETE || (verb == STORE_PIT_RELEASE && !p->by_hand))
		forget_kept(g, p->checkpoint.clock_ns);
	add_job(g, store_pit_change(g->store, &p->id, verb), 0);
	r = finish_job(g, g->job_count - 1);
	if (r == 0 && verb == STORE_PIT_HOLD)
		keep_in_mind(g, p->checkpoint.clock_ns);
	return r;
}

bool
rig_is_filled(const struct rig *g)
{
	for (int i = 0; i < g->volumes; i++)
		if (g->attached[i] && g->states[g->sent].frontier[i] < g->blocks[i])
			return false;
	return true;
}

static bool
check_pit(struct rig *g, const struct pit *p)
{
	uint64_t frame = find_checkpoint(g, p->checkpoint.clock_ns);
	char what[64];

	snprintf(what, sizeof what, "point at LSN %llu%s", (unsigned long long)p->lsn, p->kept ? " (kept)" : "");
	if (frame == 0)
		return fault(g, "%s was never sent", what);
	if (p->complete != g->states[frame].complete)
		return fault(g, "%s: complete is wrong", what);
	return !p->complete || check_at(g, p->lsn, &g->states[frame], what);
}

static bool
is_listed(const struct pit *pits, size_t count, int64_t clock_ns, bool kept)
{
	for (size_t k = 0; k < count; k++)
		if (pits[k].checkpoint.clock_ns == clock_ns && (pits[k].kept || !kept))
			return true;
	return false;
}

static uint64_t
newest_complete(const struct rig *g)
{
	uint64_t i = g->acked;

	while (i > 0 && !(g->frames[i].kind == RIG_CHECKPOINT && g->states[i].complete))
		i--;
	return i;
}

/* Every complete checkpoint that was acknowledged and lies inside the journal window, the newest above all, must be a
 * point, and what was kept or held by hand. */
static bool
check_listed(struct rig *g, const struct pit *pits, size_t count)
{
	uint64_t newest = newest_complete(g);

	for (size_t k = 0; k < count; k++)
		if (find_checkpoint(g, pits[k].checkpoint.clock_ns) > g->acked)
			return fault(g, "a point is listed before it is durable");

	for (uint64_t i = newest; i > 0; i--) {
		if (g->frames[i].kind != RIG_CHECKPOINT || !g->states[i].complete)
			continue;
		if (i < newest && (g->pressed || g->frames[i].clock_ns < g->frames[newest].clock_ns - RIG_WINDOW_NS))
			break;
		if (!is_listed(pits, count, g->frames[i].clock_ns, false))
			return fault(g, "the acknowledged checkpoint of frame %llu (newest: %llu) is not a point",
			    (unsigned long long)i, (unsigned long long)newest);
	}
	for (unsigned k = 0; k < g->kept_count; k++)
		if (!is_listed(pits, count, g->kept[k], true))
			return fault(g, "the point kept by hand at frame %llu is gone",
			    (unsigned long long)find_checkpoint(g, g->kept[k]));
	return true;
}

bool
rig_check(struct rig *g)
{
	struct pit *pits;
	size_t count;
	bool ok;

	if (g->fault[0] != '\0')
		return false;
	if (store_list_pits(g->store, &pits, &count) < 0)
		return fault(g, "points cannot be listed");
	ok = check_listed(g, pits, count);
	for (size_t i = 0; i < count && ok; i++)
		ok = (i == 0 || pits[i - 1].lsn < pits[i].lsn || fault(g, "points are out of order")) &&
		     check_pit(g, &pits[i]);
	free(pits);
	return ok && rig_check_newest(g);
}

/* What is durable, of the volumes as they are declared now. */
static void
current_state(const struct rig *g, struct rig_state *ret_state)
{
	*ret_state = g->states[g->acked];
	note_declared(g, ret_state);
}

bool
rig_check_newest(struct rig *g)
{
	struct rig_state now;

	current_state(g, &now);
	return g->fault[0] == '\0' && check_at(g, UINT64_MAX, &now, "newest");
}

bool
rig_check_recovered(struct rig *g)
{
	uint64_t stream, sequence, chain, frame, expected;

	store_get_stream(g->store, &stream, &sequence, &chain);
	if (stream != g->stream_id) /* of the newest stream nothing is durable, so nothing of it was acknowledged */
		return (stream == g->stream_before && g->acked == g->stream_base) ||
		       fault(g, "acknowledged up to %llu, but the stream is gone", (unsigned long long)g->acked);
	frame = g->stream_base + sequence;
	if (frame < g->acked)
		return fault(g, "acknowledged up to %llu, but only %llu came back", (unsigned long long)g->acked,
		    (unsigned long long)frame);
	if (frame > g->sent)
		return fault(g, "frame %llu came back, which was never sent", (unsigned long long)frame);
	expected = sequence > 0 ? g->frames[frame].chain : g->stream_id;
	if (chain != expected)
		return fault(g, "the chain at frame %llu is wrong", (unsigned long long)frame);
	g->acked = frame;
	return true;
}
