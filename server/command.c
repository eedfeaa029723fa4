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
#include <unistd.h>
#include <utlist.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/ca_change.h"
#include "server/cure.h"
#include "server/identity.h"
#include "server/server.h"
#include "server/source.h"
#include "server/source_impl.h"
#include "server/worker.h"

/* ---- a command on its way ---- */

struct command {
	struct mail mail;
	struct job job;
	struct server *server;
	struct worker *worker;                                    /* where it is, or was sent */
	void (*at_source)(struct command *c, struct source *src); /* on the owner */
	void (*at_worker)(struct command *c);                     /* instead: on a worker, whichever sources it has */

	struct id source, pit, token;
	char name[PIT_NAME_BYTES]; /* of a point, or a volume */
	bool with_points;
	enum store_pit_verb verb;
	int64_t timeout_ns, lifetime_ns;
	struct hf_error err;
	uint64_t admit_number, lsn;

	struct quota_change quota;
	struct policy_change policy;
	struct throttle throttle;
	bool frozen;
	const struct phase_verb *phase_verb;
	bool changed;         /* else it was so before */
	int64_t now_ns;       /* our clock when it was given */
	json_t *patch, *kept; /* kept: what answer.kept is */
	struct source_settings settings;
	char *tags;
	struct bundle bundle;
	bool force;

	struct command_answer answer;
	struct pit *pits; /* what answer.pits points to; freed with the command */
	bool *going;
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
free_command(struct command *c)
{
	json_decref(c->patch);
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

/* Any thread: the answer is complete. */
static void
command_send_answer(struct command *c)
{
	c->mail.deliver = on_answer;
	mailbox_post(c->server->mailbox, &c->mail);
}

static void
command_finish(struct command *c, int status, const char *text)
{
	c->answer.status = status;
	cure_name_source(
	    text != NULL ? text : hf_status_text(status), &c->source, c->answer.text, sizeof c->answer.text);
	command_send_answer(c);
}

static void
command_finish_ok(struct command *c, const char *text)
{
	command_finish(c, 0, text);
}

static struct command *
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

/* True if it was answered, because the server is going away. */
static bool
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

static void
command_send_to_worker(struct command *c, struct worker *w)
{
	c->worker = w;
	c->mail.deliver = on_owner;
	mailbox_post(w->mailbox, &c->mail);
}

static void
command_send_to_source(struct command *c, void (*at_source)(struct command *c, struct source *src))
{
	if (command_refused_while_draining(c))
		return;
	c->at_source = at_source;
	command_send_to_worker(c, server_owner(c->server, &c->source));
}

static void
command_on_ran(struct job *job)
{
	give_answer(command_from_job(job));
}

static void
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

/* ---- points ---- */

static int
command_check_store(struct command *c, const struct source *src)
{
	const char *text = "";
	int r = source_status(src, &text);

	if (r < 0)
		command_finish(c, r, text);
	return r;
}

static void
list_pits(struct command *c, struct source *src)
{
	int r;

	if (command_check_store(c, src) < 0)
		return;
	r = source_list_pits(src, &c->pits, &c->answer.pit_count);
	if (r < 0) {
		command_finish(c, r, NULL);
		return;
	}
	c->answer.pits = c->pits;
	command_finish_ok(c, "");
}

void
command_list_pits(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	command_send_to_source(command_create(sv, source, done, arg), list_pits);
}

/* Answer with the point at an LSN, as it is now. */
static void
answer_pit(struct command *c, struct source *src, uint64_t lsn)
{
	size_t n = 0, i = 0;
	int r = source_list_pits(src, &c->pits, &n);

	if (r < 0) {
		command_finish(c, r, NULL);
		return;
	}
	while (i < n && c->pits[i].lsn != lsn)
		i++;
	if (i == n) {
		command_finish(c, -HF_ENOPIT, "the point went while it was being made");
		return;
	}
	c->answer.pits = &c->pits[i];
	c->answer.pit_count = 1;
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
	const char *text;
	int r = store_job_status(job, &text);

	if (r < 0)
		command_finish(c, r, text);
	else
		command_finish_ok(c, "");
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

/* ---- tokens ---- */

static void
command_set_result(struct command *c, int r)
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
	command_set_result(c, r);
}

void
command_create_token(
    struct server *sv, const struct id *bound_source, int64_t lifetime_ns, command_done *done, void *arg)
{
	struct command *c = command_create(sv, bound_source, done, arg);

	c->lifetime_ns = lifetime_ns;
	if (sv->enroll == NULL && !sv->draining)
		command_finish(c, -EBUSY, "enrolment is switched off (server.enroll_listen): nobody could use it");
	else
		command_send_to_catalog(c, run_create_token, command_on_ran);
}

static void
run_revoke_token(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);

	command_set_result(c, registry_revoke_token(c->server->registry, &c->token, &c->err));
}

void
command_revoke_token(struct server *sv, const struct id *token, command_done *done, void *arg)
{
	struct command *c = command_create(sv, NULL, done, arg);

	c->token = *token;
	command_send_to_catalog(c, run_revoke_token, command_on_ran);
}

/* ---- certificates ---- */

static void
run_renew_server(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);
	int r = pki_renew(c->server->pki, true, clock_real_ns(), &c->err);

