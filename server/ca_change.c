/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ca_change.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum standing { NEEDS_NONE, WAITS, MOVED };

/* It is known that the agent trusts the next CA when it has shown a certificate of it: it stored the CA first. */
static enum standing
standing_of(const struct registry_certificate *c, const char *next_fingerprint, int64_t now_ns)
{
	if (c->revoked || c->not_after_ns <= now_ns)
		return NEEDS_NONE;
	return c->used_ns != 0 && strcmp(c->issuer, next_fingerprint) == 0 ? MOVED : WAITS;
}

static void
note(struct ca_change *change, const struct registry_source *source, enum standing standing)
{
	if (standing == MOVED)
		change->moved++;
	if (standing != WAITS)
		return;
	if (change->waiting < CA_WAITING_MAX) {
		change->list[change->waiting].source = source->id;
		snprintf(change->list[change->waiting].hostname, NAME_BYTES, "%s", source->hints.hostname);
	}
	change->waiting++;
}

/* Both lists are in the order of the sources' ids. */
static void
count(struct ca_change *change, const struct registry_source *sources, size_t source_count,
    const struct registry_certificate *list, size_t n, const char *next_fingerprint, int64_t now_ns)
{
	size_t at = 0;

	for (size_t i = 0; i < source_count; i++) {
		enum standing best = NEEDS_NONE;

		while (at < n && strcmp(list[at].source.text, sources[i].id.text) < 0)
			at++; /* of no source: it is being deleted */
		for (; at < n && strcmp(list[at].source.text, sources[i].id.text) == 0; at++) {
			enum standing s = standing_of(&list[at], next_fingerprint, now_ns);

			best = s > best ? s : best;
		}
		if (sources[i].phase != PHASE_DELETING)
			note(change, &sources[i], best);
	}
}

int
ca_change_look(struct registry *registry, const char *next_fingerprint, int64_t now_ns, struct ca_change *ret_change,
    struct hf_error *err)
{
	struct registry_certificate *list = NULL;
	struct registry_source *sources = NULL;
	size_t n = 0, source_count = 0;
	int r = registry_list_certificates(registry, now_ns, &list, &n, err);

	if (r == 0)
		r = registry_list_sources(registry, &sources, &source_count, err);
	if (r == 0) {
		memset(ret_change, 0, sizeof *ret_change);
		count(ret_change, sources, source_count, list, n, next_fingerprint, now_ns);
	}
	free(list);
	free(sources);
	return r;
}
