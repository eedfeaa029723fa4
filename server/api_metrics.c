/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics: tables of families, and one pass over the sources that fills them. Base units, no rates, no unbounded
 * labels. */
#include "server/api_call.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "proto/common/units.h"
#include "server/limits.h"
#include "server/metrics_text.h"
#include "server/tally.h"
#include "storage/sql.h"

enum {
	STATES = STATE_DISCONNECTED + 1,
	LABELS_BYTES = 2 * NAME_BYTES + 256,
};

static double
seconds(int64_t ns)
{
	return (double)ns / NS_PER_SECOND;
}

/* ---- families with one value a source ---- */

#define VALUE(noun, value)                                      \
	static double get_##noun(const struct source_status *s) \
	{                                                       \
		return (double)(value);                         \
	}

VALUE(connected, s->connected)
VALUE(ready, s->ready)
VALUE(state_since, seconds(s->state_since_ns))
VALUE(added, seconds(s->added_ns))
VALUE(backlog, s->backlog_bytes)
VALUE(received, s->received_bytes)
VALUE(durable, s->durable_bytes)
VALUE(written, s->store.written_bytes)
VALUE(frames, s->received_frames)
VALUE(resent_frames, s->resent_frames)
VALUE(lost_sessions, s->lost_sessions)
VALUE(throttle, s->throttle.mbps != 0 ? s->throttle.mbps * 125e3 : NAN)
VALUE(throttle_wait, (double)s->throttle.waited_ns / NS_PER_SECOND)
VALUE(gives_way, s->throttle.gives_way)
VALUE(io_errors, s->store.io_errors)
VALUE(failed, s->store.failed)
VALUE(journal, s->store.journal_bytes)
VALUE(used, s->usage_known ? (double)usage_total(&s->usage) : NAN)
VALUE(quota, s->quota_bytes != 0 ? (double)s->quota_bytes : NAN)
VALUE(points, s->store.pit_count)
VALUE(points_thinned, s->store.thinned)
VALUE(merges, s->store.merges)
VALUE(merge_copied, s->store.merge_copied_bytes)
VALUE(merge_freed, s->store.merge_freed_bytes)
VALUE(newest_consistent, seconds(s->consistent_at_ns))
VALUE(rpo_target, s->settings.rpo_target_ns != 0 ? seconds(s->settings.rpo_target_ns) : RPO_TARGET_DEFAULT_S)
VALUE(certificate_expiry, seconds(s->certificate_expires_ns))
VALUE(clock_offset, seconds(s->clock_offset_ns))
VALUE(damaged_blocks, s->scrub.damaged)
VALUE(healed_blocks, s->scrub.blocks_healed)
VALUE(mended_digests, s->scrub.digests_mended)
VALUE(last_scrub, seconds(s->scrub.done_ns))

