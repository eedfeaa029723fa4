/* SPDX-License-Identifier: Apache-2.0 */
#include "server/data_dir.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/common/status.h"
#include "tests/lib/scratch.h"

struct fixture {
	char top[64], path[128], journal[128];
	struct data_dir *dir;
	struct hf_error err;
};

static int
set_up(void **state)
{
	struct fixture *f = *state = calloc(1, sizeof *f);

	scratch_make(f->top, sizeof f->top, "test_data_dir");
	snprintf(f->path, sizeof f->path, "%s/data", f->top);
	return mkdir(f->path, 0700);
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	int removed;

	data_dir_close(f->dir);
	removed = scratch_remove(f->top);
	free(f);
	return removed;
}

static void
write_file(const struct fixture *f, const char *name, const char *text)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof path, "%s/%s", f->path, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static bool
exists(const struct fixture *f, const char *name)
{
	char path[256];

	snprintf(path, sizeof path, "%s/%s", f->path, name);
	return access(path, F_OK) == 0;
}

static int
open_it(struct fixture *f)
{
	return data_dir_open(f->path, false, f->journal, &f->dir, &f->err);
}

static void
an_empty_directory_becomes_ours_and_keeps_its_uuid(void **state)
{
	struct fixture *f = *state;
	char uuid[UUID_TEXT_BYTES];

	assert_int_equal(open_it(f), 0);
	assert_true(exists(f, "README"));
	strcpy(uuid, data_dir_uuid(f->dir));
	assert_int_equal(strlen(uuid), 36);
	data_dir_close(f->dir);
	f->dir = NULL;
	assert_int_equal(open_it(f), 0);
	assert_string_equal(data_dir_uuid(f->dir), uuid);
}

static void
a_second_daemon_is_refused_and_told_the_pid_of_the_first(void **state)
{
	struct fixture *f = *state;
	struct data_dir *second;
	char pid[32];

	assert_int_equal(open_it(f), 0);
	snprintf(pid, sizeof pid, "pid %d", (int)getpid());
	assert_int_equal(data_dir_open(f->path, false, "", &second, &f->err), -EBUSY);
	assert_non_null(strstr(f->err.text, pid));
}

static void
a_directory_with_something_else_in_it_is_left_alone(void **state)
{
	struct fixture *f = *state;

	write_file(f, "thesis.tex", "years of work");
	assert_int_equal(open_it(f), -ENOTEMPTY);
	assert_non_null(strstr(f->err.text, "thesis.tex"));
	assert_false(exists(f, "LOCK"));
	assert_false(exists(f, "IDENTITY"));
}

