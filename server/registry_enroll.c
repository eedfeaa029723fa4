/* SPDX-License-Identifier: Apache-2.0 */
#include "server/registry_impl.h"

#include <errno.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"

/* ---- tokens ---- */

#define SELECT_TOKEN "SELECT id, hash, created_ns, expires_ns, used_ns, source, revoked FROM token "

static int
read_token(sqlite3_stmt *row, void *ret_item)
{
	struct registry_token *token = ret_item;

	if (registry_read_id(row, 0, &token->id) < 0 || sql_get_blob(row, 1, token->hash, TOKEN_HASH_BYTES) < 0 ||
	    registry_read_id(row, 5, &token->source) < 0)
		return -HF_ECORRUPT;
	token->created_ns = sqlite3_column_int64(row, 2);
	token->expires_ns = sqlite3_column_int64(row, 3);
	token->used_ns = sqlite3_column_int64(row, 4);
	token->revoked = sqlite3_column_int64(row, 6) != 0;
	return 0;
}

int
registry_put_token(struct registry *r, const struct registry_token *token, struct hf_error *err)
{
	struct registry_source source;
	HOLD(r);
	int status = token->source.text[0] == '\0' ? 0 : registry_find_lasting(&r->sql, &token->source, &source, err);

	if (status == 0)
		status = sql_run(&r->sql, err,
		    "INSERT INTO token (id, hash, created_ns, expires_ns, used_ns, source, "
		    "revoked) VALUES (?, ?, ?, ?, ?, ?, ?)",
		    "tbiiiti", token->id.text, token->hash, (size_t)TOKEN_HASH_BYTES, token->created_ns,
		    token->expires_ns, token->used_ns, token->source.text, (int64_t)token->revoked);
	return status < 0 ? status : 0;
}

int
registry_list_tokens(struct registry *r, struct registry_token **ret_tokens, size_t *ret_count, struct hf_error *err)
{
	sqlite3_stmt *statement;
	HOLD(r);
	int status = sql_query(&r->sql, &statement, err, SELECT_TOKEN "ORDER BY created_ns, id", "");

	if (status < 0)
		return status;
	return registry_collect(&r->sql, statement, sizeof **ret_tokens, read_token, ret_tokens, ret_count, err);
}

int
registry_revoke_token(struct registry *r, const struct id *id, struct hf_error *err)
{
	HOLD(r);

	return registry_found(
	    sql_run(&r->sql, err, "UPDATE token SET revoked = 1 WHERE id = ?", "t", id->text), "token", id, err);
}

int
registry_revoke_unused_tokens(struct registry *r, struct hf_error *err)
{
	HOLD(r);
	int status = sql_run(&r->sql, err, "UPDATE token SET revoked = 1 WHERE used_ns = 0", "");

	return status < 0 ? status : 0;
}

static int
check_token(const struct registry_token *token, int64_t now_ns, struct hf_error *err)
{
	char when[UNITS_TEXT_BYTES];

	if (token->used_ns != 0)
		return hf_error_say(err, -HF_ETOKEN, "token %s was used at %s; a token is good for one machine",
		    token->id.text, time_format(token->used_ns, when));
	if (token->revoked)
		return hf_error_say(err, -HF_ETOKEN, "token %s was revoked", token->id.text);
	if (now_ns >= token->expires_ns)
		return hf_error_say(
		    err, -HF_ETOKEN, "token %s expired at %s", token->id.text, time_format(token->expires_ns, when));
	return 0;
}

static int
find_token(struct sql *s, const unsigned char *hash, struct registry_token *ret_token, struct hf_error *err)
{
	sqlite3_stmt *statement;
	int r = sql_query(s, &statement, err, SELECT_TOKEN "WHERE hash = ?", "b", hash, (size_t)TOKEN_HASH_BYTES);

	if (r == 0)
		r = registry_read_row(s, statement, read_token, ret_token, err);
	if (r == -ENOENT)
		return hf_error_say(err, -HF_ETOKEN, "no such token here");
	return r;
}

/* ---- certificates ---- */

