/* SPDX-License-Identifier: Apache-2.0 */
#include "server/api_helper.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>

STAILQ_HEAD(job_list, helper_job);

struct helper {
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t wake;
	struct job_list waiting, finished;
	unsigned waiting_count;
	bool stopping;

	int finished_fd; /* eventfd: a hint that finished is not empty */
	struct event *finished_event;
};

static void
tell_finished(struct helper *h)
{
	uint64_t one = 1;

	(void)!write(h->finished_fd, &one, sizeof one); /* full means told already */
}

/* The next job to run; NULL: stop. Called and returns with the lock held. */
static struct helper_job *
next_job(struct helper *h)
{
	struct helper_job *job;

	while (STAILQ_EMPTY(&h->waiting) && !h->stopping)
		pthread_cond_wait(&h->wake, &h->lock);
	if (h->stopping)
		return NULL;
	job = STAILQ_FIRST(&h->waiting);
	STAILQ_REMOVE_HEAD(&h->waiting, link);
	h->waiting_count--;
	return job;
}

static void *
run_jobs(void *arg)
{
	struct helper *h = arg;
	struct helper_job *job;

	pthread_mutex_lock(&h->lock);
	while ((job = next_job(h)) != NULL) {
		pthread_mutex_unlock(&h->lock);
		job->work(job);
		pthread_mutex_lock(&h->lock);
		STAILQ_INSERT_TAIL(&h->finished, job, link);
		tell_finished(h);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

/* Call done() of all on a list that nobody else sees: one of them may post again. */
static void
finish_jobs(struct job_list *jobs)
{
	struct helper_job *job;

	while ((job = STAILQ_FIRST(jobs)) != NULL) {
		STAILQ_REMOVE_HEAD(jobs, link);
		job->done(job);
	}
}

static void
on_finished(evutil_socket_t fd, short what, void *arg)
{
	struct job_list jobs = STAILQ_HEAD_INITIALIZER(jobs);
	struct helper *h = arg;
	uint64_t count;

	(void)!read(fd, &count, sizeof count); /* a hint: the list is what counts */
	pthread_mutex_lock(&h->lock);
	STAILQ_CONCAT(&jobs, &h->finished);
	pthread_mutex_unlock(&h->lock);
	finish_jobs(&jobs);
}

static void
free_helper(struct helper *h)
{
	if (h->finished_event != NULL)
		event_free(h->finished_event);
	if (h->finished_fd >= 0)
		close(h->finished_fd);
	pthread_mutex_destroy(&h->lock);
	pthread_cond_destroy(&h->wake);
	free(h);
}

int
helper_start(struct event_base *base, struct helper **ret_helper)
{
	struct helper *h = calloc(1, sizeof *h);
	int r = 0;

	if (h == NULL)
		return -ENOMEM;
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->wake, NULL);
	STAILQ_INIT(&h->waiting);
	STAILQ_INIT(&h->finished);
	h->finished_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (h->finished_fd < 0)
		r = -errno;
	if (r == 0)
		h->finished_event = event_new(base, h->finished_fd, EV_READ | EV_PERSIST, on_finished, h);
	if (r == 0 && (h->finished_event == NULL || event_add(h->finished_event, NULL) < 0))
		r = -ENOMEM;
	if (r == 0)
		r = -pthread_create(&h->thread, NULL, run_jobs, h);
	if (r < 0) {
		free_helper(h);
		return r;
	}
	*ret_helper = h;
	return 0;
}

void
helper_stop(struct helper *h)
{
	struct helper_job *job;

	if (h == NULL)
		return;
	pthread_mutex_lock(&h->lock);
	h->stopping = true;
	pthread_cond_signal(&h->wake);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
	STAILQ_FOREACH(job, &h->waiting, link)
	{
		job->cancelled = true;
	}
	finish_jobs(&h->finished);
	finish_jobs(&h->waiting);
	free_helper(h);
}

int
helper_post(struct helper *h, struct helper_job *job)
{
	int r = 0;

	job->cancelled = false;
	pthread_mutex_lock(&h->lock);
	if (h->stopping || h->waiting_count >= HELPER_JOBS_MAX)
		r = -EAGAIN;
	if (r == 0) {
		STAILQ_INSERT_TAIL(&h->waiting, job, link);
		h->waiting_count++;
		pthread_cond_signal(&h->wake);
	}
	pthread_mutex_unlock(&h->lock);
	return r;
}
