/* SPDX-License-Identifier: Apache-2.0 */
/* The owner of the source makes the view and looks up the volume; reader threads read, one step a request; the main
 * thread speaks to the caller. At most one thread has the export at any time, so it needs no lock:
 *
 *	main --open--> owner --job--> reader --> main --next--> reader --> main ... --close--> owner (view given back)
 * --> main (freed) */
#include "server/export.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/digest.h"
#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/server.h"
#include "server/source.h"
#include "server/source_impl.h"
#include "server/worker.h"

enum { EXPORT_BLOCKS = 256, EXPORT_BYTES = EXPORT_BLOCKS * BLOCK_BYTES, ROOT_BATCH = 8192 };

struct export
{
	struct mail mail;
	struct job job;
	struct server *server;
	struct worker *worker; /* owner of the source */
	struct id source, pit;
	char volume[PATH_BYTES]; /* as asked for */
	struct export_facts facts;
	struct view *view;
	uint64_t digest_seed;
	uint32_t number;        /* of the volume */
	uint64_t blocks, block; /* next to be told */
	unsigned char *buf;     /* EXPORT_BYTES */
	struct export_chunk chunk;
	int status; /* of opening */
	char text[SENTENCE_BYTES];
	bool busy, closed, salvage;
	export_opened *opened;
	export_each *each;
	void *arg;
};

static struct export *
export_from_mail(struct mail *mail)
{
	return (struct export *)((char *)mail - offsetof(struct export, mail));
}

static struct export *
export_from_job(struct job *job)
{
	return (struct export *)((char *)job - offsetof(struct export, job));
}

/* ---- the end ---- */

static void
on_released(struct mail *mail)
{
	struct export *e = export_from_mail(mail);
	struct server *sv = e->server;

	buffer_free(e->buf, EXPORT_BYTES);
	free(e);
	server_answered(sv);
}

static void
release_at_owner(struct mail *mail)
{
	struct export *e = export_from_mail(mail);

	/* The source is there: it waits for its views before it closes. */
	struct source *src = worker_find_source(e->worker, &e->source);

	source_export_ends(src);
	source_view_release(src, e->view);
	e->mail.deliver = on_released;
	mailbox_post(e->server->mailbox, &e->mail);
}

static void
release(struct export *e)
{
	if (e->view == NULL) {
		on_released(&e->mail);
		return;
	}
	e->mail.deliver = release_at_owner;
	mailbox_post(e->worker->mailbox, &e->mail);
}

void
export_close(struct export *e)
{
	assert(!e->closed);
	e->closed = true;
	if (!e->busy)
		release(e);
}

/* ---- opening ---- */

static void
say_opened(struct export *e)
{
	export_opened *opened = e->opened;
	int status = e->status;

	e->busy = false;
	if (status == 0) {
		opened(e->arg, 0, "", e, &e->facts);
		return;
	}
	opened(e->arg, status, e->text, NULL, NULL);
	release(e);
}

static void
on_open_failed(struct mail *mail)
{
	say_opened(export_from_mail(mail));
}

static void
fail_open(struct export *e, int status, const char *text)
{
	e->status = status;
	snprintf(e->text, sizeof e->text, "%s", text != NULL ? text : hf_status_text(status));
	e->mail.deliver = on_open_failed;
	mailbox_post(e->server->mailbox, &e->mail);
}

static void
on_open_read(struct job *job)
{
	say_opened(export_from_job(job));
}

