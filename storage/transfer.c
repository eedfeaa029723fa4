/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/transfer.h"

#include <assert.h>
#include <errno.h>

static int
wait_all(struct disk *d, struct transfer *transfers, size_t n)
{
	int first = 0;

	for (size_t i = 0; i < n; i++) {
		transfers[i].res = disk_wait(d, &transfers[i].op);
		if (transfers[i].res < 0 && first == 0)
			first = transfers[i].res;
	}
	return first;
}

static void
prepare(struct transfer *t)
{
	t->op.cb = NULL;
	t->op.arg = NULL;
}

int
transfers_read(struct disk *d, struct transfer *transfers, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct transfer *t = &transfers[i];

		prepare(t);
		disk_read(d, &t->op, t->file, t->buf, t->len, t->offset);
	}
	return wait_all(d, transfers, n);
}

int
transfers_write(struct disk *d, struct transfer *transfers, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct transfer *t = &transfers[i];

		prepare(t);
		disk_write(d, &t->op, t->file, t->buf, t->len, t->offset);
	}
	return wait_all(d, transfers, n);
}

/* ---- clearing ---- */

static uint64_t
smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int
write_zeros(struct disk *d, struct disk_file *f, uint64_t offset, size_t len)
{
	void *zeros = buffer_alloc(len);
	int r;

	if (zeros == NULL)
		return -ENOMEM;
	r = disk_write_now(d, f, zeros, len, offset);
	buffer_free(zeros, len);
	return r;
}

int
range_clear(struct disk *d, struct disk_file *f, uint64_t from, uint64_t to)
{
	static const uint64_t piece_bytes = 1 << 20;
	uint64_t size, data;
	int r = disk_size(d, f, &size);

	assert(from % DISK_ALIGN == 0 && to % DISK_ALIGN == 0);
	if (r < 0)
		return r;
	to = smaller(to, (size + DISK_ALIGN - 1) / DISK_ALIGN * DISK_ALIGN);
	if (from >= to)
		return 0;
	r = disk_punch(d, f, from, to - from); /* a hole too: it may be one because a punch was never synced */
	if (r != -EOPNOTSUPP)
		return r;
	while (from < to) {
		r = disk_next_data(d, f, from, &data);
		if (r < 0)
			return r;
		if (data < from || data >= smaller(to, size))
			break; /* holes from here on */
		from = data / DISK_ALIGN * DISK_ALIGN;
		r = write_zeros(d, f, from, (size_t)smaller(to - from, piece_bytes));
		if (r < 0)
			return r;
		from += smaller(to - from, piece_bytes);
	}
	return 0;
}
