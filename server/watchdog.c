/* SPDX-License-Identifier: Apache-2.0 */
#include "server/watchdog.h"

#include <stdlib.h>

struct watched {
	const char *name;
	watchdog_count *count;
	const void *thread;
	uint64_t seen; /* when all had gone on */
	bool moved;    /* since then */
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
watchdog_add(struct watchdog *w, const char *name, watchdog_count *count, const void *thread)
{
	struct watched *threads = realloc(w->threads, (w->thread_count + 1) * sizeof *threads);

	if (threads == NULL)
		return false;
	w->threads = threads;
	threads[w->thread_count++] = (struct watched){name, count, thread, count(thread), false};
	return true;
}

static void
begin_again(struct watchdog *w)
{
	for (size_t i = 0; i < w->thread_count; i++) {
		w->threads[i].seen = w->threads[i].count(w->threads[i].thread);
		w->threads[i].moved = false;
	}
}

bool
watchdog_look(struct watchdog *w)
{
	bool all = true;

	for (size_t i = 0; i < w->thread_count; i++) {
		struct watched *t = &w->threads[i];

		t->moved = t->moved || t->count(t->thread) != t->seen;
		all = all && t->moved;
	}
	if (all)
		begin_again(w);
	return all;
}

const char *
watchdog_silent(const struct watchdog *w)
{
	for (size_t i = 0; i < w->thread_count; i++)
		if (!w->threads[i].moved)
			return w->threads[i].name;
	return NULL;
}
