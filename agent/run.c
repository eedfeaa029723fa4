/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/run.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "agent/freeze_record.h"
#include "agent/hints.h"
#include "agent/json_text.h"
#include "agent/link.h"
#include "agent/new_disks.h"
#include "agent/pass.h"
#include "agent/state.h"
#include "agent/status.h"
#include "agent/thaw.h"
#include "proto/common/id.h"
#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/units.h"

/* The newest acknowledgement is stored this often at most: losing it costs nothing but a chance to
 * notice that the server's disk went back in time. */
#define SAVE_INTERVAL_NS (60 * NS_PER_SECOND)

struct run {
	const struct options *o;
	char record_directory[PATH_MAX]; /* of freezes */
	struct state *state;             /* the main thread's, but for what the lock guards */
	struct link *link;
	struct status_server *status;
	struct new_disks *new_disks;
	struct disk_info new_disk; /* found last */
	struct pass_volume volumes[VOLUMES_MAX];
	int64_t saved_ns;
	atomic_int refused; /* --once: the server's reason to turn us away */

	pthread_mutex_t lock; /* for the status thread: state->volumes, checkpoint */
	struct message_checkpoint checkpoint;
	bool has_checkpoint;
};

/* ---- stopping ---- */

static struct link *stopped_link; /* set before the handlers are */
static atomic_bool stop;

static void
on_signal(int number)
{
	atomic_store(&stop, true);
	link_stop(stopped_link);
}

static void
catch_signals(struct link *l)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	stopped_link = l;
	sigemptyset(&action.sa_mask);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

static void
release_signals(void)
{
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
}

/* ---- status ---- */

static json_t *
time_or_null(int64_t ns)
{
	char text[UNITS_TEXT_BYTES];

	return ns == 0 ? json_null() : json_string(time_format(ns, text));
}

static json_t *
text_or_null(const char *text)
{
	return text[0] == '\0' ? json_null() : json_text(text);
}

static const struct message_volume_answer *
find_answer(const struct link_status *s, const char *identity)
{
	for (size_t i = 0; i < s->volumes.count; i++)
		if (strcmp(s->volumes.volumes[i].identity, identity) == 0)
			return &s->volumes.volumes[i];
	return NULL;
}

static void
find_progress(const struct link_status *s, uint32_t volume, uint64_t *ret_done, uint64_t *ret_total)
{
	for (size_t i = 0; i < s->report.count; i++) {
		if (s->report.volumes[i].volume == volume) {
			*ret_done = s->report.volumes[i].done_bytes;
			*ret_total = s->report.volumes[i].total_bytes;
		}
	}
}

static json_t *
pack_volume(const struct state_volume *v, const struct link_status *s)
{
	const struct message_volume_answer *a = find_answer(s, v->identity);
	enum volume_state state = a != NULL ? a->state : 0;
	const char *name = volume_state_name(state);
	const char *text = a != NULL && a->text[0] != '\0' ? a->text : volume_state_text(state);
	uint64_t done = 0, total = 0;

	if (a != NULL)
		find_progress(s, a->volume, &done, &total);
	return json_pack("{s:s, s:s, s:o, s:I, s:s, s:o, s:o, s:I, s:I}", "name", v->name, "identity", v->identity,
	    "deviceName", json_text(v->path), "totalStorageBytes", (json_int_t)v->size_bytes, "state",
	    name != NULL ? name : "NOT_DECLARED", "volumeID", text_or_null(a != NULL ? a->volume_id.text : ""), "text",
	    text_or_null(text), "doneBytes", (json_int_t)done, "totalBytes", (json_int_t)total);
}

static json_t *
pack_volumes(const struct run *r, const struct link_status *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->state->volume_count; i++)
		json_array_append_new(list, pack_volume(&r->state->volumes[i], s));
	return list;
}