static const struct source_family {
	struct metric_family family;
	double (*value)(const struct source_status *s);
} source_families[] = {
    {{"holdfast_source_connected", "gauge", "1 while the source's agent is connected"}, get_connected},
    {{"holdfast_source_ready", "gauge",
	 "1 if a complete, verified point exists from which all volumes can be restored now"},
	get_ready},
    {{"holdfast_source_state_since_timestamp_seconds", "gauge", "Since when it is in its state, seconds since 1970"},
	get_state_since},
    {{"holdfast_source_added_timestamp_seconds", "gauge", "When it was enrolled, seconds since 1970"}, get_added},
    {{"holdfast_source_backlog_bytes", "gauge",
	 "Bytes not sent for the first time, or found changed and not yet in a checkpoint"},
	get_backlog},
    {{"holdfast_source_received_bytes_total", "counter", "Payload bytes received since the server started"},
	get_received},
    {{"holdfast_source_durable_bytes_total", "counter", "Payload bytes made durable since the server started"},
	get_durable},
    {{"holdfast_source_written_bytes_total", "counter",
	 "Bytes written to the staging area for this source since the server started"},
	get_written},
    {{"holdfast_source_received_frames_total", "counter", "Frames of its streams received since the server started"},
	get_frames},
    {{"holdfast_source_resent_frames_total", "counter", "Those of them that a resuming agent sent again"},
	get_resent_frames},
    {{"holdfast_source_lost_sessions_total", "counter",
	 "Sessions that broke off and were taken up again by the same process of the agent, since the server started"},
	get_lost_sessions},
    {{"holdfast_source_throttle_bytes_per_second", "gauge",
	 "How fast it may be read at this hour; no sample: no throttle"},
	get_throttle},
    {{"holdfast_source_throttle_wait_seconds_total", "counter",
	 "Time in which nothing was read of it because of its throttle, since the server started"},
	get_throttle_wait},
    {{"holdfast_source_gives_way", "gauge", "1 while it may send less because that helps one that is late"},
	get_gives_way},
    {{"holdfast_source_io_errors_total", "counter", "Writes and syncs of its journal that failed"}, get_io_errors},
    {{"holdfast_source_failed", "gauge", "1 if its store acknowledges nothing any more until the server is restarted"},
	get_failed},
    {{"holdfast_source_journal_bytes", "gauge", "Size of the source's journal on disk"}, get_journal},
    {{"holdfast_source_used_bytes", "gauge", "What it takes of the staging area, all in all"}, get_used},
    {{"holdfast_source_quota_bytes", "gauge", "What it may take; no sample: there is no quota"}, get_quota},
    {{"holdfast_source_points", "gauge", "Points in time that are kept"}, get_points},
    {{"holdfast_source_points_thinned_total", "counter", "Points given up for want of room"}, get_points_thinned},
    {{"holdfast_source_merges_total", "counter", "Merges of history since the server started"}, get_merges},
    {{"holdfast_source_merge_copied_bytes_total", "counter",
	 "Bytes of live blocks that merges copied to free the rest"},
	get_merge_copied},
    {{"holdfast_source_merge_freed_bytes_total", "counter",
	 "Bytes that merges freed: journal files removed, and holes made in them"},
	get_merge_freed},
    {{"holdfast_source_newest_consistent_timestamp_seconds", "gauge",
	 "The moment the newest restorable point describes, seconds since 1970; 0: there is none"},
	get_newest_consistent},
    {{"holdfast_source_rpo_target_seconds", "gauge", "How old the newest point may become: as set, or 900"},
	get_rpo_target},
    {{"holdfast_source_certificate_expiry_timestamp_seconds", "gauge",
	 "When the agent's certificate expires, seconds since 1970; 0: not known"},
	get_certificate_expiry},
    {{"holdfast_source_clock_offset_seconds", "gauge", "How far the source's clock is ahead of ours"},
	get_clock_offset},
    {{"holdfast_source_damaged_blocks", "gauge",
	 "Stored blocks that do not match their digest and could not be healed"},
	get_damaged_blocks},
    {{"holdfast_source_healed_blocks_total", "counter",
	 "Rotten blocks healed with the source's bytes since the server started"},
	get_healed_blocks},
    {{"holdfast_source_mended_digests_total", "counter",
	 "Rotten digests, and pages of the index, mended since the server started"},
	get_mended_digests},
    {{"holdfast_source_last_scrub_timestamp_seconds", "gauge",
	 "When all that is stored was last read and checked, seconds since 1970; 0: never"},
	get_last_scrub},
};

/* ---- families with more samples than one a source ---- */

enum {
	SOURCE_FAMILIES = sizeof source_families / sizeof source_families[0],
	FAMILY_INFO = SOURCE_FAMILIES,
	FAMILY_STATE,
	FAMILY_LAG,
	FAMILY_WRITE,
	FAMILY_SYNC,
	FAMILY_VOLUME_INFO,
	FAMILY_VOLUME_SIZE,
	FAMILY_VOLUME_REPLICATED,
	FAMILY_VOLUME_BACKLOG,
	FAMILIES,
};

static const struct metric_family many_families[FAMILIES - SOURCE_FAMILIES] = {
    {"holdfast_source_info", "info", "The source's host name, as its agent says"},
    {"holdfast_source_state", "gauge", "1 for the state the source is in, 0 for the others"},
    {"holdfast_source_lag_seconds", "gauge",
	"Age of the newest moment received, durable, and consistently restorable (the RPO now); grows while an agent "
	"is "
	"silent"},
    {"holdfast_source_write_duration_seconds", "histogram", "Writes to the source's journal, each"},
    {"holdfast_source_sync_duration_seconds", "histogram", "Syncs of the source's journal, each"},
    {"holdfast_volume_info", "info", "The volume's name, as its agent says"},
    {"holdfast_volume_size_bytes", "gauge", "Size of the volume"},
    {"holdfast_volume_replicated_bytes", "gauge", "What of it is here: all, after the first fill"},
    {"holdfast_volume_backlog_bytes", "gauge", "What of the source's backlog is the volume's"},
};

static const struct metric_family *
family_at(size_t f)
{
	return f < SOURCE_FAMILIES ? &source_families[f].family : &many_families[f - SOURCE_FAMILIES];
}

