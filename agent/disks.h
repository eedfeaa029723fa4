/* SPDX-License-Identifier: Apache-2.0 */
/* disks.h: the block devices and image files of this machine, by their stable identity. */
#ifndef HF_AGENT_DISKS_H
#define HF_AGENT_DISKS_H

#include <sys/types.h>

#include "proto/common/error.h"
#include "proto/message.h"

enum { DISKS_MAX = 256 };

struct disk_info {
	char path[PATH_BYTES];     /* /dev/sda */
	char identity[NAME_BYTES]; /* "wwn:...", "serial:...", "ptuuid:...", "file:DEV:INODE": see
				      disks.c; "" = none */
	char model[NAME_BYTES];
	uint64_t size_bytes;
	bool whole_disk, removable, read_only, loop, ram,
	    member;      /* member: of md, dm or a partition of a listed disk */
	bool boot_disk;  /* holds / or /boot */
	bool by_default; /* what Enter chooses at enrolment */
};

/* Every block device found under sys_root ("/sys" in production; tests pass a made-up tree) that
 * can be a volume, in order of name. Returns the count, or -errno. Reads /sys and the partition
 * tables; opens no disk for writing. */
int disks_list(const char *sys_root, struct disk_info *ret_disks, size_t max, struct hf_error *err);

/* The identity and size of one path: block device (whole disk or partition) or regular file
 * ("file:DEV:INODE"). 0, -errno, -HF_EIDENTITY when there is nothing stable to go by. */
int disks_identify(const char *path, struct disk_info *ret_disk, struct hf_error *err);

/* Where the disk with this identity is now: hint first, then every disk of the machine. 0; -ENOENT
 * (missing); -HF_EIDENTITY (more than one has it, wherever the hint points). */
int disks_find(const char *identity, const char *hint_path, struct disk_info *ret_disk, struct hf_error *err);

/* True if the block device number dev is the disk, a partition of it, built upon it (dm, md), or a
 * loop device on it. */
bool disks_carries(const struct disk_info *disk, dev_t dev);

#endif
