/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/checkpoint.h"

#include <stddef.h>

#include "proto/common/bytes.h"
#include "proto/common/digest.h"

bool
checkpoint_has_volume(const struct checkpoint *c, uint32_t volume, uint64_t *ret_size)
{
	for (uint32_t i = 0; i < c->volume_count; i++)
		if (c->volumes[i].volume == volume) {
			if (ret_size != NULL)
				*ret_size = c->volumes[i].size_bytes;
			return true;
		}
	return false;
}

/* People write ids of points down, so this derivation never changes: XXH3-64 of the source's id
 * text (24 bytes, zero-padded) seeded with the LSN, or where a stream is known with that of the
 * stream's id seeded with the LSN; and the same again seeded with the first for the seventeenth
 * digit. */
struct id
checkpoint_pit_id(const struct id *source, uint64_t lsn, uint64_t stream_id)
{
	unsigned char stream[8];
	uint64_t seed, low, high;

	put_le64(stream, stream_id);
	seed = stream_id == 0 ? lsn : digest_chain(lsn, stream, sizeof stream);
	low = digest_chain(seed, source->text, sizeof source->text);
	high = digest_chain(low, source->text, sizeof source->text);

	return id_from_bits("pit", high, low);
}

const char *
checkpoint_consistency_name(enum checkpoint_consistency c)
{
	switch (c) {
	case CHECKPOINT_FUZZY: return "fuzzy";
	case CHECKPOINT_CRASH: return "crash";
	case CHECKPOINT_FILESYSTEM: return "filesystem";
	case CHECKPOINT_APPLICATION: return "application";
	}
	return "unknown";
}