struct metrics {
	struct evbuffer *out;
	struct evbuffer *texts[FAMILIES]; /* of the families that sources fill, until they are joined */
	bool open;                        /* OpenMetrics */
	size_t count;                     /* sources */
	struct server_facts facts;
	int64_t now_ns;
	struct source_status status; /* the one being told */
	char source[LABELS_BYTES];   /* its label */
};

static void
add(struct metrics *m, size_t family, const char *labels, double value)
{
	metrics_add(m->texts[family], family_at(family)->name, labels, value);
}

/* The source's label, and more: `,name="text"`. */
static const char *
more_labels(const struct metrics *m, const char *name, const char *text, char *buf)
{
	snprintf(buf, LABELS_BYTES, "%s,%s=\"%s\"", m->source, name, text);
	return buf;
}

/* Never yet: no sample, rather than one that looks good. */
static void
add_lag(struct metrics *m, const char *stage, int64_t at_ns)
{
	double lag = status_lag_seconds(at_ns, m->now_ns);
	char labels[LABELS_BYTES];

	add(m, FAMILY_LAG, more_labels(m, "stage", stage, labels), lag >= 0 ? lag : NAN);
}

static void
add_states(struct metrics *m)
{
	char labels[LABELS_BYTES];

	for (int state = 0; state < STATES; state++)
		add(m, FAMILY_STATE,
		    more_labels(m, "state", replication_state_name((enum replication_state)state), labels),
		    m->status.state == (enum replication_state)state);
}

/* Names by id, to join on: labels of one family alone, so that a name that changes breaks no series. */
static void
add_info(struct metrics *m)
{
	char name[2 * NAME_BYTES], labels[LABELS_BYTES];

	metrics_escape(m->status.hints.hostname, name, sizeof name);
	add(m, FAMILY_INFO, more_labels(m, "hostname", name, labels), 1);
}

static void
add_volume(struct metrics *m, const struct volume_status *v)
{
	char name[2 * NAME_BYTES], labels[LABELS_BYTES], named[LABELS_BYTES];

	more_labels(m, "volume", v->id.text, labels);
	metrics_escape(v->name, name, sizeof name);
	snprintf(named, sizeof named, "%.200s,name=\"%s\"", labels, name);
	add(m, FAMILY_VOLUME_INFO, named, 1);
	add(m, FAMILY_VOLUME_SIZE, labels, (double)v->total_bytes);
	add(m, FAMILY_VOLUME_REPLICATED, labels, (double)v->replicated_bytes);
	add(m, FAMILY_VOLUME_BACKLOG, labels, m->status.backlog_unsplit ? NAN : (double)v->backlogged_bytes);
}

static void
add_source(struct metrics *m)
{
	const struct source_status *s = &m->status;

	m->count++;
	snprintf(m->source, sizeof m->source, "source=\"%s\"", s->id.text);
	add_info(m);
	for (size_t f = 0; f < SOURCE_FAMILIES; f++)
		add(m, f, m->source, source_families[f].value(s));
	add_states(m);
	add_lag(m, "received", s->received_at_ns);
	add_lag(m, "durable", s->durable_at_ns);
	add_lag(m, "consistent", s->consistent_at_ns);
	metrics_add_histogram(m->texts[FAMILY_WRITE], family_at(FAMILY_WRITE)->name, m->source, &s->store.write_times);
	metrics_add_histogram(m->texts[FAMILY_SYNC], family_at(FAMILY_SYNC)->name, m->source, &s->store.sync_times);
	for (size_t i = 0; i < s->volume_count; i++)
		add_volume(m, &s->volumes[i]);
}

/* ---- the server ---- */

static void
add_build(const struct metrics *m, const struct metric_family *f)
{
	char labels[64];

	snprintf(labels, sizeof labels, "version=\"%s\"", m->facts.version);
	metrics_add(m->out, f->name, labels, 1);
}

static void
add_start(const struct metrics *m, const struct metric_family *f)
{
	metrics_add(m->out, f->name, "", seconds(m->facts.started_ns));
}

static void
add_source_count(const struct metrics *m, const struct metric_family *f)
{
	metrics_add(m->out, f->name, "", (double)m->count);
}

static void
add_session_count(const struct metrics *m, const struct metric_family *f)
{
	metrics_add(m->out, f->name, "", m->facts.sessions);
}

