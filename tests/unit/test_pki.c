/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/certificate.h"
#include "tests/lib/scratch.h"

#define DAY (86400 * NS_PER_SECOND)

struct fixture {
	char top[64], dir[80];
	int64_t now;
	struct pki *pki;
	EVP_PKEY *key; /* of an agent */
	struct id source;
	bool takes_next; /* the agent does */
	struct hf_error err;
};

static unsigned syncs_until_failure; /* 0: none fails */

/* In the place of libc's. */
int
fsync(int fd)
{
	if (syncs_until_failure > 0 && --syncs_until_failure == 0) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
}

static int
set_up(void **state)
{
	struct fixture *f = *state = calloc(1, sizeof *f);

	log_level_max = LOG_LEVEL_ERR;
	scratch_make(f->top, sizeof f->top, "test_pki");
	snprintf(f->dir, sizeof f->dir, "%s/pki", f->top);
	f->now = clock_real_ns();
	f->key = EVP_EC_gen("P-256");
	f->source = id_random("s");
	return pki_open(f->dir, f->now, &f->pki, &f->err);
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	int removed;

	pki_close(f->pki);
	EVP_PKEY_free(f->key);
	removed = scratch_remove(f->top);
	free(f);
	return removed;
}

static int
reopen_at(struct fixture *f, int64_t now_ns)
{
	pki_close(f->pki);
	f->pki = NULL;
	return pki_open(f->dir, now_ns, &f->pki, &f->err);
}

static char *
path_of(struct fixture *f, const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", f->dir, name);
	return path;
}

static X509 *
load(struct fixture *f, const char *name)
{
	FILE *file = fopen(path_of(f, name), "r");
	X509 *x;

	assert_non_null(file);
	x = PEM_read_X509(file, NULL, NULL, NULL);
	fclose(file);
	assert_non_null(x);
	return x;
}

/* A request as a stranger would make it: a common name of its own, and a CA's extensions. */
static struct message_blob
make_request(EVP_PKEY *key, EVP_PKEY *signer)
{
	struct message_blob blob;
	unsigned char *p = blob.bytes;
	X509_REQ *request = X509_REQ_new();
	STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();

	sk_X509_EXTENSION_push(extensions, X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE"));
	sk_X509_EXTENSION_push(extensions, X509V3_EXT_conf_nid(NULL, NULL, NID_ext_key_usage, "serverAuth"));
	X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request), "CN", MBSTRING_UTF8,
	    (const unsigned char *)"s-00000000000000bad", -1, -1, 0);
	X509_REQ_add_extensions(request, extensions);
	X509_REQ_set_pubkey(request, key);
	assert_true(X509_REQ_sign(request, signer, EVP_sha256()) > 0);
	blob.len = (size_t)i2d_X509_REQ(request, &p);
	sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
	X509_REQ_free(request);
	return blob;
}

static X509 *
decode(const struct message_blob *blob)
{
	const unsigned char *p = blob->bytes;

	return d2i_X509(NULL, &p, (long)blob->len);
}

static X509 *
sign_at(struct fixture *f, int64_t lifetime_ns, int64_t now_ns, struct registry_certificate *ret_record)
{
	struct message_blob csr = make_request(f->key, f->key), certificate;
	int r =
	    pki_sign(f->pki, &csr, &f->source, f->takes_next, lifetime_ns, now_ns, &certificate, ret_record, &f->err);

	if (r < 0)
		fail_msg("%s", f->err.text);
	return decode(&certificate);
}

/* ---- the directory ---- */

static void
first_start_makes_private_files(void **state)
{
	static const struct {
		const char *name;
		unsigned mode;
	} files[] = {{".", 0700}, {"ca.key", 0600}, {"server.key", 0600}, {"ca.pem", 0600}, {"server.pem", 0600}};
	struct fixture *f = *state;
	struct stat st;

	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		assert_int_equal(stat(path_of(f, files[i].name), &st), 0);
		assert_int_equal(st.st_mode & 07777, files[i].mode);
	}
}

