/* SPDX-License-Identifier: Apache-2.0 */
/* Compares: the agent asks for digests of what is durable, a reader thread gets them from a view, and the answers go
 * back in the order of the questions.
 *
 * One question of a source is out at a time: that keeps the order, lets one view serve them all (a view has one
 * reader), and leaves the second reader thread to others. The view is kept until something newer is durable, and for
 * some seconds after the last question. While the agent does not take its answers, no more are made. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "proto/common/digest.h"
#include "proto/common/status.h"
#include "server/session_impl.h"
#include "server/source_impl.h"

void
source_drop_compare_view(struct source *src)
{
	struct view *v = src->compare_view;

	if (v == NULL || src->compare_running)
		return;
	src->compare_view = NULL;
	source_view_release(src, v);
}

void
source_drop_compares(struct source *src)
{
	while (src->compares != NULL) {
		struct compare *c = src->compares;

		LL_DELETE(src->compares, c);
		free(c);
	}
	source_drop_compare_view(src); /* one that is out drops it when it comes back */
}

int
source_compare(struct source *src, const struct message_compare *m)
{
	struct compare *c = calloc(1, sizeof *c + m->count * sizeof c->digests[0]);

	if (c == NULL)
		return -ENOMEM;
	c->source = src;
	c->session_number = src->session->number;
	c->question = *m;
	LL_APPEND(src->compares, c); /* at most COMPARES_MAX: walking to the end is cheap */
	source_touch(src);
	return 0;
}

/* ---- on a reader ---- */

static uint64_t
level_nodes(const struct view_volume *v, int level)
{
	uint64_t blocks = (v->size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
	uint64_t under = digest_level_blocks(level);

	return (blocks + under - 1) / under;
}

/* The first block under nodes [first, first + count) of the question whose digests cannot be read. */
static uint64_t
find_unreadable(struct compare *c, struct disk *d, struct run_cache *cache, uint64_t first, uint64_t count)
{
	const struct message_compare *q = &c->question;
	uint64_t digest;

	for (int level = (int)q->level;; level--) {
		while (count > 1 && view_digests(c->view, d, cache, q->volume, level, first, 1, &digest) == 0) {
			first++;
			count--;
		}
		if (level == 0)
			return first;
		count = digest_level_blocks(level) / digest_level_blocks(level - 1);
		first *= count;
	}
}

/* Nodes beyond the volume's end are zeros, as digests[] is already. */
static void
run_compare(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct compare *c = (struct compare *)job;
	const struct message_compare *q = &c->question;
	const struct view_volume *v = view_find_volume(c->view, q->volume);
	uint64_t nodes, count = q->count;

	if (v == NULL) {
		c->status = -HF_EVOLUME;
		return;
	}
	nodes = level_nodes(v, (int)q->level);
	if (q->first >= nodes)
		return;
	if (count > nodes - q->first)
		count = nodes - q->first;
	c->status = view_digests(c->view, d, cache, q->volume, (int)q->level, q->first, count, c->digests);
	if (c->status < 0)
		c->unreadable = find_unreadable(c, d, cache, q->first, count);
	if (c->status == -EIO) /* a bad sector, or all of it? */
		c->disk_failed = disk_sync_now(d, v->sum->file) < 0;
}

/* ---- on the owner ---- */

/* The agent asks again and again, and some of its questions are answered: told is what is new since it came through. */
static void
note_failed(struct source *src, uint32_t volume, int status)
{
	if (status == -HF_EVOLUME || (volume == src->compare_failed.volume && status == src->compare_failed.status))
		return;
	src->compare_failed.volume = volume;
	src->compare_failed.status = status;
	server_event(src->server, &src->id, "compare_failed", "digests of volume %u cannot be read: %s", volume,
	    hf_status_text(status));
}

static void
on_compared(struct job *job)
{
	struct compare *c = (struct compare *)job;
	struct source *src = c->source;
	struct session *s = src->session;

	src->compare_running = false;
	src->jobs_out--;
	src->compare_used_ns = src->disk_answered_ns = src->worker->now_ns;
	if (c->status < 0)
		note_failed(src, c->question.volume, c->status);
	if (c->status == -EIO || c->status == -HF_ECORRUPT)
		store_suspect(src->store, c->question.volume, c->unreadable);
	if (c->disk_failed) /* no write may ever tell: the agent asks before it sends */
		source_fail(src, c->status, "the staging area can be neither read nor synced");
	if (s != NULL && s->number == c->session_number)
		session_send_compared(s, &c->question, c->status, c->digests);
	else
		source_drop_compare_view(src); /* who asked is gone */
	free(c);
	source_touch(src);
}

/* A view of what is durable now: the one there is, unless something came since. */
static int
fresh_view(struct source *src)
{
	struct store_stats stats;
	int r;

	store_get_stats(src->store, &stats);
	if (src->compare_view != NULL && src->compare_view_lsn == stats.lsn_durable)
		return 0;
	source_drop_compare_view(src);
	r = source_view(src, UINT64_MAX, &src->compare_view);
	if (r == 0)
		src->compare_view_lsn = stats.lsn_durable;
	return r;
}

static bool
output_is_full(const struct session *s)
{
	return tls_output_bytes(s->tls) > OUTPUT_HIGH_BYTES;
}

void
source_pump_compares(struct source *src)
{
	struct compare *c = src->compares;
	int r;

	if (c == NULL || src->compare_running || src->session == NULL || output_is_full(src->session))
		return;
	r = fresh_view(src);
	if (r == -EAGAIN)
		return; /* too many views: at the next tick */
	LL_DELETE(src->compares, c);
	c->status = r;
	c->view = src->compare_view;
	c->job.run = run_compare;
	c->job.done = on_compared;
	c->job.home = src->worker->mailbox;
	src->compare_running = true;
	src->jobs_out++;
	if (r == 0)
		jobs_post(src->server->readers, &c->job);
	else
		on_compared(&c->job);
}

void
source_output_drained(struct source *src)
{
	if (src->compares != NULL)
		source_touch(src);
}
