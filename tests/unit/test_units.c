/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/units.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/error.h"
#include "proto/common/status.h"

#define MS INT64_C(1000000)

static void
sizes_are_read_in_binary_units(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
	    {"0", 0},
	    {"4096", 4096},
	    {"4096B", 4096},
	    {"64K", 64 << 10},
	    {"64KiB", 64 << 10},
	    {"64MiB", 64 << 20},
	    {"3G", UINT64_C(3) << 30},
	    {"16TiB", UINT64_C(16) << 40},
	    {"1P", UINT64_C(1) << 50},
	    {"18446744073709551615", UINT64_MAX},
	    {"16383P", UINT64_C(16383) << 50},
	};
	uint64_t bytes;

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_int_equal(size_parse(good[i].text, &bytes), 0);
		assert_true(bytes == good[i].bytes);
	}
}

static void
sizes_that_are_ambiguous_or_too_large_are_refused(void **state)
{
	static const char *const bad[] = {
	    "",
	    "M",
	    "-1",
	    "+1",
	    " 1",
	    "1 ",
	    "1.5G",
	    "1GB",
	    "1m",
	    "1MB",
	    "1Mi",
	    "1MiBs",
	    "1X",
	    "0x10",
	    "18446744073709551616",
	    "16384P",
	    "99999999T",
	};
	uint64_t bytes = 42;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(size_parse(bad[i], &bytes), -EINVAL);
	assert_true(bytes == 42);
}

static void
durations_are_read_with_their_unit(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
	} good[] = {
	    {"0", 0},
	    {"5", 5 * NS_PER_SECOND},
	    {"500ms", 500 * MS},
	    {"30s", 30 * NS_PER_SECOND},
	    {"10m", 600 * NS_PER_SECOND},
	    {"24h", 86400 * NS_PER_SECOND},
	    {"7d", 7 * 86400 * NS_PER_SECOND},
	    {"106751d", INT64_C(106751) * 86400 * NS_PER_SECOND},
	};
	int64_t ns;

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_int_equal(duration_parse(good[i].text, &ns), 0);
		assert_true(ns == good[i].ns);
	}
}

static void
durations_that_make_no_sense_are_refused(void **state)
{
	static const char *const bad[] = {"", "s", "-1s", "1.5s", "1 s", "1S", "1min", "1w", "1h30m", "106752d"};
	int64_t ns = 42;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(duration_parse(bad[i], &ns), -EINVAL);
	assert_true(ns == 42);
}

static void
times_are_read_as_rfc_3339(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
	} good[] = {
	    {"1970-01-01T00:00:00Z", 0}, {"1970-01-01T00:00:01.5Z", 1500 * MS},
	    {"2026-11-22T07:44:02.113Z", 1795333442113 * MS}, {"2026-11-22T08:44:02.113+01:00", 1795333442113 * MS},
	    {"2026-11-22T02:14:02.113-05:30", 1795333442113 * MS},
	    {"2026-11-22T07:44:02.1130000009Z", 1795333442113 * MS}, /* beyond nanoseconds: cut */
	};
	int64_t ns;

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_int_equal(time_parse(good[i].text, 0, &ns), 0);
		assert_true(ns == good[i].ns);
	}
}

static void
a_time_may_be_so_long_ago(void **state)
{
	int64_t ns;

	assert_int_equal(time_parse("-15m", 1000 * NS_PER_SECOND, &ns), 0);
	assert_true(ns == 100 * NS_PER_SECOND);
}

static void
times_that_are_not_rfc_3339_are_refused(void **state)
{
	static const char *const bad[] = {
	    "",
	    "now",
	    "2026-11-22",
	    "2026-11-22T07:44:02",
	    "2026-11-22 07:44:02Z",
	    "2026-13-22T07:44:02Z",
	    "2026-11-22T07:44:02Zx",
	    "2026-11-22T07:44:02+01",
	    "2026-11-22T07:44:02+01:00x",
	    "-",
	    "-15x",
	};
	int64_t ns = 42;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(time_parse(bad[i], 0, &ns), -EINVAL);
	assert_true(ns == 42);
}

static void
sizes_are_written_for_people(void **state)
{
	char buf[UNITS_TEXT_BYTES];

	assert_string_equal(size_format(0, buf), "0 B");
	assert_string_equal(size_format(1023, buf), "1023 B");
	assert_string_equal(size_format(1024, buf), "1.0 KiB");
	assert_string_equal(size_format(UINT64_C(3) << 29, buf), "1.5 GiB");
	assert_string_equal(size_format((UINT64_C(1) << 20) - 1, buf), "1.0 MiB"); /* never "1024.0 KiB" */
	assert_string_equal(size_format(UINT64_MAX, buf), "16.0 EiB");
}

static void
durations_are_written_for_people(void **state)
{
	char buf[UNITS_TEXT_BYTES];

	assert_string_equal(duration_format(0, buf), "0.0s");
	assert_string_equal(duration_format(3200 * MS, buf), "3.2s");
	assert_string_equal(duration_format(-3200 * MS, buf), "-3.2s");
	assert_string_equal(duration_format(62 * NS_PER_SECOND, buf), "1m02s");
	assert_string_equal(duration_format(15120 * NS_PER_SECOND, buf), "4h12m");
	assert_string_equal(duration_format(90000 * NS_PER_SECOND, buf), "1d01h");
}

