/* SPDX-License-Identifier: Apache-2.0 */
/* reader.h: disks read in large pieces, a few ahead, by threads that give way to whoever else uses
 * the disk. */
#ifndef HF_AGENT_READER_H
#define HF_AGENT_READER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/common/error.h"

enum {
	PIECE_BYTES = 1024 * 1024,
	READER_THREADS = 3, /* one read under way per thread: enough to keep a disk busy, too few to crowd it */
};

/* ---- a disk or image file, open for reading ---- */
struct reader_file {
	int fd;
	bool tells_holes;         /* a regular file: SEEK_DATA proves zeros. What a block device says there
				     proves nothing */
	_Atomic bool direct;      /* O_DIRECT; else buffered, and the cache is dropped behind */
	uint64_t size_bytes;      /* read as if it ended here */
	uint64_t data_from_bytes; /* the extent last found by reader_file_next_data() */
	uint64_t data_to_bytes;
};

/* Open path for direct reads, or buffered ones where direct ones are refused. 0 or -errno. */
int reader_file_open(const char *path, uint64_t size_bytes, struct reader_file *ret_file);

/* Close; a file closed or never opened (fd < 0) is allowed. No read may be under way. */
void reader_file_close(struct reader_file *f);

/* Offset of the first byte at or after offset that may not be zero; size_bytes if all to the end is
 * a hole. Caller's thread only. */
uint64_t reader_file_next_data(struct reader_file *f, uint64_t offset);

/* ---- reading ---- */
struct reader;

/* One read: fill in the first part, submit, wait. Belongs to the reader in between. */
struct read_job {
	struct reader_file *file;
	uint64_t offset;    /* a multiple of 4096 */
	size_t len;         /* a multiple of 4096, at most PIECE_BYTES; what lies beyond file->size_bytes
			       reads as zeros */
	unsigned char *buf; /* aligned to 4096 */

	int result; /* 0, -errno; -ENODATA: the disk ends before size_bytes */
	bool done;
	struct read_job *next;
};

/* Start the threads. limit_bytes: per second, over all files; 0 = none. stop (may be NULL): jobs
 * end with -ECANCELED once it is set. 0 or -errno. */
int reader_create(uint64_t limit_bytes, const atomic_bool *stop, struct reader **ret_reader);

/* Ends the threads. No job may be under way. NULL is allowed. */
void reader_destroy(struct reader *r);

/* Never blocks. Jobs begin in the order submitted. */
void reader_submit(struct reader *r, struct read_job *job);

/* Wait for one job; returns job->result. */
int reader_wait(struct reader *r, struct read_job *job);

/* While urgent (a file system stands frozen) there is no limit and no idle priority. */
void reader_set_urgent(struct reader *r, bool urgent);

/* Bytes read so far, and the time the threads spent reading them (each its own): how fast the disks
 * could be read. */
void reader_get_totals(struct reader *r, uint64_t *ret_bytes, uint64_t *ret_busy_ns);

/* Pieces of memory for jobs: PIECE_BYTES, aligned. Gives; NULL when there is none. */
unsigned char *piece_create(void);
void piece_destroy(unsigned char *piece);

#endif
