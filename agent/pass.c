/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent does all day.
 *
 *	         +--> FILL --+             a volume the server has not all of is sent from the frontier on
 *	begin ---+           +--> RESCAN   a volume not read in this stream yet is compared, lately written nodes first
 *	  ^      +-----------+--> PASS     every volume is read and compared, and what differs is sent
 *	  |                       |
 *	  +--------- IDLE <-------+--> checkpoint
 *
 * "begin" binds every volume to the disk that carries its identity now, and declares them if anything about them
 * changed. IDLE waits for the interval to pass (from start to start), or for somebody to ask for a checkpoint.
 *
 * What a checkpoint may claim. A pass reads a disk in use, a block early, another late, so what the server has after it
 * never was on the disk as a whole. But when a pass finds nothing different from what the server has, every block was
 * read twice with the same content, once before the pass and once in it. So all of them stood at the same time at one
 * moment: that before the pass's first read, and this is its clock. That is crash consistency, as if the power had gone
 * then. It is claimed only if every volume was read whole before, in this stream. (A block that went from A to B and
 * back to A between its two reads would deceive us. File systems and databases write times and counters with everything
 * they write, so not all of the blocks that tell of a change can come back.) Everything else is fuzzy, unless the file
 * systems were frozen: see frozen.c.
 *
 * A pass that finds nothing new after a checkpoint that was good sends no frame: the heartbeat says that the checkpoint
 * still holds.
 *
 * A checkpoint somebody asked for is always sent. The request counts from the next pass's start, so that what was on
 * the disk when it was made is in it. If that pass found differences another follows at once, in the hope of two that
 * agree; after REQUEST_PATIENCE_NS the fuzzy one must do.
 *
 * Failures are of three kinds. The stream is lost (-HF_ESTREAM): declare, begin a new one, compare. A disk cannot be
 * read: that volume is declared unreadable and the others go on, without checkpoints, because a checkpoint speaks of
 * all volumes. Anything else that is not the end: wait a second, then as if the stream were lost. In each case what was
 * sent stays right, because whatever it is worth is found out by the next compare. A cut connection is none of these:
 * the link hides it. */
#include "agent/pass.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/fill.h"
#include "agent/standstill.h"
#include "agent/sweep.h"
#include "agent/teller.h"
#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/units.h"

#define REQUEST_PATIENCE_NS (10 * NS_PER_SECOND)
#define RETRY_NS            NS_PER_SECOND

enum { ONCE_PASSES_MAX = 3 }; /* with --once: so often for a crash-consistent checkpoint, then a fuzzy one will do */

struct passer {
	struct link *link;
	const struct pass_config *config;
	struct hf_error *err;
	struct volumes *volumes;
	struct copier copier;
	struct teller teller;
	struct standstill *standstill; /* NULL: nothing to freeze */
	enum activity activity;        /* 0: finished */

	bool has_stream;
	uint64_t pass_number;
	unsigned passes_since_fill;
	int64_t started_ns;                /* monotonic, of the last pass */
	bool is_hurried;                   /* the next pass begins at once */
	enum consistency last_consistency; /* of the newest checkpoint of this stream; 0 = none */
	bool has_unmarked;                 /* something was sent since */

	uint64_t requests[REQUEST_IDS_MAX]; /* checkpoints asked for and not yet given */
	size_t request_count;
	int64_t requested_ns;   /* when the oldest was seen */
	bool compare_requested; /* one of them asks what the comparing found, in the next pass, whatever it is */
};

static bool
is_stopped(const struct passer *p)
{
	return p->config->stop != NULL && atomic_load(p->config->stop);
}

/* ---- beginning a round ---- */

static void
forget_stream(struct passer *p)
{
	p->has_stream = false;
	p->last_consistency = 0;
	for (size_t i = 0; i < p->volumes->count; i++)
		p->volumes->list[i].read_once = false;
	link_set_unchanged_until(p->link, 0);
}

