/* SPDX-License-Identifier: Apache-2.0 */
/* tls.h: the agent's keys, certificates and TLS contexts.
 *
 * TLS 1.3 only. The server is whoever holds a certificate for servers (EKU serverAuth) signed by
 * the pinned CA; host names are not looked at, so that addresses may change. A certificate that is
 * "not yet valid" is accepted: then this machine's clock is behind, and replication must not depend
 * on it; an expired one is refused. */
#ifndef HF_AGENT_TLS_H
#define HF_AGENT_TLS_H

#include <openssl/types.h>

#include "proto/common/error.h"
#include "proto/message.h"

enum { TLS_FINGERPRINT_BYTES = 32 }; /* SHA-256 of a certificate's DER */

/* Context of the data port: our key and certificate, their CA. All paths PEM. Gives the context. 0,
 * -errno, or -EINVAL when the files do not fit together, with the reason. */
int tls_context_create(const char *key_path, const char *certificate_path, const char *ca_path, SSL_CTX **ret_context,
    struct hf_error *err);

/* Context of the enrolment port: accepts exactly a server under the CA with this fingerprint.
 * Borrows the fingerprint for the context's life. */
int tls_context_create_enroll(const unsigned char *fingerprint, SSL_CTX **ret_context, struct hf_error *err);

/* After the handshake: the certificate must say that it is for servers, not merely fail to say the
 * contrary. */
int tls_check_server(SSL *ssl, struct hf_error *err);

/* A new P-256 key; gives it. */
int tls_key_create(EVP_PKEY **ret_key, struct hf_error *err);
int tls_key_load(const char *path, EVP_PKEY **ret_key, struct hf_error *err);
int tls_key_save(const char *path, EVP_PKEY *key, struct hf_error *err); /* 0600, atomically */

/* A PKCS#10 request with this common name (the server ignores it: it names us), signed by key. */
int tls_csr_make(EVP_PKEY *key, const char *common_name, struct message_blob *ret_csr, struct hf_error *err);

/* Check that the DER certificate parses and, unless key is NULL, that it is for that key; write it
 * as PEM, atomically. */
int tls_certificate_save(const char *path, const struct message_blob *certificate, EVP_PKEY *key, struct hf_error *err);

/* 0 if certificate is one of the CAs kept in path, else -EACCES. */
int tls_check_ca(const char *path, const struct message_blob *certificate, struct hf_error *err);

/* The CAs kept in path become ca and, if it has any bytes, next; atomically. 1: they were others before; 0; negative.
 */
int tls_ca_save(const char *path, const struct message_blob *ca, const struct message_blob *next, struct hf_error *err);

/* SHA-256 of the DER bytes. */
void tls_fingerprint(const struct message_blob *certificate, unsigned char *ret_fingerprint);

/* The newest error of OpenSSL on this thread, in words (static per thread), and forget it. */
const char *tls_error_text(void);

#endif
