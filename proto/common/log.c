/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/log.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/common/progress.h"
#include "proto/common/text.h"
#include "proto/common/units.h"

enum {
	LINE_BYTES = 2048, /* less than the PIPE_BUF that there is room for where poll(2) says that there is */
	FORMAT_BYTES = 512,
	PATIENCE_MS = 100,
};

_Atomic enum log_level log_level_max = LOG_LEVEL_INFO;

static const char *const names[] = {"err", "warning", "notice", "info", "debug"};
static const int priorities[] = {3, 4, 5, 6, 7}; /* syslog(3) */

int
log_level_parse(const char *text)
{
	for (int i = 0; i <= LOG_LEVEL_DEBUG; i++)
		if (strcmp(text, names[i]) == 0)
			return i;
	return -1;
}

/* ---- where it goes ---- */

/* Is stderr the stream that the journal gave us? A shell below a service may have sent it elsewhere. */
static bool
to_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	       st.st_dev == device && st.st_ino == inode;
}

static void
write_line(enum log_level level, const char *text)
{
	char line[LINE_BYTES + 8];
	int n = to_journal() ? snprintf(line, sizeof line, "<%d>%s\n", priorities[level], text)
			     : snprintf(line, sizeof line, "%s\n", text);

	progress_step_aside();
	(void)!write(STDERR_FILENO, line, (size_t)n); /* nowhere left to report it */
}

/* ---- a reader that stands still ---- */

static unsigned lost; /* lines, since there was room; under the lock below */

/* A journal that hangs, or a pager that waits for a key, must not hold up what is logged about. */
static bool
has_room(void)
{
	struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&p, 1, lost == 0 ? PATIENCE_MS : 0) != 0; /* what is wrong with it write(2) finds as well */
}

static void
tell_lost(void)
{
	char text[128];

	if (lost == 0 || !has_room())
		return;
	snprintf(text, sizeof text, "event=lines_lost level=%s count=%u", names[LOG_LEVEL_WARNING], lost);
	lost = 0;
	write_line(LOG_LEVEL_WARNING, text);
}

static void
put_line(enum log_level level, const char *text)
{
	tell_lost();
	if (has_room())
		write_line(level, text);
	else
		lost++;
}

/* ---- repeated lines ---- */

#define HOLD_NS (10 * NS_PER_SECOND)

static struct {
	pthread_mutex_t lock; /* over all of it; nothing that logs is done under it */
	char text[LINE_BYTES];
	char event[64];
	enum log_level level;
	int64_t told_ns; /* monotonic: when it was written out */
	unsigned held;   /* how often it came again since then */
} last = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void
tell_held(void)
{
	char text[128];

	if (last.held == 0)
		return;
	snprintf(text, sizeof text, "event=repeated level=%s of=%s count=%u", names[last.level], last.event, last.held);
	put_line(last.level, text);
	last.held = 0;
}

static void
tell(enum log_level level, const char *event, const char *text, int64_t now_ns)
{
	tell_held();
	snprintf(last.text, sizeof last.text, "%s", text);
	snprintf(last.event, sizeof last.event, "%s", event);
	last.level = level;
	last.told_ns = now_ns;
	put_line(level, text);
}

/* Who asks for debug lines wants each. */
static void
tell_or_hold(enum log_level level, const char *event, const char *text)
{
	int64_t now_ns = clock_monotonic_ns();

	pthread_mutex_lock(&last.lock);
	if (level < LOG_LEVEL_DEBUG && now_ns - last.told_ns < HOLD_NS && strcmp(text, last.text) == 0)
		last.held++;
	else
		tell(level, event, text, now_ns);
	pthread_mutex_unlock(&last.lock);
}

void
log_settle(void)
{
	pthread_mutex_lock(&last.lock);
	tell_lost();
	if (clock_monotonic_ns() - last.told_ns >= HOLD_NS)
		tell_held();
	pthread_mutex_unlock(&last.lock);
}

/* ---- a line ---- */

/* Stands for a quotation mark of the format, until those of the values are behind a backslash. */
enum { MARK = '\001' };

static void
mark_quotes(char *text)
{
	for (; *text != '\0'; text++)
		if (*text == '"')
			*text = MARK;
}

static size_t
count_marks(const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++)
		n += *text == MARK;
	return n;
}

/* A value from outside must forge neither a line nor another value; where one has our mark in it nothing is quoted. */
static void
clean(const char *text, bool marks_are_ours, char *ret_text)
{
	char *end = ret_text + LINE_BYTES - 4; /* a character of four bytes may be the last, and a NUL is */

	while (*text != '\0' && ret_text < end) {
		size_t n = text_character(text, SIZE_MAX);

		if (*text == '"' || *text == '\\')
			*ret_text++ = '\\';
		if (n > 0)
			ret_text = mempcpy(ret_text, text, n);
		else
			*ret_text++ = *text != MARK ? ' ' : marks_are_ours ? '"' : '\'';
		text += n > 0 ? n : 1;
	}
	*ret_text = '\0';
}

void
log_line(enum log_level level, const char *event, const char *format, ...)
{
	char marked[FORMAT_BYTES], raw[LINE_BYTES], text[LINE_BYTES];
	int saved_errno = errno, n;
	va_list ap;

	if (level > log_level_max)
		return;
	assert(strlen(format) < sizeof marked);
	mark_quotes(strcpy(marked, format));
	n = snprintf(raw, sizeof raw, "event=%s level=%s ", event, names[level]);
	va_start(ap, format);
	vsnprintf(raw + n, sizeof raw - (size_t)n, marked, ap);
	va_end(ap);
	clean(raw, count_marks(raw) <= count_marks(marked), text);
	tell_or_hold(level, event, text);
	errno = saved_errno;
}
