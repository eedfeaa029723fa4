/* SPDX-License-Identifier: Apache-2.0 */
/* Only what is written down is thawed: a file system that an administrator has frozen stays so. It is looked for where
 * it was frozen, then wherever else it is mounted, and is not told by the id of the mount: that is another one in each
 * mount namespace, and systemd makes one for each process that it starts. */
#include "agent/thaw.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "agent/freeze_record.h"
#include "agent/json_text.h"
#include "agent/mounts.h"
#include "agent/options.h"
#include "agent/say.h"
#include "proto/common/log.h"
#include "proto/common/units.h"

/* Shorter than systemd waits for ExecStopPost=. */
#define PATIENCE_NS (60 * NS_PER_SECOND)

struct thawing {
	const char *directory;
	int64_t until_ns;
	thaw_cb *cb;
	void *arg;
	bool is_incomplete;
};

static void
tell(struct thawing *t, const char *path, enum thaw_result result, const char *text)
{
	const struct thaw told = {path, result, text};

	t->is_incomplete |= result != THAW_DONE && result != THAW_NOT_FROZEN;
	t->cb(t->arg, &told);
}

/* ---- one file system ---- */

/* A descriptor of the file system, if that is what is mounted there; else < 0. */
static int
open_mounted(const char *path, const struct file_system *f)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct file_system there;

	if (fd >= 0 && file_system_get(fd, &there) == 0 && file_system_is(&there, f))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static int
open_elsewhere(const struct file_system *f)
{
	struct mounts *mounts = mounts_open();
	struct file_system there;
	struct mount m;
	int fd = -1;

	while (mounts != NULL && fd < 0 && mounts_next(mounts, &m))
		if (mount_file_system(&m, &there) == 0 && file_system_is(&there, f))
			fd = open_mounted(m.path, f);
	mounts_close(mounts);
	return fd;
}

