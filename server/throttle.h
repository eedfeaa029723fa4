/* SPDX-License-Identifier: Apache-2.0 */
/* throttle.h: how fast a source may be read, as an administrator says; and the bucket that keeps it so.
 *
 *	throttle	so many Mbps, and rows of a weekly plan: "Mon-Fri 08:00-18:00 20" means 20 Mbps then
 *	throttle_gate	bytes that may be read now: filled by time, emptied by reading
 *
 * A megabit is 1,000,000 bits. Counted is what the agent says inside TLS, compressed as it travels. A rate of 0 is no
 * throttle. Pure. */
#ifndef HF_SERVER_THROTTLE_H
#define HF_SERVER_THROTTLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/common/error.h"

enum {
	THROTTLE_MBPS_MAX = 100 * 1000,
	THROTTLE_WINDOWS_MAX = 16,
	THROTTLE_WINDOW_TEXT_BYTES = 48,
	THROTTLE_TEXT_BYTES = THROTTLE_WINDOWS_MAX * THROTTLE_WINDOW_TEXT_BYTES,
	MINUTES_PER_DAY = 24 * 60,
};

struct throttle_window {
	unsigned days;     /* on which it begins: bit 0 is Monday, bit 6 Sunday */
	unsigned from, to; /* minutes of the day, local time; to <= from: it ends on the day after */
	unsigned mbps;
};

struct throttle {
	unsigned mbps; /* outside of all windows */
	struct throttle_window windows[THROTTLE_WINDOWS_MAX];
	size_t window_count;
};

/* "Mon-Fri 08:00-18:00 20": days (a name, a range, or several with commas between), hours, Mbps. -EINVAL: err says what
 * is wanted. */
int throttle_window_parse(const char *text, struct throttle_window *ret_window, struct hf_error *err);
/* The same, as short as it goes. ret_text: THROTTLE_WINDOW_TEXT_BYTES. Returns it. */
char *throttle_window_format(const struct throttle_window *w, char *ret_text);

/* All windows, with "; " between; "" is none. As throttle_window_parse(). */
int throttle_windows_parse(const char *text, struct throttle *t, struct hf_error *err);
char *throttle_windows_format(const struct throttle *t, char *ret_text); /* THROTTLE_TEXT_BYTES */

/* "it is read at no more than 20 Mbps", and the windows, cut at size. */
void throttle_describe(const struct throttle *t, char *ret_text, size_t size);

/* Mbps at a moment of the week: day 0 is Monday, minute of that day. The first window that has it decides. */
unsigned throttle_mbps_at(const struct throttle *t, unsigned day, unsigned minute);

/* ---- the gate ---- */

struct throttle_gate {
	uint64_t bytes_per_second; /* 0: open */
	int64_t filled_ns;         /* up to when time has been turned into bytes */
	int64_t room_bytes;        /* that may be read; below 0: read beyond it, and paid back by waiting */
	int64_t waits_ns;          /* since when reading waits for it; 0: it does not */
	uint64_t waited_ns;        /* in all, up to the last time it ended */
};

/* From now on. What was read before is not forgotten. now_ns: monotonic, in all calls. */
void throttle_gate_set(struct throttle_gate *g, unsigned mbps, int64_t now_ns);
void throttle_gate_set_rate(struct throttle_gate *g, uint64_t bytes_per_second, int64_t now_ns); /* the same */

/* How long to wait before anything is read: 0 is now, and then there is room for some. */
int64_t throttle_gate_wait(struct throttle_gate *g, int64_t now_ns);
/* Bytes that may be read now, at most `most`. */
size_t throttle_gate_room(const struct throttle_gate *g, size_t most);
/* So many were read. */
void throttle_gate_take(struct throttle_gate *g, size_t bytes);

unsigned throttle_gate_mbps(const struct throttle_gate *g); /* 0: open */

/* There is nobody to read from any more. */
void throttle_gate_leave(struct throttle_gate *g, int64_t now_ns);

/* Time in which nothing was read because of it. */
uint64_t throttle_gate_waited_ns(const struct throttle_gate *g, int64_t now_ns);

/* Bytes the agent may have on their way at this rate, at most `window`: so few that what it says in between is heard
 * within about two seconds; so many that the rate is reached. */
uint64_t throttle_gate_window(const struct throttle_gate *g, uint64_t window);

#endif
