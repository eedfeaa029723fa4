/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/sql.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/common/digest.h"
#include "proto/common/file.h"
#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/plant.h"

static struct shared_histogram commit_times;

static int
status_of(int result)
{
	switch (result & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB: return -HF_ECORRUPT;
	case SQLITE_FULL: return -HF_EFULL;
	case SQLITE_CONSTRAINT: return -EEXIST;
	case SQLITE_BUSY:
	case SQLITE_LOCKED: return -EBUSY;
	case SQLITE_NOMEM: return -ENOMEM;
	case SQLITE_READONLY: return -EROFS;
	default: return -EIO;
	}
}

static int
last_errno(struct sql *s, int which)
{
	sqlite3_file *file = NULL;
	int code = 0;

	if (s->db != NULL && sqlite3_file_control(s->db, "main", which, &file) == SQLITE_OK && file != NULL &&
	    file->pMethods != NULL)
		(void)file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &code);
	return code;
}

/* What the system said last of the database's file, or of its log. */
static bool
system_said(struct sql *s, int code)
{
	return last_errno(s, SQLITE_FCNTL_FILE_POINTER) == code || last_errno(s, SQLITE_FCNTL_JOURNAL_POINTER) == code;
}

/* SQLite calls a file that the system cannot read (EIO) "malformed", in the same words as one whose bytes are wrong.
 * The one may be whole when the disk is; the other is replaced by its copy. And only ENOSPC of a write is "full" to it.
 */
static int
fail(struct sql *s, int result, struct hf_error *err)
{
	int status = status_of(result);

	if (status == -HF_ECORRUPT && system_said(s, EIO))
		return hf_error_set(err, -EIO, "%s: cannot be read", s->what);
	if (status == -EIO && (system_said(s, EDQUOT) || system_said(s, ENOSPC)))
		return hf_error_say(err, -HF_EFULL, "%s: there is no room for it", s->what);
	if (status == -HF_ECORRUPT)
		s->damaged = true;
	return hf_error_say(
	    err, status, "%s: %s", s->what, s->db != NULL ? sqlite3_errmsg(s->db) : sqlite3_errstr(result));
}

/* ---- statements ---- */

static int
prepare(struct sql *s, const char *text, sqlite3_stmt **ret_statement, struct hf_error *err)
{
	int result;

	for (size_t i = 0; i < s->kept_count; i++)
		if (s->kept[i].text == text) {
			*ret_statement = s->kept[i].statement;
			return 0;
		}
	assert(s->kept_count < SQL_STATEMENTS_MAX);
	result = sqlite3_prepare_v3(s->db, text, -1, SQLITE_PREPARE_PERSISTENT, ret_statement, NULL);
	if (result == SQLITE_ERROR) { /* our words are right: what they name was there */
		s->damaged = true;
		return hf_error_say(err, -HF_ECORRUPT, "%s: damaged: %s", s->what, sqlite3_errmsg(s->db));
	}
	if (result != SQLITE_OK)
		return fail(s, result, err);
	s->kept[s->kept_count].text = text;
	s->kept[s->kept_count++].statement = *ret_statement;
	return 0;
}

static int
bind_next(sqlite3_stmt *statement, int n, char letter, va_list *ap)
{
	const void *bytes;

	switch (letter) {
	case 'i': return sqlite3_bind_int64(statement, n, va_arg(*ap, int64_t));
	case 'u': return sqlite3_bind_int64(statement, n, (int64_t)va_arg(*ap, uint64_t));
	case 't': return sqlite3_bind_text(statement, n, va_arg(*ap, const char *), -1, SQLITE_STATIC);
	case 'b':
		bytes = va_arg(*ap, const void *);
		return sqlite3_bind_blob64(statement, n, bytes, va_arg(*ap, size_t), SQLITE_STATIC);
	}
	assert(!"a format has the letters i, u, t and b");
	return SQLITE_MISUSE;
}

static int
start(struct sql *s, sqlite3_stmt **ret_statement, struct hf_error *err, const char *text, const char *format,
    va_list *ap)
{
	int r = prepare(s, text, ret_statement, err);

	if (r < 0)
		return r;
	assert(sqlite3_bind_parameter_count(*ret_statement) == (int)strlen(format));
	for (int i = 0; format[i] != '\0'; i++) {
		int result = bind_next(*ret_statement, i + 1, format[i], ap);

		if (result != SQLITE_OK)
			return fail(s, result, err);
	}
	return 0;
}

