/* SPDX-License-Identifier: Apache-2.0 */
/* slab.h: the memory that payload is decrypted into and written from. One pool a worker, allocated and pre-faulted
 * once, registered with the ring. A slab: head room for the group's descriptor, then payload. */
#ifndef HF_STORAGE_SLAB_H
#define HF_STORAGE_SLAB_H

#include "storage/disk.h"

enum {
	SLAB_HEAD_BYTES = 128 * 1024,         /* longest descriptor of a group, and a segment header before it */
	SLAB_PAYLOAD_BYTES = 2 * 1024 * 1024, /* at least one frame's payload (1 MiB) */
};

struct slab {
	struct slab *next;      /* free list, or the holder's */
	unsigned char *head;    /* SLAB_HEAD_BYTES */
	unsigned char *payload; /* SLAB_PAYLOAD_BYTES, right behind head */
};

struct slabs;

/* A pool of `count` slabs, registered with d if that is possible (*ret_registered; may be NULL). -ENOMEM. */
int slabs_create(struct disk *d, unsigned count, struct slabs **ret_slabs, bool *ret_registered);
void slabs_destroy(struct slabs *p); /* all slabs must be back. NULL allowed */

struct slab *slab_get(struct slabs *p); /* NULL: none free; see slabs_wait() */
void slab_put(struct slabs *p, struct slab *slab);

/* Have wake(arg) called, once, when a slab comes back: in the order of asking, from inside slab_put(). It may call
 * slab_get(), and slabs_wait() again. The waiter is embedded by the caller. */
struct slab_waiter {
	struct slab_waiter *prev, *next;
	void (*wake)(void *arg);
	void *arg;
	bool waiting;
};
void slabs_wait(struct slabs *p, struct slab_waiter *w);
void slabs_forget(struct slabs *p, struct slab_waiter *w); /* legal when not waiting */

#endif
