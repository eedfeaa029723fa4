/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/offline.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "proto/common/digest.h"
#include "proto/common/id.h"
#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/ctl/kept.h"
#include "storage/store.h"

enum {
	DIR_BYTES_MAX = 384, /* leaves room for the names of the files below it */
	RING_DEPTH = 64,
	CACHE_BYTES = 8 << 20,
	READ_BYTES = VIEW_READ_BLOCKS_MAX * BLOCK_BYTES,
};

struct offline {
	char dir[DIR_BYTES_MAX];
	int lock_fd; /* -1: there is no LOCK, so no daemon either */
	json_t *sources;
	struct disk *disk;
	struct run_cache *cache;
	unsigned char *buf; /* READ_BYTES */

	char source[ID_BYTES];
	struct store *store;
	struct store_volume volumes[STORE_VOLUMES_MAX];
	size_t volume_count;
	struct pit *pits; /* in LSN order */
	size_t pit_count;
	bool knows_names; /* the catalog could be read */

	struct view *view;
	char pit[ID_BYTES];
	const struct store_volume *volume;
	uint64_t size_bytes;
};

static int
fail(const struct hf_error *err)
{
	int code = EXIT_FAILED;

	if (err->code == -EACCES || err->code == -EPERM)
		code = EXIT_NOT_ALLOWED;
	else if (err->code == -ENOENT)
		code = EXIT_NOT_FOUND;
	return ctl_fail(code, "%s%s", err->text,
	    code == EXIT_NOT_ALLOWED && geteuid() != 0 ? " (become root, or the user of holdfastd)" : "");
}

static int
fail_errno(const char *path)
{
	struct hf_error err;

	(void)hf_error_set(&err, -errno, "%s", path);
	return fail(&err);
}

/* ---- the directory ---- */

static int
say_in_use(const struct offline *o)
{
	char pid[32] = "";
	ssize_t n = read(o->lock_fd, pid, sizeof pid - 1);

	pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
	return ctl_fail(EXIT_FAILED,
	    "%s is in use by holdfastd%s%s: stop it, or ask it (pit list and export without --data-dir, scrub instead "
	    "of "
	    "fsck)",
	    o->dir, pid[0] == '\0' ? "" : ", pid ", pid);
}

/* Shared: several may read at once. The daemon makes LOCK before anything else, so a directory without it (a copy) is
 * nobody's; we make none, which the daemon's user might not be able to open later. */
static int
lock_directory(struct offline *o)
{
	char path[DIR_BYTES_MAX + 8];

	snprintf(path, sizeof path, "%s/LOCK", o->dir);
	o->lock_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (o->lock_fd < 0)
		return errno == ENOENT ? EXIT_DONE : fail_errno(path);
	if (flock(o->lock_fd, LOCK_SH | LOCK_NB) == 0)
		return EXIT_DONE;
	return errno == EWOULDBLOCK ? say_in_use(o) : fail_errno(path);
}

