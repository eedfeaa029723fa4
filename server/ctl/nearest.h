/* SPDX-License-Identifier: Apache-2.0 */
/* nearest.h: of the words there are, the one that somebody who mistyped may have meant. */
#ifndef HF_CTL_NEAREST_H
#define HF_CTL_NEAREST_H

#include <stddef.h>

enum { NEAREST_BYTES = 64 };

struct nearest {
	const char *typed;        /* borrowed */
	size_t cost;              /* of the best so far: letters added, left out, changed, or swapped with the next */
	char word[NEAREST_BYTES]; /* the best so far; "": none is near */
};

void nearest_begin(struct nearest *n, const char *typed);

/* A word that may have been meant. Of equals the first stays. */
void nearest_offer(struct nearest *n, const char *word);

#endif
