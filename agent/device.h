/* SPDX-License-Identifier: Apache-2.0 */
/* device.h: one block device as the kernel, in /sys, and udev describe it. */
#ifndef HF_AGENT_DEVICE_H
#define HF_AGENT_DEVICE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/message.h"

/* Where the kernel's and udev's files are: "" in production, a directory with sys/, dev/, run/ and proc/ in tests. */
struct tree {
	char root[PATH_MAX];
};

struct device {
	const struct tree *tree;   /* borrowed */
	char name[NAME_BYTES];     /* sda, sda1, dm-0 */
	char sys_dir[PATH_MAX];    /* where its attributes are */
	char parent_dir[PATH_MAX]; /* a partition's disk; "" for a whole disk */
	unsigned partition;        /* 0 = whole disk */
};

/* The machine's own tree. Static memory. */
const struct tree *device_tree_real(void);

/* The tree whose sys/ is sys_root. 0 or -ENAMETOOLONG. */
int device_tree_above(const char *sys_root, struct tree *ret_tree);

/* The device whose attributes lie in sys_dir (any path to it), or whose number is dev. 0; -ENOENT if there is none. */
int device_at(const struct tree *t, const char *sys_dir, struct device *ret_device);
int device_by_number(const struct tree *t, dev_t dev, struct device *ret_device);

/* Call visit for every whole disk that has a size, in natural order of names, until it returns something else than 0.
 * Returns what the last call returned, or -errno. */
int device_each_disk(const struct tree *t, int (*visit)(const struct device *d, void *arg), void *arg);

/* The first line of a file among its attributes, as it is. False if there is none or it is empty. */
bool device_read(const struct device *d, const char *name, char *ret_text, size_t size);

/* The same as a number; 0 if there is none. */
uint64_t device_number(const struct device *d, const char *name);

bool device_has(const struct device *d, const char *name);

/* What udev noted about the device under key ("E:ID_WWN=..."). False where no udev runs. */
bool device_udev(const struct device *d, const char *key, char *ret_text, size_t size);

/* Open it for reading. A descriptor, or negative. */
int device_open(const struct device *d);

/* Call visit for each device linked from directory ("holders", "slaves") with depth + 1, until it returns true; then
 * true. Gives up (false) at a depth no real machine has. */
bool device_any_linked(const struct device *d, const char *directory,
    bool (*visit)(const struct device *other, const void *arg, int depth), const void *arg, int depth);

/* True if d is the device whose sys_dir is arg, a partition of it, or built upon it. Call with depth 0. */
bool device_lies_on(const struct device *d, const void *arg, int depth);

/* Runs of anything but visible ASCII become one '_', at the ends nothing: names go into messages and tables. */
void device_tidy(char *text);

#endif
