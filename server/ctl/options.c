/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/options.h"

#include <getopt.h>
#include <string.h>

static const struct option_spec specs[OPTIONS] = {
    [OPT_JSON] = {"json", 0, NULL, "one JSON document, as the API gives it (events: a line each)", true},
    [OPT_NO_HEADER] = {"no-header", 'H', NULL, "no header line; columns separated by one tab", false},
    [OPT_EXACT] = {"exact", 'p', NULL, "exact numbers: bytes, seconds, RFC 3339", false},
    [OPT_COLUMNS] = {"columns", 'o', "COLUMN,...", "these columns; \"all\" for all of them", false},
    [OPT_SOCKET] = {"socket", 0, "PATH", "a control socket, or the directory they are in (also $HOLDFAST_SOCKET)",
	true},
    [OPT_TIMEOUT] = {"timeout", 0, "TIME", "give up after this long (30s; pit create: 60s)", true},
    [OPT_YES] = {"yes", 'y', NULL, "do not ask", false},
    [OPT_PROGRESS] = {"progress", 0, "auto|bar|plain|lines|none", "how to show it", false},
    [OPT_NO_PROGRESS] = {"no-progress", 0, NULL, "the same as --progress none", false},
    [OPT_COLOR] = {"color", 0, "auto|always|never", "colours of states", true},
    [OPT_HELP] = {"help", 'h', NULL, "this help", true},
    [OPT_VERSION] = {"version", 0, NULL, "the version of this program", true},
    [OPT_NAME] = {"name", 0, "NAME", "name of the point", false},
    [OPT_NEWEST] = {"newest", 0, NULL, "keep the newest durable point instead of asking the agent for one", false},
    [OPT_AT] = {"at", 0, "POINT", "id or name of a point, RFC 3339 time, -15m, or latest", false},
    [OPT_FUZZY] = {"fuzzy", 0, NULL, "let --at choose points that are not crash-consistent", false},
    [OPT_VOLUME] = {"volume", 0, "VOLUME", "name or id of the volume; may be left out if there is only one", false},
    [OPT_OUTPUT] = {"output", 'o', "FILE", "where to write; FILE.partial until it is complete", false},
    [OPT_FORCE] = {"force", 0, NULL, "replace FILE if it exists; ca retire: although agents need it", false},
    [OPT_DATA_DIR] = {"data-dir", 0, "DIR", "this staging area itself; holdfastd must be stopped", false},
    [OPT_MAX_LAG] = {"max-lag", 0, "TIME", "the newest point may be this old at most", false},
    [OPT_SOURCE] = {"source", 0, "SOURCE", "of this source", false},
    [OPT_LIFETIME] = {"lifetime", 0, "TIME", "how long the token may be used (1h)", false},
    [OPT_ADDRESS] = {"address", 0, "HOST[:PORT]", "the server's address as its sources see it", false},
    [OPT_FOLLOW] = {"follow", 'f', NULL, "go on with new events as they come", false},
    [OPT_TAIL] = {"tail", 'n', "N", "begin with the last N (100); 0: all", false},
    [OPT_VERIFY] = {"verify", 0, NULL, "is all of it as it was written? exit 0: yes, 6: no", false},
    [OPT_WAIT] = {"wait", 'w', NULL, "watch it until it is over; Ctrl-C only ends the watching", false},
    [OPT_SALVAGE] = {"salvage", 0, NULL, "take what can be read, zeros for the rest; then FILE.salvaged, FILE.bad",
	false},
    [OPT_ALL] = {"all", 0, NULL, "all sources", false},
    [OPT_WITH_POINTS] = {"with-points", 0, NULL, "delete the points that have it, too", false},
    [OPT_WHEN_FULL] = {"when-full", 0, "stall|thin|default", "take nothing more, or give up points", false},
    [OPT_JOURNAL_WINDOW] = {"journal-window", 0, "TIME", "how far back every checkpoint can be restored", false},
    [OPT_POLICY] = {"policy", 0, "RULES", "rules as in \"10m/60m 1h/24h\"", false},
    [OPT_MIN_RETENTION] = {"min-retention", 0, "TIME", "no point that is younger goes", false},
    [OPT_FOR] = {"for", 0, "WHAT", "ready (the default), point, synced, or state=CONTINUOUS", false},
    [OPT_TAG] = {"tag", 0, "KEY[=VALUE]", "only sources that have this tag", false},
    [OPT_PASSPHRASE_FILE] = {"passphrase-file", 0, "FILE", "its first line is the passphrase; else you are asked",
	false},
    [OPT_DATA] = {"data", 0, NULL, "read every block, too, and check its digest", false},
};

