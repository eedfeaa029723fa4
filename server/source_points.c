/* SPDX-License-Identifier: Apache-2.0 */
/* Points in time as they concern the running server: points asked for by hand, and reading the newest one back.
 *
 * A request travels: CHECKPOINT_REQUEST to the agent; a checkpoint that names it is queued (its time of arrival marks
 * it); that checkpoint is durable; a job keeps it. A session that begins to stream is told of all that are open, so a
 * reconnect loses none.
 *
 * Read-back: of every volume of the point some blocks at random places are read through the same path as an export,
 * digests checked. With every block's digest checked on arrival, this proves that the way back works. A point that is
 * kept has it in its row: after a restart it counts at once. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/api_json.h"
#include "server/news.h"
#include "server/session.h"
#include "server/session_impl.h"
#include "server/source_impl.h"

/* ---- requests ---- */

static void
end_request(struct pit_request *q, int status, const char *text)
{
	struct pit_request ended = *q;

	memset(q, 0, sizeof *q); /* first: done() may ask again */
	ended.done(ended.arg, status, text, ended.lsn);
}

static bool
is_streaming(const struct source *src)
{
	return src->session != NULL && src->session->state == SESSION_STREAMING;
}

static const char *
why_not(const struct source *src, bool too_many)
{
	if (too_many)
		return "too many points are being made by hand for this source: wait for one of them";
	if (src->facts.phase == PHASE_PAUSED)
		return "replication is paused: holdfastctl source resume SOURCE; --newest takes the newest point there "
		       "is";
	if (src->facts.phase == PHASE_STOPPED)
		return "replication is stopped: holdfastctl source start SOURCE; --newest takes the newest point there "
		       "is";
	return "the agent is not connected: --newest takes the newest point there is";
}

void
source_request_pit(struct source *src, const char *name, int64_t deadline_ns, source_pit_done *done, void *arg)
{
	struct pit_request *q = NULL;

	for (size_t i = 0; q == NULL && i < PIT_REQUESTS_MAX; i++)
		if (src->requests[i].id == 0)
			q = &src->requests[i];
	if (q == NULL || src->session == NULL || source_is_paused(src)) {
		done(arg, q == NULL ? -EBUSY : -ENOTCONN, why_not(src, q == NULL), 0);
		return;
	}
	q->id = ++src->next_request_id;
	q->deadline_ns = deadline_ns;
	snprintf(q->name, sizeof q->name, "%s", name);
	q->done = done;
	q->arg = arg;
	q->source = src;
	if (is_streaming(src))
		session_send_checkpoint_request(src->session, q->id, false); /* else when its stream starts */
}

void
source_send_requests(struct source *src)
{
	for (size_t i = 0; i < PIT_REQUESTS_MAX; i++)
		if (src->requests[i].id != 0 && !src->requests[i].keeping) {
			src->requests[i].received_ns = 0; /* its checkpoint may have been lost with the session */
			session_send_checkpoint_request(src->session, src->requests[i].id, false);
		}
}

/* A request whose job is out ends with the job. */
void
source_expire_requests(struct source *src, int64_t now_ns)
{
	for (size_t i = 0; i < PIT_REQUESTS_MAX; i++) {
		struct pit_request *q = &src->requests[i];

		if (q->id != 0 && !q->keeping && now_ns >= q->deadline_ns)
			end_request(q, -ETIMEDOUT,
			    "the agent did not reach a checkpoint in time: give it longer, or take --newest");
	}
}

void
source_end_requests(struct source *src, int status, const char *text)
{
	for (size_t i = 0; i < PIT_REQUESTS_MAX; i++)
		if (src->requests[i].id != 0 && !src->requests[i].keeping)
			end_request(&src->requests[i], status, text);
}

int
source_keep_point(
    struct source *src, uint64_t lsn, const char *name, source_job_finished *finished, void *arg, char *ret_text)
{
	struct pit old = {0}; /* it need not be one yet */
	int r = store_find_pit_at(src->store, lsn, &old);

