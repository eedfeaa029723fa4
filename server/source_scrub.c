/* SPDX-License-Identifier: Apache-2.0 */
/* Rot of a source's data as the server tells of it and heals it: events, what is published, and blocks asked of the
 * agent, one at a time. Which bytes are right is the store's to judge: it knows their digest. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/session.h"
#include "server/source_impl.h"

enum {
	EVENTS_PER_SECOND = 8, /* one bad sector may be a thousand blocks: those beyond are counted */
	PITS_TOLD = 4,
	DAMAGE_LOOKED_AT = 512,
};

#define REPORT_INTERVAL_NS (10 * NS_PER_SECOND)

/* ---- suspects ---- */

struct suspect_mail {
	struct mail mail;
	struct worker *worker;
	struct id source;
	uint32_t volume;
	uint64_t block;
};

static void
on_suspect(struct mail *mail)
{
	struct suspect_mail *m = (struct suspect_mail *)mail;
	struct source *src = worker_find_source(m->worker, &m->source);

	if (src != NULL && src->life == SOURCE_OPEN)
		store_suspect(src->store, m->volume, m->block);
	free(m);
}

void
source_suspect(struct server *sv, const struct id *source, uint32_t volume, uint64_t block)
{
	struct suspect_mail *m = calloc(1, sizeof *m);

	if (m == NULL)
		return; /* the next scrub finds it */
	m->mail.deliver = on_suspect;
	m->worker = server_owner(sv, source);
	m->source = *source;
	m->volume = volume;
	m->block = block;
	mailbox_post(m->worker->mailbox, &m->mail);
}

/* ---- events ---- */

static const struct store_volume *
find_volume(struct source *src, uint32_t volume)
{
	struct store_volume *list = src->worker->volume_scratch;
	size_t n = store_list_all_volumes(src->store, list, STORE_VOLUMES_MAX);

	for (size_t i = 0; i < n; i++)
		if (list[i].volume == volume)
			return &list[i];
	return NULL;
}

static void
describe_place(struct source *src, const struct damage *d, char *ret_text, size_t size)
{
	const struct store_volume *v = d->volume != 0 ? find_volume(src, d->volume) : NULL;
	char where[64] = "in its staging file";

	if (d->segment != 0)
		snprintf(where, sizeof where, "in journal segment %u", d->segment);
	if (d->block == SCRUB_HEADER_BLOCK)
		snprintf(ret_text, size, "header of journal segment %u", d->segment);
	else if (v == NULL)
		snprintf(ret_text, size, "journal index %u, offset %" PRIu64, d->segment, d->block * BLOCK_BYTES);
	else
		snprintf(ret_text, size, "volume %.60s (%s), offset %" PRIu64 ", %s", v->name, v->id.text,
		    d->block * BLOCK_BYTES, where);
}

static void
describe_points(struct source *src, const struct damage *d, char *ret_text, size_t size)
{
	struct id pits[PITS_TOLD];
	size_t n = store_damage_points(src->store, d, pits, PITS_TOLD), at = 0;

	if (n == 0) {
		snprintf(ret_text, size, "no point needs it yet");
		return;
	}
	at += (size_t)snprintf(ret_text, size, "%zu point%s need%s it:", n, n == 1 ? "" : "s", n == 1 ? "s" : "");
	for (size_t i = 0; i < n && i < PITS_TOLD && at < size; i++)
		at += (size_t)snprintf(ret_text + at, size - at, " %s", pits[i].text);
	if (n > PITS_TOLD && at < size)
		snprintf(ret_text + at, size - at, " and %zu more", n - PITS_TOLD);
}

/* So many a second; the rest is seen in the status. */
static bool
may_tell(struct source *src)
{
	return src->damage_events++ < EVENTS_PER_SECOND;
}

void
source_note_damaged(struct source *src, const struct damage *d)
{
	char place[SENTENCE_BYTES], points[SENTENCE_BYTES];

	src->damage_told_ns = 0;
	source_touch(src);
	if (!may_tell(src))
		return;
	describe_place(src, d, place, sizeof place);
	describe_points(src, d, points, sizeof points);
	server_event(
	    src->server, &src->id, "integrity_error", "%.200s: %s; %.200s", place, hf_status_text(d->status), points);
}

void
source_note_mended(struct source *src, const struct damage *d, bool healed)
{
	char place[SENTENCE_BYTES];

	src->damage_told_ns = 0;
	source_touch(src);
	if (!may_tell(src))
		return;
	describe_place(src, d, place, sizeof place);
	server_event(src->server, &src->id, healed ? "block_healed" : "damage_gone",
	    healed ? "%s: healed with the bytes that its source still has" : "%s: no point needs it any more", place);
}

void
source_note_scrubbed(struct source *src)
{
	struct scrub_status t;

	store_get_scrub(src->store, &t);
	src->dirty = true;
	if (t.damaged == 0)
		server_event(src->server, &src->id, "scrub_ended",
		    "%" PRIu64 " bytes were read and are whole; every point of that time is verified", t.bytes);
	else
		server_event(src->server, &src->id, "scrub_ended", "%" PRIu64 " bytes were read; damaged blocks: %zu%s",
		    t.bytes, t.damaged, t.more_damaged ? " or more" : "");
}

