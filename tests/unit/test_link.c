/* SPDX-License-Identifier: Apache-2.0 */
/* The link against a server that cuts, lies, falls silent and refuses. */
#include "agent/link.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/pem.h>

#include "proto/common/digest.h"
#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/units.h"
#include "tests/lib/fake_server.h"
#include "tests/lib/scratch.h"

enum { FRAMES = 10, BLOCKS = 4 };

struct fixture {
	struct fake_server server;
	struct fake_identity client;
	char directory[64], key[80], certificate[96], ca[80], address[32];
	struct link_config config;
	const char *servers[1];
	struct link *link;
	struct message_declare declare;
	struct message_volumes volumes;
};

/* ---- arranging ---- */

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	log_level_max = getenv("V") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERR;
	fake_server_init(&f->server);
	f->client = fake_identity_make(&f->server.ca, "s-0123456789abcdef0", FAKE_CLIENT, 90);
	scratch_make(f->directory, sizeof f->directory, "test_link");
	snprintf(f->key, sizeof f->key, "%s/key.pem", f->directory);
	snprintf(f->certificate, sizeof f->certificate, "%s/cert.pem", f->directory);
	snprintf(f->ca, sizeof f->ca, "%s/ca.pem", f->directory);
	fake_pki_write_key(f->key, f->client.key);
	fake_pki_write_certificate(f->certificate, f->client.certificate);
	fake_pki_write_certificate(f->ca, f->server.ca.certificate);
	f->config = (struct link_config){.servers = f->servers,
	    .server_count = 1,
	    .key_path = f->key,
	    .certificate_path = f->certificate,
	    .ca_path = f->ca,
	    .incarnation = 1};
	f->declare = (struct message_declare){.count = 1,
	    .volumes = {{.name = "root", .identity = "serial:1", .size_bytes = 1 << 30, .state = VOLUME_OK}}};
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	link_destroy(f->link);
	fake_server_stop(&f->server);
	fake_identity_free(&f->client);
	unlink(f->key);
	unlink(f->certificate);
	unlink(f->ca);
	rmdir(f->directory);
	free(f);
	return 0;
}

static void
begin(struct fixture *f)
{
	struct hf_error err = {0};

	fake_server_start(&f->server);
	snprintf(f->address, sizeof f->address, "127.0.0.1:%d", f->server.port);
	f->servers[0] = f->address;
	assert_int_equal(link_create(&f->config, &f->link, &err), 0);
}

static void
begin_stream(struct fixture *f)
{
	begin(f);
	assert_int_equal(link_declare(f->link, &f->declare, &f->volumes, NULL), 0);
	assert_int_equal(link_restart(f->link), 0);
}

/* One data frame whose blocks depend on number. */
static int
send_frame(struct fixture *f, unsigned number)
{
	static struct data_message m;
	static unsigned char blocks[BLOCKS * BLOCK_BYTES];

	m = (struct data_message){.extent_count = 1, .digest_count = BLOCKS};
	m.extents[0] = (struct extent){.block = number * BLOCKS, .count = BLOCKS, .volume = 1, .kind = EXTENT_DATA};
	for (size_t i = 0; i < sizeof blocks; i++)
		blocks[i] = (unsigned char)(i * 7 + number + (i >> 12));
	for (size_t i = 0; i < BLOCKS; i++)
		m.digests[i] = digest_block(link_digest_seed(f->link), blocks + i * BLOCK_BYTES);
	return link_send_data(f->link, &m, blocks);
}

static void
send_frames(struct fixture *f, unsigned count)
{
	for (unsigned i = 1; i <= count; i++)
		assert_int_equal(send_frame(f, i), 0);
}

static bool
connected_times(const struct fake_server *s, uint64_t times)
{
	return s->connection_count >= times;
}

static bool
started_times(const struct fake_server *s, uint64_t times)
{
	unsigned started = 0;

	for (unsigned i = 0; i < s->connection_count && i < FAKE_CONNECTIONS_MAX; i++)
		started += s->connections[i].started;
	return started >= times;
}

#define SET(f, knob, value)                       \
	do {                                      \
		fake_server_lock(&(f)->server);   \
		(f)->server.knob = (value);       \
		fake_server_unlock(&(f)->server); \
	} while (0)

