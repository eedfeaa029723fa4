/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/new_disks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/scratch.h"

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

	assert_int_equal(new_disks_create("/sys", st, NULL, &n, NULL), 0);
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

/* So many disks in a made-up /sys, called vd1, vd2, ... */
static void
add_disks(const char *root, int count)
{
	char command[512];

	snprintf(command, sizeof command,
	    "cd %s && mkdir -p sys/block sys/dev/block && for i in $(seq %d); do d=sys/devices/vd$i; "
	    "mkdir -p $d/holders $d/slaves && echo 2048 >$d/size && echo 8:$i >$d/dev && echo 0 >$d/ro && "
	    "echo 0 >$d/removable && echo s$i >$d/serial && ln -sfn ../../devices/vd$i sys/dev/block/8:$i && "
	    "ln -sfn ../devices/vd$i sys/block/vd$i; done",
	    root, count);
	assert_int_equal(system(command), 0);
}

static void
remove_disk(const char *root, const char *path)
{
	char command[512];

	snprintf(command, sizeof command, "cd %s/sys && rm block/%s", root, strrchr(path, '/') + 1);
	assert_int_equal(system(command), 0);
}

static void
many_that_are_new_are_told_of_once_each_while_they_are_there(void **state)
{
	enum { MANY = 100 };
	struct state *st = calloc(1, sizeof *st);
	char root[64], sys[80], command[128];
	struct new_disks *n;
	struct disk_info d;
	int told = 0;

	scratch_make(root, sizeof root, "test_new_disks");
	snprintf(sys, sizeof sys, "%s/sys", root);
	add_disks(root, 1);
	assert_int_equal(new_disks_create(sys, st, NULL, &n, NULL), 0);
	assert_true(new_disks_is_there(n, "serial:s1"));
	assert_int_equal(st->known_count, 1);
	add_disks(root, MANY);
	while (told <= MANY && new_disks_find(n, true, &d)) {
		new_disks_told(n, &d);
		if (++told == MANY - 2) /* one that was told of goes, and comes back */
			remove_disk(root, d.path);
		else if (told == MANY - 1)
			add_disks(root, MANY);
	}
	assert_int_equal(told, MANY);
	assert_true(new_disks_is_there(n, "serial:s100"));
	assert_false(new_disks_is_there(n, "serial:s101"));
	new_disks_destroy(n);
	free(st);
	snprintf(command, sizeof command, "rm -rf %s", root);
	assert_int_equal(system(command), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_new_volume_is_called_as_its_device_and_like_no_other),
	    cmocka_unit_test(many_that_are_new_are_told_of_once_each_while_they_are_there),
	    cmocka_unit_test(what_is_there_at_the_first_start_is_not_new),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
