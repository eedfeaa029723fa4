/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/discard.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/plant.h"

#define PREFIX "deleted-"

enum { NAMES_MAX = 64, NAME_BYTES_MAX = 128, PATH_BYTES_MAX = 768 };

/* What one call may do: 12 ms on ext4. Others wait for this thread, and syncs for the file system. */
#define BYTES_AT_ONCE (UINT64_C(64) << 20)

static int
join(char *ret_path, const char *dir, const char *prefix, const char *name)
{
	int n = snprintf(ret_path, PATH_BYTES_MAX, "%s/%s%s", dir, prefix, name);

	return n < PATH_BYTES_MAX ? 0 : -ENAMETOOLONG;
}

/* ---- names in a folder ---- */

struct names {
	const char *prefix; /* those that begin with it */
	size_t count;
	char list[NAMES_MAX][NAME_BYTES_MAX];
};

static void
each_name(void *arg, const char *name)
{
	struct names *n = arg;

	if (n->count < NAMES_MAX && strlen(name) < NAME_BYTES_MAX && strncmp(name, n->prefix, strlen(n->prefix)) == 0)
		strcpy(n->list[n->count++], name);
}

/* The first names of a folder. Gives. */
static int
list_some(struct disk *d, const char *path, const char *prefix, struct names **ret_names)
{
	struct names *n = calloc(1, sizeof *n);
	int r;

	if (n == NULL)
		return -ENOMEM;
	n->prefix = prefix;
	r = disk_list(d, path, each_name, n);
	if (r < 0) {
		free(n);
		return r;
	}
	*ret_names = n;
	return 0;
}

/* ---- becoming rubbish ---- */

static bool
is_there(struct disk *d, const char *path)
{
	struct names *n;

	if (list_some(d, path, "", &n) < 0)
		return false;
	free(n);
	return true;
}

/* The sync is repeated too: a rename that was cut off may be visible and not durable. */
int
discard_folder(struct disk *d, const char *parent, const char *name)
{
	char from[PATH_BYTES_MAX], to[PATH_BYTES_MAX];
	int r = join(from, parent, "", name);

	if (r == 0)
		r = join(to, parent, PREFIX, name);
	if (r == 0)
		r = disk_rename(d, from, to);
	if (r == -ENOENT && is_there(d, to))
		r = 0;
	return r < 0 || PLANTED(63) ? r : disk_sync_dir(d, parent);
}

int
discard_file(struct disk *d, const char *parent, const char *dir, const char *name)
{
	char from[PATH_BYTES_MAX], to[PATH_BYTES_MAX];
	int r = join(from, dir, "", name);

	if (r == 0)
		r = join(to, parent, PREFIX, name);
	if (r == 0)
		r = disk_rename(d, from, to);
	return r == -ENOENT ? 0 : r;
}

/* ---- going ---- */

static int discard_in(struct disk *d, const char *dir, uint64_t *ret_bytes);

/* A large file is shortened from its end. 1: some of it is left. */
static int
shorten_file(struct disk *d, const char *path, uint64_t *ret_bytes)
{
	struct disk_file *f;
	uint64_t size = 0;
	int r = disk_open(d, path, DISK_WRITE, &f);

	if (r < 0)
		return r;
	r = disk_size(d, f, &size);
	if (r == 0 && size > BYTES_AT_ONCE)
		r = disk_truncate(d, f, (size - BYTES_AT_ONCE) / DISK_ALIGN * DISK_ALIGN);
	disk_close(d, f);
	if (r < 0)
		return r;
	*ret_bytes += size < BYTES_AT_ONCE ? size : BYTES_AT_ONCE;
	return size > BYTES_AT_ONCE ? 1 : disk_unlink(d, path);
}

/* What it holds first; the names' going is made durable before its own. */
static int
discard_dir(struct disk *d, const char *path, uint64_t *ret_bytes)
{
	int r = discard_in(d, path, ret_bytes);

	if (r != 0)
		return r;
	r = disk_sync_dir(d, path);
	return r < 0 ? r : disk_rmdir(d, path);
}

static int
discard_entry(struct disk *d, const char *path, uint64_t *ret_bytes)
{
	int r = shorten_file(d, path, ret_bytes);

	return r == -EISDIR ? discard_dir(d, path, ret_bytes) : r;
}

/* 1: something is left in dir. */
static int
discard_in(struct disk *d, const char *dir, uint64_t *ret_bytes)
{
	char path[PATH_BYTES_MAX];
	struct names *n;
	int r = list_some(d, dir, "", &n);
	bool more = false;

	if (r < 0)
		return r;
	for (size_t i = 0; i < n->count && r == 0 && !more; i++) {
		r = join(path, dir, "", n->list[i]);
		if (r == 0)
			r = discard_entry(d, path, ret_bytes);
		more = *ret_bytes >= BYTES_AT_ONCE;
	}
	more |= n->count == NAMES_MAX;
	free(n);
	return r == 0 && more ? 1 : r;
}

int
discard_some(struct disk *d, const char *parent, uint64_t *ret_bytes)
{
	char path[PATH_BYTES_MAX];
	struct names *n;
	int r = list_some(d, parent, PREFIX, &n);

	*ret_bytes = 0;
	if (r < 0)
		return r;
	if (n->count > 0) {
		r = join(path, parent, "", n->list[0]);
		if (r == 0)
			r = discard_entry(d, path, ret_bytes);
		if (r == 0)
			r = 1; /* this one is gone; there may be others */
	}
	free(n);
	return r;
}

/* ---- measuring ---- */

struct measuring {
	struct disk *d;
	const char *dir, *prefix;
	uint64_t bytes;
	int status;
};

static void
measure_entry(void *arg, const char *name)
{
	struct measuring *m = arg;
	char path[PATH_BYTES_MAX];
	struct disk_file *f;
	uint64_t size = 0;
	int r;

	if (m->status < 0 || strncmp(name, m->prefix, strlen(m->prefix)) != 0)
		return;
	m->status = join(path, m->dir, "", name);
	if (m->status < 0)
		return;
	r = disk_open(m->d, path, DISK_READ, &f);
	if (r == 0) {
		m->status = disk_size(m->d, f, &size);
		disk_close(m->d, f);
		m->bytes += size;
	} else {
		struct measuring inner = {.d = m->d, .dir = path, .prefix = ""};

		r = disk_list(m->d, path, measure_entry, &inner);
		m->status = r < 0 ? r : inner.status;
		m->bytes += inner.bytes;
	}
}

int
discard_size(struct disk *d, const char *parent, uint64_t *ret_bytes)
{
	struct measuring m = {.d = d, .dir = parent, .prefix = PREFIX};
	int r = disk_list(d, parent, measure_entry, &m);

	if (r == 0)
		r = m.status;
	if (r == 0)
		*ret_bytes = m.bytes;
	return r;
}
