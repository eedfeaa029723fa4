/* SPDX-License-Identifier: Apache-2.0 */
/* jobs.h: threads for work that blocks. A queue, first in first out, and one or more threads that each have a disk and
 * a cache of run pages of their own. A job is embedded in what it is about; when it has run, the loop that posted it
 * hears of it through its mailbox. */
#ifndef HF_SERVER_JOBS_H
#define HF_SERVER_JOBS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/common/error.h"
#include "server/mailbox.h"

struct disk;
struct jobs;
struct run_cache;

struct job {
	/* set by the poster */
	void (*run)(struct job *job, struct disk *d, struct run_cache *cache); /* on a thread of the queue; may block */
	void (*done)(struct job *job); /* on home's loop, exactly once, after run; may free or post the job again */
	struct mailbox *home;          /* NULL: nobody hears of it, run() is the last to touch the job */
	/* private */
	struct job *next;
	struct mail mail;
};

/* Start `threads` threads (1..8) named name. cache_bytes: of each thread's run cache; 0 = run() gets NULL. */
int jobs_create(const char *name, unsigned threads, size_t cache_bytes, struct jobs **ret_jobs, struct hf_error *err);

/* Any thread. Takes job until done() is called (or run() returns, without a home). */
void jobs_post(struct jobs *j, struct job *job);

/* Grows for as long as the first thread goes on: with nothing to do, with every job, and with every wait of a job for
 * its disk. Any thread. */
uint64_t jobs_turns(const struct jobs *j);

/* Run what is queued, then end the threads and wait for them. Nobody posts any more. NULL is allowed. */
void jobs_destroy(struct jobs *j);

#endif
