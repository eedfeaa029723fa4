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

#include "proto/common/status.h"

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
fail(struct sql *s, int result, struct hf_error *err)
{
	return hf_error_say(
	    err, status_of(result), "%s: %s", s->what, s->db != NULL ? sqlite3_errmsg(s->db) : sqlite3_errstr(result));
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

int
sql_run(struct sql *s, struct hf_error *err, const char *text, const char *format, ...)
{
	sqlite3_stmt *statement;
	va_list ap;
	int r;

	va_start(ap, format);
	r = start(s, &statement, err, text, format, &ap);
	va_end(ap);
	if (r < 0)
		return r;
	r = sql_next(s, statement, err);
	assert(r <= 0);
	return r < 0 ? r : sqlite3_changes(s->db);
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
	int r = sql_run(s, err, "BEGIN IMMEDIATE", "");

	return r < 0 ? r : 0;
}

int
sql_end(struct sql *s, int status, struct hf_error *err)
{
	int r = status < 0 ? 0 : sql_run(s, err, "COMMIT", "");

	if (status < 0 || r < 0)
		(void)sql_run(s, NULL, "ROLLBACK", ""); /* SQLite may have done it by itself: then this fails */
	return r < 0 ? r : status;
}

/* ---- opening ---- */

/* Make the name durable before anything relies on it. */
static int
sync_dir_of(const char *path)
{
	char copy[PATH_MAX];
	int fd, r;

	snprintf(copy, sizeof copy, "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return r;
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
create_schema(struct sql *s, const struct sql_format *format, struct hf_error *err)
{
	char marks[128];
	int r = execute(s, "BEGIN IMMEDIATE", err);

	if (r < 0)
		return r;
	snprintf(marks, sizeof marks, "PRAGMA application_id = %d; PRAGMA user_version = %d", format->application_id,
	    format->version);
	r = execute(s, format->schema, err);
	if (r == 0)
		r = execute(s, marks, err);
	return sql_end(s, r, err);
}

/* Before anything is written: is it ours? */
static int
check_format(struct sql *s, const struct sql_format *format, bool *ret_empty, struct hf_error *err)
{
	int id, version, tables;
	int r = ask_number(s, "PRAGMA application_id", &id, err);

	if (r == 0)
		r = ask_number(s, "PRAGMA user_version", &version, err);
	if (r == 0)
		r = ask_number(s, "SELECT count(*) FROM sqlite_schema", &tables, err);
	if (r < 0)
		return r;
	*ret_empty = id == 0 && version == 0 && tables == 0;
	if (*ret_empty)
		return 0;
	if (id != format->application_id)
		return hf_error_say(err, -HF_EFORMAT, "%s: this database belongs to another program", s->what);
	if (version != format->version)
		return hf_error_say(err, -HF_EFORMAT,
		    "%s: its format is version %d, this program knows %d; use the program that "
		    "wrote it, or a newer one",
		    s->what, version, format->version);
	return 0;
}

static int
check_content(struct sql *s, struct hf_error *err)
{
	char answer[256];
	int r = ask(s, "PRAGMA quick_check(1)", answer, sizeof answer, err);

	if (r == 0 && strcmp(answer, "ok") != 0)
		r = hf_error_say(err, -HF_ECORRUPT, "%s: damaged: %s", s->what, answer);
	return r;
}

static int
enter_wal(struct sql *s, struct hf_error *err)
{
	char mode[16];
	int r = ask(s, "PRAGMA journal_mode = WAL", mode, sizeof mode, err);

	if (r == 0 && strcmp(mode, "wal") != 0)
		r = hf_error_say(err, -EIO, "%s: the file system cannot hold a write-ahead log", s->what);
	return r == 0 ? execute(s, "PRAGMA synchronous = FULL", err) : r;
}

static int
prepare_database(struct sql *s, const struct sql_format *format, struct hf_error *err)
{
	bool empty = false;
	int r;

	(void)sqlite3_extended_result_codes(s->db, 1); /* fails on a NULL handle only */
	(void)sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	r = execute(s,
	    "PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check "
	    "= ON; PRAGMA mmap_size = 0",
	    err);
	if (r == 0)
		r = check_format(s, format, &empty, err);
	if (r == 0)
		r = check_content(s, err);
	if (r == 0)
		r = enter_wal(s, err);
	if (r == 0 && empty)
		r = create_schema(s, format, err);
	return r;
}

int
sql_init(struct sql *s, const char *path, const char *vfs, bool create, const struct sql_format *format,
    struct hf_error *err)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
	int r = create && vfs == NULL ? create_file(path) : 0, result;

	memset(s, 0, sizeof *s);
	s->what = format->what;
	if (r < 0)
		return hf_error_set(err, r, "%s", path);
	result = sqlite3_open_v2(path, &s->db, flags, vfs);
	r = result != SQLITE_OK ? fail(s, result, err) : prepare_database(s, format, err);
	if (r == -EBUSY)
		return hf_error_say(err, r, "%s is open in another process", path);
	return r < 0 ? hf_error_prefix(err, "%s", path) : 0;
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
