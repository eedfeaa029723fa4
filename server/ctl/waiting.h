/* SPDX-License-Identifier: Apache-2.0 */
/* waiting.h: --wait: to watch what the server goes on with by itself. */
#ifndef HF_CTL_WAITING_H
#define HF_CTL_WAITING_H

#include "server/ctl/ctl.h"

struct waiting {
	uint64_t done_bytes, total_bytes; /* total 0: not known yet */
	bool is_over;
};

/* How far is it? EXIT_DONE, or what ends the waiting. */
typedef int waiting_look(void *arg, struct ctl *ctl, struct waiting *ret_waiting);

/* Look a few times a second, and show the progress, until it is over. EXIT_DONE; look()'s code; EXIT_INTERRUPTED: what
 * was begun goes on, and that is said. */
int wait_until_over(struct ctl *ctl, const char *title, waiting_look *look, void *arg);

#endif
