/* SPDX-License-Identifier: Apache-2.0 */
/* registry_impl.h: what the registry_*.c files share. Each has the rows of one noun:
 *
 *	registry.c           the database itself: how it is made, opened, copied and replaced
 *	registry_source.c    sources
 *	registry_enroll.c    tokens, certificates, and how the one becomes the other
 *	registry_log.c       events and audit
 *	registry_settings.c  settings: the server's, the template's, a source's
 *
 * A struct sql is that of a registry which the caller holds. */
#ifndef HF_SERVER_REGISTRY_IMPL_H
#define HF_SERVER_REGISTRY_IMPL_H

#include <pthread.h>

#include "server/registry.h"
#include "storage/sql.h"

struct registry {
	pthread_mutex_t mutex;
	struct sql sql;
	uint64_t changes, copied_changes; /* of rows that the copy must not lack; copied: that it has */
};

struct registry *registry_lock(struct registry *r);
void registry_unlock(struct registry **r);

/* Holds the mutex until the end of the block. */
#define HOLD(r) struct registry *held __attribute__((cleanup(registry_unlock), unused)) = registry_lock(r)

/* ---- rows ---- */

/* Every row of a query begun, in order. Gives *ret_items, a pointer to items of item_bytes (NULL if there are none);
 * read() fills one item, which is all zero, from the row at hand. */
int registry_collect(struct sql *s, sqlite3_stmt *statement, size_t item_bytes,
    int (*read)(sqlite3_stmt *row, void *ret_item), void *ret_items, size_t *ret_count, struct hf_error *err);
/* The only row of a query begun. -ENOENT (err untouched) if there is none. */
int registry_read_row(
    struct sql *s, sqlite3_stmt *statement, int (*read)(sqlite3_stmt *, void *), void *ret_item, struct hf_error *err);
int registry_read_id(sqlite3_stmt *row, int column, struct id *ret_id);

/* For a change of one row by its id: 0 rows are -ENOENT. */
int registry_found(int changed, const char *noun, const struct id *id, struct hf_error *err);

/* ---- registry_source.c ---- */

/* -ENOENT; lasting: -EBUSY, it is being deleted. */
int registry_find_source(struct sql *s, const struct id *id, struct registry_source *ret_source, struct hf_error *err);
int registry_find_lasting(struct sql *s, const struct id *id, struct registry_source *ret_source, struct hf_error *err);
int registry_store_hints(struct sql *s, const struct id *id, const struct message_hints *h, struct hf_error *err);

#endif
