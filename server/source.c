/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a source's store in this process: opened by a reader thread, attached to the worker, fed with threads for
 * its jobs, closed when nothing of it is out any more. A store that failed, or could not be opened, goes through the
 * same door: closed, and opened again after a while. */
#include "server/source.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/session.h"
#include "server/session_impl.h"
#include "server/source_impl.h"

enum { SOURCE_MAGIC = 0x73726365 };

struct source *
source_from_arg(void *arg)
{
	struct source *src = arg;

	assert(src->magic == SOURCE_MAGIC);
	return src;
}

static struct source *
source_from_mail(struct mail *mail)
{
	return source_from_arg((char *)mail - offsetof(struct source, mail));
}

struct store *
source_store(struct source *src)
{
	return src->store;
}

bool
source_wait_open(struct source *src, struct mail *mail)
{
	if (src->life != SOURCE_OPENING)
		return false;
	mail->next = NULL;
	LL_APPEND(src->waiting, mail);
	return true;
}

static void
wake_waiting(struct source *src)
{
	struct mail *waiting = src->waiting, *next;

	src->waiting = NULL; /* first: whoever is delivered may wait again */
	for (; waiting != NULL; waiting = next) {
		next = waiting->next;
		waiting->deliver(waiting);
	}
}

uint64_t
source_durable_sequence(const struct source *src)
{
	return src->durable_sequence;
}

int
source_status(const struct source *src, const char **ret_text)
{
	if (src->deleting) {
		*ret_text = "the source is being deleted";
		return -EBUSY;
	}
	switch (src->life) {
	case SOURCE_OPEN: return 0;
	case SOURCE_OPENING:
		*ret_text = "the server is opening this source's data: try again in a moment";
		return -EAGAIN;
	case SOURCE_BROKEN: *ret_text = src->store_text; return src->store_status;
	case SOURCE_CLOSING:
	case SOURCE_GOING: break;
	}
	*ret_text = src->shutting_down ? "the server is shutting down" : src->store_text;
	return src->shutting_down ? -HF_ESHUTDOWN : src->store_status;
}

void
source_touch(struct source *src)
{
	if (src->touched)
		return;
	src->touched = true;
	LL_PREPEND2(src->worker->touched_sources, src, next_touched);
	worker_touch(src->worker);
}

void
source_flush(struct source *src)
{
	if (src->life == SOURCE_OPEN)
		store_flush(src->store);
	source_touch(src);
}

/* ---- what the store says ---- */

static void
on_durable(void *arg, uint64_t sequence)
{
	struct source *src = source_from_arg(arg);

	src->durable_sequence = sequence;
	src->full_ns = 0;
	src->disk_answered_ns = src->worker->now_ns;
	src->dirty = true;
	if (src->session != NULL)
		session_touch(src->session);
	source_touch(src);
}

static void
on_room(void *arg)
{
	struct source *src = source_from_arg(arg);

	src->room = true;
	source_touch(src);
}

static void
on_checkpoint(void *arg, const struct checkpoint *c)
{
	struct source *src = source_from_arg(arg);

	source_point_durable(src, c);
	src->dirty = true;
	source_touch(src);
}

static void
on_job_ready(void *arg)
{
	source_touch(source_from_arg(arg));
}

void
source_fail(struct source *src, int status, const char *text)
{
	src->failed = true;
	src->store_status = status;
	snprintf(src->store_text, sizeof src->store_text, "%s", text);
	source_touch(src);
}

static void
on_failed(void *arg, int status, const char *text)
{
	source_fail(source_from_arg(arg), status, text);
}

static void
on_thinned(void *arg, const struct pit *pit)
{
	source_note_thinned(source_from_arg(arg), pit);
}

static void
on_taken(void *arg, const struct pit *pit)
{
	source_note_taken(source_from_arg(arg), pit);
}

static void
on_damaged(void *arg, const struct damage *d)
{
	source_note_damaged(source_from_arg(arg), d);
}