	if (r >= 0)
		server_event(c->server, NULL, "server_certificate_renewed", "new connections use it");
	command_set_result(c, r < 0 ? r : 0);
}

/* Whoever connects from now on meets what is new. */
static void
on_pki_changed(struct job *job)
{
	struct command *c = command_from_job(job);

	if (c->answer.status == 0 && !c->server->draining)
		(void)server_use_certificate(c->server, &c->err); /* said in the log; it is what the next start has */
	command_on_ran(job);
}

void
command_renew_server(struct server *sv, command_done *done, void *arg)
{
	command_send_to_catalog(command_create(sv, NULL, done, arg), run_renew_server, on_pki_changed);
}

static void
run_rotate_ca(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);
	struct pki_certificate next;
	int r = pki_rotate(c->server->pki, clock_real_ns(), &c->err);

	if (r == 0 && pki_describe(c->server->pki, PKI_NEXT_CA, &next))
		server_event(c->server, NULL, "ca_rotated",
		    "%s (SHA-256 %s) is trusted beside the old CA; agents are told of it", next.subject,
		    next.fingerprint);
	command_set_result(c, r);
}

void
command_rotate_ca(struct server *sv, command_done *done, void *arg)
{
	command_send_to_catalog(command_create(sv, NULL, done, arg), run_rotate_ca, on_pki_changed);
}

/* Does anybody need the old one? */
static int
check_retire(struct command *c, const struct pki_certificate *next)
{
	struct ca_change *change = calloc(1, sizeof *change);
	int r = change == NULL
		    ? -ENOMEM
		    : ca_change_look(c->server->registry, next->fingerprint, clock_real_ns(), change, &c->err);

	if (r == 0 && change->waiting > 0 && !c->force)
		r = hf_error_say(&c->err, -EBUSY,
		    "%zu of %zu agents need the old CA, %s (%s) for one: holdfastctl ca show lists them. With --force "
		    "they are cut "
		    "off until they are enrolled again",
		    change->waiting, change->waiting + change->moved, change->list[0].source.text,
		    change->list[0].hostname);
	free(change);
	return r;
}

/* They name the CA that is gone, so no agent would use them. */
static void
void_tokens(struct server *sv)
{
	struct hf_error err;

	if (registry_revoke_unused_tokens(sv->registry, &err) < 0)
		log_warning("tokens_not_revoked", "msg=\"%s\"", err.text);
}

static void
run_retire_ca(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);
	struct pki_certificate next;
	int r = pki_describe(c->server->pki, PKI_NEXT_CA, &next) ? check_retire(c, &next) : 0;

	if (r == 0)
		r = pki_retire(c->server->pki, clock_real_ns(), &c->err);
	if (r == 0)
		void_tokens(c->server);
	if (r == 0)
		server_event(c->server, NULL, "ca_retired",
		    "%s (SHA-256 %s) is the only CA now; tokens not yet used are void", next.subject, next.fingerprint);
	command_set_result(c, r);
}

void
command_retire_ca(struct server *sv, bool force, command_done *done, void *arg)
{
	struct command *c = command_create(sv, NULL, done, arg);

	c->force = force;
	command_send_to_catalog(c, run_retire_ca, on_pki_changed);
}

