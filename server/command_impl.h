/* SPDX-License-Identifier: Apache-2.0 */
/* command_impl.h: the frame of a command, for the command_*.c files alone. A command is one struct that travels: from
 * the main thread to where the work is (the owner of the source, the catalog thread, or one owner after the other when
 * only the point is known) and back, where the caller's done() runs. Each file has the commands of one noun:
 *
 *	command_pit.c        points in time
 *	command_trust.c      whom the server lets in: tokens, certificates, the CA, its identity
 *	command_source.c     what is done with a source's replication, and with its data
 *	command_retention.c  what is kept of a source, and for how long: quota, policy, freeze
 *	command_settings.c   settings of a source, and the template of those to come
 */
#ifndef HF_SERVER_COMMAND_IMPL_H
#define HF_SERVER_COMMAND_IMPL_H

#include "proto/common/status.h"
#include "server/bundle.h"
#include "server/command.h"
#include "server/jobs.h"
#include "server/mailbox.h"
#include "server/settings.h"

struct phase_verb;
struct source;
struct worker;

struct command {
	struct mail mail;
	struct job job;
	struct server *server;
	struct worker *worker;                                    /* where it is, or was sent */
	void (*at_source)(struct command *c, struct source *src); /* on the owner */
	void (*at_worker)(struct command *c);                     /* instead: on a worker, whichever sources it has */

	struct id source, pit, token;
	char name[PIT_NAME_BYTES]; /* of a point, or a volume */
	bool with_points;
	enum store_pit_verb verb;
	int64_t timeout_ns, lifetime_ns;
	struct hf_error err;
	uint64_t admit_number, lsn;

	struct quota_change quota;
	struct policy_change policy;
	struct throttle throttle;
	bool frozen;
	const struct phase_verb *phase_verb;
	bool changed;   /* else it was so before */
	int64_t now_ns; /* our clock when it was given */
	json_t *patch;
	json_t *was;  /* what the patch changes, as it was */
	json_t *kept; /* what answer.kept is */
	struct source_settings settings;
	char *tags;
	struct bundle bundle;
	bool force;

	struct command_answer answer;
	struct pit *pits; /* what answer.pits points to; freed with the command */
	bool *going;
	command_done *done;
	void *arg;
};

struct command *command_from_job(struct job *job);

/* Main thread. source: or NULL, if it is of none. Never NULL; from here on it ends with an answer. */
struct command *command_create(struct server *sv, const struct id *source, command_done *done, void *arg);

/* Main thread. True if it was answered, because the server is going away. */
bool command_refused_while_draining(struct command *c);

/* Main thread. Where it goes next: to the owner of its source, once the store is open (or it is answered: there is no
 * such source); or to the catalog thread, and then done() on the main thread. */
void command_send_to_source(struct command *c, void (*at_source)(struct command *c, struct source *src));
void command_send_to_catalog(struct command *c, void (*run)(struct job *job, struct disk *d, struct run_cache *cache),
    void (*done)(struct job *job));

/* Any thread. To a worker, where c->at_worker runs. */
void command_send_to_worker(struct command *c, struct worker *w);

/* On the catalog thread: r, and c->err if that is negative, are the answer that done() begins with. */
void command_set_result(struct command *c, int r);
/* What done() may be: the answer is given; or c->at_source follows, if there was no error. */
void command_on_ran(struct job *job);
void command_tell_owner(struct job *job);

/* Owner. Less than 0: it was answered, for the store of the source cannot be used. */
int command_check_store(struct command *c, const struct source *src);
/* Owner. A job of the store has ended. True: it failed, and c was answered with what went wrong. */
bool command_job_failed(struct command *c, const struct store_job *job);

/* Owner. Of a change, before its answer, and before its event unless others follow from it: whoever hears of it, and
 * looks, finds it. */
void command_publish_source(struct command *c);

/* Any thread. It ends with this answer: text for people, or NULL for the text of the status. Sent: what is in c->answer
 * already. */
void command_finish(struct command *c, int status, const char *text);
void command_finish_ok(struct command *c, const char *text);
void command_send_answer(struct command *c);

#endif
