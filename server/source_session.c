/* SPDX-License-Identifier: Apache-2.0 */
/* A source and its session. At most one is live. A newcomer waits until the store is open, the older session has been
 * fenced, and what that one sent is durable (or dropped, if it was not whole); only then can WELCOME say where the
 * stream stands. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/text.h"
#include "server/api_json.h"
#include "server/session.h"
#include "server/session_impl.h"
#include "server/source_impl.h"
#include "server/stream_end.h"

/* ---- refusals at the door ---- */

struct refusal_mail {
	struct mail mail;
	struct worker *worker;
	struct id source;
	int status;
	char text[SENTENCE_BYTES], cure[SENTENCE_BYTES];
};

static void
on_refusal(struct mail *mail)
{
	struct refusal_mail *m = (struct refusal_mail *)mail;
	struct source *src = worker_find_source(m->worker, &m->source);

	if (src != NULL) {
		src->refused = m->status;
		snprintf(src->refused_text, sizeof src->refused_text, "%s", m->text);
		snprintf(src->refused_cure, sizeof src->refused_cure, "%s", m->cure);
		src->dirty = true;
	}
	free(m);
}

void
source_note_refusal(struct server *sv, const struct id *source, int status, const char *text, const char *cure)
{
	struct refusal_mail *m = calloc(1, sizeof *m);

	if (m == NULL)
		return; /* the log line and the event tell it too */
	m->mail.deliver = on_refusal;
	m->worker = server_owner(sv, source);
	m->source = *source;
	m->status = status;
	snprintf(m->text, sizeof m->text, "%s", text);
	snprintf(m->cure, sizeof m->cure, "%s", cure);
	mailbox_post(m->worker->mailbox, &m->mail);
}

/* ---- let in ---- */

struct hints_mail {
	struct mail mail;
	struct worker *worker;
	struct id source;
	struct message_hints hints;
};

static void
on_hints(struct mail *mail)
{
	struct hints_mail *m = (struct hints_mail *)mail;
	struct source *src = worker_find_source(m->worker, &m->source);

	if (src != NULL) {
		src->facts.hints = m->hints;
		src->dirty = true;
	}
	free(m);
}

void
source_note_hints(struct server *sv, const struct id *source, const struct message_hints *hints)
{
	struct hints_mail *m = calloc(1, sizeof *m);

	if (m == NULL)
		return; /* the registry has them: they are shown after the next start */
	m->mail.deliver = on_hints;
	m->worker = server_owner(sv, source);
	m->source = *source;
	m->hints = *hints;
	mailbox_post(m->worker->mailbox, &m->mail);
}

void
source_adopted(struct source *src)
{
	if (src->refused == -HF_ECLONE)
		src->refused = 0;
	src->dirty = true;
}

enum new_disks_wish
source_new_disks(const struct source *src)
{
	return src->settings.auto_replicate_new_disks ? NEW_DISKS_REPLICATE : NEW_DISKS_REPORT;
}

void
source_set_settings(struct source *src, const struct source_settings *settings, char *tags)
{
	src->settings = *settings;
	free(src->tags);
	src->tags = tags;
	src->dirty = true;
}

/* ---- coming ---- */

static void
fence(struct session *old)
{
	if (old != NULL)
		session_end(old, -HF_EFENCED, "a newer session of the same source took over", "");
}

void
source_queue_session(struct source *src, struct session *s)
{
	s->source = src;
	if (s->admit_number <= src->revoked_until) {
		session_end(s, src->refused, src->refused_text, src->refused_cure);
		return;
	}
	if (src->deleting) {
		session_end(s, -HF_ESTOPPED, "the source is being deleted", "");
		return;
	}
	if (src->life == SOURCE_BROKEN || src->life == SOURCE_CLOSING || src->life == SOURCE_GOING) {
		session_end(s, src->store_status < 0 ? src->store_status : -HF_ESHUTDOWN, src->store_text, "");
		return;
	}
	/* Threads race; admissions do not: the later one is the rightful one. */
	if ((src->session != NULL && src->session->admit_number > s->admit_number) ||
	    (src->newcomer != NULL && src->newcomer->admit_number > s->admit_number)) {
		fence(s);
		return;
	}
	fence(src->newcomer);
	fence(src->session);
	src->newcomer = s;
	src->refused = 0;
	source_touch(src);
}

