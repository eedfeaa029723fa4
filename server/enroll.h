/* SPDX-License-Identifier: Apache-2.0 */
/* enroll.h: the enrolment port. A newcomer shows a token and a certificate request in one bounded
 * message and gets a certificate, or a GOODBYE that says why not and what to type. Main thread, on
 * the base it is given.
 *
 * Never more than ENROLL_PENDING_MAX connections (the oldest goes), ENROLL_DEADLINE_MS for each,
 * and after TRIES_MAX refusals within a minute (tries.h) an address waits. */
#ifndef HF_SERVER_ENROLL_H
#define HF_SERVER_ENROLL_H

#include "server/ledger.h"
#include "server/pki.h"

struct event_base;
struct enroll;

enum {
	ENROLL_PENDING_MAX = 128,   /* each holds about 100 KiB: TLS buffers and one message; a hundred machines told to
				       enrol at once all get an answer */
	ENROLL_DEADLINE_MS = 10000, /* from accept to the whole message; again for the answer */
};

/* Run work(job) on a thread that may block, then done(job) on the main thread: exactly once each,
 * done never inside this call. */
typedef void enroll_post(void *arg, void (*work)(void *job), void (*done)(void *job), void *job);

/* A token was good. Runs in work, inside the registry's transaction: make what the source needs to
 * exist (its store); if this fails the agent is refused with err and the token stays good. is_new
 * is false when a known source enrols again. Must not call the registry. Should the commit fail
 * after it, what it made belongs to no source. */
typedef int enroll_hook(
    void *arg, const struct id *source, bool is_new, const struct message_hints *hints, struct hf_error *err);

struct enroll_config {
	struct event_base *base;
	const char *listen; /* "HOST:PORT" */
	struct pki *pki;
	struct registry *registry;
	struct ledger *ledger;
	int64_t certificate_lifetime_ns;
	uint32_t data_port;   /* told to the agent */
	unsigned deadline_ms; /* 0 = ENROLL_DEADLINE_MS; tests are less patient */
	enroll_post *post;
	enroll_hook *enrolled;
	void *arg; /* of post and enrolled */
};

/* Start to listen. Borrows what config points to until enroll_close() has returned and no job is under way; config
 * itself for the call. 0 or negative. */
int enroll_open(const struct enroll_config *config, struct enroll **ret_enroll, struct hf_error *err);

/* Where it listens, with the port chosen. */
const char *enroll_address(const struct enroll *e);

/* The server's certificate is another one: handshakes from now on use ctx (of pki_enroll_ctx()). Takes it. */
void enroll_use_ctx(struct enroll *e, SSL_CTX *ctx);

/* Life of the certificates that are signed from now on. Main thread. */
void enroll_set_lifetime(struct enroll *e, int64_t certificate_lifetime_ns);

/* Stop listening and cut all connections. A job under way is not waited for, but its done() must still come, and cleans
 * up. NULL allowed. */
void enroll_close(struct enroll *e);

#endif
