/* SPDX-License-Identifier: Apache-2.0 */
/* export.h: a volume of a point in time as a stream of verified ranges. As a command is (see command.h): called on the
 * main thread, and answered there later. */
#ifndef HF_SERVER_EXPORT_H
#define HF_SERVER_EXPORT_H

#include "proto/message.h"
#include "storage/store.h"

struct server;

struct export;
struct export_chunk {
	enum { EXPORT_DATA = 1, EXPORT_HOLE = 2, EXPORT_END = 3, EXPORT_ERROR = 4, EXPORT_BAD = 5 } kind;
	uint64_t offset, length;   /* of the volume, bytes. END: length = volume size */
	const unsigned char *data; /* DATA: length bytes, at most 1 MiB; borrowed for the call */
	int status;                /* ERROR */
	char text[SENTENCE_BYTES]; /* ERROR: names volume, offset and point */
};
typedef void export_each(void *arg, const struct export_chunk *chunk);
struct export_facts {
	struct pit pit;
	struct id source, volume;
	uint64_t size_bytes;
	uint64_t root_digest; /* of the whole volume at that point */
	uint64_t data_bytes;  /* about how much of it is data; 0 = not known */
};
typedef void export_opened(void *arg, int status, const char *text, struct export *e, const struct export_facts *facts);

/* salvage: what cannot be read is told as EXPORT_BAD, and the export goes on behind it.
 * Open point (a pit id of the source) and volume (vol- id, or its name) for reading from byte `from` on. */
void export_open(struct server *sv, const struct id *source, const struct id *pit, const char *volume, uint64_t from,
    bool salvage, export_opened *opened, void *arg);
/* Ask for the next chunk: each() is called once per call of this. After END or ERROR only export_close() is legal. */
void export_next(struct export *e, export_each *each, void *arg);
void export_close(struct export *e); /* legal at any time; a chunk under way is dropped */

#endif
