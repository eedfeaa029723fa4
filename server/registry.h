/* SPDX-License-Identifier: Apache-2.0 */
/* registry.h: <data>/holdfast.db: sources, certificates, tokens, settings, events, audit. SQLite
 * (WAL, synchronous=FULL, one connection, locking_mode=EXCLUSIVE). Every call blocks and takes the
 * registry's own mutex: never from a worker. Each change is one transaction, durable when the call
 * returns. */
#ifndef HF_SERVER_REGISTRY_H
#define HF_SERVER_REGISTRY_H

#include "proto/common/error.h"
#include "proto/message.h"
#include "server/throttle.h"

struct registry;

enum {
	FINGERPRINT_BYTES = 32,
	FINGERPRINT_TEXT_BYTES = 2 * FINGERPRINT_BYTES + 1,
	SERIAL_TEXT_BYTES = 41, /* of a certificate: 20 bytes are the most RFC 5280 allows */
	TOKEN_HASH_BYTES = 32,
};

/* create: make it if it is not there. */
int registry_open(const char *path, bool create, struct registry **ret_registry, struct hf_error *err);
void registry_close(struct registry *r); /* NULL allowed */

/* As registry_open() of one that was made before. One that is damaged or gone is replaced by its copy
 * (storage/db_copy.h), and kept aside; ret_repair says so for people ("" else). Without a copy: -HF_ECORRUPT, and what
 * to do. */
int registry_open_or_replace(const char *path, int64_t now_ns, struct registry **ret_registry, char *ret_repair,
    size_t size, struct hf_error *err);

/* Write its copy anew, if anything but events and audit changed since the last time. */
int registry_write_copy(struct registry *r, struct hf_error *err);

/* ---- sources ---- */
enum registry_phase {
	PHASE_ACTIVE,
	PHASE_STOPPED,  /* `source stop`: nobody is let in */
	PHASE_DELETING, /* `source delete` was begun, and is gone on with until nothing is left; nobody is let in */
	PHASE_PAUSED,   /* `source pause`: its agent is let in, and nothing is taken of it */
};

struct registry_source {
	struct id id;
	enum registry_phase phase;
	int64_t phase_ns;                                /* since when; 0 = not known */
	int64_t created_ns, last_seen_ns, first_byte_ns; /* 0 = never */
	int64_t certificate_expires_ns;                  /* the last one to, of those that are not revoked; 0 = none */
	unsigned char installation_nonce[NONCE_BYTES];
	uint64_t incarnation; /* highest seen */
	bool adopt_next;      /* `source adopt`: accept whatever installation comes next, once */
	struct message_hints hints;
	char label[NAME_BYTES];
	struct throttle throttle;
};
int registry_list_sources(
    struct registry *r, struct registry_source **ret_sources, size_t *ret_count, struct hf_error *err);
/* How many there are but for those being deleted, and when the first of them that came after since_ns was made; 0 =
 * none came. */
int registry_count_sources(
    struct registry *r, int64_t since_ns, size_t *ret_count, int64_t *ret_first_ns, struct hf_error *err);
int registry_get_source(
    struct registry *r, const struct id *id, struct registry_source *ret_source, struct hf_error *err); /* -ENOENT */

/* A session says Hello: check nonce and incarnation and store them, in one transaction. The same
 * nonce with an incarnation not below the highest seen is let in: an equal one is the same process
 * connecting again. A lower incarnation or another nonce is a clone, unless adopt_next: then
 * whatever comes is taken, and adopt_next cleared. 0, -HF_ECLONE, -HF_ESTOPPED, -ENOENT. */
int registry_admit(struct registry *r, const struct id *source, const unsigned char *nonce, uint64_t incarnation,
    const struct message_hints *hints, int64_t now_ns, struct hf_error *err);
int registry_adopt(struct registry *r, const struct id *source, struct hf_error *err); /* -ENOENT */

/* Since now_ns. Returns 1, or 0: it is that already, and nothing has changed. DELETING revokes all its certificates,
 * and the tokens made for it, in the same transaction, and is for ever. -ENOENT; -EBUSY: it is being deleted, or is to
 * be PAUSED and is STOPPED. */
int registry_set_phase(
    struct registry *r, const struct id *source, enum registry_phase phase, int64_t now_ns, struct hf_error *err);
/* ACTIVE again, if it is PAUSED, or STOPPED, as phase says. Returns 1, or 0: it is ACTIVE already. -ENOENT; -EBUSY: it
 * is the other, or being deleted. */
int registry_end_phase(
    struct registry *r, const struct id *source, enum registry_phase phase, int64_t now_ns, struct hf_error *err);
int registry_set_throttle(
    struct registry *r, const struct id *source, const struct throttle *t, struct hf_error *err); /* -ENOENT */

/* What is true of many at once, in one transaction: when each was heard last, and when its first byte came. A source
 * that is gone meanwhile is left out. No reason for another copy. */
struct registry_sighting {
	struct id source;
	int64_t last_seen_ns, first_byte_ns;
};
int registry_put_sightings(
    struct registry *r, const struct registry_sighting *list, size_t count, struct hf_error *err);

/* A source that is DELETING: its row, its certificates and its tokens go. Events and audit stay. -ENOENT. */
int registry_delete_source(struct registry *r, const struct id *source, struct hf_error *err);

/* ---- tokens ---- */
struct registry_token {
	struct id id;                            /* tok- */
	unsigned char hash[TOKEN_HASH_BYTES];    /* SHA-256 of the secret; the secret itself is nowhere stored */
	int64_t created_ns, expires_ns, used_ns; /* used 0 = not yet */
	struct id source;                        /* bound to, or "" ; after use: the source it made */
	bool revoked;
};
int registry_put_token(struct registry *r, const struct registry_token *token,
    struct hf_error *err); /* -ENOENT: bound to no source of ours; -EBUSY: to one that is being deleted */
