/* SPDX-License-Identifier: Apache-2.0 */
/* store_scrub.c: what the owner knows of scrubs: how far one has come, which places are suspect, what is damaged.
 *
 * There is one way for rot, wherever it is noticed (a scrub, an export, a compare, a fold, a merge): its place becomes
 * suspect, a mending (job_scrub.c) looks at it while nobody else writes there, and what it finds is the truth about
 * that place from then on: damage, or nothing. Damage is looked at again every ten minutes, for it goes when no point
 * needs it any more. */
#include "storage/store_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"

#define ASK_AGAIN_NS (3600 * NS_PER_SECOND)

/* ---- life ---- */

static void
free_lists(struct store_scrub *sb)
{
	free(sb->suspects);
	free(sb->damage);
	sb->suspects = NULL;
	sb->damage = NULL;
}

static bool
make_lists(struct store_scrub *sb)
{
	if (sb->suspects == NULL)
		sb->suspects = calloc(SUSPECTS_MAX, sizeof *sb->suspects);
	if (sb->damage == NULL)
		sb->damage = calloc(DAMAGE_MAX, sizeof *sb->damage);
	return sb->suspects != NULL && sb->damage != NULL;
}

int
scrub_load(struct store *s, const struct catalog_source *facts, struct hf_error *err)
{
	struct store_scrub *sb = &s->scrub;
	uint64_t interval = (uint64_t)s->config.scrub_interval_ns;
	int r;

	if (!make_lists(sb))
		return hf_error_set(err, -ENOMEM, "%s", s->dir);
	r = catalog_get_scrub(s->catalog, &sb->at, err);
	if (r == 0)
		r = catalog_list_suspects(s->catalog, sb->suspects, SUSPECTS_MAX, &sb->suspect_count, err);
	sb->more_damaged = sb->suspect_count == SUSPECTS_MAX; /* as far as anybody knows */
	/* Sources are not scrubbed all at once: the first scrub of each comes at a time of its own, the others follow.
	 */
	sb->first_ns = facts->created_ns + (interval > 0 ? (int64_t)(facts->digest_seed % interval) : 0);
	if (r == 0 && sb->suspect_count == 0)
		free_lists(sb); /* the rule: ten thousand sources need no memory for this */
	return r;
}

void
scrub_unload(struct store *s)
{
	free_lists(&s->scrub);
	buffer_free((void *)(uintptr_t)s->scrub.offer.bytes, BLOCK_BYTES);
	s->scrub = (struct store_scrub){0};
}

/* ---- one scrub ---- */

bool
scrub_is_due(const struct store *s)
{
	const struct catalog_scrub *at = &s->scrub.at;
	int64_t interval = s->config.scrub_interval_ns;

	if (interval <= 0 || at->begun_ns != 0)
		return false;
	return store_clock(s) >= (at->done_ns != 0 ? at->done_ns + interval : s->scrub.first_ns);
}

void
scrub_begin(struct store *s, bool by_hand)
{
	struct store_scrub *sb = &s->scrub;

	sb->at = (struct catalog_scrub){
	    .begun_ns = store_clock(s), .lsn = s->durable.lsn_last, .by_hand = by_hand, .done_ns = sb->at.done_ns};
	sb->page = 0;
	sb->more_damaged = false; /* all of it will be found again */
	sb->ended = false;
	sb->changed = true;
	sb->rate = sb->rate_bytes = 0;
	sb->rate_ns = clock_monotonic_ns();
}

int
store_scrub_start(struct store *s)
{
	struct catalog_scrub *at = &s->scrub.at;

	if (at->begun_ns != 0 && at->by_hand)
		return -EBUSY;
	if (at->begun_ns != 0)
		at->by_hand = true;
	else
		scrub_begin(s, true);
	s->retry_ns[JOB_SCRUB] = 0;
	store_wake_job(s);
	return 0;
}

int
store_scrub_cancel(struct store *s)
{
	struct store_scrub *sb = &s->scrub;

	if (sb->at.begun_ns == 0)
		return -ENOENT;
	sb->at = (struct catalog_scrub){.done_ns = sb->at.done_ns};
	sb->ended = false;
	sb->changed = true;
	store_wake_job(s);
	return 0;
}

