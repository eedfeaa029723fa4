/* SPDX-License-Identifier: Apache-2.0 */
/* Files through io_uring.
 *
 * The way of an operation:
 *
 *   ring_start --room--> SQE (prepared) --submit--> kernel --CQE--> on_answer --over--> finish,
 * callback
 *        \--no room--> waiting list --^                                 \--rest--> SQE or waiting
 * list
 *
 * At most `depth` operations hold an SQE or are in the kernel at a time, and the completion queue
 * holds twice that: neither queue can overflow, and starting an operation cannot fail. What has no
 * room waits in the list, in order, and is moved up as answers come in.
 *
 * Nothing here orders operations against each other: no links, no drain. Who needs "sync after
 * these writes" awaits the writes first; a link would break at a short write, and its tail land
 * after the sync.
 *
 * The ring is born disabled and enabled by the first submission, so that it belongs to the thread
 * that uses it (SINGLE_ISSUER), not to the one that created it. */
#include "storage/disk.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "storage/disk_impl.h"

enum { MAGIC_RING = 0x52494e47, MAGIC_RING_FILE = 0x5246494c };

/* One request of at most this much; the kernel would cut it near 2 GiB anyway. */
static const size_t TRANSFER_BYTES_MAX = 1 << 30;

struct ring {
	struct disk disk;
	unsigned magic;
	struct io_uring uring;
	bool enabled;
	bool owes_submit; /* prepared something its owner believes submitted long ago */
	unsigned depth;
	unsigned busy;       /* hold an SQE or are in the kernel */
	unsigned unfinished; /* busy ones and waiting ones */
	struct disk_op *waiting, **waiting_end;
	struct iovec *buffers; /* registered ones, by address; the position is the kernel's index */
	unsigned buffers_count;
};

struct disk_file {
	unsigned magic;
	int fd;
};

static struct ring *
ring_of(struct disk *d)
{
	struct ring *r = (struct ring *)d;

	assert(r->magic == MAGIC_RING);
	return r;
}

static int
fd_of(const struct disk_file *f)
{
	assert(f->magic == MAGIC_RING_FILE);
	return f->fd;
}

/* ---- preparing ---- */

/* Index of the registered buffer that holds all of buf..buf+len, or -1. */
static int
find_buffer(const struct ring *r, const char *buf, size_t len)
{
	unsigned low = 0, high = r->buffers_count;
	const struct iovec *b;

	while (low < high) { /* first buffer that begins after buf */
		unsigned mid = low + (high - low) / 2;

		if ((const char *)r->buffers[mid].iov_base <= buf)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0)
		return -1;
	b = &r->buffers[low - 1];
	return buf + len <= (const char *)b->iov_base + b->iov_len ? (int)low - 1 : -1;
}

static void
prepare_transfer(struct ring *r, struct io_uring_sqe *sqe, struct disk_op *op)
{
	char *buf = op->buf + op->done;
	size_t left = op->len - op->done;
	unsigned n = (unsigned)(left < TRANSFER_BYTES_MAX ? left : TRANSFER_BYTES_MAX);
	uint64_t at = op->offset + op->done;
	int fd = fd_of(op->file);
	int index = find_buffer(r, buf, n);

	if (op->kind == DISK_OP_WRITE && index >= 0)
		io_uring_prep_write_fixed(sqe, fd, buf, n, at, index);
	else if (op->kind == DISK_OP_WRITE)
		io_uring_prep_write(sqe, fd, buf, n, at);
	else if (index >= 0)
		io_uring_prep_read_fixed(sqe, fd, buf, n, at, index);
	else
		io_uring_prep_read(sqe, fd, buf, n, at);
}

/* Give op an SQE. False when it must wait. */
static bool
prepare(struct ring *r, struct disk_op *op)
{
	struct io_uring_sqe *sqe;

	if (r->busy == r->depth)
		return false;
	sqe = io_uring_get_sqe(&r->uring);
	if (sqe == NULL)
		return false;
	if (op->kind == DISK_OP_SYNC)
		io_uring_prep_fsync(sqe, fd_of(op->file), IORING_FSYNC_DATASYNC);
	else
		prepare_transfer(r, sqe, op);
	io_uring_sqe_set_data(sqe, op);
	r->busy++;
	return true;
}

static void
prepare_or_wait(struct ring *r, struct disk_op *op)
{
	if (r->waiting == NULL && prepare(r, op))
		return;
	op->next = NULL;
	*r->waiting_end = op;
	r->waiting_end = &op->next;
}

