/* SPDX-License-Identifier: Apache-2.0 */
/* fake_commands.h: server/command.h, export.h and server_facts.h without workers or storage: two sources, points made
 * in memory, volumes whose every byte is a function of its offset. Registry and status table are the real ones.
 * Included by test_api.c alone, so that the control sockets and holdfastctl can be tried without a daemon. */
#ifndef HF_TESTS_FAKE_COMMANDS_H
#define HF_TESTS_FAKE_COMMANDS_H

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/command.h"
#include "server/export.h"
#include "server/ledger.h"
#include "server/news.h"
#include "server/reload.h"
#include "server/server_facts.h"
#include "server/tally.h"

#define FAKE_READY   "s-00000000000000001"
#define FAKE_BROKEN  "s-00000000000000002"
#define FAKE_VOLUME  "vol-00000000000000001"
#define FAKE_RETIRED "vol-00000000000000002"

enum {
	FAKE_PITS = 3,
	FAKE_VOLUME_BYTES = 5 * 1024 * 1024 + 512,
	FAKE_CHUNK_BYTES = 256 * 1024,
};

struct server {
	struct event_base *base;
	struct status_table *status;
	struct registry *registry;
	struct server_facts facts;
	struct tally tally;
	struct pit pits[16];
	size_t pit_count;
	uint64_t export_fails_at;      /* 0 = never */
	int export_delay_ms;           /* before each chunk */
	_Atomic unsigned exports_open; /* a test looks at it while the loop runs */
	unsigned commands;             /* given so far */
	struct ledger *ledger;
	struct news *news;
	unsigned full_answers;             /* so many commands find no room */
	unsigned reserve_left, rooms_made; /* pieces of the reserve */
	int64_t token_lifetime_ns;         /* 0: an hour */
};

int64_t
server_token_lifetime_ns(const struct server *sv)
{
	return sv->token_lifetime_ns != 0 ? sv->token_lifetime_ns : 3600 * NS_PER_SECOND;
}

struct status_table *
server_status(struct server *sv)
{
	return sv->status;
}

struct registry *
server_registry(struct server *sv)
{
	return sv->registry;
}

struct news *
server_news(struct server *sv)
{
	return sv->news;
}

struct ledger *
server_ledger(struct server *sv)
{
	return sv->ledger;
}

bool
server_make_room(struct server *sv)
{
	sv->rooms_made++;
	return sv->reserve_left > 0 && sv->reserve_left-- > 0;
}

struct event_base *
server_base(struct server *sv)
{
	return sv->base;
}

void
server_get_facts(struct server *sv, struct server_facts *ret_facts)
{
	*ret_facts = sv->facts;
	ret_facts->tally = &sv->tally;
	ret_facts->rows_waiting = ledger_waiting(sv->ledger);
}

/* ---- answers come later ---- */

struct fake_answer {
	struct command_answer answer;
	struct pit pits[16];
	command_done *done;
	void *arg;
};

static void
fake_deliver(evutil_socket_t fd, short what, void *arg)
{
	struct fake_answer *a = arg;

	a->answer.pits = a->pits;
	a->done(a->arg, &a->answer);
	free(a);
}

static struct fake_answer *
fake_answer(struct server *sv, int status, const char *text, command_done *done, void *arg)
{
	struct fake_answer *a = calloc(1, sizeof *a);
	struct timeval soon = {0, 1000};

	assert(a != NULL);
	sv->commands++;
	a->done = done;
	a->arg = arg;
	a->answer.status = status;
	snprintf(a->answer.text, sizeof a->answer.text, "%s", text);
	event_base_once(sv->base, -1, EV_TIMEOUT, fake_deliver, a, &soon);
	return a;
}

/* ---- commands ---- */

static struct points *
fake_points(const struct server *sv)
{
	struct points *p = points_create(&(struct id){FAKE_READY});
	struct pit *rows = malloc(sizeof sv->pits);
	struct shared *own = NULL;

	assert(p != NULL && rows != NULL);
	memcpy(rows, sv->pits, sizeof sv->pits);
	p->rows = rows;
	p->row_count = sv->pit_count;
	p->rows_shared = shared_show(&own, rows);
	shared_drop(&own, rows);
	return p;
}

static void
fake_publish_points(struct server *sv)
{
	struct source_status *s = calloc(1, sizeof *s);

	assert(s != NULL && status_get(sv->status, &(struct id){FAKE_READY}, s));
	status_publish(sv->status, s, fake_points(sv));
	free(s);
}

