/* SPDX-License-Identifier: Apache-2.0 */
/* sql.h: a SQLite database of ours, reached through one connection and statements kept prepared.
 * Every call blocks; the caller sees to it that one thread is in here at a time.
 *
 * SQLite's conditions come out as -HF_ECORRUPT, -HF_EFULL, -EEXIST (a constraint), -EBUSY, -ENOMEM
 * or -EIO, with its words in err.
 *
 * A format names the parameters that follow it, a letter each: i int64_t, u uint64_t, t const char
 * * (NULL is NULL), b const void * and size_t. Borrows them until the call, or with sql_query() the
 * statement, ends. */
#ifndef HF_STORAGE_SQL_H
#define HF_STORAGE_SQL_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/common/error.h"

enum { SQL_STATEMENTS_MAX = 64 }; /* different texts in the program */

struct sql {
	sqlite3 *db;
	const char *what; /* "registry", for messages */
	struct {
		const char *text;
		sqlite3_stmt *statement;
	} kept[SQL_STATEMENTS_MAX];
	size_t kept_count;
};

/* What makes a database ours. */
struct sql_format {
	const char *what;
	int application_id;
	int version;        /* of the schema */
	const char *schema; /* statements that make an empty database */
};

/* Open the file, or with create make it (0600) and sync its directory (with a VFS of tests, vfs not NULL, that is the
 * caller's to do): WAL, synchronous=FULL, locked against every other process. -HF_EFORMAT: newer, or not ours; -EBUSY:
 * open elsewhere. After a failure sql_fini() is still due. */
int sql_init(struct sql *s, const char *path, const char *vfs, bool create, const struct sql_format *format,
    struct hf_error *err);
void sql_fini(struct sql *s);

/* Run one statement that gives no rows. text must be a literal: it is the key of the prepared
 * statement. Returns the rows changed, or negative. */
int sql_run(struct sql *s, struct hf_error *err, const char *text, const char *format, ...);

/* Begin a query; then sql_next() until it is not 1, or sql_done() to end before. */
int sql_query(
    struct sql *s, sqlite3_stmt **ret_statement, struct hf_error *err, const char *text, const char *format, ...);

/* 1: there is a row; 0: no more; or negative. Other than 1 ends the query. */
int sql_next(struct sql *s, sqlite3_stmt *statement, struct hf_error *err);
void sql_done(sqlite3_stmt *statement);

/* Columns of the row at hand. Text that does not fit, and a blob of another length, are
 * -HF_ECORRUPT: we never wrote such. */
int sql_get_text(sqlite3_stmt *statement, int column, char *ret_text, size_t size);
int sql_get_blob(sqlite3_stmt *statement, int column, void *ret_bytes, size_t len);

/* A transaction over several statements: what follows sql_begin() is made durable by sql_end() if
 * status is not negative, else undone. sql_end() returns status, or why it could not be made
 * durable; then it is undone too. */
int sql_begin(struct sql *s, struct hf_error *err);
int sql_end(struct sql *s, int status, struct hf_error *err);

#endif
