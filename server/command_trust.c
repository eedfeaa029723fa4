/* SPDX-License-Identifier: Apache-2.0 */
#include "server/command_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/ca_change.h"
#include "server/identity.h"
#include "server/server.h"
#include "server/source.h"

/* ---- tokens ---- */

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

/* ---- certificates and the CA ---- */

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
	command_publish_source(c);
	command_finish_ok(c, "all its certificates are revoked, and its session is cut");
}

void
command_revoke_source(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->at_source = revoke_certificates;
	command_send_to_catalog(c, run_revoke_source, command_tell_owner);
}

/* ---- identity: the server's, and that of a source ---- */

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
	server_look_at_backup(sv);
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
run_adopt(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct command *c = command_from_job(job);

	command_set_result(c, registry_adopt(c->server->registry, &c->source, &c->err));
}

static void
adopt(struct command *c, struct source *src)
{
	source_adopted(src);
	command_publish_source(c);
	server_event(
	    c->server, &c->source, "source_adopted", "the next installation that connects is taken as this source");
	command_finish_ok(c, "the next installation that connects is taken as this source");
}

void
command_adopt(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	struct command *c = command_create(sv, source, done, arg);

	c->at_source = adopt;
	command_send_to_catalog(c, run_adopt, command_tell_owner);
}
