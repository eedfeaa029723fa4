/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/mark.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_MARKS = 128 };

struct mark_chunk {
	atomic_uint refs;
	struct mark list[CHUNK_MARKS];
};

struct mark_set {
	uint32_t volume_count;
	struct {
		uint32_t volume;
		uint64_t size_bytes;
	} volumes[STORE_VOLUMES_MAX];
};

/* Replaced by a longer one when a set is added. */
struct mark_sets {
	atomic_uint refs;
	size_t count;
	struct mark_set list[];
};

static void
unref_chunk(struct mark_chunk *chunk)
{
	if (atomic_fetch_sub(&chunk->refs, 1) == 1)
		free(chunk);
}

static void
unref_sets(struct mark_sets *sets)
{
	if (sets != NULL && atomic_fetch_sub(&sets->refs, 1) == 1)
		free(sets);
}

void
marks_fini(struct marks *m)
{
	for (size_t i = 0; i < m->chunk_count; i++)
		unref_chunk(m->chunks[i]);
	free(m->chunks);
	unref_sets(m->sets);
	*m = (struct marks){0};
}

int
marks_share(const struct marks *m, struct marks *ret_copy)
{
	struct marks copy = *m;

	copy.chunk_capacity = m->chunk_count + 1;
	copy.chunks = malloc(copy.chunk_capacity * sizeof(struct mark_chunk *));
	if (copy.chunks == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < m->chunk_count; i++) {
		copy.chunks[i] = m->chunks[i];
		atomic_fetch_add(&copy.chunks[i]->refs, 1);
	}
	if (copy.sets != NULL)
		atomic_fetch_add(&copy.sets->refs, 1);
	*ret_copy = copy;
	return 0;
}

/* ---- lists of volumes ---- */

static bool
set_matches(const struct mark_set *s, const struct checkpoint *c)
{
	if (s->volume_count != c->volume_count)
		return false;
	for (uint32_t i = 0; i < c->volume_count; i++)
		if (s->volumes[i].volume != c->volumes[i].volume ||
		    s->volumes[i].size_bytes != c->volumes[i].size_bytes)
			return false;
	return true;
}

static void
fill_set(struct mark_set *s, const struct checkpoint *c)
{
	*s = (struct mark_set){.volume_count = c->volume_count};
	for (uint32_t i = 0; i < c->volume_count; i++) {
		s->volumes[i].volume = c->volumes[i].volume;
		s->volumes[i].size_bytes = c->volumes[i].size_bytes;
	}
}

static int
add_set(struct marks *m, const struct checkpoint *c)
{
	size_t count = m->sets != NULL ? m->sets->count : 0;
	struct mark_sets *more = malloc(sizeof *more + (count + 1) * sizeof more->list[0]);

	if (more == NULL)
		return -ENOMEM;
	atomic_init(&more->refs, 1);
	more->count = count + 1;
	if (count > 0)
		memcpy(more->list, m->sets->list, count * sizeof more->list[0]);
	fill_set(&more->list[count], c);
	unref_sets(m->sets);
	m->sets = more;
	return 0;
}

/* Index of the checkpoint's volume list, added if it is new; -ENOMEM. The newest is nearly always the one. */
static int
find_set(struct marks *m, const struct checkpoint *c, uint32_t *ret_index)
{
	for (size_t i = m->sets != NULL ? m->sets->count : 0; i-- > 0;)
		if (set_matches(&m->sets->list[i], c)) {
			*ret_index = (uint32_t)i;
			return 0;
		}
	if (add_set(m, c) < 0)
		return -ENOMEM;
	*ret_index = (uint32_t)m->sets->count - 1;
	return 0;
}

/* ---- marks ---- */

/* Of one that is not the newest. */
static struct mark *
find_slot(const struct marks *m, size_t i)
{
	return &m->chunks[(m->dropped + i) / CHUNK_MARKS]->list[(m->dropped + i) % CHUNK_MARKS];
}

const struct mark *
marks_at(const struct marks *m, size_t i)
{
	assert(i < m->count);
	return i == m->count - 1 ? &m->newest : find_slot(m, i);
}

struct mark *
marks_change(struct marks *m, size_t i)
{
	assert(i < m->count);
	return i == m->count - 1 ? &m->newest : find_slot(m, i);
}

