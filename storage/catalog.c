/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/catalog.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/db_copy.h"
#include "storage/plant.h"
#include "storage/segment.h"
#include "storage/sql.h"

enum { APPLICATION_ID = 0x48464341 /* "HFCA" */ };

struct catalog {
	pthread_mutex_t mutex;
	struct sql sql;
	_Atomic uint64_t commits;
};

/* See struct sql_format for how a version follows another. One that was released never changes; version 2 is not
 * released yet: what is new until then is added at its end, and to docs/format.md. */
static const char *const schemas[] = {
    /* version 1 */
    "CREATE TABLE source (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, digest_seed INTEGER NOT NULL,"
    " base_lsn INTEGER NOT NULL, fold_lsn INTEGER NOT NULL, created_ns INTEGER NOT NULL, window_ns INTEGER NOT "
    "NULL) STRICT;"
    "CREATE TABLE rule (position INTEGER PRIMARY KEY, rule_id INTEGER NOT NULL, unit TEXT NOT NULL, interval "
    "INTEGER NOT NULL,"
    " retention INTEGER NOT NULL, enabled INTEGER NOT NULL) STRICT;"
    "CREATE TABLE volume (volume INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, size_bytes INTEGER NOT NULL, "
    "boot_disk INTEGER NOT NULL,"
    " retired INTEGER NOT NULL, identity TEXT NOT NULL, name TEXT NOT NULL, device_name TEXT NOT NULL) STRICT;"
    "CREATE TABLE pit (id TEXT PRIMARY KEY, lsn INTEGER NOT NULL, time_ns INTEGER NOT NULL, planned_ns INTEGER NOT "
    "NULL,"
    " rules INTEGER NOT NULL, held INTEGER NOT NULL, by_hand INTEGER NOT NULL, verified INTEGER NOT NULL, name "
    "TEXT NOT NULL,"
    " unchanged_until_ns INTEGER NOT NULL, checkpoint BLOB NOT NULL) STRICT;"
    "CREATE INDEX pit_by_lsn ON pit (lsn);",
    /* version 2. A point of version 1 is taken to have run all the time, and to have been read back when it was taken.
     */
    "ALTER TABLE source ADD COLUMN frozen_ns INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE source ADD COLUMN min_retention_ns INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE source ADD COLUMN quota_bytes INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE source ADD COLUMN when_full INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE pit RENAME COLUMN verified TO verified_ns;"
    "ALTER TABLE pit ADD COLUMN running_ns INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE pit ADD COLUMN guarded_ns INTEGER NOT NULL DEFAULT 0;"
    "UPDATE pit SET running_ns = time_ns, verified_ns = CASE verified_ns WHEN 0 THEN 0 ELSE time_ns END;"
    "ALTER TABLE volume ADD COLUMN equal_ns INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE volume ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE scrub (one INTEGER PRIMARY KEY CHECK (one = 1), begun_ns INTEGER NOT NULL, lsn INTEGER NOT NULL,"
    " volume INTEGER NOT NULL, position INTEGER NOT NULL, bytes INTEGER NOT NULL, by_hand INTEGER NOT NULL, done_ns "
    "INTEGER NOT NULL) STRICT;"
    "INSERT INTO scrub (one, begun_ns, lsn, volume, position, bytes, by_hand, done_ns) VALUES (1, 0, 0, 0, 0, 0, 0, 0);"
    "CREATE TABLE suspect (volume INTEGER NOT NULL, run INTEGER NOT NULL, block INTEGER NOT NULL,"
    " PRIMARY KEY (volume, run, block)) STRICT;"
    "CREATE TABLE seal (one INTEGER PRIMARY KEY CHECK (one = 1), digest INTEGER NOT NULL) STRICT;",
    NULL,
};

static const struct sql_format format = {
    .what = "catalog",
    .application_id = APPLICATION_ID,
    .schemas = schemas,
    .sealed = true,
};

