/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/pitfalls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <linux/magic.h>

static void
kernels_that_lose_writes_are_known_by_either_of_their_names(void **state)
{
	assert_true(pitfall_kernel("6.1.64", "#1 SMP"));
	assert_true(pitfall_kernel("6.1.65-custom", "#1 SMP"));
	assert_true(pitfall_kernel("6.1.0-14-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.64-1 (2023-11-30)"));
	assert_false(pitfall_kernel("6.1.0-15-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.66-1 (2023-12-09)"));
	assert_false(pitfall_kernel("6.1.63", "#1 SMP"));
	assert_false(pitfall_kernel("6.1.640", "#1 SMP"));
	assert_false(pitfall_kernel("6.1.64.2", "#1 SMP"));
	assert_false(pitfall_kernel("16.1.64", "#1 SMP"));
	assert_false(pitfall_kernel("", ""));
}

static void
file_systems_that_forget_are_bad_and_plain_ones_are_not_named(void **state)
{
	assert_true(pitfall_file_system(TMPFS_MAGIC)->is_bad);
	assert_true(pitfall_file_system(OVERLAYFS_SUPER_MAGIC)->is_bad);
	assert_false(pitfall_file_system(BTRFS_SUPER_MAGIC)->is_bad);
	assert_string_equal(pitfall_file_system(NFS_SUPER_MAGIC)->name, "nfs");
	assert_null(pitfall_file_system(EXT4_SUPER_MAGIC));
	assert_null(pitfall_file_system(XFS_SUPER_MAGIC));
}

static void
limits_are_read_as_the_kernel_writes_them(void **state)
{
	uint64_t limit = 7;

	assert_true(pitfall_limit("Max open files            1024                 524288               files     ",
	    "Max open files", &limit));
	assert_int_equal(limit, 1024);
	assert_true(pitfall_limit("Max locked memory         unlimited            unlimited            bytes     ",
	    "Max locked memory", &limit));
	assert_true(limit == UINT64_MAX);
	assert_false(pitfall_limit("Max processes             63432                63432                processes ",
	    "Max open files", &limit));
	assert_true(limit == UINT64_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(kernels_that_lose_writes_are_known_by_either_of_their_names),
	    cmocka_unit_test(file_systems_that_forget_are_bad_and_plain_ones_are_not_named),
	    cmocka_unit_test(limits_are_read_as_the_kernel_writes_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
