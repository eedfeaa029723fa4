/* SPDX-License-Identifier: Apache-2.0 */
/* Run from the top of the source tree: the man page and the sample file are held against the table
 * of keys. */
#include "server/config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/scratch.h"

struct fixture {
	char dir[64], path[128];
	char *problems;
	size_t problems_bytes;
	struct config config;
};

static int
set_up(void **state)
{
	struct fixture *f = *state = calloc(1, sizeof *f);

	scratch_make(f->dir, sizeof f->dir, "test_config");
	snprintf(f->path, sizeof f->path, "%s/holdfastd.conf", f->dir);
	return 0;
}

static int
tear_down(void **state)
{
	struct fixture *f = *state;
	int removed;

	removed = scratch_remove(f->dir);
	free(f->problems);
	free(f);
	return removed;
}

static void
write_bytes(const char *path, const char *bytes, size_t len)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

static void
write_more(struct fixture *f, const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof path, "%s/conf.d", f->dir);
	(void)mkdir(path, 0700); /* may be there */
	snprintf(path, sizeof path, "%s/conf.d/%s", f->dir, name);
	write_bytes(path, text, strlen(text));
}

static int
read_path(struct fixture *f, const char *path)
{
	FILE *out;
	int r;

	free(f->problems);
	out = open_memstream(&f->problems, &f->problems_bytes);
	r = config_read(path, &f->config, out);
	fclose(out);
	return r;
}

static int
read_bytes(struct fixture *f, const char *bytes, size_t len)
{
	write_bytes(f->path, bytes, len);
	return read_path(f, f->path);
}

static int
read_text(struct fixture *f, const char *text)
{
	return read_bytes(f, text, strlen(text));
}

static void
check_problem(struct fixture *f, const char *text, const char *expected)
{
	char whole[512];

	assert_int_equal(read_text(f, text), -EINVAL);
	snprintf(whole, sizeof whole, "%s:%s", f->path, expected);
	if (strstr(f->problems, whole) == NULL)
		fail_msg("expected \"%s\" in \"%s\"", whole, f->problems);
}

static void
empty_file_gives_the_defaults(void **state)
{
	struct fixture *f = *state;
	struct config defaults;

	config_default(&defaults);
	assert_int_equal(read_text(f, ""), 0);
	assert_memory_equal(&f->config, &defaults, sizeof defaults);
	assert_string_equal(f->problems, "");
	assert_string_equal(defaults.listen, "0.0.0.0:1500");
	assert_int_equal(defaults.heartbeat_interval_ns, 1000000000);
	assert_int_equal(defaults.memory_bytes, 256 << 20);
}

/* Also when it is the default's own path. */
static void
a_data_dir_that_is_set_is_told_from_the_default(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(read_text(f, "[storage]\nsegment_size = 1MiB\n"), 0);
	assert_false(f->config.data_dir_set);
	assert_int_equal(read_text(f, "[storage]\ndata_dir = /var/lib/holdfast\n"), 0);
	assert_true(f->config.data_dir_set);
}

static void
every_kind_of_value_is_read(void **state)
{
	struct fixture *f = *state;
	int r = read_text(f, "# comment\n; another\n\n[server]\nlisten = [::1]:0\n  enroll_listen=off ; no more\n"
			     "workers: 3\nlog_level = debug # for now\nheartbeat_interval = 500ms\n[storage]\n"
			     "data_dir = /srv/hold fast\n[ingest]\nmemory = 1GiB\n[tls]\ncertificate_lifetime = "
			     "30\n");

	assert_string_equal(f->problems, "");
	assert_int_equal(r, 0);
	assert_string_equal(f->config.listen, "[::1]:0");
	assert_string_equal(f->config.enroll_listen, "off");
	assert_int_equal(f->config.workers, 3);
	assert_string_equal(f->config.log_level, "debug");
	assert_int_equal(f->config.heartbeat_interval_ns, 500000000);
	assert_string_equal(f->config.data_dir, "/srv/hold fast");
	assert_int_equal(f->config.memory_bytes, 1 << 30);
	assert_true(f->config.certificate_lifetime_ns == 30000000000);
}

