/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/status.h"

static unsigned char wire[FRAME_MESSAGE_MAX];

/* Through the wire and back: what decode said. Structs start zeroed, so equal means every
 * byte. */
#define THROUGH(name, in, out) message_##name##_decode(wire, message_##name##_encode(in, wire, sizeof wire), out)

#define assert_round_trip(name, in)                                  \
	do {                                                         \
		struct message_##name *out = calloc(1, sizeof *out); \
                                                                     \
		assert_non_null(out);                                \
		assert_int_equal(THROUGH(name, in, out), 0);         \
		assert_memory_equal(in, out, sizeof *out);           \
		free(out);                                           \
	} while (0)

static void
id_set(struct id *id, const char *text)
{
	memset(id, 0, sizeof *id);
	memcpy(id->text, text, strlen(text));
}

static void
blob_set(struct message_blob *b, size_t len)
{
	memset(b, 0, sizeof *b);
	b->len = len;
	for (size_t i = 0; i < len; i++)
		b->bytes[i] = (unsigned char)(i * 31);
}

static void
hints_set(struct message_hints *h)
{
	memset(h, 0, sizeof *h);
	strcpy(h->hostname, "db-7.example");
	strcpy(h->machine_id, "0123456789abcdef0123456789abcdef");
	strcpy(h->mac_addresses[0], "52:54:00:12:34:56");
	strcpy(h->mac_addresses[1], "52:54:00:12:34:57");
	h->mac_count = 2;
	strcpy(h->os, "Debian GNU/Linux 12 (Bücherwurm)");
	strcpy(h->kernel, "6.1.0");
	h->cpus = 4;
	h->ram_bytes = UINT64_C(8) << 30;
	strcpy(h->agent_version, "0.1.0");
}

static void
hello_set(struct message_hello *m)
{
	memset(m, 0, sizeof *m);
	m->protocol_version = PROTOCOL_VERSION;
	m->protocol_version_min = PROTOCOL_VERSION_MIN;
	m->role = MESSAGE_ROLE_AGENT;
	memset(m->installation_nonce, 0x5a, sizeof m->installation_nonce);
	m->incarnation = 12;
	hints_set(&m->hints);
	m->compressions = FRAME_LZ4 | FRAME_ZSTD;
	m->features = MESSAGE_FETCH;
	m->clock_ns = INT64_C(1764000000) * 1000000000;
	m->last_stream_id = UINT64_MAX;
	m->last_acked_sequence = 99;
	m->earlier.count = EARLIER_STREAMS_MAX;
	for (size_t i = 0; i < EARLIER_STREAMS_MAX; i++)
		m->earlier.ids[i] = UINT64_MAX - 1 - i;
}

static void
volume_set(struct message_declared_volume *v, unsigned i)
{
	memset(v, 0, sizeof *v);
	snprintf(v->name, sizeof v->name, "disk%u", i);
	snprintf(v->identity, sizeof v->identity, "wwn:%u", i);
	snprintf(v->device_name, sizeof v->device_name, "/dev/sd%u", i);
	v->size_bytes = (UINT64_C(1) << 58) - 1 - i;
	v->state = VOLUME_OK;
	v->boot_disk = i == 0;
}

/* ---- every message comes back as it was ---- */

static void
enrolment_messages_come_back_as_they_were(void **state)
{
	static struct message_enroll e;
	static struct message_enrolled d;

	memset(&e, 0, sizeof e);
	e.protocol_version = 2;
	e.protocol_version_min = 1;
	memset(e.token_secret, 7, sizeof e.token_secret);
	memset(e.installation_nonce, 8, sizeof e.installation_nonce);
	blob_set(&e.csr, CERTIFICATE_BYTES_MAX);
	hints_set(&e.hints);
	assert_round_trip(enroll, &e);

	memset(&d, 0, sizeof d);
	id_set(&d.source_id, "s-00123456789abcdef");
	blob_set(&d.certificate, 600);
	blob_set(&d.ca_certificate, 1);
	d.data_port = 1500;
	assert_round_trip(enrolled, &d);
}