static int
put_certificate(struct sql *s, const struct registry_certificate *c, struct hf_error *err)
{
	int r = sql_run(s, err,
	    "INSERT INTO certificate (fingerprint, source, not_before_ns, not_after_ns, revoked, serial, issuer) "
	    "VALUES (?, ?, ?, ?, ?, ?, ?)",
	    "btiiitt", c->fingerprint, (size_t)FINGERPRINT_BYTES, c->source.text, c->not_before_ns, c->not_after_ns,
	    (int64_t)c->revoked, c->serial, c->issuer);

	return r < 0 ? r : 0;
}

int
registry_put_certificate(struct registry *r, const struct registry_certificate *certificate, struct hf_error *err)
{
	HOLD(r);

	return put_certificate(&r->sql, certificate, err);
}

static int
read_certificate(sqlite3_stmt *row, void *ret_item)
{
	struct registry_certificate *c = ret_item;

	if (sql_get_blob(row, 0, c->fingerprint, FINGERPRINT_BYTES) < 0 || registry_read_id(row, 1, &c->source) < 0)
		return -HF_ECORRUPT;
	c->not_before_ns = sqlite3_column_int64(row, 2);
	c->not_after_ns = sqlite3_column_int64(row, 3);
	c->revoked = sqlite3_column_int64(row, 4) != 0;
	c->used_ns = sqlite3_column_int64(row, 7);
	if (sql_get_text(row, 5, c->serial, sizeof c->serial) < 0 ||
	    sql_get_text(row, 6, c->issuer, sizeof c->issuer) < 0)
		return -HF_ECORRUPT;
	return 0;
}

#define SELECT_CERTIFICATE                                                                                \
	"SELECT fingerprint, source, not_before_ns, not_after_ns, revoked, serial, issuer, used_ns FROM " \
	"certificate "

int
registry_find_certificate(struct registry *r, const unsigned char *fingerprint,
    struct registry_certificate *ret_certificate, struct hf_error *err)
{
	struct registry_certificate c = {0};
	sqlite3_stmt *statement;
	HOLD(r);
	int status = sql_query(&r->sql, &statement, err, SELECT_CERTIFICATE "WHERE fingerprint = ?", "b", fingerprint,
	    (size_t)FINGERPRINT_BYTES);

	if (status == 0)
		status = registry_read_row(&r->sql, statement, read_certificate, &c, err);
	if (status == -ENOENT)
		return hf_error_say(err, -ENOENT, "the certificate is not one this server has on record");
	if (status == 0 && c.revoked)
		return hf_error_say(err, -HF_EREVOKED, "the certificate of source %s is revoked", c.source.text);
	if (status == 0)
		*ret_certificate = c;
	return status;
}

int
registry_list_certificates(struct registry *r, int64_t now_ns, struct registry_certificate **ret_certificates,
    size_t *ret_count, struct hf_error *err)
{
	sqlite3_stmt *statement;
	HOLD(r);
	int status = sql_query(&r->sql, &statement, err,
	    SELECT_CERTIFICATE
	    "AS c WHERE not_after_ns > ? OR not_before_ns = (SELECT max(not_before_ns) FROM certificate "
	    "WHERE source = c.source) ORDER BY source, not_before_ns, rowid",
	    "i", now_ns);

	if (status < 0)
		return status;
	return registry_collect(
	    &r->sql, statement, sizeof **ret_certificates, read_certificate, ret_certificates, ret_count, err);
}

int
registry_use_certificate(struct registry *r, const unsigned char *fingerprint, int64_t now_ns, struct hf_error *err)
{
	HOLD(r);
	int status = sql_run(&r->sql, err, "UPDATE certificate SET used_ns = ? WHERE fingerprint = ? AND used_ns = 0",
	    "ib", now_ns, fingerprint, (size_t)FINGERPRINT_BYTES);

	return status < 0 ? status : 0;
}

int
registry_revoke_source(struct registry *r, const struct id *source, struct hf_error *err)
{
	struct registry_source known;
	HOLD(r);
	int status = registry_find_source(&r->sql, source, &known, err);

	if (status == 0)
		status =
		    sql_run(&r->sql, err, "UPDATE certificate SET revoked = 1 WHERE source = ?", "t", source->text);
	return status < 0 ? status : 0;
}