static struct pit *
fake_add_pit(struct server *sv, int64_t time_ns, const char *name)
{
	struct id source = {FAKE_READY};
	struct pit *p = &sv->pits[sv->pit_count];
	uint64_t lsn = (sv->pit_count + 1) * 1000;

	assert(sv->pit_count < 16);
	*p = (struct pit){.id = checkpoint_pit_id(&source, lsn, 0),
	    .lsn = lsn,
	    .time_ns = time_ns,
	    .planned_ns = time_ns,
	    .complete = true,
	    .verified_ns = time_ns,
	    .consistency = CHECKPOINT_CRASH,
	    .kept = true,
	    .by_hand = name[0] != '\0'};
	snprintf(p->name, sizeof p->name, "%s", name);
	p->checkpoint.volume_count = 1;
	p->checkpoint.volumes[0].volume = 1;
	p->checkpoint.volumes[0].size_bytes = FAKE_VOLUME_BYTES;
	sv->pit_count++;
	return p;
}

void
command_create_pit(struct server *sv, const struct id *source, const char *name, bool newest, int64_t timeout_ns,
    command_done *done, void *arg)
{
	struct fake_answer *a;

	if (strcmp(source->text, FAKE_READY) != 0) {
		fake_answer(
		    sv, -ENOTCONN, "the agent is not connected; --newest keeps the newest point there is", done, arg);
		return;
	}
	a = fake_answer(sv, 0, "", done, arg);
	a->pits[0] = *fake_add_pit(sv, clock_real_ns(), name);
	a->answer.pit_count = 1;
	fake_publish_points(sv);
}

static bool
fake_full(struct server *sv, command_done *done, void *arg)
{
	if (sv->full_answers == 0)
		return false;
	sv->full_answers--;
	fake_answer(sv, -HF_EFULL, "no room", done, arg);
	return true;
}

void
command_change_pit(struct server *sv, const struct id *pit, enum store_pit_verb verb, command_done *done, void *arg)
{
	if (fake_full(sv, done, arg))
		return;
	for (size_t i = 0; i < sv->pit_count; i++) {
		if (strcmp(sv->pits[i].id.text, pit->text) != 0)
			continue;
		if (verb == STORE_PIT_DELETE && sv->pits[i].held) {
			fake_answer(sv, -EBUSY, "the point is held: release it first", done, arg);
			return;
		}
		if (verb == STORE_PIT_DELETE)
			memmove(&sv->pits[i], &sv->pits[i + 1], (--sv->pit_count - i) * sizeof *sv->pits);
		else
			sv->pits[i].held = verb == STORE_PIT_HOLD;
		fake_publish_points(sv);
		fake_answer(sv, 0, "", done, arg);
		return;
	}
	fake_answer(sv, -HF_ENOPIT, "no such point in time", done, arg);
}

void
command_create_token(
    struct server *sv, const struct id *bound_source, int64_t lifetime_ns, command_done *done, void *arg)
{
	struct registry_token token = {.id = id_random("tok"), .created_ns = clock_real_ns()};
	struct fake_answer *a;

	token.expires_ns = token.created_ns + lifetime_ns;
	random_bytes(token.hash, sizeof token.hash); /* not bound: the registry does not know the fake's sources */
	a = fake_answer(sv, registry_put_token(sv->registry, &token, NULL), "", done, arg);
	a->answer.token_id = token.id;
	a->answer.expires_ns = token.expires_ns;
	snprintf(a->answer.token, sizeof a->answer.token, "hf1.not.a.real.token");
}

void
command_revoke_token(struct server *sv, const struct id *token, command_done *done, void *arg)
{
	int r = registry_revoke_token(sv->registry, token, NULL);

	fake_answer(sv, r, r == -ENOENT ? "no such token" : "", done, arg);
}

void
command_adopt(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	fake_answer(sv, 0, "the next installation that connects is accepted", done, arg);
}

void
command_rotate_ca(struct server *sv, command_done *done, void *arg)
{
	memset(sv->facts.certificates[PKI_NEXT_CA].fingerprint, 'b', FINGERPRINT_TEXT_BYTES - 1);
	fake_answer(sv, 0, "", done, arg);
}

void
command_retire_ca(struct server *sv, bool force, command_done *done, void *arg)
{
	fake_answer(sv, force ? 0 : -EBUSY, force ? "" : "an agent needs it", done, arg);
}

void
command_take_identity(struct server *sv, command_done *done, void *arg)
{
	fake_answer(sv, -EAGAIN, "not here", done, arg);
}

void
server_add_audit(struct server *sv, const struct registry_audit *audit)
{
	struct registry_audit row = *audit;
	struct hf_error err;

	(void)ledger_add_audit(sv->ledger, &row, true, &err);
}

