/* SPDX-License-Identifier: Apache-2.0 */
/* recover.c: what a source's folder says after any stop: read, brought in order, and synced before anything relies
 * on it.
 *
 * 1. Volumes: from the headers of their digest files; what is declared and how it is called from the catalog.
 * 2. Segments, in order of number, from the last that begins before the base: each must begin where the journal stands
 *    after the one before. The state after a segment comes from its run, else from reading its descriptors. A merged
 * run stands for a range of them, and says which of their files, and which packed ones, it needs. What is not known to
 * have been durable is written once more where it lies, and synced: a sync that failed before the restart would
 * otherwise report success now.
 * 3. Does the journal begin and end where the catalog, or any segment, proves that it must? Else acknowledged records
 *    are missing: the source is not opened, and nothing is changed.
 * 4. Segments folded into the base, those off the chain (what a cut or a failed write left), and what a merged run
 *    supersedes are removed.
 * 5. The tail is sealed: nothing is ever appended to a segment after a restart.
 * 6. Whatever lies beyond a volume's frontier in its staging and digest files is swept away.
 *
 * Read-only (offline export) takes the same way and changes nothing. */
#include "storage/store_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/pack.h"
#include "storage/plant.h"

struct found { /* a number in the journal's folder: a segment, a packed one, a run */
	uint64_t number;
	bool has_segment, has_run;
	bool valid;      /* the segment's header can be read */
	bool packed;     /* it is a packed one */
	bool superseded; /* its number is in the range of a merged run: at most its data is needed */
	bool taken;      /* its run is used */
	uint64_t limit;  /* where a later segment says the journal went on: at most to there do its records count */
	struct shared_file *file;
	struct segment_header header;
	struct run *run; /* NULL though there is one: it is damaged */
	struct run_info info;
};

struct recovery {
	struct store *s;
	struct disk *d;
	struct hf_error *err;
	bool read_only, first;
	struct found *found;
	size_t count, capacity;
	struct journal_state state;
	struct segment *scanning;            /* the segment whose records are being read */
	int status;                          /* of a callback */
	uint32_t deleted[STORE_VOLUMES_MAX]; /* numbers of volumes that were deleted */
	size_t deleted_count;
};

static int
recovery_remove_file(struct recovery *v, const char *dir, const char *name)
{
	char path[PATH_MAX_BYTES];

	if (v->read_only)
		return 0;
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return disk_unlink(v->d, path);
}

/* ---- 1: volumes ---- */

static void
each_volume_file(void *arg, const char *name)
{
	struct recovery *v = arg;
	struct store *s = v->s;
	char text[ID_BYTES];
	struct volume *vol;
	size_t n = strlen(name);

	if (v->status < 0 || n < 5 || n >= ID_BYTES + 4 || strcmp(name + n - 4, ".sum") != 0)
		return;
	snprintf(text, sizeof text, "%.*s", (int)(n - 4), name);
	if (!id_valid("vol", text))
		return;
	if (s->volume_count == STORE_VOLUMES_MAX) {
		v->status =
		    hf_error_say(v->err, -HF_ECORRUPT, "%s holds more than %d volumes", s->dir, STORE_VOLUMES_MAX);
		return;
	}
	vol = calloc(1, sizeof *vol);
	if (vol == NULL) {
		v->status = -ENOMEM;
		return;
	}
	(void)id_parse("vol", text, &vol->info.id);
	s->volumes[s->volume_count++] = vol;
}

static int
recovery_open_file(struct recovery *v, const char *path, uint64_t number, struct shared_file **ret_file)
{
	return shared_file_open(v->d, path, v->read_only ? DISK_READ : DISK_WRITE, number, ret_file);
}