static void
durations_are_written_for_programs(void **state)
{
	char buf[UNITS_TEXT_BYTES];

	assert_string_equal(duration_format_iso(0, buf), "PT0S");
	assert_string_equal(duration_format_iso(-5, buf), "PT0S");
	assert_string_equal(duration_format_iso(1, buf), "PT1S");
	assert_string_equal(duration_format_iso(12 * NS_PER_SECOND, buf), "PT12S");
	assert_string_equal(duration_format_iso(3600 * NS_PER_SECOND, buf), "PT1H");
	assert_string_equal(duration_format_iso(3661 * NS_PER_SECOND, buf), "PT1H1M1S");
	assert_string_equal(duration_format_iso(86400 * NS_PER_SECOND, buf), "P1D");
	assert_string_equal(duration_format_iso(86460 * NS_PER_SECOND, buf), "P1DT1M");
}

static void
a_time_written_is_read_back(void **state)
{
	static const int64_t times[] = {0, 1795333442113 * MS, 951782399999 * MS};
	char buf[UNITS_TEXT_BYTES];
	int64_t ns;

	assert_string_equal(time_format(1795333442113 * MS, buf), "2026-11-22T07:44:02.113Z");
	for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
		assert_int_equal(time_parse(time_format(times[i], buf), 0, &ns), 0);
		assert_true(ns == times[i]);
	}
}

static void
clocks_go_on(void **state)
{
	int64_t a = clock_monotonic_ns(), b = clock_monotonic_ns();

	assert_true(a > 0 && b >= a);
	assert_true(clock_real_ns() > INT64_C(1700000000) * NS_PER_SECOND);
}

static void
conditions_have_names_and_sentences(void **state)
{
	assert_string_equal(hf_status_name(-HF_EDIGEST), "DIGEST");
	assert_string_equal(hf_status_name(HF_EDIGEST), "DIGEST");
	assert_string_equal(hf_status_name(-EIO), "EIO");
	assert_string_equal(hf_status_name(-99999), "UNKNOWN");
	assert_string_equal(hf_status_text(-HF_EDIGEST), "a block does not match its digest");
	assert_string_equal(hf_status_text(-ENOSPC), strerror(ENOSPC));
}

/* Values on the wire and on disk: a new one goes to the end, none ever moves. */
static void
values_of_conditions_never_move(void **state)
{
	assert_int_equal(HF_EPROTOCOL, 1000);
	assert_int_equal(HF_EFRONTIER, 1006);
	assert_int_equal(HF_EFENCED, 1010);
	assert_int_equal(HF_EADMIN, 1025);
}

static void
errors_say_what_and_why_and_keep_their_code(void **state)
{
	struct hf_error err = {0};

	assert_int_equal(hf_error_set(&err, -ENOSPC, "write %s", "f"), -ENOSPC);
	assert_string_equal(err.text, "write f: No space left on device");
	assert_int_equal(hf_error_prefix(&err, "source %d", 7), -ENOSPC);
	assert_string_equal(err.text, "source 7: write f: No space left on device");
	assert_int_equal(hf_error_say(&err, -HF_EFULL, "no room"), -HF_EFULL);
	assert_string_equal(err.text, "no room");
	assert_int_equal(hf_error_set(NULL, -EIO, "nobody reads"), -EIO);
}

static void
an_error_longer_than_its_place_is_cut_not_overrun(void **state)
{
	struct {
		struct hf_error err;
		unsigned char guard;
	} s = {.guard = 0xa5};
	char text[2000];

	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	hf_error_set(&s.err, -EIO, "%s", text);
	hf_error_prefix(&s.err, "%s", text);
	assert_int_equal(strlen(s.err.text), sizeof s.err.text - 1);
	assert_int_equal(s.guard, 0xa5);
	assert_int_equal(s.err.code, -EIO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sizes_are_read_in_binary_units),
	    cmocka_unit_test(sizes_that_are_ambiguous_or_too_large_are_refused),
	    cmocka_unit_test(durations_are_read_with_their_unit),
	    cmocka_unit_test(durations_that_make_no_sense_are_refused),
	    cmocka_unit_test(times_are_read_as_rfc_3339),
	    cmocka_unit_test(a_time_may_be_so_long_ago),
	    cmocka_unit_test(times_that_are_not_rfc_3339_are_refused),
	    cmocka_unit_test(sizes_are_written_for_people),
	    cmocka_unit_test(durations_are_written_for_people),
	    cmocka_unit_test(durations_are_written_for_programs),
	    cmocka_unit_test(a_time_written_is_read_back),
	    cmocka_unit_test(clocks_go_on),
	    cmocka_unit_test(conditions_have_names_and_sentences),
	    cmocka_unit_test(values_of_conditions_never_move),
	    cmocka_unit_test(errors_say_what_and_why_and_keep_their_code),
	    cmocka_unit_test(an_error_longer_than_its_place_is_cut_not_overrun),
	};

	return cmocka_run_group_tests_name("units", tests, NULL, NULL);
}