void
reload_start(struct server *sv, command_done *done, void *arg)
{
	fake_answer(sv, 0, "", done, arg);
}

void
command_renew_server(struct server *sv, command_done *done, void *arg)
{
	fake_answer(sv, 0, "", done, arg);
}

void
command_renew_source(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	fake_answer(sv, 0, "its agent was asked", done, arg);
}

void
command_revoke_source(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	fake_answer(sv, 0, "its certificates are revoked", done, arg);
}

void
command_stop_source(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	fake_answer(sv, 0, "replication is stopped", done, arg);
}

void
command_pause_source(struct server *sv, const struct id *source, bool paused, command_done *done, void *arg)
{
	fake_answer(sv, 0, paused ? "nothing is taken of it" : "replication goes on", done, arg);
}

void
command_start_source(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	fake_answer(sv, 0, "its agent is let in again", done, arg);
}

void
command_scrub(struct server *sv, const struct id *source, bool cancel, command_done *done, void *arg)
{
	fake_answer(sv, cancel ? -ENOENT : 0, cancel ? "no scrub is under way" : "the scrub is under way", done, arg);
}

void
command_set_quota(
    struct server *sv, const struct id *source, const struct quota_change *change, command_done *done, void *arg)
{
	char said[SENTENCE_BYTES], quota[32] = "-";

	if (change->has_quota)
		snprintf(quota, sizeof quota, "%llu", (unsigned long long)change->quota_bytes);
	snprintf(
	    said, sizeof said, "quota %s, when full %d", quota, change->has_when_full ? (int)change->when_full : -1);
	fake_answer(sv, 0, said, done, arg);
}

void
command_set_throttle(
    struct server *sv, const struct id *source, const struct throttle *throttle, command_done *done, void *arg)
{
	char text[SENTENCE_BYTES];

	throttle_describe(throttle, text, sizeof text);
	fake_answer(sv, 0, text, done, arg);
}

void
command_set_policy(
    struct server *sv, const struct id *source, const struct policy_change *change, command_done *done, void *arg)
{
	char rules[POLICY_TEXT_BYTES] = "-", said[SENTENCE_BYTES];
	int64_t window_ns = change->has_window ? change->policy.journal_window_ns : -NS_PER_SECOND,
		least_ns = change->has_min_retention ? change->policy.min_retention_ns : -NS_PER_SECOND;

	if (change->has_rules)
		policy_format_rules(&change->policy, rules);
	snprintf(said, sizeof said, "rules %s, window %lld, least %lld", rules, (long long)(window_ns / NS_PER_SECOND),
	    (long long)(least_ns / NS_PER_SECOND));
	fake_answer(sv, 0, said, done, arg);
}

void
command_plan(struct server *sv, const struct id *source, const struct policy *rules, command_done *done, void *arg)
{
	static const bool going[16] = {true};
	struct fake_answer *a = fake_answer(sv, 0, "", done, arg);

	memcpy(a->pits, sv->pits, sizeof sv->pits);
	a->answer.pit_count = sv->pit_count;
	a->answer.going = going;
	a->answer.total_bytes = 8192;
	a->answer.freed_bytes = 4096;
}

void
server_default_settings(const struct server *sv, struct settings *ret_settings)
{
	settings_default(ret_settings);
	ret_settings->policy.journal_window_ns = 90 * NS_PER_SECOND;
}

void
command_set_settings(struct server *sv, const struct id *source, json_t *patch, command_done *done, void *arg)
{
	char said[SENTENCE_BYTES];

	settings_describe(patch, NULL, said, sizeof said);
	fake_answer(sv, 0, said, done, arg);
}

void
command_set_template(struct server *sv, json_t *patch, command_done *done, void *arg)
{
	if (!fake_full(sv, done, arg))
		fake_answer(sv, 0, "", done, arg);
}

void
command_set_frozen(struct server *sv, const struct id *source, bool frozen, command_done *done, void *arg)
{
	fake_answer(sv, 0, frozen ? "frozen" : "thawed", done, arg);
}

void
command_delete_source(struct server *sv, const struct id *source, command_done *done, void *arg)
{
	bool connected = strcmp(source->text, FAKE_READY) == 0;

	fake_answer(sv, connected ? -EBUSY : 0, connected ? "its agent is connected" : "it is gone", done, arg);
}

void
command_delete_volume(
    struct server *sv, const struct id *source, const char *volume, bool with_points, command_done *done, void *arg)
{
	fake_answer(sv, with_points ? 0 : -EBUSY, with_points ? volume : "3 points have it", done, arg);
}

