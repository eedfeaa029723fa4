/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics: Prometheus text (version 0.0.4), one table of families. Base units, no rates, no
 * unbounded labels. */
#include "server/api_call.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "proto/common/units.h"
#include "server/api_json.h"

enum { STATES = STATE_DISCONNECTED + 1 };

/* One pass over the sources fills all families at once: each has a text of its own until they are joined. */
enum { VALUE_FAMILIES = 19, FAMILY_INFO = VALUE_FAMILIES, FAMILY_STATE, FAMILY_LAG, FAMILIES };

struct metrics {
	struct evbuffer *out, *families[FAMILIES];
	size_t count; /* sources */
	struct server_facts facts;
	int64_t now_ns;
};

/* ---- families with one value a source ---- */

static double
get_connected(const struct source_status *s)
{
	return s->connected;
}

static double
get_ready(const struct source_status *s)
{
	return s->ready;
}

static double
get_backlog_bytes(const struct source_status *s)
{
	return (double)s->backlog_bytes;
}

static double
get_received_bytes_total(const struct source_status *s)
{
	return (double)s->received_bytes;
}

static double
get_durable_bytes_total(const struct source_status *s)
{
	return (double)s->durable_bytes;
}

static double
get_written_bytes_total(const struct source_status *s)
{
	return (double)s->store.written_bytes;
}

static double
get_resent_frames_total(const struct source_status *s)
{
	return (double)s->resent_frames;
}

static double
get_syncs_total(const struct source_status *s)
{
	return (double)s->store.syncs;
}

static double
get_sync_seconds_total(const struct source_status *s)
{
	return (double)s->store.sync_ns_total / NS_PER_SECOND;
}

static double
get_journal_bytes(const struct source_status *s)
{
	return (double)s->store.journal_bytes;
}

static double
get_merges_total(const struct source_status *s)
{
	return (double)s->store.merges;
}

static double
get_merge_copied_bytes_total(const struct source_status *s)
{
	return (double)s->store.merge_copied_bytes;
}

static double
get_merge_freed_bytes_total(const struct source_status *s)
{
	return (double)s->store.merge_freed_bytes;
}

static double
get_newest_consistent_timestamp_seconds(const struct source_status *s)
{
	return (double)s->newest_pit_ns / NS_PER_SECOND;
}

static double
get_certificate_expiry_timestamp_seconds(const struct source_status *s)
{
	return (double)s->certificate_expires_ns / NS_PER_SECOND;
}

static double
get_damaged_blocks(const struct source_status *s)
{
	return (double)s->scrub.damaged;
}

static double
get_healed_blocks_total(const struct source_status *s)
{
	return (double)s->scrub.blocks_healed;
}

static double
get_mended_digests_total(const struct source_status *s)
{
	return (double)s->scrub.digests_mended;
}

static double
get_last_scrub_timestamp_seconds(const struct source_status *s)
{
	return (double)s->scrub.done_ns / NS_PER_SECOND;
}

