/* SPDX-License-Identifier: Apache-2.0 */
/* What the server looks at again and again: its disks, its certificates, the backup of its identity; and what it keeps
 * of what it knows. All of it may block, so the catalog thread does it. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/identity.h"
#include "server/server.h"
#include "server/sightings.h"

/* ---- space ---- */

/* What changed since the last events. */
static void
tell_space(struct server *sv, struct area *a, struct area_facts *told)
{
	const struct area_facts was = *told;
	char left[UNITS_TEXT_BYTES], total[UNITS_TEXT_BYTES], text[SENTENCE_BYTES];
	bool full;

	area_get(a, told);
	full = told->level == SPACE_FULL;
	snprintf(text, sizeof text, "%s free of %s in %s", size_format(told->free_bytes, left),
	    size_format(told->total_bytes, total), area_path(a));
	if (was.low != told->low)
		server_event(sv, NULL, told->low ? "space_low" : "space_enough", "%s", text);
	if ((was.level == SPACE_FULL) != full)
		server_event(sv, NULL, full ? "staging_full" : "staging_room", "%s%s", text,
		    full ? ": nothing more is taken, and agents wait; what is acknowledged is safe" : "");
	if (was.held_bytes >= was.reserve_bytes && told->held_bytes < told->reserve_bytes)
		server_event(sv, NULL, "reserve_released", "%s: maintenance works in the reserve", text);
}

static void
look_at_areas(struct server *sv)
{
	for (int i = 0; i < AREAS; i++)
		if (sv->areas[i] != NULL && area_measure(sv->areas[i], clock_monotonic_ns()) == 0)
			tell_space(sv, sv->areas[i], &sv->areas_told[i]);
}

/* ---- the identity's backup ---- */

void
server_look_at_backup(struct server *sv)
{
	struct identity_backup backup;
	struct hf_error err;

	if (identity_look(sv->registry, sv->pki, &backup, &err) < 0)
		return;
	atomic_store(&sv->backup_taken_ns, backup.taken_ns);
	atomic_store(&sv->backup_unsaved_ns, backup.unsaved_ns);
}

/* ---- all of it ---- */

struct upkeep_job {
	struct job job;
	struct server *server;
	bool look_at_certificates, minute;
	int renewed;
	struct hf_error err;
};

/* Whatever was measured, there was no room for them. */
static void
settle_ledger(struct server *sv)
{
	struct hf_error err;

	if (ledger_settle(sv->ledger, &err) == -HF_EFULL)
		area_tell_full(sv->areas[AREA_DATA]);
}

static void
look_at_certificates(struct upkeep_job *u)
{
	struct server *sv = u->server;
	int64_t now_ns = clock_real_ns();

	u->renewed = pki_renew(sv->pki, false, now_ns, &u->err);
	server_tell_expiry(sv, sv->expiry_told_ns, now_ns);
	sv->expiry_told_ns = now_ns;
}

void
server_keep_registry(struct server *sv)
{
	struct hf_error err;

	if (sightings_keep(sv->status, sv->registry, &err) < 0)
		log_warning("sightings_not_kept", "msg=\"%s\"", err.text);
	if (registry_write_copy(sv->registry, &err) < 0)
		log_warning("registry_not_copied", "msg=\"%s\"", err.text);
}

static void
run_upkeep(struct job *job, struct disk *d, struct run_cache *cache)
{
	struct upkeep_job *u = (struct upkeep_job *)job;

	look_at_areas(u->server);
	settle_ledger(u->server);
	server_look_at_backup(u->server);
	if (u->minute)
		server_keep_registry(u->server);
	if (u->look_at_certificates)
		look_at_certificates(u);
}

/* One just made, or one that failed to be put to use when it was: else they would go on with the old until it expires.
 */
static void
use_new_certificate(struct upkeep_job *u)
{
	struct server *sv = u->server;
	bool again = u->look_at_certificates && sv->certificate_unused;

	if ((u->renewed > 0 || again) && !sv->draining && server_use_certificate(sv, &u->err) == 0)
		server_event(sv, NULL, "server_certificate_renewed", "new connections use it");
}

static void
on_upkeep(struct job *job)
{
	struct upkeep_job *u = (struct upkeep_job *)job;
	struct server *sv = u->server;

	sv->staging_asked = false;
	if (u->renewed < 0)
		server_event(sv, NULL, "server_certificate_not_renewed", "%s", u->err.text);
	use_new_certificate(u);
	free(u);
	server_answered(sv);
}

#define CERTIFICATES_LOOK_NS (3600 * NS_PER_SECOND)
#define REGISTRY_KEEP_NS     (60 * NS_PER_SECOND)

/* Often enough for the shortest of them. */
static int64_t
look_interval_ns(const struct server *sv)
{
	int64_t ns = sv->config->certificate_lifetime_ns / 20;

	return ns < CERTIFICATES_LOOK_NS ? ns : CERTIFICATES_LOOK_NS;
}

/* By the clock that certificates end by: a machine that slept, or whose clock is set, has none of the hour between. */
static bool
certificates_are_due(struct server *sv)
{
	int64_t now_ns = clock_real_ns(), passed_ns = now_ns - sv->certificates_looked_ns;

	if (passed_ns >= 0 && passed_ns < look_interval_ns(sv))
		return false;
	sv->certificates_looked_ns = now_ns;
	return true;
}

void
server_keep_up(struct server *sv)
{
	struct upkeep_job *u;
	int64_t now = clock_monotonic_ns();

	if (sv->staging_asked || sv->draining)
		return; /* a file system that does not answer stalls the catalog thread, not us */
	u = calloc(1, sizeof *u);
	if (u == NULL)
		return;
	u->job.run = run_upkeep;
	u->job.done = on_upkeep;
	u->job.home = sv->mailbox;
	u->server = sv;
	u->look_at_certificates = certificates_are_due(sv);
	u->minute = now - sv->registry_kept_ns > REGISTRY_KEEP_NS;
	if (u->minute)
		sv->registry_kept_ns = now;
	sv->staging_asked = true;
	sv->answers_out++;
	jobs_post(sv->catalog, &u->job);
}