static int
open_volume(struct recovery *v, struct volume *vol)
{
	struct store *s = v->s;
	char path[PATH_MAX_BYTES];
	struct sum_header h;
	int r;

	volume_path(path, s, &vol->info.id, "img");
	r = recovery_open_file(v, path, 0, &vol->img);
	if (r < 0)
		return hf_error_set(v->err, r, "%s", path);
	volume_path(path, s, &vol->info.id, "sum");
	r = recovery_open_file(v, path, 0, &vol->sum);
	if (r == 0)
		r = sum_header_read(v->d, vol->sum->file, &h);
	if (r < 0)
		return hf_error_set(v->err, r, "%s", path);
	if (s->source.text[0] == '\0') { /* no catalog: the files say whose they are */
		s->source = h.source;
		s->digest_seed = h.digest_seed;
	}
	if (strcmp(h.source.text, s->source.text) != 0 || h.digest_seed != s->digest_seed)
		return hf_error_say(v->err, -HF_ECORRUPT, "%s belongs to another source (%s)", path, h.source.text);
	if (strcmp(h.volume_id.text, vol->info.id.text) != 0)
		return hf_error_say(
		    v->err, -HF_ECORRUPT, "%s is the digest file of another volume (%s)", path, h.volume_id.text);
	if (h.volume == 0 || store_find_volume(s, h.volume) != NULL)
		return hf_error_say(v->err, -HF_ECORRUPT, "%s: there is another volume of number %u", path, h.volume);
	vol->info.volume = h.volume;
	vol->info.size_bytes = h.size_bytes;
	vol->readable = true;
	vol->info.declared = s->catalog == NULL; /* else its row says so */
	if (h.volume > s->volume_last)
		s->volume_last = h.volume;
	snprintf(vol->info.name, sizeof vol->info.name, "%s", h.name);
	snprintf(vol->info.identity, sizeof vol->info.identity, "%s", h.identity);
	if (h.fold_lsn > s->fold_lsn)
		s->fold_lsn = h.fold_lsn;
	return 0;
}

static bool
file_is_missing(struct recovery *v, const struct volume *vol, const char *suffix)
{
	struct disk_file *f = NULL;
	char path[PATH_MAX_BYTES];
	int r;

	volume_path(path, v->s, &vol->info.id, suffix);
	r = disk_open(v->d, path, DISK_READ, &f);
	if (r == 0)
		disk_close(v->d, f);
	return r == -ENOENT;
}

/* Nothing, or nothing but zeros, where the header's one sector goes. */
static bool
header_is_missing(struct recovery *v, const struct volume *vol)
{
	enum { SECTOR_BYTES = 512 };
	unsigned char *page = buffer_alloc(BLOCK_BYTES);
	struct disk_file *f = NULL;
	char path[PATH_MAX_BYTES];
	uint64_t bytes = 0;
	bool missing = false;
	int r;

	volume_path(path, v->s, &vol->info.id, "sum");
	r = page == NULL ? -ENOMEM : disk_open(v->d, path, DISK_READ, &f);
	if (r == 0)
		r = disk_size(v->d, f, &bytes);
	if (r == 0 && bytes >= BLOCK_BYTES)
		r = disk_read_now(v->d, f, page, BLOCK_BYTES, 0);
	if (r == 0)
		missing = page[0] == 0 && memcmp(page, page + 1, SECTOR_BYTES - 1) == 0;
	disk_close(v->d, f);
	buffer_free(page, BLOCK_BYTES);
	return missing;
}

/* A volume whose making was cut off before both names and its header were durable: nothing was ever acknowledged of it.
 */
static bool
is_unmade(struct recovery *v, const struct volume *vol)
{
	return file_is_missing(v, vol, "img") || header_is_missing(v, vol);
}

static void
name_volume(struct store *s, const struct catalog_volume *row)
{
	struct volume *vol = store_find_volume(s, row->volume);

	vol->has_row = true;
	vol->info.declared = !row->retired;
	vol->info.boot_disk = row->boot_disk;
	vol->info.equal_ns = row->equal_ns;
	snprintf(vol->info.name, sizeof vol->info.name, "%s", row->name);
	snprintf(vol->info.device_name, sizeof vol->info.device_name, "%s", row->device_name);
}

static bool
has_row(const struct catalog_volume *rows, size_t count, const struct id *id)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(rows[i].id.text, id->text) == 0)
			return true;
	return false;
}

static void
remove_volume_files(struct recovery *v, const struct id *id)
{
	char name[PATH_MAX_BYTES];

	snprintf(name, sizeof name, "%s.sum", id->text);
	(void)recovery_remove_file(v, v->s->dir, name);
	snprintf(name, sizeof name, "%s.img", id->text);
	(void)recovery_remove_file(v, v->s->dir, name);
}