static void
a_fresh_file_system_counts_as_empty(void **state)
{
	struct fixture *f = *state;
	char path[256];

	snprintf(path, sizeof path, "%s/lost+found", f->path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(open_it(f), 0);
}

static void
a_missing_directory_is_refused_unless_it_may_be_made(void **state)
{
	struct fixture *f = *state;

	rmdir(f->path);
	assert_int_equal(open_it(f), -ENOENT);
	assert_non_null(strstr(f->err.text, "mkdir"));
	strcat(f->path, "/deep/er");
	assert_int_equal(data_dir_open(f->path, true, "", &f->dir, &f->err), 0);
}

static void
a_newer_format_is_refused(void **state)
{
	struct fixture *f = *state;

	write_file(f, "IDENTITY", "holdfast data directory\nformat 2\nuuid 00000000-0000-4000-8000-000000000000\n");
	assert_int_equal(open_it(f), -HF_EFORMAT);
	assert_non_null(strstr(f->err.text, "newer"));
}

static void
an_identity_that_is_not_ours_is_refused(void **state)
{
	struct fixture *f = *state;

	write_file(f, "IDENTITY", "something else\n");
	assert_int_equal(open_it(f), -HF_ECORRUPT);
}

static void
a_half_mounted_directory_is_refused(void **state)
{
	struct fixture *f = *state;
	char path[256];

	assert_int_equal(open_it(f), 0);
	data_dir_close(f->dir);
	f->dir = NULL;
	snprintf(path, sizeof path, "%s/sources", f->path);
	assert_int_equal(mkdir(path, 0700), 0); /* and no holdfast.db */
	assert_int_equal(open_it(f), -HF_ECORRUPT);
	assert_non_null(strstr(f->err.text, "mounted"));
}

static void
what_a_cut_first_start_left_is_no_obstacle(void **state)
{
	struct fixture *f = *state;

	write_file(f, "LOCK", "123\n");
	write_file(f, "README", "...");
	write_file(f, "IDENTITY.tmp", "hold");
	assert_int_equal(open_it(f), 0);
}

/* ---- the journal root ---- */

static void
set_journal(struct fixture *f, const char *name)
{
	snprintf(f->journal, sizeof f->journal, "%s/%s", f->top, name);
}

static void
make_journal(struct fixture *f, const char *name)
{
	set_journal(f, name);
	assert_int_equal(mkdir(f->journal, 0700), 0);
}

static void
close_it(struct fixture *f)
{
	data_dir_close(f->dir);
	f->dir = NULL;
}

static void
an_empty_journal_directory_becomes_ours_and_is_remembered(void **state)
{
	struct fixture *f = *state;
	char path[128];

	make_journal(f, "journal");
	strcpy(path, f->journal);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(open_it(f), 0);
		assert_string_equal(data_dir_journal(f->dir), path);
		close_it(f);
	}
	f->journal[0] = '\0'; /* not set any more */
	assert_int_equal(open_it(f), 0);
	assert_string_equal(data_dir_journal(f->dir), path);
}

static void
a_journal_directory_that_is_not_mounted_is_never_made_anew(void **state)
{
	struct fixture *f = *state;
	char path[256];

	set_journal(f, "journal");
	assert_int_equal(open_it(f), -ENOENT);
	assert_non_null(strstr(f->err.text, "mounted"));
	make_journal(f, "journal");
	assert_int_equal(open_it(f), 0);
	close_it(f);
	snprintf(path, sizeof path, "%s/IDENTITY", f->journal);
	assert_int_equal(unlink(path), 0); /* as the empty directory under a mount point */
	assert_int_equal(open_it(f), -HF_ECORRUPT);
	assert_non_null(strstr(f->err.text, "mounted"));
	assert_int_equal(access(path, F_OK), -1);
	f->journal[0] = '\0';
	assert_int_equal(open_it(f), -HF_ECORRUPT);
}

static void
a_foreign_journal_directory_is_left_alone(void **state)
{
	struct fixture *f = *state;
	char path[256];
	FILE *file;

	make_journal(f, "journal");
	snprintf(path, sizeof path, "%s/letter", f->journal);
	file = fopen(path, "w");
	fclose(file);
	assert_int_equal(open_it(f), -ENOTEMPTY);
	assert_non_null(strstr(f->err.text, "letter"));
	snprintf(path, sizeof path, "%s/IDENTITY", f->journal);
	assert_int_equal(access(path, F_OK), -1);
	file = fopen(path, "w");
	fputs("holdfast journal directory\nformat 1\nuuid 00000000-0000-4000-8000-000000000000\n", file);
	fclose(file);
	assert_int_equal(open_it(f), -HF_ECORRUPT);
	assert_non_null(strstr(f->err.text, "belongs to"));
}

static void
a_journal_directory_may_move_but_not_be_replaced(void **state)
{
	struct fixture *f = *state;
	char old[128];

	make_journal(f, "journal");
	assert_int_equal(open_it(f), 0);
	close_it(f);
	strcpy(old, f->journal);
	make_journal(f, "another");
	assert_int_equal(open_it(f), -HF_ECORRUPT);
	assert_non_null(strstr(f->err.text, old));
	assert_int_equal(rmdir(f->journal), 0);
	assert_int_equal(rename(old, f->journal), 0);
	assert_int_equal(open_it(f), 0);
	assert_string_equal(data_dir_journal(f->dir), f->journal);
}

