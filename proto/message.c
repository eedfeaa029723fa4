/* SPDX-License-Identifier: Apache-2.0 */
/* Every message has one function, X_convert(), that carries its fields between the protobuf-c
 * struct and ours, one line a field, in either direction: what is written and what is read cannot
 * drift apart.
 *
 *	encode:  ours --X_convert--> protobuf-c struct --pack--> bytes
 *	decode:  bytes --scan_message--> --unpack--> protobuf-c struct --X_convert--> ours
 *
 * Decoding trusts nothing: the first value out of bounds sets the conversion's status, and the
 * caller's output stays as it was. Encoding borrows our arrays and writes what it is given, texts with
 * '?' in place of what a decode would refuse; only counts beyond our own arrays are a programmer's
 * error. What either direction needs in between lies in the thread's arena, forgotten when the next
 * message comes, so no message allocates. */
#include "proto/message.h"

#include <assert.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/text.h"
#include "proto/holdfast.pb-c.h"
#include "proto/scan.h"

enum {
	ARENA_BYTES = 256 * 1024, /* four times the largest message: enough for any honest one, unpacked */
	ARENA_ALIGN = 16,
};

#define CLOCK_END                                                                       \
	(INT64_C(1) << 62) /* year 2116; differences of two such clocks cannot overflow \
			    */
#define BLOCKS_END (UINT64_C(1) << 48)
#define SIZE_END   (UINT64_C(1) << 58) /* those of all volumes of a source can be added up */

struct arena {
	size_t used;
	_Alignas(ARENA_ALIGN) unsigned char bytes[ARENA_BYTES];
};

static _Thread_local struct arena thread_arena;

struct conversion {
	bool decoding;
	int status; /* 0, or what the first bad value was: nothing is converted after it */
};