static int
compare_names(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int
is_source(const struct dirent *e)
{
	return id_valid("s", e->d_name);
}

static int
list_sources(struct offline *o)
{
	char path[DIR_BYTES_MAX + 16];
	struct dirent **names;
	int n;

	snprintf(path, sizeof path, "%s/sources", o->dir);
	n = scandir(path, &names, is_source, compare_names);
	if (n < 0 && errno == ENOENT)
		return ctl_fail(EXIT_FAILED,
		    access(o->dir, F_OK) < 0 ? "%s is not there"
					     : "%s is no staging area of holdfastd: it holds no sources",
		    o->dir);
	if (n < 0)
		return fail_errno(path);
	o->sources = json_array();
	for (int i = 0; i < n; i++) {
		json_array_append_new(o->sources, json_string(names[i]->d_name));
		free(names[i]);
	}
	free(names);
	return EXIT_DONE;
}

static int
make_reader(struct offline *o)
{
	struct hf_error err;

	if (disk_ring_create(RING_DEPTH, &o->disk, &err) < 0)
		return fail(&err);
	o->buf = buffer_alloc(READ_BYTES);
	if (o->buf == NULL || run_cache_create(CACHE_BYTES, &o->cache) < 0)
		return ctl_fail(EXIT_FAILED, "out of memory");
	return EXIT_DONE;
}

int
offline_open(const char *data_dir, struct offline **ret_offline)
{
	struct offline *o = calloc(1, sizeof *o);
	int code = EXIT_DONE;

	if (o == NULL)
		return ctl_fail(EXIT_FAILED, "out of memory");
	o->lock_fd = -1;
	if (snprintf(o->dir, sizeof o->dir, "%s", data_dir) >= (int)sizeof o->dir)
		code = ctl_fail(EXIT_USAGE, "%s: the path is too long", data_dir);
	if (code == EXIT_DONE)
		code = lock_directory(o);
	if (code == EXIT_DONE)
		code = list_sources(o);
	if (code == EXIT_DONE)
		code = make_reader(o);
	if (code != EXIT_DONE) {
		offline_close(o);
		return code;
	}
	*ret_offline = o;
	return EXIT_DONE;
}

static void
close_volume(struct offline *o)
{
	if (o->view != NULL)
		store_view_release(o->store, o->view);
	o->view = NULL;
}

static void
close_source(struct offline *o)
{
	close_volume(o);
	store_close(o->store, o->disk);
	o->store = NULL;
	free(o->pits);
	o->pits = NULL;
}

void
offline_close(struct offline *o)
{
	if (o == NULL)
		return;
	close_source(o);
	run_cache_destroy(o->cache);
	buffer_free(o->buf, READ_BYTES);
	disk_destroy(o->disk);
	json_decref(o->sources);
	if (o->lock_fd >= 0)
		close(o->lock_fd);
	free(o);
}

/* ---- sources ---- */

const json_t *
offline_sources(const struct offline *o)
{
	return o->sources;
}

/* The id that text is, or begins; NULL: none, or several. */
static const char *
match_id(const struct offline *o, const char *text)
{
	const char *found = NULL;
	json_t *id;
	size_t i;

	json_array_foreach (o->sources, i, id) {
		if (strncmp(json_string_value(id), text, strlen(text)) != 0)
			continue;
		if (found != NULL)
			return NULL;
		found = json_string_value(id);
	}
	return found;
}

static int
say_sources(const struct offline *o, const char *text)
{
	json_t *id;
	size_t i;

	(void)ctl_fail(EXIT_NOT_FOUND, "no source, or more than one, is called \"%s\" in %s; there %s:", text, o->dir,
	    json_array_size(o->sources) == 0 ? "is none" : "are");
	json_array_foreach (o->sources, i, id) {
		fprintf(stderr, "  %s\n", json_string_value(id));
	}
	return EXIT_NOT_FOUND;
}

/* Rows replace what the journal says of the same point, and add the one at the base, whose record may be gone. */
static void
merge_pits(struct offline *o, const struct pit *found, size_t found_count, const struct pit *rows, size_t row_count)
{
	size_t i = 0, k = 0;

	while (i < found_count || k < row_count) {
		bool row = i == found_count || (k < row_count && rows[k].lsn <= found[i].lsn);

		i += i < found_count && (!row || rows[k].lsn == found[i].lsn);
		o->pits[o->pit_count++] = row ? rows[k++] : found[i - 1];
	}
}

static int
load_pits(struct offline *o, const char *source_dir)
{
	struct pit *found = NULL, *rows = NULL;
	size_t found_count = 0, row_count = 0;
	struct hf_error err;
	int r = store_list_pits(o->store, &found, &found_count);

	o->knows_names = r == 0 && kept_read(source_dir, &rows, &row_count, &err) == 0;
	if (r == 0 && !o->knows_names)
		ctl_note("points have no names: %s", err.text);
	o->pits = calloc(found_count + row_count + 1, sizeof *o->pits);
	o->pit_count = 0;
	if (o->pits != NULL)
		merge_pits(o, found, found_count, rows, row_count);
	free(found);
	free(rows);
	return r == 0 && o->pits != NULL ? EXIT_DONE : ctl_fail(EXIT_FAILED, "out of memory");
}

int
offline_open_source(struct offline *o, const char *text)
{
	const char *id = match_id(o, text);
	char path[DIR_BYTES_MAX + 48];
	struct hf_error err = {0};

	if (id == NULL)
		return say_sources(o, text);
	close_source(o);
	snprintf(o->source, sizeof o->source, "%s", id);
	snprintf(path, sizeof path, "%s/sources/%s", o->dir, id);
	if (store_open_offline(o->disk, path, &o->store, &err) < 0)
		return fail(&err);
	o->volume_count = store_list_all_volumes(o->store, o->volumes, STORE_VOLUMES_MAX);
	return load_pits(o, path);
}

bool
offline_knows_names(const struct offline *o)
{
	return o->knows_names;
}

json_t *
offline_describe_source(const struct offline *o)
{
	json_t *disks = json_array();

	for (size_t i = 0; i < o->volume_count; i++)
		json_array_append_new(
		    disks, json_pack("{s:s, s:s}", "volumeID", o->volumes[i].id.text, "name", o->volumes[i].name));
	return json_pack(
	    "{s:s, s:{s:o}}", "sourceServerID", o->source, "dataReplicationInfo", "replicatedDisks", disks);
}

/* ---- points ---- */

static const struct store_volume *
find_number(const struct offline *o, uint32_t number)
{
	for (size_t i = 0; i < o->volume_count; i++)
		if (o->volumes[i].volume == number)
			return &o->volumes[i];
	return NULL;
}

static json_t *
describe_rules(uint32_t rules)
{
	json_t *list = json_array();

	for (int i = 0; i < PIT_RULES_MAX; i++)
		if (rules & 1u << i)
			json_array_append_new(list, json_integer(i + 1));
	return list;
}

/* A point without a row is there because the journal still is: neither held nor kept. */
static void
add_row(const struct pit *p, json_t *json)
{
	char time[UNITS_TEXT_BYTES], verified[UNITS_TEXT_BYTES];

	json_object_update_new(
	    json, json_pack("{s:s?, s:b, s:o, s:b, s:b, s:b, s:s, s:o}", "name", p->name[0] == '\0' ? NULL : p->name,
		      "verified", p->verified_ns != 0, "lastVerified",
		      p->verified_ns == 0 ? json_null() : json_string(time_format(p->verified_ns, verified)), "held",
		      p->held, "byHand", p->by_hand, "kept", p->kept, "expectedTimestamp",
		      time_format(p->planned_ns, time), "ruleIDs", describe_rules(p->rules)));
}

static json_t *
describe_pit(const struct offline *o, const struct pit *p)
{
	json_t *volumes = json_array(), *json;
	char time[UNITS_TEXT_BYTES], since[UNITS_TEXT_BYTES], lsn[32];

	for (uint32_t i = 0; i < p->checkpoint.volume_count; i++) {
		const struct store_volume *v = find_number(o, p->checkpoint.volumes[i].volume);

		json_array_append_new(
		    volumes, json_pack("{s:i, s:s?, s:s?, s:I}", "volumeNumber", (int)p->checkpoint.volumes[i].volume,
				 "volumeID", v == NULL ? NULL : v->id.text, "name", v == NULL ? NULL : v->name,
				 "sizeBytes", (json_int_t)p->checkpoint.volumes[i].size_bytes));
	}
	snprintf(lsn, sizeof lsn, "%" PRIu64, p->lsn);
	json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:o}", "pointInTimeID", p->id.text, "sourceServerID",
	    o->source, "timestamp", time_format(p->time_ns, time), "unchangedSince",
	    time_format(pit_since_ns(p), since), "lsn", lsn, "consistency", checkpoint_consistency_name(p->consistency),
	    "complete", p->complete, "volumes", volumes);
	if (o->knows_names)
		add_row(p, json);
	return json;
}

