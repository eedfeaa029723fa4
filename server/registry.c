/* SPDX-License-Identifier: Apache-2.0 */
/* A call takes the mutex for as long as it lasts, enrolment's sign() included: there is one
 * connection, and a transaction must be one caller's. The mutex checks for errors, so that a sign()
 * which calls the registry stops there instead of hanging for ever. */
#include "server/registry.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/audit.h"
#include "storage/db_copy.h"
#include "storage/sql.h"

enum {
	EVENTS_MAX = 100000,
	APPLICATION_ID = 0x48467267, /* "HFrg" */
};

/* Times are nanoseconds since 1970; 0 = not yet. incarnation is an unsigned number in a signed
 * column. See struct sql_format for how a version follows another. */
static const char *const schemas[] = {
    /* version 1 */
    "CREATE TABLE source (id TEXT PRIMARY KEY, created_ns INTEGER NOT NULL, last_seen_ns "
    "INTEGER NOT NULL DEFAULT 0,"
    " nonce BLOB NOT NULL, incarnation INTEGER NOT NULL DEFAULT 0, adopt_next INTEGER "
    "NOT NULL DEFAULT 0,"
    " label TEXT NOT NULL DEFAULT '', hostname TEXT NOT NULL DEFAULT '', machine_id TEXT "
    "NOT NULL DEFAULT '',"
    " mac_addresses TEXT NOT NULL DEFAULT '', os TEXT NOT NULL DEFAULT '', kernel TEXT "
    "NOT NULL DEFAULT '',"
    " cpus INTEGER NOT NULL DEFAULT 0, ram_bytes INTEGER NOT NULL DEFAULT 0, "
    "agent_version TEXT NOT NULL DEFAULT '') STRICT;"
    "CREATE TABLE token (id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, created_ns "
    "INTEGER NOT NULL,"
    " expires_ns INTEGER NOT NULL, used_ns INTEGER NOT NULL, source TEXT NOT NULL, "
    "revoked INTEGER NOT NULL) STRICT;"
    "CREATE TABLE certificate (fingerprint BLOB PRIMARY KEY, source TEXT NOT NULL, "
    "not_before_ns INTEGER NOT NULL,"
    " not_after_ns INTEGER NOT NULL, revoked INTEGER NOT NULL) STRICT;"
    "CREATE INDEX certificate_source ON certificate (source);"
    "CREATE TABLE event (number INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER NOT "
    "NULL, source TEXT NOT NULL,"
    " event TEXT NOT NULL, text TEXT NOT NULL) STRICT;"
    "CREATE TABLE audit (number INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER NOT "
    "NULL, uid INTEGER NOT NULL,"
    " pid INTEGER NOT NULL, verb TEXT NOT NULL, object TEXT NOT NULL) STRICT;"
    "CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;",
    /* version 2: enum registry_phase */
    "ALTER TABLE source ADD COLUMN phase INTEGER NOT NULL DEFAULT 0",
    /* version 3: serial and issuer in lower-case hex, '' = not noted */
    "ALTER TABLE certificate ADD COLUMN serial TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE certificate ADD COLUMN issuer TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE certificate ADD COLUMN used_ns INTEGER NOT NULL DEFAULT 0;",
    /* version 4: struct throttle; its windows as throttle_windows_format() has them */
    "ALTER TABLE source ADD COLUMN throttle_mbps INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE source ADD COLUMN throttle_windows TEXT NOT NULL DEFAULT ''",
    /* version 5: settings.h, as JSON */
    "ALTER TABLE source ADD COLUMN settings TEXT NOT NULL DEFAULT '{}'",
    /* version 6: since when it is in its phase */
    "ALTER TABLE source ADD COLUMN phase_ns INTEGER NOT NULL DEFAULT 0",
    /* version 7: results and a chain (audit.h) of the audit; digest NULL = added before */
    "ALTER TABLE audit ADD COLUMN request INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE audit ADD COLUMN result TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE audit ADD COLUMN digest BLOB;"
    "CREATE TABLE audit_head (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL, digest BLOB NOT NULL) "
    "STRICT;",
    /* version 8: when the first byte of its data came */
    "ALTER TABLE source ADD COLUMN first_byte_ns INTEGER NOT NULL DEFAULT 0",
    NULL,
};

