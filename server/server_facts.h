/* SPDX-License-Identifier: Apache-2.0 */
/* server_facts.h: what the control sockets see of the running server, and use of it without a command (see command.h).
 */
#ifndef HF_SERVER_SERVER_FACTS_H
#define HF_SERVER_SERVER_FACTS_H

#include "server/area.h"
#include "server/config.h"
#include "server/identity.h"
#include "server/pki.h"
#include "server/registry.h"
#include "server/settings.h"
#include "server/tally.h"

struct ledger;
struct news;
struct server;
struct status_table;

struct status_table *server_status(struct server *sv);
struct registry *server_registry(struct server *sv);
struct ledger *server_ledger(struct server *sv);
struct news *server_news(struct server *sv);
struct event_base *server_base(struct server *sv); /* the main thread's */

struct server_facts {
	char version[32], data_dir[512], ca_fingerprint[FINGERPRINT_TEXT_BYTES];
	struct pki_certificate certificates[PKI_ROLES];
	char listen[256], enroll_listen[256]; /* with the ports chosen; enroll_listen "" = off */
	int64_t started_ns;
	bool draining;
	config_mask restart_required; /* keys whose change was read, and waits for a restart */
	uint64_t rubbish_bytes;       /* left of deleted sources, holes included */
	unsigned sessions;            /* agents connected, those that shake hands included */
	bool reload_failed;           /* the newest configuration was refused */
	int64_t reloaded_ns;          /* when the one that holds was read */
	const struct tally *tally;    /* it goes on counting */
	int64_t scrub_interval_ns;    /* 0 = none begins by itself */
	struct identity_backup backup;
	size_t rows_waiting;            /* of events and audit, for room */
	struct area_facts areas[AREAS]; /* AREA_JOURNAL: all zero, unless journals lie on a disk of their own */
	const char *silent_thread;      /* that does not go on; borrowed; NULL: all do */
	int64_t silent_since_ns;
	unsigned workers;
	int pid;
};

/* What a new source begins with where nothing is set: the configuration's. */
void server_default_settings(const struct server *sv, struct settings *ret_settings);

/* Keep a row of the audit that nobody waits for. Main thread; never blocks. */
void server_add_audit(struct server *sv, const struct registry_audit *audit);

/* Of the data directory's reserve, for a change that found no room: as area_make_room(). Blocks; any thread. */
bool server_make_room(struct server *sv);

/* Main thread. */
void server_get_facts(struct server *sv, struct server_facts *ret_facts);

/* What the configuration says of tokens. */
int64_t server_token_lifetime_ns(const struct server *sv);

#endif