static int
begin_stream(struct passer *p)
{
	int r = volumes_declare(p->volumes);

	if (r == 0)
		r = link_restart(p->link);
	p->copier.seed = link_digest_seed(p->link);
	p->has_stream = r == 0;
	return r;
}

static const struct volume *
find_not_ok(const struct passer *p)
{
	for (size_t i = 0; i < p->volumes->count; i++)
		if (!volume_is_ok(&p->volumes->list[i]))
			return &p->volumes->list[i];
	return NULL;
}

/* What is to be done next with the volumes as they are. */
static enum activity
choose_work(const struct passer *p)
{
	enum activity work = ACTIVITY_IDLE;

	for (size_t i = 0; i < p->volumes->count; i++) {
		const struct volume *v = &p->volumes->list[i];

		if (!volume_is_ok(v))
			continue;
		if (v->frontier_blocks < volume_blocks(v))
			return ACTIVITY_FILL;
		if (!v->read_once)
			work = ACTIVITY_RESCAN;
		else if (work == ACTIVITY_IDLE)
			work = ACTIVITY_PASS;
	}
	return work;
}

static int
refuse_once(struct passer *p, const struct volume *v)
{
	enum volume_state state = v->state != VOLUME_OK ? v->state : v->server_state;
	const char *text = p->volumes->answer.volumes[v->index].text;

	if (state == VOLUME_REFUSED && text[0] != '\0')
		return hf_error_say(p->err, -HF_EIDENTITY, "volume %s: %s", v->name, text);
	return hf_error_say(
	    p->err, -HF_EIDENTITY, "volume %s (%s): %s", v->name, v->disk.path, volume_state_text(state));
}

static void
add_new_disks(struct passer *p)
{
	const struct pass_config *config = p->config;
	struct pass_volume disk;
	bool take;

	if (config->next_new_disk == NULL)
		return;
	volumes_drop_gone(p->volumes);
	while (config->next_new_disk(config->arg, &disk, &take)) {
		if (!take)
			volumes_leave_out(p->volumes, &disk);
		else if (!volumes_add(p->volumes, &disk))
			return;
	}
}

/* A disk that hangs hangs here as well as in the reader. */
static void
look_at_disks(struct passer *p)
{
	link_begin_source_wait(p->link);
	add_new_disks(p);
	volumes_bind(p->volumes);
	link_end_source_wait(p->link);
}

/* Bind, declare, and say what is to be done. */
static int
begin_round(struct passer *p)
{
	const struct volume *bad;
	int r = 0;

	look_at_disks(p);
	if (!p->has_stream)
		r = begin_stream(p);
	else if (!p->volumes->declared)
		r = volumes_declare(p->volumes);
	if (r < 0)
		return r;
	bad = find_not_ok(p);
	if (bad != NULL && p->config->once)
		return refuse_once(p, bad);
	p->started_ns = clock_monotonic_ns(); /* counts even if there is nothing to do */
	return (int)choose_work(p);
}

/* ---- filling ---- */

static int
fill_volumes(struct passer *p)
{
	for (size_t i = 0; i < p->volumes->count; i++) {
		struct volume *v = &p->volumes->list[i];
		bool is_whole = v->frontier_blocks == 0;
		int r;

		if (!volume_is_ok(v) || v->frontier_blocks >= volume_blocks(v))
			continue;
		r = fill_volume(&p->copier, v);
		if (r < 0)
			return r;
		/* Resumed from where an earlier process was: the part before it we have not read. */
		v->read_once = is_whole;
		teller_progress(&p->teller, v, v->size_bytes);
		log_info("filled", "volume=%s bytes=%llu", v->name, (unsigned long long)v->size_bytes);
	}
	return 0;
}

static int
run_fill(struct passer *p)
{
	int r;

	p->started_ns = clock_monotonic_ns();
	p->has_unmarked = true;
	teller_begin(&p->teller, ACTIVITY_FILL, p->pass_number, "first copy");
	r = fill_volumes(p);
	teller_end(&p->teller);
	if (r < 0)
		return r;
	link_clear_backlog(p->link);
	p->passes_since_fill = 0;
	return (int)choose_work(p);
}

