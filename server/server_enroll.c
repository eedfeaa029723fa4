/* SPDX-License-Identifier: Apache-2.0 */
/* What enrolment needs of the server: a thread that may block (the catalog thread), and a store for the newcomer. The
 * store is made inside the registry's transaction, so that there is never a source without one; when the transaction is
 * through, the source is handed to its worker, before the agent hears of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/enroll.h"
#include "server/journal_link.h"
#include "server/server.h"
#include "server/server_facts.h"
#include "server/source.h"
#include "storage/catalog.h"
#include "storage/store.h"

struct enroll_job {
	struct job job;
	struct server *server;
	void (*work)(void *arg);
	void (*done)(void *arg);
	void *arg;
};

static void
start_enrolled(struct server *sv)
{
	struct registry_source facts;
	struct hf_error err;
	int r = registry_get_source(sv->registry, &sv->enrolled, &facts, &err);

	if (r == 0)
		r = source_start(sv, &facts);
	else
		log_warning("enrolment_lost", "source=%s msg=\"its store was made, but the registry did not keep it\"",
		    sv->enrolled.text);
	if (r == -ENOMEM)
		log_err("source_not_started", "source=%s msg=\"no memory: restart the server\"", sv->enrolled.text);
}

/* A template that cannot be read is no reason to refuse a machine. */
static void
read_new_store(struct server *sv)
{
	char *text = malloc(SETTINGS_TEXT_BYTES);
	int r =
	    text == NULL ? -ENOMEM : registry_get_setting(sv->registry, REGISTRY_NEW_STORE, text, SETTINGS_TEXT_BYTES);
	json_t *object = r == 0 ? settings_load(text) : NULL;
	struct hf_error err = {0};

	server_default_settings(sv, &sv->new_store);
	if (r == 0)
		r = settings_read(object, SETTINGS_OF_STORE, &sv->new_store, &err);
	if (r < 0 && r != -ENOENT)
		log_warning("settings_unreadable", "source=- msg=\"%s: the defaults hold\"",
		    err.text[0] != '\0' ? err.text : hf_status_text(r));
	json_decref(object);
	free(text);
}

static void
run_work(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct enroll_job *e = (struct enroll_job *)job;
	struct server *sv = e->server;

	sv->catalog_disk = d;
	read_new_store(sv); /* now, for within its transaction nobody else may ask the registry */
	memset(&sv->enrolled, 0, sizeof sv->enrolled);
	e->work(e->arg);
	sv->catalog_disk = NULL;
	if (sv->enrolled.text[0] != '\0')
		start_enrolled(sv);
}

static void
on_worked(struct job *job)
{
	struct enroll_job *e = (struct enroll_job *)job;
	struct server *sv = e->server;

	e->done(e->arg);
	free(e);
	server_answered(sv);
}

static void
post(void *arg, void (*work)(void *job), void (*done)(void *job), void *job)
{
	struct server *sv = arg;
	struct enroll_job *e = calloc(1, sizeof *e);

	if (e == NULL)
		abort(); /* there is no way to refuse; what is acknowledged is on disk */
	e->job.run = run_work;
	e->job.done = on_worked;
	e->job.home = sv->mailbox;
	e->server = sv;
	e->work = work;
	e->done = done;
	e->arg = job;
	sv->answers_out++;
	jobs_post(sv->catalog, &e->job);
}

/* What is set for new sources: policy and quota are the source's own from then on. */
static int
set_up_catalog(const struct server *sv, const char *dir, struct hf_error *err)
{
	const struct settings *settings = &sv->new_store;
	struct catalog *c;
	char path[600];
	int r;

	snprintf(path, sizeof path, "%s/catalog.db", dir);
	r = catalog_open(path, NULL, false, NULL, &c, err);
	if (r < 0)
		return r;
	r = catalog_set_policy(c, &settings->policy, err);
	if (r == 0)
		r = catalog_set_space(c, settings->quota_bytes, settings->when_full, err);
	catalog_close(c);
	return r;
}

static int
on_enrolled(void *arg, const struct id *source, bool is_new, const struct message_hints *hints, struct hf_error *err)
{
	struct server *sv = arg;
	char name[64], dir[512];
	struct store_config config = {.dir = dir, .segment_bytes_max = sv->config->segment_bytes};
	int r;

	if (!is_new)
		return 0;
	snprintf(name, sizeof name, "sources/%s", source->text);
	if (!data_dir_join(sv->data_dir, name, dir, sizeof dir))
		return hf_error_set(err, -ENAMETOOLONG, "the store of %s", source->text);
	config.journal_elsewhere = data_dir_journal(sv->data_dir)[0] != '\0';
	r = store_create(sv->catalog_disk, &config, source, err);
	if (r == 0)
		r = journal_link_make(sv->data_dir, source, err);
	if (r == 0)
		r = set_up_catalog(sv, dir, err);
	if (r == 0)
		sv->enrolled = *source;
	return r;
}

int
server_open_enrolment(struct server *sv, struct hf_error *err)
{
	const char *colon = strrchr(sv->listen_address, ':');
	struct enroll_config config = {
	    .base = sv->base,
	    .listen = sv->config->enroll_listen,
	    .pki = sv->pki,
	    .registry = sv->registry,
	    .ledger = sv->ledger,
	    .certificate_lifetime_ns = sv->config->certificate_lifetime_ns,
	    .data_port = colon != NULL ? (uint32_t)atoi(colon + 1) : 0,
	    .post = post,
	    .enrolled = on_enrolled,
	    .arg = sv,
	};
	int r;

	if (strcmp(sv->config->enroll_listen, "off") == 0)
		return 0;
	r = enroll_open(&config, &sv->enroll, err);
	if (r == 0)
		snprintf(sv->enroll_address, sizeof sv->enroll_address, "%s", enroll_address(sv->enroll));
	return r;
}
