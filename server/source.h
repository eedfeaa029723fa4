/* SPDX-License-Identifier: Apache-2.0 */
/* source.h: what runs for one source on its worker, from the start of the process (or its enrolment) to the end: its
 * store, its current session, the jobs of the store, its compares, its requests for points, and what is published of
 * it.
 *
 * Unless said otherwise: on the thread of the source's worker. */
#ifndef HF_SERVER_SOURCE_H
#define HF_SERVER_SOURCE_H

#include "server/command.h"
#include "server/mailbox.h"
#include "server/registry.h"

struct session;
struct source;
struct store;
struct store_job;
struct view;

/* Any thread that may wait for the registry. Hand a source to its owner, which opens its store; one that is there
 * already is left alone. -ENOMEM. */
int source_start(struct server *sv, const struct registry_source *facts);

/* Any thread. The agent was refused at the door: state, error and cure of the source say so from now on, until it is
 * let in (or adopted). */
void source_note_refusal(struct server *sv, const struct id *source, int status, const char *text, const char *cure);

/* Any thread. The agent was let in, and says this of its machine: it may have been renamed, or upgraded. */
void source_note_hints(struct server *sv, const struct id *source, const struct message_hints *hints);

/* Say goodbye, flush, close; the worker hears when it is gone. */
void source_shutdown(struct source *src);

/* ---- its session ---- */

/* A session that was admitted: it is welcomed when the store is open and the frames of an older session are through;
 * that one is fenced. */
void source_queue_session(struct source *src, struct session *s);
void source_leave(struct source *src, struct session *s, int status); /* the session is ending, and why */
void source_flush(struct source *src);                                /* nothing more to read just now */
void source_output_drained(struct source *src);                       /* the session's answers have gone out */

/* What its agent is to do with disks that appear. */
enum new_disks_wish source_new_disks(const struct source *src);

/* Its settings were changed. Takes tags (a JSON object; NULL: none). */
void source_set_settings(struct source *src, const struct source_settings *settings, char *tags);

/* End the live session and whatever was admitted up to now: its certificates are revoked; replication is stopped. */
void source_revoke(struct source *src, uint64_t admit_number);
void source_stop(struct source *src, uint64_t admit_number, int64_t now_ns);
void source_pause(struct source *src, int64_t now_ns);      /* nothing is taken of its agent */
void source_set_active(struct source *src, int64_t now_ns); /* the agent is let in again, and replication goes on */
bool source_is_paused(const struct source *src);
bool source_gives_way(const struct source *src); /* to one that is late: its agent may send less */
bool source_is_held(
    struct source *src); /* its agent is to send nothing now: it is paused, or has given way too little */
void source_adopted(struct source *src); /* a refusal as a clone is forgiven */

/* ---- deleting it ---- */

/* Everything of it goes: first whoever uses it, then its folder and its rows. done(arg, status, text) exactly once: 0
 * when it is gone (src too), or why it was not begun (-EBUSY: the agent is connected, an export runs) or cannot go on
 * now (it is tried again). text borrowed. */
typedef void source_deleted_done(void *arg, int status, const char *text);
void source_delete(struct source *src, source_deleted_done *done, void *arg);

/* Delete a volume that is no longer declared, as store_delete_volume(). Unless that is refused the store is closed for
 * it: the agent is sent away, and let in again at once. done(arg, status, text) exactly once, perhaps inside the call.
 */
void source_delete_volume(
    struct source *src, const char *volume, bool with_points, source_deleted_done *done, void *arg);

/* ---- what its session does ---- */
struct message_checkpoint;
struct message_compare;
struct message_declare;
struct message_heartbeat;
struct message_report;

