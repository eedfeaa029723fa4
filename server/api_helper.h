/* SPDX-License-Identifier: Apache-2.0 */
/* api_helper.h: one thread that does what the control sockets ask of the registry, because SQLite
 * blocks. Jobs run in order. */
#ifndef HF_SERVER_API_HELPER_H
#define HF_SERVER_API_HELPER_H

#include <stdbool.h>
#include <sys/queue.h>

struct event_base;
struct helper;

enum { HELPER_JOBS_MAX = 256 };

struct helper_job { /* embedded in the caller's; the caller keeps it alive until done() */
	STAILQ_ENTRY(helper_job) link;
	void (*work)(struct helper_job *job); /* on the thread; may block */
	void (*done)(struct helper_job *job); /* on the loop; exactly once if posted */
	bool cancelled;                       /* work() did not run: the helper stopped */
};

/* Start the thread; done() is called on base. 0 or -errno. */
int helper_start(struct event_base *base, struct helper **ret_helper);

/* Let the job under way end, cancel the others, call every done(), free. NULL allowed. Blocks for
 * one job. */
void helper_stop(struct helper *h);

/* 0, or -EAGAIN: HELPER_JOBS_MAX wait already; then done() never runs. */
int helper_post(struct helper *h, struct helper_job *job);

#endif
