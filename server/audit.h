/* SPDX-License-Identifier: Apache-2.0 */
/* audit.h: the chain of the audit: each row holds a digest of itself and of the row before, and the registry the number
 * and digest of the last. So a row that was changed, removed or moved afterwards shows. Who can write the whole
 * database can make a new chain: note the newest digest elsewhere (the log has each) if that is what you fear. */
#ifndef HF_SERVER_AUDIT_H
#define HF_SERVER_AUDIT_H

#include "server/registry.h"

/* SHA-256 of the row (its own digest is not looked at) and the digest before it; zeros before the first. Both are
 * AUDIT_DIGEST_BYTES long. */
void audit_digest(const unsigned char *before, const struct registry_audit *row, unsigned char *ret_digest);

enum { AUDIT_FAULTS_MAX = 32 };

struct audit_report {
	uint64_t rows, unchained; /* unchained: from before there was a chain */
	uint64_t newest;          /* number; 0 = there is none */
	unsigned char newest_digest[AUDIT_DIGEST_BYTES];
	struct {
		uint64_t number;
		char text[SENTENCE_BYTES];
	} faults[AUDIT_FAULTS_MAX];
	uint64_t fault_count; /* of which the first are listed */
};

/* Read all of it and follow the chain. Blocks, page by page. 0, whatever was found, or negative. */
int audit_check(struct registry *r, struct audit_report *ret_report, struct hf_error *err);

#endif
