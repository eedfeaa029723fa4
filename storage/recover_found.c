/* SPDX-License-Identifier: Apache-2.0 */
/* What lies in the folder of the journal, and what of it goes. */
#include "storage/recover_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/pack.h"

static int
grow_list(void **list, size_t *capacity, size_t count, size_t size)
{
	size_t wanted = *capacity > 0 ? *capacity * 2 : 64;
	void *p;

	if (count < *capacity)
		return 0;
	p = realloc(*list, wanted * size);
	if (p == NULL)
		return -ENOMEM;
	*list = p;
	*capacity = wanted;
	return 0;
}

/* "00000042" and the given suffix, nothing else: the number; 0 if it is not such a name. */
static uint64_t
numbered(const char *name, const char *suffix)
{
	char *end;
	uint64_t number;

	if (name[0] < '0' || name[0] > '9')
		return 0;
	number = strtoull(name, &end, 10);
	return strcmp(end, suffix) == 0 ? number : 0;
}

static void
note_number(struct recovery *v, uint64_t number, bool is_run)
{
	void *list = v->found;

	v->status = grow_list(&list, &v->capacity, v->count, sizeof *v->found);
	v->found = list;
	if (v->status == 0)
		v->found[v->count++] = (struct found){.number = number, .has_segment = !is_run, .has_run = is_run};
}

static void
each_journal_file(void *arg, const char *name)
{
	struct recovery *v = arg;
	uint64_t segment = numbered(name, ".seg"), run = numbered(name, ".run");

	if (v->status < 0)
		return;
	if (segment != 0)
		note_number(v, segment, false);
	else if (run != 0)
		note_number(v, run, true);
	else if (numbered(name, ".run.tmp") != 0)
		(void)recovery_remove_file(v, v->s->journal_dir, name); /* written again when it is wanted */
}

