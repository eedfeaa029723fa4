/* SPDX-License-Identifier: Apache-2.0 */
/* options.c: one table of options makes both the parser and the help of every command. */
#include "agent/options.h"

#include <assert.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/say.h"
#include "agent/state.h"
#include "proto/common/completion.h"
#include "proto/common/log.h"
#include "proto/common/units.h"

enum option_id {
	OPTION_STATE = 256,
	OPTION_JSON,
	OPTION_SERVER,
	OPTION_TOKEN,
	OPTION_VOLUME,
	OPTION_YES,
	OPTION_FORCE,
	OPTION_INTERVAL,
	OPTION_ONCE,
	OPTION_READ_LIMIT,
	OPTION_FREEZE,
	OPTION_FREEZE_TIMEOUT,
	OPTION_NEW_DISKS,
	OPTION_COMPRESS,
	OPTION_PROGRESS,
	OPTION_LOG_LEVEL,
	OPTION_HELP,
};

#define IN(command) (1u << (command))

/* All that writes waits for so long, and most of it gives up sooner. */
#define FREEZE_TIMEOUT_LEAST_NS (NS_PER_SECOND / 10)
#define FREEZE_TIMEOUT_MOST_NS  (600 * NS_PER_SECOND)

static const struct option_spec descriptions[] = {
    {OPTION_SERVER, IN(COMMAND_ENROLL), "server", "ADDR[,ADDR...]",
	"addresses of the server, tried in turn: HOST, HOST:PORT (of enrolment, default 1501)"},
    {OPTION_TOKEN, IN(COMMAND_ENROLL), "token", "T",
	"what 'holdfastctl token create' printed on the server; works once"},
    {OPTION_VOLUME, IN(COMMAND_ENROLL), "volume", "NAME=PATH",
	"replicate this disk or image file under this name; may be repeated"},
    {OPTION_YES, IN(COMMAND_ENROLL), "yes", NULL, "do not ask: take the default selection of disks"},
    {OPTION_FORCE, IN(COMMAND_ENROLL), "force", NULL,
	"enrol again although this machine is enrolled; keeps its volumes unless --volume is "
	"given"},
    {OPTION_INTERVAL, IN(COMMAND_RUN), "interval", "TIME", "from the start of a pass to the next (default 10s)"},
    {OPTION_ONCE, IN(COMMAND_RUN), "once", NULL, "leave with 0 when one checkpoint after the fill is durable"},
    {OPTION_READ_LIMIT, IN(COMMAND_RUN), "read-limit", "SIZE", "read at most so much per second (default: no limit)"},
    {OPTION_FREEZE, IN(COMMAND_RUN), "freeze", "MOUNTPOINT",
	"freeze this file system for each checkpoint; may be repeated"},
    {OPTION_FREEZE_TIMEOUT, IN(COMMAND_RUN), "freeze-timeout", "TIME",
	"thaw after so long, whatever happens (default 5s)"},
    {OPTION_NEW_DISKS, IN(COMMAND_RUN), "new-disks", "PATTERN",
	"paths of disks that count as new, too, when they appear (\"/dev/dm-*\")"},
    {OPTION_COMPRESS, IN(COMMAND_RUN), "compress", "none|lz4|zstd", "what may be used on the wire (default none)"},
    {OPTION_PROGRESS, IN(COMMAND_RUN), "progress", "auto|bar|plain|lines|none", "how to show the first fill"},
    {OPTION_LOG_LEVEL, IN(COMMAND_RUN), "log-level", LOG_LEVELS, "how much to log (default info)"},
    {OPTION_STATE, IN(COMMAND_ENROLL) | IN(COMMAND_RUN) | IN(COMMAND_STATUS), "state", "DIR",
	"where key and bindings are kept (default " STATE_DIRECTORY_DEFAULT ")"},
    {OPTION_JSON, IN(COMMAND_ENROLL) | IN(COMMAND_STATUS) | IN(COMMAND_LIST_DISKS) | IN(COMMAND_THAW), "json", NULL,
	"print JSON instead of text"},
    {OPTION_HELP, ~0u, "help", NULL, "print this"},
};

enum { DESCRIPTIONS = sizeof descriptions / sizeof descriptions[0] };

