/* SPDX-License-Identifier: Apache-2.0 */
/* mailbox.h: how one thread hands something to another thread's loop. Any thread posts; the loop the mailbox was made
 * on delivers, in the order of posting. The mail is embedded in what travels, so posting allocates nothing and cannot
 * fail. */
#ifndef HF_SERVER_MAILBOX_H
#define HF_SERVER_MAILBOX_H

#include <stdbool.h>

struct event_base;
struct mailbox;

struct mail {
	struct mail *next;
	void (*deliver)(struct mail *mail); /* on the receiver's loop; may free or post the mail again */
};

/* -errno. The mailbox is delivered while base's loop runs. */
int mailbox_create(struct event_base *base, struct mailbox **ret_mailbox);

/* Any thread. Takes mail until it is delivered. Does not block beyond a lock held for a few instructions. */
void mailbox_post(struct mailbox *m, struct mail *mail);

/* Loop's thread: deliver what is there now, without waiting for the loop. Returns true if there was any. */
bool mailbox_drain(struct mailbox *m);

/* Loop's thread, nobody posts any more. What was not delivered stays so. NULL is allowed. */
void mailbox_destroy(struct mailbox *m);

#endif
