/* SPDX-License-Identifier: Apache-2.0 */
/* One table of keys; everything else walks it. A file is read line by line by inih: read_line()
 * hands out lines and counts them, on_key() gets what inih made of one. inih tells nobody of a line
 * it could not understand but the first, so read_line() notes that a line must come back as a key,
 * and complains at the next line if it has not. */
#include "server/config.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ini.h>

#include "proto/common/log.h"
#include "proto/common/units.h"
#include "server/listen.h"
#include "storage/policy.h"

enum { LINE_BYTES_MAX = 4096 };

#define MIB    (UINT64_C(1) << 20)
#define GIB    (UINT64_C(1) << 30)
#define SECOND ((uint64_t)NS_PER_SECOND)
#define DAY    (86400 * SECOND)

#define VALUE(field) offsetof(struct config, field)

enum { FIXED = false, LIVE = true };

static const struct config_key keys[] = {
    {"server", "listen", CONFIG_ADDRESS, FIXED, VALUE(listen), 0, 0, "0.0.0.0:1500",
	"Where agents connect to replicate. Port 0 takes any free port and prints it."},
    {"server", "enroll_listen", CONFIG_ADDRESS_OR_OFF, FIXED, VALUE(enroll_listen), 0, 0, "0.0.0.0:1501",
	"Where new agents enrol with a token; off: nobody can."},
    {"server", "workers", CONFIG_COUNT, FIXED, VALUE(workers), 0, 256, "0", "Worker threads; 0: one per core."},
    {"server", "sessions_max", CONFIG_COUNT, LIVE, VALUE(sessions_max), 1, 100000, "10000",
	"Most agents connected at a time."},
    {"server", "heartbeat_interval", CONFIG_DURATION, LIVE, VALUE(heartbeat_interval_ns), SECOND / 10, 60 * SECOND,
	"1s",
	"How often server and agents tell each other that they live. Nothing heard for three of them, and at least "
	"5 s, ends a session."},
    {"server", "log_level", CONFIG_LEVEL, LIVE, VALUE(log_level), 0, 0, "info",
	"Least important lines that are logged."},
    {"storage", "data_dir", CONFIG_PATH, FIXED, VALUE(data_dir), 0, 0, "/var/lib/holdfast",
	"The staging area: copies of all disks, their history, keys and settings."},
    {"storage", "journal_dir", CONFIG_PATH_OR_NONE, FIXED, VALUE(journal_dir), 0, 0, "none",
	"A directory on another disk, for the journals of sources that enrol from then on; none: in data_dir."},
    {"storage", "segment_size", CONFIG_SIZE, FIXED, VALUE(segment_bytes), MIB, GIB, "256MiB",
	"Largest file of a journal."},
    {"storage", "reserve", CONFIG_SIZE, FIXED, VALUE(reserve_bytes), 0, 1024 * GIB, "0",
	"Room kept for maintenance alone, at most a twentieth of the file system; 0: as much as it needs."},
    {"storage", "space_warning", CONFIG_COUNT, FIXED, VALUE(space_warning), 0, 90, "15",
	"Warn when less than so many percent of the file system are left."},
    {"storage", "when_full", CONFIG_WHEN_FULL, LIVE, VALUE(when_full), 0, 0, "stall",
	"What happens when room runs out, unless a source says otherwise. stall: nothing more is taken; thin: the "
	"oldest points go that the policy alone keeps."},
    {"storage", "scrub_interval", CONFIG_DURATION, FIXED, VALUE(scrub_interval_ns), 0, 365 * DAY, "7d",
	"How long after a scrub of a source the next one begins by itself; 0: never."},
    {"storage", "scrub_rate", CONFIG_SIZE, FIXED, VALUE(scrub_bytes), MIB, 1024 * GIB, "32MiB",
	"Most that such a scrub reads in a second."},
    {"ingest", "memory", CONFIG_SIZE, FIXED, VALUE(memory_bytes), 16 * MIB, 1024 * GIB, "256MiB",
	"Memory for data on its way from the network to the disk, of all workers together."},
    {"ingest", "credit", CONFIG_SIZE, FIXED, VALUE(credit_bytes), 2 * MIB, GIB, "8MiB",
	"Most data one agent may have sent that is not yet durable."},
    {"tls", "certificate_lifetime", CONFIG_DURATION, LIVE, VALUE(certificate_lifetime_ns), SECOND, 3650 * DAY, "90d",
	"Life of an agent's certificate. It is renewed over the session when two thirds are over."},
    {"tls", "token_lifetime", CONFIG_DURATION, LIVE, VALUE(token_lifetime_ns), TOKEN_LIFETIME_MIN_NS,
	TOKEN_LIFETIME_MAX_NS, "1h", "How long an enrolment token is good, unless said when it is made."},
    {"admin", "runtime_dir", CONFIG_PATH, FIXED, VALUE(runtime_dir), 0, 0, "/run/holdfast",
	"Where the control sockets are."},
    {"metrics", "listen", CONFIG_LOOPBACK_OR_OFF, FIXED, VALUE(metrics_listen), 0, 0, "off",
	"An address of this machine where Prometheus may scrape /metrics, and nothing else, like 127.0.0.1:9877."},
    {"pit", "policy", CONFIG_RULES, LIVE, VALUE(policy), 0, 0, "10m/60m 1h/24h 1d/7d",
	"Which points new sources keep: one every INTERVAL, for RETENTION; up to 16 rules, or none."},
    {"pit", "journal_window", CONFIG_DURATION, LIVE, VALUE(journal_window_ns), 0, 30 * DAY, "1h",
	"How far back every checkpoint can be restored, for new sources."},
    {"pit", "min_retention", CONFIG_DURATION, LIVE, VALUE(min_retention_ns), 0, 3650 * DAY, "0",
	"No point that is younger goes, by a rule, by hand or for want of room; for new sources."},
};