static double
progress(const struct store *s)
{
	const struct catalog_scrub *at = &s->scrub.at;
	double done = 0, total = 1;

	for (uint32_t i = 0; i < s->volume_count; i++) {
		uint64_t blocks = volume_blocks(s->volumes[i]);

		total += (double)blocks;
		if (s->volumes[i]->info.volume < at->volume)
			done += (double)blocks;
		else if (s->volumes[i]->info.volume == at->volume)
			done += (double)(at->position < blocks ? at->position : blocks);
	}
	return s->scrub.ended ? 1 : done / total;
}

void
store_get_scrub(const struct store *s, struct scrub_status *ret_status)
{
	const struct store_scrub *sb = &s->scrub;

	*ret_status = (struct scrub_status){
	    .running = sb->at.begun_ns != 0,
	    .by_hand = sb->at.by_hand,
	    .begun_ns = sb->at.begun_ns,
	    .done_ns = sb->at.done_ns,
	    .progress = sb->at.begun_ns != 0 ? progress(s) : 0,
	    .bytes = sb->at.bytes,
	    .bytes_per_second = sb->rate,
	    .blocks_healed = sb->blocks_healed,
	    .digests_mended = sb->digests_mended,
	    .damaged = sb->damage_count,
	    .more_damaged = sb->more_damaged,
	};
}

bool
store_is_scrubbing(const struct store *s)
{
	return s->scrub.at.begun_ns != 0;
}

/* ---- suspects ---- */

/* Places are groups of blocks, or of pages. */
static bool
is_place_of(const struct catalog_suspect *place, uint32_t volume, uint64_t run, uint64_t block)
{
	return place->volume == volume && place->run == (volume == 0 ? run : 0) &&
	       place->block / SCRUB_GROUP_BLOCKS == block / SCRUB_GROUP_BLOCKS;
}

void
scrub_suspect(struct store *s, const struct catalog_suspect *suspect)
{
	struct store_scrub *sb = &s->scrub;

	if (!make_lists(sb))
		return; /* as one too many */
	for (size_t i = 0; i < sb->suspect_count; i++)
		if (is_place_of(&sb->suspects[i], suspect->volume, suspect->run, suspect->block))
			return;
	if (sb->suspect_count == SUSPECTS_MAX) {
		sb->more_damaged = true;
		return;
	}
	sb->suspects[sb->suspect_count++] = *suspect;
	store_wake_job(s);
}

void
store_suspect(struct store *s, uint32_t volume, uint64_t block)
{
	const struct catalog_suspect suspect = {.volume = volume, .block = block};

	scrub_suspect(s, &suspect);
}

void
scrub_look_at_runs(struct store *s)
{
	uint64_t page;

	for (const struct segment *g = s->segments; g != NULL; g = g->next)
		if (g->run != NULL && run_take_damaged(g->run, &page))
			scrub_suspect(s, &(struct catalog_suspect){.run = g->number, .block = page});
}

static struct catalog_suspect
place_of(const struct damage *d)
{
	return (struct catalog_suspect){.volume = d->volume, .run = d->volume == 0 ? d->segment : 0, .block = d->block};
}

void
scrub_recheck(struct store *s, int64_t now_ns)
{
	struct store_scrub *sb = &s->scrub;

	if (sb->damage_count == 0 || now_ns - sb->rechecked_ns < 600 * NS_PER_SECOND)
		return;
	sb->rechecked_ns = now_ns;
	for (size_t i = 0; i < sb->damage_count; i++) {
		struct catalog_suspect place = place_of(&sb->damage[i].d);

		scrub_suspect(s, &place);
	}
}

/* ---- damage ---- */

size_t
store_damage_points(struct store *s, const struct damage *d, struct id *ret_pits, size_t max)
{
	struct pit *list;
	size_t n, hit = 0;

	if (store_list_pits(s, &list, &n) < 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (!damage_hits(d, &list[i].checkpoint))
			continue;
		if (hit < max)
			ret_pits[hit] = list[i].id;
		hit++;
	}
	free(list);
	return hit;
}

/* What is newest is needed by points to come. */
static bool
is_needed(const struct damage *d, const struct pit *pits, size_t pit_count)
{
	bool needed = d->lsn_next == UINT64_MAX;

	for (size_t i = 0; i < pit_count && !needed; i++)
		needed = damage_hits(d, &pits[i].checkpoint);
	return needed;
}

/* A version is known by the one before which, or after which, it is: a fold moves it to the base, and the newest is no
 * longer that when there is a newer one. */
