/* SPDX-License-Identifier: Apache-2.0 */
/* segment.h: the bytes of a journal segment: its header, groups, and the records in them. Encoding, checking, scanning;
 * no decision is taken here.
 *
 *	segment:  header page | group | group | ... | (preallocated, anything)
 *	group:    descriptor (group header, records, zeros up to a page) | payload (pages)
 *	record:   header | body; record i of a group has LSN group.lsn_first + i
 *
 * The checksum of a descriptor is the journal's chain after that group: it covers the chain before it. A group is
 * part of the journal if its descriptor's checksum and chain agree and, when it lies beyond the LSN a later group calls
 * durable, its payload matches the digests too. docs/format.md gives every byte. */
#ifndef HF_STORAGE_SEGMENT_H
#define HF_STORAGE_SEGMENT_H

#include "storage/run.h"

enum {
	SEGMENT_VERSION = 2, /* 1 is read too: it has no data records that fill, and checkpoints without their stream */
	SEGMENT_HEADER_BYTES = 4096,
	GROUP_HEADER_BYTES = 96,
	RECORD_HEADER_BYTES = 24,
	RECORD_EXTENT_BYTES = 24,
	RECORD_EXTENTS_MAX = 1024,
	RECORD_DIGESTS_MAX = 256,
};

/* Where the journal stands at some point: all that recovery needs to go on from there. */
struct journal_state {
	uint64_t lsn_last; /* of the newest record */
	uint64_t chain;
	uint64_t stream_id, sequence, stream_chain; /* newest stream, its last frame here, its chain there */
	uint32_t volume_count;
	struct run_volume volumes[STORE_VOLUMES_MAX]; /* frontier: after every fill record so far */
};

struct segment_header {
	struct id source;
	uint64_t digest_seed;
	uint64_t number;
	uint64_t previous; /* number of the segment before, 0 = none ever */
	struct journal_state start;
};

void segment_header_encode(const struct segment_header *h, unsigned char *ret_page);
/* 0; -ENODATA: all zeros (prepared, not begun); -HF_EFORMAT: another version; -HF_ECORRUPT. */
int segment_header_decode(const unsigned char *page, struct segment_header *ret_header);

struct group_header {
	uint64_t digest_seed; /* of the source: journals of others may well be part of a payload */
	uint64_t segment;
	uint64_t lsn_first;
	uint64_t lsn_durable; /* known durable when the group was written */
	uint32_t record_count;
	uint32_t descriptor_bytes; /* whole pages */
	uint64_t payload_bytes;    /* whole pages, behind the descriptor */
	uint64_t chain_before;
	uint64_t stream_id;
	uint64_t chain; /* = checksum */
};

/* Write the header into the first GROUP_HEADER_BYTES of a descriptor whose other bytes are final; sets h->chain. */
void group_header_encode(struct group_header *h, unsigned char *descriptor);
/* Plausible header? (magic and lengths within limits.) 0 or -HF_ECORRUPT; the checksum is group_check()'s. */
int group_header_decode(const unsigned char *page, struct group_header *ret_header);
/* Checksum over the whole descriptor. 0 or -HF_ECORRUPT. */
int group_check(const struct group_header *h, const unsigned char *descriptor);

enum record_type {
	RECORD_DATA = 1, /* its payload is in the group; extents of kind 3 and 4 move the frontier as a fill does */
	RECORD_FILL = 2, /* its payload is in the staging file, and synced */
	RECORD_CHECKPOINT = 3,
	RECORD_VOLUME = 4, /* a volume is declared, or its size has grown */
};

struct record_header {
	enum record_type type;
	uint32_t bytes; /* header and body, a multiple of 8 */
	uint64_t sequence, stream_chain;
};

/* Sizes of records; encoders write exactly that many bytes. */
size_t record_extents_bytes(size_t extent_count, size_t digest_count);
size_t record_checkpoint_bytes(uint32_t volume_count);
enum { RECORD_VOLUME_BYTES = RECORD_HEADER_BYTES + 40 };

struct record_extent { /* kind as on the wire: 1 data, 2 zero, 3 fill, 4 fill zero */
	uint64_t block, count;
	uint32_t volume, kind;
};

