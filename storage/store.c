/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/store.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/plant.h"
#include "storage/store_impl.h"

/* ---- small things ---- */

int64_t
store_clock(const struct store *s)
{
	return s->config.clock_ns != NULL ? s->config.clock_ns() : clock_real_ns();
}

struct volume *
store_find_volume(const struct store *s, uint32_t volume)
{
	for (uint32_t i = 0; i < s->volume_count; i++)
		if (s->volumes[i]->info.volume == volume)
			return s->volumes[i];
	return NULL;
}

uint64_t
volume_blocks(const struct volume *v)
{
	return (v->info.size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
}

void
volume_path(char *ret_path, const struct store *s, const struct id *volume, const char *suffix)
{
	snprintf(ret_path, PATH_MAX_BYTES, "%s/%s.%s", s->dir, volume->text, suffix);
}

void
volume_destroy(struct volume *v, struct disk *d)
{
	if (v == NULL)
		return;
	shared_file_unref(v->img, d);
	shared_file_unref(v->sum, d);
	free(v->cursor);
	free(v);
}

void
store_wake_job(struct store *s)
{
	if (s->events != NULL)
		s->events->job_ready(s->arg);
}

void
store_say_room(struct store *s)
{
	if (!s->room_wanted || s->failed != 0 || s->group_count >= GROUPS_MAX)
		return;
	s->room_wanted = false;
	if (s->events != NULL)
		s->events->room(s->arg);
}

/* ---- life ---- */

/* Copy the configuration's values; strings become the store's own. */
static struct store *
store_alloc(const struct store_config *config)
{
	struct store *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->config = *config;
	snprintf(s->dir, sizeof s->dir, "%s", config->dir);
	snprintf(s->journal_dir, sizeof s->journal_dir, "%s/journal", config->dir);
	s->config.dir = s->dir;
	if (s->config.segment_bytes_max == 0)
		s->config.segment_bytes_max = 256ull << 20;
	if (s->config.segment_bytes_first == 0)
		s->config.segment_bytes_first = 1ull << 20;
	if (s->config.reserve_bytes == 0)
		s->config.reserve_bytes = 16ull << 20;
	return s;
}

int
store_create(struct disk *d, const struct store_config *config, const struct id *source, struct hf_error *err)
{
	struct catalog_source facts = {.source = *source, .created_ns = clock_real_ns()};
	char path[PATH_MAX_BYTES], parent[PATH_MAX_BYTES];
	struct catalog *c;
	char *slash;
	int r = disk_mkdir(d, config->dir);

	if (r < 0)
		return hf_error_set(err, r, "cannot make %s", config->dir);
	snprintf(path, sizeof path, "%s/journal", config->dir);
	r = disk_mkdir(d, path);
	if (r < 0)
		return hf_error_set(err, r, "cannot make %s", path);
	random_bytes(&facts.digest_seed, sizeof facts.digest_seed);
	snprintf(path, sizeof path, "%s/catalog.db", config->dir);
	r = catalog_open(path, config->catalog_vfs, true, &facts, &c, err);
	if (r < 0)
		return r;
	catalog_close(c);
	r = disk_sync_dir(d, config->dir);
	snprintf(parent, sizeof parent, "%s", config->dir);
	slash = strrchr(parent, '/');
	if (r == 0 && slash != NULL && slash != parent) {
		*slash = '\0';
		r = disk_sync_dir(d, parent);
	}
	return r < 0 ? hf_error_set(err, r, "cannot sync %s", config->dir) : 0;
}

int
store_open(struct disk *d, const struct store_config *config, struct store **ret_store, struct hf_error *err)
{
	struct store *s = store_alloc(config);
	struct catalog_source facts;
	char path[PATH_MAX_BYTES];
	int r;

	if (s == NULL)
		return hf_error_set(err, -ENOMEM, "%s", config->dir);
	snprintf(path, sizeof path, "%s/catalog.db", s->dir);
	r = catalog_open(path, config->catalog_vfs, false, NULL, &s->catalog, err);
	if (r == 0)
		r = catalog_get_source(s->catalog, &facts, err);
	if (r == 0) {
		s->source = facts.source;
		s->digest_seed = facts.digest_seed;
		s->base_lsn = facts.base_lsn;
		s->fold_lsn = facts.fold_lsn;
		r = catalog_get_policy(s->catalog, &s->policy, err);
	}
	if (r == 0)
		r = catalog_list_pits(s->catalog, &s->pits, &s->pit_count, err);
	if (r == 0)
		r = store_recover(s, d, false, err);
	if (r < 0) {
		store_close(s, d);
		return r;
	}
	*ret_store = s;
	return 0;
}

int
store_open_offline(struct disk *d, const char *dir, struct store **ret_store, struct hf_error *err)
{
	struct store_config config = {.dir = dir};
	struct store *s = store_alloc(&config);
	int r;

	if (s == NULL)
		return hf_error_set(err, -ENOMEM, "%s", dir);
	s->disk = d;
	s->policy.journal_window_ns = INT64_MAX / 4; /* every checkpoint there is */
	r = store_recover(s, d, true, err);
	if (r == 0 && s->volume_count == 0)
		r = hf_error_say(err, -ENOENT, "%s holds no volume of a source", dir);
	if (r < 0) {
		store_close(s, d);
		return r;
	}
	*ret_store = s;
	return 0;
}

void
store_attach(struct store *s, struct disk *d, struct slabs *slabs, const struct store_events *events, void *arg)
{
	assert(!s->attached);
	s->disk = d;
	s->slabs = slabs;
	s->events = events;
	s->arg = arg;
	s->attached = true;
	store_wake_job(s);
}

void
store_shutdown(struct store *s)
{
	store_frame_abort(s);
	store_flush(s);
	s->shutting_down = true;
}

bool
store_is_idle(const struct store *s)
{
	if (s->writes_inflight > 0 || s->sync_inflight || !staging_is_idle(s))
		return false;
	return s->failed != 0 || s->groups == NULL || s->full || s->want_segment;
}

void
store_close(struct store *s, struct disk *d)
{
	if (s == NULL)
		return;
	assert(s->view_count == 0);
	if (s->slabs != NULL)
		slabs_forget(s->slabs, &s->waiter);
	while (s->groups != NULL) { /* not acknowledged: the agent sends them again */
		struct group *g = s->groups;

		s->groups = g->next;
		group_free(s, g);
	}
	if (s->open != NULL)
		group_free(s, s->open);
	free(s->free_group);
	staging_free(s);
	while (s->segments != NULL) {
		struct segment *g = s->segments;

		s->segments = g->next;
		segment_destroy(g, d);
	}
	segment_destroy(s->prepared, d);
	for (uint32_t i = 0; i < s->volume_count; i++)
		volume_destroy(s->volumes[i], d);
	marks_fini(&s->marks);
	free(s->pits);
	catalog_close(s->catalog);
	free(s);
}

/* ---- facts ---- */

const struct id *
store_source(const struct store *s)
{
	return &s->source;
}

uint64_t
store_digest_seed(const struct store *s)
{
	return s->digest_seed;
}

void
store_get_stream(const struct store *s, uint64_t *ret_stream_id, uint64_t *ret_sequence, uint64_t *ret_chain)
{
	*ret_stream_id = s->durable.stream_id;
	*ret_sequence = s->durable.sequence;
	*ret_chain = s->durable.stream_chain;
}

size_t
store_list_volumes(const struct store *s, struct store_volume *ret_volumes, size_t max)
{
	size_t n = 0;

	for (uint32_t i = 0; i < s->volume_count && n < max; i++)
		if (s->volumes[i]->info.declared)
			ret_volumes[n++] = s->volumes[i]->info;
	return n;
}

size_t
store_list_all_volumes(const struct store *s, struct store_volume *ret_volumes, size_t max)
{
	size_t n = 0;

	for (uint32_t i = 0; i < s->volume_count && n < max; i++)
		ret_volumes[n++] = s->volumes[i]->info;
	return n;
}

void
store_get_stats(const struct store *s, struct store_stats *ret_stats)
{
	struct store_stats t = s->stats;

	t.lsn_last = s->lsn_next - 1;
	t.lsn_durable = s->durable.lsn_last;
	t.base_lsn = s->base_lsn;
	t.failed = s->failed != 0;
	t.folding = s->out[JOB_FOLD] != NULL;
	t.full = s->full;
	for (const struct segment *g = s->segments; g != NULL; g = g->next) {
		t.segment_count++;
		t.journal_bytes += g->sealed ? g->bytes : g->capacity;
		if (g->run != NULL)
			t.run_count++;
		else
			t.open_entries += g->interval->count;
	}
	*ret_stats = t;
}

/* ---- what became durable ---- */

void
store_note_entry(struct store *s, const struct entry *e)
{
	uint64_t node = e->block / digest_level_blocks(2);
	unsigned newest = (s->recent_next + RECENT_RING - 1) % RECENT_RING;

	if (s->recent_count > 0 && s->recent[newest].volume == e->volume && s->recent[newest].node == node)
		return;
	s->recent[s->recent_next].volume = e->volume;
	s->recent[s->recent_next].node = node;
	s->recent_next = (s->recent_next + 1) % RECENT_RING;
	if (s->recent_count < RECENT_RING)
		s->recent_count++;
}

size_t
store_recent(struct store *s, uint32_t volume, uint64_t *ret_nodes, size_t max)
{
	size_t n = 0;

	for (unsigned i = 1; i <= s->recent_count && n < max; i++) {
		unsigned at = (s->recent_next + RECENT_RING - i) % RECENT_RING;
		size_t k = 0;

		if (s->recent[at].volume != volume)
			continue;
		while (k < n && ret_nodes[k] != s->recent[at].node)
			k++;
		if (k == n)
			ret_nodes[n++] = s->recent[at].node;
	}
	return n;
}

void
store_note_checkpoint(struct store *s, const struct checkpoint *c)
{
	if (marks_add(&s->marks, c) < 0)
		return; /* no memory: it is in the journal all the same, and listed after the next start */
	s->newest_checkpoint = *c;
	s->has_checkpoint = true;
	if (pit_eligible(c)) {
		s->newest_consistent = *c;
		s->has_consistent = true;
		s->points_wanted = true;
	}
	if (s->events == NULL)
		return;
	s->events->checkpoint(s->arg, c);
	if (s->points_wanted)
		store_wake_job(s);
}

const struct checkpoint *
store_newest_checkpoint(const struct store *s)
{
	return s->has_checkpoint ? &s->newest_checkpoint : NULL;
}

const struct checkpoint *
store_newest_consistent(const struct store *s)
{
	return s->has_consistent ? &s->newest_consistent : NULL;
}

void
store_extend_checkpoint(struct store *s, int64_t unchanged_until_ns)
{
	struct mark *newest = s->marks.count > 0 ? &s->marks.list[s->marks.count - 1] : NULL;

	if (newest == NULL)
		return;
	if (unchanged_until_ns - newest->clock_offset_ns > store_clock(s))
		unchanged_until_ns =
		    store_clock(s) + newest->clock_offset_ns; /* nobody knows what will be: see settle_clock() */
	if (unchanged_until_ns <= newest->unchanged_until_ns)
		return;
	if (newest->lsn != s->durable.lsn_last)
		return; /* something was written since: it no longer describes the volumes */
	newest->unchanged_until_ns = unchanged_until_ns;
	s->newest_checkpoint.unchanged_until_ns = unchanged_until_ns;
	if (s->has_consistent && s->newest_consistent.lsn == newest->lsn) {
		s->newest_consistent.unchanged_until_ns = unchanged_until_ns;
		s->points_wanted = true;
	}
}

/* ---- the stream ---- */

int
store_stream_start(struct store *s, uint64_t stream_id, bool resume)
{
	if (s->failed != 0)
		return s->failed;
	if (!store_is_idle(s) || s->groups != NULL)
		return -EBUSY;
	if (resume && stream_id != s->durable.stream_id)
		return -HF_ESTREAM;
	if (!resume && (stream_id == 0 || stream_id == s->durable.stream_id))
		return -HF_ESTREAM;
	s->stream_id = stream_id;
	s->sequence = resume ? s->durable.sequence : 0;
	s->chain = resume ? s->durable.stream_chain : stream_id;
	return 0;
}

/* Where the fill of a volume stands while the extents of one frame are checked one after the other. */
static int
check_fill(const struct volume *v, const struct record_extent *x, uint64_t *frontier)
{
	if (x->block != *frontier || v->cursor == NULL)
		return -HF_EFRONTIER;
	*frontier += x->count;
	return 0;
}

static int
check_extent(const struct volume *v, const struct record_extent *x, uint64_t *frontier)
{
	uint64_t blocks;

	if (v == NULL || !v->info.declared)
		return -HF_EVOLUME;
	blocks = volume_blocks(v);
	if (x->count == 0 || x->block >= blocks || x->count > blocks - x->block)
		return -HF_EBEYOND;
	if (x->kind == 3 || x->kind == 4)
		return check_fill(v, x, frontier);
	return x->block + x->count <= v->info.frontier_received_blocks ? 0 : -HF_EFRONTIER;
}

/* Check the extents against the volumes, and count what they become in the index. */
static int
check_extents(struct store *s, const struct record_extent *extents, size_t count, size_t digest_count)
{
	uint64_t frontier = 0;
	uint32_t entries = 0;
	size_t digests = 0;

	s->frame.fill = extents[0].kind == 3 || extents[0].kind == 4;
	for (size_t i = 0; i < count; i++) {
		const struct record_extent *x = &extents[i];
		const struct volume *v = store_find_volume(s, x->volume);
		int r;

		if (s->frame.fill != (x->kind == 3 || x->kind == 4) ||
		    x->volume != (s->frame.fill ? extents[0].volume : x->volume))
			return -HF_EPROTOCOL;
		if (i == 0 && v != NULL)
			frontier = v->info.frontier_received_blocks;
		r = check_extent(v, x, &frontier);
		if (r < 0)
			return r;
		if (x->kind == 1 || x->kind == 3)
			digests += x->count;
		entries += x->kind == 1 ? (uint32_t)x->count : 1 + (uint32_t)(x->count >> 32);
		if (digests > digest_count)
			return -HF_EPROTOCOL;
	}
	s->frame.entry_count = s->frame.fill ? 0 : entries;
	if (s->frame.entry_count > GROUP_ENTRIES_MAX)
		return -HF_EPROTOCOL;
	return digests == digest_count ? 0 : -HF_EPROTOCOL;
}

/* Where the next record of the open group goes. */
static unsigned char *
record_place(const struct store *s)
{
	return s->open->slab->head + s->open->head_used;
}

/* The record encoded at record_place() belongs to the group now. */
static void
commit_record(struct store *s, size_t bytes)
{
	struct group *g = s->open;

	g->head_used += bytes;
	g->record_count++;
	s->lsn_next++;
}

/* A stream frame was accepted: it is part of the stream from here on. */
static void
advance_stream(struct store *s, uint64_t sequence, uint64_t chain)
{
	s->sequence = sequence;
	s->chain = chain;
	s->open->sequence = sequence;
}

/* Volumes declared since: their records go before the first frame that can name them. */
static int
log_volumes(struct store *s)
{
	for (uint32_t i = 0; i < s->volume_count; i++) {
		struct volume *v = s->volumes[i];
		struct run_volume rv = {.volume = v->info.volume, .size_bytes = v->info.size_bytes, .id = v->info.id};
		int r;

		if (v->logged)
			continue;
		r = journal_open_group(s, false, RECORD_VOLUME_BYTES, 0, 0);
		if (r < 0)
			return r;
		record_volume_encode(record_place(s), s->sequence, s->chain, &rv);
		commit_record(s, RECORD_VOLUME_BYTES);
		v->logged = true;
	}
	return 0;
}

static int
check_stream(const struct store *s, uint64_t sequence)
{
	if (s->failed != 0)
		return s->failed;
	if (s->shutting_down)
		return -HF_ESHUTDOWN;
	if (s->stream_id == 0 || sequence != s->sequence + 1)
		return -HF_ESEQUENCE;
	return 0;
}

int
store_frame_begin(struct store *s, uint64_t sequence, uint64_t chain, const struct store_extent *extents,
    size_t extent_count, const uint64_t *digests, size_t digest_count, void **ret_payload)
{
	struct record_extent x[RECORD_EXTENTS_MAX];
	size_t bytes = record_extents_bytes(extent_count, digest_count);
	int r = check_stream(s, sequence);

	assert(!s->frame_begun);
	if (r < 0)
		return r;
	if (extent_count == 0 || extent_count > RECORD_EXTENTS_MAX || digest_count > RECORD_DIGESTS_MAX)
		return -HF_EPROTOCOL;
	for (size_t i = 0; i < extent_count; i++)
		x[i] = (struct record_extent){extents[i].block, extents[i].count, extents[i].volume, extents[i].kind};
	r = check_extents(s, x, extent_count, digest_count);
	if (r == 0)
		r = log_volumes(s);
	if (r == 0)
		r = journal_open_group(s, s->frame.fill, bytes, digest_count * BLOCK_BYTES, s->frame.entry_count);
	if (r < 0)
		return r;
	record_extents_encode(record_place(s), s->frame.fill ? RECORD_FILL : RECORD_DATA, sequence, chain, x,
	    extent_count, digests, digest_count);
	s->frame.sequence = sequence;
	s->frame.chain = chain;
	s->frame.record_bytes = bytes;
	s->frame.extent_count = extent_count;
	s->frame.digest_count = digest_count;
	s->frame_begun = true;
	*ret_payload = digest_count > 0 ? s->open->slab->payload + s->open->payload_used : NULL;
	return 0;
}

/* Does every block of the begun frame match the digest the agent took when it read the disk? */
static int
verify_payload(struct store *s, const struct record *r, size_t *ret_bad)
{
	const unsigned char *payload = s->open->slab->payload + s->open->payload_used;

	if (PLANTED(6))
		return 0;
	for (size_t i = 0; i < s->frame.digest_count; i++)
		if (digest_block(s->digest_seed, payload + i * BLOCK_BYTES) != record_digest_get(r, i)) {
			*ret_bad = i;
			return -HF_EDIGEST;
		}
	return 0;
}

int
store_frame_end(struct store *s, size_t *ret_bad)
{
	struct record r = {.body = record_place(s) + RECORD_HEADER_BYTES};
	struct record_extent x[RECORD_EXTENTS_MAX];
	uint64_t digests[RECORD_DIGESTS_MAX];
	struct group *g = s->open;
	int e;

	assert(s->frame_begun && g != NULL);
	s->frame_begun = false;
	e = verify_payload(s, &r, ret_bad);
	if (e < 0) {
		journal_drop_empty_group(s);
		return e;
	}
	if (s->frame.fill) {
		for (size_t i = 0; i < s->frame.extent_count; i++)
			x[i] = record_extent_get(&r, i);
		for (size_t i = 0; i < s->frame.digest_count; i++)
			digests[i] = record_digest_get(&r, i);
		e = staging_add(s, g, x, s->frame.extent_count, digests, g->payload_used);
		if (e < 0) { /* the cursor may have moved: it cannot be taken back */
			store_fail(s, e, "no memory to stage a frame");
			return e;
		}
	}
	g->payload_used += s->frame.digest_count * BLOCK_BYTES;
	g->entry_count += s->frame.entry_count;
	s->stats.received_bytes += s->frame.digest_count * BLOCK_BYTES;
	commit_record(s, s->frame.record_bytes);
	advance_stream(s, s->frame.sequence, s->frame.chain);
	return 0;
}

void
store_frame_abort(struct store *s)
{
	s->frame_begun = false; /* nothing of it was committed: its room is used again */
	journal_drop_empty_group(s);
}

/* The checkpoint as it stands at this place in the stream. */
static void
describe_volumes(const struct store *s, struct checkpoint *c)
{
	c->complete = !s->unmade;
	c->volume_count = 0;
	for (uint32_t i = 0; i < s->volume_count; i++) {
		const struct volume *v = s->volumes[i];

		if (!v->info.declared)
			continue;
		c->volumes[c->volume_count].volume = v->info.volume;
		c->volumes[c->volume_count].size_bytes = v->info.size_bytes;
		c->volume_count++;
		if (!v->readable || v->info.frontier_received_blocks < volume_blocks(v))
			c->complete = false;
	}
	if (c->volume_count == 0)
		c->complete = false;
}

/* A moment after the checkpoint's arrival cannot be what it describes: the source's clock was stepped and we have not
 * measured it yet. Left so, it would age every point by that step, and expire them. */
static void
settle_clock(struct checkpoint *c)
{
	if (checkpoint_time_ns(c) > c->received_ns)
		c->clock_offset_ns = c->clock_ns - c->received_ns;
}

int
store_checkpoint(struct store *s, uint64_t sequence, uint64_t chain, const struct checkpoint *checkpoint)
{
	struct checkpoint c = *checkpoint;
	size_t bytes;
	int r = check_stream(s, sequence);

	assert(!s->frame_begun);
	if (r < 0)
		return r;
	if (c.consistency < CHECKPOINT_FUZZY || c.consistency > CHECKPOINT_APPLICATION)
		return -HF_EPROTOCOL; /* recovery would call the journal damaged */
	settle_clock(&c);
	describe_volumes(s, &c);
	bytes = record_checkpoint_bytes(c.volume_count);
	r = log_volumes(s);
	if (r == 0)
		r = journal_open_group(s, s->open != NULL && s->open->fill, bytes, 0, 0);
	if (r < 0)
		return r;
	c.lsn = s->lsn_next;
	record_checkpoint_encode(record_place(s), sequence, chain, &c);
	commit_record(s, bytes);
	s->open->checkpoint_count++;
	advance_stream(s, sequence, chain);
	return 0;
}

void
store_flush(struct store *s)
{
	if (s->open == NULL || s->frame_begun || s->failed != 0)
		return;
	if (s->group_count == 0 || s->open->payload_used >= GROUP_EARLY_BYTES)
		journal_close_group(s);
}

void
store_tick(struct store *s)
{
	int64_t now = clock_monotonic_ns();

	if (s->failed != 0)
		return;
	if (s->full) {
		s->full = false; /* set again by whoever finds no room */
		staging_retry(s);
		store_wake_job(s);
	}
	if (now >= s->points_due_ns) {
		s->points_due_ns = now + 10 * NS_PER_SECOND;
		s->points_wanted = true;
		store_wake_job(s);
	}
	store_say_room(s);
}

/* ---- views ---- */

/* Sizes of volumes at an LSN: those of the checkpoint there, else of today. */
static bool
volume_size_at(const struct store *s, uint64_t lsn, const struct volume *v, uint64_t *ret_size)
{
	struct checkpoint c;
	size_t i;
	bool found = marks_find(&s->marks, lsn, &i);

	if (found)
		marks_get(&s->marks, i, &c);
	for (size_t p = 0; !found && p < s->pit_count; p++)
		if (s->pits[p].lsn == lsn) {
			c = s->pits[p].checkpoint;
			found = true;
		}
	if (!found) {
		*ret_size = v->info.size_bytes;
		return v->info.declared;
	}
	for (uint32_t k = 0; k < c.volume_count; k++)
		if (c.volumes[k].volume == v->info.volume) {
			*ret_size = c.volumes[k].size_bytes;
			return true;
		}
	return false;
}

/* References to every run (or chunk in memory) and segment file; -ENOMEM leaves parts to be freed by view_create(). */
static int
collect_runs(struct store *s, struct view_parts *parts)
{
	size_t n = 0;

	for (struct segment *g = s->segments; g != NULL; g = g->next)
		n++;
	parts->runs = calloc(n * INTERVAL_CHUNKS_MAX + 1, sizeof(struct run *));
	parts->segments = calloc(n + 1, sizeof(struct shared_file *));
	if (parts->runs == NULL || parts->segments == NULL)
		return -ENOMEM;
	for (struct segment *g = s->segments; g != NULL; g = g->next) {
		parts->segments[parts->segment_count++] = shared_file_ref(g->file);
		if (g->run != NULL) {
			parts->runs[parts->run_count++] = run_ref(g->run);
			continue;
		}
		if (interval_sort(g->interval) < 0)
			return -ENOMEM;
		for (unsigned i = 0; i < g->interval->chunk_count; i++)
			parts->runs[parts->run_count++] = run_ref(g->interval->chunks[i].run);
	}
	return 0;
}

enum view_volumes { VOLUMES_AT_LSN, VOLUMES_DECLARED, VOLUMES_ALL };

static bool
belongs_to_view(
    const struct store *s, enum view_volumes which, uint64_t lsn, const struct volume *v, uint64_t *ret_size)
{
	*ret_size = v->info.size_bytes;
	switch (which) {
	case VOLUMES_AT_LSN: return volume_size_at(s, lsn, v, ret_size);
	case VOLUMES_DECLARED: return v->info.declared;
	case VOLUMES_ALL: break;
	}
	return true;
}

static void
collect_volumes(struct store *s, enum view_volumes which, struct view_parts *parts)
{
	for (uint32_t i = 0; i < s->volume_count; i++) {
		struct volume *v = s->volumes[i];
		struct view_volume *vv = &parts->volumes[parts->volume_count];

		if (!belongs_to_view(s, which, parts->lsn, v, &vv->size_bytes))
			continue;
		vv->volume = v->info.volume;
		vv->frontier_blocks = v->info.frontier_blocks;
		vv->img = shared_file_ref(v->img);
		vv->sum = shared_file_ref(v->sum);
		parts->volume_count++;
	}
}

static int
make_view(struct store *s, uint64_t lsn, enum view_volumes which, struct view **ret_view)
{
	struct view_parts parts = {.digest_seed = s->digest_seed, .base_lsn = s->base_lsn, .lsn = lsn};
	int r;

	if (s->view_count == VIEWS_MAX)
		return -EAGAIN;
	if (parts.lsn < s->base_lsn || parts.lsn < s->fold_lsn || parts.lsn > s->durable.lsn_last)
		return -HF_ENOPIT;
	r = collect_runs(s, &parts);
	if (r == 0)
		collect_volumes(s, which, &parts);
	if (r == 0) {
		r = view_create(&parts, s->disk, ret_view);
	} else {
		struct view *v;

		if (view_create(&parts, s->disk, &v) == 0) /* takes the references, gives them back */
			view_destroy(v, s->disk);
	}
	if (r < 0)
		return r;
	s->views[s->view_count].view = *ret_view;
	s->views[s->view_count].lsn = parts.lsn;
	s->view_count++;
	return 0;
}

/* The newest state is of the volumes as they are declared, though the last record may be a checkpoint of before. */
int
store_view(struct store *s, uint64_t lsn, struct view **ret_view)
{
	if (lsn == UINT64_MAX)
		return make_view(s, s->durable.lsn_last, VOLUMES_DECLARED, ret_view);
	return make_view(s, lsn, VOLUMES_AT_LSN, ret_view);
}

/* What a fold leaves out is lost with the segments: a disk that was taken away may come back. */
int
store_fold_view(struct store *s, uint64_t lsn, struct view **ret_view)
{
	return make_view(s, lsn, VOLUMES_ALL, ret_view);
}

void
store_view_release(struct store *s, struct view *v)
{
	for (unsigned i = 0; i < s->view_count; i++) {
		if (s->views[i].view != v)
			continue;
		s->views[i] = s->views[--s->view_count];
		view_destroy(v, s->disk);
		store_wake_job(s); /* a fold may have waited for it */
		return;
	}
	assert(!"a view of this store");
}

/* ---- points ---- */

static void
pit_from_mark(const struct store *s, size_t i, struct pit *ret_pit)
{
	struct pit p = {0};

	marks_get(&s->marks, i, &p.checkpoint);
	p.id = checkpoint_pit_id(&s->source, p.checkpoint.lsn);
	p.lsn = p.checkpoint.lsn;
	p.time_ns = p.planned_ns = checkpoint_time_ns(&p.checkpoint);
	p.complete = p.checkpoint.complete;
	p.consistency = p.checkpoint.consistency;
	*ret_pit = p;
}

/* The oldest moment (our time) of the journal window: counted back from the newest complete point, never from now. */
static int64_t
window_begin_ns(const struct store *s)
{
	const struct checkpoint *c = store_newest_consistent(s);

	return c == NULL ? INT64_MIN : checkpoint_time_ns(c) - s->policy.journal_window_ns;
}

int
store_list_pits(struct store *s, struct pit **ret_pits, size_t *ret_count)
{
	int64_t begin = window_begin_ns(s);
	struct pit *list = calloc(s->pit_count + s->marks.count + 1, sizeof *list);
	size_t n = 0, k = 0;

	if (list == NULL)
		return -ENOMEM;
	for (size_t i = 0; i <= s->marks.count; i++) {
		uint64_t lsn = i < s->marks.count ? s->marks.list[i].lsn : UINT64_MAX;
		bool kept = false;

		for (; k < s->pit_count && s->pits[k].lsn <= lsn; k++) {
			kept |= s->pits[k].lsn == lsn;
			list[n++] = s->pits[k];
		}
		if (i == s->marks.count || kept || lsn < s->fold_lsn)
			continue;
		if (s->marks.list[i].clock_ns - s->marks.list[i].clock_offset_ns < begin)
			continue;
		pit_from_mark(s, i, &list[n++]);
	}
	*ret_pits = list;
	*ret_count = n;
	return 0;
}

void
store_get_policy(const struct store *s, struct policy *ret_policy)
{
	*ret_policy = s->policy;
}

/* A volume is partly filled and may be filled on: the cursor holds digest pages that a fold would change under it. */
static bool
is_filling(const struct store *s)
{
	for (uint32_t i = 0; i < s->volume_count; i++) {
		const struct volume *v = s->volumes[i];

		if (v->cursor != NULL && v->cursor->frontier > 0)
			return true;
		if (v->info.frontier_received_blocks != v->info.frontier_blocks)
			return true; /* taken away meanwhile, its last frames still on their way */
	}
	return false;
}

uint64_t
store_fold_target(const struct store *s)
{
	int64_t begin = window_begin_ns(s);
	const struct segment *oldest = s->segments;
	uint64_t target = UINT64_MAX;

	if (!s->has_consistent || oldest == NULL || oldest->run == NULL || is_filling(s))
		return 0;
	if (s->pit_count > 0)
		target = s->pits[0].lsn;
	for (size_t i = 0; i < s->marks.count; i++) {
		if (s->marks.list[i].clock_ns - s->marks.list[i].clock_offset_ns < begin)
			continue;
		if (s->marks.list[i].lsn < target)
			target = s->marks.list[i].lsn;
		break;
	}
	if (PLANTED(12))
		target = s->newest_consistent.lsn;
	if (s->newest_consistent.lsn < target)
		target = s->newest_consistent.lsn;
	for (unsigned i = 0; i < s->view_count; i++)
		if (s->views[i].lsn < target)
			target = s->views[i].lsn;
	if (target <= s->base_lsn || oldest->info.lsn_last >= target || oldest->next == NULL)
		return 0; /* nothing would be freed: the record at the target stays, it may be a point that no row keeps
			   */
	return target;
}
