/* SPDX-License-Identifier: Apache-2.0 */
/* Steps 1 and 6 of recover.c. */
#include "storage/recover_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/plant.h"

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

bool
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

void
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

int
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
void
recovery_settle_deleted(struct recovery *v)
{
	struct store *s = v->s;

	for (uint32_t i = 0; i < v->state.volume_count; i++)
		if (v->state.volumes[i].volume > s->volume_last)
			s->volume_last = v->state.volumes[i].volume;
	for (size_t i = 0; i < v->deleted_count; i++)
		marks_drop_volume(&s->marks, v->deleted[i]);
}

int
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
