/* SPDX-License-Identifier: Apache-2.0 */
#include "server/news.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct news {
	pthread_mutex_t lock;
	uint64_t end; /* lines there were, so far */
	struct {
		struct id source;
		char *line; /* NULL: there is none yet */
	} items[NEWS_MAX];  /* the last of them; line i in place i % NEWS_MAX */
};

struct news *
news_create(void)
{
	struct news *n = calloc(1, sizeof *n);

	if (n != NULL)
		pthread_mutex_init(&n->lock, NULL);
	return n;
}

void
news_destroy(struct news *n)
{
	if (n == NULL)
		return;
	for (size_t i = 0; i < NEWS_MAX; i++)
		free(n->items[i].line);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

void
news_add(struct news *n, const struct id *source, char *line)
{
	char *old;

	pthread_mutex_lock(&n->lock);
	old = n->items[n->end % NEWS_MAX].line;
	n->items[n->end % NEWS_MAX].line = line;
	n->items[n->end % NEWS_MAX].source = *source;
	n->end++;
	pthread_mutex_unlock(&n->lock);
	free(old);
}

uint64_t
news_end(struct news *n)
{
	uint64_t end;

	pthread_mutex_lock(&n->lock);
	end = n->end;
	pthread_mutex_unlock(&n->lock);
	return end;
}

char *
news_next(struct news *n, const struct id *source, uint64_t *place)
{
	char *line = NULL;

	pthread_mutex_lock(&n->lock);
	if (n->end > NEWS_MAX && *place < n->end - NEWS_MAX)
		*place = n->end - NEWS_MAX;
	for (; line == NULL && *place < n->end; ++*place) {
		size_t i = *place % NEWS_MAX;

		if (source->text[0] == '\0' || strcmp(source->text, n->items[i].source.text) == 0)
			line = strdup(n->items[i].line);
	}
	pthread_mutex_unlock(&n->lock);
	return line;
}
