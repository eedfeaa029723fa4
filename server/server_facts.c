/* SPDX-License-Identifier: Apache-2.0 */
#include "server/server_facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/common/log.h"
#include "server/server.h"
#include "server/service.h"

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

struct news *
server_news(struct server *sv)
{
	return sv->news;
}

struct ledger *
server_ledger(struct server *sv)
{
	return sv->ledger;
}

bool
server_make_room(struct server *sv)
{
	return area_make_room(sv->areas[AREA_DATA], clock_monotonic_ns());
}

void
server_default_settings(const struct server *sv, struct settings *ret_settings)
{
	settings_default(ret_settings);
	ret_settings->policy.journal_window_ns = sv->config->journal_window_ns;
	ret_settings->policy.min_retention_ns = sv->config->min_retention_ns;
	(void)policy_parse_rules(sv->config->policy, &ret_settings->policy, NULL); /* it was checked when it was read */
}

struct event_base *
server_base(struct server *sv)
{
	return sv->base;
}

int64_t
server_token_lifetime_ns(const struct server *sv)
{
	return sv->config->token_lifetime_ns;
}

void
server_get_facts(struct server *sv, struct server_facts *ret_facts)
{
	struct server_facts f = {
	    .started_ns = sv->started_ns,
	    .draining = sv->draining,
	    .restart_required = sv->restart_required,
	    .rubbish_bytes = atomic_load(&sv->rubbish_bytes),
	    .rows_waiting = ledger_waiting(sv->ledger),
	    .workers = sv->worker_count,
	    .pid = getpid(),
	    .sessions = atomic_load(&sv->session_count),
	    .reload_failed = sv->reload_failed,
	    .reloaded_ns = sv->reloaded_ns,
	    .tally = &sv->tally,
	    .scrub_interval_ns = sv->config->scrub_interval_ns,
	    .backup = {atomic_load(&sv->backup_taken_ns), atomic_load(&sv->backup_unsaved_ns)},
	};

	f.silent_thread = service_silent_thread(sv->service, &f.silent_since_ns);
	for (int i = 0; i < AREAS; i++)
		if (sv->areas[i] != NULL)
			area_get(sv->areas[i], &f.areas[i]);
	snprintf(f.version, sizeof f.version, "%s", HOLDFAST_VERSION);
	snprintf(f.data_dir, sizeof f.data_dir, "%s", data_dir_path(sv->data_dir));
	pki_ca_fingerprint(sv->pki, f.ca_fingerprint);
	for (int i = 0; i < PKI_ROLES; i++)
		(void)pki_describe(sv->pki, (enum pki_role)i, &f.certificates[i]);
	snprintf(f.listen, sizeof f.listen, "%s", sv->listen_address);
	snprintf(f.enroll_listen, sizeof f.enroll_listen, "%s", sv->enroll_address);
	*ret_facts = f;
}

/* ---- audit ---- */

struct audit_job {
	struct job job;
	struct server *server;
	struct registry_audit audit;
};

static void
run_audit(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct audit_job *a = (struct audit_job *)job;
	struct hf_error err;

	if (ledger_add_audit(a->server->ledger, &a->audit, true, &err) < 0)
		log_warning("result_not_kept", "verb=%s object=\"%s\" result=%s msg=\"%s\"", a->audit.verb,
		    a->audit.object, a->audit.result, err.text);
	free(a);
}

void
server_add_audit(struct server *sv, const struct registry_audit *audit)
{
	struct audit_job *a = calloc(1, sizeof *a);

	if (a == NULL)
		return; /* no memory: it stays without a result */
	a->job.run = run_audit;
	a->server = sv;
	a->audit = *audit;
	jobs_post(sv->catalog, &a->job);
}