int registry_list_tokens(
    struct registry *r, struct registry_token **ret_tokens, size_t *ret_count, struct hf_error *err);
int registry_revoke_token(struct registry *r, const struct id *id, struct hf_error *err); /* -ENOENT */
int registry_revoke_unused_tokens(struct registry *r, struct hf_error *err);

/* ---- certificates: this list, not a CRL, is the authority ---- */
struct registry_certificate {
	unsigned char fingerprint[FINGERPRINT_BYTES]; /* SHA-256 of the DER */
	struct id source;
	int64_t not_before_ns, not_after_ns;
	bool revoked;
	/* Hexadecimal; issuer is the fingerprint of the CA. "" = of before version 3 of the registry. */
	char serial[SERIAL_TEXT_BYTES], issuer[FINGERPRINT_TEXT_BYTES];
	int64_t used_ns; /* when a session first showed it; 0 = not yet, or before version 3 */
};
/* Use a token and record the certificate it paid for, in one transaction; makes the source when the
 * token is not bound (the caller offers a new id; ret_source says which it became). A bound token
 * takes nonce and hints of the newcomer: an installation with another nonce starts at incarnation
 * 0. sign() is called inside the transaction, once the token is known to be good, to make the
 * certificate; when it fails, its status is returned and nothing has changed: the token is as good
 * as before. It must not call the registry. -HF_ETOKEN. */
int registry_enroll(struct registry *r, const unsigned char *token_hash, int64_t now_ns, const struct id *new_source,
    const unsigned char *nonce, const struct message_hints *hints,
    int (*sign)(void *arg, const struct id *source, struct registry_certificate *ret_certificate, struct hf_error *err),
    void *arg, struct id *ret_source, struct hf_error *err);
int registry_put_certificate(struct registry *r, const struct registry_certificate *certificate, struct hf_error *err);
/* 0 and *ret; -ENOENT unknown, -HF_EREVOKED. Whether it has expired is not looked at. */
int registry_find_certificate(struct registry *r, const unsigned char *fingerprint,
    struct registry_certificate *ret_certificate, struct hf_error *err);
/* Those that have not expired, and of every source the newest: by source, the newest last. */
int registry_list_certificates(struct registry *r, int64_t now_ns, struct registry_certificate **ret_certificates,
    size_t *ret_count, struct hf_error *err);
/* A session was let in with it; only the first time counts. */
int registry_use_certificate(
    struct registry *r, const unsigned char *fingerprint, int64_t now_ns, struct hf_error *err);
int registry_revoke_source(
    struct registry *r, const struct id *source, struct hf_error *err); /* all its certificates; -ENOENT */

/* ---- events and audit ---- */
struct registry_event {
	uint64_t number; /* ever growing */
	int64_t time_ns;
	struct id source; /* "" = the server itself */
	char event[NAME_BYTES], text[SENTENCE_BYTES];
};
int registry_add_event(struct registry *r, struct registry_event *event,
    struct hf_error *err); /* number is filled in; old ones beyond 100,000 go */
/* Up to max events after a number, oldest first. */
int registry_list_events(struct registry *r, uint64_t after, size_t max, struct registry_event **ret_events,
    size_t *ret_count, struct hf_error *err);

enum { AUDIT_OBJECT_BYTES = 256, AUDIT_DIGEST_BYTES = 32 };

/* Who asked for what; and, as a row of its own with the same request, what came of it. Rows are added, never changed;
 * see audit.h for their chain. */
struct registry_audit {
	uint64_t number; /* from 1, without gaps */
	int64_t time_ns;
	unsigned uid;
	int pid;
	uint64_t request;        /* random; 0 in rows from before there were results */
	char result[NAME_BYTES]; /* "" = asked; "OK", or the name of a status */
	char verb[NAME_BYTES], object[AUDIT_OBJECT_BYTES];
	bool chained; /* digest is one; false in rows from before there was a chain */
	unsigned char digest[AUDIT_DIGEST_BYTES];
};
int registry_add_audit(
    struct registry *r, struct registry_audit *audit, struct hf_error *err); /* number and digest are filled in */
/* The newest `max` rows with a number between after and before (neither is given), in their order. */
int registry_list_audit(struct registry *r, uint64_t after, uint64_t before, size_t max,
    struct registry_audit **ret_rows, size_t *ret_count, struct hf_error *err);
/* Number (0 = there is none) and digest (AUDIT_DIGEST_BYTES) of the row that was added last. */
int registry_get_audit_head(struct registry *r, uint64_t *ret_number, unsigned char *ret_digest, struct hf_error *err);

/* ---- settings ---- */
int registry_get_setting(struct registry *r, const char *key, char *ret_value, size_t size); /* -ENOENT */
int registry_set_setting(struct registry *r, const char *key, const char *value, struct hf_error *err);

/* What a new source begins with (JSON, see settings.h): its row is given a copy of the first by registry_enroll(),
 * and the throttle of the second, whose rest is for its catalog. registry_get_setting() gives them. */
#define REGISTRY_NEW_SOURCE "new_source"
#define REGISTRY_NEW_STORE  "new_store"
int registry_set_template(struct registry *r, const char *of_source, const char *of_store, struct hf_error *err);

/* Of one source; "{}" at first. -ENOENT. */
int registry_get_source_settings(struct registry *r, const struct id *source, char *ret_text, size_t size);
int registry_set_source_settings(struct registry *r, const struct id *source, const char *text, struct hf_error *err);

#endif
