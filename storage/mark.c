/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/mark.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void
marks_fini(struct marks *m)
{
	free(m->list);
	free(m->sets);
	*m = (struct marks){0};
}

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

/* Index of the checkpoint's volume list, added if it is new; -ENOMEM. The newest is nearly always the one. */
static int
find_set(struct marks *m, const struct checkpoint *c, uint32_t *ret_index)
{
	struct mark_set *s;

	for (size_t i = m->set_count; i-- > 0;)
		if (set_matches(&m->sets[i], c)) {
			*ret_index = (uint32_t)i;
			return 0;
		}
	if (m->set_count == m->set_capacity) {
		size_t wanted = m->set_capacity > 0 ? m->set_capacity * 2 : 1;

		s = realloc(m->sets, wanted * sizeof *s);
		if (s == NULL)
			return -ENOMEM;
		m->sets = s;
		m->set_capacity = wanted;
	}
	s = &m->sets[m->set_count];
	memset(s, 0, sizeof *s);
	s->volume_count = c->volume_count;
	for (uint32_t i = 0; i < c->volume_count; i++) {
		s->volumes[i].volume = c->volumes[i].volume;
		s->volumes[i].size_bytes = c->volumes[i].size_bytes;
	}
	*ret_index = (uint32_t)m->set_count++;
	return 0;
}

int
marks_add(struct marks *m, const struct checkpoint *c)
{
	uint32_t set;

	assert(m->count == 0 || m->list[m->count - 1].lsn < c->lsn);
	if (find_set(m, c, &set) < 0)
		return -ENOMEM;
	if (m->count == m->capacity) {
		size_t wanted = m->capacity > 0 ? m->capacity * 2 : 16;
		struct mark *p = realloc(m->list, wanted * sizeof *p);

		if (p == NULL)
			return -ENOMEM;
		m->list = p;
		m->capacity = wanted;
	}
	m->list[m->count++] = (struct mark){
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

void
marks_drop_before(struct marks *m, uint64_t lsn)
{
	size_t n = 0;

	while (n < m->count && m->list[n].lsn < lsn)
		n++;
	if (n == 0)
		return;
	m->count -= n;
	memmove(m->list, m->list + n, m->count * sizeof *m->list);
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
		if (!set_names(&m->sets[m->list[i].set], volume))
			m->list[kept++] = m->list[i];
	m->count = kept;
}

void
marks_get(const struct marks *m, size_t i, struct checkpoint *ret_checkpoint)
{
	const struct mark *k = &m->list[i];
	const struct mark_set *s = &m->sets[k->set];
	struct checkpoint *c = ret_checkpoint;

	assert(i < m->count);
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

		if (m->list[mid].lsn < lsn)
			low = mid + 1;
		else
			high = mid;
	}
	*ret_index = low;
	return low < m->count && m->list[low].lsn == lsn;
}

uint64_t
marks_first_with(const struct marks *m, uint32_t volume)
{
	for (size_t i = 0; i < m->count; i++)
		if (m->list[i].complete && set_names(&m->sets[m->list[i].set], volume))
			return m->list[i].lsn;
	return UINT64_MAX;
}
