/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/punch.h"

#include <errno.h>
#include <stdlib.h>

#include "storage/plant.h"

int
punch_map_init(struct punch_map *m, uint64_t file_bytes)
{
	*m = (struct punch_map){.blocks = file_bytes / BLOCK_BYTES};
	m->bits = calloc(m->blocks / 64 + 1, sizeof *m->bits);
	return m->bits == NULL ? -ENOMEM : 0;
}

void
punch_map_fini(struct punch_map *m)
{
	free(m->bits);
	*m = (struct punch_map){0};
}

static bool
is_live(const struct punch_map *m, uint64_t block)
{
	return block == 0 || (m->bits[block / 64] >> block % 64 & 1) != 0;
}

bool
punch_map_set(struct punch_map *m, uint64_t block)
{
	if (block == 0 || block >= m->blocks)
		return false;
	if (!is_live(m, block))
		m->live++;
	m->bits[block / 64] |= (uint64_t)1 << block % 64;
	return true;
}

/* The next dead range from *from on that is worth a hole: [*from, *ret_to); false: there is none. */
static bool
next_hole(const struct punch_map *m, uint64_t *from, uint64_t *ret_to)
{
	uint64_t begin = *from, end;

	while (begin < m->blocks) {
		for (end = begin; end < m->blocks && !is_live(m, end); end++)
			;
		if (end - begin >= PUNCH_BLOCKS_MIN) {
			*from = begin;
			*ret_to = end;
			return true;
		}
		begin = end + 1;
	}
	return false;
}

uint64_t
punch_map_held(const struct punch_map *m)
{
	uint64_t held = m->blocks, from = 0, to;

	for (; next_hole(m, &from, &to); from = to)
		held -= to - from;
	return held;
}

/* Bytes [from, to), a dead range. A file system that cannot make holes keeps them: that costs space alone. */
static int
punch_range(struct disk *d, struct disk_file *f, uint64_t from, uint64_t to, uint64_t *ret_bytes)
{
	uint64_t data;
	int r = disk_next_data(d, f, from, &data);

	if (r < 0 || data < from || data >= to)
		return r < 0 ? r : 0;
	r = disk_punch(d, f, from, to - from);
	if (r == -EOPNOTSUPP)
		return 0;
	if (r == 0)
		*ret_bytes += to - data;
	return r;
}

int
punch_holes(const struct punch_map *m, struct disk *d, struct disk_file *f, uint64_t *ret_bytes)
{
	uint64_t from = 0, to;
	int r = 0;

	*ret_bytes = 0;
	for (; r == 0 && next_hole(m, &from, &to); from = to)
		r = punch_range(
		    d, f, from * BLOCK_BYTES, (to + (PLANTED(41) && to < m->blocks)) * BLOCK_BYTES, ret_bytes);
	return r;
}
