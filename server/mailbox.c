/* SPDX-License-Identifier: Apache-2.0 */
#include "server/mailbox.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct mailbox {
	pthread_mutex_t lock; /* over head and tail */
	struct mail *head, **tail;
	int fd; /* eventfd: a hint that head may not be NULL */
	struct event *event;
};

static struct mail *
take_all(struct mailbox *m)
{
	struct mail *head;

	pthread_mutex_lock(&m->lock);
	head = m->head;
	m->head = NULL;
	m->tail = &m->head;
	pthread_mutex_unlock(&m->lock);
	return head;
}

bool
mailbox_drain(struct mailbox *m)
{
	struct mail *mail = take_all(m);
	bool any = mail != NULL;

	while (mail != NULL) {
		struct mail *next = mail->next; /* deliver() may free the mail */

		mail->next = NULL;
		mail->deliver(mail);
		mail = next;
	}
	return any;
}

static void
on_eventfd(evutil_socket_t fd, short what, void *arg)
{
	uint64_t count;

	(void)!read(fd, &count, sizeof count); /* a hint: nothing to do when somebody was faster */
	mailbox_drain(arg);
}

int
mailbox_create(struct event_base *base, struct mailbox **ret_mailbox)
{
	struct mailbox *m = calloc(1, sizeof *m);

	if (m == NULL)
		return -ENOMEM;
	pthread_mutex_init(&m->lock, NULL);
	m->tail = &m->head;
	m->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->fd >= 0)
		m->event = event_new(base, m->fd, EV_READ | EV_PERSIST, on_eventfd, m);
	if (m->event == NULL || event_add(m->event, NULL) < 0) {
		int r = m->fd < 0 ? -errno : -ENOMEM;

		mailbox_destroy(m);
		return r;
	}
	*ret_mailbox = m;
	return 0;
}

void
mailbox_post(struct mailbox *m, struct mail *mail)
{
	static const uint64_t one = 1;
	bool first;

	assert(mail->deliver != NULL);
	mail->next = NULL;
	pthread_mutex_lock(&m->lock);
	first = m->head == NULL;
	*m->tail = mail;
	m->tail = &mail->next;
	/* Only the first of a batch rings. Under the lock: once it is given up the receiver may
	 * deliver the mail, and with it end the mailbox. */
	if (first)
		(void)!write(m->fd, &one, sizeof one); /* can only fail when it rings already */
	pthread_mutex_unlock(&m->lock);
}

void
mailbox_destroy(struct mailbox *m)
{
	if (m == NULL)
		return;
	if (m->event != NULL)
		event_free(m->event);
	if (m->fd >= 0)
		close(m->fd);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
