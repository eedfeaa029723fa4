/* SPDX-License-Identifier: Apache-2.0 */
/* A volume that is no longer declared goes. Everything that uses a store may use any of its volumes, so the store is
 * closed for it, unless it would be refused: the session ends, jobs and views come back, the catalog thread does it,
 * the store is opened again. The agent resumes its stream, and compares nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "server/rubbish.h"
#include "server/source_impl.h"

struct volume_deletion {
	struct job job;
	struct source *source;
	char volume[PIT_NAME_BYTES];
	bool with_points;
	source_deleted_done *done;
	void *arg;
	size_t points;
	int status;
	struct hf_error err;
};

static void
run_deletion(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct volume_deletion *v = (struct volume_deletion *)job;
	struct store_config config = source_store_config(v->source);

	v->status = store_delete_volume(d, &config, v->volume, v->with_points, &v->points, &v->err);
}

static void
on_deletion(struct job *job)
{
	struct volume_deletion *v = (struct volume_deletion *)job;
	struct source *src = v->source;
	char text[SENTENCE_BYTES];

	src->jobs_out--;
	src->volume_deletion = NULL;
	src->store_status = 0;
	snprintf(text, sizeof text, "volume %s is gone, and %zu point%s in time with it", v->volume, v->points,
	    v->points == 1 ? "" : "s");
	if (!src->shutting_down) {
		source_open(src);
		source_publish(src); /* who hears of it, and looks, does not find what went */
	}
	if (v->status == 0) {
		server_event(src->server, &src->id, "volume_deleted", "%s", text);
		rubbish_start(src->server);
	}
	v->done(v->arg, v->status, v->status == 0 ? text : v->err.text);
	free(v);
	if (src->shutting_down)
		source_bury(src);
}

void
source_run_volume_deletion(struct source *src)
{
	src->life = SOURCE_GOING;
	src->jobs_out++;
	jobs_post(src->server->catalog, &src->volume_deletion->job);
}

static int
check_free(const struct source *src, struct hf_error *err)
{
	if (src->life != SOURCE_OPEN || src->deleting || src->shutting_down)
		return hf_error_say(err, -EBUSY, "its data is not open: try again in a moment");
	if (src->exports_out > 0)
		return hf_error_say(
		    err, -EBUSY, "a point of it is being exported: wait for the end, or end the export");
	return 0;
}

void
source_delete_volume(struct source *src, const char *volume, bool with_points, source_deleted_done *done, void *arg)
{
	struct volume_deletion *v;
	struct hf_error err;
	int r = check_free(src, &err);

	if (r == 0)
		r = store_check_delete_volume(src->store, volume, with_points, &err);
	if (r < 0) {
		done(arg, r, err.text);
		return;
	}
	v = calloc(1, sizeof *v);
	if (v == NULL) {
		done(arg, -ENOMEM, hf_status_text(-ENOMEM));
		return;
	}
	v->job.run = run_deletion;
	v->job.done = on_deletion;
	v->job.home = src->worker->mailbox;
	v->source = src;
	snprintf(v->volume, sizeof v->volume, "%s", volume);
	v->with_points = with_points;
	v->done = done;
	v->arg = arg;
	src->volume_deletion = v;
	src->store_status = -EAGAIN;
	snprintf(src->store_text, sizeof src->store_text, "a volume is being deleted: try again in a moment");
	source_begin_close(src, "a volume is being deleted; come again at once");
}