static void
certificates_are_of_the_promised_form(void **state)
{
	struct fixture *f = *state;
	X509 *ca = load(f, "ca.pem"), *server = load(f, "server.pem");

	assert_int_equal(X509_check_ca(ca), 1);
	assert_int_equal(X509_get_pathlen(ca), 0);
	assert_int_equal(X509_verify(ca, X509_get0_pubkey(ca)), 1);
	assert_int_equal(X509_get_key_usage(ca), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
	assert_int_equal(X509_verify(server, X509_get0_pubkey(ca)), 1);
	assert_int_equal(X509_get_extended_key_usage(server), XKU_SSL_SERVER);
	assert_int_equal(X509_check_ca(server), 0);
	assert_int_equal(EVP_PKEY_get_bits(X509_get0_pubkey(ca)), 256);
	assert_true(ASN1_STRING_length(X509_get0_serialNumber(server)) >= 16);
	assert_true(llabs(certificate_time_ns(X509_get0_notAfter(ca)) - (f->now + 3650 * DAY)) <= NS_PER_SECOND);
	assert_true(llabs(certificate_time_ns(X509_get0_notAfter(server)) - (f->now + 90 * DAY)) <= NS_PER_SECOND);
	X509_free(ca);
	X509_free(server);
}

static void
fingerprint_is_the_sha256_of_the_ca(void **state)
{
	struct fixture *f = *state;
	struct message_blob ca = {.len = 0};
	unsigned char digest[32];
	char text[65];

	pki_get_ca(f->pki, &ca);
	SHA256(ca.bytes, ca.len, digest);
	for (int i = 0; i < 32; i++)
		sprintf(text + 2 * i, "%02x", digest[i]);
	assert_string_equal(pki_ca_fingerprint(f->pki, (char[FINGERPRINT_TEXT_BYTES]){0}), text);
}

static void
second_start_finds_the_same_pki(void **state)
{
	struct fixture *f = *state;
	char fingerprint[FINGERPRINT_TEXT_BYTES];
	X509 *before = load(f, "server.pem"), *after;

	strcpy(fingerprint, pki_ca_fingerprint(f->pki, (char[FINGERPRINT_TEXT_BYTES]){0}));
	assert_int_equal(reopen_at(f, f->now), 0);
	assert_string_equal(pki_ca_fingerprint(f->pki, (char[FINGERPRINT_TEXT_BYTES]){0}), fingerprint);
	after = load(f, "server.pem");
	assert_int_equal(X509_cmp(before, after), 0);
	X509_free(before);
	X509_free(after);
}

static void
left_overs_of_a_crash_are_swept(void **state)
{
	struct fixture *f = *state;
	char from[160], to[128];

	pki_close(f->pki);
	f->pki = NULL;
	snprintf(to, sizeof to, "%s.new", f->dir);
	assert_int_equal(rename(f->dir, to), 0); /* the crash was just before the rename */
	snprintf(from, sizeof from, "%s/ca.key", to);
	assert_int_equal(truncate(from, 10), 0);
	assert_int_equal(mkdir(f->dir, 0700), 0);
	assert_int_equal(reopen_at(f, f->now), 0);
	assert_int_equal(access(to, F_OK), -1);
	assert_int_equal(reopen_at(f, f->now), 0);
}

static void
half_a_ca_is_refused_not_replaced(void **state)
{
	static const char *const names[] = {"ca.key", "ca.pem"};
	struct fixture *f = *state;

	for (int i = 0; i < 2; i++) {
		char aside[140];

		snprintf(aside, sizeof aside, "%s.aside", path_of(f, names[i]));
		assert_int_equal(rename(path_of(f, names[i]), aside), 0);
		assert_int_equal(reopen_at(f, f->now), -HF_ECORRUPT);
		assert_non_null(strstr(f->err.text, names[i]));
		assert_non_null(strstr(f->err.text, "backup"));
		assert_int_equal(access(path_of(f, names[i]), F_OK), -1);
		assert_int_equal(rename(aside, path_of(f, names[i])), 0);
	}
	assert_int_equal(reopen_at(f, f->now), 0);
}

static void
ca_key_of_another_ca_is_refused(void **state)
{
	struct fixture *f = *state;
	FILE *file = fopen(path_of(f, "ca.key"), "w");

	assert_int_equal(PEM_write_PrivateKey(file, f->key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(file);
	assert_int_equal(reopen_at(f, f->now), -HF_ECORRUPT);
	assert_non_null(strstr(f->err.text, "does not belong"));
}

static void
garbage_is_refused_with_the_file_named(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(truncate(path_of(f, "ca.pem"), 40), 0);
	assert_int_equal(reopen_at(f, f->now), -HF_ECORRUPT);
	assert_non_null(strstr(f->err.text, "ca.pem"));
}

static void
expired_ca_is_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(reopen_at(f, f->now + 3649 * DAY), 0);
	assert_int_equal(reopen_at(f, f->now + 3651 * DAY), -HF_EEXPIRED);
}

static void
lost_server_key_is_made_anew(void **state)
{
	struct fixture *f = *state;
	X509 *ca = load(f, "ca.pem"), *server;

	assert_int_equal(unlink(path_of(f, "server.key")), 0);
	assert_int_equal(reopen_at(f, f->now), 0);
	server = load(f, "server.pem");
	assert_int_equal(X509_verify(server, X509_get0_pubkey(ca)), 1);
	X509_free(server);
	assert_int_equal(unlink(path_of(f, "server.pem")), 0);
	assert_int_equal(reopen_at(f, f->now), 0);
	X509_free(load(f, "server.pem"));
	X509_free(ca);
}

static void
open_key_is_closed_to_others(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(chmod(path_of(f, "ca.key"), 0644), 0);
	assert_int_equal(reopen_at(f, f->now), 0);
	assert_int_equal(stat(path_of(f, "ca.key"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void
server_certificate_is_renewed_after_two_thirds(void **state)
{
	struct fixture *f = *state;
	X509 *before = load(f, "server.pem"), *after;

	assert_int_equal(pki_renew(f->pki, false, f->now + 59 * DAY, &f->err), 0);
	assert_int_equal(pki_renew(f->pki, false, f->now + 61 * DAY, &f->err), 1);
	assert_int_equal(pki_renew(f->pki, false, f->now + 61 * DAY, &f->err), 0);
	after = load(f, "server.pem");
	assert_true(certificate_time_ns(X509_get0_notAfter(after)) > f->now + 150 * DAY);
	assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(before), X509_get0_pubkey(after)), 1);
	X509_free(before);
	X509_free(after);
	assert_int_equal(reopen_at(f, f->now + 300 * DAY), 0); /* long expired: renewed at start */
	after = load(f, "server.pem");
	assert_true(certificate_time_ns(X509_get0_notAfter(after)) > f->now + 389 * DAY);
	X509_free(after);
}

/* ---- signing ---- */

static void
copy_file(struct fixture *f, const char *from, const char *to)
{
	char command[320];

	snprintf(command, sizeof command, "cp %s/%s %s/%s", f->dir, from, f->dir, to);
	assert_int_equal(system(command), 0);
}

static void
an_expired_server_certificate_is_not_taken_by_a_reload(void **state)
{
	struct fixture *f = *state;
	struct pki_certificate server;
	int64_t later_ns = f->now + 91 * DAY;

	copy_file(f, "server.pem", "old");
	assert_int_equal(pki_reload(f->pki, later_ns, &f->err), 0); /* it is in use already: nobody is worse off */
	assert_int_equal(pki_renew(f->pki, true, f->now + 80 * DAY, &f->err), 1);
	copy_file(f, "old", "server.pem");
	assert_int_equal(pki_reload(f->pki, later_ns, &f->err), -HF_EEXPIRED);
	assert_non_null(strstr(f->err.text, "expired at"));
	assert_true(pki_describe(f->pki, PKI_SERVER, &server));
	assert_true(server.not_after_ns > later_ns);
	assert_int_equal(pki_reload(f->pki, f->now + 81 * DAY, &f->err), 1);
}

static void
a_check_finds_what_a_start_or_reload_would_refuse_and_mends_nothing(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(pki_check(f->dir, f->now, &f->err), 0);
	assert_int_equal(pki_check(f->dir, f->now + 91 * DAY, &f->err), 0); /* a start renews it */
	assert_int_equal(pki_check(f->dir, f->now + 3651 * DAY, &f->err), -HF_EEXPIRED);
	copy_file(f, "server.key", "old");
	copy_file(f, "ca.key", "server.key");
	assert_int_equal(pki_check(f->dir, f->now, &f->err), -HF_ECORRUPT);
	assert_non_null(strstr(f->err.text, "server.key"));
	assert_int_equal(unlink(path_of(f, "server.key")), 0);
	assert_int_equal(pki_check(f->dir, f->now, &f->err), 0);
	assert_int_equal(access(path_of(f, "server.key"), F_OK), -1);
	copy_file(f, "old", "ca.key");
	assert_int_equal(pki_check(f->dir, f->now, &f->err), -HF_ECORRUPT);
	assert_non_null(strstr(f->err.text, "ca.key"));
	assert_int_equal(pki_check("/nowhere/at/all", f->now, &f->err), 0);
}

static void
signed_certificate_holds_what_we_say_and_nothing_else(void **state)
{
	struct fixture *f = *state;
	struct registry_certificate record;
	X509 *ca = load(f, "ca.pem"), *x = sign_at(f, 7 * NS_PER_SECOND, f->now, &record);
	unsigned char fingerprint[32];
	char name[64];

	assert_int_equal(X509_verify(x, X509_get0_pubkey(ca)), 1);
	X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, name, sizeof name);
	assert_string_equal(name, f->source.text);
	assert_int_equal(X509_NAME_entry_count(X509_get_subject_name(x)), 1);
	assert_int_equal(X509_get_extended_key_usage(x), XKU_SSL_CLIENT);
	assert_int_equal(X509_get_key_usage(x), KU_DIGITAL_SIGNATURE);
	assert_int_equal(X509_check_ca(x), 0);
	assert_int_equal(X509_get_ext_count(x), 5);
	assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(x), f->key), 1);
	certificate_get_fingerprint(x, fingerprint);
	assert_memory_equal(record.fingerprint, fingerprint, 32);
	assert_string_equal(record.source.text, f->source.text);
	assert_true(llabs(record.not_before_ns - (f->now - 300 * NS_PER_SECOND)) <= NS_PER_SECOND);
	assert_true(record.not_after_ns >= f->now + 7 * NS_PER_SECOND);
	assert_true(record.not_after_ns <= f->now + 8 * NS_PER_SECOND);
	assert_false(record.revoked);
	X509_free(x);
	X509_free(ca);
}

static void
certificate_never_outlives_the_ca(void **state)
{
	struct fixture *f = *state;
	struct registry_certificate record;
	X509 *ca = load(f, "ca.pem"), *x = sign_at(f, 3650 * DAY, f->now + 10 * DAY, &record);

	assert_true(record.not_after_ns <= certificate_time_ns(X509_get0_notAfter(ca)));
	X509_free(x);
	X509_free(ca);
}

static void
check_refused(struct fixture *f, const struct message_blob *csr, const char *reason)
{
	struct registry_certificate record;
	struct message_blob certificate;

	assert_int_equal(
	    pki_sign(f->pki, csr, &f->source, false, DAY, f->now, &certificate, &record, &f->err), -HF_EPROTOCOL);
	if (strstr(f->err.text, reason) == NULL)
		fail_msg("expected \"%s\" in \"%s\"", reason, f->err.text);
}

static void
bad_requests_are_refused(void **state)
{
	struct fixture *f = *state;
	EVP_PKEY *other = EVP_EC_gen("P-256"), *wide = EVP_EC_gen("P-384"), *rsa = EVP_RSA_gen(2048);
	struct message_blob csr = make_request(f->key, other);

	check_refused(f, &csr, "not signed by its own key");
	csr = make_request(wide, wide);
	check_refused(f, &csr, "not for a P-256 key");
	csr = make_request(rsa, rsa);
	check_refused(f, &csr, "not for a P-256 key");
	csr = make_request(f->key, f->key);
	csr.bytes[csr.len++] = 0;
	check_refused(f, &csr, "cannot be read");
	csr.len = 0;
	check_refused(f, &csr, "cannot be read");
	EVP_PKEY_free(other);
	EVP_PKEY_free(wide);
	EVP_PKEY_free(rsa);
}

static void
every_cut_request_is_refused(void **state)
{
	struct fixture *f = *state;
	struct message_blob csr = make_request(f->key, f->key);

	while (csr.len-- > 0)
		check_refused(f, &csr, "cannot be read");
}

/* ---- TLS ---- */

struct client {
	X509 *certificate;
	EVP_PKEY *key;
	int version_max; /* 0 = newest */
};

/* Both ends in memory, in turn. 1: both done; 0: the server refused. Gives both. */
static int
shake(SSL_CTX *server_ctx, const struct client *c, SSL **ret_server, SSL **ret_client)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *server = SSL_new(server_ctx), *client;
	BIO *a, *b;
	int s = 0, k = 0;

	SSL_CTX_set_max_proto_version(ctx, c->version_max);
	if (c->certificate != NULL) {
		assert_int_equal(SSL_CTX_use_certificate(ctx, c->certificate), 1);
		assert_int_equal(SSL_CTX_use_PrivateKey(ctx, c->key), 1);
	}
	client = SSL_new(ctx);
	SSL_CTX_free(ctx);
	assert_int_equal(BIO_new_bio_pair(&a, 0, &b, 0), 1);
	SSL_set_bio(server, a, a);
	SSL_set_bio(client, b, b);
	for (int turn = 0; turn < 20 && (s != 1 || k != 1); turn++) {
		k = SSL_connect(client);
		s = SSL_accept(server);
		if (s != 1 && SSL_get_error(server, s) == SSL_ERROR_SSL)
			break;
	}
	*ret_server = server;
	*ret_client = client;
	return s == 1;
}

