/* SPDX-License-Identifier: Apache-2.0 */
/* service.h: the daemon as a service: what its manager (systemd) and the log are told of the whole of it. Main
 * thread. */
#ifndef HF_SERVER_SERVICE_H
#define HF_SERVER_SERVICE_H

#include <stdint.h>

struct server;
struct service;

/* Borrows sv. NULL: out of memory. */
struct service *service_create(struct server *sv);
void service_destroy(struct service *s); /* NULL is allowed */

/* A step of the start that may take its time; what, for people. */
void service_starting(const char *what);

/* It could not start; why. */
void service_failed(const char *why);

/* All threads run, and everybody may connect. From now on they are watched. */
void service_ready(struct service *s);

/* Once a second, until the end: feeds the watchdog if every thread has gone on, and tells how things are. */
void service_tick(struct service *s);

/* A thread that has not gone on for so long that somebody should know, and since when (real clock); NULL: all go on.
 * The name lives as long as the thread. */
const char *service_silent_thread(const struct service *s, int64_t *ret_since_ns);

/* No more connections; everything that was begun is being ended. */
void service_stopping(struct service *s);

/* One line in the log: how things are. */
void service_log_summary(struct service *s);

#endif
