/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/disks.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "agent/identity.h"
#include "proto/common/status.h"
#include "proto/common/text.h"

enum { SECTOR_BYTES = 512 }; /* the unit of sysfs sizes, whatever the disk's */

/* ---- what a disk is ---- */

static bool
is_multipath(const struct device *d)
{
	char uuid[NAME_BYTES * 2];

	return device_read(d, "dm/uuid", uuid, sizeof uuid) && text_has_prefix(uuid, "mpath-");
}

/* Devices that stand for the disks they are made of, and are the better volume: md and multipath.
 */
static bool
is_aggregate(const struct device *d, const void *arg, int depth)
{
	return device_has(d, "md") || is_multipath(d);
}

static bool
is_partition(const struct device *d, const void *arg, int depth)
{
	return d->partition != 0;
}

/* A member of a better volume, or itself made of one: not to be replicated twice. */
static bool
is_member(const struct device *d)
{
	if (d->partition != 0)
		return true;
	if (device_has(d, "md"))
		return device_any_linked(d, "slaves", is_partition, NULL, 0);
	if (device_has(d, "dm"))
		return !is_multipath(d);
	return device_any_linked(d, "holders", is_aggregate, NULL, 0);
}

/* The device number of the file system mounted at a path; 0 if nothing is or it has none. */
static dev_t
mounted_device(const struct tree *t, const char *mountpoint)
{
	char path[PATH_MAX], line[PATH_MAX * 2], where[PATH_MAX];
	unsigned maj, min;
	dev_t dev = 0;
	FILE *f;

	if (text_print(path, sizeof path, "%s/proc/self/mountinfo", t->root) < 0)
		return 0;
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	while (fgets(line, sizeof line, f) != NULL) /* the last one is on top */
		if (sscanf(line, "%*d %*d %u:%u %*s %4095s", &maj, &min, where) == 3 && strcmp(where, mountpoint) == 0)
			dev = makedev(maj, min);
	fclose(f);
	return dev;
}

static bool
is_boot_disk(const struct device *d)
{
	static const char *const mountpoints[] = {"/", "/boot", "/boot/efi"};
	struct device mounted;

	for (size_t i = 0; i < sizeof mountpoints / sizeof *mountpoints; i++) {
		dev_t dev = mounted_device(d->tree, mountpoints[i]);

		if (dev != 0 && device_by_number(d->tree, dev, &mounted) == 0 &&
		    device_lies_on(&mounted, d->sys_dir, 0))
			return true;
	}
	return false;
}

static void
describe(const struct device *d, struct disk_info *ret_disk)
{
	struct disk_info i = {.size_bytes = device_number(d, "size") * SECTOR_BYTES};
	struct device disk = *d;

	if (d->partition != 0)
		(void)device_at(d->tree, d->parent_dir, &disk);
	(void)text_print(i.path, sizeof i.path, "/dev/%s", d->name);
	identity_best(d, i.identity);
	if (device_read(&disk, "device/model", i.model, sizeof i.model) ||
	    device_read(&disk, "device/vendor", i.model, sizeof i.model))
		device_tidy(i.model);
	i.whole_disk = d->partition == 0;
	i.removable = device_number(&disk, "removable") != 0;
	i.read_only = device_number(d, "ro") != 0;
	i.loop = text_has_prefix(disk.name, "loop");
	i.ram = text_has_prefix(disk.name, "ram") || text_has_prefix(disk.name, "zram");
	i.member = is_member(d);
	i.boot_disk = is_boot_disk(d);
	i.by_default =
	    i.whole_disk && !i.removable && !i.read_only && !i.loop && !i.ram && !i.member && i.identity[0] != '\0';
	*ret_disk = i;
}

/* ---- all of them ---- */

struct listing {
	struct disk_info *disks;
	size_t count, max;
};

static int
add_to_listing(const struct device *d, void *arg)
{
	struct listing *l = arg;

	if (l->count < l->max)
		describe(d, &l->disks[l->count++]);
	return 0;
}

