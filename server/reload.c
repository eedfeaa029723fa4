/* SPDX-License-Identifier: Apache-2.0 */
/* The files are read by the catalog thread, which alone changes the server's certificate; the rest is the main
 * thread's. A configuration is never changed once it is published, for every thread reads it without asking: the old
 * ones stay in a list until the end. They are as many as there were changes, of a few KiB each. */
#include "server/reload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/enroll.h"
#include "server/notify.h"
#include "server/server.h"

struct config_version {
	struct config config;
	struct config_version *before;
};

struct reload {
	struct job job;
	struct server *server;
	command_done *done;
	void *arg;
	struct config config; /* as read */
	struct command_answer answer;
};

/* ---- configurations ---- */

static void
use_log_level(const struct config *config)
{
	int level = log_level_parse(config->log_level);

	if (level >= 0)
		log_level_max = (enum log_level)level;
}

static bool
publish(struct server *sv, const struct config *config)
{
	struct config_version *v = malloc(sizeof *v);

	if (v == NULL)
		return false;
	v->config = *config;
	v->before = sv->configs;
	sv->configs = v;
	sv->config = &v->config;
	use_log_level(config);
	return true;
}

bool
reload_begin(struct server *sv, const struct config *config)
{
	sv->reloaded_ns = clock_real_ns();
	return publish(sv, config);
}

void
reload_end(struct server *sv)
{
	while (sv->configs != NULL) {
		struct config_version *before = sv->configs->before;

		free(sv->configs);
		sv->configs = before;
	}
}

/* ---- the catalog thread's part ---- */

/* Each problem is a line of the log; the first, and how many more there are, is the answer. */
static void
tell_problems(struct reload *r, char *problems)
{
	unsigned count = 0;
	char *rest = NULL;

	for (char *line = strtok_r(problems, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
		log_err("config_problem", "msg=\"%s\"", line);
		if (count++ == 0)
			snprintf(r->answer.text, sizeof r->answer.text, "%s", line);
	}
	if (count > 1) {
		size_t len = strlen(r->answer.text);

		snprintf(r->answer.text + len, sizeof r->answer.text - len, " (and %u more: holdfastd --check-config)",
		    count - 1);
	}
}

static int
read_config(struct reload *r)
{
	char *problems = NULL;
	size_t size;
	FILE *f = open_memstream(&problems, &size);
	int status;

	if (f == NULL)
		return -ENOMEM;
	status = config_load(&r->server->origin, &r->config, f);
	if (fclose(f) != 0)
		status = -ENOMEM;
	else if (status < 0)
		tell_problems(r, problems);
	free(problems);
	return status;
}

static void
run_reload(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct reload *r = (struct reload *)job;
	struct hf_error err = {0};
	int status = read_config(r);

	if (status == 0) {
		status = pki_reload(r->server->pki, clock_real_ns(), &err);
		snprintf(r->answer.text, sizeof r->answer.text, "%s", err.text);
	}
	r->answer.certificate_changed = status > 0;
	r->answer.status = status < 0 ? status : 0;
}

/* ---- and the main thread's ---- */

static int
adopt(struct reload *r)
{
	struct server *sv = r->server;
	struct hf_error err = {0};
	config_mask restart;
	int status = 0;

	r->answer.changed = config_merge(sv->config, &r->config, &restart);
	r->answer.restart_required = restart;
	if (r->answer.certificate_changed)
		status = server_use_certificate(sv, &err);
	if (r->answer.certificate_changed && status == 0)
		server_event(sv, NULL, "server_certificate_renewed", "new connections use it");
	snprintf(r->answer.text, sizeof r->answer.text, "%s", err.text);
	if (status == 0 && r->answer.changed != 0 && !publish(sv, &r->config))
		status = -ENOMEM;
	if (status < 0)
		return status;
	sv->restart_required = restart;
	if (sv->enroll != NULL)
		enroll_set_lifetime(sv->enroll, sv->config->certificate_lifetime_ns);
	return 0;
}

static void
tell(const struct command_answer *answer)
{
	char changed[512], restart[512];

	if (answer->status < 0) {
		log_err("reload_failed", "status=%s msg=\"%s; everything stays as it was\"",
		    hf_status_name(answer->status), answer->text);
		return;
	}
	log_notice("reloaded", "changed=\"%s\" certificate=%s",
	    config_mask_format(answer->changed, changed, sizeof changed), answer->certificate_changed ? "new" : "same");
	if (answer->restart_required != 0)
		log_warning("restart_required", "keys=\"%s\" msg=\"their change takes a restart\"",
		    config_mask_format(answer->restart_required, restart, sizeof restart));
}

static void
on_reload(struct job *job)
{
	struct reload *r = (struct reload *)job;
	struct server *sv = r->server;

	if (r->answer.status == 0 && sv->draining)
		r->answer.status = -HF_ESHUTDOWN;
	if (r->answer.status == 0)
		r->answer.status = adopt(r);
	if (r->answer.status < 0 && r->answer.text[0] == '\0')
		snprintf(r->answer.text, sizeof r->answer.text, "%s", hf_status_text(r->answer.status));
	sv->reload_failed = r->answer.status < 0;
	if (!sv->reload_failed)
		sv->reloaded_ns = clock_real_ns();
	tell(&r->answer);
	if (!sv->draining)
		notify_send("READY=1");
	if (r->done != NULL)
		r->done(r->arg, &r->answer);
	free(r);
	server_answered(sv);
}

void
reload_start(struct server *sv, command_done *done, void *arg)
{
	struct reload *r = calloc(1, sizeof *r);

	if (r == NULL)
		abort(); /* a few KiB: nothing else would work either, and what is acknowledged is on disk */
	r->server = sv;
	r->done = done;
	r->arg = arg;
	r->job.run = run_reload;
	r->job.done = on_reload;
	r->job.home = sv->mailbox;
	notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(clock_monotonic_ns() / 1000));
	sv->answers_out++;
	jobs_post(sv->catalog, &r->job);
}