json_t *
offline_list_pits(const struct offline *o)
{
	json_t *pits = json_array();

	for (size_t i = 0; i < o->pit_count; i++)
		json_array_append_new(pits, describe_pit(o, &o->pits[i]));
	return pits;
}

/* ---- a volume ---- */

static int
open_view(struct offline *o, const char *pit)
{
	int r = -HF_ENOPIT;

	for (size_t i = 0; i < o->pit_count; i++)
		if (strcmp(o->pits[i].id.text, pit) == 0)
			r = store_view(o->store, o->pits[i].lsn, &o->view);
	if (r == -HF_ENOPIT)
		return ctl_fail(EXIT_NOT_FOUND, "there is no point %s any more", pit);
	if (r < 0)
		return ctl_fail(EXIT_FAILED, "point %s: %s", pit, hf_status_text(r));
	snprintf(o->pit, sizeof o->pit, "%s", pit);
	return EXIT_DONE;
}

static bool
is_meant(const struct offline *o, const struct store_volume *v, const char *text)
{
	return (strcmp(v->id.text, text) == 0 || strcmp(v->name, text) == 0) &&
	       view_find_volume(o->view, v->volume) != NULL;
}

static int
say_volumes(const struct offline *o, const char *text)
{
	(void)ctl_fail(
	    EXIT_NOT_FOUND, "no volume, or more than one, is called \"%s\" at point %s; there are:", text, o->pit);
	for (size_t i = 0; i < o->volume_count; i++)
		if (view_find_volume(o->view, o->volumes[i].volume) != NULL)
			fprintf(stderr, "  %s  %s\n", o->volumes[i].id.text, o->volumes[i].name);
	return EXIT_NOT_FOUND;
}

