/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/freezable.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/file_system.h"
#include "agent/freeze_record.h"

static int
check_is_mountpoint(const char *path, struct hf_error *err)
{
	struct statx x;

	if (path[0] != '/' || strchr(path, '\n') != NULL)
		return hf_error_say(err, -EINVAL,
		    "--freeze %s: not the whole path of a mount point, beginning with /, on one line", path);
	if (statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &x) < 0)
		return hf_error_set(err, -errno, "--freeze %s", path);
	if ((x.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0 && (x.stx_attributes & STATX_ATTR_MOUNT_ROOT) == 0)
		return hf_error_say(
		    err, -EINVAL, "--freeze %s: not a mount point. findmnt -T %s names the one it lies on", path, path);
	return 0;
}

/* ---- what must not stand still ---- */

struct place {
	const char *path; /* of a directory; NULL or not there = nothing */
	const char *what, *why;
};

static int
check_place(const char *mountpoint, const struct file_system *f, const struct place *place, struct hf_error *err)
{
	struct file_system there;

	if (place->path == NULL || file_system_at(place->path, &there) < 0 || !file_system_is(&there, f))
		return 0;
	return hf_error_say(err, -EINVAL, "--freeze %s: %s (%s) lies on that file system, so %s", mountpoint,
	    place->what, place->path, place->why);
}

static int
check_log(const char *mountpoint, const struct file_system *f, int fd, struct hf_error *err)
{
	struct file_system there;
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || file_system_get(fd, &there) < 0 || !file_system_is(&there, f))
		return 0;
	return hf_error_say(err, -EINVAL,
	    "--freeze %s: the agent's log (standard %s) is a file on that file system, so it would wait for itself. "
	    "Log "
	    "elsewhere",
	    mountpoint, fd == 1 ? "output" : "error");
}

/* $STATE_DIRECTORY, which systemd sets, and what that lies in. Before systemd starts any command of a unit it calls
 * mkdir() for it, there or not; on a frozen file system that waits, and so would ExecStopPost=, which is to thaw it. */
static bool
find_service_directory(char *ret_path, char *ret_parent)
{
	const char *named = getenv("STATE_DIRECTORY");
	char *slash;

	if (named == NULL || named[0] != '/')
		return false;
	snprintf(ret_path, PATH_MAX, "%.*s", (int)strcspn(named, ":"), named);
	snprintf(ret_parent, PATH_MAX, "%s", ret_path);
	slash = strrchr(ret_parent, '/');
	slash[slash == ret_parent ? 1 : 0] = '\0';
	return true;
}

static int
check_is_not_needed(
    const char *mountpoint, const char *state_directory, const char *record_directory, struct hf_error *err)
{
	static const char systemds[] = "what systemd asks for before it starts anything of the unit",
			  systemds_why[] = "it could not start what thaws. Put the state elsewhere with --state and "
					   "ReadWritePaths=, and empty StateDirectory=";
	char service[PATH_MAX], parent[PATH_MAX];
	bool is_service = find_service_directory(service, parent);
	const struct place places[] = {
	    {state_directory, "the agent's own state",
		"it would wait for itself. Put the state elsewhere with --state"},
	    {record_directory, "the record of what is frozen",
		"it would wait for itself. Name another place with RUNTIME_DIRECTORY"},
	    {is_service ? service : NULL, systemds, systemds_why},
	    {is_service ? parent : NULL, systemds, systemds_why},
	};
	struct file_system f;
	int r = file_system_at(mountpoint, &f);

	if (r < 0)
		return hf_error_set(err, r, "--freeze %s", mountpoint);
	for (size_t i = 0; r == 0 && i < sizeof places / sizeof *places; i++)
		r = check_place(mountpoint, &f, &places[i], err);
	for (int fd = 1; r == 0 && fd <= 2; fd++)
		r = check_log(mountpoint, &f, fd, err);
	return r;
}

/* Frozen twice is refused by the kernel, and looks as if somebody else had done it. */
static int
check_is_named_once(const char *mountpoint, const char *const *earlier, size_t count, struct hf_error *err)
{
	struct file_system f, other;

	if (file_system_at(mountpoint, &f) < 0)
		return 0; /* told already */
	for (size_t i = 0; i < count; i++)
		if (file_system_at(earlier[i], &other) == 0 && file_system_is(&f, &other))
			return hf_error_say(err, -EINVAL,
			    "--freeze %s: the same file system as %s, and frozen with it: name one of them", mountpoint,
			    earlier[i]);
	return 0;
}

int
freezable_check(const char *const *mountpoints, size_t count, const char *state_directory, const char *record_directory,
    struct hf_error *err)
{
	if (count > FREEZE_MOUNTS_MAX)
		return hf_error_say(
		    err, -EINVAL, "%zu file systems to freeze; at most %d can be", count, FREEZE_MOUNTS_MAX);
	for (size_t i = 0; i < count; i++) {
		int r = check_is_mountpoint(mountpoints[i], err);

		if (r == 0)
			r = check_is_not_needed(mountpoints[i], state_directory, record_directory, err);
		if (r == 0)
			r = check_is_named_once(mountpoints[i], mountpoints, i, err);
		if (r < 0)
			return r;
	}
	return 0;
}
