/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/disk.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>

#include "storage/disk_impl.h"

/* ---- a disk ---- */

int
disk_register_buffers(struct disk *d, const struct iovec *buffers, unsigned count)
{
	return d->ops->register_buffers(d, buffers, count);
}

int
disk_fd(struct disk *d)
{
	return d->ops->fd(d);
}

void
disk_submit(struct disk *d)
{
	d->ops->submit(d);
}

int
disk_drain(struct disk *d)
{
	return d->ops->drain(d);
}

/* One thread counts, so this need not be one step. */
static void
count_turn(struct disk *d)
{
	uint64_t turns = atomic_load_explicit(&d->turns, memory_order_relaxed);

	atomic_store_explicit(&d->turns, turns + 1, memory_order_relaxed);
}

uint64_t
disk_turns(const struct disk *d)
{
	return atomic_load_explicit(&d->turns, memory_order_relaxed);
}

int
disk_wait(struct disk *d, struct disk_op *op)
{
	int r = d->ops->wait(d, op);

	count_turn(d);
	return r;
}

void
disk_destroy(struct disk *d)
{
	if (d != NULL)
		d->ops->destroy(d);
}

/* ---- asynchronous ---- */

static void
start_op(struct disk *d, struct disk_op *op, struct disk_file *f, enum disk_kind kind)
{
	op->file = f;
	op->next = NULL;
	op->kind = kind;
	op->done = 0;
	op->retries = 0;
	op->res = 0;
	op->finished = false;
	d->ops->start(d, op);
}

static void
start_transfer(struct disk *d, struct disk_op *op, struct disk_file *f, enum disk_kind kind, char *buf, size_t len,
    uint64_t offset)
{
	assert(len > 0);
	assert(len <= INT_MAX);
	assert(len % DISK_ALIGN == 0);
	assert(offset % DISK_ALIGN == 0);
	assert((uintptr_t)buf % DISK_ALIGN == 0);
	op->buf = buf;
	op->len = len;
	op->offset = offset;
	start_op(d, op, f, kind);
}

void
disk_read(struct disk *d, struct disk_op *op, struct disk_file *f, void *buf, size_t len, uint64_t offset)
{
	start_transfer(d, op, f, DISK_OP_READ, buf, len, offset);
}

void
disk_write(struct disk *d, struct disk_op *op, struct disk_file *f, const void *buf, size_t len, uint64_t offset)
{
	/* One field serves both directions; a write never stores through it. */
	char *bytes = (char *)(uintptr_t)buf;

	start_transfer(d, op, f, DISK_OP_WRITE, bytes, len, offset);
}

void
disk_sync(struct disk *d, struct disk_op *op, struct disk_file *f)
{
	op->buf = NULL;
	op->len = 0;
	op->offset = 0;
	start_op(d, op, f, DISK_OP_SYNC);
}

/* ---- one answer of the kernel ---- */

static bool
end_op(struct disk_op *op, int res)
{
	op->res = res;
	return true;
}

static bool
retry_op(struct disk_op *op, int res_when_tired)
{
	if (op->retries == DISK_RETRIES_MAX)
		return end_op(op, res_when_tired);
	op->retries++;
	return false;
}

/* A short transfer may stop in the middle of a block (a bio split at 512 bytes), where direct I/O
 * cannot go on: the started block is done again. That is harmless, for it is the same bytes. */
static size_t
whole_blocks(size_t bytes)
{
	return bytes - bytes % DISK_ALIGN;
}

static bool
step_read(struct disk_op *op, size_t got)
{
	size_t blocks = whole_blocks(got);

	/* Less than a block, though a block was asked for: only the end of the file does that. */
	if (blocks == 0 || op->done + got == op->len)
		return end_op(op, (int)(op->done + got));
	op->done += blocks;
	return false;
}

