/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/segment.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/bytes.h"
#include "proto/common/status.h"
#include "storage/disk_sim.h"
#include "storage/slab.h"

enum { SEED = 77, GROUPS = 3 };

struct fixture {
	struct disk *disk;
	struct disk_file *file;
	struct segment_header header;
	unsigned char *buf; /* header page and GROUPS groups of one page each and one block of payload */
	struct group_header groups[GROUPS];
	unsigned records_seen, entries_seen;
};

static struct id
an_id(const char *prefix, char digit)
{
	char text[ID_BYTES];
	struct id id;

	snprintf(text, sizeof text, "%s-%.17s", prefix, "00000000000000000");
	text[strlen(text) - 1] = digit;
	assert_true(id_parse(prefix, text, &id));
	return id;
}

static void
make_header(struct fixture *f)
{
	f->header = (struct segment_header){.source = an_id("s", '1'), .digest_seed = SEED, .number = 3, .previous = 2};
	f->header.start.lsn_last = 10;
	f->header.start.chain = 0x1234;
	f->header.start.stream_id = 5;
	f->header.start.sequence = 20;
	f->header.start.volume_count = 1;
	f->header.start.volumes[0] = (struct run_volume){
	    .volume = 1, .size_bytes = 100 * BLOCK_BYTES, .frontier_blocks = 50, .id = an_id("vol", '2')};
	segment_header_encode(&f->header, f->buf);
}

/* Group i: one DATA record of one block, and at its end a checkpoint. */
static void
make_group(struct fixture *f, unsigned i, uint64_t lsn_durable)
{
	unsigned char *descriptor = f->buf + (1 + 2 * i) * BLOCK_BYTES, *payload = descriptor + BLOCK_BYTES;
	struct record_extent x = {.block = i, .count = 1, .volume = 1, .kind = 1};
	struct checkpoint c = {.clock_ns = i, .consistency = CHECKPOINT_CRASH, .volume_count = 0};
	uint64_t digest;

	memset(payload, 'a' + (int)i, BLOCK_BYTES);
	digest = digest_block(SEED, payload);
	memset(descriptor, 0, BLOCK_BYTES);
	record_extents_encode(descriptor + GROUP_HEADER_BYTES, RECORD_DATA, 21 + 2 * i, 7, &x, 1, &digest, 1);
	record_checkpoint_encode(descriptor + GROUP_HEADER_BYTES + record_extents_bytes(1, 1), 22 + 2 * i, 8, &c);
	f->groups[i] = (struct group_header){
	    .segment = 3,
	    .lsn_first = 11 + 2 * i,
	    .lsn_durable = lsn_durable,
	    .record_count = 2,
	    .descriptor_bytes = BLOCK_BYTES,
	    .payload_bytes = BLOCK_BYTES,
	    .chain_before = i > 0 ? f->groups[i - 1].chain : f->header.start.chain,
	    .stream_id = 5,
	};
	group_header_encode(&f->groups[i], descriptor);
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	f->buf = buffer_alloc((1 + 2 * GROUPS) * BLOCK_BYTES);
	assert_int_equal(disk_sim_create(1, &f->disk), 0);
	assert_int_equal(disk_open(f->disk, "/seg", DISK_WRITE | DISK_CREATE, &f->file), 0);
	make_header(f);
	for (unsigned i = 0; i < GROUPS; i++)
		make_group(f, i, 10);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	disk_close(f->disk, f->file);
	disk_destroy(f->disk);
	buffer_free(f->buf, (1 + 2 * GROUPS) * BLOCK_BYTES);
	free(f);
	return 0;
}

static void
count_entry(void *arg, const struct entry *e)
{
	struct fixture *f = arg;

	f->entries_seen++;
	assert_int_equal(e->segment, 3);
	assert_int_equal(e->offset, 2 + 2 * e->block); /* header page, then descriptor and payload by turns */
}

static int
count_record(void *arg, const struct segment_header *h, const struct group_header *g, const struct record *r,
    uint64_t payload_file_offset)
{
	struct fixture *f = arg;

	f->records_seen++;
	if (r->header.type == RECORD_DATA)
		record_entries(r, h->number, payload_file_offset, count_entry, f);
	return 0;
}

/* Write the buffer and scan it. Returns the number of records. */
static unsigned
scan(struct fixture *f, uint64_t lsn_until, struct journal_state *ret_state, uint64_t *ret_bytes)
{
	static const struct segment_scan_events events = {.record = count_record};

	f->records_seen = f->entries_seen = 0;
	assert_int_equal(disk_write_now(f->disk, f->file, f->buf, (1 + 2 * GROUPS) * BLOCK_BYTES, 0), 0);
	assert_int_equal(segment_scan(f->disk, f->file, &f->header, lsn_until, ret_state, ret_bytes, &events, f), 0);
	return f->records_seen;
}

