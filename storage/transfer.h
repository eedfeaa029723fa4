/* SPDX-License-Identifier: Apache-2.0 */
/* transfer.h: several reads or writes in flight at once, for code that waits. */
#ifndef HF_STORAGE_TRANSFER_H
#define HF_STORAGE_TRANSFER_H

#include "storage/disk.h"

struct transfer {
	struct disk_file *file; /* borrowed */
	void *buf;              /* borrowed; aligned */
	size_t len;             /* > 0 */
	uint64_t offset;
	int res; /* out: bytes read (less than len only at the end of the file), 0 for a write, or
		    -errno */
	struct disk_op op;
};

/* Start all n, then wait for all. Every res is set; returns 0 or the first negative one in order.
 * Blocks. */
int transfers_read(struct disk *d, struct transfer *transfers, size_t n);
int transfers_write(struct disk *d, struct transfer *transfers, size_t n);

/* Make bytes [from, to) of the file read as zeros without growing it: a hole, or zeros written
 * where holes cannot be made. Cheap where it is a hole already. Multiples of 4096 (to may lie
 * beyond the end). Not synced. Blocks. 0 or -errno. */
int range_clear(struct disk *d, struct disk_file *f, uint64_t from, uint64_t to);

#endif
