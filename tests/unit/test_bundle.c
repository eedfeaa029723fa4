/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_was_added_is_found),
	    cmocka_unit_test(a_bundle_cut_anywhere_but_between_pieces_is_damaged),
	    cmocka_unit_test(a_length_beyond_the_end_is_damage),
	    cmocka_unit_test(a_name_with_a_zero_in_it_is_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
