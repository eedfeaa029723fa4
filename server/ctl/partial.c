/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/partial.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/common/file.h"

enum {
	SYNC_BYTES = 256 << 20, /* what a cut run has to fetch again, at most */
	ZERO_BYTES = 1 << 16,
};

struct partial {
	char path[PATH_MAX], partial_path[PATH_MAX], state_path[PATH_MAX], new_state_path[PATH_MAX];
	int fd;
	bool force;
	json_t *state;
	uint64_t offset, synced, size;
	ino_t inode;
	bool locked, begun;
	uint64_t dirty_end; /* bytes before it may hold what an earlier run left: holes must be made there */
};

static int
fail(const char *path)
{
	return ctl_fail(EXIT_FAILED, "%s: %m", path);
}

/* ---- open ---- */

static int
set_paths(struct partial *p, const char *path)
{
	int n = snprintf(p->path, sizeof p->path, "%s", path);

	n += snprintf(p->partial_path, sizeof p->partial_path, "%s.partial", path) >= PATH_MAX ? PATH_MAX : 0;
	n += snprintf(p->state_path, sizeof p->state_path, "%s.partial.state", path) >= PATH_MAX ? PATH_MAX : 0;
	n += snprintf(p->new_state_path, sizeof p->new_state_path, "%s.partial.state.new", path) >= PATH_MAX ? PATH_MAX
													     : 0;
	return n >= PATH_MAX ? ctl_fail(EXIT_USAGE, "%s: the path is too long", path) : EXIT_DONE;
}

/* A disk or a pipe is not replaced by a file, and a file only when that is wanted. */
static int
check_target(const struct partial *p)
{
	struct stat st;

	if (lstat(p->path, &st) < 0)
		return errno == ENOENT ? EXIT_DONE : fail(p->path);
	if (!S_ISREG(st.st_mode))
		return ctl_fail(EXIT_USAGE, "%s is no regular file: export to a new file", p->path);
	if (!p->force)
		return ctl_fail(
		    EXIT_USAGE, "%s exists already: --force replaces it when the new one is complete", p->path);
	return EXIT_DONE;
}

/* Ours alone, and still the file of that name: a run that just finished has renamed it. */
static int
lock_file(struct partial *p, struct stat *ret_st)
{
	struct stat named;

	if (flock(p->fd, LOCK_EX | LOCK_NB) < 0)
		return ctl_fail(EXIT_FAILED, "%s: another holdfastctl is writing it", p->partial_path);
	if (fstat(p->fd, ret_st) < 0 || lstat(p->partial_path, &named) < 0 || named.st_ino != ret_st->st_ino)
		return ctl_fail(EXIT_FAILED, "%s: another holdfastctl has just finished it", p->partial_path);
	return EXIT_DONE;
}