static void
prepare_waiting(struct ring *r)
{
	while (r->waiting != NULL && prepare(r, r->waiting)) {
		r->owes_submit = true;
		r->waiting = r->waiting->next;
		if (r->waiting == NULL)
			r->waiting_end = &r->waiting;
	}
}

static void
ring_start(struct disk *d, struct disk_op *op)
{
	struct ring *r = ring_of(d);

	r->unfinished++;
	prepare_or_wait(r, op);
}

/* ---- submitting ---- */

static void
pause_ms(unsigned ms)
{
	struct timespec t = {.tv_nsec = (long)ms * 1000000};

	nanosleep(&t, NULL);
}

static void
enable(struct ring *r)
{
	long ret;

	if (r->enabled)
		return;
	/* Not io_uring_enable_rings(): liburing 2.3 of Debian 12 declares it without exporting it.
	 */
	ret = syscall(__NR_io_uring_register, r->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	assert(ret == 0);
	r->enabled = true;
}

/* The kernel is out of memory or wants its completions taken first. Anything else is a bug here, or
 * a disk used from a second thread (-EEXIST). */
static void
check_submitted(int ret)
{
	assert(ret >= 0 || ret == -EAGAIN || ret == -EBUSY || ret == -EINTR);
}

static void
submit_all(struct ring *r)
{
	enable(r);
	r->owes_submit = false;
	while (io_uring_sq_ready(&r->uring) > 0) {
		int ret = io_uring_submit(&r->uring);

		check_submitted(ret);
		if (ret > 0 || ret == -EINTR)
			continue;
		/* What was not taken stays prepared. The next answer brings us back here; without
		 * one on its way nobody would, so stay. */
		if (io_uring_sq_ready(&r->uring) < r->busy)
			return;
		pause_ms(1);
	}
}

static void
ring_submit(struct disk *d)
{
	struct ring *r = ring_of(d);

	prepare_waiting(r);
	submit_all(r);
}

/* ---- completing ---- */

/* Returns the number of callbacks run: 1, or 0 when the rest must be submitted again. */
static int
on_answer(struct ring *r, struct disk_op *op, int res)
{
	r->busy--;
	if (!disk_op_step(op, res)) {
		prepare_or_wait(r, op);
		r->owes_submit = true;
		return 0;
	}
	r->unfinished--;
	disk_op_finish(op);
	return 1;
}

/* Run what the kernel has answered. One at a time and marked seen first, for a callback may wait
 * for another operation and come through here again. Returns the number of callbacks run. */
static int
reap(struct ring *r)
{
	struct io_uring_cqe *cqe;
	int finished = 0;

	while (r->busy > 0 && io_uring_peek_cqe(&r->uring, &cqe) == 0) {
		struct disk_op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&r->uring, cqe);
		finished += on_answer(r, op, res);
	}
	return finished;
}

static int
ring_drain(struct disk *d)
{
	struct ring *r = ring_of(d);
	int finished = reap(r);

	prepare_waiting(r);
	if (r->owes_submit)
		submit_all(r);
	return finished;
}

static void
wait_for_answer(struct ring *r)
{
	int ret;

	enable(r);
	ret = io_uring_submit_and_wait(&r->uring, 1);
	check_submitted(ret);
	if (ret == -EAGAIN || ret == -EBUSY)
		pause_ms(1);
}

static int
ring_wait(struct disk *d, struct disk_op *op)
{
	struct ring *r = ring_of(d);

	while (!op->finished) {
		if (reap(r) > 0)
			continue;
		prepare_waiting(r);
		assert(r->busy > 0);
		wait_for_answer(r);
	}
	return op->res;
}

/* ---- life ---- */

static int
ring_fd(struct disk *d)
{
	return ring_of(d)->uring.ring_fd;
}

static int
compare_buffers(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)((const struct iovec *)a)->iov_base;
	uintptr_t y = (uintptr_t)((const struct iovec *)b)->iov_base;

	return (x > y) - (x < y);
}

