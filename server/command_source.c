/* SPDX-License-Identifier: Apache-2.0 */
#include "server/command_impl.h"

#include <stdio.h>

#include "proto/common/status.h"
#include "server/server.h"
#include "server/source.h"
#include "server/source_impl.h"

/* ---- stop, start, pause, resume ---- */

struct phase_verb {
	int (*put)(struct registry *r, const struct id *source, enum registry_phase phase, int64_t now_ns,
	    struct hf_error *err); /* 1, or 0: it is as asked */
	enum registry_phase phase;
	void (*apply)(struct command *c, struct source *src);
	const char *event, *text; /* kept, and answered */
	const char *already;      /* answered, when nothing has changed */
};

static void
run_phase_verb(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);
	const struct phase_verb *v = c->phase_verb;
	int r = v->put(c->server->registry, &c->source, v->phase, c->now_ns, &c->err);

	c->changed = r > 0;
	command_set_result(c, r < 0 ? r : 0);
	c->admit_number = c->server->admit_number;
}

static void
take_phase(struct command *c, struct source *src)
{
	const struct phase_verb *v = c->phase_verb;

	if (!c->changed) {
		command_finish_ok(c, v->already);
		return;
	}
	server_event(c->server, &c->source, v->event, "%s", v->text);
	v->apply(c, src);
	source_publish(src);
	command_finish_ok(c, v->text);
}

static void
give_phase_verb(
    struct server *sv, const struct id *source, const struct phase_verb *verb, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->phase_verb = verb;
	c->at_source = take_phase;
	command_send_to_catalog(c, run_phase_verb, command_tell_owner);
}

static void
stop(struct command *c, struct source *src)
{
	source_stop(src, c->admit_number, c->now_ns);
}

static void
pause_source(struct command *c, struct source *src)
{
	source_pause(src, c->now_ns);
}

static void
activate(struct command *c, struct source *src)
{
	source_set_active(src, c->now_ns);
}

void
command_stop_source(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	static const struct phase_verb verb = {.put = registry_set_phase,
	    .phase = PHASE_STOPPED,
	    .apply = stop,
	    .event = "source_stopped",
	    .text = "replication is stopped; all its points in time stay",
	    .already = "it was stopped before"};

	give_phase_verb(sv, source, &verb, done, arg);
}

void
command_start_source(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	static const struct phase_verb verb = {.put = registry_end_phase,
	    .phase = PHASE_STOPPED,
	    .apply = activate,
	    .event = "source_started",
	    .text = "its agent is let in again, as soon as it asks",
	    .already = "it was not stopped"};

	give_phase_verb(sv, source, &verb, done, arg);
}

void
command_pause_source(struct server *sv, const struct id *source, bool paused, command_done *done, void *arg)
{
	static const struct phase_verb pause = {.put = registry_set_phase,
	    .phase = PHASE_PAUSED,
	    .apply = pause_source,
	    .event = "source_paused",
	    .text = "its agent stays connected, and nothing is taken of it; all its points in time stay",
	    .already = "it was paused before"};
	static const struct phase_verb resume = {.put = registry_end_phase,
	    .phase = PHASE_PAUSED,
	    .apply = activate,
	    .event = "source_resumed",
	    .text = "replication goes on",
	    .already = "it was not paused"};

	give_phase_verb(sv, source, paused ? &pause : &resume, done, arg);
}

/* ---- throttle ---- */

static void
run_set_throttle(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);

	command_set_result(c, registry_set_throttle(c->server->registry, &c->source, &c->throttle, &c->err));
}

static void
set_throttle(struct command *c, struct source *src)
{
	char said[SENTENCE_BYTES];

	throttle_describe(&c->throttle, said, sizeof said);
	source_set_throttle(src, &c->throttle);
	source_publish(src);
	server_event(c->server, &c->source, "throttle_set", "%s", said);
	command_finish_ok(c, said);
}

void
command_set_throttle(
    struct server *sv, const struct id *source, const struct throttle *throttle, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->throttle = *throttle;
	c->at_source = set_throttle;
	command_send_to_catalog(c, run_set_throttle, command_tell_owner);
}

/* ---- deleting ---- */

static void
on_source_deleted(void *arg, int status, const char *text)
{
	command_finish(arg, status, status == 0 ? "it is gone, with all its points in time" : text);
}

static void
delete_source(struct command *c, struct source *src)
{
	source_delete(src, on_source_deleted, c);
}

void
command_delete_source(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	command_send_to_source(command_create(sv, source, done, arg), delete_source);
}

static void
on_volume_deleted(void *arg, int status, const char *text)
{
	command_finish(arg, status, text);
}

static void
delete_volume(struct command *c, struct source *src)
{
	if (command_check_store(c, src) == 0)
		source_delete_volume(src, c->name, c->with_points, on_volume_deleted, c);
}

void
command_delete_volume(
    struct server *sv, const struct id *source, const char *volume, bool with_points, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	snprintf(c->name, sizeof c->name, "%s", volume);
	c->with_points = with_points;
	command_send_to_source(c, delete_volume);
}

/* ---- is what is stored as it was written, and as it is on the source? ---- */

static void
start_scrub(struct command *c, struct source *src)
{
	int r;

	if (command_check_store(c, src) < 0)
		return;
	r = store_scrub_start(source_store(src));
	source_publish(src);
	command_finish(c, r, r < 0 ? "a scrub that was asked for is under way" : "the scrub is under way");
}

static void
cancel_scrub(struct command *c, struct source *src)
{
	int r;

	if (command_check_store(c, src) < 0)
		return;
	r = store_scrub_cancel(source_store(src));
	source_publish(src);
	command_finish(c, r, r < 0 ? "no scrub is under way" : "the scrub is given up; what it found stays known");
}

void
command_scrub(struct server *sv, const struct id *source, bool cancel, command_done *done, void *arg)
{
	command_send_to_source(command_create(sv, source, done, arg), cancel ? cancel_scrub : start_scrub);
}

static void
verify(struct command *c, struct source *src)
{
	char text[SENTENCE_BYTES];
	int r;

	if (command_check_store(c, src) < 0)
		return;
	r = source_prove(src, c->name, text);
	if (r < 0)
		command_finish(c, r, text);
	else
		command_finish_ok(c, "the agent reads and compares every block");
}

void
command_verify(struct server *sv, const struct id *source, const char *volume, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	snprintf(c->name, sizeof c->name, "%s", volume);
	command_send_to_source(c, verify);
}
