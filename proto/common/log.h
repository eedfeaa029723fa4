/* SPDX-License-Identifier: Apache-2.0 */
/* log.h: one logfmt line per event on stderr; where that is the journal's ($JOURNAL_STREAM), behind the priority prefix
 * that journald reads.
 *
 * A line that says the same as the one before, within ten seconds, is held back and counted; the count is told as a
 * line of its own, "repeated", before the next that is written, or by log_settle(). Debug lines are all written.
 *
 * Whoever reads stderr may stand still: a line waits a moment for room, and those after it are lost, and counted, until
 * there is some again ("lines_lost"). A file is written to however long that takes.
 *
 * event is a stable name (docs list them); the format gives "key=value ..." pairs, things first and
 * values after; free text goes last as msg="...". What stands between quotation marks may be of any origin: its own
 * have a backslash in front. Nothing secret is ever logged. errno is preserved.
 * Thread-safe: a line is one write(2). */
#ifndef HF_COMMON_LOG_H
#define HF_COMMON_LOG_H

enum log_level { LOG_LEVEL_ERR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

#define LOG_LEVELS "err|warning|notice|info|debug"

/* Lines above this level are not printed. */
extern _Atomic enum log_level log_level_max;

void log_line(enum log_level level, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define log_err(event, ...)     log_line(LOG_LEVEL_ERR, event, __VA_ARGS__)
#define log_warning(event, ...) log_line(LOG_LEVEL_WARNING, event, __VA_ARGS__)
#define log_notice(event, ...)  log_line(LOG_LEVEL_NOTICE, event, __VA_ARGS__)
#define log_info(event, ...)    log_line(LOG_LEVEL_INFO, event, __VA_ARGS__)
#define log_debug(event, ...)                                          \
	do {                                                           \
		if (log_level_max >= LOG_LEVEL_DEBUG)                  \
			log_line(LOG_LEVEL_DEBUG, event, __VA_ARGS__); \
	} while (0)

/* Tell of lines held back for ten seconds or more, and of lines lost. For a loop to call now and then. */
void log_settle(void);

/* Parse one of LOG_LEVELS; -1 if none of them. */
int log_level_parse(const char *text);

#endif