	ret_text[0] = '\0';
	if (r < 0 && r != -HF_ENOPIT)
		return r;
	if (old.name[0] != '\0' && name[0] != '\0' && strcmp(old.name, name) != 0) {
		snprintf(ret_text, SENTENCE_BYTES, "nothing changed since point '%s' (%s): it is the same point",
		    old.name, old.id.text);
		return -EEXIST;
	}
	if (old.name[0] != '\0')
		name = old.name;
	return source_run_job(src, store_pit_keep(src->store, lsn, name, false), finished, arg);
}

static void
on_kept(void *arg, struct store_job *job)
{
	const char *text;
	int r = store_job_status(job, &text);

	end_request(arg, r, text);
}

static void
keep_requested(struct pit_request *q, const struct checkpoint *c)
{
	struct source *src = q->source;
	char text[SENTENCE_BYTES];
	int r;

	q->lsn = c->lsn;
	q->keeping = true;
	r = source_keep_point(src, c->lsn, q->name, on_kept, q, text);
	if (r < 0)
		end_request(q, r, text[0] != '\0' ? text : hf_status_text(r));
}

void
source_point_durable(struct source *src, const struct checkpoint *c)
{
	log_debug("checkpoint_durable", "source=%s lsn=%" PRIu64 " consistency=%s complete=%d", src->id.text, c->lsn,
	    checkpoint_consistency_name(c->consistency), c->complete);
	src->compare_failed.status = 0;
	for (size_t i = 0; i < PIT_REQUESTS_MAX; i++) {
		struct pit_request *q = &src->requests[i];

		if (q->id != 0 && !q->keeping && q->received_ns != 0 && q->received_ns == c->received_ns)
			keep_requested(q, c);
	}
	source_prove_durable(src, c);
}

/* Told to whoever listens, and not kept: the list of points is its record. */
void
source_note_taken(struct source *src, const struct pit *pit)
{
	char *line = api_json_line(api_json_point_taken(&src->id, pit, clock_real_ns()));

	source_publish(src); /* who hears of it, and looks, finds it */
	log_debug("point_taken", "source=%s pit=%s", src->id.text, pit->id.text);
	if (line != NULL)
		news_add(src->server->news, &src->id, line);
}

/* ---- read-back ---- */

struct verify_job {
	struct job job;
	struct source *source;
	struct view *view;
	uint64_t lsn;
	struct id pit;
	struct checkpoint checkpoint;
	int status;
	struct view_fault fault;
};

/* A place with data in it, if there is any after a random one. */
static int
verify_block(struct verify_job *v, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t blocks, void *buf)
{
	uint64_t at;
	int r;

	random_bytes(&at, sizeof at);
	r = view_next_data(v->view, d, cache, volume, at % blocks, &at);
	if (r < 0 || at >= blocks)
		return r;
	return view_read(v->view, d, cache, volume, at, 1, buf, &v->fault);
}