static void
metrics_are_told_to_this_machine_alone(void **state)
{
	static const char *const good[] = {"off", "127.0.0.1:9877", "127.8.8.8:0", "[::1]:1"};
	static const char *const bad[] = {"0.0.0.0:9877", "[::]:9877", "10.0.0.1:9877", "128.0.0.1:9877",
	    "localhost:9877", "[::ffff:127.0.0.1]:1", "127.1:9877", "127.0.0.1", "[fe80::1]:1", "on"};
	struct fixture *f = *state;
	char text[128];

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		snprintf(text, sizeof text, "[metrics]\nlisten = %s\n", good[i]);
		assert_int_equal(read_text(f, text), 0);
		assert_string_equal(f->config.metrics_listen, good[i]);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		snprintf(text, sizeof text, "[metrics]\nlisten = %s\n", bad[i]);
		assert_int_equal(read_text(f, text), -EINVAL);
		assert_non_null(strstr(f->problems, ":2: metrics.listen: "));
		assert_non_null(strstr(f->problems, "expected a loopback address"));
	}
}

static void
unknown_keys_and_sections_are_refused_with_their_line(void **state)
{
	struct fixture *f = *state;

	check_problem(f, "\n[server]\n\nlissten = x\n", "4: server.lissten: unknown key");
	check_problem(f, "[srever]\nlisten = x\n", "2: srever.listen: there is no section [srever]");
	check_problem(f, "listen = x\n", "1: listen: stands before any [section]");
	check_problem(f, "[server]\nLISTEN = 1.2.3.4:5\n", "2: server.LISTEN: unknown key");
}

static void
key_given_twice_is_refused(void **state)
{
	struct fixture *f = *state;

	check_problem(f, "[server]\nworkers = 1\n[storage]\n[server]\nworkers = 1\n",
	    "5: server.workers: given twice in this file");
}

static void
bad_values_are_refused_with_what_is_allowed(void **state)
{
	struct fixture *f = *state;

	check_problem(f, "[server]\nlisten = 1500\n",
	    "2: server.listen: \"1500\" is not allowed; expected HOST:PORT, like 0.0.0.0:1500");
	check_problem(f, "[server]\nlisten = off\n", "2: server.listen: \"off\"");
	check_problem(f, "[server]\nlisten = h:65536\n", "2: server.listen: \"h:65536\"");
	check_problem(f, "[server]\nlisten = ::1:15\n", "2: server.listen: \"::1:15\"");
	check_problem(f, "[server]\nlisten =#h:15\n", "2: server.listen: \"#h:15\"");
	check_problem(f, "[server]\nworkers = 257\n",
	    "2: server.workers: \"257\" is not allowed; expected a number from 0 to 256");
	check_problem(f, "[server]\nworkers = -1\n", "2: server.workers: \"-1\"");
	check_problem(f, "[server]\nworkers =\n", "2: server.workers: \"\"");
	check_problem(
	    f, "[server]\nlog_level = loud\n", "2: server.log_level: \"loud\" is not allowed; expected err, warning");
	check_problem(f, "[storage]\ndata_dir = here\n", "2: storage.data_dir: \"here\"");
	check_problem(f, "[storage]\nsegment_size = 1GB\n",
	    "2: storage.segment_size: \"1GB\" is not allowed; expected a size from 1MiB to 1GiB, "
	    "like 256MiB");
	check_problem(f, "[server]\nheartbeat_interval = 50ms\n",
	    "2: server.heartbeat_interval: \"50ms\" is not allowed; expected a duration from 100ms "
	    "to 1m, like 1s");
	check_problem(f, "[ingest]\nmemory = 16MiB\ncredit = 32MiB\n", " ingest.credit: is more than ingest.memory");
}

static void
lines_that_are_no_keys_are_refused(void **state)
{
	struct fixture *f = *state;

	check_problem(f, "[server]\nworkers 3\n", "2: expected \"key = value\"");
	check_problem(f, "[server\nworkers = 3\n", "1: a section is written [NAME]");
	check_problem(f, "[server]\nworkers = 3\nlast", "3: expected \"key = value\"");
}