/* ---- checkpoints ---- */

static size_t
take_requests(struct passer *p)
{
	bool compare;
	size_t n;

	/* So many wait only when no checkpoint can be given; who asked first has given up first. */
	if (p->request_count == REQUEST_IDS_MAX) {
		p->request_count /= 2;
		memmove(p->requests, p->requests + p->request_count, p->request_count * sizeof *p->requests);
	}
	n = link_take_requests(p->link, p->requests + p->request_count, REQUEST_IDS_MAX - p->request_count, &compare);
	p->compare_requested |= compare;
	if (n > 0 && p->request_count == 0)
		p->requested_ns = clock_monotonic_ns();
	p->request_count += n;
	return n;
}

/* An agent that lies is built for the tests alone: all its checkpoints claim to be crash-consistent. With it the test
 * of write order across disks must fail: the proof that it can. */
static enum consistency
claim(enum consistency c)
{
#ifdef HOLDFAST_LIES
	return c < CONSISTENCY_CRASH ? CONSISTENCY_CRASH : c;
#else
	return c;
#endif
}

static bool
may_wait_for_better(const struct passer *p, const struct message_checkpoint *m)
{
	return m->consistency < CONSISTENCY_CRASH && p->request_count > 0 && !p->compare_requested &&
	       clock_monotonic_ns() - p->requested_ns < REQUEST_PATIENCE_NS;
}

static void
add_requests(struct passer *p, struct message_checkpoint *m)
{
	memcpy(m->request_ids, p->requests, p->request_count * sizeof *p->requests);
	m->request_id_count = p->request_count;
}

static void
add_compared(const struct passer *p, struct message_checkpoint *m)
{
	for (size_t i = 0; i < p->volumes->count; i++) {
		const struct volume *v = &p->volumes->list[i];

		m->compared[m->compared_count++] = (struct message_compared_volume){.volume = v->number,
		    .bytes_read = v->pass_bytes_read,
		    .bytes_differing = v->pass_bytes_differing,
		    .equal = v->equal};
	}
}

static int
send_checkpoint(struct passer *p, const struct message_checkpoint *m)
{
	int r;

	link_set_unchanged_until(p->link, 0); /* what it said was about the last one */
	r = link_checkpoint(p->link, m);
	if (r < 0)
		return r;
	p->last_consistency = m->consistency;
	p->has_unmarked = false;
	if (m->consistency >= CONSISTENCY_CRASH)
		link_set_unchanged_until(p->link, m->clock_ns);
	log_debug("marked", "pass=%llu consistency=%s read=%llu differing=%llu", (unsigned long long)m->pass,
	    consistency_name(m->consistency), (unsigned long long)m->bytes_read,
	    (unsigned long long)m->bytes_differing);
	if (p->config->on_checkpoint != NULL)
		p->config->on_checkpoint(p->config->arg, m);
	return 0;
}

/* Mark what the pass has found, or let the last checkpoint stand. */
static int
mark(struct passer *p, struct message_checkpoint *m)
{
	bool is_waiting = may_wait_for_better(p, m);
	int r;

	p->is_hurried = is_waiting;
	if (!p->has_unmarked && p->last_consistency >= CONSISTENCY_CRASH && (p->request_count == 0 || is_waiting)) {
		if (m->consistency >= CONSISTENCY_CRASH)
			link_set_unchanged_until(p->link, m->clock_ns);
		return 0;
	}
	if (!is_waiting)
		add_requests(p, m);
	if (p->compare_requested)
		add_compared(p, m);
	r = send_checkpoint(p, m);
	if (r == 0) {
		p->request_count -= m->request_id_count;
		p->compare_requested = false;
	}
	return r;
}

/* ---- passes ---- */

static int
sweep_whole(struct passer *p, struct volume *v)
{
	uint64_t read_before = p->copier.bytes_read;
	int r = sweep_volume(&p->copier, v, standstill_map(p->standstill, v));

	v->pass_bytes_read += p->copier.bytes_read - read_before;
	return r;
}

