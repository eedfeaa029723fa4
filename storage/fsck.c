/* SPDX-License-Identifier: Apache-2.0 */
/* fsck.c: what the catalog says against what the files say. First each file for itself, then the source as a whole, as
 * recovery would take it. */
#include "storage/fsck.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/fsck_impl.h"
#include "storage/scrub.h"

static const struct {
	const char *name, *means, *cure;
} codes[] = {
#define X(code, means, cure) [FSCK_##code] = {#code, means, cure},
    FSCK_TABLE(X)
#undef X
};

const char *
fsck_code_name(enum fsck_code code)
{
	return codes[code].name;
}

const char *
fsck_code_means(enum fsck_code code)
{
	return codes[code].means;
}

const char *
fsck_code_cure(enum fsck_code code)
{
	return codes[code].cure;
}

void
fsck_say(struct fsck *k, enum fsck_code code, const char *where, const char *format, ...)
{
	char what[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(what, sizeof what, format, ap);
	va_end(ap);
	k->found(k->arg, code, where, what);
}

int
fsck_go_on(struct fsck *k)
{
	return k->o->stop != NULL && k->o->stop() ? -ECANCELED : 0;
}

static const char *
catalog_name(const struct fsck *k, const char *suffix, char path[PATH_MAX_BYTES])
{
	snprintf(path, PATH_MAX_BYTES, "%s/catalog.db%s", k->o->dir, suffix);
	return path;
}

/* ---- the catalog for itself ---- */

static int
read_catalog(struct fsck *k, struct catalog *c)
{
	int r = catalog_get_source(c, &k->facts, k->err);

	if (r == 0)
		r = catalog_list_volumes(c, k->rows, STORE_VOLUMES_MAX, &k->row_count, k->err);
	return r == 0 ? catalog_list_pits(c, &k->pits, &k->pit_count, k->err) : r;
}

static int
check_catalog(struct fsck *k)
{
	char path[PATH_MAX_BYTES];
	struct catalog *c;
	int r;

	catalog_name(k, "", path);
	if (k->o->catalog == NULL) {
		fsck_say(k, FSCK_CATALOG_MISSING, path, "it is not there");
		return 0;
	}
	r = catalog_open(k->o->catalog, k->o->vfs, false, NULL, &c, k->err);
	if (r == 0) {
		r = read_catalog(k, c);
		catalog_close(c);
	}
	k->has_catalog = r == 0;
	if (r == -HF_ECORRUPT)
		fsck_say(k, FSCK_CATALOG_DAMAGED, path, "%s", k->err->text);
	return r == -HF_ECORRUPT ? 0 : r;
}

static int
check_copy(struct fsck *k)
{
	char path[PATH_MAX_BYTES];
	struct catalog *c;
	int r;

	if (k->o->catalog_bak == NULL)
		return 0; /* none was written yet */
	r = catalog_open(k->o->catalog_bak, k->o->vfs, false, NULL, &c, k->err);
	if (r == 0)
		catalog_close(c);
	if (r == -HF_ECORRUPT)
		fsck_say(k, FSCK_COPY_DAMAGED, catalog_name(k, ".bak", path), "%s", k->err->text);
	return r == -HF_ECORRUPT ? 0 : r;
}

/* ---- the catalog against the files ---- */

static void
check_identity(struct fsck *k)
{
	const struct store *s = k->store;
	char path[PATH_MAX_BYTES];

	catalog_name(k, "", path);
	if (s->source.text[0] != '\0' && strcmp(k->facts.source.text, s->source.text) != 0)
		fsck_say(k, FSCK_CATALOG_FOREIGN, path, "it is of %s, the files are of %s", k->facts.source.text,
		    s->source.text);
	else if (s->source.text[0] != '\0' && k->facts.digest_seed != s->digest_seed)
		fsck_say(k, FSCK_CATALOG_FOREIGN, path, "its digest seed is not that of the files");
}

static void
check_bounds(struct fsck *k)
{
	const struct store *s = k->store;
	unsigned long long base = k->facts.base_lsn, fold = k->facts.fold_lsn, last = s->durable.lsn_last;
	char path[PATH_MAX_BYTES];

	catalog_name(k, "", path);
	if (base > fold)
		fsck_say(k, FSCK_BOUNDS, path, "the base (LSN %llu) is beyond the fold (%llu)", base, fold);
	if (fold > last)
		fsck_say(k, FSCK_BOUNDS, path, "a fold went to LSN %llu, but the journal ends at %llu", fold, last);
	if (s->fold_lsn > fold)
		fsck_say(k, FSCK_BOUNDS, path, "the digest files know a fold to LSN %llu, the catalog one to %llu",
		    (unsigned long long)s->fold_lsn, fold);
	if (s->segments != NULL && s->segments->lsn_first > base + 1)
		fsck_say(k, FSCK_BOUNDS, k->journal_dir, "it begins at LSN %llu, but is needed from %llu on",
		    (unsigned long long)s->segments->lsn_first, base + 1);
}

static void
check_row(struct fsck *k, const struct catalog_volume *row)
{
	const struct volume *v = store_find_volume(k->store, row->volume);
	char path[PATH_MAX_BYTES];

	if (row->deleted)
		return; /* what a cut has left of its files, recovery removes */
	volume_path(path, k->store, &row->id, "sum");
	if (v == NULL || strcmp(v->info.id.text, row->id.text) != 0)
		fsck_say(k, FSCK_VOLUME_MISSING, path, "%s (%s) has no files", row->id.text, row->name);
	else if (v->info.size_bytes < row->size_bytes) /* growing, the digest file goes first */
		fsck_say(k, FSCK_VOLUME_MISMATCH, path, "the catalog says %llu bytes, the digest file %llu",
		    (unsigned long long)row->size_bytes, (unsigned long long)v->info.size_bytes);
}

static bool
has_row(const struct fsck *k, const struct volume *v)
{
	for (size_t i = 0; i < k->row_count; i++)
		if (k->rows[i].volume == v->info.volume)
			return true;
	return false;
}

static void
check_rows(struct fsck *k)
{
	char path[PATH_MAX_BYTES];

	for (size_t i = 0; i < k->row_count; i++)
		check_row(k, &k->rows[i]);
	for (uint32_t i = 0; i < k->store->volume_count; i++) {
		const struct volume *v = k->store->volumes[i];

		volume_path(path, k->store, &v->info.id, "sum");
		if (!has_row(k, v) && journal_state_volume(&k->store->durable, v->info.volume) != NULL)
			fsck_say(k, FSCK_VOLUME_MISMATCH, path, "the journal knows volume %u, the catalog does not",
			    v->info.volume);
	}
}

/* NULL: it can be restored; or why not. */
static const char *
why_lost(struct fsck *k, const struct pit *p)
{
	struct id id = checkpoint_pit_id(&k->facts.source, p->lsn, p->checkpoint.stream_id);
	struct checkpoint c;
	size_t i;

	if (strcmp(p->id.text, id.text) != 0 || p->checkpoint.lsn != p->lsn)
		return "its id is not that of its checkpoint";
	if (p->lsn < k->facts.fold_lsn)
		return "it lies before the fold";
	if (p->lsn > k->store->durable.lsn_last)
		return "it lies beyond the journal's end";
	if (!marks_find(&k->store->marks, p->lsn, &i))
		return "its checkpoint is not in the journal any more";
	marks_get(&k->store->marks, i, &c);
	if (c.clock_ns != p->checkpoint.clock_ns || c.complete != p->checkpoint.complete ||
	    c.volume_count != p->checkpoint.volume_count)
		return "the journal says something else of its checkpoint";
	return NULL;
}

static void
check_points(struct fsck *k)
{
	char path[PATH_MAX_BYTES];

	for (size_t i = 0; i < k->pit_count; i++) {
		const char *why = why_lost(k, &k->pits[i]);

		k->stats.points++;
		if (why != NULL)
			fsck_say(k, FSCK_POINT_LOST, catalog_name(k, "", path), "%s (\"%s\", LSN %llu): %s",
			    k->pits[i].id.text, k->pits[i].name, (unsigned long long)k->pits[i].lsn, why);
	}
}

static void
check_agreement(struct fsck *k)
{
	if (!k->has_catalog || k->store == NULL)
		return;
	check_identity(k);
	check_bounds(k);
	check_rows(k);
	check_points(k);
}

/* ---- every block ---- */

/* Does anybody see this version: a checkpoint, or the newest state? */
static bool
is_needed(const struct store *s, const struct damage *m)
{
	if (m->lsn_next > s->durable.lsn_last)
		return true;
	for (size_t i = 0; i < s->marks.count; i++)
		if (marks_at(&s->marks, i)->lsn >= m->lsn && marks_at(&s->marks, i)->lsn < m->lsn_next &&
		    marks_at(&s->marks, i)->complete)
			return true;
	return false;
}

static void
on_damage(void *arg, const struct damage *m)
{
	struct fsck *k = arg;
	const struct volume *v = store_find_volume(k->store, m->volume);
	char path[PATH_MAX_BYTES];

	if (v == NULL || !is_needed(k->store, m))
		return; /* of a run's page fsck_journal() has told */
	if (m->segment != 0)
		segment_path(path, sizeof path, k->journal_dir, m->segment);
	else
		volume_path(path, k->store, &v->info.id, m->digest != 0 ? "img" : "sum");
	fsck_say(k, m->digest != 0 ? FSCK_BLOCK_ROTTEN : FSCK_DIGEST_TREE, path,
	    "byte %llu of %s (%s), of LSN %llu: %s", (unsigned long long)m->block * BLOCK_BYTES, v->info.id.text,
	    v->info.name, (unsigned long long)m->lsn, hf_status_text(m->status));
}

static int
read_volume(struct fsck *k, struct scrub *sc, const struct volume *v)
{
	uint64_t group = 0;
	int r = 0;

	while (r == 0) {
		r = scrub_next_group(sc, v->info.volume, group, &group);
		if (r < 0 || group >= volume_blocks(v))
			break;
		r = scrub_group(sc, v->info.volume, group);
		group += SCRUB_GROUP_BLOCKS;
		if (r == 0)
			r = fsck_go_on(k);
	}
	return r;
}

static int
read_all(struct fsck *k)
{
	struct store *s = k->store;
	struct scrub *sc;
	int r;

	if (!k->o->data || s == NULL || s->volume_count == 0)
		return 0;
	r = scrub_create(k->view, k->d, k->cache, on_damage, k, &sc);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < s->volume_count && r == 0; i++)
		r = read_volume(k, sc, s->volumes[i]);
	if (r == 0)
		scrub_flush(sc);
	k->stats.blocks = scrub_get_stats(sc).blocks;
	scrub_destroy(sc);
	return r;
}

