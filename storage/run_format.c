/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/run_format.h"

#include <assert.h>
#include <string.h>

#include "proto/common/bytes.h"
#include "proto/common/status.h"

/* ---- pages ---- */

uint64_t
run_narrow_pages(const struct run_layout *l)
{
	return (l->narrow_count + RUN_NARROW_PER_PAGE - 1) / RUN_NARROW_PER_PAGE;
}

uint64_t
run_wide_pages(const struct run_layout *l)
{
	return (l->wide_count + RUN_WIDE_PER_PAGE - 1) / RUN_WIDE_PER_PAGE;
}

uint64_t
run_segment_pages(const struct run_layout *l)
{
	return (l->segment_count + RUN_SEGMENTS_PER_PAGE - 1) / RUN_SEGMENTS_PER_PAGE;
}

uint64_t
run_content_pages(const struct run_layout *l)
{
	return 1 + run_narrow_pages(l) + run_wide_pages(l) + l->checkpoint_pages + run_segment_pages(l);
}

static uint64_t
page_checksum(const unsigned char *page, uint64_t seed, uint64_t number, uint64_t index)
{
	return digest_chain(seed ^ number << 32 ^ index, page, RUN_PAGE_CHECKSUM_AT);
}

void
run_page_seal(
    unsigned char *page, uint64_t seed, uint64_t number, uint64_t index, enum run_page_kind kind, size_t count)
{
	put_le32(page + RUN_PAGE_COUNT_AT, (uint32_t)count);
	put_le32(page + RUN_PAGE_KIND_AT, kind);
	put_le64(page + RUN_PAGE_CHECKSUM_AT, page_checksum(page, seed, number, index));
}

int
run_page_check(const unsigned char *page, uint64_t seed, uint64_t number, uint64_t index, enum run_page_kind kind)
{
	uint32_t count = get_le32(page + RUN_PAGE_COUNT_AT);

	if (get_le64(page + RUN_PAGE_CHECKSUM_AT) != page_checksum(page, seed, number, index))
		return -HF_ECORRUPT;
	if (get_le32(page + RUN_PAGE_KIND_AT) != (uint32_t)kind || count > RUN_PAGE_BYTES)
		return -HF_ECORRUPT;
	return (int)count;
}

/* ---- entries ---- */

uint64_t
run_end_max(const struct wide_entry *before, const struct entry *e)
{
	uint64_t end = e->block + e->count;

	if (before != NULL && before->entry.volume == e->volume && before->end_max > end)
		return before->end_max;
	return end;
}

void
run_entry_encode(unsigned char *p, const struct entry *e)
{
	put_le64(p, e->block);
	put_le64(p + 8, e->lsn);
	put_le64(p + 16, e->digest);
	put_le32(p + 24, e->segment);
	put_le32(p + 28, e->offset);
	put_le32(p + 32, e->volume);
	put_le32(p + 36, e->count);
}

void
run_entry_decode(const unsigned char *p, struct entry *ret_entry)
{
	ret_entry->block = get_le64(p);
	ret_entry->lsn = get_le64(p + 8);
	ret_entry->digest = get_le64(p + 16);
	ret_entry->segment = get_le32(p + 24);
	ret_entry->offset = get_le32(p + 28);
	ret_entry->volume = get_le32(p + 32);
	ret_entry->count = get_le32(p + 36);
}

bool
run_entry_sane(const struct entry *e)
{
	if (e->count == 0 || e->block >= RUN_BLOCK_LIMIT)
		return false;
	return e->digest == 0 || e->count == 1;
}

/* ---- segments ---- */

void
run_segment_encode(unsigned char *p, const struct run_segment *g)
{
	put_le64(p, g->number);
	put_le64(p + 8, g->bytes);
	put_le64(p + 16, g->live_blocks);
}

void
run_segment_decode(const unsigned char *p, struct run_segment *ret_segment)
{
	ret_segment->number = get_le64(p);
	ret_segment->bytes = get_le64(p + 8);
	ret_segment->live_blocks = get_le64(p + 16);
}

/* ---- header ---- */

static void
encode_volume(unsigned char *p, const struct run_volume *v)
{
	put_le32(p, v->volume);
	put_le64(p + 8, v->size_bytes);
	put_le64(p + 16, v->frontier_blocks);
	memcpy(p + 24, v->id.text, ID_BYTES);
}

static void
decode_volume(const unsigned char *p, struct run_volume *ret_volume)
{
	ret_volume->volume = get_le32(p);
	ret_volume->size_bytes = get_le64(p + 8);
	ret_volume->frontier_blocks = get_le64(p + 16);
	memcpy(ret_volume->id.text, p + 24, ID_BYTES);
	ret_volume->id.text[ID_BYTES - 1] = '\0';
}

static void
encode_layout(unsigned char *p, const struct run_layout *l)
{
	put_le64(p, l->narrow_count);
	put_le64(p + 8, l->wide_count);
	put_le64(p + 16, l->checkpoint_count);
	put_le64(p + 24, l->checkpoint_pages);
	put_le64(p + 32, l->lsn_first);
	put_le64(p + 40, l->lsn_last);
}