static void
assert_no_trouble(struct fixture *f)
{
	fake_server_lock(&f->server);
	if (f->server.trouble[0] != '\0')
		fprintf(stderr, "trouble: %s\n", f->server.trouble);
	assert_string_equal(f->server.trouble, "");
	fake_server_unlock(&f->server);
}

static uint64_t
frames_received(struct fixture *f)
{
	uint64_t n;

	fake_server_lock(&f->server);
	n = f->server.received;
	fake_server_unlock(&f->server);
	return n;
}

static struct fake_connection *
connection(struct fixture *f, unsigned i)
{
	return &f->server.connections[i];
}

/* ---- resuming ---- */

static void
everything_sent_arrives_and_is_acknowledged(void **state)
{
	struct fixture *f = *state;
	struct link_status st;

	begin_stream(f);
	send_frames(f, FRAMES);
	assert_int_equal(link_flush(f->link), 0);
	link_get_status(f->link, &st);
	assert_int_equal(st.acked_sequence, FRAMES);
	assert_int_equal(st.unacked_bytes, 0);
	assert_int_equal(st.resent_bytes, 0);
	assert_true(st.connected);
	assert_string_equal(st.source_id, "s-0123456789abcdef0");
	assert_int_equal(f->server.sum, FRAMES * BLOCKS);
	assert_no_trouble(f);
}

static void
a_cut_resumes_with_exactly_what_is_not_durable(void **state)
{
	struct fixture *f = *state;
	struct link_status st;

	f->server.cut_at = 8;
	f->server.durable_max = 5; /* frame 5 is durable, but the agent is told of 3 only */
	f->server.ack_max = 3;
	begin_stream(f);
	send_frames(f, 3);
	assert_int_equal(link_flush(f->link), 0);
	send_frames(f, FRAMES - 3);
	assert_true(fake_server_wait(&f->server, started_times, 2));
	SET(f, durable_max, UINT64_MAX);
	SET(f, ack_max, UINT64_MAX);
	assert_int_equal(link_flush(f->link), 0);
	link_get_status(f->link, &st);
	assert_no_trouble(f);
	assert_true(connection(f, 1)->resumed);
	assert_int_equal(connection(f, 1)->first_sequence, 6);
	assert_int_equal(connection(f, 1)->last_sequence, FRAMES);
	assert_int_equal(connection(f, 1)->start_stream_id, connection(f, 0)->start_stream_id);
	assert_int_equal(connection(f, 1)->declares, 1);
	assert_int_equal(connection(f, 1)->hello.last_acked_sequence, 3);
	assert_true(st.resent_bytes > 0 && st.reconnects == 1);
}

static void
a_cut_at_every_frame_loses_nothing(void **state)
{
	struct fixture *f = *state;

	begin_stream(f);
	for (unsigned i = 1; i <= FRAMES; i++) {
		SET(f, cut_at, i);
		assert_int_equal(send_frame(f, i), 0);
		assert_int_equal(link_flush(f->link), 0);
	}
	assert_no_trouble(f);
	assert_int_equal(frames_received(f), FRAMES);
}

static void
a_stream_of_which_nothing_is_durable_begins_again_with_its_frames(void **state)
{
	struct fixture *f = *state;

	f->server.cut_at = 4;
	f->server.durable_max = 0;
	begin_stream(f);
	send_frames(f, FRAMES);
	assert_true(fake_server_wait(&f->server, started_times, 2));
	SET(f, durable_max, UINT64_MAX);
	assert_int_equal(link_flush(f->link), 0);
	assert_no_trouble(f);
	assert_false(connection(f, 1)->resumed);
	assert_int_equal(connection(f, 1)->first_sequence, 1);
	assert_int_equal(connection(f, 1)->start_stream_id, connection(f, 0)->start_stream_id);
}

/* ---- losing the stream ---- */

static void
expect_lost_then_begin_anew(struct fixture *f)
{
	uint64_t first_id = connection(f, 0)->start_stream_id;

	assert_int_equal(link_flush(f->link), -HF_ESTREAM);
	assert_int_equal(send_frame(f, 11), -HF_ESTREAM);
	assert_int_equal(link_declare(f->link, &f->declare, &f->volumes, NULL), 0);
	assert_int_equal(link_restart(f->link), 0);
	assert_int_equal(send_frame(f, 1), 0);
	assert_int_equal(link_flush(f->link), 0);
	assert_no_trouble(f);
	assert_int_equal(frames_received(f), 1);
	assert_int_not_equal(f->server.stream_id, first_id);
}

