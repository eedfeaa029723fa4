/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/seen.h"

#include <stdlib.h>
#include <string.h>

enum { CAPACITY_FIRST = 1 << 12 }; /* a power of two, as all that follow */

/* Its slot, or the free one where it belongs. */
static uint64_t *
find_slot(const struct seen *s, uint64_t fingerprint)
{
	size_t i = fingerprint & (s->capacity - 1);

	while (s->slots[i] != 0 && s->slots[i] != fingerprint)
		i = (i + 1) & (s->capacity - 1);
	return &s->slots[i];
}

static void
grow(struct seen *s)
{
	struct seen larger = {.count = s->count, .capacity = s->capacity > 0 ? 2 * s->capacity : CAPACITY_FIRST};

	larger.slots = calloc(larger.capacity, sizeof *larger.slots);
	if (larger.slots == NULL)
		abort();
	for (size_t i = 0; i < s->capacity; i++)
		if (s->slots[i] != 0)
			*find_slot(&larger, s->slots[i]) = s->slots[i];
	free(s->slots);
	*s = larger;
}

bool
seen_before(struct seen *s, uint64_t fingerprint)
{
	uint64_t *slot;

	if (2 * s->count >= s->capacity)
		grow(s);
	fingerprint += fingerprint == 0;
	slot = find_slot(s, fingerprint);
	if (*slot != 0)
		return true;
	*slot = fingerprint;
	s->count++;
	return false;
}

void
seen_fini(struct seen *s)
{
	free(s->slots);
	memset(s, 0, sizeof *s);
}
