/* SPDX-License-Identifier: Apache-2.0 */
/* A call takes the mutex for as long as it lasts, enrolment's sign() included: there is one
 * connection, and a transaction must be one caller's. The mutex checks for errors, so that a sign()
 * which calls the registry stops there instead of hanging for ever. */
#include "server/registry_impl.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/db_copy.h"
#include "storage/sql.h"

enum { APPLICATION_ID = 0x48467267 }; /* "HFrg" */

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

struct registry *
registry_lock(struct registry *r)
{
	int result = pthread_mutex_lock(&r->mutex);

	assert(result == 0); /* EDEADLK: a sign() called us */
	return r;
}

void
registry_unlock(struct registry **r)
{
	pthread_mutex_unlock(&(*r)->mutex);
}

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

/* ---- rows ---- */

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

int
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

int
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

int
registry_read_id(sqlite3_stmt *row, int column, struct id *ret_id)
{
	return sql_get_text(row, column, ret_id->text, sizeof ret_id->text);
}

int
registry_found(int changed, const char *noun, const struct id *id, struct hf_error *err)
{
	if (changed == 0)
		return hf_error_say(err, -ENOENT, "no %s %s", noun, id->text);
	return changed < 0 ? changed : 0;
}
