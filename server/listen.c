/* SPDX-License-Identifier: Apache-2.0 */
#include "server/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BACKLOG = 1024 }; /* agents come back all at once after a restart */

static bool
parse_port(const char *text, unsigned *ret_port)
{
	char *end;
	unsigned long port;

	if (text[0] < '0' || text[0] > '9' || strlen(text) > 5)
		return false;
	port = strtoul(text, &end, 10);
	if (*end != '\0' || port > 65535)
		return false;
	*ret_port = (unsigned)port;
	return true;
}

/* What names (RFC 952, and the underscore many have), addresses and their zones (RFC 4007) are made of. */
static const char host_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:%";

bool
address_split(const char *text, char *ret_host, unsigned *ret_port)
{
	const char *colon = strrchr(text, ':');
	size_t len = colon == NULL ? 0 : (size_t)(colon - text);

	if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
		text++;
		len -= 2;
	} else if (memchr(text, ':', len) != NULL) {
		return false; /* an IPv6 address without brackets: which part is the port? */
	}
	if (len == 0 || len >= ADDRESS_HOST_BYTES || strspn(text, host_characters) < len ||
	    !parse_port(colon + 1, ret_port))
		return false;
	memcpy(ret_host, text, len);
	ret_host[len] = '\0';
	return true;
}

bool
address_is_loopback(const char *text)
{
	char host[ADDRESS_HOST_BYTES];
	struct in6_addr v6;
	struct in_addr v4;
	unsigned port;

	if (!address_split(text, host, &port))
		return false;
	if (inet_pton(AF_INET6, host, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6);
	return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
}

const char *
sockaddr_format(const struct sockaddr *address, socklen_t len, char *buf)
{
	char host[ADDRESS_TEXT_BYTES - 9], port[6];

	if (getnameinfo(address, len, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		snprintf(buf, ADDRESS_TEXT_BYTES, "?");
	else
		snprintf(buf, ADDRESS_TEXT_BYTES, address->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
	return buf;
}

static int
listen_on(const struct addrinfo *a)
{
	int one = 1, r;
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 || bind(fd, a->ai_addr, a->ai_addrlen) < 0 ||
	    listen(fd, BACKLOG) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static void
name_socket(int fd, char *ret_address)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof address;

	if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
		len = 0;
	sockaddr_format((struct sockaddr *)&address, len, ret_address);
}

int
listen_open(const char *address, int *ret_fd, char *ret_address, struct hf_error *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
	char host[ADDRESS_HOST_BYTES], port[8];
	unsigned number;
	int r;

	if (!address_split(address, host, &number))
		return hf_error_say(err, -EINVAL, "listen on %s: expected HOST:PORT", address);
	snprintf(port, sizeof port, "%u", number);
	r = getaddrinfo(host, port, &hints, &found);
	if (r != 0)
		return hf_error_say(err, -EINVAL, "listen on %s: %s", address, gai_strerror(r));
	r = listen_on(found);
	freeaddrinfo(found);
	if (r < 0)
		return hf_error_set(err, r, "listen on %s", address);
	name_socket(r, ret_address);
	*ret_fd = r;
	return 0;
}
