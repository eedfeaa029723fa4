/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/nearest.h"

#include <stdio.h>
#include <string.h>

static size_t
least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Of two words shorter than NEAREST_BYTES, row by row; a swap looks back two rows. */
static size_t
distance(const char *a, const char *b)
{
	size_t rows[3][NEAREST_BYTES], *before = rows[0], *above = rows[1], *row = rows[2], *spare;

	for (size_t j = 0; j <= strlen(b); j++)
		above[j] = j;
	for (size_t i = 1; i <= strlen(a); i++) {
		row[0] = i;
		for (size_t j = 1; j <= strlen(b); j++) {
			row[j] = least(above[j - 1] + (a[i - 1] != b[j - 1]), least(above[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = least(row[j], before[j - 2] + 1);
		}
		spare = before;
		before = above;
		above = row;
		row = spare;
	}
	return above[strlen(b)];
}

/* One letter in three may be wrong, and one of a short word: beyond that it is another one. */
void
nearest_begin(struct nearest *n, const char *typed)
{
	*n = (struct nearest){.typed = typed, .cost = strlen(typed) < 6 ? 1 : strlen(typed) / 3};
}

void
nearest_offer(struct nearest *n, const char *word)
{
	size_t cost;

	if (strlen(n->typed) >= NEAREST_BYTES || strlen(word) >= NEAREST_BYTES)
		return;
	cost = distance(n->typed, word);
	if (cost > n->cost || (cost == n->cost && n->word[0] != '\0'))
		return;
	n->cost = cost;
	snprintf(n->word, sizeof n->word, "%s", word);
}
