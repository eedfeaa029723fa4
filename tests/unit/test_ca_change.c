/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ca_change.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "tests/lib/registry_rig.h"

#define OLD  "aa"
#define NEXT "bb"

enum { NOW = 1000 };

struct fixture {
	struct registry_rig rig;
	struct ca_change change;
};

static int
set_up(void **state)
{
	struct fixture *f = *state = calloc(1, sizeof *f);

	return registry_rig_init(&f->rig, "test_ca_change");
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	int r = registry_rig_fini(&f->rig);

	free(f);
	return r;
}

/* A certificate that is good until NOW + left. */
static void
add_certificate(struct fixture *f, const struct id *source, const char *issuer, int left, bool used)
{
	struct registry_certificate c = {.source = *source, .not_after_ns = NOW + left};

	strcpy(c.issuer, issuer);
	registry_rig_add_certificate(&f->rig, &c, used);
}

static void
assert_change(struct fixture *f, size_t moved, size_t waiting)
{
	assert_int_equal(ca_change_look(f->rig.registry, NEXT, NOW, &f->change, &f->rig.err), 0);
	assert_int_equal(f->change.moved, moved);
	assert_int_equal(f->change.waiting, waiting);
}

static void
a_source_waits_until_it_came_with_a_certificate_of_the_next_ca(void **state)
{
	struct fixture *f = *state;
	struct id source = registry_rig_add_source(&f->rig, "db01");

	add_certificate(f, &source, OLD, 500, true);
	assert_change(f, 0, 1);
	assert_string_equal(f->change.list[0].source.text, source.text);
	assert_string_equal(f->change.list[0].hostname, "db01");
	add_certificate(f, &source, NEXT, 600, false); /* it may not have got it */
	assert_change(f, 0, 1);
	add_certificate(f, &source, NEXT, 700, true);
	assert_change(f, 1, 0);
	add_certificate(f, &source, OLD, 800, true); /* its program is an older one again */
	assert_change(f, 1, 0);
}

static void
a_source_without_a_good_certificate_needs_no_ca(void **state)
{
	struct fixture *f = *state;
	struct id expired = registry_rig_add_source(&f->rig, "a"), revoked = registry_rig_add_source(&f->rig, "b"),
		  deleted = registry_rig_add_source(&f->rig, "c");

	add_certificate(f, &expired, OLD, 0, true);
	add_certificate(f, &revoked, OLD, 500, true);
	assert_int_equal(registry_revoke_source(f->rig.registry, &revoked, &f->rig.err), 0);
	add_certificate(f, &deleted, NEXT, 500, true);
	assert_change(f, 1, 0);
	assert_int_equal(registry_set_phase(f->rig.registry, &deleted, PHASE_DELETING, 1, &f->rig.err), 1);
	assert_change(f, 0, 0);
}

static void
each_source_is_counted_once_with_its_own_certificates(void **state)
{
	struct fixture *f = *state;
	struct id sources[8], gone = {"s-00000000000000000"}; /* between the one list and the other */

	add_certificate(f, &gone, OLD, 500, true);
	for (size_t i = 0; i < 8; i++) {
		sources[i] = registry_rig_add_source(&f->rig, "x");
		add_certificate(f, &sources[i], OLD, 500, true);
		add_certificate(f, &sources[i], OLD, 600, true);
		if (i % 4 == 0)
			add_certificate(f, &sources[i], NEXT, 700, true);
	}
	assert_change(f, 2, 6);
	for (size_t i = 0; i < f->change.waiting; i++) {
		assert_string_not_equal(f->change.list[i].source.text, sources[0].text);
		assert_string_not_equal(f->change.list[i].source.text, sources[4].text);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(a_source_waits_until_it_came_with_a_certificate_of_the_next_ca),
	    T(a_source_without_a_good_certificate_needs_no_ca),
	    T(each_source_is_counted_once_with_its_own_certificates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
