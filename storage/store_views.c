/* SPDX-License-Identifier: Apache-2.0 */
/* store_views.c: views: who reads at which LSN, and what a fold must wait for. */
#include "storage/store_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"

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
	return checkpoint_has_volume(&c, v->info.volume, ret_size);
}

/* References to every run (or chunk in memory) and segment file; -ENOMEM leaves parts to be freed by view_create(). */
static int
collect_runs(struct store *s, struct view_parts *parts)
{
	size_t n = 0, files = 0;

	for (struct segment *g = s->segments; g != NULL; g = g->next) {
		n++;
		files += segment_data_count(g);
	}
	parts->runs = calloc(n * INTERVAL_CHUNKS_MAX + 1, sizeof(struct run *));
	parts->segments = calloc(files + 1, sizeof(struct shared_file *));
	if (parts->runs == NULL || parts->segments == NULL)
		return -ENOMEM;
	for (struct segment *g = s->segments; g != NULL; g = g->next) {
		for (size_t i = 0; i < segment_data_count(g); i++)
			parts->segments[parts->segment_count++] = shared_file_ref(segment_data_get(g, i).file);
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

/* LSN of the oldest complete point that the volume is part of; UINT64_MAX: there is none. */
static uint64_t
first_point(const struct store *s, uint32_t volume)
{
	uint64_t lsn = marks_first_with(&s->marks, volume);

	for (size_t p = 0; p < s->pit_count; p++) {
		const struct pit *pit = &s->pits[p];

		if (pit->complete && pit->lsn >= s->fold_lsn && pit->lsn < lsn &&
		    checkpoint_has_volume(&pit->checkpoint, volume, NULL))
			return pit->lsn;
	}
	return lsn;
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
		vv->first_point_lsn = which == VOLUMES_ALL ? first_point(s, v->info.volume) : 0;
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
	s->views[s->view_count].made = s->views_made++;
	s->view_count++;
	return 0;
}

bool
store_is_point(const struct store *s, uint64_t lsn)
{
	size_t i;

	if (marks_find(&s->marks, lsn, &i))
		return true;
	for (size_t p = 0; p < s->pit_count; p++)
		if (s->pits[p].lsn == lsn)
			return true;
	return false;
}

/* The newest state is of the volumes as they are declared, though the last record may be a checkpoint of before. */
int
store_view(struct store *s, uint64_t lsn, struct view **ret_view)
{
	if (lsn == UINT64_MAX)
		return make_view(s, s->durable.lsn_last, VOLUMES_DECLARED, ret_view);
	if (lsn < s->merged_lsn && !store_is_point(s, lsn))
		return -HF_ENOPIT;
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
		if (s->catalog != NULL) /* offline nobody mends */
			scrub_look_at_runs(s);
		store_wake_job(s); /* a fold, or holes, may have waited for it */
		return;
	}
	assert(!"a view of this store");
}
