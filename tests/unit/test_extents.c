/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/extents.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tests/lib/dice.h"

enum { VOLUME_BYTES = 3000, STREAM_BYTES_MAX = 1 << 16 };

struct stream {
	unsigned char bytes[STREAM_BYTES_MAX];
	size_t len;
};

struct copy {
	unsigned char bytes[VOLUME_BYTES];
	uint64_t len;
	int refuse; /* what the sink says from now on */
};

static void
put(struct stream *s, uint32_t kind, uint64_t offset, uint64_t length, const void *body, uint32_t body_bytes)
{
	const struct export_record r = {.kind = kind, .body_bytes = body_bytes, .offset = offset, .length = length};

	export_record_encode(&r, s->bytes + s->len);
	s->len += EXPORT_RECORD_BYTES;
	if (body_bytes > 0)
		memcpy(s->bytes + s->len, body, body_bytes);
	s->len += body_bytes;
}

static int
on_data(void *arg, const unsigned char *bytes, size_t len)
{
	struct copy *c = arg;

	assert_true(c->len + len <= VOLUME_BYTES);
	memcpy(c->bytes + c->len, bytes, len);
	c->len += len;
	return c->refuse;
}

static int
on_hole(void *arg, uint64_t len)
{
	struct copy *c = arg;

	assert_true(c->len + len <= VOLUME_BYTES);
	memset(c->bytes + c->len, 0, len);
	c->len += len;
	return c->refuse;
}

static void
begin(struct extents *e, struct copy *c, uint64_t offset)
{
	const struct extents_sink sink = {.data = on_data, .hole = on_hole, .arg = c};

	extents_init(e, offset, VOLUME_BYTES, &sink);
}

static void
stream_in_pieces_of_any_size_gives_the_volume_back(void **state)
{
	struct dice dice = dice_from_environment();

	for (int round = 0; round < 500; round++) {
		unsigned char volume[VOLUME_BYTES] = {0};
		struct stream s = {.len = 0};
		struct copy c = {.len = 0};
		struct extents e;

		for (uint64_t at = 0, n; at < VOLUME_BYTES; at += n) {
			n = 1 + dice_below(&dice, 700);
			n = n < VOLUME_BYTES - at ? n : VOLUME_BYTES - at;
			if (dice_once_in(&dice, 3)) {
				put(&s, RECORD_HOLE, at, n, NULL, 0);
				continue;
			}
			random_bytes(volume + at, n);
			put(&s, RECORD_DATA, at, n, volume + at, (uint32_t)n);
		}
		put(&s, RECORD_END, VOLUME_BYTES, VOLUME_BYTES, NULL, 0);
		begin(&e, &c, 0);
		for (size_t at = 0, n; at < s.len; at += n) {
			assert_false(extents_complete(&e));
			n = 1 + dice_below(&dice, 100);
			n = n < s.len - at ? n : s.len - at;
			assert_int_equal(extents_feed(&e, s.bytes + at, n), 0);
		}
		assert_true(extents_complete(&e));
		assert_memory_equal(c.bytes, volume, VOLUME_BYTES);
	}
}

/* A stream whose first record is this one: it must fail, and stay failed. */
static void
expect_damage(uint32_t kind, uint64_t offset, uint64_t length, uint32_t body_bytes)
{
	struct stream s = {.len = 0};
	struct copy c = {.len = 0};
	struct extents e;

	static const unsigned char body[4096];

	put(&s, kind, offset, length, body, body_bytes > sizeof body ? 0 : body_bytes);
	put_le32(s.bytes + 4, body_bytes);
	begin(&e, &c, 1000);
	if (extents_feed(&e, s.bytes, s.len) != -EPROTO || e.error[0] == '\0')
		fail_msg("kind %u offset %llu length %llu body %u is taken", kind, (unsigned long long)offset,
		    (unsigned long long)length, body_bytes);
	assert_int_equal(extents_feed(&e, s.bytes, s.len), -EPROTO);
	assert_false(extents_complete(&e));
	assert_int_equal(c.len, 0);
}

static void
gaps_overlaps_and_lies_are_damage(void **state)
{
	expect_damage(RECORD_BAD, 1000, 10, 0); /* nobody asked for a salvage */
	expect_damage(RECORD_DATA, 1001, 10, 10);
	expect_damage(RECORD_DATA, 999, 10, 10);
	expect_damage(RECORD_DATA, 1000, 10, 9);
	expect_damage(RECORD_DATA, 1000, 0, 0);
	expect_damage(RECORD_DATA, 1000, 2001, 2001);
	expect_damage(RECORD_DATA, 1000, UINT64_MAX, EXPORT_BODY_MAX + 1);
	expect_damage(RECORD_HOLE, 1000, 10, 10);
	expect_damage(RECORD_HOLE, 1000, UINT64_MAX, 0);
	expect_damage(RECORD_END, 0, VOLUME_BYTES, 0);
	expect_damage(0, 1000, 10, 0);
	expect_damage(9, 1000, 10, 0);
}

static void
bytes_after_the_end_are_damage(void **state)
{
	struct stream s = {.len = 0};
	struct copy c = {.len = 0};
	struct extents e;

	put(&s, RECORD_HOLE, 0, VOLUME_BYTES, NULL, 0);
	put(&s, RECORD_END, VOLUME_BYTES, VOLUME_BYTES, NULL, 0);
	begin(&e, &c, 0);
	assert_int_equal(extents_feed(&e, s.bytes, s.len), 0);
	assert_int_equal(extents_feed(&e, s.bytes, 1), -EPROTO);
	assert_false(extents_complete(&e));
}

static void
the_daemons_own_error_is_passed_on(void **state)
{
	struct stream s = {.len = 0};
	struct copy c = {.len = 0};
	struct extents e;

	put(&s, RECORD_ERROR, 4096, 0, "sda: block 1 does not match", 27);
	begin(&e, &c, 0);
	for (size_t i = 0; i + 1 < s.len; i++)
		assert_int_equal(extents_feed(&e, s.bytes + i, 1), 0);
	assert_int_equal(extents_feed(&e, s.bytes + s.len - 1, 1), -EPROTO);
	assert_string_equal(e.error, "sda: block 1 does not match");
}

static void
refusal_of_the_sink_ends_the_reading(void **state)
{
	struct stream s = {.len = 0};
	struct copy c = {.refuse = 1};
	struct extents e;

	put(&s, RECORD_HOLE, 0, 100, NULL, 0);
	put(&s, RECORD_HOLE, 100, 100, NULL, 0);
	begin(&e, &c, 0);
	assert_int_equal(extents_feed(&e, s.bytes, s.len), 1);
	assert_int_equal(c.len, 100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(stream_in_pieces_of_any_size_gives_the_volume_back),
	    cmocka_unit_test(gaps_overlaps_and_lies_are_damage),
	    cmocka_unit_test(bytes_after_the_end_are_damage),
	    cmocka_unit_test(the_daemons_own_error_is_passed_on),
	    cmocka_unit_test(refusal_of_the_sink_ends_the_reading),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