int
sql_query(struct sql *s, sqlite3_stmt **ret_statement, struct hf_error *err, const char *text, const char *format, ...)
{
	va_list ap;
	int r;

	va_start(ap, format);
	r = start(s, ret_statement, err, text, format, &ap);
	va_end(ap);
	return r;
}

int
sql_next(struct sql *s, sqlite3_stmt *statement, struct hf_error *err)
{
	int result = sqlite3_step(statement), r;

	if (result == SQLITE_ROW)
		return 1;
	r = result == SQLITE_DONE ? 0 : fail(s, result, err);
	sql_done(statement);
	return r;
}

void
sql_done(sqlite3_stmt *statement)
{
	(void)sqlite3_reset(statement); /* repeats what sqlite3_step() said */
	(void)sqlite3_clear_bindings(statement);
}

static int
run_with(struct sql *s, struct hf_error *err, const char *text, const char *format, va_list *ap)
{
	sqlite3_stmt *statement;
	int r = start(s, &statement, err, text, format, ap);

	if (r < 0)
		return r;
	r = sql_next(s, statement, err);
	assert(r <= 0);
	return r < 0 ? r : sqlite3_changes(s->db);
}

/* As it is: no seal is renewed. */
static int
run(struct sql *s, struct hf_error *err, const char *text, const char *format, ...)
{
	va_list ap;
	int r;

	va_start(ap, format);
	r = run_with(s, err, text, format, &ap);
	va_end(ap);
	return r;
}

/* The blocks that the log has are written again from its beginning: on a full disk the next change finds its room in
 * them. Not within a transaction. */
static void
reuse_log(struct sql *s)
{
	(void)sqlite3_exec(s->db, "PRAGMA wal_checkpoint(RESTART)", NULL, NULL, NULL);
}

static void
note_commit(int64_t begun_ns)
{
	shared_histogram_add(&commit_times, clock_monotonic_ns() - begun_ns);
}

static int
commit(struct sql *s, struct hf_error *err)
{
	int64_t begun_ns = clock_monotonic_ns();
	int r = run(s, err, "COMMIT", "");

	if (r >= 0)
		note_commit(begun_ns);
	return r;
}

void
sql_get_commit_times(struct histogram *ret_times)
{
	shared_histogram_get(&commit_times, ret_times);
}

int
sql_run(struct sql *s, struct hf_error *err, const char *text, const char *format, ...)
{
	bool alone = s->sealed && sqlite3_get_autocommit(s->db);
	int r = alone ? sql_begin(s, err) : 0;
	int64_t begun_ns = clock_monotonic_ns();
	va_list ap;

	if (r < 0)
		return r;
	va_start(ap, format);
	r = run_with(s, err, text, format, &ap);
	va_end(ap);
	if (alone)
		return sql_end(s, r, err);
	if (r > 0 && sqlite3_get_autocommit(s->db))
		note_commit(begun_ns); /* a transaction of one statement, that changed something */
	if (r == -HF_EFULL && sqlite3_get_autocommit(s->db))
		reuse_log(s);
	return r;
}

/* ---- the seal ---- */

static uint64_t
digest_column(uint64_t digest, sqlite3_stmt *row, int column)
{
	int type = sqlite3_column_type(row, column);
	sqlite3_int64 number = sqlite3_column_int64(row, column);
	const void *bytes = type == SQLITE_INTEGER ? &number : sqlite3_column_blob(row, column);
	size_t len = type == SQLITE_INTEGER ? sizeof number : (size_t)sqlite3_column_bytes(row, column);

	digest = digest_chain(digest + (uint64_t)type, &len, sizeof len);
	return len > 0 ? digest_chain(digest, bytes, len) : digest;
}

static int
digest_table(struct sql *s, const char *name, uint64_t *digest, struct hf_error *err)
{
	char text[256];
	sqlite3_stmt *row;
	int result;

	snprintf(text, sizeof text, "SELECT * FROM \"%s\" ORDER BY rowid", name);
	result = sqlite3_prepare_v2(s->db, text, -1, &row, NULL);
	while (result == SQLITE_OK || result == SQLITE_ROW) {
		result = sqlite3_step(row);
		for (int i = 0; result == SQLITE_ROW && i < sqlite3_column_count(row); i++)
			*digest = digest_column(*digest, row, i);
	}
	sqlite3_finalize(row);
	return result == SQLITE_DONE ? 0 : fail(s, result, err);
}