static void
run_take_identity(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);
	struct server *sv = c->server;

	int64_t now_ns = clock_real_ns();
	int r = identity_take(
	    data_dir_path(sv->data_dir), sv->registry, sv->status, now_ns, &c->bundle, &c->answer.unknown, &c->err);

	if (r == 0 && identity_note_backup(sv->registry, sv->pki, now_ns, &c->err) < 0)
		log_warning("backup_not_noted", "msg=\"%s\"", c->err.text); /* it is good all the same */
	command_set_result(c, r);
	c->answer.bundle = &c->bundle;
}

static void
on_identity_taken(struct job *job)
{
	struct command *c = command_from_job(job);
	struct bundle bundle = c->bundle;

	command_on_ran(job);
	bundle_fini(&bundle);
}

void
command_take_identity(struct server *sv, command_done *done, void *arg)
{
	command_send_to_catalog(command_create(sv, NULL, done, arg), run_take_identity, on_identity_taken);
}

static void
renew(struct command *c, struct source *src)
{
	int r = source_request_renewal(src);

	command_finish(c, r, r < 0 ? "its agent is not connected" : "its agent was asked for a new request");
}

void
command_renew_source(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	command_send_to_source(command_create(sv, source, done, arg), renew);
}

/* ---- sources: the registry first, then their owner ---- */

static void
command_tell_owner(struct job *job)
{
	struct command *c = command_from_job(job);

	if (c->answer.status < 0)
		command_on_ran(job);
	else
		command_send_to_source(c, c->at_source);
}

static void
run_adopt(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);

	command_set_result(c, registry_adopt(c->server->registry, &c->source, &c->err));
}

static void
adopt(struct command *c, struct source *src)
{
	server_event(
	    c->server, &c->source, "source_adopted", "the next installation that connects is taken as this source");
	source_adopted(src);
	command_finish_ok(c, "the next installation that connects is taken as this source");
}

void
command_adopt(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->at_source = adopt;
	command_send_to_catalog(c, run_adopt, command_tell_owner);
}

/* Whoever was admitted before this has a certificate that is void now. */
static void
run_revoke_source(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);

	command_set_result(c, registry_revoke_source(c->server->registry, &c->source, &c->err));
	c->admit_number = c->server->admit_number;
}

static void
revoke_certificates(struct command *c, struct source *src)
{
	server_event(c->server, &c->source, "certificates_revoked", "all certificates of the source are revoked");
	source_revoke(src, c->admit_number);
	command_finish_ok(c, "all its certificates are revoked, and its session is cut");
}

void
command_revoke_source(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->at_source = revoke_certificates;
	command_send_to_catalog(c, run_revoke_source, command_tell_owner);
}

static void
start_scrub(struct command *c, struct source *src)
{
	int r;

	if (command_check_store(c, src) < 0)
		return;
	r = store_scrub_start(source_store(src));
	source_publish(src); /* who asked may look at once */
	command_finish(c, r, r < 0 ? "a scrub that was asked for is under way" : "the scrub is under way");
}

static void
cancel_scrub(struct command *c, struct source *src)
{
	int r;

	if (command_check_store(c, src) < 0)
		return;
	r = store_scrub_cancel(source_store(src));
	command_finish(c, r, r < 0 ? "no scrub is under way" : "the scrub is given up; what it found stays known");
}

void
command_scrub(struct server *sv, const struct id *source, bool cancel, command_done *done, void *arg)
{
	command_send_to_source(command_create(sv, source, done, arg), cancel ? cancel_scrub : start_scrub);
}

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
	source_publish(src); /* who asked may look at once */
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

/* ---- settings: what a command does not say stays as it is, so they are changed one after the other ---- */

/* True: another change is being written; c is back when it is over. */
static bool
wait_turn(struct command *c, struct source *src)
{
	if (!src->setting)
		return false;
	c->mail.next = NULL;
	LL_APPEND(src->setters, &c->mail);
	return true;
}

static void
end_turn(struct command *c)
{
	struct source *src = worker_find_source(c->worker, &c->source); /* it is there: a job of it was out */
	struct mail *waiting = src->setters, *next;

	src->setting = false;
	src->setters = NULL; /* first: all but one wait again */
	for (; waiting != NULL; waiting = next) {
		next = waiting->next;
		waiting->deliver(waiting);
	}
}

