/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/tls.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "proto/common/file.h"

const char *
tls_error_text(void)
{
	static _Thread_local char text[256];
	unsigned long code = ERR_peek_last_error();
	const char *reason = ERR_reason_error_string(code);

	if (ERR_SYSTEM_ERROR(code))
		reason = strerror(ERR_GET_REASON(code));
	snprintf(text, sizeof text, "%s", reason != NULL ? reason : "unknown TLS error");
	ERR_clear_error();
	return text;
}

/* ---- contexts ---- */

static int
on_verify(int ok, X509_STORE_CTX *store)
{
	if (!ok && X509_STORE_CTX_get_error(store) == X509_V_ERR_CERT_NOT_YET_VALID) {
		X509_STORE_CTX_set_error(store, X509_V_OK);
		return 1;
	}
	return ok;
}

static int
no_password(char *buf, int size, int writing, void *arg)
{
	return -1; /* never ask on a terminal */
}

static SSL_CTX *
make_context(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	if (context == NULL)
		return NULL;
	SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
	SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION);
	SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_default_passwd_cb(context, no_password);
	SSL_CTX_set_purpose(context, X509_PURPOSE_SSL_SERVER);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, on_verify);
	return context;
}

static int
load_files(
    SSL_CTX *context, const char *key_path, const char *certificate_path, const char *ca_path, struct hf_error *err)
{
	if (SSL_CTX_use_certificate_chain_file(context, certificate_path) != 1)
		return hf_error_say(err, -EINVAL, "certificate %s: %s", certificate_path, tls_error_text());
	if (SSL_CTX_use_PrivateKey_file(context, key_path, SSL_FILETYPE_PEM) != 1)
		return hf_error_say(err, -EINVAL, "key %s: %s", key_path, tls_error_text());
	if (SSL_CTX_check_private_key(context) != 1)
		return hf_error_say(err, -EINVAL, "key %s does not belong to certificate %s: %s", key_path,
		    certificate_path, tls_error_text());
	if (SSL_CTX_load_verify_file(context, ca_path) != 1)
		return hf_error_say(err, -EINVAL, "CA certificate %s: %s", ca_path, tls_error_text());
	return 0;
}

int
tls_context_create(const char *key_path, const char *certificate_path, const char *ca_path, SSL_CTX **ret_context,
    struct hf_error *err)
{
	SSL_CTX *context = make_context();
	int r;

	if (context == NULL)
		return hf_error_say(err, -ENOMEM, "TLS context: %s", tls_error_text());
	r = load_files(context, key_path, certificate_path, ca_path, err);
	if (r < 0) {
		SSL_CTX_free(context);
		return r;
	}
	*ret_context = context;
	return 0;
}

static X509 *
find_by_fingerprint(STACK_OF(X509) * chain, const unsigned char *fingerprint)
{
	for (int i = 0; i < sk_X509_num(chain); i++) {
		unsigned char digest[EVP_MAX_MD_SIZE];
		unsigned len;

		if (X509_digest(sk_X509_value(chain, i), EVP_sha256(), digest, &len) == 1 &&
		    len == TLS_FINGERPRINT_BYTES && memcmp(digest, fingerprint, len) == 0)
			return sk_X509_value(chain, i);
	}
	return NULL;
}

/* Verify leaf with ca as the only thing trusted. Returns X509_V_OK or the reason not. */
static int
verify_under(X509 *ca, X509 *leaf, STACK_OF(X509) * chain)
{
	X509_STORE *trust = X509_STORE_new();
	X509_STORE_CTX *store = X509_STORE_CTX_new();
	int result = X509_V_ERR_OUT_OF_MEM;

	if (trust != NULL && store != NULL && X509_STORE_add_cert(trust, ca) == 1 &&
	    X509_STORE_CTX_init(store, trust, leaf, chain) == 1) {
		X509_STORE_CTX_set_purpose(store, X509_PURPOSE_SSL_SERVER);
		X509_STORE_CTX_set_verify_cb(store, on_verify);
		result = X509_verify_cert(store) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(store);
	}
	X509_STORE_CTX_free(store);
	X509_STORE_free(trust);
	return result;
}

