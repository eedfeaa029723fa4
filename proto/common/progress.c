/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/progress.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/common/terminal.h"
#include "proto/common/units.h"

enum { BAR_WIDTH = 24, BAR_WIDTH_MIN = 4, LINE_BYTES = 400 };

#define CLEAR_REST     "\033[K" /* of what was longer */
#define CLEAR_LINE     "\r" CLEAR_REST
#define BAR_EVERY_NS   (NS_PER_SECOND / 5)
#define PLAIN_EVERY_NS (10 * NS_PER_SECOND)
#define RATE_OVER_NS   (10 * NS_PER_SECOND)

int
progress_mode_parse(const char *text)
{
	static const char *const names[] = {[PROGRESS_AUTO] = "auto",
	    [PROGRESS_BAR] = "bar",
	    [PROGRESS_PLAIN] = "plain",
	    [PROGRESS_LINES] = "lines",
	    [PROGRESS_NONE] = "none"};

	for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
		if (strcmp(names[i], text) == 0)
			return i;
	return -EINVAL;
}

static void
emit(const struct progress *p, const char *text)
{
	(void)!write(p->fd, text, strlen(text)); /* nobody watches: no reason to stop the job */
}

static int
percent(const struct progress *p)
{
	if (p->total_bytes == 0)
		return 100;
	return (int)((double)p->done_bytes * 100 / (double)p->total_bytes);
}

uint64_t
progress_rate(const struct progress *p, int64_t now_ns)
{
	int64_t elapsed_ns = now_ns - p->rate_base_ns;

	if (elapsed_ns <= 0)
		return 0;
	return (uint64_t)((double)(p->done_bytes - p->rate_base_bytes) * NS_PER_SECOND / (double)elapsed_ns);
}

int64_t
progress_left_ns(const struct progress *p, int64_t now_ns)
{
	uint64_t rate = progress_rate(p, now_ns);

	if (p->done_bytes >= p->total_bytes)
		return 0;
	if (rate == 0)
		return -1;
	return (int64_t)((double)(p->total_bytes - p->done_bytes) / (double)rate * NS_PER_SECOND);
}

/* "fill root: 45 %, 1.2 GiB of 4.0 GiB, 312 MiB/s, 9s left" after the title. */
static void
describe(const struct progress *p, int64_t now_ns, char *ret_text, size_t size)
{
	char done[UNITS_TEXT_BYTES], total[UNITS_TEXT_BYTES], rate[UNITS_TEXT_BYTES], left[UNITS_TEXT_BYTES];
	int64_t left_ns = progress_left_ns(p, now_ns);

	if (left_ns > 0) /* whole seconds, and none is left only at the end */
		left_ns += NS_PER_SECOND - 1 - (left_ns - 1) % NS_PER_SECOND;
	snprintf(ret_text, size, "%3d %%  %s of %s  %s/s  %s%s", percent(p), size_format(p->done_bytes, done),
	    size_format(p->total_bytes, total), size_format(progress_rate(p, now_ns), rate),
	    left_ns < 0 ? "time left unknown" : duration_format(left_ns, left), left_ns < 0 ? "" : " left");
}

/* Columns that may be written: a line that reaches the edge could not be drawn anew in its place. */
static int
line_width(const struct progress *p)
{
	int width = terminal_width(p->fd);

	return width > 0 ? width - 1 : LINE_BYTES - 8;
}

/* Where a bar stands whose line has not ended; -1: nowhere. */
static atomic_int drawn_on = -1;

void
progress_step_aside(void)
{
	int fd = atomic_exchange(&drawn_on, -1);

	if (fd >= 0)
		(void)!write(fd, CLEAR_LINE, strlen(CLEAR_LINE)); /* as in emit() */
}