/* ---- the source as a whole ---- */

static int
make_view(struct fsck *k)
{
	struct store *s = k->store;
	int r;

	if (k->has_catalog && k->facts.base_lsn <= k->facts.fold_lsn)
		s->base_lsn = k->facts.base_lsn; /* else the journal shadows what it may */
	r = store_fold_view(s, s->durable.lsn_last, &k->view);
	return r < 0 ? hf_error_set(k->err, r, "%s", k->o->dir) : 0;
}

static int
open_store(struct fsck *k)
{
	int r = store_open_offline(k->d, k->o->dir, &k->store, k->err);

	if (r == 0)
		return make_view(k);
	if (r == -ENOENT) /* no disk was ever declared */
		return 0;
	if (r != -HF_ECORRUPT)
		return r;
	fsck_say(k, FSCK_JOURNAL, k->o->dir, "%s", k->err->text);
	return 0;
}

static int
check_all(struct fsck *k)
{
	static int (*const steps[])(struct fsck * k) = {
	    check_catalog, check_copy, fsck_journal, open_store, fsck_volumes};
	int r = 0;

	for (size_t i = 0; i < sizeof steps / sizeof steps[0] && r == 0; i++)
		r = steps[i](k);
	if (r < 0)
		return r;
	check_agreement(k);
	return read_all(k);
}

int
fsck_source(struct disk *d, struct run_cache *cache, const struct fsck_options *options, fsck_found *found, void *arg,
    struct fsck_stats *ret_stats, struct hf_error *err)
{
	struct fsck k = {.d = d, .cache = cache, .o = options, .found = found, .arg = arg, .err = err};
	int r;

	err->code = 0;
	snprintf(k.journal_dir, sizeof k.journal_dir, "%s/journal", options->dir);
	k.rows = calloc(STORE_VOLUMES_MAX, sizeof *k.rows);
	r = k.rows == NULL ? -ENOMEM : check_all(&k);
	*ret_stats = k.stats;
	if (k.view != NULL)
		store_view_release(k.store, k.view);
	store_close(k.store, d);
	free(k.rows);
	free(k.pits);
	return r < 0 && err->code != r ? hf_error_set(err, r, "%s", options->dir) : r;
}