static int
open_file(struct partial *p)
{
	struct stat st;
	int code;

	p->fd = open(p->partial_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (p->fd < 0)
		return fail(p->partial_path);
	code = lock_file(p, &st);
	if (code != EXIT_DONE)
		return code;
	if (!S_ISREG(st.st_mode))
		return ctl_fail(EXIT_FAILED, "%s is no regular file", p->partial_path);
	p->locked = true;
	p->dirty_end = (uint64_t)st.st_size;
	p->inode = st.st_ino;
	return EXIT_DONE;
}

int
partial_open(const char *path, bool force, struct partial **ret_partial)
{
	struct partial *p = calloc(1, sizeof *p);
	int code;

	if (p == NULL)
		return ctl_fail(EXIT_FAILED, "out of memory");
	p->fd = -1;
	p->force = force;
	code = set_paths(p, path);
	if (code == EXIT_DONE)
		code = check_target(p);
	if (code == EXIT_DONE)
		code = open_file(p);
	if (code != EXIT_DONE) {
		partial_close(p);
		return code;
	}
	p->state = json_load_file(p->state_path, 0, NULL); /* NULL: start over */
	*ret_partial = p;
	return EXIT_DONE;
}

void
partial_close(struct partial *p)
{
	if (p == NULL)
		return;
	if (p->locked && !p->begun && p->dirty_end == 0)
		(void)unlink(p->partial_path); /* nothing was ever written to it */
	if (p->fd >= 0)
		close(p->fd);
	json_decref(p->state);
	free(p);
}

/* It must speak of the very file that is there: its full size is set before the state is written. */
const json_t *
partial_state(const struct partial *p)
{
	const json_t *offset = json_object_get(p->state, "offset");
	json_int_t size = json_integer_value(json_object_get(p->state, "sizeBytes"));
	json_int_t inode = json_integer_value(json_object_get(p->state, "inode"));

	if (!json_is_integer(offset) || json_integer_value(offset) < 0 || json_integer_value(offset) > size)
		return NULL;
	return (uint64_t)size == p->dirty_end && (ino_t)inode == p->inode ? p->state : NULL;
}

/* ---- the state file ---- */

static int
sync_directory(const struct partial *p)
{
	char copy[PATH_MAX];

	memcpy(copy, p->path, sizeof copy);
	return file_sync_dir(dirname(copy)) < 0 ? fail(p->path) : EXIT_DONE;
}

static int
write_state(struct partial *p)
{
	FILE *f = fopen(p->new_state_path, "we");
	bool good;

	if (f == NULL)
		return fail(p->new_state_path);
	json_object_set_new(p->state, "inode", json_integer((json_int_t)p->inode));
	json_object_set_new(p->state, "offset", json_integer((json_int_t)p->synced));
	good = json_dumpf(p->state, f, JSON_INDENT(2)) == 0 && fputc('\n', f) != EOF && fflush(f) == 0 &&
	       fsync(fileno(f)) == 0;
	good &= fclose(f) == 0;
	if (!good || rename(p->new_state_path, p->state_path) < 0)
		return fail(p->state_path);
	return EXIT_DONE;
}

int
partial_sync(struct partial *p)
{
	if (fdatasync(p->fd) < 0)
		return fail(p->partial_path);
	p->synced = p->offset;
	return write_state(p);
}

/* ---- contents ---- */

int
partial_begin(struct partial *p, const json_t *what, uint64_t offset, uint64_t size_bytes)
{
	json_decref(p->state);
	p->state = json_deep_copy(what);
	p->begun = true;
	p->offset = p->synced = offset;
	p->size = size_bytes;
	if (offset == 0) { /* all of it a hole again */
		if (ftruncate(p->fd, 0) < 0)
			return fail(p->partial_path);
		p->dirty_end = 0;
	}
	if (ftruncate(p->fd, (off_t)size_bytes) < 0)
		return fail(p->partial_path);
	return write_state(p);
}

static int
maybe_sync(struct partial *p)
{
	return p->offset - p->synced >= SYNC_BYTES ? partial_sync(p) : EXIT_DONE;
}

static int
write_all(struct partial *p, const unsigned char *bytes, size_t len, uint64_t offset)
{
	while (len > 0) {
		ssize_t n = pwrite(p->fd, bytes, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail(p->partial_path);
		bytes += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return EXIT_DONE;
}

int
partial_write(struct partial *p, const void *bytes, size_t len)
{
	int code = write_all(p, bytes, len, p->offset);

	if (code != EXIT_DONE)
		return code;
	p->offset += len;
	return maybe_sync(p);
}

/* Make zeros where an earlier run may have written: a hole, or where the file system knows none, zeros. */
static int
clear(struct partial *p, uint64_t offset, uint64_t len)
{
	static const unsigned char zeros[ZERO_BYTES];
	int code = EXIT_DONE;

	if (fallocate(p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) == 0)
		return EXIT_DONE;
	while (len > 0 && code == EXIT_DONE) {
		size_t n = len < ZERO_BYTES ? (size_t)len : ZERO_BYTES;

		code = write_all(p, zeros, n, offset);
		offset += n;
		len -= n;
	}
	return code;
}

int
partial_skip(struct partial *p, uint64_t len)
{
	uint64_t end = p->offset + len < p->dirty_end ? p->offset + len : p->dirty_end;
	int code = EXIT_DONE;

	if (end > p->offset)
		code = clear(p, p->offset, end - p->offset);
	p->offset += len;
	return code;
}

uint64_t
partial_offset(const struct partial *p)
{
	return p->offset;
}

int
partial_finish(struct partial *p, const char *suffix)
{
	size_t len = strlen(p->path);
	int code;

	assert(p->offset == p->size);
	if (fsync(p->fd) < 0)
		return fail(p->partial_path);
	if ((size_t)snprintf(p->path + len, sizeof p->path - len, "%s", suffix) >= sizeof p->path - len)
		return ctl_fail(EXIT_USAGE, "%s: the path is too long", p->path);
	code = check_target(p); /* again: it may have come meanwhile */
	if (code != EXIT_DONE)
		return code;
	if (rename(p->partial_path, p->path) < 0)
		return fail(p->path);
	(void)unlink(p->state_path); /* without its file it means nothing */
	return sync_directory(p);
}