static void
a_chain_that_disagrees_loses_the_stream(void **state)
{
	struct fixture *f = *state;

	f->server.cut_at = 5;
	f->server.durable_max = f->server.ack_max = 3;
	f->server.chain_lie = 1;
	begin_stream(f);
	send_frames(f, FRAMES);
	assert_true(fake_server_wait(&f->server, connected_times, 2));
	SET(f, durable_max, UINT64_MAX);
	SET(f, ack_max, UINT64_MAX);
	expect_lost_then_begin_anew(f);
}

static void
a_server_that_went_back_in_time_loses_the_stream(void **state)
{
	struct fixture *f = *state;

	f->server.durable_max = 5;
	begin_stream(f);
	send_frames(f, 5);
	assert_int_equal(link_flush(f->link), 0);
	fake_server_lock(&f->server);
	f->server.durable = 4;
	f->server.durable_chain = f->server.chains[4];
	f->server.durable_max = 4;
	f->server.cut_now = true;
	fake_server_unlock(&f->server);
	send_frames(f, 1);
	assert_true(fake_server_wait(&f->server, connected_times, 2));
	SET(f, durable_max, UINT64_MAX);
	expect_lost_then_begin_anew(f);
	assert_int_equal(connection(f, 1)->hello.last_acked_sequence, 5);
	assert_int_equal(connection(f, 1)->hello.earlier.count, 0);
}

static void
a_server_is_told_of_the_streams_before_the_newest(void **state)
{
	struct fixture *f = *state;
	uint64_t first;

	a_server_that_went_back_in_time_loses_the_stream(state);
	first = connection(f, 0)->start_stream_id;
	fake_server_lock(&f->server);
	f->server.cut_now = true;
	fake_server_unlock(&f->server);
	assert_true(fake_server_wait(&f->server, connected_times, 3));
	assert_true(fake_server_wait(&f->server, started_times, 3));
	assert_int_equal(connection(f, 2)->hello.last_stream_id, connection(f, 1)->start_stream_id);
	assert_int_equal(connection(f, 2)->hello.earlier.count, 1);
	assert_true(connection(f, 2)->hello.earlier.ids[0] == first);
}

static void
other_volume_numbers_lose_the_stream(void **state)
{
	struct fixture *f = *state;

	f->server.cut_at = 5;
	f->server.durable_max = f->server.ack_max = 3;
	begin_stream(f);
	assert_int_equal(f->volumes.volumes[0].volume, 1);
	fake_server_lock(&f->server);
	f->server.first_volume = 7;
	fake_server_unlock(&f->server);
	send_frames(f, FRAMES);
	assert_true(fake_server_wait(&f->server, connected_times, 2));
	SET(f, durable_max, UINT64_MAX);
	SET(f, ack_max, UINT64_MAX);
	expect_lost_then_begin_anew(f);
	assert_int_equal(f->volumes.volumes[0].volume, 7);
}

static void
a_restart_in_the_middle_reconnects_with_a_new_stream(void **state)
{
	struct fixture *f = *state;

	begin_stream(f);
	send_frames(f, 3);
	assert_int_equal(link_flush(f->link), 0);
	assert_int_equal(link_restart(f->link), 0);
	send_frames(f, 2);
	assert_int_equal(link_flush(f->link), 0);
	assert_no_trouble(f);
	assert_int_equal(frames_received(f), 2);
	assert_int_not_equal(connection(f, 0)->start_stream_id, connection(f, 1)->start_stream_id);
}

static bool
left_times(const struct fake_server *s, uint64_t times)
{
	unsigned left = 0;

	for (unsigned i = 0; i < s->connection_count && i < FAKE_CONNECTIONS_MAX; i++)
		left += s->connections[i].left;
	return left >= times;
}

