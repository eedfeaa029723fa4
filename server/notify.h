/* SPDX-License-Identifier: Apache-2.0 */
/* notify.h: what the service manager is told: the datagrams of sd_notify(3), written here because libsystemd would
 * bring all of its libraries into a process that holds keys. Without a manager ($NOTIFY_SOCKET) nothing is sent. */
#ifndef HF_SERVER_NOTIFY_H
#define HF_SERVER_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

/* Somebody listens. */
bool notify_wanted(void);

/* Send assignments, one a line: "READY=1\nSTATUS=...". For what must arrive: blocks for up to ten seconds while the
 * manager's queue is full. */
void notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for what is said again soon: never blocks. */
void notify_try(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* How often WATCHDOG=1 is expected of this process, in nanoseconds; 0: not at all. */
int64_t notify_watchdog_ns(void);

#endif
