/* SPDX-License-Identifier: Apache-2.0 */
#include "server/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/cure.h"

/* All data is read within the freeze: see agent/frozen.c. */
#define FREEZE_CURE                                                                                        \
	"holdfast-agent run --freeze MOUNTPOINT on the source, with --freeze-timeout long enough to read " \
	"its disks; or let them rest for two passes"

#define DAMAGE_CURE                                                                                               \
	"holdfastctl scrub status; it heals while the source still has these blocks, and the disk wants a look: " \
	"smartctl"

#define NETWORK_REASON \
	"sessions with the agent were lost again and again within ten minutes, though it and this server ran on"
#define NETWORK_CURE                                                                                                \
	"look at the path between source and server: a link that flaps, packet loss (mtr), a firewall or NAT that " \
	"drops connections"

/* ---- what may be the case ---- */

static bool
is_deleting(const struct state_facts *f)
{
	return f->deleting;
}

static bool
is_stopped(const struct state_facts *f)
{
	return f->stopped;
}

static bool
is_paused(const struct state_facts *f)
{
	return f->paused;
}

static bool
store_damaged(const struct state_facts *f)
{
	return f->store_status == -HF_ECORRUPT || f->store_status == -HF_EDIGEST;
}

static bool
too_many_files(const struct state_facts *f)
{
	return f->store_status == -EMFILE || f->store_status == -ENFILE;
}

static bool
store_unusable(const struct state_facts *f)
{
	return f->store_status < 0;
}

static bool
is_clone(const struct state_facts *f)
{
	return !f->connected && f->refused == -HF_ECLONE;
}

static bool
is_expired(const struct state_facts *f)
{
	return !f->connected && f->refused == -HF_EEXPIRED;
}

static bool
is_revoked(const struct state_facts *f)
{
	return !f->connected && f->refused == -HF_EREVOKED;
}

static bool
is_refused(const struct state_facts *f)
{
	return !f->connected && f->refused < 0;
}

static bool
is_opening(const struct state_facts *f)
{
	return f->opening;
}

static bool
never_seen(const struct state_facts *f)
{
	return !f->connected && !f->ever_connected;
}

static bool
is_cut_off(const struct state_facts *f)
{
	return !f->connected && f->network_unstable;
}

static bool
not_seen(const struct state_facts *f)
{
	return !f->connected;
}

static bool
has_bad_volume(const struct state_facts *f)
{
	return f->bad_volume[0] != '\0';
}

static bool
is_full(const struct state_facts *f)
{
	return f->staging_full;
}

static bool
is_disk_silent(const struct state_facts *f)
{
	return f->disk_silent;
}

static bool
is_over_quota(const struct state_facts *f)
{
	return f->staging_full && f->over_quota;
}

static bool
read_back_failed(const struct state_facts *f)
{
	return f->verify_status < 0;
}

static bool
no_volumes(const struct state_facts *f)
{
	return f->volumes == 0;
}

static bool
is_filling(const struct state_facts *f)
{
	return f->volumes_filled < f->volumes;
}

static bool
has_gone_back(const struct state_facts *f)
{
	return f->went_back;
}

static bool
is_rescanning(const struct state_facts *f)
{
	return f->activity == ACTIVITY_RESCAN;
}

static bool
only_fuzzy(const struct state_facts *f)
{
	return !f->has_consistent && f->has_checkpoint;
}

static bool
no_point_yet(const struct state_facts *f)
{
	return !f->has_consistent;
}

static bool
is_behind(const struct state_facts *f)
{
	return f->backlog_bytes > 0 && f->lag_ns > CATCH_UP_LATE_NS;
}

/* Nothing is known to wait, because nobody has looked: a long pass, or a disk that does not answer. */
static bool
is_late(const struct state_facts *f)
{
	return f->lag_ns > CATCH_UP_LATE_NS + f->heartbeat_interval_ns;
}

static bool
falls_behind(const struct state_facts *f)
{
	return is_behind(f) && f->never_converges;
}

static bool
always(const struct state_facts *f)
{
	return true;
}

/* ---- the table: the first line that holds is the state ---- */

enum detail { DETAIL_NONE, DETAIL_STORE, DETAIL_REFUSED, DETAIL_VOLUME, DETAIL_VERIFY, DETAIL_STAGE, DETAIL_NETWORK };