static int
shake_data(struct fixture *f, const struct client *c, struct pki_peer *ret_peer)
{
	SSL *server, *client;
	SSL_CTX *ctx;
	int done, r = 1;

	assert_int_equal(pki_data_ctx(f->pki, &ctx, &f->err), 0);
	done = shake(ctx, c, &server, &client);
	if (done && ret_peer != NULL)
		r = pki_get_peer(server, ret_peer, &f->err);
	SSL_free(server);
	SSL_free(client);
	SSL_CTX_free(ctx);
	return done ? r : 0;
}

static void
agent_is_known_after_the_handshake(void **state)
{
	struct fixture *f = *state;
	struct registry_certificate record;
	struct client c = {.certificate = sign_at(f, DAY, f->now, &record), .key = f->key};
	struct pki_peer peer;

	assert_int_equal(shake_data(f, &c, &peer), 0);
	assert_string_equal(peer.source.text, f->source.text);
	assert_memory_equal(peer.fingerprint, record.fingerprint, FINGERPRINT_BYTES);
	assert_int_equal(peer.not_before_ns, record.not_before_ns);
	assert_int_equal(peer.not_after_ns, record.not_after_ns);
	assert_false(peer.expired);
	X509_free(c.certificate);
}

/* ---- a change of CA ---- */