static void
remove_volume(struct recovery *v, uint32_t i)
{
	struct store *s = v->s;
	struct volume *vol = s->volumes[i];

	remove_volume_files(v, &vol->info.id);
	volume_destroy(vol, v->d);
	s->volumes[i] = s->volumes[--s->volume_count];
}

/* Files without a row: making the volume was cut off before the catalog knew it; the agent was never told its number.
 */
static void
sweep_volumes(struct recovery *v, const struct catalog_volume *rows, size_t row_count)
{
	struct store *s = v->s;

	for (uint32_t i = s->volume_count; i-- > 0;)
		if (!has_row(rows, row_count, &s->volumes[i]->info.id) && is_unmade(v, s->volumes[i]))
			remove_volume(v, i);
}

/* Its staging file has no data, or is not there. */
static bool
recovery_holds_nothing(struct recovery *v, const struct volume *vol)
{
	struct disk_file *f = NULL;
	char path[PATH_MAX_BYTES];
	uint64_t bytes, data = 0;
	int r;

	volume_path(path, v->s, &vol->info.id, "img");
	r = disk_open(v->d, path, DISK_READ, &f);
	if (r < 0)
		return r == -ENOENT;
	r = disk_size(v->d, f, &bytes);
	if (r == 0)
		r = disk_next_data(v->d, f, 0, &data);
	disk_close(v->d, f);
	return r == 0 && data >= bytes;
}

/* Without the catalog nobody says that a volume was made: one without a header may as well be damaged, unless there is
 * nothing in it. */
static void
sweep_empty_volumes(struct recovery *v)
{
	struct store *s = v->s;

	for (uint32_t i = s->volume_count; i-- > 0;)
		if (header_is_missing(v, s->volumes[i]) && recovery_holds_nothing(v, s->volumes[i]))
			remove_volume(v, i);
}

/* The same, cut off later: whole, but neither the catalog nor the journal knows it. Kept, it might be taken for the one
 * that was made after it. */
static void
recovery_sweep_unknown_volumes(struct recovery *v)
{
	struct store *s = v->s;

	for (uint32_t i = s->volume_count; s->catalog != NULL && i-- > 0;)
		if ((!s->volumes[i]->has_row || PLANTED(38)) &&
		    journal_state_volume(&v->state, s->volumes[i]->info.volume) == NULL)
			remove_volume(v, i);
}

/* Its row outlives it, so that its number is never used again; its files may, either of them, if their going was cut
 * off. */
static void
note_deleted(struct recovery *v, const struct catalog_volume *row)
{
	struct store *s = v->s;

	remove_volume_files(v, &row->id);
	for (uint32_t i = s->volume_count; i-- > 0;)
		if (strcmp(s->volumes[i]->info.id.text, row->id.text) == 0)
			remove_volume(v, i);
	if (row->volume > s->volume_last)
		s->volume_last = row->volume;
	v->deleted[v->deleted_count++] = row->volume;
}

static int
recovery_find_volumes(struct recovery *v)
{
	static const struct catalog_volume none;
	struct store *s = v->s;
	struct catalog_volume *rows = NULL;
	size_t row_count = 0;
	int r = disk_list(v->d, s->dir, each_volume_file, v);

	if (r < 0)
		return hf_error_set(v->err, r, "cannot list %s", s->dir);
	if (v->status < 0)
		return v->status;
	if (s->catalog != NULL) {
		rows = calloc(STORE_VOLUMES_MAX, sizeof none);
		r = rows == NULL ? -ENOMEM
				 : catalog_list_volumes(s->catalog, rows, STORE_VOLUMES_MAX, &row_count, v->err);
		if (r == 0)
			sweep_volumes(v, rows, row_count);
		for (size_t i = 0; i < row_count && r == 0; i++)
			if (rows[i].deleted)
				note_deleted(v, &rows[i]);
	}
	if (s->catalog == NULL)
		sweep_empty_volumes(v);
	for (uint32_t i = 0; i < s->volume_count && r == 0; i++)
		r = open_volume(v, s->volumes[i]);
	for (size_t i = 0; i < row_count && r == 0; i++) {
		const struct volume *vol = store_find_volume(s, rows[i].volume);

		if (rows[i].deleted)
			continue;
		if (vol == NULL || strcmp(vol->info.id.text, rows[i].id.text) != 0)
			r = hf_error_say(v->err, -HF_ECORRUPT, "the files of %s (%s) are missing from %s",
			    rows[i].id.text, rows[i].name, s->dir);
		else
			name_volume(s, &rows[i]);
	}
	free(rows);
	return r;
}