static struct catalog *
lock(struct catalog *c)
{
	pthread_mutex_lock(&c->mutex);
	return c;
}

static void
unlock(struct catalog **c)
{
	pthread_mutex_unlock(&(*c)->mutex);
}

/* Holds the mutex until the end of the block. */
#define HOLD(c) struct catalog *held __attribute__((cleanup(unlock), unused)) = lock(c)

/* ---- policy ---- */

static int
put_policy(struct catalog *c, const struct policy *p, struct hf_error *err)
{
	int r = sql_run(&c->sql, err, "DELETE FROM rule", "");

	for (size_t i = 0; i < p->rule_count && r >= 0; i++)
		r = sql_run(&c->sql, err,
		    "INSERT INTO rule (position, rule_id, unit, interval, retention, enabled) VALUES (?, ?, ?, ?, ?, "
		    "?)",
		    "uutuuu", (uint64_t)i, (uint64_t)p->rules[i].rule_id, p->rules[i].unit,
		    (uint64_t)p->rules[i].interval, (uint64_t)p->rules[i].retention, (uint64_t)p->rules[i].enabled);
	if (r >= 0)
		r = sql_run(&c->sql, err, "UPDATE source SET window_ns = ?, min_retention_ns = ?", "ii",
		    p->journal_window_ns, p->min_retention_ns);
	return r < 0 ? r : 0;
}

int
catalog_change_policy(
    struct catalog *c, const struct policy *policy, const struct pit *pits, size_t count, struct hf_error *err)
{
	HOLD(c);
	int r = sql_begin(&c->sql, err);

	if (r < 0)
		return r;
	r = put_policy(c, policy, err);
	for (size_t i = 0; i < count && r >= 0; i++)
		r = sql_run(&c->sql, err, "UPDATE pit SET rules = ?, guarded_ns = ? WHERE id = ?", "uit",
		    (uint64_t)pits[i].rules, pits[i].guarded_ns, pits[i].id.text);
	return sql_end(&c->sql, r < 0 ? r : 0, err);
}

int
catalog_set_policy(struct catalog *c, const struct policy *policy, struct hf_error *err)
{
	return catalog_change_policy(c, policy, NULL, 0, err);
}

static int
read_rules(struct catalog *c, struct policy *p, struct hf_error *err)
{
	sqlite3_stmt *q;
	int r = sql_query(
	    &c->sql, &q, err, "SELECT rule_id, unit, interval, retention, enabled FROM rule ORDER BY position", "");

	while (r >= 0 && (r = sql_next(&c->sql, q, err)) > 0) {
		struct pit_rule *rule = &p->rules[p->rule_count];

		if (p->rule_count == PIT_RULES_MAX || sql_get_text(q, 1, rule->unit, sizeof rule->unit) < 0) {
			sql_done(q);
			return hf_error_say(err, -HF_ECORRUPT, "catalog: a rule of the policy makes no sense");
		}
		rule->rule_id = (uint32_t)sqlite3_column_int64(q, 0);
		rule->interval = (uint32_t)sqlite3_column_int64(q, 2);
		rule->retention = (uint32_t)sqlite3_column_int64(q, 3);
		rule->enabled = sqlite3_column_int64(q, 4) != 0;
		p->rule_count++;
	}
	return r;
}

int
catalog_get_policy(struct catalog *c, struct policy *ret_policy, struct hf_error *err)
{
	HOLD(c);
	struct policy p = {0};
	sqlite3_stmt *q;
	int r = read_rules(c, &p, err);

	if (r == 0)
		r = sql_query(&c->sql, &q, err, "SELECT window_ns, min_retention_ns FROM source", "");
	if (r == 0)
		r = sql_next(&c->sql, q, err);
	if (r <= 0)
		return r < 0 ? r : hf_error_say(err, -HF_ECORRUPT, "catalog: it names no source");
	p.journal_window_ns = sqlite3_column_int64(q, 0);
	p.min_retention_ns = sqlite3_column_int64(q, 1);
	sql_done(q);
	*ret_policy = p;
	return 0;
}