/* Sequences travel as text: jq and others lose integers above 2^53. */
static json_t *
pack_status(const struct run *r, const struct link_status *s)
{
	const char *activity = activity_name(s->report.activity);
	char acked[24];

	snprintf(acked, sizeof acked, "%llu", (unsigned long long)s->acked_sequence);
	return json_pack("{s:s, s:i, s:s, s:b, s:s, s:o, s:o, s:o, s:o, s:s, s:I, s:o, s:o, s:o, s:I, "
			 "s:I, s:I, s:I, s:I, s:s}",
	    "version", HOLDFAST_VERSION, "pid", (int)getpid(), "sourceServerID", r->state->source_id.text, "connected",
	    s->connected, "server", s->server, "connectedSince", time_or_null(s->connected_since_ns),
	    "disconnectedSince", time_or_null(s->disconnected_since_ns), "lastError", text_or_null(s->last_error),
	    "lastErrorCode", s->last_code == 0 ? json_null() : json_string(hf_status_name(s->last_code)), "activity",
	    activity != NULL ? activity : "STARTING", "pass", (json_int_t)s->report.pass, "volumes", pack_volumes(r, s),
	    "lastCheckpointDateTime", time_or_null(r->has_checkpoint ? r->checkpoint.clock_ns : 0),
	    "lastCheckpointConsistency",
	    r->has_checkpoint ? json_string(consistency_name(r->checkpoint.consistency)) : json_null(),
	    "backloggedStorageBytes", (json_int_t)s->backlog_bytes, "unacknowledgedBytes", (json_int_t)s->unacked_bytes,
	    "sentBytes", (json_int_t)s->sent_bytes, "resentBytes", (json_int_t)s->resent_bytes, "reconnects",
	    (json_int_t)s->reconnects, "acknowledgedSequence", acked);
}

static char *
make_status(void *arg)
{
	struct run *r = arg;
	struct link_status *s = malloc(sizeof *s);
	json_t *root;
	char *text;

	if (s == NULL)
		return NULL;
	link_get_status(r->link, s);
	pthread_mutex_lock(&r->lock);
	root = pack_status(r, s);
	pthread_mutex_unlock(&r->lock);
	free(s);
	text = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
	json_decref(root);
	return text;
}

/* ---- what pass_run() tells; on the main thread ---- */

static void
save(struct run *r)
{
	struct hf_error err;

	if (state_save(r->state, &err) < 0)
		log_warning("state_not_saved", "msg=\"%s\"", err.text);
	r->saved_ns = clock_monotonic_ns();
}

static void
on_volume_changed(void *arg, size_t volume, const char *path, uint64_t size_bytes)
{
	struct run *r = arg;
	struct state_volume *v = &r->state->volumes[volume];

	pthread_mutex_lock(&r->lock);
	snprintf(v->path, sizeof v->path, "%s", path);
	v->size_bytes = size_bytes;
	pthread_mutex_unlock(&r->lock);
	save(r);
}

/* Before anybody is told: a process that follows must know it, too. */
static const struct state_volume *
add_volume(struct run *r, const struct disk_info *d)
{
	struct state *st = r->state;
	struct state_volume *v = &st->volumes[st->volume_count];

	pthread_mutex_lock(&r->lock);
	new_disks_name(st, d, v->name);
	snprintf(v->identity, sizeof v->identity, "%s", d->identity);
	snprintf(v->path, sizeof v->path, "%s", d->path);
	v->size_bytes = d->size_bytes;
	st->volume_count++;
	pthread_mutex_unlock(&r->lock);
	save(r);
	link_notice(
	    r->link, "volume_added", "%s (%s) is new, and replicated as volume %s", d->path, d->identity, v->name);
	return v;
}

static void
report_new_disk(struct run *r, const struct disk_info *d)
{
	char size[UNITS_TEXT_BYTES], cure[160];

	if (r->state->volume_count == VOLUMES_MAX)
		snprintf(cure, sizeof cure, "a source has at most %d volumes", VOLUMES_MAX);
	else
		snprintf(cure, sizeof cure, "to take it: holdfastctl source set %s auto-replicate-new-disks=on",
		    r->state->source_id.text);
	new_disks_told(r->new_disks, d);
	link_notice(r->link, "new_disk", "%s (%s, %s) is new and not replicated; %s", d->path,
	    size_format(d->size_bytes, size), d->identity, cure);
}

static bool
next_new_disk(void *arg, struct pass_volume *ret_disk, bool *ret_take)
{
	struct run *r = arg;
	enum new_disks_wish wish = link_new_disks(r->link);
	bool take = wish == NEW_DISKS_REPLICATE && r->state->volume_count < VOLUMES_MAX;
	const struct state_volume *v;

	if (wish == 0 || !new_disks_find(r->new_disks, !take, &r->new_disk))
		return false;
	*ret_take = take;
	if (take) {
		v = add_volume(r, &r->new_disk);
		*ret_disk = (struct pass_volume){v->name, v->identity, v->path, v->size_bytes};
		return true;
	}
	report_new_disk(r, &r->new_disk);
	*ret_disk = (struct pass_volume){"", r->new_disk.identity, r->new_disk.path, r->new_disk.size_bytes};
	return true;
}

