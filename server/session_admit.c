/* SPDX-License-Identifier: Apache-2.0 */
/* Who is it? Two questions to the registry, each a job on the catalog thread, because SQLite blocks:
 *
 *	after the handshake   is this certificate on our list, not revoked, not expired?
 *	after HELLO           is it the installation we know, and no older start of it than we have seen?
 *
 * Admissions are numbered by the catalog thread in the order it made them; where two sessions of one source meet, the
 * higher number is the rightful one, however their threads raced. The second question asks the first one again, so that
 * a revocation in between counts. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/identity.h"
#include "server/session_impl.h"
#include "server/source.h"

struct admission {
	struct job job;
	struct session *session;
	bool hello; /* second question */
	struct pki_peer certificate;
	unsigned char nonce[NONCE_BYTES];
	uint64_t incarnation;
	struct message_hints hints;
	uint64_t admit_number;
	unsigned ca_generation;
	int status;
	struct hf_error err;
};

static struct admission *
admission_from_job(struct job *job)
{
	return (struct admission *)job; /* its first member */
}

/* Renewed, or enrolled again, after the backup that the registry was restored from. */
static int
recover(struct admission *a, struct registry_certificate *ret_known)
{
	struct server *sv = a->session->server;
	int r = identity_recover_certificate(sv->registry, &a->certificate, &a->err);

	if (r < 0)
		return r;
	server_event(sv, &a->certificate.source, "certificate_recovered",
	    "its certificate is newer than the backup that this server's identity was restored from; it is on record "
	    "again");
	return registry_find_certificate(sv->registry, a->certificate.fingerprint, ret_known, &a->err);
}

static void
run_admission(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct admission *a = admission_from_job(job);
	struct server *sv = a->session->server;
	struct registry_certificate known;

	a->status = registry_find_certificate(sv->registry, a->certificate.fingerprint, &known, &a->err);
	if (a->status == -ENOENT)
		a->status = recover(a, &known);
	if (a->status == 0 && strcmp(known.source.text, a->certificate.source.text) != 0)
		a->status = -HF_EREVOKED; /* signed by us, but for somebody else */
	if (a->status == 0 && a->hello)
		a->status = registry_admit(sv->registry, &a->certificate.source, a->nonce, a->incarnation, &a->hints,
		    clock_real_ns(), &a->err);
	if (a->status == 0 && a->hello && known.used_ns == 0)
		a->status =
		    registry_use_certificate(sv->registry, a->certificate.fingerprint, clock_real_ns(), &a->err);
	if (a->status == 0 && a->hello)
		a->admit_number = ++sv->admit_number;
	a->ca_generation = pki_generation(sv->pki) - pki_outdates(sv->pki, a->certificate.issuer);
}

/* Tell the source's owner, so that its state says why nothing arrives. */
static void
refuse(struct session *s, int status, const char *text)
{
	char cure[SENTENCE_BYTES] = "";

	if (status == -HF_ECLONE)
		snprintf(cure, sizeof cure, "holdfastctl source adopt %s", s->certificate.source.text);
	else if (status == -HF_EREVOKED || status == -HF_EEXPIRED)
		pki_cure(&s->certificate.source, cure);
	else if (-status < HF_STATUS_FIRST)
		snprintf(cure, sizeof cure, "look at the staging disk: dmesg, smartctl");
	if (status != -HF_ESTOPPED) /* that is its state by itself */
		source_note_refusal(s->server, &s->certificate.source, status, text, cure);
	session_end(s, status, text, cure);
}

static const char *
refusal_text(const struct admission *a)
{
	switch (-a->status) {
	case HF_EREVOKED:
	case ENOENT: return "the certificate is revoked or not known here";
	case HF_ECLONE: return "another installation, or an older start of this one, claims this source";
	case HF_ESTOPPED: return hf_status_text(a->status);
	default: return a->err.text[0] != '\0' ? a->err.text : hf_status_text(a->status);
	}
}

static void
on_admission(struct job *job)
{
	struct admission *a = admission_from_job(job);
	struct session *s = a->session;

	s->jobs_out--;
	if (s->state >= SESSION_CLOSING) {
		worker_touch(s->worker); /* it may be freed now */
	} else if (a->status < 0) {
		refuse(s, a->status == -ENOENT ? -HF_EREVOKED : a->status, refusal_text(a));
	} else if (!a->hello) {
		session_enter(s, SESSION_HELLO);
		tls_want_read(s->tls, true);
	} else {
		s->admit_number = a->admit_number;
		s->ca_generation = a->ca_generation;
		source_note_hints(s->server, &s->certificate.source, &a->hints);
		session_hand_over(s);
	}
	free(a);
}

static int
ask(struct session *s, const struct message_hello *hello)
{
	struct admission *a = calloc(1, sizeof *a);

	if (a == NULL)
		return session_refuse(s, -ENOMEM, "no memory for an admission");
	a->job.run = run_admission;
	a->job.done = on_admission;
	a->job.home = s->worker->mailbox;
	a->session = s;
	a->certificate = s->certificate;
	if (hello != NULL) {
		a->hello = true;
		memcpy(a->nonce, hello->installation_nonce, sizeof a->nonce);
		a->incarnation = hello->incarnation;
		a->hints = hello->hints;
	}
	s->jobs_out++;
	jobs_post(s->server->catalog, &a->job);
	return 0;
}

void
session_authorise(struct session *s)
{
	struct hf_error err;
	int r = pki_get_peer(tls_stream_ssl(s->tls), &s->certificate, &err);

	if (r < 0) {
		session_end(s, r, err.text, "");
		return;
	}
	if (s->certificate.expired)
		refuse(s, -HF_EEXPIRED, "the agent's certificate has expired");
	else
		ask(s, NULL);
}

static int
refuse_version(struct session *s, const struct message_hello *m)
{
	char text[SENTENCE_BYTES];

	snprintf(text, sizeof text, "the agent speaks protocol versions %u to %u, this server %d to %d: upgrade the %s",
	    m->protocol_version_min, m->protocol_version, PROTOCOL_VERSION_MIN, PROTOCOL_VERSION,
	    m->protocol_version < PROTOCOL_VERSION_MIN ? "agent" : "server");
	refuse(s, -HF_EVERSION, text);
	return -ECANCELED;
}

static int
check_hello(struct session *s, const struct message_hello *m)
{
	if (m->protocol_version < PROTOCOL_VERSION_MIN || m->protocol_version_min > PROTOCOL_VERSION)
		return refuse_version(s, m);
	if (m->role != MESSAGE_ROLE_AGENT || m->stream_index != 0)
		return session_refuse(s, -HF_EPROTOCOL, "bulk streams are not spoken here");
	return 0;
}

int
session_admit(struct session *s, const struct message_hello *m)
{
	int r = check_hello(s, m);

	if (r < 0)
		return r;
	memcpy(s->hello.nonce, m->installation_nonce, sizeof s->hello.nonce);
	s->hello.incarnation = m->incarnation;
	s->hello.last_stream_id = m->last_stream_id;
	s->hello.last_acked_sequence = m->last_acked_sequence;
	s->hello.earlier = m->earlier;
	s->hello.protocol_version = m->protocol_version < PROTOCOL_VERSION ? m->protocol_version : PROTOCOL_VERSION;
	s->hello.clock_ns = m->clock_ns;
	s->hello.received_ns = clock_real_ns();
	s->hello.compressions = m->compressions;
	s->hello.features = m->features;
	tls_want_read(s->tls, false); /* until WELCOME it has nothing to say */
	session_enter(s, SESSION_ADMIT);
	return ask(s, m);
}