/* The root over all level-3 digests: from stored digests, no data is read. */
static void
run_open_read(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct export *e = export_from_job(job);
	uint64_t nodes = (e->blocks + digest_level_blocks(3) - 1) / digest_level_blocks(3);
	uint64_t *digests = calloc(nodes + 1, sizeof *digests);
	int r = digests != NULL ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < nodes && r == 0; i += ROOT_BATCH)
		r = view_digests(
		    e->view, d, cache, e->number, 3, i, nodes - i < ROOT_BATCH ? nodes - i : ROOT_BATCH, digests + i);
	if (r == 0)
		e->facts.root_digest = digest_node(e->digest_seed, digests, nodes);
	free(digests);
	e->status = e->salvage ? 0 : r;
	if (e->status < 0)
		snprintf(e->text, sizeof e->text, "digests of %s at %s cannot be read: %s", e->volume, e->pit.text,
		    hf_status_text(r));
}

/* By id or name, among the volumes of the point: a disk that was replaced since had the same name, perhaps, and lives
 * on in it. */
static const struct store_volume *
find_volume(const struct export *e, struct source *src)
{
	struct store_volume *list = src->worker->volume_scratch;
	size_t n = store_list_all_volumes(src->store, list, STORE_VOLUMES_MAX);

	for (size_t i = 0; i < n; i++)
		if ((strcmp(list[i].id.text, e->volume) == 0 || strcmp(list[i].name, e->volume) == 0) &&
		    view_find_volume(e->view, list[i].volume) != NULL)
			return &list[i];
	return NULL;
}