enum { KEY_COUNT = sizeof keys / sizeof keys[0] };

_Static_assert(KEY_COUNT <= 64, "a config_mask has a bit for each");

const struct config_key *
config_keys(size_t *ret_count)
{
	*ret_count = KEY_COUNT;
	return keys;
}

static void *
value_of(struct config *config, const struct config_key *key)
{
	return (char *)config + key->offset;
}

static size_t
text_bytes(const struct config_key *key)
{
	if (key->kind == CONFIG_WHEN_FULL)
		return sizeof((struct config *)NULL)->when_full;
	return key->kind == CONFIG_LEVEL ? sizeof((struct config *)NULL)->log_level : CONFIG_TEXT_BYTES;
}

/* ---- one value from text ---- */

static bool
address_good(const char *text)
{
	char host[ADDRESS_HOST_BYTES];
	unsigned port;

	return address_split(text, host, &port);
}

static bool
rules_good(const char *text)
{
	struct policy policy = {0};

	return policy_parse_rules(text, &policy, NULL) == 0;
}

static bool
text_good(enum config_kind kind, const char *text)
{
	switch (kind) {
	case CONFIG_ADDRESS: return address_good(text);
	case CONFIG_ADDRESS_OR_OFF: return strcmp(text, "off") == 0 || address_good(text);
	case CONFIG_LOOPBACK_OR_OFF: return strcmp(text, "off") == 0 || address_is_loopback(text);
	case CONFIG_PATH: return text[0] == '/';
	case CONFIG_PATH_OR_NONE: return strcmp(text, "none") == 0 || text[0] == '/';
	case CONFIG_LEVEL: return log_level_parse(text) >= 0;
	case CONFIG_WHEN_FULL: return strcmp(text, "stall") == 0 || strcmp(text, "thin") == 0;
	case CONFIG_RULES: return rules_good(text);
	case CONFIG_COUNT:
	case CONFIG_SIZE:
	case CONFIG_DURATION: break;
	}
	return false;
}

static bool
set_text(const struct config_key *key, const char *text, char *ret_value)
{
	if (strlen(text) >= text_bytes(key) || !text_good(key->kind, text))
		return false;
	snprintf(ret_value, text_bytes(key), "%s", text);
	return true;
}

static bool
parse_count(const char *text, uint64_t *ret_value)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*ret_value = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0';
}

static bool
parse_duration(const char *text, uint64_t *ret_value)
{
	int64_t ns;

	if (duration_parse(text, &ns) < 0)
		return false;
	*ret_value = (uint64_t)ns;
	return true;
}

