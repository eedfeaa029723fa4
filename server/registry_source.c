/* SPDX-License-Identifier: Apache-2.0 */
#include "server/registry_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/common/status.h"

enum { MAC_LIST_BYTES = 8 * 18 };

/* "aa:bb:... cc:dd:..." */
static void
join_macs(const struct message_hints *h, char *ret_text)
{
	size_t len = 0;

	ret_text[0] = '\0';
	for (size_t i = 0; i < h->mac_count; i++)
		len += (size_t)snprintf(
		    ret_text + len, MAC_LIST_BYTES - len, "%s%s", i == 0 ? "" : " ", h->mac_addresses[i]);
}

static void
split_macs(char *text, struct message_hints *h)
{
	char *rest = text, *mac;

	h->mac_count = 0;
	while (
	    h->mac_count < sizeof h->mac_addresses / sizeof h->mac_addresses[0] && (mac = strsep(&rest, " ")) != NULL)
		if (mac[0] != '\0')
			snprintf(h->mac_addresses[h->mac_count++], sizeof h->mac_addresses[0], "%.17s", mac);
}

static int
read_hints(sqlite3_stmt *row, int column, struct message_hints *h)
{
	char macs[MAC_LIST_BYTES];

	if (sql_get_text(row, column, h->hostname, sizeof h->hostname) < 0 ||
	    sql_get_text(row, column + 1, h->machine_id, sizeof h->machine_id) < 0 ||
	    sql_get_text(row, column + 2, macs, sizeof macs) < 0 ||
	    sql_get_text(row, column + 3, h->os, sizeof h->os) < 0 ||
	    sql_get_text(row, column + 4, h->kernel, sizeof h->kernel) < 0 ||
	    sql_get_text(row, column + 7, h->agent_version, sizeof h->agent_version) < 0)
		return -HF_ECORRUPT;
	split_macs(macs, h);
	h->cpus = (uint32_t)sqlite3_column_int64(row, column + 5);
	h->ram_bytes = (uint64_t)sqlite3_column_int64(row, column + 6);
	return 0;
}

int
registry_store_hints(struct sql *s, const struct id *id, const struct message_hints *h, struct hf_error *err)
{
	char macs[MAC_LIST_BYTES];

	join_macs(h, macs);
	return sql_run(s, err,
	    "UPDATE source SET hostname = ?, machine_id = ?, mac_addresses = ?, os = ?, kernel = "
	    "?, cpus = ?, ram_bytes = ?,"
	    " agent_version = ? WHERE id = ?",
	    "tttttiutt", h->hostname, h->machine_id, macs, h->os, h->kernel, (int64_t)h->cpus, h->ram_bytes,
	    h->agent_version, id->text);
}

#define SELECT_SOURCE                                                                            \
	"SELECT id, created_ns, last_seen_ns, nonce, incarnation, adopt_next, label, hostname, " \
	"machine_id, mac_addresses, os, kernel, cpus, ram_bytes, agent_version, phase, "         \
	"(SELECT max(not_after_ns) FROM certificate WHERE source = source.id AND revoked = 0), " \
	"throttle_mbps, throttle_windows, phase_ns, first_byte_ns FROM source "

static int
read_throttle(sqlite3_stmt *row, int column, struct throttle *t)
{
	char windows[THROTTLE_TEXT_BYTES];
	int64_t mbps = sqlite3_column_int64(row, column);

	if (sql_get_text(row, column + 1, windows, sizeof windows) < 0 || mbps < 0 || mbps > THROTTLE_MBPS_MAX ||
	    throttle_windows_parse(windows, t, NULL) < 0)
		return -HF_ECORRUPT;
	t->mbps = (unsigned)mbps;
	return 0;
}

static int
read_source(sqlite3_stmt *row, void *ret_item)
{
	struct registry_source *source = ret_item;

	if (registry_read_id(row, 0, &source->id) < 0 ||
	    sql_get_blob(row, 3, source->installation_nonce, NONCE_BYTES) < 0 ||
	    sql_get_text(row, 6, source->label, sizeof source->label) < 0)
		return -HF_ECORRUPT;
	source->created_ns = sqlite3_column_int64(row, 1);
	source->last_seen_ns = sqlite3_column_int64(row, 2);
	source->incarnation = (uint64_t)sqlite3_column_int64(row, 4);
	source->adopt_next = sqlite3_column_int64(row, 5) != 0;
	source->phase = (enum registry_phase)sqlite3_column_int64(row, 15);
	source->phase_ns = sqlite3_column_int64(row, 19);
	source->first_byte_ns = sqlite3_column_int64(row, 20);
	source->certificate_expires_ns = sqlite3_column_int64(row, 16);
	return read_throttle(row, 17, &source->throttle) < 0 ? -HF_ECORRUPT : read_hints(row, 7, &source->hints);
}

int
registry_list_sources(struct registry *r, struct registry_source **ret_sources, size_t *ret_count, struct hf_error *err)
{
	sqlite3_stmt *statement;
	HOLD(r);
	int status = sql_query(&r->sql, &statement, err, SELECT_SOURCE "ORDER BY id", "");

	if (status < 0)
		return status;
	return registry_collect(&r->sql, statement, sizeof **ret_sources, read_source, ret_sources, ret_count, err);
}