static int
ring_register_buffers(struct disk *d, const struct iovec *buffers, unsigned count)
{
	struct ring *r = ring_of(d);
	struct iovec *sorted;
	int ret;

	assert(r->buffers == NULL);
	sorted = calloc(count, sizeof *sorted);
	if (sorted == NULL)
		return -ENOMEM;
	memcpy(sorted, buffers, count * sizeof *sorted);
	qsort(sorted, count, sizeof *sorted, compare_buffers);
	ret = io_uring_register_buffers(&r->uring, sorted, count);
	if (ret < 0) {
		free(sorted);
		return ret;
	}
	r->buffers = sorted;
	r->buffers_count = count;
	return 0;
}

static void
ring_destroy(struct disk *d)
{
	struct ring *r = ring_of(d);

	assert(r->unfinished == 0);
	io_uring_queue_exit(&r->uring);
	free(r->buffers);
	r->magic = 0;
	free(r);
}

/* ---- blocking ---- */

static int
open_direct(const char *path, unsigned flags)
{
	int how = O_DIRECT | O_CLOEXEC | O_NOCTTY | (flags & DISK_WRITE ? O_RDWR : O_RDONLY);
	int fd, saved;

	if (flags & DISK_CREATE)
		how |= O_CREAT | O_EXCL;
	do
		fd = open(path, how, 0600);
	while (fd < 0 && errno == EINTR);
	if (fd >= 0)
		return fd;
	saved = errno;
	if (saved != EINVAL)
		return -saved;
	/* The kernel creates first and finds out about O_DIRECT afterwards. */
	if (flags & DISK_CREATE)
		(void)unlink(path);
	return -EOPNOTSUPP;
}

static int
ring_open(struct disk *d, const char *path, unsigned flags, struct disk_file **ret_file)
{
	struct disk_file *f = calloc(1, sizeof *f);

	if (f == NULL)
		return -ENOMEM;
	f->magic = MAGIC_RING_FILE;
	f->fd = open_direct(path, flags);
	if (f->fd < 0) {
		int r = f->fd;

		free(f);
		return r;
	}
	*ret_file = f;
	return 0;
}

static void
ring_close(struct disk *d, struct disk_file *f)
{
	(void)close(fd_of(f)); /* durability was disk_sync()'s matter; the descriptor is gone either way */
	f->magic = 0;
	free(f);
}

