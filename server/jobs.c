/* SPDX-License-Identifier: Apache-2.0 */
#include "server/jobs.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include "proto/common/units.h"
#include "server/limits.h"
#include "storage/disk.h"
#include "storage/run.h"

enum { THREADS_MAX = 8 };

/* How long one that has nothing to do waits at a time. */
#define IDLE_TURN_NS (NS_PER_SECOND / 2)

struct job_thread {
	struct jobs *jobs;
	pthread_t thread;
	struct disk *disk;
	_Atomic uint64_t turns; /* of wait_for_job() */
	sem_t started;          /* then disk, status and err are known */
	int status;
	struct hf_error err;
};

struct jobs {
	pthread_mutex_t lock; /* over the queue and ending */
	pthread_cond_t more;
	struct job *head, **tail;
	bool ending;
	size_t cache_bytes;
	unsigned thread_count; /* begun */
	struct job_thread threads[THREADS_MAX];
};

static void
deliver_job(struct mail *mail)
{
	struct job *job = (struct job *)((char *)mail - offsetof(struct job, mail));

	job->done(job);
}

/* For more to do, but not for long: one that waits shows that it lives. */
static void
wait_a_turn(struct jobs *j)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += IDLE_TURN_NS;
	until.tv_sec += until.tv_nsec / NS_PER_SECOND;
	until.tv_nsec %= NS_PER_SECOND;
	pthread_cond_timedwait(&j->more, &j->lock, &until);
}

/* The next job; NULL when the queue is empty and ending. */
static struct job *
wait_for_job(struct job_thread *t)
{
	struct jobs *j = t->jobs;
	struct job *job;

	pthread_mutex_lock(&j->lock);
	while (j->head == NULL && !j->ending) {
		atomic_fetch_add(&t->turns, 1);
		wait_a_turn(j);
	}
	atomic_fetch_add(&t->turns, 1);
	job = j->head;
	if (job != NULL) {
		j->head = job->next;
		if (j->head == NULL)
			j->tail = &j->head;
	}
	pthread_mutex_unlock(&j->lock);
	return job;
}

static void
work(struct job_thread *t, struct disk *d, struct run_cache *cache)
{
	struct job *job;

	while ((job = wait_for_job(t)) != NULL) {
		struct mailbox *home = job->home; /* without a home the job is gone after run() */

		job->run(job, d, cache);
		if (home != NULL) {
			job->mail.deliver = deliver_job;
			mailbox_post(home, &job->mail);
		}
	}
}

/* A ring is used by the thread that made it, so each thread makes its own. */
static void *
run_thread(void *arg)
{
	struct job_thread *t = arg;
	struct run_cache *cache = NULL;
	struct disk *d = NULL;
	int r;

	r = disk_ring_create(JOB_RING_DEPTH, &d, &t->err);
	if (r == 0 && t->jobs->cache_bytes > 0) {
		r = run_cache_create(t->jobs->cache_bytes, &cache);
		if (r < 0)
			hf_error_set(&t->err, r, "a cache of run pages");
	}
	t->disk = d;
	t->status = r;
	sem_post(&t->started);
	if (r == 0)
		work(t, d, cache);
	if (cache != NULL)
		run_cache_destroy(cache);
	disk_destroy(d);
	return NULL;
}

static int
start_thread(struct jobs *j, const char *name, struct hf_error *err)
{
	struct job_thread *t = &j->threads[j->thread_count];
	int r;

	t->jobs = j;
	sem_init(&t->started, 0, 0);
	r = -pthread_create(&t->thread, NULL, run_thread, t);
	if (r < 0)
		return hf_error_set(err, r, "thread %s", name);
	j->thread_count++;
	pthread_setname_np(t->thread, name); /* for top and gdb; a name too long is no loss */
	sem_wait(&t->started);
	if (t->status < 0 && err != NULL)
		*err = t->err;
	return t->status;
}

/* Waits for it go by the clock that nobody sets. */
static void
init_condition(pthread_cond_t *condition)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(condition, &attributes);
	pthread_condattr_destroy(&attributes);
}

int
jobs_create(const char *name, unsigned threads, size_t cache_bytes, struct jobs **ret_jobs, struct hf_error *err)
{
	struct jobs *j = calloc(1, sizeof *j);
	int r = 0;

	assert(threads >= 1 && threads <= THREADS_MAX);
	if (j == NULL)
		return hf_error_set(err, -ENOMEM, "thread %s", name);
	pthread_mutex_init(&j->lock, NULL);
	init_condition(&j->more);
	j->cache_bytes = cache_bytes;
	j->tail = &j->head;
	while (r == 0 && j->thread_count < threads)
		r = start_thread(j, name, err);
	if (r < 0) {
		jobs_destroy(j);
		return r;
	}
	*ret_jobs = j;
	return 0;
}

void
jobs_post(struct jobs *j, struct job *job)
{
	assert(job->run != NULL && (job->home == NULL || job->done != NULL));
	job->next = NULL;
	pthread_mutex_lock(&j->lock);
	*j->tail = job;
	j->tail = &job->next;
	pthread_cond_signal(&j->more);
	pthread_mutex_unlock(&j->lock);
}

uint64_t
jobs_turns(const struct jobs *j)
{
	const struct job_thread *t = &j->threads[0];

	return atomic_load(&t->turns) + disk_turns(t->disk);
}

void
jobs_destroy(struct jobs *j)
{
	if (j == NULL)
		return;
	pthread_mutex_lock(&j->lock);
	j->ending = true;
	pthread_cond_broadcast(&j->more);
	pthread_mutex_unlock(&j->lock);
	for (unsigned i = 0; i < j->thread_count; i++)
		pthread_join(j->threads[i].thread, NULL);
	pthread_cond_destroy(&j->more);
	pthread_mutex_destroy(&j->lock);
	free(j);
}
