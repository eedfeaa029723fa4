/* SPDX-License-Identifier: Apache-2.0 */
#include "server/usage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static uint64_t *
share_of(struct usage *u, const char *name)
{
	return strncmp(name, "vol-", 4) == 0 ? &u->staging_bytes : &u->catalog_bytes;
}

/* Add up the files of one folder: into *share, or, when that is NULL, each where it belongs. */
static int
add_folder(const char *path, struct usage *u, uint64_t *share)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	struct stat st;

	if (dir == NULL)
		return -errno;
	while ((e = readdir(dir)) != NULL) {
		if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		*(share != NULL ? share : share_of(u, e->d_name)) += (uint64_t)st.st_blocks * 512;
	}
	closedir(dir);
	return 0;
}

int
usage_measure(const char *dir, struct usage *ret_usage)
{
	struct usage u = {0};
	char journal[512];
	struct stat st;
	int r = add_folder(dir, &u, NULL);

	snprintf(journal, sizeof journal, "%s/journal", dir);
	if (r == 0)
		r = add_folder(journal, &u, &u.journal_bytes);
	u.journal_elsewhere = lstat(journal, &st) == 0 && S_ISLNK(st.st_mode);
	if (r == 0)
		*ret_usage = u;
	return r;
}