/* Every number is at most 2^63 - 1: the table's limits see to it. */
static bool
set_number(const struct config_key *key, const char *text, void *ret_value)
{
	uint64_t value;
	bool good = key->kind == CONFIG_SIZE       ? size_parse(text, &value) == 0
		    : key->kind == CONFIG_DURATION ? parse_duration(text, &value)
						   : parse_count(text, &value);

	if (!good || value < key->min || value > key->max)
		return false;
	if (key->kind == CONFIG_COUNT)
		*(unsigned *)ret_value = (unsigned)value;
	else if (key->kind == CONFIG_SIZE)
		*(uint64_t *)ret_value = value;
	else
		*(int64_t *)ret_value = (int64_t)value;
	return true;
}

static bool
is_number(const struct config_key *key)
{
	return key->kind == CONFIG_COUNT || key->kind == CONFIG_SIZE || key->kind == CONFIG_DURATION;
}

static bool
set_value(struct config *config, const struct config_key *key, const char *text)
{
	void *value = value_of(config, key);

	return is_number(key) ? set_number(key, text, value) : set_text(key, text, value);
}

/* ---- one value to text ---- */

/* The largest unit that divides the number, so that reading it back gives the same. */
static const char *
number_format(enum config_kind kind, uint64_t value, char *buf)
{
	static const struct {
		enum config_kind kind;
		uint64_t unit;
		const char *name;
	} units[] = {
	    {CONFIG_SIZE, GIB, "GiB"},
	    {CONFIG_SIZE, MIB, "MiB"},
	    {CONFIG_SIZE, 1024, "KiB"},
	    {CONFIG_DURATION, DAY, "d"},
	    {CONFIG_DURATION, 3600 * SECOND, "h"},
	    {CONFIG_DURATION, 60 * SECOND, "m"},
	    {CONFIG_DURATION, SECOND, "s"},
	    {CONFIG_DURATION, SECOND / 1000, "ms"},
	};

	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
		if (units[i].kind != kind || value == 0 || value % units[i].unit != 0)
			continue;
		snprintf(buf, UNITS_TEXT_BYTES, "%" PRIu64 "%s", value / units[i].unit, units[i].name);
		return buf;
	}
	snprintf(buf, UNITS_TEXT_BYTES, "%" PRIu64, value); /* durations have no smaller unit than ms */
	return buf;
}

static const char *
value_format(const struct config *config, const struct config_key *key, char *buf)
{
	const void *value = (const char *)config + key->offset;

	if (!is_number(key))
		return value;
	if (key->kind == CONFIG_COUNT)
		return number_format(key->kind, *(const unsigned *)value, buf);
	return number_format(key->kind, *(const uint64_t *)value, buf);
}

void
config_print(const struct config *config, FILE *out)
{
	char buf[UNITS_TEXT_BYTES];

	for (size_t i = 0; i < KEY_COUNT; i++) {
		if (i == 0 || strcmp(keys[i].section, keys[i - 1].section) != 0)
			fprintf(out, "%s[%s]\n", i == 0 ? "" : "\n", keys[i].section);
		fprintf(out, "%s = %s\n", keys[i].name, value_format(config, &keys[i], buf));
	}
}

/* ---- defaults ---- */

/* first/rest, or "" if that does not fit: then the path counts as not set. */
static void
join_path(char *ret_path, const char *first, const char *rest)
{
	if (snprintf(ret_path, CONFIG_TEXT_BYTES, "%s/%s", first, rest) >= CONFIG_TEXT_BYTES)
		ret_path[0] = '\0';
}

static const char *
home_dir(void)
{
	const char *home = getenv("HOME");
	struct passwd *user = home != NULL ? NULL : getpwuid(geteuid());

	return home != NULL ? home : user != NULL ? user->pw_dir : "";
}

/* The directory that systemd has made for us, by StateDirectory= or RuntimeDirectory=. */
static bool
take_service_dir(const char *variable, char *ret_path)
{
	const char *dir = getenv(variable);

	if (dir == NULL || dir[0] != '/' || strlen(dir) >= CONFIG_TEXT_BYTES)
		return false;
	snprintf(ret_path, CONFIG_TEXT_BYTES, "%s", dir);
	return true;
}

static void
default_data_dir(struct config *config)
{
	const char *state = getenv("XDG_STATE_HOME");

	if (take_service_dir("STATE_DIRECTORY", config->data_dir))
		return;
	if (state != NULL && state[0] == '/')
		join_path(config->data_dir, state, "holdfast");
	else
		join_path(config->data_dir, home_dir(), ".local/state/holdfast");
}

