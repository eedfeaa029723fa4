/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/volumes.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/units.h"

struct volumes *
volumes_create(struct link *l, const struct pass_config *config)
{
	struct volumes *vs = calloc(1, sizeof *vs);

	if (vs == NULL)
		return NULL;
	assert(config->volume_count <= VOLUMES_MAX);
	vs->link = l;
	vs->config = config;
	for (size_t i = 0; i < config->volume_count; i++)
		(void)volumes_add(vs, &config->volumes[i]); /* there is room for so many */
	return vs;
}

/* It is a volume now. */
static void
forget_left_out(struct message_declare *d, const char *identity)
{
	for (size_t i = 0; i < d->new_disk_count; i++)
		if (strcmp(d->new_disks[i].identity, identity) == 0)
			d->new_disks[i--] = d->new_disks[--d->new_disk_count];
}

void
volumes_leave_out(struct volumes *vs, const struct pass_volume *disk)
{
	struct message_declare *d = &vs->declare;
	struct message_new_disk *n = &d->new_disks[d->new_disk_count];

	if (d->new_disk_count == NEW_DISKS_MAX)
		return;
	d->new_disk_count++;
	snprintf(n->device_name, sizeof n->device_name, "%s", disk->path);
	snprintf(n->identity, sizeof n->identity, "%s", disk->identity);
	n->size_bytes = disk->size_bytes;
	vs->declared = false;
}

void
volumes_drop_gone(struct volumes *vs)
{
	const struct pass_config *config = vs->config;
	struct message_declare *d = &vs->declare;

	for (size_t i = 0; i < d->new_disk_count; i++)
		if (!config->disk_is_there(config->arg, d->new_disks[i].identity)) {
			d->new_disks[i--] = d->new_disks[--d->new_disk_count];
			vs->declared = false;
		}
}

bool
volumes_add(struct volumes *vs, const struct pass_volume *volume)
{
	struct volume *v = &vs->list[vs->count];

	if (vs->count == VOLUMES_MAX)
		return false;
	v->index = vs->count++;
	v->name = volume->name;
	v->identity = volume->identity;
	v->size_bytes = volume->size_bytes;
	v->file.fd = -1;
	snprintf(v->disk.path, sizeof v->disk.path, "%s", volume->path);
	forget_left_out(&vs->declare, volume->identity);
	vs->declared = false;
	return true;
}

void
volumes_destroy(struct volumes *vs)
{
	if (vs == NULL)
		return;
	volumes_release(vs);
	free(vs);
}

void
volumes_release(struct volumes *vs)
{
	for (size_t i = 0; i < vs->count; i++)
		reader_file_close(&vs->list[i].file);
}

/* ---- binding ---- */

static enum volume_state
state_of_search(int r)
{
	switch (r) {
	case -ENOENT: return VOLUME_IDENTITY_MISSING;
	case -HF_EIDENTITY: return VOLUME_IDENTITY_AMBIGUOUS;
	default: return VOLUME_UNREADABLE;
	}
}

/* Between finding a disk and opening it, another may have taken its name: look again, now that it
 * is held open. */
static bool
is_still_it(const struct volume *v, const struct disk_info *disk)
{
	char path[64];
	struct disk_info again;

	snprintf(path, sizeof path, "/proc/self/fd/%d", v->file.fd);
	return disks_find(v->identity, path, &again, NULL) == 0 && strcmp(again.path, path) == 0 &&
	       again.size_bytes >= disk->size_bytes;
}

/* The read that failed before, tried again. */
static bool
is_spot_readable(struct volume *v)
{
	unsigned char *piece = piece_create();
	bool ok = piece != NULL && pread(v->file.fd, piece, PIECE_BYTES, (off_t)v->bad_offset) > 0;

	piece_destroy(piece);
	return ok;
}

static enum volume_state
open_disk(struct volume *v, const struct disk_info *disk)
{
	int r = reader_file_open(disk->path, disk->size_bytes, &v->file);

	if (r < 0) {
		log_warning(
		    "volume_unreadable", "volume=%s path=%s msg=\"%s\"", v->name, disk->path, hf_status_text(r));
		return VOLUME_UNREADABLE;
	}
	if (!is_still_it(v, disk))
		return VOLUME_IDENTITY_MISSING; /* found properly next time */
	if (v->has_bad_spot && !is_spot_readable(v))
		return VOLUME_UNREADABLE;
	v->has_bad_spot = false;
	return VOLUME_OK;
}

static enum volume_state
bind_disk(struct volume *v, struct disk_info *ret_disk, struct hf_error *err)
{
	int r = disks_find(v->identity, v->disk.path, ret_disk, err);
	enum volume_state state;

	if (r < 0)
		return state_of_search(r);
	if (ret_disk->size_bytes == 0) {
		hf_error_say(err, -HF_EIDENTITY, "%s is empty", ret_disk->path);
		return VOLUME_UNREADABLE;
	}
	if (ret_disk->size_bytes < v->size_bytes) {
		hf_error_say(err, -HF_EIDENTITY, "%s has shrunk from %llu to %llu bytes; a shrunk disk is a new volume",
		    ret_disk->path, (unsigned long long)v->size_bytes, (unsigned long long)ret_disk->size_bytes);
		return VOLUME_SHRUNK;
	}
	hf_error_say(err, -EIO, "%s cannot be read", ret_disk->path);
	state = open_disk(v, ret_disk);
	if (state != VOLUME_OK)
		reader_file_close(&v->file);
	return state;
}