static void
fingerprint_of(struct fixture *f, enum pki_role role, char ret_text[FINGERPRINT_TEXT_BYTES])
{
	struct pki_certificate c;

	assert_true(pki_describe(f->pki, role, &c));
	memcpy(ret_text, c.fingerprint, FINGERPRINT_TEXT_BYTES);
}

/* What an agent that knows this CA alone asks. */
static bool
server_is_of_its_ca(struct fixture *f, const struct client *c)
{
	struct message_blob ca = {.len = 0};
	const unsigned char *p = ca.bytes;
	SSL *server, *client;
	SSL_CTX *ctx;
	X509 *x;
	bool good;

	pki_get_ca(f->pki, &ca);
	x = d2i_X509(NULL, &p, (long)ca.len);
	assert_int_equal(pki_data_ctx(f->pki, &ctx, &f->err), 0);
	assert_true(shake(ctx, c, &server, &client));
	good = X509_verify(SSL_get0_peer_certificate(client), X509_get0_pubkey(x)) == 1;
	SSL_free(server);
	SSL_free(client);
	SSL_CTX_free(ctx);
	X509_free(x);
	return good;
}

static void
agents_of_both_cas_come_in_until_the_old_one_retires(void **state)
{
	struct fixture *f = *state;
	struct registry_certificate old_record, new_record;
	struct client old = {.certificate = sign_at(f, DAY, f->now, &old_record), .key = f->key},
		      fresh = {.key = f->key};
	char first[FINGERPRINT_TEXT_BYTES], next[FINGERPRINT_TEXT_BYTES], now[FINGERPRINT_TEXT_BYTES];
	struct pki_certificate none;
	struct pki_peer peer;

	fingerprint_of(f, PKI_CA, first);
	assert_false(pki_describe(f->pki, PKI_NEXT_CA, &none));
	assert_int_equal(pki_retire(f->pki, f->now, &f->err), -ENOENT);
	assert_int_equal(pki_generation(f->pki), 0);
	assert_int_equal(pki_rotate(f->pki, f->now, &f->err), 0);
	assert_int_equal(pki_rotate(f->pki, f->now, &f->err), -EALREADY);
	assert_int_equal(pki_generation(f->pki), 1); /* whoever is connected is to be told */
	fingerprint_of(f, PKI_NEXT_CA, next);
	assert_true(pki_outdates(f->pki, first));
	assert_false(pki_outdates(f->pki, next));
	assert_int_equal(reopen_at(f, f->now), 0); /* both are on disk */
	fingerprint_of(f, PKI_CA, now);
	assert_string_equal(now, first);
	X509_free(sign_at(f, DAY, f->now, &new_record));
	assert_string_equal(new_record.issuer, first); /* of an agent that knows nothing of this */
	f->takes_next = true;
	fresh.certificate = sign_at(f, DAY, f->now, &new_record);
	assert_string_equal(new_record.issuer, next);
	assert_int_equal(shake_data(f, &old, &peer), 0);
	assert_string_equal(peer.issuer, first);
	assert_int_equal(shake_data(f, &fresh, &peer), 0);
	assert_string_equal(peer.issuer, next);
	assert_string_equal(peer.serial, new_record.serial);
	assert_true(server_is_of_its_ca(f, &fresh));

	assert_int_equal(pki_retire(f->pki, f->now, &f->err), 0);
	assert_int_equal(pki_generation(f->pki), 1); /* since it was opened again */
	for (int i = 0; i < 2; i++) {
		fingerprint_of(f, PKI_CA, now);
		assert_string_equal(now, next);
		assert_false(pki_describe(f->pki, PKI_NEXT_CA, &none));
		assert_int_equal(shake_data(f, &fresh, &peer), 0);
		assert_string_equal(peer.issuer, next);
		assert_true(server_is_of_its_ca(f, &fresh));
		peer.issuer[0] = '\0';
		(void)shake_data(f, &old, &peer);
		assert_string_equal(peer.issuer, ""); /* it did not get through */
		assert_int_equal(reopen_at(f, f->now), 0);
	}
	X509_free(old.certificate);
	X509_free(fresh.certificate);
}

