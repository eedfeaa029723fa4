/* SPDX-License-Identifier: Apache-2.0 */
#include "server/server.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <inttypes.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/api.h"
#include "server/enroll.h"
#include "server/journal_link.h"
#include "server/limits.h"
#include "server/news.h"
#include "server/reload.h"
#include "server/rubbish.h"
#include "server/service.h"
#include "server/source.h"
#include "server/worker.h"
#include "storage/slab.h"

/* ---- which worker owns a source ---- */

struct worker *
server_owner(struct server *sv, const struct id *source)
{
	uint32_t hash = 2166136261u; /* FNV-1a: ids are random, any hash will do */

	for (const char *p = source->text; *p != '\0'; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	return sv->workers[hash % sv->worker_count];
}

/* ---- events ---- */

struct event_job {
	struct job job;
	struct server *server;
	struct registry_event event;
};

static void
run_event(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct event_job *e = (struct event_job *)job;
	struct hf_error err;
	int r = ledger_add_event(e->server->ledger, &e->event, &err);

	if (r < 0)
		log_warning("event_not_kept", "kept_event=%s msg=\"%s\"", e->event.event, err.text);
	atomic_fetch_sub(&e->server->events_pending, 1);
	free(e);
}

static void
keep_event(struct server *sv, const struct id *source, const char *event, const char *text)
{
	bool too_many = atomic_load(&sv->events_pending) >= EVENTS_PENDING_MAX;
	struct event_job *e;

	if (sv->catalog == NULL)
		return;
	e = too_many ? NULL : calloc(1, sizeof *e);
	if (e == NULL) {
		ledger_lose_event(sv->ledger);
		return;
	}
	e->job.run = run_event;
	e->server = sv;
	e->event.time_ns = clock_real_ns();
	if (source != NULL)
		e->event.source = *source;
	snprintf(e->event.event, sizeof e->event.event, "%s", event);
	snprintf(e->event.text, sizeof e->event.text, "%s", text);
	atomic_fetch_add(&sv->events_pending, 1);
	jobs_post(sv->catalog, &e->job);
}

void
server_event(struct server *sv, const struct id *source, const char *event, const char *format, ...)
{
	char text[SENTENCE_BYTES];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	log_notice(event, "source=%s msg=\"%s\"", source != NULL ? source->text : "-", text);
	keep_event(sv, source, event, text);
}

bool
server_thins(const struct server *sv)
{
	return strcmp(sv->config->when_full, "thin") == 0;
}

/* ---- its certificate ---- */

/* A context for each worker and for enrolment. */
struct contexts {
	SSL_CTX *data[WORKERS_MAX], *enroll;
};

static int
make_contexts(struct server *sv, struct contexts *c, struct hf_error *err)
{
	int r = pki_enroll_ctx(sv->pki, &c->enroll, err);

	for (unsigned i = 0; i < sv->worker_count && r == 0; i++)
		r = pki_data_ctx(sv->pki, &c->data[i], err);
	return r;
}

static void
free_contexts(struct contexts *c)
{
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		SSL_CTX_free(c->data[i]);
	SSL_CTX_free(c->enroll);
}

int
server_use_certificate(struct server *sv, struct hf_error *err)
{
	struct contexts c = {0};
	int r = make_contexts(sv, &c, err);

	sv->certificate_unused = r < 0;
	if (r < 0) {
		log_warning("certificate_reload_failed", "msg=\"%s\"", err->text);
		free_contexts(&c);
		return r;
	}
	for (unsigned i = 0; i < sv->worker_count; i++)
		worker_use_ctx(sv->workers[i], c.data[i]);
	if (sv->enroll != NULL)
		enroll_use_ctx(sv->enroll, c.enroll);
	else
		SSL_CTX_free(c.enroll);
	return 0;
}

/* ---- once a second ---- */

/* Its agents have missed it by then, and connect again: somebody will ask why. */
static void
tell_stood_still(struct server *sv, int64_t now_ns)
{
	int64_t stood_ns = now_ns - sv->second_ns;
	char text[UNITS_TEXT_BYTES];

	if (sv->second_ns != 0 && stood_ns > SILENCE_MIN_NS)
		server_event(sv, NULL, "server_stood_still",
		    "this server stood still for %s: it was stopped, its machine was paused or moved, or it had no "
		    "processor",
		    duration_format(stood_ns, text));
	sv->second_ns = now_ns;
}

static void
on_second(evutil_socket_t fd, short what, void *arg)
{
	struct server *sv = arg;

	tell_stood_still(sv, clock_monotonic_ns());
	service_tick(sv->service);
	server_keep_up(sv);
}

/* ---- accepting ---- */

static void
on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int len, void *arg)
{
	struct server *sv = arg;
	char peer[ADDRESS_TEXT_BYTES];

	if (atomic_load(&sv->session_count) >= sv->config->sessions_max) {
		log_warning("session_limit", "peer=%s msg=\"server.sessions_max is reached\"",
		    sockaddr_format(address, (socklen_t)len, peer));
		close(fd);
		return;
	}
	worker_accept(
	    sv->workers[sv->next_worker++ % sv->worker_count], fd, sockaddr_format(address, (socklen_t)len, peer));
}

