/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of the control sockets. Each is one struct that travels: from the main thread to where the work is (the
 * owner of the source, the catalog thread, or one owner after the other when only the point is known) and back, where
 * the caller's done() runs. */
#include "server/command.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/server.h"
#include "server/source.h"
#include "server/source_impl.h"
#include "server/worker.h"

/* ---- facts ---- */

struct status_table *
server_status(struct server *sv)
{
	return sv->status;
}

struct registry *
server_registry(struct server *sv)
{
	return sv->registry;
}

struct event_base *
server_base(struct server *sv)
{
	return sv->base;
}

void
server_get_facts(struct server *sv, struct server_facts *ret_facts)
{
	struct server_facts f = {
	    .started_ns = sv->started_ns,
	    .draining = sv->draining,
	    .staging_total_bytes = atomic_load(&sv->staging_total_bytes),
	    .staging_free_bytes = atomic_load(&sv->staging_free_bytes),
	    .workers = sv->worker_count,
	};

	snprintf(f.version, sizeof f.version, "%s", HOLDFAST_VERSION);
	snprintf(f.data_dir, sizeof f.data_dir, "%s", data_dir_path(sv->data_dir));
	snprintf(f.ca_fingerprint, sizeof f.ca_fingerprint, "%s", pki_ca_fingerprint(sv->pki));
	snprintf(f.listen, sizeof f.listen, "%s", sv->listen_address);
	snprintf(f.enroll_listen, sizeof f.enroll_listen, "%s", sv->enroll_address);
	*ret_facts = f;
}

/* ---- a command on its way ---- */

struct command {
	struct mail mail;
	struct job job;
	struct server *server;
	struct worker *worker;                                    /* where it is, or was sent */
	void (*at_source)(struct command *c, struct source *src); /* on the owner */
	void (*at_worker)(struct command *c);                     /* instead: on a worker, whichever sources it has */

	struct id source, pit, token;
	char name[PIT_NAME_BYTES];
	enum store_pit_verb verb;
	int64_t timeout_ns, lifetime_ns;
	struct hf_error err;
	uint64_t admit_number, lsn;

	struct command_answer answer;
	struct pit *pits; /* what answer.pits points to; freed with the command */
	command_done *done;
	void *arg;
};

static struct command *
command_from_mail(struct mail *mail)
{
	return (struct command *)((char *)mail - offsetof(struct command, mail));
}

static struct command *
command_from_job(struct job *job)
{
	return (struct command *)((char *)job - offsetof(struct command, job));
}

static void
on_answer(struct mail *mail)
{
	struct command *c = command_from_mail(mail);
	struct server *sv = c->server;

	c->done(c->arg, &c->answer);
	free(c->pits);
	free(c);
	server_answered(sv);
}

/* Any thread: the answer is complete. */
static void
send_answer(struct command *c)
{
	c->mail.deliver = on_answer;
	mailbox_post(c->server->mailbox, &c->mail);
}

static void
answer(struct command *c, int status, const char *text)
{
	c->answer.status = status;
	snprintf(c->answer.text, sizeof c->answer.text, "%s", text != NULL ? text : hf_status_text(status));
	send_answer(c);
}

static void
answer_ok(struct command *c, const char *text)
{
	answer(c, 0, text);
}

static struct command *
make_command(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	struct command *c = calloc(1, sizeof *c);

	if (c == NULL)
		abort(); /* a few KiB: nothing else would work either, and what is acknowledged is on disk */
	c->server = sv;
	if (source != NULL)
		c->source = *source;
	c->done = done;
	c->arg = arg;
	sv->answers_out++;
	return c;
}

/* True if it was answered, because the server is going away. */
static bool
refused_while_draining(struct command *c)
{
	if (!c->server->draining)
		return false;
	answer(c, -HF_ESHUTDOWN, NULL);
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
		answer(c, -ENOENT, "no such source server");
	else if (!source_wait_open(src, mail))
		c->at_source(c, src);
}

static void
send_to_worker(struct command *c, struct worker *w)
{
	c->worker = w;
	c->mail.deliver = on_owner;
	mailbox_post(w->mailbox, &c->mail);
}