/* ---- source ---- */

static int
create_source(struct catalog *c, const struct catalog_source *s, struct hf_error *err)
{
	struct policy p;
	int r = sql_begin(&c->sql, err);

	if (r < 0)
		return r;
	policy_default(&p);
	r = sql_run(&c->sql, err,
	    "INSERT INTO source (one, id, digest_seed, base_lsn, fold_lsn, created_ns, window_ns) VALUES (1, ?, ?, ?, "
	    "?, ?, 0)",
	    "tuuui", s->source.text, s->digest_seed, s->base_lsn, s->fold_lsn, s->created_ns);
	if (r >= 0)
		r = put_policy(c, &p, err);
	return sql_end(&c->sql, r < 0 ? r : 0, err);
}

int
catalog_get_source(struct catalog *c, struct catalog_source *ret_source, struct hf_error *err)
{
	HOLD(c);
	struct catalog_source s = {0};
	char text[ID_BYTES];
	sqlite3_stmt *q;
	int r = sql_query(&c->sql, &q, err,
	    "SELECT id, digest_seed, base_lsn, fold_lsn, created_ns, frozen_ns, quota_bytes, when_full FROM source",
	    "");

	if (r == 0)
		r = sql_next(&c->sql, q, err);
	if (r <= 0)
		return r < 0 ? r : hf_error_say(err, -HF_ECORRUPT, "catalog: it names no source");
	r = sql_get_text(q, 0, text, sizeof text);
	s.digest_seed = (uint64_t)sqlite3_column_int64(q, 1);
	s.base_lsn = (uint64_t)sqlite3_column_int64(q, 2);
	s.fold_lsn = (uint64_t)sqlite3_column_int64(q, 3);
	s.created_ns = sqlite3_column_int64(q, 4);
	s.frozen_ns = sqlite3_column_int64(q, 5);
	s.quota_bytes = (uint64_t)sqlite3_column_int64(q, 6);
	s.when_full = (enum when_full)sqlite3_column_int64(q, 7);
	sql_done(q);
	if (r < 0 || !id_parse("s", text, &s.source))
		return hf_error_say(err, -HF_ECORRUPT, "catalog: the source's id makes no sense");
	*ret_source = s;
	return 0;
}

int
catalog_settle(struct catalog *c, struct hf_error *err)
{
	HOLD(c);
	int r = sql_run(&c->sql, err, "UPDATE source SET frozen_ns = frozen_ns", "");

	return r < 0 ? r : 0;
}

int
catalog_set_frozen(struct catalog *c, int64_t frozen_ns, struct hf_error *err)
{
	HOLD(c);
	int r = sql_run(&c->sql, err, "UPDATE source SET frozen_ns = ?", "i", frozen_ns);

	return r < 0 ? r : 0;
}

int
catalog_set_space(struct catalog *c, uint64_t quota_bytes, enum when_full when_full, struct hf_error *err)
{
	HOLD(c);
	int r = sql_run(
	    &c->sql, err, "UPDATE source SET quota_bytes = ?, when_full = ?", "uu", quota_bytes, (uint64_t)when_full);

	return r < 0 ? r : 0;
}

int
catalog_set_base(struct catalog *c, uint64_t base_lsn, struct hf_error *err)
{
	HOLD(c);
	int r = sql_run(
	    &c->sql, err, "UPDATE source SET base_lsn = ?1 WHERE base_lsn <= ?1 AND fold_lsn >= ?1", "u", base_lsn);

	if (r == 0)
		return hf_error_say(err, -EINVAL,
		    "catalog: the base cannot move to LSN %llu: it is beyond it already, or no fold to there has begun",
		    (unsigned long long)base_lsn);
	return r < 0 ? r : 0;
}