static int
sweep_recent(struct passer *p, struct volume *v)
{
	uint64_t read_before = p->copier.bytes_read;
	struct message_recent_answer *recent = malloc(sizeof *recent);
	int r;

	if (recent == NULL)
		return -ENOMEM;
	r = link_recent(p->link, v->number, recent);
	if (r == 0 && recent->count > 0)
		r = sweep_nodes(&p->copier, v, recent->nodes, recent->count);
	v->pass_bytes_read += p->copier.bytes_read - read_before;
	free(recent);
	return r;
}

static int
flush_all(struct passer *p)
{
	int r = sender_flush(p->copier.sender);

	return r < 0 ? r : link_flush(p->link);
}

/* What the server saw changing lately, of all volumes, before the long read: the copy is nearly as
 * good as new within seconds. */
static int
sweep_all_recent(struct passer *p)
{
	int r = 0;

	p->copier.on_progress = NULL; /* these count again in the sweep */
	for (size_t i = 0; r == 0 && i < p->volumes->count; i++)
		if (volume_is_ok(&p->volumes->list[i]))
			r = sweep_recent(p, &p->volumes->list[i]);
	p->copier.on_progress = teller_progress;
	return r < 0 ? r : flush_all(p);
}

static int
sweep_all(struct passer *p)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->volumes->count; i++) {
		struct volume *v = &p->volumes->list[i];

		if (volume_is_ok(v))
			r = sweep_whole(p, v);
	}
	return r < 0 ? r : flush_all(p);
}

static bool
all_read_once(const struct passer *p)
{
	for (size_t i = 0; i < p->volumes->count; i++)
		if (!p->volumes->list[i].read_once)
			return false;
	return true;
}

/* The pass is over. What it found to be as it was read before, in this stream, did not change meanwhile. */
static void
note_read(struct passer *p)
{
	for (size_t i = 0; i < p->volumes->count; i++) {
		struct volume *v = &p->volumes->list[i];

		v->equal = volume_is_ok(v) && v->read_once && v->pass_bytes_differing == 0;
		v->read_once |= volume_is_ok(v);
	}
}

static void
forget_counts(struct passer *p)
{
	p->copier.bytes_read = p->copier.bytes_differing = 0;
	for (size_t i = 0; i < p->volumes->count; i++)
		p->volumes->list[i].pass_bytes_read = p->volumes->list[i].pass_bytes_differing = 0;
}

/* After a freeze: read whole while it stood still, and what differed was sent; or something was sent without that. */
static void
note_all(struct passer *p, bool equal)
{
	for (size_t i = 0; i < p->volumes->count; i++)
		p->volumes->list[i].equal = equal;
}

static void
note_sent(struct passer *p)
{
	if (p->copier.bytes_differing > 0)
		p->has_unmarked = true;
}

/* What the pass alone allows to claim; was_read: every volume had been read whole before it. */
static enum consistency
judge(const struct passer *p, bool was_read)
{
	if (!was_read || p->copier.bytes_differing > 0)
		return CONSISTENCY_FUZZY;
	if (!p->has_unmarked && p->last_consistency > CONSISTENCY_CRASH)
		return p->last_consistency; /* nothing has changed since a checkpoint that knew better */
	return CONSISTENCY_CRASH;
}

/* Improve on m by a freeze, if that is wanted and useful. */
static int
try_standstill(struct passer *p, struct message_checkpoint *m)
{
	struct cut cut;
	int r;

	if (p->standstill == NULL || m->consistency >= CONSISTENCY_FILESYSTEM ||
	    !standstill_is_due(p->standstill, m->bytes_read))
		return 0;
	r = standstill_cut(p->standstill, &cut);
	if (r < 0)
		return r;
	if (cut.is_clean) {
		m->consistency = CONSISTENCY_FILESYSTEM;
		m->clock_ns = cut.clock_ns;
		note_all(p, true);
	} else if (cut.has_sent) {
		m->consistency = CONSISTENCY_FUZZY; /* the copy is a mixture now, whatever the pass had found */
		note_all(p, false);
	}
	return 0;
}

