/* SPDX-License-Identifier: Apache-2.0 */
/* The table keeps what is in use of a snapshot, not its full arrays: a source with two volumes costs a few KiB, not 60.
 * Entries are sorted by id, for sources are listed far more often than they come or go. */
#include "server/status.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/units.h"

struct snapshot {
	struct source_status *head; /* only up to `volumes`: see head_bytes */
	struct volume_status *volumes;
	char *tags, *new_disks;
	struct points *points;
};

struct status_table {
	pthread_mutex_t lock;
	struct snapshot *entries;
	size_t count, capacity;
	uint64_t turns;
};

static const size_t head_bytes = offsetof(struct source_status, volumes);

static size_t
volumes_bytes(const struct source_status *head)
{
	return (head->volume_count + head->retired_count) * sizeof head->volumes[0];
}

const char *
replication_state_name(enum replication_state s)
{
	switch (s) {
	case STATE_STOPPED: return "STOPPED";
	case STATE_INITIATING: return "INITIATING";
	case STATE_INITIAL_SYNC: return "INITIAL_SYNC";
	case STATE_BACKLOG: return "BACKLOG";
	case STATE_CREATING_SNAPSHOT: return "CREATING_SNAPSHOT";
	case STATE_CONTINUOUS: return "CONTINUOUS";
	case STATE_PAUSED: return "PAUSED";
	case STATE_RESCAN: return "RESCAN";
	case STATE_STALLED: return "STALLED";
	case STATE_DISCONNECTED: return "DISCONNECTED";
	}
	return "?";
}

const char *
proof_state_name(enum proof_state s)
{
	switch (s) {
	case PROOF_NONE: return NULL;
	case PROOF_RUNNING: return "RUNNING";
	case PROOF_EQUAL: return "EQUAL";
	case PROOF_CHANGING: return "CHANGING";
	case PROOF_FAILED: return "FAILED";
	}
	return NULL;
}

double
status_lag_seconds(int64_t at_ns, int64_t now_ns)
{
	if (at_ns == 0)
		return -1;
	return now_ns > at_ns ? (double)(now_ns - at_ns) / (double)NS_PER_SECOND : 0;
}

int
status_table_create(struct status_table **ret_table)
{
	struct status_table *t = calloc(1, sizeof *t);

	if (t == NULL)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	*ret_table = t;
	return 0;
}

static void
free_snapshot(struct snapshot *e)
{
	free(e->head);
	free(e->volumes);
	free(e->tags);
	free(e->new_disks);
	points_unref(e->points);
}

void
status_table_destroy(struct status_table *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < t->count; i++)
		free_snapshot(&t->entries[i]);
	free(t->entries);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* Where the source is, or would be inserted. */
static size_t
find_slot(const struct status_table *t, const struct id *source, bool *ret_found)
{
	size_t low = 0, high = t->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(t->entries[middle].head->id.text, source->text) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_found = low < t->count && strcmp(t->entries[low].head->id.text, source->text) == 0;
	return low;
}

static bool
insert_slot(struct status_table *t, size_t slot)
{
	if (t->count == t->capacity) {
		size_t capacity = t->capacity ? t->capacity * 2 : 16;
		struct snapshot *entries = realloc(t->entries, capacity * sizeof *entries);

		if (entries == NULL)
			return false;
		t->entries = entries;
		t->capacity = capacity;
	}
	memmove(&t->entries[slot + 1], &t->entries[slot], (t->count - slot) * sizeof *t->entries);
	memset(&t->entries[slot], 0, sizeof *t->entries);
	t->count++;
	return true;
}

/* Make the entry's memory, outside of the lock. Takes points. False when there is no memory. */
static bool
pack(const struct source_status *s, struct points *points, struct snapshot *ret_entry)
{
	struct snapshot e = {.points = points,
	    .head = malloc(head_bytes),
	    .volumes = malloc(volumes_bytes(s) + 1),
	    .tags = strdup(s->tags),
	    .new_disks = strdup(s->new_disks)};

	if (e.head == NULL || e.volumes == NULL || e.tags == NULL || e.new_disks == NULL) {
		free_snapshot(&e);
		return false;
	}
	memcpy(e.head, s, head_bytes);
	memcpy(e.volumes, s->volumes, volumes_bytes(s));
	*ret_entry = e;
	return true;
}

static void
unpack(const struct snapshot *e, struct source_status *ret_status)
{
	memcpy(ret_status, e->head, head_bytes);
	memcpy(ret_status->volumes, e->volumes, volumes_bytes(e->head));
	strcpy(ret_status->tags, e->tags);
	strcpy(ret_status->new_disks, e->new_disks);
}

/* before: NULL, if it is new. */
static bool
has_turned(const struct source_status *before, const struct source_status *now)
{
	return before == NULL || before->state != now->state || strcmp(before->error, now->error) != 0 ||
	       before->connected != now->connected || before->ready != now->ready ||
	       before->activity != now->activity || before->proof.state != now->proof.state;
}

void
status_publish(struct status_table *t, const struct source_status *s, struct points *points)
{
	struct snapshot fresh, old = {0};
	bool found;
	size_t slot;

	if (!pack(s, points, &fresh))
		return; /* no memory: the snapshot of a moment ago stays, the next one comes soon */
	pthread_mutex_lock(&t->lock);
	slot = find_slot(t, &s->id, &found);
	t->turns += has_turned(found ? t->entries[slot].head : NULL, s);
	if (found || insert_slot(t, slot)) {
		old = t->entries[slot];
		t->entries[slot] = fresh;
	} else {
		old = fresh;
	}
	pthread_mutex_unlock(&t->lock);
	free_snapshot(&old);
}

uint64_t
status_turns(struct status_table *t)
{
	uint64_t turns;

	pthread_mutex_lock(&t->lock);
	turns = t->turns;
	pthread_mutex_unlock(&t->lock);
	return turns;
}

void
status_forget(struct status_table *t, const struct id *source)
{
	struct snapshot old = {0};
	bool found;
	size_t slot;

	pthread_mutex_lock(&t->lock);
	slot = find_slot(t, source, &found);
	if (found) {
		old = t->entries[slot];
		t->turns++;
		t->count--;
		memmove(&t->entries[slot], &t->entries[slot + 1], (t->count - slot) * sizeof *t->entries);
	}
	pthread_mutex_unlock(&t->lock);
	free_snapshot(&old);
}

bool
status_get_points(
    struct status_table *t, const struct id *source, struct source_status *ret_status, struct points **ret_points)
{
	bool found;
	size_t slot;

	pthread_mutex_lock(&t->lock);
	slot = find_slot(t, source, &found);
	if (found) {
		unpack(&t->entries[slot], ret_status);
		*ret_points = points_ref(t->entries[slot].points);
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}

bool
status_get(struct status_table *t, const struct id *source, struct source_status *ret_status)
{
	struct points *points;
	bool found = status_get_points(t, source, ret_status, &points);

	if (found)
		points_unref(points);
	return found;
}

bool
status_next(struct status_table *t, const struct id *after, struct source_status *ret_status)
{
	bool found;
	size_t slot;

	pthread_mutex_lock(&t->lock);
	slot = find_slot(t, after, &found);
	slot += found;
	found = slot < t->count;
	if (found)
		unpack(&t->entries[slot], ret_status);
	pthread_mutex_unlock(&t->lock);
	return found;
}
