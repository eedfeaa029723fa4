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

#define VFS_NAME "rig"

static struct slabs *shared_slabs; /* made once: pre-faulting them for every crash state would cost more than all the rest */
static struct rig *clock_rig; /* the store asks for the time without an argument */

static int64_t
rig_clock(void)
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

static uint64_t
pick(struct rig *g, uint64_t n)
{
	return next_random(&g->random) % n;
}

/* As the loop does once a turn: hand over what was submitted, then run what completed. */
static int
turn(struct rig *g)
{
	disk_submit(g->disk);
	return disk_drain(g->disk);
}

static bool __attribute__((format(printf, 2, 3)))
fault(struct rig *g, const char *format, ...)
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

static void
make_block(uint64_t tag, unsigned char *ret_block)
{
	uint64_t words[BLOCK_BYTES / 8] = {0};

	for (size_t i = 0; tag != 0 && i < BLOCK_BYTES / 8; i++)
		words[i] = tag * (i + 1);
	memcpy(ret_block, words, BLOCK_BYTES);
}

static uint64_t
tag_digest(const struct rig *g, uint64_t tag)
{
	unsigned char block[BLOCK_BYTES];

	make_block(tag, block);
	return digest_block(store_digest_seed(g->store), block);
}

/* ---- the store's owner ---- */

static void
on_durable(void *arg, uint64_t sequence)
{
	struct rig *g = arg;

	assert(sequence >= g->acked);
	g->acked = sequence;
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

static const struct store_events events = {
    .durable = on_durable,
    .room = on_room,
    .checkpoint = on_checkpoint,
    .job_ready = on_job_ready,
    .failed = on_failed,
};

static struct store_config
rig_config(void)
{
	return (struct store_config){
	    .dir = RIG_DIR,
	    .catalog_vfs = VFS_NAME,
	    .segment_bytes_first = 64 * 1024,
	    .segment_bytes_max = 128 * 1024,
	    .reserve_bytes = 4096,
	    .clock_ns = rig_clock,
	};
}

static int
set_policy(struct rig *g)
{
	struct policy p = {.rule_count = 1, .journal_window_ns = 20 * NS_PER_SECOND};
	struct store_job *job;
	int r;

	p.rules[0] = (struct pit_rule){.rule_id = 1, .unit = "MINUTE", .interval = 1, .retention = 2, .enabled = true};
	job = store_set_policy(g->store, &p);
	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, true);
	r = store_job_status(job, NULL);
	store_job_destroy(job);
	return r;
}

static int
declare(struct rig *g)
{
	static const uint64_t sizes[RIG_VOLUMES] = {96 * BLOCK_BYTES - 512, 40 * BLOCK_BYTES};
	struct store_declaration d[RIG_VOLUMES];
	struct store_job *job;
	char text[256];
	int r, status;

	memset(d, 0, sizeof d);
	for (int i = 0; i < RIG_VOLUMES; i++) {
		snprintf(d[i].name, sizeof d[i].name, "disk%d", i);
		snprintf(d[i].identity, sizeof d[i].identity, "serial:%d", i);
		d[i].size_bytes = sizes[i];
		d[i].ok = true;
		g->blocks[i] = (sizes[i] + BLOCK_BYTES - 1) / BLOCK_BYTES;
	}
	job = store_declare(g->store, d, RIG_VOLUMES);
	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, true);
	r = store_job_status(job, NULL);
	for (size_t i = 0; i < RIG_VOLUMES && r == 0; i++) {
		store_declare_result(job, i, &g->volume[i], &status, text, sizeof text);
		r = status;
	}
	store_job_destroy(job);
	return r;
}

int
rig_open(struct rig *g)
{
	struct store_config config = rig_config();
	struct hf_error err;
	uint64_t stream, sequence, chain;
	int r = store_open(g->disk, &config, &g->store, &err);

	if (r < 0) {
		if (!disk_sim_is_cut(g->disk))
			fault(g, "cannot open: %s", err.text);
		return r;
	}
	store_attach(g->store, g->disk, g->slabs, &events, g);
	r = declare(g);
	if (r == 0)
		r = set_policy(g);
	if (r < 0)
		return r;
	store_get_stream(g->store, &stream, &sequence, &chain);
	r = store_stream_start(g->store, g->stream_id, stream == g->stream_id);
	if (r < 0)
		fault(g, "the stream cannot go on: %s", hf_status_text(r));
	return r;
}

