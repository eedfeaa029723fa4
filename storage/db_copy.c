/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/db_copy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proto/common/units.h"

enum {
	COPY_BYTES = 256 * 1024,
	ASIDE_TRIES = 100, /* names tried within one second */
};

/* What SQLite keeps beside a database. Never left with another one: it would be taken for its own. */
static const char *const companions[] = {"-wal", "-journal"};

enum { COMPANIONS = sizeof companions / sizeof companions[0] };

static void
join(char *ret_path, const char *path, const char *suffix)
{
	snprintf(ret_path, DB_PATH_BYTES, "%s%s", path, suffix);
}

static int
sync_parent(struct disk *d, const char *path)
{
	char dir[DB_PATH_BYTES];
	char *slash;

	snprintf(dir, sizeof dir, "%s", path);
	slash = strrchr(dir, '/');
	if (slash == NULL)
		return disk_sync_dir(d, ".");
	slash[slash == dir ? 1 : 0] = '\0';
	return disk_sync_dir(d, dir);
}

bool
db_is_there(struct disk *d, const char *path)
{
	struct disk_file *f = NULL;
	int r = disk_open(d, path, DISK_READ, &f);

	if (r == 0)
		disk_close(d, f);
	return r != -ENOENT;
}

static int
remove_if_there(struct disk *d, const char *path)
{
	int r = disk_unlink(d, path);

	return r == -ENOENT ? 0 : r;
}

/* The database at path and its companions. */
static int
remove_database(struct disk *d, const char *path)
{
	char name[DB_PATH_BYTES];
	int r = remove_if_there(d, path);

	for (unsigned i = 0; i < COMPANIONS && r == 0; i++) {
		join(name, path, companions[i]);
		r = remove_if_there(d, name);
	}
	return r;
}

static int
sync_file(struct disk *d, const char *path)
{
	struct disk_file *f;
	int r = disk_open(d, path, DISK_WRITE, &f);

	if (r < 0)
		return r;
	r = disk_sync_now(d, f);
	disk_close(d, f);
	return r;
}

/* ---- the copy ---- */

int
db_copy_begin(struct disk *d, const char *path, char ret_tmp[DB_PATH_BYTES])
{
	join(ret_tmp, path, ".bak.tmp");
	return remove_database(d, ret_tmp);
}

int
db_copy_end(struct disk *d, const char *path)
{
	char tmp[DB_PATH_BYTES], bak[DB_PATH_BYTES];
	int r;

	join(tmp, path, ".bak.tmp");
	join(bak, path, ".bak");
	r = sync_file(d, tmp);
	if (r == 0)
		r = disk_rename(d, tmp, bak);
	return r == 0 ? sync_parent(d, path) : r;
}

/* ---- the way back ---- */

/* Whole blocks are written: the last one's excess is cut off again. */
static int
copy_bytes(struct disk *d, struct disk_file *from, struct disk_file *to, uint64_t bytes, char *buf)
{
	int r = 0;

	for (uint64_t at = 0; at < bytes && r == 0; at += COPY_BYTES) {
		struct disk_op op = {0};
		size_t n;

		memset(buf, 0, COPY_BYTES);
		disk_read(d, &op, from, buf, COPY_BYTES, at);
		r = disk_wait(d, &op);
		n = r > 0 ? ((size_t)r + DISK_ALIGN - 1) / DISK_ALIGN * DISK_ALIGN : 0;
		if (r == 0)
			r = -EIO; /* shorter than it was */
		if (r > 0)
			r = disk_write_now(d, to, buf, n, at);
	}
	if (r == 0)
		r = disk_truncate(d, to, bytes);
	return r == 0 ? disk_sync_now(d, to) : r;
}

static int
copy_file(struct disk *d, const char *from, const char *to)
{
	struct disk_file *f = NULL, *t = NULL;
	char *buf = buffer_alloc(COPY_BYTES);
	uint64_t bytes;
	int r = buf == NULL ? -ENOMEM : disk_open(d, from, DISK_READ, &f);

	if (r == 0)
		r = disk_size(d, f, &bytes);
	if (r == 0)
		r = disk_open(d, to, DISK_WRITE | DISK_CREATE, &t);
	if (r == 0)
		r = copy_bytes(d, f, t, bytes, buf);
	disk_close(d, f);
	disk_close(d, t);
	buffer_free(buf, COPY_BYTES);
	return r;
}

int
db_copy_restore(struct disk *d, const char *path, char ret_new[DB_PATH_BYTES])
{
	char bak[DB_PATH_BYTES];
	int r;

	join(bak, path, ".bak");
	join(ret_new, path, ".new");
	r = remove_database(d, ret_new);
	return r == 0 ? copy_file(d, bak, ret_new) : r;
}

/* A name for it that nothing has: path.damaged-20261122T141639Z, or with -2 and so on behind it. */
static int
name_aside(struct disk *d, const char *path, int64_t now_ns, char ret_aside[DB_PATH_BYTES])
{
	time_t seconds = (time_t)(now_ns / NS_PER_SECOND);
	struct tm tm;
	char when[32];
	int len;

	gmtime_r(&seconds, &tm);
	strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &tm);
	len = snprintf(ret_aside, DB_PATH_BYTES, "%s.damaged-%s", path, when);
	for (int n = 2; n <= ASIDE_TRIES && db_is_there(d, ret_aside); n++)
		snprintf(ret_aside + len, DB_PATH_BYTES - (size_t)len, "-%d", n);
	return db_is_there(d, ret_aside) ? -EEXIST : 0;
}

/* The database first: its log without it is nothing, but it without its log might be taken for whole. */
static int
move_aside(struct disk *d, const char *path, const char *aside)
{
	char from[DB_PATH_BYTES], to[DB_PATH_BYTES];
	int r = disk_rename(d, path, aside);

	if (r == -ENOENT)
		r = 0;
	if (r == 0)
		r = sync_parent(d, path);
	for (unsigned i = 0; i < COMPANIONS && r == 0; i++) {
		join(from, path, companions[i]);
		join(to, aside, companions[i]);
		r = disk_rename(d, from, to);
		if (r == -ENOENT)
			r = 0;
	}
	return r == 0 ? sync_parent(d, path) : r;
}

static const char *
base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

/* Closed in good order it is one file: a log that stayed holds what the file does not. */
static int
check_closed(struct disk *d, const char *new)
{
	char name[DB_PATH_BYTES];

	for (unsigned i = 0; i < COMPANIONS; i++) {
		join(name, new, companions[i]);
		if (db_is_there(d, name))
			return -EIO;
	}
	return 0;
}

int
db_copy_install(struct disk *d, const char *path, int64_t now_ns, char ret_aside[DB_PATH_BYTES])
{
	char aside[DB_PATH_BYTES], new[DB_PATH_BYTES];
	int r = name_aside(d, path, now_ns, aside);

	snprintf(ret_aside, DB_PATH_BYTES, "%s", db_is_there(d, path) ? base_name(aside) : "");
	join(new, path, ".new");
	if (r == 0)
		r = check_closed(d, new);
	if (r == 0)
		r = sync_file(d, new);
	if (r == 0)
		r = move_aside(d, path, aside);
	if (r == 0)
		r = disk_rename(d, new, path);
	return r == 0 ? sync_parent(d, path) : r;
}

int
db_copy_set_aside(struct disk *d, const char *path, int64_t now_ns)
{
	char aside[DB_PATH_BYTES], bak[DB_PATH_BYTES];
	int r;

	join(bak, path, ".bak");
	r = name_aside(d, bak, now_ns, aside);
	return r == 0 ? move_aside(d, bak, aside) : r;
}
