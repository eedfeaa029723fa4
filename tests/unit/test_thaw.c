/* SPDX-License-Identifier: Apache-2.0 */
/* Records of what is frozen: written, read, and settled by whoever comes later. test_freeze has file systems that are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/freeze_record.h"
#include "agent/thaw.h"
#include "proto/common/units.h"
#include "tests/lib/scratch.h"

struct rig {
	char directory[64], path[PATH_MAX];
	int record;
	enum thaw_result results[8]; /* told by the last thaw() */
	char paths[8][PATH_MAX];
	int told;
};

static const struct frozen_mount two[] = {{{{1, 8}}, "/srv/data of many"}, {{{0xff}}, "/"}};

static int
create_rig(void **state)
{
	struct rig *rig = calloc(1, sizeof *rig);

	assert_non_null(rig);
	scratch_make(rig->directory, sizeof rig->directory, "test_thaw");
	rig->record = freeze_record_create(rig->directory, rig->path, NULL);
	assert_true(rig->record >= 0);
	*state = rig;
	return 0;
}

static int
destroy_rig(void **state)
{
	struct rig *rig = *state;

	close(rig->record);
	assert_int_equal(scratch_remove(rig->directory), 0);
	free(rig);
	return 0;
}

static void
on_thaw(void *arg, const struct thaw *t)
{
	struct rig *rig = arg;

	assert_true(rig->told < 8);
	rig->results[rig->told] = t->result;
	snprintf(rig->paths[rig->told++], PATH_MAX, "%s", t->path);
}

static int
thaw(struct rig *rig)
{
	rig->told = 0;
	return thaw_left(rig->directory, 0, on_thaw, rig, NULL);
}

/* As if its guard and its freezer had been killed. */
static void
leave_behind(struct rig *rig)
{
	assert_int_equal(flock(rig->record, LOCK_UN), 0);
}

static bool
is_there(const struct rig *rig)
{
	return access(rig->path, F_OK) == 0;
}

static void
put(struct rig *rig, const void *text, size_t length)
{
	freeze_record_strike(rig->record);
	assert_int_equal(write(rig->record, text, length), length);
}

/* ---- the record ---- */

static void
what_was_written_is_read(void **state)
{
	struct rig *rig = *state;
	struct frozen_mount mounts[FREEZE_MOUNTS_MAX];
	char *text;

	for (int again = 0; again < 2; again++) {
		assert_int_equal(freeze_record_write(rig->record, two, 2), 0);
		assert_int_equal(freeze_record_read(rig->record, mounts, &text), 2);
		for (int i = 0; i < 2; i++) {
			assert_true(file_system_is(&mounts[i].file_system, &two[i].file_system));
			assert_string_equal(mounts[i].mountpoint, two[i].mountpoint);
		}
		free(text);
		freeze_record_strike(rig->record);
		assert_int_equal(freeze_record_read(rig->record, mounts, &text), 0);
		free(text);
	}
}

static void
the_longest_record_is_read(void **state)
{
	struct rig *rig = *state;
	struct frozen_mount mounts[FREEZE_MOUNTS_MAX];
	char path[PATH_MAX], *text;

	memset(path, 'x', sizeof path);
	path[0] = '/';
	path[PATH_MAX - 1] = '\0';
	for (int i = 0; i < FREEZE_MOUNTS_MAX; i++)
		mounts[i] = (struct frozen_mount){{{(unsigned char)i}}, path};
	assert_int_equal(freeze_record_write(rig->record, mounts, FREEZE_MOUNTS_MAX), 0);
	assert_int_equal(freeze_record_read(rig->record, mounts, &text), FREEZE_MOUNTS_MAX);
	assert_int_equal(mounts[FREEZE_MOUNTS_MAX - 1].file_system.id[0], FREEZE_MOUNTS_MAX - 1);
	assert_string_equal(mounts[FREEZE_MOUNTS_MAX - 1].mountpoint, path);
	free(text);
}

/* The freezing begins when it is whole. */
static void
a_record_cut_short_names_nothing(void **state)
{
	struct rig *rig = *state;
	struct frozen_mount mounts[FREEZE_MOUNTS_MAX];
	struct stat st;
	char *text;

	assert_int_equal(freeze_record_write(rig->record, two, 2), 0);
	assert_int_equal(fstat(rig->record, &st), 0);
	for (off_t length = st.st_size - 1; length >= 0; length--) {
		assert_int_equal(ftruncate(rig->record, length), 0);
		assert_int_equal(freeze_record_read(rig->record, mounts, &text), 0);
		free(text);
	}
}