/* So that the server's log has the reason, too. */
static void
a_session_ended_by_the_agent_ends_with_a_goodbye_that_says_why(void **state)
{
	struct fixture *f = *state;

	begin_stream(f);
	send_frames(f, 3);
	assert_int_equal(link_flush(f->link), 0);
	assert_int_equal(link_restart(f->link), 0);
	assert_true(fake_server_wait(&f->server, left_times, 1));
	assert_int_equal(connection(f, 0)->goodbye.status, -ECONNABORTED);
	assert_non_null(strstr(connection(f, 0)->goodbye.text, "new stream"));
	send_frames(f, 1);
	assert_int_equal(link_flush(f->link), 0);
	SET(f, break_protocol, true);
	assert_true(fake_server_wait(&f->server, left_times, 2));
	assert_int_equal(connection(f, 1)->goodbye.status, -HF_EPROTOCOL);
	assert_true(fake_server_wait(&f->server, started_times, 3));
	link_destroy(f->link);
	f->link = NULL;
	assert_true(fake_server_wait(&f->server, left_times, 3));
	assert_int_equal(connection(f, 2)->goodbye.status, 0);
	assert_no_trouble(f);
}

/* ---- credit, window, keys, compression ---- */

static void
credit_is_never_exceeded(void **state)
{
	struct fixture *f = *state;

	f->server.credit_window = 3 * BLOCKS * BLOCK_BYTES; /* fewer than 3 frames */
	begin_stream(f);
	send_frames(f, 200);
	assert_int_equal(link_flush(f->link), 0);
	assert_no_trouble(f); /* the server checks it at each frame */
	assert_int_equal(frames_received(f), 200);
}

static void
without_credit_nothing_is_sent_and_heartbeats_go_on(void **state)
{
	struct fixture *f = *state;
	uint64_t heartbeats;

	f->server.credit_window = 0;
	begin_stream(f);
	send_frames(f, 2);
	assert_true(fake_server_wait(&f->server, started_times, 1));
	fake_server_lock(&f->server);
	heartbeats = connection(f, 0)->heartbeats;
	while (connection(f, 0)->heartbeats < heartbeats + 5)
		pthread_cond_wait(&f->server.changed, &f->server.lock);
	assert_int_equal(f->server.received, 0);
	f->server.credit_window = 1 << 20;
	fake_server_unlock(&f->server);
	assert_int_equal(link_flush(f->link), 0);
	assert_no_trouble(f);
}

struct late_credit {
	struct fixture *f;
	struct link_status before;
};

/* Once the window is full, let the server grant credit. */
static void *
grant_when_full(void *arg)
{
	struct late_credit *late = arg;

	do
		link_get_status(late->f->link, &late->before);
	while (late->before.unacked_bytes < 2 * BLOCKS * BLOCK_BYTES);
	SET(late->f, credit_window, 1 << 20);
	return NULL;
}

static void
memory_is_bounded_by_the_window(void **state)
{
	struct fixture *f = *state;
	struct late_credit late = {.f = f};
	struct link_status st;
	pthread_t thread;

	f->server.credit_window = 0;
	f->config.window_bytes_max = 3 * BLOCKS * BLOCK_BYTES;
	begin_stream(f);
	assert_int_equal(pthread_create(&thread, NULL, grant_when_full, &late), 0);
	for (unsigned i = 1; i <= 20; i++) {
		assert_int_equal(send_frame(f, i), 0);
		link_get_status(f->link, &st);
		assert_true(st.unacked_bytes <= f->config.window_bytes_max);
	}
	pthread_join(thread, NULL);
	assert_int_equal(link_flush(f->link), 0);
	assert_true(late.before.unacked_bytes <= f->config.window_bytes_max);
}

static void
keys_are_updated(void **state)
{
	struct fixture *f = *state;

	f->config.key_update_bytes = 50000;
	begin_stream(f);
	send_frames(f, 20); /* 16 KiB each */
	assert_int_equal(link_flush(f->link), 0);
	assert_no_trouble(f);
	assert_in_range(connection(f, 0)->key_updates, 3, 8);
}

static void
payload_is_compressed_as_negotiated(void **state)
{
	struct fixture *f = *state;
	struct link_status st;

	f->config.compressions = FRAME_LZ4 | FRAME_ZSTD;
	f->server.compression = FRAME_LZ4;
	begin_stream(f);
	send_frames(f, FRAMES);
	assert_int_equal(link_flush(f->link), 0);
	link_get_status(f->link, &st);
	assert_no_trouble(f);
	assert_int_equal(f->server.sum, FRAMES * BLOCKS);
	assert_true(st.sent_bytes < FRAMES * BLOCKS * BLOCK_BYTES / 2);
}