int
disks_list(const char *sys_root, struct disk_info *ret_disks, size_t max, struct hf_error *err)
{
	struct listing l = {.disks = ret_disks, .max = max};
	struct tree t;
	int r = device_tree_above(sys_root, &t);

	if (r == 0)
		r = device_each_disk(&t, add_to_listing, &l);
	if (r < 0)
		return hf_error_set(err, r, "listing the disks in %s/block", sys_root);
	return (int)l.count;
}

static void
describe_file(const char *path, const struct stat *st, struct disk_info *ret_disk)
{
	struct disk_info i = {.size_bytes = (uint64_t)st->st_size, .whole_disk = true};

	(void)text_print(i.path, sizeof i.path, "%s", path);
	identity_print_file(st->st_dev, st->st_ino, i.identity);
	(void)text_print(i.model, sizeof i.model, "image file");
	*ret_disk = i;
}

int
disks_identify(const char *path, struct disk_info *ret_disk, struct hf_error *err)
{
	struct device d;
	struct stat st;
	int r;

	if (strlen(path) >= PATH_BYTES)
		return hf_error_set(err, -ENAMETOOLONG, "%s", path);
	if (stat(path, &st) < 0)
		return hf_error_set(err, -errno, "%s", path);
	if (S_ISREG(st.st_mode)) {
		describe_file(path, &st, ret_disk);
		return 0;
	}
	if (!S_ISBLK(st.st_mode))
		return hf_error_say(err, -ENOTBLK, "%s is neither a disk nor an image file", path);
	r = device_by_number(device_tree_real(), st.st_rdev, &d);
	if (r < 0)
		return hf_error_set(err, r, "%s: not found in /sys/dev/block", path);
	describe(&d, ret_disk);
	(void)text_print(ret_disk->path, sizeof ret_disk->path, "%s", path);
	if (ret_disk->identity[0] == '\0')
		return hf_error_say(err, -HF_EIDENTITY,
		    "%s: no WWN, serial number, partition table or file system to recognise it by "
		    "(or no right to read "
		    "it: are you root?). Put a partition table on it first",
		    path);
	return 0;
}

/* ---- finding one again ---- */

struct search {
	const char *identity;
	const struct identity_kind *kind;
	unsigned partition; /* 0 = a whole disk */
	struct device found;
	int count;
};

static int
match_device(const struct device *d, struct search *s)
{
	char identity[NAME_BYTES];

	if (identity_read(d, s->kind, identity) && strcmp(identity, s->identity) == 0) {
		s->found = *d;
		s->count++;
	}
	return 0;
}

static int
match_partitions(const struct device *disk, struct search *s)
{
	char path[PATH_MAX];
	struct device d;
	struct dirent *e;
	DIR *dir = opendir(disk->sys_dir);

	while (dir != NULL && (e = readdir(dir)) != NULL)
		if (text_has_prefix(e->d_name, disk->name) &&
		    text_print(path, sizeof path, "%s/%s", disk->sys_dir, e->d_name) == 0 &&
		    device_at(disk->tree, path, &d) == 0 && d.partition == s->partition)
			(void)match_device(&d, s);
	if (dir != NULL)
		closedir(dir);
	return 0;
}

static bool
is_virtual(const struct device *d)
{
	return device_has(d, "loop/backing_file") || device_has(d, "dm") || device_has(d, "md");
}

/* Paths of a multipath device and halves of a mirror carry the identity of the whole: they are not
 * candidates. Nor are loop and dm devices when a disk is known by its content: a mounted export or
 * snapshot of it shows the same. */
static int
match_disk(const struct device *d, void *arg)
{
	struct search *s = arg;

	if (device_any_linked(d, "holders", is_aggregate, NULL, 0) || (s->kind->is_content && is_virtual(d)))
		return 0;
	return s->partition != 0 ? match_partitions(d, s) : match_device(d, s);
}

static bool
is_file_identity(const char *identity, const struct stat *st)
{
	char text[NAME_BYTES];

	identity_print_file(st->st_dev, st->st_ino, text);
	return S_ISREG(st->st_mode) && strcmp(identity, text) == 0;
}

