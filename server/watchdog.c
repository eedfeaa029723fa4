/* SPDX-License-Identifier: Apache-2.0 */
#include "server/watchdog.h"

#include <stdlib.h>

struct watched {
	const char *name;
	watchdog_count *count;
	const void *thread;
	uint64_t seen;   /* its count, when it was looked at last */
	int64_t seen_ns; /* monotonic: when that was another than before */
	bool moved;      /* since all had gone on */
};

struct watchdog {
	struct watched *threads;
	size_t thread_count;
};

struct watchdog *
watchdog_create(void)
{
	return calloc(1, sizeof(struct watchdog));
}

void
watchdog_destroy(struct watchdog *w)
{
	if (w == NULL)
		return;
	free(w->threads);
	free(w);
}

bool
watchdog_add(struct watchdog *w, const char *name, watchdog_count *count, const void *thread, int64_t now_ns)
{
	struct watched *threads = realloc(w->threads, (w->thread_count + 1) * sizeof *threads);

	if (threads == NULL)
		return false;
	w->threads = threads;
	threads[w->thread_count++] = (struct watched){name, count, thread, count(thread), now_ns, false};
	return true;
}

static void
look_at(struct watched *t, int64_t now_ns)
{
	uint64_t count = t->count(t->thread);

	if (count == t->seen)
		return;
	t->seen = count;
	t->seen_ns = now_ns;
	t->moved = true;
}

bool
watchdog_look(struct watchdog *w, int64_t now_ns)
{
	bool all = true;

	for (size_t i = 0; i < w->thread_count; i++) {
		look_at(&w->threads[i], now_ns);
		all = all && w->threads[i].moved;
	}
	for (size_t i = 0; i < w->thread_count && all; i++)
		w->threads[i].moved = false;
	return all;
}

const char *
watchdog_slowest(const struct watchdog *w, int64_t *ret_since_ns)
{
	const struct watched *slowest = NULL;

	for (size_t i = 0; i < w->thread_count; i++)
		if (slowest == NULL || w->threads[i].seen_ns < slowest->seen_ns)
			slowest = &w->threads[i];
	if (slowest == NULL)
		return NULL;
	*ret_since_ns = slowest->seen_ns;
	return slowest->name;
}
