/* SPDX-License-Identifier: Apache-2.0 */
/* job_declare.c: the volumes of a source, brought in line with what its agent declares. */
#include "storage/job_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "storage/plant.h"

#define SIZE_BYTES_MAX ((uint64_t)1 << 60) /* of a volume: its blocks can be numbered in a run */

static struct volume *
find_by_identity(const struct store *s, const char *identity)
{
	for (uint32_t i = 0; i < s->volume_count; i++)
		if (strcmp(s->volumes[i]->info.identity, identity) == 0)
			return s->volumes[i];
	return NULL;
}

/* What is known of it now. While the job is out the fill may go on: the cursor of one that grows is kept for it. */
static void
look_up(const struct store *s, struct declared *x)
{
	struct volume *v = find_by_identity(s, x->want.identity);

	if (v == NULL)
		return;
	x->was = v->info;
	x->filling = v->cursor != NULL;
	v->growing = x->want.ok && x->want.size_bytes > v->info.size_bytes;
}

static bool
is_declared(const struct store_declaration *volumes, size_t count, const char *identity)
{
	for (size_t k = 0; k < count; k++)
		if (strcmp(volumes[k].identity, identity) == 0)
			return true;
	return false;
}

static void
list_retired(const struct store *s, struct store_job *job, const struct store_declaration *volumes, size_t count)
{
	for (uint32_t i = 0; i < s->volume_count; i++) {
		const struct store_volume *v = &s->volumes[i]->info;
		struct declared *x = &job->declared[count + job->retired_count];

		if (!v->declared || is_declared(volumes, count, v->identity))
			continue;
		x->was = *v;
		x->volume = v->volume;
		snprintf(x->want.name, sizeof x->want.name, "%s", v->name);
		snprintf(x->want.identity, sizeof x->want.identity, "%s", v->identity);
		snprintf(x->want.device_name, sizeof x->want.device_name, "%s", v->device_name);
		x->want.boot_disk = v->boot_disk;
		job->retired_count++;
	}
}

struct store_job *
store_declare(struct store *s, const struct store_declaration *volumes, size_t count)
{
	struct store_job *job;

	assert(s->out[JOB_DECLARE] == NULL && count <= STORE_VOLUMES_MAX);
	job = job_create(s, JOB_DECLARE);
	if (job == NULL)
		return NULL;
	s->out[JOB_DECLARE] = job;
	job->declared = calloc(count + s->volume_count + 1, sizeof *job->declared);
	if (job->declared == NULL) {
		store_job_destroy(job);
		return NULL;
	}
	job->declared_count = count;
	job->folding = s->out[JOB_FOLD] != NULL || s->out[JOB_MEND] != NULL; /* both change digest files */
	job->volume_last = s->volume_last;
	for (size_t k = 0; k < count; k++) {
		job->declared[k].want = volumes[k];
		look_up(s, &job->declared[k]);
	}
	list_retired(s, job, volumes, count);
	return job;
}

static int __attribute__((format(printf, 3, 4))) declared_say(struct declared *x, int status, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(x->text, sizeof x->text, format, ap);
	va_end(ap);
	return status;
}

