/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/run_parity.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* As many groups as there may be are kept: those of which two make one in a shorter run are added at the end. */
struct run_parity {
	bool used[RUN_PARITY_PAGES_MAX];
	unsigned char pages[RUN_PARITY_PAGES_MAX][RUN_PAGE_BYTES];
};

uint64_t
run_parity_pages(uint64_t pages)
{
	uint64_t n = 1;

	while (n < RUN_PARITY_PAGES_MAX && n * RUN_PARITY_GROUP_PAGES < pages)
		n *= 2;
	return n;
}

void
run_parity_xor(unsigned char *to, const unsigned char *page)
{
	for (size_t i = 0; i < RUN_PAGE_KIND_AT; i++)
		to[i] ^= page[i];
}

struct run_parity *
run_parity_create(void)
{
	struct run_parity *p = malloc(sizeof *p); /* pages are written before they are read */

	if (p != NULL)
		memset(p->used, 0, sizeof p->used);
	return p;
}

void
run_parity_add(struct run_parity *p, uint64_t index, const unsigned char *page)
{
	size_t group = index % RUN_PARITY_PAGES_MAX;

	if (p->used[group])
		run_parity_xor(p->pages[group], page);
	else
		memcpy(p->pages[group], page, RUN_PAGE_BYTES);
	p->used[group] = true;
}

void
run_parity_get(const struct run_parity *p, uint64_t n, uint64_t k, unsigned char *ret_page)
{
	assert(n <= RUN_PARITY_PAGES_MAX && k < n);
	memset(ret_page, 0, RUN_PAGE_BYTES);
	for (uint64_t group = k; group < RUN_PARITY_PAGES_MAX; group += n)
		if (p->used[group])
			run_parity_xor(ret_page, p->pages[group]);
}

void
run_parity_destroy(struct run_parity *p)
{
	free(p);
}
