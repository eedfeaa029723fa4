/* SPDX-License-Identifier: Apache-2.0 */
/* extents.h: reads an export stream (server/export_stream.h) as its bytes come, in pieces of any size, and checks that
 * it is whole. */
#ifndef HF_CTL_EXTENTS_H
#define HF_CTL_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "server/export_stream.h"

struct extents_sink { /* each returns 0, or a code that ends the reading */
	int (*data)(void *arg, const unsigned char *bytes, size_t len);
	int (*hole)(void *arg, uint64_t len);
	int (*bad)(void *arg, uint64_t len); /* cannot be read; NULL: there is no such thing */
	void *arg;
};

enum extents_state { EXTENTS_HEADER, EXTENTS_BODY, EXTENTS_ENDED, EXTENTS_FAILED };

struct extents {
	enum extents_state state;
	struct extents_sink sink;
	uint64_t offset, size_bytes; /* what has been read of the volume */
	unsigned char header[EXPORT_RECORD_BYTES];
	size_t header_len;
	struct export_record record;
	size_t body_left;
	char error[1024]; /* EXTENTS_FAILED: the daemon's words, or what is wrong with the stream */
	size_t error_len;
};

/* From this offset to the volume's end. */
void extents_init(struct extents *e, uint64_t offset, uint64_t size_bytes, const struct extents_sink *sink);

/* 0; the sink's code; or -EPROTO: see error. */
int extents_feed(struct extents *e, const unsigned char *bytes, size_t len);

/* The stream has ended: was it whole? */
bool extents_complete(const struct extents *e);

#endif
