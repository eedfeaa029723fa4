/* SPDX-License-Identifier: Apache-2.0 */
#include "server/throttle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"
#include "server/limits.h"

/* ---- days ---- */

enum { DAYS = 7, DAY_LETTERS = 3 };

static const char day_names[DAYS][DAY_LETTERS + 1] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};

/* Takes a day's name off the text. -1: it begins with none. */
static int
take_day(const char **text)
{
	for (int day = 0; day < DAYS; day++)
		if (strncmp(*text, day_names[day], DAY_LETTERS) == 0) {
			*text += DAY_LETTERS;
			return day;
		}
	return -1;
}

/* "Fri-Mon" goes over the end of the week. */
static bool
take_range(const char **text, unsigned *days)
{
	int first = take_day(text), last = first;

	if (first >= 0 && **text == '-') {
		++*text;
		last = take_day(text);
	}
	if (first < 0 || last < 0)
		return false;
	for (int day = first; day != last; day = (day + 1) % DAYS)
		*days |= 1u << day;
	*days |= 1u << last;
	return true;
}

static bool
parse_days(const char *text, unsigned *ret_days)
{
	*ret_days = 0;
	for (;;) {
		if (!take_range(&text, ret_days))
			return false;
		if (*text == '\0')
			return true;
		if (*text++ != ',')
			return false;
	}
}

/* Runs of days, within a week. */
static void
format_days(unsigned days, char *text)
{
	for (int first = 0, last; first < DAYS; first = last + 1) {
		const char *comma = *text != '\0' ? "," : "";

		last = first;
		if ((days & 1u << first) == 0)
			continue;
		while (last + 1 < DAYS && (days & 1u << (last + 1)) != 0)
			last++;
		if (last == first)
			sprintf(text + strlen(text), "%s%s", comma, day_names[first]);
		else
			sprintf(text + strlen(text), "%s%s-%s", comma, day_names[first], day_names[last]);
	}
}

/* ---- windows ---- */

static bool
is_time(unsigned hour, unsigned minute)
{
	return minute < 60 && hour * 60 + minute <= MINUTES_PER_DAY;
}

int
throttle_window_parse(const char *text, struct throttle_window *ret_window, struct hf_error *err)
{
	unsigned from_hour, from_minute, to_hour, to_minute, mbps;
	struct throttle_window w;
	char days[32];
	int end = -1;

	if (sscanf(text, " %31[A-Za-z,-] %2u:%2u-%2u:%2u %6u %n", days, &from_hour, &from_minute, &to_hour, &to_minute,
		&mbps, &end) < 6 ||
	    end < 0 || text[end] != '\0' || !parse_days(days, &w.days) || !is_time(from_hour, from_minute) ||
	    from_hour == 24 || !is_time(to_hour, to_minute) || mbps > THROTTLE_MBPS_MAX)
		return hf_error_say(err, -EINVAL,
		    "window \"%.60s\": days, hours and Mbps are wanted, as in \"Mon-Fri 08:00-18:00 20\"", text);
	w.from = from_hour * 60 + from_minute;
	w.to = to_hour * 60 + to_minute;
	w.mbps = mbps;
	*ret_window = w;
	return 0;
}

char *
throttle_window_format(const struct throttle_window *w, char *ret_text)
{
	char days[32] = "";

	format_days(w->days, days);
	snprintf(ret_text, THROTTLE_WINDOW_TEXT_BYTES, "%s %02u:%02u-%02u:%02u %u", days, w->from / 60, w->from % 60,
	    w->to / 60, w->to % 60, w->mbps);
	return ret_text;
}

int
throttle_windows_parse(const char *text, struct throttle *t, struct hf_error *err)
{
	char copy[THROTTLE_TEXT_BYTES], *rest = copy, *one;
	int r = 0;

	t->window_count = 0;
	if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy)
		return hf_error_say(err, -EINVAL, "at most %d windows are kept", THROTTLE_WINDOWS_MAX);
	while (r == 0 && rest != NULL && *rest != '\0') {
		one = strsep(&rest, ";");
		if (t->window_count == THROTTLE_WINDOWS_MAX)
			return hf_error_say(err, -EINVAL, "at most %d windows are kept", THROTTLE_WINDOWS_MAX);
		r = throttle_window_parse(one, &t->windows[t->window_count], err);
		t->window_count += r == 0;
	}
	return r;
}

char *
throttle_windows_format(const struct throttle *t, char *ret_text)
{
	char one[THROTTLE_WINDOW_TEXT_BYTES];
	size_t len = 0;

	ret_text[0] = '\0';
	for (size_t i = 0; i < t->window_count; i++)
		len += (size_t)snprintf(ret_text + len, THROTTLE_TEXT_BYTES - len, "%s%s", i > 0 ? "; " : "",
		    throttle_window_format(&t->windows[i], one));
	return ret_text;
}

void
throttle_describe(const struct throttle *t, char *ret_text, size_t size)
{
	char windows[THROTTLE_TEXT_BYTES], most[32] = "";

	if (t->mbps > 0)
		snprintf(most, sizeof most, " at no more than %u Mbps", t->mbps);
	snprintf(ret_text, size, "it is read%s%s%s", t->mbps > 0 ? most : " as fast as it comes",
	    t->window_count > 0 ? "; but " : "", throttle_windows_format(t, windows));
}