/* A disk that was replaced left its name to the new one: the point decides, it rarely knows both. */
static int
choose_volume(struct offline *o, const char *text)
{
	size_t found = 0;

	for (size_t i = 0; i < o->volume_count; i++)
		if (is_meant(o, &o->volumes[i], text)) {
			o->volume = &o->volumes[i];
			found++;
		}
	return found == 1 ? EXIT_DONE : say_volumes(o, text);
}

int
offline_open_volume(struct offline *o, const char *volume, const char *pit, uint64_t *ret_size_bytes)
{
	int code;

	close_volume(o);
	code = open_view(o, pit);
	if (code == EXIT_DONE)
		code = choose_volume(o, volume);
	if (code != EXIT_DONE)
		return code;
	o->size_bytes = view_find_volume(o->view, o->volume->volume)->size_bytes;
	*ret_size_bytes = o->size_bytes;
	return EXIT_DONE;
}

static int
say_unreadable(const struct offline *o, uint64_t block, int status)
{
	return ctl_fail(EXIT_FAILED, "volume %s, offset %" PRIu64 ", point %s: %s", o->volume->id.text,
	    block * BLOCK_BYTES, o->pit, hf_status_text(status));
}

/* The last block may be larger than what is left of the volume. */
static uint64_t
bytes_between(const struct offline *o, uint64_t block, uint64_t next)
{
	uint64_t end = next * BLOCK_BYTES;

	return (end < o->size_bytes ? end : o->size_bytes) - block * BLOCK_BYTES;
}

static bool
is_zero(const unsigned char *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* What can be read, or what cannot. */
static int
salvage_data(struct offline *o, uint64_t *block, uint64_t next, const struct extents_sink *sink)
{
	uint32_t count = 0;
	int r = view_salvage(
	    o->view, o->disk, o->cache, o->volume->volume, *block, (uint32_t)(next - *block), o->buf, &count);
	uint64_t len = bytes_between(o, *block, *block + count);

	*block += count;
	return r < 0 ? sink->bad(sink->arg, len) : sink->data(sink->arg, o->buf, len);
}

/* Data up to the next boundary of 1 MiB, or to the end. */
static int
read_data(struct offline *o, uint64_t *block, uint64_t blocks, const struct extents_sink *sink)
{
	uint64_t next = (*block / VIEW_READ_BLOCKS_MAX + 1) * VIEW_READ_BLOCKS_MAX, len;
	struct view_fault fault = {.block = *block};
	int r;

	if (next > blocks)
		next = blocks;
	if (sink->bad != NULL)
		return salvage_data(o, block, next, sink);
	r = view_read(o->view, o->disk, o->cache, o->volume->volume, *block, (uint32_t)(next - *block), o->buf, &fault);
	if (r < 0)
		return say_unreadable(o, fault.block, r);
	len = bytes_between(o, *block, next);
	*block = next;
	return is_zero(o->buf, len) ? sink->hole(sink->arg, len) : sink->data(sink->arg, o->buf, len);
}

static int
read_range(struct offline *o, uint64_t *block, uint64_t blocks, const struct extents_sink *sink)
{
	uint64_t data, len;
	int r = view_next_data(o->view, o->disk, o->cache, o->volume->volume, *block, &data);

	if (r < 0 && sink->bad == NULL)
		return say_unreadable(o, *block, r);
	if (r < 0 || data == *block)
		return read_data(o, block, blocks, sink);
	if (data > blocks)
		data = blocks;
	len = bytes_between(o, *block, data);
	*block = data;
	return sink->hole(sink->arg, len);
}

int
offline_read(struct offline *o, uint64_t from, const struct extents_sink *sink)
{
	uint64_t block = from / BLOCK_BYTES, blocks = (o->size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
	int code = EXIT_DONE;

	assert(from % BLOCK_BYTES == 0 || from == o->size_bytes);
	if (from == o->size_bytes)
		return EXIT_DONE;
	while (block < blocks && code == EXIT_DONE)
		code =
		    ctl_interrupted() ? ctl_fail(EXIT_INTERRUPTED, "interrupted") : read_range(o, &block, blocks, sink);
	return code;
}
