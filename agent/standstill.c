/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/standstill.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/freezable.h"
#include "agent/freeze.h"
#include "agent/frozen.h"
#include "agent/sweep.h"
#include "proto/common/log.h"
#include "proto/common/units.h"

enum { SPACING_MAX = 64 }; /* passes between attempts that are likely to fail */

struct standstill {
	const struct pass_config *config;
	struct link *link;
	struct volumes *volumes;
	struct copier *copier;
	struct freeze *freeze;
	struct node_map maps[VOLUMES_MAX]; /* by index of volume; chunks NULL = none */
	unsigned skip, spacing;
	bool is_told; /* the administrator knows that freezing does not work at present */
};

/* One attempt under way. */
struct attempt {
	struct piece *lists[VOLUMES_MAX];
	bool covers[VOLUMES_MAX];
	size_t kept;
	int64_t start_ns;
};

int
standstill_create(const struct pass_config *config, struct link *l, struct volumes *vs, struct copier *c,
    struct standstill **ret_standstill, struct hf_error *err)
{
	struct standstill *s = calloc(1, sizeof *s);
	int r;

	if (s == NULL)
		return hf_error_set(err, -ENOMEM, "freeze");
	s->config = config;
	s->link = l;
	s->volumes = vs;
	s->copier = c;
	r = freeze_create(config->freeze_mountpoints, config->freeze_count, config->record_directory, &s->freeze, err);
	if (r == 0) /* now that there is a directory for records */
		r = freezable_check(config->freeze_mountpoints, config->freeze_count, config->state_directory,
		    config->record_directory, err);
	if (r < 0) {
		standstill_destroy(s);
		return r;
	}
	*ret_standstill = s;
	return 0;
}

void
standstill_destroy(struct standstill *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < VOLUMES_MAX; i++)
		node_map_fini(&s->maps[i]);
	freeze_destroy(s->freeze);
	free(s);
}

int
standstill_prepare(struct standstill *s)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->volumes->count; i++) {
		node_map_fini(&s->maps[i]);
		r = node_map_init(&s->maps[i], volume_nodes(&s->volumes->list[i]));
	}
	return r;
}

struct node_map *
standstill_map(struct standstill *s, const struct volume *v)
{
	return s != NULL ? &s->maps[v->index] : NULL;
}

/* ---- when ---- */

static void
postpone(struct standstill *s, const char *event, const char *why)
{
	s->spacing = s->spacing == 0 ? 1 : s->spacing * 2 < SPACING_MAX ? s->spacing * 2 : SPACING_MAX;
	s->skip = s->spacing;
	if (!s->is_told)
		link_notice(s->link, event, "%s; tried again less and less often", why);
	s->is_told = true;
	log_info(event, "skip=%u msg=\"%s\"", s->skip, why);
}

/* At the rate the reading threads had together. 0 if nothing was measured. */
static int64_t
reading_ns(struct standstill *s, uint64_t bytes)
{
	uint64_t read_bytes, busy_ns;

	reader_get_totals(s->copier->reader, &read_bytes, &busy_ns);
	if (read_bytes == 0)
		return 0;
	return (int64_t)((double)bytes * (double)busy_ns / (double)read_bytes / READER_THREADS);
}

bool
standstill_is_due(struct standstill *s, uint64_t pass_bytes)
{
	char text[SENTENCE_BYTES], bytes[UNITS_TEXT_BYTES], needs[UNITS_TEXT_BYTES], may[UNITS_TEXT_BYTES];
	int64_t ns;

	if (s->skip > 0) {
		s->skip--;
		return false;
	}
	ns = reading_ns(s, pass_bytes);
	/* The estimate was made at idle priority, beside other work: an attempt now and then finds
	 * out. */
	if (ns <= s->config->freeze_timeout_ns || s->spacing == SPACING_MAX)
		return true;
	snprintf(text, sizeof text, "reading %s takes about %s, longer than file systems may stay frozen (%s)",
	    size_format(pass_bytes, bytes), duration_format(ns, needs),
	    duration_format(s->config->freeze_timeout_ns, may));
	postpone(s, "freeze_too_slow", text);
	return false;
}

/* ---- the cut ---- */

