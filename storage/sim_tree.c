/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/sim_tree.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES_MAX = 255 };

/* ---- inodes ---- */

static struct sim_inode *
inode_create(struct sim_tree *t, bool is_dir)
{
	struct sim_inode *i = calloc(1, sizeof *i);

	assert(i != NULL);
	i->refs = 1;
	i->is_dir = is_dir;
	i->changes_end = &i->changes;
	i->link = &t->inodes;
	i->next = t->inodes;
	if (i->next != NULL)
		i->next->link = &i->next;
	t->inodes = i;
	return i;
}

static void
drop_visible(struct sim_tree *t, struct sim_inode *i)
{
	t->used_blocks -= i->visible.blocks;
	sim_content_fini(&i->visible);
	i->differs = true;
}

static void names_clear(struct sim_tree *t, struct sim_names *n, bool visible);

struct sim_inode *
sim_inode_ref(struct sim_inode *i)
{
	i->refs++;
	return i;
}

void
sim_inode_unref(struct sim_tree *t, struct sim_inode *i)
{
	assert(i->refs > 0);
	if (--i->refs > 0)
		return;
	names_clear(t, &i->visible_names, true);
	names_clear(t, &i->durable_names, false);
	sim_inode_drop_changes(t, i);
	drop_visible(t, i);
	sim_content_fini(&i->durable);
	*i->link = i->next;
	if (i->next != NULL)
		i->next->link = i->link;
	free(i);
}

struct sim_inode *
sim_inode_use(struct sim_inode *i)
{
	i->users++;
	return sim_inode_ref(i);
}

void
sim_inode_unuse(struct sim_tree *t, struct sim_inode *i)
{
	assert(i->users > 0);
	if (--i->users == 0)
		drop_visible(t, i);
	sim_inode_unref(t, i);
}

/* ---- the names of one directory. A visible name is a user of its inode, a durable one only a
 * reference ---- */

