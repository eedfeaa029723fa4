/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/reader.h"
#include "proto/common/digest.h"
#include "proto/common/status.h"

/* Bytes read, or -errno. */
static ssize_t
read_at(int fd, void *buf, uint64_t offset)
{
	ssize_t n;

	do
		n = pread(fd, buf, BLOCK_BYTES, (off_t)offset);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static int
read_block(const struct reader_file *f, uint64_t offset, unsigned char *ret_block)
{
	size_t wanted = f->size_bytes - offset < BLOCK_BYTES ? (size_t)(f->size_bytes - offset) : BLOCK_BYTES;
	unsigned char *buf = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	ssize_t n;

	if (buf == NULL)
		return -ENOMEM;
	n = read_at(f->fd, buf, offset);
	if (n >= (ssize_t)wanted) {
		memset(ret_block, 0, BLOCK_BYTES);
		memcpy(ret_block, buf, wanted);
	}
	free(buf);
	if (n < 0)
		return (int)n;
	return n >= (ssize_t)wanted ? 0 : -ENODATA; /* the disk ends before */
}

int
fetch_block(const char *path, uint64_t size_bytes, uint64_t block, unsigned char *ret_block)
{
	struct reader_file f;
	int r;

	if (block >= (size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES)
		return -HF_EBEYOND;
	r = reader_file_open(path, size_bytes, &f);
	if (r < 0)
		return r;
	r = read_block(&f, block * BLOCK_BYTES, ret_block);
	reader_file_close(&f);
	return r;
}