/* An image file: at its old path, or renamed within its directory. */
static int
find_file(const char *identity, const char *hint_path, struct disk_info *ret_disk)
{
	char path[PATH_MAX];
	const char *slash = strrchr(hint_path, '/');
	struct dirent *e;
	struct stat st;
	int r = -ENOENT;
	DIR *dir;

	if (stat(hint_path, &st) == 0 && is_file_identity(identity, &st)) {
		describe_file(hint_path, &st, ret_disk);
		return 0;
	}
	if (slash == NULL || text_print(path, sizeof path, "%.*s/", (int)(slash - hint_path), hint_path) < 0)
		return -ENOENT;
	dir = opendir(path);
	while (dir != NULL && r < 0 && (e = readdir(dir)) != NULL) {
		if (text_print(path, sizeof path, "%.*s/%s", (int)(slash - hint_path), hint_path, e->d_name) < 0 ||
		    strlen(path) >= PATH_BYTES || stat(path, &st) < 0 || !is_file_identity(identity, &st))
			continue;
		describe_file(path, &st, ret_disk);
		r = 0;
	}
	if (dir != NULL)
		closedir(dir);
	return r;
}

/* True if hint_path is a block device with this identity: keeps the name people gave
 * (/dev/disk/by-id/...). */
static bool
hint_holds(const struct search *s, const char *hint_path, struct device *ret_device)
{
	char identity[NAME_BYTES];
	struct stat st;

	return stat(hint_path, &st) == 0 && S_ISBLK(st.st_mode) &&
	       device_by_number(device_tree_real(), st.st_rdev, ret_device) == 0 &&
	       identity_read(ret_device, s->kind, identity) && strcmp(identity, s->identity) == 0;
}

int
disks_find(const char *identity, const char *hint_path, struct disk_info *ret_disk, struct hf_error *err)
{
	struct search s = {
	    .identity = identity, .kind = identity_find_kind(identity), .partition = identity_partition(identity)};
	struct device hinted;
	bool at_hint;
	int r;

	if (s.kind == NULL)
		return hf_error_set(err, -EINVAL, "identity %s", identity);
	at_hint = hint_holds(&s, hint_path, &hinted);
	if (s.kind == identity_file_kind() && !at_hint && find_file(identity, hint_path, ret_disk) == 0)
		return 0;
	r = device_each_disk(device_tree_real(), match_disk, &s);
	if (r < 0)
		return hf_error_set(err, r, "looking for disk %s", identity);
	/* Several loop devices on one file show the same bytes: any of them will do, the hinted one
	 * first. */
	if (s.count > 1 && s.kind != identity_file_kind())
		return hf_error_say(err, -HF_EIDENTITY, "%d disks have the identity %s (one of them is %s)", s.count,
		    identity, s.found.name);
	if (s.count == 0 && !at_hint)
		return hf_error_set(err, -ENOENT, "no disk with identity %s", identity);
	describe(at_hint ? &hinted : &s.found, ret_disk);
	(void)text_print(ret_disk->identity, sizeof ret_disk->identity, "%s", identity);
	if (at_hint)
		(void)text_print(ret_disk->path, sizeof ret_disk->path, "%s", hint_path);
	return 0;
}

bool
disks_carries(const struct disk_info *disk, dev_t dev)
{
	char identity[NAME_BYTES];
	struct device d, holder;
	struct stat st;

	if (device_by_number(device_tree_real(), dev, &d) < 0 || stat(disk->path, &st) < 0)
		return false;
	if (S_ISBLK(st.st_mode))
		return device_by_number(device_tree_real(), st.st_rdev, &holder) == 0 &&
		       device_lies_on(&d, holder.sys_dir, 0);
	/* An image file carries what is mounted from a loop device on it. */
	if (d.partition != 0 && device_at(d.tree, d.parent_dir, &d) < 0)
		return false;
	return identity_read(&d, identity_file_kind(), identity) && strcmp(identity, disk->identity) == 0;
}
