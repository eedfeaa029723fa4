/* SPDX-License-Identifier: Apache-2.0 */
/* db_copy.h: a SQLite database's copy beside it, and the way back to it when the database is damaged or gone. The files
 * alone: what is in them is sql.h's.
 *
 *	NAME                the database, with NAME-wal
 *	NAME.bak            its copy, whole, as it was at one moment
 *	NAME.bak.tmp        a copy that is being written
 *	NAME.new            what will take the database's place
 *	NAME.damaged-TIME   what could not be opened; kept, nothing here deletes it
 *
 * Every step may be cut off and done again: docs/crash.md. All calls block. 0 or -errno unless said otherwise. */
#ifndef HF_STORAGE_DB_COPY_H
#define HF_STORAGE_DB_COPY_H

#include "storage/disk.h"

enum { DB_PATH_BYTES = 512 };

/* False only if there is surely nothing of this name. */
bool db_is_there(struct disk *d, const char *path);

/* A new copy: begin clears the way for NAME.bak.tmp and tells its path; the caller fills it (sql_export()); end syncs
 * it and puts it in the place of the one before. */
int db_copy_begin(struct disk *d, const char *path, char ret_tmp[DB_PATH_BYTES]);
int db_copy_end(struct disk *d, const char *path);

/* The way back. First clears the way for NAME.new and tells its path; with a copy it is that copy's bytes, synced, else
 * -ENOENT: the caller makes the database anew there. */
int db_copy_restore(struct disk *d, const char *path, char ret_new[DB_PATH_BYTES]);

/* NAME.new, closed and whole, takes the database's place; what is there goes aside. now_ns (since 1970) becomes part of
 * its name; ret_aside: that name without the folder, "" if there was nothing. */
int db_copy_install(struct disk *d, const char *path, int64_t now_ns, char ret_aside[DB_PATH_BYTES]);

/* The copy is damaged too: it goes aside. */
int db_copy_set_aside(struct disk *d, const char *path, int64_t now_ns);

#endif
