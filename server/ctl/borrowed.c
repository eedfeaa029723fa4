/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/borrowed.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 20 };

/* The database, and what of it is only in its log: a daemon that was killed leaves one. The others SQLite may make. */
static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};

enum { COPIED = 2, SUFFIXES = sizeof suffixes / sizeof suffixes[0] };

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
copy_file(const char *from_dir, const char *to_dir, const char *name, const char *suffix)
{
	char path[PATH_MAX];
	int from, to, r;

	snprintf(path, sizeof path, "%s/%s%s", from_dir, name, suffix);
	from = open(path, O_RDONLY | O_CLOEXEC);
	if (from < 0)
		return -errno;
	snprintf(path, sizeof path, "%s/%s%s", to_dir, name, suffix);
	to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	errno = to < 0 ? errno : 0;
	r = to < 0 ? -errno : copy_bytes(from, to);
	close(from);
	if (to >= 0)
		close(to);
	return r;
}

void
borrowed_drop(const struct borrowed *b)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < SUFFIXES; i++) {
		snprintf(path, sizeof path, "%s%s", b->path, suffixes[i]);
		(void)unlink(path);
	}
	(void)rmdir(b->dir);
}

int
borrowed_take(const char *dir, const char *name, struct borrowed *ret_borrowed, struct hf_error *err)
{
	const char *base = getenv("TMPDIR");
	struct borrowed b;
	int r = 0;

	snprintf(b.dir, sizeof b.dir, "%s/holdfastctl-XXXXXX", base != NULL && base[0] == '/' ? base : "/tmp");
	if (mkdtemp(b.dir) == NULL)
		return hf_error_set(err, -errno, "%s", b.dir);
	snprintf(b.path, sizeof b.path, "%s/%s", b.dir, name);
	for (size_t i = 0; i < COPIED && r == 0; i++) {
		r = copy_file(dir, b.dir, name, suffixes[i]);
		if (r == -ENOENT && i > 0)
			r = 0; /* all of it is in the database */
	}
	if (r < 0) {
		borrowed_drop(&b);
		return hf_error_set(err, r, "%s/%s", dir, name);
	}
	*ret_borrowed = b;
	return 0;
}