static const struct rule {
	bool (*holds)(const struct state_facts *f);
	enum replication_state state;
	const char *error;  /* "" = none */
	enum detail detail; /* where raw_error comes from */
	const char *reason;
	const char *cure;
} rules[] = {
    {is_deleting, STATE_STOPPED, "", DETAIL_STORE, "the source is being deleted", ""},
    {is_opening, STATE_INITIATING, "", DETAIL_NONE, "the server is opening this source's data", ""},
    {store_damaged, STATE_STALLED, "INTEGRITY_ERROR", DETAIL_STORE, "this source's data on the server is damaged", ""},
    {too_many_files, STATE_STALLED, "STAGING_IO_ERROR", DETAIL_STORE, "the server may open no more files",
	"raise LimitNOFILE (systemctl edit holdfastd), then restart it"},
    {store_unusable, STATE_STALLED, "STAGING_IO_ERROR", DETAIL_STORE, "the staging area cannot be used for this source",
	"look at the staging disk: dmesg, smartctl"},
    {is_stopped, STATE_STOPPED, "", DETAIL_NONE,
	"replication was stopped by an administrator; all its points in time stay", "holdfastctl source start SOURCE"},
    {is_clone, STATE_STALLED, "IDENTITY_CLONE", DETAIL_REFUSED,
	"another installation, or an older start of this one, claims this source", ""},
    {is_expired, STATE_DISCONNECTED, "CERTIFICATE_EXPIRED", DETAIL_REFUSED, "the agent's certificate has expired", ""},
    {is_revoked, STATE_DISCONNECTED, "CERTIFICATE_REVOKED", DETAIL_REFUSED, "the agent's certificate was revoked", ""},
    {is_refused, STATE_DISCONNECTED, "AGENT_REFUSED", DETAIL_REFUSED, "the agent was refused", ""},
    {never_seen, STATE_INITIATING, "", DETAIL_NONE, "enrolled; the agent has not connected yet",
	"holdfast-agent run on the source"},
    {is_cut_off, STATE_DISCONNECTED, "UNSTABLE_NETWORK", DETAIL_NETWORK, "the agent is not connected", NETWORK_CURE},
    {not_seen, STATE_DISCONNECTED, "AGENT_NOT_SEEN", DETAIL_NONE, "the agent is not connected",
	"look at the agent on the source: holdfast-agent status"},
    {is_paused, STATE_PAUSED, "", DETAIL_NONE,
	"replication was paused by an administrator: the agent stays connected, nothing is taken, all points in time "
	"stay",
	"holdfastctl source resume SOURCE"},
    {has_bad_volume, STATE_STALLED, "DISK_IDENTITY", DETAIL_VOLUME, "a volume cannot be replicated",
	"look at its disk on the source: holdfast-agent status, and holdfast-agent list-disks"},
    {is_over_quota, STATE_STALLED, "QUOTA_REACHED", DETAIL_NONE,
	"the source takes as much of the staging area as it may",
	"holdfastctl quota set SOURCE SIZE, with more; or delete points, or shorten retention; replication goes on by "
	"itself"},
    {is_full, STATE_STALLED, "STAGING_FULL", DETAIL_NONE, "the staging area has too little free space",
	"free space in the staging area, or shorten retention (holdfastctl status says what gives most); replication "
	"goes on by itself"},
    {is_disk_silent, STATE_STALLED, "STAGING_IO_ERROR", DETAIL_NONE, "the staging disk does not answer",
	"look at the staging disk, its controller and the path to it: dmesg; replication goes on by itself when it "
	"answers"},
    {read_back_failed, STATE_STALLED, "INTEGRITY_ERROR", DETAIL_VERIFY,
	"the newest point in time could not be read back", ""},
    {no_volumes, STATE_INITIATING, "", DETAIL_NONE, "connected; no volume is declared yet", ""},
    {has_gone_back, STATE_RESCAN, "STAGING_WENT_BACK", DETAIL_NONE,
	"the staging area is older than what was acknowledged once: all blocks are compared before there is a new "
	"point",
	"was the data directory put back from a backup? then nothing need be done; else look at the staging disk"},
    {is_filling, STATE_INITIAL_SYNC, "", DETAIL_NONE, "the first copy is under way", ""},
    {is_rescanning, STATE_RESCAN, "", DETAIL_NONE, "the agent compares all blocks with the server", ""},
    {only_fuzzy, STATE_CREATING_SNAPSHOT, "NO_CONSISTENT_POINT", DETAIL_NONE,
	"the disks changed during every pass so far, so no point in time is consistent", FREEZE_CURE},
    {no_point_yet, STATE_CREATING_SNAPSHOT, "", DETAIL_NONE, "waiting for the first consistent point in time", ""},
    {falls_behind, STATE_BACKLOG, "NOT_CONVERGING", DETAIL_STAGE, "more is written at the source than arrives",
	"holdfastctl source show SOURCE names what holds it up: give it more of that, or write less"},
    {is_behind, STATE_BACKLOG, "", DETAIL_STAGE, "changes wait at the source", ""},
    {is_late, STATE_CONTINUOUS, "", DETAIL_STAGE,
	"the agent has not come through its disks for more than half a minute", ""},
    {always, STATE_CONTINUOUS, "", DETAIL_NONE, "changes arrive as they are found", ""},
};