static void
session_messages_come_back_as_they_were(void **state)
{
	static struct message_hello h;
	static const struct message_start s = {.resume = true, .stream_id = 0x8000000000000001};
	static struct message_welcome w;

	hello_set(&h);
	assert_round_trip(hello, &h);
	assert_round_trip(start, &s);
	memset(&w, 0, sizeof w);
	w.protocol_version = 1;
	id_set(&w.source_id, "s-00123456789abcdef");
	w.session_id = 5;
	w.digest_seed = 0xfedcba9876543210;
	w.heartbeat_interval_ms = 1000;
	w.compression = FRAME_ZSTD;
	w.stream_id = 3;
	w.durable_sequence = UINT64_MAX;
	w.chain = 0x0123456789abcdef;
	w.clock_ns = 1;
	w.volumes_max = VOLUMES_MAX;
	strcpy(w.server_version, "0.1.0");
	assert_round_trip(welcome, &w);
}

static void
as_many_volumes_as_allowed_come_back(void **state)
{
	static struct message_declare d;
	static struct message_volumes v;

	memset(&d, 0, sizeof d);
	memset(&v, 0, sizeof v);
	for (unsigned i = 0; i < VOLUMES_MAX; i++) {
		volume_set(&d.volumes[d.count++], i);
		memset(v.volumes[i].identity, 'i', NAME_BYTES - 1);
		memset(v.volumes[i].text, 't', SENTENCE_BYTES - 1);
		v.volumes[i].volume = i + 1;
		v.volumes[i].state = i % 2 == 0 ? VOLUME_OK : VOLUME_REFUSED;
		v.volumes[i].status = i % 2 == 0 ? 0 : -HF_ETOOLARGE;
		v.volumes[i].size_bytes = i;
		v.volumes[i].frontier_blocks = UINT64_C(1) << 48;
		if (i % 2 == 0)
			id_set(&v.volumes[i].volume_id, "vol-00123456789abcdef");
		v.count++;
	}
	for (unsigned i = 0; i < NEW_DISKS_MAX; i++) {
		memset(d.new_disks[i].device_name, 'd', PATH_BYTES - 1);
		memset(d.new_disks[i].identity, 'i', NAME_BYTES - 1);
		d.new_disks[d.new_disk_count++].size_bytes = (UINT64_C(1) << 58) - 1;
	}
	assert_round_trip(declare, &d);
	assert_round_trip(volumes, &v);
}

static void
stream_messages_come_back_as_they_were(void **state)
{
	static const struct message_ack a = {.durable_sequence = 1, .credit_bytes = UINT64_MAX, .hold = true};
	static struct message_heartbeat h = {
	    .clock_ns = INT64_MAX / 2,
	    .echo_clock_ns = 2,
	    .echo_hold_ns = 3,
	    .backlog_bytes = 4,
	    .unchanged_until_ns = 5,
	    .waits = {.source_ns = 6, .tls_ns = 7, .network_ns = 8, .server_ns = UINT64_MAX},
	    .new_disks = NEW_DISKS_REPLICATE,
	};
	static const struct message_checkpoint_request r = {.request_id = 6, .compare = true};
	static struct message_checkpoint c;

	h.backlog_count = VOLUMES_MAX;
	for (unsigned i = 0; i < VOLUMES_MAX; i++)
		h.backlogs[i] = (struct message_backlog){i + 1, (UINT64_C(1) << 58) - 1 - i};
	memset(&c, 0, sizeof c);
	c.clock_ns = 7;
	c.consistency = CONSISTENCY_APPLICATION;
	c.request_id_count = REQUEST_IDS_MAX;
	for (unsigned i = 0; i < REQUEST_IDS_MAX; i++)
		c.request_ids[i] = UINT64_MAX - i;
	c.pass = 8;
	c.bytes_read = 9;
	c.bytes_differing = 10;
	c.compared_count = VOLUMES_MAX;
	for (unsigned i = 0; i < VOLUMES_MAX; i++)
		c.compared[i] = (struct message_compared_volume){i + 1, UINT64_MAX - i, i, i % 2 == 0};
	assert_round_trip(ack, &a);
	assert_round_trip(heartbeat, &h);
	assert_round_trip(checkpoint_request, &r);
	assert_round_trip(checkpoint, &c);
}

