/* SPDX-License-Identifier: Apache-2.0 */
/* scan.h: looks protobuf bytes over before anything is unpacked, so that the unpacker only meets
 * bytes it can afford. Inside proto/ only: it knows protobuf-c's types. */
#ifndef HF_PROTO_SCAN_H
#define HF_PROTO_SCAN_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

enum {
	SCAN_DEPTH_MAX = 3,     /* the message itself is 1 */
	SCAN_FIELDS_MAX = 1024, /* over all levels */
};

/* Walk the bytes of one message of the given type: varints and lengths whole, no groups, depth and
 * field count within the limits, strings as text.h wants them. Fields the type does not know
 * are stepped over: a later minor version may have added them. Pure; does not block. 0,
 * -HF_EPROTOCOL or -HF_ETOOBIG. */
int scan_message(const ProtobufCMessageDescriptor *type, const unsigned char *bytes, size_t len);

#endif
