/* SPDX-License-Identifier: Apache-2.0 */
/* disk.h: the one way to files. Asynchronous, with two implementations: io_uring (disk_ring.c) and a
 * simulated disk that loses, tears and reorders whatever was not synced (disk_sim.c).
 *
 * A disk belongs to one thread. A file opened through one disk may be used through any disk of the same
 * implementation (ring: any ring; simulated: one simulated machine has one disk). The caller embeds a
 * disk_op per request; submission and completion allocate nothing. A callback runs exactly once, from
 * disk_drain() or disk_wait(), never inside the call that submitted.
 *
 * Straight-line code (recovery, fold, export, catalogue of files) waits for each op with disk_wait(); the
 * data path never does.
 *
 * Reads and writes are direct I/O: buf, len and offset are multiples of 4096. Short transfers are continued
 * inside; no progress is -EIO; EAGAIN and EINTR are retried a bounded number of times. */
#ifndef HF_STORAGE_DISK_H
#define HF_STORAGE_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "proto/common/error.h"

struct disk;
struct disk_file;

/* res: 0 (reads: bytes read, less than asked only at end of file) or -errno. */
typedef void disk_cb(void *arg, int res);

struct disk_op {
	/* set by the caller before submission; cb may be NULL if disk_wait() is used */
	disk_cb *cb;
	void *arg;
	/* private to the implementation */
	struct disk_file *file;
	struct disk_op *next;
	char *buf;
	size_t len, done;
	uint64_t offset;
	int kind, retries, res;
	bool finished;
};

enum { DISK_ALIGN = 4096 };

enum disk_open_flag {
	DISK_READ = 1 << 0,
	DISK_WRITE = 1 << 1,  /* implies READ */
	DISK_CREATE = 1 << 2, /* must not exist; -EEXIST. Mode 0600 */
};

/* ---- a disk ---- */

/* A ring with room for `depth` operations in flight; more wait inside, in order. It belongs to the thread that submits
 * first, which need not be the one that creates it. Fails with the reason and the setting to change when io_uring is
 * not permitted. */
int disk_ring_create(unsigned depth, struct disk **ret_disk, struct hf_error *err);

/* Register memory that will be used for reads and writes (once per disk). -ENOMEM (memlock): harmless, I/O then
 * goes unregistered. The simulated disk accepts and ignores it. */
int disk_register_buffers(struct disk *d, const struct iovec *buffers, unsigned count);

/* Descriptor that polls readable when disk_drain() has something to do; -1 for the simulated disk. */
int disk_fd(struct disk *d);

/* Hand submissions to the kernel. Call once per loop turn; disk_wait() does it itself. */
void disk_submit(struct disk *d);

/* Run the callbacks of everything completed so far. Does not block. Returns their number. */
int disk_drain(struct disk *d);

/* Block until op is finished, running other callbacks meanwhile. op must outlive its callback. Returns op's result. */
int disk_wait(struct disk *d, struct disk_op *op);

/* How often straight-line code has waited for this disk so far, and was answered: whoever looks twice sees whether it
 * goes on. Any thread. */
uint64_t disk_turns(const struct disk *d);

/* Nothing may be in flight. NULL is allowed. */
void disk_destroy(struct disk *d);

/* ---- asynchronous ---- */
void disk_read(struct disk *d, struct disk_op *op, struct disk_file *f, void *buf, size_t len, uint64_t offset);
void disk_write(struct disk *d, struct disk_op *op, struct disk_file *f, const void *buf, size_t len, uint64_t offset);

/* fdatasync: what was complete before submission is durable when this completes with 0. */
void disk_sync(struct disk *d, struct disk_op *op, struct disk_file *f);

/* ---- blocking, for everything off the data path. 0 or -errno unless said otherwise ---- */
int disk_open(struct disk *d, const char *path, unsigned flags, struct disk_file **ret_file);
void disk_close(struct disk *d, struct disk_file *f); /* NULL allowed */
int disk_size(struct disk *d, struct disk_file *f, uint64_t *ret_bytes);
int disk_truncate(struct disk *d, struct disk_file *f, uint64_t bytes);
int disk_allocate(struct disk *d, struct disk_file *f, uint64_t offset, uint64_t len); /* fallocate, grows the file */
int disk_punch(struct disk *d, struct disk_file *f, uint64_t offset, uint64_t len);    /* reads as zeros; keeps size */

/* First offset >= from that may hold data (SEEK_DATA); the file's size if there is none. */
int disk_next_data(struct disk *d, struct disk_file *f, uint64_t from, uint64_t *ret_offset);

int disk_mkdir(struct disk *d, const char *path); /* 0700; -EEXIST */
int disk_rename(struct disk *d, const char *from, const char *to);
int disk_unlink(struct disk *d, const char *path);   /* -EISDIR */
int disk_rmdir(struct disk *d, const char *path);    /* -ENOTEMPTY */
int disk_sync_dir(struct disk *d, const char *path); /* makes creations, renames, unlinks in it durable */

/* Call each(arg, name) for every entry of the directory but "." and "..", in byte order of names. */
int disk_list(struct disk *d, const char *path, void (*each)(void *arg, const char *name), void *arg);

/* Bytes an ordinary user may still write to the file system that holds path. */
int disk_free_bytes(struct disk *d, const char *path, uint64_t *ret_bytes);

/* Convenience: submit and wait. disk_read_now() fails with -EIO on a short read. */
int disk_read_now(struct disk *d, struct disk_file *f, void *buf, size_t len, uint64_t offset);
int disk_write_now(struct disk *d, struct disk_file *f, const void *buf, size_t len, uint64_t offset);
int disk_sync_now(struct disk *d, struct disk_file *f);

/* ---- memory for I/O ---- */
/* len bytes, zeroed, aligned to DISK_ALIGN (2 MiB when len >= 2 MiB) and pre-faulted; NULL when out of memory. Free
 * with buffer_free(). */
void *buffer_alloc(size_t len);
void buffer_free(void *buf, size_t len);

#endif