static void
every_problem_is_printed(void **state)
{
	struct fixture *f = *state;
	size_t lines = 0;

	assert_int_equal(read_text(f, "[server]\nworkers\nlisten = x\nfoo = 1\nbar\n"), -EINVAL);
	for (const char *p = f->problems; *p != '\0'; p++)
		lines += *p == '\n';
	assert_int_equal(lines, 4);
}

static void
long_lines_and_nul_bytes_are_refused(void **state)
{
	struct fixture *f = *state;
	char text[8192];

	memset(text, 'x', sizeof text);
	memcpy(text, "[server]\n# ", 11);
	text[11 + 4000] = '\n';
	assert_int_equal(read_bytes(f, text, 11 + 4001), 0); /* a long comment is fine */
	assert_int_equal(read_bytes(f, text, 11 + 4000), 0);
	text[11 + 4000] = 'x';
	assert_int_equal(read_bytes(f, text, sizeof text), -EINVAL);
	assert_non_null(strstr(f->problems, ":2: the line is longer than 4096 bytes"));
	assert_int_equal(read_bytes(f, "[server]\nworkers = 3\0\n", 22), -EINVAL);
	assert_non_null(strstr(f->problems, ":2: there is a NUL byte in the line"));
}

static void
value_longer_than_its_field_is_refused(void **state)
{
	struct fixture *f = *state;
	char text[400] =
	    "[admin]\nruntime_dir = /run/short\n[storage]\ndata_dir = /"; /* an ordinary user's follows data_dir */

	memset(text + strlen(text), 'x', 255);
	assert_int_equal(read_text(f, text), -EINVAL);
	text[strlen(text) - 1] = '\0';
	assert_int_equal(read_text(f, text), 0);
	assert_int_equal(strlen(f->config.data_dir), CONFIG_TEXT_BYTES - 1);
}

static void
byte_order_mark_and_carriage_returns_are_fine(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(read_text(f, "\xEF\xBB\xBF[server]\r\nworkers = 7\r\n"), 0);
	assert_int_equal(f->config.workers, 7);
}

static void
later_file_wins_in_byte_order(void **state)
{
	struct fixture *f = *state;

	write_more(f, "20-b.conf", "[server]\nworkers = 20\n");
	write_more(f, "10-a.conf", "[server]\nworkers = 10\nsessions_max = 5\n");
	write_more(f, "30-c.conf.bak", "[server]\nworkers = 30\n");
	assert_int_equal(read_text(f, "[server]\nworkers = 1\nlog_level = err\n"), 0);
	assert_int_equal(f->config.workers, 20);
	assert_int_equal(f->config.sessions_max, 5);
	assert_string_equal(f->config.log_level, "err");
}

static void
problem_in_a_later_file_names_that_file(void **state)
{
	struct fixture *f = *state;

	write_more(f, "10.conf", "[server]\nworkers = x\n");
	assert_int_equal(read_text(f, ""), -EINVAL);
	assert_non_null(strstr(f->problems, "/conf.d/10.conf:2: server.workers"));
}

static void
unreadable_file_is_reported_and_changes_nothing(void **state)
{
	struct fixture *f = *state;

	memset(&f->config, 0x5a, sizeof f->config);
	assert_int_equal(read_path(f, "/nonexistent/holdfastd.conf"), -ENOENT);
	assert_non_null(strstr(f->problems, "No such file"));
	assert_true(read_path(f, f->dir) < 0);
	assert_true(read_text(f, "x\n") < 0);
	for (size_t i = 0; i < sizeof f->config; i++)
		assert_int_equal(((unsigned char *)&f->config)[i], 0x5a);
}

