/* SPDX-License-Identifier: Apache-2.0 */
/* certificate.h: making and reading X.509 certificates and the requests for them. Nothing here
 * blocks or touches a file. */
#ifndef HF_SERVER_CERTIFICATE_H
#define HF_SERVER_CERTIFICATE_H

#include <openssl/x509.h>
#include <stdbool.h>

#include "proto/common/error.h"
#include "proto/message.h"

/* Set err to what, with the newest error of OpenSSL on this thread, which is then forgotten.
 * Returns code. */
int tls_fail(struct hf_error *err, int code, const char *what);

struct key_pair {
	X509 *certificate;
	EVP_PKEY *key;
};
void key_pair_fini(struct key_pair *p);

struct certificate_recipe {
	const char *common_name;
	EVP_PKEY *key;                 /* of the subject */
	const struct key_pair *issuer; /* NULL: signs itself */
	int64_t not_before_ns, not_after_ns;
	const char *constraints, *usage, *extended_usage; /* as in openssl.cnf; extended_usage may be NULL */
};
/* With a random serial of 128 bits. Gives the certificate; NULL: OpenSSL says why. */
X509 *certificate_make(const struct certificate_recipe *r);

/* DER; false if it does not fit. */
bool certificate_encode(X509 *certificate, struct message_blob *ret);

/* SHA-256 of the DER, 32 bytes. */
void certificate_get_fingerprint(const X509 *certificate, unsigned char *ret_fingerprint);

/* Hexadecimal; "" if it does not fit into size. Returns buf. */
const char *certificate_serial(const X509 *certificate, char *buf, size_t size);

/* The fingerprint as hex_format() (proto/common/hex.h) has it, 65 bytes. */
void certificate_format_fingerprint(const X509 *certificate, char *ret_text);

/* 0 for a time that makes no sense. */
int64_t certificate_time_ns(const ASN1_TIME *t);

/* Does it say so (XKU_...), and not merely fail to say the contrary? */
bool certificate_has_purpose(X509 *certificate, uint32_t usage);

/* A request that parses, for a P-256 key, and signed with it. Gives it; NULL with err set to
 * -HF_EPROTOCOL. */
X509_REQ *request_read(const struct message_blob *csr, struct hf_error *err);

#endif
