/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/run_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/run_format.h"

enum {
	WAYS = 4, /* pages that may share a set: enough that two scans do not chase each other out */
	SETS_MIN = 16,
};

struct slot {
	uint64_t run_id; /* 0 = empty */
	uint64_t page;
	uint64_t used; /* when, counted in uses */
};

struct run_cache {
	size_t sets;
	uint64_t uses;
	struct slot *slots;    /* sets * WAYS */
	unsigned char *memory; /* a page per slot, then the room */
};

static size_t
memory_bytes(const struct run_cache *c)
{
	return (c->sets * WAYS + RUN_AHEAD_PAGES) * RUN_PAGE_BYTES;
}

int
run_cache_create(size_t bytes, struct run_cache **ret_cache)
{
	struct run_cache *c = calloc(1, sizeof *c);

	if (c == NULL)
		return -ENOMEM;
	c->sets = bytes / (WAYS * RUN_PAGE_BYTES);
	if (c->sets < SETS_MIN)
		c->sets = SETS_MIN;
	c->slots = calloc(c->sets * WAYS, sizeof *c->slots);
	c->memory = buffer_alloc(memory_bytes(c));
	if (c->slots == NULL || c->memory == NULL) {
		run_cache_destroy(c);
		return -ENOMEM;
	}
	*ret_cache = c;
	return 0;
}

void
run_cache_destroy(struct run_cache *c)
{
	if (c == NULL)
		return;
	buffer_free(c->memory, memory_bytes(c));
	free(c->slots);
	free(c);
}

static struct slot *
first_way(struct run_cache *c, uint64_t run_id, uint64_t page)
{
	uint64_t mixed = (run_id * 0x9e3779b97f4a7c15u + page) * 0xff51afd7ed558ccdu;

	return &c->slots[(mixed >> 24) % c->sets * WAYS];
}

static unsigned char *
slot_bytes(struct run_cache *c, const struct slot *s)
{
	return c->memory + (size_t)(s - c->slots) * RUN_PAGE_BYTES;
}

const unsigned char *
run_cache_find(struct run_cache *c, uint64_t run_id, uint64_t page)
{
	struct slot *s = first_way(c, run_id, page);

	for (int way = 0; way < WAYS; way++, s++) {
		if (s->run_id == run_id && s->page == page) {
			s->used = ++c->uses;
			return slot_bytes(c, s);
		}
	}
	return NULL;
}

static struct slot *
oldest_way(struct slot *first)
{
	struct slot *oldest = first;

	for (struct slot *s = first; s < first + WAYS; s++)
		if (s->used < oldest->used)
			oldest = s;
	return oldest;
}

const unsigned char *
run_cache_put(struct run_cache *c, uint64_t run_id, uint64_t page, const unsigned char *bytes)
{
	struct slot *s = oldest_way(first_way(c, run_id, page));

	s->run_id = run_id;
	s->page = page;
	s->used = ++c->uses;
	memcpy(slot_bytes(c, s), bytes, RUN_PAGE_BYTES);
	return slot_bytes(c, s);
}

unsigned char *
run_cache_room(struct run_cache *c)
{
	return c->memory + c->sets * WAYS * RUN_PAGE_BYTES;
}