static void
printed_configuration_reads_back_the_same(void **state)
{
	struct fixture *f = *state;
	struct config first;
	FILE *out;

	assert_int_equal(read_text(f, "[server]\nlisten = localhost:0\nheartbeat_interval = "
				      "1500ms\n[storage]\ndata_dir = /srv/x\n[ingest]\nmemory = 16777217\n"
				      "credit = 5MiB\n[tls]\ntoken_lifetime = 90m\n[pit]\njournal_window = 0\n"),
	    0);
	first = f->config;
	out = fopen(f->path, "w");
	config_print(&first, out);
	fclose(out);
	assert_int_equal(read_path(f, f->path), 0);
	assert_memory_equal(&f->config, &first, sizeof first);
}

static void
paths_of_an_ordinary_user_follow_the_environment(void **state)
{
	struct config c;

	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0);
	setenv("HOME", "/home/somebody", 1);
	unsetenv("XDG_STATE_HOME");
	unsetenv("XDG_RUNTIME_DIR");
	config_default(&c);
	assert_string_equal(c.data_dir, "/home/somebody/.local/state/holdfast");
	assert_string_equal(c.runtime_dir, "/home/somebody/.local/state/holdfast/run");
	setenv("XDG_STATE_HOME", "/state", 1);
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	config_default(&c);
	assert_string_equal(c.data_dir, "/state/holdfast");
	assert_string_equal(c.runtime_dir, "/run/user/7/holdfast");
	setenv("STATE_DIRECTORY", "/var/lib/service", 1);
	setenv("RUNTIME_DIRECTORY", "/run/service", 1);
	config_default(&c);
	assert_string_equal(c.data_dir, "/var/lib/service");
	assert_string_equal(c.runtime_dir, "/run/service");
	unsetenv("STATE_DIRECTORY");
	unsetenv("RUNTIME_DIRECTORY");
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
}

static void
runtime_dir_of_an_ordinary_user_follows_data_dir(void **state)
{
	struct fixture *f = *state;
	int r;

	write_bytes(f->path, "[storage]\ndata_dir = /elsewhere\n", 32);
	assert_int_equal(chmod(f->dir, 0755), 0);
	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0);
	unsetenv("XDG_RUNTIME_DIR");
	r = read_path(f, f->path);
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(r, 0);
	assert_string_equal(f->config.runtime_dir, "/elsewhere/run");
}

/* ---- a reload ---- */

static void
keys_that_are_live_change_and_the_others_stay(void **state)
{
	struct config running, fresh;
	config_mask changed, restart;
	char text[64];

	config_default(&running);
	fresh = running;
	fresh.sessions_max++;
	snprintf(fresh.policy, sizeof fresh.policy, "1h/1d");
	fresh.credit_bytes++;
	snprintf(fresh.data_dir, sizeof fresh.data_dir, "/elsewhere");
	changed = config_merge(&running, &fresh, &restart);
	assert_string_equal(config_mask_format(changed, text, sizeof text), "server.sessions_max, pit.policy");
	assert_string_equal(config_mask_format(restart, text, sizeof text), "storage.data_dir, ingest.credit");
	assert_int_equal(fresh.sessions_max, running.sessions_max + 1);
	assert_string_equal(fresh.policy, "1h/1d");
	assert_int_equal(fresh.credit_bytes, running.credit_bytes);
	assert_string_equal(fresh.data_dir, running.data_dir);
}

static void
nothing_changes_when_nothing_did(void **state)
{
	struct config running, fresh;
	config_mask restart = 1;
	char text[64];

	config_default(&running);
	fresh = running;
	assert_int_equal(config_merge(&running, &fresh, &restart), 0);
	assert_int_equal(restart, 0);
	assert_string_equal(config_mask_format(0, text, sizeof text), "");
}

/* A list longer than the buffer is cut, and stays in it. */
static void
a_list_of_keys_is_cut_to_its_buffer(void **state)
{
	char text[10];

	config_mask_format(~UINT64_C(0) >> 44, text, sizeof text);
	assert_int_equal(strlen(text), sizeof text - 1);
}

/* ---- what is written about the keys ---- */

static char *
load(const char *path)
{
	char *text = calloc(1, 65536);
	FILE *file = fopen(path, "r");

	if (file == NULL)
		fail_msg("%s: run this test from the top of the source tree", path);
	assert_true(fread(text, 1, 65535, file) > 0);
	fclose(file);
	return text;
}

