/* SPDX-License-Identifier: Apache-2.0 */
/* store_open.c: a store is made, opened, and read without a daemon. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/db_copy.h"
#include "storage/repair.h"
#include "storage/store_impl.h"

/* Copy the configuration's values; strings become the store's own. */
static struct store *
store_alloc(const struct store_config *config)
{
	struct store *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->config = *config;
	snprintf(s->dir, sizeof s->dir, "%s", config->dir);
	snprintf(s->journal_dir, sizeof s->journal_dir, "%s/journal", config->dir);
	s->config.dir = s->dir;
	s->pace.sleep_ns = config->sleep_ns;
	if (s->config.segment_bytes_max == 0)
		s->config.segment_bytes_max = 256ull << 20;
	if (s->config.segment_bytes_first == 0)
		s->config.segment_bytes_first = 1ull << 20;
	if (s->config.scrub_bytes == 0)
		s->config.scrub_bytes = 32ull << 20;
	if (s->config.reserve_bytes == 0)
		s->config.reserve_bytes = 16ull << 20;
	if (s->config.copy_interval_ns == 0)
		s->config.copy_interval_ns = 60 * NS_PER_SECOND;
	s->space.told.room_bytes = UINT64_MAX;
	s->space.told.reserve_bytes = s->config.reserve_bytes;
	s->space.window_ns = INT64_MAX;
	return s;
}

/* ---- a new one ---- */

int
store_create(struct disk *d, const struct store_config *config, const struct id *source, struct hf_error *err)
{
	struct catalog_source facts = {.source = *source, .created_ns = clock_real_ns()};
	char path[PATH_MAX_BYTES], parent[PATH_MAX_BYTES];
	struct catalog *c;
	char *slash;
	int r = disk_mkdir(d, config->dir);

	if (r < 0)
		return hf_error_set(err, r, "cannot make %s", config->dir);
	snprintf(path, sizeof path, "%s/journal", config->dir);
	r = config->journal_elsewhere ? 0 : disk_mkdir(d, path);
	if (r < 0)
		return hf_error_set(err, r, "cannot make %s", path);
	random_bytes(&facts.digest_seed, sizeof facts.digest_seed);
	snprintf(path, sizeof path, "%s/catalog.db", config->dir);
	r = catalog_open(path, config->catalog_vfs, true, &facts, &c, err);
	if (r < 0)
		return r;
	catalog_close(c);
	r = disk_sync_dir(d, config->dir);
	snprintf(parent, sizeof parent, "%s", config->dir);
	slash = strrchr(parent, '/');
	if (r == 0 && slash != NULL && slash != parent) {
		*slash = '\0';
		r = disk_sync_dir(d, parent);
	}
	return r < 0 ? hf_error_set(err, r, "cannot sync %s", config->dir) : 0;
}

/* ---- opening ---- */

static int
check_volumes(struct store *s, struct hf_error *err)
{
	struct catalog_volume *rows = calloc(STORE_VOLUMES_MAX, sizeof *rows);
	size_t count;
	int r = rows == NULL ? hf_error_set(err, -ENOMEM, "%s", s->dir)
			     : catalog_list_volumes(s->catalog, rows, STORE_VOLUMES_MAX, &count, err);

	free(rows);
	return r;
}

int
store_load_catalog(struct store *s, const char *path, struct hf_error *err)
{
	struct catalog_source facts;
	int r = catalog_open(path, s->config.catalog_vfs, false, NULL, &s->catalog, err);

	if (r == 0)
		r = catalog_get_source(s->catalog, &facts, err);
	if (r == 0)
		r = catalog_get_policy(s->catalog, &s->policy, err);
	if (r == 0)
		r = check_volumes(s, err);
	if (r == 0)
		r = catalog_list_pits(s->catalog, &s->pits, &s->pit_count, err);
	if (r == 0)
		r = scrub_load(s, &facts, err);
	if (r < 0) {
		store_unload_catalog(s);
		return r;
	}
	s->source = facts.source;
	s->digest_seed = facts.digest_seed;
	s->base_lsn = facts.base_lsn;
	s->fold_lsn = facts.fold_lsn;
	s->retention.frozen_ns = facts.frozen_ns;
	s->quota_bytes = facts.quota_bytes;
	s->when_full = facts.when_full;
	return 0;
}

void
store_unload_catalog(struct store *s)
{
	catalog_close(s->catalog);
	s->catalog = NULL;
	shared_drop(&s->pits_shared, s->pits);
	s->pits = NULL;
	s->pit_count = 0;
	scrub_unload(s);
}

int
store_open(struct disk *d, const struct store_config *config, struct store **ret_store, struct hf_error *err)
{
	struct store *s = store_alloc(config);
	char path[PATH_MAX_BYTES];
	int r;

	if (s == NULL)
		return hf_error_set(err, -ENOMEM, "%s", config->dir);
	snprintf(path, sizeof path, "%s/catalog.db", s->dir);
	if (db_is_there(d, path))
		r = store_load_catalog(s, path, err);
	else
		r = hf_error_say(err, -HF_ECORRUPT, "%s is missing", path);
	if (r == 0)
		r = store_recover(s, d, false, err);
	else if (r == -HF_ECORRUPT)
		r = store_repair(s, d, err->text, err);
	if (r < 0) {
		store_close(s, d);
		return r;
	}
	scrub_look_at_runs(s);
	store_begin_retention(s);
	s->copied_commits = UINT64_MAX; /* nobody knows how old the copy is */
	s->copy_due_ns = clock_monotonic_ns() + s->config.copy_interval_ns;
	*ret_store = s;
	return 0;
}

int
store_open_offline(struct disk *d, const char *dir, struct store **ret_store, struct hf_error *err)
{
	struct store_config config = {.dir = dir};
	struct store *s = store_alloc(&config);
	int r;

	if (s == NULL)
		return hf_error_set(err, -ENOMEM, "%s", dir);
	s->disk = d;
	s->policy.journal_window_ns = INT64_MAX / 4; /* every checkpoint there is */
	r = store_recover(s, d, true, err);
	if (r == 0 && s->volume_count == 0)
		r = hf_error_say(err, -ENOENT, "%s holds no volume of a source", dir);
	if (r < 0) {
		store_close(s, d);
		return r;
	}
	*ret_store = s;
	return 0;
}