static uint64_t
file_bytes(uint64_t size_bytes)
{
	return (size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
}

static struct sum_header
header_for(
    const struct store *s, const struct declared *x, const struct id *volume_id, uint32_t volume, uint64_t fold_lsn)
{
	struct sum_header h = {
	    .source = s->source,
	    .volume_id = *volume_id,
	    .digest_seed = s->digest_seed,
	    .volume = volume,
	    .size_bytes = x->want.size_bytes,
	    .fold_lsn = fold_lsn,
	};

	snprintf(h.name, sizeof h.name, "%s", x->want.name);
	snprintf(h.identity, sizeof h.identity, "%s", x->want.identity);
	return h;
}

static int
size_refused(struct declared *x, int r, const char *dir)
{
	char text[UNITS_TEXT_BYTES];

	if (r == -EFBIG || r == -EINVAL || r == -EOVERFLOW)
		return declared_say(x, -HF_ETOOLARGE, "a file of %s is more than the file system of %s can hold",
		    size_format(x->want.size_bytes, text), dir);
	return declared_say(x, r, "cannot make its staging file in %s: %s", dir, hf_status_text(r));
}

static int
open_volume_files(struct store *s, struct disk *d, struct volume *v, unsigned flags)
{
	char path[PATH_MAX_BYTES];
	int r;

	volume_path(path, s, &v->info.id, "img");
	r = shared_file_open(d, path, flags, v->info.volume, &v->img);
	if (r < 0)
		return r;
	volume_path(path, s, &v->info.id, "sum");
	return shared_file_open(d, path, flags, v->info.volume, &v->sum);
}

/* 0: they are gone, whatever happens. */
static int
remove_volume_files(struct store *s, struct disk *d, const struct volume *v)
{
	static const char *const suffixes[] = {"img", "sum"};
	char path[PATH_MAX_BYTES];
	int r = 0;

	for (size_t i = 0; i < 2 && r == 0; i++) {
		volume_path(path, s, &v->info.id, suffixes[i]);
		r = disk_unlink(d, path);
		if (r == -ENOENT)
			r = 0;
	}
	return r == 0 ? disk_sync_dir(d, s->dir) : r;
}

/* Files of a new volume, durable with their names. */
static int
make_volume(struct store_job *job, struct declared *x, struct disk *d)
{
	struct store *s = job->store;
	struct volume *v;
	struct sum_header h;
	int r;

	if (job->volume_last == STORE_VOLUMES_MAX)
		return declared_say(x, -HF_EFULL,
		    "this source has had %d disks already, and no more can be kept of one source", STORE_VOLUMES_MAX);
	v = calloc(1, sizeof *v);
	if (v == NULL)
		return -ENOMEM;
	v->info.id = id_random("vol");
	v->info.volume = ++job->volume_last;
	h = header_for(s, x, &v->info.id, v->info.volume, 0);
	r = open_volume_files(s, d, v, DISK_WRITE | DISK_CREATE);
	if (r == 0)
		r = disk_truncate(d, v->img->file, file_bytes(x->want.size_bytes));
	if (r == 0)
		r = disk_sync_now(d, v->img->file);
	if (r == 0)
		r = sum_header_write(d, v->sum->file, &h);
	if (r == 0 && !PLANTED(13))
		r = disk_sync_dir(d, s->dir);
	if (r == 0 && (v->cursor = calloc(1, sizeof *v->cursor)) == NULL)
		r = -ENOMEM;
	if (r == 0)
		r = sum_cursor_load(v->cursor, d, v->sum->file, s->digest_seed, 0);
	if (r < 0) {
		if (remove_volume_files(s, d, v) == 0)
			job->volume_last--; /* the next one may have its number: there are not many */
		volume_destroy(v, d);
		return size_refused(x, r, s->dir);
	}
	x->files = v;
	x->volume = v->info.volume;
	x->made = true;
	return 0;
}

/* The store's own volume: its file handles never change while it lives, and only this job changes their size. */
static int
grow_volume(struct store_job *job, struct declared *x, struct disk *d)
{
	struct store *s = job->store;
	struct volume *v = store_find_volume(s, x->was.volume);
	struct sum_header h;
	int r = sum_header_read(d, v->sum->file, &h);

	if (r == 0)
		r = disk_truncate(d, v->img->file, file_bytes(x->want.size_bytes));
	if (r == 0)
		r = disk_sync_now(d, v->img->file);
	if (r == 0) {
		h.size_bytes = x->want.size_bytes;
		r = sum_header_write(d, v->sum->file, &h);
	}
	if (r < 0)
		return size_refused(x, r, s->dir);
	x->grown = true;
	return 0;
}

static bool
needs_cursor(const struct declared *x)
{
	return !x->filling && x->was.frontier_blocks < file_bytes(x->want.size_bytes) / BLOCK_BYTES;
}

static int
load_cursor(struct store_job *job, struct declared *x, struct disk *d)
{
	struct store *s = job->store;
	struct volume *v = store_find_volume(s, x->was.volume);
	int r;

	x->cursor = calloc(1, sizeof *x->cursor);
	if (x->cursor == NULL)
		return -ENOMEM;
	r = sum_cursor_load(x->cursor, d, v->sum->file, s->digest_seed, x->was.frontier_blocks);
	if (r < 0) {
		free(x->cursor);
		x->cursor = NULL;
	}
	return r;
}

/* The cursor first: once the volume has grown nothing may fail any more. */
static int
run_known(struct store_job *job, struct declared *x, struct disk *d)
{
	bool grows = x->want.size_bytes > x->was.size_bytes;
	int r;

	if (x->want.size_bytes < x->was.size_bytes)
		return declared_say(x, -HF_EIDENTITY,
		    "it has shrunk from %llu to %llu bytes: a smaller disk is another disk",
		    (unsigned long long)x->was.size_bytes, (unsigned long long)x->want.size_bytes);
	if (job->folding && (grows || needs_cursor(x)))
		return declared_say(x, -EAGAIN, "it grows, or comes back, while history is being folded");
	if (needs_cursor(x)) {
		if (x->was.frontier_blocks != x->was.frontier_received_blocks)
			return declared_say(x, -EAGAIN, "it comes back while its last frames are being written");
		r = load_cursor(job, x, d);
		if (r < 0)
			return declared_say(x, r, "%s", hf_status_text(r));
	}
	return grows ? grow_volume(job, x, d) : 0;
}

static int
run_declared(struct store_job *job, struct declared *x, struct disk *d)
{
	x->volume = x->was.volume;
	if (!x->want.ok)
		return 0; /* as it was; nothing is known of it today */
	if (x->want.size_bytes == 0 || x->want.size_bytes > SIZE_BYTES_MAX)
		return declared_say(x, -HF_ETOOLARGE, "a disk of %llu bytes", (unsigned long long)x->want.size_bytes);
	return x->volume == 0 ? make_volume(job, x, d) : run_known(job, x, d);
}

static int
put_row(struct store_job *job, const struct declared *x, bool retired)
{
	struct catalog_volume row = {
	    .volume = x->volume, .size_bytes = x->want.ok ? x->want.size_bytes : x->was.size_bytes, .retired = retired};
	struct hf_error err;
	int r;

	row.id = x->made ? x->files->info.id : x->was.id;
	row.boot_disk = x->want.boot_disk;
	snprintf(row.identity, sizeof row.identity, "%s", x->want.identity);
	snprintf(row.name, sizeof row.name, "%s", x->want.name);
	snprintf(row.device_name, sizeof row.device_name, "%s", x->want.device_name);
	r = catalog_put_volume(job->store->catalog, &row, &err);
	return r < 0 ? job_say(job, r, "%s", err.text) : 0;
}

static bool
same_row(const struct declared *x)
{
	return !x->made && !x->grown && x->was.declared && strcmp(x->was.name, x->want.name) == 0 &&
	       strcmp(x->was.device_name, x->want.device_name) == 0 && x->was.boot_disk == x->want.boot_disk;
}

static int
run_declare(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	for (size_t i = 0; i < job->declared_count; i++) {
		struct declared *x = &job->declared[i];
		int r;

		(void)cache;
		x->status = run_declared(job, x, d);
		if (x->status < 0 || x->volume == 0 || same_row(x))
			continue;
		r = put_row(job, x, false);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < job->retired_count; i++) {
		int r = put_row(job, &job->declared[job->declared_count + i], true);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Whatever became of the rest of the job: these files are there, and the next start would find them. */
static void
take_files(struct store *s, struct declared *x)
{
	struct volume *v = x->made ? x->files : store_find_volume(s, x->volume);

	if (x->made) {
		assert(s->volume_count < STORE_VOLUMES_MAX);
		s->volumes[s->volume_count++] = v;
		x->files = NULL;
		snprintf(v->info.identity, sizeof v->info.identity, "%s", x->want.identity);
	}
	if (x->made || x->grown) {
		v->info.size_bytes = x->want.size_bytes;
		v->logged = false;
	}
	if (x->cursor != NULL && x->status == 0) {
		assert(v->cursor == NULL);
		v->cursor = x->cursor;
		x->cursor = NULL;
	}
}

static void
apply_declared(struct store *s, const struct declared *x)
{
	struct volume *v = store_find_volume(s, x->volume);

	if (v == NULL) {
		s->unmade = true;
		return;
	}
	v->info.declared = true;
	v->readable = x->want.ok && x->status == 0;
	v->info.boot_disk = x->want.boot_disk;
	snprintf(v->info.name, sizeof v->info.name, "%s", x->want.name);
	snprintf(v->info.device_name, sizeof v->info.device_name, "%s", x->want.device_name);
}

/* A cursor that was kept for a volume that did not grow after all. */
void
declare_end_growing(struct store *s)
{
	for (uint32_t i = 0; i < s->volume_count; i++) {
		struct volume *v = s->volumes[i];

		if (v->growing && v->info.frontier_blocks == volume_blocks(v)) {
			free(v->cursor);
			v->cursor = NULL;
		}
		v->growing = false;
	}
}

static void
finish_declare(struct store *s, struct store_job *job)
{
	s->volume_last = job->volume_last;
	for (size_t i = 0; i < job->declared_count; i++)
		take_files(s, &job->declared[i]);
	declare_end_growing(s);
	if (job->status < 0)
		return;
	s->unmade = false;
	for (uint32_t i = 0; i < s->volume_count; i++)
		s->volumes[i]->info.declared = false;
	for (size_t i = 0; i < job->declared_count; i++)
		apply_declared(s, &job->declared[i]);
}

void
store_declare_result(
    const struct store_job *job, size_t index, uint32_t *ret_volume, int *ret_status, char *ret_text, size_t text_size)
{
	const struct declared *x = &job->declared[index];

	assert(job->kind == JOB_DECLARE && index < job->declared_count);
	*ret_volume = x->volume;
	*ret_status = job->status < 0 ? job->status : x->status;
	snprintf(ret_text, text_size, "%s", job->status < 0 ? job->text : x->text);
}

const struct job_class declare_job = {
    .name = "declare volumes",
    .ingest = true,
    .asked = true,
    .run = run_declare,
    .finish = finish_declare,
};
