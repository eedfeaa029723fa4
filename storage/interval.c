/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/interval.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct interval *
interval_create(void)
{
	return calloc(1, sizeof(struct interval));
}

void
interval_destroy(struct interval *v)
{
	if (v == NULL)
		return;
	for (unsigned i = 0; i < v->chunk_count; i++)
		run_unref(v->chunks[i].run, NULL);
	free(v->entries);
	free(v->checkpoints);
	free(v);
}

static int
grow(void **array, size_t *capacity, size_t needed, size_t size)
{
	size_t wanted = *capacity > 0 ? *capacity : 64;
	void *p;

	if (needed <= *capacity)
		return 0;
	while (wanted < needed)
		wanted *= 2;
	p = realloc(*array, wanted * size);
	if (p == NULL)
		return -ENOMEM;
	*array = p;
	*capacity = wanted;
	return 0;
}

int
interval_reserve(struct interval *v, size_t entries, size_t checkpoints)
{
	void *e = v->entries, *c = v->checkpoints;
	int r = grow(&e, &v->capacity, v->count + entries, sizeof *v->entries);

	v->entries = e;
	if (r == 0)
		r = grow(&c, &v->checkpoint_capacity, v->checkpoint_count + checkpoints, sizeof *v->checkpoints);
	v->checkpoints = c;
	return r;
}

void
interval_add(struct interval *v, const struct entry *e)
{
	assert(v->count < v->capacity);
	v->entries[v->count++] = *e;
}

void
interval_add_checkpoint(struct interval *v, const struct checkpoint *c)
{
	assert(v->checkpoint_count < v->checkpoint_capacity);
	v->checkpoints[v->checkpoint_count++] = *c;
}

int
interval_sort(struct interval *v)
{
	unsigned first = v->chunk_count;
	size_t from = first > 0 ? v->chunks[first - 1].to : 0;
	struct run *run;

	if (from == v->count)
		return 0;
	/* Like a binary counter: swallow the chunks before that are not larger, so that sizes fall by half and few
	 * remain. */
	while (first > 0 && v->chunks[first - 1].to - v->chunks[first - 1].from <= v->count - from) {
		first--;
		from = v->chunks[first].from;
	}
	run = run_from_entries(v->entries + from, v->count - from);
	if (run == NULL)
		return -ENOMEM;
	for (unsigned i = first; i < v->chunk_count; i++)
		run_unref(v->chunks[i].run, NULL);
	assert(first < INTERVAL_CHUNKS_MAX);
	v->chunks[first] = (struct interval_chunk){.run = run, .from = from, .to = v->count};
	v->chunk_count = first + 1;
	return 0;
}
