/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/pitfalls.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <linux/magic.h>

/* ---- kernels ---- */

/* A whole number of a version: not a part of a longer one. */
static bool
names_version(const char *text, const char *version)
{
	const char *at = strstr(text, version);
	char before, after;

	if (at == NULL)
		return false;
	before = at == text ? ' ' : at[-1];
	after = at[strlen(version)];
	return !isdigit((unsigned char)before) && before != '.' && !isdigit((unsigned char)after) && after != '.';
}

/* Debian's release says 6.1.0-14-amd64; its version has the number. */
bool
pitfall_kernel(const char *release, const char *version)
{
	static const char *const bad[] = {"6.1.64", "6.1.65"};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (names_version(release, bad[i]) || names_version(version, bad[i]))
			return true;
	return false;
}

/* ---- file systems ---- */

#define RAM_GONE   "all that is staged is gone when the machine is"
#define LAYER_GONE "it is the layer of a container: what is staged goes with it, and every first write copies the file"
#define REMOTE     "whether a sync reaches a disk is the other machine's word, and a lost network stalls everything"
#define COPIES \
	"every write of a block goes elsewhere: staging files fragment, and folds write much more than they should"

static const struct pitfall_file_system file_systems[] = {
    {TMPFS_MAGIC, "tmpfs", true, RAM_GONE},
    {RAMFS_MAGIC, "ramfs", true, RAM_GONE},
    {OVERLAYFS_SUPER_MAGIC, "overlay", true, LAYER_GONE},
    {NFS_SUPER_MAGIC, "nfs", false, REMOTE},
    {SMB2_SUPER_MAGIC, "cifs", false, REMOTE},
    {V9FS_MAGIC, "9p", false, REMOTE},
    {FUSE_SUPER_MAGIC, "fuse", false, "what a sync means there is the word of a program"},
    {MSDOS_SUPER_MAGIC, "vfat", true, "it has no sparse files, none above 4 GiB, and no journal"},
    {BTRFS_SUPER_MAGIC, "btrfs", false, COPIES},
    {0x2fc12fc1, "zfs", false, COPIES},
};

const struct pitfall_file_system *
pitfall_file_system(long type)
{
	for (size_t i = 0; i < sizeof file_systems / sizeof file_systems[0]; i++)
		if (file_systems[i].type == type)
			return &file_systems[i];
	return NULL;
}

/* ---- limits ---- */

bool
pitfall_limit(const char *line, const char *name, uint64_t *ret_limit)
{
	size_t len = strlen(name);

	if (strncmp(line, name, len) != 0)
		return false;
	line += len + strspn(line + len, " ");
	*ret_limit = strncmp(line, "unlimited", 9) == 0 ? UINT64_MAX : strtoull(line, NULL, 10);
	return true;
}