static int
add_chunk(struct marks *m)
{
	struct mark_chunk *chunk = malloc(sizeof *chunk);

	if (m->chunk_count == m->chunk_capacity) {
		size_t wanted = m->chunk_capacity * 2 + 1;
		struct mark_chunk **more = realloc(m->chunks, wanted * sizeof(struct mark_chunk *));

		if (more != NULL) {
			m->chunks = more;
			m->chunk_capacity = wanted;
		}
	}
	if (chunk == NULL || m->chunk_count == m->chunk_capacity) {
		free(chunk);
		return -ENOMEM;
	}
	atomic_init(&chunk->refs, 1);
	m->chunks[m->chunk_count++] = chunk;
	return 0;
}

/* The newest one changes no more: another one will be it. */
static int
settle_newest(struct marks *m)
{
	if (m->count == 0)
		return 0;
	if ((m->dropped + m->count - 1) / CHUNK_MARKS == m->chunk_count && add_chunk(m) < 0)
		return -ENOMEM;
	*find_slot(m, m->count - 1) = m->newest;
	return 0;
}

int
marks_add(struct marks *m, const struct checkpoint *c)
{
	uint32_t set;

	assert(m->count == 0 || m->newest.lsn < c->lsn);
	if (find_set(m, c, &set) < 0 || settle_newest(m) < 0)
		return -ENOMEM;
	m->count++;
	m->newest = (struct mark){
	    .lsn = c->lsn,
	    .stream_id = c->stream_id,
	    .clock_ns = c->clock_ns,
	    .clock_offset_ns = c->clock_offset_ns,
	    .received_ns = c->received_ns,
	    .unchanged_until_ns = c->unchanged_until_ns > c->clock_ns ? c->unchanged_until_ns : c->clock_ns,
	    .running_ns = c->running_ns,
	    .set = set,
	    .consistency = (uint8_t)c->consistency,
	    .complete = c->complete,
	};
	return 0;
}

static void
drop_chunks(struct marks *m, size_t n)
{
	for (size_t i = 0; i < n; i++)
		unref_chunk(m->chunks[i]);
	m->chunk_count -= n;
	if (n > 0)
		memmove(m->chunks, m->chunks + n, m->chunk_count * sizeof(struct mark_chunk *));
	m->dropped -= n * CHUNK_MARKS;
}

void
marks_drop_before(struct marks *m, uint64_t lsn)
{
	size_t n;

	marks_find(m, lsn, &n);
	m->dropped += n > 0 && n == m->count ? n - 1 : n; /* the newest has no place in a chunk */
	m->count -= n;
	drop_chunks(m, m->dropped / CHUNK_MARKS);
}

static const struct mark_set *
set_of(const struct marks *m, size_t i)
{
	return &m->sets->list[marks_at(m, i)->set];
}

static bool
set_names(const struct mark_set *s, uint32_t volume)
{
	for (uint32_t i = 0; i < s->volume_count; i++)
		if (s->volumes[i].volume == volume)
			return true;
	return false;
}

void
marks_drop_volume(struct marks *m, uint32_t volume)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->count; i++)
		if (!set_names(set_of(m, i), volume))
			*marks_change(m, kept++) = *marks_at(m, i);
	if (kept > 0 && kept < m->count)
		m->newest = *marks_at(m, kept - 1);
	m->count = kept;
}

void
marks_get(const struct marks *m, size_t i, struct checkpoint *ret_checkpoint)
{
	const struct mark *k = marks_at(m, i);
	const struct mark_set *s = set_of(m, i);
	struct checkpoint *c = ret_checkpoint;

	*c = (struct checkpoint){
	    .lsn = k->lsn,
	    .stream_id = k->stream_id,
	    .clock_ns = k->clock_ns,
	    .clock_offset_ns = k->clock_offset_ns,
	    .received_ns = k->received_ns,
	    .unchanged_until_ns = k->unchanged_until_ns,
	    .running_ns = k->running_ns,
	    .consistency = (enum checkpoint_consistency)k->consistency,
	    .complete = k->complete,
	    .volume_count = s->volume_count,
	};
	for (uint32_t v = 0; v < s->volume_count; v++) {
		c->volumes[v].volume = s->volumes[v].volume;
		c->volumes[v].size_bytes = s->volumes[v].size_bytes;
	}
}

bool
marks_find(const struct marks *m, uint64_t lsn, size_t *ret_index)
{
	size_t low = 0, high = m->count;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (marks_at(m, mid)->lsn < lsn)
			low = mid + 1;
		else
			high = mid;
	}
	*ret_index = low;
	return low < m->count && marks_at(m, low)->lsn == lsn;
}

uint64_t
marks_first_with(const struct marks *m, uint32_t volume)
{
	for (size_t i = 0; i < m->count; i++)
		if (marks_at(m, i)->complete && set_names(set_of(m, i), volume))
			return marks_at(m, i)->lsn;
	return UINT64_MAX;
}
