/* SPDX-License-Identifier: Apache-2.0 */
#include "server/command_impl.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/common/status.h"
#include "server/cure.h"
#include "server/server.h"
#include "server/source.h"
#include "server/source_impl.h"
#include "server/worker.h"

static struct command *
command_from_mail(struct mail *mail)
{
	return (struct command *)((char *)mail - offsetof(struct command, mail));
}

struct command *
command_from_job(struct job *job)
{
	return (struct command *)((char *)job - offsetof(struct command, job));
}

static void
free_command(struct command *c)
{
	json_decref(c->patch);
	json_decref(c->was);
	json_decref(c->kept);
	free(c->tags);
	free(c->pits);
	free(c->going);
	free(c);
}

static void
give_answer(struct command *c)
{
	struct server *sv = c->server;

	c->done(c->arg, &c->answer);
	free_command(c);
	server_answered(sv);
}

static void
on_answer(struct mail *mail)
{
	give_answer(command_from_mail(mail));
}

void
command_send_answer(struct command *c)
{
	c->mail.deliver = on_answer;
	mailbox_post(c->server->mailbox, &c->mail);
}

void
command_finish(struct command *c, int status, const char *text)
{
	c->answer.status = status;
	cure_name_source(
	    text != NULL ? text : hf_status_text(status), &c->source, c->answer.text, sizeof c->answer.text);
	command_send_answer(c);
}

void
command_finish_ok(struct command *c, const char *text)
{
	command_finish(c, 0, text);
}

void
command_set_result(struct command *c, int r)
{
	c->answer.status = r;
	snprintf(c->answer.text, sizeof c->answer.text, "%s", r < 0 ? c->err.text : "");
}

struct command *
command_create(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	struct command *c = calloc(1, sizeof *c);

	if (c == NULL)
		abort(); /* a few KiB: nothing else would work either, and what is acknowledged is on disk */
	c->server = sv;
	c->now_ns = clock_real_ns();
	if (source != NULL)
		c->source = *source;
	c->done = done;
	c->arg = arg;
	sv->answers_out++;
	return c;
}

bool
command_refused_while_draining(struct command *c)
{
	if (!c->server->draining)
		return false;
	command_finish(c, -HF_ESHUTDOWN, NULL);
	return true;
}

static void
on_owner(struct mail *mail)
{
	struct command *c = command_from_mail(mail);
	struct source *src;

	if (c->at_worker != NULL) {
		c->at_worker(c);
		return;
	}
	src = worker_find_source(c->worker, &c->source);
	if (src == NULL)
		command_finish(c, -ENOENT, "no such source server");
	else if (!source_wait_open(src, mail))
		c->at_source(c, src);
}

void
command_send_to_worker(struct command *c, struct worker *w)
{
	c->worker = w;
	c->mail.deliver = on_owner;
	mailbox_post(w->mailbox, &c->mail);
}

void
command_send_to_source(struct command *c, void (*at_source)(struct command *c, struct source *src))
{
	if (command_refused_while_draining(c))
		return;
	c->at_source = at_source;
	command_send_to_worker(c, server_owner(c->server, &c->source));
}

void
command_on_ran(struct job *job)
{
	give_answer(command_from_job(job));
}

void
command_send_to_catalog(struct command *c, void (*run)(struct job *job, struct disk *d, struct run_cache *cache),
    void (*done)(struct job *job))
{
	if (command_refused_while_draining(c))
		return;
	c->job.run = run;
	c->job.done = done;
	c->job.home = c->server->mailbox;
	jobs_post(c->server->catalog, &c->job);
}

void
command_tell_owner(struct job *job)
{
	struct command *c = command_from_job(job);

	if (c->answer.status < 0)
		command_on_ran(job);
	else
		command_send_to_source(c, c->at_source);
}

void
command_publish_source(struct command *c)
{
	struct source *src = worker_find_source(c->worker, &c->source);

	if (src != NULL)
		source_publish(src);
}

int
command_check_store(struct command *c, const struct source *src)
{
	const char *text = "";
	int r = source_status(src, &text);

	if (r < 0)
		command_finish(c, r, text);
	return r;
}

bool
command_job_failed(struct command *c, const struct store_job *job)
{
	const char *text;
	int r = store_job_status(job, &text);

	if (r < 0)
		command_finish(c, r, text);
	return r < 0;
}