/* Follows data_dir, so it is asked again when that is known. */
static void
default_runtime_dir(struct config *config)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (take_service_dir("RUNTIME_DIRECTORY", config->runtime_dir))
		return;
	if (runtime != NULL && runtime[0] == '/')
		join_path(config->runtime_dir, runtime, "holdfast");
	else
		join_path(config->runtime_dir, config->data_dir, "run");
}

const char *
config_journal_dir(const struct config *config)
{
	return strcmp(config->journal_dir, "none") == 0 ? "" : config->journal_dir;
}

void
config_default(struct config *ret_config)
{
	memset(ret_config, 0, sizeof *ret_config);
	for (size_t i = 0; i < KEY_COUNT; i++) {
		bool good = set_value(ret_config, &keys[i], keys[i].default_text);

		assert(good);
	}
	if (geteuid() != 0) {
		default_data_dir(ret_config);
		default_runtime_dir(ret_config);
	}
}

/* ---- files ---- */

struct reading {
	struct config config;
	FILE *problems;
	size_t problem_count;
	bool set[KEY_COUNT]; /* in any file */

	/* of the file at hand */
	const char *path;
	FILE *file;
	int line;
	bool awaits; /* the line given to inih must come back as a key */
	bool seen[KEY_COUNT];
	char *text; /* of getline() */
	size_t size;
};

static void __attribute__((format(printf, 2, 3))) report(struct reading *r, const char *format, ...)
{
	va_list ap;

	r->problem_count++;
	fprintf(r->problems, "%s:%d: ", r->path, r->line);
	va_start(ap, format);
	vfprintf(r->problems, format, ap);
	va_end(ap);
	fputc('\n', r->problems);
}

/* What a key may be, for a person who got it wrong. */
static void
describe_allowed(const struct config_key *key, char *buf, size_t size)
{
	char min[UNITS_TEXT_BYTES], max[UNITS_TEXT_BYTES];
	const char *example = key->default_text;

	number_format(key->kind, key->min, min);
	number_format(key->kind, key->max, max);
	switch (key->kind) {
	case CONFIG_ADDRESS: snprintf(buf, size, "HOST:PORT, like %s", example); return;
	case CONFIG_ADDRESS_OR_OFF: snprintf(buf, size, "HOST:PORT, like %s, or off", example); return;
	case CONFIG_LOOPBACK_OR_OFF:
		snprintf(buf, size, "a loopback address and port, like 127.0.0.1:9877 or [::1]:9877, or off");
		return;
	case CONFIG_PATH:
		snprintf(buf, size, "an absolute path of at most %d bytes, like %s", CONFIG_TEXT_BYTES - 1, example);
		return;
	case CONFIG_PATH_OR_NONE:
		snprintf(buf, size, "an absolute path of at most %d bytes, or none", CONFIG_TEXT_BYTES - 1);
		return;
	case CONFIG_LEVEL: snprintf(buf, size, "err, warning, notice, info or debug"); return;
	case CONFIG_WHEN_FULL: snprintf(buf, size, "stall or thin"); return;
	case CONFIG_RULES: snprintf(buf, size, "INTERVAL/RETENTION ..., like %s, or none", example); return;
	case CONFIG_COUNT: snprintf(buf, size, "a number from %s to %s", min, max); return;
	case CONFIG_SIZE: snprintf(buf, size, "a size from %s to %s, like %s", min, max, example); return;
	case CONFIG_DURATION: snprintf(buf, size, "a duration from %s to %s, like %s", min, max, example); return;
	}
}

static void
report_value(struct reading *r, const struct config_key *key, const char *value)
{
	char allowed[512];

	describe_allowed(key, allowed, sizeof allowed);
	report(r, "%s.%s: \"%s\" is not allowed; expected %s", key->section, key->name, value, allowed);
}

static void
report_unknown(struct reading *r, const char *section, const char *name)
{
	bool section_known = false;

	for (size_t i = 0; i < KEY_COUNT; i++)
		section_known = section_known || strcmp(keys[i].section, section) == 0;
	if (section[0] == '\0')
		report(r, "%s: stands before any [section]; man holdfastd.conf lists them", name);
	else if (!section_known)
		report(r, "%s.%s: there is no section [%s]; man holdfastd.conf lists them", section, name, section);
	else
		report(r, "%s.%s: unknown key; man holdfastd.conf lists those of [%s]", section, name, section);
}