static void
on_listen_again(evutil_socket_t fd, short what, void *arg)
{
	struct server *sv = arg;

	if (sv->listener != NULL)
		evconnlistener_enable(sv->listener);
}

/* Out of descriptors, most likely: the connection waits in the backlog, and asking again at once would only spin. */
static void
on_accept_error(struct evconnlistener *listener, void *arg)
{
	static const struct timeval pause = {1, 0};
	struct server *sv = arg;

	log_warning("accept_failed", "msg=\"%s; next try in a second\"", strerror(errno));
	evconnlistener_disable(listener);
	evtimer_add(sv->listen_again, &pause);
}

static int
open_listener(struct server *sv, struct hf_error *err)
{
	int fd, r = listen_open(sv->config->listen, &fd, sv->listen_address, err);

	if (r < 0)
		return r;
	sv->listener = evconnlistener_new(
	    sv->base, on_accept, sv, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_DISABLED, 0, fd);
	if (sv->listener == NULL) {
		close(fd);
		return hf_error_set(err, -ENOMEM, "listening");
	}
	evconnlistener_set_error_cb(sv->listener, on_accept_error);
	return 0;
}

/* ---- the end ---- */

static void
check_ended(struct server *sv)
{
	if (sv->draining && sv->workers_running == 0 && sv->answers_out == 0)
		event_base_loopbreak(sv->base);
}

void
server_answered(struct server *sv)
{
	assert(sv->answers_out > 0);
	sv->answers_out--;
	check_ended(sv);
}

static void
on_drained(struct mail *mail)
{
	struct server *sv = ((struct drained *)mail)->server;

	sv->workers_running--;
	check_ended(sv);
}

static void
begin_drain(struct server *sv)
{
	sv->draining = true;
	service_stopping(sv->service);
	if (sv->listener != NULL)
		evconnlistener_free(sv->listener);
	sv->listener = NULL;
	enroll_close(sv->enroll);
	sv->enroll = NULL;
	if (sv->api_started)
		api_stop(sv);
	sv->api_started = false;
	for (unsigned i = 0; i < sv->worker_count; i++) {
		sv->drained[i].server = sv;
		sv->drained[i].mail.deliver = on_drained;
		worker_drain(sv->workers[i], &sv->drained[i].mail);
	}
	check_ended(sv);
}

static void
on_signal(evutil_socket_t signal, short what, void *arg)
{
	struct server *sv = arg;

	if (sv->draining) {
		log_notice("stopped_at_once", "msg=\"second signal: not waiting; everything acknowledged is on disk\"");
		_exit(0);
	}
	log_notice("stopping", "signal=%d sessions=%u", (int)signal, atomic_load(&sv->session_count));
	begin_drain(sv);
}

static void
on_summary(evutil_socket_t signal, short what, void *arg)
{
	struct server *sv = arg;

	service_log_summary(sv->service);
}

/* ---- start, step by step ---- */

static void
raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	if (limit.rlim_max < DESCRIPTORS_WANTED) {
		struct rlimit more = {DESCRIPTORS_WANTED, DESCRIPTORS_WANTED};

		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			return;
	}
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_notice("descriptors", "limit=%" PRIu64 " msg=\"could not be raised\"", (uint64_t)limit.rlim_cur);
}

