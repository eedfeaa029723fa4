/* SPDX-License-Identifier: Apache-2.0 */
#include "server/mailbox.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <event2/event.h>

#include "server/jobs.h"
#include "storage/disk.h"
#include "storage/run.h"

enum { POSTERS = 4, MAILS = 5000 };

struct letter {
	struct mail mail;
	struct fixture *fixture;
	unsigned poster, number;
};

struct fixture {
	struct event_base *base;
	struct mailbox *mailbox;
	unsigned delivered, expected;
	unsigned next[POSTERS]; /* number due from each poster */
	bool out_of_order;
	pthread_t loop_thread;
	struct letter *letters[POSTERS];
};

static int
set_up(void **state)
{
	struct fixture *f = *state = calloc(1, sizeof *f);

	f->base = event_base_new();
	f->loop_thread = pthread_self();
	return mailbox_create(f->base, &f->mailbox);
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	mailbox_destroy(f->mailbox);
	event_base_free(f->base);
	for (unsigned i = 0; i < POSTERS; i++)
		free(f->letters[i]);
	free(f);
	return 0;
}

static void
deliver(struct mail *mail)
{
	struct letter *l = (struct letter *)mail;
	struct fixture *f = l->fixture;

	assert_true(pthread_equal(f->loop_thread, pthread_self()));
	if (l->number != f->next[l->poster]++)
		f->out_of_order = true;
	if (++f->delivered == f->expected)
		event_base_loopbreak(f->base);
}

struct poster {
	pthread_t thread;
	struct fixture *fixture;
	unsigned index;
};

static void *
post_many(void *arg)
{
	struct poster *p = arg;
	struct letter *letters = p->fixture->letters[p->index];

	for (unsigned i = 0; i < MAILS; i++) {
		letters[i].mail.deliver = deliver;
		letters[i].fixture = p->fixture;
		letters[i].poster = p->index;
		letters[i].number = i;
		mailbox_post(p->fixture->mailbox, &letters[i].mail);
	}
	return NULL;
}

static void
every_mail_of_many_threads_arrives_once_and_in_the_order_of_its_poster(void **state)
{
	struct fixture *f = *state;
	struct poster posters[POSTERS];

	f->expected = POSTERS * MAILS;
	for (unsigned i = 0; i < POSTERS; i++) {
		f->letters[i] = calloc(MAILS, sizeof(struct letter));
		posters[i] = (struct poster){.fixture = f, .index = i};
		assert_int_equal(pthread_create(&posters[i].thread, NULL, post_many, &posters[i]), 0);
	}
	event_base_loop(f->base, EVLOOP_NO_EXIT_ON_EMPTY);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(posters[i].thread, NULL);
	assert_int_equal(f->delivered, POSTERS * MAILS);
	assert_false(f->out_of_order);
	assert_false(mailbox_drain(f->mailbox));
}

/* ---- a mail that posts itself again ---- */

static void
deliver_again(struct mail *mail)
{
	struct letter *l = (struct letter *)mail;

	if (++l->number == 3)
		event_base_loopbreak(l->fixture->base);
	else
		mailbox_post(l->fixture->mailbox, mail);
}

static void
mail_may_be_posted_again_while_it_is_delivered(void **state)
{
	struct fixture *f = *state;
	struct letter letter = {.mail.deliver = deliver_again, .fixture = f};

	mailbox_post(f->mailbox, &letter.mail);
	event_base_loop(f->base, EVLOOP_NO_EXIT_ON_EMPTY);
	assert_int_equal(letter.number, 3);
}

/* ---- jobs ---- */

struct errand {
	struct job job;
	struct fixture *fixture;
	pthread_t ran_on;
	unsigned order;
	bool had_disk, had_cache;
};

static unsigned ran; /* jobs so far; one thread runs them */

static void
run_errand(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct errand *e = (struct errand *)job;

	e->ran_on = pthread_self();
	e->order = ran++;
	e->had_disk = d != NULL;
	e->had_cache = cache != NULL;
}

static void
on_errand(struct job *job)
{
	struct errand *e = (struct errand *)job;
	struct fixture *f = e->fixture;

	assert_true(pthread_equal(f->loop_thread, pthread_self()));
	if (++f->delivered == f->expected)
		event_base_loopbreak(f->base);
}

static void
jobs_run_in_order_elsewhere_and_are_done_at_home(void **state)
{
	struct fixture *f = *state;
	struct errand errands[100] = {0};
	struct hf_error err = {0};
	struct jobs *jobs;

	ran = 0;
	f->expected = 100;
	assert_int_equal(jobs_create("test", 1, 1 << 20, &jobs, &err), 0);
	for (unsigned i = 0; i < 100; i++) {
		errands[i].fixture = f;
		errands[i].job.run = run_errand;
		errands[i].job.done = on_errand;
		errands[i].job.home = f->mailbox;
		jobs_post(jobs, &errands[i].job);
	}
	event_base_loop(f->base, EVLOOP_NO_EXIT_ON_EMPTY);
	jobs_destroy(jobs);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(errands[i].order, i);
		assert_false(pthread_equal(errands[i].ran_on, pthread_self()));
		assert_true(errands[i].had_disk && errands[i].had_cache);
	}
}

static void
jobs_without_a_home_are_run_before_the_threads_end(void **state)
{
	struct errand errands[100] = {0};
	struct hf_error err = {0};
	struct jobs *jobs;

	(void)state;
	ran = 0;
	assert_int_equal(jobs_create("test", 1, 0, &jobs, &err), 0);
	for (unsigned i = 0; i < 100; i++) {
		errands[i].job.run = run_errand;
		jobs_post(jobs, &errands[i].job);
	}
	jobs_destroy(jobs);
	assert_int_equal(ran, 100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		every_mail_of_many_threads_arrives_once_and_in_the_order_of_its_poster, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(mail_may_be_posted_again_while_it_is_delivered, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(jobs_run_in_order_elsewhere_and_are_done_at_home, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(jobs_without_a_home_are_run_before_the_threads_end, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("mailbox", tests, NULL, NULL);
}