static int
open_view(struct export *e, struct source *src)
{
	const struct store_volume *v;
	const struct view_volume *at;
	int r = source_view(src, e->facts.pit.lsn, &e->view);

	if (r < 0)
		return r;
	source_export_begins(src);
	v = find_volume(e, src);
	if (v == NULL)
		return -HF_EVOLUME; /* unknown, or not there at that point */
	e->digest_seed = store_digest_seed(src->store);
	e->number = v->volume;
	e->facts.volume = v->id;
	at = view_find_volume(e->view, e->number);
	e->facts.size_bytes = at->size_bytes;
	e->blocks = (at->size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
	return e->block <= e->blocks ? 0 : -EINVAL;
}

static void
open_at_owner(struct mail *mail)
{
	struct export *e = export_from_mail(mail);
	struct source *src = worker_find_source(e->worker, &e->source);
	const char *text = NULL;
	int r;

	if (src != NULL && source_wait_open(src, mail))
		return;
	r = src == NULL ? -ENOENT : source_status(src, &text);
	if (r == 0)
		r = store_find_pit(src->store, &e->pit, &e->facts.pit);
	if (r == 0)
		r = open_view(e, src);
	if (r < 0) {
		fail_open(e, r, text);
		return;
	}
	e->job.run = run_open_read;
	e->job.done = on_open_read;
	e->job.home = e->server->mailbox;
	jobs_post(e->server->readers, &e->job);
}

void
export_open(struct server *sv, const struct id *source, const struct id *pit, const char *volume, uint64_t from,
    bool salvage, export_opened *opened, void *arg)
{
	struct export *e = calloc(1, sizeof *e);

	if (e == NULL)
		abort(); /* as for every command */
	e->server = sv;
	e->source = *source;
	e->pit = *pit;
	snprintf(e->volume, sizeof e->volume, "%s", volume);
	e->block = from / BLOCK_BYTES;
	e->salvage = salvage;
	e->facts.source = *source;
	e->opened = opened;
	e->arg = arg;
	e->busy = true;
	e->worker = server_owner(sv, source);
	e->buf = buffer_alloc(EXPORT_BYTES);
	sv->answers_out++;
	if (sv->draining || e->buf == NULL || from % BLOCK_BYTES != 0) {
		fail_open(e,
		    sv->draining     ? -HF_ESHUTDOWN
		    : e->buf == NULL ? -ENOMEM
				     : -EINVAL,
		    from % BLOCK_BYTES != 0 ? "the offset to begin at must be a multiple of 4096" : NULL);
		return;
	}
	e->mail.deliver = open_at_owner;
	mailbox_post(e->worker->mailbox, &e->mail);
}

/* ---- reading ---- */

static uint64_t
bytes_until(const struct export *e, uint64_t block)
{
	uint64_t bytes = block * BLOCK_BYTES;

	return bytes < e->facts.size_bytes ? bytes : e->facts.size_bytes;
}

static void
tell_range(struct export *e, int kind, uint64_t next)
{
	e->chunk.kind = kind;
	e->chunk.offset = bytes_until(e, e->block);
	e->chunk.length = bytes_until(e, next) - e->chunk.offset;
	e->chunk.data = kind == EXPORT_DATA ? e->buf : NULL;
	e->block = next;
}

static void
tell_error(struct export *e, int status, uint64_t block)
{
	e->chunk.kind = EXPORT_ERROR;
	e->chunk.status = status;
	e->chunk.offset = bytes_until(e, block);
	snprintf(e->chunk.text, sizeof e->chunk.text, "volume %s, offset %" PRIu64 ", point %s: %s",
	    e->facts.volume.text, block * BLOCK_BYTES, e->pit.text, hf_status_text(status));
	source_suspect(e->server, &e->source, e->number, block);
	if (status == -HF_EDIGEST || status == -HF_ECORRUPT)
		server_event(e->server, &e->source, "integrity_error", "%s", e->chunk.text);
}

static bool
is_zero(const unsigned char *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* Up to the next boundary of 1 MiB: what can be read, or what cannot. */
static void
salvage_data(struct export *e, struct disk *d, struct run_cache *cache, uint64_t next)
{
	uint32_t count = 0;
	int r = view_salvage(e->view, d, cache, e->number, e->block, (uint32_t)(next - e->block), e->buf, &count);

	if (r < 0)
		source_suspect(e->server, &e->source, e->number, e->block);
	tell_range(e, r < 0 ? EXPORT_BAD : EXPORT_DATA, e->block + count);
}

/* Data up to the next boundary of 1 MiB. */
static void
read_data(struct export *e, struct disk *d, struct run_cache *cache)
{
	uint64_t next = (e->block / EXPORT_BLOCKS + 1) * EXPORT_BLOCKS;
	struct view_fault fault = {.block = e->block};
	int r;

	if (next > e->blocks)
		next = e->blocks;
	if (e->salvage) {
		salvage_data(e, d, cache, next);
		return;
	}
	r = view_read(e->view, d, cache, e->number, e->block, (uint32_t)(next - e->block), e->buf, &fault);
	if (r < 0)
		tell_error(e, r, fault.block);
	else
		tell_range(e, is_zero(e->buf, (next - e->block) * BLOCK_BYTES) ? EXPORT_HOLE : EXPORT_DATA, next);
}

static void
run_next_chunk(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct export *e = export_from_job(job);
	uint64_t data;
	int r;

	memset(&e->chunk, 0, sizeof e->chunk);
	if (e->block >= e->blocks) {
		e->chunk.kind = EXPORT_END;
		e->chunk.offset = e->chunk.length = e->facts.size_bytes;
		return;
	}
	r = view_next_data(e->view, d, cache, e->number, e->block, &data);
	if (r < 0 && e->salvage)
		read_data(e, d, cache); /* the index is damaged: it is told block by block what is there */
	else if (r < 0)
		tell_error(e, r, e->block);
	else if (data > e->block)
		tell_range(e, EXPORT_HOLE, data < e->blocks ? data : e->blocks);
	else
		read_data(e, d, cache);
}

static void
on_chunk(struct job *job)
{
	struct export *e = export_from_job(job);

	e->busy = false;
	if (e->closed)
		release(e);
	else
		e->each(e->arg, &e->chunk); /* last: it may close the export */
}

void
export_next(struct export *e, export_each *each, void *arg)
{
	assert(!e->busy && !e->closed);
	e->busy = true;
	e->each = each;
	e->arg = arg;
	e->job.run = run_next_chunk;
	e->job.done = on_chunk;
	e->job.home = e->server->mailbox;
	jobs_post(e->server->readers, &e->job);
}
