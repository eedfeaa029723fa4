/* SPDX-License-Identifier: Apache-2.0 */
#include "server/registry_impl.h"

#include <errno.h>

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