/* ---- looking only ---- */

static int
look_at_it(struct fixture *f)
{
	return data_dir_check(f->path, false, f->journal, &f->err);
}

static void
a_look_makes_nothing_and_minds_no_daemon(void **state)
{
	struct fixture *f = *state;
	char path[256];

	make_journal(f, "journal");
	assert_int_equal(look_at_it(f), 0);
	assert_false(exists(f, "LOCK") || exists(f, "README") || exists(f, "IDENTITY"));
	snprintf(path, sizeof path, "%s/IDENTITY", f->journal);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(open_it(f), 0);
	assert_int_equal(look_at_it(f), 0);
}

static void
a_look_refuses_what_an_open_would(void **state)
{
	struct fixture *f = *state;

	set_journal(f, "journal");
	assert_int_equal(look_at_it(f), -ENOENT);
	assert_non_null(strstr(f->err.text, "journal"));
	f->journal[0] = '\0';
	write_file(f, "thesis.tex", "years of work");
	assert_int_equal(look_at_it(f), -ENOTEMPTY);
	write_file(f, "IDENTITY", "holdfast data directory\nformat 2\nuuid 00000000-0000-4000-8000-000000000000\n");
	assert_int_equal(look_at_it(f), -HF_EFORMAT);
	strcat(f->path, "/deep/er");
	assert_int_equal(look_at_it(f), -ENOENT);
	assert_int_equal(data_dir_check(f->path, true, "", &f->err), 0);
}

/* As the user nobody, or with the mode taken away, for root may write anywhere. */
static void
a_directory_that_this_user_may_not_write_is_refused(void **state)
{
	struct fixture *f = *state;
	uid_t user = geteuid();
	int r, above, journal;

	make_journal(f, "journal");
	assert_int_equal(chmod(f->journal, 0555), 0);
	assert_int_equal(chmod(f->top, 0555), 0);
	assert_int_equal(chmod(f->path, 0777), 0);
	assert_true(user != 0 || seteuid(65534) == 0);
	journal = look_at_it(f);
	assert_true(user != 0 || seteuid(0) == 0);
	assert_int_equal(chmod(f->path, 0555), 0);
	assert_true(user != 0 || seteuid(65534) == 0);
	r = look_at_it(f);
	strcat(f->path, "/deep/er");
	above = data_dir_check(f->path, true, "", &f->err);
	assert_true(user != 0 || seteuid(0) == 0);
	assert_int_equal(chmod(f->top, 0755), 0);
	assert_int_equal(journal, -EACCES);
	assert_int_equal(r, -EACCES);
	assert_int_equal(above, -EACCES);
	assert_non_null(strstr(f->err.text, "cannot write"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(an_empty_directory_becomes_ours_and_keeps_its_uuid, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		a_second_daemon_is_refused_and_told_the_pid_of_the_first, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_directory_with_something_else_in_it_is_left_alone, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_fresh_file_system_counts_as_empty, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_missing_directory_is_refused_unless_it_may_be_made, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_newer_format_is_refused, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(an_identity_that_is_not_ours_is_refused, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_half_mounted_directory_is_refused, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(what_a_cut_first_start_left_is_no_obstacle, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		an_empty_journal_directory_becomes_ours_and_is_remembered, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(
		a_journal_directory_that_is_not_mounted_is_never_made_anew, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_foreign_journal_directory_is_left_alone, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_journal_directory_may_move_but_not_be_replaced, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_look_makes_nothing_and_minds_no_daemon, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_look_refuses_what_an_open_would, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_directory_that_this_user_may_not_write_is_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("data_dir", tests, NULL, NULL);
}
