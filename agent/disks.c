/* SPDX-License-Identifier: Apache-2.0 */
/* How a disk is recognised. The kernel gives names (sda, sdb) in the order it finds disks, so a
 *path says nothing. What stays is, best first:
 *
 *	file:DEV:INODE   a loop device: the file behind it. Before all content, because two loop
 *devices may swap their files wwn:...          world wide name (SCSI, SATA, NVMe) serial:... the
 *serial number (virtio, NVMe, what udev found) dm:... md:...    the UUID of a device-mapper or md
 *device ptuuid:...       GPT disk GUID or MBR signature, read from the disk fsuuid:...       UUID
 *of a file system that fills the disk (ext, XFS, btrfs), read from the disk
 *
 * A partition is its disk's identity and "-partN". A disk is listed under the first kind it has,
 *but looked for by the kind that was once noted: a disk noted as "ptuuid:..." is still found after
 *udev has learned its serial number.
 *
 * Limits. UUIDs in the content are copied with it: with a clone of the disk attached two disks
 *answer, which is "ambiguous", never a guess. DEV of file:DEV:INODE is the number of the file
 *system's device: it may change over a reboot (disks found in another order, btrfs, NFS), and then
 *the volume is missing until it is declared again; an inode number may be reused after the file was
 *deleted, and then the size and the comparison with the server are all that is left. */
#include "agent/disks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "proto/common/bytes.h"
#include "proto/common/status.h"

enum {
	SECTOR_BYTES = 512, /* the unit of sysfs sizes, whatever the disk's */
	DEPTH_MAX = 16,     /* of devices upon devices */
	PARTITIONS_MAX = 256,
};

/* Where the kernel's and udev's files are: "" in production, a directory with sys/, dev/, run/ and
 * proc/ in tests. */
struct tree {
	char root[PATH_MAX];
};

struct device {
	const struct tree *tree;
	char name[NAME_BYTES];     /* sda, sda1, dm-0 */
	char sys_dir[PATH_MAX];    /* where its attributes are */
	char parent_dir[PATH_MAX]; /* a partition's disk; "" for a whole disk */
	unsigned partition;        /* 0 = whole disk */
};

static int
print(char *buf, size_t size, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(buf, size, format, ap);
	va_end(ap);
	return n >= 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

static const struct tree *
real_tree(void)
{
	static const struct tree t = {""};

	return &t;
}

static int
tree_above(const char *sys_root, struct tree *ret_tree)
{
	const char *slash = strrchr(sys_root, '/');

	return print(
	    ret_tree->root, sizeof ret_tree->root, "%.*s", slash != NULL ? (int)(slash - sys_root) : 0, sys_root);
}

/* ---- attributes
 * ---------------------------------------------------------------------------------- */

/* Runs of white space become one '_', at the ends none; control characters are dropped: identities
 * go into messages and tables. */
static void
tidy(char *text)
{
	char *out = text;
	bool gap = false;

	for (const unsigned char *in = (const unsigned char *)text; *in != '\0'; in++) {
		if (*in <= ' ' || *in >= 0x7f) {
			gap = out != text;
			continue;
		}
		if (gap)
			*out++ = '_';
		gap = false;
		*out++ = (char)*in;
	}
	*out = '\0';
}

/* The first line of a small file, as it is. False if there is none or it is empty. */
static bool
read_line(const char *path, char *ret_text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, ret_text, size - 1);
	close(fd);
	if (n <= 0)
		return false;
	ret_text[n] = '\0';
	ret_text[strcspn(ret_text, "\n")] = '\0';
	return ret_text[0] != '\0';
}

static bool
read_attribute(const struct device *d, const char *name, char *ret_text, size_t size)
{
	char path[PATH_MAX];

	return print(path, sizeof path, "%s/%s", d->sys_dir, name) == 0 && read_line(path, ret_text, size);
}

static uint64_t
number_attribute(const struct device *d, const char *name)
{
	char text[64];

	return read_attribute(d, name, text, sizeof text) ? strtoull(text, NULL, 10) : 0;
}

static bool
has_attribute(const struct device *d, const char *name)
{
	char path[PATH_MAX];

	return print(path, sizeof path, "%s/%s", d->sys_dir, name) == 0 && access(path, F_OK) == 0;
}