static int
verify_volume(
    struct verify_job *v, struct disk *d, struct run_cache *cache, uint32_t volume, uint64_t size_bytes, void *buf)
{
	uint64_t blocks = (size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
	int r = 0;

	v->fault.volume = volume;
	for (int i = 0; i < VERIFY_SAMPLES && r == 0; i++)
		r = verify_block(v, d, cache, volume, blocks, buf);
	return r;
}

static void
run_verify(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct verify_job *v = (struct verify_job *)job;
	void *buf = buffer_alloc(BLOCK_BYTES);
	const struct checkpoint *c = &v->checkpoint;

	v->status = buf != NULL ? 0 : -ENOMEM;
	for (uint32_t i = 0; i < c->volume_count && v->status == 0; i++)
		v->status = verify_volume(v, d, cache, c->volumes[i].volume, c->volumes[i].size_bytes, buf);
	buffer_free(buf, BLOCK_BYTES);
}

static void
mark_row(struct source *src, const struct id *pit, enum store_pit_verb verb)
{
	(void)source_run_job(src, store_pit_change(src->store, pit, verb), NULL, NULL);
}

/* If the newest kept point is the one read back, its row says so: it counts after a restart, and the newest such point
 * never expires. Tried once: a row that could not be written is written after the next start. */
static void
mark_verified(struct source *src)
{
	const struct pit *kept = store_newest_kept(src->store, false);

	if (kept == NULL || kept->verified_ns != 0 || kept->lsn != src->verified_lsn || kept->lsn == src->marked_lsn)
		return;
	src->marked_lsn = kept->lsn;
	mark_row(src, &kept->id, STORE_PIT_VERIFIED);
}

static void
note_verified(struct source *src, const struct verify_job *v)
{
	src->verify_status = 0;
	src->verified_lsn = v->lsn;
	src->verified_pit = v->pit;
	src->verified_ns = src->worker->now_ns;
	src->verified_clock_ns = clock_real_ns();
	mark_verified(src);
}

static void
note_damaged(struct source *src, const struct verify_job *v)
{
	const struct pit *verified = store_newest_kept(src->store, true);

	snprintf(src->verify_text, sizeof src->verify_text, "%s, volume %u, offset %" PRIu64 ": %s", v->pit.text,
	    v->fault.volume, v->fault.block * BLOCK_BYTES, hf_status_text(v->status));
	store_suspect(src->store, v->fault.volume, v->fault.block);
	if (src->verify_status != v->status)
		server_event(src->server, &src->id, "integrity_error", "reading back failed: %s", src->verify_text);
	if (verified != NULL && verified->lsn == v->lsn)
		mark_row(src, &v->pit, STORE_PIT_UNVERIFIED);
	if (src->verified_lsn == v->lsn) {
		src->verified_lsn = src->marked_lsn = 0;
		src->verified_pit = (struct id){{0}};
	}
	src->verify_status = v->status;
	src->verified_ns = src->worker->now_ns; /* again in a minute, not at once */
}

static void
on_verified(struct job *job)
{
	struct verify_job *v = (struct verify_job *)job;
	struct source *src = v->source;

	src->jobs_out--;
	src->verifying = false;
	source_view_release(src, v->view);
	log_debug("point_read_back", "source=%s point=%s status=%s", src->id.text, v->pit.text,
	    v->status == 0 ? "good" : hf_status_name(v->status));
	if (v->status == 0)
		note_verified(src, v);
	else if (v->status != -ENOMEM)
		note_damaged(src, v);
	src->dirty = true;
	free(v);
}

static void
verify(struct source *src, const struct checkpoint *c)
{
	struct verify_job *v = calloc(1, sizeof *v);

	if (v == NULL)
		return; /* at the next tick */
	v->checkpoint = *c;
	v->lsn = c->lsn;
	v->pit = checkpoint_pit_id(&src->id, c->lsn, c->stream_id);
	if (source_view(src, c->lsn, &v->view) < 0) {
		free(v); /* folded over meanwhile, or too many views: the next one */
		return;
	}
	v->job.run = run_verify;
	v->job.done = on_verified;
	v->job.home = src->worker->mailbox;
	v->source = src;
	src->verifying = true;
	src->jobs_out++;
	jobs_post(src->server->readers, &v->job);
}

/* What was read back before a restart counts at once; it is read back again all the same. */
void
source_begin_verify(struct source *src)
{
	const struct pit *p = store_newest_kept(src->store, true);

	src->verified_lsn = src->marked_lsn = p != NULL ? p->lsn : 0;
	src->verified_pit = p != NULL ? p->id : (struct id){{0}};
	src->verified_ns = 0;
	src->verified_clock_ns = p != NULL ? p->verified_ns : 0;
}

/* Every point that is kept is read back once, soon after it came; beside that the newest one, once a minute. */
void
source_pump_verify(struct source *src, int64_t now_ns)
{
	const struct checkpoint *newest = store_newest_consistent(src->store);
	const struct pit *kept = store_newest_kept(src->store, false);
	bool rested = src->verified_ns == 0 || now_ns - src->verified_ns > VERIFY_INTERVAL_NS;

	if (src->verifying)
		return;
	mark_verified(src);
	if (kept != NULL && kept->verified_ns == 0 && kept->lsn != src->verified_lsn &&
	    (rested || src->verify_status == 0))
		verify(src, &kept->checkpoint);
	else if (newest != NULL && rested && (newest->lsn != src->verified_lsn || src->verified_ns == 0))
		verify(src, newest);
}
