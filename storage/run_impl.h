/* SPDX-License-Identifier: Apache-2.0 */
/* run_impl.h: inside of a run, shared by run*.c, and nobody else. */
#ifndef HF_STORAGE_RUN_IMPL_H
#define HF_STORAGE_RUN_IMPL_H

#include <stdatomic.h>

#include "storage/run_format.h"

struct run {
	atomic_uint refs;
	uint64_t id; /* unique in the process; 0 for runs in memory */
	struct run_layout layout;
	/* in memory */
	struct entry *narrow;
	struct wide_entry *wide;
	/* in a file */
	struct disk_file *file;
	struct leaving *leaving; /* takes it at the last unref */
	uint64_t digest_seed, number;
	_Atomic uint64_t damaged; /* 1 + a page that could not be read as it is; 0 = none */
};

/* Pages of a file run by kind: the first, and the one behind the last. */
uint64_t run_first_page(const struct run *r, enum run_page_kind kind);
uint64_t run_end_page(const struct run *r, enum run_page_kind kind);

/* run_open(), with other flags for the file. */
int run_open_for(struct disk *d, const char *path, unsigned flags, struct run **ret_run, struct run_info *ret_info,
    struct hf_error *err);

#endif
