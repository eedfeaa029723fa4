/* SPDX-License-Identifier: Apache-2.0 */
/* Disks by identity: in a made-up /sys, and (as root) on real loop devices. */
#include "agent/disks.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/common/bytes.h"
#include "proto/common/status.h"
#include "tests/lib/loop.h"
#include "tests/lib/scratch.h"

enum { DISKS_IN_TEST = 16 };

struct tree {
	char root[64], sys[80];
	unsigned next_minor;
	struct disk_info disks[DISKS_IN_TEST];
	int count;
	char loops[2][LOOP_PATH_BYTES];
};

static void
shell(const char *format, ...)
{
	char command[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(command, sizeof command, format, ap);
	va_end(ap);
	assert_int_equal(system(command), 0);
}

static int
create_tree(void **state)
{
	struct tree *t = calloc(1, sizeof *t);

	assert_non_null(t);
	scratch_make(t->root, sizeof t->root, "test_disks");
	snprintf(t->sys, sizeof t->sys, "%s/sys", t->root);
	shell("cd %s && mkdir -p sys/block sys/dev/block sys/devices dev run/udev/data proc/self", t->root);
	*state = t;
	return 0;
}

static int
destroy_tree(void **state)
{
	struct tree *t = *state;

	for (size_t i = 0; i < 2; i++)
		loop_detach(t->loops[i]);
	assert_int_equal(scratch_remove(t->root), 0);
	free(t);
	return 0;
}

/* devices/PATH with size and number, and the links to it; PATH is NAME or DISK/PARTITION. */
static void
add_device(struct tree *t, const char *path, unsigned sectors)
{
	const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
	unsigned number = t->next_minor++;

	shell("cd %s/sys && mkdir -p devices/%s/holders devices/%s/slaves devices/%s/device && echo %u "
	      ">devices/%s/size && "
	      "echo 8:%u >devices/%s/dev && echo 0 >devices/%s/ro && echo 0 >devices/%s/removable && "
	      "ln -s ../../devices/%s dev/block/8:%u",
	    t->root, path, path, path, sectors, path, number, path, path, path, path, number);
	if (slash == NULL)
		shell("ln -s ../devices/%s %s/sys/block/%s", path, t->root, name);
	else
		shell("echo %s | grep -o '[0-9]*$' >%s/sys/devices/%s/partition", name, t->root, path);
}

static void
set(struct tree *t, const char *path, const char *attribute, const char *value)
{
	shell("cd %s/sys/devices/%s && mkdir -p \"$(dirname %s)\" && printf '%%s\\n' '%s' >%s", t->root, path,
	    attribute, value, attribute);
}

/* upper is built upon lower. */
static void
stack(struct tree *t, const char *upper, const char *lower)
{
	shell("cd %s/sys/devices && ln -s %s/sys/devices/%s %s/slaves/ && ln -s %s/sys/devices/%s %s/holders/", t->root,
	    t->root, lower, upper, t->root, upper, lower);
}

static void
list(struct tree *t)
{
	t->count = disks_list(t->sys, t->disks, DISKS_IN_TEST, NULL);
	assert_in_range(t->count, 0, DISKS_IN_TEST);
}

static const struct disk_info *
find(const struct tree *t, const char *path)
{
	for (int i = 0; i < t->count; i++)
		if (strcmp(t->disks[i].path, path) == 0)
			return &t->disks[i];
	fail_msg("%s is not listed", path);
	return NULL;
}

/* A disk's content: an MBR, a GPT or a file system, as far as we look. */
static void
write_content(const char *path, size_t at, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, (off_t)at), len);
	assert_true(lseek(fd, 0, SEEK_END) >= 4096 || ftruncate(fd, 1024 * 1024) == 0);
	close(fd);
}

static void
write_mbr(const char *path, uint32_t signature, unsigned char type)
{
	unsigned char sector[512] = {0};

	put_le32(sector + 440, signature);
	sector[446 + 4] = type;
	put_le32(sector + 446 + 12, 2048);
	sector[510] = 0x55;
	sector[511] = 0xaa;
	write_content(path, 0, sector, sizeof sector);
}