static int
ring_size(struct disk *d, struct disk_file *f, uint64_t *ret_bytes)
{
	struct stat st;

	if (fstat(fd_of(f), &st) < 0)
		return -errno;
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

static int
ring_truncate(struct disk *d, struct disk_file *f, uint64_t bytes)
{
	int r;

	do
		r = ftruncate(fd_of(f), (off_t)bytes);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int
allocate_range(struct disk_file *f, int mode, uint64_t offset, uint64_t len)
{
	int r;

	do
		r = fallocate(fd_of(f), mode, (off_t)offset, (off_t)len);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int
ring_allocate(struct disk *d, struct disk_file *f, uint64_t offset, uint64_t len)
{
	return allocate_range(f, 0, offset, len);
}

static int
ring_punch(struct disk *d, struct disk_file *f, uint64_t offset, uint64_t len)
{
	return allocate_range(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len);
}

static int
ring_next_data(struct disk *d, struct disk_file *f, uint64_t from, uint64_t *ret_offset)
{
	off_t at = lseek(fd_of(f), (off_t)from, SEEK_DATA);

	if (at < 0 && errno == ENXIO)
		return ring_size(d, f, ret_offset);
	if (at < 0)
		return -errno;
	*ret_offset = (uint64_t)at;
	return 0;
}

static int
ring_mkdir(struct disk *d, const char *path)
{
	return mkdir(path, 0700) < 0 ? -errno : 0;
}

static int
ring_rename(struct disk *d, const char *from, const char *to)
{
	return rename(from, to) < 0 ? -errno : 0;
}

static int
ring_unlink(struct disk *d, const char *path)
{
	return unlink(path) < 0 ? -errno : 0;
}

static int
ring_rmdir(struct disk *d, const char *path)
{
	return rmdir(path) < 0 ? -errno : 0;
}

static int
ring_sync_dir(struct disk *d, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		r = -errno;
	(void)close(fd);
	return r;
}

static int
is_real_entry(const struct dirent *e)
{
	return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static int
compare_entries(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int
ring_list(struct disk *d, const char *path, void (*each)(void *arg, const char *name), void *arg)
{
	struct dirent **entries;
	int n = scandir(path, &entries, is_real_entry, compare_entries);

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		each(arg, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return 0;
}

static int
ring_free_bytes(struct disk *d, const char *path, uint64_t *ret_bytes)
{
	struct statvfs st;

	if (statvfs(path, &st) < 0)
		return -errno;
	*ret_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}

static const struct disk_ops ring_ops = {
    .register_buffers = ring_register_buffers,
    .fd = ring_fd,
    .submit = ring_submit,
    .drain = ring_drain,
    .wait = ring_wait,
    .destroy = ring_destroy,
    .start = ring_start,
    .open = ring_open,
    .close = ring_close,
    .size = ring_size,
    .truncate = ring_truncate,
    .allocate = ring_allocate,
    .punch = ring_punch,
    .next_data = ring_next_data,
    .mkdir = ring_mkdir,
    .rename = ring_rename,
    .unlink = ring_unlink,
    .rmdir = ring_rmdir,
    .sync_dir = ring_sync_dir,
    .list = ring_list,
    .free_bytes = ring_free_bytes,
};

/* ---- birth ---- */

static int
explain_refusal(struct hf_error *err, int code)
{
	switch (code) {
	case -EPERM:
		return hf_error_set(err, code,
		    "io_uring is not permitted here. Set `sysctl kernel.io_uring_disabled=0` (or 1 "
		    "and "
		    "kernel.io_uring_group to this user's group), and in a container allow "
		    "io_uring_setup, "
		    "io_uring_enter and io_uring_register in its seccomp profile");
	case -ENOSYS:
	case -EINVAL:
		return hf_error_set(err, code,
		    "this kernel has no io_uring, or one without plain reads and writes: Linux "
		    "5.10 or "
		    "newer is needed, or a seccomp profile that does not hide io_uring");
	case -ENOMEM:
		return hf_error_set(err, code,
		    "io_uring cannot lock its memory: raise the memlock limit (LimitMEMLOCK= in "
		    "the unit, "
		    "`ulimit -l`)");
	default: return hf_error_set(err, code, "io_uring cannot be set up");
	}
}

static int
setup(struct ring *r, unsigned depth, unsigned flags)
{
	struct io_uring_params p = {
	    .flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED | flags,
	    .cq_entries = 2 * depth,
	};
	/* A sync holds a kernel thread while it waits for the device, and the block layer merges flushes only of those
	 * that wait together: with a flush of 1 ms, 64 instead of 8 make four times the syncs (docs/journal-layout.md).
	 */
	unsigned workers[2] = {64, 0};
	int ret = io_uring_queue_init_params(depth, &r->uring, &p);

	if (ret < 0)
		return ret;
	(void)io_uring_register_iowq_max_workers(&r->uring, workers); /* 5.15; without it there are 4 per CPU */
	r->depth = depth < p.sq_entries ? depth : p.sq_entries;
	assert(p.cq_entries >= r->depth);
	return 0;
}

/* Completion work runs when this thread enters the kernel anyway, without interrupting it (6.0);
 * older kernels do it the plain way. */
static int
setup_best(struct ring *r, unsigned depth)
{
	int ret = setup(r, depth, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG);

	return ret == -EINVAL ? setup(r, depth, 0) : ret;
}

static bool
knows_operations(struct ring *r)
{
	struct io_uring_probe *p = io_uring_get_probe_ring(&r->uring);
	bool ok = p != NULL && io_uring_opcode_supported(p, IORING_OP_READ) &&
		  io_uring_opcode_supported(p, IORING_OP_WRITE) && io_uring_opcode_supported(p, IORING_OP_READ_FIXED) &&
		  io_uring_opcode_supported(p, IORING_OP_WRITE_FIXED) && io_uring_opcode_supported(p, IORING_OP_FSYNC);

	io_uring_free_probe(p);
	return ok;
}

int
disk_ring_create(unsigned depth, struct disk **ret_disk, struct hf_error *err)
{
	struct ring *r = calloc(1, sizeof *r);
	int ret;

	assert(depth > 0);
	if (r == NULL)
		return hf_error_set(err, -ENOMEM, "io_uring");
	ret = setup_best(r, depth);
	if (ret == 0 && !knows_operations(r)) {
		io_uring_queue_exit(&r->uring);
		ret = -ENOSYS;
	}
	if (ret < 0) {
		free(r);
		return explain_refusal(err, ret);
	}
	r->disk.ops = &ring_ops;
	r->magic = MAGIC_RING;
	r->waiting_end = &r->waiting;
	*ret_disk = &r->disk;
	return 0;
}