/* Everything is on the server as it was read. Say so, if it can be said of all volumes. */
static int
conclude(struct passer *p, struct message_checkpoint *m)
{
	int r;

	if (!volumes_are_ok(p->volumes))
		return ACTIVITY_IDLE;
	m->bytes_read = p->copier.bytes_read;
	r = try_standstill(p, m);
	note_sent(p);
	m->bytes_differing = p->copier.bytes_differing;
	m->consistency = claim(m->consistency);
	if (r == 0)
		r = mark(p, m);
	return r < 0 ? r : ACTIVITY_IDLE;
}

/* Read, compare, send, mark. first: what to do before the sweep, or NULL. */
static int
run_sweep(struct passer *p, enum activity activity, int (*first)(struct passer *p))
{
	struct message_checkpoint m = {.pass = ++p->pass_number};
	bool was_read = all_read_once(p);
	int r = p->standstill != NULL ? standstill_prepare(p->standstill) : 0;

	forget_counts(p);
	p->started_ns = clock_monotonic_ns();
	take_requests(p);
	teller_begin(&p->teller, activity, p->pass_number, activity == ACTIVITY_RESCAN ? "comparing" : NULL);
	m.clock_ns = clock_real_ns();
	if (r == 0 && first != NULL)
		r = first(p);
	if (r == 0)
		r = sweep_all(p);
	teller_end(&p->teller);
	note_sent(p);
	if (r < 0)
		return r;
	note_read(p);
	p->passes_since_fill++;
	m.consistency = judge(p, was_read);
	r = conclude(p, &m);
	if (r >= 0)
		link_clear_backlog(p->link);
	return r;
}

static int
run_rescan(struct passer *p)
{
	int r = run_sweep(p, ACTIVITY_RESCAN, sweep_all_recent);

	p->is_hurried = true; /* nothing crash-consistent can come before a second one */
	return r;
}

static int
run_pass(struct passer *p)
{
	return run_sweep(p, ACTIVITY_PASS, NULL);
}

/* ---- waiting ---- */

static bool
is_finished(const struct passer *p)
{
	if (!p->config->once || p->last_consistency == 0)
		return false;
	return p->last_consistency >= CONSISTENCY_CRASH || p->passes_since_fill >= ONCE_PASSES_MAX;
}

/* Until it is time for the next pass, or somebody asks for a checkpoint. Asks the link at least once whether the
 * stream is well and nobody wants us to stop, however short the interval. */
static int
await_next_pass(struct passer *p, int64_t interval_ns)
{
	int64_t next_ns = p->started_ns + interval_ns;
	int r;

	for (;;) {
		r = is_stopped(p) ? -ECANCELED : link_flush(p->link);
		if (r < 0 || take_requests(p) > 0 || clock_monotonic_ns() >= next_ns)
			return r;
		link_wait(p->link, next_ns - clock_monotonic_ns());
	}
}

static int64_t
pause_ns(const struct passer *p)
{
	if (p->is_hurried || p->config->once)
		return 0;
	/* Without a disk to read a round takes no time: not without pause, then. */
	if (choose_work(p) == ACTIVITY_IDLE && p->config->interval_ns < RETRY_NS)
		return RETRY_NS;
	return p->config->interval_ns;
}

static int
run_idle(struct passer *p)
{
	int r;

	volumes_release(p->volumes);
	teller_idle(&p->teller);
	if (is_finished(p))
		return 0;
	r = await_next_pass(p, pause_ns(p));
	p->is_hurried = false;
	return r < 0 ? r : begin_round(p);
}

/* ---- the loop ---- */