static void
compare_messages_come_back_as_they_were(void **state)
{
	static const struct message_compare c = {1, 2, 3, (UINT64_C(1) << 48) - 1, COMPARE_COUNT_MAX};
	static struct message_compared d;
	static struct message_recent r;
	static struct message_recent_answer a;

	assert_round_trip(compare, &c);
	memset(&d, 0, sizeof d);
	d.request_id = 1;
	d.volume = 2;
	d.count = 3;
	d.all_zero = true;
	d.status = -HF_EVOLUME;
	assert_round_trip(compared, &d);
	r.volume = UINT32_MAX;
	assert_round_trip(recent, &r);
	memset(&a, 0, sizeof a);
	a.volume = 1;
	a.count = RECENT_MAX;
	for (unsigned i = 0; i < RECENT_MAX; i++)
		a.nodes[i] = UINT64_MAX - i;
	assert_round_trip(recent_answer, &a);
}

static void
reports_and_ends_come_back_as_they_were(void **state)
{
	static struct message_renew n;
	static struct message_renewed d;
	static struct message_report r;
	static struct message_notice o;
	static struct message_goodbye g;

	blob_set(&n.csr, 300);
	assert_round_trip(renew, &n);
	blob_set(&d.certificate, CERTIFICATE_BYTES_MAX);
	blob_set(&d.ca_certificate, CERTIFICATE_BYTES_MAX);
	assert_round_trip(renewed, &d);
	blob_set(&d.next_ca_certificate, CERTIFICATE_BYTES_MAX);
	assert_round_trip(renewed, &d);
	r.activity = ACTIVITY_IDLE;
	r.pass = 3;
	r.count = VOLUMES_MAX;
	for (unsigned i = 0; i < VOLUMES_MAX; i++) {
		r.volumes[i].volume = i;
		r.volumes[i].done_bytes = i * 7;
		r.volumes[i].total_bytes = (UINT64_C(1) << 58) - 1 - i;
	}
	assert_round_trip(report, &r);
	strcpy(o.event, "freeze_timeout");
	strcpy(o.text, "thawed /srv after 5 s");
	assert_round_trip(notice, &o);
	g.status = -HF_EVERSION;
	memset(g.text, 'x', SENTENCE_BYTES - 1);
	strcpy(g.cure, "apt install holdfast-agent");
	g.server_version_min = 1;
	g.server_version_max = 2;
	assert_round_trip(goodbye, &g);
}

static void
fetches_come_back_as_they_were(void **state)
{
	static struct message_fetch q = {.request_id = 7, .volume = 3, .block = (UINT64_C(1) << 48) - 1};
	static struct message_fetched a = {.request_id = 7};
	static struct message_fetched none = {.request_id = 8, .status = -5};

	assert_round_trip(fetch, &q);
	memset(a.block, 0xa5, sizeof a.block);
	assert_round_trip(fetched, &a);
	assert_round_trip(fetched, &none);
}

static void
a_fetched_block_is_whole_or_there_is_a_reason(void **state)
{
	static unsigned char bytes[8192];
	static struct message_fetched m = {.request_id = 1}, out;
	static const struct message_fetch beyond = {.block = UINT64_C(1) << 48};
	static const unsigned char least[] = {0x10, 0x80, 0x80, 0x80, 0x80, 0x08}; /* status: INT32_MIN */
	struct message_fetch q;
	size_t n = message_fetched_encode(&m, bytes, sizeof bytes);

	assert_int_equal(message_fetched_decode(bytes, n, &out), 0);
	assert_int_equal(message_fetched_decode(bytes, 2, &out), -HF_EPROTOCOL); /* neither bytes nor a status */
	bytes[n++] = 0x10;                                                       /* a status behind the bytes */
	bytes[n++] = 5;
	assert_int_equal(message_fetched_decode(bytes, n, &out), -HF_EPROTOCOL);
	assert_int_equal(message_fetched_decode(least, sizeof least, &out), -HF_EPROTOCOL);
	n = message_fetch_encode(&beyond, bytes, sizeof bytes);
	assert_int_equal(message_fetch_decode(bytes, n, &q), -HF_EPROTOCOL);
}

