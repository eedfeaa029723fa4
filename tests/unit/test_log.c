/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	FILE *file; /* in the place of stderr */
	int stderr_fd;
	char text[16384];
};

static int
set_up(void **state)
{
	static unsigned number;
	struct fixture *f = *state = calloc(1, sizeof *f);

	unsetenv("JOURNAL_STREAM");
	f->file = tmpfile();
	f->stderr_fd = dup(STDERR_FILENO);
	if (f->file == NULL || dup2(fileno(f->file), STDERR_FILENO) < 0)
		return -1;
	log_notice("next_test", "number=%u", number++); /* what was logged last is none of ours */
	return ftruncate(fileno(f->file), 0) < 0 || lseek(STDERR_FILENO, 0, SEEK_SET) < 0 ? -1 : 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;

	(void)dup2(f->stderr_fd, STDERR_FILENO);
	close(f->stderr_fd);
	fclose(f->file);
	free(f);
	unsetenv("JOURNAL_STREAM");
	log_level_max = LOG_LEVEL_INFO;
	return 0;
}

static const char *
logged(struct fixture *f)
{
	ssize_t n = pread(fileno(f->file), f->text, sizeof f->text - 1, 0);

	assert_true(n >= 0);
	f->text[n] = '\0';
	return f->text;
}

static void
a_line_is_logfmt_of_event_level_and_what_was_given(void **state)
{
	errno = ENOENT;
	log_warning("accept_failed", "peer=%s msg=\"%s\"", "192.0.2.7", "no room");
	assert_int_equal(errno, ENOENT);
	assert_string_equal(logged(*state), "event=accept_failed level=warning peer=192.0.2.7 msg=\"no room\"\n");
}

static void
the_journal_is_given_a_priority_in_front(void **state)
{
	char stream[64];
	struct stat st;

	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_err("a", "x=1");
	log_info("b", "x=2");
	assert_string_equal(logged(*state), "<3>event=a level=err x=1\n<6>event=b level=info x=2\n");
}

static void
a_journal_that_is_not_where_stderr_goes_is_none(void **state)
{
	setenv("JOURNAL_STREAM", "1:1", 1);
	log_err("a", "x=1");
	assert_string_equal(logged(*state), "event=a level=err x=1\n");
}

static void
lines_of_lesser_importance_than_asked_for_are_not_written(void **state)
{
	log_level_max = LOG_LEVEL_WARNING;
	log_notice("a", "x=1");
	log_warning("b", "x=2");
	assert_string_equal(logged(*state), "event=b level=warning x=2\n");
}

static void
what_comes_from_outside_cannot_forge_a_line(void **state)
{
	log_notice("session_refused", "hostname=\"%s\"", "db1\"\nevent=control level=notice verb=x\x1b[2J\xc2\x9b");
	assert_string_equal(logged(*state),
	    "event=session_refused level=notice hostname=\"db1\\\" event=control level=notice verb=x [2J  \"\n");
}

static void
what_comes_from_outside_cannot_forge_another_value(void **state)
{
	log_notice("control", "object=\"%s\" uid=%u", "a\" uid=0 \\", 7);
	log_notice("control", "object=\"%s\" uid=%u", "a\x01 uid=0", 7);
	assert_string_equal(logged(*state), "event=control level=notice object=\"a\\\" uid=0 \\\\\" uid=7\n"
					    "event=control level=notice object='a' uid=0' uid=7\n");
}

static void
a_line_too_long_is_cut_and_still_ends(void **state)
{
	struct fixture *f = *state;
	char many[4000] = "";

	memset(many, 'x', sizeof many - 1);
	log_notice("a", "x=%s", many);
	log_notice("b", "x=1");
	assert_non_null(strstr(logged(f), "xxx\nevent=b level=notice x=1\n"));
	assert_true(strlen(f->text) < 2200);
}

