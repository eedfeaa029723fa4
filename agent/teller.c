/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/teller.h"

#include "proto/common/units.h"

#define REPORT_EVERY_NS NS_PER_SECOND

static uint64_t
total_of(const struct teller *t)
{
	uint64_t total = 0;

	for (size_t i = 0; i < t->report.count; i++)
		total += t->report.volumes[i].total_bytes;
	return total;
}

static uint64_t
done_of(const struct teller *t)
{
	uint64_t done = 0;

	for (size_t i = 0; i < t->report.count; i++)
		done += t->report.volumes[i].done_bytes;
	return done;
}

/* While a volume is filled; what a sweep finds it tells itself. */
static void
tell_backlog(struct teller *t, const struct volume *v, uint64_t done_bytes)
{
	if (t->report.activity == ACTIVITY_FILL)
		link_set_backlog(t->link, v->number, v->size_bytes - done_bytes);
}

static void
send_report(struct teller *t)
{
	link_report(t->link, &t->report);
	if (t->config->on_report != NULL)
		t->config->on_report(t->config->arg, &t->report);
	t->reported_ns = clock_monotonic_ns();
}

/* The last block may go beyond the end. */
static uint64_t
within(const struct volume *v, uint64_t bytes)
{
	return bytes < v->size_bytes ? bytes : v->size_bytes;
}

static void
add_volume(struct teller *t, const struct volume *v)
{
	uint64_t done = t->report.activity == ACTIVITY_FILL ? within(v, v->frontier_blocks * BLOCK_BYTES) : 0;
	size_t slot = t->report.count++;

	t->slots[v->index] = slot;
	t->report.volumes[slot].volume = v->number;
	t->report.volumes[slot].done_bytes = done;
	t->report.volumes[slot].total_bytes = v->size_bytes;
	tell_backlog(t, v, done);
}

void
teller_begin(struct teller *t, enum activity activity, uint64_t pass, const char *title)
{
	t->report.activity = activity;
	t->report.pass = pass;
	t->report.count = 0;
	link_clear_backlog(t->link);
	for (size_t i = 0; i < t->volumes->count; i++)
		if (volume_is_ok(&t->volumes->list[i]))
			add_volume(t, &t->volumes->list[i]);
	progress_begin(&t->progress, title != NULL ? t->config->progress : PROGRESS_NONE, 2, title != NULL ? title : "",
	    done_of(t), total_of(t), clock_monotonic_ns());
	send_report(t);
}

void
teller_progress(void *arg, struct volume *v, uint64_t done_bytes)
{
	struct teller *t = arg;
	int64_t now_ns = clock_monotonic_ns();

	t->report.volumes[t->slots[v->index]].done_bytes = within(v, done_bytes);
	tell_backlog(t, v, within(v, done_bytes));
	progress_update(&t->progress, done_of(t), now_ns);
	if (now_ns - t->reported_ns < REPORT_EVERY_NS)
		return;
	send_report(t);
}

void
teller_end(struct teller *t)
{
	progress_end(&t->progress, done_of(t), clock_monotonic_ns());
}

void
teller_idle(struct teller *t)
{
	t->report.activity = ACTIVITY_IDLE;
	send_report(t);
}
