/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/common/digest.h"
#include "proto/common/log.h"
#include "proto/common/units.h"

/* ---- files ---- */

static int
open_buffered(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	log_notice("direct_io_refused", "path=%s msg=\"reads go through the page cache\"", path);
	return fd;
}

int
reader_file_open(const char *path, uint64_t size_bytes, struct reader_file *ret_file)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
	bool direct = fd >= 0;
	struct stat st;

	if (fd < 0)
		fd = errno == EINVAL ? open_buffered(path) : -errno;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	*ret_file = (struct reader_file){
	    .fd = fd, .direct = direct, .tells_holes = S_ISREG(st.st_mode), .size_bytes = size_bytes};
	return 0;
}

void
reader_file_close(struct reader_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

/* On any doubt the answer is "here": data that is read needlessly costs time, data that is not read
 * costs the copy. */
uint64_t
reader_file_next_data(struct reader_file *f, uint64_t offset)
{
	off_t data, hole;

	if (!f->tells_holes || offset >= f->size_bytes)
		return offset < f->size_bytes ? offset : f->size_bytes;
	if (offset >= f->data_from_bytes && offset < f->data_to_bytes)
		return offset;
	data = lseek(f->fd, (off_t)offset, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? f->size_bytes : offset;
	hole = lseek(f->fd, data, SEEK_HOLE);
	f->data_from_bytes = (uint64_t)data;
	f->data_to_bytes = hole > data ? (uint64_t)hole : (uint64_t)data + 1;
	return (uint64_t)data < f->size_bytes ? (uint64_t)data : f->size_bytes;
}

/* The file system took O_DIRECT at open but refuses this read: go on without, for good. */
static void
become_buffered(struct reader_file *f)
{
	int flags = fcntl(f->fd, F_GETFL);

	if (flags >= 0 && fcntl(f->fd, F_SETFL, flags & ~O_DIRECT) == 0 && atomic_exchange(&f->direct, false))
		log_notice("direct_io_refused", "fd=%d msg=\"reads go through the page cache\"", f->fd);
}

/* Read what exists of [offset, offset + len); the end of the file may come early. Returns bytes
 * read or -errno. */
static ssize_t
read_some(struct reader_file *f, unsigned char *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(f->fd, buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL && f->direct) {
			become_buffered(f);
			continue;
		}
		if (n < 0)
			return -errno;
		done += (size_t)n;
		if (n == 0 || done % BLOCK_BYTES != 0)
			break; /* only the end of a file is not a multiple of a block */
	}
	return (ssize_t)done;
}

static int
read_piece(const struct read_job *job)
{
	struct reader_file *f = job->file;
	uint64_t left = f->size_bytes - job->offset;
	size_t want = left < job->len ? (size_t)left : job->len;
	ssize_t n = read_some(f, job->buf, job->len, job->offset);

	if (n < 0)
		return (int)n;
	if ((size_t)n < want)
		return -ENODATA;
	/* A file that has grown since shows bytes beyond its declared end: they are not part of the
	 * volume yet. */
	memset(job->buf + want, 0, job->len - want);
	if (!f->direct)
		(void)posix_fadvise(f->fd, (off_t)job->offset, (off_t)job->len, POSIX_FADV_DONTNEED); /* a courtesy */
	return 0;
}

/* ---- threads ---- */

struct reader {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* anything below */
	struct read_job *first, **last;
	bool ending, urgent;
	const atomic_bool *stop;

	/* A bucket of bytes that may be read now: filled limit_bytes a second, at most a tenth of a
	 * second's worth (or one piece). */
	uint64_t limit_bytes;
	int64_t tokens, filled_ns;

	uint64_t read_bytes, busy_ns;
	int thread_count;
	pthread_t threads[READER_THREADS];
};

static bool
is_stopped(const struct reader *r)
{
	return r->stop != NULL && atomic_load(r->stop);
}

static void
wait_a_while(struct reader *r, int64_t ns)
{
	struct timespec t;
	int64_t until_ns = clock_monotonic_ns() + ns;

	t.tv_sec = until_ns / NS_PER_SECOND;
	t.tv_nsec = until_ns % NS_PER_SECOND;
	pthread_cond_timedwait(&r->changed, &r->lock, &t);
}

static void
fill_bucket(struct reader *r)
{
	int64_t now_ns = clock_monotonic_ns();
	int64_t most = (int64_t)r->limit_bytes / 10;

	if (most < PIECE_BYTES)
		most = PIECE_BYTES;
	r->tokens += (int64_t)((double)(now_ns - r->filled_ns) * (double)r->limit_bytes / NS_PER_SECOND);
	if (r->tokens > most)
		r->tokens = most;
	r->filled_ns = now_ns;
}

/* Wait until len bytes may be read. The bucket may go into debt by one piece, so a limit below a
 * piece a second works too. */
static void
take_tokens(struct reader *r, size_t len)
{
	if (r->limit_bytes == 0)
		return;
	fill_bucket(r);
	while (r->tokens <= 0 && !r->urgent && !r->ending && !is_stopped(r)) {
		int64_t ns = (int64_t)((double)(1 - r->tokens) * NS_PER_SECOND / (double)r->limit_bytes);

		wait_a_while(r, ns < NS_PER_SECOND / 5 ? ns + 1 : NS_PER_SECOND / 5);
		fill_bucket(r);
	}
	if (!r->urgent)
		r->tokens -= (int64_t)len;
}

static void
set_priority(bool urgent)
{
	int class = urgent ? IOPRIO_CLASS_BE : IOPRIO_CLASS_IDLE;

	/* 0 = the calling thread. Where no scheduler listens this changes nothing. */
	(void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(class, urgent ? 4 : 7));
}

static struct read_job *
next_job(struct reader *r)
{
	struct read_job *job;

	while (r->first == NULL && !r->ending)
		pthread_cond_wait(&r->changed, &r->lock);
	job = r->first;
	if (job == NULL)
		return NULL;
	r->first = job->next;
	if (r->first == NULL)
		r->last = &r->first;
	return job;
}

static void
finish_job(struct reader *r, struct read_job *job, int result, int64_t busy_ns)
{
	if (result == 0)
		r->read_bytes += job->len;
	r->busy_ns += (uint64_t)busy_ns;
	job->result = result;
	job->done = true;
	pthread_cond_broadcast(&r->changed);
}

static void *
run_reader(void *arg)
{
	struct reader *r = arg;
	struct read_job *job;
	bool urgent = false;

	set_priority(urgent);
	pthread_mutex_lock(&r->lock);
	while ((job = next_job(r)) != NULL) {
		int64_t start_ns;
		int result;

		take_tokens(r, job->len);
		if (urgent != r->urgent) {
			urgent = r->urgent;
			set_priority(urgent);
		}
		pthread_mutex_unlock(&r->lock);
		start_ns = clock_monotonic_ns();
		result = is_stopped(r) ? -ECANCELED : read_piece(job);
		pthread_mutex_lock(&r->lock);
		finish_job(r, job, result, clock_monotonic_ns() - start_ns);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

static void
init_lock(struct reader *r)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->changed, &attr);
	pthread_condattr_destroy(&attr);
}

int
reader_create(uint64_t limit_bytes, const atomic_bool *stop, struct reader **ret_reader)
{
	struct reader *r = calloc(1, sizeof *r);

	if (r == NULL)
		return -ENOMEM;
	init_lock(r);
	r->last = &r->first;
	r->limit_bytes = limit_bytes;
	r->stop = stop;
	r->filled_ns = clock_monotonic_ns();
	while (r->thread_count < READER_THREADS) {
		int e = pthread_create(&r->threads[r->thread_count], NULL, run_reader, r);

		if (e != 0) {
			reader_destroy(r);
			return -e;
		}
		r->thread_count++;
	}
	*ret_reader = r;
	return 0;
}

void
reader_destroy(struct reader *r)
{
	if (r == NULL)
		return;
	pthread_mutex_lock(&r->lock);
	r->ending = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	for (int i = 0; i < r->thread_count; i++)
		pthread_join(r->threads[i], NULL);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void
reader_submit(struct reader *r, struct read_job *job)
{
	job->done = false;
	job->next = NULL;
	pthread_mutex_lock(&r->lock);
	*r->last = job;
	r->last = &job->next;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

int
reader_wait(struct reader *r, struct read_job *job)
{
	pthread_mutex_lock(&r->lock);
	while (!job->done)
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
	return job->result;
}

void
reader_set_urgent(struct reader *r, bool urgent)
{
	pthread_mutex_lock(&r->lock);
	r->urgent = urgent;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

void
reader_get_totals(struct reader *r, uint64_t *ret_bytes, uint64_t *ret_busy_ns)
{
	pthread_mutex_lock(&r->lock);
	*ret_bytes = r->read_bytes;
	*ret_busy_ns = r->busy_ns;
	pthread_mutex_unlock(&r->lock);
}

unsigned char *
piece_create(void)
{
	return aligned_alloc(BLOCK_BYTES, PIECE_BYTES);
}

void
piece_destroy(unsigned char *piece)
{
	free(piece);
}