static int
digest_tables(struct sql *s, uint64_t *ret_digest, struct hf_error *err)
{
	static const char text[] =
	    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name != 'seal' AND name NOT LIKE "
	    "'sqlite%' ORDER BY name";
	uint64_t digest = 0;
	sqlite3_stmt *q;
	int r = sql_query(s, &q, err, text, "");

	while (r >= 0 && (r = sql_next(s, q, err)) > 0) {
		r = digest_table(s, (const char *)sqlite3_column_text(q, 0), &digest, err);
		if (r < 0)
			sql_done(q);
	}
	*ret_digest = digest;
	return r;
}

/* Within the transaction that changed something. */
static int
put_seal(struct sql *s, struct hf_error *err)
{
	uint64_t digest;
	int r = s->sealed ? digest_tables(s, &digest, err) : 0;

	if (r < 0 || !s->sealed)
		return r;
	r = run(s, err, "INSERT OR REPLACE INTO seal (one, digest) VALUES (1, ?)", "u", digest);
	return r < 0 ? r : 0;
}

/* Versions before the first that was sealed have no such table. 1: there is one; 0; negative. */
static int
find_seal_table(struct sql *s, bool newest, struct hf_error *err)
{
	int result = sqlite3_table_column_metadata(s->db, NULL, "seal", NULL, NULL, NULL, NULL, NULL, NULL);

	if (result == SQLITE_OK)
		return 1;
	if (result != SQLITE_ERROR)
		return fail(s, result, err);
	return newest ? hf_error_say(err, -HF_ECORRUPT, "%s: damaged: its seal is gone", s->what) : 0;
}

/* 1: there is one. Who changes rows by hand deletes the seal: the next change of ours makes it anew. */
static int
get_seal(struct sql *s, uint64_t *ret_digest, struct hf_error *err)
{
	sqlite3_stmt *q;
	int r = sql_query(s, &q, err, "SELECT digest FROM seal", "");

	if (r == 0)
		r = sql_next(s, q, err);
	if (r <= 0)
		return r;
	*ret_digest = (uint64_t)sqlite3_column_int64(q, 0);
	sql_done(q);
	return 1;
}

static int
check_seal(struct sql *s, bool newest, struct hf_error *err)
{
	uint64_t digest, sealed;
	int r = s->sealed ? find_seal_table(s, newest, err) : 0;

	if (r > 0)
		r = get_seal(s, &sealed, err);
	if (r <= 0)
		return r;
	r = digest_tables(s, &digest, err);
	if (r == 0 && digest != sealed && !PLANTED(55))
		r = hf_error_say(err, -HF_ECORRUPT, "%s: damaged: its rows are not those that were written", s->what);
	return r;
}

int
sql_get_text(sqlite3_stmt *statement, int column, char *ret_text, size_t size)
{
	const unsigned char *text = sqlite3_column_text(statement, column);
	size_t len = (size_t)sqlite3_column_bytes(statement, column);

	if (text == NULL || len >= size)
		return -HF_ECORRUPT;
	memset(ret_text, 0, size);
	memcpy(ret_text, text, len);
	return 0;
}

int
sql_get_blob(sqlite3_stmt *statement, int column, void *ret_bytes, size_t len)
{
	const void *bytes = sqlite3_column_blob(statement, column);

	if (bytes == NULL || (size_t)sqlite3_column_bytes(statement, column) != len)
		return -HF_ECORRUPT;
	memcpy(ret_bytes, bytes, len);
	return 0;
}

int
sql_begin(struct sql *s, struct hf_error *err)
{
	int r = run(s, err, "BEGIN IMMEDIATE", "");

	return r < 0 ? r : 0;
}

int
sql_end(struct sql *s, int status, struct hf_error *err)
{
	int r = status < 0 ? 0 : put_seal(s, err);

	if (status >= 0 && r == 0)
		r = commit(s, err);
	if (status < 0 || r < 0)
		(void)run(s, NULL, "ROLLBACK", ""); /* SQLite may have done it by itself: then this fails */
	if (r == -HF_EFULL || status == -HF_EFULL)
		reuse_log(s);
	return r < 0 ? r : status;
}