const struct option_spec *
option_specs(void)
{
	return specs;
}

/* ---- help ---- */

static void
print_option(enum option_id id)
{
	const struct option_spec *s = &specs[id];
	char left[64], letter[8] = "    ";

	if (s->letter != 0)
		snprintf(letter, sizeof letter, "-%c, ", s->letter);
	snprintf(left, sizeof left, "%s--%s%s%s", letter, s->name, s->value == NULL ? "" : " ",
	    s->value == NULL ? "" : s->value);
	printf(strlen(left) <= 26 ? "  %-26s %s\n" : "  %s\n                             %s\n", left, s->help);
}

static void
print_options(uint64_t mask)
{
	for (int id = 0; id < OPTIONS; id++)
		if (mask & OPT_BIT(id))
			print_option((enum option_id)id);
}

static uint64_t
global_options(void)
{
	uint64_t mask = 0;

	for (int id = 0; id < OPTIONS; id++)
		if (specs[id].global)
			mask |= OPT_BIT(id);
	return mask;
}

static void
command_line(const struct command *c, char *buf, size_t size)
{
	snprintf(buf, size, "%s%s%s%s%s", c->noun, c->verb == NULL ? "" : " ", c->verb == NULL ? "" : c->verb,
	    c->operands[0] == '\0' ? "" : " ", c->operands);
}

/* All commands, or those of a noun. */
static void
print_help(const char *noun)
{
	size_t count;
	const struct command *commands = ctl_commands(&count);
	char line[96];

	printf("Usage: holdfastctl [OPTION...] COMMAND\n\nCommands:\n");
	for (size_t i = 0; i < count; i++) {
		if (noun != NULL && strcmp(noun, commands[i].noun) != 0)
			continue;
		command_line(&commands[i], line, sizeof line);
		printf("  %-26s %s\n", line, commands[i].summary);
	}
	printf("\nOptions (more with COMMAND --help):\n");
	print_options(global_options());
	printf("\nA SOURCE is an id, the unique beginning of one, or a host name. See holdfastctl(1).\n");
}

static void
print_command_help(const struct command *c)
{
	char line[96];

	command_line(c, line, sizeof line);
	printf("Usage: holdfastctl %s%s\n\n%s\n\nOptions:\n", line, c->options != 0 ? " [OPTION...]" : "", c->summary);
	print_options(c->options);
	print_options(global_options());
}

/* ---- parsing ---- */

enum { LONG_BASE = 256 }; /* getopt_long gives LONG_BASE + id for every long option */

static void
fill_getopt(char *letters, struct option *longs)
{
	*letters = '\0';
	for (int id = 0; id < OPTIONS; id++) {
		size_t n = strlen(letters);

		longs[id] = (struct option){specs[id].name, specs[id].value != NULL, NULL, LONG_BASE + id};
		if (specs[id].letter != 0 && strchr(letters, specs[id].letter) == NULL)
			sprintf(letters + n, "%c%s", specs[id].letter, specs[id].value == NULL ? "" : ":");
	}
	longs[OPTIONS] = (struct option){0};
}

static int
id_of_letter(int letter)
{
	for (int id = 0; id < OPTIONS; id++)
		if (specs[id].letter == letter)
			return id;
	return -1;
}

