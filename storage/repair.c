/* SPDX-License-Identifier: Apache-2.0 */
/* repair.c: a source whose catalog is damaged or gone goes on with the catalog's copy, or with a new one made from what
 * the files prove.
 *
 * 1. catalog.db.new: the copy's bytes; without a copy that can be read, nothing yet.
 * 2. Recovery, as ever, but with an unknown base: see prove_base() in recover.c. Of the points in the copy those stay
 *    whose checkpoint is still in the journal: merging and folding drop the checkpoint with the data.
 * 3. catalog.db.new becomes what the files prove: volumes, fold LSN, base; and the policy is gone through once more
 * over all checkpoints that are newer than the newest point of the copy, so that a point stays which the policy kept.
 * 4. It is closed, the damaged catalog goes aside, and it takes its place: until that rename everything begins anew. */
#include "storage/repair.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/db_copy.h"
#include "storage/plant.h"

struct repair {
	struct store *s;
	struct disk *d;
	struct hf_error *err;
	char path[DB_PATH_BYTES], new[DB_PATH_BYTES];
	bool from_copy;
	unsigned dropped, found, by_hand; /* points */
};

/* ---- 1: the copy ---- */

static int
load_copy(struct repair *p)
{
	int r = db_copy_restore(p->d, p->path, p->new);

	if (r < 0)
		return r == -ENOENT ? 0 : hf_error_set(p->err, r, "the copy of %s", p->path);
	r = store_load_catalog(p->s, p->new, p->err);
	p->from_copy = r == 0;
	if (r != -HF_ECORRUPT)
		return r;
	r = db_copy_set_aside(p->d, p->path, store_clock(p->s));
	if (r == 0)
		r = db_copy_restore(p->d, p->path, p->new); /* clears the way again */
	return r == -ENOENT ? 0 : hf_error_set(p->err, r, "the copy of %s", p->path);
}

/* ---- 3: what the files prove ---- */

/* No file tells it if no disk was ever declared: then the folder's name is all there is. */
static int
name_source(struct repair *p)
{
	struct store *s = p->s;
	const char *slash = strrchr(s->dir, '/');

	if (s->source.text[0] != '\0')
		return 0;
	if (!id_parse("s", slash != NULL ? slash + 1 : s->dir, &s->source))
		return hf_error_say(p->err, -HF_ECORRUPT, "%s: nothing in it tells which source it is of", s->dir);
	random_bytes(&s->digest_seed, sizeof s->digest_seed);
	return 0;
}

static int
create_catalog(struct repair *p)
{
	struct store *s = p->s;
	struct catalog_source facts = {.created_ns = store_clock(s)};
	int r = name_source(p);

	if (r < 0)
		return r;
	facts.source = s->source;
	facts.digest_seed = s->digest_seed;
	facts.base_lsn = s->base_lsn;
	facts.fold_lsn = s->fold_lsn;
	policy_default(&s->policy);
	r = catalog_open(p->new, s->config.catalog_vfs, true, &facts, &s->catalog, p->err);
	/* Points may have been kept for longer than the default policy does: nothing goes before somebody said so. */
	return r == 0 && !PLANTED(57) ? catalog_set_frozen(s->catalog, facts.created_ns, p->err) : r;
}

/* A volume without a row is declared if the newest checkpoint says so. */
static bool
is_declared(const struct store *s, const struct volume *v)
{
	const struct checkpoint *c = store_newest_checkpoint(s);

	return c == NULL || checkpoint_has_volume(c, v->info.volume, NULL);
}

static int
put_volume(struct repair *p, struct volume *v)
{
	struct catalog_volume row = {.volume = v->info.volume, .id = v->info.id, .size_bytes = v->info.size_bytes};

	if (!v->has_row)
		v->info.declared = is_declared(p->s, v);
	v->has_row = true;
	row.retired = !v->info.declared;
	row.boot_disk = v->info.boot_disk;
	snprintf(row.identity, sizeof row.identity, "%s", v->info.identity);
	snprintf(row.name, sizeof row.name, "%s", v->info.name);
	snprintf(row.device_name, sizeof row.device_name, "%s", v->info.device_name);
	return catalog_put_volume(p->s->catalog, &row, p->err);
}

static int
put_volumes(struct repair *p)
{
	int r = 0;

	for (uint32_t i = 0; i < p->s->volume_count && r == 0; i++)
		r = put_volume(p, p->s->volumes[i]);
	return r;
}

/* Points of the copy that went since: by hand, by age, by a fold. */
static int
drop_lost_points(struct repair *p)
{
	struct store *s = p->s;
	size_t kept = 0, at;
	int r = 0;

	for (size_t i = 0; i < s->pit_count && r == 0; i++) {
		if (marks_find(&s->marks, s->pits[i].lsn, &at) || PLANTED(56)) {
			s->pits[kept++] = s->pits[i];
			continue;
		}
		p->dropped++;
		r = catalog_delete_pits(s->catalog, &s->pits[i].id, 1, p->err);
	}
	s->pit_count = r == 0 ? kept : s->pit_count;
	return r;
}