/* ---- quota ---- */

/* Whoever asks after the answer sees what it says. */
static void
publish_source(struct command *c)
{
	struct source *src = worker_find_source(c->worker, &c->source);

	if (src != NULL)
		source_publish(src);
}

static void
on_quota_set(void *arg, struct store_job *job)
{
	struct command *c = arg;
	struct source *src = worker_find_source(c->worker, &c->source);
	char quota[UNITS_TEXT_BYTES], said[128];
	const char *text;
	int r = store_job_status(job, &text);

	end_turn(c);
	if (r < 0) {
		command_finish(c, r, text);
		return;
	}
	snprintf(said, sizeof said, "it may take %s of the staging area; when there is no room: %s",
	    c->quota.quota_bytes != 0 ? size_format(c->quota.quota_bytes, quota) : "as much as there is",
	    when_full_name(c->quota.when_full));
	if (src != NULL && source_status(src, &text) == 0)
		source_tick_space(src, clock_monotonic_ns()); /* at once */
	server_event(c->server, &c->source, "quota_set", "%s", said);
	publish_source(c);
	command_finish_ok(c, said);
}

static void
set_quota(struct command *c, struct source *src)
{
	enum when_full when_full;
	uint64_t quota_bytes;
	int r;

	if (command_check_store(c, src) < 0)
		return;
	if (wait_turn(c, src))
		return;
	store_get_quota(source_store(src), &quota_bytes, &when_full);
	if (!c->quota.has_quota)
		c->quota.quota_bytes = quota_bytes;
	if (!c->quota.has_when_full)
		c->quota.when_full = when_full;
	r = source_run_job(
	    src, store_set_quota(source_store(src), c->quota.quota_bytes, c->quota.when_full), on_quota_set, c);
	src->setting = r == 0;
	if (r < 0)
		command_finish(c, r, NULL);
}

