/* SPDX-License-Identifier: Apache-2.0 */
/* api_kept.h: answers that many ask for, again and again, and that take long to write. One serves all who ask within a
 * quarter of a second, for a busy source publishes no more often; and for twenty times as long as it took to write
 * (a second at most), so that no fleet is so large, and no script so eager, that writing them takes more than a
 * twentieth of a processor each. Of the loop's thread. */
#ifndef HF_SERVER_API_KEPT_H
#define HF_SERVER_API_KEPT_H

#include <stdint.h>

struct evbuffer;

enum {
	KEPT_ANSWERS = 16,
	KEPT_QUESTION_BYTES = 96,
};

struct kept {
	struct kept_answer {
		char question[KEPT_QUESTION_BYTES]; /* "": none is kept here */
		struct evbuffer *body;
		const char *content_type; /* static memory */
		int http_status;
		int64_t until_ns; /* monotonic */
	} answers[KEPT_ANSWERS];
	unsigned next; /* the one that gives way to the next */
};

/* A copy (the caller's, sharing the bytes) of the answer to the question; NULL: none is kept that still holds. */
struct evbuffer *kept_find(
    struct kept *k, const char *question, int64_t now_ns, int *ret_http_status, const char **ret_content_type);

/* Keep *body, which was written from begun_ns to ended_ns, and put a copy of it in its place. Without memory it is not
 * kept. */
void kept_add(struct kept *k, const char *question, int64_t begun_ns, int64_t ended_ns, int http_status,
    const char *content_type, struct evbuffer **body);

/* All of them. */
void kept_drop(struct kept *k);

#endif
