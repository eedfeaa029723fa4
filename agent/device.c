/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/device.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "proto/common/text.h"

enum { DEPTH_MAX = 16 }; /* of devices upon devices */

const struct tree *
device_tree_real(void)
{
	static const struct tree t = {""};

	return &t;
}

int
device_tree_above(const char *sys_root, struct tree *ret_tree)
{
	const char *slash = strrchr(sys_root, '/');

	return text_print(
	    ret_tree->root, sizeof ret_tree->root, "%.*s", slash != NULL ? (int)(slash - sys_root) : 0, sys_root);
}

/* ---- attributes ---- */

void
device_tidy(char *text)
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

bool
device_read(const struct device *d, const char *name, char *ret_text, size_t size)
{
	char path[PATH_MAX];

	return text_print(path, sizeof path, "%s/%s", d->sys_dir, name) == 0 && read_line(path, ret_text, size);
}

uint64_t
device_number(const struct device *d, const char *name)
{
	char text[64];

	return device_read(d, name, text, sizeof text) ? strtoull(text, NULL, 10) : 0;
}

bool
device_has(const struct device *d, const char *name)
{
	char path[PATH_MAX];

	return text_print(path, sizeof path, "%s/%s", d->sys_dir, name) == 0 && access(path, F_OK) == 0;
}

bool
device_udev(const struct device *d, const char *key, char *ret_text, size_t size)
{
	char number[64], path[PATH_MAX], line[1024];
	bool found = false;
	size_t key_len = strlen(key);
	FILE *f;

	if (!device_read(d, "dev", number, sizeof number) ||
	    text_print(path, sizeof path, "%s/run/udev/data/b%s", d->tree->root, number) < 0)
		return false;
	f = fopen(path, "re");
	if (f == NULL)
		return false;
	while (!found && fgets(line, sizeof line, f) != NULL) {
		if (strncmp(line, "E:", 2) != 0 || strncmp(line + 2, key, key_len) != 0 || line[2 + key_len] != '=')
			continue;
		line[strcspn(line, "\n")] = '\0';
		found = text_print(ret_text, size, "%s", line + 2 + key_len + 1) == 0 && ret_text[0] != '\0';
	}
	fclose(f);
	return found;
}

int
device_open(const struct device *d)
{
	char path[PATH_MAX];
	int r = text_print(path, sizeof path, "%s/dev/%s", d->tree->root, d->name);

	return r < 0 ? r : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* ---- devices ---- */

int
device_at(const struct tree *t, const char *sys_dir, struct device *ret_device)
{
	struct device d = {.tree = t};
	char *slash;

	if (realpath(sys_dir, d.sys_dir) == NULL)
		return -errno;
	slash = strrchr(d.sys_dir, '/');
	if (slash == NULL || !device_has(&d, "size"))
		return -ENOENT;
	if (text_print(d.name, sizeof d.name, "%s", slash + 1) < 0)
		return -ENAMETOOLONG;
	for (char *c = d.name; *c != '\0'; c++)
		if (*c == '!') /* sysfs cannot hold the '/' of cciss/c0d0 */
			*c = '/';
	d.partition = (unsigned)device_number(&d, "partition");
	if (d.partition != 0)
		(void)text_print(d.parent_dir, sizeof d.parent_dir, "%.*s", (int)(slash - d.sys_dir), d.sys_dir);
	*ret_device = d;
	return 0;
}

int
device_by_number(const struct tree *t, dev_t dev, struct device *ret_device)
{
	char path[PATH_MAX];
	int r = text_print(path, sizeof path, "%s/sys/dev/block/%u:%u", t->root, major(dev), minor(dev));

	return r < 0 ? r : device_at(t, path, ret_device);
}

bool
device_any_linked(const struct device *d, const char *directory,
    bool (*visit)(const struct device *other, const void *arg, int depth), const void *arg, int depth)
{
	char path[PATH_MAX];
	struct device other;
	struct dirent *e;
	bool found = false;
	DIR *dir;

	if (depth >= DEPTH_MAX || text_print(path, sizeof path, "%s/%s", d->sys_dir, directory) < 0)
		return false;
	dir = opendir(path);
	while (dir != NULL && !found && (e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.' ||
		    text_print(path, sizeof path, "%s/%s/%s", d->sys_dir, directory, e->d_name) < 0)
			continue;
		found = device_at(d->tree, path, &other) == 0 && visit(&other, arg, depth + 1);
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

bool
device_lies_on(const struct device *d, const void *arg, int depth)
{
	const char *sys_dir = arg;
	struct device disk;

	if (strcmp(d->sys_dir, sys_dir) == 0)
		return true;
	if (d->partition != 0 && depth < DEPTH_MAX)
		return device_at(d->tree, d->parent_dir, &disk) == 0 && device_lies_on(&disk, arg, depth + 1);
	return device_any_linked(d, "slaves", device_lies_on, arg, depth);
}

int
device_each_disk(const struct tree *t, int (*visit)(const struct device *d, void *arg), void *arg)
{
	char path[PATH_MAX];
	struct dirent **names;
	struct device d;
	int n, r = 0;

	if (text_print(path, sizeof path, "%s/sys/block", t->root) < 0)
		return -ENAMETOOLONG;
	n = scandir(path, &names, NULL, versionsort);
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		if (r == 0 && names[i]->d_name[0] != '.' &&
		    text_print(path, sizeof path, "%s/sys/block/%s", t->root, names[i]->d_name) == 0 &&
		    device_at(t, path, &d) == 0 && device_number(&d, "size") != 0)
			r = visit(&d, arg);
		free(names[i]);
	}
	free(names);
	return r;
}
