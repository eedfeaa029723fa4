/* SPDX-License-Identifier: Apache-2.0 */
/* A source goes, for ever.
 *
 *	1 nobody uses it: no agent, no export; from here on nothing new is begun with it
 *	2 the registry says DELETING, its certificates are revoked: from here on it will go, whatever comes between
 *	3 its store is closed, when jobs and views are back
 *	4 its folder is renamed, the directory synced: what is in it is rubbish (storage/discard.h)
 *	5 its rows go, in one transaction
 *	6 the rubbish goes by and by (rubbish.c)
 *
 * A cut before 2 leaves all of it; a cut after 2 leaves a source that the next start goes on removing at step 4. Errors
 * of 4 and 5 leave it broken, and it is tried again as a store that cannot be opened is. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/journal_link.h"
#include "server/rubbish.h"
#include "server/source_impl.h"
#include "storage/discard.h"

struct delete_job {
	struct job job;
	struct source *source;
	int status;
	struct hf_error err;
};

static void
tell(struct source *src, int status, const char *text)
{
	source_deleted_done *done = src->deleted;

	src->deleted = NULL;
	if (done != NULL)
		done(src->deleted_arg, status, text);
}

static int
post(struct source *src, void (*run)(struct job *job, struct disk *d, struct run_cache *cache),
    void (*done)(struct job *job))
{
	struct delete_job *j = calloc(1, sizeof *j);

	if (j == NULL)
		return -ENOMEM;
	j->job.run = run;
	j->job.done = done;
	j->job.home = src->worker->mailbox;
	j->source = src;
	src->jobs_out++;
	jobs_post(src->server->catalog, &j->job);
	return 0;
}

/* ---- 4, 5: it goes ---- */

static void
run_remove(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct delete_job *j = (struct delete_job *)job;
	struct source *src = j->source;
	struct registry_source facts;
	char parent[600];

	snprintf(parent, sizeof parent, "%s/sources", data_dir_path(src->server->data_dir));
	j->status = registry_get_source(src->server->registry, &src->id, &facts, &j->err);
	if (j->status == -ENOENT) {
		j->status = 0; /* its rows went, though that seemed to fail; its folder had gone before */
		return;
	}
	if (j->status < 0)
		return;
	assert(facts.phase == PHASE_DELETING);
	j->status = journal_link_discard(src->server->data_dir, d, &src->id);
	if (j->status == 0)
		j->status = discard_folder(d, parent, src->id.text);
	if (j->status == -ENOENT)
		j->status = 0; /* all of it had gone before its rows did */
	if (j->status < 0)
		hf_error_set(&j->err, j->status, "cannot remove %s/%s", parent, src->id.text);
	else
		j->status = registry_delete_source(src->server->registry, &src->id, &j->err);
}

static void
on_removed(struct job *job)
{
	struct delete_job *j = (struct delete_job *)job;
	struct source *src = j->source;

	src->jobs_out--;
	if (j->status == 0) {
		status_forget(src->server->status, &src->id);
		server_event(
		    src->server, &src->id, "source_deleted", "the source, its certificates and its points are gone");
		rubbish_start(src->server);
		tell(src, 0, "");
		source_bury(src);
	} else {
		server_event(src->server, &src->id, "delete_failed", "%s; it is tried again", j->err.text);
		source_set_broken(src, j->status, j->err.text);
		tell(src, j->status, j->err.text);
		if (src->shutting_down)
			source_bury(src);
	}
	free(j);
}

void
source_remove(struct source *src)
{
	int r = post(src, run_remove, on_removed);

	if (r == 0)
		src->life = SOURCE_GOING;
	else
		source_set_broken(src, r, "no memory to remove it");
}

/* ---- 1, 2: it is to go ---- */

static void
run_doom(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct delete_job *j = (struct delete_job *)job;

	j->status =
	    registry_set_phase(j->source->server->registry, &j->source->id, PHASE_DELETING, clock_real_ns(), &j->err);
}

static void
on_doomed(struct job *job)
{
	struct delete_job *j = (struct delete_job *)job;
	struct source *src = j->source;

	src->jobs_out--;
	if (j->status < 0) {
		src->deleting = false;
		tell(src, j->status, j->err.text);
	} else {
		src->facts.phase = PHASE_DELETING;
		source_begin_close(src, "the source is being deleted");
	}
	src->dirty = true;
	source_touch(src);
	free(j);
}

static int
check_unused(const struct source *src, const char **ret_text)
{
	bool stopped = src->facts.phase == PHASE_STOPPED;

	if (src->deleting)
		*ret_text = "it is being deleted already";
	else if (src->volume_deletion != NULL)
		*ret_text = "a volume of it is being deleted: try again in a moment";
	else if (src->session != NULL || src->newcomer != NULL)
		*ret_text = stopped ? "its agent is being sent away: try again in a moment"
				    : "its agent is connected: holdfastctl source stop SOURCE first";
	else if (src->exports_out > 0)
		*ret_text = "a point of it is being exported: wait for the end, or end the export";
	else
		return 0;
	return -EBUSY;
}

void
source_delete(struct source *src, source_deleted_done *done, void *arg)
{
	const char *text = NULL;
	int r = src->shutting_down ? -HF_ESHUTDOWN : check_unused(src, &text);

	if (r == 0)
		r = post(src, run_doom, on_doomed);
	if (r < 0) {
		done(arg, r, text != NULL ? text : hf_status_text(r));
		return;
	}
	src->deleting = true;
	src->deleted = done;
	src->deleted_arg = arg;
	src->dirty = true;
}