static const struct sql_format format = {
    .what = "registry",
    .application_id = APPLICATION_ID,
    .schemas = schemas,
};

struct registry {
	pthread_mutex_t mutex;
	struct sql sql;
	uint64_t changes, copied_changes; /* of rows that the copy must not lack; copied: that it has */
};

static struct registry *
registry_lock(struct registry *r)
{
	int result = pthread_mutex_lock(&r->mutex);

	assert(result == 0); /* EDEADLK: a sign() called us */
	return r;
}

static void
registry_unlock(struct registry **r)
{
	pthread_mutex_unlock(&(*r)->mutex);
}

/* Holds the mutex until the end of the block. */
#define HOLD(r) struct registry *held __attribute__((cleanup(registry_unlock), unused)) = registry_lock(r)

static void
init_mutex(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

/* Events and audit are many, and what they lack nobody misses: they alone are no reason for a copy. */
static void
on_change(void *arg, int operation, const char *database, const char *table, sqlite3_int64 row)
{
	struct registry *r = arg;

	if (strcmp(table, "event") != 0 && strcmp(table, "audit") != 0 && strcmp(table, "audit_head") != 0)
		r->changes++;
}

int
registry_open(const char *path, bool create, struct registry **ret_registry, struct hf_error *err)
{
	struct registry *r = calloc(1, sizeof *r);
	int status;

	if (r == NULL)
		return hf_error_set(err, -ENOMEM, "%s", path);
	init_mutex(&r->mutex);
	status = sql_init(&r->sql, path, NULL, create, &format, err);
	if (status < 0) {
		registry_close(r);
		return status;
	}
	r->changes = 1; /* nobody knows how old the copy is */
	(void)sqlite3_update_hook(r->sql.db, on_change, r);
	*ret_registry = r;
	return 0;
}

void
registry_close(struct registry *r)
{
	if (r == NULL)
		return;
	sql_fini(&r->sql);
	pthread_mutex_destroy(&r->mutex);
	free(r);
}

/* ---- its copy ---- */

/* Nobody has a disk when the process starts or ends. */
enum { COPY_DISK_DEPTH = 4 };

static int
export_to(struct registry *r, const char *path, uint64_t *ret_changes, struct hf_error *err)
{
	HOLD(r);

	*ret_changes = r->changes;
	return sql_export(&r->sql, path, err);
}

static int
write_copy(struct registry *r, struct disk *d, struct hf_error *err)
{
	const char *path = sqlite3_db_filename(r->sql.db, "main");
	char tmp[DB_PATH_BYTES];
	uint64_t changes;
	int status = db_copy_begin(d, path, tmp);

	if (status < 0)
		return hf_error_set(err, status, "%s", tmp);
	status = export_to(r, tmp, &changes, err);
	if (status < 0)
		return status;
	status = db_copy_end(d, path);
	if (status < 0)
		return hf_error_set(err, status, "the copy of %s", path);
	r->copied_changes = changes;
	return 0;
}

static bool
wants_copy(struct registry *r)
{
	HOLD(r);

	return r->changes != r->copied_changes;
}

int
registry_write_copy(struct registry *r, struct hf_error *err)
{
	struct disk *d;
	int status = wants_copy(r) ? disk_ring_create(COPY_DISK_DEPTH, &d, err) : -EALREADY;

	if (status < 0)
		return status == -EALREADY ? 0 : status;
	status = write_copy(r, d, err);
	disk_destroy(d);
	return status;
}

/* ---- the way back to it ---- */

static int
open_existing(struct disk *d, const char *path, struct registry **ret_registry, struct hf_error *err)
{
	if (!db_is_there(d, path))
		return hf_error_say(err, -HF_ECORRUPT, "%s is missing", path);
	return registry_open(path, false, ret_registry, err);
}

/* Is it whole, and closed again in good order? */
static int
try_copy(struct disk *d, const char *path, struct hf_error *err)
{
	char new[DB_PATH_BYTES];
	struct registry *r;
	int status = db_copy_restore(d, path, new);

	if (status == -ENOENT)
		return hf_error_say(err, -HF_ECORRUPT, "there is no copy %s.bak", path);
	if (status < 0)
		return hf_error_set(err, status, "the copy of %s", path);
	status = registry_open(new, false, &r, err);
	if (status == 0)
		registry_close(r);
	return status;
}

static int
replace(struct disk *d, const char *path, int64_t now_ns, const char *why, char *ret_repair, size_t size,
    struct hf_error *err)
{
	char aside[DB_PATH_BYTES];
	struct hf_error copy;
	int status = try_copy(d, path, &copy);

	if (status == -HF_ECORRUPT)
		return hf_error_say(err, status,
		    "%.300s; %.300s. Put holdfast.db or holdfast.db.bak back from a backup. Nothing was changed, and "
		    "every point in time can be read without them: holdfastctl export file --data-dir",
		    why, copy.text);
	if (status < 0) {
		*err = copy;
		return status;
	}
	status = db_copy_install(d, path, now_ns, aside);
	if (status < 0)
		return hf_error_set(err, status, "a new %s", path);
	snprintf(ret_repair, size,
	    "%.200s; its copy took its place: sources, certificates and tokens of the last minute may be missing%s%s",
	    why, aside[0] != '\0' ? "; the damaged one is kept as " : "", aside);
	return 0;
}

int
registry_open_or_replace(const char *path, int64_t now_ns, struct registry **ret_registry, char *ret_repair,
    size_t size, struct hf_error *err)
{
	struct hf_error why;
	struct disk *d;
	int status = disk_ring_create(COPY_DISK_DEPTH, &d, err);

	ret_repair[0] = '\0';
	if (status < 0)
		return status;
	status = open_existing(d, path, ret_registry, &why);
	if (status == -HF_ECORRUPT) {
		status = replace(d, path, now_ns, why.text, ret_repair, size, err);
		if (status == 0)
			status = registry_open(path, false, ret_registry, err);
	} else if (status < 0) {
		*err = why;
	}
	disk_destroy(d);
	return status;
}

/* ---- rows into arrays ---- */

/* A growing array; read() fills one item from the row at hand. */
struct list {
	void *items;
	size_t count, item_bytes;
	int (*read)(sqlite3_stmt *row, void *ret_item);
};

/* Room doubles whenever count reaches a power of two. */
static void *
new_item(struct list *l)
{
	if ((l->count & (l->count - 1)) == 0) {
		void *more = realloc(l->items, (l->count == 0 ? 1 : 2 * l->count) * l->item_bytes);

		if (more == NULL)
			return NULL;
		l->items = more;
	}
	return memset((char *)l->items + l->count++ * l->item_bytes, 0, l->item_bytes);
}

static int
read_item(struct list *l, sqlite3_stmt *row)
{
	void *item = new_item(l);

	return item == NULL ? -ENOMEM : l->read(row, item);
}

/* Every row of a query begun, in order. Gives *ret_items, a pointer to items of item_bytes (NULL if there are none). */
static int
registry_collect(struct sql *s, sqlite3_stmt *statement, size_t item_bytes,
    int (*read)(sqlite3_stmt *row, void *ret_item), void *ret_items, size_t *ret_count, struct hf_error *err)
{
	struct list l = {.item_bytes = item_bytes, .read = read};
	int r, bad = 0;

	while (bad == 0 && (r = sql_next(s, statement, err)) == 1)
		bad = read_item(&l, statement);
	if (bad < 0) {
		sql_done(statement);
		r = hf_error_set(err, bad, "registry: read a row");
	}
	if (r < 0) {
		free(l.items);
		return r;
	}
	memcpy(ret_items, &l.items, sizeof l.items);
	*ret_count = l.count;
	return 0;
}

/* The only row of a query begun. -ENOENT (err untouched) if there is none. */
static int
registry_read_row(
    struct sql *s, sqlite3_stmt *statement, int (*read)(sqlite3_stmt *, void *), void *ret_item, struct hf_error *err)
{
	int r = sql_next(s, statement, err);

	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	r = read(statement, ret_item);
	sql_done(statement);
	return r < 0 ? hf_error_set(err, r, "registry: read a row") : 0;
}

static int
registry_read_id(sqlite3_stmt *row, int column, struct id *ret_id)
{
	return sql_get_text(row, column, ret_id->text, sizeof ret_id->text);
}

/* ---- sources ---- */

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

static int
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

static int
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

/* For a change of one row by its id: 0 rows are -ENOENT. */
static int
registry_found(int changed, const char *noun, const struct id *id, struct hf_error *err)
{
	if (changed == 0)
		return hf_error_say(err, -ENOENT, "no %s %s", noun, id->text);
	return changed < 0 ? changed : 0;
}

int
registry_adopt(struct registry *r, const struct id *source, struct hf_error *err)
{
	HOLD(r);

	return registry_found(sql_run(&r->sql, err, "UPDATE source SET adopt_next = 1 WHERE id = ?", "t", source->text),
	    "source", source, err);
}

/* -EBUSY: it is being deleted. */
static int
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

/* ---- tokens ---- */

#define SELECT_TOKEN "SELECT id, hash, created_ns, expires_ns, used_ns, source, revoked FROM token "

static int
read_token(sqlite3_stmt *row, void *ret_item)
{
	struct registry_token *token = ret_item;

	if (registry_read_id(row, 0, &token->id) < 0 || sql_get_blob(row, 1, token->hash, TOKEN_HASH_BYTES) < 0 ||
	    registry_read_id(row, 5, &token->source) < 0)
		return -HF_ECORRUPT;
	token->created_ns = sqlite3_column_int64(row, 2);
	token->expires_ns = sqlite3_column_int64(row, 3);
	token->used_ns = sqlite3_column_int64(row, 4);
	token->revoked = sqlite3_column_int64(row, 6) != 0;
	return 0;
}

int
registry_put_token(struct registry *r, const struct registry_token *token, struct hf_error *err)
{
	struct registry_source source;
	HOLD(r);
	int status = token->source.text[0] == '\0' ? 0 : registry_find_lasting(&r->sql, &token->source, &source, err);

	if (status == 0)
		status = sql_run(&r->sql, err,
		    "INSERT INTO token (id, hash, created_ns, expires_ns, used_ns, source, "
		    "revoked) VALUES (?, ?, ?, ?, ?, ?, ?)",
		    "tbiiiti", token->id.text, token->hash, (size_t)TOKEN_HASH_BYTES, token->created_ns,
		    token->expires_ns, token->used_ns, token->source.text, (int64_t)token->revoked);
	return status < 0 ? status : 0;
}

int
registry_list_tokens(struct registry *r, struct registry_token **ret_tokens, size_t *ret_count, struct hf_error *err)
{
	sqlite3_stmt *statement;
	HOLD(r);
	int status = sql_query(&r->sql, &statement, err, SELECT_TOKEN "ORDER BY created_ns, id", "");

	if (status < 0)
		return status;
	return registry_collect(&r->sql, statement, sizeof **ret_tokens, read_token, ret_tokens, ret_count, err);
}

int
registry_revoke_token(struct registry *r, const struct id *id, struct hf_error *err)
{
	HOLD(r);

	return registry_found(
	    sql_run(&r->sql, err, "UPDATE token SET revoked = 1 WHERE id = ?", "t", id->text), "token", id, err);
}

int
registry_revoke_unused_tokens(struct registry *r, struct hf_error *err)
{
	HOLD(r);
	int status = sql_run(&r->sql, err, "UPDATE token SET revoked = 1 WHERE used_ns = 0", "");

	return status < 0 ? status : 0;
}

static int
check_token(const struct registry_token *token, int64_t now_ns, struct hf_error *err)
{
	char when[UNITS_TEXT_BYTES];

	if (token->used_ns != 0)
		return hf_error_say(err, -HF_ETOKEN, "token %s was used at %s; a token is good for one machine",
		    token->id.text, time_format(token->used_ns, when));
	if (token->revoked)
		return hf_error_say(err, -HF_ETOKEN, "token %s was revoked", token->id.text);
	if (now_ns >= token->expires_ns)
		return hf_error_say(
		    err, -HF_ETOKEN, "token %s expired at %s", token->id.text, time_format(token->expires_ns, when));
	return 0;
}

static int
find_token(struct sql *s, const unsigned char *hash, struct registry_token *ret_token, struct hf_error *err)
{
	sqlite3_stmt *statement;
	int r = sql_query(s, &statement, err, SELECT_TOKEN "WHERE hash = ?", "b", hash, (size_t)TOKEN_HASH_BYTES);

	if (r == 0)
		r = registry_read_row(s, statement, read_token, ret_token, err);
	if (r == -ENOENT)
		return hf_error_say(err, -HF_ETOKEN, "no such token here");
	return r;
}

/* ---- certificates ---- */

static int
put_certificate(struct sql *s, const struct registry_certificate *c, struct hf_error *err)
{
	int r = sql_run(s, err,
	    "INSERT INTO certificate (fingerprint, source, not_before_ns, not_after_ns, revoked, serial, issuer) "
	    "VALUES (?, ?, ?, ?, ?, ?, ?)",
	    "btiiitt", c->fingerprint, (size_t)FINGERPRINT_BYTES, c->source.text, c->not_before_ns, c->not_after_ns,
	    (int64_t)c->revoked, c->serial, c->issuer);

	return r < 0 ? r : 0;
}

int
registry_put_certificate(struct registry *r, const struct registry_certificate *certificate, struct hf_error *err)
{
	HOLD(r);

	return put_certificate(&r->sql, certificate, err);
}

static int
read_certificate(sqlite3_stmt *row, void *ret_item)
{
	struct registry_certificate *c = ret_item;

	if (sql_get_blob(row, 0, c->fingerprint, FINGERPRINT_BYTES) < 0 || registry_read_id(row, 1, &c->source) < 0)
		return -HF_ECORRUPT;
	c->not_before_ns = sqlite3_column_int64(row, 2);
	c->not_after_ns = sqlite3_column_int64(row, 3);
	c->revoked = sqlite3_column_int64(row, 4) != 0;
	c->used_ns = sqlite3_column_int64(row, 7);
	if (sql_get_text(row, 5, c->serial, sizeof c->serial) < 0 ||
	    sql_get_text(row, 6, c->issuer, sizeof c->issuer) < 0)
		return -HF_ECORRUPT;
	return 0;
}

#define SELECT_CERTIFICATE                                                                                \
	"SELECT fingerprint, source, not_before_ns, not_after_ns, revoked, serial, issuer, used_ns FROM " \
	"certificate "

int
registry_find_certificate(struct registry *r, const unsigned char *fingerprint,
    struct registry_certificate *ret_certificate, struct hf_error *err)
{
	struct registry_certificate c = {0};
	sqlite3_stmt *statement;
	HOLD(r);
	int status = sql_query(&r->sql, &statement, err, SELECT_CERTIFICATE "WHERE fingerprint = ?", "b", fingerprint,
	    (size_t)FINGERPRINT_BYTES);

	if (status == 0)
		status = registry_read_row(&r->sql, statement, read_certificate, &c, err);
	if (status == -ENOENT)
		return hf_error_say(err, -ENOENT, "the certificate is not one this server has on record");
	if (status == 0 && c.revoked)
		return hf_error_say(err, -HF_EREVOKED, "the certificate of source %s is revoked", c.source.text);
	if (status == 0)
		*ret_certificate = c;
	return status;
}

int
registry_list_certificates(struct registry *r, int64_t now_ns, struct registry_certificate **ret_certificates,
    size_t *ret_count, struct hf_error *err)
{
	sqlite3_stmt *statement;
	HOLD(r);
	int status = sql_query(&r->sql, &statement, err,
	    SELECT_CERTIFICATE
	    "AS c WHERE not_after_ns > ? OR not_before_ns = (SELECT max(not_before_ns) FROM certificate "
	    "WHERE source = c.source) ORDER BY source, not_before_ns, rowid",
	    "i", now_ns);

	if (status < 0)
		return status;
	return registry_collect(
	    &r->sql, statement, sizeof **ret_certificates, read_certificate, ret_certificates, ret_count, err);
}

int
registry_use_certificate(struct registry *r, const unsigned char *fingerprint, int64_t now_ns, struct hf_error *err)
{
	HOLD(r);
	int status = sql_run(&r->sql, err, "UPDATE certificate SET used_ns = ? WHERE fingerprint = ? AND used_ns = 0",
	    "ib", now_ns, fingerprint, (size_t)FINGERPRINT_BYTES);

	return status < 0 ? status : 0;
}

int
registry_revoke_source(struct registry *r, const struct id *source, struct hf_error *err)
{
	struct registry_source known;
	HOLD(r);
	int status = registry_find_source(&r->sql, source, &known, err);

	if (status == 0)
		status =
		    sql_run(&r->sql, err, "UPDATE certificate SET revoked = 1 WHERE source = ?", "t", source->text);
	return status < 0 ? status : 0;
}

/* ---- enrolment ---- */

struct enrolment {
	const unsigned char *token_hash, *nonce;
	int64_t now_ns;
	const struct message_hints *hints;
	int (*sign)(
	    void *arg, const struct id *source, struct registry_certificate *ret_certificate, struct hf_error *err);
	void *arg;
	struct id source;
};

static int
add_source(struct sql *s, const struct enrolment *e, struct hf_error *err)
{
	int r = sql_run(s, err,
	    "INSERT INTO source (id, created_ns, nonce, settings, throttle_mbps) VALUES (?, ?, ?, "
	    "coalesce((SELECT value FROM setting WHERE key = '" REGISTRY_NEW_SOURCE "'), '{}'), "
	    "coalesce((SELECT json_extract(value, '$.bandwidthThrottling') FROM setting WHERE key = "
	    "'" REGISTRY_NEW_STORE "'), 0))",
	    "tib", e->source.text, e->now_ns, e->nonce, (size_t)NONCE_BYTES);

	return r < 0 ? r : 0;
}

/* A known source on new hardware, or with a new certificate: the person who made the token vouches
 * for it. */
static int
move_source(struct sql *s, const struct enrolment *e, struct hf_error *err)
{
	struct registry_source old;
	int r = registry_find_source(s, &e->source, &old, err);

	if (r < 0)
		return r;
	if (memcmp(old.installation_nonce, e->nonce, NONCE_BYTES) != 0)
		old.incarnation = 0;
	r = sql_run(s, err, "UPDATE source SET nonce = ?, incarnation = ?, adopt_next = 0 WHERE id = ?", "but",
	    e->nonce, (size_t)NONCE_BYTES, old.incarnation, e->source.text);
	return r < 0 ? r : 0;
}

static int
use_token(struct sql *s, const struct enrolment *e, const struct registry_token *token, struct hf_error *err)
{
	int r = sql_run(s, err, "UPDATE token SET used_ns = ?, source = ? WHERE id = ?", "itt", e->now_ns,
	    e->source.text, token->id.text);

	return r < 0 ? r : 0;
}

static int
certify(struct sql *s, const struct enrolment *e, struct hf_error *err)
{
	struct registry_certificate certificate = {0};
	int r = e->sign(e->arg, &e->source, &certificate, err);

	if (r < 0)
		return r;
	certificate.source = e->source;
	return put_certificate(s, &certificate, err);
}

static int
enroll(struct sql *s, struct enrolment *e, struct hf_error *err)
{
	struct registry_token token = {0};
	bool bound;
	int r = find_token(s, e->token_hash, &token, err);

	if (r == 0)
		r = check_token(&token, e->now_ns, err);
	if (r < 0)
		return r;
	bound = token.source.text[0] != '\0';
	if (bound)
		e->source = token.source;
	r = bound ? move_source(s, e, err) : add_source(s, e, err);
	if (r == 0)
		r = registry_store_hints(s, &e->source, e->hints, err);
	if (r >= 0)
		r = use_token(s, e, &token, err);
	return r < 0 ? r : certify(s, e, err);
}

int
registry_enroll(struct registry *r, const unsigned char *token_hash, int64_t now_ns, const struct id *new_source,
    const unsigned char *nonce, const struct message_hints *hints,
    int (*sign)(void *arg, const struct id *source, struct registry_certificate *ret_certificate, struct hf_error *err),
    void *arg, struct id *ret_source, struct hf_error *err)
{
	struct enrolment e = {.token_hash = token_hash,
	    .nonce = nonce,
	    .now_ns = now_ns,
	    .hints = hints,
	    .sign = sign,
	    .arg = arg,
	    .source = *new_source};
	HOLD(r);
	int status = sql_begin(&r->sql, err);

	if (status == 0)
		status = sql_end(&r->sql, enroll(&r->sql, &e, err), err);
	if (status == 0)
		*ret_source = e.source;
	return status;
}

/* ---- events and audit ---- */

static int64_t
as_rowid(uint64_t number)
{
	return (int64_t)(number > INT64_MAX ? INT64_MAX : number);
}

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

/* ---- settings ---- */

/* The text that a query begun gives: -ENOENT if it gives none. */
static int
read_only_text(struct sql *s, sqlite3_stmt *statement, char *ret_text, size_t size)
{
	int r = sql_next(s, statement, NULL);

	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	r = sql_get_text(statement, 0, ret_text, size);
	sql_done(statement);
	return r;
}

int
registry_get_setting(struct registry *r, const char *key, char *ret_value, size_t size)
{
	sqlite3_stmt *statement;
	HOLD(r);
	int status = sql_query(&r->sql, &statement, NULL, "SELECT value FROM setting WHERE key = ?", "t", key);

	return status < 0 ? status : read_only_text(&r->sql, statement, ret_value, size);
}

static int
set_setting(struct sql *s, const char *key, const char *value, struct hf_error *err)
{
	int r = sql_run(s, err,
	    "INSERT INTO setting (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value "
	    "= excluded.value",
	    "tt", key, value);

	return r < 0 ? r : 0;
}

int
registry_set_setting(struct registry *r, const char *key, const char *value, struct hf_error *err)
{
	HOLD(r);

	return set_setting(&r->sql, key, value, err);
}

static int
set_template(struct sql *s, const char *of_source, const char *of_store, struct hf_error *err)
{
	int r = set_setting(s, REGISTRY_NEW_SOURCE, of_source, err);

	return r < 0 ? r : set_setting(s, REGISTRY_NEW_STORE, of_store, err);
}

int
registry_set_template(struct registry *r, const char *of_source, const char *of_store, struct hf_error *err)
{
	HOLD(r);
	int status = sql_begin(&r->sql, err);

	return status < 0 ? status : sql_end(&r->sql, set_template(&r->sql, of_source, of_store, err), err);
}

int
registry_get_source_settings(struct registry *r, const struct id *source, char *ret_text, size_t size)
{
	sqlite3_stmt *statement;
	HOLD(r);
	int status =
	    sql_query(&r->sql, &statement, NULL, "SELECT settings FROM source WHERE id = ?", "t", source->text);

	return status < 0 ? status : read_only_text(&r->sql, statement, ret_text, size);
}

int
registry_set_source_settings(struct registry *r, const struct id *source, const char *text, struct hf_error *err)
{
	HOLD(r);

	return registry_found(
	    sql_run(&r->sql, err, "UPDATE source SET settings = ? WHERE id = ?", "tt", text, source->text), "source",
	    source, err);
}
