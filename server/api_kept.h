/* SPDX-License-Identifier: Apache-2.0 */
/* api_kept.h: answers that many ask for, again and again, and that take long to write. One serves all who ask within a
 * quarter of a second, for a busy source publishes no more often, until a source turns (status_turns()): who has read
 * that one is Ready, or heard it, does not read in another answer that it is not. But always for twenty times as long
 * as it took to write (a second at most), so that no fleet is so large, and no script so eager, that writing them takes
 * more than a twentieth of a processor each. Of the loop's thread. */
#ifndef HF_SERVER_API_KEPT_H
#define HF_SERVER_API_KEPT_H

#include <stdint.h>

struct evbuffer;

enum {
	KEPT_ANSWERS = 16,
	KEPT_QUESTION_BYTES = 96,
};

struct kept_moment {
	int64_t at_ns;     /* monotonic; 0: never */
	int64_t worked_ns; /* that the thread had a processor until then */
	uint64_t turns;    /* of all sources until then */
};

struct kept {
	struct kept_answer {
		char question[KEPT_QUESTION_BYTES]; /* "": none is kept here */
		struct evbuffer *body;
		const char *content_type; /* static memory */
		int http_status;
		uint64_t turns;
		int64_t until_ns, until_turned_ns; /* monotonic: in any case; unless a source turns */
	} answers[KEPT_ANSWERS];
	unsigned next;      /* the one that gives way to the next */
	int64_t dropped_ns; /* monotonic: what was begun before may be out of date */
};

/* A copy (the caller's, sharing the bytes) of the answer to the question; NULL: none is kept that still holds. */
struct evbuffer *kept_find(struct kept *k, const char *question, const struct kept_moment *now, int *ret_http_status,
    const char **ret_content_type);

/* Keep *body, which was written from begun on, for worked_ns, and put a copy of it in its place. Without memory it is
 * not kept, nor when all were dropped since it was begun. */
void kept_add(struct kept *k, const char *question, const struct kept_moment *begun, int64_t worked_ns, int http_status,
    const char *content_type, struct evbuffer **body);

/* All of them, and those that are being written. */
void kept_drop(struct kept *k, int64_t now_ns);

#endif