static void
what_is_no_record_is_refused(void **state)
{
	static const char *const wrong[] = {
	    "01080000000000000000000000000000/srv\nend\n",
	    "01080000000000000000000000000000 srv\nend\n",
	    "01080000000000000000000000000000 \nend\n",
	    "01080000000000000000000000000000\nend\n",
	    "0000000000000000010800000000000g /srv\nend\n",
	    "0000000000000000010800000000000 /srv\nend\n",
	    "010800000000000000000000000000000 /srv\nend\n",
	    "01080000000000000000000000000000 /srv\n/etc\nend\n",
	    "01080000000000000000000000000000 /srv\nend\nend\n",
	};
	struct rig *rig = *state;
	struct frozen_mount mounts[FREEZE_MOUNTS_MAX];
	char *text, *long_text = calloc(1, 1 << 20);

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		put(rig, wrong[i], strlen(wrong[i]));
		assert_int_equal(freeze_record_read(rig->record, mounts, &text), -EBADMSG);
	}
	put(rig, "01080000000000000000000000000000 /s\0rv\nend\n", 43);
	assert_int_equal(freeze_record_read(rig->record, mounts, &text), -EBADMSG);
	for (int i = 0; i <= FREEZE_MOUNTS_MAX; i++)
		strcat(long_text, "01080000000000000000000000000000 /srv\n");
	strcat(long_text, "end\n");
	put(rig, long_text, strlen(long_text));
	assert_int_equal(freeze_record_read(rig->record, mounts, &text), -EBADMSG);
	memset(long_text, ' ', 1 << 20);
	put(rig, long_text, 1 << 20);
	assert_int_equal(freeze_record_read(rig->record, mounts, &text), -EBADMSG);
	free(long_text);
}