/* The bar takes what the words leave, and goes when that is too little. */
static void
show_bar(const struct progress *p, int64_t now_ns)
{
	static const char full[] = "########################", rest[] = "........................";
	char text[256], line[LINE_BYTES], drawn[LINE_BYTES];
	int width = line_width(p), bar, done;

	describe(p, now_ns, text, sizeof text);
	bar = width - (int)strlen(p->title) - (int)strlen(text) - (int)strlen(" [] ");
	bar = bar > BAR_WIDTH ? BAR_WIDTH : bar;
	done = percent(p) * bar / 100;
	if (bar >= BAR_WIDTH_MIN)
		snprintf(line, sizeof line, "%s [%.*s%.*s] %s", p->title, done, full, bar - done, rest, text);
	else
		snprintf(line, sizeof line, "%s %s", p->title, text);
	snprintf(drawn, sizeof drawn, "\r%.*s" CLEAR_REST, width, line);
	emit(p, drawn);
	atomic_store(&drawn_on, p->fd);
}

static void
show_sentence(const struct progress *p, int64_t now_ns)
{
	char text[256], line[LINE_BYTES];

	describe(p, now_ns, text, sizeof text);
	snprintf(line, sizeof line, "%s: %s\n", p->title, text);
	emit(p, line);
}

static void
show_fraction(const struct progress *p)
{
	char line[32];

	snprintf(line, sizeof line, "%d/100\n", percent(p));
	emit(p, line);
}

static void
show(struct progress *p, int64_t now_ns)
{
	switch (p->mode) {
	case PROGRESS_BAR: show_bar(p, now_ns); break;
	case PROGRESS_PLAIN: show_sentence(p, now_ns); break;
	case PROGRESS_LINES: show_fraction(p); break;
	case PROGRESS_NONE:
	case PROGRESS_AUTO: break;
	}
	p->shown_ns = now_ns;
	p->shown_percent = percent(p);
}

static bool
is_due(const struct progress *p, int64_t now_ns)
{
	switch (p->mode) {
	case PROGRESS_BAR: return now_ns - p->shown_ns >= BAR_EVERY_NS;
	case PROGRESS_PLAIN: return now_ns - p->shown_ns >= PLAIN_EVERY_NS;
	case PROGRESS_LINES: return percent(p) != p->shown_percent;
	case PROGRESS_NONE:
	case PROGRESS_AUTO: break;
	}
	return false;
}

void
progress_begin(struct progress *p, enum progress_mode mode, int fd, const char *title, uint64_t done_bytes,
    uint64_t total_bytes, int64_t now_ns)
{
	memset(p, 0, sizeof *p);
	p->mode = mode != PROGRESS_AUTO ? mode : terminal_obeys(fd) ? PROGRESS_BAR : PROGRESS_PLAIN;
	p->fd = fd;
	snprintf(p->title, sizeof p->title, "%s", title);
	p->start_bytes = p->done_bytes = p->rate_base_bytes = p->next_base_bytes = done_bytes;
	p->start_ns = p->shown_ns = p->rate_base_ns = p->next_base_ns = now_ns;
	p->total_bytes = total_bytes;
	p->shown_percent = -1;
}

/* Two bases leapfrog, so the rate always looks back over 10 to 20 seconds (less at the beginning).
 */
static void
move_rate_base(struct progress *p, int64_t now_ns)
{
	if (now_ns - p->next_base_ns < RATE_OVER_NS)
		return;
	p->rate_base_bytes = p->next_base_bytes;
	p->rate_base_ns = p->next_base_ns;
	p->next_base_bytes = p->done_bytes;
	p->next_base_ns = now_ns;
}

/* Never backwards, never beyond the end. */
static void
note_done(struct progress *p, uint64_t done_bytes)
{
	if (done_bytes > p->total_bytes)
		done_bytes = p->total_bytes;
	if (done_bytes > p->done_bytes)
		p->done_bytes = done_bytes;
}

void
progress_update(struct progress *p, uint64_t done_bytes, int64_t now_ns)
{
	note_done(p, done_bytes);
	move_rate_base(p, now_ns);
	if (is_due(p, now_ns))
		show(p, now_ns);
}

void
progress_end(struct progress *p, uint64_t done_bytes, int64_t now_ns)
{
	note_done(p, done_bytes);
	p->rate_base_bytes = p->start_bytes; /* the last line tells the mean */
	p->rate_base_ns = p->start_ns;
	if (p->mode != PROGRESS_LINES || percent(p) != p->shown_percent)
		show(p, now_ns);
	if (p->mode == PROGRESS_BAR)
		emit(p, "\n");
	atomic_store(&drawn_on, -1);
	p->mode = PROGRESS_NONE;
}
