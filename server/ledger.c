/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ledger.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"

struct row {
	bool is_audit;
	union {
		struct registry_event event;
		struct registry_audit audit;
	};
};

struct ledger {
	struct registry *registry;
	pthread_mutex_t lock; /* over all that follows, and held while rows are written: order */
	struct row waiting[LEDGER_ROWS_MAX];
	_Atomic unsigned lost_count;  /* events not kept, and not told of; not under the lock */
	_Atomic size_t waiting_count; /* read without the lock: whoever asks must not wait for a disk */
};

int
ledger_create(struct registry *registry, struct ledger **ret_ledger)
{
	struct ledger *l = calloc(1, sizeof *l);

	if (l == NULL)
		return -ENOMEM;
	l->registry = registry;
	pthread_mutex_init(&l->lock, NULL);
	*ret_ledger = l;
	return 0;
}

void
ledger_destroy(struct ledger *l)
{
	if (l == NULL)
		return;
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* It gets its number. */
static int
write_row(struct ledger *l, struct row *row, struct hf_error *err)
{
	return row->is_audit ? registry_add_audit(l->registry, &row->audit, err)
			     : registry_add_event(l->registry, &row->event, err);
}

/* Oldest first, up to one that cannot be written. */
static int
write_waiting(struct ledger *l, struct hf_error *err)
{
	size_t n = 0;
	int r = 0;

	while (n < l->waiting_count && (r = write_row(l, &l->waiting[n], err)) == 0)
		n++;
	memmove(l->waiting, l->waiting + n, (l->waiting_count - n) * sizeof l->waiting[0]);
	l->waiting_count -= n;
	return r;
}

/* Where events are missing an event says so. */
static int
tell_lost(struct ledger *l, struct hf_error *err)
{
	struct registry_event event = {.time_ns = clock_real_ns()};
	unsigned lost = atomic_exchange(&l->lost_count, 0);
	int r;

	if (lost == 0)
		return 0;
	snprintf(event.event, sizeof event.event, "events_lost");
	snprintf(event.text, sizeof event.text, "%u event%s before this one could not be kept: the log alone has %s",
	    lost, lost == 1 ? "" : "s", lost == 1 ? "it" : "them");
	r = registry_add_event(l->registry, &event, err);
	if (r < 0)
		atomic_fetch_add(&l->lost_count, lost);
	return r;
}

static int
catch_up(struct ledger *l, struct hf_error *err)
{
	int r = write_waiting(l, err);

	return r == 0 ? tell_lost(l, err) : r;
}

static bool
has_place(const struct ledger *l, const struct row *row)
{
	return l->waiting_count < (row->is_audit ? LEDGER_ROWS_MAX : LEDGER_ROWS_MAX / 2);
}

static int
add_row(struct ledger *l, struct row *row, bool may_wait, struct hf_error *err)
{
	int r;

	pthread_mutex_lock(&l->lock);
	r = catch_up(l, err);
	if (r == 0)
		r = write_row(l, row, err);
	if (r == -HF_EFULL && may_wait && has_place(l, row)) {
		l->waiting[l->waiting_count++] = *row;
		r = 1;
	}
	pthread_mutex_unlock(&l->lock);
	return r;
}

int
ledger_add_event(struct ledger *l, const struct registry_event *event, struct hf_error *err)
{
	struct row row = {.event = *event};
	int r = add_row(l, &row, true, err);

	if (r < 0)
		ledger_lose_event(l);
	return r;
}

int
ledger_add_audit(struct ledger *l, struct registry_audit *audit, bool may_wait, struct hf_error *err)
{
	struct row row = {.is_audit = true, .audit = *audit};
	int r = add_row(l, &row, may_wait, err);

	if (r == 0)
		*audit = row.audit;
	return r;
}

int
ledger_settle(struct ledger *l, struct hf_error *err)
{
	int r;

	pthread_mutex_lock(&l->lock);
	r = catch_up(l, err);
	pthread_mutex_unlock(&l->lock);
	return r;
}

void
ledger_lose_event(struct ledger *l)
{
	atomic_fetch_add(&l->lost_count, 1);
}

size_t
ledger_waiting(const struct ledger *l)
{
	return atomic_load(&l->waiting_count);
}
