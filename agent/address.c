/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/address.h"

#include <errno.h>
#include <netdb.h>
#include <nss.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int
parse_port(const char *text, uint16_t *ret_port)
{
	char *end;
	unsigned long port = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end != '\0' || port == 0 || port > 65535)
		return -EINVAL;
	*ret_port = (uint16_t)port;
	return 0;
}

/* Find where the host begins, how long it is, and where ":PORT" is (NULL = none). */
static int
split(const char *text, const char **ret_host, size_t *ret_len, const char **ret_port)
{
	const char *colon = strrchr(text, ':');
	const char *close = strchr(text, ']');

	if (text[0] == '[') {
		if (close == NULL || (close[1] != '\0' && close[1] != ':'))
			return -EINVAL;
		*ret_host = text + 1;
		*ret_len = (size_t)(close - text - 1);
		*ret_port = close[1] == ':' ? close + 2 : NULL;
		return 0;
	}
	if (colon != NULL && strchr(text, ':') != colon)
		colon = NULL; /* several colons: a bare IPv6 address */
	*ret_host = text;
	*ret_len = colon != NULL ? (size_t)(colon - text) : strlen(text);
	*ret_port = colon != NULL ? colon + 1 : NULL;
	return 0;
}

int
address_parse(const char *text, uint16_t default_port, struct address *ret_address, struct hf_error *err)
{
	struct address a = {.port = default_port};
	const char *host, *port;
	size_t len;

	if (split(text, &host, &len, &port) < 0 || len == 0 || len >= sizeof a.host ||
	    (port != NULL && parse_port(port, &a.port) < 0))
		return hf_error_say(err, -EINVAL, "'%s' is not an address: write HOST, HOST:PORT or [IPV6]:PORT", text);
	memcpy(a.host, host, len);
	*ret_address = a;
	return 0;
}

const char *
address_format(const struct address *a, char *buf)
{
	bool v6 = strchr(a->host, ':') != NULL;

	snprintf(buf, ADDRESS_TEXT_BYTES, "%s%s%s:%u", v6 ? "[" : "", a->host, v6 ? "]" : "", a->port);
	return buf;
}

/* A static program must not load the libraries that /etc/nsswitch.conf names: they belong to another C library. The two
 * that matter are built in. */
static void
use_what_is_built_in(void)
{
#ifdef HOLDFAST_STATIC
	__nss_configure_lookup("hosts", "files dns");
#endif
}

int
address_resolve(const struct address *a, struct address_resolved *ret_resolved, struct hf_error *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found;
	char port[8];
	int n = 0, r;

	snprintf(port, sizeof port, "%u", a->port);
	use_what_is_built_in();
	r = getaddrinfo(a->host, port, &hints, &found);
	if (r != 0)
		return hf_error_say(err, -EHOSTUNREACH, "%s: %s", a->host, gai_strerror(r));
	for (struct addrinfo *i = found; i != NULL && n < ADDRESS_RESOLVED_MAX; i = i->ai_next, n++) {
		memcpy(&ret_resolved[n].socket, i->ai_addr, i->ai_addrlen);
		ret_resolved[n].len = i->ai_addrlen;
	}
	freeaddrinfo(found);
	return n;
}
