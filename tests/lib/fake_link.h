/* SPDX-License-Identifier: Apache-2.0 */
/* fake_link.h: link.h without a network: a model of the server that checks what it is told as the real one would.
 *
 * Included by exactly one .c of a test program, whose symbols then stand in for link.c's. It keeps every
 * volume's digests, and its bytes in a sparse file. Nothing sent is durable before a flush or a checkpoint, and a
 * compare of a region with something not yet durable fails the test: the protocol forbids it. */
#ifndef HF_TESTS_FAKE_LINK_H
#define HF_TESTS_FAKE_LINK_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/link.h"
#include "proto/common/digest.h"
#include "proto/common/status.h"

enum {
	FAKE_VOLUMES = 8,
	FAKE_CHUNK_BLOCKS = 65536, /* a level-3 node */
	FAKE_PENDING = 65536,
	FAKE_LOG = 4096,
};

struct fake_volume {
	char identity[NAME_BYTES];
	uint64_t size_bytes, frontier;
	uint64_t **chunks; /* digests, by chunk */
	int fd;            /* the bytes */
	char path[64];
	uint64_t backlog_bytes;
};

struct link {
	uint64_t seed;
	struct fake_volume volumes[FAKE_VOLUMES];
	size_t volume_count;
	struct message_declare declared;
	unsigned declares, restarts;
	bool waits_for_source;

	struct extent pending[FAKE_PENDING]; /* sent, not durable */
	size_t pending_count;
	struct {
		uint64_t digests[COMPARE_COUNT_MAX];
		struct message_compare request;
	} compares[16];
	size_t compare_first, compare_count;

	/* what happened */
	struct message_checkpoint checkpoints[FAKE_LOG];
	size_t checkpoint_count;
	struct message_compare asked[FAKE_LOG]; /* the first so many */
	size_t asked_count;
	char notices[FAKE_LOG][NAME_BYTES];
	size_t notice_count;
	uint64_t payload_blocks, fill_blocks, zero_extents, frames;
	int64_t unchanged_until_ns;

	/* what the test does to us */
	struct message_recent_answer recent;
	uint64_t requests[REQUEST_IDS_MAX];
	bool compare_requested;
	size_t request_count;
	uint64_t lose_after_frames; /* then calls say -HF_ESTREAM; 0 = never */
	bool is_lost;
	bool is_frozen; /* the test says so: nothing may be sent now */
	int refuse_status;
	atomic_bool stopped;
	void (*on_checkpoint)(struct link *l, const struct message_checkpoint *m);
	void (*on_flush)(struct link *l);
	void *arg;
};

static inline struct link *
fake_create(const char *directory)
{
	struct link *l = calloc(1, sizeof *l);

	assert_non_null(l);
	l->seed = 0x1234567890abcdefull;
	for (size_t i = 0; i < FAKE_VOLUMES; i++) {
		snprintf(l->volumes[i].path, sizeof l->volumes[i].path, "%s/replica-%zu", directory, i);
		l->volumes[i].fd = -1;
	}
	return l;
}

static inline void
fake_destroy(struct link *l)
{
	for (size_t i = 0; i < l->volume_count; i++) {
		struct fake_volume *v = &l->volumes[i];

		for (uint64_t c = 0; c < (v->size_bytes >> 28) + 1; c++)
			free(v->chunks[c]);
		free(v->chunks);
		close(v->fd);
		unlink(v->path);
	}
	free(l);
}

/* The agent is started anew: what it sent and did not flush is gone; the server stays. */
static inline void
fake_forget_agent(struct link *l)
{
	l->pending_count = l->compare_count = 0;
	l->checkpoint_count = l->asked_count = l->notice_count = 0;
	l->payload_blocks = l->fill_blocks = l->zero_extents = l->frames = 0;
	l->is_lost = false;
	atomic_store(&l->stopped, false);
}

static inline bool
fake_has_notice(const struct link *l, const char *event)
{
	for (size_t i = 0; i < l->notice_count; i++)
		if (strcmp(l->notices[i], event) == 0)
			return true;
	return false;
}

/* ---- content ---- */

