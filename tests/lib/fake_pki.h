/* SPDX-License-Identifier: Apache-2.0 */
/* fake_pki.h: a certificate authority for tests, made anew in each run. All functions abort on
 * failure. */
#ifndef HF_TESTS_FAKE_PKI_H
#define HF_TESTS_FAKE_PKI_H

#include <openssl/types.h>

#include "proto/message.h"

struct fake_identity { /* owned by the caller; fake_identity_free() */
	EVP_PKEY *key;
	X509 *certificate;
};

enum fake_usage { FAKE_CA, FAKE_SERVER, FAKE_CLIENT, FAKE_NO_USAGE };

/* A key and a certificate signed by issuer (NULL = by itself), valid from an hour ago for days. */
struct fake_identity fake_identity_make(
    const struct fake_identity *issuer, const char *common_name, enum fake_usage usage, int days);
void fake_identity_free(struct fake_identity *i);

/* Sign the public key of a certificate request, as a client. Gives the certificate. */
X509 *fake_pki_sign_request(const struct fake_identity *ca, const struct message_blob *csr, const char *common_name);

void fake_pki_to_blob(X509 *certificate, struct message_blob *ret_blob);
void fake_pki_write_certificate(const char *path, X509 *certificate);
void fake_pki_write_key(const char *path, EVP_PKEY *key);

#endif