static bool
stream_at_rest(const struct source *src)
{
	return src->received_sequence == src->durable_sequence && store_is_idle(src->store);
}

static void
note_went_back(struct source *src, const struct session *s)
{
	const struct stream_end told = {s->hello.last_stream_id, s->hello.last_acked_sequence};
	const struct stream_end ours = {s->welcome_stream_id, s->welcome_sequence};

	if (!stream_end_went_back(&told, &s->hello.earlier, &ours))
		return;
	src->went_back = true;
	server_event(src->server, &src->id, "staging_went_back",
	    "the agent was told that frame %" PRIu64 " of stream %016" PRIx64
	    " is durable, but the staging area ends with frame %" PRIu64 " of stream %016" PRIx64
	    ": it is an older state; all blocks are compared before there is a new point",
	    told.sequence, told.stream_id, ours.sequence, ours.stream_id);
}

void
source_welcome_newcomer(struct source *src)
{
	struct session *s = src->newcomer;

	if (s == NULL || src->session != NULL || src->declaring || !stream_at_rest(src))
		return;
	src->newcomer = NULL;
	src->session = s;
	src->gone_ns = 0;
	src->ever_connected = true;
	network_begin(&src->network, s->hello.incarnation, clock_monotonic_ns());
	source_watch_network(src, clock_monotonic_ns());
	src->activity = 0;
	src->certificate_expires_ns = s->certificate.not_after_ns;
	snprintf(src->peer, sizeof src->peer, "%s", s->peer);
	store_get_stream(src->store, &s->welcome_stream_id, &s->welcome_sequence, &s->welcome_chain);
	note_went_back(src, s);
	src->dirty = true;
	session_welcome(s);
}

/* ---- going ---- */

void
source_leave(struct source *src, struct session *s, int status)
{
	src->dirty = true;
	source_touch(src);
	if (s == src->newcomer)
		src->newcomer = NULL;
	if (s != src->session)
		return;
	source_note_heard(src);
	src->session = NULL;
	network_end(&src->network, worker_stood_still(src->worker) ? 0 : status);
	src->gone_ns = src->active_ns = clock_monotonic_ns(); /* it may have come and gone between two ticks */
	src->grace_ns = session_silence_ns(s);
	throttle_gate_leave(&src->gate, src->gone_ns);
	throttle_gate_leave(&src->share, src->gone_ns);
	precedence_count(&src->server->precedence, &src->shares, false);
	source_drop_compares(src);
	if (src->store != NULL && src->life == SOURCE_OPEN) {
		store_stream_stop(src->store); /* half a frame is sent again */
		store_flush(src->store);
	}
}

/* Whoever was let in up to now goes, and why. */
static void
turn_out(struct source *src, uint64_t admit_number, int status, const char *text, const char *cure)
{
	src->revoked_until = admit_number;
	src->refused = status;
	snprintf(src->refused_text, sizeof src->refused_text, "%s", text);
	snprintf(src->refused_cure, sizeof src->refused_cure, "%s", cure);
	if (src->newcomer != NULL)
		session_end(src->newcomer, status, src->refused_text, src->refused_cure);
	if (src->session != NULL)
		session_end(src->session, status, src->refused_text, src->refused_cure);
	src->dirty = true;
}

void
source_revoke(struct source *src, uint64_t admit_number)
{
	char cure[SENTENCE_BYTES];

	turn_out(src, admit_number, -HF_EREVOKED, "the certificate was revoked by an administrator",
	    pki_cure(&src->id, cure));
}

/* It was written before a deletion that was decided meanwhile: that one lasts. */
static void
set_phase(struct source *src, enum registry_phase phase, int64_t now_ns)
{
	if (src->facts.phase == PHASE_DELETING || src->facts.phase == phase)
		return;
	src->facts.phase = phase;
	src->facts.phase_ns = now_ns;
}

void
source_stop(struct source *src, uint64_t admit_number, int64_t now_ns)
{
	char cure[SENTENCE_BYTES];

	set_phase(src, PHASE_STOPPED, now_ns);
	source_end_proof(src, "replication was stopped");
	snprintf(cure, sizeof cure, "holdfastctl source start %s", src->id.text);
	turn_out(src, admit_number, -HF_ESTOPPED, hf_status_text(-HF_ESTOPPED), cure);
}