static void
write_gpt(const char *path, size_t sector_bytes)
{
	static const unsigned char guid[16] = {
	    0x78, 0x56, 0x34, 0x12, 0xcd, 0xab, 0x01, 0xef, 0x80, 0x01, 1, 2, 3, 4, 5, 6};

	write_mbr(path, 0x1111, 0xee);
	write_content(path, sector_bytes, "EFI PART", 8);
	write_content(path, sector_bytes + 56, guid, sizeof guid);
}

/* ---- what identifies a disk ---- */

static void
hardware_identities_come_before_content(void **state)
{
	struct tree *t = *state;
	char path[128];

	add_device(t, "sda", 2048);
	set(t, "sda", "device/wwid", "t10.ATA     QEMU HARDDISK       QM00001  ");
	set(t, "sda", "device/model", "QEMU  HARDDISK  ");
	add_device(t, "vdb", 2048);
	set(t, "vdb", "serial", "disk-77");
	add_device(t, "nvme0n1", 2048);
	set(t, "nvme0n1", "wwid", "eui.0025388b710116a1");
	set(t, "nvme0n1", "device/serial", "S4EV");
	add_device(t, "vdc", 2048);
	snprintf(path, sizeof path, "%s/dev/vdc", t->root);
	write_gpt(path, 512);
	list(t);
	assert_string_equal(find(t, "/dev/sda")->identity, "wwn:t10.ATA_QEMU_HARDDISK_QM00001");
	assert_string_equal(find(t, "/dev/sda")->model, "QEMU_HARDDISK");
	assert_string_equal(find(t, "/dev/vdb")->identity, "serial:disk-77");
	assert_string_equal(find(t, "/dev/nvme0n1")->identity, "wwn:eui.0025388b710116a1");
	assert_string_equal(find(t, "/dev/vdc")->identity, "ptuuid:12345678-abcd-ef01-8001-010203040506");
	assert_int_equal(find(t, "/dev/vdc")->size_bytes, 1024 * 1024);
}

static void
udev_is_asked_when_the_kernel_says_nothing(void **state)
{
	struct tree *t = *state;

	add_device(t, "sda", 2048);
	shell("printf 'S:disk/by-id/x\\nE:ID_WWNX=no\\nE:ID_WWN=0x5000c500a1b2c3d4\\nE:ID_SERIAL=ST_1\\n' "
	      ">%s/run/udev/data/b8:0",
	    t->root);
	add_device(t, "sdb", 2048);
	shell("printf 'E:ID_SERIAL=ST_2\\n' >%s/run/udev/data/b8:1", t->root);
	list(t);
	assert_string_equal(find(t, "/dev/sda")->identity, "wwn:0x5000c500a1b2c3d4");
	assert_string_equal(find(t, "/dev/sdb")->identity, "serial:ST_2");
}

static void
serial_numbers_that_every_disk_has_identify_none(void **state)
{
	struct tree *t = *state;

	add_device(t, "sda", 2048);
	set(t, "sda", "serial", "00000000");
	add_device(t, "sdb", 2048);
	set(t, "sdb", "device/wwid", "   ");
	set(t, "sdb", "serial", "(null)");
	list(t);
	assert_string_equal(find(t, "/dev/sda")->identity, "");
	assert_string_equal(find(t, "/dev/sdb")->identity, "");
	assert_false(find(t, "/dev/sda")->by_default);
}

