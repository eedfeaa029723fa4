/* SPDX-License-Identifier: Apache-2.0 */
/* expiry.h: how near its end a certificate is, and the events that tell of it in time. */
#ifndef HF_SERVER_EXPIRY_H
#define HF_SERVER_EXPIRY_H

#include <stdint.h>

struct server;

enum expiry { EXPIRY_FAR, EXPIRY_NEAR, EXPIRY_OVER };

/* NEAR when four fifths of its life are over: an agent's or the server's should have been renewed by then, and a CA
 * leaves time to change it. Times since 1970; ret_since_ns: since when it is so, may be NULL. */
enum expiry expiry_of(int64_t not_before_ns, int64_t not_after_ns, int64_t now_ns, int64_t *ret_since_ns);

/* Catalog thread; blocks. An event for each certificate that came near its end, or to it, since the last look (told_ns;
 * 0 = at the start, of all). Sources that are stopped or deleted are not told of. */
void expiry_look(struct server *sv, int64_t told_ns, int64_t now_ns);

#endif
