/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/new_disks.h"

#include <assert.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"

#define LOOK_EVERY_NS (3 * NS_PER_SECOND)

struct new_disks {
	const char *sys_root;
	const struct state *state;
	const char *also;
	int64_t next_ns;                  /* monotonic: when to look again */
	struct disk_info *disks;          /* DISKS_MAX: as listed last, */
	int count;                        /* so many */
	char told[DISKS_MAX][NAME_BYTES]; /* and are there */
	size_t told_count;
};

/* ---- what was there ---- */

static void
know(struct state *st, const struct disk_info *disks, int count)
{
	for (int i = 0; i < count; i++)
		if (disks[i].identity[0] != '\0' && st->known_count < STATE_KNOWN_MAX)
			snprintf(st->known[st->known_count++], NAME_BYTES, "%s", disks[i].identity);
	st->knows_disks = true;
}

int
new_disks_create(
    const char *sys_root, struct state *st, const char *also, struct new_disks **ret_new_disks, struct hf_error *err)
{
	struct new_disks *n = calloc(1, sizeof *n);

	if (n == NULL || (n->disks = calloc(DISKS_MAX, sizeof *n->disks)) == NULL) {
		free(n);
		return hf_error_set(err, -ENOMEM, "list disks");
	}
	n->sys_root = sys_root;
	n->state = st;
	n->also = also;
	n->count = disks_list(sys_root, n->disks, DISKS_MAX, NULL);
	if (!st->knows_disks && n->count >= 0)
		know(st, n->disks, n->count);
	n->count = n->count < 0 ? 0 : n->count;
	*ret_new_disks = n;
	return 0;
}

void
new_disks_destroy(struct new_disks *n)
{
	if (n == NULL)
		return;
	free(n->disks);
	free(n);
}

/* ---- what is new ---- */

static bool
is_volume(const struct state *st, const char *identity)
{
	for (size_t i = 0; i < st->volume_count; i++)
		if (strcmp(st->volumes[i].identity, identity) == 0)
			return true;
	return false;
}

static bool
is_listed(const char (*list)[NAME_BYTES], size_t count, const char *identity)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(list[i], identity) == 0)
			return true;
	return false;
}

static bool
is_new(const struct new_disks *n, bool untold, const struct disk_info *d)
{
	bool wanted = d->by_default || (n->also != NULL && fnmatch(n->also, d->path, 0) == 0);

	return n->state->knows_disks && wanted && d->identity[0] != '\0' && d->size_bytes > 0 &&
	       !is_volume(n->state, d->identity) && !is_listed(n->state->known, n->state->known_count, d->identity) &&
	       !(untold && is_listed(n->told, n->told_count, d->identity));
}

bool
new_disks_is_there(const struct new_disks *n, const char *identity)
{
	for (int i = 0; i < n->count; i++)
		if (strcmp(n->disks[i].identity, identity) == 0)
			return true;
	return false;
}

/* What is there, and of whom was told; if that cannot be said, it is what it was. */
static void
look(struct new_disks *n)
{
	int count = disks_list(n->sys_root, n->disks, DISKS_MAX, NULL);

	if (count < 0)
		return;
	n->count = count;
	for (size_t i = 0; i < n->told_count; i++)
		if (!new_disks_is_there(n, n->told[i]))
			memmove(n->told[i--], n->told[--n->told_count], NAME_BYTES);
}

bool
new_disks_find(struct new_disks *n, bool untold, struct disk_info *ret_disk)
{
	int64_t now_ns = clock_monotonic_ns();

	if (now_ns < n->next_ns)
		return false;
	look(n);
	for (int i = 0; i < n->count; i++)
		if (is_new(n, untold, &n->disks[i])) {
			*ret_disk = n->disks[i];
			return true;
		}
	n->next_ns = now_ns + LOOK_EVERY_NS;
	return false;
}

void
new_disks_told(struct new_disks *n, const struct disk_info *disk)
{
	assert(n->told_count < DISKS_MAX); /* it is one that was listed, and was not told of */
	snprintf(n->told[n->told_count++], NAME_BYTES, "%s", disk->identity);
}

/* ---- what it is called ---- */

static bool
is_taken(const struct state *st, const char *name)
{
	for (size_t i = 0; i < st->volume_count; i++)
		if (strcmp(st->volumes[i].name, name) == 0)
			return true;
	return false;
}

void
new_disks_name(const struct state *st, const struct disk_info *disk, char *ret_name)
{
	const char *slash = strrchr(disk->path, '/');
	const char *base = slash != NULL ? slash + 1 : disk->path;

	snprintf(ret_name, NAME_BYTES, "%.100s", base);
	for (unsigned i = 2; is_taken(st, ret_name); i++)
		snprintf(ret_name, NAME_BYTES, "%.100s-%u", base, i);
}