static const struct command_spec commands[] = {
    [COMMAND_ENROLL] = {"enroll", "--server ADDR[,ADDR...] --token T [OPTION...]",
	"Make this machine known to a server, once."},
    [COMMAND_RUN] = {"run", "[OPTION...]", "Replicate the enrolled volumes until stopped."},
    [COMMAND_STATUS] = {"status", "[OPTION...]", "Show what the agent running here is doing."},
    [COMMAND_LIST_DISKS] = {"list-disks", "[OPTION...]", "List the disks of this machine and their identity."},
    [COMMAND_THAW] = {"thaw", "[OPTION...]", "Thaw what a killed agent left frozen, and nothing else."},
    [COMMAND_COMPLETION] = {"completion", COMPLETION_SHELLS, "Print the script that completes commands in that shell."},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

const struct command_spec *
command_specs(int *ret_count)
{
	*ret_count = COMMANDS;
	return commands;
}

const struct option_spec *
option_specs(int *ret_count)
{
	*ret_count = DESCRIPTIONS;
	return descriptions;
}

/* ---- help ---- */

static void
print_overview(FILE *to)
{
	fprintf(to, "Usage: holdfast-agent COMMAND [OPTION...]\n\n"
		    "Sends the disks of this machine to a Holdfast server, and keeps on sending\n"
		    "what changes.\n\n"
		    "Commands:\n");
	for (int i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].summary);
	fprintf(to, "\n'holdfast-agent COMMAND --help' lists a command's options;\n"
		    "'holdfast-agent --version' prints the version. See also holdfast-agent(8).\n");
}

enum { HELP_COLUMN = 29, HELP_WIDTH = 80 };

/* From HELP_COLUMN on, broken between words. */
static void
print_wrapped(const char *text)
{
	int column = HELP_COLUMN;

	while (*text != '\0') {
		int word = (int)strcspn(text, " ");

		if (column > HELP_COLUMN && column + 1 + word > HELP_WIDTH) {
			printf("\n%*s", HELP_COLUMN, "");
			column = HELP_COLUMN;
		}
		column += printf("%s%.*s", column > HELP_COLUMN ? " " : "", word, text);
		text += word;
		text += strspn(text, " ");
	}
	putchar('\n');
}

static void
print_help(enum command command)
{
	printf("Usage: holdfast-agent %s %s\n\n%s\n\nOptions:\n", commands[command].name, commands[command].arguments,
	    commands[command].summary);
	for (int i = 0; i < DESCRIPTIONS; i++) {
		const struct option_spec *d = &descriptions[i];
		char left[64];

		if ((d->commands & IN(command)) == 0)
			continue;
		snprintf(left, sizeof left, "--%s%s%s", d->name, d->argument != NULL ? " " : "",
		    d->argument != NULL ? d->argument : "");
		if (strlen(left) < 26)
			printf("  %-26s ", left);
		else
			printf("  %s\n%*s", left, HELP_COLUMN, "");
		print_wrapped(d->help);
	}
}

/* ---- parsing ---- */

static bool wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Tell what is wrong with the command line; always false. */
static bool
wrong(const char *format, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	say("%s; try --help", text);
	return false;
}

static bool
add(const char **list, size_t *count, size_t max, const char *value, const char *name)
{
	if (*count == max)
		return wrong("more than %zu --%s", max, name);
	list[(*count)++] = value;
	return true;
}

static bool
parse_time(const char *text, int64_t least_ns, int64_t most_ns, int64_t *ret_ns)
{
	char least[UNITS_TEXT_BYTES], most[UNITS_TEXT_BYTES];
	int64_t ns;

	if (duration_parse(text, &ns) < 0)
		return wrong("'%s' is not a time: write 500ms, 10s, 5m, 1h", text);
	if (ns < least_ns || ns > most_ns)
		return wrong("'%s' is not between %s and %s", text, duration_format(least_ns, least),
		    duration_format(most_ns, most));
	*ret_ns = ns;
	return true;
}

static bool
parse_compress(const char *text, unsigned *ret_compressions)
{
	if (strcmp(text, "none") == 0)
		*ret_compressions = 0;
	else if (strcmp(text, "lz4") == 0)
		*ret_compressions = FRAME_LZ4;
	else if (strcmp(text, "zstd") == 0)
		*ret_compressions = FRAME_ZSTD;
	else
		return wrong("--compress is none, lz4 or zstd, not '%s'", text);
	return true;
}

static bool
parse_progress(const char *text, enum progress_mode *ret_mode)
{
	int mode = progress_mode_parse(text);

	if (mode < 0)
		return wrong("--progress is auto, bar, plain, lines or none, not '%s'", text);
	*ret_mode = (enum progress_mode)mode;
	return true;
}

