/* SPDX-License-Identifier: Apache-2.0 */
/* news.h: lines for whoever listens to events now, told once and not kept: what happens all the time, and is on record
 * elsewhere, must not push out of the registry what is looked for later. A listener that falls behind by more than
 * NEWS_MAX lines misses some. Any thread. */
#ifndef HF_SERVER_NEWS_H
#define HF_SERVER_NEWS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/common/id.h"

enum { NEWS_MAX = 4096 };

struct news;

struct news *news_create(void); /* NULL: no memory */
void news_destroy(struct news *n);

/* A line about a source. Takes line (malloced, '\n' at its end). */
void news_add(struct news *n, const struct id *source, char *line);

/* The place behind the newest line. */
uint64_t news_end(struct news *n);

/* The first line at or behind *place that is still there, about this source ("" = any): a copy to be freed, and *place
 * is behind it. NULL: there is none. */
char *news_next(struct news *n, const struct id *source, uint64_t *place);

#endif
