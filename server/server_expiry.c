/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing is kept of what was told: it is what came to pass between the last look and this one. After a start
 * everything that holds is told again, for whoever began to listen with it. */
#include <stdlib.h>
#include <string.h>

#include "proto/common/log.h"
#include "proto/common/units.h"
#include "server/expiry.h"
#include "server/pki.h"
#include "server/server.h"

struct look {
	struct server *server;
	int64_t told_ns, now_ns;
};

/* NEAR or OVER, and not told yet; else FAR. */
static enum expiry
news_of(const struct look *l, int64_t not_before_ns, int64_t not_after_ns)
{
	int64_t since_ns;
	enum expiry e = expiry_of(not_before_ns, not_after_ns, l->now_ns, &since_ns);

	return since_ns > l->told_ns ? e : EXPIRY_FAR;
}

static void
look_at_source(const struct look *l, const struct registry_source *source, const struct registry_certificate *c)
{
	char until[UNITS_TEXT_BYTES];

	time_format(c->not_after_ns, until);
	switch (news_of(l, c->not_before_ns, c->not_after_ns)) {
	case EXPIRY_FAR: return;
	case EXPIRY_NEAR:
		server_event(l->server, &c->source, "certificate_expiring",
		    "the certificate of %s expires at %s; it is renewed when its agent connects before that",
		    source->hints.hostname, until);
		return;
	case EXPIRY_OVER:
		server_event(l->server, &c->source, "certificate_expired",
		    "the certificate of %s expired at %s: its agent is refused until it is enrolled again: holdfastctl "
		    "token "
		    "create --source %s",
		    source->hints.hostname, until, c->source.text);
		return;
	}
}

static int
compare_id(const void *id, const void *source)
{
	return strcmp(((const struct id *)id)->text, ((const struct registry_source *)source)->id.text);
}

static bool
comes_again(const struct registry_source *s)
{
	return s->phase == PHASE_ACTIVE || s->phase == PHASE_PAUSED;
}

/* The newest of each source: the last of its own in the list. */
static void
look_at_newest(const struct look *l, const struct registry_certificate *list, size_t count,
    const struct registry_source *sources, size_t source_count)
{
	for (size_t i = 0; i < count; i++) {
		bool newest = i + 1 == count || strcmp(list[i].source.text, list[i + 1].source.text) != 0;
		const struct registry_source *s =
		    source_count == 0 ? NULL
				      : bsearch(&list[i].source, sources, source_count, sizeof *sources, compare_id);

		if (newest && !list[i].revoked && s != NULL && comes_again(s))
			look_at_source(l, s, &list[i]);
	}
}

static int
look_at_sources(const struct look *l, struct hf_error *err)
{
	struct registry *registry = l->server->registry;
	struct registry_certificate *list = NULL;
	struct registry_source *sources = NULL;
	size_t count = 0, source_count = 0;
	int r = registry_list_certificates(registry, l->now_ns, &list, &count, err);

	if (r == 0)
		r = registry_list_sources(registry, &sources, &source_count, err);
	if (r == 0)
		look_at_newest(l, list, count, sources, source_count);
	free(list);
	free(sources);
	return r;
}

static void
look_at_ca(const struct look *l)
{
	char until[UNITS_TEXT_BYTES];
	struct pki_certificate ca;

	(void)pki_describe(l->server->pki, PKI_CA, &ca);
	if (news_of(l, ca.not_before_ns, ca.not_after_ns) == EXPIRY_NEAR)
		server_event(l->server, NULL, "ca_expiring", "%s, which every agent trusts, expires at %s", ca.subject,
		    time_format(ca.not_after_ns, until));
}

void
server_tell_expiry(struct server *sv, int64_t told_ns, int64_t now_ns)
{
	struct look l = {.server = sv, .told_ns = told_ns, .now_ns = now_ns};
	struct hf_error err;

	look_at_ca(&l);
	if (look_at_sources(&l, &err) < 0)
		log_warning("certificates_not_read", "msg=\"%s\"", err.text);
}