int
registry_count_sources(
    struct registry *r, int64_t since_ns, size_t *ret_count, int64_t *ret_first_ns, struct hf_error *err)
{
	sqlite3_stmt *statement;
	HOLD(r);
	int status = sql_query(&r->sql, &statement, err,
	    "SELECT count(*), ifnull(min(iif(created_ns > ?, created_ns, NULL)), 0) FROM source WHERE phase != ?", "ii",
	    since_ns, (int64_t)PHASE_DELETING);

	if (status < 0)
		return status;
	status = sql_next(&r->sql, statement, err); /* an aggregate: there is a row */
	if (status != 1)
		return status;
	*ret_count = (size_t)sqlite3_column_int64(statement, 0);
	*ret_first_ns = sqlite3_column_int64(statement, 1);
	sql_done(statement);
	return 0;
}

int
registry_find_source(struct sql *s, const struct id *id, struct registry_source *ret_source, struct hf_error *err)
{
	struct registry_source source = {0};
	sqlite3_stmt *statement;
	int r = sql_query(s, &statement, err, SELECT_SOURCE "WHERE id = ?", "t", id->text);

	if (r == 0)
		r = registry_read_row(s, statement, read_source, &source, err);
	if (r == -ENOENT)
		return hf_error_say(err, r, "no source %s; holdfastctl source list shows those known", id->text);
	if (r == 0)
		*ret_source = source;
	return r;
}

int
registry_get_source(struct registry *r, const struct id *id, struct registry_source *ret_source, struct hf_error *err)
{
	HOLD(r);

	return registry_find_source(&r->sql, id, ret_source, err);
}

/* May this installation speak for the source? */
static int
check_clone(
    const struct registry_source *source, const unsigned char *nonce, uint64_t incarnation, struct hf_error *err)
{
	if (source->adopt_next)
		return 0;
	if (memcmp(source->installation_nonce, nonce, NONCE_BYTES) != 0)
		return hf_error_say(err, -HF_ECLONE,
		    "another installation claims to be source %s; if this is the machine to "
		    "replicate: holdfastctl source adopt %s",
		    source->id.text, source->id.text);
	if (incarnation < source->incarnation)
		return hf_error_say(err, -HF_ECLONE,
		    "an older start of source %s came back (start %llu, seen %llu): a reverted or "
		    "copied machine; if this is the machine to"
		    " replicate: holdfastctl source adopt %s",
		    source->id.text, (unsigned long long)incarnation, (unsigned long long)source->incarnation,
		    source->id.text);
	return 0;
}

static int
admit(struct sql *s, const struct id *id, const unsigned char *nonce, uint64_t incarnation,
    const struct message_hints *hints, int64_t now_ns, struct hf_error *err)
{
	struct registry_source source;
	int r = registry_find_source(s, id, &source, err);

	if (r == 0 && source.phase != PHASE_ACTIVE && source.phase != PHASE_PAUSED)
		return hf_error_set(err, -HF_ESTOPPED, "source %s", id->text);
	if (r == 0)
		r = check_clone(&source, nonce, incarnation, err);
	if (r == 0)
		r = sql_run(s, err,
		    "UPDATE source SET nonce = ?, incarnation = ?, adopt_next = 0, last_seen_ns = "
		    "? WHERE id = ?",
		    "buit", nonce, (size_t)NONCE_BYTES, incarnation, now_ns, id->text);
	return r < 0 ? r : registry_store_hints(s, id, hints, err);
}

int
registry_admit(struct registry *r, const struct id *source, const unsigned char *nonce, uint64_t incarnation,
    const struct message_hints *hints, int64_t now_ns, struct hf_error *err)
{
	HOLD(r);
	int status = sql_begin(&r->sql, err);

	if (status < 0)
		return status;
	status = sql_end(&r->sql, admit(&r->sql, source, nonce, incarnation, hints, now_ns, err), err);
	return status < 0 ? status : 0;
}

int
registry_adopt(struct registry *r, const struct id *source, struct hf_error *err)
{
	HOLD(r);

	return registry_found(sql_run(&r->sql, err, "UPDATE source SET adopt_next = 1 WHERE id = ?", "t", source->text),
	    "source", source, err);
}

int
registry_find_lasting(struct sql *s, const struct id *id, struct registry_source *ret_source, struct hf_error *err)
{
	int r = registry_find_source(s, id, ret_source, err);

	if (r == 0 && ret_source->phase == PHASE_DELETING)
		return hf_error_say(err, -EBUSY, "source %s is being deleted", id->text);
	return r;
}

static int
lock_out(struct sql *s, const struct id *id, struct hf_error *err)
{
	int r = sql_run(s, err, "UPDATE certificate SET revoked = 1 WHERE source = ?", "t", id->text);

	if (r >= 0)
		r = sql_run(s, err, "UPDATE token SET revoked = 1 WHERE source = ?", "t", id->text);
	return r;
}

