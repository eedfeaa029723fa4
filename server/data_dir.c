/* SPDX-License-Identifier: Apache-2.0 */
#include "server/data_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/common/file.h"
#include "proto/common/id.h"
#include "proto/common/status.h"

static const char identity_head[] = "holdfast data directory\n";
static const char journal_head[] = "holdfast journal directory\n";

enum { IDENTITY_BYTES = 512 };

static const char readme[] =
    "This is the staging area of a Holdfast replication server.\n"
    "\n"
    "Do not open, mount, copy back or change the files in here, not even read-only: a mount writes, and the\n"
    "files of a volume hold its oldest state, not its newest. To get data out, at any point in time:\n"
    "\n"
    "    holdfastctl pit list SOURCE\n"
    "    holdfastctl export file SOURCE --volume VOLUME --at PIT -o FILE\n"
    "\n"
    "When holdfastd cannot run any more, both commands read this directory themselves with --data-dir DIRECTORY.\n";

struct data_dir {
	char path[256];
	char uuid[UUID_TEXT_BYTES];
	char journal[256]; /* the journal root; "" = none */
	int dir_fd, lock_fd;
};

const char *
data_dir_path(const struct data_dir *d)
{
	return d->path;
}

const char *
data_dir_uuid(const struct data_dir *d)
{
	return d->uuid;
}

bool
data_dir_join(const struct data_dir *d, const char *name, char *ret_path, size_t size)
{
	int n = snprintf(ret_path, size, "%s/%s", d->path, name);

	return n > 0 && (size_t)n < size;
}

/* ---- files of a few lines ---- */

static int
read_text(int dir_fd, const char *name, char *ret_text, size_t size)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, ret_text, size - 1);
	if (n < 0)
		n = -errno;
	else
		ret_text[n] = '\0';
	close(fd);
	return n < 0 ? (int)n : 0;
}

