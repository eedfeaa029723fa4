/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/expiry.h"
#include "server/pki.h"
#include "server/server.h"
#include "tests/lib/registry_rig.h"

#define DAY (86400 * NS_PER_SECOND)

/* As they are made: dated back by the leeway, which is no part of their life. */
static const int64_t issued = 1000 * DAY, begin = 1000 * DAY - PKI_CLOCK_LEEWAY_NS, end = 1090 * DAY;

static void
a_certificate_is_near_its_end_when_a_fifth_of_its_life_is_left(void **state)
{
	int64_t since;

	assert_int_equal(expiry_of(begin, end, issued, &since), EXPIRY_FAR);
	assert_int_equal(since, begin);
	assert_int_equal(expiry_of(begin, end, issued + 72 * DAY - 1, NULL), EXPIRY_FAR);
	assert_int_equal(expiry_of(begin, end, issued + 72 * DAY, &since), EXPIRY_NEAR);
	assert_int_equal(since, issued + 72 * DAY);
	assert_int_equal(expiry_of(begin, end, end - 1, NULL), EXPIRY_NEAR);
	assert_int_equal(expiry_of(begin, end, end, &since), EXPIRY_OVER);
	assert_int_equal(since, end);
}

/* ---- what is told ---- */

struct fixture {
	struct registry_rig rig;
	struct server server;
	char told[512]; /* "event source ..." */
};

static struct fixture *told_to;

void
server_event(struct server *sv, const struct id *source, const char *event, const char *format, ...)
{
	size_t n = strlen(told_to->told);

	assert_ptr_equal(sv, &told_to->server);
	snprintf(told_to->told + n, sizeof told_to->told - n, "%s%s%s%s", n > 0 ? " " : "", event,
	    source != NULL ? " " : "", source != NULL ? source->text : "");
}

static int
set_up(void **state)
{
	struct fixture *f = told_to = *state = calloc(1, sizeof *f);
	char path[128];

	if (registry_rig_init(&f->rig, "test_expiry") < 0)
		return -1;
	f->server.registry = f->rig.registry;
	snprintf(path, sizeof path, "%s/pki", f->rig.dir);
	return pki_open(path, issued, &f->server.pki, &f->rig.err);
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	int r = registry_rig_fini(&f->rig);

	pki_close(f->server.pki);
	free(f);
	return r;
}

static void
add_certificate(struct fixture *f, const struct id *source, int64_t not_before_ns, int64_t not_after_ns)
{
	registry_rig_add_certificate(&f->rig,
	    &(struct registry_certificate){
		.source = *source, .not_before_ns = not_before_ns, .not_after_ns = not_after_ns},
	    true);
}

static void
assert_told(struct fixture *f, int64_t told_ns, int64_t now_ns, const char *events, const struct id *source)
{
	char expected[128];

	f->told[0] = '\0';
	server_tell_expiry(&f->server, told_ns, now_ns);
	snprintf(expected, sizeof expected, "%s%s%s", events, events[0] != '\0' ? " " : "",
	    events[0] != '\0' ? source->text : "");
	assert_string_equal(f->told, expected);
}

static void
one_is_told_once_that_an_end_is_near_and_once_that_it_came(void **state)
{
	const int64_t near = issued + 72 * DAY;
	struct fixture *f = *state;
	struct id s = registry_rig_add_source(&f->rig, "db01");

	add_certificate(f, &s, begin, end);
	assert_told(f, 0, near - 1, "", &s);
	assert_told(f, near - 1, near, "certificate_expiring", &s);
	assert_told(f, near, near + DAY, "", &s);
	assert_told(f, near + DAY, end, "certificate_expired", &s);
	assert_told(f, end, end + 400 * DAY, "", &s);
	assert_told(f, 0, near + DAY, "certificate_expiring", &s); /* after a start again */
	assert_told(f, 0, end + DAY, "certificate_expired", &s);
}

static void
a_certificate_that_was_renewed_may_end(void **state)
{
	struct fixture *f = *state;
	struct id s = registry_rig_add_source(&f->rig, "db01");

	add_certificate(f, &s, begin, end);
	add_certificate(f, &s, begin + 60 * DAY, end + 60 * DAY);
	assert_told(f, 0, end, "", &s);
	assert_told(f, end, end + 60 * DAY, "certificate_expired", &s);
}

static void
sources_that_nobody_is_let_in_for_are_not_told_of(void **state)
{
	struct fixture *f = *state;
	struct id s = registry_rig_add_source(&f->rig, "db01");

	add_certificate(f, &s, begin, end);
	assert_int_equal(registry_set_phase(f->rig.registry, &s, PHASE_STOPPED, 1, &f->rig.err), 1);
	assert_told(f, 0, end, "", &s);
	assert_int_equal(registry_end_phase(f->rig.registry, &s, PHASE_STOPPED, 1, &f->rig.err), 1);
	assert_int_equal(registry_set_phase(f->rig.registry, &s, PHASE_PAUSED, 1, &f->rig.err), 1);
	assert_told(f, 0, end, "certificate_expired", &s);
	assert_int_equal(registry_revoke_source(f->rig.registry, &s, &f->rig.err), 0);
	assert_told(f, 0, end, "", &s);
}

static void
the_ca_is_told_of_two_years_before_its_end(void **state)
{
	struct fixture *f = *state;

	server_tell_expiry(&f->server, 0, issued + 7 * 365 * DAY);
	assert_string_equal(f->told, "");
	server_tell_expiry(&f->server, issued + 7 * 365 * DAY, issued + 8 * 365 * DAY);
	assert_string_equal(f->told, "ca_expiring");
	server_tell_expiry(&f->server, issued + 8 * 365 * DAY, issued + 9 * 365 * DAY);
	assert_string_equal(f->told, "ca_expiring");
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(one_is_told_once_that_an_end_is_near_and_once_that_it_came),
	    T(a_certificate_that_was_renewed_may_end),
	    T(sources_that_nobody_is_let_in_for_are_not_told_of),
	    T(the_ca_is_told_of_two_years_before_its_end),
	    cmocka_unit_test(a_certificate_is_near_its_end_when_a_fifth_of_its_life_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
