/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/new_disks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void
expect_name(struct state *st, const char *path, const char *name)
{
	struct disk_info d = {0};
	char got[NAME_BYTES];

	snprintf(d.path, sizeof d.path, "%s", path);
	new_disks_name(st, &d, got);
	assert_string_equal(got, name);
	snprintf(st->volumes[st->volume_count++].name, NAME_BYTES, "%s", got);
}

static void
a_new_volume_is_called_as_its_device_and_like_no_other(void **state)
{
	struct state *st = calloc(1, sizeof *st);

	expect_name(st, "/dev/sdb", "sdb");
	expect_name(st, "/dev/sdb", "sdb-2");
	expect_name(st, "/dev/mapper/sdb", "sdb-3");
	expect_name(st, "/dev/nvme1n1", "nvme1n1");
	free(st);
}

/* A disk of this machine that is replicated by default, as if it had not been there. */
static bool
forget_one(struct state *st, char *ret_identity)
{
	struct disk_info *list = calloc(DISKS_MAX, sizeof *list);
	int count = disks_list("/sys", list, DISKS_MAX, NULL);
	bool forgotten = false;

	for (int i = 0; i < count && !forgotten; i++)
		for (size_t j = 0; list[i].by_default && j < st->known_count && !forgotten; j++)
			if (strcmp(st->known[j], list[i].identity) == 0) {
				snprintf(ret_identity, NAME_BYTES, "%s", st->known[j]);
				st->known[j][0] = '\0';
				forgotten = true;
			}
	free(list);
	return forgotten;
}

static void
what_is_there_at_the_first_start_is_not_new(void **state)
{
	struct state *st = calloc(1, sizeof *st);
	char identity[NAME_BYTES] = "";
	struct new_disks *n;
	struct disk_info d;
	bool forgotten;

	assert_int_equal(new_disks_create(st, NULL, &n, NULL), 0);
	forgotten = forget_one(st, identity);
	assert_int_equal(new_disks_find(n, true, &d), forgotten);
	if (forgotten) {
		assert_string_equal(d.identity, identity);
		new_disks_told(n, &d);
		assert_false(new_disks_find(n, true, &d));
	}
	new_disks_destroy(n);
	free(st);
	if (!forgotten)
		skip(); /* this machine has no disk to try it with */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_new_volume_is_called_as_its_device_and_like_no_other),
	    cmocka_unit_test(what_is_there_at_the_first_start_is_not_new),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
