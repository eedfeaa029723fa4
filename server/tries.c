/* SPDX-License-Identifier: Apache-2.0 */
#include "server/tries.h"

#include <string.h>

struct tries_host
tries_host_of(const struct sockaddr *address)
{
	struct tries_host host = {{0}};
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	if (address->sa_family == AF_INET) {
		memcpy(&v4, address, sizeof v4);
		memcpy(host.bytes + 4, &v4.sin_addr, 4);
	} else if (address->sa_family == AF_INET6) {
		memcpy(&v6, address, sizeof v6);
		if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr))
			memcpy(host.bytes + 4, v6.sin6_addr.s6_addr + 12, 4);
		else
			memcpy(host.bytes, &v6.sin6_addr, 8);
	}
	return host;
}

static const struct tries_entry *
find(const struct tries *t, const struct tries_host *host)
{
	for (int i = 0; i < TRIES_ADDRESSES_MAX; i++)
		if (t->entries[i].last_ns != 0 && memcmp(&t->entries[i].host, host, sizeof *host) == 0)
			return &t->entries[i];
	return NULL;
}

bool
tries_allowed(const struct tries *t, const struct tries_host *host, int64_t now_ns)
{
	const struct tries_entry *e = find(t, host);
	int64_t oldest_ns = e == NULL ? 0 : e->wrong_ns[e->next];

	return oldest_ns == 0 || now_ns - oldest_ns >= TRIES_WINDOW_NS;
}

/* The entry of host: its own, a free one, or that of the address longest quiet. */
static struct tries_entry *
entry_for(struct tries *t, const struct tries_host *host)
{
	struct tries_entry *oldest = t->entries;

	for (int i = 0; i < TRIES_ADDRESSES_MAX; i++) {
		struct tries_entry *e = &t->entries[i];

		if (e->last_ns != 0 && memcmp(&e->host, host, sizeof *host) == 0)
			return e;
		if (e->last_ns < oldest->last_ns)
			oldest = e;
	}
	memset(oldest, 0, sizeof *oldest);
	oldest->host = *host;
	return oldest;
}

void
tries_add_wrong(struct tries *t, const struct tries_host *host, int64_t now_ns)
{
	struct tries_entry *e = entry_for(t, host);

	e->wrong_ns[e->next] = e->last_ns = now_ns;
	e->next = (e->next + 1) % TRIES_MAX;
}