/* ---- 2: segments ---- */

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

static bool
found_is_merged(const struct found *f)
{
	return f->run != NULL && f->info.merged && !f->superseded;
}

/* What the header of the segment would say its run says too: of one that was merged, and of one whose header has
 * rotted.
 */
static bool
found_stands_by_run(const struct found *f)
{
	return found_is_merged(f) || (f->run != NULL && !f->superseded && f->has_segment && !f->valid);
}

static struct found *
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

static int
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

static int
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

/* What nobody has taken. A run goes after its segments, as at the end of a fold: without it nobody could tell that
 * holes were made in them. */
static int
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

/* ---- the chain ---- */

/* It is part of the chain, or may be: a segment, or a merged run that stands for several. */
static bool
is_link(const struct found *f)
{
	return !f->superseded && (f->valid || found_stands_by_run(f));
}

/* LSN of the last record before it. */
static uint64_t
link_start(const struct found *f)
{
	return found_stands_by_run(f) ? f->info.lsn_first - 1 : f->header.start.lsn_last;
}

/* The first segment still needed: the last that begins before the base. Everything in those before is in the base, and
 * of the record at the base the checkpoint is still wanted. */
static size_t
first_needed(const struct recovery *v)
{
	size_t first = 0;

	for (size_t i = 0; i < v->count; i++)
		if (is_link(&v->found[i]) && link_start(&v->found[i]) < v->s->base_lsn)
			first = i;
	return first;
}

static void
set_limits(struct recovery *v)
{
	uint64_t limit = UINT64_MAX;

	for (size_t i = v->count; i-- > 0;) {
		struct found *f = &v->found[i];

		f->limit = limit;
		if (is_link(f) && link_start(f) < limit)
			limit = link_start(f);
	}
}

static void
add_entry(void *arg, const struct entry *e)
{
	struct recovery *v = arg;

	if (v->status < 0)
		return;
	v->status = interval_reserve(v->scanning->interval, 1, 0);
	if (v->status < 0)
		return;
	interval_add(v->scanning->interval, e);
	store_note_entry(v->s, e);
}

static int
on_record(void *arg, const struct segment_header *h, const struct group_header *g, const struct record *r,
    uint64_t payload_file_offset)
{
	struct recovery *v = arg;
	struct checkpoint c;

	if (r->header.type == RECORD_DATA)
		record_entries(r, h->number, payload_file_offset, add_entry, v);
	if (r->header.type != RECORD_CHECKPOINT || v->status < 0)
		return v->status;
	v->status = record_checkpoint_decode(r, &c);
	if (v->status == 0)
		v->status = interval_reserve(v->scanning->interval, 0, 1);
	if (v->status < 0)
		return v->status;
	interval_add_checkpoint(v->scanning->interval, &c);
	store_note_checkpoint(v->s, &c);
	return 0;
}

static int
scan(struct recovery *v, struct found *f, struct segment *g)
{
	const struct segment_scan_events events = {.record = on_record, .settle = !v->read_only && !PLANTED(19)};
	int r;

	v->scanning = g;
	r = segment_scan(v->d, g->file->file, &f->header, f->limit, &v->state, &g->bytes, &events, v);
	if (r == -HF_ECORRUPT)
		return hf_error_say(v->err, r,
		    "acknowledged records are missing from %s: it can be read up to LSN %llu, but more was durable",
		    g->file->path, (unsigned long long)v->state.lsn_last);
	if (r < 0)
		return hf_error_set(v->err, r, "%s", g->file->path);
	if (v->read_only || PLANTED(20))
		return 0;
	r = disk_sync_now(v->d, g->file->file); /* it may be relied on from now on */
	return r < 0 ? hf_error_set(v->err, r, "%s", g->file->path) : 0;
}

