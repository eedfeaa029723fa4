/* SPDX-License-Identifier: Apache-2.0 */
/* watchdog.h: whether the threads go on that everything depends on. Each has a number that grows for as long as it
 * does: turns of its loop, jobs, waits that ended. Who looks sees that all of them have grown, or which has not. */
#ifndef HF_SERVER_WATCHDOG_H
#define HF_SERVER_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

struct watchdog;

/* Any thread; never blocks. */
typedef uint64_t watchdog_count(const void *thread);

/* NULL: out of memory. What is added must live until it is destroyed. One thread looks. */
struct watchdog *watchdog_create(void);
void watchdog_destroy(struct watchdog *w); /* NULL is allowed */

/* From now_ns (monotonic) on it is watched. Borrows name and thread. False: out of memory. */
bool watchdog_add(struct watchdog *w, const char *name, watchdog_count *count, const void *thread, int64_t now_ns);

/* True: every thread has gone on since the last time that this was true. now_ns: monotonic. */
bool watchdog_look(struct watchdog *w, int64_t now_ns);

/* The thread that has not been seen to go on for longest, and since when (monotonic). NULL: none is watched. */
const char *watchdog_slowest(const struct watchdog *w, int64_t *ret_since_ns);

#endif