static inline uint64_t
fake_blocks(const struct fake_volume *v)
{
	return (v->size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
}

static inline uint64_t
fake_digest(const struct fake_volume *v, uint64_t block)
{
	const uint64_t *chunk = v->chunks[block / FAKE_CHUNK_BLOCKS];

	return chunk != NULL && block < fake_blocks(v) ? chunk[block % FAKE_CHUNK_BLOCKS] : 0;
}

static inline uint64_t
fake_node(const struct link *l, const struct fake_volume *v, int level, uint64_t index)
{
	uint64_t children[256];
	size_t n = level == 3 ? 256 : 16;

	if (level == 0)
		return fake_digest(v, index);
	if ((index * digest_level_blocks(level)) / FAKE_CHUNK_BLOCKS > v->size_bytes >> 28 ||
	    v->chunks[index * digest_level_blocks(level) / FAKE_CHUNK_BLOCKS] == NULL)
		return 0;
	for (size_t i = 0; i < n; i++)
		children[i] = fake_node(l, v, level - 1, index * n + i);
	return digest_node(l->seed, children, n);
}

static inline void
fake_set(struct fake_volume *v, uint64_t block, uint64_t digest)
{
	uint64_t **chunk = &v->chunks[block / FAKE_CHUNK_BLOCKS];

	if (*chunk == NULL && digest != 0)
		*chunk = calloc(FAKE_CHUNK_BLOCKS, sizeof **chunk);
	if (*chunk != NULL)
		(*chunk)[block % FAKE_CHUNK_BLOCKS] = digest;
}

static inline void
fake_clear(struct fake_volume *v, uint64_t block, uint64_t count)
{
	for (uint64_t b = block; b < block + count; b++) {
		if (v->chunks[b / FAKE_CHUNK_BLOCKS] == NULL)
			b = (b / FAKE_CHUNK_BLOCKS + 1) * FAKE_CHUNK_BLOCKS - 1;
		else
			fake_set(v, b, 0);
	}
	assert_int_equal(fallocate(v->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(block * BLOCK_BYTES),
			     (off_t)(count * BLOCK_BYTES)),
	    0);
}

/* ---- link.h ---- */

static inline int
fake_trouble(struct link *l)
{
	if (atomic_load(&l->stopped))
		return -ECANCELED;
	return l->is_lost ? -HF_ESTREAM : 0;
}

static inline void
fake_resize(struct fake_volume *v, uint64_t size_bytes)
{
	size_t before = v->chunks != NULL ? (size_t)(v->size_bytes >> 28) + 1 : 0,
	       after = (size_t)(size_bytes >> 28) + 1;

	assert_true(size_bytes >= v->size_bytes);
	v->chunks = realloc(v->chunks, after * sizeof *v->chunks);
	assert_non_null(v->chunks);
	memset(v->chunks + before, 0, (after - before) * sizeof *v->chunks);
	v->size_bytes = size_bytes;
	if (v->fd < 0)
		v->fd = open(v->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(v->fd >= 0);
	assert_int_equal(ftruncate(v->fd, (off_t)size_bytes), 0);
}

int
link_declare(
    struct link *l, const struct message_declare *volumes, struct message_volumes *ret_volumes, struct hf_error *err)
{
	if (atomic_load(&l->stopped))
		return -ECANCELED;
	l->declared = *volumes;
	l->declares++;
	memset(ret_volumes, 0, sizeof *ret_volumes);
	ret_volumes->count = volumes->count;
	l->volume_count = volumes->count;
	for (size_t i = 0; i < volumes->count; i++) {
		const struct message_declared_volume *d = &volumes->volumes[i];
		struct message_volume_answer *a = &ret_volumes->volumes[i];
		struct fake_volume *v = &l->volumes[i];

		if (v->identity[0] == '\0')
			snprintf(v->identity, sizeof v->identity, "%s", d->identity);
		assert_string_equal(v->identity, d->identity);
		if (d->size_bytes > v->size_bytes || v->fd < 0)
			fake_resize(v, d->size_bytes);
		snprintf(a->identity, sizeof a->identity, "%s", d->identity);
		a->volume = (uint32_t)i + 10;
		a->size_bytes = v->size_bytes;
		a->frontier_blocks = v->frontier;
		a->state = d->state;
	}
	return 0;
}

int
link_restart(struct link *l)
{
	l->restarts++;
	l->is_lost = false;
	l->pending_count = 0;
	l->compare_count = 0;
	return 0;
}

uint64_t
link_digest_seed(struct link *l)
{
	return l->seed;
}

static inline struct fake_volume *
fake_volume(struct link *l, uint32_t number)
{
	assert_in_range(number, 10, 10 + l->volume_count - 1);
	assert_int_equal(l->declared.volumes[number - 10].state, VOLUME_OK);
	return &l->volumes[number - 10];
}

static inline void
fake_apply(struct link *l, const struct extent *e, const uint64_t *digests, const unsigned char *blocks)
{
	struct fake_volume *v = fake_volume(l, e->volume);

	assert_true(e->block + e->count <= fake_blocks(v));
	if (e->kind == EXTENT_FILL || e->kind == EXTENT_FILL_ZERO) {
		assert_int_equal(e->block, v->frontier);
		v->frontier += e->count;
	} else {
		assert_true(e->block + e->count <= v->frontier);
	}
	assert_true(l->pending_count < FAKE_PENDING);
	l->pending[l->pending_count++] = *e;
	if (e->kind == EXTENT_ZERO || e->kind == EXTENT_FILL_ZERO) {
		l->zero_extents++;
		fake_clear(v, e->block, e->count);
		return;
	}
	for (uint64_t i = 0; i < e->count; i++) {
		const unsigned char *block = blocks + i * BLOCK_BYTES;
		uint64_t at = e->block + i;
		size_t len = (at + 1) * BLOCK_BYTES <= v->size_bytes ? BLOCK_BYTES : v->size_bytes % BLOCK_BYTES;

		assert_int_equal(digests[i], digest_block(l->seed, block));
		fake_set(v, at, digests[i]);
		assert_int_equal(pwrite(v->fd, block, len, (off_t)(at * BLOCK_BYTES)), len);
		for (size_t b = len; b < BLOCK_BYTES; b++)
			assert_int_equal(block[b], 0);
	}
	l->payload_blocks += e->count;
	if (e->kind == EXTENT_FILL)
		l->fill_blocks += e->count;
}

int
link_send_data(struct link *l, const struct data_message *m, const void *blocks)
{
	static unsigned char bytes[FRAME_MESSAGE_MAX];
	static struct data_message decoded;
	struct frame_header h = {.type = FRAME_DATA, .sequence = 1};
	int r = fake_trouble(l);
	size_t at = 0;

	if (r < 0)
		return r;
	assert_false(l->is_frozen);
	h.message_bytes = (uint32_t)data_message_bytes(m);
	h.payload_bytes = (uint32_t)(m->digest_count * BLOCK_BYTES);
	data_message_encode(m, bytes);
	assert_int_equal(data_message_decode(&h, bytes, h.message_bytes, &decoded), 0);
	assert_int_equal(decoded.fill, m->fill);
	for (size_t i = 0; i < decoded.extent_count; i++) {
		const struct extent *e = &decoded.extents[i];

		fake_apply(l, e, decoded.digests + at, (const unsigned char *)blocks + at * BLOCK_BYTES);
		if (e->kind == EXTENT_DATA || e->kind == EXTENT_FILL)
			at += e->count;
	}
	l->frames++;
	if (l->lose_after_frames != 0 && l->frames >= l->lose_after_frames) {
		l->lose_after_frames = 0;
		l->is_lost = true;
	}
	return 0;
}

int
link_flush(struct link *l)
{
	int r = fake_trouble(l);

	if (r == 0)
		l->pending_count = 0;
	if (l->on_flush != NULL)
		l->on_flush(l);
	return r;
}

int
link_checkpoint(struct link *l, const struct message_checkpoint *m)
{
	int r = link_flush(l);

	if (r < 0)
		return r;
	assert_false(l->is_frozen);
	assert_true(l->checkpoint_count < FAKE_LOG);
	for (size_t i = 0; i < l->declared.count; i++)
		assert_int_equal(l->declared.volumes[i].state, VOLUME_OK);
	l->checkpoints[l->checkpoint_count++] = *m;
	if (l->on_checkpoint != NULL)
		l->on_checkpoint(l, m);
	return 0;
}

int
link_compare_begin(struct link *l, const struct message_compare *q)
{
	uint64_t first = q->first * digest_level_blocks((int)q->level),
		 end = (q->first + q->count) * digest_level_blocks((int)q->level);
	size_t slot = (l->compare_first + l->compare_count) % 16;
	struct fake_volume *v;
	int r = fake_trouble(l);

	if (r < 0)
		return r;
	v = fake_volume(l, q->volume);
	assert_in_range(q->count, 1, COMPARE_COUNT_MAX);
	assert_in_range(l->compare_count, 0, 15); /* the real one would wait for ever */
	assert_true(first < fake_blocks(v));
	for (size_t i = 0; i < l->pending_count; i++) {
		const struct extent *e = &l->pending[i];

		assert_true(e->volume != q->volume || e->block >= end || e->block + e->count <= first);
	}
	for (uint32_t i = 0; i < q->count; i++)
		l->compares[slot].digests[i] = fake_node(l, v, (int)q->level, q->first + i);
	l->compares[slot].request = *q;
	l->compare_count++;
	if (l->asked_count < FAKE_LOG)
		l->asked[l->asked_count++] = *q;
	return 0;
}

int
link_compare_end(struct link *l, uint64_t *ret_digests, size_t count)
{
	int r = fake_trouble(l);

	if (r < 0)
		return r;
	assert_true(l->compare_count > 0);
	assert_int_equal(l->compares[l->compare_first].request.count, count);
	memcpy(ret_digests, l->compares[l->compare_first].digests, count * sizeof *ret_digests);
	l->compare_first = (l->compare_first + 1) % 16;
	l->compare_count--;
	r = l->refuse_status;
	l->refuse_status = 0;
	return r;
}

int
link_recent(struct link *l, uint32_t volume, struct message_recent_answer *ret_answer)
{
	*ret_answer = l->recent;
	ret_answer->volume = volume;
	return fake_trouble(l);
}

size_t
link_take_requests(struct link *l, uint64_t *ret_ids, size_t max, bool *ret_compare)
{
	size_t n = l->request_count < max ? l->request_count : max;

	*ret_compare = l->compare_requested;
	l->compare_requested = false;

	memcpy(ret_ids, l->requests, n * sizeof *ret_ids);
	l->request_count = 0;
	return n;
}

void
link_wait(struct link *l, int64_t timeout_ns)
{
	usleep(1000);
}

void
link_begin_source_wait(struct link *l)
{
	assert_false(l->waits_for_source);
	l->waits_for_source = true;
}

void
link_end_source_wait(struct link *l)
{
	assert_true(l->waits_for_source);
	l->waits_for_source = false;
}

void
link_set_backlog(struct link *l, uint32_t volume, uint64_t bytes)
{
	fake_volume(l, volume)->backlog_bytes = bytes;
}

void
link_clear_backlog(struct link *l)
{
	for (size_t i = 0; i < l->volume_count; i++)
		l->volumes[i].backlog_bytes = 0;
}

void
link_set_unchanged_until(struct link *l, int64_t clock_ns)
{
	l->unchanged_until_ns = clock_ns;
}

void
link_report(struct link *l, const struct message_report *report)
{
	assert_in_range(report->activity, ACTIVITY_FILL, ACTIVITY_IDLE);
	for (size_t i = 0; i < report->count; i++)
		assert_true(report->volumes[i].done_bytes <= report->volumes[i].total_bytes);
}

void
link_notice(struct link *l, const char *event, const char *format, ...)
{
	char text[SENTENCE_BYTES];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	print_message("notice %s: %s\n", event, text);
	if (l->notice_count < FAKE_LOG)
		snprintf(l->notices[l->notice_count++], NAME_BYTES, "%s", event);
}

void
link_stop(struct link *l)
{
	atomic_store(&l->stopped, true);
}

#endif