static int
note_checkpoints(struct recovery *v, struct run *run)
{
	struct checkpoint *checkpoints;
	size_t count;
	int r = run_checkpoints(run, v->d, &checkpoints, &count);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++)
		store_note_checkpoint(v->s, &checkpoints[i]);
	free(checkpoints);
	return 0;
}

static void
stand_after(struct recovery *v, const struct run_info *info)
{
	v->state = (struct journal_state){
	    .lsn_last = info->lsn_last,
	    .chain = info->chain,
	    .stream_id = info->stream_id,
	    .sequence = info->sequence,
	    .stream_chain = info->stream_chain,
	    .volume_count = info->volume_count,
	};
	memcpy(v->state.volumes, info->volumes, sizeof v->state.volumes);
}

/* Its end state and checkpoints from the run; -HF_ECORRUPT if that is damaged: the segment itself is read instead. */
static int
take_run(struct recovery *v, struct found *f, struct segment *g)
{
	int r;

	if (f->run == NULL || f->info.lsn_first != link_start(f) + 1)
		return -HF_ECORRUPT;
	r = note_checkpoints(v, f->run);
	if (r < 0)
		return r;
	g->run = run_ref(f->run);
	f->taken = true;
	g->info = f->info;
	interval_destroy(g->interval);
	g->interval = NULL;
	g->bytes = g->info.segment_bytes;
	g->sealed = true;
	g->lsn_last = g->info.lsn_last;
	stand_after(v, &g->info);
	return 0;
}

static int
say_no_header(struct recovery *v, const struct found *f)
{
	return hf_error_say(v->err, -HF_ECORRUPT,
	    "%s/%08llu.seg has no header, and %08llu.run cannot be read in its place", v->s->journal_dir,
	    (unsigned long long)f->number, (unsigned long long)f->number);
}

/* A segment with a run was durable to its end, so reading it must lead to where the next one begins. If it does not,
 * the run was a merged one, and what the segment had was given back. */
static int
scan_in_place_of_run(struct recovery *v, struct found *f, struct segment *g)
{
	int r = scan(v, f, g);

	if (r < 0 || f->limit == UINT64_MAX || v->state.lsn_last >= f->limit)
		return r;
	return hf_error_say(v->err, -HF_ECORRUPT,
	    "%s/%08llu.run is damaged, and the segments it was made of do not replace it: the journal can be read up "
	    "to "
	    "LSN %llu, and goes on only after %llu",
	    v->s->journal_dir, (unsigned long long)f->number, (unsigned long long)v->state.lsn_last,
	    (unsigned long long)f->limit);
}

static struct segment *
append_segment(struct recovery *v, struct found *f)
{
	struct segment *g = segment_create(f->number);

	if (g == NULL)
		return NULL;
	g->file = f->file;
	f->file = NULL;
	g->lsn_first = link_start(f) + 1;
	g->begun = true;
	store_append_segment(v->s, g);
	return g;
}

static int
take_segment(struct recovery *v, struct found *f)
{
	struct store *s = v->s;
	struct segment *g = append_segment(v, f);
	int r = -HF_ECORRUPT;

	if (g == NULL)
		return hf_error_set(v->err, -ENOMEM, "%s", s->journal_dir);
	if (f->has_run)
		r = take_run(v, f, g);
	if (r < 0 && !f->valid)
		return say_no_header(v, f);
	if (r < 0)
		r = f->has_run ? scan_in_place_of_run(v, f, g) : scan(v, f, g);
	if (r < 0)
		return r;
	g->capacity = g->bytes;
	s->durable = v->state;
	if (g->run == NULL)
		segment_seal(s, g);
	return 0;
}

/* ---- merged runs ---- */

static int
say_lost(struct recovery *v, const struct found *f, uint64_t number, const char *why)
{
	return hf_error_say(v->err, -HF_ECORRUPT,
	    "%s/%08llu.seg %s: %08llu.run needs it for the history from LSN %llu to %llu", v->s->journal_dir,
	    (unsigned long long)number, why, (unsigned long long)f->number, (unsigned long long)f->info.lsn_first,
	    (unsigned long long)f->info.lsn_last);
}