static void
a_line_that_repeats_itself_is_counted(void **state)
{
	for (int i = 0; i < 100; i++)
		log_warning("accept_failed", "msg=\"out of descriptors\"");
	log_settle(); /* too soon: more of it may come */
	assert_string_equal(logged(*state), "event=accept_failed level=warning msg=\"out of descriptors\"\n");
	log_notice("listening", "x=1");
	assert_string_equal(logged(*state), "event=accept_failed level=warning msg=\"out of descriptors\"\n"
					    "event=repeated level=warning of=accept_failed count=99\n"
					    "event=listening level=notice x=1\n");
}

static void
lines_that_differ_are_all_written(void **state)
{
	for (int i = 0; i < 3; i++)
		log_notice("a", "x=%d", i);
	assert_string_equal(
	    logged(*state), "event=a level=notice x=0\nevent=a level=notice x=1\nevent=a level=notice x=2\n");
}

static void
debug_lines_are_all_written(void **state)
{
	log_level_max = LOG_LEVEL_DEBUG;
	log_debug("a", "x=0");
	log_debug("a", "x=0");
	assert_string_equal(logged(*state), "event=a level=debug x=0\nevent=a level=debug x=0\n");
}

enum { TEXT_BYTES = 1 << 20 };

/* 1,000 lines while nobody reads; then what stands in the way is taken away. */
static void
log_to_a_full_pipe(const int *fds, char *text)
{
	char byte = 'x';

	assert_int_equal(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
	while (write(fds[1], &byte, 1) == 1)
		;
	assert_int_equal(fcntl(fds[1], F_SETFL, 0), 0);
	alarm(60); /* it would hang */
	for (int i = 0; i < 1000; i++)
		log_notice("a", "x=%d", i);
	alarm(0);
	assert_true(read(fds[0], text, TEXT_BYTES) > 0);
}

static void
expect_read(int fd, char *text, const char *wanted)
{
	ssize_t n = read(fd, text, TEXT_BYTES - 1);

	assert_true(n > 0);
	text[n] = '\0';
	assert_string_equal(text, wanted);
}

static void
a_reader_that_stands_still_holds_up_nobody_and_is_told_what_it_missed(void **state)
{
	char *text = malloc(TEXT_BYTES);
	int fds[2];

	(void)state;
	assert_non_null(text);
	assert_int_equal(pipe(fds), 0);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	log_to_a_full_pipe(fds, text);
	log_notice("b", "x=1");
	expect_read(fds[0], text, "event=lines_lost level=warning count=1000\nevent=b level=notice x=1\n");
	log_to_a_full_pipe(fds, text);
	log_settle(); /* nothing follows, perhaps */
	expect_read(fds[0], text, "event=lines_lost level=warning count=1000\n");
	close(fds[0]);
	close(fds[1]);
	free(text);
}

static void
the_levels_that_are_listed_are_those_there_are(void **state)
{
	char levels[] = LOG_LEVELS, *rest = levels, *level;
	int count = 0;

	(void)state;
	while ((level = strsep(&rest, "|")) != NULL)
		assert_int_equal(log_level_parse(level), count++);
	assert_int_equal(count, LOG_LEVEL_DEBUG + 1);
	assert_int_equal(log_level_parse("loud"), -1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(a_line_is_logfmt_of_event_level_and_what_was_given),
	    T(the_journal_is_given_a_priority_in_front),
	    T(a_journal_that_is_not_where_stderr_goes_is_none),
	    T(lines_of_lesser_importance_than_asked_for_are_not_written),
	    T(what_comes_from_outside_cannot_forge_a_line),
	    T(what_comes_from_outside_cannot_forge_another_value),
	    T(a_line_too_long_is_cut_and_still_ends),
	    T(a_line_that_repeats_itself_is_counted),
	    T(lines_that_differ_are_all_written),
	    T(debug_lines_are_all_written),
	    T(a_reader_that_stands_still_holds_up_nobody_and_is_told_what_it_missed),
	    T(the_levels_that_are_listed_are_those_there_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
