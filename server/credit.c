/* SPDX-License-Identifier: Apache-2.0 */
#include "server/credit.h"

#include <assert.h>
#include <string.h>

/* Marks lie at least this far apart, and unacknowledged bytes never exceed the window: so the ring cannot run over. */
enum { MARKS_PER_WINDOW = CREDIT_MARKS / 2 };

void
credit_init(struct credit *c, uint64_t window_bytes, uint64_t sequence)
{
	memset(c, 0, sizeof *c);
	c->window_bytes = window_bytes;
	c->sequence = sequence;
}

static uint64_t
last_marked_bytes(const struct credit *c)
{
	if (c->count == 0)
		return c->acked_bytes;
	return c->marks[(c->first + c->count - 1) % CREDIT_MARKS].bytes;
}

bool
credit_take(struct credit *c, uint64_t sequence, uint64_t bytes)
{
	if (bytes > c->granted_bytes - c->received_bytes)
		return false;
	c->received_bytes += bytes;
	c->sequence = sequence;
	if (c->received_bytes - last_marked_bytes(c) >= c->window_bytes / MARKS_PER_WINDOW) {
		uint32_t slot = (c->first + c->count) % CREDIT_MARKS;

		assert(c->count < CREDIT_MARKS);
		c->marks[slot].sequence = sequence;
		c->marks[slot].bytes = c->received_bytes;
		c->count++;
	}
	return true;
}

void
credit_acked(struct credit *c, uint64_t sequence)
{
	while (c->count > 0 && c->marks[c->first].sequence <= sequence) {
		c->acked_bytes = c->marks[c->first].bytes;
		c->first = (c->first + 1) % CREDIT_MARKS;
		c->count--;
	}
	if (sequence >= c->sequence)
		c->acked_bytes = c->received_bytes;
}

uint64_t
credit_grant(struct credit *c, uint64_t window_bytes)
{
	uint64_t allowed = c->acked_bytes + window_bytes;

	assert(window_bytes <= c->window_bytes);
	if (allowed > c->granted_bytes)
		c->granted_bytes = allowed;
	return c->granted_bytes;
}