/* Nothing replaces it: what it leaves out may have been given back. */
static int
say_damaged(struct recovery *v, const struct found *f, int status)
{
	return hf_error_set(v->err, status, "%s/%08llu.run, which alone has the history from LSN %llu to %llu",
	    v->s->journal_dir, (unsigned long long)f->number, (unsigned long long)f->info.lsn_first,
	    (unsigned long long)f->info.lsn_last);
}

/* A file that it lists: a segment of its range, or a packed one. Its own is the segment's already. */
static int
take_data(struct recovery *v, const struct found *f, struct segment *g, const struct run_segment *row)
{
	struct found *file = recovery_find_number(v, row->number);
	struct segment_data *data = &g->data[g->data_count];
	uint64_t bytes;
	int r;

	if (file == NULL || !file->has_segment)
		return say_lost(v, f, row->number, "is missing");
	if (row->number != f->number && file->file == NULL)
		return say_lost(v, f, row->number, "is of another run as well");
	*data = (struct segment_data){.bytes = row->bytes, .live_blocks = row->live_blocks, .held_bytes = row->bytes};
	data->file = row->number == f->number ? shared_file_ref(g->file) : file->file;
	file->file = NULL;
	g->data_count++;
	r = disk_size(v->d, data->file->file, &bytes);
	if (r < 0)
		return hf_error_set(v->err, r, "%s", data->file->path);
	return bytes < row->bytes ? say_lost(v, f, row->number, "is too short") : 0;
}

static int
take_files(struct recovery *v, const struct found *f, struct segment *g)
{
	struct run_segment *rows;
	size_t count;
	int r = run_segments(g->run, v->d, &rows, &count);

	if (r < 0)
		return say_damaged(v, f, r);
	g->data = calloc(count + 1, sizeof *g->data);
	if (g->data == NULL)
		r = hf_error_set(v->err, -ENOMEM, "%s", v->s->journal_dir);
	for (size_t i = 0; i < count && r == 0; i++)
		r = take_data(v, f, g, &rows[i]);
	free(rows);
	return r;
}

static bool
has_all_files(struct recovery *v, const struct found *f)
{
	struct run_segment *rows;
	size_t count, there = 0;

	if (run_segments(f->run, v->d, &rows, &count) < 0)
		return true; /* damaged: take_merged() tells */
	for (size_t i = 0; i < count; i++) {
		const struct found *file = recovery_find_number(v, rows[i].number);

		there += file != NULL && file->has_segment;
	}
	free(rows);
	return there == count;
}

/* Without the catalog nobody tells the base. A fold that was cut off while it removed what it had folded leaves a run
 * longer than its segments. */
static bool
was_folded(struct recovery *v, const struct found *f)
{
	return (v->read_only || v->s->base_unknown) && f->info.lsn_last < v->s->fold_lsn && !has_all_files(v, f);
}

static int
take_merged(struct recovery *v, struct found *f)
{
	struct store *s = v->s;
	struct segment *g;
	int r;

	if (!f->has_segment)
		return say_lost(v, f, f->number, "is missing");
	g = append_segment(v, f);
	if (g == NULL)
		return hf_error_set(v->err, -ENOMEM, "%s", s->journal_dir);
	r = take_run(v, f, g);
	if (r < 0)
		return say_damaged(v, f, r);
	r = take_files(v, f, g);
	if (r < 0)
		return r;
	g->capacity = g->bytes;
	g->unpunched = true;
	s->durable = v->state;
	if (g->info.lsn_last > s->merged_lsn)
		s->merged_lsn = g->info.lsn_last;
	return 0;
}

/* ---- 3 and 4: what is missing, and what is off the chain ---- */

static int
say_missing(struct recovery *v, uint64_t lsn, const char *who)
{
	return hf_error_say(v->err, -HF_ECORRUPT,
	    "acknowledged records are missing from %s: the journal can be read up to LSN %llu, but %s shows that %llu "
	    "was durable",
	    v->s->journal_dir, (unsigned long long)v->state.lsn_last, who, (unsigned long long)lsn);
}

/* Does any group of a segment that is not part of the journal say that more was durable than we have found? */
static int
check_dropped(struct recovery *v, const struct found *f)
{
	uint64_t lsn = 0;
	int r = segment_claim(v->d, f->file->file, f->number, v->s->digest_seed, SEGMENT_HEADER_BYTES, &lsn);

	if (r < 0)
		return hf_error_set(v->err, r, "%s", f->file->path);
	return lsn > v->state.lsn_last ? say_missing(v, lsn, f->file->path) : 0;
}

