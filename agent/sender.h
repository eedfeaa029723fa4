/* SPDX-License-Identifier: Apache-2.0 */
/* sender.h: gathers extents into data frames, as many as fit, and queues them on the link. */
#ifndef HF_AGENT_SENDER_H
#define HF_AGENT_SENDER_H

#include "agent/link.h"

struct sender;

/* Borrows l. NULL if there is no memory. */
struct sender *sender_create(struct link *l);

/* What was not flushed is lost. NULL is allowed. */
void sender_destroy(struct sender *s);

/* Forget what was not flushed: after an error, before a new stream. */
void sender_reset(struct sender *s);

/* Add an extent; for kinds with payload, blocks (count * 4096 bytes) and one digest per block.
 * Borrows until it returns. Fill extents of a volume are given in order and without gaps. May block
 * as link_send_data(). 0, -HF_ESTREAM, -ECANCELED. */
int sender_add(struct sender *s, uint32_t volume, enum extent_kind kind, uint64_t block, uint64_t count,
    const void *blocks, const uint64_t *digests);

/* Queue what has been gathered. Returns as link_send_data(). */
int sender_flush(struct sender *s);

#endif