static int
read_options(struct ctl *ctl, int argc, char **argv)
{
	struct option longs[OPTIONS + 1];
	char letters[2 * OPTIONS + 1];
	int c;

	fill_getopt(letters, longs);
	optind = 0;
	while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		int id = c >= LONG_BASE ? c - LONG_BASE : id_of_letter(c);

		if (c == '?' || id < 0)
			return -1; /* getopt has said why */
		ctl->values[id] = optarg == NULL ? "" : optarg;
	}
	ctl->operands = argv + optind;
	ctl->operand_count = argc - optind;
	return 0;
}

/* Find the command and take its words from the operands. NULL: there is none. */
static const struct command *
take_command(struct ctl *ctl)
{
	size_t count;
	const struct command *commands = ctl_commands(&count);

	if (ctl->operand_count == 0)
		return &commands[0];
	for (size_t i = 0; i < count; i++) {
		const struct command *c = &commands[i];
		int words = c->verb == NULL ? 1 : 2;

		if (strcmp(c->noun, ctl->operands[0]) != 0)
			continue;
		if (words == 2 && (ctl->operand_count < 2 || strcmp(c->verb, ctl->operands[1]) != 0))
			continue;
		ctl->operands += words;
		ctl->operand_count -= words;
		return c;
	}
	return NULL;
}

static int
unknown_command(const struct ctl *ctl)
{
	const char *noun = ctl->operands[0];
	size_t count;
	const struct command *commands = ctl_commands(&count);

	for (size_t i = 0; i < count; i++)
		if (strcmp(commands[i].noun, noun) == 0)
			return ctl_fail(EXIT_USAGE, "%s: what about it? (holdfastctl %s --help)", noun, noun);
	return ctl_fail(EXIT_USAGE, "%s: no such command (holdfastctl --help lists them)", noun);
}

static int
check_command(struct ctl *ctl)
{
	const struct command *c = ctl->command;
	char line[96];

	command_line(c, line, sizeof line);
	/* -o is COLUMN,... where there is a table, FILE where there is none. */
	if (ctl_given(ctl, OPT_COLUMNS) && (c->options & OPT_BIT(OPT_OUTPUT))) {
		ctl->values[OPT_OUTPUT] = ctl->values[OPT_COLUMNS];
		ctl->values[OPT_COLUMNS] = NULL;
	}
	for (int id = 0; id < OPTIONS; id++)
		if (ctl->values[id] != NULL && !specs[id].global && !(c->options & OPT_BIT(id)))
			return ctl_fail(EXIT_USAGE, "--%s means nothing to holdfastctl %s (--help tells what does)",
			    specs[id].name, line);
	if (ctl->operand_count < c->operands_min)
		return ctl_fail(EXIT_USAGE, "something is missing: holdfastctl %s", line);
	if (ctl->operand_count > c->operands_max)
		return ctl_fail(EXIT_USAGE, "\"%s\" is too much: holdfastctl %s", ctl->operands[c->operands_max], line);
	return -1;
}

int
options_parse(struct ctl *ctl, int argc, char **argv)
{
	if (read_options(ctl, argc, argv) < 0)
		return EXIT_USAGE;
	if (ctl_given(ctl, OPT_VERSION)) {
		printf("holdfastctl %s\n", HOLDFAST_VERSION);
		return EXIT_DONE;
	}
	if (ctl_given(ctl, OPT_HELP) && ctl->operand_count == 0) {
		print_help(NULL);
		return EXIT_DONE;
	}
	ctl->command = take_command(ctl);
	if (ctl->command == NULL && ctl_given(ctl, OPT_HELP)) {
		print_help(ctl->operands[0]);
		return EXIT_DONE;
	}
	if (ctl->command == NULL)
		return unknown_command(ctl);
	if (ctl_given(ctl, OPT_HELP)) {
		print_command_help(ctl->command);
		return EXIT_DONE;
	}
	return check_command(ctl);
}