static int
read_frozen(struct standstill *s, struct attempt *a)
{
	int64_t deadline_ns = a->start_ns + s->config->freeze_timeout_ns;
	int r = 0;

	reader_set_urgent(s->copier->reader, true);
	for (size_t i = 0; r == 0 && i < s->volumes->count; i++)
		r = frozen_read(s->copier, &s->volumes->list[i], &s->maps[i], deadline_ns, &a->kept, &a->lists[i]);
	reader_set_urgent(s->copier->reader, false);
	return r;
}

static void
drop_pieces(struct standstill *s, struct attempt *a)
{
	for (size_t i = 0; i < s->volumes->count; i++)
		while (a->lists[i] != NULL) {
			struct piece *p = a->lists[i];

			a->lists[i] = p->next;
			piece_put(s->copier, p);
		}
}

static int
send_pieces(struct standstill *s, struct attempt *a)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->volumes->count; i++) {
		r = sweep_pieces(s->copier, &s->volumes->list[i], a->lists[i]);
		a->lists[i] = NULL;
	}
	if (r == 0)
		r = sender_flush(s->copier->sender);
	if (r == 0)
		r = link_flush(s->link);
	drop_pieces(s, a);
	return r;
}

/* A volume whose file systems were not all frozen is good only if nothing on it moved between the
 * pass and now. */
static const struct volume *
find_moving(const struct standstill *s, const struct attempt *a)
{
	for (size_t i = 0; i < s->volumes->count; i++)
		if (!a->covers[i] && a->lists[i] != NULL)
			return &s->volumes->list[i];
	return NULL;
}

/* True if what was read is one moment of all volumes; else the administrator is told why not. */
static bool
judge(struct standstill *s, const struct attempt *a, int read_result, int thaw_result)
{
	const struct volume *moving = find_moving(s, a);
	char text[SENTENCE_BYTES], may[UNITS_TEXT_BYTES];

	if (read_result == -ENOBUFS) {
		postpone(s, "freeze_timeout", "more than 256 MiB changed during the pass before the freeze; thawed");
		return false;
	}
	if (read_result < 0 || thaw_result < 0) {
		snprintf(text, sizeof text, "the volumes could not be read within %s of freezing; thawed",
		    duration_format(s->config->freeze_timeout_ns, may));
		postpone(s, "freeze_timeout", text);
		return false;
	}
	if (moving != NULL) {
		if (!s->is_told)
			link_notice(s->link, "freeze_incomplete",
			    "%s changed while the file systems stood frozen: not everything "
			    "mounted from it is named with "
			    "--freeze",
			    moving->name);
		s->is_told = true;
		return false;
	}
	s->skip = s->spacing = 0;
	s->is_told = false;
	return true;
}

static int
read_and_thaw(struct standstill *s, struct attempt *a, struct cut *cut)
{
	int thaw_result, r = read_frozen(s, a);

	thaw_result = freeze_end(s->freeze);
	if (s->copier->failed != NULL || r == -ECANCELED || r == -ENOMEM) {
		drop_pieces(s, a);
		return r;
	}
	log_debug("frozen", "ms=%lld kept=%zu read=%d thaw=%d",
	    (long long)((clock_monotonic_ns() - a->start_ns) / 1000000), a->kept, r, thaw_result);
	cut->is_clean = judge(s, a, r, thaw_result);
	cut->has_sent = a->kept > 0;
	return send_pieces(s, a);
}

int
standstill_cut(struct standstill *s, struct cut *ret_cut)
{
	struct attempt a = {.start_ns = 0};
	struct hf_error err = {0};

	memset(ret_cut, 0, sizeof *ret_cut);
	for (size_t i = 0; i < s->volumes->count; i++)
		a.covers[i] = freeze_covers(s->freeze, &s->volumes->list[i].disk);
	a.start_ns = clock_monotonic_ns();
	if (freeze_begin(s->freeze, s->config->freeze_timeout_ns, &err) < 0) {
		postpone(s, err.code == -ETIME ? "freeze_timeout" : "freeze_failed", err.text);
		return 0;
	}
	ret_cut->clock_ns = clock_real_ns();
	return read_and_thaw(s, &a, ret_cut);
}