static size_t
names_position(const struct sim_names *n, const char *name, bool *ret_found)
{
	size_t low = 0, high = n->count;

	*ret_found = false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(n->entries[mid].name, name);

		if (order == 0)
			*ret_found = true;
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct sim_inode *
names_find(const struct sim_names *n, const char *name)
{
	bool found;
	size_t at = names_position(n, name, &found);

	return found ? n->entries[at].inode : NULL;
}

static void
let_go(struct sim_tree *t, struct sim_inode *i, bool visible)
{
	if (visible)
		sim_inode_unuse(t, i);
	else
		sim_inode_unref(t, i);
}

static void
names_remove(struct sim_tree *t, struct sim_names *n, const char *name, bool visible)
{
	bool found;
	size_t at = names_position(n, name, &found);
	struct sim_inode *i;

	if (!found)
		return;
	i = n->entries[at].inode;
	free(n->entries[at].name);
	n->count--;
	memmove(&n->entries[at], &n->entries[at + 1], (n->count - at) * sizeof *n->entries);
	let_go(t, i, visible);
}

static void
names_put(struct sim_tree *t, struct sim_names *n, const char *name, struct sim_inode *i, bool visible)
{
	size_t at;
	bool found;

	(void)(visible ? sim_inode_use(i) : sim_inode_ref(i));
	names_remove(t, n, name, visible);
	at = names_position(n, name, &found);
	if (n->count == n->capacity) {
		n->capacity = n->capacity > 0 ? 2 * n->capacity : 4;
		n->entries = realloc(n->entries, n->capacity * sizeof *n->entries);
		assert(n->entries != NULL);
	}
	memmove(&n->entries[at + 1], &n->entries[at], (n->count - at) * sizeof *n->entries);
	n->entries[at] = (struct sim_entry){strdup(name), i};
	assert(n->entries[at].name != NULL);
	n->count++;
}

static void
names_clear(struct sim_tree *t, struct sim_names *n, bool visible)
{
	for (size_t k = 0; k < n->count; k++) {
		free(n->entries[k].name);
		let_go(t, n->entries[k].inode, visible);
	}
	free(n->entries);
	*n = (struct sim_names){0};
}

/* ---- paths ---- */

/* Cut the next component off *path into name. 1, 0 at the end of the path, or -errno. */
static int
next_component(const char **path, char *name)
{
	for (;;) {
		size_t len;

		*path += strspn(*path, "/");
		len = strcspn(*path, "/");
		if (len == 0)
			return 0;
		if (len > NAME_BYTES_MAX)
			return -ENAMETOOLONG;
		memcpy(name, *path, len);
		name[len] = '\0';
		*path += len;
		if (strcmp(name, "..") == 0)
			return -EINVAL; /* nothing here needs it, and it hides mistakes */
		if (strcmp(name, ".") != 0)
			return 1;
	}
}

/* The directory that holds the last component, and that component: "" for the root itself. */
static int
find_parent(struct sim_tree *t, const char *path, struct sim_inode **ret_dir, char *name)
{
	struct sim_inode *dir = t->root;
	char next[NAME_BYTES_MAX + 1];
	int r = next_component(&path, name);

	if (r == 0)
		name[0] = '\0';
	while (r > 0) {
		r = next_component(&path, next);
		if (r <= 0)
			break;
		dir = names_find(&dir->visible_names, name);
		if (dir == NULL)
			return -ENOENT;
		if (!dir->is_dir)
			return -ENOTDIR;
		strcpy(name, next);
	}
	*ret_dir = dir;
	return r;
}

int
sim_tree_find(struct sim_tree *t, const char *path, struct sim_inode **ret_inode)
{
	char name[NAME_BYTES_MAX + 1];
	struct sim_inode *dir, *i;
	int r = find_parent(t, path, &dir, name);

	if (r < 0)
		return r;
	i = name[0] == '\0' ? dir : names_find(&dir->visible_names, name);
	if (i == NULL)
		return -ENOENT;
	*ret_inode = i;
	return 0;
}

static int
find_dir(struct sim_tree *t, const char *path, struct sim_inode **ret_dir)
{
	int r = sim_tree_find(t, path, ret_dir);

	if (r < 0)
		return r;
	return (*ret_dir)->is_dir ? 0 : -ENOTDIR;
}

static bool
is_inside(const struct sim_inode *dir, const struct sim_inode *wanted, bool visible)
{
	const struct sim_names *n = visible ? &dir->visible_names : &dir->durable_names;

	if (dir == wanted)
		return true;
	for (size_t k = 0; k < n->count; k++) {
		if (n->entries[k].inode->is_dir && is_inside(n->entries[k].inode, wanted, visible))
			return true;
	}
	return false;
}

/* ---- changes of names ---- */

static char *
copy_name(const char *name)
{
	char *s = name != NULL ? strdup(name) : NULL;

	assert(name == NULL || s != NULL);
	return s;
}

static void
apply_name_change(struct sim_tree *t, const struct sim_name_change *c, bool visible)
{
	if (c->to != NULL)
		names_put(t, visible ? &c->to_dir->visible_names : &c->to_dir->durable_names, c->to, c->inode, visible);
	if (c->from != NULL)
		names_remove(t, visible ? &c->from_dir->visible_names : &c->from_dir->durable_names, c->from, visible);
}

/* Make the change visible and pending. Directories may be NULL where the name is. */
static void
change_name(struct sim_tree *t, struct sim_inode *i, struct sim_inode *from_dir, const char *from,
    struct sim_inode *to_dir, const char *to)
{
	struct sim_name_change *c = calloc(1, sizeof *c);

	assert(c != NULL);
	c->inode = sim_inode_ref(i);
	c->from_dir = from_dir != NULL ? sim_inode_ref(from_dir) : NULL;
	c->to_dir = to_dir != NULL ? sim_inode_ref(to_dir) : NULL;
	c->from = copy_name(from);
	c->to = copy_name(to);
	c->number = ++t->changes;
	*t->name_changes_end = c;
	t->name_changes_end = &c->next;
	t->pending++;
	apply_name_change(t, c, true);
}

static void
name_change_destroy(struct sim_tree *t, struct sim_name_change *c)
{
	if (c->from_dir != NULL)
		sim_inode_unref(t, c->from_dir);
	if (c->to_dir != NULL)
		sim_inode_unref(t, c->to_dir);
	sim_inode_unref(t, c->inode);
	free(c->from);
	free(c->to);
	free(c);
	t->pending--;
}

/* Take chosen changes off the list, oldest first, and make them durable. */
static void
settle_chosen(struct sim_tree *t)
{
	struct sim_name_change **link = &t->name_changes;

	while (*link != NULL) {
		struct sim_name_change *c = *link;

		if (!c->chosen) {
			link = &c->next;
			continue;
		}
		*link = c->next;
		apply_name_change(t, c, false);
		name_change_destroy(t, c);
	}
	t->name_changes_end = link;
}

static bool
share_name(const struct sim_name_change *a, const struct sim_inode *dir, const char *name)
{
	if (name == NULL)
		return false;
	if (a->from_dir == dir && a->from != NULL && strcmp(a->from, name) == 0)
		return true;
	return a->to_dir == dir && a->to != NULL && strcmp(a->to, name) == 0;
}

static bool
share_names(const struct sim_name_change *a, const struct sim_name_change *b)
{
	return share_name(a, b->from_dir, b->from) || share_name(a, b->to_dir, b->to);
}

/* Choose what dir's sync makes durable: its own changes and, for a rename from elsewhere makes no
 * sense without the creation there, every older change of a name they touch. */
static void
choose_for_dir(struct sim_tree *t, const struct sim_inode *dir)
{
	bool again = true;

	for (struct sim_name_change *c = t->name_changes; c != NULL; c = c->next)
		c->chosen = c->from_dir == dir || c->to_dir == dir;
	while (again) {
		again = false;
		for (struct sim_name_change *older = t->name_changes; older != NULL; older = older->next) {
			for (struct sim_name_change *c = older->next; c != NULL && !older->chosen; c = c->next) {
				if (c->chosen && share_names(older, c))
					older->chosen = again = true;
			}
		}
	}
}

int
sim_tree_sync_dir(struct sim_tree *t, const char *path)
{
	struct sim_inode *dir;
	int r = find_dir(t, path, &dir);

	if (r < 0)
		return r;
	choose_for_dir(t, dir);
	settle_chosen(t);
	return 0;
}

int
sim_tree_create(struct sim_tree *t, const char *path, bool is_dir, struct sim_inode **ret_inode)
{
	char name[NAME_BYTES_MAX + 1];
	struct sim_inode *dir, *i;
	int r = find_parent(t, path, &dir, name);

	if (r < 0)
		return r;
	if (name[0] == '\0' || names_find(&dir->visible_names, name) != NULL)
		return -EEXIST;
	i = inode_create(t, is_dir);
	change_name(t, i, NULL, NULL, dir, name);
	*ret_inode = i;
	sim_inode_unref(t, i); /* the name holds it */
	return 0;
}

/* May `i` take the place of `old`? */
static int
check_replace(const struct sim_inode *i, const struct sim_inode *old)
{
	if (old == NULL)
		return 0;
	if (old->is_dir && !i->is_dir)
		return -EISDIR;
	if (!old->is_dir && i->is_dir)
		return -ENOTDIR;
	return old->visible_names.count > 0 ? -ENOTEMPTY : 0;
}

int
sim_tree_rename(struct sim_tree *t, const char *from, const char *to)
{
	char from_name[NAME_BYTES_MAX + 1], to_name[NAME_BYTES_MAX + 1];
	struct sim_inode *from_dir, *to_dir, *i, *old;
	int r = find_parent(t, from, &from_dir, from_name);

	if (r == 0)
		r = find_parent(t, to, &to_dir, to_name);
	if (r < 0)
		return r;
	if (from_name[0] == '\0' || to_name[0] == '\0')
		return -EBUSY; /* the root */
	i = names_find(&from_dir->visible_names, from_name);
	old = names_find(&to_dir->visible_names, to_name);
	if (i == NULL)
		return -ENOENT;
	if (i == old)
		return 0;
	if (i->is_dir && is_inside(i, to_dir, true))
		return -EINVAL;
	r = check_replace(i, old);
	if (r == 0)
		change_name(t, i, from_dir, from_name, to_dir, to_name);
	return r;
}

int
sim_tree_unlink(struct sim_tree *t, const char *path)
{
	char name[NAME_BYTES_MAX + 1];
	struct sim_inode *dir, *i;
	int r = find_parent(t, path, &dir, name);

	if (r < 0)
		return r;
	i = name[0] == '\0' ? dir : names_find(&dir->visible_names, name);
	if (i == NULL)
		return -ENOENT;
	if (i->is_dir)
		return -EISDIR;
	change_name(t, i, dir, name, NULL, NULL);
	return 0;
}

int
sim_tree_rmdir(struct sim_tree *t, const char *path)
{
	char name[NAME_BYTES_MAX + 1];
	struct sim_inode *dir, *i;
	int r = find_parent(t, path, &dir, name);

	if (r < 0)
		return r;
	if (name[0] == '\0')
		return -EBUSY; /* the root */
	i = names_find(&dir->visible_names, name);
	if (i == NULL)
		return -ENOENT;
	if (!i->is_dir)
		return -ENOTDIR;
	if (i->visible_names.count > 0)
		return -ENOTEMPTY;
	change_name(t, i, dir, name, NULL, NULL);
	return 0;
}

/* each() may create and unlink in the directory: it is given copies. */
int
sim_tree_list(struct sim_tree *t, const char *path, void (*each)(void *arg, const char *name), void *arg)
{
	struct sim_inode *dir;
	int r = find_dir(t, path, &dir);
	size_t count = r == 0 ? dir->visible_names.count : 0;
	char **names = calloc(count + 1, sizeof *names);

	assert(names != NULL);
	for (size_t k = 0; k < count; k++)
		names[k] = copy_name(dir->visible_names.entries[k].name);
	for (size_t k = 0; k < count; k++) {
		each(arg, names[k]);
		free(names[k]);
	}
	free(names);
	return r;
}

/* ---- power cut: what survives of the names ---- */

/* Would the durable tree still make sense? It would not if an older change of these names was lost.
 */
static bool
is_applicable(const struct sim_name_change *c)
{
	if (c->from != NULL && names_find(&c->from_dir->durable_names, c->from) != c->inode)
		return false;
	if (c->from == NULL && names_find(&c->to_dir->durable_names, c->to) != NULL)
		return false;
	return c->from == NULL || c->to == NULL || !c->inode->is_dir || !is_inside(c->inode, c->to_dir, false);
}

static bool
is_over(const struct sim_inode *dir)
{
	return dir != NULL && dir->survives_in_order && dir->survival_over;
}

static void
choose_survivor(struct sim_name_change *c, unsigned eighths, struct sim_random *random)
{
	bool lucky = sim_random_chance(random, eighths);

	c->chosen = lucky && !is_over(c->from_dir) && !is_over(c->to_dir) && is_applicable(c);
	if (c->chosen)
		return;
	if (c->from_dir != NULL)
		c->from_dir->survival_over = true;
	if (c->to_dir != NULL)
		c->to_dir->survival_over = true;
}

static void
survive_names(struct sim_tree *t, enum sim_survival survival, struct sim_random *random)
{
	unsigned eighths = (unsigned)sim_random_below(random, 8) + 1;

	for (struct sim_inode *i = t->inodes; i != NULL; i = i->next) {
		i->survives_in_order = i->is_dir && sim_random_chance(random, 4);
		i->survival_over = false;
	}
	while (t->name_changes != NULL) { /* one by one: each is judged by what the earlier ones left */
		struct sim_name_change *c = t->name_changes;

		if (survival == SIM_SURVIVE_RANDOM)
			choose_survivor(c, eighths, random);
		if (survival == SIM_SURVIVE_CHOSEN)
			c->chosen &= is_applicable(c);
		if (survival == SIM_SURVIVE_ALL || survival == SIM_SURVIVE_HEAD ||
		    (survival != SIM_SURVIVE_NONE && c->chosen))
			apply_name_change(t, c, false);
		t->name_changes = c->next;
		name_change_destroy(t, c);
	}
	t->name_changes_end = &t->name_changes;
}

static void
show_durable_names(struct sim_tree *t, struct sim_inode *dir)
{
	names_clear(t, &dir->visible_names, true);
	for (size_t k = 0; k < dir->durable_names.count; k++)
		names_put(t, &dir->visible_names, dir->durable_names.entries[k].name,
		    dir->durable_names.entries[k].inode, true);
}

static void
show_durable(struct sim_tree *t, struct sim_inode *i)
{
	if (i->is_dir)
		show_durable_names(t, i);
	if (!i->differs)
		return;
	t->used_blocks -= i->visible.blocks;
	sim_content_copy(&i->visible, &i->durable);
	t->used_blocks += i->visible.blocks;
	i->differs = false;
}

void
sim_tree_crash(struct sim_tree *t, enum sim_survival survival, struct sim_random *random)
{
	/* Losing a name may free an inode, even the next on the list: hold them all meanwhile. */
	for (struct sim_inode *i = t->inodes; i != NULL; i = i->next)
		(void)sim_inode_use(i);
	for (struct sim_inode *i = t->inodes; i != NULL; i = i->next) {
		sim_inode_survive(i, survival, random);
		sim_inode_drop_changes(t, i);
	}
	survive_names(t, survival, random);
	for (struct sim_inode *i = t->inodes; i != NULL; i = i->next)
		show_durable(t, i);
	for (struct sim_inode *i = t->inodes, *next; i != NULL; i = next) {
		next = i->next;
		sim_inode_unuse(t, i);
	}
}

/* ---- what is pending, in the order it was made ---- */

static int
by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

size_t
sim_tree_list_pending(const struct sim_tree *t, uint64_t *ret_numbers, size_t max)
{
	size_t n = 0;

	for (const struct sim_inode *i = t->inodes; i != NULL; i = i->next)
		for (const struct sim_change *c = i->changes; c != NULL; c = c->next, n++)
			if (n < max)
				ret_numbers[n] = c->number;
	for (const struct sim_name_change *c = t->name_changes; c != NULL; c = c->next, n++)
		if (n < max)
			ret_numbers[n] = c->number;
	if (n > 1)
		qsort(ret_numbers, n < max ? n : max, sizeof *ret_numbers, by_number);
	return n;
}

static bool
is_in_set(uint64_t number, uint64_t set, const uint64_t *numbers, size_t count)
{
	for (size_t n = 0; n < count; n++)
		if (numbers[n] == number)
			return (set >> n & 1) != 0;
	return false;
}

void
sim_tree_choose(struct sim_tree *t, uint64_t set)
{
	uint64_t numbers[64];
	size_t count = sim_tree_list_pending(t, numbers, 64);

	assert(count <= 64);
	for (struct sim_inode *i = t->inodes; i != NULL; i = i->next)
		for (struct sim_change *c = i->changes; c != NULL; c = c->next)
			c->chosen = is_in_set(c->number, set, numbers, count);
	for (struct sim_name_change *c = t->name_changes; c != NULL; c = c->next)
		c->chosen = is_in_set(c->number, set, numbers, count);
}

struct sim_change *
sim_tree_newest_write(struct sim_tree *t)
{
	struct sim_change *newest = NULL;

	for (struct sim_inode *i = t->inodes; i != NULL; i = i->next)
		for (struct sim_change *c = i->changes; c != NULL; c = c->next)
			if (newest == NULL || c->number > newest->number)
				newest = c;
	for (struct sim_name_change *c = t->name_changes; c != NULL && newest != NULL; c = c->next)
		if (c->number > newest->number)
			newest = NULL;
	return newest != NULL && newest->kind == SIM_WRITE ? newest : NULL;
}

/* ---- telling trees apart ---- */

static uint64_t
hash_name(uint64_t h, const char *name)
{
	for (; *name != '\0'; name++)
		h = (h ^ (unsigned char)*name) * 0x100000001b3u;
	return h;
}

static uint64_t
hash_dir(uint64_t h, const struct sim_inode *dir)
{
	for (size_t k = 0; k < dir->visible_names.count; k++) {
		const struct sim_entry *e = &dir->visible_names.entries[k];

		h = hash_name(h * 31 + e->inode->is_dir, e->name);
		h = e->inode->is_dir ? hash_dir(h, e->inode) : sim_content_hash(&e->inode->visible, h);
	}
	return h;
}

uint64_t
sim_tree_hash(const struct sim_tree *t)
{
	return hash_dir(0xcbf29ce484222325u, t->root);
}

/* ---- copying ---- */

static void
copy_names(struct sim_tree *t, struct sim_names *to, const struct sim_names *from, bool visible)
{
	for (size_t k = 0; k < from->count; k++)
		names_put(t, to, from->entries[k].name, from->entries[k].inode->copy, visible);
}

static void
copy_content(struct sim_tree *t, struct sim_inode *from)
{
	struct sim_inode *i = from->copy;

	if (i->users > 0) { /* else handles alone kept it */
		sim_content_copy(&i->visible, &from->visible);
		t->used_blocks += i->visible.blocks;
	}
	sim_content_copy(&i->durable, &from->durable);
	i->differs = from->differs || i->users == 0;
	sim_inode_copy_changes(i, from);
}

static void
copy_name_change(struct sim_tree *t, const struct sim_name_change *from)
{
	struct sim_name_change *c = calloc(1, sizeof *c);

	assert(c != NULL);
	*c = *from;
	c->next = NULL;
	c->inode = sim_inode_ref(from->inode->copy);
	c->from_dir = from->from_dir != NULL ? sim_inode_ref(from->from_dir->copy) : NULL;
	c->to_dir = from->to_dir != NULL ? sim_inode_ref(from->to_dir->copy) : NULL;
	c->from = copy_name(from->from);
	c->to = copy_name(from->to);
	*t->name_changes_end = c;
	t->name_changes_end = &c->next;
}

void
sim_tree_copy(struct sim_tree *to, struct sim_tree *from)
{
	*to = (struct sim_tree){.name_changes_end = &to->name_changes, .changes = from->changes};
	for (struct sim_inode *i = from->inodes; i != NULL; i = i->next)
		i->copy = inode_create(to, i->is_dir);
	to->root = sim_inode_use(from->root->copy);
	for (const struct sim_name_change *c = from->name_changes; c != NULL; c = c->next)
		copy_name_change(to, c);
	for (struct sim_inode *i = from->inodes; i != NULL; i = i->next) {
		copy_names(to, &i->copy->visible_names, &i->visible_names, true);
		copy_names(to, &i->copy->durable_names, &i->durable_names, false);
	}
	for (struct sim_inode *i = from->inodes; i != NULL; i = i->next)
		copy_content(to, i);
	to->pending = from->pending;
	for (struct sim_inode *i = from->inodes; i != NULL; i = i->next) {
		sim_inode_unref(to, i->copy); /* names and changes hold it now; nobody, what only handles had */
		i->copy = NULL;
	}
}

/* ---- life ---- */

void
sim_tree_init(struct sim_tree *t)
{
	*t = (struct sim_tree){.name_changes_end = &t->name_changes};
	t->root = inode_create(t, true);
	(void)sim_inode_use(t->root);
	sim_inode_unref(t, t->root);
}

void
sim_tree_fini(struct sim_tree *t)
{
	while (t->name_changes != NULL) {
		struct sim_name_change *c = t->name_changes;

		t->name_changes = c->next;
		name_change_destroy(t, c);
	}
	sim_inode_unuse(t, t->root);
	assert(t->inodes == NULL);
	assert(t->pending == 0);
	assert(t->used_blocks == 0);
}