/* Of an area that is a file system of its own. */
static void
add_areas(const struct metrics *m, const struct metric_family *f, double (*value)(const struct area_facts *a))
{
	static const char *const labels[AREAS] = {[AREA_DATA] = "area=\"data\"", [AREA_JOURNAL] = "area=\"journal\""};

	for (int i = 0; i < AREAS; i++)
		if (m->facts.areas[i].total_bytes != 0)
			metrics_add(m->out, f->name, labels[i], value(&m->facts.areas[i]));
}

static double
get_size(const struct area_facts *a)
{
	return (double)a->total_bytes;
}

static double
get_free(const struct area_facts *a)
{
	return (double)a->free_bytes;
}

static double
get_room(const struct area_facts *a)
{
	return (double)a->room_bytes;
}

static double
get_full_in(const struct area_facts *a)
{
	int64_t ns = area_full_in_ns(a);

	return ns < 0 ? NAN : seconds(ns);
}

static void
add_sizes(const struct metrics *m, const struct metric_family *f)
{
	add_areas(m, f, get_size);
}

static void
add_frees(const struct metrics *m, const struct metric_family *f)
{
	add_areas(m, f, get_free);
}

static void
add_rooms(const struct metrics *m, const struct metric_family *f)
{
	add_areas(m, f, get_room);
}

static void
add_full_ins(const struct metrics *m, const struct metric_family *f)
{
	add_areas(m, f, get_full_in);
}

static void
add_rows(const struct metrics *m, const struct metric_family *f)
{
	metrics_add(m->out, f->name, "", (double)m->facts.rows_waiting);
}

static void
add_silence(const struct metrics *m, const struct metric_family *f)
{
	metrics_add(m->out, f->name, "",
	    m->facts.silent_thread != NULL ? fmax(seconds(m->now_ns - m->facts.silent_since_ns), 0) : 0);
}

static void
add_scrub_interval(const struct metrics *m, const struct metric_family *f)
{
	metrics_add(m->out, f->name, "", seconds(m->facts.scrub_interval_ns));
}

static void
add_server_expiry(const struct metrics *m, const struct metric_family *f)
{
	metrics_add(m->out, f->name, "", seconds(m->facts.certificates[PKI_SERVER].not_after_ns));
}

static void
add_ca_expiry(const struct metrics *m, const struct metric_family *f)
{
	metrics_add(m->out, f->name, "", seconds(m->facts.certificates[PKI_CA].not_after_ns));
}

static void
add_backup(const struct metrics *m, const struct metric_family *f)
{
	metrics_add(m->out, f->name, "", seconds(m->facts.backup.taken_ns));
}

static void
add_unsaved(const struct metrics *m, const struct metric_family *f)
{
	metrics_add(m->out, f->name, "", seconds(m->facts.backup.unsaved_ns));
}

static void
add_reload_success(const struct metrics *m, const struct metric_family *f)
{
	metrics_add(m->out, f->name, "", !m->facts.reload_failed);
}

static void
add_reload_time(const struct metrics *m, const struct metric_family *f)
{
	metrics_add(m->out, f->name, "", seconds(m->facts.reloaded_ns));
}

static void
add_commits(const struct metrics *m, const struct metric_family *f)
{
	struct histogram times;

	sql_get_commit_times(&times);
	metrics_add_histogram(m->out, f->name, "", &times);
}

static void
add_handshakes(const struct metrics *m, const struct metric_family *f)
{
	metrics_add(m->out, f->name, "result=\"ok\"", (double)m->facts.tally->handshakes);
	metrics_add(m->out, f->name, "result=\"failed\"", (double)m->facts.tally->handshakes_failed);
}

static void
add_session_ends(const struct metrics *m, const struct metric_family *f)
{
	char labels[64];

	for (int i = 0; i <= HF_STATUSES; i++) {
		snprintf(labels, sizeof labels, "reason=\"%s\"",
		    i < HF_STATUSES ? hf_status_name(HF_STATUS_FIRST + i) : "OTHER");
		metrics_add(m->out, f->name, labels, (double)m->facts.tally->ends[i]);
	}
}