static int
by_number(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

/* A segment and its run are one. */
static void
match_runs(struct recovery *v)
{
	size_t n = 0;

	for (size_t i = 0; i < v->count; i++) {
		struct found *before = n > 0 ? &v->found[n - 1] : NULL;

		if (before == NULL || before->number != v->found[i].number) {
			v->found[n++] = v->found[i];
			continue;
		}
		before->has_segment |= v->found[i].has_segment;
		before->has_run |= v->found[i].has_run;
	}
	v->count = n;
}

/* Of a segment, or of a packed one; of anything else it is neither. */
static int
decode_header(struct found *f, const unsigned char *page)
{
	struct pack_header h;
	int r = segment_header_decode(page, &f->header);

	f->valid = r == 0 && f->header.number == f->number;
	if (r != -HF_ECORRUPT)
		return r;
	r = pack_header_decode(page, &h);
	f->packed = r == 0 && h.number == f->number;
	if (f->packed) {
		f->header.source = h.source;
		f->header.digest_seed = h.digest_seed;
	}
	return r;
}

static int
read_header(struct recovery *v, struct found *f)
{
	struct store *s = v->s;
	unsigned char *page = buffer_alloc(SEGMENT_HEADER_BYTES);
	char path[PATH_MAX_BYTES];
	uint64_t bytes;
	int r;

	if (page == NULL)
		return -ENOMEM;
	segment_path(path, sizeof path, s->journal_dir, f->number);
	r = recovery_open_file(v, path, f->number, &f->file);
	if (r == 0)
		r = disk_size(v->d, f->file->file, &bytes);
	if (r == 0 && bytes >= SEGMENT_HEADER_BYTES)
		r = disk_read_now(v->d, f->file->file, page, SEGMENT_HEADER_BYTES, 0);
	else if (r == 0)
		memset(page, 0, SEGMENT_HEADER_BYTES);
	if (r < 0) {
		buffer_free(page, SEGMENT_HEADER_BYTES);
		return hf_error_set(v->err, r, "%s", path);
	}
	r = decode_header(f, page);
	buffer_free(page, SEGMENT_HEADER_BYTES);
	if (r == -HF_EFORMAT)
		return hf_error_set(v->err, r, "%s", path);
	if (!f->valid && !f->packed)
		return 0;
	if (s->source.text[0] == '\0') {
		s->source = f->header.source;
		s->digest_seed = f->header.digest_seed;
	}
	if (strcmp(f->header.source.text, s->source.text) != 0)
		return hf_error_say(
		    v->err, -HF_ECORRUPT, "%s belongs to another source (%s)", path, f->header.source.text);
	return 0;
}

/* One that is damaged counts as none: the segment is read instead, if it can be. One of a newer version is not ours to
 * do without and to write anew. */
static int
open_run(struct recovery *v, struct found *f)
{
	struct hf_error err;
	char path[PATH_MAX_BYTES];
	int r;

	run_path(path, sizeof path, v->s->journal_dir, f->number);
	r = run_open(v->d, path, &f->run, &f->info, &err);
	if (r == -HF_EFORMAT || r == -ENOMEM)
		return hf_error_set(v->err, r, "%s", path);
	if (r == 0 && (f->info.number != f->number || f->info.digest_seed != v->s->digest_seed)) {
		run_unref(f->run, v->d);
		f->run = NULL;
	}
	return 0;
}

bool
found_is_merged(const struct found *f)
{
	return f->run != NULL && f->info.merged && !f->superseded;
}

bool
found_stands_by_run(const struct found *f)
{
	return found_is_merged(f) || (f->run != NULL && !f->superseded && f->has_segment && !f->valid);
}

struct found *
recovery_find_number(struct recovery *v, uint64_t number)
{
	struct found key = {.number = number};

	return v->count > 0 ? bsearch(&key, v->found, v->count, sizeof key, by_number) : NULL;
}

/* Whatever has a number in the range of the merged run i is its data, or not needed any more. */
static void
supersede(struct recovery *v, size_t i)
{
	uint64_t first = v->found[i].info.segment_first;

	while (i-- > 0 && v->found[i].number >= first)
		v->found[i].superseded = true;
}

int
recovery_find_segments(struct recovery *v)
{
	struct store *s = v->s;
	int r = disk_list(v->d, s->journal_dir, each_journal_file, v);

	if (r < 0)
		return hf_error_set(v->err, r, "cannot list %s", s->journal_dir);
	if (v->status < 0)
		return hf_error_set(v->err, v->status, "%s", s->journal_dir);
	if (v->count > 1)
		qsort(v->found, v->count, sizeof *v->found, by_number);
	match_runs(v);
	for (size_t i = 0; i < v->count && r == 0; i++)
		if (v->found[i].has_segment)
			r = read_header(v, &v->found[i]);
	for (size_t i = 0; i < v->count && r == 0; i++)
		if (v->found[i].has_run)
			r = open_run(v, &v->found[i]);
	for (size_t i = v->count; i-- > 0;)
		if (found_is_merged(&v->found[i]))
			supersede(v, i);
	if (v->count > 0)
		s->segment_number_last = v->found[v->count - 1].number;
	return r;
}

static int
remove_numbered(struct recovery *v, uint64_t number, const char *suffix)
{
	char name[32];
	int r;

	snprintf(name, sizeof name, "%08llu%s", (unsigned long long)number, suffix);
	r = recovery_remove_file(v, v->s->journal_dir, name);
	return r < 0 && r != -ENOENT ? hf_error_set(v->err, r, "%s/%s", v->s->journal_dir, name) : 0;
}

int
recovery_sync_journal_dir(struct recovery *v)
{
	int r = v->read_only ? 0 : disk_sync_dir(v->d, v->s->journal_dir);

	return r < 0 ? hf_error_set(v->err, r, "cannot sync %s", v->s->journal_dir) : 0;
}

static int
remove_segment(struct recovery *v, struct found *f)
{
	shared_file_unref(f->file, v->d);
	f->file = NULL;
	return remove_numbered(v, f->number, ".seg");
}

int
recovery_remove_untaken(struct recovery *v)
{
	int r = 0;

	for (size_t i = 0; i < v->count && r == 0; i++)
		if (v->found[i].file != NULL)
			r = remove_segment(v, &v->found[i]);
	if (r == 0)
		r = recovery_sync_journal_dir(v);
	for (size_t i = 0; i < v->count && r == 0; i++)
		if (v->found[i].has_run && !v->found[i].taken)
			r = remove_numbered(v, v->found[i].number, ".run");
	return r == 0 ? recovery_sync_journal_dir(v) : r;
}