/* ---- opening ---- */

/* Make the name durable before anything relies on it. */
static int
sync_dir_of(const char *path)
{
	char copy[PATH_MAX];

	snprintf(copy, sizeof copy, "%s", path);
	return file_sync_dir(dirname(copy));
}

/* SQLite would make the file readable for others. */
static int
create_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return errno == EEXIST ? 0 : -errno;
	close(fd);
	return sync_dir_of(path);
}

/* Pragmas cannot be bound, and are used once. */
static int
execute(struct sql *s, const char *text, struct hf_error *err)
{
	int result = sqlite3_exec(s->db, text, NULL, NULL, NULL);

	return result == SQLITE_OK ? 0 : fail(s, result, err);
}

/* The one number or word that text answers with, as text. */
static int
ask(struct sql *s, const char *text, char *ret_answer, size_t size, struct hf_error *err)
{
	sqlite3_stmt *statement;
	int result = sqlite3_prepare_v2(s->db, text, -1, &statement, NULL);

	if (result == SQLITE_OK)
		result = sqlite3_step(statement);
	if (result == SQLITE_ROW)
		snprintf(ret_answer, size, "%s", (const char *)sqlite3_column_text(statement, 0));
	sqlite3_finalize(statement);
	return result == SQLITE_ROW ? 0 : fail(s, result, err);
}

static int
ask_number(struct sql *s, const char *text, int *ret_number, struct hf_error *err)
{
	char answer[32];
	int r = ask(s, text, answer, sizeof answer, err);

	if (r == 0 && sscanf(answer, "%d", ret_number) != 1)
		r = hf_error_say(err, -HF_ECORRUPT, "%s: %s answers %s", s->what, text, answer);
	return r;
}

static int
newest_version(const struct sql_format *format)
{
	int n = 0;

	while (format->schemas[n] != NULL)
		n++;
	return n;
}

/* From this version to the newest, all of it or nothing. */
static int
bring_up(struct sql *s, const struct sql_format *format, int version, struct hf_error *err)
{
	int newest = newest_version(format), r;
	char marks[128];

	if (version == newest)
		return 0;
	r = execute(s, "BEGIN IMMEDIATE", err);
	if (r < 0)
		return r;
	for (int v = version; v < newest && r == 0; v++)
		r = execute(s, format->schemas[v], err);
	snprintf(marks, sizeof marks, "PRAGMA application_id = %d; PRAGMA user_version = %d", format->application_id,
	    newest);
	if (r == 0)
		r = execute(s, marks, err);
	return sql_end(s, r, err);
}

/* Before anything is written: is it ours? Version 0: it is empty. */
static int
check_format(struct sql *s, const struct sql_format *format, int *ret_version, struct hf_error *err)
{
	int id, version, tables;
	int r = ask_number(s, "PRAGMA application_id", &id, err);

	if (r == 0)
		r = ask_number(s, "PRAGMA user_version", &version, err);
	if (r == 0)
		r = ask_number(s, "SELECT count(*) FROM sqlite_schema", &tables, err);
	if (r < 0)
		return r;
	*ret_version = version;
	if (id == 0 && version == 0 && tables == 0)
		return 0;
	if (id != format->application_id || version < 1)
		return hf_error_say(err, -HF_EFORMAT, "%s: this database belongs to another program", s->what);
	if (version > newest_version(format))
		return hf_error_say(err, -HF_EFORMAT,
		    "%s: its format is version %d, this program knows %d; use the program that "
		    "wrote it, or a newer one",
		    s->what, version, newest_version(format));
	return 0;
}

/* A page that could not be read is no damage, but SQLite's check tells it in the same words. */
static int
damage_status(const char *answer)
{
	const char *code = strstr(answer, "error code=");
	int result;

	if (code == NULL || sscanf(code, "error code=%d", &result) != 1)
		return -HF_ECORRUPT;
	return status_of(result);
}