/* What udev noted about the device under key ("E:ID_WWN=..."). Absent where no udev runs. */
static bool
udev_property(const struct device *d, const char *key, char *ret_text, size_t size)
{
	char number[64], path[PATH_MAX], line[1024];
	bool found = false;
	size_t key_len = strlen(key);
	FILE *f;

	if (!read_attribute(d, "dev", number, sizeof number) ||
	    print(path, sizeof path, "%s/run/udev/data/b%s", d->tree->root, number) < 0)
		return false;
	f = fopen(path, "re");
	if (f == NULL)
		return false;
	while (!found && fgets(line, sizeof line, f) != NULL) {
		if (strncmp(line, "E:", 2) != 0 || strncmp(line + 2, key, key_len) != 0 || line[2 + key_len] != '=')
			continue;
		line[strcspn(line, "\n")] = '\0';
		found = print(ret_text, size, "%s", line + 2 + key_len + 1) == 0 && ret_text[0] != '\0';
	}
	fclose(f);
	return found;
}

/* ---- the kinds of identity
 * ------------------------------------------------------------------------ */

/* Firmware that has no serial number says "0", "000000" or "(null)": the same on every such disk.
 */
static bool
is_meaningful(const char *text)
{
	return text[strspn(text, "0_.-")] != '\0' && strcmp(text, "(null)") != 0 && strcasecmp(text, "none") != 0;
}

static bool
first_meaningful(
    const struct device *d, const char *const *attributes, const char *property, char *ret_text, size_t size)
{
	for (; *attributes != NULL; attributes++) {
		if (!read_attribute(d, *attributes, ret_text, size))
			continue;
		tidy(ret_text);
		if (is_meaningful(ret_text))
			return true;
	}
	if (property == NULL || !udev_property(d, property, ret_text, size))
		return false;
	tidy(ret_text);
	return is_meaningful(ret_text);
}

static bool
wwn_of(const struct device *d, char *ret_text, size_t size)
{
	static const char *const attributes[] = {"wwid", "device/wwid", "device/wwn", NULL};

	return first_meaningful(d, attributes, "ID_WWN_WITH_EXTENSION", ret_text, size) ||
	       first_meaningful(d, attributes + 3, "ID_WWN", ret_text, size);
}

static bool
serial_of(const struct device *d, char *ret_text, size_t size)
{
	static const char *const attributes[] = {"serial", "device/serial", NULL};

	return first_meaningful(d, attributes, "ID_SERIAL", ret_text, size);
}

static bool
dm_uuid_of(const struct device *d, char *ret_text, size_t size)
{
	static const char *const attributes[] = {"dm/uuid", NULL};

	return first_meaningful(d, attributes, NULL, ret_text, size);
}

static bool
md_uuid_of(const struct device *d, char *ret_text, size_t size)
{
	static const char *const attributes[] = {"md/uuid", NULL};

	return first_meaningful(d, attributes, "MD_UUID", ret_text, size);
}

static bool
print_file_identity(dev_t dev, uint64_t inode, char *ret_text, size_t size)
{
	return print(ret_text, size, "%llu:%llu", (unsigned long long)dev, (unsigned long long)inode) == 0;
}

