/* SPDX-License-Identifier: Apache-2.0 */
/* `holdfastctl verify`: is what is staged what is on the source's disks?
 *
 * The agent is asked for a checkpoint with a pass that reads every block from the disks and compares it by digest tree.
 * The checkpoint says of every volume how much differed (that was sent, as ever) and whether the pass proves that the
 * disk was, at the checkpoint's moment, block for block what is here after it. When the checkpoint is durable, that
 * moment is kept in the catalog for those volumes. Are there volumes left, another pass is asked for, PASSES_MAX of
 * them at most: one that changes in every pass is never proved equal, unless it is frozen (agent/frozen.c).
 *
 * It survives a session: the next one is asked again. It does not survive the server. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "server/session.h"
#include "server/session_impl.h"
#include "server/source_impl.h"

enum { PASSES_MAX = 5 };

static bool
is_running(const struct source *src)
{
	return src->proof != NULL && src->proof->state == PROOF_RUNNING;
}

static bool
is_streaming(const struct source *src)
{
	return src->session != NULL && src->session->state == SESSION_STREAMING;
}

/* ---- its end ---- */

static void
end(struct source *src, enum proof_state state, const char *text)
{
	src->proof->state = state;
	src->proof->ended_ns = clock_real_ns();
	src->proof->request_id = 0;
	snprintf(src->proof->text, sizeof src->proof->text, "%s", text);
	server_event(src->server, &src->id, state == PROOF_EQUAL ? "verified_equal" : "not_verified_equal", "%s", text);
	src->dirty = true;
}

void
source_end_proof(struct source *src, const char *text)
{
	if (is_running(src))
		end(src, PROOF_FAILED, text);
}

/* "root, data"; cut where it does not fit. */
static void
list_names(const struct proof *p, bool equal, char *ret_text, size_t size)
{
	size_t len = 0;

	ret_text[0] = '\0';
	for (size_t i = 0; i < p->volume_count && len < size; i++)
		if (p->volumes[i].equal == equal)
			len += (size_t)snprintf(
			    ret_text + len, size - len, "%s%s", len == 0 ? "" : ", ", p->volumes[i].name);
}

static size_t
count_unequal(const struct proof *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->volume_count; i++)
		n += !p->volumes[i].equal;
	return n;
}

static uint64_t
sum_differing(const struct proof *p)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < p->volume_count; i++)
		bytes += p->volumes[i].differing_bytes;
	return bytes;
}

static void
conclude(struct source *src)
{
	struct proof *p = src->proof;
	bool all = count_unequal(p) == 0;
	char names[256], text[SENTENCE_BYTES], differed[UNITS_TEXT_BYTES];

	list_names(p, all, names, sizeof names);
	snprintf(text, sizeof text,
	    all ? "proved equal to the source: %s; %s had differed and were sent"
		: "changed in every pass and could not be proved equal: %s; %s had differed at first and were "
		  "sent; --freeze would let it stand still",
	    names, size_format(sum_differing(p), differed));
	end(src, all ? PROOF_EQUAL : PROOF_CHANGING, text);
}

/* ---- a pass ---- */

void
source_ask_proof(struct source *src)
{
	if (!is_running(src))
		return;
	src->proof->received_ns = 0; /* the checkpoint may have been lost with its session */
	if (src->proof->request_id == 0)
		src->proof->request_id = ++src->next_request_id;
	session_send_checkpoint_request(src->session, src->proof->request_id, true);
}

void
source_note_compared(struct source *src, const struct message_checkpoint *m, int64_t received_ns)
{
	for (size_t i = 0; is_running(src) && i < m->request_id_count; i++) {
		if (m->request_ids[i] != src->proof->request_id || m->request_ids[i] == 0)
			continue;
		src->proof->received_ns = received_ns;
		src->proof->compared_count = m->compared_count;
		memcpy(src->proof->compared, m->compared, sizeof src->proof->compared);
	}
}

static const struct message_compared_volume *
find_compared(const struct proof *p, uint32_t volume)
{
	for (size_t i = 0; i < p->compared_count; i++)
		if (p->compared[i].volume == volume)
			return &p->compared[i];
	return NULL;
}

/* What the pass says of the volumes asked for. Numbers of those now proved into ret_volumes. -HF_EVOLUME: of one it
 * says nothing. */
static int
take_compared(struct proof *p, uint32_t *ret_volumes, size_t *ret_count)
{
	*ret_count = 0;
	for (size_t i = 0; i < p->volume_count; i++) {
		struct proof_volume *v = &p->volumes[i];
		const struct message_compared_volume *c = find_compared(p, v->volume);

		if (c == NULL)
			return -HF_EVOLUME;
		if (p->passes == 0)
			v->differing_bytes = c->bytes_differing;
		if (c->equal)
			ret_volumes[(*ret_count)++] = v->volume;
		v->equal |= c->equal;
	}
	return 0;
}

