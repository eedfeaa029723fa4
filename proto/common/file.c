/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int
file_write(int fd, const void *bytes, size_t len)
{
	for (const char *next = bytes; len > 0;) {
		ssize_t n = write(fd, next, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		next += n;
		len -= (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* Nobody else has it open: what was there, of a run that was cut or of a stranger, goes first. */
static int
write_new(const char *path, mode_t mode, const void *bytes, size_t len)
{
	int fd, r;

	(void)unlink(path); /* it may not be there */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	r = fchmod(fd, mode) < 0 ? -errno : file_write(fd, bytes, len);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

int
file_sync_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = fd < 0 || fsync(fd) < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return r;
}

/* The rename is durable only when the directory is. */
static int
sync_dir_of(const char *path)
{
	char copy[PATH_MAX];

	snprintf(copy, sizeof copy, "%s", path);
	return file_sync_dir(dirname(copy));
}

int
file_replace(const char *path, mode_t mode, const void *bytes, size_t len, struct hf_error *err)
{
	char beside[PATH_MAX];
	int r;

	if ((size_t)snprintf(beside, sizeof beside, "%s.new", path) >= sizeof beside)
		return hf_error_set(err, -ENAMETOOLONG, "write %s", path);
	r = write_new(beside, mode, bytes, len);
	if (r == 0 && rename(beside, path) < 0)
		r = -errno;
	if (r == 0)
		r = sync_dir_of(path);
	if (r < 0) {
		(void)unlink(beside); /* it may not be there */
		return hf_error_set(err, r, "write %s", path);
	}
	return 0;
}

static ssize_t
read_all(int fd, char *buf, size_t size)
{
	size_t have = 0;

	while (have < size) {
		ssize_t n = read(fd, buf + have, size - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return (ssize_t)have;
		have += (size_t)n;
	}
	return -EFBIG;
}

ssize_t
file_read(const char *path, char *buf, size_t size, struct hf_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0)
		return hf_error_set(err, -errno, "open %s", path);
	n = read_all(fd, buf, size);
	(void)close(fd); /* only read from */
	if (n < 0)
		return hf_error_set(err, (int)n, "read %s", path);
	buf[n] = '\0';
	return n;
}