static int
open_device(const struct device *d)
{
	char path[PATH_MAX];
	int r = print(path, sizeof path, "%s/dev/%s", d->tree->root, d->name);

	return r < 0 ? r : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* Ask the driver first: the path in sysfs may have been renamed since, or belong to another mount
 * namespace. */
static bool
backing_file_of(const struct device *d, char *ret_text, size_t size)
{
	char path[PATH_MAX];
	struct loop_info64 info;
	struct stat st;
	int fd, r = -1;

	if (!read_attribute(d, "loop/backing_file", path, sizeof path))
		return false;
	fd = open_device(d);
	if (fd >= 0) {
		r = ioctl(fd, LOOP_GET_STATUS64, &info);
		close(fd);
	}
	if (r == 0)
		return print_file_identity(info.lo_device, info.lo_inode, ret_text, size);
	return stat(path, &st) == 0 && print_file_identity(st.st_dev, st.st_ino, ret_text, size);
}

/* As blkid writes it: the first three fields of a GUID are little-endian. */
static void
print_guid(const unsigned char *g, char *ret_text, size_t size)
{
	(void)print(ret_text, size, "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", get_le32(g), get_le16(g + 4),
	    get_le16(g + 6), g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
}

static void
print_uuid(const unsigned char *u, char *ret_text, size_t size)
{
	(void)print(ret_text, size, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
	    u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

static bool
is_zero(const unsigned char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

/* The first 128 KiB of the disk: every table and superblock looked at below lies in it. Gives
 * memory, NULL if unreadable. */
enum { HEAD_BYTES = 128 * 1024 };

static unsigned char *
read_head(const struct device *d)
{
	unsigned char *head = calloc(1, HEAD_BYTES);
	int fd = open_device(d);
	ssize_t n = -1;

	if (fd >= 0) {
		if (head != NULL)
			n = pread(fd, head, HEAD_BYTES, 0);
		close(fd);
	}
	if (n < SECTOR_BYTES) {
		free(head);
		return NULL;
	}
	return head;
}

static bool
gpt_guid(const unsigned char *head, char *ret_text, size_t size)
{
	static const size_t sector_sizes[] = {512, 4096}; /* the GPT header lies in sector 1 */

	for (size_t i = 0; i < 2; i++) {
		const unsigned char *h = head + sector_sizes[i];

		if (memcmp(h, "EFI PART", 8) != 0 || is_zero(h + 56, 16))
			continue;
		print_guid(h + 56, ret_text, size);
		return true;
	}
	return false;
}

/* 0x55AA alone also ends the boot sector of FAT and NTFS: entries must look like entries, too. */
static bool
mbr_signature(const unsigned char *head, char *ret_text, size_t size)
{
	uint32_t signature = get_le32(head + 440);
	int used = 0;

	if (head[510] != 0x55 || head[511] != 0xaa || signature == 0)
		return false;
	for (const unsigned char *e = head + 446; e < head + 510; e += 16) {
		if ((e[0] & 0x7f) != 0)
			return false;
		used += e[4] != 0 && get_le32(e + 12) != 0;
	}
	return used > 0 && print(ret_text, size, "%08x", signature) == 0;
}

static bool
partition_table_of(const struct device *d, char *ret_text, size_t size)
{
	unsigned char *head = read_head(d);
	bool found = head != NULL && (gpt_guid(head, ret_text, size) || mbr_signature(head, ret_text, size));

	free(head);
	return found;
}

static bool
file_system_of(const struct device *d, char *ret_text, size_t size)
{
	static const struct {
		size_t magic_at;
		const char *magic;
		size_t magic_len, uuid_at;
	} kinds[] = {
	    {1024 + 56, "\x53\xef", 2, 1024 + 104},  /* ext2, 3, 4 */
	    {0, "XFSB", 4, 32},                      /* XFS */
	    {65536 + 64, "_BHRfS_M", 8, 65536 + 32}, /* btrfs */
	};
	unsigned char *head = read_head(d);
	bool found = false;

	for (size_t i = 0; head != NULL && !found && i < sizeof kinds / sizeof *kinds; i++) {
		found = memcmp(head + kinds[i].magic_at, kinds[i].magic, kinds[i].magic_len) == 0 &&
			!is_zero(head + kinds[i].uuid_at, 16);
		if (found)
			print_uuid(head + kinds[i].uuid_at, ret_text, size);
	}
	free(head);
	return found;
}

struct identity_kind {
	const char *prefix;
	bool (*read)(const struct device *d, char *ret_text, size_t size);
};

static const struct identity_kind identity_kinds[] = {
    {"file:", backing_file_of},
    {"wwn:", wwn_of},
    {"serial:", serial_of},
    {"dm:", dm_uuid_of},
    {"md:", md_uuid_of},
    {"ptuuid:", partition_table_of},
    {"fsuuid:", file_system_of},
};
enum { IDENTITY_KINDS = sizeof identity_kinds / sizeof *identity_kinds };

/* ---- devices
 * ------------------------------------------------------------------------------------- */

/* The device whose attributes lie in sys_dir (any path to it). 0, -ENOENT if that is no block
 * device. */
static int
device_at(const struct tree *t, const char *sys_dir, struct device *ret_device)
{
	struct device d = {.tree = t};
	char *slash;

	if (realpath(sys_dir, d.sys_dir) == NULL)
		return -errno;
	slash = strrchr(d.sys_dir, '/');
	if (slash == NULL || !has_attribute(&d, "size"))
		return -ENOENT;
	if (print(d.name, sizeof d.name, "%s", slash + 1) < 0)
		return -ENAMETOOLONG;
	for (char *c = d.name; *c != '\0'; c++)
		if (*c == '!') /* sysfs cannot hold the '/' of cciss/c0d0 */
			*c = '/';
	d.partition = (unsigned)number_attribute(&d, "partition");
	if (d.partition != 0)
		(void)print(d.parent_dir, sizeof d.parent_dir, "%.*s", (int)(slash - d.sys_dir), d.sys_dir);
	*ret_device = d;
	return 0;
}

static int
device_by_number(const struct tree *t, dev_t dev, struct device *ret_device)
{
	char path[PATH_MAX];
	int r = print(path, sizeof path, "%s/sys/dev/block/%u:%u", t->root, major(dev), minor(dev));

	return r < 0 ? r : device_at(t, path, ret_device);
}

/* The identity of one kind, prefix included; a partition's is its disk's with a suffix. False if it
 * has none of that kind. */
static bool
identity_of_kind(const struct device *d, const struct identity_kind *kind, char *ret_identity)
{
	char text[NAME_BYTES * 2];
	struct device disk = *d;

	if (d->partition != 0 && device_at(d->tree, d->parent_dir, &disk) < 0)
		return false;
	if (!kind->read(&disk, text, sizeof text))
		return false;
	if (d->partition != 0)
		return print(ret_identity, NAME_BYTES, "%s%s-part%u", kind->prefix, text, d->partition) == 0;
	return print(ret_identity, NAME_BYTES, "%s%s", kind->prefix, text) == 0;
}

static void
best_identity(const struct device *d, char *ret_identity)
{
	for (size_t i = 0; i < IDENTITY_KINDS; i++)
		if (identity_of_kind(d, &identity_kinds[i], ret_identity))
			return;
	ret_identity[0] = '\0';
}

/* Call visit for each device named in a directory of links (holders/, slaves/), until it returns
 * true. */
static bool
any_linked(const struct device *d, const char *directory,
    bool (*visit)(const struct device *other, const void *arg, int depth), const void *arg, int depth)
{
	char path[PATH_MAX];
	struct device other;
	struct dirent *e;
	bool found = false;
	DIR *dir;

	if (depth >= DEPTH_MAX || print(path, sizeof path, "%s/%s", d->sys_dir, directory) < 0)
		return false;
	dir = opendir(path);
	while (dir != NULL && !found && (e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.' || print(path, sizeof path, "%s/%s/%s", d->sys_dir, directory, e->d_name) < 0)
			continue;
		found = device_at(d->tree, path, &other) == 0 && visit(&other, arg, depth + 1);
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

/* True if d is the device in directory arg, a partition of it, or built upon it. */
static bool
lies_on(const struct device *d, const void *arg, int depth)
{
	const char *sys_dir = arg;
	struct device disk;

	if (strcmp(d->sys_dir, sys_dir) == 0)
		return true;
	if (d->partition != 0 && depth < DEPTH_MAX)
		return device_at(d->tree, d->parent_dir, &disk) == 0 && lies_on(&disk, arg, depth + 1);
	return any_linked(d, "slaves", lies_on, arg, depth);
}

static bool
has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool
is_multipath(const struct device *d)
{
	char uuid[NAME_BYTES * 2];

	return read_attribute(d, "dm/uuid", uuid, sizeof uuid) && has_prefix(uuid, "mpath-");
}

/* Devices that stand for the disks they are made of, and are the better volume: md and multipath.
 */
static bool
is_aggregate(const struct device *d, const void *arg, int depth)
{
	return has_attribute(d, "md") || is_multipath(d);
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
	if (has_attribute(d, "md"))
		return any_linked(d, "slaves", is_partition, NULL, 0);
	if (has_attribute(d, "dm"))
		return !is_multipath(d);
	return any_linked(d, "holders", is_aggregate, NULL, 0);
}

/* The device number of the file system mounted at a path; 0 if nothing is or it has none. */
static dev_t
mounted_device(const struct tree *t, const char *mountpoint)
{
	char path[PATH_MAX], line[PATH_MAX * 2], where[PATH_MAX];
	unsigned maj, min;
	dev_t dev = 0;
	FILE *f;

	if (print(path, sizeof path, "%s/proc/self/mountinfo", t->root) < 0)
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

		if (dev != 0 && device_by_number(d->tree, dev, &mounted) == 0 && lies_on(&mounted, d->sys_dir, 0))
			return true;
	}
	return false;
}

static void
describe(const struct device *d, struct disk_info *ret_disk)
{
	struct disk_info i = {.size_bytes = number_attribute(d, "size") * SECTOR_BYTES};
	struct device disk = *d;

	if (d->partition != 0)
		(void)device_at(d->tree, d->parent_dir, &disk);
	(void)print(i.path, sizeof i.path, "/dev/%s", d->name);
	best_identity(d, i.identity);
	if (read_attribute(&disk, "device/model", i.model, sizeof i.model) ||
	    read_attribute(&disk, "device/vendor", i.model, sizeof i.model))
		tidy(i.model);
	i.whole_disk = d->partition == 0;
	i.removable = number_attribute(&disk, "removable") != 0;
	i.read_only = number_attribute(d, "ro") != 0;
	i.loop = has_prefix(disk.name, "loop");
	i.ram = has_prefix(disk.name, "ram") || has_prefix(disk.name, "zram");
	i.member = is_member(d);
	i.boot_disk = is_boot_disk(d);
	i.by_default =
	    i.whole_disk && !i.removable && !i.read_only && !i.loop && !i.ram && !i.member && i.identity[0] != '\0';
	*ret_disk = i;
}

/* ---- all of them
 * --------------------------------------------------------------------------------- */

/* Call visit for every whole disk of the machine that has a size, by name. Returns the count, or
 * -errno. */
static int
each_disk(const struct tree *t, int (*visit)(const struct device *d, void *arg), void *arg)
{
	char path[PATH_MAX];
	struct dirent **names;
	struct device d;
	int n, r = 0;

	if (print(path, sizeof path, "%s/sys/block", t->root) < 0)
		return -ENAMETOOLONG;
	n = scandir(path, &names, NULL, versionsort);
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		if (r == 0 && names[i]->d_name[0] != '.' &&
		    print(path, sizeof path, "%s/sys/block/%s", t->root, names[i]->d_name) == 0 &&
		    device_at(t, path, &d) == 0 && number_attribute(&d, "size") != 0)
			r = visit(&d, arg);
		free(names[i]);
	}
	free(names);
	return r;
}

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
	int r = tree_above(sys_root, &t);

	if (r == 0)
		r = each_disk(&t, add_to_listing, &l);
	if (r < 0)
		return hf_error_set(err, r, "listing the disks in %s/block", sys_root);
	return (int)l.count;
}

static void
describe_file(const char *path, const struct stat *st, struct disk_info *ret_disk)
{
	struct disk_info i = {.size_bytes = (uint64_t)st->st_size, .whole_disk = true};

	(void)print(i.path, sizeof i.path, "%s", path);
	(void)print(i.identity, sizeof i.identity, "file:%llu:%llu", (unsigned long long)st->st_dev,
	    (unsigned long long)st->st_ino);
	(void)print(i.model, sizeof i.model, "image file");
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
		return hf_error_set(err, -ENOTBLK, "%s is neither a disk nor an image file", path);
	r = device_by_number(real_tree(), st.st_rdev, &d);
	if (r < 0)
		return hf_error_set(err, r, "%s: not found in /sys/dev/block", path);
	describe(&d, ret_disk);
	(void)print(ret_disk->path, sizeof ret_disk->path, "%s", path);
	if (ret_disk->identity[0] == '\0')
		return hf_error_say(err, -HF_EIDENTITY,
		    "%s: no WWN, serial number, partition table or file system to recognise it by "
		    "(or no right to read "
		    "it: are you root?). Put a partition table on it first",
		    path);
	return 0;
}

/* ---- finding one again
 * --------------------------------------------------------------------------- */

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

	if (identity_of_kind(d, s->kind, identity) && strcmp(identity, s->identity) == 0) {
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
		if (has_prefix(e->d_name, disk->name) &&
		    print(path, sizeof path, "%s/%s", disk->sys_dir, e->d_name) == 0 &&
		    device_at(disk->tree, path, &d) == 0 && d.partition == s->partition)
			(void)match_device(&d, s);
	if (dir != NULL)
		closedir(dir);
	return 0;
}

static bool
is_virtual(const struct device *d)
{
	return has_attribute(d, "loop/backing_file") || has_attribute(d, "dm") || has_attribute(d, "md");
}

/* Paths of a multipath device and halves of a mirror carry the identity of the whole: they are not
 * candidates. Nor are loop and dm devices when a disk is known by its content: a mounted export or
 * snapshot of it shows the same. */
static int
match_disk(const struct device *d, void *arg)
{
	struct search *s = arg;
	bool by_content = s->kind->read == partition_table_of || s->kind->read == file_system_of;

	if (any_linked(d, "holders", is_aggregate, NULL, 0) || (by_content && is_virtual(d)))
		return 0;
	return s->partition != 0 ? match_partitions(d, s) : match_device(d, s);
}

static bool
parse_identity(const char *identity, struct search *ret_search)
{
	const char *part = strstr(identity, "-part");

	ret_search->identity = identity;
	ret_search->partition = part != NULL ? (unsigned)strtoul(part + 5, NULL, 10) : 0;
	for (size_t i = 0; i < IDENTITY_KINDS; i++)
		if (has_prefix(identity, identity_kinds[i].prefix)) {
			ret_search->kind = &identity_kinds[i];
			return true;
		}
	return false;
}

static bool
is_file_identity(const char *identity, const struct stat *st)
{
	char text[NAME_BYTES];

	return S_ISREG(st->st_mode) && print_file_identity(st->st_dev, st->st_ino, text, sizeof text) &&
	       strcmp(identity + strlen("file:"), text) == 0;
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
	if (slash == NULL || print(path, sizeof path, "%.*s/", (int)(slash - hint_path), hint_path) < 0)
		return -ENOENT;
	dir = opendir(path);
	while (dir != NULL && r < 0 && (e = readdir(dir)) != NULL) {
		if (print(path, sizeof path, "%.*s/%s", (int)(slash - hint_path), hint_path, e->d_name) < 0 ||
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
	       device_by_number(real_tree(), st.st_rdev, ret_device) == 0 &&
	       identity_of_kind(ret_device, s->kind, identity) && strcmp(identity, s->identity) == 0;
}

int
disks_find(const char *identity, const char *hint_path, struct disk_info *ret_disk, struct hf_error *err)
{
	struct search s = {.count = 0};
	struct device hinted;
	bool at_hint;
	int r;

	if (!parse_identity(identity, &s))
		return hf_error_set(err, -EINVAL, "identity %s", identity);
	at_hint = hint_holds(&s, hint_path, &hinted);
	if (s.kind->read == backing_file_of && !at_hint && find_file(identity, hint_path, ret_disk) == 0)
		return 0;
	r = each_disk(real_tree(), match_disk, &s);
	if (r < 0)
		return hf_error_set(err, r, "looking for disk %s", identity);
	/* Several loop devices on one file show the same bytes: any of them will do, the hinted one
	 * first. */
	if (s.count > 1 && s.kind->read != backing_file_of)
		return hf_error_say(err, -HF_EIDENTITY, "%d disks have the identity %s (one of them is %s)", s.count,
		    identity, s.found.name);
	if (s.count == 0 && !at_hint)
		return hf_error_set(err, -ENOENT, "no disk with identity %s", identity);
	describe(at_hint ? &hinted : &s.found, ret_disk);
	(void)print(ret_disk->identity, sizeof ret_disk->identity, "%s", identity);
	if (at_hint)
		(void)print(ret_disk->path, sizeof ret_disk->path, "%s", hint_path);
	return 0;
}

bool
disks_carries(const struct disk_info *disk, dev_t dev)
{
	char identity[NAME_BYTES];
	struct device d, holder;
	struct stat st;

	if (device_by_number(real_tree(), dev, &d) < 0 || stat(disk->path, &st) < 0)
		return false;
	if (S_ISBLK(st.st_mode))
		return device_by_number(real_tree(), st.st_rdev, &holder) == 0 && lies_on(&d, holder.sys_dir, 0);
	/* An image file carries what is mounted from a loop device on it. */
	if (d.partition != 0 && device_at(d.tree, d.parent_dir, &d) < 0)
		return false;
	return identity_of_kind(&d, &identity_kinds[0], identity) && strcmp(identity, disk->identity) == 0;
}
