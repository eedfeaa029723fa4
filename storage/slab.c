/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/slab.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { STRIDE_BYTES = SLAB_HEAD_BYTES + SLAB_PAYLOAD_BYTES };

_Static_assert(SLAB_HEAD_BYTES % DISK_ALIGN == 0, "payload must be aligned for direct I/O");
_Static_assert(SLAB_PAYLOAD_BYTES % DISK_ALIGN == 0, "the next slab must be aligned for direct I/O");

/* The kernel takes at most 1 GiB in one registered buffer; few large ones register faster than many
 * small. */
static const size_t REGISTER_BYTES_MAX = (size_t)1 << 30;

struct slabs {
	unsigned char *memory; /* count slabs, STRIDE_BYTES apart */
	struct slab *slabs;
	unsigned count, free_count;
	struct slab *free;
	struct slab_waiter *first, *last; /* in the order of asking */
	unsigned waiter_count;
};

static size_t
memory_bytes(const struct slabs *p)
{
	return (size_t)p->count * STRIDE_BYTES;
}

static void
fill_free_list(struct slabs *p)
{
	for (unsigned i = p->count; i-- > 0;) {
		struct slab *slab = &p->slabs[i];

		slab->head = p->memory + (size_t)i * STRIDE_BYTES;
		slab->payload = slab->head + SLAB_HEAD_BYTES;
		slab->next = p->free;
		p->free = slab;
	}
	p->free_count = p->count;
}

/* No buffer ends inside a slab: a write from it must lie in one registered buffer. */
static int
register_memory(const struct slabs *p, struct disk *d)
{
	size_t piece = REGISTER_BYTES_MAX / STRIDE_BYTES * STRIDE_BYTES;
	size_t left = memory_bytes(p);
	unsigned n = (unsigned)((left + piece - 1) / piece);
	struct iovec *buffers = calloc(n, sizeof *buffers);
	int r;

	if (buffers == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		buffers[i].iov_base = p->memory + i * piece;
		buffers[i].iov_len = left < piece ? left : piece;
		left -= buffers[i].iov_len;
	}
	r = disk_register_buffers(d, buffers, n);
	free(buffers);
	return r;
}

static void
release(struct slabs *p)
{
	buffer_free(p->memory, memory_bytes(p));
	free(p->slabs);
	free(p);
}

int
slabs_create(struct disk *d, unsigned count, struct slabs **ret_slabs, bool *ret_registered)
{
	struct slabs *p;
	int r;

	assert(count > 0);
	p = calloc(1, sizeof *p);
	if (p == NULL)
		return -ENOMEM;
	p->count = count;
	p->memory = buffer_alloc(memory_bytes(p));
	p->slabs = calloc(count, sizeof *p->slabs);
	if (p->memory == NULL || p->slabs == NULL) {
		release(p);
		return -ENOMEM;
	}
	fill_free_list(p);
	r = register_memory(p, d);
	if (ret_registered != NULL)
		*ret_registered = r == 0;
	*ret_slabs = p;
	return 0;
}

void
slabs_destroy(struct slabs *p)
{
	if (p == NULL)
		return;
	assert(p->free_count == p->count);
	assert(p->first == NULL);
	release(p);
}

struct slab *
slab_get(struct slabs *p)
{
	struct slab *slab = p->free;

	if (slab == NULL)
		return NULL;
	p->free = slab->next;
	p->free_count--;
	slab->next = NULL;
	return slab;
}

static struct slab_waiter *
take_first_waiter(struct slabs *p)
{
	struct slab_waiter *w = p->first;

	slabs_forget(p, w);
	return w;
}

/* A waiter that no longer wants a slab must not cost the next one its turn, so all are woken while
 * slabs are left; one that asks again meanwhile waits for the next slab, or two of them would wake
 * each other for ever. */
static void
wake_waiters(struct slabs *p)
{
	for (unsigned n = p->waiter_count; n > 0 && p->free != NULL && p->first != NULL; n--) {
		struct slab_waiter *w = take_first_waiter(p);

		w->wake(w->arg);
	}
}

void
slab_put(struct slabs *p, struct slab *slab)
{
	assert(slab >= p->slabs && slab < p->slabs + p->count);
	assert(p->free_count < p->count);
	slab->next = p->free;
	p->free = slab;
	p->free_count++;
	wake_waiters(p);
}

void
slabs_wait(struct slabs *p, struct slab_waiter *w)
{
	assert(w->wake != NULL);
	if (w->waiting)
		return;
	w->waiting = true;
	w->next = NULL;
	w->prev = p->last;
	if (p->last != NULL)
		p->last->next = w;
	else
		p->first = w;
	p->last = w;
	p->waiter_count++;
}

void
slabs_forget(struct slabs *p, struct slab_waiter *w)
{
	if (!w->waiting)
		return;
	if (w->prev != NULL)
		w->prev->next = w->next;
	else
		p->first = w->next;
	if (w->next != NULL)
		w->next->prev = w->prev;
	else
		p->last = w->prev;
	w->prev = w->next = NULL;
	w->waiting = false;
	p->waiter_count--;
}