static void
send_to_source(struct command *c, void (*at_source)(struct command *c, struct source *src))
{
	if (refused_while_draining(c))
		return;
	c->at_source = at_source;
	send_to_worker(c, server_owner(c->server, &c->source));
}

static void
on_ran(struct job *job)
{
	struct command *c = command_from_job(job);
	struct server *sv = c->server;

	c->done(c->arg, &c->answer);
	free(c);
	server_answered(sv);
}

static void
send_to_catalog(struct command *c, void (*run)(struct job *job, struct disk *d, struct run_cache *cache),
    void (*done)(struct job *job))
{
	if (refused_while_draining(c))
		return;
	c->job.run = run;
	c->job.done = done;
	c->job.home = c->server->mailbox;
	jobs_post(c->server->catalog, &c->job);
}

/* ---- points ---- */

static int
store_usable(struct command *c, const struct source *src)
{
	const char *text = "";
	int r = source_status(src, &text);

	if (r < 0)
		answer(c, r, text);
	return r;
}

static void
list_pits(struct command *c, struct source *src)
{
	int r;

	if (store_usable(c, src) < 0)
		return;
	r = source_list_pits(src, &c->pits, &c->answer.pit_count);
	if (r < 0) {
		answer(c, r, NULL);
		return;
	}
	c->answer.pits = c->pits;
	answer_ok(c, "");
}

void
command_list_pits(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	send_to_source(make_command(sv, source, done, arg), list_pits);
}

/* Answer with the point at an LSN, as it is now. */
static void
answer_pit(struct command *c, struct source *src, uint64_t lsn)
{
	size_t n = 0, i = 0;
	int r = source_list_pits(src, &c->pits, &n);

	if (r < 0) {
		answer(c, r, NULL);
		return;
	}
	while (i < n && c->pits[i].lsn != lsn)
		i++;
	if (i == n) {
		answer(c, -HF_ENOPIT, "the point went while it was being made");
		return;
	}
	c->answer.pits = &c->pits[i];
	c->answer.pit_count = 1;
	answer_ok(c, "");
}

static void
on_pit_made(void *arg, int status, const char *text, uint64_t lsn)
{
	struct command *c = arg;
	struct source *src = worker_find_source(c->worker, &c->source);

	if (status < 0)
		answer(c, status, text);
	else if (src == NULL || source_store(src) == NULL)
		answer(c, -HF_ESHUTDOWN, NULL);
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
	if (store_usable(c, src) < 0)
		return;
	if (!is_filled(src)) {
		answer(c, -HF_EINCOMPLETE, "the first copy of this source's volumes is not finished");
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

	if (store_usable(c, src) < 0)
		return;
	newest = newest_complete(source_store(src));
	if (newest == NULL) {
		answer(c, -HF_ENOPIT, "there is no complete point in time yet");
		return;
	}
	c->lsn = newest->lsn;
	r = source_keep_point(src, newest->lsn, c->name, on_newest_kept, c, text);
	if (r < 0)
		answer(c, r, text[0] != '\0' ? text : NULL);
}

void
command_create_pit(struct server *sv, const struct id *source, const char *name, bool newest, int64_t timeout_ns,
    command_done *done, void *arg)
{
	struct command *c = make_command(sv, source, done, arg);

	snprintf(c->name, sizeof c->name, "%s", name);
	c->timeout_ns = timeout_ns;
	send_to_source(c, newest ? keep_newest : create_pit);
}

/* ---- changing a point: its source is found by asking every worker in turn ---- */

static void
on_changed(void *arg, struct store_job *job)
{
	struct command *c = arg;
	const char *text;
	int r = store_job_status(job, &text);

	if (r < 0)
		answer(c, r, text);
	else
		answer_ok(c, "");
}

static bool
has_pit(struct source *src, const struct id *pit)
{
	struct pit *list;
	bool found = false;
	size_t n;

	if (source_store(src) == NULL || store_list_pits(source_store(src), &list, &n) < 0)
		return false;
	for (size_t i = 0; i < n && !found; i++)
		found = strcmp(list[i].id.text, pit->text) == 0;
	free(list);
	return found;
}

static void
change_pit(struct command *c, struct source *src)
{
	int r;

	if (store_usable(c, src) < 0)
		return;
	r = source_run_job(src, store_pit_change(source_store(src), &c->pit, c->verb), on_changed, c);
	if (r < 0)
		answer(c, r, NULL);
}

static void
look_for_pit(struct command *c)
{
	unsigned next = c->worker->index + 1;

	for (struct source *src = c->worker->sources; src != NULL; src = src->hh.next)
		if (has_pit(src, &c->pit)) {
			change_pit(c, src);
			return;
		}
	if (next < c->server->worker_count)
		send_to_worker(c, c->server->workers[next]);
	else
		answer(c, -HF_ENOPIT, NULL);
}

void
command_change_pit(struct server *sv, const struct id *pit, enum store_pit_verb verb, command_done *done, void *arg)
{
	struct command *c = make_command(sv, NULL, done, arg);

	if (refused_while_draining(c))
		return;
	c->pit = *pit;
	c->verb = verb;
	c->at_worker = look_for_pit;
	send_to_worker(c, sv->workers[0]);
}

/* ---- tokens ---- */

static void
set_result(struct command *c, int r)
{
	c->answer.status = r;
	snprintf(c->answer.text, sizeof c->answer.text, "%s", r < 0 ? c->err.text : "");
}

static void
run_create_token(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);
	bool bound = c->source.text[0] != '\0';
	struct registry_token token;
	struct registry_source source;
	int r = bound ? registry_get_source(c->server->registry, &c->source, &source, &c->err) : 0;

	if (r == 0) {
		pki_make_token(c->server->pki, bound ? &c->source : NULL, c->lifetime_ns, clock_real_ns(), &token,
		    c->answer.token);
		r = registry_put_token(c->server->registry, &token, &c->err);
	}
	if (r == 0) {
		c->answer.token_id = token.id;
		c->answer.expires_ns = token.expires_ns;
	}
	set_result(c, r);
}