/* What there is only here, in DRS's words: a point that cannot be kept is a snapshot that fails, an agent that is not
 * let in was not paired. All others have the same name there. */
static const struct {
	const char *error, *drs;
} drs_errors[] = {
    {"STAGING_FULL", "SNAPSHOTS_FAILURE"},
    {"QUOTA_REACHED", "SNAPSHOTS_FAILURE"},
    {"STAGING_IO_ERROR", "SNAPSHOTS_FAILURE"},
    {"STAGING_WENT_BACK", "SNAPSHOTS_FAILURE"},
    {"INTEGRITY_ERROR", "SNAPSHOTS_FAILURE"},
    {"NO_CONSISTENT_POINT", "SNAPSHOTS_FAILURE"},
    {"CERTIFICATE_EXPIRED", "FAILED_TO_AUTHENTICATE_WITH_SERVICE"},
    {"CERTIFICATE_REVOKED", "FAILED_TO_AUTHENTICATE_WITH_SERVICE"},
    {"IDENTITY_CLONE", "FAILED_TO_PAIR_REPLICATION_SERVER_WITH_AGENT"},
    {"AGENT_REFUSED", "FAILED_TO_PAIR_REPLICATION_SERVER_WITH_AGENT"},
    {"DISK_IDENTITY", "FAILED_TO_ATTACH_STAGING_DISKS"},
};

const char *
state_drs_error(const char *error)
{
	for (size_t i = 0; i < sizeof drs_errors / sizeof drs_errors[0]; i++)
		if (strcmp(drs_errors[i].error, error) == 0)
			return drs_errors[i].drs;
	return error;
}

static const char *const stage_texts[STAGES] = {
    [STAGE_SOURCE] = "what is to be sent waits mostly for its disks to be read",
    [STAGE_TLS] = "what is to be sent waits mostly for the agent's encryption",
    [STAGE_NETWORK] = "what is to be sent waits mostly for the network",
    [STAGE_THROTTLE] = "what is to be sent waits mostly for the throttle",
    [STAGE_WRITE] = "what is to be sent waits mostly for the staging disk to be written",
    [STAGE_SYNC] = "what is to be sent waits mostly for the staging disk's syncs",
};

static const char *
detail_text(const struct state_facts *f, enum detail detail)
{
	switch (detail) {
	case DETAIL_NONE: return "";
	case DETAIL_STORE: return f->store_text;
	case DETAIL_REFUSED: return f->refused_text;
	case DETAIL_VOLUME: return f->bad_volume;
	case DETAIL_VERIFY: return f->verify_text;
	case DETAIL_STAGE: return f->bottleneck < 0 ? "" : stage_texts[f->bottleneck];
	case DETAIL_NETWORK: return NETWORK_REASON;
	}
	return "";
}

static void
copy_text(char *ret, const char *text)
{
	snprintf(ret, SENTENCE_BYTES, "%s", text);
}

/* A refusal is told even while the rightful agent streams: a clone does not stop replication, but somebody must know.
 */
static void
add_refusal(const struct state_facts *f, struct state_verdict *v)
{
	if (f->refused != -HF_ECLONE || v->error[0] != '\0')
		return;
	snprintf(v->error, sizeof v->error, "IDENTITY_CLONE");
	copy_text(v->raw_error, f->refused_text);
	copy_text(v->cure, f->refused_cure);
}

/* Replication goes on beside it. */
static void
add_damage(const struct state_facts *f, struct state_verdict *v)
{
	if (f->damage_text[0] == '\0' || v->error[0] != '\0')
		return;
	snprintf(v->error, sizeof v->error, "INTEGRITY_ERROR");
	copy_text(v->raw_error, f->damage_text);
	copy_text(v->cure, DAMAGE_CURE);
}

