/* SPDX-License-Identifier: Apache-2.0 */
/* listen.h: a listening TCP socket from "HOST:PORT" or "[IPV6]:PORT". */
#ifndef HF_SERVER_LISTEN_H
#define HF_SERVER_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "proto/common/error.h"

enum {
	ADDRESS_HOST_BYTES = 256,
	ADDRESS_TEXT_BYTES = 64, /* a numeric address with its port */
};

/* Split text into host (ADDRESS_HOST_BYTES, without brackets) and port. False if it is not of that
 * form. */
bool address_split(const char *text, char *ret_host, unsigned *ret_port);

/* Is it an address like 127.0.0.1:9877 or [::1]:9877, that only this machine can reach? Names are not: who knows what
 * they mean tomorrow. */
bool address_is_loopback(const char *text);

/* "192.0.2.7:1500" or "[2001:db8::7]:1500", into ADDRESS_TEXT_BYTES bytes; returns buf. */
const char *sockaddr_format(const struct sockaddr *address, socklen_t len, char *buf);

/* A non-blocking listening socket; gives the descriptor. ret_address (ADDRESS_TEXT_BYTES) says
 * where it really listens: port 0 takes any free one. May ask a name server. 0, -EINVAL, -errno of
 * bind(2). */
int listen_open(const char *address, int *ret_fd, char *ret_address, struct hf_error *err);

#endif
