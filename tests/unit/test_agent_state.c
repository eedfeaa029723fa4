/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/state.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/enroll.h"
#include "proto/common/file.h"
#include "proto/common/status.h"
#include "tests/lib/scratch.h"

struct fixture {
	char parent[64], directory[80];
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	scratch_make(f->parent, sizeof f->parent, "test_agent_state");
	snprintf(f->directory, sizeof f->directory, "%s/state", f->parent);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	static const char *const names[] = {"agent.json", "agent.json.new", "lock", "launched-copy"};
	struct fixture *f = *state;
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		unlink(state_path(f->directory, names[i], path));
	rmdir(f->directory);
	rmdir(f->parent);
	free(f);
	return 0;
}

static void
write_text(struct fixture *f, const char *name, const char *text)
{
	char path[PATH_MAX];

	assert_int_equal(file_replace(state_path(f->directory, name, path), 0600, text, strlen(text), NULL), 0);
}

static struct state *
must_open(struct fixture *f, enum state_open_mode mode)
{
	struct hf_error err = {0};
	struct state *st;

	if (state_open(f->directory, mode, &st, &err) < 0)
		fail_msg("%s", err.text);
	return st;
}

static void
fill_in(struct state *st)
{
	st->source_id = id_random("s");
	memset(st->nonce, 0xa5, sizeof st->nonce);
	st->incarnation = 7;
	st->last_stream_id = 0xfedcba9876543210;
	st->last_acked_sequence = 1234567890123;
	st->earlier = (struct earlier_streams){{0xffffffffffffffff, 1}, 2};
	st->server_count = 2;
	snprintf(st->servers[0], sizeof st->servers[0], "hold.example:1500");
	snprintf(st->servers[1], sizeof st->servers[1], "[2001:db8::1]:15000");
	st->volume_count = 2;
	for (int i = 0; i < 2; i++) {
		snprintf(st->volumes[i].name, NAME_BYTES, "disk-\"%d\"", i);
		snprintf(st->volumes[i].identity, NAME_BYTES, "wwn:%d", i);
		snprintf(st->volumes[i].path, PATH_BYTES, "/dev/sd%c", 'a' + i);
		st->volumes[i].size_bytes = (1ull << 60) - 1 - (uint64_t)i;
	}
	st->knows_disks = true;
	st->known_count = STATE_KNOWN_MAX;
	for (int i = 0; i < STATE_KNOWN_MAX; i++)
		snprintf(st->known[i], NAME_BYTES, "serial:%0*d", NAME_BYTES - 8, i);
}

static void
what_was_saved_is_read_back(void **state)
{
	struct fixture *f = *state;
	struct state *a = must_open(f, STATE_CREATE), *b;

	assert_false(a->enrolled);
	fill_in(a);
	assert_int_equal(state_save(a, NULL), 0);
	close(a->lock_fd);
	a->lock_fd = -1;
	b = must_open(f, STATE_EXISTING);
	assert_true(b->enrolled);
	assert_string_equal(a->source_id.text, b->source_id.text);
	assert_memory_equal(a->nonce, b->nonce, sizeof a->nonce);
	assert_int_equal(b->incarnation, 7);
	assert_true(b->last_stream_id == a->last_stream_id && b->last_acked_sequence == a->last_acked_sequence);
	assert_memory_equal(&a->earlier, &b->earlier, sizeof a->earlier);
	assert_int_equal(b->server_count, 2);
	assert_memory_equal(a->servers, b->servers, sizeof a->servers);
	assert_int_equal(b->volume_count, 2);
	assert_memory_equal(a->volumes, b->volumes, sizeof a->volumes);
	assert_true(b->knows_disks);
	assert_int_equal(b->known_count, STATE_KNOWN_MAX);
	assert_memory_equal(a->known, b->known, sizeof a->known);
	state_close(a);
	state_close(b);
}

/* A file system gives files any name, JSON takes UTF-8 alone: '?' is enough of a hint where the disk was. */
static void
a_path_that_is_no_utf8_loses_no_volume(void **state)
{
	struct fixture *f = *state;
	struct state *a = must_open(f, STATE_CREATE), *b;

	fill_in(a);
	strcpy(a->volumes[0].path, "/srv/caf\xe9.img");
	strcpy(a->volumes[1].path, "/srv/caf\xc3\xa9\xc2\x9b.img");
	assert_int_equal(state_save(a, NULL), 0);
	close(a->lock_fd);
	a->lock_fd = -1;
	b = must_open(f, STATE_EXISTING);
	assert_int_equal(b->volume_count, 2);
	assert_string_equal(b->volumes[0].path, "/srv/caf?.img");
	assert_string_equal(b->volumes[1].path, a->volumes[1].path);
	state_close(a);
	state_close(b);
}

