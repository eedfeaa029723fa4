/* SPDX-License-Identifier: Apache-2.0 */
/* How a disk is recognised. The kernel gives names (sda, sdb) in the order it finds disks, so a path says nothing.
 * What stays is, best first:
 *
 *	file:DEV:INODE   a loop device: the file behind it. Before all content: two loop devices may swap their files
 *	wwn:...          world wide name (SCSI, SATA, NVMe)
 *	serial:...       the serial number (virtio, NVMe, what udev found)
 *	dm:... md:...    the UUID of a device-mapper or md device
 *	ptuuid:...       GPT disk GUID or MBR signature, read from the disk
 *	fsuuid:...       UUID of a file system that fills the disk (ext, XFS, btrfs), read from the disk
 *
 * A partition is its disk's identity and "-partN". A disk is listed under the first kind it has, but looked for by the
 * kind that was once noted: a disk noted as "ptuuid:..." is still found after udev has learned its serial number.
 *
 * Limits. UUIDs in the content are copied with it: with a clone of the disk attached two disks answer, which is
 * "ambiguous", never a guess. DEV of file:DEV:INODE is the number of the file system's device: it may change over a
 * reboot (disks found in another order, btrfs, NFS), and then the volume is missing until it is declared again; an
 * inode number may be reused after the file was deleted, and then the size and the comparison with the server are all
 * that is left. */
#include "agent/identity.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/common/bytes.h"
#include "proto/common/text.h"

enum { SECTOR_BYTES = 512 }; /* the smallest there is */

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
		if (!device_read(d, *attributes, ret_text, size))
			continue;
		device_tidy(ret_text);
		if (is_meaningful(ret_text))
			return true;
	}
	if (property == NULL || !device_udev(d, property, ret_text, size))
		return false;
	device_tidy(ret_text);
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
print_inode(dev_t dev, uint64_t inode, char *ret_text, size_t size)
{
	return text_print(ret_text, size, "%llu:%llu", (unsigned long long)dev, (unsigned long long)inode) == 0;
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

	if (!device_read(d, "loop/backing_file", path, sizeof path))
		return false;
	fd = device_open(d);
	if (fd >= 0) {
		r = ioctl(fd, LOOP_GET_STATUS64, &info);
		close(fd);
	}
	if (r == 0)
		return print_inode(info.lo_device, info.lo_inode, ret_text, size);
	return stat(path, &st) == 0 && print_inode(st.st_dev, st.st_ino, ret_text, size);
}

/* As blkid writes it: the first three fields of a GUID are little-endian. */
static void
print_guid(const unsigned char *g, char *ret_text, size_t size)
{
	(void)text_print(ret_text, size, "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", get_le32(g),
	    get_le16(g + 4), get_le16(g + 6), g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
}

static void
print_uuid(const unsigned char *u, char *ret_text, size_t size)
{
	(void)text_print(ret_text, size, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0],
	    u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
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
	int fd = device_open(d);
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
	return used > 0 && text_print(ret_text, size, "%08x", signature) == 0;
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
	} systems[] = {
	    {1024 + 56, "\x53\xef", 2, 1024 + 104},  /* ext2, 3, 4 */
	    {0, "XFSB", 4, 32},                      /* XFS */
	    {65536 + 64, "_BHRfS_M", 8, 65536 + 32}, /* btrfs */
	};
	unsigned char *head = read_head(d);
	bool found = false;

	for (size_t i = 0; head != NULL && !found && i < sizeof systems / sizeof *systems; i++) {
		found = memcmp(head + systems[i].magic_at, systems[i].magic, systems[i].magic_len) == 0 &&
			!is_zero(head + systems[i].uuid_at, 16);
		if (found)
			print_uuid(head + systems[i].uuid_at, ret_text, size);
	}
	free(head);
	return found;
}

enum { KIND_FILE };

static const struct identity_kind kinds[] = {
    [KIND_FILE] = {"file:", false, backing_file_of},
    {"wwn:", false, wwn_of},
    {"serial:", false, serial_of},
    {"dm:", false, dm_uuid_of},
    {"md:", false, md_uuid_of},
    {"ptuuid:", true, partition_table_of},
    {"fsuuid:", true, file_system_of},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

const struct identity_kind *
identity_file_kind(void)
{
	return &kinds[KIND_FILE];
}

const struct identity_kind *
identity_find_kind(const char *identity)
{
	for (size_t i = 0; i < KINDS; i++)
		if (text_has_prefix(identity, kinds[i].prefix))
			return &kinds[i];
	return NULL;
}

bool
identity_read(const struct device *d, const struct identity_kind *kind, char ret_identity[NAME_BYTES])
{
	char text[NAME_BYTES * 2];
	struct device disk = *d;

	if (d->partition != 0 && device_at(d->tree, d->parent_dir, &disk) < 0)
		return false;
	if (!kind->read(&disk, text, sizeof text))
		return false;
	if (d->partition != 0)
		return text_print(ret_identity, NAME_BYTES, "%s%s-part%u", kind->prefix, text, d->partition) == 0;
	return text_print(ret_identity, NAME_BYTES, "%s%s", kind->prefix, text) == 0;
}

void
identity_best(const struct device *d, char ret_identity[NAME_BYTES])
{
	for (size_t i = 0; i < KINDS; i++)
		if (identity_read(d, &kinds[i], ret_identity))
			return;
	ret_identity[0] = '\0';
}

unsigned
identity_partition(const char *identity)
{
	const char *part = strstr(identity, "-part");

	return part != NULL ? (unsigned)strtoul(part + strlen("-part"), NULL, 10) : 0;
}

void
identity_print_file(dev_t dev, uint64_t inode, char ret_identity[NAME_BYTES])
{
	char text[NAME_BYTES];

	(void)print_inode(dev, inode, text, sizeof text); /* two numbers always fit */
	(void)text_print(ret_identity, NAME_BYTES, "%s%s", kinds[KIND_FILE].prefix, text);
}