static int
put_phase(struct sql *s, const struct id *id, enum registry_phase phase, int64_t now_ns, struct hf_error *err)
{
	return sql_run(s, err, "UPDATE source SET phase = ?, phase_ns = ? WHERE id = ? AND phase <> ?", "iiti",
	    (int64_t)phase, now_ns, id->text, (int64_t)phase);
}

static int
refuse_stopped(const struct id *id, struct hf_error *err)
{
	return hf_error_say(err, -EBUSY,
	    "replication is stopped, so nothing is taken of it: holdfastctl source start %s lets its agent in again",
	    id->text);
}

static int
set_phase(struct sql *s, const struct id *id, enum registry_phase phase, int64_t now_ns, struct hf_error *err)
{
	struct registry_source source;
	int r = registry_find_lasting(s, id, &source, err);

	if (r == 0 && phase == PHASE_PAUSED && source.phase == PHASE_STOPPED)
		r = refuse_stopped(id, err);
	if (r == 0 && phase == PHASE_DELETING)
		r = lock_out(s, id, err);
	return r < 0 ? r : put_phase(s, id, phase, now_ns, err);
}

int
registry_set_phase(
    struct registry *r, const struct id *source, enum registry_phase phase, int64_t now_ns, struct hf_error *err)
{
	HOLD(r);
	int status = sql_begin(&r->sql, err);

	return status < 0 ? status : sql_end(&r->sql, set_phase(&r->sql, source, phase, now_ns, err), err);
}

static int
end_phase(struct sql *s, const struct id *id, enum registry_phase phase, int64_t now_ns, struct hf_error *err)
{
	struct registry_source source;
	int r = registry_find_lasting(s, id, &source, err);

	if (r < 0 || source.phase == PHASE_ACTIVE)
		return r;
	if (source.phase == phase)
		return put_phase(s, id, PHASE_ACTIVE, now_ns, err);
	if (source.phase == PHASE_STOPPED)
		return refuse_stopped(id, err);
	return hf_error_say(
	    err, -EBUSY, "it is not stopped, it is paused: holdfastctl source resume %s ends that", id->text);
}

int
registry_end_phase(
    struct registry *r, const struct id *source, enum registry_phase phase, int64_t now_ns, struct hf_error *err)
{
	HOLD(r);
	int status = sql_begin(&r->sql, err);

	assert(phase == PHASE_PAUSED || phase == PHASE_STOPPED);
	return status < 0 ? status : sql_end(&r->sql, end_phase(&r->sql, source, phase, now_ns, err), err);
}

static int
put_sighting(struct sql *s, const struct registry_sighting *g, struct hf_error *err)
{
	int r = sql_run(s, err,
	    "UPDATE source SET first_byte_ns = ?, last_seen_ns = ? WHERE id = ? AND (first_byte_ns <> ? OR "
	    "last_seen_ns <> ?)",
	    "iitii", g->first_byte_ns, g->last_seen_ns, g->source.text, g->first_byte_ns, g->last_seen_ns);

	return r < 0 ? r : 0;
}

static int
put_sightings(struct sql *s, const struct registry_sighting *list, size_t count, struct hf_error *err)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++)
		r = put_sighting(s, &list[i], err);
	return r;
}

int
registry_put_sightings(struct registry *r, const struct registry_sighting *list, size_t count, struct hf_error *err)
{
	HOLD(r);
	uint64_t changes = r->changes;
	int status = sql_begin(&r->sql, err);

	if (status < 0)
		return status;
	status = sql_end(&r->sql, put_sightings(&r->sql, list, count, err), err);
	r->changes = changes; /* the next minute has better ones */
	return status < 0 ? status : 0;
}

int
registry_set_throttle(struct registry *r, const struct id *source, const struct throttle *t, struct hf_error *err)
{
	char windows[THROTTLE_TEXT_BYTES];
	HOLD(r);

	return registry_found(
	    sql_run(&r->sql, err, "UPDATE source SET throttle_mbps = ?, throttle_windows = ? WHERE id = ?", "itt",
		(int64_t)t->mbps, throttle_windows_format(t, windows), source->text),
	    "source", source, err);
}

static int
delete_source(struct sql *s, const struct id *id, struct hf_error *err)
{
	int r =
	    sql_run(s, err, "DELETE FROM source WHERE id = ? AND phase = ?", "ti", id->text, (int64_t)PHASE_DELETING);

	if (r <= 0)
		return registry_found(r, "source that is being deleted:", id, err);
	r = sql_run(s, err, "DELETE FROM certificate WHERE source = ?", "t", id->text);
	if (r >= 0)
		r = sql_run(s, err, "DELETE FROM token WHERE source = ?", "t", id->text);
	return r < 0 ? r : 0;
}

int
registry_delete_source(struct registry *r, const struct id *source, struct hf_error *err)
{
	HOLD(r);
	int status = sql_begin(&r->sql, err);

	return status < 0 ? status : sql_end(&r->sql, delete_source(&r->sql, source, err), err);
}