/* Each does its part and returns what comes next, 0 at the end, or a negative error. */
static const struct {
	const char *name;
	int (*run)(struct passer *p);
} activities[] = {
    [ACTIVITY_FILL] = {"fill", run_fill},
    [ACTIVITY_RESCAN] = {"rescan", run_rescan},
    [ACTIVITY_PASS] = {"pass", run_pass},
    [ACTIVITY_IDLE] = {"idle", run_idle},
};

static bool
is_final(const struct passer *p, int r)
{
	return r == -ECANCELED || r == -ENOMEM || is_stopped(p) || (p->config->once && r == -HF_EIDENTITY);
}

/* After an error: prepare to begin again. Returns what is to be done, or r if nothing can be. */
static int
recover(struct passer *p, int r)
{
	struct volume *failed = p->copier.failed;

	p->copier.failed = NULL;
	sender_reset(p->copier.sender);
	if (is_final(p, r))
		return is_stopped(p) ? -ECANCELED : r;
	if (failed != NULL) {
		volume_failed(p->volumes, failed, p->copier.failed_offset, r);
		volumes_release(p->volumes);
		r = link_flush(p->link); /* the frontier in the next answer counts what was sent */
		return r < 0 ? recover(p, r) : ACTIVITY_IDLE;
	}
	if (r != -HF_ESTREAM)
		log_warning("pass_failed", "pass=%llu status=%s msg=\"%s\"", (unsigned long long)p->pass_number,
		    hf_status_name(r), hf_status_text(r));
	volumes_release(p->volumes);
	forget_stream(p);
	link_wait(p->link, RETRY_NS);
	return begin_round(p);
}

static void
enter(struct passer *p, enum activity next)
{
	assert(next == 0 || (next >= ACTIVITY_FILL && next <= ACTIVITY_IDLE));
	if (next != 0 && next != p->activity)
		log_debug("activity", "now=%s pass=%llu", activities[next].name, (unsigned long long)p->pass_number);
	p->activity = next;
}

static int
run(struct passer *p)
{
	int r = begin_round(p);

	for (;;) {
		while (r < 0) {
			int next = recover(p, r);

			if (next == r && is_final(p, r))
				return r;
			r = next;
		}
		enter(p, (enum activity)r);
		if (r == 0)
			return 0;
		r = activities[r].run(p);
	}
}

static int
init(struct passer *p)
{
	int r;

	p->volumes = volumes_create(p->link, p->config);
	p->copier.link = p->link;
	p->copier.sender = sender_create(p->link);
	p->copier.on_progress = teller_progress;
	p->copier.arg = &p->teller;
	p->teller = (struct teller){.link = p->link, .config = p->config, .volumes = p->volumes};
	if (p->volumes == NULL || p->copier.sender == NULL)
		return hf_error_set(p->err, -ENOMEM, "reading disks");
	/* The guard is forked before there are threads of ours to be copied half-way. */
	if (p->config->freeze_count > 0) {
		r = standstill_create(p->config, p->link, p->volumes, &p->copier, &p->standstill, p->err);
		if (r < 0)
			return r;
	}
	r = reader_create(p->config->read_limit_bytes, p->config->stop, &p->copier.reader);
	return r < 0 ? hf_error_set(p->err, r, "start reading threads") : 0;
}

static void
fini(struct passer *p)
{
	standstill_destroy(p->standstill);
	reader_destroy(p->copier.reader);
	sender_destroy(p->copier.sender);
	copier_fini(&p->copier);
	volumes_destroy(p->volumes);
}

int
pass_run(struct link *l, const struct pass_config *config, struct hf_error *err)
{
	struct passer *p = calloc(1, sizeof *p);
	int r;

	if (p == NULL)
		return hf_error_set(err, -ENOMEM, "reading disks");
	p->link = l;
	p->config = config;
	p->err = err;
	r = init(p); /* says itself what it lacks */
	if (r == 0) {
		r = run(p);
		if (r == -ENOMEM)
			(void)hf_error_set(err, r, "reading disks");
	}
	if (r == -ECANCELED)
		(void)hf_error_say(err, r, "stopped");
	fini(p);
	free(p);
	return r;
}
