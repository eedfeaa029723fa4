/* SPDX-License-Identifier: Apache-2.0 */
#include "server/registry.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "proto/common/status.h"
#include "tests/lib/registry_rig.h"
#include "tests/lib/sqlite_faults.h"

static const unsigned char nonce_a[NONCE_BYTES] = "installation  A", nonce_b[NONCE_BYTES] = "installation  B";

static int
set_up(void **state)
{
	struct registry_rig *f = *state = calloc(1, sizeof *f);

	return registry_rig_init(f, "test_registry");
}

static int
tear_down(void **state)
{
	struct registry_rig *f = *state;
	int removed;

	sqlite_disk_full = false;
	sqlite_read_errno = 0;
	removed = registry_rig_fini(f);
	free(f);
	return removed;
}

static void
reopen(struct registry_rig *f)
{
	registry_close(f->registry);
	f->registry = NULL;
	if (registry_open(f->path, true, &f->registry, &f->err) < 0)
		fail_msg("%s", f->err.text);
}

/* Run SQL on the file behind the registry's back; leaves it closed. */
static void
meddle(struct registry_rig *f, const char *sql)
{
	sqlite3 *db;

	registry_close(f->registry);
	f->registry = NULL;
	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static int
count_row(void *arg, int columns, char **values, char **names)
{
	++*(int *)arg;
	return 0;
}

static int
count_rows(struct registry_rig *f, const char *query)
{
	sqlite3 *db;
	int count = 0;

	registry_close(f->registry);
	f->registry = NULL;
	assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, query, count_row, &count, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	return count;
}

static struct message_hints
hints(const char *hostname)
{
	struct message_hints h = {
	    .machine_id = "m1",
	    .mac_addresses = {"02:00:00:00:00:01", "02:00:00:00:00:02"},
	    .mac_count = 2,
	    .os = "Debian",
	    .kernel = "6.1",
	    .cpus = 4,
	    .ram_bytes = UINT64_C(1) << 63,
	    .agent_version = "0.1.0",
	};

	snprintf(h.hostname, sizeof h.hostname, "%s", hostname);
	return h;
}

/* ---- enrolment helpers ---- */

enum { T_NOW = 1000, T_EXPIRES = 2000 };

static struct id
put_token(struct registry_rig *f, unsigned char hash, const struct id *source)
{
	struct registry_token t = {.id = id_random("tok"), .created_ns = T_NOW, .expires_ns = T_EXPIRES};

	memset(t.hash, hash, sizeof t.hash);
	if (source != NULL)
		t.source = *source;
	assert_int_equal(registry_put_token(f->registry, &t, &f->err), 0);
	return t.id;
}

static int
sign_well(void *arg, const struct id *source, struct registry_certificate *ret_certificate, struct hf_error *err)
{
	random_bytes(ret_certificate->fingerprint, FINGERPRINT_BYTES);
	ret_certificate->not_before_ns = 1;
	ret_certificate->not_after_ns = 2;
	if (arg != NULL)
		*(struct registry_certificate *)arg = *ret_certificate;
	return 0;
}

static int
sign_badly(void *arg, const struct id *source, struct registry_certificate *ret_certificate, struct hf_error *err)
{
	return hf_error_say(err, -EIO, "no pen");
}

static int
enroll_at(struct registry_rig *f, unsigned char hash, int64_t now_ns, const unsigned char *nonce, struct id *ret_source)
{
	unsigned char bytes[TOKEN_HASH_BYTES];
	struct id offered = id_random("s");
	struct message_hints h = hints("one");

	memset(bytes, hash, sizeof bytes);
	return registry_enroll(f->registry, bytes, now_ns, &offered, nonce, &h, sign_well, NULL, ret_source, &f->err);
}

static struct id
make_source(struct registry_rig *f)
{
	struct id source;

	put_token(f, 200, NULL);
	if (enroll_at(f, 200, T_NOW, nonce_a, &source) < 0)
		fail_msg("%s", f->err.text);
	return source;
}

static size_t
count_sources(struct registry_rig *f)
{
	struct registry_source *sources;
	size_t count;

	assert_int_equal(registry_list_sources(f->registry, &sources, &count, &f->err), 0);
	free(sources);
	return count;
}

/* ---- the file ---- */

static void
new_registry_is_empty_and_private(void **state)
{
	struct registry_rig *f = *state;
	struct stat st;

	assert_int_equal(count_sources(f), 0);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void
second_process_is_refused(void **state)
{
	struct registry_rig *f = *state;
	struct registry *second = NULL;

	assert_int_equal(registry_open(f->path, true, &second, &f->err), -EBUSY);
	assert_null(second);
	assert_non_null(strstr(f->err.text, "another process"));
}

static void
newer_format_is_refused(void **state)
{
	struct registry_rig *f = *state;

	meddle(f, "PRAGMA user_version = 99");
	assert_int_equal(registry_open(f->path, true, &f->registry, &f->err), -HF_EFORMAT);
	assert_non_null(strstr(f->err.text, "version 99"));
}

static void
foreign_database_is_refused_untouched(void **state)
{
	struct registry_rig *f = *state;

	meddle(f, "PRAGMA application_id = 7; PRAGMA user_version = 0");
	assert_int_equal(registry_open(f->path, true, &f->registry, &f->err), -HF_EFORMAT);
	assert_non_null(strstr(f->err.text, "another program"));
}

static void
damaged_file_is_refused(void **state)
{
	struct registry_rig *f = *state;
	FILE *file;

	meddle(f, "PRAGMA journal_mode = DELETE");
	file = fopen(f->path, "r+");
	for (int i = 4096; i < 5 * 4096; i++) {
		fseek(file, i, SEEK_SET);
		fputc(0xa5, file);
	}
	fclose(file);
	assert_int_equal(registry_open(f->path, true, &f->registry, &f->err), -HF_ECORRUPT);
	file = fopen(f->path, "w");
	fprintf(file, "this was never a database, however long one looks at it");
	fclose(file);
	assert_int_equal(registry_open(f->path, true, &f->registry, &f->err), -HF_ECORRUPT);
}

static void
missing_directory_is_named(void **state)
{
	struct registry_rig *f = *state;
	struct registry *r;

	assert_int_equal(registry_open("/proc/nonexistent/holdfast.db", true, &r, &f->err), -ENOENT);
	assert_non_null(strstr(f->err.text, "/proc/nonexistent/holdfast.db"));
}

/* ---- enrolment ---- */

static void
token_makes_a_source_with_a_certificate(void **state)
{
	struct registry_rig *f = *state;
	unsigned char hash[TOKEN_HASH_BYTES];
	struct id offered = id_random("s"), made, token = put_token(f, 1, NULL);
	struct message_hints h = hints("db01");
	struct registry_certificate signed_one, found;
	struct registry_source source;
	struct registry_token *tokens;
	size_t count;

	memset(hash, 1, sizeof hash);
	assert_int_equal(
	    registry_enroll(f->registry, hash, T_NOW, &offered, nonce_a, &h, sign_well, &signed_one, &made, &f->err),
	    0);
	assert_string_equal(made.text, offered.text);
	reopen(f);
	assert_int_equal(registry_get_source(f->registry, &made, &source, &f->err), 0);
	assert_string_equal(source.id.text, made.text);
	assert_int_equal(source.created_ns, T_NOW);
	assert_memory_equal(source.installation_nonce, nonce_a, NONCE_BYTES);
	assert_true(source.incarnation == 0 && !source.adopt_next && source.last_seen_ns == 0);
	assert_memory_equal(&source.hints, &h, sizeof h);
	assert_int_equal(registry_find_certificate(f->registry, signed_one.fingerprint, &found, &f->err), 0);
	assert_string_equal(found.source.text, made.text);
	assert_true(found.not_before_ns == 1 && found.not_after_ns == 2 && !found.revoked);
	assert_int_equal(registry_list_tokens(f->registry, &tokens, &count, &f->err), 0);
	assert_int_equal(count, 1);
	assert_string_equal(tokens[0].id.text, token.text);
	assert_string_equal(tokens[0].source.text, made.text);
	assert_int_equal(tokens[0].used_ns, T_NOW);
	free(tokens);
}

static void
bad_tokens_are_refused_and_change_nothing(void **state)
{
	struct registry_rig *f = *state;
	struct id source, token = put_token(f, 1, NULL);

	assert_int_equal(enroll_at(f, 9, T_NOW, nonce_a, &source), -HF_ETOKEN);
	assert_non_null(strstr(f->err.text, "no such token"));
	assert_int_equal(enroll_at(f, 1, T_EXPIRES, nonce_a, &source), -HF_ETOKEN);
	assert_non_null(strstr(f->err.text, "expired"));
	assert_int_equal(count_sources(f), 0);
	assert_int_equal(enroll_at(f, 1, T_EXPIRES - 1, nonce_a, &source), 0);
	assert_int_equal(enroll_at(f, 1, T_NOW, nonce_a, &source), -HF_ETOKEN);
	assert_non_null(strstr(f->err.text, "was used"));
	put_token(f, 2, NULL);
	token = put_token(f, 3, NULL);
	assert_int_equal(registry_revoke_token(f->registry, &token, &f->err), 0);
	assert_int_equal(enroll_at(f, 3, T_NOW, nonce_a, &source), -HF_ETOKEN);
	assert_non_null(strstr(f->err.text, "revoked"));
	assert_int_equal(count_sources(f), 1);
}

static void
failed_signature_leaves_the_token_good(void **state)
{
	struct registry_rig *f = *state;
	unsigned char hash[TOKEN_HASH_BYTES];
	struct id offered = id_random("s"), made;
	struct message_hints h = hints("db01");

	put_token(f, 1, NULL);
	memset(hash, 1, sizeof hash);
	assert_int_equal(
	    registry_enroll(f->registry, hash, T_NOW, &offered, nonce_a, &h, sign_badly, NULL, &made, &f->err), -EIO);
	assert_string_equal(f->err.text, "no pen");
	assert_int_equal(count_sources(f), 0);
	assert_int_equal(enroll_at(f, 1, T_NOW, nonce_a, &made), 0);
}

static void
bound_token_moves_its_source_to_new_hardware(void **state)
{
	struct registry_rig *f = *state;
	struct id source = make_source(f), again, nobody = id_random("s");
	struct message_hints h = hints("one");
	struct registry_source row;
	struct registry_token t = {.id = id_random("tok"), .source = nobody};

	assert_int_equal(registry_put_token(f->registry, &t, &f->err), -ENOENT);
	assert_int_equal(registry_admit(f->registry, &source, nonce_a, 7, &h, 5, &f->err), 0);
	put_token(f, 1, &source);
	assert_int_equal(enroll_at(f, 1, T_NOW, nonce_a, &again), 0);
	assert_string_equal(again.text, source.text);
	assert_int_equal(registry_get_source(f->registry, &source, &row, &f->err), 0);
	assert_int_equal(row.incarnation, 7); /* the same installation: its starts still count */
	put_token(f, 2, &source);
	assert_int_equal(enroll_at(f, 2, T_NOW, nonce_b, &again), 0);
	assert_int_equal(registry_get_source(f->registry, &source, &row, &f->err), 0);
	assert_int_equal(row.incarnation, 0);
	assert_int_equal(count_sources(f), 1);
	assert_int_equal(registry_admit(f->registry, &source, nonce_b, 1, &h, 6, &f->err), 0);
	assert_int_equal(registry_admit(f->registry, &source, nonce_a, 8, &h, 7, &f->err), -HF_ECLONE);
}

struct racer {
	pthread_t thread;
	struct registry_rig *f;
	pthread_barrier_t *start;
	int status;
};

static void *
race(void *arg)
{
	struct racer *r = arg;
	unsigned char hash[TOKEN_HASH_BYTES];
	struct id offered = id_random("s"), made;
	struct message_hints h = hints("racer");

	memset(hash, 1, sizeof hash);
	pthread_barrier_wait(r->start);
	r->status = registry_enroll(r->f->registry, hash, T_NOW, &offered, nonce_a, &h, sign_well, NULL, &made, NULL);
	return NULL;
}

static void
one_of_100_racing_uses_of_a_token_wins(void **state)
{
	enum { RACERS = 100 };
	struct registry_rig *f = *state;
	struct racer racers[RACERS];
	pthread_barrier_t start;
	int winners = 0;

	put_token(f, 1, NULL);
	pthread_barrier_init(&start, NULL, RACERS);
	for (int i = 0; i < RACERS; i++) {
		racers[i] = (struct racer){.f = f, .start = &start};
		assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
	}
	for (int i = 0; i < RACERS; i++) {
		pthread_join(racers[i].thread, NULL);
		winners += racers[i].status == 0;
		assert_true(racers[i].status == 0 || racers[i].status == -HF_ETOKEN);
	}
	pthread_barrier_destroy(&start);
	assert_int_equal(winners, 1);
	assert_int_equal(count_sources(f), 1);
}

/* ---- admission ---- */

static void
same_installation_is_admitted_and_its_starts_remembered(void **state)
{
	struct registry_rig *f = *state;
	struct id source = make_source(f);
	struct message_hints h = hints("renamed");
	struct registry_source row;

	assert_int_equal(registry_admit(f->registry, &source, nonce_a, 1, &h, 50, &f->err), 0);
	assert_int_equal(registry_admit(f->registry, &source, nonce_a, 3, &h, 60, &f->err), 0);
	reopen(f);
	assert_int_equal(registry_get_source(f->registry, &source, &row, &f->err), 0);
	assert_int_equal(row.incarnation, 3);
	assert_int_equal(row.last_seen_ns, 60);
	assert_string_equal(row.hints.hostname, "renamed");
}

static void
sightings_are_kept_of_all_that_are_still_there(void **state)
{
	struct registry_rig *f = *state;
	struct id source = make_source(f);
	struct registry_sighting seen[] = {{id_random("s"), 70, 30}, {source, 80, 40}};
	struct registry_source row;

	assert_int_equal(registry_put_sightings(f->registry, seen, 2, &f->err), 0);
	reopen(f);
	assert_int_equal(registry_get_source(f->registry, &source, &row, &f->err), 0);
	assert_int_equal(row.last_seen_ns, 80);
	assert_int_equal(row.first_byte_ns, 40);
	assert_int_equal(count_sources(f), 1);
}

static void
reconnect_of_the_same_process_is_admitted(void **state)
{
	struct registry_rig *f = *state;
	struct id source = make_source(f);
	struct message_hints h = hints("one");

	assert_int_equal(registry_admit(f->registry, &source, nonce_a, 3, &h, 50, &f->err), 0);
	assert_int_equal(registry_admit(f->registry, &source, nonce_a, 3, &h, 51, &f->err), 0);
}

static void
clones_are_refused_and_leave_no_trace(void **state)
{
	struct registry_rig *f = *state;
	struct id source = make_source(f);
	struct message_hints h = hints("one"), other = hints("clone");
	struct registry_source row;

	assert_int_equal(registry_admit(f->registry, &source, nonce_a, UINT64_MAX, &h, 50, &f->err), 0);
	assert_int_equal(
	    registry_admit(f->registry, &source, nonce_a, UINT64_MAX - 1, &other, 60, &f->err), -HF_ECLONE);
	assert_non_null(strstr(f->err.text, "holdfastctl source adopt s-"));
	assert_int_equal(registry_admit(f->registry, &source, nonce_b, UINT64_MAX, &other, 60, &f->err), -HF_ECLONE);
	assert_non_null(strstr(f->err.text, "holdfastctl source adopt s-"));
	assert_int_equal(registry_get_source(f->registry, &source, &row, &f->err), 0);
	assert_true(row.incarnation == UINT64_MAX);
	assert_int_equal(row.last_seen_ns, 50);
	assert_string_equal(row.hints.hostname, "one");
}

static void
adopted_source_takes_the_next_installation_once(void **state)
{
	struct registry_rig *f = *state;
	struct id source = make_source(f);
	struct message_hints h = hints("one");
	struct registry_source row;

	assert_int_equal(registry_admit(f->registry, &source, nonce_a, 9, &h, 50, &f->err), 0);
	assert_int_equal(registry_adopt(f->registry, &source, &f->err), 0);
	reopen(f);
	assert_int_equal(registry_admit(f->registry, &source, nonce_b, 2, &h, 60, &f->err), 0);
	assert_int_equal(registry_get_source(f->registry, &source, &row, &f->err), 0);
	assert_memory_equal(row.installation_nonce, nonce_b, NONCE_BYTES);
	assert_int_equal(row.incarnation, 2);
	assert_false(row.adopt_next);
	assert_int_equal(registry_admit(f->registry, &source, nonce_a, 10, &h, 70, &f->err), -HF_ECLONE);
}

static void
a_stopped_source_is_not_admitted_until_it_is_started(void **state)
{
	struct registry_rig *f = *state;
	struct id source = make_source(f);
	struct message_hints h = hints("one");
	struct registry_source row;

	assert_int_equal(registry_set_phase(f->registry, &source, PHASE_STOPPED, 7, &f->err), 1);
	reopen(f);
	assert_int_equal(registry_admit(f->registry, &source, nonce_a, 1, &h, 50, &f->err), -HF_ESTOPPED);
	assert_int_equal(registry_get_source(f->registry, &source, &row, &f->err), 0);
	assert_int_equal(row.phase, PHASE_STOPPED);
	assert_int_equal(row.last_seen_ns, 0);
	assert_int_equal(registry_end_phase(f->registry, &source, PHASE_STOPPED, 7, &f->err), 1);
	assert_int_equal(registry_admit(f->registry, &source, nonce_a, 1, &h, 50, &f->err), 0);
}

static void
a_source_that_is_being_deleted_lets_nobody_in_and_never_comes_back(void **state)
{
	struct registry_rig *f = *state;
	struct id source = make_source(f);
	struct registry_token late = {.id = id_random("tok"), .source = source, .expires_ns = T_EXPIRES};
	struct message_hints h = hints("one");

	put_token(f, 77, &source);
	assert_int_equal(registry_delete_source(f->registry, &source, &f->err), -ENOENT); /* not begun */
	assert_int_equal(registry_set_phase(f->registry, &source, PHASE_DELETING, 7, &f->err), 1);
	reopen(f);
	assert_int_equal(registry_end_phase(f->registry, &source, PHASE_STOPPED, 7, &f->err), -EBUSY);
	assert_int_equal(registry_admit(f->registry, &source, nonce_a, 1, &h, 50, &f->err), -HF_ESTOPPED);
	assert_int_equal(registry_put_token(f->registry, &late, &f->err), -EBUSY);
	assert_int_equal(count_rows(f, "SELECT 1 FROM certificate WHERE NOT revoked"), 0);
	assert_int_equal(count_rows(f, "SELECT 1 FROM token WHERE NOT revoked"), 0);
	reopen(f);
	assert_int_equal(registry_delete_source(f->registry, &source, &f->err), 0);
	assert_int_equal(registry_delete_source(f->registry, &source, &f->err), -ENOENT);
	assert_int_equal(count_rows(f, "SELECT 1 FROM source UNION ALL SELECT 1 FROM certificate UNION ALL SELECT 1 "
				       "FROM token"),
	    0);
}

static void
a_paused_source_is_admitted_and_stays_paused(void **state)
{
	struct registry_rig *f = *state;
	struct id source = make_source(f), nobody = id_random("s");
	struct message_hints h = hints("one");
	struct registry_source row;

	assert_int_equal(registry_set_phase(f->registry, &nobody, PHASE_PAUSED, 7, &f->err), -ENOENT);
	assert_int_equal(registry_set_phase(f->registry, &source, PHASE_PAUSED, 7, &f->err), 1);
	assert_int_equal(registry_set_phase(f->registry, &source, PHASE_PAUSED, 8, &f->err), 0);
	reopen(f);
	assert_int_equal(registry_admit(f->registry, &source, nonce_a, 1, &h, 50, &f->err), 0);
	assert_int_equal(registry_get_source(f->registry, &source, &row, &f->err), 0);
	assert_int_equal(row.phase, PHASE_PAUSED);
	assert_int_equal(row.phase_ns, 7);
	assert_int_equal(registry_end_phase(f->registry, &source, PHASE_STOPPED, 9, &f->err), -EBUSY);
	assert_non_null(strstr(f->err.text, "source resume"));
	assert_int_equal(registry_end_phase(f->registry, &source, PHASE_PAUSED, 9, &f->err), 1);
	assert_int_equal(registry_end_phase(f->registry, &source, PHASE_PAUSED, 10, &f->err), 0);
	assert_int_equal(registry_end_phase(f->registry, &source, PHASE_STOPPED, 10, &f->err), 0);
	assert_int_equal(registry_get_source(f->registry, &source, &row, &f->err), 0);
	assert_int_equal(row.phase, PHASE_ACTIVE);
	assert_int_equal(row.phase_ns, 9);
}

static void
a_stopped_source_is_neither_paused_nor_resumed(void **state)
{
	struct registry_rig *f = *state;
	struct id source = make_source(f);
	struct registry_source row;

	assert_int_equal(registry_set_phase(f->registry, &source, PHASE_STOPPED, 7, &f->err), 1);
	assert_int_equal(registry_end_phase(f->registry, &source, PHASE_PAUSED, 8, &f->err), -EBUSY);
	assert_int_equal(registry_set_phase(f->registry, &source, PHASE_PAUSED, 8, &f->err), -EBUSY);
	assert_int_equal(registry_get_source(f->registry, &source, &row, &f->err), 0);
	assert_int_equal(row.phase, PHASE_STOPPED);
}

static void
a_throttle_and_its_windows_are_kept(void **state)
{
	struct registry_rig *f = *state;
	struct id source = make_source(f), nobody = id_random("s");
	struct throttle t = {.mbps = 50};
	struct registry_source row;
	char text[THROTTLE_TEXT_BYTES];

	assert_int_equal(throttle_windows_parse("Mon-Fri 08:00-18:00 20; Sat 00:00-24:00 0", &t, &f->err), 0);
	assert_int_equal(registry_set_throttle(f->registry, &nobody, &t, &f->err), -ENOENT);
	assert_int_equal(registry_set_throttle(f->registry, &source, &t, &f->err), 0);
	reopen(f);
	assert_int_equal(registry_get_source(f->registry, &source, &row, &f->err), 0);
	assert_int_equal(row.throttle.mbps, 50);
	assert_string_equal(throttle_windows_format(&row.throttle, text), "Mon-Fri 08:00-18:00 20; Sat 00:00-24:00 0");
}

static void
what_is_not_there_is_told(void **state)
{
	struct registry_rig *f = *state;
	struct id nobody = id_random("s"), nothing = id_random("tok");
	unsigned char fingerprint[FINGERPRINT_BYTES] = {1};
	struct registry_certificate c;
	struct registry_source row;
	struct message_hints h = hints("one");
	char value[8];

	assert_int_equal(registry_get_source(f->registry, &nobody, &row, &f->err), -ENOENT);
	assert_non_null(strstr(f->err.text, nobody.text));
	assert_int_equal(registry_admit(f->registry, &nobody, nonce_a, 1, &h, 1, &f->err), -ENOENT);
	assert_int_equal(registry_adopt(f->registry, &nobody, &f->err), -ENOENT);
	assert_int_equal(registry_revoke_source(f->registry, &nobody, &f->err), -ENOENT);
	assert_int_equal(registry_revoke_token(f->registry, &nothing, &f->err), -ENOENT);
	assert_int_equal(registry_find_certificate(f->registry, fingerprint, &c, &f->err), -ENOENT);
	assert_int_equal(registry_get_setting(f->registry, "key", value, sizeof value), -ENOENT);
}

/* ---- certificates, events, settings ---- */

static void
revoked_source_has_no_good_certificate(void **state)
{
	struct registry_rig *f = *state;
	struct id source = make_source(f), other;
	struct registry_certificate c = {.source = source, .fingerprint = {1}}, d = {.fingerprint = {2}}, found;

	put_token(f, 1, NULL);
	assert_int_equal(enroll_at(f, 1, T_NOW, nonce_b, &other), 0);
	d.source = other;
	assert_int_equal(registry_put_certificate(f->registry, &c, &f->err), 0);
	assert_int_equal(registry_put_certificate(f->registry, &d, &f->err), 0);
	assert_int_equal(registry_revoke_source(f->registry, &source, &f->err), 0);
	assert_int_equal(registry_find_certificate(f->registry, c.fingerprint, &found, &f->err), -HF_EREVOKED);
	assert_int_equal(registry_find_certificate(f->registry, d.fingerprint, &found, &f->err), 0);
}

static void
certificates_are_listed_with_the_newest_of_each_source_last(void **state)
{
	struct registry_rig *f = *state;
	struct id source = make_source(f);
	struct registry_certificate
	    expired = {.source = source, .fingerprint = {1}, .not_before_ns = 10, .not_after_ns = 20},
	    old = {.source = source, .fingerprint = {2}, .not_before_ns = 20, .not_after_ns = 60},
	    newest = {.source = source,
		.fingerprint = {3},
		.not_before_ns = 30,
		.not_after_ns = 40,
		.serial = "80ab",
		.issuer = "ff00"};
	struct registry_certificate *list;
	struct registry_source known;
	size_t count;

	assert_int_equal(registry_put_certificate(f->registry, &newest, &f->err), 0);
	assert_int_equal(registry_put_certificate(f->registry, &old, &f->err), 0);
	assert_int_equal(registry_put_certificate(f->registry, &expired, &f->err), 0);
	assert_int_equal(registry_use_certificate(f->registry, newest.fingerprint, 33, &f->err), 0);
	assert_int_equal(registry_use_certificate(f->registry, newest.fingerprint, 34, &f->err), 0);
	assert_int_equal(registry_list_certificates(f->registry, 50, &list, &count, &f->err), 0);
	assert_int_equal(count, 2);
	assert_memory_equal(list[0].fingerprint, old.fingerprint, FINGERPRINT_BYTES);
	assert_memory_equal(list[1].fingerprint, newest.fingerprint, FINGERPRINT_BYTES);
	assert_string_equal(list[1].serial, "80ab");
	assert_string_equal(list[1].issuer, "ff00");
	assert_int_equal(list[1].used_ns, 33);
	free(list);
	assert_int_equal(registry_get_source(f->registry, &source, &known, &f->err), 0);
	assert_int_equal(known.certificate_expires_ns, 60);
}

static void
certificate_cannot_be_recorded_twice(void **state)
{
	struct registry_rig *f = *state;
	struct registry_certificate c = {.source = make_source(f), .fingerprint = {1}};

	assert_int_equal(registry_put_certificate(f->registry, &c, &f->err), 0);
	assert_int_equal(registry_put_certificate(f->registry, &c, &f->err), -EEXIST);
}

static void
events_are_numbered_and_listed_from_a_number_on(void **state)
{
	struct registry_rig *f = *state;
	struct registry_event e = {.time_ns = 5, .event = "started", .text = "it's all \"fine\""}, *events;
	size_t count;

	for (unsigned i = 1; i <= 5; i++) {
		assert_int_equal(registry_add_event(f->registry, &e, &f->err), 0);
		assert_int_equal(e.number, i);
	}
	reopen(f);
	assert_int_equal(registry_list_events(f->registry, 2, 2, &events, &count, &f->err), 0);
	assert_int_equal(count, 2);
	assert_int_equal(events[0].number, 3);
	assert_int_equal(events[1].number, 4);
	assert_string_equal(events[0].event, "started");
	assert_string_equal(events[0].text, "it's all \"fine\"");
	assert_string_equal(events[0].source.text, "");
	free(events);
	assert_int_equal(registry_list_events(f->registry, UINT64_MAX, SIZE_MAX, &events, &count, &f->err), 0);
	assert_int_equal(count, 0);
}

static void
events_beyond_the_bound_go_oldest_first(void **state)
{
	struct registry_rig *f = *state;
	struct registry_event e = {.event = "last"}, *events;
	size_t count;

	meddle(f, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
		  "INSERT INTO event (time_ns, source, event, text) SELECT i, '', 'old', '' FROM n");
	reopen(f);
	assert_int_equal(registry_add_event(f->registry, &e, &f->err), 0);
	assert_int_equal(e.number, 100001);
	assert_int_equal(registry_list_events(f->registry, 0, SIZE_MAX, &events, &count, &f->err), 0);
	assert_int_equal(count, 100000);
	assert_int_equal(events[0].number, 2);
	assert_string_equal(events[count - 1].event, "last");
	free(events);
}

static void
settings_and_audit_survive(void **state)
{
	struct registry_audit audit = {.time_ns = 7, .pid = 42, .verb = "token create", .object = "tok-1"};
	struct registry_rig *f = *state;
	char value[16], small[3];

	assert_int_equal(registry_set_setting(f->registry, "key", "one", &f->err), 0);
	assert_int_equal(registry_set_setting(f->registry, "key", "three", &f->err), 0);
	assert_int_equal(registry_add_audit(f->registry, &audit, &f->err), 0);
	reopen(f);
	assert_int_equal(registry_get_setting(f->registry, "key", value, sizeof value), 0);
	assert_string_equal(value, "three");
	assert_true(registry_get_setting(f->registry, "key", small, sizeof small) < 0);
	assert_int_equal(count_rows(f, "SELECT 1 FROM audit WHERE verb = 'token create' AND object = 'tok-1' "
				       "AND uid = 0 AND pid = 42 AND time_ns = 7"),
	    1);
}

static int
set_key(struct registry_rig *f, int number)
{
	char value[16];

	snprintf(value, sizeof value, "%d", number);
	return registry_set_setting(f->registry, "key", value, &f->err);
}

static void
on_a_full_disk_a_change_finds_room_in_the_log_there_is(void **state)
{
	struct registry_rig *f = *state;
	int refused = 0;

	assert_int_equal(set_key(f, 0), 0);
	reopen(f);
	for (int i = 0; i < 10; i++)
		assert_int_equal(set_key(f, i), 0);
	sqlite_disk_full = true;
	for (int i = 0; i < 30; i++)
		if (set_key(f, i) == -HF_EFULL) {
			refused++;
			assert_int_equal(set_key(f, i), 0);
		}
	assert_true(refused > 0);
}

/* ---- its copy ---- */

static void
close_it(struct registry_rig *f)
{
	registry_close(f->registry);
	f->registry = NULL;
}

/* With one setting in it, and closed. */
static void
copy_it(struct registry_rig *f)
{
	assert_int_equal(registry_set_setting(f->registry, "key", "copied", &f->err), 0);
	assert_int_equal(registry_write_copy(f->registry, &f->err), 0);
	close_it(f);
}

static void
ruin(const char *path)
{
	FILE *file = fopen(path, "w");

	fputs("this was never a database, however long one looks at it", file);
	fclose(file);
}

static int
open_or_replace(struct registry_rig *f, char *ret_repair)
{
	return registry_open_or_replace(f->path, 0, &f->registry, ret_repair, SENTENCE_BYTES, &f->err);
}

static void
a_damaged_or_missing_registry_is_replaced_by_its_copy(void **state)
{
	struct registry_rig *f = *state;
	char repair[SENTENCE_BYTES], value[16], aside[160];

	for (int missing = 0; missing < 2; missing++) {
		copy_it(f);
		if (missing)
			assert_int_equal(unlink(f->path), 0);
		else
			ruin(f->path);
		assert_int_equal(open_or_replace(f, repair), 0);
		assert_non_null(strstr(repair, missing ? "missing" : "damaged-19700101T000000Z"));
		assert_int_equal(registry_get_setting(f->registry, "key", value, sizeof value), 0);
		assert_string_equal(value, "copied");
	}
	snprintf(aside, sizeof aside, "%s.damaged-19700101T000000Z", f->path);
	assert_int_equal(access(aside, F_OK), 0);
	close_it(f);
	assert_int_equal(open_or_replace(f, repair), 0);
	assert_string_equal(repair, "");
}

static void
a_registry_that_cannot_be_read_is_not_taken_for_a_damaged_one(void **state)
{
	struct registry_rig *f = *state;
	char repair[SENTENCE_BYTES], aside[160];
	int n = 0, r;

	copy_it(f);
	do { /* the first read fails, then the second, until none does */
		sqlite_reads_good = n++;
		sqlite_read_errno = EIO;
		r = open_or_replace(f, repair);
		sqlite_read_errno = 0;
		assert_string_equal(repair, "");
		assert_true(r == 0 || (r == -EIO && strstr(f->err.text, "malformed") == NULL));
	} while (r < 0);
	assert_true(n > 5);
	snprintf(aside, sizeof aside, "%s.damaged-19700101T000000Z", f->path);
	assert_int_not_equal(access(aside, F_OK), 0);
}

/* More of them than SQLite keeps in memory. */
static void
rows_that_cannot_be_read_are_not_taken_for_damaged_ones(void **state)
{
	struct registry_rig *f = *state;
	struct registry_event *events;
	size_t count;

	meddle(f, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) INSERT INTO event "
		  "(time_ns, source, event, text) SELECT i, '', 'x', hex(zeroblob(200)) FROM n");
	assert_int_equal(registry_open(f->path, false, &f->registry, &f->err), 0);
	sqlite_read_errno = EIO;
	assert_int_equal(registry_list_events(f->registry, 0, 10000, &events, &count, &f->err), -EIO);
	assert_null(strstr(f->err.text, "malformed"));
	sqlite_read_errno = 0;
	assert_int_equal(registry_list_events(f->registry, 0, 10000, &events, &count, &f->err), 0);
	assert_int_equal(count, 10000);
	free(events);
}

static void
without_a_good_copy_nothing_is_changed_and_one_is_told_what_to_do(void **state)
{
	struct registry_rig *f = *state;
	char repair[SENTENCE_BYTES], bak[160];
	struct stat st;

	close_it(f);
	ruin(f->path);
	assert_int_equal(open_or_replace(f, repair), -HF_ECORRUPT);
	assert_non_null(strstr(f->err.text, "backup"));
	snprintf(bak, sizeof bak, "%s.bak", f->path);
	ruin(bak);
	assert_int_equal(open_or_replace(f, repair), -HF_ECORRUPT);
	assert_int_equal(stat(f->path, &st), 0);
	assert_true(st.st_size > 0 && access(bak, F_OK) == 0);
}

static ino_t
inode_of_copy(const struct registry_rig *f)
{
	char bak[160];
	struct stat st;

	snprintf(bak, sizeof bak, "%s.bak", f->path);
	assert_int_equal(stat(bak, &st), 0);
	return st.st_ino;
}

static void
events_and_sightings_alone_are_no_reason_for_a_copy(void **state)
{
	struct registry_rig *f = *state;
	struct registry_event e = {.time_ns = 1, .event = "x", .text = "y"};
	struct registry_sighting seen = {make_source(f), 80, 40};
	ino_t first;

	assert_int_equal(registry_write_copy(f->registry, &f->err), 0);
	first = inode_of_copy(f);
	assert_int_equal(registry_add_event(f->registry, &e, &f->err), 0);
	assert_int_equal(registry_put_sightings(f->registry, &seen, 1, &f->err), 0);
	assert_int_equal(registry_write_copy(f->registry, &f->err), 0);
	assert_int_equal(inode_of_copy(f), first);
	assert_int_equal(registry_set_setting(f->registry, "key", "new", &f->err), 0);
	assert_int_equal(registry_write_copy(f->registry, &f->err), 0);
	assert_int_not_equal(inode_of_copy(f), first);
}

/* ---- since the backup ---- */

static void
newcomers_are_counted_but_for_those_being_deleted(void **state)
{
	struct registry_rig *f = *state;
	int64_t first_ns = -1;
	struct id source;
	size_t count;

	assert_int_equal(registry_count_sources(f->registry, 0, &count, &first_ns, &f->err), 0);
	assert_true(count == 0 && first_ns == 0);
	for (unsigned char i = 1; i <= 3; i++) {
		put_token(f, i, NULL);
		assert_int_equal(enroll_at(f, i, T_NOW + i, nonce_a, &source), 0);
	}
	assert_int_equal(registry_count_sources(f->registry, T_NOW + 1, &count, &first_ns, &f->err), 0);
	assert_true(count == 3 && first_ns == T_NOW + 2);
	assert_int_equal(registry_set_phase(f->registry, &source, PHASE_DELETING, T_NOW, &f->err), 1);
	assert_int_equal(registry_count_sources(f->registry, T_NOW + 2, &count, &first_ns, &f->err), 0);
	assert_true(count == 2 && first_ns == 0);
}

/* ---- settings of sources ---- */

static void
a_new_source_begins_with_the_template_of_its_day(void **state)
{
	struct registry_rig *f = *state;
	struct registry_source row;
	struct id before, after;
	char text[64];

	put_token(f, 1, NULL);
	put_token(f, 2, NULL);
	assert_int_equal(enroll_at(f, 1, T_NOW, nonce_a, &before), 0);
	assert_int_equal(registry_set_template(f->registry, "{\"a\":1}", "{\"bandwidthThrottling\":2}", &f->err), 0);
	assert_int_equal(enroll_at(f, 2, T_NOW, nonce_b, &after), 0);
	reopen(f);
	assert_int_equal(registry_get_source_settings(f->registry, &before, text, sizeof text), 0);
	assert_string_equal(text, "{}");
	assert_int_equal(registry_get_source_settings(f->registry, &after, text, sizeof text), 0);
	assert_string_equal(text, "{\"a\":1}");
	assert_int_equal(registry_get_setting(f->registry, REGISTRY_NEW_STORE, text, sizeof text), 0);
	assert_string_equal(text, "{\"bandwidthThrottling\":2}");
	assert_int_equal(registry_get_source(f->registry, &before, &row, &f->err), 0);
	assert_int_equal(row.throttle.mbps, 0);
	assert_int_equal(registry_get_source(f->registry, &after, &row, &f->err), 0);
	assert_int_equal(row.throttle.mbps, 2);
}

static void
settings_of_a_source_are_its_own(void **state)
{
	struct registry_rig *f = *state;
	struct id source = make_source(f), nobody = id_random("s");
	char text[64];

	assert_int_equal(registry_set_source_settings(f->registry, &source, "{\"c\":3}", &f->err), 0);
	reopen(f);
	assert_int_equal(registry_get_source_settings(f->registry, &source, text, sizeof text), 0);
	assert_string_equal(text, "{\"c\":3}");
	assert_int_equal(registry_set_source_settings(f->registry, &nobody, "{}", &f->err), -ENOENT);
	assert_int_equal(registry_get_source_settings(f->registry, &nobody, text, sizeof text), -ENOENT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(new_registry_is_empty_and_private),
	    T(second_process_is_refused),
	    T(newer_format_is_refused),
	    T(foreign_database_is_refused_untouched),
	    T(damaged_file_is_refused),
	    T(missing_directory_is_named),
	    T(token_makes_a_source_with_a_certificate),
	    T(bad_tokens_are_refused_and_change_nothing),
	    T(failed_signature_leaves_the_token_good),
	    T(bound_token_moves_its_source_to_new_hardware),
	    T(one_of_100_racing_uses_of_a_token_wins),
	    T(same_installation_is_admitted_and_its_starts_remembered),
	    T(sightings_are_kept_of_all_that_are_still_there),
	    T(reconnect_of_the_same_process_is_admitted),
	    T(clones_are_refused_and_leave_no_trace),
	    T(adopted_source_takes_the_next_installation_once),
	    T(a_stopped_source_is_not_admitted_until_it_is_started),
	    T(a_source_that_is_being_deleted_lets_nobody_in_and_never_comes_back),
	    T(a_stopped_source_is_neither_paused_nor_resumed),
	    T(a_paused_source_is_admitted_and_stays_paused),
	    T(a_throttle_and_its_windows_are_kept),
	    T(what_is_not_there_is_told),
	    T(revoked_source_has_no_good_certificate),
	    T(certificates_are_listed_with_the_newest_of_each_source_last),
	    T(certificate_cannot_be_recorded_twice),
	    T(events_are_numbered_and_listed_from_a_number_on),
	    T(events_beyond_the_bound_go_oldest_first),
	    T(settings_and_audit_survive),
	    T(on_a_full_disk_a_change_finds_room_in_the_log_there_is),
	    T(a_damaged_or_missing_registry_is_replaced_by_its_copy),
	    T(a_registry_that_cannot_be_read_is_not_taken_for_a_damaged_one),
	    T(rows_that_cannot_be_read_are_not_taken_for_damaged_ones),
	    T(without_a_good_copy_nothing_is_changed_and_one_is_told_what_to_do),
	    T(events_and_sightings_alone_are_no_reason_for_a_copy),
	    T(a_new_source_begins_with_the_template_of_its_day),
	    T(newcomers_are_counted_but_for_those_being_deleted),
	    T(settings_of_a_source_are_its_own),
	};

	sqlite_faults_install();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
