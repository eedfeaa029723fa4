/* SPDX-License-Identifier: Apache-2.0 */
/* sql.h: a SQLite database of ours, reached through one connection and statements kept prepared.
 * Every call blocks; the caller sees to it that one thread is in here at a time.
 *
 * SQLite's conditions come out as -HF_ECORRUPT, -HF_EFULL, -EEXIST (a constraint), -EBUSY, -ENOMEM
 * or -EIO, with its words in err. After -HF_EFULL the blocks of the log are free to be written again: the same change
 * may find its room in them the next time.
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
#include "proto/common/histogram.h"

enum { SQL_STATEMENTS_MAX = 64 }; /* different texts in the program */

struct sql {
	sqlite3 *db;
	const char *what;     /* "registry", for messages */
	const char *vfs;      /* NULL: SQLite's own */
	bool sealed;          /* see struct sql_format */
	_Atomic bool damaged; /* SQLite has said so: what it is kept from is to be opened anew */
	struct {
		const char *text;
		sqlite3_stmt *statement;
	} kept[SQL_STATEMENTS_MAX];
	size_t kept_count;
};

/* What makes a database ours, and how one of an earlier version becomes one of today's: schemas[n] makes version n + 1
 * of version n, and version 0 is an empty file. So a new database and a converted one have come the same way. */
struct sql_format {
	const char *what;
	int application_id;
	const char *const *schemas; /* ends with NULL: as many as there are versions */
	/* The table `seal` (one, digest) holds a digest of all rows of all others, renewed in every transaction and
	 * compared when the database is opened: SQLite's own checks do not see a bit that was flipped in a value. Every
	 * change reads the whole database: for small ones. */
	bool sealed;
};

/* Open the file, or with create make it (0600) and sync its directory (with a VFS of tests, vfs not NULL, that is the
 * caller's to do): WAL, synchronous=FULL, locked against every other process. One of an earlier version is converted,
 * in one transaction. -HF_EFORMAT: newer, or not ours; -EBUSY: open elsewhere. After a failure sql_fini() is still due.
 */
int sql_init(struct sql *s, const char *path, const char *vfs, bool create, const struct sql_format *format,
    struct hf_error *err);
void sql_fini(struct sql *s);

/* All that is committed, into a new database at path (0600; an empty file may be there): one file, without a log. Not
 * synced: that is the caller's to do. */
int sql_export(struct sql *s, const char *path, struct hf_error *err);

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

/* How long each commit took, of all databases of this process. Any thread; never blocks. */
void sql_get_commit_times(struct histogram *ret_times);

#endif