static const struct server_family {
	struct metric_family family;
	void (*add)(const struct metrics *m, const struct metric_family *f);
} server_families[] = {
    {{"holdfast_build_info", "info", "The version of holdfastd"}, add_build},
    {{"holdfast_start_time_seconds", "gauge", "When the server started, seconds since 1970"}, add_start},
    {{"holdfast_sources", "gauge", "Sources known here"}, add_source_count},
    {{"holdfast_sessions", "gauge", "Connections of agents, those that shake hands included"}, add_session_count},
    {{"holdfast_thread_silent_seconds", "gauge",
	 "For how long a thread that sources depend on has not gone on; 0: all do"},
	add_silence},
    {{"holdfast_tls_handshakes_total", "counter", "TLS handshakes on the data port"}, add_handshakes},
    {{"holdfast_sessions_ended_total", "counter",
	 "Sessions that the server ended, by the status they were told: refused, cut off, or replaced by a newer one"},
	add_session_ends},
    {{"holdfast_server_certificate_expiry_timestamp_seconds", "gauge",
	 "When the server's certificate expires, seconds since 1970"},
	add_server_expiry},
    {{"holdfast_ca_certificate_expiry_timestamp_seconds", "gauge",
	 "When the CA certificate that every agent trusts expires, seconds since 1970"},
	add_ca_expiry},
    {{"holdfast_identity_backup_timestamp_seconds", "gauge",
	 "When the server's identity was last backed up, seconds since 1970; 0: never"},
	add_backup},
    {{"holdfast_identity_unsaved_timestamp_seconds", "gauge",
	 "Since when there is a source or a CA that is not in it, seconds since 1970; 0: it has all"},
	add_unsaved},
    {{"holdfast_config_last_reload_successful", "gauge",
	 "0 if the newest configuration was refused: the one before holds"},
	add_reload_success},
    {{"holdfast_config_last_reload_success_timestamp_seconds", "gauge",
	 "When the configuration that holds was read, seconds since 1970"},
	add_reload_time},
    {{"holdfast_staging_size_bytes", "gauge", "Size of the staging area's file systems"}, add_sizes},
    {{"holdfast_staging_free_bytes", "gauge", "What is free of them"}, add_frees},
    {{"holdfast_staging_room_bytes", "gauge",
	 "What may still be taken, beside the reserve; negative: maintenance works in the reserve"},
	add_rooms},
    {{"holdfast_staging_full_in_seconds", "gauge",
	 "Time until there is no room left, at today's growth; no sample: not known, or it does not grow"},
	add_full_ins},
    {{"holdfast_scrub_interval_seconds", "gauge", "How often all that is stored is to be checked; 0: not by itself"},
	add_scrub_interval},
    {{"holdfast_rows_waiting", "gauge",
	 "Events and audit rows that wait for room in holdfast.db; until then the log alone has them"},
	add_rows},
    {{"holdfast_catalog_commit_duration_seconds", "histogram",
	 "Commits to holdfast.db and to the sources' catalogs, each"},
	add_commits},
};

static void
write_server(struct metrics *m)
{
	for (size_t i = 0; i < sizeof server_families / sizeof server_families[0]; i++) {
		metrics_begin(m->out, m->open, &server_families[i].family);
		server_families[i].add(m, &server_families[i].family);
	}
}

/* ---- the whole ---- */

static bool
make_buffers(struct metrics *m)
{
	bool made = (m->out = evbuffer_new()) != NULL;

	for (size_t f = 0; f < FAMILIES; f++)
		made &= (m->texts[f] = evbuffer_new()) != NULL;
	return made;
}

static void
free_metrics(struct metrics *m)
{
	for (size_t f = 0; f < FAMILIES; f++)
		if (m->texts[f] != NULL)
			evbuffer_free(m->texts[f]);
	if (m->out != NULL)
		evbuffer_free(m->out);
	free(m);
}

static void
write_metrics(struct metrics *m, struct server *sv)
{
	for (size_t f = 0; f < FAMILIES; f++)
		metrics_begin(m->texts[f], m->open, family_at(f));
	while (status_next(server_status(sv), &m->status.id, &m->status))
		add_source(m);
	server_get_facts(sv, &m->facts);
	write_server(m);
	for (size_t f = 0; f < FAMILIES; f++)
		evbuffer_add_buffer(m->out, m->texts[f]);
	metrics_add_process(m->out, m->open);
	metrics_end(m->out, m->open);
}

void
get_metrics(struct call *call)
{
	bool open = metrics_are_open(http_request_head(call->req)->accept);
	struct metrics *m = calloc(1, sizeof *m);

	if (m == NULL || !make_buffers(m)) {
		call_reply_no_memory(call, "the metrics");
	} else {
		m->now_ns = clock_real_ns();
		m->open = open;
		write_metrics(m, call->api->sv);
		call_reply_body(call, 200, metrics_content_type(open), m->out);
		m->out = NULL;
	}
	if (m != NULL)
		free_metrics(m);
}