static bool
set_option(struct options *o, enum option_id id, const char *value)
{
	switch (id) {
	case OPTION_STATE: o->state_directory = value; return true;
	case OPTION_JSON: o->json = true; return true;
	case OPTION_SERVER: o->servers = value; return true;
	case OPTION_TOKEN: o->token = value; return true;
	case OPTION_YES: o->yes = true; return true;
	case OPTION_FORCE: o->force = true; return true;
	case OPTION_ONCE: o->once = true; return true;
	case OPTION_VOLUME: return add(o->volumes, &o->volume_count, VOLUMES_MAX, value, "volume");
	case OPTION_FREEZE: return add(o->freeze, &o->freeze_count, OPTIONS_FREEZE_MAX, value, "freeze");
	case OPTION_INTERVAL: return parse_time(value, 0, INT64_MAX, &o->interval_ns);
	case OPTION_FREEZE_TIMEOUT:
		return parse_time(value, FREEZE_TIMEOUT_LEAST_NS, FREEZE_TIMEOUT_MOST_NS, &o->freeze_timeout_ns);
	case OPTION_NEW_DISKS: o->new_disks = value; return true;
	case OPTION_COMPRESS: return parse_compress(value, &o->compressions);
	case OPTION_PROGRESS: return parse_progress(value, &o->progress);
	case OPTION_READ_LIMIT:
		return size_parse(value, &o->read_limit_bytes) == 0 || wrong("'%s' is not a size: write 50MiB", value);
	case OPTION_LOG_LEVEL:
		o->log_level = log_level_parse(value);
		return o->log_level >= 0 || wrong("--log-level does not know '%s'", value);
	case OPTION_HELP: break;
	}
	assert(!"options_parse() handles --help");
	return false;
}

/* c: what getopt_long said. word: the last that it has read; of several letters in one (-xy) that is the word before.
 */
static bool
refuse_option(int c, const char *word)
{
	if (c == ':')
		return wrong("%s wants a value", word);
	if (optopt > 0 && optopt < OPTION_STATE)
		return wrong("'-%c' means nothing to this command", optopt);
	return wrong("'%s' means nothing to this command", word);
}

static bool
parse_options(int argc, char **argv, struct options *o, bool *ret_help)
{
	struct option table[DESCRIPTIONS + 1] = {0};
	int n = 0, c;

	for (int i = 0; i < DESCRIPTIONS; i++)
		if (descriptions[i].commands & IN(o->command))
			table[n++] = (struct option){descriptions[i].name,
			    descriptions[i].argument != NULL ? required_argument : no_argument, NULL,
			    descriptions[i].id};
	optind = 1;
	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:h", table, NULL)) != -1) {
		if (c == '?' || c == ':')
			return refuse_option(c, argv[optind - 1]);
		*ret_help |= c == OPTION_HELP || c == 'h';
		if (!*ret_help && !set_option(o, (enum option_id)c, optarg))
			return false;
	}
	o->words = argv + optind;
	o->word_count = argc - optind;
	if (o->word_count > 0 && o->command != COMMAND_COMPLETION && !*ret_help)
		return wrong("'%s' is not expected here", argv[optind]);
	return true;
}

static bool
find_command(const char *name, enum command *ret_command)
{
	for (int i = 0; i < COMMANDS; i++) {
		if (strcmp(commands[i].name, name) == 0) {
			*ret_command = (enum command)i;
			return true;
		}
	}
	return false;
}

/* --help, --version and the like before any command. True if that was all. */
static bool
asked_about_program(int argc, char **argv, int *ret_exit)
{
	*ret_exit = EXIT_OK;
	if (argc >= 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
		printf("holdfast-agent %s\n", HOLDFAST_VERSION);
		return true;
	}
	if (argc >= 2 &&
	    (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)) {
		print_overview(stdout);
		return true;
	}
	*ret_exit = EXIT_USAGE;
	if (argc < 2)
		print_overview(stderr);
	return argc < 2;
}

static bool
is_complete(const struct options *o)
{
	if (o->command == COMMAND_COMPLETION)
		return o->word_count > 0 || wrong("a shell is wanted: " COMPLETION_SHELLS);
	if (o->command != COMMAND_ENROLL)
		return true;
	if (o->servers == NULL)
		return wrong("%s is missing", "--server");
	return o->token != NULL || wrong("%s is missing: type 'holdfastctl token create' on the server", "--token");
}

bool
options_parse(int argc, char **argv, struct options *ret_options, int *ret_exit)
{
	struct options o = {
	    .state_directory = STATE_DIRECTORY_DEFAULT,
	    .interval_ns = 10 * NS_PER_SECOND,
	    .freeze_timeout_ns = 5 * NS_PER_SECOND,
	    .log_level = LOG_LEVEL_INFO,
	};
	bool help = false;

	if (asked_about_program(argc, argv, ret_exit))
		return false;
	*ret_exit = EXIT_USAGE;
	if (!find_command(argv[1], &o.command))
		return wrong("there is no command '%s'", argv[1]);
	if (!parse_options(argc - 1, argv + 1, &o, &help))
		return false;
	if (help) {
		print_help(o.command);
		*ret_exit = EXIT_OK;
		return false;
	}
	if (!is_complete(&o))
		return false;
	*ret_options = o;
	return true;
}
