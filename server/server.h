/* SPDX-License-Identifier: Apache-2.0 */
/* server.h: the running daemon: what its threads share, its start and its end.
 *
 *	main thread      listeners, enrolment, control sockets, signals
 *	workers          one per core: sessions, sources and their stores' data path; see worker.h
 *	catalog thread   SQLite: registry, catalogs; store jobs that are quick
 *	maintenance      builds runs, folds
 *	readers          opening stores, compares, exports, read-back
 *
 * Everything in struct server is set before the other threads start and constant from then on, unless it is _Atomic. */
#ifndef HF_SERVER_SERVER_H
#define HF_SERVER_SERVER_H

#include <stdatomic.h>

#include "server/area.h"
#include "server/command.h"
#include "server/config.h"
#include "server/data_dir.h"
#include "server/jobs.h"
#include "server/ledger.h"
#include "server/listen.h"
#include "server/mailbox.h"
#include "server/pki.h"
#include "server/precedence.h"
#include "server/registry.h"
#include "server/status.h"
#include "server/tally.h"

struct enroll;
struct event;
struct config_version;
struct evconnlistener;
struct service;
struct worker;

enum { WORKERS_MAX = 256, SIGNALS = 4 };

struct server {
	const struct config *_Atomic config; /* changed by a reload; each is constant: see reload.c */
	struct config_version *configs;
	struct config_origin origin;
	config_mask restart_required;
	int64_t reloaded_ns; /* when the configuration that holds was read */
	bool reload_failed;  /* a newer one was refused */
	struct event_base *base;
	struct mailbox *mailbox; /* of the main thread */
	struct data_dir *data_dir;
	struct registry *registry;
	struct ledger *ledger;
	struct pki *pki;
	struct status_table *status;
	struct news *news;
	struct area *areas[AREAS]; /* AREA_JOURNAL: NULL, unless journals lie on a disk of their own */
	struct jobs *catalog, *maintenance, *readers;
	struct worker *workers[WORKERS_MAX];
	unsigned worker_count;
	int64_t started_ns;

	/* the main thread's */
	struct evconnlistener *listener;
	struct enroll *enroll;
	struct service *service;
	struct event *signals[SIGNALS], *second, *listen_again;
	char listen_address[ADDRESS_TEXT_BYTES], enroll_address[ADDRESS_TEXT_BYTES];
	unsigned next_worker, workers_running;
	unsigned answers_out; /* commands, exports, enrolments and jobs of the main thread that are under way */
	bool api_started, draining, staging_asked;
	int64_t certificates_looked_ns; /* real clock */
	int64_t registry_kept_ns;
	int64_t second_ns;                    /* monotonic: of the last one */
	char registry_repair[SENTENCE_BYTES]; /* what was done about a damaged holdfast.db at the start; "" = nothing */
	struct drained {
		struct mail mail;
		struct server *server;
	} drained[WORKERS_MAX]; /* what a worker posts when nothing is left of it */

	/* the catalog thread's */
	struct disk *catalog_disk; /* while an enrolment is worked on */
	struct id enrolled;        /* source whose enrolment is being committed; "" = none */
	struct settings new_store; /* what it begins with */
	uint64_t admit_number;
	struct area_facts areas_told[AREAS]; /* as events have told them */
	int64_t expiry_told_ns;              /* see server_tell_expiry() */
	bool certificate_unused;             /* main thread: server_use_certificate() failed */

	struct precedence precedence;
	_Atomic unsigned session_count;
	_Atomic uint64_t session_number; /* for logs */
	_Atomic unsigned events_pending;
	struct tally tally;
	_Atomic int64_t backup_taken_ns, backup_unsaved_ns; /* see struct identity_backup */
	_Atomic uint64_t rubbish_bytes; /* of deleted sources, still to be removed; holes included */
};

/* Everything up to listening; origin is where a reload reads config again. Blocks. On failure err says what and why,
 * and what to do. */
int server_start(
    const struct config *config, const struct config_origin *origin, struct server **ret_server, struct hf_error *err);

/* Until SIGTERM or SIGINT, and then until everything that was begun is on disk. */
void server_run(struct server *sv);

/* After server_run(), or a failed start. NULL is allowed. */
void server_destroy(struct server *sv);

/* The worker that owns a source, for the life of the process. */
struct worker *server_owner(struct server *sv, const struct id *source);

/* Log a line and keep it as an event of a source (NULL: of the server). Any thread; never blocks. event is a stable
 * name. */
void server_event(struct server *sv, const struct id *source, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Sources that do not say themselves give up points when room runs out. Any thread. */
bool server_thins(const struct server *sv);

/* Main thread: something that was under way for it has ended (see answers_out). */
void server_answered(struct server *sv);

/* Main thread: the server's certificate, or a CA, is another one: it holds for whoever connects from now on, and nobody
 * is cut. On failure, which is logged, they go on with the one before, and it is tried again by and by. */
int server_use_certificate(struct server *sv, struct hf_error *err);

/* server_enroll.c: listen for newcomers, unless that is switched off. */
int server_open_enrolment(struct server *sv, struct hf_error *err);

/* server_upkeep.c. Main thread, once a second: measures, tells and keeps what there is to, on the catalog thread; not
 * while the last time is still under way. */
void server_keep_up(struct server *sv);
/* Parts of it, for the start and the end. Both block. What the backup of the identity is worth: what cannot be read now
 * stays as it was told; what the registry is to know at the end, if the server were killed now. */
void server_look_at_backup(struct server *sv);
void server_keep_registry(struct server *sv);

/* server_expiry.c. Catalog thread; blocks. An event for each certificate that came near its end, or to it, since the
 * last look (told_ns; 0 = at the start, of all). Sources that are stopped or deleted are not told of. */
void server_tell_expiry(struct server *sv, int64_t told_ns, int64_t now_ns);

#endif