static void
the_server_is_heard_while_our_write_is_blocked(void **state)
{
	struct fixture *f = *state;
	uint64_t id = 0;
	bool compare;

	begin_stream(f);
	assert_true(fake_server_wait(&f->server, started_times, 1));
	SET(f, deaf, true);
	for (unsigned i = 1; i <= 1500; i++) /* 24 MiB: more than the socket takes */
		assert_int_equal(send_frame(f, i), 0);
	SET(f, request_id, 77);
	link_wait(f->link, 20 * NS_PER_SECOND);
	assert_int_equal(link_take_requests(f->link, &id, 1, &compare), 1);
	assert_int_equal(id, 77);
	SET(f, deaf, false);
	assert_int_equal(link_flush(f->link), 0);
	assert_no_trouble(f);
	assert_int_equal(f->server.connection_count, 1);
}

/* ---- silence, refusals, stopping ---- */

/* And told nothing: it may hear what we say. */
static void
a_silent_server_is_left(void **state)
{
	struct fixture *f = *state;
	int64_t began_ns;

	begin_stream(f);
	assert_true(fake_server_wait(&f->server, started_times, 1));
	SET(f, mute, true);
	began_ns = clock_monotonic_ns();
	assert_true(fake_server_wait(&f->server, connected_times, 2));
	assert_in_range((clock_monotonic_ns() - began_ns) / (NS_PER_SECOND / 10), 45, 90);
	assert_false(connection(f, 0)->left);
}

static bool
heartbeats(const struct fake_server *s, uint64_t count)
{
	return s->connections[0].heartbeats >= count || s->connection_count > 1;
}

/* A record that takes longer than silence may last. */
static void
a_server_of_which_a_byte_comes_now_and_then_is_not_silent(void **state)
{
	struct fixture *f = *state;

	begin_stream(f);
	assert_true(fake_server_wait(&f->server, started_times, 1));
	SET(f, stammers, true);
	assert_true(fake_server_wait(&f->server, heartbeats, 60)); /* one in 100 ms */
	assert_int_equal(f->server.connection_count, 1);
	assert_no_trouble(f);
}

static void
wait_for_error(struct fixture *f, struct link_status *ret_status)
{
	do
		link_get_status(f->link, ret_status);
	while (ret_status->last_code == 0);
}

static void
a_clone_is_told_why_and_asks_again_only_slowly(void **state)
{
	struct fixture *f = *state;
	struct link_status st;

	f->server.goodbye = -HF_ECLONE;
	begin(f);
	wait_for_error(f, &st);
	assert_int_equal(st.last_code, -HF_ECLONE);
	assert_non_null(strstr(st.last_error, "go away"));
	assert_non_null(strstr(st.last_error, "type something"));
	link_wait(f->link, 2 * NS_PER_SECOND); /* an ordinary failure is retried several times in this */
	assert_int_equal(f->server.connection_count, 1);
}

static void
a_server_of_another_ca_is_told_nothing(void **state)
{
	struct fixture *f = *state;
	struct fake_identity other = fake_identity_make(NULL, "another CA", FAKE_CA, 10);
	struct link_status st;

	fake_pki_write_certificate(f->ca, other.certificate);
	fake_identity_free(&other);
	begin(f);
	wait_for_error(f, &st);
	assert_int_equal(st.last_code, -EACCES);
	assert_false(connection(f, 0)->greeted);
}

static void
serve_with(struct fixture *f, enum fake_usage usage, int days)
{
	fake_identity_free(&f->server.identity);
	f->server.identity = fake_identity_make(&f->server.ca, "test server", usage, days);
}

static void
expect_refused_server(struct fixture *f)
{
	struct link_status st;

	begin(f);
	wait_for_error(f, &st);
	assert_int_equal(st.last_code, -EACCES);
	assert_false(connection(f, 0)->greeted);
}

static void
a_client_certificate_is_no_server(void **state)
{
	serve_with(*state, FAKE_CLIENT, 10);
	expect_refused_server(*state);
}

static void
a_certificate_without_usage_is_no_server(void **state)
{
	serve_with(*state, FAKE_NO_USAGE, 10);
	expect_refused_server(*state);
}

static void
an_expired_server_is_refused(void **state)
{
	serve_with(*state, FAKE_SERVER, 0); /* ended half an hour ago */
	expect_refused_server(*state);
}

static void *
stop_soon(void *arg)
{
	struct timespec moment = {.tv_nsec = 50000000};

	nanosleep(&moment, NULL);
	link_stop(arg);
	return NULL;
}