static const char *
event_of(enum volume_state state)
{
	switch (state) {
	case VOLUME_OK: return "volume_ok";
	case VOLUME_IDENTITY_MISSING: return "volume_missing";
	case VOLUME_IDENTITY_AMBIGUOUS: return "volume_ambiguous";
	case VOLUME_SHRUNK: return "volume_shrunk";
	case VOLUME_REFUSED: return "volume_refused";
	case VOLUME_UNREADABLE: break;
	}
	return "volume_unreadable";
}

static void
note_state(struct volumes *vs, struct volume *v, enum volume_state state, const struct hf_error *err)
{
	bool is_first = v->state == 0;

	if (state == v->state)
		return;
	v->state = state;
	v->read_once = false;
	vs->declared = false;
	if (state != VOLUME_OK)
		link_notice(vs->link, event_of(state), "%s: %s", v->name, err->text);
	else if (!is_first)
		link_notice(vs->link, event_of(state), "%s is back at %s", v->name, v->disk.path);
}

static void
note_place(struct volumes *vs, struct volume *v, const struct disk_info *disk)
{
	bool moved = strcmp(disk->path, v->disk.path) != 0, grown = disk->size_bytes > v->size_bytes;

	if (moved)
		link_notice(vs->link, "volume_moved", "%s is now at %s (was at %s)", v->name, disk->path, v->disk.path);
	if (grown && v->size_bytes != 0)
		link_notice(vs->link, "volume_grown", "%s has grown from %llu to %llu bytes", v->name,
		    (unsigned long long)v->size_bytes, (unsigned long long)disk->size_bytes);
	v->disk = *disk;
	if (!moved && !grown)
		return;
	v->size_bytes = disk->size_bytes;
	v->read_once = false;
	vs->declared = false;
	if (vs->config->on_volume_changed != NULL)
		vs->config->on_volume_changed(vs->config->arg, v->index, v->disk.path, v->size_bytes);
}

void
volumes_bind(struct volumes *vs)
{
	for (size_t i = 0; i < vs->count; i++) {
		struct volume *v = &vs->list[i];
		struct hf_error err = {0};
		struct disk_info disk;
		enum volume_state state;

		reader_file_close(&v->file);
		state = bind_disk(v, &disk, &err);
		if (state == VOLUME_OK)
			note_place(vs, v, &disk);
		note_state(vs, v, state, &err);
	}
}

void
volume_failed(struct volumes *vs, struct volume *v, uint64_t offset, int error)
{
	char at[UNITS_TEXT_BYTES];
	struct hf_error err;

	hf_error_set(&err, error, "reading %s at %s", v->disk.path, size_format(offset, at));
	v->has_bad_spot = true;
	v->bad_offset = offset;
	note_state(vs, v, VOLUME_UNREADABLE, &err);
}

/* ---- declaring ---- */

static void
describe(const struct volume *v, struct message_declared_volume *d)
{
	memset(d, 0, sizeof *d);
	snprintf(d->name, sizeof d->name, "%s", v->name);
	snprintf(d->identity, sizeof d->identity, "%s", v->identity);
	snprintf(d->device_name, sizeof d->device_name, "%s", v->disk.path);
	d->size_bytes = v->size_bytes;
	d->state = v->state;
	d->boot_disk = v->disk.boot_disk;
}

static void
take_answer(struct volumes *vs, struct volume *v, const struct message_volume_answer *a)
{
	if (v->number != a->volume)
		v->read_once = false;
	v->number = a->volume;
	v->frontier_blocks = a->frontier_blocks;
	if (v->server_state != a->state && a->state == VOLUME_REFUSED)
		log_warning("volume_refused", "volume=%s msg=\"%s\"", v->name,
		    a->text[0] != '\0' ? a->text : hf_status_text(a->status));
	v->server_state = a->state;
}

int
volumes_declare(struct volumes *vs)
{
	struct hf_error err = {0};
	int r;

	vs->declare.count = vs->count;
	for (size_t i = 0; i < vs->count; i++)
		describe(&vs->list[i], &vs->declare.volumes[i]);
	r = link_declare(vs->link, &vs->declare, &vs->answer, &err);
	if (r < 0)
		return r;
	if (vs->answer.count != vs->count)
		return -HF_EPROTOCOL;
	for (size_t i = 0; i < vs->count; i++)
		take_answer(vs, &vs->list[i], &vs->answer.volumes[i]);
	vs->declared = true;
	return 0;
}

bool
volumes_are_ok(const struct volumes *vs)
{
	for (size_t i = 0; i < vs->count; i++)
		if (!volume_is_ok(&vs->list[i]))
			return false;
	return vs->count > 0;
}
