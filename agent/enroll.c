/* SPDX-License-Identifier: Apache-2.0 */
/* enroll.c: the enrolment, in this order:
 *
 *	1. everything that can be wrong here: token, addresses, state directory, choice of volumes
 *	2. TLS to the server; it must prove to be under the CA whose fingerprint the token carries
 *	3. ENROLL -> ENROLLED
 *	4. key, certificate and CA are stored, agent.json last: with it we are enrolled
 *
 * The token works once, and whatever fails before 3 leaves it unused. Nothing is written before the
 * server answered. */
#include "agent/enroll.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#include "agent/address.h"
#include "agent/choose.h"
#include "agent/hints.h"
#include "agent/json_text.h"
#include "agent/say.h"
#include "agent/state.h"
#include "agent/wire.h"
#include "proto/common/hex.h"
#include "proto/common/status.h"
#include "proto/common/terminal.h"
#include "proto/common/units.h"

#define ENROLL_TIMEOUT_NS (10 * NS_PER_SECOND) /* the server's own limit */

/* ---- the token ---- */

/* RFC 4648, lower case, no padding; 32 characters make exactly 20 bytes. */
static bool
parse_base32(const char *text, unsigned char *ret_bytes)
{
	static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
	uint64_t bits = 0;

	for (int i = 0; i < TOKEN_SECRET_BYTES * 8 / 5; i++) {
		const char *c = text[i] != '\0' ? strchr(alphabet, text[i]) : NULL;

		if (c == NULL)
			return false;
		bits = bits << 5 | (uint64_t)(c - alphabet);
		if (i % 8 == 7)
			for (int j = 0; j < 5; j++)
				ret_bytes[i / 8 * 5 + j] = (unsigned char)(bits >> (32 - 8 * j));
	}
	return true;
}

int
token_parse(const char *text, struct token *ret_token, struct hf_error *err)
{
	enum { SECRET_AT = 4, SECRET_LEN = TOKEN_SECRET_BYTES * 8 / 5, DOT_AT = SECRET_AT + SECRET_LEN };
	struct token t = {0};

	if (strncmp(text, "hf1.", SECRET_AT) != 0 || strlen(text) != DOT_AT + 1 + 2 * TLS_FINGERPRINT_BYTES ||
	    text[DOT_AT] != '.' || !parse_base32(text + SECRET_AT, t.secret) ||
	    !hex_parse(text + DOT_AT + 1, t.fingerprint, sizeof t.fingerprint))
		return hf_error_say(err, -EINVAL,
		    "this is not a token; paste the whole line that 'holdfastctl token create' "
		    "printed");
	*ret_token = t;
	return 0;
}

/* ---- the exchange with one server ---- */

static int
wire_failure(struct wire *w, struct hf_error *err)
{
	*err = *wire_error(w);
	return err->code;
}

static int
shake(struct wire *w, int64_t deadline_ns, struct hf_error *err)
{
	for (;;) {
		switch (wire_shake(w)) {
		case WIRE_DONE: return 0;
		case WIRE_DEAD: return wire_failure(w, err);
		case WIRE_WAIT: break;
		}
		if (clock_monotonic_ns() >= deadline_ns)
			return hf_error_set(err, -ETIMEDOUT, "connect");
		wire_poll(w, -1, deadline_ns);
	}
}

static int
send_all(struct wire *w, const unsigned char *bytes, size_t len, int64_t deadline_ns, struct hf_error *err)
{
	while (len > 0) {
		size_t n = 0;

		switch (wire_write(w, bytes, len, &n)) {
		case WIRE_DONE: break;
		case WIRE_DEAD: return wire_failure(w, err);
		case WIRE_WAIT: wire_poll(w, -1, deadline_ns); break;
		}
		if (clock_monotonic_ns() >= deadline_ns)
			return hf_error_set(err, -ETIMEDOUT, "send the request");
		bytes += n;
		len -= n;
	}
	return 0;
}

