/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ca_change.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/scratch.h"

#define OLD  "aa"
#define NEXT "bb"

enum { NOW = 1000 };

struct fixture {
	char dir[64];
	struct registry *registry;
	struct ca_change change;
	struct hf_error err;
	unsigned char made; /* certificates, tokens */
};

static int
set_up(void **state)
{
	struct fixture *f = *state = calloc(1, sizeof *f);
	char path[128];

	scratch_make(f->dir, sizeof f->dir, "test_ca_change");
	snprintf(path, sizeof path, "%s/holdfast.db", f->dir);
	return registry_open(path, true, &f->registry, &f->err);
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	int removed;

	registry_close(f->registry);
	removed = scratch_remove(f->dir);
	free(f);
	return removed;
}

/* A certificate that is good until NOW + left. */
static void
add_certificate(struct fixture *f, const struct id *source, const char *issuer, int left, bool used)
{
	struct registry_certificate c = {.fingerprint = {++f->made}, .source = *source, .not_after_ns = NOW + left};

	strcpy(c.issuer, issuer);
	assert_int_equal(registry_put_certificate(f->registry, &c, &f->err), 0);
	if (used)
		assert_int_equal(registry_use_certificate(f->registry, c.fingerprint, 1, &f->err), 0);
}

static int
sign(void *arg, const struct id *source, struct registry_certificate *ret_certificate, struct hf_error *err)
{
	ret_certificate->fingerprint[1] = *(unsigned char *)arg; /* one that has expired */
	return 0;
}

static struct id
add_source(struct fixture *f, const char *hostname)
{
	static const unsigned char nonce[NONCE_BYTES] = "an installation";
	struct registry_token token = {.id = id_random("tok"), .hash = {++f->made}, .expires_ns = NOW};
	struct message_hints hints = {0};
	struct id offered = id_random("s"), source;

	strcpy(hints.hostname, hostname);
	assert_int_equal(registry_put_token(f->registry, &token, &f->err), 0);
	if (registry_enroll(f->registry, token.hash, 1, &offered, nonce, &hints, sign, &f->made, &source, &f->err) < 0)
		fail_msg("%s", f->err.text);
	return source;
}

static void
assert_change(struct fixture *f, size_t moved, size_t waiting)
{
	assert_int_equal(ca_change_look(f->registry, NEXT, NOW, &f->change, &f->err), 0);
	assert_int_equal(f->change.moved, moved);
	assert_int_equal(f->change.waiting, waiting);
}

static void
a_source_waits_until_it_came_with_a_certificate_of_the_next_ca(void **state)
{
	struct fixture *f = *state;
	struct id source = add_source(f, "db01");

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
	struct id expired = add_source(f, "a"), revoked = add_source(f, "b"), deleted = add_source(f, "c");

	add_certificate(f, &expired, OLD, 0, true);
	add_certificate(f, &revoked, OLD, 500, true);
	assert_int_equal(registry_revoke_source(f->registry, &revoked, &f->err), 0);
	add_certificate(f, &deleted, NEXT, 500, true);
	assert_change(f, 1, 0);
	assert_int_equal(registry_set_phase(f->registry, &deleted, PHASE_DELETING, 1, &f->err), 0);
	assert_change(f, 0, 0);
}

static void
each_source_is_counted_once_with_its_own_certificates(void **state)
{
	struct fixture *f = *state;
	struct id sources[8], gone = {"s-00000000000000000"}; /* between the one list and the other */

	add_certificate(f, &gone, OLD, 500, true);
	for (size_t i = 0; i < 8; i++) {
		sources[i] = add_source(f, "x");
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
