/* SPDX-License-Identifier: Apache-2.0 */
#include "server/stages.h"

#include <string.h>

#include "proto/common/units.h"

#define SAMPLE_INTERVAL_NS (2 * NS_PER_SECOND)
#define STALE_NS           (60 * NS_PER_SECOND) /* of a gap: what was before says nothing of now */
#define BOTTLENECK_SHARE   0.2

const char *
stage_name(enum stage s)
{
	switch (s) {
	case STAGE_SOURCE: return "SOURCE_READ";
	case STAGE_TLS: return "TLS";
	case STAGE_NETWORK: return "NETWORK";
	case STAGE_THROTTLE: return "THROTTLE";
	case STAGE_WRITE: return "WRITE";
	case STAGE_SYNC: return "SYNC";
	}
	return "?";
}

static bool
falls(const struct stage_sample *from, const struct stage_sample *to)
{
	return to->agent.source_ns < from->agent.source_ns || to->agent.tls_ns < from->agent.tls_ns ||
	       to->agent.network_ns < from->agent.network_ns || to->agent.server_ns < from->agent.server_ns ||
	       to->throttle_ns < from->throttle_ns || to->sync_ns < from->sync_ns;
}

void
stages_add(struct stages *s, const struct stage_sample *sample)
{
	const struct stage_sample *last = s->count > 0 ? &s->samples[s->count - 1] : NULL;

	if (last != NULL && (falls(last, sample) || sample->at_ns - last->at_ns > STALE_NS))
		s->count = 0;
	else if (last != NULL && sample->at_ns - last->at_ns < SAMPLE_INTERVAL_NS)
		return;
	if (s->count == STAGE_SAMPLES)
		memmove(&s->samples[0], &s->samples[1], (size_t)--s->count * sizeof s->samples[0]);
	s->samples[s->count++] = *sample;
}

/* An agent may say what it likes: nothing was waited for longer than there was time. */
static double
share(uint64_t from, uint64_t to, int64_t span_ns)
{
	double part = (double)(to - from) / (double)span_ns;

	return part < 1 ? part : 1;
}

/* Moves from *shares what is known to have been something else. */
static double
take(double *share, double known)
{
	double part = *share < known ? *share : known;

	*share -= part;
	return part;
}

/* An agent of another make may not measure at all. */
static bool
measures(const struct message_waits *w)
{
	return w->source_ns > 0 || w->tls_ns > 0 || w->network_ns > 0 || w->server_ns > 0;
}

static bool
get_between(const struct stage_sample *from, const struct stage_sample *to, double ret_shares[STAGES])
{
	int64_t span_ns = to->at_ns - from->at_ns;
	double network, server, throttle, sync;

	if (span_ns <= 0 || !measures(&to->agent))
		return false;
	network = share(from->agent.network_ns, to->agent.network_ns, span_ns);
	server = share(from->agent.server_ns, to->agent.server_ns, span_ns);
	throttle = share(from->throttle_ns, to->throttle_ns, span_ns);
	sync = share(from->sync_ns, to->sync_ns, span_ns);
	ret_shares[STAGE_SOURCE] = share(from->agent.source_ns, to->agent.source_ns, span_ns);
	ret_shares[STAGE_TLS] = share(from->agent.tls_ns, to->agent.tls_ns, span_ns);
	ret_shares[STAGE_THROTTLE] = take(&network, throttle);
	ret_shares[STAGE_THROTTLE] += take(&server, throttle - ret_shares[STAGE_THROTTLE]);
	ret_shares[STAGE_NETWORK] = network;
	ret_shares[STAGE_SYNC] = take(&server, sync);
	ret_shares[STAGE_WRITE] = server;
	return true;
}

bool
stages_get(const struct stages *s, double ret_shares[STAGES])
{
	return s->count >= 2 && get_between(&s->samples[0], &s->samples[s->count - 1], ret_shares);
}

bool
stages_get_newest(const struct stages *s, double ret_shares[STAGES])
{
	return s->count >= 2 && get_between(&s->samples[s->count - 2], &s->samples[s->count - 1], ret_shares);
}

int
stages_bottleneck(const double shares[STAGES])
{
	int worst = 0;

	for (int i = 1; i < STAGES; i++)
		if (shares[i] > shares[worst])
			worst = i;
	return shares[worst] < BOTTLENECK_SHARE ? -1 : worst;
}