void
source_pause(struct source *src, int64_t now_ns)
{
	set_phase(src, PHASE_PAUSED, now_ns);
	source_end_proof(src, "replication was paused");
	src->dirty = true;
	source_touch(src); /* its agent is told */
}

void
source_set_active(struct source *src, int64_t now_ns)
{
	set_phase(src, PHASE_ACTIVE, now_ns);
	if (src->refused == -HF_ESTOPPED)
		src->refused = 0;
	src->dirty = true;
	source_touch(src);
}

/* ---- the stream begins ---- */

int
source_start_stream(struct source *src, uint64_t stream_id, bool resume)
{
	uint64_t durable = resume ? src->session->welcome_sequence : 0;
	int r;

	if (!stream_at_rest(src))
		return -EAGAIN;
	r = store_stream_start(src->store, stream_id, resume);
	if (r == -EBUSY)
		return -EAGAIN;
	if (r < 0)
		return r;
	if (stream_id != src->stream_id)
		src->highest_sequence = durable;
	src->stream_id = stream_id;
	src->received_sequence = src->durable_sequence = durable;
	log_info("stream_started", "source=%s session=%" PRIu64 " stream=%016" PRIx64 " resumed=%s sequence=%" PRIu64,
	    src->id.text, src->session->number, stream_id, resume ? "yes" : "no", durable);
	source_send_requests(src);
	source_ask_proof(src);
	src->dirty = true;
	return 0;
}

void
source_received(struct source *src, uint64_t sequence, uint64_t payload_bytes)
{
	int64_t now = src->worker->now_ns;

	if (src->first_byte_ns == 0)
		src->first_byte_ns = clock_real_ns();
	rate_add(&src->rate, now, payload_bytes);
	src->received_frames++;
	if (sequence <= src->highest_sequence)
		src->resent_frames++;
	else
		src->highest_sequence = sequence;
	src->received_sequence = sequence;
	src->dirty = true;
}

/* Clocks of checkpoints are told apart by when they came: strictly rising. */
static int64_t
next_received_ns(struct source *src)
{
	int64_t now = clock_real_ns();

	src->checkpoint_received_ns = now > src->checkpoint_received_ns ? now : src->checkpoint_received_ns + 1;
	return src->checkpoint_received_ns;
}

static void
note_requests(struct source *src, const struct message_checkpoint *m, int64_t received_ns)
{
	for (size_t i = 0; i < m->request_id_count; i++)
		for (size_t k = 0; k < PIT_REQUESTS_MAX; k++)
			if (src->requests[k].id == m->request_ids[i] && m->request_ids[i] != 0)
				src->requests[k].received_ns = received_ns;
}

int
source_checkpoint(struct source *src, uint64_t sequence, uint64_t chain, const struct message_checkpoint *m)
{
	struct checkpoint c = {
	    .clock_ns = m->clock_ns,
	    .clock_offset_ns = src->session->clock.offset_ns,
	    .received_ns = next_received_ns(src),
	    .unchanged_until_ns = m->clock_ns,
	    .consistency = (enum checkpoint_consistency)m->consistency,
	};
	int r = store_checkpoint(src->store, sequence, chain, &c);

	if (r < 0)
		return r;
	note_requests(src, m, c.received_ns);
	source_note_compared(src, m, c.received_ns);
	source_received(src, sequence, 0);
	if (sequence == src->highest_sequence) /* else it was sent again */
		src->received_at_ns = checkpoint_time_ns(&c);
	catch_up_checkpoint(&src->catch_up, m->clock_ns, c.received_ns - checkpoint_time_ns(&c), m->bytes_differing);
	src->pass = m->pass;
	src->went_back = false; /* a checkpoint of a new stream: everything was compared */
	return 0;
}

/* ---- what the agent tells ---- */

