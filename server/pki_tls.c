/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pki_impl.h"

#include <errno.h>
#include <string.h>

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "proto/common/status.h"

/* The registry, not the clock, decides who may come in, so two complaints about time do not end the
 * handshake: an expired certificate is refused after it, with words that help; "not yet valid"
 * means that our own clock was set back. */
static int
on_verify(int ok, X509_STORE_CTX *ctx)
{
	int error = X509_STORE_CTX_get_error(ctx);

	if (!ok && error == X509_V_ERR_CERT_NOT_YET_VALID) {
		X509_STORE_CTX_set_error(ctx, X509_V_OK);
		return 1;
	}
	if (!ok && error == X509_V_ERR_CERT_HAS_EXPIRED && X509_STORE_CTX_get_error_depth(ctx) == 0)
		return 1;
	if (ok && X509_STORE_CTX_get_error_depth(ctx) == 0 &&
	    !certificate_has_purpose(X509_STORE_CTX_get_current_cert(ctx), XKU_SSL_CLIENT)) {
		X509_STORE_CTX_set_error(ctx, X509_V_ERR_INVALID_PURPOSE);
		return 0;
	}
	return ok;
}

static void
set_options(SSL_CTX *ctx)
{
	SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ctx, 0); /* a resumed session would not be asked who it is */
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
}

static bool
set_own_chain(struct pki *p, SSL_CTX *ctx)
{
	HOLD(p);

	return SSL_CTX_use_certificate(ctx, p->server.certificate) == 1 &&
	       SSL_CTX_use_PrivateKey(ctx, p->server.key) == 1 && SSL_CTX_add1_chain_cert(ctx, p->ca.certificate) == 1;
}

/* NULL: OpenSSL says why. */
static SSL_CTX *
make_ctx(struct pki *p)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (ctx == NULL)
		return NULL;
	set_options(ctx);
	if (SSL_CTX_set_ciphersuites(
		ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") == 1 &&
	    set_own_chain(p, ctx))
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}

static bool
trust(SSL_CTX *ctx, X509 *ca)
{
	return X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), ca) == 1 && SSL_CTX_add_client_CA(ctx, ca) == 1;
}

static bool
demand_client(struct pki *p, SSL_CTX *ctx)
{
	HOLD(p);

	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);
	return trust(ctx, p->ca.certificate) && (p->next.certificate == NULL || trust(ctx, p->next.certificate)) &&
	       SSL_CTX_set_purpose(ctx, X509_PURPOSE_SSL_CLIENT) == 1;
}

int
pki_data_ctx(struct pki *p, SSL_CTX **ret_ctx, struct hf_error *err)
{
	SSL_CTX *ctx = make_ctx(p);

	if (ctx == NULL || !demand_client(p, ctx)) {
		SSL_CTX_free(ctx);
		return tls_fail(err, -EIO, "TLS context of the data port");
	}
	*ret_ctx = ctx;
	return 0;
}

int
pki_enroll_ctx(struct pki *p, SSL_CTX **ret_ctx, struct hf_error *err)
{
	SSL_CTX *ctx = make_ctx(p);

	if (ctx == NULL)
		return tls_fail(err, -EIO, "TLS context of the enrolment port");
	*ret_ctx = ctx;
	return 0;
}

static bool
read_common_name(X509 *x, struct id *ret_id)
{
	char text[64];
	int len = X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, text, sizeof text);

	return len > 0 && strlen(text) == (size_t)len && id_parse("s", text, ret_id);
}

/* The CA it was verified with: the last of the chain. */
static void
get_issuer(SSL *ssl, char *ret_fingerprint)
{
	STACK_OF(X509) *chain = SSL_get0_verified_chain(ssl);

	ret_fingerprint[0] = '\0';
	if (chain != NULL && sk_X509_num(chain) > 0)
		certificate_format_fingerprint(sk_X509_value(chain, sk_X509_num(chain) - 1), ret_fingerprint);
}

int
pki_get_peer(SSL *ssl, struct pki_peer *ret_peer, struct hf_error *err)
{
	X509 *x = SSL_get0_peer_certificate(ssl);
	struct pki_peer peer = {0};

	if (x == NULL || !read_common_name(x, &peer.source))
		return hf_error_say(err, -HF_EREVOKED, "the certificate is not one of a source");
	certificate_get_fingerprint(x, peer.fingerprint);
	certificate_serial(x, peer.serial, sizeof peer.serial);
	get_issuer(ssl, peer.issuer);
	peer.not_before_ns = certificate_time_ns(X509_get0_notBefore(x));
	peer.not_after_ns = certificate_time_ns(X509_get0_notAfter(x));
	peer.expired = SSL_get_verify_result(ssl) == X509_V_ERR_CERT_HAS_EXPIRED;
	*ret_peer = peer;
	return 0;
}
