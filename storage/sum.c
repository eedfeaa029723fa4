/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/sum.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/bytes.h"
#include "proto/common/status.h"
#include "storage/transfer.h"

enum { PAGE_DIGESTS = 512, PAGE_BYTES = 4096 };

/* ---- where things are ---- */

static const uint64_t nodes_per_zone[DIGEST_LEVELS] = {65536, 4096, 256, 1};
static const unsigned first_page_of_level[DIGEST_LEVELS] = {0, 128, 136, 136};
static const unsigned first_slot_of_level[DIGEST_LEVELS] = {0, 0, 0, 256};

uint64_t
sum_page_offset(int level, uint64_t index)
{
	uint64_t zone = index / nodes_per_zone[level];
	uint64_t page = first_page_of_level[level] + index % nodes_per_zone[level] / PAGE_DIGESTS;

	return PAGE_BYTES + (zone * SUM_ZONE_PAGES + page) * PAGE_BYTES;
}

unsigned
sum_page_slot(int level, uint64_t index)
{
	return first_slot_of_level[level] + (unsigned)(index % nodes_per_zone[level] % PAGE_DIGESTS);
}

/* ---- header: everything lies in the first sector, so that a cut leaves the old one or the new one
 * ---- */

static const unsigned char magic[8] = {'H', 'F', 'S', 'U', 'M', '0', '0', '1'};

enum {
	NAME_AT = 96,
	IDENTITY_AT = NAME_AT + 128,
	CHECKSUM_AT = 504,
};

_Static_assert(IDENTITY_AT + 128 <= CHECKSUM_AT, "the header is one sector");

static void
encode_header(unsigned char *page, const struct sum_header *h)
{
	memset(page, 0, PAGE_BYTES);
	memcpy(page, magic, sizeof magic);
	put_le32(page + 8, SUM_VERSION);
	put_le32(page + 12, h->volume);
	memcpy(page + 16, h->source.text, ID_BYTES);
	memcpy(page + 40, h->volume_id.text, ID_BYTES);
	put_le64(page + 64, h->digest_seed);
	put_le64(page + 72, h->size_bytes);
	put_le64(page + 80, h->fold_lsn);
	memcpy(page + NAME_AT, h->name, sizeof h->name);
	memcpy(page + IDENTITY_AT, h->identity, sizeof h->identity);
	put_le64(page + CHECKSUM_AT, digest_chain(h->digest_seed, page, CHECKSUM_AT));
}

static int
decode_header(const unsigned char *page, struct sum_header *ret_header)
{
	struct sum_header h = {.digest_seed = get_le64(page + 64)};

	if (memcmp(page, magic, sizeof magic) != 0 ||
	    get_le64(page + CHECKSUM_AT) != digest_chain(h.digest_seed, page, CHECKSUM_AT))
		return -HF_ECORRUPT;
	if (get_le32(page + 8) != SUM_VERSION)
		return -HF_EFORMAT;
	h.volume = get_le32(page + 12);
	memcpy(h.source.text, page + 16, ID_BYTES - 1);
	memcpy(h.volume_id.text, page + 40, ID_BYTES - 1);
	h.size_bytes = get_le64(page + 72);
	h.fold_lsn = get_le64(page + 80);
	memcpy(h.name, page + NAME_AT, sizeof h.name - 1);
	memcpy(h.identity, page + IDENTITY_AT, sizeof h.identity - 1);
	*ret_header = h;
	return 0;
}

int
sum_header_write(struct disk *d, struct disk_file *f, const struct sum_header *h)
{
	unsigned char *page = buffer_alloc(PAGE_BYTES);
	int r;

	if (page == NULL)
		return -ENOMEM;
	encode_header(page, h);
	r = disk_write_now(d, f, page, PAGE_BYTES, 0);
	if (r == 0)
		r = disk_sync_now(d, f);
	buffer_free(page, PAGE_BYTES);
	return r;
}

int
sum_header_read(struct disk *d, struct disk_file *f, struct sum_header *ret_header)
{
	unsigned char *page = buffer_alloc(PAGE_BYTES);
	struct transfer t = {.file = f, .buf = page, .len = PAGE_BYTES};
	int r;

	if (page == NULL)
		return -ENOMEM;
	r = transfers_read(d, &t, 1);
	if (r == 0)
		r = t.res < PAGE_BYTES ? -HF_ECORRUPT : decode_header(page, ret_header);
	buffer_free(page, PAGE_BYTES);
	return r;
}

/* ---- reading digests: up to 64 pages in flight, holes skipped unread ---- */

enum { READ_PAGES = 64 };

struct read {
	struct disk *d;
	struct disk_file *f;
	int level;
	uint64_t next; /* index of the next digest wanted */
	size_t left;   /* how many */
	uint64_t *out; /* where the next one goes */
	bool many;     /* more than one piece: worth asking where the holes are */
	uint64_t data; /* no data between the last place asked and here */
	unsigned char *buffer;
	size_t buffer_pages;
	size_t pieces, pages; /* of this batch */
	struct piece {
		size_t count; /* digests */
		unsigned slot;
		uint64_t *out;
	} piece[READ_PAGES];
	struct transfer transfer[READ_PAGES];
};

/* Digests that lie in adjacent pages of one zone, from the next one on, in at most `pages` pages.
 */