static int
put_bounds(struct repair *p)
{
	struct store *s = p->s;
	int r = catalog_set_fold(s->catalog, s->fold_lsn, p->err);

	return r == 0 ? catalog_set_base(s->catalog, s->base_lsn, p->err) : r;
}

/* A checkpoint that outlived a merge was kept; by whom only the catalog knew. */
static bool
outlived_a_merge(const struct store *s, uint64_t lsn)
{
	return lsn <= s->merged_lsn;
}

static int
append_point(struct store *s, const struct pit *pit)
{
	struct pit *more;

	assert(s->pits_shared == NULL); /* nobody was shown them yet */
	more = realloc(s->pits, (s->pit_count + 1) * sizeof *more);
	if (more == NULL)
		return -ENOMEM;
	s->pits = more;
	s->pits[s->pit_count++] = *pit;
	return 0;
}

/* As the policy would have kept it when it came. */
static int
find_point(struct repair *p, size_t mark)
{
	struct store *s = p->s;
	struct pit pit = {.kept = true};
	const struct checkpoint *c = &pit.checkpoint;
	int r;

	marks_get(&s->marks, mark, &pit.checkpoint);
	pit.id = checkpoint_pit_id(&s->source, c->lsn, c->stream_id);
	pit.lsn = c->lsn;
	pit.time_ns = pit.planned_ns = checkpoint_time_ns(c);
	pit.complete = c->complete;
	pit.consistency = c->consistency;
	pit.running_ns = c->running_ns;
	pit.guarded_ns = pit_guarded_ns(&s->policy, c->running_ns);
	if (pit_eligible(c))
		pit.rules =
		    pit_rules_due(&s->policy, s->pits, s->pit_count, pit.time_ns, pit.running_ns, &pit.planned_ns);
	pit.by_hand = pit.rules == 0 && outlived_a_merge(s, c->lsn);
	if (pit.rules == 0 && !pit.by_hand)
		return 0;
	r = append_point(s, &pit);
	if (r < 0)
		return hf_error_set(p->err, r, "%s", s->dir);
	p->found++;
	p->by_hand += pit.by_hand;
	return catalog_put_pit(s->catalog, &pit, p->err);
}

static int
find_points(struct repair *p)
{
	struct store *s = p->s;
	uint64_t newest = s->pit_count > 0 ? s->pits[s->pit_count - 1].lsn : 0;
	int r = 0;

	store_begin_retention(s);
	for (size_t i = 0; i < s->marks.count && r == 0; i++)
		if (marks_at(&s->marks, i)->lsn > newest)
			r = find_point(p, i);
	return r;
}

static int
bring_up_to_date(struct repair *p)
{
	int r = p->from_copy ? 0 : create_catalog(p);

	if (r == 0)
		r = put_volumes(p);
	if (r == 0)
		r = drop_lost_points(p);
	if (r == 0)
		r = put_bounds(p);
	return r == 0 ? find_points(p) : r;
}

/* ---- 4: in its place ---- */

static int
install(struct repair *p, char aside[DB_PATH_BYTES])
{
	int r;

	store_unload_catalog(p->s);
	r = db_copy_install(p->d, p->path, store_clock(p->s), aside);
	if (r < 0)
		return hf_error_set(p->err, r, "a new %s", p->path);
	return store_load_catalog(p->s, p->path, p->err);
}

static void
say_repaired(struct repair *p, const char *why, const char *aside)
{
	struct store_repair *t = &p->s->repair;
	size_t len;

	t->how = p->from_copy ? STORE_CATALOG_COPY : STORE_CATALOG_REBUILT;
	t->time_ns = store_clock(p->s);
	snprintf(t->text, sizeof t->text,
	    "%s; %s: %u points of it had no data any more, %u were added from the journal%s%s", why,
	    p->from_copy
		? "its copy took its place"
		: "there is no copy of it that can be read, and a new one was made from the journal, the runs and "
		  "the digest files: names, holds and the policy are lost, and retention is frozen",
	    p->dropped, p->found, aside[0] != '\0' ? "; the damaged one is kept as " : "", aside);
	len = strlen(t->text);
	if (p->by_hand > 0)
		snprintf(t->text + len, sizeof t->text - len,
		    "; %u points that no rule keeps are kept until they are deleted", p->by_hand);
}

int
store_repair(struct store *s, struct disk *d, const char *why, struct hf_error *err)
{
	struct repair p = {.s = s, .d = d, .err = err};
	char reason[256], aside[DB_PATH_BYTES];
	int r;

	snprintf(reason, sizeof reason, "%s", why); /* it may be err's own text */
	snprintf(p.path, sizeof p.path, "%s/catalog.db", s->dir);
	s->base_unknown = true;
	r = load_copy(&p);
	if (r == 0)
		r = store_recover(s, d, false, err);
	if (r == 0)
		r = bring_up_to_date(&p);
	if (r == 0)
		r = install(&p, aside);
	if (r == 0)
		say_repaired(&p, reason, aside);
	return r;
}
