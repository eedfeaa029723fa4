/* SPDX-License-Identifier: Apache-2.0 */
#include "server/identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "tests/lib/registry_rig.h"

#define TAKEN (1800000000 * NS_PER_SECOND)
#define PUT   (TAKEN + 3600 * NS_PER_SECOND)

struct fixture {
	struct registry_rig rig; /* a server's directory */
	struct id source;
	struct bundle bundle; /* its identity */
	char ca[FINGERPRINT_TEXT_BYTES];
	char to[96]; /* an empty directory */
	struct identity_facts facts;
	struct hf_error err;
};

static int
take(struct fixture *f)
{
	struct status_table *status;
	struct pki *pki;
	unsigned unknown;
	char path[96];
	int r;

	snprintf(path, sizeof path, "%s/pki", f->rig.dir);
	r = pki_open(path, TAKEN, &pki, &f->err);
	if (r < 0)
		return r;
	pki_ca_fingerprint(pki, f->ca);
	pki_close(pki);
	r = status_table_create(&status);
	if (r == 0)
		r = identity_take(f->rig.dir, f->rig.registry, status, TAKEN, &f->bundle, &unknown, &f->err);
	status_table_destroy(status);
	return r;
}

static int
set_up(void **state)
{
	struct fixture *f = *state = calloc(1, sizeof *f);

	log_level_max = LOG_LEVEL_ERR;
	if (registry_rig_init(&f->rig, "test_identity") < 0)
		return -1;
	f->source = registry_rig_add_source(&f->rig, "db01");
	snprintf(f->to, sizeof f->to, "%s/to", f->rig.dir);
	return mkdir(f->to, 0700) < 0 ? -1 : take(f);
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	int r = registry_rig_fini(&f->rig);

	bundle_fini(&f->bundle);
	free(f);
	return r;
}

static int
put(struct fixture *f, const struct bundle *b)
{
	return identity_put(b, f->to, PUT, &f->facts, &f->err);
}

static bool
is_there(const struct fixture *f, const char *name)
{
	char path[256];

	snprintf(path, sizeof path, "%s/%s", f->to, name);
	return access(path, F_OK) == 0;
}

static void
what_was_taken_can_be_put_into_an_empty_directory_once(void **state)
{
	struct fixture *f = *state;
	char store[64];

	if (put(f, &f->bundle) < 0)
		fail_msg("%s", f->err.text);
	assert_string_equal(f->facts.ca_fingerprint, f->ca);
	assert_int_equal(f->facts.source_count, 1);
	assert_int_equal(f->facts.taken_ns, TAKEN);
	snprintf(store, sizeof store, "sources/%s/catalog.db", f->source.text);
	assert_true(is_there(f, store));
	assert_int_equal(put(f, &f->bundle), -ENOTEMPTY);
}

/* The bundle with one piece more. */
static void
assert_piece_refused(struct fixture *f, const char *name)
{
	struct bundle b = {0};

	assert_int_equal(bundle_append(&b, f->bundle.bytes, f->bundle.len), 0);
	assert_int_equal(bundle_add(&b, name, "x", 1), 0);
	assert_int_equal(put(f, &b), -HF_ECORRUPT);
	assert_false(is_there(f, "holdfast.db"));
	bundle_fini(&b);
	assert_int_equal(scratch_remove(f->to), 0);
	assert_int_equal(mkdir(f->to, 0700), 0);
}

static void
nothing_but_keys_and_certificates_comes_beside_them(void **state)
{
	struct fixture *f = *state;

	assert_piece_refused(f, "pki/notes.txt");
	assert_piece_refused(f, "pki/");
	assert_piece_refused(f, "pki/sub/ca.pem");
	assert_piece_refused(f, "pki/../../escaped.pem");
	assert_false(is_there(f, "../escaped.pem"));
}

/* The bundle with another identity.json. */
static void
assert_facts_refused(struct fixture *f, const char *text, int status)
{
	struct bundle b = {0};
	struct bundle_piece piece;
	size_t at = 0;

	assert_int_equal(bundle_add(&b, "identity.json", text, strlen(text)), 0);
	while (bundle_next(&f->bundle, &at, &piece) == 1)
		if (strcmp(piece.name, "identity.json") != 0)
			assert_int_equal(bundle_add(&b, piece.name, piece.bytes, piece.len), 0);
	assert_int_equal(put(f, &b), status);
	assert_false(is_there(f, "holdfast.db"));
	bundle_fini(&b);
	assert_int_equal(scratch_remove(f->to), 0);
	assert_int_equal(mkdir(f->to, 0700), 0);
}

static void
what_says_of_itself_what_cannot_be_is_refused(void **state)
{
	struct fixture *f = *state;

	assert_facts_refused(f, "", -HF_ECORRUPT);
	assert_facts_refused(f, "{}", -HF_ECORRUPT);
	assert_facts_refused(f, "{\"format\": 1, \"takenNs\": 1}", -HF_ECORRUPT);
	assert_facts_refused(f, "{\"format\": 1, \"takenNs\": 1, \"sources\": []}", -HF_ECORRUPT);
	assert_facts_refused(f, "{\"format\": 1, \"takenNs\": 1, \"sources\": {\"../../s-0\": null}}", -HF_ECORRUPT);
	assert_facts_refused(f, "{\"format\": 2, \"takenNs\": 1, \"sources\": {}}", -HF_EFORMAT);
	assert_facts_refused(f, "{\"format\": 2}", -HF_EFORMAT);
}

static int
recover(struct registry *registry, const struct id *source, int64_t issued_ns)
{
	struct pki_peer peer = {.source = *source,
	    .not_before_ns = issued_ns - PKI_CLOCK_LEEWAY_NS,
	    .not_after_ns = issued_ns + NS_PER_SECOND,
	    .fingerprint = {0xfe, (unsigned char)(issued_ns / NS_PER_SECOND)}};
	struct hf_error err;

	return identity_recover_certificate(registry, &peer, &err);
}

static void
a_certificate_is_taken_up_again_if_it_was_made_since_the_backup(void **state)
{
	const struct id nobody = {"s-00000000000000000"};
	struct fixture *f = *state;
	struct registry *registry;
	char path[128];

	assert_int_equal(recover(f->rig.registry, &f->source, TAKEN + NS_PER_SECOND), -ENOENT); /* never restored */
	assert_int_equal(put(f, &f->bundle), 0);
	snprintf(path, sizeof path, "%s/holdfast.db", f->to);
	assert_int_equal(registry_open(path, false, &registry, &f->err), 0);
	assert_int_equal(
	    recover(registry, &f->source, TAKEN - 2 * NS_PER_SECOND), -ENOENT);        /* of before: it was removed */
	assert_int_equal(recover(registry, &f->source, PUT + NS_PER_SECOND), -ENOENT); /* of another server, by now */
	assert_int_equal(recover(registry, &nobody, TAKEN + NS_PER_SECOND), -ENOENT);
	assert_int_equal(recover(registry, &f->source, TAKEN), 0);
	assert_int_equal(recover(registry, &f->source, PUT), 0);
	registry_close(registry);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(what_was_taken_can_be_put_into_an_empty_directory_once),
	    T(nothing_but_keys_and_certificates_comes_beside_them),
	    T(what_says_of_itself_what_cannot_be_is_refused),
	    T(a_certificate_is_taken_up_again_if_it_was_made_since_the_backup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
