/* SPDX-License-Identifier: Apache-2.0 */
/* store_delete.c: a volume that is no longer declared goes, for ever, and with it the points that name it. The store is
 * opened for it, so that everything that could object is known, and nothing else is under way.
 *
 * The row's mark is the moment it is decided: points and volume go in that transaction. Its files become rubbish after
 * it; recovery goes on with that. Entries of the journal that belong to it are read by nobody any more, and fall away
 * as history is folded. */
#include "storage/store_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"
#include "storage/discard.h"

struct deletion {
	struct store *s;
	struct disk *d;
	const struct volume *volume;
	struct pit *pits; /* all that are listed */
	size_t pit_count;
	struct id *going; /* ids of those that name the volume, and have rows */
	size_t going_count, named_count;
	struct hf_error *err;
};

/* "data (vol-...), ..." */
static void
list_retired(const struct store *s, char *ret_text, size_t size)
{
	size_t len = 0;

	snprintf(ret_text, size, "none");
	for (uint32_t i = 0; i < s->volume_count && len < size; i++)
		if (!s->volumes[i]->info.declared)
			len += (size_t)snprintf(ret_text + len, size - len, "%s%s (%s)", len > 0 ? ", " : "",
			    s->volumes[i]->info.name, s->volumes[i]->info.id.text);
}

/* By id, or by a name that only one of the retired has. */
static int
find_retired(struct deletion *x, const char *text)
{
	const struct store *s = x->s;
	char retired[300];
	unsigned found = 0, declared = 0;

	for (uint32_t i = 0; i < s->volume_count; i++) {
		const struct volume *v = s->volumes[i];

		if (strcmp(v->info.id.text, text) != 0 && strcmp(v->info.name, text) != 0)
			continue;
		declared += v->info.declared;
		found += !v->info.declared;
		if (!v->info.declared)
			x->volume = v;
	}
	if (found == 1)
		return 0;
	if (found == 0 && declared > 0)
		return hf_error_say(x->err, -EBUSY,
		    "%s is replicated today: only a disk that the agent no longer has can be deleted", text);
	list_retired(s, retired, sizeof retired);
	return hf_error_say(x->err, found > 1 ? -EINVAL : -ENOENT, "%s retired volume %s; retired: %s",
	    found > 1 ? "more than one" : "no", text, retired);
}

static int
check_point(struct deletion *x, const struct pit *p)
{
	const struct store *s = x->s;
	char left[UNITS_TEXT_BYTES];

	if (p->held)
		return hf_error_say(x->err, -EBUSY, "%s has it, and is held: release it first", p->id.text);
	if (s->retention.running_ns < p->guarded_ns)
		return hf_error_say(x->err, -EBUSY,
		    "minRetention guards %s, which has it, until the source has run for another %s", p->id.text,
		    duration_format(p->guarded_ns - s->retention.running_ns, left));
	if ((s->has_checkpoint && p->lsn == s->newest_checkpoint.lsn) ||
	    (s->has_consistent && p->lsn == s->newest_consistent.lsn))
		return hf_error_say(x->err, -EBUSY,
		    "the newest point, %s, has it: it can go when the source has made a newer one without it",
		    p->id.text);
	return 0;
}

/* The points that would go with it, if all of them may. */
static int
choose_points(struct deletion *x)
{
	int r = store_list_pits(x->s, &x->pits, &x->pit_count);

	x->going = calloc(x->pit_count + 1, sizeof *x->going);
	if (r < 0 || x->going == NULL)
		return hf_error_set(x->err, -ENOMEM, "%s", x->s->dir);
	for (size_t i = 0; i < x->pit_count && r == 0; i++) {
		const struct pit *p = &x->pits[i];

		if (!checkpoint_has_volume(&p->checkpoint, x->volume->info.volume, NULL))
			continue;
		r = check_point(x, p);
		x->named_count++;
		if (p->kept)
			x->going[x->going_count++] = p->id;
	}
	return r;
}

static int
discard_files(struct deletion *x)
{
	static const char *const suffixes[] = {"img", "sum"};
	const struct store *s = x->s;
	char parent[PATH_MAX_BYTES], name[64];
	int r = 0;

	snprintf(parent, sizeof parent, "%s", s->dir);
	*strrchr(parent, '/') = '\0';
	for (size_t i = 0; i < 2 && r == 0; i++) {
		snprintf(name, sizeof name, "%s.%s", x->volume->info.id.text, suffixes[i]);
		r = discard_file(x->d, parent, s->dir, name);
	}
	if (r == 0)
		r = disk_sync_dir(x->d, parent);
	if (r == 0)
		r = disk_sync_dir(x->d, s->dir);
	return r < 0 ? hf_error_set(
			   x->err, r, "%s is deleted, but its files cannot be moved away", x->volume->info.id.text)
		     : 0;
}

static int
check(struct deletion *x, const char *volume, bool with_points)
{
	int r = find_retired(x, volume);

	if (r == 0)
		r = choose_points(x);
	if (r == 0 && x->named_count > 0 && !with_points)
		r = hf_error_say(x->err, -EBUSY, "%zu points in time have it: it goes only with them (--with-points)",
		    x->named_count);
	return r;
}

static void
free_deletion(struct deletion *x)
{
	free(x->pits);
	free(x->going);
}

int
store_check_delete_volume(struct store *s, const char *volume, bool with_points, struct hf_error *err)
{
	struct deletion x = {.s = s, .err = err};
	int r = check(&x, volume, with_points);

	free_deletion(&x);
	return r;
}

static int
delete_volume(struct deletion *x, const char *volume, bool with_points, size_t *ret_points)
{
	int r = check(x, volume, with_points);

	if (r == 0)
		r = catalog_delete_volume(x->s->catalog, x->volume->info.volume, x->going, x->going_count, x->err);
	if (r < 0)
		return r;
	*ret_points = x->named_count;
	/* A copy from before would name files that are not there any more. */
	r = catalog_write_copy(x->s->catalog, x->d, x->err);
	return r < 0 ? r : discard_files(x);
}

int
store_delete_volume(struct disk *d, const struct store_config *config, const char *volume, bool with_points,
    size_t *ret_points, struct hf_error *err)
{
	struct deletion x = {.d = d, .err = err};
	int r = store_open(d, config, &x.s, err);

	if (r < 0)
		return r;
	r = delete_volume(&x, volume, with_points, ret_points);
	free_deletion(&x);
	store_close(x.s, d);
	return r;
}
