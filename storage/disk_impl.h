/* SPDX-License-Identifier: Apache-2.0 */
/* disk_impl.h: what the implementations of a disk share. Included by disk*.c alone; users see
 * disk.h. */
#ifndef HF_STORAGE_DISK_IMPL_H
#define HF_STORAGE_DISK_IMPL_H

#include "storage/disk.h"

enum disk_kind { DISK_OP_READ = 1, DISK_OP_WRITE, DISK_OP_SYNC };

enum { DISK_RETRIES_MAX = 16 };

/* An implementation: one function per function of disk.h, with the same promise. start() begins the
 * read, write or sync that the private part of op describes. */
struct disk_ops {
	int (*register_buffers)(struct disk *d, const struct iovec *buffers, unsigned count);
	int (*fd)(struct disk *d);
	void (*submit)(struct disk *d);
	int (*drain)(struct disk *d);
	int (*wait)(struct disk *d, struct disk_op *op);
	void (*destroy)(struct disk *d);
	void (*start)(struct disk *d, struct disk_op *op);
	int (*open)(struct disk *d, const char *path, unsigned flags, struct disk_file **ret_file);
	void (*close)(struct disk *d, struct disk_file *f);
	int (*size)(struct disk *d, struct disk_file *f, uint64_t *ret_bytes);
	int (*truncate)(struct disk *d, struct disk_file *f, uint64_t bytes);
	int (*allocate)(struct disk *d, struct disk_file *f, uint64_t offset, uint64_t len);
	int (*punch)(struct disk *d, struct disk_file *f, uint64_t offset, uint64_t len);
	int (*next_data)(struct disk *d, struct disk_file *f, uint64_t from, uint64_t *ret_offset);
	int (*mkdir)(struct disk *d, const char *path);
	int (*rename)(struct disk *d, const char *from, const char *to);
	int (*unlink)(struct disk *d, const char *path);
	int (*rmdir)(struct disk *d, const char *path);
	int (*sync_dir)(struct disk *d, const char *path);
	int (*list)(struct disk *d, const char *path, void (*each)(void *arg, const char *name), void *arg);
	int (*free_bytes)(struct disk *d, const char *path, uint64_t *ret_bytes);
};

/* The first member of every implementation's disk. */
struct disk {
	const struct disk_ops *ops;
	_Atomic uint64_t turns; /* see disk_turns() */
};

/* Account one kernel answer (bytes or -errno) to op. Returns true when op is over and op->res is
 * its result; false when the rest, from op->done on, must be submitted again. */
bool disk_op_step(struct disk_op *op, int res);

/* Mark op finished and run its callback, the last act: op may be gone afterwards. */
void disk_op_finish(struct disk_op *op);

#endif