static void
header_survives_the_round_trip(void **state)
{
	struct fixture *f = *state;
	struct segment_header h;

	assert_int_equal(segment_header_decode(f->buf, &h), 0);
	assert_string_equal(h.source.text, f->header.source.text);
	assert_int_equal(h.start.lsn_last, 10);
	assert_int_equal(h.start.volumes[0].frontier_blocks, 50);
	assert_string_equal(h.start.volumes[0].id.text, f->header.start.volumes[0].id.text);
}

static void
header_of_zeros_was_never_begun(void **state)
{
	struct fixture *f = *state;
	struct segment_header h;

	memset(f->buf, 0, SEGMENT_HEADER_BYTES);
	assert_int_equal(segment_header_decode(f->buf, &h), -ENODATA);
}

static void
newer_version_is_refused_by_name(void **state)
{
	struct fixture *f = *state;
	struct segment_header h;

	f->buf[8]++;
	assert_int_equal(segment_header_decode(f->buf, &h), -HF_ECORRUPT); /* and not newer: its checksum is wrong */
	put_le64(f->buf + SEGMENT_HEADER_BYTES - 8, digest_chain(0, f->buf, SEGMENT_HEADER_BYTES - 8));
	assert_int_equal(segment_header_decode(f->buf, &h), -HF_EFORMAT);
}