static void
on_noted(void *arg, struct store_job *job)
{
	struct source *src = arg;
	const char *text;

	if (!is_running(src))
		return;
	if (store_job_status(job, &text) < 0)
		end(src, PROOF_FAILED, text);
	else if (count_unequal(src->proof) == 0 || src->proof->passes == PASSES_MAX)
		conclude(src);
	else if (is_streaming(src)) /* else the next session is asked */
		source_ask_proof(src);
}

void
source_prove_durable(struct source *src, const struct checkpoint *c)
{
	uint32_t volumes[VOLUMES_MAX];
	struct proof *p = src->proof;
	size_t count;
	int r;

	if (!is_running(src) || p->received_ns == 0 || p->received_ns != c->received_ns)
		return;
	r = take_compared(p, volumes, &count);
	p->passes++;
	p->request_id = 0;
	p->received_ns = 0;
	if (r < 0) {
		end(src, PROOF_FAILED, "the agent does not say what it compared: upgrade it");
		return;
	}
	r = source_run_job(src, store_note_equal(src->store, volumes, count, checkpoint_time_ns(c)), on_noted, src);
	if (r < 0)
		end(src, PROOF_FAILED, hf_status_text(r));
}

/* ---- its beginning ---- */

static const char *
find_unreadable(const struct source *src)
{
	for (size_t i = 0; i < src->declared_count; i++)
		if (src->declared[i].state != VOLUME_OK)
			return src->declared[i].name;
	return NULL;
}

/* A disk that cannot be read keeps every checkpoint from coming. */
void
source_tick_proof(struct source *src)
{
	const char *name = is_running(src) ? find_unreadable(src) : NULL;
	char text[SENTENCE_BYTES];

	if (name == NULL)
		return;
	snprintf(text, sizeof text, "volume %s cannot be read: see the source's state", name);
	end(src, PROOF_FAILED, text);
}

static int
say(char *ret_text, int status, const char *text)
{
	snprintf(ret_text, SENTENCE_BYTES, "%s", text);
	return status;
}

/* The volumes asked for, if all that are declared are whole. */
static int
choose_volumes(struct source *src, const char *volume, struct proof *p, char *ret_text)
{
	struct store_volume *list = src->worker->volume_scratch;
	size_t n = store_list_volumes(src->store, list, VOLUMES_MAX);

	for (size_t i = 0; i < n; i++) {
		struct proof_volume *v = &p->volumes[p->volume_count];

		if (list[i].frontier_blocks * BLOCK_BYTES < list[i].size_bytes)
			return say(
			    ret_text, -HF_EINCOMPLETE, "the first copy of this source's volumes is not finished");
		if (volume[0] != '\0' && strcmp(list[i].name, volume) != 0 && strcmp(list[i].id.text, volume) != 0)
			continue;
		v->volume = list[i].volume;
		snprintf(v->name, sizeof v->name, "%s", list[i].name);
		p->volume_count++;
	}
	return p->volume_count > 0 ? 0 : say(ret_text, -HF_EVOLUME, "this source has no such volume today");
}

int
source_prove(struct source *src, const char *volume, char *ret_text)
{
	struct proof *p;
	int r;

	if (is_running(src) && strcmp(src->proof->asked, volume) == 0)
		return 0; /* asked for by two */
	if (is_running(src))
		return say(
		    ret_text, -EBUSY, "a verification of this source is running: holdfastctl source show SOURCE");
	if (source_is_paused(src))
		return say(ret_text, -ENOTCONN, "replication is paused: holdfastctl source resume SOURCE");
	if (!is_streaming(src))
		return say(ret_text, -ENOTCONN,
		    src->facts.phase == PHASE_STOPPED ? "replication is stopped: holdfastctl source start SOURCE"
						      : "the agent is not connected");
	if (find_unreadable(src) != NULL)
		return say(
		    ret_text, -HF_EIDENTITY, "a volume of this source cannot be read: holdfastctl source show SOURCE");
	p = calloc(1, sizeof *p);
	if (p == NULL)
		return say(ret_text, -ENOMEM, hf_status_text(-ENOMEM));
	r = choose_volumes(src, volume, p, ret_text);
	if (r < 0) {
		free(p);
		return r;
	}
	free(src->proof);
	src->proof = p;
	snprintf(p->asked, sizeof p->asked, "%s", volume);
	p->state = PROOF_RUNNING;
	p->started_ns = clock_real_ns();
	source_ask_proof(src);
	source_publish(src); /* before the answer: whoever looks finds it */
	return 0;
}