static void
on_mended(void *arg, const struct damage *d, bool healed)
{
	source_note_mended(source_from_arg(arg), d, healed);
}

static void
on_scrubbed(void *arg)
{
	source_note_scrubbed(source_from_arg(arg));
}

static const struct store_events events = {
    .thinned = on_thinned,
    .taken = on_taken,
    .damaged = on_damaged,
    .mended = on_mended,
    .scrubbed = on_scrubbed,
    .durable = on_durable,
    .room = on_room,
    .checkpoint = on_checkpoint,
    .job_ready = on_job_ready,
    .failed = on_failed,
};

/* ---- opening ---- */

struct open_job {
	struct job job;
	struct source *source;
	struct store *store;
	int status;
	struct hf_error err;
};

struct store_config
source_store_config(const struct source *src)
{
	struct area_facts facts;

	area_get(src->server->areas[AREA_DATA], &facts);
	return (struct store_config){
	    .dir = src->dir,
	    .segment_bytes_max = src->server->config->segment_bytes,
	    .scrub_interval_ns = src->server->config->scrub_interval_ns,
	    .scrub_bytes = src->server->config->scrub_bytes,
	    .reserve_bytes = area_space(&facts).reserve_bytes,
	};
}

static void
run_open_job(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct open_job *o = (struct open_job *)job;
	struct store_config config = source_store_config(o->source);

	o->status = store_open(d, &config, &o->store, &o->err);
	if (o->status == -ENOENT)
		o->status = -HF_ECORRUPT; /* its folder is gone; the source is not unknown */
}

void
source_set_broken(struct source *src, int status, const char *text)
{
	src->life = SOURCE_BROKEN;
	src->store_status = status;
	if (text != src->store_text)
		snprintf(src->store_text, sizeof src->store_text, "%s", text);
	if (src->retry_delay_ns == 0)
		src->retry_delay_ns = REOPEN_DELAY_NS;
	src->retry_ns = clock_monotonic_ns() + src->retry_delay_ns;
	src->retry_delay_ns =
	    src->retry_delay_ns * 2 < REOPEN_DELAY_MAX_NS ? src->retry_delay_ns * 2 : REOPEN_DELAY_MAX_NS;
	src->dirty = true;
}

static void
tell_repair(struct source *src)
{
	const struct store_repair *t = store_get_repair(src->store);

	if (t->how == STORE_CATALOG_WHOLE)
		return;
	src->repair = *t;
	server_event(src->server, &src->id, t->how == STORE_CATALOG_COPY ? "catalog_from_copy" : "catalog_rebuilt",
	    "%s", t->text);
}

static void
take_store(struct source *src, struct store *store)
{
	src->store = store;
	src->life = SOURCE_OPEN;
	src->store_status = 0;
	src->received_sequence = src->durable_sequence = 0;
	src->failed = false;
	src->disk_answered_ns = clock_monotonic_ns();
	src->space.counted_ns = 0;
	source_begin_verify(src);
	store_attach(store, src->worker->disk, src->worker->slabs, &events, src);
	source_tick_space(src, clock_monotonic_ns()); /* its quota holds, and is shown, from the first moment */
	tell_repair(src);
	log_info("source_open", "source=%s worker=%u", src->id.text, src->worker->index);
}

/* What makes room, or opens what is there, has found none: it shall have more of the reserve. */
static void
note_starved(struct source *src, int status)
{
	if (status == -ENOSPC || status == -EDQUOT || status == -HF_EFULL)
		source_tell_full(src);
}

static void
on_opened(struct job *job)
{
	struct open_job *o = (struct open_job *)job;
	struct source *src = o->source;

	src->jobs_out--;
	note_starved(src, o->status);
	if (o->status == 0) {
		take_store(src, o->store);
	} else {
		if (src->store_status != o->status)
			server_event(src->server, &src->id, "store_unusable", "%s", o->err.text);
		source_set_broken(src, o->status, o->err.text);
		if (src->newcomer != NULL)
			session_end(src->newcomer, o->status, src->store_text, "");
	}
	free(o);
	wake_waiting(src);
	if (src->shutting_down)
		source_shutdown(src);
	src->dirty = true;
	source_touch(src);
}