static void
the_directory_and_file_are_private(void **state)
{
	struct fixture *f = *state;
	struct state *st = must_open(f, STATE_CREATE);
	char path[PATH_MAX];
	struct stat s;

	fill_in(st);
	assert_int_equal(state_save(st, NULL), 0);
	assert_int_equal(stat(f->directory, &s), 0);
	assert_int_equal(s.st_mode & 0777, 0700);
	assert_int_equal(stat(state_path(f->directory, "agent.json", path), &s), 0);
	assert_int_equal(s.st_mode & 0777, 0600);
	state_close(st);
}

static void
an_unchanged_state_is_not_written(void **state)
{
	struct fixture *f = *state;
	struct state *st = must_open(f, STATE_CREATE);
	char path[PATH_MAX];

	fill_in(st);
	assert_int_equal(state_save(st, NULL), 0);
	unlink(state_path(f->directory, "agent.json", path));
	assert_int_equal(state_save(st, NULL), 0);
	assert_int_equal(access(path, F_OK), -1);
	st->incarnation++;
	assert_int_equal(state_save(st, NULL), 0);
	assert_int_equal(access(path, F_OK), 0);
	state_close(st);
}

static void
the_largest_state_stays_small(void **state)
{
	struct fixture *f = *state;
	struct state *st = must_open(f, STATE_CREATE);
	char path[PATH_MAX];
	struct stat s;

	fill_in(st);
	st->volume_count = VOLUMES_MAX;
	for (int i = 0; i < VOLUMES_MAX; i++) {
		memset(st->volumes[i].name, 'n', NAME_BYTES - 1);
		memset(st->volumes[i].identity, 'i', NAME_BYTES - 1);
		memset(st->volumes[i].path, 'p', PATH_BYTES - 1);
	}
	assert_int_equal(state_save(st, NULL), 0);
	assert_int_equal(stat(state_path(f->directory, "agent.json", path), &s), 0);
	assert_true(s.st_size < STATE_BYTES_MAX);
	state_close(st);
	st = must_open(f, STATE_EXISTING);
	assert_int_equal(st->volume_count, VOLUMES_MAX);
	state_close(st);
}

static void
expect_refused(struct fixture *f, enum state_open_mode mode, int code)
{
	struct hf_error err = {0};
	struct state *st;

	assert_int_equal(state_open(f->directory, mode, &st, &err), code);
	assert_true(strlen(err.text) > 20);
}

static void
a_missing_directory_is_an_error_unless_it_may_be_made(void **state)
{
	expect_refused(*state, STATE_EXISTING, -ENOENT);
}

static void
only_one_agent_has_the_directory(void **state)
{
	struct state *st = must_open(*state, STATE_CREATE);

	expect_refused(*state, STATE_EXISTING, -EBUSY);
	state_close(st);
	st = must_open(*state, STATE_EXISTING);
	state_close(st);
}

static void
a_launched_copy_does_not_run(void **state)
{
	state_close(must_open(*state, STATE_CREATE));
	write_text(*state, "launched-copy", "");
	expect_refused(*state, STATE_EXISTING, -EPERM);
	expect_refused(*state, STATE_REPLACE, -EPERM);
}

static void
a_newer_format_is_refused(void **state)
{
	state_close(must_open(*state, STATE_CREATE));
	write_text(*state, "agent.json", "{\"version\": 2}");
	expect_refused(*state, STATE_EXISTING, -HF_EFORMAT);
	expect_refused(*state, STATE_REPLACE, -HF_EFORMAT);
}

/* Every prefix of a good file is either refused, or (without the last newline) the same. */
static void
a_damaged_file_is_refused_unless_it_is_replaced(void **state)
{
	struct fixture *f = *state;
	struct state *st = must_open(f, STATE_CREATE);
	char *text;

	fill_in(st);
	assert_int_equal(state_save(st, NULL), 0);
	text = strdup(st->written);
	state_close(st);
	for (size_t len = 0; len < strlen(text); len += 7) {
		char *part = strndup(text, len);

		write_text(f, "agent.json", part);
		expect_refused(f, STATE_EXISTING, -EBADMSG);
		st = must_open(f, STATE_REPLACE);
		assert_false(st->enrolled);
		assert_int_equal(st->volume_count, 0);
		state_close(st);
		free(part);
	}
	free(text);
}

