/* SPDX-License-Identifier: Apache-2.0 */
/* A record is a file frozen.XXXXXX, one for each guard, empty but for the time of a freeze:
 *
 *	11080000000000000000000000000000 /srv/data	the file system and where it is mounted
 *	12080000000000000000000000000000 /srv/log
 *	end						without this line nothing was frozen yet
 *
 * It lies in /run, which ends with the kernel that froze. Its lock tells whose it is: guard and freezer hold it, and a
 * freezer that was killed within FIFREEZE holds it until the kernel lets go of it; only then can be thawed what it has
 * frozen. A record that is not locked was left behind. */
#include "agent/freeze_record.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/common/hex.h"

#define DIRECTORY_DEFAULT "/run/holdfast-agent"
#define END_LINE          "end\n"

enum {
	ID_DIGITS = 2 * sizeof(struct file_system),
	RECORD_BYTES_MAX = FREEZE_MOUNTS_MAX * (ID_DIGITS + 1 + PATH_MAX + 1) + sizeof END_LINE,
};

const char *
freeze_record_directory(char *buf)
{
	const char *named = getenv("RUNTIME_DIRECTORY"); /* several of them have colons between */

	if (named == NULL || named[0] != '/')
		named = DIRECTORY_DEFAULT;
	snprintf(buf, PATH_MAX, "%.*s", (int)strcspn(named, ":"), named);
	return buf;
}

/* Whoever clears away what was left behind may have taken it for that, before it was locked. */
static int
lock_new(int record)
{
	struct stat st;

	if (flock(record, LOCK_EX) < 0 || fstat(record, &st) < 0)
		return -errno;
	return st.st_nlink > 0 ? 0 : -EAGAIN;
}

static int
make_record(char *path)
{
	int r, record = mkostemp(path, O_APPEND | O_CLOEXEC);

	if (record < 0)
		return -errno;
	r = lock_new(record);
	if (r == 0)
		return record;
	close(record);
	return r;
}

int
freeze_record_create(const char *directory, char *ret_path, struct hf_error *err)
{
	int r = mkdir(directory, 0700) < 0 && errno != EEXIST ? -errno : -EAGAIN;

	while (r == -EAGAIN)
		r = snprintf(ret_path, PATH_MAX, "%s/frozen.XXXXXX", directory) < PATH_MAX ? make_record(ret_path)
											   : -ENAMETOOLONG;
	if (r < 0)
		return hf_error_set(err, r, "nothing is frozen that is not written down first, in %s", directory);
	return r;
}

static int
write_text(int record, const char *text)
{
	size_t length = strlen(text);
	ssize_t n = write(record, text, length);

	if (n < 0)
		return -errno;
	return (size_t)n == length ? 0 : -ENOSPC;
}

static int
write_line(int record, const struct frozen_mount *m)
{
	char id[ID_DIGITS + 1];
	int r;

	hex_format(m->file_system.id, sizeof m->file_system.id, id);
	r = write_text(record, id);
	if (r == 0)
		r = write_text(record, " ");
	if (r == 0)
		r = write_text(record, m->mountpoint);
	if (r == 0)
		r = write_text(record, "\n");
	return r;
}

int
freeze_record_write(int record, const struct frozen_mount *mounts, size_t count)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = write_line(record, &mounts[i]);
	if (r == 0)
		r = write_text(record, END_LINE);
	if (r < 0)
		freeze_record_strike(record);
	return r;
}

void
freeze_record_strike(int record)
{
	(void)!ftruncate(record, 0); /* of a file of ours, in memory */
}

/* ---- reading ---- */

/* Gives the text; returns its length, or -errno. */
static ssize_t
read_text(int record, char **ret_text)
{
	char *text = calloc(1, RECORD_BYTES_MAX + 1);
	ssize_t n;

	if (text == NULL)
		return -ENOMEM;
	n = pread(record, text, RECORD_BYTES_MAX + 1, 0);
	if (n < 0)
		n = -errno;
	else if (n > RECORD_BYTES_MAX || strlen(text) != (size_t)n)
		n = -EBADMSG;
	if (n < 0)
		free(text);
	else
		*ret_text = text;
	return n;
}

static bool
parse_line(char *line, struct frozen_mount *ret_mount)
{
	if (strlen(line) < ID_DIGITS + 2 || line[ID_DIGITS] != ' ' || line[ID_DIGITS + 1] != '/')
		return false;
	line[ID_DIGITS] = '\0';
	ret_mount->mountpoint = line + ID_DIGITS + 1;
	return hex_parse(line, ret_mount->file_system.id, sizeof ret_mount->file_system.id);
}

static int
parse_lines(char *text, struct frozen_mount *ret_mounts)
{
	char *rest = NULL;
	int count = 0;

	for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
		if (count == FREEZE_MOUNTS_MAX || !parse_line(line, &ret_mounts[count++]))
			return -EBADMSG;
	return count;
}

/* Whether it was written to its end, which is cut off. */
static bool
cut_end(char *text, size_t length)
{
	const size_t end = strlen(END_LINE);

	if (length <= end || strcmp(text + length - end - 1, "\n" END_LINE) != 0)
		return false;
	text[length - end] = '\0';
	return true;
}

int
freeze_record_read(int record, struct frozen_mount *ret_mounts, char **ret_text)
{
	char *text;
	ssize_t length = read_text(record, &text);
	int count;

	if (length < 0)
		return (int)length;
	count = cut_end(text, (size_t)length) ? parse_lines(text, ret_mounts) : 0;
	if (count < 0)
		free(text);
	else
		*ret_text = text;
	return count;
}