bool
rig_start(struct rig *g, uint64_t seed)
{
	struct store_config config = rig_config();
	struct id source;
	struct hf_error err;

	memset(g, 0, sizeof *g);
	g->seed = g->random = seed;
	g->stream_id = seed | 1;
	g->now_ns = 1000000 * NS_PER_SECOND;
	g->frames[0].chain = g->stream_id;
	clock_rig = g;
	if (disk_sim_create(seed, &g->disk) < 0 || run_cache_create(1 << 20, &g->cache) < 0 ||
	    (shared_slabs == NULL && slabs_create(g->disk, 4, &shared_slabs, NULL) < 0) || catalog_vfs_register(g->disk, VFS_NAME) < 0)
		abort();
	g->slabs = shared_slabs;
	disk_sim_set_reorder(g->disk, true);
	(void)id_parse("s", "s-00000000000000001", &source);
	if (disk_mkdir(g->disk, "/data") < 0 || disk_mkdir(g->disk, "/data/sources") < 0 ||
	    disk_sync_dir(g->disk, "/data") < 0 || disk_sync_dir(g->disk, "/") < 0)
		abort();
	if (store_create(g->disk, &config, &source, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return rig_open(g) == 0;
}

void
rig_close(struct rig *g)
{
	if (g->store == NULL)
		return;
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
	run_cache_destroy(g->cache);
	catalog_vfs_unregister(VFS_NAME);
	disk_destroy(g->disk);
}

/* ---- the agent ---- */

static void
add_extent(struct rig *g, struct rig_frame *f, int volume, uint64_t block, uint64_t count, bool fill)
{
	struct rig_state *st = &g->states[g->sent];
	bool zero = pick(g, 4) == 0;
	struct store_extent *x = &f->extents[f->extent_count++];

	*x = (struct store_extent){.block = block, .count = count, .volume = g->volume[volume]};
	x->kind = fill ? (zero ? 4 : 3) : zero ? 2 : 1;
	for (uint64_t b = block; b < block + count; b++) {
		uint64_t tag = zero ? 0 : next_random(&g->random) | 1;

		if (!zero)
			f->tags[f->tag_count++] = tag;
		st->tags[volume][b] = tag;
	}
	if (fill)
		st->frontier[volume] = block + count;
}

static void
make_fill(struct rig *g, struct rig_frame *f, int volume)
{
	const struct rig_state *st = &g->states[g->sent];

	f->kind = RIG_FILL;
	for (int i = 0; i < 3 && st->frontier[volume] < g->blocks[volume]; i++) {
		uint64_t left = g->blocks[volume] - st->frontier[volume], count = 1 + pick(g, 12);

		add_extent(g, f, volume, st->frontier[volume], count < left ? count : left, true);
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

static void
make_data(struct rig *g, struct rig_frame *f)
{
	const struct rig_state *st = &g->states[g->sent];

	f->kind = RIG_DATA;
	for (uint64_t i = 0, n = 1 + pick(g, 4); i < n; i++) {
		int volume = (int)pick(g, RIG_VOLUMES);
		uint64_t frontier = st->frontier[volume], block, count;

		if (frontier == 0)
			continue;
		block = pick(g, frontier);
		count = 1 + pick(g, 6);
		count = block + count <= frontier ? count : frontier - block;
		if (!overlaps(g, f, volume, block, count))
			add_extent(g, f, volume, block, count, false);
	}
}

static void
make_frame(struct rig *g)
{
	struct rig_frame *f = &g->frames[g->sent + 1];
	const struct rig_state *st = &g->states[g->sent];
	uint64_t what = pick(g, 10);
	int unfilled = -1;

	memset(f, 0, sizeof *f);
	g->states[g->sent + 1] = *st;
	g->sent++;
	for (int v = 0; v < RIG_VOLUMES; v++)
		if (st->frontier[v] < g->blocks[v] && (unfilled < 0 || pick(g, 2) == 0))
			unfilled = v;
	if (unfilled >= 0 && what < 6)
		make_fill(g, f, unfilled);
	else if (what < 8)
		make_data(g, f);
	if (f->extent_count == 0) {
		f->kind = RIG_CHECKPOINT;
		g->now_ns += (1 + (int64_t)pick(g, 20)) * NS_PER_SECOND;
		f->clock_ns = g->now_ns;
	}
	f->chain = g->frames[g->sent - 1].chain * 3 + g->sent;
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
	while ((r = store_frame_begin(g->store, sequence, f->chain, f->extents, f->extent_count, digests, f->tag_count, &payload)) ==
	       -EAGAIN) {
		store_flush(g->store);
		if (turn(g) == 0)
			rig_run_jobs(g, 1);
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
			rig_run_jobs(g, 1);
		if (g->failed || disk_sim_is_cut(g->disk))
			return -EIO;
	}
	return r;
}

void
rig_send(struct rig *g, uint64_t sequence)
{
	const struct rig_frame *f = &g->frames[sequence];
	int r;

	if (sequence % 8 == 3 && f->tag_count > 0) { /* damaged on the way: refused, and the stream has not moved */
		r = send_data(g, f, sequence, true);
		if (r != -HF_EDIGEST && !g->failed && !disk_sim_is_cut(g->disk))
			fault(g, "frame %llu was damaged and not refused", (unsigned long long)sequence);
	}
	r = f->kind == RIG_CHECKPOINT ? send_checkpoint(g, f, sequence) : send_data(g, f, sequence, false);

	if (r < 0 && !g->failed && !disk_sim_is_cut(g->disk))
		fault(g, "frame %llu was refused: %s", (unsigned long long)sequence, hf_status_text(r));
}

static void
run_job(struct rig *g, struct store_job *job)
{
	const char *name = store_job_name(job);

	store_job_run(job, g->disk, g->cache);
	store_job_finish(g->store, job, true);
	if (store_job_status(job, NULL) == 0) {
		g->folds += strcmp(name, "fold") == 0;
		g->runs_built += strcmp(name, "build run") == 0;
	}
	store_job_destroy(job);
	g->jobs_run++;
}

void
rig_run_jobs(struct rig *g, unsigned max)
{
	struct store_job *job;

	while (max-- > 0 && (job = store_job_next(g->store)) != NULL)
		run_job(g, job);
}

void
rig_step(struct rig *g)
{
	switch (pick(g, 8)) {
	case 0: rig_run_jobs(g, 1); return;
	case 1: (void)turn(g); return;
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
rig_settle(struct rig *g)
{
	while (g->acked < g->sent && !g->failed && !disk_sim_is_cut(g->disk) && g->fault[0] == '\0') {
		store_flush(g->store);
		if (turn(g) == 0)
			rig_run_jobs(g, 1);
	}
	while (!g->failed && !disk_sim_is_cut(g->disk) && turn(g) > 0)
		;
}

/* ---- the truth ---- */

static bool
check_block(struct rig *g, const unsigned char *have, uint64_t tag, const char *what, int volume, uint64_t block)
{
	unsigned char want[BLOCK_BYTES];

	make_block(tag, want);
	if (memcmp(have, want, BLOCK_BYTES) == 0)
		return true;
	return fault(g, "%s: disk%d block %llu is not what the source had", what, volume, (unsigned long long)block);
}

static bool
check_digests(struct rig *g, struct view *v, int volume, const struct rig_state *st, const char *what)
{
	uint64_t leaves[256] = {0}, nodes[16], have[16], top;
	int r;

	for (uint64_t b = 0; b < st->frontier[volume]; b++)
		leaves[b] = tag_digest(g, st->tags[volume][b]);
	for (int i = 0; i < 16; i++)
		nodes[i] = digest_node(store_digest_seed(g->store), leaves + 16 * i, 16);
	r = view_digests(v, g->disk, g->cache, g->volume[volume], 1, 0, 16, have);
	if (r == 0 && memcmp(have, nodes, sizeof have) != 0)
		return fault(g, "%s: digests of disk%d do not match", what, volume);
	if (r == 0)
		r = view_digests(v, g->disk, g->cache, g->volume[volume], 2, 0, 1, &top);
	if (r == 0 && top != digest_node(store_digest_seed(g->store), nodes, 16))
		return fault(g, "%s: the 1 MiB digest of disk%d does not match", what, volume);
	return r == 0 || fault(g, "%s: digests of disk%d: %s", what, volume, hf_status_text(r));
}

static bool
check_view(struct rig *g, struct view *v, const struct rig_state *st, const char *what)
{
	unsigned char *buf = buffer_alloc(256 * BLOCK_BYTES);
	bool ok = true;

	for (int i = 0; i < RIG_VOLUMES && ok; i++) {
		struct view_fault bad;
		int r = view_read(v, g->disk, g->cache, g->volume[i], 0, (uint32_t)g->blocks[i], buf, &bad);

		if (r < 0)
			ok = fault(g, "%s: disk%d cannot be read (block %llu, segment %u): %s", what, i, (unsigned long long)bad.block,
			    bad.segment, hf_status_text(r));
		for (uint64_t b = 0; b < g->blocks[i] && ok; b++)
			ok = check_block(g, buf + b * BLOCK_BYTES, b < st->frontier[i] ? st->tags[i][b] : 0, what, i, b);
		ok = ok && check_digests(g, v, i, st, what);
	}
	buffer_free(buf, 256 * BLOCK_BYTES);
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

static bool
is_filled(const struct rig *g, const struct rig_state *st)
{
	for (int i = 0; i < RIG_VOLUMES; i++)
		if (st->frontier[i] < g->blocks[i])
			return false;
	return true;
}

static bool
check_pit(struct rig *g, const struct pit *p)
{
	uint64_t sequence = find_checkpoint(g, p->checkpoint.clock_ns);
	char what[64];

	snprintf(what, sizeof what, "point at LSN %llu%s", (unsigned long long)p->lsn, p->kept ? " (kept)" : "");
	if (sequence == 0)
		return fault(g, "%s was never sent", what);
	if (p->complete != is_filled(g, &g->states[sequence]))
		return fault(g, "%s: complete is wrong", what);
	return !p->complete || check_at(g, p->lsn, &g->states[sequence], what);
}

/* The newest complete checkpoint that was acknowledged must be a point. */
static bool
check_newest(struct rig *g, const struct pit *pits, size_t count)
{
	for (uint64_t i = g->acked; i > 0; i--) {
		if (g->frames[i].kind != RIG_CHECKPOINT || !is_filled(g, &g->states[i]))
			continue;
		for (size_t k = 0; k < count; k++)
			if (pits[k].checkpoint.clock_ns == g->frames[i].clock_ns)
				return true;
		return fault(g, "the newest acknowledged checkpoint (frame %llu) is not a point", (unsigned long long)i);
	}
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
	ok = check_newest(g, pits, count);
	for (size_t i = 0; i < count && ok; i++)
		ok = (i == 0 || pits[i - 1].lsn < pits[i].lsn || fault(g, "points are out of order")) && check_pit(g, &pits[i]);
	free(pits);
	return ok && rig_check_newest(g);
}

bool
rig_check_newest(struct rig *g)
{
	return g->fault[0] == '\0' && check_at(g, UINT64_MAX, &g->states[g->acked], "newest");
}

bool
rig_check_recovered(struct rig *g)
{
	uint64_t stream, sequence, chain;

	store_get_stream(g->store, &stream, &sequence, &chain);
	if (stream != g->stream_id)
		return g->acked == 0 || fault(g, "acknowledged up to %llu, but the stream is gone", (unsigned long long)g->acked);
	if (sequence < g->acked)
		return fault(g, "acknowledged up to %llu, but only %llu came back", (unsigned long long)g->acked, (unsigned long long)sequence);
	if (sequence > g->sent)
		return fault(g, "frame %llu came back, which was never sent", (unsigned long long)sequence);
	if (chain != g->frames[sequence].chain)
		return fault(g, "the chain at frame %llu is wrong", (unsigned long long)sequence);
	g->acked = sequence;
	return true;
}
