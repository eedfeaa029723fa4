/* SPDX-License-Identifier: Apache-2.0 */
/* export_stream.h: "application/vnd.holdfast.extents": a volume as records, in order of offset,
 * without gaps or overlap, from the byte asked for to the volume's end. A record is a header of 32
 * bytes, little-endian, and its body. A stream that does not finish with END is not whole.
 *
 *	 0  u32  kind    1 data, 2 hole (reads as zeros), 3 end, 4 error, 5 bad: only if salvage=1 was asked
 *	 4  u32  body    bytes that follow the header: data: the bytes; error: UTF-8 text; else 0
 *	 8  u64  offset  where in the volume
 *	16  u64  length  how much of it; end: the size of the volume
 *	24  u64  0       reserved
 */
#ifndef HF_SERVER_EXPORT_STREAM_H
#define HF_SERVER_EXPORT_STREAM_H

#include "proto/common/bytes.h"

enum {
	EXPORT_RECORD_BYTES = 32,
	EXPORT_BODY_MAX = 1 << 20,
};

enum export_record_kind { RECORD_DATA = 1, RECORD_HOLE = 2, RECORD_END = 3, RECORD_ERROR = 4, RECORD_BAD = 5 };

struct export_record {
	uint32_t kind, body_bytes;
	uint64_t offset, length;
};

static inline void
export_record_encode(const struct export_record *r, unsigned char *buf)
{
	put_le32(buf, r->kind);
	put_le32(buf + 4, r->body_bytes);
	put_le64(buf + 8, r->offset);
	put_le64(buf + 16, r->length);
	put_le64(buf + 24, 0);
}

static inline void
export_record_decode(const unsigned char *buf, struct export_record *ret_record)
{
	ret_record->kind = get_le32(buf);
	ret_record->body_bytes = get_le32(buf + 4);
	ret_record->offset = get_le64(buf + 8);
	ret_record->length = get_le64(buf + 16);
}

#endif
