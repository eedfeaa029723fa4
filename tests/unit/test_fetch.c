/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fetch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/common/digest.h"
#include "proto/common/status.h"
#include "tests/lib/scratch.h"

enum { BLOCKS = 3, TAIL_BYTES = 100, DISK_BYTES = BLOCKS * BLOCK_BYTES + TAIL_BYTES };

static char dir[64], path[96];

/* Byte i of the disk is made from i and its block. */
static unsigned char
byte_at(size_t i)
{
	return (unsigned char)(i * 7 + i / BLOCK_BYTES + 1);
}

static int
make_disk(void **state)
{
	FILE *f;

	scratch_make(dir, sizeof dir, "test_fetch");
	snprintf(path, sizeof path, "%s/disk", dir);
	f = fopen(path, "we");
	if (f == NULL)
		return -1;
	for (size_t i = 0; i < DISK_BYTES; i++)
		fputc(byte_at(i), f);
	return fclose(f);
}

static int
remove_disk(void **state)
{
	unlink(path);
	return rmdir(dir);
}

static void
expect_block(uint64_t block, size_t bytes, uint64_t size_bytes)
{
	unsigned char got[BLOCK_BYTES], expected[BLOCK_BYTES] = {0};

	for (size_t i = 0; i < bytes; i++)
		expected[i] = byte_at(block * BLOCK_BYTES + i);
	assert_int_equal(fetch_block(path, size_bytes, block, got), 0);
	assert_memory_equal(got, expected, BLOCK_BYTES);
}

static void
every_block_is_as_the_disk_has_it(void **state)
{
	for (uint64_t block = 0; block < BLOCKS; block++)
		expect_block(block, BLOCK_BYTES, DISK_BYTES);
}

static void
last_block_is_padded_with_zeros(void **state)
{
	expect_block(BLOCKS, TAIL_BYTES, DISK_BYTES);
}

/* A disk that grew: what was not declared counts as zeros. */
static void
bytes_beyond_the_declared_end_are_zeros(void **state)
{
	expect_block(1, 10, BLOCK_BYTES + 10);
}

static void
what_is_not_there_is_an_error(void **state)
{
	unsigned char got[BLOCK_BYTES];

	assert_int_equal(fetch_block(path, DISK_BYTES, BLOCKS + 1, got), -HF_EBEYOND);
	assert_int_equal(fetch_block(path, DISK_BYTES + 2 * BLOCK_BYTES, BLOCKS + 1, got), -ENODATA);
	assert_int_equal(fetch_block("/nowhere/disk", DISK_BYTES, 0, got), -ENOENT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_block_is_as_the_disk_has_it),
	    cmocka_unit_test(last_block_is_padded_with_zeros),
	    cmocka_unit_test(bytes_beyond_the_declared_end_are_zeros),
	    cmocka_unit_test(what_is_not_there_is_an_error),
	};

	return cmocka_run_group_tests_name("fetch", tests, make_disk, remove_disk);
}