static void
a_message_of_defaults_has_no_bytes(void **state)
{
	static const struct message_ack none;
	static const struct message_declare no_volumes;
	static struct message_declare back;
	struct message_ack ack = {1, 1, true};

	assert_int_equal(message_ack_encode(&none, wire, sizeof wire), 0);
	assert_int_equal(message_ack_decode(wire, 0, &ack), 0);
	assert_true(ack.durable_sequence == 0 && ack.credit_bytes == 0);
	back.count = 9;
	assert_int_equal(message_declare_encode(&no_volumes, wire, sizeof wire), 0);
	assert_int_equal(message_declare_decode(wire, 0, &back), 0);
	assert_int_equal(back.count, 0);
}

/* ---- values out of bounds ---- */

/* Decode what encoding the changed message gave. */
#define refused(name, set, change, status)                                      \
	do {                                                                    \
		static struct message_##name m, out, before;                    \
                                                                                \
		set;                                                            \
		assert_int_equal(THROUGH(name, &m, &out), 0);                   \
		change;                                                         \
		memset(&out, 0x77, sizeof out);                                 \
		memset(&before, 0x77, sizeof before);                           \
		assert_int_equal(THROUGH(name, &m, &out), status);              \
		assert_memory_equal(&out, &before, sizeof out); /* untouched */ \
	} while (0)

static void
hello_out_of_bounds_is_refused(void **state)
{
	refused(hello, hello_set(&m), m.role = 0, -HF_EPROTOCOL);
	refused(hello, hello_set(&m), m.role = 3, -HF_EPROTOCOL);
	refused(hello, hello_set(&m), m.incarnation = 0, -HF_EPROTOCOL);
	refused(hello, hello_set(&m), m.clock_ns = -1, -HF_EPROTOCOL);
	refused(hello, hello_set(&m), m.clock_ns = INT64_MAX, -HF_EPROTOCOL);
	refused(hello, hello_set(&m), m.protocol_version_min = 0, -HF_EPROTOCOL);
	refused(hello, hello_set(&m), m.protocol_version_min = 2, -HF_EPROTOCOL);
}

static void
enumerations_out_of_range_are_refused(void **state)
{
	refused(checkpoint, m.consistency = CONSISTENCY_FUZZY, m.consistency = 0, -HF_EPROTOCOL);
	refused(checkpoint, m.consistency = CONSISTENCY_FUZZY, m.consistency = 5, -HF_EPROTOCOL);
	refused(report, m.activity = ACTIVITY_PASS, m.activity = 5, -HF_EPROTOCOL);
	refused(report, m.activity = ACTIVITY_PASS, m.activity = (enum activity) - 1, -HF_EPROTOCOL);
}

static void
declared_volumes_that_make_no_sense_are_refused(void **state)
{
#define two                                   \
	do {                                  \
		memset(&m, 0, sizeof m);      \
		m.count = 2;                  \
		volume_set(&m.volumes[0], 0); \
		volume_set(&m.volumes[1], 1); \
	} while (0)
	refused(declare, two, m.volumes[1].size_bytes = 0, -HF_EPROTOCOL);
	refused(declare, two, m.volumes[1].size_bytes = UINT64_C(1) << 58, -HF_EPROTOCOL);
	refused(declare, two, m.volumes[1].state = 0, -HF_EPROTOCOL);
	refused(declare, two, m.volumes[1].state = 7, -HF_EPROTOCOL);
	refused(declare, two, m.volumes[1].name[0] = '\0', -HF_EPROTOCOL);
	refused(declare, two, m.volumes[1].identity[0] = '\0', -HF_EPROTOCOL);
	refused(declare, two, strcpy(m.volumes[1].name, m.volumes[0].name), -HF_EPROTOCOL);
	refused(declare, two, strcpy(m.volumes[1].identity, m.volumes[0].identity), -HF_EPROTOCOL);
#undef two
}

static void
a_new_disk_has_a_size_that_can_be_and_a_wish_is_a_known_one(void **state)
{
	refused(declare, m.new_disk_count = 1, m.new_disks[0].size_bytes = UINT64_C(1) << 58, -HF_EPROTOCOL);
	refused(heartbeat, m.new_disks = NEW_DISKS_REPLICATE, m.new_disks++, -HF_EPROTOCOL);
}