static int
check_none_held(struct catalog *c, uint64_t lsn, struct hf_error *err)
{
	sqlite3_stmt *q;
	int r = sql_query(&c->sql, &q, err, "SELECT 1 FROM pit WHERE lsn < ? AND held LIMIT 1", "u", lsn);

	if (r == 0)
		r = sql_next(&c->sql, q, err);
	if (r <= 0)
		return r;
	sql_done(q);
	return hf_error_say(
	    err, -EBUSY, "catalog: a point in time that is held lies before LSN %llu", (unsigned long long)lsn);
}

int
catalog_set_fold(struct catalog *c, uint64_t fold_lsn, struct hf_error *err)
{
	HOLD(c);
	int r = sql_begin(&c->sql, err);

	if (r < 0)
		return r;
	r = PLANTED(54) ? 0 : check_none_held(c, fold_lsn, err);
	if (r == 0)
		r = sql_run(&c->sql, err, "UPDATE source SET fold_lsn = max(fold_lsn, ?)", "u", fold_lsn);
	if (r >= 0)
		r = sql_run(&c->sql, err, "DELETE FROM pit WHERE lsn < ?", "u", fold_lsn);
	return sql_end(&c->sql, r < 0 ? r : 0, err);
}

/* ---- life ---- */

static int
on_commit(void *arg)
{
	struct catalog *c = arg;

	atomic_fetch_add(&c->commits, 1);
	return 0; /* go on with it */
}

int
catalog_open(const char *path, const char *vfs, bool create, const struct catalog_source *source,
    struct catalog **ret_catalog, struct hf_error *err)
{
	struct catalog *c = calloc(1, sizeof *c);
	int r;

	if (c == NULL)
		return hf_error_set(err, -ENOMEM, "%s", path);
	pthread_mutex_init(&c->mutex, NULL);
	r = sql_init(&c->sql, path, vfs, create, &format, err);
	if (r == 0 && create)
		r = create_source(c, source, err);
	if (r < 0) {
		catalog_close(c);
		return r;
	}
	(void)sqlite3_commit_hook(c->sql.db, on_commit, c);
	*ret_catalog = c;
	return 0;
}

void
catalog_close(struct catalog *c)
{
	if (c == NULL)
		return;
	sql_fini(&c->sql);
	pthread_mutex_destroy(&c->mutex);
	free(c);
}

bool
catalog_is_damaged(const struct catalog *c)
{
	return c->sql.damaged;
}

uint64_t
catalog_commits(const struct catalog *c)
{
	return atomic_load(&c->commits);
}

static int
export_to(struct catalog *c, const char *path, struct hf_error *err)
{
	HOLD(c);

	return sql_export(&c->sql, path, err);
}

int
catalog_write_copy(struct catalog *c, struct disk *d, struct hf_error *err)
{
	const char *path = sqlite3_db_filename(c->sql.db, "main");
	char tmp[DB_PATH_BYTES];
	int r = db_copy_begin(d, path, tmp);

	if (r < 0)
		return hf_error_set(err, r, "%s", tmp);
	r = export_to(c, tmp, err);
	if (r < 0)
		return r;
	r = db_copy_end(d, path);
	return r < 0 ? hf_error_set(err, r, "the copy of %s", path) : 0;
}

/* ---- scrub ---- */