/* The token's fingerprint is all we know of the server: the chain must hold that CA, and the leaf
 * be signed by it. */
static int
on_verify_enroll(X509_STORE_CTX *store, void *fingerprint)
{
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(store);
	X509 *leaf = X509_STORE_CTX_get0_cert(store);
	X509 *ca = find_by_fingerprint(chain, fingerprint);
	int result = ca == NULL ? X509_V_ERR_CERT_UNTRUSTED : verify_under(ca, leaf, chain);

	X509_STORE_CTX_set_error(store, result);
	return result == X509_V_OK;
}

int
tls_context_create_enroll(const unsigned char *fingerprint, SSL_CTX **ret_context, struct hf_error *err)
{
	SSL_CTX *context = make_context();

	if (context == NULL)
		return hf_error_say(err, -ENOMEM, "TLS context: %s", tls_error_text());
	SSL_CTX_set_cert_verify_callback(context, on_verify_enroll, (void *)(uintptr_t)fingerprint);
	*ret_context = context;
	return 0;
}

int
tls_check_server(SSL *ssl, struct hf_error *err)
{
	X509 *peer = SSL_get0_peer_certificate(ssl);

	if (peer == NULL)
		return hf_error_say(err, -EACCES, "the server showed no certificate");
	if ((X509_get_extension_flags(peer) & EXFLAG_XKUSAGE) == 0 ||
	    (X509_get_extended_key_usage(peer) & XKU_SSL_SERVER) == 0)
		return hf_error_say(err, -EACCES,
		    "the peer's certificate is not one for servers (extended key usage serverAuth "
		    "is missing)");
	return 0;
}

/* ---- keys, requests, certificates ---- */

int
tls_key_create(EVP_PKEY **ret_key, struct hf_error *err)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	if (key == NULL)
		return hf_error_say(err, -EIO, "make a P-256 key: %s", tls_error_text());
	*ret_key = key;
	return 0;
}

int
tls_key_load(const char *path, EVP_PKEY **ret_key, struct hf_error *err)
{
	BIO *bio = BIO_new_file(path, "r");
	EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);

	BIO_free(bio);
	if (key == NULL)
		return hf_error_say(err, -EINVAL, "key %s: %s", path, tls_error_text());
	*ret_key = key;
	return 0;
}

/* Takes bio: its content becomes the file. */
static int
save_bio(const char *path, mode_t mode, BIO *bio, int made, struct hf_error *err)
{
	char *bytes;
	long len;
	int r;

	if (bio == NULL || made != 1) {
		BIO_free(bio);
		return hf_error_say(err, -EIO, "write %s: %s", path, tls_error_text());
	}
	len = BIO_get_mem_data(bio, &bytes);
	r = file_replace(path, mode, bytes, (size_t)len, err);
	BIO_free(bio);
	return r;
}

int
tls_key_save(const char *path, EVP_PKEY *key, struct hf_error *err)
{
	BIO *bio = BIO_new(BIO_s_secmem());
	int made = bio == NULL ? 0 : PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);

	return save_bio(path, 0600, bio, made, err);
}

static X509_REQ *
make_request(EVP_PKEY *key, const char *common_name)
{
	X509_REQ *request = X509_REQ_new();

	if (request != NULL && X509_REQ_set_version(request, X509_REQ_VERSION_1) == 1 &&
	    X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request), "CN", MBSTRING_UTF8,
		(const unsigned char *)common_name, -1, -1, 0) == 1 &&
	    X509_REQ_set_pubkey(request, key) == 1 && X509_REQ_sign(request, key, EVP_sha256()) > 0)
		return request;
	X509_REQ_free(request);
	return NULL;
}

int
tls_csr_make(EVP_PKEY *key, const char *common_name, struct message_blob *ret_csr, struct hf_error *err)
{
	X509_REQ *request = make_request(key, common_name);
	unsigned char *p = ret_csr->bytes;
	int len = request == NULL ? -1 : i2d_X509_REQ(request, NULL);

	if (len <= 0 || len > CERTIFICATE_BYTES_MAX) {
		X509_REQ_free(request);
		return hf_error_say(err, -EIO, "make a certificate request: %s", tls_error_text());
	}
	ret_csr->len = (size_t)i2d_X509_REQ(request, &p);
	X509_REQ_free(request);
	return 0;
}

