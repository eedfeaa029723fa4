/* SPDX-License-Identifier: Apache-2.0 */
#include "server/certificate.h"

#include <assert.h>
#include <string.h>
#include <time.h>

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "proto/common/hex.h"
#include "proto/common/status.h"
#include "proto/common/units.h"

enum { SERIAL_BITS = 128 };

int
tls_fail(struct hf_error *err, int code, const char *what)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	int r = reason == NULL ? hf_error_say(err, code, "%s", what) : hf_error_say(err, code, "%s: %s", what, reason);

	ERR_clear_error();
	return r;
}

void
key_pair_fini(struct key_pair *p)
{
	X509_free(p->certificate);
	EVP_PKEY_free(p->key);
	*p = (struct key_pair){0};
}

void
certificate_get_fingerprint(const X509 *certificate, unsigned char *ret_fingerprint)
{
	unsigned len;
	int r = X509_digest(certificate, EVP_sha256(), ret_fingerprint, &len);

	assert(r == 1 && len == 32);
}

const char *
certificate_serial(const X509 *certificate, char *buf, size_t size)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
	size_t len = (size_t)ASN1_STRING_length(serial);

	buf[0] = '\0';
	if (2 * len < size)
		hex_format(ASN1_STRING_get0_data(serial), len, buf);
	return buf;
}

void
certificate_format_fingerprint(const X509 *certificate, char *ret_text)
{
	unsigned char fingerprint[32];

	certificate_get_fingerprint(certificate, fingerprint);
	hex_format(fingerprint, sizeof fingerprint, ret_text);
}

int64_t
certificate_time_ns(const ASN1_TIME *t)
{
	struct tm tm;

	if (ASN1_TIME_to_tm(t, &tm) != 1)
		return 0; /* long ago: expired */
	return (int64_t)timegm(&tm) * NS_PER_SECOND;
}

bool
certificate_has_purpose(X509 *certificate, uint32_t usage)
{
	return (X509_get_extension_flags(certificate) & EXFLAG_XKUSAGE) != 0 &&
	       (X509_get_extended_key_usage(certificate) & usage) != 0;
}

bool
certificate_encode(X509 *certificate, struct message_blob *ret)
{
	unsigned char *bytes = NULL;
	int len = i2d_X509(certificate, &bytes);
	bool fits = len > 0 && len <= CERTIFICATE_BYTES_MAX;

	if (fits) {
		memcpy(ret->bytes, bytes, (size_t)len);
		ret->len = (size_t)len;
	}
	OPENSSL_free(bytes);
	return fits;
}

/* ---- making ---- */

static bool
set_serial(X509 *x)
{
	BIGNUM *n = BN_new();
	bool good = n != NULL && BN_rand(n, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
		    BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) != NULL;

	BN_free(n);
	return good;
}

static bool
set_name(X509_NAME *name, const char *text)
{
	return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)text, -1, -1, 0) == 1;
}

static bool
set_times(X509 *x, const struct certificate_recipe *r)
{
	/* the end is rounded up, so that a life of seconds is not shorter than said */
	time_t begin = (time_t)(r->not_before_ns / NS_PER_SECOND),
	       end = (time_t)((r->not_after_ns + NS_PER_SECOND - 1) / NS_PER_SECOND);

	return ASN1_TIME_set(X509_getm_notBefore(x), begin) != NULL &&
	       ASN1_TIME_set(X509_getm_notAfter(x), end) != NULL;
}

static bool
add_extension(X509 *x, X509V3_CTX *ctx, int nid, const char *value)
{
	X509_EXTENSION *e;
	bool good;

	if (value == NULL)
		return true;
	e = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
	good = e != NULL && X509_add_ext(x, e, -1) == 1;
	X509_EXTENSION_free(e);
	return good;
}

static bool
add_extensions(X509 *x, const struct certificate_recipe *r)
{
	X509V3_CTX ctx;

	X509V3_set_ctx(&ctx, r->issuer != NULL ? r->issuer->certificate : x, x, NULL, NULL, 0);
	return add_extension(x, &ctx, NID_basic_constraints, r->constraints) &&
	       add_extension(x, &ctx, NID_key_usage, r->usage) &&
	       add_extension(x, &ctx, NID_ext_key_usage, r->extended_usage) &&
	       add_extension(x, &ctx, NID_subject_key_identifier, "hash") &&
	       add_extension(x, &ctx, NID_authority_key_identifier, r->issuer != NULL ? "keyid" : NULL);
}

X509 *
certificate_make(const struct certificate_recipe *r)
{
	X509 *x = X509_new();
	EVP_PKEY *signer = r->issuer != NULL ? r->issuer->key : r->key;
	const X509_NAME *issuer;

	if (x == NULL || X509_set_version(x, X509_VERSION_3) != 1 || !set_serial(x) ||
	    !set_name(X509_get_subject_name(x), r->common_name))
		goto fail;
	issuer = X509_get_subject_name(r->issuer != NULL ? r->issuer->certificate : x);
	if (X509_set_issuer_name(x, issuer) != 1 || !set_times(x, r) || X509_set_pubkey(x, r->key) != 1 ||
	    !add_extensions(x, r) || X509_sign(x, signer, EVP_sha256()) == 0)
		goto fail;
	return x;
fail:
	X509_free(x);
	return NULL;
}

/* ---- requests ---- */

static bool
is_p256(EVP_PKEY *key)
{
	char group[32];

	return key != NULL && EVP_PKEY_is_a(key, "EC") &&
	       EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1 && strcmp(group, "prime256v1") == 0;
}

/* The kind of key is looked at first: a signature of RSA with 16,384 bits is expensive to refuse.
 */
X509_REQ *
request_read(const struct message_blob *csr, struct hf_error *err)
{
	const unsigned char *end = csr->bytes;
	X509_REQ *request = d2i_X509_REQ(NULL, &end, (long)csr->len);
	const char *reason = NULL;

	if (request == NULL || end != csr->bytes + csr->len)
		reason = "the certificate request cannot be read";
	else if (!is_p256(X509_REQ_get0_pubkey(request)))
		reason = "the certificate request is not for a P-256 key";
	else if (X509_REQ_verify(request, X509_REQ_get0_pubkey(request)) != 1)
		reason = "the certificate request is not signed by its own key";
	if (reason == NULL)
		return request;
	X509_REQ_free(request);
	(void)tls_fail(err, -HF_EPROTOCOL, reason);
	return NULL;
}