int
catalog_get_scrub(struct catalog *c, struct catalog_scrub *ret_scrub, struct hf_error *err)
{
	HOLD(c);
	sqlite3_stmt *q;
	int r = sql_query(
	    &c->sql, &q, err, "SELECT begun_ns, lsn, volume, position, bytes, by_hand, done_ns FROM scrub", "");

	if (r == 0)
		r = sql_next(&c->sql, q, err);
	if (r <= 0)
		return r < 0 ? r : hf_error_say(err, -HF_ECORRUPT, "catalog: it says nothing of scrubs");
	*ret_scrub = (struct catalog_scrub){
	    .begun_ns = sqlite3_column_int64(q, 0),
	    .lsn = (uint64_t)sqlite3_column_int64(q, 1),
	    .volume = (uint32_t)sqlite3_column_int64(q, 2),
	    .position = (uint64_t)sqlite3_column_int64(q, 3),
	    .bytes = (uint64_t)sqlite3_column_int64(q, 4),
	    .by_hand = sqlite3_column_int64(q, 5) != 0,
	    .done_ns = sqlite3_column_int64(q, 6),
	};
	sql_done(q);
	return 0;
}

static int
put_suspects(struct catalog *c, const struct catalog_suspect *suspects, size_t count, struct hf_error *err)
{
	int r = sql_run(&c->sql, err, "DELETE FROM suspect", "");

	for (size_t i = 0; i < count && r >= 0; i++)
		r = sql_run(&c->sql, err, "INSERT OR IGNORE INTO suspect (volume, run, block) VALUES (?, ?, ?)", "uuu",
		    (uint64_t)suspects[i].volume, suspects[i].run, suspects[i].block);
	return r < 0 ? r : 0;
}

int
catalog_set_scrub(struct catalog *c, const struct catalog_scrub *scrub, const struct catalog_suspect *suspects,
    size_t count, struct hf_error *err)
{
	HOLD(c);
	int r = sql_begin(&c->sql, err);

	if (r < 0)
		return r;
	r = sql_run(&c->sql, err,
	    "UPDATE scrub SET begun_ns = ?, lsn = ?, volume = ?, position = ?, bytes = ?, by_hand = ?, done_ns = ?",
	    "iuuuuui", scrub->begun_ns, scrub->lsn, (uint64_t)scrub->volume, scrub->position, scrub->bytes,
	    (uint64_t)scrub->by_hand, scrub->done_ns);
	if (r >= 0)
		r = put_suspects(c, suspects, count, err);
	return sql_end(&c->sql, r < 0 ? r : 0, err);
}

int
catalog_list_suspects(
    struct catalog *c, struct catalog_suspect *ret_suspects, size_t max, size_t *ret_count, struct hf_error *err)
{
	HOLD(c);
	sqlite3_stmt *q;
	size_t n = 0;
	int r = sql_query(&c->sql, &q, err, "SELECT volume, run, block FROM suspect ORDER BY volume, run, block", "");

	while (r >= 0 && n < max && (r = sql_next(&c->sql, q, err)) > 0)
		ret_suspects[n++] = (struct catalog_suspect){.volume = (uint32_t)sqlite3_column_int64(q, 0),
		    .run = (uint64_t)sqlite3_column_int64(q, 1),
		    .block = (uint64_t)sqlite3_column_int64(q, 2)};
	if (r > 0)
		sql_done(q); /* more than there is room for: a later scrub finds them again */
	if (r < 0)
		return r;
	*ret_count = n;
	return 0;
}

/* ---- volumes ---- */

static int
read_volume(sqlite3_stmt *q, struct catalog_volume *ret_volume)
{
	struct catalog_volume v = {0};
	char text[ID_BYTES];

	v.volume = (uint32_t)sqlite3_column_int64(q, 0);
	v.size_bytes = (uint64_t)sqlite3_column_int64(q, 2);
	v.boot_disk = sqlite3_column_int64(q, 3) != 0;
	v.retired = sqlite3_column_int64(q, 4) != 0;
	v.equal_ns = sqlite3_column_int64(q, 8);
	v.deleted = sqlite3_column_int64(q, 9) != 0;
	if (sql_get_text(q, 1, text, sizeof text) < 0 || !id_parse("vol", text, &v.id) ||
	    sql_get_text(q, 5, v.identity, sizeof v.identity) < 0 || sql_get_text(q, 6, v.name, sizeof v.name) < 0 ||
	    sql_get_text(q, 7, v.device_name, sizeof v.device_name) < 0)
		return -HF_ECORRUPT;
	*ret_volume = v;
	return 0;
}

