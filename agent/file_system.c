/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/file_system.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

_Static_assert(sizeof(struct file_system) == BTRFS_FSID_SIZE, "it holds a UUID");

struct file_system
file_system_of_number(dev_t number)
{
	struct file_system f = {{0}};

	memcpy(f.id, &number, sizeof number);
	return f;
}

int
file_system_get(int fd, struct file_system *ret_file_system)
{
	struct btrfs_ioctl_fs_info_args info;
	struct statfs fs;
	struct stat st;

	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	if (fs.f_type != BTRFS_SUPER_MAGIC) {
		*ret_file_system = file_system_of_number(st.st_dev);
		return 0;
	}
	memset(&info, 0, sizeof info);
	if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
		return -errno;
	memcpy(ret_file_system->id, info.fsid, sizeof ret_file_system->id);
	return 0;
}

int
file_system_at(const char *path, struct file_system *ret_file_system)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : file_system_get(fd, ret_file_system);

	if (fd >= 0)
		close(fd);
	return r;
}

bool
file_system_is(const struct file_system *a, const struct file_system *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}