static int
read_answer(struct wire *w, struct wire_frame *ret_frame, int64_t deadline_ns, struct hf_error *err)
{
	for (;;) {
		switch (wire_read(w, ret_frame)) {
		case WIRE_DONE: return 0;
		case WIRE_DEAD: return wire_failure(w, err);
		case WIRE_WAIT: break;
		}
		if (clock_monotonic_ns() >= deadline_ns)
			return hf_error_set(err, -ETIMEDOUT, "wait for the server's answer");
		wire_poll(w, -1, deadline_ns);
	}
}

static int
refusal(const struct wire_frame *f, struct hf_error *err)
{
	struct message_goodbye m;
	int r = message_goodbye_decode(f->message, f->header.message_bytes, &m);

	if (r < 0)
		return hf_error_set(err, r, "the server's answer");
	return hf_error_say(err, m.status < 0 ? m.status : -HF_EPROTOCOL, "the server refused: %s%s%s",
	    m.text[0] != '\0' ? m.text : hf_status_text(m.status), m.cure[0] != '\0' ? "; to cure it: " : "", m.cure);
}

static int
understand_answer(
    const struct wire_frame *f, const struct token *token, struct message_enrolled *ret_answer, struct hf_error *err)
{
	unsigned char fingerprint[EVP_MAX_MD_SIZE];
	int r;

	if (f->header.type == FRAME_GOODBYE)
		return refusal(f, err);
	if (f->header.type != FRAME_ENROLLED)
		return hf_error_say(err, -HF_EPROTOCOL, "the server answered with %s", frame_type_name(f->header.type));
	r = message_enrolled_decode(f->message, f->header.message_bytes, ret_answer);
	if (r < 0)
		return hf_error_set(err, r, "the server's answer");
	tls_fingerprint(&ret_answer->ca_certificate, fingerprint);
	if (memcmp(fingerprint, token->fingerprint, TLS_FINGERPRINT_BYTES) != 0)
		return hf_error_say(err, -HF_EPROTOCOL, "the server sent another CA than the token names");
	return 0;
}

static int
exchange(struct wire *w, const struct message_enroll *request, const struct token *token,
    struct message_enrolled *ret_answer, struct hf_error *err)
{
	static unsigned char bytes[FRAME_HEADER_BYTES + FRAME_MESSAGE_MAX];
	int64_t deadline_ns = clock_monotonic_ns() + ENROLL_TIMEOUT_NS;
	struct frame_header h = {.type = FRAME_ENROLL};
	struct wire_frame f;
	int r = shake(w, deadline_ns, err);

	if (r < 0)
		return r;
	h.message_bytes = (uint32_t)message_enroll_encode(request, bytes + FRAME_HEADER_BYTES, FRAME_MESSAGE_MAX);
	frame_header_encode(&h, bytes);
	r = send_all(w, bytes, FRAME_HEADER_BYTES + h.message_bytes, deadline_ns, err);
	if (r == 0)
		r = read_answer(w, &f, deadline_ns, err);
	return r < 0 ? r : understand_answer(&f, token, ret_answer, err);
}

/* Whether another address may be tried: not after the server itself has spoken. */
static bool
was_refused(int code)
{
	return -code >= HF_EPROTOCOL && code != -HF_EREVOKED;
}

/* ---- all servers in turn ---- */

struct enrollment {
	struct token token;
	struct address servers[STATE_SERVERS_MAX];
	size_t server_count;
	struct message_enroll request;
	struct message_enrolled answer;
	EVP_PKEY *key;
	bool unreached; /* no server could be asked */
};

static int
ask_server(struct enrollment *e, const struct address *server, SSL_CTX *context, struct hf_error *err)
{
	struct address_resolved to[ADDRESS_RESOLVED_MAX];
	int n = address_resolve(server, to, err), r = n;

	for (int i = 0; i < n; i++) {
		struct wire *w;

		r = wire_open(&to[i], context, 0, &w, err);
		if (r < 0)
			continue;
		r = exchange(w, &e->request, &e->token, &e->answer, err);
		wire_close(w);
		if (r == -EACCES)
			r = hf_error_say(err, r,
			    "this server's CA is not the one the token names: the token is of another server, or "
			    "somebody is "
			    "in between; nothing was sent");
		if (r == 0 || was_refused(r))
			return r;
	}
	return r;
}

