/* SPDX-License-Identifier: Apache-2.0 */
/* dial.c: the link's thread: the servers in turn, one session after the other, and how long to wait
 * between. */
#include "agent/session.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "agent/tls.h"
#include "proto/common/log.h"
#include "proto/common/status.h"

#define RETRY_FIRST_NS (200 * NS_PER_MS)
#define LEAST_PAUSE_NS (200 * NS_PER_MS)

/* After a renewal the files hold a new certificate. If they cannot be read, the old one serves
 * until it expires. */
static void
refresh_context(struct link *l)
{
	struct hf_error err;
	SSL_CTX *fresh;

	if (!l->context_stale)
		return;
	l->context_stale = false;
	if (tls_context_create(l->key_path, l->certificate_path, l->ca_path, &fresh, &err) < 0) {
		log_err("renewed_certificate_unusable", "msg=\"%s\"", err.text);
		return;
	}
	SSL_CTX_free(l->context);
	l->context = fresh;
}

/* Try every socket address of one server until a session came about. */
static struct session_outcome
visit(struct link *l, const struct address *server, int failures)
{
	struct address_resolved to[ADDRESS_RESOLVED_MAX];
	char text[ADDRESS_TEXT_BYTES];
	struct session_outcome o = {0};
	struct hf_error err;
	int n;

	pthread_mutex_lock(&l->lock);
	snprintf(l->status.server, sizeof l->status.server, "%.*s", NAME_BYTES - 1, address_format(server, text));
	pthread_mutex_unlock(&l->lock);
	n = address_resolve(server, to, &err);
	if (n < 0) {
		link_note_failure(l, &err, false);
		o.code = n;
	}
	for (int i = 0; i < n && !o.answered && !atomic_load(&l->stopping); i++)
		o = session_run(l, &to[i], failures);
	return o;
}

static int64_t
random_below(int64_t ns)
{
	uint32_t random;

	random_bytes(&random, sizeof random);
	return (int64_t)((double)ns * random / UINT32_MAX);
}

/* How long after the last try the next shall begin. A path that is down is probed every second, for
 * its return must be noticed within two, and a SYN costs little; a server that answers and fails is
 * given air; one that refused us for a reason only an administrator can remove is asked twice a
 * minute. */
static int64_t
retry_after(const struct session_outcome *o, int failures)
{
	int64_t most_ns = o->answered ? 5 * NS_PER_SECOND : NS_PER_SECOND;
	int64_t wait_ns = RETRY_FIRST_NS << (failures < 8 ? failures : 8);

	switch (-o->code) {
	case HF_ECLONE:
	case HF_EREVOKED:
	case HF_EEXPIRED:
	case HF_EVERSION: return 30 * NS_PER_SECOND;
	case HF_ESTOPPED: return 10 * NS_PER_SECOND; /* on purpose; whoever starts it again wants to see it go */
	default: return wait_ns < most_ns ? wait_ns : most_ns;
	}
}

/* Wait until about wait_ns (+-50 %) after began_ns, but always a moment: when a server stops, all
 * its agents are cut at once. */
static void
pause_since(struct link *l, int64_t began_ns, int64_t wait_ns)
{
	int64_t until_ns = began_ns + wait_ns / 2 + random_below(wait_ns);
	int64_t least_ns = clock_monotonic_ns() + random_below(LEAST_PAUSE_NS);

	if (until_ns < least_ns)
		until_ns = least_ns;
	while (!atomic_load(&l->stopping) && clock_monotonic_ns() < until_ns) {
		struct pollfd p = {.fd = l->wake_fd, .events = POLLIN};
		uint64_t count;

		(void)poll(&p, 1, (int)((until_ns - clock_monotonic_ns()) / NS_PER_MS) + 1);
		(void)!read(l->wake_fd, &count, sizeof count); /* EAGAIN: nothing was noted */
	}
}

void *
link_thread(void *arg)
{
	struct link *l = arg;
	size_t server = 0;
	int failures = 0;

	while (!atomic_load(&l->stopping)) {
		int64_t began_ns = clock_monotonic_ns();
		struct session_outcome o;

		refresh_context(l);
		o = visit(l, &l->servers[server], failures);
		if (!o.welcomed)
			server = (server + 1) % l->server_count;
		if (o.progressed)
			failures = 0;
		pause_since(l, began_ns, retry_after(&o, failures++));
	}
	pthread_mutex_lock(&l->lock);
	retained_free_all(&l->trash);
	link_changed(l);
	pthread_mutex_unlock(&l->lock);
	return NULL;
}