static void
a_directory_is_made_if_there_is_none_and_named_if_it_cannot_be(void **state)
{
	struct rig *rig = *state;
	char directory[96], path[PATH_MAX];
	struct hf_error err = {0};
	struct stat st;
	int record;

	snprintf(directory, sizeof directory, "%s/run", rig->directory);
	record = freeze_record_create(directory, path, &err);
	assert_true(record >= 0);
	close(record);
	assert_int_equal(stat(directory, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	snprintf(directory, sizeof directory, "%s/no/such", rig->directory);
	assert_int_equal(freeze_record_create(directory, path, &err), -ENOENT);
	assert_non_null(strstr(err.text, directory));
	assert_int_equal(freeze_record_create(rig->path, path, &err), -ENOTDIR);
}

static void
the_directory_is_the_services_or_the_default(void **state)
{
	char path[PATH_MAX];

	(void)state;
	setenv("RUNTIME_DIRECTORY", "/run/one:/run/two", 1);
	assert_string_equal(freeze_record_directory(path), "/run/one");
	setenv("RUNTIME_DIRECTORY", "", 1);
	assert_string_equal(freeze_record_directory(path), "/run/holdfast-agent");
	unsetenv("RUNTIME_DIRECTORY");
	assert_string_equal(freeze_record_directory(path), "/run/holdfast-agent");
}

/* ---- what is done with it ---- */

static void
an_empty_record_is_cleared_away_once_nobody_holds_it(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(thaw(rig), 0);
	assert_true(is_there(rig));
	leave_behind(rig);
	assert_int_equal(thaw(rig), 0);
	assert_int_equal(rig->told, 0);
	assert_false(is_there(rig));
}

static void
what_somebody_holds_is_left_to_him(void **state)
{
	struct rig *rig = *state;
	struct frozen_mount mount = {.mountpoint = rig->directory};

	assert_int_equal(file_system_at(rig->directory, &mount.file_system), 0);
	assert_int_equal(freeze_record_write(rig->record, &mount, 1), 0);
	assert_int_equal(thaw(rig), -EBUSY);
	assert_int_equal(rig->told, 1);
	assert_int_equal(rig->results[0], THAW_HELD);
	assert_string_equal(rig->paths[0], rig->directory);
	assert_true(is_there(rig));
	if (geteuid() != 0)
		return; /* only root may ask the kernel to thaw */
	leave_behind(rig);
	assert_int_equal(thaw(rig), 0);
	assert_int_equal(rig->told, 1);
	assert_int_equal(rig->results[0], THAW_NOT_FROZEN);
	assert_false(is_there(rig));
}

/* It may be mounted again. What is mounted in its place was not frozen by us. */
static void
what_is_mounted_nowhere_stays_written_down(void **state)
{
	struct rig *rig = *state;
	const struct frozen_mount mounts[] = {{{{0xff}}, rig->directory}, {{{0xff}}, "/no/such"}};

	assert_int_equal(freeze_record_write(rig->record, mounts, 2), 0);
	leave_behind(rig);
	assert_int_equal(thaw(rig), -EBUSY);
	assert_int_equal(rig->told, 2);
	assert_string_equal(rig->paths[0], "/no/such"); /* last frozen, first thawed */
	assert_int_equal(rig->results[0], THAW_NOT_MOUNTED);
	assert_int_equal(rig->results[1], THAW_NOT_MOUNTED);
	assert_true(is_there(rig));
}

static void
what_is_no_record_is_told_and_left(void **state)
{
	struct rig *rig = *state;
	char other[128], link[128];
	struct stat st;

	put(rig, "nonsense\nend\n", 13);
	leave_behind(rig);
	snprintf(other, sizeof other, "%s/mine", rig->directory);
	snprintf(link, sizeof link, "%s/frozen.link", rig->directory);
	assert_int_equal(rename(rig->path, other), 0);
	assert_int_equal(thaw(rig), 0); /* it has not the name of one */
	assert_int_equal(symlink(other, link), 0);
	assert_int_equal(thaw(rig), -EBUSY);
	assert_int_equal(rig->results[0], THAW_FAILED);
	assert_string_equal(rig->paths[0], link);
	assert_int_equal(unlink(link), 0);
	assert_int_equal(mkfifo(link, 0600), 0);
	assert_int_equal(thaw(rig), -EBUSY);
	assert_int_equal(unlink(link), 0);
	assert_int_equal(rename(other, rig->path), 0);
	assert_int_equal(thaw(rig), -EBUSY);
	assert_int_equal(rig->told, 1);
	assert_string_equal(rig->paths[0], rig->path);
	assert_int_equal(stat(rig->path, &st), 0);
	assert_int_equal(st.st_size, 13);
}

static void
a_strangers_record_is_not_obeyed(void **state)
{
	struct rig *rig = *state;
	struct frozen_mount mount = {.mountpoint = rig->directory};

	if (geteuid() != 0)
		skip();
	assert_int_equal(file_system_at(rig->directory, &mount.file_system), 0);
	assert_int_equal(freeze_record_write(rig->record, &mount, 1), 0);
	leave_behind(rig);
	assert_int_equal(fchown(rig->record, 65534, 65534), 0);
	assert_int_equal(thaw(rig), -EBUSY);
	assert_int_equal(rig->results[0], THAW_FAILED);
	assert_true(is_there(rig));
}

static void
no_directory_is_nothing_frozen(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(thaw_left("/no/such/directory", 0, on_thaw, rig, NULL), 0);
	assert_int_equal(thaw_left(rig->path, 0, on_thaw, rig, NULL), -ENOTDIR);
}

#define thaw_test(name) cmocka_unit_test_setup_teardown(name, create_rig, destroy_rig)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    thaw_test(what_was_written_is_read),
	    thaw_test(the_longest_record_is_read),
	    thaw_test(a_record_cut_short_names_nothing),
	    thaw_test(what_is_no_record_is_refused),
	    thaw_test(a_directory_is_made_if_there_is_none_and_named_if_it_cannot_be),
	    thaw_test(the_directory_is_the_services_or_the_default),
	    thaw_test(an_empty_record_is_cleared_away_once_nobody_holds_it),
	    thaw_test(what_somebody_holds_is_left_to_him),
	    thaw_test(what_is_mounted_nowhere_stays_written_down),
	    thaw_test(what_is_no_record_is_told_and_left),
	    thaw_test(a_strangers_record_is_not_obeyed),
	    thaw_test(no_directory_is_nothing_frozen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