static const struct {
	const char *name, *type, *help;
	double (*value)(const struct source_status *s);
} values[VALUE_FAMILIES] = {
    {"holdfast_source_connected", "gauge", "1 while the source's agent is connected", get_connected},
    {"holdfast_source_ready", "gauge",
	"1 if a complete, verified point exists from which all volumes can be restored now", get_ready},
    {"holdfast_source_backlog_bytes", "gauge", "Bytes changed at the source and not yet durable here",
	get_backlog_bytes},
    {"holdfast_source_received_bytes_total", "counter", "Payload bytes received since the server started",
	get_received_bytes_total},
    {"holdfast_source_durable_bytes_total", "counter", "Payload bytes made durable since the server started",
	get_durable_bytes_total},
    {"holdfast_source_written_bytes_total", "counter",
	"Bytes written to the staging area for this source since the server started", get_written_bytes_total},
    {"holdfast_source_resent_frames_total", "counter", "Frames that a resuming agent sent again",
	get_resent_frames_total},
    {"holdfast_source_syncs_total", "counter", "Syncs of the journal and the staging files", get_syncs_total},
    {"holdfast_source_sync_seconds_total", "counter", "Time spent in these syncs", get_sync_seconds_total},
    {"holdfast_source_journal_bytes", "gauge", "Size of the source's journal on disk", get_journal_bytes},
    {"holdfast_source_merges_total", "counter", "Merges of history since the server started", get_merges_total},
    {"holdfast_source_merge_copied_bytes_total", "counter", "Bytes of live blocks that merges copied to free the rest",
	get_merge_copied_bytes_total},
    {"holdfast_source_merge_freed_bytes_total", "counter",
	"Bytes that merges freed: journal files removed, and holes made in them", get_merge_freed_bytes_total},
    {"holdfast_source_newest_consistent_timestamp_seconds", "gauge",
	"The moment the newest restorable point describes, seconds since 1970; 0 = none",
	get_newest_consistent_timestamp_seconds},
    {"holdfast_source_certificate_expiry_timestamp_seconds", "gauge",
	"When the agent's certificate expires, seconds since 1970; 0 = not known",
	get_certificate_expiry_timestamp_seconds},
    {"holdfast_source_damaged_blocks", "gauge", "Stored blocks that do not match their digest and could not be healed",
	get_damaged_blocks},
    {"holdfast_source_healed_blocks_total", "counter",
	"Rotten blocks healed with the source's bytes since the server started", get_healed_blocks_total},
    {"holdfast_source_mended_digests_total", "counter",
	"Rotten digests, and pages of the index, mended since the server started", get_mended_digests_total},
    {"holdfast_source_last_scrub_timestamp_seconds", "gauge",
	"When all that is stored was last read and checked, seconds since 1970; 0 = never",
	get_last_scrub_timestamp_seconds},
};