void
command_verify(struct server *sv, const struct id *source, const char *volume, command_done *done, void *arg)
{
	bool known = volume[0] == '\0' || strcmp(volume, "sda") == 0;

	fake_answer(sv, known ? 0 : -HF_EVOLUME,
	    !known              ? "no such volume"
	    : volume[0] != '\0' ? volume
				: "all",
	    done, arg);
}

/* ---- export: odd chunks of data, every third one a hole ---- */

struct export
{
	struct server *sv;
	uint64_t offset;
	struct event *timer;
	export_each *each;
	export_opened *opened;
	void *arg;
	int status;
	struct id source, pit;
	unsigned char bytes[FAKE_CHUNK_BYTES];
};

static inline unsigned char
fake_byte(uint64_t offset)
{
	uint64_t chunk = offset / FAKE_CHUNK_BYTES;

	return chunk % 3 == 2 ? 0 : (unsigned char)(offset * 2654435761u >> 13 ^ chunk);
}

static void
fake_chunk(evutil_socket_t fd, short what, void *arg)
{
	struct export *e = arg;
	uint64_t chunk = e->offset / FAKE_CHUNK_BYTES, end = (chunk + 1) * FAKE_CHUNK_BYTES;
	struct export_chunk c = {
	    .kind = chunk % 3 == 2 ? EXPORT_HOLE : EXPORT_DATA, .offset = e->offset, .data = e->bytes};

	if (end > FAKE_VOLUME_BYTES)
		end = FAKE_VOLUME_BYTES;
	c.length = end - e->offset;
	for (uint64_t i = 0; i < c.length; i++)
		e->bytes[i] = fake_byte(e->offset + i);
	e->offset = end;
	if (c.length == 0) {
		c.kind = EXPORT_END;
		c.length = FAKE_VOLUME_BYTES;
	}
	if (e->sv->export_fails_at != 0 && end >= e->sv->export_fails_at) {
		c.kind = EXPORT_ERROR;
		c.status = -HF_EDIGEST;
		snprintf(c.text, sizeof c.text, "volume sda at offset 4096 does not match its digest");
	}
	e->each(e->arg, &c);
}

static void
fake_opened(evutil_socket_t fd, short what, void *arg)
{
	struct export *e = arg;
	struct export_facts facts = {
	    .source = e->source, .volume = {FAKE_VOLUME}, .size_bytes = FAKE_VOLUME_BYTES, .root_digest = 0x1234};

	event_free(e->timer);
	e->timer = evtimer_new(e->sv->base, fake_chunk, e);
	facts.pit.id = e->pit;
	facts.pit.time_ns = clock_real_ns();
	if (e->status < 0) {
		e->opened(e->arg, e->status, "no such volume or point in time", NULL, NULL);
		export_close(e);
		return;
	}
	e->opened(e->arg, 0, "", e, &facts);
}

void
export_open(struct server *sv, const struct id *source, const struct id *pit, const char *volume, uint64_t from,
    bool salvage, export_opened *opened, void *arg)
{
	struct export *e = calloc(1, sizeof *e);
	struct timeval soon = {0, 1000};

	assert(e != NULL);
	*e = (struct export){.sv = sv, .offset = from, .opened = opened, .arg = arg, .source = *source, .pit = *pit};
	e->status = -HF_ENOPIT;
	for (size_t i = 0; i < sv->pit_count; i++)
		if (strcmp(sv->pits[i].id.text, pit->text) == 0)
			e->status = strcmp(volume, "sda") == 0 || strcmp(volume, FAKE_VOLUME) == 0 ? 0 : -HF_EVOLUME;
	e->timer = evtimer_new(sv->base, fake_opened, e);
	event_add(e->timer, &soon);
	sv->exports_open++;
}

void
export_next(struct export *e, export_each *each, void *arg)
{
	struct timeval now = {0, e->sv->export_delay_ms * 1000};

	e->each = each;
	e->arg = arg;
	event_add(e->timer, &now);
}

void
export_close(struct export *e)
{
	e->sv->exports_open--;
	event_free(e->timer);
	free(e);
}

/* ---- the two sources ---- */