static void
note_waits(struct source *src, const struct message_waits *waits)
{
	struct stage_sample sample = {.at_ns = clock_monotonic_ns(), .agent = *waits};
	struct store_stats stats;

	store_get_stats(src->store, &stats);
	sample.throttle_ns =
	    throttle_gate_waited_ns(&src->gate, sample.at_ns) + throttle_gate_waited_ns(&src->share, sample.at_ns);
	sample.sync_ns = stats.sync_times.sum_ns;
	stages_add(&src->stages, &sample);
}

/* An older agent tells the sum alone; of a source with one volume that is enough. */
static uint64_t
told_backlog(const struct source *src, const struct message_heartbeat *m, uint32_t volume)
{
	if (m->backlog_count == 0 && src->declared_count == 1)
		return m->backlog_bytes;
	for (size_t i = 0; i < m->backlog_count; i++)
		if (m->backlogs[i].volume == volume)
			return m->backlogs[i].bytes;
	return 0;
}

static void
note_backlog(struct source *src, const struct message_heartbeat *m)
{
	src->backlog_bytes = m->backlog_bytes;
	src->backlog_unsplit = m->backlog_bytes > 0 && m->backlog_count == 0 && src->declared_count > 1;
	for (size_t i = 0; i < src->declared_count; i++)
		src->declared[i].backlog_bytes = told_backlog(src, m, src->declared[i].volume);
}

void
source_heartbeat(struct source *src, const struct message_heartbeat *m)
{
	src->clock_offset_ns = src->session->clock.offset_ns;
	src->round_trip_ns = src->session->clock.round_trip_ns;
	note_backlog(src, m);
	note_waits(src, &m->waits);
	if (m->unchanged_until_ns != 0 && src->received_sequence == src->durable_sequence)
		store_extend_checkpoint(src->store, m->unchanged_until_ns - src->clock_offset_ns);
	src->dirty = true;
	source_touch(src);
}

static void
note_progress(struct source *src, uint32_t volume, uint64_t done, uint64_t total)
{
	for (size_t i = 0; i < src->declared_count; i++)
		if (src->declared[i].volume == volume && volume != 0) {
			src->declared[i].rescanned_bytes = done;
			src->declared[i].rescan_total_bytes = total;
		}
}

uint64_t
source_progress(const struct source *src, uint64_t *ret_total_bytes)
{
	uint64_t done = 0;

	*ret_total_bytes = 0;
	for (size_t i = 0; i < src->declared_count; i++) {
		done += src->declared[i].rescanned_bytes;
		*ret_total_bytes += src->declared[i].rescan_total_bytes;
	}
	return done;
}

void
source_report(struct source *src, const struct message_report *m)
{
	src->activity = m->activity;
	src->pass = m->pass;
	for (size_t i = 0; i < m->count; i++)
		note_progress(src, m->volumes[i].volume, m->volumes[i].done_bytes, m->volumes[i].total_bytes);
	src->dirty = true;
}

void
source_notice(struct source *src, const char *event, const char *text)
{
	if (src->events == AGENT_EVENTS_MAX)
		return;
	src->events++;
	server_event(src->server, &src->id, event, "%s", text);
}

int
source_request_renewal(struct source *src)
{
	if (src->session == NULL || src->session->state != SESSION_STREAMING)
		return -ENOTCONN;
	session_request_renewal(src->session);
	return 0;
}

void
source_renewed(struct source *src, int64_t not_after_ns)
{
	src->certificate_expires_ns = not_after_ns;
	src->dirty = true;
}

/* ---- declaring volumes ---- */

struct declare_job {
	struct source *source;
	uint64_t session_number;
	struct message_declare message;
	struct message_volumes answer;
	struct store_declaration volumes[VOLUMES_MAX];
};

static void
keep_declared(struct source *src, const struct declare_job *d)
{
	free(src->declared);
	src->declared_count = 0;
	src->declared = calloc(d->message.count + 1, sizeof *src->declared);
	if (src->declared == NULL)
		return; /* status says less */
	for (size_t i = 0; i < d->message.count; i++) {
		const struct message_volume_answer *a = &d->answer.volumes[i];

		memcpy(src->declared[i].identity, a->identity, sizeof src->declared[i].identity);
		memcpy(src->declared[i].name, d->message.volumes[i].name, sizeof src->declared[i].name);
		src->declared[i].state = a->state;
		src->declared[i].volume = a->volume;
		memcpy(src->declared[i].text, a->text, sizeof src->declared[i].text);
	}
	src->declared_count = d->message.count;
}

