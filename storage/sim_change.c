/* SPDX-License-Identifier: Apache-2.0 */
/* The changes of one file: how they become visible, durable, or something in between. */
#include "storage/sim_tree.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void
grow(struct sim_content *c, uint64_t size)
{
	if (c->size < size)
		c->size = size;
}

static void
apply_change(struct sim_content *to, const struct sim_change *c)
{
	switch (c->kind) {
	case SIM_WRITE:
		for (size_t n = 0; n < c->pages_count; n++)
			sim_content_put(to, c->offset / SIM_BLOCK_BYTES + n, c->pages[n]);
		grow(to, c->offset + c->len);
		return;
	case SIM_TRUNCATE: sim_content_truncate(to, c->offset); return;
	case SIM_ALLOCATE: sim_content_allocate(to, c->offset, c->len); return;
	case SIM_PUNCH: sim_content_punch(to, c->offset, c->len); return;
	}
}

static void
change_destroy(struct sim_change *c)
{
	for (size_t n = 0; n < c->pages_count; n++)
		sim_page_unref(c->pages[n]);
	free(c);
}

void
sim_inode_drop_changes(struct sim_tree *t, struct sim_inode *i)
{
	while (i->changes != NULL) {
		struct sim_change *c = i->changes;

		i->changes = c->next;
		change_destroy(c);
		t->pending--;
	}
	i->changes_end = &i->changes;
}

static struct sim_change *
change_content(struct sim_tree *t, struct sim_inode *i, struct sim_change *c)
{
	*i->changes_end = c;
	i->changes_end = &c->next;
	c->number = ++t->changes;
	i->differs = true;
	t->pending++;
	t->used_blocks -= i->visible.blocks;
	apply_change(&i->visible, c);
	t->used_blocks += i->visible.blocks;
	return c;
}

static struct sim_change *
change_create(enum sim_change_kind kind, uint64_t offset, uint64_t len, size_t pages)
{
	struct sim_change *c = calloc(1, sizeof *c + pages * sizeof c->pages[0]);

	assert(c != NULL);
	c->kind = kind;
	c->offset = offset;
	c->len = len;
	c->pages_count = pages;
	return c;
}

static struct sim_change *
change_copy(const struct sim_change *from)
{
	struct sim_change *c = change_create(from->kind, from->offset, from->len, from->pages_count);

	c->number = from->number;
	c->completed_at = from->completed_at != 0 ? from->completed_at : 1;
	for (size_t n = 0; n < c->pages_count; n++)
		c->pages[n] = sim_page_ref(from->pages[n]);
	return c;
}

void
sim_inode_copy_changes(struct sim_inode *to, const struct sim_inode *from)
{
	for (const struct sim_change *c = from->changes; c != NULL; c = c->next) {
		*to->changes_end = change_copy(c);
		to->changes_end = &(*to->changes_end)->next;
	}
}

uint64_t
sim_tree_cost(const struct sim_inode *i, uint64_t offset, uint64_t len)
{
	uint64_t end = offset + len;

	return sim_content_new_blocks(
	    &i->visible, offset / SIM_BLOCK_BYTES, end / SIM_BLOCK_BYTES + (end % SIM_BLOCK_BYTES != 0));
}

struct sim_change *
sim_tree_write(struct sim_tree *t, struct sim_inode *i, const void *buf, size_t len, uint64_t offset)
{
	size_t pages = len / SIM_BLOCK_BYTES;
	struct sim_change *c = change_create(SIM_WRITE, offset, len, pages);

	for (size_t n = 0; n < pages; n++)
		c->pages[n] = sim_page_create((const char *)buf + n * SIM_BLOCK_BYTES);
	return change_content(t, i, c);
}

struct sim_change *
sim_tree_truncate(struct sim_tree *t, struct sim_inode *i, uint64_t size)
{
	return change_content(t, i, change_create(SIM_TRUNCATE, size, 0, 0));
}

struct sim_change *
sim_tree_allocate(struct sim_tree *t, struct sim_inode *i, uint64_t offset, uint64_t len)
{
	return change_content(t, i, change_create(SIM_ALLOCATE, offset, len, 0));
}

struct sim_change *
sim_tree_punch(struct sim_tree *t, struct sim_inode *i, uint64_t offset, uint64_t len)
{
	return change_content(t, i, change_create(SIM_PUNCH, offset, len, 0));
}

/* Take what completed by then off the pending list; durable or not. */
static void
settle_changes(struct sim_tree *t, struct sim_inode *i, uint64_t completed_by, bool durable)
{
	struct sim_change **link = &i->changes;

	while (*link != NULL) {
		struct sim_change *c = *link;

		if (c->completed_at == 0 || c->completed_at > completed_by) {
			link = &c->next;
			continue;
		}
		*link = c->next;
		if (durable)
			apply_change(&i->durable, c);
		change_destroy(c);
		t->pending--;
	}
	i->changes_end = link;
}

void
sim_tree_sync(struct sim_tree *t, struct sim_inode *i, uint64_t completed_by)
{
	settle_changes(t, i, completed_by, true);
}

