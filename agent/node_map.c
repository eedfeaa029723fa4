/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/node_map.h"

#include <errno.h>
#include <stdlib.h>

enum { CHUNK = 256 };

int
node_map_init(struct node_map *m, uint64_t node_count)
{
	m->chunk_count = (size_t)((node_count + CHUNK - 1) / CHUNK);
	m->chunks = calloc(m->chunk_count + 1, sizeof *m->chunks); /* + 1: never of nothing */
	return m->chunks != NULL ? 0 : -ENOMEM;
}

void
node_map_fini(struct node_map *m)
{
	for (size_t i = 0; m->chunks != NULL && i < m->chunk_count; i++)
		free(m->chunks[i]);
	free(m->chunks);
	m->chunks = NULL;
	m->chunk_count = 0;
}

uint64_t
node_map_get(const struct node_map *m, uint64_t node)
{
	const uint64_t *chunk = m->chunks[node / CHUNK];

	return chunk != NULL ? chunk[node % CHUNK] : 0;
}

int
node_map_set(struct node_map *m, uint64_t node, uint64_t digest)
{
	uint64_t **chunk = &m->chunks[node / CHUNK];

	if (*chunk == NULL) {
		if (digest == 0)
			return 0;
		*chunk = calloc(CHUNK, sizeof **chunk);
		if (*chunk == NULL)
			return -ENOMEM;
	}
	(*chunk)[node % CHUNK] = digest;
	return 0;
}

uint64_t
node_map_next(const struct node_map *m, uint64_t node, uint64_t end)
{
	while (node < end) {
		const uint64_t *chunk = m->chunks[node / CHUNK];

		if (chunk == NULL)
			node = (node / CHUNK + 1) * CHUNK;
		else if (chunk[node % CHUNK] != 0)
			return node;
		else
			node++;
	}
	return end;
}