void
source_open(struct source *src)
{
	struct open_job *o = calloc(1, sizeof *o);

	if (o == NULL) {
		source_set_broken(src, -ENOMEM, "no memory to open the store");
		return;
	}
	o->job.run = run_open_job;
	o->job.done = on_opened;
	o->job.home = src->worker->mailbox;
	o->source = src;
	src->life = SOURCE_OPENING;
	src->jobs_out++;
	jobs_post(src->server->readers, &o->job);
}

static void
free_source(struct source *src)
{
	free(src->tags);
	free(src->new_disks);
	free(src->declared);
	free(src->proof);
	free(src->damage);
	src->magic = 0;
	free(src);
}

/* On the owner: there may be one already, when a source enrols again. */
static void
on_start(struct mail *mail)
{
	struct source *src = source_from_mail(mail), *old = worker_find_source(src->worker, &src->id);
	struct worker *w = src->worker;

	if (old != NULL || w->draining) {
		free_source(src);
		return;
	}
	HASH_ADD(hh, w->sources, id.text, ID_BYTES, src);
	rate_init(&src->rate, clock_monotonic_ns());
	source_tick_pace(src);
	src->dirty = true;
	src->deleting = src->facts.phase == PHASE_DELETING;
	if (src->deleting)
		source_remove(src);
	else
		source_open(src);
	source_touch(src);
}

/* Settings that cannot be read are no reason to protect nothing. */
static void
read_settings(struct source *src)
{
	char *text = malloc(SETTINGS_TEXT_BYTES);
	struct hf_error err = {0};
	int r = text == NULL ? -ENOMEM
			     : registry_get_source_settings(src->server->registry, &src->id, text, SETTINGS_TEXT_BYTES);

	if (r == 0)
		r = settings_read_source(text, &src->settings, &src->tags, &err);
	if (r < 0) {
		log_warning("settings_unreadable", "source=%s msg=\"%s: the defaults hold\"", src->id.text,
		    err.text[0] != '\0' ? err.text : hf_status_text(r));
		settings_default_source(&src->settings);
	}
	free(text);
}

int
source_start(struct server *sv, const struct registry_source *facts)
{
	struct source *src = calloc(1, sizeof *src);

	if (src == NULL)
		return -ENOMEM;
	src->magic = SOURCE_MAGIC;
	src->id = facts->id;
	src->facts = *facts;
	src->ever_connected = facts->last_seen_ns != 0;
	src->seen_ns = facts->last_seen_ns;
	src->heard_ns = clock_monotonic_ns();
	src->first_byte_ns = facts->first_byte_ns;
	src->certificate_expires_ns = facts->certificate_expires_ns;
	src->server = sv;
	src->worker = server_owner(sv, &facts->id);
	snprintf(src->dir, sizeof src->dir, "%s/sources/%s", data_dir_path(sv->data_dir), facts->id.text);
	read_settings(src);
	if (source_publish_first(src) < 0) {
		free_source(src);
		return -ENOMEM;
	}
	src->mail.deliver = on_start;
	mailbox_post(src->worker->mailbox, &src->mail);
	return 0;
}

/* ---- jobs of the store ---- */

struct source_job {
	struct job job;
	struct source *source;
	struct store_job *work;
	source_job_finished *finished; /* NULL: the store's own, nobody waits */
	void *arg;
};

static void
run_source_job(struct job *job, struct disk *d, struct run_cache *cache)
{
	store_job_run(((struct source_job *)job)->work, d, cache);
}

static void
log_failed_job(struct source *src, const struct store_job *job)
{
	int64_t now = src->worker->now_ns;
	const char *text;
	int r = store_job_status(job, &text);

	if (r == 0 || r == -ECANCELED) /* told to give up, at shutdown */
		return;
	if (r == src->job_status && now - src->job_logged_ns < JOB_LOG_INTERVAL_NS)
		return;
	src->job_status = r;
	src->job_logged_ns = now;
	log_warning("store_job_failed", "source=%s job=\"%s\" status=%s msg=\"%s\"", src->id.text, store_job_name(job),
	    hf_status_name(r), text);
}