static bool
is_same(const struct damage *a, const struct damage *b)
{
	if (a->volume != b->volume || a->block != b->block || a->digest != b->digest)
		return false;
	return a->volume == 0 ? a->segment == b->segment : a->lsn == b->lsn || a->lsn_next == b->lsn_next;
}

static struct known_damage *
find_damage(struct known_damage *list, size_t count, const struct damage *d)
{
	for (size_t i = 0; i < count; i++)
		if (is_same(&list[i].d, d))
			return &list[i];
	return NULL;
}

static void
add_damage(struct store *s, const struct damage *d)
{
	struct store_scrub *sb = &s->scrub;
	struct known_damage *known = find_damage(sb->damage, sb->damage_count, d);

	if (known != NULL) {
		known->d = *d;
		return;
	}
	if (sb->damage_count == DAMAGE_MAX) {
		sb->more_damaged = true;
		return;
	}
	sb->damage[sb->damage_count++] = (struct known_damage){.d = *d};
	sb->changed = true;
	if (s->events != NULL && s->events->damaged != NULL)
		s->events->damaged(s->arg, d);
}

static bool
is_among(const struct damage *d, const struct damage *found, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (is_same(d, &found[i]))
			return true;
	return false;
}

static bool
lies_in(const struct damage *d, const struct catalog_suspect *places, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (is_place_of(&places[i], d->volume, d->segment, d->block))
			return true;
	return false;
}

static void
drop_damage(struct store *s, size_t i, bool healed)
{
	struct store_scrub *sb = &s->scrub;
	struct damage d = sb->damage[i].d;

	sb->damage[i] = sb->damage[--sb->damage_count];
	sb->changed = true;
	if (s->events != NULL && s->events->mended != NULL)
		s->events->mended(s->arg, &d, healed);
}

void
scrub_take_findings(struct store *s, const struct catalog_suspect *places, size_t place_count,
    const struct damage *found, size_t count, bool healed)
{
	struct store_scrub *sb = &s->scrub;
	size_t pit_count;
	struct pit *pits;

	/* No memory: what is known stays known, and what was found is found again. */
	if (!make_lists(sb) || store_list_pits(s, &pits, &pit_count) < 0)
		return;
	for (size_t i = sb->damage_count; i-- > 0;)
		if (lies_in(&sb->damage[i].d, places, place_count) && !is_among(&sb->damage[i].d, found, count))
			drop_damage(s, i, healed);
	for (size_t i = 0; i < count; i++)
		if (is_needed(&found[i], pits, pit_count))
			add_damage(s, &found[i]);
	for (size_t i = sb->damage_count; i-- > 0;)
		if (!is_needed(&sb->damage[i].d, pits, pit_count))
			drop_damage(s, i, false);
	free(pits);
}

size_t
store_list_damage(const struct store *s, struct damage *ret_damage, size_t max)
{
	size_t n = s->scrub.damage_count < max ? s->scrub.damage_count : max;

	for (size_t i = 0; i < n; i++)
		ret_damage[i] = s->scrub.damage[i].d;
	return n;
}

/* ---- healing ---- */

bool
store_next_to_heal(struct store *s, uint32_t *ret_volume, uint64_t *ret_block)
{
	int64_t now_ns = clock_monotonic_ns();

	if (s->scrub.offer.bytes != NULL)
		return false;
	for (size_t i = 0; i < s->scrub.damage_count; i++) {
		struct known_damage *k = &s->scrub.damage[i];

		if (k->d.digest == 0 || (k->asked_ns != 0 && now_ns - k->asked_ns < ASK_AGAIN_NS))
			continue;
		k->asked_ns = now_ns;
		*ret_volume = k->d.volume;
		*ret_block = k->d.block;
		return true;
	}
	return false;
}

int
store_heal(struct store *s, uint32_t volume, uint64_t block, const void *bytes)
{
	struct scrub_offer *o = &s->scrub.offer;
	void *copy;

	if (o->bytes != NULL)
		return -EBUSY;
	copy = buffer_alloc(BLOCK_BYTES);
	if (copy == NULL)
		return -ENOMEM;
	memcpy(copy, bytes, BLOCK_BYTES);
	*o = (struct scrub_offer){
	    .volume = volume, .block = block, .digest = digest_block(s->digest_seed, bytes), .bytes = copy};
	store_suspect(s, volume, block);
	return 0;
}