/* Else all disks would be new, and be replicated. */
static void
known_disks_that_are_no_list_are_refused(void **state)
{
	struct fixture *f = *state;
	struct state *st = must_open(f, STATE_CREATE);
	char *text, *last;

	fill_in(st);
	assert_int_equal(state_save(st, NULL), 0);
	text = strdup(st->written);
	state_close(st);
	last = strstr(text, "\"knownDisks\": [");
	assert_non_null(last);
	strcpy(last, "\"knownDisks\": {}}");
	write_text(f, "agent.json", text);
	expect_refused(f, STATE_EXISTING, -EBADMSG);
	free(text);
}

/* ---- tokens ---- */

#define FINGERPRINT "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static void
a_token_is_read(void **state)
{
	/* base32 of the bytes 0 to 19 */
	static const char text[] = "hf1.aaaqeayeaudaocajbifqydiob4ibceqt." FINGERPRINT;
	struct hf_error err = {0};
	struct token t;

	assert_int_equal(token_parse(text, &t, &err), 0);
	for (unsigned i = 0; i < TOKEN_SECRET_BYTES; i++)
		assert_int_equal(t.secret[i], i);
	for (unsigned i = 0; i < TLS_FINGERPRINT_BYTES; i++)
		assert_int_equal(t.fingerprint[i], i % 16 * 0x11);
}

static void
what_is_no_token_is_refused(void **state)
{
	static const char *const bad[] = {"", "hf1.", "hf2.aaaqeayeaudaocajbifqydiob4ibceqt." FINGERPRINT,
	    "hf1.aaaqeayeaudaocajbifqydiob4ibceq1." FINGERPRINT, "hf1.aaaqeayeaudaocajbifqydiob4ibceq." FINGERPRINT "a",
	    "hf1.AAAQEAYEAUDAOCAJBIFQYDIOB4IBCEQT." FINGERPRINT,
	    "hf1.aaaqeayeaudaocajbifqydiob4ibceqt." FINGERPRINT "0",
	    "hf1.aaaqeayeaudaocajbifqydiob4ibceqt.x" FINGERPRINT};
	struct token t;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(token_parse(bad[i], &t, NULL), -EINVAL);
}

/* ---- addresses ---- */

static void
expect_address(const char *text, const char *host, unsigned port, const char *formatted)
{
	char buf[ADDRESS_TEXT_BYTES];
	struct address a;

	assert_int_equal(address_parse(text, 1501, &a, NULL), 0);
	assert_string_equal(a.host, host);
	assert_int_equal(a.port, port);
	assert_string_equal(address_format(&a, buf), formatted);
}

static void
addresses_are_read_with_and_without_a_port(void **state)
{
	expect_address("hold.example", "hold.example", 1501, "hold.example:1501");
	expect_address("hold.example:99", "hold.example", 99, "hold.example:99");
	expect_address("10.0.0.1:65535", "10.0.0.1", 65535, "10.0.0.1:65535");
	expect_address("2001:db8::1", "2001:db8::1", 1501, "[2001:db8::1]:1501");
	expect_address("[2001:db8::1]", "2001:db8::1", 1501, "[2001:db8::1]:1501");
	expect_address("[::1]:7", "::1", 7, "[::1]:7");
}

static void
what_is_no_address_is_refused(void **state)
{
	static const char *const bad[] = {
	    "", ":1", "host:", "host:0", "host:65536", "host:1x", "host: 1", "[::1", "[::1]x", "[]"};
	struct address a;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(address_parse(bad[i], 1501, &a, NULL), -EINVAL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(what_was_saved_is_read_back),
	    T(a_path_that_is_no_utf8_loses_no_volume),
	    T(the_directory_and_file_are_private),
	    T(an_unchanged_state_is_not_written),
	    T(the_largest_state_stays_small),
	    T(a_missing_directory_is_an_error_unless_it_may_be_made),
	    T(only_one_agent_has_the_directory),
	    T(a_launched_copy_does_not_run),
	    T(a_newer_format_is_refused),
	    T(a_damaged_file_is_refused_unless_it_is_replaced),
	    T(known_disks_that_are_no_list_are_refused),
	    cmocka_unit_test(a_token_is_read),
	    cmocka_unit_test(what_is_no_token_is_refused),
	    cmocka_unit_test(addresses_are_read_with_and_without_a_port),
	    cmocka_unit_test(what_is_no_address_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