int
catalog_list_volumes(
    struct catalog *c, struct catalog_volume *ret_volumes, size_t max, size_t *ret_count, struct hf_error *err)
{
	HOLD(c);
	sqlite3_stmt *q;
	size_t n = 0;
	int r = sql_query(&c->sql, &q, err,
	    "SELECT volume, id, size_bytes, boot_disk, retired, identity, name, device_name, equal_ns, deleted FROM "
	    "volume "
	    "ORDER BY volume",
	    "");

	while (r >= 0 && (r = sql_next(&c->sql, q, err)) > 0) {
		if (n == max || read_volume(q, &ret_volumes[n]) < 0) {
			sql_done(q);
			return hf_error_say(err, -HF_ECORRUPT, "catalog: a volume's row makes no sense");
		}
		n++;
	}
	*ret_count = n;
	return r;
}

int
catalog_put_volume(struct catalog *c, const struct catalog_volume *v, struct hf_error *err)
{
	HOLD(c);
	int r = sql_run(&c->sql, err,
	    "INSERT INTO volume (volume, id, size_bytes, boot_disk, retired, identity, name, device_name) VALUES (?, "
	    "?, ?, ?, ?, ?, ?, ?)"
	    " ON CONFLICT (volume) DO UPDATE SET size_bytes = excluded.size_bytes, boot_disk = excluded.boot_disk, "
	    "retired = excluded.retired,"
	    " identity = excluded.identity, name = excluded.name, device_name = excluded.device_name",
	    "utuuuttt", (uint64_t)v->volume, v->id.text, v->size_bytes, (uint64_t)v->boot_disk, (uint64_t)v->retired,
	    v->identity, v->name, v->device_name);

	return r < 0 ? r : 0;
}

int
catalog_set_equal(struct catalog *c, const uint64_t *volumes, size_t count, int64_t equal_ns, struct hf_error *err)
{
	HOLD(c);
	int r = sql_begin(&c->sql, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count && r >= 0; i++)
		r = sql_run(
		    &c->sql, err, "UPDATE volume SET equal_ns = ? WHERE volume = ?", "iu", equal_ns, volumes[i]);
	return sql_end(&c->sql, r < 0 ? r : 0, err);
}

/* ---- points in time ---- */

static int
read_pit(sqlite3_stmt *q, struct pit *ret_pit)
{
	struct pit p = {.kept = true};
	const unsigned char *blob = sqlite3_column_blob(q, 10);
	size_t len = (size_t)sqlite3_column_bytes(q, 10), used;
	char text[ID_BYTES];

	if (blob == NULL || checkpoint_decode(blob, len, &p.checkpoint, &used) < 0 || used != len)
		return -HF_ECORRUPT;
	if (sql_get_text(q, 0, text, sizeof text) < 0 || !id_parse("pit", text, &p.id) ||
	    sql_get_text(q, 8, p.name, sizeof p.name) < 0)
		return -HF_ECORRUPT;
	p.lsn = (uint64_t)sqlite3_column_int64(q, 1);
	p.time_ns = sqlite3_column_int64(q, 2);
	p.planned_ns = sqlite3_column_int64(q, 3);
	p.rules = (uint32_t)sqlite3_column_int64(q, 4);
	p.held = sqlite3_column_int64(q, 5) != 0;
	p.by_hand = sqlite3_column_int64(q, 6) != 0;
	p.verified_ns = sqlite3_column_int64(q, 7);
	p.checkpoint.unchanged_until_ns = sqlite3_column_int64(q, 9);
	p.running_ns = p.checkpoint.running_ns = sqlite3_column_int64(q, 11);
	p.guarded_ns = sqlite3_column_int64(q, 12);
	p.complete = p.checkpoint.complete;
	p.consistency = p.checkpoint.consistency;
	*ret_pit = p;
	return 0;
}

