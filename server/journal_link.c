/* SPDX-License-Identifier: Apache-2.0 */
#include "server/journal_link.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/common/file.h"
#include "storage/discard.h"

enum { LINK_BYTES = 512 };

static void
link_path(const struct data_dir *dir, const char *source, const char *name, char ret_path[LINK_BYTES])
{
	snprintf(
	    ret_path, LINK_BYTES, "%s/sources/%s%s%s", data_dir_path(dir), source, name[0] != '\0' ? "/" : "", name);
}

static void
target_path(const struct data_dir *dir, const char *source, char ret_path[LINK_BYTES])
{
	snprintf(ret_path, LINK_BYTES, "%s/%s", data_dir_journal(dir), source);
}

/* Written aside and renamed: the link is there, as it was or as it is to be. */
static int
put_link(const struct data_dir *dir, const char *source)
{
	char folder[LINK_BYTES], link[LINK_BYTES], aside[LINK_BYTES], target[LINK_BYTES];

	link_path(dir, source, "", folder);
	link_path(dir, source, "journal", link);
	link_path(dir, source, "journal.tmp", aside);
	target_path(dir, source, target);
	if (unlink(aside) < 0 && errno != ENOENT)
		return -errno;
	if (symlink(target, aside) < 0 || rename(aside, link) < 0)
		return -errno;
	return file_sync_dir(folder);
}

int
journal_link_make(const struct data_dir *dir, const struct id *source, struct hf_error *err)
{
	char target[LINK_BYTES];
	int r;

	if (data_dir_journal(dir)[0] == '\0')
		return 0;
	target_path(dir, source->text, target);
	r = mkdir(target, 0700) < 0 ? -errno : file_sync_dir(data_dir_journal(dir));
	if (r == 0)
		r = put_link(dir, source->text);
	return r < 0 ? hf_error_set(err, r, "the journal %s", target) : 0;
}

static int
renew(const struct data_dir *dir, const char *source)
{
	char link[LINK_BYTES], target[LINK_BYTES], now[LINK_BYTES];
	ssize_t n;

	link_path(dir, source, "journal", link);
	target_path(dir, source, target);
	n = readlink(link, now, sizeof now - 1);
	if (n < 0)
		return 0; /* a folder; or nothing: the store says so */
	now[n] = '\0';
	return strcmp(now, target) == 0 ? 0 : put_link(dir, source);
}

static int
is_source(const struct dirent *e)
{
	return id_valid("s", e->d_name);
}

int
journal_link_renew(const struct data_dir *dir, struct hf_error *err)
{
	char path[LINK_BYTES];
	struct dirent **names;
	int n, r = 0;

	if (data_dir_journal(dir)[0] == '\0')
		return 0;
	snprintf(path, sizeof path, "%s/sources", data_dir_path(dir));
	n = scandir(path, &names, is_source, NULL);
	if (n < 0)
		return hf_error_set(err, -errno, "%s", path);
	for (int i = 0; i < n; i++) {
		if (r == 0)
			r = renew(dir, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return r < 0 ? hf_error_set(err, r, "the links in %s to the journals", path) : 0;
}

int
journal_link_discard(const struct data_dir *dir, struct disk *d, const struct id *source)
{
	char link[LINK_BYTES], target[1];
	int r;

	if (data_dir_journal(dir)[0] == '\0')
		return 0;
	r = discard_folder(d, data_dir_journal(dir), source->text);
	if (r < 0 && r != -ENOENT)
		return r;
	link_path(dir, source->text, "journal", link);
	if (readlink(link, target, sizeof target) < 0)
		return 0; /* its journal is in the folder, or gone */
	return unlink(link) < 0 ? -errno : 0;
}