void record_extents_encode(unsigned char *p, enum record_type type, uint64_t sequence, uint64_t stream_chain,
    const struct record_extent *extents, size_t extent_count, const uint64_t *digests, size_t digest_count);
void record_checkpoint_encode(unsigned char *p, uint64_t sequence, uint64_t stream_chain, const struct checkpoint *c);
void record_volume_encode(unsigned char *p, uint64_t sequence, uint64_t stream_chain, const struct run_volume *v);

/* A checkpoint's body alone, as run files keep it too: bytes written, at most CHECKPOINT_BYTES_MAX; *ret_used on
 * decoding. */
enum { CHECKPOINT_BYTES_MAX = 56 + 16 * STORE_VOLUMES_MAX };
size_t checkpoint_encode(unsigned char *p, const struct checkpoint *c);
int checkpoint_decode(const unsigned char *p, size_t len, struct checkpoint *ret_checkpoint, size_t *ret_used);

/* ---- walking the records of a checked descriptor ---- */
struct record {
	struct record_header header;
	uint64_t lsn;
	const unsigned char *body;
	uint64_t payload_offset; /* within the group's payload, of this record's first block (DATA) */
};
struct record_walk {
	const unsigned char *next, *end;
	uint64_t lsn, payload_offset, payload_bytes;
	uint32_t left;
};
void record_walk_begin(struct record_walk *w, const struct group_header *h, const unsigned char *descriptor);
/* 1: *ret_record is the next; 0: no more; -HF_ECORRUPT. */
int record_walk_next(struct record_walk *w, struct record *ret_record);

size_t record_extent_count(const struct record *r);
size_t record_digest_count(const struct record *r);
struct record_extent record_extent_get(const struct record *r, size_t i);
uint64_t record_digest_get(const struct record *r, size_t i);
int record_checkpoint_decode(const struct record *r, struct checkpoint *ret_checkpoint); /* lsn filled in */
int record_volume_decode(const struct record *r, struct run_volume *ret_volume);

/* Make a data record of a fill record that was encoded at p: its blocks come with the group, and not by the staging
 * file. */
void record_fill_to_data(unsigned char *p);

/* Call each() for every index entry of a DATA record: location from the segment's number and the file offset of the
 * group's payload. */
void record_entries(const struct record *r, uint64_t segment, uint64_t payload_file_offset,
    void (*each)(void *arg, const struct entry *e), void *arg);

/* Apply a record to a state: stream position, frontiers, volume sizes, lsn_last. -HF_ECORRUPT if it contradicts it. */
int journal_state_apply(struct journal_state *st, const struct group_header *g, const struct record *r);
struct run_volume *journal_state_volume(struct journal_state *st, uint32_t volume); /* NULL: none */

/* ---- scanning a segment file (blocking) ---- */
struct segment_scan_events {
	/* One record of the journal, in order. Non-zero stops the scan and is returned. */
	int (*record)(void *arg, const struct segment_header *s, const struct group_header *g, const struct record *r,
	    uint64_t payload_file_offset);
	/* Write what is not known to be durable once more, in its place: the caller's sync then means it. */
	bool settle;
};
/* From the header's start state to the last whole group with an LSN <= lsn_until; payload beyond the durable LSN is
 * read and checked. *state is the state after it (volumes, stream, chain), *ret_bytes the valid length of the file.
 * -errno on I/O errors; -HF_ECORRUPT: a group behind the last whole one says that more was durable, so this is no torn
 * tail but damage. */
int segment_scan(struct disk *d, struct disk_file *f, const struct segment_header *h, uint64_t lsn_until,
    struct journal_state *state, uint64_t *ret_bytes, const struct segment_scan_events *events, void *arg);

/* The newest durable LSN that any group with a right checksum from that offset on states, whether it continues anything
 * or not; 0: there is none. Blocking; holes are skipped. */
int segment_claim(
    struct disk *d, struct disk_file *f, uint64_t number, uint64_t digest_seed, uint64_t offset, uint64_t *ret_lsn);

/* "<dir>/00000042.seg" and ".run". */
void segment_path(char *ret_path, size_t size, const char *dir, uint64_t number);
void run_path(char *ret_path, size_t size, const char *dir, uint64_t number);

#endif