static void
on_source_job(struct job *job)
{
	struct source_job *j = (struct source_job *)job;
	struct source *src = j->source;

	src->jobs_out--;
	src->dirty = true;
	if (j->finished == NULL) /* else somebody waits for the answer */
		log_failed_job(src, j->work);
	if (!store_job_is_ingest(j->work))
		note_starved(src, store_job_status(j->work, NULL));
	store_job_finish(src->store, j->work, j->finished != NULL);
	if (j->finished != NULL) {
		j->finished(j->arg, j->work);
		store_job_destroy(j->work);
	}
	free(j);
	source_touch(src);
}

static struct source_job *
make_source_job(struct source *src)
{
	struct source_job *j = calloc(1, sizeof *j);

	if (j == NULL)
		return NULL;
	j->job.run = run_source_job;
	j->job.done = on_source_job;
	j->job.home = src->worker->mailbox;
	j->source = src;
	return j;
}

int
source_run_job(struct source *src, struct store_job *job, source_job_finished *finished, void *arg)
{
	struct source_job *j = job != NULL ? make_source_job(src) : NULL;

	if (j == NULL) {
		store_job_destroy(job);
		return -ENOMEM;
	}
	j->work = job;
	j->finished = finished;
	j->arg = arg;
	src->jobs_out++;
	jobs_post(store_job_is_slow(job) ? src->server->maintenance : src->server->catalog, &j->job);
	return 0;
}

/* Fetch what the store wants done. The carrier comes first: a job taken must be run. */
static void
pump_jobs(struct source *src)
{
	for (;;) {
		struct source_job *j = make_source_job(src);

		if (j == NULL)
			return; /* no memory: at the next tick */
		j->work = store_job_next(src->store);
		if (j->work == NULL) {
			free(j);
			return;
		}
		src->jobs_out++;
		jobs_post(store_job_is_slow(j->work) ? src->server->maintenance : src->server->catalog, &j->job);
	}
}

/* ---- views ---- */

int
source_view(struct source *src, uint64_t lsn, struct view **ret_view)
{
	int r = store_view(src->store, lsn, ret_view);

	if (r == 0)
		src->views_out++;
	return r;
}

void
source_export_begins(struct source *src)
{
	src->exports_out++;
}

void
source_export_ends(struct source *src)
{
	src->exports_out--;
}

void
source_view_release(struct source *src, struct view *v)
{
	store_view_release(src->store, v);
	src->views_out--;
	source_touch(src);
}

/* ---- closing ---- */

void
source_bury(struct source *src)
{
	struct worker *w = src->worker;

	HASH_DEL(w->sources, src);
	if (src->touched)
		LL_DELETE2(w->touched_sources, src, next_touched);
	free_source(src);
	worker_touch(w);
}

/* Here and not on another thread: the store gives slabs back to this worker's pool. It may wait for a disk for some
 * milliseconds, but that happens at the end of the process, or when the disk has failed. */
static void
maybe_close(struct source *src)
{
	if (src->jobs_out > 0 || src->views_out > 0)
		return;
	if (src->store != NULL && !store_is_idle(src->store))
		return;
	store_close(src->store, src->worker->disk);
	src->store = NULL;
	if (src->deleting)
		source_remove(src);
	else if (src->volume_deletion != NULL)
		source_run_volume_deletion(src);
	else if (src->shutting_down)
		source_bury(src);
	else
		source_set_broken(src, src->store_status, src->store_text);
}

static void
on_last_job(void *arg, struct store_job *job)
{
	const char *text;
	struct source *src = source_from_arg(arg);
	int r = store_job_status(job, &text);

	if (r < 0)
		log_warning("catalog_not_copied", "source=%s msg=\"%s\"", src->id.text, text);
}

