/* SPDX-License-Identifier: Apache-2.0 */
/* command.h: what the control sockets ask of a running server. Everything here is called on the main thread and
 * answered on the main thread, later, by the command's own callback: exactly once, never inside the call. Reads of
 * state do not come here: see status.h. */
#ifndef HF_SERVER_COMMAND_H
#define HF_SERVER_COMMAND_H

#include <jansson.h>

#include "server/config.h"
#include "server/status.h"

struct bundle;
struct server;

/* Answer of every command: status 0 or negative, text for people. pits/token as the verb says; borrowed for the call.
 */
struct command_answer {
	int status;
	char text[SENTENCE_BYTES];
	const struct pit *pits;
	size_t pit_count;
	const bool *going; /* plan: of each point */
	uint64_t total_bytes, freed_bytes;
	struct id token_id;
	char token[256]; /* once, in the answer of token create */
	int64_t expires_ns;
	json_t *kept; /* set template: all that is set of it now */
	const struct bundle *bundle;
	unsigned unknown;                      /* sources whose settings are not in the bundle */
	config_mask changed, restart_required; /* reload */
	bool certificate_changed;
};
typedef void command_done(void *arg, const struct command_answer *answer);

/* ---- points in time ---- */

/* A point by hand: asks the agent for a checkpoint now and waits until it is durable and kept (pits[0]), at most
 * timeout_ns; newest: takes the newest complete durable one instead. -HF_ENOPIT, -ETIMEDOUT, -ENOTCONN (agent not
 * connected; the text says --newest). */
void command_create_pit(struct server *sv, const struct id *source, const char *name, bool newest, int64_t timeout_ns,
    command_done *done, void *arg);
void command_change_pit(struct server *sv, const struct id *pit, enum store_pit_verb verb, command_done *done,
    void *arg); /* finds the source by the point's id */

/* ---- whom the server lets in ---- */

/* -EBUSY: enrolment is switched off. */
void command_create_token(
    struct server *sv, const struct id *bound_source /* or NULL */, int64_t lifetime_ns, command_done *done, void *arg);
void command_revoke_token(struct server *sv, const struct id *token, command_done *done, void *arg);
/* The server's own certificate; or a source's: its agent is asked for a new request, and answered by the event
 * certificate_renewed. -ENOTCONN: it is not connected. */
void command_renew_server(struct server *sv, command_done *done, void *arg);
void command_renew_source(struct server *sv, const struct id *source, command_done *done, void *arg);
/* See pki_rotate() and pki_retire(). Without force: -EBUSY while there are agents that need the old CA. */
void command_rotate_ca(struct server *sv, command_done *done, void *arg);
void command_retire_ca(struct server *sv, bool force, command_done *done, void *arg);

/* See identity_take(). */
void command_take_identity(struct server *sv, command_done *done, void *arg);
void command_adopt(struct server *sv, const struct id *source, command_done *done, void *arg);
void command_revoke_source(struct server *sv, const struct id *source, command_done *done,
    void *arg); /* certificates; cuts the live session */

/* ---- replication of a source, and its data ---- */

/* What is so already stays as it is: 0, and the text says that.
 * No agent is let in until it is started again; all its points stay. -EBUSY: it is being deleted; start: it is paused.
 */
void command_stop_source(struct server *sv, const struct id *source, command_done *done, void *arg);
void command_start_source(struct server *sv, const struct id *source, command_done *done, void *arg);

/* The same. Its agent stays connected, or may connect, but nothing is taken of it; or it goes on. -EBUSY: it is
 * stopped, or being deleted. */
void command_pause_source(struct server *sv, const struct id *source, bool paused, command_done *done, void *arg);

/* How fast it may be read, at once: replaces what it was. */
void command_set_throttle(
    struct server *sv, const struct id *source, const struct throttle *throttle, command_done *done, void *arg);

/* Answered when it is gone; its files go by and by after that. -EBUSY (and why): its agent is connected, or a point of
 * it is being exported. */
void command_delete_source(struct server *sv, const struct id *source, command_done *done, void *arg);

/* As source_delete_volume(). */
void command_delete_volume(
    struct server *sv, const struct id *source, const char *volume, bool with_points, command_done *done, void *arg);

/* Read all that is stored of it and compare it with its digests, now. -EBUSY: that is under way; cancel: -ENOENT: it is
 * not. Answered when it is begun, or given up. */
void command_scrub(struct server *sv, const struct id *source, bool cancel, command_done *done, void *arg);

/* Compare a volume (id or name; "" = all) with the source's disk: answered when it has begun; how it goes is in the
 * status (proof). As source_prove(). */
void command_verify(struct server *sv, const struct id *source, const char *volume, command_done *done, void *arg);

/* ---- what is kept of a source, and for how long ---- */

/* What is to be changed of a source's quota; the rest stays as it is. */
struct quota_change {
	bool has_quota, has_when_full;
	uint64_t quota_bytes; /* 0 = none */
	enum when_full when_full;
};
void command_set_quota(
    struct server *sv, const struct id *source, const struct quota_change *change, command_done *done, void *arg);

/* What is to be changed of a source's policy; the rest stays as it is. -EINVAL: the text names the rule or value. */
struct policy_change {
	bool has_rules, has_window, has_min_retention;
	struct policy policy;
};
void command_set_policy(
    struct server *sv, const struct id *source, const struct policy_change *change, command_done *done, void *arg);

/* What those rules would make of the kept points (pits, going), and free: see store_plan(). -EINVAL, -EAGAIN. */
void command_plan(
    struct server *sv, const struct id *source, const struct policy *rules, command_done *done, void *arg);

/* Stop all expiry of a source's points, or let it go on: see store_set_frozen(). */
void command_set_frozen(struct server *sv, const struct id *source, bool frozen, command_done *done, void *arg);

/* ---- settings, of a source and of those to come ---- */

/* Settings of a source, or of those to come (see settings.h): patch (shared; checked by settings_read()) is merged into
 * them. -EINVAL: together they are too many tags. */
void command_set_settings(struct server *sv, const struct id *source, json_t *patch, command_done *done, void *arg);
void command_set_template(struct server *sv, json_t *patch, command_done *done, void *arg);

#endif