static bool
disk_is_there(void *arg, const char *identity)
{
	struct run *r = arg;

	return new_disks_is_there(r->new_disks, identity);
}

/* What was acknowledged, for the server to be told by the next process; soon after a stream has begun, then when it is
 * due, once a minute: the state lies on a disk that is replicated, and each write of it is a change to replicate.
 * Returns whether it is to be saved. */
static bool
remember_acknowledged(struct run *r, bool due)
{
	struct link_status *s = malloc(sizeof *s);
	struct state *st = r->state;

	if (s == NULL)
		return false; /* at the next checkpoint */
	link_get_status(r->link, s);
	due = s->acked_sequence > 0 && (due || s->stream_id != st->last_stream_id);
	if (due) {
		if (st->last_stream_id != 0 && st->last_stream_id != s->stream_id)
			earlier_streams_add(&st->earlier, st->last_stream_id);
		st->last_stream_id = s->stream_id;
		st->last_acked_sequence = s->acked_sequence;
	}
	free(s);
	return due;
}

static void
on_checkpoint(void *arg, const struct message_checkpoint *checkpoint)
{
	struct run *r = arg;
	char text[UNITS_TEXT_BYTES];

	log_info("checkpoint", "clock=%s consistency=%s pass=%llu differing=%llu",
	    time_format(checkpoint->clock_ns, text), consistency_name(checkpoint->consistency),
	    (unsigned long long)checkpoint->pass, (unsigned long long)checkpoint->bytes_differing);
	pthread_mutex_lock(&r->lock);
	r->checkpoint = *checkpoint;
	r->has_checkpoint = true;
	pthread_mutex_unlock(&r->lock);
	if (remember_acknowledged(r, clock_monotonic_ns() - r->saved_ns >= SAVE_INTERVAL_NS))
		save(r);
}

/* ---- start and end ---- */

static int
open_link(struct run *r, struct hf_error *err)
{
	struct state *st = r->state;
	const char *servers[STATE_SERVERS_MAX];
	char key[PATH_MAX], certificate[PATH_MAX], ca[PATH_MAX];
	struct link_config config = {
	    .servers = servers,
	    .server_count = st->server_count,
	    .key_path = state_path(st->directory, "key.pem", key),
	    .certificate_path = state_path(st->directory, "cert.pem", certificate),
	    .ca_path = state_path(st->directory, "ca.pem", ca),
	    .incarnation = st->incarnation,
	    .last_stream_id = st->last_stream_id,
	    .last_acked_sequence = st->last_acked_sequence,
	    .earlier = st->earlier,
	    .compressions = r->o->compressions,
	};

	for (size_t i = 0; i < st->server_count; i++)
		servers[i] = st->servers[i];
	memcpy(config.installation_nonce, st->nonce, sizeof config.installation_nonce);
	hints_gather(&config.hints);
	return link_create(&config, &r->link, err);
}

/* Raised and stored before a byte is sent: the server must be able to tell this process from every
 * earlier one, and from one that another machine started from a copy of this directory. Raised by one,
 * both would arrive at the same number and look like one process that reconnects; so it is raised by
 * a random amount, and whichever of the two is behind is refused. */
static void
raise_incarnation(struct state *st)
{
	uint32_t random;

	random_bytes(&random, sizeof random);
	st->incarnation += 1 + random % (1 << 20);
}

static int
open_state(struct run *r, struct hf_error *err)
{
	int e = state_open(r->o->state_directory, STATE_EXISTING, &r->state, err);

	if (e == 0 && !r->state->enrolled)
		e = -ENOENT;
	if (e == -ENOENT)
		return hf_error_say(err, e,
		    "this machine is not enrolled (nothing in %s); type 'holdfastctl token create' "
		    "on the server, and here the "
		    "line it prints",
		    r->o->state_directory);
	if (e < 0)
		return e;
	raise_incarnation(r->state);
	r->saved_ns = clock_monotonic_ns();
	return 0;
}

