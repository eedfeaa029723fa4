/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 20 };

/* The database, and what of it is only in its log: a daemon that was killed leaves one. The others SQLite may make. */
static const char *const names[] = {"catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.db-journal"};

enum { COPIED = 2, NAMES = sizeof names / sizeof names[0] };

static int
copy_bytes(int from, int to)
{
	char *buf = malloc(COPY_BYTES);
	ssize_t n = buf == NULL ? -1 : 0;

	while (buf != NULL && (n = read(from, buf, COPY_BYTES)) > 0)
		if (write(to, buf, (size_t)n) != n) {
			n = -1;
			errno = errno != 0 ? errno : ENOSPC;
			break;
		}
	free(buf);
	return n < 0 ? -errno : 0;
}

static int
copy_file(const char *from_dir, const char *to_dir, const char *name)
{
	char path[PATH_MAX];
	int from, to, r;

	snprintf(path, sizeof path, "%s/%s", from_dir, name);
	from = open(path, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		return -errno;
	snprintf(path, sizeof path, "%s/%s", to_dir, name);
	to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	errno = to < 0 ? errno : 0;
	r = to < 0 ? -errno : copy_bytes(from, to);
	close(from);
	if (to >= 0)
		close(to);
	return r;
}

static void
remove_copy(const char *dir)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < NAMES; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		(void)unlink(path);
	}
	(void)rmdir(dir);
}

static int
read_copy(const char *dir, struct pit **ret_pits, size_t *ret_count, struct hf_error *err)
{
	char path[PATH_MAX];
	struct catalog *c;
	int r;

	snprintf(path, sizeof path, "%s/%s", dir, names[0]);
	r = catalog_open(path, NULL, false, NULL, &c, err);
	if (r < 0)
		return r;
	r = catalog_list_pits(c, ret_pits, ret_count, err);
	catalog_close(c);
	return r;
}

int
kept_read(const char *source_dir, struct pit **ret_pits, size_t *ret_count, struct hf_error *err)
{
	const char *base = getenv("TMPDIR");
	char dir[256];
	int r = 0;

	snprintf(dir, sizeof dir, "%s/holdfastctl-XXXXXX", base != NULL && base[0] == '/' ? base : "/tmp");
	if (mkdtemp(dir) == NULL)
		return hf_error_set(err, -errno, "%s", dir);
	for (size_t i = 0; i < COPIED && r == 0; i++) {
		r = copy_file(source_dir, dir, names[i]);
		if (r == -ENOENT && i > 0)
			r = 0; /* all of it is in the database */
	}
	if (r < 0)
		(void)hf_error_set(err, r, "%s/%s", source_dir, names[0]);
	else
		r = read_copy(dir, ret_pits, ret_count, err);
	remove_copy(dir);
	return r;
}
