/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t
clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * NS_PER_SECOND + ts.tv_nsec;
}

int64_t
clock_real_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

int64_t
clock_monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

int64_t
clock_thread_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* The number that text begins with; *ret_end is what follows. -EINVAL if there is none. */
static int
number_parse(const char *text, uint64_t *ret_value, const char **ret_end)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	*ret_value = strtoull(text, &end, 10);
	if (errno != 0)
		return -EINVAL;
	*ret_end = end;
	return 0;
}

int
size_parse(const char *text, uint64_t *ret_bytes)
{
	static const char letters[] = "KMGTP";
	const char *unit, *letter;
	uint64_t value;
	int shift;

	if (number_parse(text, &value, &unit) < 0)
		return -EINVAL;
	if (unit[0] == '\0' || strcmp(unit, "B") == 0) {
		*ret_bytes = value;
		return 0;
	}
	letter = strchr(letters, unit[0]);
	if (letter == NULL || (unit[1] != '\0' && strcmp(unit + 1, "iB") != 0))
		return -EINVAL;
	shift = 10 * (int)(letter - letters + 1);
	if (value > UINT64_MAX >> shift)
		return -EINVAL;
	*ret_bytes = value << shift;
	return 0;
}

int
duration_parse(const char *text, int64_t *ret_ns)
{
	static const struct {
		const char *unit;
		int64_t ns;
	} units[] = {
	    {"", NS_PER_SECOND},
	    {"ms", 1000000},
	    {"s", NS_PER_SECOND},
	    {"m", 60 * NS_PER_SECOND},
	    {"h", 3600 * NS_PER_SECOND},
	    {"d", 86400 * NS_PER_SECOND},
	};
	const char *unit;
	uint64_t value;

	if (number_parse(text, &value, &unit) < 0)
		return -EINVAL;
	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
		if (strcmp(unit, units[i].unit) != 0)
			continue;
		if (value > (uint64_t)(INT64_MAX / units[i].ns))
			return -EINVAL;
		*ret_ns = (int64_t)value * units[i].ns;
		return 0;
	}
	return -EINVAL;
}

/* ".113" -> 113000000; *text moves past it. */
static int64_t
fraction_parse(const char **text)
{
	int64_t ns = 0, unit = NS_PER_SECOND / 10;

	if (**text != '.')
		return 0;
	for ((*text)++; **text >= '0' && **text <= '9'; (*text)++, unit /= 10)
		ns += (**text - '0') * unit;
	return ns;
}

/* "Z", or "+HH:MM" up to a day: seconds east of UTC. */
static int
offset_parse(const char *text, int64_t *ret_seconds)
{
	int hours, minutes;

	if (strcmp(text, "Z") == 0) {
		*ret_seconds = 0;
		return 0;
	}
	if ((text[0] != '+' && text[0] != '-') || strlen(text) != strlen("+00:00") ||
	    strspn(text + 1, "0123456789:") != 5)
		return -EINVAL;
	if (sscanf(text + 1, "%2d:%2d", &hours, &minutes) != 2 || hours > 23 || minutes > 59)
		return -EINVAL;
	*ret_seconds = (hours * 3600 + minutes * 60) * (text[0] == '-' ? -1 : 1);
	return 0;
}

/* Seconds since 1970 of a UTC date; -1 if there is no such day, or it lies before 1970. */
static int64_t
calendar_seconds(struct tm *tm)
{
	struct tm wanted = *tm;
	int64_t seconds = (int64_t)timegm(tm);

	if (tm->tm_mday != wanted.tm_mday || tm->tm_mon != wanted.tm_mon)
		return -1; /* the 31st of February was made a day of March */
	return seconds;
}

int
time_parse(const char *text, int64_t now_ns, int64_t *ret_ns)
{
	struct tm tm = {0};
	const char *p;
	int64_t ns, seconds, offset = 0;

	if (text[0] == '-') {
		if (duration_parse(text + 1, &ns) < 0)
			return -EINVAL;
		*ret_ns = now_ns - ns;
		return 0;
	}
	p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (p == NULL)
		return -EINVAL;
	ns = fraction_parse(&p);
	if (offset_parse(p, &offset) < 0)
		return -EINVAL;
	seconds = calendar_seconds(&tm);
	if (seconds < 0 || seconds > INT64_MAX / NS_PER_SECOND - 2 * 86400)
		return -EINVAL;
	*ret_ns = (seconds - offset) * NS_PER_SECOND + ns;
	return 0;
}

const char *
size_format(uint64_t bytes, char *buf)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	size_t i = 0;

	while (value >= 1023.95 && i + 1 < sizeof units / sizeof units[0]) {
		value /= 1024;
		i++;
	}
	snprintf(buf, UNITS_TEXT_BYTES, i == 0 ? "%.0f %s" : "%.1f %s", value, units[i]);
	return buf;
}

const char *
duration_format(int64_t ns, char *buf)
{
	const char *sign = ns < 0 ? "-" : "";
	int64_t seconds;

	if (ns < 0)
		ns = -ns;
	seconds = ns / NS_PER_SECOND;
	if (seconds < 60)
		snprintf(buf, UNITS_TEXT_BYTES, "%s%.1fs", sign, (double)ns / NS_PER_SECOND);
	else if (seconds < 3600)
		snprintf(buf, UNITS_TEXT_BYTES, "%s%" PRId64 "m%02" PRId64 "s", sign, seconds / 60, seconds % 60);
	else if (seconds < 86400)
		snprintf(
		    buf, UNITS_TEXT_BYTES, "%s%" PRId64 "h%02" PRId64 "m", sign, seconds / 3600, seconds / 60 % 60);
	else
		snprintf(
		    buf, UNITS_TEXT_BYTES, "%s%" PRId64 "d%02" PRId64 "h", sign, seconds / 86400, seconds / 3600 % 24);
	return buf;
}

const char *
duration_format_iso(int64_t ns, char *buf)
{
	int64_t s = ns <= 0 ? 0 : (ns + NS_PER_SECOND - 1) / NS_PER_SECOND;
	int n = snprintf(buf, UNITS_TEXT_BYTES, "P");

	if (s >= 86400)
		n += snprintf(buf + n, UNITS_TEXT_BYTES - (size_t)n, "%" PRId64 "D", s / 86400);
	s %= 86400;
	if (s > 0 || n == 1)
		n += snprintf(buf + n, UNITS_TEXT_BYTES - (size_t)n, "T");
	if (s >= 3600)
		n += snprintf(buf + n, UNITS_TEXT_BYTES - (size_t)n, "%" PRId64 "H", s / 3600);
	if (s % 3600 >= 60)
		n += snprintf(buf + n, UNITS_TEXT_BYTES - (size_t)n, "%" PRId64 "M", s % 3600 / 60);
	if (s % 60 > 0 || buf[n - 1] == 'T')
		snprintf(buf + n, UNITS_TEXT_BYTES - (size_t)n, "%" PRId64 "S", s % 60);
	return buf;
}

const char *
time_format(int64_t ns, char *buf)
{
	time_t seconds = (time_t)((ns - (ns < 0 ? NS_PER_SECOND - 1 : 0)) / NS_PER_SECOND); /* rounded down */
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(buf, UNITS_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + n, UNITS_TEXT_BYTES - n, ".%03dZ", (int)(ns - (int64_t)seconds * NS_PER_SECOND) / 1000000);
	return buf;
}