static size_t
piece_count(const struct read *rd, size_t pages)
{
	uint64_t in_zone = nodes_per_zone[rd->level] - rd->next % nodes_per_zone[rd->level];
	uint64_t in_pages = pages * PAGE_DIGESTS - sum_page_slot(rd->level, rd->next);
	uint64_t n = in_zone < in_pages ? in_zone : in_pages;

	return n < rd->left ? (size_t)n : rd->left;
}

static void
advance(struct read *rd, size_t count)
{
	rd->next += count;
	rd->out += count;
	rd->left -= count;
}

/* 1 if bytes [from, to) are a hole, else 0, or -errno. */
static int
is_hole(struct read *rd, uint64_t from, uint64_t to)
{
	int r;

	if (!rd->many)
		return 0;
	if (rd->data < from) {
		r = disk_next_data(rd->d, rd->f, from, &rd->data);
		if (r < 0)
			return r;
		if (rd->data < from)
			rd->data = UINT64_MAX; /* beyond the end of the file */
	}
	return rd->data >= to;
}

static int
add_piece(struct read *rd, size_t pages_left)
{
	size_t count = piece_count(rd, pages_left);
	unsigned slot = sum_page_slot(rd->level, rd->next);
	size_t pages = (slot + count + PAGE_DIGESTS - 1) / PAGE_DIGESTS;
	uint64_t offset = sum_page_offset(rd->level, rd->next);
	int r = is_hole(rd, offset, offset + pages * PAGE_BYTES);

	if (r < 0)
		return r;
	if (r == 0) {
		rd->piece[rd->pieces] = (struct piece){count, slot, rd->out};
		rd->transfer[rd->pieces] = (struct transfer){.file = rd->f,
		    .buf = rd->buffer + rd->pages * PAGE_BYTES,
		    .len = pages * PAGE_BYTES,
		    .offset = offset};
		rd->pieces++;
		rd->pages += pages;
	}
	advance(rd, count);
	return 0;
}

/* What lies beyond the end of the file is zero. */
static void
copy_piece(const struct piece *p, const struct transfer *t)
{
	const unsigned char *bytes = t->buf;
	size_t got = (size_t)t->res / 8;

	for (size_t i = 0; i < p->count && p->slot + i < got; i++)
		p->out[i] = get_le64(bytes + (p->slot + i) * 8);
}

static int
read_batch(struct read *rd)
{
	int r = 0;

	rd->pieces = rd->pages = 0;
	while (r == 0 && rd->left > 0 && rd->pages < rd->buffer_pages)
		r = add_piece(rd, rd->buffer_pages - rd->pages);
	if (r == 0)
		r = transfers_read(rd->d, rd->transfer, rd->pieces);
	for (size_t i = 0; r == 0 && i < rd->pieces; i++)
		copy_piece(&rd->piece[i], &rd->transfer[i]);
	return r;
}

/* Pages that hold all of them, if that is fewer than a full batch: most reads are of one page or
 * two. */
static size_t
pages_wanted(int level, uint64_t first, size_t count)
{
	uint64_t per_page = nodes_per_zone[level] < PAGE_DIGESTS ? nodes_per_zone[level] : PAGE_DIGESTS;
	uint64_t pages = (first + count - 1) / per_page - first / per_page + 1;

	return pages < READ_PAGES ? (size_t)pages : READ_PAGES;
}

int
sum_read(struct disk *d, struct disk_file *f, int level, uint64_t first, size_t count, uint64_t *ret)
{
	struct read *rd;
	int r = 0;

	assert(level >= 0 && level < DIGEST_LEVELS);
	if (count == 0)
		return 0;
	memset(ret, 0, count * sizeof *ret);
	rd = malloc(sizeof *rd);
	if (rd == NULL)
		return -ENOMEM;
	*rd = (struct read){.d = d, .f = f, .level = level, .next = first, .left = count, .out = ret};
	rd->buffer_pages = pages_wanted(level, first, count);
	rd->many = rd->buffer_pages > 2;
	rd->buffer = aligned_alloc(DISK_ALIGN, rd->buffer_pages * PAGE_BYTES);
	if (rd->buffer == NULL)
		r = -ENOMEM;
	while (r == 0 && rd->left > 0)
		r = read_batch(rd);
	free(rd->buffer);
	free(rd);
	return r;
}

int
sum_mend(struct disk *d, struct disk_file *f, int level, uint64_t index, uint64_t digest)
{
	unsigned char *page = buffer_alloc(PAGE_BYTES);
	struct transfer t = {
	    .file = f, .buf = page, .len = PAGE_BYTES, .offset = sum_page_offset(level, index)}; /* zeros at its end */
	int r;

	if (page == NULL)
		return -ENOMEM;
	r = transfers_read(d, &t, 1);
	if (r == 0) {
		put_le64(page + (size_t)sum_page_slot(level, index) * 8, digest);
		r = disk_write_now(d, f, page, PAGE_BYTES, t.offset);
	}
	if (r == 0)
		r = disk_sync_now(d, f);
	buffer_free(page, PAGE_BYTES);
	return r;
}

int
sum_clear_zones(struct disk *d, struct disk_file *f, uint64_t first, uint64_t end)
{
	return range_clear(
	    d, f, sum_page_offset(0, first * SUM_ZONE_BLOCKS), sum_page_offset(0, end * SUM_ZONE_BLOCKS));
}
