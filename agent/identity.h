/* SPDX-License-Identifier: Apache-2.0 */
/* identity.h: what a disk is known by, whatever it is called today. identity.c says which kinds there are, and their
 * limits. */
#ifndef HF_AGENT_IDENTITY_H
#define HF_AGENT_IDENTITY_H

#include "agent/device.h"

struct identity_kind {
	const char *prefix; /* "wwn:" */
	bool is_content;    /* read from the disk, and copied with it */
	bool (*read)(const struct device *d, char *ret_text, size_t size);
};

/* The kind an identity is of, by its prefix; NULL if it is none. */
const struct identity_kind *identity_find_kind(const char *identity);

/* The kind of files and of loop devices on them. */
const struct identity_kind *identity_file_kind(void);

/* The identity of one kind, prefix included; a partition's is its disk's with "-partN". False if it has none. */
bool identity_read(const struct device *d, const struct identity_kind *kind, char ret_identity[NAME_BYTES]);

/* Of the best kind the device has; "" if of none. */
void identity_best(const struct device *d, char ret_identity[NAME_BYTES]);

/* The partition an identity names, 0 = a whole disk. */
unsigned identity_partition(const char *identity);

/* The identity of a file. */
void identity_print_file(dev_t dev, uint64_t inode, char ret_identity[NAME_BYTES]);

#endif