static void
stopping_ends_every_wait(void **state)
{
	struct fixture *f = *state;
	struct message_checkpoint c = {.clock_ns = 1, .consistency = CONSISTENCY_FUZZY};
	pthread_t thread;

	f->server.durable_max = 0;
	begin_stream(f);
	assert_int_equal(pthread_create(&thread, NULL, stop_soon, f->link), 0);
	assert_int_equal(link_checkpoint(f->link, &c), -ECANCELED);
	assert_int_equal(link_flush(f->link), -ECANCELED);
	assert_int_equal(send_frame(f, 1), -ECANCELED);
	assert_int_equal(link_declare(f->link, &f->declare, &f->volumes, NULL), -ECANCELED);
	pthread_join(thread, NULL);
}

static void
stopping_ends_the_wait_for_a_server_that_is_not_there(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;

	f->server.goodbye = -HF_ESHUTDOWN;
	begin(f);
	assert_int_equal(pthread_create(&thread, NULL, stop_soon, f->link), 0);
	assert_int_equal(link_declare(f->link, &f->declare, &f->volumes, NULL), -ECANCELED);
	pthread_join(thread, NULL);
}

static void
the_next_server_is_tried(void **state)
{
	struct fixture *f = *state;
	const char *two[2] = {"127.0.0.1:1", f->address};
	struct hf_error err;

	fake_server_start(&f->server);
	snprintf(f->address, sizeof f->address, "127.0.0.1:%d", f->server.port);
	f->config.servers = two;
	f->config.server_count = 2;
	assert_int_equal(link_create(&f->config, &f->link, &err), 0);
	assert_int_equal(link_declare(f->link, &f->declare, &f->volumes, NULL), 0);
}

/* ---- questions, checkpoints, renewal ---- */

static void
ask(struct fixture *f, uint64_t first)
{
	struct message_compare q = {.volume = 1, .level = 2, .first = first, .count = 10};

	assert_int_equal(link_compare_begin(f->link, &q), 0);
}

static void
expect_answer(struct fixture *f, uint64_t first)
{
	uint64_t digests[10];

	assert_int_equal(link_compare_end(f->link, digests, 10), 0);
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(digests[i], first == 1000 ? 0 : first + i);
}

static void
compares_are_answered_in_order(void **state)
{
	struct fixture *f = *state;

	begin_stream(f);
	for (uint64_t i = 0; i < 16; i++)
		ask(f, i == 5 ? 1000 : i * 10);
	for (uint64_t i = 0; i < 100; i++) {
		expect_answer(f, i == 5 ? 1000 : i * 10);
		ask(f, (i + 16) * 10);
	}
	assert_no_trouble(f);
}

static void
unanswered_compares_are_asked_again_after_a_cut(void **state)
{
	struct fixture *f = *state;

	begin_stream(f);
	ask(f, 10);
	expect_answer(f, 10);
	SET(f, cut_at_compare, true);
	ask(f, 20);
	ask(f, 30);
	expect_answer(f, 20);
	expect_answer(f, 30);
	assert_no_trouble(f);
	assert_int_equal(f->server.connection_count, 2);
	assert_int_equal(connection(f, 1)->compares, 2);
}

static void
recent_nodes_are_told(void **state)
{
	struct fixture *f = *state;
	static struct message_recent_answer a;

	begin_stream(f);
	assert_int_equal(link_recent(f->link, 1, &a), 0);
	assert_int_equal(a.count, 2);
	assert_int_equal(a.nodes[0], 7);
}

static void
a_checkpoint_waits_until_it_is_durable(void **state)
{
	struct fixture *f = *state;
	struct message_checkpoint c = {
	    .clock_ns = 99, .consistency = CONSISTENCY_CRASH, .request_id_count = 1, .request_ids = {5}};

	begin_stream(f);
	send_frames(f, 3);
	assert_int_equal(link_checkpoint(f->link, &c), 0);
	assert_true(f->server.durable >= 4);
	assert_int_equal(f->server.checkpoint.clock_ns, 99);
	assert_int_equal(f->server.checkpoint.request_ids[0], 5);
}

static bool
noticed(const struct fake_server *s, uint64_t arg)
{
	return s->notice.event[0] != '\0';
}

