/* SPDX-License-Identifier: Apache-2.0 */
#include "server/command_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "server/server.h"
#include "server/source.h"
#include "server/source_impl.h"
#include "server/worker.h"

/* Answer with the point at an LSN, as it is now. */
static void
answer_pit(struct command *c, struct source *src, uint64_t lsn)
{
	int r;

	c->pits = malloc(sizeof *c->pits);
	r = c->pits != NULL ? store_find_pit_at(source_store(src), lsn, c->pits) : -ENOMEM;
	if (r < 0) {
		command_finish(c, r, r == -HF_ENOPIT ? "the point went while it was being made" : NULL);
		return;
	}
	c->answer.pits = c->pits;
	c->answer.pit_count = 1;
	command_publish_source(c);
	command_finish_ok(c, "");
}

static void
on_pit_made(void *arg, int status, const char *text, uint64_t lsn)
{
	struct command *c = arg;
	struct source *src = worker_find_source(c->worker, &c->source);

	if (status < 0)
		command_finish(c, status, text);
	else if (src == NULL || source_store(src) == NULL)
		command_finish(c, -HF_ESHUTDOWN, NULL);
	else
		answer_pit(c, src, lsn);
}

/* Every declared volume has its first copy: else no point made now could be restored whole. */
static bool
is_filled(struct source *src)
{
	struct store_volume *list = src->worker->volume_scratch;
	size_t n = store_list_volumes(source_store(src), list, STORE_VOLUMES_MAX);

	for (size_t i = 0; i < n; i++)
		if (list[i].frontier_blocks * BLOCK_BYTES < list[i].size_bytes)
			return false;
	return n > 0;
}

static void
create_pit(struct command *c, struct source *src)
{
	if (command_check_store(c, src) < 0)
		return;
	if (!is_filled(src)) {
		command_finish(c, -HF_EINCOMPLETE, "the first copy of this source's volumes is not finished");
		return;
	}
	source_request_pit(src, c->name, clock_monotonic_ns() + c->timeout_ns, on_pit_made, c);
}

static void
on_newest_kept(void *arg, struct store_job *job)
{
	struct command *c = arg;
	const char *text;
	int r = store_job_status(job, &text);

	on_pit_made(c, r, text, c->lsn);
}

/* The newest one to recover from; a fuzzy one only if there is no other. */
static const struct checkpoint *
newest_complete(const struct store *s)
{
	const struct checkpoint *c = store_newest_consistent(s);

	if (c == NULL)
		c = store_newest_checkpoint(s);
	return c != NULL && c->complete ? c : NULL;
}

static void
keep_newest(struct command *c, struct source *src)
{
	const struct checkpoint *newest;
	char text[SENTENCE_BYTES];
	int r;

	if (command_check_store(c, src) < 0)
		return;
	newest = newest_complete(source_store(src));
	if (newest == NULL) {
		command_finish(c, -HF_ENOPIT, "there is no complete point in time yet");
		return;
	}
	c->lsn = newest->lsn;
	r = source_keep_point(src, newest->lsn, c->name, on_newest_kept, c, text);
	if (r < 0)
		command_finish(c, r, text[0] != '\0' ? text : NULL);
}

void
command_create_pit(struct server *sv, const struct id *source, const char *name, bool newest, int64_t timeout_ns,
    command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	snprintf(c->name, sizeof c->name, "%s", name);
	c->timeout_ns = timeout_ns;
	command_send_to_source(c, newest ? keep_newest : create_pit);
}

/* ---- changing a point: its source is found by asking every worker in turn ---- */

static void
on_changed(void *arg, struct store_job *job)
{
	struct command *c = arg;

	if (command_job_failed(c, job))
		return;
	command_publish_source(c);
	command_finish_ok(c, "");
}

static bool
has_pit(struct source *src, const struct id *pit)
{
	struct pit found;

	return source_store(src) != NULL && store_find_pit(source_store(src), pit, &found) == 0;
}

static void
change_pit(struct command *c, struct source *src)
{
	int r;

	c->source = src->id;
	if (command_check_store(c, src) < 0)
		return;
	r = source_run_job(src, store_pit_change(source_store(src), &c->pit, c->verb), on_changed, c);
	if (r < 0)
		command_finish(c, r, NULL);
}

static struct source *
find_source_of_pit(const struct command *c)
{
	for (struct source *src = c->worker->sources; src != NULL; src = src->hh.next)
		if (has_pit(src, &c->pit))
			return src;
	return NULL;
}

static bool
wait_for_any_to_open(struct command *c)
{
	for (struct source *src = c->worker->sources; src != NULL; src = src->hh.next)
		if (source_wait_open(src, &c->mail))
			return true;
	return false;
}

/* It may be a point of a source whose data nobody can look at: that is no "no". */
static void
note_unseen(struct command *c)
{
	for (struct source *src = c->worker->sources; src != NULL; src = src->hh.next) {
		const char *text = "";

		if (source_store(src) != NULL || src->deleting)
			continue;
		(void)source_status(src, &text);
		c->answer.status = -EAGAIN;
		snprintf(c->answer.text, sizeof c->answer.text, "there is no such point, unless %s has it: %.400s",
		    src->id.text, text);
	}
}

static void
look_for_pit(struct command *c)
{
	struct source *src = find_source_of_pit(c);
	unsigned next = c->worker->index + 1;

	if (src != NULL) {
		change_pit(c, src);
		return;
	}
	if (wait_for_any_to_open(c))
		return;
	note_unseen(c);
	if (next < c->server->worker_count)
		command_send_to_worker(c, c->server->workers[next]);
	else if (c->answer.status < 0)
		command_send_answer(c);
	else
		command_finish(c, -HF_ENOPIT, NULL);
}

void
command_change_pit(struct server *sv, const struct id *pit, enum store_pit_verb verb, command_done *done, void *arg)
{
	struct command *c = command_create(sv, NULL, done, arg);

	if (command_refused_while_draining(c))
		return;
	c->pit = *pit;
	c->verb = verb;
	c->at_worker = look_for_pit;
	command_send_to_worker(c, sv->workers[0]);
}