static void
run_last_job(struct source *src)
{
	struct store_job *job = store_last_job(src->store);

	if (job != NULL)
		(void)source_run_job(src, job, on_last_job, src); /* no memory: then the copy is a minute older */
}

void
source_begin_close(struct source *src, const char *text)
{
	int status = src->deleting ? -HF_ESTOPPED : src->shutting_down ? -HF_ESHUTDOWN : src->store_status;

	if (src->newcomer != NULL)
		session_end(src->newcomer, status, text, "");
	if (src->session != NULL)
		session_end(src->session, status, text, "");
	source_end_requests(src, status, text);
	source_drop_compares(src);
	src->life = SOURCE_CLOSING;
	if (src->store != NULL)
		store_shutdown(src->store);
	if (src->store != NULL && !src->deleting)
		run_last_job(src);
	source_touch(src);
}

void
source_shutdown(struct source *src)
{
	src->shutting_down = true;
	switch (src->life) {
	case SOURCE_OPENING: return; /* on_opened() comes back here */
	case SOURCE_OPEN:
	case SOURCE_BROKEN: source_begin_close(src, "the server is shutting down"); return;
	case SOURCE_CLOSING:
	case SOURCE_GOING: return;
	}
}

static void
close_failed(struct source *src)
{
	src->failed = false;
	server_event(src->server, &src->id, "store_failed", "%s; it is opened again", src->store_text);
	source_begin_close(src, "the server cannot write its staging area");
}

/* ---- turn and tick ---- */

static void
turn_open(struct source *src)
{
	if (src->failed) {
		close_failed(src);
		return;
	}
	pump_jobs(src);
	if (src->session != NULL && src->room) {
		src->room = false;
		session_resume(src->session);
	}
	source_pump_compares(src);
	source_pump_heal(src);
	source_welcome_newcomer(src);
	if (src->session != NULL)
		session_touch(src->session);
}

void
source_turn_end(struct source *src)
{
	if (src->life == SOURCE_OPEN)
		turn_open(src);
	else if (src->life == SOURCE_CLOSING)
		maybe_close(src);
}

static void
tick_second(struct source *src, int64_t now_ns)
{
	if (src->life == SOURCE_OPEN) {
		source_tick_space(src, now_ns);
		source_tick_scrub(src, now_ns);
		store_tick(src->store);
		source_watch_retention(src);
		source_watch_target(src);
		source_watch_disk(src, now_ns);
		src->room = true; /* a full disk may have room again: try */
		source_pump_verify(src, now_ns);
		if (src->retry_delay_ns > 0 && now_ns > src->retry_ns + REOPEN_DELAY_MAX_NS)
			src->retry_delay_ns = 0; /* it has held for a while */
	}
	if (src->life == SOURCE_BROKEN && now_ns >= src->retry_ns && !src->shutting_down) {
		if (src->facts.phase == PHASE_DELETING)
			source_remove(src);
		else if (!src->deleting) /* else it is about to be */
			source_open(src);
	}
	source_tick_pace(src);
	source_watch_network(src, now_ns);
	source_expire_requests(src, now_ns);
	source_tick_proof(src);
	src->events -= src->events > 0;
	if (src->compare_view != NULL && !src->compare_running && now_ns - src->compare_used_ns > VIEW_IDLE_NS)
		source_drop_compare_view(src);
	source_touch(src);
}

void
source_tick(struct source *src, int64_t now_ns, bool second)
{
	if (src->life == SOURCE_OPEN && store_is_scrubbing(src->store))
		source_touch(src); /* its slices are less than a second apart */
	if (src->session != NULL) {
		src->active_ns = now_ns;
		source_note_heard(src);
	}
	if (second)
		tick_second(src, now_ns);
	/* Rates fall for five minutes after the last byte; after that nothing changes by itself. */
	if (src->dirty || (second && now_ns - src->active_ns < 310 * NS_PER_SECOND))
		source_publish(src);
}