static const struct store_volume *
find_listed(const struct worker *w, size_t count, uint32_t volume)
{
	for (size_t i = 0; i < count; i++)
		if (w->volume_scratch[i].volume == volume)
			return &w->volume_scratch[i];
	return NULL;
}

static void
answer_volume(struct source *src, struct declare_job *d, const struct store_job *job, size_t i, size_t listed)
{
	const struct message_declared_volume *want = &d->message.volumes[i];
	struct message_volume_answer *a = &d->answer.volumes[i];
	const struct store_volume *v;
	char text[SENTENCE_BYTES];

	memcpy(a->identity, want->identity, sizeof a->identity);
	a->size_bytes = want->size_bytes;
	a->state = want->state;
	store_declare_result(job, i, &a->volume, &a->status, text, sizeof text);
	v = a->volume != 0 ? find_listed(src->worker, listed, a->volume) : NULL;
	if (v != NULL) {
		a->volume_id = v->id;
		a->frontier_blocks = v->frontier_blocks;
	}
	if (want->state == VOLUME_OK && a->status < 0) {
		a->state = VOLUME_REFUSED;
		text_set(a->text, sizeof a->text, text[0] != '\0' ? text : hf_status_text(a->status));
		memset(&a->volume_id, 0, sizeof a->volume_id);
		snprintf(text, sizeof text, "%.120s: %.380s", want->name, a->text);
		source_notice(src, "volume_refused", text);
	} else if (a->volume == 0) {
		a->status = a->status < 0 ? a->status : -HF_EIDENTITY;
	}
}

static void
on_declared(void *arg, struct store_job *job)
{
	struct declare_job *d = arg;
	struct source *src = d->source;
	size_t listed = store_list_volumes(src->store, src->worker->volume_scratch, STORE_VOLUMES_MAX);

	src->declaring = false;
	d->answer.count = d->message.count;
	for (size_t i = 0; i < d->message.count; i++)
		answer_volume(src, d, job, i, listed);
	keep_declared(src, d);
	if (src->session != NULL && src->session->number == d->session_number) {
		session_send_volumes(src->session, &d->answer);
		src->room = true; /* another DECLARE may be held */
	}
	free(d);
	source_touch(src);
}

/* What people are shown. */
static void
keep_new_disks(struct source *src, const struct message_declare *m)
{
	json_t *list = json_array();

	for (size_t i = 0; i < m->new_disk_count; i++)
		json_array_append_new(list,
		    json_pack("{s:o, s:o, s:I}", "deviceName", api_json_text(m->new_disks[i].device_name), "identity",
			api_json_text(m->new_disks[i].identity), "bytes", (json_int_t)m->new_disks[i].size_bytes));
	free(src->new_disks);
	src->new_disks = m->new_disk_count > 0 ? json_dumps(list, JSON_COMPACT) : NULL;
	json_decref(list);
	src->dirty = true;
}

int
source_declare(struct source *src, const struct message_declare *m)
{
	struct declare_job *d;
	int r;

	if (src->declaring)
		return -EAGAIN;
	d = calloc(1, sizeof *d);
	if (d == NULL)
		return -ENOMEM;
	d->source = src;
	d->session_number = src->session->number;
	d->message = *m;
	for (size_t i = 0; i < m->count; i++) {
		memcpy(d->volumes[i].name, m->volumes[i].name, sizeof d->volumes[i].name);
		memcpy(d->volumes[i].identity, m->volumes[i].identity, sizeof d->volumes[i].identity);
		memcpy(d->volumes[i].device_name, m->volumes[i].device_name, sizeof d->volumes[i].device_name);
		d->volumes[i].size_bytes = m->volumes[i].size_bytes;
		d->volumes[i].ok = m->volumes[i].state == VOLUME_OK;
		d->volumes[i].boot_disk = m->volumes[i].boot_disk;
	}
	r = source_run_job(src, store_declare(src->store, d->volumes, m->count), on_declared, d);
	if (r < 0) {
		free(d);
		return r;
	}
	src->declaring = true;
	keep_new_disks(src, m);
	return 0;
}