void
command_create_token(
    struct server *sv, const struct id *bound_source, int64_t lifetime_ns, command_done *done, void *arg)
{
	struct command *c = make_command(sv, bound_source, done, arg);

	c->lifetime_ns = lifetime_ns;
	send_to_catalog(c, run_create_token, on_ran);
}

static void
run_revoke_token(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);

	set_result(c, registry_revoke_token(c->server->registry, &c->token, &c->err));
}

void
command_revoke_token(struct server *sv, const struct id *token, command_done *done, void *arg)
{
	struct command *c = make_command(sv, NULL, done, arg);

	c->token = *token;
	send_to_catalog(c, run_revoke_token, on_ran);
}

/* ---- sources: the registry first, then their owner ---- */

static void
tell_owner(struct job *job)
{
	struct command *c = command_from_job(job);

	if (c->answer.status < 0)
		on_ran(job);
	else
		send_to_source(c, c->at_source);
}

static void
run_adopt(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);

	set_result(c, registry_adopt(c->server->registry, &c->source, &c->err));
}

static void
adopt(struct command *c, struct source *src)
{
	server_event(
	    c->server, &c->source, "source_adopted", "the next installation that connects is taken as this source");
	source_adopted(src);
	answer_ok(c, "the next installation that connects is taken as this source");
}

void
command_adopt(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	struct command *c = make_command(sv, source, done, arg);

	c->at_source = adopt;
	send_to_catalog(c, run_adopt, tell_owner);
}

/* Whoever was admitted before this has a certificate that is void now. */
static void
run_revoke_source(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);

	set_result(c, registry_revoke_source(c->server->registry, &c->source, &c->err));
	c->admit_number = c->server->admit_number;
}

static void
revoke(struct command *c, struct source *src)
{
	server_event(c->server, &c->source, "certificates_revoked", "all certificates of the source are revoked");
	source_revoke(src, c->admit_number);
	answer_ok(c, "all its certificates are revoked, and its session is cut");
}

void
command_revoke_source(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	struct command *c = make_command(sv, source, done, arg);

	c->at_source = revoke;
	send_to_catalog(c, run_revoke_source, tell_owner);
}