/* Of all volumes added up, in 64 bits. */
static void
what_is_told_of_disks_can_be_added_up(void **state)
{
	refused(heartbeat, m.backlog_bytes = (UINT64_C(60) << 58) - 1, m.backlog_bytes++, -HF_EPROTOCOL);
	refused(heartbeat, m.backlogs[m.backlog_count++].bytes = (UINT64_C(1) << 58) - 1, m.backlogs[0].bytes++,
	    -HF_EPROTOCOL);
	refused(report, (m.activity = ACTIVITY_PASS, m.count = 1, m.volumes[0].done_bytes = (UINT64_C(1) << 58) - 1),
	    m.volumes[0].done_bytes++, -HF_EPROTOCOL);
	refused(report, (m.activity = ACTIVITY_PASS, m.count = 1, m.volumes[0].total_bytes = (UINT64_C(1) << 58) - 1),
	    m.volumes[0].total_bytes++, -HF_EPROTOCOL);
}

static void
a_volume_that_is_not_sent_needs_neither_size_nor_identity(void **state)
{
	static struct message_declare m, out;

	m.count = 2;
	for (unsigned i = 0; i < 2; i++) {
		snprintf(m.volumes[i].name, NAME_BYTES, "disk%u", i);
		m.volumes[i].state = VOLUME_IDENTITY_MISSING;
	}
	assert_int_equal(THROUGH(declare, &m, &out), 0);
}

static void
answers_name_their_volume_unless_it_is_refused(void **state)
{
#define one                                                               \
	do {                                                              \
		memset(&m, 0, sizeof m);                                  \
		m.count = 1;                                              \
		m.volumes[0].state = VOLUME_OK;                           \
		id_set(&m.volumes[0].volume_id, "vol-00123456789abcdef"); \
	} while (0)
	refused(volumes, one, m.volumes[0].volume_id.text[0] = '\0', -HF_EPROTOCOL);
	refused(volumes, one, m.volumes[0].volume_id.text[4] = 'X', -HF_EPROTOCOL);
	refused(volumes, one, m.volumes[0].frontier_blocks = UINT64_MAX, -HF_EPROTOCOL);
	refused(volumes, one, m.volumes[0].status = 5, -HF_EPROTOCOL);
	refused(volumes, one, id_set(&m.volumes[0].volume_id, "s-00123456789abcdef"), -HF_EPROTOCOL);
#undef one
}

static void
compare_out_of_bounds_is_refused(void **state)
{
	refused(compare, m.count = 1, m.level = 4, -HF_EPROTOCOL);
	refused(compare, (m.count = 1, m.level = 0), m.count = 0, -HF_EPROTOCOL);
	refused(compare, m.count = COMPARE_COUNT_MAX, m.count++, -HF_ETOOBIG);
	refused(compare, m.count = 1, m.first = UINT64_C(1) << 48, -HF_EPROTOCOL);
}

static void
a_stream_has_an_id(void **state)
{
	refused(start, m.stream_id = 1, m.stream_id = 0, -HF_EPROTOCOL);
}

static void
the_data_port_is_a_port(void **state)
{
#define granted                                              \
	do {                                                 \
		id_set(&m.source_id, "s-00123456789abcdef"); \
		blob_set(&m.certificate, 9);                 \
		blob_set(&m.ca_certificate, 9);              \
		m.data_port = 65535;                         \
	} while (0)
	refused(enrolled, granted, m.data_port = 0, -HF_EPROTOCOL);
	refused(enrolled, granted, m.data_port = 65536, -HF_EPROTOCOL);
	refused(enrolled, granted, m.certificate.len = 0, -HF_EPROTOCOL);
#undef granted
}

/* ---- bytes no encoder of ours makes ---- */

struct bytes {
	size_t len;
	unsigned char at[FRAME_MESSAGE_MAX + 64];
};

static struct bytes raw;

static void
put(const void *p, size_t n)
{
	assert_true(raw.len + n <= sizeof raw.at);
	memcpy(raw.at + raw.len, p, n);
	raw.len += n;
}

static void
put_varint(uint64_t v)
{
	unsigned char b[10];
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		b[n++] = (unsigned char)(v | 0x80);
	b[n++] = (unsigned char)v;
	put(b, n);
}

static void
put_number(unsigned field, uint64_t v)
{
	put_varint(field << 3);
	put_varint(v);
}