static void
a_retirement_that_cannot_be_synced_has_not_happened(void **state)
{
	struct fixture *f = *state;
	char first[FINGERPRINT_TEXT_BYTES], next[FINGERPRINT_TEXT_BYTES], now[FINGERPRINT_TEXT_BYTES];
	unsigned failures = 0;
	int r;

	fingerprint_of(f, PKI_CA, first);
	assert_int_equal(pki_rotate(f->pki, f->now, &f->err), 0);
	fingerprint_of(f, PKI_NEXT_CA, next);
	do {
		syncs_until_failure = failures + 1;
		r = pki_retire(f->pki, f->now, &f->err);
		syncs_until_failure = 0;
		failures += r < 0;
		for (int i = 0; i < 2; i++) { /* in memory, and on disk */
			fingerprint_of(f, PKI_CA, now);
			assert_string_equal(now, r < 0 ? first : next);
			assert_int_equal(reopen_at(f, f->now), 0);
		}
	} while (r < 0);
	assert_true(failures > 4); /* each file, and the folder above */
}

static void
what_a_cut_change_of_ca_leaves_is_put_right_at_the_next_start(void **state)
{
	struct fixture *f = *state;
	char first[FINGERPRINT_TEXT_BYTES], now[FINGERPRINT_TEXT_BYTES], path[200];
	struct pki_certificate none;

	fingerprint_of(f, PKI_CA, first);
	assert_int_equal(pki_rotate(f->pki, f->now, &f->err), 0);
	assert_int_equal(unlink(path_of(f, "ca-next.pem")), 0); /* cut between key and certificate */
	snprintf(path, sizeof path, "%s.new", f->dir);
	assert_int_equal(mkdir(path, 0700), 0); /* cut before the exchange, or after it: then the old key is in there */
	snprintf(path, sizeof path, "%s.new/ca.key", f->dir);
	assert_int_equal(symlink("/nowhere", path), 0);
	assert_int_equal(reopen_at(f, f->now), 0);
	assert_int_equal(access(path, F_OK), -1);
	fingerprint_of(f, PKI_CA, now);
	assert_string_equal(now, first);
	assert_false(pki_describe(f->pki, PKI_NEXT_CA, &none));
	assert_int_equal(pki_rotate(f->pki, f->now, &f->err), 0);
	assert_int_equal(unlink(path_of(f, "ca-next.key")), 0);
	assert_int_equal(reopen_at(f, f->now), -HF_ECORRUPT); /* agents may have certificates of it */
	assert_non_null(strstr(f->err.text, "ca-next.key"));
}

