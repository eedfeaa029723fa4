/* SPDX-License-Identifier: Apache-2.0 */
/* registry_rig.h: a registry of a test's own, with sources and certificates as a test wants them. */
#ifndef HF_TESTS_LIB_REGISTRY_RIG_H
#define HF_TESTS_LIB_REGISTRY_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "server/registry.h"
#include "tests/lib/scratch.h"

struct registry_rig {
	char dir[64], path[128];
	struct registry *registry;
	struct hf_error err;
	unsigned char made; /* certificates and tokens */
};

static inline int
registry_rig_init(struct registry_rig *r, const char *name)
{
	scratch_make(r->dir, sizeof r->dir, name);
	snprintf(r->path, sizeof r->path, "%s/holdfast.db", r->dir);
	return registry_open(r->path, true, &r->registry, &r->err);
}

static inline int
registry_rig_fini(struct registry_rig *r)
{
	registry_close(r->registry);
	return scratch_remove(r->dir);
}

/* Source, times and issuer as c says. */
static inline void
registry_rig_add_certificate(struct registry_rig *r, const struct registry_certificate *c, bool used)
{
	struct registry_certificate made = *c;

	made.fingerprint[0] = ++r->made;
	assert_int_equal(registry_put_certificate(r->registry, &made, &r->err), 0);
	if (used)
		assert_int_equal(registry_use_certificate(r->registry, made.fingerprint, 1, &r->err), 0);
}

/* The certificate that a source is enrolled with: one that expired long ago. */
static inline int
registry_rig_sign(
    void *arg, const struct id *source, struct registry_certificate *ret_certificate, struct hf_error *err)
{
	ret_certificate->fingerprint[0] = *(unsigned char *)arg;
	return 0;
}

static inline struct id
registry_rig_add_source(struct registry_rig *r, const char *hostname)
{
	static const unsigned char nonce[NONCE_BYTES] = "an installation";
	struct registry_token token = {.id = id_random("tok"), .hash = {++r->made}, .expires_ns = 2};
	struct message_hints hints = {0};
	struct id offered = id_random("s"), source;

	snprintf(hints.hostname, sizeof hints.hostname, "%s", hostname);
	assert_int_equal(registry_put_token(r->registry, &token, &r->err), 0);
	if (registry_enroll(
		r->registry, token.hash, 1, &offered, nonce, &hints, registry_rig_sign, &r->made, &source, &r->err) < 0)
		fail_msg("%s", r->err.text);
	return source;
}

#endif
