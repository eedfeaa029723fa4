/* SPDX-License-Identifier: Apache-2.0 */
/* tries.h: who has guessed wrong too often lately: a bounded table of addresses. Pure. */
#ifndef HF_SERVER_TRIES_H
#define HF_SERVER_TRIES_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/common/units.h"

enum {
	TRIES_MAX = 5,             /* wrong ones in TRIES_WINDOW_NS; the next is not looked at */
	TRIES_ADDRESSES_MAX = 256, /* then the address longest quiet is forgotten: who has so many addresses guesses 160
				      bits in vain all the same */
};
#define TRIES_WINDOW_NS (60 * NS_PER_SECOND)

/* A host, as far as tries go: an IPv4 address, or an IPv6 /64, within which a host may call itself anything. */
struct tries_host {
	unsigned char bytes[8];
};
struct tries_host tries_host_of(const struct sockaddr *address);

struct tries_entry {
	struct tries_host host;
	int64_t wrong_ns[TRIES_MAX]; /* a ring; 0 = never */
	unsigned next;               /* the oldest of them */
	int64_t last_ns;
};

struct tries { /* zeroed = empty */
	struct tries_entry entries[TRIES_ADDRESSES_MAX];
};

/* May host try at now_ns? Times are monotonic and not 0. */
bool tries_allowed(const struct tries *t, const struct tries_host *host, int64_t now_ns);

void tries_add_wrong(struct tries *t, const struct tries_host *host, int64_t now_ns);

#endif
