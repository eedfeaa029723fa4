/* SPDX-License-Identifier: Apache-2.0 */
#include "server/registry_impl.h"

#include "proto/common/status.h"
#include "server/audit.h"

enum { EVENTS_MAX = 100000 };

static int64_t
as_rowid(uint64_t number)
{
	return (int64_t)(number > INT64_MAX ? INT64_MAX : number);
}

/* ---- events ---- */

static int
add_event(struct sql *s, struct registry_event *event, struct hf_error *err)
{
	int r = sql_run(s, err, "INSERT INTO event (time_ns, source, event, text) VALUES (?, ?, ?, ?)", "ittt",
	    event->time_ns, event->source.text, event->event, event->text);
	int64_t number = sqlite3_last_insert_rowid(s->db);

	if (r >= 0) /* numbers have no gaps, so this keeps EVENTS_MAX of them */
		r = sql_run(s, err, "DELETE FROM event WHERE number <= ?", "i", number - EVENTS_MAX);
	if (r < 0)
		return r;
	event->number = (uint64_t)number;
	return 0;
}

int
registry_add_event(struct registry *r, struct registry_event *event, struct hf_error *err)
{
	HOLD(r);
	int status = sql_begin(&r->sql, err);

	return status < 0 ? status : sql_end(&r->sql, add_event(&r->sql, event, err), err);
}

static int
read_event(sqlite3_stmt *row, void *ret_item)
{
	struct registry_event *event = ret_item;

	event->number = (uint64_t)sqlite3_column_int64(row, 0);
	event->time_ns = sqlite3_column_int64(row, 1);
	if (registry_read_id(row, 2, &event->source) < 0 ||
	    sql_get_text(row, 3, event->event, sizeof event->event) < 0 ||
	    sql_get_text(row, 4, event->text, sizeof event->text) < 0)
		return -HF_ECORRUPT;
	return 0;
}

int
registry_list_events(struct registry *r, uint64_t after, size_t max, struct registry_event **ret_events,
    size_t *ret_count, struct hf_error *err)
{
	sqlite3_stmt *statement;
	HOLD(r);
	int status = sql_query(&r->sql, &statement, err,
	    "SELECT number, time_ns, source, event, text FROM event WHERE number > ? ORDER BY "
	    "number LIMIT ?",
	    "ii", as_rowid(after), as_rowid(max));

	if (status < 0)
		return status;
	return registry_collect(&r->sql, statement, sizeof **ret_events, read_event, ret_events, ret_count, err);
}

/* ---- audit ---- */

/* Without a head the newest row, which is of the time before there was a chain. */
static int
get_head(struct sql *s, uint64_t *ret_number, unsigned char *ret_digest, struct hf_error *err)
{
	sqlite3_stmt *row;
	int r = sql_query(s, &row, err,
	    "SELECT number, digest FROM audit_head UNION ALL SELECT max(number), zeroblob(32) FROM audit "
	    "WHERE NOT EXISTS (SELECT 1 FROM audit_head)",
	    "");

	if (r == 0)
		r = sql_next(s, row, err);
	if (r <= 0)
		return r < 0 ? r : hf_error_set(err, -HF_ECORRUPT, "the head of the audit");
	*ret_number = (uint64_t)sqlite3_column_int64(row, 0);
	r = sql_get_blob(row, 1, ret_digest, AUDIT_DIGEST_BYTES);
	sql_done(row);
	return r < 0 ? hf_error_set(err, r, "the head of the audit") : 0;
}

static int
set_head(struct sql *s, const struct registry_audit *audit, struct hf_error *err)
{
	int r = sql_run(s, err,
	    "INSERT INTO audit_head (one, number, digest) VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE SET number = "
	    "excluded.number, digest = excluded.digest",
	    "ub", audit->number, audit->digest, sizeof audit->digest);

	return r < 0 ? r : 0;
}

static int
add_audit(struct sql *s, struct registry_audit *audit, struct hf_error *err)
{
	unsigned char before[AUDIT_DIGEST_BYTES];
	uint64_t newest;
	int r = get_head(s, &newest, before, err);

	if (r < 0)
		return r;
	audit->number = newest + 1;
	audit->chained = true;
	audit_digest(before, audit, audit->digest);
	r = sql_run(s, err,
	    "INSERT INTO audit (number, time_ns, uid, pid, request, verb, object, result, digest) VALUES (?, ?, ?, ?, "
	    "?, "
	    "?, ?, ?, ?)",
	    "uiiiutttb", audit->number, audit->time_ns, (int64_t)audit->uid, (int64_t)audit->pid, audit->request,
	    audit->verb, audit->object, audit->result, audit->digest, sizeof audit->digest);
	return r < 0 ? r : set_head(s, audit, err);
}

int
registry_add_audit(struct registry *r, struct registry_audit *audit, struct hf_error *err)
{
	HOLD(r);
	int status = sql_begin(&r->sql, err);

	return status < 0 ? status : sql_end(&r->sql, add_audit(&r->sql, audit, err), err);
}

static int
read_audit(sqlite3_stmt *row, void *ret_item)
{
	struct registry_audit *audit = ret_item;

	audit->number = (uint64_t)sqlite3_column_int64(row, 0);
	audit->time_ns = sqlite3_column_int64(row, 1);
	audit->uid = (unsigned)sqlite3_column_int64(row, 2);
	audit->pid = (int)sqlite3_column_int64(row, 3);
	audit->request = (uint64_t)sqlite3_column_int64(row, 4);
	if (sql_get_text(row, 5, audit->verb, sizeof audit->verb) < 0 ||
	    sql_get_text(row, 6, audit->object, sizeof audit->object) < 0 ||
	    sql_get_text(row, 7, audit->result, sizeof audit->result) < 0)
		return -HF_ECORRUPT;
	audit->chained = sql_get_blob(row, 8, audit->digest, sizeof audit->digest) == 0;
	return 0;
}

int
registry_list_audit(struct registry *r, uint64_t after, uint64_t before, size_t max, struct registry_audit **ret_rows,
    size_t *ret_count, struct hf_error *err)
{
	sqlite3_stmt *statement;
	HOLD(r);
	int status = sql_query(&r->sql, &statement, err,
	    "SELECT * FROM (SELECT number, time_ns, uid, pid, request, verb, object, result, digest FROM audit WHERE "
	    "number > ? AND number < ? ORDER BY number DESC LIMIT ?) ORDER BY number",
	    "iii", as_rowid(after), as_rowid(before), as_rowid(max));

	if (status < 0)
		return status;
	return registry_collect(&r->sql, statement, sizeof **ret_rows, read_audit, ret_rows, ret_count, err);
}

int
registry_get_audit_head(struct registry *r, uint64_t *ret_number, unsigned char *ret_digest, struct hf_error *err)
{
	HOLD(r);

	return get_head(&r->sql, ret_number, ret_digest, err);
}