/* Without the catalog nothing but the journal tells how far a volume is filled: a journal that is not there (another
 * disk, not mounted) must not be taken for one that was never begun. */
static int
check_begun(struct recovery *v)
{
	struct store *s = v->s;

	for (uint32_t i = 0; s->segments == NULL && i < s->volume_count; i++)
		if (!recovery_holds_nothing(v, s->volumes[i]))
			return hf_error_say(v->err, -HF_ECORRUPT,
			    "%s holds data, but the journal in %s has no segment that can be read",
			    s->volumes[i]->img->path, s->journal_dir);
	return 0;
}

/* The catalog is lost, or a copy that may be older than the last fold: the base is taken to be where the journal
 * begins. It may have been later: then what lies between is read from the journal and not from the staging files, which
 * hold the same; and the next fold writes it once more. It cannot have been earlier: a fold releases only what is
 * folded, and the digest files' fold LSN is raised before. */
static int
prove_base(struct recovery *v)
{
	struct store *s = v->s;
	uint64_t begin = s->segments != NULL ? s->segments->lsn_first - 1 : v->state.lsn_last;

	if (begin > s->fold_lsn)
		return hf_error_say(v->err, -HF_ECORRUPT,
		    "the journal in %s begins at LSN %llu, but the staging files prove nothing beyond LSN %llu",
		    s->journal_dir, (unsigned long long)begin + 1, (unsigned long long)s->fold_lsn);
	if (begin > s->base_lsn)
		s->base_lsn = begin;
	return 0;
}

/* What the catalog and the digest files say was durable, and how far back the journal must reach. */
static int
check_reach(struct recovery *v)
{
	struct store *s = v->s;
	uint64_t lsn = s->base_lsn > s->fold_lsn ? s->base_lsn : s->fold_lsn;

	if (s->pit_count > 0 && s->pits[s->pit_count - 1].lsn > lsn)
		lsn = s->pits[s->pit_count - 1].lsn;
	if (lsn > v->state.lsn_last)
		return say_missing(v, lsn, "what is kept of it");
	if (s->base_unknown) {
		int r = check_begun(v);

		return r == 0 ? prove_base(v) : r;
	}
	if (s->segments != NULL && s->catalog != NULL && s->segments->lsn_first > s->base_lsn + 1)
		return hf_error_say(v->err, -HF_ECORRUPT,
		    "the journal in %s begins at LSN %llu, but it is needed from %llu on", s->journal_dir,
		    (unsigned long long)s->segments->lsn_first, (unsigned long long)s->base_lsn + 1);
	return 0;
}

static bool
fits(const struct recovery *v, const struct found *f)
{
	if (!is_link(f) || link_start(f) != v->state.lsn_last)
		return false;
	return found_stands_by_run(f) || f->header.start.chain == v->state.chain;
}

/* Without the catalog nobody tells the base. Segments before it may be gone, any of them: what lies before a gap is in
 * the staging files, and points before the fold LSN are gone. */
static bool
follows_a_gap(const struct recovery *v, const struct found *f)
{
	return (v->read_only || v->s->base_unknown) && is_link(f) && link_start(f) > v->state.lsn_last &&
	       link_start(f) < v->s->fold_lsn;
}

static void
forget_segments(struct recovery *v)
{
	struct store *s = v->s;

	while (s->segments != NULL) {
		struct segment *g = s->segments;

		s->segments = g->next;
		segment_destroy(g, v->d);
	}
	s->segments_tail = NULL;
	marks_fini(&s->marks);
	s->has_checkpoint = s->has_consistent = false;
}

static void
begin_at(struct recovery *v, const struct found *f)
{
	if (found_stands_by_run(f)) /* its run knows the rest, at its end */
		v->state = (struct journal_state){.lsn_last = link_start(f)};
	else
		v->state = f->header.start;
}

