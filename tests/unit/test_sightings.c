/* SPDX-License-Identifier: Apache-2.0 */
#include "server/sightings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/scratch.h"

enum {
	SOURCES = 150, /* more than are made room for at once, twice over */
	SEEN = 1000,   /* of the first; of the next 1001, ... */
	BEGAN = 5000,
};

struct fixture {
	char dir[64];
	struct registry *registry;
	struct status_table *table;
	struct id sources[SOURCES];
};

static int
sign(void *arg, const struct id *source, struct registry_certificate *ret_certificate, struct hf_error *err)
{
	random_bytes(ret_certificate->fingerprint, FINGERPRINT_BYTES);
	return 0;
}

static struct id
enroll(struct fixture *f)
{
	struct registry_token token = {.id = id_random("tok"), .expires_ns = 2};
	struct id offered = id_random("s"), source;
	unsigned char nonce[NONCE_BYTES];
	struct message_hints hints = {.hostname = "one"};

	random_bytes(token.hash, sizeof token.hash);
	random_bytes(nonce, sizeof nonce);
	assert_int_equal(registry_put_token(f->registry, &token, NULL), 0);
	assert_int_equal(
	    registry_enroll(f->registry, token.hash, 1, &offered, nonce, &hints, sign, NULL, &source, NULL), 0);
	return source;
}

static int
set_up(void **state)
{
	struct fixture *f = *state = calloc(1, sizeof *f);
	char path[128];

	scratch_make(f->dir, sizeof f->dir, "test_sightings");
	snprintf(path, sizeof path, "%s/holdfast.db", f->dir);
	return registry_open(path, true, &f->registry, NULL) < 0 || status_table_create(&f->table) < 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	int removed;

	status_table_destroy(f->table);
	registry_close(f->registry);
	removed = scratch_remove(f->dir);
	free(f);
	return removed;
}

static void
publish(struct fixture *f, const struct id *source, int64_t last_seen_ns, int64_t first_byte_ns)
{
	struct source_status *s = calloc(1, sizeof *s);

	assert_non_null(s);
	s->id = *source;
	s->last_seen_ns = last_seen_ns;
	s->first_byte_ns = first_byte_ns;
	status_publish(f->table, s, NULL);
	free(s);
}

static void
expect_kept(struct fixture *f, const struct id *source, int64_t last_seen_ns, int64_t first_byte_ns)
{
	struct registry_source row;

	assert_int_equal(registry_get_source(f->registry, source, &row, NULL), 0);
	assert_int_equal(row.last_seen_ns, last_seen_ns);
	assert_int_equal(row.first_byte_ns, first_byte_ns);
}

static void
what_is_known_of_each_source_is_kept(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < SOURCES; i++) {
		f->sources[i] = enroll(f);
		publish(f, &f->sources[i], SEEN + i, BEGAN + i);
	}
	assert_int_equal(sightings_keep(f->table, f->registry, NULL), 0);
	for (int i = 0; i < SOURCES; i++)
		expect_kept(f, &f->sources[i], SEEN + i, BEGAN + i);
}

/* Since this start; the registry may know of an earlier one. */
static void
of_an_agent_that_has_not_come_nothing_is_forgotten(void **state)
{
	struct fixture *f = *state;
	struct id source = enroll(f);

	assert_int_equal(sightings_keep(f->table, f->registry, NULL), 0); /* there is none at all */
	publish(f, &source, SEEN, BEGAN);
	assert_int_equal(sightings_keep(f->table, f->registry, NULL), 0);
	publish(f, &source, 0, 0);
	assert_int_equal(sightings_keep(f->table, f->registry, NULL), 0);
	expect_kept(f, &source, SEEN, BEGAN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(what_is_known_of_each_source_is_kept, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(of_an_agent_that_has_not_come_nothing_is_forgotten, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("sightings", tests, NULL, NULL);
}