struct store *source_store(struct source *src);
uint64_t source_window(const struct source *src, uint64_t most); /* bytes that its agent may have on their way */
uint64_t source_durable_sequence(const struct source *src);      /* of the stream begun */
int source_request_renewal(struct source *src);                  /* of its agent\'s certificate, now; -ENOTCONN */
void source_renewed(struct source *src, int64_t not_after_ns);
int source_declare(struct source *src,
    const struct message_declare *m); /* -EAGAIN: one is under way; answered by the session's VOLUMES */
int source_start_stream(struct source *src, uint64_t stream_id, bool resume);
int source_checkpoint(struct source *src, uint64_t sequence, uint64_t chain,
    const struct message_checkpoint *m); /* as store_checkpoint() */
int source_compare(struct source *src, const struct message_compare *m);
void source_heartbeat(struct source *src, const struct message_heartbeat *m);
void source_report(struct source *src, const struct message_report *m);
void source_notice(struct source *src, const char *event, const char *text); /* becomes an event: AGENT_EVENTS_MAX */
void source_fetched(struct source *src, int status, const void *block);      /* answer to session_send_fetch() */
void source_received(struct source *src, uint64_t sequence, uint64_t payload_bytes); /* a data frame is queued */

/* How long its session may read nothing, because of a throttle: 0, or ns. *bytes, what it would read, becomes no more
 * than it may. */
int64_t source_read_wait(struct source *src, size_t *bytes);
void source_read(struct source *src, size_t bytes); /* so many were */
void source_set_throttle(struct source *src, const struct throttle *t);

/* ---- comparing it with the staging area, on demand ---- */

/* Begin a verification of a volume (id or name; "" = all). 0: it runs, as the status says from now on; -ENOTCONN,
 * -HF_EINCOMPLETE, -HF_EVOLUME, -HF_EIDENTITY (a disk cannot be read), -EBUSY (another one runs), -ENOMEM: ret_text
 * (SENTENCE_BYTES) says why. */
int source_prove(struct source *src, const char *volume, char *ret_text);

/* ---- turn and tick ---- */
void source_touch(struct source *src);
void source_turn_end(struct source *src);
void source_tick(struct source *src, int64_t now_ns, bool second); /* monotonic; second: once a second */

/* ---- for commands and exports ---- */

/* Run a job of the store on the catalog thread, then finished(arg, job) here; the job is destroyed after that. 0,
 * -ENOMEM (job NULL), or what keeps the store from being used; then finished() never runs. */
typedef void source_job_finished(void *arg, struct store_job *job);
int source_run_job(struct source *src, struct store_job *job, source_job_finished *finished, void *arg);

/* An export begins, or has ended: the source is not deleted under it. */
void source_export_begins(struct source *src);
void source_export_ends(struct source *src);

/* While the store is being opened: keep mail and deliver it again when that is over. False: it is not, go on. */
bool source_wait_open(struct source *src, struct mail *mail);

/* Why the store cannot be used now: 0 if it can. Text, unless 0; borrowed. */
int source_status(const struct source *src, const char **ret_text);

/* A view, and giving it back: the source waits for it before it closes. */
int source_view(struct source *src, uint64_t lsn, struct view **ret_view);
void source_view_release(struct source *src, struct view *v);

/* Any thread. A read found a block wrong: it is looked at soon. */
void source_suspect(struct server *sv, const struct id *source, uint32_t volume, uint64_t block);

/* Keep the checkpoint at lsn as a point of this name ("" = none); as source_run_job(). -EEXIST (ret_text says under
 * which name): it has another name already, for one checkpoint is one point. */
int source_keep_point(
    struct source *src, uint64_t lsn, const char *name, source_job_finished *finished, void *arg, char *ret_text);

/* Ask for a checkpoint that becomes a kept point; the agent of a session whose stream has yet to start is asked when it
 * does. done(arg, status, text, lsn) exactly once. text borrowed. */
typedef void source_pit_done(void *arg, int status, const char *text, uint64_t lsn);
void source_request_pit(struct source *src, const char *name, int64_t deadline_ns, source_pit_done *done, void *arg);

#endif
