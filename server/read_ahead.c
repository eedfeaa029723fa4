/* SPDX-License-Identifier: Apache-2.0 */
#include "server/read_ahead.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { SPARES_MAX = 4 };

struct buffer {
	struct buffer *next;
	unsigned char bytes[READ_AHEAD_BYTES];
};

struct read_ahead {
	int fd;
	bool ended, drained;
	struct buffer *buffer; /* NULL when empty */
	size_t begin, end;
};

/* ---- buffers ---- */

static _Thread_local struct buffer *spares;
static _Thread_local unsigned spare_count;

static struct buffer *
buffer_get(void)
{
	struct buffer *b = spares;

	if (b == NULL)
		return malloc(sizeof *b);
	spares = b->next;
	spare_count--;
	return b;
}

static void
buffer_put(struct buffer *b)
{
	if (spare_count == SPARES_MAX) {
		free(b);
		return;
	}
	b->next = spares;
	spares = b;
	spare_count++;
}

void
read_ahead_end_thread(void)
{
	while (spares != NULL)
		free(buffer_get());
}

/* ---- the BIO ---- */

/* 1, 0 at the end, or -1 with errno. */
static int
fill(struct read_ahead *a)
{
	struct buffer *b;
	ssize_t n;

	if (a->drained) { /* the last time there was less than we had room for: do not ask at once again */
		a->drained = false;
		errno = EAGAIN;
		return -1;
	}
	b = buffer_get();
	if (b == NULL) {
		errno = ENOMEM;
		return -1;
	}
	do
		n = recv(a->fd, b->bytes, sizeof b->bytes, 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0) {
		int saved = errno;

		buffer_put(b);
		errno = saved;
		return (int)n;
	}
	a->drained = (size_t)n < sizeof b->bytes;
	a->buffer = b;
	a->begin = 0;
	a->end = (size_t)n;
	return 1;
}

static int
on_read(BIO *bio, char *out, size_t size, size_t *ret_len)
{
	struct read_ahead *a = BIO_get_data(bio);
	size_t n;

	BIO_clear_retry_flags(bio);
	if (a->buffer == NULL) {
		int r = fill(a);

		a->ended = r == 0;
		if (r < 0 && errno == EAGAIN)
			BIO_set_retry_read(bio);
		if (r <= 0)
			return r;
	}
	n = a->end - a->begin < size ? a->end - a->begin : size;
	memcpy(out, a->buffer->bytes + a->begin, n);
	a->begin += n;
	if (a->begin == a->end) {
		buffer_put(a->buffer);
		a->buffer = NULL;
		a->begin = a->end = 0;
	}
	*ret_len = n;
	return 1;
}

static long
on_control(BIO *bio, int command, long number, void *arg)
{
	struct read_ahead *a = BIO_get_data(bio);

	switch (command) {
	case BIO_CTRL_PENDING: return (long)(a->end - a->begin);
	case BIO_CTRL_EOF: return a->ended;
	default: return 0;
	}
}

static int
on_destroy(BIO *bio)
{
	struct read_ahead *a = BIO_get_data(bio);

	if (a != NULL && a->buffer != NULL)
		buffer_put(a->buffer);
	free(a);
	return 1;
}

/* ---- life ---- */

static BIO_METHOD *method;

/* Once per process, never freed: connections are made until it ends. */
static void
make_method(void)
{
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "read ahead");
	if (method == NULL)
		return;
	BIO_meth_set_read_ex(method, on_read);
	BIO_meth_set_ctrl(method, on_control);
	BIO_meth_set_destroy(method, on_destroy);
}

BIO *
read_ahead_create(int fd)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct read_ahead *a = calloc(1, sizeof *a);
	BIO *bio;

	pthread_once(&once, make_method);
	bio = a != NULL && method != NULL ? BIO_new(method) : NULL;
	if (bio == NULL) {
		free(a);
		return NULL;
	}
	a->fd = fd;
	BIO_set_data(bio, a);
	BIO_set_init(bio, 1);
	return bio;
}
