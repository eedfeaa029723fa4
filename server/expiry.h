/* SPDX-License-Identifier: Apache-2.0 */
/* expiry.h: how near its end a certificate is. Pure. */
#ifndef HF_SERVER_EXPIRY_H
#define HF_SERVER_EXPIRY_H

#include <stdint.h>

enum expiry { EXPIRY_FAR, EXPIRY_NEAR, EXPIRY_OVER };

/* NEAR when four fifths of its life are over: an agent's or the server's should have been renewed by then, and a CA
 * leaves time to change it. Times since 1970; ret_since_ns: since when it is so, may be NULL. */
enum expiry expiry_of(int64_t not_before_ns, int64_t not_after_ns, int64_t now_ns, int64_t *ret_since_ns);

#endif