/* Follow the chain from the first segment that is needed. */
static int
take_segments(struct recovery *v, size_t first)
{
	int r = 0;

	v->first = true;
	for (size_t i = first; i < v->count && r == 0; i++) {
		struct found *f = &v->found[i];

		if (found_is_merged(f) && was_folded(v, f))
			continue;
		if (follows_a_gap(v, f)) {
			forget_segments(v);
			v->first = true;
		}
		if (v->first && is_link(f)) {
			begin_at(v, f);
			v->first = false;
		}
		if (fits(v, f))
			r = found_is_merged(f) ? take_merged(v, f) : take_segment(v, f);
	}
	return r;
}

static int
recovery_read_journal(struct recovery *v)
{
	size_t first;
	int r = recovery_find_segments(v);

	if (r < 0)
		return r;
	set_limits(v);
	first = first_needed(v);
	r = take_segments(v, first);
	for (size_t i = first; i < v->count && r == 0; i++)
		if (v->found[i].file != NULL && !v->found[i].superseded && !v->found[i].packed)
			r = check_dropped(v, &v->found[i]);
	if (r == 0)
		r = check_reach(v);
	if (r == 0 && !PLANTED(47))
		r = recovery_sync_journal_dir(v); /* a merged run that was renamed before a kill is relied on now */
	return r == 0 ? recovery_remove_untaken(v) : r;
}

/* ---- 6: beyond the frontier ---- */

static int
sweep_staging(struct recovery *v, struct volume *vol, uint64_t frontier)
{
	struct disk_file *f = vol->img->file;
	int r = disk_truncate(v->d, f, frontier * BLOCK_BYTES);

	if (r == 0)
		r = disk_truncate(v->d, f, volume_blocks(vol) * BLOCK_BYTES);
	return r == 0 ? disk_sync_now(v->d, f) : r;
}

/* A catalog that was lost does not tell the numbers of volumes that are gone: the journal does, as far as it names
 * them. And of a checkpoint that names a volume that was deleted nothing can be restored whole. */
static void
recovery_settle_deleted(struct recovery *v)
{
	struct store *s = v->s;

	for (uint32_t i = 0; i < v->state.volume_count; i++)
		if (v->state.volumes[i].volume > s->volume_last)
			s->volume_last = v->state.volumes[i].volume;
	for (size_t i = 0; i < v->deleted_count; i++)
		marks_drop_volume(&s->marks, v->deleted[i]);
}

static int
recovery_settle_volume(struct recovery *v, struct volume *vol)
{
	struct store *s = v->s;
	const struct run_volume *known = journal_state_volume(&s->durable, vol->info.volume);
	uint64_t frontier = known != NULL ? known->frontier_blocks : 0;
	int r;

	vol->info.frontier_blocks = vol->info.frontier_received_blocks = frontier;
	vol->logged = known != NULL && known->size_bytes == vol->info.size_bytes;
	if (v->read_only || frontier >= volume_blocks(vol))
		return 0;
	r = sweep_staging(v, vol, frontier);
	if (r == 0 && (vol->cursor = calloc(1, sizeof *vol->cursor)) == NULL)
		r = -ENOMEM;
	if (r == 0) /* sweeps the digest file too */
		r = sum_cursor_load(vol->cursor, v->d, vol->sum->file, s->digest_seed, frontier);
	if (r == 0)
		r = disk_sync_now(v->d, vol->sum->file);
	return r < 0 ? hf_error_set(v->err, r, "%s", vol->img->path) : 0;
}

int
store_recover(struct store *s, struct disk *d, bool read_only, struct hf_error *err)
{
	struct recovery v = {.s = s, .d = d, .err = err, .read_only = read_only};
	int r = recovery_find_volumes(&v);

	if (r == 0)
		r = recovery_read_journal(&v);
	if (r == 0)
		recovery_sweep_unknown_volumes(&v);
	recovery_settle_deleted(&v);
	s->durable = s->placed = v.state;
	s->lsn_next = v.state.lsn_last + !PLANTED(39);
	s->roll = true;
	for (uint32_t i = 0; i < s->volume_count && r == 0; i++)
		r = recovery_settle_volume(&v, s->volumes[i]);
	if (r == 0)
		marks_drop_before(&s->marks, s->fold_lsn);
	for (size_t i = 0; i < v.count; i++) {
		shared_file_unref(v.found[i].file, d);
		run_unref(v.found[i].run, d);
	}
	free(v.found);
	return r;
}