static const struct config_key *
find_key(const char *section, const char *name)
{
	for (size_t i = 0; i < KEY_COUNT; i++)
		if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
			return &keys[i];
	return NULL;
}

/* inih's handler: always 1 (go on), for we count problems ourselves. */
static int
on_key(void *arg, const char *section, const char *name, const char *value)
{
	struct reading *r = arg;
	const struct config_key *key = find_key(section, name);

	r->awaits = false;
	if (key == NULL) {
		report_unknown(r, section, name);
		return 1;
	}
	if (r->seen[key - keys])
		report(r, "%s.%s: given twice in this file", section, name);
	else if (!set_value(&r->config, key, value))
		report_value(r, key, value);
	r->seen[key - keys] = r->set[key - keys] = true;
	return 1;
}

static void
check_line_before(struct reading *r)
{
	if (r->awaits)
		report(r, "expected \"key = value\", [section] or a # comment");
	r->awaits = false;
}

/* A line inih can make something of; false has been reported. */
static bool
check_line(struct reading *r, const char *line, size_t len)
{
	const char *start = line + strspn(line, " \t\r\n\f\v");

	if (len > LINE_BYTES_MAX) {
		report(r, "the line is longer than %d bytes", LINE_BYTES_MAX);
		return false;
	}
	if (strlen(line) != len) {
		report(r, "there is a NUL byte in the line");
		return false;
	}
	if (start[0] == '[' && strchr(start, ']') == NULL) {
		report(r, "a section is written [NAME]");
		return false;
	}
	r->awaits = start[0] != '\0' && strchr("[#;", start[0]) == NULL;
	return true;
}

/* inih's reader, like fgets(3). A line that was refused goes on as an empty one. */
static char *
read_line(char *buf, int size, void *arg)
{
	static const char mark[] = "\xEF\xBB\xBF"; /* some editors begin a file with it */
	struct reading *r = arg;
	const char *line;
	ssize_t len;

	check_line_before(r);
	len = getline(&r->text, &r->size, r->file);
	if (len < 0)
		return NULL;
	r->line++;
	line = r->text;
	if (r->line == 1 && strncmp(line, mark, strlen(mark)) == 0) {
		line += strlen(mark);
		len -= (ssize_t)strlen(mark);
	}
	if (!check_line(r, line, (size_t)len)) {
		line = "\n";
		len = 1;
	}
	assert(len < size);
	memcpy(buf, line, (size_t)len + 1);
	return buf;
}

/* Debian's inih keeps its settings in global variables. */
static void
set_up_inih(void)
{
	static char comments[] = "#;";

	ini_allow_multiline = false; /* an indented line is a key like any other */
	ini_allow_inline_comments = true;
	ini_inline_comment_prefixes = comments;
	ini_start_comment_prefixes = comments;
	ini_use_stack = false;
	ini_allow_realloc = false;
	ini_max_line = ini_initial_alloc = LINE_BYTES_MAX + 3; /* as ini.h says: CR, LF, NUL */
}

static int
read_file(struct reading *r, const char *path)
{
	int status;

	r->path = path;
	r->line = 0;
	r->awaits = false;
	memset(r->seen, 0, sizeof r->seen);
	r->file = fopen(path, "re");
	if (r->file == NULL) {
		status = -errno;
		fprintf(r->problems, "%s: %s\n", path, strerror(-status));
		return status;
	}
	set_up_inih();
	status = ini_parse_stream(read_line, r, on_key, r) == -2 ? -ENOMEM : 0;
	if (ferror(r->file)) { /* a directory, say */
		status = -EIO;
		fprintf(r->problems, "%s: cannot be read\n", path);
	}
	fclose(r->file);
	free(r->text);
	r->text = NULL;
	r->size = 0;
	return status;
}

static int
is_conf(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name);

	return entry->d_name[0] != '.' && n > 5 && strcmp(entry->d_name + n - 5, ".conf") == 0;
}