static int
append_pit(struct pit **list, size_t *count, const struct pit *p)
{
	/* Grown in powers of two: at 1, 2, 4, ... there is no room for one more. */
	if ((*count & (*count - 1)) == 0) {
		struct pit *larger = realloc(*list, (*count > 0 ? *count * 2 : 1) * sizeof **list);

		if (larger == NULL)
			return -ENOMEM;
		*list = larger;
	}
	(*list)[(*count)++] = *p;
	return 0;
}

int
catalog_list_pits(struct catalog *c, struct pit **ret_pits, size_t *ret_count, struct hf_error *err)
{
	HOLD(c);
	struct pit *list = NULL, p;
	sqlite3_stmt *q;
	size_t n = 0;
	int r = sql_query(&c->sql, &q, err,
	    "SELECT id, lsn, time_ns, planned_ns, rules, held, by_hand, verified_ns, name, unchanged_until_ns, "
	    "checkpoint, "
	    "running_ns, guarded_ns FROM pit ORDER BY lsn",
	    "");

	while (r >= 0 && (r = sql_next(&c->sql, q, err)) > 0) {
		r = read_pit(q, &p);
		if (r == 0)
			r = append_pit(&list, &n, &p);
		if (r < 0) {
			sql_done(q);
			hf_error_set(err, r, "catalog: the row of a point in time");
		}
	}
	if (r < 0) {
		free(list);
		return r;
	}
	*ret_pits = list;
	*ret_count = n;
	return 0;
}

int
catalog_put_pit(struct catalog *c, const struct pit *p, struct hf_error *err)
{
	HOLD(c);
	unsigned char blob[CHECKPOINT_BYTES_MAX];
	size_t len = checkpoint_encode(blob, &p->checkpoint);
	int r = sql_run(&c->sql, err,
	    "INSERT OR REPLACE INTO pit (id, lsn, time_ns, planned_ns, rules, held, by_hand, verified_ns, name, "
	    "unchanged_until_ns, checkpoint, running_ns, guarded_ns)"
	    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	    "tuiiuuuitibii", p->id.text, p->lsn, p->time_ns, p->planned_ns, (uint64_t)p->rules, (uint64_t)p->held,
	    (uint64_t)p->by_hand, p->verified_ns, p->name, p->checkpoint.unchanged_until_ns, (const void *)blob, len,
	    p->running_ns, p->guarded_ns);

	return r < 0 ? r : 0;
}

static int
delete_pits(struct catalog *c, const struct id *ids, size_t count, struct hf_error *err)
{
	int r = 0;

	for (size_t i = 0; i < count && r >= 0; i++)
		r = sql_run(&c->sql, err, "DELETE FROM pit WHERE id = ?", "t", ids[i].text);
	return r < 0 ? r : 0;
}

int
catalog_delete_pits(struct catalog *c, const struct id *ids, size_t count, struct hf_error *err)
{
	HOLD(c);
	int r = sql_begin(&c->sql, err);

	return r < 0 ? r : sql_end(&c->sql, delete_pits(c, ids, count, err), err);
}

int
catalog_delete_volume(struct catalog *c, uint32_t volume, const struct id *pits, size_t pit_count, struct hf_error *err)
{
	HOLD(c);
	int r = sql_begin(&c->sql, err);

	if (r < 0)
		return r;
	r = sql_run(&c->sql, err, "UPDATE volume SET deleted = 1 WHERE volume = ? AND retired", "u", (uint64_t)volume);
	if (r == 0)
		r = hf_error_say(err, -ENOENT, "catalog: no retired volume of number %u", volume);
	if (r > 0)
		r = PLANTED(64) ? 0 : delete_pits(c, pits, pit_count, err);
	return sql_end(&c->sql, r < 0 ? r : 0, err);
}
