/* SPDX-License-Identifier: Apache-2.0 */
#include "server/sightings.h"

#include <errno.h>
#include <stdlib.h>

struct sightings {
	struct registry_sighting *list;
	size_t count, capacity;
};

static int
add(struct sightings *g, const struct source_status *s)
{
	if (g->count == g->capacity) {
		size_t capacity = g->capacity > 0 ? g->capacity * 2 : 64;
		struct registry_sighting *list = realloc(g->list, capacity * sizeof *list);

		if (list == NULL)
			return -ENOMEM;
		g->list = list;
		g->capacity = capacity;
	}
	g->list[g->count++] = (struct registry_sighting){s->id, s->last_seen_ns, s->first_byte_ns};
	return 0;
}

static int
gather(struct status_table *t, struct source_status *scratch, struct sightings *g)
{
	int r = 0;

	while (r == 0 && status_next(t, &scratch->id, scratch))
		if (scratch->last_seen_ns != 0)
			r = add(g, scratch);
	return r;
}

int
sightings_keep(struct status_table *t, struct registry *r, struct hf_error *err)
{
	struct source_status *scratch = calloc(1, sizeof *scratch);
	struct sightings g = {0};
	int status = scratch != NULL ? gather(t, scratch, &g) : -ENOMEM;

	if (status == 0 && g.count > 0)
		status = registry_put_sightings(r, g.list, g.count, err);
	else if (status < 0)
		hf_error_set(err, status, "sightings");
	free(g.list);
	free(scratch);
	return status;
}
