/* SPDX-License-Identifier: Apache-2.0 */
/* mounts.h: what is mounted where this process looks. */
#ifndef HF_AGENT_MOUNTS_H
#define HF_AGENT_MOUNTS_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "agent/file_system.h"

struct mount {
	char path[PATH_MAX];
	dev_t number; /* of the file system; of btrfs another one than stat() has */
	dev_t device; /* the block device under it; 0 = none */
	bool is_btrfs, is_read_only;
};

struct mounts;

/* NULL if they cannot be read. */
struct mounts *mounts_open(void);

/* False at the end. */
bool mounts_next(struct mounts *m, struct mount *ret_mount);

/* NULL is allowed. */
void mounts_close(struct mounts *m);

/* 0 or -errno: only of btrfs it must be looked for. */
int mount_file_system(const struct mount *m, struct file_system *ret_file_system);

#endif