static void
put_bytes(unsigned field, const void *p, size_t n)
{
	put_varint(field << 3 | 2);
	put_varint(n);
	put(p, n);
}

static int
notice_of(const void *event, size_t event_len, const void *text, size_t text_len)
{
	static struct message_notice out;

	raw.len = 0;
	put_bytes(1, event, event_len);
	put_bytes(2, text, text_len);
	return message_notice_decode(raw.at, raw.len, &out);
}

static void
text_must_be_utf8_without_control_characters(void **state)
{
	static const struct {
		const char *text;
		size_t len;
	} bad[] = {
	    {"a\0b", 3},
	    {"\n", 1},
	    {"\x1b[2J", 4},
	    {"\x7f", 1},
	    {"\xc2\x85", 2}, /* NEL */
	    {"\xff", 1},
	    {"\x80", 1},
	    {"\xc3", 1},
	    {"\xc3(", 2},
	    {"\xc0\xaf", 2},     /* overlong */
	    {"\xed\xa0\x80", 3}, /* half a pair */
	    {"\xf4\x90\x80\x80", 4},
	    {"\xe0\x80\xaf", 3},
	    {"\xf8\x88\x80\x80\x80", 5},
	};

	assert_int_equal(notice_of("e", 1, "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x92\xbe", 15), 0);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(notice_of("e", 1, bad[i].text, bad[i].len), -HF_EPROTOCOL);
}

static void
text_longer_than_its_place_is_refused(void **state)
{
	static char text[SENTENCE_BYTES];

	memset(text, 'x', sizeof text);
	assert_int_equal(notice_of("e", 1, text, SENTENCE_BYTES - 1), 0);
	assert_int_equal(notice_of("e", 1, text, SENTENCE_BYTES), -HF_ETOOBIG);
	assert_int_equal(notice_of(text, NAME_BYTES - 1, "", 0), 0);
	assert_int_equal(notice_of(text, NAME_BYTES, "", 0), -HF_ETOOBIG);
	assert_int_equal(notice_of("", 0, "", 0), -HF_EPROTOCOL);
}

static void
unknown_fields_are_passed_over(void **state)
{
	struct message_ack ack;

	raw.len = 0;
	put_number(1, 7);
	put_number(99, UINT64_MAX);
	put_bytes(100, "\xff\x00", 2);
	put_varint(101 << 3 | 1);
	put("12345678", 8);
	put_varint(102 << 3 | 5);
	put("1234", 4);
	put_number(2, 8);
	assert_int_equal(message_ack_decode(raw.at, raw.len, &ack), 0);
	assert_true(ack.durable_sequence == 7 && ack.credit_bytes == 8);
}

static void
an_algorithm_not_known_here_is_passed_over_in_an_offer(void **state)
{
	static struct message_hello m, out;

	hello_set(&m);
	m.compressions = FRAME_ZSTD;
	raw.len = message_hello_encode(&m, raw.at, sizeof raw.at);
	put_number(8, 77);
	assert_int_equal(message_hello_decode(raw.at, raw.len, &out), 0);
	assert_int_equal(out.compressions, FRAME_ZSTD);
}

static void
a_choice_of_an_unknown_algorithm_is_refused(void **state)
{
	static struct message_welcome m, out;

	m.protocol_version = 1;
	id_set(&m.source_id, "s-00123456789abcdef");
	m.heartbeat_interval_ms = 1;
	raw.len = message_welcome_encode(&m, raw.at, sizeof raw.at);
	assert_int_equal(message_welcome_decode(raw.at, raw.len, &out), 0);
	put_number(6, 3);
	assert_int_equal(message_welcome_decode(raw.at, raw.len, &out), -HF_EPROTOCOL);
}

static void
groups_and_unassigned_wire_types_are_refused(void **state)
{
	static const unsigned types[] = {3, 4, 6, 7};
	struct message_ack ack;

	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
		raw.len = 0;
		put_varint(50 << 3 | types[i]);
		put_varint(50 << 3 | 4);
		assert_int_equal(message_ack_decode(raw.at, raw.len, &ack), -HF_EPROTOCOL);
	}
}

static void
a_field_of_another_wire_type_is_refused(void **state)
{
	struct message_ack ack;

	raw.len = 0;
	put_bytes(1, "x", 1);
	assert_int_equal(message_ack_decode(raw.at, raw.len, &ack), -HF_EPROTOCOL);
}