static void
fake_publish(struct server *sv)
{
	struct source_status *s = calloc(1, sizeof *s);
	int64_t now = clock_real_ns();

	assert(s != NULL);
	*s = (struct source_status){.id = {FAKE_READY}, .state = STATE_CONTINUOUS, .connected = true, .ready = true};
	snprintf(s->hints.hostname, sizeof s->hints.hostname, "db01");
	snprintf(s->state_reason, sizeof s->state_reason, "streaming");
	s->state_since_ns = s->first_byte_ns = s->added_ns = now - 3600 * NS_PER_SECOND;
	s->received_at_ns = s->durable_at_ns = now - 1 * NS_PER_SECOND;
	s->consistent_at_ns = s->newest_pit_ns = sv->pits[FAKE_PITS - 1].time_ns;
	s->has_newest = true;
	s->newest_pit = sv->pits[FAKE_PITS - 1].id;
	s->newest_lsn = sv->pits[FAKE_PITS - 1].lsn;
	s->newest_consistency = CHECKPOINT_CRASH;
	s->rate_10s = 12 * 1024 * 1024;
	s->policy = (struct policy){
	    .rule_count = 1, .rules = {{1, "MINUTE", 10, 60, true}}, .journal_window_ns = 3600 * NS_PER_SECOND};
	s->volume_count = 1;
	s->volumes[0] = (struct volume_status){.id = {FAKE_VOLUME},
	    .volume = 1,
	    .state = VOLUME_OK,
	    .total_bytes = FAKE_VOLUME_BYTES,
	    .replicated_bytes = FAKE_VOLUME_BYTES};
	snprintf(s->volumes[0].name, sizeof s->volumes[0].name, "sda");
	snprintf(s->volumes[0].device_name, sizeof s->volumes[0].device_name, "/dev/sda");
	s->retired_count = 1;
	s->volumes[1] = (struct volume_status){.id = {FAKE_RETIRED}, .volume = 2, .state = VOLUME_OK, .retired = true};
	snprintf(s->volumes[1].name, sizeof s->volumes[1].name, "sdb");
	s->store.merges = 1;
	s->store.merge_copied_bytes = 1000;
	s->store.merge_freed_bytes = 3000;
	status_publish(sv->status, s, fake_points(sv));

	*s = (struct source_status){.id = {FAKE_BROKEN}, .state = STATE_DISCONNECTED, .reason_count = 1};
	snprintf(s->hints.hostname, sizeof s->hints.hostname, "web01");
	snprintf(s->state_reason, sizeof s->state_reason, "the agent is silent");
	snprintf(s->error, sizeof s->error, "AGENT_NOT_SEEN");
	snprintf(s->raw_error, sizeof s->raw_error, "nothing heard for 6m");
	s->state_since_ns = s->added_ns = now - 600 * NS_PER_SECOND;
	snprintf(s->reasons[0].code, sizeof s->reasons[0].code, "NO_CONSISTENT_POINT");
	snprintf(s->reasons[0].text, sizeof s->reasons[0].text, "no point in time was ever complete");
	snprintf(s->reasons[0].cure, sizeof s->reasons[0].cure, "systemctl start holdfast-agent on web01");
	status_publish(sv->status, s, points_create(&s->id));
	free(s);
}

static void
fake_server_init(struct server *sv, const char *dir)
{
	static const char pem[] = "-----BEGIN CERTIFICATE-----\nnot one\n-----END CERTIFICATE-----\n";
	char path[600];
	FILE *f;

	*sv = (struct server){.base = event_base_new()};
	snprintf(path, sizeof path, "%s/holdfast.db", dir);
	assert(registry_open(path, true, &sv->registry, NULL) == 0 && status_table_create(&sv->status) == 0 &&
	       ledger_create(sv->registry, &sv->ledger) == 0 && (sv->news = news_create()) != NULL);
	snprintf(path, sizeof path, "%s/pki", dir);
	(void)mkdir(path, 0700); /* may be there */
	snprintf(path, sizeof path, "%s/pki/ca.pem", dir);
	f = fopen(path, "w");
	assert(f != NULL);
	fputs(pem, f);
	fclose(f);
	sv->facts = (struct server_facts){.started_ns = clock_real_ns(),
	    .workers = 2,
	    .version = HOLDFAST_VERSION,
	    .listen = "0.0.0.0:1500",
	    .enroll_listen = "0.0.0.0:1501",
	    .areas = {{.total_bytes = 100ull << 30, .free_bytes = 60ull << 30, .room_bytes = 59ll << 30}}};
	snprintf(sv->facts.data_dir, sizeof sv->facts.data_dir, "%s", dir);
	memset(sv->facts.ca_fingerprint, 'a', 64);
	for (int i = 0; i < FAKE_PITS; i++)
		fake_add_pit(
		    sv, clock_real_ns() - (FAKE_PITS - i) * 600 * NS_PER_SECOND, i == 1 ? "before-upgrade" : "");
	fake_publish(sv);
}

static void
fake_server_fini(struct server *sv)
{
	ledger_destroy(sv->ledger);
	registry_close(sv->registry);
	status_table_destroy(sv->status);
	news_destroy(sv->news);
	event_base_free(sv->base);
}

#endif
