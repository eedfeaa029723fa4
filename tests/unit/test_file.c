/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/common/file.h"
#include "tests/lib/scratch.h"

static char directory[64], path[128], beside[128];

static int
setup(void **state)
{
	(void)state;
	scratch_make(directory, sizeof directory, "test_file");
	snprintf(path, sizeof path, "%s/file", directory);
	snprintf(beside, sizeof beside, "%s.new", path);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	return scratch_remove(directory);
}

static void
put(const char *text)
{
	assert_int_equal(file_replace(path, 0640, text, strlen(text), NULL), 0);
}

static void
expect(const char *text)
{
	char have[64];

	assert_int_equal(file_read(path, have, sizeof have, NULL), strlen(text));
	assert_string_equal(have, text);
	assert_int_equal(access(beside, F_OK), -1);
}

static void
a_file_is_replaced_whole_and_has_its_mode(void **state)
{
	mode_t mask = umask(0077);
	struct stat st;

	(void)state;
	put("a long text");
	put("short");
	(void)umask(mask);
	expect("short");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
}

/* A stranger may have made it, and have it open. */
static void
what_lies_beside_is_not_written_to(void **state)
{
	int fd = open(beside, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	char first;

	(void)state;
	assert_true(fd >= 0);
	put("secret");
	assert_int_equal(pread(fd, &first, 1, 0), 0);
	close(fd);
	expect("secret");
	assert_int_equal(symlink(path, beside), 0);
	put("another");
	expect("another");
}

static void
a_file_that_cannot_be_replaced_stays(void **state)
{
	struct hf_error err = {0};
	char inside[160];

	(void)state;
	snprintf(inside, sizeof inside, "%s/inside", path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(mkdir(inside, 0700), 0);
	assert_int_equal(file_replace(path, 0600, "x", 1, &err), -EISDIR);
	assert_non_null(strstr(err.text, path));
	assert_int_equal(access(inside, F_OK), 0);
	assert_int_equal(access(beside, F_OK), -1);
}

#define file_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    file_test(a_file_is_replaced_whole_and_has_its_mode),
	    file_test(what_lies_beside_is_not_written_to),
	    file_test(a_file_that_cannot_be_replaced_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
