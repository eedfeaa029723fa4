/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/fake_pki.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "proto/common/id.h"

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "fake_pki: %s failed\n", what);
	abort();
}

static void
add_extension(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	must(e != NULL && X509_add_ext(x, e, -1) == 1, "extension");
	X509_EXTENSION_free(e);
}

static void
add_usage(X509 *x, enum fake_usage usage)
{
	switch (usage) {
	case FAKE_CA:
		add_extension(x, NID_basic_constraints, "critical,CA:TRUE");
		add_extension(x, NID_key_usage, "critical,keyCertSign");
		return;
	case FAKE_SERVER: add_extension(x, NID_ext_key_usage, "serverAuth"); return;
	case FAKE_CLIENT: add_extension(x, NID_ext_key_usage, "clientAuth"); return;
	case FAKE_NO_USAGE: return;
	}
}

static X509 *
make_certificate(EVP_PKEY *public_key, const char *common_name, const struct fake_identity *issuer,
    EVP_PKEY *signing_key, enum fake_usage usage, int days)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_NAME_new();
	uint32_t serial;

	random_bytes(&serial, sizeof serial);
	must(x != NULL && X509_set_version(x, X509_VERSION_3) == 1, "certificate");
	ASN1_INTEGER_set(X509_get_serialNumber(x), serial & 0x7fffffff);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_time_adj_ex(X509_getm_notAfter(x), days, -1800, NULL);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)common_name, -1, -1, 0);
	X509_set_subject_name(x, name);
	X509_set_issuer_name(x, issuer != NULL ? X509_get_subject_name(issuer->certificate) : name);
	X509_NAME_free(name);
	X509_set_pubkey(x, public_key);
	add_usage(x, usage);
	must(X509_sign(x, signing_key, EVP_sha256()) > 0, "sign");
	return x;
}

struct fake_identity
fake_identity_make(const struct fake_identity *issuer, const char *common_name, enum fake_usage usage, int days)
{
	struct fake_identity i = {.key = EVP_EC_gen("P-256")};

	must(i.key != NULL, "key");
	i.certificate = make_certificate(i.key, common_name, issuer, issuer != NULL ? issuer->key : i.key, usage, days);
	return i;
}

void
fake_identity_free(struct fake_identity *i)
{
	EVP_PKEY_free(i->key);
	X509_free(i->certificate);
}

X509 *
fake_pki_sign_request(const struct fake_identity *ca, const struct message_blob *csr, const char *common_name)
{
	const unsigned char *p = csr->bytes;
	X509_REQ *request = d2i_X509_REQ(NULL, &p, (long)csr->len);
	EVP_PKEY *key = request != NULL ? X509_REQ_get0_pubkey(request) : NULL;
	X509 *x;

	must(key != NULL && X509_REQ_verify(request, key) == 1, "certificate request");
	x = make_certificate(key, common_name, ca, ca->key, FAKE_CLIENT, 90);
	X509_REQ_free(request);
	return x;
}

void
fake_pki_to_blob(X509 *certificate, struct message_blob *ret_blob)
{
	unsigned char *p = ret_blob->bytes;
	int len = i2d_X509(certificate, NULL);

	must(len > 0 && len <= CERTIFICATE_BYTES_MAX, "DER");
	ret_blob->len = (size_t)i2d_X509(certificate, &p);
}

void
fake_pki_write_certificate(const char *path, X509 *certificate)
{
	FILE *f = fopen(path, "w");

	must(f != NULL && PEM_write_X509(f, certificate) == 1 && fclose(f) == 0, path);
}

void
fake_pki_write_key(const char *path, EVP_PKEY *key)
{
	FILE *f = fopen(path, "w");

	must(f != NULL && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(f) == 0, path);
}