static void
partition_tables_and_file_systems_are_read(void **state)
{
	static const unsigned char uuid[16] = {0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
	struct tree *t = *state;
	char path[128];

	for (char c = 'a'; c <= 'e'; c++) {
		snprintf(path, sizeof path, "vd%c", c);
		add_device(t, path, 2048);
	}
	snprintf(path, sizeof path, "%s/dev/vda", t->root);
	write_mbr(path, 0xcafe0001, 0x83);
	path[strlen(path) - 1] = 'b';
	write_gpt(path, 4096);
	path[strlen(path) - 1] = 'c'; /* a FAT boot sector ends like an MBR, too */
	write_mbr(path, 0x12345678, 0);
	path[strlen(path) - 1] = 'd';
	write_content(path, 1024 + 56, "\x53\xef", 2);
	write_content(path, 1024 + 104, uuid, 16);
	path[strlen(path) - 1] = 'e';
	write_content(path, 0, "XFSB", 4);
	write_content(path, 32, uuid, 16);
	list(t);
	assert_string_equal(find(t, "/dev/vda")->identity, "ptuuid:cafe0001");
	assert_string_equal(find(t, "/dev/vdb")->identity, "ptuuid:12345678-abcd-ef01-8001-010203040506");
	assert_string_equal(find(t, "/dev/vdc")->identity, "");
	assert_string_equal(find(t, "/dev/vdd")->identity, "fsuuid:deadbeef-0001-0203-0405-060708090a0b");
	assert_string_equal(find(t, "/dev/vde")->identity, "fsuuid:deadbeef-0001-0203-0405-060708090a0b");
}

/* ---- which ones are taken ---- */

static void
whole_fixed_writable_disks_are_the_default(void **state)
{
	static const char *const names[] = {"sda", "sdb", "sr0", "mmcblk0boot0", "zram0", "ram0", "nbd0"};
	struct tree *t = *state;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		add_device(t, names[i], strcmp(names[i], "nbd0") == 0 ? 0 : 2048);
		set(t, names[i], "serial", names[i]);
	}
	set(t, "sr0", "removable", "1");
	set(t, "mmcblk0boot0", "ro", "1");
	list(t);
	assert_int_equal(t->count, 6); /* nbd0 has no medium */
	for (int i = 0; i < t->count; i++)
		assert_int_equal(t->disks[i].by_default, strncmp(t->disks[i].path, "/dev/sd", 7) == 0);
	assert_true(find(t, "/dev/sr0")->removable);
	assert_true(find(t, "/dev/mmcblk0boot0")->read_only);
	assert_true(find(t, "/dev/zram0")->ram);
}

static void
names_are_listed_in_natural_order(void **state)
{
	static const char *const names[] = {"nvme10n1", "nvme2n1", "nvme1n1"};
	struct tree *t = *state;

	for (size_t i = 0; i < 3; i++)
		add_device(t, names[i], 2048);
	list(t);
	assert_string_equal(t->disks[0].path, "/dev/nvme1n1");
	assert_string_equal(t->disks[1].path, "/dev/nvme2n1");
	assert_string_equal(t->disks[2].path, "/dev/nvme10n1");
}

static void
nothing_is_taken_twice(void **state)
{
	struct tree *t = *state;

	/* sda, sdb are two paths to one disk; sdc, sdd a mirror; sde carries LVM; sdf a mirror's half in a partition.
	 */
	for (char name[4] = "sda"; name[2] <= 'g'; name[2]++) {
		add_device(t, name, 2048);
		set(t, name, "serial", name);
	}
	add_device(t, "sdf/sdf1", 1024);
	add_device(t, "dm-0", 2048);
	set(t, "dm-0", "dm/uuid", "mpath-3600140");
	add_device(t, "md0", 2048);
	set(t, "md0", "md/uuid", "11:22");
	add_device(t, "dm-1", 1024);
	set(t, "dm-1", "dm/uuid", "LVM-abc");
	add_device(t, "md1", 1024);
	set(t, "md1", "md/uuid", "33:44");
	stack(t, "dm-0", "sda");
	stack(t, "dm-0", "sdb");
	stack(t, "md0", "sdc");
	stack(t, "md0", "sdd");
	stack(t, "dm-1", "sde");
	stack(t, "md1", "sdf/sdf1");
	list(t);
	assert_int_equal(t->count, 11);
	assert_true(find(t, "/dev/sda")->member && find(t, "/dev/sdd")->member);
	assert_true(find(t, "/dev/dm-0")->by_default);
	assert_string_equal(find(t, "/dev/dm-0")->identity, "dm:mpath-3600140");
	assert_true(find(t, "/dev/md0")->by_default);
	assert_string_equal(find(t, "/dev/md0")->identity, "md:11:22");
	assert_true(find(t, "/dev/sde")->by_default);
	assert_false(find(t, "/dev/dm-1")->by_default);
	assert_true(find(t, "/dev/sdf")->by_default);
	assert_false(find(t, "/dev/md1")->by_default);
	assert_true(find(t, "/dev/sdg")->by_default);
}