static bool
window_has(const struct throttle_window *w, unsigned day, unsigned minute)
{
	bool today = (w->days & 1u << day) != 0, yesterday = (w->days & 1u << (day + DAYS - 1) % DAYS) != 0;

	if (w->to > w->from)
		return today && minute >= w->from && minute < w->to;
	return (today && minute >= w->from) || (yesterday && minute < w->to);
}

unsigned
throttle_mbps_at(const struct throttle *t, unsigned day, unsigned minute)
{
	for (size_t i = 0; i < t->window_count; i++)
		if (window_has(&t->windows[i], day, minute))
			return t->windows[i].mbps;
	return t->mbps;
}

/* ---- the gate ---- */

enum {
	BYTES_PER_SECOND_PER_MBPS = 1000 * 1000 / 8,
	CHUNK_MIN_BYTES = 64 * 1024, /* four TLS records: less is not worth a timer */
	CHUNKS_PER_SECOND = 20,      /* at most so many timers a second and source */
	CHUNKS_KEPT = 2,             /* a timer may be one chunk late, and nothing is lost */
	WINDOW_SECONDS = 2,
};

static int64_t
chunk_bytes(const struct throttle_gate *g)
{
	int64_t chunk = (int64_t)(g->bytes_per_second / CHUNKS_PER_SECOND);

	return chunk > CHUNK_MIN_BYTES ? chunk : CHUNK_MIN_BYTES;
}

static int64_t
ns_for(const struct throttle_gate *g, int64_t bytes)
{
	return (int64_t)((double)bytes * (double)NS_PER_SECOND / (double)g->bytes_per_second);
}

/* Time becomes bytes. No more are kept than CHUNKS_KEPT: whoever says nothing for an hour may not say it all at once.
 */
static void
fill(struct throttle_gate *g, int64_t now_ns)
{
	int64_t most = CHUNKS_KEPT * chunk_bytes(g);
	double bytes = (double)(now_ns - g->filled_ns) * (double)g->bytes_per_second / (double)NS_PER_SECOND;
	int64_t whole = bytes < (double)(most - g->room_bytes) ? (int64_t)bytes : most - g->room_bytes;

	/* What is less than a byte is left to the next time. */
	g->filled_ns = (double)whole < bytes - 1 ? now_ns : g->filled_ns + ns_for(g, whole);
	g->room_bytes += whole;
}

static void
end_wait(struct throttle_gate *g, int64_t now_ns)
{
	if (g->waits_ns != 0)
		g->waited_ns += (uint64_t)(now_ns - g->waits_ns);
	g->waits_ns = 0;
}

void
throttle_gate_set(struct throttle_gate *g, unsigned mbps, int64_t now_ns)
{
	throttle_gate_set_rate(g, (uint64_t)mbps * BYTES_PER_SECOND_PER_MBPS, now_ns);
}

void
throttle_gate_set_rate(struct throttle_gate *g, uint64_t bytes_per_second, int64_t now_ns)
{
	if (bytes_per_second == g->bytes_per_second)
		return;
	if (g->bytes_per_second != 0)
		fill(g, now_ns);
	else
		g->room_bytes = 0;
	g->filled_ns = now_ns;
	g->bytes_per_second = bytes_per_second;
}

unsigned
throttle_gate_mbps(const struct throttle_gate *g)
{
	return (unsigned)(g->bytes_per_second / BYTES_PER_SECOND_PER_MBPS);
}

int64_t
throttle_gate_wait(struct throttle_gate *g, int64_t now_ns)
{
	if (g->bytes_per_second != 0)
		fill(g, now_ns);
	if (g->bytes_per_second == 0 || g->room_bytes > 0) {
		end_wait(g, now_ns);
		return 0;
	}
	if (g->waits_ns == 0)
		g->waits_ns = now_ns;
	return ns_for(g, chunk_bytes(g) - g->room_bytes);
}

size_t
throttle_gate_room(const struct throttle_gate *g, size_t most)
{
	if (g->bytes_per_second == 0 || g->room_bytes > (int64_t)most)
		return most;
	return g->room_bytes > 0 ? (size_t)g->room_bytes : 0;
}

void
throttle_gate_take(struct throttle_gate *g, size_t bytes)
{
	if (g->bytes_per_second != 0)
		g->room_bytes -= (int64_t)bytes;
}

void
throttle_gate_leave(struct throttle_gate *g, int64_t now_ns)
{
	end_wait(g, now_ns);
}

uint64_t
throttle_gate_waited_ns(const struct throttle_gate *g, int64_t now_ns)
{
	return g->waited_ns + (g->waits_ns != 0 ? (uint64_t)(now_ns - g->waits_ns) : 0);
}

uint64_t
throttle_gate_window(const struct throttle_gate *g, uint64_t window)
{
	uint64_t own = g->bytes_per_second * WINDOW_SECONDS;

	if (own < CREDIT_MIN_BYTES)
		own = CREDIT_MIN_BYTES;
	return g->bytes_per_second != 0 && own < window ? own : window;
}