static int
ask_servers(struct enrollment *e, struct hf_error *err)
{
	SSL_CTX *context;
	int r = tls_context_create_enroll(e->token.fingerprint, &context, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < e->server_count; i++) {
		char text[ADDRESS_TEXT_BYTES];

		fprintf(stderr, "Asking %s ...\n", address_format(&e->servers[i], text));
		r = ask_server(e, &e->servers[i], context, err);
		if (r == 0 || was_refused(r))
			break;
		if (i + 1 < e->server_count)
			terminal_say(stderr, "  ", err->text);
	}
	SSL_CTX_free(context);
	e->unreached = r < 0 && !was_refused(r);
	if (e->unreached)
		hf_error_prefix(err, "no server could be asked, the token is still good; the last trouble was");
	return r;
}

static int
parse_servers(const char *list, struct enrollment *e, struct hf_error *err)
{
	char *copy = strdup(list), *rest = copy, *one;
	int r = copy == NULL ? hf_error_set(err, -ENOMEM, "--server") : 0;

	while (r == 0 && (one = strsep(&rest, ",")) != NULL) {
		if (e->server_count == STATE_SERVERS_MAX)
			r = hf_error_say(err, -EINVAL, "--server: at most %d addresses", STATE_SERVERS_MAX);
		else
			r = address_parse(one, PORT_ENROLL, &e->servers[e->server_count++], err);
	}
	free(copy);
	return r;
}

static int
prepare(const struct options *o, struct enrollment *e, struct hf_error *err)
{
	int r = token_parse(o->token, &e->token, err);

	if (r == 0)
		r = parse_servers(o->servers, e, err);
	if (r == 0)
		r = tls_key_create(&e->key, err);
	if (r == 0)
		r = tls_csr_make(e->key, "holdfast-agent", &e->request.csr, err);
	if (r < 0)
		return r;
	e->request.protocol_version = PROTOCOL_VERSION;
	e->request.protocol_version_min = PROTOCOL_VERSION_MIN;
	memcpy(e->request.token_secret, e->token.secret, sizeof e->token.secret);
	random_bytes(e->request.installation_nonce, sizeof e->request.installation_nonce);
	hints_gather(&e->request.hints);
	return 0;
}

/* ---- what is kept ---- */

/* The data port is on the address that was given for enrolment; several ports of it become one. */
static void
add_server(struct state *st, const struct address *enrolled_at, uint16_t data_port)
{
	struct address a = *enrolled_at;

	a.port = data_port;
	address_format(&a, st->servers[st->server_count]);
	for (size_t i = 0; i < st->server_count; i++)
		if (strcmp(st->servers[i], st->servers[st->server_count]) == 0)
			return;
	st->server_count++;
}

static int
store(struct state *st, const struct enrollment *e, struct hf_error *err)
{
	const char *directory = st->directory;
	char path[PATH_MAX];
	int r;

	r = tls_key_save(state_path(directory, "key.pem", path), e->key, err);
	if (r == 0)
		r = tls_certificate_save(state_path(directory, "cert.pem", path), &e->answer.certificate, e->key, err);
	if (r == 0)
		r = tls_certificate_save(state_path(directory, "ca.pem", path), &e->answer.ca_certificate, NULL, err);
	if (r < 0)
		return r;
	if (strcmp(st->source_id.text, e->answer.source_id.text) != 0) {
		st->last_stream_id = st->last_acked_sequence = 0; /* of another source */
		st->earlier.count = 0;
	}
	st->source_id = e->answer.source_id;
	memcpy(st->nonce, e->request.installation_nonce, sizeof st->nonce);
	st->server_count = 0;
	for (size_t i = 0; i < e->server_count; i++)
		add_server(st, &e->servers[i], (uint16_t)e->answer.data_port);
	return state_save(st, err);
}

