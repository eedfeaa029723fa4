/* SPDX-License-Identifier: Apache-2.0 */
#include "server/preflight.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/units.h"
#include "server/data_dir.h"
#include "server/pki.h"
#include "server/registry.h"
#include "tests/lib/scratch.h"

#define YEAR_NS (365 * 24 * 3600 * NS_PER_SECOND)

struct fixture {
	char dir[64];
	struct config config;
};

static int
set_up(void **state)
{
	struct fixture *f = *state = calloc(1, sizeof *f);

	scratch_make(f->dir, sizeof f->dir, "test_preflight");
	config_default(&f->config);
	snprintf(f->config.data_dir, sizeof f->config.data_dir, "%s", f->dir);
	f->config.data_dir_set = true;
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	int removed = scratch_remove(f->dir);

	free(f);
	return removed;
}

/* What a start at that time makes first. */
static void
make_pki(struct fixture *f, int64_t now_ns)
{
	struct data_dir *dir;
	struct registry *registry;
	char path[80];
	struct pki *pki;

	assert_int_equal(data_dir_open(f->dir, false, "", &dir, NULL), 0);
	snprintf(path, sizeof path, "%s/holdfast.db", f->dir);
	assert_int_equal(registry_open(path, true, &registry, NULL), 0);
	registry_close(registry);
	data_dir_close(dir);
	snprintf(path, sizeof path, "%s/pki", f->dir);
	assert_int_equal(pki_open(path, now_ns, &pki, NULL), 0);
	pki_close(pki);
}

/* "" or its one line. */
static const char *
problem(struct fixture *f)
{
	static char said[1024];
	FILE *problems = fmemopen(said, sizeof said, "w");
	int r;

	memset(said, 0, sizeof said);
	r = preflight(&f->config, problems);
	fclose(problems);
	assert_int_equal(r < 0, said[0] != '\0');
	assert_true(said[0] == '\0' || strchr(said, '\n') == said + strlen(said) - 1);
	return said;
}

static void
what_is_as_it_should_be_is_no_problem(void **state)
{
	assert_string_equal(problem(*state), ""); /* the first start makes all of it */
	make_pki(*state, clock_real_ns());
	assert_string_equal(problem(*state), "");
}

static void
a_ca_that_expired_is_found(void **state)
{
	make_pki(*state, clock_real_ns() - 30 * YEAR_NS);
	assert_non_null(strstr(problem(*state), "expired"));
}

static void
a_directory_that_is_not_there_is_found(void **state)
{
	struct fixture *f = *state;

	snprintf(f->config.journal_dir, sizeof f->config.journal_dir, "%s/none", f->dir);
	assert_non_null(strstr(problem(f), f->config.journal_dir));
	f->config.journal_dir[0] = '\0';
	snprintf(f->config.data_dir, sizeof f->config.data_dir, "%s/none", f->dir);
	assert_non_null(strstr(problem(f), f->config.data_dir));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(what_is_as_it_should_be_is_no_problem, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_ca_that_expired_is_found, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_directory_that_is_not_there_is_found, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("preflight", tests, NULL, NULL);
}