static void
expired_agent_comes_through_and_is_flagged(void **state)
{
	struct fixture *f = *state;
	struct registry_certificate record;
	struct client c = {.certificate = sign_at(f, DAY, f->now - 3 * DAY, &record), .key = f->key};
	struct pki_peer peer = {.expired = false};

	assert_int_equal(shake_data(f, &c, &peer), 0);
	assert_true(peer.expired);
	assert_string_equal(peer.source.text, f->source.text);
	X509_free(c.certificate);
}

static void
clock_set_back_does_not_lock_agents_out(void **state)
{
	struct fixture *f = *state;
	struct registry_certificate record;
	struct client c = {.certificate = sign_at(f, DAY, f->now + 3 * DAY, &record), .key = f->key};
	struct pki_peer peer = {.expired = true};

	assert_int_equal(shake_data(f, &c, &peer), 0);
	assert_false(peer.expired);
	X509_free(c.certificate);
}

static void
strangers_do_not_get_through_the_handshake(void **state)
{
	struct fixture *f = *state, foreign = *f;
	struct registry_certificate record;
	struct client c = {.version_max = 0};

	assert_int_equal(shake_data(f, &c, NULL), 0); /* no certificate */
	snprintf(foreign.dir, sizeof foreign.dir, "%s/foreign", f->top);
	assert_int_equal(pki_open(foreign.dir, f->now, &foreign.pki, &f->err), 0);
	c = (struct client){.certificate = sign_at(&foreign, DAY, f->now, &record), .key = f->key};
	assert_int_equal(shake_data(f, &c, NULL), 0); /* another CA, valid or expired */
	X509_free(c.certificate);
	c.certificate = sign_at(&foreign, DAY, f->now - 3 * DAY, &record);
	assert_int_equal(shake_data(f, &c, NULL), 0);
	X509_free(c.certificate);
	c = (struct client){.certificate = sign_at(f, DAY, f->now, &record), .key = f->key};
	assert_int_equal(shake_data(f, &c, NULL), 1);
	c.version_max = TLS1_2_VERSION;
	assert_int_equal(shake_data(f, &c, NULL), 0);
	X509_free(c.certificate);
	pki_close(foreign.pki);
}

