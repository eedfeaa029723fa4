/* SPDX-License-Identifier: Apache-2.0 */
#include "server/rubbish.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/server.h"
#include "storage/discard.h"

struct rubbish {
	struct mail mail;
	struct job job;
	struct server *server;
	bool measured;
	int status; /* as discard_some() */
};

static void
measure(struct rubbish *r, struct disk *d, const char *parent)
{
	uint64_t bytes;

	r->measured = discard_size(d, parent, &bytes) == 0;
	if (r->measured)
		atomic_store(&r->server->rubbish_bytes, bytes);
}

static void
run_some(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct rubbish *r = (struct rubbish *)((char *)job - offsetof(struct rubbish, job));
	uint64_t bytes, left;
	const char *journal = data_dir_journal(r->server->data_dir);
	char parent[600];

	snprintf(parent, sizeof parent, "%s/sources", data_dir_path(r->server->data_dir));
	if (!r->measured)
		measure(r, d, parent);
	r->status = discard_some(d, parent, &bytes);
	if (r->status == 0 && journal[0] != '\0')
		r->status = discard_some(d, journal, &bytes);
	left = atomic_load(&r->server->rubbish_bytes);
	atomic_store(&r->server->rubbish_bytes, r->status > 0 && left > bytes ? left - bytes : 0);
}

static void
on_some(struct job *job)
{
	struct rubbish *r = (struct rubbish *)((char *)job - offsetof(struct rubbish, job));
	struct server *sv = r->server;

	if (r->status > 0 && !sv->draining) {
		jobs_post(sv->maintenance, job);
		return;
	}
	if (r->status < 0)
		server_event(sv, NULL, "rubbish_left",
		    "what is left of deleted sources cannot be removed: %s; it is tried again at the next start",
		    hf_status_text(r->status));
	free(r);
	server_answered(sv);
}

static void
begin(struct mail *mail)
{
	struct rubbish *r = (struct rubbish *)mail;

	if (r->server->draining) {
		free(r);
		return;
	}
	r->server->answers_out++;
	jobs_post(r->server->maintenance, &r->job);
}

void
rubbish_start(struct server *sv)
{
	struct rubbish *r = calloc(1, sizeof *r);
	uint64_t none = 0;

	if (r == NULL)
		return;                                                     /* at the next start */
	(void)atomic_compare_exchange_strong(&sv->rubbish_bytes, &none, 1); /* some, until it is measured */
	r->mail.deliver = begin;
	r->job.run = run_some;
	r->job.done = on_some;
	r->job.home = sv->mailbox;
	r->server = sv;
	mailbox_post(sv->mailbox, &r->mail);
}
