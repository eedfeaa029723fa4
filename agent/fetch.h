/* SPDX-License-Identifier: Apache-2.0 */
/* fetch.h: one block of a disk as it is now, for a server whose copy of it rotted. */
#ifndef HF_AGENT_FETCH_H
#define HF_AGENT_FETCH_H

#include <stdint.h>

/* Read block (of 4,096 bytes; the last one padded with zeros) of the disk or image at path, which counts as size_bytes
 * long, past all caches where that can be. Blocks. 0, -HF_EBEYOND, -errno. Which disk it is need not be proved: the
 * server takes only bytes that match the digest it has. */
int fetch_block(const char *path, uint64_t size_bytes, uint64_t block, unsigned char *ret_block);

#endif
