/* SPDX-License-Identifier: Apache-2.0 */
#include "server/service.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/log.h"
#include "server/fleet.h"
#include "server/notify.h"
#include "server/server.h"
#include "server/watchdog.h"
#include "server/worker.h"

/* A step of the start may take as long on a slow or busy disk, and so may the end from one second to the next. */
#define STEP_PATIENCE_US 120000000
#define END_PATIENCE_US  30000000

/* Without a manager that says how long it waits, a thread is silent after this. */
#define SILENCE_NS (15 * NS_PER_SECOND)

enum { STATUS_LINE_BYTES = 160 };

struct service {
	struct server *server;
	struct watchdog *watchdog;
	int64_t ticked_ns;            /* monotonic: of the last tick */
	int64_t silence_ns;           /* a thread may take so long to go on */
	const char *silent;           /* one that took longer, as it was told; NULL: none */
	int64_t silent_since_ns;      /* real clock */
	char told[STATUS_LINE_BYTES]; /* the status line sent last */
	struct source_status *scratch;
};

struct service *
service_create(struct server *sv)
{
	struct service *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->server = sv;
	s->watchdog = watchdog_create();
	s->scratch = malloc(sizeof *s->scratch);
	s->silence_ns = notify_watchdog_ns() > 0 ? notify_watchdog_ns() / 2 : SILENCE_NS;
	if (s->watchdog != NULL && s->scratch != NULL)
		return s;
	service_destroy(s);
	return NULL;
}

void
service_destroy(struct service *s)
{
	if (s == NULL)
		return;
	watchdog_destroy(s->watchdog);
	free(s->scratch);
	free(s);
}

/* ---- how things are ---- */

static void
write_lag(const struct fleet *f, char *buf)
{
	if (f->worst_lag_seconds < 0)
		snprintf(buf, UNITS_TEXT_BYTES, "unknown");
	else
		duration_format((int64_t)(f->worst_lag_seconds * (double)NS_PER_SECOND), buf);
}

static void
write_line(struct service *s, char *line)
{
	char since[UNITS_TEXT_BYTES], lag[UNITS_TEXT_BYTES], rate[UNITS_TEXT_BYTES];
	struct fleet f;

	if (s->silent != NULL) {
		snprintf(line, STATUS_LINE_BYTES, "Stuck: thread %s has not gone on since %s", s->silent,
		    time_format(s->silent_since_ns, since));
		return;
	}
	fleet_count(s->server->status, clock_real_ns(), s->scratch, &f);
	if (f.sources == 0) {
		snprintf(line, STATUS_LINE_BYTES, "Ready: no sources yet (holdfastctl token create)");
		return;
	}
	write_lag(&f, lag);
	snprintf(line, STATUS_LINE_BYTES, "Ready: %u/%u sources, worst lag %s, %s/s in", f.ready, f.sources, lag,
	    size_format(f.rate_10s, rate));
}

void
service_log_summary(struct service *s)
{
	struct area_facts area;
	struct fleet f;
	char lag[UNITS_TEXT_BYTES];

	fleet_count(s->server->status, clock_real_ns(), s->scratch, &f);
	write_lag(&f, lag);
	area_get(s->server->areas[AREA_DATA], &area);
	log_notice("summary",
	    "sources=%u ready=%u connected=%u sessions=%u worst_lag=%s in_bytes_per_second=%" PRIu64
	    " free_bytes=%" PRIu64 " events_pending=%u rows_waiting=%zu",
	    f.sources, f.ready, f.connected, atomic_load(&s->server->session_count), lag, f.rate_10s, area.free_bytes,
	    atomic_load(&s->server->events_pending), ledger_waiting(s->server->ledger));
}

/* ---- the start and the end ---- */

void
service_starting(const char *what)
{
	notify_send("STATUS=Starting: %s\nEXTEND_TIMEOUT_USEC=%d", what, STEP_PATIENCE_US);
}

void
service_failed(const char *why)
{
	notify_send("STATUS=Not started: %s", why);
}

static uint64_t
count_ticks(const void *thread)
{
	return worker_ticks(thread);
}

static uint64_t
count_turns(const void *thread)
{
	return jobs_turns(thread);
}

static void
watch_threads(struct service *s)
{
	struct server *sv = s->server;
	int64_t now_ns = clock_monotonic_ns();
	bool good = watchdog_add(s->watchdog, "catalog", count_turns, sv->catalog, now_ns) &&
		    watchdog_add(s->watchdog, "maintenance", count_turns, sv->maintenance, now_ns);

	for (unsigned i = 0; i < sv->worker_count && good; i++)
		good = watchdog_add(s->watchdog, worker_name(sv->workers[i]), count_ticks, sv->workers[i], now_ns);
	if (!good)
		log_warning("threads_unwatched", "msg=\"no memory: not every thread is watched\"");
}

void
service_ready(struct service *s)
{
	watch_threads(s);
	s->ticked_ns = clock_monotonic_ns();
	write_line(s, s->told);
	notify_send("READY=1\nSTATUS=%s", s->told);
}

void
service_stopping(struct service *s)
{
	notify_send("STOPPING=1\nSTATUS=Stopping: %u sessions are told", atomic_load(&s->server->session_count));
}

/* ---- every second ---- */

static void
feed(const struct service *s)
{
	if (notify_watchdog_ns() > 0)
		notify_try("WATCHDOG=1");
	if (s->server->draining)
		notify_try("EXTEND_TIMEOUT_USEC=%d", END_PATIENCE_US);
}

static void
tell_silence(struct service *s, int64_t now_ns)
{
	int64_t since_ns = now_ns;
	const char *slowest = watchdog_slowest(s->watchdog, &since_ns), *was = s->silent;
	int64_t silent_ns = now_ns - since_ns;

	s->silent = silent_ns >= s->silence_ns ? slowest : NULL;
	if (s->silent == was)
		return;
	s->silent_since_ns = clock_real_ns() - silent_ns;
	if (s->silent != NULL)
		log_err("thread_silent", "thread=%s msg=\"it has not gone on for %lld s: the watchdog is not fed\"",
		    s->silent, (long long)(silent_ns / NS_PER_SECOND));
	else
		log_notice("threads_go_on", "msg=\"every thread goes on again\"");
}

const char *
service_silent_thread(const struct service *s, int64_t *ret_since_ns)
{
	*ret_since_ns = s->silent_since_ns;
	return s->silent;
}

/* The whole of it was stopped, or its machine: the others had no time to go on, either. */
static bool
stood_still(struct service *s, int64_t now_ns)
{
	int64_t stood_ns = now_ns - s->ticked_ns;

	s->ticked_ns = now_ns;
	return stood_ns >= s->silence_ns;
}

static void
tell_status(struct service *s)
{
	char line[STATUS_LINE_BYTES];

	if (s->server->draining || !notify_wanted())
		return;
	write_line(s, line);
	if (strcmp(line, s->told) == 0)
		return;
	snprintf(s->told, sizeof s->told, "%s", line);
	notify_try("STATUS=%s", line);
}

void
service_tick(struct service *s)
{
	int64_t now_ns = clock_monotonic_ns();
	bool all = watchdog_look(s->watchdog, now_ns);

	log_settle();
	if (!stood_still(s, now_ns))
		tell_silence(s, now_ns);
	if (all)
		feed(s);
	tell_status(s);
}