static void
notices_are_kept_until_there_is_a_server(void **state)
{
	struct fixture *f = *state;

	begin(f);
	link_notice(f->link, "volume_moved", "%s is now %s", "/dev/sda", "/dev/sdb");
	assert_true(fake_server_wait(&f->server, noticed, 0));
	assert_string_equal(f->server.notice.event, "volume_moved");
	assert_string_equal(f->server.notice.text, "/dev/sda is now /dev/sdb");
}

static void
a_notice_cut_inside_a_character_cuts_no_session(void **state)
{
	struct fixture *f = *state;
	char path[2 * SENTENCE_BYTES] = "";

	for (size_t i = 0; i < SENTENCE_BYTES; i++)
		memcpy(path + 2 * i, "\xc3\xa4", 2);
	path[sizeof path - 2] = '\0';
	begin(f);
	link_notice(f->link, "volume_moved", "%s", path);
	assert_true(fake_server_wait(&f->server, noticed, 0));
	assert_memory_equal(f->server.notice.text + SENTENCE_BYTES - 3, "\xa4?", 3);
}

static bool
renewal_was_taken(const struct fake_server *s, uint64_t arg)
{
	return !s->renew;
}

static long
serial_in_file(const char *path)
{
	FILE *file = fopen(path, "r");
	X509 *x;
	long serial;

	assert_non_null(file);
	x = PEM_read_X509(file, NULL, NULL, NULL);
	fclose(file);
	assert_non_null(x);
	serial = ASN1_INTEGER_get(X509_get0_serialNumber(x));
	X509_free(x);
	return serial;
}

static void
a_renewed_certificate_is_stored_and_used_next(void **state)
{
	struct fixture *f = *state;
	long first = ASN1_INTEGER_get(X509_get0_serialNumber(f->client.certificate));
	long renewed;

	begin_stream(f);
	SET(f, renew, true);
	assert_true(fake_server_wait(&f->server, renewal_was_taken, 0));
	while ((renewed = serial_in_file(f->certificate)) == first)
		assert_int_equal(send_frame(f, 1), 0); /* anything, while the file is replaced */
	SET(f, cut_now, true);
	assert_true(fake_server_wait(&f->server, started_times, 2));
	assert_int_equal(connection(f, 0)->certificate_serial, first);
	assert_int_equal(connection(f, 1)->certificate_serial, renewed);
}

static bool
is_signed_by(const char *path, const struct fake_identity *ca)
{
	FILE *file = fopen(path, "r");
	X509 *x;
	bool good;

	assert_non_null(file);
	x = PEM_read_X509(file, NULL, NULL, NULL);
	fclose(file);
	good = x != NULL && X509_verify(x, ca->key) == 1;
	X509_free(x);
	return good;
}

static int
count_certificates(const char *path)
{
	FILE *file = fopen(path, "r");
	int count = 0;
	X509 *x;

	assert_non_null(file);
	for (; (x = PEM_read_X509(file, NULL, NULL, NULL)) != NULL; count++)
		X509_free(x);
	fclose(file);
	return count;
}

static bool
notice_came(const struct fake_server *s, uint64_t arg)
{
	return s->notice.event[0] != '\0';
}

static void
the_next_ca_is_trusted_beside_the_one_that_vouches_for_it(void **state)
{
	struct fixture *f = *state;
	struct fake_identity next = fake_identity_make(NULL, "next", FAKE_CA, 90);

	begin_stream(f);
	SET(f, next_ca, &next);
	SET(f, renew, true);
	assert_true(fake_server_wait(&f->server, connected_times, 2)); /* to show what it has */
	assert_int_equal(count_certificates(f->ca), 2);
	assert_true(is_signed_by(f->ca, &f->server.ca)); /* the first of them */
	assert_true(is_signed_by(f->certificate, &next));
	SET(f, next_ca, NULL);
	fake_identity_free(&next);
}