static int
start(struct run *r, struct hf_error *err)
{
	int e = open_state(r, err);

	if (e == 0)
		e = new_disks_create("/sys", r->state, r->o->new_disks, &r->new_disks, err);
	if (e == 0)
		e = state_save(r->state, err);
	if (e == 0)
		e = open_link(r, err);
	if (e < 0)
		return e;
	catch_signals(r->link);
	return status_server_start(r->state->directory, make_status, r, &r->status, err);
}

static int
replicate(struct run *r, struct hf_error *err)
{
	const struct options *o = r->o;
	struct pass_config config = {
	    .volumes = r->volumes,
	    .volume_count = r->state->volume_count,
	    .interval_ns = o->interval_ns,
	    .once = o->once,
	    .read_limit_bytes = o->read_limit_bytes,
	    .freeze_mountpoints = o->freeze,
	    .freeze_count = o->freeze_count,
	    .freeze_timeout_ns = o->freeze_timeout_ns,
	    .state_directory = r->state->directory,
	    .record_directory = r->record_directory,
	    .progress = o->progress,
	    .stop = &stop,
	    .on_volume_changed = on_volume_changed,
	    .next_new_disk = next_new_disk,
	    .disk_is_there = disk_is_there,
	    .on_checkpoint = on_checkpoint,
	    .arg = r,
	};

	for (size_t i = 0; i < r->state->volume_count; i++) {
		const struct state_volume *v = &r->state->volumes[i];

		r->volumes[i] = (struct pass_volume){v->name, v->identity, v->path, v->size_bytes};
	}
	return pass_run(r->link, &config, err);
}

/* --once is for scripts: a refusal that needs a person ends it. As a service the agent keeps
 * asking. */
static bool
needs_a_person(int code)
{
	return code == -HF_ECLONE || code == -HF_EREVOKED || code == -HF_EEXPIRED || code == -HF_EVERSION ||
	       code == -HF_ESTOPPED;
}

static void *
watch_for_refusal(void *arg)
{
	struct run *r = arg;
	struct link_status *s = malloc(sizeof *s);
	const struct timespec moment = {.tv_nsec = NS_PER_SECOND / 5};

	while (s != NULL && !atomic_load(&stop)) {
		link_get_status(r->link, s);
		if (!s->connected && needs_a_person(s->last_code)) {
			atomic_store(&r->refused, s->last_code);
			log_err("refused", "msg=\"%s\"", s->last_error);
			atomic_store(&stop, true);
			link_stop(r->link);
		}
		nanosleep(&moment, NULL);
	}
	free(s);
	return NULL;
}

static int
replicate_once(struct run *r, struct hf_error *err)
{
	pthread_t watcher;
	int e = pthread_create(&watcher, NULL, watch_for_refusal, r);

	if (e != 0)
		return hf_error_set(err, -e, "start a thread");
	e = replicate(r, err);
	atomic_store(&stop, true);
	pthread_join(watcher, NULL);
	return e;
}

static void
finish(struct run *r)
{
	if (r->link != NULL) {
		(void)remember_acknowledged(r, true);
		save(r);
		release_signals();
	}
	status_server_stop(r->status);
	link_destroy(r->link);
	new_disks_destroy(r->new_disks);
	state_close(r->state);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

int
run_run(const struct options *o)
{
	struct run *r = calloc(1, sizeof *r);
	struct hf_error err = {0};
	bool refused;
	int e;

	if (r == NULL)
		return EXIT_FAILED;
	log_level_max = (enum log_level)o->log_level;
	pthread_mutex_init(&r->lock, NULL);
	r->o = o;
	thaw_left_logged(freeze_record_directory(r->record_directory)); /* before anything of ours waits for it */
	e = start(r, &err);
	if (e == 0) {
		log_notice("started", "source=%s version=%s incarnation=%llu volumes=%zu", r->state->source_id.text,
		    HOLDFAST_VERSION, (unsigned long long)r->state->incarnation, r->state->volume_count);
		e = o->once ? replicate_once(r, &err) : replicate(r, &err);
	}
	refused = atomic_load(&r->refused) != 0;
	if (e == -ECANCELED && atomic_load(&stop))
		e = 0;
	if (e < 0)
		log_err("failed", "msg=\"%s\"", err.text);
	finish(r);
	if (refused)
		return EXIT_REFUSED;
	return e < 0 ? EXIT_FAILED : EXIT_OK;
}