void
sim_tree_forget(struct sim_tree *t, struct sim_inode *i, uint64_t completed_by)
{
	settle_changes(t, i, completed_by, false);
}

/* ---- power cut: what survives of a file ---- */

/* Which sectors of a torn block reached the platter: any, a head, or a tail, for hardware likes to
 * write in order. */
static unsigned
choose_sectors(struct sim_random *random)
{
	uint64_t dice = sim_random_next(random);
	unsigned n = (dice >> 8) % (SIM_SECTORS_PER_BLOCK + 1);

	switch (dice % 4) {
	case 0: return (1u << n) - 1;
	case 1: return 0xffu & ~((1u << n) - 1);
	default: return (dice >> 16) & 0xff;
	}
}

/* Put the chosen sectors of p at block; returns the end of the last one within the block, 0 if
 * none. */
static size_t
put_sectors(struct sim_content *to, uint64_t block, struct sim_page *p, unsigned sectors)
{
	struct sim_page *old = sim_content_page(to, block), *mixed;
	size_t end = 0;

	if (sectors == 0)
		return 0;
	mixed = sim_page_create(old != NULL ? old->bytes : NULL);
	for (size_t s = 0; s < SIM_SECTORS_PER_BLOCK; s++) {
		if ((sectors & 1u << s) == 0)
			continue;
		end = (s + 1) * SIM_SECTOR_BYTES;
		memcpy(mixed->bytes + s * SIM_SECTOR_BYTES, p->bytes + s * SIM_SECTOR_BYTES, SIM_SECTOR_BYTES);
	}
	sim_content_put(to, block, mixed);
	sim_page_unref(mixed);
	return end;
}

/* The size is metadata: it may have grown over the whole write, or only over what arrived. */
static void
apply_torn_write(struct sim_content *to, const struct sim_change *c, struct sim_random *random)
{
	uint64_t first = c->offset / SIM_BLOCK_BYTES;

	for (size_t n = 0; n < c->pages_count; n++) {
		size_t end = put_sectors(to, first + n, c->pages[n], choose_sectors(random));

		if (end > 0)
			grow(to, (first + n) * SIM_BLOCK_BYTES + end);
	}
	if (sim_random_chance(random, 4))
		grow(to, c->offset + c->len);
}

/* Its first sectors, in order. */
static void
apply_head(struct sim_content *to, const struct sim_change *c)
{
	uint64_t first = c->offset / SIM_BLOCK_BYTES, left = c->head;

	for (size_t n = 0; n < c->pages_count && left > 0; n++) {
		unsigned sectors = left < SIM_SECTORS_PER_BLOCK ? (1u << left) - 1 : 0xff;
		size_t end = put_sectors(to, first + n, c->pages[n], sectors);

		grow(to, (first + n) * SIM_BLOCK_BYTES + end);
		left -= left < SIM_SECTORS_PER_BLOCK ? left : SIM_SECTORS_PER_BLOCK;
	}
}

static void
apply_torn(struct sim_content *to, const struct sim_change *c, struct sim_random *random)
{
	if (c->kind == SIM_WRITE)
		apply_torn_write(to, c, random);
	else if (sim_random_chance(random, 4)) /* metadata is journalled: whole or not at all */
		apply_change(to, c);
}

static unsigned
count_changes(const struct sim_inode *i)
{
	unsigned n = 0;

	for (const struct sim_change *c = i->changes; c != NULL; c = c->next)
		n++;
	return n;
}

/* The first so many, the next one torn, and nothing after. */
static void
survive_in_order(struct sim_inode *i, struct sim_random *random)
{
	uint64_t whole = sim_random_below(random, count_changes(i) + 1);
	struct sim_change *c = i->changes;

	for (; c != NULL && whole > 0; c = c->next, whole--)
		apply_change(&i->durable, c);
	if (c != NULL)
		apply_torn(&i->durable, c, random);
}

/* Each for itself, with the same luck for all changes of the file. */
static void
survive_by_chance(struct sim_inode *i, struct sim_random *random)
{
	static const unsigned luck[] = {1, 4, 7};
	unsigned eighths = luck[sim_random_below(random, 3)];

	for (struct sim_change *c = i->changes; c != NULL; c = c->next) {
		if (!sim_random_chance(random, eighths))
			continue;
		if (sim_random_chance(random, 4))
			apply_change(&i->durable, c);
		else
			apply_torn(&i->durable, c, random);
	}
}

void
sim_inode_survive(struct sim_inode *i, enum sim_survival survival, struct sim_random *random)
{
	if (survival == SIM_SURVIVE_ALL || survival == SIM_SURVIVE_HEAD) {
		for (struct sim_change *c = i->changes; c != NULL; c = c->next)
			(c->head != 0 ? apply_head : apply_change)(&i->durable, c);
	} else if (survival == SIM_SURVIVE_CHOSEN) {
		for (struct sim_change *c = i->changes; c != NULL; c = c->next)
			if (c->chosen)
				apply_change(&i->durable, c);
	} else if (survival == SIM_SURVIVE_RANDOM && i->changes != NULL) {
		if (sim_random_chance(random, 4))
			survive_in_order(i, random);
		else
			survive_by_chance(i, random);
	}
}
