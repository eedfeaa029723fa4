/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/shared.h"

#include <stdatomic.h>
#include <stdlib.h>

struct shared {
	atomic_uint refs;
	void *array;
};

struct shared *
shared_ref(struct shared *s)
{
	if (s != NULL)
		atomic_fetch_add(&s->refs, 1);
	return s;
}

void
shared_unref(struct shared *s)
{
	if (s == NULL || atomic_fetch_sub(&s->refs, 1) > 1)
		return;
	free(s->array);
	free(s);
}

struct shared *
shared_show(struct shared **own, void *array)
{
	if (*own == NULL) {
		struct shared *s = calloc(1, sizeof *s);

		if (s == NULL)
			return NULL;
		atomic_init(&s->refs, 1);
		s->array = array;
		*own = s;
	}
	return shared_ref(*own);
}

void
shared_drop(struct shared **own, void *array)
{
	if (*own != NULL)
		shared_unref(*own);
	else
		free(array);
	*own = NULL;
}