static void
more_than_1024_fields_are_too_big(void **state)
{
	struct message_ack ack;

	raw.len = 0;
	for (int i = 0; i < 1024; i++)
		put_number(1, 1);
	assert_int_equal(message_ack_decode(raw.at, raw.len, &ack), 0);
	put_number(1, 1);
	assert_int_equal(message_ack_decode(raw.at, raw.len, &ack), -HF_ETOOBIG);
}

static void
more_items_than_allowed_are_too_big(void **state)
{
	static struct message_report report;
	static struct message_checkpoint checkpoint;
	static struct message_hello hello, out;

	raw.len = 0;
	put_number(1, ACTIVITY_FILL);
	for (int i = 0; i <= VOLUMES_MAX; i++)
		put_bytes(2, "", 0);
	assert_int_equal(message_report_decode(raw.at, raw.len, &report), -HF_ETOOBIG);

	raw.len = 0;
	put_number(2, CONSISTENCY_CRASH);
	for (int i = 0; i <= REQUEST_IDS_MAX; i++)
		put_number(3, 1);
	assert_int_equal(message_checkpoint_decode(raw.at, raw.len, &checkpoint), -HF_ETOOBIG);

	hello_set(&hello);
	raw.len = message_hello_encode(&hello, raw.at, sizeof raw.at);
	for (int i = 0; i < 7; i++)
		put_bytes(7, "\x1a\x01y", 3); /* hints again: merged, one more MAC address each */
	assert_int_equal(message_hello_decode(raw.at, raw.len, &out), -HF_ETOOBIG);
}

static void
bytes_of_another_length_are_refused(void **state)
{
	static struct message_hello m, out;

	hello_set(&m);
	raw.len = message_hello_encode(&m, raw.at, sizeof raw.at);
	put_bytes(5, "0123456789abcde", 15);
	assert_int_equal(message_hello_decode(raw.at, raw.len, &out), -HF_EPROTOCOL);
}

static void
an_array_that_would_overflow_the_arena_is_refused(void **state)
{
	static const unsigned char ones[60000] = {1};
	static struct message_recent_answer out;

	raw.len = 0;
	put_bytes(2, ones, sizeof ones); /* unpacks to 480,000 bytes */
	assert_int_equal(message_recent_answer_decode(raw.at, raw.len, &out), -HF_EPROTOCOL);
}

static void
more_bytes_than_a_message_may_have_are_too_big(void **state)
{
	static struct message_notice out;

	raw.len = 0;
	put_bytes(9, wire, FRAME_MESSAGE_MAX);
	assert_int_equal(message_notice_decode(raw.at, raw.len, &out), -HF_ETOOBIG);
}