static void *
arena_take(struct arena *a, size_t size)
{
	void *p = a->bytes + a->used;

	if (size > ARENA_BYTES - a->used)
		return NULL;
	a->used += (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
	return p;
}

static void *
arena_alloc(void *arg, size_t size)
{
	return arena_take(arg, size);
}

static void
arena_free(void *arg, void *p)
{
}

/* Room for n things of an encoding. Never NULL: our own structs are bounded far below the arena. */
static void *
encoding_room(size_t n, size_t size)
{
	void *p = arena_take(&thread_arena, n * size);

	assert(p != NULL);
	return p;
}

static void
fail(struct conversion *c, int status)
{
	if (c->status == 0)
		c->status = status;
}

/* What a peer must not send; what we send ourselves is not judged here. */
static void
require(struct conversion *c, bool holds)
{
	if (c->decoding && !holds)
		fail(c, -HF_EPROTOCOL);
}

/* ---- fields ---- */

static void
convert_u32(struct conversion *c, uint32_t *w, uint32_t *m)
{
	if (c->decoding)
		*m = *w;
	else
		*w = *m;
}

static void
convert_u64(struct conversion *c, uint64_t *w, uint64_t *m)
{
	if (c->decoding)
		*m = *w;
	else
		*w = *m;
}

static void
convert_flag(struct conversion *c, protobuf_c_boolean *w, bool *m)
{
	if (c->decoding)
		*m = *w != 0;
	else
		*w = *m;
}

/* A moment or a span in nanoseconds. */
static void
convert_ns(struct conversion *c, int64_t *w, int64_t *m)
{
	if (c->decoding)
		*m = *w;
	else
		*w = *m;
	require(c, *m >= 0 && *m < CLOCK_END);
}

/* Statuses are negative in the program and positive on the wire. */
static void
convert_status(struct conversion *c, int32_t *w, int *m)
{
	require(c, *w >= 0);
	if (!c->decoding)
		*w = -*m;
	else if (*w >= 0) /* the least number has no opposite */
		*m = -*w;
}

/* Enumerations have the same numbers on both sides, 1..last; 0 is protobuf's "not said". */
static void
convert_number_of_enum(struct conversion *c, unsigned *w, unsigned *m, unsigned last)
{
	if (c->decoding)
		*m = *w;
	else
		*w = *m;
	require(c, *m >= 1 && *m <= last);
}

#define convert_enum(c, w, m, last) convert_number_of_enum(c, (unsigned *)(w), (unsigned *)(m), last)

/* Sent as a person may be shown it: the other side would refuse the whole message. */
static char *
encode_chars(const char *m)
{
	size_t size = strlen(m) + 1;
	char *plain = encoding_room(1, size);

	text_set(plain, size, m);
	return plain;
}

static void
convert_chars(struct conversion *c, char **w, char *m, size_t size)
{
	size_t len;

	if (!c->decoding) {
		*w = encode_chars(m);
		return;
	}
	len = strlen(*w); /* the scan saw no NUL in it */
	if (len >= size)
		fail(c, -HF_ETOOBIG);
	else
		memcpy(m, *w, len + 1);
}

#define convert_text(c, w, m) convert_chars(c, w, m, sizeof(m))

/* An id, or none if the place may be empty. */
static void
convert_id(struct conversion *c, const char *prefix, bool may_be_empty, char **w, struct id *m)
{
	if (!c->decoding)
		*w = m->text;
	else if (!may_be_empty || **w != '\0')
		require(c, id_parse(prefix, *w, m));
}

/* Exactly size bytes. */
static void
convert_bytes(struct conversion *c, ProtobufCBinaryData *w, unsigned char *m, size_t size)
{
	if (!c->decoding)
		*w = (ProtobufCBinaryData){.len = size, .data = m};
	else if (w->len == size)
		memcpy(m, w->data, size);
	else
		fail(c, -HF_EPROTOCOL);
}

static void
convert_blob(struct conversion *c, ProtobufCBinaryData *w, struct message_blob *m)
{
	if (!c->decoding) {
		assert(m->len <= sizeof m->bytes);
		*w = (ProtobufCBinaryData){.len = m->len, .data = m->bytes};
		return;
	}
	require(c, w->len > 0);
	if (w->len > sizeof m->bytes)
		fail(c, -HF_ETOOBIG);
	if (c->status < 0)
		return;
	m->len = w->len;
	memcpy(m->bytes, w->data, w->len);
}

/* How many of a repeated field there are, at most max; false when there is nothing to go on with.
 */
static bool
convert_count(struct conversion *c, size_t *w, size_t *m, size_t max)
{
	if (!c->decoding) {
		assert(*m <= max);
		*w = *m;
		return true;
	}
	if (*w > max)
		fail(c, -HF_ETOOBIG);
	else
		*m = *w;
	return c->status == 0;
}

static void
convert_numbers(struct conversion *c, size_t *w_count, uint64_t **w, size_t *m_count, uint64_t *m, size_t max)
{
	if (!convert_count(c, w_count, m_count, max))
		return;
	if (!c->decoding)
		*w = m;
	else if (*m_count > 0)
		memcpy(m, *w, *m_count * sizeof *m);
}

/* The submessages of a repeated field, to be converted one by one; encoding, they are made here. */
static bool
convert_items(
    struct conversion *c, const ProtobufCMessageDescriptor *type, size_t *w_count, void *w, size_t *m_count, size_t max)
{
	ProtobufCMessage ***items = w;

	if (!convert_count(c, w_count, m_count, max))
		return false;
	if (c->decoding)
		return true;
	*items = encoding_room(*m_count, sizeof **items);
	for (size_t i = 0; i < *m_count; i++) {
		(*items)[i] = encoding_room(1, type->sizeof_message);
		protobuf_c_message_init(type, (*items)[i]);
	}
	return true;
}

/* ---- what messages share ---- */

static void
convert_mac_addresses(struct conversion *c, Holdfast__V1__Hints *w, struct message_hints *m)
{
	size_t max = sizeof m->mac_addresses / sizeof m->mac_addresses[0];

	if (!convert_count(c, &w->n_mac_addresses, &m->mac_count, max))
		return;
	if (!c->decoding)
		w->mac_addresses = encoding_room(m->mac_count, sizeof *w->mac_addresses);
	for (size_t i = 0; i < m->mac_count; i++)
		convert_text(c, &w->mac_addresses[i], m->mac_addresses[i]);
}

static void
convert_hints(struct conversion *c, Holdfast__V1__Hints **w_hints, struct message_hints *m)
{
	Holdfast__V1__Hints *w;

	if (!c->decoding) {
		*w_hints = encoding_room(1, sizeof **w_hints);
		holdfast__v1__hints__init(*w_hints);
	}
	w = *w_hints;
	if (w == NULL)
		return;
	convert_text(c, &w->hostname, m->hostname);
	convert_text(c, &w->machine_id, m->machine_id);
	convert_mac_addresses(c, w, m);
	convert_text(c, &w->os, m->os);
	convert_text(c, &w->kernel, m->kernel);
	convert_u32(c, &w->cpus, &m->cpus);
	convert_u64(c, &w->ram_bytes, &m->ram_bytes);
	convert_text(c, &w->agent_version, m->agent_version);
}

static unsigned
compression_flag(int compression)
{
	switch (compression) {
	case HOLDFAST__V1__COMPRESSION__COMPRESSION_LZ4: return FRAME_LZ4;
	case HOLDFAST__V1__COMPRESSION__COMPRESSION_ZSTD: return FRAME_ZSTD;
	default: return 0;
	}
}

/* What the agent can send is an offer: an algorithm unknown here is passed over, not refused. */
static void
convert_offer(struct conversion *c, Holdfast__V1__Hello *w, unsigned *flags)
{
	static const Holdfast__V1__Compression all[] = {
	    HOLDFAST__V1__COMPRESSION__COMPRESSION_LZ4,
	    HOLDFAST__V1__COMPRESSION__COMPRESSION_ZSTD,
	};
	size_t n = sizeof all / sizeof all[0];

	if (c->decoding) {
		for (size_t i = 0; i < w->n_compressions; i++)
			*flags |= compression_flag((int)w->compressions[i]);
		return;
	}
	w->compressions = encoding_room(n, sizeof *w->compressions);
	for (size_t i = 0; i < n; i++)
		if ((*flags & compression_flag((int)all[i])) != 0)
			w->compressions[w->n_compressions++] = all[i];
}

static unsigned
feature_flag(int feature)
{
	switch (feature) {
	case HOLDFAST__V1__FEATURE__FEATURE_FETCH: return MESSAGE_FETCH;
	case HOLDFAST__V1__FEATURE__FEATURE_CA_CHANGE: return MESSAGE_CA_CHANGE;
	default: return 0; /* of a newer agent */
	}
}

/* An offer like the compressions. */
static void
convert_features(struct conversion *c, Holdfast__V1__Hello *w, unsigned *flags)
{
	static const Holdfast__V1__Feature all[] = {
	    HOLDFAST__V1__FEATURE__FEATURE_FETCH, HOLDFAST__V1__FEATURE__FEATURE_CA_CHANGE};

	if (c->decoding) {
		for (size_t i = 0; i < w->n_features; i++)
			*flags |= feature_flag((int)w->features[i]);
		return;
	}
	w->features = encoding_room(sizeof all / sizeof all[0], sizeof *w->features);
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		if ((*flags & feature_flag((int)all[i])) != 0)
			w->features[w->n_features++] = all[i];
}

static void
convert_choice(struct conversion *c, Holdfast__V1__Compression *w, unsigned *flag)
{
	if (c->decoding) {
		require(c, *w == HOLDFAST__V1__COMPRESSION__COMPRESSION_NONE || compression_flag((int)*w) != 0);
		*flag = compression_flag((int)*w);
	} else if (*flag == FRAME_LZ4) {
		*w = HOLDFAST__V1__COMPRESSION__COMPRESSION_LZ4;
	} else if (*flag == FRAME_ZSTD) {
		*w = HOLDFAST__V1__COMPRESSION__COMPRESSION_ZSTD;
	}
}

static void
require_versions(struct conversion *c, uint32_t min, uint32_t max)
{
	require(c, min >= 1 && min <= max);
}

/* ---- enrolment ---- */

static void
enroll_convert(struct conversion *c, Holdfast__V1__Enroll *w, struct message_enroll *m)
{
	convert_u32(c, &w->protocol_version, &m->protocol_version);
	convert_u32(c, &w->protocol_version_min, &m->protocol_version_min);
	require_versions(c, m->protocol_version_min, m->protocol_version);
	convert_bytes(c, &w->token_secret, m->token_secret, sizeof m->token_secret);
	convert_blob(c, &w->csr, &m->csr);
	convert_bytes(c, &w->installation_nonce, m->installation_nonce, sizeof m->installation_nonce);
	convert_hints(c, &w->hints, &m->hints);
}

static void
enrolled_convert(struct conversion *c, Holdfast__V1__Enrolled *w, struct message_enrolled *m)
{
	convert_id(c, "s", false, &w->source_id, &m->source_id);
	convert_blob(c, &w->certificate, &m->certificate);
	convert_blob(c, &w->ca_certificate, &m->ca_certificate);
	convert_u32(c, &w->data_port, &m->data_port);
	require(c, m->data_port >= 1 && m->data_port <= UINT16_MAX);
}

static void
renew_convert(struct conversion *c, Holdfast__V1__Renew *w, struct message_renew *m)
{
	convert_blob(c, &w->csr, &m->csr);
}

static void
renewed_convert(struct conversion *c, Holdfast__V1__Renewed *w, struct message_renewed *m)
{
	convert_blob(c, &w->certificate, &m->certificate);
	convert_blob(c, &w->ca_certificate, &m->ca_certificate);
	if (!c->decoding || w->next_ca_certificate.len > 0)
		convert_blob(c, &w->next_ca_certificate, &m->next_ca_certificate);
}

/* ---- session start ---- */

static void
hello_convert(struct conversion *c, Holdfast__V1__Hello *w, struct message_hello *m)
{
	convert_u32(c, &w->protocol_version, &m->protocol_version);
	convert_u32(c, &w->protocol_version_min, &m->protocol_version_min);
	require_versions(c, m->protocol_version_min, m->protocol_version);
	convert_enum(c, &w->role, &m->role, MESSAGE_ROLE_BULK);
	convert_u32(c, &w->stream_index, &m->stream_index);
	convert_bytes(c, &w->installation_nonce, m->installation_nonce, sizeof m->installation_nonce);
	convert_u64(c, &w->incarnation, &m->incarnation);
	require(c, m->incarnation >= 1);
	convert_hints(c, &w->hints, &m->hints);
	convert_offer(c, w, &m->compressions);
	convert_ns(c, &w->clock_ns, &m->clock_ns);
	convert_u64(c, &w->last_stream_id, &m->last_stream_id);
	convert_u64(c, &w->last_acked_sequence, &m->last_acked_sequence);
	convert_numbers(c, &w->n_earlier_stream_ids, &w->earlier_stream_ids, &m->earlier.count, m->earlier.ids,
	    EARLIER_STREAMS_MAX);
	convert_features(c, w, &m->features);
}

static void
welcome_convert(struct conversion *c, Holdfast__V1__Welcome *w, struct message_welcome *m)
{
	convert_u32(c, &w->protocol_version, &m->protocol_version);
	require(c, m->protocol_version >= 1);
	convert_id(c, "s", false, &w->source_id, &m->source_id);
	convert_u64(c, &w->session_id, &m->session_id);
	convert_u64(c, &w->digest_seed, &m->digest_seed);
	convert_u32(c, &w->heartbeat_interval_ms, &m->heartbeat_interval_ms);
	require(c, m->heartbeat_interval_ms >= 1);
	convert_choice(c, &w->compression, &m->compression);
	convert_u64(c, &w->stream_id, &m->stream_id);
	convert_u64(c, &w->durable_sequence, &m->durable_sequence);
	convert_u64(c, &w->chain, &m->chain);
	convert_ns(c, &w->clock_ns, &m->clock_ns);
	convert_u32(c, &w->volumes_max, &m->volumes_max);
	convert_text(c, &w->server_version, m->server_version);
}

static void
declared_volume_convert(struct conversion *c, Holdfast__V1__DeclaredVolume *w, struct message_declared_volume *m)
{
	convert_text(c, &w->name, m->name);
	convert_text(c, &w->identity, m->identity);
	convert_text(c, &w->device_name, m->device_name);
	convert_u64(c, &w->size_bytes, &m->size_bytes);
	convert_enum(c, &w->state, &m->state, VOLUME_REFUSED);
	convert_flag(c, &w->boot_disk, &m->boot_disk);
	require(c, m->name[0] != '\0' && m->size_bytes < SIZE_END);
	require(c, m->state != VOLUME_OK || (m->identity[0] != '\0' && m->size_bytes > 0));
}

/* Two volumes must not answer to one name, nor two that will be sent to one identity. */
static bool
volumes_distinct(const struct message_declared_volume *a, const struct message_declared_volume *b)
{
	if (strcmp(a->name, b->name) == 0)
		return false;
	return a->state != VOLUME_OK || b->state != VOLUME_OK || strcmp(a->identity, b->identity) != 0;
}

static void
new_disk_convert(struct conversion *c, Holdfast__V1__NewDisk *w, struct message_new_disk *m)
{
	convert_text(c, &w->device_name, m->device_name);
	convert_text(c, &w->identity, m->identity);
	convert_u64(c, &w->size_bytes, &m->size_bytes);
	require(c, m->size_bytes < SIZE_END);
}

static void
declare_convert(struct conversion *c, Holdfast__V1__Declare *w, struct message_declare *m)
{
	if (!convert_items(
		c, &holdfast__v1__declared_volume__descriptor, &w->n_volumes, &w->volumes, &m->count, VOLUMES_MAX))
		return;
	for (size_t i = 0; i < m->count; i++) {
		declared_volume_convert(c, w->volumes[i], &m->volumes[i]);
		for (size_t j = 0; j < i; j++)
			require(c, volumes_distinct(&m->volumes[i], &m->volumes[j]));
	}
	if (!convert_items(c, &holdfast__v1__new_disk__descriptor, &w->n_new_disks, &w->new_disks, &m->new_disk_count,
		NEW_DISKS_MAX))
		return;
	for (size_t i = 0; i < m->new_disk_count; i++)
		new_disk_convert(c, w->new_disks[i], &m->new_disks[i]);
}

static void
volume_answer_convert(struct conversion *c, Holdfast__V1__VolumeAnswer *w, struct message_volume_answer *m)
{
	convert_enum(c, &w->state, &m->state, VOLUME_REFUSED);
	convert_text(c, &w->identity, m->identity);
	convert_id(c, "vol", m->state != VOLUME_OK, &w->volume_id, &m->volume_id);
	convert_u32(c, &w->volume, &m->volume);
	convert_u64(c, &w->size_bytes, &m->size_bytes);
	convert_u64(c, &w->frontier_blocks, &m->frontier_blocks);
	require(c, m->size_bytes < SIZE_END && m->frontier_blocks <= BLOCKS_END);
	convert_status(c, &w->status, &m->status);
	convert_text(c, &w->text, m->text);
}

static void
volumes_convert(struct conversion *c, Holdfast__V1__Volumes *w, struct message_volumes *m)
{
	if (!convert_items(
		c, &holdfast__v1__volume_answer__descriptor, &w->n_volumes, &w->volumes, &m->count, VOLUMES_MAX))
		return;
	for (size_t i = 0; i < m->count; i++)
		volume_answer_convert(c, w->volumes[i], &m->volumes[i]);
}

static void
start_convert(struct conversion *c, Holdfast__V1__Start *w, struct message_start *m)
{
	convert_flag(c, &w->resume, &m->resume);
	convert_u64(c, &w->stream_id, &m->stream_id);
	require(c, m->stream_id != 0);
}

/* ---- the stream ---- */

static void
checkpoint_convert(struct conversion *c, Holdfast__V1__Checkpoint *w, struct message_checkpoint *m)
{
	convert_ns(c, &w->clock_ns, &m->clock_ns);
	convert_enum(c, &w->consistency, &m->consistency, CONSISTENCY_APPLICATION);
	convert_numbers(c, &w->n_request_ids, &w->request_ids, &m->request_id_count, m->request_ids, REQUEST_IDS_MAX);
	convert_u64(c, &w->pass, &m->pass);
	convert_u64(c, &w->bytes_read, &m->bytes_read);
	convert_u64(c, &w->bytes_differing, &m->bytes_differing);
	if (!convert_items(c, &holdfast__v1__compared_volume__descriptor, &w->n_compared, &w->compared,
		&m->compared_count, VOLUMES_MAX))
		return;
	for (size_t i = 0; i < m->compared_count; i++) {
		convert_u32(c, &w->compared[i]->volume, &m->compared[i].volume);
		convert_u64(c, &w->compared[i]->bytes_read, &m->compared[i].bytes_read);
		convert_u64(c, &w->compared[i]->bytes_differing, &m->compared[i].bytes_differing);
		convert_flag(c, &w->compared[i]->equal, &m->compared[i].equal);
	}
}

static void
ack_convert(struct conversion *c, Holdfast__V1__Ack *w, struct message_ack *m)
{
	convert_u64(c, &w->durable_sequence, &m->durable_sequence);
	convert_u64(c, &w->credit_bytes, &m->credit_bytes);
	convert_flag(c, &w->hold, &m->hold);
}

static void
heartbeat_convert(struct conversion *c, Holdfast__V1__Heartbeat *w, struct message_heartbeat *m)
{
	convert_ns(c, &w->clock_ns, &m->clock_ns);
	convert_ns(c, &w->echo_clock_ns, &m->echo_clock_ns);
	convert_ns(c, &w->echo_hold_ns, &m->echo_hold_ns);
	convert_u64(c, &w->backlog_bytes, &m->backlog_bytes);
	require(c, m->backlog_bytes < VOLUMES_MAX * SIZE_END);
	convert_ns(c, &w->unchanged_until_ns, &m->unchanged_until_ns);
	convert_u64(c, &w->source_wait_ns, &m->waits.source_ns);
	convert_u64(c, &w->tls_ns, &m->waits.tls_ns);
	convert_u64(c, &w->network_wait_ns, &m->waits.network_ns);
	convert_u64(c, &w->server_wait_ns, &m->waits.server_ns);
	convert_u32(c, (uint32_t *)&w->new_disks, (uint32_t *)&m->new_disks);
	require(c, (unsigned)m->new_disks <= NEW_DISKS_REPLICATE);
	if (!convert_items(c, &holdfast__v1__volume_backlog__descriptor, &w->n_volume_backlogs, &w->volume_backlogs,
		&m->backlog_count, VOLUMES_MAX))
		return;
	for (size_t i = 0; i < m->backlog_count; i++) {
		convert_u32(c, &w->volume_backlogs[i]->volume, &m->backlogs[i].volume);
		convert_u64(c, &w->volume_backlogs[i]->bytes, &m->backlogs[i].bytes);
		require(c, m->backlogs[i].bytes < SIZE_END);
	}
}

static void
checkpoint_request_convert(
    struct conversion *c, Holdfast__V1__CheckpointRequest *w, struct message_checkpoint_request *m)
{
	convert_u64(c, &w->request_id, &m->request_id);
	convert_flag(c, &w->compare, &m->compare);
}

/* ---- compare ---- */

static void
require_nodes(struct conversion *c, uint32_t level, uint64_t first, uint32_t count)
{
	require(c, level <= 3 && first < BLOCKS_END && count >= 1);
	if (c->decoding && count > COMPARE_COUNT_MAX)
		fail(c, -HF_ETOOBIG);
}

static void
compare_convert(struct conversion *c, Holdfast__V1__Compare *w, struct message_compare *m)
{
	convert_u64(c, &w->request_id, &m->request_id);
	convert_u32(c, &w->volume, &m->volume);
	convert_u32(c, &w->level, &m->level);
	convert_u64(c, &w->first, &m->first);
	convert_u32(c, &w->count, &m->count);
	require_nodes(c, m->level, m->first, m->count);
}

static void
compared_convert(struct conversion *c, Holdfast__V1__Compared *w, struct message_compared *m)
{
	convert_u64(c, &w->request_id, &m->request_id);
	convert_u32(c, &w->volume, &m->volume);
	convert_u32(c, &w->level, &m->level);
	convert_u64(c, &w->first, &m->first);
	convert_u32(c, &w->count, &m->count);
	require_nodes(c, m->level, m->first, m->count);
	convert_flag(c, &w->all_zero, &m->all_zero);
	convert_status(c, &w->status, &m->status);
}

static void
recent_convert(struct conversion *c, Holdfast__V1__Recent *w, struct message_recent *m)
{
	convert_u32(c, &w->volume, &m->volume);
}

static void
recent_answer_convert(struct conversion *c, Holdfast__V1__RecentAnswer *w, struct message_recent_answer *m)
{
	convert_u32(c, &w->volume, &m->volume);
	convert_numbers(c, &w->n_nodes, &w->nodes, &m->count, m->nodes, RECENT_MAX);
}

/* ---- healing ---- */

static void
fetch_convert(struct conversion *c, Holdfast__V1__Fetch *w, struct message_fetch *m)
{
	convert_u64(c, &w->request_id, &m->request_id);
	convert_u32(c, &w->volume, &m->volume);
	convert_u64(c, &w->block, &m->block);
	require(c, m->block < BLOCKS_END);
}

/* A block, or why there is none. */
static void
fetched_convert(struct conversion *c, Holdfast__V1__Fetched *w, struct message_fetched *m)
{
	convert_u64(c, &w->request_id, &m->request_id);
	convert_status(c, &w->status, &m->status);
	if (m->status == 0)
		convert_bytes(c, &w->data, m->block, sizeof m->block);
	else
		require(c, w->data.len == 0);
}

/* ---- reports, ends ---- */

static void
report_convert(struct conversion *c, Holdfast__V1__Report *w, struct message_report *m)
{
	convert_enum(c, &w->activity, &m->activity, ACTIVITY_IDLE);
	convert_u64(c, &w->pass, &m->pass);
	if (!convert_items(
		c, &holdfast__v1__volume_progress__descriptor, &w->n_volumes, &w->volumes, &m->count, VOLUMES_MAX))
		return;
	for (size_t i = 0; i < m->count; i++) {
		convert_u32(c, &w->volumes[i]->volume, &m->volumes[i].volume);
		convert_u64(c, &w->volumes[i]->done_bytes, &m->volumes[i].done_bytes);
		convert_u64(c, &w->volumes[i]->total_bytes, &m->volumes[i].total_bytes);
		require(c, m->volumes[i].done_bytes < SIZE_END && m->volumes[i].total_bytes < SIZE_END);
	}
}

static void
notice_convert(struct conversion *c, Holdfast__V1__Notice *w, struct message_notice *m)
{
	convert_text(c, &w->event, m->event);
	require(c, m->event[0] != '\0');
	convert_text(c, &w->text, m->text);
}

static void
goodbye_convert(struct conversion *c, Holdfast__V1__Goodbye *w, struct message_goodbye *m)
{
	convert_status(c, &w->status, &m->status);
	convert_text(c, &w->text, m->text);
	convert_text(c, &w->cure, m->cure);
	convert_u32(c, &w->server_version_min, &m->server_version_min);
	convert_u32(c, &w->server_version_max, &m->server_version_max);
}

/* ---- the public functions: two for each message, all alike ---- */

/* A buffer too small is the caller's mistake: the largest message is known. */
static size_t
pack(const ProtobufCMessage *w, unsigned char *buf, size_t size)
{
	size_t n = protobuf_c_message_get_packed_size(w);

	assert(n <= size);
	return protobuf_c_message_pack(w, buf);
}

/* Scan and unpack into the arena. NULL with *ret_status set if the bytes are not such a message. */
static void *
unpack(const ProtobufCMessageDescriptor *type, const unsigned char *bytes, size_t len, int *ret_status)
{
	ProtobufCAllocator allocator = {arena_alloc, arena_free, &thread_arena};
	void *w;

	*ret_status = len > FRAME_MESSAGE_MAX ? -HF_ETOOBIG : scan_message(type, bytes, len);
	if (*ret_status < 0)
		return NULL;
	thread_arena.used = 0;
	w = protobuf_c_message_unpack(type, &allocator, len, bytes);
	if (w == NULL)
		*ret_status = -HF_EPROTOCOL;
	return w;
}

/* snake_case, and the CamelCase protoc-c makes of it. */
#define CODEC_TABLE(X)                           \
	X(enroll, Enroll)                        \
	X(enrolled, Enrolled)                    \
	X(hello, Hello)                          \
	X(welcome, Welcome)                      \
	X(declare, Declare)                      \
	X(volumes, Volumes)                      \
	X(start, Start)                          \
	X(checkpoint, Checkpoint)                \
	X(ack, Ack)                              \
	X(heartbeat, Heartbeat)                  \
	X(checkpoint_request, CheckpointRequest) \
	X(compare, Compare)                      \
	X(compared, Compared)                    \
	X(recent, Recent)                        \
	X(recent_answer, RecentAnswer)           \
	X(renew, Renew)                          \
	X(renewed, Renewed)                      \
	X(report, Report)                        \
	X(notice, Notice)                        \
	X(goodbye, Goodbye)                      \
	X(fetch, Fetch)                          \
	X(fetched, Fetched)

/* Encoding only reads *m, but X_convert() goes both ways and so cannot say const. */
#define X(name, Type)                                                                                           \
	size_t message_##name##_encode(const struct message_##name *m, unsigned char *buf, size_t size)         \
	{                                                                                                       \
		struct conversion c = {.decoding = false};                                                      \
		Holdfast__V1__##Type w;                                                                         \
                                                                                                                \
		thread_arena.used = 0;                                                                          \
		holdfast__v1__##name##__init(&w);                                                               \
		name##_convert(&c, &w, (struct message_##name *)(uintptr_t)m);                                  \
		return pack(&w.base, buf, size);                                                                \
	}                                                                                                       \
                                                                                                                \
	int message_##name##_decode(const unsigned char *bytes, size_t len, struct message_##name *ret_message) \
	{                                                                                                       \
		struct conversion c = {.decoding = true};                                                       \
		struct message_##name m = {0};                                                                  \
		Holdfast__V1__##Type *w;                                                                        \
                                                                                                                \
		w = unpack(&holdfast__v1__##name##__descriptor, bytes, len, &c.status);                         \
		if (w != NULL)                                                                                  \
			name##_convert(&c, w, &m);                                                              \
		if (c.status == 0)                                                                              \
			*ret_message = m;                                                                       \
		return c.status;                                                                                \
	}
CODEC_TABLE(X)
#undef X

const char *
consistency_name(enum consistency c)
{
	switch (c) {
	case CONSISTENCY_FUZZY: return "fuzzy";
	case CONSISTENCY_CRASH: return "crash";
	case CONSISTENCY_FILESYSTEM: return "filesystem";
	case CONSISTENCY_APPLICATION: return "application";
	}
	return "unknown";
}

const char *
volume_state_text(enum volume_state state)
{
	switch (state) {
	case VOLUME_OK: break;
	case VOLUME_IDENTITY_MISSING: return "its disk was not found on the source";
	case VOLUME_IDENTITY_AMBIGUOUS: return "two disks of the source have its identity";
	case VOLUME_SHRUNK: return "its disk is smaller than it was";
	case VOLUME_UNREADABLE: return "its disk cannot be read";
	case VOLUME_REFUSED: return "refused";
	}
	return "";
}

const char *
volume_state_name(enum volume_state state)
{
	switch (state) {
	case VOLUME_OK: return "OK";
	case VOLUME_IDENTITY_MISSING: return "IDENTITY_MISSING";
	case VOLUME_IDENTITY_AMBIGUOUS: return "IDENTITY_AMBIGUOUS";
	case VOLUME_SHRUNK: return "SHRUNK";
	case VOLUME_UNREADABLE: return "UNREADABLE";
	case VOLUME_REFUSED: return "REFUSED";
	}
	return NULL;
}

const char *
activity_name(enum activity a)
{
	switch (a) {
	case ACTIVITY_FILL: return "FILL";
	case ACTIVITY_RESCAN: return "RESCAN";
	case ACTIVITY_PASS: return "PASS";
	case ACTIVITY_IDLE: return "IDLE";
	}
	return NULL;
}
