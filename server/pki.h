/* SPDX-License-Identifier: Apache-2.0 */
/* pki.h: <data>/pki/ (0700): our own certificate authority and the server's key. Made on first
 * start, all or nothing; a CA whose key is missing is refused, never replaced: every agent trusts
 * this one CA and nothing else.
 *
 * A change of CA: pki_rotate() makes the next one beside it. The server goes on with a certificate
 * of the old, and takes those of both; agents are told of the next, and given certificates of it.
 * When all have come with one, pki_retire() puts it in the place of the old.
 *
 * Any thread; calls take a mutex. Those that touch the disk: open, renew, rotate, retire. */
#ifndef HF_SERVER_PKI_H
#define HF_SERVER_PKI_H

#include <openssl/types.h>
#include <stdbool.h>

#include "proto/common/units.h"
#include "server/registry.h"

struct pki;

/* Certificates are dated back by this much, for agents whose clock is behind ours. */
#define PKI_CLOCK_LEEWAY_NS (300 * NS_PER_SECOND)

enum {
	TOKEN_TEXT_BYTES = 128, /* "hf1." secret "." fingerprint */
};

/* Open the directory, or create it if there is none. Renews the server's certificate if it is due.
 * -HF_ECORRUPT: half made, or its files do not fit together; -HF_EEXPIRED: the CA has expired;
 * -errno. Blocks. */
int pki_open(const char *dir, int64_t now_ns, struct pki **ret_pki, struct hf_error *err);
void pki_close(struct pki *p); /* NULL allowed */

/* What a person wants to know of one. Texts are lower-case hexadecimal, but for the names. */
struct pki_certificate {
	char subject[64];
	char serial[SERIAL_TEXT_BYTES], fingerprint[FINGERPRINT_TEXT_BYTES];
	char issuer[FINGERPRINT_TEXT_BYTES]; /* fingerprint of the CA */
	int64_t not_before_ns, not_after_ns;
};
enum pki_role { PKI_CA, PKI_NEXT_CA, PKI_SERVER, PKI_ROLES };
/* False, and all zero: there is none. */
bool pki_describe(struct pki *p, enum pki_role role, struct pki_certificate *ret_certificate);

/* SHA-256 of the CA certificate's DER, lower-case hex, into FINGERPRINT_TEXT_BYTES; returns buf. */
const char *pki_ca_fingerprint(struct pki *p, char *buf);
void pki_get_ca(struct pki *p, struct message_blob *ret_certificate);
/* Of no bytes if there is none. */
void pki_get_next_ca(struct pki *p, struct message_blob *ret_certificate);

/* How often the CAs have changed since the start. Does not block. */
unsigned pki_generation(const struct pki *p);
/* There is a next CA, and a certificate of this issuer is not of it. */
bool pki_outdates(struct pki *p, const char *issuer_fingerprint);

/* Renew the server's certificate if 2/3 of its life is over, or anyway if it is wanted. 1: renewed, so contexts made
 * before should be replaced; 0: not due; or negative. Blocks. */
int pki_renew(struct pki *p, bool wanted, int64_t now_ns, struct hf_error *err);

/* Read the server's key and certificate anew. 1: they are others than before; 0: the same. -HF_ECORRUPT: they do not
 * fit together, or our CA did not sign them; -HF_EEXPIRED: others, and expired. Then those in memory stay. Blocks. */
int pki_reload(struct pki *p, int64_t now_ns, struct hf_error *err);

/* Would pki_open() have what is in the directory, and pki_reload()? None is fine, and so is an expired certificate of
 * the server, for a start renews it. Makes nothing. As pki_open(). Blocks. */
int pki_check(const char *dir, int64_t now_ns, struct hf_error *err);

/* Make the next CA. -EALREADY: there is one. Contexts made before should be replaced. Blocks. */
int pki_rotate(struct pki *p, int64_t now_ns, struct hf_error *err);
/* The next CA becomes the only one, with a certificate of it for the server. -ENOENT: there is no next one. The
 * same. */
int pki_retire(struct pki *p, int64_t now_ns, struct hf_error *err);

/* Sign the key of a certificate request for a source, with the next CA if there is one and the
 * agent takes it. Nothing of the request is used but its key,
 * which must be P-256 and have signed it. Both outputs are written on success only. -HF_EPROTOCOL:
 * the request is no good; -EIO. */
int pki_sign(struct pki *p, const struct message_blob *csr, const struct id *source, bool takes_next,
    int64_t lifetime_ns, int64_t now_ns, struct message_blob *ret_certificate, struct registry_certificate *ret_record,
    struct hf_error *err);

/* TLS context of the data port: TLS 1.3, a client certificate of our CAs made for clients is
 * demanded, nothing resumes. An expired one comes through the handshake, so that its owner can be
 * told what to do: ask pki_get_peer(). One context per thread; gives it (SSL_CTX_free). */
int pki_data_ctx(struct pki *p, SSL_CTX **ret_ctx, struct hf_error *err);

/* The same for the enrolment port: no client certificate. */
int pki_enroll_ctx(struct pki *p, SSL_CTX **ret_ctx, struct hf_error *err);

struct pki_peer {
	struct id source;
	unsigned char fingerprint[FINGERPRINT_BYTES];
	char serial[SERIAL_TEXT_BYTES], issuer[FINGERPRINT_TEXT_BYTES]; /* as in struct registry_certificate */
	int64_t not_before_ns, not_after_ns;
	bool expired; /* refuse it: -HF_EEXPIRED, with pki_cure() */
};
/* After a handshake on a context of pki_data_ctx(): who it is. Whether the certificate is in the
 * registry is yours to ask. -HF_EREVOKED: not a certificate of a source. */
int pki_get_peer(SSL *ssl, struct pki_peer *ret_peer, struct hf_error *err);

/* The one command that cures an expired or revoked certificate, into SENTENCE_BYTES bytes; returns
 * buf. */
const char *pki_cure(const struct id *source, char *buf);

/* A new token, bound to a source unless that is NULL; ret_text (TOKEN_TEXT_BYTES) is told to a
 * person once and not kept. */
void pki_make_token(struct pki *p, const struct id *source, int64_t lifetime_ns, int64_t now_ns,
    struct registry_token *ret_token, char *ret_text);

/* The hash by which the registry knows a token. secret is TOKEN_SECRET_BYTES, ret_hash
 * TOKEN_HASH_BYTES long. */
void pki_hash_token(const unsigned char *secret, unsigned char *ret_hash);

#endif
