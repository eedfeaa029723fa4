/* SPDX-License-Identifier: Apache-2.0 */
/* progress.h: how far a long job is: a bar for people at a terminal, lines for logs and for
 * programs. */
#ifndef HF_COMMON_PROGRESS_H
#define HF_COMMON_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum progress_mode {
	PROGRESS_AUTO,  /* a bar if the output is a terminal that can draw one, else PROGRESS_PLAIN */
	PROGRESS_BAR,   /* redrawn in place, five times a second */
	PROGRESS_PLAIN, /* a sentence every 10 s */
	PROGRESS_LINES, /* "37/100" whenever the percentage changes, for programs */
	PROGRESS_NONE,
};

/* "auto", "bar", "plain", "lines" or "none"; -EINVAL if it is none of them. */
int progress_mode_parse(const char *text);

struct progress {
	enum progress_mode mode; /* never AUTO after progress_begin() */
	int fd;
	char title[48];
	uint64_t start_bytes, done_bytes, total_bytes;
	int64_t start_ns, shown_ns;
	int shown_percent;
	uint64_t rate_base_bytes; /* at rate_base_ns: the rate is measured from there, over the last
				     10 to 20 seconds */
	int64_t rate_base_ns;
	uint64_t next_base_bytes;
	int64_t next_base_ns;
};

/* A job of total_bytes, of which done_bytes were done before (they do not count for the rate).
 * Writes to fd, usually 2. Times are CLOCK_MONOTONIC, given by the caller. */
void progress_begin(struct progress *p, enum progress_mode mode, int fd, const char *title, uint64_t done_bytes,
    uint64_t total_bytes, int64_t now_ns);

/* Shows something when it is due. Cheap enough to call for every piece. */
void progress_update(struct progress *p, uint64_t done_bytes, int64_t now_ns);

/* Erase a bar that is drawn, for who writes to the terminal meanwhile; it is drawn anew under what was written. Any
 * thread; a bar that is drawn by another at this very moment may come between. */
void progress_step_aside(void);

/* Last line: complete with its mean rate, or where it stopped. */
void progress_end(struct progress *p, uint64_t done_bytes, int64_t now_ns);

/* Bytes per second of late, and nanoseconds left at that rate; -1 if not known. */
uint64_t progress_rate(const struct progress *p, int64_t now_ns);
int64_t progress_left_ns(const struct progress *p, int64_t now_ns);

#endif