static void
the_disk_under_the_root_file_system_is_the_boot_disk(void **state)
{
	struct tree *t = *state;

	add_device(t, "sda", 2048);      /* 8:0 */
	add_device(t, "sda/sda1", 1024); /* 8:1 */
	add_device(t, "sdb", 2048);      /* 8:2 */
	add_device(t, "dm-0", 1024);     /* 8:3 */
	stack(t, "dm-0", "sda/sda1");
	set(t, "dm-0", "dm/uuid", "LVM-root");
	shell("echo '21 1 8:3 / / rw,relatime shared:1 - ext4 /dev/dm-0 rw' >%s/proc/self/mountinfo", t->root);
	list(t);
	assert_true(find(t, "/dev/sda")->boot_disk);
	assert_false(find(t, "/dev/sdb")->boot_disk);
}

/* ---- real files and devices ---- */

static void
a_file_is_its_inode(void **state)
{
	struct tree *t = *state;
	char a[128], b[128], identity[NAME_BYTES];
	struct disk_info disk;
	struct stat st;

	snprintf(a, sizeof a, "%s/a.img", t->root);
	snprintf(b, sizeof b, "%s/b.img", t->root);
	write_mbr(a, 1, 0x83);
	assert_int_equal(stat(a, &st), 0);
	snprintf(
	    identity, sizeof identity, "file:%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	assert_int_equal(disks_identify(a, &disk, NULL), 0);
	assert_string_equal(disk.identity, identity);
	assert_int_equal(disk.size_bytes, 1024 * 1024);
	assert_int_equal(rename(a, b), 0);
	assert_int_equal(disks_find(identity, a, &disk, NULL), 0);
	assert_string_equal(disk.path, b);
	assert_int_equal(unlink(b), 0);
	assert_int_equal(disks_find(identity, a, &disk, NULL), -ENOENT);
}

static void
what_is_no_disk_is_refused_in_words(void **state)
{
	struct hf_error err = {0};
	struct disk_info disk;

	assert_int_equal(disks_identify("/dev/null", &disk, &err), -ENOTBLK);
	assert_non_null(strstr(err.text, "/dev/null"));
	assert_int_equal(disks_identify("/nonexistent", &disk, &err), -ENOENT);
	assert_int_equal(disks_find("nonsense", "/dev/null", &disk, &err), -EINVAL);
}

static void
a_loop_device_is_the_file_behind_it(void **state)
{
	struct tree *t = *state;
	char image[128];
	struct disk_info file, loop, found;

	if (!loop_is_possible()) {
		print_message("skipped: loop devices need root\n");
		skip();
	}
	snprintf(image, sizeof image, "%s/a.img", t->root);
	write_gpt(image, 512);
	assert_true(loop_attach(image, t->loops[0]));
	assert_int_equal(disks_identify(image, &file, NULL), 0);
	assert_int_equal(disks_identify(t->loops[0], &loop, NULL), 0);
	assert_string_equal(loop.identity, file.identity);
	assert_true(loop.loop && !loop.by_default);
	assert_int_equal(disks_find(file.identity, "/dev/nonexistent", &found, NULL), 0);
	assert_string_equal(found.path, t->loops[0]);
	/* Content that a loop device shows does not make it the disk with that content. */
	assert_int_equal(
	    disks_find("ptuuid:12345678-abcd-ef01-8001-010203040506", "/dev/nonexistent", &found, NULL), -ENOENT);
}

#define disks_test(name) cmocka_unit_test_setup_teardown(name, create_tree, destroy_tree)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    disks_test(hardware_identities_come_before_content),
	    disks_test(udev_is_asked_when_the_kernel_says_nothing),
	    disks_test(serial_numbers_that_every_disk_has_identify_none),
	    disks_test(partition_tables_and_file_systems_are_read),
	    disks_test(whole_fixed_writable_disks_are_the_default),
	    disks_test(names_are_listed_in_natural_order),
	    disks_test(nothing_is_taken_twice),
	    disks_test(the_disk_under_the_root_file_system_is_the_boot_disk),
	    disks_test(a_file_is_its_inode),
	    disks_test(what_is_no_disk_is_refused_in_words),
	    disks_test(a_loop_device_is_the_file_behind_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
