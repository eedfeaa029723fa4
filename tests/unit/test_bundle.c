/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/bytes.h"
#include "proto/common/status.h"
#include "server/bundle.h"

static struct bundle
make_bundle(void)
{
	struct bundle b = {0};

	assert_int_equal(bundle_add(&b, "one", "first", 5), 0);
	assert_int_equal(bundle_add(&b, "empty", NULL, 0), 0);
	assert_int_equal(bundle_add(&b, "two", "second", 6), 0);
	return b;
}

static void
what_was_added_is_found(void **state)
{
	struct bundle b = make_bundle();
	struct bundle_piece piece;

	assert_int_equal(bundle_find(&b, "two", &piece), 0);
	assert_int_equal(piece.len, 6);
	assert_memory_equal(piece.bytes, "second", 6);
	assert_int_equal(bundle_find(&b, "empty", &piece), 0);
	assert_int_equal(piece.len, 0);
	assert_int_equal(bundle_find(&b, "on", &piece), -ENOENT);
	bundle_fini(&b);
}

static void
a_bundle_cut_anywhere_but_between_pieces_is_damaged(void **state)
{
	struct bundle whole = make_bundle();
	struct bundle_piece piece;

	for (size_t len = 0; len < whole.len; len++) {
		struct bundle cut = {.bytes = malloc(len + 1), .len = len, .room = len + 1};
		size_t at = 0;
		int r;

		assert_non_null(cut.bytes);
		memcpy(cut.bytes, whole.bytes, len);
		while ((r = bundle_next(&cut, &at, &piece)) == 1)
			;
		/* a piece: a head of 10 bytes, its name, its content */
		assert_int_equal(r, len == 0 || len == 18 || len == 33 ? 0 : -HF_ECORRUPT);
		bundle_fini(&cut);
	}
	bundle_fini(&whole);
}

static void
a_length_beyond_the_end_is_damage(void **state)
{
	struct bundle b = make_bundle();
	struct bundle_piece piece;
	size_t at = 0;

	memset(b.bytes + 2, 0xff, 8); /* of the first content */
	assert_int_equal(bundle_next(&b, &at, &piece), -HF_ECORRUPT);
	assert_int_equal(at, 0);
	bundle_fini(&b);
}

/* It would be found under a name that is not its own. */
static void
a_name_with_a_zero_in_it_is_damage(void **state)
{
	struct bundle b = make_bundle();
	struct bundle_piece piece;
	size_t at = 0;

	b.bytes[11] = 0; /* "o\0e" */
	assert_int_equal(bundle_next(&b, &at, &piece), -HF_ECORRUPT);
	assert_int_equal(bundle_find(&b, "o", &piece), -HF_ECORRUPT);
	bundle_fini(&b);
}

static void
a_name_that_is_none_or_too_long_is_damage(void **state)
{
	static const size_t lengths[] = {0, BUNDLE_NAME_BYTES, 65535};
	struct bundle_piece piece;

	for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
		struct bundle b = {.len = 10 + 65535, .room = 10 + 65535};
		size_t at = 0;

		b.bytes = calloc(1, b.room);
		assert_non_null(b.bytes);
		memset(b.bytes + 10, 'x', 65535);
		put_le16(b.bytes, (uint16_t)lengths[i]);
		assert_int_equal(bundle_next(&b, &at, &piece), -HF_ECORRUPT);
		bundle_fini(&b);
	}
}

static void
no_more_is_added_than_a_bundle_may_hold(void **state)
{
	struct bundle b = make_bundle();
	size_t len = b.len;

	assert_int_equal(bundle_add(&b, "large", "", BUNDLE_BYTES_MAX), -HF_ETOOBIG); /* not looked at */
	assert_int_equal(bundle_append(&b, "", BUNDLE_BYTES_MAX), -HF_ETOOBIG);
	assert_int_equal(bundle_append(&b, "", SIZE_MAX), -HF_ETOOBIG);
	assert_int_equal(b.len, len);
	bundle_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_was_added_is_found),
	    cmocka_unit_test(a_bundle_cut_anywhere_but_between_pieces_is_damaged),
	    cmocka_unit_test(a_length_beyond_the_end_is_damage),
	    cmocka_unit_test(a_name_with_a_zero_in_it_is_damage),
	    cmocka_unit_test(a_name_that_is_none_or_too_long_is_damage),
	    cmocka_unit_test(no_more_is_added_than_a_bundle_may_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