static bool
step_write(struct disk_op *op, size_t put)
{
	size_t blocks = whole_blocks(put);

	if (put == 0)
		return end_op(op, -EIO); /* no progress is a failure, not a loop */
	if (blocks == 0)
		return retry_op(op, -EIO);
	op->done += blocks;
	return op->done == op->len ? end_op(op, 0) : false;
}

bool
disk_op_step(struct disk_op *op, int res)
{
	assert(!op->finished);
	if (res == -EAGAIN || res == -EINTR)
		return retry_op(op, res);
	if (res < 0)
		return end_op(op, res);
	if (op->kind == DISK_OP_READ)
		return step_read(op, (size_t)res);
	if (op->kind == DISK_OP_WRITE)
		return step_write(op, (size_t)res);
	return end_op(op, 0);
}

void
disk_op_finish(struct disk_op *op)
{
	assert(!op->finished);
	op->finished = true;
	if (op->cb != NULL)
		op->cb(op->arg, op->res);
}

/* ---- blocking ---- */

int
disk_open(struct disk *d, const char *path, unsigned flags, struct disk_file **ret_file)
{
	assert((flags & (DISK_READ | DISK_WRITE)) != 0);
	assert((flags & DISK_CREATE) == 0 || (flags & DISK_WRITE) != 0);
	count_turn(d);
	return d->ops->open(d, path, flags, ret_file);
}

void
disk_close(struct disk *d, struct disk_file *f)
{
	if (f != NULL)
		d->ops->close(d, f);
}

int
disk_size(struct disk *d, struct disk_file *f, uint64_t *ret_bytes)
{
	return d->ops->size(d, f, ret_bytes);
}

int
disk_truncate(struct disk *d, struct disk_file *f, uint64_t bytes)
{
	return d->ops->truncate(d, f, bytes);
}

int
disk_allocate(struct disk *d, struct disk_file *f, uint64_t offset, uint64_t len)
{
	return d->ops->allocate(d, f, offset, len);
}

int
disk_punch(struct disk *d, struct disk_file *f, uint64_t offset, uint64_t len)
{
	return d->ops->punch(d, f, offset, len);
}

int
disk_next_data(struct disk *d, struct disk_file *f, uint64_t from, uint64_t *ret_offset)
{
	return d->ops->next_data(d, f, from, ret_offset);
}

int
disk_mkdir(struct disk *d, const char *path)
{
	return d->ops->mkdir(d, path);
}

int
disk_rename(struct disk *d, const char *from, const char *to)
{
	return d->ops->rename(d, from, to);
}

int
disk_unlink(struct disk *d, const char *path)
{
	count_turn(d);
	return d->ops->unlink(d, path);
}

int
disk_rmdir(struct disk *d, const char *path)
{
	return d->ops->rmdir(d, path);
}

int
disk_sync_dir(struct disk *d, const char *path)
{
	return d->ops->sync_dir(d, path);
}

int
disk_list(struct disk *d, const char *path, void (*each)(void *arg, const char *name), void *arg)
{
	return d->ops->list(d, path, each, arg);
}

int
disk_free_bytes(struct disk *d, const char *path, uint64_t *ret_bytes)
{
	return d->ops->free_bytes(d, path, ret_bytes);
}

/* ---- submit and wait ---- */

int
disk_read_now(struct disk *d, struct disk_file *f, void *buf, size_t len, uint64_t offset)
{
	struct disk_op op = {0};
	int r;

	disk_read(d, &op, f, buf, len, offset);
	r = disk_wait(d, &op);
	if (r < 0)
		return r;
	return (size_t)r == len ? 0 : -EIO;
}

int
disk_write_now(struct disk *d, struct disk_file *f, const void *buf, size_t len, uint64_t offset)
{
	struct disk_op op = {0};

	disk_write(d, &op, f, buf, len, offset);
	return disk_wait(d, &op);
}

int
disk_sync_now(struct disk *d, struct disk_file *f)
{
	struct disk_op op = {0};

	disk_sync(d, &op, f);
	return disk_wait(d, &op);
}
