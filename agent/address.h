/* SPDX-License-Identifier: Apache-2.0 */
/* address.h: "HOST", "HOST:PORT", "[V6]:PORT" and what they resolve to. */
#ifndef HF_AGENT_ADDRESS_H
#define HF_AGENT_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "proto/common/error.h"

enum {
	ADDRESS_HOST_BYTES = 254,
	ADDRESS_TEXT_BYTES = 270, /* "[host]:65535" */
	ADDRESS_RESOLVED_MAX = 8, /* of one name; more are not tried */
	PORT_DATA = 1500,
	PORT_ENROLL = 1501,
};

struct address {
	char host[ADDRESS_HOST_BYTES];
	uint16_t port;
};

struct address_resolved {
	struct sockaddr_storage socket;
	socklen_t len;
};

/* Split text; without a port it is default_port. 0 or -EINVAL. A bare IPv6 address needs no
 * brackets. */
int address_parse(const char *text, uint16_t default_port, struct address *ret_address, struct hf_error *err);

/* "HOST:PORT" into buf (ADDRESS_TEXT_BYTES); returns buf. */
const char *address_format(const struct address *a, char *buf);

/* The socket addresses of a. Blocks for as long as the resolver does. Returns how many (at least
 * 1), or -EHOSTUNREACH with the resolver's words. */
int address_resolve(const struct address *a, struct address_resolved *ret_resolved, struct hf_error *err);

#endif