/* So is this: between two losses all goes on. */
static void
add_network(const struct state_facts *f, struct state_verdict *v)
{
	if (!f->network_unstable || v->error[0] != '\0')
		return;
	snprintf(v->error, sizeof v->error, "UNSTABLE_NETWORK");
	copy_text(v->raw_error, NETWORK_REASON);
	copy_text(v->cure, NETWORK_CURE);
}

static void
set_state(const struct state_facts *f, const struct rule *rule, struct state_verdict *v)
{
	const char *detail = detail_text(f, rule->detail);

	v->state = rule->state;
	if (detail[0] != '\0' && strcmp(detail, rule->reason) != 0) /* the same words once */
		snprintf(v->reason, sizeof v->reason, "%s: %.400s", rule->reason, detail);
	else
		copy_text(v->reason, rule->reason);
	snprintf(v->error, sizeof v->error, "%s", rule->error);
	copy_text(v->raw_error, rule->error[0] != '\0' && detail[0] == '\0' ? rule->reason : detail);
	cure_name_source(
	    rule->detail == DETAIL_REFUSED ? f->refused_cure : rule->cure, &f->source, v->cure, sizeof v->cure);
}

/* ---- Ready ---- */

static void
add_reason(struct state_verdict *v, const char *code, const char *text, const char *cure)
{
	struct status_reason *r;

	if (v->reason_count == STATUS_REASONS_MAX)
		return;
	r = &v->reasons[v->reason_count++];
	snprintf(r->code, sizeof r->code, "%s", code);
	copy_text(r->text, text);
	copy_text(r->cure, cure);
}

static void
add_fill_reason(const struct state_facts *f, struct state_verdict *v)
{
	char text[SENTENCE_BYTES];
	unsigned percent = 0;

	if (f->total_bytes > 0)
		percent = (unsigned)((double)f->replicated_bytes * 100 / (double)f->total_bytes);
	snprintf(text, sizeof text, "the first copy is at %u %%: %zu of %zu volumes are complete", percent,
	    f->volumes_filled, f->volumes);
	add_reason(v, "INITIAL_SYNC", text, "");
}

static void
add_point_reason(const struct state_facts *f, struct state_verdict *v)
{
	if (is_filling(f))
		add_fill_reason(f, v);
	else if (f->volumes == 0)
		add_reason(v, "NO_CONSISTENT_POINT", "no volume has been declared yet", "");
	else if (only_fuzzy(f))
		add_reason(v, "NO_CONSISTENT_POINT",
		    "every point so far is fuzzy: the disks changed while they were read", FREEZE_CURE);
	else
		add_reason(v, "NO_CONSISTENT_POINT", "no point in time is complete yet", "");
}

static void
set_ready(const struct state_facts *f, struct state_verdict *v)
{
	if (f->deleting)
		add_reason(v, "DELETING", "the source is being deleted", "");
	else if (f->opening)
		add_reason(v, "OPENING", "the server is opening this source's data", "");
	else if (f->store_status < 0)
		add_reason(v, v->error, f->store_text, v->cure);
	else if (!f->has_consistent)
		add_point_reason(f, v);
	else if (f->verify_status < 0)
		add_reason(v, "INTEGRITY_ERROR", f->verify_text, "");
	else if (f->newest_damaged)
		add_reason(v, "INTEGRITY_ERROR", f->damage_text, DAMAGE_CURE);
	else if (!f->verified)
		add_reason(v, "NOT_VERIFIED", "the newest point in time is being read back", "");
	v->ready = v->reason_count == 0;
	/* What keeps the first point from ever coming belongs to the answer. */
	if (!v->ready && !f->has_consistent && f->store_status == 0 && v->error[0] != '\0' &&
	    strcmp(v->error, v->reasons[0].code) != 0)
		add_reason(v, v->error, v->reason, v->cure);
	if (!v->ready && !f->has_consistent && never_seen(f) && !f->opening && f->store_status == 0)
		add_reason(v, "AGENT_NOT_SEEN", "the agent has never connected", "holdfast-agent run on the source");
}

void
state_evaluate(const struct state_facts *f, struct state_verdict *ret_verdict)
{
	const struct rule *rule = rules;

	memset(ret_verdict, 0, sizeof *ret_verdict);
	while (!rule->holds(f))
		rule++;
	set_state(f, rule, ret_verdict);
	add_refusal(f, ret_verdict);
	add_damage(f, ret_verdict);
	add_network(f, ret_verdict);
	set_ready(f, ret_verdict);
}