static void
print_json(const struct state *st)
{
	json_t *servers = json_array(), *volumes = json_array();
	json_t *root;

	for (size_t i = 0; i < st->server_count; i++)
		json_array_append_new(servers, json_string(st->servers[i]));
	for (size_t i = 0; i < st->volume_count; i++)
		json_array_append_new(
		    volumes, json_pack("{s:s, s:o, s:s, s:I}", "name", st->volumes[i].name, "deviceName",
				 json_text(st->volumes[i].path), "identity", st->volumes[i].identity,
				 "totalStorageBytes", (json_int_t)st->volumes[i].size_bytes));
	root = json_pack("{s:s, s:o, s:o, s:o}", "sourceServerID", st->source_id.text, "servers", servers, "volumes",
	    volumes, "stateDirectory", json_text(st->directory));
	json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
}

/* systemd runs here, and has our unit. */
static bool
unit_is_installed(void)
{
	static const char *const places[] = {
	    "/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"};
	char path[64];

	if (access("/run/systemd/system", F_OK) < 0)
		return false;
	for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
		snprintf(path, sizeof path, "%s/holdfast-agent.service", places[i]);
		if (access(path, F_OK) == 0)
			return true;
	}
	return false;
}

/* A unit knows the usual state directory alone. */
static void
print_start(const struct options *o)
{
	if (strcmp(o->state_directory, STATE_DIRECTORY_DEFAULT) != 0)
		fprintf(stderr, "  holdfast-agent run --state %s\n", o->state_directory);
	else if (unit_is_installed())
		fprintf(stderr, "  systemctl enable --now holdfast-agent\n");
	else
		fprintf(stderr, "  holdfast-agent run\n");
}

static void
print_result(const struct options *o, const struct state *st)
{
	if (o->json) {
		print_json(st);
		return;
	}
	printf("%s\n", st->source_id.text);
	fprintf(stderr, "Enrolled with %zu volume%s. Start replicating with:\n", st->volume_count,
	    st->volume_count == 1 ? "" : "s");
	print_start(o);
}

/* ---- the command ---- */

static int
exit_code_of(int code, bool unreached)
{
	if (code == 0)
		return EXIT_OK;
	if (unreached) /* nobody there, or not the server the token names */
		return EXIT_UNREACHABLE;
	if (code == -HF_EPROTOCOL || code == -HF_EFORMAT)
		return EXIT_FAILED;
	if (-code >= HF_EPROTOCOL)
		return EXIT_REFUSED;
	return code == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
}

static int
enroll(const struct options *o, struct state *st, struct enrollment *e, struct hf_error *err)
{
	int r;

	if (st->enrolled && !o->force)
		return hf_error_say(err, -EEXIST, "%s is enrolled already, as %s; to enrol it again add --force",
		    st->directory, st->source_id.text);
	r = prepare(o, e, err);
	if (r == 0)
		r = choose_volumes(o, st, err);
	if (r == 0)
		r = ask_servers(e, err);
	return r == 0 ? store(st, e, err) : r;
}

int
enroll_run(const struct options *o)
{
	struct enrollment *e = calloc(1, sizeof *e);
	struct hf_error err = {0};
	struct state *st = NULL;
	bool unreached = false;
	int r = e == NULL ? hf_error_set(&err, -ENOMEM, "enroll")
			  : state_open(o->state_directory, o->force ? STATE_REPLACE : STATE_CREATE, &st, &err);

	if (r == 0)
		r = enroll(o, st, e, &err);
	if (r == 0)
		print_result(o, st);
	else
		say("%s", err.text);
	state_close(st);
	if (e != NULL) {
		unreached = e->unreached;
		EVP_PKEY_free(e->key);
	}
	free(e);
	return exit_code_of(r, unreached);
}