static bool
on_one_file_system(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev;
}

static int
open_areas(struct server *sv, struct hf_error *err)
{
	const struct area_settings settings = {
	    sv->config->reserve_bytes, sv->config->segment_bytes, sv->config->space_warning};
	const char *data = data_dir_path(sv->data_dir), *journal = data_dir_journal(sv->data_dir);
	int r = area_create(data, &settings, &sv->areas[AREA_DATA], err);

	if (r == 0 && journal[0] != '\0' && !on_one_file_system(data, journal))
		r = area_create(journal, &settings, &sv->areas[AREA_JOURNAL], err);
	return r;
}

/* A path that nobody set may be made; one that was set and is not there is more likely not mounted. */
static int
open_data_dir(struct server *sv, struct hf_error *err)
{
	int r = data_dir_open(
	    sv->config->data_dir, !sv->config->data_dir_set, config_journal_dir(sv->config), &sv->data_dir, err);

	if (r == 0)
		r = open_areas(sv, err);
	return r;
}

/* The database belongs to this directory, not to one that was mounted over it. */
static int
check_uuid(struct server *sv, struct hf_error *err)
{
	char uuid[UUID_TEXT_BYTES];
	int r = registry_get_setting(sv->registry, "data_uuid", uuid, sizeof uuid);

	if (r == -ENOENT)
		return registry_set_setting(sv->registry, "data_uuid", data_dir_uuid(sv->data_dir), err);
	if (r < 0)
		return hf_error_set(err, r, "holdfast.db");
	if (strcmp(uuid, data_dir_uuid(sv->data_dir)) != 0)
		return hf_error_say(err, -HF_ECORRUPT,
		    "%s: holdfast.db belongs to data directory %s, IDENTITY says %s: files of two directories are "
		    "mixed",
		    data_dir_path(sv->data_dir), uuid, data_dir_uuid(sv->data_dir));
	return 0;
}

static int
open_registry(struct server *sv, struct hf_error *err)
{
	char path[512];
	int r;

	if (!data_dir_join(sv->data_dir, "holdfast.db", path, sizeof path))
		return hf_error_set(err, -ENAMETOOLONG, "%s", sv->config->data_dir);
	if (data_dir_is_new(sv->data_dir))
		r = registry_open(path, true, &sv->registry, err);
	else
		r = registry_open_or_replace(
		    path, clock_real_ns(), &sv->registry, sv->registry_repair, sizeof sv->registry_repair, err);
	if (r == 0)
		r = check_uuid(sv, err);
	return r == 0 && ledger_create(sv->registry, &sv->ledger) < 0 ? hf_error_set(err, -ENOMEM, "%s", path) : r;
}

static int
open_pki(struct server *sv, struct hf_error *err)
{
	char path[512];
	int r;

	if (!data_dir_join(sv->data_dir, "pki", path, sizeof path))
		return hf_error_set(err, -ENAMETOOLONG, "%s", sv->config->data_dir);
	r = pki_open(path, clock_real_ns(), &sv->pki, err);
	if (r == 0)
		server_look_at_backup(sv); /* before anybody can ask */
	return r;
}

static int
make_sources_dir(struct server *sv, struct hf_error *err)
{
	char path[512];

	if (!data_dir_join(sv->data_dir, "sources", path, sizeof path))
		return hf_error_set(err, -ENAMETOOLONG, "%s", sv->config->data_dir);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return hf_error_set(err, -errno, "cannot make %s", path);
	return journal_link_renew(sv->data_dir, err);
}

static void
on_hangup(evutil_socket_t signal, short what, void *arg)
{
	reload_start(arg, NULL, NULL);
}

static const struct {
	int number;
	event_callback_fn handle;
} signals[SIGNALS] = {
    {SIGTERM, on_signal},
    {SIGINT, on_signal},
    {SIGUSR1, on_summary},
    {SIGHUP, on_hangup},
};

