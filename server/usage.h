/* SPDX-License-Identifier: Apache-2.0 */
/* usage.h: what the folder of a source takes of the staging area: blocks allocated, not sizes, for staging files are
 * sparse and segments are punched. */
#ifndef HF_SERVER_USAGE_H
#define HF_SERVER_USAGE_H

#include <stdbool.h>
#include <stdint.h>

struct usage {
	uint64_t staging_bytes; /* staging files and their digests */
	uint64_t journal_bytes; /* segments and runs */
	uint64_t catalog_bytes;
	bool journal_elsewhere; /* not below dir, but where a link there leads to */
};

/* Blocks; a file that goes meanwhile is not counted. 0 or -errno. */
int usage_measure(const char *dir, struct usage *ret_usage);

static inline uint64_t
usage_total(const struct usage *u)
{
	return u->staging_bytes + u->journal_bytes + u->catalog_bytes;
}

#endif