static EVP_PKEY *
load_key(struct fixture *f, const char *name)
{
	FILE *file = fopen(path_of(f, name), "r");
	EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, NULL, NULL);

	fclose(file);
	return key;
}

static void
certificates_not_made_for_clients_are_refused(void **state)
{
	struct fixture *f = *state;
	struct key_pair ca = {.certificate = load(f, "ca.pem"), .key = load_key(f, "ca.key")};
	struct certificate_recipe recipe = {
	    .common_name = f->source.text,
	    .key = f->key,
	    .issuer = &ca,
	    .not_before_ns = f->now - DAY,
	    .not_after_ns = f->now + DAY,
	    .constraints = "critical,CA:FALSE",
	    .usage = "critical,digitalSignature",
	};
	struct client server = {.certificate = load(f, "server.pem"), .key = load_key(f, "server.key")};
	struct client c = {.certificate = certificate_make(&recipe), .key = f->key};

	assert_int_equal(shake_data(f, &server, NULL), 0); /* serverAuth */
	assert_int_equal(shake_data(f, &c, NULL), 0);      /* no extended usage at all */
	X509_free(c.certificate);
	recipe.not_after_ns = f->now - DAY / 2;
	c.certificate = certificate_make(&recipe);
	assert_int_equal(shake_data(f, &c, NULL), 0); /* nor when it has expired as well */
	X509_free(c.certificate);
	recipe.extended_usage = "clientAuth";
	recipe.not_after_ns = f->now + DAY;
	c.certificate = certificate_make(&recipe);
	assert_int_equal(shake_data(f, &c, NULL), 1);
	X509_free(c.certificate);
	X509_free(server.certificate);
	EVP_PKEY_free(server.key);
	key_pair_fini(&ca);
}

static void
certificate_that_names_no_source_is_refused_after_the_handshake(void **state)
{
	struct fixture *f = *state;
	struct key_pair ca = {.certificate = load(f, "ca.pem"), .key = load_key(f, "ca.key")};
	struct client c = {.key = f->key};
	struct pki_peer peer;

	c.certificate = certificate_make(&(struct certificate_recipe){
	    .common_name = "s-123",
	    .key = f->key,
	    .issuer = &ca,
	    .not_before_ns = f->now - DAY,
	    .not_after_ns = f->now + DAY,
	    .constraints = "critical,CA:FALSE",
	    .usage = "critical,digitalSignature",
	    .extended_usage = "clientAuth",
	});
	assert_int_equal(shake_data(f, &c, &peer), -HF_EREVOKED);
	X509_free(c.certificate);
	key_pair_fini(&ca);
}

