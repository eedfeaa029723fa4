/* SPDX-License-Identifier: Apache-2.0 */
#include "server/api_kept.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <event2/buffer.h>

#include "proto/common/units.h"

#define KEPT_NS     (NS_PER_SECOND / 4)
#define KEPT_MAX_NS NS_PER_SECOND

enum { KEPT_PER_WORK = 20 };

/* A copy that shares the bytes. */
static struct evbuffer *
copy_body(struct evbuffer *body)
{
	struct evbuffer *copy = evbuffer_new();

	if (copy != NULL && evbuffer_add_buffer_reference(copy, body) < 0) {
		evbuffer_free(copy);
		copy = NULL;
	}
	return copy;
}

static void
drop_answer(struct kept_answer *a)
{
	if (a->body != NULL)
		evbuffer_free(a->body);
	*a = (struct kept_answer){0};
}

static struct kept_answer *
find_answer(struct kept *k, const char *question)
{
	for (size_t i = 0; i < KEPT_ANSWERS; i++)
		if (strcmp(k->answers[i].question, question) == 0)
			return &k->answers[i];
	return NULL;
}

static bool
holds(const struct kept_answer *a, const struct kept_moment *now)
{
	return now->at_ns < (a->turns == now->turns ? a->until_turned_ns : a->until_ns);
}

struct evbuffer *
kept_find(struct kept *k, const char *question, const struct kept_moment *now, int *ret_http_status,
    const char **ret_content_type)
{
	struct kept_answer *a = find_answer(k, question);

	if (a == NULL || !holds(a, now))
		return NULL;
	*ret_http_status = a->http_status;
	*ret_content_type = a->content_type;
	return copy_body(a->body);
}

static int64_t
larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t
keeping_time_ns(int64_t worked_ns)
{
	return worked_ns < KEPT_MAX_NS / KEPT_PER_WORK ? KEPT_PER_WORK * worked_ns : KEPT_MAX_NS;
}

void
kept_add(struct kept *k, const char *question, const struct kept_moment *begun, int64_t worked_ns, int http_status,
    const char *content_type, struct evbuffer **body)
{
	struct kept_answer *a = find_answer(k, question);
	struct evbuffer *copy;

	if (begun->at_ns < k->dropped_ns)
		return;
	(void)evbuffer_pullup(*body, -1); /* one piece is sent faster than many */
	copy = copy_body(*body);
	if (copy == NULL)
		return;
	if (a == NULL)
		a = &k->answers[k->next++ % KEPT_ANSWERS];
	drop_answer(a);
	snprintf(a->question, sizeof a->question, "%s", question);
	a->body = *body; /* a copy cannot be copied again */
	a->content_type = content_type;
	a->http_status = http_status;
	a->turns = begun->turns;
	a->until_ns = begun->at_ns + keeping_time_ns(worked_ns);
	a->until_turned_ns = larger(a->until_ns, begun->at_ns + KEPT_NS);
	*body = copy;
}

void
kept_drop(struct kept *k, int64_t now_ns)
{
	k->dropped_ns = now_ns;
	for (size_t i = 0; i < KEPT_ANSWERS; i++)
		drop_answer(&k->answers[i]);
}