/* ---- healing ---- */

void
source_pump_heal(struct source *src)
{
	if (src->damage == NULL || src->session == NULL || !session_can_fetch(src->session) ||
	    !store_next_to_heal(src->store, &src->fetch_volume, &src->fetch_block))
		return;
	session_send_fetch(src->session, ++src->fetch_id, src->fetch_volume, src->fetch_block);
}

void
source_fetched(struct source *src, int status, const void *block)
{
	if (status == 0)
		status = store_heal(src->store, src->fetch_volume, src->fetch_block, block);
	log_info("block_fetched", "source=%s volume=%u block=%" PRIu64 " status=%s", src->id.text, src->fetch_volume,
	    src->fetch_block, status == 0 ? "ok" : hf_status_name(status));
	source_touch(src);
}

/* ---- what is published ---- */

static void
report_damage(struct source *src, struct damage_report *r, const struct damage *d)
{
	const struct store_volume *v = find_volume(src, d->volume);
	size_t i = r->damage_count;

	if (i == STATUS_DAMAGE_MAX)
		return;
	r->damage_count++;
	if (v != NULL) {
		r->damage[i].volume = v->id;
		snprintf(r->damage[i].volume_name, sizeof r->damage[i].volume_name, "%s", v->name);
	}
	r->damage[i].offset = d->block != SCRUB_HEADER_BLOCK ? d->block * BLOCK_BYTES : 0;
	r->damage[i].segment = d->segment;
	r->damage[i].status = d->status;
	r->damage[i].points = store_damage_points(src->store, d, NULL, 0);
}

/* Blocks of one volume that one point lacks. */
static void
report_hit(struct source *src, struct damage_report *r, const struct pit *p, uint32_t volume, uint64_t blocks)
{
	const struct store_volume *v = find_volume(src, volume);

	if (r->hit_count == STATUS_HITS_MAX)
		return;
	r->hits[r->hit_count].pit = p->id;
	if (v != NULL)
		r->hits[r->hit_count].volume = v->id;
	r->hits[r->hit_count++].blocks = blocks;
}

static void
report_point(struct source *src, struct damage_report *r, const struct pit *p, const struct damage *list, size_t count)
{
	const struct checkpoint *newest = store_newest_consistent(src->store);
	uint64_t blocks[STORE_VOLUMES_MAX] = {0};
	bool hit = false;

	for (size_t i = 0; i < count; i++) {
		if (!damage_hits(&list[i], &p->checkpoint))
			continue;
		hit = true;
		for (uint32_t k = 0; k < p->checkpoint.volume_count; k++)
			blocks[k] += p->checkpoint.volumes[k].volume == list[i].volume || list[i].volume == 0;
	}
	for (uint32_t k = 0; k < p->checkpoint.volume_count; k++)
		if (blocks[k] > 0)
			report_hit(src, r, p, p->checkpoint.volumes[k].volume, blocks[k]);
	r->points += hit;
	r->newest |= hit && newest != NULL && newest->lsn == p->lsn;
}

static void
gather(struct source *src, struct damage_report *r, const struct damage *list, size_t count)
{
	struct pit *pits;
	size_t n;

	memset(r, 0, sizeof *r);
	for (size_t i = 0; i < count; i++)
		report_damage(src, r, &list[i]);
	if (store_list_pits(src->store, &pits, &n) < 0)
		return;
	for (size_t i = n; i-- > 0;) /* the newest first: there may not be room for all */
		report_point(src, r, &pits[i], list, count);
	free(pits);
}

void
source_tick_scrub(struct source *src, int64_t now_ns)
{
	struct damage *list;
	struct scrub_status t;
	size_t count;

	src->damage_events = 0;
	store_get_scrub(src->store, &t);
	src->dirty |= t.running;
	if ((t.damaged == 0 && src->damage == NULL) ||
	    (src->damage_told_ns != 0 && now_ns - src->damage_told_ns < REPORT_INTERVAL_NS))
		return;
	src->damage_told_ns = now_ns;
	src->dirty = true;
	list = calloc(DAMAGE_LOOKED_AT, sizeof *list);
	if (list == NULL)
		return;
	count = store_list_damage(src->store, list, DAMAGE_LOOKED_AT);
	if (count == 0) {
		free(src->damage);
		src->damage = NULL;
	} else if (src->damage != NULL || (src->damage = calloc(1, sizeof *src->damage)) != NULL) {
		gather(src, src->damage, list, count);
	}
	free(list);
}

void
source_gather_scrub(const struct source *src, struct source_status *s, struct state_facts *f)
{
	store_get_scrub(src->store, &s->scrub);
	if (src->damage == NULL)
		return;
	s->damage = *src->damage;
	f->newest_damaged = src->damage->newest;
	snprintf(f->damage_text, sizeof f->damage_text,
	    "damaged blocks: %zu%s; points that cannot be exported whole: %zu", s->scrub.damaged,
	    s->scrub.more_damaged ? " or more" : "", src->damage->points);
}
