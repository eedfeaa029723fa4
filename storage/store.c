/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/store.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"
#include "storage/store_impl.h"

/* ---- small things ---- */

int64_t
store_clock(const struct store *s)
{
	return s->config.clock_ns != NULL ? s->config.clock_ns() : clock_real_ns();
}

int64_t
store_passed(const struct store *s)
{
	if (s->config.passed_ns != NULL)
		return s->config.passed_ns();
	return s->config.clock_ns != NULL ? s->config.clock_ns() : clock_monotonic_ns();
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
	pace_stop(&s->pace);
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
	leaving_close(&s->leaving, d);
	for (uint32_t i = 0; i < s->volume_count; i++)
		volume_destroy(s->volumes[i], d);
	marks_fini(&s->marks);
	shared_drop(&s->pits_shared, s->pits);
	shared_drop(&s->account_shared, s->account.points);
	scrub_unload(s);
	catalog_close(s->catalog);
	free(s);
}

/* ---- facts ---- */

const struct store_repair *
store_get_repair(const struct store *s)
{
	return &s->repair;
}

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

/* A fold under pressure takes a run at a time, a merge no more than there are entries. */
static void
add_needs(const struct segment *g, struct store_stats *t)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < segment_data_count(g); i++) {
		struct segment_data data = segment_data_get(g, i);

		bytes += g->data != NULL ? data.live_blocks * BLOCK_BYTES : data.bytes;
	}
	if (bytes > t->fold_bytes)
		t->fold_bytes = bytes;
	if (g->run != NULL)
		t->merge_bytes += run_entry_count(g->run) * ENTRY_BYTES;
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
	t.pit_count = s->pit_count;
	t.window_ns = store_window_ns(s);
	for (const struct segment *g = s->segments; g != NULL; g = g->next) {
		t.segment_count++;
		add_needs(g, &t);
		for (size_t i = 0; g->sealed && i < segment_data_count(g); i++)
			t.journal_bytes += segment_data_get(g, i).held_bytes;
		t.journal_bytes += g->sealed ? 0 : g->capacity;
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
	struct checkpoint noted = *c;

	noted.running_ns = s->attached ? store_run_to(s, c) : 0; /* recovered ones: see store_begin_retention() */
	if (marks_add(&s->marks, &noted) < 0)
		return; /* no memory: it is in the journal all the same, and listed after the next start */
	s->newest_checkpoint = noted;
	s->has_checkpoint = true;
	if (pit_eligible(c)) {
		s->newest_consistent = noted;
		s->window_end_ns = noted.running_ns;
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
store_extend_checkpoint(struct store *s, int64_t until_ns)
{
	struct mark *newest = s->marks.count > 0 ? &s->marks.newest : NULL;
	int64_t now_ns = store_clock(s), unchanged_until_ns;

	if (newest == NULL)
		return;
	/* Nobody knows what will be: see settle_clock(). */
	unchanged_until_ns = (until_ns < now_ns ? until_ns : now_ns) + newest->clock_offset_ns;
	if (unchanged_until_ns <= newest->unchanged_until_ns)
		return;
	if (newest->lsn != s->durable.lsn_last)
		return; /* something was written since: it no longer describes the volumes */
	s->newest_checkpoint.unchanged_until_ns = unchanged_until_ns;
	s->newest_checkpoint.running_ns = store_run_to(s, &s->newest_checkpoint);
	newest->unchanged_until_ns = unchanged_until_ns;
	if (s->has_consistent && s->newest_consistent.lsn == newest->lsn) {
		s->newest_consistent = s->newest_checkpoint;
		s->points_wanted = true;
	}
}