static void
decode_layout(const unsigned char *p, struct run_layout *ret_layout)
{
	ret_layout->narrow_count = get_le64(p);
	ret_layout->wide_count = get_le64(p + 8);
	ret_layout->checkpoint_count = get_le64(p + 16);
	ret_layout->checkpoint_pages = get_le64(p + 24);
	ret_layout->lsn_first = get_le64(p + 32);
	ret_layout->lsn_last = get_le64(p + 40);
}

enum { LAYOUT_AT = 112, MERGED_AT = 160 };

/* What version 2 added. */
static void
encode_merged(unsigned char *p, const struct run_info *info, const struct run_layout *l)
{
	put_le64(p, info->segment_first);
	put_le64(p + 8, info->merged ? 1 : 0);
	put_le64(p + 16, l->segment_count);
	put_le64(p + 24, l->parity_pages);
}

static void
decode_merged(const unsigned char *p, uint32_t version, struct run_info *ret_info, struct run_layout *ret_layout)
{
	if (version == 1) {
		ret_info->segment_first = ret_info->number;
		return;
	}
	ret_info->segment_first = get_le64(p);
	ret_info->merged = get_le64(p + 8) != 0;
	ret_layout->segment_count = get_le64(p + 16);
	ret_layout->parity_pages = get_le64(p + 24);
}

void
run_header_encode(unsigned char *page, const struct run_info *info, const struct run_layout *l)
{
	assert(info->volume_count <= STORE_VOLUMES_MAX);
	memset(page, 0, RUN_PAGE_BYTES);
	memcpy(page, run_magic, sizeof run_magic);
	put_le32(page + 8, RUN_VERSION);
	put_le32(page + 12, info->volume_count);
	memcpy(page + 16, info->source.text, ID_BYTES);
	put_le64(page + 40, info->digest_seed);
	put_le64(page + 48, info->number);
	put_le64(page + 56, info->lsn_first);
	put_le64(page + 64, info->lsn_last);
	put_le64(page + 72, info->segment_bytes);
	put_le64(page + 80, info->chain);
	put_le64(page + 88, info->stream_id);
	put_le64(page + 96, info->sequence);
	put_le64(page + 104, info->stream_chain);
	encode_layout(page + LAYOUT_AT, l);
	encode_merged(page + MERGED_AT, info, l);
	for (uint32_t i = 0; i < info->volume_count; i++)
		encode_volume(page + RUN_VOLUMES_AT + i * RUN_VOLUME_BYTES, &info->volumes[i]);
	run_page_seal(page, info->digest_seed, info->number, 0, RUN_PAGE_HEADER, 0);
}

static void
decode_info(const unsigned char *page, struct run_info *ret_info)
{
	memcpy(ret_info->source.text, page + 16, ID_BYTES);
	ret_info->source.text[ID_BYTES - 1] = '\0';
	ret_info->digest_seed = get_le64(page + 40);
	ret_info->number = get_le64(page + 48);
	ret_info->lsn_first = get_le64(page + 56);
	ret_info->lsn_last = get_le64(page + 64);
	ret_info->segment_bytes = get_le64(page + 72);
	ret_info->chain = get_le64(page + 80);
	ret_info->stream_id = get_le64(page + 88);
	ret_info->sequence = get_le64(page + 96);
	ret_info->stream_chain = get_le64(page + 104);
	for (uint32_t i = 0; i < ret_info->volume_count; i++)
		decode_volume(page + RUN_VOLUMES_AT + i * RUN_VOLUME_BYTES, &ret_info->volumes[i]);
}

void
run_header_keys(const unsigned char *page, uint64_t *ret_seed, uint64_t *ret_number)
{
	*ret_seed = get_le64(page + 40);
	*ret_number = get_le64(page + 48);
}

int
run_header_decode(const unsigned char *page, struct run_info *ret_info, struct run_layout *ret_layout)
{
	struct run_info info = {.volume_count = get_le32(page + 12)};
	struct run_layout layout = {0};
	uint32_t version = get_le32(page + 8);
	uint64_t seed, number;

	run_header_keys(page, &seed, &number);
	if (memcmp(page, run_magic, sizeof run_magic) != 0 ||
	    run_page_check(page, seed, number, 0, RUN_PAGE_HEADER) < 0)
		return -HF_ECORRUPT;
	if (version == 0 || version > RUN_VERSION)
		return -HF_EFORMAT;
	if (info.volume_count > STORE_VOLUMES_MAX)
		return -HF_ECORRUPT;
	decode_info(page, &info);
	decode_layout(page + LAYOUT_AT, &layout);
	decode_merged(page + MERGED_AT, version, &info, &layout);
	if (info.segment_first > info.number)
		return -HF_ECORRUPT;
	*ret_info = info;
	*ret_layout = layout;
	return 0;
}
