/* SPDX-License-Identifier: Apache-2.0 */
/* enroll.h: how a machine becomes known to a server: token in, key made here, certificate out. */
#ifndef HF_AGENT_ENROLL_H
#define HF_AGENT_ENROLL_H

#include "agent/options.h"
#include "agent/tls.h"

struct token {
	unsigned char secret[TOKEN_SECRET_BYTES];
	unsigned char fingerprint[TLS_FINGERPRINT_BYTES]; /* of the server's CA certificate */
};

/* "hf1.SECRET.FINGERPRINT". 0 or -EINVAL. */
int token_parse(const char *text, struct token *ret_token, struct hf_error *err);

/* The command: choose volumes, ask the servers in turn, store what they answered. Prints to stdout
 * and stderr, may ask on the terminal. Returns the program's exit code. */
int enroll_run(const struct options *o);

#endif