static void
man_page_tells_of_every_key_and_its_default(void **state)
{
	char *page = load("docs/man/holdfastd.conf.5.scd");
	const struct config_key *keys;
	char text[256];
	size_t count;

	keys = config_keys(&count);
	for (size_t i = 0; i < count; i++) {
		char *section, *key, *end;

		snprintf(text, sizeof text, "# SECTION [%s]", keys[i].section);
		section = strstr(page, text);
		snprintf(text, sizeof text, "\n*%s* = ", keys[i].name);
		key = section == NULL ? NULL : strstr(section, text);
		snprintf(text, sizeof text, "Default: %s", keys[i].default_text);
		end = key == NULL ? NULL : strstr(key, text);
		if (end == NULL || memmem(key + 1, (size_t)(end - key - 1), "\n\n", 2) != NULL)
			fail_msg("the page does not tell of %s.%s, %s", keys[i].section, keys[i].name, text);
	}
	free(page);
}

static void
man_page_tells_which_keys_a_reload_changes(void **state)
{
	char *page = load("docs/man/holdfastd.conf.5.scd"), *reload = strstr(page, "\n# RELOAD\n");
	const struct config_key *keys;
	char text[64];
	size_t count;

	assert_non_null(reload);
	*strstr(reload + 3, "\n# ") = '\0';
	keys = config_keys(&count);
	for (size_t i = 0; i < count; i++) {
		snprintf(text, sizeof text, "*%s*", keys[i].name);
		if ((strstr(reload, text) != NULL) != keys[i].live)
			fail_msg("the page is wrong about %s.%s", keys[i].section, keys[i].name);
	}
	free(page);
}

/* Comments that look like a key become keys; the file then says exactly the defaults. */
static void
sample_file_shows_every_key_with_its_default(void **state)
{
	struct fixture *f = *state;
	char *sample = load("deploy/holdfastd.conf");
	const struct config_key *keys;
	struct config defaults;
	char text[256];
	size_t count;

	keys = config_keys(&count);
	for (size_t i = 0; i < count; i++) {
		char *line;

		snprintf(text, sizeof text, "\n#%s = %s\n", keys[i].name, keys[i].default_text);
		line = strstr(sample, text);
		if (line == NULL)
			fail_msg("the sample lacks %s", text);
		memmove(line + 1, line + 2, strlen(line + 2) + 1);
	}
	config_default(&defaults);
	defaults.data_dir_set = true; /* the only default that is not the same when it is written down */
	assert_int_equal(read_text(f, sample), 0);
	assert_string_equal(f->problems, "");
	if (geteuid() == 0)
		assert_memory_equal(&f->config, &defaults, sizeof defaults);
	free(sample);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(empty_file_gives_the_defaults),
	    T(a_data_dir_that_is_set_is_told_from_the_default),
	    T(every_kind_of_value_is_read),
	    T(metrics_are_told_to_this_machine_alone),
	    T(unknown_keys_and_sections_are_refused_with_their_line),
	    T(key_given_twice_is_refused),
	    T(bad_values_are_refused_with_what_is_allowed),
	    T(lines_that_are_no_keys_are_refused),
	    T(every_problem_is_printed),
	    T(long_lines_and_nul_bytes_are_refused),
	    T(value_longer_than_its_field_is_refused),
	    T(byte_order_mark_and_carriage_returns_are_fine),
	    T(later_file_wins_in_byte_order),
	    T(problem_in_a_later_file_names_that_file),
	    T(unreadable_file_is_reported_and_changes_nothing),
	    T(printed_configuration_reads_back_the_same),
	    T(paths_of_an_ordinary_user_follow_the_environment),
	    T(runtime_dir_of_an_ordinary_user_follows_data_dir),
	    T(keys_that_are_live_change_and_the_others_stay),
	    T(nothing_changes_when_nothing_did),
	    T(a_list_of_keys_is_cut_to_its_buffer),
	    T(man_page_tells_of_every_key_and_its_default),
	    T(man_page_tells_which_keys_a_reload_changes),
	    T(sample_file_shows_every_key_with_its_default),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