/* All or nothing: aside, synced, renamed, directory synced. */
static int
write_text(int dir_fd, const char *name, const char *text)
{
	char aside[64];
	int fd, r;

	snprintf(aside, sizeof aside, "%s.tmp", name);
	fd = openat(dir_fd, aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = file_write(fd, text, strlen(text));
	close(fd);
	if (r == 0 && renameat(dir_fd, aside, dir_fd, name) < 0)
		r = -errno;
	if (r == 0 && fsync(dir_fd) < 0)
		r = -errno;
	return r;
}

/* ---- whose it is ---- */

static int
make_parents(const char *path)
{
	char part[256];

	snprintf(part, sizeof part, "%s", path);
	for (char *slash = strchr(part + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(part, 0700) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return mkdir(part, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int
open_dir(struct data_dir *d, bool make, struct hf_error *err)
{
	int r = make ? make_parents(d->path) : 0;

	if (r < 0)
		return hf_error_set(err, r, "cannot make the data directory %s", d->path);
	d->dir_fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->dir_fd >= 0)
		return 0;
	if (errno == ENOENT)
		return hf_error_say(err, -ENOENT,
		    "the data directory %s does not exist: mount it, or make it once with: mkdir -m 0700 %s", d->path,
		    d->path);
	return hf_error_set(err, -errno, "cannot open the data directory %s", d->path);
}

static int
refuse_second(const struct data_dir *d, struct hf_error *err)
{
	char pid[32] = "";

	if (read_text(d->dir_fd, "LOCK", pid, sizeof pid) < 0)
		pid[0] = '\0';
	pid[strcspn(pid, "\n")] = '\0';
	/* An export that reads the directory itself holds the lock, too; the pid is then of a daemon that is gone. */
	if (kill((pid_t)atoi(pid), 0) < 0 && errno == ESRCH)
		return hf_error_say(err, -EBUSY,
		    "%s is in use by holdfastctl --data-dir, or by a holdfastd in another container: wait for it or "
		    "stop "
		    "it first",
		    d->path);
	return hf_error_say(err, -EBUSY, "%s is in use by another holdfastd (pid %s): stop that one first", d->path,
	    pid[0] != '\0' ? pid : "not known");
}

static int
take_lock(struct data_dir *d, struct hf_error *err)
{
	d->lock_fd = openat(d->dir_fd, "LOCK", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (d->lock_fd < 0)
		return hf_error_set(err, -errno, "cannot make %s/LOCK", d->path);
	if (flock(d->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return refuse_second(d, err);
	return hf_error_set(err, -errno, "cannot lock %s/LOCK", d->path);
}

static void
write_pid(struct data_dir *d)
{
	char pid[32];
	int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());

	/* For people: the lock is the flock, so a failure here costs only the number in a message. */
	if (ftruncate(d->lock_fd, 0) == 0)
		(void)!pwrite(d->lock_fd, pid, (size_t)n, 0);
}

/* Left by a first start that was cut, or by mkfs. */
static bool
is_harmless(const char *name)
{
	static const char *const names[] = {".", "..", "LOCK", "README", "README.tmp", "IDENTITY.tmp", "lost+found"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* The first name in a directory that is not harmless; "" if there is none. */
static int
find_foreign(int dir_fd, char *ret_name, size_t size)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	ret_name[0] = '\0';
	if (dir == NULL) {
		int r = -errno;

		if (fd >= 0)
			close(fd);
		return r;
	}
	while (ret_name[0] == '\0' && (e = readdir(dir)) != NULL)
		if (!is_harmless(e->d_name))
			snprintf(ret_name, size, "%s", e->d_name);
	closedir(dir);
	return 0;
}

/* Looks before anything is written: a foreign directory is left as it is. */
static int
refuse_foreign(struct data_dir *d, struct hf_error *err)
{
	char name[NAME_MAX + 1];
	int r;

	if (faccessat(d->dir_fd, "IDENTITY", F_OK, 0) == 0)
		return 0;
	r = find_foreign(d->dir_fd, name, sizeof name);
	if (r < 0)
		return hf_error_set(err, r, "cannot list %s", d->path);
	if (name[0] == '\0')
		return 0;
	return hf_error_say(err, -ENOTEMPTY,
	    "%s holds '%s' but no IDENTITY: it is not a data directory of holdfastd, and not empty; set data_dir to an "
	    "empty "
	    "one",
	    d->path, name);
}

static void
name_user(uid_t uid, char *ret_name, size_t size)
{
	const struct passwd *user = getpwuid(uid);

	if (user != NULL)
		snprintf(ret_name, size, "%s", user->pw_name);
	else
		snprintf(ret_name, size, "%u", (unsigned)uid);
}

static int
refuse_denied(const struct data_dir *d, const char *name, struct hf_error *err)
{
	char owner[64], self[64];
	struct stat st;

	if (fstatat(d->dir_fd, name, &st, 0) < 0 || st.st_uid == geteuid())
		return hf_error_set(err, -EACCES, "cannot read and write %s/%s", d->path, name);
	name_user(st.st_uid, owner, sizeof owner);
	name_user(geteuid(), self, sizeof self);
	return hf_error_say(err, -EACCES,
	    "%s/%s belongs to %s, and holdfastd runs as %s: was it once started by hand, as %s? Stop that one, and "
	    "then: "
	    "chown -R %s %s",
	    d->path, name, owner, self, owner, self, d->path);
}

/* Started by hand, mostly as root, it makes files that the service cannot open. A service manager gives the directory
 * to its user, and nothing that is in it. Only in a directory that refuse_foreign() has let pass is it good advice to
 * chown everything. */
static int
check_access(const struct data_dir *d, struct hf_error *err)
{
	static const char *const names[] = {"LOCK", "IDENTITY", "holdfast.db", "pki", "sources"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (faccessat(d->dir_fd, names[i], R_OK | W_OK, AT_EACCESS) < 0 && errno == EACCES)
			return refuse_denied(d, names[i], err);
	return 0;
}

static void
make_uuid(char *ret_uuid)
{
	unsigned char b[16];

	random_bytes(b, sizeof b);
	b[6] = (unsigned char)(0x40 | (b[6] & 0x0f)); /* RFC 9562, version 4 */
	b[8] = (unsigned char)(0x80 | (b[8] & 0x3f));
	snprintf(ret_uuid, UUID_TEXT_BYTES, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
	    b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static int
write_identity(const struct data_dir *d)
{
	char text[IDENTITY_BYTES];
	int n = snprintf(text, sizeof text, "%sformat %d\nuuid %s\n", identity_head, DATA_DIR_FORMAT, d->uuid);

	if (d->journal[0] != '\0')
		snprintf(text + n, sizeof text - (size_t)n, "journal %s\n", d->journal);
	return write_text(d->dir_fd, "IDENTITY", text);
}

static int
make_identity(struct data_dir *d, struct hf_error *err)
{
	int r;

	make_uuid(d->uuid);
	r = write_text(d->dir_fd, "README", readme);
	if (r == 0)
		r = write_identity(d);
	return r < 0 ? hf_error_set(err, r, "cannot write into %s", d->path) : 0;
}

/* "journal PATH", a line of its own. */
static void
read_journal_line(struct data_dir *d, const char *text)
{
	const char *line = strstr(text, "\njournal ");

	if (line != NULL)
		snprintf(d->journal, sizeof d->journal, "%.*s", (int)strcspn(line + 9, "\n"), line + 9);
}

/* -ENOENT, with nothing said: there is none yet. */
static int
read_identity(struct data_dir *d, struct hf_error *err)
{
	char text[IDENTITY_BYTES];
	unsigned format;
	int r = read_text(d->dir_fd, "IDENTITY", text, sizeof text);

	if (r == -ENOENT)
		return r;
	if (r < 0)
		return hf_error_set(err, r, "cannot read %s/IDENTITY", d->path);
	if (strncmp(text, identity_head, sizeof identity_head - 1) != 0 ||
	    sscanf(text + sizeof identity_head - 1, "format %u\nuuid %36s", &format, d->uuid) != 2)
		return hf_error_set(err, -HF_ECORRUPT, "%s/IDENTITY is not ours", d->path);
	if (format > DATA_DIR_FORMAT)
		return hf_error_say(err, -HF_EFORMAT,
		    "%s/IDENTITY was written by a newer holdfastd (format %u, this one knows %d): use that one",
		    d->path, format, DATA_DIR_FORMAT);
	read_journal_line(d, text);
	return 0;
}

static int
read_or_make_identity(struct data_dir *d, struct hf_error *err)
{
	int r = read_identity(d, err);

	return r == -ENOENT ? make_identity(d, err) : r;
}

static bool
has(const struct data_dir *d, const char *name)
{
	return faccessat(d->dir_fd, name, F_OK, 0) == 0;
}

bool
data_dir_is_new(const struct data_dir *d)
{
	return !has(d, "sources") && !has(d, "pki");
}

/* The first start makes IDENTITY, then holdfast.db, then pki and sources. Any other mixture means that a part is
 * missing. */
static int
check_whole(const struct data_dir *d, struct hf_error *err)
{
	if (has(d, "holdfast.db") || has(d, "holdfast.db.bak") || data_dir_is_new(d))
		return 0;
	return hf_error_say(err, -HF_ECORRUPT,
	    "%s has an IDENTITY but neither holdfast.db nor its copy, holdfast.db.bak: is a part of it not mounted? "
	    "Nothing was changed",
	    d->path);
}

/* ---- the journal root ---- */

static int
open_journal_root(const char *path, int *ret_fd, struct hf_error *err)
{
	*ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*ret_fd >= 0)
		return 0;
	if (errno == ENOENT)
		return hf_error_say(err, -ENOENT,
		    "the journal directory %s does not exist: is its disk not mounted? Else make it once with: mkdir "
		    "-m 0700 "
		    "%s",
		    path, path);
	return hf_error_set(err, -errno, "cannot open the journal directory %s", path);
}

enum { ROOT_IS_OURS, ROOT_IS_FREE };

/* One that was never used may become ours if it is empty. */
static int
check_free_root(const struct data_dir *d, int fd, const char *path, struct hf_error *err)
{
	char name[NAME_MAX + 1];
	int r;

	if (d->journal[0] != '\0')
		return hf_error_say(err, -HF_ECORRUPT,
		    "the journal directory %s has no IDENTITY: is its disk not mounted? The journals of %s lie in %s. "
		    "Nothing "
		    "was changed",
		    path, d->path, d->journal);
	r = find_foreign(fd, name, sizeof name);
	if (r < 0)
		return hf_error_set(err, r, "cannot list %s", path);
	if (name[0] != '\0')
		return hf_error_say(err, -ENOTEMPTY,
		    "%s holds '%s' but no IDENTITY: it is not a journal directory of holdfastd, and not empty", path,
		    name);
	return ROOT_IS_FREE;
}

static int
take_journal_root(const struct data_dir *d, int fd, const char *path, struct hf_error *err)
{
	char text[IDENTITY_BYTES];
	int r;

	snprintf(text, sizeof text, "%sformat %d\nuuid %s\n", journal_head, DATA_DIR_FORMAT, d->uuid);
	r = write_text(fd, "IDENTITY", text);
	return r < 0 ? hf_error_set(err, r, "cannot write into %s", path) : 0;
}

/* ROOT_IS_OURS, ROOT_IS_FREE or negative. */
static int
check_journal_root(const struct data_dir *d, int fd, const char *path, struct hf_error *err)
{
	char text[IDENTITY_BYTES], uuid[UUID_TEXT_BYTES];
	unsigned format;
	int r = read_text(fd, "IDENTITY", text, sizeof text);

	if (r == -ENOENT)
		return check_free_root(d, fd, path, err);
	if (r < 0)
		return hf_error_set(err, r, "cannot read %s/IDENTITY", path);
	if (strncmp(text, journal_head, sizeof journal_head - 1) != 0 ||
	    sscanf(text + sizeof journal_head - 1, "format %u\nuuid %36s", &format, uuid) != 2)
		return hf_error_set(err, -HF_ECORRUPT, "%s/IDENTITY is not that of a journal directory", path);
	if (format > DATA_DIR_FORMAT)
		return hf_error_set(err, -HF_EFORMAT, "%s/IDENTITY was written by a newer holdfastd", path);
	if (strcmp(uuid, d->uuid) != 0)
		return hf_error_say(err, -HF_ECORRUPT,
		    "the journal directory %s belongs to data directory %s, not to %s (%s). Nothing was changed", path,
		    uuid, d->path, d->uuid);
	return ROOT_IS_OURS;
}

/* The one that is set, or else the one that was used before. */
static int
use_journal_root(struct data_dir *d, const char *set, struct hf_error *err)
{
	char path[sizeof d->journal];
	int fd, r;

	snprintf(path, sizeof path, "%s", set[0] != '\0' ? set : d->journal);
	if (path[0] == '\0')
		return 0;
	r = open_journal_root(path, &fd, err);
	if (r < 0)
		return r;
	r = check_journal_root(d, fd, path, err);
	if (r == ROOT_IS_FREE)
		r = take_journal_root(d, fd, path, err);
	close(fd);
	if (r < 0 || strcmp(d->journal, path) == 0)
		return r;
	snprintf(d->journal, sizeof d->journal, "%s", path);
	r = write_identity(d);
	return r < 0 ? hf_error_set(err, r, "cannot write into %s", d->path) : 0;
}

const char *
data_dir_journal(const struct data_dir *d)
{
	return d->journal;
}

int
data_dir_open(const char *path, bool make, const char *journal, struct data_dir **ret_dir, struct hf_error *err)
{
	struct data_dir *d = calloc(1, sizeof *d);
	int r;

	if (d == NULL)
		return hf_error_set(err, -ENOMEM, "%s", path);
	d->dir_fd = d->lock_fd = -1;
	snprintf(d->path, sizeof d->path, "%s", path);
	r = open_dir(d, make, err);
	if (r == 0)
		r = refuse_foreign(d, err);
	if (r == 0)
		r = check_access(d, err);
	if (r == 0)
		r = take_lock(d, err);
	if (r == 0)
		r = read_or_make_identity(d, err);
	if (r == 0)
		r = check_whole(d, err);
	if (r == 0)
		r = use_journal_root(d, journal, err);
	if (r < 0) {
		data_dir_close(d);
		return r;
	}
	write_pid(d);
	*ret_dir = d;
	return 0;
}

void
data_dir_close(struct data_dir *d)
{
	if (d == NULL)
		return;
	if (d->lock_fd >= 0)
		close(d->lock_fd);
	if (d->dir_fd >= 0)
		close(d->dir_fd);
	free(d);
}

/* ---- looking only ---- */

static int
check_writable(const char *path, struct hf_error *err)
{
	if (faccessat(AT_FDCWD, path, R_OK | W_OK | X_OK, AT_EACCESS) == 0)
		return 0;
	return hf_error_set(err, -errno, "user %u cannot write into %s", (unsigned)geteuid(), path);
}

/* It would be made, with its parents, in the nearest directory that is there. */
static int
check_can_be_made(const char *path, struct hf_error *err)
{
	char above[256];

	snprintf(above, sizeof above, "%s", path);
	while (above[1] != '\0' && access(above, F_OK) < 0 && errno == ENOENT) {
		char *slash = strrchr(above, '/');

		slash[slash == above] = '\0'; /* the root stays */
	}
	return check_writable(above, err);
}

static int
look_at_journal_root(const struct data_dir *d, const char *set, struct hf_error *err)
{
	const char *path = set[0] != '\0' ? set : d->journal;
	int fd, r;

	if (path[0] == '\0')
		return 0;
	r = open_journal_root(path, &fd, err);
	if (r < 0)
		return r;
	r = check_journal_root(d, fd, path, err);
	close(fd);
	return r < 0 ? r : check_writable(path, err);
}

static int
look(struct data_dir *d, const char *journal, struct hf_error *err)
{
	int r = open_dir(d, false, err);

	if (r == 0)
		r = check_writable(d->path, err);
	if (r == 0)
		r = refuse_foreign(d, err);
	if (r == 0)
		r = check_access(d, err);
	if (r == 0 && has(d, "IDENTITY")) /* there is none before the first start */
		r = read_identity(d, err);
	if (r == 0)
		r = check_whole(d, err);
	return r < 0 ? r : look_at_journal_root(d, journal, err);
}

int
data_dir_check(const char *path, bool make, const char *journal, struct hf_error *err)
{
	struct data_dir d = {.dir_fd = -1, .uuid = "a new one"};
	int r;

	if (make && access(path, F_OK) < 0 && errno == ENOENT)
		return check_can_be_made(path, err);
	snprintf(d.path, sizeof d.path, "%s", path);
	r = look(&d, journal, err);
	if (d.dir_fd >= 0)
		close(d.dir_fd);
	return r;
}
