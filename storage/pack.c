/* SPDX-License-Identifier: Apache-2.0 */
/* A batch is read in the order in which it lies on the disk, all reads in flight at once, checked, and written behind
 * what is there already. */
#include "storage/pack.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/bytes.h"
#include "proto/common/status.h"
#include "storage/plant.h"
#include "storage/transfer.h"

#define PACK_MAGIC 0x3130304b41504648ull /* "HFPAK001" */

enum {
	PACK_VERSION = 1,
	CHECKSUM_AT = PACK_HEADER_BYTES - 8,
	TRANSFER_BYTES_MAX = 1024 * 1024,
};

struct item {
	struct entry *entry;
	struct disk_file *file;
};

struct pack {
	struct disk *d;
	struct shared_file *file;
	uint64_t seed, number;
	uint64_t blocks;
	unsigned char *buffer; /* PACK_BATCH_BLOCKS */
	struct item items[PACK_BATCH_BLOCKS];
	struct transfer transfers[PACK_BATCH_BLOCKS];
};

/* ---- header ---- */

void
pack_header_encode(const struct pack_header *h, unsigned char *page)
{
	memset(page, 0, PACK_HEADER_BYTES);
	put_le64(page, PACK_MAGIC);
	put_le32(page + 8, PACK_VERSION);
	memcpy(page + 16, h->source.text, ID_BYTES);
	put_le64(page + 40, h->digest_seed);
	put_le64(page + 48, h->number);
	put_le64(page + CHECKSUM_AT, digest_chain(0, page, CHECKSUM_AT));
}

int
pack_header_decode(const unsigned char *page, struct pack_header *ret_header)
{
	struct pack_header h = {.digest_seed = get_le64(page + 40), .number = get_le64(page + 48)};
	char source[ID_BYTES + 1] = {0};

	memcpy(source, page + 16, ID_BYTES);
	if (get_le64(page) != PACK_MAGIC || get_le64(page + CHECKSUM_AT) != digest_chain(0, page, CHECKSUM_AT))
		return -HF_ECORRUPT;
	if (get_le32(page + 8) != PACK_VERSION)
		return -HF_EFORMAT;
	if (!id_parse("s", source, &h.source))
		return -HF_ECORRUPT;
	*ret_header = h;
	return 0;
}

/* ---- life ---- */

static int
write_header(struct pack *p, const struct pack_header *h)
{
	pack_header_encode(h, p->buffer);
	return disk_write_now(p->d, p->file->file, p->buffer, PACK_HEADER_BYTES, 0);
}

int
pack_create(struct disk *d, const char *path, const struct pack_header *h, struct pack **ret_pack)
{
	struct pack *p = calloc(1, sizeof *p);
	int r = -ENOMEM;

	if (p == NULL)
		return r;
	p->d = d;
	p->seed = h->digest_seed;
	p->number = h->number;
	p->buffer = buffer_alloc((size_t)PACK_BATCH_BLOCKS * BLOCK_BYTES);
	if (p->buffer != NULL)
		r = shared_file_open(d, path, DISK_WRITE | DISK_CREATE, h->number, &p->file);
	if (r == 0)
		r = write_header(p, h);
	if (r < 0) {
		pack_destroy(p);
		return r;
	}
	*ret_pack = p;
	return 0;
}

uint64_t
pack_blocks(const struct pack *p)
{
	return p->blocks;
}

int
pack_finish(struct pack *p, struct shared_file **ret_file)
{
	int r = PLANTED(42) ? 0 : disk_sync_now(p->d, p->file->file);

	if (r == 0)
		*ret_file = shared_file_ref(p->file);
	return r;
}

void
pack_destroy(struct pack *p)
{
	if (p == NULL)
		return;
	shared_file_unref(p->file, p->d);
	buffer_free(p->buffer, (size_t)PACK_BATCH_BLOCKS * BLOCK_BYTES);
	free(p);
}

/* ---- copying ---- */

static int
by_place(const void *a, const void *b)
{
	const struct entry *x = ((const struct item *)a)->entry, *y = ((const struct item *)b)->entry;

	if (x->segment != y->segment)
		return x->segment < y->segment ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static bool
continues(const struct transfer *t, const struct item *it)
{
	return t->file == it->file && t->offset + t->len == (uint64_t)it->entry->offset * BLOCK_BYTES &&
	       t->len < TRANSFER_BYTES_MAX;
}

/* Item i into block i of the buffer. Returns the number of transfers. */
static size_t
plan_reads(struct pack *p, size_t count)
{
	struct transfer *t = p->transfers;
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		if (n > 0 && continues(&t[n - 1], &p->items[i])) {
			t[n - 1].len += BLOCK_BYTES;
			continue;
		}
		t[n++] = (struct transfer){.file = p->items[i].file,
		    .buf = p->buffer + i * BLOCK_BYTES,
		    .len = BLOCK_BYTES,
		    .offset = (uint64_t)p->items[i].entry->offset * BLOCK_BYTES};
	}
	return n;
}

/* A read failed: once more block by block. What cannot be read is left as zeros, which no data block's digest matches.
 */
static void
read_singly(struct pack *p, const struct transfer *t)
{
	for (size_t at = 0; at < t->len; at += BLOCK_BYTES)
		if (disk_read_now(p->d, t->file, (unsigned char *)t->buf + at, BLOCK_BYTES, t->offset + at) < 0)
			memset((unsigned char *)t->buf + at, 0, BLOCK_BYTES);
}

static void
read_items(struct pack *p, size_t count)
{
	size_t n = plan_reads(p, count);

	(void)transfers_read(p->d, p->transfers, n); /* each one's result is looked at */
	for (size_t i = 0; i < n; i++)
		if (p->transfers[i].res != (int)p->transfers[i].len)
			read_singly(p, &p->transfers[i]);
}

/* Close the gaps that bad blocks leave, items and bytes alike. Returns how many are good. */
static size_t
keep_good(struct pack *p, size_t count)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		unsigned char *block = p->buffer + i * BLOCK_BYTES;

		if (!PLANTED(62) && digest_block(p->seed, block) != p->items[i].entry->digest)
			continue;
		if (n < i)
			memcpy(p->buffer + n * BLOCK_BYTES, block, BLOCK_BYTES);
		p->items[n++] = p->items[i];
	}
	return n;
}

static int
write_items(struct pack *p, size_t count)
{
	uint64_t offset = PACK_HEADER_BYTES + p->blocks * BLOCK_BYTES;
	int r = count == 0 ? 0 : disk_write_now(p->d, p->file->file, p->buffer, count * BLOCK_BYTES, offset);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++) {
		p->items[i].entry->segment = (uint32_t)p->number;
		p->items[i].entry->offset = (uint32_t)(offset / BLOCK_BYTES + i);
	}
	p->blocks += count;
	return 0;
}

int
pack_move(struct pack *p, struct entry **entries, struct disk_file **files, size_t count)
{
	assert(count <= PACK_BATCH_BLOCKS);
	if (count == 0)
		return 0;
	for (size_t i = 0; i < count; i++)
		p->items[i] = (struct item){entries[i], files[i]};
	qsort(p->items, count, sizeof *p->items, by_place);
	read_items(p, count);
	return write_items(p, keep_good(p, count));
}