static int
check_content(struct sql *s, struct hf_error *err)
{
	char answer[256];
	/* The whole check compares indexes with their tables, and the seal is of tables alone. */
	const char *check = s->sealed ? "PRAGMA integrity_check(1)" : "PRAGMA quick_check(1)";
	int r = ask(s, check, answer, sizeof answer, err);

	if (r < 0 || strcmp(answer, "ok") == 0)
		return r;
	r = damage_status(answer);
	return hf_error_say(err, r, "%s: %s: %s", s->what, r == -HF_ECORRUPT ? "damaged" : "cannot be checked", answer);
}

static int
enter_wal(struct sql *s, struct hf_error *err)
{
	char mode[16];
	int version, r = ask(s, "PRAGMA journal_mode = WAL", mode, sizeof mode, err);

	if (r == 0 && strcmp(mode, "wal") != 0)
		r = hf_error_say(err, -EIO, "%s: the file system cannot hold a write-ahead log", s->what);
	if (r == 0)
		r = execute(s, PLANTED(33) ? "PRAGMA synchronous = NORMAL" : "PRAGMA synchronous = FULL", err);
	/* SQLite ends the transaction of the change of mode with the next statement that reads. */
	return r == 0 ? ask_number(s, "PRAGMA user_version", &version, err) : r;
}

/* A process that was killed may have left a commit in the log that was never synced: we see it, and a power cut could
 * still take it back. It is written out and synced before anything relies on it. Without room for that the log stays as
 * it is, but it is synced first. */
static int
settle_log(struct sql *s, struct hf_error *err)
{
	int r = execute(s, "PRAGMA wal_checkpoint(TRUNCATE)", err);

	return r == -HF_EFULL ? 0 : r;
}

static int
prepare_database(struct sql *s, bool create, const struct sql_format *format, struct hf_error *err)
{
	/* KiB. What was read and checked is not read again: a bit that flips on the disk later must not get under a new
	 * seal. */
	static const char keep_all[] = "PRAGMA cache_size = -65536";
	int version = 0, r;

	(void)sqlite3_extended_result_codes(s->db, 1); /* fails on a NULL handle only */
	(void)sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	r = execute(s,
	    "PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check "
	    "= ON; PRAGMA mmap_size = 0",
	    err);
	if (r == 0 && s->sealed)
		r = execute(s, keep_all, err);
	if (r == 0)
		r = check_format(s, format, &version, err);
	if (r == 0 && version == 0 && !create)
		r = hf_error_say(err, -HF_ECORRUPT, "%s: it is empty", s->what);
	if (r == 0)
		r = check_content(s, err);
	if (r == 0)
		r = check_seal(s, version == newest_version(format), err);
	if (r == 0)
		r = enter_wal(s, err);
	if (r == 0 && version > 0)
		r = settle_log(s, err);
	return r == 0 ? bring_up(s, format, version, err) : r;
}

int
sql_init(struct sql *s, const char *path, const char *vfs, bool create, const struct sql_format *format,
    struct hf_error *err)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
	int r = create && vfs == NULL ? create_file(path) : 0, result;

	memset(s, 0, sizeof *s);
	s->what = format->what;
	s->vfs = vfs;
	s->sealed = format->sealed;
	if (r < 0)
		return hf_error_set(err, r, "%s", path);
	result = sqlite3_open_v2(path, &s->db, flags, vfs);
	r = result != SQLITE_OK ? fail(s, result, err) : prepare_database(s, create, format, err);
	if (r == -EBUSY)
		return hf_error_say(err, r, "%s is open in another process", path);
	if (r < 0)
		(void)hf_error_prefix(err, "%s", path); /* which has nothing to say without err */
	return r;
}

void
sql_fini(struct sql *s)
{
	for (size_t i = 0; i < s->kept_count; i++)
		sqlite3_finalize(s->kept[i].statement);
	s->kept_count = 0;
	(void)sqlite3_close(s->db); /* every statement is finalized; NULL is allowed */
	s->db = NULL;
}

int
sql_export(struct sql *s, const char *path, struct hf_error *err)
{
	int r = s->vfs == NULL ? create_file(path) : 0;
	char *text;

	if (r < 0)
		return hf_error_set(err, r, "%s", path);
	text = sqlite3_mprintf("VACUUM INTO %Q", path);
	if (text == NULL)
		return hf_error_set(err, -ENOMEM, "%s", path);
	r = execute(s, text, err);
	sqlite3_free(text);
	return r;
}