static void
thaw_mount(struct thawing *t, const struct frozen_mount *m)
{
	int fd = open_mounted(m->mountpoint, &m->file_system);

	if (fd < 0)
		fd = open_elsewhere(&m->file_system);
	if (fd < 0)
		tell(t, m->mountpoint, THAW_NOT_MOUNTED,
		    "what was frozen there is mounted nowhere; mount it again, then: holdfast-agent thaw");
	else if (ioctl(fd, FITHAW, 0) == 0)
		tell(t, m->mountpoint, THAW_DONE, "was left frozen; thawed");
	else if (errno == EINVAL)
		tell(t, m->mountpoint, THAW_NOT_FROZEN, "is not frozen");
	else
		tell(t, m->mountpoint, THAW_FAILED, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* ---- one record ---- */

static int
open_record(int directory, const char *name)
{
	int record = openat(directory, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (record < 0)
		return -errno;
	if (fstat(record, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid())
		return record;
	close(record);
	return -EBADMSG;
}

/* False if those who thaw it themselves still live. They may be about to end, or to thaw. */
static bool
lock_record(const struct thawing *t, int record)
{
	const struct timespec moment = {.tv_nsec = NS_PER_SECOND / 50};
	struct stat st;

	while (flock(record, LOCK_EX | LOCK_NB) < 0) {
		if (fstat(record, &st) < 0 || st.st_size == 0 || clock_monotonic_ns() > t->until_ns)
			return false;
		nanosleep(&moment, NULL);
	}
	return true;
}

/* Of mounts of one record, the last that was frozen first. */
static void
thaw_mounts(struct thawing *t, const struct frozen_mount *mounts, int count, bool is_ours)
{
	for (int i = count; i > 0; i--) {
		if (is_ours)
			thaw_mount(t, &mounts[i - 1]);
		else
			tell(t, mounts[i - 1].mountpoint, THAW_HELD,
			    "is held frozen by an agent that lives, or is still being frozen; if it stays so: fsfreeze "
			    "--unfreeze");
	}
}

/* Struck out before it is unlinked: another who has it open already must not thaw once more. */
static int
settle_record(struct thawing *t, int directory, const char *name, int record)
{
	struct frozen_mount mounts[FREEZE_MOUNTS_MAX];
	bool is_ours = lock_record(t, record), was_incomplete = t->is_incomplete;
	char *text;
	int count = freeze_record_read(record, mounts, &text);

	if (count < 0)
		return count;
	t->is_incomplete = false;
	thaw_mounts(t, mounts, count, is_ours);
	if (is_ours && !t->is_incomplete) {
		freeze_record_strike(record);
		(void)unlinkat(directory, name, 0); /* nothing is in it */
	}
	t->is_incomplete |= was_incomplete;
	free(text);
	return 0;
}

static void
visit_record(struct thawing *t, int directory, const char *name)
{
	char path[PATH_MAX];
	int record = open_record(directory, name), r = record;

	if (record >= 0) {
		r = settle_record(t, directory, name, record);
		close(record);
	}
	if (r == 0 || r == -ENOENT) /* its guard has left */
		return;
	snprintf(path, sizeof path, "%s/%s", t->directory, name);
	tell(t, path, THAW_FAILED, r == -EBADMSG ? "is no record of an agent" : strerror(-r));
}

int
thaw_left(const char *directory, int64_t patience_ns, thaw_cb *cb, void *arg, struct hf_error *err)
{
	struct thawing t = {
	    .directory = directory, .until_ns = clock_monotonic_ns() + patience_ns, .cb = cb, .arg = arg};
	DIR *records = opendir(directory);
	struct dirent *entry;

	if (records == NULL)
		return errno == ENOENT ? 0 : hf_error_set(err, -errno, "%s", directory);
	while ((entry = readdir(records)) != NULL)
		if (strncmp(entry->d_name, "frozen.", 7) == 0)
			visit_record(&t, dirfd(records), entry->d_name);
	closedir(records);
	return t.is_incomplete ? hf_error_say(err, -EBUSY, "not everything is thawed") : 0;
}

/* ---- in words ---- */

static void
log_thaw(void *arg, const struct thaw *t)
{
	(void)arg;
	if (t->result == THAW_DONE || t->result == THAW_NOT_FROZEN)
		log_warning("thawed", "path=\"%s\" msg=\"%s\"", t->path, t->text);
	else
		log_err("not_thawed", "path=\"%s\" msg=\"%s\"", t->path, t->text);
}

void
thaw_left_logged(const char *directory)
{
	struct hf_error err = {0};
	int r = thaw_left(directory, PATIENCE_NS, log_thaw, NULL, &err);

	if (r < 0 && r != -EBUSY && r != -EACCES) /* who may not look there can thaw nothing, and freeze nothing */
		log_err("not_thawed", "msg=\"%s\"", err.text);
}

static const char *
result_name(enum thaw_result r)
{
	switch (r) {
	case THAW_DONE: return "THAWED";
	case THAW_NOT_FROZEN: return "NOT_FROZEN";
	case THAW_NOT_MOUNTED: return "NOT_MOUNTED";
	case THAW_HELD: return "HELD";
	case THAW_FAILED: break;
	}
	return "FAILED";
}

static void
add_item(void *arg, const struct thaw *t)
{
	json_array_append_new(arg, json_pack("{s:o, s:s, s:o}", "path", json_text(t->path), "result",
				       result_name(t->result), "text", json_text(t->text)));
}

static void
print_item(const json_t *item)
{
	printf("%s %s\n", json_string_value(json_object_get(item, "path")),
	    json_string_value(json_object_get(item, "text")));
}

static void
print_items(json_t *items, bool as_json)
{
	json_t *root, *item;
	size_t i;

	if (as_json) {
		root = json_pack("{s:O}", "items", items);
		json_dumpf(root, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(root);
		return;
	}
	json_array_foreach (items, i, item) {
		print_item(item);
	}
	if (i == 0)
		puts("Nothing was left frozen.");
}

int
thaw_run(const struct options *o)
{
	char directory[PATH_MAX];
	struct hf_error err = {0};
	json_t *items = json_array();
	int r = thaw_left(freeze_record_directory(directory), PATIENCE_NS, add_item, items, &err);

	if (r == 0 || r == -EBUSY)
		print_items(items, o->json);
	if (r < 0)
		say("%s", err.text);
	json_decref(items);
	return r < 0 ? EXIT_FAILED : EXIT_OK;
}