/* ---- enrolment ---- */

struct enrolment {
	const unsigned char *token_hash, *nonce;
	int64_t now_ns;
	const struct message_hints *hints;
	int (*sign)(
	    void *arg, const struct id *source, struct registry_certificate *ret_certificate, struct hf_error *err);
	void *arg;
	struct id source;
};

static int
add_source(struct sql *s, const struct enrolment *e, struct hf_error *err)
{
	int r = sql_run(s, err,
	    "INSERT INTO source (id, created_ns, nonce, settings, throttle_mbps) VALUES (?, ?, ?, "
	    "coalesce((SELECT value FROM setting WHERE key = '" REGISTRY_NEW_SOURCE "'), '{}'), "
	    "coalesce((SELECT json_extract(value, '$.bandwidthThrottling') FROM setting WHERE key = "
	    "'" REGISTRY_NEW_STORE "'), 0))",
	    "tib", e->source.text, e->now_ns, e->nonce, (size_t)NONCE_BYTES);

	return r < 0 ? r : 0;
}

/* A known source on new hardware, or with a new certificate: the person who made the token vouches
 * for it. */
static int
move_source(struct sql *s, const struct enrolment *e, struct hf_error *err)
{
	struct registry_source old;
	int r = registry_find_source(s, &e->source, &old, err);

	if (r < 0)
		return r;
	if (memcmp(old.installation_nonce, e->nonce, NONCE_BYTES) != 0)
		old.incarnation = 0;
	r = sql_run(s, err, "UPDATE source SET nonce = ?, incarnation = ?, adopt_next = 0 WHERE id = ?", "but",
	    e->nonce, (size_t)NONCE_BYTES, old.incarnation, e->source.text);
	return r < 0 ? r : 0;
}

static int
use_token(struct sql *s, const struct enrolment *e, const struct registry_token *token, struct hf_error *err)
{
	int r = sql_run(s, err, "UPDATE token SET used_ns = ?, source = ? WHERE id = ?", "itt", e->now_ns,
	    e->source.text, token->id.text);

	return r < 0 ? r : 0;
}

static int
certify(struct sql *s, const struct enrolment *e, struct hf_error *err)
{
	struct registry_certificate certificate = {0};
	int r = e->sign(e->arg, &e->source, &certificate, err);

	if (r < 0)
		return r;
	certificate.source = e->source;
	return put_certificate(s, &certificate, err);
}

static int
enroll(struct sql *s, struct enrolment *e, struct hf_error *err)
{
	struct registry_token token = {0};
	bool bound;
	int r = find_token(s, e->token_hash, &token, err);

	if (r == 0)
		r = check_token(&token, e->now_ns, err);
	if (r < 0)
		return r;
	bound = token.source.text[0] != '\0';
	if (bound)
		e->source = token.source;
	r = bound ? move_source(s, e, err) : add_source(s, e, err);
	if (r == 0)
		r = registry_store_hints(s, &e->source, e->hints, err);
	if (r >= 0)
		r = use_token(s, e, &token, err);
	return r < 0 ? r : certify(s, e, err);
}

int
registry_enroll(struct registry *r, const unsigned char *token_hash, int64_t now_ns, const struct id *new_source,
    const unsigned char *nonce, const struct message_hints *hints,
    int (*sign)(void *arg, const struct id *source, struct registry_certificate *ret_certificate, struct hf_error *err),
    void *arg, struct id *ret_source, struct hf_error *err)
{
	struct enrolment e = {.token_hash = token_hash,
	    .nonce = nonce,
	    .now_ns = now_ns,
	    .hints = hints,
	    .sign = sign,
	    .arg = arg,
	    .source = *new_source};
	HOLD(r);
	int status = sql_begin(&r->sql, err);

	if (status == 0)
		status = sql_end(&r->sql, enroll(&r->sql, &e, err), err);
	if (status == 0)
		*ret_source = e.source;
	return status;
}