static int
by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* conf.d beside path; none is fine. */
static int
read_more_files(struct reading *r, const char *path)
{
	char copy[PATH_MAX], dir[PATH_MAX + 16], file[PATH_MAX + 512];
	struct dirent **entries;
	int count, status = 0;

	if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy)
		return -ENAMETOOLONG;
	snprintf(dir, sizeof dir, "%s/conf.d", dirname(copy));
	count = scandir(dir, &entries, is_conf, by_bytes);
	if (count < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (count < 0) {
		status = -errno;
		fprintf(r->problems, "%s: %s\n", dir, strerror(-status));
		return status;
	}
	for (int i = 0; i < count; i++) {
		snprintf(file, sizeof file, "%s/%s", dir, entries[i]->d_name);
		if (status == 0)
			status = read_file(r, file);
		free(entries[i]);
	}
	free(entries);
	return status;
}

static bool
was_set(const struct reading *r, size_t offset)
{
	for (size_t i = 0; i < KEY_COUNT; i++)
		if (keys[i].offset == offset)
			return r->set[i];
	return false;
}

/* What only shows when all files are read. */
static void
check_whole(struct reading *r, const char *path)
{
	struct config *c = &r->config;

	c->data_dir_set = was_set(r, VALUE(data_dir));
	if (geteuid() != 0 && !was_set(r, VALUE(runtime_dir)))
		default_runtime_dir(c);
	if (c->data_dir[0] != '/' || c->runtime_dir[0] != '/') {
		fprintf(r->problems,
		    "%s: storage.data_dir, admin.runtime_dir: must be set, for $HOME is not an "
		    "absolute "
		    "path of reasonable length\n",
		    path);
		r->problem_count++;
	}
	if (c->credit_bytes > c->memory_bytes) {
		fprintf(r->problems,
		    "%s: ingest.credit: is more than ingest.memory; one agent would be promised "
		    "more than "
		    "there is\n",
		    path);
		r->problem_count++;
	}
}

int
config_read(const char *path, struct config *ret_config, FILE *problems)
{
	struct reading r = {.problems = problems};
	int status;

	config_default(&r.config);
	status = read_file(&r, path);
	if (status == 0)
		status = read_more_files(&r, path);
	if (status < 0)
		return status;
	check_whole(&r, path);
	if (r.problem_count > 0)
		return -EINVAL;
	*ret_config = r.config;
	return 0;
}

int
config_load(const struct config_origin *origin, struct config *ret_config, FILE *problems)
{
	const char *path = origin->path != NULL ? origin->path : CONFIG_DEFAULT_PATH;
	struct config config;
	int r = 0;

	config_default(&config);
	if (origin->path != NULL || access(path, F_OK) == 0) /* without -c, no file is as good as an empty one */
		r = config_read(path, &config, problems);
	if (r < 0)
		return r;
	if (origin->log_level != NULL)
		snprintf(config.log_level, sizeof config.log_level, "%s", origin->log_level);
	*ret_config = config;
	return 0;
}

/* ---- a reload ---- */

static size_t
value_bytes(const struct config_key *key)
{
	if (!is_number(key))
		return text_bytes(key);
	return key->kind == CONFIG_COUNT ? sizeof(unsigned) : sizeof(uint64_t);
}

static bool
same_value(const struct config *a, const struct config *b, const struct config_key *key)
{
	const char *x = (const char *)a + key->offset, *y = (const char *)b + key->offset;

	return is_number(key) ? memcmp(x, y, value_bytes(key)) == 0 : strcmp(x, y) == 0;
}

config_mask
config_merge(const struct config *running, struct config *config, config_mask *ret_restart)
{
	config_mask changed = 0;

	*ret_restart = 0;
	for (size_t i = 0; i < KEY_COUNT; i++) {
		if (same_value(running, config, &keys[i]))
			continue;
		if (keys[i].live) {
			changed |= UINT64_C(1) << i;
			continue;
		}
		*ret_restart |= UINT64_C(1) << i;
		memcpy(value_of(config, &keys[i]), (const char *)running + keys[i].offset, value_bytes(&keys[i]));
	}
	config->data_dir_set = running->data_dir_set;
	return changed;
}

const char *
config_mask_format(config_mask mask, char *buf, size_t size)
{
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < KEY_COUNT && len < size; i++)
		if ((mask >> i & 1) != 0)
			len += (size_t)snprintf(
			    buf + len, size - len, "%s%s.%s", len > 0 ? ", " : "", keys[i].section, keys[i].name);
	return buf;
}