static void
server_shows_its_ca_and_gives_no_tickets(void **state)
{
	struct fixture *f = *state;
	struct client c = {.version_max = 0};
	SSL *server, *client;
	SSL_CTX *ctx;
	char byte;

	assert_int_equal(pki_enroll_ctx(f->pki, &ctx, &f->err), 0);
	assert_int_equal(shake(ctx, &c, &server, &client), 1); /* and wants no certificate */
	assert_string_equal(SSL_get_cipher(server), "TLS_AES_128_GCM_SHA256");
	assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(client)), 2);
	assert_int_equal(X509_check_ca(sk_X509_value(SSL_get_peer_cert_chain(client), 1)), 1);
	assert_int_equal(SSL_read(client, &byte, 1), -1); /* would take in tickets, were there any */
	assert_false(SSL_SESSION_is_resumable(SSL_get_session(client)));
	SSL_free(server);
	SSL_free(client);
	SSL_CTX_free(ctx);
}

/* ---- tokens ---- */

static void
token_text_carries_secret_and_fingerprint(void **state)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
	struct fixture *f = *state;
	struct registry_token token, other;
	char text[TOKEN_TEXT_BYTES], again[TOKEN_TEXT_BYTES];
	unsigned char secret[TOKEN_SECRET_BYTES] = {0}, hash[TOKEN_HASH_BYTES];

	pki_make_token(f->pki, &f->source, DAY, f->now, &token, text);
	pki_make_token(f->pki, NULL, DAY, f->now, &other, again);
	assert_int_equal(strlen(text), 4 + 32 + 1 + 64);
	assert_memory_equal(text, "hf1.", 4);
	assert_int_equal(text[36], '.');
	assert_string_equal(text + 37, pki_ca_fingerprint(f->pki, (char[FINGERPRINT_TEXT_BYTES]){0}));
	for (int i = 0; i < 32; i++) { /* the secret, read back bit by bit */
		const char *letter = strchr(letters, text[4 + i]);

		assert_non_null(letter);
		for (int bit = 0; bit < 5; bit++)
			if (((letter - letters) >> (4 - bit) & 1) != 0)
				secret[(i * 5 + bit) / 8] |= (unsigned char)(0x80 >> (i * 5 + bit) % 8);
	}
	pki_hash_token(secret, hash);
	assert_memory_equal(hash, token.hash, TOKEN_HASH_BYTES);
	assert_true(id_valid("tok", token.id.text));
	assert_string_equal(token.source.text, f->source.text);
	assert_string_equal(other.source.text, "");
	assert_true(
	    token.created_ns == f->now && token.expires_ns == f->now + DAY && token.used_ns == 0 && !token.revoked);
	assert_string_not_equal(text, again);
}

static void
hash_of_a_token_is_sha256(void **state)
{
	static const unsigned char secret[TOKEN_SECRET_BYTES] = "abcdefghijklmnopqrs"; /* and a NUL */
	unsigned char hash[TOKEN_HASH_BYTES], expected[32];

	pki_hash_token(secret, hash);
	SHA256(secret, 20, expected);
	assert_memory_equal(hash, expected, 32);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(first_start_makes_private_files),
	    T(certificates_are_of_the_promised_form),
	    T(fingerprint_is_the_sha256_of_the_ca),
	    T(second_start_finds_the_same_pki),
	    T(left_overs_of_a_crash_are_swept),
	    T(half_a_ca_is_refused_not_replaced),
	    T(ca_key_of_another_ca_is_refused),
	    T(garbage_is_refused_with_the_file_named),
	    T(expired_ca_is_refused),
	    T(lost_server_key_is_made_anew),
	    T(open_key_is_closed_to_others),
	    T(server_certificate_is_renewed_after_two_thirds),
	    T(an_expired_server_certificate_is_not_taken_by_a_reload),
	    T(a_check_finds_what_a_start_or_reload_would_refuse_and_mends_nothing),
	    T(signed_certificate_holds_what_we_say_and_nothing_else),
	    T(certificate_never_outlives_the_ca),
	    T(bad_requests_are_refused),
	    T(every_cut_request_is_refused),
	    T(agent_is_known_after_the_handshake),
	    T(agents_of_both_cas_come_in_until_the_old_one_retires),
	    T(a_retirement_that_cannot_be_synced_has_not_happened),
	    T(what_a_cut_change_of_ca_leaves_is_put_right_at_the_next_start),
	    T(expired_agent_comes_through_and_is_flagged),
	    T(clock_set_back_does_not_lock_agents_out),
	    T(strangers_do_not_get_through_the_handshake),
	    T(certificates_not_made_for_clients_are_refused),
	    T(certificate_that_names_no_source_is_refused_after_the_handshake),
	    T(server_shows_its_ca_and_gives_no_tickets),
	    T(token_text_carries_secret_and_fingerprint),
	    T(hash_of_a_token_is_sha256),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