/* The CAs are in their file already then, and are no news. */
static void
a_certificate_of_the_next_ca_that_could_not_be_stored_is_shown_once_it_is(void **state)
{
	struct fixture *f = *state;
	struct fake_identity next = fake_identity_make(NULL, "next", FAKE_CA, 90);
	char in_the_way[PATH_MAX];

	snprintf(in_the_way, sizeof in_the_way, "%s.new", f->certificate);
	assert_int_equal(mkdir(in_the_way, 0700), 0);
	begin_stream(f);
	SET(f, next_ca, &next);
	SET(f, renew, true);
	assert_true(fake_server_wait(&f->server, notice_came, 0));
	assert_string_equal(f->server.notice.event, "renew_failed");
	assert_int_equal(count_certificates(f->ca), 2);
	assert_int_equal(rmdir(in_the_way), 0);
	SET(f, renew, true);
	assert_true(fake_server_wait(&f->server, connected_times, 2));
	assert_true(is_signed_by(f->certificate, &next));
	SET(f, next_ca, NULL);
	fake_identity_free(&next);
}

static void
a_ca_that_nobody_vouches_for_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct fake_identity foreign = fake_identity_make(NULL, "foreign", FAKE_CA, 90);
	long first = serial_in_file(f->certificate);

	begin_stream(f);
	SET(f, named_ca, &foreign);
	SET(f, next_ca, &foreign);
	SET(f, renew, true);
	assert_true(fake_server_wait(&f->server, notice_came, 0));
	assert_string_equal(f->server.notice.event, "renew_failed");
	assert_int_equal(count_certificates(f->ca), 1);
	assert_true(is_signed_by(f->ca, &f->server.ca));
	assert_int_equal(serial_in_file(f->certificate), first);
	SET(f, named_ca, NULL);
	SET(f, next_ca, NULL);
	fake_identity_free(&foreign);
}

static void
volumes_can_be_declared_again_in_mid_stream(void **state)
{
	struct fixture *f = *state;

	begin_stream(f);
	send_frames(f, 3);
	f->declare.volumes[0].size_bytes *= 2;
	assert_int_equal(link_declare(f->link, &f->declare, &f->volumes, NULL), 0);
	assert_int_equal(f->volumes.volumes[0].size_bytes, f->declare.volumes[0].size_bytes);
	assert_int_equal(send_frame(f, 4), 0);
	assert_int_equal(link_flush(f->link), 0);
	assert_no_trouble(f);
	assert_int_equal(f->server.connection_count, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(everything_sent_arrives_and_is_acknowledged),
	    T(a_cut_resumes_with_exactly_what_is_not_durable),
	    T(a_cut_at_every_frame_loses_nothing),
	    T(a_stream_of_which_nothing_is_durable_begins_again_with_its_frames),
	    T(a_chain_that_disagrees_loses_the_stream),
	    T(a_server_that_went_back_in_time_loses_the_stream),
	    T(a_server_is_told_of_the_streams_before_the_newest),
	    T(other_volume_numbers_lose_the_stream),
	    T(a_restart_in_the_middle_reconnects_with_a_new_stream),
	    T(a_session_ended_by_the_agent_ends_with_a_goodbye_that_says_why),
	    T(credit_is_never_exceeded),
	    T(without_credit_nothing_is_sent_and_heartbeats_go_on),
	    T(memory_is_bounded_by_the_window),
	    T(keys_are_updated),
	    T(payload_is_compressed_as_negotiated),
	    T(the_server_is_heard_while_our_write_is_blocked),
	    T(a_silent_server_is_left),
	    T(a_server_of_which_a_byte_comes_now_and_then_is_not_silent),
	    T(a_clone_is_told_why_and_asks_again_only_slowly),
	    T(a_server_of_another_ca_is_told_nothing),
	    T(a_client_certificate_is_no_server),
	    T(a_certificate_without_usage_is_no_server),
	    T(an_expired_server_is_refused),
	    T(stopping_ends_every_wait),
	    T(stopping_ends_the_wait_for_a_server_that_is_not_there),
	    T(the_next_server_is_tried),
	    T(compares_are_answered_in_order),
	    T(unanswered_compares_are_asked_again_after_a_cut),
	    T(recent_nodes_are_told),
	    T(a_checkpoint_waits_until_it_is_durable),
	    T(notices_are_kept_until_there_is_a_server),
	    T(a_notice_cut_inside_a_character_cuts_no_session),
	    T(a_renewed_certificate_is_stored_and_used_next),
	    T(the_next_ca_is_trusted_beside_the_one_that_vouches_for_it),
	    T(a_certificate_of_the_next_ca_that_could_not_be_stored_is_shown_once_it_is),
	    T(a_ca_that_nobody_vouches_for_changes_nothing),
	    T(volumes_can_be_declared_again_in_mid_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