static void
begin_family(struct evbuffer *out, const char *name, const char *type, const char *help)
{
	evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void
add_values(struct metrics *m, const struct source_status *s)
{
	for (size_t f = 0; f < VALUE_FAMILIES; f++)
		evbuffer_add_printf(
		    m->families[f], "%s{source=\"%s\"} %.17g\n", values[f].name, s->id.text, values[f].value(s));
}

/* ---- families with more than one ---- */

static void
add_lag(struct metrics *m, const struct source_status *s, const char *stage, int64_t at_ns)
{
	double seconds = status_lag_seconds(at_ns, m->now_ns);

	if (seconds >= 0) /* never yet: no sample, rather than one that looks good */
		evbuffer_add_printf(m->families[FAMILY_LAG],
		    "holdfast_source_lag_seconds{source=\"%s\",stage=\"%s\"} %.3f\n", s->id.text, stage, seconds);
}

static void
add_lags(struct metrics *m, const struct source_status *s)
{
	add_lag(m, s, "received", s->received_at_ns);
	add_lag(m, s, "durable", s->durable_at_ns);
	add_lag(m, s, "consistent", s->consistent_at_ns);
}

static void
add_states(struct metrics *m, const struct source_status *s)
{
	for (int state = 0; state < STATES; state++)
		evbuffer_add_printf(m->families[FAMILY_STATE], "holdfast_source_state{source=\"%s\",state=\"%s\"} %d\n",
		    s->id.text, replication_state_name((enum replication_state)state),
		    s->state == (enum replication_state)state);
}

/* Host names by id, to join on: a label of one family alone, so that a renamed host breaks no series. */
static void
add_info(struct metrics *m, const struct source_status *s)
{
	struct evbuffer *out = m->families[FAMILY_INFO];

	evbuffer_add_printf(out, "holdfast_source_info{source=\"%s\",hostname=\"", s->id.text);
	for (const char *p = s->hints.hostname; *p != '\0'; p++)
		evbuffer_add_printf(out, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
	evbuffer_add_printf(out, "\"} 1\n");
}

/* ---- the server ---- */

static void
write_single(struct metrics *m, const char *name, const char *type, const char *help, double value)
{
	begin_family(m->out, name, type, help);
	evbuffer_add_printf(m->out, "%s %.17g\n", name, value);
}

static void
write_server(struct metrics *m)
{
	begin_family(m->out, "holdfast_build_info", "gauge", "1; the version is the label");
	evbuffer_add_printf(m->out, "holdfast_build_info{version=\"%s\"} 1\n", m->facts.version);
	write_single(m, "holdfast_start_time_seconds", "gauge", "When the server started, seconds since 1970",
	    (double)m->facts.started_ns / NS_PER_SECOND);
	write_single(m, "holdfast_server_certificate_expiry_timestamp_seconds", "gauge",
	    "When the server's certificate expires, seconds since 1970",
	    (double)m->facts.certificates[PKI_SERVER].not_after_ns / NS_PER_SECOND);
	write_single(m, "holdfast_ca_certificate_expiry_timestamp_seconds", "gauge",
	    "When the CA certificate that every agent trusts expires, seconds since 1970",
	    (double)m->facts.certificates[PKI_CA].not_after_ns / NS_PER_SECOND);
	write_single(m, "holdfast_sources", "gauge", "Sources known here", (double)m->count);
	write_single(m, "holdfast_staging_size_bytes", "gauge", "Size of the staging area's file system",
	    (double)m->facts.areas[AREA_DATA].total_bytes);
	write_single(m, "holdfast_staging_free_bytes", "gauge", "What is free of it",
	    (double)m->facts.areas[AREA_DATA].free_bytes);
	write_single(m, "holdfast_staging_room_bytes", "gauge",
	    "What may still be taken, beside the reserve; negative: maintenance works in the reserve",
	    (double)m->facts.areas[AREA_DATA].room_bytes);
	write_single(m, "holdfast_rows_waiting", "gauge",
	    "Events and audit rows that wait for room in holdfast.db; until then the log alone has them",
	    (double)m->facts.rows_waiting);
}

/* ---- the whole ---- */

static void
begin_families(struct metrics *m)
{
	for (size_t f = 0; f < VALUE_FAMILIES; f++)
		begin_family(m->families[f], values[f].name, values[f].type, values[f].help);
	begin_family(
	    m->families[FAMILY_INFO], "holdfast_source_info", "gauge", "The source's host name, as its agent says");
	begin_family(m->families[FAMILY_STATE], "holdfast_source_state", "gauge",
	    "1 for the state the source is in, 0 for the others");
	begin_family(m->families[FAMILY_LAG], "holdfast_source_lag_seconds", "gauge",
	    "Age of the newest moment received, durable, and consistently restorable (the RPO now); grows while an "
	    "agent is silent");
}

static void
add_source(struct metrics *m, const struct source_status *s)
{
	m->count++;
	add_info(m, s);
	add_values(m, s);
	add_states(m, s);
	add_lags(m, s);
}

static void
join_families(struct metrics *m)
{
	write_server(m);
	evbuffer_add_buffer(m->out, m->families[FAMILY_INFO]);
	for (size_t f = 0; f < FAMILIES; f++)
		evbuffer_add_buffer(m->out, m->families[f]); /* moves: the second time nothing */
}

static bool
make_buffers(struct metrics *m)
{
	bool made = (m->out = evbuffer_new()) != NULL;

	for (size_t f = 0; f < FAMILIES; f++)
		made &= (m->families[f] = evbuffer_new()) != NULL;
	return made;
}

static void
free_families(struct metrics *m)
{
	for (size_t f = 0; f < FAMILIES; f++)
		if (m->families[f] != NULL)
			evbuffer_free(m->families[f]);
}

void
get_metrics(struct call *call)
{
	struct metrics m = {.now_ns = clock_real_ns()};
	struct source_status *s = calloc(1, sizeof *s);

	if (make_buffers(&m) && s != NULL) {
		begin_families(&m);
		while (status_next(server_status(call->api->sv), &s->id, s))
			add_source(&m, s);
		server_get_facts(call->api->sv, &m.facts);
		join_families(&m);
		call_reply_body(call, 200, "text/plain; version=0.0.4; charset=utf-8", m.out);
	} else {
		if (m.out != NULL)
			evbuffer_free(m.out);
		call_reply_error(call, -ENOMEM, "metrics", NULL);
	}
	free_families(&m);
	free(s);
}