void
command_set_quota(
    struct server *sv, const struct id *source, const struct quota_change *change, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->quota = *change;
	command_send_to_source(c, set_quota);
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
	server_event(c->server, &c->source, "throttle_set", "%s", said);
	source_set_throttle(src, &c->throttle);
	source_publish(src); /* who asked may look at once */
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

/* ---- policy and retention ---- */

static void
on_policy_set(void *arg, struct store_job *job)
{
	struct command *c = arg;
	char rules[POLICY_TEXT_BYTES], window[UNITS_TEXT_BYTES], least[UNITS_TEXT_BYTES + 32] = "",
											  said[SENTENCE_BYTES];
	const struct policy *p = &c->policy.policy;
	const char *text;
	int r = store_job_status(job, &text);

	end_turn(c);
	if (r < 0) {
		command_finish(c, r, text);
		return;
	}
	if (p->min_retention_ns > 0)
		snprintf(least, sizeof least, "; none goes that is younger than %s",
		    duration_format(p->min_retention_ns, (char[UNITS_TEXT_BYTES]){0}));
	snprintf(said, sizeof said, "%s%s, every checkpoint for %s%s",
	    p->rule_count > 0 ? "points are kept as " : "points are kept by hand alone",
	    p->rule_count > 0 ? policy_format_rules(p, rules) : "", duration_format(p->journal_window_ns, window),
	    least);
	server_event(c->server, &c->source, "policy_set", "%s", said);
	publish_source(c);
	command_finish_ok(c, said);
}

static void
merge_policy(struct policy_change *change, const struct policy *now)
{
	struct policy merged = *now;

	if (change->has_rules) {
		memcpy(merged.rules, change->policy.rules, sizeof merged.rules);
		merged.rule_count = change->policy.rule_count;
	}
	if (change->has_window)
		merged.journal_window_ns = change->policy.journal_window_ns;
	if (change->has_min_retention)
		merged.min_retention_ns = change->policy.min_retention_ns;
	change->policy = merged;
}

static void
set_policy(struct command *c, struct source *src)
{
	struct policy now;
	int r;

	if (command_check_store(c, src) < 0)
		return;
	if (wait_turn(c, src))
		return;
	store_get_policy(source_store(src), &now);
	merge_policy(&c->policy, &now);
	r = policy_check(&c->policy.policy, &c->err);
	if (r < 0) {
		command_finish(c, r, c->err.text);
		return;
	}
	r = source_run_job(src, store_set_policy(source_store(src), &c->policy.policy), on_policy_set, c);
	src->setting = r == 0;
	if (r < 0)
		command_finish(c, r, NULL);
}

void
command_set_policy(
    struct server *sv, const struct id *source, const struct policy_change *change, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->policy = *change;
	command_send_to_source(c, set_policy);
}

static int
copy_plan(struct command *c, const struct store_plan *plan)
{
	c->pits = calloc(plan->count + 1, sizeof *c->pits);
	c->going = calloc(plan->count + 1, sizeof *c->going);
	if (c->pits == NULL || c->going == NULL)
		return -ENOMEM;
	if (plan->count > 0) {
		memcpy(c->pits, plan->pits, plan->count * sizeof *c->pits);
		memcpy(c->going, plan->going, plan->count * sizeof *c->going);
	}
	c->answer.pits = c->pits;
	c->answer.going = c->going;
	c->answer.pit_count = plan->count;
	c->answer.total_bytes = plan->total_bytes;
	c->answer.freed_bytes = plan->freed_bytes;
	return 0;
}

static void
on_planned(void *arg, struct store_job *job)
{
	struct command *c = arg;
	struct store_plan plan;
	const char *text = NULL;
	int r = store_job_status(job, &text);

	worker_find_source(c->worker, &c->source)->planning = false; /* it is there: a job of it was out */
	if (r == 0) {
		store_plan_result(job, &plan);
		r = copy_plan(c, &plan);
		text = "";
	}
	command_finish(c, r, text);
}

static void
make_plan(struct command *c, struct source *src)
{
	struct policy now;
	int r;

	if (command_check_store(c, src) < 0)
		return;
	if (src->planning) {
		command_finish(c, -EAGAIN, "another plan of this source is being made: try again in a moment");
		return;
	}
	store_get_policy(source_store(src), &now);
	merge_policy(&c->policy, &now);
	r = policy_check(&c->policy.policy, &c->err);
	if (r == 0)
		r = source_run_job(src, store_plan(source_store(src), &c->policy.policy), on_planned, c);
	src->planning = r == 0;
	if (r < 0)
		command_finish(c, r, r == -EINVAL ? c->err.text : NULL);
}

void
command_plan(struct server *sv, const struct id *source, const struct policy *rules, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->policy = (struct policy_change){.has_rules = true, .policy = *rules};
	command_send_to_source(c, make_plan);
}

static void
on_frozen_set(void *arg, struct store_job *job)
{
	struct command *c = arg;
	const char *text;
	int r = store_job_status(job, &text);

	if (r < 0) {
		command_finish(c, r, text);
		return;
	}
	text = c->frozen ? "nothing expires until it is thawed" : "points expire again as the policy says";
	server_event(c->server, &c->source, c->frozen ? "retention_frozen" : "retention_thawed", "%s", text);
	publish_source(c);
	command_finish_ok(c, text);
}

static void
set_frozen(struct command *c, struct source *src)
{
	int r;

	if (command_check_store(c, src) < 0)
		return;
	r = source_run_job(src, store_set_frozen(source_store(src), c->frozen), on_frozen_set, c);
	if (r < 0)
		command_finish(c, r, NULL);
}

void
command_set_frozen(struct server *sv, const struct id *source, bool frozen, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->frozen = frozen;
	command_send_to_source(c, set_frozen);
}

/* ---- settings: one after the other on the catalog thread, so that nobody's change is lost ---- */

/* Merge the patch into `text`, the set there is, and check what comes of it. Gives. */
static json_t *
patched(struct command *c, const char *text, enum settings_scope scope)
{
	json_t *object = json_loads(text, 0, NULL), *patch = settings_select(c->patch, scope);
	struct settings settings;

	settings_default(&settings);
	if (!json_is_object(object)) {
		json_decref(object);
		object = json_object(); /* what cannot be read does not hold either */
	}
	settings_merge(object, patch);
	json_decref(patch);
	if (settings_read(object, scope, &settings, &c->err) == 0)
		return object;
	json_decref(object);
	return NULL;
}

/* Gives the text of the set there is, changed. */
static int
patch_text(struct command *c, const char *text, enum settings_scope scope, char **ret_text)
{
	json_t *object = patched(c, text, scope);

	if (object == NULL)
		return -EINVAL;
	*ret_text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(object);
	return *ret_text != NULL ? 0 : hf_error_set(&c->err, -ENOMEM, "settings");
}

/* patch(c, text): text is SETTINGS_TEXT_BYTES to work in. */
static void
run_patch(struct command *c, int (*patch)(struct command *c, char *text))
{
	char *text = malloc(SETTINGS_TEXT_BYTES);

	command_set_result(c, text != NULL ? patch(c, text) : hf_error_set(&c->err, -ENOMEM, "settings"));
	free(text);
}

static int
patch_source(struct command *c, char *text)
{
	struct registry *registry = c->server->registry;
	char *changed = NULL;
	int r = registry_get_source_settings(registry, &c->source, text, SETTINGS_TEXT_BYTES);

	if (r < 0)
		return hf_error_set(&c->err, r, "source %s", c->source.text);
	r = patch_text(c, text, SETTINGS_OF_SOURCE, &changed);
	if (r == 0)
		r = settings_read_source(changed, &c->settings, &c->tags, &c->err);
	if (r == 0)
		r = registry_set_source_settings(registry, &c->source, changed, &c->err);
	free(changed);
	return r;
}

static void
run_set_settings(struct job *job, struct disk *d, struct run_cache *cache)
{
	run_patch(command_from_job(job), patch_source);
}

static void
take_settings(struct command *c, struct source *src)
{
	char said[SENTENCE_BYTES];

	source_set_settings(src, &c->settings, c->tags);
	c->tags = NULL;
	settings_describe(c->patch, said, sizeof said);
	server_event(c->server, &c->source, "source_set", "%s", said);
	source_publish(src);
	command_finish_ok(c, said);
}

void
command_set_settings(struct server *sv, const struct id *source, json_t *patch, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->patch = json_incref(patch);
	c->at_source = take_settings;
	command_send_to_catalog(c, run_set_settings, command_tell_owner);
}

/* The set kept under the key, changed. Gives. */
static int
patch_kept(struct command *c, const char *key, enum settings_scope scope, char *text, char **ret_text)
{
	int r = registry_get_setting(c->server->registry, key, text, SETTINGS_TEXT_BYTES);

	if (r < 0 && r != -ENOENT)
		return hf_error_set(&c->err, r, "settings");
	return patch_text(c, r == 0 ? text : "{}", scope, ret_text);
}

/* All that is set, for the answer: before anything is, for there may be no memory. */
static int
join_kept(struct command *c, const char *of_source, const char *of_store)
{
	json_t *store = json_loads(of_store, 0, NULL);
	int r;

	c->kept = json_loads(of_source, 0, NULL);
	r = json_object_update(c->kept, store);
	json_decref(store);
	c->answer.kept = c->kept;
	return r < 0 ? hf_error_set(&c->err, -ENOMEM, "settings") : 0;
}

static int
patch_template(struct command *c, char *text)
{
	char *of_source = NULL, *of_store = NULL;
	int r = patch_kept(c, REGISTRY_NEW_SOURCE, SETTINGS_OF_SOURCE, text, &of_source);

	if (r == 0)
		r = patch_kept(c, REGISTRY_NEW_STORE, SETTINGS_OF_STORE, text, &of_store);
	if (r == 0)
		r = join_kept(c, of_source, of_store);
	if (r == 0)
		r = registry_set_template(c->server->registry, of_source, of_store, &c->err);
	free(of_source);
	free(of_store);
	return r;
}

static void
run_set_template(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);

	run_patch(c, patch_template);
	if (c->answer.status < 0)
		return;
	settings_describe(c->patch, c->answer.text, sizeof c->answer.text);
	server_event(c->server, NULL, "settings_set", "%s", c->answer.text);
}

void
command_set_template(struct server *sv, json_t *patch, command_done *done, void *arg)
{
	struct command *c = command_create(sv, NULL, done, arg);

	c->patch = json_incref(patch);
	command_send_to_catalog(c, run_set_template, command_on_ran);
}

/* ---- verifying ---- */

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