int
tls_certificate_save(const char *path, const struct message_blob *certificate, EVP_PKEY *key, struct hf_error *err)
{
	const unsigned char *p = certificate->bytes;
	X509 *x = d2i_X509(NULL, &p, (long)certificate->len);
	BIO *bio;
	int made, r;

	if (x == NULL || (key != NULL && X509_check_private_key(x, key) != 1)) {
		r = hf_error_say(err, -EBADMSG, "the certificate received from the server is not usable: %s",
		    x == NULL ? tls_error_text() : "it is for another key");
		X509_free(x);
		return r;
	}
	bio = BIO_new(BIO_s_mem());
	made = bio == NULL ? 0 : PEM_write_bio_X509(bio, x);
	X509_free(x);
	return save_bio(path, 0644, bio, made, err);
}

void
tls_fingerprint(const struct message_blob *certificate, unsigned char *ret_fingerprint)
{
	(void)EVP_Digest(certificate->bytes, certificate->len, ret_fingerprint, NULL, EVP_sha256(),
	    NULL); /* cannot fail on bytes in memory but for want of memory; then it matches nothing
		    */
}

int
tls_check_ca(const char *path, const struct message_blob *certificate, struct hf_error *err)
{
	unsigned char ours[EVP_MAX_MD_SIZE], theirs[EVP_MAX_MD_SIZE];
	BIO *bio = BIO_new_file(path, "r");
	bool any = false, found = false;
	X509 *x;

	tls_fingerprint(certificate, theirs);
	while (bio != NULL && !found && (x = PEM_read_bio_X509(bio, NULL, no_password, NULL)) != NULL) {
		any = true;
		found =
		    X509_digest(x, EVP_sha256(), ours, NULL) == 1 && memcmp(ours, theirs, TLS_FINGERPRINT_BYTES) == 0;
		X509_free(x);
	}
	BIO_free(bio);
	if (!any)
		return hf_error_say(err, -EINVAL, "CA certificate %s: %s", path, tls_error_text());
	ERR_clear_error(); /* the end of the file is one */
	return found ? 0 : hf_error_say(err, -EACCES, "the server named another CA than the one we enrolled under");
}

/* PEM of ca and next into bio. */
static bool
write_cas(BIO *bio, const struct message_blob *ca, const struct message_blob *next)
{
	const struct message_blob *const all[] = {ca, next};
	bool good = bio != NULL;

	for (size_t i = 0; i < 2 && good; i++) {
		const unsigned char *p = all[i]->bytes;
		X509 *x = all[i]->len == 0 ? NULL : d2i_X509(NULL, &p, (long)all[i]->len);

		good = all[i]->len == 0 || (x != NULL && X509_check_ca(x) == 1 && PEM_write_bio_X509(bio, x) == 1);
		X509_free(x);
	}
	return good;
}

/* Does the file hold exactly these bytes? */
static bool
holds(const char *path, const char *bytes, size_t len)
{
	char *old = malloc(len + 1);
	FILE *f = fopen(path, "re");
	bool same = f != NULL && old != NULL && fread(old, 1, len + 1, f) == len && memcmp(old, bytes, len) == 0;

	if (f != NULL)
		fclose(f);
	free(old);
	return same;
}

int
tls_ca_save(const char *path, const struct message_blob *ca, const struct message_blob *next, struct hf_error *err)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *bytes;
	long len;
	int r = 0;

	if (!write_cas(bio, ca, next)) {
		BIO_free(bio);
		return hf_error_say(
		    err, -EBADMSG, "a CA certificate received from the server is not usable: %s", tls_error_text());
	}
	len = BIO_get_mem_data(bio, &bytes);
	if (!holds(path, bytes, (size_t)len)) {
		r = file_replace(path, 0644, bytes, (size_t)len, err);
		r = r == 0 ? 1 : r;
	}
	BIO_free(bio);
	return r;
}
