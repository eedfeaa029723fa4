/* SPDX-License-Identifier: Apache-2.0 */
/* file_system.h: which file system something lies on. */
#ifndef HF_AGENT_FILE_SYSTEM_H
#define HF_AGENT_FILE_SYSTEM_H

#include <stdbool.h>
#include <sys/types.h>

/* The same for all that one freeze stops: of btrfs, where each subvolume has a device number of its own, its UUID; else
 * the device number. Whatever it is, it stays so for as long as the file system is mounted. */
struct file_system {
	unsigned char id[16];
};

/* Of what fd is. 0 or -errno. System calls only. */
int file_system_get(int fd, struct file_system *ret_file_system);

/* Of a directory. 0 or -errno. */
int file_system_at(const char *path, struct file_system *ret_file_system);

/* Of one that is not btrfs. */
struct file_system file_system_of_number(dev_t number);

bool file_system_is(const struct file_system *a, const struct file_system *b);

#endif
