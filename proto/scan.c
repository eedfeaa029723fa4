/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/scan.h"

#include <stdint.h>

#include "proto/common/status.h"
#include "proto/common/text.h"

/* Wire types, as protobuf numbers them. 3 and 4 are groups, 6 and 7 were never given out. */
enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct cursor {
	const unsigned char *at, *end;
};

static bool
varint_read(struct cursor *c, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (unsigned shift = 0; shift < 64 && c->at < c->end; shift += 7) {
		unsigned char b = *c->at++;

		if (shift == 63 && b > 1)
			return false; /* more than 64 bits */
		value |= (uint64_t)(b & 0x7f) << shift;
		if ((b & 0x80) == 0) {
			*ret_value = value;
			return true;
		}
	}
	return false;
}

static bool
bytes_skip(struct cursor *c, uint64_t n)
{
	if (n > (uint64_t)(c->end - c->at))
		return false;
	c->at += n;
	return true;
}

static int fields_scan(const ProtobufCMessageDescriptor *type, struct cursor c, int depth, size_t *fields);

/* The inside of a length-delimited field; field is NULL for one the type does not know. */
static int
inside_scan(const ProtobufCFieldDescriptor *field, struct cursor c, int depth, size_t *fields)
{
	if (field == NULL)
		return 0;
	if (field->type == PROTOBUF_C_TYPE_STRING)
		return text_is_plain((const char *)c.at, (size_t)(c.end - c.at)) ? 0 : -HF_EPROTOCOL;
	if (field->type == PROTOBUF_C_TYPE_MESSAGE)
		return fields_scan(field->descriptor, c, depth + 1, fields);
	return 0;
}

static int
field_scan(const ProtobufCMessageDescriptor *type, struct cursor *c, int depth, size_t *fields)
{
	uint64_t key, n;
	struct cursor inside;

	if (!varint_read(c, &key) || key >> 3 == 0 || key > UINT32_MAX)
		return -HF_EPROTOCOL;
	switch (key & 7) {
	case WIRE_VARINT: return varint_read(c, &n) ? 0 : -HF_EPROTOCOL;
	case WIRE_FIXED64: return bytes_skip(c, 8) ? 0 : -HF_EPROTOCOL;
	case WIRE_FIXED32: return bytes_skip(c, 4) ? 0 : -HF_EPROTOCOL;
	case WIRE_BYTES: break;
	default: return -HF_EPROTOCOL;
	}
	if (!varint_read(c, &n))
		return -HF_EPROTOCOL;
	inside.at = c->at;
	if (!bytes_skip(c, n))
		return -HF_EPROTOCOL;
	inside.end = c->at;
	return inside_scan(protobuf_c_message_descriptor_get_field(type, (unsigned)(key >> 3)), inside, depth, fields);
}

static int
fields_scan(const ProtobufCMessageDescriptor *type, struct cursor c, int depth, size_t *fields)
{
	if (depth > SCAN_DEPTH_MAX)
		return -HF_ETOOBIG;
	while (c.at < c.end) {
		int r;

		if (++*fields > SCAN_FIELDS_MAX)
			return -HF_ETOOBIG;
		r = field_scan(type, &c, depth, fields);
		if (r < 0)
			return r;
	}
	return 0;
}

int
scan_message(const ProtobufCMessageDescriptor *type, const unsigned char *bytes, size_t len)
{
	struct cursor c = {bytes, bytes + len};
	size_t fields = 0;

	return fields_scan(type, c, 1, &fields);
}