static void
varints_of_more_than_64_bits_are_refused(void **state)
{
	struct message_ack ack;

	assert_int_equal(
	    message_ack_decode((const unsigned char *)"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, &ack), 0);
	assert_true(ack.durable_sequence == UINT64_MAX);
	assert_int_equal(
	    message_ack_decode((const unsigned char *)"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11, &ack),
	    -HF_EPROTOCOL);
}

/* A path may be any bytes, and a sentence may have been cut inside a character. */
static void
texts_from_anywhere_are_sent_as_a_person_may_be_shown_them(void **state)
{
	static struct message_declare d = {.count = 1, .new_disk_count = 1}, d_out;
	static struct message_notice n, n_out;

	volume_set(&d.volumes[0], 0);
	strcpy(d.volumes[0].device_name, "/srv/\xff\xc2\x9b"
					 "2J");
	strcpy(d.new_disks[0].device_name, "/srv/a\nb");
	assert_int_equal(THROUGH(declare, &d, &d_out), 0);
	assert_string_equal(d_out.volumes[0].device_name, "/srv/???2J");
	assert_string_equal(d_out.new_disks[0].device_name, "/srv/a?b");
	assert_string_equal(d.new_disks[0].device_name, "/srv/a\nb"); /* where the disk is, to us */

	strcpy(n.event, "volume_moved");
	strcpy(n.text, "caf\xc3\xa9 caf\xc3");
	assert_int_equal(THROUGH(notice, &n, &n_out), 0);
	assert_string_equal(n_out.text, "caf\xc3\xa9 caf?");
}

/* A prefix ends either between two fields, or in one, and then it is refused; never is a byte
 * behind it read. */
static void
every_prefix_of_a_message_is_read_within_its_bounds(void **state)
{
	static struct message_hello m, out;
	size_t len, refusals = 0;

	hello_set(&m);
	len = message_hello_encode(&m, wire, sizeof wire);
	for (size_t n = 0; n < len; n++) {
		unsigned char *exact = malloc(n + 1);
		int r;

		assert_non_null(exact);
		memcpy(exact + 1, wire, n);
		r = message_hello_decode(exact + 1, n, &out);
		free(exact);
		assert_true(r == 0 || r == -HF_EPROTOCOL);
		refusals += r != 0;
	}
	assert_true(refusals > len / 2);
}

/* ---- text ---- */

static void
consistencies_have_the_names_of_the_api(void **state)
{
	assert_string_equal(consistency_name(CONSISTENCY_FUZZY), "fuzzy");
	assert_string_equal(consistency_name(CONSISTENCY_CRASH), "crash");
	assert_string_equal(consistency_name(CONSISTENCY_FILESYSTEM), "filesystem");
	assert_string_equal(consistency_name(CONSISTENCY_APPLICATION), "application");
	assert_string_equal(consistency_name((enum consistency)0), "unknown");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(enrolment_messages_come_back_as_they_were),
	    cmocka_unit_test(session_messages_come_back_as_they_were),
	    cmocka_unit_test(as_many_volumes_as_allowed_come_back),
	    cmocka_unit_test(stream_messages_come_back_as_they_were),
	    cmocka_unit_test(compare_messages_come_back_as_they_were),
	    cmocka_unit_test(reports_and_ends_come_back_as_they_were),
	    cmocka_unit_test(fetches_come_back_as_they_were),
	    cmocka_unit_test(a_fetched_block_is_whole_or_there_is_a_reason),
	    cmocka_unit_test(a_message_of_defaults_has_no_bytes),
	    cmocka_unit_test(hello_out_of_bounds_is_refused),
	    cmocka_unit_test(enumerations_out_of_range_are_refused),
	    cmocka_unit_test(declared_volumes_that_make_no_sense_are_refused),
	    cmocka_unit_test(a_new_disk_has_a_size_that_can_be_and_a_wish_is_a_known_one),
	    cmocka_unit_test(what_is_told_of_disks_can_be_added_up),
	    cmocka_unit_test(a_volume_that_is_not_sent_needs_neither_size_nor_identity),
	    cmocka_unit_test(answers_name_their_volume_unless_it_is_refused),
	    cmocka_unit_test(compare_out_of_bounds_is_refused),
	    cmocka_unit_test(a_stream_has_an_id),
	    cmocka_unit_test(the_data_port_is_a_port),
	    cmocka_unit_test(text_must_be_utf8_without_control_characters),
	    cmocka_unit_test(text_longer_than_its_place_is_refused),
	    cmocka_unit_test(unknown_fields_are_passed_over),
	    cmocka_unit_test(an_algorithm_not_known_here_is_passed_over_in_an_offer),
	    cmocka_unit_test(a_choice_of_an_unknown_algorithm_is_refused),
	    cmocka_unit_test(groups_and_unassigned_wire_types_are_refused),
	    cmocka_unit_test(a_field_of_another_wire_type_is_refused),
	    cmocka_unit_test(more_than_1024_fields_are_too_big),
	    cmocka_unit_test(more_items_than_allowed_are_too_big),
	    cmocka_unit_test(bytes_of_another_length_are_refused),
	    cmocka_unit_test(an_array_that_would_overflow_the_arena_is_refused),
	    cmocka_unit_test(more_bytes_than_a_message_may_have_are_too_big),
	    cmocka_unit_test(varints_of_more_than_64_bits_are_refused),
	    cmocka_unit_test(texts_from_anywhere_are_sent_as_a_person_may_be_shown_them),
	    cmocka_unit_test(every_prefix_of_a_message_is_read_within_its_bounds),
	    cmocka_unit_test(consistencies_have_the_names_of_the_api),
	};

	return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