static void
any_flipped_bit_of_the_header_is_found(void **state)
{
	struct fixture *f = *state;
	struct segment_header h;

	for (size_t bit = 0; bit < 8 * SEGMENT_HEADER_BYTES; bit++) {
		f->buf[bit / 8] ^= (unsigned char)(1 << bit % 8);
		assert_int_not_equal(segment_header_decode(f->buf, &h), 0);
		f->buf[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
}

static void
scan_finds_every_record_and_where_it_ends(void **state)
{
	struct journal_state st;
	uint64_t bytes;

	assert_int_equal(scan(*state, UINT64_MAX, &st, &bytes), 2 * GROUPS);
	assert_int_equal(bytes, (1 + 2 * GROUPS) * BLOCK_BYTES);
	assert_int_equal(st.lsn_last, 10 + 2 * GROUPS);
	assert_int_equal(st.sequence, 20 + 2 * GROUPS);
	assert_int_equal(st.chain, ((struct fixture *)*state)->groups[GROUPS - 1].chain);
	assert_int_equal(((struct fixture *)*state)->entries_seen, GROUPS);
}

static void
scan_stops_at_the_lsn_a_later_segment_goes_on_from(void **state)
{
	struct journal_state st;
	uint64_t bytes;

	assert_int_equal(scan(*state, 12, &st, &bytes), 2);
	assert_int_equal(bytes, 3 * BLOCK_BYTES);
	assert_int_equal(st.lsn_last, 12);
}

/* Any damage to group 1 leaves exactly what is before it. */
static void
any_flipped_bit_ends_the_journal_before_its_group(void **state)
{
	struct fixture *f = *state;
	struct journal_state st;
	uint64_t bytes;

	for (size_t at = 0; at < 2 * BLOCK_BYTES; at += at < 400 ? 1 : 97) {
		unsigned char *p = f->buf + 3 * BLOCK_BYTES + at;

		*p ^= 0x10;
		assert_int_equal(scan(f, UINT64_MAX, &st, &bytes), 2);
		assert_int_equal(st.lsn_last, 12);
		*p ^= 0x10;
	}
}

static void
payload_known_durable_is_not_read_again(void **state)
{
	struct fixture *f = *state;
	struct journal_state st;
	uint64_t bytes;

	make_group(f, 1, 12); /* says: everything up to LSN 12, group 0, is durable */
	make_group(f, 2, 12);
	f->buf[2 * BLOCK_BYTES] ^=
	    1; /* rot in group 0 is for the reader of the block to find, not for recovery to drop */
	assert_int_equal(scan(f, UINT64_MAX, &st, &bytes), 2 * GROUPS);
}

static void
group_of_another_segment_does_not_count(void **state)
{
	struct fixture *f = *state;
	struct journal_state st;
	uint64_t bytes;

	f->groups[1].segment = 2; /* a recycled file's old content */
	group_header_encode(&f->groups[1], f->buf + 3 * BLOCK_BYTES);
	assert_int_equal(scan(f, UINT64_MAX, &st, &bytes), 2);
}

static void
checkpoint_survives_the_round_trip(void **state)
{
	unsigned char buf[CHECKPOINT_BYTES_MAX];
	struct checkpoint c = {.lsn = 9,
			      .stream_id = 0x1122334455667788,
			      .clock_ns = -5,
			      .clock_offset_ns = 3,
			      .received_ns = 8,
			      .consistency = CHECKPOINT_FILESYSTEM,
			      .complete = true,
			      .volume_count = 2},
			  d;
	size_t used, len;

	c.volumes[1].volume = 4;
	c.volumes[1].size_bytes = 123456789;
	len = checkpoint_encode(buf, &c);
	assert_int_equal(checkpoint_decode(buf, len, &d, &used), 0);
	assert_int_equal(used, len);
	c.unchanged_until_ns = c.clock_ns;
	assert_memory_equal(&c, &d, sizeof c);
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(checkpoint_decode(buf, cut, &d, &used), -HF_ECORRUPT);
}

static void
fill_record_must_begin_at_the_frontier(void **state)
{
	struct fixture *f = *state;
	struct record_extent x = {.block = 51, .count = 1, .volume = 1, .kind = 4};
	unsigned char page[BLOCK_BYTES] = {0};
	struct journal_state st = f->header.start;
	struct group_header g = {.lsn_first = 11, .record_count = 1, .descriptor_bytes = BLOCK_BYTES};
	struct record_walk w;
	struct record r;

	record_extents_encode(page + GROUP_HEADER_BYTES, RECORD_FILL, 21, 7, &x, 1, NULL, 0);
	record_walk_begin(&w, &g, page);
	assert_int_equal(record_walk_next(&w, &r), 1);
	assert_int_equal(journal_state_apply(&st, &g, &r), -HF_ECORRUPT);
	st.volumes[0].frontier_blocks = 51;
	assert_int_equal(journal_state_apply(&st, &g, &r), 0);
	assert_int_equal(st.volumes[0].frontier_blocks, 52);
}

static void
keep_entry(void *arg, const struct entry *e)
{
	struct entry *entries = arg;

	entries[e->digest != 0 ? 0 : 1] = *e;
}

static void
fill_record_made_a_data_record_moves_the_frontier_and_says_where_its_blocks_are(void **state)
{
	struct fixture *f = *state;
	struct record_extent x[] = {
	    {.block = 50, .count = 1, .volume = 1, .kind = 3}, {.block = 51, .count = 7, .volume = 1, .kind = 4}};
	unsigned char page[BLOCK_BYTES] = {0};
	struct journal_state st = f->header.start;
	struct group_header g = {
	    .lsn_first = 11, .record_count = 1, .descriptor_bytes = BLOCK_BYTES, .payload_bytes = BLOCK_BYTES};
	struct entry entries[2];
	uint64_t digest = 99;
	struct record_walk w;
	struct record r;

	record_extents_encode(page + GROUP_HEADER_BYTES, RECORD_FILL, 21, 7, x, 2, &digest, 1);
	record_fill_to_data(page + GROUP_HEADER_BYTES);
	record_walk_begin(&w, &g, page);
	assert_int_equal(record_walk_next(&w, &r), 1);
	assert_int_equal(r.header.type, RECORD_DATA);
	assert_int_equal(w.payload_offset, BLOCK_BYTES);
	assert_int_equal(journal_state_apply(&st, &g, &r), 0);
	assert_int_equal(st.volumes[0].frontier_blocks, 58);
	record_entries(&r, 3, 8 * BLOCK_BYTES, keep_entry, entries);
	assert_int_equal(entries[0].block, 50);
	assert_int_equal(entries[0].digest, 99);
	assert_int_equal(entries[0].offset, 8);
	assert_int_equal(entries[1].block, 51);
	assert_int_equal(entries[1].count, 7);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(header_survives_the_round_trip, setup, teardown),
	    cmocka_unit_test_setup_teardown(header_of_zeros_was_never_begun, setup, teardown),
	    cmocka_unit_test_setup_teardown(newer_version_is_refused_by_name, setup, teardown),
	    cmocka_unit_test_setup_teardown(any_flipped_bit_of_the_header_is_found, setup, teardown),
	    cmocka_unit_test_setup_teardown(scan_finds_every_record_and_where_it_ends, setup, teardown),
	    cmocka_unit_test_setup_teardown(scan_stops_at_the_lsn_a_later_segment_goes_on_from, setup, teardown),
	    cmocka_unit_test_setup_teardown(any_flipped_bit_ends_the_journal_before_its_group, setup, teardown),
	    cmocka_unit_test_setup_teardown(payload_known_durable_is_not_read_again, setup, teardown),
	    cmocka_unit_test_setup_teardown(group_of_another_segment_does_not_count, setup, teardown),
	    cmocka_unit_test_setup_teardown(checkpoint_survives_the_round_trip, setup, teardown),
	    cmocka_unit_test_setup_teardown(fill_record_must_begin_at_the_frontier, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		fill_record_made_a_data_record_moves_the_frontier_and_says_where_its_blocks_are, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
