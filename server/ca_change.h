/* SPDX-License-Identifier: Apache-2.0 */
/* ca_change.h: how far a change of CA is: which agents have come with a certificate of the next one, and which still
 * need the old. */
#ifndef HF_SERVER_CA_CHANGE_H
#define HF_SERVER_CA_CHANGE_H

#include "server/registry.h"

enum { CA_WAITING_MAX = 256 };

struct ca_change {
	size_t moved, waiting;
	struct {
		struct id source;
		char hostname[NAME_BYTES];
	} list[CA_WAITING_MAX]; /* the first of those waiting */
};

/* Blocks. Sources without a certificate that is still good need none of the CAs: they are in neither number. */
int ca_change_look(struct registry *registry, const char *next_fingerprint, int64_t now_ns,
    struct ca_change *ret_change, struct hf_error *err);

#endif
