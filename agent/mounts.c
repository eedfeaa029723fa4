/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/mounts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct mounts {
	FILE *file;
	char *line;
	size_t size;
};

struct mounts *
mounts_open(void)
{
	struct mounts *m = calloc(1, sizeof *m);

	if (m != NULL)
		m->file = fopen("/proc/self/mountinfo", "re");
	if (m == NULL || m->file != NULL)
		return m;
	free(m);
	return NULL;
}

void
mounts_close(struct mounts *m)
{
	if (m == NULL)
		return;
	fclose(m->file);
	free(m->line);
	free(m);
}

/* The kernel writes blanks in paths as "\040". */
static void
unescape(char *path)
{
	char *to = path;

	for (const char *from = path; *from != '\0'; to++) {
		bool is_escape = from[0] == '\\' && strspn(from + 1, "01234567") >= 3;

		*to = is_escape ? (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0')) : *from;
		from += is_escape ? 4 : 1;
	}
	*to = '\0';
}

/* A line of mountinfo: "36 35 98:0 /root /mnt rw,noatime shared:1 - ext3 /dev/root
 * rw,errors=continue". */
static bool
parse_mount(const char *line, struct mount *ret_mount)
{
	char type[32], source[PATH_MAX], options[PATH_MAX];
	const char *tail = strstr(line, " - ");
	unsigned maj, min;
	struct stat st;

	if (tail == NULL || sscanf(line, "%*d %*d %u:%u %*s %4095s", &maj, &min, ret_mount->path) != 3 ||
	    sscanf(tail, " - %31s %4095s %4095s", type, source, options) != 3)
		return false;
	unescape(ret_mount->path);
	ret_mount->number = ret_mount->device = makedev(maj, min);
	if (maj == 0)
		ret_mount->device = stat(source, &st) == 0 && S_ISBLK(st.st_mode) ? st.st_rdev : 0;
	ret_mount->is_btrfs = strcmp(type, "btrfs") == 0;
	ret_mount->is_read_only = strncmp(options, "ro", 2) == 0 && (options[2] == ',' || options[2] == '\0');
	return true;
}

bool
mounts_next(struct mounts *m, struct mount *ret_mount)
{
	while (getline(&m->line, &m->size, m->file) > 0)
		if (parse_mount(m->line, ret_mount))
			return true;
	return false;
}

int
mount_file_system(const struct mount *m, struct file_system *ret_file_system)
{
	if (m->is_btrfs)
		return file_system_at(m->path, ret_file_system);
	*ret_file_system = file_system_of_number(m->number);
	return 0;
}
