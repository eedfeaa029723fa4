/* SPDX-License-Identifier: Apache-2.0 */
/* shared.h: an array that its owner has shown to others, and that nobody changes any more: whoever lets go of it last
 * frees it. An owner keeps a `struct shared *` beside his array, NULL as long as it is his alone. */
#ifndef HF_STORAGE_SHARED_H
#define HF_STORAGE_SHARED_H

struct shared;

/* [owner] Shares. A reference to the array (from malloc()) for somebody else. NULL: no memory; it is as it was. */
struct shared *shared_show(struct shared **own, void *array);

/* [owner] Done with the array; *own is NULL after that. */
void shared_drop(struct shared **own, void *array);

/* Any thread. NULL allowed. */
struct shared *shared_ref(struct shared *s);
void shared_unref(struct shared *s);

#endif