static int
catch_signals(struct server *sv)
{
	for (int i = 0; i < SIGNALS; i++) {
		sv->signals[i] = evsignal_new(sv->base, signals[i].number, signals[i].handle, sv);
		if (sv->signals[i] == NULL || event_add(sv->signals[i], NULL) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int
make_loop(struct server *sv, struct hf_error *err)
{
	static const struct timeval second = {1, 0};
	int r;

	sv->base = event_base_new();
	if (sv->base == NULL)
		return hf_error_set(err, -ENOMEM, "the main loop");
	r = mailbox_create(sv->base, &sv->mailbox);
	if (r == 0)
		r = catch_signals(sv);
	sv->second = event_new(sv->base, -1, EV_PERSIST, on_second, sv);
	sv->listen_again = evtimer_new(sv->base, on_listen_again, sv);
	if (r < 0 || sv->second == NULL || sv->listen_again == NULL || event_add(sv->second, &second) < 0)
		return hf_error_set(err, -ENOMEM, "the main loop");
	return 0;
}

static int
start_jobs(struct server *sv, struct hf_error *err)
{
	int r = jobs_create("catalog", 1, 0, &sv->catalog, err);

	if (r == 0)
		r = jobs_create("maintenance", 1, RUN_CACHE_BYTES, &sv->maintenance, err);
	if (r == 0)
		r = jobs_create("reader", READER_THREADS, RUN_CACHE_BYTES, &sv->readers, err);
	return r;
}

static unsigned
count_workers(const struct server *sv)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned n = sv->config->workers != 0 ? sv->config->workers : (unsigned)(cores > 0 ? cores : 1);

	return n < WORKERS_MAX ? n : WORKERS_MAX;
}

static int
start_workers(struct server *sv, struct hf_error *err)
{
	unsigned n = count_workers(sv);
	uint64_t slabs = sv->config->memory_bytes / n / (SLAB_HEAD_BYTES + SLAB_PAYLOAD_BYTES);
	int r = 0;

	if (slabs < SLABS_MIN)
		slabs = SLABS_MIN;
	for (unsigned i = 0; i < n && r == 0; i++) {
		r = worker_create(sv, i, (unsigned)slabs, &sv->workers[i], err);
		if (r == 0)
			sv->worker_count = sv->workers_running = i + 1;
	}
	return r;
}

static int
start_sources(struct server *sv, struct hf_error *err)
{
	struct registry_source *list;
	size_t n;
	int r = registry_list_sources(sv->registry, &list, &n, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n && r == 0; i++)
		r = source_start(sv, &list[i]);
	free(list);
	rubbish_start(sv);
	return r < 0 ? hf_error_set(err, r, "%zu sources", n) : 0;
}

/* The ports chosen, for scripts that asked for any. */
static void
write_ports(const struct server *sv)
{
	const char *data = strrchr(sv->listen_address, ':'), *enroll = strrchr(sv->enroll_address, ':');
	char path[512];
	FILE *f;

	snprintf(path, sizeof path, "%s/ports.json", sv->config->runtime_dir);
	f = fopen(path, "we");
	if (f == NULL) {
		log_warning("ports_not_written", "path=%s msg=\"%s\"", path, strerror(errno));
		return;
	}
	fprintf(f, "{\"data\": %s, \"enroll\": %s}\n", data != NULL ? data + 1 : "null",
	    enroll != NULL ? enroll + 1 : "null");
	if (fclose(f) != 0)
		log_warning("ports_not_written", "path=%s msg=\"%s\"", path, strerror(errno));
}

static int
start_api(struct server *sv, struct hf_error *err)
{
	int r = api_start(sv, sv->config, err);

	if (r < 0)
		return r;
	sv->api_started = true;
	write_ports(sv);
	return 0;
}

static void
say_hello(const struct server *sv)
{
	char ca[FINGERPRINT_TEXT_BYTES];

	log_notice("listening", "address=%s enroll=%s data_dir=%s workers=%u", sv->listen_address,
	    sv->enroll_address[0] != '\0' ? sv->enroll_address : "off", data_dir_path(sv->data_dir), sv->worker_count);
	log_notice("certificate_authority", "sha256=%s", pki_ca_fingerprint(sv->pki, ca));
	if (geteuid() != 0)
		log_notice("ordinary_user", "runtime_dir=%s msg=\"sockets are for this user, and the groups it is in\"",
		    sv->config->runtime_dir);
	log_notice("next", "msg=\"to enrol a source: holdfastctl token create\"");
}

static const struct step {
	const char *name;
	int (*run)(struct server *sv, struct hf_error *err);
} steps[] = {
    {"opening the data directory", open_data_dir},
    {"opening holdfast.db", open_registry},
    {"opening keys and certificates", open_pki},
    {"looking at the sources' folder", make_sources_dir},
    {"the main loop", make_loop},
    {"threads", start_jobs},
    {"workers", start_workers},
    {"the data port", open_listener},
    {"the enrolment port", server_open_enrolment},
    {"the control sockets", start_api},
    {"sources", start_sources},
};

static int
run_steps(struct server *sv, struct hf_error *err)
{
	int r = 0;

	for (size_t i = 0; i < sizeof steps / sizeof steps[0] && r == 0; i++) {
		service_starting(steps[i].name);
		r = steps[i].run(sv, err);
	}
	return r;
}

int
server_start(
    const struct config *config, const struct config_origin *origin, struct server **ret_server, struct hf_error *err)
{
	struct server *sv = calloc(1, sizeof *sv);
	int r = sv != NULL ? status_table_create(&sv->status) : -ENOMEM;

	err->code = 0;
	if (r == 0 && ((sv->news = news_create()) == NULL || !reload_begin(sv, config) ||
			  (sv->service = service_create(sv)) == NULL))
		r = -ENOMEM;
	if (r < 0) {
		server_destroy(sv);
		return hf_error_set(err, r, "holdfastd");
	}
	sv->origin = *origin;
	sv->started_ns = clock_real_ns();
	signal(SIGPIPE, SIG_IGN); /* writing to a peer that is gone is an error like any other */
	raise_descriptors();
	r = run_steps(sv, err);
	if (r < 0) {
		server_destroy(sv);
		service_failed(err->text);
		return r;
	}
	evconnlistener_enable(sv->listener);
	if (sv->registry_repair[0] != '\0')
		server_event(sv, NULL, "registry_from_copy", "%s", sv->registry_repair);
	say_hello(sv);
	service_ready(sv->service);
	*ret_server = sv;
	return 0;
}

void
server_run(struct server *sv)
{
	event_base_dispatch(sv->base);
}

static void
free_event(struct event *event)
{
	if (event != NULL)
		event_free(event);
}

/* Its copy is of the last moment then. */
static void
close_registry(struct server *sv)
{
	struct hf_error err;

	if (sv->ledger != NULL && ledger_settle(sv->ledger, &err) < 0)
		log_warning("rows_lost", "rows=%zu msg=\"%s: the log alone has these events and audit rows\"",
		    ledger_waiting(sv->ledger), err.text);
	ledger_destroy(sv->ledger);
	if (sv->registry != NULL)
		server_keep_registry(sv);
	registry_close(sv->registry);
}

/* A failed start may have workers with stores half open: they end the same way. */
static void
drain(struct server *sv)
{
	if (sv->base == NULL || sv->mailbox == NULL)
		return;
	if (!sv->draining)
		begin_drain(sv);
	if (sv->workers_running > 0 || sv->answers_out > 0)
		event_base_dispatch(sv->base);
}

void
server_destroy(struct server *sv)
{
	if (sv == NULL)
		return;
	drain(sv);
	jobs_destroy(sv->readers); /* before the workers: what ran posts there */
	jobs_destroy(sv->maintenance);
	jobs_destroy(sv->catalog);
	for (unsigned i = 0; i < sv->worker_count; i++)
		worker_destroy(sv->workers[i]);
	for (int i = 0; i < SIGNALS; i++)
		free_event(sv->signals[i]);
	free_event(sv->second);
	free_event(sv->listen_again);
	mailbox_destroy(sv->mailbox);
	if (sv->base != NULL)
		event_base_free(sv->base);
	close_registry(sv);
	pki_close(sv->pki);
	service_destroy(sv->service);
	reload_end(sv);
	status_table_destroy(sv->status);
	news_destroy(sv->news);
	for (int i = 0; i < AREAS; i++)
		area_destroy(sv->areas[i]);
	data_dir_close(sv->data_dir);
	free(sv);
}
